/**
 * The lifecycle of launch profiles, and which of them are there and may be changed. What a profile holds is decided in
 * launch-profile.ts.
 */
import type { LaunchProfile } from '../contract/launch-profile.ts';
import { resourceNotFound, ServiceError } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import { requireLiveStudio, requireOpen } from './studio.ts';

const FAILURES = [
  'STREAMING_IMAGE_NOT_FOUND',
  'STREAMING_IMAGE_NOT_READY',
  'INVALID_SUBNETS_PROVIDED',
  'INVALID_SUBNETS_COMBINATION',
  'INVALID_INSTANCE_TYPES_PROVIDED',
  'ENCRYPTION_KEY_NOT_FOUND',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'INTERNAL_ERROR',
] as const;

const update = {
  to: 'UPDATE_IN_PROGRESS',
  statusCode: 'LAUNCH_PROFILE_UPDATE_IN_PROGRESS',
  statusMessage: 'Launch Profile update is in progress',
} as const;
const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'LAUNCH_PROFILE_DELETE_IN_PROGRESS',
  statusMessage: 'Launch Profile deletion is in progress',
} as const;

export type LaunchProfileState = NonNullable<LaunchProfile['state']>;
export type LaunchProfileEvent =
  | 'update'
  | 'delete'
  | 'tag'
  | 'created'
  | 'createFailed'
  | 'updated'
  | 'updateFailed'
  | 'deleted'
  | 'deleteFailed';
export type LaunchProfileWork = 'settle-create' | 'settle-update' | 'settle-delete' | 'purge';

export const launchProfileLifecycle = defineLifecycle<LaunchProfileState, LaunchProfileEvent, LaunchProfileWork>({
  kind: KIND.launchProfile,
  noun: 'Launch profile',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: true,
  requests: ['update', 'delete', 'tag'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'What the profile names is being checked.',
      statusCodes: ['LAUNCH_PROFILE_CREATE_IN_PROGRESS'],
      work: 'settle-create',
      on: {
        created: {
          to: 'READY',
          statusCode: 'LAUNCH_PROFILE_CREATED',
          statusMessage: 'Launch Profile has been created',
        },
        createFailed: { to: 'CREATE_FAILED' },
      },
    },
    READY: {
      meaning: 'Sessions can be started; the code tells whether the profile was created or updated last.',
      statusCodes: ['LAUNCH_PROFILE_CREATED', 'LAUNCH_PROFILE_UPDATED'],
      on: { update, delete: remove, tag: { to: 'READY' } },
    },
    UPDATE_IN_PROGRESS: {
      meaning: 'A change is shown, and what it names is being checked.',
      statusCodes: ['LAUNCH_PROFILE_UPDATE_IN_PROGRESS'],
      work: 'settle-update',
      on: {
        updated: {
          to: 'READY',
          statusCode: 'LAUNCH_PROFILE_UPDATED',
          statusMessage: 'Launch Profile has been updated',
        },
        updateFailed: { to: 'UPDATE_FAILED' },
      },
    },
    CREATE_FAILED: {
      meaning: 'The profile cannot be used; the status says why. It goes by itself after a while, or is deleted.',
      statusCodes: FAILURES,
      work: 'purge',
      workAfter: 'tombstone',
      on: { delete: remove, tag: { to: 'CREATE_FAILED' } },
    },
    UPDATE_FAILED: {
      meaning: 'A change was not applied; the status says why. The profile is as it was before. Update it again.',
      statusCodes: FAILURES,
      on: { update, delete: remove, tag: { to: 'UPDATE_FAILED' } },
    },
    DELETE_IN_PROGRESS: {
      meaning: 'The profile is being deleted.',
      statusCodes: ['LAUNCH_PROFILE_DELETE_IN_PROGRESS'],
      work: 'settle-delete',
      on: {
        deleted: {
          to: 'DELETED',
          statusCode: 'LAUNCH_PROFILE_DELETED',
          statusMessage: 'Launch Profile has been deleted',
        },
        deleteFailed: { to: 'DELETE_FAILED' },
      },
    },
    DELETE_FAILED: {
      meaning: 'The profile still has sessions, or the server failed; the status says which. Delete it again then.',
      statusCodes: ['LAUNCH_PROFILE_WITH_STREAM_SESSIONS_NOT_DELETED', 'INTERNAL_ERROR'],
      on: { update, delete: remove, tag: { to: 'DELETE_FAILED' } },
    },
    DELETED: {
      meaning: 'A tombstone: readable for a while, then gone.',
      statusCodes: ['LAUNCH_PROFILE_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
  },
});

export function applyToLaunchProfile(
  row: Row,
  event: LifecycleEvent<LaunchProfileEvent>,
  services: Pick<Services, 'clock' | 'settings'>,
): Row {
  return apply(launchProfileLifecycle, row, event, {
    now: services.clock.now(),
    tombstoneMs: services.settings.tombstoneMs,
  });
}

/**
 * The profile, tombstones included. Those of other studios do not exist here.
 * @throws ServiceError ResourceNotFoundException that names the studio when it is the studio that does not exist.
 */
export async function requireLaunchProfile(store: Store, studioId: string, launchProfileId: string): Promise<Row> {
  const row = await store.get(KIND.launchProfile, launchProfileId);
  if (row?.studioId === studioId) return row;
  await requireLiveStudio(store, studioId);
  throw resourceNotFound('Launch profile', launchProfileId);
}

/** The profile, unless it is deleted. @throws ServiceError ResourceNotFoundException */
export async function requireLiveLaunchProfile(store: Store, studioId: string, launchProfileId: string): Promise<Row> {
  const row = await requireLaunchProfile(store, studioId, launchProfileId);
  if (row.state === 'DELETED') throw resourceNotFound('Launch profile', launchProfileId);
  return row;
}

/** The profile, when its studio lets it be changed. @throws ServiceError ResourceNotFoundException, ConflictException */
export async function requireChangeableLaunchProfile(
  store: Store,
  studioId: string,
  launchProfileId: string,
): Promise<Row> {
  const studio = await requireLiveStudio(store, studioId);
  const row = await requireLiveLaunchProfile(store, studioId, launchProfileId);
  requireOpen(studio);
  return row;
}

const NEVER_READY: readonly string[] = ['CREATE_IN_PROGRESS', 'CREATE_FAILED'];
const SETTLED: readonly string[] = ['READY', 'UPDATE_FAILED', 'DELETE_FAILED'];

/** @throws ServiceError ConflictException while the profile has not once been READY: nothing in it was checked yet. */
export function requireOnceReady(row: Row): void {
  if (NEVER_READY.includes(row.state)) throw notReady(row);
}

/**
 * Refuses what lives in a profile while the profile is on the way from one state to another, or never came to be.
 * @throws ServiceError ConflictException
 */
export function requireSettledLaunchProfile(row: Row): void {
  if (!SETTLED.includes(row.state)) throw notReady(row);
}

function notReady({ id, state }: Row): ServiceError {
  return new ServiceError('ConflictException', `Launch profile ${id} is ${state}, not READY`, {
    code: 'LAUNCH_PROFILE_NOT_READY',
    context: { resourceId: id, state },
  });
}
