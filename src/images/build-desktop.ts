/**
 * Makes a Debian desktop as a disk that starts by itself, out of Debian's own packages: something to begin with, for a
 * studio that has no image yet.
 *
 * It decides what is on it: a desktop that is quick to start even where QEMU has to imitate the processor, the guest agent
 * that initialization scripts run through, and a kernel with the drivers of virtual machines and nothing else. What it does to the packages beyond that stands in debian-desktop.sh. As
 * root it works as root; as anybody else, in a user namespace or by fakechroot, and it says what is missing for those. It
 * must leave nothing behind but the disk, however it ends.
 */
import { mkdir, mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DISK_PROGRAMS, makeBootableDisk } from './build-disk.ts';
import { type ProgramOptions, requirePrograms, runBy, runProgram } from './build-program.ts';
import { ImageFailure } from './images.ts';

const CUSTOMIZE = join(import.meta.dirname, 'debian-desktop.sh');
const LABEL = 'desktop';
/** Packages, the tree that they make, and the disk of it, one beside the other. */
const SCRATCH_BYTES_MIN = 4 * 2 ** 30;
const KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg';

const PROGRAMS = {
  ...{ mmdebstrap: 'mmdebstrap', 'apt-get': 'apt', tar: 'tar', unshare: 'util-linux' },
  [KEYRING]: 'debian-archive-keyring',
};

const PACKAGES = [
  ...['linux-image-amd64', 'initramfs-tools', 'lz4', 'systemd-sysv', 'udev', 'dbus', 'libpam-systemd', 'kmod'],
  ...[
    'qemu-guest-agent',
    'ifupdown',
    'isc-dhcp-client',
    'iproute2',
    'iputils-ping',
    'fdisk',
    'e2fsprogs',
    'less',
    'nano',
  ],
  ...[
    'xserver-xorg-core',
    'xserver-xorg-input-libinput',
    'xinit',
    'x11-xserver-utils',
    'dbus-bin',
    'fonts-dejavu-core',
  ],
  ...['jwm', 'xterm', 'thunar', 'mousepad', 'ristretto', 'adwaita-icon-theme'],
];

/** What a workstation has no use for. What is left of a package's documents is its licence. */
const LEFT_OUT = [
  ...['doc', 'man', 'info', 'locale', 'lintian', 'help', 'gnome/help'].map(
    (name) => `path-exclude=/usr/share/${name}/*`,
  ),
  'path-include=/usr/share/doc/*/copyright',
  'path-include=/usr/share/locale/locale.alias',
];

/** Of the drivers, those that virtual machines have; of everything else in the kernel, all. */
const DRIVERS = [
  ...['virtio', 'block', 'net/virtio_net', 'net/net_failover', 'net/tun', 'net/veth', 'char/virtio_console'],
  ...['char/hw_random/virtio', 'gpu/drm/drm', 'gpu/drm/tiny/bochs', 'gpu/drm/virtio', 'gpu/drm/ttm', 'gpu/drm/qxl'],
  ...['firmware/qemu_fw_cfg', 'hid/hid', 'hid/usbhid', 'input/evdev', 'input/keyboard', 'input/mouse', 'input/serio'],
  ...[
    'usb/core',
    'usb/host',
    'usb/common',
    'acpi',
    'ata',
    'scsi/scsi_mod',
    'scsi/sd_mod',
    'scsi/sr_mod',
    'cdrom',
    'i2c',
  ],
  ...['scsi/virtio_scsi', 'md', 'nvme', 'vhost', 'rtc', 'video', 'virt', 'dma-buf'],
];
const TRIMMED_KERNEL = [
  'path-exclude=/lib/modules/*/kernel/drivers/*',
  ...['sound', 'drivers/net/wireless', 'net/bluetooth', 'net/mac80211', 'net/wireless'].map(
    (name) => `path-exclude=/lib/modules/*/kernel/${name}/*`,
  ),
  ...DRIVERS.map((name) => `path-include=/lib/modules/*/kernel/drivers/${name}*`),
];

/** Draws three dimensions without a graphics card, by a compiler (LLVM) that is large. */
const WITHOUT_OPENGL = ['libLLVM*', 'libz3*', 'dri/*'].map((name) => `path-exclude=/usr/lib/x86_64-linux-gnu/${name}`);

/** What must be there before the kernel comes: its installation makes the initrd, which is quick when it is small. */
const PREPARE = `
echo 'LABEL=${LABEL} / ext4 defaults,noatime 0 1' >"$1/etc/fstab"
mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/etc/initramfs-tools/hooks"
printf 'MODULES=list\\nCOMPRESS=lz4\\n' >"$1/etc/initramfs-tools/conf.d/virtual-machine"
cat >"$1/etc/initramfs-tools/hooks/virtual-machine" <<'END'
#!/bin/sh
# The disks of virtual machines; anything else is loaded from the root file system.
[ "$1" != prereqs ] || exit 0
. /usr/share/initramfs-tools/hook-functions
manual_add_modules virtio_pci virtio_blk virtio_scsi sd_mod ahci nvme ext4
END
chmod 755 "$1/etc/initramfs-tools/hooks/virtual-machine"
`;

/** Names of network cards as they always were: which slot a card is in means nothing in a virtual machine. */
const GRUB_SCRIPT = `linux /vmlinuz root=LABEL=${LABEL} ro quiet net.ifnames=0 console=ttyS0 console=tty0
initrd /initrd.img
boot
`;

export interface DesktopRequest {
  /** Debian's name of a release, such as bookworm. */
  readonly suite: string;
  /** Where packages come from; where this machine's come from, where absent. */
  readonly mirror?: string;
  /** Beside those of the desktop. */
  readonly packages: readonly string[];
  readonly openGl: boolean;
  readonly diskGibibytes: number;
  /** Smaller by more than half, slower to make. */
  readonly compressed: boolean;
  /** A directory to work in, with some gigabytes of room; one for temporary files where absent. */
  readonly place?: string;
  readonly signal: AbortSignal;
  /** Called with what is being done, and 0 to 100 of that. */
  readonly onProgress: (stage: string, percent: number) => void;
}

/**
 * Makes the disk, a qcow2 file, and lends it to `use`, which may take it away: what is left afterwards is removed.
 * @throws ImageFailure TOOL_MISSING, TOOL_FAILED, NO_SPACE, ADDRESS_WITH_USER; the signal's reason.
 */
export async function withDesktop<T>(request: DesktopRequest, use: (disk: string) => Promise<T>): Promise<T> {
  if (hasUser(request.mirror)) throw mirrorWithUser('The address of --mirror holds');
  // /tmp is often in memory.
  const temporary = tmpdir() === '/tmp' ? '/var/tmp' : tmpdir();
  const place = request.place ?? temporary;
  const rights = await chooseRights(request.signal);
  for (const directory of [temporary, place]) await requireSpace(directory);
  const scratch = await mkdtemp(join(place, '.backlot-build-'));
  try {
    // Not in ours: those that mmdebstrap runs as somebody else could not reach it.
    const options = { signal: request.signal, scratch: temporary };
    const archive = join(scratch, 'system.tar');
    await installSystem(request, rights, archive, options);
    request.onProgress('Making the disk', 0);
    const tree = join(scratch, 'system');
    await mkdir(tree);
    // The system's users own its files: where we may not say so, fakeroot remembers it.
    const owned = join(scratch, 'owned');
    await runBy(
      rights.unpack(owned),
      ['tar', '--numeric-owner', '-xpf', archive, '-C', tree, '--exclude=./dev/*'],
      options,
    );
    await rm(archive);
    request.onProgress('Making the disk', 50);
    const target = join(scratch, 'disk.qcow2');
    await makeBootableDisk(
      {
        ...{ tree, label: LABEL, grubScript: GRUB_SCRIPT, diskMebibytes: request.diskGibibytes * 1024 },
        ...{ target, compressed: request.compressed, scratch, ownership: rights.read(owned) },
      },
      options,
    );
    return await use(target);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function requireSpace(directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  if (bavail * bsize >= SCRATCH_BYTES_MIN) return;
  throw new ImageFailure('NO_SPACE', `${directory} needs ${SCRATCH_BYTES_MIN / 2 ** 30} GiB of free space for this.`);
}

/** How Debian is installed by who we are, and how files get and keep their owners. */
interface Rights {
  readonly mode: 'root' | 'unshare' | 'fakechroot';
  /** What programs are run by. */
  readonly install: readonly string[];
  readonly unpack: (owned: string) => readonly string[];
  readonly read: (owned: string) => readonly string[];
}

async function chooseRights(signal: AbortSignal): Promise<Rights> {
  await requirePrograms({ ...PROGRAMS, ...DISK_PROGRAMS });
  if (process.getuid!() === 0) {
    // Root mounts what packages need while they are installed: where that is gone with the last program, however it ends.
    return { mode: 'root', install: ['unshare', '--mount', '--'], unpack: () => [], read: () => [] };
  }
  const works = (run: Promise<unknown>) =>
    run.then(
      () => true,
      () => signal.throwIfAborted() ?? false,
    );
  const hasFakechroot = await works(requirePrograms({ fakechroot: 'fakechroot' }));
  // All that is missing is named at once.
  await requirePrograms({ fakeroot: 'fakeroot', ...(!hasFakechroot && { newuidmap: 'uidmap' }) });
  const remembered = {
    install: [],
    unpack: (owned: string) => ['fakeroot', '-s', owned, '--'],
    read: (owned: string) => ['fakeroot', '-i', owned, '--'],
  };
  if (await works(runProgram('mmdebstrap', ['--unshare-helper', '/bin/true'], { signal }))) {
    return { mode: 'unshare', ...remembered };
  }
  if (hasFakechroot) return { mode: 'fakechroot', ...remembered };
  throw new ImageFailure(
    'TOOL_MISSING',
    'Without being root, this needs user namespaces with ids of your own: a line for you in /etc/subuid and /etc/subgid. ' +
      'Or else: sudo apt-get install fakechroot. Or run it as root.',
  );
}

async function installSystem(
  { suite, mirror, packages, openGl, onProgress }: DesktopRequest,
  { mode, install }: Rights,
  archive: string,
  options: ProgramOptions,
): Promise<void> {
  const leftOut = [...LEFT_OUT, ...TRIMMED_KERNEL, ...(openGl ? [] : WITHOUT_OPENGL)];
  const progress = new InstallProgress((percent) => onProgress('Installing Debian', percent));
  const words = [
    ...['mmdebstrap', `--mode=${mode}`, '--variant=minbase', '--architectures=amd64', '--format=tar', '--verbose'],
    ...['APT::Install-Recommends "false"', ...(await settingsOfApt(options))].map((line) => `--aptopt=${line}`),
    ...leftOut.map((line) => `--dpkgopt=${line}`),
    `--include=${[...PACKAGES, ...packages].join(',')}`,
    `--essential-hook=${PREPARE}`,
    `--customize-hook=${await readFile(CUSTOMIZE, 'utf8')}`,
    ...[suite, archive, ...(mirror === undefined ? await sourcesOfApt(suite, options) : [mirror])],
  ];
  await runBy(install, words, { ...options, onLine: (line) => progress.take(line) });
}

/** Lines of sources.list for this release as this machine has them; none where it has none: mmdebstrap knows Debian's. */
async function sourcesOfApt(suite: string, options: ProgramOptions): Promise<string[]> {
  const format = '$(ORIGIN)|$(RELEASE)|$(REPO_URI)|$(COMPONENT)';
  const listed = await runProgram('apt-get', ['indextargets', '--format', format, 'Identifier: Packages'], options);
  const lines = listed.split('\n').map((line) => line.split('|'));
  const isOurs = ([origin, release = '', , component]: string[]) =>
    origin === 'Debian' && component === 'main' && (release === suite || release.startsWith(`${suite}-`));
  const ours = lines.filter(isOurs);
  if (ours.some(([, , address]) => hasUser(address)))
    throw mirrorWithUser("The address of this machine's mirror holds");
  const sources = ours.map(([, release, address]) => `deb ${address} ${release} main`);
  return [...new Set(sources)];
}

/** How this machine's apt reaches its mirrors: through a proxy, for example. It does not become part of the system. */
async function settingsOfApt(options: ProgramOptions): Promise<string[]> {
  const names = ['Acquire::http', 'Acquire::https', 'Acquire::Check-Valid-Until', 'Acquire::Check-Date'];
  const dump = await runProgram('apt-config', ['dump', '--no-empty', '--format', '%f "%v";%n', ...names], options);
  const lines = dump.split('\n').flatMap((line) => (/^Acquire::\S+ "[^"]+";$/.test(line) ? [line.slice(0, -1)] : []));
  if (!lines.some(hasUser)) return lines;
  throw new ImageFailure(
    'ADDRESS_WITH_USER',
    "The proxy of this machine's apt is set with a user or password, which every user of this machine could read while the image " +
      'is made: set one that asks for none in /etc/apt/apt.conf.d, then try again.',
  );
}

/** Whether a user, who may come with a password, stands in an address of this text. */
function hasUser(text = ''): boolean {
  return /:\/\/[^/\s"]*@/.test(text);
}

/** The address itself is in no message. */
function mirrorWithUser(which: string): ImageFailure {
  return new ImageFailure(
    'ADDRESS_WITH_USER',
    `${which} a user or password, which every workstation of the image could read: name a mirror that asks for none with --mirror.`,
  );
}

/** Reads from what apt and dpkg say how far they are: each package is fetched, unpacked and set up. */
class InstallProgress {
  readonly #tell: (percent: number) => void;
  #packages = 0;
  #steps = 0;

  constructor(tell: (percent: number) => void) {
    this.#tell = tell;
  }

  take(line: string): void {
    const [, count] = /\b(\d+) newly installed\b/.exec(line) ?? [];
    if (count !== undefined) {
      // The last of several installations is by far the largest.
      this.#packages = Number(count);
      this.#steps = 0;
    } else if (/^(Get:\d+ |Unpacking |Setting up )/.test(line)) {
      this.#steps += 1;
    }
    if (this.#packages > 0) this.#tell(Math.min(99, (this.#steps / (3 * this.#packages)) * 100));
  }
}
