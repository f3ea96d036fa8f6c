/**
 * Access keys: what requests are signed with, and whose they are. The secret is sealed by the key service before it is
 * stored, shown once when it is made, and never again. A key is the administrator's, or a service's or a user's, who may
 * do what their policies allow; it carries no rights of its own.
 */
import { wireTime } from '../clock.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row } from '../store/store.ts';
import { ADMINISTRATOR } from './access.ts';
import type { Principal, Services } from './context.ts';
import type { Holder } from './grant.ts';
import { KIND, newRow } from './kinds.ts';

export const SERVICE = 'service';
export const USER = 'user';

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
}

export interface NewAccessKey {
  readonly row: Row;
  readonly secretAccessKey: string;
}

/** @param holder whose it is; the administrator's where absent. */
export function newAccessKey(
  name: string,
  keys: Keys,
  { ids, clock }: Pick<Services, 'ids' | 'clock'>,
  holder?: Holder,
): NewAccessKey {
  const now = clock.now();
  const accessKeyId = ids.accessKey();
  const secretAccessKey = ids.secretKey();
  const doc: AccessKey = {
    accessKeyId,
    name,
    principalId: holder?.principalId ?? `AIDA${accessKeyId.slice(4)}`,
    role: holder?.role ?? ADMINISTRATOR,
    ...(holder && { [holder.role]: holder.name }),
    createdAt: wireTime(now),
  };
  const sealedSecret = keys.seal(secretAccessKey, sealContext(accessKeyId));
  const row = newRow({
    kind: KIND.accessKey,
    id: accessKeyId,
    ownerId: holder ? holder.principalId : null,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify({ sealedSecret }),
  });
  return { row, secretAccessKey };
}

/** Whose key it is. Policies are not read here: they may change while the key stays. */
export function readPrincipal(row: Row): Principal {
  const { principalId, role, service, user } = JSON.parse(row.doc) as AccessKey;
  const username = role === SERVICE ? service : user;
  return { accessKeyId: row.id, principalId, role, ...(username !== undefined && { username }) };
}

/** The secret in the clear, for checking signatures. */
export function openSecret(row: Row, keys: Keys): string {
  const { sealedSecret } = JSON.parse(row.private) as { sealedSecret: string };
  return keys.open(sealedSecret, sealContext(row.id));
}

/** Binds a sealed secret to its key id: one row's secret is of no use in another. */
function sealContext(accessKeyId: string): string {
  return `access-key/${accessKeyId}`;
}
