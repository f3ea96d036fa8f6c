/**
 * What the states of a streaming session ask for: its workstation is made, started, stopped or destroyed, and a session
 * whose time is over is stopped or deleted. The version of the leased row is the fence of every effect, so that a worker
 * which stood still cannot undo what another has done since.
 */
import type { Clock } from '../clock.ts';
import type { Compute, WorkstationRequest } from '../compute/compute.ts';
import type { StreamingSession } from '../contract/streaming-session.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import { streamingSessionBackupLifecycle } from '../domain/streaming-session-backup.ts';
import { endOfTime, limitWhenReady, limitWhenStopped } from '../domain/streaming-session-clock.ts';
import { ENDED_BY_ITSELF, ENDED_WITHOUT_VOLUME } from '../domain/streaming-session-ended.ts';
import {
  deleteEvent,
  type StreamingSessionPrivate,
  stopEvent,
  streamingSessionLifecycle,
} from '../domain/streaming-session-lifecycle.ts';
import { NO_TICKET, streamingSessionStreamLifecycle } from '../domain/streaming-session-stream.ts';
import { endViewersOf } from '../domain/viewer.ts';
import type { Ids } from '../ids.ts';
import type { Row, Store } from '../store/store.ts';
import { moveChildren } from './children.ts';
import { failureOf, isRetryable } from './compute-failure.ts';
import { backUpStopped } from './streaming-session-backup.ts';
import { type Setup, setupOf } from './streaming-session-setup.ts';
import type { Job, JobContext, Outcome } from './worker.ts';

export interface StreamingSessionPorts {
  readonly store: Store;
  readonly compute: Compute;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly settings: { readonly region: string; readonly accountId: string; readonly tombstoneMs: number };
  readonly startsMax: number;
}

const STOPS_MAX = 16;
const TIMERS_MAX = 50;
/** What this leaves, upkeep finds or the session's deletion takes along. */
const CLEAN_UP_MS_MAX = 60_000;

export function streamingSessionJobs(ports: StreamingSessionPorts): Job[] {
  const { compute, startsMax } = ports;
  const job = (state: string, concurrency: number, run: Job['run']): Job => ({
    lifecycle: streamingSessionLifecycle as Lifecycle,
    state,
    concurrency,
    run,
    retryable: isRetryable,
  });
  const effect = (state: string, what: string, concurrency: number, run: Job['run']): Job => ({
    ...job(state, concurrency, run),
    giveUp: (error) => ({ type: 'failed', ...failureOf(error, what) }),
  });
  const start: Job['run'] = (row, context) => startWorkstation(row, context, ports);
  return [
    {
      ...effect('CREATE_IN_PROGRESS', 'made', startsMax, start),
      cleanUp: (row) => compute.destroy(changeOf(row)),
    },
    {
      ...effect('START_IN_PROGRESS', 'started', startsMax, start),
      // What it holds is kept until the session is deleted.
      cleanUp: (row) => compute.stop({ ...changeOf(row), volume: 'keep' }),
    },
    effect('STOP_IN_PROGRESS', 'stopped', STOPS_MAX, (row, context) => stopWorkstation(row, context, ports)),
    effect('DELETE_IN_PROGRESS', 'destroyed', STOPS_MAX, (row, context) => destroySession(row, context, ports)),
    job('READY', TIMERS_MAX, async (row) => ({ event: eventAtEndOfTime(row, ports) })),
    job('STOPPED', TIMERS_MAX, async (row) => ({ event: eventAtEndOfTime(row, ports) })),
    // Once more: a start that had lost its lease without knowing may have made a workstation since.
    job('DELETED', TIMERS_MAX, async (row, { signal }) => {
      await compute.destroy({ ...changeOf(row), signal });
      return { purge: true };
    }),
  ];
}

const changeOf = ({ id, version }: Row) => ({ id, fence: version, signal: AbortSignal.timeout(CLEAN_UP_MS_MAX) });
const privateOf = (row: Row) => JSON.parse(row.private) as StreamingSessionPrivate;

async function startWorkstation(row: Row, context: JobContext, ports: StreamingSessionPorts): Promise<Outcome> {
  const session = JSON.parse(row.doc) as StreamingSession;
  const setup = await setupOf(session, row.studioId, ports.store);
  await ports.compute.ensure({ ...requestOf(row, session, context), ...setup });
  return { event: { type: 'ready', ...limitWhenReady(privateOf(row).limits, ports.clock.now()) } };
}

function requestOf(
  row: Row,
  session: StreamingSession,
  { signal, progress }: JobContext,
): Omit<WorkstationRequest, keyof Setup> {
  const { ec2InstanceType, streamingImageId, startedFromBackupId, volumeConfiguration, volumeRetentionMode } = session;
  const { size, iops, throughput } = volumeConfiguration ?? {};
  const isStart = row.state === 'START_IN_PROGRESS';
  return {
    id: row.id,
    fence: row.version,
    signal,
    imageId: streamingImageId!,
    instanceType: ec2InstanceType!,
    ...(volumeConfiguration && {
      volume: {
        ...(size !== undefined && { sizeGib: size }),
        ...(iops !== undefined && { iops }),
        ...(throughput !== undefined && { throughputMibps: throughput }),
      },
    }),
    ...(startedFromBackupId !== undefined && { fromBackupId: startedFromBackupId }),
    needsVolume: isStart && volumeRetentionMode === 'RETAIN' && startedFromBackupId === undefined,
    onProgress: (percent) =>
      progress({
        type: 'progressed',
        statusMessage: `Streaming Session ${isStart ? 'start' : 'creation'} is in progress: ${Math.floor(percent)} %`,
      }),
  };
}

/** Volumes are deleted last, and only when the backup that there should be is made: it may be all that is left. */
async function stopWorkstation(row: Row, context: JobContext, ports: StreamingSessionPorts): Promise<Outcome> {
  const { compute, clock } = ports;
  const change = { id: row.id, fence: row.version, signal: context.signal };
  await closeStreams(row, ports);
  await compute.stop({ ...change, volume: 'keep' });
  const { backupId, limits, endedByItself, volumeMayBeGone } = privateOf(row);
  const safe = backupId === undefined || (await backUpStopped(row, backupId, context, ports));
  const { volumeRetentionMode } = JSON.parse(row.doc) as StreamingSession;
  const stopped: LifecycleEvent = {
    type: 'stopped',
    ...limitWhenStopped(limits, clock.now()),
    ...(endedByItself && { statusMessage: (await hasVolume(row, ports)) ? ENDED_BY_ITSELF : ENDED_WITHOUT_VOLUME }),
  };
  if (volumeRetentionMode === 'DELETE' && safe) {
    await compute.stop({ ...change, volume: 'delete' });
    return { event: stopped };
  }
  if (volumeMayBeGone && !(await hasVolume(row, ports))) {
    return { event: { ...stopped, ...keeping('DELETE', stopped, 'An earlier stop had deleted its volumes.') } };
  }
  if (volumeRetentionMode !== 'DELETE') return { event: stopped };
  return { event: { ...stopped, ...keeping('RETAIN', stopped, 'Its backup failed, so its volumes are kept.') } };
}

/** What a stop says that came to something else with the volumes than it was asked. */
function keeping(
  volumeRetentionMode: StreamingSession['volumeRetentionMode'],
  { changes }: LifecycleEvent,
  why: string,
): Pick<LifecycleEvent, 'changes' | 'statusMessage'> {
  return { changes: { ...changes, volumeRetentionMode }, statusMessage: `Streaming Session has been stopped. ${why}` };
}

async function hasVolume({ id }: Row, { compute }: StreamingSessionPorts): Promise<boolean> {
  return (await compute.list()).some((workstation) => workstation.id === id && workstation.hasVolume);
}

async function destroySession(row: Row, { signal }: JobContext, ports: StreamingSessionPorts): Promise<Outcome> {
  await closeStreams(row, ports);
  await moveChildren(row.id, streamingSessionBackupLifecycle as Lifecycle, { type: 'remove' }, ports);
  await ports.compute.destroy({ ...changeOf(row), signal });
  return { event: { type: 'deleted', releaseName: true } };
}

export async function closeStreams(
  { id }: Row,
  ports: Pick<StreamingSessionPorts, 'store' | 'clock'> & { readonly settings: { readonly tombstoneMs: number } },
): Promise<void> {
  const closed = { type: 'closed', privateChanges: NO_TICKET };
  await moveChildren(id, streamingSessionStreamLifecycle as Lifecycle, closed, ports);
  await endViewersOf(id, ports.store);
}

/** What a caller could have done a moment earlier. */
function eventAtEndOfTime(row: Row, { clock, ids }: StreamingSessionPorts): LifecycleEvent {
  const isOver = endOfTime(JSON.parse(row.doc) as StreamingSession);
  return isOver === 'stop' ? stopEvent(row, { now: clock.now(), ids }) : deleteEvent();
}
