/**
 * What is remembered of a workstation that is a virtual machine, and what settings say of all of them. A record is written
 * before anything is made of it, and names the process, so that a machine is found again by any server that comes later.
 */
import type { FencedRecord } from './changes.ts';
import type { ProcessMark } from './detached.ts';
import type { InstanceSize } from './instance-types.ts';
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

export interface QemuSettings {
  /** `auto`: KVM where a machine runs on it, else TCG, which is slower by far. */
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  /** What all workstations may take together; undefined: what the host has, less a reserve. */
  readonly memoryMib: number | undefined;
  /** Changes and extends the built-in types, such as `g4dn.xlarge=2:4096,mine.small=1:1024`: vCPUs and MiB. */
  readonly instanceTypes: string;
  /** `none`: a guest reaches nothing. `nat`: it reaches what the server's host reaches, the host itself included. */
  readonly network: NetworkMode;
  /** From the start of a machine until it must be usable. */
  readonly bootSeconds: number;
  /** For a guest to shut itself down, before it is ended. */
  readonly stopSeconds: number;
  /** For an image without a guest agent: its screen counts, this long after the firmware. */
  readonly agentSeconds: number;
  /** For each initialization script. */
  readonly scriptSeconds: number;
}

export const QEMU_DEFAULTS: QemuSettings = {
  accelerator: 'auto',
  memoryMib: undefined,
  instanceTypes: '',
  network: 'none',
  bootSeconds: 300,
  stopSeconds: 60,
  agentSeconds: 90,
  scriptSeconds: 600,
};
