/**
 * How this process comes to its connections with PostgreSQL: brings the database up to date on one, and keeps a pool of
 * others that are all set the same way, whatever the server's defaults are. What is done on them is for postgres.ts to say.
 * Nothing here may put the address, which can hold a password, into a message.
 */
import { Client, Pool } from 'pg';
import { pendingMigrations } from './migrate.ts';
import { withStrictTls } from './postgres-address.ts';
import { parserOf } from './postgres-values.ts';
import { refusesToListen } from './postgres-wakes.ts';
import { inDialect, POSTGRES, SQL } from './sql.ts';

/** A statement that takes longer is ended by the database: it waits for a lock, or something is badly wrong. */
const STATEMENT_MS = 10_000;
/** How much later a connection is given up whose server does not even say that it ended the statement. */
const SILENCE_MS = 5_000;
/** For a connection to be made or to become free. */
const CONNECT_MS = 5_000;
/** For one statement of a migration, or for another process's migrations to end. */
const MIGRATION_MS = 600_000;

export interface PostgresOptions {
  /** May hold a password: it must never reach a message. */
  readonly url: string;
  readonly now: () => number;
  readonly connectionsMax: number;
  readonly statementMs?: number;
  readonly connectMs?: number;
}

/**
 * In one transaction and under a lock, so that of many processes that start at once one does it and the others wait.
 * @returns whether the server knows NOTIFY, which would otherwise fail the batch that it is part of.
 */
export async function migrate({
  url,
  now,
  connectMs = CONNECT_MS,
}: PostgresOptions): Promise<{ knowsNotify: boolean }> {
  const client = new Client({
    connectionString: withStrictTls(url),
    connectionTimeoutMillis: connectMs,
    query_timeout: MIGRATION_MS + SILENCE_MS,
  });
  client.on('error', unheard);
  await client.connect();
  try {
    const { rows } = await client.query<{ server_encoding: string }>('SHOW server_encoding');
    const { server_encoding: encoding } = rows[0]!;
    if (encoding !== 'UTF8') throw new Error(`its encoding is ${encoding}; make one with: ENCODING 'UTF8'`);
    // Of this isolation, as it must see after the lock what others have done before it.
    await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL statement_timeout = ${MIGRATION_MS}`);
    await client.query(SQL.lockMigrations);
    await client.query(inDialect(SQL.createMigrationTable, POSTGRES));
    const applied = await client.query<{ name: string }>(SQL.migrations);
    const names = applied.rows.map(({ name }) => name);
    for (const { name, sql } of pendingMigrations(names, POSTGRES)) {
      await client.query(sql);
      await client.query(SQL.recordMigration, [name, now()]);
    }
    await client.query('COMMIT');
    return { knowsNotify: await takes(client, SQL.listenForDue) };
  } finally {
    // Where it was not committed, this undoes it.
    await client.end();
  }
}

async function takes(client: Client, statement: string): Promise<boolean> {
  try {
    await client.query(statement);
    return true;
  } catch (error) {
    if (refusesToListen(error)) return false;
    throw error;
  }
}

export function createPool({
  url,
  connectionsMax,
  statementMs = STATEMENT_MS,
  connectMs = CONNECT_MS,
}: PostgresOptions): Pool {
  const pool = new Pool({
    connectionString: withStrictTls(url),
    max: connectionsMax,
    pipeline: true,
    keepAlive: true,
    connectionTimeoutMillis: connectMs,
    query_timeout: statementMs + SILENCE_MS,
    types: { getTypeParser: parserOf },
    // Whatever the server's defaults are. A process that stops between a batch and its commit must not hold its locks for
    // ever, and nothing may be acknowledged that is not on disk. By the name a copy of the database sees who uses it.
    onConnect: (client) =>
      client.query(`SET statement_timeout = ${statementMs}; SET idle_in_transaction_session_timeout = ${statementMs};
        SET synchronous_commit = on; SET application_name = 'backlot'; SET default_transaction_isolation = 'read committed'`),
  });
  // A connection that dies while it is idle is replaced by the next use; one that dies in use fails what uses it.
  pool.on('error', unheard);
  pool.on('connect', (client) => client.on('error', unheard));
  return pool;
}

function unheard(): void {}
