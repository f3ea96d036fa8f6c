/** Homes of sandboxed workstations by themselves: no display, no root file system, only the host's tar in its sandbox. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { openHomes, ownerOf } from '../../src/compute/sandbox.ts';
import { withFile } from '../../src/files.ts';
import { SimulatedKeys } from '../support/simulated.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const NEVER = new AbortController().signal;

/** A file on a disk that takes half of what it is given at once, and says so. */
function slowly(file: FileHandle): FileHandle {
  const write = (bytes: Buffer, offset = 0, length = bytes.length - offset, position: number | null = null) =>
    file.write(bytes, offset, Math.ceil(length / 2), position);
  return { write } as unknown as FileHandle;
}

test('a home is packed whole where the system takes less at once than it is given', async (t) => {
  const directory = temporaryDirectory(t);
  const keys = new SimulatedKeys();
  await keys.generate('one', undefined);
  const homes = await openHomes({ directory, keys });
  const owner = ownerOf('one');
  const home = await homes.make(owner);
  const picture = randomBytes(300_000);
  writeFileSync(join(homes.pathOf(home), 'picture'), picture, { mode: 0o644 });
  const packed = join(directory, 'packing');
  await withFile(open(packed, 'wx', 0o600), (file) => homes.pack(owner, home, slowly(file), NEVER));
  await homes.remove(home);
  renameSync(packed, join(directory, 'packed', home));
  await homes.unpack(owner, home, NEVER);
  assert.ok(readFileSync(join(homes.pathOf(home), 'picture')).equals(picture));
});
