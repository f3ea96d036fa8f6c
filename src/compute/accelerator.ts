/**
 * Which accelerator virtual machines run with. KVM is believed in only when a machine has run on it: /dev/kvm may exist and
 * refuse, or hang. So a tiny one is started with a time limit, whose only instruction of note ends it with a number of ours.
 */
import { constants } from 'node:fs';
import { access, type FileHandle, open, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile } from '../files.ts';
import { workstationUser } from '../images/confined.ts';
import { hasEnded, inheritedDescriptor, killGroup, startDetached } from './detached.ts';
import { type Accelerator, acceleration, confinement, QEMU } from './qemu-command.ts';

export interface AcceleratorFound {
  readonly accelerator: Accelerator;
  /** Of /dev/kvm, which a machine must be in; absent where it needs none. */
  readonly deviceGroup?: number;
  /** For the log: why it is not KVM. */
  readonly reason?: string;
}

/** What KVM is looked for with. */
export interface Probe {
  readonly device: string;
  readonly tool: string;
  readonly limitMs: number;
}

const PROBE: Probe = { device: '/dev/kvm', tool: QEMU, limitMs: 5_000 };
const PROBE_ID = 'accelerator';
/** For the kernel to take the probe away. */
const KILL_MS_MAX = 2_000;
/** The permissions of others to read and to write. */
const FOR_EVERYBODY = 0o006;
const SECTOR_BYTES = 512;
/** The firmware reads no disk that is smaller than a cylinder, of 16 heads with 63 sectors each. */
const DISK_BYTES = 2 ** 20;
/** mov al, 0x2a; mov dx, 0xf4; out dx, al; hlt */
const ENDING_BOOT_SECTOR = Buffer.from('b02abaf400eef4', 'hex');
/** What QEMU ends with when 0x2a is written to isa-debug-exit. */
const PROVEN = (0x2a << 1) | 1;
const TOO_SLOW = 'a machine has not run on it in time';
const NEVER = new AbortController().signal;
const LIMITS = { openFiles: 64, addressSpaceBytes: 8 * 2 ** 30, fileBytes: 2 ** 20, processes: 64 };

/** @param directory private, for a file that is unlinked at once. */
export async function findAccelerator(
  wanted: 'auto' | Accelerator,
  directory: string,
  signal: AbortSignal,
  probe: Probe = PROBE,
): Promise<AcceleratorFound> {
  if (wanted === 'tcg') return { accelerator: 'tcg', reason: 'it was asked for' };
  const group = await deviceGroupOf(probe.device);
  const reason = 'reason' in group ? group.reason : await tryKvm(probe, group, directory, signal);
  if (reason === undefined) return { accelerator: 'kvm', ...group };
  if (wanted === 'kvm') throw new Error(`KVM cannot be used: ${reason}`);
  return { accelerator: 'tcg', reason };
}

/** The group that may use the device, where not everybody may. No machine is put into the group of root for it. */
async function deviceGroupOf(
  path: string,
): Promise<Pick<AcceleratorFound, 'deviceGroup'> | { readonly reason: string }> {
  const device = await stat(path).catch(() => undefined);
  const isOurs = await access(path, constants.R_OK | constants.W_OK).then(yes, no);
  if (!device || !isOurs) return { reason: `${path} is not there or not for this user` };
  if ((device.mode & FOR_EVERYBODY) === FOR_EVERYBODY) return {};
  const isGroupNeeded = workstationUser(PROBE_ID) !== undefined;
  if (isGroupNeeded && device.gid === 0) return { reason: `${path} is of the group of root: give it one of its own` };
  return { deviceGroup: device.gid };
}

const yes = () => true;
const no = () => false;

/** A first try may have been too slow because QEMU itself was read from a cold disk: what is too slow is tried once more. */
async function tryKvm(...asked: Parameters<typeof whyNoKvm>): Promise<string | undefined> {
  const reason = await whyNoKvm(...asked);
  return reason === TOO_SLOW ? await whyNoKvm(...asked) : reason;
}

async function whyNoKvm(
  { tool, limitMs }: Probe,
  group: Pick<AcceleratorFound, 'deviceGroup'>,
  directory: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  signal.throwIfAborted();
  const disk = await endingDisk(directory);
  try {
    const process = await startDetached({
      tool,
      arguments: [
        ...confinement(),
        ...acceleration('kvm'),
        ...['-machine', 'pc', '-m', '16', '-display', 'none', '-no-reboot'],
        ...['-device', 'isa-debug-exit,iobase=0xf4,iosize=1'],
        ...['-add-fd', `fd=${inheritedDescriptor(0)},set=1`],
        ...['-drive', 'if=virtio,format=raw,read-only=on,file=/dev/fdset/1'],
      ],
      directory: '/',
      files: [disk.fd],
      user: workstationUser(PROBE_ID),
      ...group,
      endsWithServer: true,
      limits: LIMITS,
    });
    const inTime = await hasEnded(process.mark, limitMs, signal).finally(() => killGroup(process.mark));
    if (!inTime) {
      await hasEnded(process.mark, KILL_MS_MAX, NEVER);
      return TOO_SLOW;
    }
    const { exitCode, exitSignal } = await process.ended;
    if (exitCode === PROVEN) return undefined;
    return process.errors().trim().split('\n').at(-1) || `QEMU ended with ${exitSignal ?? exitCode}`;
  } finally {
    await disk.close();
  }
}

/** A disk that ends the machine that boots from it; it has no name. */
async function endingDisk(directory: string): Promise<FileHandle> {
  const path = join(directory, `.probe-${process.pid}`);
  await unlink(path).catch(() => undefined);
  const sector = Buffer.alloc(SECTOR_BYTES);
  ENDING_BOOT_SECTOR.copy(sector);
  sector.writeUInt16LE(0xaa55, SECTOR_BYTES - 2);
  await createFile(path).then(async (made) => {
    await made.write(sector);
    await made.truncate(DISK_BYTES);
    await made.close();
  });
  const handle = await open(path, 'r');
  await unlink(path);
  return handle;
}
