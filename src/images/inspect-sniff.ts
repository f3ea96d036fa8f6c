/**
 * Names a file's format by its content: the accepted ones to hand on, the known others to refuse with what to do instead.
 *
 * A signature always wins: content that begins like another format is that format, never a raw disk, because a tool
 * that guesses would take it for one. Only what matches nothing is called raw. It must never look at the file's name,
 * and never answer with a format it has not seen the signature of.
 */
import type { DiskFormat } from './inspect.ts';
import { type DiskReader, type DiskRefusedCode, refuse, refuseTruncated, SECTOR_BYTES } from './inspect-reader.ts';

/** Covers every signature at the start, and a VMDK descriptor's first lines. */
const HEAD_BYTES = 4096;

/** ECMA-119 6.2.1 and ECMA-167 2/8: volume descriptors begin at 32 KiB, their identifier one byte later. */
const VOLUME_DESCRIPTOR_OFFSET = 32 * 1024;
const VOLUME_IDENTIFIERS = ['CD001', 'BEA01', 'NSR02', 'NSR03'];

interface Signature {
  readonly at: number;
  readonly bytes: Buffer;
}

interface KnownFormat extends Signature {
  readonly format: DiskFormat;
}

interface RefusedFormat extends Signature {
  readonly code: DiskRefusedCode;
  readonly sentence: string;
}

function text(value: string): Buffer {
  return Buffer.from(value, 'latin1');
}

/**
 * qcow2: QEMU docs/interop/qcow2; VMDK: Virtual Disk Format 5.0; VHDX: MS-VHDX 2.2.1; VDI: VirtualBox VDICore.h; tar:
 * POSIX.1-2017, pax.
 */
const ACCEPTED: readonly KnownFormat[] = [
  { format: 'qcow2', at: 0, bytes: text('QFI\xfb') },
  { format: 'vmdk', at: 0, bytes: text('KDMV') },
  { format: 'vhdx', at: 0, bytes: text('vhdxfile') },
  { format: 'vdi', at: 0x40, bytes: text('\x7f\x10\xda\xbe') },
  { format: 'tar', at: 0x101, bytes: text('ustar') },
];

function convertible(name: string, qemuFormat: string): string {
  return `This is a ${name} image, which is not taken; convert it with: qemu-img convert -f ${qemuFormat} -O qcow2 INPUT OUTPUT.`;
}

const VHD = convertible('VHD (Virtual PC, Azure)', 'vpc');
const DMG = convertible('Apple DMG', 'dmg');
const PARALLELS = convertible('Parallels', 'parallels');

function archive(name: string): string {
  return `This is ${name}, not a disk image; unpack it and give the disk image inside.`;
}

function notADisk(name: string): string {
  return `This is ${name}, not a disk image; give the image of a machine's disk.`;
}

/** Every known format that is not taken. The first match speaks, so longer signatures stand before their prefixes. */
const UNSUPPORTED: readonly (readonly [at: number, magic: string, sentence: string])[] = [
  [0, 'QFI\xfb\x00\x00\x00\x01', convertible('QCOW version 1', 'qcow')],
  [0, 'QED\x00', convertible('QED', 'qed')],
  [0, 'conectix', VHD],
  [0, 'COWD', convertible('VMware ESX copy-on-write', 'vmdk')],
  [0, '\xbe\xba\xfe\xca\x00\x00\x00\x00', notADisk('one extent of a VMware seSparse disk')],
  [0, 'WithoutFreeSpace', PARALLELS],
  [0, 'WithouFreSpacExt', PARALLELS],
  [0, 'Bochs Virtual HD Image', convertible('Bochs', 'bochs')],
  [0, '#!/bin/sh\n#V2.0 Format\n', convertible('cloop', 'cloop')],
  [0, 'sprs', DMG],
  [0, 'EVF\x09\x0d\x0a\xff\x00', notADisk('an EnCase forensic image')],
  [0, 'MSWIM\x00\x00\x00', notADisk('a Windows installation image (WIM)')],
  [0, 'hsqs', notADisk('a squashfs file system')],
  [0, 'QEVM', notADisk('the saved memory of a virtual machine')],
  [0, 'VMA\x00', archive('a Proxmox backup archive')],
  [0, '\x1f\x8b\x08', archive('a gzip archive')],
  [0, '\xfd7zXZ\x00', archive('an xz archive')],
  [0, '\x28\xb5\x2f\xfd', archive('a zstd archive')],
  [0, '\x04\x22\x4d\x18', archive('an lz4 archive')],
  [0, 'LZIP', archive('an lzip archive')],
  [0, 'BZh', archive('a bzip2 archive')],
  [0, 'PK\x03\x04', archive('a zip archive')],
  [0, 'PK\x05\x06', archive('a zip archive')],
  [0, '7z\xbc\xaf\x27\x1c', archive('a 7z archive')],
  [0, 'Rar!\x1a\x07', archive('a rar archive')],
  [0, '070701', archive('a cpio archive')],
  [0, '!<arch>\n', archive('an ar archive')],
  [0, '\xed\xab\xee\xdb', notADisk('an RPM package')],
  [0, '\x7fELF', notADisk('a Linux program (ELF)')],
  [0, '%PDF-', notADisk('a PDF document')],
  [0, '\x89PNG\r\n\x1a\n', notADisk('a PNG picture')],
  [0, '\xff\xd8\xff', notADisk('a JPEG picture')],
  [0, 'GIF8', notADisk('a GIF picture')],
];

const REFUSED: readonly RefusedFormat[] = [
  {
    code: 'ENCRYPTED',
    at: 0,
    bytes: text('LUKS\xba\xbe'),
    sentence:
      'This is a disk encrypted with LUKS, which cannot be read; decrypt it first and give the plain disk image.',
  },
  ...UNSUPPORTED.map(([at, magic, sentence]) => ({
    code: 'UNSUPPORTED_FORMAT' as const,
    at,
    bytes: text(magic),
    sentence,
  })),
];

/** Formats whose signature stands in the last 512 bytes: a fixed VHD is a raw disk followed by its footer, a DMG likewise. */
const REFUSED_AT_END: readonly RefusedFormat[] = [
  { code: 'UNSUPPORTED_FORMAT', at: 0, bytes: text('conectix'), sentence: VHD },
  { code: 'UNSUPPORTED_FORMAT', at: 0, bytes: text('koly'), sentence: DMG },
];

/**
 * A VMDK descriptor on its own: comment and blank lines, then `version=`, as QEMU probes it. Comments may hold any bytes,
 * so this must be asked before the file is taken for raw.
 */
const VMDK_DESCRIPTOR = /^(?:# *Disk *DescriptorFile|(?:[ \t\r]*(?:#[^\n]*)?\n)*[ \t]*version[ \t]*=)/i;

export async function sniffDisk(reader: DiskReader): Promise<DiskFormat> {
  const head = await reader.bytes(0, Math.min(HEAD_BYTES, reader.fileBytes), 'its first bytes');
  refuseMatch(REFUSED, head);
  const matches = ACCEPTED.filter((signature) => has(head, signature));
  if (matches.length > 1) {
    refuse(
      'AMBIGUOUS_FORMAT',
      'The file carries the signatures of two disk formats at once; export it again from where it was made.',
    );
  }
  return matches[0]?.format ?? (await sniffUnsigned(reader, head));
}

/** What has no signature at its start is raw, unless something further inside says what it is. */
async function sniffUnsigned(reader: DiskReader, head: Buffer): Promise<DiskFormat> {
  if (VMDK_DESCRIPTOR.test(head.toString('latin1'))) {
    refuse(
      'EXTERNAL_DATA_FILE',
      'This is only the descriptor of a VMware disk, its data is in other files; ' +
        'make one file of them with: qemu-img convert -f vmdk -O qcow2 INPUT OUTPUT.',
    );
  }
  if (reader.fileBytes < SECTOR_BYTES) {
    refuseTruncated('the 512 bytes that the smallest disk has');
  }
  if (isText(head.subarray(0, SECTOR_BYTES))) {
    refuse('UNSUPPORTED_FORMAT', notADisk('a text file'));
  }
  await refuseOpticalDisc(reader);
  const tail = await reader.bytes(reader.fileBytes - SECTOR_BYTES, SECTOR_BYTES, 'its last bytes');
  refuseMatch(REFUSED_AT_END, tail);
  return 'raw';
}

/**
 * Refused even when it also holds a partition table (a hybrid image that boots from a stick): what is on it installs a
 * system, it is not an installed one.
 */
async function refuseOpticalDisc(reader: DiskReader): Promise<void> {
  const identifierOffset = VOLUME_DESCRIPTOR_OFFSET + 1;
  if (reader.fileBytes < identifierOffset + 5) {
    return;
  }
  const identifier = await reader.bytes(identifierOffset, 5, 'its volume descriptor');
  if (VOLUME_IDENTIFIERS.includes(identifier.toString('latin1'))) {
    refuse(
      'UNSUPPORTED_FORMAT',
      'This is an ISO image of an installation disc; install it in a virtual machine and give the image of its disk.',
    );
  }
}

function refuseMatch(signatures: readonly RefusedFormat[], bytes: Buffer): void {
  const match = signatures.find((signature) => has(bytes, signature));
  if (match !== undefined) {
    refuse(match.code, match.sentence);
  }
}

function has(bytes: Buffer, signature: Signature): boolean {
  return bytes.subarray(signature.at, signature.at + signature.bytes.length).equals(signature.bytes);
}

/** No boot sector is all text; a JSON, XML, script or log file always is. Bytes above 127 count as text of some encoding. */
function isText(bytes: Buffer): boolean {
  return bytes.every((byte) => byte >= 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0c || byte === 0x0d);
}
