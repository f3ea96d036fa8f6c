/**
 * How many images are made at once, by the real qemu-img: as many as BACKLOT_IMPORTS_MAX says and never more, the others
 * wait their turn; and whoever looks sees how far each one is.
 */
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { after, before, it } from 'node:test';
import { type NimbleClient, paginateListStreamingImages, type StreamingImage } from '@aws-sdk/client-nimble';
import { openFilesOf, toolsHolding } from '../drivers/tools.ts';
import { until } from '../support/until.ts';
import { createImage, readyStudio } from './api.ts';
import { sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation } from './installation.ts';

/** All of them together, one after another, on a machine that does other things as well. */
const LIMIT_MS = 240_000;
const STATUS_BLOCK_BYTES = 512;

/** The lease is short so that progress, which is written with its renewals, is shown often. */
const installation = new Installation({ after }, { BACKLOT_LEASE_SECONDS: '3' });
let ec2ImageId = '';

before(async () => {
  const disk = await makeDisk(installation.directory, 'disk.raw', { mebibytes: 96, noiseMebibytes: 80 });
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  ({ ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words));
});

/** Images whose copy a tool has open, by the tool's process. */
function beingCopied(): Map<number, string> {
  const staging = installation.path('images/staging');
  const copies = toolsHolding(staging).flatMap((pid) => {
    const path = [...openFilesOf(pid).values()].find((name) => name.startsWith(staging));
    // It has gone meanwhile.
    if (path === undefined) return [];
    return [[pid, path.slice(staging.length + 1).split('.')[0]!] as const];
  });
  return new Map(copies);
}

/** A tenth of what is in the disk: a tool that has written as much has said that it is neither at its beginning nor its end. */
const BEGUN_BYTES = 8 * 2 ** 20;

/** Halts a tool that is on its way, so that there is time to look at its progress. */
async function haltOnItsWay(): Promise<number> {
  let tool: { readonly pid: number; readonly copy: string } | undefined;
  return until('a copy is on its way', () => {
    tool ??= firstTool();
    const copied = tool && statSync(tool.copy, { throwIfNoEntry: false });
    if (!copied) tool = undefined;
    if (!tool || copied!.blocks * STATUS_BLOCK_BYTES < BEGUN_BYTES) return false;
    process.kill(tool.pid, 'SIGSTOP');
    return tool.pid;
  });
}

function firstTool() {
  const staging = installation.path('images/staging');
  const [pid] = beingCopied().keys();
  if (pid === undefined) return undefined;
  const descriptor = [...openFilesOf(pid)].find(([, path]) => path.startsWith(staging))?.[0];
  return { pid, copy: `/proc/${pid}/fd/${descriptor}` };
}

/**
 * How many images are copied at the same moment. One look takes its time, in which one tool may end and the next begin;
 * who is found by two looks was there between them.
 */
function copiedAtOnce(): number {
  const first = beingCopied();
  const second = beingCopied();
  return [...first.keys()].filter((pid) => second.has(pid)).length;
}

async function listImages(client: NimbleClient, studioId: string): Promise<StreamingImage[]> {
  const images: StreamingImage[] = [];
  for await (const page of paginateListStreamingImages({ client }, { studioId })) images.push(...page.streamingImages!);
  return images;
}

for (const { importsMax, count } of [
  { importsMax: 2, count: 5 },
  { importsMax: 1, count: 3 },
]) {
  it(`of ${count} images, ${importsMax} at a time are made where BACKLOT_IMPORTS_MAX is ${importsMax}`, async (t) => {
    const server = await installation.start({ environment: { BACKLOT_IMPORTS_MAX: String(importsMax) } });
    const client = sdkClient(t, installation, server);
    const studioId = await readyStudio(client, `film${importsMax}`);
    const ids = await Promise.all(Array.from({ length: count }, () => createImage(client, studioId, ec2ImageId)));

    /** How many were copied at once, over time. */
    const sizes = new Set<number>();
    /** What each image said of its progress, over time. */
    const percentages = new Map(ids.map((id) => [id, [] as number[]]));
    const look = async () => {
      sizes.add(copiedAtOnce());
      const images = await listImages(client, studioId);
      for (const { streamingImageId, statusMessage } of images) {
        const percent = /^Streaming Image creation is in progress: (\d+) %$/.exec(statusMessage!)?.[1];
        if (percent !== undefined) percentages.get(streamingImageId!)!.push(Number(percent));
      }
      return images;
    };
    const halted = await haltOnItsWay();
    await until('its progress is shown', async () => {
      await look();
      return [...percentages.values()].flat().some((percent) => percent > 0 && percent < 100);
    });
    process.kill(halted, 'SIGCONT');
    const made = await until(
      'every image is made',
      async () => {
        const images = await look();
        return images.every(({ state }) => state !== 'CREATE_IN_PROGRESS') && images;
      },
      LIMIT_MS,
    );
    assert.deepEqual(
      made.map(({ state }) => state),
      Array.from({ length: count }, () => 'READY'),
    );
    assert.equal(Math.max(...sizes), importsMax, 'as many as may be were made at once');
    for (const series of percentages.values())
      assert.deepEqual(
        series,
        [...series].sort((a, b) => a - b),
      );
    t.diagnostic(
      `percentages by image: ${[...percentages.values()].map((series) => [...new Set(series)].join(' ')).join('; ')}`,
    );
    await server.stop();
  });
}
