/**
 * The gateway over the wire: the page and its files, the ticket that becomes a cookie, and the socket that shows the desktop,
 * for as long as there is one and somebody may see it.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { WebSocket } from 'ws';
import { KIND } from '../../src/domain/kinds.ts';
import { redeemTicket } from '../../src/domain/viewer.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { makeCertificate } from '../e2e/certificates.ts';
import { FakeDesktop, picture } from '../support/desktop.ts';
import { startService } from '../support/service.ts';
import { cutText, type Streams, startStreams, type Viewer } from '../support/streams.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';

const SOME_ID = 'AAAAAAAAAAAAAAAAAAAAAA';

test('the page is the same for every id, and says to browsers what it may do', async (t) => {
  const streams = await startStreams(t);
  const { url } = streams.service;
  const { streamId } = await streams.makeStream(await streams.makeSession());
  const answers = await Promise.all([streamId, SOME_ID].map((id) => fetch(`${url}/streams/${id}`)));
  const [real, none] = await Promise.all(answers.map((answer) => answer.text()));
  assert.equal(real, none);
  for (const { status, headers } of answers) {
    assert.equal(status, 200);
    const policy = headers.get('content-security-policy')!.split('; ');
    for (const directive of [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' data: blob:",
      `connect-src 'self' ${url.replace('http', 'ws')}`,
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "form-action 'none'",
    ])
      assert.ok(policy.includes(directive), directive);
    const told = [
      'x-content-type-options',
      'referrer-policy',
      'x-frame-options',
      'cross-origin-opener-policy',
      'cross-origin-resource-policy',
    ].map((name) => headers.get(name));
    assert.deepEqual(told, ['nosniff', 'no-referrer', 'DENY', 'same-origin', 'same-origin']);
    assert.match(headers.get('permissions-policy')!, /camera=\(\)/);
    assert.equal(headers.get('access-control-allow-origin'), null);
  }
  assert.doesNotMatch(real!, /<script(?![^>]*\bsrc=)|\bon[a-z]+=|style=|{{/);
});

test('every file that the page names is there, and may be kept for ever', async (t) => {
  const { url } = await startService(t);
  const page = await fetch(`${url}/streams/${SOME_ID}`);
  const html = await page.text();
  const paths = [...html.matchAll(/(?:href|src)="(\/[^"]+)"/g)].map(([, path]) => path!);
  assert.ok(paths.length > 40);
  for (const path of new Set(paths)) {
    const answer = await fetch(`${url}${path}`);
    assert.equal(answer.status, 200, path);
    assert.match(answer.headers.get('cache-control')!, /immutable/);
    assert.equal(answer.headers.get('content-encoding'), 'gzip');
    assert.match(answer.headers.get('content-type')!, /^text\/(css|javascript); charset=utf-8$/);
    const etag = answer.headers.get('etag')!;
    const again = await fetch(`${url}${path}`, { headers: { 'if-none-match': etag } });
    assert.deepEqual([again.status, await again.text()], [304, '']);
    // What a module imports is there as well.
    const text = await answer.text();
    for (const [, name] of text.matchAll(/^(?:import|export)\b[^'"]*['"](\.[^'"]+)['"];/gm)) {
      assert.ok(paths.includes(new URL(name!, `${url}${path}`).pathname), `${path} imports ${name}`);
    }
  }
  const etag = page.headers.get('etag')!;
  assert.equal((await fetch(page.url, { headers: { 'if-none-match': etag } })).status, 304);
});

test('who takes no gzip gets the same bytes plain', async (t) => {
  const service = await startService(t);
  const get = async (headers: Record<string, string>) => {
    const answer = await fetch(`${service.url}/streams/${SOME_ID}`, { headers });
    return [answer.headers.get('content-encoding'), await answer.text()] as const;
  };
  const plain = await get({ 'accept-encoding': 'identity' });
  const zipped = await get({ 'accept-encoding': 'gzip, br' });
  assert.deepEqual([plain[0], zipped[0]], [null, 'gzip']);
  assert.equal(plain[1], zipped[1]);
  assert.throws(() => gunzipSync(Buffer.from(plain[1])));
});

test('from the address to pixels and keys', async (t) => {
  const streams = await startStreams(t);
  const stream = await streams.makeStream(await streams.makeSession());
  const answer = await streams.sendTicket(stream.streamId, stream.ticket);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('cache-control')?.includes('no-store'), true);
  const cookie = answer.headers.get('set-cookie')!;
  assert.match(
    cookie,
    new RegExp(
      `^backlot-stream=[\\w-]{43}; Path=/streams/${stream.streamId}; Max-Age=\\d+; HttpOnly; SameSite=Strict$`,
    ),
  );
  const opened = { streamId: stream.streamId, cookie: cookie.split(';')[0]! };
  const asked = await fetch(`${streams.service.url}/streams/${opened.streamId}/viewer`, {
    headers: { cookie: opened.cookie },
  });
  assert.deepEqual([asked.status, await asked.json()], [200, { clipboard: true }]);
  assert.equal(asked.headers.get('cache-control'), 'no-store');

  const viewer = await streams.connect(opened);
  assert.deepEqual(viewer.told[0], { clipboard: true });
  const request = Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  viewer.socket.send(request);
  const blank = picture([]);
  assert.deepEqual(await viewer.take(blank.length), blank);
  viewer.socket.send(Buffer.from([3, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
  viewer.press(97);
  assert.deepEqual(await viewer.take(blank.length), picture([97]));
  viewer.cut('some text');
  await until('the text has come', () => streams.desktop.cutTexts.length > 0);
  assert.deepEqual(streams.desktop.cutTexts, ['some text']);

  const metrics = async () => (await fetch(`${streams.service.url}/metrics`)).text();
  const body = await metrics();
  assert.match(body, /^backlot_viewers 1$/m);
  assert.match(body, /^backlot_stream_bytes_total\{direction="to_viewer"\} \d{6}/m);
  assert.match(body, /^backlot_requests_total\{operation="\/streams\/socket",status="101"\} 1$/m);
  assert.ok(!body.includes(opened.streamId), 'no ids');
  viewer.socket.close();
  await until('it is counted', async () => (await metrics()).includes('backlot_viewers_ended_total{reason="left"} 1'));
});

test('with the clipboard disabled no text comes to the desktop, and the page is told', async (t) => {
  const streams = await startStreams(t, { configuration: { clipboardMode: 'DISABLED' } });
  const viewer = await streams.connect(await streams.open(await streams.makeSession()));
  assert.deepEqual(viewer.told[0], { clipboard: false });
  viewer.socket.send(Buffer.concat([cutText('a secret'), cutText('another')]));
  viewer.press(98);
  await until('the key has come', () => streams.desktop.keys.includes(98));
  assert.deepEqual(streams.desktop.cutTexts, []);
});

test('a clipboard that the launch profile takes away is gone at once', async (t) => {
  const streams = await startStreams(t);
  const viewer = await streams.connect(await streams.open(await streams.makeSession()));
  viewer.cut('before');
  await until('it has come', () => streams.desktop.cutTexts.length === 1);
  const { store } = streams.service.service.parts;
  const profile = (await store.get(KIND.launchProfile, streams.launchProfileId))!;
  const doc = profile.doc.replace('"clipboardMode":"ENABLED"', '"clipboardMode":"DISABLED"');
  await store.write([{ op: 'update', row: { ...profile, version: profile.version + 1, doc } }]);
  await until('the page is told', () => viewer.told.some(({ clipboard }) => clipboard === false));
  viewer.cut('after');
  viewer.press(97);
  await until('the key has come', () => streams.desktop.keys.length === 1);
  assert.deepEqual(streams.desktop.cutTexts, ['before']);
});

for (const [what, code, end] of [
  ['the session stops', 4002, (streams: Streams, id: string) => streams.stop(id)],
  [
    'the session is deleted',
    4002,
    ({ service, sessionPath }: Streams, id: string) => service.call({ method: 'DELETE', path: sessionPath(id) }),
  ],
  ['a newer one comes', 4001, async (streams: Streams, id: string) => streams.connect(await streams.open(id))],
  [
    // This one is told by nobody, and finds it in the database.
    'a newer one comes on another server',
    4001,
    async ({ service, makeStream }: Streams, id: string) => {
      const { parts } = service.service;
      const { streamId, ticket } = await makeStream(id);
      const store = openSqlite({ path: parts.directory.database, now: parts.clock.now });
      await redeemTicket(streamId, ticket, {}, { ...parts, store, viewersMax: 1 });
      await store.close();
    },
  ],
] as const) {
  test(`a viewer ends when ${what}, and is told in words`, async (t) => {
    const streams = await startStreams(t);
    const sessionId = await streams.makeSession();
    const viewer = await streams.connect(await streams.open(sessionId));
    await end(streams, sessionId);
    const closing = await viewer.closed();
    assert.equal(closing.code, code);
    assert.match(closing.words, /\.$/);
    await until(
      'the desktop is let go',
      () => streams.desktop.connections.size === (what === 'a newer one comes' ? 1 : 0),
    );
  });
}

test('so many viewers of a session as the setting says', async (t) => {
  const streams = await startStreams(t, { settings: { streamViewersMax: '2' } });
  const sessionId = await streams.makeSession();
  const viewers: Viewer[] = [];
  for (let index = 0; index < 3; index += 1) viewers.push(await streams.connect(await streams.open(sessionId)));
  assert.equal((await viewers[0]!.closed()).code, 4001);
  viewers[1]!.press(97);
  viewers[2]!.press(98);
  await until('both are there', () => streams.desktop.keys.length === 2);
});

test('a second socket of one cookie takes the place of the first', async (t) => {
  const streams = await startStreams(t);
  const opened = await streams.open(await streams.makeSession());
  const first = await streams.connect(opened);
  const second = await streams.connect(opened);
  assert.equal((await first.closed()).code, 4001);
  second.press(97);
  await until('it is there', () => streams.desktop.keys.length === 1);
});

test('a desktop that hangs up, or is not there, ends the viewer for a while, and it may come again', async (t) => {
  const streams = await startStreams(t);
  const opened = await streams.open(await streams.makeSession());
  const viewer = await streams.connect(opened);
  streams.desktop.drop();
  assert.equal((await viewer.closed()).code, 4101);
  await streams.connect(opened);
});

test('a restarted server takes the cookie again', async (t) => {
  const desktop = await FakeDesktop.start(t);
  const dataDir = temporaryDirectory(t);
  // Closed by the test itself, and once only.
  const first = { after: () => undefined };
  const streams = await startStreams(first, { desktop, settings: { dataDir } });
  const opened = await streams.open(await streams.makeSession());
  const viewer = await streams.connect(opened);
  await streams.service.service.close();
  assert.equal((await viewer.closed()).code, 1001);
  const again = await startService(t, {
    settings: { dataDir, port: String(streams.service.port) },
    overrides: { compute: desktop.compute },
  });
  assert.equal(again.url, streams.service.url);
  await streams.connect(opened);
});

test('over TLS the socket is as it is without', async (t) => {
  const { cert, key } = await makeCertificate(temporaryDirectory(t), 'tls');
  const { url } = await startService(t, { settings: { tlsCertFile: cert, tlsKeyFile: key } });
  const address = `${url.replace('https', 'wss')}/streams/${SOME_ID}/socket`;
  const statusOf = async (headers: Record<string, string>) => {
    const socket = new WebSocket(address, { headers, ca: readFileSync(cert) });
    socket.on('error', () => undefined);
    const [, response] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage];
    return [response.statusCode, JSON.parse(Buffer.concat(await response.toArray()).toString()).code];
  };
  assert.deepEqual(await statusOf({ origin: url }), [403, 'COOKIE_MISSING']);
  assert.deepEqual(await statusOf({ origin: url.replace('https', 'http') }), [403, 'ORIGIN_REFUSED']);
});

test('an upgrade that nobody asked for is passed over, and a socket without one is refused', async (t) => {
  const { service, ...streams } = await startStreams(t);
  const { host } = new URL(service.url);
  const upgrade = [
    ['host', host],
    ['connection', 'Upgrade'],
  ] as const;
  for (const [target, protocol, status] of [
    ['/healthz', 'h2c', 200],
    ['/streams/none/socket', 'websocket', 404],
    [`/streams/${SOME_ID}/socket/`, 'websocket', 404],
  ] as const) {
    const headers = [...upgrade, ['upgrade', protocol]] as const;
    assert.equal(
      (await service.send({ method: 'GET', target, headers, body: Buffer.alloc(0) })).status,
      status,
      target,
    );
  }
  const { streamId } = await streams.makeStream(await streams.makeSession());
  assert.equal((await fetch(`${service.url}/streams/${streamId}/socket`)).status, 400);
});

test('the log tells of viewers by stream and session, and nothing of tickets and cookies', async (t) => {
  const lines: string[] = [];
  const record = (...parts: unknown[]) => void lines.push(JSON.stringify(parts));
  const log = { debug: record, info: record, warn: record, error: record, isLevelEnabled: () => true };
  const streams = await startStreams(t, { overrides: { log: log as never } });
  const sessionId = await streams.makeSession();
  const stream = await streams.makeStream(sessionId);
  await streams.sendTicket(stream.streamId, 'A'.repeat(43));
  const opened = await streams.redeem(stream);
  await streams.sendTicket(stream.streamId, stream.ticket);
  const viewer = await streams.connect(opened);
  viewer.socket.close();
  await once(viewer.socket, 'close');
  await until('it is told', () => lines.some((line) => line.includes('viewer ended')));
  const text = lines.join('\n');
  assert.ok(text.includes(stream.streamId) && text.includes(sessionId));
  assert.ok(!text.includes(stream.ticket) && !text.includes(opened.cookie.split('=')[1]!));
  assert.ok(!streams.service.snapshot().some((row) => row.includes(opened.cookie.split('=')[1]!)));
});
