/**
 * Which engine a server gets: what settings say and what is installed; what cannot work is one line at the start; and of
 * several servers on one database one alone has the workstations.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { type Compute, ComputeFailure } from '../src/compute/compute.ts';
import { readConfig } from '../src/config.ts';
import { openDataDirectory } from '../src/data-directory.ts';
import { type Engine, type EngineOptions, type EngineParts, type LoadEngine, openEngine } from '../src/engine.ts';
import { adoptHome } from '../src/engine-home.ts';
import type { Log } from '../src/log.ts';
import { sessionJobs } from '../src/service.ts';
import type { Store } from '../src/store/store.ts';
import { createWorker, type Worker } from '../src/worker/worker.ts';
import { createWorld, silentLog, type World } from './support/domain.ts';
import { createStage } from './support/sessions.ts';
import { temporaryDirectory } from './support/temporary.ts';
import { workstationRequest } from './support/workstation.ts';

const MISSING = 'qemu-system-x86_64 is not installed: apt-get install qemu-system-x86';

interface Given {
  readonly settings?: Readonly<Record<string, string>>;
  readonly store?: Store;
  /** In place of one of its own. */
  readonly world?: World;
  /** A server of a database that others may have as well. */
  readonly shared?: boolean;
  readonly dataDir?: string;
}

/** What an engine is opened with; nothing of it is ever asked for a workstation. */
function partsOf(t: TestContext, given: Given = {}) {
  const { settings = {}, store, world = createWorld(), shared, dataDir = temporaryDirectory(t) } = given;
  const { clock, keys, images, services, store: own } = world;
  t.after(() => own.close());
  const said: string[] = [];
  const warn = (_fields: object, message: string) => void said.push(message);
  const databaseUrl = shared && { BACKLOT_DATABASE_URL: 'postgres://db.example.org/backlot' };
  const config = readConfig({ BACKLOT_DATA_DIR: dataDir, ...databaseUrl, ...settings });
  const log = { ...silentLog, warn } as Log;
  const parts: EngineParts = {
    config,
    directory: openDataDirectory(dataDir),
    store: store ?? own,
    keys,
    images,
    clock,
    log,
  };
  return { parts, said, ids: services.ids };
}

/** Engines that can run, or say why not, and what they were opened with. */
function engines(reason?: string) {
  const opened: EngineOptions[] = [];
  const load: LoadEngine = async () => ({
    whyNot: async () => reason,
    open: async (options) => {
      opened.push(options);
      return {} as Compute;
    },
  });
  return { load, opened };
}

/** A server's work on sessions, and no other. */
function workerOf(world: World, { config }: EngineParts, engine: Engine, compute = engine.compute): Worker {
  const { store, clock, keys, services } = world;
  const jobs = sessionJobs({ ...services, keys, config, engine, compute });
  return createWorker({ store, clock, log: silentLog, leaseMs: 15_000, tombstoneMs: 60_000, jobs });
}

const shape = ({ name, works, seesAll }: Awaited<ReturnType<typeof openEngine>>) => [name, works, seesAll];

/** A workstation that an engine has left. */
function leave(parts: EngineParts, engine: string, id = 'left'): void {
  const directory = join(parts.directory.compute, engine);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, `${id}.json`), '{}');
}

describe('auto', () => {
  test('takes QEMU where it is installed', async (t) => {
    const { parts, said } = partsOf(t);
    const { load, opened } = engines();
    assert.deepEqual(shape(await openEngine(parts, load)), ['qemu', true, true]);
    assert.deepEqual([opened.length, said], [1, []]);
  });

  test('says in one line what is missing, and lets sessions fail with INSUFFICIENT_CAPACITY', async (t) => {
    const { parts, said } = partsOf(t);
    const { load, opened } = engines(MISSING);
    const engine = await openEngine(parts, load);
    assert.deepEqual([shape(engine), opened.length, said], [['none', true, false], 0, []]);
    engine.tell();
    assert.deepEqual(said, [
      `sessions will fail with INSUFFICIENT_CAPACITY, as this server has no workstations: ${MISSING}`,
    ]);
    await assert.rejects(
      engine.compute.ensure(workstationRequest({ id: 'a', fence: 1 })),
      ({ code, message, retryable }: ComputeFailure) =>
        code === 'INSUFFICIENT_CAPACITY' && message === `This server has no workstations: ${MISSING}` && !retryable,
    );
    assert.deepEqual(await engine.compute.list(), []);
  });
});

test('without an engine, what another has left of a session is neither stopped nor destroyed, and what is not there is', async (t) => {
  const { parts } = partsOf(t);
  leave(parts, 'qemu', 'left');
  const { compute, works } = await openEngine(parts, engines(MISSING).load);
  assert.equal(works, false, 'their sessions wait for their engine');
  const signal = new AbortController().signal;
  const change = (id: string) => ({ id, fence: 1, signal });
  await compute.destroy(change('gone'));
  await compute.stop({ ...change('gone'), volume: 'delete' });
  await assert.rejects(compute.destroy(change('left')), ComputeFailure);
  await assert.rejects(compute.destroy({ id: 'left', backupId: 'b', signal }), ComputeFailure);
  await assert.rejects(compute.stop({ ...change('left'), volume: 'keep' }), ComputeFailure);
  await assert.rejects(compute.open('left', signal), ComputeFailure);
  await assert.rejects(compute.backUp({ ...change('left'), backupId: 'b' }), ComputeFailure);
});

for (const name of ['qemu', 'sandbox'] as const) {
  test(`${name}, chosen and not possible, ends the start with a line that says why`, async (t) => {
    const { parts } = partsOf(t, { settings: { BACKLOT_COMPUTE: name } });
    const { load, opened } = engines(MISSING);
    await assert.rejects(openEngine(parts, load), {
      name: 'StartError',
      message: `BACKLOT_COMPUTE=${name} cannot be: ${MISSING}`,
    });
    assert.equal(opened.length, 0);
  });

  test(`${name} gets what settings say, in a directory of its own`, async (t) => {
    const settings = {
      BACKLOT_COMPUTE: name,
      BACKLOT_INSTANCE_TYPES: 'g5.xlarge=3:1000',
      BACKLOT_COMPUTE_MEMORY_MIB: '8000',
      BACKLOT_COMPUTE_NETWORK: 'nat',
      BACKLOT_COMPUTE_ACCELERATOR: 'tcg',
      BACKLOT_COMPUTE_BOOT_SECONDS: '10',
      BACKLOT_COMPUTE_STOP_SECONDS: '2.5',
    };
    const { parts } = partsOf(t, { settings });
    const { load, opened } = engines();
    assert.deepEqual(shape(await openEngine(parts, load)), [name, true, true]);
    const [options] = opened;
    assert.equal(options!.directory, join(parts.directory.compute, name));
    const { instanceTypes, ...rest } = options!.settings;
    assert.deepEqual(rest, { memoryMib: 8_000, network: 'nat', accelerator: 'tcg', bootMs: 10_000, stopMs: 2_500 });
    assert.deepEqual(instanceTypes['g5.xlarge'], { vcpus: 3, memoryMib: 1_000 });
    assert.ok(instanceTypes['g4dn.xlarge']!.memoryMib < 2_000);
  });
}

test('an engine is not changed while another has workstations here: they would be lost without a word', async (t) => {
  for (const [chosen, left] of [
    ['simulated', 'qemu'],
    ['qemu', 'sandbox'],
    ['auto', 'sandbox'],
    ['sandbox', 'qemu'],
  ] as const) {
    const { parts } = partsOf(t, { settings: { BACKLOT_COMPUTE: chosen } });
    leave(parts, left);
    await assert.rejects(openEngine(parts, engines().load), {
      name: 'StartError',
      message: new RegExp(`there are workstations of ${left} \\(1\\) .*Start with BACKLOT_COMPUTE=${left}`),
    });
  }
});

describe('servers on one database', () => {
  test('the first with an engine has the workstations, for good; the next is refused, or goes without', async (t) => {
    const first = partsOf(t, { shared: true });
    const { store } = first.parts;
    const { load } = engines();
    assert.deepEqual(shape(await openEngine(first.parts, load)), ['qemu', true, true]);
    const automatic = partsOf(t, { shared: true, store });
    const second = await openEngine(automatic.parts, load);
    assert.deepEqual(shape(second), ['none', false, false]);
    second.tell();
    assert.match(automatic.said.join(), /another server on this database has the workstations.*backlot session adopt/);
    const chosen = partsOf(t, { shared: true, store, settings: { BACKLOT_COMPUTE: 'qemu' } });
    await assert.rejects(openEngine(chosen.parts, load), {
      name: 'StartError',
      message: /BACKLOT_COMPUTE=qemu cannot be: another server on this database has the workstations/,
    });
    // The first again, as after a restart.
    const again = partsOf(t, { shared: true, store, dataDir: first.parts.directory.path });
    assert.deepEqual(shape(await openEngine(again.parts, load)), ['qemu', true, true]);
  });

  test('one without QEMU leaves sessions to the one that has it, and fails them where nobody has', async (t) => {
    const { parts } = partsOf(t, { shared: true });
    const without = engines(MISSING);
    assert.deepEqual(shape(await openEngine(parts, without.load)), ['none', true, false]);
    const other = partsOf(t, { shared: true, store: parts.store });
    await openEngine(other.parts, engines().load);
    assert.deepEqual(shape(await openEngine(parts, without.load)), ['none', false, false]);
  });

  test('one without QEMU leaves sessions to the one that comes to have it while it runs', async (t) => {
    const world = createWorld();
    const first = partsOf(t, { shared: true, world });
    const without = await openEngine(first.parts, engines(MISSING).load);
    const early = workerOf(world, first.parts, without);
    const stage = await createStage(world);
    const { sessionId } = await stage.ask();
    assert.equal(await early.runOnce(), 1);
    const { state, statusCode } = await stage.get(sessionId!);
    assert.deepEqual([state, statusCode], ['CREATE_FAILED', 'INSUFFICIENT_CAPACITY']);

    const second = partsOf(t, { shared: true, world });
    const found = await openEngine(second.parts, engines().load);
    assert.equal(found.name, 'qemu');
    const late = workerOf(world, second.parts, found, world.compute);
    const next = await stage.ask();
    const asked = await stage.row(next.sessionId!);
    assert.equal(await early.runOnce(), 0);
    const row = await stage.row(next.sessionId!);
    assert.deepEqual([row.state, row.attempts, row.dueAt], [asked.state, asked.attempts, asked.dueAt]);
    assert.equal(first.said.length, 1);
    assert.match(first.said[0]!, /left to another server from now on/);
    assert.equal(await late.runOnce(), 1);
    assert.equal((await stage.get(next.sessionId!)).state, 'READY');

    // By what it sees itself, it would take this session for one of which nothing is left.
    await stage.remove(next.sessionId!);
    const before = await stage.row(next.sessionId!);
    assert.equal(await early.runOnce(), 0);
    assert.deepEqual(await stage.row(next.sessionId!), before);
    assert.equal(first.said.length, 1);
    assert.equal(await late.runOnce(), 1);
    assert.equal(await stage.workstation(next.sessionId!), undefined);
  });

  test('none never takes them, nor the work of sessions', async (t) => {
    const { parts } = partsOf(t, { shared: true, settings: { BACKLOT_COMPUTE: 'none' } });
    assert.deepEqual(shape(await openEngine(parts, engines().load)), ['none', false, false]);
    const other = partsOf(t, { shared: true, store: parts.store });
    assert.deepEqual(shape(await openEngine(other.parts, engines().load)), ['qemu', true, true]);
  });

  test('of two that start at once, one has them', async (t) => {
    const first = partsOf(t, { shared: true });
    const second = partsOf(t, { shared: true, store: first.parts.store });
    const { load } = engines();
    const opened = await Promise.all([openEngine(first.parts, load), openEngine(second.parts, load)]);
    assert.deepEqual(opened.map(({ name }) => name).sort(), ['none', 'qemu']);
  });

  test('they are adopted by another, when somebody says so', async (t) => {
    const first = partsOf(t, { shared: true });
    const { store } = first.parts;
    await openEngine(first.parts, engines().load);
    const second = partsOf(t, { shared: true, store });
    await adoptHome({ ...second.parts, ids: second.ids });
    assert.deepEqual(shape(await openEngine(second.parts, engines().load)), ['qemu', true, true]);
    assert.deepEqual(shape(await openEngine(first.parts, engines().load)), ['none', false, false]);
    assert.deepEqual(
      (await store.audit({ limit: 10 })).map(({ operation }) => operation),
      ['session adopt'],
    );
  });

  test('simulated workstations are records that all share', async (t) => {
    const settings = { BACKLOT_COMPUTE: 'simulated' };
    const first = partsOf(t, { shared: true, settings });
    const second = partsOf(t, { shared: true, settings, store: first.parts.store });
    for (const { parts } of [first, second]) {
      assert.deepEqual(shape(await openEngine(parts, engines().load)), ['simulated', true, true]);
    }
  });
});

test('a file that holds no id of a server ends the start', async (t) => {
  const { parts } = partsOf(t, { shared: true });
  writeFileSync(parts.directory.serverId, 'x');
  await assert.rejects(openEngine(parts, engines().load), { name: 'StartError', message: /holds no id of a server/ });
});
