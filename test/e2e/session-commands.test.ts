/**
 * `backlot session` beside a running server: what it shows of sessions of every studio, who is told of it, and what it
 * refuses.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  CreateStreamingSessionCommand,
  GetStreamingSessionCommand,
  GetStreamingSessionStreamCommand,
  type NimbleClient,
  StopStreamingSessionCommand,
} from '@aws-sdk/client-nimble';
import { plainText } from '../../src/cli/session.ts';
import { until } from '../support/until.ts';
import { createImage, readyLaunchProfile, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { type Finished, Installation, type RunningServer } from './installation.ts';

const installation = new Installation({ after });
let server: RunningServer;
let client: NimbleClient;
let studioId: string;
let imageId: string;
let sessionId: string;
let stoppedId: string;

interface Listed {
  readonly sessionId: string;
  readonly studioId: string;
  readonly ownedBy: string;
  readonly state: string;
  readonly since: string;
  readonly ec2InstanceType: string;
  readonly streamingImageId: string;
  readonly running?: boolean;
}

async function makeProfile(): Promise<string> {
  const disk = await makeDisk(installation.directory, 'disk.raw', { mebibytes: 1, noiseMebibytes: 0 });
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  imageId = await createImage(client, studioId, ec2ImageId);
  await settledImage(client, studioId, imageId);
  return readyLaunchProfile(client, studioId, imageId);
}

async function stateOf(id: string): Promise<string | undefined> {
  return (await client.send(new GetStreamingSessionCommand({ studioId, sessionId: id }))).session!.state;
}

async function makeSession(launchProfileId: string, ownedBy: string): Promise<string> {
  const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId, ownedBy }));
  const id = session!.sessionId!;
  await until('the session is READY', async () => (await stateOf(id)) === 'READY');
  return id;
}

before(async () => {
  server = await installation.start();
  client = sdkClient({ after }, installation, server);
  studioId = await readyStudio(client, 'studio');
  const launchProfileId = await makeProfile();
  sessionId = await makeSession(launchProfileId, 'ann');
  stoppedId = await makeSession(launchProfileId, 'ben');
  await client.send(new StopStreamingSessionCommand({ studioId, sessionId: stoppedId, volumeRetentionMode: 'RETAIN' }));
  await until('one is STOPPED', async () => (await stateOf(stoppedId)) === 'STOPPED');
});

const list = (...words: string[]) => installation.json<Listed[]>(['session', 'list', ...words]);

async function auditOf(operation: string): Promise<readonly { principalId: string; resourceId: string }[]> {
  return installation.json(['audit', '--operation', operation]);
}

function refusal({ code, stdout, stderr }: Finished): string {
  assert.deepEqual([code, stdout], [1, '']);
  assert.match(stderr, /^backlot: [^\n]+\n$/);
  return stderr;
}

describe('session list', () => {
  it('shows whose they are, their states, and whether their workstations run', async () => {
    const found = new Map((await list()).map((session) => [session.sessionId, session]));
    const { since, ...running } = found.get(sessionId)!;
    assert.deepEqual(running, {
      sessionId,
      studioId,
      ownedBy: 'ann',
      state: 'READY',
      ec2InstanceType: 'g5.xlarge',
      streamingImageId: imageId,
      running: true,
    });
    assert.match(since, /^\d{4}-\d\d-\d\dT/);
    const stopped = found.get(stoppedId)!;
    assert.deepEqual([stopped.ownedBy, stopped.state, stopped.running], ['ben', 'STOPPED', false]);
    assert.equal((await list('--studio', studioId)).length, 2);
    assert.deepEqual(await list('--studio', 'other'), []);
  });

  it('is a table on a terminal', async () => {
    const { stdout } = await installation.backlotAtTerminal(['session', 'list']);
    assert.match(stdout, /^sessionId +studioId +ownedBy +state +since +ec2InstanceType +streamingImageId +running/);
  });
});

describe('session console', () => {
  it('makes an address that the API shows too, and the audit says so', async () => {
    const words = ['session', 'console', sessionId, '--endpoint', server.url, '--seconds', '90'];
    const made = await installation.json<{ streamId: string; url: string; expiresAt: string }>(words);
    assert.ok(made.url.startsWith(`${server.url}/streams/${made.streamId}#`));
    const named = { studioId, sessionId, streamId: made.streamId };
    const { stream } = await client.send(new GetStreamingSessionStreamCommand(named));
    assert.deepEqual([stream!.url, stream!.createdBy, stream!.state], [made.url, 'command-line', 'READY']);
    const [line] = await auditOf('session console');
    assert.deepEqual([line!.principalId, line!.resourceId], ['command-line', sessionId]);
  });

  it('refuses what has nothing to be seen, and what makes no sense', async () => {
    const cases: readonly [string[], RegExp][] = [
      [[stoppedId], /is STOPPED, not READY/],
      [['absent'], /There is no session absent/],
      [[sessionId, '--seconds', '59'], /--seconds must be a whole number from 60 to 3600/],
      [[sessionId, '--endpoint', 'ftp://x'], /--endpoint must be/],
    ];
    const before = (await auditOf('session console')).length;
    for (const [words, message] of cases) {
      assert.match(refusal(await installation.backlot(['session', 'console', ...words])), message);
    }
    assert.equal((await auditOf('session console')).length, before);
  });
});

describe('session log and session picture', () => {
  it('say what a simulated workstation has not', async () => {
    assert.match(refusal(await installation.backlot(['session', 'log', sessionId])), /keeps no log/);
    assert.match(refusal(await installation.backlot(['session', 'log', stoppedId])), /does not run on this machine/);
    assert.match(refusal(await installation.backlot(['session', 'log', 'absent'])), /There is no session absent/);
  });

  it('a picture is refused unless the setting is on, and nothing is written or told', async () => {
    const file = join(installation.directory, 'picture.png');
    const take = (environment = {}) =>
      installation.backlot(['session', 'picture', sessionId, '--output', file], { environment });
    assert.match(refusal(await take()), /switched off. To allow them: BACKLOT_SCREENSHOTS=on/);
    assert.match(refusal(await take({ BACKLOT_SCREENSHOTS: 'on' })), /has no way to take a picture/);
    assert.equal(existsSync(file), false);
    assert.deepEqual(await auditOf('session picture'), []);
  });
});

describe('session adopt', () => {
  it('is for several servers', async () => {
    assert.match(refusal(await installation.backlot(['session', 'adopt'])), /one server on this database/);
  });
});

describe('a workstation that ends by itself', () => {
  it('is noticed by the server, and its session is stopped with its volume', async () => {
    const records = installation.path('compute');
    const name = readdirSync(records).find((file) => file.startsWith(sessionId))!;
    const record = JSON.parse(readFileSync(join(records, name), 'utf8'));
    writeFileSync(join(records, name), JSON.stringify({ ...record, power: 'off' }));
    await until('it is noticed', async () => (await stateOf(sessionId)) === 'STOPPED');
    const { session } = await client.send(new GetStreamingSessionCommand({ studioId, sessionId }));
    assert.match(session!.statusMessage!, /ended by itself/);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    assert.match(metrics, /^backlot_workstations_ended_total 1$/m);
    assert.match(metrics, /^backlot_sessions\{state="STOPPED"\} 2$/m);
    assert.match(metrics, /^backlot_sessions\{state="READY"\} 0$/m);
    assert.match(metrics, /^backlot_session_create_seconds_count 2$/m);
  });
});

it('what a guest writes reaches a terminal as text alone', () => {
  const cases: readonly [string, string][] = [
    ['one\r\ntwo\tthree\n', 'one\ntwo\tthree\n'],
    ['\u001b[31mred\u001b[0m\u001b[2J\u001b[1;1H', 'red'],
    ['\u001b]0;title\u0007text\u001b]8;;http://x\u001b\\link', 'textlink'],
    ['a\u0000b\u0008c\u007fd\u009b31me', 'abcd31me'],
    ['\u001bc\u001b(Bplain', 'plain'],
    ['safe\u202etxt.exe\u2066', 'safetxt.exe'],
    ['Größe 日本', 'Größe 日本'],
    ['end\u001b', 'end'],
  ];
  for (const [written, text] of cases) assert.equal(plainText(written), text, JSON.stringify(written));
  const long = plainText(`begin${'x'.repeat(1024 * 1024)}`);
  assert.ok(long.length <= 256 * 1024 && !long.startsWith('begin'));
});
