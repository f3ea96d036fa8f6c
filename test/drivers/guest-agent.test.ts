/** The client of the agent inside a guest, against agents that lie, rave or say nothing: every wait ends, nothing grows. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { AgentLost, connectAgent } from '../../src/compute/guest-agent.ts';
import { flood, socketPeer } from '../support/socket-peer.ts';
import { until } from '../support/until.ts';

const NEVER = new AbortController().signal;
const COMMAND = { path: '/bin/true', arguments: ['a'], environment: ['B=c'], input: 'text' };
/** That an honest conversation ends long before. */
const SOON_MS = 60_000;

interface Asked {
  readonly execute: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** An agent that synchronizes, and answers the rest as it is told to. */
function agent(t: TestContext, answer: (asked: Asked, socket: Socket) => unknown) {
  return socketPeer(
    t,
    () => undefined,
    (line, socket) => {
      const asked = JSON.parse(line.slice(line.lastIndexOf('\xff') + 1)) as Asked;
      const isSync = asked.execute === 'guest-sync-delimited';
      const said = isSync ? { return: asked.arguments.id } : answer(asked, socket);
      if (isSync) socket.write(Buffer.of(0xff));
      if (said !== undefined) socket.write(`${JSON.stringify(said)}\n`);
    },
  );
}

test('a program is run to its end, and what it wrote comes back', async (t) => {
  const seen: Asked[] = [];
  let looks = 0;
  const peer = await agent(t, (asked) => {
    seen.push(asked);
    if (asked.execute === 'guest-exec') return { return: { pid: 7 } };
    looks += 1;
    if (looks < 3) return { return: { exited: false } };
    return { return: { exited: true, exitcode: 3, 'out-data': 'b3V0', 'err-data': 'ZXJy' } };
  });
  const found = await connectAgent(peer.directory, peer.name, NEVER);
  assert.deepEqual(await found.run(COMMAND, NEVER), { exitCode: 3, output: 'outerr' });
  assert.deepEqual(seen[0]!.arguments, {
    path: '/bin/true',
    arg: ['a'],
    env: ['B=c'],
    'input-data': Buffer.from('text').toString('base64'),
    'capture-output': true,
  });
  found.close();
});

test('answers to what others asked, and noise before the agent speaks, are passed over', async (t) => {
  const peer = await socketPeer(
    t,
    (socket) => void socket.write('login: \n{"return": 12}\n{"return": {}}\n'),
    (line, socket) => {
      const { arguments: args } = JSON.parse(line.slice(line.lastIndexOf('\xff') + 1)) as Asked;
      socket.write(Buffer.concat([Buffer.from('half a li'), Buffer.of(0xff), Buffer.from(`{"return": ${args.id}}\n`)]));
    },
  );
  (await connectAgent(peer.directory, peer.name, NEVER)).close();
});

test('an agent that missed the first question is asked again', async (t) => {
  let asked = 0;
  const peer = await socketPeer(
    t,
    () => undefined,
    (line, socket) => {
      asked += 1;
      const { arguments: args } = JSON.parse(line.slice(line.lastIndexOf('\xff') + 1)) as Asked;
      if (asked > 1) socket.write(`{"return": ${args.id}}\n`);
    },
  );
  (await connectAgent(peer.directory, peer.name, NEVER)).close();
  assert.equal(asked, 2);
});

for (const [what, chunk] of [
  ['a line without an end', Buffer.alloc(65_536, 'x')],
  ['gigabytes of answers', Buffer.from('{"return": 1}\n'.repeat(5_000))],
  ['gigabytes of garbage', Buffer.from('{]\n'.repeat(20_000))],
] as const) {
  test(`an agent that answers ${what} is cut off`, async (t) => {
    const ended = Promise.withResolvers<void>();
    const peer = await socketPeer(t, (socket) => {
      socket.on('close', () => ended.resolve());
      flood(socket, chunk);
    });
    await assert.rejects(connectAgent(peer.directory, peer.name, AbortSignal.timeout(SOON_MS)), AgentLost);
    await ended.promise;
  });
}

for (const [what, answers] of [
  ['no number of a process', { 'guest-exec': { return: { pid: 'x' } } }],
  ['nothing of use', { 'guest-exec': { return: null } }],
  ['an error', { 'guest-exec': { error: { class: 'GenericError', desc: 'it holds a secret' } } }],
] as const) {
  test(`an agent that answers ${what} to a program is not believed, and not repeated`, async (t) => {
    const peer = await agent(t, ({ execute }) => (answers as Record<string, unknown>)[execute]);
    const found = await connectAgent(peer.directory, peer.name, NEVER);
    const isSound = (error: unknown) => error instanceof AgentLost && !/secret/.test(error.message);
    await assert.rejects(found.run(COMMAND, NEVER), isSound);
    found.close();
  });
}

test('output that is no text, and an end that is none, come to something of the right kind', async (t) => {
  const peer = await agent(t, ({ execute }) =>
    execute === 'guest-exec'
      ? { return: { pid: 1 } }
      : { return: { exited: true, exitcode: {}, 'out-data': 5, 'err-data': '\u0000<b>' } },
  );
  const found = await connectAgent(peer.directory, peer.name, NEVER);
  const { exitCode, output } = await found.run(COMMAND, NEVER);
  assert.ok(exitCode !== 0);
  assert.equal(typeof output, 'string');
  found.close();
});

test('silence ends with the caller, before and while a program runs', async (t) => {
  const silent = await socketPeer(t, () => undefined);
  const controller = new AbortController();
  const connecting = connectAgent(silent.directory, silent.name, controller.signal);
  controller.abort(new Error('enough'));
  await assert.rejects(connecting, /enough/);
  let asked = 0;
  const busy = await agent(t, ({ execute }) => {
    asked += 1;
    return execute === 'guest-exec' ? { return: { pid: 1 } } : { return: { exited: false } };
  });
  const found = await connectAgent(busy.directory, busy.name, NEVER);
  const running = new AbortController();
  const run = found.run(COMMAND, running.signal);
  run.catch(() => undefined);
  await until('it is asked how far it is', () => asked > 2);
  running.abort(new Error('too long'));
  await assert.rejects(run, /too long/);
  found.close();
});

test('an agent that goes is told of', async (t) => {
  const peer = await agent(t, (_asked, socket) => void socket.destroy());
  const found = await connectAgent(peer.directory, peer.name, NEVER);
  await assert.rejects(found.run(COMMAND, NEVER), AgentLost);
  await assert.rejects(connectAgent(peer.directory, 'nothing', NEVER), AgentLost);
});
