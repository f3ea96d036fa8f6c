/**
 * Provides a machine image to every studio: a streaming image owned by `amazon`, made here and now.
 *
 * It is made as every other is, from a row that says so before anything is written: the row begins as if this process had
 * leased it, so that a server finishes what a process began that died. What was stopped or failed is taken back.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { reasonOf } from '../data-directory.ts';
import { AMAZON, KIND } from '../domain/kinds.ts';
import { type LifecycleEvent, moveOf } from '../domain/lifecycle.ts';
import type { MachineImage } from '../domain/machine-image.ts';
import {
  applyToStreamingImage,
  newStreamingImage,
  type StreamingImageEvent,
  streamingImageLifecycle,
} from '../domain/streaming-image.ts';
import type { Images } from '../images/images.ts';
import { keepPlace } from '../installation.ts';
import { createLog } from '../log.ts';
import type { Parts } from '../service.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';
import { type StreamingImagePorts, streamingImageJobs } from '../worker/streaming-image.ts';
import { carryOut, heldByMaker, type Job } from '../worker/worker.ts';
import { CommandFailed } from './command.ts';

/** More than anybody provides. */
const PROVIDED_MAX = 10_000;
/** How often it is looked whether another process, which took the work over, has finished. */
const LOOK_MS = 500;

/**
 * @param showProgress is given percent.
 * @returns the id of the streaming image, which is READY.
 * @throws whatever stopped it; nothing of it is left then but a tombstone.
 */
export async function provide(
  { ec2ImageId, name, platform, eulaIds }: MachineImage,
  parts: Parts,
  signal: AbortSignal,
  showProgress: (percent: number) => void,
): Promise<string> {
  const described = { ec2ImageId, name, platform, eulaIds: [...eulaIds], owner: AMAZON, tags: {} };
  const row = heldByMaker(newStreamingImage(described, parts), { clock: parts.clock, leaseMs: parts.config.leaseMs });
  await keepPlace(parts);
  await parts.store.write([{ op: 'insert', row }]);
  try {
    await make(row, parts, signal, showProgress);
  } catch (error) {
    await takeBack(row.id, parts).catch((left: unknown) => {
      throw new CommandFailed(
        `${reasonOf(error)} And streaming image ${row.id} is left, because it could not be deleted: ${reasonOf(left)} ` +
          `A server goes on with it; to be rid of it, delete machine image ${ec2ImageId} then.`,
      );
    });
    throw error;
  }
  return row.id;
}

/** @throws unless the image is READY. */
async function make(
  row: Row,
  parts: Parts,
  signal: AbortSignal,
  showProgress: (percent: number) => void,
): Promise<void> {
  const controller = new AbortController();
  const abort = () => controller.abort(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort);
  let failure: unknown;
  const job = jobFor('CREATE_IN_PROGRESS', { ...parts, images: watched(parts.images, showProgress) });
  const attempt: Job = {
    ...job,
    run: async (leased, context) => {
      try {
        return await job.run(leased, context);
      } catch (error) {
        failure = error;
        throw error;
      }
    },
    // Whoever waits at the terminal is told at once, and can try again.
    retryable: () => false,
  };
  await carryOut(attempt, row, controller, quiet(parts));
  const ended = await untilMade(row.id, parts.store, signal);
  if (ended?.state !== 'READY') throw failure ?? new CommandFailed('The image was taken away while it was made.');
}

/** As it stands once nobody works on it any more: another process does, if this one stood still for too long. */
async function untilMade(id: string, store: Store, signal: AbortSignal): Promise<Row | undefined> {
  for (;;) {
    signal.throwIfAborted();
    const row = await store.get(KIND.streamingImage, id);
    if (row?.state !== 'CREATE_IN_PROGRESS') return row;
    await delay(LOOK_MS, undefined, { signal });
  }
}

/** Whatever became of it, its key and bytes are destroyed: here, or by the server that has it. */
async function takeBack(id: string, parts: Parts): Promise<void> {
  for (;;) {
    const row = await parts.store.get(KIND.streamingImage, id);
    const event = row && wayOut(row);
    if (!event) return;
    const moved = applyToStreamingImage(row, event, parts);
    const next = event.type === 'delete' ? heldByMaker(moved, { ...parts, ...parts.config }) : moved;
    try {
      await parts.store.write([{ op: 'update', row: next }]);
    } catch (error) {
      // A server that works on the row has written its progress, which it does every few seconds: read again.
      if (error instanceof GuardFailed) continue;
      throw error;
    }
    if (event.type === 'delete') return carryOut(jobFor(next.state, parts), next, new AbortController(), quiet(parts));
  }
}

function wayOut(row: Row): LifecycleEvent<StreamingImageEvent> | undefined {
  if (row.state === 'CREATE_IN_PROGRESS') return { type: 'importFailed', statusCode: 'INTERNAL_ERROR' };
  return isRemovable(row) ? { type: 'delete' } : undefined;
}

/** What goes wrong is told at the terminal, in a sentence. */
function quiet(parts: Parts) {
  return { ...parts, ...parts.config, log: createLog('silent') };
}

/** What has been made of a machine image for every studio, and can be deleted. */
export async function providedImagesOf(ec2ImageId: string, store: Store): Promise<Row[]> {
  const rows = await store.list({ kind: KIND.streamingImage, studioIds: [AMAZON], limit: PROVIDED_MAX });
  return rows.filter((row) => isRemovable(row) && JSON.parse(row.doc).ec2ImageId === ec2ImageId);
}

function isRemovable({ state }: Row): boolean {
  return moveOf(streamingImageLifecycle, state, 'delete') !== undefined;
}

function jobFor(state: string, parts: Omit<StreamingImagePorts, 'importsMax'>): Job {
  return streamingImageJobs({ ...parts, importsMax: 1 }).find((job) => job.state === state)!;
}

/** The same images, with an import that somebody else is shown the progress of, too. */
function watched(images: Images, showProgress: (percent: number) => void): Images {
  return {
    import: (request) => {
      const onProgress = (percent: number) => {
        showProgress(percent);
        request.onProgress(percent);
      };
      return images.import({ ...request, onProgress });
    },
    open: (id) => images.open(id),
    remove: (id) => images.remove(id),
    list: () => images.list(),
    sweep: (request) => images.sweep(request),
  };
}
