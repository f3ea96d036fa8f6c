/**
 * What is deleted while a backup is made, at each moment at which it can be: the backup ends whole, names nothing that it
 * does not hold, and holds nothing that the database no longer names. And where a backup may be made: never inside of what
 * it is a backup of.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type BackupSource, makeBackup } from '../../src/backup/make.ts';
import { verifyBackup } from '../../src/backup/manifest.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { systemClock } from '../../src/clock.ts';
import { openRecords } from '../../src/compute/records.ts';
import { createSimulatedCompute, type SimulatedWorkstation } from '../../src/compute/simulated.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { openImageDirectory } from '../../src/images/directory.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { workstationRequest } from '../support/workstation.ts';

const quiet = { signal: new AbortController().signal, onProgress: () => undefined };

/** An installation with two images that are READY, of bytes that only this test knows to be no disk. */
async function furnished(t: TestContext) {
  const path = temporaryDirectory(t);
  const target = join(temporaryDirectory(t), 'backup');
  const directory = {
    path,
    database: join(path, 'backlot.db'),
    keys: join(path, 'keys'),
    compute: join(path, 'compute'),
  };
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
    keys,
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
    await assert.rejects(makeBackup(target, source({ get }), quiet), /Images or sessions are deleted faster than/);
    assert.equal(existsSync(target), false);
  });

  it('by accident: its bytes are gone and its row says READY, which is told', async (t) => {
    const { target, source } = await furnished(t);
    await deleteFilesOnly(source().directory.path, 'deleted');
    assert.deepEqual((await makeBackup(target, source(), quiet)).damaged, ['deleted']);
  });
});

describe('an image that sessions stand on, whatever its state', () => {
  /** The image in this state, below the volume of a session that is STOPPED. */
  async function withSession(t: TestContext, state: string) {
    const scene = await furnished(t);
    const { store } = scene;
    const image = (await store.get(KIND.streamingImage, 'deleted'))!;
    const kept = JSON.stringify({ ...JSON.parse(image.private), ...(state === 'DELETED' && { kept: true }) });
    await store.write([{ op: 'update', row: { ...image, state, version: image.version + 1, private: kept } }]);
    const doc = JSON.stringify({ streamingImageId: 'deleted' });
    const row = newRow({
      kind: KIND.streamingSession,
      id: 'session',
      studioId: 'film',
      state: 'STOPPED',
      createdAt: 1,
      doc,
    });
    await store.write([{ op: 'insert', row }]);
    const deleteSession = () => store.write([{ op: 'update', row: { ...row, state: 'DELETED', version: 2 } }]);
    return { ...scene, deleteSession };
  }

  for (const state of ['DELETE_IN_PROGRESS', 'DELETE_FAILED', 'DELETED']) {
    it(`${state}: its key and disk are in the backup, and come back`, async (t) => {
      const { target, source } = await withSession(t, state);
      assert.deepEqual((await makeBackup(target, source(), quiet)).damaged, []);
      const restored = join(temporaryDirectory(t), 'restored');
      await restoreBackup(target, restored, quiet);
      assert.equal(readFileSync(join(restored, 'images/streaming/deleted/disk.qcow2'), 'utf8'), 'disk of deleted');
      assert.ok(existsSync(join(restored, 'keys/data/deleted.json')));
    });

    it(`${state}: its disk is not in the backup when the session was deleted before`, async (t) => {
      const { target, source, deleteSession } = await withSession(t, state);
      await deleteSession();
      await makeBackup(target, source(), quiet);
      assert.deepEqual((await imagesIn(target)).disks, ['kept']);
    });
  }

  it('whose session is deleted while the backup is made is in it no more, and is not told as damaged', async (t) => {
    const { target, source, store, deleteSession, deleteImage } = await withSession(t, 'DELETED');
    // The first look finds nothing to copy; the copy of the database names a session that has gone since.
    const list: Store['list'] = async (query) => (looked ? store.list(query) : []);
    let looked = false;
    await deleteFilesOnly(source().directory.path, 'deleted');
    const get: Store['get'] = async (kind, id) => {
      if (!looked) await deleteSession().then(() => deleteImage('deleted'));
      looked = true;
      return store.get(kind, id);
    };
    const { damaged } = await makeBackup(target, source({ list, get }), quiet);
    assert.deepEqual([looked, damaged], [true, []]);
    assert.deepEqual(await imagesIn(target), only('kept'));
  });

  it('and whose deletion did not keep its disk for them is not told as damaged', async (t) => {
    const { target, source, store } = await withSession(t, 'DELETED');
    const row = (await store.get(KIND.streamingImage, 'deleted'))!;
    await store.write([{ op: 'update', row: { ...row, version: row.version + 1, private: '{}' } }]);
    await deleteFilesOnly(source().directory.path, 'deleted');
    assert.deepEqual((await makeBackup(target, source(), quiet)).damaged, []);
  });

  it('whose disk is gone by accident is told as damaged', async (t) => {
    const { target, source } = await withSession(t, 'DELETED');
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

const NEVER = new AbortController().signal;

async function openCompute(directory: string) {
  const records = await openRecords<SimulatedWorkstation>(directory, systemClock);
  return createSimulatedCompute({ records, clock: systemClock, boot: async () => undefined });
}

const request = (id: string, fence: number) => workstationRequest({ id, fence, imageId: 'kept' });

/** A running workstation, and a stopped one with a volume and a backup, changed a hundred times since. */
async function putWorkstations(directory: string) {
  const compute = await openCompute(directory);
  await compute.ensure(request('running', 100));
  await compute.ensure(request('stopped', 100));
  await compute.stop({ id: 'stopped', fence: 101, signal: NEVER, volume: 'keep' });
  await compute.backUp({ id: 'stopped', fence: 102, signal: NEVER, backupId: 'b' });
  return compute;
}

describe('the workstations of an installation', () => {
  for (const isEmbedded of [true, false]) {
    it(`come back with volumes and backups, database ${isEmbedded ? 'included' : 'elsewhere'}`, async (t) => {
      const { target, source, directory } = await furnished(t);
      const compute = await putWorkstations(directory.compute);
      const { files } = await makeBackup(target, source({}, isEmbedded), quiet);
      const paths = files.map(({ path }) => path).filter((path) => path.startsWith('compute/'));
      assert.deepEqual(paths, ['compute/running.json', 'compute/stopped.json']);
      const dataDirectory = join(temporaryDirectory(t), 'data');
      await restoreBackup(target, dataDirectory, quiet);
      for (const place of [target, dataDirectory]) {
        assert.equal(statSync(join(place, 'compute')).mode & 0o777, 0o700);
        for (const path of paths) assert.equal(statSync(join(place, path)).mode & 0o777, 0o600);
      }
      const restored = await openCompute(join(dataDirectory, 'compute'));
      const byId = (list: readonly { id: string }[]) => list.toSorted((a, b) => (a.id < b.id ? -1 : 1));
      assert.deepEqual(byId(await restored.list()), byId(await compute.list()));
    });
  }

  it('are changed again by a database that is older than their records', async (t) => {
    const { target, source, directory } = await furnished(t);
    await putWorkstations(directory.compute);
    await makeBackup(target, source(), quiet);
    const restored = await openCompute(join(target, 'compute'));
    await restored.ensure({ ...request('stopped', 7), needsVolume: true });
    await assert.rejects(restored.stop({ id: 'stopped', fence: 6, signal: NEVER, volume: 'delete' }), /since/);
  });

  it('are none where there is no directory of them, and foreign files are left out', async (t) => {
    const { target, source, directory } = await furnished(t);
    const recordsIn = async (backup: string) =>
      (await makeBackup(backup, source(), quiet)).files.filter(({ path }) => path.startsWith('compute/'));
    assert.deepEqual(await recordsIn(target), []);
    mkdirSync(directory.compute);
    for (const name of ['.a.json.0123456789abcdef.tmp', 'notes.txt', 'a b.json'])
      writeFileSync(join(directory.compute, name), '{}');
    assert.deepEqual(await recordsIn(`${target}2`), []);
  });

  it('are as they were after the copy of the database', async (t) => {
    const { target, source, store, directory } = await furnished(t);
    const compute = await putWorkstations(directory.compute);
    let looks = 0;
    const list: Store['list'] = async (query) => {
      looks += 1;
      if (looks === 1) await compute.stop({ id: 'running', fence: 103, signal: NEVER, volume: 'delete' });
      return store.list(query);
    };
    await makeBackup(target, source({ list }), quiet);
    const [running] = (await (await openCompute(join(target, 'compute'))).list()).filter(({ id }) => id === 'running');
    assert.deepEqual([running!.running, running!.hasVolume], [false, false]);
  });

  it('that are destroyed while the database is copied make another copy necessary', async (t) => {
    const { target, source, directory, deleteImage } = await furnished(t);
    await putWorkstations(directory.compute);
    // The first thing that is read after the names of the records were is the path of the database.
    let copies = 0;
    const at = {
      ...directory,
      get database() {
        copies += 1;
        if (copies === 1) unlinkSync(join(directory.compute, 'running.json'));
        return directory.database;
      },
    };
    await deleteImage('deleted');
    await makeBackup(target, { ...source(), directory: at }, quiet);
    assert.equal(copies, 2);
    assert.deepEqual(readdirSync(join(target, 'compute')), ['stopped.json']);
    await verifyBackup(target, quiet);
  });
});

describe('where a backup may be made', () => {
  type Place = readonly [target: (path: string, beside: string) => string, refused: boolean];
  const places: Readonly<Record<string, Place>> = {
    'the data directory': [(path) => path, true],
    'below it': [(path) => join(path, 'a/b'), true],
    'below it, by a name that begins with two dots': [(path) => join(path, '..x'), true],
    'below it, by a link to it': [(path, beside) => join(linked(beside, path), 'backup'), true],
    'below it, by a link into it': [(path, beside) => join(linked(beside, join(path, 'images')), 'a/b'), true],
    'in a part of it that is a link': [
      (path, beside) => {
        renameSync(join(path, 'images'), join(beside, 'images'));
        symlinkSync(join(beside, 'images'), join(path, 'images'));
        return join(beside, 'images/backup');
      },
      true,
    ],
    'in the workstations of an engine, which are a link': [
      (path, beside) => {
        mkdirSync(join(path, 'compute'));
        symlinkSync(beside, join(path, 'compute/qemu'));
        return join(beside, 'backup');
      },
      true,
    ],
    'beside it': [(_path, beside) => join(beside, 'backup'), false],
    'beside it, by a name that begins as its own': [(path) => `${path}-backup`, false],
    'beside it, by a link': [(_path, beside) => join(linked(beside, beside), 'new/backup'), false],
  };
  const linked = (beside: string, to: string) => {
    symlinkSync(to, join(beside, 'link'));
    return join(beside, 'link');
  };
  for (const [what, [target, isRefused]] of Object.entries(places)) {
    it(`${what}: ${isRefused ? 'no' : 'yes'}`, async (t) => {
      const { source, directory } = await furnished(t);
      const path = target(directory.path, temporaryDirectory(t));
      const before = readdirSync(directory.path, { recursive: true }).length;
      const making = makeBackup(path, source(), quiet);
      if (isRefused) await assert.rejects(making, /is in the data directory: name one outside of it/);
      else await verifyBackup((await making) && path, quiet);
      assert.equal(readdirSync(directory.path, { recursive: true }).length, before);
    });
  }
});

/** The disk alone, behind the back of everybody. */
async function deleteFilesOnly(path: string, id: string): Promise<void> {
  const images = openImageDirectory({ directory: join(path, 'images'), diskReserveBytes: 0, clock: systemClock });
  await images.remove(id);
}
