/** Users put straight into a store, with passwords that cost little to check. */
import { KIND } from '../../src/domain/kinds.ts';
import { createPasswords, setPassword } from '../../src/domain/password.ts';
import { newUser, withEnabled } from '../../src/domain/user.ts';
import { createIds } from '../../src/ids.ts';
import type { Store } from '../../src/store/store.ts';

/** Of no use to anybody but tests, which have many to check. */
export const quickPasswords = createPasswords({ N: 2, r: 1, p: 1 });

/** A user, in the store of whatever service. */
export async function putPerson(store: Store, userName: string, password?: string): Promise<string> {
  const row = newUser({ userName }, 'd-92677b4b19', { ids: createIds(), clock: { now: () => 0 } });
  await store.write([{ op: 'insert', row }]);
  if (password !== undefined) await putPassword(store, row.id, password);
  return row.id;
}

export async function putPassword(store: Store, principalId: string, password: string): Promise<void> {
  const before = await store.get(KIND.password, principalId);
  await store.write([setPassword(principalId, await quickPasswords.hash(password), before, 0)]);
}

export async function putUserState(store: Store, principalId: string, state: 'PRESENT' | 'DISABLED'): Promise<void> {
  const row = (await store.get(KIND.user, principalId))!;
  await store.write([{ op: 'update', row: withEnabled(row, state === 'PRESENT') }]);
}
