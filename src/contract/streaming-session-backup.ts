/** Backups of sessions: made while a session stops, where its launch profile asks for it. Data only. */
import { label, nextToken, PAGE_LENGTH, tags } from './common.ts';
import { operation } from './operation.ts';
import { list, optional, type Static, string, structure, timestamp } from './shape.ts';
import { streamingSessionState, streamingSessionStatusCode } from './streaming-session.ts';

export const streamingSessionBackup = structure('StreamingSessionBackup', {
  arn: optional(string()),
  backupId: optional(string()),
  createdAt: optional(timestamp()),
  launchProfileId: optional(string()),
  ownedBy: optional(string()),
  sessionId: optional(string()),
  state: optional(streamingSessionState),
  statusCode: optional(streamingSessionStatusCode),
  statusMessage: optional(string()),
  tags: optional(tags),
});

export type StreamingSessionBackup = Static<typeof streamingSessionBackup>;

export const streamingSessionBackupOperations = [
  operation('GetStreamingSessionBackup', {
    resource: 'streaming-session-backup',
    summary: 'Reads one backup of a session.',
    method: 'GET',
    uri: '/studios/{studioId}/streaming-session-backups/{backupId}',
    access: 'Read',
    labels: { studioId: label, backupId: label },
    output: structure('GetStreamingSessionBackupResponse', {
      streamingSessionBackup: optional(streamingSessionBackup),
    }),
  }),
  operation('ListStreamingSessionBackups', {
    resource: 'streaming-session-backup',
    summary: "Lists the backups of a studio's sessions, or those of one owner.",
    method: 'GET',
    uri: '/studios/{studioId}/streaming-session-backups',
    access: 'Read',
    labels: { studioId: label },
    query: { nextToken, ownedBy: optional(string()) },
    output: structure('ListStreamingSessionBackupsResponse', {
      nextToken: optional(string()),
      streamingSessionBackups: optional(list(streamingSessionBackup)),
    }),
    pagination: { items: 'streamingSessionBackups', pageLength: PAGE_LENGTH },
  }),
] as const;
