/**
 * From a disk to a desktop that answers to the keyboard, on the running product with real machines: the disk is imported,
 * the vendor's client makes a session of it, Debian's browser opens the address of its stream and types, and what was
 * typed is read back from the guest. Then what an artist's day does to it: stopped, backed up, started from the backup,
 * and a server and a machine that die.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  CreateLaunchProfileCommand,
  CreateStreamingSessionCommand,
  CreateStudioComponentCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  ListStreamingSessionBackupsCommand,
  type NimbleClient,
  StartStreamingSessionCommand,
  StopStreamingSessionCommand,
  type StreamingSession,
  waitUntilLaunchProfileReady,
  waitUntilStreamingImageReady,
  waitUntilStudioComponentReady,
} from '@aws-sdk/client-nimble';
import type { Page } from 'playwright-core';
import { tinyImage } from '../support/tiny-image.ts';
import { until } from '../support/until.ts';
import { createImage, openStream, readyStudio } from './api.ts';
import { openBrowser, showsPicture } from './browser.ts';
import { sdkClient } from './clients.ts';
import { Installation, type RunningServer } from './installation.ts';

/** A guest boots in ten seconds on a quiet machine without KVM, and takes its time on a busy one. */
const LIMIT_MS = 240_000;
const waiting = (client: NimbleClient) => ({ client, maxWaitTime: 240, minDelay: 1, maxDelay: 1 });
/** The serial line is what `backlot session log` shows. */
const SCRIPT = '#!/bin/sh\necho "greeting: $GREETING" > /dev/ttyS0\n';

const installation = new Installation(
  { after },
  {
    BACKLOT_COMPUTE: 'qemu',
    BACKLOT_INSTANCE_TYPES: 'g4dn.xlarge=1:256',
    BACKLOT_COMPUTE_ACCELERATOR: 'tcg',
    BACKLOT_LEASE_SECONDS: '5',
    BACKLOT_SCREENSHOTS: 'on',
  },
);
let server: RunningServer;
let client: NimbleClient;
let studioId = '';
let launchProfileId = '';

before(async () => {
  server = await installation.start();
  client = sdkClient({ after }, installation, server);
  studioId = await readyStudio(client, 'film');
  const words = ['machine-image', 'import', await tinyImage(), '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const streamingImageId = await createImage(client, studioId, ec2ImageId);
  await waitUntilStreamingImageReady(waiting(client), { studioId, streamingImageId });
  launchProfileId = await makeProfile(streamingImageId);
});

async function makeProfile(streamingImageId: string): Promise<string> {
  const { studioComponent } = await client.send(
    new CreateStudioComponentCommand({
      studioId,
      name: 'greeting',
      type: 'CUSTOM',
      initializationScripts: [
        {
          launchProfileProtocolVersion: '2021-03-31',
          platform: 'LINUX',
          runContext: 'SYSTEM_INITIALIZATION',
          script: SCRIPT,
        },
      ],
      scriptParameters: [{ key: 'GREETING', value: 'hello from the studio' }],
    }),
  );
  const { studioComponentId } = studioComponent!;
  await waitUntilStudioComponentReady(waiting(client), { studioId, studioComponentId });
  const { launchProfile } = await client.send(
    new CreateLaunchProfileCommand({
      studioId,
      name: 'Lighting',
      ec2SubnetIds: ['subnet-0a1b2c3d'],
      launchProfileProtocolVersions: ['2021-03-31'],
      streamConfiguration: {
        clipboardMode: 'DISABLED',
        ec2InstanceTypes: ['g4dn.xlarge'],
        sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 1 },
        sessionPersistenceMode: 'ACTIVATED',
        streamingImageIds: [streamingImageId],
        volumeConfiguration: { size: 100 },
      },
      studioComponentIds: [studioComponentId!],
    }),
  );
  const profile = { studioId, launchProfileId: launchProfile!.launchProfileId };
  await waitUntilLaunchProfileReady(waiting(client), profile);
  return profile.launchProfileId!;
}

async function sessionIn(sessionId: string, state: string): Promise<StreamingSession> {
  return until(
    `session ${sessionId} is ${state}`,
    async () => {
      const { session } = await client.send(new GetStreamingSessionCommand({ studioId, sessionId }));
      const { state: found, statusCode, statusMessage } = session!;
      if (found !== state && found!.endsWith('_FAILED')) {
        const { stdout } = await installation.backlot(['session', 'log', sessionId]);
        assert.fail(`${found} ${statusCode}: ${statusMessage}\n${stdout}\n${server.process.stderr.slice(-4_000)}`);
      }
      return found === state && session;
    },
    LIMIT_MS,
  );
}

async function startSession(): Promise<string> {
  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  await sessionIn(session!.sessionId!, 'READY');
  return session!.sessionId!;
}

/** In a browser of nobody: what it may see, the address alone says. */
async function look(t: TestContext, url: string): Promise<Page> {
  const { page } = await openBrowser(t);
  await page.goto(url);
  await until('the page shows a picture', () => showsPicture(page), LIMIT_MS);
  return page;
}

/** By the key that they stand on. The guest hears of keys, not of characters, and Playwright presses no Shift by itself. */
const SHIFTED: Readonly<Record<string, string>> = { '+': '=', '|': '\\', '>': '.', S: 's' };

/** Types into the guest's terminal, slowly enough for a guest whose processor is imitated. */
async function typeInto(page: Page, line: string): Promise<void> {
  await page.locator('#screen canvas').click();
  for (const character of line) {
    const shifted = SHIFTED[character];
    const key = character === ' ' ? 'Space' : character;
    await page.keyboard.press(shifted === undefined ? key : `Shift+${shifted}`, { delay: 60 });
  }
  await page.keyboard.press('Enter');
}

async function serialLine(sessionId: string, says: RegExp): Promise<void> {
  await until(
    `the guest says ${says}`,
    async () => {
      const { stdout } = await installation.backlot(['session', 'log', sessionId]);
      // Each look is a process, and takes from the guest what it needs to go on.
      if (!says.test(stdout)) await delay(2_000);
      return says.test(stdout);
    },
    LIMIT_MS,
  );
}

describe('a workstation', () => {
  let sessionId = '';

  it('boots from the image, runs the scripts of its profile, and its desktop answers to the keyboard', async (t) => {
    sessionId = await startSession();
    await serialLine(sessionId, /greeting: hello from the studio/);
    const page = await look(t, await openStream(client, { studioId, sessionId }));
    // The words that are read back are made by the guest: an echo of what was typed alone would not have them.
    await typeInto(page, 'expr 20 + 22 | tee /data/answer /dev/ttyS0; sync');
    await serialLine(sessionId, /^42\s*$/m);
  });

  it('is seen by commands beside the server', async () => {
    const [listed] = await installation.json<{ state: string; running: boolean }[]>(['session', 'list']);
    assert.deepEqual([listed!.state, listed!.running], ['READY', true]);
    const picture = join(installation.directory, 'picture.png');
    await installation.json(['session', 'picture', sessionId, '--output', picture]);
    assert.equal(statSync(picture).mode & 0o777, 0o600);
    assert.deepEqual(readFileSync(picture).subarray(1, 4).toString(), 'PNG');
    const again = await installation.backlot(['session', 'picture', sessionId, '--output', picture]);
    assert.match(again.stderr, /is there already/);
    assert.equal((await installation.json<object[]>(['audit', '--operation', 'session picture'])).length, 2);
  });

  it('keeps running when the server dies, and its streams work again', async (t) => {
    await server.kill();
    server = await installation.start({ port: server.port });
    await sessionIn(sessionId, 'READY');
    const page = await look(t, await openStream(client, { studioId, sessionId }));
    await typeInto(page, 'expr 30 + 3 > /dev/ttyS0');
    await serialLine(sessionId, /^33\s*$/m);
  });

  it('is backed up when it stops, and goes on from the backup as it was', async (t) => {
    await client.send(new StopStreamingSessionCommand({ studioId, sessionId, volumeRetentionMode: 'DELETE' }));
    await sessionIn(sessionId, 'STOPPED');
    const { streamingSessionBackups } = await client.send(new ListStreamingSessionBackupsCommand({ studioId }));
    const [backup] = streamingSessionBackups!.filter((one) => one.sessionId === sessionId && one.state === 'READY');
    await client.send(new StartStreamingSessionCommand({ studioId, sessionId, backupId: backup!.backupId! }));
    await sessionIn(sessionId, 'READY');
    const page = await look(t, await openStream(client, { studioId, sessionId }));
    await typeInto(page, 'cat /data/answer > /dev/ttyS0');
    await serialLine(sessionId, /^42\s*$/m);
  });

  it('is seen to have ended when its machine dies, and goes on with what it wrote', async (t) => {
    process.kill(installation.machineOf(sessionId)!, 'SIGKILL');
    const { volumeRetentionMode, statusMessage, stoppedBy } = await sessionIn(sessionId, 'STOPPED');
    assert.deepEqual([volumeRetentionMode, stoppedBy], ['RETAIN', undefined]);
    assert.match(statusMessage!, /ended by itself/);
    await client.send(new StartStreamingSessionCommand({ studioId, sessionId }));
    await sessionIn(sessionId, 'READY');
    const page = await look(t, await openStream(client, { studioId, sessionId }));
    await typeInto(page, 'cat /data/answer > /dev/ttyS0');
    await serialLine(sessionId, /^42\s*$/m);
  });

  it('is gone when its session is deleted', async () => {
    await client.send(new DeleteStreamingSessionCommand({ studioId, sessionId }));
    await sessionIn(sessionId, 'DELETED');
    assert.equal(installation.machineOf(sessionId), undefined);
    assert.deepEqual(readdirSync(installation.path('compute', 'qemu')), []);
  });
});
