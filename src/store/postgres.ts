/**
 * The store for several servers at once: one PostgreSQL database (13 or newer), used through a pool of connections.
 *
 * A batch is one READ COMMITTED transaction of two round trips: its statements go out together, and the commit follows
 * when each has found what it expects (postgres-steps.ts). Nothing else may be awaited in between. Rows that are asked for
 * at the same time come with one question (get-batch.ts). Nothing that was read is kept: other processes write without
 * telling.
 *
 * CockroachDB and YugabyteDB have not been tried. The statements keep to what both document; they would need
 * READ COMMITTED switched on (elsewhere every guard still holds, at the price of more repeats), and, to migrate and to be
 * copied, a lock of another kind: `pg_advisory_xact_lock` is missing or an empty gesture in the one, and new in the other,
 * which refuses it before. Where LISTEN is refused, as in the one always and in the other unless it is switched on, no
 * NOTIFY is sent, and servers find each other's work by looking.
 */
import type { Pool, PoolClient } from 'pg';
import { ServiceError } from '../errors.ts';
import { BatchOrder } from './batch-order.ts';
import { GetBatch, type RowKey } from './get-batch.ts';
import { createPool, migrate, type PostgresOptions } from './postgres-connections.ts';
import { isCollision, reasonOf, repeated, storeFailure } from './postgres-failures.ts';
import {
  changedBy,
  countOf,
  type Result,
  type Statement,
  type Step,
  stepsOf,
  tellingSteps,
  type Values,
} from './postgres-steps.ts';
import { toValue } from './postgres-values.ts';
import { mergePages, toAuditLine, toRow, toToken } from './rows.ts';
import { auditSql, countSql, inDialect, listSql, POSTGRES, SQL } from './sql.ts';
import type { AuditLine, AuditQuery, LeaseQuery, ListQuery, Row, RowQuery, Store, TokenRow, Write } from './store.ts';

/** Operations that may be under way or wait. More than this is overload, and refused. */
const RUNNING_MAX = 4_096;

/** @throws Error when the database cannot be reached, or is not one for this version. */
export async function openPostgres(options: PostgresOptions): Promise<Store> {
  try {
    const { knowsNotify } = await migrate(options);
    return new PostgresStore(createPool(options), knowsNotify ? options.now : undefined);
  } catch (error) {
    throw new Error(reasonOf(error));
  }
}

class PostgresStore implements Store {
  readonly #pool: Pool;
  readonly #order = new BatchOrder();
  readonly #gets = new GetBatch((keys) => this.#getMany(keys));
  readonly #names = new Map<string, string>();
  readonly #running = new Set<Promise<unknown>>();
  readonly #dueNow: (() => number) | undefined;
  #closing: Promise<void> | undefined;

  /** @param dueNow the time by which a row is due that others shall hear of; absent where nobody could hear. */
  constructor(pool: Pool, dueNow: (() => number) | undefined) {
    this.#pool = pool;
    this.#dueNow = dueNow;
  }

  get(kind: string, id: string): Promise<Row | undefined> {
    return this.#run('read', () => this.#gets.get(kind, id));
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
    return result!.rows.map(toToken)[0];
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

  async #getMany(keys: readonly RowKey[]): Promise<readonly Row[]> {
    const params = [keys.map(({ kind }) => kind), keys.map(({ id }) => id)];
    const [result] = await this.#ask([{ text: SQL.getMany, params }]);
    return result!.rows.map(toRow);
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
  #send(client: PoolClient, text: string, params: Statement['params']): Promise<Result> {
    let name = this.#names.get(text);
    if (!name) {
      name = `s${this.#names.size}`;
      this.#names.set(text, name);
    }
    const values = params.map(toValue);
    return client.query<Values>({ name, text: inDialect(text, POSTGRES), values, rowMode: 'array' });
  }
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
