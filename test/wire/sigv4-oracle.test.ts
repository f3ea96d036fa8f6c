/**
 * Random requests signed by a signer that no one here wrote: every one must verify, and must stop to when any single
 * byte of what was signed is another. Prints its seed; BACKLOT_SEED=n repeats a run.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { ServiceError } from '../../src/errors.ts';
import { createAuthenticator } from '../../src/wire/authenticate.ts';
import type { SignedRequest } from '../../src/wire/canonical-request.ts';

const SEED = Number(process.env.BACKLOT_SEED ?? 20_200_801);
const REQUESTS = 300;
const FORGERIES_PER_PLACE = 3;
const REGION = 'us-west-2';
const NOW = Date.UTC(2026, 1, 28, 23, 59, 58);
const HOST = 'studio.example:8443';

const credential = {
  accessKeyId: 'AKIDEXAMPLE',
  secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY',
  principalId: 'principal',
};
/** As its bearer has it, and as the server does: of the token it only keeps a digest. */
const temporary = { ...credential, accessKeyId: 'ASIAEXAMPLE', sessionToken: 'FwoG/+token==' };
const stored = {
  ...credential,
  accessKeyId: temporary.accessKeyId,
  sessionTokenDigest: hash('sha256', temporary.sessionToken),
};

const authenticate = createAuthenticator({
  region: REGION,
  clockSkewMs: 300_000,
  allowUnsignedPayload: false,
  clock: { now: () => NOW },
  findCredential: (id) => [credential, stored].find(({ accessKeyId }) => accessKeyId === id),
});

// ---------------------------------------------------------------------------------------------------------------------
// What a request may look like

const characters = [...'aZ0-._~:/?#[]@!$&\'()*+,;=% "<>\\^`{|}', 'é', 'ß', 'ሴ', '漢', '😀', '\u0000', '\u007f'];
const text = fc.string({ unit: fc.constantFrom(...characters), minLength: 1, maxLength: 12 });
/** Dot segments are resolved before signing, so that a byte before them is signed by no one. */
const label = text.filter((value) => value !== '.' && value !== '..');
const headerValue = fc.string({ unit: fc.constantFrom(...'aZ0 \t;,="/'), maxLength: 16 }).map((value) => `v${value}v`);

interface Drawn {
  readonly labels: readonly string[];
  readonly trailingSlash: boolean;
  readonly query: Readonly<Record<string, string | string[]>>;
  readonly spacesAsPlus: boolean;
  readonly lowerCaseEscapes: boolean;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly method: string;
  readonly isTemporary: boolean;
  readonly isPresigned: boolean;
  readonly ageSeconds: number;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  labels: fc.array(label, { minLength: 1, maxLength: 4 }),
  trailingSlash: fc.boolean(),
  query: fc.dictionary(text, fc.oneof(text, fc.constant(''), fc.array(text, { minLength: 1, maxLength: 3 })), {
    maxKeys: 4,
    noNullPrototype: true,
  }),
  spacesAsPlus: fc.boolean(),
  lowerCaseEscapes: fc.boolean(),
  headers: fc.dictionary(fc.stringMatching(/^(my|x-amz-meta)-[a-z]{1,6}$/), headerValue, { noNullPrototype: true }),
  body: fc.uint8Array({ maxLength: 200 }),
  method: fc.constantFrom('GET', 'POST', 'PATCH', 'PUT', 'DELETE'),
  isTemporary: fc.boolean(),
  isPresigned: fc.boolean(),
  ageSeconds: fc.integer({ min: -300, max: 300 }),
});

// ---------------------------------------------------------------------------------------------------------------------
// Signing, and writing it as a client writes it

/** As the SDKs escape labels and query text. */
function escapeText(value: string): string {
  return encodeURIComponent(value).replace(/[!'()*]/g, (each) => `%${each.charCodeAt(0).toString(16).toUpperCase()}`);
}

function writeQuery(query: Drawn['query'], how: Drawn): string {
  const pairs: string[] = [];
  for (const [name, values] of Object.entries(query)) {
    for (const value of [values].flat()) pairs.push(`${escapeText(name)}=${escapeText(value)}`);
  }
  let written = pairs.reverse().join('&');
  if (how.spacesAsPlus) written = written.replaceAll('%20', '+');
  if (how.lowerCaseEscapes) written = written.replace(/%../g, (escaped) => escaped.toLowerCase());
  return written;
}

async function signedBySmithy(how: Drawn): Promise<SignedRequest> {
  const signer = new SignatureV4({
    service: 'nimble',
    region: REGION,
    credentials: how.isTemporary ? temporary : credential,
    sha256: Sha256,
  });
  const path = `/${how.labels.map(escapeText).join('/')}${how.trailingSlash ? '/' : ''}`;
  const body = how.isPresigned ? new Uint8Array() : how.body;
  const unsigned = {
    method: how.isPresigned ? 'GET' : how.method,
    protocol: 'https:',
    hostname: 'studio.example',
    path,
    query: how.query as Record<string, string | string[]>,
    headers: { host: HOST, ...how.headers },
    body,
  };
  const signingDate = new Date(NOW - how.ageSeconds * 1000);
  const signed = how.isPresigned
    ? await signer.presign(unsigned, { signingDate, expiresIn: 300 })
    : await signer.sign(unsigned, { signingDate });
  const query = writeQuery(signed.query as Drawn['query'], how);
  const rawHeaders = Object.entries(signed.headers).flatMap(([name, value], index) =>
    index % 2 === 0 ? [name, value] : [name.toUpperCase(), value],
  );
  const target = query === '' ? path : `${path}?${query}`;
  return { method: unsigned.method, target, rawHeaders: ['User-Agent', 'not signed', ...rawHeaders], body };
}

// ---------------------------------------------------------------------------------------------------------------------
// Forging

/** Another character in one place: never one that only spells the same differently, such as %C3 and %c3. */
function otherCharacter(character: string): string {
  return character.toLowerCase() === 'x' ? 'y' : 'x';
}

function withOtherCharacter(value: string, index: number): string {
  return value.slice(0, index) + otherCharacter(value[index]!) + value.slice(index + 1);
}

function withOtherByte(body: Uint8Array, index: number, mask: number): Uint8Array {
  const forged = Uint8Array.from(body);
  forged[index]! ^= mask;
  return forged;
}

/** A few places of each part of the request that is under the signature. `random` is below 1. */
function forgeriesOf(request: SignedRequest, random: () => number): SignedRequest[] {
  const forged: SignedRequest[] = [{ ...request, method: request.method === 'GET' ? 'HEAD' : 'GET' }];
  const anyOf = (length: number) => Math.floor(random() * length);
  const { target, rawHeaders, body } = request;
  for (let round = 0; round < FORGERIES_PER_PLACE; round++) {
    forged.push({ ...request, target: withOtherCharacter(target, anyOf(target.length)) });
    const path = target.split('?')[0]!;
    forged.push({ ...request, target: withOtherCharacter(target, anyOf(path.length)) });
    if (body.length > 0) forged.push({ ...request, body: withOtherByte(body, anyOf(body.length), 1 + anyOf(255)) });
  }
  forged.push({ ...request, body: Uint8Array.of(...body, 0) });
  for (let index = 2; index < rawHeaders.length; index++) {
    const headers = [...rawHeaders];
    headers[index] = withOtherCharacter(headers[index]!, anyOf(headers[index]!.length));
    forged.push({ ...request, rawHeaders: headers });
  }
  return forged;
}

async function isRefused(request: SignedRequest): Promise<boolean> {
  try {
    await authenticate(request);
    return false;
  } catch (error) {
    if (error instanceof ServiceError && error.status === 403) return true;
    throw error;
  }
}

test(`${REQUESTS} random requests verify and none of their forgeries does (BACKLOT_SEED=${SEED})`, async (t) => {
  let forgeries = 0;
  await fc.assert(
    fc.asyncProperty(
      drawn,
      fc.infiniteStream(fc.double({ min: 0, max: 0.999_999, noNaN: true })),
      async (how, numbers) => {
        const request = await signedBySmithy(how);
        const caller = await authenticate(request);
        assert.equal(caller, how.isTemporary ? stored : credential);
        for (const forgery of forgeriesOf(request, () => numbers.next().value as number)) {
          forgeries += 1;
          assert.equal(await isRefused(forgery), true, `accepted: ${forgery.method} ${forgery.target}`);
        }
      },
    ),
    { seed: SEED, numRuns: REQUESTS },
  );
  t.diagnostic(`seed ${SEED}: ${REQUESTS} requests verified, ${forgeries} forgeries refused`);
});

test('dot segments and empty segments are resolved as the independent signer resolves them', async () => {
  for (const path of ['/', '//', '/a//b/', '/./a', '/a/..', '/a/./b/../c/', '/../a', '/a/.b/..c', '/%2e%2e/a%2F..']) {
    const signer = new SignatureV4({ service: 'nimble', region: REGION, credentials: credential, sha256: Sha256 });
    const { headers } = await signer.sign(
      { method: 'GET', protocol: 'https:', hostname: 'studio.example', path, query: {}, headers: { host: HOST } },
      { signingDate: new Date(NOW) },
    );
    const rawHeaders = Object.entries(headers).flat();
    assert.equal(await authenticate({ method: 'GET', target: path, rawHeaders, body: new Uint8Array() }), credential);
  }
});
