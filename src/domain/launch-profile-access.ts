/**
 * Which launch profiles a person may use: those that the person, or a group the person is in, is a member of; and, for
 * administrators of the studio, all of it. Whoever is disabled, or is no person known here, may use none.
 */
import type { Cursor, Row, Store } from '../store/store.ts';
import { groupsOf } from './group.ts';
import { KIND } from './kinds.ts';
import { membershipId } from './membership.ts';
import { isEnabledUser } from './user.ts';

/** Says nothing about the profile itself: whether it is there, and READY, is for the caller to know. */
export async function mayUseProfile(store: Store, launchProfileId: string, principalId: string): Promise<boolean> {
  const profile = await store.get(KIND.launchProfile, launchProfileId);
  if (!profile || !(await isEnabledUser(store, principalId))) return false;
  if (await isAdministrator(store, profile.studioId, principalId)) return true;
  const ids = [principalId, ...(await groupsOf(store, principalId))];
  const found = ids.map((id) => store.get(KIND.launchProfileMember, membershipId(launchProfileId, id)));
  return (await Promise.all(found)).some((row) => row !== undefined);
}

/** @returns says of the id of a profile of this studio whether the person may use it. */
export async function profilesUsableBy(
  store: Store,
  studioId: string,
  principalId: string,
): Promise<(launchProfileId: string) => boolean> {
  if (!(await isEnabledUser(store, principalId))) return () => false;
  if (await isAdministrator(store, studioId, principalId)) return () => true;
  const ids = [principalId, ...(await groupsOf(store, principalId))];
  const rows = await Promise.all(ids.map((id) => membershipsOf(store, studioId, id)));
  const usable = new Set(rows.flat().map(({ parentId }) => parentId));
  return (launchProfileId) => usable.has(launchProfileId);
}

export async function isAdministrator(store: Store, studioId: string, principalId: string): Promise<boolean> {
  return (await store.get(KIND.studioMember, membershipId(studioId, principalId))) !== undefined;
}

const ROWS_PER_LOOK = 500;

/** All memberships in profiles of the studio: as many as it has profiles, at the most. */
async function membershipsOf(store: Store, studioId: string, ownerId: string): Promise<Row[]> {
  const query = { kind: KIND.launchProfileMember, studioIds: [studioId], ownerId, limit: ROWS_PER_LOOK };
  const found: Row[] = [];
  for (let after: Cursor | undefined; ; ) {
    const rows = await store.list({ ...query, ...(after && { after }) });
    found.push(...rows);
    const last = rows.at(-1);
    if (!last || rows.length < ROWS_PER_LOOK) return found;
    after = { createdAt: last.createdAt, id: last.id };
  }
}
