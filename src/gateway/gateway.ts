/**
 * Desktops in the browser, from the address of a stream to pixels and keys. Four places below `/streams/`: the page, which
 * is the same for every id and tells nothing of it; the ticket, redeemed once for a cookie; the viewer, for a page that asks
 * whether it may come back; and the socket. What may be is decided in domain/viewer; here it is carried out over HTTP.
 *
 * A browser is only answered by its cookie from pages of our own address: a socket or a ticket that comes from any other
 * page, or from none, is refused before anything is read for it.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { WebSocketServer } from 'ws';
import type { Compute } from '../compute/compute.ts';
import { Buckets } from '../domain/buckets.ts';
import { connectViewer, redeemTicket, requireViewer, type ViewerServices } from '../domain/viewer.ts';
import { ServiceError, validationFailed } from '../errors.ts';
import type { Log } from '../log.ts';
import type { PlainAnswer, PlainPlace, PlainRequest } from '../wire/plain.ts';
import type { Upgrade, Upgrades } from '../wire/upgrade.ts';
import { ASSETS_PATH, type Asset, type Assets, readAssets } from './assets.ts';
import { COMMON_HEADERS, FILE_HEADERS, pageHeaders } from './headers.ts';
import { RELAY_LIMITS, type RelayLimits } from './relay.ts';
import { type ViewerMetrics, Viewers } from './viewers.ts';

export interface GatewayOptions {
  readonly services: ViewerServices;
  readonly compute: Pick<Compute, 'open'>;
  readonly log: Log;
  readonly metrics: ViewerMetrics;
  readonly relayLimits?: RelayLimits;
}

export interface Gateway {
  readonly findPlace: (method: string, path: string) => PlainPlace | undefined;
  readonly upgrades: Upgrades;
  /** Ends all viewers, and takes no more. */
  readonly close: () => void;
}

const PATH = /^\/streams\/(?<streamId>[\w-]{22})(?<place>\/ticket|\/viewer|\/socket)?$/;
const TICKET = /^[\w-]{43}$/;
const COOKIE = 'backlot-stream';
/** Of one stream. Each is a write of the database, and a page that comes back waits longer each time. */
const CONNECTIONS = { perSecond: 0.5, burst: 30 };
/** Messages of a viewer are small; a long text comes in several. */
const MESSAGE_BYTES_MAX = 64 * 1024;

export function createGateway(options: GatewayOptions): Gateway {
  const { services, compute, log, metrics } = options;
  const publicUrl = () => new URL(services.settings.publicUrl());
  let assets: Assets | undefined;
  const theAssets = () => {
    assets ??= readAssets();
    return assets;
  };
  const viewers = new Viewers({
    services,
    log,
    metrics,
    relayLimits: options.relayLimits ?? RELAY_LIMITS,
    connect: async (sessionId, signal) => (await compute.open(sessionId, signal)).connect(signal),
  });
  const connections = new Buckets(CONNECTIONS);
  let sockets: Promise<WebSocketServer> | undefined;
  let isClosed = false;

  const answerTicket = async (streamId: string, { body, headers, contentType, origin }: PlainRequest) => {
    requireOrigin(headers, publicUrl());
    const { cookie, endsAt } = await redeemTicket(streamId, readTicket(contentType, body), origin, services);
    viewers.look();
    const seconds = Math.max(0, Math.ceil((endsAt - services.clock.now()) / 1_000));
    const secure = publicUrl().protocol === 'https:' ? '; Secure' : '';
    const set = `${COOKIE}=${cookie}; Path=/streams/${streamId}; Max-Age=${seconds}; HttpOnly; SameSite=Strict${secure}`;
    return json({}, { 'Set-Cookie': set });
  };

  const answerViewer = async (streamId: string, { headers }: PlainRequest) => {
    const { standing } = await requireViewer(streamId, requireCookie(headers), services);
    return json({ clipboard: standing.clipboard });
  };

  const places: Readonly<Record<string, (streamId: string) => PlainPlace>> = {
    'GET ': () => ({
      operation: '/streams',
      answer: async ({ headers }) => fileAnswer(theAssets().page, headers, pageHeaders(publicUrl())),
    }),
    'POST /ticket': (streamId) => ({
      operation: '/streams/ticket',
      answer: (request) => answerTicket(streamId, request),
    }),
    'GET /viewer': (streamId) => ({
      operation: '/streams/viewer',
      answer: (request) => answerViewer(streamId, request),
    }),
    'GET /socket': () => ({
      operation: '/streams/socket',
      answer: async () => {
        throw validationFailed('This place is for websockets alone', 'NOT_A_WEBSOCKET');
      },
    }),
  };

  const findPlace = (method: string, path: string): PlainPlace | undefined => {
    if (!path.startsWith('/streams/')) return undefined;
    const asked = method === 'HEAD' ? 'GET' : method;
    if (path.startsWith(ASSETS_PATH)) {
      const file = theAssets().files.get(path);
      if (!file) return undefined;
      const answer: PlainPlace['answer'] = async ({ headers }) => fileAnswer(file, headers, FILE_HEADERS);
      return asked === 'GET' ? { operation: '/streams/assets', answer } : NO_SUCH_METHOD;
    }
    const { streamId, place = '' } = PATH.exec(path)?.groups ?? {};
    if (streamId === undefined) return undefined;
    return places[`${asked} ${place}`]?.(streamId) ?? NO_SUCH_METHOD;
  };

  const open = async ({ request, socket, head, path }: Upgrade): Promise<void> => {
    requireOrigin(request.headers, publicUrl());
    if (isClosed) throw new ServiceError('ServiceUnavailableException', 'The server is stopping', { code: 'STOPPING' });
    const { streamId } = PATH.exec(path)!.groups as { streamId: string };
    const cookie = requireCookie(request.headers);
    // Only whoever has the cookie takes of what there is for its stream.
    await requireViewer(streamId, cookie, services);
    if (connections.take(streamId, performance.now()) > 0) throw tooOften();
    const { connectionId, standing } = await connectViewer(streamId, cookie, services);
    // The one before it, if it was on this server, need not wait.
    viewers.look();
    sockets ??= openSockets();
    (await sockets).handleUpgrade(request, socket, head, (webSocket) => {
      if (isClosed) webSocket.terminate();
      else void viewers.add(webSocket, streamId, connectionId, standing);
    });
  };

  return {
    findPlace,
    upgrades: {
      operation: '/streams/socket',
      takes: (path) => PATH.exec(path)?.groups?.place === '/socket',
      open,
    },
    close: () => {
      isClosed = true;
      viewers.close();
    },
  };
}

/** Loaded when the first desktop is shown: it takes a noticeable part of the time that a start has. */
async function openSockets(): Promise<WebSocketServer> {
  const { WebSocketServer } = await import('ws');
  return new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MESSAGE_BYTES_MAX,
  });
}

/** A place all the same, so that pages of other sites learn nothing of it. */
const NO_SUCH_METHOD: PlainPlace = {
  operation: '/streams',
  answer: async () => {
    throw new ServiceError('UnknownOperationException', 'There is nothing of this method here', {
      code: 'UNKNOWN_OPERATION',
    });
  },
};

/** @throws ServiceError AccessDeniedException */
function requireOrigin({ origin }: IncomingHttpHeaders, publicUrl: URL): void {
  if (origin === publicUrl.origin) return;
  throw new ServiceError('AccessDeniedException', `Open the address as it was given, at ${publicUrl.origin}`, {
    code: 'ORIGIN_REFUSED',
  });
}

/** @throws ServiceError */
function readTicket(contentType: string | undefined, body: Buffer): string {
  if (!/^application\/json\s*(;|$)/i.test(contentType ?? '')) {
    const message = 'The Content-Type must be application/json';
    throw new ServiceError('UnsupportedMediaTypeException', message, { code: 'NOT_JSON' });
  }
  let ticket: unknown;
  try {
    ticket = (JSON.parse(body.toString()) as { ticket?: unknown } | null)?.ticket;
  } catch {
    // What is wrong with it is not told: the text holds a ticket.
  }
  if (typeof ticket === 'string' && TICKET.test(ticket)) return ticket;
  throw validationFailed('The body must be JSON with the ticket that stands behind # in the address', 'MALFORMED_BODY');
}

/** @throws ServiceError AccessDeniedException */
function requireCookie({ cookie = '' }: IncomingHttpHeaders): string {
  for (const pair of cookie.split(';')) {
    const [name, value = ''] = pair.trim().split('=');
    if (name === COOKIE && TICKET.test(value)) return value;
  }
  const message = 'This window has not opened the desktop. Ask for an address.';
  throw new ServiceError('AccessDeniedException', message, { code: 'COOKIE_MISSING' });
}

function tooOften(): ServiceError {
  const message = 'This window connects too often. Wait a little.';
  return new ServiceError('ThrottlingException', message, { code: 'TOO_MANY_CONNECTIONS' });
}

function json(value: object, headers: Readonly<Record<string, string>> = {}): PlainAnswer {
  const body = JSON.stringify(value);
  return {
    status: 200,
    contentType: 'application/json',
    body,
    isSecret: true,
    headers: { ...COMMON_HEADERS, ...headers },
  };
}

/** What the client has already is not sent again. */
function fileAnswer(
  { contentType, bytes, gzipped, etag }: Asset,
  asked: IncomingHttpHeaders,
  more: Readonly<Record<string, string>>,
): PlainAnswer {
  const headers = { ...more, ETag: etag, Vary: 'Accept-Encoding' };
  if (asked['if-none-match'] === etag) return { status: 304, contentType, body: '', headers };
  if (!/\bgzip\b/.test(asked['accept-encoding'] ?? '')) return { status: 200, contentType, body: bytes, headers };
  return { status: 200, contentType, body: gzipped, headers: { ...headers, 'Content-Encoding': 'gzip' } };
}
