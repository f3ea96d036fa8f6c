/**
 * What an adapter remembers of its workstations: one JSON file each, named by the workstation's id, whole or not there.
 * It knows nothing of what a record means, and nothing of turns: whoever changes one must see that nobody else does.
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

export interface Records<T> {
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

export async function openRecords<T>(directory: string, clock: Clock): Promise<Records<T>> {
  makePrivateDirectory(directory);
  await sweepTemporaries(directory, clock.now() - LEFTOVER_AGE_MS);
  const pathOf = (id: string) => join(directory, `${requireFileName(id)}${SUFFIX}`);
  return {
    get: async (id) => {
      try {
        return JSON.parse(await readFile(pathOf(id), 'utf8')) as T;
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
