/**
 * Members of launch profiles: what the five operations on them decide. Users may be members, and groups, for everyone in
 * them. Members come and go only while the profile is settled, so that none is left behind by one that is being deleted.
 */
import type { Row, Store } from '../store/store.ts';
import type { Answer, Handlers, Mutation } from './context.ts';
import { KIND } from './kinds.ts';
import {
  requireChangeableLaunchProfile,
  requireLiveLaunchProfile,
  requireSettledLaunchProfile,
} from './launch-profile-lifecycle.ts';
import { listMembers, memberAnswer, type Parent, putMembers, requireMember } from './membership.ts';
import { requireOpenStudio } from './studio.ts';

export { mayUseProfile } from './launch-profile-access.ts';

interface Place {
  readonly studioId: string;
  readonly launchProfileId: string;
}

const NOTHING = '{}';

/** @throws ServiceError ResourceNotFoundException; ConflictException while studio or profile are changing. */
async function requireOpenProfile(store: Store, { studioId, launchProfileId }: Place): Promise<Row> {
  const row = await requireChangeableLaunchProfile(store, studioId, launchProfileId);
  requireSettledLaunchProfile(row);
  return row;
}

async function memberOf(store: Store, { studioId, launchProfileId, principalId }: Place & { principalId: string }) {
  await requireLiveLaunchProfile(store, studioId, launchProfileId);
  return requireMember(store, KIND.launchProfileMember, launchProfileId, principalId);
}

function parentOf(row: Row): Parent {
  return { kind: KIND.launchProfileMember, row, studioId: row.studioId, takes: [KIND.user, KIND.group] };
}

function changeOf(profile: Row, writes: Mutation['writes'], answer: Answer = NOTHING): Mutation {
  return { writes, answer, subject: { kind: profile.kind, id: profile.id } };
}

export const launchProfileMemberHandlers: Pick<
  Handlers,
  | 'PutLaunchProfileMembers'
  | 'GetLaunchProfileMember'
  | 'ListLaunchProfileMembers'
  | 'UpdateLaunchProfileMember'
  | 'DeleteLaunchProfileMember'
> = {
  PutLaunchProfileMembers: {
    command: async (input, _principal, services) => {
      const profile = await requireOpenProfile(services.store, input);
      const { kind, id, state } = await requireOpenStudio(services.store, input.studioId);
      const writes = await putMembers(parentOf(profile), input, services);
      return changeOf(profile, [{ op: 'require', kind, id, state }, ...writes]);
    },
    replay: async () => NOTHING,
  },

  GetLaunchProfileMember: {
    query: async (input, _principal, { store }) => memberAnswer(await memberOf(store, input)),
  },

  ListLaunchProfileMembers: {
    query: async (input, _principal, services) => {
      const row = await requireLiveLaunchProfile(services.store, input.studioId, input.launchProfileId);
      return listMembers({ kind: KIND.launchProfileMember, row }, input, services);
    },
  },

  UpdateLaunchProfileMember: {
    command: async (input, _principal, { store }) => {
      const profile = await requireOpenProfile(store, input);
      // There is one persona, which every member has: nothing can change.
      return changeOf(profile, [], memberAnswer(await memberOf(store, input)));
    },
    replay: async (input, _principal, { store }) => memberAnswer(await memberOf(store, input)),
  },

  DeleteLaunchProfileMember: {
    command: async (input, _principal, { store }) => {
      const profile = await requireOpenProfile(store, input);
      const { kind, id, version } = await memberOf(store, input);
      return changeOf(profile, [{ op: 'delete', kind, id, version }]);
    },
    replay: async () => NOTHING,
  },
};
