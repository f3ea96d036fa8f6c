/**
 * The files of a backup in the making: each is copied once, hashed as it is copied, and on the disk when its promise
 * resolves. It knows nothing of what they mean, but for one thing: what is left of a key that is just being destroyed is
 * no key, and is not taken.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, readFile, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyHashed, createFile, DIRECTORY_MODE, isSystemError, syncDirectory, withFile } from '../files.ts';
import { hashWhole } from '../images/hash.ts';
import { isWholeKeyFile } from '../keys/key-files.ts';
import { type BackupFile, openOwn } from './manifest.ts';

export class CopiedFiles {
  readonly #source: string;
  readonly #target: string;
  readonly #signal: AbortSignal;
  /** By path. */
  readonly #files = new Map<string, BackupFile>();

  /** From one directory, which is in use, to another, which is new. */
  constructor(source: string, target: string, signal: AbortSignal) {
    this.#source = source;
    this.#target = target;
    this.#signal = signal;
  }

  get(path: string): BackupFile | undefined {
    return this.#files.get(path);
  }

  /** Copies the file, once. False when it is not there, or no longer. */
  async take(path: string, onBytes?: (bytes: number) => void): Promise<boolean> {
    if (this.#files.has(path)) return true;
    this.#signal.throwIfAborted();
    try {
      const copied = await withFile(openOwn(join(this.#source, path)), (from) =>
        this.#create(path, (to) => copyHashed(from, to, { signal: this.#signal, ...(onBytes && { onBytes }) })),
      );
      this.#files.set(path, { path, ...copied });
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return false;
      throw error;
    }
    // A key that is destroyed is overwritten first.
    if (!/^keys\/.*\.json$/.test(path) || isWholeKeyFile(await readFile(join(this.#target, path), 'utf8'))) return true;
    await this.drop(path);
    return false;
  }

  /** Puts this text in the place of what was there before. */
  async put(path: string, text: string): Promise<void> {
    this.#signal.throwIfAborted();
    await this.drop(path);
    const content = Buffer.from(text);
    await this.#create(path, (handle) => handle.writeFile(content));
    const sha256 = createHash('sha256').update(content).digest('hex');
    this.#files.set(path, { path, bytes: content.length, sha256 });
  }

  /** Makes the file by whatever fills it, in the place of what was there before. */
  async make(path: string, fill: (target: FileHandle) => Promise<void>): Promise<void> {
    await this.drop(path);
    try {
      await this.#create(path, fill);
    } catch (error) {
      await this.drop(path);
      throw error;
    }
    await this.#note(path);
  }

  /** The same by what wants a path of its own. @returns what `fill` does. */
  async makeAt<T>(path: string, fill: (target: string) => Promise<T>): Promise<T> {
    await this.drop(path);
    const target = join(this.#target, path);
    const filled = await fill(target);
    await withFile(open(target, 'r+'), (handle) => handle.sync());
    await this.#note(path);
    return filled;
  }

  async drop(path: string): Promise<void> {
    this.#files.delete(path);
    await unlink(join(this.#target, path)).catch((error: unknown) => {
      if (!isSystemError(error, 'ENOENT')) throw error;
    });
  }

  /** Drops the others. @returns what is left, in the order of its paths, with every directory on the disk. */
  async keepOnly(kept: ReadonlySet<string>): Promise<BackupFile[]> {
    for (const path of [...this.#files.keys()]) if (!kept.has(path)) await this.drop(path);
    const files = [...this.#files.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
    const directories = new Set<string>([dirname(this.#target), this.#target]);
    for (const { path } of files) {
      for (let up = dirname(path); up !== '.'; up = dirname(up)) directories.add(join(this.#target, up));
    }
    for (const directory of directories) await syncDirectory(directory);
    return files;
  }

  /** What `fill` returns is on the disk then. */
  async #create<T>(path: string, fill: (handle: FileHandle) => Promise<T>): Promise<T> {
    const target = join(this.#target, path);
    await mkdir(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
    return withFile(createFile(target), async (handle) => {
      const filled = await fill(handle);
      await handle.sync();
      return filled;
    });
  }

  async #note(path: string): Promise<void> {
    const { bytes, sha256 } = await withFile(openOwn(join(this.#target, path)), (handle) =>
      hashWhole(handle, this.#signal, () => undefined),
    );
    this.#files.set(path, { path, bytes, sha256 });
  }
}
