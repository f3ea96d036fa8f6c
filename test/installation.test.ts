/** A data directory whose parts do not belong together is not started, and nothing in it is changed. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readConfig } from '../src/config.ts';
import { StartError } from '../src/data-directory.ts';
import { KIND } from '../src/domain/kinds.ts';
import { keepPlace } from '../src/installation.ts';
import { createService, openParts, type Parts } from '../src/service.ts';
import { silentLog } from './support/domain.ts';
import { temporaryDirectory } from './support/temporary.ts';

const configOf = (dataDir: string, more: Readonly<Record<string, string>> = {}) =>
  readConfig({ BACKLOT_DATA_DIR: dataDir, BACKLOT_PORT: '0', ...more });

/** Starts and stops a server, with something done while it runs. */
async function run(
  dataDir: string,
  work: (service: Awaited<ReturnType<typeof createService>>) => Promise<void> = async () => undefined,
): Promise<void> {
  const service = await createService(configOf(dataDir), { log: silentLog });
  try {
    await service.listen();
    await work(service);
  } finally {
    await service.close();
  }
}

function refused(dataDir: string, message: RegExp): Promise<void> {
  return assert.rejects(run(dataDir), (error) => error instanceof StartError && message.test(error.message));
}

test('a root key that is gone or another is noticed at the start', async (t) => {
  const dataDir = temporaryDirectory(t);
  const rootKey = join(dataDir, 'keys', 'root.key');
  await run(dataDir);
  const right = readFileSync(rootKey);
  rmSync(rootKey);
  await refused(dataDir, /not the key that the database was made with/);
  writeFileSync(rootKey, Buffer.alloc(32, 7), { mode: 0o600 });
  await refused(dataDir, /not the key that the database was made with/);
  writeFileSync(rootKey, right);
  await run(dataDir);
});

test('a new database beside images that it does not know is refused, and the images stay', async (t) => {
  const dataDir = temporaryDirectory(t);
  await run(dataDir);
  const image = join(dataDir, 'images', 'streaming', 'an-image');
  mkdirSync(image);
  writeFileSync(join(image, 'disk.qcow2'), 'encrypted');
  renameSync(join(dataDir, 'backlot.db'), join(temporaryDirectory(t), 'backlot.db'));
  for (const side of ['-wal', '-shm']) rmSync(join(dataDir, `backlot.db${side}`), { force: true });
  await refused(dataDir, /The database is new, but there are 1 encrypted images/);
  assert.equal(readFileSync(join(image, 'disk.qcow2'), 'utf8'), 'encrypted');
});

test('a data directory keeps the region and account of the first thing that names them', async (t) => {
  const dataDir = temporaryDirectory(t);
  const made = { BACKLOT_REGION: 'eu-west-1', BACKLOT_ACCOUNT_ID: '123456789012' };
  const openWith = async <T>(settings: Readonly<Record<string, string>>, use: (parts: Parts) => Promise<T>) => {
    const parts = await openParts(configOf(dataDir, settings), { log: silentLog });
    try {
      return await use(parts);
    } finally {
      await parts.store.close();
    }
  };
  const keyArnWith = (settings: Readonly<Record<string, string>>) =>
    openWith(settings, async (parts) => {
      await keepPlace(parts);
      return (await parts.keys.createKey()).keyArn;
    });
  await openWith({ BACKLOT_REGION: 'us-east-2' }, async ({ config }) => assert.equal(config.region, 'us-east-2'));
  for (const settings of [made, {}, { BACKLOT_REGION: 'eu-west-1' }]) {
    assert.match(await keyArnWith(settings), /^arn:aws:kms:eu-west-1:123456789012:key/);
  }
  await assert.rejects(keyArnWith({ BACKLOT_REGION: 'us-east-1' }), /name eu-west-1, not us-east-1: .*BACKLOT_REGION/);
  await assert.rejects(keyArnWith({ BACKLOT_ACCOUNT_ID: '000000000000' }), /name 123456789012, not 000000000000/);
});

test('an access key is made on the first start only, even when every key has been deleted since', async (t) => {
  const dataDir = temporaryDirectory(t);
  const credentials = join(dataDir, 'credentials');
  await run(dataDir, async ({ parts: { store } }) => {
    const [key] = await store.list({ kind: KIND.accessKey, limit: 10 });
    await store.write([{ op: 'delete', kind: key!.kind, id: key!.id, version: key!.version }]);
  });
  const before = readFileSync(credentials, 'utf8');
  await run(dataDir, async ({ parts: { store } }) => {
    assert.equal(await store.count({ kind: KIND.accessKey, limit: 10 }), 0);
  });
  assert.equal(readFileSync(credentials, 'utf8'), before);
});

test('a crash between the credentials file and the database is mended by the next start', async (t) => {
  const dataDir = temporaryDirectory(t);
  const credentials = join(dataDir, 'credentials');
  mkdirSync(dataDir, { recursive: true });
  writeFileSync(credentials, '[default]\naws_access_key_id = AKIAHALFMADE\n', { mode: 0o600 });
  await run(dataDir, async ({ parts: { store } }) => {
    const [key] = await store.list({ kind: KIND.accessKey, limit: 10 });
    assert.ok(readFileSync(credentials, 'utf8').includes(key!.id));
  });
});
