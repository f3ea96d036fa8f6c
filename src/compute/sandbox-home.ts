/**
 * The homes that artists work in, and their backups. A home is a directory of the host under a name that is never used
 * again, so that a record which names it decides what counts; what no record names is left over. A backup is a tar of the
 * home, encrypted under the workstation's own data key before it reaches the disk. Homes are written and read by the host's
 * tar in a sandbox that sees nothing else: links that lead out of a home lead nowhere.
 */
import { randomBytes } from 'node:crypto';
import { createReadStream, constants as fsConstants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import {
  copyWhole,
  createFile,
  DIRECTORY_MODE,
  isSystemError,
  makePrivateDirectory,
  requireFileName,
  syncDirectory,
  withFile,
  writeAll,
} from '../files.ts';
import type { WorkstationUser } from '../images/confined.ts';
import type { Keys } from '../keys/keys.ts';
import { ComputeFailure } from './compute.ts';
import { type SandboxPrograms, tarCommand } from './sandbox-command.ts';
import { BACKUPS, HOMES, PACKED } from './sandbox-names.ts';
import { runSandboxed, type SandboxEnd } from './sandbox-process.ts';
import { noSpace } from './sandbox-root.ts';
import { giveDirectory, removeLeftTree, removeTree, syncTree } from './sandbox-tree.ts';
import { SealBroken, sealed, unsealed } from './sealed-stream.ts';

const HOME_MODE = 0o700;
/** Slower than any disk in use. */
const TAR_MS_MAX = 60 * 60_000;
const TEMPORARY = '.new';
const OPEN_OWN = fsConstants.O_RDONLY | fsConstants.O_NOFOLLOW;

export interface SandboxHomesOptions {
  readonly directory: string;
  readonly keys: Pick<Keys, 'unseal' | 'destroy'>;
  readonly programs: SandboxPrograms;
  /** No file in a home may grow beyond this. */
  readonly fileBytesMax: number;
}

/** Whose home or backup it is. */
export interface HomeOwner {
  /** The workstation's. */
  readonly id: string;
  readonly user: WorkstationUser | undefined;
}

export class SandboxHomes {
  readonly #options: SandboxHomesOptions;
  readonly #homes: string;
  readonly #backups: string;
  readonly #packed: string;

  /** For start-up only: it waits for the disk. */
  constructor(options: SandboxHomesOptions) {
    this.#options = options;
    this.#homes = join(options.directory, HOMES);
    this.#backups = join(options.directory, BACKUPS);
    this.#packed = join(options.directory, PACKED);
    for (const place of [this.#homes, this.#backups, this.#packed]) makePrivateDirectory(place);
  }

  pathOf(home: string): string {
    return join(this.#homes, home);
  }

  /** @returns the name of a new, empty home. */
  async make({ id, user }: HomeOwner): Promise<string> {
    const home = `${requireFileName(id)}.${randomBytes(8).toString('hex')}`;
    await giveDirectory(this.pathOf(home), HOME_MODE, user);
    await syncDirectory(this.#homes);
    return home;
  }

  /** No error when there is none. */
  async remove(home: string): Promise<void> {
    await removeFile(join(this.#packed, home));
    await removeTree(this.pathOf(home));
  }

  /**
   * Removes the homes that are not among these, but for those that may be in the making. Look at the records after `all`:
   * a home that a record names by then counts.
   */
  async removeLeft(all: readonly string[], homes: ReadonlySet<string>, now: number): Promise<void> {
    for (const home of all) {
      if (homes.has(home)) continue;
      for (const place of [this.#packed, this.#homes]) await removeLeftTree(join(place, home), now - TAR_MS_MAX);
    }
  }

  async all(): Promise<string[]> {
    return [...(await readdir(this.#homes)), ...(await readdir(this.#packed))];
  }

  /** Writes a home that nobody is at work in into the file, for a copy of the installation. */
  async pack(owner: HomeOwner, home: string, target: FileHandle, signal: AbortSignal): Promise<void> {
    // It may have come in such a copy itself, and not have been used since.
    const packed = await openThere(join(this.#packed, home));
    if (!packed) await this.#seal(owner, home, target, signal);
    else await withFile(Promise.resolve(packed), (file) => copyWhole(file, target, { signal }));
  }

  /**
   * Makes a home that came packed one to be used; nothing happens to any other. As long as the packed one is there, it is
   * what counts, and what lies in its place is what an unpacking that died has left. @throws ComputeFailure
   */
  async unpack(owner: HomeOwner, home: string, signal: AbortSignal): Promise<void> {
    const packed = join(this.#packed, home);
    const file = await openThere(packed);
    if (!file) return;
    try {
      await removeTree(this.pathOf(home));
      await giveDirectory(this.pathOf(home), HOME_MODE, owner.user);
      await this.#unseal(owner, home, file, signal);
    } catch (error) {
      throw error instanceof SealBroken ? homeBroken(error) : error;
    } finally {
      await file.close();
    }
    await this.#sync(home);
    await removeFile(packed);
    await syncDirectory(this.#packed);
  }

  /** Makes the backup, and makes it anew where an earlier try left one that nobody has noted. @returns its bytes. */
  async backUp(owner: HomeOwner, home: string, backupId: string, signal: AbortSignal): Promise<number> {
    const place = join(this.#backups, requireFileName(owner.id));
    await mkdir(place, { recursive: true, mode: DIRECTORY_MODE });
    await syncDirectory(this.#backups);
    const path = join(place, requireFileName(backupId));
    const temporary = `${path}${TEMPORARY}`;
    await removeFile(temporary);
    try {
      const bytes = await withFile(createFile(temporary), async (target) => {
        const written = await this.#seal(owner, home, target, signal);
        await target.sync();
        return written;
      });
      await rename(temporary, path);
      await syncDirectory(place);
      return bytes;
    } catch (error) {
      await removeFile(temporary);
      throw error;
    }
  }

  /** @returns the name of a new home that holds what the backup holds, on the disk. @throws ComputeFailure */
  async restore(owner: HomeOwner, backupId: string, signal: AbortSignal): Promise<string> {
    const path = join(this.#backups, requireFileName(owner.id), requireFileName(backupId));
    const home = await this.make(owner);
    try {
      await withFile(open(path, OPEN_OWN), (file) => this.#unseal(owner, home, file, signal));
      await this.#sync(home);
      return home;
    } catch (error) {
      await this.remove(home);
      throw error instanceof SealBroken || isSystemError(error, 'ENOENT') ? broken(error) : error;
    }
  }

  /** Durable when it resolves; no error when there is none. */
  async removeBackup(id: string, backupId: string): Promise<void> {
    await removeFile(join(this.#backups, requireFileName(id), requireFileName(backupId)));
  }

  /** All backups of a workstation, the key first: without it what is left of them is noise. */
  async removeBackups(id: string): Promise<void> {
    await this.#options.keys.destroy(id);
    await removeTree(join(this.#backups, requireFileName(id)));
    await syncDirectory(this.#backups);
  }

  /** Before a record names it, and what it was made of is removed. */
  async #sync(home: string): Promise<void> {
    await syncTree(this.pathOf(home));
    await syncDirectory(this.#homes);
  }

  /** Writes the home as a tar that only the key of the workstation opens. @returns its bytes. @throws KeyUnavailable */
  async #seal(owner: HomeOwner, home: string, target: FileHandle, signal: AbortSignal): Promise<number> {
    const passphrase = await this.#options.keys.unseal(owner.id);
    let written = 0;
    try {
      const end = await this.#tar(owner, home, 'read', signal, {
        onOutput: async (output) => {
          for await (const piece of sealed(output, passphrase)) {
            await writeAll(target, piece, written);
            written += piece.length;
          }
        },
      });
      requireSaved(end);
      return written;
    } finally {
      passphrase.fill(0);
    }
  }

  /** The other way, into a home that is empty. @throws SealBroken, KeyUnavailable, ComputeFailure */
  async #unseal(owner: HomeOwner, home: string, source: FileHandle, signal: AbortSignal): Promise<void> {
    const passphrase = await this.#options.keys.unseal(owner.id);
    try {
      const bytes = createReadStream('', { fd: source, autoClose: false });
      requireRestored(await this.#tar(owner, home, 'write', signal, { input: unsealed(bytes, passphrase) }));
    } finally {
      passphrase.fill(0);
    }
  }

  async #tar(
    { user }: HomeOwner,
    home: string,
    access: 'read' | 'write',
    signal: AbortSignal,
    flow: {
      readonly input?: AsyncIterable<Buffer>;
      readonly onOutput?: (output: AsyncIterable<Buffer>) => Promise<void>;
    },
  ): Promise<SandboxEnd> {
    const { programs, fileBytesMax } = this.#options;
    return runSandboxed({
      command: tarCommand({
        programs,
        user,
        fileBytes: fileBytesMax,
        directory: { source: this.pathOf(home), target: '/home', writable: access === 'write' },
        arguments:
          access === 'read'
            ? ['--create', '--format=posix', '--sparse', '--numeric-owner', '--file=-', '--directory=/home', '.']
            : ['--extract', '--preserve-permissions', '--no-same-owner', '--file=-', '--directory=/home'],
      }),
      ...flow,
      timeLimitMs: TAR_MS_MAX,
      signal,
    });
  }
}

function requireSaved({ exitCode, errors }: SandboxEnd): void {
  if (exitCode === 0) return;
  throw new ComputeFailure('INTERNAL_ERROR', 'The home of the workstation could not be backed up.', {
    retryable: true,
    inward: complaintOf(exitCode, errors),
  });
}

function requireRestored({ exitCode, errors }: SandboxEnd): void {
  if (exitCode === 0) return;
  const inward = complaintOf(exitCode, errors);
  if (/No space left on device|Disk quota exceeded/.test(errors)) throw noSpace(inward);
  throw new ComputeFailure('INTERNAL_ERROR', 'The backup could not be restored.', { retryable: true, inward });
}

/** What tar says first; at its end it says only that it has said something. */
function complaintOf(exitCode: number | null, errors: string): string {
  return `tar ended with ${exitCode}: ${errors.split('\n')[0]}`;
}

function broken(cause: unknown): ComputeFailure {
  return new ComputeFailure('INTERNAL_ERROR', 'The backup is damaged and cannot be restored. Choose another.', {
    inward: cause instanceof Error ? cause.message : String(cause),
    cause,
  });
}

/** Of a home that came in a copy of the installation. */
function homeBroken(cause: Error): ComputeFailure {
  return new ComputeFailure(
    'INTERNAL_ERROR',
    'What this session held is damaged, so it was not started. Delete the session, and create another.',
    { inward: cause.message, cause },
  );
}

async function openThere(path: string): Promise<FileHandle | undefined> {
  return open(path, OPEN_OWN).catch((error) => {
    if (!isSystemError(error, 'ENOENT')) throw error;
    return undefined;
  });
}

async function removeFile(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (!isSystemError(error, 'ENOENT')) throw error;
  });
}
