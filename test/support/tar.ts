/** Tar archives written byte by byte, for those that no honest program writes. */
const BLOCK = 512;

export interface TarPart {
  readonly name: string;
  /** The type's flag; a file where absent. */
  readonly type?: string;
  readonly linkName?: string;
  readonly content?: Buffer;
  /** What the header says of the content's length, where that is not true. */
  readonly sizeField?: Buffer;
  /** Writes over the header before its sum is taken. */
  readonly change?: (header: Buffer) => void;
  /** A sum that is wrong. */
  readonly wrongSum?: boolean;
}

/** A header and what belongs to it. */
export function tarPart({ name, type = '0', linkName = '', content, sizeField, change, wrongSum }: TarPart): Buffer {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, 'latin1');
  header.write(type === '5' ? '0000755\0' : '0000644\0', 100, 'latin1');
  header.write('0000000\0'.repeat(2), 108, 'latin1');
  header.write(`${(content?.length ?? 0).toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  sizeField?.copy(header, 124);
  header.write('00000000000\0', 136, 'latin1');
  header.write(type, 156, 1, 'latin1');
  header.write(linkName, 157, 100, 'latin1');
  header.write('ustar\x0000', 257, 'latin1');
  change?.(header);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, wrongSum ? 1 : 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([header, padded(content ?? Buffer.alloc(0))]);
}

/** An archive with its end. */
export function tarOf(parts: readonly (TarPart | Buffer)[]): Buffer {
  const written = parts.map((part) => (Buffer.isBuffer(part) ? part : tarPart(part)));
  return Buffer.concat([...written, Buffer.alloc(2 * BLOCK)]);
}

/** A pax header for the entry behind it, or with `g` for all that follow. */
export function paxPart(records: Readonly<Record<string, string>>, type: 'x' | 'g' = 'x'): Buffer {
  const content = Object.entries(records).map(([key, value]) => record(`${key}=${value}`));
  return tarPart({ name: 'pax', type, content: Buffer.from(content.join(''), 'latin1') });
}

/** The length in front counts itself. */
function record(text: string): string {
  let length = text.length + 3;
  while (String(length).length + text.length + 2 !== length) length += 1;
  return `${length} ${text}\n`;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}

/** What makes an archive a root file system. */
export const SYSTEM: readonly TarPart[] = [
  { name: './', type: '5' },
  { name: './etc/', type: '5' },
  { name: './usr/', type: '5' },
];
