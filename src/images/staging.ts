/**
 * How what is made comes to its place. It is made in a directory of its own under `staging`, named after the id it is for,
 * and moved by one rename when it is complete and on the disk. So what is in its place is whole, and what is in staging may
 * be thrown away, but for what this process is working on and what another has touched of late. Nothing is ever made or
 * emptied in its place.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '../clock.ts';
import { DIRECTORY_MODE, isSystemError, syncDirectory } from '../files.ts';

export class Staging {
  /** On the same file system as the places. */
  readonly directory: string;
  readonly #clock: Clock;
  /** Names in staging that this process is working on. */
  readonly #live = new Set<string>();

  constructor(directory: string, clock: Clock) {
    this.directory = directory;
    this.#clock = clock;
  }

  /**
   * Lets `build` fill a fresh directory and moves it to its place; whatever goes wrong, the directory is gone.
   * @throws what `build` throws, and the system's ENOTEMPTY or EEXIST when the place was taken meanwhile.
   */
  async fill<T>(place: string, id: string, build: (staged: string) => Promise<T>): Promise<T> {
    const name = `${id}.${randomBytes(8).toString('hex')}`;
    const staged = join(this.directory, name);
    this.#live.add(name);
    try {
      await mkdir(staged, { mode: DIRECTORY_MODE });
      const result = await build(staged);
      await syncDirectory(staged);
      await rename(staged, place);
      await syncDirectory(dirname(place));
      return result;
    } catch (error) {
      await rm(staged, { recursive: true, force: true }).catch(() => undefined);
      throw error;
    } finally {
      this.#live.delete(name);
    }
  }

  /** Takes away what is in the place, and what earlier runs for the id have left behind. */
  async makeRoom(place: string, id: string): Promise<void> {
    await this.#discard(place, id);
    await this.#removeStaged(id, this.#live);
  }

  /** Staging first: a run that is still at work has nothing left to move into the place that is emptied next. */
  async remove(place: string, id: string): Promise<void> {
    await this.#removeStaged(id, new Set());
    await this.#discard(place, id);
  }

  /** Removes what nobody has touched for so long. @returns how much of it there was. */
  async sweep(olderThanMs: number): Promise<number> {
    const before = this.#clock.now() - olderThanMs;
    let removed = 0;
    for (const name of await readdir(this.directory)) {
      if (this.#live.has(name) || (await newestMtimeMs(join(this.directory, name))) >= before) continue;
      await rm(join(this.directory, name), { recursive: true, force: true });
      removed += 1;
    }
    await syncDirectory(this.directory);
    return removed;
  }

  /** While a disk is hashed nothing is written, and a sweep of another process must not take it for left behind. */
  async keepAlive(): Promise<void> {
    const now = new Date(this.#clock.now());
    for (const name of this.#live) await utimes(join(this.directory, name), now, now).catch(() => undefined);
  }

  /** Takes what is in its place away at once, and its files after that. */
  async #discard(place: string, id: string): Promise<void> {
    const discarded = join(this.directory, `${id}.${randomBytes(8).toString('hex')}`);
    try {
      await rename(place, discarded);
    } catch (error) {
      if (isSystemError(error, 'ENOENT')) return;
      throw error;
    }
    await syncDirectory(dirname(place));
    await rm(discarded, { recursive: true, force: true });
  }

  async #removeStaged(id: string, except: ReadonlySet<string>): Promise<void> {
    for (const name of await readdir(this.directory)) {
      if (!name.startsWith(`${id}.`) || except.has(name)) continue;
      await rm(join(this.directory, name), { recursive: true, force: true });
    }
    await syncDirectory(this.directory);
  }
}

/** Of the directory itself and what is in it. */
async function newestMtimeMs(directory: string): Promise<number> {
  const names = await readdir(directory).catch(() => []);
  const statuses = ['.', ...names].map((name) => stat(join(directory, name)).catch(() => undefined));
  return Math.max(...(await Promise.all(statuses)).map((status) => status?.mtimeMs ?? 0));
}
