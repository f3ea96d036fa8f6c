/**
 * The jobs of resources that are rows and nothing else: what they are asked for is settled by a look at what could stand
 * in the way. Trying once more can then do no harm, so that every failure is worth it.
 */
import type { Lifecycle, LifecycleEvent } from '../domain/lifecycle.ts';
import type { Job } from './worker.ts';

const CONCURRENCY = 16;

/** What a failure shows. */
export type Status = Required<Pick<LifecycleEvent, 'statusCode' | 'statusMessage'>>;

/** Of a failure that is the server's own. */
export const FAILED: Status = {
  statusCode: 'INTERNAL_ERROR',
  statusMessage: 'The server failed. Its log says why. Try again.',
};

/** Makes jobs of one kind. Without `giveUp` the work is tried for ever. */
export function jobsOf(lifecycle: Lifecycle) {
  return (state: string, run: Job['run'], giveUp?: Job['giveUp']): Job => ({
    lifecycle,
    state,
    concurrency: CONCURRENCY,
    run,
    retryable: () => true,
    ...(giveUp && { giveUp }),
  });
}
