/**
 * Which batches share a commit: those that arrive together. One whose guard fails is undone alone, and nobody is answered
 * before the COMMIT. Between BEGIN and COMMIT there must never be an `await`: another request would join the transaction.
 */
import { ServiceError } from '../errors.ts';
import type { SqliteStatements } from './sqlite-statements.ts';
import type { Row } from './store.ts';

/** Batches that may wait for one commit. More than this is overload, and refused. */
const PENDING_MAX = 4_096;
/** Turns of the event loop that a batch waits for others at most: far less time than the commit takes. */
const GATHER_TURNS_MAX = 8;

export interface Batch<T> {
  /** Whether it could fail after it has changed something, and so needs a savepoint. */
  readonly undoable: boolean;
  readonly run: () => T;
  /** Adds the rows as the batch leaves them, given what it returned. */
  readonly wrote: (value: T, rows: WrittenRow[]) => void;
}

export interface WrittenRow {
  readonly kind: string;
  readonly id: string;
  /** Undefined where it was deleted. */
  readonly row: Row | undefined;
}

/** A batch that waits for the next commit. */
interface Pending extends Batch<unknown> {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

type Outcome = { readonly value: unknown } | { readonly error: unknown };

export class SqliteCommits {
  readonly #statements: SqliteStatements;
  readonly #committed: (rows: readonly WrittenRow[]) => void;
  #pending: Pending[] = [];
  #closed = false;

  /** @param committed told of what a commit has written, before anybody is answered. */
  constructor(statements: SqliteStatements, committed: (rows: readonly WrittenRow[]) => void) {
    this.#statements = statements;
    this.#committed = committed;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Commits what waits; afterwards every batch is refused. */
  close(): void {
    this.#flush();
    this.#closed = true;
  }

  /** The batch or nothing of it, durable when the promise resolves. */
  add<T>(batch: Batch<T>): Promise<T> {
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
      this.#statements.control('BEGIN IMMEDIATE');
      outcomes = group.map((pending) => (pending.undoable ? this.#inSavepoint(pending) : outcomeOf(pending)));
      this.#statements.control('COMMIT');
    } catch (error) {
      this.#rollback();
      for (const { reject } of group) reject(storeFailure(error));
      return;
    }
    this.#committed(writtenBy(group, outcomes));
    group.forEach(({ resolve, reject }, index) => {
      const outcome = outcomes[index]!;
      if ('error' in outcome) reject(outcome.error);
      else resolve(outcome.value);
    });
  }

  /** Runs one batch so that its failure undoes it alone. */
  #inSavepoint(pending: Pending): Outcome {
    this.#statements.control('SAVEPOINT batch');
    const outcome = outcomeOf(pending);
    if ('error' in outcome) this.#statements.control('ROLLBACK TO batch');
    this.#statements.control('RELEASE batch');
    return outcome;
  }

  #rollback(): void {
    try {
      if (this.#statements.inTransaction) this.#statements.control('ROLLBACK');
    } catch {
      // SQLite has rolled back by itself, as it does when the disk is full.
    }
  }
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

/** In the order of the batches, without those that were undone. */
function writtenBy(group: readonly Pending[], outcomes: readonly Outcome[]): WrittenRow[] {
  const rows: WrittenRow[] = [];
  group.forEach(({ wrote }, index) => {
    const outcome = outcomes[index]!;
    if (!('error' in outcome)) wrote(outcome.value, rows);
  });
  return rows;
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
