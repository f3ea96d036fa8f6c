/** Streaming images: which operating system and software an artist gets. Data only. */
import { label, nextToken, PAGE_LENGTH, shortId, tags } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure } from './shape.ts';

const name = string({ min: 0, max: 64, sensitive: true });
const description = string({ min: 0, max: 256, sensitive: true });

/** The class `A-z` lets `[ \ ] ^ _` and the backtick through as well; kept as published. */
export const ec2ImageId = string({ pattern: /^ami-[0-9A-z]+$/ });

export const streamingImageState = enumeration([
  'CREATE_IN_PROGRESS',
  'READY',
  'DELETE_IN_PROGRESS',
  'DELETED',
  'UPDATE_IN_PROGRESS',
  'UPDATE_FAILED',
  'CREATE_FAILED',
  'DELETE_FAILED',
]);

export const streamingImageStatusCode = enumeration([
  'STREAMING_IMAGE_CREATE_IN_PROGRESS',
  'STREAMING_IMAGE_READY',
  'STREAMING_IMAGE_DELETE_IN_PROGRESS',
  'STREAMING_IMAGE_DELETED',
  'STREAMING_IMAGE_UPDATE_IN_PROGRESS',
  'INTERNAL_ERROR',
  'ACCESS_DENIED',
]);

export const streamingImage = structure('StreamingImage', {
  arn: optional(string()),
  description: optional(description),
  ec2ImageId: optional(ec2ImageId),
  encryptionConfiguration: optional(
    structure('StreamingImageEncryptionConfiguration', {
      keyArn: optional(string({ min: 4, pattern: /^arn:.*/ })),
      keyType: required(enumeration(['CUSTOMER_MANAGED_KEY'])),
    }),
  ),
  eulaIds: optional(list(string())),
  name: optional(name),
  owner: optional(string()),
  platform: optional(string({ pattern: /^[a-zA-Z]*$/ })),
  state: optional(streamingImageState),
  statusCode: optional(streamingImageStatusCode),
  statusMessage: optional(string()),
  streamingImageId: optional(shortId),
  tags: optional(tags),
});

export type StreamingImage = Static<typeof streamingImage>;

const labels = { studioId: label, streamingImageId: label };
const output = (operationName: string) =>
  structure(`${operationName}Response`, { streamingImage: optional(streamingImage) });

export const streamingImageOperations = [
  operation('CreateStreamingImage', {
    resource: 'streaming-image',
    summary: "Copies a machine image into a studio's own encrypted streaming image.",
    method: 'POST',
    uri: '/studios/{studioId}/streaming-images',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: {
      description: optional(description),
      ec2ImageId: required(ec2ImageId),
      name: required(name),
      tags: optional(tags),
    },
    output: output('CreateStreamingImage'),
    waiter: 'StreamingImageReady',
  }),
  operation('GetStreamingImage', {
    resource: 'streaming-image',
    summary: 'Reads one streaming image.',
    method: 'GET',
    uri: '/studios/{studioId}/streaming-images/{streamingImageId}',
    access: 'Read',
    labels,
    output: output('GetStreamingImage'),
  }),
  operation('ListStreamingImages', {
    resource: 'streaming-image',
    summary: "Lists a studio's streaming images and those provided for every studio.",
    method: 'GET',
    uri: '/studios/{studioId}/streaming-images',
    access: 'Read',
    labels: { studioId: label },
    query: { nextToken, owner: optional(string()) },
    output: structure('ListStreamingImagesResponse', {
      nextToken: optional(string()),
      streamingImages: optional(list(streamingImage)),
    }),
    pagination: { items: 'streamingImages', pageLength: PAGE_LENGTH },
  }),
  operation('UpdateStreamingImage', {
    resource: 'streaming-image',
    summary: 'Renames a streaming image or changes its description, at once.',
    method: 'PATCH',
    uri: '/studios/{studioId}/streaming-images/{streamingImageId}',
    access: 'Write',
    clientToken: true,
    labels,
    body: { description: optional(description), name: optional(name) },
    output: output('UpdateStreamingImage'),
    waiter: 'StreamingImageReady',
  }),
  operation('DeleteStreamingImage', {
    resource: 'streaming-image',
    summary: 'Deletes a streaming image: its key first, then its bytes, once no session of it is left.',
    method: 'DELETE',
    uri: '/studios/{studioId}/streaming-images/{streamingImageId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: output('DeleteStreamingImage'),
    waiter: 'StreamingImageDeleted',
  }),
] as const;
