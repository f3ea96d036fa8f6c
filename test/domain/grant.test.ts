/**
 * Stored policies and who has them: what may be stored, that a change counts at once for every key, and that a policy
 * that cannot be read, or is not there, makes its holder's requests fail and never mightier.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { SERVICE, USER } from '../../src/domain/access.ts';
import { newAccessKey, readPrincipal } from '../../src/domain/access-key.ts';
import type { Principal } from '../../src/domain/context.ts';
import {
  attachPolicies,
  createGrants,
  detachPolicy,
  findServiceLike,
  getGrant,
  type Holder,
  heldPolicy,
  readGrant,
  serviceNamed,
} from '../../src/domain/grant.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { evaluateAll } from '../../src/domain/policy.ts';
import { PolicyRefused } from '../../src/domain/policy-json.ts';
import { type PolicySource, sourceOf, storePolicy } from '../../src/domain/stored-policy.ts';
import { GuardFailed, type Store } from '../../src/store/store.ts';
import { ADMINISTRATOR, createWorld, SETTINGS, type World } from '../support/domain.ts';
import { putUser } from '../support/rows.ts';

const HOLDERS: readonly Holder[] = [
  { role: SERVICE, name: 'farm', principalId: 'AIDAFARM' },
  { role: USER, name: 'ada', principalId: '92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486' },
];

const textWith = (...statements: readonly object[]) => JSON.stringify({ Version: '2012-10-17', Statement: statements });
const allow = { Effect: 'Allow', Action: '*', Resource: '*' };
const deny = { Effect: 'Deny', Action: 'nimble:Delete*', Resource: '*' };

async function put(world: World, source: PolicySource): Promise<void> {
  const before = await world.store.get(KIND.policy, source.name);
  const row = storePolicy(source, before, world.services);
  await world.store.write([{ op: before ? 'update' : 'insert', row }]);
}

async function attach(world: World, holder: Holder, ...names: string[]): Promise<void> {
  const before = await getGrant(world.store, holder);
  await world.store.write(attachPolicies(holder, before, names, world.services));
}

const principalOf = ({ role, name, principalId }: Holder): Principal => ({
  accessKeyId: 'AKIA',
  principalId,
  role,
  username: name,
});

function asker(world: World, holder: Holder) {
  const withPolicies = createGrants(world.store);
  return async (action: string) => {
    const { policies } = await withPolicies(principalOf(holder));
    const request = { action: `nimble:${action}`, resource: ['*'], context: () => undefined };
    return evaluateAll(policies!, request).decision;
  };
}

for (const holder of HOLDERS) {
  describe(`a ${holder.role}`, () => {
    test('may do nothing until a policy is attached, what they say together then, and nothing when they are gone', async () => {
      const world = createWorld();
      const ask = asker(world, holder);
      assert.equal(await ask('GetStudio'), 'implicit-deny');
      await put(world, { name: 'allow', text: textWith(allow) });
      await put(world, { name: 'deny', text: textWith(deny) });
      await attach(world, holder, 'allow');
      assert.deepEqual([await ask('GetStudio'), await ask('DeleteStudio')], ['allow', 'allow']);
      await attach(world, holder, 'deny', 'allow');
      assert.deepEqual([await ask('GetStudio'), await ask('DeleteStudio')], ['allow', 'explicit-deny']);
      for (const name of ['allow', 'deny']) {
        const grant = (await getGrant(world.store, holder))!;
        await world.store.write([detachPolicy(grant, name)]);
      }
      assert.deepEqual([await ask('GetStudio'), await ask('DeleteStudio')], ['implicit-deny', 'implicit-deny']);
    });

    test('is held at once to a policy that was changed, and to one that was deleted and made again', async () => {
      const world = createWorld();
      const ask = asker(world, holder);
      await put(world, { name: 'p', text: textWith(allow) });
      await attach(world, holder, 'p');
      assert.equal(await ask('DeleteStudio'), 'allow');
      await put(world, { name: 'p', text: textWith(allow, deny) });
      assert.equal(await ask('DeleteStudio'), 'explicit-deny');
      const { version } = (await world.store.get(KIND.policy, 'p'))!;
      await world.store.write([{ op: 'delete', kind: KIND.policy, id: 'p', version }]);
      await assert.rejects(ask('GetStudio'), /has the policy p, which is not there/);
      await put(world, { name: 'p', text: textWith(deny) });
      assert.equal(await ask('GetStudio'), 'implicit-deny');
    });

    test('is refused everything where a policy cannot be read any more', async () => {
      const world = createWorld();
      const ask = asker(world, holder);
      await put(world, { name: 'allow', text: textWith(allow) });
      await put(world, { name: 'p', text: textWith(deny) });
      await attach(world, holder, 'allow', 'p');
      for (const damage of [
        ['2012-10-17', '2008-10-17'],
        ['Deny', 'deny'],
      ] as const) {
        const row = (await world.store.get(KIND.policy, 'p'))!;
        const damaged = row.private.replace(damage[0], damage[1]);
        await world.store.write([{ op: 'update', row: { ...row, private: damaged, version: row.version + 1 } }]);
        await assert.rejects(ask('GetStudio'), PolicyRefused);
        await put(world, { name: 'p', text: textWith(deny) });
        assert.equal(await ask('GetStudio'), 'allow');
      }
    });

    test('has at most ten policies', async () => {
      const world = createWorld();
      const names = Array.from({ length: 11 }, (_, index) => `p${index}`);
      assert.throws(() => attachPolicies(holder, undefined, names, world.services), /at most 10 policies/);
      await attach(world, holder, ...names.slice(1));
      const grant = await getGrant(world.store, holder);
      assert.throws(() => attachPolicies(holder, grant, ['p0'], world.services), PolicyRefused);
      assert.equal(readGrant(grant!).policies.length, 10);
    });
  });
}

test('services and users of one name, and of one id, have each their own', async () => {
  const world = createWorld();
  const [service, user] = [
    { role: SERVICE, name: 'x', principalId: 'y' } as const,
    { role: USER, name: 'x', principalId: 'x' } as const,
  ];
  await put(world, { name: 'p', text: textWith(allow) });
  await attach(world, service, 'p');
  assert.equal(await asker(world, user)('GetStudio'), 'implicit-deny');
  assert.equal(await asker(world, service)('GetStudio'), 'allow');
});

test('every key of a service has the same principal, and a name that could be none is refused', async () => {
  const world = createWorld();
  const first = await serviceNamed('farm', world.services);
  await world.store.write(attachPolicies(first, undefined, [], world.services));
  const again = await serviceNamed('farm', world.services);
  assert.equal(again.principalId, first.principalId);
  const { row } = newAccessKey('', world.keys, world.services, again);
  assert.equal(readPrincipal(row).principalId, first.principalId);
  for (const name of ['', 'a b', 'a/b', 'x'.repeat(65), 'ä']) {
    await assert.rejects(serviceNamed(name, world.services), /The name of a service/);
  }
});

test('a service is called like no user, whatever the case of the letters; one that is there stays', async () => {
  const world = createWorld();
  await putUser(world, 'Ada');
  for (const name of ['Ada', 'ada', 'ADA']) {
    await assert.rejects(
      serviceNamed(name, world.services),
      /There is a user Ada: a service must have a name of its own/,
    );
  }
  const farm = await serviceNamed('Farm', world.services);
  await world.store.write(attachPolicies(farm, undefined, [], world.services));
  for (const name of ['Farm', 'farm', 'FARM']) assert.equal(await findServiceLike(name, world.store), 'Farm');
  for (const name of ['far', 'ada', '']) assert.equal(await findServiceLike(name, world.store), undefined);
  // From before names were kept apart.
  await putUser(world, 'farm');
  assert.equal((await serviceNamed('Farm', world.services)).principalId, farm.principalId);
});

test('administrators are passed on as they are, at once; an unknown role has no policies', () => {
  const withPolicies = createGrants(createWorld().store);
  assert.equal(withPolicies(ADMINISTRATOR), ADMINISTRATOR);
  for (const role of ['policies', 'Service', '', '__proto__']) {
    const principal = { ...ADMINISTRATOR, role };
    assert.equal(withPolicies(principal), principal);
  }
});

test('a policy that is taken away and deleted between two reads is gone, and no mistake', async () => {
  const world = createWorld();
  const [holder] = HOLDERS as [Holder];
  await put(world, { name: 'p', text: textWith(allow) });
  await put(world, { name: 'stays', text: textWith(deny) });
  await attach(world, holder, 'p', 'stays');
  let deleted = false;
  const get: Store['get'] = async (kind, id) => {
    if (kind === KIND.policy && !deleted) {
      deleted = true;
      const { version } = (await world.store.get(KIND.policy, 'p'))!;
      await world.store.write([detachPolicy((await getGrant(world.store, holder))!, 'p')]);
      await world.store.write([{ op: 'delete', kind: KIND.policy, id: 'p', version }]);
    }
    return world.store.get(kind, id);
  };
  const ask = asker({ ...world, store: { ...world.store, get } }, holder);
  assert.deepEqual([await ask('GetStudio'), await ask('DeleteStudio')], ['implicit-deny', 'explicit-deny']);
  assert.ok(deleted);
});

test('of attaching and deleting at the same time, one is overtaken', async () => {
  const world = createWorld();
  const [holder] = HOLDERS as [Holder];
  await put(world, { name: 'p', text: textWith(allow) });
  const row = (await world.store.get(KIND.policy, 'p'))!;
  await world.store.write([heldPolicy(row), ...attachPolicies(holder, undefined, ['p'], world.services)]);
  const deleting = { op: 'delete', kind: KIND.policy, id: 'p', version: row.version } as const;
  await assert.rejects(world.store.write([deleting]), GuardFailed);
});

describe('a policy', () => {
  test('is stored as it was written, and keeps its age when it is changed', async () => {
    const world = createWorld();
    const text = ` ${textWith(allow)}\n`;
    await put(world, { name: 'p', text });
    world.clock.advance(60_000);
    await put(world, { name: 'p', text: textWith(allow, deny) });
    const row = (await world.store.get(KIND.policy, 'p'))!;
    assert.deepEqual(JSON.parse(row.doc), {
      name: 'p',
      statements: 2,
      createdAt: '2026-01-01T00:00:00Z',
      updatedAt: '2026-01-01T00:01:00Z',
    });
    await put(world, { name: 'p', text });
    assert.deepEqual(sourceOf((await world.store.get(KIND.policy, 'p'))!), { name: 'p', text });
  });

  test('is not stored when it is none, has a name that is none, or would come to nothing here', () => {
    const { services } = createWorld();
    const abroad = { ...allow, Resource: 'arn:aws:nimble:eu-west-1:123456789012:studio/*' };
    const here = { ...allow, Resource: `arn:aws:nimble:${SETTINGS.region}:${SETTINGS.accountId}:studio/*` };
    const cases: readonly [PolicySource, RegExp][] = [
      [{ name: 'p', text: '{' }, /^p: The document is not valid JSON/],
      [{ name: 'p', text: textWith({ ...allow, Action: 'nimble:GetStudios' }) }, /^p: Statement 1: Action/],
      [{ name: 'p', text: textWith(here, abroad) }, /^p: Statement 2 names nothing of region us-west-2/],
      [{ name: '', text: textWith(allow) }, /The name of a policy/],
      [{ name: 'a/b', text: textWith(allow) }, /The name of a policy/],
      [{ name: 'x'.repeat(129), text: textWith(allow) }, /The name of a policy/],
    ];
    for (const [source, says] of cases) {
      assert.throws(
        () => storePolicy(source, undefined, services),
        (error) => error instanceof PolicyRefused && says.test(error.message),
      );
    }
    storePolicy({ name: 'x'.repeat(128), text: textWith(here) }, undefined, services);
  });
});
