/** How often log-in may be tried: for a name from wherever, from an address for whatever name, and how tries come back. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LoginLimits } from '../../src/domain/login-limits.ts';
import { ServiceError } from '../../src/errors.ts';

const TRIES_OF_USER = 20;
const TRIES_OF_ADDRESS = 60;

/** Tries until one is refused. */
function triesUntilRefused(take: (index: number) => unknown): number {
  for (let index = 0; index < 1_000; index += 1) {
    try {
      take(index);
    } catch (error) {
      assert.ok(error instanceof ServiceError && error.name === 'ThrottlingException');
      assert.equal(error.message, `Log-in was tried too often. Try again in ${error.retryAfterSeconds} seconds.`);
      return index;
    }
  }
  return Number.POSITIVE_INFINITY;
}

test('a name has twenty tries from wherever, and one more each half a minute', () => {
  const limits = new LoginLimits();
  assert.equal(
    triesUntilRefused((index) => limits.take('ada', `10.0.0.${index}`, 0)),
    TRIES_OF_USER,
  );
  assert.throws(() => limits.take('ada', '10.0.1.1', 29_999), /Try again in 1 seconds/);
  limits.take('ada', '10.0.1.1', 30_000);
  assert.throws(() => limits.take('ada', '10.0.1.1', 30_000), ServiceError);
  limits.take('ben', '10.0.1.1', 30_000);
  assert.equal(
    triesUntilRefused((index) => limits.take('ada', `10.0.2.${index}`, 30_000 * 100)),
    TRIES_OF_USER,
  );
});

test('an address has sixty tries for whatever names, and one more each two seconds', () => {
  const limits = new LoginLimits();
  assert.equal(
    triesUntilRefused((index) => limits.take(`user${index}`, '10.0.0.1', 0)),
    TRIES_OF_ADDRESS,
  );
  assert.throws(() => limits.take('someone', '::ffff:10.0.0.1', 1_999), ServiceError);
  limits.take('someone', '10.0.0.1', 2_000);
});

test('addresses of one network of IPv6 count as one', () => {
  const limits = new LoginLimits();
  const spellings = ['2001:db8:0:7::1', '2001:db8:0:7:ffff::2%eth0', '2001:db8::7:1:2:3:4'];
  triesUntilRefused((index) => limits.take(`user${index}`, spellings[index % 3], 0));
  for (const address of spellings) assert.throws(() => limits.take('x', address, 0), ServiceError);
  for (const address of ['2001:db8:0:8::1', '::1', undefined]) limits.take('x', address, 0);
});

test('a try that was given back is there again, and a refused one takes nothing', () => {
  const limits = new LoginLimits();
  for (let index = 0; index < 500; index += 1) limits.take('ada', '10.0.0.1', 0)();
  assert.equal(
    triesUntilRefused(() => limits.take('ada', '10.0.0.2', 0)),
    TRIES_OF_USER,
  );
  for (let index = 0; index < 500; index += 1) assert.throws(() => limits.take('ada', '10.0.0.3', 0), ServiceError);
  assert.equal(
    triesUntilRefused((index) => limits.take(`user${index}`, '10.0.0.3', 0)),
    TRIES_OF_ADDRESS,
  );
});

test('however many names are tried, nobody gets more tries for one', () => {
  const limits = new LoginLimits();
  triesUntilRefused((index) => limits.take('ada', `10.0.0.${index}`, 0));
  for (let index = 0; index < 20_000; index += 1) {
    try {
      limits.take(`user${index}`, `10.${index % 250}.${Math.floor(index / 250)}.1`, 0);
    } catch {
      // Two that share a bucket by chance.
    }
  }
  assert.throws(() => limits.take('ada', '11.0.0.1', 0), ServiceError);
});

test('an address has eight log-ins under way, a place comes back once, and no address takes one from another', () => {
  const limits = new LoginLimits();
  const leave = Array.from({ length: 8 }, (_, index) => limits.enter(`2001:db8:0:7::${index}`));
  const isFull = (address: string) =>
    assert.throws(
      () => limits.enter(address),
      (error) => error instanceof ServiceError && error.code === 'LOGIN_BUSY' && error.retryAfterSeconds === 1,
    );
  isFull('2001:db8:0:7::99');
  for (let index = 0; index < 20_000; index += 1) limits.enter(`10.${index % 250}.${Math.floor(index / 250)}.1`);
  isFull('2001:db8:0:7::99');
  leave[0]!();
  limits.enter('2001:db8:0:7::99');
  isFull('2001:db8:0:7::99');
});
