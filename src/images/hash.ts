/**
 * The SHA-256 of a disk. A disk takes minutes, which the event loop does not have: it answers requests. So a thread does
 * it, beside them and beside the tools that work on disks.
 */
import type { FileHandle } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Transferred } from '../files.ts';
import type { HashMessage, HashTask } from './hash-thread.ts';
import type { OnFraction } from './progress.ts';

/** A hash needs next to nothing. Without a bound the thread could take as much as all the rest. */
const HEAP_MB_MAX = 32;

/**
 * Hashes the file from its first byte to its last, telling how much of it is done. The handle may be closed afterwards,
 * however it ended.
 * @throws the signal's reason; whatever reading the file threw.
 */
export async function hashWhole(handle: FileHandle, signal: AbortSignal, onFraction: OnFraction): Promise<Transferred> {
  signal.throwIfAborted();
  const { size } = await handle.stat();
  const task: HashTask = { fd: handle.fd };
  const thread = new Worker(new URL('./hash-thread.ts', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB_MAX, maxYoungGenerationSizeMb: 4 },
  });
  const stop = () => void thread.terminate();
  signal.addEventListener('abort', stop);
  // It may have been while the file's size was asked for.
  if (signal.aborted) stop();
  try {
    return await ending(thread, (bytes) => onFraction(size === 0 ? 1 : bytes / size), signal);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** Resolves, or rejects, when the thread is gone. */
function ending(thread: Worker, onBytes: (bytes: number) => void, signal: AbortSignal): Promise<Transferred> {
  return new Promise((resolve, reject) => {
    let result: Transferred | undefined;
    let failure: unknown = new Error('the thread that hashes ended without a result');
    thread.on('message', ({ bytes, sha256 }: HashMessage) => {
      onBytes(bytes);
      if (sha256 !== undefined) result = { bytes, sha256 };
    });
    thread.on('error', (error) => {
      failure = error;
    });
    thread.on('exit', () => {
      if (signal.aborted) reject(signal.reason);
      else if (result) resolve(result);
      else reject(failure);
    });
  });
}
