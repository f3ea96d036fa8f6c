/** A running service whose session has a desktop, and the steps of a browser that opens it, one by one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import type { Overrides } from '../../src/service.ts';
import type { Settings } from '../../src/settings.ts';
import { FakeDesktop } from './desktop.ts';
import { API, makeStudio, putReadyImage, untilState } from './furnish.ts';
import { putProfile } from './rows.ts';
import { startService, type TestService } from './service.ts';
import type { Owner } from './temporary.ts';
import { until } from './until.ts';

export interface Opened {
  readonly streamId: string;
  /** The cookie as a browser sends it. */
  readonly cookie: string;
}

export type Streams = Awaited<ReturnType<typeof startStreams>>;

interface Options {
  readonly configuration?: Partial<StreamConfiguration>;
  readonly settings?: Partial<Record<keyof Settings, string>>;
  readonly overrides?: Overrides;
  /** Instead of a desktop of its own. */
  readonly desktop?: FakeDesktop;
}

export async function startStreams(
  t: Owner,
  { configuration = {}, settings = {}, overrides = {}, ...given }: Options = {},
) {
  const desktop = given.desktop ?? (await FakeDesktop.start(t));
  const service = await startService(t, { settings, overrides: { compute: desktop.compute, ...overrides } });
  const studioId = await makeStudio(service, 'studio');
  const { parts } = service.service;
  const launchProfileId = await putProfile({ ...parts, services: parts }, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g5.xlarge'],
      maxStoppedSessionLengthInMinutes: 60,
      streamingImageIds: [await putReadyImage(service, studioId)],
      ...configuration,
    },
  });
  return { desktop, service, studioId, launchProfileId, ...stepsOf(t, service, studioId, launchProfileId) };
}

function stepsOf(t: Owner, service: TestService, studioId: string, launchProfileId: string) {
  const sessions = `${API}/studios/${encodeURIComponent(studioId)}/streaming-sessions`;
  const post = async (path: string, body: object = {}) => {
    const answer = await service.call({ method: 'POST', path, body });
    assert.equal(answer.status, 200, answer.body);
    return JSON.parse(answer.body) as Record<string, Record<string, string>>;
  };
  const steps = {
    sessionPath: (sessionId: string) => `${sessions}/${sessionId}`,
    /** A session that runs. */
    makeSession: async (more: object = {}): Promise<string> => {
      const { session } = await post(sessions, { launchProfileId, ...more });
      await untilState(service, `${sessions}/${session!.sessionId}`, 'READY');
      return session!.sessionId!;
    },
    /** The address of a new stream of the session. */
    makeStream: async (sessionId: string, more: object = {}) => {
      const { stream } = await post(`${sessions}/${sessionId}/streams`, more);
      const streamId = stream!.streamId!;
      const ready = await untilState(service, `${sessions}/${sessionId}/streams/${streamId}`, 'READY');
      const url = ready.url as string;
      return { streamId, url, ticket: url.split('#')[1]! };
    },
    stop: (sessionId: string) => post(`${sessions}/${sessionId}/stop`),
    start: (sessionId: string) => post(`${sessions}/${sessionId}/start`),

    /** What the page does with its ticket. */
    sendTicket: (streamId: string, ticket: unknown, headers: Readonly<Record<string, string>> = {}) =>
      service.send({
        method: 'POST',
        target: `/streams/${streamId}/ticket`,
        headers: Object.entries({
          host: new URL(service.url).host,
          origin: service.url,
          'content-type': 'application/json',
          ...headers,
        }),
        body: Buffer.from(JSON.stringify({ ticket })),
      }),
    redeem: async ({ streamId, ticket }: { streamId: string; ticket: string }): Promise<Opened> => {
      const answer = await steps.sendTicket(streamId, ticket);
      assert.equal(answer.status, 200, answer.body);
      return { streamId, cookie: answer.headers.get('set-cookie')!.split(';')[0]! };
    },
    /** A stream of the session, opened. */
    open: async (sessionId: string): Promise<Opened> => steps.redeem(await steps.makeStream(sessionId)),

    /** A websocket as a browser would ask for it, not waited for. */
    ask: (streamId: string, headers: Readonly<Record<string, string>>): WebSocket => {
      const address = `${service.url.replace(/^http/, 'ws')}/streams/${streamId}/socket`;
      const socket = new WebSocket(address, { headers });
      socket.on('error', () => undefined);
      t.after(() => socket.terminate());
      return socket;
    },
    /** Status with which a websocket is refused; 101 where it is not. */
    statusOf: async (socket: WebSocket): Promise<number> => {
      const refused = once(socket, 'unexpected-response').then(([, response]) => response.statusCode as number);
      return Promise.race([refused, once(socket, 'open').then(() => 101)]);
    },
    /** A viewer that has shaken hands with the desktop. */
    connect: async ({ streamId, cookie }: Opened): Promise<Viewer> => {
      const viewer = new Viewer(steps.ask(streamId, { origin: service.url, cookie }));
      await viewer.shakeHands();
      return viewer;
    },
  };
  return steps;
}

/** A client of the least kind: it shakes hands, sends what a test says, and counts what comes. */
export class Viewer {
  readonly socket: WebSocket;
  /** What the server tells the page. */
  readonly told: Record<string, unknown>[] = [];
  #received: Buffer = Buffer.alloc(0);
  bytes = 0;
  closing: { readonly code: number; readonly words: string } | undefined;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) {
        this.told.push(JSON.parse(data.toString()));
        return;
      }
      this.bytes += data.length;
      if (this.#received.length < 1024 * 1024) this.#received = Buffer.concat([this.#received, data]);
    });
    socket.on('close', (code, reason) => {
      this.closing = { code, words: reason.toString() };
    });
  }

  async shakeHands(): Promise<void> {
    await this.take(12);
    this.socket.send(Buffer.from('RFB 003.008\n'));
    await this.take(2);
    this.socket.send(Buffer.from([1]));
    await this.take(4);
    this.socket.send(Buffer.from([1]));
    await this.take(24 + 'fake desktop'.length);
  }

  /** The next bytes of the desktop. */
  async take(length: number): Promise<Buffer> {
    await until(`${length} bytes have come`, () => {
      assert.ok(this.closing === undefined || this.#received.length >= length, JSON.stringify(this.closing));
      return this.#received.length >= length;
    });
    const taken = this.#received.subarray(0, length);
    this.#received = this.#received.subarray(length);
    return taken;
  }

  press(keysym: number): void {
    const event = Buffer.alloc(8);
    event.set([4, 1]);
    event.writeUInt32BE(keysym, 4);
    this.socket.send(event);
  }

  cut(text: string): void {
    this.socket.send(cutText(text));
  }

  /** How the server closed it. */
  async closed() {
    return until('it is closed', () => this.closing);
  }
}

export function cutText(text: string): Buffer {
  const head = Buffer.alloc(8);
  head[0] = 6;
  head.writeUInt32BE(text.length, 4);
  return Buffer.concat([head, Buffer.from(text, 'latin1')]);
}
