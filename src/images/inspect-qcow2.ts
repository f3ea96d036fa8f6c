/**
 * Decides whether a qcow2 image is a whole, clean disk on its own: no backing file, no data file, no snapshots, no
 * encryption, nothing a newer version added, and every table and cluster inside the file.
 *
 * Offsets are from QEMU's docs/interop/qcow2, the published specification, which refuses less than this does: whatever an
 * import would follow outwards or lose in silence is refused here. It must never trust a size in the header before it is
 * bounded by the file or by the disk, and never walk a table twice.
 */

import { checkQcow2Tables, type Qcow2Layout } from './inspect-qcow2-tables.ts';
import {
  type DiskReader,
  type DiskRefusedCode,
  readUint64BigEndian,
  refuse,
  refuseCorrupt,
  requireVirtualBytes,
} from './inspect-reader.ts';

const VERSION_2_HEADER_BYTES = 72;
const VERSION_3_HEADER_BYTES = 104;
const CLUSTER_BITS_MIN = 9;
const CLUSTER_BITS_MIN_EXTENDED = 14;
/** The specification's note on QEMU: larger clusters cannot be opened. */
const CLUSTER_BITS_MAX = 21;
/** QEMU's limits: 32 MiB of level 1 table, 8 MiB of refcount table. */
const LEVEL_1_BYTES_MAX = 32 * 2 ** 20;
const REFCOUNT_TABLE_BYTES_MAX = 8 * 2 ** 20;
const ENTRY_BYTES = 8;
const REFCOUNT_ORDER_MAX = 6;

/** Bits of `incompatible_features`, byte 72. */
const FEATURE_DIRTY = 1n << 0n;
const FEATURE_CORRUPT = 1n << 1n;
const FEATURE_DATA_FILE = 1n << 2n;
const FEATURE_COMPRESSION_TYPE = 1n << 3n;
const FEATURE_EXTENDED_LEVEL_2 = 1n << 4n;
const FEATURES_KNOWN = (1n << 5n) - 1n;
/** Bit of `autoclear_features`, byte 88. */
const FEATURE_RAW_DATA_FILE = 1n << 1n;

const FLATTEN = 'make one whole file of it with: qemu-img convert -O qcow2 INPUT OUTPUT';
const ENCRYPTED = 'This qcow2 image is encrypted, which cannot be read; decrypt it first and give the plain image.';

const EXTENSION_END = 0x0000_0000;
/** The one extension that passes: nothing acts on the names of features. */
const EXTENSION_FEATURE_NAMES = 0x6803_f857;
/** Any other leads elsewhere or is new. The specification lets a reader ignore those; another reader may not. */
const REFUSED_EXTENSIONS: ReadonlyMap<number, readonly [DiskRefusedCode, string]> = new Map([
  [0xe279_2aca, ['BACKING_FILE', `This qcow2 image says what another image beneath it is made of; ${FLATTEN}.`]],
  [0x4441_5441, ['EXTERNAL_DATA_FILE', `This qcow2 image names another file for its data; ${FLATTEN}.`]],
  [0x0537_be77, ['ENCRYPTED', ENCRYPTED]],
  [
    0x2385_2875,
    ['UNSUPPORTED_FEATURE', `This qcow2 image holds backup bitmaps, which an import would lose; ${FLATTEN}.`],
  ],
]);
const UNKNOWN_EXTENSION = [
  'UNSUPPORTED_FEATURE',
  `This qcow2 image has an extension that is not known; ${FLATTEN}.`,
] as const;

interface Features {
  readonly incompatible: bigint;
  readonly headerBytes: number;
  readonly compression: 'deflate' | 'zstd';
}

export async function inspectQcow2(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  const header = await reader.bytes(0, VERSION_2_HEADER_BYTES, 'its header');
  const version = header.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    refuse('UNSUPPORTED_FORMAT', 'This qcow2 image is of a version that is not known; write it again as version 3.');
  }
  checkReferences(header);
  const features = await readFeatures(reader, version);
  const layout = readLayout(header, version, features);
  requireVirtualBytes(layout.virtualBytes, virtualBytesMax);
  await checkExtensions(reader, features.headerBytes, layout.clusterBytes);
  await checkTables(reader, header, layout);
  return layout.virtualBytes;
}

/** The fields of the version 2 header that lead away from this file, or to more than one disk within it. */
function checkReferences(header: Buffer): void {
  const backingOffset = readUint64BigEndian(header, 8);
  const backingBytes = header.readUInt32BE(16);
  if (backingOffset !== 0 || backingBytes !== 0) {
    refuse('BACKING_FILE', `This qcow2 image needs another image beneath it (a backing file); ${FLATTEN}.`);
  }
  if (header.readUInt32BE(32) !== 0) {
    refuse('ENCRYPTED', ENCRYPTED);
  }
  if (header.readUInt32BE(60) !== 0) {
    refuse(
      'HAS_SNAPSHOTS',
      'This qcow2 image holds snapshots, which an import would lose; ' +
        'delete them, or keep the current state only with: qemu-img convert -O qcow2 INPUT OUTPUT.',
    );
  }
}

async function readFeatures(reader: DiskReader, version: number): Promise<Features> {
  if (version === 2) {
    return { incompatible: 0n, headerBytes: VERSION_2_HEADER_BYTES, compression: 'deflate' };
  }
  const header = await reader.bytes(0, VERSION_3_HEADER_BYTES, 'its header');
  const incompatible = header.readBigUInt64BE(72);
  checkIncompatibleFeatures(incompatible, header.readBigUInt64BE(88));
  if (header.readUInt32BE(96) > REFCOUNT_ORDER_MAX) {
    refuseCorrupt('its refcounts have an impossible size');
  }
  const headerBytes = header.readUInt32BE(100);
  // The smallest cluster holds the header; QEMU refuses longer ones in the same way.
  if (headerBytes < VERSION_3_HEADER_BYTES || headerBytes % 8 !== 0 || headerBytes > 1 << CLUSTER_BITS_MAX) {
    refuseCorrupt('its header has an impossible length');
  }
  return { incompatible, headerBytes, compression: await readCompression(reader, incompatible, headerBytes) };
}

function checkIncompatibleFeatures(incompatible: bigint, autoclear: bigint): void {
  if ((incompatible & FEATURE_DATA_FILE) !== 0n || (autoclear & FEATURE_RAW_DATA_FILE) !== 0n) {
    refuse('EXTERNAL_DATA_FILE', `This qcow2 image keeps its data in another file; ${FLATTEN}.`);
  }
  if ((incompatible & ~FEATURES_KNOWN) !== 0n) {
    refuse('UNSUPPORTED_FEATURE', `This qcow2 image uses a feature that is not known; ${FLATTEN}.`);
  }
  if ((incompatible & (FEATURE_DIRTY | FEATURE_CORRUPT)) !== 0n) {
    refuse(
      'UNCLEAN',
      'This qcow2 image was not closed properly; shut its virtual machine down, and repair it with: qemu-img check -r all IMAGE.',
    );
  }
}

/** `compression_type`, byte 104, is there and not zero exactly when its feature bit is set. */
async function readCompression(
  reader: DiskReader,
  incompatible: bigint,
  headerBytes: number,
): Promise<'deflate' | 'zstd'> {
  const present = headerBytes > VERSION_3_HEADER_BYTES;
  const type = present ? (await reader.bytes(VERSION_3_HEADER_BYTES, 1, 'its header')).readUInt8(0) : 0;
  if ((type !== 0) !== ((incompatible & FEATURE_COMPRESSION_TYPE) !== 0n)) {
    refuseCorrupt('its header contradicts itself about compression');
  }
  if (type > 1) {
    refuse('UNSUPPORTED_FEATURE', `This qcow2 image is compressed in a way that is not known; ${FLATTEN}.`);
  }
  return type === 1 ? 'zstd' : 'deflate';
}

function readLayout(header: Buffer, version: number, features: Features): Qcow2Layout {
  const extended = (features.incompatible & FEATURE_EXTENDED_LEVEL_2) !== 0n;
  const clusterBits = header.readUInt32BE(20);
  if (clusterBits < (extended ? CLUSTER_BITS_MIN_EXTENDED : CLUSTER_BITS_MIN) || clusterBits > CLUSTER_BITS_MAX) {
    refuseCorrupt('its clusters have an impossible size');
  }
  const clusterBytes = 2 ** clusterBits;
  if (features.headerBytes > clusterBytes) {
    refuseCorrupt('its header has an impossible length');
  }
  const entryBytes = extended ? 2 * ENTRY_BYTES : ENTRY_BYTES;
  return {
    version,
    clusterBits,
    clusterBytes,
    entryBytes,
    virtualBytes: readUint64BigEndian(header, 24),
    compression: features.compression,
  };
}

/** Extensions follow the header within the first cluster; each may stand there once. */
async function checkExtensions(reader: DiskReader, headerBytes: number, clusterBytes: number): Promise<void> {
  let featureNamesSeen = false;
  for (let offset = headerBytes; offset + 8 <= clusterBytes; ) {
    const extension = await reader.bytes(offset, 8, 'its header extensions');
    const type = extension.readUInt32BE(0);
    const length = extension.readUInt32BE(4);
    if (type === EXTENSION_END) {
      return;
    }
    if (type !== EXTENSION_FEATURE_NAMES) {
      const [code, sentence] = REFUSED_EXTENSIONS.get(type) ?? UNKNOWN_EXTENSION;
      refuse(code, sentence);
    }
    if (featureNamesSeen || offset + 8 + length > clusterBytes) {
      refuseCorrupt('its header extensions do not fit in it');
    }
    featureNamesSeen = true;
    offset += 8 + Math.ceil(length / 8) * 8;
  }
}

async function checkTables(reader: DiskReader, header: Buffer, layout: Qcow2Layout): Promise<void> {
  const level1Entries = header.readUInt32BE(36);
  const level1 = { offset: readUint64BigEndian(header, 40), length: level1Entries * ENTRY_BYTES };
  const refcountClusters = header.readUInt32BE(56);
  const refcounts = { offset: readUint64BigEndian(header, 48), length: refcountClusters * layout.clusterBytes };
  const guestBytesPerTable = layout.clusterBytes * (layout.clusterBytes / layout.entryBytes);
  if (level1Entries < Math.ceil(layout.virtualBytes / guestBytesPerTable) || level1.length > LEVEL_1_BYTES_MAX) {
    refuseCorrupt('its level 1 table does not fit the size of the disk');
  }
  // Without snapshots nothing is there, but QEMU wants the place to be a possible one.
  const snapshotsOffset = readUint64BigEndian(header, 64);
  if (snapshotsOffset % layout.clusterBytes !== 0 || snapshotsOffset > Number.MAX_SAFE_INTEGER) {
    refuseCorrupt('its snapshots lie at an impossible place');
  }
  if (refcountClusters === 0 || refcounts.length > REFCOUNT_TABLE_BYTES_MAX) {
    refuseCorrupt('its refcount table has an impossible size');
  }
  await checkQcow2Tables(reader, layout, level1, refcounts);
}
