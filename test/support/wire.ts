/**
 * A stretch of wire in front of a database's socket, which a test may cut, hold up, garble and measure. A round trip is counted
 * when the server answers after the client has said something.
 */
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { type Owner, temporaryDirectory } from './temporary.ts';

const SOCKET = '.s.PGSQL.5432';

export interface Wire {
  /** The address of the same database through this wire. */
  through(url: string): string;
  readonly roundTrips: number;
  /** Told what a client says before it goes on; false cuts the connection in its place. */
  heard: (text: string) => boolean;
  /** What the server hears in the place of what a client says: as many characters. */
  heardAs: (text: string) => string;
  /** Whether answers are swallowed. */
  silent: boolean;
}

export async function openWire(t: Owner, socketDirectory: string): Promise<Wire> {
  const directory = temporaryDirectory(t);
  const sockets = new Set<Socket>();
  let roundTrips = 0;
  const wire: Wire = {
    through: (url) => url.replace(encodeURIComponent(socketDirectory), encodeURIComponent(directory)),
    get roundTrips() {
      return roundTrips;
    },
    heard: () => true,
    heardAs: (text) => text,
    silent: false,
  };
  const server = createServer((client) => {
    const behind = createConnection(join(socketDirectory, SOCKET));
    let waiting = false;
    for (const socket of [client, behind]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        client.destroy();
        behind.destroy();
      });
    }
    client.on('data', (bytes) => {
      const text = bytes.toString('latin1');
      if (!wire.heard(text)) return client.destroy();
      waiting = true;
      return behind.write(Buffer.from(wire.heardAs(text), 'latin1'));
    });
    behind.on('data', (bytes) => {
      if (waiting) roundTrips += 1;
      waiting = false;
      if (!wire.silent) client.write(bytes);
    });
  });
  t.after(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  await new Promise<void>((resolve) => server.listen(join(directory, SOCKET), resolve));
  return wire;
}
