/**
 * What an import makes of what it finds: rows with the ids that things had, nothing over what is there, and a sentence for
 * whatever cannot come along. Documents are as the vendor's command line printed them.
 */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { Studio } from '../../src/contract/studio.ts';
import { COMMAND_LINE } from '../../src/domain/audit.ts';
import { attachPolicies, serviceNamed } from '../../src/domain/grant.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { isAdministrator, mayUseProfile } from '../../src/domain/launch-profile-access.ts';
import { validated } from '../../src/domain/launch-profile-validation.ts';
import { findNamed, identityStoreOf, type User, withEnabled } from '../../src/domain/user.ts';
import { importExport } from '../../src/import/import.ts';
import { ensureIdentityStore } from '../../src/installation.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, SETTINGS, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { IDENTITY_STORE_ID, putGroup, putState, putUser } from '../support/rows.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const AMI = 'ami-0123456789abcdef0';
const PLACE = `arn:aws:nimble:${SETTINGS.region}:${SETTINGS.accountId}`;
const STUDIO_ID = `${SETTINGS.region}:stid-abc`;

const studio = {
  adminRoleArn: 'arn:aws:iam::123456789012:role/admin',
  arn: `${PLACE}:studio/stid-abc`,
  createdAt: '2022-01-27T21:18:59+00:00',
  displayName: 'The film',
  homeRegion: SETTINGS.region,
  ssoClientId: 'sso',
  state: 'READY',
  statusCode: 'STUDIO_UPDATED',
  statusMessage: 'The studio has been updated successfully',
  studioEncryptionConfiguration: { keyType: 'AWS_OWNED_KEY' },
  studioId: STUDIO_ID,
  studioName: 'film',
  studioUrl: 'https://film.nimblestudio.us-west-2.amazonaws.com',
  tags: { show: 'alpha' },
  updatedAt: '2022-01-27T22:18:59.120000+01:00',
  userRoleArn: 'arn:aws:iam::123456789012:role/user',
};
const component = {
  arn: `${PLACE}:studio-component/component1`,
  configuration: { sharedFileSystemConfiguration: { endpoint: 'files', linuxMountPoint: '/mnt' } },
  createdAt: 1643318339.5,
  createdBy: 'AIDA1',
  ec2SecurityGroupIds: [],
  name: 'Files',
  state: 'UPDATE_FAILED',
  statusCode: 'INTERNAL_ERROR',
  statusMessage: 'It failed.',
  studioComponentId: 'component1',
  subtype: 'CUSTOM',
  tags: {},
  type: 'SHARED_FILE_SYSTEM',
};
const image = {
  arn: `${PLACE}:streaming-image/image1`,
  ec2ImageId: AMI,
  encryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: 'arn:aws:kms:us-west-2:123456789012:key/1' },
  eulaIds: ['eula1'],
  name: 'Houdini',
  owner: STUDIO_ID,
  platform: 'WINDOWS',
  state: 'READY',
  statusCode: 'STREAMING_IMAGE_READY',
  streamingImageId: 'image1',
  tags: { team: 'fx' },
};
const eula = {
  content: 'https://example.org/eula',
  createdAt: '2020-01-01T00:00:00Z',
  eulaId: 'eula1',
  name: 'Licence',
};
const acceptance = {
  acceptedAt: '2022-02-02T00:00:00+00:00',
  acceptedBy: 'AIDA1',
  accepteeId: STUDIO_ID,
  eulaAcceptanceId: 'acceptance1',
  eulaId: 'eula1',
};

const PROFILE_ID = 'Ab-1_xxxxxxxxxxxxxxxxx';
const profile = {
  arn: `${PLACE}:launch-profile/${PROFILE_ID}`,
  createdAt: '2022-01-27T21:18:59.120000+00:00',
  createdBy: 'AIDA1',
  description: 'For lighters',
  ec2SubnetIds: ['subnet-0a1b2c3d'],
  launchProfileId: PROFILE_ID,
  launchProfileProtocolVersions: ['2021-03-31'],
  name: 'Lighting',
  state: 'READY',
  statusCode: 'LAUNCH_PROFILE_UPDATED',
  statusMessage: 'Launch Profile has been updated',
  streamConfiguration: {
    clipboardMode: 'ENABLED',
    ec2InstanceTypes: ['g4dn.xlarge'],
    maxSessionLengthInMinutes: 690,
    maxStoppedSessionLengthInMinutes: 0,
    streamingImageIds: ['image1'],
  },
  studioComponentIds: ['component1'],
  tags: { show: 'alpha' },
  updatedAt: '2022-01-28T00:00:00Z',
  updatedBy: 'AIDA1',
  validationResults: [],
};
/** Of the older form; of the newer; and one whom the identity store has a name for. */
const ANN = '92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486';
const BEN = '0c4d2e8a-70c1-7001-a2f3-0a1b2c3d4e5f';
const EVE = '92677b4b19-00000000-94ad-4f16-9866-c69a63ab6486';
const administrator = (principalId: string) => ({
  identityStoreId: IDENTITY_STORE_ID,
  persona: 'ADMINISTRATOR',
  principalId,
});
const artist = (principalId: string) => ({ identityStoreId: IDENTITY_STORE_ID, persona: 'USER', principalId });
const eve = {
  UserName: 'eve',
  UserId: EVE,
  DisplayName: 'Eve Fox',
  Name: { FamilyName: 'Fox', GivenName: 'Eve' },
  Emails: [{ Value: 'eve@example.org', Type: 'work', Primary: true }],
  IdentityStoreId: IDENTITY_STORE_ID,
};

type Files = Readonly<Record<string, unknown>>;

const EXPORT: Files = {
  'studios.json': { studios: [studio] },
  'anything.json': { studioComponents: [component], nextToken: null },
  'images-1.json': { streamingImages: [image] },
  'images-2.json': { streamingImages: [{ ...image, streamingImageId: 'amazon1', owner: 'amazon' }] },
  'eula.json': { eula },
  'acceptances.json': { eulaAcceptances: [acceptance] },
  'profiles.json': { launchProfiles: [profile] },
  'users.json': { Users: [eve] },
  'members.json': { members: [administrator(ANN)] },
  [`members-${PROFILE_ID}.json`]: { members: [artist(ANN), { ...artist(BEN), sid: 'S-1-5-21' }, artist(EVE)] },
};

function written(t: TestContext, files: Files): string {
  const directory = temporaryDirectory(t);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}

/** `result id` of each thing, and its note. */
async function imported(t: TestContext, world: World, files: Files, apply = true): Promise<Map<string, string>> {
  const outcomes = await importExport(written(t, files), world.services, apply);
  return new Map(outcomes.map(({ result, kind, id, note }) => [`${result} ${kind} ${id}`.trim(), note]));
}

const rowsIn = async ({ store }: World) => {
  const kinds = Object.values(KIND);
  return (await Promise.all(kinds.map((kind) => store.list({ kind, limit: 100 })))).flat();
};

const call = <T>(world: World, name: OperationName, input: object) =>
  world.call<T>(name, { studioId: STUDIO_ID, ...input });

describe('an export of a whole studio', () => {
  const MADE = ['studio us-west-2:stid-abc', 'eula eula1', 'studio-component component1', 'streaming-image image1'];

  it('comes in with its ids, in answers of the contract', async (t) => {
    const world = createWorld();
    const outcomes = await imported(t, world, EXPORT);
    assert.deepEqual(
      [...outcomes.keys()],
      [
        ...MADE.map((what) => `new ${what}`),
        'left out streaming-image amazon1',
        'new eula-acceptance acceptance1',
        `new launch-profile ${PROFILE_ID}`,
        `new user ${EVE}`,
        `new studio-member ${STUDIO_ID}/${ANN}`,
        ...[ANN, BEN, EVE].map((id) => `new launch-profile-member ${PROFILE_ID}/${id}`),
      ],
    );
    const read = await world.call<{ studio: Studio }>('GetStudio', { studioId: STUDIO_ID });
    assertConforms('GetStudio', read);
    assert.deepEqual(read.studio, {
      ...studio,
      createdAt: '2022-01-27T21:18:59Z',
      updatedAt: '2022-01-27T21:18:59Z',
      studioUrl: `${SETTINGS.publicUrl()}/film`,
    });
    const where = { studioId: STUDIO_ID };
    const components = await world.call<{ studioComponents: object[] }>('ListStudioComponents', where);
    assertConforms('ListStudioComponents', components);
    const { ec2SecurityGroupIds: _, ...kept } = component;
    assert.deepEqual(components.studioComponents, [
      {
        ...kept,
        createdAt: '2022-01-27T21:18:59Z',
        state: 'READY',
        statusCode: 'STUDIO_COMPONENT_CREATED',
        statusMessage: 'Imported',
      },
    ]);
    const acceptances = await world.call<{ eulaAcceptances: object[] }>('ListEulaAcceptances', where);
    assert.deepEqual(acceptances.eulaAcceptances, [{ ...acceptance, acceptedAt: '2022-02-02T00:00:00Z' }]);
    const tags = await world.call<{ tags: object }>('ListTagsForResource', { resourceArn: image.arn });
    assert.deepEqual({ ...tags.tags }, image.tags);
  });

  it('has images without disks fail with what to do, and copied where the disk is here already', async (t) => {
    const lacking = createWorld();
    const sentence = `It has no disk yet. Give it one: backlot machine-image import FILE --platform WINDOWS --as ${AMI}`;
    assert.equal((await imported(t, lacking, EXPORT)).get('new streaming-image image1'), sentence);
    const call = { studioId: STUDIO_ID, streamingImageId: 'image1' };
    const { streamingImage } = await lacking.call<{ streamingImage: StreamingImage }>('GetStreamingImage', call);
    assert.deepEqual([streamingImage.state, streamingImage.statusMessage], ['CREATE_FAILED', sentence]);
    assert.equal(streamingImage.encryptionConfiguration, undefined);

    const having = createWorld();
    await having.addMachineImage(AMI);
    await imported(t, having, EXPORT);
    await having.settle();
    const made = await having.call<{ streamingImage: StreamingImage }>('GetStreamingImage', call);
    assert.deepEqual([made.streamingImage.state, made.streamingImage.name], ['READY', 'Houdini']);
  });

  it('is told of and not made without apply', async (t) => {
    const world = createWorld();
    const outcomes = await imported(t, world, EXPORT, false);
    assert.deepEqual(
      MADE.map((what) => outcomes.has(`new ${what}`)),
      MADE.map(() => true),
    );
    assert.deepEqual(await rowsIn(world), []);
  });

  it('changes nothing the second time, also where something was changed here since', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    await world.call('UpdateStudio', { studioId: STUDIO_ID, displayName: 'Changed here' });
    await world.settle();
    const before = await rowsIn(world);
    const outcomes = [...(await imported(t, world, EXPORT)).keys()];
    assert.deepEqual(
      outcomes.filter((key) => !/^(there|left out) /.test(key)),
      [],
    );
    assert.deepEqual(await rowsIn(world), before);
  });

  it('changes nothing of one id that was made of something else, or not by an import', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    const before = await rowsIn(world);
    const outcomes = await imported(t, world, {
      'a.json': { studios: [{ ...studio, displayName: 'Another' }] },
      'b.json': { streamingImage: { ...image, name: 'Another' } },
    });
    for (const [key, note] of outcomes) {
      assert.match(key, /^refused /);
      assert.match(note, /There is one of this id already, made of something else\. It is left as it is\./);
    }
    assert.deepEqual(await rowsIn(world), before);
  });

  it('is the same in pages, in single outputs, and said twice', async (t) => {
    const world = createWorld();
    const more = { ...component, studioComponentId: 'component2', arn: `${PLACE}:studio-component/component2` };
    const outcomes = await imported(t, world, {
      '1.json': { studio },
      '2.json': { studios: [studio] },
      '3.json': { studioComponents: [component] },
      '4.json': { studioComponents: [more], nextToken: 'next' },
    });
    assert.deepEqual(
      [...outcomes],
      [
        ['left out', 'It is not the last page of its list: save the others as well.'],
        [`new studio ${STUDIO_ID}`, ''],
        [`there studio ${STUDIO_ID}`, ''],
        ['new studio-component component1', ''],
        ['new studio-component component2', ''],
      ],
    );
  });
});

describe('launch profiles', () => {
  const rest = (({ 'profiles.json': _, ...others }) => others)(EXPORT);
  const read = async (world: World) =>
    (await call<{ launchProfile: LaunchProfile }>(world, 'GetLaunchProfile', { launchProfileId: PROFILE_ID }))
      .launchProfile;

  it('come in as they were, and are validated here', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    const listed = await call<{ launchProfiles: object[] }>(world, 'ListLaunchProfiles', {});
    assertConforms('ListLaunchProfiles', listed);
    const { validationResults, ...shown } = listed.launchProfiles[0] as LaunchProfile;
    const { validationResults: _, ...was } = profile;
    assert.deepEqual(shown, { ...was, createdAt: '2022-01-27T21:18:59Z' });
    const components = [(await world.store.get(KIND.studioComponent, 'component1'))!];
    assert.deepEqual(validationResults, [...validated(components)]);
  });

  it('come out of the output with their details as well', async (t) => {
    const world = createWorld();
    const details = { launchProfile: profile, streamingImages: [image], studioComponentSummaries: [{ name: 'Files' }] };
    const outcomes = [...(await imported(t, world, { ...rest, 'details.json': details })).keys()];
    assert.ok(outcomes.includes(`new launch-profile ${PROFILE_ID}`));
    assert.ok(outcomes.includes('there streaming-image image1'));
  });

  it('are found again after they were updated and tagged here', async (t) => {
    const world = createWorld();
    await world.addMachineImage(AMI);
    await imported(t, world, EXPORT);
    await world.settle();
    await call(world, 'UpdateLaunchProfile', { launchProfileId: PROFILE_ID, name: 'Changed here' });
    await world.settle();
    await call(world, 'TagResource', { resourceArn: profile.arn, tags: { more: '1' } });
    assert.deepEqual([(await read(world)).state, (await read(world)).name], ['READY', 'Changed here']);
    assert.ok((await imported(t, world, EXPORT)).has(`there launch-profile ${PROFILE_ID}`));
    assert.equal((await read(world)).name, 'Changed here');
  });

  it('are found again after an update here that failed', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    await call(world, 'UpdateLaunchProfile', { launchProfileId: PROFILE_ID, name: 'Changed here' });
    await world.settle();
    assert.deepEqual([(await read(world)).state, (await read(world)).name], ['UPDATE_FAILED', 'Lighting']);
    assert.ok((await imported(t, world, EXPORT)).has(`there launch-profile ${PROFILE_ID}`));
  });

  it('come along although what they name does not, and say so', async (t) => {
    for (const apply of [false, true]) {
      const world = createWorld();
      const streamConfiguration = { ...profile.streamConfiguration, streamingImageIds: ['image1', 'amazon1'] };
      const one = { ...profile, streamConfiguration, studioComponentIds: ['gone', 'component1'] };
      const outcomes = await imported(t, world, { ...rest, 'profiles.json': { launchProfiles: [one] } }, apply);
      assert.equal(
        outcomes.get(`new launch-profile ${PROFILE_ID}`),
        'It names what is not here: streaming-image amazon1, studio-component gone. Update it.',
      );
    }
  });

  it('lose what means nothing where no session is kept, and get the defaults of what they do not say', async (t) => {
    const world = createWorld();
    const { maxSessionLengthInMinutes: _, ...bare } = profile.streamConfiguration;
    const streamConfiguration = {
      ...bare,
      automaticTerminationMode: 'DEACTIVATED',
      sessionPersistenceMode: 'DEACTIVATED',
      volumeConfiguration: { size: 500 },
    };
    await imported(t, world, { ...rest, 'profiles.json': { launchProfile: { ...profile, streamConfiguration } } });
    assert.deepEqual((await read(world)).streamConfiguration, {
      ...profile.streamConfiguration,
      sessionPersistenceMode: 'DEACTIVATED',
    });
  });

  for (const [what, more, result, says] of [
    ['deleted', { state: 'DELETED' }, 'left out', /It was DELETED\./],
    ['never made', { state: 'CREATE_FAILED' }, 'left out', /It was CREATE_FAILED\./],
    ['nameless', { name: undefined }, 'refused', /'\/name'.*not be null/],
    ['without components', { studioComponentIds: [] }, 'refused', /'\/studioComponentIds'/],
    ['naming an image twice', { studioComponentIds: ['a', 'a'] }, 'refused', /studioComponentIds\/2\/member/],
    ['on a subnet that is none', { ec2SubnetIds: ['vpc'] }, 'refused', /ec2SubnetIds\/1\/member/],
    ['with tags of the vendor', { tags: { 'aws:x': '' } }, 'refused', /begin with aws:/],
    [
      'of another account',
      { arn: profile.arn.replace(SETTINGS.accountId, '999999999999') },
      'refused',
      /account 999999999999/,
    ],
  ] as const) {
    it(`are not made where one is ${what}`, async (t) => {
      const world = createWorld();
      const outcomes = await imported(t, world, {
        's.json': { studio },
        'p.json': { launchProfile: { ...profile, ...more } },
      });
      assert.match(outcomes.get(`${result} launch-profile ${PROFILE_ID}`)!, says);
      assert.equal(await world.store.get(KIND.launchProfile, PROFILE_ID), undefined);
    });
  }
});

describe('members', () => {
  const base = { 'studio.json': { studio }, 'profile.json': { launchProfile: profile } };
  const NEW = `new launch-profile-member ${PROFILE_ID}/${BEN}`;
  const userOf = async ({ store }: World, id: string) => JSON.parse((await store.get(KIND.user, id))!.doc) as User;

  it('are who they were, and may use what they might', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    assert.equal(await identityStoreOf(world.store), IDENTITY_STORE_ID);
    const administrators = await call<{ members: object[] }>(world, 'ListStudioMembers', {});
    assertConforms('ListStudioMembers', administrators);
    assert.deepEqual(administrators.members, [administrator(ANN)]);
    const artists = await call<{ members: object[] }>(world, 'ListLaunchProfileMembers', {
      launchProfileId: PROFILE_ID,
    });
    assertConforms('ListLaunchProfileMembers', artists);
    const byId = (one: object, other: object) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1);
    assert.deepEqual(
      artists.members.toSorted(byId),
      [artist(ANN), { ...artist(BEN), sid: 'S-1-5-21' }, artist(EVE)].toSorted(byId),
    );
    assert.ok(await mayUseProfile(world.store, PROFILE_ID, BEN));
    assert.ok(await isAdministrator(world.store, STUDIO_ID, ANN));
    assert.ok(!(await isAdministrator(world.store, STUDIO_ID, BEN)));
  });

  it('become users: under the name that the identity store has, else under one that says where they are from', async (t) => {
    const world = createWorld();
    const outcomes = await imported(t, world, EXPORT);
    const always = { identityStoreId: IDENTITY_STORE_ID, state: 'ENABLED', createdAt: '2026-01-01T00:00:00Z' };
    const named = { userName: 'eve', displayName: 'Eve Fox', email: 'eve@example.org' };
    assert.deepEqual(await userOf(world, EVE), { ...always, principalId: EVE, ...named });
    assert.deepEqual(await userOf(world, BEN), { ...always, principalId: BEN, userName: `imported-${BEN}` });
    assert.equal(outcomes.get(NEW), `Its user is new. Give it a name: backlot user rename ${BEN} NAME`);
    assert.equal(outcomes.get(`new launch-profile-member ${PROFILE_ID}/${ANN}`), '');
    for (const kind of [KIND.password, KIND.accessKey])
      assert.deepEqual(await world.store.list({ kind, limit: 10 }), []);
    assert.equal((await findNamed(world.store, KIND.user, BEN))?.id, BEN);
  });

  it('are told of alike with and without apply', async (t) => {
    const world = createWorld();
    const dry = await imported(t, world, EXPORT, false);
    assert.deepEqual(await imported(t, world, EXPORT), dry);
  });

  it('are known to the installation by its own identity store where it has one', async (t) => {
    for (const saved of ['d-0000000000', '1f2e3d4c-0000-4000-8000-000000000000', undefined]) {
      const world = createWorld();
      await ensureIdentityStore(world.services);
      const own = await identityStoreOf(world.store);
      const member = { ...artist(BEN), identityStoreId: saved };
      await imported(t, world, { ...base, [`members-${PROFILE_ID}.json`]: { member } });
      const got = await call<{ member: object }>(world, 'GetLaunchProfileMember', {
        launchProfileId: PROFILE_ID,
        principalId: BEN,
      });
      assert.deepEqual(got.member, { ...member, identityStoreId: own });
      assert.equal((await userOf(world, BEN)).identityStoreId, own);
    }
  });

  it('bring an identity store whose id nothing here could begin with: a new one is made', async (t) => {
    const world = createWorld();
    const member = { ...artist(BEN), identityStoreId: '1f2e3d4c-0000-4000-8000-000000000000' };
    await imported(t, world, { ...base, [`members-${PROFILE_ID}.json`]: { member } });
    assert.match((await identityStoreOf(world.store))!, /^d-[0-9a-f]{10}$/);
  });

  it('may be in pages, in a directory that is named by the profile', async (t) => {
    const outcomes = await imported(t, createWorld(), {
      ...base,
      [`stid-abc/members-${PROFILE_ID}/1.json`]: { members: [artist(BEN)] },
    });
    assert.ok(outcomes.has(NEW));
  });

  it('who are groups here stay groups', async (t) => {
    const world = createWorld();
    const group = await putGroup(world, 'lighters');
    const outcomes = await imported(t, world, {
      ...base,
      'members.json': { members: [administrator(group)] },
      [`members-${PROFILE_ID}.json`]: { members: [artist(group)] },
    });
    assert.match(outcomes.get(`refused studio-member ${STUDIO_ID}/${group}`)!, /It is a group\./);
    assert.ok(outcomes.has(`new launch-profile-member ${PROFILE_ID}/${group}`));
    assert.equal(await world.store.get(KIND.user, group), undefined);
  });

  it('who are disabled here, or in the identity store, are not let in', async (t) => {
    const world = createWorld();
    const disabled = { ...eve, UserStatus: 'DISABLED' };
    const files = {
      ...base,
      'users.json': { Users: [disabled] },
      [`members-${PROFILE_ID}.json`]: { member: artist(EVE) },
    };
    for (const apply of [false, true]) {
      const outcomes = await imported(t, world, files, apply);
      assert.equal(outcomes.get(`new user ${EVE}`), 'It is disabled.');
      const note = outcomes.get(`refused launch-profile-member ${PROFILE_ID}/${EVE}`)!;
      assert.match(note, new RegExp(`backlot user enable ${EVE}`));
    }
    const row = (await world.store.get(KIND.user, EVE))!;
    assert.equal((await userOf(world, EVE)).state, 'DISABLED');
    await world.store.write([{ op: 'update', row: withEnabled(row, true) }]);
    assert.ok((await imported(t, world, files)).has(`new launch-profile-member ${PROFILE_ID}/${EVE}`));
  });

  for (const [what, files, key, says] of [
    [
      'of a launch profile that nothing names',
      { 'members.json': { members: [artist(BEN)] } },
      'launch-profile-member',
      /which launch profile it belongs to: name the file by it, such as members-ID\.json/,
    ],
    [
      'of a launch profile that is not here',
      { 'members-absent.json': { members: [artist(BEN)] } },
      'launch-profile-member',
      /Its launch-profile absent is neither here nor in what is imported/,
    ],
    [
      'administrators among the members of a launch profile',
      { [`members-${PROFILE_ID}.json`]: { members: [administrator(BEN)] } },
      'studio-member',
      /It is an administrator of a studio, but the file's name says/,
    ],
    [
      'of a persona that there is not',
      { 'members.json': { member: { ...artist(BEN), persona: 'OWNER' } } },
      'studio-member',
      /'\/persona'.*\[ADMINISTRATOR\]/,
    ],
    ['of no persona', { 'members.json': { member: { principalId: BEN } } }, 'studio-member', /'\/persona'/],
    [
      'whose id is none of a person',
      { 'members.json': { members: [administrator('ann')] } },
      'studio-member',
      /none of an identity store/,
    ],
    ['that are no object', { 'members.json': { members: [null] } }, 'studio-member', /is no object/],
  ] as const) {
    it(`are refused: ${what}`, async (t) => {
      const world = createWorld();
      const outcomes = [...(await imported(t, world, { ...base, ...files }))];
      const [, note] = outcomes.find(([one]) => one.startsWith(`refused ${key}`))!;
      assert.match(note, says);
      const rows = (await rowsIn(world)).map(({ kind }) => kind);
      assert.deepEqual(rows.toSorted(), [KIND.launchProfile, KIND.studio]);
    });
  }

  it('are refused while the profile is on its way from one state to another', async (t) => {
    for (const state of ['UPDATE_IN_PROGRESS', 'DELETE_IN_PROGRESS', 'CREATE_FAILED']) {
      const world = createWorld();
      await imported(t, world, base);
      await putState(world, KIND.launchProfile, PROFILE_ID, state);
      const outcomes = await imported(t, world, { [`members-${PROFILE_ID}.json`]: { member: artist(BEN) } });
      assert.match(
        outcomes.get(`refused launch-profile-member ${PROFILE_ID}/${BEN}`)!,
        new RegExp(`is ${state}, not READY`),
      );
      assert.equal(await world.store.get(KIND.user, BEN), undefined);
    }
  });

  it('are refused, user and all, where the profile changes just before they are written', async (t) => {
    const world = createWorld();
    await imported(t, world, base);
    const store = intercepted(world.store, async () => {
      await putState(world, KIND.launchProfile, PROFILE_ID, 'DELETE_IN_PROGRESS');
    });
    const files = { [`members-${PROFILE_ID}.json`]: { member: artist(BEN) } };
    const services = { ...world.services, store };
    const [outcome] = await importExport(written(t, files), services, true);
    assert.equal(outcome!.result, 'refused');
    assert.match(outcome!.note, /changed in between\. Try again\./);
    assert.deepEqual((await rowsIn(world)).map(({ kind }) => kind).toSorted(), [KIND.launchProfile, KIND.studio]);
  });

  it('are found again after they were put here once more', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    await call(world, 'PutLaunchProfileMembers', {
      launchProfileId: PROFILE_ID,
      identityStoreId: IDENTITY_STORE_ID,
      members: [{ principalId: BEN, persona: 'USER' }],
    });
    assert.ok((await imported(t, world, EXPORT)).has(`there launch-profile-member ${PROFILE_ID}/${BEN}`));
  });

  it('are as little overwritten as anything: neither a member, nor a user who is here already', async (t) => {
    const world = createWorld();
    await imported(t, world, { ...base, [`members-${PROFILE_ID}.json`]: { member: artist(BEN) } });
    const before = await rowsIn(world);
    const outcomes = await imported(t, world, {
      'users.json': { Users: [{ ...eve, UserId: BEN, UserName: 'ben' }] },
      [`members-${PROFILE_ID}.json`]: { member: { ...artist(BEN), sid: 'S-1' } },
    });
    assert.deepEqual(
      [...outcomes.keys()],
      [`refused user ${BEN}`, `refused launch-profile-member ${PROFILE_ID}/${BEN}`],
    );
    assert.deepEqual(await rowsIn(world), before);
  });

  it('whose name another user has are refused, by a name that differs in case alone too', async (t) => {
    const world = createWorld();
    const id = await putUser(world, 'EVE');
    const outcomes = await imported(t, world, { 'users.json': { Users: [eve] } });
    assert.match(outcomes.get(`refused user ${EVE}`)!, new RegExp(`User ${id} has its name already`));
  });

  it('whose name a service has are refused', async (t) => {
    const world = createWorld();
    const { services, store } = world;
    const { UserName } = eve;
    await store.write(attachPolicies(await serviceNamed(UserName, services), undefined, [], services));
    const outcomes = await imported(t, world, { 'users.json': { Users: [eve] } });
    assert.match(outcomes.get(`refused user ${EVE}`)!, new RegExp(`There is a service ${UserName}`));
  });

  it('who were taken out here come again with the next import, which says so before it does', async (t) => {
    const world = createWorld();
    const files = { ...base, [`members-${PROFILE_ID}.json`]: { member: artist(BEN) } };
    await imported(t, world, files);
    await call(world, 'DeleteLaunchProfileMember', { launchProfileId: PROFILE_ID, principalId: BEN });
    assert.equal((await imported(t, world, files, false)).get(NEW), '');
  });
});

describe('the audit of an import', () => {
  it('has a line for every row, and none of what is only told', async (t) => {
    const world = createWorld();
    const lines = async () => world.store.audit({ operation: 'import', limit: 100 });
    await imported(t, world, EXPORT, false);
    assert.deepEqual(await lines(), []);
    await imported(t, world, EXPORT);
    const rows = await rowsIn(world);
    assert.deepEqual(
      (await lines()).map(({ resourceId }) => resourceId).toSorted(),
      rows.map(({ id }) => id).toSorted(),
    );
    for (const line of await lines()) assert.deepEqual([line.principalId, line.outcome], [COMMAND_LINE, 'ok']);
    await imported(t, world, EXPORT);
    assert.equal((await lines()).length, rows.length);
  });
});

describe('the studio of what does not say it', () => {
  const other = { ...studio, studioId: 'us-west-2:stid-def', studioName: 'other', arn: `${PLACE}:studio/stid-def` };

  it('is the only one, or the one that the directory is named by', async (t) => {
    const world = createWorld();
    const files = (path: string) => ({
      's.json': { studios: [studio, other] },
      [path]: { studioComponents: [component] },
    });
    const note = (await imported(t, world, files('c.json'))).get('refused studio-component component1');
    assert.match(note!, /put the file into a directory named by the studio, such as stid-abc/);
    await imported(t, world, files('stid-def/c.json'));
    assert.equal((await world.store.get(KIND.studioComponent, 'component1'))!.studioId, other.studioId);
  });

  it('is not said by a directory above the export', async (t) => {
    const world = createWorld();
    const above = written(t, {
      'stid-def/export/s.json': { studios: [studio, other] },
      'stid-def/export/c.json': { studioComponents: [component] },
    });
    const outcomes = await importExport(join(above, 'stid-def/export'), world.services, true);
    const { result, note } = outcomes.find(({ id }) => id === component.studioComponentId)!;
    assert.equal(result, 'refused');
    assert.match(note, /It does not say which studio it belongs to/);
  });

  it('must be here, or come along', async (t) => {
    const outcomes = await imported(t, createWorld(), {
      'stid-abc/c.json': { studioComponents: [component] },
      'i.json': { streamingImages: [image] },
      'a.json': { eulaAcceptances: [acceptance] },
    });
    assert.equal(outcomes.size, 3);
    for (const [key, note] of outcomes) {
      assert.match(key, /^refused /);
      assert.equal(note, `Its studio ${STUDIO_ID} is neither here nor in what is imported.`);
    }
  });
});

describe('what cannot come along', () => {
  const cases: Readonly<Record<string, readonly [files: Files, result: string, note: RegExp]>> = {
    'no JSON': [{ 'a.json': '{' }, 'left out', /It is no JSON object\./],
    'a list': [{ 'a.json': [studio] }, 'left out', /It is no JSON object\./],
    'outputs of other operations': [{ 'a.json': { tags: {} } }, 'left out', /It holds nothing that can be imported\./],
    'a document that is none': [{ 'a.json': { studios: [null] } }, 'refused', /is no object/],
    'no id': [{ 'a.json': { studios: [{ ...studio, studioId: undefined }] } }, 'refused', /studioId is missing/],
    'an id that is a path': [
      { 'a.json': { streamingImages: [{ ...image, streamingImageId: '../../keys' }] } },
      'refused',
      /streamingImageId is missing, or is no id/,
    ],
    'no name': [
      { 'a.json': { studios: [{ ...studio, studioName: undefined }] } },
      'refused',
      /'\/studioName'.*not be null/,
    ],
    'a name that the API refuses': [
      { 'a.json': { studios: [{ ...studio, studioName: 'No' }] } },
      'refused',
      /'\/studioName' failed to satisfy constraint/,
    ],
    'a time that is none': [{ 'a.json': { studios: [{ ...studio, createdAt: 'now' }] } }, 'refused', /must be a time/],
    'a time beyond all': [{ 'a.json': { studios: [{ ...studio, createdAt: 1e15 }] } }, 'refused', /must be a time/],
    'tags of the vendor': [
      { 'a.json': { studios: [{ ...studio, tags: { 'aws:x': '' } }] } },
      'refused',
      /begin with aws:/,
    ],
    'another region': [
      { 'a.json': { studios: [{ ...studio, studioId: 'eu-west-2:stid-abc' }] } },
      'refused',
      /set BACKLOT_REGION/,
    ],
    'another account': [
      { 'a.json': { studios: [{ ...studio, arn: 'arn:aws:nimble:us-west-2:999999999999:studio/stid-abc' }] } },
      'refused',
      /BACKLOT_REGION=us-west-2 and BACKLOT_ACCOUNT_ID=999999999999/,
    ],
    'something deleted': [{ 'a.json': { studios: [{ ...studio, state: 'DELETED' }] } }, 'left out', /It was DELETED\./],
    'a session': [
      { 'a.json': { sessions: [{ sessionId: 'session1', state: 'STOPPED' }] } },
      'left out streaming-session session1',
      /Its workstation and its disk stayed with the vendor\./,
    ],
    'a backup': [
      { 'a.json': { streamingSessionBackup: { backupId: 'backup1' } } },
      'left out streaming-session-backup backup1',
      /stayed with the vendor/,
    ],
    'something that failed': [
      { 'a.json': { studios: [{ ...studio, state: 'CREATE_FAILED' }] } },
      'left out',
      /CREATE_FAILED/,
    ],
  };
  for (const [what, [files, result, says]] of Object.entries(cases)) {
    it(what, async (t) => {
      const world = createWorld();
      const [[key, note]] = [...(await imported(t, world, files))] as [[string, string]];
      assert.ok(key.startsWith(result), key);
      assert.match(note, says);
      assert.deepEqual(await rowsIn(world), []);
    });
  }

  it('a component that the API would not take, or that finds no room', async (t) => {
    const world = createWorld({ settings: { sharedFileSystemsMax: 1 } });
    const directory = { ...component, type: 'ACTIVE_DIRECTORY', configuration: undefined };
    const components = [
      component,
      { ...component, studioComponentId: 'second' },
      { ...directory, studioComponentId: 'third' },
      { ...directory, studioComponentId: 'fourth' },
      { ...component, studioComponentId: 'fifth', type: 'CUSTOM' },
    ];
    const outcomes = await imported(t, world, { 'a.json': { studio }, 'b.json': { studioComponents: components } });
    assert.deepEqual([...outcomes.keys()].slice(1), [
      'new studio-component component1',
      'refused studio-component second',
      'new studio-component third',
      'refused studio-component fourth',
      'refused studio-component fifth',
    ]);
    assert.match(outcomes.get('refused studio-component fourth')!, /an Active Directory already/);
  });

  it('a studio whose name another has', async (t) => {
    const world = createWorld();
    await world.makeStudio({ studioName: 'film' });
    const outcomes = await imported(t, world, { 'a.json': { studio } });
    assert.match(outcomes.get(`refused studio ${STUDIO_ID}`)!, /has its name already/);
  });

  it("a studio's key: it stays with the vendor, which is said", async (t) => {
    const world = createWorld();
    const keyArn = 'arn:aws:kms:us-west-2:123456789012:key/1';
    const secret = { ...studio, studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } };
    const outcomes = await imported(t, world, { 'a.json': { studio: secret } });
    assert.match(outcomes.get(`new studio ${STUDIO_ID}`)!, /not under arn:aws:kms:\S+, but under the root key here/);
    const doc = JSON.parse((await world.store.get(KIND.studio, STUDIO_ID))!.doc) as Studio;
    assert.deepEqual(doc.studioEncryptionConfiguration, { keyType: 'AWS_OWNED_KEY' });
  });
});

describe('a directory that is no export', () => {
  const world = createWorld();

  it('is refused where it is not there, or holds no JSON', async (t) => {
    const empty = temporaryDirectory(t);
    await assert.rejects(importExport(join(empty, 'none'), world.services, true), /cannot be read/);
    await assert.rejects(importExport(empty, world.services, true), /holds no file whose name ends in \.json/);
    symlinkSync(join(empty, 'none'), join(empty, 'link.json'));
    await assert.rejects(importExport(empty, world.services, true), /holds no file/);
  });

  it('is refused where a file is larger than any output', async (t) => {
    const directory = written(t, { 'large.json': '' });
    truncateSync(join(directory, 'large.json'), 65 * 1024 * 1024);
    await assert.rejects(importExport(directory, world.services, true), /large\.json is larger than/);
  });
});
