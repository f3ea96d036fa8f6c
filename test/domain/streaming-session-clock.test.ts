/** How long sessions run and stay stopped: every combination of what a launch profile can say about it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import {
  endOfTime,
  limitWhenReady,
  limitWhenStopped,
  mayStop,
  timeLimitsOf,
} from '../../src/domain/streaming-session-clock.ts';

const NOW = Date.UTC(2026, 0, 1);
const AFTER_690 = '2026-01-01T11:30:00Z';
const AFTER_60 = '2026-01-01T01:00:00Z';

type Modes = Pick<
  StreamConfiguration,
  'sessionPersistenceMode' | 'automaticTerminationMode' | 'maxStoppedSessionLengthInMinutes'
>;

/** What is said; minutes that a session may be stopped; when one that became READY or STOPPED at midnight ends. */
const TABLE: readonly (readonly [
  Modes,
  stoppedMinutes: number | null,
  ready: { stopAt: string } | { terminateAt: string },
  stopped: string | undefined,
])[] = [
  [{}, 0, { terminateAt: AFTER_690 }, '2026-01-01T00:00:00Z'],
  [{ maxStoppedSessionLengthInMinutes: 0 }, 0, { terminateAt: AFTER_690 }, '2026-01-01T00:00:00Z'],
  [{ maxStoppedSessionLengthInMinutes: 60 }, 60, { stopAt: AFTER_690 }, AFTER_60],
  [{ sessionPersistenceMode: 'DEACTIVATED' }, 0, { terminateAt: AFTER_690 }, '2026-01-01T00:00:00Z'],
  [
    { sessionPersistenceMode: 'DEACTIVATED', automaticTerminationMode: 'DEACTIVATED' },
    0,
    { terminateAt: AFTER_690 },
    '2026-01-01T00:00:00Z',
  ],
  [
    { sessionPersistenceMode: 'DEACTIVATED', maxStoppedSessionLengthInMinutes: 60 },
    60,
    { stopAt: AFTER_690 },
    AFTER_60,
  ],
  [{ sessionPersistenceMode: 'ACTIVATED' }, null, { stopAt: AFTER_690 }, undefined],
  [
    { sessionPersistenceMode: 'ACTIVATED', maxStoppedSessionLengthInMinutes: 60 },
    null,
    { stopAt: AFTER_690 },
    undefined,
  ],
  [
    { sessionPersistenceMode: 'ACTIVATED', automaticTerminationMode: 'DEACTIVATED' },
    null,
    { stopAt: AFTER_690 },
    undefined,
  ],
  [
    {
      sessionPersistenceMode: 'ACTIVATED',
      automaticTerminationMode: 'ACTIVATED',
      maxStoppedSessionLengthInMinutes: 60,
    },
    60,
    { stopAt: AFTER_690 },
    AFTER_60,
  ],
  // It could be stopped for no time at all, so it cannot be stopped.
  [
    { sessionPersistenceMode: 'ACTIVATED', automaticTerminationMode: 'ACTIVATED' },
    0,
    { terminateAt: AFTER_690 },
    '2026-01-01T00:00:00Z',
  ],
];

for (const [modes, stoppedMinutes, ready, terminateAt] of TABLE) {
  test(`limits of ${JSON.stringify(modes)}`, () => {
    const limits = timeLimitsOf({ clipboardMode: 'ENABLED', ec2InstanceTypes: [], streamingImageIds: [], ...modes });
    assert.deepEqual(limits, { readyMinutes: 690, stoppedMinutes });
    assert.equal(mayStop(limits), stoppedMinutes !== 0);
    const whenReady = limitWhenReady(limits, NOW);
    assert.deepEqual(whenReady.changes, { stopAt: undefined, terminateAt: undefined, ...ready });
    assert.equal(whenReady.dueAt, NOW + 690 * 60_000);
    assert.equal(endOfTime(whenReady.changes), 'stopAt' in ready ? 'stop' : 'delete');
    const whenStopped = limitWhenStopped(limits, NOW);
    assert.deepEqual(whenStopped.changes, { stopAt: undefined, terminateAt });
    assert.equal(whenStopped.dueAt, stoppedMinutes === null ? null : NOW + stoppedMinutes * 60_000);
    assert.equal(endOfTime(whenStopped.changes), 'delete');
  });
}

test('a session runs for as long as its profile says, to the millisecond, and shows whole seconds', () => {
  const now = NOW + 999;
  const { dueAt, changes } = limitWhenReady({ readyMinutes: 1, stoppedMinutes: null }, now);
  assert.equal(dueAt, now + 60_000);
  assert.equal(changes.stopAt, '2026-01-01T00:01:00Z');
});
