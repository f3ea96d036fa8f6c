/**
 * The way of a machine image's file: how it comes in, and what must still hold before a copy is made of it.
 *
 * A file given by a person is copied first and judged as copied. A machine image is used only while its bytes are those
 * that came in and inspection still accepts them, in the format they came in as. Files are only ever looked at through a
 * handle; nothing here opens a path twice.
 */
import { constants as fsConstants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { copyHashed, hashFile, isSystemError, type Transferred } from '../files.ts';
import { ImageFailure, type ImportRequest } from './images.ts';
import { type DiskDescription, type DiskFormat, DiskRefused, inspectDisk } from './inspect.ts';

type OnFraction = (fraction: number) => void;

export interface MachineImageFile {
  readonly format: DiskFormat;
  /** Length of the file. */
  readonly sizeBytes: number;
  /** Size of the disk as a guest sees it. */
  readonly virtualSizeBytes: number;
  /** Of the file as it arrived. */
  readonly sha256: string;
}

/** Opens a file named by a person: symbolic links are followed, and a pipe must not keep us waiting. */
export async function openForeign(path: string): Promise<FileHandle> {
  const { O_RDONLY, O_NONBLOCK, O_NOCTTY } = fsConstants;
  try {
    return await open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    const reason = isSystemError(error, 'ENOENT', 'ENOTDIR') ? 'does not exist' : 'cannot be read';
    throw new ImageFailure('SOURCE_MISSING', `The file ${reason}.`, { inward: String(error), cause: error });
  }
}

/**
 * Copies a person's file into an empty one of ours and says what it is.
 * @throws DiskRefused; ImageFailure SOURCE_CORRUPT when it changed under the copy; the signal's reason.
 */
export async function bringIn(
  source: FileHandle,
  target: FileHandle,
  nameHint: string,
  signal: AbortSignal,
  onFraction: OnFraction,
): Promise<MachineImageFile> {
  // A courtesy before a long copy. What counts is the look at the copy, which nobody can change any more.
  const { fileBytes } = await inspectDisk(source, { nameHint });
  const { bytes, sha256 } = await copyUnchanged(source, target, fileBytes, signal, onFraction);
  const { format, virtualBytes } = await inspectDisk(target, { nameHint });
  await target.sync();
  return { format, sizeBytes: bytes, virtualSizeBytes: virtualBytes, sha256 };
}

/** A file that grows while it is copied might do so for ever. */
async function copyUnchanged(
  source: FileHandle,
  target: FileHandle,
  fileBytes: number,
  signal: AbortSignal,
  onFraction: OnFraction,
): Promise<Transferred> {
  const requireAtMost = (bytes: number): void => {
    if (bytes <= fileBytes) return;
    throw new ImageFailure('SOURCE_CORRUPT', 'The file grew while it was copied. Try again when it is complete.');
  };
  const onBytes = (bytes: number) => {
    requireAtMost(bytes);
    onFraction(bytes / fileBytes);
  };
  const copied = await copyHashed(source, target, { signal, onBytes });
  if (copied.bytes === fileBytes) return copied;
  throw new ImageFailure('SOURCE_CORRUPT', 'The file shrank while it was copied. Try again when it is complete.');
}

/** @throws ImageFailure SOURCE_MISSING */
export async function openMachineDisk(id: string, path: string): Promise<FileHandle> {
  try {
    return await open(path, fsConstants.O_RDONLY | fsConstants.O_NOFOLLOW);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) throw error;
    throw new ImageFailure(
      'SOURCE_MISSING',
      `Machine image ${id} does not exist. Use another, or have it imported again.`,
      {
        cause: error,
      },
    );
  }
}

/** Requires what came in, unchanged. @throws ImageFailure SOURCE_CORRUPT; the signal's reason. */
export async function verifyMachineDisk(
  { source: id, sourceSha256, sourceFormat }: ImportRequest,
  disk: FileHandle,
  signal: AbortSignal,
  onFraction: OnFraction,
): Promise<DiskDescription> {
  const refuse = (what: string, details: { inward?: string; cause?: unknown }): never => {
    const message = `Machine image ${id} ${what} Have the administrator import it again and use the new one.`;
    throw new ImageFailure('SOURCE_CORRUPT', message, details);
  };
  const { sha256 } = await hashWhole(disk, signal, onFraction);
  if (sha256 !== sourceSha256) {
    refuse('has changed since it was imported.', { inward: `its SHA-256 is ${sha256}, and was ${sourceSha256}` });
  }
  const found = await inspectDisk(disk).catch((error: unknown) => {
    if (!(error instanceof DiskRefused)) throw error;
    return refuse(`is not accepted any more: ${error.message}`, { inward: error.code, cause: error });
  });
  if (found.format !== sourceFormat) {
    refuse('is not of the format it was imported as.', { inward: `it is ${found.format}, and was ${sourceFormat}` });
  }
  return found;
}

/** Hashes the file, telling how much of it is done. */
export async function hashWhole(handle: FileHandle, signal: AbortSignal, onFraction: OnFraction): Promise<Transferred> {
  const { size } = await handle.stat();
  return hashFile(handle, { signal, onBytes: (bytes) => onFraction(bytes / size) });
}
