/**
 * What a workstation is compared with: the same guest in a QEMU with the same memory, processor and devices, an unencrypted
 * disk, no confinement and nobody who keeps records.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { connectAgent } from '../../src/compute/guest-agent.ts';
import { acceleration, guestDevices, QEMU } from '../../src/compute/qemu-command.ts';
import { greetDesktop } from '../support/rfb.ts';
import { tinyImage } from '../support/tiny-image.ts';

const LIMIT_MS = 300_000;

/**
 * Starts one in a directory of its own, and ends it.
 * @returns how long it took until the guest's agent answered and the display gave its first picture. In ms.
 */
export async function startByHand(directory: string, guestMib: number): Promise<number> {
  mkdirSync(directory);
  const disk = join(directory, 'disk.qcow2');
  copyFileSync(await tinyImage(), disk);
  const before = performance.now();
  const machine = spawn(
    QEMU,
    [
      ...['-nodefaults', '-no-user-config', ...acceleration('tcg')],
      ...['-machine', 'pc,usb=off,vmport=off,hpet=off', '-smp', '1', '-m', String(guestMib)],
      ...['-display', 'none', '-vnc', 'unix:display'],
      ...guestDevices('LINUX', 'none'),
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
