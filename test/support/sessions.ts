/** A studio with an image and a launch profile, and the calls on sessions in it. */
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import type { StreamingSessionBackup } from '../../src/contract/streaming-session-backup.ts';
import type { StreamingSessionStream } from '../../src/contract/streaming-session-stream.ts';
import { KIND } from '../../src/domain/kinds.ts';
import type { World } from './domain.ts';
import { putImage, putProfile } from './rows.ts';

export const MINUTE_MS = 60_000;

/** Stopping for an hour is allowed; nothing is kept and nothing backed up. */
export const STOPPABLE = { maxStoppedSessionLengthInMinutes: 60 } as const;
/** Volumes are kept, for ever. */
export const PERSISTENT = { sessionPersistenceMode: 'ACTIVATED' } as const;
export const BACKED_UP = {
  ...PERSISTENT,
  sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 2 },
} as const;

export type Stage = Awaited<ReturnType<typeof createStage>>;

export async function createStage(
  world: World,
  configuration: Partial<StreamConfiguration> = STOPPABLE,
  studio: object = {},
) {
  const studioId = await world.makeStudio(studio);
  const streamingImageId = await putImage(world, studioId);
  const launchProfileId = await putProfile(world, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g4dn.xlarge', 'g5.xlarge', 'g5.2xlarge'],
      streamingImageIds: [streamingImageId],
      ...configuration,
    },
  });
  type Name = Parameters<World['call']>[0];
  const call = async (name: Name, sessionId: string, input: object = {}): Promise<StreamingSession> =>
    (await world.call<{ session: StreamingSession }>(name, { studioId, sessionId, ...input })).session;
  const stage = {
    world,
    studioId,
    streamingImageId,
    launchProfileId,
    ask: async (input: object = {}): Promise<StreamingSession> =>
      (
        await world.call<{ session: StreamingSession }>('CreateStreamingSession', {
          studioId,
          launchProfileId,
          ...input,
        })
      ).session,
    /** A session that has been created, and its id. */
    create: async (input: object = {}): Promise<string> => {
      const { sessionId } = await stage.ask(input);
      await world.settle();
      return sessionId!;
    },
    get: (sessionId: string) => call('GetStreamingSession', sessionId),
    start: (sessionId: string, input?: object) => call('StartStreamingSession', sessionId, input),
    stop: (sessionId: string, input?: object) => call('StopStreamingSession', sessionId, input),
    remove: (sessionId: string) => call('DeleteStreamingSession', sessionId),
    /** A session that has been stopped, and its id. */
    createStopped: async (input: object = {}): Promise<string> => {
      const sessionId = await stage.create();
      await stage.stop(sessionId, input);
      await world.settle();
      return sessionId;
    },
    list: async (input: object = {}): Promise<StreamingSession[]> =>
      (await world.call<{ sessions: StreamingSession[] }>('ListStreamingSessions', { studioId, ...input })).sessions,
    backups: async (input: object = {}): Promise<StreamingSessionBackup[]> =>
      (
        await world.call<{ streamingSessionBackups: StreamingSessionBackup[] }>('ListStreamingSessionBackups', {
          studioId,
          ...input,
        })
      ).streamingSessionBackups,
    stream: async (sessionId: string, input: object = {}): Promise<StreamingSessionStream> =>
      (
        await world.call<{ stream: StreamingSessionStream }>('CreateStreamingSessionStream', {
          studioId,
          sessionId,
          ...input,
        })
      ).stream,
    getStream: async (sessionId: string, streamId: string): Promise<StreamingSessionStream> =>
      (
        await world.call<{ stream: StreamingSessionStream }>('GetStreamingSessionStream', {
          studioId,
          sessionId,
          streamId,
        })
      ).stream,
    row: async (sessionId: string) => (await world.store.get(KIND.streamingSession, sessionId))!,
    /** What there is of the session's workstation. */
    workstation: async (sessionId: string) => (await world.compute.list()).find(({ id }) => id === sessionId),
  };
  return stage;
}
