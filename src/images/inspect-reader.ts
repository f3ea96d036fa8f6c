/**
 * What every disk inspector stands on: the refusal, and a reader that cannot leave the file or grow with it.
 *
 * It decides one thing only: whether a range a header names lies inside the file. It reads through one window of fixed
 * size, so memory stays the same whatever a header claims. It must never read past the size the file had when the
 * inspection began, and never repeat text found in the file: a name in there is the attacker's, and so is its wording.
 */
import type { FileHandle } from 'node:fs/promises';

export const SECTOR_BYTES = 512;

/** The most a single read or table chunk holds. */
const WINDOW_BYTES = 256 * 1024;

/** The most tables of one kind an image may hold: 256 TiB in qcow2's default clusters, 16 TiB in VMDK's default grains. */
const TABLES_MAX = 1 << 19;

export type DiskRefusedCode =
  | 'AMBIGUOUS_FORMAT'
  | 'BACKING_FILE'
  | 'CORRUPT_HEADER'
  | 'EMPTY_FILE'
  | 'ENCRYPTED'
  | 'EXTERNAL_DATA_FILE'
  | 'EXTERNAL_REFERENCE'
  | 'FORMAT_MISMATCH'
  | 'HAS_SNAPSHOTS'
  | 'NOT_A_FILE'
  | 'TOO_LARGE'
  | 'TRUNCATED'
  | 'UNCLEAN'
  | 'UNSUPPORTED_FEATURE'
  | 'UNSUPPORTED_FORMAT';

/** Refusal with one plain sentence a person can act on. */
export class DiskRefused extends Error {
  override readonly name = 'DiskRefused';
  readonly code: DiskRefusedCode;

  constructor(code: DiskRefusedCode, sentence: string) {
    super(sentence);
    this.code = code;
  }
}

export function refuse(code: DiskRefusedCode, sentence: string): never {
  throw new DiskRefused(code, sentence);
}

export function refuseCorrupt(what: string): never {
  refuse('CORRUPT_HEADER', `The image is damaged (${what}); export it again from where it was made.`);
}

export function refuseTruncated(what: string): never {
  refuse(
    'TRUNCATED',
    `The file ends before ${what}, so it was cut short; copy it again and compare its size with the original.`,
  );
}

/**
 * 64-bit fields are read into a double on purpose: above 2^53 it loses low bits but never wraps, so such a value stays
 * far beyond any file's end and every comparison with a size still comes out right.
 */
export function readUint64BigEndian(bytes: Buffer, offset: number): number {
  return bytes.readUInt32BE(offset) * 0x1_0000_0000 + bytes.readUInt32BE(offset + 4);
}

export function readUint64LittleEndian(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset + 4) * 0x1_0000_0000 + bytes.readUInt32LE(offset);
}

export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isInteger(Math.log2(value));
}

/** Refuses a disk that has no bytes, no whole sectors, or more bytes than the studio takes. */
export function requireVirtualBytes(virtualBytes: number, virtualBytesMax: number): void {
  if (virtualBytes === 0) {
    refuseCorrupt('it says that the disk inside has no bytes at all');
  }
  if (virtualBytes > Math.min(virtualBytesMax, Number.MAX_SAFE_INTEGER)) {
    const gibibytes = (bytes: number) => `${Math.ceil(bytes / 2 ** 30)} GiB`;
    refuse(
      'TOO_LARGE',
      `The disk inside is ${gibibytes(virtualBytes)} and at most ${gibibytes(virtualBytesMax)} is taken; shrink it first.`,
    );
  }
  if (virtualBytes % SECTOR_BYTES !== 0) {
    refuseCorrupt('the disk inside is not a whole number of 512-byte sectors');
  }
}

/** A part of the file that only one structure may occupy. */
export interface FileRange {
  readonly offset: number;
  readonly length: number;
}

export function overlaps(range: FileRange, offset: number, length: number): boolean {
  return offset < range.offset + range.length && range.offset < offset + length;
}

/** Refuses structures that lie on top of one another: a table that is also another table can send a reader in circles. */
export function requireApart(ranges: readonly FileRange[]): void {
  const sorted = ranges.toSorted((left, right) => left.offset - right.offset);
  for (const [index, range] of sorted.entries()) {
    const next = sorted[index + 1];
    if (next !== undefined && range.offset + range.length > next.offset) {
      refuseCorrupt('two of its tables lie on top of each other');
    }
  }
}

/** The places of an image's second-level tables, kept so that no table is walked twice and none overlaps another. */
export class TableList {
  readonly #tableBytes: number;
  #offsets = new Float64Array(1024);
  #count = 0;

  constructor(tableBytes: number) {
    this.#tableBytes = tableBytes;
  }

  add(offset: number): void {
    if (this.#count === TABLES_MAX) {
      refuse(
        'TOO_LARGE',
        'The image is cut into too many small pieces to be checked; rewrite it with default settings by qemu-img convert.',
      );
    }
    if (this.#count === this.#offsets.length) {
      const grown = new Float64Array(this.#count * 2);
      grown.set(this.#offsets);
      this.#offsets = grown;
    }
    this.#offsets[this.#count++] = offset;
  }

  /** In file order, which also makes the walk read the file forwards. */
  sorted(): Float64Array {
    const offsets = this.#offsets.subarray(0, this.#count).sort();
    for (let index = 1; index < offsets.length; index++) {
      if (offsets[index]! - offsets[index - 1]! < this.#tableBytes) {
        refuseCorrupt('two of its tables lie on top of each other');
      }
    }
    return offsets;
  }
}

export type DiskHandle = Pick<FileHandle, 'read' | 'stat'>;

export class DiskReader {
  readonly fileBytes: number;
  readonly #handle: DiskHandle;
  readonly #window = Buffer.alloc(WINDOW_BYTES);
  #windowOffset = 0;
  #windowBytes = 0;

  private constructor(handle: DiskHandle, fileBytes: number) {
    this.#handle = handle;
    this.fileBytes = fileBytes;
  }

  static async open(handle: DiskHandle): Promise<DiskReader> {
    const status = await handle.stat();
    if (!status.isFile()) {
      refuse('NOT_A_FILE', 'This is a directory or a device, not a file; give a disk image file.');
    }
    if (status.size === 0) {
      refuse('EMPTY_FILE', 'The file is empty; copy it again from where it was made.');
    }
    return new DiskReader(handle, status.size);
  }

  /** Completes "The file ends before ...". */
  requireInside(offset: number, length: number, what: string): void {
    if (offset + length > this.fileBytes) {
      refuseTruncated(what);
    }
  }

  /** A copy the caller may keep; `length` must come from a constant or have been capped. */
  async bytes(offset: number, length: number, what: string): Promise<Buffer> {
    this.requireInside(offset, length, what);
    const copy = Buffer.alloc(length);
    let done = 0;
    for await (const chunk of this.chunks(offset, length, what)) {
      chunk.copy(copy, done);
      done += chunk.length;
    }
    return copy;
  }

  /** The range in pieces; each piece is overwritten by the next read of any kind. Piece lengths keep 16-byte entries whole. */
  async *chunks(offset: number, length: number, what: string): AsyncGenerator<Buffer> {
    this.requireInside(offset, length, what);
    for (let done = 0; done < length; done += WINDOW_BYTES) {
      yield await this.#view(offset + done, Math.min(WINDOW_BYTES, length - done), what);
    }
  }

  async #view(offset: number, length: number, what: string): Promise<Buffer> {
    const windowEnd = this.#windowOffset + this.#windowBytes;
    if (offset < this.#windowOffset || offset + length > windowEnd) {
      // Reading ahead only where the last read ended keeps small tables fast and scattered ones from costing a window each.
      const wanted = offset === windowEnd ? Math.min(WINDOW_BYTES, this.fileBytes - offset) : length;
      await this.#fill(offset, wanted, what);
    }
    const start = offset - this.#windowOffset;
    return this.#window.subarray(start, start + length);
  }

  async #fill(offset: number, length: number, what: string): Promise<void> {
    this.#windowBytes = 0;
    this.#windowOffset = offset;
    while (this.#windowBytes < length) {
      const { bytesRead } = await this.#handle.read(
        this.#window,
        this.#windowBytes,
        length - this.#windowBytes,
        offset + this.#windowBytes,
      );
      if (bytesRead === 0) {
        refuseTruncated(what);
      }
      this.#windowBytes += bytesRead;
    }
  }
}
