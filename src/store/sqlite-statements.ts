/**
 * The statements of sql.ts on one SQLite connection, each prepared once. It decides nothing: what a statement is for, and
 * what may stand between two of them, is for whoever asks.
 */
import type { DatabaseSync, SQLOutputValue, StatementSync } from 'node:sqlite';
import type { Param } from './rows.ts';
import { inDialect, SQLITE } from './sql.ts';

type Values = SQLOutputValue[];

/** `$1` would be a name to SQLite; `?1` is the same parameter bound by position, at half the cost. */
export function numbered(text: string): string {
  return inDialect(text, SQLITE).replace(/\$(\d+)/g, '?$1');
}

export class SqliteStatements {
  readonly #database: DatabaseSync;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  /** The first row that it finds. */
  first(text: string, params: readonly Param[]): Values | undefined {
    return this.#statement(text).get(...params) as Values | undefined;
  }

  all(text: string, params: readonly Param[]): Values[] {
    return this.#statement(text).all(...params) as unknown as Values[];
  }

  /** Rows changed. */
  change(text: string, params: readonly Param[]): number {
    return this.#statement(text).run(...params).changes as number;
  }

  /** A statement about the transaction. */
  control(text: string): void {
    this.#statement(text).run();
  }

  get inTransaction(): boolean {
    return this.#database.isTransaction;
  }

  close(): void {
    this.#prepared.clear();
    this.#database.close();
  }

  #statement(text: string): StatementSync {
    let statement = this.#prepared.get(text);
    if (!statement) {
      statement = this.#database.prepare(numbered(text));
      statement.setReturnArrays(true);
      this.#prepared.set(text, statement);
    }
    return statement;
  }
}
