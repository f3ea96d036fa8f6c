/**
 * Access keys: what requests are signed with. The secret is sealed by the key service before it is stored, shown once
 * when it is made, and never again. Every access key belongs to the installation's administrator.
 */
import { wireTime } from '../clock.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';

/** `doc` of an access key's row: what may be listed. */
export interface AccessKey {
  readonly accessKeyId: string;
  /** For people: what the key is for. */
  readonly name: string;
  readonly principalId: string;
  readonly role: 'administrator';
  readonly createdAt: string;
}

export interface NewAccessKey {
  readonly row: Row;
  readonly secretAccessKey: string;
}

export function newAccessKey(name: string, keys: Keys, { ids, clock }: Pick<Services, 'ids' | 'clock'>): NewAccessKey {
  const now = clock.now();
  const accessKeyId = ids.accessKey();
  const secretAccessKey = ids.secretKey();
  const doc: AccessKey = {
    accessKeyId,
    name,
    principalId: `AIDA${accessKeyId.slice(4)}`,
    role: 'administrator',
    createdAt: wireTime(now),
  };
  const sealedSecret = keys.seal(secretAccessKey, sealContext(accessKeyId));
  const row = newRow({
    kind: KIND.accessKey,
    id: accessKeyId,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify({ sealedSecret }),
  });
  return { row, secretAccessKey };
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
