/** The four operations on members of studios, who are administrators and persons; and that they go with the studio. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import type { Studio } from '../../src/contract/studio.ts';
import type { StudioMembership } from '../../src/contract/studio-member.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { withEnabled } from '../../src/domain/user.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { IDENTITY_STORE_ID, putGroup, putMember, putProfile, putState, putUser } from '../support/rows.ts';

interface Page {
  readonly members: StudioMembership[];
  readonly nextToken?: string;
}

const named = (...principalIds: string[]) =>
  principalIds.map((principalId) => ({ principalId, persona: 'ADMINISTRATOR' }));

async function put(world: World, studioId: string, ...principalIds: string[]): Promise<void> {
  const input = { studioId, identityStoreId: IDENTITY_STORE_ID, members: named(...principalIds) };
  const answer = await world.call('PutStudioMembers', input);
  assertConforms('PutStudioMembers', answer);
  assert.deepEqual(answer, {});
}

async function get(world: World, studioId: string, principalId: string): Promise<StudioMembership> {
  const answer = await world.call<{ member: StudioMembership }>('GetStudioMember', { studioId, principalId });
  assertConforms('GetStudioMember', answer);
  return answer.member;
}

async function remove(world: World, studioId: string, principalId: string): Promise<void> {
  const answer = await world.call('DeleteStudioMember', { studioId, principalId });
  assertConforms('DeleteStudioMember', answer);
  assert.deepEqual(answer, {});
}

async function list(world: World, studioId: string, more: object = {}): Promise<Page> {
  const answer = await world.call<Page>('ListStudioMembers', { studioId, ...more });
  assertConforms('ListStudioMembers', answer);
  return answer;
}

test('whoever is put is an administrator, shown with identity store, persona and id, until deleted', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [ann, ben] = [await putUser(world, 'ann'), await putUser(world, 'ben')];
  await put(world, studioId, ann);
  world.clock.advance(1);
  await put(world, studioId, ben, ann);
  const shown = (principalId: string) => ({
    identityStoreId: IDENTITY_STORE_ID,
    persona: 'ADMINISTRATOR',
    principalId,
  });
  assert.deepEqual(await get(world, studioId, ann), shown(ann));
  assert.deepEqual(await list(world, studioId), { members: [shown(ann), shown(ben)] });
  await remove(world, studioId, ann);
  assert.deepEqual(await list(world, studioId), { members: [shown(ben)] });
  for (const call of [get, remove]) {
    const context = { resourceId: ann };
    await refused(call(world, studioId, ann), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', context);
  }
});

test('a group, somebody unknown and somebody disabled cannot be one, and then nobody is put', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [ann, off, group] = [await putUser(world, 'ann'), await putUser(world, 'off'), await putGroup(world, 'group')];
  const row = (await world.store.get(KIND.user, off))!;
  await world.store.write([{ op: 'update', row: withEnabled(row, false) }]);
  for (const [id, code] of [
    [group, 'PRINCIPAL_NOT_FOUND'],
    ['nobody', 'PRINCIPAL_NOT_FOUND'],
    [off, 'PRINCIPAL_DISABLED'],
  ] as const) {
    await refused(put(world, studioId, ann, id), 'ValidationException', code, { resourceId: id });
  }
  assert.deepEqual(await list(world, studioId), { members: [] });
});

test('an administrator is no member of launch profiles, and members of profiles are no administrators', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const launchProfileId = await putProfile(world, studioId);
  const [head, artist] = [await putUser(world, 'head'), await putUser(world, 'artist')];
  await put(world, studioId, head);
  await putMember(world, studioId, artist, launchProfileId);
  await refused(get(world, studioId, artist), 'ResourceNotFoundException');
  const ofProfile = { studioId, launchProfileId, principalId: head };
  await refused(world.call('GetLaunchProfileMember', ofProfile), 'ResourceNotFoundException');
  assert.deepEqual(
    (await list(world, studioId)).members.map(({ principalId }) => principalId),
    [head],
  );
});

/** Status of what changes members, and of what reads them, by the state of the studio. */
const TABLE: Record<NonNullable<Studio['state']>, { change: number; read: number }> = {
  CREATE_IN_PROGRESS: { change: 409, read: 200 },
  READY: { change: 200, read: 200 },
  UPDATE_IN_PROGRESS: { change: 409, read: 200 },
  UPDATE_FAILED: { change: 200, read: 200 },
  CREATE_FAILED: { change: 409, read: 200 },
  DELETE_IN_PROGRESS: { change: 409, read: 200 },
  DELETE_FAILED: { change: 200, read: 200 },
  DELETED: { change: 404, read: 404 },
};

for (const [state, { change, read }] of Object.entries(TABLE)) {
  test(`members of a studio that is ${state} are changed with ${change} and read with ${read}`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const [ann, ben] = [await putUser(world, 'ann'), await putUser(world, 'ben')];
    await put(world, studioId, ann);
    await putState(world, KIND.studio, studioId, state);
    const calls: [OperationName, object, number][] = [
      ['GetStudioMember', { principalId: ann }, read],
      ['ListStudioMembers', {}, read],
      ['PutStudioMembers', { identityStoreId: IDENTITY_STORE_ID, members: named(ben) }, change],
      ['DeleteStudioMember', { principalId: ann }, change],
    ];
    for (const [name, more, expected] of calls)
      assert.equal(await statusOf(world.call(name, { studioId, ...more })), expected, name);
  });
}

test('members go with the studio when its time is over; those of another studio stay', async () => {
  const world = createWorld({ settings: { tombstoneMs: 60_000 } });
  const [gone, stays] = [await world.makeStudio(), await world.makeStudio()];
  const ann = await putUser(world, 'ann');
  for (const studioId of [gone, stays]) await put(world, studioId, ann);
  await world.call('DeleteStudio', { studioId: gone });
  await world.settle();
  assert.equal(await world.store.count({ kind: KIND.studioMember, limit: 9 }), 2);
  world.clock.advance(60_000);
  await world.settle();
  assert.equal(await world.store.get(KIND.studio, gone), undefined);
  assert.equal(await world.store.count({ kind: KIND.studioMember, limit: 9 }), 1);
  assert.equal((await get(world, stays, ann)).principalId, ann);
  assert.notEqual(await world.store.get(KIND.user, ann), undefined);
});
