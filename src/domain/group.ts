/**
 * Groups of users: whatever a group is a member of, everyone in it may use. Who is in a group is a row of its own, found
 * by the group as well as by the user. Groups are made on the command line and are in no other group.
 */
import { wireTime } from '../clock.ts';
import { validationFailed } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND, NO_STUDIO, newRow, PRESENT } from './kinds.ts';
import { comparable, isPrincipalId, newPrincipalId } from './user.ts';

/** `doc` of a group's row. */
export interface Group {
  readonly principalId: string;
  readonly identityStoreId: string;
  /** Of which no two are the same, whatever the case of their letters. */
  readonly groupName: string;
  readonly createdAt: string;
}

/** State of a group's row while it is taken out of everything that it is a member of; before, it is PRESENT. */
export const DELETING = 'DELETING';

const GROUP_NAME = /^(?![- ])[^\p{C}]{1,128}$/u;
/** Groups that one user may be in: each is looked at when the user wants something. */
export const GROUPS_PER_USER_MAX = 100;

/** @throws ServiceError ValidationException */
export function newGroup(
  groupName: string,
  identityStoreId: string,
  { ids, clock }: Pick<Services, 'ids' | 'clock'>,
): Row {
  if (!GROUP_NAME.test(groupName) || isPrincipalId(comparable(groupName))) {
    throw validationFailed(
      'The name of a group has 1 to 128 characters on one line, does not begin with a dash or a blank, and is not the id ' +
        'of one.',
      'INVALID_GROUP_NAME',
    );
  }
  const now = clock.now();
  const principalId = newPrincipalId(identityStoreId, ids);
  const doc: Group = { principalId, identityStoreId, groupName, createdAt: wireTime(now) };
  return newRow({
    kind: KIND.group,
    id: principalId,
    uniqueName: comparable(groupName),
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

/** Id of the row that says that a user is in a group. */
export const groupMemberId = (groupId: string, userId: string) => `${groupId}/${userId}`;

/**
 * Puts the user into the group. The user's row gets a new version, so that no two of these pass each other by and make
 * too many.
 * @throws ServiceError ValidationException when the user is in too many groups.
 */
export async function addToGroup(
  group: Row,
  user: Row,
  { store, clock }: Pick<Services, 'store' | 'clock'>,
): Promise<Write[]> {
  const id = groupMemberId(group.id, user.id);
  if (await store.get(KIND.groupMember, id)) return [];
  if ((await groupsOf(store, user.id)).length >= GROUPS_PER_USER_MAX) {
    throw validationFailed(`A user is in at most ${GROUPS_PER_USER_MAX} groups.`, 'TOO_MANY_GROUPS');
  }
  const row = newRow({
    kind: KIND.groupMember,
    id,
    parentId: group.id,
    ownerId: user.id,
    createdAt: clock.now(),
    doc: JSON.stringify({ groupId: group.id, userId: user.id }),
  });
  return [
    { op: 'require', kind: KIND.group, id: group.id, state: PRESENT },
    { op: 'update', row: { ...user, version: user.version + 1 } },
    { op: 'insert', row },
  ];
}

/** Ids of the groups that the user is in. */
export async function groupsOf(store: Store, userId: string): Promise<string[]> {
  const query = { kind: KIND.groupMember, studioIds: [NO_STUDIO], ownerId: userId, limit: GROUPS_PER_USER_MAX };
  return (await store.list(query)).map(({ parentId }) => parentId!);
}
