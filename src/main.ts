/** The command line's entry: nothing is made readable for others, compiled code is kept, and the exit code is set. */
import { enableCompileCache } from 'node:module';

process.umask(0o077);
enableCompileCache(new URL('../node_modules/.cache/backlot', import.meta.url).pathname);

const { run } = await import('./cli/run.ts');
process.exitCode = await run(process.argv.slice(2), { out: process.stdout, err: process.stderr });
