/**
 * What no row asks for: expired tokens, old lines of the audit, keys whose log-in has ended and viewers that went are
 * deleted, and what a deleted or failed image or session has left is destroyed, bytes and workstations. It finds its work by
 * looking at what is there, so a crash at any point loses nothing. Machine images are not its matter: their rows show what
 * is left of one.
 * It must never touch what may still be in the making, nor what the database does not know.
 */
import type { Clock } from '../clock.ts';
import type { Compute } from '../compute/compute.ts';
import { TEMPORARY } from '../domain/access-key.ts';
import type { AuditTrail } from '../domain/audit.ts';
import { KIND } from '../domain/kinds.ts';
import { countSessionsOn } from '../domain/streaming-image-use.ts';
import { deleteEndedViewers } from '../domain/viewer.ts';
import type { Images } from '../images/images.ts';
import type { Keys } from '../keys/keys.ts';
import type { Log } from '../log.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';
import { destroyBytes } from './streaming-image.ts';

export interface UpkeepPorts {
  readonly store: Store;
  readonly images: Images;
  readonly keys: Keys;
  readonly compute: Compute;
  readonly clock: Clock;
  readonly log: Log;
  readonly audit: Pick<AuditTrail, 'flush'>;
  /** How long a line of the audit is kept. */
  readonly auditMs: number;
}

const INTERVAL_MS = 10 * 60_000;
/** Bytes and workstations younger than this may belong to a row that is just being written. */
export const ORPHAN_AGE_MS = 15 * 60_000;
/** A machine that does not answer must not hold up the rest. */
const DESTROY_MS_MAX = 60_000;
const TOKENS_PER_WRITE = 1_000;
const LINES_PER_WRITE = 1_000;
/** An hour: longer than any client goes on with what it has. */
export const ENDED_KEY_AGE_MS = 60 * 60_000;
const KEYS_PER_WRITE = 200;

export interface Upkeep {
  start(): void;
  runOnce(): Promise<void>;
  stop(): Promise<void>;
}

export function createUpkeep(ports: UpkeepPorts): Upkeep {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  const runOnce = (): Promise<void> => {
    running ??= upkeep(ports).finally(() => {
      running = undefined;
    });
    return running;
  };
  const tick = () => {
    runOnce().catch((error) => ports.log.error({ err: error }, 'upkeep failed'));
  };
  return {
    start: () => {
      tick();
      timer = setInterval(tick, INTERVAL_MS);
    },
    runOnce,
    stop: async () => {
      clearInterval(timer);
      await running?.catch(() => undefined);
    },
  };
}

/** None waits for another to succeed: on a full disk no token can be forgotten, and orphans may be what fills it. */
async function upkeep(ports: UpkeepPorts): Promise<void> {
  const works: ((ports: UpkeepPorts) => Promise<unknown>)[] = [
    forgetTokens,
    forgetAudit,
    deleteEndedKeys,
    deleteEndedViewers,
    destroyOrphans,
    destroyOrphanedWorkstations,
    sweepLeftovers,
    ({ audit }: UpkeepPorts) => audit.flush(),
  ];
  const outcomes = await Promise.allSettled(works.map((work) => work(ports)));
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** In small writes, so that no request waits long behind one. */
async function forgetTokens({ store, clock }: UpkeepPorts): Promise<void> {
  const write = { op: 'forget', now: clock.now(), limit: TOKENS_PER_WRITE } as const;
  while ((await store.write([write])) === TOKENS_PER_WRITE);
}

async function forgetAudit({ store, clock, auditMs }: UpkeepPorts): Promise<void> {
  const write = { op: 'forgetAudit', before: clock.now() - auditMs, limit: LINES_PER_WRITE } as const;
  while ((await store.write([write])) === LINES_PER_WRITE);
}

/** Keys that ended some time ago: until then their bearers are told that they are too late, and not that they are unknown. */
async function deleteEndedKeys({ store, clock }: UpkeepPorts): Promise<void> {
  const query = {
    kind: KIND.accessKey,
    state: TEMPORARY,
    dueBy: clock.now() - ENDED_KEY_AGE_MS,
    limit: KEYS_PER_WRITE,
  };
  for (;;) {
    const rows = await store.list(query);
    if (rows.length === 0) return;
    try {
      await store.write(rows.map(({ kind, id, version }) => ({ op: 'delete', kind, id, version })));
    } catch (error) {
      // Another process is at the same.
      if (error instanceof GuardFailed) return;
      throw error;
    }
  }
}

/**
 * A copy is an orphan when its image is a tombstone or never came to be, and no session stands on it. One that no row
 * knows is left alone, and told: the database may be the one that is wrong, restored from a backup or lost.
 */
async function destroyOrphans({ store, images, keys, clock, log }: UpkeepPorts): Promise<void> {
  for (const { id, modifiedAt } of await images.list()) {
    if (modifiedAt > clock.now() - ORPHAN_AGE_MS) continue;
    const row = await store.get(KIND.streamingImage, id);
    if (!row) log.warn({ id }, 'there are bytes of an image that the database does not know; they are left alone');
    if (!row || isNeeded(row) || (await countSessionsOn(row, store)) > 0) continue;
    try {
      await destroyBytes(id, { images, keys });
      log.warn({ id }, 'bytes that belong to no image were destroyed');
    } catch (error) {
      log.error({ err: error, id }, 'bytes that belong to no image could not be destroyed');
    }
  }
}

/**
 * A workstation is an orphan when its session is a tombstone or never came to be: a worker that stood still may have made
 * it again. One that no row knows is left alone, as with images: it may be the work of somebody's day.
 */
async function destroyOrphanedWorkstations({ store, compute, clock, log }: UpkeepPorts): Promise<void> {
  for (const { id, changedAt } of await compute.list()) {
    if (changedAt > clock.now() - ORPHAN_AGE_MS) continue;
    const row = await store.get(KIND.streamingSession, id);
    if (!row) log.warn({ id }, 'there is a workstation of a session that the database does not know; it is left alone');
    if (!row || isNeeded(row)) continue;
    try {
      await compute.destroy({ id, fence: row.version, signal: AbortSignal.timeout(DESTROY_MS_MAX) });
      log.warn({ id }, 'a workstation that belongs to no session was destroyed');
    } catch (error) {
      log.error({ err: error, id }, 'a workstation that belongs to no session could not be destroyed');
    }
  }
}

async function sweepLeftovers({ images, log }: UpkeepPorts): Promise<void> {
  const removed = await images.sweep({ olderThanMs: ORPHAN_AGE_MS });
  if (removed > 0) log.info({ removed }, 'leftovers of imports that died were removed');
}

function isNeeded({ state }: Row): boolean {
  return state !== 'DELETED' && state !== 'CREATE_FAILED';
}
