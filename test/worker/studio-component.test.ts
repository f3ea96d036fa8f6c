/**
 * The work behind a component: it comes to its end whichever process dies or stands still on the way, it is given up only
 * where that leaves everything as it was, and what failed goes by itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createScene, type Scene } from './scene.ts';
import {
  deleteDuringPurge,
  killEveryAttempt,
  SEALED,
  type Story,
  studioWithoutKey,
  testFailingKeyService,
  testStories,
} from './stories.ts';

interface One {
  readonly studioComponent: StudioComponent;
}

async function create(scene: Scene, input: object = {}, studioId = scene.studioId): Promise<string> {
  const call = { studioId, name: 'n', type: 'CUSTOM', ...input };
  return (await scene.world.call<One>('CreateStudioComponent', call)).studioComponent.studioComponentId!;
}

async function ready(scene: Scene, input: object = {}): Promise<string> {
  const id = await create(scene, input);
  await scene.finish();
  return id;
}

async function componentOf(scene: Scene, id: string): Promise<StudioComponent | undefined> {
  const row = await scene.world.store.get(KIND.studioComponent, id);
  return row && (JSON.parse(row.doc) as StudioComponent);
}

/** What is begun in each, and the status it comes to. */
const STORIES: Record<string, Story> = {
  creating: {
    begin: (scene) => create(scene, { type: 'SHARED_FILE_SYSTEM' }),
    ends: ['READY', 'STUDIO_COMPONENT_CREATED'],
  },
  'creating a second Active Directory': {
    begin: async (scene) => {
      await ready(scene, { type: 'ACTIVE_DIRECTORY' });
      return create(scene, { type: 'ACTIVE_DIRECTORY' });
    },
    ends: ['CREATE_FAILED', 'ACTIVE_DIRECTORY_ALREADY_EXISTS'],
  },
  'creating under a key that is not there': {
    begin: async (scene) => create(scene, {}, await studioWithoutKey(scene)),
    ends: ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND'],
  },
  updating: {
    begin: async (scene) => {
      const studioComponentId = await ready(scene);
      const call = { studioId: scene.studioId, studioComponentId, type: 'ACTIVE_DIRECTORY' };
      await scene.world.call('UpdateStudioComponent', call);
      return studioComponentId;
    },
    ends: ['READY', 'STUDIO_COMPONENT_UPDATED'],
  },
  'updating into a second Active Directory': {
    begin: async (scene) => {
      await ready(scene, { type: 'ACTIVE_DIRECTORY' });
      const studioComponentId = await ready(scene);
      const call = { studioId: scene.studioId, studioComponentId, type: 'ACTIVE_DIRECTORY' };
      await scene.world.call('UpdateStudioComponent', call);
      return studioComponentId;
    },
    ends: ['UPDATE_FAILED', 'ACTIVE_DIRECTORY_ALREADY_EXISTS'],
  },
  deleting: {
    begin: async (scene) => {
      const studioComponentId = await ready(scene, { type: 'ACTIVE_DIRECTORY' });
      await scene.world.call('DeleteStudioComponent', { studioId: scene.studioId, studioComponentId });
      return studioComponentId;
    },
    ends: ['DELETED', 'STUDIO_COMPONENT_DELETED'],
  },
};

const PASSING = ['DELETED', 'CREATE_FAILED'];

testStories({
  kind: KIND.studioComponent,
  stories: STORIES,
  passing: PASSING,
  alsoEnded: (row, _story, what) => {
    assert.equal(row.private, '{}', what);
    if (PASSING.includes(row.state)) assert.equal(row.uniqueName, null, 'it is in the way of no other');
  },
});

test('a create that has no outcome fails in the end, and takes no seat', async (t) => {
  const scene = await createScene(t);
  const id = await create(scene, { type: 'ACTIVE_DIRECTORY' });
  await killEveryAttempt(scene);
  await scene.work();
  const { state, statusCode } = (await componentOf(scene, id))!;
  assert.deepEqual([state, statusCode], ['CREATE_FAILED', 'INTERNAL_ERROR']);
  const second = await ready(scene, { type: 'ACTIVE_DIRECTORY' });
  assert.equal((await componentOf(scene, second))!.state, 'READY');
});

test('a delete that has no outcome fails in the end, keeps everything, and can be sent again', async (t) => {
  const scene = await createScene(t);
  const studioComponentId = await ready(scene, { type: 'ACTIVE_DIRECTORY' });
  const remove = () => scene.world.call('DeleteStudioComponent', { studioId: scene.studioId, studioComponentId });
  await remove();
  await killEveryAttempt(scene);
  await scene.work();
  const { state, statusCode, statusMessage } = (await componentOf(scene, studioComponentId))!;
  assert.deepEqual([state, statusCode], ['DELETE_FAILED', 'INTERNAL_ERROR']);
  assert.match(statusMessage!, /log/);
  const second = await ready(scene, { type: 'ACTIVE_DIRECTORY' });
  assert.equal((await componentOf(scene, second))!.state, 'CREATE_FAILED');
  await remove();
  await scene.finish();
  assert.equal((await componentOf(scene, studioComponentId))!.state, 'DELETED');
});

test('an update is never given up: what was answered stands', async (t) => {
  const scene = await createScene(t);
  const studioComponentId = await ready(scene);
  await scene.world.call('UpdateStudioComponent', { studioId: scene.studioId, studioComponentId, name: 'new' });
  await killEveryAttempt(scene);
  await killEveryAttempt(scene);
  await scene.finish();
  const { state, name } = (await componentOf(scene, studioComponentId))!;
  assert.deepEqual([state, name], ['READY', 'new']);
});

testFailingKeyService({
  kind: KIND.studioComponent,
  one: 'a component',
  create: async (scene, name) => create(scene, { name }, await scene.world.makeStudio(SEALED)),
});

test('what could not be created goes when its time is over, unless it is being deleted just then', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 600_000 });
  await ready(scene, { type: 'ACTIVE_DIRECTORY' });
  const [left, deleted] = [
    await ready(scene, { type: 'ACTIVE_DIRECTORY' }),
    await ready(scene, { type: 'ACTIVE_DIRECTORY' }),
  ];
  scene.world.clock.advance(600_000);
  const call = { studioId: scene.studioId, studioComponentId: deleted };
  await deleteDuringPurge(scene, () => scene.world.call('DeleteStudioComponent', call));
  assert.equal(await componentOf(scene, left), undefined);
  assert.equal((await componentOf(scene, deleted))!.state, 'DELETE_IN_PROGRESS');
  await scene.finish();
  assert.equal((await componentOf(scene, deleted))!.state, 'DELETED');
});
