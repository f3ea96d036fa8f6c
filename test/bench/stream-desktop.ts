/**
 * The desktop behind the streams that the bench measures, in a process of its own, on a socket that its argument names: it
 * answers each key with the smallest update there is, and its own key with a flood of bytes.
 */
import { createServer, type Socket } from 'node:net';

export const FLOOD_KEY = 0xffff;
export const FLOOD_BYTES = 256 * 1024 * 1024;
export const UPDATE = Buffer.from([0, 0, 0, 0]);
export const GREETING_BYTES = 12 + 2 + 4 + 24;
const PIECE = Buffer.alloc(64 * 1024, 1);
const KEY_EVENT = 4;
const KEY_EVENT_BYTES = 8;
const HANDSHAKE_BYTES = 14;

function serve(connection: Socket): void {
  let seen = 0;
  let kept: Buffer = Buffer.alloc(0);
  connection.on('error', () => connection.destroy());
  // All that a desktop says before the first message, whatever it is told: the bench knows it.
  connection.write(Buffer.concat([Buffer.from('RFB 003.008\n'), Buffer.alloc(GREETING_BYTES - 12, 1)]));
  connection.on('data', (bytes: Buffer) => {
    const skipped = Math.max(0, Math.min(bytes.length, HANDSHAKE_BYTES - seen));
    seen += bytes.length;
    kept = Buffer.concat([kept, bytes.subarray(skipped)]);
    for (; kept.length >= KEY_EVENT_BYTES && kept[0] === KEY_EVENT; kept = kept.subarray(KEY_EVENT_BYTES)) {
      if (kept.readUInt32BE(4) === FLOOD_KEY) flood(connection, FLOOD_BYTES);
      else connection.write(UPDATE);
    }
  });
}

function flood(connection: Socket, bytes: number): void {
  let left = bytes;
  const write = (): void => {
    while (left > 0) {
      left -= PIECE.length;
      if (!connection.write(PIECE) && left > 0) {
        connection.once('drain', write);
        return;
      }
    }
  };
  write();
}

if (import.meta.main) {
  createServer((connection) => serve(connection.setNoDelay())).listen(process.argv[2]);
}
