/**
 * A studio moves: saved from one server by the vendor's own command line, brought into another, and found there by the
 * vendor's client as it was, its image READY again once its disk is given, its people knowing their way in. The commands
 * are those of docs/migrate.md, as they stand there and in their order; only what is named after the case is replaced.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  AcceptEulasCommand,
  CreateLaunchProfileCommand,
  CreateStudioComponentCommand,
  GetLaunchProfileCommand,
  GetStudioComponentCommand,
  ListEulaAcceptancesCommand,
  ListLaunchProfileMembersCommand,
  ListStudioComponentsCommand,
  ListStudioMembersCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  type NimbleClient,
  PutLaunchProfileMembersCommand,
  PutStudioMembersCommand,
  TagResourceCommand,
} from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';
import { createImage, getImage, makeStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { holdsSameBytes, makeDisk } from './disks.ts';
import { BACKLOT, Installation, PROJECT, type RunningServer } from './installation.ts';

interface Outcome {
  readonly kind: string;
  readonly id: string;
  readonly result: string;
  readonly note: string;
}

interface Person {
  readonly principalId: string;
  readonly identityStoreId: string;
  readonly userName: string;
}

/** Those of the page. */
const PLACE = { BACKLOT_REGION: 'us-west-2', BACKLOT_ACCOUNT_ID: '123456789012' };
const PAGE = readFileSync(join(PROJECT, 'docs/migrate.md'), 'utf8');

const example = (name: string) => new RegExp(`<!-- example: ${name} -->\n\`\`\`sh\n(.*?)\`\`\``, 's').exec(PAGE)![1]!;

/** All that a client sees of what moves. */
async function seen(client: NimbleClient, studioId: string, launchProfileId: string) {
  const where = { studioId, launchProfileId };
  const { launchProfile } = await client.send(new GetLaunchProfileCommand(where));
  const { studioComponents } = await client.send(new ListStudioComponentsCommand({ studioId }));
  const { eulaAcceptances } = await client.send(new ListEulaAcceptancesCommand({ studioId }));
  const { members: administrators } = await client.send(new ListStudioMembersCommand({ studioId }));
  const { members: artists } = await client.send(new ListLaunchProfileMembersCommand(where));
  return {
    launchProfile: { ...launchProfile, statusMessage: '' },
    studioComponents: studioComponents!.map((one) => ({ ...one, statusMessage: '' })),
    eulaAcceptances,
    administrators,
    artists: artists!.toSorted((one, other) => (one.principalId! < other.principalId! ? -1 : 1)),
  };
}

async function makeComponent(client: NimbleClient, studioId: string): Promise<string> {
  const input = { studioId, name: 'Files', type: 'SHARED_FILE_SYSTEM' } as const;
  const { studioComponentId } = (await client.send(new CreateStudioComponentCommand(input))).studioComponent!;
  await until('the component is READY', async () => {
    const got = await client.send(new GetStudioComponentCommand({ studioId, studioComponentId }));
    return got.studioComponent!.state === 'READY';
  });
  return studioComponentId!;
}

async function makeProfile(client: NimbleClient, studioId: string, imageId: string, componentId: string) {
  const { launchProfile } = await client.send(
    new CreateLaunchProfileCommand({
      studioId,
      name: 'Lighting',
      ec2SubnetIds: [],
      launchProfileProtocolVersions: ['2021-03-31'],
      studioComponentIds: [componentId],
      streamConfiguration: { clipboardMode: 'ENABLED', ec2InstanceTypes: ['g5.xlarge'], streamingImageIds: [imageId] },
      tags: { show: 'alpha' },
    }),
  );
  const { launchProfileId } = launchProfile!;
  await until('the launch profile is READY', async () => {
    const got = await client.send(new GetLaunchProfileCommand({ studioId, launchProfileId }));
    return got.launchProfile!.state === 'READY';
  });
  return launchProfileId!;
}

/** Ann administers the studio and uses the profile, as Ben does. */
async function makeMembers(old: Installation, client: NimbleClient, studioId: string, launchProfileId: string) {
  const make = (name: string) => old.json<Person>(['user', 'create', '--name', name]);
  const [ann, ben] = [await make('ann'), await make('ben')];
  const { identityStoreId, principalId } = ann;
  const administrators = [{ persona: 'ADMINISTRATOR' as const, principalId }];
  await client.send(new PutStudioMembersCommand({ studioId, identityStoreId, members: administrators }));
  const artists = [ann, ben].map((one) => ({ persona: 'USER' as const, principalId: one.principalId }));
  await client.send(
    new PutLaunchProfileMembersCommand({ studioId, launchProfileId, identityStoreId, members: artists }),
  );
  return { ann, ben };
}

/** Runs the page's commands of saving. Of the two only Ann is in the list of the identity store, which is not served here. */
async function save(old: Installation, server: RunningServer, { ann }: { readonly ann: Person }): Promise<void> {
  const users = { Users: [{ UserId: ann.principalId, UserName: 'ann', IdentityStoreId: ann.identityStoreId }] };
  writeFileSync(join(old.directory, 'users.json'), JSON.stringify(users));
  mkdirSync(join(old.directory, 'bin'));
  const aws = `#!/bin/sh
if [ "$1" = identitystore ]; then exec cat ../users.json; fi
exec /usr/bin/aws "$@" --endpoint-url ${server.url}
`;
  writeFileSync(join(old.directory, 'bin', 'aws'), aws, { mode: 0o755 });
  const environment = {
    PATH: `${join(old.directory, 'bin')}:${process.env.PATH}`,
    AWS_SHARED_CREDENTIALS_FILE: old.credentials,
  };
  const { code, stderr } = await old.run(['sh', '-euc', example('save') + example('names')], { environment });
  assert.equal(code, 0, stderr);
}

/** Runs the page's commands of importing; the server's own settings, because studios are shown its address. */
async function bring(next: Installation, server: RunningServer): Promise<{ dry: Outcome[]; applied: Outcome[] }> {
  const [setPlace, ...commands] = example('import').trim().split('\n');
  assert.equal(commands.length, 2);
  const answers: Outcome[][] = [];
  for (const command of commands) {
    const script = `${setPlace}\n${command.replace('npx backlot', BACKLOT)}`;
    const environment = { BACKLOT_PORT: String(server.port) };
    const { code, stdout, stderr } = await next.run(['sh', '-euc', script], { environment });
    assert.equal(code, 0, stdout + stderr);
    answers.push(JSON.parse(stdout) as Outcome[]);
  }
  return { dry: answers[0]!, applied: answers[1]! };
}

async function oldStudio(t: TestContext) {
  const old = new Installation(t, PLACE);
  const server = await old.start();
  const client = sdkClient(t, old, server);
  const studio = await makeStudio(client, 'film', { tags: { show: 'alpha' } });
  const studioId = studio.studioId!;
  const disk = { path: await makeDisk(old.directory, 'disk.raw'), format: 'raw' };
  const importDisk = ['machine-image', 'import', disk.path, '--platform', 'LINUX'];
  const { ec2ImageId } = await old.json<{ ec2ImageId: string }>(importDisk);
  const imageId = await createImage(client, studioId, ec2ImageId, { name: 'Houdini' });
  const image = await settledImage(client, studioId, imageId);
  await client.send(new TagResourceCommand({ resourceArn: image.arn!, tags: { team: 'fx' } }));
  const launchProfileId = await makeProfile(client, studioId, imageId, await makeComponent(client, studioId));
  const people = await makeMembers(old, client, studioId, launchProfileId);
  const makeEula = ['eula', 'create', '--name', 'L', '--url', 'https://example.org'];
  const { eulaId } = await old.json<{ eulaId: string }>(makeEula);
  await client.send(new AcceptEulasCommand({ studioId, eulaIds: [eulaId] }));
  await save(old, server, people);
  return { old, client, studio, studioId, disk, ec2ImageId, imageId, image, launchProfileId, ...people };
}

describe('a studio that moves', () => {
  it('is the same to a client in its new place', async (t) => {
    const was = await oldStudio(t);
    const { studioId, ec2ImageId, imageId, launchProfileId, disk } = was;
    const next = new Installation(t, PLACE);
    const server = await next.start();
    const client = sdkClient(t, next, server);
    cpSync(join(was.old.directory, 'export'), join(next.directory, 'export'), { recursive: true });

    const { dry, applied } = await bring(next, server);
    assert.deepEqual(new Set(dry.map(({ result }) => result)), new Set(['new']));
    assert.deepEqual(applied, dry);
    const { studios } = await client.send(new ListStudiosCommand({}));
    assert.deepEqual(studios, [{ ...was.studio, studioUrl: `${server.url}/film` }]);
    assert.deepEqual(await seen(client, studioId, launchProfileId), await seen(was.client, studioId, launchProfileId));
    const { tags } = await client.send(new ListTagsForResourceCommand({ resourceArn: was.image.arn! }));
    assert.deepEqual(tags, { team: 'fx' });

    const nameless = `imported-${was.ben.principalId}`;
    const people = async () =>
      (await next.json<Person[]>(['user', 'list'])).map(({ userName, principalId }) => [userName, principalId]).sort();
    const ann = ['ann', was.ann.principalId];
    assert.deepEqual(await people(), [ann, [nameless, was.ben.principalId]]);
    await next.json(['user', 'rename', nameless, 'ben']);
    assert.deepEqual(await people(), [ann, ['ben', was.ben.principalId]]);

    const waiting = await getImage(client, studioId, imageId);
    assert.equal(waiting.state, 'CREATE_FAILED');
    assert.ok(waiting.statusMessage!.endsWith(`machine-image import FILE --platform LINUX --as ${ec2ImageId}`));
    const giveDisk = example('disk')
      .replace('npx backlot', BACKLOT)
      .replace('houdini.qcow2', disk.path)
      .replace('ami-0123456789abcdef0', ec2ImageId);
    const given = await next.run(['sh', '-euc', giveDisk]);
    assert.equal(given.code, 0, given.stderr);
    const image = await settledImage(client, studioId, imageId);
    assert.deepEqual({ ...image, tags: {} }, { ...was.image, tags: {} });
    assert.ok(await holdsSameBytes(next, next.dataDir, imageId, disk));

    const again = await next.json<Outcome[]>(['import', 'export', '--apply']);
    assert.deepEqual(new Set(again.map(({ result }) => result)), new Set(['there']));
    const importDisk = ['machine-image', 'import', disk.path, '--platform', 'LINUX', '--as'];
    const taken = await next.backlot([...importDisk, ec2ImageId]);
    assert.deepEqual([taken.code, taken.stderr], [1, `backlot: There is a machine image ${ec2ImageId} already.\n`]);
    const wrong = await next.backlot([...importDisk, 'ami-1']);
    assert.match(wrong.stderr, /--as must be ami- and 8 or 17 hexadecimal digits/);
  });
});
