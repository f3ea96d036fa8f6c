/**
 * The API's front door over node:http, with TLS or without: request id, raw target and headers, bounded body, route, signature, input,
 * operation, answer, in this order and for every operation alike. It knows nothing of studios.
 *
 * A request that is not authenticated must cause nothing but its refusal. Whatever goes wrong is turned into bytes here
 * and nowhere else, and the inward text of an error goes to the log, never to the caller.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { API_PREFIX, type Operation } from '../contract/operation.ts';
import { type OutwardError, ServiceError, validationFailed } from '../errors.ts';
import type { SignedRequest } from './canonical-request.ts';
import { answerPlain, PLAIN_BODY_BYTES_MAX, type PlainPlace, type PlainPlaces } from './plain.ts';
import { createRefuser } from './refuse.ts';
import { errorBody, readInput } from './rest-json.ts';
import type { Match } from './router.ts';
import { createUpgrader, pathOf, type Upgrades } from './upgrade.ts';

/** Not by `import`, which reads every export at once: some of them load a whole HTTP client, and every start would wait for it. */
const { createServer } = process.getBuiltinModule('node:http');

/** What is behind the front door. `P` is whoever signed. */
export interface Api<H, P> {
  readonly match: (method: string, path: string) => Match<H> | undefined;
  readonly authenticate: (request: SignedRequest) => P | Promise<P>;
  /** Throws when the principal asks too much at once. Nothing has been read for the call yet. */
  readonly admit: (principal: P, operation: Operation) => void;
  /** Decides whether the principal may, and does it. Body of the answer: JSON, as text or as UTF-8 bytes. */
  readonly perform: (
    operation: Operation,
    handler: H,
    input: Readonly<Record<string, unknown>>,
    principal: P,
    origin: Origin,
  ) => Promise<string | Buffer>;
  /** Told of every call of an operation that ended in an error, before it is answered. */
  readonly refused: (call: RefusedCall<P>, error: unknown) => void;
  /** Places outside the API whose paths hold ids. */
  readonly findPlace?: (method: string, path: string) => PlainPlace | undefined;
  readonly upgrades?: Upgrades;
}

/** Where a request came from, and what its answer calls it. */
export interface Origin {
  readonly remoteAddress: string | undefined;
  readonly requestId: string;
}

export interface RefusedCall<P> {
  readonly operation: Operation;
  /** Undefined when it never became known who called. */
  readonly principal: P | undefined;
  /** Undefined where it was not read, or was not valid. */
  readonly input: Readonly<Record<string, unknown>> | undefined;
  readonly origin: Origin;
}

export interface ServerLimits {
  readonly bodyBytesMax: number;
  readonly headerBytesMax: number;
  /** The whole request must have arrived within this time. */
  readonly requestMs: number;
  readonly connectionsMax: number;
  /** A connection on which nothing moves for so long is closed: its client no longer reads its answer. */
  readonly silenceMs?: number;
}

/** In PEM form; the certificate may have those that it depends on behind it. Times in ms since 1970. */
export interface Certificate {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly validFrom: number;
  readonly validTo: number;
}

export interface ServerEvents {
  /** Once for every request, in the turn of the event loop in which it was read. */
  readonly arrived: () => void;
  /** Once for every answer; `operation` is `Unknown` where no operation was found. */
  readonly answered: (operation: string, status: number, seconds: number) => void;
  /** An error that is the server's fault. */
  readonly failed: (error: unknown, requestId: string, operation: string) => void;
}

const SILENCE_MS = 120_000;
/** For a client to agree on TLS. A connection that has not is no request's yet, and a stop must not wait long for it. */
const HANDSHAKE_MS = 5_000;
/** What is still sent of a body that is too large is read and thrown away up to here, so that the refusal arrives. */
const DISCARDED_BYTES_MAX = 64 * 1024 * 1024;

const CORS_HEADERS = [
  'Access-Control-Allow-Origin',
  '*',
  'Access-Control-Expose-Headers',
  'x-amzn-errortype,x-amzn-requestid,x-amzn-trace-id,x-amz-apigw-id',
];
const PREFLIGHT_HEADERS = [
  ...CORS_HEADERS,
  'Access-Control-Allow-Methods',
  'GET,POST,PATCH,DELETE,PUT,OPTIONS',
  'Access-Control-Allow-Headers',
  '*,content-type,authorization,x-amz-date,x-amz-content-sha256,x-amz-security-token,x-amz-user-agent,' +
    'x-amzn-trace-id,x-amz-dryrun,x-amz-client-token,x-api-key',
  'Access-Control-Max-Age',
  '600',
];
const NO_BODY = Buffer.alloc(0);

export function createApiServer<H, P>(
  api: Api<H, P>,
  /** Answers outside the API: health, metrics, log-in. */
  plain: PlainPlaces,
  limits: ServerLimits,
  events: ServerEvents,
  /** For TLS; plain HTTP where absent. The server's `setSecureContext` takes the next one. */
  certificate?: Certificate,
): Server | TlsServer {
  const refuser = createRefuser((status) => events.answered('Unknown', status, 0));
  const listener = (request: IncomingMessage, response: ServerResponse) =>
    void serve(api, plain, limits, events, refuser.began, request, response);
  const { upgrades } = api;
  const options = {
    maxHeaderSize: limits.headerBytesMax,
    requestTimeout: limits.requestMs,
    headersTimeout: limits.requestMs,
    connectionsCheckingInterval: Math.max(250, Math.min(1_000, limits.requestMs / 4)),
    keepAliveTimeout: 65_000,
    noDelay: true,
    // Most requests have no body; Node then leaves out the events of its end, which nobody listens for.
    optimizeEmptyRequests: true,
    // Node would refuse it without a request id and an error's name, as it would an unknown expectation.
    requireHostHeader: false,
    shouldUpgradeCallback: ({ method, url }: IncomingMessage) =>
      method === 'GET' && upgrades !== undefined && upgrades.takes(pathOf(url!)),
  };
  const server = certificate ? overTls(certificate, options, listener) : createServer(options, listener);
  server.maxConnections = limits.connectionsMax;
  server.timeout = limits.silenceMs ?? SILENCE_MS;
  server.on('checkExpectation', listener);
  server.on('clientError', refuser.unparsable);
  server.on('connect', refuser.tunnel);
  if (upgrades) server.on('upgrade', createUpgrader(upgrades, events, outwardOf));
  return server;
}

function overTls({ cert, key }: Certificate, options: object, listener: RequestListener): TlsServer {
  const server = process
    .getBuiltinModule('node:https')
    .createServer({ ...options, cert, key, handshakeTimeout: HANDSHAKE_MS }, listener);
  // Node would hand it on as a request that cannot be parsed; but an answer in the clear is none to a client of TLS.
  server.removeAllListeners('tlsClientError');
  server.on('tlsClientError', (_error: Error, socket: Socket) => socket.destroy());
  return server;
}

async function serve<H, P>(
  api: Api<H, P>,
  plain: PlainPlaces,
  limits: ServerLimits,
  events: ServerEvents,
  began: (response: ServerResponse) => void,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  events.arrived();
  began(response);
  const startedAt = performance.now();
  const requestId = randomUUID();
  // Read while the connection is certain to be there: once it is closed it has no address.
  const origin: Origin = { remoteAddress: request.socket.remoteAddress, requestId };
  let operationName = 'Unknown';
  /** Whether pages of other sites may read the answer. */
  let isForAll = true;
  let status = 500;
  let match: Match<H> | undefined;
  let principal: P | undefined;
  let input: RefusedCall<P>['input'];
  try {
    const target = request.url!;
    const queryAt = target.indexOf('?');
    const path = queryAt < 0 ? target : target.slice(0, queryAt);
    // None of the places outside begins like the API: nearly every request is spared two look-ups.
    const isOfApi = path.startsWith(API_PREFIX);
    const place = isOfApi ? undefined : findPlace(api, plain, request.method!, path);
    isForAll = isOfApi || (place === undefined && !plain.has(`POST ${path}`));
    if (request.method === 'OPTIONS') {
      status = answer(request, response, 204, requestId, '', isForAll ? PREFLIGHT_HEADERS : []);
      return;
    }
    if (place) {
      operationName = place.operation;
      const body = hasBody(request) ? await readBody(request, PLAIN_BODY_BYTES_MAX) : NO_BODY;
      const { headers } = request;
      const contentType = headers['content-type'];
      status = answerPlain(response, requestId, await place.answer({ contentType, headers, body, origin }));
      return;
    }
    match = api.match(request.method!, path);
    if (match) operationName = match.route.operation.name;
    // Read also where it is of no use: a client that still sends when the connection closes may never see its answer.
    const body = hasBody(request) ? await readBody(request, limits.bodyBytesMax) : NO_BODY;
    requireHost(request);
    if (!match) throw unknownOperation();
    const { operation, handler, labelNames } = match.route;
    const { rawHeaders } = request;
    principal = await api.authenticate({ method: request.method!, target, rawHeaders, body });
    const query = queryAt < 0 ? '' : target.slice(queryAt + 1);
    api.admit(principal, operation);
    input = readInput(operation, { labels: match.labels, labelNames, query, rawHeaders, body });
    const answerText = await api.perform(operation, handler, input, principal, origin);
    status = answer(request, response, operation.status, requestId, answerText);
  } catch (error) {
    if (match && !(error instanceof RequestAborted)) {
      api.refused({ operation: match.route.operation, principal, input, origin }, error);
    }
    status = answerError(request, response, requestId, operationName, error, events, isForAll);
  } finally {
    events.answered(operationName, status, (performance.now() - startedAt) / 1000);
  }
}

function findPlace<H, P>(api: Api<H, P>, plain: PlainPlaces, method: string, path: string): PlainPlace | undefined {
  const answer = plain.get(`${method} ${path}`);
  return answer ? { operation: path, answer } : api.findPlace?.(method, path);
}

/** Whether a body was announced; reading none costs nothing then. */
function hasBody({ headers }: IncomingMessage): boolean {
  return headers['content-length'] !== undefined || headers['transfer-encoding'] !== undefined;
}

/**
 * The body in one piece. It is copied together as it comes: a list of its chunks would take hundreds of times its size
 * when a client sends chunks of one byte.
 * @throws ServiceError RequestEntityTooLargeException; the caller still gets the refusal.
 */
function readBody(request: IncomingMessage, bodyBytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    let body: Buffer = NO_BODY;
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      const end = length + chunk.length;
      if (end > bodyBytesMax) body = NO_BODY;
      else if (length === 0) body = chunk;
      else {
        if (end > body.length) body = grown(body, length, Math.min(2 * end, bodyBytesMax));
        chunk.copy(body, length);
      }
      length = end;
      if (length > DISCARDED_BYTES_MAX) request.destroy();
    });
    request.on('end', () => {
      if (length > bodyBytesMax) reject(tooLarge(bodyBytesMax));
      else resolve(body.subarray(0, length));
    });
    // Also where an error broke it off, which Node tells only those who listen for it.
    request.on('close', () => {
      if (!request.complete) reject(new RequestAborted());
    });
  });
}

/** A longer buffer that begins with the first `length` bytes of `bytes`. */
function grown(bytes: Buffer, length: number, newLength: number): Buffer {
  const longer = Buffer.allocUnsafe(newLength);
  bytes.copy(longer, 0, 0, length);
  return longer;
}

/** The caller went away: there is nobody to answer. */
class RequestAborted extends Error {}

/** HTTP/1.1 asks for a 400; without a host nothing can be signed anyway. */
function requireHost({ headers }: IncomingMessage): void {
  if (headers.host === undefined) throw validationFailed('The Host header is missing', 'HOST_MISSING');
}

function unknownOperation(): ServiceError {
  return new ServiceError('UnknownOperationException', 'There is no operation of this method and path', {
    code: 'UNKNOWN_OPERATION',
  });
}

function tooLarge(bodyBytesMax: number): ServiceError {
  return new ServiceError('RequestEntityTooLargeException', `The body is larger than ${bodyBytesMax} bytes`, {
    code: 'BODY_TOO_LARGE',
    context: { bodyBytesMax: String(bodyBytesMax) },
  });
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  requestId: string,
  body: string | Buffer,
  moreHeaders?: readonly string[],
): number {
  const bytes = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  const headers =
    status === 204
      ? ['x-amzn-RequestId', requestId]
      : ['Content-Type', 'application/json', 'Content-Length', `${bytes}`, 'x-amzn-RequestId', requestId];
  if (moreHeaders) headers.push(...moreHeaders);
  else if (request.headers.origin !== undefined) headers.push(...CORS_HEADERS);
  response.writeHead(status, headers);
  if (status === 204) response.end();
  // As many bytes as characters: plain ASCII, which Node writes faster when it is told.
  else response.end(body, bytes === body.length ? 'latin1' : 'utf8');
  return status;
}

/** What the caller is told: of a failure of the server's own, also where its administrator finds the reason. */
function outwardOf(error: unknown, requestId: string): OutwardError {
  const { name, status, message, code, context, retryAfterSeconds } =
    error instanceof ServiceError ? error : serverFailed();
  const hint = status < 500 ? '' : ` The server's log has the reason at ${requestId}.`;
  return { name, status, message: message + hint, code, context, retryAfterSeconds };
}

function serverFailed(): ServiceError {
  return new ServiceError('InternalServerErrorException', 'The server failed.', { code: 'SERVER_FAILED' });
}

/** The error's name stands in a header: SDKs read it there first, and mistake the body's `code` for it otherwise. */
function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
  operationName: string,
  error: unknown,
  events: ServerEvents,
  isForAll: boolean,
): number {
  if (error instanceof RequestAborted || response.destroyed) return 499;
  const outward = outwardOf(error, requestId);
  if (outward.status >= 500) events.failed(error, requestId, operationName);
  if (response.headersSent) {
    response.destroy();
    return outward.status;
  }
  const headers = ['x-amzn-ErrorType', outward.name];
  if (outward.retryAfterSeconds !== undefined) headers.push('Retry-After', `${outward.retryAfterSeconds}`);
  if (isForAll && request.headers.origin !== undefined) headers.push(...CORS_HEADERS);
  return answer(request, response, outward.status, requestId, errorBody(outward), headers);
}
