/**
 * How a workstation comes to run: its machine is started while its keys and its volume are made, gets its disks, runs, boots
 * and is initialized. A machine that another server has started is gone on with from wherever it is. Whoever calls sees that
 * nobody else is at work on the workstation, and ends what a start that failed has left.
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import type { Clock } from '../clock.ts';
import { syncDirectory } from '../files.ts';
import type { Images } from '../images/images.ts';
import type { Keys } from '../keys/keys.ts';
import type { Log } from '../log.ts';
import type { AcceleratorFound } from './accelerator.ts';
import { type ChangeRecord, overtaken } from './changes.ts';
import { ComputeFailure, type WorkstationRequest } from './compute.ts';
import { isAlive, type ProcessMark } from './detached.ts';
import { endOfOutput } from './initialization.ts';
import type { InstanceSize } from './instance-types.ts';
import { runScripts, waitUntilUsable } from './qemu-boot.ts';
import { MONITOR } from './qemu-command.ts';
import { createVolumeFile, formatVolume, openVolume, virtualBytesOf } from './qemu-disk.ts';
import {
  attachDisks,
  type DiskKeys,
  diedAtOnce,
  type Machine,
  type MachineRequest,
  startMachine,
  stateOf,
  takeSerial,
  volumeFailure,
} from './qemu-machine.ts';
import type { QemuSettings, QemuWorkstation, Volume } from './qemu-records.ts';
import { connectQmp, type Qmp, type QmpEvent, QmpLost } from './qmp.ts';
import { requireKey } from './workstation-key.ts';

export interface StartParts {
  readonly clock: Clock;
  readonly images: Pick<Images, 'open'>;
  readonly keys: Pick<Keys, 'generate' | 'unseal'>;
  readonly log: Log;
  readonly settings: QemuSettings;
  readonly change: ChangeRecord<QemuWorkstation>;
  readonly accelerator: () => Promise<AcceleratorFound>;
}

export interface Start {
  readonly request: WorkstationRequest;
  readonly size: InstanceSize;
  /** Of the workstation. */
  readonly place: string;
  /** Of its machine. */
  readonly runPlace: string;
  readonly tell: (percent: number) => void;
  /** Called once it is written down that this process is the machine. */
  readonly onKnown: (mark: ProcessMark) => void;
}

const GIB = 2 ** 30;
const PROGRESS_EVERY_MS = 1_000;
/** Parts of a start, in percent: until the machine runs, until it is usable, and the scripts. */
const RUNS_PERCENT = 10;
const USABLE_PERCENT = 80;
const SERIAL_LENGTH_MAX = 4_096;
/** Of a machine whose time was over while no server ran: it may have been usable all along, or be at its scripts. */
const TAKE_OVER_MS_MIN = 30_000;
const NEVER = new AbortController().signal;

/** Starts the workstation with the volume, or with a new one. @throws ComputeFailure, KeyUnavailable; the signal's reason. */
export async function startWorkstation(parts: StartParts, start: Start, volume: Volume | null): Promise<void> {
  const { request, size, place } = start;
  const { signal } = request;
  const imageId = volume?.imageId ?? request.imageId;
  const events = new Events();
  const machine = await startWithDisks(parts, start, { volume, imageId, events });
  try {
    await syncDirectory(place);
    const { mark } = machine.process;
    await parts.change(request, (record) => {
      if (record?.power !== 'starting') throw overtaken();
      return { machine: { mark, size }, volume: { imageId } };
    });
    start.onKnown(mark);
    await machine.qmp.execute('cont', {}, signal);
  } catch (error) {
    machine.qmp.close();
    throw error;
  }
  start.tell(RUNS_PERCENT);
  await boot(parts, start, { qmp: machine.qmp, events, leftMs: parts.settings.bootMs });
}

/** A machine that has its disks and waits to run. The slow things are done at once: QEMU starts while a volume is made. */
async function startWithDisks(
  parts: StartParts,
  { request, size, place, runPlace }: Start,
  { volume, imageId, events }: { readonly volume: Volume | null; readonly imageId: string; readonly events: Events },
): Promise<Machine> {
  const { id, signal, platform, clipboard } = request;
  const files: FileHandle[] = [];
  const secrets: Buffer[] = [];
  let machine: Machine | undefined;
  try {
    const image = await openImage(parts.images, imageId);
    files.push(image);
    const imageBytes = await virtualBytesOf(image);
    const file = volume ? await openVolume(place) : await createVolumeFile(place);
    files.push(file);
    const wantedBytes = Math.max(imageBytes, (request.volume?.sizeGib ?? 0) * GIB);
    const virtualBytes = volume ? await volumeBytesOf(file) : wantedBytes;
    const { accelerator, deviceGroup } = await parts.accelerator();
    const { network } = parts.settings;
    const wanted: MachineRequest = {
      ...{ id, size, platform, clipboard, accelerator, network, deviceGroup },
      ...{ directory: runPlace, image, volume: file, virtualBytes },
    };
    const [started, keys] = await together(
      signal,
      async (both) => {
        machine = await startMachine(wanted, both, (event) => events.note(event));
        return machine;
      },
      async (both): Promise<DiskKeys> => {
        await requireKey(parts.keys, request, volume !== null);
        for (const keyId of [imageId, id]) secrets.push(await parts.keys.unseal(keyId));
        const [ofImage, ofVolume] = secrets as [Buffer, Buffer];
        both.throwIfAborted();
        if (!volume) await formatVolume(file, virtualBytes, ofVolume);
        return { image: ofImage, volume: ofVolume };
      },
    );
    await attachDisks(started.qmp, keys, platform, signal);
    return started;
  } catch (error) {
    machine?.qmp.close();
    if (machine && error instanceof QmpLost && !isAlive(machine.process.mark)) throw await diedAtOnce(machine.process);
    throw error;
  } finally {
    for (const secret of secrets) secret.fill(0);
    for (const file of files) await file.close();
  }
}

/**
 * Goes on with a machine that another server has started. @returns whether it could be: one that does not run yet has to be
 * started anew. @throws ComputeFailure; the signal's reason.
 */
export async function takeOver(parts: StartParts, start: Start, found: QemuWorkstation): Promise<boolean> {
  const { signal } = start.request;
  const events = new Events();
  let qmp: Qmp | undefined;
  try {
    qmp = await connectQmp(start.runPlace, MONITOR, signal, (event) => events.note(event));
    if ((await stateOf(qmp, signal)) !== 'running') {
      qmp.close();
      return false;
    }
  } catch (error) {
    qmp?.close();
    signal.throwIfAborted();
    if (error instanceof QmpLost) return false;
    throw error;
  }
  const sinceMs = parts.clock.now() - found.changedAt;
  const leftMs = Math.max(parts.settings.bootMs - sinceMs, TAKE_OVER_MS_MIN);
  await boot(parts, start, { qmp, events, leftMs });
  return true;
}

interface Booting {
  readonly qmp: Qmp;
  readonly events: Events;
  readonly leftMs: number;
}

/** Waits for a machine that runs, has it initialized, and writes down that it can be used. */
async function boot(parts: StartParts, { request, runPlace, tell }: Start, { qmp, events, leftMs }: Booting) {
  const { id, signal, platform, scripts } = request;
  const { bootMs, agentMs, scriptMs } = parts.settings;
  const { log } = parts;
  try {
    const agent = await waitUntilUsable(
      {
        ...{ directory: runPlace, qmp, leftMs, events, needsAgent: scripts.length > 0 },
        limits: { bootMs, agentMs },
        onFraction: (fraction) => tell(RUNS_PERCENT + fraction * (USABLE_PERCENT - RUNS_PERCENT)),
      },
      signal,
    );
    try {
      const onFraction = (fraction: number) => tell(USABLE_PERCENT + fraction * (100 - USABLE_PERCENT));
      const initialization = { id, platform, scripts, scriptMs, log, onFraction };
      if (agent) await runScripts(agent, initialization, signal);
    } finally {
      agent?.close();
    }
  } catch (error) {
    if (!signal.aborted) await logSerial(id, qmp, log);
    throw error;
  } finally {
    qmp.close();
  }
  await parts.change(request, (record) => {
    if (record?.power !== 'starting') throw overtaken();
    return { power: 'on' };
  });
}

async function logSerial(id: string, qmp: Qmp, log: Log): Promise<void> {
  const serial = await takeSerial(qmp, SERIAL_LENGTH_MAX, NEVER).catch(() => '');
  if (serial !== '') log.info({ workstation: id, serial: endOfOutput(serial) }, 'what a failed start wrote');
}

async function openImage(images: Pick<Images, 'open'>, imageId: string): Promise<FileHandle> {
  const path = await images.open(imageId);
  if (path !== undefined) return open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  throw new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    `The disk of streaming image ${imageId} is not there, or not whole.`,
  );
}

async function volumeBytesOf(file: FileHandle): Promise<number> {
  return virtualBytesOf(file).catch((error) => {
    throw volumeFailure(error instanceof ComputeFailure ? (error.inward ?? error.message) : String(error));
  });
}

class Events {
  resetAt = 0;
  shutDown = false;

  note({ event }: QmpEvent): void {
    if (event === 'RESET') this.resetAt = performance.now();
    if (event === 'SHUTDOWN') this.shutDown = true;
  }
}

/** Does both at once. When one fails the other is ended, and both have ended when the first's reason is thrown. */
async function together<A, B>(
  signal: AbortSignal,
  first: (signal: AbortSignal) => Promise<A>,
  second: (signal: AbortSignal) => Promise<B>,
): Promise<[A, B]> {
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  const failed = (error: unknown) => {
    stop.abort(error);
    throw error;
  };
  const [one, other] = await Promise.allSettled([first(both).catch(failed), second(both).catch(failed)]);
  if (one.status === 'rejected' || other.status === 'rejected') throw both.reason;
  return [one.value, other.value];
}

/** Tells at most once a second, and never backwards. */
export function progressOf({ onProgress }: WorkstationRequest): (percent: number) => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  let highest = -1;
  return (percent) => {
    const now = performance.now();
    const bounded = Math.min(100, Math.max(0, percent));
    if (now - toldAt < PROGRESS_EVERY_MS || bounded <= highest) return;
    toldAt = now;
    highest = bounded;
    onProgress(bounded);
  };
}
