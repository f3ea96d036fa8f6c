import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { newRow } from '../../src/domain/kinds.ts';
import { GetBatch, type RowKey } from '../../src/store/get-batch.ts';
import type { Row } from '../../src/store/store.ts';

const rowOf = ({ kind, id }: RowKey): Row => newRow({ kind, id, createdAt: 0, doc: '{}' });

/** A database that has every row but those called `none`, and what it was asked. */
function database() {
  const questions: (readonly RowKey[])[] = [];
  const batch = new GetBatch(async (keys) => {
    questions.push(keys);
    return keys.filter(({ id }) => id !== 'none').map(rowOf);
  });
  return { batch, questions };
}

test('what is asked for in one turn is one question, and everybody gets the row asked for', async () => {
  const { batch, questions } = database();
  const rows = await Promise.all([batch.get('studio', 'a'), batch.get('user', 'a'), batch.get('studio', 'b')]);
  assert.deepEqual(
    rows.map((row) => [row?.kind, row?.id]),
    [
      ['studio', 'a'],
      ['user', 'a'],
      ['studio', 'b'],
    ],
  );
  assert.equal(questions.length, 1);
});

test('a row that many ask for is fetched once', async () => {
  const { batch, questions } = database();
  const rows = await Promise.all(Array.from({ length: 64 }, () => batch.get('studio', 'a')));
  assert.ok(rows.every((row) => row?.id === 'a'));
  assert.deepEqual(questions, [[{ kind: 'studio', id: 'a' }]]);
});

test('a row that is not there is undefined, beside others that are', async () => {
  const { batch } = database();
  const [none, some] = await Promise.all([batch.get('studio', 'none'), batch.get('studio', 'a')]);
  assert.equal(none, undefined);
  assert.equal(some?.id, 'a');
});

test('who asks while a question is out gets an answer of his own: it may be newer', async () => {
  const answers: PromiseWithResolvers<readonly Row[]>[] = [];
  const batch = new GetBatch(() => {
    const answer = Promise.withResolvers<readonly Row[]>();
    answers.push(answer);
    return answer.promise;
  });
  const key = { kind: 'studio', id: 'a' };
  const first = batch.get(key.kind, key.id);
  await nextTurn();
  const second = batch.get(key.kind, key.id);
  await nextTurn();
  answers[1]!.resolve([{ ...rowOf(key), version: 2 }]);
  answers[0]!.resolve([{ ...rowOf(key), version: 1 }]);
  assert.deepEqual([(await first)?.version, (await second)?.version], [1, 2]);
});

test('a question that fails fails for everybody in it, and for nobody after', async () => {
  let failing = true;
  const batch = new GetBatch(async (keys) => {
    if (failing) throw new Error('the database is away');
    return keys.map(rowOf);
  });
  const outcomes = await Promise.allSettled([batch.get('studio', 'a'), batch.get('studio', 'b')]);
  assert.deepEqual(
    outcomes.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  failing = false;
  assert.equal((await batch.get('studio', 'a'))?.id, 'a');
});
