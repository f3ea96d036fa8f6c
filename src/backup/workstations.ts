/**
 * Workstations in a backup: the record of each, its backups, and its volume where it does not run. A volume in use is never
 * copied, as its parts would be of different moments; a workstation that was stopped when the backup began, and runs when
 * it ends, comes as it was then. What cannot come along is told by name, and its record in the copy says so too: an
 * installation that is restored must neither take an empty volume for somebody's work, nor look for processes of this one.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ENGINE_COPIES, type EngineCopies, type Packing, type WorkstationFiles } from '../compute/copies.ts';
import { recordFiles } from '../compute/records.ts';
import { isSystemError, withFile } from '../files.ts';
import { dataKeyFile } from '../keys/key-files.ts';
import type { CopiedFiles } from './copied-files.ts';
import { openOwn, type Watch } from './manifest.ts';

const COMPUTE = 'compute';
/** Of the data directory: the records of each engine are in one of them. */
export const WORKSTATION_DIRECTORIES = ENGINE_COPIES.map(({ directory }) => join(COMPUTE, directory));
/** Of a workstation that is changed while it is copied. */
const TRIES_MAX = 10;
/** A change that has removed a file and not yet written so is over by then. */
const TRY_AGAIN_MS = 100;

export interface WorkstationsSource {
  /** The data directory. */
  readonly path: string;
  readonly keys: Packing['keys'];
}

/** What a look at all workstations has found. */
export interface WorkstationsTaken {
  /** Paths that are the backup. */
  readonly kept: ReadonlySet<string>;
  /** Ids of workstations whose volume is left out because they run. */
  readonly running: readonly string[];
  readonly damaged: readonly DamagedWorkstation[];
}

/** One of which something is not there, or cannot be read. The rest of it is in the backup. */
export interface DamagedWorkstation {
  readonly id: string;
  readonly reason: string;
}

interface Found {
  readonly engine: EngineCopies;
  readonly id: string;
  /** Of its record. */
  readonly path: string;
}

type CopiedRecord = Parameters<EngineCopies['recordForCopy']>[0];

/** Of the files of one workstation: all that could be copied is, or its record says something else by now, or why not. */
type Outcome = 'whole' | 'changed' | { readonly missing: string } | { readonly unreadable: string };

export class Workstations {
  readonly #files: CopiedFiles;
  readonly #source: WorkstationsSource;
  readonly #watch: Watch;
  /** By the path of a volume that was copied while nobody wrote to it: the state of its record all the while. */
  readonly #volumes = new Map<string, string>();

  constructor(files: CopiedFiles, source: WorkstationsSource, watch: Watch) {
    this.#files = files;
    this.#source = source;
    this.#watch = watch;
  }

  /** What is there now and keeps its name as long as it is there: records, and the backups in them. */
  async names(): Promise<string[]> {
    const names: string[] = [];
    for (const found of await this.#all()) {
      const text = await this.#read(found.path);
      if (text !== undefined) names.push(found.path, ...(contentOf(found, text)?.backups ?? []));
    }
    return names;
  }

  /** Copies every record anew, and of the rest what was not copied before or has changed since. */
  async take(): Promise<WorkstationsTaken> {
    const kept = new Set<string>();
    const running: string[] = [];
    const damaged: DamagedWorkstation[] = [];
    const all = await this.#all();
    for (const [index, found] of all.entries()) {
      const onFraction = (fraction: number) => this.#watch.onProgress((100 * (index + fraction)) / all.length);
      const taken = await this.#takeOne(found, onFraction);
      if (!taken) continue;
      for (const path of taken.kept) kept.add(path);
      if (taken.reason !== undefined) damaged.push({ id: found.id, reason: taken.reason });
      else if (taken.lacksVolume) running.push(found.id);
    }
    return { kept, running, damaged };
  }

  async #all(): Promise<Found[]> {
    const all: Found[] = [];
    for (const engine of ENGINE_COPIES) {
      const place = join(COMPUTE, engine.directory);
      for (const name of await recordFiles(join(this.#source.path, place))) {
        all.push({ engine, id: name.slice(0, -'.json'.length), path: join(place, name) });
      }
    }
    return all;
  }

  /** The text of a record; undefined when it is not there, or no longer. */
  async #read(path: string): Promise<string | undefined> {
    this.#watch.signal.throwIfAborted();
    try {
      return await withFile(openOwn(join(this.#source.path, path)), (handle) => handle.readFile('utf8'));
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return undefined;
      throw error;
    }
  }

  /** Undefined when it has been destroyed. */
  async #takeOne(found: Found, onFraction: (fraction: number) => void): Promise<Taken | undefined> {
    for (let tries = 1; ; tries += 1) {
      const text = await this.#read(found.path);
      if (text === undefined) return undefined;
      const content = contentOf(found, text);
      if (!content) {
        await this.#files.put(found.path, text);
        return { kept: [found.path], reason: 'its record is damaged', lacksVolume: false };
      }
      const outcome = await this.#takeFiles(found, content, onFraction);
      if (outcome === 'whole' || 'unreadable' in Object(outcome) || tries === TRIES_MAX) {
        return this.#takeRecord(found, content, outcome);
      }
      await delay(TRY_AGAIN_MS, undefined, { signal: this.#watch.signal });
    }
  }

  async #takeRecord({ engine, id, path }: Found, content: Content, outcome: Outcome): Promise<Taken> {
    const { record, backups, volume } = content;
    const hasVolume = volume !== null && this.#volumes.has(volume);
    const copy = engine.recordForCopy(record, hasVolume ? 'comes along' : 'is left out');
    await this.#files.put(path, JSON.stringify(copy));
    const others = [...backups, ...(hasVolume ? [volume] : []), keyOf(id)];
    return {
      kept: [path, ...others.filter((each) => this.#files.get(each))],
      reason: typeof outcome === 'string' ? undefined : Object.values(outcome)[0],
      lacksVolume: volume !== null && !hasVolume,
    };
  }

  /** What is missing may be just being destroyed, which its record then says a moment later. */
  async #takeFiles(
    found: Found,
    { record, backups, volume }: Content,
    onFraction: (fraction: number) => void,
  ): Promise<Outcome> {
    const missing: string[] = [];
    for (const path of backups) if (!(await this.#files.take(path))) missing.push(path);
    const isWanted = volume !== null && record.power === 'off' && this.#volumes.get(volume) !== stateOf(record);
    let unreadable: string | undefined;
    if (isWanted) {
      this.#volumes.delete(volume);
      await this.#files.drop(volume);
      if (found.engine.packVolume) unreadable = await this.#pack(found, record, volume);
      else if (!(await this.#copy(volume, onFraction))) missing.push(volume);
    }
    // Without its key all of it is noise.
    const key = keyOf(found.id);
    if ((isWanted || backups.length > 0) && unreadable === undefined && !(await this.#files.take(key)))
      missing.push(key);
    const text = await this.#read(found.path);
    const after = text === undefined ? undefined : contentOf(found, text);
    if (!after || stateOf(after.record) !== stateOf(record)) return 'changed';
    if (unreadable !== undefined) return { unreadable };
    // Only now is it known that nobody has written to it meanwhile.
    if (isWanted && this.#files.get(volume)) this.#volumes.set(volume, stateOf(record));
    if (missing.length > 0) return { missing: `${missing[0]} is not there` };
    return 'whole';
  }

  /** False when it is not there. */
  async #copy(path: string, onFraction: (fraction: number) => void): Promise<boolean> {
    const { size } = await stat(join(this.#source.path, path)).catch(() => ({ size: 0 }));
    return this.#files.take(path, (bytes) => onFraction(Math.min(bytes / Math.max(size, 1), 1)));
  }

  /** @returns why it could not be; undefined where it is in the backup. */
  async #pack({ engine, id }: Found, record: CopiedRecord, path: string): Promise<string | undefined> {
    const { signal } = this.#watch;
    const { keys } = this.#source;
    const directory = join(this.#source.path, COMPUTE, engine.directory);
    try {
      await this.#files.make(path, (target) => engine.packVolume!(id, record, { target, directory, keys, signal }));
      return undefined;
    } catch (error) {
      signal.throwIfAborted();
      if (isSystemError(error, 'ENOSPC', 'EDQUOT')) throw error;
      const { inward, message } = error as Error & { readonly inward?: string };
      return inward ?? message;
    }
  }
}

/** What came of one workstation. */
interface Taken {
  readonly kept: readonly string[];
  readonly reason: string | undefined;
  readonly lacksVolume: boolean;
}

/** A record and what belongs to it, by paths within the data directory. */
interface Content extends WorkstationFiles {
  readonly record: CopiedRecord;
}

/** Undefined for a record that is damaged. */
function contentOf({ engine, id }: Found, text: string): Content | undefined {
  try {
    const record = JSON.parse(text) as CopiedRecord;
    const { backups, volume } = engine.filesOf(id, record);
    const within = (path: string) => join(COMPUTE, engine.directory, path);
    return { record, backups: backups.map(within), volume: volume === null ? null : within(volume) };
  } catch {
    return undefined;
  }
}

/** Whoever starts or stops a workstation changes one of these before anything else. */
function stateOf({ fence, power }: CopiedRecord): string {
  return JSON.stringify([fence, power]);
}

function keyOf(id: string): string {
  return join('keys', dataKeyFile(id));
}
