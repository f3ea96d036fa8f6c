/**
 * A copy of one database into another: every row and every character arrives, on either kind of database, or nothing
 * does; and no table of a migration is forgotten.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, type TestContext, test } from 'node:test';
import { openPostgres } from '../../src/store/postgres.ts';
import { openPostgresTables } from '../../src/store/postgres-tables.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { openSqliteTables } from '../../src/store/sqlite-tables.ts';
import type { AuditLine, Row, Store, TokenRow, Write } from '../../src/store/store.ts';
import { type CopiedTable, CopyFailed, copyTables, TABLES, type Tables } from '../../src/store/tables.ts';
import { startCluster } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { rowOf } from './conformance.ts';

const NOW = 1_767_225_600_000;
const now = () => NOW;
const cluster = await startCluster({ after });

/** A database of a kind, of which there is nothing yet. */
interface Place {
  store(): Promise<Store>;
  tables(): Promise<Tables>;
  /** Runs statements beside it. */
  run(sql: string): Promise<unknown>;
}

const KINDS: Readonly<Record<string, (t: TestContext) => Promise<Place>>> = {
  sqlite: async (t) => {
    const path = join(temporaryDirectory(t), 'backlot.db');
    return {
      store: async () => openSqlite({ path, now }),
      tables: () => openSqliteTables({ path, now }),
      run: async (sql) => {
        const database = new DatabaseSync(path);
        database.exec(sql);
        database.close();
      },
    };
  },
  postgres: async () => {
    const url = await cluster.createDatabase();
    return {
      store: () => openPostgres({ url, now, connectionsMax: 1 }),
      tables: () => openPostgresTables({ url, now }),
      run: (sql) => cluster.run(url, sql),
    };
  },
};

const PAIRS = Object.keys(KINDS).flatMap((from) => Object.keys(KINDS).map((to) => [from, to] as const));

/** More than two pages of rows, and every kind of value that a column may hold. */
const ROWS: readonly Row[] = [
  ...Array.from({ length: 600 }, (_, index) => rowOf(`row ${index}`, { createdAt: NOW + index })),
  ...['Z', 'a', 'É', 'é', '中', '😀', '~', '\u0001', '\u0000', '\u0001\u0002', "'; --", '{x}', '$1', ''].map((id) =>
    rowOf(`odd ${id}`, { kind: 'odd', doc: `{"id":"${id}"}`, private: id, uniqueName: id, parentId: id, ownerId: id }),
  ),
  rowOf('large', { version: Number.MAX_SAFE_INTEGER, dueAt: 0, attempts: 6, doc: 'x'.repeat(1_000_000) }),
];
const TOKENS: readonly TokenRow[] = Array.from({ length: 300 }, (_, index) => {
  return { key: `key ${index}`, digest: `digest ${index}`, kind: 'thing', id: `row ${index}`, expiresAt: NOW + index };
});
const LINES: readonly AuditLine[] = Array.from({ length: 300 }, (_, index) => {
  const who = { principalId: 'AIDA', accessKeyId: `AKIA${index}`, operation: 'DeleteStudio', outcome: 'ok' };
  return {
    ...who,
    at: NOW + (index % 7),
    id: `line ${index}`,
    studioId: '',
    resourceId: 'é 中',
    doc: '{"a":"\u0000"}',
  };
});

async function filled(place: Place): Promise<void> {
  const store = await place.store();
  const writes: Write[] = [
    ...ROWS.map((row): Write => ({ op: 'insert', row })),
    ...TOKENS.map((token): Write => ({ op: 'token', token, now: NOW })),
    ...LINES.map((line): Write => ({ op: 'audit', line })),
  ];
  for (let start = 0; start < writes.length; start += 100) await store.write(writes.slice(start, start + 100));
  await store.close();
}

async function held(place: Place) {
  const store = await place.store();
  try {
    const rows = [
      ...(await store.list({ kind: 'thing', limit: 10_000 })),
      ...(await store.list({ kind: 'odd', limit: 10_000 })),
    ];
    const tokens = await Promise.all(TOKENS.map(({ key }) => store.token(key)));
    return { rows, tokens, lines: await store.audit({ limit: 1_000 }) };
  } finally {
    await store.close();
  }
}

async function copied(from: Place, to: Place, progress?: (share: number) => void) {
  const source = await from.tables();
  try {
    const target = await to.tables();
    try {
      return await copyTables(source, target, progress);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Rows of each table, by its name. */
const countsOf = (tables: readonly CopiedTable[]) => Object.fromEntries(tables.map(({ table, rows }) => [table, rows]));
const NONE = Object.fromEntries(TABLES.map(({ name }) => [name, 0]));
const COUNTS = { ...NONE, resource: ROWS.length, idempotency: TOKENS.length, audit: LINES.length };

for (const [kind, other] of PAIRS) {
  test(`everything arrives from ${kind} to ${other}, and nothing is changed where it came from`, async (t) => {
    const [from, to] = [await KINDS[kind]!(t), await KINDS[other]!(t)];
    await filled(from);
    const shares: number[] = [];
    const tables = await copied(from, to, (share) => shares.push(share));
    assert.deepEqual(countsOf(tables), COUNTS);
    for (const { sha256 } of tables) assert.match(sha256, /^[0-9a-f]{64}$/);
    assert.deepEqual(
      shares,
      shares.toSorted((a, b) => a - b),
    );
    assert.equal(shares.at(-1), 1);
    const before = await held(from);
    assert.equal(before.rows.length, ROWS.length);
    assert.deepEqual(await held(to), before);
    const store = await to.store();
    for (const row of ROWS) assert.deepEqual(await store.get(row.kind, row.id), row);
    await store.close();
    // The same bytes give the same hash, whatever the database.
    assert.deepEqual(await copied(to, await KINDS[kind]!(t)), tables);
  });
}

for (const kind of Object.keys(KINDS)) {
  test(`an empty ${kind} is copied as well`, async (t) => {
    const [from, to] = [await KINDS[kind]!(t), await KINDS[kind]!(t)];
    assert.deepEqual(countsOf(await copied(from, to)), NONE);
  });

  test(`a ${kind} that holds anything at all is not copied to`, async (t) => {
    const from = await KINDS.sqlite!(t);
    await filled(from);
    for (const table of TABLES) {
      const to = await KINDS[kind]!(t);
      const tables = await to.tables();
      const columns = await tables.columns(table);
      await tables.add(table, columns, [columns.map(() => '1')]);
      await tables.commit();
      await tables.close();
      const before = await held(to);
      await assert.rejects(
        copied(from, to),
        new CopyFailed(
          `The database to copy to is not empty (${table.name} has rows: 1). Nothing was copied; name a new one.`,
        ),
      );
      assert.deepEqual(await held(to), before);
    }
  });

  test(`what a ${kind} does not keep as it was sent is noticed, and nothing of it stays`, async (t) => {
    const from = await KINDS.sqlite!(t);
    await filled(from);
    const damage: Readonly<Record<string, (tables: Tables) => Partial<Tables>>> = {
      'a row is lost': (tables) => ({ add: (table, columns, rows) => tables.add(table, columns, rows.slice(1)) }),
      'a value is changed': (tables) => ({
        add: (table, columns, rows) =>
          tables.add(
            table,
            columns,
            rows.map((values) => values.map((value) => (value === 'row 599' ? 'row 59X' : value))),
          ),
      }),
      'it fails on the way': (tables) => ({
        add: async (table, columns, rows) => {
          if (table.name === 'idempotency') throw new CopyFailed('The wire was cut.');
          await tables.add(table, columns, rows);
        },
      }),
    };
    for (const [what, spoil] of Object.entries(damage)) {
      const to = await KINDS[kind]!(t);
      const source = await from.tables();
      const target = await to.tables();
      const methods = ['columns', 'count', 'page', 'add', 'commit', 'close'] as const;
      const own = Object.fromEntries(methods.map((name) => [name, target[name].bind(target)])) as unknown as Tables;
      await assert.rejects(copyTables(source, { ...own, ...spoil(own) }), CopyFailed, what);
      await target.close();
      await source.close();
      assert.deepEqual(countsOf(await copied(from, to)), COUNTS, what);
    }
  });

  test(`a column that only one ${kind} has is not left behind in silence`, async (t) => {
    const [from, to] = [await KINDS[kind]!(t), await KINDS[kind]!(t)];
    await filled(from);
    await from.run('ALTER TABLE resource ADD COLUMN extra TEXT');
    await assert.rejects(copied(from, to), /^CopyFailed: resource has other columns there .* than here \(.*extra/);
  });
}

test('a PostgreSQL database that anyone uses is not opened for copying, and nobody starts on it meanwhile', async () => {
  const url = await cluster.createDatabase();
  const server = await openPostgres({ url, now, connectionsMax: 1 });
  await server.get('thing', 'a');
  await assert.rejects(openPostgresTables({ url, now }), /A server or a command is using the database/);
  await server.close();
  const tables = await openPostgresTables({ url, now });
  await assert.rejects(openPostgresTables({ url: `${url}&x=1`, now }), /being started or copied .* or was named twice/);
  const state = { started: false };
  const starting = openPostgres({ url, now, connectionsMax: 1 }).then((store) => {
    state.started = true;
    return store;
  });
  await cluster.run(url, 'SELECT 1');
  assert.equal(state.started, false);
  await tables.close();
  await (await starting).close();
});

test('every table that a migration makes is copied, or is known not to be worth it', () => {
  const NOT_COPIED = [
    // Only stands for what it counts; made when it is first needed.
    'bound',
  ];
  const directory = new URL('../../src/store/migrations/', import.meta.url);
  const made = readdirSync(directory).flatMap((file) =>
    [...readFileSync(new URL(file, directory), 'utf8').matchAll(/CREATE TABLE IF NOT EXISTS (\w+)/g)].map(
      ([, name]) => name!,
    ),
  );
  assert.deepEqual(new Set(made), new Set([...TABLES.map(({ name }) => name), ...NOT_COPIED]));
});
