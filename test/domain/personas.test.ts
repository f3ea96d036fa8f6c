/**
 * What each persona may do: every operation by administrators, services, users who administer a studio, who may use one of
 * its launch profiles by themselves or in a group, who have nothing, and strangers; in the studio that is theirs and in
 * another, with what is theirs and what is somebody else's. What is expected is written out, not asked of the policies.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import { authorize } from '../../src/domain/access.ts';
import type { Principal } from '../../src/domain/context.ts';
import { handlers } from '../../src/domain/index.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { membershipId } from '../../src/domain/membership.ts';
import { perform } from '../../src/domain/perform.ts';
import { STUDIO_ADMINISTRATOR } from '../../src/domain/persona.ts';
import { compilePolicy, joinPolicies } from '../../src/domain/policy.ts';
import { ServiceError } from '../../src/errors.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { EXPECTED, OF_THE_INSTALLATION, type Who } from '../support/persona-table.ts';
import {
  arnOfImage,
  putComponent,
  putEula,
  putGroup,
  putImage,
  putMember,
  putProfile,
  putState,
  putUser,
} from '../support/rows.ts';

const contract: readonly Operation[] = operations;

type Input = Readonly<Record<string, unknown>>;

interface Studio {
  readonly studioId: string;
  readonly profileId: string;
  readonly otherProfileId: string;
  readonly labels: Readonly<Record<string, string>>;
}

async function furnish(world: World): Promise<Studio> {
  const studioId = await world.makeStudio();
  const profileId = await putProfile(world, studioId);
  const streamingImageId = await putImage(world, studioId);
  const labels = {
    studioId,
    launchProfileId: profileId,
    streamingImageId,
    studioComponentId: await putComponent(world, studioId),
    eulaId: await putEula(world),
    resourceArn: arnOfImage(streamingImageId),
  };
  return { studioId, profileId, otherProfileId: await putProfile(world, studioId), labels };
}

/** A call about what stands in a studio, and what is this person's in it. */
async function inputOf(
  world: World,
  { name, labels, query }: Operation,
  studio: Studio,
  owner: string,
): Promise<Input> {
  const own = await putSession(world, studio, owner);
  const known: Readonly<Record<string, string>> = { ...studio.labels, ...own, principalId: owner };
  const named = Object.keys(labels).map((label) => {
    assert.ok(known[label] !== undefined, `${name} needs a ${label} here`);
    return [label, known[label]];
  });
  const filters = Object.keys(query).includes('ownedBy') ? { ownedBy: owner } : {};
  return { ...Object.fromEntries(named), ...filters, ...MORE[name]?.({ ...known }) };
}

/** What else decides. */
const MORE: Readonly<Record<string, (known: Readonly<Record<string, string>>) => Input>> = {
  CreateStreamingSession: ({ launchProfileId }) => ({ launchProfileId }),
  ListLaunchProfiles: ({ principalId }) => ({ principalId }),
  AcceptEulas: ({ eulaId }) => ({ eulaIds: [eulaId] }),
};

/** As little of a session as permissions look at. */
async function putSession(world: World, { studioId, profileId }: Studio, ownedBy: string) {
  const [sessionId, streamId, backupId] = [1, 2, 3].map(() => world.services.ids.short()) as [string, string, string];
  const rowOf = (kind: string, id: string, parentId: string) =>
    newRow({ kind, id, studioId, parentId, ownerId: ownedBy, createdAt: 0, doc: JSON.stringify({ ownedBy }) });
  await world.store.write([
    { op: 'insert', row: rowOf(KIND.streamingSession, sessionId, profileId) },
    { op: 'insert', row: rowOf('streaming-session-stream', streamId, sessionId) },
    { op: 'insert', row: rowOf('streaming-session-backup', backupId, sessionId) },
  ]);
  return { sessionId, streamId, backupId };
}

async function may(world: World, principal: Principal, { name }: Operation, input: Input): Promise<boolean> {
  try {
    await authorize({ operation: { name }, input, principal, origin: {} }, world.services);
    return true;
  } catch (error) {
    if (error instanceof ServiceError && error.name === 'AccessDeniedException') return false;
    throw error;
  }
}

const keyOf = (principalId: string): Principal => ({
  accessKeyId: 'AKIAUSER',
  principalId,
  role: 'user',
  username: 'u',
});

interface Scene {
  readonly world: World;
  readonly mine: Studio;
  readonly theirs: Studio;
  readonly nobody: string;
}

async function createScene(): Promise<Scene> {
  const world = createWorld();
  return { world, mine: await furnish(world), theirs: await furnish(world), nobody: await putUser(world, 'nobody') };
}

/** Persona by persona: who it is, made for a scene, and what he may as the table calls it. */
const PERSONAS: Readonly<Record<string, { who: readonly Who[]; make: (scene: Scene) => Promise<string> }>> = {
  'an administrator of the studio': {
    who: ['admin'],
    make: async ({ world, mine }) => {
      const id = await putUser(world, 'admin');
      await putMember(world, mine.studioId, id);
      return id;
    },
  },
  'a member of the launch profile': {
    who: ['member', 'user', 'own'],
    make: async ({ world, mine }) => {
      const id = await putUser(world, 'member');
      await putMember(world, mine.studioId, id, mine.profileId);
      return id;
    },
  },
  'somebody in a group that is a member of the launch profile': {
    who: ['member', 'user', 'own'],
    make: async ({ world, mine }) => {
      const id = await putUser(world, 'grouped');
      await putMember(world, mine.studioId, await putGroup(world, 'artists', [id]), mine.profileId);
      return id;
    },
  },
  'a member of another launch profile of the studio': {
    who: ['user', 'own'],
    make: async ({ world, mine }) => {
      const id = await putUser(world, 'neighbour');
      await putMember(world, mine.studioId, id, mine.otherProfileId);
      return id;
    },
  },
  'a user with nothing': { who: [], make: async ({ nobody }) => nobody },
  'a stranger': { who: [], make: async () => '92677b4b19-00000000-0000-4000-8000-000000000000' },
};

test('every operation has its line in the table', () => {
  for (const { name } of contract) assert.ok(EXPECTED[name], `say in EXPECTED who may ${name}`);
});

for (const [persona, { who, make }] of Object.entries(PERSONAS)) {
  describe(persona, () => {
    const isSomebody = who.length > 0;
    const expected = ({ name }: Operation) => EXPECTED[name]!.some((one) => who.includes(one));

    test('may do in the own studio, with what is his, what the table says', async () => {
      const scene = await createScene();
      const id = await make(scene);
      for (const operation of contract) {
        const input = await inputOf(scene.world, operation, scene.mine, id);
        assert.equal(await may(scene.world, keyOf(id), operation, input), expected(operation), operation.name);
      }
    });

    test('may do in the own studio, with what is of others, what is not only for owners', async () => {
      const scene = await createScene();
      const id = await make(scene);
      for (const operation of contract) {
        const isOwners = EXPECTED[operation.name]!.includes('own') && !who.includes('admin');
        const input = await inputOf(scene.world, operation, scene.mine, scene.nobody);
        assert.equal(
          await may(scene.world, keyOf(id), operation, input),
          expected(operation) && !isOwners,
          operation.name,
        );
        const { ownedBy: _ownedBy, principalId, ...unfiltered } = input as Record<string, unknown>;
        const listed = 'principalId' in operation.labels ? { ...unfiltered, principalId } : unfiltered;
        assert.equal(
          await may(scene.world, keyOf(id), operation, listed),
          expected(operation) && !isOwners,
          operation.name,
        );
      }
    });

    test('may do nothing in another studio, and nothing with what is in it', async () => {
      const scene = await createScene();
      const id = await make(scene);
      for (const operation of contract) {
        const isEverywhere = OF_THE_INSTALLATION.includes(operation.name) && isSomebody;
        const there = await inputOf(scene.world, operation, scene.theirs, id);
        assert.equal(await may(scene.world, keyOf(id), operation, there), isEverywhere, operation.name);
        // Their things under the name of one's own studio, and the other way round.
        if (there.studioId === undefined) continue;
        const here = await inputOf(scene.world, operation, scene.mine, id);
        assert.equal(
          await may(scene.world, keyOf(id), operation, { ...here, studioId: scene.theirs.studioId }),
          false,
          operation.name,
        );
        if (who.includes('admin') || !('launchProfileId' in there)) continue;
        assert.equal(
          await may(scene.world, keyOf(id), operation, { ...there, studioId: scene.mine.studioId }),
          expected(operation) && !EXPECTED[operation.name]!.includes('member'),
          operation.name,
        );
      }
    });

    test('may do what an attached policy allows besides, and nothing that one denies', async () => {
      const scene = await createScene();
      const id = await make(scene);
      const attached = (Effect: string) => {
        const Statement = { Effect, Action: '*', Resource: '*' };
        return [joinPolicies([compilePolicy('all', JSON.stringify({ Version: '2012-10-17', Statement }))])];
      };
      for (const operation of contract) {
        const input = await inputOf(scene.world, operation, scene.mine, id);
        const key = (effect: string) => ({ ...keyOf(id), policies: attached(effect) });
        assert.equal(await may(scene.world, key('Allow'), operation, input), true, operation.name);
        assert.equal(await may(scene.world, key('Deny'), operation, input), false, operation.name);
      }
    });
  });
}

test('the administrator may do everything in every studio, and is not asked about', async () => {
  const { world, mine, theirs } = await createScene();
  for (const operation of contract) {
    for (const studio of [mine, theirs]) {
      const input = await inputOf(world, operation, studio, ADMINISTRATOR.principalId);
      const call = { operation, input, principal: ADMINISTRATOR, origin: {} };
      assert.equal(authorize(call, world.services), undefined, operation.name);
    }
  }
});

test('a service may do what its policies allow and is no member of anything, whatever its id', async () => {
  const { world, mine, theirs } = await createScene();
  const admin = await putUser(world, 'admin');
  await putMember(world, mine.studioId, admin);
  const service: Principal = { accessKeyId: 'AKIA', principalId: admin, role: 'service', username: 'farm' };
  for (const operation of contract) {
    for (const studio of [mine, theirs]) {
      const input = await inputOf(world, operation, studio, admin);
      assert.equal(await may(world, service, operation, input), false, operation.name);
      const withPolicy = { ...service, policies: [STUDIO_ADMINISTRATOR.policies] };
      assert.equal(await may(world, withPolicy, operation, input), EXPECTED[operation.name]!.includes('admin'));
    }
  }
});

test('a launch profile counts in its own studio only, for a member of two', async () => {
  const { world, mine, theirs } = await createScene();
  const id = await putUser(world, 'member');
  for (const { studioId, profileId } of [mine, theirs]) await putMember(world, studioId, id, profileId);
  for (const operation of contract.filter(({ name }) => EXPECTED[name]!.includes('member'))) {
    const [here, there] = [await inputOf(world, operation, mine, id), await inputOf(world, operation, theirs, id)];
    assert.deepEqual(
      [await may(world, keyOf(id), operation, here), await may(world, keyOf(id), operation, there)],
      [true, true],
    );
    assert.equal(await may(world, keyOf(id), operation, { ...there, studioId: mine.studioId }), false, operation.name);
  }
});

test('a membership that ends takes away at once what it gave', async () => {
  const scene = await createScene();
  const { world, mine } = scene;
  for (const persona of ['an administrator of the studio', 'a member of the launch profile']) {
    const id = await PERSONAS[persona]!.make(scene);
    const operation = contract.find(({ name }) => name === 'GetLaunchProfile')!;
    const input = { studioId: mine.studioId, launchProfileId: mine.profileId };
    assert.equal(await may(world, keyOf(id), operation, input), true);
    const [kind, parentId] = persona.includes('administrator')
      ? [KIND.studioMember, mine.studioId]
      : [KIND.launchProfileMember, mine.profileId];
    const row = (await world.store.get(kind, membershipId(parentId, id)))!;
    await world.store.write([{ op: 'delete', kind, id: row.id, version: row.version }]);
    assert.equal(await may(world, keyOf(id), operation, input), false, persona);
  }
});

test('a membership of a launch profile that is deleted opens nothing any more, though it is still there', async () => {
  const scene = await createScene();
  const { world, mine } = scene;
  const operation = contract.find(({ name }) => name === 'ListStudioMembers')!;
  for (const persona of [
    'a member of the launch profile',
    'somebody in a group that is a member of the launch profile',
  ]) {
    const id = await PERSONAS[persona]!.make(scene);
    assert.equal(await may(world, keyOf(id), operation, { studioId: mine.studioId }), true, persona);
    await putState(world, KIND.launchProfile, mine.profileId, 'DELETED');
    assert.equal(await may(world, keyOf(id), operation, { studioId: mine.studioId }), false, persona);
    await putState(world, KIND.launchProfile, mine.profileId, 'READY');
  }
});

test('a refusal does not say whether there is such a launch profile, such a studio or such a session', async () => {
  const scene = await createScene();
  const { world, mine, theirs } = scene;
  const id = await PERSONAS['a member of the launch profile']!.make(scene);
  const absent = 'AAAAAAAAAAAAAAAAAAAAAA';
  const said = async (name: 'GetLaunchProfile' | 'GetStudio', input: Record<string, string>) => {
    const operation = contract.find((one) => one.name === name)!;
    const error = await perform(operation, handlers[name] as never, input, keyOf(id), world.services).catch(
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof ServiceError);
    const [last] = Object.values(input).reverse() as [string];
    return [error.name, error.code, error.message.replace(last.split(':').at(-1)!, 'ID')];
  };
  const inMine = (launchProfileId: string) => said('GetLaunchProfile', { studioId: mine.studioId, launchProfileId });
  const [first, ...others] = [
    await inMine(mine.otherProfileId),
    await inMine(theirs.profileId),
    await inMine(absent),
    await said('GetLaunchProfile', { studioId: theirs.studioId, launchProfileId: theirs.profileId }),
    await said('GetLaunchProfile', { studioId: 'us-west-2:stid-aaaaaaaaaaaaaaaa', launchProfileId: absent }),
  ];
  assert.equal(first![0], 'AccessDeniedException');
  for (const other of others) assert.deepEqual(other, first);
  const studios = [theirs.studioId, 'us-west-2:stid-aaaaaaaaaaaaaaaa'];
  const [one, two] = await Promise.all(studios.map((studioId) => said('GetStudio', { studioId })));
  assert.deepEqual(one, two);
});
