/**
 * How a backup of a session is made, kept and removed. It is made by the work that stops the session, under an id that the
 * stop has chosen, so that a stop that runs twice makes one backup. The backup's own work only looks after one that is
 * being made: it fails when its session has stopped being stopped without it.
 */
import { type Compute, ComputeFailure } from '../compute/compute.ts';
import type { StreamingSession } from '../contract/streaming-session.ts';
import { KIND } from '../domain/kinds.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import { newBackup, streamingSessionBackupLifecycle } from '../domain/streaming-session-backup.ts';
import type { StreamingSessionPrivate } from '../domain/streaming-session-lifecycle.ts';
import { GuardFailed, type Row } from '../store/store.ts';
import { moveChild } from './children.ts';
import { failureOf, isRetryable } from './compute-failure.ts';
import type { StreamingSessionPorts } from './streaming-session.ts';
import { ATTEMPTS_MAX, type Job, type JobContext, type Outcome } from './worker.ts';

const lifecycle = streamingSessionBackupLifecycle as Lifecycle;

/** How often the work of a backup looks whether its session is still being stopped. */
export const LOOK_MS = 60_000;
const LOOKS_MAX = 16;
const REMOVALS_MAX = 4;
const PURGES_MAX = 50;
/** More than there can be: one stop makes one, and each stop removes what is too many. */
const BACKUPS_MAX = 100;

export function streamingSessionBackupJobs(ports: Omit<StreamingSessionPorts, 'startsMax'>): Job[] {
  const job = (state: string, concurrency: number, run: Job['run']): Job => ({
    lifecycle,
    state,
    concurrency,
    run,
    retryable: () => true,
  });
  // One that failed may have left something; it goes with the row.
  const purge: Job['run'] = async (row, { signal }) => {
    await removeBytes(row, ports.compute, signal);
    return { purge: true };
  };
  return [
    job('CREATE_IN_PROGRESS', LOOKS_MAX, (row) => lookAfter(row, ports)),
    job('DELETE_IN_PROGRESS', REMOVALS_MAX, async (row, { signal }) => {
      await removeBytes(row, ports.compute, signal);
      return { event: { type: 'removed' } };
    }),
    job('CREATE_FAILED', PURGES_MAX, purge),
    job('DELETED', PURGES_MAX, purge),
  ];
}

function removeBytes(row: Row, compute: Compute, signal: AbortSignal): Promise<void> {
  return compute.destroy({ id: row.parentId!, backupId: row.id, signal });
}

async function lookAfter(row: Row, { store, clock }: Pick<StreamingSessionPorts, 'store' | 'clock'>): Promise<Outcome> {
  const session = await store.get(KIND.streamingSession, row.parentId!);
  const { backupId } = session ? (JSON.parse(session.private) as StreamingSessionPrivate) : {};
  if (session?.state === 'STOP_IN_PROGRESS' && backupId === row.id) {
    return { event: { type: 'waited', dueAt: clock.now() + LOOK_MS } };
  }
  return { event: failed(new ComputeFailure('INTERNAL_ERROR', 'The session was not stopped, so there is no backup')) };
}

/** Status codes of sessions that a backup has no use for tell nothing of it. */
function failed(error: unknown): LifecycleEvent {
  const { statusCode, statusMessage } = failureOf(error, 'backed up');
  const known = lifecycle.states.CREATE_FAILED!.statusCodes.includes(statusCode);
  return { type: 'failed', statusCode: known ? statusCode : 'INTERNAL_ERROR', statusMessage };
}

/**
 * Backs up the stopped workstation of a session, and removes the oldest backups beyond those to be kept.
 * @returns whether there is a backup now. One that failed for good does not keep the session from being stopped.
 */
export async function backUpStopped(
  session: Row,
  backupId: string,
  { signal }: JobContext,
  ports: StreamingSessionPorts,
): Promise<boolean> {
  const backup = await ensureBackup(session, backupId, ports);
  if (backup.state === 'CREATE_IN_PROGRESS') {
    if (!(await makeBackup(session, backupId, signal, ports))) return false;
  } else if (backup.state !== 'READY') {
    return false;
  }
  // Also of a backup that was made by a process which died before it came to this.
  await removeSurplus(session, ports);
  return true;
}

/** @returns whether it is made; one that failed for good is shown as failed. */
async function makeBackup(
  session: Row,
  backupId: string,
  signal: AbortSignal,
  ports: StreamingSessionPorts,
): Promise<boolean> {
  try {
    await ports.compute.backUp({ id: session.id, fence: session.version, backupId, signal });
  } catch (error) {
    if (signal.aborted || (isRetryable(error) && session.attempts < ATTEMPTS_MAX)) throw error;
    await settle(backupId, failed(error), ports);
    return false;
  }
  await settle(backupId, { type: 'made' }, ports);
  return true;
}

/** The row of the backup. It is made only while its session is being stopped: a late worker makes none. */
async function ensureBackup(session: Row, backupId: string, ports: StreamingSessionPorts): Promise<Row> {
  const { store, clock, settings } = ports;
  const found = await store.get(KIND.streamingSessionBackup, backupId);
  if (found) return found;
  const now = clock.now();
  const row = newBackup(session, backupId, { now, dueAt: now + LOOK_MS, settings });
  try {
    await store.write([
      { op: 'require', kind: session.kind, id: session.id, state: session.state },
      { op: 'insert', row },
    ]);
    return row;
  } catch (error) {
    const made = error instanceof GuardFailed && (await store.get(KIND.streamingSessionBackup, backupId));
    if (made) return made;
    throw error;
  }
}

/** Writes the end of a backup that is being made, also when its own work looks at it at the same time. */
async function settle(backupId: string, event: LifecycleEvent, ports: StreamingSessionPorts): Promise<void> {
  for (;;) {
    const row = await ports.store.get(KIND.streamingSessionBackup, backupId);
    if (row?.state !== 'CREATE_IN_PROGRESS') return;
    if (await moveChild(row, lifecycle, event, ports)) return;
  }
}

async function removeSurplus(session: Row, ports: StreamingSessionPorts): Promise<void> {
  const { maxBackupsToRetain = 0 } = JSON.parse(session.doc) as StreamingSession;
  const query = { kind: KIND.streamingSessionBackup, parentId: session.id, state: 'READY', limit: BACKUPS_MAX };
  const backups = await ports.store.list(query);
  const surplus = backups.slice(0, Math.max(0, backups.length - maxBackupsToRetain));
  for (const row of surplus) await moveChild(row, lifecycle, { type: 'remove' }, ports);
}
