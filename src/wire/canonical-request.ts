/**
 * Signature Version 4, the text that is signed: from a request as it was received to its canonical request.
 *
 * It decides how bytes are read. Every canonical value is rebuilt here from the raw target and the raw headers; nothing
 * that another part has decoded, joined or resolved may be used, because then the text that was verified and the text
 * that is acted on could differ. A canonical request must never reach a message that leaves the process.
 */
import { hash } from 'node:crypto';
import { ServiceError, validationFailed } from '../errors.ts';

/** A request as it was received. */
export interface SignedRequest {
  readonly method: string;
  /** The raw request target, `req.url`: neither decoded nor resolved. */
  readonly target: string;
  /** Node's flat `[name, value, name, value, ...]`. */
  readonly rawHeaders: readonly string[];
  readonly body: Uint8Array;
}

/** One query parameter, decoded. */
export interface QueryParameter {
  readonly name: string;
  readonly value: string;
}

/** Lower-case name to value as received; repeats are joined with a comma. */
export type HeaderMap = Pick<ReadonlyMap<string, string>, 'get' | 'has' | 'keys'>;

/** Which headers a client says it has signed. */
export interface SignedHeaders {
  /** Lower-case, strictly ascending. */
  readonly signedHeaders: readonly string[];
  /** The same as the client wrote them, joined with `;`. */
  readonly signedHeaderList: string;
}

export const EMPTY_BODY_HASH = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

/** Headers that decide who is calling. Sent twice, two readers could pick different ones. */
const SINGLE_HEADERS = ['authorization', 'host', 'x-amz-content-sha256', 'x-amz-date', 'x-amz-security-token'];

/** Several times as many as any client and the proxies on its way send. */
const HEADERS_MAX = 128;

/** Needs no normalising (no segment is empty or starts with a dot) and holds nothing to encode but `%`. */
const PLAIN_PATH = /^(?:\/[\w\-~%][\w\-.~%]*)+\/?$/;
const UNRESERVED = /^[\w\-.~]*$/;
const LEFT_BY_ENCODE_URI_COMPONENT = /[!'()*]/g;
const IRREGULAR_SPACE = /^[ \t\r\n]|[ \t\r\n]$|[\t\r\n]| {2}/;
const SPACES = /[ \t\r\n]+/g;

export function invalidSignature(message: string, code: string): ServiceError {
  return new ServiceError('InvalidSignatureException', message, { code });
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading the request

function pathOf(target: string): string {
  const mark = target.indexOf('?');
  return mark < 0 ? target : target.slice(0, mark);
}

/**
 * Every header once, under its lower-case name. Made from rawHeaders because Node's `req.headers` joins repeats with
 * ", " where the canonical form wants ",", and drops some repeats altogether.
 */
export function readHeaders(rawHeaders: readonly string[]): HeaderMap {
  if (rawHeaders.length > 2 * HEADERS_MAX) {
    throw validationFailed(`There are more than ${HEADERS_MAX} headers`, 'TOO_MANY_HEADERS');
  }
  const headers = new HeaderList();
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    headers.add(rawHeaders[index]!.toLowerCase(), rawHeaders[index + 1]!);
  }
  return headers;
}

/** The dozen headers of a request, compared one by one: to hash names that nobody has seen yet costs several times as much. */
class HeaderList implements HeaderMap {
  readonly #names: string[] = [];
  readonly #values: string[] = [];

  add(name: string, value: string): void {
    const at = this.#names.indexOf(name);
    if (at < 0) {
      this.#names.push(name);
      this.#values.push(value);
    } else if (SINGLE_HEADERS.includes(name)) {
      throw invalidSignature(`The header '${name}' must not appear more than once.`, 'DUPLICATE_HEADER');
    } else {
      this.#values[at] = `${collapseSpaces(this.#values[at]!)},${collapseSpaces(value)}`;
    }
  }

  get(name: string): string | undefined {
    const at = this.#names.indexOf(name);
    return at < 0 ? undefined : this.#values[at];
  }

  has(name: string): boolean {
    return this.#names.includes(name);
  }

  keys(): ArrayIterator<string> {
    return this.#names.values();
  }
}

/**
 * The decoded parameters of a raw target, repeats kept in their order. Refuses an X-Amz-* parameter that is there
 * twice, in any case and any escaping, so that no two readers can disagree about which one counts.
 */
export function readQuery(target: string): readonly QueryParameter[] {
  const mark = target.indexOf('?');
  if (mark < 0 || mark === target.length - 1) return [];
  const parameters: QueryParameter[] = [];
  const amzNames = new Set<string>();
  for (const pair of target.slice(mark + 1).split('&')) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const name = decodeQueryText(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : decodeQueryText(pair.slice(equals + 1));
    const lowerName = name.toLowerCase();
    if (lowerName.startsWith('x-amz-')) {
      if (amzNames.has(lowerName)) {
        throw invalidSignature(
          `The query parameter '${name}' must not appear more than once.`,
          'DUPLICATE_QUERY_PARAMETER',
        );
      }
      amzNames.add(lowerName);
    }
    parameters.push({ name, value });
  }
  return parameters;
}

/** A raw `+` is a space, as in every HTML form; SDKs write %20 for a space and %2B for a plus. */
export function decodeQueryText(text: string): string {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text;
  if (!spaced.includes('%')) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    throw invalidSignature('The query string holds a percent escape that is not UTF-8.', 'MALFORMED_QUERY');
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Putting it together

/** `publicHost` stands in for the Host header when a proxy in front of us rewrites that. */
export function canonicalRequest(
  request: Pick<SignedRequest, 'method' | 'target'>,
  query: readonly QueryParameter[],
  headers: HeaderMap,
  signer: SignedHeaders,
  payloadHash: string,
  publicHost?: string,
): string {
  const path = canonicalPath(pathOf(request.target));
  const lines = canonicalHeaders(headers, signer.signedHeaders, publicHost);
  return `${request.method}\n${path}\n${canonicalQuery(query)}\n${lines}\n${signer.signedHeaderList}\n${payloadHash}`;
}

/**
 * The path normalised (RFC 3986, section 5.2.4, and no empty segments) and then encoded once more as it stands, so that
 * the label `arn%3Aaws` becomes `arn%253Aaws`. Every service but S3 signs so; botocore (auth.py, `_normalize_url_path`)
 * and smithy (`getCanonicalPath`) agree. Never `new URL()`, which also resolves an escaped `%2e%2e`.
 */
export function canonicalPath(path: string): string {
  if (PLAIN_PATH.test(path)) return path.replaceAll('%', '%25');
  return normalisePath(path).split('/').map(encodeRfc3986).join('/');
}

function normalisePath(path: string): string {
  const segments: string[] = [];
  for (const segment of path.split('/')) {
    if (segment === '..') segments.pop();
    else if (segment !== '' && segment !== '.') segments.push(segment);
  }
  const isRooted = path === '' || path.startsWith('/');
  const keepsTrailingSlash = segments.length > 0 && path.endsWith('/');
  return `${isRooted ? '/' : ''}${segments.join('/')}${keepsTrailingSlash ? '/' : ''}`;
}

/** Encoded again from the decoded parameters, by encoded name and then encoded value; a signature cannot sign itself. */
export function canonicalQuery(parameters: readonly QueryParameter[]): string {
  if (parameters.length === 0) return '';
  return parameters
    .filter(({ name }) => name.toLowerCase() !== 'x-amz-signature')
    .map(({ name, value }) => ({ name: encodeRfc3986(name), value: encodeRfc3986(value) }))
    .sort((left, right) => compareText(left.name, right.name) || compareText(left.value, right.value))
    .map(({ name, value }) => `${name}=${value}`)
    .join('&');
}

function canonicalHeaders(headers: HeaderMap, signedHeaders: readonly string[], publicHost?: string): string {
  let lines = '';
  for (const name of signedHeaders) {
    const value = name === 'host' && publicHost !== undefined ? publicHost : headers.get(name);
    if (value === undefined) {
      throw invalidSignature(
        `The header '${name}' is listed in SignedHeaders but was not sent.`,
        'SIGNED_HEADER_ABSENT',
      );
    }
    lines += `${name}:${collapseSpaces(value)}\n`;
  }
  return lines;
}

function collapseSpaces(value: string): string {
  if (!IRREGULAR_SPACE.test(value)) return value;
  const collapsed = value.replace(SPACES, ' ');
  return collapsed.slice(collapsed.startsWith(' ') ? 1 : 0, collapsed.endsWith(' ') ? -1 : undefined);
}

/** Everything but RFC 3986's unreserved characters, in upper-case hex of UTF-8. */
function encodeRfc3986(text: string): string {
  if (UNRESERVED.test(text)) return text;
  return encodeURIComponent(text).replace(
    LEFT_BY_ENCODE_URI_COMPONENT,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function compareText(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

export function payloadHashOf(body: Uint8Array): string {
  return body.length === 0 ? EMPTY_BODY_HASH : hash('sha256', body);
}
