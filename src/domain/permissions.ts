/**
 * What each operation is checked against, as the vendor's service authorization reference has it: the type of resource,
 * and where in the input its id stands. Data only; access.ts is its one reader.
 *
 * Every operation must have an entry, and start-up has no other place to look: an operation that is not here is refused.
 */
import type { OperationName } from '../contract/index.ts';
import type { ResourceType } from './policy-terms.ts';

export interface Permission {
  /** Type of the resource; `named` by the ARN itself; `any` where the reference asks for `*`. */
  readonly on: ResourceType | 'named' | 'any';
  /** Member of the input that holds its id, a list of ids, or the ARN; without one it is asked for `type/*`. */
  readonly id?: string;
  /** What is made. With tags, it asks for TagResource on that too, or tags that open doors could be had by creating. */
  readonly makes?: ResourceType;
  /** Condition keys that hold a member of the input, where it is given. */
  readonly given?: Readonly<Record<string, string>>;
  /** Whether it knows `nimble:requesterPrincipalId`: the reference has the key for sessions and ListLaunchProfiles only. */
  readonly knowsRequester?: true;
}

const studio: Permission = { on: 'studio', id: 'studioId' };
const studioComponent: Permission = { on: 'studio-component', id: 'studioComponentId' };
const streamingImage: Permission = { on: 'streaming-image', id: 'streamingImageId' };
const launchProfile: Permission = { on: 'launch-profile', id: 'launchProfileId' };
const ofSessions = { given: { 'nimble:ownedby': 'ownedBy' }, knowsRequester: true } as const;
const streamingSession: Permission = { on: 'streaming-session', id: 'sessionId', knowsRequester: true };
const named: Permission = { on: 'named', id: 'resourceArn' };

export const PERMISSIONS: Readonly<Record<OperationName, Permission>> = {
  CreateStudio: { on: 'studio', makes: 'studio' },
  GetStudio: studio,
  ListStudios: { on: 'any' },
  UpdateStudio: studio,
  DeleteStudio: studio,
  StartStudioSSOConfigurationRepair: studio,

  PutStudioMembers: studio,
  GetStudioMember: studio,
  ListStudioMembers: studio,
  DeleteStudioMember: studio,

  CreateStudioComponent: { ...studio, makes: 'studio-component' },
  GetStudioComponent: studioComponent,
  ListStudioComponents: studio,
  UpdateStudioComponent: studioComponent,
  DeleteStudioComponent: studioComponent,

  CreateStreamingImage: { ...studio, makes: 'streaming-image' },
  GetStreamingImage: streamingImage,
  ListStreamingImages: studio,
  UpdateStreamingImage: streamingImage,
  DeleteStreamingImage: streamingImage,

  CreateLaunchProfile: { ...studio, makes: 'launch-profile' },
  GetLaunchProfile: launchProfile,
  GetLaunchProfileDetails: launchProfile,
  GetLaunchProfileInitialization: launchProfile,
  ListLaunchProfiles: { ...studio, given: { 'nimble:principalid': 'principalId' }, knowsRequester: true },
  UpdateLaunchProfile: launchProfile,
  DeleteLaunchProfile: launchProfile,

  PutLaunchProfileMembers: launchProfile,
  GetLaunchProfileMember: launchProfile,
  ListLaunchProfileMembers: launchProfile,
  UpdateLaunchProfileMember: launchProfile,
  DeleteLaunchProfileMember: launchProfile,
  CreateStreamingSession: {
    on: 'launch-profile',
    id: 'launchProfileId',
    makes: 'streaming-session',
    given: ofSessions.given,
  },
  GetStreamingSession: streamingSession,
  ListStreamingSessions: {
    ...studio,
    ...ofSessions,
    given: { ...ofSessions.given, 'nimble:createdby': 'createdBy' },
  },
  StartStreamingSession: streamingSession,
  StopStreamingSession: streamingSession,
  DeleteStreamingSession: streamingSession,
  // Streams have no ARN: they are their session's.
  CreateStreamingSessionStream: streamingSession,
  GetStreamingSessionStream: streamingSession,
  GetStreamingSessionBackup: { on: 'streaming-session-backup', id: 'backupId', knowsRequester: true },
  ListStreamingSessionBackups: { ...studio, ...ofSessions },

  GetEula: { on: 'eula', id: 'eulaId' },
  ListEulas: { on: 'eula' },
  AcceptEulas: { on: 'eula', id: 'eulaIds' },
  ListEulaAcceptances: { on: 'eula-acceptance' },

  ListTagsForResource: named,
  TagResource: named,
  UntagResource: named,
};
