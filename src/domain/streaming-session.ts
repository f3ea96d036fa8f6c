/**
 * Streaming sessions: their lifecycle, and what the six operations on them decide. Create, start, stop and delete only
 * write the row; a worker does what it asks for. A session that runs or is stopped has a time limit, which is `due_at` of
 * its row and the same event that a caller would cause. This file must never reach a workstation.
 */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { Input } from '../contract/index.ts';
import { STREAMING_SESSION_FAILURES as FAILURES, type StreamingSession } from '../contract/streaming-session.ts';
import { resourceNotFound, validationFailed } from '../errors.ts';
import type { Ids } from '../ids.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { Handlers, Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import { decodeToken, filteredPageAnswer, inListOrder, pageAnswer } from './page.ts';
import { requireRoom, roomGuard } from './quota.ts';
import { requireRestorable } from './streaming-session-backup.ts';
import { mayStop, NO_LIMIT, type TimeLimits, timeLimitsOf } from './streaming-session-clock.ts';
import {
  configurationOf,
  findSeat,
  ownerQuota,
  requireAcceptedEulas,
  requireListed,
  requireMembers,
  requireReadyProfile,
  requireUsableImage,
  sessionQuota,
  stays,
} from './streaming-session-launch.ts';
import { requireLiveStudio, requireOpen, requireOpenStudio } from './studio.ts';
import { requireTags } from './tag-limits.ts';

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
}

type SessionEvent = LifecycleEvent<StreamingSessionEvent>;

function applyToSession(row: Row, event: SessionEvent, { clock, settings }: Services): Row {
  return apply(streamingSessionLifecycle, row, event, { now: clock.now(), tombstoneMs: settings.tombstoneMs });
}

const privateOf = (row: Row) => JSON.parse(row.private) as StreamingSessionPrivate;

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
  return {
    type: 'stop',
    changes: {
      ...NO_LIMIT,
      stoppedAt: wireTime(now),
      stoppedBy: by,
      ...(by !== undefined && { updatedBy: by }),
      volumeRetentionMode: volumeRetentionMode ?? (sessionPersistenceMode === 'ACTIVATED' ? 'RETAIN' : 'DELETE'),
    },
    privateChanges: { backupId: backsUp ? ids.short() : undefined, endedByItself: undefined },
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

// --- Create and list ---

/** What a session takes over from its launch profile, for as long as it lives. */
function copiedMembers(profile: Row): Partial<StreamingSession> {
  const { automaticTerminationMode, sessionBackup, sessionPersistenceMode, volumeConfiguration } =
    configurationOf(profile);
  return {
    ...(automaticTerminationMode && { automaticTerminationMode }),
    ...(sessionBackup?.mode && { backupMode: sessionBackup.mode }),
    ...(sessionBackup?.maxBackupsToRetain !== undefined && { maxBackupsToRetain: sessionBackup.maxBackupsToRetain }),
    ...(sessionPersistenceMode && { sessionPersistenceMode }),
    ...(volumeConfiguration && { volumeConfiguration }),
  };
}

type Chosen = Required<Pick<StreamingSession, 'ec2InstanceType' | 'streamingImageId' | 'ownedBy'>> & {
  readonly tags: Readonly<Record<string, string>>;
};

/** The first version of a session's row, due at once. */
function newSession(profile: Row, chosen: Chosen, { principalId }: Principal, services: Services): Row {
  const now = services.clock.now();
  const sessionId = services.ids.short();
  const doc: StreamingSession = {
    arn: arnOf(KIND.streamingSession, sessionId, services.settings),
    ...copiedMembers(profile),
    createdAt: wireTime(now),
    createdBy: principalId,
    launchProfileId: profile.id,
    sessionId,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAMING_SESSION_CREATE_IN_PROGRESS',
    statusMessage: 'Streaming Session creation is in progress',
    updatedAt: wireTime(now),
    updatedBy: principalId,
    ...chosen,
  };
  const secret: StreamingSessionPrivate = { limits: timeLimitsOf(configurationOf(profile)) };
  return newRow({
    kind: KIND.streamingSession,
    id: sessionId,
    studioId: profile.studioId,
    parentId: profile.id,
    ownerId: chosen.ownedBy,
    state: streamingSessionLifecycle.initial,
    dueAt: now,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify(secret),
  });
}

/** Ids that one filter may name. */
const FILTER_IDS_MAX = 100;

/** The ids of a filter, which stand in one text with commas between them. @throws ServiceError ValidationException */
function requireIds(given = ''): string[] {
  const ids = new Set(given.split(',').map((id) => id.trim()));
  ids.delete('');
  if (ids.size <= FILTER_IDS_MAX) return [...ids].sort();
  throw validationFailed(
    `1 validation error detected. Value with length ${ids.size} at '/sessionIds' failed to satisfy constraint: ` +
      `Member must have length less than or equal to ${FILTER_IDS_MAX}`,
    'TOO_MANY_IDS',
  );
}

function passes({ createdBy, ownedBy }: Pick<Input<'ListStreamingSessions'>, 'createdBy' | 'ownedBy'>) {
  return (row: Row): boolean =>
    (ownedBy === undefined || row.ownerId === ownedBy) &&
    (createdBy === undefined || (JSON.parse(row.doc) as StreamingSession).createdBy === createdBy);
}

export const streamingSessionHandlers: Pick<
  Handlers,
  | 'CreateStreamingSession'
  | 'GetStreamingSession'
  | 'ListStreamingSessions'
  | 'StartStreamingSession'
  | 'StopStreamingSession'
  | 'DeleteStreamingSession'
> = {
  CreateStreamingSession: {
    command: async (input, principal, services) => {
      const { store, settings } = services;
      const tags = requireTags(input.tags ?? {});
      const studio = await requireOpenStudio(store, input.studioId);
      const profile = await requireReadyProfile(store, studio.id, input.launchProfileId);
      const ownedBy = input.ownedBy ?? principal.principalId;
      await requireMembers(store, profile.id, principal, ownedBy);
      const { ec2InstanceTypes, streamingImageIds } = configurationOf(profile);
      const ec2InstanceType = requireListed('ec2InstanceType', ec2InstanceTypes, input.ec2InstanceType);
      const streamingImageId = requireListed('streamingImageId', streamingImageIds, input.streamingImageId);
      const image = await requireUsableImage(store, studio.id, streamingImageId);
      await requireAcceptedEulas(store, studio.id, image);
      const ofOwner = ownerQuota(studio.id, ownedBy, settings);
      const quotas = [sessionQuota(studio.id, settings), ...(ofOwner ? [ofOwner] : [])];
      for (const quota of quotas) await requireRoom(quota, store);
      const uniqueName = await findSeat(store, studio.id, ec2InstanceType, settings);
      const chosen = { ec2InstanceType, streamingImageId, ownedBy, tags };
      const row = { ...newSession(profile, chosen, principal, services), uniqueName };
      const guards = [stays(studio), stays(profile), stays(image), ...quotas.map(roomGuard)];
      return answerWith(row, [...guards, { op: 'insert', row }]);
    },
  },

  GetStreamingSession: {
    query: async (input, _principal, { store }) =>
      sessionAnswer(await requireSession(store, input.studioId, input.sessionId)),
  },

  ListStreamingSessions: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const { createdBy, ownedBy } = input;
      const sessionIds = requireIds(input.sessionIds);
      const scope = [settings.accountId, 'ListStreamingSessions', studio.id, createdBy, ownedBy, ...sessionIds];
      const after = decodeToken(input.nextToken, scope);
      if (sessionIds.length > 0) {
        const found = await Promise.all(sessionIds.map((id) => store.get(KIND.streamingSession, id)));
        const rows = inListOrder(found).filter((row) => row.studioId === studio.id && passes(input)(row));
        return pageAnswer('sessions', rows, FILTER_IDS_MAX, scope);
      }
      const query = {
        kind: KIND.streamingSession,
        studioIds: [studio.id],
        ...(ownedBy !== undefined && { ownerId: ownedBy }),
        ...(after && { after }),
      };
      if (createdBy !== undefined) {
        return filteredPageAnswer('sessions', { store, query, passes: passes(input) }, PAGE_LENGTH, scope);
      }
      return pageAnswer('sessions', await store.list({ ...query, limit: PAGE_LENGTH + 1 }), PAGE_LENGTH, scope);
    },
  },

  StartStreamingSession: {
    command: async (input, principal, services) => {
      const { store, clock } = services;
      const row = await requireChangeableSession(store, input.studioId, input.sessionId);
      const { principalId } = principal;
      const changes = {
        ...NO_LIMIT,
        startedAt: wireTime(clock.now()),
        startedBy: principalId,
        startedFromBackupId: input.backupId,
        updatedBy: principalId,
      };
      const next = applyToSession(row, { type: 'start', changes }, services);
      const profile = await requireReadyProfile(store, row.studioId, row.parentId!);
      await requireMembers(store, profile.id, principal, row.ownerId!);
      const backup = input.backupId === undefined ? [] : [await requireRestorable(store, row, input.backupId)];
      return answerWith(next, [stays(profile), ...backup.map(stays), { op: 'update', row: next }]);
    },
  },

  StopStreamingSession: {
    command: async (input, { principalId }, services) => {
      const row = await requireChangeableSession(services.store, input.studioId, input.sessionId);
      const now = services.clock.now();
      const { volumeRetentionMode } = input;
      const event = stopEvent(row, {
        now,
        ids: services.ids,
        by: principalId,
        ...(volumeRetentionMode && { volumeRetentionMode }),
      });
      const next = applyToSession(row, event, services);
      if (!mayStop(privateOf(row).limits)) {
        throw validationFailed(
          'The launch profile of this session allows no stopping: it gives stopped sessions no time. Delete the session instead.',
          'STOP_NOT_ALLOWED',
          { resourceId: row.id },
        );
      }
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },

  DeleteStreamingSession: {
    command: async (input, { principalId }, services) => {
      const row = await requireChangeableSession(services.store, input.studioId, input.sessionId);
      const next = applyToSession(row, deleteEvent(principalId), services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },
};

function sessionAnswer(row: Row): string {
  return `{"session":${row.doc}}`;
}

function answerWith(row: Row, writes: Parameters<Store['write']>[0]) {
  return { writes, answer: sessionAnswer(row), subject: { kind: row.kind, id: row.id } };
}
