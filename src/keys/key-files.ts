/**
 * The directory of keys as files: which files are keys, and what one holds. It opens no seal and makes no key: whoever
 * copies the directory needs no more than this.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError, requireFileName } from '../files.ts';
import { KeyUnavailable } from './keys.ts';

/** The root key, within the directory of keys. */
export const ROOT_KEY_FILE = 'root.key';

/** What a key's file holds. Only `sealed` is secret. */
export interface KeyFile {
  /** Of a customer key: its own. Of a data key: the customer key above it, or null for the root key. */
  readonly keyArn: string | null;
  readonly createdAt: string;
  readonly sealed: string;
}

/** The ids for which there is a file. */
export async function keyFileNames(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  return names.flatMap((name) => /^([A-Za-z0-9_-]{1,64})\.json$/.exec(name)?.[1] ?? []);
}

/** The file of a data key, within the directory of keys. */
export function dataKeyFile(id: string): string {
  return join('data', `${requireFileName(id)}.json`);
}

/** Every file of the directory of keys that is a key. */
export async function keyFiles(directory: string): Promise<string[]> {
  const files = ['customer', 'data'].map(async (place) =>
    (await keyFileNames(join(directory, place))).map((id) => join(place, `${id}.json`)),
  );
  return [ROOT_KEY_FILE, ...(await Promise.all(files)).flat()];
}

/** False for what is left of a key that is just being destroyed. */
export function isWholeKeyFile(text: string): boolean {
  return parseKeyFile(text) !== undefined;
}

/** As it is written. */
export function keyFileBytes(file: KeyFile): Buffer {
  return Buffer.from(`${JSON.stringify(file)}\n`);
}

/** Undefined when there is no such file. `what` begins the sentence of an error. @throws KeyUnavailable when damaged. */
export async function readKeyFile(path: string, what: string): Promise<KeyFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw new KeyUnavailable(`${what} cannot be read`, { cause: error });
  }
  const file = parseKeyFile(text);
  if (file) return file;
  throw new KeyUnavailable(`${what} is damaged`);
}

function parseKeyFile(text: string): KeyFile | undefined {
  try {
    const { keyArn, createdAt, sealed } = JSON.parse(text);
    const valid = (keyArn === null || typeof keyArn === 'string') && typeof createdAt === 'string';
    return valid && typeof sealed === 'string' ? { keyArn, createdAt, sealed } : undefined;
  } catch {
    return undefined;
  }
}
