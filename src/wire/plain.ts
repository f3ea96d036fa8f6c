/**
 * Places outside the API, answered by the same server: health, metrics, log-in, desktops in browsers. They are not signed,
 * so each decides for itself whom it answers, and none says anything to pages of other sites.
 */
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import type { Origin } from './server.ts';

/** What comes to a place outside the API. The body is empty but for a POST. */
export interface PlainRequest {
  readonly contentType: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly origin: Origin;
}

export interface PlainAnswer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Buffer;
  /** Nothing on the way may keep it. */
  readonly isSecret?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
}

/** By method and path, as `GET /healthz`. They have no signature, and nothing for pages of other sites. */
export type PlainPlaces = ReadonlyMap<string, AnswerPlainly>;

type AnswerPlainly = (request: PlainRequest) => Promise<PlainAnswer>;

export interface PlainPlace {
  /** For metrics: a path that holds an id names none. */
  readonly operation: string;
  readonly answer: AnswerPlainly;
}

/** More than any body of a plain place needs. */
export const PLAIN_BODY_BYTES_MAX = 4_096;

/** @returns the status. */
export function answerPlain(response: ServerResponse, requestId: string, answered: PlainAnswer): number {
  const { status, contentType, body, isSecret, headers } = answered;
  response.writeHead(status, {
    // What was not modified is described by what the client has.
    ...(status !== 304 && { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) }),
    'x-amzn-RequestId': requestId,
    ...(isSecret && { 'Cache-Control': 'no-store' }),
    ...headers,
  });
  response.end(status === 304 ? undefined : body);
  return status;
}
