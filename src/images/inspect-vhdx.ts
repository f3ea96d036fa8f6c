/**
 * Decides whether a VHDX image is a whole, clean disk on its own: dynamic or fixed, no parent, no pending log, and every
 * region and block inside the file.
 *
 * Sections are those of Microsoft's MS-VHDX. Where its copies (two headers, two region tables) could send two readers to
 * two different disks, this refuses. It must never replay a log, and never trust a structure whose checksum is wrong.
 */
import {
  type DiskReader,
  type FileRange,
  isPowerOfTwo,
  overlaps,
  readUint64LittleEndian,
  refuse,
  refuseCorrupt,
  refuseTruncated,
  requireApart,
  requireVirtualBytes,
} from './inspect-reader.ts';
import { readVhdxMetadata } from './inspect-vhdx-metadata.ts';

const MEBIBYTE = 2 ** 20;

/** 2.2: the header section, always the first MiB; its parts are 64 KiB apart. */
const HEADER_SECTION: FileRange = { offset: 0, length: MEBIBYTE };
const HEADER_OFFSETS = [64 * 1024, 128 * 1024];
const HEADER_BYTES = 4096;
const REGION_TABLE_OFFSETS = [192 * 1024, 256 * 1024];
const REGION_TABLE_BYTES = 64 * 1024;
const REGIONS_MAX = 2047;
const REGION_REQUIRED = 1;

/** 2.2.3.2, in the byte order of the file. */
const REGION_BLOCKS = '6677c22d23f600429d64115e9bfd4a08';
const REGION_METADATA = '06a27c8b90479a4bb8fe575f050f886e';

/** 2.3: entries start on 4 KiB; Hyper-V writes logs of 1 MiB. */
const LOG_ENTRY_ALIGNMENT_BYTES = 4096;
const LOG_BYTES_MAX = 256 * MEBIBYTE;

/** 2.5.1.1: states of a payload block. */
const BLOCK_FULLY_PRESENT = 6;
const BLOCK_PARTIALLY_PRESENT = 7;
const BLOCK_STATE_UNASSIGNED = 4;
const BLOCKS = 'the data its block table points to';

interface VhdxRegions {
  readonly blockTable: FileRange;
  readonly metadata: FileRange;
  /** Everything that data may not lie on. */
  readonly fixed: readonly FileRange[];
}

interface BlockLayout {
  readonly virtualBytes: number;
  readonly blockBytes: number;
  readonly blocks: number;
  /** How many blocks share a sector bitmap, 2.5: after each so many entries stands one for the bitmap. */
  readonly chunkRatio: number;
}

export async function inspectVhdx(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  reader.requireInside(0, MEBIBYTE, 'its header');
  const header = await readActiveHeader(reader);
  const log = await checkLog(reader, header);
  const regions = await readRegions(reader, log);
  const metadata = await readVhdxMetadata(reader, regions.metadata);
  const { virtualBytes, blockBytes } = metadata;
  requireVirtualBytes(virtualBytes, virtualBytesMax);
  if (!isPowerOfTwo(blockBytes) || blockBytes < MEBIBYTE || blockBytes > 256 * MEBIBYTE) {
    refuseCorrupt('its blocks have an impossible size');
  }
  const layout = {
    virtualBytes,
    blockBytes,
    blocks: Math.ceil(virtualBytes / blockBytes),
    chunkRatio: (2 ** 23 * metadata.sectorBytes) / blockBytes,
  };
  await checkBlockTable(reader, regions, layout);
  return virtualBytes;
}

/** 2.2.2: of two valid headers the one with the higher sequence number counts. */
async function readActiveHeader(reader: DiskReader): Promise<Buffer> {
  const headers: Buffer[] = [];
  for (const offset of HEADER_OFFSETS) {
    const header = await reader.bytes(offset, HEADER_BYTES, 'its header');
    if (header.toString('latin1', 0, 4) === 'head' && header.readUInt16LE(66) === 1 && checksumIsRight(header)) {
      headers.push(header);
    }
  }
  const [first, second] = headers;
  if (first === undefined) {
    refuseCorrupt('neither of its headers is valid');
  }
  if (second === undefined) {
    return first;
  }
  const difference = first.readBigUInt64LE(8) - second.readBigUInt64LE(8);
  // Disk2vhd writes both alike.
  if (difference === 0n && !first.equals(second)) {
    refuseCorrupt('its headers contradict each other');
  }
  return difference >= 0n ? first : second;
}

/** 2.3: entries that carry the header's log identifier are changes that have not reached the disk yet. */
async function checkLog(reader: DiskReader, header: Buffer): Promise<FileRange> {
  const log = { offset: readUint64LittleEndian(header, 72), length: header.readUInt32LE(68) };
  if (log.offset % MEBIBYTE !== 0 || log.length % MEBIBYTE !== 0 || log.length > LOG_BYTES_MAX) {
    refuseCorrupt('its log lies at an impossible place');
  }
  reader.requireInside(log.offset, log.length, 'its log');
  const identifier = header.subarray(48, 64);
  if (identifier.some((byte) => byte !== 0)) {
    for await (const chunk of reader.chunks(log.offset, log.length, 'its log')) {
      for (let position = 0; position < chunk.length; position += LOG_ENTRY_ALIGNMENT_BYTES) {
        const signature = chunk.toString('latin1', position, position + 4);
        if (signature === 'loge' && chunk.subarray(position + 32, position + 48).equals(identifier)) {
          refuse(
            'UNCLEAN',
            'This VHDX image was not closed properly; shut its virtual machine down, then attach and detach the image ' +
              'once in Windows, or repair it with: qemu-img check -r all IMAGE.',
          );
        }
      }
    }
  }
  return log;
}

/** 2.2.3: both copies are the same; a copy whose checksum is wrong does not count, but qemu reads only the first. */
async function readRegions(reader: DiskReader, log: FileRange): Promise<VhdxRegions> {
  const table = await reader.bytes(REGION_TABLE_OFFSETS[0]!, REGION_TABLE_BYTES, 'its region table');
  const copy = await reader.bytes(REGION_TABLE_OFFSETS[1]!, REGION_TABLE_BYTES, 'its region table');
  const entries = table.readUInt32LE(8);
  if (table.toString('latin1', 0, 4) !== 'regi' || !checksumIsRight(table) || entries > REGIONS_MAX) {
    refuseCorrupt('its region table is not valid');
  }
  if (checksumIsRight(copy) && !copy.equals(table)) {
    refuseCorrupt('its region tables contradict each other');
  }
  const found = new Map<string, FileRange>();
  const fixed: FileRange[] = [HEADER_SECTION, ...(log.length === 0 ? [] : [log])];
  for (let index = 0; index < entries; index++) {
    const entry = table.subarray(16 + index * 32, 48 + index * 32);
    const kind = entry.toString('hex', 0, 16);
    const region = { offset: readUint64LittleEndian(entry, 16), length: entry.readUInt32LE(24) };
    checkRegion(reader, region, kind, entry.readUInt32LE(28));
    if (found.has(kind)) {
      refuseCorrupt('one of its regions is there twice');
    }
    found.set(kind, region);
    fixed.push(region);
  }
  requireApart(fixed);
  const blockTable = found.get(REGION_BLOCKS);
  const metadata = found.get(REGION_METADATA);
  if (blockTable === undefined || metadata === undefined) {
    refuseCorrupt('it lacks its block table or its metadata');
  }
  return { blockTable, metadata, fixed };
}

function checkRegion(reader: DiskReader, region: FileRange, kind: string, flags: number): void {
  if (kind !== REGION_BLOCKS && kind !== REGION_METADATA && (flags & REGION_REQUIRED) !== 0) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'This VHDX image uses a feature that is not known; copy it with Convert-VHD in Windows PowerShell.',
    );
  }
  reader.requireInside(region.offset, region.length, 'one of its regions');
  if (region.offset % MEBIBYTE !== 0 || region.length % MEBIBYTE !== 0 || region.length === 0) {
    refuseCorrupt('one of its regions lies at an impossible place');
  }
}

async function checkBlockTable(reader: DiskReader, regions: VhdxRegions, layout: BlockLayout): Promise<void> {
  const entries = layout.blocks + Math.floor((layout.blocks - 1) / layout.chunkRatio);
  if (entries * 8 > regions.blockTable.length) {
    refuseCorrupt('its block table does not fit the size of the disk');
  }
  let allocatedBytes = 0;
  let index = 0;
  for await (const chunk of reader.chunks(regions.blockTable.offset, entries * 8, 'its block table')) {
    for (let position = 0; position < chunk.length; position += 8, index++) {
      const low = chunk.readUInt32LE(position);
      const isBitmap = index % (layout.chunkRatio + 1) === layout.chunkRatio;
      if (isBitmap ? (low & 7) !== 0 : !isPayloadState(low & 7)) {
        refuseCorrupt('its block table holds an impossible entry');
      }
      if (!isBitmap && (low & 7) === BLOCK_FULLY_PRESENT) {
        const offset = readUint64LittleEndian(chunk, position) - (low & 0xf_ffff);
        const isLast = index === entries - 1;
        allocatedBytes += checkBlock(reader, regions, layout, offset, isLast);
      }
    }
  }
  if (allocatedBytes > reader.fileBytes) {
    refuseCorrupt('it refers to more data than it holds');
  }
}

function isPayloadState(state: number): boolean {
  if (state === BLOCK_PARTIALLY_PRESENT) {
    refuse(
      'BACKING_FILE',
      'This VHDX image holds only the changes to a parent disk; merge them with Merge-VHD in Windows PowerShell.',
    );
  }
  return state !== BLOCK_STATE_UNASSIGNED;
}

/** Answers how much of the file the block takes. Old versions of qemu wrote the last one only as far as the disk goes. */
function checkBlock(
  reader: DiskReader,
  regions: VhdxRegions,
  layout: BlockLayout,
  offset: number,
  isLast: boolean,
): number {
  const blockBytes = isLast ? layout.virtualBytes - (layout.blocks - 1) * layout.blockBytes : layout.blockBytes;
  if (offset + blockBytes > reader.fileBytes) {
    refuseTruncated(BLOCKS);
  }
  for (const range of regions.fixed) {
    if (overlaps(range, offset, blockBytes)) {
      refuseCorrupt('its block table points back at its own header or tables');
    }
  }
  return blockBytes;
}

/** CRC-32C (Castagnoli) over the structure, its own field at byte 4 taken as zero. */
function checksumIsRight(structure: Buffer): boolean {
  let checksum = 0xffff_ffff;
  for (const [index, byte] of structure.entries()) {
    checksum ^= index >= 4 && index < 8 ? 0 : byte;
    for (let bit = 0; bit < 8; bit++) {
      checksum = (checksum >>> 1) ^ (checksum & 1 ? 0x82f6_3b78 : 0);
    }
  }
  return ~checksum >>> 0 === structure.readUInt32LE(4);
}
