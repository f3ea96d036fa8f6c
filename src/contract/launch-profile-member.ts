/** Members of a launch profile: the people who may start sessions with it. Data only. */
import { label, MEMBERS_PAGE_LENGTH, MEMBERS_PER_PUT_MAX, maxResults, nextToken } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure } from './shape.ts';

const persona = enumeration(['USER']);

export const launchProfileMembership = structure('LaunchProfileMembership', {
  identityStoreId: optional(string()),
  persona: optional(persona),
  principalId: optional(string()),
  /** Of people who come from an Active Directory. */
  sid: optional(string()),
});

export type LaunchProfileMembership = Static<typeof launchProfileMembership>;

const profileLabels = { studioId: label, launchProfileId: label };
const labels = { ...profileLabels, principalId: label };

export const launchProfileMemberOperations = [
  operation('PutLaunchProfileMembers', {
    resource: 'launch-profile-member',
    summary: 'Lets people use a launch profile.',
    method: 'POST',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/membership',
    access: 'Write',
    clientToken: true,
    labels: profileLabels,
    body: {
      identityStoreId: required(string()),
      members: required(
        list(structure('NewLaunchProfileMember', { persona: required(persona), principalId: required(string()) }), {
          min: 1,
          max: MEMBERS_PER_PUT_MAX,
        }),
      ),
    },
    output: structure('PutLaunchProfileMembersResponse', {}),
  }),
  operation('GetLaunchProfileMember', {
    resource: 'launch-profile-member',
    summary: 'Reads one membership of a launch profile.',
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/membership/{principalId}',
    access: 'Read',
    labels,
    output: structure('GetLaunchProfileMemberResponse', { member: optional(launchProfileMembership) }),
  }),
  operation('ListLaunchProfileMembers', {
    resource: 'launch-profile-member',
    summary: 'Lists the people who may use a launch profile.',
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/membership',
    access: 'Read',
    labels: profileLabels,
    query: { maxResults, nextToken },
    output: structure('ListLaunchProfileMembersResponse', {
      members: optional(list(launchProfileMembership, { min: 0, max: MEMBERS_PAGE_LENGTH })),
      nextToken: optional(string()),
    }),
    pagination: { items: 'members', pageLength: MEMBERS_PAGE_LENGTH },
  }),
  operation('UpdateLaunchProfileMember', {
    resource: 'launch-profile-member',
    summary: 'Changes the persona of a member, of which there is one.',
    method: 'PATCH',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/membership/{principalId}',
    access: 'Write',
    clientToken: true,
    labels,
    body: { persona: required(persona) },
    output: structure('UpdateLaunchProfileMemberResponse', { member: optional(launchProfileMembership) }),
  }),
  operation('DeleteLaunchProfileMember', {
    resource: 'launch-profile-member',
    summary: 'No longer lets someone use a launch profile.',
    method: 'DELETE',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/membership/{principalId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: structure('DeleteLaunchProfileMemberResponse', {}),
  }),
] as const;
