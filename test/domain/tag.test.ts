/** Tags of whatever has an ARN: how they are named, added, overwritten and removed, and what limits they have. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import {
  arnOfComponent,
  arnOfImage,
  arnOfStudio,
  putAmazonImage,
  putComponent,
  putImage,
  putState,
} from '../support/rows.ts';

type Tags = Record<string, string>;

async function tagsOf(world: World, resourceArn: string): Promise<Tags> {
  const answer = await world.call<{ tags: Tags }>('ListTagsForResource', { resourceArn });
  assertConforms('ListTagsForResource', answer);
  return answer.tags;
}

function manyTags(count: number, prefix = 'key'): Tags {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}`, String(index)]));
}

/** An image's ARN, in a studio that is READY. */
async function taggedImage(world: World, tags: Tags = {}): Promise<string> {
  return arnOfImage(await putImage(world, await world.makeStudio(), { tags }));
}

test('tags are added and overwritten, and the others stay', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world, { kept: '1', changed: '1' });
  assert.deepEqual(await world.call('TagResource', { resourceArn, tags: { changed: '2', added: '3' } }), {});
  assert.deepEqual(await tagsOf(world, resourceArn), { kept: '1', changed: '2', added: '3' });
});

test('tags are removed by key; keys that are not there are no error', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world, { a: '1', b: '2', A: '3' });
  assert.deepEqual(await world.call('UntagResource', { resourceArn, tagKeys: ['a', 'nothere', 'a'] }), {});
  assert.deepEqual(await tagsOf(world, resourceArn), { b: '2', A: '3' });
  await world.call('UntagResource', { resourceArn, tagKeys: [] });
  await world.call('UntagResource', { resourceArn, tagKeys: ['nothere'] });
  assert.deepEqual(await tagsOf(world, resourceArn), { b: '2', A: '3' });
});

test('a change that changes nothing is no write', async () => {
  const world = createWorld();
  const streamingImageId = await putImage(world, await world.makeStudio(), { tags: { a: '1' } });
  const resourceArn = arnOfImage(streamingImageId);
  const before = await world.store.get(KIND.streamingImage, streamingImageId);
  await world.call('TagResource', { resourceArn });
  await world.call('TagResource', { resourceArn, tags: {} });
  await world.call('TagResource', { resourceArn, tags: { a: '1' } });
  await world.call('UntagResource', { resourceArn, tagKeys: ['b'] });
  assert.deepEqual(await world.store.get(KIND.streamingImage, streamingImageId), before);
});

test('tags are what Get and List show, and an update of the resource leaves them alone', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { statusMessage: 'as it was' });
  await world.call('TagResource', { resourceArn: arnOfImage(streamingImageId), tags: { a: '1' } });
  const get = () =>
    world.call<{ streamingImage: { tags: Tags; state: string; statusMessage: string } }>('GetStreamingImage', {
      studioId,
      streamingImageId,
    });
  const { streamingImage } = await get();
  assert.deepEqual(streamingImage.tags, { a: '1' });
  assert.equal(streamingImage.state, 'READY');
  assert.equal(streamingImage.statusMessage, 'as it was');
  await world.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'new' });
  assert.deepEqual((await get()).streamingImage.tags, { a: '1' });
});

test("a studio's ARN is taken with and without the region in front of its id", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const short = arnOfStudio(studioId);
  const long = short.replace('studio/', 'studio/us-west-2:');
  assert.match(short, /:studio\/stid-[a-z0-9]{16}$/);
  await world.call('TagResource', { resourceArn: long, tags: { a: '1' } });
  await world.call('TagResource', { resourceArn: short, tags: { b: '2' } });
  for (const resourceArn of [short, long]) assert.deepEqual(await tagsOf(world, resourceArn), { a: '1', b: '2' });
  await world.call('UntagResource', { resourceArn: long, tagKeys: ['b'] });
  const { studio } = await world.call<{ studio: { tags: Tags } }>('GetStudio', { studioId });
  assert.deepEqual(studio.tags, { a: '1' });
});

test("Amazon's images are read under the caller's account", async () => {
  const world = createWorld();
  const resourceArn = arnOfImage(await putAmazonImage(world, { tags: { base: 'windows' } }));
  assert.deepEqual(await tagsOf(world, resourceArn), { base: 'windows' });
});

const everyCall = (resourceArn: string): [OperationName, object][] => [
  ['ListTagsForResource', { resourceArn }],
  ['TagResource', { resourceArn, tags: { a: '1' } }],
  ['TagResource', { resourceArn }],
  ['UntagResource', { resourceArn, tagKeys: ['a'] }],
];

test('what is no ARN of this API is 400', async () => {
  const world = createWorld();
  const malformed = [
    '',
    'garbage',
    'arn:aws:nimble:us-west-2:123456789012:streaming-image/',
    'arn:aws:nimble:us-west-2:123456789012:streaming-image',
    'arn:aws:nimble:us-west-2:12345:streaming-image/id',
    'arn:aws:nimble::123456789012:streaming-image/id',
    'arn:aws:s3:us-west-2:123456789012:streaming-image/id',
    ' arn:aws:nimble:us-west-2:123456789012:streaming-image/id',
    'ARN:aws:nimble:us-west-2:123456789012:streaming-image/id',
  ];
  for (const arn of malformed) {
    for (const [name, input] of everyCall(arn)) {
      await refused(world.call(name, input), 'ValidationException', 'MALFORMED_ARN');
    }
  }
});

test('a well-formed ARN of what is not here is 404 with the ARN', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const id = await putImage(world, studioId);
  const suffix = studioId.slice('us-west-2:'.length);
  const elsewhere = [
    arnOfImage('nothere'),
    arnOfImage('__proto__'),
    `arn:aws:nimble:us-west-2:123456789012:studio/stid-nothere`,
    `arn:aws:nimble:us-west-2:123456789012:studio/eu-west-1:${suffix}`,
    `arn:aws:nimble:eu-west-1:123456789012:streaming-image/${id}`,
    `arn:aws:nimble:us-west-2:999999999999:streaming-image/${id}`,
    `arn:aws:nimble:us-west-2:123456789012:studio/${id}`,
    `arn:aws:nimble:us-west-2:123456789012:streaming-image/${studioId}`,
    arnOfComponent(id),
    arnOfImage(await putComponent(world, studioId)),
    `arn:aws:nimble:us-west-2:123456789012:launch-profile/${id}`,
    `arn:aws:nimble:us-west-2:123456789012:eula/${id}`,
    `arn:aws:nimble:us-west-2:123456789012:access-key/AKIATEST`,
    `arn:aws:nimble:us-west-2:123456789012:machine-image/ami-1`,
  ];
  for (const arn of elsewhere) {
    for (const [name, input] of everyCall(arn)) {
      await refused(world.call(name, input), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: arn });
    }
  }
});

test('tombstones have no tags: their ARN is 404', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const dead = { state: 'DELETED', tags: { a: '1' } } as const;
  const image = arnOfImage(await putImage(world, studioId, dead));
  const component = arnOfComponent(await putComponent(world, studioId, dead));
  await putState(world, KIND.studio, studioId, 'DELETED');
  for (const arn of [image, component, arnOfStudio(studioId)]) {
    for (const [name, input] of everyCall(arn)) {
      await refused(world.call(name, input), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: arn });
    }
  }
});

const LONG_KEY = '𝔘'.repeat(128);
const LONG_VALUE = '🎬'.repeat(256);

const REFUSED_TAGS: [string, Tags][] = [
  ['an empty key', { '': 'v' }],
  ['a key of 129 characters', { [`${LONG_KEY}x`]: 'v' }],
  ['a value of 257 characters', { k: `${LONG_VALUE}x` }],
  ['a key that begins with aws:', { 'aws:mine': 'v' }],
  ['a key that begins with AWS:', { 'AWS:mine': 'v' }],
  ['51 tags', manyTags(51)],
];

for (const [what, tags] of REFUSED_TAGS) {
  test(`${what} is refused, in creates and in TagResource, and nothing is tagged`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const resourceArn = arnOfImage(await putImage(world, studioId));
    const roles = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd', studioName: 'tagged' };
    const calls: [OperationName, object][] = [
      ['TagResource', { resourceArn, tags: { fine: 'v', ...tags } }],
      ['CreateStreamingImage', { studioId, name: 'n', ec2ImageId: 'ami-1', tags }],
      ['CreateStudioComponent', { studioId, name: 'n', type: 'CUSTOM', tags }],
      ['CreateStudio', { ...roles, tags }],
    ];
    for (const [name, input] of calls) await refused(world.call(name, input), 'ValidationException', 'INVALID_TAGS');
    assert.deepEqual(await tagsOf(world, resourceArn), {});
  });
}

test('50 tags are the limit for what a resource has in the end, however they came', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world);
  await world.call('TagResource', { resourceArn, tags: manyTags(49) });
  await refused(
    world.call('TagResource', { resourceArn, tags: { one: '1', two: '2' } }),
    'ValidationException',
    'INVALID_TAGS',
  );
  await world.call('TagResource', { resourceArn, tags: { one: '1', key0: 'changed' } });
  await refused(world.call('TagResource', { resourceArn, tags: { two: '2' } }), 'ValidationException', 'INVALID_TAGS');
  await world.call('TagResource', { resourceArn, tags: manyTags(49) });
  assert.equal(Object.keys(await tagsOf(world, resourceArn)).length, 50);
});

test('lengths are counted in characters: 128 in a key and 256 in a value fit, whatever their bytes', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world);
  const tags = { [LONG_KEY]: LONG_VALUE, empty: '', aws: 'v', 'xaws:': 'v' };
  await world.call('TagResource', { resourceArn, tags });
  assert.deepEqual(await tagsOf(world, resourceArn), tags);
});

test('keys that mean something to JavaScript are tags like any other', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'length', '0', '-1'];
  const tags = Object.create(null) as Tags;
  for (const name of names) tags[name] = `value of ${name}`;
  const sorted = (given: Tags) => Object.entries(given).sort(([a], [b]) => (a < b ? -1 : 1));

  const { streamingImage } = await world.call<{ streamingImage: { streamingImageId: string; tags: Tags } }>(
    'CreateStreamingImage',
    { studioId, name: 'n', ec2ImageId: 'ami-1', tags },
  );
  assert.deepEqual(sorted(streamingImage.tags), sorted(tags));
  await putState(world, KIND.streamingImage, streamingImage.streamingImageId, 'READY');

  const resourceArn = arnOfImage(streamingImage.streamingImageId);
  const changed = JSON.parse('{"__proto__":"changed"}') as Tags;
  await world.call('TagResource', { resourceArn, tags: changed });
  assert.equal(Object.getOwnPropertyDescriptor(await tagsOf(world, resourceArn), '__proto__')?.value, 'changed');
  await world.call('UntagResource', { resourceArn, tagKeys: names.filter((name) => name !== '__proto__') });
  assert.deepEqual(Object.keys(await tagsOf(world, resourceArn)), ['__proto__']);
  await world.call('UntagResource', { resourceArn, tagKeys: ['__proto__'] });
  assert.deepEqual(Object.keys(await tagsOf(world, resourceArn)), []);
  assert.equal(({} as Tags).changed, undefined);
});

test('tag keys and values come back byte for byte', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world);
  const texts = ['🎬', 'a\u0000b', '\ud800', 'é', 'e\u0301', '"\\\n', ' ', '%2F'];
  const tags = Object.fromEntries(texts.map((text) => [text, text]));
  await world.call('TagResource', { resourceArn, tags });
  assert.deepEqual(await tagsOf(world, resourceArn), tags);
  await world.call('UntagResource', { resourceArn, tagKeys: texts.slice(1) });
  assert.deepEqual(await tagsOf(world, resourceArn), { '🎬': '🎬' });
});

test('tags of a component are what Get shows, change nothing else of it, and stay through an update', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const studioComponentId = await putComponent(world, studioId, { tags: { kept: '1', gone: '1' } });
  const resourceArn = arnOfComponent(studioComponentId);
  const get = async () => {
    const answer = await world.call<{ studioComponent: Record<string, unknown> }>('GetStudioComponent', {
      studioId,
      studioComponentId,
    });
    return answer.studioComponent;
  };
  const before = await get();
  world.clock.advance(7_000);
  await world.call('TagResource', { resourceArn, tags: { added: '2' } });
  await world.call('UntagResource', { resourceArn, tagKeys: ['gone'] });
  const tags = { kept: '1', added: '2' };
  assert.deepEqual(await get(), { ...before, tags, updatedAt: '2026-01-01T00:00:07Z' });
  assert.deepEqual(await tagsOf(world, resourceArn), tags);
  await world.call('UpdateStudioComponent', { studioId, studioComponentId, name: 'new' });
  await refused(world.call('TagResource', { resourceArn, tags }), 'ConflictException', 'OPERATION_IN_PROGRESS');
  await world.settle();
  assert.deepEqual((await get()).tags, tags);
});

test('tags of a studio count as a change of it, those of an image show no time', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  world.clock.advance(7_000);
  await world.call('TagResource', { resourceArn: arnOfStudio(studioId), tags: { a: '1' } });
  const { studio } = await world.call<{ studio: Record<string, string> }>('GetStudio', { studioId });
  assert.equal(studio.updatedAt, '2026-01-01T00:00:07Z');
  assert.equal(studio.state, 'READY');
  assert.equal(studio.statusCode, 'STUDIO_CREATED');
});

test('many that tag one resource at once lose nothing of what is acknowledged', async () => {
  const world = createWorld();
  const resourceArn = await taggedImage(world);
  const outcomes = await Promise.allSettled(
    Array.from({ length: 20 }, (_, index) => world.call('TagResource', { resourceArn, tags: { [`k${index}`]: 'v' } })),
  );
  const acknowledged = outcomes.flatMap(({ status }, index) => (status === 'fulfilled' ? [`k${index}`] : []));
  assert.ok(acknowledged.length >= 8);
  assert.deepEqual(Object.keys(await tagsOf(world, resourceArn)).sort(), acknowledged.sort());
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected')
      await refused(Promise.reject(outcome.reason), 'ConflictException', 'CONCURRENT_CHANGES');
  }
});
