/**
 * Quotas: how many rows of a kind a studio may have, or one owner or parent in it. Whatever is not DELETED counts, what
 * failed included, unless the quota says otherwise. A quota is looked at twice: for a refusal that says how much there may
 * be, and in the write itself, for those who came at once.
 */
import { ServiceError } from '../errors.ts';
import type { Store, Write } from '../store/store.ts';

export interface Quota {
  readonly kind: string;
  readonly studioId: string;
  /** Of one owner in the studio only. */
  readonly ownerId?: string;
  readonly limit: number;
  /** For messages, for example `streaming images`. */
  readonly what: string;
  /** Of the refusal, for scripts. */
  readonly code: string;
}

/** @throws ServiceError ServiceQuotaExceededException when there is no room for one more. */
export async function requireRoom(quota: Quota, store: Store): Promise<void> {
  const { kind, studioId, ownerId, limit } = quota;
  const whose = { studioIds: [studioId], ...(ownerId !== undefined && { ownerId }) };
  const count = await store.count({ kind, ...whose, stateNot: 'DELETED', limit });
  if (count >= limit) throw quotaExceeded(quota);
}

/** Fails the batch when there is no room for one more by then. */
export function roomGuard({ kind, studioId, ownerId, limit }: Quota): Write {
  return { op: 'fewer', kind, studioId, ...(ownerId !== undefined && { ownerId }), statesNot: ['DELETED'], limit };
}

export function quotaExceeded({ studioId, ownerId, limit, what, code }: Omit<Quota, 'kind'>): ServiceError {
  if (ownerId !== undefined) {
    return new ServiceError(
      'ServiceQuotaExceededException',
      `${ownerId} owns ${limit} ${what} in studio ${studioId}, which is the quota of one owner. Delete one, or have the quota raised.`,
      { code, context: { quota: String(limit), resourceId: studioId, ownedBy: ownerId } },
    );
  }
  return new ServiceError(
    'ServiceQuotaExceededException',
    `Studio ${studioId} has ${limit} ${what}, which is its quota. Delete one, or have the quota raised.`,
    { code, context: { quota: String(limit), resourceId: studioId } },
  );
}
