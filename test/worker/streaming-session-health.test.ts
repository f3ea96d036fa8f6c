/**
 * A workstation that ends by itself is noticed in two looks, in whatever state its session is by then; nothing that anybody
 * made is lost by it, and what another does at the same time goes before.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { lifecycleOf } from '../../src/domain/lifecycles.ts';
import { ENDED_WITHOUT_VOLUME } from '../../src/domain/streaming-session-ended.ts';
import type { Log } from '../../src/log.ts';
import { createSessionHealth, type SessionHealthPorts } from '../../src/worker/streaming-session-health.ts';
import { createWorld, silentLog, type World } from '../support/domain.ts';
import { putProfile, putSession } from '../support/rows.ts';
import { BACKED_UP, createStage, PERSISTENT, STOPPABLE } from '../support/sessions.ts';
import { until } from '../support/until.ts';

/** What looks at a world's workstations, as one server does. */
function healthOf(world: World, more: Partial<SessionHealthPorts> = {}) {
  const { store, compute, clock, services } = world;
  const { ids, settings } = services;
  return createSessionHealth({ store, compute, clock, ids, settings, log: silentLog, ...more });
}

const NO_STOPPING = {};
/** As every row with a time limit is. */
const NOT_YET_DUE = { dueAt: Number.MAX_SAFE_INTEGER };

describe('a workstation that ends by itself', () => {
  for (const [what, configuration] of [
    ['whose volumes are kept anyway', PERSISTENT],
    ['whose volumes a stop would delete', STOPPABLE],
  ] as const) {
    test(`${what}: its session is stopped, its volume is kept, and it says so`, async () => {
      const world = createWorld();
      const stage = await createStage(world, configuration);
      const sessionId = await stage.create();
      const health = healthOf(world);
      await world.workstations.compute.end(sessionId);
      assert.equal(await health.runOnce(), 0);
      assert.equal((await stage.get(sessionId)).state, 'READY');
      assert.equal(await health.runOnce(), 1);
      const stopping = await stage.get(sessionId);
      assert.deepEqual(
        [stopping.state, stopping.statusCode],
        ['STOP_IN_PROGRESS', 'STREAMING_SESSION_STOP_IN_PROGRESS'],
      );
      assert.match(stopping.statusMessage!, /ended by itself.*crashed.*volumes are kept/);
      await world.settle();
      const { state, statusMessage, volumeRetentionMode, stoppedBy, stopAt } = await stage.get(sessionId);
      assert.deepEqual([state, statusMessage, stopAt], ['STOPPED', stopping.statusMessage, undefined]);
      assert.deepEqual([volumeRetentionMode, stoppedBy], ['RETAIN', undefined]);
      assert.equal((await stage.workstation(sessionId))!.hasVolume, true);
    });
  }

  test('it is started again with what it held, and an ordinary stop then says nothing of it', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    const health = healthOf(world);
    await world.workstations.compute.end(sessionId);
    for (let looks = 0; looks < 2; looks += 1) await health.runOnce();
    await world.settle();
    await stage.start(sessionId);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'READY');
    assert.equal((await world.workstations.records.get(sessionId))!.volume!.runs, 2);
    await stage.stop(sessionId);
    await world.settle();
    assert.equal((await stage.get(sessionId)).statusMessage, 'Streaming Session has been stopped');
  });

  test('it is backed up as in any other stop', async () => {
    const world = createWorld();
    const stage = await createStage(world, BACKED_UP);
    const sessionId = await stage.create();
    const health = healthOf(world);
    await world.workstations.compute.end(sessionId);
    for (let looks = 0; looks < 2; looks += 1) await health.runOnce();
    await world.settle();
    assert.deepEqual(
      (await stage.backups()).map(({ state }) => state),
      ['READY'],
    );
  });

  test('where it may not be stopped, its session has failed, its volume stays until somebody deletes it, and its streams end', async () => {
    const world = createWorld();
    const stage = await createStage(world, NO_STOPPING);
    const sessionId = await stage.create();
    const { streamId } = await stage.stream(sessionId);
    await world.settle();
    const health = healthOf(world);
    await world.workstations.compute.end(sessionId);
    for (let looks = 0; looks < 3; looks += 1) await health.runOnce();
    world.clock.advance(7 * 24 * 3_600_000);
    await world.settle();
    const { state, statusCode, statusMessage, terminateAt } = await stage.get(sessionId);
    assert.deepEqual([state, statusCode, terminateAt], ['STOP_FAILED', 'INTERNAL_ERROR', undefined]);
    assert.match(statusMessage!, /ended by itself.*kept until the session is deleted/);
    assert.equal((await stage.workstation(sessionId))!.hasVolume, true);
    assert.equal((await world.store.get(KIND.streamingSessionStream, streamId!))?.state ?? 'DELETED', 'DELETED');
    await stage.remove(sessionId);
    await world.settle();
    assert.equal(await stage.workstation(sessionId), undefined);
  });

  /** As in an installation that was restored from a backup which was made while the workstation ran. */
  async function withoutVolume(world: World, sessionId: string): Promise<void> {
    const record = (await world.workstations.records.get(sessionId))!;
    await world.workstations.records.put(sessionId, { ...record, fence: 0, power: 'off', volume: null });
    const health = healthOf(world);
    for (let looks = 0; looks < 2; looks += 1) await health.runOnce();
    await world.settle();
  }

  test('whose volume is gone with it says so, and is started from a backup', async () => {
    const world = createWorld();
    const stage = await createStage(world, BACKED_UP);
    const sessionId = await stage.createStopped();
    const [{ backupId }] = (await stage.backups()) as [{ backupId: string }];
    await stage.start(sessionId);
    await world.settle();
    await withoutVolume(world, sessionId);
    const { state, statusMessage } = await stage.get(sessionId);
    assert.deepEqual([state, statusMessage], ['STOPPED', ENDED_WITHOUT_VOLUME]);
    await stage.start(sessionId, { backupId });
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'READY');
    assert.equal((await stage.workstation(sessionId))!.hasVolume, true);
  });

  test('whose volume is gone with it is not started with an empty one', async () => {
    const world = createWorld();
    const stage = await createStage(world, STOPPABLE);
    const sessionId = await stage.create();
    await withoutVolume(world, sessionId);
    await stage.start(sessionId);
    await world.settle();
    const { state, statusMessage } = await stage.get(sessionId);
    assert.equal(state, 'START_FAILED');
    assert.match(statusMessage!, /volume of this session is gone, so it was not started/);
    assert.equal((await stage.workstation(sessionId))!.hasVolume, false);
  });

  test('one that is gone altogether is noticed as well', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    await world.workstations.records.put(sessionId, undefined);
    const health = healthOf(world);
    assert.deepEqual([await health.runOnce(), await health.runOnce()], [0, 1]);
  });
});

describe('a look', () => {
  const states = Object.keys(lifecycleOf(KIND.streamingSession).states) as NonNullable<StreamingSession['state']>[];
  for (const state of states) {
    test(`changes a session in ${state} ${state === 'READY' ? 'alone' : 'never'}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const launchProfileId = await putProfile(world, studioId);
      const sessionId = await putSession(world, studioId, { launchProfileId, state }, NOT_YET_DUE);
      const before = await world.store.get(KIND.streamingSession, sessionId);
      const health = healthOf(world);
      const ended = (await health.runOnce()) + (await health.runOnce()) + (await health.runOnce());
      assert.equal(ended, state === 'READY' ? 1 : 0);
      const after = await world.store.get(KIND.streamingSession, sessionId);
      if (state === 'READY') assert.equal(after!.version, before!.version + 1);
      else assert.deepEqual(after, before);
    });
  }

  test('ends the others where one cannot be ended, and says that it failed', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const launchProfileId = await putProfile(world, studioId);
    const put = (createdAt: number, more: object = {}) =>
      putSession(world, studioId, { launchProfileId }, { ...NOT_YET_DUE, createdAt, ...more });
    const first = await put(1);
    // The row is not what it should be.
    await put(2, { private: '{}' });
    const last = await put(3);
    const health = healthOf(world);
    assert.equal(await health.runOnce(), 0);
    await assert.rejects(health.runOnce(), TypeError);
    for (const id of [first, last]) {
      assert.equal((await world.store.get(KIND.streamingSession, id))!.state, 'STOP_IN_PROGRESS');
    }
  });

  test('leaves alone what runs', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionIds = [await stage.create(), await stage.create()];
    const health = healthOf(world);
    await world.workstations.compute.end(sessionIds[0]!);
    for (let looks = 0; looks < 3; looks += 1) await health.runOnce();
    await world.settle();
    const states = await Promise.all(sessionIds.map(async (id) => (await stage.get(id)).state));
    assert.deepEqual(states, ['STOPPED', 'READY']);
  });

  test('of one server does not count for another, nor one before a look that failed', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    await world.workstations.compute.end(await stage.create());
    assert.equal((await healthOf(world).runOnce()) + (await healthOf(world).runOnce()), 0);
    const health = healthOf(world);
    await health.runOnce();
    world.workstations.fault = () => {
      throw new Error('EIO');
    };
    await assert.rejects(health.runOnce(), /EIO/);
    world.workstations.fault = () => undefined;
    assert.deepEqual([await health.runOnce(), await health.runOnce()], [0, 1]);
  });

  test('does not count when the row has changed since the one before', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    const health = healthOf(world);
    await world.workstations.compute.end(sessionId);
    await health.runOnce();
    const resourceArn = (await stage.get(sessionId)).arn;
    await world.call('TagResource', { resourceArn, tags: { a: '1' } });
    assert.deepEqual([await health.runOnce(), await health.runOnce()], [0, 1]);
  });

  test('goes behind a caller who stops or deletes the session at the same moment', async () => {
    for (const name of ['stop', 'remove'] as const) {
      const world = createWorld();
      const stage = await createStage(world, STOPPABLE);
      const sessionId = await stage.create();
      const { list } = world.compute;
      let looks = 0;
      const compute = {
        list: async () => {
          looks += 1;
          return list();
        },
      };
      const rows = world.store.list;
      const store = {
        ...world.store,
        get: world.store.get.bind(world.store),
        write: world.store.write.bind(world.store),
        // The caller is told between what the look reads and what it writes.
        list: async (query: Parameters<typeof rows>[0]) => {
          const found = await rows.call(world.store, query);
          if (looks === 2) await stage[name](sessionId);
          return found;
        },
      };
      const health = healthOf(world, { store, compute });
      await world.workstations.compute.end(sessionId);
      assert.deepEqual([await health.runOnce(), await health.runOnce()], [0, 0], name);
      await world.settle();
      const { state, volumeRetentionMode } = await stage.get(sessionId);
      assert.deepEqual([state, volumeRetentionMode], name === 'stop' ? ['STOPPED', 'DELETE'] : ['DELETED', undefined]);
    }
  });

  test('sees every session, however many there are', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const launchProfileId = await putProfile(world, studioId);
    for (let made = 0; made < 501; made += 1)
      await putSession(world, studioId, { launchProfileId, state: 'READY' }, NOT_YET_DUE);
    const health = healthOf(world);
    assert.deepEqual([await health.runOnce(), await health.runOnce()], [0, 501]);
  });
});

describe('the timer', () => {
  test('looks when it is time, says once that it cannot and once that it can again, wakes the worker, and ends', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    const said: string[] = [];
    const told = (level: string) => (_fields: object, message: string) => void said.push(`${level}: ${message}`);
    const log = { ...silentLog, error: told('error'), info: told('info'), warn: told('warn') } as Log;
    let tick: () => void = () => assert.fail('not started');
    let period = 0;
    let stopped = false;
    let [ended, woken] = [0, 0];
    const every = (periodMs: number, work: () => void) => {
      [period, tick] = [periodMs, work];
      return () => {
        stopped = true;
      };
    };
    const health = healthOf(world, {
      log,
      every,
      ended: () => {
        ended += 1;
      },
      wake: () => {
        woken += 1;
      },
    });
    health.start();
    assert.ok(2 * period < 5_000);
    let looks = 0;
    world.workstations.fault = () => {
      looks += 1;
      throw new Error('EIO');
    };
    for (let looked = 1; looked <= 3; looked += 1) {
      tick();
      await until('a look has failed', async () => {
        await new Promise(setImmediate);
        return looks === looked;
      });
      await health.runOnce().catch(() => undefined);
      looks = looked;
    }
    assert.deepEqual(said, ['error: workstations could not be looked at; it is tried again']);
    world.workstations.fault = () => undefined;
    await world.workstations.compute.end(sessionId);
    await until('it is noticed', async () => {
      tick();
      await new Promise(setImmediate);
      return ended > 0;
    });
    assert.deepEqual([ended, woken], [1, 1]);
    assert.deepEqual(said.slice(1).sort(), [
      'info: workstations can be looked at again',
      'warn: a workstation has ended by itself',
    ]);
    await health.stop();
    assert.ok(stopped);
  });
});
