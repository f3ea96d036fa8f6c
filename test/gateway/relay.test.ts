/**
 * Bytes between a viewer and a desktop: whoever does not take them holds the other side up, and nobody makes the server
 * keep more than a bounded amount, or waits for ever.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import { WebSocket, WebSocketServer } from 'ws';
import type { Ending } from '../../src/gateway/endings.ts';
import { RELAY_LIMITS, Relay, type RelayLimits } from '../../src/gateway/relay.ts';
import type { Owner } from '../support/temporary.ts';
import { until } from '../support/until.ts';

const MEBIBYTE = 1024 * 1024;
const HANDSHAKE = Buffer.from('RFB 003.008\n\x01\x01', 'latin1');

/** The desktop's side as the relay sees it: what it is written, and what it is given to read. */
class Desktop extends Duplex {
  readonly written: Buffer[] = [];
  /** Held while the desktop takes nothing. */
  held: (() => void)[] | undefined;
  produced = 0;
  isEndless = false;

  constructor() {
    super({ highWaterMark: 64 * 1024 });
  }

  override _write(bytes: Buffer, _encoding: string, done: () => void): void {
    this.written.push(bytes);
    if (this.held) this.held.push(done);
    else done();
  }

  override _read(): void {
    if (!this.isEndless) return;
    this.produced += 64 * 1024;
    this.push(Buffer.alloc(64 * 1024));
  }
}

interface Scene {
  readonly relay: Relay;
  readonly desktop: Desktop;
  readonly client: WebSocket;
  readonly endings: Ending[];
  readonly texts: string[];
  readonly received: () => Buffer;
  readonly waiting: () => number;
}

async function createScene(t: Owner, limits: Partial<RelayLimits> = {}, clipboard = true): Promise<Scene> {
  const server = createServer();
  const sockets = new WebSocketServer({ server, perMessageDeflate: false, maxPayload: 64 * 1024 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`);
  client.on('error', () => undefined);
  const received: Buffer[] = [];
  const texts: string[] = [];
  client.on('message', (data: Buffer, isBinary) => (isBinary ? received.push(data) : texts.push(data.toString())));
  const [accepted] = (await once(sockets, 'connection')) as [WebSocket];
  await until('the client is there', () => client.readyState === WebSocket.OPEN);
  const endings: Ending[] = [];
  const desktop = new Desktop();
  const relay = new Relay(
    accepted,
    clipboard,
    { ...RELAY_LIMITS, ...limits },
    {
      toViewer: (_bytes, seconds) => assert.ok(seconds >= 0),
      fromViewer: () => undefined,
      ended: (ending) => endings.push(ending),
    },
  );
  const timer = setInterval(() => relay.tick(), 10);
  t.after(() => {
    clearInterval(timer);
    client.terminate();
    accepted.terminate();
    sockets.close();
    server.close();
  });
  return {
    relay,
    desktop,
    client,
    endings,
    texts,
    received: () => Buffer.concat(received),
    waiting: () => accepted.bufferedAmount,
  };
}

const rawOf = (client: WebSocket) => (client as unknown as { _socket: Socket })._socket;

test('bytes go both ways as they are, and in order', async (t) => {
  const { relay, desktop, client, received } = await createScene(t);
  relay.start(desktop);
  const bytes = randomBytes(3 * MEBIBYTE);
  for (let at = 0; at < bytes.length; at += 50_000) desktop.push(bytes.subarray(at, at + 50_000));
  await until('all has come', () => received().length === bytes.length);
  assert.deepEqual(received(), bytes);
  client.send(HANDSHAKE.subarray(0, 5));
  client.send(HANDSHAKE.subarray(5));
  await until('the desktop has it', () => Buffer.concat(desktop.written).equals(HANDSHAKE));
});

test('what the viewer sends before there is a desktop waits for it', async (t) => {
  const { relay, desktop, client } = await createScene(t);
  client.send(HANDSHAKE);
  relay.start(desktop);
  await until('the desktop has it', () => Buffer.concat(desktop.written).equals(HANDSHAKE));
});

test('a viewer that reads nothing holds the desktop up, and is cut off', async (t) => {
  const { relay, desktop, client, endings, waiting } = await createScene(t, { stallMs: 300 });
  rawOf(client).pause();
  desktop.isEndless = true;
  relay.start(desktop);
  let most = 0;
  await until('it is cut off', () => {
    most = Math.max(most, waiting());
    return endings.length > 0;
  });
  assert.deepEqual(
    endings.map(({ name }) => name),
    ['not-reading'],
  );
  assert.ok(most < 4 * MEBIBYTE, `${most} bytes waited`);
  assert.ok(desktop.produced < 32 * MEBIBYTE, `${desktop.produced} bytes were taken from the desktop`);
  assert.ok(desktop.destroyed);
});

test('a viewer that reads slowly is only slowed', async (t) => {
  const { relay, desktop, client, endings, received } = await createScene(t, { stallMs: 2_000 });
  const bytes = randomBytes(8 * MEBIBYTE);
  for (let at = 0; at < bytes.length; at += 64 * 1024) desktop.push(bytes.subarray(at, at + 64 * 1024));
  relay.start(desktop);
  const raw = rawOf(client);
  const timer = setInterval(() => (raw.isPaused() ? raw.resume() : raw.pause()), 15);
  t.after(() => clearInterval(timer));
  await until('all has come', () => received().length === bytes.length);
  assert.deepEqual(received(), bytes);
  assert.deepEqual(endings, []);
});

test('a desktop that takes nothing holds the viewer up', async (t) => {
  const { relay, desktop, client, endings } = await createScene(t);
  relay.start(desktop);
  client.send(HANDSHAKE);
  await until('hands are shaken', () => desktop.written.length > 0);
  desktop.held = [];
  const keys = Buffer.concat(Array(4_000).fill(Buffer.from([4, 1, 0, 0, 0, 0, 0, 97])));
  for (let index = 0; index < 400; index += 1) client.send(keys);
  await until('the viewer has to wait', () => client.bufferedAmount > MEBIBYTE);
  assert.ok(desktop.writableLength < MEBIBYTE, `${desktop.writableLength} bytes wait for the desktop`);
  const { held } = desktop;
  desktop.held = undefined;
  for (const done of held) done();
  await until('all has come', () => {
    const total = desktop.written.reduce((sum, { length }) => sum + length, 0);
    return total === HANDSHAKE.length + 400 * keys.length;
  });
  assert.deepEqual(endings, []);
});

test('a viewer that is not heard of is cut off, and one that is idle is asked', async (t) => {
  const silent = await createScene(t, { pingMs: 20, silenceMs: 400 });
  const idle = await createScene(t, { pingMs: 20, silenceMs: 400 });
  for (const { relay, desktop } of [silent, idle]) relay.start(desktop);
  // Takes what comes and answers nothing, as behind a network that has gone in one direction.
  silent.client.pong = () => undefined;
  (silent.client as unknown as { _autoPong: boolean })._autoPong = false;
  const { endings } = silent;
  await until('it is cut off', () => endings.length > 0);
  assert.equal(endings[0]!.name, 'silent');
  await until('the other was asked often', () => idle.texts.length > 30);
  assert.deepEqual(idle.endings, []);
  for (const text of idle.texts) assert.ok(JSON.parse(text).roundTripMs >= 0);
});

for (const [what, send, name, code] of [
  ['text', (client: WebSocket) => client.send('text'), 'not-binary', 1003],
  ['garbage', (client: WebSocket) => client.send(randomBytes(64)), 'bad-message', 1008],
  ['more than a message may be', (client: WebSocket) => client.send(Buffer.alloc(65 * 1024)), 'bad-message', 1009],
  ['what is no websocket frame', (client: WebSocket) => rawOf(client).write(randomBytes(64)), 'bad-message', undefined],
] as const) {
  test(`${what} from the viewer ends it`, async (t) => {
    const { relay, desktop, client, endings } = await createScene(t);
    relay.start(desktop);
    const closed = once(client, 'close');
    send(client);
    const [received] = await closed;
    if (code !== undefined) assert.equal(received, code);
    assert.deepEqual(
      endings.map((ending) => ending.name),
      [name],
    );
    assert.ok(desktop.destroyed);
    assert.deepEqual(desktop.written, []);
  });
}

for (const [what, end] of [
  ['hangs up', (desktop: Desktop) => desktop.push(null)],
  ['breaks', (desktop: Desktop) => desktop.destroy(new Error('broken'))],
] as const) {
  test(`a desktop that ${what} ends it, in words`, async (t) => {
    const { relay, desktop, client, endings } = await createScene(t);
    relay.start(desktop);
    const closed = once(client, 'close') as Promise<[number, Buffer]>;
    end(desktop);
    const [code, words] = await closed;
    assert.deepEqual([code, words.toString()], [4101, 'The desktop does not answer.']);
    assert.equal(endings.length, 1);
  });
}

test('a viewer that goes takes its connection to the desktop along', async (t) => {
  const { relay, desktop, client, endings } = await createScene(t);
  relay.start(desktop);
  client.close();
  await until('it is over', () => desktop.destroyed);
  assert.deepEqual(
    endings.map(({ name }) => name),
    ['left'],
  );
});

test('a desktop that comes too late is let go', async (t) => {
  const { relay, desktop, client } = await createScene(t);
  client.terminate();
  await until('it is over', () => relay.isEnded);
  relay.start(desktop);
  assert.ok(desktop.destroyed);
});

test('with the clipboard not allowed no text reaches the desktop', async (t) => {
  const { relay, desktop, client } = await createScene(t, {}, false);
  relay.start(desktop);
  const key = Buffer.from([4, 1, 0, 0, 0, 0, 0, 97]);
  client.send(Buffer.concat([HANDSHAKE, Buffer.from([6, 0, 0, 0, 0, 0, 0, 2, 104, 105]), key]));
  await until('the key has come', () => Buffer.concat(desktop.written).equals(Buffer.concat([HANDSHAKE, key])));
});
