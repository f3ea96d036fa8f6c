/**
 * Lays a tree of files out as a disk that starts by itself: a master boot record, GRUB behind it, and one ext4 partition.
 *
 * Everything is written into plain files, so it needs no mount, no loop device, and no rights but to read the tree. GRUB
 * is put in its place by hand, because grub-install looks for real disks: its first sector loads what stands in the second
 * one, and finds there the script that names the kernel. It starts as the BIOS of a virtual machine starts a disk; nothing
 * here is for UEFI. It must never write outside of `scratch` and `target`.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, withFile } from '../files.ts';
import { type Needed, type ProgramOptions, runBy, runProgram } from './build-program.ts';

const SECTOR_BYTES = 512;
/** Where partitions begin since disks have larger sectors: GRUB has the space before it to itself. */
const PARTITION_SECTOR = 2_048;
/** The boot record's code ends here: what follows is the disk's signature, and the table of partitions. */
const BOOT_CODE_BYTES = 440;
const PARTITION_TABLE_OFFSET = 446;
const PARTITION_RECORD_BYTES = 16;
const PARTITION_TYPE_LINUX = 0x83;
/** "Look at the sector numbers instead": what cylinders, heads and sectors are too small for. */
const NO_CYLINDERS = [0xfe, 0xff, 0xff];
const BOOT_SECTOR = '/usr/lib/grub/i386-pc/boot.img';

/** What it runs, and the file that it takes. */
export const DISK_PROGRAMS: Needed = {
  'grub-mkimage': 'grub-common',
  [BOOT_SECTOR]: 'grub-pc-bin',
  mke2fs: 'e2fsprogs',
  'qemu-img': 'qemu-utils',
};

/** Where GRUB finds the file system, for its script: `set root=...`. */
export const GRUB_ROOT = '(hd0,msdos1)';

export interface DiskRequest {
  /** What the file system will hold, kernel included. */
  readonly tree: string;
  /** The file system's label, 16 letters at most. */
  readonly label: string;
  readonly diskMebibytes: number;
  /** Commands of GRUB that load the kernel and end with `boot`. */
  readonly grubScript: string;
  /** A qcow2 file that is not there yet. */
  readonly target: string;
  /** Smaller by more than half, slower to make. */
  readonly compressed: boolean;
  /** A directory with room for what the tree holds. */
  readonly scratch: string;
  /** Program and words before mke2fs, to whom the tree belongs to the users it should. */
  readonly ownership?: readonly string[];
}

export async function makeBootableDisk(request: DiskRequest, options: ProgramOptions): Promise<void> {
  const { tree, label, diskMebibytes, grubScript, target, compressed, scratch, ownership = [] } = request;
  const raw = join(scratch, 'disk.raw');
  const core = join(scratch, 'core.img');
  const script = join(scratch, 'grub.cfg');
  const partitionBytes = diskMebibytes * 2 ** 20 - PARTITION_SECTOR * SECTOR_BYTES;
  try {
    await withFile(createFile(raw), (disk) => disk.truncate(diskMebibytes * 2 ** 20));
    const makeFileSystem = [
      ...['mke2fs', '-q', '-t', 'ext4', '-L', label, '-m', '1', '-d', tree],
      ...['-E', `offset=${PARTITION_SECTOR * SECTOR_BYTES},root_owner=0:0`],
      // GRUB 2.06 knows neither, and refuses a file system that has them.
      ...['-O', '^metadata_csum_seed,^orphan_file', raw, `${partitionBytes / 1024}k`],
    ];
    await runBy(ownership, makeFileSystem, options);
    await writeFile(script, `set root=${GRUB_ROOT}\n${grubScript}`);
    const modules = ['biosdisk', 'part_msdos', 'ext2', 'linux', 'boot'];
    const where = ['-O', 'i386-pc', '-c', script, '-p', `${GRUB_ROOT}/boot/grub`, '-o', core];
    await runProgram('grub-mkimage', [...where, ...modules], options);
    await withFile(open(raw, 'r+'), (disk) => writeBootSectors(disk, core, partitionBytes));
    const how = compressed ? ['-c'] : [];
    await runProgram('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', ...how, raw, target], options);
  } finally {
    for (const file of [raw, core, script]) await rm(file, { force: true });
  }
}

async function writeBootSectors(disk: FileHandle, core: string, partitionBytes: number): Promise<void> {
  const grub = await readFile(core);
  if (grub.length > (PARTITION_SECTOR - 1) * SECTOR_BYTES) throw new Error('GRUB does not fit before the partition');
  await disk.write(await bootRecord(partitionBytes), 0, SECTOR_BYTES, 0);
  await disk.write(grub, 0, grub.length, SECTOR_BYTES);
  await disk.sync();
}

/** UEFI 2.10, 5.2.1. */
async function bootRecord(partitionBytes: number): Promise<Buffer> {
  const sector = Buffer.alloc(SECTOR_BYTES);
  (await readFile(BOOT_SECTOR)).copy(sector, 0, 0, BOOT_CODE_BYTES);
  randomBytes(4).copy(sector, BOOT_CODE_BYTES);
  const record = sector.subarray(PARTITION_TABLE_OFFSET, PARTITION_TABLE_OFFSET + PARTITION_RECORD_BYTES);
  record.set([0x80, ...NO_CYLINDERS, PARTITION_TYPE_LINUX, ...NO_CYLINDERS]);
  record.writeUInt32LE(PARTITION_SECTOR, 8);
  record.writeUInt32LE(partitionBytes / SECTOR_BYTES, 12);
  sector.writeUInt16LE(0xaa55, SECTOR_BYTES - 2);
  return sector;
}
