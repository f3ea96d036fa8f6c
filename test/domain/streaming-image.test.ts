/**
 * The five operations on streaming images, as a caller sees them: which fields there are, what an update and a delete
 * mean, whose images are seen, in which order refusals come, and how many images a studio may have.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { type StreamingSessionState, streamingSessionLifecycle } from '../../src/domain/streaming-session-lifecycle.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { arnOfImage, putAmazonImage, putImage, putSession, putState } from '../support/rows.ts';

const AMI = 'ami-0123456789abcdef0';
const CUSTOMER_KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';

interface One {
  streamingImage: StreamingImage;
}
interface Many {
  streamingImages: StreamingImage[];
  nextToken?: string;
}

async function createImage(world: World, studioId: string, input: object = {}): Promise<StreamingImage> {
  const call = { studioId, name: 'Houdini 20', ec2ImageId: AMI, ...input };
  const answer = await world.call<One>('CreateStreamingImage', call);
  assertConforms('CreateStreamingImage', answer);
  return answer.streamingImage;
}

async function getImage(world: World, studioId: string, streamingImageId: string): Promise<StreamingImage> {
  const answer = await world.call<One>('GetStreamingImage', { studioId, streamingImageId });
  assertConforms('GetStreamingImage', answer);
  return answer.streamingImage;
}

async function listIds(world: World, studioId: string, owner?: string): Promise<string[]> {
  const answer = await world.call<Many>('ListStreamingImages', { studioId, ...(owner !== undefined && { owner }) });
  assertConforms('ListStreamingImages', answer);
  return answer.streamingImages.map(({ streamingImageId }) => streamingImageId!);
}

test('a create answers at once, in CREATE_IN_PROGRESS, with every documented field and no other', async () => {
  const world = createWorld();
  await world.addMachineImage(AMI, { platform: 'WINDOWS', eulaIds: ['gJZLygd-Srq_5NNbSfiaLg'] });
  const studioId = await world.makeStudio();
  const image = await createImage(world, studioId, { description: 'for show alpha', tags: { show: 'alpha' } });
  assert.deepEqual(image, {
    arn: arnOfImage(image.streamingImageId!),
    description: 'for show alpha',
    ec2ImageId: AMI,
    eulaIds: ['gJZLygd-Srq_5NNbSfiaLg'],
    name: 'Houdini 20',
    owner: studioId,
    platform: 'WINDOWS',
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAMING_IMAGE_CREATE_IN_PROGRESS',
    statusMessage: 'Streaming Image creation is in progress',
    streamingImageId: image.streamingImageId,
    tags: { show: 'alpha' },
  });
  assert.deepEqual(await getImage(world, studioId, image.streamingImageId!), image);
});

test('an image becomes READY with everything else as it was', async () => {
  const world = createWorld();
  await world.addMachineImage(AMI);
  const studioId = await world.makeStudio();
  const created = await createImage(world, studioId);
  await world.settle();
  assert.deepEqual(await getImage(world, studioId, created.streamingImageId!), {
    ...created,
    state: 'READY',
    statusCode: 'STREAMING_IMAGE_READY',
    statusMessage: 'Streaming Image has been created',
  });
});

test('an image id is the base64url of a random UUID', async () => {
  const world = createWorld();
  const { streamingImageId } = await createImage(world, await world.makeStudio());
  assert.match(streamingImageId!, /^[A-Za-z0-9_-]{22}$/);
  const hex = Buffer.from(streamingImageId!, 'base64url').toString('hex');
  assert.match(hex, /^.{12}4.{3}[89ab].{15}$/);
});

test('a description that was never given is left out, and tags are an empty object', async () => {
  const world = createWorld();
  const image = await createImage(world, await world.makeStudio());
  assert.equal(Object.hasOwn(image, 'description'), false);
  assert.deepEqual(image.tags, {});
});

test('a machine image that is not known makes a LINUX image without EULAs', async () => {
  const world = createWorld();
  const image = await createImage(world, await world.makeStudio(), { ec2ImageId: 'ami-missing' });
  assert.equal(image.platform, 'LINUX');
  assert.deepEqual(image.eulaIds, []);
});

test("the encryption configuration is the studio's own key, and left out where the studio has none", async () => {
  const world = createWorld();
  world.keys.customerKeys.add(CUSTOMER_KEY);
  const studioEncryptionConfiguration = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: CUSTOMER_KEY };
  const own = await createImage(world, await world.makeStudio({ studioEncryptionConfiguration }));
  assert.deepEqual(own.encryptionConfiguration, studioEncryptionConfiguration);
  const owned = { keyType: 'AWS_OWNED_KEY' };
  for (const input of [{}, { studioEncryptionConfiguration: owned }]) {
    const image = await createImage(world, await world.makeStudio(input));
    assert.equal(Object.hasOwn(image, 'encryptionConfiguration'), false);
  }
});

test('names may be empty and the same twice, and one machine image may serve twice', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [one, other] = [
    await createImage(world, studioId, { name: '' }),
    await createImage(world, studioId, { name: '' }),
  ];
  assert.equal(one.name, '');
  assert.equal(other.name, '');
  assert.notEqual(one.streamingImageId, other.streamingImageId);
  assert.equal(one.ec2ImageId, other.ec2ImageId);
});

test('an update is done before it is answered: new values, READY, readable at once', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { tags: { a: '1' } });
  const before = await getImage(world, studioId, streamingImageId);
  const answer = await world.call<One>('UpdateStreamingImage', {
    studioId,
    streamingImageId,
    name: 'new',
    description: 'new',
  });
  assertConforms('UpdateStreamingImage', answer);
  assert.deepEqual(answer.streamingImage, {
    ...before,
    name: 'new',
    description: 'new',
    statusMessage: 'Streaming Image has been updated',
  });
  assert.deepEqual(await getImage(world, studioId, streamingImageId), answer.streamingImage);
});

test('what an update does not name stays', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { name: 'kept', description: 'kept' });
  const update = async (changes: object) =>
    (await world.call<One>('UpdateStreamingImage', { studioId, streamingImageId, ...changes })).streamingImage;
  assert.deepEqual((({ name, description }) => ({ name, description }))(await update({ name: 'n' })), {
    name: 'n',
    description: 'kept',
  });
  assert.deepEqual((({ name, description }) => ({ name, description }))(await update({ description: 'd' })), {
    name: 'n',
    description: 'd',
  });
});

test('an empty description is stored and shown as it is', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { description: 'something' });
  const { streamingImage } = await world.call<One>('UpdateStreamingImage', {
    studioId,
    streamingImageId,
    description: '',
    name: '',
  });
  assert.equal(streamingImage.description, '');
  assert.equal(streamingImage.name, '');
  assert.equal((await getImage(world, studioId, streamingImageId)).description, '');
});

test('an update that names nothing succeeds and changes nothing, not even the version', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  const before = await world.store.get(KIND.streamingImage, streamingImageId);
  const answer = await world.call<One>('UpdateStreamingImage', { studioId, streamingImageId });
  assert.deepEqual(answer.streamingImage, JSON.parse(before!.doc));
  assert.deepEqual(await world.store.get(KIND.streamingImage, streamingImageId), before);
});

test('a delete answers in DELETE_IN_PROGRESS and ends as a tombstone with every field', async () => {
  const world = createWorld();
  await world.addMachineImage(AMI);
  const studioId = await world.makeStudio();
  const { streamingImageId } = await createImage(world, studioId, { description: 'd', tags: { a: '1' } });
  await world.settle();
  const before = await getImage(world, studioId, streamingImageId!);
  const answer = await world.call<One>('DeleteStreamingImage', { studioId, streamingImageId });
  assertConforms('DeleteStreamingImage', answer);
  assert.deepEqual(answer.streamingImage, {
    ...before,
    state: 'DELETE_IN_PROGRESS',
    statusCode: 'STREAMING_IMAGE_DELETE_IN_PROGRESS',
    statusMessage: 'Streaming Image deletion is in progress',
  });
  await world.settle();
  assert.deepEqual(await getImage(world, studioId, streamingImageId!), {
    ...before,
    state: 'DELETED',
    statusCode: 'STREAMING_IMAGE_DELETED',
    statusMessage: 'Streaming Image has been deleted',
  });
});

test('a tombstone is shown by Get and List until it expires, then it is 404', async () => {
  const world = createWorld({ settings: { tombstoneMs: 60_000 } });
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  await world.call('DeleteStreamingImage', { studioId, streamingImageId });
  await world.settle();
  world.clock.advance(59_999);
  await world.settle();
  assert.equal((await getImage(world, studioId, streamingImageId)).state, 'DELETED');
  assert.deepEqual(await listIds(world, studioId), [streamingImageId]);
  world.clock.advance(1);
  await world.settle();
  await refused(
    world.call('GetStreamingImage', { studioId, streamingImageId }),
    'ResourceNotFoundException',
    'RESOURCE_NOT_FOUND',
    { resourceId: streamingImageId },
  );
  assert.deepEqual(await listIds(world, studioId), []);
});

test('a list without an owner holds what Amazon provides and what the studio owns, in the order of creation', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const ids: string[] = [];
  for (const put of [putImage, putAmazonImage, putImage, putAmazonImage]) {
    world.clock.advance(1_000);
    ids.push(put === putImage ? await putImage(world, studioId) : await putAmazonImage(world));
  }
  await putImage(world, await world.makeStudio());
  assert.deepEqual(await listIds(world, studioId), ids);
});

test("owner filters by the studio's own id or by amazon in any case; every other owner gives an empty list", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const otherStudioId = await world.makeStudio();
  const own = await putImage(world, studioId);
  const provided = await putAmazonImage(world);
  await putImage(world, otherStudioId);
  assert.deepEqual(await listIds(world, studioId, studioId), [own]);
  for (const amazon of ['amazon', 'AMAZON', 'Amazon'])
    assert.deepEqual(await listIds(world, studioId, amazon), [provided]);
  for (const owner of [otherStudioId, 'someone', '', ' amazon', studioId.toUpperCase(), '-']) {
    assert.deepEqual(await listIds(world, studioId, owner), [], `owner ${JSON.stringify(owner)}`);
  }
});

test('an image that Amazon provides is readable through any studio, as it stands', async () => {
  const world = createWorld();
  const streamingImageId = await putAmazonImage(world);
  for (const studioId of [await world.makeStudio(), await world.makeStudio()]) {
    const image = await getImage(world, studioId, streamingImageId);
    assert.equal(image.owner, 'amazon');
    assert.equal(image.state, 'READY');
    assert.equal(Object.hasOwn(image, 'statusCode') || Object.hasOwn(image, 'statusMessage'), false);
  }
});

test('an image that Amazon provides is readable only through a studio that is there', async () => {
  const world = createWorld();
  const streamingImageId = await putAmazonImage(world);
  const gone = await world.makeStudio();
  await putState(world, KIND.studio, gone, 'DELETED');
  for (const studioId of ['us-west-2:stid-nothere', 'amazon', 'AMAZON', '-', '', gone]) {
    await refused(
      world.call('GetStreamingImage', { studioId, streamingImageId }),
      'ResourceNotFoundException',
      'RESOURCE_NOT_FOUND',
      { resourceId: studioId },
    );
  }
});

test('an image that Amazon provides cannot be updated, deleted, tagged or untagged', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putAmazonImage(world);
  const resourceArn = arnOfImage(streamingImageId);
  const before = await world.store.get(KIND.streamingImage, streamingImageId);
  const attempts: [OperationName, object][] = [
    ['UpdateStreamingImage', { studioId, streamingImageId, name: 'mine' }],
    ['UpdateStreamingImage', { studioId, streamingImageId }],
    ['DeleteStreamingImage', { studioId, streamingImageId }],
    ['TagResource', { resourceArn, tags: { a: '1' } }],
    ['TagResource', { resourceArn }],
    ['UntagResource', { resourceArn, tagKeys: ['a'] }],
  ];
  for (const [name, input] of attempts) {
    await refused(world.call(name, input), 'AccessDeniedException', 'PROVIDED_IMAGE');
  }
  assert.deepEqual(await world.store.get(KIND.streamingImage, streamingImageId), before);
});

test("another studio's image does not exist: it is neither read nor changed nor listed", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, await world.makeStudio());
  const before = await world.store.get(KIND.streamingImage, streamingImageId);
  for (const name of ['GetStreamingImage', 'UpdateStreamingImage', 'DeleteStreamingImage'] as const) {
    await refused(
      world.call(name, { studioId, streamingImageId, name: 'mine' }),
      'ResourceNotFoundException',
      'RESOURCE_NOT_FOUND',
      { resourceId: streamingImageId },
    );
  }
  assert.deepEqual(await listIds(world, studioId), []);
  assert.deepEqual(await world.store.get(KIND.streamingImage, streamingImageId), before);
});

test('a studio that is not there is named before the image is looked for', async () => {
  const world = createWorld();
  const studioId = 'us-west-2:stid-nothere';
  const calls: [OperationName, object][] = [
    ['CreateStreamingImage', { name: 'n', ec2ImageId: AMI }],
    ['GetStreamingImage', { streamingImageId: 'nothere' }],
    ['ListStreamingImages', {}],
    ['UpdateStreamingImage', { streamingImageId: 'nothere' }],
    ['DeleteStreamingImage', { streamingImageId: 'nothere' }],
  ];
  for (const [name, input] of calls) {
    await refused(world.call(name, { studioId, ...input }), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', {
      resourceId: studioId,
    });
  }
});

test('refusals come in the order studio, image, owner, state', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [creating, deleted] = [
    await putImage(world, studioId, { state: 'CREATE_IN_PROGRESS' }),
    await putImage(world, studioId, { state: 'DELETED' }),
  ];
  const provided = await putAmazonImage(world, { state: 'CREATE_IN_PROGRESS' });
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  for (const name of ['UpdateStreamingImage', 'DeleteStreamingImage'] as const) {
    const call = (streamingImageId: string) => world.call(name, { studioId, streamingImageId });
    await refused(call('nothere'), 'ResourceNotFoundException', undefined, { resourceId: 'nothere' });
    await refused(call(deleted), 'ResourceNotFoundException', undefined, { resourceId: deleted });
    await refused(call(provided), 'AccessDeniedException');
    await refused(call(creating), 'ConflictException', 'STUDIO_NOT_READY');
  }
});

test('a full quota is told only to who could create otherwise', async () => {
  const world = createWorld({ settings: { streamingImagesMax: 0 } });
  const studioId = await world.makeStudio();
  const call = () => world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: AMI });
  await refused(call(), 'ServiceQuotaExceededException', 'STREAMING_IMAGES_PER_STUDIO');
  await putState(world, KIND.studio, studioId, 'UPDATE_IN_PROGRESS');
  await refused(call(), 'ConflictException', 'STUDIO_NOT_READY');
});

test("every state but DELETED counts against the quota; other studios' and Amazon's images do not", async () => {
  const states = [
    'CREATE_IN_PROGRESS',
    'READY',
    'UPDATE_IN_PROGRESS',
    'UPDATE_FAILED',
    'CREATE_FAILED',
    'DELETE_IN_PROGRESS',
    'DELETE_FAILED',
  ] as const;
  for (const state of states) {
    const world = createWorld({ settings: { streamingImagesMax: 1 } });
    const studioId = await world.makeStudio();
    await putImage(world, studioId, { state });
    await refused(
      world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: AMI }),
      'ServiceQuotaExceededException',
      'STREAMING_IMAGES_PER_STUDIO',
      { quota: '1', resourceId: studioId },
    );
  }
  const world = createWorld({ settings: { streamingImagesMax: 1 } });
  const studioId = await world.makeStudio();
  await putImage(world, studioId, { state: 'DELETED' });
  await putImage(world, await world.makeStudio());
  await putAmazonImage(world);
  await createImage(world, studioId);
});

test('an image that failed for want of its machine image still counts, until it is deleted', async () => {
  const world = createWorld({ settings: { streamingImagesMax: 1 } });
  const studioId = await world.makeStudio();
  const { streamingImageId } = await createImage(world, studioId, { ec2ImageId: 'ami-missing' });
  await world.settle();
  assert.equal((await getImage(world, studioId, streamingImageId!)).state, 'CREATE_FAILED');
  const again = () => world.call('CreateStreamingImage', { studioId, name: 'n', ec2ImageId: AMI });
  await refused(again(), 'ServiceQuotaExceededException');
  await world.call('DeleteStreamingImage', { studioId, streamingImageId });
  await refused(again(), 'ServiceQuotaExceededException');
  await world.settle();
  await again();
});

test('text of every kind comes back byte for byte', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const texts = [
    '🎬🎞️ 𝔘𝔫𝔦',
    'a\u0000b',
    '\ud800',
    '\udfff tail',
    '"\\\n\r\t\u2028\u2029',
    '</script>',
    'é',
    'e\u0301',
    '\ufeffbom',
  ];
  for (const text of texts) {
    const tags = { [`key ${text}`]: text };
    const created = await createImage(world, studioId, { name: text, description: text, tags, ec2ImageId: AMI });
    const streamingImageId = created.streamingImageId!;
    for (const image of [created, await getImage(world, studioId, streamingImageId)]) {
      assert.equal(image.name, text);
      assert.equal(image.description, text);
      assert.deepEqual(image.tags, tags);
    }
    await putState(world, KIND.streamingImage, streamingImageId, 'READY');
    await world.call('UpdateStreamingImage', { studioId, streamingImageId, name: `${text}${text}` });
    assert.equal((await getImage(world, studioId, streamingImageId)).name, `${text}${text}`);
    await putState(world, KIND.streamingImage, streamingImageId, 'DELETED');
  }
});

for (const state of Object.keys(streamingSessionLifecycle.states)) {
  test(`an image with a session that is ${state} is deleted like any other`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const streamingImageId = await putImage(world, studioId);
    await putSession(world, studioId, { state: state as StreamingSessionState, streamingImageId });
    const input = { studioId, streamingImageId };
    const { streamingImage } = await world.call<One>('DeleteStreamingImage', input);
    assertConforms('DeleteStreamingImage', { streamingImage });
    assert.deepEqual(
      [streamingImage.state, streamingImage.statusCode],
      ['DELETE_IN_PROGRESS', 'STREAMING_IMAGE_DELETE_IN_PROGRESS'],
    );
    await world.settle();
    const deleted = await getImage(world, studioId, streamingImageId);
    assert.deepEqual([deleted.state, deleted.statusCode], ['DELETED', 'STREAMING_IMAGE_DELETED']);
    await refused(world.call('DeleteStreamingImage', input), 'ResourceNotFoundException');
    await refused(world.call('UpdateStreamingImage', { ...input, name: 'n' }), 'ResourceNotFoundException');
  });
}
