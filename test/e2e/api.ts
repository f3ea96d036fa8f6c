/** Steps through the API that many tests take on their way, with looks quicker than the SDK's waiters allow. */
import {
  CreateLaunchProfileCommand,
  CreateStreamingImageCommand,
  CreateStreamingSessionStreamCommand,
  CreateStudioCommand,
  type CreateStudioCommandInput,
  CreateStudioComponentCommand,
  DeleteStreamingImageCommand,
  GetLaunchProfileCommand,
  GetStreamingImageCommand,
  GetStreamingSessionCommand,
  GetStreamingSessionStreamCommand,
  GetStudioCommand,
  GetStudioComponentCommand,
  type NimbleClient,
  type StreamConfigurationCreate,
  type StreamingImage,
  type StreamingSession,
  type Studio,
} from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';

/** A machine image that does not exist: an image of it fails at once, which is enough where no bytes are asked for. */
export const ABSENT = 'ami-0123456789abcdef0';

/** An image takes two seconds of a processor's time, and a machine's start fifteen: a busy host may have little of it. */
const LIMIT_MS = 240_000;

const inProgress = ({ state }: { readonly state?: string }) => state!.endsWith('_IN_PROGRESS');

/** The studio when its creation has ended, well or not. */
export async function makeStudio(
  client: NimbleClient,
  studioName: string,
  more: Partial<CreateStudioCommandInput> = {},
): Promise<Studio> {
  const roles = {
    adminRoleArn: 'arn:aws:iam::000000000000:role/admin',
    userRoleArn: 'arn:aws:iam::000000000000:role/user',
  };
  const { studio } = await client.send(
    new CreateStudioCommand({ studioName, displayName: studioName, ...roles, ...more }),
  );
  return settledStudio(client, studio!.studioId!);
}

export function settledStudio(client: NimbleClient, studioId: string): Promise<Studio> {
  const probe = async () => {
    const { studio } = await client.send(new GetStudioCommand({ studioId }));
    return !inProgress(studio!) && studio!;
  };
  return until(`studio ${studioId} comes to rest`, probe, LIMIT_MS);
}

/** The id of a READY studio. */
export async function readyStudio(client: NimbleClient, studioName: string): Promise<string> {
  const { state, studioId } = await makeStudio(client, studioName);
  if (state !== 'READY') throw new Error(`the studio is ${state}`);
  return studioId!;
}

/** The id of an image that is in the making. */
export async function createImage(
  client: NimbleClient,
  studioId: string,
  ec2ImageId: string,
  more: { readonly name?: string; readonly clientToken?: string } = {},
): Promise<string> {
  const input = { studioId, ec2ImageId, name: 'Houdini', ...more };
  return (await client.send(new CreateStreamingImageCommand(input))).streamingImage!.streamingImageId!;
}

export async function getImage(client: NimbleClient, studioId: string, streamingImageId: string) {
  return (await client.send(new GetStreamingImageCommand({ studioId, streamingImageId }))).streamingImage!;
}

/** The image when nothing is done with it any more. */
export function settledImage(
  client: NimbleClient,
  studioId: string,
  streamingImageId: string,
): Promise<StreamingImage> {
  const probe = async () => {
    const image = await getImage(client, studioId, streamingImageId);
    return !inProgress(image) && image;
  };
  return until(`image ${streamingImageId} comes to rest`, probe, LIMIT_MS);
}

export async function deleteImage(client: NimbleClient, studioId: string, streamingImageId: string): Promise<void> {
  await client.send(new DeleteStreamingImageCommand({ studioId, streamingImageId }));
}

/** The id of a launch profile for this image that is READY, whose sessions last. */
export async function readyLaunchProfile(
  client: NimbleClient,
  studioId: string,
  imageId: string,
  more: Partial<StreamConfigurationCreate> = {},
): Promise<string> {
  const made = await client.send(new CreateStudioComponentCommand({ studioId, name: 'component', type: 'CUSTOM' }));
  const { studioComponentId } = made.studioComponent!;
  await until('the component is READY', async () => {
    const answer = await client.send(new GetStudioComponentCommand({ studioId, studioComponentId }));
    return answer.studioComponent!.state === 'READY';
  });
  const { launchProfile } = await client.send(
    new CreateLaunchProfileCommand({
      studioId,
      name: 'profile',
      ec2SubnetIds: ['subnet-1'],
      launchProfileProtocolVersions: ['2021-03-31'],
      studioComponentIds: [studioComponentId!],
      streamConfiguration: {
        clipboardMode: 'ENABLED',
        ec2InstanceTypes: ['g5.xlarge'],
        sessionPersistenceMode: 'ACTIVATED',
        streamingImageIds: [imageId],
        ...more,
      },
    }),
  );
  const { launchProfileId } = launchProfile!;
  await until('the launch profile is READY', async () => {
    const answer = await client.send(new GetLaunchProfileCommand({ studioId, launchProfileId }));
    return answer.launchProfile!.state === 'READY';
  });
  return launchProfileId!;
}

export interface NamedSession {
  readonly studioId: string;
  readonly sessionId: string;
}

/** The session when nothing is done with it any more. */
export function settledSession(client: NimbleClient, named: NamedSession): Promise<StreamingSession> {
  const probe = async () => {
    const { session } = await client.send(new GetStreamingSessionCommand(named));
    return !inProgress(session!) && session!;
  };
  return until(`session ${named.sessionId} comes to rest`, probe, LIMIT_MS);
}

/** The address of a new stream of a session that is READY, which opens its desktop once. */
export async function openStream(client: NimbleClient, named: NamedSession): Promise<string> {
  const made = await client.send(new CreateStreamingSessionStreamCommand(named));
  const { streamId } = made.stream!;
  const stream = await until(`stream ${streamId} comes to rest`, async () => {
    const answer = await client.send(new GetStreamingSessionStreamCommand({ ...named, streamId }));
    return !inProgress(answer.stream!) && answer.stream!;
  });
  if (stream.state !== 'READY') throw new Error(`the stream is ${stream.state}: ${stream.statusCode}`);
  return stream.url!;
}
