/** Members of a studio: its administrators. Other people belong to launch profiles. Data only. */
import { label, MEMBERS_PAGE_LENGTH, MEMBERS_PER_PUT_MAX, maxResults, nextToken } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure } from './shape.ts';

const persona = enumeration(['ADMINISTRATOR']);

export const studioMembership = structure('StudioMembership', {
  identityStoreId: optional(string()),
  persona: optional(persona),
  principalId: optional(string()),
  /** Of people who come from an Active Directory. */
  sid: optional(string()),
});

export type StudioMembership = Static<typeof studioMembership>;

const labels = { studioId: label, principalId: label };

export const studioMemberOperations = [
  operation('PutStudioMembers', {
    resource: 'studio-member',
    summary: 'Makes people administrators of a studio.',
    method: 'POST',
    uri: '/studios/{studioId}/membership',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: {
      identityStoreId: required(string()),
      members: required(
        list(structure('NewStudioMember', { persona: required(persona), principalId: required(string()) }), {
          min: 1,
          max: MEMBERS_PER_PUT_MAX,
        }),
      ),
    },
    output: structure('PutStudioMembersResponse', {}),
  }),
  operation('GetStudioMember', {
    resource: 'studio-member',
    summary: 'Reads one membership of a studio.',
    method: 'GET',
    uri: '/studios/{studioId}/membership/{principalId}',
    access: 'Read',
    labels,
    output: structure('GetStudioMemberResponse', { member: optional(studioMembership) }),
  }),
  operation('ListStudioMembers', {
    resource: 'studio-member',
    summary: 'Lists the administrators of a studio.',
    method: 'GET',
    uri: '/studios/{studioId}/membership',
    access: 'Read',
    labels: { studioId: label },
    query: { maxResults, nextToken },
    output: structure('ListStudioMembersResponse', {
      members: optional(list(studioMembership, { min: 0, max: MEMBERS_PAGE_LENGTH })),
      nextToken: optional(string()),
    }),
    pagination: { items: 'members', pageLength: MEMBERS_PAGE_LENGTH },
  }),
  operation('DeleteStudioMember', {
    resource: 'studio-member',
    summary: 'Takes the administration of a studio from someone.',
    method: 'DELETE',
    uri: '/studios/{studioId}/membership/{principalId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: structure('DeleteStudioMemberResponse', {}),
  }),
] as const;
