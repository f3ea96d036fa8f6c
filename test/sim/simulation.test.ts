/**
 * Seeded users, processes, crashes, failing drivers and a virtual clock, and what must hold in spite of them: no
 * acknowledged write is lost, nothing is done twice, nobody does what they may not, the audit tells of every change, no
 * bytes or keys are destroyed while they are needed or left over when they are not, every row comes to rest.
 * BACKLOT_SEED runs one seed instead of the usual ones.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operations } from '../../src/contract/index.ts';
import { NOBODY, RIGHTS_CHANGES } from './people.ts';
import { type Report, simulate } from './simulation.ts';

const SEEDS = process.env.BACKLOT_SEED ? [process.env.BACKLOT_SEED] : ['1', '2', '3', '4', '5', '6', '7', '8'];
const ACTIONS = 340;
const reports: Report[] = [];

for (const seed of SEEDS) {
  test(`with seed ${seed}, everything holds`, async (t) => {
    t.diagnostic(`BACKLOT_SEED=${seed}`);
    try {
      const report = await simulate(seed, ACTIONS);
      const answered = [...report.answered.values()].reduce((total, count) => total + count, 0);
      t.diagnostic(`${answered} answers, ${report.commits} commits, ${JSON.stringify(report.befell)}`);
      t.diagnostic(`images deleted below sessions: ${JSON.stringify(report.below)}`);
      t.diagnostic(JSON.stringify(Object.fromEntries([...report.told, ...report.rightsChanged])));
      reports.push(report);
    } catch (error) {
      throw new Error(`BACKLOT_SEED=${seed}: ${(error as Error).message}`, { cause: error });
    }
  });
}

test('every operation was answered, and every kind of bad luck befell', () => {
  if (process.env.BACKLOT_SEED) return;
  for (const { name } of operations)
    assert.ok(
      reports.some(({ answered }) => answered.has(name)),
      name,
    );
  for (const { befell, answered } of reports) {
    for (const [what, times] of Object.entries(befell)) assert.ok(times > 0, what);
    // A run whose users get no answers shows nothing.
    const answers = [...answered.values()].reduce((total, count) => total + count, 0);
    assert.ok(answers > befell.calls / 4, `${answers} answers to ${befell.calls} calls`);
  }
});

test('images were deleted below sessions, and went with the last of these', () => {
  if (process.env.BACKLOT_SEED) return;
  for (const what of ['kept', 'released'] as const)
    assert.ok(
      reports.some(({ below }) => below[what] > 0),
      what,
    );
});

test('everybody was answered and refused, but for who has nothing; and every right was changed', () => {
  if (process.env.BACKLOT_SEED) return;
  const total = (count: (report: Report) => number | undefined) =>
    reports.reduce((sum, report) => sum + (count(report) ?? 0), 0);
  for (const called of ['farm', 'archive', 'ann', 'ben', 'cleo']) {
    for (const what of ['answered', 'refused'] as const)
      assert.ok(total(({ told }) => told.get(called)?.[what]) > 10, `${called} was not ${what}`);
  }
  assert.ok(total(({ told }) => told.get('administrator')?.answered) > 0);
  assert.ok(total(({ told }) => told.get(NOBODY)?.refused) > 0);
  assert.equal(
    total(({ told }) => told.get(NOBODY)?.answered),
    0,
  );
  for (const change of RIGHTS_CHANGES) assert.ok(total(({ rightsChanged }) => rightsChanged.get(change)) > 0, change);
});

test('the same seed gives the same run', async () => {
  const [first, second] = [await simulate('again', 15), await simulate('again', 15)];
  assert.equal(second.rest, first.rest);
  assert.deepEqual(second.befell, first.befell);
  assert.equal(second.commits, first.commits);
});
