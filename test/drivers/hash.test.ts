/** The hash of a disk is that of all its bytes, can be stopped, and never outlives its call. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { hashWhole } from '../../src/images/hash.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MEBIBYTE = 1024 * 1024;

async function fileOf(t: TestContext, bytes: Buffer): Promise<FileHandle> {
  const path = join(temporaryDirectory(t), 'disk');
  writeFileSync(path, bytes);
  const handle = await open(path);
  t.after(() => handle.close().catch(() => undefined));
  return handle;
}

const never = new AbortController().signal;

for (const length of [0, 1, MEBIBYTE - 1, MEBIBYTE, MEBIBYTE + 1, 65 * MEBIBYTE]) {
  test(`${length} bytes`, async (t) => {
    const bytes = randomBytes(length);
    const handle = await fileOf(t, bytes);
    const fractions: number[] = [];
    const hashed = await hashWhole(handle, never, (fraction) => fractions.push(fraction));
    assert.deepEqual(hashed, { bytes: length, sha256: createHash('sha256').update(bytes).digest('hex') });
    assert.equal(fractions.at(-1), 1);
    assert.ok(fractions.every((fraction, index) => fraction <= 1 && fraction >= (fractions[index - 1] ?? 0)));
  });
}

test('it reads from the beginning, wherever the file stands', async (t) => {
  const handle = await fileOf(t, Buffer.from('whole'));
  await handle.read(Buffer.alloc(3), 0, 3, null);
  const { sha256 } = await hashWhole(handle, never, () => undefined);
  assert.equal(sha256, createHash('sha256').update('whole').digest('hex'));
});

test('stopped on the way, it ends with the reason, and the file can be closed', async (t) => {
  const path = join(temporaryDirectory(t), 'disk');
  writeFileSync(path, '');
  truncateSync(path, 64 * 1024 * MEBIBYTE);
  const handle = await open(path);
  const reason = new Error('enough');
  const controller = new AbortController();
  const hashing = hashWhole(handle, controller.signal, () => controller.abort(reason));
  await assert.rejects(hashing, reason);
  await handle.close();
  await assert.rejects(
    hashWhole(handle, AbortSignal.abort(reason), () => undefined),
    reason,
  );
});

test('stopped before it has begun to read, it does not read', async (t) => {
  const path = join(temporaryDirectory(t), 'disk');
  writeFileSync(path, '');
  truncateSync(path, 64 * 1024 * MEBIBYTE);
  const handle = await open(path);
  t.after(() => handle.close());
  const reason = new Error('enough');
  const controller = new AbortController();
  const fractions: number[] = [];
  const hashing = hashWhole(handle, controller.signal, (fraction) => fractions.push(fraction));
  controller.abort(reason);
  await assert.rejects(hashing, reason);
  assert.deepEqual(fractions, []);
});

test('what cannot be read is told', async (t) => {
  const handle = await open(temporaryDirectory(t));
  t.after(() => handle.close());
  await assert.rejects(
    hashWhole(handle, never, () => undefined),
    { code: 'EISDIR' },
  );
});
