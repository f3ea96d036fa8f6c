/**
 * Starts a program that outlives the server, with as few rights as it can have, and finds it again.
 *
 * It is for workstations: nothing about them may depend on the life of the server that started them. A process is known by
 * its id together with the time it was started at, so that another one that was given the same id later is never taken for
 * it; one that nobody has noted yet is found by its working directory, which no other program has. What it is handed are
 * open files, never a path of the data directory nor a secret in its arguments or environment.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isSystemError } from '../files.ts';
import { isRoot, requireTool, TOOL_DIRECTORIES, type WorkstationUser } from '../images/confined.ts';
import { pause } from './changes.ts';

const ERRORS_LENGTH_MAX = 4_096;
const FIRST_DESCRIPTOR = 3;
const LOOK_AGAIN_MS = 20;
/** Where the kernel says who is running. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';
/** Fields 3, 20 and 22 of /proc/PID/stat, counted from the state, which is the first after the name. */
const STAT_STATE = 0;
const STAT_THREADS = 17;
const STAT_STARTED_AT = 19;

/** A process, in a form that can be kept: it is never mistaken for a later one of the same id. */
export interface ProcessMark {
  readonly pid: number;
  /** Of this run of the machine and of the process. */
  readonly startedAt: string;
}

export interface DetachedRequest {
  /** A name such as `qemu-system-x86_64`. */
  readonly tool: string;
  readonly arguments: readonly string[];
  /** Which the program may enter, and nobody else's. */
  readonly directory: string;
  /** Open files that it finds as descriptors from 3 on. */
  readonly files: readonly number[];
  /** Whom it runs as; as the server where absent. */
  readonly user?: WorkstationUser | undefined;
  /** A further group, for a device. */
  readonly deviceGroup?: number | undefined;
  /** For what is of no use to the next server. Then it is started from the main thread: the kernel ends it with that. */
  readonly endsWithServer?: boolean;
  readonly limits: DetachedLimits;
}

export interface DetachedLimits {
  readonly openFiles: number;
  readonly addressSpaceBytes: number;
  readonly fileBytes: number;
  /** Processes and threads of the user. */
  readonly processes: number;
}

export interface Detached {
  readonly mark: ProcessMark;
  /** The end of what it has written to standard error while this server looked on. */
  errors(): string;
  /** Settles when it has ended. */
  readonly ended: Promise<{ readonly exitCode: number | null; readonly exitSignal: NodeJS.Signals | null }>;
}

/** The descriptor under which the program finds the file at `index` of its request. */
export function inheritedDescriptor(index: number): number {
  return FIRST_DESCRIPTOR + index;
}

/** @throws ImageFailure TOOL_MISSING; Error where it cannot be started. */
export async function startDetached(request: DetachedRequest): Promise<Detached> {
  const [program, ...prefix] = await wrapper(request);
  const tool = await requireTool(request.tool);
  const child = spawn(program!, [...prefix, '--', tool, ...request.arguments], {
    cwd: request.directory,
    env: { PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' },
    // A session of its own: neither a Ctrl-C nor the end of the server's terminal reaches it.
    detached: true,
    // What it says of an error goes nowhere once the server has gone, which QEMU bears: it ignores SIGPIPE.
    stdio: ['ignore', 'ignore', 'pipe', ...request.files],
  });
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-ERRORS_LENGTH_MAX);
  });
  child.stderr!.on('error', () => undefined);
  const ended = new Promise<{ exitCode: number | null; exitSignal: NodeJS.Signals | null }>((resolve) => {
    child.once('close', (exitCode, exitSignal) => resolve({ exitCode, exitSignal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  child.unref();
  (child.stderr as unknown as { unref(): void }).unref();
  const pid = child.pid!;
  return { mark: { pid, startedAt: startOf(pid) ?? '' }, errors: () => errors, ended };
}

/** The programs that take rights away, each of which becomes the next: the process id stays. */
async function wrapper({ limits, user, deviceGroup, endsWithServer }: DetachedRequest): Promise<string[]> {
  const groups = deviceGroup === undefined ? ['--clear-groups'] : [`--groups=${deviceGroup}`];
  return [
    await requireTool('prlimit'),
    '--core=0',
    `--nofile=${limits.openFiles}`,
    `--as=${limits.addressSpaceBytes}`,
    `--fsize=${limits.fileBytes}`,
    // Counted over all processes of a user, so it is only for one that has no others.
    ...(user?.own ? [`--nproc=${limits.processes}`] : []),
    '--',
    await requireTool('setpriv'),
    '--no-new-privs',
    ...(endsWithServer ? ['--pdeathsig=KILL'] : []),
    '--inh-caps=-all',
    '--ambient-caps=-all',
    ...(isRoot() ? ['--bounding-set=-all'] : []),
    ...(user ? [`--reuid=${user.user}`, `--regid=${user.group}`, ...groups] : []),
  ];
}

/**
 * When the process was started; undefined when there is none, or only what is left of one. Its state is that of its first
 * thread: while another is left it still holds its files, and may write to them.
 */
export function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const isGone = fields[STAT_STATE] === 'Z' || fields[STAT_STATE] === 'X';
    if (isGone && Number(fields[STAT_THREADS]) <= 1) return undefined;
    return `${readFileSync(BOOT_ID, 'latin1').trim()}/${fields[STAT_STARTED_AT]}`;
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, startedAt }: ProcessMark): boolean {
  return startOf(pid) === startedAt;
}

/** Every process whose working directory this is, or was before it was removed. */
export function processesIn(directory: string): ProcessMark[] {
  const marks: ProcessMark[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid)) continue;
    const current = workingDirectoryOf(pid);
    if (current !== directory && current !== `${directory} (deleted)`) continue;
    const startedAt = startOf(pid);
    if (startedAt !== undefined) marks.push({ pid, startedAt });
  }
  return marks;
}

/** Undefined where it is not for us to know. A process whose first thread is gone tells it by its other threads alone. */
function workingDirectoryOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch (error) {
    if (!isSystemError(error, 'ENOENT')) return undefined;
  }
  for (const thread of threadsOf(pid)) {
    try {
      return readlinkSync(`/proc/${pid}/task/${thread}/cwd`);
    } catch {
      // The first one, or it has ended since.
    }
  }
  return undefined;
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** Ends it at once and for certain. */
export function kill(mark: ProcessMark): void {
  try {
    if (isAlive(mark)) process.kill(mark.pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The same for one of `startDetached` and all that it has started, which may have outlived it: call it as soon as it ends. */
export function killGroup({ pid, startedAt }: ProcessMark): void {
  try {
    const leader = startOf(pid);
    // Another one by now, should the number have been given out again: its group is not ours.
    if (leader !== undefined && leader !== startedAt) return;
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing is left of it.
  }
}

/** @returns whether it had ended within the limit. @throws the signal's reason. */
export async function hasEnded(mark: ProcessMark, limitMs: number, signal: AbortSignal): Promise<boolean> {
  const endsAt = performance.now() + limitMs;
  while (isAlive(mark)) {
    if (performance.now() >= endsAt) return false;
    await pause(LOOK_AGAIN_MS, signal);
  }
  return true;
}
