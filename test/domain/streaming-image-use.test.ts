/** Which sessions stand on an image: every one that is or may become a workstation again, of whichever studio and however many. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KIND } from '../../src/domain/kinds.ts';
import { isUsableImage, type StreamingImageState, streamingImageLifecycle } from '../../src/domain/streaming-image.ts';
import { countSessionsOn, sessionsByImage } from '../../src/domain/streaming-image-use.ts';
import type { StreamingSessionState } from '../../src/domain/streaming-session-lifecycle.ts';
import { createWorld } from '../support/domain.ts';
import { putAmazonImage, putImage, putSession } from '../support/rows.ts';

const STANDS: Record<StreamingSessionState, boolean> = {
  CREATE_IN_PROGRESS: true,
  CREATE_FAILED: false,
  READY: true,
  START_IN_PROGRESS: true,
  START_FAILED: true,
  STOP_IN_PROGRESS: true,
  STOP_FAILED: true,
  STOPPED: true,
  DELETE_IN_PROGRESS: true,
  DELETE_FAILED: true,
  DELETED: false,
};

for (const [state, stands] of Object.entries(STANDS) as [StreamingSessionState, boolean][]) {
  test(`a session that is ${state} ${stands ? 'stands' : 'does not stand'} on its image`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const streamingImageId = await putImage(world, studioId);
    await putSession(world, studioId, { state, streamingImageId });
    const image = (await world.store.get(KIND.streamingImage, streamingImageId))!;
    assert.equal(await countSessionsOn(image, world.store), stands ? 1 : 0);
  });
}

test('sessions of every studio count for an image provided to all, and none is missed among very many', async () => {
  const world = createWorld();
  const [one, other] = [await world.makeStudio(), await world.makeStudio()];
  const [own, provided] = [await putImage(world, one), await putAmazonImage(world)];
  // More than one page of a list, all made at the same moment.
  for (let made = 0; made < 1_100; made += 1) await putSession(world, one, { streamingImageId: own });
  await putSession(world, one, { streamingImageId: provided });
  world.clock.advance(1);
  await putSession(world, other, { streamingImageId: provided, state: 'STOPPED' });
  assert.deepEqual(Object.fromEntries(await sessionsByImage(world.store)), { [own]: 1_100, [provided]: 2 });
  const [ownRow, providedRow] = await Promise.all(
    [own, provided].map((id) => world.store.get(KIND.streamingImage, id)),
  );
  assert.equal(await countSessionsOn(ownRow!, world.store), 1_100);
  assert.equal(await countSessionsOn(providedRow!, world.store), 2);
});

test('an image whose deletion has begun is never used for new sessions again, so that none is added', async () => {
  const world = createWorld();
  const image = (await world.store.get(KIND.streamingImage, await putImage(world, await world.makeStudio())))!;
  const reached = new Set<StreamingImageState>(['DELETE_IN_PROGRESS']);
  for (const state of reached) {
    assert.ok(!isUsableImage({ ...image, state }), state);
    for (const { to } of Object.values(streamingImageLifecycle.states[state].on)) reached.add(to);
  }
  assert.deepEqual([...reached].sort(), ['DELETED', 'DELETE_FAILED', 'DELETE_IN_PROGRESS']);
});
