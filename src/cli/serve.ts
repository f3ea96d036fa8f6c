/** `backlot serve`: starts the server, says where it is and what to type, and stops it in order. */
import { relative } from 'node:path';
import type { Command } from './command.ts';

export const serveCommands: readonly Command[] = [
  {
    name: 'serve',
    summary: 'Starts the server.',
    positionals: [],
    options: {},
    allSettings: true,
    note:
      'On the first start it makes the data directory and an access key. SIGTERM or Ctrl-C stops it in order; SIGHUP ' +
      'has the certificate for TLS read again.',
    run: async (_given, config) => {
      const stopAsked = Promise.withResolvers<void>();
      process.once('SIGTERM', () => stopAsked.resolve());
      process.once('SIGINT', () => stopAsked.resolve());
      const { createService } = await import('../service.ts');
      const service = await createService(config);
      // Without TLS there is nothing to read again, and a terminal that closes ends what runs in it, in order.
      const hasTls = config.tlsCertFile !== undefined;
      process.on('SIGHUP', () => (hasTls ? service.renewCertificate() : stopAsked.resolve()));
      try {
        await service.listen();
        const { settings, directory } = service.parts;
        process.stdout.write(welcome(settings.publicUrl(), directory.credentials));
        await stopAsked.promise;
      } finally {
        await service.close();
      }
      return undefined;
    },
  },
];

function welcome(address: string, credentials: string): string {
  return [
    `Backlot is at ${address}`,
    'Try it:',
    `  AWS_SHARED_CREDENTIALS_FILE=${quoted(credentials)} aws nimble list-studios --endpoint-url ${address}`,
    '',
  ].join('\n');
}

/** As a shell needs it, and from here where that is shorter. */
function quoted(absolutePath: string): string {
  const fromHere = relative(process.cwd(), absolutePath);
  const path = fromHere.startsWith('..') ? absolutePath : fromHere;
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
