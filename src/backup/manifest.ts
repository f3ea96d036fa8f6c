/**
 * What makes a directory a backup: `backup.json`, which names every file with its length and hash, and is written when
 * all of them are on the disk. Without it, or with one file that differs, a directory is no backup and must not be
 * restored. Paths in it are believed only where they are of a form that a data directory has.
 */
import { constants as fsConstants } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { ENGINE_COPIES } from '../compute/copies.ts';
import { ID_PATTERN } from '../compute/records.ts';
import { isSystemError, withFile, writeDurably } from '../files.ts';
import { hashWhole } from '../images/hash.ts';

export const MANIFEST = 'backup.json';
export const DATABASE = 'backlot.db';
const ROOT_KEY = 'keys/root.key';

const FORMAT = 1;
/** Half a million files. */
const MANIFEST_BYTES_MAX = 128 * 1024 * 1024;
const ID = ID_PATTERN;
/** Records of workstations, and what belongs to them. */
const COMPUTE_PATHS = ENGINE_COPIES.flatMap(({ directory, names }) =>
  [`${ID}\\.json`, ...names].map((name) => join('compute', directory, name)),
);
const PATHS = new RegExp(
  `^(backlot\\.db|credentials|keys/root\\.key|keys/(customer|data)/${ID}\\.json|images/machine/${ID}/disk|` +
    `images/streaming/${ID}/(disk\\.qcow2|manifest\\.json)|${COMPUTE_PATHS.join('|')})$`,
);

export interface BackupFile {
  /** Within the data directory, and within the backup. */
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly createdAt: string;
  /** Where the rows are: in this backup, or in a database whose own tools back it up. */
  readonly database: 'sqlite' | 'postgresql';
  readonly files: readonly BackupFile[];
}

/** Why there is no backup, or no restoring it. The message is a sentence for the person at the terminal. */
export class BackupFailed extends Error {
  override readonly name = 'BackupFailed';
}

export interface Watch {
  readonly signal: AbortSignal;
  /** Called with 0 to 100. */
  readonly onProgress: (percent: number) => void;
}

/** @throws BackupFailed for one that could not be restored. */
export async function writeManifest(directory: string, manifest: Manifest): Promise<void> {
  requireWhole(directory, manifest);
  const text = JSON.stringify({ format: FORMAT, ...manifest }, null, 1);
  await writeDurably(join(directory, MANIFEST), Buffer.from(`${text}\n`));
}

/** @throws BackupFailed */
export async function readManifest(directory: string): Promise<Manifest> {
  const path = join(directory, MANIFEST);
  let text: string;
  try {
    if ((await stat(path)).size > MANIFEST_BYTES_MAX) throw new BackupFailed(`${path} is too large.`);
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error;
    throw new BackupFailed(
      `${directory} is no backup: it has no ${MANIFEST}, which is written last. A backup that was broken off is to be deleted.`,
    );
  }
  const manifest = parseManifest(text);
  if (!manifest) throw new BackupFailed(`${path} is damaged, or of another version of Backlot.`);
  requireWhole(directory, manifest);
  return manifest;
}

/** Nothing opens without the root key, and nothing is there without the database. @throws BackupFailed */
function requireWhole(directory: string, { database, files }: Manifest): void {
  const paths = new Set(files.map(({ path }) => path));
  const needed = database === 'sqlite' ? [ROOT_KEY, DATABASE] : [ROOT_KEY];
  const missing = needed.find((path) => !paths.has(path));
  if (missing === undefined) return;
  throw new BackupFailed(`The backup ${directory} is not whole: ${missing} is not in it. Use another backup.`);
}

function parseManifest(text: string): Manifest | undefined {
  try {
    const { format, createdAt, database, files } = JSON.parse(text);
    const valid = format === FORMAT && typeof createdAt === 'string' && /^(sqlite|postgresql)$/.test(database);
    return valid && Array.isArray(files) && areBackupFiles(files) ? { createdAt, database, files } : undefined;
  } catch {
    return undefined;
  }
}

function areBackupFiles(files: readonly (Partial<BackupFile> | null)[]): boolean {
  return files.every(isBackupFile) && new Set(files.map((file) => file!.path)).size === files.length;
}

function isBackupFile(file: Partial<BackupFile> | null): boolean {
  const { path, bytes, sha256 } = file ?? {};
  return (
    typeof path === 'string' && PATHS.test(path) && Number.isSafeInteger(bytes) && /^[0-9a-f]{64}$/.test(`${sha256}`)
  );
}

/** Opens a file of ours for reading. Directories may be links to elsewhere; the file itself may not. */
export function openOwn(path: string): Promise<FileHandle> {
  return open(path, fsConstants.O_RDONLY | fsConstants.O_NOFOLLOW);
}

/** Reads every file, and compares it with what was written. @throws BackupFailed that names the first that differs. */
export async function verifyBackup(directory: string, { signal, onProgress }: Watch): Promise<Manifest> {
  const manifest = await readManifest(directory);
  const total = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  for (const file of manifest.files) {
    const onFraction = (fraction: number) => onProgress((100 * (done + fraction * file.bytes)) / Math.max(total, 1));
    await verifyFile(directory, file, signal, onFraction);
    done += file.bytes;
  }
  return manifest;
}

async function verifyFile(
  directory: string,
  { path, bytes, sha256 }: BackupFile,
  signal: AbortSignal,
  onFraction: (fraction: number) => void,
): Promise<void> {
  try {
    const found = await withFile(openOwn(join(directory, path)), (handle) => hashWhole(handle, signal, onFraction));
    if (found.bytes === bytes && found.sha256 === sha256) return;
  } catch (error) {
    signal.throwIfAborted();
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) throw error;
    throw new BackupFailed(`The backup ${directory} is not whole: ${path} is missing.`);
  }
  throw new BackupFailed(`The backup ${directory} is not whole: ${path} is not what was written. Use another backup.`);
}
