/**
 * The worker itself, on a lifecycle made for this test: what becomes of a row when its work succeeds, fails, hangs, is
 * stopped, dies or is overtaken. Time stands still until a test moves it, and so do the renewals of leases.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServiceError } from '../../src/errors.ts';
import type { Row } from '../../src/store/store.ts';
import { ATTEMPTS_MAX, type Job } from '../../src/worker/worker.ts';
import { until } from '../support/until.ts';
import { createBench, DONE, failing, heldWork, jobOf, LEASE_MS, Passing, RENEWAL_MS } from './bench.ts';

const neverRun = async () => assert.fail('worked on');
const neverCleaned = async () => assert.fail('removed what was made');
const storeFails = async () => {
  throw new ServiceError('InternalServerErrorException', 'full');
};

test('what a row asks for is done once, and its outcome is written as one event', async (t) => {
  const { workerOf, put, row } = createBench(t);
  await put('a');
  const seen: Row[] = [];
  const worker = workerOf(
    jobOf(async (leased) => {
      seen.push(leased);
      return { event: { type: 'done', changes: { result: 1 }, privateChanges: { secret: 2 } } };
    }),
  );
  assert.equal(await worker.runOnce(), 1);
  assert.equal(await worker.runOnce(), 0);
  assert.deepEqual(
    seen.map(({ id, version, attempts }) => ({ id, version, attempts })),
    [{ id: 'a', version: 2, attempts: 1 }],
  );
  const { state, version, dueAt, attempts, doc, private: secret } = (await row('a'))!;
  assert.deepEqual({ state, version, dueAt, attempts }, { state: 'DONE', version: 3, dueAt: null, attempts: 0 });
  assert.equal(doc, '{"id":"a","state":"DONE","statusCode":"DONE","statusMessage":"done","result":1}');
  assert.equal(secret, '{"secret":2}');
});

test("rows whose work has come to be another server's are given back as they were, and not leased again", async (t) => {
  const { workerOf, put, row } = createBench(t);
  let isHere = true;
  let asked = 0;
  const isOurs = async () => {
    asked += 1;
    return isHere;
  };
  const shared = jobOf(async () => DONE, { isOurs });
  const worker = workerOf([shared, { ...shared, state: 'OTHER' }, { ...jobOf(async () => DONE), state: 'WORKING' }]);
  assert.deepEqual([await worker.runOnce(), asked], [0, 0]);
  await put('a');
  assert.deepEqual([await worker.runOnce(), asked, (await row('a'))!.state], [1, 1, 'DONE']);
  isHere = false;
  await put('b', { state: 'OTHER' });
  const { version: _, ...before } = (await row('b'))!;
  for (const _ of [1, 2]) assert.deepEqual([await worker.runOnce(), asked], [0, 2]);
  const { version, ...after } = (await row('b'))!;
  assert.deepEqual([after, version], [before, 3]);
  // What nobody else can come to do goes on.
  await put('c');
  assert.deepEqual([await worker.runOnce(), asked, (await row('c'))!.state], [1, 2, 'DONE']);
});

test('rows at rest, of another time, state or kind are left alone', async (t) => {
  const { workerOf, put, clock, database } = createBench(t);
  await put('resting', { dueAt: null });
  await put('later', { dueAt: clock.now() + 1 });
  await put('other', { state: 'OTHER' });
  await put('stranger', { kind: 'stranger' });
  assert.equal(await workerOf(jobOf(neverRun)).runOnce(), 0);
  clock.advance(1);
  assert.equal(await workerOf(jobOf(async () => DONE)).runOnce(), 1);
  assert.equal(await database.count({ kind: 'thing', state: 'DONE', limit: 10 }), 1);
});

test('a purge deletes the row', async (t) => {
  const { workerOf, put, row } = createBench(t);
  await put('a');
  await workerOf(jobOf(async () => ({ purge: true }))).runOnce();
  assert.equal(await row('a'), undefined);
});

test('each move is told, with kind and state', async (t) => {
  const { workerOf, put } = createBench(t);
  await put('a');
  await put('b');
  const moves: string[] = [];
  const run: Job['run'] = async ({ id }) => (id === 'a' ? DONE : failing(new Error('for good'))());
  await workerOf(jobOf(run), { moved: ({ kind, state }) => moves.push(`${kind} ${state}`) }).runOnce();
  assert.deepEqual(moves.sort(), ['thing DONE', 'thing FAILED']);
});

test('a failure that will not pass is written at once, with the reason', async (t) => {
  const { workerOf, put, row, message } = createBench(t);
  await put('a');
  const worker = workerOf(jobOf(failing(new Error('for good'))));
  assert.equal(await worker.runOnce(), 1);
  assert.equal(await worker.runOnce(), 0);
  const { state, dueAt, attempts, version } = (await row('a'))!;
  assert.deepEqual({ state, dueAt, attempts, version }, { state: 'FAILED', dueAt: null, attempts: 0, version: 3 });
  assert.equal(await message('a'), 'for good');
});

for (const [title, random, share] of [
  ['at the earliest', () => 0, 0.5],
  ['at the latest', () => 1 - Number.EPSILON, 1],
] as const) {
  test(`a failure that may pass is tried again, each time twice as late, and given up in the end: ${title}`, async (t) => {
    const { workerOf, put, row, clock, message } = createBench(t);
    await put('a');
    let runs = 0;
    const run: Job['run'] = () => {
      runs += 1;
      return failing(new Passing(`failure ${runs}`))();
    };
    const worker = workerOf(jobOf(run), { random });
    for (let attempt = 1; attempt < ATTEMPTS_MAX; attempt += 1) {
      assert.equal(await worker.runOnce(), 1);
      const { state, attempts, dueAt } = (await row('a'))!;
      assert.deepEqual({ state, attempts }, { state: 'WORKING', attempts: attempt });
      const wait = dueAt! - clock.now();
      assert.equal(wait, share * 1_000 * 2 ** (attempt - 1));
      clock.advance(wait - 1);
      assert.equal(await worker.runOnce(), 0);
      clock.advance(1);
    }
    assert.equal(await worker.runOnce(), 1);
    assert.equal((await row('a'))!.state, 'FAILED');
    assert.equal(await message('a'), `failure ${ATTEMPTS_MAX}`);
    assert.equal(runs, ATTEMPTS_MAX);
  });
}

test('work that succeeds after failures leaves no trace of them', async (t) => {
  const { workerOf, put, row, clock } = createBench(t);
  await put('a');
  let runs = 0;
  const worker = workerOf(
    jobOf(async () => {
      runs += 1;
      return runs < ATTEMPTS_MAX ? failing(new Passing())() : DONE;
    }),
  );
  while ((await row('a'))!.state === 'WORKING') {
    await worker.runOnce();
    clock.advance(60_000);
  }
  const { state, attempts } = (await row('a'))!;
  assert.deepEqual({ state, attempts, runs }, { state: 'DONE', attempts: 0, runs: ATTEMPTS_MAX });
});

test('work that cannot be given up is tried for ever, never more than a minute apart', async (t) => {
  const { workerOf, put, row, clock, logged } = createBench(t);
  await put('a');
  const { giveUp: _, ...unending } = jobOf(failing(new Error('for good, by the look of it')));
  const worker = workerOf(unending);
  for (let attempt = 1; attempt <= 3 * ATTEMPTS_MAX; attempt += 1) {
    assert.equal(await worker.runOnce(), 1);
    const { state, dueAt, attempts } = (await row('a'))!;
    assert.deepEqual({ state, attempts }, { state: 'WORKING', attempts: attempt });
    assert.ok(dueAt! > clock.now() && dueAt! <= clock.now() + 60_000);
    clock.advance(60_000);
  }
  assert.deepEqual(logged('error'), []);
});

test('a row that killed its process as often as it may be tried is given up without being touched again', async (t) => {
  const { workerOf, put, row, clock, message, leaseAndVanish } = createBench(t);
  await put('a');
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    assert.equal((await leaseAndVanish()).attempts, attempt);
    clock.advance(LEASE_MS);
  }
  const cleaned: string[] = [];
  const cleanUp = async ({ id }: Row) => void cleaned.push(id);
  assert.equal(await workerOf(jobOf(neverRun, { cleanUp })).runOnce(), 1);
  assert.equal((await row('a'))!.state, 'FAILED');
  assert.match(await message('a'), /attempts/);
  assert.deepEqual(cleaned, ['a']);
});

test('a row whose process died is taken up again when its lease ends, and not before', async (t) => {
  const { workerOf, put, row, clock, leaseAndVanish } = createBench(t);
  await put('a');
  await leaseAndVanish();
  const worker = workerOf(jobOf(async () => DONE));
  clock.advance(LEASE_MS - 1);
  assert.equal(await worker.runOnce(), 0);
  clock.advance(1);
  assert.equal(await worker.runOnce(), 1);
  assert.equal((await row('a'))!.state, 'DONE');
});

test('what failed work has made is removed after the failure is written, never before', async (t) => {
  const { workerOf, put, row } = createBench(t);
  await put('a');
  const states: string[] = [];
  const cleanUp = async ({ id }: Row) => void states.push((await row(id))!.state);
  await workerOf(jobOf(failing(new Error('for good')), { cleanUp })).runOnce();
  assert.deepEqual(states, ['FAILED']);
});

test('nothing is removed after a success, or after a failure that may pass', async (t) => {
  const { workerOf, put } = createBench(t);
  await put('a');
  await put('b');
  const run: Job['run'] = async ({ id }) => (id === 'a' ? DONE : failing(new Passing())());
  const cleaned: string[] = [];
  const cleanUp = async ({ id }: Row) => void cleaned.push(id);
  assert.equal(await workerOf(jobOf(run, { cleanUp })).runOnce(), 2);
  assert.deepEqual(cleaned, []);
});

test('a removal that fails leaves the row failed, and is logged', async (t) => {
  const { workerOf, put, row, logged } = createBench(t);
  await put('a');
  const job = jobOf(failing(new Error('for good')), { cleanUp: failing(new Error('cannot remove')) });
  await workerOf(job).runOnce();
  assert.equal((await row('a'))!.state, 'FAILED');
  assert.equal(logged('error').length, 1);
});

test('a lease is renewed for as long as its work runs, and costs no attempt', async (t) => {
  const { workerOf, put, row, pass, clock } = createBench(t);
  await put('a');
  const work = heldWork();
  const ended = workerOf(jobOf(work.run)).runOnce();
  await work.running(1);
  const rival = workerOf(jobOf(neverRun));
  for (let round = 0; round < 10; round += 1) {
    const { version } = (await row('a'))!;
    pass(RENEWAL_MS);
    await until('the lease is renewed', async () => (await row('a'))!.version > version);
    const { dueAt, attempts } = (await row('a'))!;
    assert.ok(dueAt! > clock.now() + RENEWAL_MS);
    assert.equal(attempts, 1);
    assert.equal(await rival.runOnce(), 0);
  }
  work.started[0]!.resolve(DONE);
  await ended;
  assert.equal((await row('a'))!.state, 'DONE');
});

test('progress is shown with the next renewal, the latest only, and the outcome overrides it', async (t) => {
  const { workerOf, put, message, pass, row } = createBench(t);
  await put('a');
  const work = heldWork();
  const ended = workerOf(jobOf(work.run)).runOnce();
  await work.running(1);
  const { context, resolve } = work.started[0]!;
  context.progress({ type: 'progressed', statusMessage: '10 %' });
  context.progress({ type: 'progressed', statusMessage: '20 %' });
  assert.equal(await message('a'), 'begun');
  pass(RENEWAL_MS);
  await until('progress is shown', async () => (await message('a')) === '20 %');
  assert.equal((await row('a'))!.attempts, 1);
  context.progress({ type: 'progressed', statusMessage: '30 %' });
  resolve(DONE);
  await ended;
  assert.equal(await message('a'), 'done');
});

for (const outcome of ['succeeds', 'fails for good', 'fails for now', 'asks for a purge'] as const) {
  test(`work that ${outcome} after another has leased the row is told to stop, and its outcome is dropped`, async (t) => {
    const { workerOf, put, row, pass, clock, leaseAndVanish, logged } = createBench(t);
    await put('a');
    const work = heldWork();
    const ended = workerOf(jobOf(work.deaf, { cleanUp: neverCleaned })).runOnce();
    await work.running(1);
    clock.advance(LEASE_MS);
    const rival = await leaseAndVanish();
    const { context, resolve, reject } = work.started[0]!;
    assert.equal(context.signal.aborted, false);
    pass(RENEWAL_MS);
    await until('the work is told to stop', () => context.signal.aborted);
    if (outcome === 'succeeds') resolve(DONE);
    if (outcome === 'fails for good') reject(new Error('for good'));
    if (outcome === 'fails for now') reject(new Passing());
    if (outcome === 'asks for a purge') resolve({ purge: true });
    await ended;
    assert.deepEqual(await row('a'), rival);
    assert.deepEqual(logged('error'), []);
  });

  test(`work that ${outcome} after another has finished the row changes nothing, even if it was never told`, async (t) => {
    const { workerOf, put, row, clock, logged } = createBench(t);
    await put('a');
    const work = heldWork();
    const ended = workerOf(jobOf(work.deaf, { cleanUp: neverCleaned })).runOnce();
    await work.running(1);
    clock.advance(LEASE_MS);
    await workerOf(jobOf(async () => DONE)).runOnce();
    const finished = await row('a');
    const { resolve, reject } = work.started[0]!;
    if (outcome === 'succeeds') resolve({ event: { type: 'done', changes: { mine: true } } });
    if (outcome === 'fails for good') reject(new Error('for good'));
    if (outcome === 'fails for now') reject(new Passing());
    if (outcome === 'asks for a purge') resolve({ purge: true });
    await ended;
    assert.equal(finished!.state, 'DONE');
    assert.deepEqual(await row('a'), finished);
    assert.deepEqual(logged('error'), []);
  });
}

test('work on a row that is gone by then ends quietly', async (t) => {
  const { workerOf, put, row, database, logged } = createBench(t);
  await put('a');
  const work = heldWork();
  const ended = workerOf(jobOf(work.deaf, { cleanUp: neverCleaned })).runOnce();
  await work.running(1);
  const { version } = (await row('a'))!;
  await database.write([{ op: 'delete', kind: 'thing', id: 'a', version }]);
  work.started[0]!.reject(new Error('for good'));
  await ended;
  assert.equal(await row('a'), undefined);
  assert.deepEqual(logged('error'), []);
});

test('a renewal that the store cannot write does not end the work', async (t) => {
  const { workerOf, put, row, pass, hooks, logged } = createBench(t);
  await put('a');
  const work = heldWork();
  const ended = workerOf(jobOf(work.run)).runOnce();
  await work.running(1);
  hooks.beforeWrite = storeFails;
  pass(RENEWAL_MS);
  await until('the failure is logged', () => logged('warn').length > 0);
  hooks.beforeWrite = async () => undefined;
  assert.equal(work.started[0]!.context.signal.aborted, false);
  pass(RENEWAL_MS);
  work.started[0]!.resolve(DONE);
  await ended;
  assert.equal((await row('a'))!.state, 'DONE');
});

test('an outcome that the store cannot write is found again when the lease ends', async (t) => {
  const { workerOf, put, row, clock, hooks, logged } = createBench(t);
  await put('a');
  const worker = workerOf(jobOf(async () => DONE));
  hooks.beforeWrite = storeFails;
  await worker.runOnce();
  assert.equal((await row('a'))!.state, 'WORKING');
  assert.equal(logged('error').length, 1);
  hooks.beforeWrite = async () => undefined;
  clock.advance(LEASE_MS);
  await worker.runOnce();
  assert.equal((await row('a'))!.state, 'DONE');
});

test('a failure whose writing fails removes nothing', async (t) => {
  const { workerOf, put, row, hooks } = createBench(t);
  await put('a');
  hooks.beforeWrite = storeFails;
  const cleaned: string[] = [];
  const cleanUp = async ({ id }: Row) => void cleaned.push(id);
  await workerOf(jobOf(failing(new Error('for good')), { cleanUp })).runOnce();
  assert.equal((await row('a'))!.state, 'WORKING');
  assert.deepEqual(cleaned, []);
});

test('stop ends what runs and gives its leases back at once, without counting an attempt', async (t) => {
  const { workerOf, put, row, clock } = createBench(t);
  await put('a');
  await put('b', { attempts: 3 });
  const work = heldWork();
  const worker = workerOf(jobOf(work.run, { cleanUp: neverCleaned }));
  const ended = worker.runOnce();
  await work.running(2);
  await worker.stop();
  await ended;
  for (const [id, before] of [
    ['a', 0],
    ['b', 3],
  ] as const) {
    const { state, attempts, dueAt } = (await row(id))!;
    assert.deepEqual({ state, attempts, dueAt }, { state: 'WORKING', attempts: before, dueAt: clock.now() });
  }
  assert.equal(await workerOf(jobOf(async () => DONE)).runOnce(), 2);
  assert.equal((await row('a'))!.state, 'DONE');
});

test('work that ends well in spite of stop keeps its outcome, and stop waits for it', async (t) => {
  const { workerOf, put, row } = createBench(t);
  await put('a');
  const work = heldWork();
  const worker = workerOf(jobOf(work.deaf));
  const ended = worker.runOnce();
  await work.running(1);
  let stopped = false;
  const stopping = worker.stop().then(() => {
    stopped = true;
  });
  await until('the work is told', () => work.started[0]!.context.signal.aborted);
  assert.equal(stopped, false);
  work.started[0]!.resolve(DONE);
  await Promise.all([stopping, ended]);
  assert.equal((await row('a'))!.state, 'DONE');
});

test('after stop nothing is leased any more, not even by a look that had begun before', async (t) => {
  const { workerOf, put, row } = createBench(t);
  await put('a');
  await put('b', { state: 'OTHER' });
  const other = { ...jobOf(neverRun), state: 'OTHER' };
  const worker = workerOf([jobOf(async () => DONE), other]);
  const looking = worker.runOnce();
  await worker.stop();
  await looking;
  worker.wake();
  assert.equal(await worker.runOnce(), 0);
  assert.equal((await row('b'))!.version, 1);
  assert.ok(['DONE', 'WORKING'].includes((await row('a'))!.state));
});

test('no more rows of a job are worked on at once than it allows, and other jobs do not wait for them', async (t) => {
  const { workerOf, put, database } = createBench(t);
  for (let index = 0; index < 7; index += 1) await put(`a${index}`);
  await put('b', { state: 'OTHER' });
  const work = heldWork();
  const worker = workerOf([
    jobOf(work.run, { concurrency: 3 }),
    { ...jobOf(async () => DONE), state: 'OTHER', concurrency: 1 },
  ]);
  void worker.runOnce();
  await work.running(3);
  await until('the other job is done', async () => (await database.get('thing', 'b'))!.state === 'DONE');
  for (let finished = 0; finished < 7; finished += 1) {
    // However often it is asked, a full job takes no more.
    void worker.runOnce();
    void worker.runOnce();
    await work.running(Math.min(7, 3 + finished));
    const leased = await database.list({ kind: 'thing', state: 'WORKING', limit: 10 });
    assert.ok(leased.filter(({ attempts }) => attempts > 0).length <= 3);
    work.started[finished]!.resolve(DONE);
    const done = () => database.count({ kind: 'thing', state: 'DONE', limit: 10 });
    await until('one more is done', async () => (await done()) === finished + 2);
  }
  await worker.stop();
});

test('started, it finds what is due by itself, and what it is woken for long before it would look', async (t) => {
  const { workerOf, put, row, clock } = createBench(t);
  const worker = workerOf(
    jobOf(async () => DONE),
    { pollMs: 3_600_000 },
  );
  await put('a');
  worker.start();
  t.after(() => worker.stop());
  const done = (id: string) => until(`${id} is done`, async () => (await row(id))!.state === 'DONE');
  await done('a');
  for (let round = 0; round < 5; round += 1) {
    await put(`b${round}`);
    worker.wake();
    worker.wake();
    await done(`b${round}`);
  }
  await put('c', { dueAt: clock.now() + 1_000 });
  worker.wake();
  clock.advance(1_000);
  worker.wake();
  await done('c');
});

test('without a wake-up it looks again after a while, even when a look has failed', async (t) => {
  const { workerOf, put, row, database, logged } = createBench(t);
  let failures = 2;
  const store = {
    get: database.get.bind(database),
    list: database.list.bind(database),
    count: database.count.bind(database),
    token: database.token.bind(database),
    audit: database.audit.bind(database),
    write: database.write.bind(database),
    close: database.close.bind(database),
    lease: (query: Parameters<typeof database.lease>[0]) => {
      failures -= 1;
      return failures >= 0 ? storeFails() : database.lease(query);
    },
  };
  const worker = workerOf(
    jobOf(async () => DONE),
    { pollMs: 1, store },
  );
  worker.start();
  t.after(() => worker.stop());
  await put('a');
  await until('the row is done', async () => (await row('a'))!.state === 'DONE');
  assert.equal(logged('error').length, 2);
});

test('when a place becomes free, the next row is taken at once and not at the next look', async (t) => {
  const { workerOf, put, database } = createBench(t);
  for (let index = 0; index < 5; index += 1) await put(`a${index}`);
  const worker = workerOf(
    jobOf(async () => DONE, { concurrency: 1 }),
    { pollMs: 3_600_000 },
  );
  worker.start();
  t.after(() => worker.stop());
  await until('all are done', async () => (await database.count({ kind: 'thing', state: 'DONE', limit: 10 })) === 5);
});
