/**
 * The embedded store: one SQLite file in WAL mode, every commit synced to disk before it is acknowledged.
 *
 * Writes that arrive within one turn of the event loop share a transaction, each in a savepoint of its own: a batch whose
 * guard fails is undone alone, and nobody is answered before the COMMIT. Between BEGIN and COMMIT there must never be an
 * `await`: another request would join the transaction. Rows that were read are kept ready as long as `data_version` says
 * that no other process has written since; our own writes replace them.
 */
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { ServiceError } from '../errors.ts';
import { migrations } from './migrate.ts';
import { countSql, inDialect, listSql, type Prepared, SQL, SQLITE } from './sql.ts';
import {
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
/** Rows kept ready. At about 1 KiB each this is tens of megabytes. */
const CACHED_ROWS_MAX = 20_000;

type Param = string | number | null;
type Record_ = Record<string, SQLOutputValue>;

interface Pending {
  readonly run: () => unknown;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

export interface SqliteOptions {
  readonly path: string;
  readonly now: () => number;
}

export function openSqlite(options: SqliteOptions): Store {
  const database = new DatabaseSync(options.path);
  try {
    // The page size only takes effect before the first table. Rows of about 1 KiB spill at the default of 4 KiB.
    database.exec(`PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS}; PRAGMA page_size = 16384; PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON; PRAGMA cache_size = -16384;
      PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 67108864`);
    migrate(database, options.now());
  } catch (error) {
    database.close();
    throw error;
  }
  return new SqliteStore(database);
}

function migrate(database: DatabaseSync, now: number): void {
  database.exec('BEGIN IMMEDIATE');
  database.exec(inDialect(SQL.createMigrationTable, SQLITE));
  const applied = new Set(
    database
      .prepare(SQL.migrations)
      .all()
      .map((row) => row.name),
  );
  const known = migrations(SQLITE);
  const unknown = [...applied].filter((name) => !known.some((migration) => migration.name === name));
  if (unknown.length > 0) {
    database.exec('ROLLBACK');
    throw new Error(`the database was written by a newer version (it has ${unknown.join(', ')}): upgrade this one`);
  }
  for (const migration of known.filter(({ name }) => !applied.has(name))) {
    database.exec(migration.sql);
    database.prepare(SQL.recordMigration).run({ 1: migration.name, 2: now });
  }
  database.exec('COMMIT');
}

class SqliteStore implements Store {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #rows = new Map<string, Row>();
  readonly #dataVersion: StatementSync;
  #seenDataVersion: SQLOutputValue = -1;
  #pending: Pending[] = [];
  #closed = false;

  constructor(database: DatabaseSync) {
    this.#database = database;
    this.#dataVersion = database.prepare('PRAGMA data_version');
  }

  async get(kind: string, id: string): Promise<Row | undefined> {
    this.#forgetIfOthersWrote();
    const key = cacheKey(kind, id);
    const cached = this.#rows.get(key);
    if (cached) return cached;
    const record = this.#first(SQL.get, [kind, id]);
    if (!record) return undefined;
    const row = toRow(record);
    this.#remember(key, row);
    return row;
  }

  async list(query: ListQuery): Promise<Row[]> {
    if (!query.studioIds) return this.#page(listSql(query, undefined));
    const pages = query.studioIds.map((studioId) => this.#page(listSql(query, studioId)));
    return pages.length === 1 ? pages[0]! : mergePages(pages, query.limit);
  }

  async count(query: RowQuery & { readonly limit: number }): Promise<number> {
    const counts = (query.studioIds ?? [undefined]).map((studioId) => {
      const { text, params } = countSql(query, studioId);
      return Number(this.#first(text, params)!.n);
    });
    return Math.min(
      query.limit,
      counts.reduce((total, n) => total + n, 0),
    );
  }

  async token(key: string): Promise<TokenRow | undefined> {
    const record = this.#first(SQL.token, [key]);
    if (!record) return undefined;
    return {
      key: record.token_key as string,
      digest: record.digest as string,
      kind: record.kind as string,
      id: record.id as string,
      expiresAt: record.expires_at as number,
    };
  }

  lease(query: LeaseQuery): Promise<Row[]> {
    return this.#enqueue(() => {
      const records = this.#all(SQL.lease, [query.kind, query.state, query.now, query.until, query.limit]);
      const rows = records.map(toRow);
      for (const row of rows) this.#rows.delete(cacheKey(row.kind, row.id));
      return rows;
    });
  }

  write(batch: readonly Write[]): Promise<number> {
    return this.#enqueue(() => {
      let changed = 0;
      for (const write of batch) changed += this.#perform(write);
      return changed;
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
        this.#rows.delete(cacheKey(write.row.kind, write.row.id));
        return this.#changeOne(write, SQL.update, updateParams(write.row));
      case 'delete':
        this.#rows.delete(cacheKey(write.kind, write.id));
        return this.#changeOne(write, SQL.delete, [write.kind, write.id, write.version]);
      case 'require':
        if (this.#first(SQL.require, [write.kind, write.id, write.state])) return 0;
        throw new GuardFailed(write);
      case 'fewer': {
        const counted = this.#first(SQL.fewer, [write.kind, write.studioId, write.stateNot, write.limit]);
        if (Number(counted!.n) < write.limit) return 0;
        throw new GuardFailed(write);
      }
      case 'token': {
        const { key, digest, kind, id, expiresAt } = write.token;
        return this.#changeOne(write, SQL.putToken, [key, digest, kind, id, expiresAt, write.now]);
      }
      case 'forget':
        return this.#change(SQL.forgetTokens, [write.now, write.limit]);
    }
  }

  #changeOne(write: Write, text: string, params: readonly Param[]): number {
    const changed = this.#change(text, params);
    if (changed !== 1) throw new GuardFailed(write);
    return changed;
  }

  #enqueue<T>(run: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Error('the store is closed'));
      if (this.#pending.length >= PENDING_MAX) {
        return reject(new ServiceError('ThrottlingException', 'Too many writes at once. Try again in a moment.'));
      }
      if (this.#pending.push({ run, resolve, reject }) === 1) setImmediate(() => this.#flush());
    });
  }

  /** One transaction for all that waits; synchronous from BEGIN to COMMIT. */
  #flush(): void {
    const group = this.#pending;
    if (group.length === 0) return;
    this.#pending = [];
    const outcomes: (() => void)[] = [];
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const pending of group) outcomes.push(this.#inSavepoint(pending));
      this.#database.exec('COMMIT');
    } catch (error) {
      this.#rollback();
      const failure = storeFailure(error);
      for (const { reject } of group) reject(failure);
      return;
    }
    for (const settle of outcomes) settle();
  }

  /** Runs one batch; a failed guard undoes it alone. Returns how to answer its caller once the commit has happened. */
  #inSavepoint({ run, resolve, reject }: Pending): () => void {
    this.#database.exec('SAVEPOINT batch');
    try {
      const value = run();
      this.#database.exec('RELEASE batch');
      return () => resolve(value as never);
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
      this.#database.exec('ROLLBACK TO batch; RELEASE batch');
      return () => reject(error);
    }
  }

  #rollback(): void {
    this.#rows.clear();
    try {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }

  #forgetIfOthersWrote(): void {
    const seen = this.#dataVersion.get()!.data_version!;
    if (seen === this.#seenDataVersion) return;
    this.#seenDataVersion = seen;
    this.#rows.clear();
  }

  #remember(key: string, row: Row): void {
    if (this.#rows.size >= CACHED_ROWS_MAX) this.#rows.clear();
    this.#rows.set(key, row);
  }

  #page({ text, params }: Prepared): Row[] {
    return this.#all(text, params).map(toRow);
  }

  #statement(text: string): StatementSync {
    let statement = this.#statements.get(text);
    if (!statement) {
      statement = this.#database.prepare(inDialect(text, SQLITE));
      this.#statements.set(text, statement);
    }
    return statement;
  }

  #first(text: string, params: readonly Param[]): Record_ | undefined {
    return this.#statement(text).get(named(params)) as Record_ | undefined;
  }

  #all(text: string, params: readonly Param[]): Record_[] {
    return this.#statement(text).all(named(params)) as Record_[];
  }

  /** Rows changed. */
  #change(text: string, params: readonly Param[]): number {
    return Number(this.#statement(text).run(named(params)).changes);
  }
}

/** `$1` is a name to SQLite, so parameters are bound by name and may repeat. */
function named(params: readonly Param[]): Record<number, Param> {
  const record: Record<number, Param> = {};
  for (let index = 0; index < params.length; index += 1) record[index + 1] = params[index]!;
  return record;
}

function cacheKey(kind: string, id: string): string {
  return `${kind}/${id}`;
}

function insertParams(row: Row): Param[] {
  return [
    row.kind,
    row.id,
    row.studioId,
    row.uniqueName,
    row.state,
    row.version,
    row.dueAt,
    row.attempts,
    row.createdAt,
    row.doc,
    row.private,
  ];
}

function updateParams(row: Row): Param[] {
  return [row.kind, row.id, row.uniqueName, row.state, row.version, row.dueAt, row.attempts, row.doc, row.private];
}

function toRow(record: Record_): Row {
  return {
    kind: record.kind as string,
    id: record.id as string,
    studioId: record.studio_id as string,
    uniqueName: record.unique_name as string | null,
    state: record.state as string,
    version: record.version as number,
    dueAt: record.due_at as number | null,
    attempts: record.attempts as number,
    createdAt: record.created_at as number,
    doc: record.doc as string,
    private: record.private as string,
  };
}

/** Pages that are each in list order, as one page in list order. */
export function mergePages(pages: readonly Row[][], limit: number): Row[] {
  return pages
    .flat()
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
    .slice(0, limit);
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
