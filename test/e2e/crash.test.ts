/**
 * Servers that die, by `kill -9` at every step of making and deleting an image and again and again under load, and disks,
 * files and tools that fail them. Whatever happens, what was answered holds, the work ends as if nothing had been, and
 * nothing is left behind. Prints its seed; BACKLOT_SEED repeats the delays of a run.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, rmSync, utimesSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, it, type TestContext } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import {
  ConflictException,
  CreateStudioCommand,
  DeleteStreamingImageCommand,
  ListStreamingImagesCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  type NimbleClient,
  NimbleServiceException,
  paginateListStreamingImages,
  paginateListStudios,
  TagResourceCommand,
  UpdateStreamingImageCommand,
} from '@aws-sdk/client-nimble';
import { toolsHolding } from '../drivers/tools.ts';
import { createRandom } from '../support/random.ts';
import { until } from '../support/until.ts';
import { ABSENT, createImage, deleteImage, getImage, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { holdsSameBytes, MEBIBYTE, makeDisk } from './disks.ts';
import { BACKLOT, Installation, type RunningServer } from './installation.ts';
import { startOnSmallDisk } from './small-disk.ts';

const seed = process.env.BACKLOT_SEED ?? String(Date.now());
const random = createRandom(seed);
/** Work of a server that died is taken up again after this; the shorter, the sooner a test goes on. */
const SETTINGS = { BACKLOT_LEASE_SECONDS: '1', BACKLOT_QUOTA_STREAMING_IMAGES: '100000' };

/** An installation with a studio and a machine image, to be copied: making it again for each test takes seconds. */
const original = new Installation({ after }, SETTINGS);
const disk = { path: '', format: 'raw' };
let studioId = '';
let ec2ImageId = '';

before(async () => {
  disk.path = await makeDisk(original.directory, 'disk.raw', { mebibytes: 48, noiseMebibytes: 32 });
  const server = await original.start();
  studioId = await readyStudio(sdkClient({ after }, original, server), 'film');
  const words = ['machine-image', 'import', disk.path, '--platform', 'LINUX'];
  ({ ec2ImageId } = await original.json<{ ec2ImageId: string }>(words));
  await server.stop();
});

interface Copy {
  readonly installation: Installation;
  server: RunningServer;
  readonly client: NimbleClient;
  /** Kills the server and starts it again at the same address. */
  restart(): Promise<void>;
}

async function startCopy(t: TestContext): Promise<Copy> {
  const installation = new Installation(t, SETTINGS);
  execFileSync('cp', ['-a', original.dataDir, installation.dataDir]);
  const server = await installation.start();
  const client = sdkClient(t, installation, server, { maxAttempts: 1 });
  const copy: Copy = {
    installation,
    server,
    client,
    restart: async () => {
      await copy.server.kill();
      await until('no tool outlives the server', () => toolsHolding(installation.dataDir).length === 0);
      copy.server = await installation.start({ port: server.port });
    },
  };
  return copy;
}

/** What there is of streaming images, staging included, and of data keys. */
function heldIn({ installation }: Pick<Copy, 'installation'>): string[] {
  const places = ['images/staging', 'images/streaming', 'keys/data'];
  return places.flatMap((place) => readdirSync(installation.path(place)).map((name) => `${place}/${name}`));
}

/** As `until`, but with hardly a pause between two looks: some of these steps take a millisecond. */
async function atOnce(what: string, probe: () => boolean): Promise<void> {
  const endsAt = performance.now() + 60_000;
  while (!probe()) {
    if (performance.now() > endsAt) throw new Error(`${what} did not come to hold`);
    await delay(1);
  }
}

type Reached = (installation: Installation, id: string) => boolean;

const stagedOf = (installation: Installation, id: string) =>
  readdirSync(installation.path('images/staging'))
    .filter((name) => name.startsWith(`${id}.`))
    .map((name) => installation.path('images/staging', name));
const keyOf = (installation: Installation, id: string) => installation.path('keys/data', `${id}.json`);
const placeOf = (installation: Installation, id: string) => installation.path('images/streaming', id);

const isMade = (at: Installation, id: string) => existsSync(placeOf(at, id));

/** In their order. Whoever misses a step finds it reached all the same. */
const CREATE_STEPS = {
  'it was answered': () => true,
  'the key is there': (at, id) => existsSync(keyOf(at, id)),
  'the staging directory is there': (at, id) => isMade(at, id) || stagedOf(at, id).length > 0,
  'qemu-img runs': (at, id) => isMade(at, id) || toolsHolding(at.path('images/staging')).length > 0,
  'the copy is written': (at, id) =>
    isMade(at, id) || stagedOf(at, id).some((staged) => existsSync(join(staged, 'manifest.json'))),
  'the copy has its name': isMade,
} as const satisfies Readonly<Record<string, Reached>>;
const DELETE_STEPS = {
  'it was answered': () => true,
  'the key is gone': (at, id) => !existsSync(keyOf(at, id)),
  'the copy has lost its name': (at, id) => !isMade(at, id),
  'the copy is gone': (at, id) => !isMade(at, id) && stagedOf(at, id).length === 0,
} as const satisfies Readonly<Record<string, Reached>>;

/** When the server dies: at a step, or that many milliseconds after it was there again. */
type Death<Steps> = keyof Steps | number;

interface Life {
  readonly creating: readonly Death<typeof CREATE_STEPS>[];
  readonly deleting: readonly Death<typeof DELETE_STEPS>[];
}

/** An image may die five times: at its sixth attempt it would be given up. */
const LIVES: readonly Life[] = [
  {
    creating: ['it was answered', 'the staging directory is there', 'qemu-img runs', 'the copy is written'],
    deleting: ['it was answered', 'the copy has lost its name'],
  },
  { creating: ['the key is there', 'the copy has its name'], deleting: ['the key is gone', 'the copy is gone'] },
  {
    creating: Array.from({ length: 4 }, () => random.below(4_000)),
    deleting: Array.from({ length: 3 }, () => random.below(40)),
  },
];

describe(`an image survives kill -9 (BACKLOT_SEED=${seed})`, { concurrency: true }, () => {
  for (const { creating, deleting } of LIVES) {
    const named = (deaths: readonly (string | number)[]) =>
      deaths.map((death) => (typeof death === 'number' ? `after ${death} ms` : `when ${death}`)).join(', ');
    it(`while it is made: ${named(creating)}; while it is deleted: ${named(deleting)}`, async (t) => {
      const copy = await startCopy(t);
      const { installation, client } = copy;
      const die = async (death: string | number, steps: Readonly<Record<string, Reached>>, id: string) => {
        if (typeof death === 'number') await delay(death);
        else await atOnce(death, () => steps[death]!(installation, id));
        await copy.restart();
      };
      const id = await createImage(client, studioId, ec2ImageId);
      for (const death of creating) await die(death, CREATE_STEPS, id);
      const made = await settledImage(client, studioId, id);
      assert.equal(made.state, 'READY', made.statusMessage ?? '');
      // What a writer that died left of the key stays beside it for a while; deleting the key takes it away.
      const held = heldIn(copy).filter((path) => !path.startsWith(`keys/data/.${id}.json.`));
      assert.deepEqual(held, [`images/streaming/${id}`, `keys/data/${id}.json`]);
      assert.ok(await holdsSameBytes(installation, installation.dataDir, id, disk), 'it holds what the disk holds');

      await deleteImage(client, studioId, id);
      for (const death of deleting) await die(death, DELETE_STEPS, id);
      assert.equal((await settledImage(client, studioId, id)).state, 'DELETED');
      assert.deepEqual(heldIn(copy), []);
      assert.deepEqual(toolsHolding(installation.dataDir), []);
    });
  }
});

describe('an image survives what it is made with', { concurrency: true }, () => {
  it('a tool that is killed is started again', async (t) => {
    const { installation, server, client } = await startCopy(t);
    const id = await createImage(client, studioId, ec2ImageId);
    const [tool] = await until('qemu-img runs', () => {
      const tools = toolsHolding(installation.path('images/staging'));
      return tools.length > 0 && tools;
    });
    process.kill(tool!, 'SIGKILL');
    await until('the failure is in the log', () => /"again":true/.test(server.process.stderr));
    assert.equal((await getImage(client, studioId, id)).state, 'CREATE_IN_PROGRESS');
    assert.equal((await settledImage(client, studioId, id)).state, 'READY');
    assert.deepEqual(heldIn({ installation }), [`images/streaming/${id}`, `keys/data/${id}.json`]);
  });

  it('a machine image that was changed or lost on the disk fails its image, and says what to do', async (t) => {
    const copy = await startCopy(t);
    const machineDisk = copy.installation.path('images/machine', ec2ImageId, 'disk');
    const descriptor = openSync(machineDisk, 'r+');
    writeSync(descriptor, Buffer.from([0]), 0, 1, 10 * MEBIBYTE);
    writeSync(descriptor, Buffer.from([1]), 0, 1, 10 * MEBIBYTE + 1);
    closeSync(descriptor);
    const fail = async () => settledImage(copy.client, studioId, await createImage(copy.client, studioId, ec2ImageId));
    const changed = await fail();
    assert.deepEqual([changed.state, changed.statusCode], ['CREATE_FAILED', 'INTERNAL_ERROR']);
    assert.match(
      changed.statusMessage!,
      /^Machine image ami-\w+ has changed since it was imported\. .*import it again/,
    );
    rmSync(machineDisk);
    const lost = await fail();
    assert.deepEqual([lost.state, lost.statusCode], ['CREATE_FAILED', 'ACCESS_DENIED']);
    assert.match(lost.statusMessage!, /^Machine image ami-\w+ does not exist\./);
    await until('nothing is left', () => heldIn(copy).length === 0);
  });

  it('a disk that is full fails its image and nothing else, and holds the next one when there is room', async (t) => {
    const small = await startOnSmallDisk(t, 72, { ...SETTINGS, BACKLOT_DISK_RESERVE_MB: '8' });
    const { installation, server, inside, place } = small;
    const client = sdkClient(t, small, server, { maxAttempts: 1 });
    const noise = await makeDisk(installation.directory, 'disk.raw', { mebibytes: 24, noiseMebibytes: 22 });
    const imported = await installation.json<{ ec2ImageId: string }>(
      ['machine-image', 'import', noise, '--platform', 'LINUX'],
      { wrapper: inside },
    );
    const studio = await readyStudio(client, 'full');
    const make = async () => settledImage(client, studio, await createImage(client, studio, imported.ec2ImageId));
    const first = await make();
    assert.equal(first.state, 'READY', first.statusMessage ?? '');

    const second = await make();
    assert.deepEqual([second.state, second.statusCode], ['CREATE_FAILED', 'INTERNAL_ERROR']);
    assert.match(second.statusMessage!, /not enough disk space/);
    await until('its staging is gone', () => readdirSync(join(place, 'images/staging')).length === 0);
    await until('its key is gone', () => readdirSync(join(place, 'keys/data')).length === 1);
    const healthy = async (readiness = 200) => {
      assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
      assert.equal((await fetch(`${server.url}/readyz`)).status, readiness);
      return (await client.send(new ListStreamingImagesCommand({ studioId: studio }))).streamingImages!.length;
    };
    assert.equal(await healthy(), 2);

    // Another program takes the rest: what cannot be stored is refused, what is stored is still answered.
    const update = (description: string) =>
      client.send(
        new UpdateStreamingImageCommand({ studioId: studio, streamingImageId: first.streamingImageId, description }),
      );
    small.fill();
    let acknowledged = '';
    await until('a write is refused', async () => {
      const next = `${acknowledged}x`.padStart(200);
      return update(next).then(
        () => {
          acknowledged = next;
        },
        (error: NimbleServiceException) => error.name === 'InternalServerErrorException',
      );
    });
    assert.equal((await getImage(client, studio, first.streamingImageId!)).description ?? '', acknowledged);
    assert.equal(await healthy(503), 2);
    small.makeRoom();
    assert.equal(await healthy(), 2);
    await update('There is room again');
    for (const { streamingImageId } of [first, second]) {
      await deleteImage(client, studio, streamingImageId!);
      assert.equal((await settledImage(client, studio, streamingImageId!)).state, 'DELETED');
    }
    assert.equal((await make()).state, 'READY');
  });
});

describe('a command that is killed', { concurrency: true }, () => {
  /** An hour passes for what is in staging. */
  const age = (installation: Installation) => {
    const staging = installation.path('images/staging');
    const hourAgo = Date.now() / 1000 - 3_600;
    const entries = readdirSync(staging, { recursive: true, encoding: 'utf8' });
    for (const entry of entries) utimesSync(join(staging, entry), hourAgo, hourAgo);
    return entries.length;
  };
  const importing = [BACKLOT, 'machine-image', 'import', '--platform', 'LINUX'];
  type Listed = { ec2ImageId: string; state?: string }[];
  const list = (installation: Installation) => installation.json<Listed>(['machine-image', 'list']);

  it('leaves what it had copied of a machine image, until a server finds it', async (t) => {
    const installation = new Installation(t);
    const large = await makeDisk(installation.directory, 'large.raw', { mebibytes: 256, noiseMebibytes: 2 });
    const command = installation.spawn([...importing, large]);
    await until('the copy begins', () => readdirSync(installation.path('images/staging')).length > 0);
    command.signal('SIGKILL');
    await command.finished;
    assert.ok(age(installation) > 0);
    await installation.start();
    await until('it is swept', () => heldIn({ installation }).length === 0);
    assert.deepEqual(readdirSync(installation.path('images/machine')), []);
    const [left] = await list(installation);
    assert.equal(left!.state, 'IMPORTING');
    await installation.json(['machine-image', 'delete', left!.ec2ImageId]);
    assert.deepEqual(await list(installation), []);
  });

  /** Until the test lets go, nobody else can write to the database. */
  const lockDatabase = (installation: Installation) => {
    const database = new DatabaseSync(installation.path('backlot.db'), { timeout: 10_000 });
    database.exec('BEGIN IMMEDIATE');
    return () => database.close();
  };

  it('leaves a disk that it had just brought in where it can be found and deleted', async (t) => {
    const installation = new Installation(t);
    const large = await makeDisk(installation.directory, 'large.raw', { mebibytes: 512, noiseMebibytes: 2 });
    const command = installation.spawn([...importing, large]);
    await until('the copy begins', () => heldIn({ installation }).length > 0);
    const unlock = lockDatabase(installation);
    await until('the disk is in its place', () => readdirSync(installation.path('images/machine')).length > 0);
    command.signal('SIGKILL');
    await command.finished;
    unlock();
    const [left] = await list(installation);
    assert.equal(left!.state, 'IMPORTING');
    await installation.json(['machine-image', 'delete', left!.ec2ImageId]);
    assert.deepEqual([heldIn({ installation }), await list(installation)], [[], []]);
  });

  it('says so when the database does not take the disk, and leaves it where it can be found', async (t) => {
    const installation = new Installation(t);
    const large = await makeDisk(installation.directory, 'large.raw', { mebibytes: 512, noiseMebibytes: 2 });
    const command = installation.spawn([...importing, large]);
    await until('the copy begins', () => heldIn({ installation }).length > 0);
    const unlock = lockDatabase(installation);
    const { code, stderr } = await command.finished;
    unlock();
    assert.equal(code, 1);
    assert.match(stderr, /^backlot: .* And machine image (ami-[0-9a-f]{17}) is left, .* Delete it later: .* \1$/m);
    const [left] = await list(installation);
    assert.equal(left!.state, 'IMPORTING');
    assert.deepEqual(readdirSync(installation.path('images/machine')), [], 'its bytes are gone already');
    await installation.json(['machine-image', 'delete', left!.ec2ImageId]);
    assert.deepEqual(await list(installation), []);
  });

  it('leaves an image that it was providing to the next server, which finishes it', async (t) => {
    const installation = new Installation(t);
    const command = installation.spawn([...importing, '--provided', disk.path]);
    await until('qemu-img runs', () => toolsHolding(installation.dataDir).length > 0);
    command.signal('SIGKILL');
    await command.finished;
    await until('no tool outlives the command', () => toolsHolding(installation.dataDir).length === 0);
    const client = sdkClient(t, installation, await installation.start());
    const studio = await readyStudio(client, 'served');
    const provided = async () => {
      const { streamingImages } = await client.send(new ListStreamingImagesCommand({ studioId: studio }));
      return streamingImages![0]!;
    };
    await until('it is finished', async () => (await provided()).state === 'READY');
    const { ec2ImageId, owner, statusCode, statusMessage } = await provided();
    assert.deepEqual([owner, statusCode, statusMessage], ['amazon', undefined, undefined]);
    await until('nothing is left beside it', () => readdirSync(installation.path('images/staging')).length === 0);
    assert.equal(readdirSync(installation.path('keys/data')).length, 1);

    await installation.json(['machine-image', 'delete', ec2ImageId!]);
    await until('it is deleted', async () => (await provided()).state === 'DELETED');
    for (const place of ['images/machine', 'images/streaming', 'keys/data']) {
      assert.deepEqual(readdirSync(installation.path(place)), [], place);
    }
  });
});

describe(`a server that is killed again and again under load (BACKLOT_SEED=${seed})`, () => {
  const kills = 6;
  /** Writes that must be acknowledged between two deaths. */
  const writesBetween = 60;

  it('keeps every acknowledged write, and does nothing again for a token that was acknowledged', async (t) => {
    const copy = await startCopy(t);
    const { client } = copy;
    const ready = [await createImage(client, studioId, ec2ImageId), await createImage(client, studioId, ec2ImageId)];
    for (const id of ready) assert.equal((await settledImage(client, studioId, id)).state, 'READY');
    const { arn } = await getImage(client, studioId, ready[0]!);
    let acknowledged = 0;
    let stopped = false;

    /** Sends until it is acknowledged, as a client does that must know. What is refused for good fails the test. */
    const persist = async <T>(send: () => Promise<T>): Promise<T> =>
      until('the request is answered', async () => {
        try {
          const answer = await send();
          acknowledged += 1;
          return { answer };
        } catch (error) {
          const isRefusal = error instanceof NimbleServiceException && error.$metadata.httpStatusCode !== 500;
          if (isRefusal && !(error instanceof ConflictException && error.code === 'CONCURRENT_CHANGES'))
            return { error };
          throw error;
        }
      }).then((outcome) => {
        if ('error' in outcome) throw outcome.error;
        return outcome.answer as T;
      });

    const connect = () => sdkClient(t, copy.installation, copy.server, { maxAttempts: 1 });
    /** The last value of each member that was acknowledged, by image. */
    const values = ready.map(() => ({ name: '', description: '' }));
    const update = async (index: number, member: 'name' | 'description') => {
      const own = connect();
      for (let count = 0; !stopped; count += 1) {
        const value = `${member} ${count}`;
        const input = { studioId, streamingImageId: ready[index]!, [member]: value, clientToken: `${index} ${value}` };
        await persist(() => own.send(new UpdateStreamingImageCommand(input)));
        values[index]![member] = value;
      }
    };
    const tags: Record<string, string> = {};
    const tag = async (key: string) => {
      const own = connect();
      for (let count = 0; !stopped; count += 1) {
        await persist(() => own.send(new TagResourceCommand({ resourceArn: arn!, tags: { [key]: String(count) } })));
        tags[key] = String(count);
      }
    };
    /** Ids by token. */
    const made = new Map<string, string>();
    const deleted = new Set<string>();
    const createAndDelete = async (who: string) => {
      const own = connect();
      for (let count = 0; !stopped; count += 1) {
        const token = `${who} ${count}`;
        const create = { name: token, clientToken: token };
        const id = await persist(() => createImage(own, studioId, ABSENT, create));
        made.set(token, id);
        await until(
          'the image comes to rest',
          async () => (await getImage(own, studioId, id)).state === 'CREATE_FAILED',
        );
        if (count % 2 === 0) continue;
        const place = { studioId, streamingImageId: id, clientToken: `${token} deletion` };
        await persist(() => own.send(new DeleteStreamingImageCommand(place)));
        deleted.add(id);
      }
    };
    const studios = new Map<string, string>();
    const studioInput = (count: number) => ({
      studioName: `load${count}`,
      displayName: 'Load',
      adminRoleArn: 'arn:aws:iam::1:role/a',
      userRoleArn: 'arn:aws:iam::1:role/u',
      clientToken: `studio ${count}`,
    });
    const createStudios = async () => {
      const own = connect();
      for (let count = 0; !stopped; count += 1) {
        const { studio } = await persist(() => own.send(new CreateStudioCommand(studioInput(count))));
        studios.set(`load${count}`, studio!.studioId!);
      }
    };

    const load = Promise.all([
      update(0, 'name'),
      update(0, 'description'),
      update(1, 'name'),
      tag('one'),
      tag('two'),
      createAndDelete('a'),
      createAndDelete('b'),
      createStudios(),
    ]);
    load.catch(() => undefined);
    for (let count = 0; count < kills; count += 1) {
      const enough = acknowledged + writesBetween + random.below(writesBetween);
      await until('enough writes are acknowledged', () => acknowledged >= enough);
      await copy.restart();
    }
    stopped = true;
    await load;

    const images = new Map<string, string[]>();
    for await (const page of paginateListStreamingImages({ client }, { studioId })) {
      for (const { name, streamingImageId } of page.streamingImages!) {
        images.set(name!, [...(images.get(name!) ?? []), streamingImageId!]);
      }
    }
    for (const [token, id] of made) assert.deepEqual(images.get(token), [id], token);
    const found = new Map<string, string>();
    for await (const page of paginateListStudios({ client }, {})) {
      for (const studio of page.studios!) found.set(studio.studioName!, studio.studioId!);
    }
    for (const [name, id] of studios) assert.equal(found.get(name), id, name);
    const listTags = () => client.send(new ListTagsForResourceCommand({ resourceArn: arn! }));
    assert.deepEqual((await listTags()).tags, tags);
    const asAcknowledged = async () => {
      const [both, name] = await Promise.all(ready.map((id) => getImage(client, studioId, id)));
      assert.deepEqual([both!.name, both!.description], [values[0]!.name, values[0]!.description]);
      assert.equal(name!.name, values[1]!.name);
    };
    await asAcknowledged();
    for (const id of deleted) assert.equal((await settledImage(client, studioId, id)).state, 'DELETED');

    // The first and the last of each: made long before a death, and just before one.
    for (const [token, id] of [[...made].at(0)!, [...made].at(-1)!]) {
      assert.equal(await createImage(client, studioId, ABSENT, { name: token, clientToken: token }), id);
      const mismatch = createImage(client, studioId, ABSENT, { name: 'other', clientToken: token });
      await assert.rejects(mismatch, { name: 'ValidationException' });
    }
    for (const count of [0, studios.size - 1]) {
      const { studio } = await client.send(new CreateStudioCommand(studioInput(count)));
      assert.equal(studio!.studioId, studios.get(`load${count}`));
    }
    const replay = { studioId, streamingImageId: ready[0]!, name: 'name 0', clientToken: '0 name 0' };
    await client.send(new UpdateStreamingImageCommand(replay));
    await asAcknowledged();
    const { studios: page } = await client.send(new ListStudiosCommand({}));
    assert.ok(page!.length > 1);
    await until('nothing is left of what was deleted or failed', () => heldIn(copy).length === 2 * ready.length);
    t.diagnostic(`${acknowledged} writes acknowledged, ${kills} deaths`);
  });
});
