/**
 * The port to the disks, held against the directory and the simulated adapter; then what only the directory promises,
 * with the real qemu-img and real disks of a few MiB: encryption, privacy, full disks, and the same end however often and
 * wherever it was killed. What the tool may do while it runs is in confined.test.ts.
 */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it, type TestContext } from 'node:test';
import { promisify } from 'node:util';
import { type Clock, systemClock } from '../../src/clock.ts';
import { type ImageDirectory, openImageDirectory } from '../../src/images/directory.ts';
import { ImageFailure, type Images, type ImportRequest, type StoredImage } from '../../src/images/images.ts';
import { type DiskFormat, DiskRefused } from '../../src/images/inspect.ts';
import type { MachineImageFile } from '../../src/images/machine-disk.ts';
import { type Keys, KeyUnavailable } from '../../src/keys/keys.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { SimulatedImages } from '../support/simulated.ts';
import { SYSTEM, tarOf } from '../support/tar.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import type { ChildTask, ImportOutcome, ImportTask, MachineImportTask } from './child.ts';
import { toolsHolding, toolsOf } from './tools.ts';

const run = promisify(execFile);
const CHILD = join(import.meta.dirname, 'child.ts');
const MEBIBYTE = 2 ** 20;
const MARKER = 'a sentence that the encrypted copy must not hold. ';
const PASSPHRASE = randomBytes(32).toString('base64');

/** Made once: making disks is not what is tested. */
let fixtures = '';
/** Recognisable text, then noise, then a hole, then text again. */
let rawDisk = '';

before(() => {
  fixtures = mkdtempSync(join(tmpdir(), 'backlot-images-'));
  rawDisk = join(fixtures, 'disk.raw');
  const descriptor = openSync(rawDisk, 'w');
  // A boot sector of text could be taken for a partition table.
  writeSync(descriptor, Buffer.alloc(MEBIBYTE, MARKER), 0, MEBIBYTE, 512);
  writeSync(descriptor, randomBytes(2 * MEBIBYTE), 0, 2 * MEBIBYTE, 2 * MEBIBYTE);
  writeSync(descriptor, Buffer.alloc(100_000, MARKER), 0, 100_000, 7 * MEBIBYTE);
  ftruncateSync(descriptor, 8 * MEBIBYTE);
  closeSync(descriptor);
});

after(() => rmSync(fixtures, { recursive: true, force: true }));

/** What an import is told, but for what a test says otherwise. */
function requestOf(source: { id: string; sha256: string; format: DiskFormat }, id: string): ImportRequest {
  return {
    id,
    source: source.id,
    sourceSha256: source.sha256,
    sourceFormat: source.format,
    passphrase: Buffer.from(PASSPHRASE),
    onProgress: () => undefined,
    signal: new AbortController().signal,
  };
}

interface Source {
  readonly id: string;
  readonly sha256: string;
  readonly format: DiskFormat;
}

interface Subject {
  readonly images: Images;
  readonly source: Source;
}

const adapters: Readonly<Record<string, (t: TestContext) => Promise<Subject>>> = {
  directory: async (t) => {
    const { images, source } = await withMachineImage(temporaryDirectory(t));
    return { images, source };
  },
  simulated: async () => {
    const images = new SimulatedImages();
    images.sources.set('ami-1', 'digest');
    return { images, source: { id: 'ami-1', sha256: 'digest', format: 'raw' } };
  },
};

for (const [name, open] of Object.entries(adapters)) {
  describe(`the port to the disks: ${name}`, () => {
    it('makes a copy once, opens it, lists it and removes it', async (t) => {
      const { images, source } = await open(t);
      const id = '-Cw_jXnp1QcSSXhE2hkNRo';
      const stored = await images.import(requestOf(source, id));
      assert.equal(stored.format, 'qcow2');
      assert.ok(stored.sizeBytes > 0 && stored.virtualSizeBytes > 0);
      assert.deepEqual(await images.import(requestOf(source, id)), stored);
      assert.ok(await images.open(id));
      const [listed, ...others] = await images.list();
      assert.deepEqual(others, []);
      assert.equal(listed!.id, id);
      assert.equal(listed!.sizeBytes, stored.sizeBytes);
      assert.ok(Number.isInteger(listed!.modifiedAt));
      for (let times = 0; times < 2; times += 1) {
        await images.remove(id);
        assert.equal(await images.open(id), undefined);
        assert.deepEqual(await images.list(), []);
      }
    });

    it('refuses a source that is not there, and one that has changed', async (t) => {
      const { images, source } = await open(t);
      const missing = images.import(requestOf({ ...source, id: 'ami-0' }, 'copy'));
      await assert.rejects(missing, isFailure('SOURCE_MISSING', false));
      const changed = images.import(requestOf({ ...source, sha256: '0'.repeat(64) }, 'copy'));
      await assert.rejects(changed, isFailure('SOURCE_CORRUPT', false));
      assert.deepEqual(await images.list(), []);
      await images.remove('copy');
    });

    it('does nothing once it has been told to stop', async (t) => {
      const { images, source } = await open(t);
      const stopped = { ...requestOf(source, 'copy'), signal: AbortSignal.abort(new Error('the lease is lost')) };
      await assert.rejects(images.import(stopped), /the lease is lost/);
      assert.deepEqual(await images.list(), []);
      assert.equal(await images.open('copy'), undefined);
    });
  });
}

// Most of the time goes into qemu-img's setting up of a key, on one core each.
describe('the directory', { concurrency: 3 }, () => {
  describe('the encrypted copy', { concurrency: 1 }, () => {
    let directory = '';
    let images: ImageDirectory;
    let source: MachineImageFile & { id: string };
    let stored: StoredImage;
    let keys: Keys;
    let passphrase = '';
    const percents: number[] = [];

    before(async () => {
      ({ directory, images, source } = await withMachineImage(join(fixtures, 'copy'), hastyClock()));
      const installation = { region: 'us-west-2', accountId: '123456789012', clock: systemClock };
      keys = await openLocalKeys({ directory: join(fixtures, 'keys'), ...installation });
      await keys.generate('copy', undefined);
      const unsealed = await keys.unseal('copy');
      passphrase = unsealed.toString();
      const onProgress = (percent: number) => percents.push(percent);
      stored = await images.import({ ...requestOf(source, 'copy'), passphrase: unsealed, onProgress });
    });

    it('gives back the same disk to whoever has the passphrase', async () => {
      const back = join(fixtures, 'back.raw');
      await decrypt((await images.open('copy'))!, back, passphrase);
      assert.equal(digestOf(back), digestOf(rawDisk));
    });

    it('is noise to everybody else', async () => {
      const bytes = readFileSync((await images.open('copy'))!);
      assert.ok(readFileSync(rawDisk).includes(MARKER));
      assert.ok(!bytes.includes(MARKER.slice(0, 16)));
      assert.ok(!bytes.includes(passphrase));
      assert.ok(!bytes.includes(directory));
      const wrong = decrypt(
        (await images.open('copy'))!,
        join(fixtures, 'wrong.raw'),
        randomBytes(32).toString('base64'),
      );
      await assert.rejects(wrong, /Invalid password/);
    });

    it('is lost with its key, even to a new one of the same id', async () => {
      await keys.destroy('copy');
      await assert.rejects(keys.unseal('copy'), KeyUnavailable);
      await keys.generate('copy', undefined);
      const anew = (await keys.unseal('copy')).toString();
      await assert.rejects(decrypt((await images.open('copy'))!, join(fixtures, 'anew.raw'), anew), /Invalid password/);
    });

    it('is described as it is', async () => {
      const path = (await images.open('copy'))!;
      assert.equal(stored.sha256, digestOf(path));
      assert.equal(stored.sizeBytes, statSync(path).size);
      assert.equal(stored.virtualSizeBytes, 8 * MEBIBYTE);
      const { stdout } = await run('qemu-img', ['info', '--output=json', path]);
      const info = JSON.parse(stdout);
      assert.equal(info.encrypted, true);
      assert.equal(info['format-specific'].data.encrypt.format, 'luks');
      assert.equal(info['backing-filename'], undefined);
    });

    it('keeps the holes of its source', () => {
      assert.ok(stored.sizeBytes < 7 * MEBIBYTE, `${stored.sizeBytes} bytes`);
    });

    it('came about with a progress that only ever grew', () => {
      assert.ok(percents.length > 10);
      assert.equal(percents[0], 0);
      assert.equal(percents.at(-1), 100);
      assert.deepEqual(
        percents,
        percents.toSorted((a, b) => a - b),
      );
      assert.ok(percents.every(Number.isInteger));
    });

    it('and everything beside it is for its owner alone', () => {
      const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
      assert.deepEqual(names.toSorted(), [
        'machine',
        `machine/${source.id}`,
        `machine/${source.id}/disk`,
        'staging',
        'streaming',
        'streaming/copy',
        'streaming/copy/disk.qcow2',
        'streaming/copy/manifest.json',
      ]);
      for (const path of ['', ...names].map((name) => join(directory, name))) {
        const { mode, uid, gid } = statSync(path);
        assert.equal(mode & 0o777, statSync(path).isDirectory() ? 0o700 : 0o600, path);
        assert.deepEqual([uid, gid], [process.getuid!(), process.getgid!()], path);
      }
    });

    it('that is not whole any more is none, and is made again', async () => {
      const path = (await images.open('copy'))!;
      truncateSync(path, 1_000);
      assert.equal(await images.open('copy'), undefined);
      const again = await images.import(requestOf(source, 'copy'));
      assert.equal(again.sha256, digestOf(path));
      writeFileSync(join(path, '..', 'manifest.json'), '{"form');
      assert.equal(await images.open('copy'), undefined);
      await images.remove('copy');
      assert.deepEqual(staged(directory), []);
    });
  });

  describe('an import', () => {
    it('takes every format there is, all at once', async (t) => {
      const directory = temporaryDirectory(t);
      const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: systemClock });
      const one = async (format: DiskFormat): Promise<void> => {
        const file = join(directory, `disk.${format}`);
        await run('qemu-img', ['convert', '-f', 'raw', '-O', format, rawDisk, file]);
        const brought = await images.importMachineImage({ id: `ami-${format}`, file });
        assert.equal(brought.format, format);
        assert.equal(brought.virtualSizeBytes, 8 * MEBIBYTE);
        assert.equal(brought.sha256, digestOf(file));
        await images.import(requestOf({ ...brought, id: `ami-${format}` }, format));
        await decrypt((await images.open(format))!, `${file}.back`, PASSPHRASE);
        assert.equal(digestOf(`${file}.back`), digestOf(rawDisk), format);
      };
      await Promise.all((['qcow2', 'vmdk', 'vhdx', 'vdi'] as const).map(one));
      assert.equal((await images.list()).length, 4);
      assert.deepEqual(staged(directory), []);
    });

    it('run twice at once ends as one', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const [first, second] = await Promise.all([
        images.import(requestOf(source, 'copy')),
        images.import(requestOf(source, 'copy')),
      ]);
      assert.deepEqual(first, second);
      assert.equal(first.sha256, digestOf((await images.open('copy'))!));
      assert.deepEqual(staged(directory), []);
      const { mode, gid } = statSync(join(directory, 'machine', source.id, 'disk'));
      assert.deepEqual([mode & 0o777, gid], [0o600, process.getgid!()]);
    });

    it('stops at once when it is told to, at any point, and leaves nothing', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t), hastyClock());
      for (const percent of [0, 10, 20, 90]) {
        const stop = new AbortController();
        const onProgress = (done: number) => {
          if (done >= percent) stop.abort(new Error(`stopped at ${percent}`));
        };
        const stopped = images.import({ ...requestOf(source, 'copy'), onProgress, signal: stop.signal });
        await assert.rejects(stopped, new RegExp(`stopped at ${percent}`));
        assert.deepEqual(staged(directory), [], `at ${percent}`);
        assert.deepEqual(toolsHolding(directory), [], `at ${percent}`);
        assert.deepEqual(await images.list(), []);
      }
    });

    it('stops at once while its tool runs', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const stop = new AbortController();
      const stopped = assert.rejects(images.import({ ...requestOf(source, 'copy'), signal: stop.signal }), /enough/);
      await until('the tool runs', () => toolsHolding(directory).length > 0);
      stop.abort(new Error('enough'));
      await stopped;
      assert.deepEqual(toolsHolding(directory), []);
      assert.deepEqual(staged(directory), []);
    });

    it('ends with its listener, when that fails', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t), hastyClock());
      const onProgress = (percent: number) => {
        if (percent > 10) throw new Error('the listener failed');
      };
      await assert.rejects(images.import({ ...requestOf(source, 'copy'), onProgress }), /the listener failed/);
      assert.deepEqual(staged(directory), []);
    });

    it('loses to a removal that comes while it runs', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const importing = images.import(requestOf(source, 'copy'));
      const outcome = assert.rejects(importing, isFailure('TOOL_FAILED', true));
      await until('the tool runs', () => toolsHolding(directory).length > 0);
      await images.remove('copy');
      await outcome;
      assert.deepEqual(staged(directory), []);
      assert.deepEqual(await images.list(), []);
    });

    it('may be tried again when somebody killed its tool', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const outcome = assert.rejects(images.import(requestOf(source, 'copy')), isFailure('TOOL_FAILED', true));
      const [tool] = await until('the tool runs', () => orNone(toolsHolding(directory)));
      process.kill(tool!, 'SIGKILL');
      await outcome;
      assert.deepEqual(staged(directory), []);
    });

    it('names no path when its tool is missing or fails', async (t) => {
      const { directory, source } = await withMachineImage(temporaryDirectory(t));
      const cases = [
        { qemuImg: join(directory, 'absent', 'qemu-img'), code: 'TOOL_MISSING', says: /lacks .*qemu-img .*qemu-utils/ },
        { qemuImg: '/bin/false', code: 'TOOL_FAILED', says: /could not be converted/ },
        // Forgets to encrypt: it writes nothing at all.
        { qemuImg: '/bin/true', code: 'TOOL_FAILED', says: /could not be encrypted/ },
      ];
      for (const { qemuImg, code, says } of cases) {
        const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: systemClock, qemuImg });
        await assert.rejects(images.import(requestOf(source, 'copy')), (error: unknown) => {
          assert.ok(error instanceof ImageFailure);
          assert.equal(error.code, code);
          assert.equal(error.retryable, false);
          assert.match(error.message, says);
          assert.ok(!error.message.includes('/'), error.message);
          assert.ok(error.inward);
          return true;
        });
        assert.deepEqual(staged(directory), []);
      }
    });

    it('refuses a source whose bytes or format have changed', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const otherFormat = images.import(requestOf({ ...source, format: 'qcow2' }, 'copy'));
      await assert.rejects(otherFormat, isFailure('SOURCE_CORRUPT', false));
      const disk = join(directory, 'machine', source.id, 'disk');
      const bytes = readFileSync(disk);
      bytes[5 * MEBIBYTE] = bytes[5 * MEBIBYTE]! ^ 1;
      writeFileSync(disk, bytes);
      await assert.rejects(images.import(requestOf(source, 'copy')), isFailure('SOURCE_CORRUPT', false));
      // One that was swapped together with its digest is looked at again before any tool sees it.
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', disk, '1M']);
      const swapped = images.import(requestOf({ ...source, sha256: digestOf(disk), format: 'qcow2' }, 'copy'));
      await assert.rejects(swapped, isFailure('SOURCE_CORRUPT', false));
      rmSync(disk);
      symlinkSync('/etc/passwd', disk);
      await assert.rejects(images.import(requestOf(source, 'copy')), ImageFailure);
      assert.deepEqual(staged(directory), []);
    });

    it('never makes a path of an id', async (t) => {
      const { images, source } = await withMachineImage(temporaryDirectory(t));
      for (const id of ['', '.', '..', '../machine', 'a/b', 'a.b', 'x'.repeat(65)]) {
        await assert.rejects(images.import(requestOf(source, id)), /an id must be/, id);
        await assert.rejects(images.import(requestOf({ ...source, id }, 'copy')), /an id must be/, id);
        await assert.rejects(images.open(id), /an id must be/, id);
        await assert.rejects(images.remove(id), /an id must be/, id);
        await assert.rejects(images.importMachineImage({ id, file: rawDisk }), /an id must be/, id);
        await assert.rejects(images.removeMachineImage(id), /an id must be/, id);
      }
    });
  });

  describe('a tar of a root file system', () => {
    it('is encrypted byte for byte, and the copy remembers what it holds', async (t) => {
      const directory = temporaryDirectory(t);
      const file = join(directory, 'root.tar');
      writeFileSync(file, tarOf([...SYSTEM, { name: 'etc/motd', content: Buffer.alloc(100_000, MARKER) }]));
      const images = openImageDirectory({
        directory: join(directory, 'images'),
        diskReserveBytes: 0,
        clock: systemClock,
      });
      const source = await images.importMachineImage({ id: 'ami-0', file });
      assert.equal(source.format, 'tar');
      assert.equal(source.virtualSizeBytes, statSync(file).size);
      const stored = await images.import(requestOf({ ...source, id: 'ami-0' }, 'copy'));
      assert.equal(stored.content, 'tar');
      assert.deepEqual(await images.import(requestOf({ ...source, id: 'ami-0' }, 'copy')), stored);
      const back = join(directory, 'back.tar');
      await decrypt((await images.open('copy'))!, back, PASSPHRASE);
      assert.equal(digestOf(back), digestOf(file));
      assert.ok(!readFileSync((await images.open('copy'))!).includes(MARKER.slice(0, 16)));
    });

    it('is brought in only where it is wanted, and then not even copied', async (t) => {
      const directory = temporaryDirectory(t);
      const file = join(directory, 'root.tar');
      writeFileSync(file, tarOf(SYSTEM));
      const images = openImageDirectory({
        directory: join(directory, 'images'),
        diskReserveBytes: 0,
        clock: systemClock,
      });
      const admit = ({ format }: { format: DiskFormat }) => {
        throw new Error(`not a ${format}`);
      };
      await assert.rejects(images.importMachineImage({ id: 'ami-0', file, admit }), /not a tar/);
      assert.deepEqual(readdirSync(join(directory, 'images/machine')), []);
      assert.deepEqual(staged(join(directory, 'images')), []);
    });
  });

  describe('a machine image', () => {
    it('is the file that was given, holes and all, even through a symbolic link', async (t) => {
      const directory = temporaryDirectory(t);
      const link = join(directory, 'link.raw');
      symlinkSync(rawDisk, link);
      const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: hastyClock() });
      const percents: number[] = [];
      const brought = await images.importMachineImage({
        id: 'ami-1',
        file: link,
        onProgress: (done) => percents.push(done),
      });
      const disk = join(directory, 'machine', 'ami-1', 'disk');
      const { size } = statSync(rawDisk);
      assert.deepEqual(brought, { format: 'raw', sizeBytes: size, virtualSizeBytes: size, sha256: digestOf(rawDisk) });
      assert.equal(digestOf(disk), digestOf(rawDisk));
      assert.ok(statSync(disk).blocks * 512 < 5 * MEBIBYTE);
      assert.equal(percents.at(-1), 100);
      assert.deepEqual(
        percents,
        percents.toSorted((a, b) => a - b),
      );
      const again = images.importMachineImage({ id: 'ami-1', file: rawDisk });
      await assert.rejects(again, isFailure('ALREADY_EXISTS', false));
      await images.removeMachineImage('ami-1');
      await images.removeMachineImage('ami-1');
      assert.deepEqual(readdirSync(join(directory, 'machine')), []);
      assert.deepEqual(staged(directory), []);
    });

    it('is refused when it is no whole disk of its own, and nothing stays', async (t) => {
      const directory = temporaryDirectory(t);
      const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: systemClock });
      const overlay = join(directory, 'overlay.qcow2');
      await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', rawDisk, '-F', 'raw', overlay]);
      const pipe = join(directory, 'pipe');
      await run('mkfifo', [pipe]);
      const cases = [
        { file: overlay, refusal: isRefusal('BACKING_FILE') },
        { file: rawDisk, nameHint: 'disk.qcow2', refusal: isRefusal('FORMAT_MISMATCH') },
        { file: pipe, refusal: isRefusal('NOT_A_FILE') },
        { file: directory, refusal: isRefusal('NOT_A_FILE') },
        { file: '/dev/zero', refusal: isRefusal('NOT_A_FILE') },
        { file: join(directory, 'absent'), refusal: isFailure('SOURCE_MISSING', false) },
      ];
      for (const { refusal, ...request } of cases) {
        await assert.rejects(images.importMachineImage({ id: 'ami-1', ...request }), refusal, request.file);
        assert.deepEqual(staged(directory), []);
        assert.deepEqual(readdirSync(join(directory, 'machine')), []);
      }
    });

    it('that changes while it is copied is refused, and a copy that is stopped leaves nothing', async (t) => {
      const directory = temporaryDirectory(t);
      const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: hastyClock() });
      const file = join(directory, 'disk.raw');
      const stop = new AbortController();
      const meddlings: readonly [(percent: number) => void, RegExp][] = [
        [() => appendFileSync(file, Buffer.alloc(512)), /grew while it was copied/],
        [(percent) => percent > 50 && truncateSync(file, 5 * MEBIBYTE), /shrank while it was copied/],
        [(percent) => percent > 50 && stop.abort(new Error('enough')), /enough/],
      ];
      for (const [onProgress, says] of meddlings) {
        copyFileSync(rawDisk, file);
        const bringing = images.importMachineImage({ id: 'ami-1', file, onProgress, signal: stop.signal });
        await assert.rejects(bringing, says);
        assert.deepEqual(staged(directory), []);
        assert.deepEqual(readdirSync(join(directory, 'machine')), []);
      }
    });
  });

  describe('a directory that was left in a hurry', () => {
    it('is swept of what is old, and of nothing else', async (t) => {
      const now = Date.now();
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t), { now: () => now });
      const leave = (name: string, ageMs: number): void => {
        const path = join(directory, 'staging', name);
        mkdirSync(path);
        writeFileSync(join(path, 'disk.qcow2'), 'half of it');
        for (const file of [join(path, 'disk.qcow2'), path]) utimesSync(file, now / 1000, (now - ageMs) / 1000);
      };
      leave('old.0123456789abcdef', 7_200_000);
      leave('written-lately.0123456789abcdef', 7_200_000);
      utimesSync(join(directory, 'staging', 'written-lately.0123456789abcdef', 'disk.qcow2'), now / 1000, now / 1000);
      leave('young.0123456789abcdef', 60_000);
      assert.equal(await images.sweep({ olderThanMs: 3_600_000 }), 1);
      assert.deepEqual(staged(directory), ['written-lately.0123456789abcdef', 'young.0123456789abcdef']);
      await images.remove('young');
      await images.remove('written-lately');
      assert.deepEqual(staged(directory), []);
      const stop = new AbortController();
      const stopped = assert.rejects(images.import({ ...requestOf(source, 'copy'), signal: stop.signal }), /enough/);
      await until('it works in staging', () => staged(directory).length === 1);
      assert.equal(await images.sweep({ olderThanMs: -3_600_000 }), 0);
      stop.abort(new Error('enough'));
      await stopped;
    });

    it('comes to the same end wherever the service was killed', async (t) => {
      const { directory, images, source } = await withMachineImage(temporaryDirectory(t));
      const task = importTask(directory, source);
      const deaths = [
        () => dieByItself({ ...task, dieAtPercent: 10 }),
        () => dieByItself({ ...task, dieAtPercent: 20 }),
        () => dieUnderTool(task),
        () => dieByItself({ ...task, dieAtPercent: 100 }),
      ];
      for (const [index, die] of deaths.entries()) {
        await die();
        await until('no tool is left', () => toolsHolding(directory).length === 0, 5_000);
        assert.deepEqual(await images.list(), []);
        assert.equal(await images.open('copy'), undefined);
        // What the last run left, and nothing of those before it.
        assert.equal(staged(directory).length, 1, `death ${index}`);
      }
      const stored = await images.import(requestOf(source, 'copy'));
      const path = (await images.open('copy'))!;
      assert.equal(stored.sha256, digestOf(path));
      await decrypt(path, join(directory, 'back.raw'), PASSPHRASE);
      assert.equal(digestOf(join(directory, 'back.raw')), digestOf(rawDisk));
      assert.deepEqual(staged(directory), []);
      assert.equal(statSync(join(directory, 'machine', source.id, 'disk')).mode & 0o777, 0o600);
    });
  });

  describe('a full disk', () => {
    it('is refused before anything is written', async (t) => {
      const { directory, source } = await withMachineImage(temporaryDirectory(t));
      const images = openImageDirectory({ directory, diskReserveBytes: 2 ** 52, clock: systemClock });
      await assert.rejects(images.import(requestOf(source, 'copy')), isFailure('NO_SPACE', false));
      await assert.rejects(images.importMachineImage({ id: 'ami-2', file: rawDisk }), isFailure('NO_SPACE', false));
      assert.deepEqual(staged(directory), []);
    });

    it('ends the copying of a machine image', async (t) => {
      const task = { task: 'import-machine', directory: temporaryDirectory(t), id: 'ami-1', file: rawDisk } as const;
      const tooSmall = await runOnDisk(2, task);
      assert.match(tooSmall.failure!.inward, /it takes \d+ bytes and \d+ may be used/);
      const filledUp = await runOnDisk(6, { ...task, fillAtPercent: 1 });
      assert.match(filledUp.failure!.inward, /ENOSPC|bytes are free/);
      for (const { failure, leftovers } of [tooSmall, filledUp]) {
        assert.equal(failure!.code, 'NO_SPACE');
        assert.deepEqual(leftovers, []);
      }
      assert.deepEqual(await runOnDisk(6, task), { leftovers: [] });
    });

    it('ends a conversion', async (t) => {
      const { directory, source } = await withMachineImage(temporaryDirectory(t));
      const task = importTask(temporaryDirectory(t), source);
      const machine = join(directory, 'machine');
      const tooSmall = await runOnDisk(3, task, machine);
      const filledUp = await runOnDisk(12, { ...task, fillUnderTool: true }, machine);
      for (const { failure, leftovers } of [tooSmall, filledUp]) {
        assert.equal(failure!.code, 'NO_SPACE');
        assert.deepEqual(leftovers, []);
      }
    });
  });
});

function isFailure(code: string, retryable: boolean): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ImageFailure, String(error));
    assert.deepEqual([error.code, error.retryable], [code, retryable], `${error.message} ${error.inward}`);
    assert.ok(!error.message.includes('/'), error.message);
    return true;
  };
}

function isRefusal(code: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof DiskRefused, String(error));
    assert.equal(error.code, code);
    return true;
  };
}

/** Every look at it is a second later, so that no progress goes untold. */
function hastyClock(): Clock {
  let now = 0;
  return { now: () => (now += 1_000) };
}

async function withMachineImage(
  directory: string,
  clock: Clock = systemClock,
): Promise<{ directory: string; images: ImageDirectory; source: MachineImageFile & { id: string } }> {
  const images = openImageDirectory({ directory, diskReserveBytes: 0, clock });
  const id = 'ami-0123456789abcdef0';
  return { directory, images, source: { ...(await images.importMachineImage({ id, file: rawDisk })), id } };
}

function importTask(directory: string, { id, sha256, format }: Source): ImportTask {
  return { task: 'import', directory, id: 'copy', source: id, sha256, format, passphrase: PASSPHRASE };
}

function staged(directory: string): string[] {
  return readdirSync(join(directory, 'staging')).toSorted();
}

function digestOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

function orNone<T>(found: T[]): T[] | undefined {
  return found.length > 0 ? found : undefined;
}

/** As anybody with the passphrase could: by qemu-img alone. */
async function decrypt(path: string, to: string, passphrase: string): Promise<void> {
  const secret = `${to}.secret`;
  writeFileSync(secret, passphrase, { mode: 0o600 });
  const source = `driver=qcow2,encrypt.format=luks,encrypt.key-secret=k,file.driver=file,file.filename=${path}`;
  const object = `secret,id=k,file=${secret}`;
  await run('qemu-img', ['convert', '--object', object, '--image-opts', '-O', 'raw', source, to]);
}

function startChild(task: ChildTask) {
  return spawn(process.execPath, [CHILD, JSON.stringify(task)], { stdio: 'inherit' });
}

async function dieByItself(task: ImportTask): Promise<void> {
  assert.deepEqual(await once(startChild(task), 'exit'), [null, 'SIGKILL']);
}

/** The tool is held still, so that it cannot have ended for any reason but its parent's death. */
async function dieUnderTool(task: ImportTask): Promise<void> {
  const child = startChild(task);
  const exited = once(child, 'exit');
  const [tool] = await until('the tool runs', () => orNone(toolsOf(child.pid!)));
  process.kill(tool!, 'SIGSTOP');
  child.kill('SIGKILL');
  await exited;
}

/**
 * Runs the child with a disk in memory of that many MiB, which only it sees and which goes with it. The machine images
 * may lie elsewhere.
 */
async function runOnDisk(
  mebibytes: number,
  task: ImportTask | MachineImportTask,
  machine = '',
): Promise<ImportOutcome> {
  const script =
    'mount -t tmpfs -o "size=$1m,mode=0700" tmpfs "$2" && { test -z "$3" || ln -s "$3" "$2/machine"; } && shift 3 && exec "$@"';
  const asRoot = process.getuid!() === 0 ? [] : ['--map-root-user'];
  const command = [process.execPath, CHILD, JSON.stringify(task)];
  const shell = ['sh', '-c', script, 'sh', String(mebibytes), task.directory, machine, ...command];
  const { stdout } = await run('unshare', [...asRoot, '--mount', ...shell]);
  return JSON.parse(stdout);
}
