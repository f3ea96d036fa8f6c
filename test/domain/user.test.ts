/** Users: the form of their ids, which names there may be, how they are found, and what disabling one changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KIND } from '../../src/domain/kinds.ts';
import {
  findNamed,
  identityStoreOf,
  isEnabledUser,
  newUser,
  readUser,
  timesDisabled,
  type User,
  withEnabled,
  withName,
} from '../../src/domain/user.ts';
import { ServiceError } from '../../src/errors.ts';
import { ensureIdentityStore } from '../../src/installation.ts';
import { GuardFailed } from '../../src/store/store.ts';
import { createWorld } from '../support/domain.ts';
import { IDENTITY_STORE_ID, putUser } from '../support/rows.ts';

const world = createWorld();
const { services } = world;

const userOf = (given: Partial<User>) => newUser({ userName: 'ann', ...given }, IDENTITY_STORE_ID, services);
const codeOf = (given: Partial<User>) => {
  try {
    userOf(given);
    return undefined;
  } catch (error) {
    assert.ok(error instanceof ServiceError && error.status === 400);
    return error.code;
  }
};

test("an id has the vendor's form, and begins with that of the identity store", () => {
  const { principalId, identityStoreId } = JSON.parse(userOf({}).doc) as User;
  assert.match(principalId, /^92677b4b19-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(identityStoreId, 'd-92677b4b19');
});

test('a user is what was given, enabled, and nothing else', () => {
  const given = { userName: 'ann', displayName: 'Ann Lee', email: 'ann@example.org' };
  const { id, doc } = userOf(given);
  const always = { principalId: id, identityStoreId: IDENTITY_STORE_ID, state: 'ENABLED' };
  assert.deepEqual(JSON.parse(doc), { ...always, ...given, createdAt: '2026-01-01T00:00:00Z' });
});

const PRINCIPAL = '92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486';

/** With and without the digits of an identity store. */
const IDS = [PRINCIPAL, PRINCIPAL.toUpperCase(), PRINCIPAL.slice('92677b4b19-'.length)];

for (const [member, right, wrong, code] of [
  [
    'userName',
    ['a', 'ann.lee', 'ann@example.org', 'josé', '李', '1', '_-', 'x'.repeat(128)],
    ['', ' ', 'ann lee', '-ann', 'a/b', 'a\n', '\u0000', 'a"b', 'x'.repeat(129), ...IDS],
    'INVALID_USER_NAME',
  ],
  [
    'displayName',
    ['Ann Lee', '李 小龙', 'x'.repeat(128)],
    ['', 'a\nb', '\u001b[2J', 'x'.repeat(129)],
    'INVALID_DISPLAY_NAME',
  ],
  [
    'email',
    ['a@b', 'ann.lee+x@example.org'],
    ['', 'ann', '@', 'a@', '@b', 'a b@c', 'a@b@c', `a@${'b'.repeat(64)}`],
    'INVALID_EMAIL',
  ],
] as const) {
  test(`${member} has its form`, () => {
    for (const text of right) assert.equal(codeOf({ [member]: text }), undefined, JSON.stringify(text));
    for (const text of wrong) assert.equal(codeOf({ [member]: text }), code, JSON.stringify(text));
  });
}

test('no two users have one name, whatever the case and composition of its letters; each is found by name and id', async () => {
  const { store } = createWorld({ seed: 'names' });
  for (const [name, same] of [
    ['Ann', 'aNN'],
    ['JOS\u00c9', 'jose\u0301'],
  ] as const) {
    const row = userOf({ userName: name });
    await store.write([{ op: 'insert', row }]);
    await assert.rejects(store.write([{ op: 'insert', row: userOf({ userName: same }) }]), GuardFailed);
    for (const text of [name, same, row.id]) assert.equal((await findNamed(store, KIND.user, text))?.id, row.id);
    assert.equal(await findNamed(store, KIND.group, name), undefined);
  }
  for (const text of ['nobody', '', PRINCIPAL, '__proto__'])
    assert.equal(await findNamed(store, KIND.user, text), undefined);
});

test('a user who is renamed is found by the new name alone, and otherwise as before', async () => {
  const { store } = world;
  const id = await putUser(world, 'cora');
  const before = (await store.get(KIND.user, id))!;
  await store.write([{ op: 'update', row: withName(before, 'Cora.Lee') }]);
  assert.equal(await findNamed(store, KIND.user, 'cora'), undefined);
  const after = (await findNamed(store, KIND.user, 'cora.lee'))!;
  assert.deepEqual({ ...readUser(after), userName: 'cora' }, readUser(before));
  for (const wrong of ['', 'a b', PRINCIPAL]) assert.throws(() => withName(after, wrong), ServiceError);
});

test('a user who is disabled is enabled again as before', async () => {
  const { store, services: own } = world;
  const id = await putUser(world, 'ben');
  const before = (await store.get(KIND.user, id))!;
  assert.ok(await isEnabledUser(store, id));
  await store.write([{ op: 'update', row: withEnabled(before, false) }]);
  const disabled = (await store.get(KIND.user, id))!;
  assert.deepEqual([await isEnabledUser(store, id), JSON.parse(disabled.doc).state], [false, 'DISABLED']);
  await store.write([{ op: 'update', row: withEnabled(disabled, true) }]);
  const after = (await store.get(KIND.user, id))!;
  assert.deepEqual({ ...after, version: before.version, private: before.private }, before);
  assert.deepEqual([before, disabled, after].map(timesDisabled), [0, 1, 1]);
  assert.ok(await isEnabledUser(own.store, id));
  assert.ok(!(await isEnabledUser(store, 'nobody')));
});

test('an identity store is made with the first who needs one, once, whoever else needs one at the same moment', async () => {
  const fresh = createWorld({ seed: 'fresh' });
  assert.equal(await identityStoreOf(fresh.store), undefined);
  const made = await Promise.all(Array.from({ length: 5 }, () => ensureIdentityStore(fresh.services)));
  assert.match(made[0]!, /^d-[0-9a-f]{10}$/);
  assert.deepEqual([...new Set(made)], [await identityStoreOf(fresh.store)]);
  assert.equal(await ensureIdentityStore(fresh.services), made[0]);
});
