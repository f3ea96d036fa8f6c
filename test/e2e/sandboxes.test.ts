/**
 * A session in a sandbox, by the API and by commands beside the server: its image is a tar of a root file system, it
 * becomes READY, outlives the server, is noticed when it ends by itself, and goes on with its home when it is started,
 * even when its image has been deleted: key and bytes go when the session does. Without the key of its studio it is not
 * started.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it, type TestContext } from 'node:test';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  StartStreamingSessionCommand,
  StopStreamingSessionCommand,
  waitUntilStreamingImageDeleted,
} from '@aws-sdk/client-nimble';
import type { SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { firstInside, processesMarked } from '../../src/compute/sandbox-process.ts';
import { sandboxRoot } from '../support/sandbox-root.ts';
import { until } from '../support/until.ts';
import { createImage, deleteImage, getImage, makeStudio, readyLaunchProfile, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { Installation } from './installation.ts';

const SETTINGS = { BACKLOT_COMPUTE: 'sandbox', BACKLOT_INSTANCE_TYPES: 'g5.xlarge=1:512' };
/** On a host that does other things besides. */
const START_MS_MAX = 180_000;

/** Key and bytes of a deleted image go within a minute of its last session, on a host that does other things besides. */
const RELEASE_MS_MAX = 180_000;

interface Listed {
  readonly sessionId: string;
  readonly streamingImageId: string;
  readonly state: string;
  readonly running: boolean;
}

/** A server with one READY session, and looks at it. */
async function withSession(t: TestContext) {
  const installation = new Installation(t, SETTINGS);
  const directory = installation.path('compute', 'sandbox');
  const recordOf = (sessionId: string) =>
    JSON.parse(readFileSync(join(directory, `${sessionId}.json`), 'utf8')) as SandboxedWorkstation;
  const first = await installation.start();
  const client = sdkClient(t, installation, first);
  const { keyArn } = await installation.json<{ keyArn: string }>(['key', 'create']);
  const studioEncryptionConfiguration = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } as const;
  const studio = await makeStudio(client, 'studio', { studioEncryptionConfiguration });
  const studioId = studio.studioId!;
  const words = ['machine-image', 'import', sandboxRoot(), '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const imageId = await createImage(client, studioId, ec2ImageId);
  await settledImage(client, studioId, imageId);
  const launchProfileId = await readyLaunchProfile(client, studioId, imageId);
  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  const sessionId = session!.sessionId!;
  const get = async () => (await client.send(new GetStreamingSessionCommand({ studioId, sessionId }))).session!;
  const reaches = (state: string) => until(`it is ${state}`, async () => (await get()).state === state, START_MS_MAX);
  const listed = async () => (await installation.json<Listed[]>(['session', 'list']))[0]!;

  await until('its creation ends', async () => (await get()).state !== 'CREATE_IN_PROGRESS', START_MS_MAX);
  const made = await get();
  assert.equal(made.state, 'READY', String(made.statusMessage));
  const noteOf = () => join(directory, 'homes', recordOf(sessionId).home!, 'note');
  writeFileSync(noteOf(), 'kept');
  const ids = { studioId, keyArn, imageId, launchProfileId, sessionId };
  return { installation, directory, recordOf, first, client, ids, get, reaches, listed, noteOf };
}

it('a session in a sandbox lives as a session should', async (t) => {
  const { installation, directory, recordOf, first, client, ids, get, reaches, listed, noteOf } = await withSession(t);
  const { studioId, keyArn, sessionId } = ids;
  const { mark } = recordOf(sessionId);
  const before = firstInside(mark)!;

  // A server that is killed leaves it as it is, and the next takes it over.
  await first.kill();
  const second = await installation.start({ port: first.port });
  assert.deepEqual([(await listed()).state, (await listed()).running], ['READY', true]);
  assert.deepEqual(firstInside(mark), before);
  assert.match(second.process.stderr, /"engine":"sandbox".*this server has workstations/);

  process.kill(before.pid, 'SIGKILL');
  await reaches('STOPPED');
  assert.match((await get()).statusMessage!, /ended by itself/);
  await client.send(new StartStreamingSessionCommand({ studioId, sessionId }));
  await reaches('READY');
  assert.equal(readFileSync(noteOf(), 'utf8'), 'kept');

  await client.send(new StopStreamingSessionCommand({ studioId, sessionId }));
  await reaches('STOPPED');
  await installation.json(['key', 'delete', '--yes', keyArn]);
  await client.send(new StartStreamingSessionCommand({ studioId, sessionId }));
  await reaches('START_FAILED');
  const { statusCode, statusMessage } = await get();
  assert.equal(statusCode, 'DECRYPT_STREAMING_IMAGE_ERROR');
  assert.ok(statusMessage!.includes(keyArn), statusMessage!);
  await client.send(new DeleteStreamingSessionCommand({ studioId, sessionId }));
  await reaches('DELETED');
  assert.deepEqual(processesMarked(mark), []);
  for (const place of ['homes', 'backups', 'run']) assert.deepEqual(readdirSync(join(directory, place)), [], place);
});

it('a session goes on when its image is deleted, and takes key and bytes with it in the end', async (t) => {
  const { installation, directory, client, ids, reaches, listed, noteOf } = await withSession(t);
  const { studioId, imageId, launchProfileId, sessionId } = ids;
  const image = () => getImage(client, studioId, imageId);
  const isThere = () =>
    [installation.path('images', 'streaming', imageId), installation.path('keys', 'data', `${imageId}.json`)].map(
      (path) => existsSync(path),
    );

  await client.send(new StopStreamingSessionCommand({ studioId, sessionId }));
  await reaches('STOPPED');
  await deleteImage(client, studioId, imageId);
  const named = { studioId, streamingImageId: imageId };
  await waitUntilStreamingImageDeleted({ client, maxWaitTime: 60, minDelay: 1, maxDelay: 1 }, named);
  assert.match((await image()).statusMessage!, /kept until its sessions are deleted \(1 left\)/);
  assert.deepEqual(isThere(), [true, true]);
  assert.equal((await listed()).streamingImageId, imageId);
  await assert.rejects(client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId })), {
    name: 'ResourceNotFoundException',
  });

  // What was unpacked of it goes, as with a restart of the host: only key and bytes bring it back.
  const [boot] = readdirSync(join(directory, 'roots'));
  rmSync(join(directory, 'roots', boot!, imageId), { recursive: true });
  await client.send(new StartStreamingSessionCommand({ studioId, sessionId }));
  await reaches('READY');
  assert.equal(readFileSync(noteOf(), 'utf8'), 'kept');

  await client.send(new DeleteStreamingSessionCommand({ studioId, sessionId }));
  await reaches('DELETED');
  await until('key and bytes are gone', () => !isThere().includes(true), RELEASE_MS_MAX);
  await until('the image says so', async () => (await image()).statusMessage === 'Streaming Image has been deleted');
  assert.equal((await image()).state, 'DELETED');
});
