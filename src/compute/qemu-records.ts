/**
 * What is remembered of a workstation that is a virtual machine, and what settings say of all of them. A record is written
 * before anything is made of it, and names the process, so that a machine is found again by any server that comes later.
 */
import type { FencedRecord } from './changes.ts';
import type { ProcessMark } from './detached.ts';
import type { InstanceSize } from './instance-types.ts';
import type { MachineSettings } from './machine-engine.ts';
import type { NetworkMode } from './qemu-command.ts';

export interface QemuWorkstation extends FencedRecord {
  readonly power: 'on' | 'starting' | 'stopping' | 'off';
  /** Null where there is none that a start could go on with. */
  readonly volume: Volume | null;
  readonly backups: Readonly<Record<string, Volume>>;
  /** Null where none was started, or none is left. */
  readonly machine: { readonly mark: ProcessMark; readonly size: InstanceSize } | null;
}

export interface Volume {
  /** The image below it. */
  readonly imageId: string;
}

/** Of a workstation that nothing was made of yet. */
export const ABSENT = { power: 'off', changedAt: 0, volume: null, backups: {}, machine: null } as const;

export interface QemuSettings extends MachineSettings {
  /** `none`: a guest reaches nothing. `nat`: it reaches what the server's host reaches, the host itself included. */
  readonly network: NetworkMode;
  /** `auto`: KVM where a machine runs on it, else TCG, which is slower by far. */
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  /** For an image without a guest agent: its screen counts, this long after the firmware. */
  readonly agentMs: number;
  /** For each initialization script. */
  readonly scriptMs: number;
}

export const QEMU_DEFAULTS: Pick<QemuSettings, 'accelerator' | 'agentMs' | 'scriptMs'> = {
  accelerator: 'auto',
  agentMs: 120_000,
  scriptMs: 600_000,
};
