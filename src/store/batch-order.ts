/**
 * The order of one process's batches: those that change the same thing are done one after another, as they were given,
 * and all others at once. It protects nothing, which the database does; but a batch that waits here holds no connection
 * and no lock, where one that waits in the database would hold both.
 */
import type { Write } from './store.ts';

export class BatchOrder {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs `work` when every batch that was given earlier and changes what this one changes or relies on has ended. */
  async take<T>(batch: readonly Write[], work: () => Promise<T>): Promise<T> {
    const changed = batch.flatMap(changedBy);
    const needed = [...changed, ...batch.flatMap(reliedOnBy)];
    const before = needed.flatMap((key) => this.#last.get(key) ?? []);
    const mine = before.length === 0 ? work() : Promise.allSettled(before).then(work);
    for (const key of changed) this.#last.set(key, mine);
    try {
      return await mine;
    } finally {
      for (const key of changed) if (this.#last.get(key) === mine) this.#last.delete(key);
    }
  }
}

/** What no two batches may change at once, each by a name of its own. */
function changedBy(write: Write): string[] {
  switch (write.op) {
    case 'insert':
    case 'update':
      return [JSON.stringify(['row', write.row.kind, write.row.id])];
    case 'delete':
      return [JSON.stringify(['row', write.kind, write.id])];
    case 'fewer':
      return [JSON.stringify(['bound', write.kind, write.studioId])];
    case 'token':
      return [JSON.stringify(['token', write.token.key])];
    default:
      return [];
  }
}

function reliedOnBy(write: Write): string[] {
  return write.op === 'require' ? [JSON.stringify(['row', write.kind, write.id])] : [];
}
