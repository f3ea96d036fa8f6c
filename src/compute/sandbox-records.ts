/**
 * What is remembered of a workstation in a sandbox. A record is written before the effect that it announces, so that
 * whoever takes over finds by it whatever may be there.
 */
import type { FencedRecord } from './changes.ts';
import { ComputeFailure, volumeGone, type WorkstationRequest } from './compute.ts';
import { newMark } from './sandbox-names.ts';

export interface SandboxedWorkstation extends FencedRecord {
  readonly power: 'on' | 'starting' | 'off';
  readonly imageId: string;
  readonly memoryMib: number;
  /** Among the arguments of its processes, and of no others. */
  readonly mark: string;
  /** The name of its home; null where there is none. */
  readonly home: string | null;
  /** The backup that its home is still to be replaced by. */
  readonly restore: string | null;
  readonly backups: Readonly<Record<string, { readonly bytes: number }>>;
}

/** Of a workstation that nothing was made of yet. */
export const ABSENT = {
  power: 'off',
  changedAt: 0,
  imageId: '',
  memoryMib: 0,
  mark: '',
  home: null,
  restore: null,
  backups: {},
} as const;

/** A start from what there is. A start that goes on after a crash restores what it was to restore, and only that. */
export function nextStart(
  found: SandboxedWorkstation | undefined,
  { imageId, fromBackupId, needsVolume }: WorkstationRequest,
): Pick<SandboxedWorkstation, 'power' | 'imageId' | 'mark' | 'restore'> {
  const isNew = found === undefined || found.power === 'off';
  const restore = (isNew ? fromBackupId : found.restore) ?? null;
  if (restore !== null && !(found && Object.hasOwn(found.backups, restore))) {
    throw new ComputeFailure('INTERNAL_ERROR', `There is no backup ${restore}`);
  }
  if (needsVolume && restore === null && (found?.home ?? null) === null) throw volumeGone();
  const mark = found?.mark || newMark();
  return { power: 'starting', imageId, mark, restore };
}
