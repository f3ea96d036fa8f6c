/**
 * What an adapter remembers of its workstations: one JSON file each, named by the workstation's id, whole or not there.
 * It knows nothing of what a record means, and nothing of turns: whoever changes one must see that nobody else does. One
 * that is damaged says nothing: nobody may end, destroy or replace anything because of it.
 */
import { readdir, readFile, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import {
  isSystemError,
  makePrivateDirectory,
  requireFileName,
  sweepTemporaries,
  syncDirectory,
  writeDurably,
} from '../files.ts';
import type { Log } from '../log.ts';
import type { Workstation } from './compute.ts';

export interface Records<T> {
  /** @throws DamagedRecord */
  get(id: string): Promise<T | undefined>;
  /** Durable when it resolves; undefined takes the record away. */
  put(id: string, record: T | undefined): Promise<void>;
  ids(): Promise<string[]>;
}

const SUFFIX = '.json';
/** An id as the name of a file, as the source of a regular expression. */
export const ID_PATTERN = '[A-Za-z0-9_-]{1,64}';
const FILE_NAME = new RegExp(`^${ID_PATTERN}\\.json$`);
/** A file that is still being written is never as old as this. */
const LEFTOVER_AGE_MS = 15 * 60_000;

/** The names of all records' files; none where there is no such directory. */
export async function recordFiles(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).filter((name) => FILE_NAME.test(name));
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return [];
    throw error;
  }
}

/** A record that is there and cannot be read. */
export class DamagedRecord extends Error {
  override readonly name = 'DamagedRecord';
  constructor(path: string) {
    super(
      `${path} is damaged. Its workstation is left alone until the file is mended, or moved away to give the workstation up.`,
    );
  }
}

export interface FoundRecord<T> {
  readonly id: string;
  /** Undefined where it is damaged. */
  readonly record: T | undefined;
}

/** Reads all records. One that is damaged keeps nobody from the others; it is told of once. */
export function recordReader<T>(records: Records<T>, log: Log): () => Promise<FoundRecord<T>[]> {
  const told = new Set<string>();
  const read = async (id: string): Promise<FoundRecord<T>[]> => {
    try {
      const record = await records.get(id);
      told.delete(id);
      return record === undefined ? [] : [{ id, record }];
    } catch (error) {
      if (!(error instanceof DamagedRecord)) throw error;
      if (!told.has(id)) log.error({ err: error, id }, 'the record of a workstation is damaged');
      told.add(id);
      return [{ id, record: undefined }];
    }
  };
  return async () => (await Promise.all((await records.ids()).map(read))).flat();
}

/** As one that runs, has a volume and is new: nothing may be ended or destroyed for a record that says nothing. */
export function damagedWorkstation(id: string, now: number): Workstation {
  return { id, running: true, hasVolume: true, backupIds: [], changedAt: now };
}

export async function openRecords<T>(directory: string, clock: Clock): Promise<Records<T>> {
  makePrivateDirectory(directory);
  await sweepTemporaries(directory, clock.now() - LEFTOVER_AGE_MS);
  const pathOf = (id: string) => join(directory, `${requireFileName(id)}${SUFFIX}`);
  return {
    get: async (id) => {
      const path = pathOf(id);
      try {
        return parseRecord<T>(await readFile(path, 'utf8'), path);
      } catch (error) {
        if (isSystemError(error, 'ENOENT')) return undefined;
        throw error;
      }
    },
    put: async (id, record) => {
      if (record !== undefined) return writeDurably(pathOf(id), Buffer.from(JSON.stringify(record)));
      await unlink(pathOf(id)).catch((error) => {
        if (!isSystemError(error, 'ENOENT')) throw error;
      });
      await syncDirectory(directory);
    },
    ids: async () => (await recordFiles(directory)).map((name) => name.slice(0, -SUFFIX.length)),
  };
}

/** The text itself is in no message. @throws DamagedRecord */
function parseRecord<T>(text: string, path: string): T {
  try {
    const record: unknown = JSON.parse(text);
    if (typeof record === 'object' && record !== null && !Array.isArray(record)) return record as T;
  } catch {
    // Told below, like any other text that is no record.
  }
  throw new DamagedRecord(path);
}
