/**
 * The port to the disks: machine images as they were brought in, and the encrypted copies that streaming images are.
 *
 * Whatever is made is named by the id it belongs to, so that an effect that ran twice or died half way is found again
 * and cleaned up without memory. No adapter may hand a file to a tool before src/images/inspect.ts has accepted it.
 */
import type { DiskFormat } from './inspect.ts';

export interface ImportRequest {
  /** The streaming image's id: names the copy. */
  readonly id: string;
  /** The machine image's id: names the source. */
  readonly source: string;
  /** SHA-256 of the source as it was brought in: a source that has changed since is refused. */
  readonly sourceSha256: string;
  readonly sourceFormat: DiskFormat;
  /** Passphrase that the copy is encrypted with. The adapter must not keep it. */
  readonly passphrase: Buffer;
  /** Called with 0 to 100, not more often than once a second. */
  readonly onProgress: (percent: number) => void;
  /** Ends the work early; nothing is left behind. */
  readonly signal: AbortSignal;
}

export interface StoredImage {
  readonly format: 'qcow2';
  readonly sizeBytes: number;
  readonly virtualSizeBytes: number;
  /** What the copy holds where that is no disk to start: a tar of a root file system, from its first byte on. */
  readonly content?: 'tar';
  /** Of the encrypted file. */
  readonly sha256: string;
}

export interface Images {
  /** Makes sure that the encrypted copy exists; run twice, it finds its own result. @throws ImageFailure */
  import(request: ImportRequest): Promise<StoredImage>;
  /** Path of the encrypted copy for the compute drivers; undefined when there is none. */
  open(id: string): Promise<string | undefined>;
  /** Removes the copy and whatever a died import left of it; no error when there is nothing. */
  remove(id: string): Promise<void>;
  /** Every copy that is there, and the bytes they take. */
  list(): Promise<{ readonly id: string; readonly sizeBytes: number; readonly modifiedAt: number }[]>;
  /**
   * Throws away what imports that died have left. What was written to within `olderThanMs` may still be in the making,
   * and stays. @returns how many pieces there were.
   */
  sweep(request: { readonly olderThanMs: number }): Promise<number>;
}

/**
 * Why a disk could not be imported. `retryable` failures may pass by themselves (a tool was killed); the others will not:
 * `SOURCE_MISSING`, `SOURCE_CORRUPT`, `NO_SPACE`, `TOOL_MISSING`, `TOOL_FAILED`. `message` is for the image's owner and
 * names no path of this machine; `inward` is for the log.
 */
export class ImageFailure extends Error {
  override readonly name = 'ImageFailure';
  readonly code: string;
  readonly retryable: boolean;
  readonly inward: string | undefined;
  constructor(code: string, message: string, options: { retryable?: boolean; inward?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.inward = options.inward;
  }
}
