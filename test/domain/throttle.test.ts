/** Who calls too fast is told to wait, and how long; nobody else is, and what is remembered of callers is bounded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AccessLevel } from '../../src/contract/operation.ts';
import { Buckets } from '../../src/domain/buckets.ts';
import { createThrottle } from '../../src/domain/throttle.ts';
import { ServiceError } from '../../src/errors.ts';

/** A throttle, and a clock that stands until it is moved. */
function throttled(readsPerSecond: number, writesPerSecond: number) {
  const clock = { now: 1_000_000 };
  const admit = createThrottle({ readsPerSecond, writesPerSecond }, () => clock.now);
  /** The refusal, or undefined. */
  const ask = (principalId: string, access: AccessLevel): ServiceError | undefined => {
    try {
      admit(principalId, access);
      return undefined;
    } catch (error) {
      if (error instanceof ServiceError) return error;
      throw error;
    }
  };
  /** How many calls are admitted before one is refused. */
  const admitted = (principalId: string, access: AccessLevel): number => {
    let count = 0;
    while (!ask(principalId, access)) count += 1;
    return count;
  };
  return { clock, ask, admitted };
}

test('five seconds of calls may come at once, and then as many in a second as the limit says', () => {
  for (const perSecond of [1, 3, 7, 200, 1_000]) {
    const { clock, admitted } = throttled(perSecond, 1);
    assert.equal(admitted('ada', 'Read'), 5 * perSecond);
    for (let second = 1; second <= 4; second += 1) {
      clock.now += 1_000;
      assert.equal(admitted('ada', 'Read'), perSecond);
    }
    // However long the pause, there is no more than one burst.
    clock.now += 3_600_000;
    assert.equal(admitted('ada', 'Read'), 5 * perSecond);
  }
});

test('a steady caller at the limit is never refused', () => {
  const { clock, ask } = throttled(300, 1);
  for (let call = 0; call < 10_000; call += 1) {
    clock.now += 1_000 / 300;
    assert.equal(ask('ada', 'Read'), undefined);
  }
});

test('a refusal is a 429 with the whole seconds after which there is room, and not before', () => {
  const { clock, ask, admitted } = throttled(1_000, 0.2);
  admitted('ada', 'Write');
  const refusal = ask('ada', 'Write')!;
  assert.deepEqual([refusal.name, refusal.status, refusal.code], ['ThrottlingException', 429, 'TOO_MANY_WRITES']);
  assert.equal(refusal.retryAfterSeconds, 5);
  clock.now += 4_999;
  assert.equal(ask('ada', 'Write')!.retryAfterSeconds, 1);
  clock.now += 1;
  assert.equal(ask('ada', 'Write'), undefined);
});

test('reads and changes are counted apart, tagging as a change, and each principal for itself', () => {
  const { ask, admitted } = throttled(2, 1);
  assert.equal(admitted('ada', 'Read'), 10);
  assert.equal(ask('ada', 'Write'), undefined);
  assert.equal(admitted('ada', 'Tagging'), 4);
  assert.equal(ask('ada', 'Write')!.code, 'TOO_MANY_WRITES');
  assert.equal(ask('ada', 'Read')!.code, 'TOO_MANY_READS');
  assert.equal(admitted('grace', 'Read'), 10);
  assert.equal(admitted('__proto__', 'Write'), 5);
});

test('what was refused takes nothing: asking on and on does not make the wait longer', () => {
  const { clock, ask, admitted } = throttled(1, 1);
  admitted('ada', 'Read');
  for (let call = 0; call < 1_000; call += 1) assert.equal(ask('ada', 'Read')!.retryAfterSeconds, 1);
  clock.now += 1_000;
  assert.equal(ask('ada', 'Read'), undefined);
});

test('there are never more buckets than the bound: the oldest makes room and begins anew', () => {
  const buckets = new Buckets({ perSecond: 1, burst: 1, bucketsMax: 3 });
  for (const key of ['a', 'b', 'c']) assert.equal(buckets.take(key, 0), 0);
  for (const key of ['a', 'b', 'c']) assert.equal(buckets.take(key, 0), 1_000);
  assert.equal(buckets.take('d', 0), 0);
  assert.equal(buckets.take('b', 0), 1_000);
  assert.equal(buckets.take('a', 0), 0);
});

test('a clock that is set back keeps nobody waiting for longer than a burst takes', () => {
  const buckets = new Buckets({ perSecond: 1, burst: 5 });
  for (let call = 0; call < 5; call += 1) assert.equal(buckets.take('a', 1_000_000), 0);
  assert.equal(buckets.take('a', 0), 1_000);
  assert.equal(buckets.take('a', 1_000), 0);
  assert.equal(buckets.take('a', 1_000), 1_000);
  assert.equal(buckets.take('a', 1_000_000), 0);
});
