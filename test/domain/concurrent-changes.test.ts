/**
 * Calls that meet: nothing acknowledged is lost, limits hold, and what changed between a decision and its write is
 * decided again. Another process is played by a second connection to the same database.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { DomainSettings } from '../../src/domain/context.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { STREAMS_PER_SESSION_MAX } from '../../src/domain/streaming-session-stream.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Store, Write } from '../../src/store/store.ts';
import { createWorld, SETTINGS, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { refused } from '../support/refused.ts';
import { arnOfImage, putComponent, putEula, putImage, putState } from '../support/rows.ts';
import { createStage } from '../support/sessions.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const ROLES = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd' };

function succeeded(outcomes: PromiseSettledResult<unknown>[]): number {
  return outcomes.filter(({ status }) => status === 'fulfilled').length;
}

async function assertAllRefused(
  outcomes: PromiseSettledResult<unknown>[],
  ...refusal: ['ConflictException' | 'ServiceQuotaExceededException', string]
) {
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') await refused(Promise.reject(outcome.reason), ...refusal);
  }
}

/** A world whose every write can be preceded by what another connection does. */
function worldBesideAnother(t: TestContext, settings: Partial<DomainSettings> = {}) {
  const path = join(temporaryDirectory(t), 'db.sqlite');
  const other = openSqlite({ path, now: () => 0 });
  const own = openSqlite({ path, now: () => 0 });
  t.after(async () => {
    await own.close();
    await other.close();
  });
  const hooks = { beforeWrite: async (_batch: readonly Write[]): Promise<void> => undefined };
  const world = createWorld({ store: intercepted(own, (batch) => hooks.beforeWrite(batch)), seed: t.name, settings });
  return { world, other, hooks };
}

async function bump(store: Store, kind: string, id: string): Promise<void> {
  const row = (await store.get(kind, id))!;
  await store.write([{ op: 'update', row: { ...row, version: row.version + 1 } }]);
}

async function docOf(world: World, id: string) {
  return JSON.parse((await world.store.get(KIND.streamingImage, id))!.doc);
}

test('of creates that meet at the quota, as many succeed as there is room, and never one more', async () => {
  const world = createWorld({ settings: { streamingImagesMax: 7 } });
  const studioId = await world.makeStudio();
  await putImage(world, studioId);
  await putImage(world, studioId);
  const creates = Array.from({ length: 30 }, (_, index) =>
    world.call('CreateStreamingImage', { studioId, name: `image ${index}`, ec2ImageId: 'ami-1' }),
  );
  const outcomes = await Promise.allSettled(creates);
  assert.equal(succeeded(outcomes), 5);
  await assertAllRefused(outcomes, 'ServiceQuotaExceededException', 'STREAMING_IMAGES_PER_STUDIO');
  assert.equal(await world.store.count({ kind: KIND.streamingImage, limit: 100 }), 7);
});

test('sessions of one owner, created by two processes at once, keep the quota of owners', async (t) => {
  const { world, other } = worldBesideAnother(t, { sessionsPerOwnerMax: 3 });
  const { studioId, launchProfileId } = await createStage(world);
  const beside = createWorld({ store: other, seed: 'beside', settings: { sessionsPerOwnerMax: 3 } });
  const create = (index: number) =>
    (index % 2 ? world : beside).call('CreateStreamingSession', { studioId, launchProfileId, ownedBy: 'ann' });
  const outcomes = await Promise.allSettled(Array.from({ length: 12 }, (_, index) => create(index)));
  assert.equal(succeeded(outcomes), 3);
  await assertAllRefused(outcomes, 'ServiceQuotaExceededException', 'STREAMING_SESSIONS_PER_OWNER');
});

test('streams of a session that another process creates at the same moment count for its quota', async (t) => {
  const { world, other, hooks } = worldBesideAnother(t);
  const stage = await createStage(world);
  const sessionId = await stage.create();
  const beside = createWorld({ store: other, seed: 'beside' });
  const input = { studioId: stage.studioId, sessionId };
  for (let made = 1; made < STREAMS_PER_SESSION_MAX; made += 1) await stage.stream(sessionId);
  hooks.beforeWrite = async () => {
    hooks.beforeWrite = async () => undefined;
    await beside.call('CreateStreamingSessionStream', input);
  };
  await refused(stage.stream(sessionId), 'ServiceQuotaExceededException', 'STREAMS_PER_SESSION');
  const query = { kind: KIND.streamingSessionStream, parentId: sessionId, limit: 100 };
  assert.equal(await other.count(query), STREAMS_PER_SESSION_MAX);
});

test('creates of two processes at once keep the quota too', async (t) => {
  const { world, other } = worldBesideAnother(t);
  const studioId = await world.makeStudio();
  const beside = createWorld({ store: other, seed: 'beside' });
  const outcomes = await Promise.allSettled(
    Array.from({ length: 24 }, (_, index) =>
      (index % 2 ? world : beside).call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: 'ami-1' }),
    ),
  );
  assert.equal(succeeded(outcomes), SETTINGS.streamingImagesMax);
  assert.equal(await other.count({ kind: KIND.streamingImage, limit: 100 }), SETTINGS.streamingImagesMax);
});

test('creates and updates of two processes at once keep the quotas of components too', async (t) => {
  const { world, other } = worldBesideAnother(t);
  const studioId = await world.makeStudio();
  const beside = createWorld({ store: other, seed: 'beside' });
  const changing = [await putComponent(world, studioId), await putComponent(world, studioId)];
  const quotas = { SHARED_FILE_SYSTEM: SETTINGS.sharedFileSystemsMax, ACTIVE_DIRECTORY: 1 };
  for (const [type, quota] of Object.entries(quotas)) {
    const creates = Array.from({ length: 16 }, (_, index) =>
      (index % 2 ? world : beside).call('CreateStudioComponent', { studioId, name: 'n', type }),
    );
    const updates = changing.map((studioComponentId, index) =>
      (index % 2 ? world : beside).call('UpdateStudioComponent', { studioId, studioComponentId, type }),
    );
    await Promise.allSettled([...creates, ...updates]);
    await world.settle();
    const rows = await other.list({ kind: KIND.studioComponent, studioIds: [studioId], limit: 100 });
    const live = rows.filter(({ state, doc }) => state !== 'CREATE_FAILED' && JSON.parse(doc).type === type);
    assert.equal(live.length, quota, type);
    assert.equal(new Set(live.map(({ uniqueName }) => uniqueName)).size, quota);
  }
});

test('of creates of studios with one name, one wins', async (t) => {
  const { world, other } = worldBesideAnother(t);
  const beside = createWorld({ store: other, seed: 'beside' });
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10 }, (_, index) =>
      (index % 2 ? world : beside).call('CreateStudio', { ...ROLES, studioName: 'alpha' }),
    ),
  );
  assert.equal(succeeded(outcomes), 1);
  await assertAllRefused(outcomes, 'ConflictException', 'STUDIO_NAME_TAKEN');
  assert.equal(await world.store.count({ kind: KIND.studio, limit: 100 }), 1);
});

test('two updates at once both succeed, one after the other, and neither is lost', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { name: 'old', description: 'old' });
  const { version } = (await world.store.get(KIND.streamingImage, streamingImageId))!;
  await Promise.all([
    world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'new' }),
    world.call('UpdateStreamingImage', { studioId, streamingImageId, description: 'new' }),
    world.call('TagResource', { resourceArn: arnOfImage(streamingImageId), tags: { a: '1' } }),
  ]);
  const { name, description, tags } = await docOf(world, streamingImageId);
  assert.deepEqual({ name, description, tags }, { name: 'new', description: 'new', tags: { a: '1' } });
  assert.equal((await world.store.get(KIND.streamingImage, streamingImageId))!.version, version + 3);
});

test('of two updates of one member at once, the one that is answered last stands', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  const answered: string[] = [];
  await Promise.all(
    ['one', 'two', 'three'].map(async (name) => {
      await world.call('UpdateStreamingImage', { studioId, streamingImageId, name });
      answered.push(name);
    }),
  );
  assert.equal((await docOf(world, streamingImageId)).name, answered.at(-1));
});

test('an update that another process overtakes is decided again and loses nothing of either', async (t) => {
  const { world, other, hooks } = worldBesideAnother(t);
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { name: 'old', description: 'old' });
  const beside = createWorld({ store: other });
  let overtakings = 0;
  hooks.beforeWrite = async () => {
    if (overtakings === 3) return;
    overtakings += 1;
    await beside.call('UpdateStreamingImage', { studioId, streamingImageId, description: `other ${overtakings}` });
  };
  await world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'own' });
  const { name, description } = await docOf(world, streamingImageId);
  assert.deepEqual({ name, description }, { name: 'own', description: 'other 3' });
});

test('an update that is overtaken again and again is given up as a conflict, and changes nothing', async (t) => {
  const { world, other, hooks } = worldBesideAnother(t);
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { name: 'old' });
  hooks.beforeWrite = () => bump(other, KIND.streamingImage, streamingImageId);
  await refused(
    world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'new', clientToken: 'token' }),
    'ConflictException',
    'CONCURRENT_CHANGES',
  );
  assert.equal((await docOf(world, streamingImageId)).name, 'old');
  hooks.beforeWrite = async () => undefined;
  await world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'new', clientToken: 'token' });
  assert.equal((await docOf(world, streamingImageId)).name, 'new');
});

test('of an update and a delete at once, either the delete comes second or the update is refused', async () => {
  for (const order of [0, 1]) {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const streamingImageId = await putImage(world, studioId);
    const calls = [
      () => world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'new' }),
      () => world.call('DeleteStreamingImage', { studioId, streamingImageId }),
    ];
    const outcomes = await Promise.allSettled((order ? calls.reverse() : calls).map((call) => call()));
    const [update, deletion] = order ? outcomes.reverse() : outcomes;
    assert.equal(deletion!.status, 'fulfilled');
    const { state, name } = await docOf(world, streamingImageId);
    assert.equal(state, 'DELETE_IN_PROGRESS');
    assert.equal(name === 'new', update!.status === 'fulfilled');
  }
});

for (const state of ['DELETE_IN_PROGRESS', 'DELETED'] as const) {
  for (const [name, kind] of [
    ['CreateStreamingImage', KIND.streamingImage],
    ['CreateStudioComponent', KIND.studioComponent],
    ['AcceptEulas', KIND.eulaAcceptance],
  ] as const) {
    test(`${name}: a studio that becomes ${state} between decision and write gets nothing new`, async (t) => {
      const { world, hooks } = worldBesideAnother(t);
      const studioId = await world.makeStudio();
      const eulaIds = [await putEula(world)];
      hooks.beforeWrite = async () => {
        hooks.beforeWrite = async () => undefined;
        await putState(world, KIND.studio, studioId, state);
      };
      const call = world.call(name, { studioId, name: 'n', ec2ImageId: 'ami-1', type: 'CUSTOM', eulaIds });
      await refused(call, state === 'DELETED' ? 'ResourceNotFoundException' : 'ConflictException');
      assert.equal(await world.store.count({ kind, limit: 1 }), 0);
    });
  }
}

test('a studio that is being deleted while images are created ends empty or stays', async () => {
  for (let turn = 0; turn < 4; turn += 1) {
    const world = createWorld({ seed: String(turn) });
    await world.addMachineImage('ami-1');
    const studioId = await world.makeStudio();
    const create = () => world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: 'ami-1' });
    const calls = [create, () => world.call('DeleteStudio', { studioId }), () => world.settle(), create];
    const rotated = [...calls.slice(turn), ...calls.slice(0, turn)];
    await Promise.allSettled(rotated.map((call) => call()));
    await world.settle();
    const studio = (await world.store.get(KIND.studio, studioId))!;
    const images = await world.store.count({ kind: KIND.streamingImage, studioIds: [studioId], limit: 10 });
    assert.equal(studio.state === 'DELETED', images === 0, `${studio.state} with ${images} images`);
  }
});
