/**
 * Walks the tables of a qcow2 image: level 1, level 2 and refcounts, down to every cluster and compressed cluster.
 *
 * It decides whether all of them lie inside the file, apart from one another, and together hold no more than the file
 * does. The whole walk reads each table once, in file order, so its cost is bounded by the file and not by what the
 * header claims. Layouts are from QEMU's docs/interop/qcow2, sections "Host cluster management" to "Extended L2 Entries".
 */
import { inflateRawSync, zstdDecompressSync } from 'node:zlib';
import {
  type DiskReader,
  type FileRange,
  overlaps,
  refuseCorrupt,
  refuseTruncated,
  requireApart,
  SECTOR_BYTES,
  TableList,
} from './inspect-reader.ts';

export interface Qcow2Layout {
  readonly version: number;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  /** 8, or 16 with extended level 2 entries. */
  readonly entryBytes: number;
  readonly virtualBytes: number;
  readonly compression: 'deflate' | 'zstd';
}

interface EntryMasks {
  /** Which bits of the upper half belong to the offset, and which must be zero. */
  readonly offset: number;
  readonly reserved: number;
}

const LEVEL_1_MASKS: EntryMasks = { offset: 0x00ff_ffff, reserved: 0x7f00_0000 };
const REFCOUNT_MASKS: EntryMasks = { offset: 0xffff_ffff, reserved: 0 };
/** Bits 0 to 8 of every table entry. */
const RESERVED_LOW = 0x1ff;

const COMPRESSED = 0x4000_0000;
const REFCOUNT_IS_ONE = 0x8000_0000;
const CLUSTER_OFFSET_HIGH = 0x00ff_ffff;
const CLUSTER_OFFSET_LOW = 0xffff_fe00;
const CLUSTER_RESERVED_HIGH = 0x3f00_0000;
const CLUSTER_RESERVED_LOW = 0x1fe;
const CLUSTER_IS_ZERO = 1;
const SUBCLUSTERS = 32;

const CLUSTERS = 'the data its tables point to';

export async function checkQcow2Tables(
  reader: DiskReader,
  layout: Qcow2Layout,
  level1: FileRange,
  refcounts: FileRange,
): Promise<void> {
  const fixed = [{ offset: 0, length: layout.clusterBytes }, level1, refcounts];
  for (const range of fixed) {
    reader.requireInside(range.offset, range.length, 'its tables');
    if (range.offset % layout.clusterBytes !== 0) {
      refuseCorrupt('one of its tables starts within a cluster');
    }
  }
  requireApart(fixed);
  const tables = new TableList(layout.clusterBytes);
  await collectTables(reader, refcounts, REFCOUNT_MASKS, fixed, layout.clusterBytes, tables);
  // Deleted snapshots leave level 2 tables past the end of the disk. No reader follows them, so they are not walked.
  const guestBytesPerEntry = layout.clusterBytes * (layout.clusterBytes / layout.entryBytes);
  const guestLength = Math.ceil(layout.virtualBytes / guestBytesPerEntry) * 8;
  const guest = { offset: level1.offset, length: guestLength };
  const past = { offset: level1.offset + guestLength, length: level1.length - guestLength };
  await collectTables(reader, past, LEVEL_1_MASKS, fixed, layout.clusterBytes, tables);
  const level2 = new TableList(layout.clusterBytes);
  await collectTables(reader, guest, LEVEL_1_MASKS, fixed, layout.clusterBytes, level2);
  const level2Offsets = level2.sorted();
  for (const offset of level2Offsets) {
    tables.add(offset);
  }
  // Sorting finds any two that touch; the order of the refcount blocks themselves does not matter.
  tables.sorted();
  await new ClusterWalk(reader, layout, fixed).run(guest, level2Offsets);
}

/** Adds every second-level table that a level 1 or refcount table names. */
async function collectTables(
  reader: DiskReader,
  table: FileRange,
  masks: EntryMasks,
  fixed: readonly FileRange[],
  clusterBytes: number,
  found: TableList,
): Promise<void> {
  for await (const chunk of reader.chunks(table.offset, table.length, 'its tables')) {
    for (let position = 0; position < chunk.length; position += 8) {
      const high = chunk.readUInt32BE(position);
      const low = chunk.readUInt32BE(position + 4);
      if (high === 0 && low === 0) {
        continue;
      }
      const offset = entryOffset(high & masks.offset, low);
      if ((high & masks.reserved) !== 0 || (low & RESERVED_LOW) !== 0 || offset === 0) {
        refuseCorrupt('one of its tables holds an impossible entry');
      }
      reader.requireInside(offset, clusterBytes, 'its tables');
      requireFreeCluster(offset, low, clusterBytes, fixed);
      found.add(offset);
    }
  }
}

function entryOffset(high: number, low: number): number {
  return (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
}

/**
 * A cluster starts on a cluster boundary and is not the header, the level 1 table or the refcount table. Clusters have
 * at most 2 MiB, so the low half of the entry tells alignment, many times faster than a remainder of the whole offset.
 */
function requireFreeCluster(offset: number, low: number, clusterBytes: number, fixed: readonly FileRange[]): void {
  if ((low & (clusterBytes - 1) & CLUSTER_OFFSET_LOW) !== 0) {
    refuseCorrupt('one of its tables points into the middle of a cluster');
  }
  for (let index = 0; index < fixed.length; index++) {
    if (overlaps(fixed[index]!, offset, clusterBytes)) {
      refuseCorrupt('one of its tables points back at its own header or tables');
    }
  }
}

/** One pass over the level 2 tables. */
class ClusterWalk {
  readonly #reader: DiskReader;
  readonly #layout: Qcow2Layout;
  readonly #fixed: readonly FileRange[];
  readonly #guestClusters: number;
  readonly #entriesPerTable: number;
  #allocatedBytes = 0;
  /** Start of the last compressed cluster whose sectors run past the end of the file. */
  #tailOffset: number | undefined;

  constructor(reader: DiskReader, layout: Qcow2Layout, fixed: readonly FileRange[]) {
    this.#reader = reader;
    this.#layout = layout;
    this.#fixed = fixed;
    this.#guestClusters = Math.ceil(layout.virtualBytes / layout.clusterBytes);
    this.#entriesPerTable = layout.clusterBytes / layout.entryBytes;
  }

  async run(level1: FileRange, level2Offsets: Float64Array): Promise<void> {
    const lastEntry = await this.#reader.bytes(level1.offset + level1.length - 8, 8, 'its level 1 table');
    const lastTable = entryOffset(lastEntry.readUInt32BE(0) & LEVEL_1_MASKS.offset, lastEntry.readUInt32BE(4));
    for (const offset of level2Offsets) {
      await this.#walkTable(offset, offset === lastTable);
    }
    if (this.#allocatedBytes > this.#reader.fileBytes) {
      refuseCorrupt('it refers to more data than it holds');
    }
    if (this.#tailOffset !== undefined) {
      await this.#checkTail(this.#tailOffset);
    }
  }

  async #walkTable(tableOffset: number, isLast: boolean): Promise<void> {
    const { clusterBytes, entryBytes, virtualBytes } = this.#layout;
    const lastEntry = isLast ? (this.#guestClusters - 1) % this.#entriesPerTable : -1;
    const lastBytes = virtualBytes - (this.#guestClusters - 1) * clusterBytes;
    let entry = 0;
    for await (const chunk of this.#reader.chunks(tableOffset, clusterBytes, 'its tables')) {
      for (let position = 0; position < chunk.length; position += entryBytes, entry++) {
        const high = chunk.readUInt32BE(position);
        const low = chunk.readUInt32BE(position + 4);
        const wanted = entry === lastEntry ? lastBytes : clusterBytes;
        if ((high & COMPRESSED) !== 0) {
          this.#checkCompressed(high, low);
        } else if (entryBytes === 16) {
          const subclusterBytes = this.#subclusterBytes(
            chunk.readUInt32BE(position + 8),
            chunk.readUInt32BE(position + 12),
          );
          this.#checkStandard(high, low, Math.min(wanted, subclusterBytes), subclusterBytes !== 0);
        } else if (high !== 0 || low !== 0) {
          this.#checkStandard(high, low, wanted, false);
        }
      }
    }
  }

  /** How much of a cluster its allocation bitmap makes use of: the file may end within the last one. */
  #subclusterBytes(zeros: number, allocated: number): number {
    if ((zeros & allocated) !== 0) {
      refuseCorrupt('one of its tables holds an impossible entry');
    }
    return (SUBCLUSTERS - Math.clz32(allocated)) * (this.#layout.clusterBytes / SUBCLUSTERS);
  }

  #checkStandard(high: number, low: number, wantedBytes: number, offsetNeeded: boolean): void {
    const { version, clusterBytes, entryBytes } = this.#layout;
    const zeroAllowed = version >= 3 && entryBytes === 8;
    const offset = entryOffset(high & CLUSTER_OFFSET_HIGH, low & CLUSTER_OFFSET_LOW);
    if (
      (high & CLUSTER_RESERVED_HIGH) !== 0 ||
      (low & CLUSTER_RESERVED_LOW) !== 0 ||
      ((low & CLUSTER_IS_ZERO) !== 0 && !zeroAllowed) ||
      (offset === 0 && (offsetNeeded || (high & REFCOUNT_IS_ONE) !== 0))
    ) {
      refuseCorrupt('one of its tables holds an impossible entry');
    }
    if (offset !== 0) {
      this.#reader.requireInside(offset, wantedBytes, CLUSTERS);
      requireFreeCluster(offset, low, clusterBytes, this.#fixed);
      this.#allocatedBytes += wantedBytes;
    }
  }

  /** The offset takes bits 0 to 69 - cluster_bits, the number of further sectors the bits from there to 61. */
  #checkCompressed(high: number, low: number): void {
    const { clusterBits, clusterBytes } = this.#layout;
    const offsetHighBits = 38 - clusterBits;
    const offset = entryOffset(high & ((1 << offsetHighBits) - 1), low);
    const furtherSectors = (high & 0x3fff_ffff) >>> offsetHighBits;
    if (offset < clusterBytes || (high & REFCOUNT_IS_ONE) !== 0) {
      refuseCorrupt('one of its tables holds an impossible entry');
    }
    const end = (Math.floor(offset / SECTOR_BYTES) + furtherSectors + 1) * SECTOR_BYTES;
    const missingBytes = end - this.#reader.fileBytes;
    if (missingBytes >= SECTOR_BYTES || offset >= this.#reader.fileBytes) {
      refuseTruncated(CLUSTERS);
    }
    if (missingBytes > 0) {
      this.#tailOffset = Math.max(this.#tailOffset ?? 0, offset);
    }
  }

  /**
   * Compressed data is counted in whole sectors but may end anywhere in the last, and so may the file. Whether anything
   * is missing then shows only when it is unpacked.
   */
  async #checkTail(offset: number): Promise<void> {
    const { clusterBytes, compression } = this.#layout;
    const packed = await this.#reader.bytes(offset, this.#reader.fileBytes - offset, CLUSTERS);
    const unpack = compression === 'zstd' ? zstdDecompressSync : inflateRawSync;
    let unpackedBytes = 0;
    try {
      unpackedBytes = unpack(packed, { maxOutputLength: clusterBytes }).length;
    } catch {
      refuseTruncated(CLUSTERS);
    }
    if (unpackedBytes !== clusterBytes) {
      refuseTruncated(CLUSTERS);
    }
  }
}
