/**
 * Studio components: their lifecycle, and what the five operations on them decide. Create, update and delete only write
 * the row; a worker settles it. This file must never connect to what a component describes: that is for workstations.
 */
import { wireTime } from '../clock.ts';
import type { Input } from '../contract/index.ts';
import { COMPONENTS_PAGE_LENGTH, type StudioComponent } from '../contract/studio-component.ts';
import { resourceNotFound } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { Handlers, Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import { decodeToken, filteredPageAnswer, filterText, pageAnswer } from './page.ts';
import { requireRoom, roomGuard } from './quota.ts';
import { requireLiveStudio, requireOpen, requireOpenStudio } from './studio.ts';
import { componentQuota, DEFAULT_SUBTYPE, findSeat, requireFitting } from './studio-component-limits.ts';
import { requireTags } from './tag-limits.ts';

const FAILURES = [
  'ACTIVE_DIRECTORY_ALREADY_EXISTS',
  'ENCRYPTION_KEY_NOT_FOUND',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'INTERNAL_ERROR',
] as const;

const update = {
  to: 'UPDATE_IN_PROGRESS',
  statusCode: 'STUDIO_COMPONENT_UPDATE_IN_PROGRESS',
  statusMessage: 'Studio Component update is in progress',
} as const;
const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'STUDIO_COMPONENT_DELETE_IN_PROGRESS',
  statusMessage: 'Studio Component deletion is in progress',
} as const;

export type StudioComponentState = NonNullable<StudioComponent['state']>;
export type StudioComponentEvent =
  | 'update'
  | 'delete'
  | 'tag'
  | 'created'
  | 'createFailed'
  | 'updated'
  | 'updateFailed'
  | 'deleted'
  | 'deleteFailed';
export type StudioComponentWork = 'settle-create' | 'settle-update' | 'settle-delete' | 'purge';

export const studioComponentLifecycle = defineLifecycle<
  StudioComponentState,
  StudioComponentEvent,
  StudioComponentWork
>({
  kind: KIND.studioComponent,
  noun: 'Studio component',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: true,
  requests: ['update', 'delete', 'tag'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'The component is being set up.',
      statusCodes: ['STUDIO_COMPONENT_CREATE_IN_PROGRESS'],
      work: 'settle-create',
      on: {
        created: {
          to: 'READY',
          statusCode: 'STUDIO_COMPONENT_CREATED',
          statusMessage: 'Studio Component has been created',
        },
        createFailed: { to: 'CREATE_FAILED' },
      },
    },
    READY: {
      meaning: 'The component can be used; the code tells whether it was created or updated last.',
      statusCodes: ['STUDIO_COMPONENT_CREATED', 'STUDIO_COMPONENT_UPDATED'],
      on: { update, delete: remove, tag: { to: 'READY' } },
    },
    UPDATE_IN_PROGRESS: {
      meaning: 'A change is being applied.',
      statusCodes: ['STUDIO_COMPONENT_UPDATE_IN_PROGRESS'],
      work: 'settle-update',
      on: {
        updated: {
          to: 'READY',
          statusCode: 'STUDIO_COMPONENT_UPDATED',
          statusMessage: 'Studio Component has been updated',
        },
        updateFailed: { to: 'UPDATE_FAILED' },
      },
    },
    CREATE_FAILED: {
      meaning:
        'The component could not be set up; the status says why. It goes by itself after a while, or is deleted.',
      statusCodes: FAILURES,
      work: 'purge',
      workAfter: 'tombstone',
      on: { delete: remove, tag: { to: 'CREATE_FAILED' } },
    },
    UPDATE_FAILED: {
      meaning: 'A change was not applied; the status says why. The component is as it was before, and works.',
      statusCodes: FAILURES,
      on: { update, delete: remove, tag: { to: 'UPDATE_FAILED' } },
    },
    DELETE_IN_PROGRESS: {
      meaning: 'The component is being deleted.',
      statusCodes: ['STUDIO_COMPONENT_DELETE_IN_PROGRESS'],
      work: 'settle-delete',
      on: {
        deleted: {
          to: 'DELETED',
          statusCode: 'STUDIO_COMPONENT_DELETED',
          statusMessage: 'Studio Component has been deleted',
        },
        deleteFailed: { to: 'DELETE_FAILED' },
      },
    },
    DELETE_FAILED: {
      meaning: 'The component could not be deleted, and works as before. Delete it again.',
      statusCodes: ['INTERNAL_ERROR'],
      on: { update, delete: remove, tag: { to: 'DELETE_FAILED' } },
    },
    DELETED: {
      meaning: 'A tombstone: readable for a while, then gone.',
      statusCodes: ['STUDIO_COMPONENT_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
  },
});

function applyToComponent(row: Row, event: LifecycleEvent<StudioComponentEvent>, services: Services): Row {
  return apply(studioComponentLifecycle, row, event, {
    now: services.clock.now(),
    tombstoneMs: services.settings.tombstoneMs,
  });
}

/** `private` of a component's row. */
export interface StudioComponentPrivate {
  /** What is in progress asks for a second Active Directory, and is going to fail. */
  readonly directoryTaken?: boolean;
}

const DIRECTORY_TAKEN: StudioComponentPrivate = { directoryTaken: true };

// --- What callers set ---

const SET_BY_CALLERS = [
  'configuration',
  'description',
  'ec2SecurityGroupIds',
  'initializationScripts',
  'name',
  'runtimeRoleArn',
  'scriptParameters',
  'secureInitializationRoleArn',
  'subtype',
  'type',
] as const;

/** The members that are given, as they are stored: an empty list is shown, as the vendor did, by leaving it out. */
function givenMembers(input: Input<'CreateStudioComponent'> | Input<'UpdateStudioComponent'>): StudioComponent {
  const given: Record<string, unknown> = {};
  for (const member of SET_BY_CALLERS) {
    const value = input[member];
    if (value === undefined) continue;
    given[member] = Array.isArray(value) && value.length === 0 ? undefined : value;
  }
  return given;
}

/** Configuration and subtype belong to a type: another type begins without the one and with the default of the other. */
function changesOf(input: Input<'UpdateStudioComponent'>, before: StudioComponent): StudioComponent {
  const given = givenMembers(input);
  if (given.type === undefined || given.type === before.type) return given;
  return { configuration: undefined, subtype: DEFAULT_SUBTYPE, ...given } as StudioComponent;
}

/** The first version of a component's row, due at once. */
function newComponent(
  input: Input<'CreateStudioComponent'>,
  tags: Readonly<Record<string, string>>,
  principal: Principal,
  { clock, ids, settings }: Services,
): Row {
  const now = clock.now();
  const studioComponentId = ids.short();
  const doc: StudioComponent = {
    arn: arnOf(KIND.studioComponent, studioComponentId, settings),
    createdAt: wireTime(now),
    createdBy: principal.principalId,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STUDIO_COMPONENT_CREATE_IN_PROGRESS',
    statusMessage: 'Studio Component creation is in progress',
    studioComponentId,
    subtype: DEFAULT_SUBTYPE,
    tags,
    updatedAt: wireTime(now),
    updatedBy: principal.principalId,
    ...givenMembers(input),
  };
  return newRow({
    kind: KIND.studioComponent,
    id: studioComponentId,
    studioId: input.studioId,
    state: studioComponentLifecycle.initial,
    dueAt: now,
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

// --- Who is there ---

/**
 * The component, tombstones included. Those of other studios do not exist here.
 * @throws ServiceError ResourceNotFoundException that names the studio when it is the studio that does not exist.
 */
async function requireComponent(store: Store, studioId: string, studioComponentId: string): Promise<Row> {
  const row = await store.get(KIND.studioComponent, studioComponentId);
  if (row?.studioId === studioId) return row;
  await requireLiveStudio(store, studioId);
  throw resourceNotFound('Studio component', studioComponentId);
}

/** The component, when it may be changed. @throws ServiceError ResourceNotFoundException, ConflictException */
async function requireChangeable(store: Store, studioId: string, studioComponentId: string): Promise<Row> {
  const studio = await requireLiveStudio(store, studioId);
  const row = await requireComponent(store, studioId, studioComponentId);
  if (row.state === 'DELETED') throw resourceNotFound('Studio component', studioComponentId);
  requireOpen(studio);
  return row;
}

export const studioComponentHandlers: Pick<
  Handlers,
  | 'CreateStudioComponent'
  | 'GetStudioComponent'
  | 'ListStudioComponents'
  | 'UpdateStudioComponent'
  | 'DeleteStudioComponent'
> = {
  CreateStudioComponent: {
    command: async (input, principal, services) => {
      const { store, settings } = services;
      const tags = requireTags(input.tags ?? {});
      requireFitting(input);
      const studio = await requireOpenStudio(store, input.studioId);
      const quota = componentQuota(studio.id, settings);
      await requireRoom(quota, store);
      const seat = await findSeat(input.type, studio.id, null, services);
      const row = {
        ...newComponent(input, tags, principal, services),
        ...(seat ?? { private: JSON.stringify(DIRECTORY_TAKEN) }),
      };
      return answerWith(row, [
        { op: 'require', kind: KIND.studio, id: studio.id, state: studio.state },
        roomGuard(quota),
        { op: 'insert', row },
      ]);
    },
  },

  GetStudioComponent: {
    query: async (input, _principal, { store }) =>
      componentAnswer(await requireComponent(store, input.studioId, input.studioComponentId)),
  },

  ListStudioComponents: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const { states, types, maxResults, nextToken } = input;
      const scope = [settings.accountId, 'ListStudioComponents', studio.id, filterText(states), filterText(types)];
      const after = decodeToken(nextToken, scope);
      const query = { kind: KIND.studioComponent, studioIds: [studio.id], ...(after && { after }) };
      const pageLength = Math.min(maxResults ?? COMPONENTS_PAGE_LENGTH, COMPONENTS_PAGE_LENGTH);
      if (!states && !types) {
        const rows = await store.list({ ...query, limit: pageLength + 1 });
        return pageAnswer('studioComponents', rows, pageLength, scope);
      }
      const passes = ({ state, doc }: Row) =>
        (!states || states.includes(state as StudioComponentState)) &&
        (!types || types.includes((JSON.parse(doc) as StudioComponent).type!));
      return filteredPageAnswer('studioComponents', { store, query, passes }, pageLength, scope);
    },
  },

  UpdateStudioComponent: {
    command: async (input, principal, services) => {
      const row = await requireChangeable(services.store, input.studioId, input.studioComponentId);
      const changes = { ...changesOf(input, JSON.parse(row.doc)), updatedBy: principal.principalId };
      const next = applyToComponent(row, { type: 'update', changes }, services);
      const component = JSON.parse(next.doc) as StudioComponent;
      requireFitting(component);
      const seat = await findSeat(component.type!, row.studioId, row.uniqueName, services);
      if (seat) return answerWith(next, [{ op: 'update', row: { ...next, ...seat } }]);
      // It is bound to fail, and what fails must leave everything as it was: nothing is changed to begin with.
      const unchanged = applyToComponent(row, { type: 'update', privateChanges: { ...DIRECTORY_TAKEN } }, services);
      return answerWith(unchanged, [{ op: 'update', row: unchanged }]);
    },
  },

  DeleteStudioComponent: {
    command: async (input, principal, services) => {
      const row = await requireChangeable(services.store, input.studioId, input.studioComponentId);
      const changes = { updatedBy: principal.principalId };
      const next = applyToComponent(row, { type: 'delete', changes }, services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },
};

function componentAnswer(row: Row): string {
  return `{"studioComponent":${row.doc}}`;
}

function answerWith(row: Row, writes: Parameters<Store['write']>[0]) {
  return { writes, answer: componentAnswer(row), subject: { kind: row.kind, id: row.id } };
}
