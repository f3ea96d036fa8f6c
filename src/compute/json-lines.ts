/**
 * A connection to a unix socket on which both sides write JSON, one value a line: to QEMU's monitor and to a guest's agent.
 * What arrives may be hostile: a line has a longest length, and the whole conversation a largest size; whoever goes beyond
 * is cut off. It knows nothing of what the lines mean.
 */
import { type FileHandle, open } from 'node:fs/promises';
import { createConnection, type Socket } from 'node:net';

const NEWLINE = 0x0a;

export interface JsonLinesOptions {
  readonly lineBytesMax: number;
  /** Of everything that arrives in the life of the connection. */
  readonly bytesMax: number;
  /** The same in lines: to look at a short one takes longer than to read it. */
  readonly linesMax: number;
  /** Called with each line as it came, without its end. An error that it throws ends the connection. */
  readonly onLine: (line: Buffer) => void;
  /** Called once, with the reason. */
  readonly onEnd: (reason: Error) => void;
}

export interface JsonLines {
  send(value: unknown, prefix?: Buffer): void;
  close(): void;
}

/**
 * A connection to the socket `name` in `directory`. The name of a socket may have 107 bytes, and a data directory may
 * be deeper than that, so the directory is named by a descriptor. @throws the system's error; the signal's reason.
 */
export async function connectIn(directory: string, name: string, signal: AbortSignal): Promise<Socket> {
  signal.throwIfAborted();
  const handle: FileHandle = await open(directory, 'r');
  let socket: Socket | undefined;
  const abort = () => socket?.destroy(signal.reason);
  try {
    signal.throwIfAborted();
    signal.addEventListener('abort', abort, { once: true });
    return await new Promise<Socket>((resolve, reject) => {
      const connecting = createConnection({ path: `/proc/self/fd/${handle.fd}/${name}` });
      socket = connecting;
      // Stays: an error that comes before whoever asked listens would end the process.
      connecting.on('error', reject);
      connecting.once('connect', () => resolve(connecting));
    });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', abort);
    await handle.close();
  }
}

export function jsonLines(socket: Socket, options: JsonLinesOptions): JsonLines {
  const { lineBytesMax, bytesMax, linesMax, onLine, onEnd } = options;
  let pieces: Buffer[] = [];
  let pieceBytes = 0;
  let bytes = 0;
  let lines = 0;
  let ended = false;
  const end = (reason: Error) => {
    if (ended) return;
    ended = true;
    pieces = [];
    socket.destroy();
    onEnd(reason);
  };
  const keep = (piece: Buffer) => {
    pieceBytes += piece.length;
    if (pieceBytes > lineBytesMax) throw new Error(`it has sent a line of more than ${lineBytesMax} bytes`);
    pieces.push(piece);
  };
  const take = (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > bytesMax) throw new Error(`it has sent more than ${bytesMax} bytes`);
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0 && !ended; at = chunk.indexOf(NEWLINE, from)) {
      keep(chunk.subarray(from, at));
      const line = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
      pieces = [];
      pieceBytes = 0;
      from = at + 1;
      lines += 1;
      if (lines > linesMax) throw new Error(`it has sent more than ${linesMax} lines`);
      onLine(line);
    }
    if (from < chunk.length && !ended) keep(chunk.subarray(from));
  };
  socket.on('data', (chunk: Buffer) => {
    try {
      take(chunk);
    } catch (error) {
      end(error as Error);
    }
  });
  socket.on('error', end);
  socket.on('close', () => end(new Error('the connection was closed')));
  // It may have gone before anybody listened.
  if (socket.destroyed) setImmediate(() => end(new Error('the connection was closed')));
  return {
    send: (value, prefix = Buffer.alloc(0)) => {
      if (!ended) socket.write(Buffer.concat([prefix, Buffer.from(`${JSON.stringify(value)}\n`)]));
    },
    close: () => end(new Error('the connection was closed')),
  };
}
