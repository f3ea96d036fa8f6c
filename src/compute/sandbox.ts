/**
 * Workstations in sandboxes of this machine: processes behind bubblewrap, with Xtigervnc for a display. They start within
 * a second or two and need no virtual machine, but they share the host's kernel: this is for demonstrations, tests and
 * studios that trust who works there, and is chosen by a setting alone.
 *
 * A workstation is a record, a home, and while it runs its processes, which outlive the server. The record is written
 * before the effect that it announces, so that whoever takes over finds everything that may be there by the record: its
 * processes by their mark, its home by its name. Nobody is told that it runs before its display has answered.
 */
import { join } from 'node:path';
import { isSystemError, makePrivateDirectory, requireFileName } from '../files.ts';
import { Confinement, workstationUser } from '../images/confined.ts';
import { ImageFailure } from '../images/images.ts';
import { Progress } from '../images/progress.ts';
import { KeyUnavailable } from '../keys/keys.ts';
import { leaveGroup } from './cgroup.ts';
import { type ChangeRecord, createChanges, Effects } from './changes.ts';
import {
  type Change,
  type Compute,
  ComputeFailure,
  keyGone,
  type Workstation,
  type WorkstationRequest,
} from './compute.ts';
import { hasEnded, isAlive, type ProcessMark } from './detached.ts';
import { HostCapacity } from './host-capacity.ts';
import { instanceSize } from './instance-types.ts';
import type { MachineEngineOptions } from './machine-engine.ts';
import { damagedWorkstation, type FoundRecord, recordReader } from './records.ts';
import { DISPLAY_SOCKET, type SandboxPrograms } from './sandbox-command.ts';
import { connectDisplay, requireDisplay } from './sandbox-display.ts';
import { type HomeOwner, SandboxHomes, type SandboxHomesOptions } from './sandbox-home.ts';
import { launch } from './sandbox-launch.ts';
import { findPrograms } from './sandbox-probe.ts';
import { askToEnd, firstInside, killMarked } from './sandbox-process.ts';
import { whyNotRunnable } from './sandbox-program.ts';
import { ABSENT, nextStart, type SandboxedWorkstation } from './sandbox-records.ts';
import { noSpace, SandboxRoots } from './sandbox-root.ts';
import { giveDirectory, removeTree } from './sandbox-tree.ts';

export { whyNoSandbox } from './sandbox-probe.ts';
export type { SandboxedWorkstation } from './sandbox-records.ts';

import { requireKey } from './workstation-key.ts';

export type SandboxComputeOptions = MachineEngineOptions<SandboxedWorkstation>;

/** What is left over is looked for this often, by whoever asks what there is. */
const SWEEP_EVERY_MS = 10 * 60_000;
const FILE_BYTES_MAX = 2 ** 40;
/** A name that no workstation has, for whom root file systems belong to. */
const UNPACKER = 'root file systems';

/** The homes of an engine that a server may have in use. @throws ImageFailure TOOL_MISSING */
export async function openHomes(options: Pick<SandboxHomesOptions, 'directory' | 'keys'>): Promise<SandboxHomes> {
  return new SandboxHomes({ ...options, programs: await findPrograms(), fileBytesMax: FILE_BYTES_MAX });
}

/** @throws ImageFailure TOOL_MISSING */
export async function openSandboxCompute(options: SandboxComputeOptions): Promise<Compute> {
  const compute = new SandboxCompute(options, await findPrograms());
  await compute.takeOver();
  return compute;
}

class SandboxCompute implements Compute {
  readonly #options: SandboxComputeOptions;
  readonly #programs: SandboxPrograms;
  readonly #change: ChangeRecord<SandboxedWorkstation>;
  readonly #readAll: () => Promise<FoundRecord<SandboxedWorkstation>[]>;
  readonly #effects = new Effects();
  readonly #capacity: HostCapacity;
  readonly #roots: SandboxRoots;
  readonly #homes: SandboxHomes;
  readonly #sockets: string;
  /** The first process of each workstation that runs. */
  readonly #running = new Map<string, ProcessMark>();
  readonly #starting = new Set<string>();
  #sweptAt = Number.NEGATIVE_INFINITY;

  constructor(options: SandboxComputeOptions, programs: SandboxPrograms) {
    const { records, clock, directory, images, keys, settings } = options;
    this.#options = options;
    this.#programs = programs;
    this.#change = createChanges<SandboxedWorkstation>({ records, clock, absent: ABSENT });
    this.#readAll = recordReader(records, options.log);
    this.#capacity = new HostCapacity(settings.memoryMib);
    this.#sockets = join(directory, 'run');
    makePrivateDirectory(this.#sockets);
    this.#homes = new SandboxHomes({ directory, keys, programs, fileBytesMax: FILE_BYTES_MAX });
    this.#roots = new SandboxRoots({
      directory: join(directory, 'roots'),
      images,
      keys,
      programs,
      confinement: new Confinement(),
      user: workstationUser(UNPACKER),
    });
  }

  /** Finds what another server has left running. */
  async takeOver(): Promise<void> {
    for (const { id, record } of await this.#readAll()) {
      const first = record?.power === 'on' ? firstInside(record.mark) : undefined;
      if (!record || !first) continue;
      this.#running.set(id, first);
      this.#capacity.count(id, record.memoryMib);
    }
  }

  ensure(request: WorkstationRequest): Promise<void> {
    return this.#effects.inTurn(request, (signal) => this.#start({ ...request, signal }).catch(rethrow));
  }

  stop(request: Change & { readonly volume: 'keep' | 'delete' }): Promise<void> {
    return this.#effects.inTurn(request, async (signal) => {
      const change = { ...request, signal };
      const found = await this.#change(change, () => undefined);
      if (!found) return;
      await this.#end(request.id, found, signal);
      const home = request.volume === 'delete' ? null : found.home;
      await this.#change(change, () => ({ power: 'off', home, restore: null }));
      if (home === null && found.home !== null) await this.#homes.remove(found.home);
    });
  }

  backUp(request: Change & { readonly backupId: string }): Promise<void> {
    const { id, backupId } = request;
    return this.#effects.inTurn(request, async (signal) => {
      const change = { ...request, signal };
      const found = await this.#change(change, () => undefined);
      if (found && Object.hasOwn(found.backups, backupId)) return;
      if (found?.power !== 'off' || found.home === null) {
        throw new ComputeFailure('INTERNAL_ERROR', 'There is no stopped volume to back up');
      }
      const { home } = found;
      await this.#homes.unpack(ownerOf(id), home, signal).catch(rethrow);
      const bytes = await this.#homes.backUp(ownerOf(id), home, backupId, signal).catch(rethrow);
      await this.#change(change, (now) => ({ backups: { ...now!.backups, [backupId]: { bytes } } }));
    });
  }

  destroy(request: Parameters<Compute['destroy']>[0]): Promise<void> {
    const { id } = request;
    return this.#effects.inTurn(request, async (signal) => {
      const change = { ...request, signal };
      const found = await this.#change(change, () => undefined);
      if (!found) return;
      if ('backupId' in request) {
        const { [request.backupId]: _destroyed, ...backups } = found.backups;
        await this.#homes.removeBackup(id, request.backupId);
        await this.#change(change, () => ({ backups }));
        return;
      }
      await this.#end(id, found, signal, { atOnce: true });
      await this.#homes.removeBackups(id);
      if (found.home !== null) await this.#homes.remove(found.home);
      await this.#change(change, () => 'destroy');
      await this.#sweep();
    });
  }

  async open(id: string, signal: AbortSignal) {
    signal.throwIfAborted();
    const record = await this.#options.records.get(id);
    if (!record || !this.#isRunning(id, record)) {
      throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The workstation does not run');
    }
    const socketPath = this.#socketPath(id);
    await requireDisplay(socketPath, signal);
    return { connect: (until: AbortSignal) => connectDisplay(socketPath, until) };
  }

  async list(): Promise<Workstation[]> {
    if (this.#options.clock.now() - this.#sweptAt >= SWEEP_EVERY_MS) void this.#sweep();
    return (await this.#readAll()).map(({ id, record }) => {
      if (!record) return damagedWorkstation(id, this.#options.clock.now());
      return {
        id,
        running: this.#starting.has(id) || this.#isRunning(id, record),
        hasVolume: record.home !== null || record.restore !== null,
        backupIds: Object.keys(record.backups),
        changedAt: record.changedAt,
      };
    });
  }

  async #start(request: WorkstationRequest): Promise<void> {
    const { id } = request;
    const memoryMib = this.#requireRunnable(request);
    const found = await this.#change(request, () => undefined);
    if (found && this.#isRunning(id, found)) {
      await this.#change(request, () => ({}));
      return;
    }
    const next = nextStart(found, request);
    this.#releaseEnded();
    this.#capacity.promise(id, memoryMib);
    this.#starting.add(id);
    try {
      const home = found?.home ?? (next.restore === null ? await this.#homes.make(ownerOf(id)) : null);
      const record = await this.#change(request, () => ({ ...next, memoryMib, home }));
      this.#running.set(id, await this.#launch(request, record!));
      await this.#change(request, () => ({ power: 'on' }));
    } catch (error) {
      this.#running.delete(id);
      await killMarked(next.mark);
      this.#capacity.release(id);
      throw error;
    } finally {
      this.#starting.delete(id);
    }
  }

  async #launch(request: WorkstationRequest, record: SandboxedWorkstation): Promise<ProcessMark> {
    const { id, imageId, scripts, clipboard, signal, onProgress } = request;
    const { log, settings, clock } = this.#options;
    const progress = new Progress(onProgress, clock);
    // What a server that died has left half done.
    await killMarked(record.mark);
    progress.part(0, 100)(0);
    const root = await this.#roots.ensure(imageId, signal);
    progress.part(0, 100)(0.5);
    const home = await this.#requireHome(request, record);
    const user = workstationUser(id);
    const sockets = join(this.#sockets, requireFileName(id));
    await removeTree(sockets);
    await giveDirectory(sockets, 0o700, user);
    return launch({
      id,
      programs: this.#programs,
      user,
      memoryMib: record.memoryMib,
      fileBytes: FILE_BYTES_MAX,
      root,
      home: this.#homes.pathOf(home),
      sockets,
      mark: record.mark,
      scripts,
      clipboard,
      socketPath: this.#socketPath(id),
      bootMs: settings.bootMs,
      log,
      signal,
    });
  }

  /** The home that there is, or that of the backup; and the key for its backups, before there is work in it. */
  async #requireHome(request: WorkstationRequest, record: SandboxedWorkstation): Promise<string> {
    const { id, signal } = request;
    if (record.restore === null) {
      await this.#homes.unpack(ownerOf(id), record.home!, signal);
      await requireKey(this.#options.keys, request, Object.keys(record.backups).length > 0);
      return record.home!;
    }
    const home = await this.#homes.restore(ownerOf(id), record.restore, signal);
    await this.#change(request, () => ({ home, restore: null }));
    if (record.home !== null) await this.#homes.remove(record.home);
    return home;
  }

  /** Ends its processes, first by asking, and forgets them. */
  async #end(
    id: string,
    { power, mark }: SandboxedWorkstation,
    signal: AbortSignal,
    { atOnce = false }: { readonly atOnce?: boolean } = {},
  ): Promise<void> {
    const first = this.#running.get(id);
    if (first && power === 'on' && !atOnce) {
      askToEnd(first);
      await hasEnded(first, this.#options.settings.stopMs, signal);
    }
    await killMarked(mark, first);
    this.#running.delete(id);
    this.#capacity.release(id);
    await leaveGroup(id);
    await removeTree(join(this.#sockets, requireFileName(id)));
  }

  /** @returns the memory that it takes. @throws ComputeFailure for what no sandbox can do. */
  #requireRunnable({ platform, instanceType, scripts }: WorkstationRequest): number {
    if (platform === 'WINDOWS') {
      throw new ComputeFailure(
        'AMI_VALIDATION_ERROR',
        'The workstations of this server share its kernel and cannot run Windows. Use an image for Linux.',
      );
    }
    for (const script of scripts) {
      const why = whyNotRunnable(script);
      if (why === undefined) continue;
      throw new ComputeFailure(
        'INITIALIZATION_SCRIPT_ERROR',
        `Initialization script ${script.name} cannot be run: ${why}.`,
      );
    }
    const size = instanceSize(this.#options.settings.instanceTypes, instanceType);
    if (size) return size.memoryMib;
    throw new ComputeFailure(
      'INSUFFICIENT_CAPACITY',
      `This server has no instance type ${instanceType}. Its administrator can add it by the setting BACKLOT_INSTANCE_TYPES.`,
    );
  }

  #isRunning(id: string, { power }: SandboxedWorkstation): boolean {
    const first = this.#running.get(id);
    return power === 'on' && first !== undefined && isAlive(first);
  }

  /** What has ended by itself takes no memory any more. */
  #releaseEnded(): void {
    for (const id of this.#capacity.ids()) {
      const first = this.#running.get(id);
      if (!this.#starting.has(id) && !(first && isAlive(first))) this.#capacity.release(id);
    }
  }

  /**
   * Removes root file systems that neither a workstation nor an image needs, and homes that no record names. A command
   * beside the server does so too: what may be in the making stays. What fails is done the next time.
   */
  async #sweep(): Promise<void> {
    const { clock, images, log } = this.#options;
    const now = clock.now();
    this.#sweptAt = now;
    try {
      const homes = await this.#homes.all();
      const records = (await this.#readAll()).map(({ record }) => record);
      // One that cannot be read may name any of it.
      if (!records.every((record) => record !== undefined)) return;
      await this.#homes.removeLeft(homes, new Set(records.map(({ home }) => home ?? '')), now);
      const inUse = new Set(records.map(({ imageId }) => imageId));
      await this.#roots.keepOnly(async (id) => inUse.has(id) || (await images.open(id)) !== undefined, now);
    } catch (error) {
      log.warn({ err: error }, 'what workstations have left could not be removed');
    }
  }

  #socketPath(id: string): string {
    return join(this.#sockets, requireFileName(id), DISPLAY_SOCKET);
  }
}

export function ownerOf(id: string): HomeOwner {
  return { id, user: workstationUser(id) };
}

/** The system's errors as the port's; everything else as it is. */
function rethrow(error: unknown): never {
  if (isSystemError(error, 'ENOSPC', 'EDQUOT', 'EFBIG')) throw noSpace((error as Error).message, error);
  if (error instanceof KeyUnavailable) throw keyGone(error);
  if (error instanceof ImageFailure) {
    throw new ComputeFailure('INTERNAL_ERROR', error.message, {
      retryable: error.retryable,
      ...(error.inward !== undefined && { inward: error.inward }),
      cause: error,
    });
  }
  throw error;
}
