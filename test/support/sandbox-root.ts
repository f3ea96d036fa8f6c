/**
 * A small root file system for sandboxes, as a tar: a display, a terminal and a shell with its tools, taken from what is
 * installed on this machine, with the libraries that they say they need. It is made once and kept with npm's packages,
 * under a name that changes with what went into it.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/backlot');
/** To be raised when what is done here with the files changes. */
const VERSION = 1;

const PROGRAMS = ['/usr/bin/Xtigervnc', '/usr/bin/xkbcomp', '/usr/bin/xterm'];
const BUSYBOX = '/usr/bin/busybox';
const KEYBOARDS = '/usr/share/X11/xkb';
const DIRECTORIES = ['bin', 'dev', 'etc/backlot', 'etc/skel', 'home', 'proc', 'run', 'tmp', 'var/tmp', 'var/lib/xkb'];

/** The path of the tar. */
export function sandboxRoot(): string {
  const files = [...PROGRAMS, BUSYBOX, ...librariesOf(PROGRAMS)];
  const facts = files.map((file) => `${file} ${statSync(file).size} ${statSync(file).mtimeMs}`);
  const name = createHash('sha256')
    .update([VERSION, ...facts].join('\n'))
    .digest('hex')
    .slice(0, 16);
  const tar = join(CACHE, `sandbox-root-${name}.tar`);
  if (!existsSync(tar)) make(tar, files);
  return tar;
}

/** Whoever is first gives it its name; another process that makes one at the same time makes the same. */
function make(tar: string, files: readonly string[]): void {
  const staging = join(CACHE, `sandbox-root-${randomBytes(8).toString('hex')}`);
  const root = join(staging, 'root');
  try {
    for (const directory of DIRECTORIES) mkdirSync(join(root, directory), { recursive: true });
    for (const file of files) {
      mkdirSync(dirname(join(root, file)), { recursive: true });
      copyFileSync(file, join(root, file));
    }
    for (const tool of execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).trim().split('\n')) {
      symlinkSync(BUSYBOX, join(root, 'bin', tool));
    }
    cpSync(KEYBOARDS, join(root, KEYBOARDS), { recursive: true, dereference: true });
    writeFileSync(join(root, 'etc/passwd'), 'artist:x:1000:1000::/home/artist:/bin/sh\n');
    writeFileSync(join(root, 'etc/group'), 'artist:x:1000:\n');
    writeFileSync(join(root, 'etc/skel/.profile'), '# of the root file system\n');
    for (const name of readdirSync(root)) chmodSync(join(root, name), 0o755);
    const made = join(staging, 'tar');
    execFileSync('tar', ['--create', '--file', made, '--owner=0', '--group=0', '--mode=u+rwX,go+rX', '-C', root, '.']);
    renameSync(made, tar);
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** The libraries that the loader would take, and the loader. */
function librariesOf(programs: readonly string[]): string[] {
  const told = execFileSync('ldd', programs, { encoding: 'utf8' });
  return [...new Set([...told.matchAll(/(\/\S+) \(0x[0-9a-f]+\)$/gm)].map(([, path]) => path!))].sort();
}
