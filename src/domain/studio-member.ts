/** Members of studios, who administer them and may use everything in them: what the four operations on them decide. */
import type { Row } from '../store/store.ts';
import type { Handlers, Mutation } from './context.ts';
import { KIND } from './kinds.ts';
import { listMembers, memberAnswer, type Parent, putMembers, requireMember } from './membership.ts';
import { requireLiveStudio, requireOpenStudio } from './studio.ts';

const NOTHING = '{}';

/** An administrator is answerable for what is done, so it is a person and not a group. */
function parentOf(row: Row): Parent {
  return { kind: KIND.studioMember, row, studioId: row.id, takes: [KIND.user] };
}

function changeOf(studio: Row, writes: Mutation['writes']): Mutation {
  return { writes, answer: NOTHING, subject: { kind: studio.kind, id: studio.id } };
}

export const studioMemberHandlers: Pick<
  Handlers,
  'PutStudioMembers' | 'GetStudioMember' | 'ListStudioMembers' | 'DeleteStudioMember'
> = {
  PutStudioMembers: {
    command: async (input, _principal, services) => {
      const studio = await requireOpenStudio(services.store, input.studioId);
      return changeOf(studio, await putMembers(parentOf(studio), input, services));
    },
    replay: async () => NOTHING,
  },

  GetStudioMember: {
    query: async (input, _principal, { store }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      return memberAnswer(await requireMember(store, KIND.studioMember, studio.id, input.principalId));
    },
  },

  ListStudioMembers: {
    query: async (input, _principal, services) => {
      const row = await requireLiveStudio(services.store, input.studioId);
      return listMembers({ kind: KIND.studioMember, row }, input, services);
    },
  },

  DeleteStudioMember: {
    command: async (input, _principal, { store }) => {
      const studio = await requireOpenStudio(store, input.studioId);
      const { kind, id, version } = await requireMember(store, KIND.studioMember, studio.id, input.principalId);
      return changeOf(studio, [{ op: 'delete', kind, id, version }]);
    },
    replay: async () => NOTHING,
  },
};
