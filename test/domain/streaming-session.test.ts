/**
 * Sessions from their first to their last hour: what is asked for and checked, what is shown at each step, when their
 * time is over, and what becomes of workstation, volumes, backups and streams.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import { operations } from '../../src/contract/index.ts';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import type { Principal } from '../../src/domain/context.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { membershipId } from '../../src/domain/membership.ts';
import { streamingSessionHandlers } from '../../src/domain/streaming-session.ts';
import { streamingSessionStreamHandlers } from '../../src/domain/streaming-session-stream.ts';
import { ServiceError } from '../../src/errors.ts';
import { assertConforms } from '../support/conforms.ts';
import { ADMINISTRATOR, createWorld } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { refused } from '../support/refused.ts';
import {
  arnOfSession,
  putAcceptance,
  putAmazonImage,
  putBackup,
  putEula,
  putImage,
  putMember,
  putProfile,
  putSession,
  putState,
  putUser,
} from '../support/rows.ts';
import { BACKED_UP, createStage, MINUTE_MS, PERSISTENT, STOPPABLE, type Stage } from '../support/sessions.ts';

const ME = ADMINISTRATOR.principalId;
const T0 = '2026-01-01T00:00:00Z';

describe('create', () => {
  test('a session is made with what is left open chosen, and shows its way to READY', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const session = await stage.ask({ tags: { show: 'alpha' } });
    const { sessionId } = session;
    assertConforms('CreateStreamingSession', { session });
    const expected = {
      arn: arnOfSession(sessionId!),
      createdAt: T0,
      createdBy: ME,
      ec2InstanceType: 'g4dn.xlarge',
      launchProfileId: stage.launchProfileId,
      ownedBy: ME,
      sessionId,
      state: 'CREATE_IN_PROGRESS',
      statusCode: 'STREAMING_SESSION_CREATE_IN_PROGRESS',
      statusMessage: 'Streaming Session creation is in progress',
      streamingImageId: stage.streamingImageId,
      tags: { show: 'alpha' },
      updatedAt: T0,
      updatedBy: ME,
    };
    assert.deepEqual(session, expected);
    assert.deepEqual(await stage.get(sessionId!), expected);
    assert.equal(await stage.workstation(sessionId!), undefined);
    world.clock.advance(5_000);
    await world.settle();
    assert.deepEqual(await stage.get(sessionId!), {
      ...expected,
      state: 'READY',
      statusCode: 'STREAMING_SESSION_READY',
      statusMessage: 'Streaming Session is ready',
      updatedAt: '2026-01-01T00:00:05Z',
      stopAt: '2026-01-01T11:30:05Z',
    });
    assert.equal((await stage.workstation(sessionId!))!.running, true);
    const row = await stage.row(sessionId!);
    assert.deepEqual([row.parentId, row.ownerId], [stage.launchProfileId, ME]);
  });

  test('image, instance type and owner are taken as asked for, and reach the workstation', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const images = [await putImage(world, studioId), await putAmazonImage(world, { eulaIds: [] })];
    const stage = await createStage(world, { streamingImageIds: images });
    const launchProfileId = await putProfile(world, studioId, {
      streamConfiguration: {
        clipboardMode: 'ENABLED',
        ec2InstanceTypes: ['g4dn.xlarge', 'g5.2xlarge'],
        streamingImageIds: images,
      },
    });
    const asked = { ec2InstanceType: 'g5.2xlarge', streamingImageId: images[1], ownedBy: 'artist' };
    const session = await stage.ask({ studioId, launchProfileId, ...asked });
    assert.deepEqual({ ...session, ...asked }, session);
    await world.settle();
    assert.equal((await world.workstations.records.get(session.sessionId!))!.volume!.imageId, images[1]);
  });

  test('what the profile says of persistence and backups is copied, and stays when the profile changes', async () => {
    const world = createWorld();
    const copied = {
      automaticTerminationMode: 'ACTIVATED',
      sessionPersistenceMode: 'ACTIVATED',
      volumeConfiguration: { size: 600, iops: 4_000, throughput: 250 },
    } as const;
    const stage = await createStage(world, {
      ...copied,
      maxSessionLengthInMinutes: 30,
      maxStoppedSessionLengthInMinutes: 90,
      sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 3 },
    });
    const { sessionId, ...session } = await stage.ask();
    const { automaticTerminationMode, sessionPersistenceMode, volumeConfiguration } = session;
    assert.deepEqual({ automaticTerminationMode, sessionPersistenceMode, volumeConfiguration }, copied);
    assert.deepEqual([session.backupMode, session.maxBackupsToRetain], ['AUTOMATIC', 3]);
    await changeProfile(stage, { maxSessionLengthInMinutes: 1, sessionPersistenceMode: 'DEACTIVATED' });
    await world.settle();
    assert.equal((await stage.get(sessionId!)).stopAt, '2026-01-01T00:30:00Z');
  });

  const refusals: Record<
    string,
    { given: (stage: Stage) => Promise<object | undefined>; name: ServiceError['name']; code: string }
  > = {
    'an unknown profile': {
      given: async () => ({ launchProfileId: 'absent' }),
      name: 'ResourceNotFoundException',
      code: 'RESOURCE_NOT_FOUND',
    },
    'a profile of another studio': {
      given: async ({ world }) => ({ launchProfileId: await putProfile(world, await world.makeStudio()) }),
      name: 'ResourceNotFoundException',
      code: 'RESOURCE_NOT_FOUND',
    },
    'an unknown studio': {
      given: async () => ({ studioId: 'us-west-2:stid-absent' }),
      name: 'ResourceNotFoundException',
      code: 'RESOURCE_NOT_FOUND',
    },
    'an image that is not of the profile': {
      given: async ({ world, studioId }) => ({ streamingImageId: await putImage(world, studioId) }),
      name: 'ValidationException',
      code: 'NOT_IN_LAUNCH_PROFILE',
    },
    'an instance type that is not of the profile': {
      given: async () => ({ ec2InstanceType: 'g3s.xlarge' }),
      name: 'ValidationException',
      code: 'NOT_IN_LAUNCH_PROFILE',
    },
    'tags beyond their limits': {
      given: async () => ({ tags: { '': 'x' } }),
      name: 'ValidationException',
      code: 'INVALID_TAGS',
    },
    'a studio that is being deleted': {
      given: async ({ world, studioId }) => void (await putState(world, KIND.studio, studioId, 'DELETE_IN_PROGRESS')),
      name: 'ConflictException',
      code: 'STUDIO_NOT_READY',
    },
  };

  for (const [what, { given, name, code }] of Object.entries(refusals)) {
    test(`${what} is refused, and nothing is made`, async () => {
      const world = createWorld();
      const stage = await createStage(world);
      await refused(stage.ask((await given(stage)) ?? {}), name, code);
      assert.equal(await world.store.count({ kind: KIND.streamingSession, limit: 1 }), 0);
    });
  }

  const PROFILES: Record<NonNullable<LaunchProfile['state']>, 200 | 404 | 409> = {
    CREATE_IN_PROGRESS: 409,
    READY: 200,
    UPDATE_IN_PROGRESS: 409,
    DELETE_IN_PROGRESS: 409,
    DELETED: 404,
    DELETE_FAILED: 409,
    CREATE_FAILED: 409,
    UPDATE_FAILED: 409,
  };
  for (const [state, status] of Object.entries(PROFILES)) {
    test(`from a profile that is ${state} it is ${status}`, async () => {
      const stage = await createStage(createWorld());
      await setState(stage, KIND.launchProfile, stage.launchProfileId, state);
      await answers(stage.ask(), status);
    });
  }

  const IMAGES: Record<NonNullable<StreamingImage['state']>, 200 | 404 | 409> = {
    CREATE_IN_PROGRESS: 409,
    READY: 200,
    UPDATE_IN_PROGRESS: 200,
    UPDATE_FAILED: 200,
    CREATE_FAILED: 409,
    DELETE_IN_PROGRESS: 409,
    // Its key may be gone, and another attempt at its bytes under way.
    DELETE_FAILED: 409,
    DELETED: 404,
  };
  for (const [state, status] of Object.entries(IMAGES)) {
    test(`from an image that is ${state} it is ${status}`, async () => {
      const stage = await createStage(createWorld());
      await setState(stage, KIND.streamingImage, stage.streamingImageId, state);
      await answers(stage.ask(), status);
    });
  }

  test('every EULA of the image must be accepted by the studio; those that are missing are named', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const eulas = [await putEula(world), await putEula(world), await putEula(world)];
    const image = await putImage(world, stage.studioId, { eulaIds: eulas });
    await changeProfile(stage, { streamingImageIds: [image] });
    await putAcceptance(world, stage.studioId, eulas[1]!);
    await putAcceptance(world, await world.makeStudio(), eulas[0]!);
    const context = { eulaIds: `${eulas[0]},${eulas[2]}` };
    await refused(stage.ask(), 'ValidationException', 'EULA_NOT_ACCEPTED', context);
    for (const eulaId of [eulas[0]!, eulas[2]!]) await putAcceptance(world, stage.studioId, eulaId);
    await stage.ask();
  });

  for (const [what, kind] of [
    ['profile', KIND.launchProfile],
    ['image', KIND.streamingImage],
    ['studio', KIND.studio],
  ] as const) {
    test(`a ${what} that begins to be deleted while a session is decided lets none in`, async () => {
      const world = createWorld();
      const stage = await createStage(world);
      const id = { profile: stage.launchProfileId, image: stage.streamingImageId, studio: stage.studioId }[what];
      let first = true;
      const store = intercepted(world.store, async () => {
        if (!first) return;
        first = false;
        const row = (await world.store.get(kind, id))!;
        const state = 'DELETE_IN_PROGRESS';
        await world.store.write([{ op: 'update', row: { ...row, state, version: row.version + 1 } }]);
      });
      const mutation = streamingSessionHandlers.CreateStreamingSession;
      assert.ok('command' in mutation);
      const { writes } = await mutation.command(
        { studioId: stage.studioId, launchProfileId: stage.launchProfileId },
        ADMINISTRATOR,
        world.services,
      );
      await assert.rejects(store.write(writes), /Guard failed: require/);
      assert.deepEqual(await world.store.list({ kind: KIND.streamingSession, limit: 1 }), []);
      await answers(stage.ask(), 409);
    });
  }

  test('the same client token makes one session', async () => {
    const stage = await createStage(createWorld());
    const { sessionId } = await stage.ask({ clientToken: 'once' });
    await stage.world.settle();
    const again = await stage.ask({ clientToken: 'once' });
    assert.deepEqual([again.sessionId, again.state], [sessionId, 'READY']);
    await refused(stage.ask({ clientToken: 'once', ownedBy: 'other' }), 'ValidationException');
    assert.equal((await stage.list()).length, 1);
  });
});

describe('quotas', () => {
  test('a studio has as many sessions as its quota says; what failed and what is stopped counts, what is deleted does not', async () => {
    const world = createWorld({ settings: { streamingSessionsMax: 3 } });
    const stage = await createStage(world);
    const { studioId } = stage;
    const ids = [await stage.create(), await putSession(world, studioId, { state: 'CREATE_FAILED' })];
    await putSession(world, studioId, { state: 'DELETED' });
    await putSession(world, await world.makeStudio());
    ids.push(await stage.createStopped());
    await refused(stage.ask(), 'ServiceQuotaExceededException', 'STREAMING_SESSIONS_PER_STUDIO', { quota: '3' });
    await stage.remove(ids[0]!);
    await refused(stage.ask(), 'ServiceQuotaExceededException');
    await world.settle();
    await stage.ask();
  });

  test('one person owns as many as the quota of owners says, whoever creates them; others own theirs', async () => {
    const world = createWorld({ settings: { sessionsPerOwnerMax: 2 } });
    const stage = await createStage(world);
    const ofAnn = { ownedBy: 'ann' };
    const first = await stage.create(ofAnn);
    await putSession(world, stage.studioId, { ownedBy: 'ann', state: 'CREATE_FAILED' });
    await putSession(world, stage.studioId, { ownedBy: 'ann', state: 'DELETED' });
    await putSession(world, await world.makeStudio(), { ownedBy: 'ann' });
    const context = { quota: '2', ownedBy: 'ann' };
    await refused(stage.ask(ofAnn), 'ServiceQuotaExceededException', 'STREAMING_SESSIONS_PER_OWNER', context);
    await stage.ask({ ownedBy: 'ben' });
    await stage.ask();
    await stage.remove(first);
    await world.settle();
    await stage.ask(ofAnn);
  });

  test('a quota of owners that nobody has set is none, and one of nothing lets nobody create', async () => {
    const stage = await createStage(createWorld());
    for (let made = 0; made < 5; made += 1) await stage.ask();
    const closed = await createStage(createWorld({ settings: { sessionsPerOwnerMax: 0 } }));
    await refused(closed.ask(), 'ServiceQuotaExceededException', 'STREAMING_SESSIONS_PER_OWNER');
  });

  test('sessions of the g5 types have a quota of their own, and free their seat when they are deleted', async () => {
    const world = createWorld({ settings: { g5SessionsMax: 2 } });
    const stage = await createStage(world);
    const g5 = { ec2InstanceType: 'g5.xlarge' };
    const first = await stage.create(g5);
    await stage.create({ ec2InstanceType: 'g5.2xlarge' });
    await refused(stage.ask(g5), 'ServiceQuotaExceededException', 'G5_SESSIONS_PER_STUDIO', { quota: '2' });
    await stage.create();
    await stage.remove(first);
    await world.settle();
    await stage.create(g5);
    await refused(stage.ask(g5), 'ServiceQuotaExceededException');
  });

  test('no two take the last seat, nor the last place, however they come', async () => {
    const world = createWorld({ settings: { g5SessionsMax: 3, streamingSessionsMax: 5 } });
    const stage = await createStage(world);
    const asked = Array.from({ length: 8 }, (_, index) =>
      stage.ask({ ec2InstanceType: index < 5 ? 'g5.xlarge' : 'g4dn.xlarge' }).catch((error: ServiceError) => error),
    );
    await Promise.all(asked);
    const sessions = await stage.list();
    assert.ok(sessions.length <= 5);
    assert.equal(sessions.filter(({ ec2InstanceType }) => ec2InstanceType === 'g5.xlarge').length, 3);
  });
});

describe('who may', () => {
  const signedIn = (principalId: string): Principal => ({ accessKeyId: 'A', principalId, role: 'user' });
  const as = async (stage: Stage, principal: Principal, name: 'Create' | 'Start', input: object) => {
    const handler = streamingSessionHandlers[`${name}StreamingSession`];
    assert.ok('command' in handler);
    const { studioId, launchProfileId } = stage;
    const mutation = await handler.command(
      { studioId, launchProfileId, ...input } as never,
      principal,
      stage.world.services,
    );
    return (JSON.parse(String(mutation.answer)) as { session: StreamingSession }).session;
  };

  test('a portal user starts sessions from profiles that they are a member of, for its members', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const { studioId, launchProfileId } = stage;
    const [artistId, otherId] = [await putUser(world, 'artist'), await putUser(world, 'other')];
    const artist = signedIn(artistId);
    await refused(as(stage, artist, 'Create', {}), 'AccessDeniedException', 'NOT_A_MEMBER', { principalId: artistId });
    await putMember(world, studioId, artistId, launchProfileId);
    const session = await as(stage, artist, 'Create', {});
    assert.deepEqual([session.createdBy, session.ownedBy], [artistId, artistId]);
    const forOther = as(stage, artist, 'Create', { ownedBy: otherId });
    await refused(forOther, 'AccessDeniedException', 'NOT_A_MEMBER', { principalId: otherId });
    await putMember(world, studioId, otherId, launchProfileId);
    assert.equal((await as(stage, artist, 'Create', { ownedBy: otherId })).ownedBy, otherId);
  });

  test('whoever is taken out of the profile sees no session of it any more, not even their own', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const artistId = await putUser(world, 'artist');
    await putMember(world, stage.studioId, artistId, stage.launchProfileId);
    const sessionId = await stage.create({ ownedBy: artistId });
    const handler = streamingSessionStreamHandlers.CreateStreamingSessionStream;
    assert.ok('command' in handler);
    const open = () => handler.command({ studioId: stage.studioId, sessionId }, signedIn(artistId), world.services);
    await open();
    const kind = KIND.launchProfileMember;
    const row = (await world.store.get(kind, membershipId(stage.launchProfileId, artistId)))!;
    await world.store.write([{ op: 'delete', kind, id: row.id, version: row.version }]);
    await refused(open(), 'AccessDeniedException', 'NOT_A_MEMBER', { principalId: artistId });
  });

  test('everyone else creates for anybody', async () => {
    const stage = await createStage(createWorld());
    assert.equal((await stage.ask({ ownedBy: 'anybody' })).ownedBy, 'anybody');
  });

  test('a start looks again whether the profile may be used', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const artistId = await putUser(world, 'artist');
    const sessionId = await stage.create({ ownedBy: artistId });
    await stage.stop(sessionId);
    await world.settle();
    const artist = signedIn(artistId);
    await refused(as(stage, artist, 'Start', { sessionId }), 'AccessDeniedException', 'NOT_A_MEMBER');
    await putMember(world, stage.studioId, artistId, stage.launchProfileId);
    assert.equal((await as(stage, artist, 'Start', { sessionId })).startedBy, artistId);
    await setState(stage, KIND.launchProfile, stage.launchProfileId, 'UPDATE_IN_PROGRESS');
    await refused(stage.start(sessionId), 'ConflictException', 'LAUNCH_PROFILE_NOT_READY');
    assert.equal((await stage.get(sessionId)).state, 'STOPPED');
  });
});

describe('stop and start', () => {
  test('a stop and a start show who and when, and count the time anew', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const sessionId = await stage.create();
    world.clock.advance(10 * MINUTE_MS);
    const stopping = await stage.stop(sessionId);
    assert.deepEqual(
      [stopping.state, stopping.statusCode, stopping.statusMessage],
      ['STOP_IN_PROGRESS', 'STREAMING_SESSION_STOP_IN_PROGRESS', 'Streaming Session stop is in progress'],
    );
    assert.deepEqual([stopping.stoppedAt, stopping.stoppedBy], ['2026-01-01T00:10:00Z', ME]);
    assert.deepEqual([stopping.stopAt, stopping.terminateAt], [undefined, undefined]);
    world.clock.advance(MINUTE_MS);
    await world.settle();
    const stopped = await stage.get(sessionId);
    assert.deepEqual(
      [stopped.state, stopped.statusCode, stopped.statusMessage],
      ['STOPPED', 'STREAMING_SESSION_STOPPED', 'Streaming Session has been stopped'],
    );
    assert.deepEqual([stopped.stopAt, stopped.terminateAt], [undefined, '2026-01-01T01:11:00Z']);
    world.clock.advance(9 * MINUTE_MS);
    const starting = await stage.start(sessionId);
    assert.deepEqual(
      [starting.state, starting.statusCode, starting.statusMessage],
      ['START_IN_PROGRESS', 'STREAMING_SESSION_START_IN_PROGRESS', 'Streaming Session start is in progress'],
    );
    assert.deepEqual([starting.startedAt, starting.startedBy], ['2026-01-01T00:20:00Z', ME]);
    assert.deepEqual([starting.stopAt, starting.terminateAt], [undefined, undefined]);
    world.clock.advance(MINUTE_MS);
    await world.settle();
    const started = await stage.get(sessionId);
    assertConforms('GetStreamingSession', { session: started });
    assert.deepEqual(
      [started.state, started.statusCode, started.statusMessage],
      ['READY', 'STREAMING_SESSION_STARTED', 'Streaming Session has been started'],
    );
    assert.deepEqual([started.stopAt, started.terminateAt], ['2026-01-01T11:51:00Z', undefined]);
    assert.deepEqual([started.startedAt, started.stoppedAt], ['2026-01-01T00:20:00Z', '2026-01-01T00:10:00Z']);
  });

  for (const [configuration, asked, shown, hasVolume] of [
    [STOPPABLE, undefined, 'DELETE', false],
    [STOPPABLE, 'RETAIN', 'RETAIN', true],
    [STOPPABLE, 'DELETE', 'DELETE', false],
    [PERSISTENT, undefined, 'RETAIN', true],
    [PERSISTENT, 'RETAIN', 'RETAIN', true],
    [PERSISTENT, 'DELETE', 'DELETE', false],
  ] as const) {
    test(`a stop with ${asked} of ${JSON.stringify(configuration)} shows ${shown}`, async () => {
      const stage = await createStage(createWorld(), configuration);
      const sessionId = await stage.createStopped(asked ? { volumeRetentionMode: asked } : {});
      assert.equal((await stage.get(sessionId)).volumeRetentionMode, shown);
      const workstation = (await stage.workstation(sessionId))!;
      assert.deepEqual([workstation.running, workstation.hasVolume], [false, hasVolume]);
    });
  }

  test('where the profile gives stopped sessions no time, a stop is refused and changes nothing', async () => {
    const world = createWorld();
    const stage = await createStage(world, {});
    const sessionId = await stage.create();
    const before = await stage.row(sessionId);
    await refused(stage.stop(sessionId), 'ValidationException', 'STOP_NOT_ALLOWED', { resourceId: sessionId });
    await world.settle();
    assert.deepEqual(await stage.row(sessionId), before);
  });

  test('a start from a backup shows it, and the next without one does not', async () => {
    const world = createWorld();
    const stage = await createStage(world, BACKED_UP);
    const sessionId = await stage.createStopped();
    const [{ backupId } = {}] = await stage.backups();
    await stage.start(sessionId, { backupId });
    await world.settle();
    assert.equal((await stage.get(sessionId)).startedFromBackupId, backupId);
    await stage.stop(sessionId);
    await world.settle();
    await stage.start(sessionId);
    await world.settle();
    const session = await stage.get(sessionId);
    assert.deepEqual([session.state, session.startedFromBackupId], ['READY', undefined]);
  });

  test('a start from what is no backup of the session is refused and changes nothing', async () => {
    const world = createWorld();
    const stage = await createStage(world, BACKED_UP);
    const sessionId = await stage.createStopped();
    const before = await stage.row(sessionId);
    const { studioId } = stage;
    const start = (backupId: string) => stage.start(sessionId, { backupId });
    await refused(start('absent'), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: 'absent' });
    const foreign = await putBackup(world, await world.makeStudio(), sessionId);
    await refused(start(foreign), 'ResourceNotFoundException');
    const other = await putBackup(world, studioId, await stage.create());
    await refused(start(other), 'ValidationException', 'BACKUP_OF_ANOTHER_SESSION');
    for (const state of ['CREATE_IN_PROGRESS', 'CREATE_FAILED', 'DELETE_IN_PROGRESS'] as const) {
      const backupId = await putBackup(world, studioId, sessionId, { state });
      await refused(start(backupId), 'ConflictException', 'BACKUP_NOT_READY');
    }
    await refused(
      start(await putBackup(world, studioId, sessionId, { state: 'DELETED' })),
      'ResourceNotFoundException',
    );
    assert.deepEqual(await stage.row(sessionId), before);
  });

  test('replayed with their token, start and stop are done once', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    for (const _ of [1, 2]) assert.match((await stage.stop(sessionId, { clientToken: 'a' })).state!, /^STOP/);
    await world.settle();
    for (const _ of [1, 2]) assert.match((await stage.start(sessionId, { clientToken: 'b' })).state!, /^START/);
    await world.settle();
    assert.equal((await stage.stop(sessionId, { clientToken: 'a' })).state, 'READY');
  });
});

describe('time', () => {
  test('a session that may be stopped is, to the minute, by nobody; and is deleted when it was stopped too long', async () => {
    const world = createWorld();
    const stage = await createStage(world, { ...STOPPABLE, maxSessionLengthInMinutes: 30 });
    const sessionId = await stage.create();
    world.clock.advance(30 * MINUTE_MS - 1);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'READY');
    world.clock.advance(1);
    await world.settle();
    const stopped = await stage.get(sessionId);
    assert.deepEqual(
      [stopped.state, stopped.stoppedAt, stopped.stoppedBy, stopped.updatedBy, stopped.terminateAt],
      ['STOPPED', '2026-01-01T00:30:00Z', undefined, ME, '2026-01-01T01:30:00Z'],
    );
    world.clock.advance(60 * MINUTE_MS - 1);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'STOPPED');
    world.clock.advance(1);
    await world.settle();
    const deleted = await stage.get(sessionId);
    assert.deepEqual([deleted.state, deleted.terminateAt], ['DELETED', undefined]);
    assert.equal(await stage.workstation(sessionId), undefined);
  });

  test('a session that may not be stopped is deleted', async () => {
    const world = createWorld();
    const stage = await createStage(world, {});
    const sessionId = await stage.create();
    assert.deepEqual(
      [(await stage.get(sessionId)).stopAt, (await stage.get(sessionId)).terminateAt],
      [undefined, '2026-01-01T11:30:00Z'],
    );
    world.clock.advance(690 * MINUTE_MS);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'DELETED');
  });

  test('a session that persists stays stopped for ever', async () => {
    const world = createWorld();
    const stage = await createStage(world, PERSISTENT);
    const sessionId = await stage.create();
    world.clock.advance(690 * MINUTE_MS);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'STOPPED');
    world.clock.advance(1_000 * 24 * 60 * MINUTE_MS);
    await world.settle();
    const session = await stage.get(sessionId);
    assert.deepEqual([session.state, session.terminateAt], ['STOPPED', undefined]);
    assert.equal((await stage.workstation(sessionId))!.hasVolume, true);
  });

  test('a start, and tags, leave no old time limit and take none away', async () => {
    const world = createWorld();
    const stage = await createStage(world, STOPPABLE);
    const sessionId = await stage.createStopped({ volumeRetentionMode: 'RETAIN' });
    await stage.start(sessionId);
    await world.settle();
    world.clock.advance(61 * MINUTE_MS);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'READY');
    const { dueAt } = await stage.row(sessionId);
    await world.call('TagResource', { resourceArn: arnOfSession(sessionId), tags: { a: '1' } });
    assert.equal((await stage.row(sessionId)).dueAt, dueAt);
    world.clock.advance(629 * MINUTE_MS);
    await world.settle();
    assert.equal((await stage.get(sessionId)).state, 'STOPPED');
  });

  test('time that passed while no server ran counts', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const sessions = [await stage.create(), await stage.create()];
    world.clock.advance(1_000 * MINUTE_MS);
    await world.settle();
    for (const sessionId of sessions) assert.equal((await stage.get(sessionId)).state, 'STOPPED');
  });
});

describe('delete', () => {
  test('a session goes with its workstation, and stays as a tombstone for a while', async () => {
    const world = createWorld();
    const stage = await createStage(world, BACKED_UP);
    const sessionId = await stage.create();
    const deleting = await stage.remove(sessionId);
    assert.deepEqual(
      [deleting.state, deleting.statusCode, deleting.statusMessage],
      ['DELETE_IN_PROGRESS', 'STREAMING_SESSION_DELETE_IN_PROGRESS', 'Streaming Session deletion is in progress'],
    );
    assert.deepEqual([deleting.stopAt, deleting.terminateAt], [undefined, undefined]);
    await world.settle();
    const deleted = await stage.get(sessionId);
    assert.deepEqual(
      [deleted.state, deleted.statusCode, deleted.statusMessage],
      ['DELETED', 'STREAMING_SESSION_DELETED', 'Streaming Session has been deleted'],
    );
    assert.equal(await stage.workstation(sessionId), undefined);
    assert.deepEqual(
      (await stage.list()).map(({ state }) => state),
      ['DELETED'],
    );
    await refused(stage.remove(sessionId), 'ResourceNotFoundException');
    world.clock.advance(world.services.settings.tombstoneMs);
    await world.settle();
    await refused(stage.get(sessionId), 'ResourceNotFoundException');
    assert.deepEqual(await stage.list(), []);
  });
});

describe('get and list', () => {
  test('sessions of other studios are not there', async () => {
    const world = createWorld();
    const [mine, theirs] = [await createStage(world), await createStage(world)];
    const sessionId = await theirs.create();
    await refused(mine.get(sessionId), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', { resourceId: sessionId });
    for (const call of [mine.start, mine.stop, mine.remove])
      await refused(call(sessionId), 'ResourceNotFoundException');
    assert.deepEqual(await mine.list(), []);
    assert.deepEqual(await mine.list({ sessionIds: sessionId }), []);
    assert.equal((await theirs.get(sessionId)).state, 'READY');
  });

  test('lists show all states, and only what every filter lets through', async () => {
    const world = createWorld();
    const stage = await createStage(world);
    const { studioId } = stage;
    const put = (ownedBy: string, createdBy: string, state: 'READY' | 'DELETED' = 'READY') => {
      world.clock.advance(1);
      return putSession(world, studioId, { ownedBy, createdBy, state });
    };
    const [a, b, c, d] = [
      await put('ann', 'ann'),
      await put('bob', 'ann', 'DELETED'),
      await put('ann', 'bob'),
      await put('bob', 'bob'),
    ];
    const cases: [object, string[]][] = [
      [{}, [a, b, c, d]],
      [{ ownedBy: 'ann' }, [a, c]],
      [{ createdBy: 'ann' }, [a, b]],
      [{ ownedBy: 'bob', createdBy: 'ann' }, [b]],
      [{ ownedBy: 'eve' }, []],
      [{ createdBy: 'eve' }, []],
      [{ sessionIds: d }, [d]],
      [{ sessionIds: `${d}, ${a},,${d},absent` }, [a, d]],
      [{ sessionIds: `${a},${b},${c}`, ownedBy: 'ann' }, [a, c]],
      [{ sessionIds: `${a},${b},${c}`, createdBy: 'ann', ownedBy: 'bob' }, [b]],
      [{ sessionIds: '' }, [a, b, c, d]],
    ];
    for (const [filter, expected] of cases) {
      const ids = (await stage.list(filter)).map(({ sessionId }) => sessionId);
      assert.deepEqual(ids, expected, JSON.stringify(filter));
    }
    const many = Array.from({ length: 101 }, (_, index) => `id${index}`).join();
    await refused(stage.list({ sessionIds: many }), 'ValidationException', 'TOO_MANY_IDS');
  });

  for (const filter of [{}, { ownedBy: 'ann' }, { createdBy: 'ann' }, { createdBy: 'ann', ownedBy: 'ann' }]) {
    test(`pages of a list with ${JSON.stringify(filter)} hold each session once`, async () => {
      const world = createWorld();
      const stage = await createStage(world);
      const ids: string[] = [];
      for (let index = 0; index < 205; index += 1) {
        const members = { ownedBy: 'ann', createdBy: 'ann' };
        ids.push(await putSession(world, stage.studioId, members));
        if (index % 3 === 0) world.clock.advance(1);
      }
      if (Object.keys(filter).length > 0) await putSession(world, stage.studioId);
      const seen: string[] = [];
      let nextToken: string | undefined;
      do {
        const page: { sessions: StreamingSession[]; nextToken?: string } = await world.call('ListStreamingSessions', {
          studioId: stage.studioId,
          ...filter,
          ...(nextToken && { nextToken }),
        });
        assertConforms('ListStreamingSessions', page);
        assert.ok(page.sessions.length <= 100);
        seen.push(...page.sessions.map(({ sessionId }) => sessionId!));
        nextToken = page.nextToken;
      } while (nextToken);
      assert.deepEqual([...seen].sort(), [...ids].sort());
      const first: { nextToken?: string } = await world.call('ListStreamingSessions', {
        studioId: stage.studioId,
        ...filter,
      });
      const other = stage.list({ nextToken: first.nextToken, ownedBy: 'other' });
      await refused(other, 'ValidationException', 'INVALID_NEXT_TOKEN');
    });
  }
});

test('timers are found by the index of what is due, not by looking at every session', async () => {
  const { DatabaseSync } = await import('node:sqlite');
  const { SQL, inDialect, SQLITE } = await import('../../src/store/sql.ts');
  const { readFileSync } = await import('node:fs');
  const database = new DatabaseSync(':memory:');
  for (const name of ['0001-resource.sql', '0003-parent-owner.sqlite.sql']) {
    const url = new URL(`../../src/store/migrations/${name}`, import.meta.url);
    database.exec(inDialect(readFileSync(url, 'utf8'), SQLITE));
  }
  const insert = database.prepare(inDialect(SQL.insert, SQLITE).replace(/\$(\d+)/g, '?$1'));
  database.exec('BEGIN');
  for (let index = 0; index < 100_000; index += 1) {
    insert.run('streaming-session', `${index}`, 's', 'p', 'o', null, 'READY', 1, 1_000 + index, 0, index, '{}', '{}');
  }
  database.exec('COMMIT; ANALYZE');
  const lease = inDialect(SQL.lease, SQLITE).replace(/\$(\d+)/g, '?$1');
  const plan = database.prepare(`EXPLAIN QUERY PLAN ${lease}`).all('streaming-session', 'READY', 1_000, 2_000, 50);
  const steps = plan.map(({ detail }) => String(detail));
  assert.ok(
    steps.some((step) => /resource_due.*due_at</.test(step)),
    steps.join('\n'),
  );
  assert.ok(!steps.some((step) => /^SCAN resource/.test(step)), steps.join('\n'));
  database.close();
});

test('every answer has the shape of the contract', async () => {
  const world = createWorld();
  const stage = await createStage(world, BACKED_UP);
  const sessionId = await stage.create();
  const sequence: OperationName[] = [
    'GetStreamingSession',
    'StopStreamingSession',
    'StartStreamingSession',
    'DeleteStreamingSession',
    'GetStreamingSession',
  ];
  for (const name of sequence) {
    assert.ok(operations.some((operation) => operation.name === name));
    assertConforms(name, await world.call(name, { studioId: stage.studioId, sessionId }));
    await world.settle();
  }
});

async function setState(stage: Stage, kind: string, id: string, state: string): Promise<void> {
  const row = (await stage.world.store.get(kind, id))!;
  await stage.world.store.write([{ op: 'update', row: { ...row, state, version: row.version + 1 } }]);
}

async function changeProfile(stage: Stage, changes: object): Promise<void> {
  const row = (await stage.world.store.get(KIND.launchProfile, stage.launchProfileId))!;
  const profile = JSON.parse(row.doc) as LaunchProfile;
  const doc = JSON.stringify({ ...profile, streamConfiguration: { ...profile.streamConfiguration, ...changes } });
  await stage.world.store.write([{ op: 'update', row: { ...row, doc, version: row.version + 1 } }]);
}

async function answers(call: Promise<unknown>, status: number): Promise<void> {
  const found = await call.then(
    () => 200,
    (error: unknown) => (error instanceof ServiceError ? error.status : String(error)),
  );
  assert.equal(found, status);
}
