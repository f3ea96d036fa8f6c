/** Access keys: what may be listed is in the document, the secret is sealed, and a sealed secret is of no use elsewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newAccessKey, openSecret, readPrincipal } from '../../src/domain/access-key.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { PolicyRefused } from '../../src/domain/policy-json.ts';
import { createWorld, SETTINGS } from '../support/domain.ts';

test('a new access key says whose it is and what for, and nowhere holds its secret in the clear', () => {
  const { keys, services } = createWorld();
  const { row, secretAccessKey } = newAccessKey('render farm', keys, services);
  assert.equal(row.kind, KIND.accessKey);
  assert.match(row.id, /^AKIA[A-Z2-7]{16}$/);
  assert.match(secretAccessKey, /^[A-Za-z0-9+/]{40}$/);
  assert.deepEqual(JSON.parse(row.doc), {
    accessKeyId: row.id,
    name: 'render farm',
    principalId: `AIDA${row.id.slice(4)}`,
    role: 'administrator',
    createdAt: '2026-01-01T00:00:00Z',
  });
  assert.ok(!row.doc.includes(secretAccessKey) && !row.private.includes(secretAccessKey));
});

test('the secret is opened from its own row, and from no other', () => {
  const { keys, services } = createWorld();
  const [one, other] = [newAccessKey('one', keys, services), newAccessKey('other', keys, services)];
  assert.equal(openSecret(one.row, keys), one.secretAccessKey);
  assert.notEqual(one.secretAccessKey, other.secretAccessKey);
  assert.throws(() => openSecret({ ...one.row, private: other.row.private }, keys));
});

const statement = { Effect: 'Allow', Action: '*', Resource: '*' };
const text = JSON.stringify({ Version: '2012-10-17', Statement: statement });

test('a key carries its policies as they were written, lists their names, and is no administrator', () => {
  const { keys, services } = createWorld();
  const grant = { service: 'farm', policies: [{ name: 'all', text }], place: SETTINGS };
  const { row } = newAccessKey('render farm', keys, services, grant);
  const { role, service, policies } = JSON.parse(row.doc);
  assert.deepEqual([role, service, policies], ['policies', 'farm', ['all']]);
  assert.deepEqual(JSON.parse(row.private).policies, [{ name: 'all', text }]);
  const principal = readPrincipal(row);
  assert.deepEqual([principal.role, principal.username, principal.policies!.all.length], ['policies', 'farm', 1]);
  assert.equal(readPrincipal(newAccessKey('', keys, services).row).policies, undefined);
});

test('a stored policy that cannot be read any more makes its key useless, not mightier', () => {
  const { keys, services } = createWorld();
  const deny = JSON.stringify({ Version: '2012-10-17', Statement: { ...statement, Effect: 'Deny' } });
  const policies = ['allow', 'deny'].map((name) => ({ name, text: name === 'deny' ? deny : text }));
  const { row } = newAccessKey('', keys, services, { policies, place: SETTINGS });
  for (const damaged of [row.private.replace('2012-10-17', '2008-10-17'), row.private.replace('Deny', 'deny')]) {
    assert.throws(() => readPrincipal({ ...row, private: damaged }), PolicyRefused);
  }
  assert.throws(() => readPrincipal({ ...row, private: '{}' }));
});
