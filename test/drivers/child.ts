/**
 * What the driver tests run in a process of its own, to kill it, to race it with others, to let it be another user or to
 * give it a disk of its own. Told what to do by one JSON argument; says how it went in lines of JSON.
 */
import { createHash } from 'node:crypto';
import { appendFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { isSystemError } from '../../src/files.ts';
import { openImageDirectory } from '../../src/images/directory.ts';
import type { ImageFailure } from '../../src/images/images.ts';
import type { DiskFormat } from '../../src/images/inspect.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { until } from '../support/until.ts';
import { toolsOf } from './tools.ts';

export type ChildTask =
  | { readonly task: 'share-key'; readonly directory: string; readonly id: string }
  | { readonly task: 'generate-forever'; readonly directory: string }
  | ImportTask
  | MachineImportTask;

export interface ImportTask {
  readonly task: 'import';
  readonly directory: string;
  readonly id: string;
  readonly source: string;
  readonly sha256: string;
  readonly format: DiskFormat;
  readonly passphrase: string;
  /** Becomes this user and group first. */
  readonly user?: number;
  /** Dies by SIGKILL when it is told that this much is done. */
  readonly dieAtPercent?: number;
  /** Fills the disk once the tool runs. */
  readonly fillUnderTool?: true;
}

export interface MachineImportTask {
  readonly task: 'import-machine';
  readonly directory: string;
  readonly id: string;
  readonly file: string;
  /** Fills the disk when it is told that this much is done. */
  readonly fillAtPercent?: number;
}

/** What the import tasks say. */
export interface ImportOutcome {
  readonly failure?: { readonly code: string; readonly inward: string };
  /** In staging, when it was over. */
  readonly leftovers: readonly string[];
}

/** Every look at it is a second later, so that no progress goes untold. */
function hastyClock(): { now(): number } {
  let now = 0;
  return { now: () => (now += 1_000) };
}

function say(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function keysIn(directory: string) {
  return openLocalKeys({ directory, region: 'us-west-2', accountId: '123456789012', clock: systemClock });
}

async function shareKey(directory: string, id: string): Promise<void> {
  const keys = await keysIn(directory);
  await keys.generate(id, undefined);
  say({
    digest: createHash('sha256')
      .update(await keys.unseal(id))
      .digest('hex'),
  });
}

async function generateForever(directory: string): Promise<void> {
  const keys = await keysIn(directory);
  for (let count = 0; ; count += 1) {
    await keys.generate(`key-${count}`, undefined);
    say({ generated: `key-${count}` });
  }
}

function become(user: number): void {
  process.setgroups!([]);
  process.setgid!(user);
  process.setuid!(user);
}

function fillDisk(directory: string): void {
  try {
    for (;;) appendFileSync(join(directory, 'filler'), Buffer.alloc(65_536));
  } catch (error) {
    if (!isSystemError(error, 'ENOSPC')) throw error;
  }
}

async function importCopy(task: ImportTask): Promise<void> {
  const { directory, id, source, sha256, format, passphrase, user, dieAtPercent, fillUnderTool } = task;
  if (user !== undefined) become(user);
  const onProgress = (percent: number): void => {
    if (percent >= (dieAtPercent ?? 101)) process.kill(process.pid, 'SIGKILL');
  };
  const { signal } = new AbortController();
  const request = { id, source, sourceSha256: sha256, sourceFormat: format, onProgress, signal };
  const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: hastyClock() });
  // It spends its first second on making the key slow to guess, before it writes anything much.
  const filling =
    fillUnderTool && until('the tool runs', () => toolsOf(process.pid).length > 0).then(() => fillDisk(directory));
  await report(directory, images.import({ ...request, passphrase: Buffer.from(passphrase) }));
  await filling;
}

async function importMachine({ directory, id, file, fillAtPercent = 101 }: MachineImportTask): Promise<void> {
  let filled = false;
  const onProgress = (percent: number): void => {
    if (filled || percent < fillAtPercent) return;
    filled = true;
    fillDisk(directory);
  };
  const images = openImageDirectory({ directory, diskReserveBytes: 0, clock: hastyClock() });
  await report(directory, images.importMachineImage({ id, file, onProgress }));
}

async function report(directory: string, work: Promise<unknown>): Promise<void> {
  const failure = await work.then(
    () => ({}),
    ({ code, inward }: ImageFailure) => ({ failure: { code, inward: String(inward) } }),
  );
  say({ ...failure, leftovers: readdirSync(join(directory, 'staging')) } satisfies ImportOutcome);
}

const task = JSON.parse(process.argv[2]!) as ChildTask;
if (task.task === 'share-key') await shareKey(task.directory, task.id);
else if (task.task === 'generate-forever') await generateForever(task.directory);
else if (task.task === 'import') await importCopy(task);
else await importMachine(task);
