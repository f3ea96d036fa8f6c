/** `backlot group`: users who become members of launch profiles together. */
import { commandLine } from '../domain/audit.ts';
import { addToGroup, DELETING, type Group, groupMemberId, newGroup } from '../domain/group.ts';
import { KIND, PRESENT } from '../domain/kinds.ts';
import { findNamed, type User } from '../domain/user.ts';
import { ensureIdentityStore } from '../installation.ts';
import type { Parts } from '../service.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';
import { deleteRows } from '../worker/delete-rows.ts';
import { type Command, CommandFailed } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { undisturbed } from './undisturbed.ts';
import { requireUser } from './user.ts';
import { withParts } from './with-parts.ts';

/** More than a table is good for. */
const USERS_SHOWN_MAX = 1_000;

export const groupCommands: readonly Command[] = [
  {
    name: 'group create',
    summary: 'Makes a group, whose principalId can be a member of launch profiles.',
    positionals: [],
    options: { name: { value: 'NAME', meaning: 'Name, of which there is one', required: true } },
    run: (given, config) => withParts(config, (parts) => createGroup(given.option('name')!, parts)),
  },
  {
    name: 'group list',
    summary: 'Lists groups, and who is in them.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ store }) => listGroups(store)),
  },
  {
    name: 'group add',
    summary: 'Puts a user into a group: whatever the group may use, the user may use from then on.',
    positionals: ['GROUP', 'USER'],
    options: {},
    note: 'Group and user are told by name or by id.',
    run: (given, config) =>
      withParts(config, (parts) => undisturbed(() => add(given.positionals as [string, string], parts))),
  },
  {
    name: 'group remove',
    summary: 'Takes a user out of a group.',
    positionals: ['GROUP', 'USER'],
    options: {},
    note: 'Group and user are told by name or by id.',
    run: (given, config) =>
      withParts(config, (parts) => undisturbed(() => remove(given.positionals as [string, string], parts))),
  },
  {
    name: 'group delete',
    summary: 'Deletes a group, and takes it out of every launch profile. Its users stay.',
    positionals: ['NAME|ID'],
    options: {},
    note: 'A group that stays DELETING was left by a command that died: delete it again.',
    run: (given, config) => withParts(config, (parts) => undisturbed(() => deleteGroup(given.positionals[0]!, parts))),
  },
];

async function createGroup(groupName: string, parts: Parts): Promise<object> {
  const row = newGroup(groupName, await ensureIdentityStore(parts), parts);
  try {
    await parts.store.write([{ op: 'insert', row }, commandLine('group create', row.id, parts)]);
  } catch (error) {
    if (error instanceof GuardFailed) throw new CommandFailed(`There is a group ${groupName} already.`);
    throw error;
  }
  const { principalId, identityStoreId } = JSON.parse(row.doc) as Group;
  return { principalId, identityStoreId, groupName };
}

async function listGroups(store: Store): Promise<object[]> {
  const groups = await listDocuments<Group>(store, KIND.group);
  return Promise.all(groups.map(async (group) => ({ ...group, users: await userNamesIn(group.principalId, store) })));
}

async function userNamesIn(groupId: string, store: Store): Promise<string[]> {
  const rows = await store.list({ kind: KIND.groupMember, parentId: groupId, limit: USERS_SHOWN_MAX });
  const users = await Promise.all(rows.map(({ ownerId }) => store.get(KIND.user, ownerId!)));
  return users.flatMap((row) => (row ? [(JSON.parse(row.doc) as User).userName] : []));
}

async function add([groupNamed, userNamed]: [string, string], parts: Parts): Promise<object> {
  const group = await requireGroup(groupNamed, parts.store);
  if (group.state !== PRESENT) throw new CommandFailed(`The group ${groupNamed} is being deleted.`);
  const user = await requireUser(userNamed, parts.store);
  const writes = await addToGroup(group, user, parts);
  if (writes.length > 0) await parts.store.write([...writes, commandLine('group add', group.id, parts)]);
  return { group: group.id, added: user.id };
}

async function remove([groupNamed, userNamed]: [string, string], parts: Parts): Promise<object> {
  const { store } = parts;
  const [group, user] = [await requireGroup(groupNamed, store), await requireUser(userNamed, store)];
  const row = await store.get(KIND.groupMember, groupMemberId(group.id, user.id));
  if (!row) throw new CommandFailed(`${userNamed} is not in the group ${groupNamed}.`);
  const line = commandLine('group remove', group.id, parts);
  await store.write([{ op: 'delete', kind: row.kind, id: row.id, version: row.version }, line]);
  return { group: group.id, removed: user.id };
}

/** From the first write on nobody puts it anywhere any more; every step may be done again. */
async function deleteGroup(nameOrId: string, parts: Parts): Promise<object> {
  const { store } = parts;
  const group = await requireGroup(nameOrId, store);
  const deleting = { ...group, state: DELETING, version: group.version + 1, doc: withState(group) };
  await store.write([{ op: 'update', row: deleting }, commandLine('group delete', group.id, parts)]);
  await deleteRows({ kind: KIND.launchProfileMember, ownerId: group.id }, store);
  await deleteRows({ kind: KIND.groupMember, parentId: group.id }, store);
  await store.write([{ op: 'delete', kind: group.kind, id: group.id, version: deleting.version }]);
  return { deleted: group.id };
}

/** So that it shows in a list. */
function withState({ doc }: Row): string {
  return JSON.stringify({ ...(JSON.parse(doc) as Group), state: DELETING });
}

/** @throws CommandFailed */
async function requireGroup(nameOrId: string, store: Store): Promise<Row> {
  const row = await findNamed(store, KIND.group, nameOrId);
  if (!row) throw new CommandFailed(`There is no group ${nameOrId}.`);
  return row;
}
