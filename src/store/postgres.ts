/**
 * The store for several servers at once: one PostgreSQL database (13 or newer), used through a pool of connections.
 *
 * A batch is one READ COMMITTED transaction of two round trips: its statements go out together, and the commit follows
 * when each has found what it expects. Nothing else may be awaited in between. Guards hold among processes because every
 * statement locks what it relies on: changed rows by their change, a `require` its row for share, a `fewer` the row of
 * `bound` that stands for what it counts. Nothing that was read is kept: other processes write without telling.
 *
 * CockroachDB and YugabyteDB have not been tried. The statements keep to what both document; they would need
 * READ COMMITTED switched on (elsewhere every guard still holds, at the price of more repeats), and, to migrate and to be
 * copied, a lock of another kind: `pg_advisory_xact_lock` is missing or an empty gesture in the one, and new in the other,
 * which refuses it before. Where LISTEN is refused, as in the one always and in the other unless it is switched on, no
 * NOTIFY is sent, and servers find each other's work by looking.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, DatabaseError, Pool, type PoolClient, type QueryArrayResult } from 'pg';
import { ServiceError } from '../errors.ts';
import { BatchOrder } from './batch-order.ts';
import { pendingMigrations } from './migrate.ts';
import { withStrictTls } from './postgres-address.ts';
import { refusesToListen } from './postgres-wakes.ts';
import { auditParams, insertParams, mergePages, type Param, toAuditLine, toRow, updateParams } from './rows.ts';
import { auditSql, countSql, fewerSql, inDialect, listSql, POSTGRES, SQL } from './sql.ts';
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

/** A statement that takes longer is ended by the database: it waits for a lock, or something is badly wrong. */
const STATEMENT_MS = 10_000;
/** How much later a connection is given up whose server does not even say that it ended the statement. */
const SILENCE_MS = 5_000;
/** For a connection to be made or to become free. */
const CONNECT_MS = 5_000;
/** For one statement of a migration, or for another process's migrations to end. */
const MIGRATION_MS = 600_000;
/** Operations that may be under way or wait. More than this is overload, and refused. */
const RUNNING_MAX = 4_096;
/** Collisions with other transactions after which an operation is given up. */
const ATTEMPTS_MAX = 6;
const COLLISION_PAUSE_MS = 20;

/** SQLSTATEs, from the manual's appendix A. */
const UNIQUE_VIOLATION = '23505';
const COLLISIONS = ['40001', '40P01'];
const INT8 = 20;

type Values = unknown[];
type Result = QueryArrayResult<Values>;

export interface PostgresOptions {
  /** May hold a password: it must never reach a message. */
  readonly url: string;
  readonly now: () => number;
  readonly connectionsMax: number;
  readonly statementMs?: number;
  readonly connectMs?: number;
}

interface Statement {
  readonly text: string;
  readonly params: readonly Param[];
}

/** A statement of a batch, and what must have come of it. */
interface Step extends Statement {
  readonly write: Write;
  readonly holds: (result: Result) => boolean;
  /** Whether its rows count as changed. */
  readonly changes: boolean;
}

/** @throws Error when the database cannot be reached, or is not one for this version. */
export async function openPostgres(options: PostgresOptions): Promise<Store> {
  try {
    const { knowsNotify } = await migrate(options);
    return new PostgresStore(createPool(options), knowsNotify ? options.now : undefined);
  } catch (error) {
    throw new Error(reasonOf(error));
  }
}

/**
 * In one transaction and under a lock, so that of many processes that start at once one does it and the others wait.
 * @returns whether the server knows NOTIFY, which would otherwise fail the batch that it is part of.
 */
async function migrate({ url, now, connectMs = CONNECT_MS }: PostgresOptions): Promise<{ knowsNotify: boolean }> {
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

function createPool({
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

class PostgresStore implements Store {
  readonly #pool: Pool;
  readonly #order = new BatchOrder();
  readonly #names = new Map<string, string>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #dueNow: (() => number) | undefined;
  #closing: Promise<void> | undefined;

  /** @param dueNow the time by which a row is due that others shall hear of; absent where nobody could hear. */
  constructor(pool: Pool, dueNow: (() => number) | undefined) {
    this.#pool = pool;
    this.#dueNow = dueNow;
  }

  async get(kind: string, id: string): Promise<Row | undefined> {
    const [result] = await this.#read([{ text: SQL.get, params: [kind, id] }]);
    return result!.rows.map(toRow)[0];
  }

  async list(query: ListQuery): Promise<readonly Row[]> {
    const pages = await this.#read((query.studioIds ?? [undefined]).map((studioId) => listSql(query, studioId)));
    const rows = pages.map((page) => page.rows.map(toRow));
    return rows.length === 1 ? rows[0]! : mergePages(rows, query.limit);
  }

  async count(query: RowQuery & { readonly limit: number }): Promise<number> {
    const counts = await this.#read((query.studioIds ?? [undefined]).map((studioId) => countSql(query, studioId)));
    const total = counts.reduce((sum, count) => sum + countOf(count), 0);
    return Math.min(query.limit, total);
  }

  async token(key: string): Promise<TokenRow | undefined> {
    const [result] = await this.#read([{ text: SQL.token, params: [key] }]);
    const [values] = result!.rows;
    if (!values) return undefined;
    const [, digest, kind, id, expiresAt] = values as [string, string, string, string, number];
    return { key, digest, kind, id, expiresAt };
  }

  async audit(query: AuditQuery): Promise<readonly AuditLine[]> {
    const [result] = await this.#read([auditSql(query)]);
    return result!.rows.map(toAuditLine);
  }

  lease({ kind, state, now, until, limit }: LeaseQuery): Promise<readonly Row[]> {
    const params = [kind, state, now, until, limit];
    return this.#run('change', async () => {
      const [result] = await this.#ask([{ text: SQL.lease, params }]);
      return result!.rows.map(toRow);
    });
  }

  write(batch: readonly Write[]): Promise<number> {
    const steps = batch.flatMap(stepsOf);
    if (steps.length === 0) return Promise.resolve(0);
    steps.push(...tellingSteps(batch, this.#dueNow?.()));
    return this.#run('change', () => this.#order.take(batch, () => repeated(() => this.#transaction(steps))));
  }

  close(): Promise<void> {
    this.#closing ??= Promise.allSettled(this.#running).then(() => this.#pool.end());
    return this.#closing;
  }

  #read(statements: readonly Statement[]): Promise<Result[]> {
    return this.#run('read', () => this.#ask(statements));
  }

  /** What every operation goes through: the bound, the wait of `close`, and errors as the caller may hear them. */
  #run<T>(what: 'read' | 'change', work: () => Promise<T>): Promise<T> {
    if (this.#closing) return Promise.reject(new Error('the store is closed'));
    if (this.#running.size >= RUNNING_MAX) {
      return Promise.reject(
        new ServiceError('ThrottlingException', 'Too many requests at once. Try again in a moment.', {
          code: 'STORE_BUSY',
          retryAfterSeconds: 1,
        }),
      );
    }
    const running = work()
      .catch((error) => {
        throw storeFailure(error, what);
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    return running;
  }

  /** Statements that each stand for themselves, in one round trip. */
  #ask(statements: readonly Statement[]): Promise<Result[]> {
    return repeated(async () => {
      const client = await this.#pool.connect();
      const sent = statements.map(({ text, params }) => this.#send(client, text, params));
      const outcomes = await Promise.allSettled(sent);
      const failed = outcomes.find(({ status }) => status === 'rejected');
      // Whatever failed, the connection may have: a new one costs less than finding out.
      client.release(failed !== undefined);
      return Promise.all(sent);
    });
  }

  /** The batch or nothing of it, durable when the promise resolves. */
  async #transaction(steps: readonly Step[]): Promise<number> {
    const client = await this.#pool.connect();
    try {
      const begun = client.query('BEGIN');
      const sent = steps.map(({ text, params }) => this.#send(client, text, params));
      const [beginning, ...outcomes] = await Promise.allSettled([begun, ...sent]);
      if (beginning.status === 'rejected') throw beginning.reason;
      const changed = changedBy(steps, outcomes as PromiseSettledResult<Result>[]);
      await commit(client);
      client.release();
      return changed;
    } catch (error) {
      // Where even that fails, the connection goes, and the database undoes what it had begun.
      await client.query('ROLLBACK').then(
        () => client.release(),
        () => client.release(true),
      );
      throw error;
    }
  }

  /** Prepared once for each connection, under a name that stands for the text. */
  #send(client: PoolClient, text: string, params: readonly Param[]): Promise<Result> {
    let name = this.#names.get(text);
    if (!name) {
      name = `s${this.#names.size}`;
      this.#names.set(text, name);
    }
    const values = params.map((param) => (typeof param === 'string' ? toText(param) : param));
    return client.query<Values>({ name, text: inDialect(text, POSTGRES), values, rowMode: 'array' });
  }
}

/** Which statements a write comes to. */
function stepsOf(write: Write): Step[] {
  const one = (text: string, params: readonly Param[]): Step => {
    return { write, text, params, holds: ({ rowCount }) => rowCount === 1, changes: true };
  };
  switch (write.op) {
    case 'insert':
      return [one(SQL.insert, insertParams(write.row))];
    case 'update':
      return [one(SQL.update, updateParams(write.row))];
    case 'delete':
      return [one(SQL.delete, [write.kind, write.id, write.version])];
    case 'require':
      return [{ ...one(SQL.require, [write.kind, write.id, write.state]), changes: false }];
    case 'fewer': {
      const { kind, studioId, limit } = write;
      const { text, params } = fewerSql(write);
      const count = one(text, params);
      return [
        { ...one(SQL.lockBound, [kind, studioId]), changes: false },
        { ...count, holds: (result) => countOf(result) < limit, changes: false },
      ];
    }
    case 'token': {
      const { key, digest, kind, id, expiresAt } = write.token;
      return [one(SQL.putToken, [key, digest, kind, id, expiresAt, write.now])];
    }
    case 'forget':
      return [{ ...one(SQL.forgetTokens, [write.now, write.limit]), holds: () => true }];
    case 'audit':
      return [{ ...one(SQL.addAudit, auditParams(write.line)), holds: () => true, changes: false }];
    case 'forgetAudit':
      return [{ ...one(SQL.forgetAudit, [write.before, write.limit]), holds: () => true }];
  }
}

/**
 * Tells other servers, with the commit, of a row that is due. Not of one that will be, as after every renewal of a lease:
 * transactions that tell commit one after another in the whole cluster.
 */
function tellingSteps(batch: readonly Write[], now = Number.NEGATIVE_INFINITY): Step[] {
  const write = batch.find(
    (one) => (one.op === 'insert' || one.op === 'update') && one.row.dueAt !== null && one.row.dueAt <= now,
  );
  return write ? [{ write, text: SQL.tellDue, params: [], holds: () => true, changes: false }] : [];
}

/** Rows changed. @throws GuardFailed, or what the database said, of the first statement that did not do as expected. */
function changedBy(steps: readonly Step[], outcomes: readonly PromiseSettledResult<Result>[]): number {
  let changed = 0;
  steps.forEach(({ write, holds, changes }, index) => {
    const outcome = outcomes[index]!;
    if (outcome.status === 'rejected') throw isTaken(outcome.reason) ? new GuardFailed(write) : outcome.reason;
    if (!holds(outcome.value)) throw new GuardFailed(write);
    if (changes) changed += outcome.value.rowCount!;
  });
  return changed;
}

async function commit(client: PoolClient): Promise<void> {
  try {
    await client.query('COMMIT');
  } catch (error) {
    // Only a refusal says what became of it; a connection that ends now may have ended before the commit or after it.
    if (isCollision(error)) throw error;
    throw new ServiceError(
      'InternalServerErrorException',
      'The database was lost while the change was stored: it may be stored or not. Look before you try again.',
      { code: 'STORE_OUTCOME_UNKNOWN', inward: reasonOf(error) },
    );
  }
}

/** Tries again what the database has undone because of another transaction: that is its right, and nobody's fault. */
async function repeated<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= ATTEMPTS_MAX || !isCollision(error)) throw error;
      await delay(Math.random() * attempt * COLLISION_PAUSE_MS);
    }
  }
}

function isCollision(error: unknown): boolean {
  return error instanceof DatabaseError && COLLISIONS.includes(error.code ?? '');
}

/** A unique name that is taken: the caller's to know, unlike a full disk. */
function isTaken(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === UNIQUE_VIOLATION;
}

function countOf({ rows }: Result): number {
  return rows[0]![0] as number;
}

export function parserOf(oid: number): (text: string) => unknown {
  return oid === INT8 ? Number : fromText;
}

/**
 * PostgreSQL's text has no NUL. It is written as two characters, and the one it begins with as two others, such that texts
 * sort as before; nothing that the API stores holds either.
 */
export function toText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  return /[\0\x01]/.test(text) ? text.replaceAll('\x01', '\x01\x02').replaceAll('\0', '\x01\x01') : text;
}

function fromText(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about
  return text.includes('\x01') ? text.replace(/\x01[\x01\x02]/g, (two) => (two === '\x01\x01' ? '\0' : '\x01')) : text;
}

/** What the caller hears when the database refuses or is away. The reason is for the log, without what rows hold. */
function storeFailure(error: unknown, what: 'read' | 'change'): unknown {
  if (error instanceof ServiceError || error instanceof GuardFailed) return error;
  const message =
    what === 'change'
      ? 'The change could not be stored. Nothing was changed.'
      : 'The database does not answer. Try again in a moment.';
  return new ServiceError('InternalServerErrorException', message, {
    code: 'STORE_UNAVAILABLE',
    inward: reasonOf(error),
  });
}

/** An address with several machines behind it fails with an error of several, which says nothing itself. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ');
  if (!(error instanceof Error)) return String(error);
  return error instanceof DatabaseError ? `${error.code}: ${error.message}` : error.message;
}

function unheard(): void {}
