/**
 * Workstations that are virtual machines of this host, run by QEMU. It keeps the records, takes turns, promises room and
 * turns whatever goes wrong into a failure that a person can act on; how a machine is started, booted and ended is in the
 * files beside this one.
 *
 * Machines outlive the server: each is found again by its session's id and taken over. A record is written before anything
 * is made of it, so that nothing is made that nobody finds. A key of a session is made before its volume and destroyed
 * before it. No key may be anywhere but in the key service, in QEMU's memory and on the way between them.
 */
import { mkdir, readdir, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DIRECTORY_MODE, makePrivateDirectory, requireFileName, syncDirectory } from '../files.ts';
import { requireTool, TOOL_PACKAGES } from '../images/confined.ts';
import { ImageFailure } from '../images/images.ts';
import { KeyUnavailable } from '../keys/keys.ts';
import { type AcceleratorFound, findAccelerator } from './accelerator.ts';
import { type ChangeRecord, createChanges, Effects } from './changes.ts';
import {
  type Change,
  type Compute,
  ComputeFailure,
  type Desktop,
  keyGone,
  volumeGone,
  type WorkstationRequest,
} from './compute.ts';
import { isAlive, type ProcessMark, processesIn } from './detached.ts';
import { HostCapacity } from './host-capacity.ts';
import { type InstanceSize, instanceSize } from './instance-types.ts';
import type { MachineEngineOptions } from './machine-engine.ts';
import { QEMU } from './qemu-command.ts';
import { openDesktop } from './qemu-desktop.ts';
import { backupPath, copyDisk, diskFull, exists, isDiskFull, volumePath } from './qemu-disk.ts';
import { endMachine } from './qemu-machine.ts';
import { ABSENT, QEMU_DEFAULTS, type QemuSettings, type QemuWorkstation, type Volume } from './qemu-records.ts';
import { progressOf, type Start, type StartParts, startWorkstation, takeOver } from './qemu-start.ts';
import { damagedWorkstation, type FoundRecord, recordReader } from './records.ts';

export { QEMU_DEFAULTS, type QemuSettings, type QemuWorkstation } from './qemu-records.ts';

export type QemuComputeOptions = MachineEngineOptions<
  QemuWorkstation,
  Omit<QemuSettings, keyof typeof QEMU_DEFAULTS> & Partial<QemuSettings>
>;

export interface QemuCompute extends Compute {
  /** What machines run with, found out once. @throws Error where KVM was asked for and cannot be used. */
  accelerator(): Promise<AcceleratorFound>;
}

const TOOLS = [QEMU, 'prlimit', 'setpriv'];
const RUN_DIRECTORY = 'run';
/** Of a workstation's directory: its id. */
const PLACE = /^[A-Za-z0-9_-]{1,64}$/;
const NEVER = new AbortController().signal;

/** What is missing for it to run here, with the packages to install; undefined where nothing is. */
export async function whyNoQemu(): Promise<string | undefined> {
  const missing: string[] = [];
  for (const tool of TOOLS) await requireTool(tool).catch(() => missing.push(tool));
  if (missing.length === 0) return undefined;
  const packages = [...new Set(missing.map((tool) => TOOL_PACKAGES[tool]))];
  return `${missing.join(' and ')} missing: apt-get install ${packages.join(' ')}`;
}

/** Finds the machines that run, and goes on with them. */
export async function openQemuCompute(options: QemuComputeOptions): Promise<QemuCompute> {
  makePrivateDirectory(options.directory);
  const compute = new QemuMachines({ ...options, directory: await realpath(options.directory) });
  await compute.takeStock();
  return compute;
}

class QemuMachines implements QemuCompute {
  readonly #options: QemuComputeOptions;
  readonly #settings: QemuSettings;
  readonly #capacity: HostCapacity;
  readonly #change: ChangeRecord<QemuWorkstation>;
  readonly #readAll: () => Promise<FoundRecord<QemuWorkstation>[]>;
  readonly #effects = new Effects();
  /** Of the machines that this process knows to run. */
  readonly #marks = new Map<string, ProcessMark>();
  #accelerator: Promise<AcceleratorFound> | undefined;

  constructor(options: QemuComputeOptions) {
    this.#options = options;
    this.#settings = { ...QEMU_DEFAULTS, ...options.settings };
    this.#capacity = new HostCapacity(this.#settings.memoryMib);
    this.#change = createChanges<QemuWorkstation>({ records: options.records, clock: options.clock, absent: ABSENT });
    this.#readAll = recordReader(options.records, options.log);
  }

  accelerator(): Promise<AcceleratorFound> {
    // What could not be found out is looked for again by the next start.
    this.#accelerator ??= this.#findAccelerator().catch((error) => {
      this.#accelerator = undefined;
      throw error;
    });
    return this.#accelerator;
  }

  /** Counts the machines that run. What no record knows is told of and left alone: it may be the work of somebody's day. */
  async takeStock(): Promise<void> {
    const { directory, log } = this.#options;
    // Looked at before the records: another process may be making a workstation, whose record is the first thing of it.
    const places = (await readdir(directory)).filter((name) => PLACE.test(name));
    const found = await this.#readAll();
    for (const { id, record } of found) {
      const machine = record?.machine;
      if (machine && isAlive(machine.mark)) this.#know(id, machine.mark, machine.size);
    }
    const ids = new Set(found.map(({ id }) => id));
    for (const id of places.filter((name) => !ids.has(name))) {
      log.warn({ id }, 'there are files of a workstation that has no record; they are left alone');
    }
  }

  async #findAccelerator(): Promise<AcceleratorFound> {
    const { directory, log } = this.#options;
    const found = await findAccelerator(this.#settings.accelerator, directory, NEVER);
    const { accelerator, reason } = found;
    log.info({ accelerator, ...(reason !== undefined && { reason }) }, 'workstations run on QEMU');
    return found;
  }

  async ensure(request: WorkstationRequest): Promise<void> {
    request.signal.throwIfAborted();
    const size = instanceSize(this.#settings.instanceTypes, request.instanceType);
    if (!size) throw unknownType(request.instanceType);
    this.#promise(request.id, size);
    try {
      await this.#effects.inTurn(request, (signal) => this.#ensureInTurn({ ...request, signal }, size));
    } catch (error) {
      const mark = this.#marks.get(request.id);
      if (!mark || !isAlive(mark)) this.#forget(request.id);
      throw asComputeFailure(error, request.signal);
    }
  }

  async stop(request: Parameters<Compute['stop']>[0]): Promise<void> {
    await this.#effect(request, async (signal) => {
      const { id } = request;
      const deletes = request.volume === 'delete';
      const found = await this.#markStopping({ ...request, signal });
      if (!found) return;
      await this.#end(id, found, deletes ? 0 : this.#settings.stopMs, signal);
      const volume = deletes ? null : found.volume;
      // Written first: a volume that is only said to be gone is noise, one that is only said to be there would be started.
      await this.#change({ ...request, signal }, () => ({ power: 'off', machine: null, volume }));
      if (volume === null) await rm(volumePath(this.#place(id)), { force: true });
    });
  }

  async backUp(request: Parameters<Compute['backUp']>[0]): Promise<void> {
    await this.#effect(request, async (signal) => {
      const { id, backupId } = request;
      const found = await this.#change({ ...request, signal }, (record) => record && {});
      if (found && Object.hasOwn(found.backups, backupId)) return;
      if (found?.power !== 'off' || found.volume === null) {
        throw new ComputeFailure('INTERNAL_ERROR', 'There is no stopped volume to back up');
      }
      const { volume } = found;
      await copyDisk(volumePath(this.#place(id)), backupPath(this.#place(id), backupId), signal);
      await this.#change({ ...request, signal }, (record) => ({ backups: { ...record?.backups, [backupId]: volume } }));
    });
  }

  async destroy(request: Parameters<Compute['destroy']>[0]): Promise<void> {
    await this.#effect(request, async (signal) => {
      if ('backupId' in request) return this.#destroyBackup({ ...request, signal });
      const { id } = request;
      const found = await this.#markStopping({ ...request, signal });
      await this.#end(id, found, 0, signal);
      await this.#options.keys.destroy(id);
      await rm(this.#place(id), { recursive: true, force: true });
      await syncDirectory(this.#options.directory);
      await this.#change({ ...request, signal }, (record) => record && 'destroy');
    });
  }

  async open(id: string, signal: AbortSignal): Promise<Desktop> {
    signal.throwIfAborted();
    const record = await this.#options.records.get(id);
    if (record?.power !== 'on' || !record.machine || !isAlive(record.machine.mark)) {
      throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The workstation does not run');
    }
    return openDesktop(this.#runPlace(id), signal);
  }

  async list() {
    return (await this.#readAll()).map(({ id, record }) => {
      if (!record) return damagedWorkstation(id, this.#options.clock.now());
      const { power, machine, volume, backups, changedAt } = record;
      const running = power !== 'off' && (machine === null || isAlive(machine.mark));
      return { id, running, hasVolume: volume !== null, backupIds: Object.keys(backups), changedAt };
    });
  }

  async #effect(change: Parameters<Effects['inTurn']>[0], work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await this.#effects.inTurn(change, work);
    } catch (error) {
      throw asComputeFailure(error, change.signal, true);
    }
  }

  #place(id: string): string {
    return join(this.#options.directory, requireFileName(id));
  }

  #runPlace(id: string): string {
    return join(this.#place(id), RUN_DIRECTORY);
  }

  #know(id: string, mark: ProcessMark, size: InstanceSize): void {
    this.#marks.set(id, mark);
    this.#capacity.count(id, size.memoryMib);
  }

  #forget(id: string): void {
    this.#marks.delete(id);
    this.#capacity.release(id);
  }

  /** One synchronous step: machines that have ended give their room back first. @throws ComputeFailure */
  #promise(id: string, { memoryMib }: InstanceSize): void {
    for (const [known, mark] of this.#marks) if (known !== id && !isAlive(mark)) this.#forget(known);
    this.#capacity.promise(id, memoryMib);
  }

  /** Ends whatever runs for this workstation, also what died before it was written down. */
  async #end(id: string, found: QemuWorkstation | undefined, guestMs: number, signal: AbortSignal): Promise<void> {
    const directory = this.#runPlace(id);
    const known = found?.machine ? [found.machine.mark] : processesIn(directory);
    for (const mark of known) await endMachine({ id, mark, directory, guestMs }, signal);
    await rm(directory, { recursive: true, force: true });
    this.#forget(id);
  }

  /** A disk that is full does not keep a workstation from being stopped or destroyed: that is what makes room. */
  async #markStopping(change: Change): Promise<QemuWorkstation | undefined> {
    try {
      return await this.#change(change, (record) => record && (record.power === 'off' ? {} : { power: 'stopping' }));
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      return this.#change(change, () => undefined);
    }
  }

  async #destroyBackup({ id, backupId, signal }: { id: string; backupId: string; signal: AbortSignal }): Promise<void> {
    await rm(backupPath(this.#place(id), backupId), { force: true });
    await this.#change({ id, signal }, (record) => {
      if (!record || !Object.hasOwn(record.backups, backupId)) return undefined;
      const { [backupId]: _destroyed, ...backups } = record.backups;
      return { backups };
    });
  }

  async #ensureInTurn(request: WorkstationRequest, size: InstanceSize): Promise<void> {
    const { id, signal } = request;
    const found = await this.#change(request, (record) => record && {});
    this.#promise(id, size);
    const machine = found?.machine && isAlive(found.machine.mark) ? found.machine : undefined;
    if (machine) this.#know(id, machine.mark, machine.size);
    if (machine && found?.power === 'on') return;
    const parts: StartParts = {
      ...this.#options,
      settings: this.#settings,
      change: this.#change,
      accelerator: () => this.accelerator(),
    };
    const start: Start = {
      ...{ request, size, place: this.#place(id), runPlace: this.#runPlace(id), tell: progressOf(request) },
      onKnown: (mark) => this.#know(id, mark, size),
    };
    try {
      if (machine && found?.power === 'starting' && (await takeOver(parts, start, found))) return;
      await this.#end(id, found, found?.power === 'stopping' ? this.#settings.stopMs : 0, signal);
      this.#promise(id, size);
      start.tell(0);
      await startWorkstation(parts, start, await this.#prepareVolume(request, found));
    } catch (error) {
      // What nobody would find again is ended in any case. The rest is the next caller's where this one was told to end.
      if (!this.#marks.has(id)) await this.#end(id, undefined, 0, NEVER);
      if (!signal.aborted) {
        await this.#giveUp(request, found).catch((left) =>
          this.#options.log.warn({ err: left, workstation: id }, 'what a failed start has left could not be removed'),
        );
      }
      throw error;
    }
  }

  /** What the start goes on with; null for a new volume. Nothing is made before it is known that it can be. */
  async #prepareVolume(request: WorkstationRequest, found: QemuWorkstation | undefined): Promise<Volume | null> {
    const { id, signal, fromBackupId, needsVolume } = request;
    const place = this.#place(id);
    const isStopped = !found || found.power === 'off' || found.power === 'stopping';
    let volume = found?.volume ?? null;
    if (isStopped && fromBackupId !== undefined) {
      const backup = found && Object.hasOwn(found.backups, fromBackupId) ? found.backups[fromBackupId] : undefined;
      if (!backup) throw new ComputeFailure('INTERNAL_ERROR', `There is no backup ${fromBackupId}`);
      await copyDisk(backupPath(place, fromBackupId), volumePath(place), signal);
      volume = backup;
    }
    const isThere = volume !== null && (await exists(volumePath(place)));
    if (volume !== null ? !isThere : needsVolume) throw volumeGone();
    await this.#change(request, () => ({ power: 'starting', machine: null, volume }));
    await mkdir(place, { recursive: true, mode: DIRECTORY_MODE });
    return volume;
  }

  /** Leaves nothing half made behind a start that has failed, and nothing at all of a first one. */
  async #giveUp({ id, fence }: WorkstationRequest, before: QemuWorkstation | undefined): Promise<void> {
    const mine = { id, fence, signal: NEVER };
    const found = await this.#markStopping(mine);
    if (!found || found.power === 'off') return;
    await this.#end(id, found, 0, NEVER);
    if (!before) {
      await this.#options.keys.destroy(id);
      await rm(this.#place(id), { recursive: true, force: true });
    } else if (found.volume === null) await rm(volumePath(this.#place(id)), { force: true });
    await this.#change(mine, () => (before ? { power: 'off', machine: null } : 'destroy'));
  }
}

function unknownType(instanceType: string): ComputeFailure {
  return new ComputeFailure(
    'INSUFFICIENT_CAPACITY',
    `This server has no workstations of type ${instanceType}. Its administrator can add the type with BACKLOT_INSTANCE_TYPES.`,
  );
}

/**
 * Whatever went wrong, as the port has it; the end that the caller asked for, as it is. A start for which there is no room
 * is told so at once; what ends a workstation or keeps it safe is worth trying again.
 */
function asComputeFailure(error: unknown, signal: AbortSignal, isWorthRetrying = false): unknown {
  if (error instanceof ComputeFailure || signal.aborted) return error;
  if (isDiskFull(error)) return diskFull((error as Error).message, isWorthRetrying);
  if (error instanceof KeyUnavailable) return keyGone(error);
  const inward = error instanceof ImageFailure ? (error.inward ?? error.message) : String((error as Error)?.message);
  return new ComputeFailure('INTERNAL_ERROR', "The workstation could not be changed. The server's log says why.", {
    retryable: !(error instanceof ImageFailure) || error.retryable,
    inward,
    cause: error,
  });
}
