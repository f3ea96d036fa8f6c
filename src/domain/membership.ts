/**
 * Memberships, whatever they are of: rows that name a parent (a studio, a launch profile) and the principal that they
 * belong to. Putting is all or nothing, and refused for anybody who is not known here or is disabled; disabling somebody
 * later leaves the memberships there are.
 */
import { MEMBERS_PAGE_LENGTH } from '../contract/common.ts';
import { clipped, memberRefused, resourceNotFound } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import type { Answer, Services } from './context.ts';
import { type KIND, newRow, PRESENT } from './kinds.ts';
import { decodeToken, pageAnswer } from './page.ts';
import { identityStoreOf } from './user.ts';

type MembershipKind = typeof KIND.studioMember | typeof KIND.launchProfileMember;
type PrincipalKind = typeof KIND.user | typeof KIND.group;

/** What members are put into. */
export interface Parent {
  readonly kind: MembershipKind;
  readonly row: Row;
  readonly studioId: string;
  /** Who may be a member of it. */
  readonly takes: readonly PrincipalKind[];
}

interface PutInput {
  readonly identityStoreId: string;
  readonly members: readonly { readonly principalId: string; readonly persona: string }[];
}

/** `doc` of a membership's row. */
interface Membership {
  readonly identityStoreId: string;
  readonly persona: string;
  readonly principalId: string;
}

export const membershipId = (parentId: string, principalId: string) => `${parentId}/${principalId}`;

/**
 * The writes that make everybody named a member, guarded by the parent's state and by everybody's being there.
 * @throws ServiceError ValidationException that names who cannot be one.
 */
export async function putMembers(
  parent: Parent,
  { identityStoreId, members }: PutInput,
  services: Pick<Services, 'store' | 'clock'>,
): Promise<Write[]> {
  await requireIdentityStore(services.store, identityStoreId);
  const { row, takes } = parent;
  const writes: Write[] = [{ op: 'require', kind: row.kind, id: row.id, state: row.state }];
  const put = new Set<string>();
  for (const [index, { principalId, persona }] of members.entries()) {
    const principal = await requirePrincipal(services.store, takes, principalId, index);
    // Named twice is put once: there is one persona.
    if (put.has(principalId)) continue;
    put.add(principalId);
    writes.push({ op: 'require', kind: principal.kind, id: principalId, state: PRESENT });
    writes.push(...(await putMember(parent, { identityStoreId, persona, principalId }, services)));
  }
  return writes;
}

async function requireIdentityStore(store: Store, identityStoreId: string): Promise<void> {
  const own = await identityStoreOf(store);
  if (own === identityStoreId) return;
  const rule = own
    ? `Member must be the identity store of this server, which is ${own}`
    : 'Member must be the identity store of this server, which has nobody in it yet; make somebody with: backlot user create';
  throw memberRefused('identityStoreId', rule, 'UNKNOWN_IDENTITY_STORE');
}

async function requirePrincipal(
  store: Store,
  takes: readonly PrincipalKind[],
  principalId: string,
  index: number,
): Promise<Row> {
  const found = await Promise.all(takes.map((kind) => store.get(kind, principalId)));
  const row = found.find((one) => one !== undefined);
  if (row?.state === PRESENT) return row;
  const shown = clipped(principalId);
  const rule = row
    ? `Member must be somebody who is enabled, which ${shown} is not`
    : `Member must be the principalId of a ${takes.join(' or ')}, which ${shown} is not`;
  const code = row ? 'PRINCIPAL_DISABLED' : 'PRINCIPAL_NOT_FOUND';
  throw memberRefused(`members/${index + 1}/member/principalId`, rule, code, { resourceId: shown });
}

async function putMember(
  parent: Parent,
  membership: Membership,
  { store, clock }: Pick<Services, 'store' | 'clock'>,
): Promise<Write[]> {
  const id = membershipId(parent.row.id, membership.principalId);
  const doc = JSON.stringify(membership);
  const existing = await store.get(parent.kind, id);
  if (existing?.doc === doc) return [];
  if (existing) return [{ op: 'update', row: { ...existing, version: existing.version + 1, doc } }];
  const row = newRow({
    kind: parent.kind,
    id,
    studioId: parent.studioId,
    parentId: parent.row.id,
    ownerId: membership.principalId,
    createdAt: clock.now(),
    doc,
  });
  return [{ op: 'insert', row }];
}

/** @throws ServiceError ResourceNotFoundException */
export async function requireMember(
  store: Store,
  kind: MembershipKind,
  parentId: string,
  principalId: string,
): Promise<Row> {
  const row = await store.get(kind, membershipId(parentId, principalId));
  if (!row) throw resourceNotFound('Member', principalId);
  return row;
}

export function memberAnswer({ doc }: Row): Answer {
  return `{"member":${doc}}`;
}

/** A page of members in the order in which they became that. */
export async function listMembers(
  { kind, row }: Pick<Parent, 'kind' | 'row'>,
  { maxResults, nextToken }: { readonly maxResults?: number; readonly nextToken?: string },
  { store, settings }: Pick<Services, 'store' | 'settings'>,
): Promise<Answer> {
  const scope = [settings.accountId, kind, row.id];
  const after = decodeToken(nextToken, scope);
  const pageLength = Math.min(maxResults ?? MEMBERS_PAGE_LENGTH, MEMBERS_PAGE_LENGTH);
  const rows = await store.list({ kind, parentId: row.id, limit: pageLength + 1, ...(after && { after }) });
  return pageAnswer('members', rows, pageLength, scope);
}
