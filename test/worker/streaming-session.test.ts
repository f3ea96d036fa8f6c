/**
 * The work behind a streaming session: whichever step fails, dies, hangs or runs twice, the session ends in the state that
 * it was going to, with the workstation, volumes and backups that belong to that state; or in a failed state that says
 * why, from which it can be deleted with all it has.
 */
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { ComputeFailure } from '../../src/compute/compute.ts';
import { STREAMING_SESSION_FAILURES, type StreamingSession } from '../../src/contract/streaming-session.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { createWorld } from '../support/domain.ts';
import { Process } from '../support/process.ts';
import { BACKED_UP, createStage, PERSISTENT, STOPPABLE, type Stage } from '../support/sessions.ts';
import { until } from '../support/until.ts';
import {
  atEveryPoint,
  createScene,
  LEASE_MS,
  processThatDiesAt,
  processThatDiesAtWork,
  type Scene,
  standingStill,
} from './scene.ts';

const stages = new WeakMap<Scene, Stage>();

/** The studio, image and launch profile of a scene. */
async function stageOf(scene: Scene, configuration: Parameters<typeof createStage>[1] = BACKED_UP): Promise<Stage> {
  const stage = stages.get(scene) ?? (await createStage(scene.world, configuration));
  stages.set(scene, stage);
  return stage;
}

async function beginCreate(scene: Scene): Promise<string> {
  return (await (await stageOf(scene)).ask()).sessionId!;
}

async function beginStop(scene: Scene, input: object = {}): Promise<string> {
  const sessionId = await beginCreate(scene);
  await scene.finish();
  await (await stageOf(scene)).stop(sessionId, input);
  return sessionId;
}

async function beginStart(scene: Scene): Promise<string> {
  const sessionId = await beginStop(scene);
  await scene.finish();
  const stage = await stageOf(scene);
  const [{ backupId } = {}] = await stage.backups();
  await stage.start(sessionId, { backupId });
  return sessionId;
}

async function beginRemoval(scene: Scene): Promise<string> {
  const sessionId = await beginStart(scene);
  await scene.finish();
  const stage = await stageOf(scene);
  await stage.stream(sessionId);
  await scene.world.settle();
  await stage.remove(sessionId);
  return sessionId;
}

interface Story {
  readonly begin: (scene: Scene) => Promise<string>;
  readonly during: string;
  readonly failed: string;
  readonly end: { readonly state: string; readonly statusCode: string; readonly statusMessage: string };
  /** What there is then: whether it runs, whether it has a volume, and its backups; undefined for no workstation. */
  readonly holdings: readonly [running: boolean, hasVolume: boolean, backups: number] | undefined;
  readonly effects: readonly string[];
}

const STORIES: Readonly<Record<string, Story>> = {
  create: {
    begin: beginCreate,
    during: 'CREATE_IN_PROGRESS',
    failed: 'CREATE_FAILED',
    end: { state: 'READY', statusCode: 'STREAMING_SESSION_READY', statusMessage: 'Streaming Session is ready' },
    holdings: [true, true, 0],
    effects: ['ensure', 'booted', 'ensured'],
  },
  stop: {
    begin: beginStop,
    during: 'STOP_IN_PROGRESS',
    failed: 'STOP_FAILED',
    end: {
      state: 'STOPPED',
      statusCode: 'STREAMING_SESSION_STOPPED',
      statusMessage: 'Streaming Session has been stopped',
    },
    holdings: [false, true, 1],
    effects: ['stop', 'stopped', 'backUp', 'backedUp'],
  },
  'stop without volumes': {
    begin: (scene) => beginStop(scene, { volumeRetentionMode: 'DELETE' }),
    during: 'STOP_IN_PROGRESS',
    failed: 'STOP_FAILED',
    end: {
      state: 'STOPPED',
      statusCode: 'STREAMING_SESSION_STOPPED',
      statusMessage: 'Streaming Session has been stopped',
    },
    holdings: [false, false, 1],
    effects: ['stop', 'stopped', 'backUp', 'backedUp', 'stop', 'stopped'],
  },
  start: {
    begin: beginStart,
    during: 'START_IN_PROGRESS',
    failed: 'START_FAILED',
    end: {
      state: 'READY',
      statusCode: 'STREAMING_SESSION_STARTED',
      statusMessage: 'Streaming Session has been started',
    },
    holdings: [true, true, 1],
    effects: ['ensure', 'booted', 'ensured'],
  },
  removal: {
    begin: beginRemoval,
    during: 'DELETE_IN_PROGRESS',
    failed: 'DELETE_FAILED',
    end: {
      state: 'DELETED',
      statusCode: 'STREAMING_SESSION_DELETED',
      statusMessage: 'Streaming Session has been deleted',
    },
    holdings: undefined,
    effects: ['destroy', 'destroyed', 'destroy', 'destroyed'],
  },
};

const sessionOf = async ({ world }: Scene, id: string) =>
  JSON.parse((await world.store.get(KIND.streamingSession, id))!.doc) as StreamingSession;

const statusOf = ({ state, statusCode, statusMessage }: StreamingSession) => ({ state, statusCode, statusMessage });

async function holdingsOf(scene: Scene, id: string) {
  const found = (await scene.world.compute.list()).find((workstation) => workstation.id === id);
  return found && ([found.running, found.hasVolume, found.backupIds.length] as const);
}

/** Backups that the API shows are those that there are, and streams end with their session. */
async function assertChildren(scene: Scene, id: string, what: string): Promise<void> {
  const stage = await stageOf(scene);
  const live = (await stage.backups()).filter(({ state }) => state !== 'DELETED' && state !== 'CREATE_FAILED');
  assert.ok(
    live.every(({ state }) => state === 'READY'),
    `${what}: ${live.map(({ state }) => state)}`,
  );
  const found = (await scene.world.compute.list()).find((workstation) => workstation.id === id);
  assert.deepEqual(
    live.map(({ backupId }) => backupId),
    found?.backupIds ?? [],
    what,
  );
  const query = { kind: KIND.streamingSessionStream, parentId: id, stateNot: 'DELETED', limit: 1 };
  const { state } = await sessionOf(scene, id);
  if (state !== 'READY') assert.equal(await scene.world.store.count(query), 0, what);
}

async function assertEnded(scene: Scene, id: string, story: Story, what: string): Promise<void> {
  assert.deepEqual(statusOf(await sessionOf(scene, id)), story.end, what);
  assert.deepEqual(await holdingsOf(scene, id), story.holdings, what);
  await assertChildren(scene, id, what);
  assert.equal((await scene.world.store.get(KIND.streamingSession, id))!.attempts, 0, what);
}

/** The tests of a story, of which several play it at every point that a worker passes. */
for (const [name, story] of Object.entries(STORIES)) {
  describe(name, () => {
    const { begin } = story;

    test('it takes these effects, in this order', async (t) => {
      const scene = await createScene(t);
      const id = await begin(scene);
      // What the first look makes due for another job, such as the removal of backups, the second finds.
      const points = [...(await scene.trace()), ...(await scene.trace())];
      const effects = points.filter((point) => point.startsWith('compute.'));
      assert.deepEqual(
        effects,
        story.effects.map((effect) => `compute.${effect}`),
      );
      await scene.finish();
      await assertEnded(scene, id, story, 'undisturbed');
    });

    test('a process that dies at any point leaves nothing that the next cannot finish', async (t) => {
      await atEveryPoint(t, begin, async (scene, id, index, point) => {
        await scene.workIn(processThatDiesAt(index));
        await scene.finish();
        await assertEnded(scene, id, story, `killed at ${point}`);
      });
    });

    test('a process that stands still at any point until another has finished changes nothing by going on', async (t) => {
      await atEveryPoint(t, begin, async (scene, id, index, point) => {
        const zombie = await standingStill(scene, index);
        await scene.finish();
        await assertEnded(scene, id, story, `before ${point}`);
        const before = await scene.world.store.get(KIND.streamingSession, id);
        await zombie.goOn();
        await scene.finish();
        await assertEnded(scene, id, story, `after ${point}`);
        assert.deepEqual(await scene.world.store.get(KIND.streamingSession, id), before, point);
      });
    });

    test('processes that die at one point after another are outlived, as long as there are attempts', async (t) => {
      const scene = await createScene(t);
      const id = await begin(scene);
      for (let died = 1; died < ATTEMPTS_MAX; died += 1) {
        await scene.workIn(processThatDiesAtWork(died));
        scene.world.clock.advance(LEASE_MS);
      }
      await scene.finish();
      await assertEnded(scene, id, story, 'after many deaths');
    });

    for (const effect of new Set(story.effects)) {
      test(`a passing failure at ${effect} is tried again and comes to the same end`, async (t) => {
        const scene = await createScene(t);
        const id = await begin(scene);
        let failures = 0;
        await scene.work((point) => {
          if (point !== `compute.${effect}` || failures > 0) return;
          failures += 1;
          throw new Error('this passes');
        });
        assert.equal(failures, 1);
        assert.equal((await sessionOf(scene, id)).state, story.during);
        await scene.finish();
        await assertEnded(scene, id, story, effect);
      });
    }

    // A backup that fails does not fail the stop (below).
    for (const effect of story.effects.filter((each) => ['ensure', 'booted', 'stop', 'destroy'].includes(each))) {
      test(`a failure at ${effect} that never passes is given up, and says nothing of its inside`, async (t) => {
        const scene = await createScene(t);
        const id = await begin(scene);
        let failures = 0;
        for (let round = 0; round < 2 * ATTEMPTS_MAX; round += 1) {
          await scene.work((point, of) => {
            if (point !== `compute.${effect}` || of !== id) return;
            failures += 1;
            throw new Error('EIO: /var/lib/backlot/secret');
          });
          scene.world.clock.advance(60_000);
        }
        assert.ok(failures >= ATTEMPTS_MAX);
        const session = await sessionOf(scene, id);
        assert.deepEqual([session.state, session.statusCode], [story.failed, 'INTERNAL_ERROR']);
        assert.doesNotMatch(session.statusMessage!, /EIO|secret/);
        assert.deepEqual([session.stopAt, session.terminateAt], [undefined, undefined]);
        if (name === 'create') assert.equal(await holdingsOf(scene, id), undefined);
        if (name === 'start') assert.deepEqual(await holdingsOf(scene, id), [false, true, 1]);
        // Whatever had failed, a delete now ends it.
        await (await stageOf(scene)).remove(id);
        await scene.finish();
        await assertEnded(scene, id, STORIES.removal!, effect);
      });
    }
  });
}

describe('failures that the API documents', () => {
  for (const code of STREAMING_SESSION_FAILURES) {
    for (const [name, at] of [
      ['create', 'compute.booted'],
      ['start', 'compute.booted'],
      ['stop', 'compute.stop'],
      ['removal', 'compute.destroy'],
    ] as const) {
      test(`${code} during ${name} is shown with its message, at once`, async (t) => {
        const scene = await createScene(t);
        const story = STORIES[name]!;
        const id = await story.begin(scene);
        await scene.work((point, of) => {
          if (point === at && of === id) throw new ComputeFailure(code, 'A sentence for the owner.', { inward: 'x' });
        });
        assert.deepEqual(statusOf(await sessionOf(scene, id)), {
          state: story.failed,
          statusCode: code,
          statusMessage: 'A sentence for the owner.',
        });
      });
    }
  }

  test('one that may pass is tried again like any other', async (t) => {
    const scene = await createScene(t);
    const id = await beginCreate(scene);
    await scene.work((point) => {
      if (point !== 'compute.ensure') return;
      throw new ComputeFailure('INSUFFICIENT_CAPACITY', 'No machine is free.', { retryable: true });
    });
    assert.equal((await sessionOf(scene, id)).state, 'CREATE_IN_PROGRESS');
    await scene.finish();
    await assertEnded(scene, id, STORIES.create!, 'after a failure that passed');
  });

  for (const [name, failed] of [
    ['create', 'CREATE_FAILED'],
    ['start', 'START_FAILED'],
  ] as const) {
    test(`an image that is gone makes a ${name} fail with AMI_VALIDATION_ERROR`, async (t) => {
      const scene = await createScene(t);
      const id = await STORIES[name]!.begin(scene);
      const { streamingImageId } = await stageOf(scene);
      const { kind, version } = (await scene.world.store.get(KIND.streamingImage, streamingImageId))!;
      await scene.world.store.write([{ op: 'delete', kind, id: streamingImageId, version }]);
      await scene.work();
      const session = await sessionOf(scene, id);
      assert.deepEqual([session.state, session.statusCode], [failed, 'AMI_VALIDATION_ERROR']);
      assert.match(session.statusMessage!, new RegExp(streamingImageId));
    });
  }
});

describe('a start of a session whose machine has no volume any more', () => {
  type Row = readonly [
    what: string,
    retention: 'RETAIN' | 'DELETE',
    fromBackup: boolean,
    state: 'READY' | 'START_FAILED',
    holdings: readonly [running: boolean, hasVolume: boolean, backups: number],
  ];
  const table: readonly Row[] = [
    ['that was kept fails and makes none', 'RETAIN', false, 'START_FAILED', [false, false, 1]],
    ['that was kept goes on with a backup', 'RETAIN', true, 'READY', [true, true, 1]],
    ['that was to be deleted begins anew', 'DELETE', false, 'READY', [true, true, 1]],
  ];
  for (const [what, volumeRetentionMode, fromBackup, state, holdings] of table) {
    test(what, async (t) => {
      const scene = await createScene(t);
      const id = await beginStop(scene, { volumeRetentionMode });
      await scene.finish();
      const { version } = (await scene.world.store.get(KIND.streamingSession, id))!;
      const signal = new AbortController().signal;
      await scene.world.compute.stop({ id, fence: version, signal, volume: 'delete' });
      const stage = await stageOf(scene);
      const [{ backupId } = {}] = await stage.backups();
      await stage.start(id, fromBackup ? { backupId } : {});
      await scene.finish();
      const session = await sessionOf(scene, id);
      assert.equal(session.state, state);
      assert.deepEqual(await holdingsOf(scene, id), holdings);
      if (state === 'READY') return;
      assert.equal(session.statusCode, 'INTERNAL_ERROR');
      assert.match(session.statusMessage!, /volume .* is gone.*one of its backups/);
    });
  }
});

describe('a start that stood still', () => {
  const leavesNothing = (
    begin: (scene: Scene) => Promise<string>,
    meanwhile: (stage: Stage, id: string) => Promise<unknown>,
    end: Story,
    holdings: Story['holdings'],
  ) =>
    async function play(t: TestContext): Promise<void> {
      await atEveryPoint(t, begin, async (scene, id, index, point) => {
        const zombie = await standingStill(scene, index);
        await scene.finish();
        await meanwhile(await stageOf(scene), id);
        await scene.finish();
        await zombie.goOn();
        await scene.finish();
        assert.equal((await sessionOf(scene, id)).state, end.end.state, point);
        if (end.holdings === undefined) await scene.upkeep();
        assert.deepEqual(await holdingsOf(scene, id), holdings, point);
      });
    };

  test(
    'while its session was stopped does not run',
    leavesNothing(beginCreate, (stage, id) => stage.stop(id), STORIES.stop!, [false, true, 1]),
  );
  test(
    'from a backup while its session was stopped does not run',
    leavesNothing(beginStart, (stage, id) => stage.stop(id), STORIES.stop!, [false, true, 2]),
  );
  test(
    'while its session was deleted leaves nothing that upkeep does not find',
    leavesNothing(beginCreate, (stage, id) => stage.remove(id), STORIES.removal!, undefined),
  );
  test(
    'from a backup while its session was deleted leaves nothing that upkeep does not find',
    leavesNothing(beginStart, (stage, id) => stage.remove(id), STORIES.removal!, undefined),
  );
});

describe('backups', () => {
  const failing = (point: string, error: Error) => (at: string) => {
    if (at === point) throw error;
  };
  const lost = new ComputeFailure('INSUFFICIENT_CAPACITY', 'No room for the backup.');

  test('one that fails for good does not keep the session from being stopped, and says why', async (t) => {
    const scene = await createScene(t);
    const id = await beginStop(scene);
    await scene.work(failing('compute.backUp', lost));
    assert.deepEqual(statusOf(await sessionOf(scene, id)), STORIES.stop!.end);
    const [backup] = await (await stageOf(scene)).backups();
    assert.deepEqual(
      [backup!.state, backup!.statusCode, backup!.statusMessage],
      ['CREATE_FAILED', 'INSUFFICIENT_CAPACITY', 'No room for the backup.'],
    );
  });

  test('without one, volumes are kept although they were to be deleted, and the session says so', async (t) => {
    const scene = await createScene(t);
    const id = await beginStop(scene, { volumeRetentionMode: 'DELETE' });
    await scene.work(failing('compute.backUp', lost));
    const session = await sessionOf(scene, id);
    assert.deepEqual([session.state, session.volumeRetentionMode], ['STOPPED', 'RETAIN']);
    assert.match(session.statusMessage!, /backup failed.*volumes are kept/);
    assert.deepEqual(await holdingsOf(scene, id), [false, true, 0]);
  });

  test('one that keeps failing is tried for as long as the stop may be, then given up alone', async (t) => {
    const scene = await createScene(t);
    const id = await beginStop(scene);
    for (let round = 0; round < ATTEMPTS_MAX; round += 1) {
      await scene.work(failing('compute.backUp', new Error('EIO')));
      scene.world.clock.advance(60_000);
    }
    assert.equal((await sessionOf(scene, id)).state, 'STOPPED');
    const [backup] = await (await stageOf(scene)).backups();
    assert.deepEqual([backup!.state, backup!.statusCode], ['CREATE_FAILED', 'INTERNAL_ERROR']);
  });

  test('a process that dies at any point of a stop leaves no more of them than are kept', async (t) => {
    const beginSecondStop = async (scene: Scene) => {
      const stage = await stageOf(scene, {
        ...PERSISTENT,
        sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 1 },
      });
      const id = await beginStop(scene);
      await scene.finish();
      await stage.start(id);
      await scene.finish();
      await stage.stop(id);
      return id;
    };
    await atEveryPoint(t, beginSecondStop, async (scene, _id, index, point) => {
      await scene.workIn(processThatDiesAt(index));
      await scene.finish();
      const ready = (await (await stageOf(scene)).backups()).filter(({ state }) => state === 'READY');
      assert.equal(ready.length, 1, `killed at ${point}`);
    });
  });

  test('one whose session could not be stopped fails as well', async (t) => {
    const scene = await createScene(t);
    const id = await beginStop(scene);
    // Each attempt takes its process with it: nobody is left to say that the backup failed.
    for (let round = 0; round < ATTEMPTS_MAX; round += 1) {
      const process: Process = new Process((point) => {
        if (point === 'compute.backUp') process.kill();
      });
      await scene.workIn(process);
      scene.world.clock.advance(LEASE_MS);
    }
    await scene.finish();
    assert.equal((await sessionOf(scene, id)).state, 'STOP_FAILED');
    const [backup] = await (await stageOf(scene)).backups();
    assert.equal(backup!.state, 'CREATE_FAILED');
  });

  test('a removal is tried until it is done', async (t) => {
    const scene = await createScene(t);
    const id = await beginStop(scene);
    await scene.finish();
    const stage = await stageOf(scene);
    const [{ backupId } = {}] = await stage.backups();
    await stage.remove(id);
    await scene.world.settle();
    const row = (await scene.world.store.get(KIND.streamingSessionBackup, backupId!))!;
    await scene.world.store.write([
      { op: 'update', row: { ...row, state: 'DELETE_IN_PROGRESS', dueAt: 0, version: row.version + 1 } },
    ]);
    for (let round = 0; round < 3 * ATTEMPTS_MAX; round += 1) {
      await scene.work(failing('compute.destroy', new Error('EIO')));
      scene.world.clock.advance(60_000);
    }
    const state = async () => (await scene.world.store.get(KIND.streamingSessionBackup, backupId!))!.state;
    assert.equal(await state(), 'DELETE_IN_PROGRESS');
    await scene.finish();
    assert.equal(await state(), 'DELETED');
  });
});

describe('a stop that was to delete the volumes, and failed', () => {
  /**
   * @param at the point of the second `compute.stop`, the one that deletes, at which every attempt dies.
   * @param then what the stop after that does with them.
   */
  async function failedStop(
    t: TestContext,
    at: 'compute.stop' | 'compute.stopped',
    then: 'RETAIN' | 'DELETE' = 'RETAIN',
  ) {
    const scene = await createScene(t);
    const id = await beginStop(scene, { volumeRetentionMode: 'DELETE' });
    for (let round = 0; round < ATTEMPTS_MAX; round += 1) {
      let passed = 0;
      const process: Process = new Process((point) => {
        if (point === at && ++passed === 2) process.kill();
      });
      await scene.workIn(process);
      scene.world.clock.advance(LEASE_MS);
    }
    await scene.finish();
    assert.equal((await sessionOf(scene, id)).state, 'STOP_FAILED');
    const stage = await stageOf(scene);
    await stage.stop(id, { volumeRetentionMode: then });
    await scene.finish();
    return { scene, stage, id };
  }

  test('may have deleted them: one that keeps them then does not say that they are there', async (t) => {
    const { scene, stage, id } = await failedStop(t, 'compute.stopped');
    const { state, statusMessage, volumeRetentionMode } = await sessionOf(scene, id);
    assert.deepEqual([state, volumeRetentionMode], ['STOPPED', 'DELETE']);
    assert.match(statusMessage!, /An earlier stop had deleted its volumes/);
    await stage.start(id);
    await scene.finish();
    assert.equal((await sessionOf(scene, id)).state, 'READY');
  });

  test('is asked for once more: a backup that then finds nothing does not make it say that they are kept', async (t) => {
    const { scene, stage, id } = await failedStop(t, 'compute.stopped', 'DELETE');
    const { state, volumeRetentionMode } = await sessionOf(scene, id);
    assert.deepEqual([state, volumeRetentionMode], ['STOPPED', 'DELETE']);
    await stage.start(id);
    await scene.finish();
    assert.equal((await sessionOf(scene, id)).state, 'READY');
  });

  test('may have come to nothing: one that keeps them then does', async (t) => {
    const { scene, id } = await failedStop(t, 'compute.stop');
    const { state, volumeRetentionMode } = await sessionOf(scene, id);
    assert.deepEqual([state, volumeRetentionMode], ['STOPPED', 'RETAIN']);
    const [found] = await scene.world.compute.list();
    assert.equal(found!.hasVolume, true);
  });
});

describe('progress', () => {
  test('of a start is shown while it goes on, and gone when it has ended', async (t) => {
    for (const begin of [beginCreate, beginStart]) {
      const scene = await createScene(t);
      const id = await begin(scene);
      const held = Promise.withResolvers<void>();
      scene.world.workstations.boot = ({ onProgress }) => {
        onProgress(42.9);
        return held.promise;
      };
      const working = scene.world.worker().runOnce();
      await until('it is shown', async () => {
        t.mock.timers.tick(2_000);
        return /in progress: 42 %$/.test((await sessionOf(scene, id)).statusMessage!);
      });
      held.resolve();
      await working;
      assert.doesNotMatch((await sessionOf(scene, id)).statusMessage!, /%/);
      t.mock.timers.reset();
    }
  });
});

describe('how many at once', () => {
  test('no more sessions are started than the setting says; the others wait', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    for (let index = 0; index < 5; index += 1) await stage.ask();
    let running = 0;
    let most = 0;
    world.workstations.boot = async () => {
      running += 1;
      most = Math.max(most, running);
      await new Promise((resolve) => setImmediate(resolve));
      running -= 1;
    };
    await world.settle();
    assert.equal(most, 2);
    assert.ok((await stage.list()).every(({ state }) => state === 'READY'));
  });
});

test('a server that stops gives the start back, and the next goes on with it', async () => {
  const world = createWorld();
  const stage = await createStage(world, STOPPABLE);
  const { sessionId } = await stage.ask();
  const begun = Promise.withResolvers<void>();
  world.workstations.boot = ({ signal }) => {
    begun.resolve();
    return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  };
  const worker = world.worker();
  const working = worker.runOnce();
  await begun.promise;
  await worker.stop();
  await working;
  assert.equal((await stage.get(sessionId!)).state, 'CREATE_IN_PROGRESS');
  world.workstations.boot = async () => undefined;
  await world.settle();
  assert.equal((await stage.get(sessionId!)).state, 'READY');
});
