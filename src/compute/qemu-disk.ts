/**
 * The disks of workstations: a volume is a qcow2 file, encrypted under the session's own key, that holds what differs from
 * the studio's image; a backup is a copy of it, so that both stay noise without that key. A volume's header names no image:
 * which one is below it is said when it is opened. A file is whole before it has its name.
 */
import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyWhole, createFile, FILE_MODE, isSystemError, requireFileName, syncDirectory, withFile } from '../files.ts';
import { type Confinement, closeSecret, inheritedPath, openSecret } from '../images/confined.ts';
import { ComputeFailure } from './compute.ts';

/** Fields of the qcow2 header, QEMU's docs/interop/qcow2. */
const HEADER_BYTES = 104;
const QCOW2_MAGIC = 0x51_46_49_fb;
const HEADER_BACKING_OFFSET = 8;
const HEADER_VIRTUAL_BYTES = 24;
const HEADER_CRYPT_METHOD = 32;
const HEADER_INCOMPATIBLE_FEATURES = 72;
const CRYPT_METHOD_LUKS = 2;

const CREATE_MS_MAX = 120_000;
/** A new volume holds its tables and the header of the encryption. */
const NEW_VOLUME_BYTES_MAX = 2 ** 30;
/** The largest disk that is ever opened: what a header says is not trusted further. */
const VIRTUAL_BYTES_MAX = 64 * 2 ** 40;

export const volumePath = (directory: string) => join(directory, 'volume.qcow2');
export const backupPath = (directory: string, backupId: string) =>
  join(directory, `backup-${requireFileName(backupId)}.qcow2`);

/** How large the encrypted disk is for a guest. @throws ComputeFailure where the file is not such a disk. */
export async function virtualBytesOf(image: FileHandle): Promise<number> {
  const header = Buffer.alloc(HEADER_BYTES);
  await image.read(header, 0, HEADER_BYTES, 0);
  const bytes = Number(header.readBigUInt64BE(HEADER_VIRTUAL_BYTES));
  const sound =
    header.readUInt32BE(0) === QCOW2_MAGIC &&
    header.readUInt32BE(HEADER_CRYPT_METHOD) === CRYPT_METHOD_LUKS &&
    header.readBigUInt64BE(HEADER_BACKING_OFFSET) === 0n &&
    header.readBigUInt64BE(HEADER_INCOMPATIBLE_FEATURES) === 0n &&
    bytes > 0 &&
    bytes <= VIRTUAL_BYTES_MAX;
  if (sound) return bytes;
  throw imageDamaged('the header of the streaming image is not that of an encrypted disk');
}

export function imageDamaged(inward: string): ComputeFailure {
  return new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    'The streaming image is damaged. Create it again from its machine image, and a session from that.',
    { inward },
  );
}

export interface NewVolume {
  /** An empty file. */
  readonly file: FileHandle;
  readonly virtualBytes: number;
  readonly passphrase: Uint8Array;
  /** A private directory, for machines without memory to keep a secret in. */
  readonly scratch: string;
  readonly signal: AbortSignal;
}

/** Makes an empty volume of the file. @throws ComputeFailure, ImageFailure; the signal's reason. */
export async function formatVolume(confinement: Confinement, volume: NewVolume): Promise<void> {
  const secret = await openSecret(volume.passphrase, volume.scratch);
  try {
    const outcome = await confinement.run({
      tool: 'qemu-img',
      arguments: [
        ...['create', '-q', '-f', 'qcow2'],
        ...['--object', `secret,id=passphrase,file=${inheritedPath(1)}`],
        // Making a guess at the passphrase slow is for passphrases that people choose; ours holds 256 random bits.
        ...['-o', 'encrypt.format=luks,encrypt.key-secret=passphrase,encrypt.iter-time=10'],
        ...[inheritedPath(0), String(volume.virtualBytes)],
      ],
      files: [
        { handle: volume.file, access: 'write' },
        { handle: secret, access: 'read' },
      ],
      fileBytesMax: NEW_VOLUME_BYTES_MAX,
      timeLimitMs: CREATE_MS_MAX,
      signal: volume.signal,
    });
    if (outcome.exitCode !== 0) {
      const inward = `qemu-img ended with ${outcome.exitSignal ?? outcome.exitCode}: ${outcome.errors.trim()}`;
      if (/No space left on device|Disk quota exceeded/.test(outcome.errors)) throw diskFull(inward);
      throw new ComputeFailure('INTERNAL_ERROR', 'The volume of this session could not be made.', {
        retryable: true,
        inward,
      });
    }
  } finally {
    await closeSecret(secret);
  }
  await volume.file.sync();
}

/** Opens a file for a volume that is yet to be made; what a start that died has left of one is thrown away. */
export async function createVolumeFile(directory: string): Promise<FileHandle> {
  await rm(volumePath(directory), { force: true });
  return createFile(volumePath(directory));
}

export function openVolume(directory: string): Promise<FileHandle> {
  return open(volumePath(directory), constants.O_RDWR | constants.O_NOFOLLOW);
}

/** Copies a disk that nobody writes to. The copy is on the disk when it has its name. @throws ComputeFailure; the signal's reason. */
export async function copyDisk(source: string, target: string, signal: AbortSignal): Promise<void> {
  const partial = `${target}.partial`;
  await rm(partial, { force: true });
  try {
    if (!(await shareBlocks(source, partial))) {
      await withFile(open(source, constants.O_RDONLY | constants.O_NOFOLLOW), (from) =>
        withFile(createFile(partial), (to) => copyWhole(from, to, { signal })),
      );
    }
    await withFile(open(partial, 'r+'), (copy) => copy.sync());
    signal.throwIfAborted();
    await rename(partial, target);
    await syncDirectory(dirname(target));
  } catch (error) {
    await rm(partial, { force: true });
    throw isSystemError(error, 'ENOSPC', 'EDQUOT', 'EFBIG') ? diskFull((error as Error).message) : error;
  }
}

/** On file systems that can, a copy takes no time and no room. @returns whether it could. */
async function shareBlocks(source: string, target: string): Promise<boolean> {
  try {
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    await withFile(open(target, 'r+'), (copy) => copy.chmod(FILE_MODE));
    return true;
  } catch {
    await rm(target, { force: true });
    return false;
  }
}

export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

export function diskFull(inward: string, retryable = false): ComputeFailure {
  return new ComputeFailure(
    'INSUFFICIENT_CAPACITY',
    "The server's disk is full. Its administrator must make room; then try again.",
    { retryable, inward },
  );
}
