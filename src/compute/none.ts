/**
 * A server without workstations: every start fails and says why, and what may still be there of an engine that is not here
 * now is neither stopped nor destroyed, because to say so would be untrue. Sessions of which nothing is left end as ever.
 */
import { type Change, type Compute, ComputeFailure } from './compute.ts';

export interface NoComputeOptions {
  /** A sentence for those who ask for a workstation. */
  readonly why: string;
  /** Whether an engine that is not here has something of this workstation. */
  readonly isKept: (id: string) => Promise<boolean>;
}

export function createNoCompute({ why, isKept }: NoComputeOptions): Compute {
  const requireNothing = async ({ id }: Pick<Change, 'id'>): Promise<void> => {
    if (!(await isKept(id))) return;
    throw new ComputeFailure('INTERNAL_ERROR', `${why} What it has of this session is left as it is.`);
  };
  return {
    ensure: async () => {
      throw new ComputeFailure('INSUFFICIENT_CAPACITY', why);
    },
    stop: requireNothing,
    backUp: async () => {
      throw new ComputeFailure('INTERNAL_ERROR', why);
    },
    destroy: requireNothing,
    open: async () => {
      throw new ComputeFailure('NETWORK_CONNECTION_ERROR', why);
    },
    list: async () => [],
  };
}
