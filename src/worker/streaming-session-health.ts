/**
 * Notices workstations that end by themselves: no row is due for them, so every second and a half all that should run is
 * compared with all that runs. A session is ended only when it was READY without a running workstation in two looks
 * running, under the same version of its row: one look alone may fall between the two halves of a start or a stop. It
 * never touches a workstation: it writes an event, and the work that follows is that of any other stop. Only a server that
 * sees all workstations may look.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import type { Compute } from '../compute/compute.ts';
import { KIND } from '../domain/kinds.ts';
import type { Lifecycle } from '../domain/lifecycle.ts';
import { endedEvent } from '../domain/streaming-session-ended.ts';
import { streamingSessionLifecycle } from '../domain/streaming-session-lifecycle.ts';
import type { Ids } from '../ids.ts';
import type { Log } from '../log.ts';
import type { Cursor, Row, Store } from '../store/store.ts';
import { moveChild } from './children.ts';
import { closeStreams } from './streaming-session.ts';

export interface SessionHealthPorts {
  readonly store: Store;
  readonly compute: Pick<Compute, 'list'>;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly settings: { readonly tombstoneMs: number };
  readonly log: Log;
  /** Calls back again and again until what it returns is called. */
  readonly every?: (periodMs: number, work: () => void) => () => void;
  /** Told of each session that was ended. */
  readonly ended?: () => void;
  /** Tells the worker that a row is due. */
  readonly wake?: () => void;
}

export interface SessionHealth {
  start(): void;
  /** One look. @returns how many sessions it ended. */
  runOnce(): Promise<number>;
  stop(): Promise<void>;
}

/** Two looks, and what they take, come to less than five seconds. */
const LOOK_MS = 1_500;
const LIST_MS_MAX = 10_000;
const ROWS_PER_READ = 500;

const everyInterval: NonNullable<SessionHealthPorts['every']> = (periodMs, work) => {
  const timer = setInterval(work, periodMs);
  return () => clearInterval(timer);
};

export function createSessionHealth(ports: SessionHealthPorts): SessionHealth {
  const { log, every = everyInterval } = ports;
  /** Versions of the rows that had no running workstation in the look before, by id. */
  let suspects: ReadonlyMap<string, number> = new Map();
  let running: Promise<number> | undefined;
  let stopTimer: (() => void) | undefined;
  let failing = false;

  const look = async (): Promise<number> => {
    const before = suspects;
    suspects = new Map();
    const without = await readyWithoutWorkstation(ports);
    suspects = new Map(without.map(({ id, version }) => [id, version]));
    let ended = 0;
    let failure: unknown;
    for (const row of without.filter(({ id, version }) => before.get(id) === version)) {
      try {
        if (await endSession(row, ports)) ended += 1;
      } catch (error) {
        // It keeps no other from being ended.
        failure ??= error;
      }
    }
    if (failure !== undefined) throw failure;
    return ended;
  };
  const runOnce = (): Promise<number> => {
    running ??= look().finally(() => {
      running = undefined;
    });
    return running;
  };
  const tick = () => {
    runOnce().then(
      () => {
        if (failing) log.info({}, 'workstations can be looked at again');
        failing = false;
      },
      (error) => {
        if (!failing) log.error({ err: error }, 'workstations could not be looked at; it is tried again');
        failing = true;
      },
    );
  };
  return {
    start: () => {
      stopTimer = every(LOOK_MS, tick);
    },
    runOnce,
    stop: async () => {
      stopTimer?.();
      await running?.catch(() => undefined);
    },
  };
}

async function readyWithoutWorkstation({ store, compute }: SessionHealthPorts): Promise<Row[]> {
  const workstations = await withinLimit(compute.list());
  const running = new Set(workstations.filter((workstation) => workstation.running).map(({ id }) => id));
  const without: Row[] = [];
  // Every session that is READY is due some time, and the index of what is due finds them.
  const query = { kind: KIND.streamingSession, state: 'READY', dueBy: Number.MAX_SAFE_INTEGER, limit: ROWS_PER_READ };
  for (let after: Cursor | undefined; ; ) {
    const rows = await store.list({ ...query, ...(after && { after }) });
    for (const row of rows) if (!running.has(row.id)) without.push(row);
    if (rows.length < ROWS_PER_READ) return without;
    after = rows.at(-1)!;
  }
}

/** An engine that hangs must not end the looking for good. */
async function withinLimit<T>(work: Promise<T>): Promise<T> {
  const patience = new AbortController();
  const late = delay(LIST_MS_MAX, undefined, { signal: patience.signal }).then(() => {
    throw new Error(`the engine has not said within ${LIST_MS_MAX} ms what runs`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    patience.abort();
    late.catch(() => undefined);
  }
}

/** @returns false when somebody else has changed the session since. */
async function endSession(row: Row, ports: SessionHealthPorts): Promise<boolean> {
  const { log, clock, ids, ended, wake } = ports;
  const event = endedEvent(row, { now: clock.now(), ids });
  if (!(await moveChild(row, streamingSessionLifecycle as Lifecycle, event, ports))) return false;
  log.warn({ id: row.id }, 'a workstation has ended by itself');
  ended?.();
  wake?.();
  // A stop closes them by itself; what this leaves, their own time limit ends.
  if (event.type === 'lost') await closeStreams(row, ports);
  return true;
}
