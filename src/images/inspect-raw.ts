/**
 * Decides whether a file without any format is a whole disk: a positive number of sectors, and every partition inside.
 *
 * A file without a partition table is accepted, there is nothing in it to measure it by. A sector that ends in 55 AA but
 * whose entries make no sense as partitions is the boot sector of a bare file system, not a partition table. This must
 * never refuse a disk for what is inside its partitions.
 */
import {
  type DiskReader,
  readUint64LittleEndian,
  refuseCorrupt,
  refuseTruncated,
  requireVirtualBytes,
  SECTOR_BYTES,
} from './inspect-reader.ts';

/** UEFI 2.10, 5.2.1: four records of 16 bytes from byte 446 of the master boot record, its signature at 510. */
const PARTITION_RECORDS_OFFSET = 446;
const PARTITION_RECORD_BYTES = 16;
const PARTITION_TYPE_PROTECTIVE = 0xee;

/** A GUID partition table lies in the second sector, whose size the raw bytes do not tell. */
const SECTOR_BYTES_CANDIDATES = [512, 4096];
const PARTITION_ARRAY_BYTES_MAX = 1024 * 1024;

interface PartitionRecord {
  readonly status: number;
  readonly type: number;
  readonly firstSector: number;
  readonly sectors: number;
}

export async function inspectRaw(reader: DiskReader, virtualBytesMax: number): Promise<number> {
  if (reader.fileBytes % SECTOR_BYTES !== 0) {
    refuseTruncated('its last 512-byte sector does');
  }
  requireVirtualBytes(reader.fileBytes, virtualBytesMax);
  const records = await readPartitionRecords(reader);
  for (const record of records) {
    if (record.type === PARTITION_TYPE_PROTECTIVE) {
      // Its own length may be anything up to FFFFFFFF; the table it protects is what counts.
      await checkGuidPartitionTable(reader);
    } else if ((record.firstSector + record.sectors) * SECTOR_BYTES > reader.fileBytes) {
      refuseTruncated('the last of its partitions');
    }
  }
  return reader.fileBytes;
}

/** The used records of the master boot record, or none if the first sector is not one. */
async function readPartitionRecords(reader: DiskReader): Promise<PartitionRecord[]> {
  const sector = await reader.bytes(0, SECTOR_BYTES, 'its first sector');
  if (sector.readUInt16LE(510) !== 0xaa55) {
    return [];
  }
  const records = [0, 1, 2, 3].map((index): PartitionRecord => {
    const offset = PARTITION_RECORDS_OFFSET + index * PARTITION_RECORD_BYTES;
    return {
      status: sector.readUInt8(offset),
      type: sector.readUInt8(offset + 4),
      firstSector: sector.readUInt32LE(offset + 8),
      sectors: sector.readUInt32LE(offset + 12),
    };
  });
  const used = records.filter((record) => record.type !== 0 && record.sectors !== 0);
  const plausible =
    records.every((record) => record.status === 0 || record.status === 0x80) &&
    used.every((record) => record.firstSector >= 1);
  return plausible ? used : [];
}

async function checkGuidPartitionTable(reader: DiskReader): Promise<void> {
  for (const sectorBytes of SECTOR_BYTES_CANDIDATES) {
    if (reader.fileBytes >= sectorBytes + SECTOR_BYTES) {
      const header = await reader.bytes(sectorBytes, SECTOR_BYTES, 'its partition table');
      if (header.subarray(0, 8).toString('latin1') === 'EFI PART') {
        return checkGuidPartitions(reader, header, sectorBytes);
      }
    }
  }
  if (reader.fileBytes < 2 * SECTOR_BYTES) {
    refuseTruncated('its partition table');
  }
  refuseCorrupt('its first sector announces a GUID partition table that is not there');
}

/** UEFI 2.10, 5.3.2 table 5.5: alternate header at 32, last usable sector at 48, the array of entries at 72, 80, 84. */
async function checkGuidPartitions(reader: DiskReader, header: Buffer, sectorBytes: number): Promise<void> {
  reader.requireInside(
    readUint64LittleEndian(header, 32) * sectorBytes,
    sectorBytes,
    'the copy of its partition table',
  );
  reader.requireInside(readUint64LittleEndian(header, 48) * sectorBytes, sectorBytes, 'its last usable sector');
  const arrayOffset = readUint64LittleEndian(header, 72) * sectorBytes;
  const entries = header.readUInt32LE(80);
  const entryBytes = header.readUInt32LE(84);
  if (entryBytes < 128 || entryBytes % 128 !== 0 || entries * entryBytes > PARTITION_ARRAY_BYTES_MAX) {
    refuseCorrupt('its partition table has an impossible size');
  }
  const array = await reader.bytes(arrayOffset, entries * entryBytes, 'its partition table');
  for (let offset = 0; offset < array.length; offset += entryBytes) {
    // Table 5.6: a type of zero marks an unused entry; the last sector of the partition is at byte 40.
    const used = array.subarray(offset, offset + 16).some((byte) => byte !== 0);
    if (used) {
      reader.requireInside(
        readUint64LittleEndian(array, offset + 40) * sectorBytes,
        sectorBytes,
        'the last of its partitions',
      );
    }
  }
}
