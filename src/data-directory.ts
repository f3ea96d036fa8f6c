/**
 * The data directory: made on the first start, closed to everyone else, and used by one server at a time.
 *
 * The lock is one of the operating system's on an SQLite file of its own, so that it ends with the process however the
 * process ends. Commands that run beside a server do not take it: they share the database.
 */
import { accessSync, chmodSync, constants, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** Why the program cannot start. The message is one line for the person at the terminal. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

export interface DataDirectory {
  readonly path: string;
  readonly database: string;
  readonly credentials: string;
  readonly keys: string;
  readonly images: string;
  readonly compute: string;
  /** File with this server's own id, among those of one database. */
  readonly serverId: string;
  /** Whether there was none before. */
  readonly isNew: boolean;
}

/** @throws StartError when the directory or its database cannot be made or written to. */
export function openDataDirectory(path: string): DataDirectory {
  const database = join(path, 'backlot.db');
  const isNew = !existsSync(path);
  try {
    makeDirectory(path);
    if (!statSync(path).isDirectory()) throw new Error('it is not a directory');
    requireOwner(path);
    if (existsSync(database)) chmodSync(path, 0o700);
    else requireNothingElse(path);
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    // SQLite opens a database that it may only read without a word, and the first write would be the first to fail.
    if (existsSync(database)) accessSync(database, constants.R_OK | constants.W_OK);
  } catch (error) {
    throw new StartError(`The data directory ${path} cannot be used: ${reasonOf(error)}`);
  }
  return {
    path,
    database,
    credentials: join(path, 'credentials'),
    keys: join(path, 'keys'),
    images: join(path, 'images'),
    compute: join(path, 'compute'),
    serverId: join(path, 'server.id'),
    isNew,
  };
}

/** Makes the directory and what it lacks above it. Node's own recursive way never ends below /proc. */
function makeDirectory(path: string): void {
  if (existsSync(path)) return;
  makeDirectory(dirname(path));
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    // Another process was faster.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** What a first start may have left that died half way, and what a file system puts into its own root. */
const OWN_NAMES = new Set(['server.lock', 'server.id', 'credentials', 'keys', 'images', 'compute', 'lost+found']);

/** Of a file whose writer died. */
const LEFTOVER = /^\.(credentials|server\.id)\.[0-9a-f]{16}\.tmp$/;

/** A directory with other things in it was named by mistake: to close it to everybody else would do harm. */
function requireNothingElse(path: string): void {
  const isOwn = (name: string) => OWN_NAMES.has(name) || name.startsWith('server.lock') || LEFTOVER.test(name);
  const other = readdirSync(path).find((name) => !isOwn(name));
  if (other === undefined) return;
  throw new Error(`it holds other things (${JSON.stringify(other)}); name one that is empty or not there yet`);
}

/** What a server made as one user, a command run as another would fill with files that the server cannot read. */
function requireOwner(path: string): void {
  const { uid } = statSync(path);
  const user = process.geteuid!();
  if (uid !== user) throw new Error(`it belongs to user ${uid} and this is user ${user}; run this as its owner`);
}

/**
 * Takes the directory for one server.
 * @returns how to give it back.
 * @throws StartError when another server has it.
 */
export function lockDataDirectory({ path }: DataDirectory): () => void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(join(path, 'server.lock'));
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (error) {
    database?.close();
    if (/locked|busy/i.test(reasonOf(error))) {
      throw new StartError(
        `Another Backlot server is using the data directory ${path}. Stop it first, or choose another with --data-dir`,
      );
    }
    throw new StartError(`The data directory ${path} cannot be used: ${reasonOf(error)}`);
  }
  const lock = database;
  return () => lock.close();
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
