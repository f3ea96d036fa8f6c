/**
 * The inspector against tar archives: those that the real tar writes of root file systems are taken whole, those that reach
 * outside, are cut short or say two things at once are refused. Whatever is accepted, the real tar must unpack without
 * touching anything beside the directory that it was told.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, describe, it } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { type DiskFormat, DiskRefused, type DiskRefusedCode, inspectDisk } from '../../src/images/inspect.ts';
import { paxPart, SYSTEM, type TarPart, tarOf, tarPart } from '../support/tar.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const run = promisify(execFile);
const SEED = Number(process.env.BACKLOT_SEED ?? 20_200_801);
const BLOCK = 512;

const directory = temporaryDirectory({ after });
let written = 0;

async function file(bytes: Buffer): Promise<string> {
  written += 1;
  const path = join(directory, `${written}.bin`);
  await writeFile(path, bytes);
  return path;
}

async function verdictOf(path: string, nameHint?: string): Promise<DiskFormat | DiskRefusedCode> {
  const handle = await open(path, 'r');
  try {
    const { format, fileBytes, virtualBytes } = await inspectDisk(handle, nameHint === undefined ? {} : { nameHint });
    assert.equal(virtualBytes, fileBytes);
    return format;
  } catch (error) {
    assert.ok(error instanceof DiskRefused, `not a refusal: ${error}`);
    assert.match(error.message, /^[A-Z].{20,220}\.$/, 'a sentence for a person');
    return error.code;
  } finally {
    await handle.close();
  }
}

async function verdict(...parts: (TarPart | Buffer)[]): Promise<DiskFormat | DiskRefusedCode> {
  const path = await file(tarOf([...SYSTEM, ...parts]));
  try {
    return await verdictOf(path);
  } finally {
    await rm(path);
  }
}

/** What a system has that is hard on a reader of archives. */
function makeRoot(): string {
  const root = join(directory, 'root');
  for (const name of ['etc/alternatives', 'usr/bin', 'usr/share/empty', `deep/${'long-name-'.repeat(20)}/inside`])
    mkdirSync(join(root, name), { recursive: true });
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n');
  writeFileSync(join(root, 'usr/bin/mawk'), randomBytes(3 * BLOCK));
  writeFileSync(join(root, 'usr/bin/none'), '');
  writeFileSync(join(root, `deep/${'long-name-'.repeat(20)}/inside/ünïcode`), randomBytes(BLOCK + 1));
  linkSync(join(root, 'usr/bin/mawk'), join(root, 'usr/bin/mawk-again'));
  symlinkSync('usr/bin', join(root, 'bin'));
  symlinkSync('/usr/bin/mawk', join(root, 'etc/alternatives/awk'));
  symlinkSync('../../usr/bin/mawk', join(root, 'etc/alternatives/up'));
  symlinkSync(`/${'far/'.repeat(60)}`, join(root, 'etc/long-link'));
  return root;
}

describe('archives of the real tar', () => {
  const root = makeRoot();

  for (const format of ['ustar', 'pax', 'gnu', 'posix']) {
    it(`a root file system as ${format}`, async () => {
      const path = join(directory, `${format}.tar`);
      const excluded = format === 'ustar' ? ['--exclude=long-link', '--exclude=deep'] : [];
      await run('tar', [`--format=${format}`, ...excluded, '-C', root, '-cf', path, '.']);
      assert.equal(await verdictOf(path, 'root.tar'), 'tar');
      assert.equal(await verdictOf(path, 'root.img'), 'tar');
      assert.equal(await verdictOf(path, 'root.qcow2'), 'FORMAT_MISMATCH');
    });
  }

  it('named without a dot, as some do', async () => {
    const path = join(directory, 'plain.tar');
    await run('tar', ['-C', root, '-cf', path, ...readdirSync(root)]);
    assert.equal(await verdictOf(path), 'tar');
  });

  it('cut short anywhere, it is refused', async () => {
    const path = join(directory, 'whole.tar');
    await run('tar', ['--format=pax', '-b', '1', '-C', root, '-cf', path, '.']);
    const whole = readFileSync(path);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: BLOCK, max: whole.length - BLOCK }), async (bytes) => {
        const blocks = Math.floor(bytes / BLOCK) * BLOCK;
        for (const length of [bytes, blocks]) {
          const cut = await file(whole.subarray(0, length));
          const found = await verdictOf(cut);
          await rm(cut);
          assert.ok(['TRUNCATED', 'CORRUPT_HEADER'].includes(found), `${length} of ${whole.length} bytes: ${found}`);
        }
      }),
      { seed: SEED, numRuns: 60 },
    );
  });

  it('changed anywhere in its headers, it is refused or still a tar, and never an accident', async () => {
    const whole = tarOf([...SYSTEM, paxPart({ path: 'a/b' }), { name: 'x', content: randomBytes(700) }]);
    await fc.assert(
      fc.asyncProperty(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const changed = Buffer.from(whole);
        changed[at]! ^= flip;
        const path = await file(changed);
        await verdictOf(path);
        await rm(path);
      }),
      { seed: SEED, numRuns: 300 },
    );
  });
});

describe('archives that reach outside', () => {
  const outside: readonly (readonly [string, DiskRefusedCode, ...(TarPart | Buffer)[]])[] = [
    ['an absolute name', 'EXTERNAL_REFERENCE', { name: '/etc/cron.d/job' }],
    ['a name that climbs', 'EXTERNAL_REFERENCE', { name: '../job' }],
    ['a name that climbs later', 'EXTERNAL_REFERENCE', { name: 'usr/../../job' }],
    ['a name that climbs and comes back', 'EXTERNAL_REFERENCE', { name: 'usr/../etc/job' }],
    ['a pax name that climbs', 'EXTERNAL_REFERENCE', paxPart({ path: '../../job' }), { name: 'harmless' }],
    [
      'a long name of GNU that climbs',
      'EXTERNAL_REFERENCE',
      { name: '././@LongLink', type: 'L', content: Buffer.from('../../job\0') },
      { name: 'harmless' },
    ],
    ['a prefix that is absolute', 'EXTERNAL_REFERENCE', { name: 'job', change: (header) => header.write('/etc', 345) }],
    ['a hard link to outside', 'EXTERNAL_REFERENCE', { name: 'shadow', type: '1', linkName: '../../etc/shadow' }],
    ['a hard link to an absolute name', 'EXTERNAL_REFERENCE', { name: 'shadow', type: '1', linkName: '/etc/shadow' }],
    [
      'a long hard link of GNU to outside',
      'EXTERNAL_REFERENCE',
      { name: '././@LongLink', type: 'K', content: Buffer.from('/etc/shadow\0') },
      { name: 'shadow', type: '1', linkName: 'harmless' },
    ],
    ['a symbolic link that climbs above the root', 'EXTERNAL_REFERENCE', { name: 'up', type: '2', linkName: '../etc' }],
    ['a root that is a link', 'EXTERNAL_REFERENCE', { name: './', type: '2', linkName: '/' }],
    [
      'a file behind a symbolic link',
      'CORRUPT_HEADER',
      { name: 'way', type: '2', linkName: '/etc' },
      { name: 'way/passwd' },
    ],
    [
      'a file in place of a symbolic link',
      'CORRUPT_HEADER',
      { name: 'way', type: '2', linkName: '/etc/passwd' },
      { name: './way' },
    ],
    [
      'a hard link to what is behind a symbolic link',
      'CORRUPT_HEADER',
      { name: 'way', type: '2', linkName: '/etc' },
      { name: 'shadow', type: '1', linkName: 'way/shadow' },
    ],
    ['a device', 'UNSUPPORTED_FEATURE', { name: 'disk', type: '4' }],
    ['a device that only begins like /dev', 'UNSUPPORTED_FEATURE', { name: 'device', type: '3' }],
  ];
  for (const [name, code, ...parts] of outside) {
    it(name, async () => assert.equal(await verdict(...parts), code));
  }

  it('what a system has is taken: devices in /dev, pipes, links within', async () => {
    const parts: TarPart[] = [
      { name: './dev/null', type: '3' },
      { name: './dev/vda', type: '4' },
      { name: './run/pipe', type: '6' },
      { name: './bin', type: '2', linkName: 'usr/bin' },
      { name: './usr/mtab', type: '2', linkName: '../proc/mounts' },
      { name: './usr/program', content: randomBytes(10) },
      { name: './usr/again', type: '1', linkName: './usr/program' },
      { name: './usr/old', type: '\0' },
    ];
    assert.equal(await verdict(...parts), 'tar');
  });
});

describe('archives that are not whole, or not what they should be', () => {
  const huge = (bytes: number[]) => Buffer.from([...bytes, ...Buffer.alloc(12 - bytes.length)]);
  const cases: readonly (readonly [string, DiskRefusedCode, ...(TarPart | Buffer)[]])[] = [
    ['a wrong sum', 'CORRUPT_HEADER', { name: 'x', wrongSum: true }],
    ['a length that is no number', 'CORRUPT_HEADER', { name: 'x', sizeField: Buffer.from('12 45678901\0') }],
    ['a length beyond the end', 'TRUNCATED', { name: 'x', sizeField: Buffer.from('77777777777\0') }],
    ['a negative length', 'CORRUPT_HEADER', { name: 'x', sizeField: Buffer.alloc(12, 0xff) }],
    [
      'a binary length beyond any file',
      'CORRUPT_HEADER',
      { name: 'x', sizeField: huge([0x80, 0xff, 0xff, 0xff, 0xff]) },
    ],
    ['a pax length beyond the end', 'TRUNCATED', paxPart({ size: '999999999' }), { name: 'x' }],
    ['a pax length that is no number', 'CORRUPT_HEADER', paxPart({ size: '-1' }), { name: 'x' }],
    ['a directory with a length', 'CORRUPT_HEADER', { name: 'x', type: '5', content: Buffer.alloc(BLOCK) }],
    ['a pax name for all', 'CORRUPT_HEADER', paxPart({ path: 'x' }, 'g'), { name: 'y' }],
    [
      'pax records that lie about their length',
      'CORRUPT_HEADER',
      { name: 'p', type: 'x', content: Buffer.from('99 path=x\n') },
    ],
    ['pax records without a length', 'CORRUPT_HEADER', { name: 'p', type: 'x', content: Buffer.from('path=x\n') }],
    ['an extended header of two MiB', 'CORRUPT_HEADER', { name: 'p', type: 'x', content: Buffer.alloc(2 ** 21, 'x') }],
    ['an extended header that belongs to nothing', 'CORRUPT_HEADER', paxPart({ path: 'x' })],
    ['too many extended headers', 'CORRUPT_HEADER', ...Array<Buffer>(9).fill(paxPart({ path: 'x' })), { name: 'y' }],
    ['no name', 'CORRUPT_HEADER', { name: '' }],
    ['a name longer than any', 'CORRUPT_HEADER', paxPart({ path: 'x'.repeat(5_000) }), { name: 'y' }],
    ['a sparse file of GNU', 'UNSUPPORTED_FEATURE', { name: 'x', type: 'S' }],
    ['a sparse file of pax', 'UNSUPPORTED_FEATURE', paxPart({ 'GNU.sparse.major': '1' }), { name: 'x' }],
    ['an empty block in between', 'CORRUPT_HEADER', Buffer.alloc(BLOCK), { name: 'x' }],
    ['something behind the end', 'CORRUPT_HEADER', Buffer.alloc(2 * BLOCK), { name: 'x' }],
    ['something that is no header', 'CORRUPT_HEADER', Buffer.alloc(BLOCK, 'x')],
    ['a disk image in an archive (OVA)', 'UNSUPPORTED_FORMAT', { name: 'machine.ovf' }],
  ];
  for (const [name, code, ...parts] of cases) {
    it(name, async () => assert.equal(await verdict(...parts), code));
  }

  it('an end that is missing, or only half of one', async () => {
    const parts = Buffer.concat(SYSTEM.map(tarPart));
    assert.equal(await verdictOf(await file(parts)), 'TRUNCATED');
    assert.equal(await verdictOf(await file(Buffer.concat([parts, Buffer.alloc(BLOCK)]))), 'TRUNCATED');
    assert.equal(await verdictOf(await file(Buffer.concat([parts, Buffer.alloc(40 * BLOCK)]))), 'tar');
  });

  it('an archive of anything but a root file system', async () => {
    const disk = { name: 'disk.img', content: Buffer.alloc(BLOCK) };
    assert.equal(await verdictOf(await file(tarOf([disk]))), 'UNSUPPORTED_FORMAT');
    assert.equal(await verdictOf(await file(tarOf([{ name: 'etc/', type: '5' }]))), 'UNSUPPORTED_FORMAT');
  });

  it('two formats at once', async () => {
    const name = 'QFI\xfb\x00\x00\x00\x03';
    const bytes = tarOf([{ name, change: (header) => header.write(name, 0, 'latin1') }, ...SYSTEM]);
    assert.equal(await verdictOf(await file(bytes)), 'AMBIGUOUS_FORMAT');
  });
});

/** Names and targets drawn from few words, so that entries meet, replace and point at one another. */
const WORD = fc.constantFrom('a', 'b', 'etc', '..', '.', '', 'c');
const PATH = fc.array(WORD, { minLength: 1, maxLength: 4 }).map((words) => words.join('/'));
const PART: fc.Arbitrary<TarPart> = fc.record({
  name: PATH,
  type: fc.constantFrom('0', '1', '2', '2', '5', '6'),
  linkName: PATH,
});

describe('whatever is accepted', () => {
  it(`the real tar unpacks without touching anything outside (BACKLOT_SEED=${SEED})`, async () => {
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(PART, { minLength: 1, maxLength: 6 }), async (parts) => {
        const path = await file(tarOf([...SYSTEM, ...parts]));
        try {
          if ((await verdictOf(path)) !== 'tar') return;
          accepted += 1;
          const place = join(directory, `unpacked-${written}`);
          const inside = join(place, 'one/two/inside');
          mkdirSync(inside, { recursive: true });
          // It fails at entries that cannot be (a directory's name given to a file); what it does all the same counts.
          await run('tar', ['-xPf', path, '-C', inside]).catch(() => undefined);
          assert.deepEqual(readdirSync(place), ['one']);
          assert.deepEqual(readdirSync(join(place, 'one')), ['two']);
          assert.deepEqual(readdirSync(join(place, 'one/two')), ['inside']);
          assert.ok(lstatSync(inside).isDirectory());
          for (const name of ['/a', '/b', '/c']) assert.ok(!existsSync(name));
          await rm(place, { recursive: true });
        } finally {
          await rm(path);
        }
      }),
      { seed: SEED, numRuns: 300 },
    );
    assert.ok(accepted > 30, `only ${accepted} archives were accepted`);
  });
});
