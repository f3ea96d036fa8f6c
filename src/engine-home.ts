/**
 * Which of the servers on one database has the workstations, where these are on one machine: the first that starts with
 * such an engine, for good, so that a machine which is down for an hour does not lose them to another. The database has
 * the server's id, and the server has it in a file of its own data directory, which no other shares.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { type DataDirectory, StartError } from './data-directory.ts';
import { commandLine } from './domain/audit.ts';
import { KIND, newRow } from './domain/kinds.ts';
import { createDurably, isSystemError } from './files.ts';
import type { Ids } from './ids.ts';
import { SETTINGS } from './settings.ts';
import { GuardFailed, type Row, type Store } from './store/store.ts';

export interface HomeParts {
  readonly config: Pick<Config, 'databaseUrl'>;
  readonly directory: DataDirectory;
  readonly store: Store;
  readonly clock: Clock;
}

/** Row of kind `installation` that names the server with the workstations. */
const HOME = 'workstations';

export const ELSEWHERE =
  `another server on this database has the workstations. Start this one with ${SETTINGS.compute.env}=none; or, if they are ` +
  'to be made here from now on, and that server is gone for good: backlot session adopt';

/** Whether the workstations are this server's; it takes them where they are nobody's yet. */
export async function takeHome(parts: HomeParts): Promise<boolean> {
  if (parts.config.databaseUrl === undefined) return true;
  const serverId = await ensureServerId(parts.directory);
  try {
    await parts.store.write([{ op: 'insert', row: homeRow(serverId, parts.clock) }]);
    return true;
  } catch (error) {
    if (!(error instanceof GuardFailed)) throw error;
    return (await homeOf(parts.store)) === serverId;
  }
}

export async function isElsewhere({ config, directory, store }: HomeParts): Promise<boolean> {
  if (config.databaseUrl === undefined) return false;
  const home = await homeOf(store);
  return home !== undefined && home !== (await ensureServerId(directory));
}

/** From now on the workstations are this server's. Those of the other are not there, and their sessions are stopped. */
export async function adoptHome(parts: HomeParts & { readonly ids: Ids }): Promise<void> {
  const serverId = await ensureServerId(parts.directory);
  const line = commandLine('session adopt', '', parts);
  const before = await parts.store.get(KIND.installation, HOME);
  const row = homeRow(serverId, parts.clock);
  if (before)
    await parts.store.write([{ op: 'update', row: { ...before, version: before.version + 1, doc: row.doc } }, line]);
  else await parts.store.write([{ op: 'insert', row }, line]);
}

async function homeOf(store: Store): Promise<string | undefined> {
  const row = await store.get(KIND.installation, HOME);
  return row && (JSON.parse(row.doc) as { serverId: string }).serverId;
}

function homeRow(serverId: string, clock: Clock): Row {
  const doc = JSON.stringify({ serverId });
  return newRow({ kind: KIND.installation, id: HOME, createdAt: clock.now(), doc });
}

const SERVER_ID = /^[0-9a-f-]{36}$/;

async function ensureServerId({ serverId: path }: DataDirectory): Promise<string> {
  await createDurably(path, Buffer.from(randomUUID()));
  const id = await readFile(path, 'utf8').catch((error: unknown) => {
    throw new StartError(`The file ${path} cannot be read${isSystemError(error, 'EACCES') ? ' by this user' : ''}.`);
  });
  if (!SERVER_ID.test(id)) throw new StartError(`The file ${path} holds no id of a server. Delete it.`);
  return id;
}
