/**
 * HTTP/1.1 by hand over a socket: what a test sends are exactly its bytes, whole or broken, in pieces or at once, and
 * answers are taken one by one as they come. Nothing here mends, retries or hides what either side does.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface Answer {
  readonly status: number;
  /** By lower-case name; a name that stands twice fails the reading. */
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** A request as it is written to the wire. */
export interface Message {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
}

/** The message's bytes, with a Content-Length where there is a body and no header says how it is sent. */
export function bytesOf({ method, target, headers, body }: Message): Buffer {
  const isFramed = headers.some(([name]) => /^(content-length|transfer-encoding)$/i.test(name));
  const framing = body.length === 0 || isFramed ? [] : [['content-length', String(body.length)] as const];
  const lines = [...headers, ...framing].map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n`), body]);
}

const HEAD_END = '\r\n\r\n';

export class Connection {
  readonly #socket: Socket;
  #received: Buffer = Buffer.alloc(0);
  #arrived = Promise.withResolvers<void>();
  #ended = false;
  /** Resolves when the other side has closed or broken the connection. */
  readonly closed: Promise<void>;
  /** Why it is broken, where it was not closed in order. */
  error: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    const ended = () => {
      this.#ended = true;
      this.#arrived.resolve();
      closed.resolve();
    };
    socket.on('data', (bytes: Buffer) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      this.#arrived.resolve();
      this.#arrived = Promise.withResolvers();
    });
    socket.on('end', ended).on('close', ended);
    socket.on('error', (error) => {
      this.error = error;
      ended();
    });
  }

  /** @param allowHalfOpen go on sending after the other side has said that it sends no more. */
  static async open(port: number, { allowHalfOpen = false } = {}): Promise<Connection> {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen, noDelay: true });
    await once(socket, 'connect');
    return new Connection(socket);
  }

  /** Resolves when the bytes were handed to the system, or when nobody takes them any more. */
  async write(bytes: string | Buffer): Promise<void> {
    if (this.#socket.destroyed || this.#socket.write(bytes)) return;
    await Promise.race([once(this.#socket, 'drain'), this.closed]).catch(() => undefined);
  }

  /** The next answer. `toHead`: it has no body, whatever it says. */
  async answer({ toHead = false } = {}): Promise<Answer> {
    const headEnd = await this.#until(() => this.#received.indexOf(HEAD_END));
    const [statusLine, ...lines] = this.#received.subarray(0, headEnd).toString('latin1').split('\r\n');
    const match = /^HTTP\/1\.1 (\d{3}) /.exec(statusLine!);
    assert.ok(match, `not a status line: ${statusLine}`);
    const status = Number(match[1]);
    const headers = new Map<string, string>();
    for (const line of lines) {
      const [, name, value] = /^([^:]+): ?(.*)$/.exec(line)!;
      assert.ok(!headers.has(name!.toLowerCase()), `the header ${name} stands twice`);
      headers.set(name!.toLowerCase(), value!);
    }
    const bodyAt = headEnd + HEAD_END.length;
    const hasBody = !toHead && status >= 200 && status !== 204;
    const length = hasBody ? Number(headers.get('content-length')) : 0;
    assert.ok(Number.isSafeInteger(length), 'an answer with a body has a Content-Length');
    const end = await this.#until(() => (this.#received.length >= bodyAt + length ? bodyAt + length : -1));
    const body = this.#received.subarray(bodyAt, end).toString();
    this.#received = this.#received.subarray(end);
    return { status, headers, body };
  }

  /** What came and was not taken as an answer. */
  get rest(): string {
    return this.#received.toString();
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** The first position that is not negative. */
  async #until(probe: () => number): Promise<number> {
    for (;;) {
      const position = probe();
      if (position >= 0) return position;
      assert.ok(!this.#ended, `the connection ended in the middle of an answer, after: ${JSON.stringify(this.rest)}`);
      await this.#arrived.promise;
    }
  }
}

/** Sends one message over a connection of its own and takes its answer. */
export async function exchange(
  port: number,
  bytes: string | Buffer,
  options: { toHead?: boolean } = {},
): Promise<Answer> {
  const connection = await Connection.open(port);
  try {
    await connection.write(bytes);
    return await connection.answer(options);
  } finally {
    connection.end();
  }
}
