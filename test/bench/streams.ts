/**
 * What the gateway adds to a desktop: to a key and the update that answers it, and to bulk, each against the desktop's own
 * socket; and what viewers that do nothing take. The desktop, the server and the viewers are processes of their own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { median } from './load.ts';
import { type RunningServer, startNode } from './servers.ts';
import { FLOOD_BYTES, FLOOD_KEY, GREETING_BYTES, UPDATE } from './stream-desktop.ts';
import { ticketOf } from './stream-server.ts';

const PORT = 18_648;
const IDLE_VIEWERS = 50;
const KEYS_PER_ROUND = 500;
const MEGABYTE = 1_000_000;
const HANDSHAKE = Buffer.from('RFB 003.008\n\x01\x01', 'latin1');

export interface StreamCosts {
  /** From a key to the update that answers it, at the median. */
  readonly directMs: number;
  readonly gatewayMs: number;
  /** Of the server's own CPU time, which is one core at the most. */
  readonly megabytesPerCpuSecond: number;
  readonly megabytesPerSecond: number;
  readonly idleViewers: number;
  readonly idleMegabytes: number;
}

/** Either way to the desktop. */
interface Way {
  readonly send: (bytes: Buffer) => void;
  /** Resolves when so many more bytes have come. */
  readonly receive: (bytes: number) => Promise<void>;
  readonly close: () => void;
}

function keyEvent(keysym: number): Buffer {
  const event = Buffer.alloc(8);
  event.set([4, 1]);
  event.writeUInt32BE(keysym, 4);
  return event;
}

function counter() {
  let missing = 0;
  let enough: (() => void) | undefined;
  return {
    came: (bytes: number) => {
      missing -= bytes;
      if (missing <= 0) enough?.();
    },
    receive: (bytes: number) => {
      missing += bytes;
      if (missing <= 0) return Promise.resolve();
      return new Promise<void>((resolve) => {
        enough = resolve;
      });
    },
  };
}

async function greeted(way: Way): Promise<Way> {
  await way.receive(GREETING_BYTES);
  way.send(HANDSHAKE);
  return way;
}

async function direct(path: string): Promise<Way> {
  const socket: Socket = connect(path);
  const { came, receive } = counter();
  socket.on('data', ({ length }) => came(length));
  await once(socket, 'connect');
  return greeted({ receive, send: (bytes) => void socket.write(bytes), close: () => socket.destroy() });
}

async function throughGateway({ url }: RunningServer, streamId: string, ticket: string): Promise<Way> {
  const answer = await fetch(`${url}/streams/${streamId}/ticket`, {
    method: 'POST',
    headers: { origin: url, 'content-type': 'application/json' },
    body: JSON.stringify({ ticket }),
  });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  const cookie = answer.headers.get('set-cookie')!.split(';')[0]!;
  const address = `${url.replace('http', 'ws')}/streams/${streamId}/socket`;
  const socket = new WebSocket(address, { headers: { origin: url, cookie }, perMessageDeflate: false });
  const { came, receive } = counter();
  socket.on('message', (data: Buffer, isBinary) => isBinary && came(data.length));
  await once(socket, 'open');
  return greeted({ receive, send: (bytes) => socket.send(bytes), close: () => socket.terminate() });
}

async function keyToUpdateMs({ send, receive }: Way): Promise<number> {
  const times: number[] = [];
  const key = keyEvent(97);
  for (let index = 0; index < KEYS_PER_ROUND; index += 1) {
    const startedAt = performance.now();
    send(key);
    await receive(UPDATE.length);
    times.push(performance.now() - startedAt);
  }
  return median(times);
}

async function bulk({ send, receive }: Way, server: RunningServer) {
  const [cpuBefore, startedAt] = [server.cpuMicros(), performance.now()];
  send(keyEvent(FLOOD_KEY));
  await receive(FLOOD_BYTES);
  const seconds = (performance.now() - startedAt) / 1_000;
  const cpuSeconds = (server.cpuMicros() - cpuBefore) / MEGABYTE;
  const megabytes = FLOOD_BYTES / MEGABYTE;
  return { perSecond: megabytes / seconds, perCpuSecond: megabytes / cpuSeconds };
}

/** The ids that the server prints. */
async function streamIds(child: ChildProcess, count: number): Promise<string[]> {
  const ids: string[] = [];
  for await (const line of createInterface({ input: child.stdout! })) {
    ids.push(line);
    if (ids.length === count) break;
  }
  return ids;
}

export async function measureStreams(directory: string, rounds: number): Promise<StreamCosts> {
  const path = join(directory, 'desktop.sock');
  const desktop = spawn(process.execPath, [join(import.meta.dirname, 'stream-desktop.ts'), path], { stdio: 'inherit' });
  const count = IDLE_VIEWERS + 1;
  const environment = {
    BACKLOT_DATA_DIR: join(directory, 'streams'),
    BACKLOT_PORT: String(PORT),
    BACKLOT_STREAM_VIEWERS: '100',
    BACKLOT_COMPUTE: 'simulated',
    BACKLOT_LOG_LEVEL: 'warn',
  };
  const server = await startNode(PORT, ['test/bench/stream-server.ts', path, String(count)], environment);
  const ways: Way[] = [];
  try {
    const ids = await streamIds(server.process, count);
    const near = await direct(path);
    const far = await throughGateway(server, ids[0]!, ticketOf(0));
    ways.push(near, far);
    await keyToUpdateMs(near);
    await keyToUpdateMs(far);
    const [nearMs, farMs]: [number[], number[]] = [[], []];
    const bulks = [];
    for (let round = 0; round < rounds; round += 1) {
      nearMs.push(await keyToUpdateMs(near));
      farMs.push(await keyToUpdateMs(far));
      bulks.push(await bulk(far, server));
    }
    far.close();
    await delay(2_000);
    const before = server.residentMegabytes();
    for (let index = 1; index < count; index += 1) {
      ways.push(await throughGateway(server, ids[index]!, ticketOf(index)));
    }
    await delay(5_000);
    return {
      directMs: median(nearMs),
      gatewayMs: median(farMs),
      megabytesPerSecond: median(bulks.map(({ perSecond }) => perSecond)),
      megabytesPerCpuSecond: median(bulks.map(({ perCpuSecond }) => perCpuSecond)),
      idleViewers: IDLE_VIEWERS,
      idleMegabytes: server.residentMegabytes() - before,
    };
  } finally {
    for (const way of ways) way.close();
    server.process.kill('SIGKILL');
    desktop.kill('SIGKILL');
  }
}
