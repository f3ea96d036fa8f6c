/** What a failure of a workstation means for the row that asked for it: what is shown, and whether it may pass. */
import { ComputeFailure } from '../compute/compute.ts';

/** What the session's owner is told. The inward reason is in the log. */
export function failureOf(error: unknown, what: string): { statusCode: string; statusMessage: string } {
  if (error instanceof ComputeFailure) return { statusCode: error.code, statusMessage: error.message };
  return {
    statusCode: 'INTERNAL_ERROR',
    statusMessage: `The workstation could not be ${what}. The server's log says why.`,
  };
}

export function isRetryable(error: unknown): boolean {
  return error instanceof ComputeFailure ? error.retryable : true;
}
