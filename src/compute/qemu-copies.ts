/**
 * Virtual machines in a copy of the installation: volumes and backups are files as they lie there, encrypted under the key
 * of their session. Sockets stay behind, and so does the mark of the process: it is alive here, and a copy that is used on
 * this very machine must never end it.
 */
import { requireFileName } from '../files.ts';
import type { EngineCopies } from './copies.ts';
import { backupPath, volumePath } from './qemu-disk.ts';
import type { QemuWorkstation } from './qemu-records.ts';
import { ID_PATTERN } from './records.ts';

export const qemuCopies: EngineCopies<QemuWorkstation> = {
  directory: 'qemu',
  names: [`${ID_PATTERN}/volume\\.qcow2`, `${ID_PATTERN}/backup-${ID_PATTERN}\\.qcow2`],
  filesOf: (id, { volume, backups }) => ({
    backups: Object.keys(backups).map((backupId) => backupPath(requireFileName(id), backupId)),
    volume: volume && volumePath(requireFileName(id)),
  }),
  recordForCopy: (record, volume) => ({
    ...record,
    fence: 0,
    power: 'off',
    machine: null,
    volume: volume === 'comes along' ? record.volume : null,
  }),
};
