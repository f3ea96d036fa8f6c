/**
 * The disks of workstations: a volume is a qcow2 file, encrypted under the session's own key, that holds what differs from
 * the studio's image; a backup is a copy of it, so that both stay noise without that key. A volume's header names no image:
 * which one is below it is said when it is opened. A backup is whole before it has its name; a new volume is made in its
 * place, and is one only when the record of its workstation says so.
 */
import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyWhole, createFile, FILE_MODE, isSystemError, requireFileName, syncDirectory, withFile } from '../files.ts';
import { encryptedDiskBytes, formatEncryptedDisk } from '../images/encrypted-disk.ts';
import { ComputeFailure } from './compute.ts';

export const volumePath = (directory: string) => join(directory, 'volume.qcow2');
export const backupPath = (directory: string, backupId: string) =>
  join(directory, `backup-${requireFileName(backupId)}.qcow2`);

/** How large the encrypted disk is for a guest. @throws ComputeFailure where the file is not such a disk. */
export async function virtualBytesOf(image: FileHandle): Promise<number> {
  const bytes = await encryptedDiskBytes(image);
  if (bytes !== undefined) return bytes;
  throw imageDamaged('the header of the streaming image is not that of an encrypted disk');
}

export function imageDamaged(inward: string): ComputeFailure {
  return new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    'The streaming image is damaged. Create it again from its machine image, and a session from that.',
    { inward },
  );
}

/** Makes an empty volume of the file, which must be empty; it is on the disk when the promise resolves. @throws ComputeFailure */
export async function formatVolume(file: FileHandle, virtualBytes: number, passphrase: Uint8Array): Promise<void> {
  try {
    await formatEncryptedDisk(file, virtualBytes, passphrase);
    await file.sync();
  } catch (error) {
    throw isDiskFull(error) ? diskFull((error as Error).message) : error;
  }
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
    throw isDiskFull(error) ? diskFull((error as Error).message) : error;
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

export function isDiskFull(error: unknown): boolean {
  return isSystemError(error, 'ENOSPC', 'EDQUOT', 'EFBIG');
}

export function diskFull(inward: string, retryable = false): ComputeFailure {
  return new ComputeFailure(
    'INSUFFICIENT_CAPACITY',
    "The server's disk is full. Its administrator must make room; then try again.",
    { retryable, inward },
  );
}
