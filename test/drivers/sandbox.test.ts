/**
 * Workstations in real sandboxes: what they can and cannot do is tried from inside by scripts that write what they found
 * into the home, and looked at from outside in /proc. Their root file system is that of test/support/sandbox-root.ts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chownSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, it, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { type Compute, ComputeFailure, type WorkstationRequest } from '../../src/compute/compute.ts';
import { isAlive, type ProcessMark, startOf } from '../../src/compute/detached.ts';
import { whyNoSandbox } from '../../src/compute/sandbox.ts';
import { connectDisplay } from '../../src/compute/sandbox-display.ts';
import { firstInside, processesMarked, runSandboxed } from '../../src/compute/sandbox-process.ts';
import { parseReport } from '../../src/compute/sandbox-program.ts';
import { SealBroken, sealed, unsealed } from '../../src/compute/sealed-stream.ts';
import { ManualClock } from '../support/domain.ts';
import { greetDesktop } from '../support/rfb.ts';
import { OWN_IMAGE, type SandboxBench, sandboxBench } from '../support/sandbox.ts';
import { sandboxRoot } from '../support/sandbox-root.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';
import type { SandboxTask } from './sandbox-child.ts';

const CHILD = join(import.meta.dirname, 'sandbox-child.ts');
const ORDINARY_USER = 12_346;

const MEBIBYTE = 2 ** 20;
const NEVER = new AbortController().signal;
let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};
const start = (id: string, more: Partial<WorkstationRequest> = {}) => workstationRequest({ ...change(id), ...more });
const script = (text: string, parameters: Record<string, string> = {}) =>
  ({ name: 'Prepare', text, runAs: 'user', parameters }) as const;
const isFailure =
  (code: string, message = /./) =>
  (error: unknown) =>
    error instanceof ComputeFailure && error.code === code && message.test(error.message);

/** The home of the workstation, on the host. */
async function homeOf(bench: SandboxBench, id: string): Promise<string> {
  return join(bench.directory, 'homes', (await bench.records.get(id))!.home!);
}

/** Those that share the namespace of this one's ids. */
function processesBesides(pid: number): ProcessMark[] {
  const namespaceOf = (id: string) => {
    try {
      return readlinkSync(`/proc/${id}/ns/pid`);
    } catch {
      return undefined;
    }
  };
  const ours = namespaceOf(String(pid));
  return readdirSync('/proc')
    .filter((name) => Number.isInteger(Number(name)) && namespaceOf(name) === ours)
    .flatMap((name) => {
      const startedAt = startOf(Number(name));
      return startedAt === undefined ? [] : [{ pid: Number(name), startedAt }];
    });
}

async function isRunning(compute: Compute, id: string): Promise<boolean | undefined> {
  return (await compute.list()).find((workstation) => workstation.id === id)?.running;
}

const rootsOf = (bench: SandboxBench) =>
  readdirSync(join(bench.directory, 'roots')).flatMap((boot) => readdirSync(join(bench.directory, 'roots', boot)));

describe('a sandboxed workstation', () => {
  it('can be made here', async () => {
    assert.equal(await whyNoSandbox(), undefined);
  });

  it('has no rights, no network, and nothing of the machine or of another workstation to see', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const look = script(`
      cat /proc/self/status >status
      cat /proc/net/dev >network
      cat /proc/mounts >mounts
      ls -A / /home /run >files
      env >environment
      id -u >user
      for process in /proc/[0-9]*; do tr '\\0' ' ' <$process/cmdline || continue; echo; done >processes 2>/dev/null
      ls -ld ${bench.directory} 2>&1 | sed s/^/data:/ >data || true
      touch /usr/bin/mine 2>&1 | cat >writing
      unshare --user true 2>namespaces && echo made >namespaces || true
    `);
    await Promise.all(['one', 'two'].map((id) => compute.ensure(start(id, { scripts: [look] }))));
    for (const id of ['one', 'two']) {
      const home = await homeOf(bench, id);
      const found = (name: string) => readFileSync(join(home, name), 'utf8');
      const field = (key: string) => new RegExp(`^${key}:[ \\t]*(.*)$`, 'm').exec(found('status'))?.[1];
      for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
        assert.equal(field(set), '0'.repeat(16), set);
      assert.equal(field('NoNewPrivs'), '1');
      assert.equal(found('user'), '1000\n');
      assert.deepEqual(
        [...found('network').matchAll(/^ *(\w+):/gm)].map(([, name]) => name),
        ['lo'],
      );
      assert.ok(!found('processes').includes('node'), found('processes'));
      assert.equal([...found('processes').matchAll(/^Xtigervnc :1/gm)].length, 1);
      assert.match(found('data'), /No such file/);
      assert.match(found('writing'), /Read-only file system/);
      assert.ok(!found('namespaces').includes('made'));
      assert.ok(!found('mounts').includes(bench.directory), found('mounts'));
      assert.match(found('files'), /^\/home:\nartist$/m);
      assert.deepEqual(
        [...found('environment').matchAll(/^(\w+)=/gm)]
          .map(([, name]) => name)
          .filter((name) => !/^(PWD|OLDPWD|SHLVL|_)$/.test(name!))
          .sort(),
        ['DISPLAY', 'HOME', 'LANG', 'LOGNAME', 'PATH', 'SHELL', 'USER', 'XDG_RUNTIME_DIR'],
      );
    }
    const users = await Promise.all(['one', 'two'].map(async (id) => lstatSync(await homeOf(bench, id)).uid));
    if (process.getuid!() === 0) {
      assert.equal(new Set(users).size, 2);
      for (const { pid } of processesMarked((await bench.records.get('one'))!.mark)) {
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        const isView =
          readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('/backlot/0') && /^Uid:\t0\t/m.test(status);
        if (!isView) assert.match(status, new RegExp(`^Uid:\\t${users[0]}\\t${users[0]}\\t`, 'm'));
      }
    }
  });

  it('shows a desktop, with a clipboard only where it may have one', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    for (const [id, clipboard] of [
      ['with', true],
      ['without', false],
    ] as const) {
      await compute.ensure(start(id, { clipboard }));
      const first = firstInside((await bench.records.get(id))!.mark)!;
      const inside = join('/proc', String(first.pid), 'root', 'proc');
      const pids = readdirSync(inside).filter((name) => /^\d+$/.test(name));
      const lines = pids.map((pid) => {
        try {
          return readFileSync(join(inside, pid, 'cmdline'), 'utf8').replaceAll('\0', ' ');
        } catch {
          return '';
        }
      });
      const display = lines.find((line) => line.startsWith('Xtigervnc'))!;
      assert.match(
        display,
        clipboard ? /-AcceptCutText=1 -SendCutText=1/ : /-AcceptCutText=0 -SendCutText=0 -noclipboard/,
      );
      assert.equal(display.includes('-noclipboard'), !clipboard);
      assert.equal(await nameOfDesktop(compute, id), 'workstation');
    }
  });

  it('is held to its memory', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const take = (mebibytes: number) => script(`dd if=/dev/zero of=/dev/null bs=${mebibytes}M count=1`);
    await compute.ensure(start('one', { scripts: [take(100)] }));
    await assert.rejects(
      compute.ensure(start('two', { scripts: [take(600)] })),
      isFailure('INITIALIZATION_SCRIPT_ERROR', /out of memory|Cannot allocate/i),
    );
  });

  it('is found by a server that has just started, and stopped by it', async (t) => {
    const bench = await sandboxBench(t);
    await (await bench.open()).ensure(start('one'));
    const { mark } = (await bench.records.get('one'))!;
    const before = firstInside(mark);
    const second = await bench.open();
    await second.ensure(start('one'));
    assert.deepEqual(firstInside(mark), before);
    assert.equal(await nameOfDesktop(second, 'one'), 'workstation');
    await second.stop({ ...change('one'), volume: 'keep' });
    assert.deepEqual(processesMarked(mark), []);
    assert.equal(await isRunning(second, 'one'), false);
  });

  it('that ends by itself is seen not to run, and goes on with its home when it is started', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open({ memoryMib: 1_000 });
    await compute.ensure(start('one', { scripts: [script('echo kept >note')] }));
    process.kill(firstInside((await bench.records.get('one'))!.mark)!.pid, 'SIGKILL');
    await until('it is seen', async () => (await isRunning(compute, 'one')) === false);
    await assert.rejects(compute.open('one', NEVER), isFailure('NETWORK_CONNECTION_ERROR'));
    // It takes no memory any more either.
    await compute.ensure(start('two'));
    await compute.stop({ ...change('two'), volume: 'delete' });
    await compute.ensure(start('one', { needsVolume: true }));
    assert.equal(readFileSync(join(await homeOf(bench, 'one'), 'note'), 'utf8'), 'kept\n');
  });

  it('is given the time to end by itself, and no more', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open({ stopMs: 10_000 });
    const obedient = script(`#!/bin/sh
      (trap 'echo done >ended; exit' TERM; while :; do sleep 0.1; done) </dev/null >/dev/null 2>&1 &`);
    await compute.ensure(start('obedient', { scripts: [obedient] }));
    await compute.stop({ ...change('obedient'), volume: 'keep' });
    assert.equal(readFileSync(join(await homeOf(bench, 'obedient'), 'ended'), 'utf8'), 'done\n');
    const hasty = await bench.open({ stopMs: 500 });
    const deaf = script(`#!/bin/sh
      (trap '' TERM; while :; do sleep 1; done) </dev/null >/dev/null 2>&1 &`);
    await hasty.ensure(start('deaf', { scripts: [deaf] }));
    await hasty.stop({ ...change('deaf'), volume: 'keep' });
    assert.deepEqual(processesMarked((await bench.records.get('deaf'))!.mark), []);
  });

  it('that is ended by force is gone with everything inside when that is said', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open({ stopMs: 300 });
    const writers = script(`
      trap '' TERM
      for i in $(seq 400); do
        (while :; do echo written >file$i; rm file$i; sleep 0.5; done) &
      done`);
    await compute.ensure(start('one', { scripts: [writers] }));
    const { pid } = firstInside((await bench.records.get('one'))!.mark)!;
    const inside = processesBesides(pid);
    assert.ok(inside.length > 400);
    await compute.stop({ ...change('one'), volume: 'keep' });
    assert.deepEqual(inside.filter(isAlive), []);
  });
});

describe('a server', () => {
  for (const [point, isReached] of [
    ['the record is written', async (bench) => (await bench.records.get('one')) !== undefined],
    ['processes are there', async (bench) => processesMarked((await bench.records.get('one'))!.mark).length > 0],
    ['a script runs', async (bench) => existsSync(join(await homeOf(bench, 'one'), 'begun'))],
    ['it runs', async (bench) => (await bench.records.get('one'))!.power === 'on'],
  ] as [string, (bench: SandboxBench) => Promise<boolean>][]) {
    it(`that is killed when ${point} leaves nothing that the next does not find`, async (t) => {
      const bench = await sandboxBench(t);
      const child = startServer(t, { parent: bench.parent, what: 'start', script: 'touch begun; sleep 0.3' });
      await until(point, () => isReached(bench));
      child.kill('SIGKILL');
      await once(child, 'exit');
      const compute = await bench.open();
      fences += 10;
      await compute.ensure(start('one'));
      const { mark } = (await bench.records.get('one'))!;
      const displays = processesMarked(mark).filter(({ pid }) =>
        /^NSpid:\t.*\t1$/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')),
      );
      assert.equal(displays.length, 1);
      assert.equal(await nameOfDesktop(compute, 'one'), 'workstation');
      assert.equal(readdirSync(join(bench.directory, 'homes')).length, 1);
      await compute.destroy(change('one'));
      assert.deepEqual(processesMarked(mark), []);
      for (const place of ['homes', 'backups', 'run']) assert.deepEqual(readdirSync(join(bench.directory, place)), []);
    });
  }

  it('that is an ordinary user has workstations too, and can undo whatever they closed to it', async (t) => {
    const isRoot = process.getuid!() === 0;
    const bench = await sandboxBench(t);
    const parent = temporaryDirectory(t);
    copyFileSync(bench.images.get('image')!, join(parent, OWN_IMAGE));
    if (isRoot) for (const path of [parent, join(parent, OWN_IMAGE)]) chownSync(path, ORDINARY_USER, ORDINARY_USER);
    const script = 'echo kept >note; mkdir closed; touch closed/file; chmod 000 closed';
    const child = startServer(t, { parent, ...(isRoot && { user: ORDINARY_USER }), what: 'life', script });
    let said = '';
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    const [exitCode] = await once(child, 'exit');
    assert.deepEqual({ exitCode, said }, { exitCode: 0, said: 'done\n' });
  });
});

describe('initialization scripts', () => {
  it('run in order, with their parameters and nobody else’s, and are in no list of processes', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const secret = "it's a $(secret) `text` \\ and more";
    const seen = script(
      `#!/bin/busybox sh
      printf '%s' "$TOKEN" >token; echo first >>order
      while [ ! -e go-on ]; do sleep 0.1; done`,
      { TOKEN: secret },
    );
    const starting = compute.ensure(start('one', { scripts: [seen, script('echo "second$TOKEN" >>order')] }));
    starting.catch(() => undefined);
    const home = await until('it has a home', () => homeOf(bench, 'one'));
    await until('the first runs', () => existsSync(join(home, 'order')));
    for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
      let line = '';
      try {
        line = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      } catch {
        // It has gone meanwhile.
      }
      assert.ok(!line.includes('a $(secret)') && !line.includes('go-on'), line);
    }
    writeFileSync(join(home, 'go-on'), '');
    await starting;
    assert.equal(readFileSync(join(home, 'token'), 'utf8'), secret);
    assert.equal(readFileSync(join(home, 'order'), 'utf8'), 'first\nsecond\n');
  });

  it('that fail end the start, and tell the last line that they wrote', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const failing = script(`
      yes noise | head -c 200000
      echo
      printf 'no licence \\033[31mfound\\n\\n'
      exit 7`);
    await assert.rejects(
      compute.ensure(start('one', { scripts: [failing, script('echo never >never')] })),
      isFailure(
        'INITIALIZATION_SCRIPT_ERROR',
        /^Initialization script Prepare ended with exit code 7: no licence \[31mfound$/,
      ),
    );
    assert.equal(await isRunning(compute, 'one'), false);
    assert.deepEqual(processesMarked((await bench.records.get('one'))!.mark), []);
    assert.ok(!existsSync(join(await homeOf(bench, 'one'), 'never')));
    await compute.ensure(start('one'));
  });

  it('whose commands fail, or that no shell could be told, end the start too', async (t) => {
    const compute = await (await sandboxBench(t)).open();
    for (const bad of [
      script('false\necho on'),
      script('echo \0'),
      script('true', { 'A-B': '' }),
      script('true', { A: '\0' }),
    ]) {
      await assert.rejects(compute.ensure(start('one', { scripts: [bad] })), isFailure('INITIALIZATION_SCRIPT_ERROR'));
    }
  });

  it('that tell lies change only how their own workstation is seen', async (t) => {
    const compute = await (await sandboxBench(t)).open({ bootMs: 3_000 });
    const lying = script(
      "#!/bin/busybox sh\nfor file in /proc/1/fd/*; do printf 'ready\\nscript 0 0\\ngarbage\\n' >$file; done 2>/dev/null; sleep 600",
    );
    await assert.rejects(
      compute.ensure(start('one', { scripts: [lying] })),
      isFailure('AMI_VALIDATION_ERROR', /within 3 seconds/),
    );
    await compute.stop({ ...change('one'), volume: 'keep' });
    await compute.ensure(start('two'));
  });
});

describe('a home', () => {
  it('is backed up encrypted and restored as it was, links and closed directories included, none of them followed', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const outside = join(temporaryDirectory(t), 'outside');
    writeFileSync(outside, 'of the host');
    const fill = script(`
      echo 'plain enough to find' >note
      ln -s ${outside} link
      ln -s / all
      mkdir closed && echo inside >closed/file && chmod 000 closed
      mkfifo pipe
      ln note again`);
    await compute.ensure(start('one', { scripts: [fill] }));
    await compute.stop({ ...change('one'), volume: 'keep' });
    await compute.backUp({ ...change('one'), backupId: 'a' });
    const backup = join(bench.directory, 'backups', 'one', 'a');
    assert.ok(!readFileSync(backup).includes('plain enough'));
    await compute.ensure(
      start('one', { scripts: [script('chmod 700 closed; rm -rf closed link all note; echo other >note')] }),
    );
    await compute.stop({ ...change('one'), volume: 'keep' });
    await compute.ensure(start('one', { fromBackupId: 'a' }));
    const home = await homeOf(bench, 'one');
    assert.equal(readFileSync(join(home, 'note'), 'utf8'), 'plain enough to find\n');
    assert.equal(readlinkSync(join(home, 'link')), outside);
    assert.equal(readlinkSync(join(home, 'all')), '/');
    assert.equal(lstatSync(join(home, 'closed')).mode & 0o777, 0);
    assert.equal(lstatSync(join(home, 'note')).nlink, 2);
    assert.equal(lstatSync(join(home, 'closed')).uid, lstatSync(home).uid);
    assert.equal(readdirSync(join(bench.directory, 'homes')).length, 1);
    await compute.destroy(change('one'));
    assert.equal(readFileSync(outside, 'utf8'), 'of the host');
    assert.deepEqual(readdirSync(join(bench.directory, 'homes')), []);
    assert.deepEqual(readdirSync(join(bench.directory, 'backups')), []);
    assert.equal(bench.keys.dataKeys.has('one'), false);
  });

  it('stays as it is when its backup is damaged', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    await compute.ensure(start('one', { scripts: [script('echo mine >note')] }));
    await compute.stop({ ...change('one'), volume: 'keep' });
    await compute.backUp({ ...change('one'), backupId: 'a' });
    const backup = join(bench.directory, 'backups', 'one', 'a');
    const whole = readFileSync(backup);
    whole[whole.length - 1]! ^= 1;
    writeFileSync(backup, whole);
    await assert.rejects(compute.ensure(start('one', { fromBackupId: 'a' })), isFailure('INTERNAL_ERROR', /damaged/));
    await compute.stop({ ...change('one'), volume: 'keep' });
    await compute.ensure(start('one', { needsVolume: true }));
    assert.equal(readFileSync(join(await homeOf(bench, 'one'), 'note'), 'utf8'), 'mine\n');
  });

  it('that no record names is removed, but not while it may be in the making', async (t) => {
    const bench = await sandboxBench(t, new ManualClock());
    const compute = await bench.open();
    await compute.ensure(start('one'));
    const { home } = (await bench.records.get('one'))!;
    mkdirSync(join(bench.directory, 'homes', 'two.0123456789abcdef'));
    const place = join(bench.directory, 'roots', readdirSync(join(bench.directory, 'roots'))[0]!);
    mkdirSync(join(place, '.image.0123456789abcdef'));
    bench.clock.advance(systemClock.now() - bench.clock.now());
    await compute.list();
    await (await bench.open()).list();
    assert.deepEqual(readdirSync(join(bench.directory, 'homes')).sort(), [home, 'two.0123456789abcdef']);
    assert.deepEqual(rootsOf(bench).sort(), ['.image.0123456789abcdef', 'image']);
    bench.clock.advance(2 * 60 * 60_000);
    await compute.list();
    await until('they are gone', () => rootsOf(bench).length === 1);
    assert.deepEqual(readdirSync(join(bench.directory, 'homes')), [home]);
  });
});

describe('what cannot be', () => {
  it('is refused with a reason: another platform, another instance type, more than there is room for', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open({ memoryMib: 1_400 });
    await assert.rejects(
      compute.ensure(start('one', { platform: 'WINDOWS' })),
      isFailure('AMI_VALIDATION_ERROR', /cannot run Windows/),
    );
    await assert.rejects(
      compute.ensure(start('one', { instanceType: 'g9.huge' })),
      isFailure('INSUFFICIENT_CAPACITY', /BACKLOT_INSTANCE_TYPES/),
    );
    assert.deepEqual(await compute.list(), []);
    const ids = ['a', 'b', 'c', 'd', 'e', 'f'];
    const outcomes = await Promise.allSettled(ids.map((id) => compute.ensure(start(id))));
    const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
    assert.equal(refused.length, 4);
    for (const { reason } of refused) assert.ok(isFailure('INSUFFICIENT_CAPACITY')(reason), String(reason));
    assert.deepEqual(
      (await compute.list()).map(({ running, hasVolume }) => running && hasVolume),
      [true, true],
    );
  });

  it('is told of an image: its key is lost, it is none for sandboxes, it is gone, or it lacks what is needed', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const directory = temporaryDirectory(t);
    const disk = join(directory, 'disk');
    writeFileSync(disk, Buffer.alloc(1 << 20, 1));
    await bench.addImage('disk', disk);
    const empty = tarOf(directory, 'empty', { 'etc/hostname': 'empty' });
    await bench.addImage('lost', empty);
    await bench.keys.destroy('lost');
    await bench.addImage('foreign', empty);
    await bench.keys.destroy('foreign');
    await bench.keys.generate('foreign', undefined);
    await bench.addImage('empty', empty);
    await bench.addImage('no-display', without(directory, 'usr/bin/Xtigervnc'));
    await bench.addImage('no-keyboards', without(directory, 'usr/bin/xkbcomp'));
    for (const [imageId, code, message] of [
      ['disk', 'AMI_VALIDATION_ERROR', /format tar/],
      ['gone', 'AMI_VALIDATION_ERROR', /not there/],
      ['lost', 'DECRYPT_STREAMING_IMAGE_ERROR', /key/],
      ['foreign', 'DECRYPT_STREAMING_IMAGE_ERROR', /key/],
      ['empty', 'AMI_VALIDATION_ERROR', /no \/bin\/sh/],
      ['no-display', 'AMI_VALIDATION_ERROR', /tigervnc-standalone-server/],
      ['no-keyboards', 'AMI_VALIDATION_ERROR', /Xtigervnc does not start/],
    ] as const) {
      await assert.rejects(compute.ensure(start(imageId, { imageId })), isFailure(code, message), imageId);
      assert.equal(await isRunning(compute, imageId), false, imageId);
    }
  });

  it('ends when the time for it is over', async (t) => {
    const compute = await (await sandboxBench(t)).open({ bootMs: 2_000 });
    await assert.rejects(
      compute.ensure(start('one', { scripts: [script('sleep 3600')] })),
      isFailure('AMI_VALIDATION_ERROR', /within 2 seconds/),
    );
  });
});

describe('a root file system', () => {
  it('is unpacked once, and goes when neither its image nor a workstation is there', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    await Promise.all(['one', 'two'].map((id) => compute.ensure(start(id))));
    assert.deepEqual(rootsOf(bench), ['image']);
    await compute.destroy(change('one'));
    bench.images.delete('image');
    assert.deepEqual(rootsOf(bench), ['image']);
    await compute.destroy(change('two'));
    assert.deepEqual(rootsOf(bench), []);
    await bench.addImage('other', sandboxRoot());
    await compute.ensure(start('three', { imageId: 'other' }));
    await compute.destroy(change('three'));
    assert.deepEqual(rootsOf(bench), ['other']);
    bench.images.delete('other');
    bench.clock.advance(11 * 60_000);
    await compute.list();
    await until('it is gone', () => rootsOf(bench).length === 0);
  });

  it('that means harm is refused, or unpacked without it', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open();
    const directory = temporaryDirectory(t);
    const outside = join(directory, 'outside');
    mkdirSync(outside);
    const attacks: Record<string, Buffer> = {
      parent: entry({ name: '../../escaped', content: 'x' }),
      through: Buffer.concat([
        entry({ name: 'out', type: '2', link: outside }),
        entry({ name: 'out/escaped', content: 'x' }),
      ]),
      absolute: entry({ name: join(outside, 'escaped'), content: 'x' }),
      hard: entry({ name: 'hard', type: '1', link: '/etc/passwd' }),
      home: entry({ name: 'home', type: '2', link: '/etc' }),
      truncated: entry({ name: 'big', content: 'x', size: 1 << 20 }),
      devices: entry({ name: 'device', type: '3' }),
    };
    for (const [name, bytes] of Object.entries(attacks)) {
      const file = join(directory, `${name}.tar`);
      const end = Buffer.alloc(name === 'truncated' ? 0 : 1024);
      writeFileSync(file, Buffer.concat([bytes, end]));
      await bench.addImage(name, file);
      await assert.rejects(compute.ensure(start(name, { imageId: name })), isFailure('AMI_VALIDATION_ERROR'), name);
    }
    assert.deepEqual(readdirSync(outside), []);
    assert.ok(!existsSync(join(bench.directory, 'escaped')) && !existsSync(join(bench.directory, 'roots', 'escaped')));
    const held = rootsOf(bench);
    for (const name of ['parent', 'home', 'hard', 'truncated']) assert.ok(!held.includes(name), name);
    assert.ok(
      held.every((name) => !name.startsWith('.')),
      held.join(),
    );
  });
});

describe('a shell that is not what it should be', () => {
  it('is heard without end by nobody: what it says is bounded, and so is the time for it', async (t) => {
    const bench = await sandboxBench(t);
    const compute = await bench.open({ bootMs: 5_000 });
    const directory = temporaryDirectory(t);
    const path = without(directory, 'bin/sh');
    const shell = join(directory, 'bin', 'sh');
    mkdirSync(join(directory, 'bin'));
    const flood = 'while :; do echo begun; echo garbage; done';
    writeFileSync(shell, `#!/bin/busybox sh\n(${flood}) &\n(${flood}) >&2 &\n(${flood}) >&3\n`, { mode: 0o755 });
    execFileSync('tar', ['--append', '--file', path, '-C', directory, './bin/sh']);
    await bench.addImage('loud', path);
    const before = process.memoryUsage().rss;
    await assert.rejects(
      compute.ensure(start('one', { imageId: 'loud' })),
      isFailure('AMI_VALIDATION_ERROR', /within 5 seconds/),
    );
    assert.ok(process.memoryUsage().rss - before < 256 * 2 ** 20);
    assert.deepEqual(processesMarked((await bench.records.get('one'))!.mark), []);
  });

  it('tells nothing but what it is meant to tell', () => {
    for (const line of ['begun', 'ready', 'no-display', 'display-ended'])
      assert.deepEqual(parseReport(line), { what: line });
    assert.deepEqual(parseReport('script 3 127'), { what: 'script', index: 3, exitCode: 127 });
    for (const line of [
      '',
      'Ready',
      'ready ',
      'script',
      'script 1',
      'script -1 0',
      'script 12345 0',
      'script 1 1000',
      '__proto__',
    ]) {
      assert.equal(parseReport(line), undefined, line);
    }
  });
});

describe('the display', () => {
  it('is reached by its own socket alone, never by a link that was put in its place', async (t) => {
    const directory = temporaryDirectory(t);
    const server = createServer((socket) => socket.on('error', () => undefined).end('RFB 003.008\n'));
    await new Promise<void>((resolve) => server.listen(join(directory, 'real'), resolve));
    t.after(() => void server.close());
    symlinkSync(join(directory, 'real'), join(directory, 'vnc'));
    (await connectDisplay(join(directory, 'real'), NEVER)).destroy();
    await assert.rejects(connectDisplay(join(directory, 'vnc'), NEVER), isFailure('NETWORK_CONNECTION_ERROR'));
    writeFileSync(join(directory, 'file'), '');
    for (const name of ['file', 'absent']) {
      await assert.rejects(connectDisplay(join(directory, name), NEVER), isFailure('NETWORK_CONNECTION_ERROR'));
    }
  });
});

describe('a tool that is fed', () => {
  const feed = (command: string, input: (ended: Promise<unknown>) => AsyncIterable<Buffer>) => {
    const ended = Promise.withResolvers<void>();
    return runSandboxed({
      command: ['/bin/sh', '-c', command],
      input: input(ended.promise),
      onOutput: async (output) => {
        for await (const _ of output);
        ended.resolve();
      },
      timeLimitMs: 60_000,
      signal: NEVER,
    });
  };

  it('and ends before the end of what it is fed is known says by its exit code how it went', async () => {
    const { exitCode } = await feed('read line; exit 3', async function* (ended) {
      yield Buffer.from('a line\n');
      await ended;
      // Until what it was fed through is closed as well.
      await new Promise((resolve) => setImmediate(resolve));
      yield Buffer.alloc(MEBIBYTE);
    });
    assert.equal(exitCode, 3);
  });

  it('says nothing of it where what it is fed fails, also after its end', async () => {
    const broken = new SealBroken('it is cut off');
    const fails = feed('read line; exit 0', async function* (ended) {
      yield Buffer.from('a line\n');
      await ended;
      throw broken;
    });
    await assert.rejects(fails, broken);
  });
});

describe('a sealed stream', () => {
  const passphrase = Buffer.from('a passphrase');
  const seal = async (bytes: Buffer) => whole(sealed(Readable.from([bytes]), passphrase));
  const unseal = async (bytes: Buffer, key = passphrase) =>
    whole(unsealed(Readable.from([bytes.subarray(0, 100), bytes.subarray(100)]), key));
  const PIECE = 256 * 1024;

  it('comes out as it went in, whatever its length', async () => {
    for (const length of [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE]) {
      const bytes = Buffer.alloc(length, 'some text');
      const closed = await seal(bytes);
      assert.ok(!closed.includes('some text'));
      assert.ok((await unseal(closed)).equals(bytes), String(length));
    }
  });

  it('does not when anything of it was changed, moved, left out, or is under another key', async () => {
    const closed = await seal(Buffer.alloc(2 * PIECE + 5, 'x'));
    const sealedPiece = PIECE + 16;
    const flipped = (at: number) => {
      const copy = Buffer.from(closed);
      copy[at]! ^= 1;
      return copy;
    };
    const piece = (index: number) => closed.subarray(40 + index * sealedPiece, 40 + (index + 1) * sealedPiece);
    for (const broken of [
      Buffer.alloc(0),
      closed.subarray(0, 20),
      closed.subarray(0, 40),
      closed.subarray(0, 40 + sealedPiece),
      closed.subarray(0, -1),
      Buffer.concat([closed.subarray(0, 40), piece(1), piece(0), piece(2)]),
      Buffer.concat([closed.subarray(0, 40), piece(0), piece(2)]),
      Buffer.concat([closed, Buffer.from('x')]),
      ...[0, 9, 50, closed.length - 1].map(flipped),
    ]) {
      await assert.rejects(unseal(broken), SealBroken);
    }
    await assert.rejects(unseal(closed, Buffer.from('another')), SealBroken);
  });
});

async function whole(bytes: AsyncIterable<Buffer>): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}

function startServer(t: TestContext, task: SandboxTask): ChildProcess {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => void child.kill('SIGKILL'));
  return child;
}

/** What the desktop calls itself, once it has shown a picture. */
async function nameOfDesktop(compute: Compute, id: string): Promise<string> {
  const connection = await (await compute.open(id, NEVER)).connect(NEVER);
  try {
    const { name, width, height } = await greetDesktop(connection);
    assert.deepEqual([width, height], [1920, 1080]);
    return name;
  } finally {
    connection.destroy();
  }
}

interface Entry {
  readonly name: string;
  readonly type?: string;
  readonly link?: string;
  readonly content?: string;
  readonly size?: number;
}

/** One entry of a ustar archive, its content padded to whole blocks. */
function entry({ name, type = '0', link = '', content = '', size = content.length }: Entry): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write('0000755\0', 100);
  for (const at of [108, 116]) header.write('0000000\0', at);
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write(link, 157);
  header.write('ustar\x0000', 257);
  for (const at of [329, 337]) header.write('0000001\0', at);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, Buffer.from(content), Buffer.alloc((512 - (content.length % 512)) % 512)]);
}

/** A tar of these files. */
function tarOf(directory: string, name: string, files: Readonly<Record<string, string>>): string {
  const path = join(directory, `${name}.tar`);
  const entries = Object.entries(files).map(([file, content]) => entry({ name: file, content }));
  writeFileSync(path, Buffer.concat([...entries, Buffer.alloc(1024)]));
  return path;
}

/** The small root file system without one of its files. */
function without(directory: string, file: string): string {
  const path = join(directory, `without-${file.replaceAll('/', '-')}.tar`);
  writeFileSync(path, readFileSync(sandboxRoot()));
  execFileSync('tar', ['--delete', '--file', path, `./${file}`]);
  return path;
}
