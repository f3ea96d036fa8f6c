/**
 * What is deleted while a backup is made, at each moment at which it can be: the backup ends whole, names nothing that it
 * does not hold, and holds nothing that the database no longer names.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type BackupSource, makeBackup } from '../../src/backup/make.ts';
import { verifyBackup } from '../../src/backup/manifest.ts';
import { systemClock } from '../../src/clock.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { openImageDirectory } from '../../src/images/directory.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const quiet = { signal: new AbortController().signal, onProgress: () => undefined };

/** An installation with two images that are READY, of bytes that only this test knows to be no disk. */
async function furnished(t: TestContext) {
  const path = temporaryDirectory(t);
  const target = join(temporaryDirectory(t), 'backup');
  const directory = { path, database: join(path, 'backlot.db'), keys: join(path, 'keys') };
  const options = { region: 'us-west-2', accountId: '000000000000', clock: systemClock };
  const keys = await openLocalKeys({ directory: directory.keys, ...options });
  const images = openImageDirectory({ directory: join(path, 'images'), diskReserveBytes: 0, clock: systemClock });
  const store = openSqlite({ path: directory.database, now: systemClock.now });
  t.after(() => store.close());
  const putImage = async (id: string) => {
    const place = join(path, 'images/streaming', id);
    mkdirSync(place);
    writeFileSync(join(place, 'disk.qcow2'), `disk of ${id}`);
    writeFileSync(join(place, 'manifest.json'), '{}');
    await keys.generate(id, undefined);
    const row = newRow({ kind: KIND.streamingImage, id, studioId: 'film', state: 'READY', createdAt: 1, doc: '{}' });
    await store.write([{ op: 'insert', row }]);
  };
  /** As the worker does it: the row says so, then the key goes, then the bytes. */
  const deleteImage = async (id: string) => {
    const row = (await store.get(KIND.streamingImage, id))!;
    await store.write([{ op: 'update', row: { ...row, state: 'DELETED', version: row.version + 1 } }]);
    await keys.destroy(id);
    await images.remove(id);
  };
  await putImage('kept');
  await putImage('deleted');
  const source = (over: Partial<Store> = {}, isEmbedded = true): BackupSource => ({
    directory,
    store: { get: store.get.bind(store), list: store.list.bind(store), ...over } as Store,
    clock: systemClock,
    isEmbedded,
  });
  return { target, directory, store, source, putImage, deleteImage };
}

/** The images in a backup, by what it holds and by what its database names. */
async function imagesIn(target: string) {
  const { files } = await verifyBackup(target, quiet);
  const copy = openSqlite({ path: join(target, 'backlot.db'), now: systemClock.now });
  const rows = await copy.list({ kind: KIND.streamingImage, state: 'READY', limit: 10 });
  await copy.close();
  const held = (pattern: RegExp) => files.flatMap(({ path }) => pattern.exec(path)?.[1] ?? []).sort();
  return {
    named: rows.map(({ id }) => id).sort(),
    disks: held(/^images\/streaming\/(.+)\/disk\.qcow2$/),
    keys: held(/^keys\/data\/(.+)\.json$/),
  };
}

const only = (...ids: string[]) => ({ named: ids, disks: ids, keys: ids });

describe('an image that is deleted while a backup is made', () => {
  it('not at all: it is in the backup', async (t) => {
    const { target, source } = await furnished(t);
    assert.deepEqual((await makeBackup(target, source(), quiet)).damaged, []);
    assert.deepEqual(await imagesIn(target), only('deleted', 'kept'));
    assert.equal(readFileSync(join(target, 'images/streaming/kept/disk.qcow2'), 'utf8'), 'disk of kept');
    assert.equal(existsSync(join(target, 'backlot.db-wal')), false);
  });

  it('before anything is copied, but after it was named', async (t) => {
    const { target, source, store, deleteImage } = await furnished(t);
    let once = true;
    const list: Store['list'] = async (query) => {
      const rows = await store.list(query);
      if (query.kind === KIND.streamingImage && once) {
        once = false;
        await deleteImage('deleted');
      }
      return rows;
    };
    await makeBackup(target, source({ list }), quiet);
    assert.deepEqual(await imagesIn(target), only('kept'));
  });

  it('after it was copied: what was copied is thrown away', async (t) => {
    const { target, source, deleteImage } = await furnished(t);
    let deleting: Promise<void> | undefined;
    const onProgress = () => {
      // The first disk in order is being copied; the row is gone long before the second has been.
      deleting ??= deleteImage('deleted');
    };
    await makeBackup(target, source(), { ...quiet, onProgress });
    await deleting;
    const { named, disks } = await imagesIn(target);
    assert.ok(named.includes('kept'));
    assert.deepEqual(disks, named);
  });

  it('after the database was copied, which still names it: the database is copied again', async (t) => {
    const { target, source, store, deleteImage } = await furnished(t);
    let asked = 0;
    // The first look finds nothing to copy; the image is gone when the copy of the database is looked at.
    const list: Store['list'] = async () => [];
    await deleteFilesOnly(source().directory.path, 'deleted');
    const get: Store['get'] = async (kind, id) => {
      asked += 1;
      if (asked === 1) await deleteImage('deleted');
      return store.get(kind, id);
    };
    const { damaged } = await makeBackup(target, source({ list, get }), quiet);
    assert.deepEqual([asked, damaged], [1, []]);
    assert.deepEqual(await imagesIn(target), only('kept'));
  });

  it('again and again: the backup gives up, and leaves nothing', async (t) => {
    const { target, source } = await furnished(t);
    await deleteFilesOnly(source().directory.path, 'deleted');
    const get: Store['get'] = async () => undefined;
    await assert.rejects(makeBackup(target, source({ get }), quiet), /Images are deleted faster than/);
    assert.equal(existsSync(target), false);
  });

  it('by accident: its bytes are gone and its row says READY, which is told', async (t) => {
    const { target, source } = await furnished(t);
    await deleteFilesOnly(source().directory.path, 'deleted');
    assert.deepEqual((await makeBackup(target, source(), quiet)).damaged, ['deleted']);
  });
});

describe('a backup beside a database elsewhere', () => {
  it('holds keys and disks, no database, and says so', async (t) => {
    const { target, source } = await furnished(t);
    const { database, files } = await makeBackup(target, source({}, false), quiet);
    assert.equal(database, 'postgresql');
    const paths = files.map(({ path }) => path);
    assert.ok(paths.includes('keys/root.key') && paths.includes('images/streaming/kept/disk.qcow2'), String(paths));
    assert.ok(!paths.includes('backlot.db'));
    assert.equal((await verifyBackup(target, quiet)).database, 'postgresql');
  });
});

/** The disk alone, behind the back of everybody. */
async function deleteFilesOnly(path: string, id: string): Promise<void> {
  const images = openImageDirectory({ directory: join(path, 'images'), diskReserveBytes: 0, clock: systemClock });
  await images.remove(id);
}
