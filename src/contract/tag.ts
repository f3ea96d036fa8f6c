/** Tags of any resource that has an ARN. The ARN is one path segment, with its slash encoded. Data only. */
import { label, tags } from './common.ts';
import { operation } from './operation.ts';
import { list, optional, required, string, structure } from './shape.ts';

const labels = { resourceArn: label };

export const tagOperations = [
  operation('ListTagsForResource', {
    resource: 'tag',
    summary: 'Lists the tags of a resource.',
    method: 'GET',
    uri: '/tags/{resourceArn}',
    access: 'Read',
    labels,
    output: structure('ListTagsForResourceResponse', { tags: optional(tags) }),
  }),
  operation('TagResource', {
    resource: 'tag',
    summary: 'Adds or overwrites tags.',
    method: 'POST',
    uri: '/tags/{resourceArn}',
    status: 204,
    access: 'Tagging',
    labels,
    body: { tags: optional(tags) },
    output: undefined,
  }),
  operation('UntagResource', {
    resource: 'tag',
    summary: 'Removes tags; keys that are not there are no error.',
    method: 'DELETE',
    uri: '/tags/{resourceArn}',
    status: 204,
    access: 'Tagging',
    idempotent: true,
    labels,
    query: { tagKeys: required(list(string())) },
    output: undefined,
  }),
] as const;
