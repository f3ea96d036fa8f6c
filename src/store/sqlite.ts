/**
 * The embedded store: one SQLite file in WAL mode, every commit synced to disk before it is acknowledged.
 *
 * Writes that arrive together share a transaction: a batch whose guard fails is undone alone, and
 * nobody is answered before the COMMIT. Between BEGIN and COMMIT there must never be an `await`: another request would
 * join the transaction. What was read is kept ready for as long as `data_version` says that no other process has written
 * since; our own writes replace it.
 */
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { ServiceError } from '../errors.ts';
import { type Migration, pendingMigrations } from './migrate.ts';
import { RowCache } from './row-cache.ts';
import { auditParams, insertParams, mergePages, type Param, toAuditLine, toRow, updateParams } from './rows.ts';
import { auditSql, countSql, fewerSql, inDialect, listSql, type Prepared, SQL, SQLITE } from './sql.ts';
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
/** Batches that may wait for one commit. More than this is overload, and refused. */
const PENDING_MAX = 4_096;
/** Turns of the event loop that a batch waits for others at most: far less time than the commit takes. */
const GATHER_TURNS_MAX = 8;

type Values = SQLOutputValue[];

/** A batch that waits for the next commit. */
interface Pending {
  /** Whether it could fail after it has changed something, and so needs a savepoint. */
  readonly undoable: boolean;
  readonly run: () => unknown;
  /** Rows as the batch leaves them, given what it returned; undefined for deleted ones. */
  readonly wrote: (value: never) => readonly WrittenRow[];
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

interface WrittenRow {
  readonly kind: string;
  readonly id: string;
  readonly row: Row | undefined;
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

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

/** `$1` would be a name to SQLite; `?1` is the same parameter bound by position, at half the cost. */
export function numbered(text: string): string {
  return inDialect(text, SQLITE).replace(/\$(\d+)/g, '?$1');
}

class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #turn: () => number | undefined;
  readonly #cache = new RowCache();
  #seenDataVersion: SQLOutputValue = -1;
  #lookedInTurn: number | undefined;
  #pending: Pending[] = [];
  #closed = false;

  constructor(database: DatabaseSync, turn: () => number | undefined = () => undefined) {
    this.#database = database;
    this.#turn = turn;
  }

  async get(kind: string, id: string): Promise<Row | undefined> {
    this.#forgetIfOthersWrote();
    const cached = this.#cache.row(kind, id);
    if (cached) return cached;
    const values = this.#first(SQL.get, [kind, id]);
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
      total += this.#first(text, params)![0] as number;
    }
    return Math.min(query.limit, total);
  }

  async token(key: string): Promise<TokenRow | undefined> {
    const values = this.#first(SQL.token, [key]);
    if (!values) return undefined;
    const [, digest, kind, id, expiresAt] = values as [string, string, string, string, number];
    return { key, digest, kind, id, expiresAt };
  }

  async audit(query: AuditQuery): Promise<readonly AuditLine[]> {
    const { text, params } = auditSql(query);
    return this.#all(text, params).map(toAuditLine);
  }

  async lease({ kind, state, now, until, limit }: LeaseQuery): Promise<readonly Row[]> {
    // Nearly always nothing is due: a look costs a fraction of a write transaction, and waits for no commit.
    if (!this.#closed && !this.#first(SQL.anyDue, [kind, state, now])) return [];
    return this.#enqueue<readonly Row[]>({
      undoable: false,
      run: () => this.#all(SQL.lease, [kind, state, now, until, limit]).map(toRow),
      wrote: (rows) => rows.map((row) => ({ kind: row.kind, id: row.id, row })),
    });
  }

  write(batch: readonly Write[]): Promise<number> {
    return this.#enqueue<number>({
      undoable: isUndoable(batch),
      run: () => {
        let changed = 0;
        for (const write of batch) changed += this.#perform(write);
        return changed;
      },
      wrote: () => batch.flatMap(writtenRow),
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#statements.clear();
    this.#database.close();
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
        if (this.#first(SQL.require, [write.kind, write.id, write.state])) return 0;
        throw new GuardFailed(write);
      case 'fewer': {
        const { text, params } = fewerSql(write);
        const counted = this.#first(text, params);
        if ((counted![0] as number) < write.limit) return 0;
        throw new GuardFailed(write);
      }
      case 'token': {
        const { key, digest, kind, id, expiresAt } = write.token;
        return this.#changeOne(write, SQL.putToken, [key, digest, kind, id, expiresAt, write.now]);
      }
      case 'forget':
        return this.#change(SQL.forgetTokens, [write.now, write.limit]);
      case 'audit':
        this.#change(SQL.addAudit, auditParams(write.line));
        return 0;
      case 'forgetAudit':
        return this.#change(SQL.forgetAudit, [write.before, write.limit]);
    }
  }

  #changeOne(write: Write, text: string, params: readonly Param[]): 1 {
    try {
      if (this.#change(text, params) === 1) return 1;
    } catch (error) {
      if (!isTaken(error)) throw error;
    }
    throw new GuardFailed(write);
  }

  #enqueue<T>(batch: { undoable: boolean; run: () => T; wrote: (value: T) => readonly WrittenRow[] }): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the store is closed'));
      if (this.#pending.length >= PENDING_MAX) {
        return reject(
          new ServiceError('ThrottlingException', 'Too many writes at once. Try again in a moment.', {
            code: 'STORE_BUSY',
            retryAfterSeconds: 1,
          }),
        );
      }
      if (this.#pending.push({ ...batch, resolve, reject } as Pending) === 1) this.#gather(0, GATHER_TURNS_MAX);
    });
  }

  /** Commits as soon as a turn of the event loop brings no further batch: one commit for all costs little more than one. */
  #gather(gathered: number, turnsLeft: number): void {
    setImmediate(() => {
      const { length } = this.#pending;
      if (length > gathered && turnsLeft > 0) this.#gather(length, turnsLeft - 1);
      else this.#flush();
    });
  }

  /** One transaction for all that waits; synchronous from BEGIN to COMMIT. */
  #flush(): void {
    const group = this.#pending;
    if (group.length === 0) return;
    this.#pending = [];
    let outcomes: Outcome[];
    try {
      this.#control('BEGIN IMMEDIATE');
      outcomes = group.map((pending) => (pending.undoable ? this.#inSavepoint(pending) : outcomeOf(pending)));
      this.#control('COMMIT');
    } catch (error) {
      this.#rollback();
      for (const { reject } of group) reject(storeFailure(error));
      return;
    }
    this.#keepWritten(group, outcomes);
    group.forEach(({ resolve, reject }, index) => {
      const outcome = outcomes[index]!;
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.value as never);
    });
  }

  /** Runs one batch so that its failure undoes it alone. */
  #inSavepoint(pending: Pending): Outcome {
    this.#control('SAVEPOINT batch');
    const outcome = outcomeOf(pending);
    if ('error' in outcome) this.#control('ROLLBACK TO batch');
    this.#control('RELEASE batch');
    return outcome;
  }

  /** Keeps what is now committed, so that the next read costs nothing. Pages that it could be part of are forgotten. */
  #keepWritten(group: readonly Pending[], outcomes: readonly Outcome[]): void {
    const kinds = new Set<string>();
    group.forEach(({ wrote }, index) => {
      const outcome = outcomes[index]!;
      if ('error' in outcome) return;
      for (const { kind, id, row } of wrote(outcome.value as never)) {
        kinds.add(kind);
        if (row) this.#cache.keepRow(row);
        else this.#cache.forgetRow(kind, id);
      }
    });
    this.#cache.forgetPages(kinds);
  }

  #rollback(): void {
    try {
      if (this.#database.isTransaction) this.#control('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }

  #forgetIfOthersWrote(): void {
    const turn = this.#turn();
    if (turn !== undefined && turn === this.#lookedInTurn) return;
    this.#lookedInTurn = turn;
    const seen = this.#first('PRAGMA data_version', [])![0]!;
    if (seen === this.#seenDataVersion) return;
    this.#seenDataVersion = seen;
    this.#cache.clear();
  }

  #page({ text, params }: Prepared): Row[] {
    return this.#all(text, params).map(toRow);
  }

  #statement(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#database.prepare(numbered(text));
      statement.setReturnArrays(true);
      this.#statements.set(text, statement);
    }
    return statement;
  }

  #first(text: string, params: readonly Param[]): Values | undefined {
    return this.#statement(text).get(...params) as Values | undefined;
  }

  #all(text: string, params: readonly Param[]): Values[] {
    return this.#statement(text).all(...params) as unknown as Values[];
  }

  /** Rows changed. */
  #change(text: string, params: readonly Param[]): number {
    return this.#statement(text).run(...params).changes as number;
  }

  #control(text: string): void {
    this.#statement(text).run();
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

/** What a batch came to. What the database itself refuses (a full disk) fails the whole transaction, and is thrown. */
function outcomeOf({ run }: Pending): Outcome {
  try {
    return { value: run() };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_SQLITE_ERROR') throw error;
    return { error };
  }
}

/** A unique name that is taken: the caller's to know, unlike a full disk. */
function isTaken(error: unknown): boolean {
  const SQLITE_CONSTRAINT_UNIQUE = 2067;
  return (error as { errcode?: number }).errcode === SQLITE_CONSTRAINT_UNIQUE;
}

function writtenRow(write: Write): WrittenRow[] {
  if (write.op === 'insert' || write.op === 'update')
    return [{ kind: write.row.kind, id: write.row.id, row: write.row }];
  return write.op === 'delete' ? [{ kind: write.kind, id: write.id, row: undefined }] : [];
}

/** What the caller hears when the database refuses: nothing was changed. The reason is for the log. */
function storeFailure(error: unknown): unknown {
  if (error instanceof ServiceError) return error;
  return new ServiceError('InternalServerErrorException', 'The change could not be stored. Nothing was changed.', {
    code: 'STORE_UNAVAILABLE',
    inward: error instanceof Error ? error.message : String(error),
    cause: error,
  });
}
