/** Tags: they live in the document of the resource they belong to, and change under its lifecycle's rules. */
import { resourceNotFound, ServiceError } from '../errors.ts';
import type { Row } from '../store/store.ts';
import { parseArn } from './arn.ts';
import type { Handlers, Mutation, Services } from './context.ts';
import { AMAZON, NO_STUDIO } from './kinds.ts';
import { apply } from './lifecycle.ts';
import { lifecycleOf } from './lifecycles.ts';
import { requireOpenStudio } from './studio.ts';
import { requireTags } from './tag-limits.ts';

type Tags = Readonly<Record<string, string>>;

/** @throws ServiceError ValidationException for a malformed ARN, ResourceNotFoundException for one that names nothing. */
async function requireTagged(arn: string, { store, settings }: Services): Promise<Row> {
  const name = parseArn(arn, settings);
  const row = name && (await store.get(name.kind, name.id));
  if (!row || row.state === 'DELETED') throw resourceNotFound('Resource', arn);
  return row;
}

async function changeTags(arn: string, services: Services, change: (tags: Tags) => Tags): Promise<Mutation> {
  const row = await requireTagged(arn, services);
  if (row.studioId === AMAZON) {
    throw new ServiceError(
      'AccessDeniedException',
      'The tags of an image provided for every studio cannot be changed',
      {
        code: 'PROVIDED_IMAGE',
        context: { resourceId: arn },
      },
    );
  }
  if (row.studioId !== NO_STUDIO) await requireOpenStudio(services.store, row.studioId);
  const subject = { kind: row.kind, id: row.id };
  const before = tagsOf(row);
  const tags = requireTags(change(before));
  const next = apply(
    lifecycleOf(row.kind),
    row,
    { type: 'tag', changes: { tags } },
    {
      now: services.clock.now(),
      tombstoneMs: services.settings.tombstoneMs,
    },
  );
  const unchanged = JSON.stringify(tags) === JSON.stringify(before);
  return { writes: unchanged ? [] : [{ op: 'update', row: next }], answer: '', subject };
}

function tagsOf(row: Row): Tags {
  return (JSON.parse(row.doc) as { tags?: Tags }).tags ?? {};
}

export const tagHandlers: Pick<Handlers, 'ListTagsForResource' | 'TagResource' | 'UntagResource'> = {
  ListTagsForResource: {
    query: async (input, _principal, services) =>
      JSON.stringify({ tags: tagsOf(await requireTagged(input.resourceArn, services)) }),
  },
  TagResource: {
    command: (input, _principal, services) =>
      changeTags(input.resourceArn, services, (tags) => ({ ...tags, ...input.tags })),
  },
  UntagResource: {
    command: (input, _principal, services) =>
      changeTags(input.resourceArn, services, (tags) =>
        Object.fromEntries(Object.entries(tags).filter(([key]) => !input.tagKeys.includes(key))),
      ),
  },
};
