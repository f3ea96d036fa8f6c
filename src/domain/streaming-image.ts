/**
 * Streaming images: their lifecycle, and what the five operations on them decide. An update is done before it is
 * answered; create and delete only write the row, and a worker makes or destroys the bytes. This file must never touch
 * a file, a key or a tool, and nothing else may know which state allows what.
 */
import { PAGE_LENGTH } from '../contract/common.ts';
import type { StreamingImage } from '../contract/streaming-image.ts';
import type { Studio } from '../contract/studio.ts';
import { resourceNotFound, ServiceError } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { Handlers, Services } from './context.ts';
import { AMAZON, KIND, newRow } from './kinds.ts';
import { apply, defineLifecycle, type LifecycleEvent } from './lifecycle.ts';
import type { MachineImage } from './machine-image.ts';
import { decodeToken, pageAnswer } from './page.ts';
import { requireRoom, roomGuard } from './quota.ts';
import { requireLiveStudio, requireOpen, requireOpenStudio } from './studio.ts';
import { requireTags } from './tag-limits.ts';

const FAILURES = ['INTERNAL_ERROR', 'ACCESS_DENIED'] as const;

const update = {
  to: 'READY',
  statusCode: 'STREAMING_IMAGE_READY',
  statusMessage: 'Streaming Image has been updated',
} as const;
const remove = {
  to: 'DELETE_IN_PROGRESS',
  statusCode: 'STREAMING_IMAGE_DELETE_IN_PROGRESS',
  statusMessage: 'Streaming Image deletion is in progress',
} as const;

const removed = {
  to: 'DELETED',
  statusCode: 'STREAMING_IMAGE_DELETED',
  statusMessage: 'Streaming Image has been deleted',
} as const;
/** Deleted for every caller, while its disk is still needed. */
const kept = { to: 'DELETED', statusCode: 'STREAMING_IMAGE_DELETED' } as const;

export type StreamingImageState = NonNullable<StreamingImage['state']>;
export type StreamingImageEvent =
  | 'update'
  | 'delete'
  | 'tag'
  | 'diskArrived'
  | 'importProgressed'
  | 'imported'
  | 'importFailed'
  | 'kept'
  | 'removed'
  | 'removeFailed';
export type StreamingImageWork = 'import' | 'remove' | 'purge';

export const streamingImageLifecycle = defineLifecycle<StreamingImageState, StreamingImageEvent, StreamingImageWork>({
  kind: KIND.streamingImage,
  noun: 'Streaming image',
  initial: 'CREATE_IN_PROGRESS',
  timestamps: false,
  requests: ['update', 'delete', 'tag'],
  administered: ['diskArrived'],
  states: {
    CREATE_IN_PROGRESS: {
      meaning: "The studio's own encrypted copy is being made; the message shows how far it is.",
      statusCodes: ['STREAMING_IMAGE_CREATE_IN_PROGRESS'],
      work: 'import',
      on: {
        importProgressed: { to: 'CREATE_IN_PROGRESS' },
        imported: {
          to: 'READY',
          statusCode: 'STREAMING_IMAGE_READY',
          statusMessage: 'Streaming Image has been created',
        },
        importFailed: { to: 'CREATE_FAILED' },
      },
    },
    READY: {
      meaning: 'The image can be used.',
      statusCodes: ['STREAMING_IMAGE_READY'],
      on: { update, delete: remove, tag: { to: 'READY' } },
    },
    UPDATE_IN_PROGRESS: {
      meaning: 'Part of the API; updates are done before they are answered, so it is never seen.',
      statusCodes: ['STREAMING_IMAGE_UPDATE_IN_PROGRESS'],
      neverEntered: true,
      on: {},
    },
    UPDATE_FAILED: {
      meaning: 'Part of the API; an update that fails changes nothing, so it is never seen.',
      statusCodes: FAILURES,
      neverEntered: true,
      on: { update, delete: remove, tag: { to: 'UPDATE_FAILED' } },
    },
    CREATE_FAILED: {
      meaning:
        'No copy could be made; the status says why. Delete the image and create another. One that was imported waits for its disk.',
      statusCodes: FAILURES,
      on: {
        delete: remove,
        tag: { to: 'CREATE_FAILED' },
        // Of an image that was brought in from elsewhere without its disk, once the disk is here.
        diskArrived: {
          to: 'CREATE_IN_PROGRESS',
          statusCode: 'STREAMING_IMAGE_CREATE_IN_PROGRESS',
          statusMessage: 'Streaming Image creation is in progress',
        },
      },
    },
    DELETE_IN_PROGRESS: {
      meaning: 'The key, then the bytes, are being destroyed, or kept where sessions stand on them.',
      statusCodes: ['STREAMING_IMAGE_DELETE_IN_PROGRESS'],
      work: 'remove',
      on: { removed, kept, removeFailed: { to: 'DELETE_FAILED' } },
    },
    DELETE_FAILED: {
      meaning: 'The bytes could not be removed; the status says why. Delete the image again.',
      statusCodes: FAILURES,
      on: { update: { to: 'DELETE_FAILED' }, delete: remove, tag: { to: 'DELETE_FAILED' } },
    },
    DELETED: {
      meaning:
        'A tombstone: readable for a while, then gone. Where the message says that key and disk are kept, they are until the ' +
        'last session of the image is deleted, and so is the tombstone.',
      statusCodes: ['STREAMING_IMAGE_DELETED'],
      work: 'purge',
      workAfter: 'tombstone',
      on: { removed, kept },
    },
  },
});

/** `private` of an image's row, beside what is known of its copy. */
export interface StreamingImagePrivate {
  /** Whether the image is deleted and its copy is not. */
  readonly kept?: boolean;
}

export function applyToStreamingImage(
  row: Row,
  event: LifecycleEvent<StreamingImageEvent>,
  services: Pick<Services, 'clock' | 'settings'>,
): Row {
  return apply(streamingImageLifecycle, row, event, {
    now: services.clock.now(),
    tombstoneMs: services.settings.tombstoneMs,
  });
}

/** States of an image whose copy is there, with its key. One whose deletion has begun never comes back to any of them. */
const USABLE: readonly string[] = ['READY', 'UPDATE_IN_PROGRESS', 'UPDATE_FAILED'];

/** Whether sessions can be made of it. Those that there are go on, whatever becomes of it (streaming-image-use.ts). */
export function isUsableImage(image: Row | undefined): image is Row {
  return image !== undefined && USABLE.includes(image.state);
}

/**
 * The image as this studio sees it: its own, or one provided for every studio. Images of other studios do not exist here.
 * @throws ServiceError ResourceNotFoundException that names the studio when it is the studio that does not exist.
 */
async function requireVisible(store: Store, studioId: string, streamingImageId: string): Promise<Row> {
  const row = await store.get(KIND.streamingImage, streamingImageId);
  const provided = row?.studioId === AMAZON;
  if (row && !provided && row.studioId === studioId) return row;
  await requireLiveStudio(store, studioId);
  if (row && provided) return row;
  throw resourceNotFound('Streaming image', streamingImageId);
}

/**
 * The image, when this studio may change it.
 * @throws ServiceError ResourceNotFoundException, AccessDeniedException; ConflictException while the studio changes.
 */
async function requireOwn(store: Store, studioId: string, streamingImageId: string): Promise<Row> {
  const studio = await requireLiveStudio(store, studioId);
  const row = await store.get(KIND.streamingImage, streamingImageId);
  const visible = row && (row.studioId === studioId || row.studioId === AMAZON);
  if (!visible || row.state === 'DELETED') throw resourceNotFound('Streaming image', streamingImageId);
  if (row.studioId === AMAZON) {
    throw new ServiceError('AccessDeniedException', 'An image provided for every studio cannot be changed by one', {
      code: 'PROVIDED_IMAGE',
      context: { resourceId: streamingImageId },
    });
  }
  requireOpen(studio);
  return row;
}

/** Studios whose images an `owner` filter lets through: none for an owner that is neither this studio nor `amazon`. */
function ownersListed(studioId: string, owner: string | undefined): string[] {
  if (owner === undefined) return [AMAZON, studioId];
  if (owner.toLowerCase() === AMAZON) return [AMAZON];
  return owner === studioId ? [studioId] : [];
}

/** A studio with a key of its own has its images under that key; the API is silent about the installation's key. */
function encryptionOf(studio: Studio): Pick<StreamingImage, 'encryptionConfiguration'> {
  const { keyType, keyArn } = studio.studioEncryptionConfiguration ?? {};
  if (keyType !== 'CUSTOMER_MANAGED_KEY' || keyArn === undefined) return {};
  return { encryptionConfiguration: { keyType, keyArn } };
}

/** The first version of an image's row, due at once. Also used for images provided for every studio. */
export function newStreamingImage(
  image: Pick<
    StreamingImage,
    'name' | 'description' | 'ec2ImageId' | 'eulaIds' | 'encryptionConfiguration' | 'platform'
  > & {
    owner: string;
    tags: Readonly<Record<string, string>>;
  },
  { ids, clock, settings }: Pick<Services, 'ids' | 'clock' | 'settings'>,
): Row {
  const now = clock.now();
  const streamingImageId = ids.short();
  const doc: StreamingImage = {
    arn: arnOf(KIND.streamingImage, streamingImageId, settings),
    ...image,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAMING_IMAGE_CREATE_IN_PROGRESS',
    statusMessage: 'Streaming Image creation is in progress',
    streamingImageId,
  };
  return newRow({
    kind: KIND.streamingImage,
    id: streamingImageId,
    studioId: image.owner,
    state: streamingImageLifecycle.initial,
    dueAt: now,
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

export const streamingImageHandlers: Pick<
  Handlers,
  'CreateStreamingImage' | 'GetStreamingImage' | 'ListStreamingImages' | 'UpdateStreamingImage' | 'DeleteStreamingImage'
> = {
  CreateStreamingImage: {
    command: async (input, _principal, services) => {
      const { store, settings } = services;
      const tags = requireTags(input.tags ?? {});
      const studio = await requireOpenStudio(store, input.studioId);
      const quota = {
        kind: KIND.streamingImage,
        studioId: studio.id,
        limit: settings.streamingImagesMax,
        what: 'streaming images',
        code: 'STREAMING_IMAGES_PER_STUDIO',
      };
      await requireRoom(quota, store);
      const source = await store.get(KIND.machineImage, input.ec2ImageId);
      // A machine image that is missing is found out by the worker, as the vendor did: the create itself succeeds.
      const machineImage = source && (JSON.parse(source.doc) as MachineImage);
      const row = newStreamingImage(
        {
          ...(input.description !== undefined && { description: input.description }),
          ec2ImageId: input.ec2ImageId,
          ...encryptionOf(JSON.parse(studio.doc) as Studio),
          eulaIds: [...(machineImage?.eulaIds ?? [])],
          name: input.name,
          owner: studio.id,
          platform: machineImage?.platform ?? 'LINUX',
          tags,
        },
        services,
      );
      return answerWith(row, [
        { op: 'require', kind: KIND.studio, id: studio.id, state: studio.state },
        roomGuard(quota),
        { op: 'insert', row },
      ]);
    },
  },

  GetStreamingImage: {
    query: async (input, _principal, { store }) =>
      imageAnswer(await requireVisible(store, input.studioId, input.streamingImageId)),
  },

  ListStreamingImages: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const scope = [settings.accountId, 'ListStreamingImages', studio.id, input.owner];
      const after = decodeToken(input.nextToken, scope);
      const studioIds = ownersListed(studio.id, input.owner);
      const limit = PAGE_LENGTH + 1;
      const rows =
        studioIds.length === 0
          ? []
          : await store.list({ kind: KIND.streamingImage, studioIds, limit, ...(after && { after }) });
      return pageAnswer('streamingImages', rows, PAGE_LENGTH, scope);
    },
  },

  UpdateStreamingImage: {
    command: async (input, _principal, services) => {
      const row = await requireOwn(services.store, input.studioId, input.streamingImageId);
      const { name, description } = input;
      const changes = {
        ...(name !== undefined && { name }),
        ...(description !== undefined && { description }),
      };
      const next = applyToStreamingImage(row, { type: 'update', changes }, services);
      if (name === undefined && description === undefined) return answerWith(row, []);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },

  DeleteStreamingImage: {
    command: async (input, _principal, services) => {
      const row = await requireOwn(services.store, input.studioId, input.streamingImageId);
      const next = applyToStreamingImage(row, { type: 'delete' }, services);
      return answerWith(next, [{ op: 'update', row: next }]);
    },
  },
};

function imageAnswer(row: Row): string {
  return `{"streamingImage":${row.doc}}`;
}

function answerWith(row: Row, writes: Parameters<Store['write']>[0]) {
  return { writes, answer: imageAnswer(row), subject: { kind: row.kind, id: row.id } };
}
