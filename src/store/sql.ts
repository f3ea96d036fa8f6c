/**
 * Every SQL statement of the product, as text that SQLite and PostgreSQL both take.
 *
 * What keeps it common to both: `$1` parameters that may repeat; text that is compared or sorted is a real column (JSON
 * is only carried); no LIKE, no casts, no booleans. The few words that differ are `{tokens}`, filled in by `inDialect`.
 */
import type { AuditQuery, FewerQuery, ListQuery, RowQuery } from './store.ts';

export interface Dialect {
  /** Stands in the names of migrations that are for this database alone. */
  readonly name: string;
  /** Type of text that sorts by bytes. */
  readonly text: string;
  /** Passes over rows that a rival is about to lease. */
  readonly skip_locked: string;
  /** Holds on to a row that a batch relies on until the commit; others may rely on it as well, but none may change it. */
  readonly for_share: string;
  /** Keeps a table in the order of its key, and so without an index beside it. */
  readonly clustered: string;
}

/** One transaction writes at a time: there is nobody to hold a row against. */
export const SQLITE: Dialect = {
  name: 'sqlite',
  text: 'TEXT',
  skip_locked: '',
  for_share: '',
  clustered: ' WITHOUT ROWID',
};

export const POSTGRES: Dialect = {
  name: 'postgres',
  text: 'TEXT COLLATE "C"',
  skip_locked: ' FOR UPDATE SKIP LOCKED',
  for_share: ' FOR SHARE',
  clustered: '',
};

export function inDialect(text: string, dialect: Dialect): string {
  return text.replace(/\{(\w+)\}/g, (_, token: keyof Dialect) => dialect[token]);
}

const COLUMNS =
  'kind, id, studio_id, parent_id, owner_id, unique_name, state, version, due_at, attempts, created_at, doc, private';

const AUDIT_COLUMNS = 'at, id, principal_id, access_key_id, operation, studio_id, resource_id, outcome, doc';

export const SQL = {
  /** Of SQLite alone. */
  get: `SELECT ${COLUMNS} FROM resource WHERE kind = $1 AND id = $2`,

  /**
   * Of PostgreSQL alone: the rows of two arrays of the same length, of kinds and of ids, of which no pair stands twice. Each is
   * looked up by itself: a join would be planned as a walk through the whole table for as long as its size is not known.
   */
  getMany: `SELECT ${COLUMNS} FROM unnest($1::text[], $2::text[]) AS asked (asked_kind, asked_id)
    CROSS JOIN LATERAL (SELECT * FROM resource WHERE kind = asked_kind AND id = asked_id LIMIT 1) AS found`,

  insert: `INSERT INTO resource (${COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT DO NOTHING`,

  update: `UPDATE resource SET unique_name = $3, state = $4, version = $5, due_at = $6, attempts = $7, doc = $8, private = $9
    WHERE kind = $1 AND id = $2 AND version + 1 = $5`,

  delete: 'DELETE FROM resource WHERE kind = $1 AND id = $2 AND version = $3',

  require: 'SELECT 1 AS held FROM resource WHERE kind = $1 AND id = $2 AND state = $3{for_share}',

  /** Makes transactions that count the same rows take turns, from here to their commit. SQLite has no need of it. */
  lockBound: `INSERT INTO bound (kind, studio_id, counted) VALUES ($1, $2, 1)
    ON CONFLICT (kind, studio_id) DO UPDATE SET counted = bound.counted + 1`,

  /**
   * The due-predicate stands twice: without the outer one PostgreSQL leases rows to two rivals at once. MATERIALIZED, as
   * it may otherwise look for due rows more than once, find others each time, and lease more than the limit.
   */
  lease: `WITH due AS MATERIALIZED
      (SELECT id FROM resource WHERE kind = $1 AND state = $2 AND due_at <= $3 ORDER BY due_at LIMIT $5{skip_locked})
    UPDATE resource SET due_at = $4, version = version + 1, attempts = attempts + 1
    WHERE kind = $1 AND state = $2 AND due_at <= $3 AND id IN (SELECT id FROM due)
    RETURNING ${COLUMNS}`,

  /** Of SQLite alone, where a lease waits for the one writer there can be. */
  anyDue: 'SELECT 1 AS due FROM resource WHERE kind = $1 AND state = $2 AND due_at <= $3 LIMIT 1',

  token: 'SELECT token_key, digest, kind, id, expires_at FROM idempotency WHERE token_key = $1',

  putToken: `INSERT INTO idempotency (token_key, digest, kind, id, expires_at) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (token_key) DO UPDATE SET digest = $2, kind = $3, id = $4, expires_at = $5
    WHERE idempotency.expires_at <= $6`,

  forgetTokens: `DELETE FROM idempotency WHERE token_key IN
    (SELECT token_key FROM idempotency WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`,

  /** Of PostgreSQL alone: from server to server, that a row is due. It says no more, and may be lost. */
  listenForDue: 'LISTEN backlot_due',
  tellDue: 'NOTIFY backlot_due',
  addAudit: `INSERT INTO audit (${AUDIT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`,

  forgetAudit: `DELETE FROM audit WHERE (at, id) IN
    (SELECT at, id FROM audit WHERE at < $1 ORDER BY at, id LIMIT $2)`,

  /** Of PostgreSQL alone: held to the end of the transaction. The number means nothing; it only must not change. */
  lockMigrations: 'SELECT pg_advisory_xact_lock(8642202008)',
  /** Of PostgreSQL alone: the same lock, for as long as the connection lasts, or no row where another has it. */
  tryLockDatabase: 'SELECT 1 AS held WHERE pg_try_advisory_lock(8642202008)',
  unlockDatabase: 'SELECT pg_advisory_unlock(8642202008)',
  /** Of PostgreSQL alone: by the name that the store gives its connections. */
  countServers: `SELECT count(*) AS n FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'backlot' AND pid <> pg_backend_pid()`,
  createMigrationTable: `CREATE TABLE IF NOT EXISTS migration (name {text} NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)`,
  migrations: 'SELECT name FROM migration',
  recordMigration: 'INSERT INTO migration (name, applied_at) VALUES ($1, $2)',
} as const;

export interface Prepared {
  readonly text: string;
  readonly params: (string | number)[];
}

/** WHERE clause of a query within one studio (or in all, where `studioId` is absent). */
function where(query: RowQuery, studioId: string | undefined, params: (string | number)[]): string {
  const clauses: string[] = [];
  const add = (column: string, comparison: string, value: string | number) => {
    params.push(value);
    clauses.push(`${column} ${comparison} $${params.length}`);
  };
  add('kind', '=', query.kind);
  if (studioId !== undefined) add('studio_id', '=', studioId);
  if (query.parentId !== undefined) add('parent_id', '=', query.parentId);
  if (query.ownerId !== undefined) add('owner_id', '=', query.ownerId);
  if (query.uniqueName !== undefined) add('unique_name', '=', query.uniqueName);
  if (query.state !== undefined) add('state', '=', query.state);
  if (query.stateNot !== undefined) add('state', '<>', query.stateNot);
  if (query.dueBy !== undefined) add('due_at', '<=', query.dueBy);
  return clauses.join(' AND ');
}

/** A page of rows in list order, found by position and never by offset. */
export function listSql(query: ListQuery, studioId: string | undefined): Prepared {
  const params: (string | number)[] = [];
  let condition = where(query, studioId, params);
  if (query.after) {
    params.push(query.after.createdAt, query.after.id);
    condition += ` AND (created_at, id) > ($${params.length - 1}, $${params.length})`;
  }
  params.push(query.limit);
  return {
    text: `SELECT ${COLUMNS} FROM resource WHERE ${condition} ORDER BY created_at, id LIMIT $${params.length}`,
    params,
  };
}

/** Counts no further than `limit`, so that the cost is bounded. */
export function countSql(query: RowQuery & { readonly limit: number }, studioId: string | undefined): Prepared {
  const params: (string | number)[] = [];
  const condition = where(query, studioId, params);
  params.push(query.limit);
  return {
    text: `SELECT count(*) AS n FROM (SELECT 1 AS one FROM resource WHERE ${condition} LIMIT $${params.length}) AS counted`,
    params,
  };
}

/** As `countSql`, for a guard. */
export function fewerSql({ kind, studioId, parentId, ownerId, statesNot, limit }: FewerQuery): Prepared {
  const params: (string | number)[] = [];
  const query = { kind, ...(parentId !== undefined && { parentId }), ...(ownerId !== undefined && { ownerId }) };
  let condition = where(query, studioId, params);
  for (const state of statesNot) {
    params.push(state);
    condition += ` AND state <> $${params.length}`;
  }
  params.push(limit);
  return {
    text: `SELECT count(*) AS n FROM (SELECT 1 AS one FROM resource WHERE ${condition} LIMIT $${params.length}) AS counted`,
    params,
  };
}

/** Tells the columns of a table by those of its answer. */
export function columnsSql(table: string): string {
  return `SELECT * FROM ${table} LIMIT 0`;
}

export function countRowsSql(table: string): string {
  return `SELECT count(*) AS n FROM ${table}`;
}

/** A page of any table in the order of its key. The parameters are the key of the row before, if any, and the limit. */
export function pageSql(
  { name, key }: { readonly name: string; readonly key: readonly string[] },
  columns: readonly string[],
  isAfter: boolean,
): string {
  const keys = key.join(', ');
  const after = isAfter ? ` WHERE (${keys}) > (${key.map((_, index) => `$${index + 1}`).join(', ')})` : '';
  const limit = isAfter ? key.length + 1 : 1;
  return `SELECT ${columns.join(', ')} FROM ${name}${after} ORDER BY ${keys} LIMIT $${limit}`;
}

/** Adds so many rows to any table, each with a value for every column. */
export function insertRowsSql(table: string, columns: readonly string[], count: number): string {
  const row = (_: unknown, index: number) =>
    `(${columns.map((_column, column) => `$${index * columns.length + column + 1}`).join(', ')})`;
  return `INSERT INTO ${table} (${columns.join(', ')}) VALUES ${Array.from({ length: count }, row).join(', ')}`;
}

/** Lines of the audit, newest first. */
export function auditSql(query: AuditQuery): Prepared {
  const params: (string | number)[] = [];
  const clauses: string[] = [];
  const add = (clause: (placeholder: string) => string, value: string | number | undefined) => {
    if (value === undefined) return;
    params.push(value);
    clauses.push(clause(`$${params.length}`));
  };
  add((value) => `at >= ${value}`, query.since);
  add((value) => `at < ${value}`, query.until);
  add((value) => `${value} IN (principal_id, access_key_id)`, query.principal);
  add((value) => `operation = ${value}`, query.operation);
  add((value) => `${value} IN (resource_id, studio_id)`, query.resource);
  add((value) => `outcome = ${value}`, query.outcome);
  if (query.before) {
    params.push(query.before.at, query.before.id);
    clauses.push(`(at, id) < ($${params.length - 1}, $${params.length})`);
  }
  params.push(query.limit);
  const condition = clauses.length === 0 ? '' : ` WHERE ${clauses.join(' AND ')}`;
  return {
    text: `SELECT ${AUDIT_COLUMNS} FROM audit${condition} ORDER BY at DESC, id DESC LIMIT $${params.length}`,
    params,
  };
}
