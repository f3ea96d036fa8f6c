/**
 * Client tokens: the same call with the same token succeeds again and does nothing more, whatever has happened since;
 * with other parameters it is refused. Only successes are remembered, and only for a while.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type OperationName, operations } from '../../src/contract/index.ts';
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { perform } from '../../src/domain/perform.ts';
import { streamingSessionHandlers } from '../../src/domain/streaming-session.ts';
import { ADMINISTRATOR, createWorld, type SETTINGS, type World } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import {
  IDENTITY_STORE_ID,
  newProfileInput,
  putComponent,
  putElsewhere,
  putEula,
  putImage,
  putMember,
  putProfile,
  putState,
  putUser,
} from '../support/rows.ts';
import { createStage, PERSISTENT } from '../support/sessions.ts';

const CREATE_STUDIO = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd', studioName: 'alpha' };
const HOUR_MS = 3_600_000;

interface Scenario {
  /** Input of a call that succeeds, and what another call differs in; nothing where there is nothing to differ in. */
  readonly prepare: (world: World) => Promise<{ input: Record<string, unknown>; other: object }>;
  /** Status of the same call made again, once the first has settled, as a call of its own. */
  readonly again: 200 | 400 | 404 | 409;
}

const imageIn = async (world: World) => {
  const studioId = await world.makeStudio();
  return { studioId, streamingImageId: await putImage(world, studioId) };
};

const componentIn = async (world: World) => {
  const studioId = await world.makeStudio();
  return { studioId, studioComponentId: await putComponent(world, studioId) };
};

const profileIn = async (world: World) => {
  const studioId = await world.makeStudio();
  const streamingImageIds = [await putImage(world, studioId)];
  const streamConfiguration: StreamConfiguration = {
    clipboardMode: 'ENABLED',
    ec2InstanceTypes: ['g5.xlarge'],
    streamingImageIds,
  };
  return { studioId, launchProfileId: await putProfile(world, studioId, { streamConfiguration }) };
};

/** A member of a launch profile and of its studio. */
const memberIn = async (world: World) => {
  const { studioId, launchProfileId } = await profileIn(world);
  const principalId = await putUser(world, 'ann');
  await putMember(world, studioId, principalId);
  await putMember(world, studioId, principalId, launchProfileId);
  return { studioId, launchProfileId, principalId };
};

const putting = (persona: string, ...principalIds: string[]) => ({
  identityStoreId: IDENTITY_STORE_ID,
  members: principalIds.map((principalId) => ({ principalId, persona })),
});

/** Made again, these change nothing: what they make is there. */
const HARMLESS = ['AcceptEulas', 'PutLaunchProfileMembers', 'UpdateLaunchProfileMember', 'PutStudioMembers'];

const sessionIn = async (world: World) => {
  const stage = await createStage(world, PERSISTENT);
  return { studioId: stage.studioId, sessionId: await stage.create() };
};

const SCENARIOS: Partial<Record<OperationName, Scenario>> = {
  CreateStudio: {
    again: 409,
    prepare: async () => ({ input: CREATE_STUDIO, other: { displayName: 'other' } }),
  },
  UpdateStudio: {
    again: 200,
    prepare: async (world) => ({
      input: { studioId: await world.makeStudio(), displayName: 'new' },
      other: { displayName: 'newer' },
    }),
  },
  DeleteStudio: {
    again: 404,
    prepare: async (world) => ({ input: { studioId: await world.makeStudio() }, other: {} }),
  },
  StartStudioSSOConfigurationRepair: {
    again: 400,
    prepare: async (world) => {
      const studioId = await world.makeStudio();
      await putElsewhere(world, studioId);
      return { input: { studioId }, other: {} };
    },
  },
  CreateStreamingImage: {
    again: 200,
    prepare: async (world) => {
      await world.addMachineImage('ami-1');
      const input = { studioId: await world.makeStudio(), name: 'n', ec2ImageId: 'ami-1', tags: { a: '1', b: '2' } };
      return { input, other: { tags: { a: '1', b: '3' } } };
    },
  },
  UpdateStreamingImage: {
    again: 200,
    prepare: async (world) => ({ input: { ...(await imageIn(world)), name: 'new' }, other: { description: '' } }),
  },
  DeleteStreamingImage: {
    again: 404,
    prepare: async (world) => ({ input: await imageIn(world), other: {} }),
  },
  CreateStudioComponent: {
    again: 200,
    prepare: async (world) => {
      const farm = { computeFarmConfiguration: { endpoint: 'farm', activeDirectoryUser: 'user' } };
      const input = { studioId: await world.makeStudio(), name: 'n', type: 'COMPUTE_FARM', configuration: farm };
      return { input, other: { configuration: { computeFarmConfiguration: { endpoint: 'farm' } } } };
    },
  },
  UpdateStudioComponent: {
    again: 200,
    prepare: async (world) => ({ input: { ...(await componentIn(world)), name: 'new' }, other: { type: 'CUSTOM' } }),
  },
  DeleteStudioComponent: {
    again: 404,
    prepare: async (world) => ({ input: await componentIn(world), other: {} }),
  },
  CreateLaunchProfile: {
    again: 200,
    prepare: async (world) => {
      const studioId = await world.makeStudio();
      return { input: { studioId, ...(await newProfileInput(world, studioId)) }, other: { ec2SubnetIds: [] } };
    },
  },
  UpdateLaunchProfile: {
    again: 200,
    prepare: async (world) => ({ input: { ...(await profileIn(world)), name: 'new' }, other: { description: '' } }),
  },
  DeleteLaunchProfile: {
    again: 404,
    prepare: async (world) => ({ input: await profileIn(world), other: {} }),
  },
  PutLaunchProfileMembers: {
    again: 200,
    prepare: async (world) => {
      const { principalId, ...place } = await memberIn(world);
      const [one, two] = [await putUser(world, 'one'), principalId];
      return { input: { ...place, ...putting('USER', one) }, other: putting('USER', one, two) };
    },
  },
  UpdateLaunchProfileMember: {
    again: 200,
    prepare: async (world) => ({ input: { ...(await memberIn(world)), persona: 'USER' }, other: {} }),
  },
  DeleteLaunchProfileMember: {
    again: 404,
    prepare: async (world) => ({ input: await memberIn(world), other: {} }),
  },
  PutStudioMembers: {
    again: 200,
    prepare: async (world) => {
      const { principalId, studioId } = await memberIn(world);
      const [one, two] = [await putUser(world, 'one'), principalId];
      return { input: { studioId, ...putting('ADMINISTRATOR', one) }, other: putting('ADMINISTRATOR', one, two) };
    },
  },
  DeleteStudioMember: {
    again: 404,
    prepare: async (world) => {
      const { studioId, principalId } = await memberIn(world);
      return { input: { studioId, principalId }, other: {} };
    },
  },
  CreateStreamingSession: {
    again: 200,
    prepare: async (world) => {
      const { studioId, launchProfileId } = await createStage(world);
      return { input: { studioId, launchProfileId, tags: { a: '1' } }, other: { ownedBy: 'other' } };
    },
  },
  StartStreamingSession: {
    again: 409,
    prepare: async (world) => {
      const stage = await createStage(world, PERSISTENT);
      const input = { studioId: stage.studioId, sessionId: await stage.createStopped() };
      return { input, other: { backupId: 'other' } };
    },
  },
  StopStreamingSession: {
    again: 409,
    prepare: async (world) => ({ input: await sessionIn(world), other: { volumeRetentionMode: 'DELETE' } }),
  },
  DeleteStreamingSession: {
    again: 404,
    prepare: async (world) => ({ input: await sessionIn(world), other: {} }),
  },
  CreateStreamingSessionStream: {
    again: 200,
    prepare: async (world) => ({ input: await sessionIn(world), other: { expirationInSeconds: 60 } }),
  },
  AcceptEulas: {
    again: 200,
    prepare: async (world) => {
      const [one, two] = [await putEula(world), await putEula(world)];
      return { input: { studioId: await world.makeStudio(), eulaIds: [one] }, other: { eulaIds: [one, two] } };
    },
  },
};

/** Every row of every kind that a call could have touched. */
async function everything(world: World): Promise<string> {
  const rows = await Promise.all(
    [
      KIND.studio,
      KIND.studioComponent,
      KIND.streamingImage,
      KIND.eulaAcceptance,
      KIND.launchProfile,
      KIND.launchProfileMember,
      KIND.studioMember,
      KIND.streamingSession,
      KIND.streamingSessionStream,
    ].map((kind) => world.store.list({ kind, limit: 1_000 })),
  );
  return JSON.stringify(rows);
}

async function prepared(name: OperationName, settings: Partial<typeof SETTINGS> = {}) {
  const world = createWorld({ settings });
  const { input, other } = await SCENARIOS[name]!.prepare(world);
  const call = (more: object = {}) => world.call(name, { ...input, clientToken: 'token', ...more });
  return { world, input, other, call };
}

test('a token is the caller’s own: another who uses the same gets neither their answer nor their refusal', async () => {
  const world = createWorld();
  const { studioId, launchProfileId } = await createStage(world);
  const operation = operations.find(({ name }) => name === 'CreateStreamingSession')!;
  const create = async (principalId: string, more: object = {}) => {
    const input = { studioId, launchProfileId, clientToken: 'guessed', ...more };
    const principal = { ...ADMINISTRATOR, principalId };
    const answer = await perform(
      operation,
      streamingSessionHandlers.CreateStreamingSession as never,
      input,
      principal,
      world.services,
    );
    return (JSON.parse(String(answer)) as { session: { sessionId: string; ownedBy: string } }).session;
  };
  const [first, other] = [await create('first'), await create('other', { tags: { a: '1' } })];
  assert.notEqual(first.sessionId, other.sessionId);
  assert.equal((await create('first')).sessionId, first.sessionId);
  assert.deepEqual([first.ownedBy, other.ownedBy], ['first', 'other']);
});

test('these are all operations that take a client token', () => {
  const expected = operations.flatMap((operation) => (operation.clientToken ? [operation.name] : []));
  assert.deepEqual([...expected].sort(), Object.keys(SCENARIOS).sort());
});

for (const [name, { again }] of Object.entries(SCENARIOS) as [OperationName, Scenario][]) {
  test(`${name}: the same call again at once answers the same and does nothing more`, async () => {
    const { world, call } = await prepared(name);
    const first = await call();
    const before = await everything(world);
    assert.deepEqual(await call(), first);
    assert.deepEqual(await call(), first);
    assert.equal(await everything(world), before);
  });

  test(`${name}: a replay after the state moved on answers with how things now stand, and does nothing`, async () => {
    const { world, input, call } = await prepared(name);
    const members = Object.keys(await call());
    const [member] = members;
    world.clock.advance(5_000);
    await world.settle();
    const before = await everything(world);
    const answer = (await call()) as Record<string, { state?: string }>;
    assert.deepEqual(Object.keys(answer), members);
    if (member === 'studio') assert.equal(answer.studio!.state, name === 'DeleteStudio' ? 'DELETED' : 'READY');
    if (['streamingImage', 'studioComponent', 'launchProfile'].includes(member!)) {
      assert.equal(answer[member!]!.state, name.startsWith('Delete') ? 'DELETED' : 'READY');
    }
    if (member === 'eulaAcceptances') assert.deepEqual(answer, await world.call('ListEulaAcceptances', input));
    await world.settle();
    assert.equal(await everything(world), before);
  });

  test(`${name}: two calls at once with one token do one thing`, async () => {
    const { world, call } = await prepared(name);
    const answers = await Promise.all([call(), call(), call()]);
    assert.deepEqual(answers[1], answers[0]);
    assert.deepEqual(answers[2], answers[0]);
    const before = await everything(world);
    assert.deepEqual(await call(), answers[0]);
    assert.equal(await everything(world), before);
  });

  test(`${name}: the token with other parameters is a ValidationException, and changes nothing`, async () => {
    const { world, other, call } = await prepared(name);
    await call();
    const before = await everything(world);
    if (Object.keys(other).length > 0) await refused(call(other), 'ValidationException', 'CLIENT_TOKEN_REUSED');
    assert.equal(await everything(world), before);
  });

  test(`${name}: under another token, or none, the same call is a call of its own`, async () => {
    for (const clientToken of ['another', undefined]) {
      const { world, call } = await prepared(name);
      await call();
      await world.settle();
      const before = await everything(world);
      assert.equal(await statusOf(call({ clientToken })), again);
      assert.equal((await everything(world)) !== before, again === 200 && !HARMLESS.includes(name));
    }
  });

  test(`${name}: a token is remembered until it expires, and not a moment longer`, async () => {
    const { world, other, call } = await prepared(name, { tokenMs: HOUR_MS, tombstoneMs: 1_000 * HOUR_MS });
    await call();
    await world.settle();
    world.clock.advance(HOUR_MS - 1);
    const before = await everything(world);
    await call();
    assert.equal(await everything(world), before);
    world.clock.advance(1);
    assert.equal(await statusOf(call(other)), again);
  });
}

test('a token belongs to its operation: the same one may be used with another', async () => {
  const world = createWorld();
  const { studioId, streamingImageId } = await imageIn(world);
  const input = { studioId, streamingImageId, clientToken: 'token' };
  await world.call('UpdateStreamingImage', input);
  await world.call('DeleteStreamingImage', input);
  await world.call('CreateStreamingImage', { ...input, name: 'n', ec2ImageId: 'ami-1' });
  assert.equal((await world.store.get(KIND.streamingImage, streamingImageId))!.state, 'DELETE_IN_PROGRESS');
});

test('a token belongs to its path: the same one may be used for another resource', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const streamingImageId of [await putImage(world, studioId), await putImage(world, studioId)]) {
    await world.call('UpdateStreamingImage', {
      studioId,
      streamingImageId,
      name: streamingImageId,
      clientToken: 'token',
    });
    const { doc } = (await world.store.get(KIND.streamingImage, streamingImageId))!;
    assert.equal(JSON.parse(doc).name, streamingImageId);
  }
});

test('what separates the parts of a call cannot be forged in one of them', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  const call = (clientToken: string) =>
    world.call('UpdateStreamingImage', { studioId, streamingImageId, name: clientToken, clientToken });
  for (const token of ['a', 'a"', '"a', `a","${studioId}`, 'a\u0000', 'a/', '🎬', ' a', 'A']) await call(token);
  const { doc } = (await world.store.get(KIND.streamingImage, streamingImageId))!;
  assert.equal(JSON.parse(doc).name, 'A');
});

test('a call that failed is not remembered: once it can succeed, it does', async () => {
  const world = createWorld({ settings: { streamingImagesMax: 1 } });
  const studioId = await world.makeStudio();
  const create = () =>
    world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'token' });
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  await refused(create(), 'ConflictException');
  await putState(world, KIND.studio, studioId, 'READY');
  const blocking = await putImage(world, studioId);
  await refused(create(), 'ServiceQuotaExceededException');
  await putState(world, KIND.streamingImage, blocking, 'DELETED');
  await create();
  await refused(
    world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'other' }),
    'ServiceQuotaExceededException',
  );
  await create();
});

test('a replay comes before every other check, so it succeeds where a new call would be refused', async () => {
  const world = createWorld({ settings: { streamingImagesMax: 1 } });
  const studioId = await world.makeStudio();
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'token' };
  const first = await world.call('CreateStreamingImage', input);
  await putState(world, KIND.studio, studioId, 'DELETE_IN_PROGRESS');
  assert.deepEqual(await world.call('CreateStreamingImage', input), first);
});

test('a reused token is refused before the studio is even looked for', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await world.call('DeleteStudio', { studioId, clientToken: 'token' });
  await world.settle();
  const update = { studioId, displayName: 'new', clientToken: 'token' };
  await refused(world.call('UpdateStudio', update), 'ResourceNotFoundException');
  const input = { ...CREATE_STUDIO, clientToken: 'token' };
  await world.call('CreateStudio', input);
  await refused(
    world.call('CreateStudio', { ...input, tags: { a: '1' } }),
    'ValidationException',
    'CLIENT_TOKEN_REUSED',
  );
});

test('of two calls at once with one token and different parameters, one is refused', async () => {
  const { world, input } = await prepared('CreateStreamingImage');
  const outcomes = await Promise.allSettled(
    ['one', 'two'].map((name) => world.call('CreateStreamingImage', { ...input, name, clientToken: 'token' })),
  );
  const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
  assert.equal(failures.length, 1);
  await refused(Promise.reject(failures[0]), 'ValidationException', 'CLIENT_TOKEN_REUSED');
  assert.equal(await world.store.count({ kind: KIND.streamingImage, limit: 10 }), 1);
});

for (const [name, member] of [
  ['CreateStreamingImage', 'streamingImage'],
  ['CreateStudioComponent', 'studioComponent'],
  ['CreateStudio', 'studio'],
] as const) {
  test(`${name}: a replay for what was made and has been purged since is 404, and makes nothing`, async () => {
    const { world, input, call } = await prepared(name, { tombstoneMs: 60_000, tokenMs: 24 * HOUR_MS });
    const made = ((await call()) as Record<string, Record<string, string>>)[member]!;
    await world.settle();
    const id = `${member}Id`;
    await world.call(name.replace('Create', 'Delete') as OperationName, { ...input, [id]: made[id] });
    await world.settle();
    world.clock.advance(60_000);
    await world.settle();
    const before = await everything(world);
    await refused(call(), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: made[id]! });
    assert.equal(await everything(world), before);
  });
}

test('AcceptEulas: a replay for a studio that has been purged since is 404', async () => {
  const { world, input, call } = await prepared('AcceptEulas', { tombstoneMs: 60_000, tokenMs: 24 * HOUR_MS });
  await call();
  await world.call('DeleteStudio', { studioId: input.studioId });
  await world.settle();
  world.clock.advance(60_000);
  await world.settle();
  await refused(call(), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: input.studioId as string });
});

test('a token that is remembered for no time is no token', async () => {
  const { world, call } = await prepared('CreateStreamingImage', { tokenMs: 0 });
  await call();
  await call();
  assert.equal(await world.store.count({ kind: KIND.streamingImage, limit: 10 }), 2);
});
