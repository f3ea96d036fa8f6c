/**
 * Files that must survive a crash: each appears whole or not at all, and is on the disk when its promise resolves.
 *
 * A file is written under a temporary name in its own directory, synced, and only then given its name, so that no reader
 * ever sees half of one. What a died writer leaves is named after its target and found again by that name. Nothing here
 * is ever readable by anyone but its owner, and no path is ever made of an id that `requireFileName` has not accepted.
 */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, closeSync, constants as fsConstants, fsyncSync, mkdirSync, openSync, statSync } from 'node:fs';
import { type FileHandle, link, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

export const FILE_MODE = 0o600;
export const DIRECTORY_MODE = 0o700;
/** The permission bits that let anybody but the owner in. */
export const OTHERS_MODE = 0o077;

/** Hashing a piece keeps the event loop busy for about a millisecond on a processor without SHA instructions. */
const CHUNK_BYTES = 256 * 1024;
const ZEROS = Buffer.alloc(CHUNK_BYTES);

/** Whether `error` is the system's error of this name, for example `ENOENT`. */
export function isSystemError(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

/** An id as a file's name. Its letters allow neither a separator nor a leading dot. @throws Error */
export function requireFileName(id: string): string {
  if (/^[A-Za-z0-9_-]{1,64}$/.test(id)) return id;
  throw new Error('an id must be 1 to 64 letters, digits, dashes or underscores');
}

/** Lends the file that is being opened, and closes it whatever happens. */
export async function withFile<T>(opening: Promise<FileHandle>, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  const handle = await opening;
  try {
    return await use(handle);
  } finally {
    await handle.close();
  }
}

/** Makes the directory's entries durable: a file that was just created or renamed is safe only then. */
export async function syncDirectory(path: string): Promise<void> {
  await withFile(open(path, 'r'), (handle) => handle.sync());
}

/** Opens a file that nobody has made before, for reading and writing. */
export function createFile(path: string, mode = FILE_MODE): Promise<FileHandle> {
  const { O_RDWR, O_CREAT, O_EXCL, O_NOFOLLOW } = fsConstants;
  return open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, mode);
}

/**
 * Makes the directory, and what it lacks above it, for the owner alone; one that others may enter is closed to them.
 * For start-up only: it waits for the disk.
 */
export function makePrivateDirectory(path: string): void {
  const wanted = resolve(path);
  const first = mkdirSync(wanted, { recursive: true, mode: DIRECTORY_MODE });
  if (first !== undefined) syncUpwards(wanted, dirname(first));
  if ((statSync(wanted).mode & OTHERS_MODE) !== 0) chmodSync(wanted, DIRECTORY_MODE);
}

function syncUpwards(from: string, last: string): void {
  for (let directory = dirname(from); ; directory = dirname(directory)) {
    const descriptor = openSync(directory, 'r');
    fsyncSync(descriptor);
    closeSync(descriptor);
    if (directory === last) return;
  }
}

/** Writes the file, replacing one that is there. */
export async function writeDurably(path: string, bytes: Uint8Array, mode = FILE_MODE): Promise<void> {
  await withTemporary(path, bytes, mode, async (temporary) => {
    await rename(temporary, path);
  });
}

/** Writes the file unless there is one already; of many that try at once, one is told that it did. */
export async function createDurably(path: string, bytes: Uint8Array, mode = FILE_MODE): Promise<boolean> {
  return withTemporary(path, bytes, mode, async (temporary) => {
    try {
      await link(temporary, path);
      return true;
    } catch (error) {
      if (isSystemError(error, 'EEXIST')) return false;
      throw error;
    } finally {
      await unlink(temporary);
    }
  });
}

async function withTemporary<T>(
  path: string,
  bytes: Uint8Array,
  mode: number,
  publish: (temporary: string) => Promise<T>,
): Promise<T> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(8).toString('hex')}.tmp`);
  try {
    await withFile(createFile(temporary, mode), async (handle) => {
      await handle.writeFile(bytes);
      await handle.sync();
    });
    const result = await publish(temporary);
    await syncDirectory(dirname(path));
    return result;
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
}

function isTemporary(name: string, target = ''): boolean {
  return name.startsWith(`.${target}`) && /\.[0-9a-f]{16}\.tmp$/.test(name);
}

/**
 * Overwrites the file and removes it, with what died writers of it left. False when there was none. The overwriting is a
 * second wall only: a file system that copies on write, or the disk itself, may keep the old blocks.
 */
export async function destroyDurably(path: string): Promise<boolean> {
  const directory = dirname(path);
  const target = basename(path);
  for (const name of await readdir(directory)) {
    if (isTemporary(name, `${target}.`)) await overwriteAndUnlink(join(directory, name));
  }
  const existed = await overwriteAndUnlink(path);
  // Even when there was nothing: an earlier run may have died between its unlink and this.
  await syncDirectory(directory);
  return existed;
}

async function overwriteAndUnlink(path: string): Promise<boolean> {
  try {
    await withFile(open(path, fsConstants.O_RDWR | fsConstants.O_NOFOLLOW), async (handle) => {
      const { size } = await handle.stat();
      await handle.write(Buffer.alloc(size), 0, size, 0);
      await handle.sync();
    });
    await unlink(path);
    return true;
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return false;
    throw error;
  }
}

/**
 * Removes temporary files last written before `before`, in milliseconds since 1970. It only unlinks them: one may be a
 * second name of a file in use, left by a writer that died between giving it its name and taking the first away.
 */
export async function sweepTemporaries(directory: string, before: number): Promise<void> {
  for (const name of (await readdir(directory)).filter((entry) => isTemporary(entry))) {
    const path = join(directory, name);
    const status = await stat(path).catch(() => undefined);
    if (status !== undefined && status.mtimeMs < before) await unlink(path).catch(() => undefined);
  }
}

export interface TransferOptions {
  /** Called with the bytes done so far. */
  readonly onBytes?: (bytes: number) => void;
  /** Ends the transfer between two pieces. */
  readonly signal?: AbortSignal;
}

export interface Transferred {
  readonly bytes: number;
  /** Lower-case hexadecimal. */
  readonly sha256: string;
}

/** Copies the whole file into an empty one and hashes what it wrote; long runs of zeros become holes. Does not sync. */
export async function copyHashed(
  source: FileHandle,
  target: FileHandle,
  options: TransferOptions = {},
): Promise<Transferred> {
  const hash = createHash('sha256');
  const bytes = await copyWhole(source, target, options, (chunk) => hash.update(chunk));
  return { bytes, sha256: hash.digest('hex') };
}

/** The same without a hash. `meanwhile` is called with each piece while it is written. @returns the bytes. */
export async function copyWhole(
  source: FileHandle,
  target: FileHandle,
  { onBytes, signal }: TransferOptions = {},
  meanwhile: (chunk: Buffer) => void = () => undefined,
): Promise<number> {
  let bytes = 0;
  for await (const chunk of chunksOf(source, signal)) {
    const isHole = chunk.equals(ZEROS.subarray(0, chunk.length));
    const written = isHole ? undefined : writeAll(target, chunk, bytes);
    // The error is taken below; until then nobody listens, and an unheard rejection would end the process.
    written?.catch(() => undefined);
    meanwhile(chunk);
    await written;
    bytes += chunk.length;
    onBytes?.(bytes);
  }
  await target.truncate(bytes);
  return bytes;
}

/** The file in pieces, the next being read while one is used. A piece may be used until the next is asked for. */
async function* chunksOf(source: FileHandle, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  const current = { buffer: Buffer.allocUnsafe(CHUNK_BYTES), other: Buffer.allocUnsafe(CHUNK_BYTES) };
  const read = (position: number) => {
    const reading = source.read(current.buffer, 0, CHUNK_BYTES, position);
    reading.catch(() => undefined);
    return reading;
  };
  let position = 0;
  let reading = read(position);
  try {
    for (;;) {
      const { bytesRead, buffer } = await reading;
      signal?.throwIfAborted();
      if (bytesRead === 0) return;
      position += bytesRead;
      [current.buffer, current.other] = [current.other, current.buffer];
      reading = read(position);
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    // The caller closes the handle next, which must not happen under a read.
    await reading.catch(() => undefined);
  }
}

/** From this position on, whatever the system takes of it at once. */
export async function writeAll(target: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await target.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
  }
}
