/**
 * The homes that artists work in, and their backups. A home is a directory of the host under a name that is never used
 * again, so that a record which names it decides what counts; what no record names is left over. A backup is a tar of the
 * home, encrypted under the workstation's own data key before it reaches the disk. Homes are written and read by the host's
 * tar in a sandbox that sees nothing else: links that lead out of a home lead nowhere.
 */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createFile,
  DIRECTORY_MODE,
  isSystemError,
  makePrivateDirectory,
  requireFileName,
  syncDirectory,
  withFile,
} from '../files.ts';
import type { WorkstationUser } from '../images/confined.ts';
import type { Keys } from '../keys/keys.ts';
import { ComputeFailure } from './compute.ts';
import { type SandboxPrograms, tarCommand } from './sandbox-command.ts';
import { runSandboxed, type SandboxEnd } from './sandbox-process.ts';
import { noSpace } from './sandbox-root.ts';
import { giveDirectory, removeTree } from './sandbox-tree.ts';
import { SealBroken, sealed, unsealed } from './sealed-stream.ts';

const HOME_MODE = 0o700;
/** Slower than any disk in use. */
const TAR_MS_MAX = 60 * 60_000;
const TEMPORARY = '.new';

export interface SandboxHomesOptions {
  readonly directory: string;
  readonly keys: Pick<Keys, 'generate' | 'unseal' | 'destroy'>;
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

  /** For start-up only: it waits for the disk. */
  constructor(options: SandboxHomesOptions) {
    this.#options = options;
    this.#homes = join(options.directory, 'homes');
    this.#backups = join(options.directory, 'backups');
    for (const place of [this.#homes, this.#backups]) makePrivateDirectory(place);
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
    await removeTree(this.pathOf(home));
  }

  /** Removes the homes that are not among these. */
  async keepOnly(homes: ReadonlySet<string>): Promise<void> {
    for (const home of await readdir(this.#homes)) if (!homes.has(home)) await this.remove(home);
  }

  /** Makes the backup, and makes it anew where an earlier try left one that nobody has noted. @returns its bytes. */
  async backUp(owner: HomeOwner, home: string, backupId: string, signal: AbortSignal): Promise<number> {
    const { keys } = this.#options;
    await keys.generate(owner.id, undefined);
    const passphrase = await keys.unseal(owner.id);
    const place = join(this.#backups, requireFileName(owner.id));
    await mkdir(place, { recursive: true, mode: DIRECTORY_MODE });
    await syncDirectory(this.#backups);
    const path = join(place, requireFileName(backupId));
    const temporary = `${path}${TEMPORARY}`;
    await removeFile(temporary);
    try {
      const bytes = await withFile(createFile(temporary), async (target) => {
        let written = 0;
        const end = await this.#tar(owner, home, 'read', signal, {
          onOutput: async (output) => {
            for await (const piece of sealed(output, passphrase)) {
              await target.write(piece);
              written += piece.length;
            }
          },
        });
        requireSaved(end);
        await target.sync();
        return written;
      });
      await rename(temporary, path);
      await syncDirectory(place);
      return bytes;
    } catch (error) {
      await removeFile(temporary);
      throw error;
    } finally {
      passphrase.fill(0);
    }
  }

  /** @returns the name of a new home that holds what the backup holds. @throws ComputeFailure */
  async restore(owner: HomeOwner, backupId: string, signal: AbortSignal): Promise<string> {
    const path = join(this.#backups, requireFileName(owner.id), requireFileName(backupId));
    const passphrase = await this.#options.keys.unseal(owner.id);
    const home = await this.make(owner);
    try {
      const end = await withFile(open(path, 'r'), (file) =>
        this.#tar(owner, home, 'write', signal, {
          input: unsealed(createReadStream('', { fd: file, autoClose: false }), passphrase),
        }),
      );
      requireRestored(end);
      return home;
    } catch (error) {
      await this.remove(home);
      throw error instanceof SealBroken || isSystemError(error, 'ENOENT') ? broken(error) : error;
    } finally {
      passphrase.fill(0);
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
    inward: `tar ended with ${exitCode}: ${errors.trim().split('\n').at(-1)}`,
  });
}

function requireRestored({ exitCode, errors }: SandboxEnd): void {
  if (exitCode === 0) return;
  const inward = `tar ended with ${exitCode}: ${errors.trim().split('\n').at(-1)}`;
  if (/No space left on device|Disk quota exceeded/.test(errors)) throw noSpace(inward);
  throw new ComputeFailure('INTERNAL_ERROR', 'The backup could not be restored.', { retryable: true, inward });
}

function broken(cause: unknown): ComputeFailure {
  return new ComputeFailure('INTERNAL_ERROR', 'The backup is damaged and cannot be restored. Choose another.', {
    inward: cause instanceof Error ? cause.message : String(cause),
    cause,
  });
}

async function removeFile(path: string): Promise<void> {
  await unlink(path).catch((error) => {
    if (!isSystemError(error, 'ENOENT')) throw error;
  });
}
