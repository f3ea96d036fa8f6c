/**
 * Directories that somebody else has filled: made for the user who will, and removed whatever became of them. Links in
 * them are never followed, and nobody may be at work in one that is removed.
 */
import { chmod, chown, lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isSystemError, syncDirectory } from '../files.ts';
import type { WorkstationUser } from '../images/confined.ts';

const OWNER_MODE = 0o700;

/** A new directory for whom it is given to; the server's own where that is nobody. */
export async function giveDirectory(path: string, mode: number, user: WorkstationUser | undefined): Promise<void> {
  await mkdir(path, { mode: OWNER_MODE });
  // Apart from making it, where the server's own mask would count.
  await chmod(path, mode);
  if (user) await chown(path, user.user, user.group);
}

/** No error when there is none. */
export async function removeTree(path: string): Promise<void> {
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    // Directories that their owner has closed to itself, for a server that is not root.
    if (!isSystemError(error, 'EACCES', 'EPERM')) throw error;
    await openTree(path);
    await rm(path, { recursive: true, force: true });
  }
}

/** Removes one that nobody may be filling any more: that was last changed before this time. No error when there is none. */
export async function removeLeftTree(path: string, before: number): Promise<void> {
  const status = await lstat(path).catch(() => undefined);
  if (status !== undefined && status.ctimeMs < before) await removeTree(path);
}

/** Puts what it holds on the disk. What the server may not read is left to the system, which does so within a minute. */
export async function syncTree(path: string): Promise<void> {
  for (const entry of await readdir(path, { withFileTypes: true })) {
    const below = join(path, entry.name);
    if (entry.isDirectory()) await unlessClosed(syncTree(below));
    else if (entry.isFile()) await unlessClosed(syncDirectory(below));
  }
  await syncDirectory(path);
}

async function unlessClosed(work: Promise<void>): Promise<void> {
  await work.catch((error) => {
    if (!isSystemError(error, 'EACCES', 'EPERM')) throw error;
  });
}

async function openTree(path: string): Promise<void> {
  await chmod(path, OWNER_MODE);
  for (const name of await readdir(path)) {
    const below = join(path, name);
    if ((await lstat(below)).isDirectory()) await openTree(below);
  }
}
