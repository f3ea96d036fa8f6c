/**
 * Personas: what users may do by what they are members of. Each is a policy of the policies folder, and counts only in what
 * it is bound to: a studio that the user administers or may use something of, or a launch profile that he may use. What a
 * persona allows is thus never more than its file says, nor anywhere else than in the studio that the call names.
 *
 * A call that names no studio is about everybody's licences, or no persona has a say in it.
 */
import studioAdministrator from '../../policies/AmazonNimbleStudio-StudioAdmin.json' with { type: 'json' };
import studioUser from '../../policies/AmazonNimbleStudio-StudioUser.json' with { type: 'json' };
import launchProfileMember from '../../policies/LaunchProfileMember.json' with { type: 'json' };
import type { Cursor, Store } from '../store/store.ts';
import { groupsOf } from './group.ts';
import { KIND } from './kinds.ts';
import { isAdministrator, mayUseProfile } from './launch-profile-access.ts';
import type { Permission } from './permissions.ts';
import { compilePolicy, joinPolicies, type Policies } from './policy.ts';

export interface Persona {
  /** As documents call it. */
  readonly name: string;
  readonly policies: Policies;
}

function persona(name: string, document: object): Persona {
  return { name, policies: joinPolicies([compilePolicy(name, JSON.stringify(document))]) };
}

export const STUDIO_ADMINISTRATOR = persona('administrator of the studio', studioAdministrator);
export const STUDIO_USER = persona('user of something in the studio', studioUser);
export const PROFILE_MEMBER = persona('member of the launch profile', launchProfileMember);

export const PERSONAS: readonly Persona[] = [STUDIO_ADMINISTRATOR, STUDIO_USER, PROFILE_MEMBER];

type Input = Readonly<Record<string, unknown>>;

/** The personas that a user has in what the call is about. */
export async function personasIn(
  { on, id }: Permission,
  input: Input,
  principalId: string,
  store: Store,
): Promise<readonly Persona[]> {
  const { studioId } = input;
  if (typeof studioId !== 'string') return on === 'eula' ? personasAnywhere(principalId, store) : [];
  if (await isAdministrator(store, studioId, principalId)) return [STUDIO_ADMINISTRATOR];
  if (!(await usesSomething(store, principalId, studioId))) return [];
  const profileId = on === 'launch-profile' && id !== undefined ? input[id] : undefined;
  const isMember = typeof profileId === 'string' && (await usesProfile(store, studioId, profileId, principalId));
  return isMember ? [STUDIO_USER, PROFILE_MEMBER] : [STUDIO_USER];
}

/** For what belongs to the installation: it is enough to be somebody in one studio. */
async function personasAnywhere(principalId: string, store: Store): Promise<readonly Persona[]> {
  const administered = await store.list({ kind: KIND.studioMember, ownerId: principalId, limit: 1 });
  if (administered.length > 0) return [STUDIO_ADMINISTRATOR];
  return (await usesSomething(store, principalId)) ? [STUDIO_USER] : [];
}

const MEMBERSHIPS_PER_LOOK = 50;

/** Whether the user may use a launch profile of the studio, or of any; by himself or in a group. */
async function usesSomething(store: Store, principalId: string, studioId?: string): Promise<boolean> {
  for (const ownerId of [principalId, ...(await groupsOf(store, principalId))]) {
    if (await isMemberOfSomething(store, ownerId, studioId)) return true;
  }
  return false;
}

/** Memberships outlast their launch profile by as long as it stays readable as DELETED, and then say nothing any more. */
async function isMemberOfSomething(store: Store, ownerId: string, studioId: string | undefined): Promise<boolean> {
  const scope = studioId === undefined ? {} : { studioIds: [studioId] };
  const query = { kind: KIND.launchProfileMember, ...scope, ownerId, limit: MEMBERSHIPS_PER_LOOK };
  for (let after: Cursor | undefined; ; ) {
    const rows = await store.list({ ...query, ...(after && { after }) });
    for (const { parentId } of rows) {
      const profile = await store.get(KIND.launchProfile, parentId!);
      if (profile && profile.state !== 'DELETED') return true;
    }
    const last = rows.at(-1);
    if (!last || rows.length < MEMBERSHIPS_PER_LOOK) return false;
    after = { createdAt: last.createdAt, id: last.id };
  }
}

/** A profile of another studio is none of the studio that the call names. */
async function usesProfile(store: Store, studioId: string, profileId: string, principalId: string): Promise<boolean> {
  const profile = await store.get(KIND.launchProfile, profileId);
  return profile?.studioId === studioId && (await mayUseProfile(store, profileId, principalId));
}
