/** Streaming sessions: an artist's workstation, running or stopped. Data only. */
import { label, nextToken, PAGE_LENGTH, shortId, tags } from './common.ts';
import {
  automaticTerminationMode,
  maxBackupsToRetain,
  sessionBackupMode,
  sessionPersistenceMode,
  streamingInstanceType,
  volumeConfiguration,
} from './launch-profile.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure, timestamp } from './shape.ts';

/** Backups of sessions have these too. */
export const streamingSessionState = enumeration([
  'CREATE_IN_PROGRESS',
  'DELETE_IN_PROGRESS',
  'READY',
  'DELETED',
  'CREATE_FAILED',
  'DELETE_FAILED',
  'STOP_IN_PROGRESS',
  'START_IN_PROGRESS',
  'STOPPED',
  'STOP_FAILED',
  'START_FAILED',
]);

/** Why the workstation of a session failed. */
export const STREAMING_SESSION_FAILURES = [
  'INSUFFICIENT_CAPACITY',
  'ACTIVE_DIRECTORY_DOMAIN_JOIN_ERROR',
  'NETWORK_CONNECTION_ERROR',
  'NETWORK_INTERFACE_ERROR',
  'INITIALIZATION_SCRIPT_ERROR',
  'DECRYPT_STREAMING_IMAGE_ERROR',
  'AMI_VALIDATION_ERROR',
  'INTERNAL_ERROR',
] as const;

export type StreamingSessionFailure = (typeof STREAMING_SESSION_FAILURES)[number];

/** Backups of sessions have these too. */
export const streamingSessionStatusCode = enumeration([
  'STREAMING_SESSION_READY',
  'STREAMING_SESSION_DELETED',
  'STREAMING_SESSION_CREATE_IN_PROGRESS',
  'STREAMING_SESSION_DELETE_IN_PROGRESS',
  'STREAMING_SESSION_STOPPED',
  'STREAMING_SESSION_STARTED',
  'STREAMING_SESSION_STOP_IN_PROGRESS',
  'STREAMING_SESSION_START_IN_PROGRESS',
  ...STREAMING_SESSION_FAILURES,
]);

const volumeRetentionMode = enumeration(['RETAIN', 'DELETE']);

export const streamingSession = structure('StreamingSession', {
  arn: optional(string()),
  automaticTerminationMode: optional(automaticTerminationMode),
  backupMode: optional(sessionBackupMode),
  createdAt: optional(timestamp()),
  createdBy: optional(string()),
  ec2InstanceType: optional(string()),
  launchProfileId: optional(string()),
  maxBackupsToRetain: optional(maxBackupsToRetain),
  ownedBy: optional(string()),
  sessionId: optional(string()),
  sessionPersistenceMode: optional(sessionPersistenceMode),
  startedAt: optional(timestamp()),
  startedBy: optional(string()),
  startedFromBackupId: optional(string()),
  state: optional(streamingSessionState),
  statusCode: optional(streamingSessionStatusCode),
  statusMessage: optional(string()),
  stopAt: optional(timestamp()),
  stoppedAt: optional(timestamp()),
  stoppedBy: optional(string()),
  streamingImageId: optional(shortId),
  tags: optional(tags),
  terminateAt: optional(timestamp()),
  updatedAt: optional(timestamp()),
  updatedBy: optional(string()),
  volumeConfiguration: optional(volumeConfiguration),
  volumeRetentionMode: optional(volumeRetentionMode),
});

export type StreamingSession = Static<typeof streamingSession>;

const labels = { studioId: label, sessionId: label };
const output = (operationName: string) =>
  structure(`${operationName}Response`, { session: optional(streamingSession) });

export const streamingSessionOperations = [
  operation('CreateStreamingSession', {
    resource: 'streaming-session',
    summary: 'Starts a workstation from a launch profile, for oneself or for someone else.',
    method: 'POST',
    uri: '/studios/{studioId}/streaming-sessions',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: {
      ec2InstanceType: optional(streamingInstanceType),
      launchProfileId: required(string()),
      ownedBy: optional(string()),
      streamingImageId: optional(shortId),
      tags: optional(tags),
    },
    output: output('CreateStreamingSession'),
    waiter: 'StreamingSessionReady',
  }),
  operation('GetStreamingSession', {
    resource: 'streaming-session',
    summary: 'Reads one streaming session.',
    method: 'GET',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}',
    access: 'Read',
    labels,
    output: output('GetStreamingSession'),
  }),
  operation('ListStreamingSessions', {
    resource: 'streaming-session',
    summary: "Lists a studio's sessions, or those that were created or are owned by someone, or those named.",
    method: 'GET',
    uri: '/studios/{studioId}/streaming-sessions',
    access: 'Read',
    labels: { studioId: label },
    query: {
      createdBy: optional(string()),
      nextToken,
      ownedBy: optional(string()),
      /** One text in the published model, in spite of its name; nobody wrote down how several ids stand in it. */
      sessionIds: optional(string({ joined: true })),
    },
    output: structure('ListStreamingSessionsResponse', {
      nextToken: optional(string()),
      sessions: optional(list(streamingSession)),
    }),
    pagination: { items: 'sessions', pageLength: PAGE_LENGTH },
  }),
  operation('StartStreamingSession', {
    resource: 'streaming-session',
    summary: 'Starts a stopped session, from a backup of it where one is named.',
    method: 'POST',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}/start',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    body: { backupId: optional(string()) },
    output: output('StartStreamingSession'),
    waiter: 'StreamingSessionReady',
  }),
  operation('StopStreamingSession', {
    resource: 'streaming-session',
    summary: 'Stops a session; its volumes are kept or deleted.',
    method: 'POST',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}/stop',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    body: { volumeRetentionMode: optional(volumeRetentionMode) },
    output: output('StopStreamingSession'),
    waiter: 'StreamingSessionStopped',
  }),
  operation('DeleteStreamingSession', {
    resource: 'streaming-session',
    summary: 'Deletes a session with its workstation, volumes and backups.',
    method: 'DELETE',
    uri: '/studios/{studioId}/streaming-sessions/{sessionId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: output('DeleteStreamingSession'),
    waiter: 'StreamingSessionDeleted',
  }),
] as const;
