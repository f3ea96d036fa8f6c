/**
 * Requests that ask for another protocol on their connection. Which paths may is for the part behind to say; elsewhere the
 * wish is passed over, as RFC 9110 lets a server do, and the request answered like any other. One that is refused gets its
 * answer on the same connection, which is then closed.
 */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { OutwardError } from '../errors.ts';
import { refuse } from './refuse.ts';
import type { Origin, ServerEvents } from './server.ts';

export interface Upgrade {
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What had come already behind the request. */
  readonly head: Buffer;
  readonly path: string;
  readonly origin: Origin;
}

export interface Upgrades {
  /** For metrics: paths hold ids. */
  readonly operation: string;
  readonly takes: (path: string) => boolean;
  /** Takes the connection over and answers the request; or throws, and has done nothing with it. */
  readonly open: (upgrade: Upgrade) => Promise<void>;
}

export const pathOf = (target: string): string => target.split('?', 1)[0]!;

/** Listener for the server's event `upgrade`. */
export function createUpgrader(
  upgrades: Upgrades,
  events: ServerEvents,
  outwardOf: (error: unknown, requestId: string) => OutwardError,
) {
  return async (request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> => {
    const startedAt = performance.now();
    const requestId = randomUUID();
    // Node has let go of the connection: without a listener its breaking off would end the process.
    socket.on('error', () => socket.destroy());
    const origin: Origin = { remoteAddress: (socket as Socket).remoteAddress, requestId };
    let status = 101;
    try {
      await upgrades.open({ request, socket, head, path: pathOf(request.url!), origin });
    } catch (error) {
      const { message, code = '', name, ...outward } = outwardOf(error, requestId);
      status = outward.status;
      if (status >= 500) events.failed(error, requestId, upgrades.operation);
      refuse(socket, { status, reason: STATUS_CODES[status]!, message, code, name });
    } finally {
      events.answered(upgrades.operation, status, (performance.now() - startedAt) / 1_000);
    }
  };
}
