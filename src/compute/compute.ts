/**
 * The port to the machines that workstations run on. It knows nothing of studios, profiles or states; only why one failed is
 * said in the words of the API.
 *
 * A workstation, its volumes and its backups are named by the id that the caller gave them, so that an effect that ran
 * twice or died half way finds its own result. Each change comes with a fence: an adapter must refuse one that is lower
 * than another it has seen for the same workstation, or a caller who stood still for an hour could start what has been
 * stopped since. What is destroyed is forgotten together with its fence.
 */

import type { Duplex } from 'node:stream';
import type { StreamingSessionFailure } from '../contract/streaming-session.ts';
import type { KeyUnavailable } from '../keys/keys.ts';

/** What every change of a workstation says. */
export interface Change {
  readonly id: string;
  readonly fence: number;
  /** Ends the work early. What is half done is taken up by the next call with the same id. */
  readonly signal: AbortSignal;
}

/** Of one backup. It needs no fence: no two backups have the same id. */
export type BackupChange = Omit<Change, 'fence'> & { readonly backupId: string };

export interface WorkstationRequest extends Change {
  /** The encrypted copy that it boots from (see images/images.ts). */
  readonly imageId: string;
  readonly platform: Platform;
  readonly instanceType: string;
  /** The customer key above the workstation's own; the installation's root key where undefined. */
  readonly keyArn: string | undefined;
  /** Of the volume that it works on; the adapter's own choice where absent. */
  readonly volume?: VolumeRequest;
  /** Backup of this workstation whose content replaces its volume, once for each time it is stopped. */
  readonly fromBackupId?: string;
  /** Whether a workstation that does not run must have its volume: to make an empty one would lose work without a word. */
  readonly needsVolume?: boolean;
  /** Run inside in this order at each start, before the workstation counts as usable; one that fails ends the start. */
  readonly scripts: readonly WorkstationScript[];
  /** Whether text may pass between the desktop and whoever sees it. Where not, the machine has no means for it. */
  readonly clipboard: boolean;
  /** Called with 0 to 100, not more often than once a second. */
  readonly onProgress: (percent: number) => void;
}

export type Platform = 'LINUX' | 'WINDOWS';

/** A script of the studio's. Its text and its parameters may hold secrets: they are in no log, message or list of processes. */
export interface WorkstationScript {
  /** Whose it is, for the log and for a message. */
  readonly name: string;
  readonly text: string;
  /** As the system, or as the user whose desktop it is. */
  readonly runAs: 'system' | 'user';
  /** Of its environment. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface VolumeRequest {
  readonly sizeGib?: number;
  readonly iops?: number;
  readonly throughputMibps?: number;
}

/** A workstation, or what is left of one. */
export interface Workstation {
  readonly id: string;
  readonly running: boolean;
  /** Whether it has a volume that the next start goes on with. */
  readonly hasVolume: boolean;
  readonly backupIds: readonly string[];
  /** When it was last made, started or stopped. */
  readonly changedAt: number;
}

/** What can be seen of a running workstation from outside. Nothing that comes from it can be trusted. */
export interface Desktop {
  /** A new connection that speaks RFB (RFC 6143) without a password, for this server alone. @throws ComputeFailure */
  connect(signal: AbortSignal): Promise<Duplex>;
  /** What stands on the screen now, as a PNG; undefined where the adapter has no way to take it. @throws ComputeFailure */
  picture?(signal: AbortSignal): Promise<Buffer>;
  /** What the workstation last wrote to its serial line or its log, of bounded length; as untrusted as all else of it. */
  log?(signal: AbortSignal): Promise<string>;
}

export interface Compute {
  /**
   * Makes sure that the workstation runs: made from the image, or started with the volume or the backup that there is.
   * Resolves when it can be used. @throws ComputeFailure, `volumeGone` where the volume that it needs is not there; nothing
   * is made then.
   */
  ensure(request: WorkstationRequest): Promise<void>;
  /** Makes sure that it does not run, and that its volume is kept or deleted. No error when there is none. */
  stop(change: Change & { readonly volume: 'keep' | 'delete' }): Promise<void>;
  /** Makes sure that the backup holds what the volume of the stopped workstation holds. @throws ComputeFailure */
  backUp(change: Change & { readonly backupId: string }): Promise<void>;
  /** Destroys the workstation with its volume and all its backups, or one backup. No error when there is nothing. */
  destroy(change: Change | BackupChange): Promise<void>;
  /** The desktop of a running workstation, reached once so that it is known to answer. @throws ComputeFailure */
  open(id: string, signal: AbortSignal): Promise<Desktop>;
  list(): Promise<Workstation[]>;
}

/**
 * What an adapter throws. `message` is for the session's owner and names nothing of the inside; `inward` is for the log.
 * `retryable` failures may pass by themselves.
 */
export class ComputeFailure extends Error {
  override readonly name = 'ComputeFailure';
  readonly code: StreamingSessionFailure;
  readonly retryable: boolean;
  readonly inward: string | undefined;
  constructor(
    code: StreamingSessionFailure,
    message: string,
    options: { readonly retryable?: boolean; readonly inward?: string; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.inward = options.inward;
  }
}

/** Nobody gets an empty volume for the one that was kept. */
export function volumeGone(): ComputeFailure {
  return new ComputeFailure(
    'INTERNAL_ERROR',
    'The volume of this session is gone, so it was not started. Start it from one of its backups; without any, delete it and create another.',
  );
}

/** Key services name the key in their messages, and no place of theirs: so the owner learns which one it is. */
export function keyGone(cause: KeyUnavailable): ComputeFailure {
  const message = `The disks of this session cannot be decrypted: ${cause.message}.`;
  return new ComputeFailure('DECRYPT_STREAMING_IMAGE_ERROR', message, { cause });
}
