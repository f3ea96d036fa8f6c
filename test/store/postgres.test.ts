/**
 * The store of several servers: it does what every store must, on a real PostgreSQL, and besides holds its guards among
 * connections that truly run at once, survives the server's crash, and gives up what hangs.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, type TestContext, test } from 'node:test';
import { openPostgres } from '../../src/store/postgres.ts';
import type { PostgresOptions } from '../../src/store/postgres-connections.ts';
import { SQL } from '../../src/store/sql.ts';
import type { Row, Store, Write } from '../../src/store/store.ts';
import { startCluster } from '../support/postgres.ts';
import { refused } from '../support/refused.ts';
import { until } from '../support/until.ts';
import { openWire } from '../support/wire.ts';
import { rowOf, storeConformance } from './conformance.ts';

const NOW = 1_767_225_600_000;
const cluster = await startCluster({ after });

async function placeIn(t: TestContext) {
  const url = await cluster.createDatabase();
  const opened: Store[] = [];
  t.after(() => Promise.all(opened.map((store) => store.close())));
  return {
    url,
    open: async (more: Partial<PostgresOptions> = {}): Promise<Store> => {
      const store = await openPostgres({ url, now: () => NOW, connectionsMax: 8, ...more });
      opened.push(store);
      return store;
    },
  };
}

type Place = Awaited<ReturnType<typeof placeIn>>;

const eight = (place: Place) => Promise.all(Array.from({ length: 8 }, () => place.open({ connectionsMax: 4 })));
const insert = (row: Row): Write => ({ op: 'insert', row });
const next = (row: Row, more: Partial<Row> = {}): Row => ({ ...row, version: row.version + 1, ...more });
const fulfilled = (outcomes: readonly PromiseSettledResult<unknown>[]) =>
  outcomes.filter(({ status }) => status === 'fulfilled').length;

/** What the outcome of a race was, where losers may only have lost by their guard. */
async function race(runs: readonly Promise<unknown>[]): Promise<number> {
  const outcomes = await Promise.allSettled(runs);
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected') assert.match(String(outcome.reason), /Guard failed/);
  }
  return fulfilled(outcomes);
}

storeConformance('postgres', placeIn);

test('a bound holds among clients that all see the last places free', async (t) => {
  const place = await placeIn(t);
  const clients = await eight(place);
  const fewer: Write = { op: 'fewer', kind: 'thing', studioId: 'here', statesNot: ['GONE'], limit: 10 };
  const runs = clients.flatMap((client, index) =>
    Array.from({ length: 20 }, (_, turn) => client.write([fewer, insert(rowOf(`row ${index} ${turn}`))])),
  );
  assert.equal(await race(runs), 10);
  assert.equal(await clients[0]!.count({ kind: 'thing', limit: 100 }), 10);
});

test('what a batch requires does not change before the batch is committed', async (t) => {
  const place = await placeIn(t);
  const clients = await eight(place);
  for (let round = 0; round < 25; round += 1) {
    const studio = rowOf(`studio ${round}`, { kind: 'studio', state: 'OPEN' });
    await clients[0]!.write([insert(studio)]);
    const require: Write = { op: 'require', kind: 'studio', id: studio.id, state: 'OPEN' };
    const closing = clients[0]!.write([{ op: 'update', row: next(studio, { state: 'CLOSED' }) }]).then(() =>
      // Whoever found the studio open has committed by now, or never will.
      clients[0]!.count({ kind: 'thing', studioIds: [studio.id], limit: 100 }),
    );
    const adding = clients
      .slice(1)
      .map((client, index) => client.write([require, insert(rowOf(`in ${round} ${index}`, { studioId: studio.id }))]));
    const [seenAtClosing] = await Promise.all([closing, race(adding)]);
    const inTheEnd = await clients[1]!.count({ kind: 'thing', studioIds: [studio.id], limit: 100 });
    assert.equal(inTheEnd, seenAtClosing);
  }
});

test('batches that lock the same rows in opposite orders all succeed: one that is undone is done again', async (t) => {
  const place = await placeIn(t);
  // Quick to find that two wait for each other, so that the test is.
  await cluster.run(place.url, `ALTER DATABASE ${new URL(place.url).pathname.slice(1)} SET deadlock_timeout = '10ms'`);
  const [one, other] = await Promise.all([place.open(), place.open()]);
  const token = (key: string, now: number): Write => ({
    op: 'token',
    now,
    token: { key, digest: 'd', kind: 'k', id: 'i', expiresAt: now },
  });
  const names = Array.from({ length: 30 }, (_, index) => `key ${index}`);
  let round = 0;
  const deadlocks = async () => {
    const [row] = await cluster.run(
      place.url,
      'SELECT pg_stat_clear_snapshot(), deadlocks FROM pg_stat_database WHERE datname = current_database()',
    );
    return Number(row!.deadlocks) > 0;
  };
  await until('the database has counted a deadlock', async () => {
    for (let times = 0; times < 10; times += 1) {
      round += 1;
      const forward = names.map((name) => token(name, round));
      await Promise.all([one.write(forward), other.write(forward.toReversed())]);
    }
    return deadlocks();
  });
});

test('processes that open a new database at once make it once, and all can use it', async (t) => {
  const url = await cluster.createDatabase();
  const script = new URL('./postgres-child.ts', import.meta.url).pathname;
  const codes = Array.from({ length: 4 }, async () => {
    const child = spawn(process.execPath, [script, url], { stdio: ['ignore', 'ignore', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    return (await once(child, 'exit'))[0] as number;
  });
  assert.deepEqual(await Promise.all(codes), [0, 0, 0, 0]);
  await Promise.all((await Promise.all(Array.from({ length: 4 }, () => openOnce(url)))).map((store) => store.close()));
  const applied = await cluster.run(url, 'SELECT name, count(*) AS n FROM migration GROUP BY name ORDER BY name');
  assert.ok(applied.length > 0);
  for (const { name, n } of applied) assert.equal(Number(n), 1, String(name));
});

const openOnce = (url: string) => openPostgres({ url, now: () => NOW, connectionsMax: 2 });

test('rows are looked up by their keys in a table of which the database knows nothing yet', async (t) => {
  const place = await placeIn(t);
  await place.open();
  const asked = SQL.getMany.replace('$1', "ARRAY['studio', 'user']").replace('$2', "ARRAY['a', 'b']");
  const plan = (await cluster.run(place.url, `EXPLAIN ${asked}`)).map((line) => String(line['QUERY PLAN'])).join('\n');
  assert.match(plan, /Index Scan/);
  assert.doesNotMatch(plan, /Seq Scan/);
});

test('each migration run a second time is harmless', async (t) => {
  const place = await placeIn(t);
  const store = await place.open();
  await store.write([insert(rowOf('a', { uniqueName: 'name' }))]);
  await cluster.run(place.url, 'DELETE FROM migration');
  const again = await place.open();
  assert.deepEqual(await again.get('thing', 'a'), rowOf('a', { uniqueName: 'name' }));
});

test('a database that a newer version has written is not opened, and stays as it is', async (t) => {
  const place = await placeIn(t);
  const store = await place.open();
  await cluster.run(place.url, "INSERT INTO migration (name, applied_at) VALUES ('9999-from-the-future.sql', 0)");
  await assert.rejects(place.open(), /9999-from-the-future\.sql.*upgrade/);
  await store.write([insert(rowOf('a'))]);
});

test('a database that cannot be reached is not opened, and why is told without the password', async () => {
  const url = 'postgresql://me:S3CRET@127.0.0.1:1/db';
  await assert.rejects(openOnce(url), (error: Error) => {
    assert.match(error.message, /ECONNREFUSED/);
    assert.ok(!JSON.stringify([error.message, error.stack, { ...error }]).includes('S3CRET'));
    return true;
  });
});

test('a commit is on disk before it is acknowledged, whatever the server is set to', async (t) => {
  const place = await placeIn(t);
  const store = await place.open();
  // Says in a row what holds for the connection that writes it.
  await cluster.run(
    place.url,
    `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       NEW.doc := current_setting('synchronous_commit') || ' ' || current_setting('transaction_isolation');
       RETURN NEW; END $$;
     CREATE TRIGGER tell BEFORE INSERT ON resource FOR EACH ROW EXECUTE FUNCTION tell()`,
  );
  await store.write([insert(rowOf('a'))]);
  assert.equal((await store.get('thing', 'a'))!.doc, 'on read committed');
});

test('a read is one round trip and a batch two, however many statements it has', async (t) => {
  const place = await placeIn(t);
  const wire = await openWire(t, cluster.socket);
  const store = await place.open({ url: wire.through(place.url), connectionsMax: 1 });
  const tripsOf = async (work: () => Promise<unknown>) => {
    await work();
    const before = wire.roundTrips;
    await work();
    return wire.roundTrips - before;
  };
  let version = 0;
  const batch = (): Write[] => {
    version += 1;
    const row = rowOf('a', { version, state: 'RESTING' });
    return [
      version === 1 ? insert(row) : { op: 'update', row },
      { op: 'require', kind: 'thing', id: 'a', state: 'RESTING' },
      { op: 'fewer', kind: 'thing', studioId: 'here', statesNot: ['GONE'], limit: 10 },
    ];
  };
  // The first of them prepares an insert and the second an update; what counts is the third.
  await store.write(batch());
  assert.equal(await tripsOf(() => store.write(batch())), 2);
  assert.equal(await tripsOf(() => store.get('thing', 'a')), 1);
  assert.equal(await tripsOf(() => store.list({ kind: 'thing', studioIds: ['here', 'there'], limit: 5 })), 1);
  assert.equal(await tripsOf(() => store.lease({ kind: 'thing', state: 'S', now: 0, until: 0, limit: 1 })), 1);
});

test('every acknowledged write survives crashes of the server, and service comes back by itself', async (t) => {
  const own = await startCluster(t, { fsync: true });
  const url = await own.createDatabase();
  const store = await openPostgres({ url, now: () => NOW, connectionsMax: 4, connectMs: 1_000 });
  t.after(() => store.close());
  const acknowledged = new Set<string>();
  const refusals = new Set<string>();
  let stopped = false;
  const writers = Array.from({ length: 4 }, async (_, writer) => {
    for (let turn = 0; !stopped; turn += 1) {
      const id = `${writer} ${turn}`;
      try {
        await store.write([insert(rowOf(id)), insert(rowOf(id, { kind: 'other' }))]);
        acknowledged.add(id);
      } catch (error) {
        refusals.add((error as { code: string }).code);
        await refused(Promise.reject(error), 'InternalServerErrorException');
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  });
  for (let crash = 0; crash < 3; crash += 1) {
    const before = acknowledged.size;
    await until('writes are acknowledged', () => acknowledged.size > before + 50);
    await own.crash();
    await refused(store.get('thing', 'a'), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
    await refused(store.write([insert(rowOf(`down ${crash}`))]), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
    await own.start();
  }
  const before = acknowledged.size;
  await until('writes are acknowledged again', () => acknowledged.size > before + 50);
  stopped = true;
  await Promise.all(writers);
  for (const code of refusals) assert.match(code, /^STORE_(UNAVAILABLE|OUTCOME_UNKNOWN)$/);
  const kept = async (kind: string) => (await store.list({ kind, limit: 1_000_000 })).map(({ id }) => id);
  const [things, others] = [await kept('thing'), await kept('other')];
  assert.deepEqual(things, others, 'no batch is there in part');
  const there = new Set(things);
  for (const id of acknowledged) assert.ok(there.has(id), id);
});

test('a connection that is lost in the commit leaves open what came of it, and says so', async (t) => {
  const place = await placeIn(t);
  const wire = await openWire(t, cluster.socket);
  const store = await place.open({ url: wire.through(place.url) });
  wire.heard = (text) => !text.includes('COMMIT');
  await refused(store.write([insert(rowOf('a'))]), 'InternalServerErrorException', 'STORE_OUTCOME_UNKNOWN');
  wire.heard = (text) => !text.includes('INSERT');
  await refused(store.write([insert(rowOf('b'))]), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
  wire.heard = () => true;
  assert.deepEqual(await store.list({ kind: 'thing', limit: 10 }), []);
  await store.write([insert(rowOf('a'))]);
});

test('a statement that hangs is ended, and what waits behind it is done', async (t) => {
  const place = await placeIn(t);
  const store = await place.open({ connectionsMax: 1, statementMs: 200 });
  const row = rowOf('a');
  await store.write([insert(row)]);
  const other = await place.open();
  await cluster.run(
    place.url,
    `CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
     CREATE TRIGGER linger BEFORE UPDATE ON resource FOR EACH ROW EXECUTE FUNCTION linger()`,
  );
  const hanging = store.write([{ op: 'update', row: next(row) }]);
  const behind = store.get('thing', 'a');
  await refused(hanging, 'InternalServerErrorException', 'STORE_UNAVAILABLE');
  assert.deepEqual(await behind, row);
  assert.deepEqual(await other.get('thing', 'a'), row);
  const error = await store.write([{ op: 'update', row: next(row) }]).catch((reason) => reason);
  assert.equal(error.message, 'The change could not be stored. Nothing was changed.');
  assert.match(error.inward, /57014.*statement timeout/);
});

test('a server that falls silent is given up, and a new connection serves', async (t) => {
  const place = await placeIn(t);
  const wire = await openWire(t, cluster.socket);
  const store = await place.open({ url: wire.through(place.url), connectionsMax: 1, statementMs: 100, connectMs: 500 });
  await store.write([insert(rowOf('a'))]);
  wire.silent = true;
  await refused(store.get('thing', 'a'), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
  wire.silent = false;
  assert.ok(await store.get('thing', 'a'));
});

test('more at once than fit is refused as too much, and what fits is done', async (t) => {
  const store = await (await placeIn(t)).open({ connectMs: 60_000 });
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5_000 }, (_, index) => store.write([insert(rowOf(`row ${index}`))])),
  );
  const refusals = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
  assert.equal(refusals.length, 5_000 - 4_096);
  for (const reason of refusals.slice(0, 3)) await refused(Promise.reject(reason), 'ThrottlingException');
  assert.equal(await store.count({ kind: 'thing', limit: 10_000 }), 4_096);
  await store.write([insert(rowOf('afterwards'))]);
});

test('a store never has more connections than it may, however much is asked of it at once', async (t) => {
  const place = await placeIn(t);
  const store = await place.open({ connectionsMax: 3 });
  // Each says how many there are while it writes.
  await cluster.run(
    place.url,
    `CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       NEW.doc := (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database());
       RETURN NEW; END $$;
     CREATE TRIGGER tell BEFORE INSERT ON resource FOR EACH ROW EXECUTE FUNCTION tell()`,
  );
  await Promise.all(Array.from({ length: 200 }, (_, index) => store.write([insert(rowOf(`row ${index}`))])));
  const counts = (await store.list({ kind: 'thing', limit: 1_000 })).map(({ doc }) => Number(doc));
  assert.equal(counts.length, 200);
  assert.equal(Math.max(...counts), 3);
});

test('what the database says of a row is not told', async (t) => {
  const place = await placeIn(t);
  const store = await place.open();
  await cluster.run(place.url, "ALTER TABLE resource ADD CHECK (private <> 'S3CRET')");
  const error = await store.write([insert(rowOf('a', { private: 'S3CRET' }))]).catch((reason) => reason);
  assert.equal(error.code, 'STORE_UNAVAILABLE');
  assert.match(error.inward, /23514/);
  assert.ok(!JSON.stringify([error.message, error.stack, error.cause ?? '', { ...error }]).includes('S3CRET'));
});
