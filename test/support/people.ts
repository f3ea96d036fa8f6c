/** Users put straight into a store, with passwords that cost little to check. */
import { randomUUID } from 'node:crypto';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import { createPasswords, setPassword } from '../../src/domain/password.ts';
import { comparable } from '../../src/domain/user-lookup.ts';
import type { Store } from '../../src/store/store.ts';

/** Of no use to anybody but tests, which have many to check. */
export const quickPasswords = createPasswords({ N: 2, r: 1, p: 1 });

export async function putPerson(store: Store, userName: string, password?: string): Promise<string> {
  const principalId = `92677b4b19-${randomUUID()}`;
  const doc = JSON.stringify({ principalId, identityStoreId: 'd-92677b4b19', userName, state: 'ENABLED' });
  const row = newRow({ kind: KIND.user, id: principalId, uniqueName: comparable(userName), createdAt: 0, doc });
  await store.write([{ op: 'insert', row }]);
  if (password !== undefined) await putPassword(store, principalId, password);
  return principalId;
}

export async function putPassword(store: Store, principalId: string, password: string): Promise<void> {
  const before = await store.get(KIND.password, principalId);
  await store.write([setPassword(principalId, await quickPasswords.hash(password), before, 0)]);
}

export async function putUserState(store: Store, principalId: string, state: 'PRESENT' | 'DISABLED'): Promise<void> {
  const row = (await store.get(KIND.user, principalId))!;
  await store.write([{ op: 'update', row: { ...row, state, version: row.version + 1 } }]);
}
