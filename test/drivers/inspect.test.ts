/**
 * The disk inspector against images the real qemu-img wrote.
 *
 * What it accepts must be what qemu-img says it is, and a truncated image is refused unless qemu-img itself finds that
 * nothing is missing from it. Nothing here is built by hand but partition tables; the hostile images are in
 * test/security/hostile-images.test.ts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { copyFile, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import {
  type DiskDescription,
  type DiskFormat,
  DiskRefused,
  type DiskRefusedCode,
  type InspectOptions,
  inspectDisk,
} from '../../src/images/inspect.ts';

const run = promisify(execFile);

const MEBIBYTE = 2 ** 20;
/** Not a whole number of clusters, grains or blocks, so that the last one is only partly the disk's. */
const SOURCE_BYTES = 3 * MEBIBYTE + 5 * 512;

let directory = '';
let source = '';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'backlot-inspect-'));
  source = join(directory, 'source.bin');
  await writeFile(source, sourceBytes());
});

after(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Data at both ends and in the middle, holes between: every kind of cluster comes up. */
function sourceBytes(): Buffer {
  const bytes = Buffer.alloc(SOURCE_BYTES);
  let state = 1;
  const scribble = (from: number, length: number) => {
    for (let offset = from; offset < from + length; offset++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      bytes[offset] = state >>> 16;
    }
  };
  scribble(0, 100_000);
  scribble(MEBIBYTE, 70_000);
  scribble(SOURCE_BYTES - 30_000, 30_000);
  bytes.fill('A compressible stretch. ', 2 * MEBIBYTE, 2 * MEBIBYTE + 200_000);
  // A boot sector's signature would make the scribble a partition table.
  bytes.fill(0, 440, 512);
  return bytes;
}

async function inspect(path: string, options?: InspectOptions): Promise<DiskDescription> {
  const handle = await open(path, 'r');
  try {
    return await inspectDisk(handle, options);
  } finally {
    await handle.close();
  }
}

async function verdict(path: string, options?: InspectOptions): Promise<DiskRefusedCode | DiskFormat> {
  try {
    return (await inspect(path, options)).format;
  } catch (error) {
    assert.ok(error instanceof DiskRefused, `not a refusal: ${error}`);
    assert.match(error.message, /^[A-Z].{20,220}\.$/, 'one sentence for a person');
    return error.code;
  }
}

async function qemuImg(...words: string[]): Promise<string> {
  return (await run('qemu-img', words, { timeout: 120_000 })).stdout;
}

interface Sample {
  readonly name: string;
  readonly format: DiskFormat;
  /** Words of qemu-img that make it; SOURCE and OUT stand for the paths. */
  readonly make: readonly string[];
  /** False where qemu-img would take seconds to say whether a cut lost anything. */
  readonly cut?: boolean;
}

function convert(name: string, format: DiskFormat, ...options: string[]): Sample {
  return { name, format, make: ['convert', '-O', format, ...options, 'SOURCE', 'OUT'] };
}

function create(name: string, format: DiskFormat, size: string, ...options: string[]): Sample {
  return { name, format, make: ['create', '-q', '-f', format, ...options, 'OUT', size] };
}

const CLUSTER_SIZES = ['512', '1k', '4k', '64k', '256k', '1M', '2M'];

const ACCEPTED: readonly Sample[] = [
  convert('raw with data', 'raw'),
  create('raw, sparse', 'raw', '5M'),
  create('raw, preallocated', 'raw', '1M', '-o', 'preallocation=full'),
  ...CLUSTER_SIZES.map((size) => convert(`qcow2, clusters of ${size}`, 'qcow2', '-o', `cluster_size=${size}`)),
  create('qcow2, empty', 'qcow2', '10G'),
  create('qcow2, empty, 15 TiB', 'qcow2', '15T'),
  create('qcow2, metadata preallocated', 'qcow2', '3M', '-o', 'preallocation=metadata'),
  create('qcow2, fully preallocated', 'qcow2', '3M', '-o', 'preallocation=full'),
  convert('qcow2, compat 0.10', 'qcow2', '-o', 'compat=0.10'),
  convert('qcow2, compat 1.1, lazy refcounts', 'qcow2', '-o', 'compat=1.1,lazy_refcounts=on'),
  convert('qcow2, refcounts of one bit', 'qcow2', '-o', 'refcount_bits=1'),
  convert('qcow2, compressed by deflate', 'qcow2', '-c'),
  convert('qcow2, compressed by deflate, clusters of 512', 'qcow2', '-c', '-o', 'cluster_size=512'),
  convert('qcow2, compressed by deflate, clusters of 2M', 'qcow2', '-c', '-o', 'cluster_size=2M'),
  convert('qcow2, compressed by zstd', 'qcow2', '-c', '-o', 'compression_type=zstd'),
  convert('qcow2, extended level 2 entries', 'qcow2', '-o', 'extended_l2=on'),
  convert('qcow2, extended level 2 entries, compressed', 'qcow2', '-c', '-o', 'extended_l2=on,cluster_size=128k'),
  create('qcow2, extended and preallocated', 'qcow2', '3M', '-o', 'extended_l2=on,preallocation=metadata'),
  convert('vmdk, monolithicSparse', 'vmdk'),
  convert('vmdk, monolithicSparse, zeroed grains', 'vmdk', '-o', 'zeroed_grain=on'),
  create('vmdk, monolithicSparse, empty', 'vmdk', '20G'),
  convert('vmdk, streamOptimized', 'vmdk', '-o', 'subformat=streamOptimized'),
  convert('vhdx, dynamic', 'vhdx', '-o', 'subformat=dynamic'),
  convert('vhdx, dynamic, blocks of 1M', 'vhdx', '-o', 'block_size=1M'),
  convert('vhdx, fixed', 'vhdx', '-o', 'subformat=fixed,block_size=2M'),
  { ...create('vhdx, more blocks than one bitmap covers', 'vhdx', '9G', '-o', 'block_size=1M'), cut: false },
  convert('vdi, dynamic', 'vdi'),
  convert('vdi, fixed', 'vdi', '-o', 'static=on'),
  create('vdi, empty', 'vdi', '20G'),
];

async function make(words: readonly string[], fileName: string): Promise<string> {
  const path = join(directory, fileName);
  await rm(path, { force: true });
  await qemuImg(...words.map((word) => (word === 'OUT' ? path : word === 'SOURCE' ? source : word)));
  return path;
}

/** What remains is asked of qemu-img: a cut through padding may lose nothing. */
async function assertCutsRefused(path: string, format: DiskFormat): Promise<void> {
  const whole = join(directory, 'whole');
  await copyFile(path, whole);
  const { size } = await stat(path);
  const cuts = [size - 1, size - 511, size - 512, size - 4096, size - 65_536, size - MEBIBYTE]
    .concat([0.9, 0.75, 0.5, 0.25, 0.1].map((part) => Math.floor((size * part) / 512) * 512))
    .concat([4096, 1024, 512, 511, 100, 72, 68, 40, 8, 4, 1]);
  for (const cut of cuts.filter((bytes) => bytes > 0 && bytes < size).sort((left, right) => right - left)) {
    await truncate(path, cut);
    const outcome = await verdict(path);
    if (outcome === format) {
      const comparison = await qemuImg('compare', '-f', format, '-F', format, whole, path);
      assert.match(comparison, /identical/, `cut from ${size} to ${cut} bytes was accepted and lost data`);
    } else {
      assert.equal(outcome, 'TRUNCATED', `cut from ${size} to ${cut} bytes`);
    }
  }
}

describe('a disk qemu-img made is what qemu-img says', () => {
  for (const sample of ACCEPTED) {
    it(sample.name, async () => {
      const path = await make(sample.make, `sample.${sample.format}`);
      const info = JSON.parse(await qemuImg('info', '--output=json', '-f', sample.format, path));
      const { size } = await stat(path);
      assert.deepEqual(await inspect(path, { nameHint: path }), {
        format: sample.format,
        fileBytes: size,
        virtualBytes: info['virtual-size'],
      });
      if (sample.format !== 'raw' && sample.cut !== false) {
        await assertCutsRefused(path, sample.format);
      }
    });
  }
});

it('a vmdk whose descriptor was written over a longer one is accepted: qemu-img leaves a line end behind', async () => {
  const path = join(directory, 'rewritten.vmdk');
  await qemuImg('create', '-q', '-f', 'vmdk', path, '1M');
  const bytes = await readFile(path);
  const end = bytes.indexOf(0, 512);
  bytes.writeUInt8(0x0a, end + 1);
  await writeFile(path, bytes);
  assert.equal(await verdict(path), 'vmdk');
});

describe('a disk that is not whole on its own is refused', () => {
  const base = ['convert', '-O', 'qcow2', 'SOURCE', 'OUT'];
  const secret = ['--object', 'secret,id=s0,data=0123456789abcdef'];
  const luks = ['-o', 'encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10'];
  const cases: readonly (readonly [string, DiskRefusedCode, ...(readonly string[])[]])[] = [
    ['qcow2 with a backing file', 'BACKING_FILE', ['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', 'SOURCE', 'OUT']],
    [
      'qcow2 version 2 with a backing file',
      'BACKING_FILE',
      ['create', '-q', '-f', 'qcow2', '-o', 'compat=0.10', '-F', 'raw', '-b', 'SOURCE', 'OUT'],
    ],
    [
      'qcow2 with a data file',
      'EXTERNAL_DATA_FILE',
      ['create', '-q', '-f', 'qcow2', '-o', 'data_file=OUT.data', 'OUT', '1M'],
    ],
    [
      'qcow2 with a raw data file',
      'EXTERNAL_DATA_FILE',
      ['create', '-q', '-f', 'qcow2', '-o', 'data_file=OUT.data,data_file_raw=on', 'OUT', '1M'],
    ],
    ['qcow2 encrypted by LUKS', 'ENCRYPTED', ['create', '-q', ...secret, '-f', 'qcow2', ...luks, 'OUT', '1M']],
    [
      'qcow2 encrypted by AES',
      'ENCRYPTED',
      ['create', '-q', ...secret, '-f', 'qcow2', '-o', 'encrypt.format=aes,encrypt.key-secret=s0', 'OUT', '1M'],
    ],
    ['qcow2 with a bitmap', 'UNSUPPORTED_FEATURE', base, ['bitmap', '--add', 'OUT', 'changes']],
    [
      'vmdk with a parent',
      'BACKING_FILE',
      ['convert', '-O', 'vmdk', 'SOURCE', 'PARENT'],
      ['create', '-q', '-f', 'vmdk', '-F', 'vmdk', '-b', 'PARENT', 'OUT'],
    ],
    ...['monolithicFlat', 'twoGbMaxExtentSparse', 'twoGbMaxExtentFlat'].map(
      (kind) =>
        [
          `vmdk, ${kind}`,
          'EXTERNAL_DATA_FILE',
          ['create', '-q', '-f', 'vmdk', '-o', `subformat=${kind}`, 'OUT', '1M'],
        ] as const,
    ),
    ...['qcow', 'qed', 'vpc', 'parallels'].map(
      (format) => [format, 'UNSUPPORTED_FORMAT', ['convert', '-O', format, 'SOURCE', 'OUT']] as const,
    ),
    ['vpc, fixed', 'UNSUPPORTED_FORMAT', ['convert', '-O', 'vpc', '-o', 'subformat=fixed', 'SOURCE', 'OUT']],
  ];
  for (const [name, code, ...steps] of cases) {
    it(name, async () => {
      const path = join(directory, 'refused.img');
      const parent = join(directory, 'parent.img');
      await rm(path, { force: true });
      for (const step of steps) {
        const words = step.map((word) => word.replace('PARENT', parent).replace('OUT', path).replace('SOURCE', source));
        await qemuImg(...words);
      }
      assert.equal(await verdict(path), code);
    });
  }

  it('one piece of a split vmdk', async () => {
    await make(['create', '-q', '-f', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse', 'OUT', '1M'], 'split.vmdk');
    assert.equal(await verdict(join(directory, 'split-s001.vmdk')), 'EXTERNAL_DATA_FILE');
    await make(['create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', 'OUT', '1M'], 'flat.vmdk');
    const flat = join(directory, 'flat-flat.vmdk');
    assert.equal(await verdict(flat), 'raw');
    assert.equal(await verdict(flat, { nameHint: flat }), 'FORMAT_MISMATCH');
  });

  it('qcow2 with a snapshot, until that is deleted', async () => {
    const path = await make(base, 'snapshots.qcow2');
    await qemuImg('snapshot', '-c', 'before', path);
    assert.equal(await verdict(path), 'HAS_SNAPSHOTS');
    await qemuImg('snapshot', '-d', 'before', path);
    assert.equal(await verdict(path), 'qcow2');
  });

  it('qcow2 whose writer was killed', async () => {
    const path = await make(['create', '-q', '-f', 'qcow2', '-o', 'lazy_refcounts=on', 'OUT', '1M'], 'killed.qcow2');
    const killed = run('qemu-io', ['-f', 'qcow2', '-c', 'write 0 64k', '-c', 'sigraise 9', path]);
    await assert.rejects(killed, { signal: 'SIGKILL' });
    assert.equal(await verdict(path), 'UNCLEAN');
    await qemuImg('check', '-q', '-r', 'all', '-f', 'qcow2', path);
    assert.equal(await verdict(path), 'qcow2');
  });
});

describe('what is not a disk image is refused', () => {
  const padded = (bytes: Buffer | string, at = 0) => {
    const file = Buffer.alloc(64 * 1024);
    (typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes).copy(file, at);
    return file;
  };
  const cases: readonly (readonly [string, DiskRefusedCode, Buffer])[] = [
    ['empty', 'EMPTY_FILE', Buffer.alloc(0)],
    ['one byte', 'TRUNCATED', Buffer.alloc(1)],
    ['less than a sector', 'TRUNCATED', Buffer.alloc(511)],
    ['no whole number of sectors', 'TRUNCATED', Buffer.alloc(1000)],
    ['JSON', 'UNSUPPORTED_FORMAT', Buffer.from(`json:{"driver":"raw"}${' '.repeat(491)}`)],
    ['XML', 'UNSUPPORTED_FORMAT', Buffer.from(`<?xml version="1.0"?>\n${'<Envelope/>\n'.repeat(100)}`)],
    ['LUKS', 'ENCRYPTED', padded('LUKS\xba\xbe\x00\x01')],
    ['gzip', 'UNSUPPORTED_FORMAT', gzipSync(Buffer.alloc(100_000))],
    ['zstd', 'UNSUPPORTED_FORMAT', zstdCompressSync(Buffer.alloc(100_000))],
    ['xz', 'UNSUPPORTED_FORMAT', padded('\xfd7zXZ\x00')],
    ['bzip2', 'UNSUPPORTED_FORMAT', padded('BZh91AY&SY')],
    ['zip', 'UNSUPPORTED_FORMAT', padded('PK\x03\x04')],
    ['7z', 'UNSUPPORTED_FORMAT', padded('7z\xbc\xaf\x27\x1c')],
    ['the signature of a tar, and no header', 'CORRUPT_HEADER', padded('ustar', 0x101)],
    ['ISO 9660', 'UNSUPPORTED_FORMAT', padded('\x01CD001\x01', 32 * 1024)],
    ['hybrid ISO 9660', 'UNSUPPORTED_FORMAT', withPartitions(padded('\x01CD001\x01', 32 * 1024), [[0x83, 1, 64]])],
    ['ELF', 'UNSUPPORTED_FORMAT', padded('\x7fELF')],
    ['PDF', 'UNSUPPORTED_FORMAT', padded('%PDF-1.7')],
    ['PNG', 'UNSUPPORTED_FORMAT', padded('\x89PNG\r\n\x1a\n')],
    ['bochs', 'UNSUPPORTED_FORMAT', padded('Bochs Virtual HD Image')],
    ['cloop', 'UNSUPPORTED_FORMAT', padded('#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0')],
    ['dmg', 'UNSUPPORTED_FORMAT', padded('koly', 64 * 1024 - 512)],
    ['VMware ESX sparse', 'UNSUPPORTED_FORMAT', padded('COWD')],
    [
      'vmdk descriptor behind comments of any bytes',
      'EXTERNAL_DATA_FILE',
      padded('#\x00\x01\n#\n version=1\nRW 1 FLAT "x" 0'),
    ],
  ];
  for (const [name, code, bytes] of cases) {
    it(name, async () => {
      const path = join(directory, 'other.img');
      await writeFile(path, bytes);
      assert.equal(await verdict(path), code);
    });
  }

  it('a directory and a device', async () => {
    assert.equal(await verdict(directory), 'NOT_A_FILE');
    assert.equal(await verdict('/dev/null'), 'NOT_A_FILE');
  });
});

type Partition = readonly [type: number, firstSector: number, sectors: number];

/** Writes a master boot record over the start of `disk`. */
function withPartitions(disk: Buffer, partitions: readonly Partition[]): Buffer {
  const written = Buffer.from(disk);
  for (const [index, [type, firstSector, sectors]] of partitions.entries()) {
    const offset = 446 + index * 16;
    written.writeUInt8(type, offset + 4);
    written.writeUInt32LE(firstSector, offset + 8);
    written.writeUInt32LE(sectors, offset + 12);
  }
  written.writeUInt16LE(0xaa55, 510);
  return written;
}

/** A disk of one MiB with a GUID partition table of one partition, for sectors of either size. */
function guidDisk(sectorBytes: number, changes: { alternate?: number; lastSector?: number } = {}): Buffer {
  const sectors = MEBIBYTE / sectorBytes;
  const disk = withPartitions(Buffer.alloc(MEBIBYTE), [[0xee, 1, 0xffff_ffff]]);
  disk.write('EFI PART', sectorBytes, 'latin1');
  const header = disk.subarray(sectorBytes);
  header.writeUInt32LE(92, 12);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(changes.alternate ?? sectors - 1), 32);
  header.writeBigUInt64LE(BigInt(sectors - 10), 48);
  header.writeBigUInt64LE(2n, 72);
  header.writeUInt32LE(128, 80);
  header.writeUInt32LE(128, 84);
  const entry = disk.subarray(2 * sectorBytes);
  entry.fill(0x11, 0, 32);
  entry.writeBigUInt64LE(BigInt(changes.lastSector ?? sectors - 10), 40);
  return disk;
}

describe('a raw disk is measured by its partition table', () => {
  const blank = Buffer.alloc(MEBIBYTE);
  const sectors = MEBIBYTE / 512;
  const jump = Buffer.from('\xeb\x3c\x90mkfs.fat', 'latin1');
  const cases: readonly (readonly [string, DiskRefusedCode | 'raw', Buffer])[] = [
    ['all zeros', 'raw', blank],
    ['a partition up to the last sector', 'raw', withPartitions(blank, [[0x83, 1, sectors - 1]])],
    ['a partition one sector too long', 'TRUNCATED', withPartitions(blank, [[0x83, 1, sectors]])],
    [
      'a last partition outside',
      'TRUNCATED',
      withPartitions(blank, [
        [0x83, 1, 8],
        [0x82, sectors, 1],
      ]),
    ],
    ['an unused record outside', 'raw', withPartitions(blank, [[0, 1, 0xffff_ffff]])],
    [
      'a bare file system',
      'raw',
      withPartitions(Buffer.concat([jump, Buffer.alloc(435, 0x41), blank.subarray(446)]), [
        [0x41, 7, 0x4141_4141],
      ]).fill(0x41, 446, 447),
    ],
    ['GPT', 'raw', guidDisk(512)],
    ['GPT with sectors of 4096', 'raw', guidDisk(4096)],
    ['GPT whose copy is cut off', 'TRUNCATED', guidDisk(512, { alternate: sectors })],
    ['GPT with a partition outside', 'TRUNCATED', guidDisk(512, { lastSector: sectors })],
    ['GPT cut to half', 'TRUNCATED', guidDisk(512).subarray(0, MEBIBYTE / 2)],
    ['GPT cut to one sector', 'TRUNCATED', guidDisk(512).subarray(0, 512)],
    ['a protective record with nothing to protect', 'CORRUPT_HEADER', withPartitions(blank, [[0xee, 1, 100]])],
  ];
  for (const [name, expected, bytes] of cases) {
    it(name, async () => {
      const path = join(directory, 'disk.raw');
      await writeFile(path, bytes);
      assert.equal(await verdict(path, { nameHint: 'disk.raw' }), expected);
    });
  }
});

describe('a name is a claim', () => {
  const names: readonly (readonly [DiskFormat, string, boolean])[] = [
    ['qcow2', 'disk.qcow2', true],
    ['qcow2', 'DISK.QCOW', true],
    ['qcow2', 'disk.img', true],
    ['qcow2', 'disk', true],
    ['qcow2', 'my.raw.qcow2', true],
    ['qcow2', 'disk.raw', false],
    ['qcow2', 'disk.vmdk', false],
    ['raw', 'disk.raw', true],
    ['raw', 'disk.bin', true],
    ['raw', 'disk.disk', true],
    ['raw', 'constructor', true],
    ['raw', 'disk.constructor', true],
    ['raw', 'disk.qcow2', false],
    ['raw', 'disk.VHDX', false],
    ['raw', 'disk.vhd', false],
    ['vdi', 'disk.vdi', true],
    ['vdi', 'disk.vhdx', false],
    ['vmdk', 'disk.vmdk', true],
    ['vmdk', 'disk.vdi', false],
  ];
  for (const [format, nameHint, agrees] of names) {
    it(`${format} called ${nameHint}`, async () => {
      const path = await make(['create', '-q', '-f', format, 'OUT', '1M'], `claim-${format}`);
      assert.equal(await verdict(path, { nameHint }), agrees ? format : 'FORMAT_MISMATCH');
    });
  }
});

describe('the disk inside may be too large', () => {
  for (const format of ['raw', 'qcow2', 'vmdk', 'vhdx', 'vdi'] as const) {
    it(format, async () => {
      const path = await make(['create', '-q', '-f', format, 'OUT', '4M'], `large-${format}`);
      assert.equal(await verdict(path, { virtualBytesMax: 4 * MEBIBYTE }), format);
      assert.equal(await verdict(path, { virtualBytesMax: 4 * MEBIBYTE - 1 }), 'TOO_LARGE');
    });
  }

  it('16 TiB unless said otherwise', async () => {
    const path = await make(['create', '-q', '-f', 'qcow2', 'OUT', '17T'], 'large.qcow2');
    assert.equal(await verdict(path), 'TOO_LARGE');
    assert.equal(await verdict(path, { virtualBytesMax: 17 * 2 ** 40 }), 'qcow2');
  });
});

it('a compressed cluster may end within the last sector of the file, and is unpacked to see that it is whole', async () => {
  const path = await make(['convert', '-O', 'qcow2', '-c', 'SOURCE', 'OUT'], 'tail.qcow2');
  const bytes = await readFile(path);
  const end = bytes.findLastIndex((byte) => byte !== 0) + 1;
  assert.notEqual(end, bytes.length, 'the sample ends in padding');
  await truncate(path, end);
  assert.equal(await verdict(path), 'qcow2');
  await truncate(path, end - 1);
  assert.equal(await verdict(path), 'TRUNCATED');
});
