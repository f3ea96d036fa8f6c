/**
 * The lifecycle of streaming sessions, the events that both a caller and a time limit bring about, and which sessions are
 * there and may be changed. What a session is made of, and who may have one, is decided in streaming-session.ts.
 */
import { wireTime } from '../clock.ts';
import { STREAMING_SESSION_FAILURES as FAILURES, type StreamingSession } from '../contract/streaming-session.ts';
import { resourceNotFound } from '../errors.ts';
import type { Ids } from '../ids.ts';
import type { Row, Store } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import { NO_LIMIT, type TimeLimits } from './streaming-session-clock.ts';
import { requireLiveStudio, requireOpen } from './studio.ts';

const start = {
  to: 'START_IN_PROGRESS',
  statusCode: 'STREAMING_SESSION_START_IN_PROGRESS',
  statusMessage: 'Streaming Session start is in progress',
} as const;
const stop = {
  to: 'STOP_IN_PROGRESS',
  statusCode: 'STREAMING_SESSION_STOP_IN_PROGRESS',
  statusMessage: 'Streaming Session stop is in progress',
} as const;
const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'STREAMING_SESSION_DELETE_IN_PROGRESS',
  statusMessage: 'Streaming Session deletion is in progress',
} as const;

export type StreamingSessionState = NonNullable<StreamingSession['state']>;
export type StreamingSessionEvent =
  | 'start'
  | 'stop'
  | 'delete'
  | 'tag'
  | 'progressed'
  | 'ready'
  | 'lost'
  | 'stopped'
  | 'deleted'
  | 'failed';
export type StreamingSessionWork = 'create' | 'start' | 'stop' | 'remove' | 'end-of-time' | 'purge';

export const streamingSessionLifecycle = defineLifecycle<
  StreamingSessionState,
  StreamingSessionEvent,
  StreamingSessionWork
>({
  kind: KIND.streamingSession,
  noun: 'Streaming session',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: true,
  requests: ['start', 'stop', 'delete', 'tag'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'The workstation is being made; the message shows how far it is.',
      statusCodes: ['STREAMING_SESSION_CREATE_IN_PROGRESS'],
      work: 'create',
      on: {
        progressed: { to: 'CREATE_IN_PROGRESS' },
        ready: {
          to: 'READY',
          statusCode: 'STREAMING_SESSION_READY',
          statusMessage: 'Streaming Session is ready',
        },
        failed: { to: 'CREATE_FAILED' },
      },
    },
    READY: {
      meaning: 'The workstation runs, until `stopAt` or `terminateAt`.',
      statusCodes: ['STREAMING_SESSION_READY', 'STREAMING_SESSION_STARTED'],
      work: 'end-of-time',
      workAfter: 'event',
      on: {
        stop,
        delete: remove,
        tag: { to: 'READY' },
        lost: {
          to: 'STOP_FAILED',
          statusCode: 'INTERNAL_ERROR',
          statusMessage:
            'The workstation ended by itself: it was shut down from inside, or crashed. Its launch profile allows no ' +
            'stopped sessions, so it cannot be started again. Its volume is kept until the session is deleted.',
        },
      },
    },
    STOP_IN_PROGRESS: {
      meaning: 'The workstation is being stopped, and backed up where its launch profile says so.',
      statusCodes: ['STREAMING_SESSION_STOP_IN_PROGRESS'],
      work: 'stop',
      on: {
        stopped: {
          to: 'STOPPED',
          statusCode: 'STREAMING_SESSION_STOPPED',
          statusMessage: 'Streaming Session has been stopped',
        },
        failed: { to: 'STOP_FAILED' },
      },
    },
    STOPPED: {
      meaning: 'The workstation does not run; it can be started again, until `terminateAt` where there is one.',
      statusCodes: ['STREAMING_SESSION_STOPPED'],
      work: 'end-of-time',
      workAfter: 'event',
      on: { start, delete: remove, tag: { to: 'STOPPED' } },
    },
    START_IN_PROGRESS: {
      meaning: 'The workstation is being started again; the message shows how far it is.',
      statusCodes: ['STREAMING_SESSION_START_IN_PROGRESS'],
      work: 'start',
      on: {
        progressed: { to: 'START_IN_PROGRESS' },
        ready: {
          to: 'READY',
          statusCode: 'STREAMING_SESSION_STARTED',
          statusMessage: 'Streaming Session has been started',
        },
        failed: { to: 'START_FAILED' },
      },
    },
    CREATE_FAILED: {
      meaning: 'No workstation could be made; the status says why. Delete the session and create another.',
      statusCodes: FAILURES,
      on: { delete: remove, tag: { to: 'CREATE_FAILED' } },
    },
    START_FAILED: {
      meaning:
        'The workstation could not be started again; the status says why. What it holds is kept: start it once more.',
      statusCodes: FAILURES,
      on: { start, delete: remove, tag: { to: 'START_FAILED' } },
    },
    STOP_FAILED: {
      meaning:
        'The workstation could not be stopped and may still run, or ended by itself where it may not be stopped; the status ' +
        'says which. Stop it once more where it may be stopped, or delete the session.',
      statusCodes: FAILURES,
      on: { stop, delete: remove, tag: { to: 'STOP_FAILED' } },
    },
    DELETE_IN_PROGRESS: {
      meaning: 'Workstation, volumes, backups and streams are being destroyed.',
      statusCodes: ['STREAMING_SESSION_DELETE_IN_PROGRESS'],
      work: 'remove',
      on: {
        deleted: {
          to: 'DELETED',
          statusCode: 'STREAMING_SESSION_DELETED',
          statusMessage: 'Streaming Session has been deleted',
        },
        failed: { to: 'DELETE_FAILED' },
      },
    },
    DELETE_FAILED: {
      meaning: 'Something of the session is left; the status says why. Delete it again.',
      statusCodes: FAILURES,
      on: { delete: remove, tag: { to: 'DELETE_FAILED' } },
    },
    DELETED: {
      meaning: 'A tombstone: readable for a while, then gone.',
      statusCodes: ['STREAMING_SESSION_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
  },
});

/** `private` of a session's row. */
export interface StreamingSessionPrivate {
  readonly limits: TimeLimits;
  /** The backup that the stop in progress makes. */
  readonly backupId?: string;
  /** Whether the stop in progress, or the last one, is for a workstation that has ended already. */
  readonly endedByItself?: boolean;
  /** Whether a stop since the session ran last was to delete its volumes: where that one failed, they may be gone. */
  readonly volumeMayBeGone?: boolean;
}

type SessionEvent = LifecycleEvent<StreamingSessionEvent>;

export function applyToSession(row: Row, event: SessionEvent, { clock, settings }: Services): Row {
  return apply(streamingSessionLifecycle, row, event, { now: clock.now(), tombstoneMs: settings.tombstoneMs });
}

// --- Stop and delete, which a time limit brings about as a caller does ---

interface Stopping {
  readonly now: number;
  readonly ids: Ids;
  /** Nobody where it is the time limit. */
  readonly by?: string;
  readonly volumeRetentionMode?: StreamingSession['volumeRetentionMode'];
}

/** The volumes of a session that persists are kept, those of any other deleted, unless someone asks for the opposite. */
export function stopEvent(row: Row, { now, ids, by, volumeRetentionMode }: Stopping): SessionEvent {
  const { sessionPersistenceMode, backupMode, maxBackupsToRetain = 0 } = JSON.parse(row.doc) as StreamingSession;
  const backsUp = backupMode === 'AUTOMATIC' && maxBackupsToRetain > 0;
  const retention = volumeRetentionMode ?? (sessionPersistenceMode === 'ACTIVATED' ? 'RETAIN' : 'DELETE');
  const { volumeMayBeGone: before } = JSON.parse(row.private) as StreamingSessionPrivate;
  const volumeMayBeGone = retention === 'DELETE' || (row.state === 'STOP_FAILED' && before) || undefined;
  return {
    type: 'stop',
    changes: {
      ...NO_LIMIT,
      stoppedAt: wireTime(now),
      stoppedBy: by,
      ...(by !== undefined && { updatedBy: by }),
      volumeRetentionMode: retention,
    },
    privateChanges: { backupId: backsUp ? ids.short() : undefined, endedByItself: undefined, volumeMayBeGone },
  };
}

export function deleteEvent(by?: string): SessionEvent {
  return { type: 'delete', changes: { ...NO_LIMIT, ...(by !== undefined && { updatedBy: by }) } };
}

// --- Who is there ---

/**
 * The session, tombstones included. Those of other studios do not exist here.
 * @throws ServiceError ResourceNotFoundException that names the studio when it is the studio that does not exist.
 */
export async function requireSession(store: Store, studioId: string, sessionId: string): Promise<Row> {
  const row = await store.get(KIND.streamingSession, sessionId);
  if (row?.studioId === studioId) return row;
  await requireLiveStudio(store, studioId);
  throw resourceNotFound('Streaming session', sessionId);
}

/** The session, when it may be changed. @throws ServiceError ResourceNotFoundException, ConflictException */
export async function requireChangeableSession(store: Store, studioId: string, sessionId: string): Promise<Row> {
  const studio = await requireLiveStudio(store, studioId);
  const row = await requireSession(store, studioId, sessionId);
  if (row.state === 'DELETED') throw resourceNotFound('Streaming session', sessionId);
  requireOpen(studio);
  return row;
}
