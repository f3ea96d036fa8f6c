/**
 * A process of its own for the store's tests: opens the database it is told, does one thing, and says what came of it as
 * one line of JSON. `write` then waits to be killed.
 */
import { openSqlite } from '../../src/store/sqlite.ts';
import { rowOf } from './conformance.ts';

const [path, task, argument] = process.argv.slice(2) as [string, string, string];
const store = openSqlite({ path, now: Date.now });
const say = (answer: unknown) => process.stdout.write(`${JSON.stringify(answer)}\n`);

if (task === 'write') {
  const row = rowOf(argument);
  const before = await store.get(row.kind, row.id);
  const written = before ? { ...before, version: before.version + 1, state: 'CHILD' } : row;
  await store.write([{ op: before ? 'update' : 'insert', row: written }]);
  say({ version: written.version });
  setInterval(() => undefined, 60_000);
} else if (task === 'lease') {
  const ids: string[] = [];
  const query = { kind: 'thing', state: 'WORK', now: Number(argument), until: Number(argument) + 1_000, limit: 5 };
  for (let rows = await store.lease(query); rows.length > 0; rows = await store.lease(query)) {
    ids.push(...rows.map(({ id }) => id));
  }
  say(ids);
  await store.close();
} else {
  throw new Error(`there is no task ${task}`);
}
