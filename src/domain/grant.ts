/**
 * Which stored policies a service or a user has. A grant belongs to whoever has the keys and not to a key, so a new key
 * may do what the one before it could. A policy that a grant names must never be deleted or passed over: a batch that
 * attaches one also raises the policy's version, so that of an attaching and a deleting one is overtaken.
 */
import type { Row, Store, Write } from '../store/store.ts';
import { SERVICE, USER } from './access.ts';
import type { Principal, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import type { Policies } from './policy.ts';
import { PolicyRefused } from './policy-json.ts';
import { CompiledPolicies } from './stored-policy.ts';
import { comparable, findByName, readUser } from './user.ts';

/** Who may have policies. */
export interface Holder {
  readonly role: typeof SERVICE | typeof USER;
  /** Of a user: what policies know as `aws:username`. */
  readonly name: string;
  /** What policies know as `aws:userid`. */
  readonly principalId: string;
}

/** `doc` of a grant's row. */
export interface Grant extends Holder {
  /** Names of stored policies. */
  readonly policies: readonly string[];
}

/** As many as the vendor attaches to one user. */
const POLICIES_MAX = 10;
/** As the vendor's names of users. */
const SERVICE_NAME = /^[\w+=,.@-]{1,64}$/;

/** A service is called by its name, which stays; a user's may change, but not the id. */
function grantId({ role, name, principalId }: Holder): string {
  return role === SERVICE ? `${SERVICE}/${name}` : `${USER}/${principalId}`;
}

export function readGrant(row: Row): Grant {
  return JSON.parse(row.doc) as Grant;
}

export function getGrant(store: Store, holder: Holder): Promise<Row | undefined> {
  return store.get(KIND.grant, grantId(holder));
}

/** More services than there are. */
const GRANTS_MAX = 10_000;

/** The service that is called like this, whatever the case of the letters: no user may have its name. */
export async function findServiceLike(name: string, store: Store): Promise<string | undefined> {
  const grants = await store.list({ kind: KIND.grant, limit: GRANTS_MAX });
  const services = grants.map(readGrant).filter(({ role }) => role === SERVICE);
  return services.find((service) => comparable(service.name) === comparable(name))?.name;
}

/**
 * The service of this name: the one that there is, or one that is first heard of now, of a name that no user has.
 * @throws PolicyRefused
 */
export async function serviceNamed(name: string, { store, ids }: Pick<Services, 'store' | 'ids'>): Promise<Holder> {
  if (!SERVICE_NAME.test(name)) {
    throw new PolicyRefused('The name of a service has 1 to 64 letters, digits and characters of _+=,.@-.');
  }
  const holder: Holder = { role: SERVICE, name, principalId: ids.principal() };
  const row = await getGrant(store, holder);
  if (row) return readGrant(row);
  const user = await findByName(store, KIND.user, name);
  if (user)
    throw new PolicyRefused(`There is a user ${readUser(user).userName}: a service must have a name of its own.`);
  return holder;
}

/**
 * Writes that give the holder these stored policies besides those it has.
 * @throws PolicyRefused when those are too many.
 */
export function attachPolicies(
  holder: Holder,
  before: Row | undefined,
  added: readonly string[],
  { clock }: Pick<Services, 'clock'>,
): Write[] {
  const policies = [...new Set([...(before ? readGrant(before).policies : []), ...added])];
  if (policies.length > POLICIES_MAX) {
    throw new PolicyRefused(`A service or a user has at most ${POLICIES_MAX} policies; detach one first.`);
  }
  return [writeGrant(holder, before, policies, clock.now())];
}

/** The write that takes a policy away. */
export function detachPolicy(before: Row, name: string): Write {
  const { policies, ...holder } = readGrant(before);
  const left = policies.filter((policy) => policy !== name);
  return writeGrant(holder, before, left, before.createdAt);
}

function writeGrant(holder: Holder, before: Row | undefined, policies: readonly string[], now: number): Write {
  const { role, name, principalId } = holder;
  const doc = JSON.stringify({ role, name, principalId, policies } satisfies Grant);
  if (before) return { op: 'update', row: { ...before, doc, version: before.version + 1 } };
  return { op: 'insert', row: newRow({ kind: KIND.grant, id: grantId(holder), createdAt: now, doc }) };
}

/** The row of a policy as it is, but a version later: whoever decided by the one before is overtaken. */
export function heldPolicy(row: Row): Write {
  return { op: 'update', row: { ...row, version: row.version + 1 } };
}

/**
 * Finds the policies that principals have, for every request anew: what changes, here or in another process, counts at
 * once.
 */
export function createGrants(store: Store) {
  const compiled = new CompiledPolicies();

  /** @throws PolicyRefused when one cannot be read any more; Error when one is not there. */
  async function policiesOf(holder: Holder): Promise<readonly Policies[]> {
    for (let row = await getGrant(store, holder); row; ) {
      const { policies } = readGrant(row);
      const found = await Promise.all(policies.map((name) => store.get(KIND.policy, name)));
      const missing = found.indexOf(undefined);
      if (missing < 0) return found.map((policy) => compiled.of(policy!));
      // It may have been taken away and deleted since the grant was read; that is another version of the grant.
      const now = await getGrant(store, holder);
      if (now?.version === row.version) {
        throw new Error(`${row.id} has the policy ${policies[missing]}, which is not there`);
      }
      row = now;
    }
    return [];
  }

  /** The principal with its policies: at once for an administrator, who needs none. */
  return function withPolicies(principal: Principal): Principal | Promise<Principal> {
    const { role, username: name = '', principalId } = principal;
    if (role !== SERVICE && role !== USER) return principal;
    return policiesOf({ role, name, principalId }).then((policies) => ({ ...principal, policies }));
  };
}
