/** Who a user is, for log-in and for the keys that users have. */
import type { Row, Store } from '../store/store.ts';
import { KIND, PRESENT } from './kinds.ts';

/** What a second name must differ in. */
export function comparable(name: string): string {
  return name.normalize('NFC').toLowerCase();
}

/** The user of this name, or with this id. */
export async function findUser(store: Store, nameOrId: string): Promise<Row | undefined> {
  const row = await store.get(KIND.user, nameOrId);
  if (row) return row;
  const [named] = await store.list({ kind: KIND.user, uniqueName: comparable(nameOrId), limit: 1 });
  return named;
}

export function userNameOf({ doc }: Row): string {
  return (JSON.parse(doc) as { readonly userName: string }).userName;
}

export const isEnabled = ({ state }: Row): boolean => state === PRESENT;
