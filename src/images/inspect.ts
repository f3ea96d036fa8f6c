/**
 * Says what a disk image file really is, before any tool opens it.
 *
 * The content decides, never the name; the name is only a claim that must not contradict it. A file is accepted when it
 * is a complete disk of one of five formats, or a tar of a root file system, that refers to nothing outside itself, because
 * a tool that follows such a reference reads the host's files for whoever made the image (CVE-2024-32498). This must never open, name or follow
 * anything but the handle it was given, and its verdict holds only for tools told this very format: one left to guess
 * could be misled by what the guest wrote to its own disk.
 */
import type { FileHandle } from 'node:fs/promises';
import { inspectQcow2 } from './inspect-qcow2.ts';
import { inspectRaw } from './inspect-raw.ts';
import { DiskReader, refuse } from './inspect-reader.ts';
import { sniffDisk } from './inspect-sniff.ts';
import { inspectTar } from './inspect-tar.ts';
import { inspectVdi } from './inspect-vdi.ts';
import { inspectVhdx } from './inspect-vhdx.ts';
import { inspectVmdk } from './inspect-vmdk.ts';

export { DiskRefused, type DiskRefusedCode } from './inspect-reader.ts';

/** `tar` is no disk: what is unpacked of it is the root file system of a workstation that shares the host's kernel. */
export type DiskFormat = 'raw' | 'qcow2' | 'vmdk' | 'vhdx' | 'vdi' | 'tar';

export interface DiskDescription {
  readonly format: DiskFormat;
  readonly fileBytes: number;
  readonly virtualBytes: number;
}

export interface InspectOptions {
  /** The file's original name; its extension is the claim. */
  readonly nameHint?: string;
  readonly virtualBytesMax?: number;
}

export const VIRTUAL_BYTES_MAX_DEFAULT = 16 * 2 ** 40;

/** Each checks everything its format can refer to and answers with the size of the disk inside, in bytes. */
type Inspector = (reader: DiskReader, virtualBytesMax: number) => Promise<number>;

const INSPECTORS: Readonly<Record<DiskFormat, Inspector>> = {
  raw: inspectRaw,
  qcow2: inspectQcow2,
  vmdk: inspectVmdk,
  vhdx: inspectVhdx,
  vdi: inspectVdi,
  tar: inspectTar,
};

/** Extensions that claim a format. `.vhd` claims one that is not taken, so any disk found under it contradicts its name. */
const CLAIMS: Readonly<Record<string, DiskFormat | 'vhd'>> = {
  qcow2: 'qcow2',
  qcow: 'qcow2',
  vmdk: 'vmdk',
  vhdx: 'vhdx',
  vdi: 'vdi',
  raw: 'raw',
  tar: 'tar',
  vhd: 'vhd',
};

/** `handle` is open for reading on a file that nobody else can change until the last tool has closed it. */
export async function inspectDisk(handle: FileHandle, options: InspectOptions = {}): Promise<DiskDescription> {
  const reader = await DiskReader.open(handle);
  const format = await sniffDisk(reader);
  requireNameAgrees(format, options.nameHint);
  const virtualBytes = await INSPECTORS[format](reader, options.virtualBytesMax ?? VIRTUAL_BYTES_MAX_DEFAULT);
  return { format, fileBytes: reader.fileBytes, virtualBytes };
}

function requireNameAgrees(format: DiskFormat, nameHint: string | undefined): void {
  const extension = nameHint?.match(/\.([a-z0-9]+)$/i)?.[1]?.toLowerCase();
  const claim = extension !== undefined && Object.hasOwn(CLAIMS, extension) ? CLAIMS[extension] : undefined;
  if (claim !== undefined && claim !== format) {
    const found = format === 'raw' ? 'no disk format that is known here' : `a ${format} image`;
    refuse(
      'FORMAT_MISMATCH',
      `The file's name ends in .${extension} but its content is ${found}; copy it again, or give it the right extension.`,
    );
  }
}
