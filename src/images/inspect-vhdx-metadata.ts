/**
 * Reads the metadata of a VHDX image: how large the disk inside and its blocks are.
 *
 * Sections are those of Microsoft's MS-VHDX, 2.6. It decides that the disk has no parent: neither the flag nor a parent
 * locator may be there. It must never pass a required item it does not know, nor an item outside the metadata region.
 */
import { type DiskReader, type FileRange, readUint64LittleEndian, refuse, refuseCorrupt } from './inspect-reader.ts';

const TABLE_BYTES = 64 * 1024;
const ENTRY_BYTES = 32;
const ENTRIES_MAX = 2047;
const ITEM_REQUIRED = 4;

/** 2.6.2, in the byte order of the file. */
const ITEM_FILE_PARAMETERS = '3767a1ca36fa434db3b633f0aa44e76b';
const ITEM_VIRTUAL_DISK_SIZE = '2442a52f1bcd7648b2115dbed83bf4b8';
const ITEM_PAGE_83 = 'ab12cabee6b2234593efc309e000c746';
const ITEM_LOGICAL_SECTOR = '1dbf41816fa90947ba47f233a8faab5f';
const ITEM_PHYSICAL_SECTOR = 'c748a3cd5d4471449cc9e9885251c556';
const ITEM_PARENT_LOCATOR = '2d5fd3a80bb34d45abf7d3d84834ab0c';

const ITEM_BYTES: Readonly<Record<string, number>> = {
  [ITEM_FILE_PARAMETERS]: 8,
  [ITEM_VIRTUAL_DISK_SIZE]: 8,
  [ITEM_PAGE_83]: 16,
  [ITEM_LOGICAL_SECTOR]: 4,
  [ITEM_PHYSICAL_SECTOR]: 4,
};

/** Bits of the file parameters' second word. */
const HAS_PARENT = 2;

export interface VhdxMetadata {
  readonly virtualBytes: number;
  readonly blockBytes: number;
  readonly sectorBytes: number;
}

export async function readVhdxMetadata(reader: DiskReader, region: FileRange): Promise<VhdxMetadata> {
  const items = await readItems(reader, region);
  const parameters = await readItem(reader, items, ITEM_FILE_PARAMETERS);
  if ((parameters.readUInt32LE(4) & HAS_PARENT) !== 0) {
    refuseParent();
  }
  const size = await readItem(reader, items, ITEM_VIRTUAL_DISK_SIZE);
  const sector = await readItem(reader, items, ITEM_LOGICAL_SECTOR);
  await readItem(reader, items, ITEM_PHYSICAL_SECTOR);
  await readItem(reader, items, ITEM_PAGE_83);
  // MS-VHDX 2.6.2.4 allows 4096 too, which QEMU refuses.
  if (sector.readUInt32LE(0) !== 512) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'This VHDX image has sectors of 4096 bytes; copy its disk to an image with 512-byte sectors.',
    );
  }
  return {
    virtualBytes: readUint64LittleEndian(size, 0),
    blockBytes: parameters.readUInt32LE(0),
    sectorBytes: sector.readUInt32LE(0),
  };
}

function refuseParent(): never {
  refuse(
    'BACKING_FILE',
    'This VHDX image holds only the changes to a parent disk; merge them with Merge-VHD in Windows PowerShell.',
  );
}

/** Where in the file each item of the table lies. */
async function readItems(reader: DiskReader, region: FileRange): Promise<ReadonlyMap<string, FileRange>> {
  const table = await reader.bytes(region.offset, TABLE_BYTES, 'its metadata');
  const entries = table.readUInt16LE(10);
  if (table.toString('latin1', 0, 8) !== 'metadata' || entries > ENTRIES_MAX) {
    refuseCorrupt('its metadata is not valid');
  }
  const items = new Map<string, FileRange>();
  for (let index = 1; index <= entries; index++) {
    const entry = table.subarray(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES);
    const kind = entry.toString('hex', 0, 16);
    const offset = entry.readUInt32LE(16);
    const length = entry.readUInt32LE(20);
    checkItemKind(kind, entry.readUInt32LE(24));
    if (items.has(kind)) {
      refuseCorrupt('its metadata says one thing twice');
    }
    if (length !== 0 && (offset < TABLE_BYTES || offset + length > region.length)) {
      refuseCorrupt('its metadata lies outside its place');
    }
    items.set(kind, { offset: region.offset + offset, length });
  }
  return items;
}

function checkItemKind(kind: string, flags: number): void {
  if (kind === ITEM_PARENT_LOCATOR) {
    refuseParent();
  }
  if (!Object.hasOwn(ITEM_BYTES, kind) && (flags & ITEM_REQUIRED) !== 0) {
    refuse(
      'UNSUPPORTED_FEATURE',
      'This VHDX image uses a feature that is not known; copy it with Convert-VHD in Windows PowerShell.',
    );
  }
}

/** All five are required by 2.6.2; each has one length. */
async function readItem(reader: DiskReader, items: ReadonlyMap<string, FileRange>, kind: string): Promise<Buffer> {
  const item = items.get(kind);
  const length = ITEM_BYTES[kind]!;
  if (item === undefined || item.length < length) {
    refuseCorrupt('its metadata lacks a required item');
  }
  return reader.bytes(item.offset, length, 'its metadata');
}
