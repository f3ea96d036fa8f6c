/**
 * Who may call what. The default is to refuse: a call is made only by the administrator, or where a policy of the caller
 * allows it and none denies it: one that was attached, or one of what a user is a member of (persona.ts). What even an administrator may not change (images provided for every studio) is a
 * rule of the resource.
 *
 * The order of checks, of which none may be moved:
 *
 * 1. The signature, then the form of the input. Neither says anything about what exists.
 * 2. The policies, against the ARN that the caller named, and against the tags of the row behind it where a policy looks
 *    at them. The row counts only where it is of the studio that the caller named: tags of other studios decide nothing.
 * 3. What exists, in the handler: 404, 409 and all else.
 *
 * Nobody may learn from 2 what 3 would not have told. So where a policy looks at the resource and there is none, what it
 * would see is unknown, and the unknown counts against the caller, who is refused as for a resource with the wrong tags.
 * And the message of a refusal is always that of the unknown, whatever the tags were.
 */
import type { Operation } from '../contract/operation.ts';
import { ServiceError } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import { type Asking, contextOf, namesOf } from './access-context.ts';
import { arnOf, parseArn } from './arn.ts';
import type { DomainSettings, Origin, Principal, Services } from './context.ts';
import { requireFilter } from './eula.ts';
import { AMAZON, KIND } from './kinds.ts';
import { PERMISSIONS, type Permission } from './permissions.ts';
import { personasIn } from './persona.ts';
import { type Decision, evaluateAll, type Policies, statementsAbout } from './policy.ts';
import type { ResourceType } from './policy-terms.ts';
import { requireTags } from './tag-limits.ts';

export const ADMINISTRATOR = 'administrator';
export const SERVICE = 'service';
export const USER = 'user';

type Input = Readonly<Record<string, unknown>>;
type Place = Pick<DomainSettings, 'region' | 'accountId'>;
type Parts = Pick<Services, 'store' | 'clock' | 'settings'>;

export interface Call {
  readonly operation: Pick<Operation, 'name'>;
  /** Validated. */
  readonly input: Input;
  readonly principal: Principal;
  readonly origin: Origin;
}

interface Resource {
  /** Every name it has, the one for messages first. */
  readonly names: readonly string[];
  /** The row that can tell more of it; absent where there is no such row for this type. */
  readonly row?: { readonly kind: string; readonly id: string };
}

/** One question to the policies. */
interface Check extends Resource {
  readonly action: string;
}

/**
 * @returns undefined, at once, for the administrator; else a promise that settles when the policies have decided, and
 * rejects with AccessDeniedException.
 */
export function authorize(call: Call, parts: Parts): Promise<void> | undefined {
  return call.principal.role === ADMINISTRATOR ? undefined : decide(call, parts);
}

async function decide(call: Call, parts: Parts): Promise<void> {
  const permission = permissionOf(call.operation.name);
  if (!permission) throw denied(call, { action: call.operation.name, names: ['*'] }, 'implicit-deny', parts.settings);
  if (call.input.tags) requireTags(call.input.tags as Record<string, string>);
  const policies = await policiesOf(call, permission, parts.store);
  for (const check of checksOf(call, permission, parts.settings)) {
    await requireAllowed({ ...call, permission, policies }, check, parts);
  }
}

/** Those that were given to the caller, and those of what a user is a member of. */
async function policiesOf(call: Call, permission: Permission, store: Store): Promise<readonly Policies[]> {
  const { role, principalId, policies = [] } = call.principal;
  if (role !== USER) return policies;
  const personas = await personasIn(permission, call.input, principalId, store);
  return [...policies, ...personas.map((persona) => persona.policies)];
}

/** A call with all that decides about it. */
interface Question extends Call {
  readonly permission: Permission;
  readonly policies: readonly Policies[];
}

function permissionOf(operation: string): Permission | undefined {
  const permissions: Readonly<Record<string, Permission>> = PERMISSIONS;
  return Object.hasOwn(permissions, operation) ? permissions[operation] : undefined;
}

async function requireAllowed(call: Question, check: Check, parts: Parts): Promise<void> {
  const { policies } = call;
  const { settings, clock, store } = parts;
  const action = `nimble:${check.action}`;
  const asking: Asking = { ...call, now: clock.now(), settings };
  const ask = (row: Row | undefined): Decision['decision'] => {
    const context = contextOf(asking, check.row && { row });
    return evaluateAll(policies, { action, resource: check.names, context }).decision;
  };
  const looks =
    check.row && policies.some((each) => statementsAbout(each, action).some(({ looksAtResource }) => looksAtResource));
  const row = looks ? await visibleRow(store, check.row!, call.input) : undefined;
  if (ask(row) !== 'allow') throw denied(call, check, ask(undefined), settings);
}

/** The row, where it is of the studio that the caller named; a caller who names an ARN names no studio. */
async function visibleRow(store: Store, { kind, id }: NonNullable<Resource['row']>, input: Input) {
  const row = await store.get(kind, id);
  if (!row || kind === KIND.studio || input.studioId === undefined) return row;
  return row.studioId === input.studioId || row.studioId === AMAZON ? row : undefined;
}

function checksOf({ operation, input }: Call, permission: Permission, place: Place): Check[] {
  const checks: Check[] = resourcesOf(permission, input, place).map((one) => ({ ...one, action: operation.name }));
  if (permission.makes && input.tags && Object.keys(input.tags).length > 0) {
    checks.push({ action: 'TagResource', names: [arnOf(permission.makes, '*', place)] });
  }
  return checks;
}

/** At least one. */
function resourcesOf({ on, id: member }: Permission, input: Input, place: Place): Resource[] {
  if (on === 'any') return [{ names: ['*'] }];
  const given = member === undefined ? undefined : (input[member] as string | readonly string[] | undefined);
  if (on === 'named') return [namedBy(given as string, place)];
  if (typeof given === 'string') return [resourceOf(on, given, place)];
  const ids = requireFilter(given ?? []);
  return ids.length > 0 ? ids.map((id) => resourceOf(on, id, place)) : [{ names: [arnOf(on, '*', place)] }];
}

/** EULAs have no tags and no owner: their rows have nothing to tell. */
const UNTOLD: readonly ResourceType[] = ['eula', 'eula-acceptance'];

function resourceOf(type: ResourceType, id: string, place: Place): Resource {
  const names = namesOf(type, id, place);
  return UNTOLD.includes(type) ? { names } : { names, row: { kind: type, id } };
}

/** The resource of an ARN under its own names: a Deny must not be passed by writing the ARN in another way. */
function namedBy(arn: string, place: Place): Resource {
  const named = parseArn(arn, place);
  return named ? resourceOf(named.kind, named.id, place) : { names: [arn] };
}

/** Worded as the vendor's services word it: scripts look for it. */
function denied(call: Call, check: Check, decision: Decision['decision'], { accountId }: Place): ServiceError {
  const { principalId, username } = call.principal;
  const user = `arn:aws:iam::${accountId}:user/${username ?? principalId}`;
  const why =
    decision === 'explicit-deny'
      ? 'with an explicit deny in an identity-based policy'
      : `because no identity-based policy allows the nimble:${check.action} action`;
  return new ServiceError(
    'AccessDeniedException',
    `User: ${user} is not authorized to perform: nimble:${check.action} on resource: ${check.names[0]} ${why}`,
    { code: 'NOT_AUTHORIZED' },
  );
}
