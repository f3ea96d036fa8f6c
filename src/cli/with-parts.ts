/** Opens the data directory for the length of one command; a server may run beside it. */
import type { Config } from '../config.ts';
import type { Parts } from '../service.ts';

export async function withParts<T>(config: Config, work: (parts: Parts) => Promise<T>): Promise<T> {
  const { openParts } = await import('../service.ts');
  const parts = await openParts(config);
  // It may be a slip: another working directory than the server's.
  if (parts.directory.isNew) process.stderr.write(`backlot: made a new data directory, ${config.dataDir}\n`);
  try {
    return await work(parts);
  } finally {
    await parts.store.close();
  }
}
