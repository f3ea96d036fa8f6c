/**
 * Holes that were really found where requests are signed, each told by what once happened. A test here stays as long as
 * there are signatures, also when another test happens to cover the same lines.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import type { ErrorName } from '../../src/errors.ts';
import { type AuthenticateOptions, type Credential, createAuthenticator } from '../../src/wire/authenticate.ts';
import type { SignedRequest } from '../../src/wire/canonical-request.ts';

const REGION = 'us-west-2';
const HOST = 'studio.example';
const NOW = Date.UTC(2026, 2, 1, 12);
const SKEW_MS = 5 * 60_000;
const DAY_MS = 86_400_000;
const IMAGES = '/2020-08-01/studios/abc/streaming-images';

const ada: Credential = { accessKeyId: 'AKIDADA', secretAccessKey: 'secret of ada', principalId: 'ada' };
const ben: Credential = { accessKeyId: 'AKIDBEN', secretAccessKey: 'secret of ben', principalId: 'ben' };

function authenticator(changes: Partial<AuthenticateOptions> = {}) {
  return createAuthenticator({
    region: REGION,
    clockSkewMs: SKEW_MS,
    allowUnsignedPayload: false,
    clock: { now: () => NOW },
    findCredential: (id) => [ada, ben].find(({ accessKeyId }) => accessKeyId === id),
    ...changes,
  });
}

interface Draft {
  readonly method?: string;
  readonly path?: string;
  readonly query?: Record<string, string | string[]>;
  readonly headers?: Record<string, string>;
  readonly body?: string;
  readonly service?: string;
  readonly region?: string;
  readonly signedAt?: number;
}

/** An SDK's request: in the header form, or presigned for an hour. */
async function signed(
  credential: Credential,
  draft: Draft = {},
  form: 'header' | 'query' = 'header',
): Promise<SignedRequest> {
  const { method = 'GET', path = IMAGES, query = {}, headers = {}, body = '' } = draft;
  const { service = 'nimble', region = REGION, signedAt = NOW } = draft;
  const signer = new SignatureV4({ service, region, credentials: credential, sha256: Sha256 });
  const unsigned = {
    method,
    protocol: 'https:',
    hostname: HOST,
    path,
    query,
    headers: { host: HOST, ...headers },
    body,
  };
  const signingDate = new Date(signedAt);
  const result =
    form === 'header' ? await signer.sign(unsigned, { signingDate }) : await signer.presign(unsigned, { signingDate });
  const pairs = Object.entries(result.query ?? {}).flatMap(([name, values]) =>
    [values ?? ''].flat().map((value) => `${name}=${encodeURIComponent(value)}`),
  );
  const target = pairs.length === 0 ? path : `${path}?${pairs.join('&')}`;
  return { method, target, rawHeaders: Object.entries(result.headers).flat(), body: Buffer.from(body) };
}

function presigned(credential: Credential, draft: Draft = {}): Promise<SignedRequest> {
  return signed(credential, draft, 'query');
}

function withHeaders(request: SignedRequest, ...added: string[]): SignedRequest {
  return { ...request, rawHeaders: [...request.rawHeaders, ...added] };
}

function authorizationOf({ rawHeaders }: SignedRequest): string {
  return rawHeaders[rawHeaders.indexOf('authorization') + 1]!;
}

async function assertRefused(
  request: SignedRequest,
  code: string,
  authenticate = authenticator(),
  name: ErrorName = 'InvalidSignatureException',
): Promise<void> {
  await assert.rejects(authenticate(request), { name, code });
}

describe('MinIO looked for the Authorization header at the gate and took the credentials from the query', () => {
  const authenticate = authenticator();

  test('each form alone is accepted, and says who signed it', async () => {
    assert.equal(await authenticate(await signed(ada)), ada);
    assert.equal(await authenticate(await presigned(ben)), ben);
  });

  test('neither is no credentials', async () => {
    const request = { method: 'GET', target: IMAGES, rawHeaders: ['host', HOST], body: Buffer.alloc(0) };
    await assertRefused(request, 'CREDENTIALS_MISSING', authenticate, 'MissingAuthenticationTokenException');
  });

  test('both are refused: both right, either one wrong, of one caller or of two', async () => {
    for (const inQuery of [ada, ben]) {
      const { target } = await presigned(inQuery);
      const { rawHeaders } = await signed(ada);
      const both = { method: 'GET', target, rawHeaders, body: Buffer.alloc(0) };
      await assertRefused(both, 'CREDENTIALS_TWICE', authenticate);
      await assertRefused({ ...both, target: `${target}0` }, 'CREDENTIALS_TWICE', authenticate);
      await assertRefused(
        withHeaders({ ...both, rawHeaders: ['host', HOST] }, 'Authorization', 'x'),
        'CREDENTIALS_TWICE',
      );
    }
  });

  for (const name of [
    'X-Amz-Credential',
    'X-Amz-Signature',
    'x-amz-security-token',
    'X%2dAmz%2dAlgorithm',
    'X-Amz-Date',
  ]) {
    test(`an Authorization header with ?${name}= is refused`, async () => {
      const request = await signed(ada);
      await assertRefused({ ...request, target: `${request.target}?${name}=` }, 'CREDENTIALS_TWICE', authenticate);
    });
  }

  test('a presigned query with a token in a header is refused', async () => {
    await assertRefused(withHeaders(await presigned(ada), 'x-amz-security-token', 'token'), 'CREDENTIALS_TWICE');
  });
});

describe('MinIO compared signatures in variable time', () => {
  const root = join(import.meta.dirname, '../../src');
  /** What the formats of disk images call a signature is no secret. */
  const sources = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.startsWith('images'))
    .map((name) => ({ name, text: readFileSync(join(root, name), 'utf8') }));

  /** Comparisons by an operator of what an attacker could guess at; whether it is there at all is no secret. */
  function comparedByOperator(text: string): string[] {
    const isSecret = (operand: string) =>
      /(signature|hmac|sessionToken(Digest)?|password|secretAccessKey)\)?$/i.test(operand);
    const isAbsence = (operand: string) => /^(undefined|null|'')/.test(operand);
    return [...text.matchAll(/([\w.()']+)\s*[!=]==?\s*([\w.']+)/g)]
      .filter(([, left, right]) => (isSecret(left!) && !isAbsence(right!)) || (isSecret(right!) && !isAbsence(left!)))
      .map(([comparison]) => comparison);
  }

  test('no source compares a signature, a token or a secret with === or !==', () => {
    assert.ok(sources.length > 10);
    for (const { name, text } of sources) assert.deepEqual(comparedByOperator(text), [], name);
  });

  test('such a comparison would be found', () => {
    for (const text of [
      'if (signature === expected)',
      'if (expected !== claim.signature)',
      'return sign(key, text) == signature',
      'credential.sessionToken !== given',
    ]) {
      assert.equal(comparedByOperator(text).length, 1, text);
    }
    for (const text of ['claim.signature === undefined', "signature === ''", 'signature.length === 64']) {
      assert.deepEqual(comparedByOperator(text), []);
    }
  });

  test('verify and equalInConstantTime end in timingSafeEqual, and nothing else decides', () => {
    const { text } = sources.find(({ name }) => name === join('wire', 'sigv4.ts'))!;
    const returnsOf = (name: string) =>
      text
        .slice(text.indexOf(`export function ${name}(`))
        .split('\n}\n')[0]!
        .match(/return .*;/g)!;
    // Only the length, which is no secret, may decide before that.
    assert.deepEqual(returnsOf('verify'), ['return false;', 'return timingSafeEqual(EXPECTED, CLAIMED);']);
    assert.match(text, /if \(claim\.signature\.length !== SIGNATURE_LENGTH\) return false;/);
    assert.deepEqual(returnsOf('equalInConstantTime'), [
      'return leftBytes.length === rightBytes.length && timingSafeEqual(leftBytes, rightBytes);',
    ]);
  });

  test('the authenticator learns of a signature by verify and of a token by equalInConstantTime', () => {
    const { text } = sources.find(({ name }) => name === join('wire', 'authenticate.ts'))!;
    assert.equal(text.match(/\bverify\(/g)!.length, 1);
    assert.equal(text.match(/\bequalInConstantTime\(/g)!.length, 1);
    assert.equal(/\.signature\b|\bsign\(/.test(text), false);
  });
});

describe('aws-sdk-go-v2 cached signing keys by access key id and went on with a rotated secret', () => {
  test('the old secret fails and the new one works at once, back and forth', async () => {
    let current: Credential = ada;
    const authenticate = authenticator({ findCredential: () => current });
    const rotated: Credential = { ...ada, secretAccessKey: 'the next secret of ada' };
    const byOld = await signed(ada);
    const byNew = await signed(rotated);
    for (let round = 0; round < 3; round++) {
      current = ada;
      assert.equal(await authenticate(byOld), ada);
      await assertRefused(byNew, 'SIGNATURE_MISMATCH', authenticate);
      current = rotated;
      assert.equal(await authenticate(byNew), rotated);
      await assertRefused(byOld, 'SIGNATURE_MISMATCH', authenticate);
    }
  });

  test('a key that was deleted fails at once', async () => {
    let current: Credential | undefined = ada;
    const authenticate = authenticator({ findCredential: () => current });
    const request = await signed(ada);
    await authenticate(request);
    current = undefined;
    await assertRefused(request, 'CREDENTIAL_UNKNOWN', authenticate, 'UnrecognizedClientException');
  });

  test('two callers at once never get the key of the other', async () => {
    const findCredential = async (id: string) => (id === ada.accessKeyId ? ada : ben);
    const authenticate = authenticator({ findCredential });
    const requests = await Promise.all([
      signed(ada),
      signed(ben),
      signed({ ...ada, secretAccessKey: ben.secretAccessKey }),
    ]);
    for (let round = 0; round < 20; round++) {
      const [first, second, third] = await Promise.allSettled(requests.map(authenticate));
      assert.deepEqual([first!.status, second!.status, third!.status], ['fulfilled', 'fulfilled', 'rejected']);
      assert.equal((first as PromiseFulfilledResult<Credential>).value, ada);
      assert.equal((second as PromiseFulfilledResult<Credential>).value, ben);
    }
  });
});

describe('Keystone checked the signature and not the time: a request could be replayed for ever', () => {
  test('a request is good for the clock skew on both sides, and no longer', async () => {
    const request = await signed(ada);
    for (const offsetMs of [-SKEW_MS, 0, SKEW_MS]) {
      assert.equal(await authenticator({ clock: { now: () => NOW + offsetMs } })(request), ada);
    }
    for (const offsetMs of [SKEW_MS + 1, DAY_MS, 365 * DAY_MS]) {
      await assertRefused(request, 'SIGNATURE_EXPIRED', authenticator({ clock: { now: () => NOW + offsetMs } }));
    }
    for (const offsetMs of [-SKEW_MS - 1, -DAY_MS]) {
      await assertRefused(
        request,
        'SIGNATURE_NOT_YET_CURRENT',
        authenticator({ clock: { now: () => NOW + offsetMs } }),
      );
    }
  });

  test('a request that was recorded can not be given a newer date', async () => {
    const recorded = await signed(ada, { signedAt: NOW - DAY_MS });
    const today = await signed(ada);
    const dateIn = ({ rawHeaders }: SignedRequest) => rawHeaders[rawHeaders.indexOf('x-amz-date') + 1]!;
    const redated = recorded.rawHeaders.map((text) => (text === dateIn(recorded) ? dateIn(today) : text));
    await assertRefused({ ...recorded, rawHeaders: redated }, 'SCOPE_DATE');
    const rescoped = redated.map((text) => text.replace('/20260228/', '/20260301/'));
    await assertRefused({ ...recorded, rawHeaders: rescoped }, 'SIGNATURE_MISMATCH');
  });

  test('a presigned URL ends, and can not be given a longer life or a later start', async () => {
    const request = await presigned(ada);
    const later = authenticator({ clock: { now: () => NOW + 3_600_001 } });
    await assertRefused(request, 'SIGNATURE_EXPIRED', later);
    const longer = { ...request, target: request.target.replace('X-Amz-Expires=3600', 'X-Amz-Expires=7200') };
    await assertRefused(longer, 'SIGNATURE_MISMATCH', later);
    const redated = { ...request, target: request.target.replace('T120000Z', 'T130000Z') };
    await assertRefused(redated, 'SIGNATURE_MISMATCH', later);
  });
});

describe('Vault believed a signed request that was made for another action', () => {
  const draft = {
    method: 'PATCH',
    path: `${IMAGES}/img-1`,
    headers: { 'x-amz-client-token': 'token-1', 'content-type': 'application/json' },
    body: '{"name":"a"}',
  };

  test('it is good for its own method, path, query, host, headers and body alone', async () => {
    const request = await signed(ada, draft);
    assert.equal(await authenticator()(request), ada);
    const renamed = (from: string, to: string) => request.rawHeaders.map((text) => (text === from ? to : text));
    const aimedElsewhere: SignedRequest[] = [
      { ...request, method: 'DELETE' },
      { ...request, target: `${IMAGES}/img-2` },
      { ...request, target: `${IMAGES}/img-1/` },
      { ...request, target: `//elsewhere${IMAGES}/img-1` },
      { ...request, target: `https://${HOST}${IMAGES}/img-1` },
      { ...request, target: `${IMAGES}/img-1?force=true` },
      { ...request, target: `${IMAGES}/img-1#` },
      { ...request, rawHeaders: renamed(HOST, 'elsewhere.example') },
      { ...request, rawHeaders: renamed('token-1', 'token-2') },
      { ...request, rawHeaders: renamed('application/json', 'text/plain') },
    ];
    for (const forged of aimedElsewhere) await assertRefused(forged, 'SIGNATURE_MISMATCH');
    await assertRefused({ ...request, body: Buffer.from('{"name":"b"}') }, 'PAYLOAD_MISMATCH');
  });

  test('a request made for another service or another region is refused', async () => {
    await assertRefused(await signed(ada, { service: 'sts', method: 'POST', path: '/' }), 'SCOPE_SERVICE');
    await assertRefused(await signed(ada, { service: 'sts', path: '/' }), 'SCOPE_SERVICE');
    await assertRefused(await presigned(ada, { service: 'sts', path: '/' }), 'SCOPE_SERVICE');
    await assertRefused(await signed(ada, { region: 'eu-west-1' }), 'SCOPE_REGION');
  });

  test('headers that rewrite a request elsewhere change nothing of what was signed', async () => {
    const request = await signed(ada, draft);
    const rewriting = ['X-Forwarded-Host', 'elsewhere', 'X-Original-URL', '/', 'X-HTTP-Method-Override', 'DELETE'];
    assert.equal(await authenticator()(withHeaders(request, ...rewriting)), ada);
    await assertRefused({ ...withHeaders(request, ...rewriting), method: 'DELETE' }, 'SIGNATURE_MISMATCH');
  });

  test('a hash that the client claims and signs is not the hash of the body', async () => {
    const claimed = await signed(ada, draft);
    await assertRefused({ ...claimed, body: Buffer.alloc(0) }, 'PAYLOAD_MISMATCH');
    const hashAt = claimed.rawHeaders.indexOf('x-amz-content-sha256');
    const withoutClaim = claimed.rawHeaders.filter((_, index) => index !== hashAt && index !== hashAt + 1);
    await assertRefused({ ...claimed, rawHeaders: withoutClaim }, 'SIGNED_HEADER_ABSENT');
  });

  test('a header named in two cases, or after a property of every object, is read as it was signed', async () => {
    const request = await signed(ada, { headers: { constructor: 'a', 'x-amz-meta': 'b' } });
    assert.equal(await authenticator()(request), ada);
    await assertRefused(withHeaders(request, 'Constructor', 'c'), 'SIGNATURE_MISMATCH');
    await assertRefused(withHeaders(request, 'X-Amz-Meta', 'c'), 'SIGNATURE_MISMATCH');
    await assertRefused(withHeaders(request, 'X-AMZ-OTHER', 'c'), 'HEADER_UNSIGNED');
  });
});

describe('aws-iam-authenticator took the one of two equal parameters that the verifier did not', () => {
  test('an X-Amz-* parameter is there once, in any case and any escaping', async () => {
    const { target, ...request } = await presigned(ada);
    assert.equal(await authenticator()({ ...request, target }), ada);
    const doubled = [
      'X-Amz-Credential=AKIDBEN%2F20260301%2Fus-west-2%2Fnimble%2Faws4_request',
      'x-amz-credential=AKIDBEN',
      'X%2DAmz-Credential=AKIDBEN',
      'X-Amz-Signature=',
      'X-Amz-SignedHeaders=host',
      'X-Amz-Date=20260301T120000Z',
      'X-Amz-Expires=604800',
      'X-Amz-Algorithm=AWS4-HMAC-SHA256',
    ];
    for (const parameter of doubled) {
      await assertRefused({ ...request, target: `${target}&${parameter}` }, 'DUPLICATE_QUERY_PARAMETER');
      const first = target.replace('?', `?${parameter}&`);
      await assertRefused({ ...request, target: first }, 'DUPLICATE_QUERY_PARAMETER');
    }
  });

  test('also one that the signature knows nothing of', async () => {
    const request = await signed(ada, { query: { 'X-Amz-Other': ['a', 'b'] } });
    await assertRefused(request, 'DUPLICATE_QUERY_PARAMETER');
  });

  test('other parameters may repeat, as they were signed', async () => {
    const request = await signed(ada, { query: { tagKeys: ['a', 'b'] } });
    assert.equal(await authenticator()(request), ada);
    await assertRefused({ ...request, target: `${request.target}&tagKeys=c` }, 'SIGNATURE_MISMATCH');
  });

  test('a header that says who is calling is there once, in any case', async () => {
    const request = await signed(ada);
    const doubled = [
      ['authorization', authorizationOf(await signed(ben))],
      ['Authorization', authorizationOf(request)],
      ['HOST', HOST],
      ['X-Amz-Date', '20260301T120000Z'],
      ['X-Amz-Content-Sha256', 'UNSIGNED-PAYLOAD'],
    ] as const;
    for (const [name, value] of doubled) {
      await assertRefused(withHeaders(request, name, value), 'DUPLICATE_HEADER');
      await assertRefused({ ...request, rawHeaders: [name, value, ...request.rawHeaders] }, 'DUPLICATE_HEADER');
    }
    const withToken = withHeaders(request, 'x-amz-security-token', 'a', 'X-Amz-Security-Token', 'b');
    await assertRefused(withToken, 'DUPLICATE_HEADER');
  });

  test('a part of the Authorization header is there once', async () => {
    const request = await signed(ada);
    const authorization = authorizationOf(request);
    for (const part of [
      'Credential=AKIDBEN/20260301/us-west-2/nimble/aws4_request',
      'SignedHeaders=host',
      'Signature=0',
    ]) {
      for (const doubled of [`${authorization}, ${part}`, authorization.replace(' ', ` ${part}, `)]) {
        const rawHeaders = request.rawHeaders.map((text) => (text === authorization ? doubled : text));
        const refused = authenticator()({ ...request, rawHeaders });
        await assert.rejects(refused, { name: 'IncompleteSignatureException' });
      }
    }
  });
});
