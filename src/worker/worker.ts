/**
 * Background work: leases rows that are due, carries out what their state asks for, and writes the outcome as an event.
 *
 * The row is the queue: a wake-up carries no data, and nothing is remembered that is not in a row. A lease raises the
 * row's version, which fences off whoever held it before; whoever finds another version than its own drops its result.
 * Every effect may die half way or run twice, so no effect may rely on having run once.
 */
import type { Clock } from '../clock.ts';
import { apply, type Lifecycle, type LifecycleEvent } from '../domain/lifecycle.ts';
import type { Log } from '../log.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';

/** What carrying out a job came to. */
export type Outcome = { readonly event: LifecycleEvent } | { readonly purge: true };

export interface JobContext {
  /** Aborted when the lease is lost or the worker stops: end at once and leave nothing behind. */
  readonly signal: AbortSignal;
  /** Shown to the API's callers with the next renewal of the lease. */
  readonly progress: (event: LifecycleEvent) => void;
}

/** The effect that a state of a kind asks for. */
export interface Job {
  readonly lifecycle: Lifecycle;
  readonly state: string;
  /** Rows of this job that are worked on at once. */
  readonly concurrency: number;
  readonly run: (row: Row, context: JobContext) => Promise<Outcome>;
  /** The failure as an event, once it is clear that trying again will not help; absent: it is tried for ever. */
  readonly giveUp?: (error: unknown, row: Row) => LifecycleEvent;
  /**
   * Removes what the work has made, once the failure is written. Not before: a worker that lost its lease without
   * knowing would destroy what another has finished since. What a crash leaves here, upkeep finds.
   */
  readonly cleanUp?: (row: Row) => Promise<void>;
  /** Whether the failure may pass by itself. */
  readonly retryable: (error: unknown) => boolean;
  /**
   * Whether it is this server's, where another may come to do it: asked when rows are leased and nothing is done yet. Once
   * it is another's, it stays so for as long as this worker runs. Absent: it is.
   */
  readonly isOurs?: () => Promise<boolean>;
}

export interface WorkerOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly jobs: readonly Job[];
  readonly tombstoneMs: number;
  readonly leaseMs: number;
  /** How often rows are looked for without a wake-up: those whose time comes, or that another process left. */
  readonly pollMs?: number;
  /** Told of each move. @param before the row as it was. */
  readonly moved?: (row: Row, before: Row) => void;
  /** From 0 up to and without 1. */
  readonly random?: () => number;
}

export interface Worker {
  start(): void;
  /** Looks for due rows soon. Losing a wake-up costs a poll interval and nothing else. */
  wake(): void;
  /** Carries out what is due now and waits for it. For tests and tools; returns how many rows were worked on. */
  runOnce(): Promise<number>;
  /** Aborts what runs, gives its leases back, and resolves when nothing runs any more. */
  stop(): Promise<void>;
}

/** Leases that a job may take before it is given up: a row that kills the process must not do so for ever. */
export const ATTEMPTS_MAX = 6;
const BACKOFF_MS = 1_000;
const BACKOFF_MS_MAX = 60_000;
const POLL_MS = 500;
/** The shortest time between two renewals: progress is shown this often. */
const RENEW_MS_MAX = 2_000;

class LeaseLost extends Error {}
class WorkerStopped extends Error {}

export function createWorker(options: WorkerOptions): Worker {
  const { jobs } = options;
  /** Questions that were answered with no: jobs that share one share its answer. */
  const lost = new Set<Job['isOurs']>();
  const running = new Map<Promise<void>, { job: Job; controller: AbortController }>();
  let stopped = false;
  let woken = false;
  let cycle: Promise<number> | undefined;
  let timer: NodeJS.Timeout | undefined;

  /** Leases what fits beside what runs already, and starts it. */
  const leaseAndStart = async (): Promise<number> => {
    let started = 0;
    for (const job of jobs) {
      const busy = [...running.values()].filter((task) => task.job === job).length;
      const limit = job.concurrency - busy;
      if (limit <= 0 || stopped || lost.has(job.isOurs)) continue;
      const now = options.clock.now();
      const query = { kind: job.lifecycle.kind, state: job.state, now, until: now + options.leaseMs, limit };
      const rows = await options.store.lease(query);
      // Not before the lease: another could come in between, and what it has made since would be taken for nothing.
      if (rows.length > 0 && job.isOurs && !(await job.isOurs())) {
        lost.add(job.isOurs);
        for (const row of rows) await giveBack(row, options);
        continue;
      }
      for (const row of rows) startTask(job, row);
      started += rows.length;
    }
    return started;
  };

  const startTask = (job: Job, row: Row): void => {
    const controller = new AbortController();
    const task = carryOut(job, row, controller, options)
      .catch((error) => options.log.error({ err: error, kind: row.kind, id: row.id }, 'background work failed'))
      .finally(() => {
        running.delete(task);
        wake();
      });
    running.set(task, { job, controller });
    if (stopped) controller.abort(new WorkerStopped());
  };

  const runCycle = (): Promise<number> => {
    cycle ??= leaseAndStart().finally(() => {
      cycle = undefined;
    });
    return cycle;
  };

  const poll = async (): Promise<void> => {
    woken = false;
    await runCycle().catch((error) => options.log.error({ err: error }, 'looking for background work failed'));
    if (!stopped) schedule(woken ? 0 : (options.pollMs ?? POLL_MS));
  };

  const schedule = (delayMs: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      timer = undefined;
      void poll();
    }, delayMs);
  };

  const wake = (): void => {
    if (woken || stopped) return;
    woken = true;
    if (timer) schedule(0);
  };

  return {
    start: () => schedule(0),
    wake,
    runOnce: async () => {
      const started = await runCycle();
      await Promise.all(running.keys());
      return started;
    },
    stop: async () => {
      stopped = true;
      clearTimeout(timer);
      await cycle?.catch(() => undefined);
      for (const { controller } of running.values()) controller.abort(new WorkerStopped());
      await Promise.all(running.keys());
    },
  };
}

type CarryOutOptions = Pick<WorkerOptions, 'store' | 'clock' | 'log' | 'tombstoneMs' | 'leaseMs' | 'moved' | 'random'>;

/** A new row as if it had been leased already: its maker works on it, and a worker takes over if that dies. */
export function heldByMaker(row: Row, { clock, leaseMs }: Pick<WorkerOptions, 'clock' | 'leaseMs'>): Row {
  return { ...row, dueAt: clock.now() + leaseMs, attempts: 1 };
}

/**
 * Runs one job under its lease and writes what came of it. Resolves however that ended: the row says how.
 * @param leased the row as it stands since it was leased.
 * @param controller aborts the work; the row then goes back into the queue.
 */
export async function carryOut(
  job: Job,
  leased: Row,
  controller: AbortController,
  options: CarryOutOptions,
): Promise<void> {
  const lease = holdLease(job, leased, controller, options);
  try {
    const ending = await outcomeOf(job, leased, controller.signal, lease.progress, options);
    await lease.end(ending);
    if (ending.failed) await job.cleanUp?.(leased);
  } catch (error) {
    if (!(error instanceof GuardFailed) && !(error instanceof LeaseLost)) throw error;
    // The row is another's now, or gone; its present state says what becomes of what was made.
    options.log.info({ kind: leased.kind, id: leased.id }, 'lease lost: result dropped');
  } finally {
    lease.cancel();
  }
}

/** How the row goes on: what becomes of the row as it stands when the work has ended; undefined deletes it. */
interface Ending {
  readonly next: ((row: Row) => Row) | undefined;
  readonly failed?: boolean;
}

async function outcomeOf(
  job: Job,
  row: Row,
  signal: AbortSignal,
  progress: JobContext['progress'],
  options: CarryOutOptions,
): Promise<Ending> {
  try {
    // None of them ended: whatever the work does, it takes its process with it.
    if (job.giveUp && row.attempts > ATTEMPTS_MAX) throw new Error(`${ATTEMPTS_MAX} attempts had no outcome`);
    const outcome = await job.run(row, { signal, progress });
    return { next: 'purge' in outcome ? undefined : applied(job, outcome.event, options) };
  } catch (error) {
    if (signal.aborted) {
      if (signal.reason instanceof LeaseLost) throw signal.reason;
      return { next: (current) => retried(current, options.clock.now(), current.attempts - 1) };
    }
    const { kind, id, state, attempts } = row;
    const again = !job.giveUp || (job.retryable(error) && attempts < ATTEMPTS_MAX);
    options.log.warn({ err: error, kind, id, state, attempts, again }, 'background work did not succeed');
    if (!again) return { next: applied(job, job.giveUp(error, row), options), failed: true };
    const waitMs = backoffMs(attempts, options.random ?? Math.random);
    return { next: (current) => retried(current, options.clock.now() + waitMs, current.attempts) };
  }
}

function applied(job: Job, event: LifecycleEvent, { clock, tombstoneMs, moved }: CarryOutOptions) {
  return (current: Row): Row => {
    const next = apply(job.lifecycle, current, event, { now: clock.now(), tombstoneMs });
    if (next.state !== current.state) moved?.(next, current);
    return next;
  };
}

function retried(row: Row, dueAt: number, attempts: number): Row {
  return { ...row, version: row.version + 1, dueAt, attempts };
}

/** The row as it was before its lease, due at once; unless it is another's by now. */
async function giveBack(row: Row, { store, clock }: CarryOutOptions): Promise<void> {
  try {
    await store.write([{ op: 'update', row: retried(row, clock.now(), row.attempts - 1) }]);
  } catch (error) {
    if (!(error instanceof GuardFailed)) throw error;
  }
}

/** Doubles with each attempt up to a bound; the jitter keeps rows that failed together from coming back together. */
function backoffMs(attempts: number, random: () => number): number {
  const half = Math.min(BACKOFF_MS_MAX, BACKOFF_MS * 2 ** (attempts - 1)) / 2;
  return half + Math.floor(random() * (half + 1));
}

/** Keeps a lease alive while its work runs. Renewals and the ending are written one after another, never at once. */
function holdLease(job: Job, leased: Row, controller: AbortController, options: CarryOutOptions) {
  const { store, clock, leaseMs, tombstoneMs } = options;
  let row = leased;
  let pendingProgress: LifecycleEvent | undefined;
  let writing: Promise<unknown> = Promise.resolve();

  const renew = async (): Promise<void> => {
    const now = clock.now();
    const progressed = pendingProgress
      ? apply(job.lifecycle, row, pendingProgress, { now, tombstoneMs })
      : { ...row, version: row.version + 1 };
    pendingProgress = undefined;
    const next = { ...progressed, dueAt: now + leaseMs, attempts: row.attempts };
    try {
      await store.write([{ op: 'update', row: next }]);
      row = next;
    } catch (error) {
      if (error instanceof GuardFailed) controller.abort(new LeaseLost());
      else options.log.warn({ err: error, kind: row.kind, id: row.id }, 'the lease could not be renewed');
    }
  };
  const timer = setInterval(
    () => {
      writing = writing.then(renew);
    },
    Math.min(RENEW_MS_MAX, leaseMs / 3),
  );
  timer.unref();

  return {
    progress: (event: LifecycleEvent) => {
      pendingProgress = event;
    },
    end: async (ending: Ending) => {
      clearInterval(timer);
      await writing;
      if (controller.signal.reason instanceof LeaseLost) throw controller.signal.reason;
      await store.write([
        ending.next
          ? { op: 'update', row: ending.next(row) }
          : { op: 'delete', kind: row.kind, id: row.id, version: row.version },
      ]);
    },
    cancel: () => clearInterval(timer),
  };
}
