/**
 * The root key of an installation: made once, by the first process that opens an empty directory of keys, and read by all
 * others. It is never made anew while keys are sealed by the one that is gone, never used while others may read it, and
 * never leaves this file but as a KeyObject.
 */
import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { createDurably, isSystemError, OTHERS_MODE } from '../files.ts';
import { keyFileNames, ROOT_KEY_FILE } from './key-files.ts';
import { KEY_BYTES } from './seal.ts';

/** @throws Error in one sentence when it is lost, of the wrong length, or within others' reach. */
export async function readOrMakeRootKey(directory: string): Promise<KeyObject> {
  const path = join(directory, ROOT_KEY_FILE);
  // Looked at before the root key, which always comes first: seen the other way round, another process might start between.
  const inUse =
    (await keyFileNames(join(directory, 'customer'))).length + (await keyFileNames(join(directory, 'data'))).length;
  const found = await readRootKey(path);
  if (found) return found;
  if (inUse > 0) {
    throw new Error(`The root key ${path} is gone while ${inUse} keys are sealed by it: restore it from a backup.`);
  }
  const fresh = randomBytes(KEY_BYTES);
  try {
    await createDurably(path, fresh);
  } finally {
    fresh.fill(0);
  }
  // Whoever came first made it; read it as everybody else does.
  return (await readRootKey(path))!;
}

async function readRootKey(path: string): Promise<KeyObject | undefined> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw new Error(`The root key ${path} cannot be opened: start the service as its owner.`, { cause: error });
  });
  if (handle === undefined) return undefined;
  const bytes = Buffer.alloc(KEY_BYTES);
  try {
    const status = await handle.stat();
    const mode = status.mode & 0o777;
    if ((mode & OTHERS_MODE) !== 0) {
      throw new Error(
        `The root key ${path} is within reach of others than its owner (mode ${mode.toString(8)}): ` +
          'find out who may have read it, then run chmod 600 on it.',
      );
    }
    if (!status.isFile() || status.size !== KEY_BYTES) {
      throw new Error(`The root key ${path} is not a file of ${KEY_BYTES} bytes: restore it from a backup.`);
    }
    await handle.read(bytes, 0, KEY_BYTES, 0);
    return createSecretKey(bytes);
  } finally {
    bytes.fill(0);
    await handle.close();
  }
}
