/**
 * What every adapter of the store must do, whatever the database behind it. The suite only knows the port; an adapter's
 * test file hands it a way to open any number of clients of the same data, each as separate as a process of its own.
 */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  type AuditLine,
  GuardFailed,
  type ListQuery,
  type Row,
  type Store,
  type TokenRow,
  type Write,
} from '../../src/store/store.ts';
import { createRandom } from '../support/random.ts';

export interface StorePlace {
  /** A new client of the same data. Clients that a test leaves open are closed after it. */
  open(): Store | Promise<Store>;
}

const NOW = 1_767_225_600_000;

export function rowOf(id: string, more: Partial<Row> = {}): Row {
  return {
    kind: 'thing',
    id,
    studioId: 'here',
    parentId: null,
    ownerId: null,
    uniqueName: null,
    state: 'RESTING',
    version: 1,
    dueAt: null,
    attempts: 0,
    createdAt: NOW,
    doc: `{"id":"${id}"}`,
    private: '{}',
    ...more,
  };
}

const insert = (row: Row): Write => ({ op: 'insert', row });
const update = (row: Row): Write => ({ op: 'update', row });
const remove = (row: Row, version = row.version): Write => ({ op: 'delete', kind: row.kind, id: row.id, version });
const require = (id: string, state: string, kind = 'thing'): Write => ({ op: 'require', kind, id, state });
const fewer = (limit: number, more: object = {}): Write => ({
  op: 'fewer',
  kind: 'thing',
  studioId: 'here',
  statesNot: ['GONE'],
  limit,
  ...more,
});
const tokenOf = (key: string, more: Partial<TokenRow> = {}): TokenRow => ({
  key,
  digest: 'digest',
  kind: 'thing',
  id: 'id',
  expiresAt: NOW + 1_000,
  ...more,
});
const token = (row: TokenRow, now = NOW): Write => ({ op: 'token', token: row, now });
const forget = (now: number, limit: number): Write => ({ op: 'forget', now, limit });

function next(row: Row, more: Partial<Row> = {}): Row {
  return { ...row, version: row.version + 1, ...more };
}

async function assertGuardFails(written: Promise<unknown>, guard: Write): Promise<void> {
  const error = await written.then(
    (changed) => assert.fail(`wrote ${String(changed)} rows instead of failing`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof GuardFailed)) throw error;
  assert.deepEqual(error.write, guard);
}

async function all(store: Store, kind = 'thing'): Promise<readonly Row[]> {
  return store.list({ kind, limit: 10_000 });
}

const ids = (rows: readonly Row[]) => rows.map(({ id }) => id);

/** Runs the suite against an adapter; `name` stands in front of every title. */
export function storeConformance(name: string, makePlace: (t: TestContext) => StorePlace | Promise<StorePlace>): void {
  const check = (title: string, run: (store: Store, place: StorePlace, t: TestContext) => Promise<void>) => {
    test(`${name}: ${title}`, async (t) => {
      const place = await makePlace(t);
      await run(await place.open(), place, t);
    });
  };
  rowsAreKept(check);
  guardsHold(check);
  tokensAreRemembered(check);
  batchesAreWhole(check);
  readsAreFresh(check);
  listsAreInOrder(check);
  leasesFence(check);
  closingKeeps(check);
  auditIsKept(check);
}

type Check = (title: string, run: (store: Store, place: StorePlace, t: TestContext) => Promise<void>) => void;

function rowsAreKept(check: Check): void {
  check('a row is read back with every value as it was written', async (store) => {
    const rows = [
      rowOf('plain'),
      rowOf('full', {
        studioId: 'us-west-2:stid-abc',
        parentId: 'mother',
        ownerId: 'ada',
        uniqueName: 'name',
        state: 'S',
        version: 7,
        dueAt: NOW + 1,
        attempts: 3,
        createdAt: 0,
        doc: JSON.stringify({ text: '🎬 \ud800 \u0000 \u2028 é "' }),
        private: '{"secret":"\\u0000"}',
      }),
      rowOf('', { studioId: '', state: '', doc: '', private: '', uniqueName: '' }),
      rowOf('quote \' " ; -- 🎬 é \n %_', { studioId: '%', state: "'" }),
      rowOf('large', { doc: 'x'.repeat(1_000_000), private: '🎬'.repeat(100_000) }),
      rowOf('numbers', {
        version: Number.MAX_SAFE_INTEGER,
        dueAt: Number.MAX_SAFE_INTEGER,
        createdAt: 8_640_000_000_000_000,
      }),
    ];
    assert.equal(await store.write(rows.map(insert)), rows.length);
    for (const row of rows) assert.deepEqual({ ...(await store.get('thing', row.id)) }, row);
  });

  check('what is not there is undefined, an empty list, a count of nothing', async (store) => {
    assert.equal(await store.get('thing', 'nothere'), undefined);
    assert.equal(await store.token('nothere'), undefined);
    assert.deepEqual(await all(store), []);
    assert.equal(await store.count({ kind: 'thing', limit: 10 }), 0);
    assert.deepEqual(await store.lease({ kind: 'thing', state: 'S', now: NOW, until: NOW + 1, limit: 10 }), []);
  });

  check('ids that differ in case, in a blank or in an accent are different rows', async (store) => {
    const names = ['a', 'A', 'a ', ' a', 'é', 'e\u0301', 'a\u0000', 'a\u0000b'];
    await store.write(names.map((id, version) => insert(rowOf(id, { version: version + 1 }))));
    for (const [index, id] of names.entries()) assert.equal((await store.get('thing', id))?.version, index + 1, id);
  });

  check('rows of two kinds may have one id and one unique name', async (store) => {
    await store.write([
      insert(rowOf('id', { uniqueName: 'name' })),
      insert(rowOf('id', { kind: 'other', uniqueName: 'name', state: 'OTHER' })),
    ]);
    assert.equal((await store.get('thing', 'id'))!.state, 'RESTING');
    assert.equal((await store.get('other', 'id'))!.state, 'OTHER');
    await store.write([remove(rowOf('id'))]);
    assert.equal((await store.get('other', 'id'))!.state, 'OTHER');
  });

  check('write returns how many rows it inserted, updated or deleted', async (store) => {
    const [one, two] = [rowOf('one'), rowOf('two')];
    assert.equal(await store.write([]), 0);
    assert.equal(await store.write([insert(one), insert(two)]), 2);
    assert.equal(await store.write([require('one', 'RESTING'), fewer(10)]), 0);
    assert.equal(await store.write([update(next(one)), remove(two), fewer(10)]), 2);
    assert.equal(await store.write([token(tokenOf('a')), token(tokenOf('b'))]), 2);
    assert.equal(await store.write([forget(NOW + 1_000, 10)]), 2);
    assert.equal(await store.write([forget(NOW + 1_000, 10)]), 0);
  });
}

function guardsHold(check: Check): void {
  check('insert fails when the id is taken, and leaves the row that has it', async (store) => {
    await store.write([insert(rowOf('id', { state: 'FIRST' }))]);
    const second = insert(rowOf('id', { state: 'SECOND' }));
    await assertGuardFails(store.write([second]), second);
    assert.equal((await store.get('thing', 'id'))!.state, 'FIRST');
  });

  check('insert fails when the unique name is taken; null is no name and never taken', async (store) => {
    await store.write([insert(rowOf('a', { uniqueName: 'name' })), insert(rowOf('b')), insert(rowOf('c'))]);
    const second = insert(rowOf('d', { uniqueName: 'name', studioId: 'there' }));
    await assertGuardFails(store.write([second]), second);
    await store.write([insert(rowOf('e', { uniqueName: 'Name' })), insert(rowOf('f', { uniqueName: 'name ' }))]);
    assert.deepEqual(ids(await all(store)), ['a', 'b', 'c', 'e', 'f']);
  });

  check('a unique name is free again once its row gives it up or is deleted, even within one batch', async (store) => {
    const [a, b] = [rowOf('a', { uniqueName: 'one' }), rowOf('b', { uniqueName: 'two' })];
    await store.write([insert(a), insert(b)]);
    await store.write([update(next(a, { uniqueName: null })), insert(rowOf('c', { uniqueName: 'one' }))]);
    await store.write([remove(b), insert(rowOf('d', { uniqueName: 'two' }))]);
    const named = async (uniqueName: string) => ids(await store.list({ kind: 'thing', uniqueName, limit: 10 }));
    assert.deepEqual([await named('one'), await named('two')], [['c'], ['d']]);
  });

  check('update replaces the row of the version before, with all that may change', async (store) => {
    const row = rowOf('id');
    await store.write([insert(row)]);
    const changed = next(row, {
      uniqueName: 'name',
      state: 'NEW',
      dueAt: NOW,
      attempts: 2,
      doc: '{"new":true}',
      private: '{"p":1}',
    });
    await store.write([update(changed)]);
    assert.deepEqual({ ...(await store.get('thing', 'id')) }, changed);
    const back = next(changed, { uniqueName: null, dueAt: null, attempts: 0 });
    await store.write([update(back)]);
    assert.deepEqual({ ...(await store.get('thing', 'id')) }, back);
  });

  check(
    'update and delete fail unless the version is the one they expect, and when there is no such row',
    async (store) => {
      const row = rowOf('id', { version: 5 });
      await store.write([insert(row)]);
      for (const version of [1, 4, 5, 7]) {
        const write = update({ ...row, version, state: 'NEW' });
        await assertGuardFails(store.write([write]), write);
      }
      for (const version of [1, 4, 6]) {
        const write = remove(row, version);
        await assertGuardFails(store.write([write]), write);
      }
      for (const write of [
        update(next(rowOf('nothere'))),
        remove(rowOf('nothere')),
        update(next({ ...row, kind: 'other' })),
      ]) {
        await assertGuardFails(store.write([write]), write);
      }
      assert.deepEqual({ ...(await store.get('thing', 'id')) }, row);
    },
  );

  check('a deleted row is gone, and its id may be used again', async (store) => {
    const row = rowOf('id');
    await store.write([insert(row)]);
    await store.get('thing', 'id');
    await store.write([remove(row)]);
    assert.equal(await store.get('thing', 'id'), undefined);
    await store.write([insert({ ...row, state: 'SECOND' })]);
    assert.equal((await store.get('thing', 'id'))!.state, 'SECOND');
  });

  check('require fails unless the row exists in that very state', async (store) => {
    await store.write([insert(rowOf('id'))]);
    assert.equal(await store.write([require('id', 'RESTING')]), 0);
    for (const guard of [
      require('id', 'OTHER'),
      require('id', 'resting'),
      require('nothere', 'RESTING'),
      require('id', 'RESTING', 'other'),
    ]) {
      await assertGuardFails(store.write([guard]), guard);
    }
  });

  check('fewer counts rows of the kind and the studio in any state but one', async (store) => {
    await store.write([
      insert(rowOf('a')),
      insert(rowOf('b', { state: 'OTHER' })),
      insert(rowOf('gone', { state: 'GONE' })),
      insert(rowOf('there', { studioId: 'there' })),
      insert(rowOf('other', { kind: 'other' })),
    ]);
    assert.equal(await store.write([fewer(3)]), 0);
    for (const limit of [0, 1, 2]) await assertGuardFails(store.write([fewer(limit)]), fewer(limit));
    assert.equal(await store.write([fewer(1, { studioId: 'nowhere' })]), 0);
    await assertGuardFails(store.write([fewer(0, { studioId: 'nowhere' })]), fewer(0, { studioId: 'nowhere' }));
  });

  check(
    'fewer counts those of one parent or owner where it is told to, and in none of several states',
    async (store) => {
      await store.write([
        insert(rowOf('a', { parentId: 'p', ownerId: 'o' })),
        insert(rowOf('b', { parentId: 'p', ownerId: 'other' })),
        insert(rowOf('c', { parentId: 'q', ownerId: 'o', state: 'OTHER' })),
        insert(rowOf('d', { parentId: 'p', ownerId: 'o', state: 'GONE' })),
      ]);
      const table: readonly (readonly [object, number])[] = [
        [{ parentId: 'p' }, 2],
        [{ ownerId: 'o' }, 2],
        [{ parentId: 'p', ownerId: 'o' }, 1],
        [{ ownerId: 'o', statesNot: ['GONE', 'OTHER'] }, 1],
        [{ ownerId: 'o', statesNot: [] }, 3],
        [{ parentId: 'none' }, 0],
      ];
      for (const [more, count] of table) {
        assert.equal(await store.write([fewer(count + 1, more)]), 0);
        await assertGuardFails(store.write([fewer(count, more)]), fewer(count, more));
      }
    },
  );
}

function tokensAreRemembered(check: Check): void {
  check('a token is read back as it was remembered', async (store) => {
    const row = tokenOf('key', { digest: 'd', kind: 'k', id: 'i' });
    await store.write([token(row)]);
    assert.deepEqual({ ...(await store.token('key')) }, row);
    assert.equal(await store.token('KEY'), undefined);
  });

  check('a remembered token is kept until it expires; from that moment on it may be taken anew', async (store) => {
    const first = tokenOf('key', { digest: 'first', expiresAt: NOW + 10 });
    const second = tokenOf('key', { digest: 'second', kind: 'k2', id: 'i2', expiresAt: NOW + 20 });
    await store.write([token(first)]);
    for (const now of [NOW, NOW + 9]) await assertGuardFails(store.write([token(second, now)]), token(second, now));
    assert.deepEqual({ ...(await store.token('key')) }, first);
    await store.write([token(second, NOW + 10)]);
    assert.deepEqual({ ...(await store.token('key')) }, second);
  });

  check('forget removes tokens that have expired, the oldest first, and no more than it is told', async (store) => {
    const expiries = [50, 10, 40, 20, 30];
    await store.write(expiries.map((expiry) => token(tokenOf(`t${expiry}`, { expiresAt: expiry }), 0)));
    const left = async () => {
      const found = await Promise.all(expiries.map((expiry) => store.token(`t${expiry}`)));
      return found.flatMap((row) => (row ? [row.expiresAt] : [])).sort((a, b) => a - b);
    };
    assert.equal(await store.write([forget(9, 10)]), 0);
    assert.equal(await store.write([forget(40, 2)]), 2);
    assert.deepEqual(await left(), [30, 40, 50]);
    assert.equal(await store.write([forget(40, 10)]), 2);
    assert.deepEqual(await left(), [50]);
  });
}

function batchesAreWhole(check: Check): void {
  /** Writes that fail in the world of the test below. */
  const failing: [string, Write][] = [
    ['an insert of a taken id', insert(rowOf('there', { state: 'X' }))],
    ['an insert of a taken name', insert(rowOf('new', { uniqueName: 'taken' }))],
    ['an update of another version', update(rowOf('there', { version: 9 }))],
    ['a delete of another version', remove(rowOf('there'), 9)],
    ['a require of another state', require('there', 'OTHER')],
    ['a fewer of what is full', fewer(1)],
    ['a token that is remembered', token(tokenOf('taken'))],
  ];
  for (const [what, guard] of failing) {
    check(`${what} undoes its whole batch, wherever in it it stands`, async (store) => {
      const [there, victim] = [rowOf('there', { uniqueName: 'taken' }), rowOf('victim')];
      await store.write([
        insert(there),
        insert(victim),
        token(tokenOf('taken')),
        token(tokenOf('old', { expiresAt: 1 }), 0),
      ]);
      const before = JSON.stringify(await all(store));
      const changes: Write[] = [
        insert(rowOf('a', { studioId: 'elsewhere' })),
        update(next(victim, { state: 'CHANGED' })),
        token(tokenOf('fresh')),
        forget(NOW, 10),
      ];
      const batches = [
        [guard],
        ...changes.flatMap((change) => [
          [change, guard],
          [guard, change],
        ]),
        [...changes, guard],
        [guard, ...changes],
        [changes[0]!, changes[1]!, guard, changes[2]!, changes[3]!],
        [remove(victim), guard],
      ];
      for (const batch of batches) {
        await assertGuardFails(store.write(batch), guard);
        assert.equal(JSON.stringify(await all(store)), before);
        assert.deepEqual({ ...(await store.get('thing', 'victim')) }, victim);
        assert.equal(await store.get('thing', 'a'), undefined);
        assert.equal(await store.token('fresh'), undefined);
        assert.equal((await store.token('old'))?.expiresAt, 1);
      }
    });
  }

  check('a batch whose guard fails does not disturb the others of the same turn', async (store) => {
    await store.write([insert(rowOf('taken'))]);
    for (const position of [0, 1, 2]) {
      const batches: Write[][] = [0, 1].map((index) => [
        insert(rowOf(`fine ${position} ${index}`)),
        token(tokenOf(`fine ${position} ${index}`)),
      ]);
      batches.splice(position, 0, [
        insert(rowOf(`never ${position}`)),
        token(tokenOf(`never ${position}`)),
        insert(rowOf('taken')),
      ]);
      const outcomes = await Promise.allSettled(batches.map((batch) => store.write(batch)));
      assert.deepEqual(
        outcomes.map(({ status }) => status === 'fulfilled'),
        [0, 1, 2].map((index) => index !== position),
      );
      for (const index of [0, 1]) {
        assert.ok(await store.get('thing', `fine ${position} ${index}`));
        assert.ok(await store.token(`fine ${position} ${index}`));
      }
      assert.equal(await store.get('thing', `never ${position}`), undefined);
      assert.equal(await store.token(`never ${position}`), undefined);
    }
  });

  check('a batch sees its own earlier writes', async (store) => {
    const row = rowOf('a');
    await store.write([insert(row), require('a', 'RESTING'), update(next(row, { state: 'NEW' })), require('a', 'NEW')]);
    assert.equal((await store.get('thing', 'a'))!.state, 'NEW');
    const guard = fewer(2);
    await assertGuardFails(store.write([insert(rowOf('b')), guard]), guard);
    await store.write([insert(rowOf('b')), remove(rowOf('b')), guard]);
    assert.deepEqual(ids(await all(store)), ['a']);
  });

  check('batches of one turn are done one after another in the order they were given', async (store) => {
    const row = rowOf('a');
    const states = await Promise.allSettled([
      store.write([insert(row)]),
      store.write([update(next(row, { state: 'FIRST' }))]),
      store.write([update(next(row, { state: 'SECOND' }))]),
      store.write([update({ ...row, version: 3, state: 'THIRD' })]),
    ]);
    assert.deepEqual(
      states.map(({ status }) => status),
      ['fulfilled', 'fulfilled', 'rejected', 'fulfilled'],
    );
    assert.equal((await store.get('thing', 'a'))!.state, 'THIRD');
  });

  check('a bound holds among a thousand batches of one turn', async (store) => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 1_000 }, (_, index) => store.write([fewer(10), insert(rowOf(`row ${index}`))])),
    );
    assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 10);
    assert.equal((await all(store)).length, 10);
  });

  check('of many clients that take one name, one id or one token at once, one has it', async (_store, place) => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => place.open()));
    const contests: ((index: number) => Write)[] = [
      (index) => insert(rowOf(`named ${index}`, { uniqueName: 'name' })),
      (index) => insert(rowOf('id', { state: `${index}` })),
      (index) => token(tokenOf('token', { digest: `${index}` })),
    ];
    for (const contest of contests) {
      const outcomes = await Promise.allSettled(clients.map((client, index) => client.write([contest(index)])));
      assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    }
  });
}

function readsAreFresh(check: Check): void {
  check('what is acknowledged is read by every other client, whatever it had read before', async (store, place) => {
    const other = await place.open();
    const look = async (client: Store) => ({
      row: await client.get('thing', 'a'),
      list: ids(await all(client)),
      due: ids(await client.list({ kind: 'thing', dueBy: NOW, limit: 10 })),
      count: await client.count({ kind: 'thing', limit: 10 }),
      token: (await client.token('key'))?.digest,
    });
    const row = rowOf('a', { dueAt: NOW });
    const steps: (() => Promise<unknown>)[] = [
      () => store.write([insert(row), token(tokenOf('key'))]),
      () => store.write([update(next(row, { state: 'NEW' }))]),
      () => store.write([insert(rowOf('b'))]),
      () => store.lease({ kind: 'thing', state: 'NEW', now: NOW, until: NOW + 1, limit: 1 }),
      () => store.write([remove(row, 3), forget(NOW + 1_000, 10)]),
      () => store.write([remove(rowOf('b'))]),
    ];
    let before = JSON.stringify(await look(other));
    for (const step of steps) {
      await look(other);
      await step();
      const [own, others] = [await look(store), await look(other)];
      assert.deepEqual(others, own);
      assert.notEqual(JSON.stringify(others), before);
      before = JSON.stringify(others);
    }
  });

  check('a client reads its own acknowledged writes, whatever it had read before', async (store) => {
    const row = rowOf('a');
    for (let version = 1; version <= 5; version += 1) {
      const written = { ...row, version, state: `S${version}` };
      await store.write([version === 1 ? insert(written) : update(written)]);
      assert.deepEqual({ ...(await store.get('thing', 'a')) }, written);
      assert.deepEqual(
        (await all(store)).map((found) => ({ ...found })),
        [written],
      );
      assert.equal(await store.count({ kind: 'thing', state: `S${version}`, limit: 10 }), 1);
    }
  });

  check('a write that fails leaves what was read before as it was', async (store) => {
    const row = rowOf('a');
    await store.write([insert(row)]);
    const held = await store.get('thing', 'a');
    const heldList = await all(store);
    await Promise.allSettled([
      store.write([update(next(row, { state: 'NEW' })), require('nothere', 'S')]),
      store.write([remove(row), require('nothere', 'S')]),
    ]);
    assert.deepEqual({ ...(await store.get('thing', 'a')) }, row);
    assert.deepEqual(
      (await all(store)).map((found) => ({ ...found })),
      [row],
    );
    await store.write([update(next(row, { state: 'NEW' }))]);
    assert.deepEqual({ ...held }, row);
    assert.deepEqual(ids(heldList), ['a']);
  });

  check('nothing of a batch is seen before all of it is acknowledged', async (store, place) => {
    const other = await place.open();
    const written = store.write([insert(rowOf('a')), insert(rowOf('b'))]);
    const seen: number[] = [];
    let done = false;
    const watching = (async () => {
      while (!done) {
        seen.push((await all(other)).length, (await all(store)).length);
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await written;
    done = true;
    await watching;
    assert.deepEqual(
      seen.filter((count) => count !== 0 && count !== 2),
      [],
    );
  });
}

function listsAreInOrder(check: Check): void {
  check('rows are listed by creation, ties by the bytes of the id', async (store) => {
    const order = ['-', '0', 'A', 'Z', '_', 'a', 'aa', 'z', 'é'];
    await store.write([
      ...[...order].reverse().map((id) => insert(rowOf(id))),
      insert(rowOf('earlier', { createdAt: NOW - 1 })),
      insert(rowOf('0later', { createdAt: NOW + 1 })),
    ]);
    assert.deepEqual(ids(await all(store)), ['earlier', ...order, '0later']);
  });

  check('a page continues behind a position, even when the row at it is gone', async (store) => {
    const rows = ['a', 'b', 'c', 'd'].map((id) => rowOf(id));
    await store.write(rows.map(insert));
    const page = async (after?: { createdAt: number; id: string }) =>
      ids(await store.list({ kind: 'thing', limit: 2, ...(after && { after }) }));
    assert.deepEqual(await page(), ['a', 'b']);
    assert.deepEqual(await page({ createdAt: NOW, id: 'b' }), ['c', 'd']);
    await store.write([remove(rows[1]!)]);
    assert.deepEqual(await page({ createdAt: NOW, id: 'b' }), ['c', 'd']);
    assert.deepEqual(await page({ createdAt: NOW - 1, id: 'z' }), ['a', 'c']);
    assert.deepEqual(await page({ createdAt: NOW, id: 'd' }), []);
  });

  check('every filter, alone and together, gives what a plain search gives, page by page', async (store) => {
    const random = createRandom('lists');
    const rows: Row[] = [];
    for (let index = 0; index < 300; index += 1) {
      rows.push(
        rowOf(`row ${random.below(1_000_000)} ${index}`, {
          kind: random.pick(['thing', 'other']),
          studioId: random.pick(['here', 'there', 'amazon']),
          state: random.pick(['A', 'B', 'C']),
          createdAt: NOW + random.below(20),
          dueAt: random.chance(0.5) ? NOW + random.below(5) : null,
          uniqueName: random.chance(0.3) ? `name ${index}` : null,
          parentId: random.pick([null, 'mother', 'father']),
          ownerId: random.pick([null, 'ada', 'bo']),
        }),
      );
    }
    await store.write(rows.map(insert));
    const names = rows.flatMap(({ uniqueName }) => (uniqueName === null ? [] : [uniqueName]));
    for (let round = 0; round < 150; round += 1) {
      const query = {
        kind: random.pick(['thing', 'other']),
        ...(random.chance(0.6) && {
          studioIds: random.pick([['here'], ['here', 'amazon'], ['amazon', 'there'], ['nowhere']]),
        }),
        ...(random.chance(0.2) && { uniqueName: random.pick(names) }),
        ...(random.chance(0.3) && { parentId: random.pick(['mother', 'nobody']) }),
        ...(random.chance(0.3) && { ownerId: random.pick(['ada', 'nobody']) }),
        ...(random.chance(0.3) && { state: random.pick(['A', 'B']) }),
        ...(random.chance(0.3) && { stateNot: random.pick(['A', 'C']) }),
        ...(random.chance(0.3) && { dueBy: NOW + random.below(5) }),
      };
      const expected = rows.filter((row) => matches(row, query)).sort(inOrder);
      const limit = 1 + random.below(40);
      const found: Row[] = [];
      for (;;) {
        const last = found.at(-1);
        const page = await store.list({
          ...query,
          limit,
          ...(last && { after: { createdAt: last.createdAt, id: last.id } }),
        });
        assert.ok(page.length <= limit);
        found.push(...page);
        if (page.length < limit) break;
      }
      assert.deepEqual(ids(found), ids(expected), JSON.stringify(query));
      assert.equal(await store.count({ ...query, limit }), Math.min(limit, expected.length), JSON.stringify(query));
    }
  });
}

function matches(row: Row, query: Omit<ListQuery, 'limit'>): boolean {
  return (
    row.kind === query.kind &&
    (query.studioIds === undefined || query.studioIds.includes(row.studioId)) &&
    (query.parentId === undefined || row.parentId === query.parentId) &&
    (query.ownerId === undefined || row.ownerId === query.ownerId) &&
    (query.uniqueName === undefined || row.uniqueName === query.uniqueName) &&
    (query.state === undefined || row.state === query.state) &&
    (query.stateNot === undefined || row.state !== query.stateNot) &&
    (query.dueBy === undefined || (row.dueAt !== null && row.dueAt <= query.dueBy))
  );
}

function inOrder(a: Row, b: Row): number {
  return a.createdAt - b.createdAt || Buffer.compare(Buffer.from(a.id), Buffer.from(b.id));
}

function leasesFence(check: Check): void {
  const due = (id: string, dueAt: number | null, more: Partial<Row> = {}) =>
    rowOf(id, { state: 'WORK', dueAt, ...more });
  const lease = (store: Store, more: object = {}) =>
    store.lease({ kind: 'thing', state: 'WORK', now: NOW, until: NOW + 100, limit: 10, ...more });

  check('a lease takes rows of the kind and state that are due, and no others', async (store) => {
    await store.write(
      [
        due('past', NOW - 1),
        due('now', NOW),
        due('future', NOW + 1),
        due('rest', null),
        due('state', NOW, { state: 'OTHER' }),
        due('kind', NOW, { kind: 'other' }),
        due('now', NOW, { kind: 'other' }),
      ].map(insert),
    );
    const leased = await lease(store);
    assert.deepEqual(ids(leased).sort(), ['now', 'past']);
    const changed = [...(await all(store)), ...(await all(store, 'other'))].filter(({ version }) => version > 1);
    assert.deepEqual(
      changed.map(({ kind, id }) => `${kind} ${id}`),
      ['thing now', 'thing past'],
    );
  });

  check('a leased row is one version and one attempt further, and due when the lease ends', async (store) => {
    const row = due('a', NOW - 5, { version: 4, attempts: 2, studioId: 'there', uniqueName: 'n', private: '{"a":1}' });
    await store.write([insert(row)]);
    await store.get('thing', 'a');
    const [leased] = await lease(store);
    assert.deepEqual({ ...leased }, { ...row, version: 5, attempts: 3, dueAt: NOW + 100 });
    assert.deepEqual({ ...(await store.get('thing', 'a')) }, { ...leased });
  });

  check('rows that have been due the longest are leased first, and never more than asked for', async (store) => {
    const order = [5, 3, 9, 1, 7];
    await store.write(order.map((age) => insert(due(`age ${age}`, NOW - age))));
    assert.deepEqual(ids(await lease(store, { limit: 2 })).sort(), ['age 7', 'age 9']);
    assert.deepEqual(ids(await lease(store, { limit: 1 })), ['age 5']);
    assert.deepEqual(ids(await lease(store, { limit: 0 })), []);
    assert.deepEqual(ids(await lease(store)).sort(), ['age 1', 'age 3']);
  });

  check('a leased row is nobody else’s until the lease ends, then anyone’s', async (store, place) => {
    const other = await place.open();
    await store.write([insert(due('a', NOW))]);
    assert.equal((await lease(store)).length, 1);
    assert.deepEqual(await lease(other), []);
    assert.deepEqual(await lease(store, { now: NOW + 99 }), []);
    const [again] = await lease(other, { now: NOW + 100, until: NOW + 200 });
    assert.deepEqual([again?.version, again?.attempts], [3, 2]);
  });

  check('who held the row before the lease can no longer write it; who holds the lease can', async (store, place) => {
    const other = await place.open();
    await store.write([insert(due('a', NOW))]);
    const [first] = await lease(store);
    const [second] = await lease(other, { now: NOW + 100, until: NOW + 200 });
    for (const stale of [due('a', NOW), first!]) {
      for (const write of [update(next(stale, { state: 'DONE' })), remove(stale)]) {
        await assertGuardFails(store.write([write]), write);
      }
    }
    await other.write([update(next(second!, { state: 'DONE', dueAt: null }))]);
    assert.equal((await store.get('thing', 'a'))!.state, 'DONE');
  });

  check('eight clients that lease four hundred rows at once lease each row once', async (store, place) => {
    await store.write(Array.from({ length: 400 }, (_, index) => insert(due(`row ${index}`, NOW - (index % 7)))));
    const clients = await Promise.all(Array.from({ length: 8 }, () => place.open()));
    const leased = await Promise.all(
      clients.map(async (client) => {
        const own: string[] = [];
        for (let rows = await lease(client, { limit: 7 }); rows.length > 0; rows = await lease(client, { limit: 7 })) {
          own.push(...ids(rows));
        }
        return own;
      }),
    );
    const flat = leased.flat();
    assert.equal(flat.length, 400);
    assert.equal(new Set(flat).size, 400);
    for (const row of await all(store)) assert.deepEqual([row.version, row.attempts], [2, 1]);
  });
}

function closingKeeps(check: Check): void {
  check('closing writes what was given before it, and takes nothing after', async (store, place) => {
    const written = [store.write([insert(rowOf('a'))]), store.write([insert(rowOf('b'))])];
    await store.close();
    await Promise.all(written);
    await assert.rejects(store.write([insert(rowOf('c'))]));
    await assert.rejects(store.lease({ kind: 'thing', state: 'S', now: NOW, until: NOW, limit: 1 }));
    await store.close();
    assert.deepEqual(ids(await all(await place.open())), ['a', 'b']);
  });

  check('a client that opens later finds everything', async (store, place) => {
    await store.write([insert(rowOf('a')), token(tokenOf('key'))]);
    await store.close();
    const later = await place.open();
    assert.deepEqual({ ...(await later.get('thing', 'a')) }, rowOf('a'));
    assert.deepEqual({ ...(await later.token('key')) }, tokenOf('key'));
  });
}

const lineOf = (id: string, more: Partial<AuditLine> = {}): AuditLine => ({
  at: NOW,
  id,
  principalId: 'AIDAONE',
  accessKeyId: 'AKIAONE',
  operation: 'UpdateThing',
  studioId: 'here',
  resourceId: 'thing',
  outcome: 'ok',
  doc: '{}',
  ...more,
});
const audit = (line: AuditLine): Write => ({ op: 'audit', line });

function auditIsKept(check: Check): void {
  const written = async (store: Store, query: object = {}) =>
    (await store.audit({ limit: 100, ...query })).map(({ id }) => id);

  check('a line of the audit is read back as it was written, and stays as it is', async (store) => {
    const line = lineOf('a', {
      doc: JSON.stringify({ text: '🎬 \u0000 é "' }),
      resourceId: "quote ' %_",
      studioId: '',
    });
    assert.equal(await store.write([audit(line)]), 0);
    assert.deepEqual(await store.audit({ limit: 10 }), [line]);
    assert.equal(await store.write([audit({ ...line, outcome: 'another' })]), 0);
    assert.deepEqual(await store.audit({ limit: 10 }), [line]);
  });

  check('lines are listed newest first, by position, and no more than asked for', async (store) => {
    const lines = [3, 1, 2, 2].map((at, index) => lineOf(`line${index}`, { at: NOW + at }));
    await store.write(lines.map(audit));
    assert.deepEqual(await written(store), ['line0', 'line3', 'line2', 'line1']);
    assert.deepEqual(await written(store, { limit: 2 }), ['line0', 'line3']);
    assert.deepEqual(await written(store, { before: lines[3], limit: 2 }), ['line2', 'line1']);
    assert.deepEqual(await written(store, { before: lines[1] }), []);
  });

  check('lines are filtered by each of their columns, alone and together', async (store) => {
    const lines = [
      lineOf('a'),
      lineOf('b', { principalId: 'AIDATWO', accessKeyId: 'AKIATWO', at: NOW + 1 }),
      lineOf('c', { operation: 'DeleteThing', at: NOW + 2 }),
      lineOf('d', { resourceId: 'other', studioId: 'there', at: NOW + 3 }),
      lineOf('e', { outcome: 'refused', at: NOW + 4 }),
    ];
    await store.write(lines.map(audit));
    const cases: [object, string][] = [
      [{}, 'edcba'],
      [{ principal: 'AIDATWO' }, 'b'],
      [{ principal: 'AKIATWO' }, 'b'],
      [{ principal: 'nobody' }, ''],
      [{ operation: 'DeleteThing' }, 'c'],
      [{ resource: 'other' }, 'd'],
      [{ resource: 'there' }, 'd'],
      [{ resource: 'here' }, 'ecba'],
      [{ outcome: 'refused' }, 'e'],
      [{ since: NOW + 3 }, 'ed'],
      [{ until: NOW + 3 }, 'cba'],
      [{ since: NOW + 1, until: NOW + 4, principal: 'AKIAONE', outcome: 'ok', resource: 'thing' }, 'c'],
    ];
    for (const [query, expected] of cases) {
      assert.equal((await written(store, query)).join(''), expected, JSON.stringify(query));
    }
  });

  check('a line is written with its change or not at all, wherever it stands in the batch', async (store, place) => {
    const row = rowOf('a');
    await store.write([insert(row)]);
    for (const batch of [
      [update(next(row, { version: 7 })), audit(lineOf('late'))],
      [audit(lineOf('early')), update(next(row, { version: 7 }))],
      [update(next(row)), audit(lineOf('between')), require('nothing', 'S')],
      [update(next(row)), require('nothing', 'S'), audit(lineOf('last'))],
    ]) {
      await assert.rejects(store.write(batch), GuardFailed);
    }
    assert.deepEqual(await written(store), []);
    assert.equal(await store.write([update(next(row)), token(tokenOf('k')), audit(lineOf('done'))]), 2);
    assert.deepEqual(await written(await place.open()), ['done']);
  });

  check(
    'lines of one batch that fail leave those of others alone, which were written at the same time',
    async (store) => {
      const row = rowOf('a');
      const outcomes = await Promise.allSettled([
        store.write([insert(row), audit(lineOf('first'))]),
        store.write([insert(row), audit(lineOf('second'))]),
        store.write([audit(lineOf('third'))]),
      ]);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['fulfilled', 'rejected', 'fulfilled'],
      );
      assert.deepEqual((await written(store)).sort(), ['first', 'third']);
    },
  );

  check('old lines are forgotten oldest first, no more than asked for, and it is said how many', async (store) => {
    await store.write([5, 3, 1, 4, 2].map((at) => audit(lineOf(`line${at}`, { at: NOW + at }))));
    const forgetLines = (before: number, limit: number) => store.write([{ op: 'forgetAudit', before, limit }]);
    assert.equal(await forgetLines(NOW + 1, 10), 0);
    assert.equal(await forgetLines(NOW + 4, 2), 2);
    assert.deepEqual(await written(store), ['line5', 'line4', 'line3']);
    assert.equal(await forgetLines(NOW + 4, 2), 1);
    assert.deepEqual(await written(store), ['line5', 'line4']);
  });
}
