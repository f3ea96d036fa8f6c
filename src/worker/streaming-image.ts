/**
 * What the states of a streaming image ask for: the studio's encrypted copy is made, or destroyed for good. The key is
 * always destroyed before the bytes: a delete that dies half way leaves noise, never a readable disk. Neither may be
 * destroyed while a session stands on the image: the image is DELETED all the same, and its copy follows when the last of
 * them has gone.
 */
import type { Clock } from '../clock.ts';
import type { StreamingImage } from '../contract/streaming-image.ts';
import { AMAZON, KIND, PRESENT } from '../domain/kinds.ts';
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import type { MachineImage } from '../domain/machine-image.ts';
import {
  type StreamingImageEvent,
  type StreamingImagePrivate,
  streamingImageLifecycle,
} from '../domain/streaming-image.ts';
import { countSessionsOn } from '../domain/streaming-image-use.ts';
import { ImageFailure, type Images } from '../images/images.ts';
import { type Keys, KeyUnavailable } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import type { Job, JobContext, Outcome } from './worker.ts';

export interface StreamingImagePorts {
  readonly store: Store;
  readonly images: Images;
  readonly keys: Keys;
  readonly clock: Clock;
  readonly importsMax: number;
}

const REMOVALS_MAX = 4;
const PURGES_MAX = 50;
/** How often it is looked whether a copy that is kept is still needed. */
export const LOOK_MS = 60_000;

const lifecycle: Lifecycle = streamingImageLifecycle;

export function streamingImageJobs(ports: StreamingImagePorts): Job[] {
  return [
    {
      lifecycle,
      state: 'CREATE_IN_PROGRESS',
      concurrency: ports.importsMax,
      run: (row, context) => importImage(row, context, ports),
      giveUp: (error) => ({ type: 'importFailed', ...failureOf(error) }),
      cleanUp: (row) => destroyBytes(row.id, ports),
      retryable: isRetryable,
    },
    {
      lifecycle,
      state: 'DELETE_IN_PROGRESS',
      concurrency: REMOVALS_MAX,
      run: async (row) => ({ event: await removeUnlessNeeded(row, ports) }),
      giveUp: () => ({
        type: 'removeFailed',
        statusCode: 'INTERNAL_ERROR',
        statusMessage: "The image could not be removed. See the server's log, then delete it again.",
      }),
      retryable: () => true,
    },
    {
      lifecycle,
      state: 'DELETED',
      concurrency: PURGES_MAX,
      run: async (row) => {
        if ((JSON.parse(row.private) as StreamingImagePrivate).kept) {
          return { event: await removeUnlessNeeded(row, ports) };
        }
        // Once more: an import that had lost its lease without knowing may have made a key since, which nothing else finds.
        await destroyBytes(row.id, ports);
        return { purge: true };
      },
      retryable: () => true,
    },
  ];
}

/** Makes the studio's own copy of the machine image, under a key of its own. */
export async function importImage(
  row: Row,
  { signal, progress }: JobContext,
  { store, images, keys }: Pick<StreamingImagePorts, 'store' | 'images' | 'keys'>,
): Promise<Outcome> {
  const image = JSON.parse(row.doc) as StreamingImage;
  const source = await store.get(KIND.machineImage, image.ec2ImageId!);
  if (source?.state !== PRESENT)
    throw new ImageFailure('SOURCE_MISSING', `Machine image ${image.ec2ImageId} does not exist`);
  const machineImage = JSON.parse(source.doc) as MachineImage;
  await keys.generate(row.id, image.encryptionConfiguration?.keyArn);
  const passphrase = await keys.unseal(row.id);
  try {
    const stored = await images.import({
      id: row.id,
      source: machineImage.ec2ImageId,
      sourceSha256: machineImage.sha256,
      sourceFormat: machineImage.format,
      passphrase,
      signal,
      onProgress: (percent) =>
        progress({
          type: 'importProgressed',
          statusMessage: `Streaming Image creation is in progress: ${Math.floor(percent)} %`,
        }),
    });
    // The vendor's own images carried no status.
    return { event: { type: 'imported', privateChanges: { ...stored }, hideStatus: image.owner === AMAZON } };
  } finally {
    passphrase.fill(0);
  }
}

/** Of an image whose deletion has begun: what is found to be needed by nothing stays so (see streaming-image-use.ts). */
async function removeUnlessNeeded(row: Row, ports: StreamingImagePorts): Promise<LifecycleEvent<StreamingImageEvent>> {
  const sessions = await countSessionsOn(row, ports.store);
  if (sessions === 0) {
    await destroyBytes(row.id, ports);
    return { type: 'removed', privateChanges: { kept: undefined } };
  }
  // One studio is not told how many sessions others have.
  const left = row.studioId === AMAZON ? '' : ` (${sessions} left)`;
  return {
    type: 'kept',
    statusMessage: `Streaming Image has been deleted. Its key and disk are kept until its sessions are deleted${left}.`,
    privateChanges: { kept: true },
    dueAt: ports.clock.now() + LOOK_MS,
  };
}

/** The key first, then the bytes. Both may be gone already. */
export async function destroyBytes(
  id: string,
  { images, keys }: Pick<StreamingImagePorts, 'images' | 'keys'>,
): Promise<void> {
  await keys.destroy(id);
  await images.remove(id);
}

/** What the image's owner is told. The inward reason is in the log. */
function failureOf(error: unknown): { statusCode: string; statusMessage: string } {
  if (error instanceof KeyUnavailable) return { statusCode: 'ACCESS_DENIED', statusMessage: error.message };
  if (error instanceof ImageFailure) {
    const statusCode = error.code === 'SOURCE_MISSING' ? 'ACCESS_DENIED' : 'INTERNAL_ERROR';
    return { statusCode, statusMessage: error.message };
  }
  return { statusCode: 'INTERNAL_ERROR', statusMessage: "The image could not be made. The server's log says why." };
}

function isRetryable(error: unknown): boolean {
  if (error instanceof KeyUnavailable) return false;
  return error instanceof ImageFailure ? error.retryable : true;
}
