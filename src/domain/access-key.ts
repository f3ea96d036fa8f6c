/**
 * Access keys: what requests are signed with, and what their bearer may do. The secret is sealed by the key service before
 * it is stored, shown once when it is made, and never again. A key is either the administrator's or carries policies.
 *
 * Policies are stored as they were written and compiled when they are used. One that does not compile must never be left
 * out: it may be the one that denies.
 */
import { wireTime } from '../clock.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row } from '../store/store.ts';
import { ADMINISTRATOR } from './access.ts';
import type { Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { compilePolicy, joinPolicies, type Place, type Policy } from './policy.ts';
import { PolicyRefused } from './policy-json.ts';

/** `doc` of an access key's row: what may be listed. */
export interface AccessKey {
  readonly accessKeyId: string;
  /** For people: what the key is for. */
  readonly name: string;
  readonly principalId: string;
  /** Only the first may do everything. */
  readonly role: typeof ADMINISTRATOR | typeof POLICIES;
  /** The one that policies know as `aws:username`. */
  readonly service?: string;
  /** Names of the policies; absent for an administrator. */
  readonly policies?: readonly string[];
  readonly createdAt: string;
}

const POLICIES = 'policies';

/** A policy as it was written. */
export interface PolicySource {
  readonly name: string;
  readonly text: string;
}

/** What a key is given when it is made. */
export interface Grant {
  readonly service?: string | undefined;
  /** None makes an administrator. */
  readonly policies: readonly PolicySource[];
  /** What this installation's ARNs name. */
  readonly place: Place;
}

export interface NewAccessKey {
  readonly row: Row;
  readonly secretAccessKey: string;
}

/** As many as the vendor attaches to one user. */
const POLICIES_MAX = 10;
/** As the vendor's names of users. */
const SERVICE = /^[\w+=,.@-]{1,64}$/;

/** @throws PolicyRefused */
export function newAccessKey(
  name: string,
  keys: Keys,
  { ids, clock }: Pick<Services, 'ids' | 'clock'>,
  grant?: Grant,
): NewAccessKey {
  if (grant) requireGrant(grant);
  const { service, policies = [] } = grant ?? {};
  const now = clock.now();
  const accessKeyId = ids.accessKey();
  const secretAccessKey = ids.secretKey();
  const doc: AccessKey = {
    accessKeyId,
    name,
    principalId: `AIDA${accessKeyId.slice(4)}`,
    role: policies.length === 0 ? ADMINISTRATOR : POLICIES,
    ...(service !== undefined && { service }),
    ...(policies.length > 0 && { policies: policies.map((policy) => policy.name) }),
    createdAt: wireTime(now),
  };
  const sealedSecret = keys.seal(secretAccessKey, sealContext(accessKeyId));
  const row = newRow({
    kind: KIND.accessKey,
    id: accessKeyId,
    createdAt: now,
    doc: JSON.stringify(doc),
    private: JSON.stringify({ sealedSecret, ...(policies.length > 0 && { policies }) }),
  });
  return { row, secretAccessKey };
}

/** @throws PolicyRefused also for what no policy is wrong in by itself: what it says would come to nothing here. */
function requireGrant({ service, policies, place }: Grant): void {
  if (service !== undefined && !SERVICE.test(service)) {
    throw new PolicyRefused('The name of a service has 1 to 64 letters, digits and characters of _+=,.@-.');
  }
  if (policies.length > POLICIES_MAX) throw new PolicyRefused(`An access key has at most ${POLICIES_MAX} policies.`);
  for (const { name, text } of policies) {
    for (const { number, needed, isElsewhere } of compileNamed(name, text).statements) {
      if (isElsewhere(place)) {
        const here = `region ${place.region} and account ${place.accountId}`;
        throw new PolicyRefused(`${name}: Statement ${number} names nothing of ${here}, so it would do nothing here.`);
      }
      if (service === undefined && needed.includes('aws:username')) {
        throw new PolicyRefused(
          `${name}: Statement ${number} needs aws:username; name the service that the key is for.`,
        );
      }
    }
  }
}

/** @throws PolicyRefused that begins with the policy's name. */
function compileNamed(name: string, text: string): Policy {
  try {
    return compilePolicy(name, text);
  } catch (error) {
    if (error instanceof PolicyRefused) throw new PolicyRefused(`${name}: ${error.message}`);
    throw error;
  }
}

/** Whose key it is, with the policies compiled. */
export function readPrincipal(row: Row): Principal {
  const { principalId, role, service } = JSON.parse(row.doc) as AccessKey;
  const principal: Principal = {
    accessKeyId: row.id,
    principalId,
    role,
    ...(service !== undefined && { username: service }),
  };
  if (role !== POLICIES) return principal;
  const { policies } = JSON.parse(row.private) as { policies: readonly PolicySource[] };
  return { ...principal, policies: joinPolicies(policies.map(({ name, text }) => compileNamed(name, text))) };
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
