/**
 * Which streaming images sessions stand on. The volumes and backups of a session are layers over the disk of the image
 * that it was made of, so that disk and its key may be destroyed only when no session needs them any more, whatever has
 * become of the image for its callers.
 *
 * Sessions are made only of images that can be used (streaming-session-launch.ts), and an image that was deleted never can
 * be again. Whoever finds no session here once its deletion has begun may therefore rely on that for good: one that never
 * came to be counts again while it is being deleted, and needs the disk no more than before.
 */
import type { StreamingSession } from '../contract/streaming-session.ts';
import { everyRow, type Row, type Store } from '../store/store.ts';
import { AMAZON, KIND } from './kinds.ts';

/** Of a session that never came to be there is no volume, and nothing that could be started. */
const NEEDS_NOTHING = 'CREATE_FAILED';

/** How many sessions stand on each image, by its id; an image without any is not in it. */
export async function sessionsByImage(
  store: Store,
  studioIds?: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  const query = { kind: KIND.streamingSession, stateNot: 'DELETED', ...(studioIds && { studioIds }) };
  for await (const { state, doc } of everyRow(store, query)) {
    const { streamingImageId } = JSON.parse(doc) as StreamingSession;
    if (state === NEEDS_NOTHING || streamingImageId === undefined) continue;
    found.set(streamingImageId, (found.get(streamingImageId) ?? 0) + 1);
  }
  return found;
}

/** How many sessions stand on this image: of its own studio, or of any where it is provided for all. */
export async function countSessionsOn(image: Row, store: Store): Promise<number> {
  const sessions = await sessionsByImage(store, image.studioId === AMAZON ? undefined : [image.studioId]);
  return sessions.get(image.id) ?? 0;
}
