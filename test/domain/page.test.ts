/**
 * Pages of every list: a hundred entries each, in the order of creation with ties by id, none missing and none twice;
 * and tokens that only continue the very list that returned them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OperationName } from '../../src/contract/index.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { decodeToken, encodeToken } from '../../src/domain/page.ts';
import { assertConforms } from '../support/conforms.ts';
import { createWorld, type World } from '../support/domain.ts';
import { refused } from '../support/refused.ts';
import { putAcceptance, putAmazonImage, putEula, putImage } from '../support/rows.ts';

interface List {
  readonly name: OperationName;
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

for (const list of LISTS) {
  test(`${list.name}: entries made in the same moment are ordered by id, and none is missing or there twice`, async () => {
    const world = createWorld();
    const input = await list.fill(world, 250);
    const pages = await readPages(world, list, input);
    assert.deepEqual(
      pages.map(({ length }) => length),
      [100, 100, 50],
    );
    const ids = pages.flat();
    assert.equal(new Set(ids).size, 250);
    assert.deepEqual(
      ids,
      [...ids].sort((a, b) => (a < b ? -1 : 1)),
    );
  });

  test(`${list.name}: exactly one full page has no next; one entry more has, with that entry`, async () => {
    for (const [count, lengths] of [
      [0, [0]],
      [100, [100]],
      [101, [100, 1]],
      [200, [100, 100]],
    ] as const) {
      const world = createWorld();
      const pages = await readPages(world, list, await list.fill(world, count));
      assert.deepEqual(
        pages.map(({ length }) => length),
        lengths,
      );
    }
  });

  test(`${list.name}: a token that is malformed, of another list or of another account is a ValidationException`, async () => {
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

  test(`${list.name}: an empty token begins at the beginning`, async () => {
    const world = createWorld();
    const input = await list.fill(world, 3);
    assert.deepEqual(await world.call(list.name, { ...input, nextToken: '' }), await world.call(list.name, input));
  });
}

test('a token of one list continues no other', async () => {
  const world = createWorld();
  const inputs = new Map<OperationName, object>();
  for (const list of LISTS) inputs.set(list.name, await list.fill(world, 101));
  for (const list of LISTS) {
    const { nextToken } = (await world.call(list.name, inputs.get(list.name)!)) as unknown as { nextToken: string };
    for (const other of LISTS) {
      if (other === list) continue;
      const call = world.call(other.name, { ...inputs.get(other.name), nextToken });
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
