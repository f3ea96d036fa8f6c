/**
 * Puts a backup into a new data directory: checked whole before the first byte is written, and again as it is copied. The
 * database comes last, and until then a file stands beside the rest that no server starts with: a restore that died half
 * way is never taken for an installation.
 */
import { mkdir, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyHashed, createFile, DIRECTORY_MODE, syncDirectory, withFile, writeDurably } from '../files.ts';
import { requireEmpty } from './make.ts';
import {
  BackupFailed,
  type BackupFile,
  DATABASE,
  type Manifest,
  openOwn,
  verifyBackup,
  type Watch,
} from './manifest.ts';

/** A data directory without a database that holds anything of another name is refused (data-directory.ts). */
const UNFINISHED = 'unfinished-restore';

/** @throws BackupFailed; the signal's reason. */
export async function restoreBackup(backup: string, dataDirectory: string, watch: Watch): Promise<Manifest> {
  await requireEmpty(dataDirectory);
  const manifest = await verifyBackup(backup, watch);
  await mkdir(dataDirectory, { recursive: true, mode: DIRECTORY_MODE });
  const marker = join(dataDirectory, UNFINISHED);
  await writeDurably(marker, Buffer.from('A restore did not end. Delete this directory and restore again.\n'));
  const isDatabase = ({ path }: BackupFile) => path === DATABASE;
  for (const file of manifest.files.filter((each) => !isDatabase(each))) {
    await copyBack(backup, join(dataDirectory, file.path), file, watch.signal);
  }
  for (const file of manifest.files.filter(isDatabase)) {
    const early = join(dataDirectory, `${UNFINISHED}.db`);
    await copyBack(backup, early, file, watch.signal);
    await rename(early, join(dataDirectory, file.path));
  }
  await syncDirectory(dataDirectory);
  await unlink(marker);
  await syncDirectory(dataDirectory);
  return manifest;
}

async function copyBack(backup: string, target: string, file: BackupFile, signal: AbortSignal): Promise<void> {
  await mkdir(dirname(target), { recursive: true, mode: DIRECTORY_MODE });
  const copied = await withFile(openOwn(join(backup, file.path)), (from) =>
    withFile(createFile(target), async (to) => {
      const done = await copyHashed(from, to, { signal });
      await to.sync();
      return done;
    }),
  );
  await syncDirectory(dirname(target));
  if (copied.bytes === file.bytes && copied.sha256 === file.sha256) return;
  throw new BackupFailed(
    `${file.path} of the backup ${backup} changed while it was restored. Delete what was made of it.`,
  );
}
