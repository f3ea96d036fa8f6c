/**
 * Viewers: a ticket is redeemed once, by one; what it became goes on while it is connected and a while longer, and ends
 * with the run of its session, with whoever may no longer see it, and when a newer one takes its place.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KIND } from '../../src/domain/kinds.ts';
import { membershipId } from '../../src/domain/membership.ts';
import { withEnabled } from '../../src/domain/user.ts';
import {
  connectViewer,
  deleteEndedViewers,
  ENDED,
  lookAtViewer,
  REPLACED,
  RETURN_MS,
  redeemTicket,
  requireViewer,
  type Standing,
  type ViewerServices,
} from '../../src/domain/viewer.ts';
import type { Store, Write } from '../../src/store/store.ts';
import { createWorld } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { putMember, putUser } from '../support/rows.ts';
import { createStage, PERSISTENT, STOPPABLE } from '../support/sessions.ts';

const MINUTE_MS = 60_000;
const origin = { remoteAddress: '192.0.2.1', requestId: 'a request' };

async function createScene({
  viewersMax = 1,
  configuration = STOPPABLE,
}: {
  viewersMax?: number;
  configuration?: object;
} = {}) {
  const world = createWorld();
  const stage = await createStage(world, configuration);
  const services: ViewerServices = { ...world.services, viewersMax };
  const scene = {
    world,
    stage,
    services,
    /** The address of a new stream. */
    address: async (sessionId: string, input: object = {}) => {
      const { streamId } = await stage.stream(sessionId, input);
      await world.settle();
      const { url } = await stage.getStream(sessionId, streamId!);
      return { streamId: streamId!, ticket: url!.split('#')[1]! };
    },
    open: async (sessionId: string) => {
      const { streamId, ticket } = await scene.address(sessionId);
      const { cookie } = await redeemTicket(streamId, ticket, origin, services);
      return { streamId, cookie };
    },
    connect: async (sessionId: string) => {
      const { streamId, cookie } = await scene.open(sessionId);
      const { connectionId } = await connectViewer(streamId, cookie, services);
      return { streamId, cookie, connectionId };
    },
    look: ({ streamId, connectionId }: { streamId: string; connectionId: string }) =>
      lookAtViewer(streamId, connectionId, services),
    row: (streamId: string) => world.store.get(KIND.viewer, streamId),
  };
  return scene;
}

const stands = (found: Standing | string) => typeof found !== 'string';

test('a ticket becomes a cookie, which is stored as a digest, and a line of the audit', async () => {
  const { stage, world, address, services, row } = await createScene();
  const sessionId = await stage.create({ ownedBy: 'artist' });
  const { streamId, ticket } = await address(sessionId);
  const { cookie, endsAt } = await redeemTicket(streamId, ticket, origin, services);
  assert.match(cookie, /^[\w-]{43}$/);
  assert.equal(endsAt, world.clock.now() + 690 * MINUTE_MS, 'when the session may run no longer');
  const viewer = (await row(streamId))!;
  assert.ok(!JSON.stringify(viewer).includes(cookie));
  assert.deepEqual(
    [viewer.parentId, viewer.ownerId, viewer.dueAt],
    [sessionId, 'artist', world.clock.now() + RETURN_MS],
  );
  const [line] = await world.store.audit({ operation: 'open-stream', limit: 9 });
  assert.deepEqual([line!.resourceId, line!.principalId, line!.id], [streamId, 'AIDATEST', 'a request']);
  assert.deepEqual(JSON.parse(line!.doc), { sourceAddress: '192.0.2.1' });
});

test('a ticket that was redeemed is refused from then on, and the viewer in place stays', async () => {
  const { stage, look, services, address } = await createScene();
  const sessionId = await stage.create();
  const { streamId, ticket } = await address(sessionId);
  const { cookie } = await redeemTicket(streamId, ticket, origin, services);
  const { connectionId } = await connectViewer(streamId, cookie, services);
  await refused(redeemTicket(streamId, ticket, origin, services), 'AccessDeniedException', 'TICKET_USED');
  assert.ok(stands(await look({ streamId, connectionId })));
  // The address is still shown to those who may read the stream: an SDK that asks twice gets the same answer.
  assert.ok((await stage.getStream(sessionId, streamId)).url);
});

test('of two who redeem a ticket at once, one gets in', async () => {
  const { stage, address, services } = await createScene();
  const { streamId, ticket } = await address(await stage.create());
  const outcomes = await Promise.allSettled([
    redeemTicket(streamId, ticket, origin, services),
    redeemTicket(streamId, ticket, origin, services),
  ]);
  assert.deepEqual(outcomes.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  const lost = outcomes.find(({ status }) => status === 'rejected') as PromiseRejectedResult;
  assert.equal(lost.reason.code, 'TICKET_USED');
});

test('a ticket that is foreign, invented or expired is refused, all in the same words', async () => {
  const { stage, world, address, services } = await createScene();
  const sessionId = await stage.create();
  const [one, other] = [await address(sessionId), await address(sessionId)];
  const messages = new Set<string>();
  const isRefused = async (streamId: string, ticket: string) => {
    await assert.rejects(
      redeemTicket(streamId, ticket, origin, services),
      (error: { code: string; message: string }) => {
        messages.add(error.message);
        return error.code === 'TICKET_REFUSED';
      },
    );
  };
  await isRefused(one.streamId, other.ticket);
  await isRefused(one.streamId, 'A'.repeat(43));
  await isRefused('absent', one.ticket);
  world.clock.advance(120_000);
  await isRefused(one.streamId, one.ticket);
  await world.settle();
  await isRefused(one.streamId, one.ticket);
  assert.equal(messages.size, 1);
});

test('the address expires and the viewer goes on, for as long as it is connected', async () => {
  const { stage, world, connect, look } = await createScene();
  const sessionId = await stage.create();
  const viewer = await connect(sessionId);
  for (let minutes = 0; minutes < 600; minutes += 5) {
    assert.ok(stands(await look(viewer)), `after ${minutes} minutes`);
    world.clock.advance(5 * MINUTE_MS);
    await world.settle();
  }
  assert.equal((await stage.getStream(sessionId, viewer.streamId)).state, 'DELETED');
});

test('a viewer may come back for a while, and not after that', async () => {
  const { stage, world, connect, services, row } = await createScene();
  const sessionId = await stage.create();
  const { streamId, cookie, connectionId } = await connect(sessionId);
  world.clock.advance(RETURN_MS - 1);
  const again = await connectViewer(streamId, cookie, services);
  assert.notEqual(again.connectionId, connectionId);
  world.clock.advance(RETURN_MS);
  await refused(connectViewer(streamId, cookie, services), 'AccessDeniedException', 'VIEWER_TOO_LATE');
  await deleteEndedViewers(services);
  assert.equal(await row(streamId), undefined);
  await refused(requireViewer(streamId, cookie, services), 'AccessDeniedException', 'VIEWER_UNKNOWN');
});

test('a cookie opens its own stream and no other', async () => {
  const { stage, open, services } = await createScene({ viewersMax: 2 });
  const sessionId = await stage.create();
  const [one, other] = [await open(sessionId), await open(sessionId)];
  for (const [streamId, cookie] of [
    [one.streamId, other.cookie],
    [one.streamId, 'A'.repeat(43)],
    ['absent', one.cookie],
  ] as const) {
    await refused(connectViewer(streamId, cookie, services), 'AccessDeniedException', 'VIEWER_UNKNOWN');
  }
});

test('the newest viewers have the places, and the older are told', async () => {
  const { stage, connect, look, services, row } = await createScene({ viewersMax: 2 });
  const sessionId = await stage.create();
  const other = await connect(await stage.create());
  const viewers = [await connect(sessionId), await connect(sessionId), await connect(sessionId)];
  assert.deepEqual(await Promise.all(viewers.map(async (viewer) => stands(await look(viewer)))), [false, true, true]);
  assert.equal(await look(viewers[0]!), 'replaced');
  assert.equal((await row(viewers[0]!.streamId))!.state, REPLACED);
  await refused(
    connectViewer(viewers[0]!.streamId, viewers[0]!.cookie, services),
    'AccessDeniedException',
    'VIEWER_REPLACED',
  );
  assert.ok(stands(await look(other)), 'of another session');
});

test('two who come at the same moment on two servers do not both stay', async () => {
  const { stage, address, services, world } = await createScene();
  const sessionId = await stage.create();
  const addresses = [await address(sessionId), await address(sessionId)];
  // Neither sees the other: both read before one writes.
  const gate = Promise.withResolvers<void>();
  let waiting = 0;
  const store = new Proxy(world.store, {
    get: (target, name: keyof Store) => {
      if (name !== 'write') return (target[name] as () => unknown).bind(target);
      return async (batch: readonly Write[]) => {
        waiting += 1;
        if (waiting === 2) gate.resolve();
        await gate.promise;
        return target.write(batch);
      };
    },
  });
  const cookies = await Promise.all(
    addresses.map(({ streamId, ticket }) => redeemTicket(streamId, ticket, origin, { ...services, store })),
  );
  const found = await Promise.allSettled(
    addresses.map(({ streamId }, index) => requireViewer(streamId, cookies[index]!.cookie, services)),
  );
  assert.deepEqual(found.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
});

test('of twenty who come at once all are let in, and one stays', async () => {
  const { stage, address, open, services } = await createScene();
  const sessionId = await stage.create();
  const addresses: Awaited<ReturnType<typeof address>>[] = [];
  for (let index = 0; index < 20; index += 1) addresses.push(await address(sessionId));
  const redeem = ({ streamId, ticket }: (typeof addresses)[0]) => redeemTicket(streamId, ticket, origin, services);
  const staying = async (some: typeof addresses) => {
    const opened = await Promise.all(some.map(redeem));
    const found = some.map(({ streamId }, index) => requireViewer(streamId, opened[index]!.cookie, services));
    return (await Promise.allSettled(found)).filter(({ status }) => status === 'fulfilled').length;
  };
  assert.equal(await staying(addresses.slice(0, 10)), 1);
  // Now there are some to make room, for which they all reach at once.
  assert.equal(await staying(addresses.slice(10)), 1);
  assert.ok(await open(await stage.create()));
});

test('a viewer has one connection: the later one counts', async () => {
  const { stage, connect, look, services } = await createScene();
  const first = await connect(await stage.create());
  const { connectionId } = await connectViewer(first.streamId, first.cookie, services);
  assert.equal(await look(first), 'replaced');
  assert.ok(stands(await look({ ...first, connectionId })));
});

for (const end of ['stop', 'remove'] as const) {
  test(`the ${end} of a session ends its viewers, and no other`, async () => {
    const { stage, world, connect, look, services, row } = await createScene({ configuration: PERSISTENT });
    const sessionId = await stage.create();
    const viewer = await connect(sessionId);
    const other = await connect(await stage.create());
    const unused = (await stage.stream(sessionId)).streamId!;
    await stage[end](sessionId);
    assert.equal(await look(viewer), 'session-ended', 'at once, before any work is done');
    await refused(
      connectViewer(viewer.streamId, viewer.cookie, services),
      'AccessDeniedException',
      'SESSION_NOT_READY',
    );
    await world.settle();
    assert.equal((await row(viewer.streamId))!.state, ENDED);
    assert.equal(await row(unused), undefined);
    assert.ok(stands(await look(other)));
    if (end === 'remove') return;
    await stage.start(sessionId);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'READY');
    const again = connectViewer(viewer.streamId, viewer.cookie, services);
    await refused(again, 'AccessDeniedException', 'SESSION_NOT_READY');
    assert.ok(stands(await look(await connect(sessionId))), 'a new address shows the new run');
  });
}

test('whoever is disabled sees nothing any more, also when enabled again', async () => {
  const { stage, world, open, look, services, address } = await createScene();
  const userId = await putUser(world, 'artist');
  const sessionId = await stage.create({ ownedBy: userId });
  const viewer = await open(sessionId);
  const { connectionId } = await connectViewer(viewer.streamId, viewer.cookie, services);
  const later = await address(sessionId);
  const setEnabled = async (enabled: boolean) => {
    const user = (await world.store.get(KIND.user, userId))!;
    await world.store.write([{ op: 'update', row: withEnabled(user, enabled) }]);
  };
  await setEnabled(false);
  assert.equal(await look({ ...viewer, connectionId }), 'not-allowed');
  await refused(redeemTicket(later.streamId, later.ticket, origin, services), 'AccessDeniedException', 'NOT_ALLOWED');
  await setEnabled(true);
  assert.equal(await look({ ...viewer, connectionId }), 'not-allowed');
  await refused(connectViewer(viewer.streamId, viewer.cookie, services), 'AccessDeniedException', 'NOT_ALLOWED');
  assert.ok(await redeemTicket(later.streamId, later.ticket, origin, services), 'what is opened from now on is good');
});

test('a user who asked for the stream and is no member of the launch profile any more sees nothing', async () => {
  const { stage, world, open, look, services } = await createScene();
  const userId = await putUser(world, 'artist');
  await putMember(world, stage.studioId, userId, stage.launchProfileId);
  const sessionId = await stage.create({ ownedBy: userId });
  const { streamId, cookie } = await open(sessionId);
  // As if the user had asked for it.
  const row = (await world.store.get(KIND.viewer, streamId))!;
  const secret = { ...JSON.parse(row.private), askedBy: userId };
  await world.store.write([
    { op: 'update', row: { ...row, version: row.version + 1, private: JSON.stringify(secret) } },
  ]);
  const { connectionId } = await connectViewer(streamId, cookie, services);
  assert.ok(stands(await look({ streamId, connectionId })));
  const id = membershipId(stage.launchProfileId, userId);
  const member = (await world.store.get(KIND.launchProfileMember, id))!;
  await world.store.write([{ op: 'delete', kind: member.kind, id, version: member.version }]);
  assert.equal(await look({ streamId, connectionId }), 'not-allowed');
});

for (const [clipboardMode, clipboard] of [
  ['ENABLED', true],
  ['DISABLED', false],
] as const) {
  test(`with clipboardMode ${clipboardMode} text ${clipboard ? 'passes' : 'does not pass'}`, async () => {
    const { stage, connect, look } = await createScene({ configuration: { clipboardMode } });
    const sessionId = await stage.create();
    assert.deepEqual(await look(await connect(sessionId)), { sessionId, clipboard });
  });
}

test('upkeep leaves a viewer that may come back', async () => {
  const { stage, connect, services, row } = await createScene();
  const { streamId } = await connect(await stage.create());
  await deleteEndedViewers(services);
  assert.ok(await row(streamId));
});
