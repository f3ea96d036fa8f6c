/** Groups: which names there may be, and who is in which, however many put somebody into one at the same moment. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addToGroup, DELETING, GROUPS_PER_USER_MAX, type Group, groupsOf, newGroup } from '../../src/domain/group.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { findNamed } from '../../src/domain/user.ts';
import { ServiceError } from '../../src/errors.ts';
import { GuardFailed } from '../../src/store/store.ts';
import { createWorld, type World } from '../support/domain.ts';
import { IDENTITY_STORE_ID, putGroup, putUser } from '../support/rows.ts';

const rowOf = async (world: World, kind: string, id: string) => (await world.store.get(kind, id))!;

test('a group is its name, under an id that is written as those of users are', async () => {
  const { services } = createWorld();
  const { id, doc } = newGroup('Lighting team', IDENTITY_STORE_ID, services);
  assert.match(id, /^92677b4b19-[0-9a-f]{8}-[0-9a-f]{4}-4/);
  const group: Group = {
    principalId: id,
    identityStoreId: IDENTITY_STORE_ID,
    groupName: 'Lighting team',
    createdAt: '2026-01-01T00:00:00Z',
  };
  assert.deepEqual(JSON.parse(doc), group);
});

test('names have their form, and no two are the same, whatever the case', async () => {
  const world = createWorld();
  const { services, store } = world;
  for (const name of ['x', 'Lighting team', 'Éclairage', 'a/b', 'x'.repeat(128)]) {
    const id = await putGroup(world, name);
    await assert.rejects(putGroup(world, name.toUpperCase()), GuardFailed);
    for (const text of [name, name.toUpperCase(), id]) assert.equal((await findNamed(store, KIND.group, text))!.id, id);
  }
  const id = '92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486';
  for (const name of ['', ' x', '-x', 'a\nb', '\u001b[2J', 'x'.repeat(129), id, id.toUpperCase()]) {
    const make = () => newGroup(name, IDENTITY_STORE_ID, services);
    assert.throws(make, (error) => error instanceof ServiceError && error.code === 'INVALID_GROUP_NAME', name);
  }
});

test('who is in a group is found from both sides, and is in it once', async () => {
  const world = createWorld();
  const [ann, ben] = [await putUser(world, 'ann'), await putUser(world, 'ben')];
  const [one, two] = [await putGroup(world, 'one', [ann, ben]), await putGroup(world, 'two', [ann])];
  assert.deepEqual((await groupsOf(world.store, ann)).sort(), [one, two].sort());
  assert.deepEqual(await groupsOf(world.store, ben), [one]);
  assert.deepEqual(await groupsOf(world.store, 'nobody'), []);
  const members = await world.store.list({ kind: KIND.groupMember, parentId: one, limit: 9 });
  assert.deepEqual(members.map(({ ownerId }) => ownerId).sort(), [ann, ben].sort());
  const [group, user] = [await rowOf(world, KIND.group, one), await rowOf(world, KIND.user, ann)];
  assert.deepEqual(await addToGroup(group, user, world.services), []);
});

test('nobody is put into a group that is being deleted', async () => {
  const world = createWorld();
  const ann = await putUser(world, 'ann');
  const group = await rowOf(world, KIND.group, await putGroup(world, 'group'));
  const writes = await addToGroup(group, await rowOf(world, KIND.user, ann), world.services);
  await world.store.write([{ op: 'update', row: { ...group, state: DELETING, version: group.version + 1 } }]);
  await assert.rejects(world.store.write(writes), GuardFailed);
  assert.deepEqual(await groupsOf(world.store, ann), []);
});

test('of those that put one user into groups at once, none makes it one too many', async () => {
  const world = createWorld();
  const ann = await putUser(world, 'ann');
  for (let index = 0; index < GROUPS_PER_USER_MAX - 1; index += 1) await putGroup(world, `g${index}`, [ann]);
  const [one, two] = [await putGroup(world, 'one'), await putGroup(world, 'two')];
  const user = await rowOf(world, KIND.user, ann);
  const decided = [one, two].map(async (id) => addToGroup(await rowOf(world, KIND.group, id), user, world.services));
  const outcomes = await Promise.allSettled((await Promise.all(decided)).map((writes) => world.store.write(writes)));
  assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  assert.equal((await groupsOf(world.store, ann)).length, GROUPS_PER_USER_MAX);
});
