/** A studio accepts a EULA once, for everyone in it; the acceptance says who, what and when, and ends with the studio. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EulaAcceptance } from '../../src/contract/eula-acceptance.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { assertConforms } from '../support/conforms.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { putAcceptance, putEula, putState } from '../support/rows.ts';

interface Many {
  eulaAcceptances: EulaAcceptance[];
  nextToken?: string;
}

async function accept(world: World, studioId: string, eulaIds: string[], more: object = {}): Promise<EulaAcceptance[]> {
  const answer = await world.call<Many>('AcceptEulas', { studioId, eulaIds, ...more });
  assertConforms('AcceptEulas', answer);
  return answer.eulaAcceptances;
}

async function list(world: World, studioId: string, input: object = {}): Promise<EulaAcceptance[]> {
  const answer = await world.call<Many>('ListEulaAcceptances', { studioId, ...input });
  assertConforms('ListEulaAcceptances', answer);
  return answer.eulaAcceptances;
}

test('an acceptance holds the studio as its acceptee, the caller, the EULA and the time', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [one, other] = [await putEula(world), await putEula(world)];
  world.clock.advance(3_000);
  const accepted = await accept(world, studioId, [other, one]);
  assert.deepEqual(
    accepted.map(({ eulaAcceptanceId: _, ...rest }) => rest),
    [other, one].map((eulaId) => ({
      acceptedAt: '2026-01-01T00:00:03Z',
      acceptedBy: ADMINISTRATOR.principalId,
      accepteeId: studioId,
      eulaId,
    })),
  );
  for (const { eulaAcceptanceId } of accepted) assert.match(eulaAcceptanceId!, /^[\w-]{22}$/);
});

test('accepting again answers with the acceptance that is there', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [one, other] = [await putEula(world), await putEula(world)];
  const [first] = await accept(world, studioId, [one]);
  world.clock.advance(60_000);
  assert.deepEqual(await accept(world, studioId, [one]), [first]);
  const both = await accept(world, studioId, [other, one]);
  assert.deepEqual(both[1], first);
  assert.equal((await list(world, studioId)).length, 2);
});

test('a EULA that is named twice in one call is accepted once', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const eulaId = await putEula(world);
  assert.equal((await accept(world, studioId, [eulaId, eulaId])).length, 1);
});

test('two that accept the same EULA at once get the same acceptance', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const [one, other] = [await putEula(world), await putEula(world)];
  const answers = await Promise.all([
    accept(world, studioId, [one]),
    accept(world, studioId, [other, one]),
    accept(world, studioId, [one, other]),
  ]);
  const ids = new Set(answers.flat().map(({ eulaAcceptanceId }) => eulaAcceptanceId));
  assert.equal(ids.size, 2);
  assert.equal((await list(world, studioId)).length, 2);
});

test('acceptances are per studio', async () => {
  const world = createWorld();
  const [here, there] = [await world.makeStudio(), await world.makeStudio()];
  const eulaId = await putEula(world);
  const [one] = await accept(world, here, [eulaId]);
  assert.deepEqual(await list(world, there), []);
  const [other] = await accept(world, there, [eulaId]);
  assert.notEqual(one!.eulaAcceptanceId, other!.eulaAcceptanceId);
  assert.deepEqual(await list(world, here), [one]);
});

test('a call that names no EULA is refused', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const input of [{}, { eulaIds: [] }]) {
    await refused(world.call('AcceptEulas', { studioId, ...input }), 'ValidationException', 'NO_EULA_IDS');
  }
});

test('a EULA that is not there is 404 with its id, and none of the call is accepted', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const eulaId = await putEula(world);
  await refused(accept(world, studioId, [eulaId, 'nothere']), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', {
    resourceId: 'nothere',
  });
  assert.deepEqual(await list(world, studioId), []);
});

test('the studio is looked for before the EULAs', async () => {
  const world = createWorld();
  for (const name of ['AcceptEulas', 'ListEulaAcceptances'] as const) {
    const call = world.call(name, { studioId: 'us-west-2:stid-nothere', eulaIds: ['nothere'] });
    await refused(call, 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: 'us-west-2:stid-nothere' });
  }
});

const STUDIOS: Record<string, [accept: number, list: number]> = {
  CREATE_IN_PROGRESS: [409, 200],
  READY: [200, 200],
  UPDATE_IN_PROGRESS: [409, 200],
  UPDATE_FAILED: [200, 200],
  CREATE_FAILED: [409, 200],
  DELETE_IN_PROGRESS: [409, 200],
  DELETE_FAILED: [200, 200],
  DELETED: [404, 404],
};

for (const [state, [accepting, listing]] of Object.entries(STUDIOS)) {
  test(`in a studio that is ${state}, accepting is ${accepting} and listing ${listing}`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const eulaId = await putEula(world);
    await putState(world, KIND.studio, studioId, state);
    assert.equal(await statusOf(accept(world, studioId, [eulaId])), accepting);
    assert.equal(await statusOf(list(world, studioId)), listing);
    assert.equal(await statusOf(list(world, studioId, { eulaIds: [eulaId] })), listing);
  });
}

test('a filter gives the acceptances of the EULAs it names, each once, in the order of acceptance', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const acceptances: EulaAcceptance[] = [];
  for (let index = 0; index < 3; index += 1) {
    world.clock.advance(1_000);
    acceptances.push(...(await accept(world, studioId, [await putEula(world)])));
  }
  const [first, second, third] = acceptances;
  const eulaIds = [third!.eulaId, first!.eulaId, third!.eulaId, 'nothere'];
  assert.deepEqual(await list(world, studioId, { eulaIds }), [first, third]);
  assert.deepEqual(await list(world, studioId, { eulaIds: [] }), [first, second, third]);
  assert.deepEqual(await list(world, studioId, { eulaIds: ['nothere'] }), []);
});

test('a call names at most 100 EULAs, in a filter and in an acceptance', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const eulaIds = Array.from({ length: 101 }, (_, index) => `eula${index}`);
  for (const name of ['AcceptEulas', 'ListEulaAcceptances'] as const) {
    await refused(world.call(name, { studioId, eulaIds }), 'ValidationException', 'TOO_MANY_IDS');
  }
});

test('a page token goes with no filter', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (let index = 0; index < 101; index += 1) await putAcceptance(world, studioId, `eula${index}`);
  const { nextToken } = await world.call<Many>('ListEulaAcceptances', { studioId });
  assert.equal((await list(world, studioId, { nextToken })).length, 1);
  await refused(
    world.call('ListEulaAcceptances', { studioId, eulaIds: ['eula1'], nextToken }),
    'ValidationException',
    'INVALID_NEXT_TOKEN',
  );
});

test('acceptances are gone when the tombstone of their studio is, and another studio keeps its own', async () => {
  const world = createWorld({ settings: { tombstoneMs: 60_000 } });
  const [studioId, other] = [await world.makeStudio(), await world.makeStudio()];
  const eulaId = await putEula(world);
  await accept(world, studioId, [eulaId]);
  await accept(world, other, [eulaId]);
  const count = (id: string) => world.store.count({ kind: KIND.eulaAcceptance, studioIds: [id], limit: 10 });
  await world.call('DeleteStudio', { studioId });
  await world.settle();
  assert.equal(await count(studioId), 1);
  world.clock.advance(60_000);
  await world.settle();
  assert.equal(await count(studioId), 0);
  assert.equal(await count(other), 1);
});
