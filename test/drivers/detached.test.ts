/** When a process counts as ended: whatever is done to its files comes after its last thread has let go of them. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { it } from 'node:test';
import { hasEnded, isAlive, kill, processesIn, startOf } from '../../src/compute/detached.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';

/** Its first thread ends as that of a process does that is being killed, or that wants to be taken for dead; another stays. */
const WITHOUT_ITS_FIRST_THREAD = `
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.CDLL(None).pthread_exit(None)
`;
const LIMIT_MS = 30_000;
const NEVER = new AbortController().signal;

it('a process whose first thread is gone has not ended while another runs, and is found and ended with that', async (t) => {
  const directory = temporaryDirectory(t);
  const child = spawn('/usr/bin/python3', ['-c', WITHOUT_ITS_FIRST_THREAD], { cwd: directory, stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  const pid = child.pid!;
  const mark = { pid, startedAt: startOf(pid)! };
  await until('its first thread is gone', () => /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1')));
  assert.ok(isAlive(mark));
  assert.deepEqual(processesIn(directory), [mark]);
  assert.equal(await hasEnded(mark, 0, NEVER), false);
  kill(mark);
  assert.ok(await hasEnded(mark, LIMIT_MS, NEVER));
  assert.deepEqual(processesIn(directory), []);
});
