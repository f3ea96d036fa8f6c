/** What each persona may do, operation by operation: written out, and not asked of the policies that must come to it. */

/**
 * Who may, besides the administrator of the installation. `admin` of the studio; `member` of the launch profile; `user` of
 * any profile of the studio; `own` as `user`, for what is the user's own.
 */
export type Who = 'admin' | 'member' | 'user' | 'own';

const NOBODY: readonly Who[] = [];
const ADMIN: readonly Who[] = ['admin'];
const ALSO_MEMBERS: readonly Who[] = ['admin', 'member'];
const ALSO_USERS: readonly Who[] = ['admin', 'user'];
const ALSO_OWNERS: readonly Who[] = ['admin', 'own'];

export const EXPECTED: Readonly<Record<string, readonly Who[]>> = {
  CreateStudio: NOBODY,
  GetStudio: NOBODY,
  ListStudios: NOBODY,
  UpdateStudio: NOBODY,
  DeleteStudio: NOBODY,
  StartStudioSSOConfigurationRepair: NOBODY,

  PutStudioMembers: NOBODY,
  GetStudioMember: ALSO_USERS,
  ListStudioMembers: ALSO_USERS,
  DeleteStudioMember: NOBODY,

  CreateStudioComponent: NOBODY,
  GetStudioComponent: NOBODY,
  ListStudioComponents: NOBODY,
  UpdateStudioComponent: NOBODY,
  DeleteStudioComponent: NOBODY,

  CreateStreamingImage: NOBODY,
  GetStreamingImage: ADMIN,
  ListStreamingImages: ADMIN,
  UpdateStreamingImage: NOBODY,
  DeleteStreamingImage: NOBODY,

  CreateLaunchProfile: NOBODY,
  GetLaunchProfile: ALSO_MEMBERS,
  GetLaunchProfileDetails: ALSO_MEMBERS,
  GetLaunchProfileInitialization: ALSO_MEMBERS,
  ListLaunchProfiles: ALSO_OWNERS,
  UpdateLaunchProfile: NOBODY,
  DeleteLaunchProfile: NOBODY,

  PutLaunchProfileMembers: ADMIN,
  GetLaunchProfileMember: ALSO_MEMBERS,
  ListLaunchProfileMembers: ALSO_MEMBERS,
  UpdateLaunchProfileMember: ADMIN,
  DeleteLaunchProfileMember: ADMIN,

  CreateStreamingSession: ALSO_MEMBERS,
  GetStreamingSession: ALSO_OWNERS,
  ListStreamingSessions: ALSO_OWNERS,
  StartStreamingSession: ALSO_OWNERS,
  StopStreamingSession: ALSO_OWNERS,
  DeleteStreamingSession: ALSO_OWNERS,
  CreateStreamingSessionStream: ALSO_OWNERS,
  GetStreamingSessionStream: ALSO_OWNERS,
  GetStreamingSessionBackup: ALSO_OWNERS,
  ListStreamingSessionBackups: ALSO_OWNERS,

  GetEula: ALSO_USERS,
  ListEulas: ALSO_USERS,
  AcceptEulas: ADMIN,
  ListEulaAcceptances: ALSO_USERS,

  ListTagsForResource: NOBODY,
  TagResource: NOBODY,
  UntagResource: NOBODY,
};

/** They belong to no studio: who is somebody in one studio may read them whichever else there are. */
export const OF_THE_INSTALLATION: readonly string[] = ['GetEula', 'ListEulas'];
