/**
 * What each state of a resource, and of the studio around it, lets a caller do, as tests made from a table. The table is
 * typed out by each resource's test, so that a slip in the product's own does not pass for a rule.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createWorld, type World } from './domain.ts';
import { refused, statusOf } from './refused.ts';
import { putState } from './rows.ts';

export interface Subject<State extends string = string> {
  readonly kind: string;
  /** For names of tests: one of them, and many. */
  readonly one: string;
  readonly many: string;
  /** As the names of its operations have it, for example `StreamingImage`. */
  readonly name: string;
  /** Label that holds its id. */
  readonly id: string;
  readonly arnOf: (id: string) => string;
  readonly put: (world: World, studioId: string, members: { state: State; tags: object }) => Promise<string>;
  /** What a create needs besides the studio, in a studio that is READY. */
  readonly newOne: (world: World, studioId: string) => Promise<object>;
  /** Status of get, update, delete, tag and untag. */
  readonly table: Readonly<Record<State, readonly [number, number, number, number, number]>>;
  /** The state that an update leads to, from those that allow one. */
  readonly afterUpdate: (state: State) => string;
}

/** Status of what changes a studio's resources, and of what reads them, by the state of the studio. */
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

export function testStates<State extends string>(subject: Subject<State>): void {
  const { kind, one, many, name, id, arnOf, table } = subject;
  const [get, update, remove] = [`Get${name}`, `Update${name}`, `Delete${name}`];
  const call = (world: World, operation: string, input: object) =>
    statusOf(world.call(operation as OperationName, input));

  for (const [state, expected] of Object.entries(table) as [State, readonly number[]][]) {
    for (const [index, request] of [get, update, remove, 'TagResource', 'UntagResource'].entries()) {
      test(`${request} of ${one} in ${state} is ${expected[index]}`, async () => {
        const world = createWorld();
        const studioId = await world.makeStudio();
        const resourceId = await subject.put(world, studioId, { state, tags: { old: '1' } });
        const before = await world.store.get(kind, resourceId);
        const tagged = { resourceArn: arnOf(resourceId), tags: { a: '1' }, tagKeys: ['old'] };
        assert.equal(
          await call(world, request, { studioId, [id]: resourceId, name: 'new', ...tagged }),
          expected[index],
        );
        const after = await world.store.get(kind, resourceId);
        if (request === get || expected[index] !== 200) assert.deepEqual(after, before);
        else if (request === remove) assert.equal(after!.state, 'DELETE_IN_PROGRESS');
        else if (request === update) assert.equal(after!.state, subject.afterUpdate(state));
        else assert.equal(after!.state, state);
      });
    }
  }

  test(`a refusal for the state says so, and names ${one} and its state`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    for (const [state, [, ofUpdate]] of Object.entries(table) as [State, readonly number[]][]) {
      if (ofUpdate !== 409) continue;
      const resourceId = await subject.put(world, studioId, { state, tags: {} });
      const refusal = world.call(update as OperationName, { studioId, [id]: resourceId });
      const code = state.endsWith('_IN_PROGRESS') ? 'OPERATION_IN_PROGRESS' : 'STATE_DOES_NOT_ALLOW';
      await refused(refusal, 'ConflictException', code, { resourceId, state });
    }
  });

  test(`${one} that failed can be deleted`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    for (const state of Object.keys(table).filter((each) => each.endsWith('_FAILED')) as State[]) {
      const resourceId = await subject.put(world, studioId, { state, tags: {} });
      assert.equal(await call(world, remove, { studioId, [id]: resourceId }), 200);
      await world.settle();
      assert.equal((await world.store.get(kind, resourceId))!.state, 'DELETED');
    }
  });

  for (const [state, expected] of Object.entries(STUDIOS)) {
    test(`in a studio that is ${state}, ${many} are changed with ${expected.change} and listed with ${expected.list}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const ready = { state: 'READY' as State, tags: {} };
      const [first, second] = [await subject.put(world, studioId, ready), await subject.put(world, studioId, ready)];
      const newOne = await subject.newOne(world, studioId);
      await putState(world, KIND.studio, studioId, state);
      const resourceArn = arnOf(first);
      assert.equal(await call(world, get, { studioId, [id]: first }), expected.get);
      assert.equal(await call(world, `List${name}s`, { studioId }), expected.list);
      assert.equal(await call(world, 'TagResource', { resourceArn, tags: { a: '1' } }), expected.change);
      assert.equal(await call(world, 'UntagResource', { resourceArn, tagKeys: ['a'] }), expected.change);
      assert.equal(await call(world, `Create${name}`, { studioId, ...newOne }), expected.change);
      assert.equal(await call(world, update, { studioId, [id]: first, name: 'new' }), expected.change);
      assert.equal(await call(world, remove, { studioId, [id]: second }), expected.change);
    });
  }
}
