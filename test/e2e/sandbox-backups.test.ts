/**
 * What sessions hold, by a server with a real engine: kept by their own backups, by a backup of the whole installation,
 * and where the disk is full. The engine is the one of sandboxes, whose homes lie in directories that can be read here.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  CreateStreamingSessionCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  ListStreamingSessionBackupsCommand,
  type NimbleClient,
  StartStreamingSessionCommand,
  StopStreamingSessionCommand,
  type StreamConfigurationCreate,
  type StreamingSession,
  type StreamingSessionBackup,
} from '@aws-sdk/client-nimble';
import type { SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { firstInside, processesMarked } from '../../src/compute/sandbox-process.ts';
import { sandboxRoot } from '../support/sandbox-root.ts';
import { until } from '../support/until.ts';
import { createImage, readyLaunchProfile, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { MEBIBYTE } from './disks.ts';
import { endSandboxes, Installation, type SpawnOptions } from './installation.ts';
import { startOnSmallDisk } from './small-disk.ts';

const SETTINGS = { BACKLOT_COMPUTE: 'sandbox', BACKLOT_INSTANCE_TYPES: 'g5.xlarge=1:512' };
const BACKED_UP: Partial<StreamConfigurationCreate> = {
  sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 10 },
};
/** On a host that does other things besides. */
const LIMIT_MS = 180_000;

/** For the image, its copy, and both again while it is unpacked. */
const SMALL_DISK_MEBIBYTES = 512;
/** Enough for the database, and less than what the session holds. */
const LEFT_MEBIBYTES = 8;
const HELD_BYTES = 24 * MEBIBYTE;

/** A session, as its owner and as whoever has the server's machine see it. */
class Session {
  readonly id: string;
  readonly #client: NimbleClient;
  readonly #studioId: string;
  /** Of the engine. */
  readonly #directory: string;

  constructor(
    client: NimbleClient,
    directory: string,
    { studioId, id }: { readonly studioId: string; readonly id: string },
  ) {
    this.#client = client;
    this.#directory = directory;
    this.#studioId = studioId;
    this.id = id;
  }

  /** The same one by another server. */
  seenBy(client: NimbleClient, directory: string): Session {
    return new Session(client, directory, { studioId: this.#studioId, id: this.id });
  }

  get #input() {
    return { studioId: this.#studioId, sessionId: this.id };
  }

  async now(): Promise<StreamingSession> {
    return (await this.#client.send(new GetStreamingSessionCommand(this.#input))).session!;
  }

  /** What it is in this state. */
  async reaches(state: string): Promise<StreamingSession> {
    const reached = async () => {
      const session = await this.now();
      return (session.state === state || session.state!.endsWith('_FAILED')) && session;
    };
    const session = await until(`the session is ${state}`, reached, LIMIT_MS);
    assert.equal(session.state, state, `${session.statusCode}: ${session.statusMessage}`);
    return session;
  }

  /** @param backupId of what it goes on with in place of what it holds. */
  async start(backupId?: string, state = 'READY'): Promise<StreamingSession> {
    await this.#client.send(new StartStreamingSessionCommand({ ...this.#input, ...(backupId && { backupId }) }));
    return this.reaches(state);
  }

  async stop(): Promise<StreamingSession> {
    await this.#client.send(new StopStreamingSessionCommand(this.#input));
    return this.reaches('STOPPED');
  }

  async delete(): Promise<void> {
    await this.#client.send(new DeleteStreamingSessionCommand(this.#input));
    await this.reaches('DELETED');
  }

  /** Its backups, the newest first. */
  async backups(): Promise<StreamingSessionBackup[]> {
    const { studioId } = this.#input;
    const { streamingSessionBackups } = await this.#client.send(new ListStreamingSessionBackupsCommand({ studioId }));
    return streamingSessionBackups!.filter(({ sessionId }) => sessionId === this.id);
  }

  get record(): SandboxedWorkstation {
    return JSON.parse(readFileSync(join(this.#directory, `${this.id}.json`), 'utf8'));
  }

  #path(name: string): string {
    return join(this.#directory, 'homes', this.record.home!, name);
  }

  write(name: string, bytes: string | Buffer): void {
    writeFileSync(this.#path(name), bytes);
  }

  read(name: string): string {
    return readFileSync(this.#path(name), 'utf8');
  }

  readBytes(name: string): Buffer {
    return readFileSync(this.#path(name));
  }
}

/** How a session is created: with a studio, an image and a launch profile that backs sessions up. */
async function studioWithSessions(client: NimbleClient, installation: Installation, options?: SpawnOptions) {
  const studioId = await readyStudio(client, 'studio');
  const words = ['machine-image', 'import', sandboxRoot(), '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words, options);
  const imageId = await createImage(client, studioId, ec2ImageId);
  assert.equal((await settledImage(client, studioId, imageId)).state, 'READY');
  const launchProfileId = await readyLaunchProfile(client, studioId, imageId, BACKED_UP);
  return async (directory: string): Promise<Session> => {
    const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
    return new Session(client, directory, { studioId, id: session!.sessionId! });
  };
}

describe('what a session holds', () => {
  it('comes back from its backup, outlives its workstation, and comes along with the installation', async (t) => {
    const installation = new Installation(t, SETTINGS);
    const client = sdkClient(t, installation, await installation.start());
    const create = await studioWithSessions(client, installation);
    const session = await create(installation.path('compute', 'sandbox'));
    await session.reaches('READY');

    session.write('scene', 'as it was');
    await session.stop();
    const [backup, ...others] = await session.backups();
    assert.deepEqual([backup!.state, others], ['READY', []]);

    await session.start();
    assert.equal(session.read('scene'), 'as it was');
    session.write('scene', 'spoiled');
    await session.stop();
    await session.start(backup!.backupId);
    assert.equal(session.read('scene'), 'as it was');

    session.write('scene', 'worked on');
    process.kill(firstInside(session.record.mark)!.pid, 'SIGKILL');
    assert.match((await session.reaches('STOPPED')).statusMessage!, /ended by itself/);
    await session.start();
    assert.equal(session.read('scene'), 'worked on');

    await session.stop();
    await comesAlong(t, installation, session, backup!.backupId!);
  });

  /** Of an installation whose server goes on meanwhile. */
  async function comesAlong(t: TestContext, installation: Installation, session: Session, backupId: string) {
    const copy = join(installation.directory, 'copy');
    await installation.json(['backup', copy]);
    const other = new Installation(t, SETTINGS);
    await other.json(['restore', copy]);
    const otherClient = sdkClient(t, other, await other.start());
    const found = session.seenBy(otherClient, other.path('compute', 'sandbox'));
    assert.equal((await found.now()).state, 'STOPPED');
    await found.start();
    assert.equal(found.read('scene'), 'worked on');
    await found.stop();
    await found.start(backupId);
    assert.equal(found.read('scene'), 'as it was');
    // They are two from here on.
    await found.delete();
    await session.start();
    assert.equal(session.read('scene'), 'worked on');
  }
});

describe('a disk that is full', () => {
  it('costs a session nothing that it holds, and is told of by the API until there is room', async (t) => {
    let directory = '';
    t.after(() => endSandboxes(directory));
    const small = await startOnSmallDisk(t, SMALL_DISK_MEBIBYTES, { ...SETTINGS, BACKLOT_DISK_RESERVE_MB: '1' });
    directory = join(small.place, 'compute/sandbox');
    const client = sdkClient(t, small, small.server);
    const create = await studioWithSessions(client, small.installation, { wrapper: small.inside });
    const readyz = async () => (await fetch(`${small.server.url}/readyz`)).status;

    small.fill(LEFT_MEBIBYTES);
    const refused = await (await create(directory)).reaches('CREATE_FAILED');
    assert.equal(refused.statusCode, 'INSUFFICIENT_CAPACITY');
    assert.match(refused.statusMessage!, /not enough disk space/);
    assert.deepEqual([await readyz(), readdirSync(join(directory, 'homes'))], [200, []]);
    small.makeRoom();

    const session = await create(directory);
    await session.reaches('READY');
    const held = randomBytes(HELD_BYTES);
    session.write('held', held);
    small.fill(LEFT_MEBIBYTES);
    await session.stop();
    const [unmade, ...others] = await session.backups();
    assert.deepEqual([unmade!.state, others], ['CREATE_FAILED', []]);
    assert.match(unmade!.statusMessage!, /not enough disk space/);
    assert.equal(await readyz(), 200);
    await session.start();
    assert.ok(held.equals(session.readBytes('held')));

    small.makeRoom();
    await session.stop();
    const backupId = (await session.backups()).find(({ state }) => state === 'READY')!.backupId!;
    small.fill(LEFT_MEBIBYTES);
    const failed = await session.start(backupId, 'START_FAILED');
    assert.equal(failed.statusCode, 'INSUFFICIENT_CAPACITY', String(failed.statusMessage));
    assert.deepEqual([await readyz(), processesMarked(session.record.mark)], [200, []]);
    assert.equal(readdirSync(join(directory, 'homes')).length, 1, 'what was restored in part is gone');

    small.makeRoom();
    await session.start(backupId);
    assert.ok(held.equals(session.readBytes('held')));
    await session.delete();
    for (const place of ['homes', 'backups', 'run']) assert.deepEqual(readdirSync(join(directory, place)), [], place);
  });
});
