/**
 * Pages of every list: a hundred entries each, fifty components, or twenty members, in the order of creation with ties by
 * id, none missing and none twice; and tokens that only continue the very list that returned them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type OperationName, operations } from '../../src/contract/index.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { decodeToken, encodeToken } from '../../src/domain/page.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import {
  putAcceptance,
  putAmazonImage,
  putComponent,
  putEula,
  putImage,
  putMember,
  putProfile,
  putUser,
} from '../support/rows.ts';

interface List {
  readonly name: OperationName;
  readonly filtered?: boolean;
  readonly member: string;
  readonly id: string;
  /** Puts `count` entries there and returns the list's input. */
  readonly fill: (world: World, count: number) => Promise<object>;
}

const repeated = async (count: number, put: (index: number) => Promise<unknown>) => {
  for (let index = 0; index < count; index += 1) await put(index);
};

async function putStudioRow(world: World, index: number): Promise<void> {
  const studioId = `us-west-2:${world.services.ids.studioSuffix()}`;
  const doc = JSON.stringify({ studioId, studioName: `page${index}`, tags: {} });
  await world.store.write([
    { op: 'insert', row: newRow({ kind: KIND.studio, id: studioId, createdAt: world.clock.now(), doc }) },
  ]);
}

const LISTS: List[] = [
  {
    name: 'ListStudios',
    member: 'studios',
    id: 'studioId',
    fill: async (world, count) => {
      await repeated(count, (index) => putStudioRow(world, index));
      return {};
    },
  },
  {
    name: 'ListStreamingImages',
    member: 'streamingImages',
    id: 'streamingImageId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, (index) => (index % 3 === 0 ? putAmazonImage(world) : putImage(world, studioId)));
      return { studioId };
    },
  },
  {
    name: 'ListStudioComponents',
    member: 'studioComponents',
    id: 'studioComponentId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, () => putComponent(world, studioId));
      return { studioId };
    },
  },
  {
    name: 'ListStudioComponents',
    filtered: true,
    member: 'studioComponents',
    id: 'studioComponentId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, async (index) => {
        await putComponent(world, studioId, { type: 'COMPUTE_FARM' });
        await repeated(index % 3, () => putComponent(world, studioId, { state: 'DELETED', type: 'COMPUTE_FARM' }));
        await repeated(index % 2, () => putComponent(world, studioId, { type: 'CUSTOM' }));
      });
      return { studioId, states: ['READY'], types: ['COMPUTE_FARM'] };
    },
  },
  {
    name: 'ListLaunchProfiles',
    member: 'launchProfiles',
    id: 'launchProfileId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, () => putProfile(world, studioId));
      return { studioId };
    },
  },
  {
    name: 'ListLaunchProfiles',
    filtered: true,
    member: 'launchProfiles',
    id: 'launchProfileId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      const principalId = await putUser(world, 'ann');
      await repeated(count, async (index) => {
        await putMember(world, studioId, principalId, await putProfile(world, studioId));
        await repeated(index % 2, () => putProfile(world, studioId));
      });
      return { studioId, principalId, states: ['READY'] };
    },
  },
  {
    name: 'ListLaunchProfileMembers',
    member: 'members',
    id: 'principalId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      const launchProfileId = await putProfile(world, studioId);
      await repeated(count, (index) => putMember(world, studioId, `user${index}`, launchProfileId));
      return { studioId, launchProfileId };
    },
  },
  {
    name: 'ListStudioMembers',
    member: 'members',
    id: 'principalId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, (index) => putMember(world, studioId, `user${index}`));
      return { studioId };
    },
  },
  {
    name: 'ListEulas',
    member: 'eulas',
    id: 'eulaId',
    fill: async (world, count) => {
      await repeated(count, () => putEula(world));
      return {};
    },
  },
  {
    name: 'ListEulaAcceptances',
    member: 'eulaAcceptances',
    id: 'eulaAcceptanceId',
    fill: async (world, count) => {
      const studioId = await world.makeStudio();
      await repeated(count, (index) => putAcceptance(world, studioId, `eula${index}`));
      return { studioId };
    },
  },
];

type Page = Record<string, Record<string, string>[]> & { nextToken?: string };

async function readPages(world: World, { name, member, id }: List, input: object) {
  const pages: string[][] = [];
  let nextToken: string | undefined;
  do {
    const answer = (await world.call(name, { ...input, ...(nextToken && { nextToken }) })) as unknown as Page;
    assertConforms(name, answer);
    pages.push(answer[member]!.map((entry) => entry[id]!));
    nextToken = answer.nextToken;
  } while (nextToken);
  return pages;
}

const pageLengthOf = ({ name }: List) =>
  operations.find((candidate) => candidate.name === name)!.pagination!.pageLength;

for (const list of LISTS) {
  const what = `${list.name}${list.filtered ? ', filtered' : ''}`;
  const full = pageLengthOf(list);

  test(`${what}: entries made in the same moment are ordered by id, and none is missing or there twice`, async () => {
    const world = createWorld();
    const half = full / 2;
    const input = await list.fill(world, 2 * full + half);
    const pages = await readPages(world, list, input);
    assert.deepEqual(
      pages.map(({ length }) => length),
      [full, full, half],
    );
    const ids = pages.flat();
    assert.equal(new Set(ids).size, 2 * full + half);
    assert.deepEqual(
      ids,
      [...ids].sort((a, b) => (a < b ? -1 : 1)),
    );
  });

  test(`${what}: exactly one full page has no next; one entry more has, with that entry`, async () => {
    for (const [count, lengths] of [
      [0, [0]],
      [full, [full]],
      [full + 1, [full, 1]],
      [2 * full, [full, full]],
    ] as const) {
      const world = createWorld();
      const pages = await readPages(world, list, await list.fill(world, count));
      assert.deepEqual(
        pages.map(({ length }) => length),
        lengths,
      );
    }
  });

  test(`${what}: a token that is malformed, of another list or of another account is a ValidationException`, async () => {
    const world = createWorld();
    const input = await list.fill(world, 101);
    const { nextToken } = (await world.call(list.name, input)) as unknown as { nextToken: string };
    const text = Buffer.from(nextToken, 'base64url').toString();
    const encoded = (changed: string) => Buffer.from(changed).toString('base64url');
    const elsewhere = createWorld({ settings: { accountId: '999999999999' }, store: world.store });
    await refused(elsewhere.call(list.name, { ...input, nextToken }), 'ValidationException', 'INVALID_NEXT_TOKEN');
    const tokens = [
      'garbage',
      ' ',
      '0',
      'null',
      '🎬',
      'a\u0000b',
      'A'.repeat(1024),
      nextToken.slice(1),
      nextToken.slice(0, 20),
      encoded(text.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))),
      encoded(text.replace(/\.\d+\./, '.-1.')),
      encoded(text.replace(/\.\d+\./, '.1e3.')),
      encoded(text.replace(/\.\d+\./, '..')),
      encoded(text.replace(/\.\d+\./, `.${'9'.repeat(16)}.`)),
      encoded(text.replace(/[^.]+$/, '')),
      encoded(text.slice(0, 12)),
    ];
    for (const token of tokens) {
      const call = world.call(list.name, { ...input, nextToken: token });
      await refused(call, 'ValidationException', 'INVALID_NEXT_TOKEN');
    }
  });

  test(`${what}: an empty token begins at the beginning`, async () => {
    const world = createWorld();
    const input = await list.fill(world, 3);
    assert.deepEqual(await world.call(list.name, { ...input, nextToken: '' }), await world.call(list.name, input));
  });
}

test('a caller may ask for shorter pages of components, from one list to the next, but for no longer ones', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const ids: string[] = [];
  await repeated(60, async () => {
    world.clock.advance(1_000);
    ids.push(await putComponent(world, studioId));
  });
  for (const filter of [{}, { types: ['CUSTOM'] }]) {
    const lengths: number[] = [];
    const found: string[] = [];
    let nextToken: string | undefined;
    for (const maxResults of [1, 7, 100, 49, 50]) {
      const input = { studioId, ...filter, maxResults, ...(nextToken && { nextToken }) };
      const answer = (await world.call('ListStudioComponents', input)) as unknown as Page;
      lengths.push(answer.studioComponents!.length);
      found.push(...answer.studioComponents!.map(({ studioComponentId }) => studioComponentId!));
      nextToken = answer.nextToken;
      if (!nextToken) break;
    }
    assert.deepEqual(lengths, [1, 7, 50, 2]);
    assert.deepEqual(found, ids);
  }
});

test('a filter that lets little through looks at a bounded number of rows, and finds all in the end', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const wanted: string[] = [];
  await repeated(2_300, async (index) => {
    world.clock.advance(1);
    const type = index % 1_100 === 1_050 ? 'COMPUTE_FARM' : 'CUSTOM';
    const id = await putComponent(world, studioId, { type });
    if (type === 'COMPUTE_FARM') wanted.push(id);
  });
  const components = LISTS.find(({ name }) => name === 'ListStudioComponents')!;
  const pages = await readPages(world, components, { studioId, types: ['COMPUTE_FARM'] });
  assert.deepEqual(pages, [[], [wanted[0]], [wanted[1]]]);
});

test('a token of one list continues no other', async () => {
  const world = createWorld();
  const inputs = new Map<List, object>();
  for (const list of LISTS) inputs.set(list, await list.fill(world, 101));
  for (const list of LISTS) {
    const { nextToken } = (await world.call(list.name, inputs.get(list)!)) as unknown as { nextToken: string };
    for (const other of LISTS) {
      if (other === list) continue;
      const call = world.call(other.name, { ...inputs.get(other), nextToken });
      await refused(call, 'ValidationException', 'INVALID_NEXT_TOKEN');
    }
  }
});

test("a token continues only its own studio's list, with its own filter", async () => {
  const world = createWorld();
  const [here, there] = [await world.makeStudio(), await world.makeStudio()];
  await repeated(101, () => putImage(world, here));
  await repeated(101, () => putImage(world, there));
  const list = async (studioId: string, owner?: string, nextToken?: string) =>
    (await world.call('ListStreamingImages', {
      studioId,
      ...(owner !== undefined && { owner }),
      ...(nextToken && { nextToken }),
    })) as unknown as { nextToken: string };
  const unfiltered = (await list(here)).nextToken;
  const filtered = (await list(here, here)).nextToken;
  for (const [studioId, owner, token] of [
    [there, undefined, unfiltered],
    [here, here, unfiltered],
    [here, 'amazon', unfiltered],
    [here, '', unfiltered],
    [here, undefined, filtered],
    [here, 'amazon', filtered],
    [here, 'someone', filtered],
    [there, here, filtered],
  ] as const) {
    await refused(list(studioId, owner, token), 'ValidationException', 'INVALID_NEXT_TOKEN');
  }
  await list(here, undefined, unfiltered);
  await list(here, here, filtered);
});

test('a token continues a list of components with the same states and types, whatever their order', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  await repeated(51, () => putComponent(world, studioId));
  const list = async (filters: object, nextToken?: string) =>
    (await world.call('ListStudioComponents', {
      studioId,
      ...filters,
      ...(nextToken && { nextToken }),
    })) as unknown as {
      nextToken: string;
    };
  const filters = { states: ['READY', 'DELETED'], types: ['CUSTOM', 'COMPUTE_FARM'] };
  const { nextToken } = await list(filters);
  await list({ states: ['DELETED', 'READY', 'READY'], types: ['COMPUTE_FARM', 'CUSTOM'] }, nextToken);
  for (const other of [
    {},
    { ...filters, states: ['READY'] },
    { ...filters, types: ['CUSTOM'] },
    { states: filters.states },
    { types: filters.types },
  ]) {
    await refused(list(other, nextToken), 'ValidationException', 'INVALID_NEXT_TOKEN');
  }
});

test("Amazon's and a studio's own images are merged across pages in the order of creation", async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const expected: string[] = [];
  for (let index = 0; index < 230; index += 1) {
    if (index % 7 !== 0) world.clock.advance(1_000);
    // Long runs of one owner, so that a page can be all of one.
    expected.push(index % 120 < 60 ? await putImage(world, studioId) : await putAmazonImage(world));
  }
  const images = LISTS.find(({ name }) => name === 'ListStreamingImages')!;
  const ids = (await readPages(world, images, { studioId })).flat();
  assert.deepEqual([...ids].sort(), [...expected].sort());
  const rows = await Promise.all(ids.map((id) => world.store.get(KIND.streamingImage, id)));
  for (const [index, row] of rows.entries()) {
    const next = rows[index + 1];
    if (!next) continue;
    assert.ok(row!.createdAt < next.createdAt || (row!.createdAt === next.createdAt && row!.id < next.id));
  }
});

test('what is made or deleted between two pages moves nothing else', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const ids: string[] = [];
  await repeated(150, async () => {
    world.clock.advance(1_000);
    ids.push(await putImage(world, studioId));
  });
  const list = (nextToken?: string) =>
    world.call<{ streamingImages: { streamingImageId: string }[]; nextToken: string }>('ListStreamingImages', {
      studioId,
      ...(nextToken && { nextToken }),
    });
  const first = await list();
  // The entry that the token points behind goes away, and one more comes.
  const last = (await world.store.get(KIND.streamingImage, ids[99]!))!;
  await world.store.write([{ op: 'delete', kind: last.kind, id: last.id, version: last.version }]);
  world.clock.advance(1_000);
  ids.push(await putImage(world, studioId));
  const second = await list(first.nextToken);
  assert.deepEqual(
    second.streamingImages.map(({ streamingImageId }) => streamingImageId),
    ids.slice(100),
  );
});

test('a token holds any position and any id, and gives it back unchanged', () => {
  for (const [createdAt, id] of [
    [0, 'a'],
    [1_767_225_600_000, '-_-'],
    [999_999_999_999_999, 'us-west-2:stid-abc.def'],
    [1, 'line\nbreak'],
    [1, '🎬'],
  ] as const) {
    const scope = ['123456789012', 'List', undefined];
    assert.deepEqual(decodeToken(encodeToken({ createdAt, id }, scope), scope), { createdAt, id });
  }
});
