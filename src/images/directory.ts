/**
 * Disks in a directory of this machine: machine images as they arrived, and the encrypted copies made of them.
 *
 * Everything is made in `staging/` and moved to its place when it is whole (staging.ts). A file is inspected as staged,
 * through an open handle, so that nobody can change it between the look and the use. Nobody but the owner may read anything
 * here, and no message to an image's owner names a path.
 */
import { type FileHandle, readdir, readFile, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../clock.ts';
import { createFile, isSystemError, makePrivateDirectory, requireFileName, withFile, writeDurably } from '../files.ts';
import { Confinement, requireTool } from './confined.ts';
import { encryptDisk, noSpace } from './encrypt.ts';
import { hashWhole } from './hash.ts';
import { ImageFailure, type Images, type ImportRequest, type StoredImage } from './images.ts';
import type { DiskDescription } from './inspect.ts';
import {
  bringIn,
  describeMachineDisk,
  type MachineImageFile,
  openForeign,
  openMachineDisk,
  requireUnchanged,
} from './machine-disk.ts';
import { PROGRESS_INTERVAL_MS, Progress } from './progress.ts';
import { Staging } from './staging.ts';

const MACHINE_DISK = 'disk';
const STREAMING_DISK = 'disk.qcow2';
const MANIFEST = 'manifest.json';
/** What a file's status counts in, whatever the file system's blocks are. */
const STATUS_BLOCK_BYTES = 512;

export interface ImageDirectoryOptions {
  /** Made if absent. */
  readonly directory: string;
  /** Free space that imports leave to the rest of the machine. */
  readonly diskReserveBytes: number;
  readonly clock: Clock;
  /** Absolute path; looked for in the usual places where absent. */
  readonly qemuImg?: string;
}

export interface MachineImageRequest {
  /** The machine image's id. */
  readonly id: string;
  /** Path of the file to bring in. */
  readonly file: string;
  /** The file's original name, if its path does not tell: its extension must not contradict its content. */
  readonly nameHint?: string;
  /** Throws when what the file turns out to be is not wanted; called before it is copied, and of the copy. */
  readonly admit?: (disk: DiskDescription) => void;
  /** Called with 0 to 100, not more often than once a second. */
  readonly onProgress?: (percent: number) => void;
  readonly signal?: AbortSignal;
}

/** What a piece of work stops by, and reports to. */
interface Watched {
  readonly signal: AbortSignal;
  readonly progress: Progress;
}

/** The files of a machine image, its disk first, within the directory of images. */
export function machineImageFiles(id: string): string[] {
  return [join('machine', requireFileName(id), MACHINE_DISK)];
}

/** The files of an encrypted copy, its disk first, within the directory of images. */
export function streamingImageFiles(id: string): string[] {
  return [STREAMING_DISK, MANIFEST].map((name) => join('streaming', requireFileName(id), name));
}

export function openImageDirectory(options: ImageDirectoryOptions): ImageDirectory {
  for (const place of ['machine', 'streaming', 'staging']) makePrivateDirectory(join(options.directory, place));
  return new ImageDirectory(options);
}

export class ImageDirectory implements Images {
  readonly #machine: string;
  readonly #streaming: string;
  readonly #staging: Staging;
  readonly #options: ImageDirectoryOptions;
  readonly #confinement = new Confinement();

  constructor(options: ImageDirectoryOptions) {
    this.#machine = join(options.directory, 'machine');
    this.#streaming = join(options.directory, 'streaming');
    this.#staging = new Staging(join(options.directory, 'staging'), options.clock);
    this.#options = options;
  }

  async import(request: ImportRequest): Promise<StoredImage> {
    const place = join(this.#streaming, requireFileName(request.id));
    const machineDisk = join(this.#machine, requireFileName(request.source), MACHINE_DISK);
    const earlier = await readStored(place);
    if (earlier) return earlier;
    await this.#staging.makeRoom(place, request.id);
    try {
      return await this.#watch(request, (watched) =>
        this.#staging.fill(place, request.id, (staged) => this.#makeCopy(request, machineDisk, staged, watched)),
      );
    } catch (error) {
      // Another run of the same import was faster: its copy is as good.
      const other = isTaken(error) ? await readStored(place) : undefined;
      if (other) return other;
      throw error;
    }
  }

  async open(id: string): Promise<string | undefined> {
    const place = join(this.#streaming, requireFileName(id));
    return (await readStored(place)) && join(place, STREAMING_DISK);
  }

  async remove(id: string): Promise<void> {
    await this.#staging.remove(join(this.#streaming, requireFileName(id)), id);
  }

  async list(): Promise<{ readonly id: string; readonly sizeBytes: number; readonly modifiedAt: number }[]> {
    const ids = await readdir(this.#streaming);
    const found = ids.map(async (id) => {
      const status = await stat(join(this.#streaming, id, STREAMING_DISK)).catch(() => undefined);
      return status && { id, sizeBytes: status.size, modifiedAt: Math.floor(status.mtimeMs) };
    });
    return (await Promise.all(found)).filter((image) => image !== undefined);
  }

  /**
   * Brings a disk in as a machine image: copied, hashed and inspected; nothing is left behind when that fails.
   * @throws DiskRefused when it is not a disk that can be taken; ImageFailure SOURCE_MISSING, SOURCE_CORRUPT when it
   * changed under the copy, ALREADY_EXISTS, NO_SPACE; the signal's reason.
   */
  async importMachineImage(request: MachineImageRequest): Promise<MachineImageFile> {
    const place = join(this.#machine, requireFileName(request.id));
    const exists = new ImageFailure('ALREADY_EXISTS', `Machine image ${request.id} exists already.`);
    if ((await stat(place).catch(() => undefined)) !== undefined) throw exists;
    try {
      return await this.#watch(request, ({ signal, progress }) =>
        withFile(openForeign(request.file), async (source) => {
          await this.#requireSpaceFor(source);
          return this.#staging.fill(place, request.id, (staged) =>
            withFile(createFile(join(staged, MACHINE_DISK)), (target) =>
              bringIn(source, target, {
                nameHint: request.file,
                ...request,
                signal,
                onFraction: progress.part(0, 100),
              }),
            ),
          );
        }),
      );
    } catch (error) {
      throw isTaken(error) ? exists : error;
    }
  }

  /** No error when there is none. Copies that were made of it stay. */
  async removeMachineImage(id: string): Promise<void> {
    await this.#staging.remove(join(this.#machine, requireFileName(id)), id);
  }

  sweep({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    return this.#staging.sweep(olderThanMs);
  }

  /**
   * Encrypts the source into the staging directory, makes sure meanwhile that it is still what came in, and describes the
   * result. Nothing of it is used before both are done.
   */
  async #makeCopy(request: ImportRequest, machineDisk: string, staged: string, watched: Watched): Promise<StoredImage> {
    const { signal, progress } = watched;
    const qemuImg = await requireTool(this.#options.qemuImg ?? 'qemu-img');
    return withFile(openMachineDisk(request.source, machineDisk), async (source) => {
      const { virtualBytes } = await describeMachineDisk(request, source);
      return withFile(createFile(join(staged, STREAMING_DISK)), async (target) => {
        const disk = { source, sourceFormat: request.sourceFormat, virtualBytes, target };
        const { passphrase } = request;
        const targetBytesMax = await this.#spaceLeft();
        await together(
          signal,
          (both) => requireUnchanged(request, source, both),
          (both) =>
            encryptDisk(this.#confinement, {
              ...disk,
              targetBytesMax,
              passphrase,
              scratch: staged,
              qemuImg,
              signal: both,
              onFraction: progress.part(0, 80),
            }),
        );
        const { bytes, sha256 } = await hashWhole(target, signal, progress.part(80, 100));
        const stored: StoredImage = {
          format: 'qcow2',
          sizeBytes: bytes,
          virtualSizeBytes: virtualBytes,
          ...(request.sourceFormat === 'tar' && { content: 'tar' }),
          sha256,
        };
        await writeDurably(join(staged, MANIFEST), Buffer.from(`${JSON.stringify(stored)}\n`));
        return stored;
      });
    });
  }

  /** Runs the work under an eye on the disk, which may end it, and tells its progress once a second. */
  async #watch<T>(
    request: { readonly signal?: AbortSignal; readonly onProgress?: (percent: number) => void },
    work: (watched: Watched) => Promise<T>,
  ): Promise<T> {
    const stop = new AbortController();
    const signal = request.signal ? AbortSignal.any([request.signal, stop.signal]) : stop.signal;
    signal.throwIfAborted();
    // Called from timers and streams, where an error of the listener's would end the process.
    const listener = (percent: number) => {
      try {
        request.onProgress?.(percent);
      } catch (error) {
        stop.abort(error);
      }
    };
    const progress = new Progress(listener, this.#options.clock);
    const look = async (): Promise<void> => {
      progress.tell();
      await this.#staging.keepAlive();
      await this.#spaceLeft();
    };
    const timer = setInterval(() => look().catch((error) => stop.abort(error)), PROGRESS_INTERVAL_MS);
    try {
      await look();
      return await work({ signal, progress });
    } catch (error) {
      throw asImageFailure(error);
    } finally {
      clearInterval(timer);
    }
  }

  /** Bytes that may still be written. @throws ImageFailure NO_SPACE when there are none. */
  async #spaceLeft(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#staging.directory);
    const left = bavail * bsize - this.#options.diskReserveBytes;
    if (left > 0) return left;
    throw noSpace(`${bavail * bsize} bytes are free and ${this.#options.diskReserveBytes} are reserved`);
  }

  /** A disk that is larger than what is free is refused before it is copied; its holes do not count. */
  async #requireSpaceFor(source: FileHandle): Promise<void> {
    const { blocks } = await source.stat();
    const needed = blocks * STATUS_BLOCK_BYTES;
    const left = await this.#spaceLeft();
    if (needed > left) throw noSpace(`it takes ${needed} bytes and ${left} may be used`);
  }
}

/**
 * Does both at once, and resolves when both have ended. When the check fails the work is stopped, and the check's reason
 * counts; when the work fails for the lack of something, the check is stopped; when the work fails at the source, the
 * check may know better why.
 */
async function together(
  signal: AbortSignal,
  check: (signal: AbortSignal) => Promise<void>,
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const outcomes = await Promise.allSettled([
    check(both).catch((error) => {
      stop.abort(error);
      throw error;
    }),
    work(both).catch((error) => {
      if (!(error instanceof ImageFailure && error.code === 'TOOL_FAILED')) stop.abort(error);
      throw error;
    }),
  ]);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

/** A rename found the place taken by another run. */
function isTaken(error: unknown): boolean {
  return error instanceof ImageFailure && isSystemError(error.cause, 'ENOTEMPTY', 'EEXIST');
}

/** The system's errors as the port's; everything else as it is. */
function asImageFailure(error: unknown): unknown {
  if (isSystemError(error, 'ENOSPC', 'EDQUOT', 'EFBIG')) return noSpace((error as Error).message, error);
  if (!(error instanceof Error && 'errno' in error)) return error;
  return new ImageFailure('TOOL_FAILED', 'The image could not be stored. It may work when tried again.', {
    retryable: true,
    inward: error.message,
    cause: error,
  });
}

/** The finished copy's description, or undefined when there is none that is whole. */
async function readStored(place: string): Promise<StoredImage | undefined> {
  try {
    const stored: StoredImage = JSON.parse(await readFile(join(place, MANIFEST), 'utf8'));
    const { size } = await stat(join(place, STREAMING_DISK));
    return size === stored.sizeBytes ? stored : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isSystemError(error, 'ENOENT')) return undefined;
    throw asImageFailure(error);
  }
}
