/**
 * Runs one external tool with as few rights as it can have, because what it reads was made by strangers.
 *
 * The tool is given open files and nothing else: no shell, no environment, no way to gain rights, and where the service is
 * root another user without any capability, its own where the machine has so many. (What every user of the machine can
 * read, it can too.) It must never be given a path of the data directory, nor a secret in its arguments or environment:
 * files are named `/dev/fd/N`, and a secret is a file without a name. It dies with the process that started it, and `run`
 * settles only when it is gone. Start it from the main thread: the kernel ends it with the thread that started it.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { fchmodSync, fchownSync, constants as fsConstants, fstatSync, readFileSync } from 'node:fs';
import { access, type FileHandle, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { createFile, FILE_MODE } from '../files.ts';
import { ImageFailure } from './images.ts';

/** The user and group that own nothing, on every Linux. */
const NOBODY = 65_534;
/**
 * Users that no program hands out (https://systemd.io/UIDS-GIDS), so many for each process id that there can be: a tool
 * that was taken over by what it read could look into another one of the same user.
 */
const FIRST_FREE_USER = 1_879_048_192;
const USERS_PER_PROCESS = 32;
/** What is above the tools' users, for process ids of at most 22 bits: users of workstations. */
const FIRST_WORKSTATION_USER = FIRST_FREE_USER + 2 ** 22 * USERS_PER_PROCESS;
const WORKSTATION_USERS = 2 ** 27;
export const TOOL_DIRECTORIES = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
const ERRORS_LENGTH_MAX = 4_096;
/** Far more than a conversion needs, far less than what brings a machine down. */
const ADDRESS_SPACE_BYTES_MAX = 4 * 2 ** 30;
const OPEN_FILES_MAX = 64;
/** The longest time that setTimeout can wait. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const FIRST_DESCRIPTOR = 3;
/** The Debian package that brings each tool. */
export const TOOL_PACKAGES: Readonly<Record<string, string>> = {
  bwrap: 'bubblewrap',
  'qemu-img': 'qemu-utils',
  'qemu-system-x86_64': 'qemu-system-x86',
  prlimit: 'util-linux',
  setpriv: 'util-linux',
  tar: 'tar',
};

export interface ConfinedFile {
  /** Stays open until `run` has settled. */
  readonly handle: FileHandle;
  readonly access: 'read' | 'write';
}

export interface ConfinedRequest {
  /** A name such as `qemu-img`, or the absolute path of the program. */
  readonly tool: string;
  /** Name the files by `inheritedPath`. */
  readonly arguments: readonly string[];
  readonly files: readonly ConfinedFile[];
  /** No file may grow beyond this; the tool that tries is ended by SIGXFSZ. */
  readonly fileBytesMax: number;
  readonly timeLimitMs: number;
  /** Ends the tool at once. */
  readonly signal: AbortSignal;
  /** What the tool prints, as it comes. */
  readonly onOutput?: (text: string) => void;
}

export interface ConfinedOutcome {
  readonly exitCode: number | null;
  /** The signal that ended the tool, the time limit's SIGKILL included. */
  readonly exitSignal: NodeJS.Signals | null;
  readonly timedOut: boolean;
  /** The end of what it wrote to standard error. */
  readonly errors: string;
}

/** The path under which the tool finds the file at `index` of its request. */
export function inheritedPath(index: number): string {
  return `/dev/fd/${FIRST_DESCRIPTOR + index}`;
}

/** One per process and data directory: it knows which files its running tools may read. */
export class Confinement {
  /** Running tools by the file they were let into. */
  readonly #holders = new Map<string, number>();
  #started = 0;

  /** @throws ImageFailure TOOL_MISSING, TOOL_FAILED when it could not be started; the signal's reason. */
  async run(request: ConfinedRequest): Promise<ConfinedOutcome> {
    this.#started += 1;
    const [program, ...prefix] = await wrapper(request, this.#started);
    const tool = await requireTool(request.tool);
    request.signal.throwIfAborted();
    const admitted: FileHandle[] = [];
    try {
      for (const file of dropsUser() ? request.files : []) {
        this.#admit(file);
        admitted.push(file.handle);
      }
      return await execute(program!, [...prefix, '--', tool, ...request.arguments], request);
    } finally {
      for (const handle of admitted) this.#release(handle);
    }
  }

  /**
   * Opening `/dev/fd/N` checks the file's permissions anew, so a tool of another user must be let in by the file itself:
   * by its group, and never by its bits for others. What protects it from everybody else of that group is its directory.
   * The changes are synchronous, so that two tools that share a source cannot take it from each other.
   */
  #admit({ handle, access }: ConfinedFile): void {
    fchownSync(handle.fd, fstatSync(handle.fd).uid, NOBODY);
    fchmodSync(handle.fd, access === 'read' ? 0o640 : 0o660);
    const inode = inodeOf(handle);
    this.#holders.set(inode, (this.#holders.get(inode) ?? 0) + 1);
  }

  #release(handle: FileHandle): void {
    const inode = inodeOf(handle);
    const left = this.#holders.get(inode)! - 1;
    if (left > 0) {
      this.#holders.set(inode, left);
      return;
    }
    this.#holders.delete(inode);
    fchmodSync(handle.fd, FILE_MODE);
    fchownSync(handle.fd, fstatSync(handle.fd).uid, process.getgid!());
  }
}

function inodeOf(handle: FileHandle): string {
  const { dev, ino } = fstatSync(handle.fd, { bigint: true });
  return `${dev}:${ino}`;
}

/**
 * A file that holds the secret and has no name: it is unlinked before anything is written to it. In memory where the
 * machine has /dev/shm, else in `directory`. Give it back to `closeSecret`.
 */
export async function openSecret(secret: Uint8Array, directory: string): Promise<FileHandle> {
  const handle = await openNameless('/dev/shm').catch(() => openNameless(directory));
  try {
    await handle.write(secret, 0, secret.length, 0);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function openNameless(directory: string): Promise<FileHandle> {
  const path = join(directory, `.backlot-${randomBytes(16).toString('hex')}`);
  const handle = await createFile(path);
  await unlink(path);
  return handle;
}

/** Overwrites the secret, for whoever still holds the file, and closes it. */
export async function closeSecret(handle: FileHandle): Promise<void> {
  try {
    const { size } = await handle.stat();
    await handle.write(Buffer.alloc(size), 0, size, 0);
  } finally {
    await handle.close();
  }
}

/** The programs that take the tool's rights away, each of which becomes the next: the tool keeps their process id. */
async function wrapper({ fileBytesMax, timeLimitMs }: ConfinedRequest, serial: number): Promise<string[]> {
  return [
    await requireTool('prlimit'),
    '--core=0',
    `--nofile=${OPEN_FILES_MAX}`,
    `--as=${ADDRESS_SPACE_BYTES_MAX}`,
    `--fsize=${fileBytesMax}`,
    // For a tool whose parent was killed before setpriv could tie it to the parent's life: it ends by itself.
    `--cpu=${Math.ceil(timeLimitMs / 1000)}`,
    '--',
    await requireTool('setpriv'),
    '--no-new-privs',
    '--pdeathsig=KILL',
    '--inh-caps=-all',
    '--ambient-caps=-all',
    ...(isRoot() ? ['--bounding-set=-all'] : []),
    ...(dropsUser() ? [`--reuid=${toolUser(serial)}`, `--regid=${NOBODY}`, '--clear-groups'] : []),
  ];
}

export function isRoot(): boolean {
  return process.getuid!() === 0;
}

/** Root within a user namespace that has no other user is an ordinary user outside, and cannot become anybody else. */
function dropsUser(): boolean {
  return isRoot() && has(NOBODY, '/proc/self/uid_map') && has(NOBODY, '/proc/self/gid_map');
}

/** A user for one tool alone, where there are so many; containers often have only the first 65,536. */
function toolUser(serial: number): number {
  const user = FIRST_FREE_USER + process.pid * USERS_PER_PROCESS + (serial % USERS_PER_PROCESS);
  return has(user, '/proc/self/uid_map') ? user : NOBODY;
}

/** Whom a workstation runs as. */
export interface WorkstationUser {
  readonly user: number;
  readonly group: number;
  /** Whether no other workstation has it. */
  readonly own: boolean;
}

/**
 * A user for the workstation of this id, the same each time, and as good as never that of another; undefined where the
 * server cannot become anybody else.
 */
export function workstationUser(id: string): WorkstationUser | undefined {
  if (!dropsUser()) return undefined;
  const offset = createHash('sha256').update(id).digest().readUInt32BE() % WORKSTATION_USERS;
  const user = FIRST_WORKSTATION_USER + offset;
  const own = has(user, '/proc/self/uid_map');
  return { user: own ? user : NOBODY, group: NOBODY, own };
}

/** Whether there is such a user or group. The map has lines of `first-inside first-outside count`. */
function has(id: number, map: string): boolean {
  const ranges = readFileSync(map, 'utf8').trim().split('\n');
  return ranges.some((line) => {
    const [first, , count] = line.trim().split(/\s+/).map(Number);
    return first! <= id && id < first! + count!;
  });
}

/** The program's path. @throws ImageFailure TOOL_MISSING */
export async function requireTool(tool: string): Promise<string> {
  const candidates = tool.includes('/') ? [tool] : TOOL_DIRECTORIES.map((directory) => join(directory, tool));
  for (const candidate of candidates) {
    const found = await access(candidate, fsConstants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return candidate;
  }
  const name = tool.slice(tool.lastIndexOf('/') + 1);
  const cure = TOOL_PACKAGES[name] === undefined ? '' : ` (package ${TOOL_PACKAGES[name]})`;
  throw new ImageFailure(
    'TOOL_MISSING',
    `The server lacks the program ${name}${cure}. Its administrator must install it.`,
    {
      inward: `not found: ${candidates.join(', ')}`,
    },
  );
}

function execute(program: string, args: readonly string[], request: ConfinedRequest): Promise<ConfinedOutcome> {
  const { files, signal, timeLimitMs, onOutput } = request;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: '/',
      env: { PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C' },
      // A group of its own: a Ctrl-C meant for the service does not end it, and its end takes all of it.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', ...files.map(({ handle }) => handle.fd)],
    });
    let errors = '';
    let timedOut = false;
    const kill = () => killGroup(child.pid);
    const timer = setTimeout(
      () => {
        timedOut = true;
        kill();
      },
      Math.min(timeLimitMs, TIMER_MS_MAX),
    );
    signal.addEventListener('abort', kill, { once: true });
    child.stdout!.setEncoding('utf8').on('data', (text: string) => onOutput?.(text));
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-ERRORS_LENGTH_MAX);
    });
    const settle = (finish: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', kill);
      finish();
    };
    child.on('error', (cause) => settle(() => reject(notStarted(cause))));
    child.once('close', (exitCode, exitSignal) =>
      settle(() => (signal.aborted ? reject(signal.reason) : resolve({ exitCode, exitSignal, timedOut, errors }))),
    );
  });
}

function killGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The machine has no process or memory left for it, which may pass. */
function notStarted(cause: Error): ImageFailure {
  return new ImageFailure(
    'TOOL_FAILED',
    'The server could not start the program that converts images. Try again later.',
    {
      retryable: true,
      inward: cause.message,
      cause,
    },
  );
}
