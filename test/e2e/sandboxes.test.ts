/**
 * A session in a sandbox, by the API and by commands beside the server: its image is a tar of a root file system, it
 * becomes READY, outlives the server, is noticed when it ends by itself, and goes on with its home when it is started.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  StartStreamingSessionCommand,
} from '@aws-sdk/client-nimble';
import type { SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { firstInside, processesMarked } from '../../src/compute/sandbox-process.ts';
import { sandboxRoot } from '../support/sandbox-root.ts';
import { until } from '../support/until.ts';
import { createImage, readyLaunchProfile, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { Installation } from './installation.ts';

const SETTINGS = { BACKLOT_COMPUTE: 'sandbox', BACKLOT_INSTANCE_TYPES: 'g5.xlarge=1:512' };
/** On a host that does other things besides. */
const START_MS_MAX = 180_000;

interface Listed {
  readonly sessionId: string;
  readonly state: string;
  readonly running: boolean;
}

it('a session in a sandbox lives as a session should', async (t) => {
  const installation = new Installation(t, SETTINGS);
  const directory = installation.path('compute', 'sandbox');
  const recordOf = (sessionId: string) =>
    JSON.parse(readFileSync(join(directory, `${sessionId}.json`), 'utf8')) as SandboxedWorkstation;
  const first = await installation.start();
  const client = sdkClient(t, installation, first);
  const studioId = await readyStudio(client, 'studio');
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
  const { mark, home } = recordOf(sessionId);
  writeFileSync(join(directory, 'homes', home!, 'note'), 'kept');
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
  assert.equal(readFileSync(join(directory, 'homes', recordOf(sessionId).home!, 'note'), 'utf8'), 'kept');
  await client.send(new DeleteStreamingSessionCommand({ studioId, sessionId }));
  await reaches('DELETED');
  assert.deepEqual(processesMarked(mark), []);
  for (const place of ['homes', 'backups', 'run']) assert.deepEqual(readdirSync(join(directory, place)), [], place);
});
