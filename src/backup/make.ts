/**
 * Makes a backup while a server runs: the database as of one moment, every key and disk that it names, and the records of
 * its workstations.
 *
 * Disks and their keys never change under one name, but may be deleted at any moment. So they are copied first; then the
 * database is; then what it names beyond that. Something that was deleted in between makes another copy of the database
 * necessary, which no longer names it. Records change at any moment, and are taken right after the database. The manifest
 * comes last of all: whatever dies before leaves no backup.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, realpath, rm, unlink } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { type Clock, wireTime } from '../clock.ts';
import { recordFiles } from '../compute/records.ts';
import { recordForCopy } from '../compute/simulated.ts';
import { KIND, PRESENT } from '../domain/kinds.ts';
import { hasCopy } from '../domain/streaming-image.ts';
import { copyHashed, createFile, DIRECTORY_MODE, isSystemError, syncDirectory, withFile } from '../files.ts';
import { machineImageFiles, streamingImageFiles } from '../images/directory.ts';
import { hashWhole } from '../images/hash.ts';
import { dataKeyFile, isWholeKeyFile, keyFiles } from '../keys/local.ts';
import { openSqlite } from '../store/sqlite.ts';
import { backupSqlite } from '../store/sqlite-backup.ts';
import type { Cursor, Row, Store } from '../store/store.ts';
import {
  BackupFailed,
  type BackupFile,
  DATABASE,
  type Manifest,
  openOwn,
  type Watch,
  writeManifest,
} from './manifest.ts';

export interface BackupSource {
  readonly directory: {
    readonly path: string;
    readonly database: string;
    readonly keys: string;
    readonly compute: string;
  };
  /** The database in use. */
  readonly store: Store;
  readonly clock: Clock;
  /** Whether the rows are in the data directory. */
  readonly isEmbedded: boolean;
}

export interface BackupMade extends Manifest {
  /** Disks that are not what was once stored, or not there at all; they are so in the backup as well. */
  readonly damaged: readonly string[];
}

/** Each is another look at what was deleted meanwhile: far more than a busy hour needs. */
const ROUNDS_MAX = 10;
const PAGE_LENGTH = 500;

/** What belongs together and to one row. */
interface Piece {
  readonly kind: string;
  readonly id: string;
  readonly files: readonly string[];
  readonly bytes: number;
  /** Of the first file, if it is known. */
  readonly sha256: string | undefined;
}

/** @throws BackupFailed; the signal's reason. Nothing is left then. */
export async function makeBackup(target: string, source: BackupSource, watch: Watch): Promise<BackupMade> {
  await prepare(target, source.directory.path);
  try {
    return await new Backup(target, source, watch).make();
  } catch (error) {
    await rm(target, { recursive: true, force: true }).catch(() => undefined);
    if (!isSystemError(error, 'ENOSPC', 'EDQUOT')) throw error;
    throw new BackupFailed(`There is no room for the backup in ${target}.`);
  }
}

/** @throws BackupFailed unless the target is a new directory outside of the data directory. */
async function prepare(target: string, dataDirectory: string): Promise<void> {
  const place = await placeOf(target);
  for (const part of ['', 'keys', 'images', 'compute']) {
    if (!isWithin(await placeOf(join(dataDirectory, part)), place)) continue;
    throw new BackupFailed(`${target} is in the data directory: name one outside of it.`);
  }
  await requireEmpty(target);
  await mkdir(target, { recursive: true, mode: DIRECTORY_MODE });
}

/** Where the path really leads, through links; what is not there yet is taken as it is named. */
async function placeOf(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT', 'ENOTDIR')) throw error;
    return join(await placeOf(dirname(path)), basename(path));
  }
}

function isWithin(directory: string, path: string): boolean {
  const [first] = relative(directory, path).split('/');
  return first !== '..';
}

/** @throws BackupFailed */
export async function requireEmpty(directory: string): Promise<void> {
  try {
    const [name] = await readdir(directory);
    if (name === undefined) return;
    throw new BackupFailed(`${directory} is not empty (${name}): name a directory that is empty or not there yet.`);
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return;
    if (isSystemError(error, 'ENOTDIR')) throw new BackupFailed(`${directory} is not a directory.`);
    throw error;
  }
}

class Backup {
  readonly #target: string;
  readonly #source: BackupSource;
  readonly #watch: Watch;
  /** By path. */
  readonly #taken = new Map<string, BackupFile>();
  readonly #damaged = new Set<string>();
  #doneBytes = 0;

  constructor(target: string, source: BackupSource, watch: Watch) {
    this.#target = resolve(target);
    this.#source = source;
    this.#watch = watch;
  }

  async make(): Promise<BackupMade> {
    const { store, isEmbedded, clock } = this.#source;
    const createdAt = wireTime(clock.now());
    await this.#takePieces(await piecesOf(store));
    const kept = isEmbedded ? await this.#takeUntilWhole() : await this.#takeAsNow();
    const files = await this.#keepOnly(kept);
    await this.#syncDirectories(files);
    const manifest: Manifest = { createdAt, database: isEmbedded ? 'sqlite' : 'postgresql', files };
    await writeManifest(this.#target, manifest);
    return { ...manifest, damaged: [...this.#damaged] };
  }

  /** The paths that are the backup. */
  async #takeUntilWhole(): Promise<Set<string>> {
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const known = await this.#recordPaths();
      const pieces = await this.#takeDatabase();
      const records = await this.#takeRecords();
      const kept = await this.#takeRest(pieces, records);
      const lacksRecords = known.some((path) => !records.has(path));
      if (!(await this.#lacksDeleted(pieces)) && !lacksRecords) return kept.add(DATABASE);
    }
    throw new BackupFailed(
      'Images or sessions are deleted faster than they can be copied. Try again when less is going on.',
    );
  }

  /** Of a database elsewhere, which is backed up before this by tools of its own. */
  async #takeAsNow(): Promise<Set<string>> {
    const pieces = await piecesOf(this.#source.store);
    const kept = await this.#takeRest(pieces, await this.#takeRecords());
    await this.#lacksDeleted(pieces);
    return kept;
  }

  /** Copies the database anew. What it names is read off the copy. */
  async #takeDatabase(): Promise<Piece[]> {
    const path = join(this.#target, DATABASE);
    await this.#drop(DATABASE);
    backupSqlite(this.#source.directory.database, path);
    const copy = openSqlite({ path, now: this.#source.clock.now });
    const pieces = await piecesOf(copy).finally(() => copy.close());
    await withFile(open(path, 'r+'), (handle) => handle.sync());
    const { bytes, sha256 } = await withFile(openOwn(path), (handle) =>
      hashWhole(handle, this.#watch.signal, () => undefined),
    );
    this.#taken.set(DATABASE, { path: DATABASE, bytes, sha256 });
    return pieces;
  }

  async #recordPaths(): Promise<string[]> {
    return (await recordFiles(this.#source.directory.compute)).map((name) => `compute/${name}`);
  }

  /** Copies every record anew, and says which were there. */
  async #takeRecords(): Promise<Set<string>> {
    for (const path of [...this.#taken.keys()]) if (path.startsWith('compute/')) await this.#drop(path);
    const records = new Set<string>();
    for (const path of await this.#recordPaths()) if (await this.#takeRecord(path)) records.add(path);
    return records;
  }

  /** False when it is no longer there. */
  async #takeRecord(path: string): Promise<boolean> {
    this.#watch.signal.throwIfAborted();
    try {
      const source = openOwn(join(this.#source.directory.path, path));
      const text = await withFile(source, (handle) => handle.readFile('utf8'));
      const content = Buffer.from(recordForCopy(text));
      await this.#create(path, (handle) => handle.writeFile(content));
      const sha256 = createHash('sha256').update(content).digest('hex');
      this.#taken.set(path, { path, bytes: content.length, sha256 });
      return true;
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      throw error;
    }
  }

  /** Makes the file in the backup. What `fill` returns is on the disk then. */
  async #create<T>(path: string, fill: (handle: FileHandle) => Promise<T>): Promise<T> {
    const target = join(this.#target, path);
    await mkdir(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
    return withFile(createFile(target), async (handle) => {
      const filled = await fill(handle);
      await handle.sync();
      return filled;
    });
  }

  /** What the database names, the records, all keys, and the first access key where its file is still there. */
  async #takeRest(pieces: readonly Piece[], records: ReadonlySet<string>): Promise<Set<string>> {
    await this.#takePieces(pieces);
    const others = ['credentials', ...(await keyFiles(this.#source.directory.keys)).map((path) => `keys/${path}`)];
    const kept = new Set([...pieces.flatMap(({ files }) => files), ...records]);
    for (const path of others) if (await this.#take(path)) kept.add(path);
    return kept;
  }

  async #takePieces(pieces: readonly Piece[]): Promise<void> {
    const total = pieces.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#doneBytes = 0;
    for (const { id, files, bytes, sha256 } of pieces) {
      for (const path of files) {
        await this.#take(path, (done) => this.#watch.onProgress((100 * (this.#doneBytes + done)) / Math.max(total, 1)));
      }
      this.#doneBytes += bytes;
      const disk = this.#taken.get(files[0]!);
      if (disk && sha256 !== undefined && disk.sha256 !== sha256) this.#damaged.add(id);
    }
  }

  /** Whether the copy of the database names what was deleted since. What is missing for another reason is damage. */
  async #lacksDeleted(pieces: readonly Piece[]): Promise<boolean> {
    let deleted = false;
    for (const { kind, id, files } of pieces) {
      if (files.every((path) => this.#taken.has(path))) continue;
      const row = await this.#source.store.get(kind, id);
      if (row && pieceOf(row)) this.#damaged.add(id);
      else deleted = true;
    }
    return deleted;
  }

  /** Copies the file, once. False when it is not there, or no longer. */
  async #take(path: string, onBytes?: (bytes: number) => void): Promise<boolean> {
    if (this.#taken.has(path)) return true;
    const { signal } = this.#watch;
    const target = join(this.#target, path);
    try {
      const copied = await withFile(openOwn(join(this.#source.directory.path, path)), (from) =>
        this.#create(path, (to) => copyHashed(from, to, { signal, ...(onBytes && { onBytes }) })),
      );
      this.#taken.set(path, { path, ...copied });
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      throw error;
    }
    // A key that is destroyed is overwritten first.
    if (!/^keys\/.*\.json$/.test(path) || isWholeKeyFile(await readFile(target, 'utf8'))) return true;
    await this.#drop(path);
    return false;
  }

  async #drop(path: string): Promise<void> {
    this.#taken.delete(path);
    await unlink(join(this.#target, path)).catch((error: unknown) => {
      if (!isSystemError(error, 'ENOENT')) throw error;
    });
  }

  /** What was deleted while the backup was made is no part of it. */
  async #keepOnly(kept: ReadonlySet<string>): Promise<BackupFile[]> {
    for (const path of [...this.#taken.keys()]) if (!kept.has(path)) await this.#drop(path);
    return [...this.#taken.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }

  async #syncDirectories(files: readonly BackupFile[]): Promise<void> {
    const directories = new Set<string>([dirname(this.#target), this.#target]);
    for (const { path } of files) {
      for (let up = dirname(path); up !== '.'; up = dirname(up)) directories.add(join(this.#target, up));
    }
    for (const directory of directories) await syncDirectory(directory);
  }
}

async function piecesOf(store: Store): Promise<Piece[]> {
  const pieces: Piece[] = [];
  for (const kind of [KIND.machineImage, KIND.streamingImage]) {
    for await (const row of rowsOf(store, kind)) {
      const piece = pieceOf(row);
      if (piece) pieces.push(piece);
    }
  }
  return pieces;
}

/** Undefined for a row that has no disk: it is being made, and will be made anew, or it is being deleted. */
function pieceOf({ kind, id, state, doc, private: inward }: Row): Piece | undefined {
  if (kind === KIND.machineImage) {
    if (state !== PRESENT) return undefined;
    const { sizeBytes, sha256 } = JSON.parse(doc) as { sizeBytes: number; sha256: string };
    return { kind, id, files: machineImageFiles(id).map((path) => `images/${path}`), bytes: sizeBytes, sha256 };
  }
  if (!hasCopy(state)) return undefined;
  const { sizeBytes = 0, sha256 } = JSON.parse(inward) as { sizeBytes?: number; sha256?: string };
  const files = [...streamingImageFiles(id).map((path) => `images/${path}`), `keys/${dataKeyFile(id)}`];
  return { kind, id, files, bytes: sizeBytes, sha256 };
}

async function* rowsOf(store: Store, kind: string): AsyncGenerator<Row> {
  let after: Cursor | undefined;
  do {
    const rows = await store.list({ kind, limit: PAGE_LENGTH, ...(after && { after }) });
    yield* rows;
    after = rows.length === PAGE_LENGTH ? rows.at(-1) : undefined;
  } while (after);
}
