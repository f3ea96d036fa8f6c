/**
 * What never becomes a request: too large a head, too slow, or no HTTP at all. Its connection gets one answer in the form
 * of every other error, time to read it, and is closed. A request before it on the same connection is answered first:
 * its client would take the refusal for its own, and think that nothing was done.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
  readonly code: string;
}

const TUNNEL = { status: 400, reason: 'Bad Request', message: 'This server is no proxy', code: 'NO_PROXY' };
const MALFORMED = {
  status: 400,
  reason: 'Bad Request',
  message: 'This is not a valid HTTP request',
  code: 'MALFORMED_HTTP',
};

/** By code of Node's error. */
const REFUSALS: Readonly<Record<string, Refusal>> = {
  HPE_HEADER_OVERFLOW: {
    status: 431,
    reason: 'Request Header Fields Too Large',
    message: 'The headers are too large',
    code: 'HEADERS_TOO_LARGE',
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: 408,
    reason: 'Request Timeout',
    message: 'The request took too long to arrive',
    code: 'REQUEST_TIMEOUT',
  },
};

/** A client that was refused may take this long to read why and to close its side. */
const LINGER_MS = 1_000;

/**
 * Listeners for the events of one server, and what tells it which requests must be answered first.
 * @param counted is told the status of each refusal.
 */
export function createRefuser(counted: (status: number) => void) {
  /** By connection, the answer of its last request that arrived whole. */
  const lastAnswers = new WeakMap<Duplex, ServerResponse>();
  /** What else these send is thrown away, and wakes this up for each piece of it. */
  const refused = new WeakSet<Duplex>();

  return {
    arrived: (response: ServerResponse): void => {
      lastAnswers.set(response.req.socket, response);
    },
    unparsable: (error: NodeJS.ErrnoException, socket: Duplex): void => {
      if (refused.has(socket)) return;
      refused.add(socket);
      const refusal = REFUSALS[error.code ?? ''] ?? MALFORMED;
      const earlier = lastAnswers.get(socket);
      counted(refusal.status);
      if (earlier && !earlier.closed) earlier.once('close', () => refuse(socket, refusal));
      else refuse(socket, refusal);
    },
    tunnel: (_request: IncomingMessage, socket: Duplex): void => {
      counted(TUNNEL.status);
      refuse(socket, TUNNEL);
    },
  };
}

function refuse(socket: Duplex, { status, reason, message, code }: Refusal): void {
  // Its last answer has closed it already.
  if (socket.writableEnded) return;
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify({ message, code });
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json\r\nx-amzn-ErrorType: ValidationException\r\n` +
      `x-amzn-RequestId: ${randomUUID()}\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}
