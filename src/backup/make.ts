/**
 * Makes a backup while a server runs: the database as of one moment, every key and disk that it names, and its workstations
 * (workstations.ts).
 *
 * Disks and their keys never change under one name, but may be deleted at any moment. So they are copied first; then the
 * database is; then what it names beyond that. Something that was deleted in between makes another copy of the database
 * necessary, which no longer names it. Workstations change at any moment: they are taken before the database, because that
 * takes its time, and what has changed of them once more right after it. The manifest comes last of all: whatever dies
 * before leaves no backup.
 */
import { mkdir, readdir, realpath, rm } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { type Clock, wireTime } from '../clock.ts';
import { KIND, PRESENT } from '../domain/kinds.ts';
import { isUsableImage, type StreamingImagePrivate } from '../domain/streaming-image.ts';
import { sessionsByImage } from '../domain/streaming-image-use.ts';
import { DIRECTORY_MODE, isSystemError } from '../files.ts';
import { machineImageFiles, streamingImageFiles } from '../images/directory.ts';
import { dataKeyFile, keyFiles } from '../keys/key-files.ts';
import { openSqlite } from '../store/sqlite.ts';
import { backupSqlite } from '../store/sqlite-backup.ts';
import { everyRow, type Row, type Store } from '../store/store.ts';
import { CopiedFiles } from './copied-files.ts';
import { BackupFailed, DATABASE, type Manifest, type Watch, writeManifest } from './manifest.ts';
import {
  WORKSTATION_DIRECTORIES,
  Workstations,
  type WorkstationsSource,
  type WorkstationsTaken,
} from './workstations.ts';

export interface BackupSource {
  readonly directory: {
    readonly path: string;
    readonly database: string;
    readonly keys: string;
  };
  readonly keys: WorkstationsSource['keys'];
  /** The database in use. */
  readonly store: Store;
  readonly clock: Clock;
  /** Whether the rows are in the data directory. */
  readonly isEmbedded: boolean;
}

export interface BackupMade extends Manifest {
  /** Disks that are not what was once stored, or not there at all; they are so in the backup as well. */
  readonly damaged: readonly string[];
  readonly workstations: Pick<WorkstationsTaken, 'running' | 'damaged'>;
}

/** Each is another look at what was deleted meanwhile: far more than a busy hour needs. */
const ROUNDS_MAX = 10;

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
  for (const part of ['', 'keys', 'images', ...WORKSTATION_DIRECTORIES]) {
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

/** What is in a backup by now. */
interface Held {
  readonly kept: Set<string>;
  readonly workstations: WorkstationsTaken;
}

class Backup {
  readonly #target: string;
  readonly #source: BackupSource;
  readonly #watch: Watch;
  readonly #files: CopiedFiles;
  readonly #workstations: Workstations;
  readonly #damaged = new Set<string>();
  #doneBytes = 0;

  constructor(target: string, source: BackupSource, watch: Watch) {
    this.#target = resolve(target);
    this.#source = source;
    this.#watch = watch;
    const { path } = source.directory;
    this.#files = new CopiedFiles(path, this.#target, watch.signal);
    this.#workstations = new Workstations(this.#files, { path, keys: source.keys }, watch);
  }

  async make(): Promise<BackupMade> {
    const { store, isEmbedded, clock } = this.#source;
    const createdAt = wireTime(clock.now());
    await this.#takePieces(await piecesOf(store));
    await this.#workstations.take();
    const { kept, workstations } = isEmbedded ? await this.#takeUntilWhole() : await this.#takeAsNow();
    const files = await this.#files.keepOnly(kept);
    const manifest: Manifest = { createdAt, database: isEmbedded ? 'sqlite' : 'postgresql', files };
    await writeManifest(this.#target, manifest);
    return { ...manifest, damaged: [...this.#damaged], workstations };
  }

  async #takeUntilWhole(): Promise<Held> {
    for (let round = 0; round < ROUNDS_MAX; round += 1) {
      const known = await this.#workstations.names();
      const pieces = await this.#takeDatabase();
      const held = await this.#takeRest(pieces);
      const now = new Set(await this.#workstations.names());
      const lacksWorkstations = known.some((path) => !held.kept.has(path) && !now.has(path));
      if ((await this.#lacksDeleted(pieces)) || lacksWorkstations) continue;
      held.kept.add(DATABASE);
      return held;
    }
    throw new BackupFailed(
      'Images or sessions are deleted faster than they can be copied. Try again when less is going on.',
    );
  }

  /** Of a database elsewhere, which is backed up before this by tools of its own. */
  async #takeAsNow(): Promise<Held> {
    const pieces = await piecesOf(this.#source.store);
    const held = await this.#takeRest(pieces);
    await this.#lacksDeleted(pieces);
    return held;
  }

  /** Copies the database anew. What it names is read off the copy. */
  async #takeDatabase(): Promise<Piece[]> {
    const { directory, clock } = this.#source;
    return this.#files.makeAt(DATABASE, async (path) => {
      backupSqlite(directory.database, path);
      const copy = openSqlite({ path, now: clock.now });
      return piecesOf(copy).finally(() => copy.close());
    });
  }

  /** Workstations, what the database names, all keys, and the first access key where its file is still there. */
  async #takeRest(pieces: readonly Piece[]): Promise<Held> {
    const workstations = await this.#workstations.take();
    await this.#takePieces(pieces);
    const others = ['credentials', ...(await keyFiles(this.#source.directory.keys)).map((path) => `keys/${path}`)];
    const kept = new Set([...pieces.flatMap(({ files }) => files), ...workstations.kept]);
    for (const path of others) if (await this.#files.take(path)) kept.add(path);
    return { kept, workstations };
  }

  async #takePieces(pieces: readonly Piece[]): Promise<void> {
    const total = pieces.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#doneBytes = 0;
    for (const { id, files, bytes, sha256 } of pieces) {
      for (const path of files) {
        await this.#files.take(path, (done) =>
          this.#watch.onProgress((100 * (this.#doneBytes + done)) / Math.max(total, 1)),
        );
      }
      this.#doneBytes += bytes;
      const disk = this.#files.get(files[0]!);
      if (disk && sha256 !== undefined && disk.sha256 !== sha256) this.#damaged.add(id);
    }
  }

  /** Whether the copy of the database names what was deleted since. What is missing for another reason is damage. */
  async #lacksDeleted(pieces: readonly Piece[]): Promise<boolean> {
    let deleted = false;
    for (const { kind, id, files } of pieces) {
      if (files.every((path) => this.#files.get(path))) continue;
      const { store } = this.#source;
      const row = await store.get(kind, id);
      if (row && pieceOf(row, await sessionsByImage(store))) this.#damaged.add(id);
      else deleted = true;
    }
    return deleted;
  }
}

async function piecesOf(store: Store): Promise<Piece[]> {
  const pieces: Piece[] = [];
  const sessions = await sessionsByImage(store);
  for (const kind of [KIND.machineImage, KIND.streamingImage]) {
    for await (const row of everyRow(store, { kind })) {
      const piece = pieceOf(row, sessions);
      if (piece) pieces.push(piece);
    }
  }
  return pieces;
}

/**
 * Undefined for a row that needs no disk: it is being made, and will be made anew, or it is being deleted.
 * @param sessions how many stand on each image, which needs its disk then whatever its state.
 */
function pieceOf(row: Row, sessions: ReadonlyMap<string, number>): Piece | undefined {
  const { kind, id, state, doc, private: inward } = row;
  if (kind === KIND.machineImage) {
    if (state !== PRESENT) return undefined;
    const { sizeBytes, sha256 } = JSON.parse(doc) as { sizeBytes: number; sha256: string };
    return { kind, id, files: machineImageFiles(id).map((path) => `images/${path}`), bytes: sizeBytes, sha256 };
  }
  const {
    sizeBytes = 0,
    sha256,
    kept,
  } = JSON.parse(inward) as StreamingImagePrivate & { sizeBytes?: number; sha256?: string };
  if (!isUsableImage(row) && !sessions.has(id)) return undefined;
  if (state === 'DELETED' && !kept) return undefined;
  const files = [...streamingImageFiles(id).map((path) => `images/${path}`), `keys/${dataKeyFile(id)}`];
  return { kind, id, files, bytes: sizeBytes, sha256 };
}
