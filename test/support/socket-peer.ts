/** The other end of a unix socket, which says and does what a test tells it to. */
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Owner } from './temporary.ts';
import { temporaryDirectory } from './temporary.ts';

export interface SocketPeer {
  readonly directory: string;
  readonly name: string;
}

/** @param onConnection is given each connection; @param onLine each line that arrives on it. */
export async function socketPeer(
  t: Owner,
  onConnection: (socket: Socket) => void,
  onLine: (line: string, socket: Socket) => void = () => undefined,
): Promise<SocketPeer> {
  const directory = temporaryDirectory(t);
  const name = 'peer';
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) {
        const line = text.slice(0, at);
        text = text.slice(at + 1);
        onLine(line, socket);
      }
    });
    onConnection(socket);
  });
  t.after(
    () =>
      new Promise<void>((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  );
  await new Promise<void>((resolve) => server.listen(join(directory, name), resolve));
  return { directory, name };
}

/** Writes for as long as somebody reads. */
export function flood(socket: Socket, chunk: string | Buffer): void {
  const more = () => {
    while (!socket.destroyed && socket.write(chunk)) {
      // The kernel takes it.
    }
  };
  socket.on('drain', more);
  more();
}
