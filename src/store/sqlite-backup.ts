/**
 * A copy of the embedded database while a server writes to it: as it stands at one moment, whole, in one file without a
 * log beside it. Pages that are free are left out, and with them whatever was deleted.
 */
import { DatabaseSync } from 'node:sqlite';

/** @param to must not be there yet. It is not synced. */
export function backupSqlite(from: string, to: string): void {
  const database = new DatabaseSync(from);
  try {
    // One read transaction: it sees every commit before it and none after, and holds up no writer.
    database.prepare('VACUUM INTO ?').run(to);
  } finally {
    database.close();
  }
}
