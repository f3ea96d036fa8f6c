/**
 * Launch profiles: what the seven operations on them decide. Create, update and delete only write the row; a worker looks
 * at what the profile names, and settles it. This file must never decide what a session does with a profile.
 *
 * The answer of an update shows the new values, as those of all other updates of this API do, and clients compare it with
 * what they sent. What stood before is kept in `private` until the worker has looked, and put back if that fails.
 */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { Input } from '../contract/index.ts';
import type { LaunchProfile, StudioComponentSummary } from '../contract/launch-profile.ts';
import type { StudioComponent } from '../contract/studio-component.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { Handlers, Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { profilesUsableBy } from './launch-profile-access.ts';
import { componentsOf, imagesOf } from './launch-profile-contents.ts';
import { initializationOf, requireAsked } from './launch-profile-initialization.ts';
import {
  applyToLaunchProfile,
  type LaunchProfileState,
  launchProfileLifecycle,
  requireChangeableLaunchProfile,
  requireLaunchProfile,
  requireLiveLaunchProfile,
  requireOnceReady,
} from './launch-profile-lifecycle.ts';
import { profileQuota, requireComponents, requireFitting, withDefaults } from './launch-profile-limits.ts';
import { UNVALIDATED } from './launch-profile-validation.ts';
import { decodeToken, filteredPageAnswer, filterText, pageAnswer } from './page.ts';
import { requireRoom, roomGuard } from './quota.ts';
import { requireLiveStudio, requireOpenStudio } from './studio.ts';
import { requireTags } from './tag-limits.ts';

// --- What an update replaces ---

const SET_BY_UPDATES = [
  'description',
  'launchProfileProtocolVersions',
  'name',
  'streamConfiguration',
  'studioComponentIds',
] as const;
/** All that an update that fails must leave as it was. */
const REPLACED = [...SET_BY_UPDATES, 'updatedBy', 'validationResults'] as const;

type Replaced = Pick<LaunchProfile, (typeof REPLACED)[number]>;

/** `private` of a profile's row. */
export interface LaunchProfilePrivate {
  /** What stood before the update in progress; what is absent was absent. */
  readonly before?: Replaced;
}

function changesOf(input: Input<'UpdateLaunchProfile'>): Replaced {
  const given: Record<string, unknown> = {};
  for (const member of SET_BY_UPDATES) if (input[member] !== undefined) given[member] = input[member];
  const { streamConfiguration } = input;
  return { ...given, ...(streamConfiguration && { streamConfiguration: withDefaults(streamConfiguration) }) };
}

function replacedOf(doc: LaunchProfile): Replaced {
  return Object.fromEntries(REPLACED.map((member) => [member, doc[member]]));
}

/** Changes of an event that put back what stood before the update in progress. */
export function restored(row: Row): Record<string, unknown> {
  const { before } = JSON.parse(row.private) as LaunchProfilePrivate;
  return before ? replacedOf(before) : {};
}

// --- The first version of a row ---

/** Due at once. */
export function newLaunchProfile(
  input: Input<'CreateLaunchProfile'>,
  tags: Readonly<Record<string, string>>,
  principal: Principal,
  { clock, ids, settings }: Pick<Services, 'clock' | 'ids' | 'settings'>,
): Row {
  const now = clock.now();
  const launchProfileId = ids.short();
  const doc: LaunchProfile = {
    arn: arnOf(KIND.launchProfile, launchProfileId, settings),
    createdAt: wireTime(now),
    createdBy: principal.principalId,
    ...(input.description !== undefined && { description: input.description }),
    ec2SubnetIds: input.ec2SubnetIds,
    launchProfileId,
    launchProfileProtocolVersions: input.launchProfileProtocolVersions,
    name: input.name,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'LAUNCH_PROFILE_CREATE_IN_PROGRESS',
    statusMessage: 'Launch Profile creation is in progress',
    streamConfiguration: withDefaults(input.streamConfiguration),
    studioComponentIds: input.studioComponentIds,
    tags,
    updatedAt: wireTime(now),
    updatedBy: principal.principalId,
    validationResults: [...UNVALIDATED],
  };
  return newRow({
    kind: KIND.launchProfile,
    id: launchProfileId,
    studioId: input.studioId,
    state: launchProfileLifecycle.initial,
    dueAt: now,
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

const SUMMARIZED = [
  'createdAt',
  'createdBy',
  'description',
  'name',
  'studioComponentId',
  'subtype',
  'type',
  'updatedAt',
  'updatedBy',
] as const satisfies readonly (keyof StudioComponentSummary)[];

function summaryOf({ doc }: Row): StudioComponentSummary {
  const component = JSON.parse(doc) as StudioComponent;
  return Object.fromEntries(SUMMARIZED.map((member) => [member, component[member]]));
}

export const launchProfileHandlers: Pick<
  Handlers,
  | 'CreateLaunchProfile'
  | 'GetLaunchProfile'
  | 'GetLaunchProfileDetails'
  | 'GetLaunchProfileInitialization'
  | 'ListLaunchProfiles'
  | 'UpdateLaunchProfile'
  | 'DeleteLaunchProfile'
> = {
  CreateLaunchProfile: {
    command: async (input, principal, services) => {
      const { store, settings } = services;
      const tags = requireTags(input.tags ?? {});
      requireFitting(input);
      const studio = await requireOpenStudio(store, input.studioId);
      await requireComponents(store, studio.id, input.studioComponentIds);
      const quota = profileQuota(studio.id, settings);
      await requireRoom(quota, store);
      const row = newLaunchProfile(input, tags, principal, services);
      return answerWith(row, [
        { op: 'require', kind: KIND.studio, id: studio.id, state: studio.state },
        roomGuard(quota),
        { op: 'insert', row },
      ]);
    },
  },

  GetLaunchProfile: {
    query: async (input, _principal, { store }) =>
      profileAnswer(await requireLaunchProfile(store, input.studioId, input.launchProfileId)),
  },

  GetLaunchProfileDetails: {
    query: async (input, _principal, { store }) => {
      const row = await requireLaunchProfile(store, input.studioId, input.launchProfileId);
      const [images, components] = await Promise.all([imagesOf(row, store), componentsOf(row, store)]);
      const summaries = JSON.stringify(components.map(summaryOf));
      const docs = images.map(({ doc }) => doc).join(',');
      return `{"launchProfile":${row.doc},"streamingImages":[${docs}],"studioComponentSummaries":${summaries}}`;
    },
  },

  GetLaunchProfileInitialization: {
    query: async (input, _principal, { store }) => {
      const row = await requireLiveLaunchProfile(store, input.studioId, input.launchProfileId);
      const profile = JSON.parse(row.doc) as LaunchProfile;
      const asked = requireAsked(input, profile);
      requireOnceReady(row);
      const components = (await componentsOf(row, store)).map(({ doc }) => JSON.parse(doc) as StudioComponent);
      return JSON.stringify({ launchProfileInitialization: initializationOf(profile, components, asked) });
    },
  },

  ListLaunchProfiles: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const { states, principalId, maxResults, nextToken } = input;
      const scope = [settings.accountId, 'ListLaunchProfiles', studio.id, filterText(states), principalId];
      const after = decodeToken(nextToken, scope);
      const query = { kind: KIND.launchProfile, studioIds: [studio.id], ...(after && { after }) };
      const pageLength = Math.min(maxResults ?? PAGE_LENGTH, PAGE_LENGTH);
      if (!states && principalId === undefined) {
        const rows = await store.list({ ...query, limit: pageLength + 1 });
        return pageAnswer('launchProfiles', rows, pageLength, scope);
      }
      const usable = principalId === undefined ? undefined : await profilesUsableBy(store, studio.id, principalId);
      const passes = ({ id, state }: Row) =>
        (!states || states.includes(state as LaunchProfileState)) && (!usable || usable(id));
      return filteredPageAnswer('launchProfiles', { store, query, passes }, pageLength, scope);
    },
  },

  UpdateLaunchProfile: {
    command: async (input, principal, services) => {
      const { store } = services;
      const row = await requireChangeableLaunchProfile(store, input.studioId, input.launchProfileId);
      const before = replacedOf(JSON.parse(row.doc) as LaunchProfile);
      const changes = { ...changesOf(input), updatedBy: principal.principalId, validationResults: UNVALIDATED };
      const next = applyToLaunchProfile(row, { type: 'update', changes, privateChanges: { before } }, services);
      requireFitting(input);
      // Those that it has already are not looked at again: it may be renamed after one of them has been deleted.
      if (input.studioComponentIds) await requireComponents(store, row.studioId, input.studioComponentIds);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },

  DeleteLaunchProfile: {
    command: async (input, principal, services) => {
      const row = await requireChangeableLaunchProfile(services.store, input.studioId, input.launchProfileId);
      const changes = { updatedBy: principal.principalId };
      const next = applyToLaunchProfile(row, { type: 'delete', changes }, services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },
};

function profileAnswer(row: Row): string {
  return `{"launchProfile":${row.doc}}`;
}

function answerWith(row: Row, writes: Parameters<Store['write']>[0]) {
  return { writes, answer: profileAnswer(row), subject: { kind: row.kind, id: row.id } };
}
