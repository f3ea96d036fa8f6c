/**
 * Root file systems of images, unpacked once and then shared, read-only, by all workstations that are made from them.
 *
 * An image for sandboxes holds a tar. It is decrypted into a file without a name and unpacked by the host's tar in a
 * sandbox that sees nothing but the directory to fill: owners, devices and names that lead out of it mean nothing there.
 * Unpacked, it lies in plain on the server's disk, in a directory that only the server may enter, until neither the image
 * nor a workstation needs it any more. What is in its place is whole; what was unpacked before the machine was started
 * last is unpacked anew, because nobody knows what of it had reached the disk.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, rename, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, DIRECTORY_MODE, makePrivateDirectory, requireFileName, withFile } from '../files.ts';
import {
  type ConfinedOutcome,
  type Confinement,
  closeSecret,
  inheritedPath,
  openSecret,
  type WorkstationUser,
} from '../images/confined.ts';
import type { Images } from '../images/images.ts';
import type { Keys } from '../keys/keys.ts';
import { unlessAborted } from './changes.ts';
import { ComputeFailure } from './compute.ts';
import { MOUNT_POINTS, type SandboxPrograms, tarCommand } from './sandbox-command.ts';
import { runSandboxed, type SandboxEnd } from './sandbox-process.ts';
import { giveDirectory, removeLeftTree, removeTree } from './sandbox-tree.ts';

/** More entries than any distribution has, and fewer than fill a file system's tables. */
const ENTRIES_MAX = 2_000_000;
/** Slower than any disk in use. */
const UNPACK_MS_MAX = 30 * 60_000;
/** What names of what is being unpacked begin with, and names of images do not. */
const STAGED = '.';
const HEADER_BYTES = 32;
const HEADER_VIRTUAL_BYTES = 24;
const TAR_MAGIC = 'ustar';
const TAR_MAGIC_OFFSET = 257;
const NEWLINE = 10;
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

export interface SandboxRootsOptions {
  readonly directory: string;
  readonly images: Pick<Images, 'open'>;
  readonly keys: Pick<Keys, 'unseal'>;
  readonly programs: SandboxPrograms;
  readonly confinement: Confinement;
  /** Whom the tar is unpacked by, and so whom the files belong to: no workstation's. */
  readonly user: WorkstationUser | undefined;
}

export class SandboxRoots {
  readonly #options: SandboxRootsOptions;
  /** Of this run of the machine. */
  readonly #place: string;
  readonly #unpacking = new Map<string, Promise<string>>();

  /** For start-up only: it waits for the disk. */
  constructor(options: SandboxRootsOptions) {
    this.#options = options;
    this.#place = join(options.directory, readFileSync(BOOT_ID, 'latin1').trim());
    makePrivateDirectory(this.#place);
  }

  /** The path of the image's root file system. @throws ComputeFailure, KeyUnavailable; the signal's reason. */
  async ensure(imageId: string, signal: AbortSignal): Promise<string> {
    const path = join(this.#place, requireFileName(imageId));
    // Unpacking goes on for whoever else waits for it, and for the next.
    const unpacking = this.#unpacking.get(imageId) ?? this.#begin(imageId, path);
    return unlessAborted(unpacking, signal);
  }

  /** Removes root file systems of no such image, and what was left of unpacking; another process may be at it. */
  async keepOnly(isNeeded: (imageId: string) => Promise<boolean>, now: number): Promise<void> {
    const { directory } = this.#options;
    for (const boot of await readdir(directory)) {
      if (join(directory, boot) !== this.#place) await removeTree(join(directory, boot));
    }
    for (const name of await readdir(this.#place)) {
      const path = join(this.#place, name);
      if (name.startsWith(STAGED)) await removeLeftTree(path, now - UNPACK_MS_MAX);
      else if (!(await isNeeded(name))) await removeTree(path);
    }
  }

  #begin(imageId: string, path: string): Promise<string> {
    const unpacking = this.#unpack(imageId, path).finally(() => this.#unpacking.delete(imageId));
    unpacking.catch(() => undefined);
    this.#unpacking.set(imageId, unpacking);
    return unpacking;
  }

  async #unpack(imageId: string, path: string): Promise<string> {
    if (await isDirectory(path)) return path;
    const signal = AbortSignal.timeout(UNPACK_MS_MAX);
    const staged = join(this.#place, `${STAGED}${imageId}.${randomBytes(8).toString('hex')}`);
    await mkdir(staged, { mode: DIRECTORY_MODE });
    try {
      const target = join(staged, 'root');
      await giveDirectory(target, 0o755, this.#options.user);
      await withFile(openNameless(join(staged, 'tar')), async (tar) => {
        await this.#decrypt(imageId, staged, tar, signal);
        await requireTar(tar);
        await this.#extract(tar, target, signal);
      });
      for (const point of MOUNT_POINTS) await makeMountPoint(target, point);
      await rename(target, path);
      return path;
    } finally {
      await removeTree(staged);
    }
  }

  async #decrypt(imageId: string, staged: string, target: FileHandle, signal: AbortSignal): Promise<void> {
    const { images, keys, confinement } = this.#options;
    const disk = await images.open(imageId);
    if (disk === undefined) {
      throw new ComputeFailure('AMI_VALIDATION_ERROR', `Streaming image ${imageId} is not there any more`);
    }
    const passphrase = await keys.unseal(imageId);
    await withFile(open(disk, 'r'), async (source) => {
      const bytes = await virtualBytes(source);
      await requireSpace(staged, 2 * bytes);
      const secret = await openSecret(passphrase, staged);
      try {
        const outcome = await confinement.run({
          tool: 'qemu-img',
          arguments: convertArguments(),
          files: [
            { handle: source, access: 'read' },
            { handle: target, access: 'write' },
            { handle: secret, access: 'read' },
          ],
          fileBytesMax: bytes,
          timeLimitMs: UNPACK_MS_MAX,
          signal,
        });
        requireDecrypted(outcome);
      } finally {
        await closeSecret(secret);
        passphrase.fill(0);
      }
    });
  }

  async #extract(tar: FileHandle, target: string, signal: AbortSignal): Promise<void> {
    const { programs, user } = this.#options;
    const { size } = await tar.stat();
    const tooMany = new ComputeFailure(
      'AMI_VALIDATION_ERROR',
      `The image holds more than ${ENTRIES_MAX.toLocaleString('en')} files`,
    );
    const end = await runSandboxed({
      command: tarCommand({
        programs,
        user,
        fileBytes: size,
        directory: { source: target, target: '/target', writable: true },
        arguments: [
          '--extract',
          '--verbose',
          '--file=-',
          '--directory=/target',
          '--no-same-owner',
          '--delay-directory-restore',
          // Devices are the sandbox's own.
          '--anchored',
          '--exclude=./dev/?*',
          '--exclude=dev/?*',
        ],
      }),
      input: tar,
      // One line for each entry.
      onOutput: async (output) => {
        let entries = 0;
        for await (const chunk of output) {
          for (const byte of chunk) if (byte === NEWLINE) entries += 1;
          if (entries > ENTRIES_MAX) throw tooMany;
        }
      },
      timeLimitMs: UNPACK_MS_MAX,
      signal,
    });
    requireUnpacked(end);
  }
}

async function openNameless(path: string): Promise<FileHandle> {
  const handle = await createFile(path);
  await unlink(path);
  return handle;
}

/** What the header says, in the place that QEMU's docs/interop/qcow2 has it. */
async function virtualBytes(disk: FileHandle): Promise<number> {
  const header = Buffer.alloc(HEADER_BYTES);
  await disk.read(header, 0, HEADER_BYTES, 0);
  return Number(header.readBigUInt64BE(HEADER_VIRTUAL_BYTES));
}

/** For what is decrypted and for what it is unpacked to. */
async function requireSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bytes <= bavail * bsize) return;
  throw noSpace(`${bytes} bytes are needed and ${bavail * bsize} are free`);
}

function convertArguments(): string[] {
  const source = {
    driver: 'qcow2',
    backing: null,
    encrypt: { format: 'luks', 'key-secret': 'passphrase' },
    file: { driver: 'file', filename: inheritedPath(0) },
  };
  return [
    'convert',
    '--object',
    `secret,id=passphrase,file=${inheritedPath(2)}`,
    '-O',
    'raw',
    `json:${JSON.stringify(source)}`,
    inheritedPath(1),
  ];
}

function requireDecrypted({ exitCode, exitSignal, errors }: ConfinedOutcome): void {
  if (exitCode === 0) return;
  const inward = `qemu-img ended with ${exitSignal ?? exitCode}: ${errors.trim().split('\n').at(-1)}`;
  if (/Invalid password|cannot unlock any keyslot/.test(errors)) {
    const message = 'The image cannot be decrypted: the key that there is does not open it.';
    throw new ComputeFailure('DECRYPT_STREAMING_IMAGE_ERROR', message, { inward });
  }
  if (/No space left on device|Disk quota exceeded/.test(errors)) throw noSpace(inward);
  throw new ComputeFailure('INTERNAL_ERROR', 'The image could not be read. It may work when tried again.', {
    retryable: true,
    inward,
  });
}

async function requireTar(file: FileHandle): Promise<void> {
  const magic = Buffer.alloc(TAR_MAGIC.length);
  await file.read(magic, 0, magic.length, TAR_MAGIC_OFFSET);
  if (magic.toString('latin1') === TAR_MAGIC) return;
  throw new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    'The workstations of this server need an image of the format tar, which holds a root file system, and this one is a disk.',
  );
}

/** Whether tar did all but make devices, which nobody in a sandbox can or needs. */
function requireUnpacked({ exitCode, errors }: SandboxEnd): void {
  if (exitCode === 0) return;
  const complaints = errors.trim().split('\n');
  if (/No space left on device|Disk quota exceeded/.test(errors)) throw noSpace(complaints.at(-1)!);
  const isHarmless = (line: string) => /Cannot mknod: Operation not permitted$|due to previous errors$/.test(line);
  if (exitCode === 2 && complaints.length > 1 && complaints.every(isHarmless)) return;
  const inward = complaints.find((line) => !isHarmless(line)) ?? `tar ended with ${exitCode}`;
  throw new ComputeFailure('AMI_VALIDATION_ERROR', 'The root file system of the image could not be unpacked.', {
    inward,
  });
}

/** A real directory at each step: what is mounted over a link could come to lie elsewhere. */
async function makeMountPoint(root: string, point: string): Promise<void> {
  let path = root;
  for (const name of point.split('/')) {
    path = join(path, name);
    const status = await lstat(path).catch(() => undefined);
    if (status === undefined) await mkdir(path, { mode: 0o755 });
    else if (!status.isDirectory()) {
      throw new ComputeFailure(
        'AMI_VALIDATION_ERROR',
        `In the image's root file system, /${point} must be a directory.`,
      );
    }
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return (await lstat(path).catch(() => undefined))?.isDirectory() ?? false;
}

export function noSpace(inward: string, cause?: unknown): ComputeFailure {
  return new ComputeFailure(
    'INSUFFICIENT_CAPACITY',
    'There is not enough disk space left for this workstation. Have the administrator make room, then try again.',
    { inward, cause },
  );
}
