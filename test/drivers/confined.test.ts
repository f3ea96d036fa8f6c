/**
 * What an external tool may do: looked at from outside while the real qemu-img runs, and tried from inside by small
 * programs in its stead. Holds for root, for an ordinary user, and for the root of a namespace that has nobody else.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chownSync, readdirSync, readFileSync, readlinkSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import {
  type ConfinedRequest,
  Confinement,
  closeSecret,
  inheritedPath,
  openSecret,
} from '../../src/images/confined.ts';
import { openImageDirectory } from '../../src/images/directory.ts';
import { ImageFailure } from '../../src/images/images.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import type { ImportTask } from './child.ts';
import { openFilesOf, procFile, toolsOf } from './tools.ts';

const CHILD = join(import.meta.dirname, 'child.ts');
const IS_ROOT = process.getuid!() === 0;
const NOBODY = 65_534;
const FIRST_FREE_USER = 1_879_048_192;
/** A container often has no more users than the first 65,536. */
const HAS_ALL_USERS = /^ *0 +0 +4294967295$/m.test(readFileSync('/proc/self/uid_map', 'utf8'));
const ORDINARY_USER = 12_345;
const PASSPHRASE = randomBytes(32).toString('base64');

interface Sight {
  readonly status: string;
  readonly cmdline: string;
  readonly environ: string;
  readonly files: Map<string, string>;
  /** Named files with the passphrase in them. */
  readonly passphraseIn: readonly string[];
}

/** Who the service is: how its process is started, as whom its tool then runs, and what is left of that tool's rights. */
interface Case {
  readonly name: string;
  readonly command: readonly string[];
  readonly user?: number;
  /** `own`: one that nobody else is. */
  readonly toolUser: number | 'own';
}

const self = IS_ROOT ? (HAS_ALL_USERS ? 'own' : NOBODY) : process.getuid!();
const cases: readonly Case[] = [
  { name: 'its own user', command: [], toolUser: self },
  { name: 'root of a namespace', command: ['unshare', '--map-root-user'], toolUser: process.getuid!() },
  ...(IS_ROOT ? [{ name: 'an ordinary user', command: [], user: ORDINARY_USER, toolUser: ORDINARY_USER }] : []),
];

describe('the tool of a service that is', { concurrency: true }, () => {
  for (const { name, command, user, toolUser } of cases) {
    it(name, async (t) => {
      const { directory, task } = await prepare(t);
      if (user !== undefined) giveAway(directory, user);
      const toRun = { ...task, ...(user === undefined ? {} : { user }) };
      const sight = await lookAtTool([...command, process.execPath, CHILD, JSON.stringify(toRun)], directory);
      const field = (key: string) => new RegExp(`^${key}:[ \\t]*(.*)$`, 'm').exec(sight.status)?.[1]?.trim();
      assert.equal(field('NoNewPrivs'), '1');
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.equal(field(set), '0'.repeat(16), set);
      if (IS_ROOT && user === undefined) assert.equal(field('CapBnd'), '0'.repeat(16));
      const users = new Set(field('Uid')!.split('\t').map(Number));
      assert.equal(users.size, 1);
      const [toolIs] = [...users];
      if (toolUser === 'own') assert.ok(toolIs! >= FIRST_FREE_USER, `${toolIs}`);
      else assert.equal(toolIs, toolUser);
      if (toolUser === 'own' || toolUser === NOBODY) {
        assert.deepEqual(field('Gid')!.split('\t').map(Number), Array(4).fill(NOBODY));
        assert.equal(field('Groups'), '');
      }
      assert.deepEqual(
        sight.environ.split('\0').map((line) => line.split('=')[0]),
        ['PATH', 'LC_ALL', ''],
      );
      assert.ok(!sight.cmdline.includes(directory), sight.cmdline);
      for (const text of [sight.cmdline, sight.environ]) assert.ok(!text.includes(PASSPHRASE));
      assert.deepEqual(sight.passphraseIn, []);
      const [source, target, secret] = ['3', '4', '5'].map((descriptor) => sight.files.get(descriptor)!);
      assert.equal(source, join(directory, 'machine', 'ami-1', 'disk'));
      assert.match(target!, /\/staging\/copy\.[0-9a-f]{16}\/disk\.qcow2$/);
      assert.match(secret!, /^\/dev\/shm\/.* \(deleted\)$/);
      // It has opened its own two once more, and has nothing else of ours.
      const ours = new Set([...sight.files.values()].filter((path) => path.startsWith(directory)));
      assert.deepEqual(ours, new Set([source, target]));
    });
  }
});

describe('a confined program', () => {
  it('has no environment but a path and a plain language, and is in nobody else’s directory', async () => {
    const { output } = await tryOut(['/bin/sh', '-c', 'env | sort; pwd']);
    assert.deepEqual(
      output.split('\n').filter((line) => !line.startsWith('PWD=') && !line.startsWith('_=')),
      ['LC_ALL=C', 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', '/', ''],
    );
  });

  it('is nobody that another one at the same time is, where the machine has users enough', async () => {
    const confinement = new Confinement();
    const tools = await Promise.all([1, 2, 3].map(() => tryOut(['/bin/sh', '-c', 'id -u; id -g'], {}, confinement)));
    const users = new Set(tools.map(({ output }) => output));
    assert.equal(users.size, HAS_ALL_USERS && IS_ROOT ? 3 : 1);
  });

  it('has its limits, and nothing to read', async () => {
    const { output } = await tryOut(['/bin/sh', '-c', 'cat /proc/self/limits; cat | wc -c'], { fileBytesMax: 12_345 });
    assert.match(output, /Max core file size +0 +0 /);
    assert.match(output, /Max open files +64 +64 /);
    assert.match(output, /Max file size +12345 +12345 /);
    assert.match(output, /Max address space +4294967296 +4294967296 /);
    assert.match(output, /Max cpu time +60 +60 /);
    assert.match(output, /^0$/m);
  });

  it('reads and writes the files it is given, as often as it likes, and leaves them private', async (t) => {
    const directory = temporaryDirectory(t);
    const [source, target] = [join(directory, 'source'), join(directory, 'target')];
    writeFileSync(source, 'what it may read', { mode: 0o600 });
    writeFileSync(target, '', { mode: 0o600 });
    const files = [await openFor(t, source, 'r'), await openFor(t, target, 'r+')];
    const script = `cat ${inheritedPath(0)} ${inheritedPath(0)} > ${inheritedPath(1)}; ls -ln ${directory}/source`;
    const { outcome } = await tryOut(['/bin/sh', '-c', script], {
      files: [
        { handle: files[0]!, access: 'read' },
        { handle: files[1]!, access: 'write' },
      ],
    });
    assert.equal(readFileSync(target, 'utf8'), 'what it may readwhat it may read');
    // As another user it cannot even see the directory that they are in.
    assert.equal(/Permission denied/.test(outcome.errors), IS_ROOT, outcome.errors);
    for (const path of [source, target]) {
      const { mode, uid, gid } = statSync(path);
      assert.deepEqual([mode & 0o777, uid, gid], [0o600, process.getuid!(), process.getgid!()]);
    }
  });

  it('does not lose a file that another one has done with', async (t) => {
    const directory = temporaryDirectory(t);
    writeFileSync(join(directory, 'shared'), 'still here', { mode: 0o600 });
    const handles = [
      await openFor(t, join(directory, 'shared'), 'r'),
      await openFor(t, join(directory, 'shared'), 'r'),
    ];
    const confinement = new Confinement();
    const stop = new AbortController();
    let output = '';
    // Says that it is there, and waits for the other to be over before it opens the file.
    const script = `echo ready; until [ -s ${inheritedPath(1)} ]; do :; done; cat ${inheritedPath(0)}`;
    const signalFile = await openFor(t, join(directory, 'signal'), 'w+');
    const patient = confinement.run({
      ...defaults('/bin/sh', ['-c', script], stop.signal),
      files: [
        { handle: handles[0]!, access: 'read' },
        { handle: signalFile, access: 'read' },
      ],
      onOutput: (text) => (output += text),
    });
    await until('the first one runs', () => output.includes('ready'));
    await confinement.run({
      ...defaults('/bin/cat', [inheritedPath(0)], stop.signal),
      files: [{ handle: handles[1]!, access: 'read' }],
    });
    await signalFile.write('go');
    assert.equal((await patient).exitCode, 0);
    assert.equal(output, 'ready\nstill here');
    assert.equal(statSync(join(directory, 'shared')).mode & 0o777, 0o600);
  });

  it('cannot write more than it may', async (t) => {
    const directory = temporaryDirectory(t);
    const target = join(directory, 'target');
    const handle = await openFor(t, target, 'w+');
    const { outcome } = await tryOut(['/bin/dd', 'if=/dev/zero', `of=${inheritedPath(0)}`, 'bs=4096', 'count=100'], {
      files: [{ handle, access: 'write' }],
      fileBytesMax: 40_960,
    });
    assert.equal(outcome.exitSignal, 'SIGXFSZ');
    assert.equal(statSync(target).size, 40_960);
    truncateSync(target);
  });

  it('is ended when its time is up', async () => {
    const { outcome } = await tryOut(['/bin/sleep', '600'], { timeLimitMs: 100 });
    assert.deepEqual([outcome.timedOut, outcome.exitSignal, outcome.exitCode], [true, 'SIGKILL', null]);
  });

  it('is ended with all that it started', async () => {
    const stop = new AbortController();
    let output = '';
    const ended = tryOut(['/bin/sh', '-c', 'sleep 600 & echo $! $$; wait'], {
      signal: stop.signal,
      onOutput: (text) => (output += text),
    });
    const outcome = assert.rejects(ended, /that is enough/);
    await until('both run', () => output.endsWith('\n'));
    const pids = output.trim().split(' ').map(Number);
    assert.equal(pids.length, 2);
    stop.abort(new Error('that is enough'));
    await outcome;
    await until('both are gone', () => pids.every((pid) => /^$|State:\tZ/m.test(procFile(pid, 'status'))), 5_000);
  });

  it('is not even started once it has been told to stop', async () => {
    const signal = AbortSignal.abort(new Error('too late'));
    await assert.rejects(tryOut(['/bin/sh', '-c', 'echo started'], { signal }), /too late/);
  });

  it('may say much, of which the end is kept', async () => {
    const script = 'head -c 1000000 /dev/zero | tr "\\0" x >&2; echo the end >&2; exit 3';
    const { outcome } = await tryOut(['/bin/sh', '-c', script]);
    assert.equal(outcome.exitCode, 3);
    assert.ok(outcome.errors.length <= 4_096);
    assert.ok(outcome.errors.endsWith('xthe end\n'));
  });

  it('that is not there is named with its package', async () => {
    const missing = (error: unknown) =>
      error instanceof ImageFailure && error.code === 'TOOL_MISSING' && !error.retryable;
    await assert.rejects(
      tryOut(['/nowhere/qemu-img']),
      (error: Error) => missing(error) && /qemu-utils/.test(error.message),
    );
    await assert.rejects(tryOut(['no-such-tool-anywhere']), missing);
  });
});

describe('a secret for a tool', () => {
  it('is in a file that has no name, for its owner alone, and is gone when it is closed', async (t) => {
    const directory = temporaryDirectory(t);
    const secret = await openSecret(Buffer.from('the passphrase'), directory);
    const path = `/proc/self/fd/${secret.fd}`;
    assert.match(readlinkSync(path), / \(deleted\)$/);
    assert.equal((await secret.stat()).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(directory), []);
    const witness = await openFor(t, path, 'r');
    assert.equal(await witness.readFile('utf8'), 'the passphrase');
    await closeSecret(secret);
    const bytes = Buffer.alloc(14, 'x');
    await witness.read(bytes, 0, 14, 0);
    assert.deepEqual(bytes, Buffer.alloc(14));
  });
});

async function prepare(t: TestContext): Promise<{ directory: string; task: ImportTask }> {
  const directory = temporaryDirectory(t);
  const disk = join(directory, 'disk.raw');
  writeFileSync(disk, randomBytes(2 ** 20).fill(0, 440, 512));
  const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: systemClock });
  const { sha256, format } = await images.importMachineImage({ id: 'ami-1', file: disk });
  const task: ImportTask = {
    task: 'import',
    directory,
    id: 'copy',
    source: 'ami-1',
    sha256,
    format,
    passphrase: PASSPHRASE,
  };
  return { directory, task };
}

function giveAway(directory: string, user: number): void {
  for (const name of ['', ...readdirSync(directory, { recursive: true, encoding: 'utf8' })]) {
    chownSync(join(directory, name), user, user);
  }
}

/** Runs the import to its end, and holds its tool still for long enough to look at it and for its passphrase. */
async function lookAtTool([program, ...args]: readonly string[], directory: string): Promise<Sight> {
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const tool = await until('the tool has opened its files', () => {
    const [pid] = toolsOf(child.pid!);
    return (
      pid !== undefined &&
      [...openFilesOf(pid).values()].filter((path) => path.startsWith(directory)).length >= 3 &&
      pid
    );
  });
  process.kill(tool, 'SIGSTOP');
  const sight: Sight = {
    status: procFile(tool, 'status'),
    cmdline: procFile(tool, 'cmdline'),
    environ: procFile(tool, 'environ'),
    files: openFilesOf(tool),
    passphraseIn: filesHolding(PASSPHRASE, '/dev/shm', directory),
  };
  process.kill(tool, 'SIGCONT');
  assert.deepEqual(await exited, [0, null]);
  assert.deepEqual(JSON.parse(output), { leftovers: [] });
  return sight;
}

function filesHolding(text: string, ...directories: readonly string[]): string[] {
  const paths = directories.flatMap((directory) =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name)),
  );
  return paths.filter((path) => readIfAny(path).includes(text));
}

/** Other programs have files of their own there, which come and go. */
function readIfAny(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return Buffer.alloc(0);
  }
}

async function openFor(t: TestContext, path: string, flags: string): Promise<FileHandle> {
  const handle = await open(path, flags, 0o600);
  t.after(() => handle.close());
  return handle;
}

function defaults(tool: string, args: readonly string[], signal: AbortSignal): ConfinedRequest {
  return { tool, arguments: args, files: [], fileBytesMax: 2 ** 20, timeLimitMs: 60_000, signal };
}

async function tryOut(
  [tool, ...args]: readonly string[],
  options: Partial<ConfinedRequest> = {},
  confinement = new Confinement(),
) {
  let output = '';
  const outcome = await confinement.run({
    ...defaults(tool!, args, new AbortController().signal),
    onOutput: (text) => (output += text),
    ...options,
  });
  return { outcome, output };
}
