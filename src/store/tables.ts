/**
 * A database as tables of plain values, whatever the kind: what copying one into another needs, and nothing else may use.
 * The list below is all that there is to copy; a new table is one line of it. Columns are not listed: they are what both
 * databases have, so that none can be forgotten. None may be one that its database counts up by itself, as a copy would
 * begin to count anew.
 */
import { createHash } from 'node:crypto';
import type { Param } from './rows.ts';

export interface Table {
  readonly name: string;
  /** Columns that tell rows apart: they are read in this order. */
  readonly key: readonly string[];
}

export const TABLES: readonly Table[] = [
  { name: 'resource', key: ['kind', 'id'] },
  { name: 'idempotency', key: ['token_key'] },
  { name: 'audit', key: ['at', 'id'] },
];

/** Values in the order of the columns that were asked for. */
export type Values = readonly Param[];

/** One database, held against everyone else and in one transaction from its opening to its end. */
export interface Tables {
  columns(table: Table): Promise<readonly string[]>;
  count(table: Table): Promise<number>;
  /** Rows behind the one with this key, in the order of keys, which is that of bytes. */
  page(table: Table, columns: readonly string[], after: Values | undefined, limit: number): Promise<readonly Values[]>;
  add(table: Table, columns: readonly string[], rows: readonly Values[]): Promise<void>;
  /** Makes durable what was added. */
  commit(): Promise<void>;
  /** What was not committed is undone. */
  close(): Promise<void>;
}

/** Why the copy was given up, in sentences for the person at the terminal. */
export class CopyFailed extends Error {
  override readonly name = 'CopyFailed';
}

export interface CopiedTable {
  readonly table: string;
  readonly rows: number;
  /** Of all values in order: found the same in both databases. */
  readonly sha256: string;
}

/** Of documents of a KiB, a quarter of a megabyte at once. */
const ROWS_PER_PAGE = 256;

/**
 * Copies every row, then reads both sides' own and compares. Nothing is there for good before all of it was found the same.
 * @param progress told how much is done, from 0 to 1.
 * @throws CopyFailed
 */
export async function copyTables(
  from: Tables,
  to: Tables,
  progress: (share: number) => void = () => undefined,
): Promise<CopiedTable[]> {
  for (const table of TABLES) await requireEmpty(to, table);
  let total = 0;
  for (const table of TABLES) total += await from.count(table);
  let done = 0;
  const copied: CopiedTable[] = [];
  for (const table of TABLES) {
    const columns = await sameColumns(from, to, table);
    const passed = (rows: number) => {
      done += rows;
      progress(done / (2 * total));
    };
    const sent = await digest(from, table, columns, async (rows) => {
      await to.add(table, columns, rows);
      passed(rows.length);
    });
    const arrived = await digest(to, table, columns, async (rows) => passed(rows.length));
    if (sent.rows !== arrived.rows || sent.sha256 !== arrived.sha256) {
      throw new CopyFailed(
        `${table.name} did not arrive as it was sent (${sent.rows} rows, ${arrived.rows} arrived). Nothing was copied.`,
      );
    }
    copied.push(sent);
  }
  await to.commit();
  return copied;
}

async function requireEmpty(to: Tables, table: Table): Promise<void> {
  const rows = await to.count(table);
  if (rows > 0)
    throw new CopyFailed(
      `The database to copy to is not empty (${table.name} has rows: ${rows}). Nothing was copied; name a new one.`,
    );
}

/** Both were brought up to date by this version, so they differ only where somebody has changed one by hand. */
async function sameColumns(from: Tables, to: Tables, table: Table): Promise<readonly string[]> {
  const [one, other] = [(await from.columns(table)).toSorted(), (await to.columns(table)).toSorted()];
  if (one.join() === other.join()) return one;
  throw new CopyFailed(
    `${table.name} has other columns there (${other.join(', ')}) than here (${one.join(', ')}). Nothing was copied.`,
  );
}

/** Reads a table from beginning to end, a page at a time. */
async function digest(
  tables: Tables,
  table: Table,
  columns: readonly string[],
  read: (rows: readonly Values[]) => Promise<void>,
): Promise<CopiedTable> {
  const key = table.key.map((column) => columns.indexOf(column));
  const hash = createHash('sha256');
  let rows = 0;
  let after: Values | undefined;
  for (;;) {
    const page = await tables.page(table, columns, after, ROWS_PER_PAGE);
    for (const values of page) hash.update(`${JSON.stringify(values)}\n`);
    rows += page.length;
    if (page.length > 0) await read(page);
    if (page.length < ROWS_PER_PAGE) return { table: table.name, rows, sha256: hash.digest('hex') };
    const last = page.at(-1)!;
    after = key.map((index) => last[index]!);
  }
}
