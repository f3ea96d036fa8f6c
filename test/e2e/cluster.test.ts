/**
 * Three servers of one PostgreSQL database, which share keys and images, under users that write through all of them, while
 * servers are killed and the database is stopped in order and as by a crash: what was answered is there, nothing was done
 * twice, no quota is ever exceeded, no process dies, and service comes back by itself. Prints its seed; BACKLOT_SEED
 * repeats what chance decided.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { GetStudioCommand, InternalServerErrorException, type NimbleClient } from '@aws-sdk/client-nimble';
import { type Cluster, startCluster } from '../support/postgres.ts';
import { createRandom } from '../support/random.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { ABSENT, createImage, getImage, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { type Door, type Place, User } from './cluster-users.ts';
import { makeDisk } from './disks.ts';
import { Installation, type RunningServer } from './installation.ts';

const seed = process.env.BACKLOT_SEED ?? String(Date.now());
const random = createRandom(seed);

const QUOTAS = { images: 8, components: 12, fileSystems: 4 };
const SETTINGS = {
  BACKLOT_LEASE_SECONDS: '1',
  BACKLOT_QUOTA_STREAMING_IMAGES: String(QUOTAS.images),
  BACKLOT_QUOTA_STUDIO_COMPONENTS: String(QUOTAS.components),
  BACKLOT_QUOTA_SHARED_FILE_SYSTEMS: String(QUOTAS.fileSystems),
};
const USERS = 6;
/** Longer than all of it takes on a busy machine. */
const WATCH_MS = 280_000;
/** Calls that each server must answer between two failures. */
const ANSWERS = 15;

interface Site {
  readonly t: TestContext;
  readonly cluster: Cluster;
  readonly url: string;
  readonly installations: readonly Installation[];
  readonly servers: RunningServer[];
  readonly doors: Door[];
  /** The one with the first access key. */
  readonly home: Installation;
}

/** Data directories that share keys and images, as docs/deploy.md says. */
function shareDirectory(t: TestContext, url: string): Installation[] {
  const shared = temporaryDirectory(t);
  return Array.from({ length: 3 }, () => {
    const installation = new Installation(t, { BACKLOT_DATABASE_URL: url, ...SETTINGS });
    mkdirSync(installation.dataDir, { mode: 0o700 });
    for (const name of ['keys', 'images']) {
      mkdirSync(join(shared, name), { recursive: true, mode: 0o700 });
      symlinkSync(join(shared, name), installation.path(name));
    }
    return installation;
  });
}

async function openSite(t: TestContext): Promise<Site> {
  const cluster = await startCluster(t, { fsync: true });
  const url = await cluster.createDatabase();
  const installations = shareDirectory(t, url);
  const servers = await Promise.all(installations.map((installation) => installation.start()));
  const [home] = installations.filter(({ credentials }) => existsSync(credentials));
  const doors = servers.map((server): Door => ({ client: clientOf(t, home!, server), answered: 0 }));
  return { t, cluster, url, installations, servers, doors, home: home! };
}

const clientOf = (t: TestContext, home: Installation, server: RunningServer) =>
  sdkClient(t, home, server, { maxAttempts: 1 });

const ready = async ({ url }: RunningServer) => (await fetch(`${url}/readyz`)).status === 200;

/** A studio with an image for each of some users to change; the copy of each is made once and stays as it is. */
async function furnish({ home, doors }: Site) {
  const client = doors[0]!.client;
  const studioId = await readyStudio(client, 'film');
  const disk = await makeDisk(home.directory, 'disk.raw');
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  const { ec2ImageId } = await home.json<{ ec2ImageId: string }>(words);
  const names = ['kept-0', 'kept-1', 'kept-2'];
  const imageIds = await Promise.all(
    names.map((name, index) => createImage(doors[index]!.client, studioId, ec2ImageId, { name })),
  );
  for (const imageId of imageIds) assert.equal((await settledImage(client, studioId, imageId)).state, 'READY');
  return { studioId, images: imageIds.map((id, index) => ({ id, name: names[index]! })) };
}

/** The rows as they stand, by id. */
async function rowsOf({ cluster, url }: Site) {
  const rows = await cluster.run(url, 'SELECT kind, id, studio_id, state, version, doc FROM resource');
  return new Map(
    rows.map(({ kind, id, studio_id: studioId, state, version, doc }) => [
      id as string,
      { kind, studioId, state: state as string, version: Number(version), doc: JSON.parse(doc as string) },
    ]),
  );
}

const countTokens = async ({ cluster, url }: Site) =>
  Number((await cluster.run(url, 'SELECT count(*) AS n FROM idempotency'))[0]!.n);

/** The most that there ever was of what has a quota, as often as the database could be asked. */
async function watchQuotas({ cluster, url }: Site, studioId: string, isOver: () => boolean) {
  const count = (kind: string, more = '') =>
    `(SELECT count(*) FROM resource WHERE kind = '${kind}' AND studio_id = '${studioId}' AND state <> 'DELETED' ${more})`;
  const ofType = `AND doc LIKE '%"type":"SHARED_FILE_SYSTEM"%' AND state <> 'CREATE_FAILED'`;
  const all = `SELECT ${count('streaming-image')} AS images, ${count('studio-component')} AS components,
    ${count('studio-component', ofType)} AS file_systems`;
  const most = { images: 0, components: 0, fileSystems: 0 };
  const look = async () => {
    const [seen] = await cluster.run(url, all);
    most.images = Math.max(most.images, Number(seen!.images));
    most.components = Math.max(most.components, Number(seen!.components));
    most.fileSystems = Math.max(most.fileSystems, Number(seen!.file_systems));
    return isOver();
  };
  await until('users have ended', look, WATCH_MS);
  return most;
}

async function everyoneAnswers({ doors, servers }: Site): Promise<void> {
  for (const server of servers) await until(`${server.url} is ready`, () => ready(server));
  const before = doors.map(({ answered }) => answered);
  await until('every server answers users', () =>
    doors.every(({ answered }, index) => answered >= before[index]! + ANSWERS),
  );
}

/** `kill -9` of one of them. @returns how to start it again where it was. */
async function killOne({ t, home, installations, servers, doors }: Site): Promise<() => Promise<void>> {
  const index = random.below(servers.length);
  const { port } = servers[index]!;
  await servers[index]!.kill();
  return async () => {
    servers[index] = await installations[index]!.start({ port });
    doors[index]!.client = clientOf(t, home, servers[index]!);
  };
}

/** While the database is away, each server says so in all ways that it has, and lives. */
async function withoutDatabase(site: Site, studioId: string, stop: () => Promise<void>): Promise<void> {
  await stop();
  for (const [index, server] of site.servers.entries()) {
    const { client } = site.doors[index]!;
    const answer = await fetch(`${server.url}/readyz`);
    assert.deepEqual([answer.status, await answer.text()], [503, 'the database does not answer\n']);
    assert.equal((await fetch(`${server.url}/healthz`)).status, 200);
    await refused(
      client.send(new GetStudioCommand({ studioId })),
      /^The database does not answer\. Try again in a moment\./,
    );
    await refused(createImage(client, studioId, ABSENT), /^The (database does not answer|change could not be stored)/);
  }
  await site.cluster.start();
}

async function refused(call: Promise<unknown>, says: RegExp): Promise<void> {
  await assert.rejects(call, (error: InternalServerErrorException) => {
    assert.ok(error instanceof InternalServerErrorException, String(error));
    assert.equal(error.$metadata.httpStatusCode, 500);
    assert.match(error.message, says);
    return true;
  });
}

/** In an order that the seed decides. */
function failures(site: Site, studioId: string): (() => Promise<void>)[] {
  const { cluster } = site;
  const all = [
    async () => (await killOne(site))(),
    async () => (await killOne(site))(),
    () => withoutDatabase(site, studioId, cluster.stop),
    () => withoutDatabase(site, studioId, cluster.crash),
    async () => {
      const [revive] = await Promise.all([killOne(site), cluster.crash()]);
      await cluster.start();
      await revive();
    },
  ];
  return all
    .map((run) => ({ run, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ run }) => run);
}

async function atRest(site: Site): Promise<void> {
  const busy = "SELECT 1 FROM resource WHERE state LIKE '%\\_IN\\_PROGRESS'";
  await until('nothing is under way', async () => (await site.cluster.run(site.url, busy)).length === 0);
}

/** Everything that users know is so, and nothing else was made. */
async function compare(site: Site, users: readonly User[], versions: ReadonlyMap<string, number>): Promise<void> {
  const rows = await rowsOf(site);
  const known = new Set<string>();
  for (const { things } of users) {
    for (const [id, thing] of things) {
      const row = rows.get(id);
      assert.ok(row, `${thing.kind} ${thing.name} is lost`);
      known.add(id);
      assert.equal(row.doc.name ?? row.doc.studioName, thing.name);
      if (thing.deleted) assert.equal(row.state, 'DELETED', thing.name);
      else assert.match(row.state, /^(READY|CREATE_FAILED)$/, thing.name);
      assert.equal(row.doc.description ?? row.doc.displayName, thing.text, `the last change of ${thing.name}`);
      const before = versions.get(id);
      if (before !== undefined)
        assert.equal(row.version, before + thing.changes, `${thing.name} was changed once a call`);
    }
  }
  const kinds = ['studio-component', 'streaming-image'];
  const unknown = [...rows].filter(([id, { kind }]) => kinds.includes(kind as string) && !known.has(id));
  assert.deepEqual(unknown, [], 'nothing was made that nobody was told of');
}

test(`three servers keep their word while they and their database fail (seed ${seed})`, async (t) => {
  t.diagnostic(`BACKLOT_SEED=${seed}`);
  const site = await openSite(t);
  const { studioId, images } = await furnish(site);
  const versions = new Map([...(await rowsOf(site))].map(([id, { version }]) => [id, version]));
  const tokensBefore = await countTokens(site);
  const place: Place = { studioId, doors: site.doors };
  const users = Array.from(
    { length: USERS },
    (_, index) => new User(`user${index}`, place, random.fork(`user ${index}`)),
  );
  const kept = { kind: 'streaming-image', changes: 0, deleted: false } as const;
  for (const [index, { id, name }] of images.entries()) {
    users[index]!.own(id, { ...kept, name, text: (await getImage(site.doors[0]!.client, studioId, id)).description! });
  }

  let over = false;
  const using = Promise.all([watchQuotas(site, studioId, () => over), ...users.map((user) => user.run(() => over))]);
  const failing = (async () => {
    await everyoneAnswers(site);
    for (const fail of failures(site, studioId)) {
      await fail();
      await everyoneAnswers(site);
    }
  })().finally(() => {
    over = true;
  });
  using.catch(() => {
    over = true;
  });
  const [, [most]] = await Promise.all([failing, using]);
  for (const name of ['images', 'components', 'fileSystems'] as const) {
    assert.ok(most[name] <= QUOTAS[name], `${name}: ${most[name]}`);
  }
  await atRest(site);

  await compare(site, users, versions);
  const total = (of: (user: User) => number) => users.reduce((sum, user) => sum + of(user), 0);
  assert.equal(
    (await countTokens(site)) - tokensBefore,
    total(({ acknowledged }) => acknowledged),
  );
  const quotaRefusals = total(({ refusals }) => refusals.get('ServiceQuotaExceededException') ?? 0);
  assert.ok(quotaRefusals > 0 && total(({ repeated }) => repeated) > 0, 'the quotas and the failures were met');
  await replayAll(site, users);
  bytesBelongToImages(
    site,
    images.map(({ id }) => id),
  );
  for (const server of site.servers) {
    assert.ok(!server.process.ended, 'no server has ended by itself');
    assert.equal((await server.stop()).code, 0);
  }
});

/** What was made once is not made again, through whichever server the call comes back. */
async function replayAll({ doors }: Site, users: readonly User[]): Promise<void> {
  for (const { made } of users) {
    for (const { id, again } of made) {
      const { client }: { client: NimbleClient } = random.pick(doors);
      assert.equal(await again(client), id);
    }
  }
}

function bytesBelongToImages({ home }: Site, imageIds: readonly string[]): void {
  assert.deepEqual(readdirSync(home.path('images/streaming')).toSorted(), imageIds.toSorted());
  assert.deepEqual(readdirSync(home.path('keys/data')).toSorted(), imageIds.map((id) => `${id}.json`).toSorted());
  assert.deepEqual(readdirSync(home.path('images/staging')), []);
}
