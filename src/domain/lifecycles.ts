/** Every lifecycle table by the kind of row it governs. */
import { launchProfileLifecycle } from './launch-profile-lifecycle.ts';
import type { Lifecycle } from './lifecycle.ts';
import { streamingImageLifecycle } from './streaming-image.ts';
import { streamingSessionBackupLifecycle } from './streaming-session-backup.ts';
import { streamingSessionLifecycle } from './streaming-session-lifecycle.ts';
import { streamingSessionStreamLifecycle } from './streaming-session-stream.ts';
import { studioLifecycle } from './studio.ts';
import { studioComponentLifecycle } from './studio-component.ts';

export const lifecycles: readonly Lifecycle[] = [
  studioLifecycle,
  studioComponentLifecycle,
  streamingImageLifecycle,
  launchProfileLifecycle,
  streamingSessionLifecycle,
  streamingSessionStreamLifecycle,
  streamingSessionBackupLifecycle,
];

export function lifecycleOf(kind: string): Lifecycle {
  const lifecycle = lifecycles.find((candidate) => candidate.kind === kind);
  if (!lifecycle) throw new Error(`${kind} has no lifecycle`);
  return lifecycle;
}
