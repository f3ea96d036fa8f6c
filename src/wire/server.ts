/**
 * The API's front door over node:http: request id, raw target and headers, bounded body, route, signature, access, input,
 * operation, answer, in this order and for every operation alike. It knows nothing of studios.
 *
 * A request that is not authenticated must cause nothing but its refusal. Whatever goes wrong is turned into bytes here
 * and nowhere else, and the inward text of an error goes to the log, never to the caller.
 */
import { randomUUID } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Operation } from '../contract/operation.ts';
import { ServiceError } from '../errors.ts';
import { errorBody, readInput } from './rest-json.ts';
import type { Match } from './router.ts';
import type { SignedRequest } from './sigv4.ts';

/** What is behind the front door. `P` is whoever signed. */
export interface Api<H, P> {
  readonly match: (method: string, path: string) => Match<H> | undefined;
  readonly authenticate: (request: SignedRequest) => P | Promise<P>;
  /** Throws when the principal may not use the operation. */
  readonly authorize: (principal: P, operation: Operation) => void;
  /** Body of the answer: JSON, as text or as UTF-8 bytes. */
  readonly perform: (
    operation: Operation,
    handler: H,
    input: Readonly<Record<string, unknown>>,
    principal: P,
  ) => Promise<string | Buffer>;
}

export interface PlainAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface ServerLimits {
  readonly bodyBytesMax: number;
  readonly headerBytesMax: number;
  /** The whole request must have arrived within this time. */
  readonly requestMs: number;
  readonly connectionsMax: number;
}

export interface ServerEvents {
  /** Once for every answer; `operation` is `Unknown` where no operation was found. */
  readonly answered: (operation: string, status: number, seconds: number) => void;
  /** An error that is the server's fault. */
  readonly failed: (error: unknown, requestId: string, operation: string) => void;
}

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
  /** Answers outside the API (health, metrics), by path. They take no input. */
  plain: ReadonlyMap<string, () => Promise<PlainAnswer>>,
  limits: ServerLimits,
  events: ServerEvents,
): Server {
  const server = createServer(
    {
      maxHeaderSize: limits.headerBytesMax,
      requestTimeout: limits.requestMs,
      headersTimeout: limits.requestMs,
      connectionsCheckingInterval: Math.max(250, limits.requestMs / 4),
      keepAliveTimeout: 65_000,
      noDelay: true,
    },
    (request, response) => void serve(api, plain, limits, events, request, response),
  );
  server.maxConnections = limits.connectionsMax;
  server.on('clientError', refuseUnparsable);
  return server;
}

async function serve<H, P>(
  api: Api<H, P>,
  plain: ReadonlyMap<string, () => Promise<PlainAnswer>>,
  limits: ServerLimits,
  events: ServerEvents,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const startedAt = performance.now();
  const requestId = randomUUID();
  let operationName = 'Unknown';
  let status = 500;
  try {
    const target = request.url!;
    const queryAt = target.indexOf('?');
    const path = queryAt < 0 ? target : target.slice(0, queryAt);
    if (request.method === 'OPTIONS') {
      status = answer(request, response, 204, requestId, '', PREFLIGHT_HEADERS);
      return;
    }
    const plainAnswer = request.method === 'GET' ? plain.get(path) : undefined;
    if (plainAnswer) {
      operationName = path;
      status = answerPlain(response, requestId, await plainAnswer());
      return;
    }
    const match = api.match(request.method!, path);
    if (!match) throw new ServiceError('UnknownOperationException', 'There is no operation of this method and path');
    const { operation, handler, labelNames } = match.route;
    operationName = operation.name;
    const body = hasBody(request) ? await readBody(request, limits.bodyBytesMax) : NO_BODY;
    const { rawHeaders } = request;
    const principal = await api.authenticate({ method: request.method!, target, rawHeaders, body });
    api.authorize(principal, operation);
    const query = queryAt < 0 ? '' : target.slice(queryAt + 1);
    const input = readInput(operation, { labels: match.labels, labelNames, query, rawHeaders, body });
    const answerText = await api.perform(operation, handler, input, principal);
    status = answer(request, response, operation.status, requestId, answerText);
  } catch (error) {
    status = answerError(request, response, requestId, operationName, error, events);
  } finally {
    events.answered(operationName, status, (performance.now() - startedAt) / 1000);
  }
}

/** Whether a body was announced; reading none costs nothing then. */
function hasBody(request: IncomingMessage): boolean {
  const { headers } = request;
  return (headers['content-length'] ?? '0') !== '0' || headers['transfer-encoding'] !== undefined;
}

/** @throws ServiceError RequestEntityTooLargeException; the caller still gets the refusal. */
function readBody(request: IncomingMessage, bodyBytesMax: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= bodyBytesMax) chunks.push(chunk);
      else if (length > DISCARDED_BYTES_MAX) request.destroy();
      else chunks.length = 0;
    });
    request.on('end', () => {
      if (length > bodyBytesMax) reject(tooLarge(bodyBytesMax));
      else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, length));
    });
    request.on('error', reject);
    request.on('close', () => {
      if (!request.complete) reject(new RequestAborted());
    });
  });
}

/** The caller went away: there is nobody to answer. */
class RequestAborted extends Error {}

function tooLarge(bodyBytesMax: number): ServiceError {
  return new ServiceError('RequestEntityTooLargeException', `The body is larger than ${bodyBytesMax} bytes`, {
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
  const headers =
    status === 204
      ? ['x-amzn-RequestId', requestId]
      : [
          'Content-Type',
          'application/json',
          'Content-Length',
          `${Buffer.byteLength(body)}`,
          'x-amzn-RequestId',
          requestId,
        ];
  if (moreHeaders) headers.push(...moreHeaders);
  else if (request.headers.origin !== undefined) headers.push(...CORS_HEADERS);
  response.writeHead(status, headers);
  if (status === 204) response.end();
  else response.end(body);
  return status;
}

function answerPlain(response: ServerResponse, requestId: string, { status, contentType, body }: PlainAnswer): number {
  response.writeHead(status, {
    'Content-Type': contentType,
    'Content-Length': Buffer.byteLength(body),
    'x-amzn-RequestId': requestId,
  });
  response.end(body);
  return status;
}

/** The error's name stands in a header: SDKs read it there first, and mistake the body's `code` for it otherwise. */
function answerError(
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
  operationName: string,
  error: unknown,
  events: ServerEvents,
): number {
  if (error instanceof RequestAborted || response.destroyed) return 499;
  const outward =
    error instanceof ServiceError
      ? error
      : new ServiceError('InternalServerErrorException', `The server failed. Its log has the reason at ${requestId}.`);
  if (outward.status >= 500) events.failed(error, requestId, operationName);
  if (response.headersSent) {
    response.destroy();
    return outward.status;
  }
  const headers = ['x-amzn-ErrorType', outward.name];
  if (request.headers.origin !== undefined) headers.push(...CORS_HEADERS);
  if (!request.complete) headers.push('Connection', 'close');
  return answer(request, response, outward.status, requestId, errorBody(outward), headers);
}

/** What the HTTP parser refuses never becomes a request: too large a head, too slow, or no HTTP at all. */
function refuseUnparsable(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const [status, text] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', 'The headers are too large']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'The request took too long to arrive']
        : ['400 Bad Request', 'This is not a valid HTTP request'];
  const body = JSON.stringify({ message: text });
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nx-amzn-ErrorType: ValidationException\r\n` +
      `x-amzn-RequestId: ${randomUUID()}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
}
