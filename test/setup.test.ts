/**
 * scripts/setup.sh, run for real on a machine that is not: a directory of stubs lies over /usr/bin, in a mount namespace of
 * its own, and is all of its path. What the stubs are called with and what set-up says stand in one transcript, in order.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { temporaryDirectory } from './support/temporary.ts';

const SETUP = resolve(import.meta.dirname, '../scripts/setup.sh');

/** What every system has, taken from this one. */
const EVERYWHERE = ['sh', 'dirname', 'grep', 'sort', 'paste', 'env', 'chmod', 'cp', 'ln', 'ls', 'mkdir', 'rm', 'tee'];
/** Where Debian puts servers of PostgreSQL, and how it is told whether to make a cluster. */
const POSTGRESQL = { servers: '/usr/lib/postgresql', settings: '/etc/postgresql-common' };
const SERVER = `${POSTGRESQL.servers}/15/bin/initdb`;

const RECORD = 'record() { printf "%s\\n" "$*" >>"$TRANSCRIPT"; }';

/** By name, what they do. ID is the user's, and FAILS names a call that must fail. */
const STUBS = {
  id: 'echo "$ID"',
  'apt-get': `
    record "\${DEBIAN_FRONTEND:+DEBIAN_FRONTEND=$DEBIAN_FRONTEND }apt-get $*"
    [ "$FAILS" != "apt-get $1" ] || { echo "E: apt-get's own words" >&2; exit 100; }
    [ "$1" = install ] || exit 0
    [ ! -e ${POSTGRESQL.settings}/createcluster.conf ] || record "with createcluster.conf"
    for word in "$@"; do
      case "$word" in
        libatomic1) tools=libatomic.so.1 ;;
        qemu-utils) tools=qemu-img ;;
        mmdebstrap) tools=mmdebstrap ;;
        qemu-system-x86) tools=qemu-system-x86_64 ;;
        util-linux) tools="setpriv prlimit" ;;
        awscli) tools=aws ;;
        python3-boto3) tools=python3 ;;
        openssl) tools=openssl ;;
        chromium) tools=chromium ;;
        cpio) tools=cpio ;;
        busybox-static) tools=busybox ;;
        bubblewrap) tools=bwrap ;;
        tigervnc-standalone-server) tools=Xtigervnc ;;
        xterm) tools=xterm ;;
        postgresql) tools= && mkdir -p ${dirname(SERVER)} && cp /usr/bin/tool ${SERVER} ;;
        *) tools= ;;
      esac
      for tool in $tools; do
        [ "$FAILS" = "$tool" ] || ln -sf /usr/bin/tool "/usr/bin/$tool"
      done
    done
    echo "apt-get's chatter"`,
  /** Libraries lie among the programs here. */
  ldconfig: `
    for library in /usr/bin/lib*; do
      [ ! -e "$library" ] || echo "	\${library##*/} (libc6,x86-64) => $library"
    done`,
  sudo: `
    record "sudo $*"
    [ "$FAILS" != sudo ] || exit 1
    [ "$1" != -n ] || shift
    ID=0 exec "$@"`,
  npm: `
    record "npm $*"
    [ "$FAILS" != npm ] || exit 7
    mkdir -p node_modules/.bin
    cp "$INSTALLED" node_modules/.package-lock.json
    case "$FAILS" in
      node) ;;
      'to run node')
        printf '#!/bin/sh\\necho the words of the loader >&2\\nexit 127\\n' >node_modules/.bin/node
        chmod 755 node_modules/.bin/node
        ;;
      *) ln -sf "$NODE" node_modules/.bin/node ;;
    esac`,
  /** Stands for each of the tools that set-up looks for. */
  tool: 'exit 0',
  true: 'exit 0',
} as const;

/** Stands for what makes the machine that tests start: it may fail until the lists of packages are new, or always. */
const TEST_MACHINE = `
import fs from 'node:fs';
export async function tinyImage(): Promise<void> {
  const { TRANSCRIPT, FAILS } = process.env;
  const transcript = fs.readFileSync(TRANSCRIPT!, 'utf8');
  fs.appendFileSync(TRANSCRIPT!, 'the machine of the tests\\n');
  if (FAILS === 'machine' || (FAILS === 'old lists' && !transcript.includes('apt-get update'))) process.exit(1);
}
`;

/** What the product and the tests need of a system. */
const TOOLS = [
  ...(['qemu-img', 'qemu-system-x86_64', 'mmdebstrap', 'setpriv', 'prlimit', 'aws', 'python3', 'openssl'] as const),
  ...(['chromium', 'cpio', 'busybox', 'bwrap', 'Xtigervnc', 'xterm', 'libatomic.so.1'] as const),
] as const;

interface Lock {
  readonly [path: string]: { readonly version: string; readonly integrity?: string; readonly [flag: string]: unknown };
}

const LOCK: Lock = {
  '': { version: '0.1.0' },
  'node_modules/one': { version: '1.0.0', integrity: 'sha512-one' },
  'node_modules/tests-only': { version: '1.0.0', integrity: 'sha512-tests-only', dev: true },
  'node_modules/for-other-machines': { version: '1.0.0', integrity: 'sha512-other', optional: true },
};

/** As npm writes it down: without the project itself and what is not for this machine. */
const INSTALLED: Lock = {
  'node_modules/one': LOCK['node_modules/one']!,
  'node_modules/tests-only': LOCK['node_modules/tests-only']!,
};

interface Machine {
  readonly lacks?: readonly ((typeof TOOLS)[number] | 'postgresql' | 'apt-get' | 'sudo')[];
  readonly userId?: number;
  /** A call that fails, or a tool that an installation does not bring. */
  readonly fails?: string;
  /** What npm has installed; null where it never has. */
  readonly installed?: Lock | null;
  /** Node is there, but does not run. */
  readonly brokenNode?: boolean;
  readonly words?: readonly string[];
}

class World {
  readonly #directory: string;
  readonly #bin: string;
  readonly #project: string;
  readonly #machine: Machine;

  constructor(t: TestContext, machine: Machine = {}) {
    this.#machine = machine;
    this.#directory = temporaryDirectory(t);
    this.#bin = join(this.#directory, 'bin');
    this.#project = join(this.#directory, 'project');
    for (const directory of [this.#bin, join(this.#directory, 'settings')]) mkdirSync(directory);
    const server = join(this.#directory, 'servers', relative(POSTGRESQL.servers, SERVER));
    mkdirSync(dirname(server), { recursive: true });
    writeFileSync(server, '');
    for (const name of EVERYWHERE) copyFileSync(realpathSync(`/usr/bin/${name}`), join(this.#bin, name));
    for (const [name, text] of Object.entries(STUBS)) this.#write(name, `#!/bin/sh\n${RECORD}\n${text}\n`);
    for (const name of TOOLS) symlinkSync('/usr/bin/tool', join(this.#bin, name));
    for (const name of machine.lacks ?? []) rmSync(name === 'postgresql' ? server : join(this.#bin, name));

    for (const name of ['scripts', 'src', 'test/support', 'node_modules/.bin'])
      mkdirSync(join(this.#project, name), { recursive: true });
    copyFileSync(SETUP, join(this.#project, 'scripts/setup.sh'));
    const compile = "fs.appendFileSync(process.env.TRANSCRIPT!, 'node src/main.ts --help\\n');\n";
    writeFileSync(join(this.#project, 'src/main.ts'), `import fs from 'node:fs';\n${compile}`);
    writeFileSync(join(this.#project, 'test/support/tiny-image.ts'), TEST_MACHINE);
    writeFileSync(join(this.#project, 'package-lock.json'), JSON.stringify({ packages: LOCK }));
    const { installed = INSTALLED, brokenNode = false } = machine;
    if (installed === null) {
      rmSync(join(this.#project, 'node_modules'), { recursive: true });
      return;
    }
    symlinkSync(brokenNode ? '/nowhere/node' : process.execPath, join(this.#project, 'node_modules/.bin/node'));
    writeFileSync(join(this.#project, 'node_modules/.package-lock.json'), JSON.stringify({ packages: installed }));
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#bin, name), text, { mode: 0o755 });
  }

  /** Somebody hands the lock file over with the time that it had elsewhere. */
  ageLockFile(seconds: number): void {
    const { mtimeMs } = statSync(join(this.#project, 'node_modules/.package-lock.json'));
    utimesSync(join(this.#project, 'package-lock.json'), mtimeMs / 1000 - seconds, mtimeMs / 1000 - seconds);
  }

  /** What is left in PostgreSQL's settings. */
  settings(): string[] {
    return readdirSync(join(this.#directory, 'settings'));
  }

  /** Python is there, but without boto3. */
  breakPython(): void {
    rmSync(join(this.#bin, 'python3'));
    this.#write('python3', '#!/bin/sh\n[ "$*" != "-c import boto3" ]\n');
  }

  setUp(): { code: number | null; transcript: string[] } {
    const path = join(this.#directory, 'transcript');
    const transcript = openSync(path, 'a');
    const asRoot = process.getuid!() === 0 ? [] : ['--map-root-user'];
    const { servers, settings } = POSTGRESQL;
    const mounts = [`mount --bind "$1" ${settings}`, `mount --bind "$2" ${servers}`, 'mount --bind "$3" /usr/bin'];
    const mount = `${mounts.join(' && ')} && shift 3 && exec "$@"`;
    const places = [join(this.#directory, 'settings'), join(this.#directory, 'servers'), this.#bin];
    const { userId = 0, fails = '', words = [] } = this.#machine;
    const installed = join(this.#directory, 'installed.json');
    writeFileSync(installed, JSON.stringify({ packages: INSTALLED }));
    const setup = ['/usr/bin/sh', join(this.#project, 'scripts/setup.sh'), ...words];
    const { status } = spawnSync('unshare', [...asRoot, '--mount', 'sh', '-c', mount, 'sh', ...places, ...setup], {
      cwd: this.#directory,
      env: {
        PATH: '/usr/bin:/bin',
        TRANSCRIPT: path,
        ID: String(userId),
        FAILS: fails,
        NODE: process.execPath,
        INSTALLED: installed,
      },
      stdio: ['ignore', transcript, transcript],
    });
    closeSync(transcript);
    const lines = readFileSync(path, 'utf8').split('\n');
    rmSync(path);
    return { code: status, transcript: lines.slice(0, -1) };
  }
}

const UPDATE = 'apt-get update -qq';
const install = (packages: string) => `apt-get install -y -qq --no-install-recommends ${packages}`;
const installing = (packages: string) => `setup: installing ${packages} (this may take some minutes)`;
const QUIETLY = 'DEBIAN_FRONTEND=noninteractive';
const APT_WORDS = "E: apt-get's own words";
const NPM_THERE = 'setup: npm packages are there';
const NPM_CI = ['setup: installing npm packages', 'npm ci --no-audit --no-fund --loglevel=error'];
const COMPILED = 'node src/main.ts --help';
const SAYS_READY = 'setup: ready: npm start, or npm test';
const READY = [COMPILED, 'the machine of the tests', SAYS_READY];
const PRODUCT_READY = [COMPILED, SAYS_READY];

/** Asserts what happens on such a machine, from the first line to the last. */
function happens(t: TestContext, machine: Machine, code: number, lines: readonly string[]): World {
  const world = new World(t, machine);
  const done = world.setUp();
  assert.deepEqual(done.transcript, lines);
  assert.equal(done.code, code);
  return world;
}

describe('set-up and the packages of the system', () => {
  it('calls for nothing where nothing is missing', (t) => {
    happens(t, {}, 0, [NPM_THERE, ...READY]);
  });

  it('says what it installs, installs exactly what is missing, and has nothing to do the next time', (t) => {
    const lacks = ['qemu-img', 'aws', 'python3'] as const;
    const packages = 'awscli python3-boto3 qemu-utils';
    const lines = [installing(packages), UPDATE, `${QUIETLY} ${install(packages)}`, NPM_THERE, ...READY];
    const world = happens(t, { lacks }, 0, lines);
    assert.deepEqual(world.setUp(), { code: 0, transcript: [NPM_THERE, ...READY] });
  });

  it('knows the package of each thing, and asks for it once', (t) => {
    const packageOf = {
      'qemu-img': 'qemu-utils',
      mmdebstrap: 'mmdebstrap',
      setpriv: 'util-linux',
      prlimit: 'util-linux',
      aws: 'awscli',
      python3: 'python3-boto3',
      openssl: 'openssl',
      'qemu-system-x86_64': 'qemu-system-x86',
      chromium: 'chromium',
      cpio: 'cpio',
      busybox: 'busybox-static',
      bwrap: 'bubblewrap',
      Xtigervnc: 'tigervnc-standalone-server',
      xterm: 'xterm',
      'libatomic.so.1': 'libatomic1',
    };
    for (const tool of TOOLS) {
      const { transcript } = new World(t, { lacks: [tool] }).setUp();
      assert.equal(transcript[2], `${QUIETLY} ${install(packageOf[tool])}`);
    }
    const { transcript } = new World(t, { lacks: ['setpriv', 'prlimit'] }).setUp();
    assert.equal(transcript[2], `${QUIETLY} ${install('util-linux')}`);
  });

  it('notices that Python lacks boto3', (t) => {
    const world = new World(t);
    world.breakPython();
    const { code, transcript } = world.setUp();
    assert.deepEqual([code, transcript[2]], [0, `${QUIETLY} ${install('python3-boto3')}`]);
  });

  it('lets the installation of PostgreSQL make no cluster, and leaves nothing of how', (t) => {
    const lines = [installing('postgresql'), UPDATE, `${QUIETLY} ${install('postgresql')}`];
    const world = happens(t, { lacks: ['postgresql'] }, 0, [...lines, 'with createcluster.conf', NPM_THERE, ...READY]);
    assert.deepEqual(world.setUp(), { code: 0, transcript: [NPM_THERE, ...READY] });
    assert.deepEqual(world.settings(), []);
  });

  it('leaves out what only the tests need where the product alone is wanted', (t) => {
    const words = ['--product'];
    happens(t, { words, lacks: ['aws', 'python3', 'postgresql', 'chromium'] }, 0, [NPM_THERE, ...PRODUCT_READY]);
    const lines = [
      installing('qemu-utils'),
      UPDATE,
      `${QUIETLY} ${install('qemu-utils')}`,
      NPM_THERE,
      ...PRODUCT_READY,
    ];
    happens(t, { words, lacks: ['qemu-img', 'aws', 'python3'] }, 0, lines);
  });

  it('goes through sudo where it is not root and sudo asks for nothing', (t) => {
    happens(t, { userId: 1000, lacks: ['qemu-img'] }, 0, [
      'sudo -n true',
      installing('qemu-utils'),
      `sudo ${UPDATE}`,
      UPDATE,
      `sudo env ${QUIETLY} ${install('qemu-utils')}`,
      `${QUIETLY} ${install('qemu-utils')}`,
      NPM_THERE,
      ...READY,
    ]);
  });

  it('says what root has to run where it is neither root nor may become so unasked', (t) => {
    const missing = 'setup: these packages are missing: qemu-utils util-linux';
    const lacks = ['qemu-img', 'setpriv'] as const;
    const asks = (machine: Machine) => {
      const { code, transcript } = new World(t, { userId: 1000, ...machine }).setUp();
      assert.equal(code, 1);
      return transcript;
    };
    const [says, please] = asks({ lacks: [...lacks, 'sudo'] });
    assert.equal(says, missing);
    assert.match(please!, /^setup: please have root run this, .*: sh '\/.*\/scripts\/setup\.sh' --packages$/);
    const [, , withSudo] = asks({ lacks, fails: 'sudo' });
    assert.match(withSudo!, /^setup: please run this with sudo, .* --packages$/);
    assert.match(asks({ lacks, words: ['--product'], fails: 'sudo' })[2]!, / --packages --product$/);
  });

  it('sees to the packages of the system alone where root does what somebody else may not', (t) => {
    const has = 'setup: the system has the packages that it needs';
    const lines = [installing('awscli qemu-utils'), UPDATE, `${QUIETLY} ${install('awscli qemu-utils')}`, has];
    const lacks = ['qemu-img', 'aws'] as const;
    const world = happens(t, { words: ['--packages'], lacks, installed: null }, 0, lines);
    assert.deepEqual(world.setUp(), { code: 0, transcript: [has] });
    const ofProduct = [installing('qemu-utils'), UPDATE, `${QUIETLY} ${install('qemu-utils')}`, has];
    happens(t, { words: ['--packages', '--product'], lacks, installed: null }, 0, ofProduct);
  });

  it('does nothing when it is told what it does not know', (t) => {
    const says = 'setup: it knows --product and --packages, and not --prodcut';
    happens(t, { words: ['--prodcut'], lacks: ['qemu-img'] }, 1, [says]);
  });

  it('names what to install where there is no apt-get', (t) => {
    happens(t, { lacks: ['qemu-img', 'aws', 'apt-get'] }, 1, [
      'setup: please install these with your package manager, then run this again: awscli qemu-utils',
    ]);
  });

  it('needs no apt-get and no sudo where nothing is missing', (t) => {
    happens(t, { userId: 1000, lacks: ['apt-get', 'sudo'] }, 0, [NPM_THERE, ...READY]);
  });

  it('ends with a sentence where apt-get fails', (t) => {
    happens(t, { lacks: ['qemu-img'], fails: 'apt-get install' }, 1, [
      installing('qemu-utils'),
      UPDATE,
      `${QUIETLY} ${install('qemu-utils')}`,
      APT_WORDS,
      'setup: apt-get could not install qemu-utils; it says why above',
    ]);
  });

  it('ends with a sentence where apt-get is content but something is still missing', (t) => {
    happens(t, { lacks: ['qemu-img', 'aws'], fails: 'aws' }, 1, [
      installing('awscli qemu-utils'),
      UPDATE,
      `${QUIETLY} ${install('awscli qemu-utils')}`,
      'setup: still missing after the installation: awscli',
    ]);
  });

  it('goes on with the lists of packages that it has where they cannot be renewed', (t) => {
    happens(t, { lacks: ['qemu-img'], fails: 'apt-get update' }, 0, [
      installing('qemu-utils'),
      UPDATE,
      APT_WORDS,
      'setup: the lists of packages could not be renewed; trying with those that are there',
      `${QUIETLY} ${install('qemu-utils')}`,
      NPM_THERE,
      ...READY,
    ]);
  });
});

describe('set-up and the packages of npm', () => {
  it('installs them where there are none, and only then', (t) => {
    const world = happens(t, { installed: null }, 0, [...NPM_CI, ...READY]);
    assert.deepEqual(world.setUp(), { code: 0, transcript: [NPM_THERE, ...READY] });
  });

  it('installs them anew where they are not those of the lock file', (t) => {
    const one = { version: '0.9.0', integrity: 'sha512-older' };
    const { 'node_modules/tests-only': _, ...fewer } = INSTALLED;
    const cases: readonly Lock[] = [
      { ...INSTALLED, 'node_modules/one': one },
      { ...INSTALLED, 'node_modules/more': one },
      { ...INSTALLED, 'node_modules/for-other-machines': one },
      fewer,
      {},
    ];
    for (const installed of cases) happens(t, { installed }, 0, [...NPM_CI, ...READY]);
  });

  it('goes by what is installed, not by the age of the lock file', (t) => {
    for (const seconds of [-3_600, 3_600]) {
      const same = new World(t);
      same.ageLockFile(seconds);
      assert.deepEqual(same.setUp().transcript, [NPM_THERE, ...READY]);
      const other = new World(t, { installed: {} });
      other.ageLockFile(seconds);
      assert.deepEqual(other.setUp().transcript, [...NPM_CI, ...READY]);
    }
  });

  it('does without those of the tests where the product alone is wanted', (t) => {
    const installed = { 'node_modules/one': INSTALLED['node_modules/one']! };
    happens(t, { installed, words: ['--product'] }, 0, [NPM_THERE, ...PRODUCT_READY]);
  });

  it('installs them anew where their Node does not run', (t) => {
    happens(t, { brokenNode: true }, 0, [...NPM_CI, ...READY]);
  });

  it('ends with a sentence where npm fails, or leaves Node out', (t) => {
    const npmFails = 'setup: npm could not install its packages; it says why above';
    happens(t, { installed: null, fails: 'npm' }, 1, [...NPM_CI, npmFails]);
    const { code, transcript } = new World(t, { installed: null, fails: 'node' }).setUp();
    assert.deepEqual([code, transcript.slice(0, -1)], [1, NPM_CI]);
    assert.match(transcript.at(-1)!, /^setup: npm left out the Node .*npm ci --ignore-scripts=false$/);
  });

  it('says why their Node does not run', (t) => {
    const says = 'setup: the Node that npm installed does not run here: the words of the loader';
    happens(t, { installed: null, fails: 'to run node' }, 1, [...NPM_CI, says]);
  });

  it('does not call npm before the system has what it needs', (t) => {
    const { code, transcript } = new World(t, {
      installed: null,
      lacks: ['qemu-img'],
      fails: 'apt-get install',
    }).setUp();
    assert.equal(code, 1);
    assert.ok(transcript.every((line) => !line.startsWith('npm')));
  });
});

describe('set-up and the machine that tests start', () => {
  it('has the lists of packages renewed when it cannot be made, and tries again', (t) => {
    const again = 'setup: trying that again with new lists of packages';
    const lines = [
      NPM_THERE,
      COMPILED,
      'the machine of the tests',
      again,
      UPDATE,
      'the machine of the tests',
      SAYS_READY,
    ];
    happens(t, { fails: 'old lists' }, 0, lines);
  });

  it('ends with a sentence when it cannot be made even then', (t) => {
    const { code, transcript } = new World(t, { fails: 'machine' }).setUp();
    assert.equal(code, 1);
    assert.equal(transcript.at(-1), 'setup: the machine that tests start could not be made; it says why above');
  });
});
