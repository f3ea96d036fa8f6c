/**
 * The embedded store: one SQLite file in WAL mode, every commit synced to disk before it is acknowledged.
 *
 * It says which statements a read or a write comes to; which writes share a transaction is decided in sqlite-commits.ts.
 * What was read is kept ready for as long as `data_version` says that no other process has written since; our own writes
 * replace it. A write must never run outside of a commit, nor be kept before it.
 */
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite';
import { type Migration, pendingMigrations } from './migrate.ts';
import { RowCache } from './row-cache.ts';
import {
  auditParams,
  insertParams,
  mergePages,
  type Param,
  toAuditLine,
  tokenParams,
  toRow,
  toToken,
  updateParams,
} from './rows.ts';
import { auditSql, countSql, fewerSql, inDialect, listSql, type Prepared, SQL, SQLITE } from './sql.ts';
import { SqliteCommits, type WrittenRow } from './sqlite-commits.ts';
import { numbered, SqliteStatements } from './sqlite-statements.ts';
import {
  type AuditLine,
  type AuditQuery,
  GuardFailed,
  type LeaseQuery,
  type ListQuery,
  type Row,
  type RowQuery,
  type Store,
  type TokenRow,
  type Write,
} from './store.ts';

/** How long a statement waits for another process's write transaction; those of the command line last milliseconds. */
const BUSY_TIMEOUT_MS = 2_000;

export interface SqliteOptions {
  readonly path: string;
  readonly now: () => number;
  /** Name of the turn of the event loop, if one look for what other processes wrote may serve for all of it. */
  readonly turn?: () => number | undefined;
}

export function openSqlite(options: SqliteOptions): Store {
  const database = new DatabaseSync(options.path);
  try {
    // Small pages: a client token lands on a random page of its index, and a commit writes every page it touched whole.
    // What is mapped is the system's own cache of the file: it is read without a copy, and given up when memory is short.
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA page_size = 4096; PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384; PRAGMA mmap_size = 1073741824;
      PRAGMA journal_size_limit = 67108864`);
    migrate(database, options.now());
  } catch (error) {
    database.close();
    throw error;
  }
  return new SqliteStore(database, options.turn);
}

function migrate(database: DatabaseSync, now: number): void {
  database.exec('BEGIN IMMEDIATE');
  database.exec(inDialect(SQL.createMigrationTable, SQLITE));
  const rows = database.prepare(SQL.migrations).all();
  let pending: Migration[];
  try {
    pending = pendingMigrations(
      rows.map(({ name }) => name as string),
      SQLITE,
    );
  } catch (error) {
    database.exec('ROLLBACK');
    throw error;
  }
  for (const migration of pending) {
    for (const statement of migration.sql.split(/;$/m)) change(database, statement);
    database.prepare(numbered(SQL.recordMigration)).run(migration.name, now);
  }
  database.exec('COMMIT');
}

/** A statement of a migration. That a column is there already, which SQLite cannot be told to pass over, is as well. */
function change(database: DatabaseSync, statement: string): void {
  try {
    database.exec(statement);
  } catch (error) {
    if (!/^duplicate column name: /.test((error as Error).message)) throw error;
  }
}

class SqliteStore implements Store {
  readonly #statements: SqliteStatements;
  readonly #commits: SqliteCommits;
  readonly #turn: () => number | undefined;
  readonly #cache = new RowCache();
  #seenDataVersion: SQLOutputValue = -1;
  #lookedInTurn: number | undefined;

  constructor(database: DatabaseSync, turn: () => number | undefined = () => undefined) {
    this.#statements = new SqliteStatements(database);
    this.#commits = new SqliteCommits(this.#statements, (rows) => this.#keepWritten(rows));
    this.#turn = turn;
  }

  async get(kind: string, id: string): Promise<Row | undefined> {
    this.#forgetIfOthersWrote();
    const cached = this.#cache.row(kind, id);
    if (cached) return cached;
    const values = this.#statements.first(SQL.get, [kind, id]);
    if (!values) return undefined;
    const row = toRow(values);
    this.#cache.keepRow(row);
    return row;
  }

  async list(query: ListQuery): Promise<readonly Row[]> {
    this.#forgetIfOthersWrote();
    const key = JSON.stringify(query);
    const cached = this.#cache.page(key);
    if (cached) return cached;
    const pages = (query.studioIds ?? [undefined]).map((studioId) => this.#page(listSql(query, studioId)));
    const rows = pages.length === 1 ? pages[0]! : mergePages(pages, query.limit);
    this.#cache.keepPage(key, query.kind, rows);
    return rows;
  }

  async count(query: RowQuery & { readonly limit: number }): Promise<number> {
    let total = 0;
    for (const studioId of query.studioIds ?? [undefined]) {
      const { text, params } = countSql(query, studioId);
      total += this.#statements.first(text, params)![0] as number;
    }
    return Math.min(query.limit, total);
  }

  async token(key: string): Promise<TokenRow | undefined> {
    const values = this.#statements.first(SQL.token, [key]);
    return values && toToken(values);
  }

  async audit(query: AuditQuery): Promise<readonly AuditLine[]> {
    const { text, params } = auditSql(query);
    return this.#statements.all(text, params).map(toAuditLine);
  }

  async lease({ kind, state, now, until, limit }: LeaseQuery): Promise<readonly Row[]> {
    // Nearly always nothing is due: a look costs a fraction of a write transaction, and waits for no commit.
    if (!this.#commits.closed && !this.#statements.first(SQL.anyDue, [kind, state, now])) return [];
    return this.#commits.add<readonly Row[]>({
      undoable: false,
      run: () => this.#statements.all(SQL.lease, [kind, state, now, until, limit]).map(toRow),
      wrote: (leased, rows) => {
        for (const row of leased) rows.push({ kind: row.kind, id: row.id, row });
      },
    });
  }

  write(batch: readonly Write[]): Promise<number> {
    return this.#commits.add<number>({
      undoable: isUndoable(batch),
      run: () => {
        let changed = 0;
        for (const write of batch) changed += this.#perform(write);
        return changed;
      },
      wrote: (_changed, rows) => {
        for (const write of batch) addWritten(write, rows);
      },
    });
  }

  async close(): Promise<void> {
    if (this.#commits.closed) return;
    this.#commits.close();
    this.#statements.close();
  }

  /** Rows changed. @throws GuardFailed when the write did not find what it expected. */
  #perform(write: Write): number {
    switch (write.op) {
      case 'insert':
        return this.#changeOne(write, SQL.insert, insertParams(write.row));
      case 'update':
        return this.#changeOne(write, SQL.update, updateParams(write.row));
      case 'delete':
        return this.#changeOne(write, SQL.delete, [write.kind, write.id, write.version]);
      case 'require':
        if (this.#statements.first(SQL.require, [write.kind, write.id, write.state])) return 0;
        throw new GuardFailed(write);
      case 'fewer': {
        const { text, params } = fewerSql(write);
        const counted = this.#statements.first(text, params);
        if ((counted![0] as number) < write.limit) return 0;
        throw new GuardFailed(write);
      }
      case 'token':
        return this.#changeOne(write, SQL.putToken, tokenParams(write.token, write.now));
      case 'forget':
        return this.#statements.change(SQL.forgetTokens, [write.now, write.limit]);
      case 'audit':
        this.#statements.change(SQL.addAudit, auditParams(write.line));
        return 0;
      case 'forgetAudit':
        return this.#statements.change(SQL.forgetAudit, [write.before, write.limit]);
    }
  }

  #changeOne(write: Write, text: string, params: readonly Param[]): 1 {
    try {
      if (this.#statements.change(text, params) === 1) return 1;
    } catch (error) {
      if (!isTaken(error)) throw error;
    }
    throw new GuardFailed(write);
  }

  /** Keeps what is now committed, so that the next read costs nothing. Pages that it could be part of are forgotten. */
  #keepWritten(rows: readonly WrittenRow[]): void {
    const kinds = new Set<string>();
    for (const { kind, id, row } of rows) {
      kinds.add(kind);
      if (row) this.#cache.keepRow(row);
      else this.#cache.forgetRow(kind, id);
    }
    this.#cache.forgetPages(kinds);
  }

  #forgetIfOthersWrote(): void {
    const turn = this.#turn();
    if (turn !== undefined && turn === this.#lookedInTurn) return;
    this.#lookedInTurn = turn;
    const seen = this.#statements.first('PRAGMA data_version', [])![0]!;
    if (seen === this.#seenDataVersion) return;
    this.#seenDataVersion = seen;
    this.#cache.clear();
  }

  #page({ text, params }: Prepared): Row[] {
    return this.#statements.all(text, params).map(toRow);
  }
}

/** Whether a write can fail behind one that changes something. */
function isUndoable(batch: readonly Write[]): boolean {
  let changed = false;
  for (const { op } of batch) {
    const fails = op !== 'audit' && op !== 'forget' && op !== 'forgetAudit';
    if (changed && fails) return true;
    if (op !== 'require' && op !== 'fewer') changed = true;
  }
  return false;
}

/** A unique name that is taken: the caller's to know, unlike a full disk. */
function isTaken(error: unknown): boolean {
  const SQLITE_CONSTRAINT_UNIQUE = 2067;
  return (error as { errcode?: number }).errcode === SQLITE_CONSTRAINT_UNIQUE;
}

function addWritten(write: Write, rows: WrittenRow[]): void {
  if (write.op === 'insert' || write.op === 'update') {
    rows.push({ kind: write.row.kind, id: write.row.id, row: write.row });
  } else if (write.op === 'delete') {
    rows.push({ kind: write.kind, id: write.id, row: undefined });
  }
}
