/**
 * `backlot database copy`: an installation moves from SQLite to PostgreSQL and back with all that clients know of it, is
 * not copied while a server runs, and what the command line may not say is refused without being repeated.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { after, describe, it } from 'node:test';
import {
  CreateStudioComponentCommand,
  ListStreamingImagesCommand,
  ListStudioComponentsCommand,
  ListStudiosCommand,
  type NimbleClient,
} from '@aws-sdk/client-nimble';
import { newRow } from '../../src/domain/kinds.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Write } from '../../src/store/store.ts';
import { TABLES } from '../../src/store/tables.ts';
import { startCluster } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import { createImage, deleteImage, getImage, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { BACKLOT, Installation } from './installation.ts';

const cluster = await startCluster({ after });
/** So many that a copy is under way for long enough to be met there. */
const ROWS_MANY = 30_000;
const PASSWORD = 'S3CRETpassword';

interface Copied {
  readonly table: string;
  readonly rows: number;
  readonly sha256: string;
}

/** Everything that a client can see of a studio. */
async function seen(client: NimbleClient, studioId: string) {
  const { studios } = await client.send(new ListStudiosCommand({}));
  const { streamingImages } = await client.send(new ListStreamingImagesCommand({ studioId }));
  const { studioComponents } = await client.send(new ListStudioComponentsCommand({ studioId }));
  return { studios, streamingImages, studioComponents };
}

describe('backlot database copy', { concurrency: true }, () => {
  it('moves an installation to PostgreSQL and back, and nobody can tell', async (t) => {
    const installation = new Installation(t);
    const variables = { MOVING_TO: `${await cluster.createDatabase()}&password=${PASSWORD}` };
    const onPostgres = { environment: { BACKLOT_DATABASE_URL: variables.MOVING_TO } };
    const copy = (from: string, to: string) =>
      installation.backlot(['database', 'copy', '--from', from, '--to', to], { environment: variables });
    const there = `sqlite:${installation.dataDir}`;

    const first = await installation.start();
    const client = sdkClient(t, installation, first);
    const disk = await makeDisk(installation.directory, 'disk.raw');
    const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
    const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
    const studioId = await readyStudio(client, 'film');
    const once = { name: 'Once', clientToken: 'token' };
    const imageId = await createImage(client, studioId, ec2ImageId, once);
    await settledImage(client, studioId, imageId);
    const component = { studioId, name: 'Licences', type: 'LICENSE_SERVICE' } as const;
    const endpoint = { licenseServiceConfiguration: { endpoint: '1@licences' } };
    await client.send(new CreateStudioComponentCommand({ ...component, configuration: endpoint }));
    const ready = async () => (await seen(client, studioId)).studioComponents!.every(({ state }) => state === 'READY');
    await until('the component is ready', ready);
    const before = await seen(client, studioId);

    const running = await copy(there, 'env:MOVING_TO');
    assert.equal(running.code, 1);
    assert.match(running.stderr, /^backlot: Another Backlot server is using the data directory .*\n$/);
    await first.stop();

    const moved = await copy(there, 'env:MOVING_TO');
    assert.equal(moved.code, 0, moved.stderr);
    const tables = JSON.parse(moved.stdout) as Copied[];
    assert.deepEqual(
      tables.map(({ table }) => table),
      TABLES.map(({ name }) => name),
    );
    for (const { table, rows } of tables) assert.ok(rows > 0 || !['resource', 'idempotency'].includes(table), table);
    const again = await copy(there, 'env:MOVING_TO');
    assert.match(again.stderr, /^backlot: The database to copy to is not empty .*\n$/);

    renameSync(installation.path('backlot.db'), `${installation.directory}/old.db`);
    const second = await installation.start(onPostgres);
    const moving = sdkClient(t, installation, second);
    assert.deepEqual(await seen(moving, studioId), before);
    assert.equal(await createImage(moving, studioId, ec2ImageId, once), imageId);
    const other = await createImage(moving, studioId, ec2ImageId);
    assert.equal((await settledImage(moving, studioId, other)).state, 'READY');
    const after = await seen(moving, studioId);
    const back = new Installation(t);
    const busy = await copy('env:MOVING_TO', `sqlite:${back.dataDir}`);
    assert.equal(busy.code, 1);
    assert.match(busy.stderr, /^backlot: A server or a command is using the database\. .*\n$/);
    assert.ok(!existsSync(back.dataDir));
    await second.stop();

    const returned = await copy('env:MOVING_TO', `sqlite:${back.path('backlot.db')}`);
    assert.equal(returned.code, 0, returned.stderr);
    const kept = [installation.path('keys'), installation.path('images'), installation.credentials];
    execFileSync('cp', ['-a', ...kept, back.dataDir]);
    const third = await back.start();
    const home = sdkClient(t, back, third);
    assert.deepEqual(await seen(home, studioId), after);
    await deleteImage(home, studioId, imageId);
    await until('the image is deleted', async () => (await getImage(home, studioId, imageId)).state === 'DELETED');
    for (const { stdout, stderr } of [moved, again, busy, returned])
      assert.ok(!`${stdout}${stderr}`.includes(PASSWORD));
  });

  it('that is killed half way has copied nothing, and does it all the next time', async (t) => {
    const installation = new Installation(t);
    mkdirSync(installation.dataDir, { mode: 0o700 });
    const store = openSqlite({ path: installation.path('backlot.db'), now: Date.now });
    for (let batch = 0; batch < ROWS_MANY; batch += 1_000) {
      const row = (index: number) => newRow({ kind: 'thing', id: `${batch + index}`, createdAt: index, doc: '{}' });
      await store.write(Array.from({ length: 1_000 }, (_, index): Write => ({ op: 'insert', row: row(index) })));
    }
    await store.close();
    const url = await cluster.createDatabase();
    const words = ['database', 'copy', '--from', `sqlite:${installation.dataDir}`, '--to', url];
    const killed = installation.spawn([BACKLOT, ...words]);
    const writing = `SELECT 1 FROM pg_stat_activity
      WHERE datname = current_database() AND query LIKE 'INSERT INTO resource%'`;
    await until('rows are on their way', async () => (await cluster.run(url, writing)).length > 0);
    killed.signal('SIGKILL');
    assert.equal((await killed.finished).signal, 'SIGKILL');
    assert.deepEqual(await cluster.run(url, 'SELECT id FROM resource LIMIT 1'), []);
    // The database learns of it when it next writes to a client that is gone.
    const copied = await until('the first has let go', async () => {
      const { code, stdout, stderr } = await installation.backlot(words);
      assert.equal(code, 0, stderr);
      return JSON.parse(stdout) as Copied[];
    });
    assert.equal(copied.find(({ table }) => table === 'resource')!.rows, ROWS_MANY);
  });

  it('refuses what makes no sense, in one line that repeats no password, and makes nothing', async (t) => {
    const installation = new Installation(t);
    const empty = `${installation.directory}/empty`;
    mkdirSync(empty, { mode: 0o700 });
    const environment = {
      UNREACHABLE: `postgresql://me:${PASSWORD}@127.0.0.1:1/db`,
      MALFORMED: `postgresql://me:${PASSWORD}@`,
    };
    const sqlite = `sqlite:${installation.dataDir}`;
    const cases: readonly (readonly [from: string, to: string, code: number, says: RegExp])[] = [
      [sqlite, `postgres://me:${PASSWORD}@h/db`, 2, /--to holds a password, .* write --to env:BACKLOT_DATABASE_URL/],
      [`postgres:///db?host=/run&password=${PASSWORD}`, sqlite, 2, /--from holds a password/],
      [sqlite, `mysql://me:${PASSWORD}@h/db`, 2, /--to must be sqlite:DATA_DIR, a postgres:\/\/ address/],
      [sqlite, 'data', 2, /--to must be sqlite:DATA_DIR/],
      [sqlite, 'sqlite:', 2, /--to must be sqlite:DATA_DIR/],
      [sqlite, `${sqlite}/backlot.db`, 2, /name the same database/],
      [sqlite, 'env:NOWHERE', 1, /NOWHERE is not set/],
      [sqlite, 'env:MALFORMED', 1, /MALFORMED must be an address/],
      [sqlite, 'env:UNREACHABLE', 1, /There is no database in \S+data\./],
      [`sqlite:${empty}`, 'env:UNREACHABLE', 1, /There is no database in \S+empty\./],
      ['env:UNREACHABLE', sqlite, 1, /The database of --from cannot be used: .*ECONNREFUSED/],
    ];
    await Promise.all(
      cases.map(async ([from, to, exitCode, says]) => {
        const words = ['database', 'copy', '--from', from, '--to', to];
        const { code, stdout, stderr } = await installation.backlot(words, { environment });
        assert.deepEqual([code, stdout], [exitCode, ''], stderr);
        assert.match(stderr, /^backlot: [^\n]+\n$/);
        assert.match(stderr, says);
        assert.ok(!stderr.includes(PASSWORD));
      }),
    );
    assert.ok(!existsSync(installation.dataDir));
  });
});
