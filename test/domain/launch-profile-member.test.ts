/**
 * The five operations on members of launch profiles: putting is all or nothing, whoever cannot be a member is named, and
 * members come and go only while the profile is settled. And who may use a profile in the end.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import type { LaunchProfileMembership } from '../../src/contract/launch-profile-member.ts';
import { addToGroup, GROUPS_PER_USER_MAX } from '../../src/domain/group.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { mayUseProfile } from '../../src/domain/launch-profile-member.ts';
import { withEnabled } from '../../src/domain/user.ts';
import type { ServiceError } from '../../src/errors.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { refused, statusOf } from '../support/refused.ts';
import { IDENTITY_STORE_ID, putGroup, putMember, putProfile, putState, putUser } from '../support/rows.ts';

async function furnish(world: World) {
  const studioId = await world.makeStudio();
  return { studioId, launchProfileId: await putProfile(world, studioId) };
}

type Place = Awaited<ReturnType<typeof furnish>>;

const named = (...principalIds: string[]) => principalIds.map((principalId) => ({ principalId, persona: 'USER' }));

async function put(world: World, place: Place, principalIds: string[], more: object = {}): Promise<void> {
  const input = { ...place, identityStoreId: IDENTITY_STORE_ID, members: named(...principalIds), ...more };
  const answer = await world.call('PutLaunchProfileMembers', input);
  assertConforms('PutLaunchProfileMembers', answer);
  assert.deepEqual(answer, {});
}

async function get(world: World, place: Place, principalId: string): Promise<LaunchProfileMembership> {
  const answer = await world.call<{ member: LaunchProfileMembership }>('GetLaunchProfileMember', {
    ...place,
    principalId,
  });
  assertConforms('GetLaunchProfileMember', answer);
  return answer.member;
}

async function remove(world: World, place: Place, principalId: string): Promise<void> {
  const answer = await world.call('DeleteLaunchProfileMember', { ...place, principalId });
  assertConforms('DeleteLaunchProfileMember', answer);
  assert.deepEqual(answer, {});
}

interface Page {
  readonly members: LaunchProfileMembership[];
  readonly nextToken?: string;
}

async function list(world: World, place: Place, more: object = {}): Promise<Page> {
  const answer = await world.call<Page>('ListLaunchProfileMembers', { ...place, ...more });
  assertConforms('ListLaunchProfileMembers', answer);
  return answer;
}

const idsOf = ({ members }: Page) => members.map(({ principalId }) => principalId!);

async function disable(world: World, userId: string, enabled = false): Promise<void> {
  const row = (await world.store.get(KIND.user, userId))!;
  await world.store.write([{ op: 'update', row: withEnabled(row, enabled) }]);
}

const messageOf = (call: Promise<unknown>) =>
  call.then(
    () => assert.fail('it was not refused'),
    (error: ServiceError) => error.message,
  );

// ---------------------------------------------------------------------------------------------------------------------
// Putting, reading, deleting

test('whoever is put is a member, with the identity store, the persona and the id, and nothing else', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const ann = await putUser(world, 'ann');
  await put(world, place, [ann]);
  const member = { identityStoreId: IDENTITY_STORE_ID, persona: 'USER', principalId: ann };
  assert.deepEqual(await get(world, place, ann), member);
  assert.deepEqual(await list(world, place), { members: [member] });
});

test('putting adds to those who are there, overwrites, and does nothing for those who are members already', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const [ann, ben, group] = [await putUser(world, 'ann'), await putUser(world, 'ben'), await putGroup(world, 'group')];
  await put(world, place, [ann]);
  const before = await world.store.get(KIND.launchProfileMember, `${place.launchProfileId}/${ann}`);
  world.clock.advance(1_000);
  await put(world, place, [ben, ann, group, ben]);
  assert.deepEqual(idsOf(await list(world, place)).sort(), [ann, ben, group].sort());
  assert.deepEqual(await world.store.get(KIND.launchProfileMember, `${place.launchProfileId}/${ann}`), before);

  // A membership from another time, with what is not so any more.
  await world.store.write([
    { op: 'update', row: { ...before!, version: before!.version + 1, doc: '{"persona":"USER","principalId":"old"}' } },
  ]);
  await put(world, place, [ann]);
  assert.deepEqual(await get(world, place, ann), {
    identityStoreId: IDENTITY_STORE_ID,
    persona: 'USER',
    principalId: ann,
  });
});

test('one who cannot be a member is named, and then nobody is put', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const [ann, off] = [await putUser(world, 'ann'), await putUser(world, 'off')];
  await disable(world, off);
  const absent = '92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486';
  for (const [principalId, code, rule] of [
    [absent, 'PRINCIPAL_NOT_FOUND', `the principalId of a user or group, which ${absent} is not`],
    ['ann', 'PRINCIPAL_NOT_FOUND', 'the principalId of a user or group, which ann is not'],
    ['', 'PRINCIPAL_NOT_FOUND', 'the principalId of a user or group, which  is not'],
    ['__proto__', 'PRINCIPAL_NOT_FOUND', 'the principalId of a user or group, which __proto__ is not'],
    [off, 'PRINCIPAL_DISABLED', `somebody who is enabled, which ${off} is not`],
  ] as const) {
    const call = () => put(world, place, [ann, principalId]);
    await refused(call(), 'ValidationException', code, { resourceId: principalId });
    const at =
      "1 validation error detected. Value at '/members/2/member/principalId' failed to satisfy constraint: Member must be ";
    assert.equal(await messageOf(call()), at + rule);
  }
  assert.ok((await messageOf(put(world, place, ['x'.repeat(100_000)]))).length < 400);
  assert.deepEqual(await list(world, place), { members: [] });
});

test('the identity store must be the one of this server, which is named; without one, how to begin is said', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const call = (identityStoreId: string) => put(world, place, ['x'], { identityStoreId });
  await refused(call(IDENTITY_STORE_ID), 'ValidationException', 'UNKNOWN_IDENTITY_STORE');
  assert.match(await messageOf(call(IDENTITY_STORE_ID)), /'\/identityStoreId'.*backlot user create$/);
  await putUser(world, 'ann');
  for (const identityStoreId of ['d-0000000000', '', IDENTITY_STORE_ID.toUpperCase()]) {
    await refused(call(identityStoreId), 'ValidationException', 'UNKNOWN_IDENTITY_STORE');
    assert.match(await messageOf(call(identityStoreId)), new RegExp(`which is ${IDENTITY_STORE_ID}$`));
  }
});

test('a membership goes when it is deleted, and deleting one that is not there is 404', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const [ann, ben] = [await putUser(world, 'ann'), await putUser(world, 'ben')];
  await put(world, place, [ann, ben]);
  await remove(world, place, ann);
  assert.deepEqual(idsOf(await list(world, place)), [ben]);
  for (const gone of [ann, 'nobody', '']) {
    for (const call of [get, remove]) {
      const context = { resourceId: gone };
      await refused(call(world, place, gone), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', context);
    }
    const update = world.call('UpdateLaunchProfileMember', { ...place, principalId: gone, persona: 'USER' });
    await refused(update, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: gone });
  }
});

test('an update answers with the member, and changes nothing, as there is one persona', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const ann = await putUser(world, 'ann');
  await put(world, place, [ann]);
  const before = await world.store.list({ kind: KIND.launchProfileMember, limit: 9 });
  const answer = await world.call('UpdateLaunchProfileMember', { ...place, principalId: ann, persona: 'USER' });
  assertConforms('UpdateLaunchProfileMember', answer);
  assert.deepEqual(answer, { member: await get(world, place, ann) });
  assert.deepEqual(await world.store.list({ kind: KIND.launchProfileMember, limit: 9 }), before);
});

test('pages hold twenty at most, though more are asked for, in the order in which they became members', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const users: string[] = [];
  for (let index = 0; index < 45; index += 1) {
    users.push(await putUser(world, `user${index}`));
    world.clock.advance(1);
    await put(world, place, users.slice(-1));
  }
  for (const [more, lengths] of [
    [{}, [20, 20, 5]],
    [{ maxResults: 100 }, [20, 20, 5]],
    [{ maxResults: 15 }, [15, 15, 15]],
  ] as const) {
    const pages: string[][] = [];
    let nextToken: string | undefined;
    do {
      const page = await list(world, place, { ...more, ...(nextToken && { nextToken }) });
      pages.push(idsOf(page));
      nextToken = page.nextToken;
    } while (nextToken);
    assert.deepEqual(
      pages.map(({ length }) => length),
      lengths,
    );
    assert.deepEqual(pages.flat(), users);
  }
  const { nextToken } = await list(world, place);
  const other = { ...place, launchProfileId: await putProfile(world, place.studioId) };
  await refused(list(world, other, { nextToken }), 'ValidationException', 'INVALID_NEXT_TOKEN');
});

test('who is disabled stays a member, and can be taken out', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const ann = await putUser(world, 'ann');
  await put(world, place, [ann]);
  await disable(world, ann);
  assert.equal((await get(world, place, ann)).principalId, ann);
  await refused(put(world, place, [ann]), 'ValidationException', 'PRINCIPAL_DISABLED');
  await remove(world, place, ann);
  assert.deepEqual(await list(world, place), { members: [] });
});

test('somebody who is disabled, a studio that is changed and a profile that is deleted while it is decided: nobody is put', async () => {
  const inner = createWorld();
  let before: () => Promise<unknown> = async () => undefined;
  const store = intercepted(inner.store, async () => {
    const act = before;
    before = async () => undefined;
    await act();
  });
  const world = createWorld({ store, seed: 'beside' });
  const place = await furnish(inner);
  const [ann, ben] = [await putUser(inner, 'ann'), await putUser(inner, 'ben')];
  before = () => disable(inner, ben);
  await refused(put(world, place, [ann, ben]), 'ValidationException', 'PRINCIPAL_DISABLED');
  before = () => inner.call('UpdateStudio', { studioId: place.studioId, displayName: 'new' });
  await refused(put(world, place, [ann]), 'ConflictException', 'STUDIO_NOT_READY');
  await inner.settle();
  before = () => inner.call('DeleteLaunchProfile', place);
  await refused(put(world, place, [ann]), 'ConflictException', 'LAUNCH_PROFILE_NOT_READY');
  assert.equal(await inner.store.count({ kind: KIND.launchProfileMember, limit: 9 }), 0);
});

// ---------------------------------------------------------------------------------------------------------------------
// By the state of the profile, and of the studio around it

/** Status of what changes members, and of what reads them. */
const BY_PROFILE: Record<NonNullable<LaunchProfile['state']>, { change: number; read: number }> = {
  CREATE_IN_PROGRESS: { change: 409, read: 200 },
  READY: { change: 200, read: 200 },
  UPDATE_IN_PROGRESS: { change: 409, read: 200 },
  UPDATE_FAILED: { change: 200, read: 200 },
  CREATE_FAILED: { change: 409, read: 200 },
  DELETE_IN_PROGRESS: { change: 409, read: 200 },
  DELETE_FAILED: { change: 200, read: 200 },
  DELETED: { change: 404, read: 404 },
};
const BY_STUDIO: typeof BY_PROFILE = { ...BY_PROFILE, DELETED: { change: 404, read: 200 } };

for (const [kind, table] of [
  [KIND.launchProfile, BY_PROFILE],
  [KIND.studio, BY_STUDIO],
] as const) {
  for (const [state, { change, read }] of Object.entries(table)) {
    test(`in a ${kind} that is ${state}, members are changed with ${change} and read with ${read}`, async () => {
      const world = createWorld();
      const place = await furnish(world);
      const [ann, ben] = [await putUser(world, 'ann'), await putUser(world, 'ben')];
      await put(world, place, [ann]);
      await putState(world, kind, kind === KIND.studio ? place.studioId : place.launchProfileId, state);
      const calls: [OperationName, object, number][] = [
        ['GetLaunchProfileMember', { principalId: ann }, read],
        ['ListLaunchProfileMembers', {}, read],
        ['UpdateLaunchProfileMember', { principalId: ann, persona: 'USER' }, change],
        ['PutLaunchProfileMembers', { identityStoreId: IDENTITY_STORE_ID, members: named(ben) }, change],
        ['DeleteLaunchProfileMember', { principalId: ann }, change],
      ];
      for (const [name, more, expected] of calls)
        assert.equal(await statusOf(world.call(name, { ...place, ...more })), expected, name);
    });
  }
}

test('members of a profile are of that profile, in that studio, and of no other', async () => {
  const world = createWorld();
  const place = await furnish(world);
  const ann = await putUser(world, 'ann');
  await put(world, place, [ann]);
  const otherProfile = { ...place, launchProfileId: await putProfile(world, place.studioId) };
  await refused(get(world, otherProfile, ann), 'ResourceNotFoundException', undefined, { resourceId: ann });
  assert.deepEqual(await list(world, otherProfile), { members: [] });
  const otherStudio = { ...place, studioId: await world.makeStudio() };
  for (const call of [get(world, otherStudio, ann), list(world, otherStudio), remove(world, otherStudio, ann)])
    await refused(call, 'ResourceNotFoundException', undefined, { resourceId: place.launchProfileId });
  const nowhere = { ...place, studioId: 'us-west-2:stid-nothere' };
  for (const call of [get(world, nowhere, ann), put(world, nowhere, [ann])])
    await refused(call, 'ResourceNotFoundException', undefined, { resourceId: nowhere.studioId });
});

// ---------------------------------------------------------------------------------------------------------------------

describe('a profile may be used', () => {
  test('by its members, by those in a group that is one, and by administrators of the studio; by nobody else', async () => {
    const world = createWorld();
    const { studioId, launchProfileId } = await furnish(world);
    const other = await putProfile(world, studioId);
    const [member, grouped, head, stranger] = [
      await putUser(world, 'member'),
      await putUser(world, 'grouped'),
      await putUser(world, 'head'),
      await putUser(world, 'stranger'),
    ];
    const group = await putGroup(world, 'group', [grouped]);
    await putGroup(world, 'another group', [stranger]);
    await putMember(world, studioId, member, launchProfileId);
    await putMember(world, studioId, group, launchProfileId);
    await putMember(world, studioId, head);
    await putMember(world, await world.makeStudio(), stranger);
    for (const [who, mine, others] of [
      [member, true, false],
      [grouped, true, false],
      [head, true, true],
      [stranger, false, false],
      [group, false, false],
      ['nobody', false, false],
      ['', false, false],
    ] as const) {
      assert.equal(await mayUseProfile(world.store, launchProfileId, who), mine, who);
      assert.equal(await mayUseProfile(world.store, other, who), others, who);
      assert.equal(await mayUseProfile(world.store, 'nothere', who), false, who);
    }
  });

  test('by nobody who is disabled, in whatever way they might', async () => {
    const world = createWorld();
    const { studioId, launchProfileId } = await furnish(world);
    const ways = {
      member: (id: string) => putMember(world, studioId, id, launchProfileId),
      group: async (id: string) => putMember(world, studioId, await putGroup(world, 'g', [id]), launchProfileId),
      head: (id: string) => putMember(world, studioId, id),
    };
    for (const [name, way] of Object.entries(ways)) {
      const id = await putUser(world, name);
      await way(id);
      assert.ok(await mayUseProfile(world.store, launchProfileId, id), name);
      await disable(world, id);
      assert.ok(!(await mayUseProfile(world.store, launchProfileId, id)), name);
      await disable(world, id, true);
      assert.ok(await mayUseProfile(world.store, launchProfileId, id), name);
    }
  });

  test('through any of as many groups as somebody can be in', async () => {
    const world = createWorld();
    const { studioId, launchProfileId } = await furnish(world);
    const ann = await putUser(world, 'ann');
    const groups: string[] = [];
    for (let index = 0; index < GROUPS_PER_USER_MAX; index += 1) groups.push(await putGroup(world, `g${index}`, [ann]));
    for (const group of [groups[0]!, groups.at(-1)!]) {
      await putMember(world, studioId, group, launchProfileId);
      assert.ok(await mayUseProfile(world.store, launchProfileId, ann));
      await remove(world, { studioId, launchProfileId }, group);
      assert.ok(!(await mayUseProfile(world.store, launchProfileId, ann)));
    }
    const user = (await world.store.get(KIND.user, ann))!;
    const oneMore = (await world.store.get(KIND.group, await putGroup(world, 'one more')))!;
    await refused(addToGroup(oneMore, user, world.services), 'ValidationException', 'TOO_MANY_GROUPS');
  });
});
