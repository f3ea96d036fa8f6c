/**
 * Streams of sessions: their lifecycle, and the two operations on them. A stream's address holds a ticket that opens a
 * desktop, so it is never stored as it is: the row has its digest, for the gateway that redeems it, and the ticket sealed
 * by the key service, for those who may read the stream while it is good.
 */
import { wireTime } from '../clock.ts';
import type { StreamingSessionStream } from '../contract/streaming-session-stream.ts';
import { resourceNotFound, ServiceError } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import type { Handlers, Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { defineLifecycle } from './lifecycle.ts';
import { requireMembers, stays } from './streaming-session-launch.ts';
import { requireChangeableSession, requireSession } from './streaming-session-lifecycle.ts';

const SECOND_MS = 1_000;
const EXPIRATION_SECONDS = 120;
/** Streams of one session that may be good at once. */
export const STREAMS_PER_SESSION_MAX = 20;

const FAILURES = ['NETWORK_CONNECTION_ERROR', 'INTERNAL_ERROR'] as const;

const gone = { to: 'DELETED', statusCode: 'STREAM_DELETED' } as const;

export type StreamingSessionStreamState = NonNullable<StreamingSessionStream['state']>;
export type StreamingSessionStreamEvent = 'opened' | 'openFailed' | 'redeemed' | 'expired' | 'closed';
export type StreamingSessionStreamWork = 'open' | 'expire' | 'purge';

/** Streams have no status message. */
export const streamingSessionStreamLifecycle = defineLifecycle<
  StreamingSessionStreamState,
  StreamingSessionStreamEvent,
  StreamingSessionStreamWork
>({
  kind: KIND.streamingSessionStream,
  noun: 'Streaming session stream',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: false,
  requests: [],
  fromParent: ['closed'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'The address is being made.',
      statusCodes: ['STREAM_CREATE_IN_PROGRESS'],
      work: 'open',
      on: {
        opened: { to: 'READY', statusCode: 'STREAM_READY' },
        openFailed: { to: 'CREATE_FAILED' },
        expired: gone,
        closed: gone,
      },
    },
    READY: {
      meaning: 'The address can be opened, once, until `expiresAt` or until the session stops.',
      statusCodes: ['STREAM_READY'],
      work: 'expire',
      workAfter: 'event',
      on: { expired: gone, closed: gone, redeemed: { to: 'READY' } },
    },
    CREATE_FAILED: {
      meaning: 'The desktop cannot be reached; the status says why. It goes by itself after a while.',
      statusCodes: FAILURES,
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
    DELETE_IN_PROGRESS: {
      meaning: 'Part of the API; an address ends at once, so it is never seen.',
      statusCodes: ['STREAM_DELETE_IN_PROGRESS'],
      neverEntered: true,
      on: {},
    },
    DELETE_FAILED: {
      meaning: 'Part of the API; an address always ends, so it is never seen.',
      statusCodes: FAILURES,
      neverEntered: true,
      on: {},
    },
    DELETED: {
      meaning: 'A tombstone without an address: readable for a while, then gone.',
      statusCodes: ['STREAM_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
  },
});

/** `private` of a stream's row. */
export interface StreamingSessionStreamPrivate {
  /** In ms since 1970: `expiresAt` of the answer, exactly. */
  readonly expiresAt: number;
  /** SHA-256 in lower-case hexadecimal of the ticket. */
  readonly ticketSha256?: string;
  /** The ticket under the key service, with the stream's id as context. */
  readonly sealedTicket?: string;
  /** When the ticket was redeemed: it is of no use any more. */
  readonly redeemedAt?: number;
}

/** Takes the ticket away, together with the address that shows it. What was opened with it goes on (see viewer.ts). */
export const NO_TICKET = { ticketSha256: undefined, sealedTicket: undefined, redeemedAt: undefined } as const;

function newStream(
  session: Row,
  expirationInSeconds: number,
  { principalId }: Principal,
  { clock, ids }: Pick<Services, 'clock' | 'ids'>,
): Row {
  const now = clock.now();
  const streamId = ids.short();
  const expiresAt = now + expirationInSeconds * SECOND_MS;
  const doc: StreamingSessionStream = {
    createdAt: wireTime(now),
    createdBy: principalId,
    expiresAt: wireTime(expiresAt),
    ownedBy: session.ownerId!,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAM_CREATE_IN_PROGRESS',
    streamId,
  };
  const secret: StreamingSessionStreamPrivate = { expiresAt };
  return newRow({
    kind: KIND.streamingSessionStream,
    id: streamId,
    studioId: session.studioId,
    parentId: session.id,
    ownerId: session.ownerId,
    state: streamingSessionStreamLifecycle.initial,
    dueAt: now,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify(secret),
  });
}

/** @throws ServiceError ServiceQuotaExceededException: each stream that is good is one more way in. */
async function requireRoomForStream(store: Store, { id }: Row): Promise<void> {
  const limit = STREAMS_PER_SESSION_MAX;
  const query = { kind: KIND.streamingSessionStream, parentId: id, limit };
  const counts = ['CREATE_IN_PROGRESS', 'READY'].map((state) => store.count({ ...query, state }));
  const [making, ready] = await Promise.all(counts);
  if (making! + ready! < limit) return;
  throw new ServiceError(
    'ServiceQuotaExceededException',
    `Streaming session ${id} has ${limit} streams, which is its quota. Wait until one expires, or use one of them.`,
    { code: 'STREAMS_PER_SESSION', context: { quota: String(limit), resourceId: id } },
  );
}

/** Fails the batch when there is no room by then: those that came at once have all found some. */
function streamRoomGuard({ id, studioId }: Row): Write {
  const statesNot = ['CREATE_FAILED', 'DELETED'];
  const limit = STREAMS_PER_SESSION_MAX;
  return { op: 'fewer', kind: KIND.streamingSessionStream, studioId, parentId: id, statesNot, limit };
}

/** A stream of the session, and the writes that make it. @throws ServiceError when it cannot be seen by this principal now. */
export async function newStreamFor(
  session: Row,
  expirationInSeconds: number,
  principal: Principal,
  services: Pick<Services, 'store' | 'clock' | 'ids'>,
): Promise<{ readonly row: Row; readonly writes: readonly Write[] }> {
  const { store } = services;
  if (session.state !== 'READY') {
    throw new ServiceError(
      'ConflictException',
      `Streaming session ${session.id} is ${session.state}, not READY: it has nothing to be seen`,
      { code: 'SESSION_NOT_READY', context: { resourceId: session.id, state: session.state } },
    );
  }
  // Of a session of one's own too: whoever was taken out of the launch profile has no business in it any more.
  await requireMembers(store, session.parentId!, principal, principal.principalId);
  await requireRoomForStream(store, session);
  const row = newStream(session, expirationInSeconds, principal, services);
  return { row, writes: [stays(session), streamRoomGuard(session), { op: 'insert', row }] };
}

/** As the API shows it: with its address while that is good. */
export function getStream(row: Row, services: Pick<Services, 'clock' | 'keys' | 'settings'>): StreamingSessionStream {
  const url = urlOf(row, services);
  return { ...(JSON.parse(row.doc) as StreamingSessionStream), ...(url !== undefined && { url }) };
}

export const streamingSessionStreamHandlers: Pick<
  Handlers,
  'CreateStreamingSessionStream' | 'GetStreamingSessionStream'
> = {
  CreateStreamingSessionStream: {
    command: async (input, principal, services) => {
      const { store } = services;
      const session = await requireChangeableSession(store, input.studioId, input.sessionId);
      const seconds = input.expirationInSeconds ?? EXPIRATION_SECONDS;
      const { row, writes } = await newStreamFor(session, seconds, principal, services);
      return { writes, answer: `{"stream":${row.doc}}`, subject: { kind: row.kind, id: row.id } };
    },
  },

  GetStreamingSessionStream: {
    query: async (input, _principal, services) => {
      const session = await requireSession(services.store, input.studioId, input.sessionId);
      const row = await services.store.get(KIND.streamingSessionStream, input.streamId);
      if (row?.parentId !== session.id) throw resourceNotFound('Streaming session stream', input.streamId);
      return JSON.stringify({ stream: getStream(row, services) });
    },
  },
};

/**
 * The address of a stream while it is good. The ticket stands behind `#`, which browsers keep to themselves: it is in no
 * log of a server or proxy on the way, and in no Referer.
 */
function urlOf(
  { id, state, private: text }: Row,
  { clock, keys, settings }: Pick<Services, 'clock' | 'keys' | 'settings'>,
): string | undefined {
  const { expiresAt, sealedTicket } = JSON.parse(text) as StreamingSessionStreamPrivate;
  if (state !== 'READY' || sealedTicket === undefined || expiresAt <= clock.now()) return undefined;
  return `${settings.publicUrl()}/streams/${id}#${keys.open(sealedTicket, id)}`;
}
