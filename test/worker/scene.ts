/** A world whose workers run in processes that a test can hold up, fail or kill at any point. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { DomainSettings } from '../../src/domain/context.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { createUpkeep, ORPHAN_AGE_MS } from '../../src/worker/upkeep.ts';
import { createWorld, silentLog } from '../support/domain.ts';
import { type AtPoint, Killed, mortalDrivers, mortalStore, Process } from '../support/process.ts';

export const LEASE_MS = 15_000;
export const AMI = 'ami-0123456789abcdef0';

/** Longer than any wait between two attempts. */
const BACKOFF_MS = 60_000;

const SESSION_KINDS = [KIND.streamingSession, KIND.streamingSessionStream, KIND.streamingSessionBackup];

export type Scene = Awaited<ReturnType<typeof createScene>>;

/** A READY studio, one machine image, and leases that are renewed only when the test says so. */
export async function createScene(t: TestContext, settings: Partial<DomainSettings> = {}) {
  t.mock.timers.enable({ apis: ['setInterval'] });
  t.after(() => t.mock.timers.reset());
  const world = createWorld({ store: mortalStore(openSqlite({ path: ':memory:', now: () => 0 })), settings });
  t.after(() => world.store.close());
  mortalDrivers(world);
  await world.addMachineImage(AMI);
  const studioId = await world.makeStudio();

  const scene = {
    world,
    studioId,
    create: async (input: object = {}): Promise<string> => {
      const call = { studioId, name: 'n', ec2ImageId: AMI, ...input };
      const answer = await world.call<{ streamingImage: StreamingImage }>('CreateStreamingImage', call);
      return answer.streamingImage.streamingImageId!;
    },
    remove: async (streamingImageId: string) => {
      await world.call('DeleteStreamingImage', { studioId, streamingImageId });
    },
    image: async (id: string): Promise<StreamingImage | undefined> => {
      const row = await world.store.get(KIND.streamingImage, id);
      return row && (JSON.parse(row.doc) as StreamingImage);
    },
    /** Does what is due in a process of its own. Resolves when that has ended or died. */
    workIn: async (process: Process): Promise<void> => {
      await process.run(() => world.worker().runOnce()).catch((error) => assert.ok(error instanceof Killed, error));
    },
    work: (at: AtPoint = () => undefined) => scene.workIn(new Process(at)),
    /** Works until every row is at rest, through leases that died with their holders and waits between attempts. */
    finish: async () => {
      for (let round = 0; round < 20; round += 1) {
        await world.settle();
        const soon = world.clock.now() + LEASE_MS + BACKOFF_MS;
        const kinds = [KIND.studio, KIND.studioComponent, KIND.streamingImage, KIND.launchProfile, ...SESSION_KINDS];
        const left = await Promise.all(
          kinds.map((kind) => world.store.count({ kind, stateNot: 'DELETED', dueBy: soon, limit: 1 })),
        );
        if (left.every((count) => count === 0)) return;
        world.clock.advance(LEASE_MS + BACKOFF_MS);
      }
      assert.fail('rows do not come to rest');
    },
    upkeep: async () => {
      world.clock.advance(ORPHAN_AGE_MS);
      await createUpkeep({ ...world, log: silentLog }).runOnce();
    },
    /** Whether there are bytes and a key, and whether the one opens the other. */
    holdings: (id: string) => {
      const [copy, key] = [world.images.copies.get(id), world.keys.dataKeys.get(id)];
      return { bytes: copy !== undefined, key: key !== undefined, opens: copy?.passphrase === key?.passphrase };
    },
    /** Points that one look of a worker passes. */
    trace: async (): Promise<string[]> => {
      const points: string[] = [];
      await scene.work((point) => void points.push(point));
      return points;
    },
  };
  return scene;
}

export const READABLE = { bytes: true, key: true, opens: true };
export const NOTHING = { bytes: false, key: false, opens: true };

/** Stops a process at its `index`th point (the first is 0): what happens there is up to `act`. */
export function atIndex(index: number, act: (point: string) => void | Promise<void>): AtPoint {
  let passed = -1;
  return (point) => {
    passed += 1;
    return passed === index ? act(point) : undefined;
  };
}

export function processThatDiesAt(index: number): Process {
  const process: Process = new Process(atIndex(index, () => process.kill()));
  return process;
}

/** As `processThatDiesAt`, not counting the looks for work. */
export function processThatDiesAtWork(index: number): Process {
  const die = atIndex(index, () => process.kill());
  const process: Process = new Process((point, id) => (point.startsWith('store.lease') ? undefined : die(point, id)));
  return process;
}

/** A process that stands still at a point until it is released. */
export function processHeldAt(index: number) {
  const reached = Promise.withResolvers<string>();
  const released = Promise.withResolvers<void>();
  const process = new Process(
    atIndex(index, (point) => {
      reached.resolve(point);
      return released.promise;
    }),
  );
  return { process, reached: reached.promise, release: () => released.resolve() };
}

/** Plays a scene anew for each point that a worker passes in it, looks for other work aside. */
export async function atEveryPoint(
  t: TestContext,
  begin: (scene: Scene) => Promise<string>,
  play: (scene: Scene, id: string, index: number, point: string) => Promise<void>,
): Promise<void> {
  const first = await createScene(t);
  const work = await workOn(first, await begin(first));
  const points: (readonly [point: string, id: string])[] = [];
  await first.work((point, id) => void points.push([point, id]));
  t.mock.timers.reset();
  for (const [index, [point, id]] of points.entries()) {
    if (point.startsWith('store.lease') && id !== work) continue;
    const scene = await createScene(t);
    await play(scene, await begin(scene), index, point);
    t.mock.timers.reset();
  }
}

/** What a worker leases to work on this row. */
async function workOn({ world }: Scene, id: string): Promise<string> {
  const found = [KIND.streamingImage, KIND.streamingSession].map((kind) => world.store.get(kind, id));
  const row = (await Promise.all(found)).find((each) => each !== undefined)!;
  return `${row.kind} ${row.state}`;
}

/** A process that stands still at a point for so long that its lease is over. */
export async function standingStill(scene: Scene, index: number): Promise<{ goOn: () => Promise<void> }> {
  const { process, reached, release } = processHeldAt(index);
  const ended = scene.workIn(process);
  await reached;
  scene.world.clock.advance(LEASE_MS);
  return {
    goOn: () => {
      release();
      return ended;
    },
  };
}
