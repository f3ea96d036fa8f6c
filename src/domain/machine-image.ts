/**
 * Machine images: the disks that streaming images are made from. The API only names them (`ec2ImageId`); the command
 * line imports, lists and deletes them.
 */
import type { DiskFormat } from '../images/inspect.ts';

export const PLATFORMS = ['LINUX', 'WINDOWS'] as const;
export type Platform = (typeof PLATFORMS)[number];

/**
 * States of a machine image's row on its way in and out: the row is there before the disk and after it, so that a disk is
 * never without one. In between the row is PRESENT, and only then may an image be made of it.
 */
export const IMPORTING = 'IMPORTING';
export const DELETING = 'DELETING';

/** Why a file of this format cannot be an image of this platform; undefined when it can. */
export function refusalOf(platform: Platform, format: DiskFormat): string | undefined {
  if (format !== 'tar' || platform === 'LINUX') return undefined;
  return 'This is a tar of a root file system, which only LINUX can be; give the image of a disk for WINDOWS.';
}

/** `doc` of a machine image's row once its disk is there. Nothing here is secret. */
export interface MachineImage {
  readonly ec2ImageId: string;
  readonly name: string;
  readonly platform: Platform;
  readonly format: DiskFormat;
  /** Length of the file. */
  readonly sizeBytes: number;
  /** Size of the disk as a guest sees it. */
  readonly virtualSizeBytes: number;
  /** Of the file as it arrived. */
  readonly sha256: string;
  /** EULAs to accept before a session may start from it. */
  readonly eulaIds: readonly string[];
  readonly createdAt: string;
}
