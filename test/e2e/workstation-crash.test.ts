/**
 * Servers that are killed at every step of creating, stopping, starting and deleting a session, with a real machine behind
 * it. Whatever step it was, the next server comes to the same end: one machine or none, with what was written to its
 * volume, and nothing left behind.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  type NimbleClient,
  StartStreamingSessionCommand,
  StopStreamingSessionCommand,
} from '@aws-sdk/client-nimble';
import { isAlive, processesIn } from '../../src/compute/detached.ts';
import type { QemuWorkstation } from '../../src/compute/qemu.ts';
import { tinyImage } from '../support/tiny-image.ts';
import {
  createImage,
  type NamedSession,
  readyLaunchProfile,
  readyStudio,
  settledImage,
  settledSession,
} from './api.ts';
import { sdkClient } from './clients.ts';
import { Installation, type RunningServer } from './installation.ts';

const LIMIT_MS = 240_000;

const installation = new Installation(
  { after },
  {
    BACKLOT_COMPUTE: 'qemu',
    BACKLOT_COMPUTE_ACCELERATOR: 'tcg',
    BACKLOT_INSTANCE_TYPES: 'g5.xlarge=1:128',
    BACKLOT_LEASE_SECONDS: '1',
  },
);
let server: RunningServer;

const machines = (...names: string[]) => installation.path('compute', 'qemu', ...names);
const processesOf = (id: string) => processesIn(machines(id, 'run')).filter(isAlive);

/** Undefined before there is one, and when it is gone. */
function recordOf(id: string): QemuWorkstation | undefined {
  try {
    return JSON.parse(readFileSync(machines(`${id}.json`), 'utf8')) as QemuWorkstation;
  } catch {
    return undefined;
  }
}

/** Whoever misses a step finds it reached all the same. */
type Steps = Readonly<Record<string, (id: string) => boolean>>;

const isOn = (id: string) => recordOf(id)?.power === 'on';
const isKnown = (id: string) => isOn(id) || (recordOf(id)?.machine ?? null) !== null;

const RUN_STEPS: Steps = {
  'QEMU is there': (id) => isKnown(id) || processesOf(id).length > 0,
  'the machine is written down': isKnown,
  'the machine is usable': isOn,
};
const CREATE_STEPS: Steps = {
  'the record is there': (id) => recordOf(id) !== undefined,
  'the volume is there': (id) => isKnown(id) || existsSync(machines(id, 'volume.qcow2')),
  ...RUN_STEPS,
};
const isOff = (id: string) => recordOf(id)?.power === 'off';
const STOP_STEPS: Steps = {
  'it was answered': () => true,
  'the machine is to stop': (id) => isOff(id) || recordOf(id)?.power === 'stopping',
  'the machine has ended': (id) => isOff(id) || processesOf(id).length === 0,
};
const START_STEPS: Steps = {
  'the record says so': (id) => ['starting', 'on'].includes(recordOf(id)?.power ?? ''),
  ...RUN_STEPS,
};
const isGone = (id: string) => recordOf(id) === undefined;
const DELETE_STEPS: Steps = {
  'it was answered': () => true,
  'the machine has ended': (id) => isGone(id) || processesOf(id).length === 0,
  'the key is gone': (id) => isGone(id) || !existsSync(installation.path('keys', 'data', `${id}.json`)),
  'the files are gone': (id) => isGone(id) || !existsSync(machines(id)),
};

/** Kills the server at each step in turn; the last server is left to finish. */
async function killAtEach(steps: Steps, id: string): Promise<void> {
  for (const [step, isReached] of Object.entries(steps)) {
    const endsAt = performance.now() + LIMIT_MS;
    while (!isReached(id)) {
      if (performance.now() > endsAt) throw new Error(`it never came so far: ${step}`);
      await delay(1);
    }
    await server.kill();
    server = await installation.start({ port: server.port });
    assert.ok(processesOf(id).length <= 1, `two machines, after ${step}`);
  }
}

async function settled(client: NimbleClient, named: NamedSession, state: string): Promise<void> {
  const session = await settledSession(client, named);
  assert.equal(session.state, state, `${session.statusCode}: ${session.statusMessage}`);
}

it('a server that is killed at each step of a session is outlived by it', async () => {
  server = await installation.start();
  const client = sdkClient({ after }, installation, server);
  const studioId = await readyStudio(client, 'film');
  const words = ['machine-image', 'import', await tinyImage(), '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const imageId = await createImage(client, studioId, ec2ImageId);
  await settledImage(client, studioId, imageId);
  const launchProfileId = await readyLaunchProfile(client, studioId, imageId);

  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  const sessionId = session!.sessionId!;
  const named = { studioId, sessionId };
  await killAtEach(CREATE_STEPS, sessionId);
  await settled(client, named, 'READY');
  assert.equal(processesOf(sessionId).length, 1);

  await client.send(new StopStreamingSessionCommand({ ...named, volumeRetentionMode: 'RETAIN' }));
  await killAtEach(STOP_STEPS, sessionId);
  await settled(client, named, 'STOPPED');
  assert.deepEqual([processesOf(sessionId), existsSync(machines(sessionId, 'volume.qcow2'))], [[], true]);

  await client.send(new StartStreamingSessionCommand(named));
  await killAtEach(START_STEPS, sessionId);
  await settled(client, named, 'READY');
  assert.equal(processesOf(sessionId).length, 1);

  await client.send(new DeleteStreamingSessionCommand(named));
  await killAtEach(DELETE_STEPS, sessionId);
  await settled(client, named, 'DELETED');
  assert.deepEqual(readdirSync(machines()), []);
  assert.ok(!readdirSync(join(installation.path('keys', 'data'))).includes(`${sessionId}.json`));
});
