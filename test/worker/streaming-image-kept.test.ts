/**
 * An image that is deleted while sessions stand on it: it is DELETED for every caller at once, its key and bytes stay
 * exactly as long as there is such a session, and whichever step dies, fails, hangs or runs twice, they are never gone
 * too early and always gone in the end.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AMAZON, KIND } from '../../src/domain/kinds.ts';
import { applyToStreamingImage } from '../../src/domain/streaming-image.ts';
import { LOOK_MS } from '../../src/worker/streaming-image.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { refused } from '../support/refused.ts';
import { putProfile, putSession, putState } from '../support/rows.ts';
import { BACKED_UP, createStage } from '../support/sessions.ts';
import {
  atEveryPoint,
  createScene,
  LEASE_MS,
  NOTHING,
  processThatDiesAt,
  READABLE,
  type Scene,
  standingStill,
} from './scene.ts';

const KEPT =
  /^Streaming Image has been deleted\. Its key and disk are kept until its sessions are deleted \(1 left\)\.$/;
const GONE = /^Streaming Image has been deleted$/;
/** Longer than any wait between two attempts, and than a lease. */
const LATER_MS = LEASE_MS + 60_000;

const sessionsOn = new WeakMap<Scene, string>();

/** An image whose deletion has begun, and a session that stands on it. */
async function beginKeeping(scene: Scene): Promise<string> {
  const id = await scene.create();
  await scene.finish();
  sessionsOn.set(scene, await putSession(scene.world, scene.studioId, { state: 'STOPPED', streamingImageId: id }));
  await scene.remove(id);
  return id;
}

const endSession = ({ world }: Scene, sessionId: string) =>
  putState(world, KIND.streamingSession, sessionId, 'DELETED');

/** The same once it is DELETED and the session is, at the moment of the next look. */
async function beginReleasing(scene: Scene): Promise<string> {
  const id = await beginKeeping(scene);
  await scene.world.settle();
  await endSession(scene, sessionsOn.get(scene)!);
  scene.world.clock.advance(LOOK_MS);
  return id;
}

/** Work goes on past every lease and every wait. */
async function later({ world }: Scene): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    world.clock.advance(LATER_MS);
    await world.settle();
  }
}

async function assertDeleted(scene: Scene, id: string, says: RegExp, holdings: object, what: string): Promise<void> {
  const image = (await scene.image(id))!;
  assert.deepEqual([image.state, image.statusCode], ['DELETED', 'STREAMING_IMAGE_DELETED'], what);
  assert.match(image.statusMessage!, says, what);
  assert.deepEqual(scene.holdings(id), holdings, what);
}

test('keeping touches neither key nor bytes', async (t) => {
  const scene = await createScene(t);
  const id = await beginKeeping(scene);
  const points = await scene.trace();
  assert.deepEqual(
    points.filter((point) => !point.startsWith('store.')),
    [],
  );
  await assertDeleted(scene, id, KEPT, READABLE, 'kept');
});

test('when the last session is deleted the key goes within a look, then the bytes', async (t) => {
  const scene = await createScene(t);
  const id = await beginReleasing(scene);
  const points = await scene.trace();
  assert.deepEqual(
    points.filter((point) => !point.startsWith('store.')),
    ['keys.destroy', 'keys.destroyed', 'images.remove', 'images.removed'],
  );
  await assertDeleted(scene, id, GONE, NOTHING, 'released');
});

for (const [story, begin, says, holdings] of [
  ['keeping', beginKeeping, KEPT, READABLE],
  ['releasing', beginReleasing, GONE, NOTHING],
] as const) {
  test(`${story}: a process that dies at any point, and another at any point, leave nothing that the next cannot finish`, (t) =>
    atEveryPoint(t, begin, async (scene, id, index, point) => {
      await scene.workIn(processThatDiesAt(index));
      scene.world.clock.advance(LATER_MS);
      await scene.workIn(processThatDiesAt(index));
      await later(scene);
      await assertDeleted(scene, id, says, holdings, `killed at ${point}`);
    }));

  test(`${story}: a process that stands still at any point until others have finished changes nothing by going on`, (t) =>
    atEveryPoint(t, begin, async (scene, id, index, point) => {
      const zombie = await standingStill(scene, index);
      await later(scene);
      await zombie.goOn();
      await later(scene);
      await assertDeleted(scene, id, says, holdings, `stood still at ${point}`);
    }));
}

test('a process that stood still while it kept the image, until it was destroyed, changes nothing by going on', (t) =>
  atEveryPoint(t, beginKeeping, async (scene, id, index, point) => {
    const zombie = await standingStill(scene, index);
    await later(scene);
    await endSession(scene, sessionsOn.get(scene)!);
    await later(scene);
    await assertDeleted(scene, id, GONE, NOTHING, `before ${point}`);
    await zombie.goOn();
    await later(scene);
    await assertDeleted(scene, id, GONE, NOTHING, `after ${point}`);
  }));

test('a release that fails is tried again for as long as it takes: no caller could ask for it', async (t) => {
  const scene = await createScene(t);
  const id = await beginReleasing(scene);
  for (let round = 0; round < 2 * ATTEMPTS_MAX; round += 1) {
    await scene.work((point) => {
      if (point === 'keys.destroy') throw new Error('EIO');
    });
    await assertDeleted(scene, id, KEPT, READABLE, `round ${round}`);
    scene.world.clock.advance(LATER_MS);
  }
  await scene.work();
  await assertDeleted(scene, id, GONE, NOTHING, 'in the end');
});

test('a look that fails destroys nothing, and gives the delete up for somebody to ask again', async (t) => {
  const scene = await createScene(t);
  const id = await beginKeeping(scene);
  for (let round = 0; round < ATTEMPTS_MAX; round += 1) {
    await scene.work((point, of) => {
      if (point === 'store.list' && of === KIND.streamingSession) throw new Error('EIO');
    });
    scene.world.clock.advance(LATER_MS);
  }
  assert.equal((await scene.image(id))!.state, 'DELETE_FAILED');
  assert.deepEqual(scene.holdings(id), READABLE);
  await scene.remove(id);
  await later(scene);
  await assertDeleted(scene, id, KEPT, READABLE, 'asked again');
});

test('the message counts the sessions that are left, and a session that never came to be keeps nothing', async (t) => {
  const scene = await createScene(t);
  const id = await beginKeeping(scene);
  const other = await putSession(scene.world, scene.studioId, { state: 'START_FAILED', streamingImageId: id });
  await putSession(scene.world, scene.studioId, { state: 'CREATE_FAILED', streamingImageId: id });
  await scene.work();
  assert.match((await scene.image(id))!.statusMessage!, /\(2 left\)/);
  await endSession(scene, other);
  await later(scene);
  await assertDeleted(scene, id, KEPT, READABLE, 'one left');
  await endSession(scene, sessionsOn.get(scene)!);
  await later(scene);
  await assertDeleted(scene, id, GONE, NOTHING, 'none left');
});

test('a tombstone outlives what is kept by its whole time, and then goes', async (t) => {
  const tombstoneMs = 10 * LOOK_MS;
  const scene = await createScene(t, { tombstoneMs });
  const id = await beginKeeping(scene);
  await scene.work();
  for (let round = 0; round < 3; round += 1) {
    scene.world.clock.advance(tombstoneMs);
    await scene.world.settle();
    await assertDeleted(scene, id, KEPT, READABLE, `round ${round}`);
  }
  await endSession(scene, sessionsOn.get(scene)!);
  scene.world.clock.advance(LOOK_MS);
  await scene.world.settle();
  scene.world.clock.advance(tombstoneMs - 1);
  await scene.world.settle();
  await assertDeleted(scene, id, GONE, NOTHING, 'in its time');
  scene.world.clock.advance(1);
  await scene.world.settle();
  assert.equal(await scene.image(id), undefined);
});

test('a session that never came to be and is deleted late does not bring back what is destroyed', async (t) => {
  const scene = await createScene(t, { tombstoneMs: LOOK_MS });
  const id = await scene.create();
  await scene.finish();
  const failed = await putSession(scene.world, scene.studioId, { state: 'CREATE_FAILED', streamingImageId: id });
  await scene.remove(id);
  await scene.work();
  await assertDeleted(scene, id, GONE, NOTHING, 'destroyed');
  await putState(scene.world, KIND.streamingSession, failed, 'DELETE_FAILED');
  scene.world.clock.advance(LOOK_MS);
  await scene.work();
  assert.equal(await scene.image(id), undefined);
});

test('upkeep leaves alone what is kept, and takes what no session stands on', async (t) => {
  const scene = await createScene(t);
  const id = await beginKeeping(scene);
  await scene.work();
  await scene.upkeep();
  assert.deepEqual(scene.holdings(id), READABLE);
  await endSession(scene, sessionsOn.get(scene)!);
  await scene.upkeep();
  assert.deepEqual(scene.holdings(id), NOTHING);
  await later(scene);
  await assertDeleted(scene, id, GONE, NOTHING, 'after the next look');
});

test('a provided image is kept for sessions of any studio, and does not tell how many others have', async (t) => {
  const scene = await createScene(t);
  const { store } = scene.world;
  const id = await scene.create();
  await scene.finish();
  const ids: string[] = [];
  for (let studio = 0; studio < 2; studio += 1) {
    const studioId = await scene.world.makeStudio();
    ids.push(await putSession(scene.world, studioId, { state: 'STOPPED', streamingImageId: id }));
  }
  const row = (await store.get(KIND.streamingImage, id))!;
  await store.write([{ op: 'delete', kind: row.kind, id, version: row.version }]);
  const deleted = applyToStreamingImage(row, { type: 'delete' }, scene.world.services);
  await store.write([{ op: 'insert', row: { ...deleted, studioId: AMAZON, version: 1 } }]);
  const untold = /are kept until its sessions are deleted\.$/;
  for (const sessionId of ids) {
    await later(scene);
    await assertDeleted(scene, id, untold, READABLE, sessionId);
    await endSession(scene, sessionId);
  }
  await later(scene);
  await assertDeleted(scene, id, GONE, NOTHING, 'none left');
});

test('sessions of a deleted image go on: stopped, backed up, started, started from a backup; no new one is made of it', async (t) => {
  const scene = await createScene(t);
  const { world, studioId } = scene;
  const stage = await createStage(world, BACKED_UP);
  const input = { studioId: stage.studioId, streamingImageId: stage.streamingImageId };
  const sessionId = await stage.create();
  await world.call('DeleteStreamingImage', input);
  assert.notEqual(studioId, stage.studioId);
  const settledIn = async (state: string) => {
    await world.settle();
    const session = await stage.get(sessionId);
    assert.equal(session.state, state, String(session.statusMessage));
  };
  // While the deletion is under way, and after it.
  for (let round = 0; round < 2; round += 1) {
    await stage.stop(sessionId);
    await settledIn('STOPPED');
    const [backup] = (await stage.backups()).filter(({ state }) => state === 'READY');
    await stage.start(sessionId, round === 0 ? {} : { backupId: backup!.backupId! });
    await settledIn('READY');
    const { state } = (await world.store.get(KIND.streamingImage, input.streamingImageId))!;
    assert.equal(state, 'DELETED');
    await refused(stage.ask(), 'ResourceNotFoundException');
  }
  await stage.remove(sessionId);
  await later(scene);
  await assertDeleted(scene, input.streamingImageId, GONE, NOTHING, 'none left');
});

test('a session that was accepted before its image was deleted still comes to be', async (t) => {
  const { world } = await createScene(t);
  const stage = await createStage(world);
  const { sessionId } = await stage.ask();
  await world.call('DeleteStreamingImage', { studioId: stage.studioId, streamingImageId: stage.streamingImageId });
  await world.settle();
  assert.equal((await stage.get(sessionId!)).state, 'READY');
});

test('a studio is deleted once its sessions are, though the tombstones of images that were kept are still there', async (t) => {
  const scene = await createScene(t);
  const id = await beginKeeping(scene);
  await scene.world.settle();
  const launchProfileId = await putProfile(scene.world, scene.studioId);
  const held = await putSession(
    scene.world,
    scene.studioId,
    { state: 'STOPPED', streamingImageId: id },
    { parentId: launchProfileId },
  );
  await scene.world.call('DeleteLaunchProfile', { studioId: scene.studioId, launchProfileId });
  await scene.world.settle();
  await scene.world.call('DeleteStudio', { studioId: scene.studioId });
  await scene.world.settle();
  assert.equal((await scene.world.store.get(KIND.studio, scene.studioId))!.state, 'DELETE_FAILED');
  for (const sessionId of [held, sessionsOn.get(scene)!]) await endSession(scene, sessionId);
  await scene.world.call('DeleteLaunchProfile', { studioId: scene.studioId, launchProfileId });
  await scene.world.settle();
  await scene.world.call('DeleteStudio', { studioId: scene.studioId });
  await scene.world.settle();
  assert.equal((await scene.world.store.get(KIND.studio, scene.studioId))!.state, 'DELETED');
  await later(scene);
  await assertDeleted(scene, id, GONE, NOTHING, 'after its studio');
});
