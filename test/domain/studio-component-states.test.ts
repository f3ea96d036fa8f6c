/**
 * What each state of a component, and of the studio around it, lets a caller do. The table is typed out here a second
 * time, so that a slip in the product's own table does not pass for a rule.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createWorld } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { arnOfComponent, putComponent, putState } from '../support/rows.ts';

type State = NonNullable<StudioComponent['state']>;

const REQUESTS = [
  'GetStudioComponent',
  'UpdateStudioComponent',
  'DeleteStudioComponent',
  'TagResource',
  'UntagResource',
] as const;

/** Status of get, update, delete, tag and untag. */
const TABLE: Record<State, [number, number, number, number, number]> = {
  CREATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  READY: [200, 200, 200, 200, 200],
  UPDATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  UPDATE_FAILED: [200, 200, 200, 200, 200],
  CREATE_FAILED: [200, 409, 200, 200, 200],
  DELETE_IN_PROGRESS: [200, 409, 409, 409, 409],
  DELETE_FAILED: [200, 200, 200, 200, 200],
  DELETED: [200, 404, 404, 404, 404],
};

for (const [state, expected] of Object.entries(TABLE)) {
  for (const [index, request] of REQUESTS.entries()) {
    test(`${request} of a component in ${state} is ${expected[index]}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const studioComponentId = await putComponent(world, studioId, { state: state as State, tags: { old: '1' } });
      const before = await world.store.get(KIND.studioComponent, studioComponentId);
      const resourceArn = arnOfComponent(studioComponentId);
      const input = { studioId, studioComponentId, name: 'new', resourceArn, tags: { a: '1' }, tagKeys: ['old'] };
      assert.equal(await statusOf(world.call(request, input)), expected[index]);
      const after = await world.store.get(KIND.studioComponent, studioComponentId);
      if (request === 'GetStudioComponent' || expected[index] !== 200) assert.deepEqual(after, before);
      else if (request === 'DeleteStudioComponent') assert.equal(after!.state, 'DELETE_IN_PROGRESS');
      else if (request === 'UpdateStudioComponent') assert.equal(after!.state, 'UPDATE_IN_PROGRESS');
      else assert.equal(after!.state, state);
    });
  }
}

test('a refusal for the state says so, and names component and state', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const [state, code] of [
    ['CREATE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['UPDATE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['DELETE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['CREATE_FAILED', 'STATE_DOES_NOT_ALLOW'],
  ] as const) {
    const studioComponentId = await putComponent(world, studioId, { state });
    const call = world.call('UpdateStudioComponent', { studioId, studioComponentId });
    await refused(call, 'ConflictException', code, { resourceId: studioComponentId, state });
  }
});

test('what failed can be deleted', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const state of ['CREATE_FAILED', 'UPDATE_FAILED', 'DELETE_FAILED'] as const) {
    const studioComponentId = await putComponent(world, studioId, { state });
    await world.call('DeleteStudioComponent', { studioId, studioComponentId });
    await world.settle();
    assert.equal((await world.store.get(KIND.studioComponent, studioComponentId))!.state, 'DELETED');
  }
});

/** Status of what changes components, and of what reads them, by the state of the studio. */
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
  test(`in a studio that is ${state}, components are changed with ${expected.change} and listed with ${expected.list}`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const ids = [await putComponent(world, studioId), await putComponent(world, studioId)] as const;
    await putState(world, KIND.studio, studioId, state);
    const resourceArn = arnOfComponent(ids[0]);
    const call = (name: Parameters<typeof world.call>[0], studioComponentId: string) =>
      statusOf(world.call(name, { studioId, studioComponentId, name: 'new', type: 'CUSTOM' }));
    assert.equal(await call('GetStudioComponent', ids[0]), expected.get);
    assert.equal(await statusOf(world.call('ListStudioComponents', { studioId })), expected.list);
    assert.equal(await statusOf(world.call('TagResource', { resourceArn, tags: { a: '1' } })), expected.change);
    assert.equal(await statusOf(world.call('UntagResource', { resourceArn, tagKeys: ['a'] })), expected.change);
    assert.equal(await call('CreateStudioComponent', ''), expected.change);
    assert.equal(await call('UpdateStudioComponent', ids[0]), expected.change);
    assert.equal(await call('DeleteStudioComponent', ids[1]), expected.change);
  });
}
