/**
 * The migrations of src/store/migrations in order: read from their files, never changed once they have shipped. One whose
 * name ends in `.postgres.sql` is for that database alone.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { type Dialect, inDialect } from './sql.ts';

const directory = new URL('./migrations/', import.meta.url);

export interface Migration {
  readonly name: string;
  readonly sql: string;
}

/**
 * What is still to be done, in order.
 * @param applied names of those that the database has.
 * @throws Error when it has one that is not known here.
 */
export function pendingMigrations(applied: readonly string[], dialect: Dialect): Migration[] {
  const known = namesFor(dialect);
  const unknown = applied.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    throw new Error(`the database was written by a newer version (it has ${unknown.join(', ')}): upgrade this one`);
  }
  return known
    .filter((name) => !applied.includes(name))
    .map((name) => ({ name, sql: inDialect(readFileSync(new URL(name, directory), 'utf8'), dialect) }));
}

function namesFor(dialect: Dialect): string[] {
  return readdirSync(directory)
    .filter((file) => {
      const [, only] = /^[^.]+(?:\.(\w+))?\.sql$/.exec(file) ?? [file, 'nothing'];
      return only === undefined || only === dialect.name;
    })
    .sort();
}
