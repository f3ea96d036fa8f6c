/**
 * Users: the people that members are. They belong to the whole installation, whose identity store has one id, and are
 * made on the command line or imported. Ids that are made here have the vendor's older form, which begins with that of the
 * identity store; those that were made elsewhere may be without it.
 */
import { wireTime } from '../clock.ts';
import { validationFailed } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND, newRow, PRESENT } from './kinds.ts';

/** `doc` of a user's row. */
export interface User {
  readonly principalId: string;
  readonly identityStoreId: string;
  /** Of which no two are the same, whatever the case of their letters. */
  readonly userName: string;
  readonly displayName?: string;
  readonly email?: string;
  readonly state: 'ENABLED' | 'DISABLED';
  readonly createdAt: string;
}

/** State of a user's row; one that is enabled is PRESENT. */
const DISABLED = 'DISABLED';

/** Row of kind `installation` that holds the id of the identity store. */
export const IDENTITY_STORE = 'identity-store';

/** `d-` and ten hexadecimal digits; undefined while nobody has been made yet. */
export async function identityStoreOf(store: Store): Promise<string | undefined> {
  const row = await store.get(KIND.installation, IDENTITY_STORE);
  return row && readIdentityStore(row);
}

export function readIdentityStore({ doc }: Row): string {
  return (JSON.parse(doc) as { identityStoreId: string }).identityStoreId;
}

/** The row that says what the identity store of this installation is: the first is the only one. */
export function newIdentityStore(identityStoreId: string, { clock }: Pick<Services, 'clock'>): Row {
  const doc = JSON.stringify({ identityStoreId });
  return newRow({ kind: KIND.installation, id: IDENTITY_STORE, createdAt: clock.now(), doc });
}

/** The id of a user or group, for example `92677b4b19-e9fd012a-94ad-4f16-9866-c69a63ab6486`. */
export function newPrincipalId(identityStoreId: string, ids: Services['ids']): string {
  return `${identityStoreId.slice('d-'.length)}-${ids.uuid()}`;
}

const PRINCIPAL_ID = /^([0-9a-f]{10}-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

// --- Names ---

const USER_NAME = /^(?!-)[\p{L}\p{M}\p{N}_+=,.@-]{1,128}$/u;
const DISPLAY_NAME = /^[^\p{C}]{1,128}$/u;
const EMAIL = /^[^\s\p{C}@]{1,190}@[^\s\p{C}@]{1,63}$/u;

/** What a second name must differ in. */
export function comparable(name: string): string {
  return name.normalize('NFC').toLowerCase();
}

/** Names and ids stand for users and groups in the same places. */
export function isPrincipalId(text: string): boolean {
  return PRINCIPAL_ID.test(text);
}

/** @throws ServiceError ValidationException */
function requireUser({ userName, displayName, email }: Pick<User, 'userName' | 'displayName' | 'email'>): void {
  if (!USER_NAME.test(userName) || isPrincipalId(comparable(userName))) {
    throw validationFailed(
      'The name of a user has 1 to 128 letters, digits and characters of _+=,.@-, does not begin with a dash, and is not ' +
        'the id of one.',
      'INVALID_USER_NAME',
    );
  }
  if (displayName !== undefined && !DISPLAY_NAME.test(displayName)) {
    throw validationFailed('A display name has 1 to 128 characters on one line.', 'INVALID_DISPLAY_NAME');
  }
  if (email !== undefined && !EMAIL.test(email)) {
    throw validationFailed('An e-mail address looks like name@example.org.', 'INVALID_EMAIL');
  }
}

// --- Rows ---

/**
 * @param principalId of somebody who had one elsewhere; a new one is made where absent.
 * @throws ServiceError ValidationException
 */
export function newUser(
  given: Pick<User, 'userName' | 'displayName' | 'email'>,
  identityStoreId: string,
  { ids, clock }: Pick<Services, 'ids' | 'clock'>,
  principalId = newPrincipalId(identityStoreId, ids),
): Row {
  requireUser(given);
  const now = clock.now();
  const doc: User = { principalId, identityStoreId, ...given, state: 'ENABLED', createdAt: wireTime(now) };
  return newRow({
    kind: KIND.user,
    id: principalId,
    uniqueName: comparable(given.userName),
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

/** The user's row, enabled or disabled, one version higher. Memberships stay as they are. */
export function withEnabled(before: Row, enabled: boolean): Row {
  const doc: User = { ...(JSON.parse(before.doc) as User), state: enabled ? 'ENABLED' : 'DISABLED' };
  const row = { ...before, version: before.version + 1, doc: JSON.stringify(doc) };
  if (enabled) return { ...row, state: PRESENT };
  const secret = { ...(JSON.parse(before.private) as object), timesDisabled: timesDisabled(before) + 1 };
  return { ...row, state: DISABLED, private: JSON.stringify(secret) };
}

/** How often the user was disabled: what was logged in for before the last time stays useless when he is enabled again. */
export function timesDisabled(row: Row): number {
  return (JSON.parse(row.private) as { timesDisabled?: number }).timesDisabled ?? 0;
}

/** The user's row under another name, one version higher. @throws ServiceError ValidationException */
export function withName(row: Row, userName: string): Row {
  const doc: User = { ...readUser(row), userName };
  requireUser({ userName });
  return { ...row, uniqueName: comparable(userName), version: row.version + 1, doc: JSON.stringify(doc) };
}

/** The user, or group, of this name or id. */
export async function findNamed(
  store: Store,
  kind: typeof KIND.user | typeof KIND.group,
  nameOrId: string,
): Promise<Row | undefined> {
  return isPrincipalId(nameOrId) ? store.get(kind, nameOrId) : findByName(store, kind, nameOrId);
}

export async function findByName(
  store: Store,
  kind: typeof KIND.user | typeof KIND.group,
  name: string,
): Promise<Row | undefined> {
  const [row] = await store.list({ kind, uniqueName: comparable(name), limit: 1 });
  return row;
}

export function readUser({ doc }: Row): User {
  return JSON.parse(doc) as User;
}

/** Whether this is the id of somebody who may sign in and use things. */
export async function isEnabledUser(store: Pick<Store, 'get'>, principalId: string): Promise<boolean> {
  return (await store.get(KIND.user, principalId))?.state === PRESENT;
}
