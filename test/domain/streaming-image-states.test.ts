/**
 * What each state of an image, and of the studio around it, lets a caller do. The table is typed out here a second time,
 * so that a slip in the product's own table does not pass for a rule.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createWorld } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { arnOfImage, putImage, putState } from '../support/rows.ts';

type State = NonNullable<StreamingImage['state']>;

const REQUESTS = [
  'GetStreamingImage',
  'UpdateStreamingImage',
  'DeleteStreamingImage',
  'TagResource',
  'UntagResource',
] as const;

/** Status of get, update, delete, tag, untag; then the state after an update. */
const TABLE: Record<State, [number, number, number, number, number, State?]> = {
  CREATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  READY: [200, 200, 200, 200, 200, 'READY'],
  UPDATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  UPDATE_FAILED: [200, 200, 200, 200, 200, 'READY'],
  CREATE_FAILED: [200, 409, 200, 200, 200],
  DELETE_IN_PROGRESS: [200, 409, 409, 409, 409],
  DELETE_FAILED: [200, 200, 200, 200, 200, 'DELETE_FAILED'],
  DELETED: [200, 404, 404, 404, 404],
};

for (const [state, [...expected]] of Object.entries(TABLE)) {
  const afterUpdate = expected.pop() as State | number;
  if (typeof afterUpdate === 'number') expected.push(afterUpdate);
  for (const [index, request] of REQUESTS.entries()) {
    test(`${request} of an image in ${state} is ${expected[index]}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const streamingImageId = await putImage(world, studioId, { state: state as State, tags: { old: '1' } });
      const before = await world.store.get(KIND.streamingImage, streamingImageId);
      const resourceArn = arnOfImage(streamingImageId);
      const input = { studioId, streamingImageId, name: 'new', resourceArn, tags: { a: '1' }, tagKeys: ['old'] };
      assert.equal(await statusOf(world.call(request, input)), expected[index]);
      const after = await world.store.get(KIND.streamingImage, streamingImageId);
      if (request === 'GetStreamingImage' || expected[index] !== 200) assert.deepEqual(after, before);
      else if (request === 'DeleteStreamingImage') assert.equal(after!.state, 'DELETE_IN_PROGRESS');
      else if (request === 'UpdateStreamingImage') assert.equal(after!.state, afterUpdate);
      else assert.equal(after!.state, state);
    });
  }
}

test('a refusal for the state says so, and names image and state', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const [state, code] of [
    ['CREATE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['DELETE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['CREATE_FAILED', 'STATE_DOES_NOT_ALLOW'],
  ] as const) {
    const streamingImageId = await putImage(world, studioId, { state });
    const call = world.call('UpdateStreamingImage', { studioId, streamingImageId });
    await refused(call, 'ConflictException', code, { resourceId: streamingImageId, state });
  }
});

test('a delete that failed can be sent again', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { state: 'DELETE_FAILED' });
  await world.call('DeleteStreamingImage', { studioId, streamingImageId });
  await world.settle();
  assert.equal((await world.store.get(KIND.streamingImage, streamingImageId))!.state, 'DELETED');
});

/** Status of what changes images, and of what reads them, by the state of the studio. */
const STUDIOS: Record<string, { change: number; get: number; list: number }> = {
  CREATE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  READY: { change: 200, get: 200, list: 200 },
  UPDATE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  UPDATE_FAILED: { change: 200, get: 200, list: 200 },
  CREATE_FAILED: { change: 409, get: 200, list: 200 },
  DELETE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  DELETE_FAILED: { change: 200, get: 200, list: 200 },
  DELETED: { change: 404, get: 200, list: 404 },
};

for (const [state, expected] of Object.entries(STUDIOS)) {
  test(`in a studio that is ${state}, images are changed with ${expected.change} and listed with ${expected.list}`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const streamingImageId = await putImage(world, studioId);
    await putState(world, KIND.studio, studioId, state);
    const resourceArn = arnOfImage(streamingImageId);
    const input = { studioId, streamingImageId, name: 'new', ec2ImageId: 'ami-0' };
    assert.equal(await statusOf(world.call('GetStreamingImage', input)), expected.get);
    assert.equal(await statusOf(world.call('ListStreamingImages', { studioId })), expected.list);
    for (const name of ['CreateStreamingImage', 'UpdateStreamingImage', 'DeleteStreamingImage'] as const) {
      assert.equal(await statusOf(world.call(name, input)), expected.change, name);
    }
    await putState(world, KIND.streamingImage, streamingImageId, 'READY');
    assert.equal(await statusOf(world.call('TagResource', { resourceArn, tags: { a: '1' } })), expected.change);
    assert.equal(await statusOf(world.call('UntagResource', { resourceArn, tagKeys: ['a'] })), expected.change);
  });
}
