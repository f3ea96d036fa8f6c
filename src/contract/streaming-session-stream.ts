/** Streams of sessions: addresses at which a desktop can be seen for a short time. Data only. */
import { label } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, integer, optional, type Static, string, structure, timestamp } from './shape.ts';

export const streamingSessionStreamState = enumeration([
  'READY',
  'CREATE_IN_PROGRESS',
  'DELETE_IN_PROGRESS',
  'DELETED',
  'CREATE_FAILED',
  'DELETE_FAILED',
]);

export const streamingSessionStreamStatusCode = enumeration([
  'STREAM_CREATE_IN_PROGRESS',
  'STREAM_READY',
  'STREAM_DELETE_IN_PROGRESS',
  'STREAM_DELETED',
  'INTERNAL_ERROR',
  'NETWORK_CONNECTION_ERROR',
]);

export const streamingSessionStream = structure('StreamingSessionStream', {
  createdAt: optional(timestamp()),
  createdBy: optional(string()),
  expiresAt: optional(timestamp()),
  ownedBy: optional(string()),
  state: optional(streamingSessionStreamState),
  statusCode: optional(streamingSessionStreamStatusCode),
  streamId: optional(string()),
  url: optional(string({ sensitive: true })),
});

export type StreamingSessionStream = Static<typeof streamingSessionStream>;

export const streamingSessionStreamOperations = [
  operation('CreateStreamingSessionStream', {
    resource: 'streaming-session-stream',
    summary: 'Makes an address at which a running session can be seen and used for a short time.',
    method: 'POST',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}/streams',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels: { studioId: label, sessionId: label },
    body: { expirationInSeconds: optional(integer({ min: 60, max: 3_600 })) },
    output: structure('CreateStreamingSessionStreamResponse', { stream: optional(streamingSessionStream) }),
    waiter: 'StreamingSessionStreamReady',
  }),
  operation('GetStreamingSessionStream', {
    resource: 'streaming-session-stream',
    summary: 'Reads one stream of a session, with its address while it is good.',
    method: 'GET',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}/streams/{streamId}',
    access: 'Read',
    labels: { studioId: label, sessionId: label, streamId: label },
    output: structure('GetStreamingSessionStreamResponse', { stream: optional(streamingSessionStream) }),
  }),
] as const;
