/**
 * The work behind a launch profile: it comes to its end whichever process dies or stands still on the way, a change that
 * cannot stand is taken back, and members go with the profile and not before.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { newProfileInput, putMember, putState } from '../support/rows.ts';
import { createScene, LEASE_MS, type Scene } from './scene.ts';
import {
  deleteDuringPurge,
  dieInSecondWrite,
  KEY,
  killEveryAttempt,
  type Story,
  studioWithoutKey,
  testStories,
} from './stories.ts';

const ABSENT = 'AAAAAAAAAAAAAAAAAAAAAA';

interface One {
  readonly launchProfile: LaunchProfile;
}

async function create(scene: Scene, configuration: object = {}, studioId = scene.studioId): Promise<string> {
  const input = await newProfileInput(scene.world, studioId);
  const streamConfiguration = { ...input.streamConfiguration, ...configuration };
  const call = { studioId, ...input, streamConfiguration, description: 'as made' };
  return (await scene.world.call<One>('CreateLaunchProfile', call)).launchProfile.launchProfileId!;
}

async function ready(scene: Scene): Promise<string> {
  const id = await create(scene);
  await scene.finish();
  return id;
}

async function update(scene: Scene, launchProfileId: string, input: object): Promise<void> {
  await scene.world.call('UpdateLaunchProfile', { studioId: scene.studioId, launchProfileId, ...input });
}

async function remove(scene: Scene, launchProfileId: string): Promise<void> {
  await scene.world.call('DeleteLaunchProfile', { studioId: scene.studioId, launchProfileId });
}

async function profileOf(scene: Scene, id: string): Promise<LaunchProfile | undefined> {
  const row = await scene.world.store.get(KIND.launchProfile, id);
  return row && (JSON.parse(row.doc) as LaunchProfile);
}

/** What is begun in each, the status it comes to, and the description it then has. */
const STORIES: Record<string, Story & { readonly description?: string }> = {
  creating: { begin: (scene) => create(scene), ends: ['READY', 'LAUNCH_PROFILE_CREATED'] },
  'creating with an image that is not there': {
    begin: (scene) => create(scene, { streamingImageIds: [ABSENT] }),
    ends: ['CREATE_FAILED', 'STREAMING_IMAGE_NOT_FOUND'],
  },
  'creating under a key that is not there': {
    begin: async (scene) => create(scene, {}, await studioWithoutKey(scene)),
    ends: ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND'],
  },
  updating: {
    begin: async (scene) => {
      const id = await ready(scene);
      await update(scene, id, { description: 'new' });
      return id;
    },
    ends: ['READY', 'LAUNCH_PROFILE_UPDATED'],
    description: 'new',
  },
  'updating to an image that is not READY': {
    begin: async (scene) => {
      const id = await ready(scene);
      const [image] = (await profileOf(scene, id))!.streamConfiguration!.streamingImageIds;
      await putState(scene.world, KIND.streamingImage, image!, 'DELETE_IN_PROGRESS');
      await update(scene, id, { description: 'new' });
      return id;
    },
    ends: ['UPDATE_FAILED', 'STREAMING_IMAGE_NOT_READY'],
  },
  deleting: {
    begin: async (scene) => {
      const id = await ready(scene);
      await remove(scene, id);
      return id;
    },
    ends: ['DELETED', 'LAUNCH_PROFILE_DELETED'],
  },
  'deleting one with a session': {
    begin: async (scene) => {
      const { world, studioId } = scene;
      const parentId = await ready(scene);
      const session = { kind: KIND.streamingSession, id: 'session', studioId, parentId, createdAt: 0, doc: '{}' };
      await world.store.write([{ op: 'insert', row: newRow({ ...session, state: 'READY' }) }]);
      await remove(scene, parentId);
      return parentId;
    },
    ends: ['DELETE_FAILED', 'LAUNCH_PROFILE_WITH_STREAM_SESSIONS_NOT_DELETED'],
  },
};

testStories({
  kind: KIND.launchProfile,
  stories: STORIES,
  passing: ['DELETED', 'CREATE_FAILED'],
  alsoEnded: (row, { description: expected = 'as made' }, what) => {
    assert.equal((JSON.parse(row.doc) as LaunchProfile).description, expected, what);
    assert.equal(row.private, '{}', what);
  },
});

for (const [what, begin, state] of [
  ['a create', (scene: Scene) => create(scene), 'CREATE_FAILED'],
  [
    'an update',
    async (scene: Scene) => {
      const id = await ready(scene);
      await update(scene, id, { description: 'new' });
      return id;
    },
    'UPDATE_FAILED',
  ],
  [
    'a delete',
    async (scene: Scene) => {
      const id = await ready(scene);
      await putMember(scene.world, scene.studioId, 'ann', id);
      await remove(scene, id);
      return id;
    },
    'DELETE_FAILED',
  ],
] as const) {
  test(`${what} that has no outcome fails in the end, and leaves what stood`, async (t) => {
    const scene = await createScene(t);
    const id = await begin(scene);
    await killEveryAttempt(scene);
    await scene.work();
    const profile = (await profileOf(scene, id))!;
    assert.deepEqual([profile.state, profile.statusCode], [state, 'INTERNAL_ERROR']);
    assert.match(profile.statusMessage!, /log/);
    assert.equal(profile.description, 'as made');
    assert.equal((await scene.world.store.get(KIND.launchProfile, id))!.private, '{}');
    const members = { kind: KIND.launchProfileMember, parentId: id, limit: 9 };
    assert.equal(await scene.world.store.count(members), what === 'a delete' ? 1 : 0);
    await remove(scene, id);
    await scene.finish();
    assert.equal((await profileOf(scene, id))!.state, 'DELETED');
  });
}

test('a key service that fails for a while delays an update, and fails it only in the end, without its words', async (t) => {
  const scene = await createScene(t);
  const studioId = await studioWithoutKey(scene);
  scene.world.keys.customerKeys.add(KEY);
  const launchProfileId = await create(scene, {}, studioId);
  await scene.finish();
  const fail = (point: string) => {
    if (point === 'keys.describe') throw new Error('EIO: not for callers');
  };
  const begin = () => scene.world.call('UpdateLaunchProfile', { studioId, launchProfileId, description: 'new' });
  await begin();
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    assert.equal((await profileOf(scene, launchProfileId))!.state, 'UPDATE_IN_PROGRESS');
    await scene.work(fail);
    scene.world.clock.advance(60_000);
  }
  const failed = (await profileOf(scene, launchProfileId))!;
  assert.deepEqual(
    [failed.state, failed.statusCode, failed.description],
    ['UPDATE_FAILED', 'INTERNAL_ERROR', 'as made'],
  );
  assert.ok(!failed.statusMessage!.includes('EIO'));
  await begin();
  await scene.work(fail);
  await scene.finish();
  const mended = (await profileOf(scene, launchProfileId))!;
  assert.deepEqual([mended.state, mended.description], ['READY', 'new']);
});

test('a purge deletes all members of the profile, in bounded writes, and another profile keeps its own', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 60_000 });
  const { world, studioId } = scene;
  const [id, other] = [await ready(scene), await ready(scene)];
  for (let index = 0; index < 450; index += 1) await putMember(world, studioId, `user${index}`, id);
  await putMember(world, studioId, 'user0', other);
  await remove(scene, id);
  await scene.finish();
  const count = (parentId: string) => world.store.count({ kind: KIND.launchProfileMember, parentId, limit: 1_000 });
  assert.equal(await count(id), 450, 'the tombstone still has them');
  world.clock.advance(60_000);

  // A process that dies in the middle of it leaves the profile, so that the rest is found.
  await dieInSecondWrite(scene);
  assert.ok((await count(id)) > 0 && (await count(id)) < 450);
  assert.equal((await profileOf(scene, id))!.state, 'DELETED');

  world.clock.advance(LEASE_MS);
  await scene.finish();
  await world.settle();
  assert.deepEqual([await count(id), await count(other), await profileOf(scene, id)], [0, 1, undefined]);
});

test('what could not be created goes when its time is over, unless it is being deleted just then', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 600_000 });
  const failing = { streamingImageIds: [ABSENT] };
  const [left, deleted] = [await create(scene, failing), await create(scene, failing)];
  await scene.finish();
  scene.world.clock.advance(600_000);
  await deleteDuringPurge(scene, () => remove(scene, deleted));
  assert.equal(await profileOf(scene, left), undefined);
  assert.equal((await profileOf(scene, deleted))!.state, 'DELETE_IN_PROGRESS');
  await scene.finish();
  assert.equal((await profileOf(scene, deleted))!.state, 'DELETED');
});
