/**
 * Access keys: what requests are signed with, and whose they are. The secret is sealed by the key service before it is
 * stored, shown once when it is made, and never again. A key is the administrator's, or a service's or a user's, who may
 * do what their policies allow; it carries no rights of its own. One that a user has logged in for ends by itself, and is
 * of no use without its session token, of which only a digest is kept.
 */
import { createHash } from 'node:crypto';
import { wireTime } from '../clock.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store } from '../store/store.ts';
import { ADMINISTRATOR, SERVICE, type USER } from './access.ts';
import type { Principal, Services } from './context.ts';
import type { Holder } from './grant.ts';
import { KIND, newRow, PRESENT } from './kinds.ts';
import { type StoredPassword, storedPassword } from './password.ts';
import { timesDisabled } from './user.ts';

/** `doc` of an access key's row: what may be listed. */
export interface AccessKey {
  readonly accessKeyId: string;
  /** For people: what the key is for. */
  readonly name: string;
  readonly principalId: string;
  /** Only the first may do everything. */
  readonly role: typeof ADMINISTRATOR | typeof SERVICE | typeof USER;
  /** Name of the service or the user; absent for an administrator. */
  readonly service?: string;
  readonly user?: string;
  readonly createdAt: string;
  /** Of one that was logged in for. */
  readonly expiresAt?: string;
}

/** State of the row of a key that ends by itself: its `dueAt` says when. Others are PRESENT. */
export const TEMPORARY = 'TEMPORARY';

export interface NewAccessKey {
  readonly row: Row;
  readonly secretAccessKey: string;
}

type Makers = Pick<Services, 'ids' | 'clock'>;

/** @param holder whose it is; the administrator's where absent. */
export function newAccessKey(name: string, keys: Keys, { ids, clock }: Makers, holder?: Holder): NewAccessKey {
  const accessKeyId = ids.accessKey();
  const principalId = holder?.principalId ?? `AIDA${accessKeyId.slice(4)}`;
  const role = holder?.role ?? (ADMINISTRATOR as AccessKey['role']);
  const secretAccessKey = ids.secretKey();
  const now = clock.now();
  const whose = { principalId, role, ...(holder && { [holder.role]: holder.name }) };
  const doc: AccessKey = { accessKeyId, name, ...whose, createdAt: wireTime(now) };
  const row = newRow({
    kind: KIND.accessKey,
    id: accessKeyId,
    ownerId: holder ? holder.principalId : null,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify({ sealedSecret: keys.seal(secretAccessKey, sealContext(accessKeyId)) }),
  });
  return { row, secretAccessKey };
}

interface LoggedIn {
  readonly expiresAt: number;
  readonly password: StoredPassword;
  /** As the row was when the password was looked at. */
  readonly user: Row;
}

/** A key that is refused from `expiresAt` on, and without its session token. */
export function newTemporaryKey(
  holder: Holder,
  { expiresAt, password, user }: LoggedIn,
  keys: Keys,
  { ids, clock }: Makers,
): NewAccessKey & { readonly sessionToken: string } {
  const made = newAccessKey('log-in', keys, { ids: { ...ids, accessKey: ids.temporaryAccessKey }, clock }, holder);
  const sessionToken = ids.sessionToken();
  const row: Row = {
    ...made.row,
    state: TEMPORARY,
    dueAt: expiresAt,
    doc: JSON.stringify({ ...JSON.parse(made.row.doc), expiresAt: wireTime(expiresAt) } satisfies AccessKey),
    private: JSON.stringify({
      ...JSON.parse(made.row.private),
      sessionTokenDigest: digestOf(sessionToken),
      salt: password.salt,
      timesDisabled: timesDisabled(user),
    }),
  };
  return { row, secretAccessKey: made.secretAccessKey, sessionToken };
}

/** Enough for a text of 256 random bits. */
function digestOf(sessionToken: string): string {
  return createHash('sha256').update(sessionToken).digest('hex');
}

/** Whose key it is. Policies are not read here: they may change while the key stays. */
export function readPrincipal(row: Row): Principal {
  const { principalId, role, service, user } = JSON.parse(row.doc) as AccessKey;
  const username = role === SERVICE ? service : user;
  return { accessKeyId: row.id, principalId, role, ...(username !== undefined && { username }) };
}

/** What a request must have been signed with. */
export interface KeySecrets {
  /** In the clear. */
  readonly secretAccessKey: string;
  /** SHA-256 in hexadecimal digits. */
  readonly sessionTokenDigest?: string;
  /** In ms since 1970. */
  readonly expiresAt?: number;
}

export function openSecrets(row: Row, keys: Keys): KeySecrets {
  const { sealedSecret, sessionTokenDigest } = JSON.parse(row.private) as {
    readonly sealedSecret: string;
    readonly sessionTokenDigest?: string;
  };
  const secretAccessKey = keys.open(sealedSecret, sealContext(row.id));
  if (row.state !== TEMPORARY) return { secretAccessKey };
  if (sessionTokenDigest === undefined || row.dueAt === null) throw new Error(`${row.id} does not say when it ends`);
  return { secretAccessKey, sessionTokenDigest, expiresAt: row.dueAt };
}

/**
 * Whether whoever has the key may still use it: a user may be disabled or gone, and what was logged in for ends for good
 * when its user is disabled or gets a new password.
 */
export async function isHeld(row: Row, store: Pick<Store, 'get'>): Promise<boolean> {
  if (row.ownerId === null) return false;
  const user = await store.get(KIND.user, row.ownerId);
  if (user?.state !== PRESENT) return false;
  if (row.state !== TEMPORARY) return true;
  const { salt, timesDisabled: before = 0 } = JSON.parse(row.private) as { salt: string; timesDisabled?: number };
  if (timesDisabled(user) !== before) return false;
  // Each password has a salt of its own: of two moments, the clock could not always tell which came first.
  return (await storedPassword(store, row.ownerId))?.salt === salt;
}

/** Binds a sealed secret to its key id: one row's secret is of no use in another. */
function sealContext(accessKeyId: string): string {
  return `access-key/${accessKeyId}`;
}
