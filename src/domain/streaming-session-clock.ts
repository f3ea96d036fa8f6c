/**
 * How long a session may run and stay stopped, and what then becomes of it. Pure: the limits are those of the launch
 * profile when the session was created, and the time is an argument. The times shown are for people; what counts is
 * `dueAt`, at which a worker looks at the row.
 */
import { wireTime } from '../clock.ts';
import type { StreamConfiguration } from '../contract/launch-profile.ts';

const MINUTE_MS = 60_000;
const READY_MINUTES = 690;

export interface TimeLimits {
  readonly readyMinutes: number;
  /** 0: it cannot be stopped; null: for ever. */
  readonly stoppedMinutes: number | null;
}

/** What an event that starts or ends a time limit says. */
export interface TimeLimit {
  readonly changes: { readonly stopAt: string | undefined; readonly terminateAt: string | undefined };
  readonly dueAt: number | null;
}

/** Of a session on the way from one state to another, and of one that failed. */
export const NO_LIMIT = { stopAt: undefined, terminateAt: undefined } as const;

/**
 * A session that persists and does not terminate by itself may be stopped for ever. Any other is stopped for as long as
 * its profile says, which is no time at all unless it says so: the rule from before there was persistence.
 */
export function timeLimitsOf({
  maxSessionLengthInMinutes,
  maxStoppedSessionLengthInMinutes,
  sessionPersistenceMode,
  automaticTerminationMode,
}: StreamConfiguration): TimeLimits {
  const lasts = sessionPersistenceMode === 'ACTIVATED' && automaticTerminationMode !== 'ACTIVATED';
  return {
    readyMinutes: maxSessionLengthInMinutes ?? READY_MINUTES,
    stoppedMinutes: lasts ? null : (maxStoppedSessionLengthInMinutes ?? 0),
  };
}

export function mayStop({ stoppedMinutes }: TimeLimits): boolean {
  return stoppedMinutes !== 0;
}

/** Of a session that becomes READY. */
export function limitWhenReady(limits: TimeLimits, now: number): TimeLimit {
  const dueAt = now + limits.readyMinutes * MINUTE_MS;
  const at = mayStop(limits) ? { stopAt: wireTime(dueAt) } : { terminateAt: wireTime(dueAt) };
  return { changes: { ...NO_LIMIT, ...at }, dueAt };
}

/** Of a session that becomes STOPPED. */
export function limitWhenStopped({ stoppedMinutes }: TimeLimits, now: number): TimeLimit {
  if (stoppedMinutes === null) return { changes: NO_LIMIT, dueAt: null };
  const dueAt = now + stoppedMinutes * MINUTE_MS;
  return { changes: { ...NO_LIMIT, terminateAt: wireTime(dueAt) }, dueAt };
}

/** What becomes of a session whose time is over. */
export function endOfTime({ stopAt }: { readonly stopAt?: string | undefined }): 'stop' | 'delete' {
  return stopAt === undefined ? 'delete' : 'stop';
}
