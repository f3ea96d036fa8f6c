/**
 * A session on a real virtual machine, by the API and by commands beside the server: it becomes READY, is seen from
 * outside, outlives the server, and when its QEMU is killed its session is stopped with its volume.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  type NimbleClient,
} from '@aws-sdk/client-nimble';
import { processesIn } from '../../src/compute/detached.ts';
import type { QemuWorkstation } from '../../src/compute/qemu.ts';
import { bootSectorDisk } from '../support/boot-sector.ts';
import { until } from '../support/until.ts';
import { createImage, readyLaunchProfile, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { Installation, type Scope } from './installation.ts';

/** A guest without an agent counts when its screen has stood for a minute and a half, however fast the host is. */
const START_MS_MAX = 300_000;
const SETTINGS = {
  BACKLOT_COMPUTE: 'qemu',
  BACKLOT_INSTANCE_TYPES: 'g5.xlarge=1:32',
  BACKLOT_SCREENSHOTS: 'on',
};

interface Listed {
  readonly sessionId: string;
  readonly state: string;
  readonly running: boolean;
}

const recordOf = (installation: Installation, sessionId: string) =>
  JSON.parse(readFileSync(installation.path('compute', 'qemu', `${sessionId}.json`), 'utf8')) as QemuWorkstation;

/** An installation whose machines end with it, whether its server has noted them or not. */
function createInstallation(t: Scope): Installation {
  const installation = new Installation(t, SETTINGS);
  const directory = installation.path('compute', 'qemu');
  // Of the ids that were ever seen here: by now the installation, and its server, may be gone.
  t.after(async () => {
    for (const id of seen) {
      for (const { pid } of processesIn(join(directory, id, 'run'))) process.kill(pid, 'SIGKILL');
    }
  });
  return installation;
}

const seen: string[] = [];

async function makeSession(installation: Installation, client: NimbleClient, studioId: string): Promise<string> {
  const disk = join(installation.directory, 'disk.raw');
  writeFileSync(disk, bootSectorDisk('counting'));
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const imageId = await createImage(client, studioId, ec2ImageId);
  await settledImage(client, studioId, imageId);
  const launchProfileId = await readyLaunchProfile(client, studioId, imageId);
  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  seen.push(session!.sessionId!);
  return session!.sessionId!;
}

it('lives as a session should', async (t) => {
  const installation = createInstallation(t);
  const first = await installation.start();
  const client = sdkClient(t, installation, first);
  const studioId = await readyStudio(client, 'studio');
  const sessionId = await makeSession(installation, client, studioId);
  const get = async () => (await client.send(new GetStreamingSessionCommand({ studioId, sessionId }))).session!;
  const reaches = (state: string, limitMs?: number) =>
    until(`it is ${state}`, async () => (await get()).state === state, limitMs);
  const listed = async () => (await installation.json<Listed[]>(['session', 'list']))[0]!;

  await until('its creation ends', async () => (await get()).state !== 'CREATE_IN_PROGRESS', START_MS_MAX);
  const made = await get();
  assert.equal(made.state, 'READY', String(made.statusMessage));
  assert.deepEqual([(await listed()).state, (await listed()).running], ['READY', true]);
  const log = await installation.backlot(['session', 'log', sessionId]);
  assert.deepEqual([log.code, log.stdout], [0, '1\n'], log.stderr);
  const picture = join(installation.directory, 'picture.png');
  await installation.json(['session', 'picture', sessionId, '--output', picture]);
  assert.equal(statSync(picture).mode & 0o777, 0o600);
  const again = await installation.backlot(['session', 'picture', sessionId, '--output', picture]);
  assert.match(again.stderr, /is there already/);
  assert.equal((await installation.json<object[]>(['audit', '--operation', 'session picture'])).length, 2);

  // A server that is killed leaves the machine as it is, and the next takes it over.
  const { machine } = recordOf(installation, sessionId);
  await first.kill();
  const second = await installation.start({ port: first.port });
  assert.deepEqual([(await listed()).running, recordOf(installation, sessionId).machine], [true, machine]);
  assert.match(second.process.stderr, /"engine":"qemu".*this server has workstations/);

  process.kill(machine!.mark.pid, 'SIGKILL');
  await reaches('STOPPED');
  const stopped = await get();
  assert.deepEqual([stopped.volumeRetentionMode, stopped.stoppedBy], ['RETAIN', undefined]);
  assert.match(stopped.statusMessage!, /ended by itself/);
  assert.ok(recordOf(installation, sessionId).volume);
  assert.equal((await listed()).running, false);
  await client.send(new DeleteStreamingSessionCommand({ studioId, sessionId }));
  await reaches('DELETED');
  assert.deepEqual(readdirSync(installation.path('compute', 'qemu')), []);
});
