/**
 * Sandboxes in a copy of the installation: a home is packed into one file, encrypted under the key of its session as its
 * backups are, and unpacked where the copy is used. Root file systems are made again from their images. The mark of the
 * processes is another: those that have it run here, and a copy that is used on this very machine must never end them.
 */
import { requireFileName } from '../files.ts';
import type { EngineCopies } from './copies.ts';
import { ID_PATTERN } from './records.ts';
import type { SandboxedWorkstation } from './sandbox.ts';
import { BACKUPS, HOME_NAME, newMark, PACKED } from './sandbox-names.ts';

export const sandboxCopies: EngineCopies<SandboxedWorkstation> = {
  directory: 'sandbox',
  names: [`${BACKUPS}/${ID_PATTERN}/${ID_PATTERN}`, `${PACKED}/${HOME_NAME}`],
  filesOf: (id, { home, backups }) => ({
    backups: Object.keys(backups).map((each) => `${BACKUPS}/${requireFileName(id)}/${requireFileName(each)}`),
    volume: home === null ? null : `${PACKED}/${requireHome(home)}`,
  }),
  recordForCopy: (record, volume) => ({
    ...record,
    fence: 0,
    power: 'off',
    mark: newMark(),
    home: volume === 'comes along' ? record.home : null,
    restore: null,
  }),
  packVolume: async (id, { home }, { target, directory, keys, signal }) => {
    // Loaded where it is used: the rest of a copy needs none of its tools.
    const { openHomes, ownerOf } = await import('./sandbox.ts');
    await (await openHomes({ directory, keys })).pack(ownerOf(id), requireHome(home!), target, signal);
  },
};

function requireHome(home: string): string {
  if (new RegExp(`^${HOME_NAME}$`).test(home)) return home;
  throw new Error('a record names no home that there can be');
}
