/**
 * What every adapter of the compute port must do, run against the simulated one, with its records on disk and in memory, and
 * against real virtual machines. A further adapter joins by adding its factory to ADAPTERS.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { unlessAborted } from '../../src/compute/changes.ts';
import { type Compute, ComputeFailure, type WorkstationRequest } from '../../src/compute/compute.ts';
import { openRecords, type Records } from '../../src/compute/records.ts';
import {
  type Boot,
  bootAfter,
  createSimulatedCompute,
  type SimulatedWorkstation,
} from '../../src/compute/simulated.ts';
import { STREAMING_SESSION_FAILURES } from '../../src/contract/streaming-session.ts';
import { ManualClock } from '../support/domain.ts';
import { keepGuests, QemuBench } from '../support/qemu-bench.ts';
import { held, sandboxBench } from '../support/sandbox.ts';
import { MemoryRecords } from '../support/simulated.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

/** One adapter, opened as often as a test asks for: each time as a server that has just started on the same machine. */
interface Bench {
  readonly clock: ManualClock;
  /** A start does not end by itself before `hold` resolves, if ever. */
  open(options?: { boot?: Boot; hold?: Promise<void> }): Promise<Compute>;
}

const atOnce: Boot = async () => undefined;
/** Real machines take their time, on a host that does other things besides. */
const REAL_MS = 120_000;
const FOR_EVER_MS = 3_600_000;

keepGuests({ after });

function benchOn(records: () => Promise<Records<SimulatedWorkstation>>, clock: ManualClock): Bench {
  const open: Bench['open'] = async ({ boot = atOnce, hold } = {}) => {
    const held: Boot = hold ? ({ signal }) => unlessAborted(hold, signal) : boot;
    return createSimulatedCompute({ records: await records(), clock, boot: held });
  };
  return { clock, open };
}

const ADAPTERS: Readonly<Record<string, (t: TestContext) => Bench>> = {
  'simulated, on disk': (t) => {
    const clock = new ManualClock();
    const directory = temporaryDirectory(t);
    return benchOn(() => openRecords(directory, clock), clock);
  },
  'simulated, in memory': () => {
    const records = new MemoryRecords<SimulatedWorkstation>();
    return benchOn(async () => records, new ManualClock());
  },
  qemu: (t) => {
    const bench = new QemuBench(t);
    return { clock: bench.clock, open: ({ hold } = {}) => bench.open(hold ? { agentMs: FOR_EVER_MS } : {}) };
  },
  sandbox: (t) => {
    const clock = new ManualClock();
    const bench = sandboxBench(t, clock);
    const open = async () => (await bench).open();
    return { clock, open: async ({ hold } = {}) => (hold ? held(await open()) : open()) };
  },
};

const NEVER = new AbortController().signal;
let fences = 0;
const nextFence = () => {
  fences += 1;
  return fences;
};

const change = (id: string, fence = nextFence(), signal = NEVER) => ({ id, fence, signal });
const start = (id: string, more: Partial<WorkstationRequest> = {}): WorkstationRequest =>
  workstationRequest({ ...change(id), ...more });

async function stateOf(compute: Compute, id: string) {
  const found = (await compute.list()).find((workstation) => workstation.id === id);
  return found && { running: found.running, hasVolume: found.hasVolume, backupIds: found.backupIds };
}

const RUNNING = { running: true, hasVolume: true, backupIds: [] };
const KEPT = { running: false, hasVolume: true, backupIds: [] };
const EMPTY = { running: false, hasVolume: false, backupIds: [] };

const isFailure = (code: string) => (error: unknown) => error instanceof ComputeFailure && error.code === code;

for (const [name, makeBench] of Object.entries(ADAPTERS)) {
  describe(name, () => {
    test('what is ensured runs, and can be reached; ensured again, it is the same', async (t) => {
      const compute = await makeBench(t).open();
      await compute.ensure(start('one'));
      assert.deepEqual(await stateOf(compute, 'one'), RUNNING);
      const before = await compute.list();
      await compute.ensure(start('one'));
      assert.deepEqual(await compute.list(), before);
      assert.equal(typeof (await compute.open('one', NEVER)).connect, 'function');
    });

    test('what does not run cannot be reached', async (t) => {
      const compute = await makeBench(t).open();
      await assert.rejects(compute.open('one', NEVER), isFailure('NETWORK_CONNECTION_ERROR'));
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await assert.rejects(compute.open('one', NEVER), isFailure('NETWORK_CONNECTION_ERROR'));
    });

    test('a stop keeps or deletes the volume, as often as it is told to', async (t) => {
      const compute = await makeBench(t).open();
      await compute.ensure(start('one'));
      for (const [volume, left] of [
        ['keep', KEPT],
        ['keep', KEPT],
        ['delete', EMPTY],
        ['delete', EMPTY],
        ['keep', EMPTY],
      ] as const) {
        await compute.stop({ ...change('one'), volume });
        assert.deepEqual(await stateOf(compute, 'one'), left, volume);
      }
      await compute.ensure(start('one'));
      assert.deepEqual(await stateOf(compute, 'one'), RUNNING);
    });

    test('stopping and destroying what is not there is no error and makes nothing', async (t) => {
      const compute = await makeBench(t).open();
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.destroy(change('one'));
      await compute.destroy({ id: 'one', signal: NEVER, backupId: 'b' });
      assert.deepEqual(await compute.list(), []);
    });

    test('backups are of the stopped volume, are made once, and are destroyed one by one', async (t) => {
      const compute = await makeBench(t).open();
      await compute.ensure(start('one'));
      const backUp = (backupId: string) => compute.backUp({ ...change('one'), backupId });
      await assert.rejects(backUp('a'), ComputeFailure);
      await compute.stop({ ...change('one'), volume: 'keep' });
      for (const backupId of ['a', 'a', 'b']) await backUp(backupId);
      assert.deepEqual((await stateOf(compute, 'one'))!.backupIds, ['a', 'b']);
      await compute.stop({ ...change('one'), volume: 'delete' });
      await backUp('a');
      await assert.rejects(backUp('c'), ComputeFailure);
      for (const _ of [1, 2]) await compute.destroy({ id: 'one', signal: NEVER, backupId: 'a' });
      assert.deepEqual(await stateOf(compute, 'one'), { ...EMPTY, backupIds: ['b'] });
    });

    test('a start from a backup needs that backup, and works without a volume', async (t) => {
      const compute = await makeBench(t).open();
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      await compute.stop({ ...change('one'), volume: 'delete' });
      await assert.rejects(compute.ensure(start('one', { fromBackupId: 'b' })), ComputeFailure);
      await assert.rejects(compute.ensure(start('two', { fromBackupId: 'a' })), ComputeFailure);
      assert.deepEqual(await stateOf(compute, 'one'), { ...EMPTY, backupIds: ['a'] });
      for (const _ of [1, 2]) await compute.ensure(start('one', { fromBackupId: 'a' }));
      assert.deepEqual(await stateOf(compute, 'one'), { ...RUNNING, backupIds: ['a'] });
    });

    test('a start that needs its volume makes nothing where there is none, and tells the owner', async (t) => {
      const compute = await makeBench(t).open();
      const isGone = (error: unknown) =>
        error instanceof ComputeFailure &&
        error.code === 'INTERNAL_ERROR' &&
        !error.retryable &&
        /volume .* is gone.*one of its backups/.test(error.message);
      await assert.rejects(compute.ensure(start('one', { needsVolume: true })), isGone);
      assert.deepEqual(await compute.list(), []);
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      for (const _ of [1, 2]) await compute.ensure(start('one', { needsVolume: true }));
      assert.deepEqual(await stateOf(compute, 'one'), RUNNING);
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      await compute.stop({ ...change('one'), volume: 'delete' });
      await assert.rejects(compute.ensure(start('one', { needsVolume: true })), isGone);
      assert.deepEqual(await stateOf(compute, 'one'), { ...EMPTY, backupIds: ['a'] });
    });

    test('what is destroyed takes its backups along and leaves the others', async (t) => {
      const compute = await makeBench(t).open();
      for (const id of ['one', 'two']) await compute.ensure(start(id));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      for (const _ of [1, 2]) await compute.destroy(change('one'));
      assert.equal(await stateOf(compute, 'one'), undefined);
      assert.deepEqual(await stateOf(compute, 'two'), RUNNING);
    });

    test('a server that has just started finds what another left', async (t) => {
      const bench = makeBench(t);
      const first = await bench.open();
      await first.ensure(start('one'));
      await first.stop({ ...change('one'), volume: 'keep' });
      await first.backUp({ ...change('one'), backupId: 'a' });
      const second = await bench.open();
      assert.deepEqual(await second.list(), await first.list());
      await second.ensure(start('one', { fromBackupId: 'a' }));
      assert.deepEqual(await stateOf(second, 'one'), { ...RUNNING, backupIds: ['a'] });
    });

    test('it says when it was last started or stopped', async (t) => {
      const bench = makeBench(t);
      const compute = await bench.open();
      const changedAt = async () => (await compute.list())[0]!.changedAt;
      await compute.ensure(start('one'));
      const startedAt = bench.clock.now();
      bench.clock.advance(1_000);
      await compute.ensure(start('one'));
      assert.equal(await changedAt(), startedAt);
      await compute.stop({ ...change('one'), volume: 'keep' });
      assert.equal(await changedAt(), startedAt + 1_000);
    });

    test('whoever was overtaken changes nothing any more', async (t) => {
      const compute = await makeBench(t).open();
      const old = nextFence();
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      const before = await compute.list();
      for (const late of [
        () => compute.ensure(start('one', { fence: old })),
        () => compute.stop({ ...change('one', old), volume: 'delete' }),
        () => compute.backUp({ ...change('one', old), backupId: 'b' }),
        () => compute.destroy(change('one', old)),
      ]) {
        await assert.rejects(late(), ComputeFailure);
        assert.deepEqual(await compute.list(), before);
      }
    });

    test('a start that is overtaken by a stop or a destroy does not end up running', async (t) => {
      for (const overtake of ['stop', 'destroy'] as const) {
        const held = Promise.withResolvers<void>();
        const compute = await makeBench(t).open({ hold: held.promise });
        const starting = compute.ensure(start('one'));
        starting.catch(() => undefined);
        const isUnderWay = async () => {
          const state = await stateOf(compute, 'one');
          return state?.running && state.hasVolume;
        };
        await until('it is under way', isUnderWay, REAL_MS);
        if (overtake === 'stop') await compute.stop({ ...change('one'), volume: 'keep' });
        else await compute.destroy(change('one'));
        held.resolve();
        await assert.rejects(starting, ComputeFailure);
        assert.deepEqual(await stateOf(compute, 'one'), overtake === 'stop' ? KEPT : undefined);
        await compute.destroy(change('one'));
      }
    });

    test('a start that is told to end ends, and the next takes it up', async (t) => {
      const bench = makeBench(t);
      const controller = new AbortController();
      const compute = await bench.open({ hold: new Promise(() => undefined) });
      const starting = compute.ensure(start('one', { signal: controller.signal }));
      controller.abort(new Error('enough'));
      await assert.rejects(starting);
      const ended = await bench.open();
      await ended.ensure(start('one'));
      assert.deepEqual(await stateOf(ended, 'one'), RUNNING);
      await assert.rejects(ended.ensure(start('two', { signal: controller.signal })));
      assert.equal(await stateOf(ended, 'two'), undefined);
    });

    test('starts that come at once are one start', async (t) => {
      const compute = await makeBench(t).open();
      const request = start('one');
      await Promise.all([request, request, request].map((each) => compute.ensure(each)));
      assert.deepEqual(await stateOf(compute, 'one'), RUNNING);
    });
  });
}

test('a simulated start takes its time, tells how far it is, and does not begin anew after a restart', async (t) => {
  const bench = ADAPTERS['simulated, on disk']!(t);
  const boot = bootAfter(10_000, bench.clock);
  const controller = new AbortController();
  const told: number[] = [];
  const onProgress = (percent: number) => void told.push(percent);
  const first = (await bench.open({ boot })).ensure(start('one', { signal: controller.signal, onProgress }));
  first.catch(() => undefined);
  await until('it has begun', () => told.length > 0);
  controller.abort(new Error('the server stops'));
  await assert.rejects(first);
  bench.clock.advance(5_000);
  told.length = 0;
  const second = (await bench.open({ boot })).ensure(start('one', { onProgress }));
  await until('it goes on', () => told.length > 0);
  assert.deepEqual(told.slice(0, 1), [50]);
  bench.clock.advance(5_000);
  await second;
});

test('a simulated volume remembers its runs; a restored one those of its backup', async () => {
  const records = new MemoryRecords<SimulatedWorkstation>();
  const compute = await benchOn(async () => records, new ManualClock()).open();
  const runs = async () => (await records.get('one'))!.volume?.runs;
  await compute.ensure(start('one'));
  await compute.stop({ ...change('one'), volume: 'keep' });
  await compute.backUp({ ...change('one'), backupId: 'a' });
  await compute.ensure(start('one'));
  assert.equal(await runs(), 2);
  await compute.stop({ ...change('one'), volume: 'keep' });
  await compute.ensure(start('one', { fromBackupId: 'a' }));
  assert.equal(await runs(), 2);
  await compute.stop({ ...change('one'), volume: 'delete' });
  await compute.ensure(start('one'));
  assert.equal(await runs(), 1);
});

for (const failure of STREAMING_SESSION_FAILURES) {
  test(`a simulated start fails with ${failure} where it is told to`, async () => {
    const records = new MemoryRecords<SimulatedWorkstation>();
    const options = { records, clock: new ManualClock(), boot: atOnce };
    await assert.rejects(createSimulatedCompute({ ...options, failure }).ensure(start('one')), isFailure(failure));
    await createSimulatedCompute(options).ensure(start('one'));
  });
}

test('an effect that fails leaves its id to the next', async () => {
  const records = new MemoryRecords<SimulatedWorkstation>();
  const options = { records, clock: new ManualClock(), boot: atOnce };
  for (const point of ['ensure', 'booted', 'ensured']) {
    const fault = (effect: string) => {
      if (effect === point) throw new Error(point);
    };
    await assert.rejects(createSimulatedCompute({ ...options, fault }).ensure(start(point)), new RegExp(point));
    await createSimulatedCompute(options).ensure(start(point));
    assert.deepEqual(await stateOf(createSimulatedCompute(options), point), RUNNING);
  }
});

test('records on disk: leftovers and foreign files are no records, and an id can name nothing else', async (t) => {
  const directory = temporaryDirectory(t);
  const records = await openRecords<{ n: number }>(directory, new ManualClock());
  await records.put('a', { n: 1 });
  await records.put('a', { n: 2 });
  writeFileSync(join(directory, '.b.json.0123456789abcdef.tmp'), '');
  writeFileSync(join(directory, 'notes.txt'), '');
  assert.deepEqual(await records.ids(), ['a']);
  assert.deepEqual(await records.get('a'), { n: 2 });
  for (const id of ['../a', '', '.', 'a/b']) await assert.rejects(records.get(id), /an id must be/);
  await records.put('a', undefined);
  await records.put('a', undefined);
  assert.deepEqual(await records.ids(), []);
});
