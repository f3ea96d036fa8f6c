/**
 * What each state of a session, of its backup, and of the studio around them, lets a caller do. The tables are typed out
 * here a second time, so that a slip in the product's own does not pass for a rule.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { moveOf } from '../../src/domain/lifecycle.ts';
import { lifecycleOf } from '../../src/domain/lifecycles.ts';
import { createWorld } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { arnOfBackup, arnOfSession, putBackup, putProfile, putSession, putState } from '../support/rows.ts';

type State = NonNullable<StreamingSession['state']>;

const REQUESTS = [
  'GetStreamingSession',
  'StartStreamingSession',
  'StopStreamingSession',
  'DeleteStreamingSession',
  'CreateStreamingSessionStream',
  'TagResource',
  'UntagResource',
] as const;

const TABLE: Record<State, readonly [number, number, number, number, number, number, number]> = {
  CREATE_IN_PROGRESS: [200, 409, 409, 409, 409, 409, 409],
  READY: [200, 409, 200, 200, 200, 200, 200],
  STOP_IN_PROGRESS: [200, 409, 409, 409, 409, 409, 409],
  STOPPED: [200, 200, 409, 200, 409, 200, 200],
  START_IN_PROGRESS: [200, 409, 409, 409, 409, 409, 409],
  CREATE_FAILED: [200, 409, 409, 200, 409, 200, 200],
  START_FAILED: [200, 200, 409, 200, 409, 200, 200],
  STOP_FAILED: [200, 409, 200, 200, 409, 200, 200],
  DELETE_IN_PROGRESS: [200, 409, 409, 409, 409, 409, 409],
  DELETE_FAILED: [200, 409, 409, 200, 409, 200, 200],
  DELETED: [200, 404, 404, 404, 404, 404, 404],
};

const AFTER: Partial<Record<(typeof REQUESTS)[number], State>> = {
  StartStreamingSession: 'START_IN_PROGRESS',
  StopStreamingSession: 'STOP_IN_PROGRESS',
  DeleteStreamingSession: 'DELETE_IN_PROGRESS',
};

for (const [state, expected] of Object.entries(TABLE) as [State, readonly number[]][]) {
  for (const [index, request] of REQUESTS.entries()) {
    test(`${request} of a session in ${state} is ${expected[index]}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const launchProfileId = await putProfile(world, studioId);
      const sessionId = await putSession(world, studioId, { launchProfileId, state, tags: { old: '1' } });
      const before = await world.store.get(KIND.streamingSession, sessionId);
      const resourceArn = arnOfSession(sessionId);
      const input = { studioId, sessionId, resourceArn, tags: { a: '1' }, tagKeys: ['old'] };
      assert.equal(await statusOf(world.call(request, input)), expected[index]);
      const after = (await world.store.get(KIND.streamingSession, sessionId))!;
      if (/^Get|Stream$/.test(request) || expected[index] !== 200) assert.deepEqual(after, before);
      else assert.equal(after.state, AFTER[request] ?? state);
    });
  }
}

/** Where each event of a session's life leads, in the only states in which it can happen. */
const EVENTS: Readonly<Record<string, Partial<Record<State, State>>>> = {
  start: { STOPPED: 'START_IN_PROGRESS', START_FAILED: 'START_IN_PROGRESS' },
  stop: { READY: 'STOP_IN_PROGRESS', STOP_FAILED: 'STOP_IN_PROGRESS' },
  delete: {
    READY: 'DELETE_IN_PROGRESS',
    STOPPED: 'DELETE_IN_PROGRESS',
    CREATE_FAILED: 'DELETE_IN_PROGRESS',
    START_FAILED: 'DELETE_IN_PROGRESS',
    STOP_FAILED: 'DELETE_IN_PROGRESS',
    DELETE_FAILED: 'DELETE_IN_PROGRESS',
  },
  tag: {
    READY: 'READY',
    STOPPED: 'STOPPED',
    CREATE_FAILED: 'CREATE_FAILED',
    START_FAILED: 'START_FAILED',
    STOP_FAILED: 'STOP_FAILED',
    DELETE_FAILED: 'DELETE_FAILED',
  },
  progressed: { CREATE_IN_PROGRESS: 'CREATE_IN_PROGRESS', START_IN_PROGRESS: 'START_IN_PROGRESS' },
  ready: { CREATE_IN_PROGRESS: 'READY', START_IN_PROGRESS: 'READY' },
  lost: { READY: 'STOP_FAILED' },
  stopped: { STOP_IN_PROGRESS: 'STOPPED' },
  deleted: { DELETE_IN_PROGRESS: 'DELETED' },
  failed: {
    CREATE_IN_PROGRESS: 'CREATE_FAILED',
    START_IN_PROGRESS: 'START_FAILED',
    STOP_IN_PROGRESS: 'STOP_FAILED',
    DELETE_IN_PROGRESS: 'DELETE_FAILED',
  },
};

test('every event in every state leads where it must, or nowhere', () => {
  const lifecycle = lifecycleOf(KIND.streamingSession);
  const known = new Set(Object.values(lifecycle.states).flatMap(({ on }) => Object.keys(on)));
  assert.deepEqual([...known].sort(), Object.keys(EVENTS).sort());
  for (const [event, moves] of Object.entries(EVENTS)) {
    for (const state of Object.keys(TABLE) as State[]) {
      assert.equal(moveOf(lifecycle, state, event)?.to, moves[state], `${event} in ${state}`);
    }
  }
});

const BACKUPS: Record<State, readonly [number, number, number]> = {
  CREATE_IN_PROGRESS: [200, 409, 409],
  READY: [200, 200, 200],
  CREATE_FAILED: [200, 409, 409],
  DELETE_IN_PROGRESS: [200, 409, 409],
  DELETED: [200, 404, 404],
  DELETE_FAILED: [200, 409, 409],
  STOP_IN_PROGRESS: [200, 409, 409],
  STOPPED: [200, 409, 409],
  STOP_FAILED: [200, 409, 409],
  START_IN_PROGRESS: [200, 409, 409],
  START_FAILED: [200, 409, 409],
};

for (const [state, expected] of Object.entries(BACKUPS) as [State, readonly number[]][]) {
  for (const [index, request] of (['GetStreamingSessionBackup', 'TagResource', 'UntagResource'] as const).entries()) {
    test(`${request} of a backup in ${state} is ${expected[index]}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      const backupId = await putBackup(world, studioId, 'session', { state, tags: { old: '1' } });
      const resourceArn = arnOfBackup(backupId);
      const input = { studioId, backupId, resourceArn, tags: { a: '1' }, tagKeys: ['old'] };
      assert.equal(await statusOf(world.call(request, input)), expected[index]);
      assert.equal((await world.store.get(KIND.streamingSessionBackup, backupId))!.state, state);
    });
  }
}

test('a refusal for the state says so, and names session, state and what there is to do', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  for (const [state, code] of [
    ['CREATE_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['STOP_IN_PROGRESS', 'OPERATION_IN_PROGRESS'],
    ['STOPPED', 'STATE_DOES_NOT_ALLOW'],
    ['START_FAILED', 'STATE_DOES_NOT_ALLOW'],
  ] as const) {
    const sessionId = await putSession(world, studioId, { state });
    const call = world.call('StopStreamingSession', { studioId, sessionId });
    await refused(call, 'ConflictException', code, { resourceId: sessionId, state });
  }
});

/** Status of what changes sessions, and of what reads them, by the state of the studio. */
const STUDIOS: Record<string, { change: number; get: number; list: number }> = {
  CREATE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  READY: { change: 200, get: 200, list: 200 },
  UPDATE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  UPDATE_FAILED: { change: 200, get: 200, list: 200 },
  CREATE_FAILED: { change: 409, get: 200, list: 200 },
  DELETE_IN_PROGRESS: { change: 409, get: 200, list: 200 },
  DELETE_FAILED: { change: 200, get: 200, list: 200 },
  DELETED: { change: 404, get: 200, list: 404 },
};

for (const [state, expected] of Object.entries(STUDIOS)) {
  test(`in a studio that is ${state}, sessions are changed with ${expected.change} and listed with ${expected.list}`, async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const launchProfileId = await putProfile(world, studioId);
    const [ready, other, stopped] = [
      await putSession(world, studioId, { launchProfileId }),
      await putSession(world, studioId, { launchProfileId }),
      await putSession(world, studioId, { launchProfileId, state: 'STOPPED' }),
    ];
    const backupId = await putBackup(world, studioId, ready);
    await putState(world, KIND.studio, studioId, state);
    const call = (name: Parameters<typeof world.call>[0], sessionId: string, input: object = {}) =>
      statusOf(world.call(name, { studioId, sessionId, backupId, launchProfileId, ...input }));
    assert.equal(await call('GetStreamingSession', ready), expected.get);
    assert.equal(await call('GetStreamingSessionBackup', ready), expected.get);
    assert.equal(await call('ListStreamingSessions', '', { sessionIds: '' }), expected.list);
    assert.equal(await call('ListStreamingSessionBackups', ''), expected.list);
    assert.equal(await call('CreateStreamingSessionStream', ready), expected.change);
    assert.equal(
      await call('TagResource', '', { resourceArn: arnOfSession(ready), tags: { a: '1' } }),
      expected.change,
    );
    assert.equal(await call('StopStreamingSession', ready), expected.change);
    assert.equal(await call('DeleteStreamingSession', other), expected.change);
    assert.equal(await call('StartStreamingSession', stopped, { backupId: undefined }), expected.change);
  });
}
