/**
 * Which accelerator virtual machines run with. KVM is believed in only when a machine has run on it: /dev/kvm may exist and
 * refuse, or hang. So a tiny one is started with a time limit, whose only instruction of note ends it with a number of ours.
 */
import { constants } from 'node:fs';
import { access, type FileHandle, open, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile } from '../files.ts';
import { workstationUser } from '../images/confined.ts';
import { hasEnded, inheritedDescriptor, kill, startDetached } from './detached.ts';
import { type Accelerator, acceleration, confinement, QEMU } from './qemu-command.ts';

export interface AcceleratorFound {
  readonly accelerator: Accelerator;
  /** Of /dev/kvm, which a machine must be in; absent where it needs none. */
  readonly deviceGroup?: number;
  /** For the log: why it is not KVM. */
  readonly reason?: string;
}

const KVM = '/dev/kvm';
const PROBE_MS_MAX = 5_000;
const SECTOR_BYTES = 512;
/** mov al, 0x2a; mov dx, 0xf4; out dx, al; hlt */
const ENDING_BOOT_SECTOR = Buffer.from('b02abaf400eef4', 'hex');
/** What QEMU ends with when 0x2a is written to isa-debug-exit. */
const PROVEN = (0x2a << 1) | 1;
const LIMITS = { openFiles: 64, addressSpaceBytes: 8 * 2 ** 30, fileBytes: 2 ** 20, processes: 64 };

/** @param directory private, for a file that is unlinked at once. */
export async function findAccelerator(
  wanted: 'auto' | Accelerator,
  directory: string,
  signal: AbortSignal,
): Promise<AcceleratorFound> {
  if (wanted === 'tcg') return { accelerator: 'tcg', reason: 'it was asked for' };
  const device = await stat(KVM).catch(() => undefined);
  const isThere = device !== undefined && (await access(KVM, constants.R_OK | constants.W_OK).then(yes, no));
  const reason = isThere ? await whyNoKvm(device.gid, directory, signal) : `${KVM} is not there or not for this user`;
  if (reason === undefined) return { accelerator: 'kvm', deviceGroup: device!.gid };
  if (wanted === 'kvm') throw new Error(`KVM cannot be used: ${reason}`);
  return { accelerator: 'tcg', reason };
}

const yes = () => true;
const no = () => false;

async function whyNoKvm(deviceGroup: number, directory: string, signal: AbortSignal): Promise<string | undefined> {
  const disk = await endingDisk(directory);
  try {
    const process = await startDetached({
      tool: QEMU,
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
      user: workstationUser('accelerator'),
      deviceGroup,
      limits: LIMITS,
    });
    if (await hasEnded(process.mark, PROBE_MS_MAX, signal)) {
      const { exitCode } = await process.ended;
      if (exitCode === PROVEN) return undefined;
      return process.errors().trim().split('\n').at(-1) || `QEMU ended with ${exitCode}`;
    }
    kill(process.mark);
    return `a machine has not run on it within ${PROBE_MS_MAX / 1000} s`;
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
    await made.close();
  });
  const handle = await open(path, 'r');
  await unlink(path);
  return handle;
}
