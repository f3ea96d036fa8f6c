/** Disks that the tests bring in, made by the real qemu-img, and what can be found of them in the copies. */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../../src/clock.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import type { Installation } from './installation.ts';

const run = promisify(execFile);

export const MEBIBYTE = 2 ** 20;

/** Stands on every disk that is made here; an encrypted copy must not hold it. */
export const MARKER = 'a sentence that an encrypted copy must not hold. ';

export const FORMATS = ['raw', 'qcow2', 'vmdk', 'vhdx', 'vdi'] as const;

export interface DiskOptions {
  readonly format?: (typeof FORMATS)[number];
  /** As a guest sees it. */
  readonly mebibytes?: number;
  /** How much of that is noise, which no tool can make quick work of; the rest but a little text is holes. */
  readonly noiseMebibytes?: number;
}

/** Makes a disk of this name in the directory: recognisable text, noise, a hole, and text at the very end. */
export async function makeDisk(
  directory: string,
  name: string,
  { format = 'raw', mebibytes = 4, noiseMebibytes = 1 }: DiskOptions = {},
): Promise<string> {
  const path = join(directory, name);
  const raw = format === 'raw' ? path : `${path}.source`;
  const descriptor = openSync(raw, 'w');
  const text = Buffer.alloc(64 * 1024, MARKER);
  // Not in the first sector, which could then be taken for a partition table.
  writeSync(descriptor, text, 0, text.length, 512);
  for (let index = 0; index < noiseMebibytes; index += 1) {
    writeSync(descriptor, randomBytes(MEBIBYTE), 0, MEBIBYTE, (index + 1) * MEBIBYTE);
  }
  writeSync(descriptor, text, 0, text.length, mebibytes * MEBIBYTE - text.length);
  ftruncateSync(descriptor, mebibytes * MEBIBYTE);
  closeSync(descriptor);
  if (format === 'raw') return path;
  await run('qemu-img', ['convert', '-f', 'raw', '-O', format, raw, path]);
  await rm(raw);
  return path;
}

/**
 * Whether the encrypted copy of an image holds just what the disk holds, by qemu-img's own word. The passphrase is read
 * from the key directory as the server would; `place` is the data directory as this process sees it.
 */
export async function holdsSameBytes(
  { directory }: Pick<Installation, 'directory'>,
  place: string,
  streamingImageId: string,
  disk: { readonly path: string; readonly format: string },
): Promise<boolean> {
  const options = { directory: join(place, 'keys'), region: 'us-west-2', accountId: '000000000000' };
  const keys = await openLocalKeys({ ...options, clock: systemClock });
  const secret = join(directory, `passphrase-${streamingImageId}`);
  writeFileSync(secret, await keys.unseal(streamingImageId), { mode: 0o600 });
  const copy = join(place, 'images/streaming', streamingImageId, 'disk.qcow2');
  const open = `driver=qcow2,encrypt.format=luks,encrypt.key-secret=passphrase,file.filename=${copy}`;
  const words = ['compare', '--object', `secret,id=passphrase,file=${secret}`, '--image-opts', open];
  try {
    await run('qemu-img', [...words, `driver=${disk.format},file.filename=${disk.path}`]);
    return true;
  } catch (error) {
    // 1 means that they differ; anything else, that they could not be compared.
    if ((error as { code?: unknown }).code === 1) return false;
    throw error;
  } finally {
    await rm(secret);
  }
}
