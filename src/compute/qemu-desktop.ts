/**
 * What can be seen of a virtual machine that runs: its display, a picture of the screen, and what it wrote to its serial
 * line. Each look is a connection of its own, over the second monitor where it needs one, so that it disturbs nobody; all of
 * it comes from the guest and is bounded.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { isSystemError, writeDurably } from '../files.ts';
import { unlessAborted } from './changes.ts';
import { ComputeFailure, type Desktop } from './compute.ts';
import { printable } from './initialization.ts';
import { connectIn } from './json-lines.ts';
import { BUFFER_BYTES, DISPLAY, SECOND_MONITOR } from './qemu-command.ts';
import { stateOf, takePicture, takeSerial } from './qemu-machine.ts';
import { connectQmp, type Qmp } from './qmp.ts';

const ANSWER_MS_MAX = 10_000;
/** Whoever wants to see a desktop is not kept waiting by somebody else who speaks to its machine. */
const RESUME_MS_MAX = 2_000;
/** How a server of RFB begins (RFC 6143, 7.1.1). */
const GREETING = /^RFB \d{3}\.\d{3}\n$/;
const SERIAL_FILE = 'serial.log';
const GREETING_BYTES = 12;
const PNG_MAGIC = Buffer.from('89504e470d0a1a0a', 'hex');

/** The desktop of the machine in this directory, once its display has answered. @throws ComputeFailure; the signal's reason. */
export async function openDesktop(directory: string, signal: AbortSignal): Promise<Desktop> {
  await requireDisplay(directory, signal);
  await resumeAfterFullDisk(directory, signal);
  return {
    connect: (wanted) => connectDisplay(directory, wanted),
    picture: (wanted) =>
      withSecondMonitor(directory, wanted, async (qmp, limit) => {
        const picture = await takePicture(qmp, directory, 'png', limit);
        if (picture.subarray(0, PNG_MAGIC.length).equals(PNG_MAGIC)) return picture;
        throw notReached('what QEMU wrote is no PNG');
      }),
    log: (wanted) => withSecondMonitor(directory, wanted, (qmp, limit) => readSerial(qmp, directory, limit)),
  };
}

async function connectDisplay(directory: string, signal: AbortSignal): Promise<Duplex> {
  try {
    return await connectIn(directory, DISPLAY, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]));
  } catch (error) {
    signal.throwIfAborted();
    throw notReached((error as Error).message);
  }
}

async function requireDisplay(directory: string, signal: AbortSignal): Promise<void> {
  const display = await connectDisplay(directory, signal);
  try {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    let greeting = Buffer.alloc(0);
    display.on('data', (chunk: Buffer) => {
      greeting = Buffer.concat([greeting, chunk]).subarray(0, GREETING_BYTES);
      if (greeting.length === GREETING_BYTES) resolve(greeting);
    });
    display.on('error', reject);
    display.on('close', () => reject(new Error('the display was closed')));
    const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
    if (!GREETING.test((await unlessAborted(promise, limit)).toString('latin1')))
      throw new Error('it does not speak RFB');
  } catch (error) {
    signal.throwIfAborted();
    throw notReached((error as Error).message);
  } finally {
    display.destroy();
  }
}

/**
 * QEMU pauses a machine whose volume finds no room on the server's disk, so that nothing of it is lost. Whoever comes to look
 * at it has it try again; as long as there is no room it pauses again.
 */
async function resumeAfterFullDisk(directory: string, signal: AbortSignal): Promise<void> {
  try {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(RESUME_MS_MAX)]);
    await withSecondMonitor(directory, soon, async (qmp, limit) => {
      if ((await stateOf(qmp, limit)) === 'io-error') await qmp.execute('cont', {}, limit);
    });
  } catch {
    signal.throwIfAborted();
    // Somebody else speaks to the machine; its display answers all the same.
  }
}

/**
 * QEMU gives what the guest wrote only once, so it is kept beside the sockets, where the machine cannot reach it. Nobody
 * else reads meanwhile: the second monitor speaks to one at a time.
 */
async function readSerial(qmp: Qmp, directory: string, signal: AbortSignal): Promise<string> {
  const path = join(directory, SERIAL_FILE);
  const before = await readFile(path, 'utf8').catch((error) => {
    if (isSystemError(error, 'ENOENT')) return '';
    throw error;
  });
  const serial = printable(before + (await takeSerial(qmp, BUFFER_BYTES, signal)), true).slice(-BUFFER_BYTES);
  await writeDurably(path, Buffer.from(serial));
  return serial;
}

async function withSecondMonitor<T>(
  directory: string,
  signal: AbortSignal,
  use: (qmp: Qmp, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]);
  let qmp: Qmp | undefined;
  try {
    qmp = await connectQmp(directory, SECOND_MONITOR, limit);
    return await use(qmp, limit);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof ComputeFailure ? error : notReached((error as Error).message);
  } finally {
    qmp?.close();
  }
}

function notReached(inward: string): ComputeFailure {
  return new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The workstation does not answer', { retryable: true, inward });
}
