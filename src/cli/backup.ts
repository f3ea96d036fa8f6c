/** `backlot backup` and `backlot restore`: everything that an installation is, in a directory that can be carried away. */
import { resolve } from 'node:path';
import { type BackupMade, makeBackup } from '../backup/make.ts';
import { type Manifest, verifyBackup, type Watch } from '../backup/manifest.ts';
import { restoreBackup } from '../backup/restore.ts';
import { type Command, CommandFailed } from './command.ts';
import { progressBar } from './output.ts';
import { stopSignal } from './stop-signal.ts';
import { withParts } from './with-parts.ts';

const ELSEWHERE = 'not in this backup: it is in PostgreSQL, see docs/deploy.md';

export const backupCommands: readonly Command[] = [
  // Before `backup`, whose words it begins with.
  {
    name: 'backup verify',
    summary: 'Reads a backup and says whether it is whole.',
    positionals: ['DIR'],
    options: {},
    run: ({ positionals }) => {
      const directory = resolve(positionals[0]!);
      return watched('Checking', 'Stopped.', async (watch) =>
        described(directory, await verifyBackup(directory, watch)),
      );
    },
  },
  {
    name: 'backup',
    summary: 'Copies database, keys, images, workstations and credentials into a new directory, while the server runs.',
    positionals: ['DIR'],
    options: {},
    note:
      'It holds secrets: keep it as safe as the data directory. Of workstations that run, the volume is left out: ' +
      'runningWorkstations names their sessions. Exits with 1 when a disk in it is damaged.',
    exitCode: (output) => ('damagedImages' in output! || 'damagedWorkstations' in output! ? 1 : 0),
    run: ({ positionals }, config) => {
      const directory = resolve(positionals[0]!);
      return watched('Copying', 'Stopped. There is no backup.', (watch) =>
        withParts(config, async (parts) => {
          const source = { ...parts, isEmbedded: config.databaseUrl === undefined };
          return answered(directory, await makeBackup(directory, source, watch));
        }),
      );
    },
  },
  {
    name: 'restore',
    summary: 'Checks a backup and makes a new data directory of it, which --data-dir names.',
    positionals: ['DIR'],
    options: {},
    note: 'The data directory must be empty or not there yet. No server may run on it.',
    run: ({ positionals }, { dataDir }) =>
      watched('Checking', `Stopped. Delete ${dataDir} before you try again.`, async (watch) => ({
        dataDirectory: dataDir,
        ...described(resolve(positionals[0]!), await restoreBackup(resolve(positionals[0]!), dataDir, watch)),
      })),
  },
];

function answered(directory: string, { damaged, workstations, ...manifest }: BackupMade) {
  const { running, damaged: broken } = workstations;
  if (running.length > 0) {
    process.stderr.write(
      `backlot: Volumes of workstations that run are not in this backup: ${running.length}, see runningWorkstations. Stop these ` +
        'sessions and make another, or rely on their own backups, which are in it.\n',
    );
  }
  return {
    ...described(directory, manifest),
    ...(damaged.length > 0 && { damagedImages: damaged }),
    ...(running.length > 0 && { runningWorkstations: running }),
    ...(broken.length > 0 && { damagedWorkstations: broken }),
  };
}

async function watched<T>(label: string, stopped: string, work: (watch: Watch) => Promise<T>): Promise<T> {
  const bar = progressBar(label, { out: process.stdout, err: process.stderr });
  const { signal, release } = stopSignal();
  try {
    return await work({ signal, onProgress: bar.show });
  } catch (error) {
    throw signal.aborted ? new CommandFailed(stopped) : error;
  } finally {
    bar.end();
    release();
  }
}

function described(backup: string, { createdAt, database, files }: Manifest) {
  return {
    backup,
    createdAt,
    files: files.length,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    ...(database === 'postgresql' && { database: ELSEWHERE }),
  };
}
