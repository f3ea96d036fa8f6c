/**
 * What `qemu.test.ts` runs on a disk of its own, which it fills and makes room on again: its temporary directory is a small
 * file system. It ends with an error where something is not as it should be.
 */
import assert from 'node:assert/strict';
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ComputeFailure } from '../../src/compute/compute.ts';
import { SECOND_MONITOR } from '../../src/compute/qemu-command.ts';
import { volumePath } from '../../src/compute/qemu-disk.ts';
import { stateOf } from '../../src/compute/qemu-machine.ts';
import { connectQmp } from '../../src/compute/qmp.ts';
import { keepGuests, QemuBench, TINY } from '../support/qemu-bench.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

const NEVER = new AbortController().signal;
const REAL_MS = 120_000;
const MEBIBYTE = 2 ** 20;
const FILLER = join(tmpdir(), 'filler');
const ROOM_BYTES = 20 * MEBIBYTE;

let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};

/** Takes all that is left. */
function fill(): void {
  for (let index = 0; ; index += 1) {
    try {
      writeFileSync(`${FILLER}-${index}`, Buffer.alloc(MEBIBYTE));
    } catch {
      return;
    }
  }
}

function makeRoom(): void {
  for (const name of readdirSync(tmpdir())) if (name.startsWith('filler-')) rmSync(join(tmpdir(), name));
}

const isFull = (error: unknown) => {
  assert.ok(error instanceof ComputeFailure, String(error));
  assert.equal(error.code, 'INSUFFICIENT_CAPACITY', `${error.message} ${error.inward}`);
  assert.match(error.message, /disk is full/);
  return true;
};

test('a full disk', async (t) => {
  const bench = new QemuBench(t);
  await bench.addGuest('filling', 'filling');
  const compute = await bench.open();
  const filling = { imageId: 'filling', instanceType: TINY, volume: { sizeGib: 1 } };
  const start = (id: string, imageId = 'image') => workstationRequest({ ...change(id), ...filling, imageId });

  fill();
  await assert.rejects(compute.ensure(start('one')), isFull);
  makeRoom();
  assert.deepEqual(await compute.list(), []);
  assert.deepEqual(readdirSync(bench.directory), []);
  await compute.ensure(start('one'));
  await compute.stop({ ...change('one'), volume: 'keep' });
  fill();
  await assert.rejects(compute.backUp({ ...change('one'), backupId: 'a' }), isFull);
  assert.deepEqual(readdirSync(join(bench.directory, 'one')), ['volume.qcow2']);
  makeRoom();

  writeFileSync(`${FILLER}-room`, Buffer.alloc(ROOM_BYTES));
  await compute.ensure(start('two', 'filling'));
  const stateNow = async () => {
    const qmp = await connectQmp(bench.runPlace('two'), SECOND_MONITOR, NEVER);
    return stateOf(qmp, NEVER).finally(() => qmp.close());
  };
  await until('it is paused', async () => (await stateNow()) === 'io-error', REAL_MS);
  const bytes = () => statSync(volumePath(join(bench.directory, 'two'))).blocks * 512;
  const before = bytes();
  makeRoom();
  assert.equal(await stateNow(), 'io-error');
  await compute.open('two', NEVER);
  await until('it goes on', () => bytes() > before + ROOM_BYTES / 2, REAL_MS);
  await until('it is paused again', async () => (await stateNow()) === 'io-error', REAL_MS);
  await compute.destroy(change('two'));

  assert.deepEqual(
    (await compute.list()).map(({ id }) => id),
    ['one'],
  );

  const patient = await bench.open({ agentMs: 3_600_000, bootMs: REAL_MS });
  await assert.rejects(patient.ensure(start('three', 'filling')), isFull);
  assert.equal((await patient.list()).length, 1);
});
