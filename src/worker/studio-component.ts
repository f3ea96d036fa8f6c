/**
 * What the states of a studio component ask for: it is set up, changed or deleted, which takes no more than a look at what
 * could stand in the way. Nothing outside the database comes of it, so there is nothing to clean up.
 */
import { KIND } from '../domain/kinds.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import { type StudioComponentPrivate, studioComponentLifecycle } from '../domain/studio-component.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import { FAILED, jobsOf, type Status } from './settling.ts';
import { missingKey } from './studio.ts';
import type { Job } from './worker.ts';

export function studioComponentJobs(ports: { readonly store: Store; readonly keys: Keys }): Job[] {
  const job = jobsOf(studioComponentLifecycle as Lifecycle);
  return [
    job(
      'CREATE_IN_PROGRESS',
      async (row) => ({ event: await settleCreate(row, ports) }),
      () => createFailed(FAILED),
    ),
    // It is never given up: the change stands already, and there is nothing to go back to.
    job('UPDATE_IN_PROGRESS', async (row) => ({ event: settleUpdate(row) })),
    job(
      'DELETE_IN_PROGRESS',
      async () => ({ event: { type: 'deleted', releaseName: true } }),
      () => ({ type: 'deleteFailed', ...FAILED }),
    ),
    job('CREATE_FAILED', async () => ({ purge: true })),
    job('DELETED', async () => ({ purge: true })),
  ];
}

async function settleCreate(row: Row, { store, keys }: { store: Store; keys: Keys }): Promise<LifecycleEvent> {
  const failure = secondDirectory(row);
  if (failure) return createFailed(failure);
  const studio = await store.get(KIND.studio, row.studioId);
  const keyArn = studio && (await missingKey(studio, keys));
  if (keyArn === undefined) return { type: 'created' };
  return createFailed({
    statusCode: 'ENCRYPTION_KEY_NOT_FOUND',
    statusMessage: `The studio's key ${keyArn} is gone, so nothing can be created in it any more.`,
  });
}

/** What never came to be is in nobody's way: another may take its seat. */
function createFailed(failure: Status): LifecycleEvent {
  return { type: 'createFailed', ...failure, releaseName: true, privateChanges: SETTLED };
}

function settleUpdate(row: Row): LifecycleEvent {
  const failure = secondDirectory(row);
  return failure ? { type: 'updateFailed', ...failure, privateChanges: SETTLED } : { type: 'updated' };
}

const SETTLED = { directoryTaken: undefined };

function secondDirectory(row: Row): Status | undefined {
  if (!(JSON.parse(row.private) as StudioComponentPrivate).directoryTaken) return undefined;
  return {
    statusCode: 'ACTIVE_DIRECTORY_ALREADY_EXISTS',
    statusMessage: 'The studio has an Active Directory component already. Delete that first.',
  };
}
