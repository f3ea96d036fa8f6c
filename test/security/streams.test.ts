/**
 * Holes that were found in consoles like ours: addresses that redirect, tickets that are good twice, cookies that any page
 * may use, sockets without number, and guests whose data is believed. Each is a test.
 */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { KIND } from '../../src/domain/kinds.ts';
import type { StreamingSessionStreamPrivate } from '../../src/domain/streaming-session-stream.ts';
import { bytesOf, exchange } from '../support/connection.ts';
import { FakeDesktop } from '../support/desktop.ts';
import { putUser } from '../support/furnish.ts';
import { createRandom } from '../support/random.ts';
import { putProfile, putSession, putStream } from '../support/rows.ts';
import { startService } from '../support/service.ts';
import { startStreams, Viewer } from '../support/streams.ts';
import { until } from '../support/until.ts';

const TICKET = 'T'.repeat(43);
const MEBIBYTE = 1024 * 1024;
const SEED = process.env.BACKLOT_SEED ?? '1';

test('nothing static redirects, whatever its path looks like', async (t) => {
  const { port, url } = await startService(t);
  const html = await (await fetch(`${url}/streams/${'A'.repeat(22)}`)).text();
  const file = /src="([^"]+\/stream\.js)"/.exec(html)![1]!;
  const digest = file.split('/').slice(0, 4).join('/');
  const host = 'evil.example.org';
  const corpus = [
    `//${host}/%2f..`,
    `//${host}/%2e%2e`,
    `///${host}/%2f%2e%2e`,
    `/\\${host}/%2f..`,
    `/streams//${host}/%2f..`,
    `/streams/assets//${host}/%2f..`,
    `/streams/${'A'.repeat(22)}//${host}/..`,
    `/streams/${'A'.repeat(22)}/`,
    '/streams',
    '/streams/',
    '/streams/assets',
    '/streams/assets/',
    digest,
    `${digest}/`,
    `${digest}/novnc`,
    `${digest}/novnc/core/`,
    `${digest}/../../../package.json`,
    `${digest}/..%2f..%2f..%2fpackage.json`,
    `${digest}/%2e%2e/%2e%2e/data/credentials`,
    `${digest}/novnc/../../../../../src/main.ts`,
    `${file}/`,
    `${file}%00`,
    `${file.replace('/assets/', '/assets/./')}`,
    `${file.replace('/assets/', '/assets/%2e/')}`,
    `/streams/assets/${'0'.repeat(16)}/stream.js`,
    `${digest}/stream.html`,
    `${digest}/constructor`,
    '/streams/__proto__',
    '/streams/constructor',
  ];
  for (const target of corpus) {
    for (const method of ['GET', 'HEAD', 'POST', 'OPTIONS']) {
      const message = { method, target, headers: [['host', host]] as const, body: Buffer.alloc(0) };
      const answer = await exchange(port, bytesOf(message), { toHead: method === 'HEAD' });
      const what = `${method} ${target}: ${answer.status}`;
      assert.ok(answer.status < 300 || answer.status >= 400, what);
      if (method === 'GET') assert.equal(answer.status, 404, what);
      assert.equal(answer.headers.get('location'), undefined, what);
      assert.ok(!answer.body.includes(host) && ![...answer.headers.values()].join().includes(host), what);
    }
  }
});

/** A stream whose ticket is known, without a call of the API: for a server behind another name. */
async function putAddress(service: Awaited<ReturnType<typeof startService>>) {
  const { parts } = service.service;
  const place = { ...parts, services: parts };
  const launchProfileId = await putProfile(place, 'studio');
  const dueAt = parts.clock.now() + 3_600_000;
  const sessionId = await putSession(place, 'studio', { launchProfileId }, { dueAt });
  const secret: StreamingSessionStreamPrivate = { expiresAt: dueAt, ticketSha256: hash('sha256', TICKET) };
  const streamId = await putStream(place, 'studio', sessionId, {}, { private: JSON.stringify(secret), dueAt });
  return { streamId, sessionId };
}

for (const [publicUrl, isSecure] of [
  ['https://backlot.example.org', true],
  ['http://backlot.example.org', false],
] as const) {
  test(`the cookie of ${publicUrl} is for its stream, for no script${isSecure ? ', and for TLS' : ''} alone`, async (t) => {
    const service = await startService(t, { settings: { publicUrl } });
    const { streamId } = await putAddress(service);
    const answer = await fetch(`${service.url}/streams/${streamId}/ticket`, {
      method: 'POST',
      headers: { origin: publicUrl, 'content-type': 'application/json' },
      body: JSON.stringify({ ticket: TICKET }),
    });
    assert.equal(answer.status, 200, await answer.text());
    const [value, ...flags] = answer.headers.get('set-cookie')!.split('; ');
    assert.match(value!, /^backlot-stream=[\w-]{43}$/);
    const wanted = [`Path=/streams/${streamId}`, 'Max-Age=3600', 'HttpOnly', 'SameSite=Strict'];
    assert.deepEqual(
      flags.map((flag) => flag.replace(/=35\d\d$/, '=3600')),
      isSecure ? [...wanted, 'Secure'] : wanted,
    );
    assert.equal(answer.headers.get('referrer-policy'), 'no-referrer');
  });
}

/** Every way to ask with a ticket that must not work, and that the viewer in place does not notice. */
test('a ticket that is stolen, reused, expired or foreign is 403, and the viewer in place stays', async (t) => {
  const streams = await startStreams(t);
  const { clock, store } = streams.service.service.parts;
  const sessionId = await streams.makeSession();
  const stream = await streams.makeStream(sessionId);
  const viewer = await streams.connect(await streams.redeem(stream));
  const another = await streams.makeStream(await streams.makeSession());
  const expired = await streams.makeStream(sessionId);
  const row = (await store.get(KIND.streamingSessionStream, expired.streamId))!;
  const secret = { ...JSON.parse(row.private), expiresAt: clock.now() };
  await store.write([{ op: 'update', row: { ...row, version: row.version + 1, private: JSON.stringify(secret) } }]);
  for (const [streamId, ticket] of [
    [stream.streamId, stream.ticket],
    [stream.streamId, another.ticket],
    [stream.streamId, TICKET],
    [expired.streamId, expired.ticket],
    ['A'.repeat(22), stream.ticket],
  ] as const) {
    const answer = await streams.sendTicket(streamId, ticket);
    assert.equal(answer.status, 403, answer.body);
    assert.equal(answer.headers.get('set-cookie'), undefined);
  }
  viewer.press(97);
  await until('the viewer is there', () => streams.desktop.keys.length === 1);
  assert.equal(viewer.closing, undefined);
});

test('what is no ticket is refused, and changes nothing', async (t) => {
  const streams = await startStreams(t);
  const { streamId, ticket } = await streams.makeStream(await streams.makeSession());
  const before = streams.service.snapshot();
  for (const wrong of [
    undefined,
    null,
    1,
    true,
    '',
    [ticket],
    { ticket },
    `${ticket}=`,
    ticket.slice(1),
    `${ticket} `,
  ]) {
    const answer = await streams.sendTicket(streamId, wrong);
    assert.equal(answer.status, 400, JSON.stringify(wrong));
    assert.ok(!answer.body.includes(ticket));
  }
  const asForm = { 'content-type': 'application/x-www-form-urlencoded' };
  assert.equal((await streams.sendTicket(streamId, ticket, asForm)).status, 415);
  assert.deepEqual(streams.service.snapshot(), before);
});

// --- Pages of others ---

const originsBeside = (origin: string): string[] => {
  const { protocol, hostname, port } = new URL(origin);
  const other = protocol === 'http:' ? 'https:' : 'http:';
  return [
    'null',
    'https://evil.example.org',
    `${other}//${hostname}:${port}`,
    `${protocol}//${hostname}`,
    `${protocol}//${hostname}:${Number(port) + 1}`,
    `${protocol}//${hostname}:${port}1`,
    `${protocol}//sub.${hostname}:${port}`,
    `${protocol}//${hostname}.evil.example.org:${port}`,
    `${protocol}//evil${hostname}:${port}`,
    `${protocol}//user@${hostname}:${port}`,
    `${protocol}//${hostname}:${port}@evil.example.org`,
    `${protocol}//${hostname}:${port}/`,
    `${protocol}//${hostname}:${port}#`,
    `${protocol}//${hostname}:${port}?`,
    `${protocol}//${hostname}:0${port}`,
    `${protocol}//${hostname}:${port} `.trimEnd().concat('\t.'),
    `${protocol.toUpperCase()}//${hostname}:${port}`,
    `${protocol}//localhost:${port}`,
    `${protocol}//[::1]:${port}`,
    `${protocol}//127.1:${port}`,
    `${origin}, ${origin}`,
    `${origin} https://evil.example.org`,
    `file://${hostname}:${port}`,
    '*',
  ];
};

test('a page of another origin, or none, opens no stream, whatever cookie comes along', async (t) => {
  const streams = await startStreams(t);
  const sessionId = await streams.makeSession();
  const opened = await streams.open(sessionId);
  const unused = await streams.makeStream(sessionId);
  const { url } = streams.service;
  const viewer = await streams.connect(opened);
  const { cookie } = opened;
  assert.equal(await streams.statusOf(streams.ask(opened.streamId, { cookie })), 403, 'without an origin');
  for (const origin of originsBeside(url)) {
    assert.equal(await streams.statusOf(streams.ask(opened.streamId, { cookie, origin })), 403, origin);
    assert.equal((await streams.sendTicket(unused.streamId, unused.ticket, { origin })).status, 403, origin);
  }
  viewer.press(97);
  await until('the viewer in place is there', () => streams.desktop.keys.length === 1);
  assert.equal(
    (await streams.sendTicket(unused.streamId, unused.ticket)).status,
    200,
    'the ticket is as good as before',
  );
});

test('no origin that is changed by a letter is taken for ours', async (t) => {
  const { service, ...streams } = await startStreams(t);
  const opened = await streams.open(await streams.makeSession());
  const random = createRandom(`origins/${SEED}`);
  t.diagnostic(`BACKLOT_SEED=${SEED}`);
  const letters = '.:/@#?\\%[]-_~ abcXYZ019\t\u00e9\u017f';
  for (let round = 0; round < 150; round += 1) {
    let origin = service.url;
    for (let changes = 1 + random.below(3); changes > 0; changes -= 1) {
      const at = random.below(origin.length + 1);
      const letter = letters[random.below(letters.length)]!;
      origin = origin.slice(0, at) + letter + origin.slice(random.chance(0.5) ? at : at + 1);
    }
    // HTTP itself takes white space off the ends of a header.
    if (origin.trim() === service.url) continue;
    const bytes = Buffer.from(
      `GET /streams/${opened.streamId}/socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${Buffer.alloc(16).toString('base64')}\r\n` +
        `Cookie: ${opened.cookie}\r\nOrigin: ${origin}\r\n\r\n`,
      'latin1',
    );
    const answer = await exchange(service.port, bytes);
    assert.ok(answer.status === 403 || answer.status === 400, `${answer.status} for ${JSON.stringify(origin)}`);
  }
});

test('pages of other sites may read nothing of a stream', async (t) => {
  const streams = await startStreams(t);
  const { streamId, cookie } = await streams.open(await streams.makeSession());
  const origin = 'https://evil.example.org';
  for (const [method, path] of [
    ['GET', ''],
    ['GET', '/viewer'],
    ['POST', '/ticket'],
    ['OPTIONS', '/ticket'],
    ['OPTIONS', ''],
  ] as const) {
    const answer = await fetch(`${streams.service.url}/streams/${streamId}${path}`, {
      method,
      headers: { origin, cookie },
    });
    for (const [name] of answer.headers) assert.doesNotMatch(name, /^access-control-/, `${method} ${path}`);
  }
});

// --- Who may see it ---

test('a cookie that is foreign, altered, invented or absent opens nothing', async (t) => {
  const streams = await startStreams(t);
  const [sessionId, other] = [await streams.makeSession(), await streams.makeSession()];
  const opened = await streams.open(sessionId);
  const foreign = await streams.open(other);
  const origin = streams.service.url;
  const value = opened.cookie.split('=')[1]!;
  const altered = `${value.startsWith('A') ? 'B' : 'A'}${value.slice(1)}`;
  for (const headers of [
    { origin },
    { origin, cookie: foreign.cookie },
    { origin, cookie: `backlot-stream=${altered}` },
    { origin, cookie: `Backlot-Stream=${value}` },
    { origin, cookie: `x-backlot-stream=${value}` },
    { origin, cookie: 'backlot-stream=' },
    { origin, cookie: `backlot-stream=${hash('sha256', value).slice(0, 43)}` },
    { origin, authorization: `Bearer ${value}` },
  ] as Record<string, string>[]) {
    assert.equal(await streams.statusOf(streams.ask(opened.streamId, headers)), 403, JSON.stringify(headers));
    const asked = await fetch(`${origin}/streams/${opened.streamId}/viewer`, { headers });
    assert.equal(asked.status, 403);
    assert.ok(!(await asked.text()).includes(sessionId));
  }
  const absent = streams.ask('A'.repeat(22), { origin, cookie: opened.cookie });
  assert.equal(await streams.statusOf(absent), 403);
  const inQuery = new WebSocket(`${origin.replace('http', 'ws')}/streams/${opened.streamId}/socket?${opened.cookie}`, {
    headers: { origin },
  });
  inQuery.on('error', () => undefined);
  assert.equal(await streams.statusOf(inQuery), 403);
});

test('disabling the owner closes what is open within two seconds, and nothing opens again', async (t) => {
  const streams = await startStreams(t);
  const userId = await putUser(streams.service, 'artist');
  const opened = await streams.open(await streams.makeSession({ ownedBy: userId }));
  const viewer = await streams.connect(opened);
  const { store } = streams.service.service.parts;
  const user = (await store.get(KIND.user, userId))!;
  await store.write([{ op: 'update', row: { ...user, version: user.version + 1, state: 'DISABLED' } }]);
  assert.equal((await viewer.closed()).code, 4003);
  const again = streams.ask(opened.streamId, { origin: streams.service.url, cookie: opened.cookie });
  assert.equal(await streams.statusOf(again), 403);
});

test('sockets of one cookie, and viewers of one session, do not add up', async (t) => {
  const streams = await startStreams(t);
  const sessionId = await streams.makeSession();
  const opened = await streams.open(sessionId);
  const { url } = streams.service;
  const sockets = Array.from({ length: 20 }, () =>
    streams.ask(opened.streamId, { origin: url, cookie: opened.cookie }),
  );
  await Promise.all(sockets.map((socket) => streams.statusOf(socket)));
  await until('one is left', () => sockets.filter(({ readyState }) => readyState === WebSocket.OPEN).length === 1);
  await until('one connection is left', () => streams.desktop.connections.size === 1);
});

test('a window that connects without end is told to wait, and strangers cannot use up what it has', async (t) => {
  const streams = await startStreams(t);
  const opened = await streams.open(await streams.makeSession());
  const { url } = streams.service;
  const ask = (cookie: string) => streams.statusOf(streams.ask(opened.streamId, { origin: url, cookie }));
  for (let index = 0; index < 40; index += 1) assert.equal(await ask(`backlot-stream=${TICKET}`), 403);
  const statuses: number[] = [];
  while (!statuses.includes(429) && statuses.length < 100) statuses.push(await ask(opened.cookie));
  assert.equal(statuses.pop(), 429);
  assert.deepEqual(new Set(statuses), new Set([101]));
  assert.ok(statuses.length >= 30);
});

test('of other viewers of a shared desktop nobody learns anything', async (t) => {
  const streams = await startStreams(t, { settings: { streamViewersMax: '2' } });
  const sessionId = await streams.makeSession();
  const [mine, theirs] = [await streams.open(sessionId), await streams.open(sessionId)];
  const viewer = await streams.connect(mine);
  await streams.connect(theirs);
  const asked = await fetch(`${streams.service.url}/streams/${mine.streamId}/viewer`, {
    headers: { cookie: mine.cookie },
  });
  assert.deepEqual(Object.keys((await asked.json()) as object), ['clipboard']);
  assert.deepEqual(new Set(viewer.told.flatMap(Object.keys)), new Set(['clipboard']));
  const stream = await streams.service.call({ path: `${streams.sessionPath(sessionId)}/streams/${mine.streamId}` });
  assert.ok(!stream.body.includes(theirs.streamId) && !/viewer|cookie/i.test(stream.body));
});

// --- Hostile ends ---

test('garbage on the websocket ends that viewer, and no other', async (t) => {
  const streams = await startStreams(t, { settings: { streamViewersMax: '100' } });
  const sessionId = await streams.makeSession();
  const good = await streams.connect(await streams.open(sessionId));
  const random = createRandom(`garbage/${SEED}`);
  for (let round = 0; round < 10; round += 1) {
    const opened = await streams.open(sessionId);
    const viewer = new Viewer(streams.ask(opened.streamId, { origin: streams.service.url, cookie: opened.cookie }));
    await once(viewer.socket, 'open');
    const bytes = Buffer.from(Array.from({ length: 200 }, () => random.below(256)));
    if (random.chance(0.3)) (viewer.socket as unknown as { _socket: Socket })._socket.write(bytes);
    else viewer.socket.send(bytes);
    const { code } = await viewer.closed();
    assert.ok([1002, 1006, 1007, 1008, 1009].includes(code), `${code}`);
  }
  good.press(97);
  await until('the good one is there', () => streams.desktop.keys.length === 1);
});

/** What is resident may be anything; what is held for viewers is in buffers outside the heap. */
const heldBytes = () => process.memoryUsage().arrayBuffers;

test('a guest that sends without end fills no memory of the server, whether or not the viewer reads', async (t) => {
  const desktop = await FakeDesktop.start(t);
  const piece = randomBytes(64 * 1024);
  let sent = 0;
  desktop.hostile = (connection) => {
    const write = () => {
      while (connection.writable) {
        sent += piece.length;
        if (!connection.write(piece)) break;
      }
    };
    connection.on('drain', write);
    write();
  };
  const streams = await startStreams(t, { desktop });
  const opened = await streams.open(await streams.makeSession());
  const before = heldBytes();
  const viewer = new Viewer(streams.ask(opened.streamId, { origin: streams.service.url, cookie: opened.cookie }));
  await until('much has come', () => viewer.bytes > 200 * MEBIBYTE);
  const raw = (viewer.socket as unknown as { _socket: Socket })._socket;
  raw.pause();
  let settled = -1;
  await until('the guest is held up', async () => {
    const isSame = settled === sent;
    settled = sent;
    await new Promise((resolve) => setTimeout(resolve, 100));
    return isSame;
  });
  assert.ok(heldBytes() - before < 64 * MEBIBYTE, `${heldBytes() - before} bytes are held`);
  raw.resume();
  const soFar = viewer.bytes;
  await until('it goes on', () => viewer.bytes > soFar + 8 * MEBIBYTE);
});

test('a guest that sends garbage reaches the browser as bytes and the server as nothing', async (t) => {
  const desktop = await FakeDesktop.start(t);
  const garbage = randomBytes(100_000);
  desktop.hostile = (connection) => {
    connection.end(garbage);
  };
  const streams = await startStreams(t, { desktop });
  const opened = await streams.open(await streams.makeSession());
  const viewer = new Viewer(streams.ask(opened.streamId, { origin: streams.service.url, cookie: opened.cookie }));
  assert.deepEqual(await viewer.take(garbage.length), garbage);
  assert.equal((await viewer.closed()).code, 4101);
  assert.equal((await fetch(`${streams.service.url}/readyz`)).status, 200);
});
