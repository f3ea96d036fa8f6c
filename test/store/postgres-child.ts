/** A process of its own for the tests of the PostgreSQL store: opens the database it is told, and says what came of it. */
import { openPostgres } from '../../src/store/postgres.ts';

const [url] = process.argv.slice(2) as [string];
const store = await openPostgres({ url, now: Date.now, connectionsMax: 1 });
process.stdout.write(`${JSON.stringify({ tokens: (await store.token('nothere')) ?? null })}\n`);
await store.close();
