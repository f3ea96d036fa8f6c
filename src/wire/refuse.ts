/**
 * What never becomes a request: too large a head, too slow, or no HTTP at all. Its connection gets one answer in the form
 * of every other error, time to read it, and is closed. A request before it on the same connection is answered first:
 * its client would take the refusal for its own, and think that nothing was done.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';

export interface Refusal {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
  readonly code: string;
  /** Name of the error, where it is another than that of a request which is no valid one. */
  readonly name?: string;
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

/** Answers of one connection: of its latest request, and of the latest but that which has arrived whole. */
interface Answers {
  latest: ServerResponse;
  whole: ServerResponse | undefined;
}

/**
 * Listeners for the events of one server, and what tells it which requests must be answered first.
 * @param counted is told the status of each refusal.
 */
export function createRefuser(counted: (status: number) => void) {
  const answers = new WeakMap<Duplex, Answers>();
  /** What else these send is thrown away, and wakes this up for each piece of it. */
  const refused = new WeakSet<Duplex>();

  const refuseInTurn = (socket: Duplex, refusal: Refusal): void => {
    if (refused.has(socket)) return;
    refused.add(socket);
    counted(refusal.status);
    const earlier = unfinished(answers.get(socket));
    if (earlier) earlier.once('close', () => refuse(socket, refusal));
    else refuse(socket, refusal);
  };

  return {
    /** Told of each request as it begins, before anything of its answer is sent. */
    began: (response: ServerResponse): void => {
      const { socket } = response.req;
      const known = answers.get(socket);
      if (!known) {
        answers.set(socket, { latest: response, whole: undefined });
        return;
      }
      if (known.latest.req.complete) known.whole = known.latest;
      known.latest = response;
    },
    unparsable: (error: NodeJS.ErrnoException, socket: Duplex): void =>
      refuseInTurn(socket, REFUSALS[error.code ?? ''] ?? MALFORMED),
    tunnel: (_request: IncomingMessage, socket: Duplex): void => {
      // Node has let go of the connection: without a listener its breaking off would end the process.
      socket.on('error', () => socket.destroy());
      socket.resume();
      refuseInTurn(socket, TUNNEL);
    },
  };
}

/** The answer that is still to come, for a request that has arrived whole; what has not is part of what is refused. */
function unfinished(answers: Answers | undefined): ServerResponse | undefined {
  const last = answers?.latest.req.complete ? answers.latest : answers?.whole;
  return last?.closed ? undefined : last;
}

/** Answers on a connection that is no request's any more, and closes it. */
export function refuse(socket: Duplex, { status, reason, message, code, name = 'ValidationException' }: Refusal): void {
  // Its last answer has closed it already.
  if (socket.writableEnded) return;
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const body = JSON.stringify({ message, code });
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json\r\nx-amzn-ErrorType: ${name}\r\n` +
      `x-amzn-RequestId: ${randomUUID()}\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}
