/**
 * Connections to the display of a sandbox. The socket lies in a directory that the guest can write to, and so may be
 * anything by now: the name itself is opened, without following a link, and the connection is made to what was opened and
 * looked at. Nothing that the display says is trusted.
 */
import { constants as fsConstants } from 'node:fs';
import { open } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { withFile } from '../files.ts';
import { ComputeFailure } from './compute.ts';

/** Linux's flag to open a name and not what it stands for, on all processors that Node runs on; it has no name for it. */
const O_PATH = 0o10_000_000;
const GREETING_MS_MAX = 5_000;
const GREETING_BYTES = 12;

/** @throws ComputeFailure; the signal's reason. */
export async function connectDisplay(socketPath: string, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  try {
    return await withFile(open(socketPath, O_PATH | fsConstants.O_NOFOLLOW), async (handle) => {
      if (!(await handle.stat()).isSocket()) throw new Error('it is no socket');
      return await connected(`/proc/self/fd/${handle.fd}`, signal);
    });
  } catch (cause) {
    signal.throwIfAborted();
    throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The display of the workstation does not answer', {
      retryable: true,
      inward: cause instanceof Error ? cause.message : String(cause),
      cause,
    });
  }
}

function connected(path: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const settle = (finish: () => void) => {
      signal.removeEventListener('abort', abort);
      socket.removeListener('error', fail);
      finish();
    };
    const fail = (error: unknown) => {
      socket.destroy();
      settle(() => reject(error));
    };
    const abort = () => fail(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    socket.once('error', fail);
    socket.once('connect', () => settle(() => resolve(socket)));
  });
}

/** Makes sure that it speaks RFB, by a connection of its own. @throws ComputeFailure; the signal's reason. */
export async function requireDisplay(socketPath: string, signal: AbortSignal): Promise<void> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(GREETING_MS_MAX)]);
  const silent = new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The display of the workstation does not answer', {
    retryable: true,
    inward: 'it did not greet as RFB has it',
  });
  const socket = await connectDisplay(socketPath, signal);
  const destroy = () => socket.destroy();
  limited.addEventListener('abort', destroy, { once: true });
  try {
    let greeting = '';
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      greeting += chunk.toString('latin1');
      if (greeting.length >= GREETING_BYTES) break;
    }
    if (/^RFB \d{3}\.\d{3}\n/.test(greeting)) return;
    throw silent;
  } catch (error) {
    signal.throwIfAborted();
    throw error === silent
      ? silent
      : new ComputeFailure(silent.code, silent.message, { retryable: true, cause: error });
  } finally {
    limited.removeEventListener('abort', destroy);
    socket.destroy();
  }
}
