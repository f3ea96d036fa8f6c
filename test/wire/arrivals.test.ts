/** One turn of the event loop has one name, turns never share one, and outside of them there is none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Arrivals } from '../../src/wire/arrivals.ts';

test('requests that arrive in one turn share its name, also after a wait for what needs no other turn', async () => {
  const { arrived, turn } = new Arrivals();
  arrived();
  const first = turn();
  assert.notEqual(first, undefined);
  await Promise.resolve();
  arrived();
  assert.equal(turn(), first);
});

test('outside of a turn in which a request arrived there is no name', async () => {
  const { arrived, turn } = new Arrivals();
  assert.equal(turn(), undefined);
  arrived();
  await nextTurn();
  assert.equal(turn(), undefined);
});

test('a later turn has another name', async () => {
  const { arrived, turn } = new Arrivals();
  const names = new Set<number | undefined>();
  for (let count = 0; count < 5; count += 1) {
    arrived();
    names.add(turn());
    await nextTurn();
  }
  assert.equal(names.size, 5);
});

test('more requests than Node reads at once are more than one turn', () => {
  const { arrived, turn } = new Arrivals();
  arrived();
  const first = turn();
  for (let count = 0; count < 1_024; count += 1) arrived();
  assert.notEqual(turn(), undefined);
  assert.notEqual(turn(), first);
});
