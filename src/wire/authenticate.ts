/**
 * Who is calling: decides whether a signed request is believed, and returns the credential that signed it.
 *
 * Credentials are read from one place only, the Authorization header or the presigned query. What does not depend on
 * the secret (scope, clock, coverage, payload) is refused first and with a sentence that helps; after that, an unknown
 * access key and a wrong signature cost the same work. It must never act on anything parsed elsewhere, believe the hash
 * a client claims for its body, accept a request whose x-amz-* headers are not all signed, or say what it calculated.
 */
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { ServiceError } from '../errors.ts';
import {
  canonicalRequest,
  EMPTY_BODY_HASH,
  type HeaderMap,
  invalidSignature,
  payloadHashOf,
  type QueryParameter,
  readHeaders,
  readQuery,
  type SignedRequest,
} from './canonical-request.ts';
import {
  type CredentialScope,
  deriveSigningKey,
  equalInConstantTime,
  incompleteSignature,
  isQueryForm,
  parseHeaderClaim,
  parseQueryClaim,
  parseSigner,
  parseTimestamp,
  type SignatureClaim,
  type SignerClaim,
  type SigningKey,
  TERMINATOR,
  UNSIGNED_PAYLOAD,
  verify,
} from './sigv4.ts';

export interface Credential {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly principalId: string;
  /** SHA-256 of the token, without which a temporary credential is of no use; absent on others. */
  readonly sessionTokenDigest?: string;
  /** Milliseconds since 1970; from this moment on the credential is refused. */
  readonly expiresAt?: number;
}

export interface AuthenticateOptions {
  readonly region: string;
  readonly clockSkewMs: number;
  /** The host that clients sign, when a proxy rewrites the Host header. */
  readonly publicHost?: string;
  /** Only where the transport itself protects the body. */
  readonly allowUnsignedPayload: boolean;
  readonly clock: Clock;
  /** Must return the same object for as long as the credential is the same: derived keys are kept by object. */
  readonly findCredential: (accessKeyId: string) => Credential | undefined | Promise<Credential | undefined>;
}

export type Authenticator = (request: SignedRequest) => Promise<Credential>;

const SERVICE = 'nimble';

/** A presigned URL may be a week old: with today, the edges of the clock skew and some room, no valid date is evicted. */
const KEYS_PER_CREDENTIAL_MAX = 16;

/** At most half a megabyte of texts. */
const SIGNERS_MAX = 1024;
const SIGNER_LENGTH_MAX = 512;

/** Stands in for an access key that nobody has, so that finding none takes no less time. It opens nothing. */
const NOBODY: Credential = { accessKeyId: '', secretAccessKey: 'nobody', principalId: '' };

export function createAuthenticator(options: AuthenticateOptions): Authenticator {
  const signingKeyOf = createSigningKeyCache(options.region);
  const readSigner = createSignerCache();
  const timeOf = createTimeReader();

  return async function authenticate(request) {
    const headers = readHeaders(request.rawHeaders);
    const query = readQuery(request.target);
    const claim = readClaim(request.method, headers, query, readSigner);
    const now = options.clock.now();
    checkScope(claim.signer.scope, claim.timestamp, options.region);
    checkClock(claim, timeOf(claim.timestamp), now, options.clockSkewMs);
    checkCoverage(claim.signer.signedHeaders, headers);
    const payloadHash = checkPayload(claim, headers, request.body, options.allowUnsignedPayload);
    const canonical = canonicalRequest(request, query, headers, claim.signer, payloadHash, options.publicHost);

    const found = options.findCredential(claim.signer.accessKeyId);
    const credential = found instanceof Promise ? await found : found;
    const isSignatureRight = verify(signingKeyOf(credential ?? NOBODY, claim.signer.scope.date), claim, canonical);
    return admit(credential, claim, isSignatureRight, now);
  };
}

/**
 * Derived keys by credential object, then by date; the region is this authenticator's. The object is the key because a
 * cache by access key id went on accepting a secret after it was rotated: a new secret arrives as a new object.
 */
function createSigningKeyCache(region: string): (credential: Credential, date: string) => SigningKey {
  const keysByCredential = new WeakMap<Credential, Map<string, SigningKey>>();

  return function signingKeyOf(credential, date) {
    let keys = keysByCredential.get(credential);
    if (keys === undefined) {
      keys = new Map();
      keysByCredential.set(credential, keys);
    }
    let key = keys.get(date);
    if (key === undefined) {
      key = deriveSigningKey(credential.secretAccessKey, date, region, SERVICE);
      const oldest = keys.keys().next();
      if (keys.size >= KEYS_PER_CREDENTIAL_MAX && !oldest.done) keys.delete(oldest.value);
      keys.set(date, key);
    }
    return key;
  };
}

/**
 * What parseSigner made of a text, which is the same in every request of one kind that a client sends in a day. Nothing
 * is decided by it; a flood of invented texts empties it and costs a parse each.
 */
function createSignerCache(): (authorizationStart: string) => SignerClaim {
  const signers = new Map<string, SignerClaim>();

  return function readSigner(authorizationStart) {
    const known = signers.get(authorizationStart);
    if (known !== undefined) return known;
    const signer = parseSigner(authorizationStart);
    if (signers.size >= SIGNERS_MAX) signers.clear();
    if (authorizationStart.length <= SIGNER_LENGTH_MAX) signers.set(authorizationStart, signer);
    return signer;
  };
}

/** Remembers the latest timestamp: on a busy server most requests were signed in the same second. */
function createTimeReader(): typeof parseTimestamp {
  let latest = '';
  let time: number | undefined;

  return function timeOf(timestamp) {
    if (timestamp !== latest) {
      time = parseTimestamp(timestamp);
      latest = timestamp;
    }
    return time;
  };
}

/** One source of credentials: a gate that looks at one place while the credentials come from another is no gate. */
function readClaim(
  method: string,
  headers: HeaderMap,
  query: readonly QueryParameter[],
  readSigner: (authorizationStart: string) => SignerClaim,
): SignatureClaim {
  const isPresigned = query.length > 0 && isQueryForm(query);
  if (headers.has('authorization')) {
    if (isPresigned) throw bothForms("'Authorization' as HTTP header");
    return parseHeaderClaim(headers, readSigner);
  }
  if (!isPresigned) {
    throw new ServiceError('MissingAuthenticationTokenException', 'Missing Authentication Token', {
      code: 'CREDENTIALS_MISSING',
    });
  }
  for (const name of ['x-amz-date', 'x-amz-security-token']) {
    if (headers.has(name)) throw bothForms(`'${name}' as HTTP header`);
  }
  if (method !== 'GET') throw invalidSignature('A presigned URL can only be used with GET.', 'PRESIGNED_METHOD');
  return parseQueryClaim(query);
}

function bothForms(header: string): ServiceError {
  return invalidSignature(`Found both 'X-Amz-*' as query-string params and ${header}.`, 'CREDENTIALS_TWICE');
}

function checkScope(scope: CredentialScope, timestamp: string, region: string): void {
  if (scope.terminator !== TERMINATOR) {
    throw invalidSignature(`Credential should be scoped with a valid terminator: '${TERMINATOR}'.`, 'SCOPE_TERMINATOR');
  }
  if (scope.service !== SERVICE) {
    throw invalidSignature(`Credential should be scoped to correct service: '${SERVICE}'.`, 'SCOPE_SERVICE');
  }
  if (scope.region !== region) {
    throw invalidSignature(`Credential should be scoped to a valid region: '${region}'.`, 'SCOPE_REGION');
  }
  if (!timestamp.startsWith(scope.date) || scope.date.length !== 8) {
    throw invalidSignature(
      "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from 'X-Amz-Date'.",
      'SCOPE_DATE',
    );
  }
}

/** Without this a signature could be replayed for ever. Both edges of the window are inside it. */
function checkClock(
  { timestamp, expiresSeconds }: SignatureClaim,
  signedAt: number | undefined,
  now: number,
  clockSkewMs: number,
): void {
  if (signedAt === undefined) {
    throw incompleteSignature("Date must be in ISO-8601 'basic format', such as '20150830T123600Z'.", 'MALFORMED_DATE');
  }
  if (signedAt - now > clockSkewMs) {
    throw invalidSignature(
      `Signature not yet current: ${timestamp} is still later than ${basicTime(now + clockSkewMs)} (${basicTime(now)} + ${clockSkewMs / 60_000} min.)`,
      'SIGNATURE_NOT_YET_CURRENT',
    );
  }
  const lifetimeMs = expiresSeconds === undefined ? clockSkewMs : expiresSeconds * 1000;
  if (now - signedAt > lifetimeMs) {
    throw invalidSignature(
      `Signature expired: ${timestamp} is now earlier than ${basicTime(now - lifetimeMs)} (${basicTime(now)} - ${lifetimeMs / 60_000} min.)`,
      'SIGNATURE_EXPIRED',
    );
  }
}

/** 20150830T123600Z */
function basicTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}

/**
 * Host and every x-amz-* header must be signed, or they could be changed on the way: an idempotency token, say. The
 * content hash needs no signature of its own, being a line of the canonical request.
 */
function checkCoverage(signedHeaders: readonly string[], headers: HeaderMap): void {
  if (!signedHeaders.includes('host')) {
    throw invalidSignature("'Host' must be a 'SignedHeader' in the AWS Authorization.", 'HOST_UNSIGNED');
  }
  for (const name of headers.keys()) {
    if (name.startsWith('x-amz-') && !signedHeaders.includes(name) && name !== 'x-amz-content-sha256') {
      throw invalidSignature(
        `There were headers present in the request which were not signed: '${name}'.`,
        'HEADER_UNSIGNED',
      );
    }
  }
}

/** The last line of the canonical request: the hash of the bytes that came, whatever the client says it is. */
function checkPayload(claim: SignatureClaim, headers: HeaderMap, body: Uint8Array, allowUnsigned: boolean): string {
  const claimed = headers.get('x-amz-content-sha256');
  if (claimed === UNSIGNED_PAYLOAD && claim.form === 'header') {
    if (allowUnsigned) return UNSIGNED_PAYLOAD;
    throw invalidSignature(`'${UNSIGNED_PAYLOAD}' is not accepted here: sign the body.`, 'PAYLOAD_UNSIGNED');
  }
  const received = payloadHashOf(body);
  if (claimed !== undefined && claimed !== received) {
    throw invalidSignature(
      "The value of 'x-amz-content-sha256' does not match the body that was received.",
      'PAYLOAD_MISMATCH',
    );
  }
  if (claim.form === 'query' && received !== EMPTY_BODY_HASH) {
    throw invalidSignature('A presigned URL can not be used with a body.', 'PRESIGNED_BODY');
  }
  return received;
}

/** Runs after the signature is known to be right or wrong, so that only its owner learns that a credential is old. */
function admit(
  credential: Credential | undefined,
  claim: SignatureClaim,
  isSignatureRight: boolean,
  now: number,
): Credential {
  if (credential === undefined || !isTokenRight(credential, claim.sessionToken)) {
    throw new ServiceError('UnrecognizedClientException', 'The security token included in the request is invalid.', {
      code: 'CREDENTIAL_UNKNOWN',
    });
  }
  if (!isSignatureRight) {
    throw invalidSignature(
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
      'SIGNATURE_MISMATCH',
    );
  }
  if (credential.expiresAt !== undefined && credential.expiresAt <= now) {
    throw new ServiceError('ExpiredTokenException', 'The security token included in the request is expired.', {
      code: 'CREDENTIAL_EXPIRED',
    });
  }
  return credential;
}

function isTokenRight({ sessionTokenDigest }: Credential, given: string | undefined): boolean {
  if (sessionTokenDigest === undefined) return given === undefined;
  return given !== undefined && equalInConstantTime(sessionTokenDigest, hash('sha256', given));
}
