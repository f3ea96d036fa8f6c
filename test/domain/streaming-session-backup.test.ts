/** Backups: made while a session stops, as many as its profile says, listed by owner, restored, and gone with the session. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingSessionBackup } from '../../src/contract/streaming-session-backup.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { arnOfBackup, putBackup } from '../support/rows.ts';
import { BACKED_UP, createStage, MINUTE_MS, PERSISTENT, STOPPABLE } from '../support/sessions.ts';

test('a backup is seen being made while its session stops, and is READY when that is STOPPED', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  const sessionId = await stage.create({ ownedBy: 'artist' });
  await stage.stop(sessionId);
  const held = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  world.workstations.fault = (effect) => {
    if (effect !== 'backUp') return;
    reached.resolve();
    return held.promise;
  };
  const settled = world.settle();
  await reached.promise;
  const [making] = await stage.backups();
  const expected: StreamingSessionBackup = {
    arn: arnOfBackup(making!.backupId!),
    backupId: making!.backupId!,
    createdAt: '2026-01-01T00:00:00Z',
    launchProfileId: stage.launchProfileId,
    ownedBy: 'artist',
    sessionId,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAMING_SESSION_CREATE_IN_PROGRESS',
    statusMessage: 'Streaming Session Backup creation is in progress',
    tags: {},
  };
  assert.deepEqual(making, expected);
  assert.equal((await stage.get(sessionId)).state, 'STOP_IN_PROGRESS');
  held.resolve();
  await settled;
  const ready = {
    ...expected,
    state: 'READY',
    statusCode: 'STREAMING_SESSION_READY',
    statusMessage: 'Streaming Session Backup is ready',
  };
  const answer = await world.call('GetStreamingSessionBackup', {
    studioId: stage.studioId,
    backupId: making!.backupId,
  });
  assertConforms('GetStreamingSessionBackup', answer);
  assert.deepEqual(answer, { streamingSessionBackup: ready });
  assert.deepEqual(await stage.backups(), [ready]);
  assert.equal((await stage.get(sessionId)).state, 'STOPPED');
  assert.deepEqual((await stage.workstation(sessionId))!.backupIds, [making!.backupId]);
});

test('the oldest backups beyond those to be kept are removed, with what they hold', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  const sessionId = await stage.create();
  for (let round = 0; round < 4; round += 1) {
    world.clock.advance(MINUTE_MS);
    await stage.stop(sessionId);
    await world.settle();
    await stage.start(sessionId);
    await world.settle();
  }
  const backups = await stage.backups();
  assert.deepEqual(
    backups.map(({ state, createdAt }) => [state, createdAt]),
    [
      ['DELETED', '2026-01-01T00:01:00Z'],
      ['DELETED', '2026-01-01T00:02:00Z'],
      ['READY', '2026-01-01T00:03:00Z'],
      ['READY', '2026-01-01T00:04:00Z'],
    ],
  );
  const kept = backups.slice(2).map(({ backupId }) => backupId);
  assert.deepEqual((await stage.workstation(sessionId))!.backupIds, kept);
  world.clock.advance(world.services.settings.tombstoneMs);
  await world.settle();
  const left = (await stage.backups()).map(({ backupId }) => backupId);
  for (const { backupId } of backups.slice(0, 2)) assert.ok(!left.includes(backupId));
});

for (const [what, configuration] of [
  ['asks for none', PERSISTENT],
  ['has them deactivated', { ...PERSISTENT, sessionBackup: { mode: 'DEACTIVATED', maxBackupsToRetain: 2 } }],
  ['keeps none', { ...PERSISTENT, sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 0 } }],
  ['does not say how many', { ...PERSISTENT, sessionBackup: { mode: 'AUTOMATIC' } }],
] as const) {
  test(`where the profile ${what}, no backup is made`, async () => {
    const stage = await createStage(createWorld(), configuration);
    await stage.createStopped();
    assert.deepEqual(await stage.backups(), []);
  });
}

test('a stop that is due to the time limit makes a backup as well', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  await stage.create();
  world.clock.advance(690 * MINUTE_MS);
  await world.settle();
  assert.deepEqual(
    (await stage.backups()).map(({ state }) => state),
    ['READY'],
  );
});

test('volumes that a stop deletes are backed up before, and come back with the backup', async () => {
  const world = createWorld();
  const stage = await createStage(world, { ...STOPPABLE, sessionBackup: BACKED_UP.sessionBackup });
  const sessionId = await stage.createStopped({ volumeRetentionMode: 'DELETE' });
  assert.equal((await stage.workstation(sessionId))!.hasVolume, false);
  const [{ backupId } = {}] = await stage.backups();
  await stage.start(sessionId, { backupId });
  await world.settle();
  assert.equal((await world.workstations.records.get(sessionId))!.volume!.runs, 2);
});

test('backups go with their session', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  const sessionId = await stage.createStopped();
  const other = await stage.createStopped();
  await stage.remove(sessionId);
  await world.settle();
  for (const { sessionId: of, state } of await stage.backups()) {
    assert.equal(state, of === sessionId ? 'DELETED' : 'READY');
  }
  assert.equal(await stage.workstation(sessionId), undefined);
  assert.equal((await stage.workstation(other))!.backupIds.length, 1);
});

test('a backup that is being made for a session that is not being stopped any more fails', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  const sessionId = await stage.create();
  const lost = await putBackup(
    world,
    stage.studioId,
    sessionId,
    { state: 'CREATE_IN_PROGRESS' },
    { dueAt: world.clock.now() },
  );
  await world.settle();
  const [backup] = await stage.backups();
  assert.deepEqual([backup!.backupId, backup!.state, backup!.statusCode], [lost, 'CREATE_FAILED', 'INTERNAL_ERROR']);
  world.clock.advance(world.services.settings.tombstoneMs);
  await world.settle();
  assert.ok(!(await stage.backups()).some(({ backupId }) => backupId === lost));
});

test('backups of other studios are not there; a list shows one owner where it is asked to, in pages', async () => {
  const world = createWorld();
  const [mine, theirs] = [await createStage(world), await createStage(world)];
  const ids: string[] = [];
  for (let index = 0; index < 150; index += 1) {
    ids.push(await putBackup(world, mine.studioId, 'session', { ownedBy: 'ann' }));
  }
  const bobs = await putBackup(world, mine.studioId, 'session', { ownedBy: 'bob', state: 'DELETED' });
  assert.deepEqual(await theirs.backups(), []);
  await refused(
    world.call('GetStreamingSessionBackup', { studioId: theirs.studioId, backupId: bobs }),
    'ResourceNotFoundException',
    'RESOURCE_NOT_FOUND',
    { resourceId: bobs },
  );
  assert.deepEqual(
    (await mine.backups({ ownedBy: 'bob' })).map(({ backupId }) => backupId),
    [bobs],
  );
  assert.deepEqual(await mine.backups({ ownedBy: 'eve' }), []);
  const list = (input: object) =>
    world.call<{ streamingSessionBackups: StreamingSessionBackup[]; nextToken?: string }>(
      'ListStreamingSessionBackups',
      { studioId: mine.studioId, ownedBy: 'ann', ...input },
    );
  const first = await list({});
  assertConforms('ListStreamingSessionBackups', first);
  const second = await list({ nextToken: first.nextToken });
  assert.deepEqual([first.streamingSessionBackups.length, second.streamingSessionBackups.length], [100, 50]);
  assert.equal(second.nextToken, undefined);
  const seen = [...first.streamingSessionBackups, ...second.streamingSessionBackups].map(({ backupId }) => backupId);
  assert.deepEqual([...seen].sort(), [...ids].sort());
  await refused(mine.backups({ nextToken: first.nextToken }), 'ValidationException', 'INVALID_NEXT_TOKEN');
  assert.equal(await world.store.count({ kind: KIND.streamingSessionBackup, limit: 200 }), 151);
});
