/**
 * The file of images and volumes: qcow2 (QEMU's docs/interop/qcow2), version 3, whose guest's bytes are all ciphertext of
 * LUKS. Here an empty one is made, and one that is there is told from anything else. The header names no other file:
 * what lies below a disk is said by whoever opens it, never read from the disk.
 */
import type { FileHandle } from 'node:fs/promises';
import { writeAll } from '../files.ts';
import { LUKS_BYTES, newLuksHeader, SECTOR_BYTES } from './luks.ts';

const MAGIC = 0x51_46_49_fb;
const VERSION = 3;
const HEADER_BYTES = 104;
const BACKING_AT = 8;
const CLUSTER_BITS_AT = 20;
const VIRTUAL_BYTES_AT = 24;
const CRYPT_METHOD_AT = 32;
const LEVEL_1_ENTRIES_AT = 36;
const LEVEL_1_AT = 40;
const REFERENCES_AT = 48;
const REFERENCES_CLUSTERS_AT = 56;
const INCOMPATIBLE_FEATURES_AT = 72;
const REFERENCE_ORDER_AT = 96;
const HEADER_BYTES_AT = 100;
const CRYPT_METHOD_LUKS = 2;
/** The header extension that says where the header of the encryption is. */
const ENCRYPTION_EXTENSION = 0x05_37_be_77;
const ENCRYPTION_EXTENSION_BYTES = 16;

const CLUSTER_BITS = 16;
const CLUSTER_BYTES = 2 ** CLUSTER_BITS;
/** References are counted in 16 bits. */
const REFERENCE_ORDER = 4;
/** What an entry of the level 1 table stands for: a cluster of entries for a cluster each. */
const LEVEL_1_ENTRY_BYTES = (CLUSTER_BYTES / 8) * CLUSTER_BYTES;
/** The largest disk that is ever made or opened: what a header says is not trusted further. */
const VIRTUAL_BYTES_MAX = 64 * 2 ** 40;

function isDiskSize(virtualBytes: number): boolean {
  return virtualBytes > 0 && virtualBytes <= VIRTUAL_BYTES_MAX && virtualBytes % SECTOR_BYTES === 0;
}

const clusters = (bytes: number) => Math.ceil(bytes / CLUSTER_BYTES);

/**
 * Makes an empty disk of the file, which must be empty. Its guest sees zeros, or what is laid below it.
 * @param virtualBytes how large the disk is for its guest: whole sectors of 512 bytes, at most 64 TiB.
 * @param passphrase at least 256 random bits.
 * @throws RangeError where there is no disk of this size; the system's errors.
 */
export async function formatEncryptedDisk(
  file: FileHandle,
  virtualBytes: number,
  passphrase: Uint8Array,
): Promise<void> {
  if (!isDiskSize(virtualBytes)) throw new RangeError(`there is no disk of ${virtualBytes} bytes`);
  const tables = emptyTables(virtualBytes);
  await writeAll(file, tables, 0);
  await writeAll(file, await newLuksHeader(passphrase), tables.length);
  await file.truncate(tables.length + clusters(LUKS_BYTES) * CLUSTER_BYTES);
}

/** Cluster by cluster: header, table of reference counts, reference counts, level 1 table. The encryption's header follows. */
function emptyTables(virtualBytes: number): Buffer {
  const level1Entries = Math.ceil(virtualBytes / LEVEL_1_ENTRY_BYTES);
  const encryptionCluster = 3 + clusters(level1Entries * 8);
  const tables = Buffer.alloc(encryptionCluster * CLUSTER_BYTES);
  tables.writeUInt32BE(MAGIC, 0);
  tables.writeUInt32BE(VERSION, 4);
  tables.writeUInt32BE(CLUSTER_BITS, CLUSTER_BITS_AT);
  tables.writeBigUInt64BE(BigInt(virtualBytes), VIRTUAL_BYTES_AT);
  tables.writeUInt32BE(CRYPT_METHOD_LUKS, CRYPT_METHOD_AT);
  tables.writeUInt32BE(level1Entries, LEVEL_1_ENTRIES_AT);
  tables.writeBigUInt64BE(BigInt(3 * CLUSTER_BYTES), LEVEL_1_AT);
  tables.writeBigUInt64BE(BigInt(CLUSTER_BYTES), REFERENCES_AT);
  tables.writeUInt32BE(1, REFERENCES_CLUSTERS_AT);
  tables.writeUInt32BE(REFERENCE_ORDER, REFERENCE_ORDER_AT);
  tables.writeUInt32BE(HEADER_BYTES, HEADER_BYTES_AT);
  tables.writeUInt32BE(ENCRYPTION_EXTENSION, HEADER_BYTES);
  tables.writeUInt32BE(ENCRYPTION_EXTENSION_BYTES, HEADER_BYTES + 4);
  tables.writeBigUInt64BE(BigInt(encryptionCluster * CLUSTER_BYTES), HEADER_BYTES + 8);
  tables.writeBigUInt64BE(BigInt(LUKS_BYTES), HEADER_BYTES + 16);
  tables.writeBigUInt64BE(BigInt(2 * CLUSTER_BYTES), CLUSTER_BYTES);
  const usedClusters = encryptionCluster + clusters(LUKS_BYTES);
  for (let cluster = 0; cluster < usedClusters; cluster += 1) {
    tables.writeUInt16BE(1, 2 * CLUSTER_BYTES + 2 * cluster);
  }
  return tables;
}

/** How large the disk is for its guest; undefined where the file is not a whole, encrypted disk that stands for itself. */
export async function encryptedDiskBytes(file: FileHandle): Promise<number | undefined> {
  const header = Buffer.alloc(HEADER_BYTES);
  const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
  const virtualBytes = Number(header.readBigUInt64BE(VIRTUAL_BYTES_AT));
  const sound =
    bytesRead === HEADER_BYTES &&
    header.readUInt32BE(0) === MAGIC &&
    header.readUInt32BE(4) === VERSION &&
    header.readUInt32BE(CRYPT_METHOD_AT) === CRYPT_METHOD_LUKS &&
    header.readBigUInt64BE(BACKING_AT) === 0n &&
    header.readBigUInt64BE(INCOMPATIBLE_FEATURES_AT) === 0n &&
    isDiskSize(virtualBytes);
  return sound ? virtualBytes : undefined;
}
