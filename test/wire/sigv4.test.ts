/**
 * The published Signature Version 4 vectors, on the pure functions and through Node's HTTP parser.
 *
 * The vectors come as objects, so the target and the headers are written here as a client writes them: query escaped,
 * repeated headers repeated, spaces around values. Three ways of writing differ from the vector, and are asserted to:
 *
 * - get-utf8 signs the raw bytes of a path. HTTP carries the path escaped, and an escaped path is escaped once more
 *   before it is signed, so the escaped form has another signature. Node's parser refuses the raw form.
 * - post-vanilla-query-nonunreserved has a parameter named `+`. Written raw, a plus is a space.
 * - post-sts-header-after adds the session token after signing. The signature holds, since the token is no part of it;
 *   the authenticator refuses the request, since every x-amz-* header must be signed (authenticate.test.ts, rule 9).
 */
import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { after, before, describe, test } from 'node:test';
import {
  canonicalPath,
  canonicalRequest,
  payloadHashOf,
  readHeaders,
  readQuery,
  type SignedRequest,
} from '../../src/wire/canonical-request.ts';
import {
  ALGORITHM,
  deriveSigningKey,
  equalInConstantTime,
  parseHeaderClaim,
  parseQueryClaim,
  parseTimestamp,
  sign,
  stringToSign,
  verify,
} from '../../src/wire/sigv4.ts';

interface Vector {
  readonly name: string;
  readonly request: {
    readonly method: string;
    readonly path: string;
    readonly query: Readonly<Record<string, string>>;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: string;
  };
  readonly authorization: string;
}

interface Suite {
  readonly region: string;
  readonly service: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  readonly requests: readonly Vector[];
}

const suitePath: string = 'sigv4-vectors/dist-es/suite.fixture.js';
const suite: Suite = await import(suitePath);
const { secretAccessKey } = suite.credentials;
const DATE = '20150830';
const vectorKey = deriveSigningKey(secretAccessKey, DATE, suite.region, suite.service);

/** These hold several values, which the text of the suite sends as one header line each. */
const SENT_REPEATED = new Set(['get-header-key-duplicate', 'get-header-value-order', 'get-header-value-multiline']);

function targetOf({ request }: Vector): string {
  const query = Object.entries(request.query).map(
    ([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`,
  );
  return query.length === 0 ? request.path : `${request.path}?${query.reverse().join('&')}`;
}

function requestOf(vector: Vector): SignedRequest {
  const rawHeaders: string[] = [];
  for (const [name, value] of Object.entries(vector.request.headers)) {
    const values = SENT_REPEATED.has(vector.name) && name === 'my-header1' ? value.split(',') : [value];
    for (const each of values) rawHeaders.push(name.toUpperCase(), name.startsWith('my-') ? `  ${each} ` : each);
  }
  rawHeaders.push('Authorization', vector.authorization);
  const body = Buffer.from(vector.request.body ?? '');
  return { method: vector.request.method, target: targetOf(vector), rawHeaders, body };
}

function verifies(request: SignedRequest): boolean {
  const headers = readHeaders(request.rawHeaders);
  const claim = parseHeaderClaim(headers);
  const query = readQuery(request.target);
  return verify(vectorKey, claim, canonicalRequest(request, query, headers, claim.signer, payloadHashOf(request.body)));
}

function vectorNamed(name: string): SignedRequest {
  return requestOf(suite.requests.find((vector) => vector.name === name)!);
}

/** The same signature with its last digit changed. */
function withOtherSignature(request: SignedRequest): SignedRequest {
  const authorization = request.rawHeaders.at(-1)!;
  const otherDigit = authorization.endsWith('0') ? '1' : '0';
  return { ...request, rawHeaders: [...request.rawHeaders.slice(0, -1), authorization.slice(0, -1) + otherDigit] };
}

describe('published vectors, pure functions', () => {
  for (const vector of suite.requests) {
    test(vector.name, () => {
      const request = requestOf(vector);
      assert.equal(verifies(request), true);
      assert.equal(verifies(withOtherSignature(request)), false);
      assert.equal(verifies({ ...request, method: 'PUT' }), false);
      assert.equal(verifies({ ...request, body: Buffer.from('another body') }), false);
    });
  }

  test('all 24 are there', () => assert.equal(suite.requests.length, 24));

  test('get-utf8, escaped as HTTP needs it, is another request', () => {
    assert.equal(verifies({ ...vectorNamed('get-utf8'), target: '/%E1%88%B4' }), false);
    assert.equal(canonicalPath('/%E1%88%B4'), '/%25E1%2588%25B4');
  });

  test('get-vanilla-utf8-query is one request, raw or escaped', () => {
    assert.equal(verifies({ ...vectorNamed('get-vanilla-utf8-query'), target: '/?ሴ=bar' }), true);
  });

  test('post-vanilla-query-nonunreserved with a raw plus is another request', () => {
    const request = vectorNamed('post-vanilla-query-nonunreserved');
    const rawPlus = request.target.replace('%2B', '+');
    assert.notEqual(rawPlus, request.target);
    assert.equal(verifies({ ...request, target: rawPlus }), false);
  });

  test('post-sts-header-after keeps its signature when a token is added', () => {
    const request = vectorNamed('post-sts-header-after');
    const rawHeaders = ['X-Amz-Security-Token', 'added later', ...request.rawHeaders];
    assert.equal(verifies({ ...request, rawHeaders }), true);
  });
});

describe("published vectors, through Node's HTTP parser", () => {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const { method, url, rawHeaders } = request;
      const isVerified = verifies({ method: method!, target: url!, rawHeaders, body: Buffer.concat(chunks) });
      response.writeHead(isVerified ? 204 : 403, { Connection: 'close' }).end();
    });
  });
  before(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  after(() => server.close());

  /** Writes the request byte for byte, which no HTTP client would do. */
  async function statusOf(vector: Vector): Promise<string> {
    const { method, target, rawHeaders, body } = requestOf(vector);
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    let text = `${method} ${target} HTTP/1.1\r\n`;
    for (let index = 0; index < rawHeaders.length; index += 2)
      text += `${rawHeaders[index]}:${rawHeaders[index + 1]}\r\n`;
    socket.write(`${text}Content-Length: ${body.length}\r\n\r\n`);
    socket.write(body);
    let answer = '';
    for await (const chunk of socket) answer += chunk;
    return answer.slice('HTTP/1.1 '.length, 'HTTP/1.1 200'.length);
  }

  for (const vector of suite.requests) {
    const isRefusedByParser = vector.name === 'get-utf8';
    test(`${vector.name}${isRefusedByParser ? ' is refused by the parser' : ''}`, async () => {
      assert.equal(await statusOf(vector), isRefusedByParser ? '400' : '204');
    });
  }
});

describe('timestamps', () => {
  test('a moment', () => assert.equal(parseTimestamp('20150830T123600Z'), Date.UTC(2015, 7, 30, 12, 36, 0)));
  test('a leap day', () => assert.equal(parseTimestamp('20240229T235959Z'), Date.UTC(2024, 1, 29, 23, 59, 59)));
  for (const text of [
    '',
    '20150830',
    '2015-08-30T12:36:00Z',
    '20150830T123600',
    '20150830t123600z',
    '20150830T123600Z ',
    '20150230T000000Z',
    '20230229T000000Z',
    '20151301T000000Z',
    '20150001T000000Z',
    '20150100T000000Z',
    '20150830T240000Z',
    '20150830T126000Z',
    '20150830T123660Z',
    '2015083xT123600Z',
    'x0150830T123600Z',
    '20150830T12360xZ',
    '٢٠١٥٠٨٣٠T123600Z',
  ]) {
    test(`${text || 'nothing'} is none`, () => assert.equal(parseTimestamp(text), undefined));
  }
});

describe('claims', () => {
  const start = `${ALGORITHM} Credential=AKID/${DATE}/us-east-1/nimble/aws4_request, SignedHeaders=host;x-amz-date, Signature=`;
  const signature = 'ab'.repeat(32);
  const claimOf = (authorization: string) =>
    parseHeaderClaim(readHeaders(['authorization', authorization, 'x-amz-date', '20150830T123600Z']));

  test('the header form', () => {
    assert.deepEqual(claimOf(start + signature), {
      form: 'header',
      signer: {
        accessKeyId: 'AKID',
        scope: { date: DATE, region: 'us-east-1', service: 'nimble', terminator: 'aws4_request' },
        signedHeaders: ['host', 'x-amz-date'],
        signedHeaderList: 'host;x-amz-date',
      },
      timestamp: '20150830T123600Z',
      signature,
      sessionToken: undefined,
      expiresSeconds: undefined,
    });
  });

  test('the header form without spaces', () => {
    assert.equal(claimOf(start.replaceAll(', ', ',') + signature).signer.accessKeyId, 'AKID');
  });

  const malformed: Record<string, string> = {
    nothing: '',
    'another scheme': 'Basic dXNlcjpwYXNz',
    'another algorithm': start.replace('SHA256', 'SHA1') + signature,
    'the algorithm alone': ALGORITHM,
    'no credential': start.replace(/Credential=[^,]*, /, '') + signature,
    'no signed headers': start.replace(/SignedHeaders=[^,]*, /, '') + signature,
    'no signature': start.replace(', Signature=', ''),
    'an empty signature': start,
    'a short signature': start + signature.slice(1),
    'a long signature': `${start}${signature}a`,
    'an upper-case signature': start + signature.toUpperCase(),
    'a signature of no digits': `${start}${'zz'.repeat(32)}`,
    'two signatures': `${start}${signature}, Signature=${signature}`,
    'two credentials': `${start.replace('Credential=', 'Credential=OTHER/a/b/c/d, Credential=')}${signature}`,
    'four parts of a credential': start.replace('/aws4_request', '') + signature,
    'six parts of a credential': start.replace('/aws4_request', '/aws4_request/more') + signature,
    'an empty access key id': start.replace('AKID', '') + signature,
    'signed headers out of order': start.replace('host;x-amz-date', 'x-amz-date;host') + signature,
    'signed headers twice': start.replace('host;', 'host;host;') + signature,
    'signed headers in upper case': start.replace('host', 'Host') + signature,
    'an empty signed header': start.replace('host;', ';host;') + signature,
  };
  for (const [what, authorization] of Object.entries(malformed)) {
    test(`${what} in the Authorization header is refused`, () => {
      assert.throws(() => claimOf(authorization), { name: 'IncompleteSignatureException' });
    });
  }

  test('the missing parts are named', () => {
    assert.throws(() => claimOf(`${ALGORITHM} Signature=${signature}`), {
      message:
        "Authorization header requires 'Credential' parameter. Authorization header requires 'SignedHeaders' parameter.",
    });
  });

  const presigned = {
    'X-Amz-Algorithm': ALGORITHM,
    'X-Amz-Credential': `AKID/${DATE}/us-east-1/nimble/aws4_request`,
    'X-Amz-Date': '20150830T123600Z',
    'X-Amz-Expires': '60',
    'X-Amz-SignedHeaders': 'host',
    'X-Amz-Signature': signature,
  };
  const queryClaimOf = (parameters: Record<string, string>) =>
    parseQueryClaim(Object.entries(parameters).map(([name, value]) => ({ name, value })));

  test('the query form', () => {
    const claim = queryClaimOf({ ...presigned, 'X-Amz-Security-Token': 'token' });
    assert.deepEqual([claim.form, claim.expiresSeconds, claim.sessionToken], ['query', 60, 'token']);
  });

  for (const name of Object.keys(presigned)) {
    test(`the query form without ${name} is refused`, () => {
      assert.throws(() => queryClaimOf({ ...presigned, [name]: '' }), {
        name: 'IncompleteSignatureException',
        message: `AWS query-string parameters must include '${name}'.`,
      });
    });
  }

  for (const text of ['0', '-1', '1.5', '604801', '1e3', ' 60', 'a', '٦٠']) {
    test(`X-Amz-Expires of ${text} is refused`, () => {
      assert.throws(() => queryClaimOf({ ...presigned, 'X-Amz-Expires': text }), {
        name: 'IncompleteSignatureException',
      });
    });
  }

  test('X-Amz-Expires from a second to a week', () => {
    assert.equal(queryClaimOf({ ...presigned, 'X-Amz-Expires': '1' }).expiresSeconds, 1);
    assert.equal(queryClaimOf({ ...presigned, 'X-Amz-Expires': '604800' }).expiresSeconds, 604_800);
  });
});

describe('signature', () => {
  test('is the HMAC of the string to sign under the derived key', () => {
    const canonical = 'any text at all: é';
    let key: string | Buffer = `AWS4${secretAccessKey}`;
    for (const part of [DATE, 'us-east-1', 'nimble', 'aws4_request'])
      key = createHmac('sha256', key).update(part).digest();
    const text = stringToSign(
      '20150830T123600Z',
      `${DATE}/us-east-1/nimble/aws4_request`,
      createHash('sha256').update(canonical).digest('hex'),
    );
    const expected = createHmac('sha256', key).update(text).digest('hex');
    const signingKey = deriveSigningKey(secretAccessKey, DATE, 'us-east-1', 'nimble');
    assert.equal(sign(signingKey, '20150830T123600Z', canonical), expected);
    sign(signingKey, '20150830T235959Z', 'something else in between');
    assert.equal(sign(signingKey, '20150830T123600Z', canonical), expected);
  });

  test('of a timestamp of another length is a mistake of the caller', () => {
    assert.throws(() => sign(vectorKey, '20150830', ''), RangeError);
  });

  test('equal texts are equal, others are not', () => {
    assert.equal(equalInConstantTime('token', 'token'), true);
    assert.equal(equalInConstantTime('token', 'tokeN'), false);
    assert.equal(equalInConstantTime('token', 'token '), false);
    assert.equal(equalInConstantTime('é', 'e'), false);
  });
});
