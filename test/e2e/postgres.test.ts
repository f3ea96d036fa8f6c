/**
 * Two servers on one PostgreSQL database, each with a data directory of its own in which keys and images are those that
 * they share, as docs/deploy.md says: what is done through one is there through the other, either may die, and both
 * outlive the database being away.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, it, type TestContext } from 'node:test';
import {
  DeleteStreamingImageCommand,
  GetStudioCommand,
  InternalServerErrorException,
  ListStreamingImagesCommand,
  ListStudiosCommand,
  NimbleClient,
  ServiceQuotaExceededException,
  UpdateStreamingImageCommand,
} from '@aws-sdk/client-nimble';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { openPostgres } from '../../src/store/postgres.ts';
import { startCluster } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { ABSENT, createImage, getImage, readyStudio, settledImage } from './api.ts';
import { type Profile, sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation, PROJECT, type RunningServer } from './installation.ts';

const cluster = await startCluster({ after });
/** The cluster asks for none; what matters is where it turns up. */
const PASSWORD = 'S3CRETpassword';

interface Pair {
  readonly installations: readonly [Installation, Installation];
  readonly servers: [RunningServer, RunningServer];
  readonly clients: readonly [NimbleClient, NimbleClient];
}

/** Two data directories that share keys and images, on a new database. */
async function twoInstallations(t: TestContext): Promise<readonly [Installation, Installation]> {
  const url = `${await cluster.createDatabase()}&password=${PASSWORD}`;
  const shared = temporaryDirectory(t);
  const one = () => {
    const installation = new Installation(t, { BACKLOT_DATABASE_URL: url, BACKLOT_LEASE_SECONDS: '1' });
    mkdirSync(installation.dataDir, { mode: 0o700 });
    for (const name of ['keys', 'images']) {
      mkdirSync(join(shared, name), { recursive: true, mode: 0o700 });
      symlinkSync(join(shared, name), installation.path(name));
    }
    return installation;
  };
  return [one(), one()];
}

async function startPair(t: TestContext): Promise<Pair> {
  const installations = await twoInstallations(t);
  // At once: one of them makes the database and the first access key.
  const servers = await Promise.all([installations[0].start(), installations[1].start()]);
  const withKey = installations.filter(({ credentials }) => existsSync(credentials));
  assert.equal(withKey.length, 1, 'the first access key is in one of the data directories');
  const clientOf = (server: RunningServer) => sdkClient(t, withKey[0]!, server, { maxAttempts: 1 });
  return { installations, servers, clients: [clientOf(servers[0]), clientOf(servers[1])] };
}

describe('two servers on one database', { concurrency: true }, () => {
  it('show each other what is done through either, and share the work', async (t) => {
    const { installations, servers, clients } = await startPair(t);
    const [one, other] = clients;
    const disk = await makeDisk(installations[0].directory, 'disk.raw');
    const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
    const { ec2ImageId } = await installations[0].json<{ ec2ImageId: string }>(words);

    const studioId = await readyStudio(one, 'film');
    assert.equal((await other.send(new GetStudioCommand({ studioId }))).studio!.studioName, 'film');
    const made = await createImage(other, studioId, ec2ImageId);
    assert.equal((await settledImage(one, studioId, made)).state, 'READY');
    for (const installation of installations)
      assert.ok(readdirSync(installation.path('images/streaming', made)).length);

    await one.send(new UpdateStreamingImageCommand({ studioId, streamingImageId: made, name: 'New' }));
    assert.equal((await getImage(other, studioId, made)).name, 'New');
    const listed = async (client: NimbleClient) =>
      (await client.send(new ListStreamingImagesCommand({ studioId }))).streamingImages!.map(({ name }) => name);
    assert.deepEqual(await listed(other), ['New']);

    // A token that one has seen is known to the other.
    const call = { name: 'Once', clientToken: 'token' };
    const ids = [await createImage(one, studioId, ABSENT, call), await createImage(other, studioId, ABSENT, call)];
    assert.equal(ids[0], ids[1]);

    // What one begins is ended by the other, when the first dies.
    const left = await createImage(other, studioId, ec2ImageId);
    await servers[1].kill();
    assert.equal((await settledImage(one, studioId, left)).state, 'READY');
    await one.send(new DeleteStreamingImageCommand({ studioId, streamingImageId: left }));
    await until('the image is deleted', async () => (await getImage(one, studioId, left)).state === 'DELETED');
    assert.ok(!existsSync(installations[1].path('images/streaming', left)));
  });

  it('keep to one quota between them', async (t) => {
    const { clients } = await startPair(t);
    const studioId = await readyStudio(clients[0], 'film');
    const runs = Array.from({ length: 30 }, (_, index) => createImage(clients[index % 2]!, studioId, ABSENT));
    const outcomes = await Promise.allSettled(runs);
    const refusals = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    for (const reason of refusals) assert.ok(reason instanceof ServiceQuotaExceededException, String(reason));
    assert.equal(refusals.length, 20);
  });

  it('tell each other of work: one that never looks by itself does what another process wrote', async (t) => {
    const url = await cluster.createDatabase();
    const installation = new Installation(t, { BACKLOT_DATABASE_URL: url, BACKLOT_PORT: '0' });
    const server = installation.spawn([process.execPath, join(PROJECT, 'test/support/patient-server.ts')]);
    await until('it listens', () => server.stdout.startsWith('http'));
    const store = await openPostgres({ url, now: Date.now, connectionsMax: 1 });
    t.after(() => store.close());
    // More than the times that it looks because it has just started.
    for (let turn = 0; turn < 10; turn += 1) {
      const now = Date.now();
      const tombstone = { kind: KIND.studioComponent, id: `gone-${turn}`, state: 'DELETED', doc: '{}' };
      await store.write([{ op: 'insert', row: { ...newRow({ ...tombstone, createdAt: now }), dueAt: now } }]);
      await until('the other removes it', async () => !(await store.get(tombstone.kind, tombstone.id)));
    }
    server.signal('SIGTERM');
    assert.equal((await server.finished).code, 0);
  });

  it('refuse an access key as soon as it is deleted, although each has opened it before', async (t) => {
    const { installations, servers } = await startPair(t);
    const { accessKeyId, secretAccessKey } = await installations[0].json<Profile>(['access-key', 'create']);
    const clients = servers.map((server) => {
      const credentials = { accessKeyId, secretAccessKey };
      const client = new NimbleClient({ endpoint: server.url, region: 'us-west-2', credentials, maxAttempts: 1 });
      t.after(() => client.destroy());
      return client;
    });
    for (const client of [...clients, ...clients]) await client.send(new ListStudiosCommand({}));
    await installations[1].json(['access-key', 'delete', accessKeyId]);
    for (const client of clients) {
      await assert.rejects(client.send(new ListStudiosCommand({})), { name: 'UnrecognizedClientException' });
    }
  });

  it('refuse another that has keys of its own', async (t) => {
    const url = await cluster.createDatabase();
    const environment = { BACKLOT_DATABASE_URL: url };
    await (await new Installation(t, environment).start()).stop();
    const { code, stderr } = await new Installation(t, environment).backlot(['serve', '--port', '0']);
    assert.equal(code, 1);
    assert.match(stderr, /root\.key .*servers that share a database must share keys and images/);
  });
});

describe('a server whose database goes away', { concurrency: true }, () => {
  it('says so, is not ready, and serves again by itself', async (t) => {
    const own = await startCluster(t);
    const url = `${await own.createDatabase()}&password=${PASSWORD}`;
    const installation = new Installation(t, { BACKLOT_DATABASE_URL: url, BACKLOT_LOG_LEVEL: 'debug' });
    const server = await installation.start();
    const client = sdkClient(t, installation, server, { maxAttempts: 1 });
    const studioId = await readyStudio(client, 'film');
    const ready = async () => (await fetch(`${server.url}/readyz`)).status;
    const get = () => client.send(new GetStudioCommand({ studioId }));
    assert.equal(await ready(), 200);
    await own.crash();
    assert.equal(await ready(), 503);
    await assert.rejects(get(), InternalServerErrorException);
    await assert.rejects(createImage(client, studioId, ABSENT), InternalServerErrorException);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
    await own.start();
    await until('the server is ready', async () => (await ready()) === 200);
    assert.equal((await get()).studio!.studioName, 'film');
    assert.equal(
      (await settledImage(client, studioId, await createImage(client, studioId, ABSENT))).state,
      'CREATE_FAILED',
    );
    assert.ok(!existsSync(installation.path('backlot.db')), 'there is no second database');

    const argv = readFileSync(`/proc/${server.pid}/cmdline`, 'utf8');
    const { code, stdout, stderr } = await server.stop();
    assert.equal(code, 0);
    assert.match(stderr, /STORE_UNAVAILABLE|the database|ECONNREFUSED|ENOENT/);
    for (const said of [argv, stdout, stderr]) assert.ok(!said.includes(PASSWORD));
  });

  it('does not start without it, and tells why without the password', async (t) => {
    const installation = new Installation(t);
    for (const [url, says] of [
      [
        `postgresql://me:${PASSWORD}@127.0.0.1:1/db`,
        /The database of BACKLOT_DATABASE_URL cannot be opened: .*ECONNREFUSED/,
      ],
      [`postgresql://me:${PASSWORD}@`, /BACKLOT_DATABASE_URL must be an address/],
    ] as const) {
      const environment = { BACKLOT_DATABASE_URL: url };
      const { code, stdout, stderr } = await installation.backlot(['serve', '--port', '0'], { environment });
      assert.equal(code, 1);
      assert.match(stderr, says);
      assert.ok(!`${stdout}${stderr}`.includes(PASSWORD));
    }
  });
});
