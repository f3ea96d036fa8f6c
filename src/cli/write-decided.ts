/** Writes what a command decided by rows that it has read; when another change got in between, it decides again. */
import { GuardFailed, type Store, type Write } from '../store/store.ts';
import { CommandFailed } from './command.ts';

const ATTEMPTS_MAX = 8;

/** @throws CommandFailed when others are always faster. */
export async function writeDecided(store: Store, decide: () => Promise<readonly Write[]>): Promise<void> {
  for (let attempt = 1; attempt <= ATTEMPTS_MAX; attempt += 1) {
    const writes = await decide();
    if (writes.length === 0) return;
    try {
      await store.write(writes);
      return;
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
    }
  }
  throw new CommandFailed('Others keep changing the same thing. Try again in a moment.');
}
