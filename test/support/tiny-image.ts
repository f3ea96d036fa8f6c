/**
 * A tiny machine that starts by itself, for tests that need a real guest: Debian's cloud kernel, busybox, and Debian's own
 * guest agent, on a disk of one ext4 partition that is written to.
 *
 * Why so: the cloud kernel is packed with LZ4 and needs no more than a few modules, which is what makes it start in
 * seconds where QEMU has to imitate the processor. It has nothing to draw with, so the screen is VGA text. The agent is
 * the real one, because tests of ours against an agent of ours would prove little; its libraries are those of this
 * machine, which QEMU needs too. The packages come from wherever this machine's apt gets them; no root, no mount and no
 * loop device is needed. The disk is made once and kept under node_modules/.cache, under a name that changes with
 * whatever it is made of; processes that find none make it each for itself, and the last one to end wins.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { makeBootableDisk } from '../../src/images/build-disk.ts';

const run = promisify(execFile);

const GUEST = resolve(import.meta.dirname, 'tiny-guest');
const BUILDER = resolve(import.meta.dirname, '../../src/images/build-disk.ts');
const CACHE = resolve(import.meta.dirname, '../../node_modules/.cache/backlot');
const BUSYBOX = '/bin/busybox';
const DISK_MEBIBYTES = 96;
const BUILD_LIMIT_MS = 600_000;

/** What brings the root file system, and what the rest of the guest is for. Those that the kernel has built in are left out. */
const FIRST_MODULES = ['virtio_pci', 'virtio_blk', 'ext4'];
const OTHER_MODULES = [
  ...['virtio_console', 'virtio_net', 'virtio_balloon', 'virtio_rng', 'virtio_input'],
  ...['button', 'evdev', 'i8042', 'atkbd', 'psmouse'],
];

let made: Promise<string> | undefined;

/** Path of the disk, a qcow2 file that must not be written to: start from a copy, or a layer above it. */
export function tinyImage(): Promise<string> {
  made ??= findOrBuild();
  return made;
}

async function findOrBuild(): Promise<string> {
  const place = join(CACHE, `tiny-image-${await fingerprint()}.qcow2`);
  if (existsSync(place)) return place;
  await mkdir(CACHE, { recursive: true });
  const scratch = await mkdtemp(join(CACHE, 'tiny-image-in-the-making-'));
  try {
    await rename(await build(scratch), place);
    return place;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function fingerprint(): Promise<string> {
  const hash = createHash('sha256');
  const guest = (await readdir(GUEST, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
  for (const file of [import.meta.filename, BUILDER, ...guest.sort()]) {
    hash.update(`${relative(GUEST, file)}\0`).update(await readFile(file));
  }
  return hash.digest('hex').slice(0, 16);
}

async function build(scratch: string): Promise<string> {
  const tree = join(scratch, 'tree');
  await cp(join(GUEST, 'root'), tree, { recursive: true });
  for (const name of [
    'boot',
    'data',
    'dev',
    'home/artist',
    'lib/modules',
    'proc',
    'root',
    'run',
    'sys',
    'tmp',
    'var/log',
    'var/run',
  ])
    await mkdir(join(tree, name), { recursive: true });
  await installBusybox(tree);
  await installAgent(tree, scratch);
  await installKernel(tree, scratch);
  await openToAll(tree);
  const target = join(scratch, 'tiny.qcow2');
  await makeBootableDisk(
    {
      ...{ tree, label: 'tiny', diskMebibytes: DISK_MEBIBYTES, target, compressed: true, scratch },
      // The last console is the one that init speaks on: the serial one, so that the screen stays for the shell.
      grubScript:
        'linux /boot/vmlinuz console=tty0 console=ttyS0 loglevel=4 mitigations=off\ninitrd /boot/initrd.gz\nboot\n',
    },
    { signal: AbortSignal.timeout(BUILD_LIMIT_MS) },
  );
  return target;
}

async function installBusybox(tree: string): Promise<void> {
  await copyInto(tree, BUSYBOX);
  const { stdout } = await run(BUSYBOX, ['--list-full']);
  for (const path of stdout.trim().split('\n')) {
    const link = join(tree, path);
    await mkdir(dirname(link), { recursive: true });
    if (!existsSync(link)) await symlink(BUSYBOX, link);
  }
}

async function installAgent(tree: string, scratch: string): Promise<void> {
  const agent = join(await unpacked('qemu-guest-agent', scratch), 'usr/sbin/qemu-ga');
  await cp(agent, join(tree, 'usr/sbin/qemu-ga'));
  const { stdout } = await run('ldd', [agent]);
  const missing = /^\s*(\S+) => not found/m.exec(stdout);
  if (missing)
    throw new Error(`this machine lacks ${missing[1]}, which Debian's guest agent needs; run: npm run setup`);
  for (const [library] of stdout.matchAll(/\/\S+(?= \(0x)/g)) await copyInto(tree, library);
}

async function installKernel(tree: string, scratch: string): Promise<void> {
  const { stdout } = await run('apt-cache', ['depends', '--important', 'linux-image-cloud-amd64']);
  const name = /Depends: (linux-image-\S+)/.exec(stdout)?.[1];
  if (name === undefined) throw new Error('apt knows no linux-image-cloud-amd64; run: apt-get update');
  const kernel = await unpacked(name, scratch);
  await cp(globSync(join(kernel, 'boot/vmlinuz-*'))[0]!, join(tree, 'boot/vmlinuz'));
  const modules = await Modules.of(kernel);
  const first = join(scratch, 'first');
  await cp(join(GUEST, 'initrd'), first, { recursive: true });
  await copyInto(first, BUSYBOX);
  const loaded = await modules.install(FIRST_MODULES, first, 'modules');
  await modules.install(OTHER_MODULES, tree, 'lib/modules/order', loaded);
  await openToAll(first);
  const files = (await readdir(first, { recursive: true })).join('\n');
  const archive = run('cpio', ['-o', '-H', 'newc', '--owner=0:0', '--quiet'], {
    cwd: first,
    encoding: 'buffer',
    maxBuffer: 2 ** 26,
  });
  archive.child.stdin!.end(files);
  await writeFile(join(tree, 'boot/initrd.gz'), gzipSync((await archive).stdout));
}

/** A package of Debian, as files. */
async function unpacked(name: string, scratch: string): Promise<string> {
  const place = join(scratch, name);
  await mkdir(place);
  await run('apt-get', ['download', '-qq', '-o', 'APT::Sandbox::User=root', name], { cwd: place }).catch((error) => {
    throw new Error(`apt cannot download ${name}; run apt-get update first. It says: ${error.stderr}`);
  });
  const [archive] = await readdir(place);
  await run('dpkg-deb', ['-x', join(place, archive!), join(place, 'files')]);
  return join(place, 'files');
}

/** The modules of a kernel, each with those that it depends on. */
class Modules {
  readonly #files: ReadonlyMap<string, string>;

  private constructor(files: ReadonlyMap<string, string>) {
    this.#files = files;
  }

  static async of(kernel: string): Promise<Modules> {
    const paths = globSync(join(kernel, 'lib/modules/**/*.ko*'));
    return new Modules(new Map(paths.map((path) => [nameOf(path), path])));
  }

  /** Puts modules into a tree, and a list of their files in the order in which they load. @returns all that are loaded then. */
  async install(
    wanted: readonly string[],
    tree: string,
    list: string,
    loaded: ReadonlySet<string> = new Set(),
  ): Promise<Set<string>> {
    const order = new Set(loaded);
    for (const name of wanted) await this.#collect(name, order);
    const names = [...order].filter((name) => !loaded.has(name));
    const paths = names.map((name) => `lib/modules/${name}.ko`);
    await mkdir(join(tree, 'lib/modules'), { recursive: true });
    for (const [index, name] of names.entries()) await writeFile(join(tree, paths[index]!), await this.#read(name));
    await writeFile(join(tree, list), paths.map((path) => `${path}\n`).join(''));
    return order;
  }

  async #collect(name: string, order: Set<string>): Promise<void> {
    if (order.has(name) || !this.#files.has(name)) return;
    const [, needs = ''] = /\0depends=([^\0]*)\0/.exec((await this.#read(name)).toString('latin1')) ?? [];
    for (const needed of needs.split(',')) await this.#collect(nameOf(needed), order);
    order.add(name);
  }

  async #read(name: string): Promise<Buffer> {
    const path = this.#files.get(name)!;
    if (!path.endsWith('.xz')) return readFile(path);
    return (await run('xz', ['-dc', path], { encoding: 'buffer', maxBuffer: 2 ** 26 })).stdout;
  }
}

/** File names have dashes where the kernel has underscores. */
function nameOf(path: string): string {
  return path
    .replace(/^.*\//, '')
    .replace(/\.ko.*$/, '')
    .replaceAll('-', '_');
}

/** A file of this machine, at the same place in the tree. */
async function copyInto(tree: string, path: string): Promise<void> {
  await mkdir(dirname(join(tree, path)), { recursive: true });
  await cp(path, join(tree, path), { dereference: true });
}

/** Whoever made the files here: users of the guest can read them, and what can be run here can be run there. */
async function openToAll(tree: string): Promise<void> {
  for (const entry of await readdir(tree, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) await chmod(path, (await stat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
}
