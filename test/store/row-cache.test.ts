/** What is kept ready, and that it has a bound: whatever the rows are like, and however often they change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RowCache } from '../../src/store/row-cache.ts';
import { rowOf } from './conformance.ts';

const MIB = 1024 * 1024;
const large = (id: string) => rowOf(id, { doc: 'x'.repeat(MIB) });

test('a row is there as it was last kept, until it is forgotten', () => {
  const cache = new RowCache();
  cache.keepRow(rowOf('a'));
  cache.keepRow(rowOf('a', { version: 2 }));
  assert.equal(cache.row('thing', 'a')!.version, 2);
  assert.equal(cache.row('other', 'a'), undefined);
  cache.forgetRow('thing', 'a');
  assert.equal(cache.row('thing', 'a'), undefined);
});

test('large rows do not pile up', () => {
  const cache = new RowCache();
  for (let index = 0; index < 100; index += 1) cache.keepRow(large(`row ${index}`));
  const kept = Array.from({ length: 100 }, (_, index) => cache.row('thing', `row ${index}`)).filter(Boolean);
  assert.ok(kept.length > 0 && kept.length <= 32, String(kept.length));
  assert.ok(cache.row('thing', 'row 99'), 'the last one is there');
});

test('a row that keeps changing takes no more room than one', () => {
  const cache = new RowCache();
  cache.keepRow(rowOf('small'));
  for (let version = 1; version <= 100; version += 1) cache.keepRow({ ...large('large'), version });
  assert.ok(cache.row('thing', 'small'), 'nothing had to be forgotten');
  for (let round = 0; round < 100; round += 1) {
    cache.keepRow(large('comes and goes'));
    cache.forgetRow('thing', 'comes and goes');
  }
  assert.ok(cache.row('thing', 'small'), 'what is forgotten takes no room');
});

test('pages are forgotten by the kind of their rows, and do not pile up', () => {
  const cache = new RowCache();
  cache.keepPage('things', 'thing', [rowOf('a')]);
  cache.keepPage('others', 'other', [rowOf('b', { kind: 'other' })]);
  cache.forgetPages(new Set(['thing']));
  assert.equal(cache.page('things'), undefined);
  assert.equal(cache.page('others')!.length, 1);
  for (let index = 0; index < 100; index += 1) cache.keepPage(`page ${index}`, 'thing', [large('a'), large('b')]);
  const kept = Array.from({ length: 100 }, (_, index) => cache.page(`page ${index}`)).filter(Boolean);
  assert.ok(kept.length > 0 && kept.length <= 16, String(kept.length));
  for (let round = 0; round < 100; round += 1) cache.keepPage('the same', 'thing', [large('a')]);
  assert.ok(cache.page('page 99'), 'a page that is kept again takes no more room');
});
