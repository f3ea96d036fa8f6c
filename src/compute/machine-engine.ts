/**
 * What an engine is opened with whose workstations are on this machine. Engines differ in what they remember of a
 * workstation, and in what settings say to one of them alone; nothing else of an engine is here.
 */
import type { Clock } from '../clock.ts';
import type { Images } from '../images/images.ts';
import type { Keys } from '../keys/keys.ts';
import type { Log } from '../log.ts';
import type { InstanceTypes } from './instance-types.ts';
import type { Records } from './records.ts';

export interface MachineEngineOptions<Remembered, Settings extends MachineSettings = MachineSettings> {
  readonly records: Records<Remembered>;
  readonly clock: Clock;
  readonly images: Pick<Images, 'open'>;
  readonly keys: Pick<Keys, 'generate' | 'unseal' | 'destroy'>;
  /** Its own, 0700; made where it is missing. */
  readonly directory: string;
  readonly log: Log;
  readonly settings: Settings;
}

export interface MachineSettings {
  /** What each type of workstation is given. */
  readonly instanceTypes: InstanceTypes;
  /** What all workstations may take together, each with its overhead. */
  readonly memoryMib: number;
  /** From the start of a workstation until it must be usable. */
  readonly bootMs: number;
  /** For a workstation to end by itself, before it is ended. */
  readonly stopMs: number;
}
