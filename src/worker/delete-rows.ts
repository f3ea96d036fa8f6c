/** Deletes rows that have no life of their own once what they belong to is gone. Begun again, it goes on with the rest. */
import type { RowQuery, Store } from '../store/store.ts';

/** In small writes, so that no request waits long behind one. */
const ROWS_PER_WRITE = 200;

export async function deleteRows(query: RowQuery, store: Store): Promise<void> {
  const next = () => store.list({ ...query, limit: ROWS_PER_WRITE });
  for (let rows = await next(); rows.length > 0; rows = await next()) {
    await store.write(rows.map(({ kind, id, version }) => ({ op: 'delete', kind, id, version })));
  }
}
