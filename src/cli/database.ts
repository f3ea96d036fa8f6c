/**
 * `backlot database`: moves an installation from one database to another while no server runs. It must never take a
 * password from the command line, nor show one.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { systemClock } from '../clock.ts';
import { readDatabaseUrl } from '../config.ts';
import { lockDataDirectory, openDataDirectory, reasonOf } from '../data-directory.ts';
import { SETTINGS } from '../settings.ts';
import { CopyFailed, copyTables, type Tables } from '../store/tables.ts';
import { type Arguments, type Command, CommandFailed, UsageError } from './command.ts';
import { progressBar } from './output.ts';

/** A database as a command line names it. */
type Address = { readonly dataDir: string } | { readonly url: string };

type Side = 'from' | 'to';

const { env } = SETTINGS.databaseUrl;
const FORMS = `sqlite:DATA_DIR, a postgres:// address without a password, or env:${env} for the address in a variable`;

export const databaseCommands: readonly Command[] = [
  {
    name: 'database copy',
    summary: 'Copies everything in one database into another, empty one, and compares the two.',
    positionals: [],
    options: {
      from: { value: 'DATABASE', meaning: `Where it is: ${FORMS}`, required: true },
      to: { value: 'DATABASE', meaning: 'Where it shall be, in the same way', required: true },
    },
    note: 'All servers must be stopped. Keys and images are not in the database: they stay in the data directory.',
    run: (given) => copyDatabase(given),
  },
];

async function copyDatabase(given: Arguments): Promise<object[]> {
  const [from, to] = [addressOf('from', given), addressOf('to', given)];
  if (JSON.stringify(from) === JSON.stringify(to)) throw new UsageError('--from and --to name the same database');
  const bar = progressBar('Copying', { out: process.stdout, err: process.stderr });
  try {
    return await withTables('from', from, (source) =>
      withTables('to', to, (target) => copyTables(source, target, (share) => bar.show(share * 100))),
    );
  } finally {
    bar.end();
  }
}

/** @throws UsageError without the address, which may hold a password. */
function addressOf(side: Side, given: Arguments): Address {
  const text = given.option(side)!;
  const variable = /^env:(\w+)$/.exec(text)?.[1];
  if (variable !== undefined) return { url: readDatabaseUrl(variable) };
  const path = /^sqlite:(.+)$/.exec(text)?.[1];
  if (path !== undefined) return { dataDir: resolve(basename(path) === 'backlot.db' ? dirname(path) : path) };
  const parsed = SETTINGS.databaseUrl.parse(text);
  if ('must' in parsed || parsed.value === undefined) throw new UsageError(`--${side} must be ${FORMS}`);
  requireNoPassword(side, parsed.value);
  return { url: parsed.value };
}

function requireNoPassword(side: Side, url: string): void {
  const { password, searchParams } = new URL(url);
  if (password === '' && !searchParams.has('password')) return;
  throw new UsageError(
    `--${side} holds a password, which everyone on this machine can read while the command runs: ` +
      `put the address into a variable such as ${env}, and write --${side} env:${env}`,
  );
}

async function withTables<T>(side: Side, address: Address, work: (tables: Tables) => Promise<T>): Promise<T> {
  if ('url' in address) {
    const { openPostgresTables } = await import('../store/postgres-tables.ts');
    const opening = () => openPostgresTables({ url: address.url, now: systemClock.now });
    return withOpened(side, opening, work);
  }
  const { dataDir } = address;
  if (side === 'from' && !existsSync(join(dataDir, 'backlot.db'))) {
    throw new CommandFailed(`There is no database in ${dataDir}.`);
  }
  const directory = openDataDirectory(dataDir);
  const unlock = lockDataDirectory(directory);
  try {
    const { openSqliteTables } = await import('../store/sqlite-tables.ts');
    const opening = () => openSqliteTables({ path: directory.database, now: systemClock.now });
    return await withOpened(side, opening, work);
  } finally {
    unlock();
  }
}

async function withOpened<T>(
  side: Side,
  open: () => Promise<Tables>,
  work: (tables: Tables) => Promise<T>,
): Promise<T> {
  const tables = await open().catch((error: unknown) => {
    if (error instanceof CopyFailed) throw error;
    throw new CommandFailed(`The database of --${side} cannot be used: ${reasonOf(error)}.`);
  });
  try {
    return await work(tables);
  } finally {
    await tables.close();
  }
}
