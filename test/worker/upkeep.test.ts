/**
 * Upkeep: bytes that no image needs are destroyed with their key, young ones and needed ones never; expired tokens are
 * forgotten, and ended keys deleted, a bounded number at a time; and nothing that fails keeps the rest from being done.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import { USER } from '../../src/domain/access.ts';
import { newAccessKey, newTemporaryKey } from '../../src/domain/access-key.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { storedPassword } from '../../src/domain/password.ts';
import type { Log } from '../../src/log.ts';
import type { Write } from '../../src/store/store.ts';
import { createUpkeep, ENDED_KEY_AGE_MS, ORPHAN_AGE_MS } from '../../src/worker/upkeep.ts';
import { createWorld, silentLog, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { putPerson } from '../support/people.ts';
import { putAmazonImage, putImage, putSession } from '../support/rows.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

type State = NonNullable<StreamingImage['state']>;

async function putBytes({ images, keys, clock }: World, id: string): Promise<void> {
  await keys.generate(id, undefined);
  const passphrase = (await keys.unseal(id)).toString();
  const stored = { format: 'qcow2', sizeBytes: 1, virtualSizeBytes: 1, sha256: '' } as const;
  images.copies.set(id, { passphrase, stored, modifiedAt: clock.now() });
}

/** Bytes of an image that never came to be. */
async function putOrphan(world: World): Promise<string> {
  const id = await putImage(world, await world.makeStudio(), { state: 'CREATE_FAILED' });
  await putBytes(world, id);
  return id;
}

function has({ images, keys }: World, id: string): [bytes: boolean, key: boolean] {
  return [images.copies.has(id), keys.dataKeys.has(id)];
}

const upkeepOf = (world: World, log: Log = silentLog) => createUpkeep({ ...world, log });

/** Whether the bytes of an image in this state are needed. */
const NEEDED: Record<State, boolean> = {
  CREATE_IN_PROGRESS: true,
  READY: true,
  UPDATE_IN_PROGRESS: true,
  UPDATE_FAILED: true,
  DELETE_IN_PROGRESS: true,
  DELETE_FAILED: true,
  CREATE_FAILED: false,
  DELETED: false,
};

for (const [state, needed] of Object.entries(NEEDED) as [State, boolean][]) {
  test(`bytes and key of an image in ${state} are ${needed ? 'kept' : 'destroyed'}, whatever their age`, async () => {
    const world = createWorld();
    const id = await putImage(world, await world.makeStudio(), { state });
    await putBytes(world, id);
    world.clock.advance(1_000 * ORPHAN_AGE_MS);
    await upkeepOf(world).runOnce();
    assert.deepEqual(has(world, id), [needed, needed]);
  });
}

test('bytes of an image provided for every studio are kept', async () => {
  const world = createWorld();
  const provided = await putAmazonImage(world);
  await putBytes(world, provided);
  world.clock.advance(ORPHAN_AGE_MS);
  await upkeepOf(world).runOnce();
  assert.deepEqual(has(world, provided), [true, true]);
});

test('bytes that the database does not know are told and never destroyed: it is the database that may be lost', async () => {
  const world = createWorld();
  await putBytes(world, 'unknown');
  world.clock.advance(1_000 * ORPHAN_AGE_MS);
  const told: string[] = [];
  const log = { ...silentLog, warn: ((found: { id: string }) => told.push(found.id)) as Log['warn'] };
  await upkeepOf(world, log).runOnce();
  assert.deepEqual(has(world, 'unknown'), [true, true]);
  assert.deepEqual(told, ['unknown']);
});

test('orphans are left alone until they are old enough', async () => {
  const world = createWorld();
  const fresh = await putOrphan(world);
  const upkeep = upkeepOf(world);
  await upkeep.runOnce();
  world.clock.advance(ORPHAN_AGE_MS - 1);
  await upkeep.runOnce();
  assert.deepEqual(has(world, fresh), [true, true]);
  world.clock.advance(1);
  await upkeep.runOnce();
  assert.deepEqual(has(world, fresh), [false, false]);
});

test('the key of an orphan goes before its bytes', async () => {
  const world = createWorld();
  await putOrphan(world);
  world.clock.advance(ORPHAN_AGE_MS);
  const effects: string[] = [];
  world.keys.fault = (effect) => void effects.push(effect);
  world.images.fault = (effect) => void effects.push(effect);
  await upkeepOf(world).runOnce();
  assert.deepEqual(
    effects.filter((effect) => effect !== 'sweep'),
    ['destroy', 'destroyed', 'remove', 'removed'],
  );
});

test('an orphan that cannot be destroyed is logged, keeps no other from it, and is found again', async () => {
  const world = createWorld();
  const [, stubborn] = [await putOrphan(world), await putOrphan(world), await putOrphan(world)];
  world.clock.advance(ORPHAN_AGE_MS);
  const fault = (_: string, id: string) => {
    if (id === stubborn) throw new Error('EPERM');
  };
  world.keys.fault = fault;
  const failures: string[] = [];
  const log = { ...silentLog, error: ((found: { id: string }) => failures.push(found.id)) as Log['error'] };
  await upkeepOf(world, log).runOnce();
  assert.deepEqual([...world.images.copies.keys()], [stubborn]);
  assert.deepEqual(failures, [stubborn]);
  world.keys.fault = () => undefined;
  await upkeepOf(world, log).runOnce();
  assert.deepEqual([...world.images.copies.keys()], []);
});

test('expired tokens are forgotten a thousand at a time, and the others kept', async () => {
  const world = createWorld();
  const token = (key: string, expiresAt: number): Write => ({
    op: 'token',
    token: { key, digest: 'd', kind: 'k', id: 'i', expiresAt },
    now: 0,
  });
  const now = world.clock.now();
  await world.store.write(Array.from({ length: 2_500 }, (_, index) => token(`old ${index}`, now - index)));
  await world.store.write([token('valid', now + 1)]);
  const changed: number[] = [];
  const store = intercepted(world.store, async (batch) => {
    assert.equal(batch.length, 1);
    if (batch[0]!.op === 'forget') changed.push(batch[0]!.limit);
  });
  await createUpkeep({ ...world, store, log: silentLog }).runOnce();
  assert.deepEqual(changed, [1_000, 1_000, 1_000]);
  assert.equal(await world.store.token('old 0'), undefined);
  assert.equal(await world.store.token('old 2499'), undefined);
  assert.ok(await world.store.token('valid'));
});

test('a store that takes no writes, as on a full disk, does not keep orphans from being destroyed', async () => {
  const world = createWorld();
  const orphan = await putOrphan(world);
  world.clock.advance(ORPHAN_AGE_MS);
  const store = intercepted(world.store, async () => {
    throw new Error('full');
  });
  await createUpkeep({ ...world, store, log: silentLog })
    .runOnce()
    .catch(() => undefined);
  assert.deepEqual(has(world, orphan), [false, false]);
});

type SessionState = NonNullable<StreamingSession['state']>;

/** Whether the workstation of a session in this state is needed. */
const WORKSTATION_NEEDED: Record<SessionState, boolean> = {
  CREATE_IN_PROGRESS: true,
  READY: true,
  STOP_IN_PROGRESS: true,
  STOPPED: true,
  STOP_FAILED: true,
  START_IN_PROGRESS: true,
  START_FAILED: true,
  DELETE_IN_PROGRESS: true,
  DELETE_FAILED: true,
  CREATE_FAILED: false,
  DELETED: false,
};

/** A running workstation, with a backup. */
async function putWorkstation({ compute }: World, id: string): Promise<void> {
  const change = { id, fence: 1, signal: new AbortController().signal };
  const request = workstationRequest(change);
  await compute.ensure(request);
  await compute.stop({ ...change, volume: 'keep' });
  await compute.backUp({ ...change, backupId: 'backup' });
  await compute.ensure(request);
}

for (const [state, needed] of Object.entries(WORKSTATION_NEEDED) as [SessionState, boolean][]) {
  test(`the workstation of a session in ${state} is ${needed ? 'kept' : 'destroyed with its backups'}, whatever its age`, async () => {
    const world = createWorld();
    const id = await putSession(world, await world.makeStudio(), { state }, { version: 5 });
    await putWorkstation(world, id);
    const before = await world.compute.list();
    world.clock.advance(1_000 * ORPHAN_AGE_MS);
    await upkeepOf(world).runOnce();
    assert.deepEqual(await world.compute.list(), needed ? before : []);
  });
}

test('a workstation that the database does not know is told and never destroyed: it may be the work of a day', async () => {
  const world = createWorld();
  await putWorkstation(world, 'unknown');
  const before = await world.compute.list();
  world.clock.advance(1_000 * ORPHAN_AGE_MS);
  const told: string[] = [];
  const log = { ...silentLog, warn: ((found: { id: string }) => told.push(found.id)) as Log['warn'] };
  await upkeepOf(world, log).runOnce();
  assert.deepEqual(await world.compute.list(), before);
  assert.deepEqual(told, ['unknown']);
});

test('orphaned workstations are left alone until they are old enough, and one that cannot be destroyed keeps no other from it', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const ids: string[] = [];
  for (let index = 0; index < 3; index += 1) {
    ids.push(await putSession(world, studioId, { state: 'DELETED' }));
    await putWorkstation(world, ids[index]!);
  }
  const left = async () => (await world.compute.list()).map(({ id }) => id);
  const upkeep = upkeepOf(world);
  world.clock.advance(ORPHAN_AGE_MS - 1);
  await upkeep.runOnce();
  assert.deepEqual(await left(), ids);
  world.clock.advance(1);
  world.workstations.fault = (effect, id) => {
    if (effect === 'destroy' && id === ids[1]) throw new Error('EIO');
  };
  await upkeep.runOnce();
  assert.deepEqual(await left(), [ids[1]]);
  world.workstations.fault = () => undefined;
  await upkeep.runOnce();
  assert.deepEqual(await left(), []);
});

test('bytes that cannot be listed do not keep tokens from being forgotten', async () => {
  const world = createWorld();
  const token = { key: 'old', digest: 'd', kind: 'k', id: 'i', expiresAt: world.clock.now() };
  await world.store.write([{ op: 'token', token, now: 0 }]);
  world.images.list = async () => {
    throw new Error('EIO');
  };
  await upkeepOf(world)
    .runOnce()
    .catch(() => undefined);
  assert.equal(await world.store.token('old'), undefined);
});

test('what died imports left is swept by age', async () => {
  const world = createWorld();
  const requests: Parameters<World['images']['sweep']>[0][] = [];
  world.images.sweep = async (request) => {
    requests.push(request);
    return 1;
  };
  await upkeepOf(world).runOnce();
  assert.deepEqual(requests, [{ olderThanMs: ORPHAN_AGE_MS }]);
});

test('a sweep that fails keeps neither orphans nor tokens from being dealt with', async () => {
  const world = createWorld();
  const orphan = await putOrphan(world);
  world.clock.advance(ORPHAN_AGE_MS);
  const token = { key: 'old', digest: 'd', kind: 'k', id: 'i', expiresAt: world.clock.now() };
  await world.store.write([{ op: 'token', token, now: 0 }]);
  world.images.fault = (effect) => {
    if (effect === 'sweep') throw new Error('EIO');
  };
  await assert.rejects(upkeepOf(world).runOnce(), /EIO/);
  assert.deepEqual(has(world, orphan), [false, false]);
  assert.equal(await world.store.token('old'), undefined);
});

test('two runs at once are one', async () => {
  const world = createWorld();
  let lists = 0;
  world.images.list = async () => {
    lists += 1;
    return [];
  };
  const upkeep = upkeepOf(world);
  await Promise.all([upkeep.runOnce(), upkeep.runOnce()]);
  assert.equal(lists, 1);
  await upkeep.runOnce();
  assert.equal(lists, 2);
});

test('started, it runs at once and then every ten minutes, even when a run has failed; stopped, it waits and ends', async (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const world = createWorld();
  let lists = 0;
  let release = Promise.resolve();
  world.images.list = async () => {
    lists += 1;
    await release;
    if (lists === 1) throw new Error('EIO');
    return [];
  };
  let failures = 0;
  const log = { ...silentLog, error: (() => (failures += 1)) as unknown as Log['error'] };
  const upkeep = upkeepOf(world, log);
  upkeep.start();
  await until('the first run has failed', () => failures === 1);
  t.mock.timers.tick(599_999);
  assert.equal(lists, 1);
  const held = Promise.withResolvers<void>();
  release = held.promise;
  t.mock.timers.tick(1);
  await until('the second run has begun', () => lists === 2);
  let stopped = false;
  const stopping = upkeep.stop().then(() => {
    stopped = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(stopped, false);
  held.resolve();
  await stopping;
  t.mock.timers.tick(600_000);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(lists, 2);
});

test('keys that were logged in for are deleted an hour after their end, however many there are; no others are', async () => {
  const world = createWorld();
  const principalId = await putPerson(world.store, 'ada', 'correct horse');
  const holder = { role: USER, name: 'ada', principalId } as const;
  const password = (await storedPassword(world.store, principalId))!;
  const user = (await world.store.get(KIND.user, principalId))!;
  const now = world.clock.now();
  const put = async (endedMs: number) => {
    const made = newTemporaryKey(holder, { expiresAt: now - endedMs, password, user }, world.keys, world.services);
    await world.store.write([{ op: 'insert', row: made.row }]);
    return made.row.id;
  };
  const lasting = newAccessKey('', world.keys, world.services, holder).row;
  await world.store.write([{ op: 'insert', row: lasting }]);
  for (let index = 0; index < 450; index += 1) await put(ENDED_KEY_AGE_MS + index);
  const kept = [lasting.id, await put(ENDED_KEY_AGE_MS - 1), await put(-1)];
  await upkeepOf(world).runOnce();
  const left = await world.store.list({ kind: KIND.accessKey, limit: 10 });
  assert.deepEqual(left.map(({ id }) => id).sort(), kept.sort());
});

test('viewers that can come back no more are deleted, and no others', async () => {
  const world = createWorld();
  const put = async (id: string, dueAt: number) => {
    const row = newRow({ kind: KIND.viewer, id, createdAt: 0, dueAt, doc: '{}' });
    await world.store.write([{ op: 'insert', row }]);
  };
  const now = world.clock.now();
  for (let index = 0; index < 250; index += 1) await put(`gone ${index}`, now - index);
  await put('may come back', now + 1);
  await upkeepOf(world).runOnce();
  const left = await world.store.list({ kind: KIND.viewer, limit: 999 });
  assert.deepEqual(
    left.map(({ id }) => id),
    ['may come back'],
  );
});
