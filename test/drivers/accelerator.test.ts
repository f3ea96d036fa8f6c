/**
 * When KVM is believed in. The device is a file and QEMU a program of the test, which proves it, fails or hangs as a test
 * would have it; the tiny machine that is to prove it is run by the real QEMU as well. Whatever comes of it, nothing of it is left.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { findAccelerator, type Probe } from '../../src/compute/accelerator.ts';
import { startOf } from '../../src/compute/detached.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';

const NEVER = new AbortController().signal;
/** A limit that no test comes to. */
const LONG_MS = 600_000;
/** Long enough for a shell to have started another, also on a machine that does other things besides. */
const SHORT_MS = 4_000;
/** A group that nobody is in. */
const DEVICE_GROUP = 65_501;
const NOGROUP = 65_534;
/** What QEMU ends with when the machine has run. */
const PROVEN = 85;
/** Never end. Each has the program's path among its words, so that it is found. */
const CHILD_HANGS = `sh -c 'while :; do sleep 600; done' "$0" &`;
const HANGS = 'while :; do sleep 600; done';

/** Whether this user namespace has such a group; those of containers often end at 65,535. */
function isMapped(group: number): boolean {
  const [first, , count] = readFileSync('/proc/self/gid_map', 'latin1').trim().split(/\s+/).map(Number);
  return first! <= group && group < first! + count!;
}

interface Host extends Probe {
  readonly directory: string;
}

/** A machine with a device for KVM, whose QEMU is this shell script. */
function hostWith(t: TestContext, script: string, limitMs = LONG_MS): Host {
  const place = temporaryDirectory(t);
  const host = { directory: join(place, 'data'), device: join(place, 'kvm'), tool: join(place, 'qemu'), limitMs };
  const { directory, device, tool } = host;
  t.after(() => endAll(tool));
  mkdirSync(directory, { mode: 0o700 });
  writeFileSync(device, '', { mode: 0o660 });
  if (process.getuid!() === 0) chownSync(device, 0, isMapped(DEVICE_GROUP) ? DEVICE_GROUP : NOGROUP);
  writeFileSync(tool, `#!/bin/sh\n${script}\n`);
  // For another user, where the server can have it be one.
  for (const path of [place, tool]) chmodSync(path, 0o755);
  return host;
}

const find = (host: Host, wanted: 'auto' | 'kvm' | 'tcg' = 'auto', signal = NEVER) =>
  findAccelerator(wanted, host.directory, signal, host);

const sessions = new Map<string, Set<number>>();

/** Every process of the sessions that the program has led, also when its first one is gone. */
function processesOf(tool: string): number[] {
  const leaders = sessions.get(tool) ?? new Set();
  sessions.set(tool, leaders);
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || startOf(pid) === undefined) continue;
    try {
      const [, , , session] = readFileSync(`/proc/${pid}/stat`, 'latin1')
        .replace(/^.*\) /s, '')
        .split(' ')
        .map(Number);
      if (readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').includes(tool)) leaders.add(session!);
      if (leaders.has(session!)) found.push(pid);
    } catch {
      // It has ended since.
    }
  }
  return found;
}

function endAll(tool: string): void {
  for (const pid of processesOf(tool)) process.kill(pid, 'SIGKILL');
}

const untilChildrenRun = ({ tool }: Host) =>
  until('it runs, and what it has started', () => processesOf(tool).length > 2);

async function assertNothingLeft({ tool, directory }: Host): Promise<void> {
  assert.deepEqual(readdirSync(directory), []);
  await until('nothing of it runs', () => processesOf(tool).length === 0);
}

test('a machine that has run on KVM proves it, and is in the group of the device', async (t) => {
  const isInGroup = `case " $(id -G) " in *" $(stat -c %g "$(dirname "$0")/kvm") "*) exit ${PROVEN};; esac`;
  const host = hostWith(t, `${isInGroup}\necho "it is in $(id -G)" >&2; exit 1`);
  const group = statSync(host.device).gid;
  assert.deepEqual(await find(host), { accelerator: 'kvm', deviceGroup: group });
  assert.deepEqual(await find(host, 'kvm'), { accelerator: 'kvm', deviceGroup: group });
  await assertNothingLeft(host);
});

test('no group is needed for a device that everybody may use', async (t) => {
  const host = hostWith(t, `exit ${PROVEN}`);
  chmodSync(host.device, 0o666);
  assert.deepEqual(await find(host), { accelerator: 'kvm' });
});

test('no machine is put into the group of root', async (t) => {
  const host = { ...hostWith(t, ''), tool: 'a-program-that-nobody-has' };
  if (process.getuid!() !== 0) return t.diagnostic('only root could put it there');
  chownSync(host.device, 0, 0);
  const reason = `${host.device} is of the group of root: give it one of its own`;
  assert.deepEqual(await find(host), { accelerator: 'tcg', reason });
});

test('the machine that is to prove it ends as it should in the real QEMU', async (t) => {
  // What imitates the processor takes the place of KVM, which this machine may not have.
  const words = 'case $word in kvm) word=tcg;; host) word=max;; esac; set -- "$@" "$word"';
  const host = hostWith(t, `for word; do shift; ${words}; done\nexec qemu-system-x86_64 -name "$0" "$@"`);
  assert.equal((await find(host)).reason, undefined);
  await assertNothingLeft(host);
});

test('what keeps KVM from being used is the reason', async (t) => {
  for (const [script, reason] of [
    ['echo warning >&2; echo "qemu: could not open it: denied" >&2; exit 1', 'qemu: could not open it: denied'],
    ['exit 0', 'QEMU ended with 0'],
    ['kill -ABRT $$', 'QEMU ended with SIGABRT'],
  ] as const) {
    const host = hostWith(t, script);
    assert.deepEqual(await find(host), { accelerator: 'tcg', reason });
    await assert.rejects(find(host, 'kvm'), { message: `KVM cannot be used: ${reason}` });
    await assertNothingLeft(host);
  }
});

test('a machine that does not run within the limit is ended with all it has started, and is the reason', async (t) => {
  const host = hostWith(t, `${CHILD_HANGS}\n${HANGS}`, SHORT_MS);
  for (const wanted of ['auto', 'kvm'] as const) {
    const finding = find(host, wanted);
    finding.catch(() => undefined);
    await untilChildrenRun(host);
    const reason = 'a machine has not run on it in time';
    if (wanted === 'auto') assert.deepEqual(await finding, { accelerator: 'tcg', reason });
    else await assert.rejects(finding, { message: `KVM cannot be used: ${reason}` });
    await assertNothingLeft(host);
  }
});

test('what a program leaves behind when it ends is not waited for, and ended', async (t) => {
  const host = hostWith(t, `${CHILD_HANGS}\necho "no" >&2; exit 1`);
  assert.deepEqual(await find(host), { accelerator: 'tcg', reason: 'no' });
  await assertNothingLeft(host);
});

test('whoever asks can give it up, which ends the machine', async (t) => {
  const host = hostWith(t, `${CHILD_HANGS}\n${HANGS}`);
  const controller = new AbortController();
  const finding = find(host, 'auto', controller.signal);
  finding.catch(() => undefined);
  await untilChildrenRun(host);
  controller.abort(new Error('the server stops'));
  await assert.rejects(finding, { message: 'the server stops' });
  await assertNothingLeft(host);
  await assert.rejects(find(host, 'auto', controller.signal), { message: 'the server stops' });
  await assertNothingLeft(host);
});

test('a machine that hangs does not outlive the server that looked', async (t) => {
  const host = hostWith(t, HANGS);
  const module = JSON.stringify(new URL('../../src/compute/accelerator.ts', import.meta.url));
  const looks = `import { findAccelerator } from ${module};
    const host = ${JSON.stringify(host)};
    await findAccelerator('auto', host.directory, new AbortController().signal, host);`;
  const server = spawn(process.execPath, ['--input-type=module', '-e', looks], { stdio: 'inherit' });
  t.after(() => server.kill('SIGKILL'));
  const [pid] = await until('it runs', () => processesOf(host.tool).length === 2 && processesOf(host.tool));
  server.kill('SIGKILL');
  await until('it has ended', () => startOf(pid!) === undefined);
});

test('without a device nothing is started', async (t) => {
  const host = { ...hostWith(t, ''), tool: 'a-program-that-nobody-has' };
  const device = `${host.device}-gone`;
  const reason = `${device} is not there or not for this user`;
  assert.deepEqual(await find({ ...host, device }), { accelerator: 'tcg', reason });
  await assert.rejects(find({ ...host, device }, 'kvm'), { message: `KVM cannot be used: ${reason}` });
  await assert.rejects(find(host), /a-program-that-nobody-has/);
});

test('KVM that nobody wants is not tried', async (t) => {
  const host = { ...hostWith(t, ''), tool: 'a-program-that-nobody-has' };
  assert.deepEqual(await find(host, 'tcg'), { accelerator: 'tcg', reason: 'it was asked for' });
});
