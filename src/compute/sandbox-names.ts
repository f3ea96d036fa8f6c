/** What sandboxes call things on the disk and among processes, for those who make them and those who only copy them. */
import { randomBytes } from 'node:crypto';
import { ID_PATTERN } from './records.ts';

/** Directories of the engine. */
export const HOMES = 'homes';
export const BACKUPS = 'backups';
/** Homes that came in a copy of the installation and were not used since. */
export const PACKED = 'packed';

/** Of a home, as the source of a regular expression: whose it is, and chance. */
export const HOME_NAME = `${ID_PATTERN}\\.[0-9a-f]{16}`;

/** Among the arguments of a workstation's processes, and of no others. */
export function newMark(): string {
  return `backlot-${randomBytes(16).toString('hex')}`;
}
