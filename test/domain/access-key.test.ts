/** Access keys: what may be listed is in the document, the secret is sealed, and a sealed secret is of no use elsewhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SERVICE, USER } from '../../src/domain/access.ts';
import { newAccessKey, openSecrets, readPrincipal } from '../../src/domain/access-key.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createWorld } from '../support/domain.ts';

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
  assert.deepEqual(openSecrets(one.row, keys), { secretAccessKey: one.secretAccessKey });
  assert.notEqual(one.secretAccessKey, other.secretAccessKey);
  assert.throws(() => openSecrets({ ...one.row, private: other.row.private }, keys));
});

test('a key of a service or a user says whose it is, is no administrator, and carries no rights', () => {
  const { keys, services } = createWorld();
  for (const role of [SERVICE, USER] as const) {
    const holder = { role, name: 'farm', principalId: 'AIDAFARM' };
    const { row } = newAccessKey('render farm', keys, services, holder);
    const doc = JSON.parse(row.doc);
    assert.deepEqual([doc.role, doc[role], doc.principalId, row.ownerId], [role, 'farm', 'AIDAFARM', 'AIDAFARM']);
    const principal = { accessKeyId: row.id, principalId: 'AIDAFARM', role, username: 'farm' };
    assert.deepEqual(readPrincipal(row), principal);
    assert.deepEqual(Object.keys(JSON.parse(row.private)), ['sealedSecret']);
  }
  assert.equal(readPrincipal(newAccessKey('', keys, services).row).username, undefined);
});
