/**
 * The port to the database: rows, guarded writes and leases, without a word about what a row means.
 *
 * One table holds everything (studios, images, access keys, ...): `kind` and `id` name a row, `doc` is the JSON text that
 * the API answers with, `private` what is not the client's; beside it stand client tokens and the audit. There are no
 * interactive transactions on purpose: a write is a list of statements, each with what it expects to find, done all
 * together or not at all, durable before the promise resolves. An adapter must never let one caller's batch see, or be
 * rolled back with, another's.
 */

export interface Row {
  readonly kind: string;
  readonly id: string;
  /** The studio it belongs to, or a fixed word for what belongs to none (see domain/kinds). */
  readonly studioId: string;
  /** The row that it is part of within its studio (a session's launch profile), and stays part of; null where there is none. */
  readonly parentId: string | null;
  /** Whose it is, and stays; null where it is nobody's. */
  readonly ownerId: string | null;
  /** A second name that no two rows of a kind may share; null where there is none. */
  readonly uniqueName: string | null;
  readonly state: string;
  /** Grows by one with every change and every lease: the fence. */
  readonly version: number;
  /** When a worker shall look at the row, in ms since 1970; null when it is at rest. */
  readonly dueAt: number | null;
  /** Leases taken since the last event. */
  readonly attempts: number;
  readonly createdAt: number;
  readonly doc: string;
  readonly private: string;
}

/** Position behind a row in list order: creation time, ties by id. */
export interface Cursor {
  readonly createdAt: number;
  readonly id: string;
}

export interface RowQuery {
  readonly kind: string;
  /** One or two of them; all where absent. */
  readonly studioIds?: readonly string[];
  readonly parentId?: string;
  readonly ownerId?: string;
  readonly uniqueName?: string;
  readonly state?: string;
  readonly stateNot?: string;
  /** Only rows that a worker shall look at by this time. */
  readonly dueBy?: number;
}

export interface ListQuery extends RowQuery {
  readonly after?: Cursor;
  readonly limit: number;
}

/** The memory of an accepted client token. */
export interface TokenRow {
  /** Digest of account, principal, operation, path and token. */
  readonly key: string;
  /** Digest of the whole input. */
  readonly digest: string;
  /** Row whose present form answers a replay. */
  readonly kind: string;
  readonly id: string;
  readonly expiresAt: number;
}

/** A line of the audit: written once and never changed. `at` and `id` name it, and are its place in the order of time. */
export interface AuditLine {
  readonly at: number;
  /** Of the request. */
  readonly id: string;
  readonly principalId: string;
  readonly accessKeyId: string;
  readonly operation: string;
  /** Empty where there is none, as is the next. */
  readonly studioId: string;
  readonly resourceId: string;
  readonly outcome: string;
  /** The rest, as JSON: what nobody looks for. */
  readonly doc: string;
}

export interface AuditQuery {
  /** A principal id or the id of an access key. */
  readonly principal?: string;
  readonly operation?: string;
  /** The id of a resource or of its studio. */
  readonly resource?: string;
  readonly outcome?: string;
  readonly since?: number;
  /** Only lines before this time. */
  readonly until?: number;
  /** Only lines that are older than this one. */
  readonly before?: Pick<AuditLine, 'at' | 'id'>;
  readonly limit: number;
}

export type Write =
  /** Fails when the id or the unique name is taken. */
  | { readonly op: 'insert'; readonly row: Row }
  /** Replaces the row whose version is `row.version - 1`. */
  | { readonly op: 'update'; readonly row: Row }
  | { readonly op: 'delete'; readonly kind: string; readonly id: string; readonly version: number }
  /** Fails unless the row exists in this state at the moment of the commit. */
  | { readonly op: 'require'; readonly kind: string; readonly id: string; readonly state: string }
  /** Fails when `limit` or more rows of the studio, or of one parent or owner in it, are in a state of no `statesNot`. */
  | ({ readonly op: 'fewer' } & FewerQuery)
  /** Remembers a token; fails when it is remembered already and has not expired at `now`. */
  | { readonly op: 'token'; readonly token: TokenRow; readonly now: number }
  /** Forgets at most `limit` tokens that expired before `now`. */
  | { readonly op: 'forget'; readonly now: number; readonly limit: number }
  /** Never fails by itself, and counts as no row; a line that is there already stays as it is. */
  | { readonly op: 'audit'; readonly line: AuditLine }
  /** Forgets at most `limit` lines of the audit, the oldest first, of those before `before`. */
  | { readonly op: 'forgetAudit'; readonly before: number; readonly limit: number };

export interface FewerQuery {
  readonly kind: string;
  readonly studioId: string;
  readonly parentId?: string;
  readonly ownerId?: string;
  readonly statesNot: readonly string[];
  readonly limit: number;
}

export interface LeaseQuery {
  readonly kind: string;
  readonly state: string;
  readonly now: number;
  /** New `dueAt` of the leased rows: when the lease ends. */
  readonly until: number;
  readonly limit: number;
}

export interface Store {
  get(kind: string, id: string): Promise<Row | undefined>;
  /** The same array as before, as long as nothing has changed: it must not be modified. */
  list(query: ListQuery): Promise<readonly Row[]>;
  count(query: RowQuery & { readonly limit: number }): Promise<number>;
  token(key: string): Promise<TokenRow | undefined>;
  /** Lines of the audit, newest first. */
  audit(query: AuditQuery): Promise<readonly AuditLine[]>;
  /** Due rows, each fenced by a higher version; what is returned is the row as it now stands. Empty is no proof of rest. */
  lease(query: LeaseQuery): Promise<readonly Row[]>;
  /**
   * All or nothing; throws GuardFailed when something was not as expected, and then nothing has changed.
   * @returns how many rows were inserted, updated or deleted.
   */
  write(batch: readonly Write[]): Promise<number>;
  close(): Promise<void>;
}

/** Something was not as a write expected it: read again and decide again. */
export class GuardFailed extends Error {
  /** The statement that found it. */
  readonly write: Write;
  constructor(write: Write) {
    super(`Guard failed: ${write.op}`);
    this.write = write;
  }
}

const ROWS_PER_PAGE = 500;

/** All rows that there are, a page at a time, so that nobody waits long behind them. */
export async function* everyRow(store: Store, query: RowQuery): AsyncGenerator<Row> {
  let last: Row | undefined;
  do {
    const after = last && { createdAt: last.createdAt, id: last.id };
    const rows = await store.list({ ...query, limit: ROWS_PER_PAGE, ...(after && { after }) });
    yield* rows;
    last = rows.length === ROWS_PER_PAGE ? rows.at(-1) : undefined;
  } while (last);
}
