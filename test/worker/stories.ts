/**
 * What the work behind resources that are rows and nothing else has in common: each story of it comes to the same end
 * whichever process dies or stands still on the way, and work that kills its process every time is given up.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Row } from '../../src/store/store.ts';
import { ATTEMPTS_MAX } from '../../src/worker/worker.ts';
import { Process } from '../support/process.ts';
import { createScene, LEASE_MS, processHeldAt, processThatDiesAt, type Scene } from './scene.ts';

export interface Story {
  /** @returns the id of the row whose work it is. */
  readonly begin: (scene: Scene) => Promise<string>;
  /** State and status code that it comes to. */
  readonly ends: readonly [state: string, statusCode: string];
}

interface Telling<Told extends Story> {
  readonly kind: string;
  readonly stories: Readonly<Record<string, Told>>;
  /** States whose rows go by themselves after a while. */
  readonly passing: readonly string[];
  /** What else must hold of the row in the end. */
  readonly alsoEnded?: (row: Row, story: Told, what: string) => void;
}

export function testStories<Told extends Story>({ kind, stories, passing, alsoEnded }: Telling<Told>): void {
  for (const [name, story] of Object.entries(stories)) {
    const { begin, ends } = story;
    const assertEnded = async (scene: Scene, id: string, what: string) => {
      const row = (await scene.world.store.get(kind, id))!;
      const { state, statusCode } = JSON.parse(row.doc);
      assert.deepEqual([state, statusCode], ends, what);
      assert.equal(row.attempts, 0, what);
      assert.equal(row.dueAt !== null, passing.includes(state), what);
      alsoEnded?.(row, story, what);
    };

    test(`${name} ends in ${ends.join(' ')}, also when the process dies or stands still at any point`, async (t) => {
      const first = await createScene(t);
      const firstId = await begin(first);
      const points = await first.trace();
      await assertEnded(first, firstId, 'undisturbed');
      t.mock.timers.reset();
      for (const [index, point] of points.entries()) {
        for (const dies of [true, false]) {
          const scene = await createScene(t);
          const id = await begin(scene);
          const zombie = processHeldAt(index);
          const ended = scene.workIn(dies ? processThatDiesAt(index) : zombie.process);
          await (dies ? ended : zombie.reached);
          scene.world.clock.advance(LEASE_MS);
          await scene.finish();
          await assertEnded(scene, id, `before ${point}`);
          zombie.release();
          await ended;
          await assertEnded(scene, id, `after ${point}`);
          t.mock.timers.reset();
        }
      }
    });
  }
}

interface Creating {
  readonly kind: string;
  /** For the name of the test. */
  readonly one: string;
  /** Creates one, of this name, under a key that is there. @returns its id. */
  readonly create: (scene: Scene, name: string) => Promise<string>;
}

export function testFailingKeyService({ kind, one, create }: Creating): void {
  test(`a key service that fails for a while delays ${one}, and fails it only in the end, without its words`, async (t) => {
    const scene = await createScene(t);
    scene.world.keys.customerKeys.add(KEY);
    const docOf = async (id: string) => JSON.parse((await scene.world.store.get(kind, id))!.doc);
    const fail = (point: string) => {
      if (point === 'keys.describe') throw new Error('EIO: /var/lib/backlot');
    };
    const delayed = await create(scene, 'delayed');
    await scene.work(fail);
    assert.equal((await docOf(delayed)).state, 'CREATE_IN_PROGRESS');
    scene.world.clock.advance(60_000);
    await scene.finish();
    assert.equal((await docOf(delayed)).state, 'READY');

    const failed = await create(scene, 'failed');
    for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
      assert.equal((await docOf(failed)).state, 'CREATE_IN_PROGRESS');
      await scene.work(fail);
      scene.world.clock.advance(60_000);
    }
    const { state, statusCode, statusMessage } = await docOf(failed);
    assert.deepEqual([state, statusCode], ['CREATE_FAILED', 'INTERNAL_ERROR']);
    assert.doesNotMatch(statusMessage, /EIO|var/);
  });
}

/** Work on it takes its process with it, as often as it is tried. */
export async function killEveryAttempt(scene: Scene): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const process: Process = new Process((point) => {
      if (point === 'store.write') process.kill();
    });
    await scene.workIn(process);
    scene.world.clock.advance(LEASE_MS);
  }
}

/** What is due is worked on until a process dies in its second write, which leaves the rest for another. */
export async function dieInSecondWrite(scene: Scene): Promise<void> {
  let writes = 0;
  const process: Process = new Process((point) => {
    if (point !== 'store.write') return;
    writes += 1;
    if (writes === 2) process.kill();
  });
  await scene.workIn(process);
}

/** Works on what is due, and deletes a row by a call just when the worker is about to remove it. */
export async function deleteDuringPurge(scene: Scene, remove: () => Promise<unknown>): Promise<void> {
  let deletion: Promise<unknown> | undefined;
  await scene.work(async (point, op) => {
    if (point !== 'store.write' || op !== 'delete') return;
    deletion ??= remove();
    await deletion;
  });
}

export const KEY = 'arn:aws:kms:us-west-2:123456789012:key/1';

/** Of a studio under a key of its own. */
export const SEALED = { studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: KEY } };

/** A studio under a key that was there when it was made. */
export async function studioWithoutKey({ world }: Scene): Promise<string> {
  world.keys.customerKeys.add(KEY);
  const studioId = await world.makeStudio(SEALED);
  world.keys.customerKeys.delete(KEY);
  return studioId;
}
