/**
 * A desktop that is no machine: an RFB 3.8 server in this process, which shows a picture, paints a square for each key that
 * is pressed, and remembers what it was sent. It can be told to send anything else instead, as a hostile guest would.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import type { Compute } from '../../src/compute/compute.ts';
import { type Owner, temporaryDirectory } from './temporary.ts';

export const WIDTH = 320;
export const HEIGHT = 200;
/** Side of the square of a key. */
export const SQUARE = 20;

type Colour = readonly [red: number, green: number, blue: number];

export const GROUND: Colour = [32, 64, 128];

/** Of the square that a key makes. */
export function colourOf(keysym: number): Colour {
  return [(keysym * 37) & 0xff, (keysym * 91) & 0xff, 200];
}

/** Instead of a desktop: writes what it likes until nobody reads. */
export type Hostile = (connection: Socket) => void | Promise<void>;

export class FakeDesktop {
  /** Key presses, as keysyms, of all connections. */
  readonly keys: number[] = [];
  /** Texts put into its clipboard. */
  readonly cutTexts: string[] = [];
  readonly encodings: number[][] = [];
  /** The desktop's own ends. */
  readonly connections = new Set<Socket>();
  hostile: Hostile | undefined;
  opened = 0;
  readonly #path: string;
  readonly #server: Server;

  private constructor(path: string) {
    this.#path = path;
    this.#server = createServer((connection) => {
      this.opened += 1;
      this.connections.add(connection);
      connection.on('close', () => this.connections.delete(connection));
      connection.on('error', () => undefined);
      if (this.hostile) void this.hostile(connection);
      else void this.#serve(connection).catch(() => connection.destroy());
    });
  }

  /** Behind a socket like that of a real one. */
  static async start(t: Owner): Promise<FakeDesktop> {
    const path = join(temporaryDirectory(t), 'desktop');
    const desktop = new FakeDesktop(path);
    desktop.#server.listen(path);
    await once(desktop.#server, 'listening');
    t.after(() => {
      desktop.drop();
      desktop.#server.close();
    });
    return desktop;
  }

  readonly connect = async (): Promise<Socket> => {
    const connection = connect(this.#path);
    await once(connection, 'connect');
    return connection;
  };

  /** A compute adapter whose sessions all have this desktop. */
  readonly compute = (chosen: Compute): Compute => ({
    ...chosen,
    open: async (id, signal) => {
      await chosen.open(id, signal);
      return { connect: this.connect };
    },
  });

  /** Puts text into the clipboards of whoever is connected. */
  cut(text: string): void {
    const head = Buffer.alloc(8);
    head[0] = 3;
    head.writeUInt32BE(text.length, 4);
    for (const connection of this.connections) connection.write(Buffer.concat([head, Buffer.from(text, 'latin1')]));
  }

  /** Hangs up on everybody. */
  drop(): void {
    for (const connection of this.connections) connection.destroy();
  }

  async #serve(connection: Socket): Promise<void> {
    const reader = new Reader(connection);
    connection.write('RFB 003.008\n');
    await reader.take(12);
    connection.write(Buffer.from([1, 1]));
    await reader.take(1);
    connection.write(Buffer.alloc(4));
    await reader.take(1);
    connection.write(serverInit());
    /** Told of each key, so that an incremental update can wait for one. */
    let changed = Promise.withResolvers<void>();
    let shown = -1;
    const update = async (isIncremental: boolean) => {
      if (isIncremental) while (shown === this.keys.length) await changed.promise;
      shown = this.keys.length;
      if (!connection.write(picture(this.keys))) await once(connection, 'drain');
    };
    for (;;) {
      const type = (await reader.take(1))[0]!;
      if (type === 0) await reader.take(19);
      else if (type === 2) this.encodings.push(await readEncodings(reader));
      else if (type === 3) void update((await reader.take(9))[0] === 1).catch(() => undefined);
      else if (type === 4) {
        const event = await reader.take(7);
        if (event[0] !== 1) continue;
        this.keys.push(event.readUInt32BE(3));
        changed.resolve();
        changed = Promise.withResolvers();
      } else if (type === 5) await reader.take(5);
      else if (type === 6) {
        const length = (await reader.take(7)).readUInt32BE(3);
        this.cutTexts.push((await reader.take(length)).toString('latin1'));
      } else throw new Error(`unknown message ${type}`);
    }
  }
}

async function readEncodings(reader: Reader): Promise<number[]> {
  const count = (await reader.take(3)).readUInt16BE(1);
  const bytes = await reader.take(4 * count);
  return Array.from({ length: count }, (_, index) => bytes.readInt32BE(4 * index));
}

function serverInit(): Buffer {
  const name = 'fake desktop';
  const head = Buffer.alloc(24);
  head.writeUInt16BE(WIDTH, 0);
  head.writeUInt16BE(HEIGHT, 2);
  // 32 bits a pixel, 24 of them colour, least significant byte first: red, green, blue, nothing.
  head.set([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16], 4);
  head.writeUInt32BE(name.length, 20);
  return Buffer.concat([head, Buffer.from(name)]);
}

/** The whole screen as one update of one raw rectangle. */
export function picture(keys: readonly number[]): Buffer {
  const bytes = Buffer.alloc(16 + 4 * WIDTH * HEIGHT);
  bytes.writeUInt16BE(1, 2);
  bytes.writeUInt16BE(WIDTH, 8);
  bytes.writeUInt16BE(HEIGHT, 10);
  const columns = WIDTH / SQUARE;
  for (let y = 0; y < HEIGHT; y += 1) {
    for (let x = 0; x < WIDTH; x += 1) {
      const square = Math.floor(y / SQUARE) * columns + Math.floor(x / SQUARE);
      const key = keys[square];
      bytes.set(key === undefined ? GROUND : colourOf(key), 16 + 4 * (y * WIDTH + x));
    }
  }
  return bytes;
}

/** Takes exactly so many bytes of a stream at a time. */
export class Reader {
  readonly #stream: Socket;
  #kept: Buffer = Buffer.alloc(0);

  constructor(stream: Socket) {
    this.#stream = stream;
  }

  async take(length: number): Promise<Buffer> {
    while (this.#kept.length < length) {
      const more = this.#stream.read() as Buffer | null;
      if (more) this.#kept = Buffer.concat([this.#kept, more]);
      else if (this.#stream.readableEnded || this.#stream.destroyed) throw new Error('the stream has ended');
      else await somethingHappens(this.#stream);
    }
    const taken = this.#kept.subarray(0, length);
    this.#kept = this.#kept.subarray(length);
    return taken;
  }
}

/** Resolves when there is something to read, or never will be. */
function somethingHappens(stream: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      stream.off('readable', done).off('close', done);
      resolve();
    };
    stream.on('readable', done).on('close', done);
  });
}
