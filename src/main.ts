/** The command line's entry: nothing is made readable for others, compiled code is kept, and the exit code is set. */
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';

process.umask(0o077);
// A reader that has seen enough, such as `head`, is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
enableCompileCache(fileURLToPath(new URL('../node_modules/.cache/backlot', import.meta.url)));

const { run } = await import('./cli/run.ts');
process.exitCode = await run(process.argv.slice(2), { out: process.stdout, err: process.stderr });
