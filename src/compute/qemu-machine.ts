/**
 * One virtual machine: started without running yet, given its disks, taken over, looked at and ended. It is a process that
 * outlives the server; everything that the server has to say to it goes over sockets in the machine's own directory. That
 * directory belongs to the machine only until its sockets are there, and the guest runs only after that: a guest that took
 * QEMU over could otherwise put the socket of another machine in the place of its own.
 */
import { constants } from 'node:fs';
import { chmod, chown, type FileHandle, mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, DIRECTORY_MODE, withFile } from '../files.ts';
import { type WorkstationUser, workstationUser } from '../images/confined.ts';
import { joinGroup, leaveGroup } from './cgroup.ts';
import { pause } from './changes.ts';
import { ComputeFailure, type Platform } from './compute.ts';
import {
  type Detached,
  hasEnded,
  inheritedDescriptor,
  isAlive,
  kill,
  type ProcessMark,
  startDetached,
} from './detached.ts';
import { connectAgent } from './guest-agent.ts';
import { OVERHEAD_MIB } from './host-capacity.ts';
import {
  AGENT,
  diskDevice,
  imageNode,
  type MachineCommand,
  MONITOR,
  machineArguments,
  QEMU,
  SCREEN_FILE,
  SERIAL_BUFFER,
  volumeNode,
} from './qemu-command.ts';
import { diskFull, imageDamaged } from './qemu-disk.ts';
import { connectQmp, type Qmp, type QmpEvent, QmpRefused } from './qmp.ts';

const MIB = 2 ** 20;
const MONITOR_MS_MAX = 30_000;
const LOOK_AGAIN_MS = 20;
/** An agent that does not answer in this time is not waited for when its machine is to stop. */
const AGENT_MS_MAX = 2_000;
/** For a machine that a full disk has paused to meet it again. */
const RESUMED_MS = 500;
/** For QEMU to write out what it holds, once it was told to end. */
const QUIT_MS_MAX = 10_000;
/** For the kernel to take a process away. */
const KILL_MS_MAX = 10_000;
const PICTURE_BYTES_MAX = 16 * MIB;
/** Code, stacks and what devices allocate, beside the guest's memory. */
const ADDRESS_SPACE_MIB = 4_096;
const THREADS_MAX = 512;
const OPEN_FILES_MAX = 256;
/** Tables of a disk that is written full, and a margin: a file never comes near it unless QEMU has gone mad. */
const FILE_BYTES_PART = 1.25;
const FILE_BYTES_MARGIN = 2 ** 30;
/** Entered by the machine, and written to by the server alone. */
const SEALED_DIRECTORY_MODE = 0o711;

const NEVER = new AbortController().signal;

export interface MachineRequest extends Omit<MachineCommand, 'imageDescriptor' | 'volumeDescriptor'> {
  /** Of the machine alone; whatever is in it is thrown away. */
  readonly directory: string;
  readonly deviceGroup: number | undefined;
  readonly image: FileHandle;
  readonly volume: FileHandle;
  readonly virtualBytes: number;
}

export interface Machine {
  readonly process: Detached;
  readonly qmp: Qmp;
  /** What kind of control group holds it. */
  readonly group: string | undefined;
}

/** Starts the machine, which does not run yet and has no disks. @throws ComputeFailure; the signal's reason. */
export async function startMachine(
  request: MachineRequest,
  signal: AbortSignal,
  onEvent: (event: QmpEvent) => void,
): Promise<Machine> {
  const { id, directory, image, volume, size } = request;
  const user = workstationUser(id);
  await prepareDirectory(directory, user);
  signal.throwIfAborted();
  const process = await startDetached({
    tool: QEMU,
    arguments: machineArguments({
      ...request,
      imageDescriptor: inheritedDescriptor(0),
      volumeDescriptor: inheritedDescriptor(1),
    }),
    directory,
    files: [image.fd, volume.fd],
    user,
    deviceGroup: request.deviceGroup,
    limits: {
      openFiles: OPEN_FILES_MAX,
      addressSpaceBytes: (size.memoryMib + ADDRESS_SPACE_MIB) * MIB,
      fileBytes: Math.ceil(request.virtualBytes * FILE_BYTES_PART) + FILE_BYTES_MARGIN,
      processes: THREADS_MAX,
    },
  });
  try {
    const group = await joinGroup(groupOf(id, process.mark), process.mark.pid, {
      memoryBytes: (size.memoryMib + 2 * OVERHEAD_MIB) * MIB,
      processes: THREADS_MAX,
    });
    const qmp = await monitorOf(process, directory, signal, onEvent);
    await sealDirectory(directory, user);
    return { process, qmp, group };
  } catch (error) {
    await killMachine(id, process.mark);
    throw error;
  }
}

/** The control group of a machine. */
export const groupOf = (id: string, { pid }: ProcessMark) => `${id.slice(0, 48)}-${pid}`;

async function prepareDirectory(directory: string, user: WorkstationUser | undefined): Promise<void> {
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { mode: DIRECTORY_MODE });
  const screen = join(directory, SCREEN_FILE);
  await (await createFile(screen)).close();
  if (!user) return;
  for (const path of [screen, directory]) await chown(path, user.user, user.group);
}

async function sealDirectory(directory: string, user: WorkstationUser | undefined): Promise<void> {
  if (!user) return;
  await chown(directory, process.getuid!(), process.getgid!());
  await chmod(directory, SEALED_DIRECTORY_MODE);
}

/** Connects as soon as QEMU listens. */
async function monitorOf(
  process: Detached,
  directory: string,
  signal: AbortSignal,
  onEvent: (event: QmpEvent) => void,
): Promise<Qmp> {
  const endsAt = performance.now() + MONITOR_MS_MAX;
  for (;;) {
    if (!isAlive(process.mark)) throw await diedAtOnce(process);
    try {
      return await connectQmp(directory, MONITOR, signal, onEvent);
    } catch (error) {
      signal.throwIfAborted();
      if (performance.now() > endsAt) throw error;
    }
    await pause(LOOK_AGAIN_MS, signal);
  }
}

export async function diedAtOnce(process: Detached): Promise<ComputeFailure> {
  const { exitCode, exitSignal } = await process.ended;
  const lastLine = process.errors().trim().split('\n').at(-1) ?? '';
  const inward = `QEMU ended with ${exitSignal ?? exitCode}${lastLine ? `: ${lastLine}` : ''}`;
  if (/Cannot allocate memory|cannot set up guest memory/i.test(lastLine)) {
    return new ComputeFailure('INSUFFICIENT_CAPACITY', 'The server has not enough memory free for this workstation.', {
      inward,
    });
  }
  return new ComputeFailure('INTERNAL_ERROR', "The workstation could not be started. The server's log says why.", {
    inward,
  });
}

export interface DiskKeys {
  readonly image: Buffer;
  readonly volume: Buffer;
}

/** Gives the machine its disks. The keys go over the monitor, and QEMU forgets the passphrases again. @throws ComputeFailure */
export async function attachDisks(qmp: Qmp, keys: DiskKeys, platform: Platform, signal: AbortSignal): Promise<void> {
  const disks = [
    { key: keys.image, node: imageNode, failure: imageFailure },
    { key: keys.volume, node: volumeNode, failure: volumeFailure },
  ] as const;
  for (const { key, node, failure } of disks) {
    await qmp.execute('object-add', { 'qom-type': 'secret', id: 'passphrase', data: key.toString('utf8') }, signal);
    await qmp.execute('blockdev-add', node('passphrase'), signal).catch((error) => {
      throw error instanceof QmpRefused ? failure(error.message) : error;
    });
    await qmp.execute('object-del', { id: 'passphrase' }, signal);
  }
  await qmp.execute('device_add', diskDevice(platform), signal);
}

function imageFailure(inward: string): ComputeFailure {
  if (isWrongKey(inward)) {
    return new ComputeFailure(
      'DECRYPT_STREAMING_IMAGE_ERROR',
      'The streaming image cannot be decrypted: its key is not the one that it was encrypted with.',
      { inward },
    );
  }
  return imageDamaged(inward);
}

export function volumeFailure(inward: string): ComputeFailure {
  if (/No space left/i.test(inward)) return diskFull(inward);
  if (isWrongKey(inward)) {
    return new ComputeFailure(
      'DECRYPT_STREAMING_IMAGE_ERROR',
      'The volume of this session cannot be decrypted: its key is not the one that it was encrypted with.',
      { inward },
    );
  }
  return new ComputeFailure(
    'INTERNAL_ERROR',
    'The volume of this session is damaged. A session from a backup may still start.',
    {
      inward,
    },
  );
}

function isWrongKey(inward: string): boolean {
  return /Invalid password|unlock any keyslot|not valid UTF-8/i.test(inward);
}

/** Ends the machine for certain. */
export async function killMachine(id: string, mark: ProcessMark): Promise<void> {
  kill(mark);
  if (!(await hasEnded(mark, KILL_MS_MAX, NEVER))) {
    throw new ComputeFailure('INTERNAL_ERROR', 'The workstation does not end. Its server may have to be restarted.', {
      retryable: true,
      inward: `process ${mark.pid} is still there ${KILL_MS_MAX / 1000} s after SIGKILL`,
    });
  }
  await leaveGroup(groupOf(id, mark));
}

export interface Ending {
  readonly id: string;
  readonly mark: ProcessMark;
  readonly directory: string;
  /** How long the guest may take to shut itself down; 0 asks for nothing but the end. */
  readonly guestMs: number;
}

/** Has the guest shut itself down, then QEMU, then the kernel. @throws ComputeFailure; the signal's reason. */
export async function endMachine(ending: Ending, signal: AbortSignal): Promise<void> {
  const { id, mark, directory, guestMs } = ending;
  const patience = AbortSignal.any([signal, AbortSignal.timeout(guestMs + QUIT_MS_MAX)]);
  try {
    if (isAlive(mark)) await endGently(mark, directory, guestMs, patience);
  } catch {
    signal.throwIfAborted();
    // It does not answer: what follows needs no answer.
  }
  await killMachine(id, mark);
}

async function endGently(mark: ProcessMark, directory: string, guestMs: number, signal: AbortSignal): Promise<void> {
  const qmp = await connectQmp(directory, MONITOR, signal);
  try {
    if (guestMs > 0 && (await stateOf(qmp, signal)) === 'io-error') {
      // A full disk has paused it. Where there is room again it can end in order; where not, it pauses once more.
      await qmp.execute('cont', {}, signal);
      await pause(RESUMED_MS, signal);
    }
    if (guestMs > 0 && (await isRunning(qmp, signal))) {
      const asked = (await isAgentOpen(qmp, signal)) && (await askAgentToShutDown(directory, signal));
      if (asked && (await hasEnded(mark, guestMs / 2, signal))) return;
      await qmp.execute('system_powerdown', {}, signal);
      if (await hasEnded(mark, asked ? guestMs / 2 : guestMs, signal)) return;
    }
    await qmp.execute('quit', {}, signal);
    await hasEnded(mark, QUIT_MS_MAX, signal);
  } finally {
    qmp.close();
  }
}

async function askAgentToShutDown(directory: string, signal: AbortSignal): Promise<boolean> {
  try {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(AGENT_MS_MAX)]);
    const agent = await connectAgent(directory, AGENT, limit);
    agent.shutDown();
    // Closed by the guest as it goes down; what was sent must not be lost before.
    await pause(LOOK_AGAIN_MS, signal);
    agent.close();
    return true;
  } catch {
    signal.throwIfAborted();
    return false;
  }
}

export async function stateOf(qmp: Qmp, signal: AbortSignal): Promise<string> {
  const state = (await qmp.execute('query-status', {}, signal)) as { status?: unknown } | null;
  return String(state?.status);
}

async function isRunning(qmp: Qmp, signal: AbortSignal): Promise<boolean> {
  return (await stateOf(qmp, signal)) === 'running';
}

/** Whether a program inside the guest has opened the port of the agent. */
export async function isAgentOpen(qmp: Qmp, signal: AbortSignal): Promise<boolean> {
  const devices = (await qmp.execute('query-chardev', {}, signal)) as { label?: string; 'frontend-open'?: boolean }[];
  return devices.some((device) => device.label === AGENT && device['frontend-open'] === true);
}

/** What has been written to a buffer since it was read last. It comes from the guest. */
export async function takeBuffer(qmp: Qmp, device: string, bytesMax: number, signal: AbortSignal): Promise<string> {
  const data = await qmp.execute('ringbuf-read', { device, size: bytesMax, format: 'base64' }, signal);
  return Buffer.from(String(data), 'base64').toString('utf8');
}

export const takeSerial = (qmp: Qmp, bytesMax: number, signal: AbortSignal) =>
  takeBuffer(qmp, SERIAL_BUFFER, bytesMax, signal);

/** What stands on the screen. @throws ComputeFailure where QEMU wrote more than any screen needs. */
export async function takePicture(
  qmp: Qmp,
  directory: string,
  format: 'png' | 'ppm',
  signal: AbortSignal,
): Promise<Buffer> {
  await qmp.execute('screendump', { filename: SCREEN_FILE, format }, signal);
  const { O_RDWR, O_NOFOLLOW, O_NONBLOCK } = constants;
  return withFile(open(join(directory, SCREEN_FILE), O_RDWR | O_NOFOLLOW | O_NONBLOCK), async (file) => {
    const { size } = await file.stat();
    if (size > PICTURE_BYTES_MAX) {
      await file.truncate(0);
      throw new ComputeFailure('INTERNAL_ERROR', 'The picture of the screen is too large.');
    }
    const picture = Buffer.alloc(size);
    const { bytesRead } = await file.read(picture, 0, size, 0);
    await file.truncate(0);
    return picture.subarray(0, bytesRead);
  });
}
