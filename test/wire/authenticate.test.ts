/**
 * The rules by which a signed request is believed, one group each. Requests are signed here from a canonical request
 * that the test spells out, so that nothing of the code under test decides what is right. The last group is the real
 * client of the API against a real server.
 */
import assert from 'node:assert/strict';
import { createHash, createHmac, hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, describe, test } from 'node:test';
import {
  ListTagsForResourceCommand,
  NimbleClient,
  TagResourceCommand,
  UntagResourceCommand,
  UpdateStreamingImageCommand,
} from '@aws-sdk/client-nimble';
import { systemClock } from '../../src/clock.ts';
import { type ErrorName, ServiceError } from '../../src/errors.ts';
import { type AuthenticateOptions, type Credential, createAuthenticator } from '../../src/wire/authenticate.ts';
import { canonicalPath, type SignedRequest } from '../../src/wire/canonical-request.ts';

const REGION = 'us-west-2';
const HOST = 'studio.example';
const SKEW_MS = 5 * 60_000;
const TIMESTAMP = '20260301T000000Z';
const SIGNED_AT = Date.UTC(2026, 2, 1);
const PATH = '/2020-08-01/studios/abc';

const permanent: Credential = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'a/secret+of=ours', principalId: 'ada' };
const TOKEN = 'token/of+ben==';
const temporary: Credential = {
  accessKeyId: 'ASIAEXAMPLE',
  secretAccessKey: 'another secret',
  principalId: 'ben',
  sessionTokenDigest: hash('sha256', TOKEN),
  expiresAt: SIGNED_AT + 60_000,
};

function authenticator(changes: Partial<AuthenticateOptions> = {}) {
  return createAuthenticator({
    region: REGION,
    clockSkewMs: SKEW_MS,
    allowUnsignedPayload: false,
    clock: { now: () => SIGNED_AT },
    findCredential: (id) => [permanent, temporary].find(({ accessKeyId }) => accessKeyId === id),
    ...changes,
  });
}

// ---------------------------------------------------------------------------------------------------------------------
// Signing by hand

type Header = readonly [name: string, value: string];

interface Draft {
  readonly credential: Credential;
  readonly method: string;
  readonly target: string;
  readonly canonicalPath: string;
  readonly canonicalQuery: string;
  readonly host: string;
  /** What is signed as x-amz-date. */
  readonly timestamp: string;
  readonly scope: string;
  /** Signed beside host and x-amz-date. */
  readonly headers: readonly Header[];
  /** Sent, but not signed. */
  readonly unsignedHeaders: readonly Header[];
  readonly signedHeaders: string | undefined;
  readonly body: string;
  readonly payloadHash: string | undefined;
}

const ordinary: Draft = {
  credential: permanent,
  method: 'GET',
  target: PATH,
  canonicalPath: PATH,
  canonicalQuery: '',
  host: HOST,
  timestamp: TIMESTAMP,
  scope: `20260301/${REGION}/nimble/aws4_request`,
  headers: [],
  unsignedHeaders: [],
  signedHeaders: undefined,
  body: '',
  payloadHash: undefined,
};

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function signatureOf(draft: Draft, headers: readonly Header[]): string {
  const lines = headers.map(([name, value]) => `${name}:${value}\n`).join('');
  const names = headers.map(([name]) => name).join(';');
  const payloadHash = draft.payloadHash ?? sha256(draft.body);
  const { method, canonicalPath, canonicalQuery } = draft;
  const canonical = [method, canonicalPath, canonicalQuery, lines, draft.signedHeaders ?? names, payloadHash].join(
    '\n',
  );
  let key: string | Buffer = `AWS4${draft.credential.secretAccessKey}`;
  for (const part of draft.scope.split('/')) key = createHmac('sha256', key).update(part).digest();
  const text = ['AWS4-HMAC-SHA256', draft.timestamp, draft.scope, sha256(canonical)].join('\n');
  return createHmac('sha256', key).update(text).digest('hex');
}

/** In the header form. */
function signed(changes: Partial<Draft> = {}): SignedRequest {
  const draft = { ...ordinary, ...changes };
  const headers = [['host', draft.host], ['x-amz-date', draft.timestamp], ...draft.headers] as Header[];
  headers.sort(([left], [right]) => (left < right ? -1 : 1));
  const names = draft.signedHeaders ?? headers.map(([name]) => name).join(';');
  const authorization = `AWS4-HMAC-SHA256 Credential=${draft.credential.accessKeyId}/${draft.scope}, SignedHeaders=${names}, Signature=${signatureOf(draft, headers)}`;
  const sent = [...headers, ...draft.unsignedHeaders, ['authorization', authorization]];
  return { method: draft.method, target: draft.target, rawHeaders: sent.flat(), body: Buffer.from(draft.body) };
}

/** In the query form; `parameters` are signed with the rest. */
function presigned(parameters: Readonly<Record<string, string>> = {}, changes: Partial<Draft> = {}): SignedRequest {
  const draft = { ...ordinary, ...changes };
  const query = {
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${draft.credential.accessKeyId}/${draft.scope}`,
    'X-Amz-Date': draft.timestamp,
    'X-Amz-Expires': '60',
    'X-Amz-SignedHeaders': 'host',
    ...parameters,
  };
  const canonicalQuery = Object.entries(query)
    .map((pair) => pair.map(encodeURIComponent).join('='))
    .sort()
    .join('&');
  const signature = signatureOf({ ...draft, canonicalQuery }, [['host', draft.host]]);
  const target = `${draft.target}?X-Amz-Signature=${signature}&${canonicalQuery}`;
  const rawHeaders = [['host', draft.host], ...draft.unsignedHeaders].flat();
  return { method: draft.method, target, rawHeaders, body: Buffer.from(draft.body) };
}

async function assertAccepted(request: SignedRequest, changes: Partial<AuthenticateOptions> = {}): Promise<void> {
  const id = /Credential=([^/]+)\//.exec(
    `${request.target} ${request.rawHeaders.join(' ')}`.replaceAll('%2F', '/'),
  )![1];
  assert.equal((await authenticator(changes)(request)).accessKeyId, id);
}

async function assertRefused(
  request: SignedRequest,
  name: ErrorName,
  code: string,
  changes: Partial<AuthenticateOptions> = {},
): Promise<ServiceError> {
  try {
    await authenticator(changes)(request);
  } catch (error) {
    assert.ok(error instanceof ServiceError, String(error));
    assert.deepEqual([error.name, error.code, error.status], [name, code, 403]);
    return error;
  }
  return assert.fail('the request was accepted');
}

const INCOMPLETE = 'IncompleteSignatureException';
const INVALID = 'InvalidSignatureException';
const UNRECOGNIZED = 'UnrecognizedClientException';

// ---------------------------------------------------------------------------------------------------------------------

describe('rule 1: the canonical path is the raw target encoded again', () => {
  test('an escaped label is escaped once more', async () => {
    const target = '/2020-08-01/tags/arn%3Aaws%3Animble%3A%3A%3Astreaming-image%2Fimg-1';
    const twice = '/2020-08-01/tags/arn%253Aaws%253Animble%253A%253A%253Astreaming-image%252Fimg-1';
    await assertAccepted(signed({ target, canonicalPath: twice }));
    await assertRefused(signed({ target, canonicalPath: target }), INVALID, 'SIGNATURE_MISMATCH');
  });

  test('dot segments and empty segments are resolved, escaped dots are not', async () => {
    await assertAccepted(signed({ target: '/a/./b//../c', canonicalPath: '/a/c' }));
    await assertAccepted(signed({ target: '/a/%2e%2e/c', canonicalPath: '/a/%252e%252e/c' }));
    await assertRefused(signed({ target: '/a/%2e%2e/c', canonicalPath: '/c' }), INVALID, 'SIGNATURE_MISMATCH');
  });
});

describe('rule 2: a label is what its raw text says', () => {
  for (const target of ['/tags/a/b', '/tags/a%2fb', '/tags/%61%2Fb', '/tags/a%252Fb', '/tags/a%2Fb/']) {
    test(`a signature of /tags/a%2Fb is none of ${target}`, async () => {
      const request = signed({ target: '/tags/a%2Fb', canonicalPath: '/tags/a%252Fb' });
      await assertAccepted(request);
      await assertRefused({ ...request, target }, INVALID, 'SIGNATURE_MISMATCH');
    });
  }
});

describe('rule 3: the query is decoded, encoded again and sorted', () => {
  const written = signed({
    target: `${PATH}?tagKeys=b&a=%C3%A9&tagKeys=a&empty`,
    canonicalQuery: 'a=%C3%A9&empty=&tagKeys=a&tagKeys=b',
  });

  test('repeats are kept, order and spelling are free', async () => {
    await assertAccepted(written);
    await assertAccepted({ ...written, target: `${PATH}?empty=&tagKeys=a&a=%c3%a9&tagKeys=%62` });
  });

  for (const query of [
    'tagKeys=b&a=%C3%A9&empty',
    'tagKeys=b&a=%C3%A9&tagKeys=a',
    'tagKeys=a%2Cb&a=%C3%A9&empty',
    '',
  ]) {
    test(`?${query} is another query`, async () => {
      await assertRefused({ ...written, target: `${PATH}?${query}` }, INVALID, 'SIGNATURE_MISMATCH');
    });
  }

  test('a raw plus is a space and an escaped one a plus', async () => {
    await assertAccepted(signed({ target: `${PATH}?a=1+2`, canonicalQuery: 'a=1%202' }));
    await assertAccepted(signed({ target: `${PATH}?a=1%2B2`, canonicalQuery: 'a=1%2B2' }));
    await assertRefused(signed({ target: `${PATH}?a=1+2`, canonicalQuery: 'a=1%2B2' }), INVALID, 'SIGNATURE_MISMATCH');
  });

  test('an escape that is no UTF-8 is refused', async () => {
    await assertRefused(signed({ target: `${PATH}?a=%FF`, canonicalQuery: 'a=%FF' }), INVALID, 'MALFORMED_QUERY');
  });
});

describe('rule 4: headers are read from the raw headers', () => {
  test('repeats are joined with a comma and runs of spaces collapse', async () => {
    const request = signed({ headers: [['my-header', 'a,b c']] });
    const rawHeaders = request.rawHeaders.filter((text) => text !== 'my-header' && text !== 'a,b c');
    await assertAccepted({ ...request, rawHeaders: ['MY-HEADER', ' a ', ...rawHeaders, 'my-header', 'b   c'] });
    await assertRefused(
      { ...request, rawHeaders: ['my-header', 'a, b c', ...rawHeaders] },
      INVALID,
      'SIGNATURE_MISMATCH',
    );
  });

  for (const name of ['host', 'authorization', 'x-amz-date', 'x-amz-content-sha256', 'x-amz-security-token']) {
    test(`${name} must not be repeated`, async () => {
      const unsignedHeaders: Header[] = [
        [name, 'one'],
        [name.toUpperCase(), 'one'],
      ];
      await assertRefused(signed({ unsignedHeaders }), INVALID, 'DUPLICATE_HEADER');
    });
  }
});

describe('rule 5: what is signed is listed in order and covers host and every x-amz-* header', () => {
  test('an unsigned x-amz-* header is refused', async () => {
    const error = await assertRefused(
      signed({ unsignedHeaders: [['X-Amz-Client-Token', 'added']] }),
      INVALID,
      'HEADER_UNSIGNED',
    );
    assert.match(error.message, /x-amz-client-token/);
  });

  test('a signed one must be as it was signed', async () => {
    const request = signed({ headers: [['x-amz-client-token', 'token-1']] });
    await assertAccepted(request);
    const rawHeaders = request.rawHeaders.map((text) => (text === 'token-1' ? 'token-2' : text));
    await assertRefused({ ...request, rawHeaders }, INVALID, 'SIGNATURE_MISMATCH');
  });

  test('x-amz-content-sha256 need not be listed: it is a line of the canonical request', async () => {
    await assertAccepted(signed({ unsignedHeaders: [['x-amz-content-sha256', sha256('')]] }));
    await assertAccepted(signed({ headers: [['x-amz-content-sha256', sha256('')]] }));
  });

  test('other headers need not be signed', async () => {
    await assertAccepted(
      signed({
        unsignedHeaders: [
          ['user-agent', 'any'],
          ['x-forwarded-for', '127.0.0.1'],
        ],
      }),
    );
  });

  test('host must be listed', async () => {
    await assertRefused(signed({ signedHeaders: 'x-amz-date' }), INVALID, 'HOST_UNSIGNED');
    await assertRefused(presigned({ 'X-Amz-SignedHeaders': 'my-header' }), INVALID, 'HOST_UNSIGNED');
  });

  test('a listed header must be there', async () => {
    await assertRefused(signed({ signedHeaders: 'host;my-header;x-amz-date' }), INVALID, 'SIGNED_HEADER_ABSENT');
  });

  for (const signedHeaders of [
    'x-amz-date;host',
    'host;host;x-amz-date',
    'Host;x-amz-date',
    'host;;x-amz-date',
    ';host',
  ]) {
    test(`SignedHeaders=${signedHeaders} is refused`, async () => {
      await assertRefused(signed({ signedHeaders }), INCOMPLETE, 'MALFORMED_SIGNED_HEADERS');
    });
  }
});

describe('rule 6: the body is hashed as it was received', () => {
  const post = { method: 'POST', body: '{"name":"a"}' };

  test('a body that was signed is accepted, with its hash in a header or without', async () => {
    await assertAccepted(signed(post));
    await assertAccepted(signed({ ...post, headers: [['x-amz-content-sha256', sha256(post.body)]] }));
  });

  test('another body is refused, though the claimed hash was signed', async () => {
    const claiming = signed({ ...post, headers: [['x-amz-content-sha256', sha256(post.body)]] });
    await assertRefused({ ...claiming, body: Buffer.from('{"name":"b"}') }, INVALID, 'PAYLOAD_MISMATCH');
    await assertRefused({ ...signed(post), body: Buffer.from('{"name":"b"}') }, INVALID, 'SIGNATURE_MISMATCH');
    await assertRefused({ ...signed(post), body: Buffer.alloc(0) }, INVALID, 'SIGNATURE_MISMATCH');
  });

  const unsignedPayload = signed({
    ...post,
    headers: [['x-amz-content-sha256', 'UNSIGNED-PAYLOAD']],
    payloadHash: 'UNSIGNED-PAYLOAD',
  });

  test('UNSIGNED-PAYLOAD is refused unless it is allowed', async () => {
    await assertRefused(unsignedPayload, INVALID, 'PAYLOAD_UNSIGNED');
    await assertAccepted(unsignedPayload, { allowUnsignedPayload: true });
  });

  test('UNSIGNED-PAYLOAD can not be put in place of a hash, where it is allowed', async () => {
    const request = signed(post);
    const rawHeaders = [...request.rawHeaders, 'x-amz-content-sha256', 'UNSIGNED-PAYLOAD'];
    await assertRefused({ ...request, rawHeaders }, INVALID, 'SIGNATURE_MISMATCH', { allowUnsignedPayload: true });
  });

  for (const payloadHash of [
    'STREAMING-AWS4-HMAC-SHA256-PAYLOAD',
    'STREAMING-UNSIGNED-PAYLOAD-TRAILER',
    'unsigned-payload',
    '',
  ]) {
    test(`x-amz-content-sha256 of ${payloadHash || 'nothing'} is refused`, async () => {
      const request = signed({ ...post, headers: [['x-amz-content-sha256', payloadHash]], payloadHash });
      await assertRefused(request, INVALID, 'PAYLOAD_MISMATCH', { allowUnsignedPayload: true });
    });
  }
});

describe('rule 7: the scope is of today, here, this service', () => {
  const scopes: Record<string, [scope: string, message: RegExp]> = {
    SCOPE_REGION: ['20260301/eu-west-1/nimble/aws4_request', /valid region: 'us-west-2'/],
    SCOPE_SERVICE: [`20260301/${REGION}/sts/aws4_request`, /correct service: 'nimble'/],
    SCOPE_TERMINATOR: [`20260301/${REGION}/nimble/aws5_request`, /valid terminator: 'aws4_request'/],
    SCOPE_DATE: [`20260228/${REGION}/nimble/aws4_request`, /Date in Credential scope does not match/],
  };
  for (const [code, [scope, message]] of Object.entries(scopes)) {
    test(`a signature of the scope ${scope} is refused`, async () => {
      assert.match((await assertRefused(signed({ scope }), INVALID, code)).message, message);
      assert.match((await assertRefused(presigned({}, { scope }), INVALID, code)).message, message);
    });
  }

  test('a scope date that is only the beginning of a date is refused', async () => {
    await assertRefused(signed({ scope: `202603/${REGION}/nimble/aws4_request` }), INVALID, 'SCOPE_DATE');
    await assertRefused(signed({ scope: `/${REGION}/nimble/aws4_request` }), INVALID, 'SCOPE_DATE');
  });

  for (const scope of [`20260301/${REGION}/nimble`, `20260301/${REGION}/nimble/aws4_request/more`]) {
    test(`the scope ${scope} has not four parts`, async () => {
      await assertRefused(signed({ scope }), INCOMPLETE, 'MALFORMED_CREDENTIAL');
    });
  }
});

describe('rule 8: the clock', () => {
  for (const [offsetMs, code] of [
    [SKEW_MS, undefined],
    [SKEW_MS + 1, 'SIGNATURE_EXPIRED'],
    [-SKEW_MS, undefined],
    [-SKEW_MS - 1, 'SIGNATURE_NOT_YET_CURRENT'],
  ] as const) {
    test(`${offsetMs} ms after signing a request is ${code ?? 'accepted'}`, async () => {
      const clock = { now: () => SIGNED_AT + offsetMs };
      if (code) await assertRefused(signed(), INVALID, code, { clock });
      else await assertAccepted(signed(), { clock });
    });
  }

  test('the refusal says by how much', async () => {
    const late = await assertRefused(signed(), INVALID, 'SIGNATURE_EXPIRED', {
      clock: { now: () => SIGNED_AT + 360_000 },
    });
    assert.equal(
      late.message,
      'Signature expired: 20260301T000000Z is now earlier than 20260301T000100Z (20260301T000600Z - 5 min.)',
    );
    const early = await assertRefused(signed(), INVALID, 'SIGNATURE_NOT_YET_CURRENT', {
      clock: { now: () => SIGNED_AT - 360_000 },
    });
    assert.equal(
      early.message,
      'Signature not yet current: 20260301T000000Z is still later than 20260228T235900Z (20260228T235400Z + 5 min.)',
    );
  });

  test('a day begins inside the window: the scope is of the day of signing', async () => {
    const timestamp = '20260228T235800Z';
    await assertAccepted(signed({ timestamp, scope: `20260228/${REGION}/nimble/aws4_request` }));
    await assertRefused(signed({ timestamp }), INVALID, 'SCOPE_DATE');
  });

  test('the time must be there and be a time', async () => {
    const request = signed();
    const rawHeaders = request.rawHeaders.filter((text) => text !== 'x-amz-date' && text !== TIMESTAMP);
    await assertRefused({ ...request, rawHeaders }, INCOMPLETE, 'SIGNATURE_INCOMPLETE');
    const withDate = [...rawHeaders, 'date', 'Sun, 01 Mar 2026 00:00:00 GMT'];
    await assertRefused({ ...request, rawHeaders: withDate }, INCOMPLETE, 'SIGNATURE_INCOMPLETE');
    for (const timestamp of ['20260301T000000', '20260301T250000Z', '20260301']) {
      await assertRefused(signed({ timestamp }), INCOMPLETE, 'MALFORMED_DATE');
    }
  });
});

describe('rule 9: a temporary credential comes with its token, and ends', () => {
  const withToken = (sessionToken: string, credential = temporary) =>
    signed({ credential, headers: [['x-amz-security-token', sessionToken]] });

  test('with its token, in either form', async () => {
    await assertAccepted(withToken(TOKEN));
    await assertAccepted(presigned({ 'X-Amz-Security-Token': TOKEN }, { credential: temporary }));
  });

  test('without, with another or an altered one', async () => {
    await assertRefused(signed({ credential: temporary }), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
    await assertRefused(presigned({}, { credential: temporary }), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
    for (const sessionToken of ['', 'token', 'token/of+ben=x', `${TOKEN}=`]) {
      await assertRefused(withToken(sessionToken), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
    }
  });

  test('a permanent credential has none', async () => {
    await assertRefused(withToken(TOKEN, permanent), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
  });

  test('a token that was added after signing is refused', async () => {
    const unsignedHeaders: Header[] = [['x-amz-security-token', TOKEN]];
    await assertRefused(signed({ credential: temporary, unsignedHeaders }), INVALID, 'HEADER_UNSIGNED');
  });

  test('to its last millisecond', async () => {
    const request = withToken(TOKEN);
    await assertAccepted(request, { clock: { now: () => temporary.expiresAt! - 1 } });
    const clock = { now: () => temporary.expiresAt! };
    await assertRefused(request, 'ExpiredTokenException', 'CREDENTIAL_EXPIRED', { clock });
  });

  test('only who holds the secret learns that it has ended', async () => {
    const request = withToken(TOKEN, { ...temporary, secretAccessKey: 'a guess' });
    await assertRefused(request, INVALID, 'SIGNATURE_MISMATCH', { clock: { now: () => temporary.expiresAt! } });
  });
});

describe('rule 10: the presigned form', () => {
  test('is accepted from the edge of the skew before to its last moment', async () => {
    await assertAccepted(presigned());
    await assertAccepted(presigned(), { clock: { now: () => SIGNED_AT - SKEW_MS } });
    await assertAccepted(presigned(), { clock: { now: () => SIGNED_AT + 60_000 } });
    const week = presigned({ 'X-Amz-Expires': '604800' });
    await assertAccepted(week, { clock: { now: () => SIGNED_AT + 604_800_000 } });
  });

  test('and neither sooner nor later', async () => {
    await assertRefused(presigned(), INVALID, 'SIGNATURE_NOT_YET_CURRENT', {
      clock: { now: () => SIGNED_AT - SKEW_MS - 1 },
    });
    await assertRefused(presigned(), INVALID, 'SIGNATURE_EXPIRED', { clock: { now: () => SIGNED_AT + 60_001 } });
  });

  for (const expires of ['0', '604801', '-1', '60.5', 'soon']) {
    test(`X-Amz-Expires=${expires} is refused`, async () => {
      await assertRefused(presigned({ 'X-Amz-Expires': expires }), INCOMPLETE, 'SIGNATURE_INCOMPLETE');
    });
  }

  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'HEAD']) {
    test(`is refused with ${method}`, async () => {
      await assertRefused(presigned({}, { method }), INVALID, 'PRESIGNED_METHOD');
    });
  }

  test('signs the hash of no body', async () => {
    await assertRefused(presigned({}, { payloadHash: 'UNSIGNED-PAYLOAD' }), INVALID, 'SIGNATURE_MISMATCH');
    const unsignedHeaders: Header[] = [['x-amz-content-sha256', 'UNSIGNED-PAYLOAD']];
    const unsignedPayload = presigned({}, { payloadHash: 'UNSIGNED-PAYLOAD', unsignedHeaders });
    await assertRefused(unsignedPayload, INVALID, 'PAYLOAD_MISMATCH', { allowUnsignedPayload: true });
    await assertRefused(presigned({}, { body: 'a body' }), INVALID, 'PRESIGNED_BODY');
  });

  test('comes alone: not with an Authorization header, a date or a token in headers', async () => {
    const { rawHeaders } = signed();
    await assertRefused({ ...presigned(), rawHeaders }, INVALID, 'CREDENTIALS_TWICE');
    for (const name of ['x-amz-date', 'X-Amz-Security-Token']) {
      const unsignedHeaders: Header[] = [[name, TIMESTAMP]];
      await assertRefused(presigned({}, { unsignedHeaders }), INVALID, 'CREDENTIALS_TWICE');
    }
  });

  test('an unsigned x-amz-* header is refused with it too', async () => {
    const unsignedHeaders: Header[] = [['x-amz-client-token', 'added']];
    await assertRefused(presigned({}, { unsignedHeaders }), INVALID, 'HEADER_UNSIGNED');
  });

  test('any one of its parameters alone is an incomplete signature', async () => {
    for (const name of ['X-Amz-Signature', 'x-amz-credential', 'X%2DAmz%2DAlgorithm', 'X-Amz-Security-Token']) {
      const request = { method: 'GET', target: `${PATH}?${name}=a`, rawHeaders: ['host', HOST], body: Buffer.alloc(0) };
      await assertRefused(request, INCOMPLETE, 'SIGNATURE_INCOMPLETE');
    }
  });
});

describe('rule 11: the host behind a proxy', () => {
  test('is the configured one, whatever the proxy sends', async () => {
    const request = signed();
    const rawHeaders = request.rawHeaders.map((text) => (text === HOST ? '10.0.0.7:8080' : text));
    await assertAccepted({ ...request, rawHeaders }, { publicHost: HOST });
    await assertRefused({ ...request, rawHeaders }, INVALID, 'SIGNATURE_MISMATCH');
    await assertRefused(request, INVALID, 'SIGNATURE_MISMATCH', { publicHost: 'elsewhere.example' });
  });

  test('is never taken from what anyone may send', async () => {
    const unsignedHeaders: Header[] = [
      ['X-Forwarded-Host', HOST],
      ['Forwarded', `host=${HOST}`],
    ];
    const request = signed({ unsignedHeaders });
    const rawHeaders = request.rawHeaders.map((text, index) =>
      request.rawHeaders[index - 1] === 'host' ? 'other' : text,
    );
    await assertRefused({ ...request, rawHeaders }, INVALID, 'SIGNATURE_MISMATCH');
  });
});

describe('rule 12: secrets, and what is said of them', () => {
  const stranger = { ...permanent, accessKeyId: 'AKIDNOBODY' };

  test('no credentials at all', async () => {
    const request = { method: 'GET', target: PATH, rawHeaders: ['host', HOST], body: Buffer.alloc(0) };
    const error = await assertRefused(request, 'MissingAuthenticationTokenException', 'CREDENTIALS_MISSING');
    assert.equal(error.message, 'Missing Authentication Token');
  });

  test('credentials of another kind', async () => {
    for (const authorization of ['Basic dXNlcjpwYXNz', 'Bearer token', '']) {
      const rawHeaders = ['host', HOST, 'x-amz-date', TIMESTAMP, 'authorization', authorization];
      const request = { method: 'GET', target: PATH, rawHeaders, body: Buffer.alloc(0) };
      await assertRefused(request, INCOMPLETE, 'UNSUPPORTED_ALGORITHM');
    }
  });

  test('an unknown access key, though the secret is that of a known one', async () => {
    await assertRefused(signed({ credential: stranger }), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
    await assertRefused(presigned({}, { credential: stranger }), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN');
  });

  test('an unknown access key is looked up, and hashed for, like a known one', async () => {
    const asked: string[] = [];
    const findCredential = async (id: string) => {
      asked.push(id);
      return id === permanent.accessKeyId ? permanent : undefined;
    };
    await assertRefused(signed({ credential: stranger }), UNRECOGNIZED, 'CREDENTIAL_UNKNOWN', { findCredential });
    await assertAccepted(signed(), { findCredential });
    assert.deepEqual(asked, [stranger.accessKeyId, permanent.accessKeyId]);
  });

  test('what does not depend on a secret is refused without looking for one', async () => {
    const findCredential = () => assert.fail('asked for a credential');
    await assertRefused(signed({ scope: `20260301/${REGION}/sts/aws4_request` }), INVALID, 'SCOPE_SERVICE', {
      findCredential,
    });
    const clock = { now: () => 0 };
    await assertRefused(signed(), INVALID, 'SIGNATURE_NOT_YET_CURRENT', { findCredential, clock });
  });

  test('an error of the store is not a refusal', async () => {
    const broken = new Error('the store is gone');
    await assert.rejects(authenticator({ findCredential: () => Promise.reject(broken) })(signed()), broken);
  });

  test('a refusal does not tell what was expected', async () => {
    const wrong = signed({ credential: { ...permanent, secretAccessKey: 'a guess' } });
    const right = signed().rawHeaders.at(-1)!.slice(-64);
    const error = await assertRefused(wrong, INVALID, 'SIGNATURE_MISMATCH');
    const everything = JSON.stringify({ ...error, message: error.message });
    assert.match(error.message, /does not match the signature you provided/);
    for (const secret of [
      right,
      wrong.rawHeaders.at(-1)!.slice(-64),
      permanent.secretAccessKey,
      PATH,
      HOST,
      sha256(''),
    ]) {
      assert.equal(everything.includes(secret), false, secret);
    }
  });

  test('more days than keys are kept for give the same answers, each day twice', async () => {
    let now = SIGNED_AT;
    const authenticate = authenticator({ clock: { now: () => now } });
    for (const day of [...Array(40).keys(), ...Array(40).keys()]) {
      now = SIGNED_AT + day * 86_400_000;
      const timestamp = `${new Date(now).toISOString().slice(0, 10).replaceAll('-', '')}T000000Z`;
      const scope = `${timestamp.slice(0, 8)}/${REGION}/nimble/aws4_request`;
      assert.equal(await authenticate(signed({ timestamp, scope })), permanent);
    }
  });

  test('more kinds of request than are remembered give the same answers', async () => {
    const authenticate = authenticator();
    for (let index = 0; index < 2100; index++) {
      const headers: Header[] = [[`my-${index % 1050}`, 'a']];
      assert.equal(await authenticate(signed({ headers })), permanent);
    }
  });
});

describe('the real client', () => {
  const studioId = 'us-west-2:0123456789abcdef';
  const resourceArn = `arn:aws:nimble:us-west-2:123456789012:streaming-image/${studioId}/img-1`;
  const seen: { target: string; accessKeyId: string }[] = [];
  const authenticate = authenticator({ clock: systemClock, findCredential: () => ({ ...permanent }) });

  async function answer(request: IncomingMessage): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method, url, rawHeaders } = request;
    const { accessKeyId } = await authenticate({
      method: method!,
      target: url!,
      rawHeaders,
      body: Buffer.concat(chunks),
    });
    seen.push({ target: url!, accessKeyId });
  }

  const server = createServer((request, response) => {
    answer(request).then(
      () => response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}'),
      (error: Error) =>
        response.writeHead(403, { 'X-Amzn-Errortype': error.name }).end(`{"message":"${error.message}"}`),
    );
  });
  let client: NimbleClient;

  before(async () => {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    client = new NimbleClient({ region: REGION, endpoint, credentials: permanent, maxAttempts: 1 });
  });
  after(() => {
    client.destroy();
    server.close();
  });

  test('ListTagsForResource, TagResource and UntagResource of an ARN, and an image of a studio id with a colon', async () => {
    await client.send(new ListTagsForResourceCommand({ resourceArn }));
    await client.send(new TagResourceCommand({ resourceArn, tags: { 'a key': 'é 😀' } }));
    await client.send(new UntagResourceCommand({ resourceArn, tagKeys: ['a key', 'b+c', 'é/%'] }));
    await client.send(
      new UpdateStreamingImageCommand({ studioId, streamingImageId: 'img 1', name: 'é', clientToken: 'token-1' }),
    );

    const label = encodeURIComponent(resourceArn);
    assert.deepEqual(
      seen.map(({ target }) => target.split('?')[0]),
      [
        ...Array(3).fill(`/2020-08-01/tags/${label}`),
        '/2020-08-01/studios/us-west-2%3A0123456789abcdef/streaming-images/img%201',
      ],
    );
    assert.ok(seen.every(({ accessKeyId }) => accessKeyId === permanent.accessKeyId));
    const encodedTwice = label.replaceAll('%', '%25');
    assert.equal(canonicalPath(seen[0]!.target), `/2020-08-01/tags/${encodedTwice}`);
  });

  test('with a wrong secret it gets the API error by name', async () => {
    const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const credentials = { ...permanent, secretAccessKey: 'a guess' };
    const stranger = new NimbleClient({ region: REGION, endpoint, credentials, maxAttempts: 1 });
    await assert.rejects(stranger.send(new ListTagsForResourceCommand({ resourceArn })), { name: INVALID });
    stranger.destroy();
  });
});
