/**
 * Signature Version 4, the signature: from an Authorization header or a presigned query to what the client claims to have
 * signed, and from a canonical request to the string to sign and the signature. What was signed is put together in
 * canonical-request.ts.
 *
 * It decides how a claim is read and whether a signature fits, never who may come in: policy (clock, scope, coverage,
 * credentials) is authenticate.ts. No clock, no I/O. An expected signature must never reach a message that leaves the
 * process.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import { EMPTY_BODY_HASH, type HeaderMap, type QueryParameter, type SignedHeaders } from './canonical-request.ts';

export interface CredentialScope {
  /** yyyymmdd */
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly terminator: string;
}

/** What a client says of who signs and what is signed. The same in all its requests of one kind for a day. */
export interface SignerClaim extends SignedHeaders {
  readonly accessKeyId: string;
  readonly scope: CredentialScope;
}

/** What a client says about its signature, in either form. Well formed, and otherwise not yet believed. */
export interface SignatureClaim {
  readonly form: 'header' | 'query';
  readonly signer: SignerClaim;
  /** x-amz-date as written: yyyymmddThhmmssZ. */
  readonly timestamp: string;
  /** 64 lower-case hex digits. */
  readonly signature: string;
  readonly sessionToken: string | undefined;
  /** Query form only. */
  readonly expiresSeconds: number | undefined;
}

export const ALGORITHM = 'AWS4-HMAC-SHA256';
export const TERMINATOR = 'aws4_request';
export const UNSIGNED_PAYLOAD = 'UNSIGNED-PAYLOAD';
/** Seven days, the longest life that AWS gives a presigned URL. */
export const PRESIGNED_SECONDS_MAX = 604_800;

const REQUIRED_QUERY_PARAMETERS = [
  'X-Amz-Algorithm',
  'X-Amz-Credential',
  'X-Amz-Date',
  'X-Amz-Expires',
  'X-Amz-SignedHeaders',
  'X-Amz-Signature',
];

/** Any one of these means that a request is, or pretends to be, presigned. */
const QUERY_FORM_PARAMETERS = new Set(
  [...REQUIRED_QUERY_PARAMETERS, 'X-Amz-Security-Token'].map((name) => name.toLowerCase()),
);

/** An Authorization header up to the signature. */
const AUTHORIZATION_SIGNER = /^AWS4-HMAC-SHA256 +Credential=([^, ]+), *SignedHeaders=([^, ]+), *Signature=$/;
const SIGNATURE = /^[0-9a-f]{64}$/;
const SIGNATURE_LENGTH = 64;

export function incompleteSignature(message: string, code = 'SIGNATURE_INCOMPLETE'): ServiceError {
  return new ServiceError('IncompleteSignatureException', message, { code });
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading the claim

export function isQueryForm(parameters: readonly QueryParameter[]): boolean {
  return parameters.some(({ name }) => QUERY_FORM_PARAMETERS.has(name.toLowerCase()));
}

/**
 * `AWS4-HMAC-SHA256 Credential=..., SignedHeaders=..., Signature=...`, beside the header x-amz-date. A caller may hand
 * in a `readSigner` that remembers what parseSigner made of a text.
 */
export function parseHeaderClaim(headers: HeaderMap, readSigner = parseSigner): SignatureClaim {
  const authorization = headers.get('authorization') ?? '';
  const signatureAt = authorization.length - SIGNATURE_LENGTH;
  if (!authorization.startsWith('Signature=', signatureAt - 'Signature='.length)) {
    throw explainAuthorization(authorization);
  }
  const signer = readSigner(authorization.slice(0, signatureAt));
  const timestamp = headers.get('x-amz-date');
  if (timestamp === undefined)
    throw incompleteSignature("Authorization header requires existence of an 'X-Amz-Date' header.");
  return {
    form: 'header',
    signer,
    timestamp,
    signature: parseSignature(authorization.slice(signatureAt)),
    sessionToken: headers.get('x-amz-security-token'),
    expiresSeconds: undefined,
  };
}

/** Everything of an Authorization header but the signature at its end. */
export function parseSigner(authorizationStart: string): SignerClaim {
  const parts = AUTHORIZATION_SIGNER.exec(authorizationStart);
  if (parts === null) throw explainAuthorization(authorizationStart);
  return parseCredential(parts[1]!, parts[2]!);
}

/** The presigned form. Names are matched without regard to case, as in the duplicate check. */
export function parseQueryClaim(parameters: readonly QueryParameter[]): SignatureClaim {
  const values = new Map<string, string>();
  for (const { name, value } of parameters) values.set(name.toLowerCase(), value);
  const missing = REQUIRED_QUERY_PARAMETERS.filter((name) => !values.get(name.toLowerCase()));
  if (missing.length > 0) {
    throw incompleteSignature(missing.map((name) => `AWS query-string parameters must include '${name}'.`).join(' '));
  }
  if (values.get('x-amz-algorithm') !== ALGORITHM) throw unsupportedAlgorithm();
  return {
    form: 'query',
    signer: parseCredential(values.get('x-amz-credential')!, values.get('x-amz-signedheaders')!),
    timestamp: values.get('x-amz-date')!,
    signature: parseSignature(values.get('x-amz-signature')!),
    sessionToken: values.get('x-amz-security-token'),
    expiresSeconds: parseExpires(values.get('x-amz-expires')!),
  };
}

function explainAuthorization(authorization: string): ServiceError {
  if (!authorization.startsWith(ALGORITHM)) return unsupportedAlgorithm();
  const missing = ['Credential', 'SignedHeaders', 'Signature'].filter((name) => !authorization.includes(`${name}=`));
  if (missing.length > 0) {
    return incompleteSignature(missing.map((name) => `Authorization header requires '${name}' parameter.`).join(' '));
  }
  return incompleteSignature(
    `Authorization header must read '${ALGORITHM} Credential=..., SignedHeaders=..., Signature=...', the signature being 64 lower-case hexadecimal digits.`,
  );
}

function unsupportedAlgorithm(): ServiceError {
  return incompleteSignature(`Unsupported AWS 'algorithm': only '${ALGORITHM}' is accepted.`, 'UNSUPPORTED_ALGORITHM');
}

function parseCredential(credential: string, signedHeaderList: string): SignerClaim {
  const [accessKeyId, date, region, service, terminator, ...rest] = credential.split('/');
  if (!accessKeyId || terminator === undefined || rest.length > 0) {
    throw incompleteSignature(
      'Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.',
      'MALFORMED_CREDENTIAL',
    );
  }
  const scope = { date: date!, region: region!, service: service!, terminator };
  return { accessKeyId, scope, signedHeaders: parseSignedHeaders(signedHeaderList), signedHeaderList };
}

/** Sorted, lower-case and without repeats: the one spelling there is, since the list itself is part of what is signed. */
function parseSignedHeaders(list: string): readonly string[] {
  const names = list.split(';');
  let isOneSpelling = list === list.toLowerCase();
  let previous = '';
  for (const name of names) {
    if (name <= previous) isOneSpelling = false;
    previous = name;
  }
  if (isOneSpelling) return names;
  throw incompleteSignature(
    "SignedHeaders must be lower-case header names in ascending order, separated by ';'.",
    'MALFORMED_SIGNED_HEADERS',
  );
}

function parseSignature(signature: string): string {
  if (!SIGNATURE.test(signature)) throw incompleteSignature('Signature must be 64 lower-case hexadecimal digits.');
  return signature;
}

function parseExpires(text: string): number {
  const seconds = /^[0-9]{1,6}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > PRESIGNED_SECONDS_MAX) {
    throw incompleteSignature(`X-Amz-Expires must be a whole number of seconds from 1 to ${PRESIGNED_SECONDS_MAX}.`);
  }
  return seconds;
}

/** Milliseconds since 1970 of a `yyyymmddThhmmssZ`, or undefined if the text is not exactly that or no such moment. */
export function parseTimestamp(text: string): number | undefined {
  if (text.length !== 16 || text[8] !== 'T' || text[15] !== 'Z') return undefined;
  const month = digitsAt(text, 4, 2);
  const day = digitsAt(text, 6, 2);
  const hour = digitsAt(text, 9, 2);
  const minute = digitsAt(text, 11, 2);
  const second = digitsAt(text, 13, 2);
  if (month < 1 || month > 12 || day > 31 || hour > 23 || minute > 59 || second > 59) return undefined;
  const ms = Date.UTC(digitsAt(text, 0, 4), month - 1, day, hour, minute, second);
  return new Date(ms).getUTCDate() === day ? ms : undefined;
}

/** NaN if one of them is no digit; every comparison with it is false, and so is every date made of it invalid. */
function digitsAt(text: string, start: number, count: number): number {
  let value = 0;
  for (let index = start; index < start + count; index++) {
    const digit = text.charCodeAt(index) - 48;
    value = digit >= 0 && digit <= 9 ? value * 10 + digit : Number.NaN;
  }
  return value;
}

// ---------------------------------------------------------------------------------------------------------------------
// The signature

/**
 * A derived key, good for one day, region and service. It is kept as the two padded blocks of RFC 2104, each with what
 * is hashed after it: strings to sign of one scope differ in two places of fixed length, the timestamp and the hash.
 * Two one-shot hashes over these buffers take little more than half the time of a `createHmac`.
 */
export interface SigningKey {
  readonly inner: Buffer;
  readonly outer: Buffer;
}

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const TIMESTAMP_LENGTH = 16;
const TIMESTAMP_AT = BLOCK_BYTES + ALGORITHM.length + 1;

export function deriveSigningKey(secretAccessKey: string, date: string, region: string, service: string): SigningKey {
  let key = hmac(`AWS4${secretAccessKey}`, date);
  for (const part of [region, service, TERMINATOR]) key = hmac(key, part);
  const scope = `${date}/${region}/${service}/${TERMINATOR}`;
  const template = Buffer.from(stringToSign('yyyymmddThhmmssZ', scope, EMPTY_BODY_HASH));
  const inner = Buffer.concat([Buffer.alloc(BLOCK_BYTES, 0x36), template]);
  const outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES, 0x5c);
  for (let index = 0; index < DIGEST_BYTES; index++) {
    inner[index]! ^= key[index]!;
    outer[index]! ^= key[index]!;
  }
  return { inner, outer };
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}

export function stringToSign(timestamp: string, scope: string, canonicalRequestHash: string): string {
  return `${ALGORITHM}\n${timestamp}\n${scope}\n${canonicalRequestHash}`;
}

/** The signature in lower-case hex: HMAC-SHA256 of the string to sign. */
export function sign({ inner, outer }: SigningKey, timestamp: string, canonical: string): string {
  if (timestamp.length !== TIMESTAMP_LENGTH) throw new RangeError('a timestamp is written yyyymmddThhmmssZ');
  inner.write(timestamp, TIMESTAMP_AT, 'latin1');
  inner.write(hash('sha256', canonical), inner.length - SIGNATURE_LENGTH, 'latin1');
  outer.write(hash('sha256', inner), BLOCK_BYTES, 'hex');
  return hash('sha256', outer);
}

/** Written over by every comparison; none of them is interrupted. */
const EXPECTED = Buffer.alloc(SIGNATURE_LENGTH);
const CLAIMED = Buffer.alloc(SIGNATURE_LENGTH);

export function verify(key: SigningKey, claim: SignatureClaim, canonical: string): boolean {
  if (claim.signature.length !== SIGNATURE_LENGTH) return false;
  EXPECTED.write(sign(key, claim.timestamp, canonical), 'latin1');
  CLAIMED.write(claim.signature, 'latin1');
  return timingSafeEqual(EXPECTED, CLAIMED);
}

/** For whatever else an attacker may guess at. The length is no secret, the content is. */
export function equalInConstantTime(left: string, right: string): boolean {
  const leftBytes = Buffer.from(left);
  const rightBytes = Buffer.from(right);
  return leftBytes.length === rightBytes.length && timingSafeEqual(leftBytes, rightBytes);
}
