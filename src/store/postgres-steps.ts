/**
 * Which statements a batch of writes comes to in PostgreSQL, and what must have come of each for the batch to hold. It
 * only says: sending them, and undoing them where one fails, is done in postgres.ts.
 *
 * Guards hold among processes because every statement locks what it relies on: changed rows by their change, a `require`
 * its row for share, a `fewer` the row of `bound` that stands for what it counts.
 */
import type { QueryArrayResult } from 'pg';
import { isTaken } from './postgres-failures.ts';
import { auditParams, insertParams, type Param, tokenParams, updateParams } from './rows.ts';
import { fewerSql, SQL } from './sql.ts';
import { GuardFailed, type Write } from './store.ts';

export type Values = unknown[];
export type Result = QueryArrayResult<Values>;

export interface Statement {
  readonly text: string;
  readonly params: readonly (Param | readonly string[])[];
}

/** A statement of a batch, and what must have come of it. */
export interface Step extends Statement {
  readonly write: Write;
  readonly holds: (result: Result) => boolean;
  /** Whether its rows count as changed. */
  readonly changes: boolean;
}

/** Which statements a write comes to. */
export function stepsOf(write: Write): Step[] {
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
    case 'token':
      return [one(SQL.putToken, tokenParams(write.token, write.now))];
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
export function tellingSteps(batch: readonly Write[], now = Number.NEGATIVE_INFINITY): Step[] {
  const write = batch.find(
    (one) => (one.op === 'insert' || one.op === 'update') && one.row.dueAt !== null && one.row.dueAt <= now,
  );
  return write ? [{ write, text: SQL.tellDue, params: [], holds: () => true, changes: false }] : [];
}

/** Rows changed. @throws GuardFailed, or what the database said, of the first statement that did not do as expected. */
export function changedBy(steps: readonly Step[], outcomes: readonly PromiseSettledResult<Result>[]): number {
  let changed = 0;
  steps.forEach(({ write, holds, changes }, index) => {
    const outcome = outcomes[index]!;
    if (outcome.status === 'rejected') throw isTaken(outcome.reason) ? new GuardFailed(write) : outcome.reason;
    if (!holds(outcome.value)) throw new GuardFailed(write);
    if (changes) changed += outcome.value.rowCount!;
  });
  return changed;
}

/** The number that a statement which counts has found. */
export function countOf({ rows }: Result): number {
  return rows[0]![0] as number;
}
