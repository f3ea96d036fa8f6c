/**
 * Backups of sessions: their lifecycle, and the two operations that read them. Nobody makes or deletes one by a call: the
 * worker makes it while the session stops (see worker/streaming-session-stop.ts), and removes the oldest beyond those to
 * be kept, and all of them with their session. A removal is never given up: no call could ask for it again.
 */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { StreamingSession } from '../contract/streaming-session.ts';
import type { StreamingSessionBackup } from '../contract/streaming-session-backup.ts';
import { resourceNotFound, ServiceError, validationFailed } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { DomainSettings, Handlers } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { defineLifecycle } from './lifecycle.ts';
import { decodeToken, pageAnswer } from './page.ts';
import { requireLiveStudio } from './studio.ts';

const FAILURES = [
  'INSUFFICIENT_CAPACITY',
  'NETWORK_CONNECTION_ERROR',
  'DECRYPT_STREAMING_IMAGE_ERROR',
  'INTERNAL_ERROR',
] as const;

const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'STREAMING_SESSION_DELETE_IN_PROGRESS',
  statusMessage: 'Streaming Session Backup deletion is in progress',
} as const;

const unused = (statusCode: string) =>
  ({ meaning: 'Of sessions alone; never seen.', statusCodes: [statusCode], neverEntered: true, on: {} }) as const;

export type StreamingSessionBackupState = NonNullable<StreamingSessionBackup['state']>;
export type StreamingSessionBackupEvent = 'tag' | 'made' | 'failed' | 'waited' | 'remove' | 'removed';
export type StreamingSessionBackupWork = 'look-after' | 'remove' | 'purge';

export const streamingSessionBackupLifecycle = defineLifecycle<
  StreamingSessionBackupState,
  StreamingSessionBackupEvent,
  StreamingSessionBackupWork
>({
  kind: KIND.streamingSessionBackup,
  noun: 'Streaming session backup',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: false,
  requests: ['tag'],
  fromParent: ['made', 'failed', 'remove'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'The backup is being made, while its session stops.',
      statusCodes: ['STREAMING_SESSION_CREATE_IN_PROGRESS'],
      work: 'look-after',
      workAfter: 'event',
      on: {
        made: {
          to: 'READY',
          statusCode: 'STREAMING_SESSION_READY',
          statusMessage: 'Streaming Session Backup is ready',
        },
        failed: { to: 'CREATE_FAILED' },
        waited: { to: 'CREATE_IN_PROGRESS' },
        remove,
      },
    },
    READY: {
      meaning: 'The session can be started from it.',
      statusCodes: ['STREAMING_SESSION_READY'],
      on: { remove, tag: { to: 'READY' } },
    },
    CREATE_FAILED: {
      meaning: 'The backup could not be made; the status says why. It goes by itself after a while.',
      statusCodes: FAILURES,
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
    DELETE_IN_PROGRESS: {
      meaning: 'The backup is being destroyed: there are newer ones, or its session is deleted.',
      statusCodes: ['STREAMING_SESSION_DELETE_IN_PROGRESS'],
      work: 'remove',
      on: {
        removed: {
          to: 'DELETED',
          statusCode: 'STREAMING_SESSION_DELETED',
          statusMessage: 'Streaming Session Backup has been deleted',
        },
      },
    },
    DELETED: {
      meaning: 'A tombstone: readable for a while, then gone.',
      statusCodes: ['STREAMING_SESSION_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
    DELETE_FAILED: unused('INTERNAL_ERROR'),
    STOP_IN_PROGRESS: unused('STREAMING_SESSION_STOP_IN_PROGRESS'),
    STOPPED: unused('STREAMING_SESSION_STOPPED'),
    STOP_FAILED: unused('INTERNAL_ERROR'),
    START_IN_PROGRESS: unused('STREAMING_SESSION_START_IN_PROGRESS'),
    START_FAILED: unused('INTERNAL_ERROR'),
  },
});

/** The first version of a backup's row. @param dueAt when someone else looks whether it is still being made. */
export function newBackup(
  session: Row,
  backupId: string,
  { now, dueAt, settings }: { now: number; dueAt: number; settings: Pick<DomainSettings, 'region' | 'accountId'> },
): Row {
  const { launchProfileId, ownedBy } = JSON.parse(session.doc) as StreamingSession;
  const doc: StreamingSessionBackup = {
    arn: arnOf(KIND.streamingSessionBackup, backupId, settings),
    backupId,
    createdAt: wireTime(now),
    launchProfileId: launchProfileId!,
    ownedBy: ownedBy!,
    sessionId: session.id,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAMING_SESSION_CREATE_IN_PROGRESS',
    statusMessage: 'Streaming Session Backup creation is in progress',
    tags: {},
  };
  return newRow({
    kind: KIND.streamingSessionBackup,
    id: backupId,
    studioId: session.studioId,
    parentId: session.id,
    ownerId: session.ownerId,
    state: streamingSessionBackupLifecycle.initial,
    dueAt,
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

/** @throws ServiceError ResourceNotFoundException, tombstones excluded where `live`. */
async function requireBackup(store: Store, studioId: string, backupId: string): Promise<Row> {
  const row = await store.get(KIND.streamingSessionBackup, backupId);
  if (row?.studioId === studioId) return row;
  await requireLiveStudio(store, studioId);
  throw resourceNotFound('Streaming session backup', backupId);
}

/**
 * The backup, when this session may be started from it.
 * @throws ServiceError ResourceNotFoundException, ValidationException for that of another session, ConflictException
 */
export async function requireRestorable(store: Store, session: Row, backupId: string): Promise<Row> {
  const row = await requireBackup(store, session.studioId, backupId);
  if (row.state === 'DELETED') throw resourceNotFound('Streaming session backup', backupId);
  if (row.parentId !== session.id) {
    throw validationFailed(
      "1 validation error detected. Value at '/backupId' failed to satisfy constraint: Member must be a backup of this session",
      'BACKUP_OF_ANOTHER_SESSION',
    );
  }
  if (row.state === 'READY') return row;
  throw new ServiceError('ConflictException', `Streaming session backup ${backupId} is ${row.state}, not READY`, {
    code: 'BACKUP_NOT_READY',
    context: { resourceId: backupId, state: row.state },
  });
}

export const streamingSessionBackupHandlers: Pick<
  Handlers,
  'GetStreamingSessionBackup' | 'ListStreamingSessionBackups'
> = {
  GetStreamingSessionBackup: {
    query: async (input, _principal, { store }) => {
      const row = await requireBackup(store, input.studioId, input.backupId);
      return `{"streamingSessionBackup":${row.doc}}`;
    },
  },
  ListStreamingSessionBackups: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const { ownedBy } = input;
      const scope = [settings.accountId, 'ListStreamingSessionBackups', studio.id, ownedBy];
      const after = decodeToken(input.nextToken, scope);
      const rows = await store.list({
        kind: KIND.streamingSessionBackup,
        studioIds: [studio.id],
        limit: PAGE_LENGTH + 1,
        ...(ownedBy !== undefined && { ownerId: ownedBy }),
        ...(after && { after }),
      });
      return pageAnswer('streamingSessionBackups', rows, PAGE_LENGTH, scope);
    },
  },
};
