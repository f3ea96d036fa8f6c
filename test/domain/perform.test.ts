/** What every operation has in common: who may call it, that its worker is woken, and that all of them are there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type OperationName, operations } from '../../src/contract/index.ts';
import { authorize } from '../../src/domain/access.ts';
import type { Services } from '../../src/domain/context.ts';
import { handlers } from '../../src/domain/index.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { perform } from '../../src/domain/perform.ts';
import { ServiceError } from '../../src/errors.ts';
import type { Store, Write } from '../../src/store/store.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { refused } from '../support/refused.ts';
import { arnOfImage, putEula, putImage, putState } from '../support/rows.ts';

test('every operation of the contract has a handler, and every handler an operation', () => {
  assert.deepEqual(Object.keys(handlers).sort(), operations.map(({ name }) => name).sort());
});

for (const operation of operations) {
  test(`${operation.name} may be called by the administrator and by nobody without policies`, async () => {
    const { services } = createWorld();
    const input = { studioId: 'us-west-2:s', streamingImageId: 'i', eulaId: 'e', resourceArn: arnOfImage('i') };
    const asked = { operation, input, origin: {} };
    assert.equal(authorize({ ...asked, principal: ADMINISTRATOR }, services), undefined);
    for (const role of ['user', 'Administrator', 'administrator ', '', '__proto__', 'policies']) {
      const principal = { ...ADMINISTRATOR, role };
      await refused(authorize({ ...asked, principal }, services)!, 'AccessDeniedException', 'NOT_AUTHORIZED');
    }
  });
}

/** How often a call wakes the worker. */
async function wakings(world: World, name: OperationName, input: object): Promise<number> {
  let count = 0;
  const services: Services = { ...world.services, wake: () => (count += 1) };
  const operation = operations.find((candidate) => candidate.name === name)!;
  await perform(operation, handlers[name] as never, input as never, ADMINISTRATOR, services).catch(() => undefined);
  return count;
}

test('the worker is woken for a row that has become due, and for nothing else', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  const image = { studioId, streamingImageId };
  const eulaIds = [await putEula(world)];
  const create = { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'token' };
  const studio = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd', studioName: 'woken' };
  const calls: [OperationName, object, number][] = [
    ['GetStreamingImage', image, 0],
    ['ListStreamingImages', { studioId }, 0],
    ['UpdateStreamingImage', { ...image, name: 'new' }, 0],
    ['UpdateStreamingImage', image, 0],
    ['TagResource', { resourceArn: arnOfImage(streamingImageId), tags: { a: '1' } }, 0],
    ['AcceptEulas', { studioId, eulaIds }, 0],
    ['CreateStreamingImage', create, 1],
    // A replay: whatever there was to do was due the first time.
    ['CreateStreamingImage', create, 0],
    ['DeleteStreamingImage', image, 1],
    // Refused.
    ['DeleteStreamingImage', image, 0],
    ['CreateStudio', studio, 1],
    ['CreateStudio', studio, 0],
    ['UpdateStudio', { studioId, displayName: 'new' }, 1],
  ];
  for (const [name, input, expected] of calls) assert.equal(await wakings(world, name, input), expected, name);
  await putState(world, KIND.studio, studioId, 'READY');
  assert.equal(await wakings(world, 'DeleteStudio', { studioId }), 1);
});

test('the worker is woken after the row is there to be found, not before', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const found: Promise<number>[] = [];
  const services: Services = {
    ...world.services,
    wake: () => found.push(world.store.count({ kind: KIND.streamingImage, limit: 10 })),
  };
  const operation = operations.find(({ name }) => name === 'CreateStreamingImage')!;
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1' };
  await perform(operation, handlers.CreateStreamingImage as never, input, ADMINISTRATOR, services);
  assert.deepEqual(await Promise.all(found), [1]);
});

test('an error of the store is told as it is, also where the store cannot say either what became of the token', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const failing = (code: string) => async () => {
    throw new ServiceError('InternalServerErrorException', 'the store is away', { code });
  };
  const away = { write: failing('STORE_OUTCOME_UNKNOWN'), token: failing('STORE_UNAVAILABLE') };
  const store: Store = { ...intercepted(world.store, async () => undefined), ...away };
  const operation = operations.find(({ name }) => name === 'CreateStreamingImage')!;
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'token' };
  const services = { ...world.services, store };
  const called = perform(operation, handlers.CreateStreamingImage as never, input, ADMINISTRATOR, services);
  await refused(called, 'InternalServerErrorException', 'STORE_OUTCOME_UNKNOWN');
});

test('a refusal is not told where the store cannot say whether it is that of a call that was done before', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  const operation = operations.find(({ name }) => name === 'DeleteStreamingImage')!;
  const input = { studioId, streamingImageId, clientToken: 'token' };
  const remove = (services: Services) =>
    perform(operation, handlers.DeleteStreamingImage as never, input, ADMINISTRATOR, services);
  await remove(world.services);
  const token = async () => {
    throw new ServiceError('InternalServerErrorException', 'the store is away', { code: 'STORE_UNAVAILABLE' });
  };
  const store: Store = { ...intercepted(world.store, async () => undefined), token };
  await refused(remove({ ...world.services, store }), 'InternalServerErrorException', 'STORE_UNAVAILABLE');
  assert.equal(JSON.parse(String(await remove(world.services))).streamingImage.streamingImageId, streamingImageId);
});

test('where the store lost only its answer, the token tells that the call was done', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const store: Store = {
    ...intercepted(world.store, async () => undefined),
    write: async (batch: readonly Write[]) => {
      await world.store.write(batch);
      throw new ServiceError('InternalServerErrorException', 'the store is away', { code: 'STORE_OUTCOME_UNKNOWN' });
    },
  };
  const operation = operations.find(({ name }) => name === 'CreateStreamingImage')!;
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'token' };
  const services = { ...world.services, store };
  const answer = await perform(operation, handlers.CreateStreamingImage as never, input, ADMINISTRATOR, services);
  assert.equal(JSON.parse(String(answer)).streamingImage.name, 'n');
  assert.equal(await world.store.count({ kind: KIND.streamingImage, limit: 10 }), 1);
});
