/** A worker's surroundings for its tests: a lifecycle of its own, one database, and a clock that only a test moves. */
import type { TestContext } from 'node:test';
import { newRow } from '../../src/domain/kinds.ts';
import { defineLifecycle, type Lifecycle } from '../../src/domain/lifecycle.ts';
import type { Log } from '../../src/log.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Row, Write } from '../../src/store/store.ts';
import { createWorker, type Job, type JobContext, type Outcome, type WorkerOptions } from '../../src/worker/worker.ts';
import { ManualClock, silentLog } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { until } from '../support/until.ts';

export const LEASE_MS = 15_000;
/** At least as long as the worker waits between two renewals of such a lease. */
export const RENEWAL_MS = 5_000;
export const DONE: Outcome = { event: { type: 'done' } };

const lifecycle: Lifecycle = defineLifecycle<string, string, string>({
  kind: 'thing',
  noun: 'Thing',
  initial: 'WORKING',
  timestamps: false,
  requests: [],
  states: {
    WORKING: {
      meaning: '',
      statusCodes: ['WORKING'],
      work: 'work',
      on: {
        progressed: { to: 'WORKING' },
        done: { to: 'DONE', statusCode: 'DONE', statusMessage: 'done' },
        failed: { to: 'FAILED', statusCode: 'FAILED' },
      },
    },
    OTHER: { meaning: '', statusCodes: ['OTHER'], work: 'other', on: { done: { to: 'DONE', statusCode: 'DONE' } } },
    DONE: { meaning: '', statusCodes: ['DONE'], on: {} },
    FAILED: { meaning: '', statusCodes: ['FAILED'], on: {} },
  },
});

/** A failure that may pass by itself; every other will not. */
export class Passing extends Error {}

export const failing = (error: Error) => async (): Promise<never> => {
  throw error;
};

export function jobOf(run: Job['run'], more: Partial<Job> = {}): Job {
  return {
    lifecycle,
    state: 'WORKING',
    concurrency: 10,
    run,
    giveUp: (error) => ({ type: 'failed', statusMessage: (error as Error).message }),
    retryable: (error) => error instanceof Passing,
    ...more,
  };
}

export interface Line {
  readonly level: string;
  readonly message: string;
}

/** Work that runs until the test ends it; `deaf` work takes no notice when it is told to stop. */
export function heldWork() {
  const started: { row: Row; context: JobContext; resolve(outcome: Outcome): void; reject(error: Error): void }[] = [];
  const deaf: Job['run'] = (row, context) =>
    new Promise((resolve, reject) => {
      started.push({ row, context, resolve, reject });
    });
  const run: Job['run'] = (row, context) =>
    Promise.race([
      deaf(row, context),
      new Promise<never>((_, reject) => {
        context.signal.addEventListener('abort', () => reject(context.signal.reason));
      }),
    ]);
  return {
    started,
    run,
    deaf,
    running: (count: number) => until(`${count} of the work run`, () => started.length === count),
  };
}

export function createBench(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval'] });
  const clock = new ManualClock();
  const database = openSqlite({ path: ':memory:', now: () => clock.now() });
  t.after(() => database.close());
  const hooks = { beforeWrite: async (_batch: readonly Write[]): Promise<void> => undefined };
  const store = intercepted(database, (batch) => hooks.beforeWrite(batch));
  const lines: Line[] = [];
  const logAt = (level: string) =>
    ((_: unknown, message: string) => lines.push({ level, message })) as unknown as Log['info'];
  const log: Log = { ...silentLog, info: logAt('info'), warn: logAt('warn'), error: logAt('error') };
  const row = async (id: string) => {
    const found = await database.get('thing', id);
    return found && { ...found };
  };
  return {
    clock,
    database,
    hooks,
    row,
    workerOf: (jobs: Job | Job[], more: Partial<WorkerOptions> = {}) =>
      createWorker({ store, clock, log, jobs: [jobs].flat(), tombstoneMs: 60_000, leaseMs: LEASE_MS, ...more }),
    put: async (id: string, more: Partial<Row> = {}) => {
      const state = more.state ?? 'WORKING';
      const doc = JSON.stringify({ id, state, statusCode: state, statusMessage: 'begun' });
      const made = newRow({ kind: 'thing', id, createdAt: 1, doc, state, dueAt: clock.now(), ...more });
      await database.write([{ op: 'insert', row: made }]);
    },
    message: async (id: string) => JSON.parse((await row(id))!.doc).statusMessage as string,
    /** Takes a lease of the one row that is due, as a process does that is never heard of again. */
    leaseAndVanish: async () => {
      const now = clock.now();
      const [leased] = await database.lease({ kind: 'thing', state: 'WORKING', now, until: now + LEASE_MS, limit: 1 });
      return { ...leased! };
    },
    /** Moves the clock, and lets every lease that is held be renewed as often as it would be in that time. */
    pass: (ms: number) => {
      clock.advance(ms);
      t.mock.timers.tick(ms);
    },
    logged: (level: string) => lines.filter((line) => line.level === level).map(({ message }) => message),
  };
}
