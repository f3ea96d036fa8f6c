/**
 * What a workstation on QEMU costs beside the same machine started by hand: the time from the call until it is usable and
 * its first picture is there, and its memory. By hand is QEMU with the same guest, memory, processor and devices, an
 * unencrypted disk, no confinement and nobody who keeps records.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connectAgent } from '../../src/compute/guest-agent.ts';
import { acceleration, QEMU } from '../../src/compute/qemu-command.ts';
import { keepGuests, LINUX, QemuBench, statusOf } from '../support/qemu-bench.ts';
import { greetDesktop } from '../support/rfb.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { tinyImage } from '../support/tiny-image.ts';
import { workstationRequest } from '../support/workstation.ts';
import { median } from './load.ts';

export interface WorkstationCosts {
  readonly ms: number;
  readonly byHandMs: number;
  /** The median of the rounds' own ratios. */
  readonly ratio: number;
  readonly guestMib: number;
  /** Resident, of QEMU. */
  readonly residentMib: number;
}

const GUEST_MIB = 192;
const LIMIT_MS = 300_000;

/** What a guest finds in a workstation for Linux beside its disk and its agent's port: it takes time to start each. */
const DEVICES = [
  ...['-vga', 'none', '-device', 'virtio-vga,xres=1280,yres=800'],
  ...['-device', 'qemu-xhci', '-device', 'usb-tablet'],
  ...['-device', 'virtio-rng-pci', '-device', 'virtio-balloon-pci,free-page-reporting=on'],
  ...['-netdev', 'user,id=net,restrict=on,ipv6=off', '-device', 'virtio-net-pci,netdev=net,romfile='],
];

export async function measureWorkstations(rounds: number): Promise<WorkstationCosts> {
  const cleanings: (() => void | Promise<void>)[] = [];
  const owner = { after: (clean: () => void | Promise<void>) => void cleanings.unshift(clean) };
  try {
    keepGuests(owner);
    const bench = new QemuBench(owner);
    await bench.addGuest('linux', 'linux');
    const compute = await bench.open({ agentMs: LIMIT_MS });
    await compute.accelerator();
    const directory = temporaryDirectory(owner);
    const ours: number[] = [];
    const byHand: number[] = [];
    let residentMib = 0;
    for (let round = 1; round <= rounds; round += 1) {
      byHand.push(await startByHand(join(directory, String(round))));
      const id = `bench-${round}`;
      const signal = AbortSignal.timeout(LIMIT_MS);
      const before = performance.now();
      await compute.ensure(workstationRequest({ id, fence: 1, imageId: 'linux', instanceType: LINUX, signal }));
      const connection = await (await compute.open(id, signal)).connect(signal);
      await greetDesktop(connection);
      ours.push(performance.now() - before);
      connection.destroy();
      residentMib = Math.max(residentMib, residentOf(bench.pidOf(id)!));
      await compute.destroy({ id, fence: 2, signal });
    }
    const ratio = median(ours.map((ms, index) => ms / byHand[index]!));
    return { ms: median(ours), byHandMs: median(byHand), ratio, guestMib: GUEST_MIB, residentMib };
  } finally {
    for (const clean of cleanings) await clean();
  }
}

async function startByHand(directory: string): Promise<number> {
  mkdirSync(directory);
  const disk = join(directory, 'disk.qcow2');
  copyFileSync(await tinyImage(), disk);
  const before = performance.now();
  const machine = spawn(
    QEMU,
    [
      ...['-nodefaults', '-no-user-config', ...acceleration('tcg')],
      ...['-machine', 'pc,usb=off,vmport=off,hpet=off', '-smp', '1', '-m', String(GUEST_MIB)],
      ...['-display', 'none', '-vnc', 'unix:display'],
      ...DEVICES,
      ...['-drive', `file=${disk},format=qcow2,if=virtio`],
      ...['-device', 'virtio-serial', '-chardev', 'socket,id=agent,path=agent,server=on,wait=off'],
      ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ],
    { cwd: directory, stdio: 'ignore' },
  );
  try {
    const signal = AbortSignal.timeout(LIMIT_MS);
    (await untilListening(() => connectAgent(directory, 'agent', signal), signal)).close();
    const connection = connect(join(directory, 'display'));
    await greetDesktop(connection);
    connection.destroy();
    return performance.now() - before;
  } finally {
    const ended = once(machine, 'exit');
    machine.kill('SIGKILL');
    await ended;
    rmSync(directory, { recursive: true });
  }
}

async function untilListening<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!/ENOENT|ECONNREFUSED/.test((error as Error).message)) throw error;
    }
    await new Promise(setImmediate);
  }
}

function residentOf(pid: number): number {
  return Number.parseInt(statusOf(pid, 'VmRSS')!, 10) / 1_024;
}
