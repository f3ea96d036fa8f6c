/**
 * The work behind a streaming image: whichever step fails, dies, hangs or runs twice, the image ends READY with bytes and
 * the key that opens them, or in a failed state that says why, or DELETED with neither.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { ImageFailure } from '../../src/images/images.ts';
import { KeyUnavailable } from '../../src/keys/keys.ts';
import { destroyBytes, importImage } from '../../src/worker/streaming-image.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { Process } from '../support/process.ts';
import { until } from '../support/until.ts';
import {
  AMI,
  atEveryPoint,
  atIndex,
  createScene,
  LEASE_MS,
  NOTHING,
  processThatDiesAt,
  processThatDiesAtWork,
  READABLE,
  type Scene,
  standingStill,
} from './scene.ts';

/** What a worker is about to do in each of these, and how it ends when nothing goes wrong. */
const STORIES = {
  import: {
    begin: (scene: Scene) => scene.create(),
    end: { state: 'READY', statusCode: 'STREAMING_IMAGE_READY', statusMessage: 'Streaming Image has been created' },
    holdings: READABLE,
  },
  removal: {
    begin: async (scene: Scene) => {
      const id = await scene.create();
      await scene.finish();
      await scene.remove(id);
      return id;
    },
    end: { state: 'DELETED', statusCode: 'STREAMING_IMAGE_DELETED', statusMessage: 'Streaming Image has been deleted' },
    holdings: NOTHING,
  },
} as const;

const EFFECTS: Record<keyof typeof STORIES, string[]> = {
  import: ['keys.generate', 'keys.generated', 'keys.unseal', 'images.import', 'images.converted', 'images.imported'],
  removal: ['keys.destroy', 'keys.destroyed', 'images.remove', 'images.removed'],
};

const statusOf = ({ state, statusCode, statusMessage }: StreamingImage) => ({ state, statusCode, statusMessage });

async function assertEnded(scene: Scene, id: string, story: keyof typeof STORIES, what: string): Promise<void> {
  assert.deepEqual(statusOf((await scene.image(id))!), STORIES[story].end, what);
  assert.deepEqual(scene.holdings(id), STORIES[story].holdings, what);
  const row = (await scene.world.store.get(KIND.streamingImage, id))!;
  assert.equal(row.attempts, 0, what);
}

for (const story of Object.keys(STORIES) as (keyof typeof STORIES)[]) {
  const { begin } = STORIES[story];

  test(`${story}: it takes these effects, in this order`, async (t) => {
    const scene = await createScene(t);
    const id = await begin(scene);
    const points = await scene.trace();
    assert.deepEqual(
      points.filter((point) => !point.startsWith('store.')),
      EFFECTS[story],
    );
    await assertEnded(scene, id, story, 'undisturbed');
  });

  test(`${story}: a process that dies at any point leaves nothing that the next cannot finish`, async (t) => {
    await atEveryPoint(t, begin, async (scene, id, index, point) => {
      await scene.workIn(processThatDiesAt(index));
      await scene.finish();
      await assertEnded(scene, id, story, `killed at ${point}`);
    });
  });

  test(`${story}: processes that die at one point after another are outlived, as long as there are attempts`, async (t) => {
    const scene = await createScene(t);
    const id = await begin(scene);
    for (let died = 1; died < ATTEMPTS_MAX; died += 1) {
      await scene.workIn(processThatDiesAtWork(died));
      scene.world.clock.advance(LEASE_MS);
    }
    await scene.finish();
    await assertEnded(scene, id, story, 'after many deaths');
  });

  for (const effect of EFFECTS[story]) {
    test(`${story}: a passing failure at ${effect} is tried again and comes to the same end`, async (t) => {
      const scene = await createScene(t);
      const id = await begin(scene);
      let failures = 0;
      await scene.work((point) => {
        if (point !== effect) return;
        failures += 1;
        throw new Error('this passes');
      });
      assert.equal(failures, 1);
      assert.equal((await scene.image(id))!.state, story === 'import' ? 'CREATE_IN_PROGRESS' : 'DELETE_IN_PROGRESS');
      await scene.finish();
      await assertEnded(scene, id, story, effect);
    });

    // What has been made already is not made again: a failure behind it does not come back.
    if (effect === 'keys.generated' || effect === 'images.imported') continue;

    test(`${story}: a failure at ${effect} that never passes is given up, and says nothing of its inside`, async (t) => {
      const scene = await createScene(t);
      const id = await begin(scene);
      let failures = 0;
      for (let round = 0; round < 2 * ATTEMPTS_MAX; round += 1) {
        await scene.work((point) => {
          if (point !== effect) return;
          failures += 1;
          throw new Error('EIO: /var/lib/backlot/secret');
        });
        scene.world.clock.advance(60_000);
      }
      assert.equal(failures, ATTEMPTS_MAX);
      const image = (await scene.image(id))!;
      assert.equal(image.state, story === 'import' ? 'CREATE_FAILED' : 'DELETE_FAILED');
      assert.equal(image.statusCode, 'INTERNAL_ERROR');
      assert.doesNotMatch(image.statusMessage!, /EIO|secret/);
      if (story === 'import') assert.deepEqual(scene.holdings(id), NOTHING);
      // Whatever had failed, a delete now ends it.
      await scene.remove(id);
      await scene.finish();
      await assertEnded(scene, id, 'removal', effect);
    });
  }

  test(`${story}: a process that stands still at any point until another has finished changes nothing by going on`, async (t) => {
    await atEveryPoint(t, begin, async (scene, id, index, point) => {
      const zombie = await standingStill(scene, index);
      await scene.finish();
      await assertEnded(scene, id, story, `before ${point}`);
      const before = await scene.world.store.get(KIND.streamingImage, id);
      await zombie.goOn();
      await assertEnded(scene, id, story, `after ${point}`);
      assert.deepEqual(await scene.world.store.get(KIND.streamingImage, id), before, point);
    });
  });
}

const beginImport = STORIES.import.begin;

test('an import that stood still while its image was deleted leaves no bytes, and no key beyond the tombstone', (t) =>
  atEveryPoint(t, beginImport, async (scene, id, index, point) => {
    const zombie = await standingStill(scene, index);
    await scene.finish();
    await scene.remove(id);
    await scene.finish();
    await zombie.goOn();
    await scene.finish();
    assert.equal((await scene.image(id))!.state, 'DELETED', point);
    await scene.upkeep();
    assert.equal(scene.holdings(id).bytes, false, point);
    scene.world.clock.advance(scene.world.services.settings.tombstoneMs);
    await scene.finish();
    await scene.world.settle();
    assert.equal(await scene.image(id), undefined, point);
    assert.deepEqual(scene.holdings(id), NOTHING, point);
  }));

test('an import that stood still while another gave up leaves no bytes, and does not make the image READY', (t) =>
  atEveryPoint(t, beginImport, async (scene, id, index, point) => {
    const zombie = await standingStill(scene, index);
    await scene.work((at) => {
      if (at === 'keys.unseal') throw new KeyUnavailable('gone');
    });
    const failed = (await scene.image(id))!;
    await zombie.goOn();
    await scene.finish();
    // Where the zombie had already written its end, there was nothing left for the other to give up.
    const expected = failed.state === 'CREATE_FAILED' ? 'CREATE_FAILED' : 'READY';
    assert.equal((await scene.image(id))!.state, expected, point);
    await scene.upkeep();
    assert.equal(scene.holdings(id).bytes, expected === 'READY', point);
    await scene.remove(id);
    await scene.finish();
    assert.deepEqual(scene.holdings(id), NOTHING, point);
  }));

test('a machine image that is not there makes the image CREATE_FAILED with ACCESS_DENIED, and names it', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create({ ec2ImageId: 'ami-missing' });
  await scene.work();
  const image = (await scene.image(id))!;
  assert.deepEqual([image.state, image.statusCode], ['CREATE_FAILED', 'ACCESS_DENIED']);
  assert.match(image.statusMessage!, /ami-missing/);
  assert.deepEqual(scene.holdings(id), NOTHING);
});

test('a machine image whose file is gone is one that is not there', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  scene.world.images.sources.clear();
  await scene.work();
  const image = (await scene.image(id))!;
  assert.deepEqual([image.state, image.statusCode], ['CREATE_FAILED', 'ACCESS_DENIED']);
  assert.match(image.statusMessage!, new RegExp(AMI));
  assert.deepEqual(scene.holdings(id), NOTHING);
});

test('a customer key that is gone makes the image CREATE_FAILED with ACCESS_DENIED, and names the key', async (t) => {
  const scene = await createScene(t);
  const keyArn = 'arn:aws:kms:us-west-2:123456789012:key/gone';
  scene.world.keys.customerKeys.add(keyArn);
  const studioEncryptionConfiguration = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn };
  const studioId = await scene.world.makeStudio({ studioName: 'sealed', studioEncryptionConfiguration });
  const kept = await scene.create({ studioId });
  await scene.finish();
  assert.deepEqual(scene.holdings(kept), READABLE);
  assert.equal(scene.world.keys.dataKeys.get(kept)!.keyArn, keyArn);
  scene.world.keys.customerKeys.clear();
  const id = await scene.create({ studioId });
  await scene.work();
  const image = (await scene.image(id))!;
  assert.deepEqual([image.state, image.statusCode], ['CREATE_FAILED', 'ACCESS_DENIED']);
  assert.match(image.statusMessage!, /key\/gone/);
  assert.deepEqual(scene.holdings(id), NOTHING);
});

for (const code of ['NO_SPACE', 'SOURCE_CORRUPT', 'TOOL_MISSING', 'TOOL_FAILED']) {
  for (const effect of ['images.import', 'images.converted']) {
    test(`${code} at ${effect} makes the image CREATE_FAILED with INTERNAL_ERROR and its message, at once`, async (t) => {
      const scene = await createScene(t);
      const id = await scene.create();
      await scene.work((point) => {
        if (point === effect) throw new ImageFailure(code, 'A sentence for the owner.', { inward: '/var/lib/x' });
      });
      const image = (await scene.image(id))!;
      assert.deepEqual(statusOf(image), {
        state: 'CREATE_FAILED',
        statusCode: 'INTERNAL_ERROR',
        statusMessage: 'A sentence for the owner.',
      });
      assert.deepEqual(scene.holdings(id), NOTHING);
    });
  }
}

test('an image failure that may pass is tried again like any other', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  await scene.work((point) => {
    if (point === 'images.converted') throw new ImageFailure('TOOL_FAILED', 'killed', { retryable: true });
  });
  assert.equal((await scene.image(id))!.state, 'CREATE_IN_PROGRESS');
  await scene.finish();
  await assertEnded(scene, id, 'import', 'after a failure that passed');
});

test('what a failed import has made is removed by upkeep when its process died before it could', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const process: Process = new Process((point) => {
    if (point === 'images.imported') throw new ImageFailure('TOOL_FAILED', 'late');
    if (point === 'keys.destroy') process.kill();
  });
  await scene.workIn(process);
  assert.equal((await scene.image(id))!.state, 'CREATE_FAILED');
  assert.equal(scene.holdings(id).bytes, true);
  await scene.upkeep();
  assert.deepEqual(scene.holdings(id), NOTHING);
});

test('a removal destroys the key before the bytes, so that dying in between leaves noise', async (t) => {
  const scene = await createScene(t);
  const id = await STORIES.removal.begin(scene);
  const seen: Record<string, object> = {};
  await scene.work((point) => {
    if (EFFECTS.removal.includes(point)) seen[point] = scene.holdings(id);
  });
  assert.deepEqual(seen, {
    'keys.destroy': { bytes: true, key: true, opens: true },
    'keys.destroyed': { bytes: true, key: false, opens: false },
    'images.remove': { bytes: true, key: false, opens: false },
    'images.removed': { bytes: false, key: false, opens: true },
  });
});

test('what clears away a failed import destroys the key before the bytes as well', async (t) => {
  const scene = await createScene(t);
  await scene.create();
  const effects: string[] = [];
  await scene.work((point) => {
    effects.push(point);
    if (point === 'images.imported') throw new ImageFailure('TOOL_FAILED', 'late');
  });
  const order = effects.filter((point) => EFFECTS.removal.includes(point));
  assert.deepEqual(order, EFFECTS.removal);
});

test('an image that could not be removed does not claim that its key is destroyed', async (t) => {
  const scene = await createScene(t);
  const id = await STORIES.removal.begin(scene);
  for (let round = 0; round < ATTEMPTS_MAX; round += 1) {
    await scene.work((point) => {
      if (point === 'keys.destroy') throw new Error('EIO');
    });
    scene.world.clock.advance(60_000);
  }
  assert.equal(scene.holdings(id).key, true);
  const { state, statusMessage } = (await scene.image(id))!;
  assert.equal(state, 'DELETE_FAILED');
  assert.doesNotMatch(statusMessage!, /key is destroyed/);
});

test('importing twice, and destroying twice, is as good as once', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const row = (await scene.world.store.get(KIND.streamingImage, id))!;
  const context = { signal: new AbortController().signal, progress: () => undefined };
  const first = await importImage(row, context, scene.world);
  const copy = scene.world.images.copies.get(id);
  assert.deepEqual(await importImage(row, context, scene.world), first);
  assert.equal(scene.world.images.copies.get(id), copy);
  assert.deepEqual(scene.holdings(id), READABLE);
  await destroyBytes(id, scene.world);
  await destroyBytes(id, scene.world);
  assert.deepEqual(scene.holdings(id), NOTHING);
});

test('two imports of one image at the same time make one copy that its key opens', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const row = (await scene.world.store.get(KIND.streamingImage, id))!;
  const context = { signal: new AbortController().signal, progress: () => undefined };
  await Promise.all([importImage(row, context, scene.world), importImage(row, context, scene.world)]);
  assert.deepEqual(scene.holdings(id), READABLE);
});

test('the passphrase is wiped from memory, whether the import succeeds or fails', async (t) => {
  for (const failure of [undefined, new ImageFailure('NO_SPACE', 'full')]) {
    const scene = await createScene(t);
    const given: Buffer[] = [];
    const { images } = scene.world;
    const original = images.import.bind(images);
    images.import = (request) => {
      given.push(request.passphrase);
      assert.ok(request.passphrase.some((byte) => byte !== 0));
      return failure ? Promise.reject(failure) : original(request);
    };
    await scene.create();
    await scene.work();
    assert.equal(given.length, 1);
    assert.ok(given[0]!.every((byte) => byte === 0));
    t.mock.timers.reset();
  }
});

test('how far an import is stands in the message while it runs', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const released = Promise.withResolvers<void>();
  let converting = false;
  const ended = scene.work((point) => {
    if (point !== 'images.converted') return;
    converting = true;
    return released.promise;
  });
  await until('the import converts', () => converting);
  t.mock.timers.tick(2_000);
  await until('the message says how far', async () => {
    const { state, statusCode, statusMessage } = (await scene.image(id))!;
    return (
      state === 'CREATE_IN_PROGRESS' &&
      statusCode === 'STREAMING_IMAGE_CREATE_IN_PROGRESS' &&
      statusMessage === 'Streaming Image creation is in progress: 50 %'
    );
  });
  released.resolve();
  await ended;
  await assertEnded(scene, id, 'import', 'with progress');
});

/** An import that stands still in the middle, and whether it has been told to stop. */
function heldImport({ world }: Scene) {
  const { images } = world;
  const original = images.import.bind(images);
  const reached = Promise.withResolvers<void>();
  const released = Promise.withResolvers<void>();
  let signal: AbortSignal | undefined;
  images.import = (request) => {
    signal ??= request.signal;
    return original(request);
  };
  const process = new Process((point) => {
    if (point !== 'images.converted') return;
    reached.resolve();
    return released.promise;
  });
  return {
    process,
    reached: reached.promise,
    release: () => released.resolve(),
    told: () => until('the import is told to stop', () => signal?.aborted),
  };
}

test('an import whose lease is lost is told to stop, and leaves nothing behind', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const held = heldImport(scene);
  const ended = scene.workIn(held.process);
  await held.reached;
  scene.world.clock.advance(LEASE_MS);
  const now = scene.world.clock.now();
  const rival = await scene.world.store.lease({
    kind: KIND.streamingImage,
    state: 'CREATE_IN_PROGRESS',
    now,
    until: now + LEASE_MS,
    limit: 1,
  });
  const leased = { ...rival[0]! };
  t.mock.timers.tick(5_000);
  await held.told();
  held.release();
  await ended;
  assert.equal(scene.holdings(id).bytes, false);
  assert.deepEqual({ ...(await scene.world.store.get(KIND.streamingImage, id)) }, leased);
  await scene.finish();
  await assertEnded(scene, id, 'import', 'by the other');
});

test('a worker that is stopped gives the import back at once, and nothing is left of it', async (t) => {
  const scene = await createScene(t);
  const id = await scene.create();
  const held = heldImport(scene);
  const worker = scene.world.worker();
  const ended = held.process.run(() => worker.runOnce());
  await held.reached;
  const stopping = held.process.run(() => worker.stop());
  await held.told();
  held.release();
  await Promise.all([ended, stopping]);
  const { state, attempts, dueAt } = (await scene.world.store.get(KIND.streamingImage, id))!;
  assert.deepEqual([state, attempts, dueAt], ['CREATE_IN_PROGRESS', 0, scene.world.clock.now()]);
  assert.equal(scene.holdings(id).bytes, false);
  await scene.work();
  await assertEnded(scene, id, 'import', 'by the next');
});

test('no more images are imported at once than the setting allows, and all of them in the end', async (t) => {
  const scene = await createScene(t);
  const ids: string[] = [];
  for (let index = 0; index < 7; index += 1) ids.push(await scene.create());
  let [importing, most] = [0, 0];
  const process = new Process(async (point) => {
    if (point === 'images.import') most = Math.max(most, ++importing);
    if (point === 'images.converted') await new Promise((resolve) => setImmediate(resolve));
    if (point === 'images.imported') importing -= 1;
  });
  const worker = scene.world.worker();
  while ((await process.run(() => worker.runOnce())) > 0);
  assert.equal(most, 2);
  for (const id of ids) await assertEnded(scene, id, 'import', id);
});

test('a tombstone is purged when it expires, and takes along what may have come to be meanwhile', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 60_000 });
  const id = await STORIES.removal.begin(scene);
  await scene.work();
  await scene.world.keys.generate(id, undefined);
  scene.world.clock.advance(59_999);
  await scene.work();
  assert.equal((await scene.image(id))!.state, 'DELETED');
  scene.world.clock.advance(1);
  await scene.work();
  assert.equal(await scene.image(id), undefined);
  assert.deepEqual(scene.holdings(id), NOTHING);
});

test('a purge that fails is tried again until it succeeds', async (t) => {
  const scene = await createScene(t, { tombstoneMs: 60_000 });
  const id = await STORIES.removal.begin(scene);
  await scene.work();
  for (let round = 0; round < 2 * ATTEMPTS_MAX; round += 1) {
    scene.world.clock.advance(60_000);
    await scene.work((point) => {
      if (point === 'keys.destroy') throw new Error('EIO');
    });
    assert.equal((await scene.image(id))!.state, 'DELETED');
  }
  scene.world.clock.advance(60_000);
  await scene.work();
  assert.equal(await scene.image(id), undefined);
});

test('a failure at a given point is only that: the process goes on with its other rows', async (t) => {
  const scene = await createScene(t);
  const [one, other] = [await scene.create(), await scene.create()];
  const failed: string[] = [];
  await scene.workIn(
    new Process((point, id) => {
      if (point !== 'images.import' || failed.length > 0) return;
      failed.push(id);
      throw new Error('this passes');
    }),
  );
  const [unlucky] = failed;
  const lucky = unlucky === one ? other : one;
  await assertEnded(scene, lucky, 'import', 'the other');
  assert.equal((await scene.image(unlucky!))!.state, 'CREATE_IN_PROGRESS');
});

test('no point is passed after the process died', async (t) => {
  const scene = await createScene(t);
  await scene.create();
  const points: string[] = [];
  const process: Process = new Process((point) => {
    points.push(point);
    return atIndex(0, () => undefined)(point, '');
  });
  const ended = scene.workIn(process);
  process.kill();
  await ended;
  const passed = points.length;
  await scene.world.settle();
  assert.equal(points.length, passed);
});
