/** Every state of every lifecycle meets every event: what the table lists happens, and nothing else does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { launchProfileState, launchProfileStatusCode } from '../../src/contract/launch-profile.ts';
import { streamingImageState, streamingImageStatusCode } from '../../src/contract/streaming-image.ts';
import { streamingSessionState, streamingSessionStatusCode } from '../../src/contract/streaming-session.ts';
import {
  streamingSessionStreamState,
  streamingSessionStreamStatusCode,
} from '../../src/contract/streaming-session-stream.ts';
import { studioState, studioStatusCode } from '../../src/contract/studio.ts';
import { studioComponentState, studioComponentStatusCode } from '../../src/contract/studio-component.ts';
import { newRow } from '../../src/domain/kinds.ts';
import { apply, type Lifecycle } from '../../src/domain/lifecycle.ts';
import { lifecycles } from '../../src/domain/lifecycles.ts';
import { ServiceError } from '../../src/errors.ts';

const NOW = Date.UTC(2026, 0, 2, 3, 4, 5);
const TOMBSTONE_MS = 60_000;
/** When a row whose event says so is due. */
const SAID = NOW + 5_000;
const at = { now: NOW, tombstoneMs: TOMBSTONE_MS };

const contracts: Record<string, { states: readonly string[]; codes: readonly string[] }> = {
  studio: { states: studioState.values!, codes: studioStatusCode.values! },
  'studio-component': { states: studioComponentState.values!, codes: studioComponentStatusCode.values! },
  'launch-profile': { states: launchProfileState.values!, codes: launchProfileStatusCode.values! },
  'streaming-session': { states: streamingSessionState.values!, codes: streamingSessionStatusCode.values! },
  'streaming-session-backup': { states: streamingSessionState.values!, codes: streamingSessionStatusCode.values! },
  'streaming-session-stream': {
    states: streamingSessionStreamState.values!,
    codes: streamingSessionStreamStatusCode.values!,
  },
  'streaming-image': { states: streamingImageState.values!, codes: streamingImageStatusCode.values! },
};

function eventsOf(lifecycle: Lifecycle): string[] {
  return [...new Set(Object.values(lifecycle.states).flatMap(({ on }) => Object.keys(on)))];
}

function rowIn(lifecycle: Lifecycle, state: string) {
  const statusCode = lifecycle.states[state]!.statusCodes[0];
  const doc = JSON.stringify({ state, statusCode, statusMessage: 'before', name: 'name' });
  return newRow({ kind: lifecycle.kind, id: 'id', createdAt: 1, state, doc, version: 7, attempts: 3 });
}

for (const lifecycle of lifecycles) {
  test(`${lifecycle.kind}: states and status codes are those of the contract`, () => {
    const { states, codes } = contracts[lifecycle.kind]!;
    assert.deepEqual(Object.keys(lifecycle.states).sort(), [...states].sort());
    for (const entry of Object.values(lifecycle.states)) {
      for (const code of entry.statusCodes) assert.ok(codes.includes(code), code);
    }
  });

  for (const [state, entry] of Object.entries(lifecycle.states)) {
    for (const event of eventsOf(lifecycle)) {
      const move = entry.on[event];
      test(`${lifecycle.kind}: ${event} in ${state} ${move ? `leads to ${move.to}` : 'is refused'}`, () => {
        const row = rowIn(lifecycle, state);
        const statusCode = move && (move.statusCode ?? lifecycle.states[move.to]!.statusCodes[0]);
        const timed = move !== undefined && lifecycle.states[move.to]!.workAfter === 'event';
        const given = {
          type: event,
          ...(timed && { dueAt: SAID }),
          ...(statusCode && { statusCode, statusMessage: 'after' }),
        };
        if (!move) {
          assert.throws(
            () => apply(lifecycle, row, given, at),
            (error) => error instanceof ServiceError && error.status === 409,
          );
          return;
        }
        const next = apply(lifecycle, row, given, at);
        const target = lifecycle.states[move.to]!;
        assert.equal(next.state, move.to);
        assert.equal(next.version, row.version + 1);
        assert.equal(next.attempts, 0);
        const dueAt = { event: SAID, tombstone: NOW + TOMBSTONE_MS, none: NOW }[target.workAfter ?? 'none'];
        assert.equal(next.dueAt, target.work ? dueAt : null);
        const doc = JSON.parse(next.doc);
        assert.equal(doc.state, move.to);
        assert.equal(doc.name, 'name');
        assert.ok(target.statusCodes.includes(doc.statusCode));
        assert.equal(doc.updatedAt, lifecycle.timestamps ? '2026-01-02T03:04:05Z' : undefined);
      });
    }
  }

  test(`${lifecycle.kind}: every state is reached, and left by work or by a caller`, () => {
    const reached = new Set([lifecycle.initial]);
    for (let size = 0; size !== reached.size; ) {
      size = reached.size;
      for (const state of [...reached]) {
        for (const move of Object.values(lifecycle.states[state]!.on)) reached.add(move!.to);
      }
    }
    for (const [state, { on, work, neverEntered }] of Object.entries(lifecycle.states)) {
      assert.equal(reached.has(state), !neverEntered, `${state} is reached`);
      if (!neverEntered) assert.ok(work !== undefined || Object.keys(on).length > 0, `${state} has an exit`);
    }
  });

  test(`${lifecycle.kind}: a state that works never waits for a caller, one at rest never for a worker`, () => {
    for (const [state, { on, work, workAfter, neverEntered }] of Object.entries(lifecycle.states)) {
      if (neverEntered) continue;
      const atRest = work === undefined || workAfter !== undefined;
      for (const event of Object.keys(on)) {
        // Where there is a timer, the work behind the timer brings events about beside the callers.
        if (workAfter !== undefined && !lifecycle.requests.includes(event)) continue;
        if (lifecycle.fromParent?.includes(event)) continue;
        const fromOutside = [...lifecycle.requests, ...(lifecycle.administered ?? [])];
        assert.equal(fromOutside.includes(event), atRest, `${event} in ${state}`);
      }
    }
  });

  test(`${lifecycle.kind}: only what is deleted or never came to be goes by itself`, () => {
    for (const [state, { work, workAfter }] of Object.entries(lifecycle.states)) {
      assert.equal(work === 'purge', workAfter === 'tombstone', state);
      if (work === 'purge') assert.ok(['DELETED', 'CREATE_FAILED'].includes(state), state);
    }
  });
}

test('a status code of another state is a mistake of ours and is never written', () => {
  const [studio] = lifecycles;
  const row = rowIn(studio!, 'CREATE_IN_PROGRESS');
  assert.throws(
    () => apply(studio!, row, { type: 'createFailed', statusCode: 'STUDIO_CREATED' }, at),
    /does not belong/,
  );
});

test('an event ends a unique name only when it says so', () => {
  const [studio] = lifecycles;
  const row = { ...rowIn(studio!, 'DELETE_IN_PROGRESS'), uniqueName: 'name' };
  assert.equal(apply(studio!, row, { type: 'deleted', releaseName: true }, at).uniqueName, null);
  const failed = apply(studio!, row, { type: 'deleteFailed', statusCode: 'INTERNAL_ERROR' }, at);
  assert.equal(failed.uniqueName, 'name');
});

test('how long a state lasts is said by the event that enters it, and kept by one that stays in it', () => {
  const lifecycle = lifecycles.find(({ kind }) => kind === 'streaming-session')!;
  const started = { ...rowIn(lifecycle, 'CREATE_IN_PROGRESS'), dueAt: NOW };
  assert.throws(() => apply(lifecycle, started, { type: 'ready' }, at), /must say how long READY lasts/);
  assert.equal(apply(lifecycle, started, { type: 'ready', dueAt: null }, at).dueAt, null);
  const ready = apply(lifecycle, started, { type: 'ready', dueAt: SAID }, at);
  assert.equal(ready.dueAt, SAID);
  assert.equal(apply(lifecycle, ready, { type: 'tag', changes: { tags: {} } }, at).dueAt, SAID);
  assert.equal(apply(lifecycle, ready, { type: 'delete', dueAt: SAID }, at).dueAt, NOW);
});

test('a tombstone is looked at when its time is over, or when the event says', () => {
  const lifecycle = lifecycles.find(({ kind }) => kind === 'streaming-image')!;
  const removing = rowIn(lifecycle, 'DELETE_IN_PROGRESS');
  assert.equal(apply(lifecycle, removing, { type: 'removed' }, at).dueAt, NOW + TOMBSTONE_MS);
  assert.equal(apply(lifecycle, removing, { type: 'kept', dueAt: SAID }, at).dueAt, SAID);
});

test('a refusal for the state of a row at rest says what the state allows', () => {
  const lifecycle = lifecycles.find(({ kind }) => kind === 'streaming-session')!;
  const stopped = rowIn(lifecycle, 'STOPPED');
  assert.throws(
    () => apply(lifecycle, stopped, { type: 'stop' }, at),
    /is STOPPED\. In this state it allows: start, delete, tag\./,
  );
});
