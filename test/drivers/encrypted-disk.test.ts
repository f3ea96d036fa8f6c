/**
 * The encrypted disks that are made here, as QEMU's own tools find them: whole, of the size that was asked for, and opened
 * by their passphrase and by nothing else.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { createFile, withFile } from '../../src/files.ts';
import { encryptedDiskBytes, formatEncryptedDisk } from '../../src/images/encrypted-disk.ts';
import { newLuksHeader } from '../../src/images/luks.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const run = promisify(execFile);
const MEBIBYTE = 2 ** 20;
const TEBIBYTE = 2 ** 40;
/** What one entry of the first table stands for: sizes at its borders are where a table may be too short. */
const ENTRY_BYTES = 512 * MEBIBYTE;
const SIZES = [
  512,
  65_536 + 512,
  ENTRY_BYTES - 512,
  ENTRY_BYTES,
  ENTRY_BYTES + 512,
  8_192 * ENTRY_BYTES,
  8_192 * ENTRY_BYTES + 512,
  64 * TEBIBYTE,
];

interface Disk {
  readonly path: string;
  readonly keyFile: string;
}

async function makeDisk(directory: string, name: string, virtualBytes: number): Promise<Disk> {
  const path = join(directory, name);
  const passphrase = randomBytes(32).toString('base64');
  await withFile(createFile(path), (file) => formatEncryptedDisk(file, virtualBytes, Buffer.from(passphrase)));
  const keyFile = `${path}.key`;
  writeFileSync(keyFile, passphrase, { mode: 0o600 });
  return { path, keyFile };
}

const secretOf = (id: string, { keyFile }: Disk) => ['--object', `secret,id=${id},file=${keyFile}`];
const optionsOf = (id: string, { path }: Disk) => `driver=qcow2,file.filename=${path},encrypt.key-secret=${id}`;

const openRead = ({ path }: Pick<Disk, 'path'>) => open(path, 'r');

const check = (disk: Disk) => run('qemu-img', ['check', ...secretOf('s', disk), '--image-opts', optionsOf('s', disk)]);

/** Has QEMU read and write in the disk. It fails where a pattern is not what it finds. */
function use(disk: Disk, commands: readonly string[], options = optionsOf('s', disk), more: readonly string[] = []) {
  const words = commands.flatMap((command) => ['-c', command]);
  return run('qemu-io', [...secretOf('s', disk), ...more, '--image-opts', options, ...words]);
}

test('a new disk of any size is whole, empty and AES-256 all through, by the word of qemu-img', async (t) => {
  const directory = temporaryDirectory(t);
  for (const bytes of SIZES) {
    const disk = await makeDisk(directory, String(bytes), bytes);
    const { stdout } = await run('qemu-img', ['info', '--output=json', disk.path]);
    const info = JSON.parse(stdout);
    assert.equal(info['virtual-size'], bytes);
    assert.equal(info.encrypted, true);
    assert.equal(info['backing-filename'], undefined);
    const { encrypt } = info['format-specific'].data;
    assert.equal(encrypt.format, 'luks');
    assert.equal(encrypt['cipher-alg'], 'aes-256');
    assert.equal(encrypt['cipher-mode'], 'xts');
    assert.equal(encrypt['ivgen-alg'], 'plain64');
    assert.equal(encrypt['hash-alg'], 'sha256');
    assert.deepEqual(
      encrypt.slots.map(({ active }: { active: boolean }) => active),
      [true, ...Array.from({ length: 7 }, () => false)],
    );
    await check(disk);
    assert.ok(statSync(disk.path).blocks * 512 < 4 * MEBIBYTE, 'a new disk takes next to no room');
    const end = bytes - 512;
    await use(disk, ['read -P 0 0 512', `read -P 0 ${end} 512`, `write -P 7 ${end} 512`, `read -P 7 ${end} 512`]);
    await check(disk);
    assert.equal(await withFile(openRead(disk), encryptedDiskBytes), bytes);
  }
});

test('a disk is whole also where the system takes a write piece by piece', async (t) => {
  const path = join(temporaryDirectory(t), 'disk');
  const passphrase = randomBytes(32).toString('base64');
  writeFileSync(`${path}.key`, passphrase, { mode: 0o600 });
  await withFile(createFile(path), (file) => {
    const taken = (length: number) => Math.min(length, 10_000);
    const slow = {
      write: (bytes: Buffer, offset: number, length: number, position: number) =>
        file.write(bytes, offset, taken(length), position),
      truncate: (bytes: number) => file.truncate(bytes),
    };
    return formatEncryptedDisk(slow as FileHandle, 64 * MEBIBYTE, Buffer.from(passphrase));
  });
  const disk = { path, keyFile: `${path}.key` };
  await use(disk, ['write -P 7 0 1M', 'read -P 7 0 1M']);
  await check(disk);
});

test('what is written is there for whoever has the passphrase, and noise for everybody else', async (t) => {
  const directory = temporaryDirectory(t);
  const disk = await makeDisk(directory, 'disk', 64 * MEBIBYTE);
  const other = await makeDisk(directory, 'other', 64 * MEBIBYTE);
  await use(disk, ['write -P 0x61 1M 4M']);
  await use(disk, ['read -P 0x61 1M 4M', 'read -P 0 5M 1M', 'read -P 0 0 1M']);
  assert.equal(readFileSync(disk.path).includes('aaaaaaaa'), false);
  await assert.rejects(use({ ...disk, keyFile: other.keyFile }, ['read 0 512']), /Invalid password/);
});

test('one disk lies on another, each under its own key, as a volume lies on an image', async (t) => {
  const directory = temporaryDirectory(t);
  const image = await makeDisk(directory, 'image', 64 * MEBIBYTE);
  const volume = await makeDisk(directory, 'volume', 128 * MEBIBYTE);
  await use(image, ['write -P 1 0 8M']);
  const below = optionsOf('i', image).replaceAll(/(^|,)/g, '$1backing.');
  const both = `${optionsOf('s', volume)},${below}`;
  const imageSecret = secretOf('i', image);
  await use(volume, ['read -P 1 0 8M', 'write -P 2 4M 4M', 'read -P 1 0 4M', 'read -P 2 4M 4M'], both, imageSecret);
  await use(volume, ['read -P 1 0 4M', 'read -P 2 4M 4M', 'read -P 0 64M 1M'], both, imageSecret);
  await use(image, ['read -P 1 0 8M']);
});

test('a header holds neither its passphrase nor anything of another of the same passphrase', async () => {
  const passphrase = Buffer.from(randomBytes(32).toString('base64'));
  const [one, other] = [await newLuksHeader(passphrase), await newLuksHeader(passphrase)];
  assert.equal(one.includes(passphrase), false);
  const KEY_AT = 4_096;
  const blocks = new Set<string>();
  for (const header of [one, other]) {
    for (let at = KEY_AT; at < header.length; at += 16) blocks.add(header.toString('latin1', at, at + 16));
  }
  assert.equal(blocks.size, (2 * (one.length - KEY_AT)) / 16);
  assert.notDeepEqual(one.subarray(112, 132), other.subarray(112, 132));
});

test('the event loop has its turns while a header is made', async () => {
  let turns = 0;
  let made = false;
  const count = () => {
    turns += 1;
    if (!made) setImmediate(count);
  };
  setImmediate(count);
  await newLuksHeader(Buffer.from(randomBytes(32).toString('base64')));
  made = true;
  assert.ok(turns >= 16, `${turns} turns`);
});

test('there is no disk of a size that none can have, and nothing is written of one', async (t) => {
  const path = join(temporaryDirectory(t), 'disk');
  await withFile(createFile(path), async (file) => {
    for (const bytes of [0, -512, 1, 1_000_001, 64 * TEBIBYTE + 512, Number.NaN]) {
      await assert.rejects(formatEncryptedDisk(file, bytes, randomBytes(32)), RangeError, String(bytes));
    }
  });
  assert.equal(statSync(path).size, 0);
});

test('what is no whole encrypted disk of its own is told from one that is', async (t) => {
  const directory = temporaryDirectory(t);
  const { path } = await makeDisk(directory, 'disk', 64 * MEBIBYTE);
  const sound = readFileSync(path);
  const changed = (at: number, bytes: readonly number[]) => {
    const copy = Buffer.from(sound);
    copy.set(bytes, at);
    return copy;
  };
  const BROKEN = {
    empty: Buffer.alloc(0),
    'cut off within its header': sound.subarray(0, 103),
    'of an older version': changed(7, [2]),
    'of half a sector': changed(31, [1]),
    'of another magic': changed(0, [0]),
    'with a name of a disk below it': changed(15, [1]),
    'without encryption': changed(35, [0]),
    'of another encryption': changed(35, [1]),
    'not closed properly': changed(79, [1]),
    'of no size': changed(24, [0, 0, 0, 0, 0, 0, 0, 0]),
    'of an absurd size': changed(24, [0x7f]),
  };
  for (const [name, bytes] of Object.entries(BROKEN)) {
    writeFileSync(join(directory, 'broken'), bytes);
    const found = await withFile(openRead({ path: join(directory, 'broken') }), encryptedDiskBytes);
    assert.equal(found, undefined, name);
  }
});
