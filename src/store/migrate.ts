/** The migrations of src/store/migrations in order: read from their files, never changed once they have shipped. */
import { readdirSync, readFileSync } from 'node:fs';
import { type Dialect, inDialect } from './sql.ts';

const directory = new URL('./migrations/', import.meta.url);

export interface Migration {
  readonly name: string;
  readonly sql: string;
}

export function migrations(dialect: Dialect): Migration[] {
  return readdirSync(directory)
    .filter((file) => file.endsWith('.sql'))
    .sort()
    .map((name) => ({ name, sql: inDialect(readFileSync(new URL(name, directory), 'utf8'), dialect) }));
}
