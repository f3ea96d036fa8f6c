/**
 * People, as an import finds them: users with the names that the vendor's identity store had for them, and memberships,
 * which know people by their ids alone. Somebody whom only a membership knows becomes a user under a name that says so.
 * An import must never let anybody sign in, and never make an administrator of what was saved as a launch profile's member.
 */
import type { LaunchProfileMembership } from '../contract/launch-profile-member.ts';
import { enumeration, list, optional, type Static, string, structure } from '../contract/shape.ts';
import type { StudioMembership } from '../contract/studio-member.ts';
import { findServiceLike } from '../domain/grant.ts';
import { KIND, newRow } from '../domain/kinds.ts';
import { membershipId } from '../domain/membership.ts';
import {
  comparable,
  IDENTITY_STORE,
  isPrincipalId,
  newIdentityStore,
  newUser,
  readIdentityStore,
  withEnabled,
} from '../domain/user.ts';
import type { Row } from '../store/store.ts';
import type { ImportContext, Imported } from './import-kind.ts';
import { NotImported } from './outcome.ts';

/** As `aws identitystore list-users` prints it: the names are no part of the API that everything else here is of. */
export const identityStoreUser = structure('User', {
  DisplayName: optional(string()),
  Emails: optional(list(structure('Email', { Value: optional(string()) }))),
  IdentityStoreId: optional(string()),
  UserId: optional(string()),
  UserName: optional(string()),
  UserStatus: optional(enumeration(['ENABLED', 'DISABLED'])),
});

type IdentityStoreUser = Static<typeof identityStoreUser>;

/** Everybody who is a member of something is one or the other; what is neither, the contract of the second refuses. */
export const isProfileMember = (value: unknown) => (value as { persona?: unknown } | null)?.persona === 'USER';
export const isStudioMember = (value: unknown) => !isProfileMember(value);

export async function userRow(document: IdentityStoreUser, context: ImportContext): Promise<Imported> {
  const { UserId, UserName, DisplayName, Emails, IdentityStoreId, UserStatus } = document;
  const email = Emails?.[0]?.Value;
  requirePrincipalId(UserId!);
  const { store } = context.services;
  const [rival] = await store.list({ kind: KIND.user, uniqueName: comparable(UserName!), limit: 1 });
  if (rival) throw new NotImported('refused', `User ${rival.id} has its name already: backlot user rename.`);
  const service = await findServiceLike(UserName!, store);
  if (service !== undefined)
    throw new NotImported('refused', `There is a service ${service}, and names are of one each.`);
  const own = await identityStoreFor(IdentityStoreId, context);
  const given = {
    userName: UserName!,
    ...(DisplayName !== undefined && { displayName: DisplayName }),
    ...(email !== undefined && { email }),
  };
  const row = newUser(given, own.id, context.services, UserId);
  if (UserStatus !== 'DISABLED') return { row, also: own.also };
  return { row: { ...withEnabled(row, false), version: row.version }, also: own.also, note: 'It is disabled.' };
}

// --- Memberships ---

/** @throws NotImported */
export function studioMemberId(principalId: string, context: ImportContext): string {
  if (context.launchProfileId === undefined) return membershipId(context.studioId(), principalId);
  throw new NotImported(
    'refused',
    "It is an administrator of a studio, but the file's name says that it holds a launch profile's members.",
  );
}

/** @throws NotImported */
export function launchProfileMemberId(principalId: string, { launchProfileId }: ImportContext): string {
  if (launchProfileId !== undefined) return membershipId(launchProfileId, principalId);
  throw new NotImported(
    'refused',
    'It does not say which launch profile it belongs to: name the file by it, such as members-ID.json.',
  );
}

export async function studioMemberRow(document: StudioMembership, context: ImportContext): Promise<Imported> {
  const studio = await context.require(KIND.studio, context.studioId());
  if (await context.find(KIND.group, document.principalId!))
    throw new NotImported(
      'refused',
      'It is a group. An administrator is a person: backlot group list shows who is in it.',
    );
  return memberRow(KIND.studioMember, { id: studio.id, studioId: studio.id }, document, context);
}

export async function launchProfileMemberRow(
  document: LaunchProfileMembership,
  context: ImportContext,
): Promise<Imported> {
  const profile = await context.require(KIND.launchProfile, context.launchProfileId!);
  return memberRow(KIND.launchProfileMember, profile, document, context);
}

async function memberRow(
  kind: string,
  parent: Pick<Row, 'id' | 'studioId'>,
  document: StudioMembership | LaunchProfileMembership,
  context: ImportContext,
): Promise<Imported> {
  const principalId = document.principalId!;
  requirePrincipalId(principalId);
  const own = await identityStoreFor(document.identityStoreId, context);
  const isGroup = (await context.find(KIND.group, principalId)) !== undefined;
  const isKnown = isGroup || (await context.find(KIND.user, principalId)) !== undefined;
  if (isKnown) await context.require(isGroup ? KIND.group : KIND.user, principalId);
  const user = isKnown ? undefined : namelessUser(principalId, own.id, context);
  const row = newRow({
    kind,
    id: membershipId(parent.id, principalId),
    studioId: parent.studioId,
    parentId: parent.id,
    ownerId: principalId,
    createdAt: context.services.clock.now(),
    doc: JSON.stringify({ ...document, identityStoreId: own.id }),
  });
  const also = [...own.also, ...(user ? [user] : [])];
  const note = user && `Its user is new. Give it a name: backlot user rename ${principalId} NAME`;
  return { row, also, ...(note !== undefined && { note }) };
}

/** Enabled, as whoever is a member must be, and without a password or a key, so that nobody can be it yet. */
function namelessUser(principalId: string, identityStoreId: string, { services }: ImportContext): Row {
  return newUser({ userName: `imported-${principalId}` }, identityStoreId, services, principalId);
}

/** Names are looked for where ids are, so the two must not be mistaken for each other. @throws NotImported */
function requirePrincipalId(principalId: string): void {
  if (isPrincipalId(principalId)) return;
  throw new NotImported(
    'refused',
    'Its principal id is none of an identity store: it would be a UUID, which digits may precede.',
  );
}

// --- The identity store ---

/** Ids of users made here begin with its digits. Some of the vendor's are UUIDs, which nothing here can begin with. */
const OF_OUR_FORM = /^d-[0-9a-f]{10}$/;

/** The installation takes that of the first person whom it is told of, and never another. */
async function identityStoreFor(
  saved: string | undefined,
  { services, find }: ImportContext,
): Promise<{ readonly id: string; readonly also: readonly Row[] }> {
  const own = await find(KIND.installation, IDENTITY_STORE);
  if (own) return { id: readIdentityStore(own), also: [] };
  const id = saved !== undefined && OF_OUR_FORM.test(saved) ? saved : services.ids.identityStore();
  return { id, also: [newIdentityStore(id, services)] };
}
