/**
 * The operations on studios, as a caller sees them: fields, names, keys, what each state allows, and that a studio
 * with images in it is not deleted but can be emptied.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { Studio } from '../../src/contract/studio.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused, statusOf } from '../support/refused.ts';
import { arnOfStudio, putAmazonImage, putComponent, putElsewhere, putImage, putState } from '../support/rows.ts';

const KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';
const ROLES = {
  adminRoleArn: 'arn:aws:iam::123456789012:role/admin',
  userRoleArn: 'arn:aws:iam::123456789012:role/user',
};

interface One {
  studio: Studio;
}

async function createStudio(world: World, input: object = {}): Promise<Studio> {
  const call = { ...ROLES, displayName: 'A studio', studioName: 'alpha', ...input };
  const answer = await world.call<One>('CreateStudio', call);
  assertConforms('CreateStudio', answer);
  return answer.studio;
}

async function getStudio(world: World, studioId: string): Promise<Studio> {
  const answer = await world.call<One>('GetStudio', { studioId });
  assertConforms('GetStudio', answer);
  return answer.studio;
}

test('a create answers at once, in CREATE_IN_PROGRESS, with every documented field and no other', async () => {
  const world = createWorld();
  const studio = await createStudio(world, { tags: { show: 'alpha' } });
  assert.match(studio.studioId!, /^us-west-2:stid-[a-z0-9]{16}$/);
  assert.match(studio.ssoClientId!, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(studio, {
    ...ROLES,
    arn: `arn:aws:nimble:us-west-2:123456789012:studio/${studio.studioId!.slice('us-west-2:'.length)}`,
    createdAt: '2026-01-01T00:00:00Z',
    displayName: 'A studio',
    homeRegion: 'us-west-2',
    ssoClientId: studio.ssoClientId,
    state: 'CREATE_IN_PROGRESS',
    statusCode: 'STUDIO_CREATE_IN_PROGRESS',
    statusMessage: 'Studio creation is in progress',
    studioEncryptionConfiguration: { keyType: 'AWS_OWNED_KEY' },
    studioId: studio.studioId,
    studioName: 'alpha',
    studioUrl: 'http://127.0.0.1:8642/alpha',
    tags: { show: 'alpha' },
    updatedAt: '2026-01-01T00:00:00Z',
  });
  assert.deepEqual(await getStudio(world, studio.studioId!), studio);
});

test('a studio becomes READY with everything else as it was', async () => {
  const world = createWorld();
  const created = await createStudio(world);
  world.clock.advance(2_000);
  await world.settle();
  assert.deepEqual(await getStudio(world, created.studioId!), {
    ...created,
    state: 'READY',
    statusCode: 'STUDIO_CREATED',
    statusMessage: 'The studio has been created successfully ',
    updatedAt: '2026-01-01T00:00:02Z',
  });
});

test('a key ARN is required with CUSTOMER_MANAGED_KEY and refused without', async () => {
  const world = createWorld();
  world.keys.customerKeys.add(KEY);
  const create = (studioEncryptionConfiguration: object, studioName: string) =>
    createStudio(world, { studioEncryptionConfiguration, studioName });
  const refusal = ['ValidationException', 'INVALID_ENCRYPTION_CONFIGURATION'] as const;
  await refused(create({ keyType: 'CUSTOMER_MANAGED_KEY' }, 'one'), ...refusal);
  await refused(create({ keyType: 'AWS_OWNED_KEY', keyArn: KEY }, 'two'), ...refusal);
  const owned = await create({ keyType: 'AWS_OWNED_KEY' }, 'three');
  assert.deepEqual(owned.studioEncryptionConfiguration, { keyType: 'AWS_OWNED_KEY' });
  const managed = await create({ keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY }, 'four');
  assert.deepEqual(managed.studioEncryptionConfiguration, { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY });
  await world.settle();
  assert.equal((await getStudio(world, managed.studioId!)).state, 'READY');
});

test('two live studios never share a name; the refusal names the one that has it', async () => {
  const world = createWorld();
  const { studioId } = await createStudio(world);
  const refusal = ['ConflictException', 'STUDIO_NAME_TAKEN', { resourceId: studioId! }] as const;
  await refused(createStudio(world), ...refusal);
  await world.settle();
  await refused(createStudio(world), ...refusal);
  await createStudio(world, { studioName: 'beta' });
});

test('a name is free again once its studio is DELETED, and not before', async () => {
  const world = createWorld();
  const { studioId } = await createStudio(world);
  await world.settle();
  await world.call('DeleteStudio', { studioId });
  await refused(createStudio(world), 'ConflictException', 'STUDIO_NAME_TAKEN');
  await world.settle();
  assert.equal((await getStudio(world, studioId!)).state, 'DELETED');
  const second = await createStudio(world);
  assert.notEqual(second.studioId, studioId);
  world.clock.advance(48 * 3_600_000);
  await world.settle();
  await refused(createStudio(world), 'ConflictException', 'STUDIO_NAME_TAKEN', { resourceId: second.studioId! });
});

test('an update is asynchronous, and changes display name and both roles', async () => {
  const world = createWorld();
  const { studioId } = await createStudio(world);
  await world.settle();
  const before = await getStudio(world, studioId!);
  world.clock.advance(5_000);
  const changes = { displayName: '', adminRoleArn: 'arn:other:admin', userRoleArn: 'arn:other:user' };
  const answer = await world.call<One>('UpdateStudio', { studioId, ...changes });
  assertConforms('UpdateStudio', answer);
  const during = {
    ...before,
    ...changes,
    state: 'UPDATE_IN_PROGRESS' as const,
    statusCode: 'STUDIO_UPDATE_IN_PROGRESS' as const,
    statusMessage: 'Studio update is in progress',
    updatedAt: '2026-01-01T00:00:05Z',
  };
  assert.deepEqual(answer.studio, during);
  await world.settle();
  assert.deepEqual(await getStudio(world, studioId!), {
    ...during,
    state: 'READY',
    statusCode: 'STUDIO_UPDATED',
    statusMessage: 'The studio has been updated successfully',
  });
});

test('what an update does not name stays', async () => {
  const world = createWorld();
  const { studioId } = await createStudio(world);
  await world.settle();
  for (const changes of [{ displayName: 'new' }, { adminRoleArn: 'arn:new' }, {}]) {
    const before = await getStudio(world, studioId!);
    await world.call('UpdateStudio', { studioId, ...changes });
    await world.settle();
    const { displayName, adminRoleArn, userRoleArn, tags } = before;
    const after = await getStudio(world, studioId!);
    assert.deepEqual(
      {
        displayName: after.displayName,
        adminRoleArn: after.adminRoleArn,
        userRoleArn: after.userRoleArn,
        tags: after.tags,
      },
      { displayName, adminRoleArn, userRoleArn, tags, ...changes },
    );
  }
});

test('a repair gives a studio of another address the present one and a new sign-in client, and changes nothing else', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const valid = await getStudio(world, studioId);
  await putElsewhere(world, studioId, 'http://old.example/studio1');
  const before = await getStudio(world, studioId);
  world.clock.advance(5_000);

  const answer = await world.call<One>('StartStudioSSOConfigurationRepair', { studioId });
  assertConforms('StartStudioSSOConfigurationRepair', answer);
  const during = {
    ...before,
    state: 'UPDATE_IN_PROGRESS' as const,
    statusCode: 'AWS_SSO_CONFIGURATION_REPAIR_IN_PROGRESS' as const,
    statusMessage: 'The repair of the sign-in configuration is in progress',
    updatedAt: '2026-01-01T00:00:05Z',
  };
  assert.deepEqual(answer.studio, during);
  await world.settle();
  const after = await getStudio(world, studioId);
  assert.notEqual(after.ssoClientId, before.ssoClientId);
  assert.match(after.ssoClientId!, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.deepEqual(after, {
    ...during,
    ssoClientId: after.ssoClientId,
    state: 'READY',
    statusCode: 'AWS_SSO_CONFIGURATION_REPAIRED',
    statusMessage: 'The sign-in configuration has been repaired',
    studioUrl: valid.studioUrl,
  });
  assert.equal((await world.store.get(KIND.studio, studioId))!.private, '{}');
  // What has been repaired is valid, and an update after it is none.
  await refused(repair(world, studioId), 'ValidationException', 'SSO_CONFIGURATION_VALID');
  await world.call('UpdateStudio', { studioId, displayName: 'new' });
  await world.settle();
  assert.equal((await getStudio(world, studioId)).statusCode, 'STUDIO_UPDATED');
});

const repair = (world: World, studioId: string) => world.call<One>('StartStudioSSOConfigurationRepair', { studioId });

test('a studio whose address is that of this server has nothing to repair, and stays as it is', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const before = await world.store.get(KIND.studio, studioId);
  await refused(repair(world, studioId), 'ValidationException', 'SSO_CONFIGURATION_VALID');
  assert.deepEqual(await world.store.get(KIND.studio, studioId), before);
});

test('a repair that was given up is not carried on by a later update, and can be started again', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const { studioUrl } = await putElsewhere(world, studioId).then(({ doc }) => JSON.parse(doc) as Studio);
  await repair(world, studioId);
  await putState(world, KIND.studio, studioId, 'UPDATE_FAILED');
  await world.call('UpdateStudio', { studioId, displayName: 'new' });
  await world.settle();
  const updated = await getStudio(world, studioId);
  assert.deepEqual([updated.statusCode, updated.studioUrl], ['STUDIO_UPDATED', studioUrl]);
  await repair(world, studioId);
  await world.settle();
  assert.equal((await getStudio(world, studioId)).statusCode, 'AWS_SSO_CONFIGURATION_REPAIRED');
});

/** Status of get, update, delete, tag, repair; typed out a second time. */
const TABLE: Record<NonNullable<Studio['state']>, [number, number, number, number, number]> = {
  CREATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  READY: [200, 200, 200, 200, 200],
  UPDATE_IN_PROGRESS: [200, 409, 409, 409, 409],
  CREATE_FAILED: [200, 409, 200, 200, 409],
  UPDATE_FAILED: [200, 200, 200, 200, 200],
  DELETE_IN_PROGRESS: [200, 409, 409, 409, 409],
  DELETE_FAILED: [200, 200, 200, 200, 200],
  DELETED: [200, 404, 404, 404, 404],
};
const REQUESTS = [
  'GetStudio',
  'UpdateStudio',
  'DeleteStudio',
  'TagResource',
  'StartStudioSSOConfigurationRepair',
] as const;

for (const [state, expected] of Object.entries(TABLE)) {
  for (const [index, request] of REQUESTS.entries()) {
    test(`${request} of a studio in ${state} is ${expected[index]}`, async () => {
      const world = createWorld();
      const studioId = await world.makeStudio();
      await putElsewhere(world, studioId);
      const before = await putState(world, KIND.studio, studioId, state);
      const input = { studioId, displayName: 'new', resourceArn: arnOfStudio(studioId), tags: { a: '1' } };
      assert.equal(await statusOf(world.call(request, input)), expected[index]);
      const after = await world.store.get(KIND.studio, studioId);
      if (request === 'GetStudio' || expected[index] !== 200) assert.deepEqual(after, before);
      else if (request === 'TagResource') assert.equal(after!.state, state);
      else assert.equal(after!.state, request === 'DeleteStudio' ? 'DELETE_IN_PROGRESS' : 'UPDATE_IN_PROGRESS');
    });
  }
}

test('a studio that is not there is 404 with its id, for whatever id', async () => {
  const world = createWorld();
  for (const studioId of ['us-west-2:stid-nothere', '-', 'amazon', '', '__proto__', 'a/b', '\u0000', '🎬']) {
    for (const name of REQUESTS.filter((request) => request !== 'TagResource')) {
      await refused(world.call(name, { studioId }), 'ResourceNotFoundException', 'RESOURCE_NOT_FOUND', {
        resourceId: studioId,
      });
    }
  }
});

test('a tombstone of a studio is shown by Get and List until it expires, then it is 404', async () => {
  const world = createWorld({ settings: { tombstoneMs: 60_000 } });
  const studioId = await world.makeStudio();
  await world.call('DeleteStudio', { studioId });
  await world.settle();
  world.clock.advance(59_999);
  await world.settle();
  const tombstone = await getStudio(world, studioId);
  assert.equal(tombstone.state, 'DELETED');
  assert.equal(tombstone.statusCode, 'STUDIO_DELETED');
  const list = async () => {
    const answer = await world.call<{ studios: Studio[] }>('ListStudios', {});
    assertConforms('ListStudios', answer);
    return answer.studios.map((studio) => studio.studioId);
  };
  assert.deepEqual(await list(), [studioId]);
  world.clock.advance(1);
  await world.settle();
  await refused(world.call('GetStudio', { studioId }), 'ResourceNotFoundException');
  assert.deepEqual(await list(), []);
});

test('a studio with images is not deleted; its images can be, and then the studio', async () => {
  const world = createWorld();
  await world.addMachineImage('ami-1');
  const studioId = await world.makeStudio();
  const { streamingImage } = await world.call<{ streamingImage: StreamingImage }>('CreateStreamingImage', {
    studioId,
    name: 'n',
    ec2ImageId: 'ami-1',
  });
  const { streamingImageId } = streamingImage;
  await world.settle();

  const answer = await world.call<One>('DeleteStudio', { studioId });
  assertConforms('DeleteStudio', answer);
  assert.equal(answer.studio.state, 'DELETE_IN_PROGRESS');
  assert.equal(answer.studio.statusCode, 'STUDIO_DELETE_IN_PROGRESS');
  await world.settle();
  const blocked = await getStudio(world, studioId);
  assert.equal(blocked.state, 'DELETE_FAILED');
  assert.equal(blocked.statusCode, 'STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED');
  assert.equal(
    (await world.call<{ streamingImage: StreamingImage }>('GetStreamingImage', { studioId, streamingImageId }))
      .streamingImage.state,
    'READY',
  );
  await refused(createStudio(world, { studioName: blocked.studioName }), 'ConflictException', 'STUDIO_NAME_TAKEN');

  await world.call('DeleteStreamingImage', { studioId, streamingImageId });
  await world.settle();
  await world.call('DeleteStudio', { studioId });
  await world.settle();
  assert.equal((await getStudio(world, studioId)).state, 'DELETED');
});

test('every image that is not DELETED keeps its studio; tombstones and what Amazon provides do not', async () => {
  const world = createWorld();
  await putAmazonImage(world);
  for (const state of ['CREATE_FAILED', 'READY', 'DELETE_IN_PROGRESS', 'DELETE_FAILED', 'DELETED'] as const) {
    const studioId = await world.makeStudio();
    await putImage(world, studioId, { state });
    await world.call('DeleteStudio', { studioId });
    await world.settle();
    const expected = state === 'DELETED' ? 'DELETED' : 'DELETE_FAILED';
    assert.equal((await getStudio(world, studioId)).state, expected, `with an image in ${state}`);
  }
});

test('every component that is not DELETED keeps its studio, and is named before its images', async () => {
  const world = createWorld();
  for (const state of ['CREATE_FAILED', 'READY', 'UPDATE_FAILED', 'DELETE_FAILED', 'DELETED'] as const) {
    const studioId = await world.makeStudio();
    await putImage(world, studioId);
    await putComponent(world, studioId, { state });
    await world.call('DeleteStudio', { studioId });
    await world.settle();
    const { state: left, statusCode, statusMessage } = await getStudio(world, studioId);
    const what = state === 'DELETED' ? 'STREAMING_IMAGES' : 'STUDIO_COMPONENTS';
    assert.deepEqual([left, statusCode], ['DELETE_FAILED', `STUDIO_WITH_${what}_NOT_DELETED`], state);
    assert.match(statusMessage!, state === 'DELETED' ? /streaming images/ : /studio components/);
  }
});

test('a studio with components can be emptied of them, and then is deleted', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const studioComponentId = await putComponent(world, studioId);
  const remove = async () => {
    await world.call('DeleteStudio', { studioId });
    await world.settle();
    return (await getStudio(world, studioId)).state;
  };
  assert.equal(await remove(), 'DELETE_FAILED');
  await world.call('DeleteStudioComponent', { studioId, studioComponentId });
  await world.settle();
  assert.equal(await remove(), 'DELETED');
});

test('a studio whose delete failed can be used on as before', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await putImage(world, studioId);
  await world.call('DeleteStudio', { studioId });
  await world.settle();
  await world.call('UpdateStudio', { studioId, displayName: 'on we go' });
  await world.settle();
  const studio = await getStudio(world, studioId);
  assert.equal(studio.state, 'READY');
  assert.equal(studio.displayName, 'on we go');
});

test('studios are listed in the order of their creation, whatever their state', async () => {
  const world = createWorld();
  const ids: string[] = [];
  for (const state of ['READY', 'DELETED', 'CREATE_FAILED', 'DELETE_FAILED']) {
    world.clock.advance(1_000);
    const studioId = await world.makeStudio();
    await putState(world, KIND.studio, studioId, state);
    ids.push(studioId);
  }
  const { studios } = await world.call<{ studios: Studio[] }>('ListStudios', {});
  assert.deepEqual(
    studios.map(({ studioId }) => studioId),
    ids,
  );
});
