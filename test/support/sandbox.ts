/**
 * Sandboxed workstations for tests: the real engine on a directory of its own, with a small image that is encrypted as
 * streaming images are. Whatever a test leaves running is ended with it.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Clock } from '../../src/clock.ts';
import type { Compute } from '../../src/compute/compute.ts';
import type { MachineSettings } from '../../src/compute/machine-engine.ts';
import { openRecords, type Records } from '../../src/compute/records.ts';
import {
  openSandboxCompute,
  type SandboxComputeOptions,
  type SandboxedWorkstation,
} from '../../src/compute/sandbox.ts';
import { createFile, withFile } from '../../src/files.ts';
import { Confinement } from '../../src/images/confined.ts';
import { encryptDisk } from '../../src/images/encrypt.ts';
import { createLog } from '../../src/log.ts';
import { ManualClock } from './domain.ts';
import { endSandbox } from './machines.ts';
import { sandboxRoot } from './sandbox-root.ts';
import { SimulatedKeys } from './simulated.ts';
import type { Owner } from './temporary.ts';

const SILENT = createLog('silent');
const MEMORY_MIB = 512;
const BLOCK_BYTES = 512;

export interface SandboxBench {
  readonly clock: ManualClock;
  /** Of everything of the bench, and of the engine. */
  readonly parent: string;
  readonly directory: string;
  readonly keys: SimulatedKeys;
  /** Paths of encrypted copies by the image's id. */
  readonly images: Map<string, string>;
  readonly records: Records<SandboxedWorkstation>;
  /** A server that has just started on this machine. */
  open(settings?: Partial<MachineSettings>, keys?: SandboxComputeOptions['keys']): Promise<Compute>;
  /** Makes an image of this tar, or of whatever the file is. */
  addImage(id: string, file: string): Promise<void>;
}

/** Of a bench's parent directory, where the usual one could not be read. */
export const OWN_IMAGE = 'own.qcow2';

/** With the image `image`. @param parent of another bench, to go on with what that has left. */
export async function sandboxBench(
  t: Owner,
  clock: ManualClock = new ManualClock(),
  parent = mkdtempSync(join(tmpdir(), 'backlot-test-')),
): Promise<SandboxBench> {
  const directory = join(parent, 'compute');
  const keys = new SimulatedKeys();
  const images = new Map<string, string>();
  const records = await openRecords<SandboxedWorkstation>(join(parent, 'records'), clock as Clock);
  t.after(async () => {
    for (const id of await records.ids()) await endSandbox(id, (await records.get(id))!.mark);
    rmSync(parent, { recursive: true, force: true });
  });
  const options: Omit<SandboxComputeOptions, 'settings'> = {
    records,
    clock,
    images: { open: async (id) => images.get(id) },
    keys,
    directory,
    log: SILENT,
  };
  const settings: MachineSettings = {
    instanceTypes: { 'g4dn.xlarge': { vcpus: 1, memoryMib: MEMORY_MIB } },
    memoryMib: 16_384,
    bootMs: 120_000,
    stopMs: 20_000,
  };
  const bench: SandboxBench = {
    clock,
    parent,
    directory,
    keys,
    images,
    records,
    open: (changed = {}, own = keys) =>
      openSandboxCompute({ ...options, keys: own, settings: { ...settings, ...changed } }),
    addImage: async (id, file) => {
      const place = join(parent, `${id}.qcow2`);
      await keys.generate(id, undefined);
      await encrypt(file, place, await keys.unseal(id));
      images.set(id, place);
    },
  };
  await keys.generate('image', undefined);
  const own = join(parent, OWN_IMAGE);
  images.set('image', existsSync(own) ? own : await usualImage(await keys.unseal('image')));
  return bench;
}

/** The small root file system, encrypted once for all benches: the keys of each begin with the same passphrase. */
let usual: Promise<string> | undefined;
function usualImage(passphrase: Buffer): Promise<string> {
  usual ??= (async () => {
    const directory = mkdtempSync(join(tmpdir(), 'backlot-test-'));
    process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
    const place = join(directory, 'image.qcow2');
    await encrypt(sandboxRoot(), place, passphrase);
    return place;
  })();
  return usual;
}

const ENDLESS = { name: 'endless', text: 'sleep 3600', runAs: 'user', parameters: {} } as const;

/** The same server, whose starts do not end by themselves. */
export function held(compute: Compute): Compute {
  return {
    ensure: (request) => compute.ensure({ ...request, scripts: [ENDLESS] }),
    stop: (request) => compute.stop(request),
    backUp: (request) => compute.backUp(request),
    destroy: (request) => compute.destroy(request),
    open: (id, signal) => compute.open(id, signal),
    list: () => compute.list(),
  };
}

async function encrypt(file: string, place: string, passphrase: Buffer): Promise<void> {
  await withFile(open(file, 'r'), (source) =>
    withFile(createFile(place), async (target) => {
      const { size } = await source.stat();
      await encryptDisk(new Confinement(), {
        source,
        sourceFormat: 'raw',
        virtualBytes: Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES,
        target,
        targetBytesMax: 2 ** 32,
        passphrase,
        scratch: dirname(place),
        qemuImg: 'qemu-img',
        signal: new AbortController().signal,
        onFraction: () => undefined,
      });
    }),
  );
}
