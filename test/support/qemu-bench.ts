/**
 * A host for real virtual machines, in a directory of its own: encrypted images of tiny guests, keys, records, and servers
 * that are opened on it as often as a test asks for. Whatever runs when the test ends is ended with it.
 */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { processesIn } from '../../src/compute/detached.ts';
import {
  openQemuCompute,
  type QemuCompute,
  type QemuComputeOptions,
  type QemuSettings,
  type QemuWorkstation,
} from '../../src/compute/qemu.ts';
import { openRecords, type Records } from '../../src/compute/records.ts';
import { createFile, withFile } from '../../src/files.ts';
import { Confinement } from '../../src/images/confined.ts';
import { encryptDisk } from '../../src/images/encrypt.ts';
import { type BootSector, bootSectorDisk } from './boot-sector.ts';
import { ManualClock } from './domain.ts';
import { endMachines } from './machines.ts';
import { SimulatedKeys } from './simulated.ts';
import { type Owner, temporaryDirectory } from './temporary.ts';
import { tinyImage } from './tiny-image.ts';

const PASSPHRASE = Buffer.from('a passphrase for every image of the tests').toString('base64');

/** Small and quick: what the tests mean by an instance type. */
export const TINY = 'tiny.small';
/** For a Linux. */
export const LINUX = 'tiny.linux';
const SIZE = { vcpus: 1, memoryMib: 32 };
const SETTINGS = {
  accelerator: 'tcg',
  memoryMib: 4_096,
  network: 'none',
  instanceTypes: { [TINY]: SIZE, [LINUX]: { vcpus: 1, memoryMib: 192 }, 'g4dn.xlarge': SIZE },
  bootMs: 120_000,
  stopMs: 1_000,
  agentMs: 0,
} as const;

export interface LogLine {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

export class QemuBench {
  readonly clock = new ManualClock();
  readonly keys = new SimulatedKeys();
  readonly directory: string;
  readonly logged: LogLine[] = [];
  readonly #images: string;
  readonly #records: string;
  #opened: Promise<Records<QemuWorkstation>> | undefined;

  constructor(t: Owner) {
    const root = temporaryDirectory({
      after: (clean) =>
        t.after(async () => {
          await this.killAll();
          await clean();
        }),
    });
    this.directory = join(root, 'compute');
    this.#images = join(root, 'images');
    this.#records = join(root, 'records');
    mkdirSync(this.#images);
  }

  imagePath(id: string): string {
    return join(this.#images, id);
  }

  runPlace(id: string): string {
    return join(this.directory, id, 'run');
  }

  records(): Promise<Records<QemuWorkstation>> {
    this.#opened ??= openRecords<QemuWorkstation>(this.#records, this.clock);
    return this.#opened;
  }

  /** A server that has just started on this host. */
  async open(settings: Partial<QemuSettings> = {}, keys: QemuComputeOptions['keys'] = this.keys): Promise<QemuCompute> {
    await this.addGuest('image', 'counting');
    const note = (fields: object, message: string) => {
      this.logged.push({ fields: { ...fields }, message });
    };
    const log = { debug: note, info: note, warn: note, error: note, isLevelEnabled: () => true };
    return openQemuCompute({
      records: await this.records(),
      clock: this.clock,
      images: { open: async (id) => (existsSync(this.imagePath(id)) ? this.imagePath(id) : undefined) },
      keys,
      directory: this.directory,
      log: log as never,
      settings: { ...SETTINGS, ...settings },
    });
  }

  /** An encrypted image of the guest, under this id. */
  async addGuest(id: string, guest: Guest): Promise<void> {
    if (existsSync(this.imagePath(id))) return;
    this.keys.dataKeys.set(id, { keyArn: undefined, passphrase: PASSPHRASE });
    copyFileSync(await encryptedGuest(guest), this.imagePath(id));
  }

  /** The process of the machine, and nothing while there is none. */
  pidOf(id: string): number | undefined {
    return processesIn(this.runPlace(id))[0]?.pid;
  }

  async killAll(): Promise<void> {
    const ids = existsSync(this.directory) ? readdirSync(this.directory) : [];
    await endMachines(ids.map((id) => this.runPlace(id)));
  }
}

/** A boot sector, or a whole Linux with the guest agent. */
export type Guest = BootSector | 'linux';

const encrypted = new Map<Guest, Promise<string>>();
let guests: string | undefined;

/** Where encrypted guests are kept for a whole file of tests. */
export function keepGuests(owner: Owner): void {
  guests = temporaryDirectory(owner);
}

function encryptedGuest(guest: Guest): Promise<string> {
  const made = encrypted.get(guest) ?? encryptGuest(guest);
  encrypted.set(guest, made);
  return made;
}

async function encryptGuest(guest: Guest): Promise<string> {
  if (guests === undefined) throw new Error('call keepGuests first');
  if (guest === 'linux') return encryptFile(guest, open(await tinyImage(), 'r'), 'qcow2');
  const path = join(guests, `${guest}.raw`);
  writeFileSync(path, bootSectorDisk(guest), { mode: 0o600 });
  return encryptFile(guest, open(path, 'r'), 'raw');
}

async function encryptFile(guest: Guest, opening: Promise<FileHandle>, format: 'raw' | 'qcow2'): Promise<string> {
  const path = join(guests!, guest);
  // A copy: the tool is let into its source, which others may be using.
  const copy = `${path}.source`;
  await withFile(opening, async (source) => writeFileSync(copy, await source.readFile(), { mode: 0o600 }));
  await withFile(open(copy, 'r'), async (source) => {
    const header = Buffer.alloc(32);
    await source.read(header, 0, header.length, 0);
    const { size } = await source.stat();
    await withFile(createFile(path), (target) =>
      encryptDisk(new Confinement(), {
        source,
        sourceFormat: format,
        virtualBytes: format === 'raw' ? size : Number(header.readBigUInt64BE(24)),
        target,
        targetBytesMax: 2 ** 30,
        passphrase: Buffer.from(PASSPHRASE),
        scratch: guests!,
        qemuImg: 'qemu-img',
        signal: new AbortController().signal,
        onFraction: () => undefined,
      }),
    );
  });
  return path;
}

/** What the kernel says of a process. */
export function statusOf(pid: number, member: string): string | undefined {
  return new RegExp(`^${member}:[ \\t]*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1];
}
