/** What a workstation is told at its start, by what the image, the profile and its components say at that moment. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { WorkstationRequest } from '../../src/compute/compute.ts';
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { createWorld, type World } from '../support/domain.ts';
import { putComponent, putState } from '../support/rows.ts';
import { createStage, PERSISTENT } from '../support/sessions.ts';

type Scripts = NonNullable<StudioComponent['initializationScripts']>;
type Configured = readonly Partial<StudioComponent>[];

const script = (
  runContext: NonNullable<Scripts[number]['runContext']>,
  text: string,
  more: Partial<Scripts[number]> = {},
) => ({
  launchProfileProtocolVersion: '2021-03-31',
  platform: 'LINUX' as const,
  runContext,
  script: text,
  ...more,
});

/** A stage whose profile has these components, and what its workstations are told. */
async function createListeningStage(
  components: Configured,
  configuration: Partial<StreamConfiguration> = {},
  { world = createWorld(), studio = {} }: { readonly world?: World; readonly studio?: object } = {},
) {
  const stage = await createStage(world, { ...PERSISTENT, ...configuration }, studio);
  const componentIds: string[] = [];
  for (const component of components) componentIds.push(await putComponent(world, stage.studioId, component));
  const change = async (kind: string, id: string, members: object) => {
    const row = (await world.store.get(kind, id))!;
    const doc = JSON.stringify({ ...JSON.parse(row.doc), ...members });
    await world.store.write([{ op: 'update', row: { ...row, version: row.version + 1, doc } }]);
  };
  await change(KIND.launchProfile, stage.launchProfileId, { studioComponentIds: componentIds });
  const told: WorkstationRequest[] = [];
  const ensure = world.compute.ensure;
  world.compute.ensure = (request) => {
    told.push(request);
    return ensure(request);
  };
  return { world, stage, componentIds, change, told };
}

const COMPONENTS: Configured = [
  {
    name: 'Licences',
    initializationScripts: [
      script('USER_INITIALIZATION', 'user one'),
      script('SYSTEM_INITIALIZATION', 'system one'),
      script('SYSTEM_INITIALIZATION', 'for windows', { platform: 'WINDOWS' }),
    ],
    scriptParameters: [
      { key: 'SERVER', value: '27000@licences' },
      { key: '_port', value: "a'b\n$c" },
    ],
  },
  { name: 'No scripts' },
  {
    name: 'Storage',
    initializationScripts: [
      script('SYSTEM_INITIALIZATION', 'system two'),
      script('USER_INITIALIZATION', 'user two'),
      { platform: 'LINUX', runContext: 'SYSTEM_INITIALIZATION' },
    ],
  },
];

test('scripts of the system come first, then those of the user, each in the order of components, with their own parameters', async () => {
  const { stage, told } = await createListeningStage(COMPONENTS);
  await stage.create();
  const licences = { SERVER: '27000@licences', _port: "a'b\n$c" };
  assert.deepEqual(told[0]!.scripts, [
    { name: 'Licences', text: 'system one', runAs: 'system', parameters: licences },
    { name: 'Storage', text: 'system two', runAs: 'system', parameters: {} },
    { name: 'Licences', text: 'user one', runAs: 'user', parameters: licences },
    { name: 'Storage', text: 'user two', runAs: 'user', parameters: {} },
  ]);
});

for (const [written, platform] of [
  ['LINUX', 'LINUX'],
  ['WINDOWS', 'WINDOWS'],
  ['Windows', 'WINDOWS'],
] as const) {
  test(`an image of ${written} makes a workstation of ${platform}, and gets the scripts for it`, async () => {
    const { stage, told, change } = await createListeningStage(COMPONENTS);
    await change(KIND.streamingImage, stage.streamingImageId, { platform: written });
    await stage.create();
    assert.equal(told[0]!.platform, platform);
    const texts = told[0]!.scripts.map(({ text }) => text);
    if (platform === 'WINDOWS') assert.deepEqual(texts, ['for windows']);
    else assert.equal(texts.length, 4);
  });
}

test('an image of another platform is not started', async () => {
  const { stage, told, change } = await createListeningStage([]);
  await change(KIND.streamingImage, stage.streamingImageId, { platform: 'Plan' });
  const { state, statusCode, statusMessage } = await stage.get(await stage.create());
  assert.deepEqual([state, statusCode, told.length], ['CREATE_FAILED', 'AMI_VALIDATION_ERROR', 0]);
  assert.match(statusMessage!, /neither LINUX nor WINDOWS/);
});

for (const clipboardMode of ['ENABLED', 'DISABLED'] as const) {
  test(`the clipboard is what the profile says: ${clipboardMode}`, async () => {
    const { stage, told } = await createListeningStage([], { clipboardMode });
    await stage.create();
    assert.equal(told[0]!.clipboard, clipboardMode === 'ENABLED');
  });
}

test('a start is told what the profile says by then, without components that were deleted', async () => {
  const { world, stage, componentIds, change, told } = await createListeningStage(COMPONENTS);
  const sessionId = await stage.createStopped();
  await putState(world, KIND.studioComponent, componentIds[0]!, 'DELETED');
  const profile = JSON.parse((await world.store.get(KIND.launchProfile, stage.launchProfileId))!.doc);
  const streamConfiguration = { ...profile.streamConfiguration, clipboardMode: 'DISABLED' };
  await change(KIND.launchProfile, stage.launchProfileId, { streamConfiguration });
  await stage.start(sessionId);
  await world.settle();
  assert.equal((await stage.get(sessionId)).state, 'READY');
  const { scripts, clipboard } = told[1]!;
  assert.deepEqual([scripts.map(({ text }) => text), clipboard], [['system two', 'user two'], false]);
});

for (const keyArn of ['arn:aws:kms:us-west-2:123456789012:key/film', undefined]) {
  test(`the workstation's key is to be under the studio's own, as it has one: ${keyArn}`, async () => {
    const world = createWorld();
    if (keyArn !== undefined) world.keys.customerKeys.add(keyArn);
    const studio = keyArn && { studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } };
    const { stage, told } = await createListeningStage([], {}, { world, ...(studio && { studio }) });
    const sessionId = await stage.createStopped();
    await stage.start(sessionId);
    await world.settle();
    assert.deepEqual(
      told.map((request) => request.keyArn),
      [keyArn, keyArn],
    );
  });
}

test('a profile that is gone by then ends the start', async () => {
  const { world, stage, told } = await createListeningStage([]);
  const { sessionId } = await stage.ask();
  await putState(world, KIND.launchProfile, stage.launchProfileId, 'DELETED');
  await world.settle();
  const { state, statusCode, statusMessage } = await stage.get(sessionId!);
  assert.deepEqual([state, statusCode, told.length], ['CREATE_FAILED', 'INTERNAL_ERROR', 0]);
  assert.match(statusMessage!, new RegExp(`${stage.launchProfileId} is not there any more`));
});

for (const key of ['', '1ST', 'A B', 'A=B', 'A-B', 'Ä', 'A\nB', undefined]) {
  test(`a parameter called ${JSON.stringify(key)}, which the API would not take, fails and tells no secret`, async () => {
    const parameter = { value: 'secret value', ...(key !== undefined && { key }) };
    const named = { name: 'Storage', initializationScripts: [script('SYSTEM_INITIALIZATION', 'secret script')] };
    const { stage, told } = await createListeningStage([
      { ...named, scriptParameters: [{ key: 'GOOD', value: 'x' }, parameter] },
    ]);
    const { state, statusCode, statusMessage } = await stage.get(await stage.create());
    assert.deepEqual([state, statusCode, told.length], ['CREATE_FAILED', 'INITIALIZATION_SCRIPT_ERROR', 0]);
    assert.match(statusMessage!, /^Script parameter 2 of component Storage /);
    assert.doesNotMatch(statusMessage!, /secret/);
  });
}

test('parameters that no script gets keep nobody from starting', async () => {
  const { stage, told } = await createListeningStage([{ scriptParameters: [{ key: 'A B', value: 'x' }] }]);
  assert.equal((await stage.get(await stage.create())).state, 'READY');
  assert.deepEqual(told[0]!.scripts, []);
});
