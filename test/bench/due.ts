/**
 * What it costs a worker to find sessions whose time is over among very many whose time is not: the lease alone, on a
 * database in a file, as it is written there. It does nothing with what it finds.
 */
import { join } from 'node:path';
import { systemClock } from '../../src/clock.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { createIds } from '../../src/ids.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Row, Store } from '../../src/store/store.ts';
import { median } from './load.ts';

const ROWS_PER_WRITE = 1_000;
/** As many as a worker asks for at once. */
const LEASED = 16;
const HOUR_MS = 3_600_000;
const DOC = JSON.stringify({ state: 'READY', filler: 'x'.repeat(700) });

export interface DueTimes {
  /** ms, of a look that finds nothing. */
  readonly nothingMs: number;
  /** ms, of a look that takes sixteen, and syncs that to disk. */
  readonly someMs: number;
}

async function fill(store: Store, sessions: number, now: number): Promise<void> {
  const ids = createIds();
  const session = (index: number): Row =>
    newRow({
      kind: KIND.streamingSession,
      id: ids.short(),
      studioId: 'us-west-2:stid-bench',
      state: 'READY',
      createdAt: now + index,
      dueAt: now + HOUR_MS + (index % (11 * HOUR_MS)),
      doc: DOC,
    });
  for (let start = 0; start < sessions; start += ROWS_PER_WRITE) {
    const rows = Array.from({ length: ROWS_PER_WRITE }, (_, index) => session(start + index));
    await store.write(rows.map((row) => ({ op: 'insert', row })));
  }
}

/** @returns the medians of the rounds. */
export async function measureDue(directory: string, sessions: number, rounds: number): Promise<DueTimes> {
  const clock = systemClock;
  const store = openSqlite({ path: join(directory, 'due.db'), now: () => clock.now() });
  const start = clock.now();
  await fill(store, sessions, start);
  const look = async (now: number) => {
    const before = performance.now();
    const query = { kind: KIND.streamingSession, state: 'READY', now, until: now + 24 * HOUR_MS, limit: LEASED };
    const found = await store.lease(query);
    return { ms: performance.now() - before, found: found.length };
  };
  const [nothing, some]: [number[], number[]] = [[], []];
  for (let round = 0; round < rounds * 10; round += 1) {
    const none = await look(start);
    const due = await look(start + HOUR_MS + 2 * LEASED * (round + 1));
    if (none.found !== 0 || due.found !== LEASED) throw new Error(`found ${none.found} and ${due.found}`);
    nothing.push(none.ms);
    some.push(due.ms);
  }
  await store.close();
  return { nothingMs: median(nothing), someMs: median(some) };
}
