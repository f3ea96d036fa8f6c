/**
 * What becomes of a session whose workstation has ended by itself: shut down from inside, or crashed. Nobody chose to lose
 * the day's work, so its volume is kept: it is stopped as by a caller who asked for RETAIN, or, where its launch profile
 * gives stopped sessions no time, it has failed and stays until somebody deletes it. Pure.
 */
import type { Ids } from '../ids.ts';
import type { Row } from '../store/store.ts';
import type { LifecycleEvent } from './lifecycle.ts';
import { mayStop, NO_LIMIT } from './streaming-session-clock.ts';
import { type StreamingSessionEvent, type StreamingSessionPrivate, stopEvent } from './streaming-session-lifecycle.ts';

/** Shown while it is being stopped for that reason, and once it is stopped. */
export const ENDED_BY_ITSELF =
  'The workstation ended by itself: it was shut down from inside, or crashed. Its volumes are kept.';

/** Shown once it is stopped where there is nothing to keep: in an installation that was restored from a backup, or moved. */
export const ENDED_WITHOUT_VOLUME =
  'The workstation does not run, and its volume is not on this server. Start the session from one of its backups.';

export function endedEvent(
  row: Row,
  { now, ids }: { readonly now: number; readonly ids: Ids },
): LifecycleEvent<StreamingSessionEvent> {
  const { limits } = JSON.parse(row.private) as StreamingSessionPrivate;
  if (!mayStop(limits)) return { type: 'lost', changes: NO_LIMIT };
  const stop = stopEvent(row, { now, ids, volumeRetentionMode: 'RETAIN' });
  return {
    ...stop,
    statusMessage: ENDED_BY_ITSELF,
    privateChanges: { ...stop.privateChanges, endedByItself: true },
  };
}
