/** A store that lets a test get in between a decision and its write. */
import type { Store, Write } from '../../src/store/store.ts';

/** `beforeWrite` runs before each batch is handed on; what it does is committed first. */
export function intercepted(store: Store, beforeWrite: (batch: readonly Write[]) => Promise<void>): Store {
  return {
    get: (kind, id) => store.get(kind, id),
    list: (query) => store.list(query),
    count: (query) => store.count(query),
    token: (key) => store.token(key),
    audit: (query) => store.audit(query),
    lease: (query) => store.lease(query),
    write: async (batch) => {
      await beforeWrite(batch);
      return store.write(batch);
    },
    close: () => store.close(),
  };
}
