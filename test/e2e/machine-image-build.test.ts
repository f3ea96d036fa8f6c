/**
 * `backlot machine-image build`: what it refuses, what it says is missing, and what it makes of the system that mmdebstrap
 * hands it. The real mmdebstrap takes minutes and a mirror of Debian, so one of ours stands in its place, in a mount
 * namespace of its own; everything behind it is real: owners, file system, boot sectors, the import.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { until } from '../support/until.ts';
import { BACKLOT, type Finished, Installation, type SpawnOptions } from './installation.ts';

const run = promisify(execFile);
const BUILD = ['machine-image', 'build', 'debian-desktop'];
const SECTOR = 512;

/** Writes what it was told beside itself, and an archive of a small system to where it was told. */
const MMDEBSTRAP = `#!/bin/sh
place=$(dirname "$0")
case "$1" in --unshare-helper) exit 1 ;; esac
for word in "$@"; do printf '%s\\0' "$word"; done >"$place/told"
for word in "$@"; do case "$word" in *.tar) archive=$word ;; esac; done
echo '0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.' >&2
echo 'Unpacking one (1.0) ...' >&2
if [ -e "$place/fails" ]; then echo 'E: no such release' >&2; exit 25; fi
if [ -e "$place/hangs" ]; then trap 'rm "$place/hanging"; exit 1' TERM; touch "$place/hanging"; sleep 600 & wait; fi
exec tar --numeric-owner -C "$place/system" -cf "$archive" .
`;

class Workshop {
  readonly installation: Installation;
  readonly stub: string;
  readonly scratch: string;
  /** Whose file the kernel is: an artist's where we may say so, else ours, who are root in a namespace. */
  readonly owner = process.getuid!() === 0 ? 1_000 : 0;

  constructor(t: TestContext) {
    this.installation = new Installation(t);
    this.stub = join(this.installation.directory, 'stub');
    this.scratch = join(this.installation.directory, 'scratch');
    mkdirSync(join(this.stub, 'system/etc'), { recursive: true });
    mkdirSync(this.scratch);
    writeFileSync(join(this.stub, 'mmdebstrap'), MMDEBSTRAP, { mode: 0o755 });
    writeFileSync(join(this.stub, 'system/vmlinuz'), 'a kernel');
    writeFileSync(join(this.stub, 'system/etc/fstab'), '');
    if (this.owner !== 0) chownSync(join(this.stub, 'system/vmlinuz'), this.owner, this.owner);
  }

  /** Where the stand-in is the only mmdebstrap, or with one more mount. */
  #wrapper(mount: string): string[] {
    const asRoot = process.getuid!() === 0 ? [] : ['--map-root-user'];
    return ['unshare', ...asRoot, '--mount', 'sh', '-c', `${mount} && shift && exec "$@"`, 'sh', this.stub];
  }

  inside(): SpawnOptions {
    return { wrapper: this.#wrapper('mount --bind "$1" /usr/local/sbin'), environment: { TMPDIR: this.scratch } };
  }

  build(words: readonly string[]): Promise<Finished> {
    return this.installation.backlot([...BUILD, ...words], this.inside());
  }

  /** On a machine whose apt has these settings besides, or another program in its place. */
  buildWithApt(apt: { readonly settings?: string; readonly program?: string }): Promise<Finished> {
    const settings = join(this.stub, 'apt.conf.d');
    mkdirSync(settings, { recursive: true });
    writeFileSync(join(settings, '90test'), apt.settings ?? '');
    if (apt.program !== undefined) writeFileSync(join(this.stub, 'apt-get'), apt.program, { mode: 0o755 });
    const wrapper = this.#wrapper(
      'mount --bind "$1" /usr/local/sbin && mount --bind "$1/apt.conf.d" /etc/apt/apt.conf.d',
    );
    return this.installation.backlot(BUILD, { wrapper, environment: { TMPDIR: this.scratch } });
  }

  buildWithoutGrub(): Promise<Finished> {
    const wrapper = this.#wrapper('mount -t tmpfs tmpfs /usr/lib/grub');
    return this.installation.backlot(BUILD, { wrapper, environment: { TMPDIR: this.scratch } });
  }

  told(): string[] {
    return readFileSync(join(this.stub, 'told'), 'utf8').split('\0').slice(0, -1);
  }

  tell(name: 'fails' | 'hangs'): void {
    writeFileSync(join(this.stub, name), '');
  }
}

function beginningOf(path: string, bytes: number): Buffer {
  const descriptor = openSync(path, 'r');
  const start = Buffer.alloc(bytes);
  readSync(descriptor, start);
  closeSync(descriptor);
  return start;
}

function sentenceOf({ code, stdout, stderr }: Finished): string {
  assert.equal(code, 1, `${stdout}${stderr}`);
  assert.equal(stdout, '');
  return stderr;
}

describe('backlot machine-image build', () => {
  it('refuses what it cannot make, before it begins', async (t) => {
    const { installation } = new Workshop(t);
    const file = join(installation.directory, 'there.qcow2');
    writeFileSync(file, '');
    const cases: readonly (readonly [string[], RegExp])[] = [
      [['machine-image', 'build', 'windows'], /There is no recipe windows\. There is: debian-desktop/],
      [[...BUILD, '--size', '1'], /--size must be a whole number of GiB from 4 to 2048/],
      [[...BUILD, '--size', 'large'], /--size must/],
      [[...BUILD, '--suite', '../etc'], /--suite must/],
      [[...BUILD, '--mirror', 'copy:/etc'], /--mirror must/],
      [[...BUILD, '--package', 'x;y'], /--package x;y cannot/],
      [[...BUILD, '--as', 'ami-1'], /--as must/],
      [[...BUILD, '--eula', 'AAAAAAAAAAAAAAAAAAAAAA'], /There is no EULA/],
      [[...BUILD, '--output', file], /exists already/],
      [[...BUILD, '--output', join(installation.directory, 'no/disk.qcow2')], /There is no directory/],
      [[...BUILD, '--output', `${file}2`, '--provided'], /--provided is for an image that is brought in/],
    ];
    for (const [words, says] of cases) assert.match(sentenceOf(await installation.backlot(words)), says);
    assert.deepEqual(await installation.json(['machine-image', 'list']), []);
  });

  it('tells nobody the password of a proxy or a mirror: it says what to do instead', async (t) => {
    const secret = 'user:hidden-word@';
    const workshop = new Workshop(t);
    const refused = (finished: Finished, says: RegExp) => {
      const sentence = sentenceOf(finished);
      assert.match(sentence, says);
      assert.ok(!sentence.includes('hidden-word'));
      assert.ok(!existsSync(join(workshop.stub, 'told')));
      assert.deepEqual(readdirSync(workshop.scratch), []);
    };
    const mirror = await workshop.build(['--mirror', `http://${secret}mirror.example.org/debian`]);
    refused(mirror, /--mirror holds a user or password, .*name a mirror that asks for none with --mirror/);
    for (const name of ['Acquire::http::Proxy', 'Acquire::https::Proxy', 'Acquire::http::Proxy::mirror.example.org']) {
      const proxy = await workshop.buildWithApt({ settings: `${name} "http://${secret}proxy.example.org:3128/";\n` });
      refused(proxy, /proxy of this machine's apt is set with a user or password, .*set one that asks for none/);
    }
    const line = `Debian|bookworm|https://${secret}mirror.example.org/debian|main`;
    const ours = await workshop.buildWithApt({ program: `#!/bin/sh\necho '${line}'\n` });
    refused(ours, /this machine's mirror holds a user or password, .*name a mirror that asks for none with --mirror/);
  });

  it('goes through a proxy without a password, to a mirror whose path has the sign of one', async (t) => {
    const workshop = new Workshop(t);
    const address = 'http://mirror.example.org/at@here';
    const finished = await workshop.buildWithApt({
      settings: 'Acquire::http::Proxy "http://proxy.example.org:3128/";\n',
      program: `#!/bin/sh\necho 'Debian|bookworm|${address}|main'\n`,
    });
    assert.equal(finished.code, 0, finished.stderr);
    const told = workshop.told();
    assert.ok(told.includes('--aptopt=Acquire::http::Proxy "http://proxy.example.org:3128/"'), told.join('\n'));
    assert.ok(told.includes(`deb ${address} bookworm main`), told.join('\n'));
  });

  it('says what this machine lacks, and the line that installs it', async (t) => {
    const finished = await new Workshop(t).buildWithoutGrub();
    assert.match(sentenceOf(finished), /lacks .*boot\.img.*sudo apt-get install --no-install-recommends .*grub-pc-bin/);
  });

  it('makes a disk of the system, and brings it in as an image', async (t) => {
    const workshop = new Workshop(t);
    const finished = await workshop.build(['--name', 'My desktop', '--package', 'gimp', '--suite', 'trixie']);
    assert.equal(finished.code, 0, finished.stderr);
    const image = JSON.parse(finished.stdout);
    assert.deepEqual(
      { ...image, name: 'My desktop', platform: 'LINUX', format: 'qcow2', virtualSizeBytes: 8 * 2 ** 30 },
      image,
    );
    assert.deepEqual(await workshop.installation.json(['machine-image', 'list']), [image]);
    const told = workshop.told();
    assert.ok(told.some((word) => word.startsWith('--include=') && word.split(',').includes('gimp')));
    assert.ok(told.includes('trixie'));
    assert.deepEqual(readdirSync(workshop.scratch), []);
  });

  it('makes a disk that starts at its boot sector and holds the files with their owners', async (t) => {
    const workshop = new Workshop(t);
    const { directory } = workshop.installation;
    const file = join(directory, 'desktop.qcow2');
    const finished = await workshop.build(['--output', file, '--size', '4']);
    assert.equal(finished.code, 0, finished.stderr);
    assert.equal(JSON.parse(finished.stdout).file, file);
    const raw = join(directory, 'desktop.raw');
    await run('qemu-img', ['convert', '-O', 'raw', file, raw]);
    const partition = 2_048 * SECTOR;
    const start = beginningOf(raw, partition);
    assert.equal(start.readUInt16LE(510), 0xaa55);
    assert.deepEqual([start[446], start[450], start.readUInt32LE(454)], [0x80, 0x83, 2_048]);
    assert.ok(start.includes('GRUB'));
    const look = (request: string) => run('debugfs', ['-R', request, `${raw}?offset=${partition}`]);
    assert.equal((await look('cat /vmlinuz')).stdout, 'a kernel');
    assert.match((await look('stat /vmlinuz')).stdout, new RegExp(`User: +${workshop.owner} +Group`));
  });

  it('shows at a terminal how far it is, by what apt says', async (t) => {
    const workshop = new Workshop(t);
    workshop.tell('fails');
    const { stdout } = await workshop.installation.backlotAtTerminal(BUILD, workshop.inside());
    // One of two packages is unpacked, after it was fetched and before it is set up.
    assert.match(stdout, /\rInstalling Debian █{5}░{25} {2}16 %/);
  });

  it('leaves nothing when it fails, and says why', async (t) => {
    const workshop = new Workshop(t);
    workshop.tell('fails');
    assert.match(sentenceOf(await workshop.build([])), /mmdebstrap ended with 25[\s\S]*E: no such release/);
    assert.deepEqual(readdirSync(workshop.scratch), []);
    assert.deepEqual(await workshop.installation.json(['machine-image', 'list']), []);
  });

  it('leaves nothing when it is stopped, and lets mmdebstrap clean up', async (t) => {
    const workshop = new Workshop(t);
    workshop.tell('hangs');
    const hanging = join(workshop.stub, 'hanging');
    const building = workshop.installation.spawn([BACKLOT, ...BUILD], workshop.inside());
    await until('mmdebstrap works', () => existsSync(hanging));
    building.signal('SIGINT');
    assert.match(sentenceOf(await building.finished), /Stopped\. Nothing was imported\./);
    assert.ok(!existsSync(hanging));
    assert.deepEqual(readdirSync(workshop.scratch), []);
  });
});
