/** The client of QEMU's monitor, against peers that are not QEMU: whatever they do, every wait ends and nothing grows. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { connectQmp, type QmpEvent, QmpLost, QmpRefused } from '../../src/compute/qmp.ts';
import { flood, socketPeer } from '../support/socket-peer.ts';
import { until } from '../support/until.ts';

const NEVER = new AbortController().signal;
const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\n';

interface Asked {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly id: number;
}

/** A peer that greets and answers what it is asked. */
function monitor(t: TestContext, answer: (asked: Asked, socket: Socket) => unknown) {
  return socketPeer(
    t,
    (socket) => void socket.write(GREETING),
    (line, socket) => {
      const asked = JSON.parse(line) as Asked;
      const said = asked.execute === 'qmp_capabilities' ? { return: {} } : answer(asked, socket);
      if (said !== undefined) socket.write(`${JSON.stringify({ ...(said as object), id: asked.id })}\n`);
    },
  );
}

test('commands are answered, each with its own answer, and events are told', async (t) => {
  const peer = await monitor(t, ({ execute, arguments: args }, socket) => {
    if (execute === 'fail') return { error: { class: 'GenericError', desc: 'no such thing' } };
    socket.write('{"event": "RESET", "data": {"guest": true}, "timestamp": {}}\n');
    return { return: { execute, args } };
  });
  const events: QmpEvent[] = [];
  const qmp = await connectQmp(peer.directory, peer.name, NEVER, (event) => events.push(event));
  const both = await Promise.all([qmp.execute('one', { a: 1 }), qmp.execute('two')]);
  assert.deepEqual(both, [
    { execute: 'one', args: { a: 1 } },
    { execute: 'two', args: {} },
  ]);
  assert.deepEqual(events[0], { event: 'RESET', data: { guest: true } });
  await assert.rejects(
    qmp.execute('fail', { data: 'a secret' }),
    (error) => error instanceof QmpRefused && /no such thing/.test(error.message) && !/secret/.test(error.message),
  );
  qmp.close();
  await assert.rejects(qmp.execute('one'), QmpLost);
});

test('a socket that is not there, and one that ends at once, are told of', async (t) => {
  const peer = await socketPeer(t, (socket) => socket.destroy());
  await assert.rejects(connectQmp(peer.directory, peer.name, NEVER), QmpLost);
  await assert.rejects(connectQmp(peer.directory, 'nothing', NEVER), QmpLost);
});

for (const [what, say] of [
  ['garbage', (socket: Socket) => void socket.write('what a day\n')],
  ['a value that is no object', (socket: Socket) => void socket.write('42\n')],
  ['a line without an end', (socket: Socket) => flood(socket, Buffer.alloc(65_536, 'x'))],
] as const) {
  test(`a peer that says ${what} is cut off`, async (t) => {
    const ended = Promise.withResolvers<void>();
    const peer = await socketPeer(t, (socket) => {
      socket.on('close', () => ended.resolve());
      say(socket);
    });
    await assert.rejects(connectQmp(peer.directory, peer.name, NEVER), QmpLost);
    await ended.promise;
  });
}

test('a peer that goes on after its greeting with a flood of events is cut off in the end', async (t) => {
  const event = Buffer.from('{"event": "X", "data": {}}\n'.repeat(4_000));
  const peer = await monitor(t, (_asked, socket) => flood(socket, event));
  const qmp = await connectQmp(peer.directory, peer.name, NEVER);
  const asked = qmp.execute('anything', {}, AbortSignal.timeout(60_000));
  await assert.rejects(asked);
  qmp.close();
  await until('it is lost', () => qmp.lost() !== undefined);
});

test('silence ends with the caller', async (t) => {
  const peer = await socketPeer(t, () => undefined);
  const controller = new AbortController();
  const connecting = connectQmp(peer.directory, peer.name, controller.signal);
  controller.abort(new Error('enough'));
  await assert.rejects(connecting, /enough/);
  const silent = await monitor(t, () => undefined);
  const qmp = await connectQmp(silent.directory, silent.name, NEVER);
  const asking = new AbortController();
  const asked = qmp.execute('anything', {}, asking.signal);
  asking.abort(new Error('that will do'));
  await assert.rejects(asked, /that will do/);
  qmp.close();
});

test('what was waited for fails at once when the peer goes', async (t) => {
  const peer = await monitor(t, (_asked, socket) => void socket.destroy());
  const qmp = await connectQmp(peer.directory, peer.name, NEVER);
  await assert.rejects(qmp.execute('anything'), QmpLost);
  assert.ok(qmp.lost());
});
