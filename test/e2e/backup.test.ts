/**
 * Backups as an administrator makes them: of a server at work, read again, broken off, damaged, and restored into a new
 * data directory, where the vendor's client finds everything that was acknowledged before the backup began.
 */
import assert from 'node:assert/strict';
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import {
  ListStreamingImagesCommand,
  ListStudiosCommand,
  type NimbleClient,
  paginateListStudios,
} from '@aws-sdk/client-nimble';
import { startCluster } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import { createImage, deleteImage, makeStudio, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { holdsSameBytes, makeDisk } from './disks.ts';
import { BACKLOT, Installation, type RunningServer } from './installation.ts';

interface Made {
  readonly backup: string;
  readonly createdAt: string;
  readonly files: number;
  readonly bytes: number;
}

const modeOf = (path: string) => statSync(path).mode & 0o777;

function assertPrivate(directory: string): void {
  assert.equal(modeOf(directory), 0o700, directory);
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    assert.equal(modeOf(path), entry.isDirectory() ? 0o700 : 0o600, path);
  }
}

/** A command that is refused, in one line. */
async function refused(installation: Installation, words: readonly string[], says: RegExp): Promise<void> {
  const { code, stdout, stderr } = await installation.backlot(words);
  assert.deepEqual([code, stdout], [1, ''], stderr);
  assert.match(stderr, /^backlot: [^\n]+\n$/);
  assert.match(stderr, says);
}

async function studioIds(client: NimbleClient): Promise<Set<string>> {
  const ids = new Set<string>();
  for await (const { studios } of paginateListStudios({ client }, {}))
    for (const { studioId } of studios!) ids.add(studioId!);
  return ids;
}

describe('a backup of a server at work', () => {
  const installation = new Installation({ after }, { BACKLOT_QUOTA_STREAMING_IMAGES: '1000' });
  let server: RunningServer;
  let client: NimbleClient;
  let studioId = '';
  let disk = { path: '', format: 'raw' };
  let ec2ImageId = '';
  const images: string[] = [];

  before(async () => {
    server = await installation.start();
    client = sdkClient({ after }, installation, server);
    studioId = await readyStudio(client, 'film');
    disk = { ...disk, path: await makeDisk(installation.directory, 'disk.raw') };
    const words = ['machine-image', 'import', disk.path, '--platform', 'LINUX'];
    ({ ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words));
    images.push(await createImage(client, studioId, ec2ImageId), await createImage(client, studioId, ec2ImageId));
    for (const id of images) assert.equal((await settledImage(client, studioId, id)).state, 'READY');
  });

  it('restores everything that was acknowledged before it began, and names no image without its bytes', async (t) => {
    const load = startLoad();
    const backup = join(installation.directory, 'under-load');
    await until('there is something to lose', () => load.acknowledged.length > 5);
    const acknowledged = [...load.acknowledged];
    const made = await installation.json<Made>(['backup', backup]);
    await load.stop();
    assert.equal(made.backup, backup);
    assertPrivate(backup);
    const { createdAt, files, bytes } = made;
    assert.deepEqual(await installation.json(['backup', 'verify', backup]), { backup, createdAt, files, bytes });

    const restored = new Installation(t);
    await restored.json(['restore', backup]);
    assertPrivate(restored.dataDir);
    const next = await restored.start();
    const nextClient = sdkClient(t, restored, next);
    const found = await studioIds(nextClient);
    for (const id of [studioId, ...acknowledged]) assert.ok(found.has(id), id);
    const listed = await nextClient.send(new ListStreamingImagesCommand({ studioId }));
    const ready = listed
      .streamingImages!.filter(({ state }) => state === 'READY')
      .map((image) => image.streamingImageId!);
    for (const id of images) assert.ok(ready.includes(id), id);
    for (const id of ready) assert.ok(await holdsSameBytes(restored, restored.dataDir, id, disk), id);
    // The machine image came along: another copy can be made of it.
    const more = await createImage(nextClient, studioId, ec2ImageId);
    assert.equal((await settledImage(nextClient, studioId, more)).state, 'READY');
  });

  /** Studios are made, and images made and deleted, until it is stopped. */
  function startLoad(): { acknowledged: string[]; stop: () => Promise<void> } {
    const acknowledged: string[] = [];
    let isOver = false;
    const studios = async () => {
      for (let number = 0; !isOver; number += 1)
        acknowledged.push((await makeStudio(client, `load${number}`)).studioId!);
    };
    const copies = async () => {
      while (!isOver) {
        const id = await createImage(client, studioId, ec2ImageId);
        await settledImage(client, studioId, id);
        await deleteImage(client, studioId, id);
      }
    };
    const running = Promise.all([studios(), copies()]).finally(() => {
      isOver = true;
    });
    return {
      acknowledged,
      stop: async () => {
        isOver = true;
        await running;
      },
    };
  }

  it('is refused where it would not be one', async () => {
    const { directory } = installation;
    mkdirSync(join(directory, 'full'));
    writeFileSync(join(directory, 'full/file'), '');
    await refused(installation, ['backup', join(directory, 'full')], /full is not empty \(file\): name a directory/);
    await refused(installation, ['backup', join(directory, 'full/file')], /file is not a directory/);
    await refused(installation, ['backup', installation.path('backup')], /is in the data directory: name one outside/);
    await refused(installation, ['backup', installation.dataDir], /is in the data directory: name one outside/);
    assert.deepEqual(readdirSync(join(directory, 'full')), ['file']);
  });

  it('tells of a disk that is damaged, and keeps the rest', async (t) => {
    const restored = new Installation(t);
    const [first, second] = [join(restored.directory, 'first'), join(restored.directory, 'second')];
    await installation.json(['backup', first]);
    await restored.json(['restore', first]);
    const path = (id: string) => restored.path('images/streaming', id, 'disk.qcow2');
    appendFileSync(path(images[0]!), 'x');
    rmSync(path(images[1]!));
    const { code, stdout } = await restored.backlot(['backup', second]);
    assert.equal(code, 1);
    assert.deepEqual(new Set(JSON.parse(stdout).damagedImages), new Set(images));
    await restored.json(['backup', 'verify', second]);
  });
});

describe('a backup of an installation with workstations', () => {
  const installation = new Installation({ after });
  const record = { fence: 1, power: 'off', changedAt: 1, volume: { imageId: 'i' }, backups: {}, machine: null };
  const put = (id: string, power: string) => {
    mkdirSync(installation.path('compute/qemu'), { recursive: true });
    writeFileSync(installation.path('compute/qemu', `${id}.json`), JSON.stringify({ ...record, power }));
  };
  const answerOf = async (name: string) => {
    const { code, stdout, stderr } = await installation.backlot(['backup', join(installation.directory, name)]);
    return { code, stderr, answer: JSON.parse(stdout) };
  };

  before(async () => {
    await (await installation.start()).stop();
  });

  it('names the sessions whose volumes are not in it, because they are in use, and says what to do', async () => {
    put('running', 'on');
    const { code, stderr, answer } = await answerOf('running');
    assert.deepEqual([code, answer.runningWorkstations, answer.damagedWorkstations], [0, ['running'], undefined]);
    assert.match(stderr, /^backlot: Volumes of workstations that run are not in this backup: 1,[^\n]* Stop [^\n]*\n$/);
    await installation.json(['backup', 'verify', join(installation.directory, 'running')]);
  });

  it('names those of which something is not there, and says so by its exit code', async () => {
    put('running', 'off');
    const { code, answer } = await answerOf('damaged');
    const reason = 'compute/qemu/running/volume.qcow2 is not there';
    assert.deepEqual([code, answer.damagedWorkstations], [1, [{ id: 'running', reason }]]);
    assert.equal(answer.runningWorkstations, undefined);
    await installation.json(['backup', 'verify', join(installation.directory, 'damaged')]);
  });
});

describe('a backup that is broken off', () => {
  const installation = new Installation({ after });
  const words = (name: string) => ['backup', join(installation.directory, name)];

  before(async () => {
    const disk = await makeDisk(installation.directory, 'disk.raw', { mebibytes: 600, noiseMebibytes: 400 });
    await installation.json(['machine-image', 'import', disk, '--platform', 'LINUX']);
    rmSync(disk);
  });

  /** Starts the command, and waits until the disk is being copied into this directory. */
  async function whileCopying(command: readonly string[], directory: string) {
    const running = installation.spawn([BACKLOT, ...command]);
    const hasBegun = () => {
      const place = join(directory, 'images/machine');
      return existsSync(place) && readdirSync(place).some((id) => existsSync(join(place, id, 'disk')));
    };
    // A restore reads all of the backup before it begins.
    await until('the disk is being copied', () => running.ended || hasBegun(), 240_000);
    assert.equal(running.ended, false, running.stderr);
    return running;
  }

  it('by kill -9, is no backup: it is neither verified nor restored', async () => {
    const directory = join(installation.directory, 'killed');
    const running = await whileCopying(words('killed'), directory);
    running.signal('SIGKILL');
    await running.finished;
    assert.equal(existsSync(join(directory, 'backup.json')), false);
    const says = /killed is no backup: it has no backup\.json, which is written last/;
    await refused(installation, ['backup', 'verify', directory], says);
    await refused(installation, ['restore', directory, '--data-dir', join(installation.directory, 'new')], says);
    assert.equal(existsSync(join(installation.directory, 'new')), false);
    await refused(installation, words('killed'), /killed is not empty/);
  });

  it('by Ctrl-C, leaves nothing', async () => {
    const directory = join(installation.directory, 'stopped');
    const running = await whileCopying(words('stopped'), directory);
    running.signal('SIGINT');
    const { code, stderr } = await running.finished;
    assert.deepEqual([code, stderr], [1, 'backlot: Stopped. There is no backup.\n']);
    assert.equal(existsSync(directory), false);
  });

  it('while it is restored, leaves a data directory that no server takes', async () => {
    const [backup, dataDir] = [join(installation.directory, 'whole'), join(installation.directory, 'half')];
    await installation.json(words('whole'));
    const running = await whileCopying(['restore', backup, '--data-dir', dataDir], dataDir);
    running.signal('SIGKILL');
    await running.finished;
    await refused(
      installation,
      ['serve', '--port', '0', '--data-dir', dataDir],
      /it holds other things \("unfinished-restore"\)/,
    );
    await refused(installation, ['restore', backup, '--data-dir', dataDir], /half is not empty/);
  });
});

describe('a backup that is not what was written', () => {
  const installation = new Installation({ after });
  const whole = join(installation.directory, 'whole');

  before(async () => {
    await (await installation.start()).stop();
    await installation.json(['backup', whole]);
  });

  const manifestOf = (backup: string) => JSON.parse(readFileSync(join(backup, 'backup.json'), 'utf8'));
  const writeManifest = (backup: string, manifest: object) =>
    writeFileSync(join(backup, 'backup.json'), JSON.stringify(manifest));
  const withPath = (path: string) => (backup: string) => {
    const manifest = manifestOf(backup);
    manifest.files[0].path = path;
    writeManifest(backup, manifest);
  };

  const damages: Readonly<Record<string, readonly [damage: (backup: string) => void, says: RegExp]>> = {
    'a byte more': [
      (backup) => appendFileSync(join(backup, 'credentials'), 'x'),
      /credentials is not what was written/,
    ],
    'a byte less': [(backup) => truncateSync(join(backup, 'backlot.db'), 4095), /backlot\.db is not what was written/],
    'another byte': [
      (backup) => writeFileSync(join(backup, 'keys/root.key'), Buffer.alloc(32, 1)),
      /keys\/root\.key is not what was written\. Use another backup/,
    ],
    'a file that is gone': [(backup) => rmSync(join(backup, 'keys/root.key')), /keys\/root\.key is missing/],
    'a link in place of a file': [
      (backup) => {
        rmSync(join(backup, 'credentials'));
        symlinkSync(join(whole, 'credentials'), join(backup, 'credentials'));
      },
      /credentials is missing/,
    ],
    'no manifest': [(backup) => rmSync(join(backup, 'backup.json')), /is no backup/],
    'a manifest that is no JSON': [
      (backup) => writeFileSync(join(backup, 'backup.json'), '{'),
      /backup\.json is damaged/,
    ],
    'a manifest of another format': [
      (backup) => writeManifest(backup, { ...manifestOf(backup), format: 2 }),
      /damaged/,
    ],
    'a path that leads out of it': [withPath('../credentials'), /damaged/],
    'a path that a data directory has not': [withPath('server.lock'), /damaged/],
  };

  for (const [what, [damage, says]] of Object.entries(damages)) {
    it(`${what}: it is neither verified nor restored`, async (t: TestContext) => {
      const target = new Installation(t);
      const backup = join(target.directory, 'backup');
      for (const file of ['backup.json', ...manifestOf(whole).files.map(({ path }: { path: string }) => path)]) {
        mkdirSync(join(backup, file, '..'), { recursive: true });
        copyFileSync(join(whole, file), join(backup, file));
      }
      damage(backup);
      await refused(target, ['backup', 'verify', backup], says);
      await refused(target, ['restore', backup], says);
      assert.equal(existsSync(target.dataDir), false);
    });
  }

  it('a data directory that is in use is not overwritten', async () => {
    const before = readFileSync(installation.path('backlot.db'));
    await refused(installation, ['restore', whole], /data is not empty/);
    assert.deepEqual(readFileSync(installation.path('backlot.db')), before);
  });

  it('a whole one is restored, over and over, to the same', async (t) => {
    const target = new Installation(t);
    await target.json(['restore', whole]);
    const client = sdkClient(t, target, await target.start());
    assert.deepEqual((await client.send(new ListStudiosCommand({}))).studios, []);
  });
});

describe('a backup of a server on PostgreSQL', () => {
  it('holds all but the database, says so, and serves again beside it', async (t) => {
    const cluster = await startCluster(t);
    const environment = { BACKLOT_DATABASE_URL: await cluster.createDatabase() };
    const installation = new Installation(t, environment);
    const server = await installation.start();
    const client = sdkClient(t, installation, server);
    const studioId = await readyStudio(client, 'film');
    const disk = { path: await makeDisk(installation.directory, 'disk.raw'), format: 'raw' };
    const words = ['machine-image', 'import', disk.path, '--platform', 'LINUX'];
    const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
    const imageId = await createImage(client, studioId, ec2ImageId);
    assert.equal((await settledImage(client, studioId, imageId)).state, 'READY');
    const backup = join(installation.directory, 'backup');
    const made = await installation.json<{ database: string }>(['backup', backup]);
    assert.match(made.database, /not in this backup: it is in PostgreSQL/);
    assert.equal(existsSync(join(backup, 'backlot.db')), false);
    await server.stop();

    const restored = new Installation(t, environment);
    await restored.json(['restore', backup]);
    const next = sdkClient(t, restored, await restored.start());
    assert.equal((await settledImage(next, studioId, imageId)).state, 'READY');
    assert.ok(await holdsSameBytes(restored, restored.dataDir, imageId, disk));
  });
});
