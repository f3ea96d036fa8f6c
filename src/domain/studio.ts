/**
 * Studios: their lifecycle, and what the operations on them decide. Everything else lives in a studio, so this file
 * also says whether a studio is there and may be changed in. It must never touch images, keys or files: the worker does.
 */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { Studio } from '../contract/studio.ts';
import { resourceNotFound, ServiceError, validationFailed } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { Handlers, Services } from './context.ts';
import { KIND, NO_STUDIO, newRow } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import { decodeToken, pageAnswer } from './page.ts';
import { requireTags } from './tag-limits.ts';

const FAILURES = [
  'AWS_SSO_NOT_ENABLED',
  'AWS_SSO_ACCESS_DENIED',
  'AWS_STS_REGION_DISABLED',
  'ROLE_NOT_OWNED_BY_STUDIO_OWNER',
  'ROLE_COULD_NOT_BE_ASSUMED',
  'ENCRYPTION_KEY_NOT_FOUND',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'INTERNAL_ERROR',
] as const;

const update = {
  to: 'UPDATE_IN_PROGRESS',
  statusCode: 'STUDIO_UPDATE_IN_PROGRESS',
  statusMessage: 'Studio update is in progress',
} as const;
const repair = {
  to: 'UPDATE_IN_PROGRESS',
  statusCode: 'AWS_SSO_CONFIGURATION_REPAIR_IN_PROGRESS',
  statusMessage: 'The repair of the sign-in configuration is in progress',
} as const;
const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'STUDIO_DELETE_IN_PROGRESS',
  statusMessage: 'Studio deletion is in progress',
} as const;

export type StudioState = NonNullable<Studio['state']>;
export type StudioEvent =
  | 'update'
  | 'repair'
  | 'delete'
  | 'tag'
  | 'created'
  | 'createFailed'
  | 'updated'
  | 'repaired'
  | 'updateFailed'
  | 'deleted'
  | 'deleteFailed';
export type StudioWork = 'settle-create' | 'settle-update' | 'settle-delete' | 'purge';

export const studioLifecycle = defineLifecycle<StudioState, StudioEvent, StudioWork>({
  kind: KIND.studio,
  noun: 'Studio',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: true,
  requests: ['update', 'repair', 'delete', 'tag'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: 'The studio is being set up.',
      statusCodes: ['STUDIO_CREATE_IN_PROGRESS'],
      work: 'settle-create',
      on: {
        created: {
          to: 'READY',
          statusCode: 'STUDIO_CREATED',
          // The blank at the end is the vendor's.
          statusMessage: 'The studio has been created successfully ',
        },
        createFailed: { to: 'CREATE_FAILED' },
      },
    },
    READY: {
      meaning: 'The studio can be used.',
      statusCodes: ['STUDIO_CREATED', 'STUDIO_UPDATED', 'AWS_SSO_CONFIGURATION_REPAIRED'],
      on: { update, repair, delete: remove, tag: { to: 'READY' } },
    },
    UPDATE_IN_PROGRESS: {
      meaning: 'A change is being applied.',
      statusCodes: ['STUDIO_UPDATE_IN_PROGRESS', 'AWS_SSO_CONFIGURATION_REPAIR_IN_PROGRESS'],
      work: 'settle-update',
      on: {
        updated: {
          to: 'READY',
          statusCode: 'STUDIO_UPDATED',
          statusMessage: 'The studio has been updated successfully',
        },
        repaired: {
          to: 'READY',
          statusCode: 'AWS_SSO_CONFIGURATION_REPAIRED',
          statusMessage: 'The sign-in configuration has been repaired',
        },
        updateFailed: { to: 'UPDATE_FAILED' },
      },
    },
    CREATE_FAILED: {
      meaning: 'The studio could not be set up; the status says why. Delete it and create another.',
      statusCodes: FAILURES,
      on: { delete: remove, tag: { to: 'CREATE_FAILED' } },
    },
    UPDATE_FAILED: {
      meaning: 'A change could not be applied; the status says why. The studio works as before.',
      statusCodes: FAILURES,
      on: { update, repair, delete: remove, tag: { to: 'UPDATE_FAILED' } },
    },
    DELETE_IN_PROGRESS: {
      meaning: 'The studio is being deleted.',
      statusCodes: ['STUDIO_DELETE_IN_PROGRESS'],
      work: 'settle-delete',
      on: {
        deleted: { to: 'DELETED', statusCode: 'STUDIO_DELETED', statusMessage: 'The studio has been deleted' },
        deleteFailed: { to: 'DELETE_FAILED' },
      },
    },
    DELETE_FAILED: {
      meaning: 'Something still lives in the studio; the status says what. Delete that first, then the studio again.',
      statusCodes: [
        'STUDIO_WITH_LAUNCH_PROFILES_NOT_DELETED',
        'STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED',
        'STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED',
        'INTERNAL_ERROR',
      ],
      on: { update, repair, delete: remove, tag: { to: 'DELETE_FAILED' } },
    },
    DELETED: {
      meaning: 'A tombstone: readable for a while, then gone.',
      statusCodes: ['STUDIO_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: {},
    },
  },
});

/** The studio, tombstones included. @throws ServiceError ResourceNotFoundException */
export async function requireStudio(store: Store, studioId: string): Promise<Row> {
  const row = await store.get(KIND.studio, studioId);
  if (!row) throw resourceNotFound('Studio', studioId);
  return row;
}

/** The studio, unless it is deleted. @throws ServiceError ResourceNotFoundException */
export async function requireLiveStudio(store: Store, studioId: string): Promise<Row> {
  const row = await requireStudio(store, studioId);
  if (row.state === 'DELETED') throw resourceNotFound('Studio', studioId);
  return row;
}

/** @see requireOpenStudio */
export function requireOpen(row: Row): void {
  if (row.state === 'READY' || row.state === 'UPDATE_FAILED' || row.state === 'DELETE_FAILED') return;
  throw new ServiceError('ConflictException', `Studio ${row.id} is ${row.state}, not READY`, {
    code: 'STUDIO_NOT_READY',
    context: { resourceId: row.id, state: row.state },
  });
}

/**
 * The studio, when what lives in it may be changed: it is not on the way from one state to another. A studio that could
 * not be deleted because of its images must still let them be deleted, so failed states other than CREATE_FAILED do.
 * @throws ServiceError ResourceNotFoundException, ConflictException
 */
export async function requireOpenStudio(store: Store, studioId: string): Promise<Row> {
  const row = await requireLiveStudio(store, studioId);
  requireOpen(row);
  return row;
}

export function applyToStudio(
  row: Row,
  event: LifecycleEvent<StudioEvent>,
  services: Pick<Services, 'clock' | 'settings'>,
): Row {
  return apply(studioLifecycle, row, event, {
    now: services.clock.now(),
    tombstoneMs: services.settings.tombstoneMs,
  });
}

/** Where people find the studio: it names the address that this server had when it was written. */
function studioUrlOf(studioName: string, { publicUrl }: Services['settings']): string {
  return `${publicUrl()}/${studioName}`;
}

/** What a repair that is under way will write, kept beside the document: whoever finishes it writes the same. */
export interface SignIn {
  readonly studioUrl: string;
  readonly ssoClientId: string;
}

/**
 * The event that a studio in UPDATE_IN_PROGRESS ends with: what was begun, its status tells. A repair that was given up
 * leaves its plan behind, which nothing follows any more.
 */
export function updateEnding(row: Row): LifecycleEvent<StudioEvent> {
  if ((JSON.parse(row.doc) as Studio).statusCode !== repair.statusCode) return { type: 'updated' };
  const { signIn } = JSON.parse(row.private) as { readonly signIn: SignIn };
  return { type: 'repaired', changes: { ...signIn }, privateChanges: { signIn: undefined } };
}

/** A key ARN goes with CUSTOMER_MANAGED_KEY and with nothing else. */
function encryptionOf(given: Studio['studioEncryptionConfiguration']): NonNullable<typeof given> {
  if (!given) return { keyType: 'AWS_OWNED_KEY' };
  if ((given.keyType === 'CUSTOMER_MANAGED_KEY') === (given.keyArn !== undefined)) return given;
  const rule = given.keyArn ? 'must be absent unless keyType is' : 'must not be null when keyType is';
  throw validationFailed(
    "1 validation error detected. Value at '/studioEncryptionConfiguration/keyArn' failed to satisfy constraint: " +
      `Member ${rule} CUSTOMER_MANAGED_KEY`,
    'INVALID_ENCRYPTION_CONFIGURATION',
  );
}

const listScope = (accountId: string) => [accountId, 'ListStudios'];

export const studioHandlers: Pick<
  Handlers,
  'CreateStudio' | 'GetStudio' | 'ListStudios' | 'UpdateStudio' | 'DeleteStudio' | 'StartStudioSSOConfigurationRepair'
> = {
  CreateStudio: {
    command: async (input, _principal, { store, clock, ids, settings }) => {
      const encryption = encryptionOf(input.studioEncryptionConfiguration);
      const tags = requireTags(input.tags ?? {});
      const rivals = await store.list({ kind: KIND.studio, uniqueName: input.studioName, limit: 1 });
      if (rivals.length > 0) {
        throw new ServiceError('ConflictException', 'A studio of this name exists already', {
          code: 'STUDIO_NAME_TAKEN',
          context: { resourceId: rivals[0]!.id },
        });
      }
      const now = clock.now();
      const studioId = `${settings.region}:${ids.studioSuffix()}`;
      const studio: Studio = {
        adminRoleArn: input.adminRoleArn,
        arn: arnOf(KIND.studio, studioId, settings),
        createdAt: wireTime(now),
        displayName: input.displayName,
        homeRegion: settings.region,
        ssoClientId: ids.uuid(),
        state: 'CREATE_IN_PROGRESS',
        statusCode: 'STUDIO_CREATE_IN_PROGRESS',
        statusMessage: 'Studio creation is in progress',
        studioEncryptionConfiguration: encryption,
        studioId,
        studioName: input.studioName,
        studioUrl: studioUrlOf(input.studioName, settings),
        tags,
        updatedAt: wireTime(now),
        userRoleArn: input.userRoleArn,
      };
      const row = newRow({
        kind: KIND.studio,
        id: studioId,
        studioId: NO_STUDIO,
        uniqueName: input.studioName,
        state: studioLifecycle.initial,
        dueAt: now,
        createdAt: now,
        doc: JSON.stringify(studio),
      });
      return answerWith(row, [{ op: 'insert', row }]);
    },
  },

  GetStudio: {
    query: async (input, _principal, { store }) => studioAnswer(await requireStudio(store, input.studioId)),
  },

  ListStudios: {
    query: async (input, _principal, { store, settings }) => {
      const scope = listScope(settings.accountId);
      const after = decodeToken(input.nextToken, scope);
      const rows = await store.list({
        kind: KIND.studio,
        studioIds: [NO_STUDIO],
        limit: PAGE_LENGTH + 1,
        ...(after && { after }),
      });
      return pageAnswer('studios', rows, PAGE_LENGTH, scope);
    },
  },

  UpdateStudio: {
    command: async (input, _principal, services) => {
      const row = await requireLiveStudio(services.store, input.studioId);
      const { adminRoleArn, displayName, userRoleArn } = input;
      const changes = {
        ...(adminRoleArn !== undefined && { adminRoleArn }),
        ...(displayName !== undefined && { displayName }),
        ...(userRoleArn !== undefined && { userRoleArn }),
      };
      const next = applyToStudio(row, { type: 'update', changes }, services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },

  DeleteStudio: {
    command: async (input, _principal, services) => {
      const row = await requireLiveStudio(services.store, input.studioId);
      const next = applyToStudio(row, { type: 'delete' }, services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },

  StartStudioSSOConfigurationRepair: {
    command: async (input, _principal, services) => {
      const row = await requireLiveStudio(services.store, input.studioId);
      const studio = JSON.parse(row.doc) as Studio;
      const studioUrl = studioUrlOf(studio.studioName!, services.settings);
      const signIn: SignIn = { studioUrl, ssoClientId: services.ids.uuid() };
      const next = applyToStudio(row, { type: 'repair', privateChanges: { signIn } }, services);
      if (studio.studioUrl === studioUrl) {
        throw validationFailed(
          `The sign-in configuration of studio ${row.id} is valid: there is nothing to repair.`,
          'SSO_CONFIGURATION_VALID',
        );
      }
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },
};

function studioAnswer(row: Row): string {
  return `{"studio":${row.doc}}`;
}

function answerWith(row: Row, writes: Parameters<Store['write']>[0]) {
  return { writes, answer: studioAnswer(row), subject: { kind: row.kind, id: row.id } };
}
