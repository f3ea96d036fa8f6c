/**
 * Quotas of a studio: how many rows of a kind it may have. Whatever is not DELETED counts, what failed included. A quota is
 * looked at twice: for a refusal that says how much there may be, and in the write itself, for those who came at once.
 */
import { ServiceError } from '../errors.ts';
import type { Store, Write } from '../store/store.ts';

export interface Quota {
  readonly kind: string;
  readonly studioId: string;
  readonly limit: number;
  /** For messages, for example `streaming images`. */
  readonly what: string;
  /** Of the refusal, for scripts. */
  readonly code: string;
}

/** @throws ServiceError ServiceQuotaExceededException when there is no room for one more. */
export async function requireRoom(quota: Quota, store: Store): Promise<void> {
  const { kind, studioId, limit } = quota;
  const count = await store.count({ kind, studioIds: [studioId], stateNot: 'DELETED', limit });
  if (count >= limit) throw quotaExceeded(quota);
}

/** Fails the batch when there is no room for one more by then. */
export function roomGuard({ kind, studioId, limit }: Quota): Write {
  return { op: 'fewer', kind, studioId, stateNot: 'DELETED', limit };
}

export function quotaExceeded({ studioId, limit, what, code }: Omit<Quota, 'kind'>): ServiceError {
  return new ServiceError(
    'ServiceQuotaExceededException',
    `Studio ${studioId} has ${limit} ${what}, which is its quota. Delete one, or have the quota raised.`,
    { code, context: { quota: String(limit), resourceId: studioId } },
  );
}
