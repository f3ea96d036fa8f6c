/**
 * What the states of a launch profile ask for: that what it names is looked at, that a change which cannot stand is taken
 * back, and that it is deleted if no session needs it. Nothing outside the database comes of it.
 */
import type { LaunchProfile } from '../contract/launch-profile.ts';
import { KIND } from '../domain/kinds.ts';
import { restored } from '../domain/launch-profile.ts';
import { componentsOf } from '../domain/launch-profile-contents.ts';
import { launchProfileLifecycle } from '../domain/launch-profile-lifecycle.ts';
import { faultOfImage } from '../domain/launch-profile-limits.ts';
import { validated } from '../domain/launch-profile-validation.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import { deleteRows } from './delete-rows.ts';
import { FAILED, jobsOf, type Status } from './settling.ts';
import { missingKey } from './studio.ts';
import type { Job } from './worker.ts';

interface Ports {
  readonly store: Store;
  readonly keys: Keys;
}

const HAS_SESSIONS: Status = {
  statusCode: 'LAUNCH_PROFILE_WITH_STREAM_SESSIONS_NOT_DELETED',
  statusMessage: 'The launch profile still has streaming sessions. Delete them first.',
};
const IMAGE_FAULTS = {
  STREAMING_IMAGE_NOT_FOUND: 'was not found',
  STREAMING_IMAGE_NOT_READY: 'is not READY',
} as const;

export function launchProfileJobs(ports: Ports): Job[] {
  const job = jobsOf(launchProfileLifecycle as Lifecycle);
  const purge: Job['run'] = async ({ id }) => {
    await deleteRows({ kind: KIND.launchProfileMember, parentId: id }, ports.store);
    return { purge: true };
  };
  return [
    job(
      'CREATE_IN_PROGRESS',
      async (row) => ({ event: await settleCreate(row, ports) }),
      () => ({ type: 'createFailed', ...FAILED }),
    ),
    job(
      'UPDATE_IN_PROGRESS',
      async (row) => ({ event: await settleUpdate(row, ports) }),
      (_error, row) => updateFailed(row, FAILED),
    ),
    job(
      'DELETE_IN_PROGRESS',
      async (row) => ({ event: await settleDelete(row, ports) }),
      () => ({ type: 'deleteFailed', ...FAILED }),
    ),
    job('CREATE_FAILED', purge),
    // Members stay until then: a delete that fails leaves everything as it was.
    job('DELETED', purge),
  ];
}

async function settleCreate(row: Row, ports: Ports): Promise<LifecycleEvent> {
  const failure = await faultOf(row, ports);
  return failure ? { type: 'createFailed', ...failure } : { type: 'created', changes: await checked(row, ports) };
}

async function settleUpdate(row: Row, ports: Ports): Promise<LifecycleEvent> {
  const failure = await faultOf(row, ports);
  if (failure) return updateFailed(row, failure);
  return { type: 'updated', changes: await checked(row, ports), privateChanges: SETTLED };
}

function updateFailed(row: Row, failure: Status): LifecycleEvent {
  return { type: 'updateFailed', ...failure, changes: restored(row), privateChanges: SETTLED };
}

const SETTLED = { before: undefined };

async function settleDelete(row: Row, { store }: Ports): Promise<LifecycleEvent> {
  const sessions = { kind: KIND.streamingSession, parentId: row.id, stateNot: 'DELETED', limit: 1 };
  return (await store.count(sessions)) > 0 ? { type: 'deleteFailed', ...HAS_SESSIONS } : { type: 'deleted' };
}

async function checked(row: Row, { store }: Ports): Promise<Pick<LaunchProfile, 'validationResults'>> {
  return { validationResults: [...validated(await componentsOf(row, store))] };
}

/** Why sessions could not be started with what the profile names. */
async function faultOf(row: Row, { store, keys }: Ports): Promise<Status | undefined> {
  const studio = await store.get(KIND.studio, row.studioId);
  const keyArn = studio && (await missingKey(studio, keys));
  if (keyArn !== undefined) {
    const statusMessage = `The studio's key ${keyArn} is gone, so none of its images can be used any more.`;
    return { statusCode: 'ENCRYPTION_KEY_NOT_FOUND', statusMessage };
  }
  const { streamConfiguration } = JSON.parse(row.doc) as LaunchProfile;
  for (const id of streamConfiguration!.streamingImageIds) {
    const statusCode = faultOfImage(await store.get(KIND.streamingImage, id), row.studioId);
    if (statusCode) return { statusCode, statusMessage: `Streaming image ${id} ${IMAGE_FAULTS[statusCode]}.` };
  }
  return undefined;
}
