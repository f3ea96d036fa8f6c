/**
 * Workstations of a studio that has a key of its own, with the real key service: what they hold is sealed under that key,
 * and without it nothing starts, whoever owns the session learns which key is missing, and what there is can still be
 * thrown away.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import { type Compute, ComputeFailure, type WorkstationRequest } from '../../src/compute/compute.ts';
import type { LocalKeys } from '../../src/keys/local.ts';
import { openEngineKeys } from '../support/engine-keys.ts';
import { keepGuests, QemuBench } from '../support/qemu-bench.ts';
import { sandboxBench } from '../support/sandbox.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

interface Bench {
  readonly compute: Compute;
  readonly local: LocalKeys;
  /** Of the key service. */
  readonly directory: string;
}

const ENGINES: Readonly<Record<string, (t: TestContext) => Promise<Bench>>> = {
  qemu: async (t) => {
    const bench = new QemuBench(t);
    const directory = join(temporaryDirectory(t), 'keys');
    const { local, keys } = await openEngineKeys(directory, bench.keys);
    return { compute: await bench.open({}, keys), local, directory };
  },
  sandbox: async (t) => {
    const bench = await sandboxBench(t);
    const directory = join(temporaryDirectory(t), 'keys');
    const { local, keys } = await openEngineKeys(directory, bench.keys);
    return { compute: await bench.open({}, keys), local, directory };
  },
};

const NEVER = new AbortController().signal;
let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};
const start = (id: string, more: Partial<WorkstationRequest> = {}) => workstationRequest({ ...change(id), ...more });

/** The customer key that the data key of the workstation is under, null for the root key; undefined where it has none. */
function keyAbove(directory: string, id: string): string | null | undefined {
  const path = join(directory, 'data', `${id}.json`);
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')).keyArn : undefined;
}

const names = (keyArn: string) => (error: unknown) => {
  assert.ok(error instanceof ComputeFailure, String(error));
  const { code, message, retryable } = error;
  assert.deepEqual([code, retryable], ['DECRYPT_STREAMING_IMAGE_ERROR', false]);
  assert.ok(message.includes(keyArn), message);
  return true;
};

for (const [name, open] of Object.entries(ENGINES)) {
  describe(name, () => {
    test("what a workstation holds is under its studio's key, and under the root key where there is none", async (t) => {
      const { compute, local, directory } = await open(t);
      const { keyArn } = await local.createKey();
      await compute.ensure(start('keyed', { keyArn }));
      await compute.ensure(start('plain'));
      assert.deepEqual([keyAbove(directory, 'keyed'), keyAbove(directory, 'plain')], [keyArn, null]);
      await compute.stop({ ...change('keyed'), volume: 'keep' });
      await compute.backUp({ ...change('keyed'), backupId: 'a' });
      for (const more of [{ needsVolume: true }, { fromBackupId: 'a' }]) {
        await compute.ensure(start('keyed', { keyArn, ...more }));
        await compute.stop({ ...change('keyed'), volume: 'delete' });
        assert.equal(keyAbove(directory, 'keyed'), keyArn);
        await compute.ensure(start('keyed', { keyArn }));
        await compute.stop({ ...change('keyed'), volume: 'keep' });
      }
    });

    test('a studio that had no key when it began is under its key from the next start on', async (t) => {
      const { compute, local, directory } = await open(t);
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      const { keyArn } = await local.createKey();
      await compute.ensure(start('one', { keyArn, needsVolume: true }));
      assert.equal(keyAbove(directory, 'one'), keyArn);
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.ensure(start('one', { keyArn, fromBackupId: 'a' }));
    });

    test('a key that is lost is not made anew where something is under it', async (t) => {
      const { compute, local, directory } = await open(t);
      await compute.ensure(start('one'));
      await compute.stop({ ...change('one'), volume: 'keep' });
      await compute.backUp({ ...change('one'), backupId: 'a' });
      await local.destroy('one');
      const lost = { code: 'DECRYPT_STREAMING_IMAGE_ERROR', retryable: false };
      await assert.rejects(compute.ensure(start('one', { needsVolume: true })), lost);
      assert.equal(keyAbove(directory, 'one'), undefined);
    });

    test('without the key nothing starts, the failure names it, and what there is can be destroyed', async (t) => {
      const { compute, local, directory } = await open(t);
      const { keyArn } = await local.createKey();
      await compute.ensure(start('old', { keyArn }));
      await compute.stop({ ...change('old'), volume: 'keep' });
      await compute.backUp({ ...change('old'), backupId: 'a' });
      assert.equal(await local.deleteKey(keyArn), true);
      for (const more of [{ needsVolume: true }, { fromBackupId: 'a' }]) {
        await assert.rejects(compute.ensure(start('old', { keyArn, ...more })), names(keyArn));
        await compute.stop({ ...change('old'), volume: 'keep' });
        const [{ running, hasVolume, backupIds } = {}] = await compute.list();
        assert.deepEqual({ running, hasVolume, backupIds }, { running: false, hasVolume: true, backupIds: ['a'] });
      }
      await assert.rejects(compute.ensure(start('new', { keyArn })), names(keyArn));
      for (const id of ['old', 'new']) {
        await compute.destroy(change(id));
        assert.equal(keyAbove(directory, id), undefined, id);
      }
      assert.deepEqual(await compute.list(), []);
    });
  });
}

test('a home is not backed up under another key than that of its studio', async (t) => {
  const { compute, local } = await ENGINES.sandbox!(t);
  const { keyArn } = await local.createKey();
  await compute.ensure(start('one', { keyArn }));
  await compute.stop({ ...change('one'), volume: 'keep' });
  await local.deleteKey(keyArn);
  await assert.rejects(compute.backUp({ ...change('one'), backupId: 'a' }), names(keyArn));
  const [{ hasVolume, backupIds } = {}] = await compute.list();
  assert.deepEqual({ hasVolume, backupIds }, { hasVolume: true, backupIds: [] });
});
