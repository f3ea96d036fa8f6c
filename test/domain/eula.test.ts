/** EULAs are read: one by its id, all in the order of their creation, or those that a filter names. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Eula } from '../../src/contract/eula.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { putEula } from '../support/rows.ts';

async function list(world: World, input: object = {}): Promise<(string | undefined)[]> {
  const answer = await world.call<{ eulas: Eula[] }>('ListEulas', input);
  assertConforms('ListEulas', answer);
  return answer.eulas.map(({ eulaId }) => eulaId);
}

async function putSome(world: World, count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let index = 0; index < count; index += 1) {
    world.clock.advance(1_000);
    ids.push(await putEula(world, `licence ${index}`));
  }
  return ids;
}

test('a EULA holds its name, the address of its text and its times', async () => {
  const world = createWorld();
  const eulaId = await putEula(world, 'BlenderFoundation-Blender');
  const answer = await world.call('GetEula', { eulaId });
  assertConforms('GetEula', answer);
  assert.deepEqual(answer, {
    eula: {
      content: 'https://example.org/licence',
      createdAt: '2026-01-01T00:00:00Z',
      eulaId,
      name: 'BlenderFoundation-Blender',
      updatedAt: '2026-01-01T00:00:00Z',
    },
  });
});

test('a EULA that is not there is 404 with its id', async () => {
  const world = createWorld();
  for (const eulaId of ['nothere', '', '__proto__', '🎬']) {
    await refused(world.call('GetEula', { eulaId }), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', {
      resourceId: eulaId,
    });
  }
});

test('all EULAs are listed in the order of their creation; without any, the list is empty', async () => {
  const world = createWorld();
  assert.deepEqual(await list(world), []);
  const ids = await putSome(world, 5);
  assert.deepEqual(await list(world), ids);
  assert.deepEqual(await list(world, { eulaIds: [] }), ids);
});

test('a filter gives each EULA it names once, in the order of their creation, and leaves out what is not there', async () => {
  const world = createWorld();
  const [first, second, third] = await putSome(world, 3);
  assert.deepEqual(await list(world, { eulaIds: [third, 'nothere', first, third, first] }), [first, third]);
  assert.deepEqual(await list(world, { eulaIds: ['nothere'] }), []);
  assert.deepEqual(await list(world, { eulaIds: [second] }), [second]);
});

test('a filter names at most 100 EULAs, repeats not counted', async () => {
  const world = createWorld();
  const eulaId = await putEula(world);
  const others = Array.from({ length: 99 }, (_, index) => `other${index}`);
  assert.deepEqual(await list(world, { eulaIds: [...others, eulaId, eulaId] }), [eulaId]);
  await refused(
    world.call('ListEulas', { eulaIds: [...others, eulaId, 'one too many'] }),
    'ValidationException',
    'TOO_MANY_IDS',
  );
});

test('a page token goes with no filter, because no filtered list ever returned one', async () => {
  const world = createWorld();
  const ids = await putSome(world, 101);
  const { nextToken } = await world.call<{ nextToken: string }>('ListEulas', {});
  assert.deepEqual(await list(world, { nextToken }), ids.slice(100));
  for (const token of [nextToken, 'garbage']) {
    await refused(
      world.call('ListEulas', { eulaIds: [ids[0]!], nextToken: token }),
      'ValidationException',
      'INVALID_NEXT_TOKEN',
    );
  }
});
