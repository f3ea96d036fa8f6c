/**
 * Reads the headers of a tar archive: ustar, and what pax and GNU tar put before it to say longer names and larger sizes.
 *
 * It decides what one entry is called, how long it is and what it points at, and refuses a header that says that in a way
 * that two readers could take differently. Names are byte strings, each byte a character. It must never let a length out
 * that was not checked against the file, nor repeat a name in a message.
 */
import { type DiskReader, refuse, refuseCorrupt, SECTOR_BYTES } from './inspect-reader.ts';

/** POSIX.1-2017, pax, "ustar Interchange Format". */
const NAME = [0, 100] as const;
const SIZE = [124, 136] as const;
const CHECKSUM = [148, 156] as const;
const TYPE = 156;
const LINK_NAME = [157, 257] as const;
const MAGIC = [257, 265] as const;
const PREFIX = [345, 500] as const;
const MAGIC_POSIX = 'ustar\x0000';
const MAGIC_GNU = 'ustar  \x00';

/** Longer than any path that Linux takes, with room for what else pax headers say. */
const EXTENSION_BYTES_MAX = 1024 * 1024;
/** Longer ones cannot be made on Linux (PATH_MAX). */
const NAME_BYTES_MAX = 4_095;
/** Of extended headers before one entry: three kinds, and room. */
const EXTENSIONS_MAX = 8;
/** Headers are read in pieces of this many bytes: small files stand close together. */
const WINDOW_BYTES = 64 * 1024;

const WHAT = 'the next of its entries';

export type TarKind = 'file' | 'hardLink' | 'symbolicLink' | 'device' | 'directory' | 'pipe';

/** Types of entries by their flag; a file is also '\0' from old writers, and '7' from writers that wish it contiguous. */
const KINDS: Readonly<Record<string, TarKind>> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardLink',
  '2': 'symbolicLink',
  '3': 'device',
  '4': 'device',
  '5': 'directory',
  '6': 'pipe',
};

export interface TarEntry {
  readonly kind: TarKind;
  /** As it stands there. */
  readonly name: string;
  /** What a link points at; empty for anything else. */
  readonly linkName: string;
}

/** What an extended header says of the entry behind it. */
interface Extension {
  name?: string;
  linkName?: string;
  sizeBytes?: number;
}

interface Header {
  readonly type: string;
  readonly name: string;
  readonly linkName: string;
  readonly sizeBytes: number;
}

/** Walks the headers from the first to the two empty blocks that end the archive. */
export class TarHeaders {
  readonly #reader: DiskReader;
  #window: Buffer = Buffer.alloc(0);
  #windowOffset = 0;
  #offset = 0;

  constructor(reader: DiskReader) {
    this.#reader = reader;
  }

  /** Where the walk is. After the end this is behind the empty blocks. */
  get offset(): number {
    return this.#offset;
  }

  /** The next entry, or undefined at the end. */
  async next(): Promise<TarEntry | undefined> {
    const said: Extension = {};
    for (let extensions = 0; ; extensions += 1) {
      const block = await this.#block();
      if (isEmpty(block)) {
        if (extensions > 0) refuseCorrupt('one of its headers belongs to no file');
        if (!isEmpty(await this.#block())) refuseCorrupt('it has an empty block between its entries');
        return undefined;
      }
      const header = parseHeader(block);
      if (!EXTENSIONS.has(header.type)) return await this.#entry(header, said);
      if (extensions === EXTENSIONS_MAX) refuseCorrupt('one of its entries has too many headers');
      await this.#extend(header, said);
    }
  }

  async #entry(header: Header, said: Extension): Promise<TarEntry> {
    const kind = Object.hasOwn(KINDS, header.type) ? KINDS[header.type] : undefined;
    if (kind === undefined) {
      refuse(
        'UNSUPPORTED_FEATURE',
        'The tar archive has entries of a kind that is not taken (sparse files or parts of a series, for example); make it again with: tar --format=pax.',
      );
    }
    const sizeBytes = said.sizeBytes ?? header.sizeBytes;
    if (kind !== 'file' && sizeBytes !== 0) refuseCorrupt('something in it that is not a file has a length');
    this.#skip(sizeBytes);
    const isLink = kind === 'hardLink' || kind === 'symbolicLink';
    const linkName = isLink ? requireName(said.linkName ?? header.linkName) : '';
    return { kind, name: requireName(said.name ?? header.name), linkName };
  }

  async #extend(header: Header, said: Extension): Promise<void> {
    if (header.sizeBytes > EXTENSION_BYTES_MAX) refuseCorrupt('one of its extended headers is far too long');
    const content = await this.#reader.bytes(this.#offset, header.sizeBytes, WHAT);
    this.#skip(header.sizeBytes);
    if (header.type === 'L') said.name = textOf(content);
    else if (header.type === 'K') said.linkName = textOf(content);
    else Object.assign(said, parseRecords(content, header.type === 'g'));
  }

  /** The block that the walk is at, which it then has behind it. */
  async #block(): Promise<Buffer> {
    const at = this.#offset;
    if (at < this.#windowOffset || at + SECTOR_BYTES > this.#windowOffset + this.#window.length) {
      this.#reader.requireInside(at, SECTOR_BYTES, WHAT);
      this.#window = await this.#reader.bytes(at, Math.min(WINDOW_BYTES, this.#reader.fileBytes - at), WHAT);
      this.#windowOffset = at;
    }
    this.#offset += SECTOR_BYTES;
    return this.#window.subarray(at - this.#windowOffset, at - this.#windowOffset + SECTOR_BYTES);
  }

  /** Content is padded to whole blocks. */
  #skip(bytes: number): void {
    this.#reader.requireInside(this.#offset, bytes, 'the content of one of its entries');
    this.#offset += Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;
  }
}

/** pax for the next entry, pax for all that follow, and GNU's long name and long link. */
const EXTENSIONS: ReadonlySet<string> = new Set(['x', 'g', 'L', 'K']);

function isEmpty(block: Buffer): boolean {
  return block.every((byte) => byte === 0);
}

function parseHeader(block: Buffer): Header {
  const magic = block.toString('latin1', ...MAGIC);
  if (magic !== MAGIC_POSIX && magic !== MAGIC_GNU) refuseCorrupt('one of its headers is not that of a tar archive');
  if (parseNumber(block.subarray(...CHECKSUM)) !== checksumOf(block)) {
    refuseCorrupt('the checksum of one of its headers is wrong');
  }
  // GNU tar keeps times where the others keep the beginning of a long name.
  const prefix = magic === MAGIC_POSIX ? textOf(block.subarray(...PREFIX)) : '';
  const name = textOf(block.subarray(...NAME));
  return {
    type: String.fromCharCode(block[TYPE]!),
    name: prefix === '' ? name : `${prefix}/${name}`,
    linkName: textOf(block.subarray(...LINK_NAME)),
    sizeBytes: parseNumber(block.subarray(...SIZE)),
  };
}

/** The sum of all bytes, those of the checksum itself taken for spaces. */
function checksumOf(block: Buffer): number {
  let sum = 0;
  for (const [index, byte] of block.entries()) {
    sum += index >= CHECKSUM[0] && index < CHECKSUM[1] ? 0x20 : byte;
  }
  return sum;
}

/** Octal digits between spaces and zero bytes; or GNU's binary number, whose first bit is set. */
function parseNumber(field: Buffer): number {
  if ((field[0]! & 0x80) !== 0) {
    if (field[0] !== 0x80) refuseCorrupt('one of its headers holds a number that is negative or far too large');
    const value = field.subarray(1).reduce((sum, byte) => sum * 256 + byte, 0);
    if (!Number.isSafeInteger(value)) refuseCorrupt('one of its headers holds a number that is far too large');
    return value;
  }
  const [digits = ''] = field.toString('latin1').split('\0');
  const trimmed = digits.trim();
  if (!/^[0-7]*$/.test(trimmed)) refuseCorrupt('one of its headers holds something else where a number must be');
  return trimmed === '' ? 0 : Number.parseInt(trimmed, 8);
}

/** Up to the first zero byte. */
function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('latin1', 0, end === -1 ? bytes.length : end);
}

function requireName(name: string): string {
  if (name === '') refuseCorrupt('one of its entries has no name');
  if (name.length > NAME_BYTES_MAX || name.includes('\0'))
    refuseCorrupt('the name of one of its entries is impossible');
  return name;
}

/** Records of `LENGTH KEY=VALUE\n`, where the length counts itself. */
function parseRecords(content: Buffer, forAll: boolean): Extension {
  const said: Extension = {};
  for (let start = 0; start < content.length; ) {
    const space = content.indexOf(0x20, start);
    const digits = space === -1 ? '' : content.toString('latin1', start, Math.min(space, start + 8));
    const end = start + (/^[1-9]\d*$/.test(digits) ? Number(digits) : 0);
    const equals = content.indexOf(0x3d, space);
    const whole = end > space && end <= content.length && content[end - 1] === 0x0a && equals > space && equals < end;
    if (!whole) refuseCorrupt('one of its extended headers makes no sense');
    const key = content.toString('latin1', space + 1, equals);
    take(said, key, content.toString('latin1', equals + 1, end - 1));
    start = end;
  }
  if (forAll && Object.keys(said).length > 0) refuseCorrupt('one header in it gives one name or length to all entries');
  return said;
}

function take(said: Extension, key: string, value: string): void {
  if (key === 'path') said.name = value;
  else if (key === 'linkpath') said.linkName = value;
  else if (key === 'size') {
    if (!/^\d{1,15}$/.test(value)) refuseCorrupt('one of its extended headers holds an impossible length');
    said.sizeBytes = Number(value);
  } else if (key.startsWith('GNU.sparse.')) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'The tar archive holds sparse files, which are not taken; make it again without --sparse.',
    );
  }
}
