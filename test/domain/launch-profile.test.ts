/**
 * The seven operations on launch profiles, as a caller sees them: which fields there are, what goes together, what an
 * update replaces and what a failed one leaves, what a profile shows of what it names, and in which order refusals come.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import type {
  LaunchProfile,
  LaunchProfileInitialization,
  StreamConfiguration,
  StudioComponentSummary,
} from '../../src/contract/launch-profile.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import type { ServiceError } from '../../src/errors.ts';
import { assertConforms } from '../support/conforms.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import {
  arnOfProfile,
  newProfileInput,
  putAmazonImage,
  putComponent,
  putGroup,
  putImage,
  putMember,
  putProfile,
  putState,
  putUser,
} from '../support/rows.ts';

const USER = ADMINISTRATOR.principalId;
const KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';
const ABSENT = 'AAAAAAAAAAAAAAAAAAAAAA';

interface One {
  launchProfile: LaunchProfile;
}
interface Details extends One {
  streamingImages: StreamingImage[];
  studioComponentSummaries: StudioComponentSummary[];
}

/** A studio, and what a profile in it is made of. */
async function furnish(world: World, studio: object = {}) {
  const studioId = await world.makeStudio(studio);
  return { studioId, ...(await newProfileInput(world, studioId)) };
}

async function create(world: World, input: object): Promise<LaunchProfile> {
  const answer = await world.call<One>('CreateLaunchProfile', input);
  assertConforms('CreateLaunchProfile', answer);
  return answer.launchProfile;
}

async function get(world: World, studioId: string, launchProfileId: string): Promise<LaunchProfile> {
  const answer = await world.call<One>('GetLaunchProfile', { studioId, launchProfileId });
  assertConforms('GetLaunchProfile', answer);
  return answer.launchProfile;
}

async function update(world: World, studioId: string, launchProfileId: string, input: object): Promise<LaunchProfile> {
  const answer = await world.call<One>('UpdateLaunchProfile', { studioId, launchProfileId, ...input });
  assertConforms('UpdateLaunchProfile', answer);
  return answer.launchProfile;
}

async function remove(world: World, studioId: string, launchProfileId: string): Promise<LaunchProfile> {
  const answer = await world.call<One>('DeleteLaunchProfile', { studioId, launchProfileId });
  assertConforms('DeleteLaunchProfile', answer);
  return answer.launchProfile;
}

/** A profile that is READY, or what else it comes to. */
async function made(
  world: World,
  input: { readonly studioId: string; readonly [member: string]: unknown },
): Promise<LaunchProfile> {
  const { launchProfileId } = await create(world, input);
  await world.settle();
  return get(world, input.studioId, launchProfileId!);
}

/** The same, once the update has settled. */
async function updated(world: World, studioId: string, launchProfileId: string, input: object): Promise<LaunchProfile> {
  await update(world, studioId, launchProfileId, input);
  await world.settle();
  return get(world, studioId, launchProfileId);
}

async function listIds(world: World, input: object): Promise<string[]> {
  const answer = await world.call<{ launchProfiles: LaunchProfile[] }>('ListLaunchProfiles', input);
  assertConforms('ListLaunchProfiles', answer);
  return answer.launchProfiles.map(({ launchProfileId }) => launchProfileId!);
}

const status = ({ state, statusCode }: LaunchProfile) => [state, statusCode];
const READY = ['READY', 'LAUNCH_PROFILE_CREATED'];

function messageOf(call: Promise<unknown>): Promise<string> {
  return call.then(
    () => assert.fail('it was not refused'),
    (error: ServiceError) => error.message,
  );
}

// ---------------------------------------------------------------------------------------------------------------------
// Fields

test('a create answers at once, in CREATE_IN_PROGRESS, with every documented field and no other', async () => {
  const world = createWorld();
  const { studioId, ...given } = await furnish(world);
  const profile = await create(world, { studioId, ...given, description: 'For shots', tags: { show: 'alpha' } });
  assert.match(profile.launchProfileId!, /^[\w-]{22}$/);
  const { validationResults, ...rest } = profile;
  assert.deepEqual(rest, {
    ...given,
    arn: arnOfProfile(profile.launchProfileId!),
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: USER,
    description: 'For shots',
    launchProfileId: profile.launchProfileId,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'LAUNCH_PROFILE_CREATE_IN_PROGRESS',
    statusMessage: 'Launch Profile creation is in progress',
    streamConfiguration: {
      ...given.streamConfiguration,
      maxSessionLengthInMinutes: 690,
      maxStoppedSessionLengthInMinutes: 0,
    },
    tags: { show: 'alpha' },
    updatedAt: '2026-01-01T00:00:00Z',
    updatedBy: USER,
  });
  assert.deepEqual(
    validationResults!.map(({ type, state, statusCode }) => [type, state, statusCode]),
    [
      'VALIDATE_ACTIVE_DIRECTORY_STUDIO_COMPONENT',
      'VALIDATE_SUBNET_ASSOCIATION',
      'VALIDATE_NETWORK_ACL_ASSOCIATION',
      'VALIDATE_SECURITY_GROUP_ASSOCIATION',
    ].map((type) => [type, 'VALIDATION_NOT_STARTED', 'VALIDATION_NOT_STARTED']),
  );
  assert.deepEqual(await get(world, studioId, profile.launchProfileId!), profile);
});

test('a profile becomes READY with everything else as it was', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const created = await create(world, input);
  world.clock.advance(1_000);
  await world.settle();
  const ready = await get(world, input.studioId, created.launchProfileId!);
  assert.deepEqual(ready, {
    ...created,
    state: 'READY',
    statusCode: 'LAUNCH_PROFILE_CREATED',
    statusMessage: 'Launch Profile has been created',
    updatedAt: '2026-01-01T00:00:01Z',
    validationResults: ready.validationResults,
  });
});

test('a description that was not given is not there, tags are, subnets may be none, and names the same twice', async () => {
  const world = createWorld();
  const input = { ...(await furnish(world)), ec2SubnetIds: [] };
  const [one, other] = [await made(world, input), await made(world, input)];
  assert.notEqual(one.launchProfileId, other.launchProfileId);
  for (const profile of [one, other]) {
    assert.ok(!Object.hasOwn(profile, 'description'));
    assert.deepEqual([profile.tags, profile.ec2SubnetIds, profile.name], [{}, [], 'Lighting']);
  }
});

test('the order of everything named is kept', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  const studioComponentIds: string[] = [];
  const streamingImageIds: string[] = [];
  for (let index = 0; index < 5; index += 1) {
    studioComponentIds.unshift(await putComponent(world, studioId));
    streamingImageIds.unshift(await putImage(world, studioId));
  }
  const streamConfiguration = {
    ...input.streamConfiguration,
    ec2InstanceTypes: ['g5.xlarge', 'g3.4xlarge'],
    streamingImageIds,
  };
  const profile = await made(world, { ...input, streamConfiguration, studioComponentIds });
  assert.deepEqual(status(profile), READY);
  assert.deepEqual(profile.studioComponentIds, studioComponentIds);
  assert.deepEqual({ ...profile.streamConfiguration, ...streamConfiguration }, profile.streamConfiguration);
});

// ---------------------------------------------------------------------------------------------------------------------
// The stream configuration: what is shown of what is given, and what does not go together

const ALWAYS = { maxSessionLengthInMinutes: 690, maxStoppedSessionLengthInMinutes: 0 };
const VOLUME = { iops: 3_000, size: 500, throughput: 125 };
const PERSISTENT = { sessionPersistenceMode: 'ACTIVATED' } as const;
const ROOT = { linux: '$HOME/Downloads', windows: '%HOMEPATH%\\Downloads' };

const SHOWN: readonly [what: string, given: Partial<StreamConfiguration>, shown: object][] = [
  ['nothing', {}, ALWAYS],
  [
    'times',
    { maxSessionLengthInMinutes: 1, maxStoppedSessionLengthInMinutes: 5_760 },
    { maxSessionLengthInMinutes: 1, maxStoppedSessionLengthInMinutes: 5_760 },
  ],
  ['no persistence', { sessionPersistenceMode: 'DEACTIVATED' }, { ...ALWAYS, sessionPersistenceMode: 'DEACTIVATED' }],
  [
    'persistence',
    PERSISTENT,
    { ...ALWAYS, ...PERSISTENT, automaticTerminationMode: 'DEACTIVATED', volumeConfiguration: VOLUME },
  ],
  [
    'persistence with an end',
    { ...PERSISTENT, automaticTerminationMode: 'ACTIVATED', maxStoppedSessionLengthInMinutes: 60 },
    {
      ...ALWAYS,
      ...PERSISTENT,
      automaticTerminationMode: 'ACTIVATED',
      maxStoppedSessionLengthInMinutes: 60,
      volumeConfiguration: VOLUME,
    },
  ],
  [
    'a part of the volume',
    { ...PERSISTENT, volumeConfiguration: { size: 100 } },
    {
      ...ALWAYS,
      ...PERSISTENT,
      automaticTerminationMode: 'DEACTIVATED',
      volumeConfiguration: { ...VOLUME, size: 100 },
    },
  ],
  [
    'backups of no kind',
    { sessionBackup: {} },
    { ...ALWAYS, sessionBackup: { maxBackupsToRetain: 0, mode: 'DEACTIVATED' } },
  ],
  [
    'backups',
    { sessionBackup: { maxBackupsToRetain: 3, mode: 'AUTOMATIC' } },
    { ...ALWAYS, sessionBackup: { maxBackupsToRetain: 3, mode: 'AUTOMATIC' } },
  ],
  [
    'storage',
    { sessionStorage: { mode: ['UPLOAD'] } },
    { ...ALWAYS, sessionStorage: { mode: ['UPLOAD'], root: ROOT } },
  ],
  [
    'storage with one root',
    { sessionStorage: { mode: ['UPLOAD'], root: { linux: '/mnt/show' } } },
    { ...ALWAYS, sessionStorage: { mode: ['UPLOAD'], root: { ...ROOT, linux: '/mnt/show' } } },
  ],
  [
    'storage with both roots',
    { sessionStorage: { mode: ['UPLOAD'], root: { linux: '/a', windows: 'Z:\\a' } } },
    { ...ALWAYS, sessionStorage: { mode: ['UPLOAD'], root: { linux: '/a', windows: 'Z:\\a' } } },
  ],
];

for (const [what, given, shown] of SHOWN) {
  test(`a stream configuration with ${what} is shown with its defaults, in a create and in an update, and taken back`, async () => {
    const world = createWorld();
    const input = await furnish(world);
    const { studioId } = input;
    const streamConfiguration = { ...input.streamConfiguration, ...given };
    const expected = { ...input.streamConfiguration, ...shown };
    const profile = await made(world, { ...input, streamConfiguration });
    assert.deepEqual(profile.streamConfiguration, expected);
    const other = await putProfile(world, studioId);
    assert.deepEqual((await updated(world, studioId, other, { streamConfiguration })).streamConfiguration, expected);
    const back = await updated(world, studioId, other, { streamConfiguration: profile.streamConfiguration });
    assert.deepEqual(back.streamConfiguration, expected);
  });
}

const UNLESS_PERSISTENT = 'be absent unless sessionPersistenceMode is ACTIVATED';
const STOPPABLE = 'be 0 unless sessionPersistenceMode and automaticTerminationMode are ACTIVATED';
const REPEATED = 'not repeat an earlier one';
const SUBNET = 'satisfy regular expression pattern: ^subnet-[0-9A-Za-z]{1,40}$';

/** What is refused: members of the input, or of its stream configuration; the member that is named; and why. */
const REFUSED: readonly [given: object, configuration: object, member: string, must: string, code: string][] = [
  ...(['ACTIVATED', 'DEACTIVATED'] as const).flatMap((automaticTerminationMode) =>
    [{}, { sessionPersistenceMode: 'DEACTIVATED' }].map((mode): [object, object, string, string, string] => [
      {},
      { ...mode, automaticTerminationMode },
      'streamConfiguration/automaticTerminationMode',
      UNLESS_PERSISTENT,
      'STREAM_CONFIGURATION_DOES_NOT_FIT',
    ]),
  ),
  [
    {},
    { volumeConfiguration: {} },
    'streamConfiguration/volumeConfiguration',
    UNLESS_PERSISTENT,
    'STREAM_CONFIGURATION_DOES_NOT_FIT',
  ],
  ...[
    { sessionPersistenceMode: 'DEACTIVATED' },
    PERSISTENT,
    { ...PERSISTENT, automaticTerminationMode: 'DEACTIVATED' },
  ].map((mode): [object, object, string, string, string] => [
    {},
    { ...mode, maxStoppedSessionLengthInMinutes: 1 },
    'streamConfiguration/maxStoppedSessionLengthInMinutes',
    STOPPABLE,
    'STREAM_CONFIGURATION_DOES_NOT_FIT',
  ]),
  [{ studioComponentIds: ['a', 'b', 'a'] }, {}, 'studioComponentIds/3/member', REPEATED, 'REPEATED_ENTRY'],
  [
    { launchProfileProtocolVersions: ['2021-03-31', '2021-03-31'] },
    {},
    'launchProfileProtocolVersions/2/member',
    REPEATED,
    'REPEATED_ENTRY',
  ],
  [{}, { streamingImageIds: ['a', 'a'] }, 'streamConfiguration/streamingImageIds/2/member', REPEATED, 'REPEATED_ENTRY'],
  [
    {},
    { ec2InstanceTypes: ['g5.xlarge', 'g5.xlarge'] },
    'streamConfiguration/ec2InstanceTypes/2/member',
    REPEATED,
    'REPEATED_ENTRY',
  ],
  [
    {},
    { sessionStorage: { mode: ['UPLOAD', 'UPLOAD'] } },
    'streamConfiguration/sessionStorage/mode/2/member',
    REPEATED,
    'REPEATED_ENTRY',
  ],
  [
    { launchProfileProtocolVersions: [] },
    {},
    'launchProfileProtocolVersions',
    'have length greater than or equal to 1',
    'NO_PROTOCOL_VERSION',
  ],
];

for (const [given, configuration, member, must, code] of REFUSED) {
  test(`${JSON.stringify({ ...given, ...configuration })} is refused, in a create and in an update`, async () => {
    const world = createWorld();
    const input = await furnish(world);
    const { studioId } = input;
    const bad = { ...given, streamConfiguration: { ...input.streamConfiguration, ...configuration } };
    const message = `1 validation error detected. Value at '/${member}' failed to satisfy constraint: Member must ${must}`;
    assert.equal(await messageOf(create(world, { ...input, ...bad })), message);
    await refused(create(world, { ...input, ...bad }), 'ValidationException', code);
    assert.deepEqual(await listIds(world, { studioId }), []);
    const launchProfileId = await putProfile(world, studioId);
    const before = await world.store.get(KIND.launchProfile, launchProfileId);
    assert.equal(await messageOf(update(world, studioId, launchProfileId, bad)), message);
    assert.deepEqual(await world.store.get(KIND.launchProfile, launchProfileId), before);
  });
}

test('subnets are labels of the form subnet-…, each once', async () => {
  const world = createWorld();
  const input = await furnish(world);
  for (const ec2SubnetIds of [['subnet-EXAMPLE11111'], ['subnet-0a1b2c3d4e5f60718', 'subnet-1']])
    assert.deepEqual((await create(world, { ...input, ec2SubnetIds })).ec2SubnetIds, ec2SubnetIds);
  for (const bad of ['', 'subnet-', '0a1b', 'subnet-a b', 'Subnet-1', `subnet-${'a'.repeat(41)}`]) {
    const call = create(world, { ...input, ec2SubnetIds: ['subnet-1', bad] });
    const at = "1 validation error detected. Value at '/ec2SubnetIds/2/member' failed to satisfy constraint:";
    assert.equal(await messageOf(call), `${at} Member must ${SUBNET}`);
  }
  const twice = create(world, { ...input, ec2SubnetIds: ['subnet-1', 'subnet-1'] });
  await refused(twice, 'ValidationException', 'REPEATED_ENTRY');
});

// ---------------------------------------------------------------------------------------------------------------------
// Components that a profile names

/** Status of a create, and of an update that names it, by the state of the component. */
const COMPONENT_STATES: Record<string, number> = {
  CREATE_IN_PROGRESS: 409,
  READY: 200,
  UPDATE_IN_PROGRESS: 409,
  UPDATE_FAILED: 200,
  CREATE_FAILED: 409,
  DELETE_IN_PROGRESS: 409,
  DELETE_FAILED: 200,
  DELETED: 400,
};

for (const [state, expected] of Object.entries(COMPONENT_STATES)) {
  test(`a component that is ${state} can be named: ${expected}`, async () => {
    const world = createWorld();
    const input = await furnish(world);
    const { studioId } = input;
    const component = await putComponent(world, studioId, { state: state as NonNullable<StudioComponent['state']> });
    const studioComponentIds = [...input.studioComponentIds, component];
    assert.equal(await statusOf(create(world, { ...input, studioComponentIds })), expected);
    const profile = await putProfile(world, studioId);
    assert.equal(await statusOf(update(world, studioId, profile, { studioComponentIds })), expected);
    if (expected === 200) return;
    const [name, code] =
      expected === 400
        ? (['ValidationException', 'STUDIO_COMPONENT_NOT_FOUND'] as const)
        : (['ConflictException', 'STUDIO_COMPONENT_NOT_READY'] as const);
    await refused(create(world, { ...input, studioComponentIds }), name, code, { resourceId: component });
  });
}

test("a component that is not there, or is another studio's, is named with its place", async () => {
  const world = createWorld();
  const input = await furnish(world);
  const foreign = await putComponent(world, await world.makeStudio());
  for (const id of [ABSENT, foreign, '', '__proto__']) {
    const call = () => create(world, { ...input, studioComponentIds: [...input.studioComponentIds, id] });
    await refused(call(), 'ValidationException', 'STUDIO_COMPONENT_NOT_FOUND', { resourceId: id });
    assert.equal(
      await messageOf(call()),
      "1 validation error detected. Value at '/studioComponentIds/2/member' failed to satisfy constraint: Member must be " +
        `the id of a component of this studio, which ${id} is not`,
    );
  }
  const long = messageOf(create(world, { ...input, studioComponentIds: ['x'.repeat(100_000)] }));
  assert.ok((await long).length < 400);
});

test('components are not looked at again by an update that does not name them', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  const { launchProfileId } = await made(world, input);
  await world.call('DeleteStudioComponent', { studioId, studioComponentId: input.studioComponentIds[0] });
  await world.settle();
  const after = await updated(world, studioId, launchProfileId!, { name: 'new' });
  assert.deepEqual([...status(after), after.name], ['READY', 'LAUNCH_PROFILE_UPDATED', 'new']);
  assert.deepEqual(after.studioComponentIds, input.studioComponentIds, 'the id stays');
});

// ---------------------------------------------------------------------------------------------------------------------
// Images that a profile names

const FOUND = 'STREAMING_IMAGE_NOT_FOUND';
const NOT_READY = 'STREAMING_IMAGE_NOT_READY';

/** The fault of a profile whose second image is in this state. */
const IMAGE_STATES: Record<string, string | undefined> = {
  CREATE_IN_PROGRESS: NOT_READY,
  READY: undefined,
  UPDATE_IN_PROGRESS: undefined,
  UPDATE_FAILED: undefined,
  CREATE_FAILED: NOT_READY,
  DELETE_IN_PROGRESS: NOT_READY,
  DELETE_FAILED: NOT_READY,
  DELETED: FOUND,
};

async function assertImageFault(world: World, input: Awaited<ReturnType<typeof furnish>>, id: string, fault?: string) {
  const { studioId } = input;
  const streamingImageIds = [...input.streamConfiguration.streamingImageIds, id];
  const streamConfiguration = { ...input.streamConfiguration, streamingImageIds };
  const before = await made(world, input);
  const created = await made(world, { ...input, streamConfiguration });
  const after = await updated(world, studioId, before.launchProfileId!, { streamConfiguration, name: 'new' });
  if (!fault) {
    assert.deepEqual([status(created), after.state, after.name], [READY, 'READY', 'new']);
    return;
  }
  assert.deepEqual(
    [status(created), status(after)],
    [
      ['CREATE_FAILED', fault],
      ['UPDATE_FAILED', fault],
    ],
  );
  for (const { statusMessage } of [created, after]) assert.ok(statusMessage!.includes(`Streaming image ${id} `));
  const { state, statusCode, statusMessage } = after;
  assert.deepEqual(after, { ...before, state, statusCode, statusMessage });
}

for (const [state, fault] of Object.entries(IMAGE_STATES)) {
  test(`an image that is ${state} makes a profile ${fault ?? 'READY'}, and a failed update leaves what stood`, async () => {
    const world = createWorld();
    const input = await furnish(world);
    const image = await putImage(world, input.studioId, { state: state as NonNullable<StreamingImage['state']> });
    await assertImageFault(world, input, image, fault);
  });
}

test('an image may be one provided for every studio, and not one that is not there or of another studio', async () => {
  for (const [put, fault] of [
    [(world: World) => putAmazonImage(world), undefined],
    [async () => ABSENT, FOUND],
    [async (world: World) => putImage(world, await world.makeStudio()), FOUND],
  ] as const) {
    const world = createWorld();
    await assertImageFault(world, await furnish(world), await put(world), fault);
  }
});

test('an update of a profile whose image has been deleted since fails, and says which image it is', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { launchProfileId } = await made(world, input);
  const [streamingImageId] = input.streamConfiguration.streamingImageIds;
  await putState(world, KIND.streamingImage, streamingImageId!, 'DELETED');
  const failed = await updated(world, input.studioId, launchProfileId!, { name: 'new' });
  assert.deepEqual([...status(failed), failed.name], ['UPDATE_FAILED', FOUND, 'Lighting']);
  assert.ok(failed.statusMessage!.includes(streamingImageId!));
  const image = await putImage(world, input.studioId);
  const streamConfiguration = { ...input.streamConfiguration, streamingImageIds: [image] };
  const mended = await updated(world, input.studioId, launchProfileId!, { streamConfiguration, name: 'new' });
  assert.deepEqual([...status(mended), mended.name], ['READY', 'LAUNCH_PROFILE_UPDATED', 'new']);
});

test('a profile of a studio whose own key is gone cannot be made or changed', async () => {
  const world = createWorld();
  world.keys.customerKeys.add(KEY);
  const encryption = { studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY } };
  const input = await furnish(world, encryption);
  const ready = await made(world, input);
  assert.deepEqual(status(ready), READY);
  world.keys.customerKeys.delete(KEY);
  const failed = await made(world, input);
  assert.deepEqual(status(failed), ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND']);
  assert.match(failed.statusMessage!, /key\/1/);
  const changed = await updated(world, input.studioId, ready.launchProfileId!, { name: 'new' });
  assert.deepEqual([...status(changed), changed.name], ['UPDATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND', 'Lighting']);
});

// ---------------------------------------------------------------------------------------------------------------------
// Updates

test('an update is asynchronous; it shows the new values at once and READY soon', async () => {
  const world = createWorld();
  const input = { ...(await furnish(world)), tags: { a: '1' } };
  const before = await made(world, input);
  world.clock.advance(5_000);
  const changes = {
    name: 'New',
    description: '',
    studioComponentIds: [await putComponent(world, input.studioId)],
  };
  const during = await update(world, input.studioId, before.launchProfileId!, changes);
  assert.deepEqual(during, {
    ...before,
    ...changes,
    state: 'UPDATE_IN_PROGRESS',
    statusCode: 'LAUNCH_PROFILE_UPDATE_IN_PROGRESS',
    statusMessage: 'Launch Profile update is in progress',
    updatedAt: '2026-01-01T00:00:05Z',
    validationResults: during.validationResults,
  });
  assert.equal(during.validationResults![0]!.state, 'VALIDATION_NOT_STARTED');
  await world.settle();
  assert.deepEqual(await get(world, input.studioId, before.launchProfileId!), {
    ...during,
    state: 'READY',
    statusCode: 'LAUNCH_PROFILE_UPDATED',
    statusMessage: 'Launch Profile has been updated',
    validationResults: before.validationResults,
  });
  assert.equal((await world.store.get(KIND.launchProfile, before.launchProfileId!))!.private, '{}');
});

test('each member that is given replaces the old one whole, and the others stay', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  const { launchProfileId } = await made(world, { ...input, description: 'd' });
  const image = await putImage(world, studioId);
  const plain = { clipboardMode: 'DISABLED', ec2InstanceTypes: ['g3s.xlarge'], streamingImageIds: [image] };
  await updated(world, studioId, launchProfileId!, {
    streamConfiguration: { ...plain, ...PERSISTENT, sessionBackup: { mode: 'AUTOMATIC' } },
  });
  for (const [changes, shown] of [
    [{ description: '' }, { description: '' }],
    [{ name: 'Other' }, { name: 'Other' }],
    [{ launchProfileProtocolVersions: ['2021-03-31'] }, {}],
    [{ streamConfiguration: plain }, { streamConfiguration: { ...plain, ...ALWAYS } }],
    [{ studioComponentIds: input.studioComponentIds }, {}],
    [{}, {}],
  ]) {
    const before = await get(world, studioId, launchProfileId!);
    const { state, statusCode, ...after } = await updated(world, studioId, launchProfileId!, changes!);
    assert.deepEqual([state, statusCode], ['READY', 'LAUNCH_PROFILE_UPDATED']);
    const { state: _state, statusCode: _code, ...kept } = before;
    assert.deepEqual(after, { ...kept, ...shown });
  }
});

test('a failed update also takes back what was added, and who tried', async () => {
  const world = createWorld();
  const { studioId } = await furnish(world);
  const launchProfileId = await putProfile(world, studioId, { updatedBy: 'somebody' });
  const before = await get(world, studioId, launchProfileId);
  assert.ok(!Object.hasOwn(before, 'description'));
  const failed = await updated(world, studioId, launchProfileId, { description: 'new' });
  assert.equal(failed.state, 'UPDATE_FAILED');
  assert.deepEqual([Object.hasOwn(failed, 'description'), failed.updatedBy], [false, 'somebody']);
});

// ---------------------------------------------------------------------------------------------------------------------
// What the checks say

const resultsOf = ({ validationResults }: LaunchProfile) =>
  validationResults!.map(({ type, state, statusCode }) => [type, state, statusCode]);
const NETWORK = [
  'VALIDATE_SUBNET_ASSOCIATION',
  'VALIDATE_NETWORK_ACL_ASSOCIATION',
  'VALIDATE_SECURITY_GROUP_ASSOCIATION',
].map((type) => [type, 'VALIDATION_NOT_STARTED', 'VALIDATION_NOT_STARTED']);

describe('the check of the Active Directory', () => {
  const DIRECTORY = 'VALIDATE_ACTIVE_DIRECTORY_STUDIO_COMPONENT';
  const SUCCESS = [DIRECTORY, 'VALIDATION_SUCCESS', 'VALIDATION_SUCCESS'];
  const FAILED = [DIRECTORY, 'VALIDATION_FAILED', 'VALIDATION_FAILED_INVALID_ACTIVE_DIRECTORY'];
  const withId = { configuration: { activeDirectoryConfiguration: { directoryId: 'd-1' } } };
  for (const [what, directories, expected, says] of [
    ['succeeds without one', [], SUCCESS, /^The validation succeeded\.$/],
    ['succeeds with one that has an id', [withId], SUCCESS, /^The validation succeeded\.$/],
    ['fails with one that has none', [{}], FAILED, /has no directoryId/],
    ['fails with two', [withId, withId], FAILED, /more than one/],
  ] as const) {
    test(`${what}, beside the state; what is not checked is not said to be`, async () => {
      const world = createWorld();
      const input = await furnish(world);
      const ids: string[] = [...input.studioComponentIds];
      for (const directory of directories)
        ids.push(await putComponent(world, input.studioId, { type: 'ACTIVE_DIRECTORY', ...directory }));
      const profile = await made(world, { ...input, studioComponentIds: ids });
      assert.deepEqual(status(profile), READY);
      assert.deepEqual(resultsOf(profile), [expected, ...NETWORK]);
      assert.match(profile.validationResults![0]!.statusMessage, says);
      for (const { statusMessage } of profile.validationResults!.slice(1)) assert.match(statusMessage, /no VPC/);
    });
  }

  test('is made again with each update, and a failed update keeps what it said', async () => {
    const world = createWorld();
    const input = await furnish(world);
    const { studioId } = input;
    const directory = await putComponent(world, studioId, { type: 'ACTIVE_DIRECTORY' });
    const { launchProfileId } = await made(world, input);
    const worse = await updated(world, studioId, launchProfileId!, { studioComponentIds: [directory] });
    assert.deepEqual(resultsOf(worse)[0], FAILED);
    const streamConfiguration = { ...input.streamConfiguration, streamingImageIds: [ABSENT] };
    const failed = await updated(world, studioId, launchProfileId!, { ...input, streamConfiguration });
    assert.deepEqual([failed.state, resultsOf(failed)[0]], ['UPDATE_FAILED', FAILED]);
    await world.call('DeleteStudioComponent', { studioId, studioComponentId: directory });
    await world.settle();
    const better = await updated(world, studioId, launchProfileId!, {});
    assert.deepEqual(resultsOf(better)[0], SUCCESS, 'what is deleted is not there any more');
  });
});

// ---------------------------------------------------------------------------------------------------------------------
// Deletes and tombstones

test('a delete answers in DELETE_IN_PROGRESS and ends as a tombstone with every field', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const before = await made(world, input);
  world.clock.advance(2_000);
  assert.deepEqual(await remove(world, input.studioId, before.launchProfileId!), {
    ...before,
    state: 'DELETE_IN_PROGRESS',
    statusCode: 'LAUNCH_PROFILE_DELETE_IN_PROGRESS',
    statusMessage: 'Launch Profile deletion is in progress',
    updatedAt: '2026-01-01T00:00:02Z',
  });
  await world.settle();
  assert.deepEqual(await get(world, input.studioId, before.launchProfileId!), {
    ...before,
    state: 'DELETED',
    statusCode: 'LAUNCH_PROFILE_DELETED',
    statusMessage: 'Launch Profile has been deleted',
    updatedAt: '2026-01-01T00:00:02Z',
  });
});

test('a profile with sessions that are not DELETED cannot be deleted, and works as before', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  const { launchProfileId } = await made(world, input);
  const putSession = (parentId: string, id: string) =>
    world.store.write([
      {
        op: 'insert',
        row: newRow({ kind: KIND.streamingSession, id, studioId, parentId, state: 'STOPPED', createdAt: 0, doc: '{}' }),
      },
    ]);
  await putSession(launchProfileId!, 'session');
  await putSession(await putProfile(world, studioId), 'of another profile');
  await remove(world, studioId, launchProfileId!);
  await world.settle();
  const blocked = await get(world, studioId, launchProfileId!);
  assert.deepEqual(status(blocked), ['DELETE_FAILED', 'LAUNCH_PROFILE_WITH_STREAM_SESSIONS_NOT_DELETED']);
  assert.match(blocked.statusMessage!, /Delete them first/);
  assert.equal((await updated(world, studioId, launchProfileId!, { name: 'new' })).state, 'READY');
  const session = (await world.store.get(KIND.streamingSession, 'session'))!;
  await world.store.write([{ op: 'update', row: { ...session, state: 'DELETED', version: session.version + 1 } }]);
  await remove(world, studioId, launchProfileId!);
  await world.settle();
  assert.equal((await get(world, studioId, launchProfileId!)).state, 'DELETED');
});

for (const state of ['DELETED', 'CREATE_FAILED'] as const) {
  test(`a profile that is ${state} is shown by Get and List until its time is over, then it is 404`, async () => {
    const world = createWorld({ settings: { tombstoneMs: 60_000 } });
    const input = await furnish(world);
    const { studioId } = input;
    const streamConfiguration = { ...input.streamConfiguration, streamingImageIds: [ABSENT] };
    const given = state === 'DELETED' ? input : { ...input, streamConfiguration };
    const id = (await made(world, given)).launchProfileId!;
    if (state === 'DELETED') await remove(world, studioId, id);
    await world.settle();
    world.clock.advance(59_999);
    await world.settle();
    assert.equal((await get(world, studioId, id)).state, state);
    assert.deepEqual(await listIds(world, { studioId }), [id]);
    world.clock.advance(1);
    await world.settle();
    await refused(get(world, studioId, id), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: id });
    assert.deepEqual(await listIds(world, { studioId }), []);
  });
}

test('a studio with launch profiles cannot be deleted, and says so before it speaks of components or images', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  const { launchProfileId } = await made(world, input);
  const deleteStudio = async () => {
    await world.call('DeleteStudio', { studioId });
    await world.settle();
    const { studio } = await world.call<{ studio: { statusCode: string } }>('GetStudio', { studioId });
    return studio.statusCode;
  };
  assert.equal(await deleteStudio(), 'STUDIO_WITH_LAUNCH_PROFILES_NOT_DELETED');
  await remove(world, studioId, launchProfileId!);
  await world.settle();
  assert.equal(await deleteStudio(), 'STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED');
});

// ---------------------------------------------------------------------------------------------------------------------
// Lists

test('a list holds the profiles of the studio in the order of their creation, tombstones included; states filter', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await putProfile(world, await world.makeStudio());
  const byState = new Map<string, string>();
  for (const state of ['READY', 'DELETED', 'CREATE_FAILED', 'CREATE_IN_PROGRESS'] as const) {
    world.clock.advance(1_000);
    byState.set(state, await putProfile(world, studioId, { state }));
  }
  assert.deepEqual(await listIds(world, { studioId }), [...byState.values()]);
  for (const states of [['READY'], ['DELETED', 'READY', 'DELETED'], ['UPDATE_FAILED'], [...byState.keys()]]) {
    const expected = [...byState].filter(([state]) => states.includes(state)).map(([, id]) => id);
    assert.deepEqual(await listIds(world, { studioId, states }), expected);
  }
});

test('a caller may ask for shorter pages', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (let index = 0; index < 5; index += 1) await putProfile(world, studioId);
  const all = await listIds(world, { studioId });
  for (const more of [{}, { states: ['READY'] }]) {
    const seen: string[] = [];
    let nextToken: string | undefined;
    do {
      const input = { studioId, maxResults: 2, ...more, ...(nextToken && { nextToken }) };
      const page = await world.call<{ launchProfiles: LaunchProfile[]; nextToken?: string }>(
        'ListLaunchProfiles',
        input,
      );
      assert.ok(page.launchProfiles.length <= 2);
      seen.push(...page.launchProfiles.map(({ launchProfileId }) => launchProfileId!));
      nextToken = page.nextToken;
    } while (nextToken);
    assert.deepEqual(seen, all);
  }
});

test('a list for one person holds the profiles that this person may use, and nothing for anybody unknown', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const otherStudio = await world.makeStudio();
  const [own, byGroup, deleted, nobodys] = [
    await putProfile(world, studioId),
    await putProfile(world, studioId),
    await putProfile(world, studioId, { state: 'DELETED' }),
    await putProfile(world, studioId),
  ];
  const elsewhere = await putProfile(world, otherStudio);
  const [ann, ben, head] = [await putUser(world, 'ann'), await putUser(world, 'ben'), await putUser(world, 'head')];
  const lighting = await putGroup(world, 'Lighting', [ann]);
  for (const id of [own, deleted]) await putMember(world, studioId, ann, id);
  await putMember(world, otherStudio, ann, elsewhere);
  await putMember(world, studioId, lighting, byGroup);
  await putMember(world, studioId, lighting, own);
  await putMember(world, studioId, head);
  const listed = async (principalId: string, more: object = {}) =>
    (await listIds(world, { studioId, principalId, ...more })).sort();
  assert.deepEqual(await listed(ann), [own, byGroup, deleted].sort());
  assert.deepEqual(await listed(ann, { states: ['READY'] }), [own, byGroup].sort());
  assert.deepEqual(await listIds(world, { studioId: otherStudio, principalId: ann }), [elsewhere]);
  assert.deepEqual(await listed(ben), []);
  assert.deepEqual(await listed(head), [own, byGroup, deleted, nobodys].sort(), 'an administrator may use them all');
  assert.deepEqual(await listIds(world, { studioId: otherStudio, principalId: head }), []);
  for (const nobody of ['', USER, 'nobody', '__proto__', lighting]) assert.deepEqual(await listed(nobody), []);
});

// ---------------------------------------------------------------------------------------------------------------------
// Details

test('details are the profile with its images and a summary of its components, without what is not there', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const foreign = await world.makeStudio();
  const [image, provided, gone] = [
    await putImage(world, studioId, { tags: { a: '1' } }),
    await putAmazonImage(world),
    await putImage(world, studioId, { state: 'DELETED' }),
  ];
  const [plain, described, deleted] = [
    await putComponent(world, studioId),
    await putComponent(world, studioId, {
      description: 'd',
      initializationScripts: [{ script: 'secret' }],
      updatedBy: 'somebody',
    }),
    await putComponent(world, studioId, { state: 'DELETED' }),
  ];
  const streamConfiguration: StreamConfiguration = {
    clipboardMode: 'ENABLED',
    ec2InstanceTypes: ['g5.xlarge'],
    streamingImageIds: [provided, ABSENT, gone, await putImage(world, foreign), image],
  };
  const studioComponentIds = [described, deleted, ABSENT, await putComponent(world, foreign), plain];
  const launchProfileId = await putProfile(world, studioId, { streamConfiguration, studioComponentIds });
  const details = await world.call<Details>('GetLaunchProfileDetails', { studioId, launchProfileId });
  assertConforms('GetLaunchProfileDetails', details);
  assert.deepEqual(details.launchProfile, await get(world, studioId, launchProfileId));
  const images = await Promise.all(
    [provided, image].map(async (streamingImageId) => {
      const input = { studioId, streamingImageId };
      return (await world.call<{ streamingImage: StreamingImage }>('GetStreamingImage', input)).streamingImage;
    }),
  );
  assert.deepEqual(details.streamingImages, images);
  const common = { name: 'component', subtype: 'CUSTOM', type: 'CUSTOM', createdBy: USER };
  const times = { createdAt: '2026-01-01T00:00:00Z', updatedAt: '2026-01-01T00:00:00Z' };
  assert.deepEqual(details.studioComponentSummaries, [
    { ...common, ...times, studioComponentId: described, description: 'd', updatedBy: 'somebody' },
    { ...common, ...times, studioComponentId: plain, updatedBy: USER },
  ]);
});

// ---------------------------------------------------------------------------------------------------------------------
// Initialization

const ASKED = { launchProfileProtocolVersions: ['2021-03-31'], launchPurpose: 'WORKSTATION', platform: 'LINUX' };

async function initialization(world: World, input: object): Promise<LaunchProfileInitialization> {
  const answer = await world.call<{ launchProfileInitialization: LaunchProfileInitialization }>(
    'GetLaunchProfileInitialization',
    { ...ASKED, ...input },
  );
  assertConforms('GetLaunchProfileInitialization', answer);
  return answer.launchProfileInitialization;
}

test('an initialization puts the components together for one platform, without those that are deleted', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const script = (text: string, platform?: 'LINUX' | 'WINDOWS', runContext?: string, version?: string) => ({
    ...(platform && { platform }),
    ...(runContext && { runContext: runContext as 'USER_INITIALIZATION' }),
    ...(version && { launchProfileProtocolVersion: version }),
    script: text,
  });
  const [SYSTEM, OWN] = ['SYSTEM_INITIALIZATION', 'USER_INITIALIZATION'];
  const files = await putComponent(world, studioId, {
    name: 'files',
    ec2SecurityGroupIds: ['sg-2', 'sg-1'],
    runtimeRoleArn: 'runtime',
    secureInitializationRoleArn: 'secure',
    initializationScripts: [
      script('mount', 'LINUX', SYSTEM, '2021-03-31'),
      script('map', 'WINDOWS', SYSTEM),
      script('link', 'LINUX', OWN),
      script('of no platform', undefined, OWN),
      script('of no context', 'LINUX'),
      { platform: 'LINUX', runContext: 'USER_INITIALIZATION' },
    ],
  });
  const directory = await putComponent(world, studioId, {
    name: 'directory',
    type: 'ACTIVE_DIRECTORY',
    ec2SecurityGroupIds: ['sg-3', 'sg-2'],
    configuration: {
      activeDirectoryConfiguration: {
        computerAttributes: [{ name: 'a', value: 'b' }],
        directoryId: 'd-1',
        organizationalUnitDistinguishedName: 'OU=x',
      },
    },
    initializationScripts: [script('join', 'LINUX', SYSTEM)],
  });
  const deleted = await putComponent(world, studioId, {
    state: 'DELETED',
    ec2SecurityGroupIds: ['sg-9'],
    initializationScripts: [script('gone', 'LINUX', SYSTEM)],
  });
  const studioComponentIds = [files, deleted, directory, await putComponent(world, await world.makeStudio())];
  const launchProfileId = await putProfile(world, studioId, { name: 'Lighting', studioComponentIds });
  const ofFiles = { studioComponentId: files, studioComponentName: 'files', runtimeRoleArn: 'runtime' };
  const ofDirectory = { studioComponentId: directory, studioComponentName: 'directory' };
  assert.deepEqual(await initialization(world, { studioId, launchProfileId }), {
    activeDirectory: {
      ...ofDirectory,
      computerAttributes: [{ name: 'a', value: 'b' }],
      directoryId: 'd-1',
      organizationalUnitDistinguishedName: 'OU=x',
    },
    ec2SecurityGroupIds: ['sg-2', 'sg-1', 'sg-3'],
    launchProfileId,
    launchProfileProtocolVersion: '2021-03-31',
    launchPurpose: 'WORKSTATION',
    name: 'Lighting',
    platform: 'LINUX',
    systemInitializationScripts: [
      { ...ofFiles, script: 'mount', secureInitializationRoleArn: 'secure' },
      { ...ofDirectory, script: 'join' },
    ],
    userInitializationScripts: [{ ...ofFiles, script: 'link' }],
  });
  const windows = await initialization(world, { studioId, launchProfileId, platform: 'WINDOWS' });
  assert.deepEqual(
    [
      windows.platform,
      windows.systemInitializationScripts!.map((one) => one.script),
      windows.userInitializationScripts,
    ],
    ['WINDOWS', ['map'], []],
  );
});

test('an initialization of plain components has no directory and no security groups', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const launchProfileId = await putProfile(world, studioId, {
    studioComponentIds: [await putComponent(world, studioId)],
  });
  assert.deepEqual(
    Object.keys(await initialization(world, { studioId, launchProfileId })).sort(),
    [
      'launchProfileId',
      'launchProfileProtocolVersion',
      'launchPurpose',
      'name',
      'platform',
      'systemInitializationScripts',
      'userInitializationScripts',
    ].sort(),
  );
});

test('what is asked for an initialization is checked in the words of the vendor', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const place = { studioId, launchProfileId: await putProfile(world, studioId) };
  const versions = 'Member must have a version that the launch profile has: [2021-03-31]';
  const pattern = 'Member must satisfy regular expression pattern: ^[A-Z0-9_]+$';
  const platforms = 'Member must satisfy enum value set: [LINUX, WINDOWS]';
  for (const [more, member, rule] of [
    [{ launchProfileProtocolVersions: [] }, 'launchProfileProtocolVersions', versions],
    [{ launchProfileProtocolVersions: ['2020-01-01', ''] }, 'launchProfileProtocolVersions', versions],
    [{ launchPurpose: '' }, 'launchPurpose', pattern],
    [{ launchPurpose: 'render' }, 'launchPurpose', pattern],
    [{ launchPurpose: 'A B' }, 'launchPurpose', pattern],
    [{ launchPurpose: 'A'.repeat(65) }, 'launchPurpose', 'Member must have length less than or equal to 64'],
    [{ platform: '' }, 'platform', platforms],
    [{ platform: 'linux' }, 'platform', platforms],
    [{ platform: 'constructor' }, 'platform', platforms],
  ] as const) {
    const call = initialization(world, { ...place, ...more });
    const message = `1 validation error detected. Value at '/${member}' failed to satisfy constraint: ${rule}`;
    assert.equal(await messageOf(call), message, JSON.stringify(more));
  }
  const newer = {
    ...place,
    launchProfileProtocolVersions: ['2030-01-01', '2021-03-31'],
    launchPurpose: 'A'.repeat(64),
  };
  assert.equal((await initialization(world, newer)).launchProfileProtocolVersion, '2021-03-31');
});

/** Status of an initialization by the state of the profile. */
const INITIALIZED: Record<string, number> = {
  CREATE_IN_PROGRESS: 409,
  READY: 200,
  UPDATE_IN_PROGRESS: 200,
  UPDATE_FAILED: 200,
  CREATE_FAILED: 409,
  DELETE_IN_PROGRESS: 200,
  DELETE_FAILED: 200,
  DELETED: 404,
};

for (const [state, expected] of Object.entries(INITIALIZED)) {
  test(`an initialization of a profile that is ${state} is ${expected}; its details are always shown`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const place = {
      studioId,
      launchProfileId: await putProfile(world, studioId, { state: state as NonNullable<LaunchProfile['state']> }),
    };
    assert.equal(await statusOf(initialization(world, place)), expected);
    assert.equal(await statusOf(world.call('GetLaunchProfileDetails', place)), 200);
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Who is there, in which order refusals come, and the quota

const OF_ONE: readonly [OperationName, object][] = [
  ['GetLaunchProfile', {}],
  ['GetLaunchProfileDetails', {}],
  ['GetLaunchProfileInitialization', ASKED],
  ['UpdateLaunchProfile', { name: 'mine' }],
  ['DeleteLaunchProfile', {}],
];

test("another studio's profile does not exist: it is neither read nor changed nor listed", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const launchProfileId = await putProfile(world, await world.makeStudio());
  const before = await world.store.get(KIND.launchProfile, launchProfileId);
  for (const [name, more] of OF_ONE) {
    const call = world.call(name, { studioId, launchProfileId, ...more });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: launchProfileId });
  }
  assert.deepEqual(await listIds(world, { studioId }), []);
  assert.deepEqual(await world.store.get(KIND.launchProfile, launchProfileId), before);
});

test('a studio that is not there is named before the profile is looked for', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const studioId = 'us-west-2:stid-nothere';
  const calls: (readonly [OperationName, object])[] = [
    ['CreateLaunchProfile', input],
    ['ListLaunchProfiles', {}],
    ...OF_ONE,
  ];
  for (const [name, more] of calls) {
    const call = world.call(name, { launchProfileId: 'nothere', ...more, studioId });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: studioId });
  }
});

test('refusals of a create come in the order what fits, studio, its state, components, quota', async () => {
  const world = createWorld({ settings: { launchProfilesMax: 0 } });
  const input = await furnish(world);
  const { studioId } = input;
  const lost = { ...input, studioComponentIds: [ABSENT] };
  const unfitting = { ...lost, studioId: 'nothere', ec2SubnetIds: ['x'] };
  await refused(create(world, unfitting), 'ValidationException', 'MALFORMED_SUBNET_ID');
  await refused(create(world, { ...lost, studioId: 'nothere' }), 'ResourceNotFoundException');
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  await refused(create(world, lost), 'ConflictException', 'STUDIO_NOT_READY');
  await putState(world, KIND.studio, studioId, 'READY');
  await refused(create(world, lost), 'ValidationException', 'STUDIO_COMPONENT_NOT_FOUND');
  await refused(create(world, input), 'ServiceQuotaExceededException', 'LAUNCH_PROFILES_PER_STUDIO');
});

test('refusals of a change come in the order studio, profile, state of the studio, state, what fits, components', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [creating, deleted, ready] = [
    await putProfile(world, studioId, { state: 'CREATE_IN_PROGRESS' }),
    await putProfile(world, studioId, { state: 'DELETED' }),
    await putProfile(world, studioId),
  ];
  const lost = { studioComponentIds: [ABSENT] };
  const unfitting = { ...lost, launchProfileProtocolVersions: [] };
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  for (const id of ['nothere', deleted]) {
    await refused(update(world, studioId, id, unfitting), 'ResourceNotFoundException', undefined, { resourceId: id });
    await refused(remove(world, studioId, id), 'ResourceNotFoundException', undefined, { resourceId: id });
  }
  await refused(update(world, studioId, creating, unfitting), 'ConflictException', 'STUDIO_NOT_READY');
  await putState(world, KIND.studio, studioId, 'READY');
  await refused(update(world, studioId, creating, unfitting), 'ConflictException', 'OPERATION_IN_PROGRESS');
  await refused(update(world, studioId, ready, unfitting), 'ValidationException', 'NO_PROTOCOL_VERSION');
  await refused(update(world, studioId, ready, lost), 'ValidationException', 'STUDIO_COMPONENT_NOT_FOUND');
});

test("every state but DELETED counts against the quota; other studios' profiles do not", async () => {
  for (const state of Object.keys(INITIALIZED) as NonNullable<LaunchProfile['state']>[]) {
    const world = createWorld({ settings: { launchProfilesMax: 1 } });
    const input = await furnish(world);
    await putProfile(world, input.studioId, { state });
    await putProfile(world, await world.makeStudio());
    if (state === 'DELETED') {
      await create(world, input);
      continue;
    }
    const facts = { quota: '1', resourceId: input.studioId };
    const code = 'LAUNCH_PROFILES_PER_STUDIO';
    await refused(create(world, input), 'ServiceQuotaExceededException', code, facts);
  }
});

test('of creates that meet at the quota, as many succeed as there is room, and never one more', async () => {
  const world = createWorld({ settings: { launchProfilesMax: 3 } });
  const input = await furnish(world);
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => create(world, input)));
  assert.equal(outcomes.filter(({ status: ended }) => ended === 'fulfilled').length, 3);
  assert.equal((await listIds(world, { studioId: input.studioId })).length, 3);
});

test('a studio that is being deleted while profiles are created ends empty or stays', async () => {
  const world = createWorld();
  const input = await furnish(world);
  const { studioId } = input;
  for (const [kind, id] of [
    [KIND.studioComponent, input.studioComponentIds[0]],
    [KIND.streamingImage, input.streamConfiguration.streamingImageIds[0]],
  ] as const) {
    await putState(world, kind, id!, 'DELETED');
  }
  const component = await putComponent(world, studioId);
  const calls = [
    create(world, { ...input, studioComponentIds: [component] }),
    world.call('DeleteStudio', { studioId }),
    create(world, { ...input, studioComponentIds: [component] }),
  ];
  await Promise.allSettled(calls);
  await putState(world, KIND.studioComponent, component, 'DELETED');
  await world.settle();
  const left = await world.store.count({
    kind: KIND.launchProfile,
    studioIds: [studioId],
    stateNot: 'DELETED',
    limit: 9,
  });
  const { state } = (await world.store.get(KIND.studio, studioId))!;
  assert.ok(left === 0 ? state === 'DELETED' : state === 'DELETE_FAILED', `${left} ${state}`);
});

test('tags are shown, change nothing else but the time, and stay through an update', async () => {
  const world = createWorld();
  const input = { ...(await furnish(world)), tags: { a: '1' } };
  const before = await made(world, input);
  const { launchProfileId, arn } = before;
  world.clock.advance(1_000);
  await world.call('TagResource', { resourceArn: arn, tags: { b: '2' } });
  await world.call('UntagResource', { resourceArn: arn, tagKeys: ['a'] });
  const tagged = { ...before, tags: { b: '2' }, updatedAt: '2026-01-01T00:00:01Z' };
  assert.deepEqual(await get(world, input.studioId, launchProfileId!), tagged);
  assert.deepEqual(await world.call('ListTagsForResource', { resourceArn: arn }), { tags: { b: '2' } });
  assert.deepEqual((await updated(world, input.studioId, launchProfileId!, { name: 'n' })).tags, { b: '2' });
});
