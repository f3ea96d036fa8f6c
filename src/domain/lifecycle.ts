/**
 * The engine of the lifecycle tables: which event moves a row of a kind from which state to which, and what status the
 * API then shows. Each kind's table is data in its own file; the legal moves stand there and nowhere else.
 *
 * `apply` is pure: row, event and time in, row or refusal out. It never reads a clock, a database or an id source.
 */
import { wireTime } from '../clock.ts';
import { ServiceError } from '../errors.ts';
import type { Row } from '../store/store.ts';

/** Where an event leads, and the status shown there. A move without a status keeps the one the row has. */
export interface Move<State extends string> {
  readonly to: State;
  readonly statusCode?: string;
  readonly statusMessage?: string;
}

export interface StateEntry<State extends string, EventName extends string, Work extends string> {
  /** For the generated documents: what a person should know about a resource in this state. */
  readonly meaning: string;
  readonly statusCodes: readonly string[];
  readonly on: Partial<Record<EventName, Move<State>>>;
  /** What a worker does with a row in this state; absent when the row is at rest. */
  readonly work?: Work;
  /** When the work is due: when the event says, or when a tombstone's time is over unless the event says; at once where absent. */
  readonly workAfter?: 'tombstone' | 'event';
  /** The API documents the state, but this server never enters it. */
  readonly neverEntered?: boolean;
}

export interface Lifecycle<
  State extends string = string,
  EventName extends string = string,
  Work extends string = string,
> {
  readonly kind: string;
  /** For messages, for example `Streaming image`. */
  readonly noun: string;
  readonly initial: State;
  /** Whether `doc` carries `updatedAt`. */
  readonly timestamps: boolean;
  /** Events that come from a caller of the API; all others come from the worker, but for the next two. */
  readonly requests: readonly EventName[];
  /** Events that befall it because of what happens to the row that it is part of. */
  readonly fromParent?: readonly EventName[];
  /** Events that come from the administrator's command line. */
  readonly administered?: readonly EventName[];
  readonly states: Readonly<Record<State, StateEntry<State, EventName, Work>>>;
}

export interface LifecycleEvent<EventName extends string = string> {
  readonly type: EventName;
  /** Members of `doc` that change with the event; undefined takes one away. */
  readonly changes?: Readonly<Record<string, unknown>>;
  /** Members of `private` that change with the event; undefined takes one away. */
  readonly privateChanges?: Readonly<Record<string, unknown>>;
  /** Status of a failure, or progress; the table's own where absent. */
  readonly statusCode?: string;
  readonly statusMessage?: string;
  /** The status is not shown from here on; the next event with a status shows it again. */
  readonly hideStatus?: boolean;
  /** When the work of a state with `workAfter` is due; null is never. */
  readonly dueAt?: number | null;
  /** A unique name that ends with this event, so that another may take it. */
  readonly releaseName?: boolean;
}

export interface ApplyContext {
  readonly now: number;
  readonly tombstoneMs: number;
}

export function defineLifecycle<State extends string, EventName extends string, Work extends string>(
  lifecycle: Lifecycle<State, EventName, Work>,
): Lifecycle<State, EventName, Work> {
  return Object.freeze(lifecycle);
}

/** The move that the table lists for this event in this state, if any. */
export function moveOf(lifecycle: Lifecycle, state: string, event: string): Move<string> | undefined {
  return lifecycle.states[state]?.on[event];
}

/**
 * The row after the event, one version higher.
 * @throws ServiceError ConflictException when the table does not list the event in the row's state.
 */
export function apply<EventName extends string>(
  lifecycle: Lifecycle<string, EventName, string>,
  row: Row,
  event: LifecycleEvent<EventName>,
  at: ApplyContext,
): Row {
  const move = moveOf(lifecycle as Lifecycle, row.state, event.type);
  if (!move) throw conflict(lifecycle as Lifecycle, row);
  const target = lifecycle.states[move.to]!;
  const doc = JSON.parse(row.doc) as Record<string, unknown>;
  Object.assign(doc, event.changes, { state: move.to });
  const statusCode = event.statusCode ?? move.statusCode;
  const statusMessage = event.statusMessage ?? move.statusMessage;
  if (statusCode !== undefined) doc.statusCode = statusCode;
  if (statusMessage !== undefined) doc.statusMessage = statusMessage;
  if (!target.statusCodes.includes(doc.statusCode as string)) {
    throw new Error(`${lifecycle.kind}: status code ${String(doc.statusCode)} does not belong to ${move.to}`);
  }
  if (event.hideStatus) {
    delete doc.statusCode;
    delete doc.statusMessage;
  }
  if (lifecycle.timestamps) doc.updatedAt = wireTime(at.now);
  return {
    ...row,
    state: move.to,
    version: row.version + 1,
    dueAt: dueAfter(event, move, row, target, at),
    attempts: 0,
    uniqueName: event.releaseName ? null : row.uniqueName,
    doc: JSON.stringify(doc),
    private: event.privateChanges ? mergedPrivate(row.private, event.privateChanges) : row.private,
  };
}

/** When a worker shall look at the row. One that stays in a state of `workAfter: 'event'` keeps the time that it has. */
function dueAfter(
  { type, dueAt }: LifecycleEvent,
  { to }: Move<string>,
  row: Row,
  { work, workAfter }: StateEntry<string, string, string>,
  { now, tombstoneMs }: ApplyContext,
): number | null {
  if (!work) return null;
  if (!workAfter) return now;
  if (dueAt !== undefined) return dueAt;
  if (workAfter === 'tombstone') return now + tombstoneMs;
  if (to === row.state) return row.dueAt;
  throw new Error(`${row.kind}: ${type} must say how long ${to} lasts`);
}

function mergedPrivate(text: string, changes: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ ...(JSON.parse(text) as object), ...changes });
}

function requestsIn({ states, requests }: Lifecycle, state: string): string[] {
  return requests.filter((request) => states[state]!.on[request]);
}

function conflict(lifecycle: Lifecycle, row: Row): ServiceError {
  const inProgress = row.state.endsWith('_IN_PROGRESS');
  const reason = inProgress
    ? 'Another operation is in progress. Try again when it has ended.'
    : `In this state it allows: ${requestsIn(lifecycle, row.state).join(', ')}.`;
  return new ServiceError('ConflictException', `${lifecycle.noun} ${row.id} is ${row.state}. ${reason}`, {
    code: inProgress ? 'OPERATION_IN_PROGRESS' : 'STATE_DOES_NOT_ALLOW',
    context: { resourceId: row.id, state: row.state },
  });
}
