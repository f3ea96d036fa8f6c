/**
 * Workstations in a backup, by files that only these tests know to be no disks: what comes along, what is left out and told,
 * and each moment at which a workstation can be changed while it is copied. Real ones are restored in test/drivers.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { type BackupSource, makeBackup } from '../../src/backup/make.ts';
import { verifyBackup } from '../../src/backup/manifest.ts';
import { restoreBackup } from '../../src/backup/restore.ts';
import { systemClock } from '../../src/clock.ts';
import type { QemuWorkstation } from '../../src/compute/qemu.ts';
import type { SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const MACHINE = { mark: { pid: 1, startedAt: 'of another run/1' }, size: { vcpus: 1, memoryMib: 32 } };
const STOPPED: QemuWorkstation = {
  fence: 7,
  power: 'off',
  changedAt: 1,
  volume: { imageId: 'image' },
  backups: { first: { imageId: 'image' } },
  machine: null,
};
const RUNNING: QemuWorkstation = { ...STOPPED, fence: 8, power: 'on', machine: MACHINE };

interface Meanwhile {
  /** Called each time before the database is copied. */
  readonly beforeDatabase?: () => void | Promise<void>;
  /** Called while this file is being copied. */
  readonly during?: readonly [path: string, act: () => void];
}

/** An installation with nothing but keys and a database, and how a backup of it is made. */
async function installation(t: TestContext) {
  const path = join(temporaryDirectory(t), 'data');
  mkdirSync(path);
  const target = join(temporaryDirectory(t), 'backup');
  const database = join(path, 'backlot.db');
  const directory = { path, database, keys: join(path, 'keys') };
  const options = { region: 'us-west-2', accountId: '000000000000', clock: systemClock };
  const keys = await openLocalKeys({ directory: directory.keys, ...options });
  const store = openSqlite({ path: database, now: systemClock.now });
  t.after(() => store.close());
  const at = (name: string) => join(path, 'compute/qemu', name);
  const put = (id: string, record: object) => writeFileSync(at(`${id}.json`), JSON.stringify(record));
  const write = (name: string, text: string) => writeFileSync(at(name), text);
  /** A workstation with its volume, a backup and what else lies beside them. */
  const putWorkstation = async (id: string, record: QemuWorkstation) => {
    mkdirSync(at(`${id}/run`), { recursive: true });
    for (const name of ['volume.qcow2', 'backup-first.qcow2', 'backup-first.qcow2.partial', 'run/monitor'])
      write(`${id}/${name}`, `${name} of ${id}`);
    put(id, record);
    await keys.generate(id, undefined);
  };
  const backUp = async ({ beforeDatabase, during }: Meanwhile = {}) => {
    const { signal } = new AbortController();
    const throwIfAborted = () => {
      if (during && existsSync(join(target, 'compute/qemu', during[0]))) during[1]();
    };
    // Asked again and again while a file is copied.
    Object.defineProperty(signal, 'throwIfAborted', { value: throwIfAborted });
    let copies = 0;
    const source: BackupSource = {
      directory: {
        ...directory,
        get database() {
          copies += 1;
          beforeDatabase?.();
          return database;
        },
      },
      keys,
      store,
      clock: systemClock,
      isEmbedded: true,
    };
    const made = await makeBackup(target, source, { signal, onProgress: () => undefined });
    return { ...made, copies };
  };
  return { path, target, keys, at, put, write, putWorkstation, backUp };
}

const quiet = { signal: new AbortController().signal, onProgress: () => undefined };

async function pathsIn(target: string): Promise<string[]> {
  return (await verifyBackup(target, quiet)).files
    .map(({ path }) => path)
    .filter((path) => path.startsWith('compute/'));
}

const recordIn = (place: string, id: string, engine = 'qemu') =>
  JSON.parse(readFileSync(join(place, `compute/${engine}/${id}.json`), 'utf8'));
const textIn = (place: string, name: string) => readFileSync(join(place, 'compute/qemu', name), 'utf8');

describe('a workstation in a backup', () => {
  it('that does not run comes with its volume, its backups and its key, and nothing else', async (t) => {
    const { target, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    const { workstations, files } = await backUp();
    assert.deepEqual([workstations.running, workstations.damaged], [[], []]);
    assert.ok(files.some(({ path }) => path === 'keys/data/one.json'));
    const paths = ['compute/qemu/one.json', 'compute/qemu/one/backup-first.qcow2', 'compute/qemu/one/volume.qcow2'];
    assert.deepEqual(await pathsIn(target), paths);
    const dataDirectory = join(temporaryDirectory(t), 'data');
    await restoreBackup(target, dataDirectory, quiet);
    for (const place of [target, dataDirectory]) {
      assert.equal(statSync(join(place, 'compute/qemu/one')).mode & 0o777, 0o700);
      for (const path of paths) assert.equal(statSync(join(place, path)).mode & 0o777, 0o600);
      assert.deepEqual(recordIn(place, 'one'), { ...STOPPED, fence: 0 });
      assert.equal(textIn(place, 'one/volume.qcow2'), 'volume.qcow2 of one');
      assert.equal(textIn(place, 'one/backup-first.qcow2'), 'backup-first.qcow2 of one');
    }
  });

  for (const power of ['on', 'starting', 'stopping'] as const) {
    it(`that is ${power} comes without its volume, is told of, and runs nowhere else`, async (t) => {
      const { target, putWorkstation, backUp } = await installation(t);
      await putWorkstation('one', { ...RUNNING, power });
      await putWorkstation('two', STOPPED);
      const { workstations } = await backUp();
      assert.deepEqual([workstations.running, workstations.damaged], [['one'], []]);
      assert.deepEqual(recordIn(target, 'one'), { ...RUNNING, fence: 0, power: 'off', machine: null, volume: null });
      const paths = await pathsIn(target);
      assert.ok(
        paths.includes('compute/qemu/one/backup-first.qcow2') && paths.includes('compute/qemu/two/volume.qcow2'),
      );
      assert.ok(!paths.includes('compute/qemu/one/volume.qcow2'), String(paths));
      assert.equal(existsSync(join(target, 'compute/qemu/one/volume.qcow2')), false);
    });
  }

  it('whose volume is yet to be made has nothing to lose, and is not told of', async (t) => {
    const { target, put, at, backUp } = await installation(t);
    mkdirSync(at('.'), { recursive: true });
    put('one', { ...RUNNING, power: 'starting', machine: null, volume: null, backups: {} });
    assert.deepEqual((await backUp()).workstations.running, []);
    assert.equal(recordIn(target, 'one').power, 'off');
  });

  it('that was started since the backup began comes as it was before', async (t) => {
    const { target, put, write, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    const beforeDatabase = () => {
      put('one', RUNNING);
      write('one/volume.qcow2', 'torn');
    };
    assert.deepEqual((await backUp({ beforeDatabase })).workstations.running, []);
    assert.equal(textIn(target, 'one/volume.qcow2'), 'volume.qcow2 of one');
    assert.deepEqual(recordIn(target, 'one'), { ...STOPPED, fence: 0 });
  });

  it('that was started and stopped since the backup began comes as it is now', async (t) => {
    const { target, put, write, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    const beforeDatabase = () => {
      put('one', { ...STOPPED, fence: 9 });
      write('one/volume.qcow2', 'drawn since');
    };
    assert.deepEqual((await backUp({ beforeDatabase })).workstations.running, []);
    assert.equal(textIn(target, 'one/volume.qcow2'), 'drawn since');
  });

  it('that was stopped since the backup began comes with its volume', async (t) => {
    const { target, put, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', RUNNING);
    const beforeDatabase = () => put('one', { ...STOPPED, fence: 9 });
    assert.deepEqual((await backUp({ beforeDatabase })).workstations.running, []);
    assert.ok((await pathsIn(target)).includes('compute/qemu/one/volume.qcow2'));
    assert.notEqual(recordIn(target, 'one').volume, null);
  });

  it('that is started while its volume is copied is told of, and what was copied is thrown away', async (t) => {
    const { target, put, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    const { workstations } = await backUp({ during: ['one/volume.qcow2', () => put('one', RUNNING)] });
    assert.deepEqual(workstations.running, ['one']);
    assert.ok(!(await pathsIn(target)).includes('compute/qemu/one/volume.qcow2'));
    assert.equal(recordIn(target, 'one').volume, null);
  });

  it('that is started and stopped while its volume is copied is copied again', async (t) => {
    const { target, put, write, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    let isFirst = true;
    const change = () => {
      if (!isFirst) return;
      isFirst = false;
      put('one', { ...STOPPED, fence: 9 });
      write('one/volume.qcow2', 'drawn since');
    };
    assert.deepEqual((await backUp({ during: ['one/volume.qcow2', change] })).workstations.running, []);
    assert.equal(textIn(target, 'one/volume.qcow2'), 'drawn since');
  });

  it('that never rests is given up, as one that runs', async (t) => {
    const { target, put, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    let fence = 10;
    const change = () => {
      fence += 1;
      put('one', { ...STOPPED, fence });
    };
    const { workstations } = await backUp({ during: ['one/volume.qcow2', change] });
    assert.deepEqual([workstations.running, workstations.damaged], [['one'], []]);
    assert.equal(existsSync(join(target, 'compute/qemu/one/volume.qcow2')), false);
  });

  it('whose backup is destroyed while the database is copied comes without it, and with another copy of that', async (t) => {
    const { target, put, at, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', { ...STOPPED, backups: { first: { imageId: 'image' }, second: { imageId: 'image' } } });
    writeFileSync(at('one/backup-second.qcow2'), 'second');
    const beforeDatabase = () => {
      rmSync(at('one/backup-second.qcow2'), { force: true });
      put('one', STOPPED);
    };
    const { copies, workstations } = await backUp({ beforeDatabase });
    assert.deepEqual([copies, workstations.damaged], [2, []]);
    assert.ok(!(await pathsIn(target)).includes('compute/qemu/one/backup-second.qcow2'));
  });

  it('that is destroyed meanwhile is no part of it, and neither is its key', async (t) => {
    const { target, keys, at, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    const destroyed: Promise<void>[] = [];
    const beforeDatabase = () => {
      destroyed.push(keys.destroy('one'));
      for (const name of ['one', 'one.json']) rmSync(at(name), { recursive: true, force: true });
    };
    const { files, copies } = await backUp({ beforeDatabase });
    await Promise.all(destroyed);
    assert.equal(copies, 2);
    assert.deepEqual(await pathsIn(target), []);
    assert.ok(!files.some(({ path }) => path === 'keys/data/one.json'));
  });
});

describe('a workstation that is damaged', () => {
  const places = ['one/volume.qcow2', 'one/backup-first.qcow2'];
  for (const name of places) {
    it(`by the loss of ${name} is told of, and the rest of it comes along`, async (t) => {
      const { target, at, putWorkstation, backUp } = await installation(t);
      await putWorkstation('one', STOPPED);
      rmSync(at(name));
      const { workstations } = await backUp();
      assert.deepEqual(workstations.running, []);
      assert.deepEqual(workstations.damaged, [{ id: 'one', reason: `compute/qemu/${name} is not there` }]);
      const rest = places.filter((other) => other !== name).map((other) => `compute/qemu/${other}`);
      assert.deepEqual(await pathsIn(target), ['compute/qemu/one.json', ...rest]);
    });
  }

  it('by the loss of its key is told of', async (t) => {
    const { path, putWorkstation, backUp } = await installation(t);
    await putWorkstation('one', STOPPED);
    rmSync(join(path, 'keys/data/one.json'));
    assert.deepEqual((await backUp()).workstations.damaged, [{ id: 'one', reason: 'keys/data/one.json is not there' }]);
  });

  for (const [what, text] of [
    ['is cut off', '{"fence": 7, "pow'],
    ['says nothing', 'null'],
    ['leads elsewhere', JSON.stringify({ ...STOPPED, backups: { '../../../credentials': { imageId: 'image' } } })],
  ] as const) {
    it(`in its record, which ${what}, is told of, and comes as it is`, async (t) => {
      const { target, write, putWorkstation, backUp } = await installation(t);
      await putWorkstation('one', STOPPED);
      write('one.json', text);
      assert.deepEqual((await backUp()).workstations.damaged, [{ id: 'one', reason: 'its record is damaged' }]);
      assert.deepEqual(await pathsIn(target), ['compute/qemu/one.json']);
      assert.equal(textIn(target, 'one.json'), text);
    });
  }
});

describe('a sandbox in a backup', () => {
  const HOME = 'one.0123456789abcdef';
  const SANDBOX: SandboxedWorkstation = {
    fence: 7,
    power: 'on',
    changedAt: 1,
    imageId: 'image',
    memoryMib: 512,
    mark: 'backlot-mark',
    home: HOME,
    restore: null,
    backups: { first: { bytes: 5 } },
  };

  /** With a backup, a root file system and a home that no tool can pack. */
  async function sandbox(t: TestContext, record: object) {
    const parts = await installation(t);
    const place = join(parts.path, 'compute/sandbox');
    for (const name of ['backups/one', 'roots/boot/image', `homes/${HOME}`])
      mkdirSync(join(place, name), { recursive: true });
    writeFileSync(join(place, 'backups/one/first'), 'first');
    writeFileSync(join(place, 'one.json'), JSON.stringify(record));
    await parts.keys.generate('one', undefined);
    return { ...parts, place };
  }

  it('that runs comes with its backups, without its home, and under another mark', async (t) => {
    const { target, backUp } = await sandbox(t, SANDBOX);
    assert.deepEqual((await backUp()).workstations.running, ['one']);
    assert.deepEqual(await pathsIn(target), ['compute/sandbox/backups/one/first', 'compute/sandbox/one.json']);
    const { mark, ...record } = recordIn(target, 'one', 'sandbox');
    const { mark: before, ...expected } = { ...SANDBOX, fence: 0, power: 'off', home: null };
    assert.deepEqual(record, expected);
    assert.match(mark, /^backlot-[0-9a-f]{32}$/);
    assert.notEqual(mark, before);
  });

  it('whose home came in a backup itself, and was not used since, comes with it again', async (t) => {
    const { target, place, backUp } = await sandbox(t, { ...SANDBOX, power: 'off' });
    mkdirSync(join(place, 'packed'));
    writeFileSync(join(place, 'packed', HOME), 'a home');
    assert.deepEqual((await backUp()).workstations.damaged, []);
    assert.equal(readFileSync(join(target, 'compute/sandbox/packed', HOME), 'utf8'), 'a home');
    assert.equal(recordIn(target, 'one', 'sandbox').home, HOME);
  });

  it('whose home cannot be packed is told of with the reason, and its record says that it has none', async (t) => {
    const { target, place, backUp } = await sandbox(t, { ...SANDBOX, power: 'off' });
    rmSync(join(place, 'homes', HOME), { recursive: true });
    const { workstations } = await backUp();
    assert.deepEqual([workstations.running, workstations.damaged.map(({ id }) => id)], [[], ['one']]);
    assert.match(workstations.damaged[0]!.reason, /./);
    assert.equal(recordIn(target, 'one', 'sandbox').home, null);
    assert.deepEqual(readdirSync(join(target, 'compute/sandbox')), ['backups', 'one.json', 'packed']);
    assert.deepEqual(readdirSync(join(target, 'compute/sandbox/packed')), []);
  });
});
