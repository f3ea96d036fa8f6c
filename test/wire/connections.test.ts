/**
 * The server against connections that misbehave: too large, too slow, too many, broken off, or no HTTP at all. Each gets
 * the one answer that is its own, holds nothing for longer than it may, and disturbs no one else.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after, describe, test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { operations } from '../../src/contract/index.ts';
import { createRouter } from '../../src/wire/router.ts';
import { createApiServer, type ServerLimits } from '../../src/wire/server.ts';
import { type Answer, bytesOf, Connection, exchange } from '../support/connection.ts';
import { API, makeStudio, putReadyImage } from '../support/furnish.ts';
import { startService } from '../support/service.ts';
import type { Owner } from '../support/temporary.ts';
import { until } from '../support/until.ts';

const MEBIBYTE = 1024 * 1024;
const BLOCK = Buffer.alloc(64 * 1024, 'x');

const service = await startService({ after });
const studioId = await makeStudio(service, 'alpha');
const imageId = await putReadyImage(service, studioId);
const imagesPath = `${API}/studios/${encodeURIComponent(studioId)}/streaming-images`;
const imagePath = `${imagesPath}/${imageId}`;
const healthy = async () => assert.equal((await service.call({ path: imagePath })).status, 200);

function requireRefusal(
  { status, headers, body }: Answer,
  expected: [status: number, name: string, code: string],
): void {
  const { message, code, reason } = JSON.parse(body);
  assert.deepEqual([status, headers.get('x-amzn-errortype'), code ?? reason], expected);
  assert.equal(typeof message, 'string');
  assert.match(headers.get('x-amzn-requestid')!, /^[0-9a-f-]{36}$/);
  assert.equal(headers.get('content-type'), 'application/json');
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** What is in memory and cannot be thrown away. */
function heldBytes(): number {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

const chunked = (...pieces: (string | Buffer)[]) =>
  Buffer.concat(
    pieces.flatMap((piece) => [
      Buffer.from(`${piece.length.toString(16)}\r\n`),
      Buffer.from(piece),
      Buffer.from('\r\n'),
    ]),
  );
const LAST_CHUNK = '0\r\n\r\n';

// ---------------------------------------------------------------------------------------------------------------------

describe('bodies in pieces', () => {
  const body = JSON.stringify({ name: 'in pieces 😀', description: 'x'.repeat(200) });
  const head = async () => {
    const message = await service.sign({ method: 'PATCH', path: imagePath, body });
    return bytesOf({
      ...message,
      headers: [...message.headers, ['transfer-encoding', 'chunked']],
      body: Buffer.alloc(0),
    });
  };
  const nameOf = ({ body: text }: Answer) => JSON.parse(text).streamingImage.name;

  test('chunks of one byte, in one write', async () => {
    const bytes = [...Buffer.from(body)].map((byte) => Buffer.from([byte]));
    const answer = await exchange(
      service.port,
      Buffer.concat([await head(), chunked(...bytes), Buffer.from(LAST_CHUNK)]),
    );
    assert.deepEqual([answer.status, nameOf(answer)], [200, 'in pieces 😀']);
  });

  test('a write for every byte, head and body', async () => {
    const connection = await service.connect();
    const bytes = bytesOf(await service.sign({ method: 'PATCH', path: imagePath, body }));
    for (const byte of bytes) await connection.write(Buffer.from([byte]));
    const answer = await connection.answer();
    assert.deepEqual([answer.status, nameOf(answer)], [200, 'in pieces 😀']);
  });

  test('chunk extensions and trailers are no part of it', async () => {
    const size = Buffer.byteLength(body).toString(16);
    const extended = `${size};a="b"\r\n${body}\r\n0\r\nx-amz-client-token: a\r\n\r\n`;
    const answer = await exchange(service.port, Buffer.concat([await head(), Buffer.from(extended)]));
    assert.deepEqual([answer.status, nameOf(answer)], [200, 'in pieces 😀']);
  });

  test('a client that asks first is told to go on', async () => {
    const message = await service.sign({ method: 'PATCH', path: imagePath, body });
    const bytes = bytesOf({ ...message, headers: [...message.headers, ['expect', '100-continue']] });
    const connection = await service.connect();
    await connection.write(bytes.subarray(0, bytes.length - message.body.length));
    assert.equal((await connection.answer()).status, 100);
    await connection.write(message.body);
    assert.equal((await connection.answer()).status, 200);
  });
});

describe('bodies that are too large', () => {
  const MEBIBYTES = 20;

  /** Sends the body block by block. @returns how much more memory was held in the midst of it. */
  async function flood(connection: Connection, head: string, block: Buffer): Promise<number> {
    const before = heldBytes();
    let most = 0;
    await connection.write(head);
    for (let sent = BLOCK.length; sent <= MEBIBYTES * MEBIBYTE; sent += BLOCK.length) {
      await connection.write(block);
      if (sent % (4 * MEBIBYTE) === 0) most = Math.max(most, heldBytes() - before);
    }
    return most;
  }

  const framings: [string, string, Buffer, string][] = [
    ['announced', `Content-Length: ${MEBIBYTES * MEBIBYTE}`, BLOCK, ''],
    ['chunked', 'Transfer-Encoding: chunked', chunked(BLOCK), LAST_CHUNK],
  ];
  for (const [what, framing, block, end] of framings) {
    test(`${MEBIBYTES} MiB, ${what}: refused once all was sent, thrown away meanwhile`, async () => {
      const before = service.snapshot();
      const connection = await service.connect();
      const most = await flood(connection, `POST ${imagesPath} HTTP/1.1\r\nHost: x\r\n${framing}\r\n\r\n`, block);
      await connection.write(end);
      requireRefusal(await connection.answer(), [413, 'RequestEntityTooLargeException', 'BODY_TOO_LARGE']);
      assert.ok(most < 8 * MEBIBYTE, `${most} bytes were held`);
      await connection.write(bytesOf(await service.sign({ path: imagePath })));
      assert.equal((await connection.answer()).status, 200, 'the connection goes on');
      assert.deepEqual(service.snapshot(), before);
    });
  }

  test('to a path that is no operation: its client learns that too', async () => {
    const connection = await service.connect();
    const head = `POST ${API}/none HTTP/1.1\r\nHost: x\r\nContent-Length: ${MEBIBYTES * MEBIBYTE}\r\n\r\n`;
    assert.ok((await flood(connection, head, BLOCK)) < 8 * MEBIBYTE);
    requireRefusal(await connection.answer(), [413, 'RequestEntityTooLargeException', 'BODY_TOO_LARGE']);
    await connection.write(`POST ${API}/none HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello`);
    requireRefusal(await connection.answer(), [404, 'UnknownOperationException', 'UNKNOWN_OPERATION']);
  });

  test('a body as large as it may be is read, one byte more is not', async () => {
    const limit = service.service.parts.config.bodyBytesMax;
    const padded = (bytes: number) => `{"name":"at the limit"${' '.repeat(bytes - 23)}}`;
    const atLimit = await service.call({ method: 'PATCH', path: imagePath, body: padded(limit) });
    assert.equal(atLimit.status, 200);
    const message = await service.sign({ method: 'PATCH', path: imagePath, body: padded(limit + 1) });
    assert.equal(message.body.length, limit + 1);
    const answer = await service.send(message);
    requireRefusal(answer, [413, 'RequestEntityTooLargeException', 'BODY_TOO_LARGE']);
    assert.deepEqual(JSON.parse(answer.body).context, { bodyBytesMax: String(limit) });
  });
});

describe('what is no HTTP', () => {
  const garbage: [string, string | Buffer][] = [
    ['words', 'hello\r\n\r\n'],
    ['zero bytes', Buffer.alloc(100)],
    ['random bytes', Buffer.from('f3a19c00d1ffee8e0d0a0d0a7f', 'hex')],
    ['the beginning of TLS', Buffer.from('1603010200010001fc0303', 'hex')],
    ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['HTTP/9.9', 'GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n'],
    ['a method that nobody knows', 'FETCH /healthz HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a blank in the path', 'GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n'],
    ['a header without a colon', 'GET /healthz HTTP/1.1\r\nHost x\r\n\r\n'],
    ['a blank before the colon', 'GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n'],
    ['a folded header', 'GET /healthz HTTP/1.1\r\nHost: x\r\n y\r\n\r\n'],
    ['a zero byte in a header', 'GET /healthz HTTP/1.1\r\nHost: x\0y\r\n\r\n'],
    ['two lengths', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab'],
    [
      'a length and chunks',
      `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n${LAST_CHUNK}`,
    ],
    ['a negative length', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n'],
    ['a length that is no number', 'POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0x10\r\n\r\n'],
    ['a length beyond all', `POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\n`],
    ['chunks twice', `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n${LAST_CHUNK}`],
    [
      'a chunk that is longer than it says',
      `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n`,
    ],
    ['a chunk whose size is no number', `POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n`],
    ['a tunnel', 'CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n'],
  ];
  for (const [what, bytes] of garbage) {
    test(what, async () => {
      const connection = await service.connect();
      await connection.write(bytes);
      const answer = await connection.answer();
      requireRefusal(answer, [400, 'ValidationException', what === 'a tunnel' ? 'NO_PROXY' : 'MALFORMED_HTTP']);
      assert.equal(answer.headers.get('connection'), 'close');
      await connection.closed;
      assert.equal(connection.rest, '', 'one answer, not two');
    });
  }

  test('garbage behind /metrics, which takes a moment', async () => {
    const connection = await service.connect();
    await connection.write('GET /metrics HTTP/1.1\r\nHost: x\r\n\r\ngarbage\r\n\r\n');
    assert.equal((await connection.answer()).status, 200);
    requireRefusal(await connection.answer(), [400, 'ValidationException', 'MALFORMED_HTTP']);
  });

  test('megabytes of it: the client that sends them still gets the answer', async () => {
    const connection = await service.connect();
    for (let block = 0; block < 64; block += 1) await connection.write(BLOCK);
    requireRefusal(await connection.answer(), [400, 'ValidationException', 'MALFORMED_HTTP']);
  });

  test('a client that goes on sending it is not cut off before it can have read why', async () => {
    const connection = await service.connect({ allowHalfOpen: true });
    for (let block = 0; block < 3; block += 1) {
      await connection.write(BLOCK);
      await healthy();
    }
    requireRefusal(await connection.answer(), [400, 'ValidationException', 'MALFORMED_HTTP']);
    assert.equal(connection.error, undefined);
  });

  test('HTTP/1.1 without a host', async () => {
    const answer = await exchange(service.port, `GET ${imagePath} HTTP/1.1\r\n\r\n`);
    requireRefusal(answer, [400, 'ValidationException', 'HOST_MISSING']);
  });

  test('an expectation that nobody knows is passed over', async () => {
    assert.equal((await service.call({ path: imagePath, headers: { expect: 'the unexpected' } })).status, 200);
  });

  test('an upgrade that nobody offers', async () => {
    const headers = 'Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13';
    const answer = await exchange(service.port, `GET ${API}/none HTTP/1.1\r\n${headers}\r\n\r\n`);
    requireRefusal(answer, [404, 'UnknownOperationException', 'UNKNOWN_OPERATION']);
  });

  test('the server goes on', healthy);
});

describe('heads that are too large', () => {
  const tooLarge = async (bytes: string) => {
    const connection = await service.connect();
    await connection.write(bytes);
    requireRefusal(await connection.answer(), [431, 'ValidationException', 'HEADERS_TOO_LARGE']);
    await connection.closed;
  };
  const get = `GET ${imagePath} HTTP/1.1\r\nHost: x\r\n`;

  test('one header', () => tooLarge(`${get}X-Long: ${'x'.repeat(20_000)}\r\n\r\n`));
  test('many headers', () => tooLarge(`${get}${'X-Many: y\r\n'.repeat(2_000)}\r\n`));
  test('a path', () => tooLarge(`GET ${API}/studios/${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`));
  test('megabytes of them', () => tooLarge(`${get}${`X-Long: ${'x'.repeat(10_000)}\r\n`.repeat(200)}\r\n`));

  test('what still fits is read', async () => {
    assert.equal((await service.call({ path: imagePath, headers: { 'x-long': 'x'.repeat(14_000) } })).status, 200);
  });
});

describe('one connection, many requests', () => {
  test('they are answered one after another, errors too', async () => {
    const connection = await service.connect();
    const get = bytesOf(await service.sign({ path: imagePath }));
    const none = bytesOf(await service.sign({ path: `${imagesPath}/none` }));
    const broken = bytesOf(await service.sign({ method: 'PATCH', path: imagePath, body: '{' }));
    for (const [bytes, status] of [
      [get, 200],
      [none, 404],
      [broken, 400],
      [get, 200],
      [get, 200],
    ] as const) {
      await connection.write(bytes);
      const answer = await connection.answer();
      assert.equal(answer.status, status);
      assert.equal(answer.headers.get('connection'), 'keep-alive');
    }
  });

  test('the same when they are sent all at once', async () => {
    const ids = Array.from({ length: 20 }, (_, index) => `none-${index}`);
    const get = await service.sign({ path: imagePath });
    const messages = await Promise.all(ids.map((id) => service.sign({ path: `${imagesPath}/${id}` })));
    const connection = await service.connect();
    await connection.write(Buffer.concat(messages.flatMap((message) => [bytesOf(message), bytesOf(get)])));
    for (const id of ids) {
      assert.equal(JSON.parse((await connection.answer()).body).context.resourceId, id);
      assert.equal((await connection.answer()).status, 200);
    }
  });

  test('a client that sends no more, but still listens, gets its answer', async () => {
    const connection = await service.connect({ allowHalfOpen: true });
    await connection.write(bytesOf(await service.sign({ path: imagePath })));
    connection.end();
    assert.equal((await connection.answer()).status, 200);
    await connection.closed;
  });
});

describe('connections that are broken off', () => {
  test('in the middle of a body: nothing is changed', async () => {
    const before = service.snapshot();
    const body = JSON.stringify({ name: 'half', description: 'x'.repeat(100) });
    const bytes = bytesOf(await service.sign({ method: 'PATCH', path: imagePath, body }));
    const answered = () => statusCount(499);
    const countBefore = await answered();
    for (let cut = 1; cut <= 8; cut += 1) {
      const connection = await service.connect();
      await connection.write(bytes.subarray(0, bytes.length - cut));
      connection.destroy();
    }
    await until('all of them are given up', async () => (await answered()) === countBefore + 8);
    assert.deepEqual(service.snapshot(), before);
    await healthy();
  });

  async function statusCount(status: number): Promise<number> {
    const { body } = await exchange(service.port, 'GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n');
    const lines = [...body.matchAll(/^backlot_requests_total\{.*status="(\d+)"\} (\d+)$/gm)];
    return lines
      .filter(([, itsStatus]) => Number(itsStatus) === status)
      .reduce((sum, [, , count]) => sum + Number(count), 0);
  }

  test('before the answer: what was asked for is done all the same', async () => {
    const bytes = bytesOf(await service.sign({ method: 'PATCH', path: imagePath, body: { name: 'not waited for' } }));
    const connection = await service.connect();
    await connection.write(bytes);
    connection.end();
    await until('the name is changed', async () =>
      (await service.call({ path: imagePath })).body.includes('not waited for'),
    );
  });
});

// ---------------------------------------------------------------------------------------------------------------------

test('fifty half requests are timed out while others are served', async (t) => {
  const hasty = await startService(t, { settings: { requestMs: '0.5' } });
  const id = await makeStudio(hasty, 'hasty');
  const path = `${API}/studios/${encodeURIComponent(id)}`;
  const before = hasty.snapshot();
  const whole = bytesOf(await hasty.sign({ method: 'PATCH', path, body: { displayName: 'never' } }));
  const halves = [whole.subarray(0, 40), whole.subarray(0, whole.length - 1)];
  let waiting = 50;
  const answers = Promise.all(
    Array.from({ length: waiting }, async (_, index) => {
      const connection = await hasty.connect();
      await connection.write(halves[index % halves.length]!);
      const answer = await connection.answer();
      waiting -= 1;
      return answer;
    }),
  );
  let served = 0;
  for (; waiting > 0; served += 1) assert.equal((await hasty.call({ path })).status, 200);
  assert.ok(served > 10, `${served} were served meanwhile`);
  for (const answer of await answers) requireRefusal(answer, [408, 'ValidationException', 'REQUEST_TIMEOUT']);
  assert.deepEqual(hasty.snapshot(), before);
});

test('whoever is refused and does not hang up makes room all the same', async (t) => {
  const small = await startService(t, { settings: { connectionsMax: '4' } });
  for (let client = 1; client <= 5; client += 1) {
    await until(`there is room for client ${client}`, async () => {
      const connection = await small.connect({ allowHalfOpen: true });
      await connection.write('hello\r\n\r\n');
      return (await connection.answer()).status === 400;
    });
  }
});

// ---------------------------------------------------------------------------------------------------------------------

/** The server with nothing behind it but what the test says: reads are answered at once, changes when it lets them. */
async function bareServer(t: Owner, limits: Partial<ServerLimits> = {}) {
  const handlers = Object.fromEntries(operations.map(({ name }) => [name, name]));
  const release = Promise.withResolvers<void>();
  const performed: string[] = [];
  const sockets: Socket[] = [];
  const unparsable: Error[] = [];
  const counted: number[] = [];
  const server: Server = createApiServer<string, object>(
    {
      match: createRouter(operations, handlers).match,
      authenticate: () => ({}),
      admit: () => undefined,
      refused: () => undefined,
      perform: async ({ name, method }) => {
        performed.push(name);
        if (method !== 'GET') await release.promise;
        return JSON.stringify({ name });
      },
    },
    new Map(),
    { bodyBytesMax: MEBIBYTE, headerBytesMax: 16_384, requestMs: 30_000, connectionsMax: 100, ...limits },
    { arrived: () => undefined, answered: (_operation, status) => counted.push(status), failed: () => undefined },
  );
  server.on('connection', (socket: Socket) => sockets.push(socket));
  server.on('clientError', (error) => unparsable.push(error));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const connection = await Connection.open(port);
  t.after(() => connection.destroy());
  return { connection, port, performed, sockets, unparsable, counted, release: release.resolve };
}

const DELETE = `DELETE ${API}/studios/x HTTP/1.1\r\nHost: x\r\n\r\n`;

test('garbage behind a request that is still worked on: the request gets its own answer first', async (t) => {
  const { connection, performed, unparsable, release } = await bareServer(t);
  await connection.write(`${DELETE}${DELETE}garbage\r\n\r\n`);
  await until('both are worked on', () => performed.length === 2);
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on('warning', warn);
  t.after(() => process.off('warning', warn));
  for (let piece = 1; unparsable.length < 20; piece += 1) {
    await connection.write('more garbage\r\n');
    await until('it has arrived', () => unparsable.length >= piece);
  }
  release();
  for (let index = 0; index < 2; index += 1) {
    const answer = await connection.answer();
    assert.deepEqual(
      [answer.status, answer.body],
      [200, '{"name":"DeleteStudio"}'],
      'it was done, and its client is told so',
    );
  }
  requireRefusal(await connection.answer(), [400, 'ValidationException', 'MALFORMED_HTTP']);
  await connection.closed;
  assert.deepEqual(warnings, [], 'no listener for every piece');
});

for (const [what, bytes, code] of [
  ['garbage', 'garbage\r\n\r\n', 'MALFORMED_HTTP'],
  ['a tunnel', 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n', 'NO_PROXY'],
] as const) {
  test(`${what} right behind a request with a body, in one piece: the request gets its own answer first`, async (t) => {
    const { connection, performed, release } = await bareServer(t);
    await connection.write(`PATCH ${API}/studios/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}${bytes}`);
    await until('it is worked on', () => performed.length === 1);
    release();
    assert.equal((await connection.answer()).status, 200);
    requireRefusal(await connection.answer(), [400, 'ValidationException', code]);
    await connection.closed;
  });
}

test('a tunnel that is asked for and broken off at once ends nothing but itself', async (t) => {
  const uncaught: Error[] = [];
  const note = (error: Error) => uncaught.push(error);
  process.on('uncaughtExceptionMonitor', note);
  t.after(() => process.off('uncaughtExceptionMonitor', note));
  for (let round = 0; round < 50; round += 1) {
    const client = connect(service.port, '127.0.0.1');
    await once(client, 'connect');
    client.write('CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n');
    client.resetAndDestroy();
  }
  await healthy();
  assert.deepEqual(uncaught, [], 'any of these would have ended the process');
});

test('a body that takes too long behind a request that is still worked on: the same', async (t) => {
  const { connection, unparsable, counted, release } = await bareServer(t, { requestMs: 100 });
  await connection.write(`${DELETE}POST ${API}/studios HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{`);
  await until('the second is given up', () => unparsable.length === 1);
  release();
  assert.equal((await connection.answer()).status, 200);
  requireRefusal(await connection.answer(), [408, 'ValidationException', 'REQUEST_TIMEOUT']);
  await connection.closed;
  assert.deepEqual(counted.sort(), [200, 408], 'what never became a request is counted as well');
});

test('a client that does not read its answers is cut off, and its answers do not pile up', async (t) => {
  const { port, sockets } = await bareServer(t, { silenceMs: 200 });
  const client = connect(port, '127.0.0.1').pause();
  client.on('error', () => undefined);
  t.after(() => client.destroy());
  await once(client, 'connect');
  const socket = await until('the server has it', () =>
    sockets.find(({ remotePort }) => remotePort === client.localPort),
  );
  // Far more than the buffers of both sides take.
  client.write(`GET ${API}/studios/x HTTP/1.1\r\nHost: x\r\n\r\n`.repeat(200_000));
  await until('it is cut off', () => socket.destroyed);
  assert.ok(socket.writableLength < MEBIBYTE, `${socket.writableLength} bytes wait`);
});

test('a body in chunks of one byte takes little more memory than its bytes', async (t) => {
  const { connection, sockets } = await bareServer(t);
  const before = heldBytes();
  const head = `POST ${API}/studios HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const pieces = chunked(...Array<string>(10_000).fill('x'));
  await connection.write(head);
  for (let round = 0; round < 20; round += 1) await connection.write(pieces);
  await until('all of it has arrived', () => sockets[0]!.bytesRead === head.length + 20 * pieces.length);
  const bytes = heldBytes() - before;
  assert.ok(bytes < 4 * MEBIBYTE, `${bytes} bytes are held for 200000`);
});
