/**
 * The work behind a studio: it is set up, changed or deleted whichever process dies on the way, and it never keeps its
 * name when it has failed to come into being.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Studio } from '../../src/contract/studio.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { putAcceptance, putElsewhere, putImage, putState } from '../support/rows.ts';
import { createScene, LEASE_MS, type Scene } from './scene.ts';
import { dieInSecondWrite, KEY, SEALED, type Story, testFailingKeyService, testStories } from './stories.ts';

const CREATE = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd', studioName: 'alpha' };

async function create(scene: Scene, input: object = {}): Promise<string> {
  const { studio } = await scene.world.call<{ studio: Studio }>('CreateStudio', { ...CREATE, ...input });
  return studio.studioId!;
}

async function studioOf(scene: Scene, id: string): Promise<Studio | undefined> {
  const row = await scene.world.store.get(KIND.studio, id);
  return row && (JSON.parse(row.doc) as Studio);
}

/** What is begun in each, and the status it comes to. */
const STORIES: Record<string, Story> = {
  'setting up': {
    begin: (scene) => {
      scene.world.keys.customerKeys.add(KEY);
      return create(scene, SEALED);
    },
    ends: ['READY', 'STUDIO_CREATED'],
  },
  'setting up with a key that is not there': {
    begin: (scene) => create(scene, SEALED),
    ends: ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND'],
  },
  updating: {
    begin: async (scene) => {
      await scene.world.call('UpdateStudio', { studioId: scene.studioId, displayName: 'new' });
      return scene.studioId;
    },
    ends: ['READY', 'STUDIO_UPDATED'],
  },
  repairing: {
    begin: async (scene) => {
      await putElsewhere(scene.world, scene.studioId);
      await scene.world.call('StartStudioSSOConfigurationRepair', { studioId: scene.studioId });
      return scene.studioId;
    },
    ends: ['READY', 'AWS_SSO_CONFIGURATION_REPAIRED'],
  },
  deleting: {
    begin: async (scene) => {
      await scene.world.call('DeleteStudio', { studioId: scene.studioId });
      return scene.studioId;
    },
    ends: ['DELETED', 'STUDIO_DELETED'],
  },
  'deleting one with an image': {
    begin: async (scene) => {
      await putImage(scene.world, scene.studioId);
      await scene.world.call('DeleteStudio', { studioId: scene.studioId });
      return scene.studioId;
    },
    ends: ['DELETE_FAILED', 'STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED'],
  },
};

testStories({ kind: KIND.studio, stories: STORIES, passing: ['DELETED'] });

test('a key that is not there is named, and how to make one is said', async (t) => {
  const scene = await createScene(t);
  const id = await create(scene, SEALED);
  await scene.work();
  const { statusMessage } = (await studioOf(scene, id))!;
  assert.match(statusMessage!, /key\/1/);
  assert.match(statusMessage!, /backlot key create/);
});

testFailingKeyService({
  kind: KIND.studio,
  one: 'a studio',
  create: (scene, studioName) => create(scene, { ...SEALED, studioName }),
});

for (const [why, at] of [
  ['its key is not there', () => undefined],
  [
    'the server failed',
    (point: string) => {
      if (point === 'keys.describe') throw new Error('EIO');
    },
  ],
] as const) {
  test(`a studio that could not be set up because ${why} gives its name back, and can be deleted`, async (t) => {
    const scene = await createScene(t);
    const failed = await create(scene, SEALED);
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      await scene.work(at);
      scene.world.clock.advance(60_000);
    }
    assert.equal((await studioOf(scene, failed))!.state, 'CREATE_FAILED');
    const second = await create(scene);
    await scene.finish();
    assert.equal((await studioOf(scene, second))!.state, 'READY');
    await scene.world.call('DeleteStudio', { studioId: failed });
    await scene.finish();
    assert.equal((await studioOf(scene, failed))!.state, 'DELETED');
    assert.equal((await studioOf(scene, second))!.state, 'READY');
  });
}

test('an image that comes to an end while its studio is being looked at decides nothing twice', async (t) => {
  const scene = await createScene(t);
  const id = await putImage(scene.world, scene.studioId);
  await scene.world.call('DeleteStudio', { studioId: scene.studioId });
  await scene.work(async (point, kind) => {
    if (point === 'store.count done' && kind === KIND.streamingImage) {
      await putState(scene.world, KIND.streamingImage, id, 'DELETED');
    }
  });
  assert.equal((await studioOf(scene, scene.studioId))!.state, 'DELETE_FAILED');
  await scene.world.call('DeleteStudio', { studioId: scene.studioId });
  await scene.finish();
  assert.equal((await studioOf(scene, scene.studioId))!.state, 'DELETED');
});

test('a purge deletes all acceptances of the studio, in bounded writes, and another studio keeps its own', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 60_000 });
  const other = await create(scene);
  await scene.finish();
  for (let index = 0; index < 450; index += 1) await putAcceptance(scene.world, scene.studioId, `eula${index}`);
  await putAcceptance(scene.world, other, 'eula0');
  await scene.world.call('DeleteStudio', { studioId: scene.studioId });
  await scene.finish();
  scene.world.clock.advance(60_000);
  const count = (studioId: string) =>
    scene.world.store.count({ kind: KIND.eulaAcceptance, studioIds: [studioId], limit: 1_000 });

  // A process that dies in the middle of it leaves the studio, so that the rest is found.
  await dieInSecondWrite(scene);
  assert.ok((await count(scene.studioId)) > 0 && (await count(scene.studioId)) < 450);
  assert.equal((await studioOf(scene, scene.studioId))!.state, 'DELETED');

  scene.world.clock.advance(LEASE_MS);
  await scene.finish();
  await scene.world.settle();
  assert.equal(await count(scene.studioId), 0);
  assert.equal(await studioOf(scene, scene.studioId), undefined);
  assert.equal(await count(other), 1);
});
