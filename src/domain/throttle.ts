/**
 * How many calls a principal may make: so many reads and so many changes in a second, counted apart, and several seconds'
 * worth of them at once. It is asked when it is known who calls and before anything is read for the call. Buckets are of
 * this process: several servers allow several times as much.
 */
import type { AccessLevel } from '../contract/operation.ts';
import { ServiceError } from '../errors.ts';
import { Buckets } from './buckets.ts';

/** Of both limits, what may come at once after a pause, in seconds' worth. */
const BURST_SECONDS = 5;

export interface ThrottleLimits {
  readonly readsPerSecond: number;
  readonly writesPerSecond: number;
}

/** @throws ServiceError ThrottlingException, with the seconds after which the call is worth trying again. */
export type Throttle = (principalId: string, access: AccessLevel) => void;

/** @param now milliseconds of a clock that nobody sets. */
export function createThrottle({ readsPerSecond, writesPerSecond }: ThrottleLimits, now: () => number): Throttle {
  const reads = new Buckets({ perSecond: readsPerSecond, burst: readsPerSecond * BURST_SECONDS });
  const writes = new Buckets({ perSecond: writesPerSecond, burst: writesPerSecond * BURST_SECONDS });
  return (principalId, access) => {
    const waitMs = (access === 'Read' ? reads : writes).take(principalId, now());
    if (waitMs > 0) throw tooManyCalls(access, waitMs);
  };
}

function tooManyCalls(access: AccessLevel, waitMs: number): ServiceError {
  const what = access === 'Read' ? 'reads' : 'changes';
  return new ServiceError(
    'ThrottlingException',
    `Too many ${what} by the same principal, with all its access keys. Try again in a moment.`,
    {
      code: access === 'Read' ? 'TOO_MANY_READS' : 'TOO_MANY_WRITES',
      retryAfterSeconds: Math.ceil(waitMs / 1_000),
    },
  );
}
