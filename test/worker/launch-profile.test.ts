/**
 * The work behind a launch profile: it comes to its end whichever process dies or stands still on the way, a change that
 * cannot stand is taken back, and members go with the profile and not before.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { Process } from '../support/process.ts';
import { newProfileInput, putMember, putState } from '../support/rows.ts';
import { createScene, LEASE_MS, processHeldAt, processThatDiesAt, type Scene } from './scene.ts';

const KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';
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

/** A studio under a key that was there when it was made. */
async function studioWithoutKey(scene: Scene): Promise<string> {
  scene.world.keys.customerKeys.add(KEY);
  const studioId = await scene.world.makeStudio({
    studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY },
  });
  scene.world.keys.customerKeys.delete(KEY);
  return studioId;
}

/** What is begun in each, the status it comes to, and the name it then has. */
const STORIES: Record<
  string,
  { begin: (scene: Scene) => Promise<string>; ends: [string, string]; description?: string }
> = {
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

/** States whose rows go by themselves after a while. */
const PASSING = ['DELETED', 'CREATE_FAILED'];

for (const [story, { begin, ends, description: expected = 'as made' }] of Object.entries(STORIES)) {
  const assertEnded = async (scene: Scene, id: string, what: string) => {
    const { state, statusCode, description } = (await profileOf(scene, id))!;
    assert.deepEqual([state, statusCode, description], [...ends, expected], what);
    const row = (await scene.world.store.get(KIND.launchProfile, id))!;
    assert.equal(row.attempts, 0, what);
    assert.equal(row.dueAt !== null, PASSING.includes(state!), what);
    assert.equal(row.private, '{}', what);
  };

  test(`${story} ends in ${ends.join(' ')}, also when the process dies or stands still at any point`, async (t) => {
    const first = await createScene(t);
    const id = await begin(first);
    const points = await first.trace();
    await assertEnded(first, id, 'undisturbed');
    t.mock.timers.reset();
    for (const [index, point] of points.entries()) {
      for (const dies of [true, false]) {
        const scene = await createScene(t);
        const profileId = await begin(scene);
        const zombie = processHeldAt(index);
        const ended = scene.workIn(dies ? processThatDiesAt(index) : zombie.process);
        await (dies ? ended : zombie.reached);
        scene.world.clock.advance(LEASE_MS);
        await scene.finish();
        await assertEnded(scene, profileId, `before ${point}`);
        zombie.release();
        await ended;
        await assertEnded(scene, profileId, `after ${point}`);
        t.mock.timers.reset();
      }
    }
  });
}

/** Work on it takes its process with it, as often as it is tried. */
async function killEveryAttempt(scene: Scene): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const process: Process = new Process((point) => {
      if (point === 'store.write') process.kill();
    });
    await scene.workIn(process);
    scene.world.clock.advance(LEASE_MS);
  }
}

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
  let writes = 0;
  const process: Process = new Process((point) => {
    if (point !== 'store.write') return;
    writes += 1;
    if (writes === 2) process.kill();
  });
  await scene.workIn(process);
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
  let deletion: Promise<unknown> | undefined;
  await scene.work(async (point, op) => {
    if (point !== 'store.write' || op !== 'delete') return;
    deletion ??= remove(scene, deleted);
    await deletion;
  });
  assert.equal(await profileOf(scene, left), undefined);
  assert.equal((await profileOf(scene, deleted))!.state, 'DELETE_IN_PROGRESS');
  await scene.finish();
  assert.equal((await profileOf(scene, deleted))!.state, 'DELETED');
});
