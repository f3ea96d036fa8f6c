/** Codes and words with which viewers are closed: each has its own, and the page knows which are final. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ENDINGS } from '../../src/gateway/endings.ts';

test('every ending has a code and a name of its own, and words that fit a close frame', () => {
  assert.equal(new Set(ENDINGS.map(({ code }) => code)).size, ENDINGS.length);
  assert.equal(new Set(ENDINGS.map(({ name }) => name)).size, ENDINGS.length);
  for (const { name, code, words } of ENDINGS) {
    assert.ok(Buffer.byteLength(words) <= 123, name);
    assert.ok(words !== '' || code === 1000, name);
  }
});
