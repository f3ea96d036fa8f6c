/** What the states of a studio ask for: it is set up, changed, or deleted if nothing lives in it any more. */
import type { Studio } from '../contract/studio.ts';
import { KIND } from '../domain/kinds.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import { studioLifecycle, updateEnding } from '../domain/studio.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import { deleteRows } from './delete-rows.ts';
import { FAILED, jobsOf, type Status } from './settling.ts';
import type { Job } from './worker.ts';

/** What blocks no deletion, and goes with the studio. */
const WITH_STUDIO = [KIND.eulaAcceptance, KIND.studioMember];

export function studioJobs({ store, keys }: { readonly store: Store; readonly keys: Keys }): Job[] {
  const job = jobsOf(studioLifecycle as Lifecycle);
  return [
    job(
      'CREATE_IN_PROGRESS',
      async (row) => ({ event: await settleCreate(row, keys) }),
      () => createFailed(FAILED),
    ),
    job(
      'UPDATE_IN_PROGRESS',
      async (row) => ({ event: updateEnding(row) }),
      () => ({ type: 'updateFailed', ...FAILED }),
    ),
    job(
      'DELETE_IN_PROGRESS',
      async (row) => ({ event: await settleDelete(row, store) }),
      () => ({ type: 'deleteFailed', ...FAILED }),
    ),
    job('DELETED', async (row) => {
      for (const kind of WITH_STUDIO) await deleteRows({ kind, studioIds: [row.id] }, store);
      return { purge: true };
    }),
  ];
}

async function settleCreate(row: Row, keys: Keys): Promise<LifecycleEvent> {
  const keyArn = await missingKey(row, keys);
  if (keyArn === undefined) return { type: 'created' };
  return createFailed({
    statusCode: 'ENCRYPTION_KEY_NOT_FOUND',
    statusMessage: `There is no key ${keyArn}. Make one with: backlot key create`,
  });
}

/** What never came to be keeps no other from its name. */
function createFailed(failure: Status): LifecycleEvent {
  return { type: 'createFailed', ...failure, releaseName: true };
}

/** The ARN of the studio's own key, when it has one and there is no such key (any more). */
export async function missingKey(studio: Row, keys: Keys): Promise<string | undefined> {
  const { keyArn } = (JSON.parse(studio.doc) as Studio).studioEncryptionConfiguration ?? {};
  return keyArn === undefined || (await keys.describe(keyArn)) ? undefined : keyArn;
}

/** What lives in a studio, in the order in which a delete that it blocks names it. */
const TENANTS = [
  { kind: KIND.launchProfile, statusCode: 'STUDIO_WITH_LAUNCH_PROFILES_NOT_DELETED', what: 'launch profiles' },
  { kind: KIND.studioComponent, statusCode: 'STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED', what: 'studio components' },
  { kind: KIND.streamingImage, statusCode: 'STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED', what: 'streaming images' },
];

/** What lives in a studio blocks its deletion; tombstones and images provided for every studio do not. */
async function settleDelete(row: Row, store: Store): Promise<LifecycleEvent> {
  for (const { kind, statusCode, what } of TENANTS) {
    if ((await store.count({ kind, studioIds: [row.id], stateNot: 'DELETED', limit: 1 })) === 0) continue;
    const statusMessage = `The studio still has ${what}. Delete them first.`;
    return { type: 'deleteFailed', statusCode, statusMessage };
  }
  return { type: 'deleted', releaseName: true };
}
