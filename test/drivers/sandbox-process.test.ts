/** What a confined tool prints reaches whoever asked for it, however late that one begins to read. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { runSandboxed } from '../../src/compute/sandbox-process.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';

test('what a tool has printed is not lost when it ends before anybody reads it', async (t) => {
  const pidFile = join(temporaryDirectory(t), 'pid');
  let read = '';
  const { exitCode } = await runSandboxed({
    command: ['/bin/sh', '-c', `echo all of it; echo $$ >${pidFile}`],
    onOutput: async (output) => {
      const pid = await until('it has begun', () => existsSync(pidFile) && readFileSync(pidFile, 'utf8').trim());
      // It is gone when its end has been taken note of here.
      await until('it has ended', () => !existsSync(`/proc/${pid}`));
      for await (const chunk of output) read += chunk.toString();
    },
    timeLimitMs: 60_000,
    signal: new AbortController().signal,
  });
  assert.equal(exitCode, 0);
  assert.equal(read, 'all of it\n');
});
