/**
 * An SQLite file as tables of plain values, for copying. Whoever opens it must hold the lock of its data directory; the
 * transaction that is open from the first to the last keeps commands out, which take no lock.
 */
import { DatabaseSync } from 'node:sqlite';
import { columnsSql, countRowsSql, insertRowsSql, pageSql } from './sql.ts';
import { openSqlite } from './sqlite.ts';
import { numbered } from './sqlite-statements.ts';
import { CopyFailed, type Table, type Tables, type Values } from './tables.ts';

const BUSY_TIMEOUT_MS = 2_000;

export interface SqliteTablesOptions {
  readonly path: string;
  readonly now: () => number;
}

/** Makes the file where there is none. */
export async function openSqliteTables(options: SqliteTablesOptions): Promise<Tables> {
  // Brings it up to date.
  await openSqlite(options).close();
  const database = new DatabaseSync(options.path);
  try {
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA synchronous = FULL; BEGIN IMMEDIATE`);
  } catch (error) {
    database.close();
    throw error;
  }
  return new SqliteTables(database);
}

class SqliteTables implements Tables {
  readonly #database: DatabaseSync;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  async columns(table: Table): Promise<readonly string[]> {
    return this.#prepared(columnsSql(table.name))
      .columns()
      .map(({ name }) => name);
  }

  async count(table: Table): Promise<number> {
    return (this.#all(countRowsSql(table.name))[0] as [number])[0];
  }

  async page(table: Table, columns: readonly string[], after: Values | undefined, limit: number) {
    return this.#all(pageSql(table, columns, after !== undefined), [...(after ?? []), limit]);
  }

  async add(table: Table, columns: readonly string[], rows: readonly Values[]): Promise<void> {
    orGivenUp(() => this.#prepared(insertRowsSql(table.name, columns, rows.length)).run(...rows.flat()));
  }

  async commit(): Promise<void> {
    orGivenUp(() => this.#database.exec('COMMIT'));
  }

  /** SQLite undoes what it had begun. */
  async close(): Promise<void> {
    this.#database.close();
  }

  #all(text: string, params: Values = []): readonly Values[] {
    return orGivenUp(() => this.#prepared(text).all(...params)) as unknown as readonly Values[];
  }

  #prepared(text: string) {
    const statement = this.#database.prepare(numbered(text));
    statement.setReturnArrays(true);
    return statement;
  }
}

/** A full disk, mostly. */
function orGivenUp<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_SQLITE_ERROR') throw error;
    throw new CopyFailed(`The database gave up: ${(error as Error).message}. Nothing was copied.`);
  }
}
