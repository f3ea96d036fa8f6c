/**
 * Workstations of real engines that come back: made, stopped, backed up with their installation, restored into another data
 * directory of this same machine, and started again with what they held.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import { makeBackup } from '../../src/backup/make.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { systemClock } from '../../src/clock.ts';
import { type Compute, ComputeFailure, type WorkstationRequest } from '../../src/compute/compute.ts';
import { openQemuCompute, type QemuWorkstation } from '../../src/compute/qemu.ts';
import { openRecords, type Records } from '../../src/compute/records.ts';
import { openSandboxCompute, type SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { processesMarked } from '../../src/compute/sandbox-process.ts';
import type { Keys } from '../../src/keys/keys.ts';
import { createLog } from '../../src/log.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { openEngineKeys } from '../support/engine-keys.ts';
import { endMachines, endSandbox } from '../support/machines.ts';
import { keepGuests, QemuBench, TINY } from '../support/qemu-bench.ts';
import { sandboxBench } from '../support/sandbox.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

const NEVER = new AbortController().signal;
const REAL_MS = 120_000;
const quiet = { signal: NEVER, onProgress: () => undefined };
const log = createLog('silent');

let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};

/** A data directory with keys, which know those of a bench's images besides. */
async function openData(path: string, imageKeys: Pick<Keys, 'unseal'>, isImage: (id: string) => boolean) {
  mkdirSync(path, { recursive: true });
  const { keys } = await openEngineKeys(join(path, 'keys'), imageKeys, isImage);
  return { path, keys };
}

type Data = Awaited<ReturnType<typeof openData>>;

/** What the command does, to an empty directory beside it. @returns the restored one. */
async function backUpAndRestore(t: TestContext, { path, keys }: Data) {
  const database = join(path, 'backlot.db');
  const store = openSqlite({ path: database, now: systemClock.now });
  t.after(() => store.close());
  const directory = { path, database, keys: join(path, 'keys') };
  const target = join(temporaryDirectory(t), 'backup');
  const made = await makeBackup(target, { directory, keys, store, clock: systemClock, isEmbedded: true }, quiet);
  const restored = join(temporaryDirectory(t), 'data');
  await restoreBackup(target, restored, quiet);
  return { restored, workstations: made.workstations };
}

describe('virtual machines that come back', () => {
  /** Data directories in which machines may run: these are ended with the test. */
  async function bench(t: TestContext) {
    const images = new QemuBench(t);
    await images.addGuest('image', 'counting');
    const places = new Set<string>();
    t.after(() => endMachines([...places]));
    const dataAt = (path: string) => openData(path, images.keys, (id) => id === 'image');
    const open = async ({ path, keys }: Data): Promise<Compute> => {
      const directory = join(path, 'compute/qemu');
      for (const id of ['stopped', 'running']) places.add(join(directory, id, 'run'));
      return openQemuCompute({
        records: await openRecords<QemuWorkstation>(directory, systemClock),
        images: { open: async (id) => images.imagePath(id) },
        settings: {
          ...{ accelerator: 'tcg', network: 'none', memoryMib: 4_096, bootMs: REAL_MS, stopMs: 1_000, agentMs: 0 },
          instanceTypes: { [TINY]: { vcpus: 1, memoryMib: 32 } },
        },
        ...{ keys, directory, clock: systemClock, log },
      });
    };
    return { dataAt, open, first: await dataAt(join(temporaryDirectory(t), 'data')) };
  }

  const start = (id: string, more: Partial<WorkstationRequest> = {}) =>
    workstationRequest({ ...change(id), instanceType: TINY, ...more });

  /** How often the guest has been started with the volume that it has, by what it has counted on it. */
  async function startsOf(compute: Compute, id: string): Promise<number> {
    const desktop = await compute.open(id, NEVER);
    let text = '';
    await until(
      'the guest tells of its starts',
      async () => {
        text += await desktop.log!(NEVER);
        return /[0-9]/.test(text);
      },
      REAL_MS,
    );
    return Number(/[0-9]/.exec(text)![0]);
  }

  it('one that was stopped goes on with its volume; one that ran has its backups and nothing else', async (t) => {
    const { first, dataAt, open } = await bench(t);
    const before = await open(first);
    for (const id of ['stopped', 'running']) {
      await before.ensure(start(id));
      assert.equal(await startsOf(before, id), 1);
      await before.stop({ ...change(id), volume: 'keep' });
      await before.backUp({ ...change(id), backupId: 'b1' });
    }
    await before.ensure(start('running'));
    const { restored, workstations } = await backUpAndRestore(t, first);
    assert.deepEqual([workstations.running, workstations.damaged], [['running'], []]);
    const next = await open(await dataAt(restored));
    fences = 0;
    const found = (await next.list()).map(({ changedAt: _, ...workstation }) => workstation);
    assert.deepEqual(
      found.sort((a, b) => (a.id < b.id ? -1 : 1)),
      [
        { id: 'running', running: false, hasVolume: false, backupIds: ['b1'] },
        { id: 'stopped', running: false, hasVolume: true, backupIds: ['b1'] },
      ],
    );
    await next.ensure(start('stopped', { needsVolume: true }));
    assert.equal(await startsOf(next, 'stopped'), 2);
    await next.stop({ ...change('stopped'), volume: 'keep' });

    await next.stop({ ...change('running'), volume: 'keep' });
    await assert.rejects(next.ensure(start('running', { needsVolume: true })), /volume of this session is gone/);
    assert.equal(existsSync(join(restored, 'compute/qemu/running/volume.qcow2')), false);
    await next.ensure(start('running', { fromBackupId: 'b1' }));
    assert.equal(await startsOf(next, 'running'), 2);
    await next.destroy(change('running'));
    // The one that the backup was made of is another machine, whose process nobody has touched.
    const original = (await before.list()).find(({ id }) => id === 'running');
    assert.equal(original!.running, true);
    await before.open('running', NEVER);
  });
});

describe('sandboxes that come back', () => {
  const script = (text: string) => [{ name: 'Script', text, runAs: 'user' as const, parameters: {} }];
  const start = (id: string, text: string, more: Partial<WorkstationRequest> = {}) =>
    workstationRequest({ ...change(id), scripts: script(text), ...more });

  async function bench(t: TestContext) {
    const images = await sandboxBench(t);
    const opened: Records<SandboxedWorkstation>[] = [];
    t.after(async () => {
      for (const records of opened)
        for (const id of await records.ids()) await endSandbox(id, (await records.get(id))!.mark);
    });
    const dataAt = (path: string) => openData(path, images.keys, (id) => id === 'image');
    const open = async ({ path, keys }: Data): Promise<Compute> => {
      const directory = join(path, 'compute/sandbox');
      const records = await openRecords<SandboxedWorkstation>(directory, systemClock);
      opened.push(records);
      return openSandboxCompute({
        records,
        images: { open: async (id) => images.images.get(id) },
        settings: {
          instanceTypes: { 'g4dn.xlarge': { vcpus: 1, memoryMib: 512 } },
          ...{ memoryMib: 16_384, bootMs: REAL_MS, stopMs: 20_000 },
        },
        ...{ keys, directory, clock: systemClock, log },
      });
    };
    return { dataAt, open, first: await dataAt(join(temporaryDirectory(t), 'data')) };
  }

  const homesIn = (path: string) => readdirSync(join(path, 'compute/sandbox/homes'));
  const packedIn = (path: string) => readdirSync(join(path, 'compute/sandbox/packed'));
  const recordOf = (path: string, id: string): SandboxedWorkstation =>
    JSON.parse(readFileSync(join(path, `compute/sandbox/${id}.json`), 'utf8'));

  it('one that was stopped goes on with its home; one that ran has its backups, and its processes are left alone', async (t) => {
    const { first, dataAt, open } = await bench(t);
    const before = await open(first);
    for (const id of ['stopped', 'running']) {
      await before.ensure(start(id, 'echo drawn >picture; mkdir deep; ln -s /etc/passwd link; chmod 400 picture'));
      await before.stop({ ...change(id), volume: 'keep' });
      await before.backUp({ ...change(id), backupId: 'b1' });
    }
    await before.ensure(start('running', 'true'));
    const { restored, workstations } = await backUpAndRestore(t, first);
    assert.deepEqual([workstations.running, workstations.damaged], [['running'], []]);
    assert.equal(packedIn(restored).length, 1);
    assert.ok(!readFileSync(join(restored, 'compute/sandbox/packed', packedIn(restored)[0]!)).includes('drawn'));

    const next = await open(await dataAt(restored));
    fences = 0;
    const look = 'test "$(cat picture)" = drawn && test -d deep && test "$(readlink link)" = /etc/passwd';
    await next.ensure(start('stopped', look, { needsVolume: true }));
    assert.deepEqual(packedIn(restored), []);
    await next.stop({ ...change('running'), volume: 'keep' });
    await assert.rejects(
      next.ensure(start('running', look, { needsVolume: true })),
      (error) => error instanceof ComputeFailure && /volume of this session is gone/.test(error.message),
    );
    await next.ensure(start('running', look, { fromBackupId: 'b1' }));
    await next.destroy(change('running'));
    assert.ok(processesMarked(recordOf(first.path, 'running').mark).length > 0);
    for (const compute of [before, next])
      for (const { id } of await compute.list()) await compute.destroy({ id, fence: 1_000, signal: NEVER });
    assert.deepEqual([homesIn(restored), homesIn(first.path)], [[], []]);
  });

  it('one whose unpacking died half way is unpacked anew, and one that is damaged is not started', async (t) => {
    const { first, dataAt, open } = await bench(t);
    const before = await open(first);
    for (const id of ['half', 'damaged']) {
      await before.ensure(start(id, 'echo drawn >picture'));
      await before.stop({ ...change(id), volume: 'keep' });
    }
    const { restored } = await backUpAndRestore(t, first);
    const home = (id: string) => recordOf(restored, id).home!;
    mkdirSync(join(restored, 'compute/sandbox/homes', home('half')), { recursive: true });
    writeFileSync(join(restored, 'compute/sandbox/homes', home('half'), 'rest'), '');
    const packed = join(restored, 'compute/sandbox/packed', home('damaged'));
    truncateSync(packed, statSync(packed).size - 1);
    const next = await open(await dataAt(restored));
    await next.ensure(start('half', 'test "$(cat picture)" = drawn && test ! -e rest', { needsVolume: true }));
    await assert.rejects(next.ensure(start('damaged', 'true', { needsVolume: true })), /held is damaged/);
    assert.equal(existsSync(packed), true);
  });

  it('one that is stopped with its volume, or destroyed, before it was used again leaves nothing', async (t) => {
    const { first, dataAt, open } = await bench(t);
    const before = await open(first);
    for (const id of ['one', 'two', 'three']) {
      await before.ensure(start(id, 'echo drawn >picture'));
      await before.stop({ ...change(id), volume: 'keep' });
    }
    const { restored } = await backUpAndRestore(t, first);
    assert.equal(packedIn(restored).length, 3);
    const next = await open(await dataAt(restored));
    await next.stop({ ...change('one'), volume: 'delete' });
    await next.destroy(change('two'));
    assert.equal(packedIn(restored).length, 1);
    // A backup of what was never started since is one of what it holds.
    await next.backUp({ ...change('three'), backupId: 'b1' });
    await next.ensure(start('three', 'test "$(cat picture)" = drawn', { fromBackupId: 'b1' }));
    await next.destroy(change('three'));
    assert.deepEqual([packedIn(restored), homesIn(restored)], [[], []]);
  });
});
