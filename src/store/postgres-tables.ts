/**
 * A PostgreSQL database as tables of plain values, for copying. From its opening to its end it holds the lock that servers
 * take to start, and it is not opened while one runs: nobody can write beside it, and what was copied stays all there is.
 */
import { Client, type QueryArrayResult } from 'pg';
import { openPostgres } from './postgres.ts';
import { withStrictTls } from './postgres-address.ts';
import { reasonOf } from './postgres-failures.ts';
import { parserOf, toValue } from './postgres-values.ts';
import { columnsSql, countRowsSql, insertRowsSql, pageSql, SQL } from './sql.ts';
import { CopyFailed, type Table, type Tables, type Values } from './tables.ts';

const CONNECT_MS = 5_000;
/** For one statement, or for the other database to be read or written in between. */
const STATEMENT_MS = 600_000;
/** How much later a server is given up that does not even say that it ended the statement. */
const SILENCE_MS = 5_000;

export interface PostgresTablesOptions {
  /** May hold a password: it must never reach a message. */
  readonly url: string;
  readonly now: () => number;
}

/** @throws CopyFailed when a server runs on it. @throws Error when it cannot be reached, or is not one for this version. */
export async function openPostgresTables({ url, now }: PostgresTablesOptions): Promise<Tables> {
  const client = new Client({
    connectionString: withStrictTls(url),
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: STATEMENT_MS + SILENCE_MS,
    keepAlive: true,
    types: { getTypeParser: parserOf },
  });
  client.on('error', () => undefined);
  await client.connect();
  const tables = new PostgresTables(client);
  try {
    await tables.lock();
    await tables.unlock();
    // Brings it up to date, under the same lock: had we not asked for it, a database that is named twice would be waited
    // for without end.
    await (await openPostgres({ url, now, connectionsMax: 1 })).close();
    await tables.lock();
    await tables.begin();
  } catch (error) {
    await tables.close();
    throw error;
  }
  return tables;
}

class PostgresTables implements Tables {
  readonly #client: Client;

  constructor(client: Client) {
    this.#client = client;
  }

  async lock(): Promise<void> {
    const [held] = await this.#all(SQL.tryLockDatabase);
    if (!held)
      throw new CopyFailed(
        'The database is being started or copied by another process, or was named twice. Nothing was copied.',
      );
  }

  async unlock(): Promise<void> {
    await this.#ask(SQL.unlockDatabase);
  }

  async begin(): Promise<void> {
    await this.#client.query(`SET statement_timeout = ${STATEMENT_MS}; SET synchronous_commit = on;
      SET idle_in_transaction_session_timeout = ${STATEMENT_MS}`);
    const [[servers]] = (await this.#all(SQL.countServers)) as [[number]];
    if (servers > 0)
      throw new CopyFailed('A server or a command is using the database. Nothing was copied; stop every server first.');
    await this.#client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  }

  async columns(table: Table): Promise<readonly string[]> {
    return (await this.#ask(columnsSql(table.name))).fields.map(({ name }) => name);
  }

  async count(table: Table): Promise<number> {
    return ((await this.#all(countRowsSql(table.name)))[0] as [number])[0];
  }

  page(table: Table, columns: readonly string[], after: Values | undefined, limit: number) {
    return this.#all(pageSql(table, columns, after !== undefined), [...(after ?? []), limit]);
  }

  async add(table: Table, columns: readonly string[], rows: readonly Values[]): Promise<void> {
    await this.#ask(insertRowsSql(table.name, columns, rows.length), rows.flat());
  }

  async commit(): Promise<void> {
    try {
      await this.#client.query('COMMIT');
    } catch (error) {
      throw new CopyFailed(
        `The database was lost while the copy was stored (${reasonOf(error)}). Run this again: if the database to copy to ` +
          'is then not empty, all of it was stored.',
      );
    }
  }

  /** The database undoes what it had begun. */
  async close(): Promise<void> {
    await this.#client.end();
  }

  async #all(text: string, params: Values = []): Promise<readonly Values[]> {
    return (await this.#ask(text, params)).rows as unknown as readonly Values[];
  }

  #ask(text: string, params: Values = []): Promise<QueryArrayResult<unknown[]>> {
    const values = params.map(toValue);
    return this.#client.query<unknown[]>({ text, values, rowMode: 'array' }).catch((error: unknown) => {
      throw new CopyFailed(`The database gave up: ${reasonOf(error)}. Nothing was copied.`);
    });
  }
}
