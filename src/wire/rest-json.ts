/**
 * The restJson1 protocol in both directions: an operation's input from labels, query, headers and body, and an error as
 * status, header and body. Comes after authentication; knows the contract and nothing of what operations do.
 */
import { isUtf8 } from 'node:buffer';
import { clientTokenMember, MODELLED_ERRORS, type Operation } from '../contract/operation.ts';
import type { Members } from '../contract/shape.ts';
import { type OutwardError, ServiceError, validationFailed } from '../errors.ts';
import { readMember, readMembers, unreadableBody, Violations } from './validate.ts';

export interface RawRequest {
  /** Raw label values in the order of `labelNames`. */
  readonly labels: readonly string[];
  readonly labelNames: readonly string[];
  /** Behind the `?`, still encoded. */
  readonly query: string;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

type Input = Record<string, unknown>;

/** The value of a header that may stand once. @throws ServiceError ValidationException when it is repeated. */
export function singleHeader(rawHeaders: readonly string[], lowerCaseName: string): string | undefined {
  let found: string | undefined;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]!;
    if (name.length !== lowerCaseName.length || name.toLowerCase() !== lowerCaseName) continue;
    if (found !== undefined) throw validationFailed(`The header ${lowerCaseName} is there twice`, 'REPEATED_HEADER');
    found = rawHeaders[index + 1];
  }
  return found;
}

/**
 * Everything that the operation's contract names, validated, in one object.
 * @throws ServiceError UnsupportedMediaTypeException, NotAcceptableException or ValidationException
 */
export function readInput(operation: Operation, request: RawRequest): Input {
  requireAcceptable(request.rawHeaders);
  const input: Input = {};
  const violations = new Violations();
  readLabels(operation, request, input, violations);
  if (hasMembers(operation.query)) readQuery(operation.query, request.query, input, violations);
  if (operation.clientToken) {
    const clientToken = singleHeader(request.rawHeaders, 'x-amz-client-token');
    readMembers({ clientToken: clientTokenMember }, { clientToken }, '', input, violations);
  }
  if (hasMembers(operation.body)) readMembers(operation.body, readBody(request), '', input, violations);
  if (violations.any) throw violations.toError();
  return input;
}

function hasMembers(members: Members): boolean {
  for (const _ in members) return true;
  return false;
}

function readLabels(operation: Operation, request: RawRequest, input: Input, violations: Violations): void {
  for (let index = 0; index < request.labelNames.length; index += 1) {
    const name = request.labelNames[index]!;
    const value = decode(request.labels[index]!, `/${name}`);
    readMember(name, operation.labels[name]!, value, '', input, violations);
  }
}

function decode(text: string, path: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    throw validationFailed(
      `1 validation error detected. Value at '${path}' failed to satisfy constraint: Member must be valid percent-encoded UTF-8`,
      'BAD_ENCODING',
    );
  }
}

/** Members that hold several values repeat their key; any other key that stands twice is refused: which would count? */
function readQuery(members: Members, query: string, input: Input, violations: Violations): void {
  const values: Record<string, unknown> = {};
  for (const pair of query === '' ? [] : query.split('&')) {
    const equals = pair.indexOf('=');
    const name = decode(equals < 0 ? pair : pair.slice(0, equals), '/query');
    const member = Object.hasOwn(members, name) ? members[name]! : undefined;
    if (!member) continue;
    const value = equals < 0 ? '' : decode(pair.slice(equals + 1).replaceAll('+', ' '), `/${name}`);
    if (member.shape.kind === 'list') {
      const earlier = values[name] as string[] | undefined;
      if (earlier) earlier.push(value);
      else values[name] = [value];
    } else if (Object.hasOwn(values, name) && member.shape.kind === 'string' && member.shape.joined) {
      values[name] = `${values[name]},${value}`;
    } else if (Object.hasOwn(values, name)) {
      violations.add(`/${name}`, 'Member must be given once');
    } else {
      values[name] = member.shape.kind === 'integer' ? readInteger(value, `/${name}`, violations) : value;
    }
  }
  readMembers(members, values, '', input, violations);
}

/** The number that a text stands for; null, and a violation, when it stands for none. */
function readInteger(text: string, path: string, violations: Violations): number | null {
  if (/^-?\d{1,15}$/.test(text)) return Number(text);
  violations.add(path, 'Member must be an integer of at most 15 digits');
  return null;
}

/** An empty body is an empty object: old SDKs send none, and the vendor's service made them unusable by refusing it. */
function readBody({ body, rawHeaders }: RawRequest): Record<string, unknown> {
  if (body.length === 0) return {};
  const contentType = singleHeader(rawHeaders, 'content-type');
  if (contentType !== undefined && mediaTypeOf(contentType) !== 'application/json') {
    throw new ServiceError(
      'UnsupportedMediaTypeException',
      'The body must be sent with Content-Type: application/json',
      { code: 'CONTENT_TYPE_NOT_JSON' },
    );
  }
  if (!isUtf8(body)) throw unreadableBody('The body is not UTF-8.');
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'));
  } catch {
    throw unreadableBody('The body is not valid JSON.');
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw unreadableBody('The body must be a JSON object.');
}

function mediaTypeOf(header: string): string {
  const semicolon = header.indexOf(';');
  return (semicolon < 0 ? header : header.slice(0, semicolon)).trim().toLowerCase();
}

function requireAcceptable(rawHeaders: readonly string[]): void {
  const accept = singleHeader(rawHeaders, 'accept');
  if (accept === undefined || accept === '*/*') return;
  const acceptable = accept.split(',').some((range) => {
    const mediaType = mediaTypeOf(range);
    return mediaType === '*/*' || mediaType === 'application/*' || mediaType === 'application/json' || mediaType === '';
  });
  if (acceptable) return;
  throw new ServiceError('NotAcceptableException', 'Answers are application/json; accept that', {
    code: 'JSON_NOT_ACCEPTED',
  });
}

/**
 * Body of an error. The inward text stays inside. What the API does not model carries its `code` as `reason`: the
 * vendor's JavaScript client takes the `code` of an error it has no class for to be its name.
 */
export function errorBody({ name, message, code, context }: OutwardError): string {
  return JSON.stringify(
    MODELLED_ERRORS.includes(name) ? { message, code, context } : { message, reason: code, context },
  );
}
