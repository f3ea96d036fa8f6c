/**
 * Decides whether a VMDK file is one whole disk on its own: monolithicSparse or streamOptimized, its descriptor embedded,
 * every grain table and grain inside the file.
 *
 * Offsets are VMware's "Virtual Disk Format 5.0", Hosted Sparse Extent Header. A stream-optimized file may carry its real
 * header at the end (the footer); it must then say the same as the one at the start, or two readers would see two disks.
 * This must never accept a descriptor at any other place than where qemu looks for a parent's name.
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
  SECTOR_BYTES,
  TableList,
} from './inspect-reader.ts';
import { checkVmdkDescriptor, type VmdkKind } from './inspect-vmdk-descriptor.ts';

const FLAG_NEWLINES = 1 << 0;
const FLAG_REDUNDANT_DIRECTORY = 1 << 1;
const FLAG_ZERO_GRAINS = 1 << 2;
const FLAG_COMPRESSED = 1 << 16;
const FLAG_MARKERS = 1 << 17;
const FLAGS_KNOWN = FLAG_NEWLINES | FLAG_REDUNDANT_DIRECTORY | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS;

/** Every VMware product writes 512 entries a table, and its specification fixes them so. */
const TABLE_ENTRIES = 512;
const TABLE_BYTES = TABLE_ENTRIES * 4;
const GRAIN_SECTORS_MIN = 8;
const GRAIN_SECTORS_MAX = 8192;
/** QEMU's limit. */
const DESCRIPTOR_BYTES_MAX = 1024 * 1024;
const DIRECTORY_AT_END = 0xffff_ffff_ffff_ffffn;
const MARKER_FOOTER = 3;
/** A grain marker: the sector it belongs to, 8 bytes, and the length of the data that follows, 4 bytes. */
const GRAIN_MARKER_BYTES = 12;
const ZERO_GRAIN = 1;

const TABLES = 'its grain tables';
const GRAINS = 'the data its grain tables point to';

interface VmdkHeader {
  readonly version: number;
  readonly flags: number;
  readonly capacitySectors: number;
  readonly grainSectors: number;
  readonly descriptor: FileRange;
  readonly tableEntries: number;
  readonly redundantDirectoryOffset: number;
  readonly directoryOffset: number;
  readonly directoryAtEnd: boolean;
  readonly overheadBytes: number;
  readonly unclean: boolean;
  readonly compression: number;
}

export async function inspectVmdk(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  const first = await reader.bytes(0, SECTOR_BYTES, 'its header');
  const header = parseHeader(first);
  const kind = checkKind(header, first);
  checkGeometry(header);
  const virtualBytes = header.capacitySectors * SECTOR_BYTES;
  requireVirtualBytes(virtualBytes, virtualBytesMax);
  const descriptor = await reader.bytes(header.descriptor.offset, header.descriptor.length, 'its descriptor');
  checkVmdkDescriptor(descriptor, kind, header.capacitySectors, header.grainSectors);
  const effective = header.directoryAtEnd ? await readFooter(reader, header) : header;
  reader.requireInside(0, effective.overheadBytes, 'the place where its data begins');
  await checkTables(reader, effective, virtualBytes);
  return virtualBytes;
}

function parseHeader(bytes: Buffer): VmdkHeader {
  const bytesAt = (offset: number) => readUint64LittleEndian(bytes, offset) * SECTOR_BYTES;
  return {
    version: bytes.readUInt32LE(4),
    flags: bytes.readUInt32LE(8),
    capacitySectors: readUint64LittleEndian(bytes, 12),
    grainSectors: readUint64LittleEndian(bytes, 20),
    descriptor: { offset: bytesAt(28), length: bytesAt(36) },
    tableEntries: bytes.readUInt32LE(44),
    redundantDirectoryOffset: bytesAt(48),
    directoryOffset: bytesAt(56),
    directoryAtEnd: bytes.readBigUInt64LE(56) === DIRECTORY_AT_END,
    overheadBytes: bytesAt(64),
    unclean: bytes.readUInt8(72) !== 0,
    compression: bytes.readUInt16LE(77),
  };
}

function checkKind(header: VmdkHeader, bytes: Buffer): VmdkKind {
  if (header.version < 1 || header.version > 3) {
    refuse(
      'UNSUPPORTED_FORMAT',
      'This VMDK image is of a version that is not known; export it again as an OVF template.',
    );
  }
  if ((header.flags & ~FLAGS_KNOWN) !== 0) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'This VMDK image uses a feature that is not known; export it again as an OVF template.',
    );
  }
  // Four characters that a transfer in text mode would have changed.
  if ((header.flags & FLAG_NEWLINES) !== 0 && bytes.subarray(73, 77).toString('latin1') !== '\n \r\n') {
    refuseCorrupt('it was copied as text');
  }
  const compressed = (header.flags & FLAG_COMPRESSED) !== 0;
  const marked = (header.flags & FLAG_MARKERS) !== 0;
  if (compressed !== marked || header.compression !== (compressed ? 1 : 0) || (header.directoryAtEnd && !compressed)) {
    refuseCorrupt('its header contradicts itself about compression');
  }
  if (header.unclean && !compressed) {
    refuse(
      'UNCLEAN',
      'This VMDK image was not closed properly; shut its virtual machine down and copy the image again.',
    );
  }
  return compressed ? 'streamOptimized' : 'monolithicSparse';
}

function checkGeometry(header: VmdkHeader): void {
  const { grainSectors, descriptor } = header;
  if (!isPowerOfTwo(grainSectors) || grainSectors < GRAIN_SECTORS_MIN || grainSectors > GRAIN_SECTORS_MAX) {
    refuseCorrupt('its grains have an impossible size');
  }
  if (header.tableEntries !== TABLE_ENTRIES) {
    refuseCorrupt('its grain tables have an impossible size');
  }
  if (descriptor.offset === 0 || descriptor.length === 0) {
    refuse(
      'EXTERNAL_DATA_FILE',
      'This is one piece of a VMware disk that is split over several files; ' +
        'make one file of them with: qemu-img convert -f vmdk -O qcow2 DESCRIPTOR.vmdk OUTPUT.',
    );
  }
  // QEMU looks for a parent's name in the second sector, wherever the header says the descriptor is.
  if (descriptor.offset !== SECTOR_BYTES || descriptor.length > DESCRIPTOR_BYTES_MAX) {
    refuseCorrupt('its descriptor is not where it belongs');
  }
}

/** The last three sectors are the footer's marker, the footer and the end-of-stream marker; the footer is a header again. */
async function readFooter(reader: DiskReader, header: VmdkHeader): Promise<VmdkHeader> {
  const what = 'its footer';
  if (reader.fileBytes % SECTOR_BYTES !== 0 || reader.fileBytes < 4 * SECTOR_BYTES) {
    refuseTruncated(what);
  }
  const end = await reader.bytes(reader.fileBytes - 3 * SECTOR_BYTES, 3 * SECTOR_BYTES, what);
  const marker = end.subarray(0, SECTOR_BYTES);
  const endOfStream = end.subarray(2 * SECTOR_BYTES, 2 * SECTOR_BYTES + 16);
  const bytes = end.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES);
  if (
    marker.readUInt32LE(8) !== 0 ||
    marker.readUInt32LE(12) !== MARKER_FOOTER ||
    endOfStream.some((byte) => byte !== 0) ||
    bytes.subarray(0, 4).toString('latin1') !== 'KDMV'
  ) {
    refuseTruncated(what);
  }
  const footer = parseHeader(bytes);
  // Bytes 4 to 47: version, flags, capacity, grain size, descriptor, entries per table.
  const first = await reader.bytes(0, SECTOR_BYTES, what);
  const same = first.subarray(4, 48).equals(bytes.subarray(4, 48)) && footer.compression === header.compression;
  if (!same || footer.directoryAtEnd) {
    refuseCorrupt('its footer and its header contradict each other');
  }
  return footer;
}

async function checkTables(reader: DiskReader, header: VmdkHeader, virtualBytes: number): Promise<void> {
  const grainBytes = header.grainSectors * SECTOR_BYTES;
  const directoryBytes = Math.ceil(virtualBytes / (grainBytes * TABLE_ENTRIES)) * 4;
  const directory = { offset: header.directoryOffset, length: directoryBytes };
  const fixed = [{ offset: 0, length: SECTOR_BYTES + header.descriptor.length }, directory];
  if ((header.flags & FLAG_REDUNDANT_DIRECTORY) !== 0) {
    fixed.push({ offset: header.redundantDirectoryOffset, length: directoryBytes });
  }
  for (const range of fixed) {
    reader.requireInside(range.offset, range.length, TABLES);
  }
  requireApart(fixed);
  // The redundant directory is read only by tools that repair; its tables are checked for being there.
  for (const redundant of fixed.slice(2)) {
    await collectTables(reader, redundant, fixed, new TableList(TABLE_BYTES));
  }
  const tables = new TableList(TABLE_BYTES);
  await collectTables(reader, directory, fixed, tables);
  const walk = new GrainWalk(reader, header, fixed, virtualBytes);
  await walk.run(directory, tables.sorted());
}

async function collectTables(
  reader: DiskReader,
  directory: FileRange,
  fixed: readonly FileRange[],
  found: TableList,
): Promise<void> {
  for await (const chunk of reader.chunks(directory.offset, directory.length, TABLES)) {
    for (let position = 0; position < chunk.length; position += 4) {
      const offset = chunk.readUInt32LE(position) * SECTOR_BYTES;
      if (offset !== 0) {
        reader.requireInside(offset, TABLE_BYTES, TABLES);
        requireFree(offset, TABLE_BYTES, fixed);
        found.add(offset);
      }
    }
  }
}

function requireFree(offset: number, length: number, fixed: readonly FileRange[]): void {
  for (const range of fixed) {
    if (overlaps(range, offset, length)) {
      refuseCorrupt('one of its tables points back at its own header or tables');
    }
  }
}

/** One pass over the grain tables. */
class GrainWalk {
  readonly #reader: DiskReader;
  readonly #fixed: readonly FileRange[];
  readonly #compressed: boolean;
  readonly #zeroGrains: boolean;
  readonly #grainBytes: number;
  readonly #virtualBytes: number;
  #allocatedBytes = 0;
  #lastOffset = 0;

  constructor(reader: DiskReader, header: VmdkHeader, fixed: readonly FileRange[], virtualBytes: number) {
    this.#reader = reader;
    this.#fixed = fixed;
    this.#compressed = (header.flags & FLAG_COMPRESSED) !== 0;
    this.#zeroGrains = (header.flags & FLAG_ZERO_GRAINS) !== 0;
    this.#grainBytes = header.grainSectors * SECTOR_BYTES;
    this.#virtualBytes = virtualBytes;
  }

  async run(directory: FileRange, tableOffsets: Float64Array): Promise<void> {
    const lastEntry = await this.#reader.bytes(directory.offset + directory.length - 4, 4, TABLES);
    const lastTable = lastEntry.readUInt32LE(0) * SECTOR_BYTES;
    for (const offset of tableOffsets) {
      await this.#walkTable(offset, offset === lastTable);
    }
    if (this.#allocatedBytes > this.#reader.fileBytes) {
      refuseCorrupt('it refers to more data than it holds');
    }
    if (this.#compressed && this.#lastOffset !== 0) {
      await this.#checkLastCompressed();
    }
  }

  async #walkTable(tableOffset: number, isLast: boolean): Promise<void> {
    const grains = Math.ceil(this.#virtualBytes / this.#grainBytes);
    const lastEntry = isLast ? (grains - 1) % TABLE_ENTRIES : -1;
    const lastBytes = this.#virtualBytes - (grains - 1) * this.#grainBytes;
    let entry = 0;
    for await (const chunk of this.#reader.chunks(tableOffset, TABLE_BYTES, TABLES)) {
      for (let position = 0; position < chunk.length; position += 4, entry++) {
        const sector = chunk.readUInt32LE(position);
        if (sector !== 0 && !(sector === ZERO_GRAIN && this.#zeroGrains)) {
          this.#checkGrain(sector * SECTOR_BYTES, entry === lastEntry ? lastBytes : this.#grainBytes);
        }
      }
    }
  }

  #checkGrain(offset: number, grainBytes: number): void {
    const wantedBytes = this.#compressed ? SECTOR_BYTES : grainBytes;
    // A compressed grain takes at least its marker's sector, but a file may end within it.
    this.#reader.requireInside(offset, this.#compressed ? GRAIN_MARKER_BYTES : wantedBytes, GRAINS);
    requireFree(offset, wantedBytes, this.#fixed);
    this.#allocatedBytes += wantedBytes;
    this.#lastOffset = Math.max(this.#lastOffset, offset);
  }

  /** Grains do not overlap, so a file that holds the furthest one to its end holds them all. */
  async #checkLastCompressed(): Promise<void> {
    const marker = await this.#reader.bytes(this.#lastOffset, GRAIN_MARKER_BYTES, GRAINS);
    const dataBytes = marker.readUInt32LE(8);
    if (dataBytes === 0 || dataBytes > 2 * this.#grainBytes) {
      refuseCorrupt('its last grain has an impossible length');
    }
    this.#reader.requireInside(this.#lastOffset + GRAIN_MARKER_BYTES, dataBytes, GRAINS);
  }
}
