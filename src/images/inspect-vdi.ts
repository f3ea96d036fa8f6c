/**
 * Decides whether a VirtualBox image (VDI 1.1) is a whole disk on its own: dynamic or fixed, no parent, every block inside.
 *
 * Offsets are VirtualBox's VDICore.h (VDIPREHEADER, then VDIHEADER1PLUS at byte 72). Undo and differencing images name
 * their parent by UUID and are refused. It must never accept a geometry qemu reads differently from VirtualBox: block
 * sizes other than 1 MiB and blocks with extra bytes in front are such.
 */
import {
  type DiskReader,
  overlaps,
  readUint64LittleEndian,
  refuse,
  refuseCorrupt,
  refuseTruncated,
  requireVirtualBytes,
  SECTOR_BYTES,
} from './inspect-reader.ts';

const VERSION_1_1 = 0x0001_0001;
/** sizeof(VDIHEADER1) without its geometry, and what fits in the first sector. */
const HEADER_BYTES_MIN = 384;
const HEADER_BYTES_MAX = SECTOR_BYTES - 72;
const TYPE_DYNAMIC = 1;
const TYPE_FIXED = 2;
const BLOCK_BYTES = 1024 * 1024;
/** Block map entries from here on mean "reads as zeros", VDI_IMAGE_BLOCK_ZERO and VDI_IMAGE_BLOCK_FREE. */
const BLOCK_UNALLOCATED_MIN = 0xffff_fffe;

interface VdiLayout {
  readonly mapOffset: number;
  readonly dataOffset: number;
  readonly blocks: number;
}

export async function inspectVdi(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  const header = await reader.bytes(0, SECTOR_BYTES, 'its header');
  checkKind(header);
  // VBoxManage convertfromraw writes odd sizes, and qemu rounds them up in the same way.
  const virtualBytes = Math.ceil(readUint64LittleEndian(header, 0x170) / SECTOR_BYTES) * SECTOR_BYTES;
  requireVirtualBytes(virtualBytes, virtualBytesMax);
  await checkBlockMap(reader, readLayout(reader, header, virtualBytes));
  return virtualBytes;
}

function checkKind(header: Buffer): void {
  if (header.readUInt32LE(0x44) !== VERSION_1_1) {
    refuse(
      'UNSUPPORTED_FORMAT',
      'This VDI image is not of version 1.1; write it again with: VBoxManage clonemedium disk INPUT OUTPUT.',
    );
  }
  const headerBytes = header.readUInt32LE(0x48);
  if (headerBytes < HEADER_BYTES_MIN || headerBytes > HEADER_BYTES_MAX) {
    refuseCorrupt('its header has an impossible length');
  }
  const type = header.readUInt32LE(0x4c);
  const linkAndParent = header.subarray(0x1a8, 0x1c8);
  if ((type !== TYPE_DYNAMIC && type !== TYPE_FIXED) || linkAndParent.some((byte) => byte !== 0)) {
    refuse(
      'BACKING_FILE',
      'This VDI image is a snapshot that needs its parent disk; ' +
        'make one whole disk of them with: VBoxManage clonemedium disk INPUT OUTPUT.',
    );
  }
}

function readLayout(reader: DiskReader, header: Buffer, virtualBytes: number): VdiLayout {
  if (header.readUInt32LE(0x168) !== SECTOR_BYTES) {
    refuseCorrupt('its sectors are not 512 bytes');
  }
  if (header.readUInt32LE(0x178) !== BLOCK_BYTES || header.readUInt32LE(0x17c) !== 0) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'This VDI image has blocks of an unusual size; write it again with: VBoxManage clonemedium disk INPUT OUTPUT.',
    );
  }
  const mapOffset = header.readUInt32LE(0x154);
  const dataOffset = header.readUInt32LE(0x158);
  const blocks = header.readUInt32LE(0x180);
  if (blocks !== Math.ceil(virtualBytes / BLOCK_BYTES)) {
    refuseCorrupt('its number of blocks does not fit the size of the disk');
  }
  if (mapOffset < SECTOR_BYTES || mapOffset % SECTOR_BYTES !== 0 || dataOffset % SECTOR_BYTES !== 0) {
    refuseCorrupt('its block map or its data lies at an impossible place');
  }
  // Data lies after the map in every image VirtualBox and qemu write; the other way round one would overwrite the other.
  if (dataOffset < SECTOR_BYTES || overlaps({ offset: mapOffset, length: blocks * 4 }, dataOffset, Infinity)) {
    refuseCorrupt('its block map and its data lie on top of each other');
  }
  reader.requireInside(mapOffset, blocks * 4, 'its block map');
  return { mapOffset, dataOffset, blocks };
}

async function checkBlockMap(reader: DiskReader, layout: VdiLayout): Promise<void> {
  let allocatedBytes = 0;
  for await (const chunk of reader.chunks(layout.mapOffset, layout.blocks * 4, 'its block map')) {
    for (let position = 0; position < chunk.length; position += 4) {
      const block = chunk.readUInt32LE(position);
      if (block >= BLOCK_UNALLOCATED_MIN) {
        continue;
      }
      if (layout.dataOffset + (block + 1) * BLOCK_BYTES > reader.fileBytes) {
        refuseTruncated('the data its block map points to');
      }
      if (block >= layout.blocks) {
        refuseCorrupt('its block map points past its last block');
      }
      allocatedBytes += BLOCK_BYTES;
    }
  }
  if (allocatedBytes > reader.fileBytes) {
    refuseCorrupt('it refers to more data than it holds');
  }
}
