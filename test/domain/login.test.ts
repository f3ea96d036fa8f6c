/**
 * Log-in: who gets a key and for how long, that refusals are all the same and cost the same, and what ends a key: time, a
 * new password, disabling the user, deleting him.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { USER } from '../../src/domain/access.ts';
import { isHeld, newAccessKey, openSecrets, readPrincipal, TEMPORARY } from '../../src/domain/access-key.ts';
import { KIND, PRESENT } from '../../src/domain/kinds.ts';
import { type LoginParts, type LoginRequest, logIn } from '../../src/domain/login.ts';
import { LoginLimits } from '../../src/domain/login-limits.ts';
import { createPasswords, type StoredPassword } from '../../src/domain/password.ts';
import { ServiceError } from '../../src/errors.ts';
import { createWorld, type World } from '../support/domain.ts';
import { putPassword, putPerson, putUserState, quickPasswords } from '../support/people.ts';

const PASSWORD = 'correct horse';
const HOUR_MS = 3_600_000;

function partsOf({ services, keys }: World, more: Partial<LoginParts> = {}): LoginParts {
  return { ...services, keys, passwords: quickPasswords, limits: new LoginLimits(), loginMs: 12 * HOUR_MS, ...more };
}

const ada: LoginRequest = { userName: 'ada', password: PASSWORD, remoteAddress: '127.0.0.1' };

async function refusalOf(request: LoginRequest, parts: LoginParts): Promise<ServiceError> {
  const error = await logIn(request, parts).then(
    () => assert.fail('was let in'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof ServiceError, String(error));
  return error;
}

test('the right password gets a key of the user that ends in time, of which only digests and seals are kept', async () => {
  const world = createWorld();
  const principalId = await putPerson(world.store, 'ada', PASSWORD);
  const made = await logIn(ada, partsOf(world));
  assert.match(made.accessKeyId, /^ASIA[A-Z2-7]{16}$/);
  assert.equal(made.expiration, '2026-01-01T12:00:00Z');
  const row = (await world.store.get(KIND.accessKey, made.accessKeyId))!;
  assert.deepEqual([row.state, row.ownerId, row.dueAt], [TEMPORARY, principalId, world.clock.now() + 12 * HOUR_MS]);
  assert.deepEqual(JSON.parse(row.doc), {
    accessKeyId: made.accessKeyId,
    name: 'log-in',
    principalId,
    role: USER,
    user: 'ada',
    createdAt: '2026-01-01T00:00:00Z',
    expiresAt: '2026-01-01T12:00:00Z',
  });
  for (const secret of [made.secretAccessKey, made.sessionToken, PASSWORD]) {
    assert.ok(!row.doc.includes(secret) && !row.private.includes(secret));
  }
  const { secretAccessKey, sessionTokenDigest, expiresAt } = openSecrets(row, world.keys);
  assert.deepEqual([secretAccessKey, expiresAt], [made.secretAccessKey, row.dueAt]);
  assert.match(sessionTokenDigest!, /^[0-9a-f]{64}$/);
  assert.deepEqual(readPrincipal(row), { accessKeyId: row.id, principalId, role: USER, username: 'ada' });
  assert.equal((await logIn({ ...ada, userName: 'ADA' }, partsOf(world))).accessKeyId.length, 20);
});

test('a key is good for as long as was asked, from a quarter of an hour to what the server allows', async () => {
  const world = createWorld();
  await putPerson(world.store, 'ada', PASSWORD);
  const parts = partsOf(world, { loginMs: 2 * HOUR_MS });
  for (const [durationSeconds, expiration] of [
    [undefined, '2026-01-01T02:00:00Z'],
    [900, '2026-01-01T00:15:00Z'],
    [7_200, '2026-01-01T02:00:00Z'],
  ] as const) {
    assert.equal((await logIn({ ...ada, durationSeconds }, parts)).expiration, expiration);
  }
  for (const durationSeconds of [899, 7_201, 0, -1]) {
    const { name, message } = await refusalOf({ ...ada, durationSeconds }, parts);
    assert.deepEqual([name, message], ['ValidationException', 'durationSeconds must be from 900 to 7200']);
  }
});

describe('everybody else is refused in the same words, after the same work', () => {
  const cases: Readonly<Record<string, (world: World) => Promise<LoginRequest>>> = {
    'a wrong password': async ({ store }) => {
      await putPerson(store, 'ada', PASSWORD);
      return { ...ada, password: 'wrong password' };
    },
    'a user that nobody is': async () => ada,
    'a user without a password': async ({ store }) => {
      await putPerson(store, 'ada');
      return ada;
    },
    'a user who is disabled': async ({ store }) => {
      await putUserState(store, await putPerson(store, 'ada', PASSWORD), 'DISABLED');
      return ada;
    },
    'the password of another': async ({ store }) => {
      await putPerson(store, 'ada', 'another password');
      await putPerson(store, 'ben', PASSWORD);
      return ada;
    },
    'the id of a user instead of the name': async ({ store }) => ({
      ...ada,
      userName: await putPerson(store, 'ada', PASSWORD),
    }),
    'a name that means something to JavaScript': async () => ({ ...ada, userName: '__proto__' }),
  };
  for (const [what, prepare] of Object.entries(cases)) {
    test(what, async () => {
      const world = createWorld();
      const request = await prepare(world);
      let hashes = 0;
      const passwords = {
        ...quickPasswords,
        isRight: (password: string, stored: StoredPassword | undefined) => {
          hashes += 1;
          return quickPasswords.isRight(password, stored);
        },
      };
      const { name, code, message } = await refusalOf(request, partsOf(world, { passwords }));
      assert.deepEqual([name, code], ['AccessDeniedException', 'LOGIN_REFUSED']);
      assert.equal(message, 'The user name or the password is wrong, or the user may not log in.');
      assert.equal(hashes, 1);
      assert.deepEqual(await world.store.list({ kind: KIND.accessKey, limit: 10 }), []);
    });
  }
});

test('guessing ends after some tries, whether there is such a user or not; being right costs no try', async () => {
  const world = createWorld();
  await putPerson(world.store, 'ada', PASSWORD);
  const parts = partsOf(world);
  for (let index = 0; index < 30; index += 1) await logIn(ada, parts);
  for (const userName of ['ada', 'nobody']) {
    for (let index = 0; index < 20; index += 1) {
      const spelt = index % 2 === 0 ? userName : userName.toUpperCase();
      assert.equal((await refusalOf({ ...ada, userName: spelt, password: 'a guess' }, parts)).code, 'LOGIN_REFUSED');
    }
    const { name, code, retryAfterSeconds } = await refusalOf({ ...ada, userName, password: PASSWORD }, parts);
    assert.deepEqual([name, code, retryAfterSeconds], ['ThrottlingException', 'LOGIN_TOO_OFTEN', 30]);
  }
  world.clock.advance(30_000);
  await logIn(ada, parts);
});

test('a refusal that looked at no password costs no try', async () => {
  const world = createWorld();
  await putPerson(world.store, 'ada', PASSWORD);
  const busy = new ServiceError('ThrottlingException', 'Busy.', { code: 'LOGIN_BUSY' });
  const limits = new LoginLimits();
  const passwords = { ...quickPasswords, isRight: () => Promise.reject(busy) };
  for (let index = 0; index < 100; index += 1) {
    assert.equal((await refusalOf(ada, partsOf(world, { limits, passwords }))).code, 'LOGIN_BUSY');
  }
  await logIn(ada, partsOf(world, { limits }));
});

test('one address cannot keep others from logging in, and its places come back', async () => {
  const world = createWorld();
  await putPerson(world.store, 'ada', PASSWORD);
  const limits = new LoginLimits();
  const passwords = createPasswords({ N: 2 ** 10, r: 8, p: 1 });
  const parts = partsOf(world, { limits, passwords });
  const flood = Array.from({ length: 55 }, (_, index) =>
    refusalOf({ userName: `nobody${index}`, password: 'a guess', remoteAddress: '192.0.2.1' }, parts),
  );
  await logIn({ ...ada, remoteAddress: '192.0.2.2' }, parts);
  const codes = (await Promise.all(flood)).map(({ code }) => code);
  assert.deepEqual(
    ['LOGIN_REFUSED', 'LOGIN_BUSY'].map((code) => codes.filter((one) => one === code).length),
    [8, 47],
  );
  await logIn({ ...ada, remoteAddress: '192.0.2.1' }, parts);
});

test('a log-in is one line of the audit, which says who and where from; a refused one is none', async () => {
  const world = createWorld();
  const principalId = await putPerson(world.store, 'ada', PASSWORD);
  const request = { ...ada, remoteAddress: '::ffff:192.0.2.7', requestId: 'request-1' };
  await refusalOf({ ...request, password: 'a guess' }, partsOf(world));
  const { accessKeyId } = await logIn(request, partsOf(world));
  const line = {
    at: world.clock.now(),
    id: 'request-1',
    principalId,
    accessKeyId,
    operation: 'login',
    studioId: '',
    resourceId: accessKeyId,
    outcome: 'ok',
    doc: JSON.stringify({ role: USER, sourceAddress: '192.0.2.7' }),
  };
  assert.deepEqual(await world.store.audit({ limit: 10 }), [line]);
});

describe('a key of a user', () => {
  async function keysOf(world: World) {
    const principalId = await putPerson(world.store, 'ada', PASSWORD);
    const { accessKeyId } = await logIn(ada, partsOf(world));
    const holder = { role: USER, name: 'ada', principalId } as const;
    const { row } = newAccessKey('', world.keys, world.services, holder);
    const held = async () => {
      const temporary = (await world.store.get(KIND.accessKey, accessKeyId))!;
      return [await isHeld(temporary, world.store), await isHeld(row, world.store)];
    };
    assert.deepEqual(await held(), [true, true]);
    return { principalId, held };
  }

  test('ends when he is disabled if it was logged in for; one without an end is good again when he is enabled', async () => {
    const world = createWorld();
    const { principalId, held } = await keysOf(world);
    await putUserState(world.store, principalId, 'DISABLED');
    assert.deepEqual(await held(), [false, false]);
    await putUserState(world.store, principalId, 'PRESENT');
    assert.deepEqual(await held(), [false, true]);
    const { accessKeyId } = await logIn(ada, partsOf(world));
    assert.ok(await isHeld((await world.store.get(KIND.accessKey, accessKeyId))!, world.store));
  });

  test('is not good if he was disabled while the password was looked at', async () => {
    const world = createWorld();
    const principalId = await putPerson(world.store, 'ada', PASSWORD);
    const passwords = {
      ...quickPasswords,
      isRight: async (password: string, stored: StoredPassword | undefined) => {
        for (const state of ['DISABLED', PRESENT] as const) await putUserState(world.store, principalId, state);
        return quickPasswords.isRight(password, stored);
      },
    };
    const { accessKeyId } = await logIn(ada, partsOf(world, { passwords }));
    assert.ok(!(await isHeld((await world.store.get(KIND.accessKey, accessKeyId))!, world.store)));
  });

  test('is no longer good when he is gone', async () => {
    const world = createWorld();
    const { principalId, held } = await keysOf(world);
    const { version } = (await world.store.get(KIND.user, principalId))!;
    await world.store.write([{ op: 'delete', kind: KIND.user, id: principalId, version }]);
    assert.deepEqual(await held(), [false, false]);
  });

  test('that was logged in for ends with the password, be the new one the same', async () => {
    const world = createWorld();
    const { principalId, held } = await keysOf(world);
    await putPassword(world.store, principalId, PASSWORD);
    assert.deepEqual(await held(), [false, true]);
  });
});

test('of more than a thousand temporary keys of one user, the oldest give way; others are left alone', async () => {
  const world = createWorld();
  await putPerson(world.store, 'ben', PASSWORD);
  const principalId = await putPerson(world.store, 'ada', PASSWORD);
  const parts = partsOf(world);
  const others = await logIn({ ...ada, userName: 'ben' }, parts);
  const holder = { role: USER, name: 'ada', principalId } as const;
  const { row: lasting } = newAccessKey('', world.keys, world.services, holder);
  await world.store.write([{ op: 'insert', row: lasting }]);
  const made: string[] = [];
  for (let index = 0; index < 1_003; index += 1) {
    world.clock.advance(1);
    made.push((await logIn(ada, parts)).accessKeyId);
  }
  const there = async (id: string) => (await world.store.get(KIND.accessKey, id)) !== undefined;
  assert.deepEqual(await Promise.all(made.slice(0, 5).map(there)), [false, false, false, true, true]);
  assert.deepEqual(
    [await there(made.at(-1)!), await there(others.accessKeyId), await there(lasting.id)],
    [true, true, true],
  );
});
