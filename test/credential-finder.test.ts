/** Credentials: opened once for as long as the row says the same, read each time, and never kept without end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCredentialFinder } from '../src/credential-finder.ts';
import { newAccessKey } from '../src/domain/access-key.ts';
import type { Row } from '../src/store/store.ts';
import { createWorld } from './support/domain.ts';

/** Rows as a store hands them out that keeps none: each read gives an object of its own. */
function place() {
  const { keys, services } = createWorld();
  const rows = new Map<string, Row>();
  const count = { reads: 0, opened: 0 };
  const get = async (_kind: string, id: string) => {
    count.reads += 1;
    const row = rows.get(id);
    return row && { ...row };
  };
  const open = keys.open.bind(keys);
  keys.open = (sealed, context) => {
    count.opened += 1;
    return open(sealed, context);
  };
  const add = () => {
    const made = newAccessKey('', keys, services);
    rows.set(made.row.id, made.row);
    return made;
  };
  return { rows, count, add, find: createCredentialFinder({ get }, keys) };
}

test('the same row gives the same credential, opened once, however often it is read', async () => {
  const { add, find, count } = place();
  const { row, secretAccessKey } = add();
  const first = await find(row.id);
  assert.equal(first!.secretAccessKey, secretAccessKey);
  for (let turn = 0; turn < 5; turn += 1) assert.equal(await find(row.id), first);
  assert.deepEqual(count, { reads: 6, opened: 1 });
});

const CHANGES: Readonly<Record<string, (row: Row) => Row>> = {
  'another version': (row) => ({ ...row, version: row.version + 1 }),
  'another document under the same version': (row) => ({ ...row, doc: row.doc.replace('"name":""', '"name":"x"') }),
  'anything else under the same version': (row) => ({ ...row, private: row.private.replace('{', '{"more":1,') }),
};

for (const [name, change] of Object.entries(CHANGES)) {
  test(`${name} is a new credential at once`, async () => {
    const { add, find, rows, count } = place();
    const { row } = add();
    const first = await find(row.id);
    const changed = change(row);
    assert.notDeepEqual(changed, row);
    rows.set(row.id, changed);
    const second = await find(row.id);
    assert.notEqual(second, first);
    assert.equal(await find(row.id), second);
    assert.equal(count.opened, 2);
  });
}

test('a deleted key is nobody at once, and one that comes back is opened anew', async () => {
  const { add, find, rows, count } = place();
  const { row } = add();
  const first = await find(row.id);
  rows.delete(row.id);
  assert.equal(await find(row.id), undefined);
  rows.set(row.id, row);
  assert.notEqual(await find(row.id), first);
  assert.equal(count.opened, 2);
});

test('unknown ids and a thousand others do not fill the memory: the oldest are forgotten', async () => {
  const { add, find, count } = place();
  const { row } = add();
  const first = await find(row.id);
  for (let index = 0; index < 2_000; index += 1) assert.equal(await find(`AKIA${index}`), undefined);
  assert.equal(await find(row.id), first);
  for (let index = 0; index < 999; index += 1) await find(add().row.id);
  assert.equal(await find(row.id), first);
  await find(add().row.id);
  assert.notEqual(await find(row.id), first);
  assert.equal(count.opened, 1 + 1_000 + 1);
});
