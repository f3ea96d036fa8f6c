/**
 * Disk images made to mislead (CVE-2024-32498 and its kin): each is refused by its code, in bounded memory and reading.
 *
 * The corpus is built here byte by byte from five small valid images, which qemu-img itself is shown to accept, so that
 * what is refused is the one thing changed. A seeded property test then mutates images of the real qemu-img: whatever is
 * still accepted must refer to nothing outside itself, by qemu-img's own word. BACKLOT_SEED sets the
 * seed, BACKLOT_RUNS how often.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { type FileHandle, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { type DiskFormat, DiskRefused, type DiskRefusedCode, inspectDisk } from '../../src/images/inspect.ts';

const run = promisify(execFile);

const SECTOR = 512;
const MEBIBYTE = 2 ** 20;
const SECRET = '/etc/passwd';

let directory = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'backlot-hostile-'));
});

after(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** A file in memory that counts what is read of it; past its bytes it reads as zeros, up to the size it claims. */
class CountedFile {
  readonly #bytes: Buffer;
  readonly #claimedBytes: number;
  readonly #arrayBuffersBefore = process.memoryUsage().arrayBuffers;
  bytesRead = 0;
  largestRead = 0;
  arrayBuffersGrowth = 0;

  constructor(bytes: Buffer, claimedBytes: number) {
    this.#bytes = bytes;
    this.#claimedBytes = claimedBytes;
  }

  async stat() {
    return { isFile: () => true, size: this.#claimedBytes };
  }

  async read(buffer: Buffer, offset: number, length: number, position: number) {
    const bytesRead = Math.max(0, Math.min(length, this.#claimedBytes - position));
    buffer.fill(0, offset, offset + bytesRead);
    if (position < this.#bytes.length) {
      this.#bytes.copy(buffer, offset, position, position + bytesRead);
    }
    this.bytesRead += bytesRead;
    this.largestRead = Math.max(this.largestRead, length);
    const growth = process.memoryUsage().arrayBuffers - this.#arrayBuffersBefore;
    this.arrayBuffersGrowth = Math.max(this.arrayBuffersGrowth, growth);
    return { bytesRead, buffer };
  }
}

async function verdictOf(file: unknown): Promise<DiskRefusedCode | DiskFormat> {
  try {
    return (await inspectDisk(file as FileHandle)).format;
  } catch (error) {
    assert.ok(error instanceof DiskRefused, `not a refusal: ${error}`);
    assert.doesNotMatch(error.message, /passwd/, 'what stands in the file is not repeated');
    return error.code;
  }
}

type Change = (image: Buffer) => void;
type Case = readonly [name: string, code: DiskRefusedCode, change: Change, claimedBytes?: number];

/** The base image is accepted, by qemu-img too; each case changes one thing in it and is refused for that. */
function corpus(format: DiskFormat, name: string, build: (change?: Change) => Buffer, cases: readonly Case[]): void {
  describe(name, () => {
    it('unchanged: accepted', async () => {
      const image = build();
      const path = join(directory, `base.${format}`);
      await writeFile(path, image);
      assert.equal(await verdictOf(new CountedFile(image, image.length)), format);
      const info = await qemuInfo(format, path);
      assert.equal(info.error, undefined);
      const { virtualBytes } = await inspectDisk(new CountedFile(image, image.length) as unknown as FileHandle);
      assert.equal(info.virtualBytes, virtualBytes);
    });
    for (const [caseName, code, change, claimedBytes] of cases) {
      it(`${caseName}: ${code}`, async () => {
        const image = build(change);
        const file = new CountedFile(image, claimedBytes ?? image.length);
        assert.equal(await verdictOf(file), code);
        assert.ok(file.bytesRead <= 16 * MEBIBYTE, `read ${file.bytesRead} bytes`);
        assert.ok(file.largestRead <= MEBIBYTE, `read ${file.largestRead} bytes at once`);
        assert.ok(file.arrayBuffersGrowth <= 24 * MEBIBYTE, `held ${file.arrayBuffersGrowth} bytes`);
      });
    }
  });
}

interface QemuInfo {
  readonly virtualBytes?: number;
  readonly error?: string;
}

/** What qemu-img says of a file it is told the format of; fails if that leads anywhere else. */
async function qemuInfo(format: DiskFormat, path: string): Promise<QemuInfo> {
  const words = ['info', '--output=json', '-f', format, path];
  const { stdout, stderr } = await run('qemu-img', words, { timeout: 120_000 }).catch((error) => error);
  assert.doesNotMatch(stderr, /passwd|backing|data file/i, 'qemu-img went for another file');
  if (stdout === '') {
    return { error: stderr };
  }
  const info = JSON.parse(stdout);
  const specific = info['format-specific']?.data ?? {};
  assert.equal(info.format, format);
  assert.equal(info['backing-filename'], undefined, 'a backing file');
  assert.equal(info['full-backing-filename'], undefined, 'a backing file');
  assert.equal(specific['data-file'], undefined, 'a data file');
  for (const extent of specific.extents ?? []) {
    assert.equal(extent.filename, path, 'an extent in another file');
  }
  return { virtualBytes: info['virtual-size'] };
}

const set32 = (offset: number, value: number) => (image: Buffer) => void image.writeUInt32BE(value, offset);
const set64 = (offset: number, value: bigint) => (image: Buffer) => void image.writeBigUInt64BE(value, offset);
const set32le = (offset: number, value: number) => (image: Buffer) => void image.writeUInt32LE(value, offset);
const set64le = (offset: number, value: bigint) => (image: Buffer) => void image.writeBigUInt64LE(value, offset);
const setText = (offset: number, value: string) => (image: Buffer) => void image.write(value, offset, 'latin1');
const all =
  (...changes: Change[]) =>
  (image: Buffer) => {
    for (const change of changes) {
      change(image);
    }
  };

const COPIED = 1n << 63n;
const HUGE = 0xffff_ffff_ffff_fe00n;

/** Clusters of 512 bytes: header, refcount table, refcount block, level 1, level 2, one cluster of data. */
const QCOW2 = { refcountTable: 512, refcountBlock: 1024, level1: 1536, level2: 2048, data: 2560 };

function qcow2(change: Change = () => {}): Buffer {
  const image = Buffer.alloc(3072);
  image.write('QFI\xfb', 'latin1');
  image.writeUInt32BE(3, 4);
  image.writeUInt32BE(9, 20);
  image.writeBigUInt64BE(32_768n, 24);
  image.writeUInt32BE(1, 36);
  image.writeBigUInt64BE(BigInt(QCOW2.level1), 40);
  image.writeBigUInt64BE(BigInt(QCOW2.refcountTable), 48);
  image.writeUInt32BE(1, 56);
  image.writeUInt32BE(4, 96);
  image.writeUInt32BE(104, 100);
  image.writeBigUInt64BE(BigInt(QCOW2.refcountBlock), QCOW2.refcountTable);
  for (let cluster = 0; cluster < 6; cluster++) {
    image.writeUInt16BE(1, QCOW2.refcountBlock + 2 * cluster);
  }
  image.writeBigUInt64BE(BigInt(QCOW2.level2) | COPIED, QCOW2.level1);
  image.writeBigUInt64BE(BigInt(QCOW2.data) | COPIED, QCOW2.level2);
  image.fill(0xab, QCOW2.data);
  change(image);
  return image;
}

const backing = (name: string) => all(set64(8, 256n), set32(16, name.length), setText(256, name));
const extension = (type: number, data: string, length = data.length) =>
  all(set32(104, type), set32(108, length), setText(112, data));

corpus('qcow2', 'qcow2', qcow2, [
  ['a backing file', 'BACKING_FILE', backing(SECRET)],
  ['a backing file by pseudo-protocol', 'BACKING_FILE', backing('json:{"driver":"file","filename":"/etc/passwd"}')],
  ['a backing file over the network', 'BACKING_FILE', backing('nbd://127.0.0.1/secret')],
  ['a backing file in version 2', 'BACKING_FILE', all(set32(4, 2), backing(SECRET))],
  ['a backing file without a length', 'BACKING_FILE', set64(8, 256n)],
  ['a backing file without a place', 'BACKING_FILE', set32(16, 11)],
  ['a backing file at the end of all numbers', 'BACKING_FILE', set64(8, HUGE)],
  ['a backing format without a backing file', 'BACKING_FILE', extension(0xe2792aca, 'raw')],
  ['a data file by its bit', 'EXTERNAL_DATA_FILE', set64(72, 4n)],
  ['a data file by bit and name', 'EXTERNAL_DATA_FILE', all(set64(72, 4n), extension(0x44415441, SECRET))],
  ['a data file by name only', 'EXTERNAL_DATA_FILE', extension(0x44415441, SECRET)],
  [
    'a data file by name, behind another extension',
    'EXTERNAL_DATA_FILE',
    all(extension(0x6803f857, 'x'.repeat(48)), set32(160, 0x44415441), set32(164, 11), setText(168, SECRET)),
  ],
  [
    'a data file by name in version 2',
    'EXTERNAL_DATA_FILE',
    all(set32(4, 2), set32(72, 0x44415441), set32(76, 11), setText(80, SECRET)),
  ],
  ['a raw data file by its bit', 'EXTERNAL_DATA_FILE', set64(88, 2n)],
  ['a data file whose extension says another length', 'EXTERNAL_DATA_FILE', extension(0x44415441, SECRET, 0xffff_ffff)],
  ['an extension that is not known', 'UNSUPPORTED_FEATURE', extension(0x1234_5678, SECRET)],
  ['an extension that is longer than the cluster', 'CORRUPT_HEADER', extension(0x6803f857, '', 0xffff_fff8)],
  ['an extension that wraps to a negative length', 'CORRUPT_HEADER', extension(0x6803f857, '', 0xffff_ffff)],
  ['the same extension twice', 'CORRUPT_HEADER', all(extension(0x6803f857, ''), set32(112, 0x6803f857))],
  ['bitmaps', 'UNSUPPORTED_FEATURE', extension(0x23852875, 'x'.repeat(24))],
  ['an encryption header', 'ENCRYPTED', extension(0x0537be77, 'x'.repeat(16))],
  ['encryption by AES', 'ENCRYPTED', set32(32, 1)],
  ['encryption by something new', 'ENCRYPTED', set32(32, 0xffff_ffff)],
  ['snapshots', 'HAS_SNAPSHOTS', set32(60, 1)],
  ['no snapshots at an impossible place', 'CORRUPT_HEADER', set64(64, 0xdead_beefn)],
  ['refcounts of 128 bits', 'CORRUPT_HEADER', set32(96, 7)],
  ['the dirty bit', 'UNCLEAN', set64(72, 1n)],
  ['the corrupt bit', 'UNCLEAN', set64(72, 2n)],
  ['an unknown feature', 'UNSUPPORTED_FEATURE', set64(72, 1n << 5n)],
  ['the last unknown feature', 'UNSUPPORTED_FEATURE', set64(72, 1n << 63n)],
  ['version 1', 'UNSUPPORTED_FORMAT', set32(4, 1)],
  ['version 4', 'UNSUPPORTED_FORMAT', set32(4, 4)],
  ['version 4294967295', 'UNSUPPORTED_FORMAT', set32(4, 0xffff_ffff)],
  ...[0, 8, 22, 31, 32, 63, 64, 0xffff_ffff].map(
    (bits): Case => [`clusters of 2^${bits} bytes`, 'CORRUPT_HEADER', set32(20, bits)],
  ),
  ['a header of no length', 'CORRUPT_HEADER', set32(100, 0)],
  ['a header of an odd length', 'CORRUPT_HEADER', set32(100, 105)],
  ['a header longer than its cluster', 'CORRUPT_HEADER', set32(100, 1024)],
  ['a header length that overflows', 'CORRUPT_HEADER', set32(100, 0xffff_fff8)],
  ['a compression bit without a type', 'CORRUPT_HEADER', set64(72, 8n)],
  ['a compression type without its bit', 'CORRUPT_HEADER', all(set32(100, 112), set32(104, 0x0100_0000))],
  [
    'a compression type that is not known',
    'UNSUPPORTED_FEATURE',
    all(set64(72, 8n), set32(100, 112), set32(104, 0x0200_0000)),
  ],
  ['extended entries in clusters too small for them', 'CORRUPT_HEADER', set64(72, 16n)],
  ['a disk of no bytes', 'CORRUPT_HEADER', set64(24, 0n)],
  ['a disk of half a sector', 'CORRUPT_HEADER', set64(24, 256n)],
  ['a disk of 2^64 bytes', 'TOO_LARGE', set64(24, HUGE)],
  ['a disk of 32 TiB with the table for it', 'TOO_LARGE', all(set32(20, 16), set64(24, 1n << 45n), set32(36, 1 << 16))],
  ['a disk of 32 TiB', 'TOO_LARGE', set64(24, 1n << 45n)],
  ['no level 1 entries', 'CORRUPT_HEADER', set32(36, 0)],
  ['too few level 1 entries', 'CORRUPT_HEADER', set64(24, 65_536n)],
  ['4294967295 level 1 entries', 'CORRUPT_HEADER', set32(36, 0xffff_ffff)],
  ['more level 1 entries than the file has room for', 'TRUNCATED', set32(36, 1 << 22)],
  ['level 1 outside', 'TRUNCATED', set64(40, 4096n)],
  ['level 1 at the end of all numbers', 'TRUNCATED', set64(40, HUGE)],
  ['level 1 within a cluster', 'CORRUPT_HEADER', set64(40, 1544n)],
  ['level 1 on the header', 'CORRUPT_HEADER', set64(40, 0n)],
  ['level 1 on the refcount table', 'CORRUPT_HEADER', set64(40, 512n)],
  ['no refcount table', 'CORRUPT_HEADER', set32(56, 0)],
  ['a giant refcount table', 'CORRUPT_HEADER', set32(56, 0xffff_ffff)],
  ['a refcount table outside', 'TRUNCATED', set64(48, HUGE)],
  ['a refcount table longer than the file', 'TRUNCATED', set32(56, 6)],
  ['a refcount block outside', 'TRUNCATED', set64(QCOW2.refcountTable, HUGE)],
  ['a refcount block within a cluster', 'CORRUPT_HEADER', set64(QCOW2.refcountTable, 1025n)],
  ['a refcount block that is its own table', 'CORRUPT_HEADER', set64(QCOW2.refcountTable, 512n)],
  ['a refcount block that is a level 2 table', 'CORRUPT_HEADER', set64(QCOW2.refcountTable, 2048n)],
  ['level 2 outside', 'TRUNCATED', set64(QCOW2.level1, 1n << 40n)],
  ['level 2 partly outside', 'TRUNCATED', set64(QCOW2.level1, 3072n)],
  ['level 2 with reserved bits', 'CORRUPT_HEADER', set64(QCOW2.level1, 2048n | (1n << 60n))],
  ['level 2 that is level 1', 'CORRUPT_HEADER', set64(QCOW2.level1, 1536n)],
  ['level 2 that is the refcount table', 'CORRUPT_HEADER', set64(QCOW2.level1, 512n)],
  ['one level 2 table twice', 'CORRUPT_HEADER', all(set64(24, 65_536n), set32(36, 2), set64(QCOW2.level1 + 8, 2048n))],
  ['data outside', 'TRUNCATED', set64(QCOW2.level2, 1n << 50n)],
  ['data partly outside', 'TRUNCATED', set64(QCOW2.level2 + 8, 3072n)],
  ['data that is the header of the image', 'CORRUPT_HEADER', set64(QCOW2.level2, COPIED)],
  ['data that is level 1', 'CORRUPT_HEADER', set64(QCOW2.level2, 1536n)],
  ['data within a cluster', 'CORRUPT_HEADER', all(set32(20, 10), set64(24, 65_536n), set32(36, 1))],
  ['data with reserved bits', 'CORRUPT_HEADER', set64(QCOW2.level2, 2560n | 2n)],
  [
    'a zero cluster in version 2',
    'CORRUPT_HEADER',
    all(set32(4, 2), set32(72, 0), set64(96, 0n), set64(QCOW2.level2, 1n)),
  ],
  [
    'one cluster of data everywhere',
    'CORRUPT_HEADER',
    (image) => {
      for (let entry = 0; entry < 64; entry++) {
        image.writeBigUInt64BE(BigInt(QCOW2.data), QCOW2.level2 + 8 * entry);
      }
    },
  ],
  ['compressed data outside', 'TRUNCATED', set64(QCOW2.level2, (1n << 62n) | (1n << 50n))],
  ['compressed data that is longer than the file', 'TRUNCATED', set64(QCOW2.level2, (1n << 62n) | (1n << 61n) | 2560n)],
  ['compressed data within the header', 'CORRUPT_HEADER', set64(QCOW2.level2, (1n << 62n) | 8n)],
  ['compressed data marked as owned', 'CORRUPT_HEADER', set64(QCOW2.level2, (3n << 62n) | 2560n)],
  ['the signature of VDI as well', 'AMBIGUOUS_FORMAT', set32le(0x40, 0xbeda107f)],
]);

describe('qcow2 that claims more than can be held', () => {
  it('half a million level 2 tables in a file of a petabyte: TOO_LARGE', async () => {
    const entries = 1 << 22;
    const image = Buffer.alloc(4096 + entries * 8);
    qcow2(all(set64(24, BigInt(entries) * 32_768n), set32(36, entries), set64(40, 4096n))).copy(image);
    for (let entry = 0; entry < entries; entry++) {
      image.writeBigUInt64BE(0x1000_0000n + BigInt(entry) * 512n, 4096 + entry * 8);
    }
    const file = new CountedFile(image, 2 ** 50);
    assert.equal(await verdictOf(file), 'TOO_LARGE');
    assert.ok(file.bytesRead <= 8 * MEBIBYTE, `read ${file.bytesRead} bytes`);
    assert.ok(file.arrayBuffersGrowth <= 24 * MEBIBYTE, `held ${file.arrayBuffersGrowth} bytes`);
  });

  it('half a terabyte of level 2 tables past the end of the disk: not read', async () => {
    const entries = 1 << 18;
    const cluster = 2 * MEBIBYTE;
    const image = Buffer.alloc(2 * cluster + entries * 8);
    const places = all(set64(40, BigInt(2 * cluster)), set64(48, BigInt(cluster)), set32(36, entries));
    qcow2(all(set32(20, 21), places)).copy(image, 0, 0, 512);
    for (let entry = 1; entry < entries; entry++) {
      image.writeBigUInt64BE(BigInt(4 + entry) * BigInt(cluster), 2 * cluster + entry * 8);
    }
    const file = new CountedFile(image, 2 ** 50);
    assert.equal(await verdictOf(file), 'qcow2');
    assert.ok(file.bytesRead <= 8 * MEBIBYTE, `read ${file.bytesRead} bytes`);
  });
});

/** Sectors: header 0, descriptor 1 to 2, grain directory 3, grain table 4 to 7, one grain of 8 sectors at 8. */
const VMDK = { descriptor: 512, directory: 3 * SECTOR, table: 4 * SECTOR, grain: 8 * SECTOR };
const VMDK_LINES = [
  '# Disk DescriptorFile',
  'version=1',
  'CID=12345678',
  'parentCID=ffffffff',
  'createType="monolithicSparse"',
  '',
  '# Extent description',
  'RW 4096 SPARSE "disk.vmdk"',
  '',
  'ddb.adapterType = "ide"',
  '',
];

function vmdkHeader(image: Buffer): void {
  image.write('KDMV');
  image.writeUInt32LE(1, 4);
  image.writeUInt32LE(1, 8);
  image.writeBigUInt64LE(4096n, 12);
  image.writeBigUInt64LE(8n, 20);
  image.writeBigUInt64LE(1n, 28);
  image.writeBigUInt64LE(2n, 36);
  image.writeUInt32LE(512, 44);
  image.writeBigUInt64LE(3n, 56);
  image.writeBigUInt64LE(8n, 64);
  image.write('\n \r\n', 73);
}

function vmdk(change: Change = () => {}): Buffer {
  const image = Buffer.alloc(16 * SECTOR);
  vmdkHeader(image);
  image.write(VMDK_LINES.join('\n'), VMDK.descriptor);
  image.writeUInt32LE(4, VMDK.directory);
  image.writeUInt32LE(8, VMDK.table);
  image.fill(0xab, VMDK.grain);
  change(image);
  return image;
}

/** Changes the descriptor's text as a whole. */
const describing = (edit: (text: string) => string) => (image: Buffer) => {
  image.fill(0, VMDK.descriptor, VMDK.directory);
  image.write(edit(VMDK_LINES.join('\n')), VMDK.descriptor, 'latin1');
};
const line = (added: string) => describing((text) => `${text}${added}\n`);
const extent = (written: string) => describing((text) => text.replace(/RW .*/, written));

const VMDK_HEADER_CASES: readonly Case[] = [
  ['version 0', 'UNSUPPORTED_FORMAT', set32le(4, 0)],
  ['version 4', 'UNSUPPORTED_FORMAT', set32le(4, 4)],
  ['an unknown flag', 'UNSUPPORTED_FEATURE', set32le(8, 1 | (1 << 20))],
  ['line ends changed by a transfer as text', 'CORRUPT_HEADER', setText(73, '\n \n\n')],
  ['not closed', 'UNCLEAN', setText(72, '\x01')],
  ['compressed by its flag only', 'CORRUPT_HEADER', set32le(8, 1 | (3 << 16))],
  ['compressed by its algorithm only', 'CORRUPT_HEADER', setText(77, '\x01')],
  ['a disk of no bytes, its descriptor elsewhere', 'CORRUPT_HEADER', set64le(12, 0n)],
  ['a disk of 2^72 bytes', 'TOO_LARGE', set64le(12, 1n << 63n)],
  ...[0n, 1n, 7n, 9n, 1n << 14n, 1n << 55n, 1n << 63n].map(
    (sectors): Case => [`grains of ${sectors} sectors`, 'CORRUPT_HEADER', set64le(20, sectors)],
  ),
  ['no entries in a table', 'CORRUPT_HEADER', set32le(44, 0)],
  ['4294967295 entries in a table', 'CORRUPT_HEADER', set32le(44, 0xffff_ffff)],
  ['no descriptor', 'EXTERNAL_DATA_FILE', set64le(28, 0n)],
  ['a descriptor of no length', 'EXTERNAL_DATA_FILE', set64le(36, 0n)],
  ['a descriptor where qemu does not look for the parent', 'CORRUPT_HEADER', set64le(28, 2n)],
  ['a descriptor at an offset that wraps to the right one', 'CORRUPT_HEADER', set64le(28, (1n << 55n) + 1n)],
  ['a descriptor longer than the file', 'TRUNCATED', set64le(36, 100n)],
  ['a descriptor of a length that overflows', 'CORRUPT_HEADER', set64le(36, 1n << 55n)],
  ['a directory outside', 'TRUNCATED', set64le(56, 1000n)],
  ['a directory at an offset that wraps', 'TRUNCATED', set64le(56, (1n << 55n) + 3n)],
  ['a directory on the header', 'CORRUPT_HEADER', set64le(56, 0n)],
  ['a directory on the descriptor', 'CORRUPT_HEADER', set64le(56, 2n)],
  ['a directory at the end of a file that is not a stream', 'CORRUPT_HEADER', set64le(56, 0xffff_ffff_ffff_ffffn)],
  ['a redundant directory outside', 'TRUNCATED', all(set32le(8, 3), set64le(48, 1n << 40n))],
  ['a redundant directory on the directory', 'CORRUPT_HEADER', all(set32le(8, 3), set64le(48, 3n))],
  ['data that begins outside', 'TRUNCATED', set64le(64, 17n)],
  ['a table outside', 'TRUNCATED', set32le(VMDK.directory, 0xffff_ffff)],
  ['a table partly outside', 'TRUNCATED', set32le(VMDK.directory, 13)],
  ['a table that is the directory', 'CORRUPT_HEADER', set32le(VMDK.directory, 3)],
  ['a table that is the descriptor', 'CORRUPT_HEADER', set32le(VMDK.directory, 1)],
  [
    'one table twice',
    'CORRUPT_HEADER',
    all(set64le(12, 8192n), extent('RW 8192 SPARSE "x"'), set32le(VMDK.directory, 4), set32le(VMDK.directory + 4, 4)),
  ],
  [
    'two tables that overlap',
    'CORRUPT_HEADER',
    all(set64le(12, 8192n), extent('RW 8192 SPARSE "x"'), set32le(VMDK.directory, 4), set32le(VMDK.directory + 4, 5)),
  ],
  ['a directory for a disk of 16 TiB', 'TRUNCATED', all(set64le(12, 1n << 35n), extent(`RW ${2 ** 35} SPARSE "x"`))],
  ['a grain outside', 'TRUNCATED', set32le(VMDK.table, 0xffff_ffff)],
  ['a grain partly outside', 'TRUNCATED', set32le(VMDK.table, 9)],
  ['a grain that is the header', 'CORRUPT_HEADER', set32le(VMDK.table, 1)],
  [
    'one grain everywhere',
    'CORRUPT_HEADER',
    (image) => void image.fill('\x08\0\0\0', VMDK.table, VMDK.grain, 'latin1'),
  ],
];

const VMDK_DESCRIPTOR_CASES: readonly Case[] = [
  ['a parent by its identifier', 'BACKING_FILE', describing((text) => text.replace('ffffffff', '12345678'))],
  ['a parent by its name', 'BACKING_FILE', line(`parentFileNameHint="${SECRET}"`)],
  ['a parent in a comment', 'BACKING_FILE', line(`#parentFileNameHint="${SECRET}"`)],
  ['a parent in the disk database', 'BACKING_FILE', line(`ddb.comment = "parentFileNameHint=\\"${SECRET}\\""`)],
  ['a parent in other letters', 'BACKING_FILE', line(`PARENTFILENAMEHINT="${SECRET}"`)],
  [
    'a parent in the words of VirtualBox',
    'BACKING_FILE',
    line('ddb.uuid.parent="01234567-89ab-cdef-0123-456789abcdef"'),
  ],
  [
    'a parent behind the end of the text',
    'CORRUPT_HEADER',
    describing((text) => `${text}\0parentFileNameHint="${SECRET}"`),
  ],
  ['text without an end', 'CORRUPT_HEADER', describing((text) => text.padEnd(2 * SECTOR, '\n'))],
  ['a line hidden by a carriage return', 'CORRUPT_HEADER', line(`# x\rRW 8 FLAT "${SECRET}" 0`)],
  ['a line that is not understood', 'CORRUPT_HEADER', line(SECRET)],
  ['a file for tracking changes', 'UNSUPPORTED_FEATURE', line(`changeTrackPath="${SECRET}"`)],
  ['an unknown field', 'UNSUPPORTED_FEATURE', line('keySafe="vmware:key"')],
  ['one field twice', 'CORRUPT_HEADER', line('createType="monolithicSparse"')],
  ['no identifier', 'CORRUPT_HEADER', describing((text) => text.replace(/^CID=.*\n/m, ''))],
  ['no parent identifier', 'CORRUPT_HEADER', describing((text) => text.replace(/^parentCID=.*\n/m, ''))],
  ...[
    'monolithicFlat',
    'twoGbMaxExtentSparse',
    'vmfs',
    'fullDevice',
    'partitionedDevice',
    'vmfsRawDeviceMap',
    'custom',
    '',
  ].map(
    (kind): Case => [
      `of the kind «${kind}»`,
      'EXTERNAL_DATA_FILE',
      describing((text) => text.replace('monolithicSparse', kind)),
    ],
  ),
  [
    'of a kind its header is not',
    'CORRUPT_HEADER',
    describing((text) => text.replace('monolithicSparse', 'streamOptimized')),
  ],
  ['no extent', 'EXTERNAL_DATA_FILE', extent('')],
  ['a second extent', 'EXTERNAL_DATA_FILE', line('RW 4096 SPARSE "disk2.vmdk"')],
  ['a second extent of a file of the host', 'EXTERNAL_DATA_FILE', line(`RW 8 FLAT "${SECRET}" 0`)],
  ...[
    `RW 4096 FLAT "${SECRET}" 0`,
    `RW 4096 SPARSE "${SECRET}"`,
    'RW 4096 SPARSE "..\\secret.vmdk"',
    'RW 4096 SPARSE "json:{}"',
    'RW 4096 SPARSE "disk.vmdk" 0',
    'RW 4096 SPARSE disk.vmdk',
    'RW 4096 VMFS "disk-flat.vmdk"',
    'RW 4096 VMFSRDM "disk-rdm.vmdk"',
    'RW 4096 ZERO',
    'RW 4096 FLAT "\\\\.\\PhysicalDrive0" 0',
    'NOACCESS 4096 SPARSE "disk.vmdk"',
    'RW -4096 SPARSE "disk.vmdk"',
    'RW 99999999999999999999 SPARSE "disk.vmdk"',
  ].map((written): Case => [`the extent ${written}`, 'EXTERNAL_DATA_FILE', extent(written)]),
  ['an extent larger than the disk', 'CORRUPT_HEADER', extent('RW 4097 SPARSE "disk.vmdk"')],
  ['an extent smaller than the disk', 'CORRUPT_HEADER', extent('RW 4088 SPARSE "disk.vmdk"')],
];

corpus('vmdk', 'vmdk', vmdk, [...VMDK_HEADER_CASES, ...VMDK_DESCRIPTOR_CASES]);

/** As VMware writes a stream: grain at sector 8, table at 9 to 12, directory at 13, footer at 15, its markers around it. */
const STREAM = {
  grain: 8 * SECTOR,
  table: 9 * SECTOR,
  directory: 13 * SECTOR,
  marker: 14 * SECTOR,
  footer: 15 * SECTOR,
};

function stream(change: Change = () => {}): Buffer {
  const image = Buffer.alloc(17 * SECTOR);
  for (const header of [image, image.subarray(STREAM.footer)]) {
    vmdkHeader(header);
    header.writeUInt32LE(3, 4);
    header.writeUInt32LE(1 | (3 << 16), 8);
    header.writeUInt16LE(1, 77);
  }
  image.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 56);
  image.writeBigUInt64LE(13n, STREAM.footer + 56);
  // ovftool leaves out the quotes, and reads only.
  image.write(VMDK_LINES.join('\n').replace('"monolithicSparse"', 'streamOptimized').replace('RW', 'RDONLY'), 512);
  const packed = deflateSync(Buffer.alloc(4096, 0xab));
  image.writeUInt32LE(packed.length, STREAM.grain + 8);
  packed.copy(image, STREAM.grain + 12);
  image.writeUInt32LE(8, STREAM.table);
  image.writeUInt32LE(9, STREAM.directory);
  image.writeUInt32LE(3, STREAM.marker + 12);
  change(image);
  return image;
}

corpus('vmdk', 'vmdk, streamOptimized', stream, [
  ['no footer', 'TRUNCATED', setText(STREAM.footer, 'XXXX')],
  ['a footer cut off', 'TRUNCATED', () => {}, 16 * SECTOR],
  ['cut within a sector', 'TRUNCATED', () => {}, 17 * SECTOR - 1],
  ['another marker', 'TRUNCATED', set32le(STREAM.marker + 12, 2)],
  ['something after the footer', 'TRUNCATED', set32le(16 * SECTOR, 1)],
  ['a footer that points to itself', 'CORRUPT_HEADER', set64le(STREAM.footer + 56, 0xffff_ffff_ffff_ffffn)],
  ['a footer with another size of disk', 'CORRUPT_HEADER', set64le(STREAM.footer + 12, 8192n)],
  ['a footer with a disk of no bytes', 'CORRUPT_HEADER', set64le(STREAM.footer + 12, 0n)],
  ['a footer with another descriptor', 'CORRUPT_HEADER', set64le(STREAM.footer + 28, 2n)],
  ['a footer that is not compressed', 'CORRUPT_HEADER', setText(STREAM.footer + 77, '\0')],
  ['a footer with a directory outside', 'TRUNCATED', set64le(STREAM.footer + 56, 1000n)],
  ['a parent', 'BACKING_FILE', (image) => void image.write(`#parentFileNameHint="${SECRET}"`, image.indexOf(0, 512))],
  ['a last grain of no length', 'CORRUPT_HEADER', set32le(STREAM.grain + 8, 0)],
  ['a last grain longer than a grain', 'CORRUPT_HEADER', set32le(STREAM.grain + 8, 0xffff_ffff)],
  ['a last grain longer than the file', 'TRUNCATED', set32le(STREAM.grain + 8, 8192)],
]);

/** Header, block map at 512, one block of a MiB at 1024. */
function vdi(change: Change = () => {}): Buffer {
  const image = Buffer.alloc(1024 + MEBIBYTE);
  image.write('<<< Oracle VM VirtualBox Disk Image >>>\n');
  image.writeUInt32LE(0xbeda107f, 0x40);
  image.writeUInt32LE(0x0001_0001, 0x44);
  image.writeUInt32LE(400, 0x48);
  image.writeUInt32LE(1, 0x4c);
  image.writeUInt32LE(512, 0x154);
  image.writeUInt32LE(1024, 0x158);
  image.writeUInt32LE(512, 0x168);
  image.writeBigUInt64LE(BigInt(MEBIBYTE), 0x170);
  image.writeUInt32LE(MEBIBYTE, 0x178);
  image.writeUInt32LE(1, 0x180);
  image.writeUInt32LE(1, 0x184);
  image.fill(0xab, 1024);
  change(image);
  return image;
}

const vdiSize = (blocks: number) => all(set64le(0x170, BigInt(blocks) * BigInt(MEBIBYTE)), set32le(0x180, blocks));

corpus('vdi', 'vdi', vdi, [
  ['an undo image', 'BACKING_FILE', set32le(0x4c, 3)],
  ['a differencing image', 'BACKING_FILE', set32le(0x4c, 4)],
  ['an image of an unknown type', 'BACKING_FILE', set32le(0x4c, 0xffff_ffff)],
  ['a link to another image', 'BACKING_FILE', setText(0x1a8, 'x')],
  ['a parent', 'BACKING_FILE', setText(0x1c7, 'x')],
  ['version 0.1', 'UNSUPPORTED_FORMAT', set32le(0x44, 1)],
  ['a header of no length', 'CORRUPT_HEADER', set32le(0x48, 0)],
  ['a header length that overflows', 'CORRUPT_HEADER', set32le(0x48, 0xffff_ffff)],
  ['sectors of no length', 'CORRUPT_HEADER', set32le(0x168, 0)],
  ['blocks of no length', 'UNSUPPORTED_FEATURE', set32le(0x178, 0)],
  ['blocks of 4 GiB', 'UNSUPPORTED_FEATURE', set32le(0x178, 0xffff_ffff)],
  ['blocks with something in front', 'UNSUPPORTED_FEATURE', set32le(0x17c, 512)],
  ['a disk of no bytes', 'CORRUPT_HEADER', set64le(0x170, 0n)],
  ['a disk of 2^64 bytes', 'TOO_LARGE', set64le(0x170, 0xffff_ffff_ffff_ffffn)],
  ['more blocks than the disk has', 'CORRUPT_HEADER', set32le(0x180, 2)],
  ['fewer blocks than the disk has', 'CORRUPT_HEADER', set64le(0x170, BigInt(MEBIBYTE + 512))],
  ['a map longer than the space for it', 'CORRUPT_HEADER', vdiSize(1000)],
  ['a map of 16 million blocks', 'TRUNCATED', all(vdiSize(2 ** 24), set32le(0x158, 0x8000_0000))],
  ['a map outside', 'TRUNCATED', all(set32le(0x154, 0xfff0_0000), set32le(0x158, 0xffff_0000))],
  ['a map on the header', 'CORRUPT_HEADER', set32le(0x154, 0)],
  ['a map within a sector', 'CORRUPT_HEADER', set32le(0x154, 513)],
  ['data on the header', 'CORRUPT_HEADER', set32le(0x158, 0)],
  ['data on the map', 'CORRUPT_HEADER', set32le(0x158, 512)],
  ['a block outside', 'TRUNCATED', set32le(512, 1)],
  ['the last block there can be', 'TRUNCATED', set32le(512, 0xffff_fffd)],
  ['one block everywhere', 'CORRUPT_HEADER', all(vdiSize(100), (image) => void image.fill(0, 512, 1024))],
]);

/** Castagnoli's CRC over a structure whose own field, at byte 4, counts as zero; written here apart from the product's. */
function sign(structure: Buffer): void {
  structure.writeUInt32LE(0, 4);
  let crc = -1;
  for (const byte of structure) {
    for (let bit = 0; bit < 8; bit++) {
      crc = ((byte >> bit) ^ crc) & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
    }
  }
  structure.writeUInt32LE(~crc >>> 0, 4);
}

function guid(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex');
  bytes.subarray(0, 4).reverse();
  bytes.subarray(4, 6).reverse();
  bytes.subarray(6, 8).reverse();
  return bytes;
}

/** Changes both copies of a structure alike. */
const inCopies = (offsets: readonly number[], length: number) => (change: Change) => (image: Buffer) => {
  for (const offset of offsets) {
    change(image.subarray(offset, offset + length));
  }
};

/** In MiB: header 0, log 1, metadata 2, block table 3, one block 4. Items of the metadata lie 64 KiB into it. */
const VHDX = { headers: [65_536, 131_072], regions: [196_608, 262_144], metadata: 2 * MEBIBYTE, blocks: 3 * MEBIBYTE };
const inHeaders = inCopies(VHDX.headers, 4096);
const inRegions = inCopies(VHDX.regions, 65_536);
const VHDX_ITEMS = 2 * MEBIBYTE + 65_536;
const VHDX_METADATA: readonly (readonly [string, number, number])[] = [
  ['CAA16737-FA36-4D43-B3B6-33F0AA44E76B', 0, 8],
  ['2FA54224-CD1B-4876-B211-5DBED83BF4B8', 8, 8],
  ['BECA12AB-B2E6-4523-93EF-C309E000C746', 16, 16],
  ['8141BF1D-A96F-4709-BA47-F233A8FAAB5F', 32, 4],
  ['CDA348C7-445D-4471-9CC9-E9885251C556', 36, 4],
];

function vhdx(change: Change = () => {}): Buffer {
  const image = Buffer.alloc(5 * MEBIBYTE);
  image.write('vhdxfile');
  for (const [index, offset] of VHDX.headers.entries()) {
    image.write('head', offset);
    image.writeUInt32LE(index + 1, offset + 8);
    image.writeUInt16LE(1, offset + 66);
    image.writeUInt32LE(MEBIBYTE, offset + 68);
    image.writeUInt32LE(MEBIBYTE, offset + 72);
  }
  for (const offset of VHDX.regions) {
    image.write('regi', offset);
    image.writeUInt32LE(2, offset + 8);
    vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', VHDX.blocks)(image.subarray(offset));
    vhdxRegion(1, '8B7CA206-4790-4B9A-B8FE-575F050F886E', VHDX.metadata)(image.subarray(offset));
  }
  image.write('metadata', VHDX.metadata);
  for (const [index, [id, at, length]] of VHDX_METADATA.entries()) {
    vhdxItem(index, id, 65_536 + at, length)(image);
  }
  image.writeUInt16LE(VHDX_METADATA.length, VHDX.metadata + 10);
  image.writeUInt32LE(MEBIBYTE, VHDX_ITEMS);
  image.writeUInt32LE(MEBIBYTE, VHDX_ITEMS + 8);
  image.writeUInt32LE(512, VHDX_ITEMS + 32);
  image.writeUInt32LE(512, VHDX_ITEMS + 36);
  image.writeUInt32LE(4 * MEBIBYTE + 6, VHDX.blocks);
  image.fill(0xab, 4 * MEBIBYTE);
  change(image);
  inHeaders(sign)(image);
  inRegions(sign)(image);
  return image;
}

function vhdxRegion(index: number, id: string, offset: number, length = MEBIBYTE, flags = 1): Change {
  return (table) => {
    const entry = table.subarray(16 + 32 * index);
    guid(id).copy(entry);
    entry.writeBigUInt64LE(BigInt(offset), 16);
    entry.writeUInt32LE(length, 24);
    entry.writeUInt32LE(flags, 28);
  };
}

function vhdxItem(index: number, id: string, offset: number, length: number, flags = 4): Change {
  return (image) => {
    const entry = image.subarray(VHDX.metadata + 32 * (index + 1));
    guid(id).copy(entry);
    entry.writeUInt32LE(offset, 16);
    entry.writeUInt32LE(length, 20);
    entry.writeUInt32LE(flags, 24);
    image.writeUInt16LE(Math.max(index + 1, image.readUInt16LE(VHDX.metadata + 10)), VHDX.metadata + 10);
  };
}

const PARENT_LOCATOR = 'A8D35F2D-B30B-454D-ABF7-D3D84834AB0C';
const UNKNOWN = '00112233-4455-6677-8899-AABBCCDDEEFF';
const blockEntry = (value: bigint) => set64le(VHDX.blocks, value);
const block = (mebibyte: number, state = 6) => blockEntry(BigInt(mebibyte) * BigInt(MEBIBYTE) + BigInt(state));
const pendingLog = all(
  inHeaders(setText(48, 'a log identifier')),
  setText(MEBIBYTE + 8192, 'loge'),
  setText(MEBIBYTE + 8192 + 32, 'a log identifier'),
);

corpus('vhdx', 'vhdx', vhdx, [
  ['a parent by its flag', 'BACKING_FILE', set32le(VHDX_ITEMS + 4, 2)],
  ['a parent by its locator', 'BACKING_FILE', vhdxItem(5, PARENT_LOCATOR, 65_600, 100)],
  ['a parent by a locator that is not required', 'BACKING_FILE', vhdxItem(5, PARENT_LOCATOR, 0, 0, 0)],
  [
    'a parent by flag and locator',
    'BACKING_FILE',
    all(set32le(VHDX_ITEMS + 4, 3), vhdxItem(5, PARENT_LOCATOR, 65_600, 100)),
  ],
  ['a block that is partly the parent', 'BACKING_FILE', block(4, 7)],
  ['a pending log', 'UNCLEAN', pendingLog],
  ['a log outside', 'TRUNCATED', inHeaders(set64le(72, 1n << 40n))],
  ['a log of 4 GiB', 'CORRUPT_HEADER', inHeaders(set32le(68, 0xfff0_0000))],
  ['a log within a MiB', 'CORRUPT_HEADER', inHeaders(set64le(72, 4096n))],
  ['a log on the block table', 'CORRUPT_HEADER', inHeaders(set64le(72, BigInt(VHDX.blocks)))],
  ['no headers', 'CORRUPT_HEADER', inHeaders(setText(0, 'HEAD'))],
  ['headers of another version', 'CORRUPT_HEADER', inHeaders((header) => void header.writeUInt16LE(2, 66))],
  [
    'two headers of one number that differ',
    'CORRUPT_HEADER',
    all(inHeaders(set32le(8, 7)), setText(VHDX.headers[0]! + 16, 'x')),
  ],
  ['no region table', 'CORRUPT_HEADER', inRegions(setText(0, 'REGI'))],
  [
    'two region tables that differ',
    'CORRUPT_HEADER',
    (image) => vhdxRegion(1, UNKNOWN, 0, 0, 0)(image.subarray(VHDX.regions[1])),
  ],
  ['4294967295 regions', 'CORRUPT_HEADER', inRegions(set32le(8, 0xffff_ffff))],
  ['no regions', 'CORRUPT_HEADER', inRegions(set32le(8, 0))],
  [
    'one region twice',
    'CORRUPT_HEADER',
    inRegions(all(set32le(8, 3), vhdxRegion(2, '8B7CA206-4790-4B9A-B8FE-575F050F886E', MEBIBYTE * 4))),
  ],
  [
    'an unknown region that is required',
    'UNSUPPORTED_FEATURE',
    inRegions(all(set32le(8, 3), vhdxRegion(2, UNKNOWN, 4 * MEBIBYTE))),
  ],
  ['a region outside', 'TRUNCATED', inRegions(vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', 2 ** 50))],
  [
    'a region longer than the file',
    'TRUNCATED',
    inRegions(vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', VHDX.blocks, 0xfff0_0000)),
  ],
  [
    'a region within a MiB',
    'CORRUPT_HEADER',
    inRegions(vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', VHDX.blocks + 4096)),
  ],
  ['a region on the header', 'CORRUPT_HEADER', inRegions(vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', 0))],
  [
    'a block table that is the metadata',
    'CORRUPT_HEADER',
    inRegions(vhdxRegion(0, '2DC27766-F623-4200-9D64-115E9BFD4A08', VHDX.metadata)),
  ],
  ['no metadata', 'CORRUPT_HEADER', setText(VHDX.metadata, 'METADATA')],
  ['65535 items', 'CORRUPT_HEADER', (image) => void image.writeUInt16LE(65_535, VHDX.metadata + 10)],
  ['an item missing', 'CORRUPT_HEADER', vhdxItem(1, UNKNOWN, 65_536, 8, 0)],
  ['one item twice', 'CORRUPT_HEADER', vhdxItem(5, VHDX_METADATA[1]![0], 65_544, 8)],
  ['an unknown item that is required', 'UNSUPPORTED_FEATURE', vhdxItem(5, UNKNOWN, 65_600, 8)],
  ['an item within the table', 'CORRUPT_HEADER', vhdxItem(1, VHDX_METADATA[1]![0], 32, 8)],
  ['an item outside', 'CORRUPT_HEADER', vhdxItem(1, VHDX_METADATA[1]![0], 0xffff_fff8, 8)],
  ['an item whose length overflows', 'CORRUPT_HEADER', vhdxItem(1, VHDX_METADATA[1]![0], 65_544, 0xffff_ffff)],
  ['an item too short', 'CORRUPT_HEADER', vhdxItem(1, VHDX_METADATA[1]![0], 65_544, 4)],
  ['sectors of 4096 bytes', 'UNSUPPORTED_FEATURE', set32le(VHDX_ITEMS + 32, 4096)],
  ['sectors of no length', 'UNSUPPORTED_FEATURE', set32le(VHDX_ITEMS + 32, 0)],
  ...[0, 1, 512 * 1024, 3 * MEBIBYTE, 512 * MEBIBYTE].map(
    (bytes): Case => [`blocks of ${bytes} bytes`, 'CORRUPT_HEADER', set32le(VHDX_ITEMS, bytes)],
  ),
  ['a disk of no bytes', 'CORRUPT_HEADER', set64le(VHDX_ITEMS + 8, 0n)],
  ['a disk of 2^64 bytes', 'TOO_LARGE', set64le(VHDX_ITEMS + 8, HUGE)],
  ['a disk of half a sector', 'CORRUPT_HEADER', set64le(VHDX_ITEMS + 8, 768n)],
  ['a disk larger than its block table', 'CORRUPT_HEADER', set64le(VHDX_ITEMS + 8, 1n << 40n)],
  ['a block outside', 'TRUNCATED', block(5)],
  ['a block at the end of all numbers', 'TRUNCATED', blockEntry(0xffff_ffff_fff0_0006n)],
  ['a block that is the header', 'CORRUPT_HEADER', block(0)],
  ['a block that is the block table', 'CORRUPT_HEADER', block(3)],
  ['a block in a state there is not', 'CORRUPT_HEADER', block(4, 4)],
  [
    'one block everywhere',
    'CORRUPT_HEADER',
    all(set64le(VHDX_ITEMS + 8, 100n * BigInt(MEBIBYTE)), (image) => {
      for (let index = 0; index < 100; index++) {
        image.writeUInt32LE(4 * MEBIBYTE + 6, VHDX.blocks + 8 * index);
      }
    }),
  ],
  [
    'a sector bitmap',
    'CORRUPT_HEADER',
    all(set64le(VHDX_ITEMS + 8, 5000n * BigInt(MEBIBYTE)), set32le(VHDX.blocks + 4096 * 8, 4 * MEBIBYTE + 6)),
  ],
]);

describe('mutated images of the real qemu-img', () => {
  const seed = Number(process.env.BACKLOT_SEED ?? 20_240_702);
  const runs = Number(process.env.BACKLOT_RUNS ?? 300);

  const makers: readonly (readonly [DiskFormat, ...string[]])[] = [
    ['raw'],
    ['qcow2'],
    ['qcow2', '-o', 'compat=0.10,cluster_size=4k'],
    ['qcow2', '-o', 'cluster_size=512'],
    ['qcow2', '-o', 'extended_l2=on,cluster_size=16k'],
    ['qcow2', '-c'],
    ['vmdk'],
    ['vmdk', '-o', 'subformat=streamOptimized'],
    ['vhdx', '-o', 'block_size=1M'],
    ['vdi'],
    ['vdi', '-o', 'static=on'],
  ];

  interface Sample {
    readonly format: DiskFormat;
    readonly path: string;
    readonly bytes: Buffer;
    /** Places at or next to bytes that are not zero: nearly all of them are headers and tables. */
    readonly places: readonly number[];
  }

  /** Little data, so that mutations hit metadata; a partition table, so that the raw disk has some too. */
  function sourceBytes(): Buffer {
    const source = Buffer.alloc(MEBIBYTE);
    source.writeUInt8(0x83, 450);
    source.writeUInt32LE(64, 454);
    source.writeUInt32LE(1024, 458);
    source.writeUInt16LE(0xaa55, 510);
    source.write('data', 40_000);
    source.write('more data', 800_000);
    return source;
  }

  async function makeSamples(): Promise<Sample[]> {
    const source = join(directory, 'source.bin');
    await writeFile(source, sourceBytes());
    const samples: Sample[] = [];
    for (const [index, [format, ...options]] of makers.entries()) {
      const path = join(directory, `mutated-${index}.img`);
      await run('qemu-img', ['convert', '-f', 'raw', '-O', format, ...options, source, path]);
      const bytes = await readFile(path);
      const places = new Set<number>();
      for (let at = 0; at < bytes.length; at++) {
        if (bytes[at] !== 0) {
          for (const step of [-4, -1, 0, 1, 4, 8]) {
            places.add(Math.min(bytes.length - 1, Math.max(0, at + step)));
          }
        }
      }
      samples.push({ format, path, bytes, places: [...places] });
    }
    return samples;
  }

  const words = [
    `parentFileNameHint="${SECRET}"\n`,
    `RW 8 FLAT "${SECRET}" 0\n`,
    SECRET,
    'json:{"driver":"file","filename":"/etc/passwd"}',
    'monolithicFlat',
    '\n#',
    'QFI\xfb\0\0\0\x03',
    'KDMV',
    'vhdxfile',
    '\xff\xff\xff\xff\xff\xff\xff\xff',
  ].map((word) => Buffer.from(word, 'latin1'));

  const mutation = fc.record({
    place: fc.nat(),
    bytes: fc.oneof(
      { weight: 4, arbitrary: fc.uint8Array({ minLength: 1, maxLength: 8 }) },
      { weight: 1, arbitrary: fc.constantFrom(...words) },
    ),
  });
  const attack = fc.record({
    sample: fc.nat(makers.length - 1),
    mutations: fc.array(mutation, { minLength: 0, maxLength: 4 }),
    /** How much of the file is cut off, as a fraction; most keep it whole. */
    cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 4 }),
  });

  it(`accepted or refused, never led elsewhere (seed ${seed}, ${runs} runs)`, async (t) => {
    const samples = await makeSamples();
    const counts = { refused: 0, accepted: 0 };
    const property = fc.asyncProperty(attack, async ({ sample: index, mutations, cut }) => {
      const { path, bytes, places } = samples[index]!;
      const mutated = Buffer.from(bytes);
      for (const { place, bytes: written } of mutations) {
        mutated.set(
          written.subarray(0, mutated.length - places[place % places.length]!),
          places[place % places.length]!,
        );
      }
      await writeFile(path, mutated.subarray(0, Math.ceil(bytes.length * (1 - (cut ?? 0)))));
      const handle = await open(path, 'r');
      try {
        const format = await verdictOf(handle);
        if (format !== format.toLowerCase()) {
          counts.refused++;
          return;
        }
        counts.accepted++;
        const { virtualBytes } = await inspectDisk(handle);
        const info = await qemuInfo(format as DiskFormat, path);
        assert.deepEqual(info, { virtualBytes });
      } finally {
        await handle.close();
      }
    });
    await fc.assert(property, { seed, numRuns: runs });
    t.diagnostic(`seed ${seed}: ${JSON.stringify(counts)}`);
    assert.ok(counts.accepted > runs / 20 && counts.refused > runs / 20, 'both outcomes are exercised');
  });
});
