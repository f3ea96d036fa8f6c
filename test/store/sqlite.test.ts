/**
 * The embedded store: it does what every store must, and besides is safe among processes, in a crash, when the disk is
 * full and when another process holds the database.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Row, Store } from '../../src/store/store.ts';
import { refused } from '../support/refused.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { rowOf, storeConformance } from './conformance.ts';

const NOW = 1_767_225_600_000;

function placeIn(t: TestContext) {
  const path = join(temporaryDirectory(t), 'db.sqlite');
  const opened: Store[] = [];
  t.after(() => Promise.all(opened.map((store) => store.close())));
  return {
    path,
    open: (turn?: () => number | undefined): Store => {
      const store = openSqlite({ path, now: () => NOW, ...(turn && { turn }) });
      opened.push(store);
      return store;
    },
  };
}

/** The store together with its own connection, so that a test can set limits on it. */
function openWithHandle(place: { open(): Store }): { store: Store; handle: DatabaseSync } {
  const { exec } = DatabaseSync.prototype;
  let handle: DatabaseSync | undefined;
  DatabaseSync.prototype.exec = function (sql) {
    handle = this;
    return exec.call(this, sql);
  };
  try {
    const store = place.open();
    return { store, handle: handle! };
  } finally {
    DatabaseSync.prototype.exec = exec;
  }
}

function startChild(t: TestContext, path: string, task: string, argument: string): ChildProcess {
  const script = new URL('./child.ts', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, path, task, argument], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  return child;
}

/** The one line that a child says. */
async function answerOf<T>(child: ChildProcess): Promise<T> {
  for await (const line of createInterface({ input: child.stdout! })) return JSON.parse(line) as T;
  throw new Error('the child ended without an answer');
}

const insert = (row: Row) => ({ op: 'insert', row }) as const;

storeConformance('sqlite', placeIn);

test('what another process writes is seen by a reader that had the row, a list and a miss ready', async (t) => {
  const place = placeIn(t);
  const store = place.open();
  await store.write([insert(rowOf('a'))]);
  const list = async () => (await store.list({ kind: 'thing', limit: 10 })).map(({ id, state }) => `${id} ${state}`);
  assert.equal((await store.get('thing', 'a'))!.state, 'RESTING');
  assert.equal(await store.get('thing', 'b'), undefined);
  assert.deepEqual(await list(), ['a RESTING']);
  const children = [startChild(t, place.path, 'write', 'a'), startChild(t, place.path, 'write', 'b')];
  await Promise.all(children.map(answerOf));
  assert.equal((await store.get('thing', 'a'))!.state, 'CHILD');
  assert.equal((await store.get('thing', 'b'))!.state, 'RESTING');
  assert.deepEqual(await list(), ['a CHILD', 'b RESTING']);
});

test('within one turn of the event loop one look serves; the next turn looks again', async (t) => {
  const place = placeIn(t);
  let turn: number | undefined = 1;
  const store = place.open(() => turn);
  const other = place.open();
  const row = rowOf('a');
  await store.write([insert(row)]);
  const state = async () => (await store.get('thing', 'a'))!.state;
  assert.equal(await state(), 'RESTING');
  await other.write([{ op: 'update', row: { ...row, version: row.version + 1, state: 'OTHER' } }]);
  assert.equal(await state(), 'RESTING', 'the look of this turn was before the write');
  turn = 2;
  assert.equal(await state(), 'OTHER');
  turn = undefined;
  await other.write([{ op: 'update', row: { ...row, version: row.version + 2, state: 'AGAIN' } }]);
  assert.equal(await state(), 'AGAIN', 'outside of a turn every read looks');
});

test('what a process has acknowledged is there after it was killed', async (t) => {
  const place = placeIn(t);
  for (let version = 1; version <= 3; version += 1) {
    const child = startChild(t, place.path, 'write', 'a');
    assert.deepEqual(await answerOf(child), { version });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const store = place.open();
    assert.equal((await store.get('thing', 'a'))!.version, version);
    await store.close();
  }
});

test('processes that lease at once lease each row once', async (t) => {
  const place = placeIn(t);
  const store = place.open();
  const rows = Array.from({ length: 400 }, (_, index) => rowOf(`row ${index}`, { state: 'WORK', dueAt: NOW }));
  await store.write(rows.map(insert));
  const children = Array.from({ length: 4 }, () => startChild(t, place.path, 'lease', String(NOW)));
  const leased = (await Promise.all(children.map((child) => answerOf<string[]>(child)))).flat();
  assert.equal(leased.length, 400);
  assert.equal(new Set(leased).size, 400);
});

test('every commit is on the disk before it is acknowledged', (t) => {
  const { handle } = openWithHandle(placeIn(t));
  assert.equal(handle.prepare('PRAGMA journal_mode').get()!.journal_mode, 'wal');
  assert.equal(handle.prepare('PRAGMA synchronous').get()!.synchronous, 2);
});

test('deleted content is overwritten, not only unlinked', (t) => {
  const { handle } = openWithHandle(placeIn(t));
  assert.equal(handle.prepare('PRAGMA secure_delete').get()!.secure_delete, 1);
});

test('a full disk refuses writes and changes nothing; reads go on, and so do writes once there is room', async (t) => {
  const { store, handle } = openWithHandle(placeIn(t));
  await store.write([insert(rowOf('before', { dueAt: NOW })), insert(rowOf('victim'))]);
  const pages = handle.prepare('PRAGMA page_count').get()!.page_count as number;
  handle.exec(`PRAGMA max_page_count = ${pages + 2}`);
  const large = 'x'.repeat(1_000_000);
  const outcomes = await Promise.allSettled([
    store.write([insert(rowOf('small, of the same turn'))]),
    store.write([insert(rowOf('large', { doc: large }))]),
    store.write([{ op: 'update', row: rowOf('victim', { version: 2, doc: large }) }]),
    store.lease({ kind: 'thing', state: 'RESTING', now: NOW, until: NOW, limit: 1 }),
  ]);
  for (const outcome of outcomes) {
    assert.equal(outcome.status, 'rejected');
    await refused(
      Promise.reject((outcome as PromiseRejectedResult).reason),
      'InternalServerErrorException',
      'STORE_UNAVAILABLE',
    );
  }
  assert.deepEqual({ ...(await store.get('thing', 'victim')) }, rowOf('victim'));
  assert.equal(await store.get('thing', 'large'), undefined);
  assert.equal(await store.get('thing', 'small, of the same turn'), undefined);
  assert.equal((await store.list({ kind: 'thing', limit: 10 })).length, 2);

  await store.write([{ op: 'delete', kind: 'thing', id: 'before', version: 1 }]);
  handle.exec('PRAGMA max_page_count = 1073741823');
  await store.write([insert(rowOf('large', { doc: large }))]);
  assert.equal((await store.get('thing', 'large'))!.doc.length, large.length);
});

test('to look for what is due takes no write, and waits for nobody who writes', async (t) => {
  const { store, handle } = openWithHandle(placeIn(t));
  await store.write([insert(rowOf('later', { dueAt: NOW + 1 }))]);
  const look = (now: number) => store.lease({ kind: 'thing', state: 'RESTING', now, until: NOW + 5, limit: 1 });
  handle.exec('BEGIN IMMEDIATE');
  assert.deepEqual(await look(NOW), []);
  handle.exec('ROLLBACK');
  assert.equal((await look(NOW + 1)).length, 1);
});

test('what the database says of a failure is for the log, not for the caller', async (t) => {
  const { store, handle } = openWithHandle(placeIn(t));
  const pages = handle.prepare('PRAGMA page_count').get()!.page_count as number;
  handle.exec(`PRAGMA max_page_count = ${pages}`);
  const error = await store.write([insert(rowOf('large', { doc: 'x'.repeat(1_000_000) }))]).catch((reason) => reason);
  assert.equal(error.message, 'The change could not be stored. Nothing was changed.');
  assert.match(error.inward, /full/);
});

test('a database that another process holds refuses writes after a while, and takes them again afterwards', async (t) => {
  const place = placeIn(t);
  const store = place.open();
  await store.write([insert(rowOf('before'))]);
  const holder = new DatabaseSync(place.path);
  holder.exec('BEGIN IMMEDIATE');
  await refused(store.write([insert(rowOf('a'))]), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
  assert.ok(await store.get('thing', 'before'));
  assert.equal(await store.get('thing', 'a'), undefined);
  holder.exec('ROLLBACK');
  holder.close();
  await store.write([insert(rowOf('a'))]);
  assert.ok(await store.get('thing', 'a'));
});

test('more writes at once than fit are refused as too many, and those that fit are done', async (t) => {
  const store = placeIn(t).open();
  const outcomes = await Promise.allSettled(
    Array.from({ length: 5_000 }, (_, index) => store.write([insert(rowOf(`row ${index}`))])),
  );
  const refusals = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
  assert.ok(refusals.length > 0 && refusals.length < 5_000);
  for (const reason of refusals.slice(0, 3)) await refused(Promise.reject(reason), 'ThrottlingException');
  assert.equal(await store.count({ kind: 'thing', limit: 10_000 }), 5_000 - refusals.length);
  await store.write([insert(rowOf('afterwards'))]);
});

test('opening a database again, or twice at once, applies nothing a second time', async (t) => {
  const place = placeIn(t);
  const first = place.open();
  await first.write([insert(rowOf('a'))]);
  const second = place.open();
  await first.close();
  await second.close();
  const third = place.open();
  assert.ok(await third.get('thing', 'a'));
  const handle = new DatabaseSync(place.path);
  const applied = handle.prepare('SELECT name, count(*) AS n FROM migration GROUP BY name').all();
  handle.close();
  assert.ok(applied.length > 0);
  for (const { name, n } of applied) assert.equal(n, 1, String(name));
});

test('each migration run a second time is harmless', async (t) => {
  const place = placeIn(t);
  const store = place.open();
  await store.write([insert(rowOf('a', { uniqueName: 'name' }))]);
  await store.close();
  const handle = new DatabaseSync(place.path);
  handle.exec('DELETE FROM migration');
  handle.close();
  const again = place.open();
  assert.deepEqual({ ...(await again.get('thing', 'a')) }, rowOf('a', { uniqueName: 'name' }));
});

test('a database that a newer version has written is not opened, and stays as it is', async (t) => {
  const place = placeIn(t);
  const store = place.open();
  await store.write([insert(rowOf('a'))]);
  await store.close();
  const handle = new DatabaseSync(place.path);
  handle.exec("INSERT INTO migration (name, applied_at) VALUES ('9999-from-the-future.sql', 0)");
  assert.throws(() => place.open(), /9999-from-the-future\.sql.*upgrade/);
  // Nothing is held or half done: the other connection can write at once.
  handle.exec("DELETE FROM migration WHERE name = '9999-from-the-future.sql'");
  handle.close();
  assert.ok(await place.open().get('thing', 'a'));
});

test('a file that is no database is refused and not touched', (t) => {
  const path = join(temporaryDirectory(t), 'db.sqlite');
  writeFileSync(path, 'these are somebody’s notes, and no database at all'.repeat(100));
  assert.throws(() => openSqlite({ path, now: () => NOW }), /not a database/);
});
