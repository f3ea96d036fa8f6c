/**
 * The real JavaScript SDK against the real server: the waiters in success and in failure, the
 * paginators over more than a page, the exception classes, client tokens, and changes made at once.
 */
import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import {
  AcceptEulasCommand,
  AccessDeniedException,
  ConflictException,
  CreateLaunchProfileCommand,
  CreateStreamingImageCommand,
  CreateStudioCommand,
  CreateStudioComponentCommand,
  type CreateStudioComponentCommandInput,
  DeleteLaunchProfileCommand,
  DeleteLaunchProfileMemberCommand,
  DeleteStreamingImageCommand,
  DeleteStudioCommand,
  DeleteStudioComponentCommand,
  DeleteStudioMemberCommand,
  GetEulaCommand,
  GetLaunchProfileCommand,
  GetLaunchProfileDetailsCommand,
  GetLaunchProfileInitializationCommand,
  GetLaunchProfileMemberCommand,
  GetStreamingImageCommand,
  GetStudioCommand,
  GetStudioComponentCommand,
  GetStudioMemberCommand,
  ListEulaAcceptancesCommand,
  ListEulasCommand,
  ListLaunchProfilesCommand,
  ListStreamingImagesCommand,
  ListStudioComponentsCommand,
  type ListStudioComponentsCommandInput,
  ListStudioMembersCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  type NimbleClient,
  type NimbleClientConfig,
  NimbleServiceException,
  PutLaunchProfileMembersCommand,
  PutStudioMembersCommand,
  paginateListEulaAcceptances,
  paginateListEulas,
  paginateListLaunchProfileMembers,
  paginateListStreamingImages,
  paginateListStudioComponents,
  paginateListStudios,
  ResourceNotFoundException,
  ServiceQuotaExceededException,
  type StreamConfigurationCreate,
  type StreamingImage,
  type StudioComponent,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateLaunchProfileCommand,
  UpdateLaunchProfileMemberCommand,
  UpdateStreamingImageCommand,
  UpdateStudioCommand,
  UpdateStudioComponentCommand,
  ValidationException,
  waitUntilLaunchProfileDeleted,
  waitUntilLaunchProfileReady,
  waitUntilStreamingImageDeleted,
  waitUntilStreamingImageReady,
  waitUntilStudioComponentDeleted,
  waitUntilStudioComponentReady,
  waitUntilStudioDeleted,
  waitUntilStudioReady,
} from '@aws-sdk/client-nimble';
import { run } from '../../src/cli/run.ts';
import { until } from '../support/until.ts';
import { readProfile, sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation, type RunningServer } from './installation.ts';

const QUOTA = 105;
const EULAS = 101;
const ABSENT = 'ami-0123456789abcdef0';

const installation = new Installation({ after }, { BACKLOT_QUOTA_STREAMING_IMAGES: String(QUOTA) });
let server: RunningServer;
let client: NimbleClient;
/** What the administrator makes while the first tests run already: each test awaits what it needs. */
let imported: Promise<{ ec2ImageId: string; streamingImageId: string }>;
let licences: Promise<string[]>;

function connect(options?: NimbleClientConfig): NimbleClient {
  return sdkClient({ after }, installation, server, options);
}

/** Runs a `backlot` command in this process: a hundred of its own would take a minute. */
async function backlot<T>(...words: string[]): Promise<T> {
  let text = '';
  const out = { write: (chunk: string) => (text += chunk) } as unknown as NodeJS.WritableStream;
  assert.equal(await run([...words, '--data-dir', installation.dataDir], { out, err: process.stderr }), 0);
  return JSON.parse(text) as T;
}

before(async () => {
  server = await installation.start();
  client = connect();
  const disk = await makeDisk(installation.directory, 'disk.qcow2', { format: 'qcow2' });
  const words = ['import', disk, '--platform', 'WINDOWS', '--provided', '--name', 'Base'];
  imported = installation.json(['machine-image', ...words]);
  licences = makeEulas();
  for (const making of [imported, licences]) making.catch(() => undefined);
});

async function makeEulas(): Promise<string[]> {
  const eulaIds: string[] = [];
  for (let index = 0; index < EULAS; index += 1) {
    const words = ['--name', `Licence ${index}`, '--url', 'https://example.org/licence'];
    eulaIds.push((await backlot<{ eulaId: string }>('eula', 'create', ...words)).eulaId);
  }
  return eulaIds;
}

const ROLES = {
  adminRoleArn: 'arn:aws:iam::000000000000:role/admin',
  userRoleArn: 'arn:aws:iam::000000000000:role/user',
};

/** Waiters of this client wait at least a second between two looks. */
const patiently = () => ({ client, maxWaitTime: 180, minDelay: 1, maxDelay: 2 });

let studios = 0;

/** A READY studio of its own for each test. */
async function newStudio(): Promise<string> {
  studios += 1;
  const input = { studioName: `studio${studios}`, displayName: 'A studio', ...ROLES };
  const { studio } = await client.send(new CreateStudioCommand(input));
  const { studioId } = studio!;
  await waitUntilStudioReady(patiently(), { studioId });
  return studioId!;
}

async function newImage(
  studioId: string,
  more: { name?: string; ec2ImageId?: string; clientToken?: string } = {},
): Promise<StreamingImage> {
  const ec2ImageId = more.ec2ImageId ?? (await imported).ec2ImageId;
  const input = { studioId, name: 'Houdini', ...more, ec2ImageId };
  const { streamingImage } = await client.send(new CreateStreamingImageCommand(input));
  return streamingImage!;
}

/** An image of its own for what does not ask for a copy: there is no such machine image, so it fails at once. */
async function failedImage(studioId: string, more: { clientToken?: string } = {}): Promise<StreamingImage> {
  const { streamingImageId } = await newImage(studioId, { ec2ImageId: ABSENT, ...more });
  return until('the image fails', async () => {
    const { streamingImage } = await client.send(new GetStreamingImageCommand({ studioId, streamingImageId }));
    return streamingImage!.state === 'CREATE_FAILED' && streamingImage;
  });
}

async function newComponent(
  studioId: string,
  more: Partial<CreateStudioComponentCommandInput> = {},
): Promise<StudioComponent> {
  const input = { studioId, name: 'Component', type: 'CUSTOM' as const, ...more };
  return (await client.send(new CreateStudioComponentCommand(input))).studioComponent!;
}

type ExceptionClass<E> = abstract new (...args: never[]) => E;

/** The error of a call that must be refused with this class of the SDK's. */
async function refusal<E extends NimbleServiceException>(
  call: Promise<unknown>,
  exception: ExceptionClass<E>,
): Promise<E> {
  const error = await call.then(
    () => assert.fail('it was not refused'),
    (reason: unknown) => reason,
  );
  if (error instanceof exception) return error;
  throw error;
}

describe('the JavaScript SDK', { concurrency: true }, () => {
  it('creates, reads, lists, updates and deletes a studio', async () => {
    const created = await client.send(
      new CreateStudioCommand({ studioName: 'film', displayName: 'Film', tags: { show: 'alpha' }, ...ROLES }),
    );
    const { studioId, state, ssoClientId, studioUrl } = created.studio!;
    assert.equal(state, 'CREATE_IN_PROGRESS');
    assert.match(studioId!, /^us-west-2:stid-[a-z0-9]{16}$/);
    assert.match(ssoClientId!, /^[0-9a-f-]{36}$/);
    assert.equal(studioUrl, `${server.url}/film`);
    await waitUntilStudioReady(patiently(), { studioId });

    const { studio } = await client.send(new GetStudioCommand({ studioId }));
    assert.equal(studio!.statusCode, 'STUDIO_CREATED');
    assert.equal(studio!.arn, `arn:aws:nimble:us-west-2:000000000000:studio/${studioId!.split(':')[1]}`);
    assert.deepEqual(studio!.studioEncryptionConfiguration, { keyType: 'AWS_OWNED_KEY' });
    assert.deepEqual(studio!.tags, { show: 'alpha' });
    assert.ok(studio!.createdAt instanceof Date && studio!.createdAt <= studio!.updatedAt!);

    const roles = { adminRoleArn: 'arn:aws:iam::1:role/a', userRoleArn: 'arn:aws:iam::1:role/u' };
    const updating = await client.send(new UpdateStudioCommand({ studioId, displayName: 'Films', ...roles }));
    assert.equal(updating.studio!.state, 'UPDATE_IN_PROGRESS');
    await waitUntilStudioReady(patiently(), { studioId });
    const { studios: listed } = await client.send(new ListStudiosCommand({}));
    const found = listed!.find((candidate) => candidate.studioId === studioId)!;
    assert.equal(found.statusCode, 'STUDIO_UPDATED');
    assert.equal(found.displayName, 'Films');
    assert.deepEqual({ ...found, ...roles }, found);

    const deleting = await client.send(new DeleteStudioCommand({ studioId }));
    assert.equal(deleting.studio!.state, 'DELETE_IN_PROGRESS');
    await waitUntilStudioDeleted(patiently(), { studioId });
    const { studio: tombstone } = await client.send(new GetStudioCommand({ studioId }));
    assert.equal(tombstone!.statusCode, 'STUDIO_DELETED');
  });

  it('creates, reads, lists, updates and deletes a launch profile, and lets people use it', async () => {
    const studioId = await newStudio();
    const { streamingImageId: providedImageId } = await imported;
    const { studioComponentId } = await newComponent(studioId, {
      initializationScripts: [{ platform: 'LINUX', runContext: 'USER_INITIALIZATION', script: 'true' }],
    });
    await waitUntilStudioComponentReady(patiently(), { studioId, studioComponentId });
    const streamConfiguration: StreamConfigurationCreate = {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g5.xlarge'],
      sessionStorage: { mode: ['UPLOAD'] },
      streamingImageIds: [providedImageId],
    };
    const profile = {
      ec2SubnetIds: ['subnet-0a1b2c3d'],
      launchProfileProtocolVersions: ['2021-03-31'],
      name: 'Lighting',
      streamConfiguration,
      studioComponentIds: [studioComponentId!],
    };
    const created = await client.send(new CreateLaunchProfileCommand({ studioId, ...profile, tags: { a: '1' } }));
    assert.equal(created.launchProfile!.state, 'CREATE_IN_PROGRESS');
    const place = { studioId, launchProfileId: created.launchProfile!.launchProfileId! };
    await waitUntilLaunchProfileReady(patiently(), place);
    const { launchProfile } = await client.send(new GetLaunchProfileCommand(place));
    assert.deepEqual({ ...launchProfile, ec2SubnetIds: profile.ec2SubnetIds, tags: { a: '1' } }, launchProfile);
    assert.deepEqual(launchProfile!.streamConfiguration, {
      ...streamConfiguration,
      maxSessionLengthInMinutes: 690,
      maxStoppedSessionLengthInMinutes: 0,
      sessionStorage: { mode: ['UPLOAD'], root: { linux: '$HOME/Downloads', windows: '%HOMEPATH%\\Downloads' } },
    });
    const details = await client.send(new GetLaunchProfileDetailsCommand(place));
    assert.deepEqual(details.launchProfile, launchProfile);
    assert.equal(details.streamingImages![0]!.streamingImageId, providedImageId);
    assert.equal(details.studioComponentSummaries![0]!.studioComponentId, studioComponentId);
    const { launchProfileInitialization } = await client.send(
      new GetLaunchProfileInitializationCommand({
        ...place,
        launchProfileProtocolVersions: ['2021-03-31'],
        launchPurpose: 'WORKSTATION',
        platform: 'LINUX',
      }),
    );
    assert.equal(launchProfileInitialization!.userInitializationScripts![0]!.script, 'true');

    await client.send(new UpdateLaunchProfileCommand({ ...place, name: 'Comp' }));
    await waitUntilLaunchProfileReady(patiently(), place);
    await usedBy(place);

    await client.send(new DeleteLaunchProfileCommand(place));
    await waitUntilLaunchProfileDeleted(patiently(), place);
    const { launchProfiles } = await client.send(new ListLaunchProfilesCommand({ studioId, states: ['DELETED'] }));
    assert.deepEqual(
      launchProfiles!.map(({ launchProfileId, name, statusCode }) => [launchProfileId, name, statusCode]),
      [[place.launchProfileId, 'Comp', 'LAUNCH_PROFILE_DELETED']],
    );
    const failing = { ...streamConfiguration, streamingImageIds: ['AAAAAAAAAAAAAAAAAAAAAA'] };
    const failed = await client.send(
      new CreateLaunchProfileCommand({ studioId, ...profile, streamConfiguration: failing }),
    );
    const there = { studioId, launchProfileId: failed.launchProfile!.launchProfileId! };
    await assert.rejects(waitUntilLaunchProfileReady(patiently(), there), /CREATE_FAILED/);
  });

  /** People of a profile: a user, and another by a group. */
  async function usedBy(place: { studioId: string; launchProfileId: string }): Promise<void> {
    const { studioId } = place;
    const [ann, ben] = await Promise.all(
      ['ann', 'ben'].map((name) =>
        backlot<{ principalId: string; identityStoreId: string }>('user', 'create', '--name', name),
      ),
    );
    const { principalId: lighting } = await backlot<{ principalId: string }>('group', 'create', '--name', 'Lighting');
    await backlot('group', 'add', 'Lighting', 'ben');
    const { identityStoreId } = ann!;
    const put = (principalIds: string[]) =>
      client.send(
        new PutLaunchProfileMembersCommand({
          ...place,
          identityStoreId,
          members: principalIds.map((principalId) => ({ principalId, persona: 'USER' })),
        }),
      );
    const unknown = await refusal(put([ann!.principalId, 'nobody']), ValidationException);
    assert.deepEqual([unknown.code, unknown.context], ['PRINCIPAL_NOT_FOUND', { resourceId: 'nobody' }]);
    await put([ann!.principalId, lighting]);
    const mayUse = async (principalId: string) =>
      (await client.send(new ListLaunchProfilesCommand({ studioId, principalId }))).launchProfiles!.length === 1;
    assert.deepEqual([await mayUse(ann!.principalId), await mayUse(ben!.principalId)], [true, true]);
    const whose = { ...place, principalId: ann!.principalId };
    const shown = { identityStoreId, persona: 'USER', principalId: ann!.principalId } as const;
    assert.deepEqual((await client.send(new GetLaunchProfileMemberCommand(whose))).member, shown);
    const update = new UpdateLaunchProfileMemberCommand({ ...whose, persona: 'USER' });
    assert.deepEqual((await client.send(update)).member, shown);
    const listed: string[] = [];
    for await (const { members } of paginateListLaunchProfileMembers({ client, pageSize: 1 }, place)) {
      listed.push(...members!.map(({ principalId }) => principalId!));
    }
    assert.deepEqual(listed.sort(), [ann!.principalId, lighting].sort());
    await client.send(new DeleteLaunchProfileMemberCommand(whose));
    await refusal(client.send(new GetLaunchProfileMemberCommand(whose)), ResourceNotFoundException);
    assert.deepEqual([await mayUse(ann!.principalId), await mayUse(ben!.principalId)], [false, true]);
    await backlot('user', 'disable', 'ben');
    assert.equal(await mayUse(ben!.principalId), false);

    const members = [{ principalId: ann!.principalId, persona: 'ADMINISTRATOR' as const }];
    await client.send(new PutStudioMembersCommand({ studioId, identityStoreId, members }));
    assert.ok(await mayUse(ann!.principalId), 'an administrator may use every profile');
    const administrator = { studioId, principalId: ann!.principalId };
    const { member } = await client.send(new GetStudioMemberCommand(administrator));
    assert.deepEqual(member, { ...shown, persona: 'ADMINISTRATOR' });
    assert.deepEqual((await client.send(new ListStudioMembersCommand({ studioId }))).members, [member]);
    await client.send(new DeleteStudioMemberCommand(administrator));
    await refusal(client.send(new DeleteStudioMemberCommand(administrator)), ResourceNotFoundException);
  }

  it('creates, reads, lists, updates and deletes a streaming image', async () => {
    const studioId = await newStudio();
    const { ec2ImageId, streamingImageId: providedImageId } = await imported;
    const created = await client.send(
      new CreateStreamingImageCommand({ studioId, name: 'Houdini 20', ec2ImageId, tags: { show: 'alpha' } }),
    );
    const image = created.streamingImage!;
    const { streamingImageId } = image;
    const { statusMessage: _progress, ...first } = image;
    assert.deepEqual(first, {
      arn: `arn:aws:nimble:us-west-2:000000000000:streaming-image/${streamingImageId}`,
      ec2ImageId,
      eulaIds: [],
      name: 'Houdini 20',
      owner: studioId,
      platform: 'WINDOWS',
      state: 'CREATE_IN_PROGRESS',
      statusCode: 'STREAMING_IMAGE_CREATE_IN_PROGRESS',
      streamingImageId,
      tags: { show: 'alpha' },
    });
    await waitUntilStreamingImageReady(patiently(), { studioId, streamingImageId });

    const updated = await client.send(
      new UpdateStreamingImageCommand({ studioId, streamingImageId, name: 'Houdini 20.5', description: '' }),
    );
    assert.equal(updated.streamingImage!.state, 'READY');
    const { streamingImage } = await client.send(new GetStreamingImageCommand({ studioId, streamingImageId }));
    assert.deepEqual(streamingImage, updated.streamingImage);
    assert.equal(streamingImage!.name, 'Houdini 20.5');
    assert.equal(streamingImage!.description, '');
    assert.equal(streamingImage!.statusCode, 'STREAMING_IMAGE_READY');

    const idsOf = async (owner?: string) => {
      const list = await client.send(new ListStreamingImagesCommand({ studioId, ...(owner && { owner }) }));
      return list.streamingImages!.map((candidate) => candidate.streamingImageId);
    };
    assert.deepEqual(await idsOf(), [providedImageId, streamingImageId]);
    assert.deepEqual(await idsOf(studioId), [streamingImageId]);
    assert.deepEqual(await idsOf('amazon'), [providedImageId]);
    assert.deepEqual(await idsOf('somebody'), []);

    const deleting = await client.send(new DeleteStreamingImageCommand({ studioId, streamingImageId }));
    assert.equal(deleting.streamingImage!.state, 'DELETE_IN_PROGRESS');
    await waitUntilStreamingImageDeleted(patiently(), { studioId, streamingImageId });
    assert.deepEqual(await idsOf(studioId), [streamingImageId], 'tombstones are listed');
  });

  it('creates, reads, lists, updates and deletes a studio component', async () => {
    const studioId = await newStudio();
    const given: Omit<CreateStudioComponentCommandInput, 'studioId'> = {
      name: 'Files',
      type: 'SHARED_FILE_SYSTEM',
      subtype: 'AMAZON_FSX_FOR_WINDOWS',
      description: 'Für die Show',
      configuration: { sharedFileSystemConfiguration: { endpoint: 'files.example.org', windowsMountDrive: 'S' } },
      ec2SecurityGroupIds: ['sg-1'],
      initializationScripts: [
        {
          launchProfileProtocolVersion: '2021-03-31',
          platform: 'LINUX',
          runContext: 'SYSTEM_INITIALIZATION',
          script: '#!/bin/sh\nmount "$SHARE" /mnt\n',
        },
      ],
      scriptParameters: [{ key: 'SHARE', value: '//files/show' }],
      runtimeRoleArn: ROLES.userRoleArn,
      secureInitializationRoleArn: ROLES.adminRoleArn,
      tags: { show: 'alpha' },
    };
    const created = await client.send(new CreateStudioComponentCommand({ studioId, ...given }));
    const { studioComponentId, createdAt, createdBy, updatedAt, updatedBy, ...first } = created.studioComponent!;
    assert.deepEqual(first, {
      ...given,
      arn: `arn:aws:nimble:us-west-2:000000000000:studio-component/${studioComponentId}`,
      state: 'CREATE_IN_PROGRESS',
      statusCode: 'STUDIO_COMPONENT_CREATE_IN_PROGRESS',
      statusMessage: 'Studio Component creation is in progress',
    });
    assert.ok(createdAt instanceof Date && updatedAt instanceof Date);
    assert.match(createdBy!, /^AIDA/);
    assert.equal(updatedBy, createdBy);
    const where = { studioId, studioComponentId };
    await waitUntilStudioComponentReady(patiently(), where);

    // As the vendor's own CloudFormation handler did, with a configuration that says nothing.
    const changes = { name: 'More files', configuration: {} };
    const updating = await client.send(new UpdateStudioComponentCommand({ ...where, ...changes }));
    assert.equal(updating.studioComponent!.state, 'UPDATE_IN_PROGRESS');
    await waitUntilStudioComponentReady(patiently(), where);
    const { studioComponent } = await client.send(new GetStudioComponentCommand(where));
    assert.equal(studioComponent!.statusCode, 'STUDIO_COMPONENT_UPDATED');
    assert.deepEqual({ ...studioComponent, ...given, name: 'More files' }, studioComponent);

    const idsOf = async (filters: Omit<ListStudioComponentsCommandInput, 'studioId'>) => {
      const list = await client.send(new ListStudioComponentsCommand({ studioId, ...filters }));
      return list.studioComponents!.map((component) => component.studioComponentId);
    };
    assert.deepEqual(await idsOf({ states: ['READY'], types: ['SHARED_FILE_SYSTEM'] }), [studioComponentId]);
    assert.deepEqual(await idsOf({ types: ['CUSTOM'] }), []);

    const deleting = await client.send(new DeleteStudioComponentCommand(where));
    assert.equal(deleting.studioComponent!.state, 'DELETE_IN_PROGRESS');
    await waitUntilStudioComponentDeleted(patiently(), where);
    assert.deepEqual(await idsOf({ states: ['READY'] }), []);
    assert.deepEqual(await idsOf({}), [studioComponentId], 'tombstones are listed');
  });

  it('is told by its waiters that a studio has one Active Directory, and what keeps it from being deleted', async () => {
    const studioId = await newStudio();
    const directory = { type: 'ACTIVE_DIRECTORY', subtype: 'AWS_MANAGED_MICROSOFT_AD' } as const;
    const first = await newComponent(studioId, directory);
    await waitUntilStudioComponentReady(patiently(), { studioId, studioComponentId: first.studioComponentId });
    const second = await newComponent(studioId, directory);
    const failed = { studioId, studioComponentId: second.studioComponentId };
    await assert.rejects(waitUntilStudioComponentReady(patiently(), failed), /ACTIVE_DIRECTORY_ALREADY_EXISTS/);
    await client.send(new DeleteStudioCommand({ studioId }));
    await assert.rejects(
      waitUntilStudioDeleted(patiently(), { studioId }),
      /STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED/,
    );
    for (const { studioComponentId } of [first, second]) {
      await client.send(new DeleteStudioComponentCommand({ studioId, studioComponentId }));
      await waitUntilStudioComponentDeleted(patiently(), { studioId, studioComponentId });
    }
    await client.send(new DeleteStudioCommand({ studioId }));
    await waitUntilStudioDeleted(patiently(), { studioId });
  });

  it('is refused a component that does not fit together, and one file system too many', async () => {
    const studioId = await newStudio();
    const configuration = { computeFarmConfiguration: { endpoint: 'farm' } };
    for (const [input, code] of [
      [{ type: 'LICENSE_SERVICE', configuration }, 'CONFIGURATION_DOES_NOT_FIT_TYPE'],
      [{ type: 'COMPUTE_FARM', subtype: 'AMAZON_FSX_FOR_LUSTRE' }, 'SUBTYPE_DOES_NOT_FIT_TYPE'],
      [{ type: 'COMPUTE_FARM', configuration: { ...configuration, licenseServiceConfiguration: {} } }, 'INVALID_INPUT'],
    ] as const) {
      assert.equal((await refusal(newComponent(studioId, input), ValidationException)).code, code);
    }
    for (let index = 0; index < 10; index += 1) await newComponent(studioId, { type: 'SHARED_FILE_SYSTEM' });
    const full = await refusal(newComponent(studioId, { type: 'SHARED_FILE_SYSTEM' }), ServiceQuotaExceededException);
    assert.equal(full.$metadata.httpStatusCode, 402);
    assert.deepEqual([full.code, full.context?.quota], ['SHARED_FILE_SYSTEMS_PER_STUDIO', '10']);
  });

  it('reads EULAs and accepts them once for a studio', async () => {
    const studioId = await newStudio();
    const [first, second] = (await licences) as [string, string];
    const { eula } = await client.send(new GetEulaCommand({ eulaId: first }));
    assert.equal(eula!.name, 'Licence 0');
    assert.equal(eula!.content, 'https://example.org/licence');
    assert.ok(eula!.createdAt instanceof Date);
    const { eulas } = await client.send(new ListEulasCommand({ eulaIds: [second, first] }));
    assert.deepEqual(
      eulas!.map(({ eulaId }) => eulaId),
      [first, second],
    );

    const accepted = await client.send(new AcceptEulasCommand({ studioId, eulaIds: [first] }));
    const [acceptance] = accepted.eulaAcceptances!;
    assert.equal(acceptance!.accepteeId, studioId);
    assert.equal(acceptance!.eulaId, first);
    assert.match(acceptance!.acceptedBy!, /^AIDA/);
    const again = await client.send(new AcceptEulasCommand({ studioId, eulaIds: [second, first] }));
    assert.deepEqual(again.eulaAcceptances![1], acceptance);
    const listed = await client.send(new ListEulaAcceptancesCommand({ studioId, eulaIds: [first] }));
    assert.deepEqual(listed.eulaAcceptances, [acceptance]);
  });

  it('tags what has an ARN, and takes tags away', async () => {
    const studioId = await newStudio();
    const image = await failedImage(studioId);
    const { studio } = await client.send(new GetStudioCommand({ studioId }));
    const component = await newComponent(studioId);
    const where = { studioId, studioComponentId: component.studioComponentId };
    await waitUntilStudioComponentReady(patiently(), where);
    for (const resourceArn of [studio!.arn!, image.arn!, component.arn!]) {
      const tagsOf = async () => (await client.send(new ListTagsForResourceCommand({ resourceArn }))).tags;
      assert.deepEqual(await tagsOf(), {});
      const tagged = await client.send(
        new TagResourceCommand({ resourceArn, tags: { 'a b': 'c&d', show: 'alpha/β' } }),
      );
      assert.equal(tagged.$metadata.httpStatusCode, 204);
      await client.send(new TagResourceCommand({ resourceArn, tags: { show: 'beta' } }));
      assert.deepEqual(await tagsOf(), { 'a b': 'c&d', show: 'beta' });
      await client.send(new UntagResourceCommand({ resourceArn, tagKeys: ['a b', 'absent'] }));
      assert.deepEqual(await tagsOf(), { show: 'beta' });
    }
    const read = await client.send(
      new GetStreamingImageCommand({ studioId, streamingImageId: image.streamingImageId }),
    );
    assert.deepEqual(read.streamingImage!.tags, { show: 'beta' });
  });

  it('is told by its waiters when a studio or an image fails', async () => {
    const keyArn = 'arn:aws:kms:us-west-2:000000000000:key/00000000-0000-4000-8000-000000000000';
    const { studio } = await client.send(
      new CreateStudioCommand({
        studioName: 'unkeyed',
        displayName: 'Unkeyed',
        studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn },
        ...ROLES,
      }),
    );
    const failed = { studioId: studio!.studioId };
    await assert.rejects(waitUntilStudioReady(patiently(), failed), /ENCRYPTION_KEY_NOT_FOUND/);

    const studioId = await newStudio();
    const { streamingImage } = await client.send(
      new CreateStreamingImageCommand({ studioId, name: 'Nothing', ec2ImageId: ABSENT }),
    );
    const { streamingImageId } = streamingImage!;
    await assert.rejects(
      waitUntilStreamingImageReady(patiently(), { studioId, streamingImageId }),
      /ACCESS_DENIED.*Machine image ami-0123456789abcdef0 does not exist/,
    );
    await client.send(new DeleteStudioCommand({ studioId }));
    await assert.rejects(waitUntilStudioDeleted(patiently(), { studioId }), /STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED/);
    await client.send(new DeleteStreamingImageCommand({ studioId, streamingImageId }));
    await waitUntilStreamingImageDeleted(patiently(), { studioId, streamingImageId });
    await client.send(new DeleteStudioCommand({ studioId }));
    await waitUntilStudioDeleted(patiently(), { studioId });
  });

  it('is told by its waiter when an image cannot be deleted, and deletes it again', async () => {
    const studioId = await newStudio();
    const { streamingImageId } = await failedImage(studioId);
    const keyFile = installation.path('keys/data', `${streamingImageId}.json`);
    mkdirSync(keyFile);
    await client.send(new DeleteStreamingImageCommand({ studioId, streamingImageId }));
    await assert.rejects(
      waitUntilStreamingImageDeleted(patiently(), { studioId, streamingImageId }),
      /DELETE_FAILED.*INTERNAL_ERROR/,
    );
    rmdirSync(keyFile);
    await client.send(new DeleteStreamingImageCommand({ studioId, streamingImageId }));
    await waitUntilStreamingImageDeleted(patiently(), { studioId, streamingImageId });
  });

  it('pages through lists longer than a page, each entry once', async () => {
    const collect = async <P>(pages: AsyncIterable<P>, ids: (page: P) => (string | undefined)[]) => {
      const lengths: number[] = [];
      const all: (string | undefined)[] = [];
      for await (const page of pages) {
        lengths.push(ids(page).length);
        all.push(...ids(page));
      }
      assert.equal(new Set(all).size, all.length, 'each once');
      return { lengths, all };
    };
    const made = await Promise.all(Array.from({ length: 101 }, () => newStudioUnawaited()));
    const byId = await collect(paginateListStudios({ client }, {}), ({ studios: page }) =>
      page!.map((s) => s.studioId),
    );
    assert.equal(byId.lengths[0], 100);
    for (const studioId of made) assert.ok(byId.all.includes(studioId));

    const studioId = made[0]!;
    await waitUntilStudioReady(patiently(), { studioId });
    // Of a machine image that is not there: they fail at once, and are listed like all others.
    const create = new CreateStreamingImageCommand({ studioId, name: 'Nothing', ec2ImageId: ABSENT });
    for (let index = 0; index < QUOTA; index += 1) await client.send(create);
    const full = await refusal(client.send(create), ServiceQuotaExceededException);
    assert.equal(full.$metadata.httpStatusCode, 402);
    assert.equal(full.code, 'STREAMING_IMAGES_PER_STUDIO');
    assert.deepEqual(full.context, { quota: String(QUOTA), resourceId: studioId });
    await imported;
    const images = await collect(paginateListStreamingImages({ client }, { studioId }), ({ streamingImages: page }) =>
      page!.map((image) => image.streamingImageId),
    );
    assert.deepEqual(images.lengths, [100, QUOTA + 1 - 100]);

    for (let index = 0; index < 51; index += 1) await newComponent(studioId);
    const idOf = ({ studioComponentId }: StudioComponent) => studioComponentId;
    for (const [input, pageSize, lengths] of [
      [{}, undefined, [50, 1]],
      [{}, 100, [50, 1]],
      [{}, 20, [20, 20, 11]],
      [{ types: ['CUSTOM'] }, undefined, [50, 1]],
    ] as [Partial<ListStudioComponentsCommandInput>, number | undefined, number[]][]) {
      const pages = paginateListStudioComponents({ client, ...(pageSize && { pageSize }) }, { studioId, ...input });
      const components = await collect(pages, (page) => page.studioComponents!.map(idOf));
      assert.deepEqual(components.lengths, lengths);
    }

    const eulaIds = await licences;
    const eulas = await collect(paginateListEulas({ client }, {}), (page) => page.eulas!.map((eula) => eula.eulaId));
    assert.deepEqual(eulas.all, eulaIds);
    for (const from of [0, 50, 100]) {
      await client.send(new AcceptEulasCommand({ studioId, eulaIds: eulaIds.slice(from, from + 50) }));
    }
    const acceptances = await collect(paginateListEulaAcceptances({ client }, { studioId }), (page) =>
      page.eulaAcceptances!.map(({ eulaId }) => eulaId),
    );
    assert.deepEqual(acceptances.lengths, [100, 1]);
    assert.deepEqual(new Set(acceptances.all), new Set(eulaIds));

    const { nextToken } = await client.send(new ListEulasCommand({}));
    const foreign = await refusal(client.send(new ListStudiosCommand({ nextToken: nextToken! })), ValidationException);
    assert.equal(foreign.code, 'INVALID_NEXT_TOKEN');
  });

  it('throws the classes of the exceptions, with code and context', async () => {
    const studioId = await newStudio();
    const absent = { studioId, streamingImageId: 'AAAAAAAAAAAAAAAAAAAAAA' };
    const missing = await refusal(client.send(new GetStreamingImageCommand(absent)), ResourceNotFoundException);
    assert.equal(missing.$metadata.httpStatusCode, 404);
    assert.equal(missing.code, 'RESOURCE_NOT_FOUND');
    assert.deepEqual(missing.context, { resourceId: absent.streamingImageId });
    assert.match(missing.message, /AAAAAAAAAAAAAAAAAAAAAA/);

    const nowhere = { ...absent, studioId: 'us-west-2:stid-aaaaaaaaaaaaaaaa' };
    const homeless = await refusal(client.send(new GetStreamingImageCommand(nowhere)), ResourceNotFoundException);
    assert.deepEqual(homeless.context, { resourceId: nowhere.studioId });

    const invalid = { studioId, name: 'x'.repeat(65), ec2ImageId: 'disk-1' };
    const refused = await refusal(client.send(new CreateStreamingImageCommand(invalid)), ValidationException);
    assert.equal(refused.$metadata.httpStatusCode, 400);
    assert.match(refused.message, /2 validation errors detected.*'\/name'.*'\/ec2ImageId'|'\/ec2ImageId'.*'\/name'/);

    const { studio } = await client.send(new GetStudioCommand({ studioId }));
    const rival = { studioName: studio!.studioName, displayName: 'Rival', ...ROLES };
    const taken = await refusal(client.send(new CreateStudioCommand(rival)), ConflictException);
    assert.equal(taken.$metadata.httpStatusCode, 409);
    assert.equal(taken.code, 'STUDIO_NAME_TAKEN');

    const { streamingImageId: providedImageId } = await imported;
    const provided = { studioId, streamingImageId: providedImageId };
    for (const command of [
      new UpdateStreamingImageCommand({ ...provided, name: 'Mine' }),
      new DeleteStreamingImageCommand(provided),
    ] as const) {
      const denied = await refusal(client.send(command as UpdateStreamingImageCommand), AccessDeniedException);
      assert.equal(denied.$metadata.httpStatusCode, 403);
      assert.deepEqual(denied.context, { resourceId: providedImageId });
    }
    const { streamingImage } = await client.send(new GetStreamingImageCommand(provided));
    assert.equal(streamingImage!.owner, 'amazon');
    assert.equal(streamingImage!.state, 'READY');
    assert.equal(streamingImage!.statusCode, undefined);

    const profile = readProfile(installation.credentials);
    for (const [wrong, name] of [
      [{ secretAccessKey: 'wrong' }, 'InvalidSignatureException'],
      [{ accessKeyId: 'AKIAAAAAAAAAAAAAAAAA' }, 'UnrecognizedClientException'],
    ] as const) {
      const stranger = connect({ credentials: { ...profile, ...wrong } });
      const error = await refusal(stranger.send(new ListStudiosCommand({})), NimbleServiceException);
      assert.equal(error.name, name);
      assert.equal(error.$metadata.httpStatusCode, 403);
    }
  });

  it('gets through with a clock that is wrong, by the time in the refusal', async () => {
    for (const minutes of [-20, 20]) {
      const { studios: listed } = await connect({ systemClockOffset: minutes * 60_000 }).send(
        new ListStudiosCommand({}),
      );
      assert.ok(listed);
    }
  });

  it('does nothing again for a client token that was used, and refuses other parameters under it', async () => {
    const studioId = await newStudio();
    const clientToken = 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6';
    const { streamingImageId } = await failedImage(studioId, { clientToken });
    const replayed = await newImage(studioId, { ec2ImageId: ABSENT, clientToken });
    assert.equal(replayed.streamingImageId, streamingImageId);
    assert.equal(replayed.state, 'CREATE_FAILED', 'what is answered is the image as it is now');
    const { streamingImages } = await client.send(new ListStreamingImagesCommand({ studioId, owner: studioId }));
    assert.equal(streamingImages!.length, 1);
    const mismatch = await refusal(
      newImage(studioId, { ec2ImageId: ABSENT, clientToken, name: 'Other' }),
      ValidationException,
    );
    assert.equal(mismatch.code, 'CLIENT_TOKEN_REUSED');

    const deletion = { studioId, streamingImageId, clientToken };
    await client.send(new DeleteStreamingImageCommand(deletion));
    await waitUntilStreamingImageDeleted(patiently(), { studioId, streamingImageId });
    const again = await client.send(new DeleteStreamingImageCommand(deletion));
    assert.equal(again.streamingImage!.state, 'DELETED');
    const fresh = client.send(new DeleteStreamingImageCommand({ ...deletion, clientToken: 'another' }));
    await refusal(fresh, ResourceNotFoundException);
  });

  it('loses none of two updates at once, and makes one thing of one token sent many times at once', async () => {
    const studioId = await newStudio();
    const { streamingImageId } = await newImage(studioId);
    await waitUntilStreamingImageReady(patiently(), { studioId, streamingImageId });
    for (let round = 0; round < 20; round += 1) {
      const [name, description] = [`name ${round}`, `description ${round}`];
      await Promise.all([
        client.send(new UpdateStreamingImageCommand({ studioId, streamingImageId, name })),
        client.send(new UpdateStreamingImageCommand({ studioId, streamingImageId, description })),
      ]);
      const { streamingImage } = await client.send(new GetStreamingImageCommand({ studioId, streamingImageId }));
      assert.deepEqual({ ...streamingImage, name, description }, streamingImage);
    }
    const sent = Array.from({ length: 8 }, () => newImage(studioId, { ec2ImageId: ABSENT, clientToken: 'at-once' }));
    const ids = (await Promise.all(sent)).map((image) => image.streamingImageId);
    assert.equal(new Set(ids).size, 1);
  });
});

async function newStudioUnawaited(): Promise<string> {
  studios += 1;
  const input = { studioName: `many${studios}`, displayName: 'One of many', ...ROLES };
  return (await client.send(new CreateStudioCommand(input))).studio!.studioId!;
}
