/** The thread that hash.ts starts: reads one open file from beginning to end, and tells its SHA-256. It writes nothing. */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

export interface HashTask {
  /** Belongs to whoever started the thread, who keeps it open for as long as the thread runs. */
  readonly fd: number;
}

/** `sha256` comes last, in lower-case hexadecimal. */
export interface HashMessage {
  readonly bytes: number;
  readonly sha256?: string;
}

const CHUNK_BYTES = 1024 * 1024;
const BYTES_BETWEEN_MESSAGES = 64 * CHUNK_BYTES;

function hash({ fd }: HashTask, tell: (message: HashMessage) => void): void {
  const sha256 = createHash('sha256');
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let bytes = 0;
  for (;;) {
    // By position, so that the file's own one stays where it is.
    const length = readSync(fd, chunk, 0, CHUNK_BYTES, bytes);
    if (length === 0) break;
    sha256.update(chunk.subarray(0, length));
    bytes += length;
    if (bytes % BYTES_BETWEEN_MESSAGES === 0) tell({ bytes });
  }
  tell({ bytes, sha256: sha256.digest('hex') });
}

hash(workerData as HashTask, (message) => parentPort!.postMessage(message));
