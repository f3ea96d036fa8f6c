/**
 * The five operations on studio components, as a caller sees them: which fields there are, what fits together, what an
 * update replaces, how many there may be, and in which order refusals come.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import {
  type StudioComponent,
  studioComponentSubtype,
  studioComponentType,
} from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { assertConforms } from '../support/conforms.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { arnOfComponent, putComponent, putState } from '../support/rows.ts';

const KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';
const USER = ADMINISTRATOR.principalId;

interface One {
  studioComponent: StudioComponent;
}
interface Many {
  studioComponents: StudioComponent[];
  nextToken?: string;
}

/** Everything that a caller can set of a file system. */
const FULL = {
  configuration: {
    sharedFileSystemConfiguration: {
      endpoint: 'files.example.org',
      fileSystemId: 'fs-1',
      linuxMountPoint: '/mnt/show',
      shareName: 'show',
      windowsMountDrive: 'S',
    },
  },
  description: "The show's files",
  ec2SecurityGroupIds: ['sg-2', 'sg-1'],
  initializationScripts: [
    {
      launchProfileProtocolVersion: '2021-03-31',
      platform: 'LINUX',
      runContext: 'SYSTEM_INITIALIZATION',
      script: 'mount',
    },
    { platform: 'WINDOWS' },
  ],
  name: 'Files',
  runtimeRoleArn: 'arn:aws:iam::123456789012:role/runtime',
  scriptParameters: [
    { key: 'SHOW', value: 'alpha' },
    { key: 'SHOW', value: 'beta' },
  ],
  secureInitializationRoleArn: 'arn:aws:iam::123456789012:role/secure',
  subtype: 'AMAZON_FSX_FOR_WINDOWS',
  type: 'SHARED_FILE_SYSTEM',
} as const;

async function create(world: World, studioId: string, input: object = {}): Promise<StudioComponent> {
  const answer = await world.call<One>('CreateStudioComponent', { studioId, name: 'c', type: 'CUSTOM', ...input });
  assertConforms('CreateStudioComponent', answer);
  return answer.studioComponent;
}

async function get(world: World, studioId: string, studioComponentId: string): Promise<StudioComponent> {
  const answer = await world.call<One>('GetStudioComponent', { studioId, studioComponentId });
  assertConforms('GetStudioComponent', answer);
  return answer.studioComponent;
}

async function update(world: World, studioId: string, studioComponentId: string, input: object) {
  const answer = await world.call<One>('UpdateStudioComponent', { studioId, studioComponentId, ...input });
  assertConforms('UpdateStudioComponent', answer);
  return answer.studioComponent;
}

async function remove(world: World, studioId: string, studioComponentId: string): Promise<StudioComponent> {
  const answer = await world.call<One>('DeleteStudioComponent', { studioId, studioComponentId });
  assertConforms('DeleteStudioComponent', answer);
  return answer.studioComponent;
}

async function listIds(world: World, input: object): Promise<string[]> {
  const answer = await world.call<Many>('ListStudioComponents', input);
  assertConforms('ListStudioComponents', answer);
  return answer.studioComponents.map(({ studioComponentId }) => studioComponentId!);
}

/** A component that is READY, or what else it comes to. */
async function made(world: World, studioId: string, input: object = {}): Promise<StudioComponent> {
  const { studioComponentId } = await create(world, studioId, input);
  await world.settle();
  return get(world, studioId, studioComponentId!);
}

const states = ({ state, statusCode }: StudioComponent) => [state, statusCode];
const READY = ['READY', 'STUDIO_COMPONENT_CREATED'];
const SECOND_DIRECTORY = ['CREATE_FAILED', 'ACTIVE_DIRECTORY_ALREADY_EXISTS'];

// ---------------------------------------------------------------------------------------------------------------------
// Fields

test('a create answers at once, in CREATE_IN_PROGRESS, with every documented field and no other', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const component = await create(world, studioId, { ...FULL, tags: { show: 'alpha' } });
  assert.match(component.studioComponentId!, /^[\w-]{22}$/);
  assert.deepEqual(component, {
    ...FULL,
    arn: arnOfComponent(component.studioComponentId!),
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: USER,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STUDIO_COMPONENT_CREATE_IN_PROGRESS',
    statusMessage: 'Studio Component creation is in progress',
    studioComponentId: component.studioComponentId,
    tags: { show: 'alpha' },
    updatedAt: '2026-01-01T00:00:00Z',
    updatedBy: USER,
  });
  assert.deepEqual(await get(world, studioId, component.studioComponentId!), component);
});

test('a component becomes READY with everything else as it was', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const created = await create(world, studioId, FULL);
  world.clock.advance(1_000);
  await world.settle();
  assert.deepEqual(await get(world, studioId, created.studioComponentId!), {
    ...created,
    state: 'READY',
    statusCode: 'STUDIO_COMPONENT_CREATED',
    statusMessage: 'Studio Component has been created',
    updatedAt: '2026-01-01T00:00:01Z',
  });
});

test('subtype and tags are always there, what else was not given is not, and of lists not an empty one', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const plain = await create(world, studioId);
  const empty = await create(world, studioId, {
    ec2SecurityGroupIds: [],
    initializationScripts: [],
    scriptParameters: [],
  });
  const always = ['arn', 'createdAt', 'createdBy', 'name', 'state', 'statusCode', 'statusMessage', 'studioComponentId'];
  for (const component of [plain, empty]) {
    assert.deepEqual(
      Object.keys(component).sort(),
      [...always, 'subtype', 'tags', 'type', 'updatedAt', 'updatedBy'].sort(),
    );
    assert.equal(component.subtype, 'CUSTOM');
    assert.deepEqual(component.tags, {});
  }
});

test('names, descriptions and roles may be empty, and names the same twice', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const blank = { name: '', description: '', runtimeRoleArn: '', secureInitializationRoleArn: '' };
  const [one, other] = [await create(world, studioId, blank), await create(world, studioId, blank)];
  assert.notEqual(one.studioComponentId, other.studioComponentId);
  for (const component of [one, other]) assert.deepEqual({ ...component, ...blank }, component);
});

test('text of every kind comes back byte for byte', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const text of [
    '🎬',
    'a\u0000b',
    '\ud800',
    '"\\\n\r\u2028',
    '#!/bin/sh\nrm -rf "$HOME"\n',
    '</script>',
    'e\u0301',
  ]) {
    const set = {
      name: text,
      description: text,
      initializationScripts: [{ script: text }],
      scriptParameters: [{ key: 'KEY', value: text }],
      configuration: { licenseServiceConfiguration: { endpoint: text } },
      type: 'LICENSE_SERVICE',
    };
    const component = await made(world, studioId, set);
    assert.deepEqual({ ...component, ...set }, component);
    const { studioComponentId } = component;
    await update(world, studioId, studioComponentId!, { description: `${text}${text}` });
    assert.equal((await get(world, studioId, studioComponentId!)).description, `${text}${text}`);
  }
});

// ---------------------------------------------------------------------------------------------------------------------
// What fits together. Typed out here a second time.

const SUBTYPES: Record<string, string[]> = {
  ACTIVE_DIRECTORY: ['AWS_MANAGED_MICROSOFT_AD', 'CUSTOM'],
  SHARED_FILE_SYSTEM: ['AMAZON_FSX_FOR_WINDOWS', 'AMAZON_FSX_FOR_LUSTRE', 'CUSTOM'],
  COMPUTE_FARM: ['CUSTOM'],
  LICENSE_SERVICE: ['CUSTOM'],
  CUSTOM: ['CUSTOM'],
};
const CONFIGURATIONS: Record<string, string | undefined> = {
  ACTIVE_DIRECTORY: 'activeDirectoryConfiguration',
  SHARED_FILE_SYSTEM: 'sharedFileSystemConfiguration',
  COMPUTE_FARM: 'computeFarmConfiguration',
  LICENSE_SERVICE: 'licenseServiceConfiguration',
  CUSTOM: undefined,
};
const configurationNames = Object.values(CONFIGURATIONS).filter((name) => name !== undefined);

for (const type of studioComponentType.values!) {
  test(`${type} takes its own subtypes and configuration and no others, in a create and in an update`, async () => {
    const world = createWorld();
    const bySubtype = studioComponentSubtype.values!.map((subtype) => ({
      given: { subtype },
      fits: SUBTYPES[type]!.includes(subtype),
      code: 'SUBTYPE_DOES_NOT_FIT_TYPE',
    }));
    const byConfiguration = configurationNames.map((name) => ({
      given: { configuration: { [name]: {} } },
      fits: CONFIGURATIONS[type] === name,
      code: 'CONFIGURATION_DOES_NOT_FIT_TYPE',
    }));
    for (const { given, fits, code } of [...bySubtype, ...byConfiguration]) {
      const [studioId, other] = [await world.makeStudio(), await world.makeStudio()];
      const existing = await putComponent(world, other, { type });
      const before = await world.store.get(KIND.studioComponent, existing);
      if (fits) {
        const created = await create(world, studioId, { type, ...given });
        assert.deepEqual({ ...created, type, ...given }, created);
        const updated = await update(world, other, existing, given);
        assert.deepEqual({ ...updated, type, ...given }, updated);
      } else {
        await refused(create(world, studioId, { type, ...given }), 'ValidationException', code);
        await refused(update(world, other, existing, given), 'ValidationException', code);
        assert.deepEqual(await world.store.get(KIND.studioComponent, existing), before);
      }
    }
  });
}

test('a refusal says which member does not fit, and what would', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const messageOf = (input: object) =>
    create(world, studioId, input).then(
      () => assert.fail('it was not refused'),
      (error: Error) => error.message,
    );
  const at = (member: string) =>
    `1 validation error detected. Value at '/${member}' failed to satisfy constraint: Member must `;
  assert.equal(
    await messageOf({ type: 'ACTIVE_DIRECTORY', subtype: 'AMAZON_FSX_FOR_LUSTRE' }),
    `${at('subtype')}satisfy enum value set: [AWS_MANAGED_MICROSOFT_AD, CUSTOM] where type is ACTIVE_DIRECTORY`,
  );
  const configuration = { licenseServiceConfiguration: {} };
  assert.equal(
    await messageOf({ type: 'COMPUTE_FARM', configuration }),
    `${at('configuration')}have computeFarmConfiguration where type is COMPUTE_FARM`,
  );
  assert.equal(
    await messageOf({ type: 'CUSTOM', configuration }),
    `${at('configuration')}be absent where type is CUSTOM`,
  );
});

// ---------------------------------------------------------------------------------------------------------------------
// Updates

test('an update is asynchronous; it shows the new values at once and READY soon', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const before = await made(world, studioId, { ...FULL, tags: { a: '1' } });
  world.clock.advance(5_000);
  const changes = { name: 'New', scriptParameters: [{ key: 'SHOT', value: '10' }] };
  const during = await update(world, studioId, before.studioComponentId!, changes);
  assert.deepEqual(during, {
    ...before,
    ...changes,
    state: 'UPDATE_IN_PROGRESS',
    statusCode: 'STUDIO_COMPONENT_UPDATE_IN_PROGRESS',
    statusMessage: 'Studio Component update is in progress',
    updatedAt: '2026-01-01T00:00:05Z',
  });
  await world.settle();
  assert.deepEqual(await get(world, studioId, before.studioComponentId!), {
    ...during,
    state: 'READY',
    statusCode: 'STUDIO_COMPONENT_UPDATED',
    statusMessage: 'Studio Component has been updated',
  });
});

test('each member that is given replaces the old one whole, and the others stay', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const { studioComponentId } = await made(world, studioId, FULL);
  const settled = async (changes: object) => {
    await update(world, studioId, studioComponentId!, changes);
    await world.settle();
    return get(world, studioId, studioComponentId!);
  };
  for (const changes of [
    { configuration: { sharedFileSystemConfiguration: { shareName: 'other' } } },
    { description: '' },
    { ec2SecurityGroupIds: ['sg-3'] },
    { initializationScripts: [{ script: 'other' }] },
    { name: 'Other' },
    { runtimeRoleArn: '' },
    { scriptParameters: [{ key: 'OTHER', value: 'other' }] },
    { secureInitializationRoleArn: 'arn:other' },
    { subtype: 'AMAZON_FSX_FOR_LUSTRE' },
    { type: 'SHARED_FILE_SYSTEM' },
    {},
  ]) {
    const before = await get(world, studioId, studioComponentId!);
    const { statusCode, statusMessage, ...after } = await settled(changes);
    assert.deepEqual([statusCode, statusMessage], ['STUDIO_COMPONENT_UPDATED', 'Studio Component has been updated']);
    const { statusCode: _code, statusMessage: _message, ...kept } = before;
    assert.deepEqual(after, { ...kept, ...changes });
  }
});

test('an empty list takes a list away', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const { studioComponentId } = await made(world, studioId, FULL);
  const lists = ['ec2SecurityGroupIds', 'initializationScripts', 'scriptParameters'];
  const after = await update(
    world,
    studioId,
    studioComponentId!,
    Object.fromEntries(lists.map((member) => [member, []])),
  );
  for (const member of lists) assert.ok(!Object.hasOwn(after, member), member);
  assert.deepEqual(after.configuration, FULL.configuration);
});

test('another type begins without the configuration and subtype of the old one, or with those that come with it', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const { studioComponentId } = await made(world, studioId, FULL);
  const bare = await update(world, studioId, studioComponentId!, { type: 'CUSTOM' });
  assert.deepEqual([bare.type, bare.subtype, Object.hasOwn(bare, 'configuration')], ['CUSTOM', 'CUSTOM', false]);
  assert.equal(bare.description, FULL.description);
  await world.settle();
  const { type, subtype, configuration } = FULL;
  const back = await update(world, studioId, studioComponentId!, { type, subtype, configuration });
  assert.deepEqual({ ...back, type, subtype, configuration }, back);
});

test('who changed a component last is shown, and who made it stays', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const change of [update, (...[w, s, c]: Parameters<typeof update>) => remove(w, s, c)]) {
    const id = await putComponent(world, studioId, { createdBy: 'somebody', updatedBy: 'somebody' });
    const { createdBy, updatedBy } = await change(world, studioId, id, { name: 'new' });
    assert.deepEqual([createdBy, updatedBy], ['somebody', USER]);
  }
});

// ---------------------------------------------------------------------------------------------------------------------
// Deletes and tombstones

test('a delete answers in DELETE_IN_PROGRESS and ends as a tombstone with every field', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const before = await made(world, studioId, { ...FULL, tags: { a: '1' } });
  world.clock.advance(2_000);
  assert.deepEqual(await remove(world, studioId, before.studioComponentId!), {
    ...before,
    state: 'DELETE_IN_PROGRESS',
    statusCode: 'STUDIO_COMPONENT_DELETE_IN_PROGRESS',
    statusMessage: 'Studio Component deletion is in progress',
    updatedAt: '2026-01-01T00:00:02Z',
  });
  await world.settle();
  assert.deepEqual(await get(world, studioId, before.studioComponentId!), {
    ...before,
    state: 'DELETED',
    statusCode: 'STUDIO_COMPONENT_DELETED',
    statusMessage: 'Studio Component has been deleted',
    updatedAt: '2026-01-01T00:00:02Z',
  });
});

for (const [what, state, input] of [
  ['a tombstone', 'DELETED', { type: 'CUSTOM' }],
  ['what could not be created', 'CREATE_FAILED', { type: 'ACTIVE_DIRECTORY' }],
] as const) {
  test(`${what} is shown by Get and List until its time is over, then it is 404`, async () => {
    const world = createWorld({ settings: { tombstoneMs: 60_000 } });
    const studioId = await world.makeStudio();
    const directory = (await made(world, studioId, { type: 'ACTIVE_DIRECTORY' })).studioComponentId!;
    const id = (await made(world, studioId, input)).studioComponentId!;
    if (state === 'DELETED') await remove(world, studioId, id);
    await world.settle();
    world.clock.advance(59_999);
    await world.settle();
    assert.equal((await get(world, studioId, id)).state, state);
    assert.deepEqual((await listIds(world, { studioId })).sort(), [directory, id].sort());
    world.clock.advance(1);
    await world.settle();
    const call = world.call('GetStudioComponent', { studioId, studioComponentId: id });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: id });
    assert.deepEqual(await listIds(world, { studioId }), [directory]);
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Lists

test('a list holds the components of the studio in the order of their creation, tombstones included', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await putComponent(world, await world.makeStudio());
  const ids: string[] = [];
  for (const state of ['READY', 'DELETED', 'CREATE_FAILED', 'CREATE_IN_PROGRESS'] as const) {
    world.clock.advance(1_000);
    ids.push(await putComponent(world, studioId, { state }));
  }
  assert.deepEqual(await listIds(world, { studioId }), ids);
});

test('states and types filter, alone and together, in any order and with repeats', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const all: StudioComponent[] = [];
  for (const state of ['READY', 'DELETED', 'CREATE_FAILED'] as const) {
    for (const type of studioComponentType.values!) {
      all.push(await get(world, studioId, await putComponent(world, studioId, { state, type })));
    }
  }
  for (const [stateFilter, typeFilter] of [
    [['READY'], undefined],
    [['DELETED', 'READY', 'DELETED'], undefined],
    [undefined, ['CUSTOM']],
    [undefined, ['CUSTOM', 'COMPUTE_FARM', 'CUSTOM']],
    [['READY'], ['ACTIVE_DIRECTORY']],
    [['UPDATE_FAILED'], undefined],
    [['UPDATE_FAILED'], ['CUSTOM']],
  ] as const) {
    const filters = { ...(stateFilter && { states: stateFilter }), ...(typeFilter && { types: typeFilter }) };
    const expected = all.filter(
      ({ state, type }) =>
        (!stateFilter || (stateFilter as readonly unknown[]).includes(state)) &&
        (!typeFilter || (typeFilter as readonly unknown[]).includes(type)),
    );
    assert.deepEqual(
      (await listIds(world, { studioId, ...filters })).sort(),
      expected.map(({ studioComponentId }) => studioComponentId).sort(),
    );
  }
});

// ---------------------------------------------------------------------------------------------------------------------
// Who is there, and in which order refusals come

test("another studio's component does not exist: it is neither read nor changed nor listed", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const studioComponentId = await putComponent(world, await world.makeStudio());
  const before = await world.store.get(KIND.studioComponent, studioComponentId);
  for (const name of ['GetStudioComponent', 'UpdateStudioComponent', 'DeleteStudioComponent'] as const) {
    const call = world.call(name, { studioId, studioComponentId, name: 'mine' });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: studioComponentId });
  }
  assert.deepEqual(await listIds(world, { studioId }), []);
  assert.deepEqual(await world.store.get(KIND.studioComponent, studioComponentId), before);
});

test('a studio that is not there is named before the component is looked for', async () => {
  const world = createWorld();
  const studioId = 'us-west-2:stid-nothere';
  const calls: [OperationName, object][] = [
    ['CreateStudioComponent', { name: 'n', type: 'CUSTOM' }],
    ['GetStudioComponent', { studioComponentId: 'nothere' }],
    ['ListStudioComponents', {}],
    ['UpdateStudioComponent', { studioComponentId: 'nothere' }],
    ['DeleteStudioComponent', { studioComponentId: 'nothere' }],
  ];
  for (const [name, input] of calls) {
    const call = world.call(name, { studioId, ...input });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: studioId });
  }
});

test('refusals of a change come in the order studio, component, state of the studio, state, what fits, quota', async () => {
  const world = createWorld({ settings: { sharedFileSystemsMax: 0 } });
  const studioId = await world.makeStudio();
  const [creating, deleted, ready] = [
    await putComponent(world, studioId, { state: 'CREATE_IN_PROGRESS' }),
    await putComponent(world, studioId, { state: 'DELETED' }),
    await putComponent(world, studioId),
  ];
  const overQuota = { type: 'SHARED_FILE_SYSTEM' };
  const unfitting = { ...overQuota, subtype: 'AWS_MANAGED_MICROSOFT_AD' };
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  for (const id of ['nothere', deleted]) {
    await refused(update(world, studioId, id, unfitting), 'ResourceNotFoundException', undefined, { resourceId: id });
    await refused(remove(world, studioId, id), 'ResourceNotFoundException', undefined, { resourceId: id });
  }
  await refused(update(world, studioId, creating, unfitting), 'ConflictException', 'STUDIO_NOT_READY');
  await refused(remove(world, studioId, creating), 'ConflictException', 'STUDIO_NOT_READY');
  await putState(world, KIND.studio, studioId, 'READY');
  await refused(update(world, studioId, creating, unfitting), 'ConflictException', 'OPERATION_IN_PROGRESS');
  await refused(update(world, studioId, ready, unfitting), 'ValidationException', 'SUBTYPE_DOES_NOT_FIT_TYPE');
  const quota = 'ServiceQuotaExceededException';
  await refused(update(world, studioId, ready, overQuota), quota, 'SHARED_FILE_SYSTEMS_PER_STUDIO');
});

test('refusals of a create come in the order what fits, studio, its state, quota', async () => {
  const world = createWorld({ settings: { studioComponentsMax: 0 } });
  const studioId = await world.makeStudio();
  const unfitting = { subtype: 'AWS_MANAGED_MICROSOFT_AD' };
  await refused(create(world, 'nothere', unfitting), 'ValidationException', 'SUBTYPE_DOES_NOT_FIT_TYPE');
  await refused(create(world, 'nothere'), 'ResourceNotFoundException');
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  await refused(create(world, studioId), 'ConflictException', 'STUDIO_NOT_READY');
  await putState(world, KIND.studio, studioId, 'READY');
  await refused(create(world, studioId), 'ServiceQuotaExceededException', 'STUDIO_COMPONENTS_PER_STUDIO');
});

// ---------------------------------------------------------------------------------------------------------------------
// Quotas

test("every state but DELETED counts against the quota; other studios' components do not", async () => {
  for (const state of [
    'CREATE_IN_PROGRESS',
    'READY',
    'UPDATE_IN_PROGRESS',
    'UPDATE_FAILED',
    'CREATE_FAILED',
    'DELETE_IN_PROGRESS',
    'DELETE_FAILED',
  ] as const) {
    const world = createWorld({ settings: { studioComponentsMax: 1 } });
    const studioId = await world.makeStudio();
    await putComponent(world, studioId, { state });
    const facts = { quota: '1', resourceId: studioId };
    await refused(create(world, studioId), 'ServiceQuotaExceededException', 'STUDIO_COMPONENTS_PER_STUDIO', facts);
  }
  const world = createWorld({ settings: { studioComponentsMax: 1 } });
  const studioId = await world.makeStudio();
  await putComponent(world, studioId, { state: 'DELETED' });
  await putComponent(world, await world.makeStudio());
  await create(world, studioId);
});

test('shared file systems have a quota of their own, which nothing else counts against', async () => {
  const world = createWorld({ settings: { sharedFileSystemsMax: 2 } });
  const studioId = await world.makeStudio();
  const fileSystem = () => create(world, studioId, { type: 'SHARED_FILE_SYSTEM' });
  for (const type of ['ACTIVE_DIRECTORY', 'COMPUTE_FARM', 'LICENSE_SERVICE', 'CUSTOM'])
    await made(world, studioId, { type });
  const first = await fileSystem();
  await fileSystem();
  const facts = { quota: '2', resourceId: studioId };
  const full = ['ServiceQuotaExceededException', 'SHARED_FILE_SYSTEMS_PER_STUDIO', facts] as const;
  await refused(fileSystem(), ...full);
  await create(world, await world.makeStudio(), { type: 'SHARED_FILE_SYSTEM' });

  await world.settle();
  await remove(world, studioId, first.studioComponentId!);
  await refused(fileSystem(), ...full);
  await world.settle();
  await fileSystem();
  await refused(fileSystem(), ...full);
});

test('a quota that was lowered keeps what there is, and lets nothing more in', async () => {
  const world = createWorld({ settings: { sharedFileSystemsMax: 4 } });
  const studioId = await world.makeStudio();
  const ids: string[] = [];
  for (let index = 0; index < 4; index += 1) {
    ids.push((await made(world, studioId, { type: 'SHARED_FILE_SYSTEM' })).studioComponentId!);
  }
  const lowered = createWorld({ settings: { sharedFileSystemsMax: 2 }, store: world.store, seed: 'lowered' });
  const fileSystem = () => create(lowered, studioId, { type: 'SHARED_FILE_SYSTEM' });
  for (const id of ids.slice(0, 2)) {
    await remove(lowered, studioId, id);
    await lowered.settle();
    await refused(fileSystem(), 'ServiceQuotaExceededException');
  }
  await update(lowered, studioId, ids[3]!, { name: 'still there' });
  await lowered.settle();
  await remove(lowered, studioId, ids[2]!);
  await lowered.settle();
  await fileSystem();
});

test('a type that is changed takes a place among those of the new type, and leaves its own', async () => {
  const world = createWorld({ settings: { sharedFileSystemsMax: 1 } });
  const studioId = await world.makeStudio();
  const [one, other] = [await made(world, studioId, { type: 'SHARED_FILE_SYSTEM' }), await made(world, studioId)];
  const change = async ({ studioComponentId }: StudioComponent, type: string) => {
    await update(world, studioId, studioComponentId!, { type });
    await world.settle();
  };
  await refused(change(other, 'SHARED_FILE_SYSTEM'), 'ServiceQuotaExceededException', 'SHARED_FILE_SYSTEMS_PER_STUDIO');
  await change(one, 'ACTIVE_DIRECTORY');
  await change(other, 'SHARED_FILE_SYSTEM');
  await refused(change(one, 'SHARED_FILE_SYSTEM'), 'ServiceQuotaExceededException');
  assert.deepEqual(states(await made(world, studioId, { type: 'ACTIVE_DIRECTORY' })), SECOND_DIRECTORY);
  await change(one, 'CUSTOM');
  assert.deepEqual(states(await made(world, studioId, { type: 'ACTIVE_DIRECTORY' })), READY);
});

test('a second Active Directory is begun and fails, and the first is none the worse', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const first = await made(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  const second = await create(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  assert.equal(second.state, 'CREATE_IN_PROGRESS');
  await world.settle();
  const failed = await get(world, studioId, second.studioComponentId!);
  assert.deepEqual(states(failed), SECOND_DIRECTORY);
  assert.match(failed.statusMessage!, /already/);
  assert.deepEqual(await get(world, studioId, first.studioComponentId!), first);
  assert.deepEqual(states(await made(world, await world.makeStudio(), { type: 'ACTIVE_DIRECTORY' })), READY);
});

test('of Active Directories created at once, one is made', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await Promise.all(Array.from({ length: 5 }, () => create(world, studioId, { type: 'ACTIVE_DIRECTORY' })));
  await world.settle();
  const { studioComponents } = await world.call<Many>('ListStudioComponents', { studioId });
  assert.equal(studioComponents.filter(({ state }) => state === 'READY').length, 1);
  const failed = studioComponents.filter(({ state }) => state !== 'READY');
  for (const component of failed) assert.deepEqual(states(component), SECOND_DIRECTORY);
});

test('an Active Directory is in the way of another until it is DELETED, one that failed is not', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const first = await made(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  const failed = await made(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  await remove(world, studioId, first.studioComponentId!);
  const tooEarly = await create(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  await world.settle();
  assert.equal((await get(world, studioId, first.studioComponentId!)).state, 'DELETED');
  for (const { studioComponentId } of [failed, tooEarly]) {
    assert.deepEqual(states(await get(world, studioId, studioComponentId!)), SECOND_DIRECTORY);
  }
  assert.deepEqual(states(await made(world, studioId, { type: 'ACTIVE_DIRECTORY' })), READY);
});

test('an update into a second Active Directory fails and leaves everything as it was, and the next one succeeds', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const directory = await made(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  const before = await made(world, studioId, FULL);
  const { studioComponentId } = before;
  world.clock.advance(1_000);
  const during = await update(world, studioId, studioComponentId!, { type: 'ACTIVE_DIRECTORY', name: 'New' });
  assert.equal(during.state, 'UPDATE_IN_PROGRESS');
  await world.settle();
  const after = await get(world, studioId, studioComponentId!);
  const status = {
    state: 'UPDATE_FAILED',
    statusCode: 'ACTIVE_DIRECTORY_ALREADY_EXISTS',
    statusMessage: after.statusMessage,
    updatedAt: '2026-01-01T00:00:01Z',
  };
  assert.deepEqual(after, { ...before, ...status });

  await update(world, studioId, studioComponentId!, { name: 'New' });
  await world.settle();
  assert.deepEqual(states(await get(world, studioId, studioComponentId!)), ['READY', 'STUDIO_COMPONENT_UPDATED']);
  await remove(world, studioId, directory.studioComponentId!);
  await world.settle();
  await update(world, studioId, studioComponentId!, { type: 'ACTIVE_DIRECTORY' });
  await world.settle();
  const changed = await get(world, studioId, studioComponentId!);
  assert.deepEqual([changed.state, changed.type, changed.name], ['READY', 'ACTIVE_DIRECTORY', 'New']);
});

// ---------------------------------------------------------------------------------------------------------------------

test('nothing is created in a studio whose own key is gone; what could not be created can be deleted', async () => {
  const world = createWorld();
  world.keys.customerKeys.add(KEY);
  const studioEncryptionConfiguration = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY };
  const studioId = await world.makeStudio({ studioEncryptionConfiguration });
  assert.deepEqual(states(await made(world, studioId)), READY);
  world.keys.customerKeys.delete(KEY);
  const failed = await made(world, studioId, { type: 'ACTIVE_DIRECTORY' });
  assert.deepEqual(states(failed), ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND']);
  assert.match(failed.statusMessage!, /key\/1/);
  await remove(world, studioId, failed.studioComponentId!);
  await world.settle();
  assert.equal((await get(world, studioId, failed.studioComponentId!)).state, 'DELETED');
  world.keys.customerKeys.add(KEY);
  assert.deepEqual(states(await made(world, studioId, { type: 'ACTIVE_DIRECTORY' })), READY);
});
