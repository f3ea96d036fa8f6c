/**
 * Wake-ups between servers of one PostgreSQL database: heard for what is due and for nothing else, back by themselves when
 * the connection breaks, and left out, with one warning, where the server or a pooler does not pass them on.
 */
import assert from 'node:assert/strict';
import { after, type TestContext, test } from 'node:test';
import { openPostgres } from '../../src/store/postgres.ts';
import { listenForWakes, type WakeOptions } from '../../src/store/postgres-wakes.ts';
import { GuardFailed, type Row, type Write } from '../../src/store/store.ts';
import { startCluster } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import { openWire } from '../support/wire.ts';
import { rowOf } from './conformance.ts';

const NOW = 1_767_225_600_000;
const cluster = await startCluster({ after });

const LISTENERS = `SELECT pid FROM pg_stat_activity
  WHERE datname = current_database() AND query = 'LISTEN backlot_due' AND pid <> pg_backend_pid()`;

async function openStore(t: TestContext, url: string) {
  const store = await openPostgres({ url, now: () => NOW, connectionsMax: 2 });
  t.after(() => store.close());
  return store;
}

function listen(t: TestContext, url: string, more: Partial<WakeOptions> = {}) {
  const said = { wakes: 0, warnings: [] as string[] };
  const wakes = listenForWakes({
    url,
    onWake: () => {
      said.wakes += 1;
    },
    warn: (message) => said.warnings.push(message),
    ...more,
  });
  t.after(() => wakes.close());
  return { said, wakes };
}

/** Looked at once when it listened, and once when it heard itself. */
const settled = (said: { readonly wakes: number }) => until('it hears', () => said.wakes >= 2);

const insert = (row: Row): Write => ({ op: 'insert', row });
const update = (row: Row, more: Partial<Row>): Write => ({
  op: 'update',
  row: { ...row, version: row.version + 1, ...more },
});

test('a row that is due is heard of, once a batch; one that is not, or was not written, is not', async (t) => {
  const url = await cluster.createDatabase();
  const store = await openStore(t, url);
  const { said } = listen(t, url);
  await settled(said);
  const due = (id: string) => rowOf(id, { dueAt: NOW });
  const cases: readonly (readonly [what: string, batch: readonly Write[], heard: number])[] = [
    ['a row at rest', [insert(rowOf('rest'))], 0],
    ['a row due later', [insert(rowOf('later', { dueAt: NOW + 1 }))], 0],
    ['a lease that is renewed', [update(rowOf('later'), { dueAt: NOW + 15_000 })], 0],
    ['a row due now', [insert(due('now'))], 1],
    ['a row due since long', [insert(rowOf('old', { dueAt: 0 }))], 1],
    ['three rows due now', [insert(due('a')), insert(due('b')), insert(due('c'))], 1],
    ['a row that becomes due', [update(rowOf('rest'), { dueAt: NOW })], 1],
    ['a row that is deleted', [{ op: 'delete', kind: 'thing', id: 'old', version: 1 }], 0],
  ];
  for (const [what, batch, heard] of cases) {
    const before = said.wakes;
    await store.write(batch);
    await assert.rejects(store.write([insert(due('undone')), insert(due('undone'))]), GuardFailed);
    // Commits are heard in their order: what comes before the mark has been heard, or never will be.
    await cluster.run(url, 'NOTIFY backlot_due');
    await until(what, () => said.wakes >= before + heard + 1);
    assert.equal(said.wakes, before + heard + 1, what);
  }
  assert.deepEqual(said.warnings, []);
});

test('a listener that loses its connection looks at once when it has another, and hears again', async (t) => {
  const url = await cluster.createDatabase();
  const store = await openStore(t, url);
  const { said } = listen(t, url);
  await settled(said);
  for (let round = 0; round < 3; round += 1) {
    const before = said.wakes;
    const [listener] = await cluster.run(url, LISTENERS);
    await cluster.run(url, `SELECT pg_terminate_backend(${listener!.pid})`);
    await until('it looks again', () => said.wakes > before);
    const listening = said.wakes;
    await store.write([insert(rowOf(`row ${round}`, { dueAt: NOW }))]);
    await until('it hears again', () => said.wakes > listening);
  }
  assert.deepEqual(said.warnings, []);
});

test('a listener outlives a restart of the database, and one that finds none is closed at once', async (t) => {
  const own = await startCluster(t);
  const url = await own.createDatabase();
  const { said } = listen(t, url);
  await settled(said);
  await own.crash();
  const another = listen(t, url);
  await another.wakes.close();
  assert.equal(another.said.wakes, 0);
  const before = said.wakes;
  await own.start();
  await until('it looks again', () => said.wakes > before);
  await own.run(url, 'NOTIFY backlot_due');
  await until('it hears again', () => said.wakes > before + 1);
  assert.deepEqual([...said.warnings, ...another.said.warnings], []);
});

test('a server that knows no LISTEN is told of once, never sent a NOTIFY, and stores what is due', async (t) => {
  const wire = await openWire(t, cluster.socket);
  const url = wire.through(await cluster.createDatabase());
  let told = 0;
  wire.heardAs = (text) => {
    if (text.includes('NOTIFY')) told += 1;
    return text.replaceAll('LISTEN backlot_due', 'LISTEM backlot_due');
  };
  const store = await openStore(t, url);
  const { said, wakes } = listen(t, url);
  await until('it gives up', () => said.warnings.length > 0);
  await store.write([insert(rowOf('a', { dueAt: NOW }))]);
  await wakes.close();
  assert.deepEqual(said.warnings, [
    'The database knows no LISTEN: what other servers leave to this one is found by looking.',
  ]);
  assert.deepEqual([told, said.wakes], [0, 0]);
  assert.equal((await store.get('thing', 'a'))!.dueAt, NOW);
});

test('a pooler that takes LISTEN and passes nothing on is told of once, and the listener goes on', async (t) => {
  const wire = await openWire(t, cluster.socket);
  const url = wire.through(await cluster.createDatabase());
  wire.heardAs = (text) => text.replaceAll('LISTEN backlot_due', 'SELECT 1 AS deafly');
  const { said } = listen(t, url, { echoMs: 100 });
  await until('it says so', () => said.warnings.length > 0);
  assert.match(said.warnings[0]!, /lets nobody hear its NOTIFY: .* found by looking/);
  wire.heardAs = (text) => text;
  const before = said.wakes;
  await cluster.run(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT 1 AS deafly'");
  await settled(said);
  await until('it hears itself in the end', () => said.wakes >= before + 2);
  assert.equal(said.warnings.length, 1);
});
