/**
 * Debian's AWS CLI against the real server: the line that the server prints, `wait`, pages, and how
 * refusals read. Nothing is set up for it but the credentials file of the first start.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { DeleteStudioCommand, GetStudioCommand, type NimbleClient } from '@aws-sdk/client-nimble';
import { ABSENT, createImage, readyStudio, settledImage, settledStudio } from './api.ts';
import { awsCli, readProfile, sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation, type RunningServer } from './installation.ts';

const QUOTA = 3;
/** Exit codes of the AWS CLI, version 2. */
const USAGE = 252;
const REFUSED = 254;
const FAILED = 255;

const ROLES = [
  '--admin-role-arn',
  'arn:aws:iam::000000000000:role/a',
  '--user-role-arn',
  'arn:aws:iam::000000000000:role/u',
];

const installation = new Installation({ after }, { BACKLOT_QUOTA_STREAMING_IMAGES: String(QUOTA) });
let server: RunningServer;
let client: NimbleClient;
let imported: Promise<{ ec2ImageId: string; streamingImageId: string }>;

before(async () => {
  server = await installation.start();
  client = sdkClient({ after }, installation, server);
  const disk = await makeDisk(installation.directory, 'disk.raw');
  imported = installation.json(['machine-image', 'import', disk, '--platform', 'LINUX', '--provided']);
  imported.catch(() => undefined);
});

/** What `aws nimble` prints, which is JSON, when it must succeed. */
async function answer<T = Record<string, never>>(...words: string[]): Promise<T> {
  const { code, stdout, stderr } = await awsCli(installation, server, words);
  assert.equal(code, 0, `${words.join(' ')}: ${stderr}`);
  return (stdout === '' ? undefined : JSON.parse(stdout)) as T;
}

/** What `aws nimble` says when it must fail. */
async function failure(exitCode: number, ...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await awsCli(installation, server, words);
  assert.equal(code, exitCode, `${words.join(' ')}: ${stdout}${stderr}`);
  return stderr;
}

const createImageWords = (studioId: string, ec2ImageId: string, ...more: string[]) => [
  'create-streaming-image',
  '--studio-id',
  studioId,
  '--name',
  'Houdini 20',
  '--ec2-image-id',
  ec2ImageId,
  ...more,
];

interface Image {
  readonly streamingImageId: string;
  readonly arn: string;
  readonly name: string;
  readonly state: string;
  readonly tags: Record<string, string>;
}

interface ComponentAnswer {
  readonly studioComponent: { readonly studioComponentId: string; readonly configuration: unknown };
}

interface ProfileAnswer {
  readonly launchProfile: { readonly launchProfileId: string; readonly name: string };
}

interface ImageAnswer {
  readonly streamingImage: Image;
}

describe("Debian's AWS CLI", { concurrency: true }, () => {
  it('needs nothing but the line that the server prints', async () => {
    const line = /^ {2}(AWS_SHARED_CREDENTIALS_FILE=.*)$/m.exec(server.process.stdout)![1]!;
    const environment = { PATH: '/usr/bin:/bin' };
    const { code, stdout, stderr } = await installation.run(['sh', '-c', line], { environment });
    assert.equal(stderr, '');
    assert.equal(code, 0);
    assert.ok(Array.isArray(JSON.parse(stdout).studios));
  });

  it('creates, reads, updates and deletes a studio', async () => {
    const words = ['--studio-name', 'film', '--display-name', 'The film', ...ROLES];
    const { studio } = await answer<{ studio: { studioId: string } }>('create-studio', ...words);
    const place = ['--studio-id', studio.studioId];
    await settledStudio(client, studio.studioId);
    const read = await answer<{ studio: Record<string, unknown> }>('get-studio', ...place);
    assert.equal(read.studio.displayName, 'The film');
    assert.match(String(read.studio.createdAt), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$/);
    await answer('update-studio', ...place, '--display-name', 'Films');
    assert.equal((await settledStudio(client, studio.studioId)).displayName, 'Films');
    await answer('delete-studio', ...place);
    assert.equal(await answer('wait', 'studio-deleted', ...place), undefined);
  });

  it('creates, reads, updates and deletes a streaming image', async () => {
    const studioId = await readyStudio(client, 'animation');
    const { ec2ImageId, streamingImageId: providedImageId } = await imported;
    const token = ['--client-token', 'once'];
    const { streamingImage } = await answer<ImageAnswer>(...createImageWords(studioId, ec2ImageId, ...token));
    const place = ['--studio-id', studioId, '--streaming-image-id', streamingImage.streamingImageId];
    assert.equal((await settledImage(client, studioId, streamingImage.streamingImageId)).state, 'READY');

    const [replay, updated, listed] = await Promise.all([
      answer<ImageAnswer>(...createImageWords(studioId, ec2ImageId, ...token)),
      answer<ImageAnswer>('update-streaming-image', ...place, '--description', 'Für die Show'),
      answer<{ streamingImages: Image[] }>('list-streaming-images', '--studio-id', studioId),
    ]);
    assert.equal(replay.streamingImage.streamingImageId, streamingImage.streamingImageId);
    assert.deepEqual(
      listed.streamingImages.map((image) => image.streamingImageId),
      [providedImageId, streamingImage.streamingImageId],
    );
    assert.deepEqual(await answer('get-streaming-image', ...place), updated);

    const deleting = await answer<ImageAnswer>('delete-streaming-image', ...place);
    assert.equal(deleting.streamingImage.state, 'DELETE_IN_PROGRESS');
    assert.equal(await answer('wait', 'streaming-image-deleted', ...place), undefined);
  });

  it('creates, reads, updates and deletes a studio component', async () => {
    const studioId = await readyStudio(client, 'connected');
    const configuration = 'sharedFileSystemConfiguration={endpoint=files.example.org,linuxMountPoint=/mnt/show}';
    const words = ['--name', 'Files', '--type', 'SHARED_FILE_SYSTEM', '--configuration', configuration];
    const parameters = ['--script-parameters', 'key=SHOW,value=alpha', '--tags', 'show=alpha'];
    const studio = ['--studio-id', studioId];
    const created = await answer<ComponentAnswer>('create-studio-component', ...studio, ...words, ...parameters);
    const place = [...studio, '--studio-component-id', created.studioComponent.studioComponentId];
    await answer('wait', 'studio-component-ready', ...place);
    await answer('update-studio-component', ...place, '--description', 'Für die Show');
    await answer('wait', 'studio-component-ready', ...place);
    const read = await answer<ComponentAnswer>('get-studio-component', ...place);
    assert.deepEqual(read.studioComponent.configuration, {
      sharedFileSystemConfiguration: { endpoint: 'files.example.org', linuxMountPoint: '/mnt/show' },
    });
    const filters = ['--states', 'READY', 'DELETED', '--types', 'SHARED_FILE_SYSTEM', '--page-size', '1'];
    const listed = await answer<{ studioComponents: unknown[] }>('list-studio-components', ...studio, ...filters);
    assert.deepEqual(listed.studioComponents, [read.studioComponent]);
    await answer('delete-studio-component', ...place);
    await answer('wait', 'studio-component-deleted', ...place);
  });

  it('creates, reads, updates and deletes a launch profile and its members', async () => {
    const studioId = await readyStudio(client, 'lighting');
    const { streamingImageId } = await imported;
    const inStudio = ['--studio-id', studioId];
    const { studioComponent } = await answer<ComponentAnswer>(
      'create-studio-component',
      ...inStudio,
      '--name',
      'Scripts',
      '--type',
      'CUSTOM',
    );
    const { studioComponentId } = studioComponent;
    await answer('wait', 'studio-component-ready', ...inStudio, '--studio-component-id', studioComponentId);
    const version = ['--launch-profile-protocol-versions', '2021-03-31'];
    const { launchProfile } = await answer<ProfileAnswer>(
      'create-launch-profile',
      ...inStudio,
      ...version,
      '--name',
      'Lighting',
      '--ec2-subnet-ids',
      'subnet-0a1b2c3d',
      '--studio-component-ids',
      studioComponentId,
      '--stream-configuration',
      `clipboardMode=ENABLED,ec2InstanceTypes=g5.xlarge,streamingImageIds=${streamingImageId}`,
    );
    const place = [...inStudio, '--launch-profile-id', launchProfile.launchProfileId];
    await answer('wait', 'launch-profile-ready', ...place);
    await answer('update-launch-profile', ...place, '--name', 'Comp');
    await answer('wait', 'launch-profile-ready', ...place);

    const { principalId, identityStoreId } = await installation.json<{ principalId: string; identityStoreId: string }>([
      'user',
      'create',
      '--name',
      'ann',
    ]);
    const member = ['--principal-id', principalId];
    const put = (persona: string) => [
      '--identity-store-id',
      identityStoreId,
      '--members',
      `principalId=${principalId},persona=${persona}`,
    ];
    await Promise.all([
      answer('put-launch-profile-members', ...place, ...put('USER')),
      answer('put-studio-members', ...inStudio, ...put('ADMINISTRATOR')),
    ]);
    const shown = { identityStoreId, persona: 'USER', principalId };
    const asked = [...version, '--launch-purpose', 'WORKSTATION', '--platform', 'LINUX'];
    const [read, details, initialization, listed, ofOne] = await Promise.all([
      answer<ProfileAnswer>('get-launch-profile', ...place),
      answer<ProfileAnswer>('get-launch-profile-details', ...place),
      answer<{ launchProfileInitialization: { name: string } }>(
        'get-launch-profile-initialization',
        ...place,
        ...asked,
      ),
      answer<{ launchProfiles: unknown[] }>('list-launch-profiles', ...inStudio, '--principal-id', principalId),
      answer('get-launch-profile-member', ...place, ...member),
    ]);
    assert.equal(read.launchProfile.name, 'Comp');
    assert.deepEqual([details.launchProfile, listed.launchProfiles], [read.launchProfile, [read.launchProfile]]);
    assert.equal(initialization.launchProfileInitialization.name, 'Comp');
    assert.deepEqual(ofOne, { member: shown });
    const [updated, ofProfile, administrator, ofStudio] = await Promise.all([
      answer('update-launch-profile-member', ...place, ...member, '--persona', 'USER'),
      answer('list-launch-profile-members', ...place),
      answer('get-studio-member', ...inStudio, ...member),
      answer('list-studio-members', ...inStudio),
    ]);
    const asAdministrator = { ...shown, persona: 'ADMINISTRATOR' };
    assert.deepEqual([updated, ofProfile], [{ member: shown }, { members: [shown] }]);
    assert.deepEqual([administrator, ofStudio], [{ member: asAdministrator }, { members: [asAdministrator] }]);
    await Promise.all([
      answer('delete-launch-profile-member', ...place, ...member),
      answer('delete-studio-member', ...inStudio, ...member),
    ]);
    assert.match(await failure(REFUSED, 'get-studio-member', ...inStudio, ...member), /\(ResourceNotFoundException\)/);
    await answer('delete-launch-profile', ...place);
    await answer('wait', 'launch-profile-deleted', ...place);
  });

  it('reads and accepts EULAs', async () => {
    const eula = await installation.json<{ eulaId: string }>([
      'eula',
      'create',
      '--name',
      'Licence',
      '--url',
      'https://example.org/licence',
    ]);
    const studioId = await readyStudio(client, 'games');
    const ids = ['--eula-ids', eula.eulaId];
    const [read, listed, accepted] = await Promise.all([
      answer<{ eula: unknown }>('get-eula', '--eula-id', eula.eulaId),
      answer<{ eulas: unknown[] }>('list-eulas', ...ids),
      answer('accept-eulas', '--studio-id', studioId, ...ids),
    ]);
    assert.deepEqual(listed.eulas, [read.eula]);
    assert.deepEqual(await answer('list-eula-acceptances', '--studio-id', studioId, ...ids), accepted);
  });

  it('tags a resource by its ARN', async () => {
    const { studio } = await client.send(new GetStudioCommand({ studioId: await readyStudio(client, 'tagged') }));
    const resource = ['--resource-arn', studio!.arn!];
    assert.equal(await answer('tag-resource', ...resource, '--tags', 'show=alpha,where=c/d'), undefined);
    await answer('untag-resource', ...resource, '--tag-keys', 'show', 'absent');
    assert.deepEqual(await answer('list-tags-for-resource', ...resource), { tags: { where: 'c/d' } });
  });

  it('prints a list longer than a page whole, or in the pieces that are asked for', async () => {
    await Promise.all(Array.from({ length: 101 }, (_, index) => readyStudio(client, `many${index}`)));
    const pieces = ['list-studios', '--query', '[studios[].studioId, NextToken]', '--max-items', '3'];
    const [whole, [first, token]] = await Promise.all([
      answer<number>('list-studios', '--query', "length(studios[?starts_with(studioName, 'many')])"),
      answer<[string[], string]>(...pieces),
    ]);
    assert.equal(whole, 101);
    const [second] = await answer<[string[]]>(...pieces, '--starting-token', token);
    assert.equal(new Set([...first, ...second]).size, 6);
  });

  it('exits with 254 and names the exception when it is refused', async () => {
    const studioId = await readyStudio(client, 'strict');
    const { streamingImageId: providedImageId } = await imported;
    for (let index = 0; index < QUOTA; index += 1) await createImage(client, studioId, ABSENT);
    const absent = ['--studio-id', studioId, '--streaming-image-id', 'absent'];
    const provided = ['--studio-id', studioId, '--streaming-image-id', providedImageId];
    const cases: readonly (readonly [words: readonly string[], says: RegExp])[] = [
      [
        ['get-streaming-image', ...absent],
        /\(ResourceNotFoundException\) when calling the GetStreamingImage operation: Streaming image absent was not found/,
      ],
      [
        createImageWords(studioId, 'disk-1'),
        /\(ValidationException\) .* operation: 1 validation error detected.*\/ec2ImageId/,
      ],
      [createImageWords(studioId, ABSENT), /\(ServiceQuotaExceededException\) .* 3 streaming images/],
      [['delete-streaming-image', ...provided], /\(AccessDeniedException\)/],
    ];
    await Promise.all(cases.map(async ([words, says]) => assert.match(await failure(REFUSED, ...words), says)));
  });

  it('exits with 254 when its signature is wrong, and with 252 when its words are', async () => {
    const { accessKeyId, region } = readProfile(installation.credentials);
    const wrong = { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: 'wrong', AWS_REGION: region };
    const forged = await installation.run(['/usr/bin/aws', 'nimble', 'list-studios', '--endpoint-url', server.url], {
      environment: wrong,
    });
    assert.equal(forged.code, REFUSED);
    assert.match(forged.stderr, /\(InvalidSignatureException\) when calling the ListStudios operation/);
    assert.match(await failure(USAGE, 'get-studio'), /--studio-id/);
  });

  it('exits with 255 when what it waits for has failed', async () => {
    const studioId = await readyStudio(client, 'failing');
    const image = ['--studio-id', studioId, '--streaming-image-id', await createImage(client, studioId, ABSENT)];
    const ready = await failure(FAILED, 'wait', 'streaming-image-ready', ...image);
    assert.match(ready, /StreamingImageReady failed.*CREATE_FAILED/);
    await client.send(new DeleteStudioCommand({ studioId }));
    const deleted = await failure(FAILED, 'wait', 'studio-deleted', '--studio-id', studioId);
    assert.match(deleted, /StudioDeleted failed.*DELETE_FAILED/);
  });
});
