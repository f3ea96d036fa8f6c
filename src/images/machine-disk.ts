/**
 * The way of a machine image's file: how it comes in, and what must still hold before a copy is made of it.
 *
 * A file given by a person is copied first and judged as copied. A machine image is used only while its bytes are those
 * that came in and inspection still accepts them, in the format they came in as. Files are only ever looked at through a
 * handle; nothing here opens a path twice.
 */
import { constants as fsConstants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { copyHashed, isSystemError, type Transferred } from '../files.ts';
import { hashWhole } from './hash.ts';
import { ImageFailure, type ImportRequest } from './images.ts';
import { type DiskDescription, type DiskFormat, DiskRefused, inspectDisk } from './inspect.ts';
import type { OnFraction } from './progress.ts';

export interface MachineImageFile {
  readonly format: DiskFormat;
  /** Length of the file. */
  readonly sizeBytes: number;
  /** Size of the disk as a guest sees it. */
  readonly virtualSizeBytes: number;
  /** Of the file as it arrived. */
  readonly sha256: string;
}

export interface BringInOptions {
  /** The file's original name. */
  readonly nameHint: string;
  /** Throws when what the file turns out to be is not wanted. */
  readonly admit?: (disk: DiskDescription) => void;
  readonly signal: AbortSignal;
  readonly onFraction: OnFraction;
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
  { nameHint, admit = () => undefined, signal, onFraction }: BringInOptions,
): Promise<MachineImageFile> {
  const look = async (file: FileHandle): Promise<DiskDescription> => {
    const disk = await inspectDisk(file, { nameHint });
    admit(disk);
    return disk;
  };
  // A courtesy before a long copy. What counts is the look at the copy, which nobody can change any more.
  const { fileBytes } = await look(source);
  const { bytes, sha256 } = await copyUnchanged(source, target, fileBytes, signal, onFraction);
  const { format, virtualBytes } = await look(target);
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

/** What came in, as it is described by itself. @throws ImageFailure SOURCE_CORRUPT when that has become something else. */
export async function describeMachineDisk(
  { source: id, sourceFormat }: ImportRequest,
  disk: FileHandle,
): Promise<DiskDescription> {
  const found = await inspectDisk(disk).catch((error: unknown) => {
    if (!(error instanceof DiskRefused)) throw error;
    throw corrupt(id, `is not accepted any more: ${error.message}`, { inward: error.code, cause: error });
  });
  if (found.format === sourceFormat) return found;
  throw corrupt(id, 'is not of the format it was imported as.', {
    inward: `it is ${found.format}, and was ${sourceFormat}`,
  });
}

/** Requires every byte that came in. @throws ImageFailure SOURCE_CORRUPT; the signal's reason. */
export async function requireUnchanged(
  { source: id, sourceSha256 }: ImportRequest,
  disk: FileHandle,
  signal: AbortSignal,
): Promise<void> {
  const { sha256 } = await hashWhole(disk, signal, () => undefined);
  if (sha256 === sourceSha256) return;
  throw corrupt(id, 'has changed since it was imported.', {
    inward: `its SHA-256 is ${sha256}, and was ${sourceSha256}`,
  });
}

function corrupt(id: string, what: string, details: { inward?: string; cause?: unknown }): ImageFailure {
  const message = `Machine image ${id} ${what} Have the administrator import it again and use the new one.`;
  return new ImageFailure('SOURCE_CORRUPT', message, details);
}
