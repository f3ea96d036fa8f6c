/**
 * What a copy of the installation takes of workstations, engine by engine: which files belong to a record, and what the
 * record says in the copy. Nothing runs there, so no record may name a process of here, nor a volume that did not come along;
 * the fence stays behind, because the copied database may be older than the record, and its changes would be refused.
 * Whoever makes the copy knows no more of an engine than this.
 */
import type { FileHandle } from 'node:fs/promises';
import type { Keys } from '../keys/keys.ts';
import type { FencedRecord } from './changes.ts';
import { qemuCopies } from './qemu-copies.ts';
import { sandboxCopies } from './sandbox-copies.ts';
import { simulatedCopies } from './simulated.ts';

/** Within the engine's directory. */
export interface WorkstationFiles {
  /** Which never change under one name. */
  readonly backups: readonly string[];
  /** What the workstation works on, and what may be copied only while it does not run; null where there is none. */
  readonly volume: string | null;
}

export interface EngineCopies<T extends FencedRecord = FencedRecord> {
  /** Where its records are, within the directory of all engines. */
  readonly directory: string;
  /** What its files are called in a copy, records apart: the sources of regular expressions. */
  readonly names: readonly string[];
  /** @throws Error for a record that nothing can be made of. */
  filesOf(id: string, record: T): WorkstationFiles;
  recordForCopy(record: T, volume: 'comes along' | 'is left out'): T;
  /** Writes the volume into one file, where it is none by itself. @throws ComputeFailure, ImageFailure; the signal's reason. */
  packVolume?(id: string, record: T, pack: Packing): Promise<void>;
}

export interface Packing {
  readonly target: FileHandle;
  /** Of the engine. */
  readonly directory: string;
  readonly keys: Pick<Keys, 'unseal' | 'destroy'>;
  readonly signal: AbortSignal;
}

export const ENGINE_COPIES: readonly EngineCopies[] = [simulatedCopies, qemuCopies, sandboxCopies];
