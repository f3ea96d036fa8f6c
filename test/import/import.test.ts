/**
 * What an import makes of what it finds: rows with the ids that things had, nothing over what is there, and a sentence for
 * whatever cannot come along. Documents are as the vendor's command line printed them.
 */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { Studio } from '../../src/contract/studio.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { importExport } from '../../src/import/import.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, SETTINGS, type World } from '../support/domain.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const AMI = 'ami-0123456789abcdef0';
const PLACE = `arn:aws:nimble:${SETTINGS.region}:${SETTINGS.accountId}`;
const STUDIO_ID = `${SETTINGS.region}:stid-abc`;

const studio = {
  adminRoleArn: 'arn:aws:iam::123456789012:role/admin',
  arn: `${PLACE}:studio/stid-abc`,
  createdAt: '2022-01-27T21:18:59+00:00',
  displayName: 'The film',
  homeRegion: SETTINGS.region,
  ssoClientId: 'sso',
  state: 'READY',
  statusCode: 'STUDIO_UPDATED',
  statusMessage: 'The studio has been updated successfully',
  studioEncryptionConfiguration: { keyType: 'AWS_OWNED_KEY' },
  studioId: STUDIO_ID,
  studioName: 'film',
  studioUrl: 'https://film.nimblestudio.us-west-2.amazonaws.com',
  tags: { show: 'alpha' },
  updatedAt: '2022-01-27T22:18:59.120000+01:00',
  userRoleArn: 'arn:aws:iam::123456789012:role/user',
};
const component = {
  arn: `${PLACE}:studio-component/component1`,
  configuration: { sharedFileSystemConfiguration: { endpoint: 'files', linuxMountPoint: '/mnt' } },
  createdAt: 1643318339.5,
  createdBy: 'AIDA1',
  ec2SecurityGroupIds: [],
  name: 'Files',
  state: 'UPDATE_FAILED',
  statusCode: 'INTERNAL_ERROR',
  statusMessage: 'It failed.',
  studioComponentId: 'component1',
  subtype: 'CUSTOM',
  tags: {},
  type: 'SHARED_FILE_SYSTEM',
};
const image = {
  arn: `${PLACE}:streaming-image/image1`,
  ec2ImageId: AMI,
  encryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: 'arn:aws:kms:us-west-2:123456789012:key/1' },
  eulaIds: ['eula1'],
  name: 'Houdini',
  owner: STUDIO_ID,
  platform: 'WINDOWS',
  state: 'READY',
  statusCode: 'STREAMING_IMAGE_READY',
  streamingImageId: 'image1',
  tags: { team: 'fx' },
};
const eula = {
  content: 'https://example.org/eula',
  createdAt: '2020-01-01T00:00:00Z',
  eulaId: 'eula1',
  name: 'Licence',
};
const acceptance = {
  acceptedAt: '2022-02-02T00:00:00+00:00',
  acceptedBy: 'AIDA1',
  accepteeId: STUDIO_ID,
  eulaAcceptanceId: 'acceptance1',
  eulaId: 'eula1',
};

type Files = Readonly<Record<string, unknown>>;

const EXPORT: Files = {
  'studios.json': { studios: [studio] },
  'anything.json': { studioComponents: [component], nextToken: null },
  'images-1.json': { streamingImages: [image] },
  'images-2.json': { streamingImages: [{ ...image, streamingImageId: 'amazon1', owner: 'amazon' }] },
  'eula.json': { eula },
  'acceptances.json': { eulaAcceptances: [acceptance] },
};

function written(t: TestContext, files: Files): string {
  const directory = temporaryDirectory(t);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, name)), { recursive: true });
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}

/** `result id` of each thing, and its note. */
async function imported(t: TestContext, world: World, files: Files, apply = true): Promise<Map<string, string>> {
  const outcomes = await importExport(written(t, files), world.services, apply);
  return new Map(outcomes.map(({ result, kind, id, note }) => [`${result} ${kind} ${id}`.trim(), note]));
}

const rowsIn = async ({ store }: World) => {
  const kinds = [KIND.studio, KIND.eula, KIND.studioComponent, KIND.streamingImage, KIND.eulaAcceptance];
  return (await Promise.all(kinds.map((kind) => store.list({ kind, limit: 100 })))).flat();
};

describe('an export of a whole studio', () => {
  const MADE = ['studio us-west-2:stid-abc', 'eula eula1', 'studio-component component1', 'streaming-image image1'];

  it('comes in with its ids, in answers of the contract', async (t) => {
    const world = createWorld();
    const outcomes = await imported(t, world, EXPORT);
    assert.deepEqual(
      [...outcomes.keys()],
      [...MADE.map((what) => `new ${what}`), 'left out streaming-image amazon1', 'new eula-acceptance acceptance1'],
    );
    const read = await world.call<{ studio: Studio }>('GetStudio', { studioId: STUDIO_ID });
    assertConforms('GetStudio', read);
    assert.deepEqual(read.studio, {
      ...studio,
      createdAt: '2022-01-27T21:18:59Z',
      updatedAt: '2022-01-27T21:18:59Z',
      studioUrl: `${SETTINGS.publicUrl()}/film`,
    });
    const where = { studioId: STUDIO_ID };
    const components = await world.call<{ studioComponents: object[] }>('ListStudioComponents', where);
    assertConforms('ListStudioComponents', components);
    const { ec2SecurityGroupIds: _, ...kept } = component;
    assert.deepEqual(components.studioComponents, [
      {
        ...kept,
        createdAt: '2022-01-27T21:18:59Z',
        state: 'READY',
        statusCode: 'STUDIO_COMPONENT_CREATED',
        statusMessage: 'Imported',
      },
    ]);
    const acceptances = await world.call<{ eulaAcceptances: object[] }>('ListEulaAcceptances', where);
    assert.deepEqual(acceptances.eulaAcceptances, [{ ...acceptance, acceptedAt: '2022-02-02T00:00:00Z' }]);
    const tags = await world.call<{ tags: object }>('ListTagsForResource', { resourceArn: image.arn });
    assert.deepEqual({ ...tags.tags }, image.tags);
  });

  it('has images without disks fail with what to do, and copied where the disk is here already', async (t) => {
    const lacking = createWorld();
    const sentence = `It has no disk yet. Give it one: backlot machine-image import FILE --platform WINDOWS --as ${AMI}`;
    assert.equal((await imported(t, lacking, EXPORT)).get('new streaming-image image1'), sentence);
    const call = { studioId: STUDIO_ID, streamingImageId: 'image1' };
    const { streamingImage } = await lacking.call<{ streamingImage: StreamingImage }>('GetStreamingImage', call);
    assert.deepEqual([streamingImage.state, streamingImage.statusMessage], ['CREATE_FAILED', sentence]);
    assert.equal(streamingImage.encryptionConfiguration, undefined);

    const having = createWorld();
    await having.addMachineImage(AMI);
    await imported(t, having, EXPORT);
    await having.settle();
    const made = await having.call<{ streamingImage: StreamingImage }>('GetStreamingImage', call);
    assert.deepEqual([made.streamingImage.state, made.streamingImage.name], ['READY', 'Houdini']);
  });

  it('is told of and not made without apply', async (t) => {
    const world = createWorld();
    const outcomes = await imported(t, world, EXPORT, false);
    assert.deepEqual(
      MADE.map((what) => outcomes.has(`new ${what}`)),
      MADE.map(() => true),
    );
    assert.deepEqual(await rowsIn(world), []);
  });

  it('changes nothing the second time, also where something was changed here since', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    await world.call('UpdateStudio', { studioId: STUDIO_ID, displayName: 'Changed here' });
    await world.settle();
    const before = await rowsIn(world);
    const outcomes = [...(await imported(t, world, EXPORT)).keys()];
    assert.deepEqual(
      outcomes.filter((key) => !/^(there|left out) /.test(key)),
      [],
    );
    assert.deepEqual(await rowsIn(world), before);
  });

  it('changes nothing of one id that was made of something else, or not by an import', async (t) => {
    const world = createWorld();
    await imported(t, world, EXPORT);
    const before = await rowsIn(world);
    const outcomes = await imported(t, world, {
      'a.json': { studios: [{ ...studio, displayName: 'Another' }] },
      'b.json': { streamingImage: { ...image, name: 'Another' } },
    });
    for (const [key, note] of outcomes) {
      assert.match(key, /^refused /);
      assert.match(note, /There is one of this id already, made of something else\. It is left as it is\./);
    }
    assert.deepEqual(await rowsIn(world), before);
  });

  it('is the same in pages, in single outputs, and said twice', async (t) => {
    const world = createWorld();
    const more = { ...component, studioComponentId: 'component2', arn: `${PLACE}:studio-component/component2` };
    const outcomes = await imported(t, world, {
      '1.json': { studio },
      '2.json': { studios: [studio] },
      '3.json': { studioComponents: [component] },
      '4.json': { studioComponents: [more], nextToken: 'next' },
    });
    assert.deepEqual(
      [...outcomes],
      [
        ['left out', 'It is not the last page of its list: save the others as well.'],
        [`new studio ${STUDIO_ID}`, ''],
        [`there studio ${STUDIO_ID}`, ''],
        ['new studio-component component1', ''],
        ['new studio-component component2', ''],
      ],
    );
  });
});

describe('the studio of what does not say it', () => {
  const other = { ...studio, studioId: 'us-west-2:stid-def', studioName: 'other', arn: `${PLACE}:studio/stid-def` };

  it('is the only one, or the one that the directory is named by', async (t) => {
    const world = createWorld();
    const files = (path: string) => ({
      's.json': { studios: [studio, other] },
      [path]: { studioComponents: [component] },
    });
    const note = (await imported(t, world, files('c.json'))).get('refused studio-component component1');
    assert.match(note!, /put the file into a directory named by the studio, such as stid-abc/);
    await imported(t, world, files('stid-def/c.json'));
    assert.equal((await world.store.get(KIND.studioComponent, 'component1'))!.studioId, other.studioId);
  });

  it('must be here, or come along', async (t) => {
    const outcomes = await imported(t, createWorld(), {
      'stid-abc/c.json': { studioComponents: [component] },
      'i.json': { streamingImages: [image] },
      'a.json': { eulaAcceptances: [acceptance] },
    });
    assert.equal(outcomes.size, 3);
    for (const [key, note] of outcomes) {
      assert.match(key, /^refused /);
      assert.equal(note, `Its studio ${STUDIO_ID} is neither here nor in what is imported.`);
    }
  });
});

describe('what cannot come along', () => {
  const cases: Readonly<Record<string, readonly [files: Files, result: string, note: RegExp]>> = {
    'no JSON': [{ 'a.json': '{' }, 'left out', /It is no JSON object\./],
    'a list': [{ 'a.json': [studio] }, 'left out', /It is no JSON object\./],
    'outputs of other operations': [{ 'a.json': { tags: {} } }, 'left out', /It holds nothing that can be imported\./],
    'a document that is none': [{ 'a.json': { studios: [null] } }, 'refused', /is no object/],
    'no id': [{ 'a.json': { studios: [{ ...studio, studioId: undefined }] } }, 'refused', /studioId is missing/],
    'an id that is a path': [
      { 'a.json': { streamingImages: [{ ...image, streamingImageId: '../../keys' }] } },
      'refused',
      /streamingImageId is missing, or is no id/,
    ],
    'no name': [
      { 'a.json': { studios: [{ ...studio, studioName: undefined }] } },
      'refused',
      /'\/studioName'.*not be null/,
    ],
    'a name that the API refuses': [
      { 'a.json': { studios: [{ ...studio, studioName: 'No' }] } },
      'refused',
      /'\/studioName' failed to satisfy constraint/,
    ],
    'a time that is none': [{ 'a.json': { studios: [{ ...studio, createdAt: 'now' }] } }, 'refused', /must be a time/],
    'a time beyond all': [{ 'a.json': { studios: [{ ...studio, createdAt: 1e15 }] } }, 'refused', /must be a time/],
    'tags of the vendor': [
      { 'a.json': { studios: [{ ...studio, tags: { 'aws:x': '' } }] } },
      'refused',
      /begin with aws:/,
    ],
    'another region': [
      { 'a.json': { studios: [{ ...studio, studioId: 'eu-west-2:stid-abc' }] } },
      'refused',
      /set BACKLOT_REGION/,
    ],
    'another account': [
      { 'a.json': { studios: [{ ...studio, arn: 'arn:aws:nimble:us-west-2:999999999999:studio/stid-abc' }] } },
      'refused',
      /BACKLOT_REGION=us-west-2 and BACKLOT_ACCOUNT_ID=999999999999/,
    ],
    'something deleted': [{ 'a.json': { studios: [{ ...studio, state: 'DELETED' }] } }, 'left out', /It was DELETED\./],
    'something that failed': [
      { 'a.json': { studios: [{ ...studio, state: 'CREATE_FAILED' }] } },
      'left out',
      /CREATE_FAILED/,
    ],
  };
  for (const [what, [files, result, says]] of Object.entries(cases)) {
    it(what, async (t) => {
      const world = createWorld();
      const [[key, note]] = [...(await imported(t, world, files))] as [[string, string]];
      assert.ok(key.startsWith(result), key);
      assert.match(note, says);
      assert.deepEqual(await rowsIn(world), []);
    });
  }

  it('a component that the API would not take, or that finds no room', async (t) => {
    const world = createWorld({ settings: { sharedFileSystemsMax: 1 } });
    const directory = { ...component, type: 'ACTIVE_DIRECTORY', configuration: undefined };
    const components = [
      component,
      { ...component, studioComponentId: 'second' },
      { ...directory, studioComponentId: 'third' },
      { ...directory, studioComponentId: 'fourth' },
      { ...component, studioComponentId: 'fifth', type: 'CUSTOM' },
    ];
    const outcomes = await imported(t, world, { 'a.json': { studio }, 'b.json': { studioComponents: components } });
    assert.deepEqual([...outcomes.keys()].slice(1), [
      'new studio-component component1',
      'refused studio-component second',
      'new studio-component third',
      'refused studio-component fourth',
      'refused studio-component fifth',
    ]);
    assert.match(outcomes.get('refused studio-component fourth')!, /an Active Directory already/);
  });

  it('a studio whose name another has', async (t) => {
    const world = createWorld();
    await world.makeStudio({ studioName: 'film' });
    const outcomes = await imported(t, world, { 'a.json': { studio } });
    assert.match(outcomes.get(`refused studio ${STUDIO_ID}`)!, /has its name already/);
  });

  it("a studio's key: it stays with the vendor, which is said", async (t) => {
    const world = createWorld();
    const keyArn = 'arn:aws:kms:us-west-2:123456789012:key/1';
    const secret = { ...studio, studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } };
    const outcomes = await imported(t, world, { 'a.json': { studio: secret } });
    assert.match(outcomes.get(`new studio ${STUDIO_ID}`)!, /not under arn:aws:kms:\S+, but under the root key here/);
    const doc = JSON.parse((await world.store.get(KIND.studio, STUDIO_ID))!.doc) as Studio;
    assert.deepEqual(doc.studioEncryptionConfiguration, { keyType: 'AWS_OWNED_KEY' });
  });
});

describe('a directory that is no export', () => {
  const world = createWorld();

  it('is refused where it is not there, or holds no JSON', async (t) => {
    const empty = temporaryDirectory(t);
    await assert.rejects(importExport(join(empty, 'none'), world.services, true), /cannot be read/);
    await assert.rejects(importExport(empty, world.services, true), /holds no file whose name ends in \.json/);
    symlinkSync(join(empty, 'none'), join(empty, 'link.json'));
    await assert.rejects(importExport(empty, world.services, true), /holds no file/);
  });

  it('is refused where a file is larger than any output', async (t) => {
    const directory = written(t, { 'large.json': '' });
    truncateSync(join(directory, 'large.json'), 65 * 1024 * 1024);
    await assert.rejects(importExport(directory, world.services, true), /large\.json is larger than/);
  });
});
