/** `backlot user`: the people that can be members of studios and launch profiles. */
import { commandLine } from '../domain/audit.ts';
import { findServiceLike } from '../domain/grant.ts';
import { KIND } from '../domain/kinds.ts';
import { findNamed, newUser, readUser, type User, withEnabled, withName } from '../domain/user.ts';
import { ensureIdentityStore } from '../installation.ts';
import type { Parts } from '../service.ts';
import { GuardFailed, type Row, type Store } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { undisturbed } from './undisturbed.ts';
import { withParts } from './with-parts.ts';

export const userCommands: readonly Command[] = [
  {
    name: 'user create',
    summary: 'Makes a user, whose principalId can be a member of studios and launch profiles.',
    positionals: [],
    options: {
      name: { value: 'NAME', meaning: 'Name to sign in with, of which there is one', required: true },
      email: { value: 'ADDRESS', meaning: 'E-mail address' },
      'display-name': { value: 'NAME', meaning: 'Name as others see it' },
    },
    run: (given, config) => withParts(config, (parts) => createUser(given, parts)),
  },
  {
    name: 'user list',
    summary: 'Lists users.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ store }) => listDocuments<User>(store, KIND.user)),
  },
  {
    name: 'user rename',
    summary: 'Gives a user another name to sign in with. The principalId, and all that hangs on it, stays.',
    positionals: ['NAME|ID', 'NEW-NAME'],
    options: {},
    run: (given, config) =>
      withParts(config, (parts) => undisturbed(() => renameUser(given.positionals as [string, string], parts))),
  },
  {
    name: 'user disable',
    summary: 'No longer lets a user use anything. What the user is a member of stays as it is.',
    positionals: ['NAME|ID'],
    options: {},
    run: (given, config) => withParts(config, (parts) => setEnabled(given.positionals[0]!, false, parts)),
  },
  {
    name: 'user enable',
    summary: 'Lets a user who was disabled use everything again.',
    positionals: ['NAME|ID'],
    options: {},
    run: (given, config) => withParts(config, (parts) => setEnabled(given.positionals[0]!, true, parts)),
  },
];

async function createUser(given: Arguments, parts: Parts): Promise<object> {
  const [userName, displayName, email] = [given.option('name')!, given.option('display-name'), given.option('email')];
  const user = {
    userName,
    ...(displayName !== undefined && { displayName }),
    ...(email !== undefined && { email }),
  };
  await requireNoService(userName, parts.store);
  const row = newUser(user, await ensureIdentityStore(parts), parts);
  try {
    await parts.store.write([{ op: 'insert', row }, commandLine('user create', row.id, parts)]);
  } catch (error) {
    if (error instanceof GuardFailed) throw new CommandFailed(`There is a user ${userName} already.`);
    throw error;
  }
  const { principalId, identityStoreId } = JSON.parse(row.doc) as User;
  return { principalId, identityStoreId, userName };
}

async function renameUser([nameOrId, userName]: [string, string], parts: Parts): Promise<User> {
  const { store } = parts;
  const before = await requireUser(nameOrId, store);
  const row = withName(before, userName);
  const rival = await findNamed(store, KIND.user, userName);
  if (rival && rival.id !== row.id) throw new CommandFailed(`There is a user ${userName} already.`);
  await requireNoService(userName, store);
  await store.write([{ op: 'update', row }, commandLine('user rename', row.id, parts)]);
  return readUser(row);
}

function setEnabled(nameOrId: string, enabled: boolean, parts: Parts): Promise<User> {
  return undisturbed(async () => {
    const row = withEnabled(await requireUser(nameOrId, parts.store), enabled);
    const line = commandLine(enabled ? 'user enable' : 'user disable', row.id, parts);
    await parts.store.write([{ op: 'update', row }, line]);
    return JSON.parse(row.doc) as User;
  });
}

/** @throws CommandFailed */
async function requireNoService(userName: string, store: Store): Promise<void> {
  const service = await findServiceLike(userName, store);
  if (service === undefined) return;
  throw new CommandFailed(`There is a service ${service}: a user must have a name of their own.`);
}

/** @throws CommandFailed */
export async function requireUser(nameOrId: string, store: Store): Promise<Row> {
  const row = await findNamed(store, KIND.user, nameOrId);
  if (!row) throw new CommandFailed(`There is no user ${nameOrId}.`);
  return row;
}
