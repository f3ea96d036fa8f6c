/** Identifiers have the vendor's forms, use all their characters alike, and come again only from the same randomness. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createIds, type Ids } from '../../src/ids.ts';
import { seededRandom } from '../support/domain.ts';

const FORMS: Record<keyof Ids, RegExp> = {
  short: /^[A-Za-z0-9_-]{22}$/,
  uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
  studioSuffix: /^stid-[a-z0-9]{16}$/,
  machineImage: /^ami-[0-9a-f]{17}$/,
  identityStore: /^d-[0-9a-f]{10}$/,
  accessKey: /^AKIA[A-Z2-7]{16}$/,
  temporaryAccessKey: /^ASIA[A-Z2-7]{16}$/,
  sessionToken: /^[A-Za-z0-9_-]{43}$/,
  principal: /^AIDA[A-Z2-7]{16}$/,
  ticket: /^[\w-]{43}$/,
  secretKey: /^[A-Za-z0-9+/]{40}$/,
};

for (const [name, form] of Object.entries(FORMS) as [keyof Ids, RegExp][]) {
  test(`${name} has its form, and no two are the same`, () => {
    const ids = createIds();
    const made = Array.from({ length: 2_000 }, () => ids[name]());
    for (const id of made) assert.match(id, form);
    assert.equal(new Set(made).size, made.length);
  });
}

test('a short id is the base64url of a version 4 UUID', () => {
  const ids = createIds();
  for (let index = 0; index < 200; index += 1) {
    const bytes = Buffer.from(ids.short(), 'base64url');
    assert.equal(bytes.length, 16);
    assert.equal(bytes[6]! >> 4, 4);
    assert.equal(bytes[8]! >> 6, 2);
  }
});

test('no character is favoured', () => {
  const ids = createIds(seededRandom('characters'));
  for (const [name, prefix, alphabet] of [
    ['studioSuffix', 5, 36],
    ['accessKey', 4, 32],
  ] as const) {
    const counts = new Map<string, number>();
    for (let index = 0; index < 4_000; index += 1) {
      for (const character of ids[name]().slice(prefix)) counts.set(character, (counts.get(character) ?? 0) + 1);
    }
    const expected = (4_000 * 16) / alphabet;
    assert.equal(counts.size, alphabet);
    for (const [character, count] of counts) assert.ok(Math.abs(count - expected) < expected * 0.15, character);
  }
});

test('the same randomness gives the same ids', () => {
  const sequence = () => {
    const ids = createIds(seededRandom('same'));
    return (Object.keys(FORMS) as (keyof Ids)[]).map((name) => ids[name]());
  };
  assert.deepEqual(sequence(), sequence());
});
