/**
 * Chooses what workstations run on, and whether this server is the one that has them. An engine of one machine sees only
 * its own workstations: of several servers on one database one alone may have it, or another would take all others'
 * workstations for dead. A server without an engine serves everything else. What cannot work is refused here, at the start.
 */
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Clock } from './clock.ts';
import type { Compute } from './compute/compute.ts';
import { hostMemoryMib, OVERHEAD_MIB } from './compute/host-capacity.ts';
import { type Host, instanceTypesOn } from './compute/host-sizes.ts';
import type { MachineEngineOptions, MachineSettings } from './compute/machine-engine.ts';
import { createNoCompute } from './compute/none.ts';
import type { QemuSettings } from './compute/qemu-records.ts';
import { openRecords, recordFiles } from './compute/records.ts';
import { bootAfter, createSimulatedCompute, type SimulatedWorkstation } from './compute/simulated.ts';
import type { Config } from './config.ts';
import { type DataDirectory, StartError } from './data-directory.ts';
import { ELSEWHERE, isElsewhere, takeHome } from './engine-home.ts';
import { makePrivateDirectory } from './files.ts';
import type { Images } from './images/images.ts';
import type { Keys } from './keys/keys.ts';
import type { Log } from './log.ts';
import { SETTINGS } from './settings.ts';
import type { Store } from './store/store.ts';

export interface EngineParts {
  readonly config: Config;
  readonly directory: DataDirectory;
  readonly store: Store;
  readonly keys: Keys;
  readonly images: Images;
  readonly clock: Clock;
  readonly log: Log;
}

export interface Engine {
  readonly compute: Compute;
  readonly name: MachineEngine | 'simulated' | 'none';
  /** Whether this server does the work of sessions; else another does. */
  readonly works: boolean;
  /** Asked before whatever was leased of that work is begun, where another server may come to have workstations meanwhile. */
  readonly stillWorks?: () => Promise<boolean>;
  /** Whether it sees every workstation that there is, so that one which it does not see has ended. */
  readonly seesAll: boolean;
  /** Says in the log what workstations run on, once the server listens; or why there are none. */
  readonly tell: () => void;
}

/** What every engine of this machine is opened with: each takes of the settings what it knows. */
export type EngineOptions = MachineEngineOptions<
  never,
  MachineSettings & Pick<QemuSettings, 'network' | 'accelerator'>
>;

export type MachineEngine = 'qemu' | 'sandbox';

export interface MachineCompute extends Compute {
  /** Finds out, and tells in the log, what it runs with; else its first workstation does. */
  readonly accelerator?: () => Promise<unknown>;
}

export interface EngineModule {
  /** Which program or package is missing, as a sentence; undefined where it can run. */
  readonly whyNot: () => Promise<string | undefined>;
  readonly open: (options: EngineOptions) => Promise<MachineCompute>;
}

/** Loads an engine where it is used: a start without it stays quick. */
export type LoadEngine = (name: MachineEngine) => Promise<EngineModule>;

const OTHER_SERVER = 'Another server of this installation has its workstations.';

/** @throws StartError with one line for the person at the terminal. */
export async function openEngine(parts: EngineParts, load: LoadEngine = loadEngine): Promise<Engine> {
  const { config, log } = parts;
  const { compute } = config;
  if (compute === 'none') {
    const tell = () => log.info({ engine: compute }, 'another server has the workstations');
    return noEngine(parts, { why: OTHER_SERVER, works: false, tell });
  }
  if (compute === 'auto') return openAutomatically(parts, load);
  await requireNoOther(compute, parts);
  if (compute === 'simulated') {
    const tell = () => log.info({ engine: compute }, 'this server has workstations that are simulated');
    return { compute: await openSimulated(parts), name: compute, works: true, seesAll: true, tell };
  }
  const engine = await load(compute);
  const reason = await engine.whyNot();
  if (reason !== undefined) throw cannotBe(compute, reason);
  if (!(await takeHome(parts))) throw cannotBe(compute, ELSEWHERE);
  return startMachineEngine(compute, engine, parts);
}

/** QEMU where it is installed and no other server has the workstations. */
async function openAutomatically(parts: EngineParts, load: LoadEngine): Promise<Engine> {
  const { log } = parts;
  const qemu = await load('qemu');
  const reason = await qemu.whyNot();
  const isHere = reason === undefined ? await takeHome(parts) : !(await isElsewhere(parts));
  if (!isHere) {
    const tell = () => log.warn({}, `this server has no workstations: ${ELSEWHERE}`);
    return noEngine(parts, { why: OTHER_SERVER, works: false, tell });
  }
  if (reason === undefined) {
    await requireNoOther('qemu', parts);
    return startMachineEngine('qemu', qemu, parts);
  }
  const tell = () =>
    log.warn({}, `sessions will fail with INSUFFICIENT_CAPACITY, as this server has no workstations: ${reason}`);
  // Where there are some from before, their sessions wait for their engine: to fail them would help nobody.
  const kept = await Promise.all(MACHINE_ENGINES.map((name) => recordFiles(directoryOf(name, parts))));
  const stillWorks = async () => {
    if (!(await isElsewhere(parts))) return true;
    log.warn({}, `sessions are left to another server from now on: ${ELSEWHERE}`);
    return false;
  };
  const why = `This server has no workstations: ${reason}`;
  return noEngine(parts, { why, works: kept.flat().length === 0, stillWorks, tell });
}

function cannotBe(compute: string, reason: string): StartError {
  return new StartError(`${SETTINGS.compute.env}=${compute} cannot be: ${reason}`);
}

/** For a server: it tells, without keeping anybody waiting, what its workstations will run with. */
async function startMachineEngine(name: MachineEngine, engine: EngineModule, parts: EngineParts): Promise<Engine> {
  const { log, config } = parts;
  const compute = await openMachineEngine(name, engine, parts);
  const tell = () => {
    log.info({ engine: name, ...hostOf(config), network: config.computeNetwork }, 'this server has workstations');
    compute.accelerator?.().catch((error) => log.error({ err: error }, 'workstations have no accelerator'));
  };
  return { compute, name, works: true, seesAll: true, tell };
}

/** What there is for workstations. */
function hostOf({ computeMemoryMib }: Config): Host {
  return { vcpus: availableParallelism(), memoryMib: computeMemoryMib ?? hostMemoryMib() };
}

async function openMachineEngine(
  name: MachineEngine,
  engine: EngineModule,
  parts: EngineParts,
): Promise<MachineCompute> {
  const { config, clock, images, keys, log } = parts;
  const host = hostOf(config);
  const settings = {
    instanceTypes: instanceTypesOn(host, OVERHEAD_MIB, config.instanceTypes),
    memoryMib: host.memoryMib,
    network: config.computeNetwork,
    accelerator: config.accelerator,
    bootMs: config.bootMs,
    stopMs: config.stopMs,
  };
  makePrivateDirectory(parts.directory.compute);
  const directory = directoryOf(name, parts);
  makePrivateDirectory(directory);
  const records = await openRecords<never>(directory, clock);
  return engine.open({ records, clock, images, keys, directory, log, settings });
}

/**
 * For commands that look at workstations while a server runs them: every engine that has some here, whatever the settings
 * say, as a command is not told those of the server.
 */
export async function openEnginesHere(parts: EngineParts, load: LoadEngine = loadEngine): Promise<Compute[]> {
  const here: Compute[] = [];
  for (const name of MACHINE_ENGINES) {
    const kept = await recordFiles(directoryOf(name, parts));
    if (kept.length > 0) here.push(await openMachineEngine(name, await load(name), parts));
  }
  const simulated = await recordFiles(parts.directory.compute);
  if (simulated.length > 0) here.push(await openSimulated(parts));
  return here;
}

async function openSimulated({ config, directory, clock }: EngineParts): Promise<Compute> {
  const records = await openRecords<SimulatedWorkstation>(directory.compute, clock);
  const { simulatedStartMs, simulatedFailure: failure } = config;
  return createSimulatedCompute({
    records,
    clock,
    boot: bootAfter(simulatedStartMs, clock),
    ...(failure && { failure }),
  });
}

/** `why` is for those who ask for a workstation. */
function noEngine(
  parts: EngineParts,
  { why, ...given }: Pick<Engine, 'works' | 'stillWorks' | 'tell'> & { readonly why: string },
): Engine {
  const isKept = async (id: string) => {
    const kept = await Promise.all(MACHINE_ENGINES.map((name) => recordFiles(directoryOf(name, parts))));
    return kept.flat().includes(`${id}.json`);
  };
  return { compute: createNoCompute({ why, isKept }), name: 'none', seesAll: false, ...given };
}

const MACHINE_ENGINES: readonly MachineEngine[] = ['qemu', 'sandbox'];

function directoryOf(name: MachineEngine, { directory }: Pick<EngineParts, 'directory'>): string {
  return join(directory.compute, name);
}

/**
 * An engine does not see what another has made: it would take those sessions for ended, and delete them without deleting
 * what they have left. @throws StartError
 */
async function requireNoOther(name: Engine['name'], parts: EngineParts): Promise<void> {
  for (const other of MACHINE_ENGINES.filter((one) => one !== name)) {
    const { length } = await recordFiles(directoryOf(other, parts));
    if (length === 0) continue;
    throw cannotBe(
      name,
      `there are workstations of ${other} (${length}) in the data directory. Start with ${SETTINGS.compute.env}=${other}, and ` +
        'change it when their sessions are deleted.',
    );
  }
}

async function loadEngine(name: MachineEngine): Promise<EngineModule> {
  if (name === 'qemu') {
    const { openQemuCompute, whyNoQemu } = await import('./compute/qemu.ts');
    return { whyNot: whyNoQemu, open: openQemuCompute };
  }
  const { openSandboxCompute, whyNoSandbox } = await import('./compute/sandbox.ts');
  return { whyNot: whyNoSandbox, open: openSandboxCompute };
}
