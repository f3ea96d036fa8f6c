/**
 * Finds who an access key id stands for, for the authenticator, which keeps derived keys by object: the same key gives the
 * same object, with its secret opened once. The row is read for each request all the same, so that a key that was changed
 * or deleted, in this process or another, is a new object or none at once. What was made of a row must never serve for a
 * row that says anything else.
 */
import { USER } from './domain/access.ts';
import { isHeld, openSecrets, readPrincipal } from './domain/access-key.ts';
import type { Principal } from './domain/context.ts';
import { KIND } from './domain/kinds.ts';
import type { Keys } from './keys/keys.ts';
import type { Row, Store } from './store/store.ts';
import type { Credential } from './wire/authenticate.ts';

/** Far more than an installation has in use; at a KiB each it is a megabyte. */
const KEPT_MAX = 1_000;

type Found = Credential & Principal;

export function createCredentialFinder(store: Pick<Store, 'get'>, keys: Keys) {
  const kept = new Map<string, { readonly row: Row; readonly found: Found }>();

  return async function findCredential(accessKeyId: string): Promise<Found | undefined> {
    const row = await store.get(KIND.accessKey, accessKeyId);
    if (!row) {
      kept.delete(accessKeyId);
      return undefined;
    }
    const before = kept.get(accessKeyId);
    const found = before && saysTheSame(before.row, row) ? before.found : keep(row);
    return found.role !== USER || (await isHeld(row, store)) ? found : undefined;
  };

  function keep(row: Row): Found {
    const found: Found = { ...readPrincipal(row), ...openSecrets(row, keys) };
    const [oldest] = kept.keys();
    if (kept.size >= KEPT_MAX && oldest !== undefined) kept.delete(oldest);
    kept.set(row.id, { row, found });
    return found;
  }
}

/** The texts, and not the version alone: a database that was restored may count the same versions once more. */
function saysTheSame(one: Row, other: Row): boolean {
  if (one === other) return true;
  const { version, state, dueAt, doc } = one;
  if (version !== other.version || state !== other.state || dueAt !== other.dueAt) return false;
  return doc === other.doc && one.private === other.private;
}
