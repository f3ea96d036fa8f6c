/**
 * Streams: an address that is good for a short time, shown only to those who may read the stream, stored nowhere in the
 * clear, and gone with its time or its session.
 */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import type { StreamingSessionStream } from '../../src/contract/streaming-session-stream.ts';
import { KIND } from '../../src/domain/kinds.ts';
import {
  STREAMS_PER_SESSION_MAX,
  type StreamingSessionStreamPrivate,
} from '../../src/domain/streaming-session-stream.ts';
import { assertConforms } from '../support/conforms.ts';
import { ADMINISTRATOR, createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { putSession, putStream } from '../support/rows.ts';
import { createStage } from '../support/sessions.ts';

const SECOND_MS = 1_000;

const privateOf = async ({ store }: World, id: string) =>
  JSON.parse((await store.get(KIND.streamingSessionStream, id))!.private) as StreamingSessionStreamPrivate;

test('a stream is made at once and gets its address when the desktop is reached', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await stage.create({ ownedBy: 'artist' });
  const stream = await stage.stream(sessionId);
  assertConforms('CreateStreamingSessionStream', { stream });
  const expected: StreamingSessionStream = {
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: ADMINISTRATOR.principalId,
    expiresAt: '2026-01-01T00:02:00Z',
    ownedBy: 'artist',
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STREAM_CREATE_IN_PROGRESS',
    streamId: stream.streamId!,
  };
  assert.deepEqual(stream, expected);
  assert.deepEqual(await stage.getStream(sessionId, stream.streamId!), expected);
  await world.settle();
  const { url, ...ready } = await stage.getStream(sessionId, stream.streamId!);
  assert.deepEqual(ready, { ...expected, state: 'READY', statusCode: 'STREAM_READY' });
  assert.match(url!, new RegExp(`^http://127\\.0\\.0\\.1:8642/streams/${stream.streamId}#[\\w-]{43}$`));
  assertConforms('GetStreamingSessionStream', { stream: { ...ready, url } });
});

test('the ticket is stored as a digest and sealed, never as it is', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await stage.create();
  const { streamId } = await stage.stream(sessionId);
  await world.settle();
  const ticket = (await stage.getStream(sessionId, streamId!)).url!.split('#')[1]!;
  const row = (await world.store.get(KIND.streamingSessionStream, streamId!))!;
  assert.ok(!JSON.stringify(row).includes(ticket));
  const { ticketSha256, sealedTicket } = await privateOf(world, streamId!);
  assert.equal(ticketSha256, hash('sha256', ticket));
  assert.equal(world.keys.open(sealedTicket!, streamId!), ticket);
  assert.throws(() => world.keys.open(sealedTicket!, 'another stream'));
  const other = await stage.stream(sessionId);
  await world.settle();
  assert.notEqual((await stage.getStream(sessionId, other.streamId!)).url!.split('#')[1], ticket);
});

for (const [given, expiresAt] of [
  [60, '2026-01-01T00:01:00Z'],
  [3_600, '2026-01-01T01:00:00Z'],
] as const) {
  test(`a stream that is asked for ${given} seconds is good for as long, and no longer`, async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const sessionId = await stage.create();
    const { streamId, ...stream } = await stage.stream(sessionId, { expirationInSeconds: given });
    assert.equal(stream.expiresAt, expiresAt);
    await world.settle();
    world.clock.advance(given * SECOND_MS - 1);
    await world.settle();
    assert.ok((await stage.getStream(sessionId, streamId!)).url);
    world.clock.advance(1);
    // The address ends with its time, whether or not a worker has come by.
    assert.equal((await stage.getStream(sessionId, streamId!)).url, undefined);
    await world.settle();
    const gone = await stage.getStream(sessionId, streamId!);
    assert.deepEqual([gone.state, gone.statusCode, gone.url], ['DELETED', 'STREAM_DELETED', undefined]);
    const left = await privateOf(world, streamId!);
    assert.deepEqual([left.ticketSha256, left.sealedTicket], [undefined, undefined]);
    world.clock.advance(world.services.settings.tombstoneMs);
    await world.settle();
    await refused(stage.getStream(sessionId, streamId!), 'ResourceNotFoundException');
  });
}

test('a stream whose time is over before it was opened never gets an address', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await stage.create();
  const { streamId } = await stage.stream(sessionId);
  world.clock.advance(120 * SECOND_MS);
  await world.settle();
  assert.equal((await stage.getStream(sessionId, streamId!)).state, 'DELETED');
});

for (const [what, end] of [
  ['stops', 'stop'],
  ['is deleted', 'remove'],
] as const) {
  test(`every stream of a session that ${what} ends, and no other does`, async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const [sessionId, other] = [await stage.create(), await stage.create()];
    const streams: string[] = [];
    for (let index = 0; index < 3; index += 1) streams.push((await stage.stream(sessionId)).streamId!);
    await world.settle();
    streams.push((await stage.stream(sessionId)).streamId!);
    const failed = await putStream(world, stage.studioId, sessionId, { state: 'CREATE_FAILED' });
    const kept = (await stage.stream(other)).streamId!;
    await stage[end](sessionId);
    await world.settle();
    for (const streamId of streams) {
      const { state, url } = await stage.getStream(sessionId, streamId);
      assert.deepEqual([state, url], ['DELETED', undefined]);
      const { ticketSha256, sealedTicket } = await privateOf(world, streamId);
      assert.deepEqual([ticketSha256, sealedTicket], [undefined, undefined]);
    }
    assert.equal((await stage.getStream(sessionId, failed)).state, 'CREATE_FAILED');
    assert.ok((await stage.getStream(other, kept)).url);
  });
}

test('streams of other sessions and studios are not there', async () => {
  const world = createWorld();
  const [mine, theirs] = [await createStage(world), await createStage(world)];
  const sessionId = await theirs.create();
  const { streamId } = await theirs.stream(sessionId);
  await refused(mine.getStream(sessionId, streamId!), 'ResourceNotFoundException', undefined, {
    resourceId: sessionId,
  });
  const other = await theirs.create();
  await refused(theirs.getStream(other, streamId!), 'ResourceNotFoundException', undefined, { resourceId: streamId! });
  await refused(theirs.getStream(sessionId, 'absent'), 'ResourceNotFoundException');
  await refused(mine.stream(sessionId), 'ResourceNotFoundException');
});

test('a session has so many streams at once, and those that are over do not count', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await stage.create();
  for (const state of ['DELETED', 'CREATE_FAILED'] as const)
    await putStream(world, stage.studioId, sessionId, { state });
  for (let index = 0; index < STREAMS_PER_SESSION_MAX; index += 1) await stage.stream(sessionId);
  await refused(stage.stream(sessionId), 'ServiceQuotaExceededException', 'STREAMS_PER_SESSION');
  await world.settle();
  await refused(stage.stream(sessionId), 'ServiceQuotaExceededException', 'STREAMS_PER_SESSION');
  await stage.stream(await stage.create());
  world.clock.advance(120 * SECOND_MS);
  await world.settle();
  await stage.stream(sessionId);
});

test('a stream of a session that does not run is refused, and says so', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await putSession(world, stage.studioId, { state: 'STOPPED' });
  const context = { resourceId: sessionId, state: 'STOPPED' };
  await refused(stage.stream(sessionId), 'ConflictException', 'SESSION_NOT_READY', context);
});

test('a desktop that cannot be reached makes the stream CREATE_FAILED, which goes by itself', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await putSession(world, stage.studioId);
  const { streamId } = await stage.stream(sessionId);
  await world.settle();
  const stream = await stage.getStream(sessionId, streamId!);
  assert.deepEqual(
    [stream.state, stream.statusCode, stream.url],
    ['CREATE_FAILED', 'NETWORK_CONNECTION_ERROR', undefined],
  );
  world.clock.advance(world.services.settings.tombstoneMs);
  await world.settle();
  await refused(stage.getStream(sessionId, streamId!), 'ResourceNotFoundException');
});

test('the same client token makes one stream', async () => {
  const world = createWorld();
  const stage = await createStage(world);
  const sessionId = await stage.create();
  const first = await stage.stream(sessionId, { clientToken: 'once' });
  assert.equal((await stage.stream(sessionId, { clientToken: 'once' })).streamId, first.streamId);
  assert.equal(await world.store.count({ kind: KIND.streamingSessionStream, limit: 9 }), 1);
});
