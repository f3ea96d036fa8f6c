/**
 * The command lines of sandboxes: which programs take rights away, in which order, and what is left inside. Pure.
 *
 * A server that is root first makes a view of the machine in which there is nothing but the host's programs and the few
 * directories that are named: only then can another user, who may not enter the data directory, go on. What runs inside
 * is that user without any capability, in namespaces of its own, with no network but its own loopback, and cannot make
 * further user namespaces. Nothing secret may ever be among the arguments: everybody on the machine can read them.
 */
import type { WorkstationUser } from '../images/confined.ts';

export interface SandboxPrograms {
  readonly bwrap: string;
  readonly prlimit: string;
  readonly setpriv: string;
  readonly tar: string;
}

/** A directory of the host, and where it is seen inside. */
export interface SandboxMount {
  readonly source: string;
  readonly target: string;
  readonly writable: boolean;
}

export interface SandboxRequest {
  readonly programs: SandboxPrograms;
  /** Whom it runs as on the host; as the server where absent. */
  readonly user: WorkstationUser | undefined;
  readonly limits: {
    /** Private memory of each process. */
    readonly memoryBytes: number;
    /** No file may grow beyond this. */
    readonly fileBytes: number;
  };
  /** What bwrap does to make the inside, in this order: its own arguments, and directories of the host. */
  readonly inside: readonly (string | SandboxMount)[];
  readonly command: readonly string[];
}

const OPEN_FILES_MAX = 4_096;
export const PROCESSES_MAX = 2_048;
const MIB = 2 ** 20;
/** Where directories of the host lie in the view that a server which is root makes. */
const VIEW = '/backlot';
/** The host's programs and their libraries; those that are not there are no loss. */
const PROGRAM_DIRECTORIES = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64'];
export const PROGRAMS = PROGRAM_DIRECTORIES.flatMap((directory) => ['--ro-bind-try', directory, directory]);
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** Directories that every root file system must have, to be mounted over. */
export const MOUNT_POINTS = ['dev', 'home', 'proc', 'run', 'tmp', 'var/tmp'] as const;
/** Everything inside runs as this user. */
const ARTIST = { id: '1000', name: 'artist', home: '/home/artist', runtime: '/run/user/1000' } as const;
const DISPLAY_DIRECTORY = '/run/studio';
/** The socket of the display, in the directory that is for it. */
export const DISPLAY_SOCKET = 'vnc';
export const DISPLAY_PATH = `${DISPLAY_DIRECTORY}/${DISPLAY_SOCKET}`;

/** The whole command line, the program first. */
export function sandboxCommand(request: SandboxRequest): string[] {
  const { programs, user, inside, command } = request;
  const mounts = inside.filter((part) => typeof part !== 'string');
  const seenAt = (mount: SandboxMount) => (user ? `${VIEW}/${mounts.indexOf(mount)}` : mount.source);
  return [
    ...(user ? view(programs, mounts) : []),
    ...withoutRights(request),
    programs.bwrap,
    '--unshare-all',
    '--unshare-user',
    '--disable-userns',
    '--new-session',
    '--clearenv',
    '--cap-drop',
    'ALL',
    ...inside.flatMap((part) => (typeof part === 'string' ? [part] : bind(part, seenAt(part), part.target))),
    '--',
    ...command,
  ];
}

/** A mount namespace of the host's programs and of what is named, and of nothing else. */
function view({ bwrap }: SandboxPrograms, mounts: readonly SandboxMount[]): string[] {
  return [
    bwrap,
    ...PROGRAMS,
    '--dev',
    '/dev',
    // The host's own and not a new one, parts of which bwrap would cover: then nobody inside could mount another.
    '--bind',
    '/proc',
    '/proc',
    // Where the next bwrap begins to build.
    '--dir',
    '/tmp',
    '--dir',
    VIEW,
    ...mounts.flatMap((mount, index) => bind(mount, mount.source, `${VIEW}/${index}`)),
    '--',
  ];
}

function bind({ writable }: SandboxMount, source: string, target: string): string[] {
  return [writable ? '--bind' : '--ro-bind', source, target];
}

function withoutRights({ programs, user, limits }: SandboxRequest): string[] {
  return [
    programs.prlimit,
    '--core=0',
    `--nofile=${OPEN_FILES_MAX}`,
    `--data=${limits.memoryBytes}`,
    `--fsize=${limits.fileBytes}`,
    // Counted over all processes of a user, so it is only for one that has no others.
    ...(user?.own ? [`--nproc=${PROCESSES_MAX}`] : []),
    '--',
    programs.setpriv,
    '--no-new-privs',
    '--inh-caps=-all',
    '--ambient-caps=-all',
    ...(user ? ['--bounding-set=-all', `--reuid=${user.user}`, `--regid=${user.group}`, '--clear-groups'] : []),
    '--',
  ];
}

export interface WorkstationCommand {
  readonly programs: SandboxPrograms;
  readonly user: WorkstationUser | undefined;
  readonly memoryMib: number;
  readonly fileBytes: number;
  /** Directories of the host: the root file system, the home, and where the display's socket is made. */
  readonly root: string;
  readonly home: string;
  readonly sockets: string;
  /** Among the arguments of every process that the workstation begins with, and of no other. */
  readonly mark: string;
}

/** A shell inside, which reads from its standard input what to do. */
export function workstationCommand(request: WorkstationCommand): string[] {
  const { programs, user, memoryMib, fileBytes, root, home, sockets, mark } = request;
  const halfOfMemory = Math.ceil(memoryMib / 2) * MIB;
  return sandboxCommand({
    programs,
    user,
    limits: { memoryBytes: memoryMib * MIB, fileBytes },
    inside: [
      '--as-pid-1',
      ...['--uid', ARTIST.id, '--gid', ARTIST.id, '--hostname', 'workstation'],
      { source: root, target: '/', writable: false },
      ...['--proc', '/proc', '--dev', '/dev'],
      ...tmpfs('/dev/shm', '1777', halfOfMemory),
      ...['--remount-ro', '/dev'],
      ...tmpfs('/tmp', '1777', halfOfMemory),
      ...tmpfs('/var/tmp', '1777', halfOfMemory),
      ...tmpfs('/run', '0755', MIB),
      ...['--dir', '/run/user', '--perms', '0700', '--dir', ARTIST.runtime],
      { source: sockets, target: DISPLAY_DIRECTORY, writable: true },
      ...tmpfs('/home', '0755', MIB),
      { source: home, target: ARTIST.home, writable: true },
      ...['--chdir', ARTIST.home],
      ...environment({
        PATH,
        HOME: ARTIST.home,
        USER: ARTIST.name,
        LOGNAME: ARTIST.name,
        SHELL: '/bin/sh',
        LANG: 'C.UTF-8',
        DISPLAY: ':1',
        XDG_RUNTIME_DIR: ARTIST.runtime,
      }),
    ],
    command: ['/bin/sh', '-s', mark],
  });
}

export interface TarCommand {
  readonly programs: SandboxPrograms;
  readonly user: WorkstationUser | undefined;
  readonly fileBytes: number;
  /** The one directory of the host that it sees, besides programs. */
  readonly directory: SandboxMount;
  readonly arguments: readonly string[];
}

const TAR_MEMORY_BYTES = 2 ** 30;

/** The host's tar. It is root inside, so that it can read and make what its user has closed to itself; outside it is not. */
export function tarCommand({ programs, user, fileBytes, directory, arguments: args }: TarCommand): string[] {
  return sandboxCommand({
    programs,
    user,
    limits: { memoryBytes: TAR_MEMORY_BYTES, fileBytes },
    inside: [
      ...['--uid', '0', '--gid', '0', '--cap-add', 'CAP_DAC_OVERRIDE', '--die-with-parent'],
      ...PROGRAMS,
      ...['--proc', '/proc', '--dev', '/dev'],
      directory,
      ...['--chdir', '/'],
      ...environment({ PATH, LC_ALL: 'C' }),
    ],
    command: ['/bin/sh', '-c', 'umask 022 && exec "$@"', 'sh', programs.tar, ...args],
  });
}

function tmpfs(target: string, perms: string, bytes: number): string[] {
  return ['--perms', perms, '--size', String(bytes), '--tmpfs', target];
}

function environment(variables: Readonly<Record<string, string>>): string[] {
  return Object.entries(variables).flatMap(([name, value]) => ['--setenv', name, value]);
}
