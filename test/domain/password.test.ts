/** Passwords: which may be one, that only the right one is right, what is kept of them, and that hashing has a bound. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { COST, createPasswords, flawOf, setPassword } from '../../src/domain/password.ts';
import { ServiceError } from '../../src/errors.ts';
import { quickPasswords } from '../support/people.ts';

test('a password has 12 to 256 characters, and none that no keyboard types', () => {
  for (const [password, flaw] of [
    ['correct horse', undefined],
    ['x'.repeat(12), undefined],
    ['😀'.repeat(12), undefined],
    ['x'.repeat(256), undefined],
    ['x'.repeat(11), /at least 12/],
    ['😀'.repeat(11), /at least 12/],
    ['', /at least 12/],
    ['x'.repeat(257), /at most 256/],
    ['correct\nhorse', /line breaks/],
    ['correct\u0000horse', /line breaks/],
  ] as const) {
    const found = flawOf(password);
    assert.ok(flaw ? flaw.test(found ?? '') : found === undefined, `${password}: ${found}`);
  }
});

test('the right one is right, however its characters were typed, and no other', async () => {
  const stored = await quickPasswords.hash('crème brûlée');
  assert.equal(await quickPasswords.isRight('crème brûlée'.normalize('NFD'), stored), true);
  for (const wrong of ['creme brulee', 'crème brûlée ', 'Crème brûlée', '', 'crème brûlé']) {
    assert.equal(await quickPasswords.isRight(wrong, stored), false, wrong);
  }
  assert.equal(await quickPasswords.isRight('crème brûlée', undefined), false, 'nobody has it');
});

test('what is kept names its cost, has a salt of its own, and not the password', async () => {
  const [one, other] = [await quickPasswords.hash('correct horse'), await quickPasswords.hash('correct horse')];
  assert.notEqual(one.salt, other.salt);
  assert.notEqual(one.hash, other.hash);
  assert.deepEqual([Buffer.from(one.salt, 'base64').length, Buffer.from(one.hash, 'base64').length], [16, 32]);
  const write = setPassword('ada', one, undefined, 0);
  assert.ok(!JSON.stringify(write).includes('correct horse'));
  const stronger = createPasswords({ N: 4, r: 1, p: 1 });
  assert.equal(await stronger.isRight('correct horse', one), true, 'one of another cost is still good');
});

test('the cost is one that OWASP recommends, and is met by this machine', async () => {
  assert.deepEqual(COST, { N: 32_768, r: 8, p: 3 });
  const passwords = createPasswords();
  const stored = await passwords.hash('correct horse');
  assert.equal(await passwords.isRight('correct horse', stored), true);
});

test('those who wait are bounded, and each of them gets a turn', async () => {
  const passwords = createPasswords({ N: 2 ** 10, r: 8, p: 1 });
  const stored = await passwords.hash('correct horse');
  const outcomes = await Promise.allSettled(
    Array.from({ length: 50 }, () => passwords.isRight('correct horse', stored)),
  );
  const done = outcomes.filter(({ status }) => status === 'fulfilled');
  const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
  assert.deepEqual([done.length, refused.length], [34, 16]);
  for (const error of refused) {
    assert.ok(error instanceof ServiceError && error.name === 'ThrottlingException');
    assert.equal(error.retryAfterSeconds, 5);
  }
  assert.equal(await passwords.isRight('correct horse', stored), true);
});
