/**
 * Real virtual machines: what they may do on the host, what is left in plain, what a server finds again, and what comes of
 * starts that go wrong. Guests are single boot sectors; those with an operating system and an agent are in
 * qemu-agent.test.ts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ComputeFailure, type WorkstationRequest } from '../../src/compute/compute.ts';
import { OVERHEAD_MIB } from '../../src/compute/host-capacity.ts';
import { type QemuCompute, whyNoQemu } from '../../src/compute/qemu.ts';
import { MONITOR } from '../../src/compute/qemu-command.ts';
import { virtualBytesOf, volumePath } from '../../src/compute/qemu-disk.ts';
import { connectQmp } from '../../src/compute/qmp.ts';
import { PLAIN_TEXT } from '../support/boot-sector.ts';
import { keepGuests, QemuBench, statusOf, TINY } from '../support/qemu-bench.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

const NEVER = new AbortController().signal;
/** Real machines take their time, on a host that does other things besides. */
const REAL_MS = 120_000;
const FOR_EVER_MS = 3_600_000;
const DISK_MEBIBYTES = 96;

let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};
const start = (id: string, more: Partial<WorkstationRequest> = {}) =>
  workstationRequest({ ...change(id), instanceType: TINY, ...more });
const stop = (compute: QemuCompute, id: string) => compute.stop({ ...change(id), volume: 'keep' });

const failsWith =
  (code: string, message = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof ComputeFailure, String(error));
    assert.equal(error.code, code, `${error.message} (${error.inward})`);
    assert.match(error.message, message);
    return true;
  };

async function stateOf(compute: QemuCompute, id: string) {
  return (await compute.list()).find((workstation) => workstation.id === id);
}

/** How often the guest has booted from its disk, as it says itself. */
async function bootsOf(compute: QemuCompute, id: string): Promise<string> {
  return until(
    'the guest has said how often it booted',
    async () => /\d/.exec(await (await compute.open(id, NEVER)).log!(NEVER))?.[0],
    REAL_MS,
  );
}

/** Nothing is left of the workstation: no record, no file, no process, no key. */
async function assertGone(bench: QemuBench, compute: QemuCompute, id: string): Promise<void> {
  assert.equal(await stateOf(compute, id), undefined);
  assert.ok(!readdirSync(bench.directory).includes(id));
  assert.equal(bench.pidOf(id), undefined);
  assert.ok(!bench.keys.dataKeys.has(id));
}

test('nothing is missing for machines to run here', async () => {
  assert.equal(await whyNoQemu(), undefined);
});

test('a machine has few rights, and no key of its disks is where others could read it', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one', { clipboard: true }));
  const pid = bench.pidOf('one')!;
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) assert.match(statusOf(pid, set)!, /^0+$/, set);
  assert.equal(statusOf(pid, 'NoNewPrivs'), '1');
  assert.equal(statusOf(pid, 'Seccomp'), '2');
  assert.match(readFileSync(`/proc/${pid}/limits`, 'latin1'), /Max core file size +0 +0/);
  assert.match(readFileSync(`/proc/${pid}/limits`, 'latin1'), /Max address space +\d+ +\d+/);
  const isRoot = process.getuid!() === 0;
  // Where the server may make no groups, the limits of the process are all there is.
  const memory = '/sys/fs/cgroup/memory';
  if (isRoot && existsSync(join(memory, 'cgroup.procs'))) {
    const group = /:memory:(\/backlot-workstations\/.+)/.exec(readFileSync(`/proc/${pid}/cgroup`, 'latin1'))![1]!;
    const bytes = Number(readFileSync(join(memory, group, 'memory.limit_in_bytes'), 'latin1'));
    assert.ok(bytes > 32 * 2 ** 20 && bytes < 2 ** 30, `${bytes}`);
  }
  const users = statusOf(pid, 'Uid')!.split(/\s+/);
  for (const user of users) assert.equal(user === '0', false);
  if (isRoot) {
    assert.match(statusOf(pid, 'CapBnd')!, /^0+$/);
    assert.equal(statusOf(pid, 'Groups')?.trim(), '');
    const { uid, mode } = statSync(bench.runPlace('one'));
    assert.deepEqual([uid, mode & 0o777], [0, 0o711]);
  }
  const told = readFileSync(`/proc/${pid}/cmdline`, 'latin1') + readFileSync(`/proc/${pid}/environ`, 'latin1');
  for (const { passphrase } of bench.keys.dataKeys.values()) assert.ok(!told.includes(passphrase));
  assert.ok(!told.includes(bench.directory));
});

test('two machines run as two users', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await Promise.all([compute.ensure(start('one')), compute.ensure(start('two'))]);
  const [one, two] = ['one', 'two'].map((id) => statusOf(bench.pidOf(id)!, 'Uid'));
  assert.equal(one === two, process.getuid!() !== 0);
});

test('neither volume nor backup nor anything beside them holds plain text', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one'));
  assert.equal(await bootsOf(compute, 'one'), '1');
  await stop(compute, 'one');
  await compute.backUp({ ...change('one'), backupId: 'a' });
  const secrets = [PLAIN_TEXT, ...[...bench.keys.dataKeys.values()].map(({ passphrase }) => passphrase)];
  const place = join(bench.directory, 'one');
  const files = readdirSync(place, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  assert.deepEqual(files.map(({ name }) => name).sort(), ['backup-a.qcow2', 'volume.qcow2']);
  for (const { name } of files) {
    const bytes = readFileSync(join(place, name));
    for (const secret of secrets) assert.equal(bytes.indexOf(secret), -1, name);
    assert.equal(statSync(join(place, name)).mode & 0o777, 0o600);
  }
});

test('what a guest writes is there at the next start; a backup brings back what was there before, once for each stop', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  for (const boots of ['1', '2']) {
    await compute.ensure(start('one'));
    assert.equal(await bootsOf(compute, 'one'), boots);
    await stop(compute, 'one');
    if (boots === '1') await compute.backUp({ ...change('one'), backupId: 'a' });
  }
  await compute.ensure(start('one', { fromBackupId: 'a' }));
  assert.equal(await bootsOf(compute, 'one'), '2');
  process.kill(bench.pidOf('one')!, 'SIGKILL');
  await until('it has ended', async () => !(await stateOf(compute, 'one'))!.running, REAL_MS);
  await compute.ensure(start('one', { fromBackupId: 'a' }));
  assert.equal(await bootsOf(compute, 'one'), '3');
  await stop(compute, 'one');
  await compute.ensure(start('one', { fromBackupId: 'a' }));
  assert.equal(await bootsOf(compute, 'one'), '2');
});

test('a server that starts again takes over what runs, what boots and what stands still', async (t) => {
  const bench = new QemuBench(t);
  const first = await bench.open();
  await first.ensure(start('runs'));
  const slow = await bench.open({ agentMs: FOR_EVER_MS });
  for (const id of ['boots', 'stands']) {
    const controller = new AbortController();
    let percent = 0;
    const onProgress = (now: number) => {
      percent = now;
    };
    const starting = slow.ensure(start(id, { signal: controller.signal, onProgress }));
    starting.catch(() => undefined);
    // Its record says so before its guest runs; what was told comes after.
    await until('its guest runs', () => percent > 0, REAL_MS);
    controller.abort(new Error('the server dies'));
    await assert.rejects(starting, /the server dies/);
  }
  const monitor = await connectQmp(bench.runPlace('stands'), MONITOR, NEVER);
  await monitor.execute('stop');
  monitor.close();
  const pids = Object.fromEntries(['runs', 'boots', 'stands'].map((id) => [id, bench.pidOf(id)]));
  const second = await bench.open();
  for (const id of ['runs', 'boots', 'stands']) {
    assert.equal((await stateOf(second, id))!.running, true);
    await second.ensure(start(id));
    await second.open(id, NEVER);
  }
  assert.equal(bench.pidOf('runs'), pids.runs);
  assert.equal(bench.pidOf('boots'), pids.boots);
  assert.notEqual(bench.pidOf('stands'), pids.stands);
  assert.equal(await bootsOf(second, 'boots'), '1');
});

test('a machine that died before it was written down is begun anew; one that has no record is told of and left alone', async (t) => {
  const bench = new QemuBench(t);
  const first = await bench.open();
  for (const id of ['one', 'two']) await first.ensure(start(id));
  const [one, two] = ['one', 'two'].map((id) => bench.pidOf(id));
  const records = await bench.records();
  const record = (await records.get('one'))!;
  await records.put('one', { ...record, power: 'starting', machine: null });
  await records.put('two', undefined);
  const second = await bench.open();
  assert.equal(bench.pidOf('two'), two);
  assert.ok(readdirSync(bench.directory).includes('two'));
  assert.ok(bench.logged.some(({ fields, message }) => fields.id === 'two' && /no record/.test(message)));
  await second.ensure(start('one'));
  assert.notEqual(bench.pidOf('one'), one);
});

test('a machine that is killed is seen to have ended, cannot be reached, and starts again on its volume', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one'));
  assert.equal(await bootsOf(compute, 'one'), '1');
  process.kill(bench.pidOf('one')!, 'SIGKILL');
  await until('it has ended', async () => !(await stateOf(compute, 'one'))!.running, REAL_MS);
  await assert.rejects(compute.open('one', NEVER), failsWith('NETWORK_CONNECTION_ERROR'));
  await compute.ensure(start('one', { needsVolume: true }));
  assert.equal(await bootsOf(compute, 'one'), '2');
});

test('a stop that cannot be written down has deleted no volume that is still said to be there', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one'));
  const volume = join(bench.directory, 'one', 'volume.qcow2');
  const holds = async () => [existsSync(volume), (await compute.list())[0]!.hasVolume];
  const records = await bench.records();
  const put = records.put.bind(records);
  const broken = t.mock.method(records, 'put', async (...[id, record]: Parameters<typeof put>) => {
    if (record?.power === 'off') throw new Error('EIO');
    return put(id, record);
  });
  await assert.rejects(
    compute.stop({ ...change('one'), volume: 'delete' }),
    failsWith('INTERNAL_ERROR', /could not be/),
  );
  assert.deepEqual(await holds(), [true, true]);
  broken.mock.restore();
  await compute.stop({ ...change('one'), volume: 'delete' });
  assert.deepEqual(await holds(), [false, false]);
});

test('a process that was given the number of a machine is not taken for it', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one'));
  process.kill(bench.pidOf('one')!, 'SIGKILL');
  const records = await bench.records();
  const record = (await records.get('one'))!;
  const machine = { ...record.machine!, mark: { ...record.machine!.mark, pid: process.pid } };
  await records.put('one', { ...record, machine });
  assert.equal((await stateOf(compute, 'one'))!.running, false);
  await compute.destroy(change('one'));
});

test('without the right key nothing starts, and nothing is left', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  const right = bench.keys.dataKeys.get('image')!;
  bench.keys.dataKeys.set('image', { keyArn: undefined, passphrase: Buffer.from('another').toString('base64') });
  await assert.rejects(compute.ensure(start('one')), failsWith('DECRYPT_STREAMING_IMAGE_ERROR'));
  await assertGone(bench, compute, 'one');
  bench.keys.dataKeys.delete('image');
  await assert.rejects(compute.ensure(start('one')), failsWith('DECRYPT_STREAMING_IMAGE_ERROR'));
  await assertGone(bench, compute, 'one');
  bench.keys.dataKeys.set('image', right);
  await compute.ensure(start('one'));
  await stop(compute, 'one');
  bench.keys.dataKeys.delete('one');
  await assert.rejects(compute.ensure(start('one')), failsWith('DECRYPT_STREAMING_IMAGE_ERROR'));
  assert.deepEqual([(await stateOf(compute, 'one'))!.running, bench.pidOf('one')], [false, undefined]);
});

test('an image that is missing, damaged or cut off is told of', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  for (const [id, harm] of [
    ['missing', undefined],
    ['empty', (path: string) => truncateSync(path, 0)],
    ['header', (path: string) => truncateSync(path, 300)],
    ['half', (path: string) => truncateSync(path, 66_000)],
    ['garbage', (path: string) => writeFileSync(path, Buffer.alloc(100_000, 'x'))],
  ] as const) {
    if (harm) {
      await bench.addGuest(id, 'counting');
      harm(bench.imagePath(id));
    }
    await assert.rejects(compute.ensure(start(id, { imageId: id })), failsWith('AMI_VALIDATION_ERROR'), id);
    await assertGone(bench, compute, id);
  }
});

test('a guest that does not come up is given up, and what it wrote is in the log', async (t) => {
  const bench = new QemuBench(t);
  for (const [guest, settings, message] of [
    ['notBootable', { bootMs: REAL_MS }, /cannot boot/],
    ['switchingOff', { bootMs: REAL_MS }, /ended by itself/],
    ['black', { bootMs: 6_000 }, /not booted within 6 s/],
    ['resetting', { bootMs: 8_000, agentMs: 6_000 }, /not booted within 8 s/],
  ] as const) {
    await bench.addGuest(guest, guest);
    const compute = await bench.open({ agentMs: guest === 'switchingOff' ? FOR_EVER_MS : 0, ...settings });
    await assert.rejects(compute.ensure(start(guest, { imageId: guest })), failsWith('AMI_VALIDATION_ERROR', message));
    await assertGone(bench, compute, guest);
  }
});

test('a guest that floods its serial line costs no more than others', async (t) => {
  const bench = new QemuBench(t);
  await bench.addGuest('flooding', 'flooding');
  const compute = await bench.open();
  await compute.ensure(start('one', { imageId: 'flooding' }));
  const desktop = await compute.open('one', NEVER);
  for (const _ of [1, 2, 3]) {
    const log = await desktop.log!(NEVER);
    assert.ok(log.length > 0 && log.length <= 65_536);
    assert.doesNotMatch(log, /[^x]/);
  }
  await stop(compute, 'one');
});

test('scripts for an image without an agent end the start', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open({ bootMs: 8_000 });
  const scripts = [{ name: 'component', text: 'true', runAs: 'system', parameters: {} }] as const;
  const isTold = failsWith('INITIALIZATION_SCRIPT_ERROR', /no guest agent/);
  await assert.rejects(compute.ensure(start('one', { scripts })), isTold);
});

test('of twenty that come at once as many run as there is room for; the rest is told so, and nothing is half made', async (t) => {
  const bench = new QemuBench(t);
  const room = 3;
  const compute = await bench.open({ memoryMib: room * (32 + OVERHEAD_MIB) + 10 });
  const ids = Array.from({ length: 20 }, (_, index) => `s${index}`);
  const outcomes = await Promise.allSettled(ids.map((id) => compute.ensure(start(id))));
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.equal(refused.length, ids.length - room);
  for (const { reason } of refused)
    failsWith('INSUFFICIENT_CAPACITY', /needs 182 MiB .* 10 MiB of 556 MiB are free/)(reason);
  const found = await compute.list();
  assert.equal(found.length, room);
  assert.ok(found.every(({ running }) => running));
  assert.equal(readdirSync(bench.directory).length, room);
  await stop(compute, found[0]!.id);
  await compute.ensure(start('late'));
  process.kill(bench.pidOf('late')!, 'SIGKILL');
  await until('it has ended', async () => !(await stateOf(compute, 'late'))!.running, REAL_MS);
  await compute.ensure(start('later'));
  const restarted = await bench.open({ memoryMib: room * (32 + OVERHEAD_MIB) });
  await assert.rejects(restarted.ensure(start('too-late')), failsWith('INSUFFICIENT_CAPACITY'));
});

test('an instance type that the server does not have is named with the setting', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  const isTold = failsWith('INSUFFICIENT_CAPACITY', /no workstations of type x9.huge.*BACKLOT_INSTANCE_TYPES/);
  await assert.rejects(compute.ensure(start('one', { instanceType: 'x9.huge' })), isTold);
  await assertGone(bench, compute, 'one');
});

test('a machine for Windows, a clipboard, a larger volume and a picture', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  const told: number[] = [];
  const request = { platform: 'WINDOWS', clipboard: true, volume: { sizeGib: 2 } } as const;
  await compute.ensure(start('one', { ...request, onProgress: (percent) => void told.push(percent) }));
  assert.equal(await bootsOf(compute, 'one'), '1');
  const desktop = await compute.open('one', NEVER);
  const picture = await desktop.picture!(NEVER);
  assert.equal(picture.subarray(1, 4).toString('latin1'), 'PNG');
  const display = await desktop.connect(NEVER);
  assert.match(String(await new Promise((resolve) => display.once('data', resolve))), /^RFB /);
  display.destroy();
  assert.ok(told.length > 0 && told.every((percent, index) => percent <= 100 && percent >= (told[index - 1] ?? 0)));
  const volume = await open(volumePath(join(bench.directory, 'one')), 'r');
  t.after(() => volume.close());
  assert.equal(await virtualBytesOf(volume), 2 * 2 ** 30);
});

test('a stop is not kept waiting by a QEMU that stands still', async (t) => {
  const bench = new QemuBench(t);
  const compute = await bench.open();
  await compute.ensure(start('one'));
  process.kill(bench.pidOf('one')!, 'SIGSTOP');
  await assert.rejects(compute.open('one', AbortSignal.timeout(1_000)));
  await stop(compute, 'one');
  assert.deepEqual([(await stateOf(compute, 'one'))!.running, bench.pidOf('one')], [false, undefined]);
});

test('a full disk is told of, costs nothing that was there, and a guest that met it goes on when there is room', async (t) => {
  const place = temporaryDirectory(t);
  const asRoot = process.getuid!() === 0 ? [] : ['--map-root-user'];
  const mount = `mount -t tmpfs -o size=${DISK_MEBIBYTES}m,mode=0700 tmpfs "$1" && shift && exec "$@"`;
  const program = [process.execPath, '--test', join(import.meta.dirname, 'qemu-full-disk.ts')];
  const { status, stdout, stderr } = await new Promise<{ status: unknown; stdout: string; stderr: string }>(
    (resolve) => {
      execFile(
        'unshare',
        [...asRoot, '--mount', 'sh', '-c', mount, 'sh', place, ...program],
        { env: { PATH: process.env.PATH, TMPDIR: place } },
        (error, out, errors) => resolve({ status: error?.code ?? 0, stdout: out, stderr: errors }),
      );
    },
  );
  assert.equal(status, 0, stdout + stderr);
});
