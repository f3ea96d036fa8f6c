/**
 * Who calls in a simulation: the administrator, services and users who are more or less than one another, and what is done
 * on the command line to what they may. The policies are texts as administrators write them; what each of them says is
 * written a second time beside it, as plainly as possible, for the oracle.
 */

import { undisturbed } from '../../src/cli/undisturbed.ts';
import type { OperationName } from '../../src/contract/index.ts';
import { newAccessKey, readPrincipal } from '../../src/domain/access-key.ts';
import type { Principal } from '../../src/domain/context.ts';
import { attachPolicies, detachPolicy, getGrant, type Holder, heldPolicy, readGrant } from '../../src/domain/grant.ts';
import { addToGroup, groupMemberId } from '../../src/domain/group.ts';
import { KIND, PRESENT } from '../../src/domain/kinds.ts';
import { storePolicy } from '../../src/domain/stored-policy.ts';
import { withEnabled } from '../../src/domain/user.ts';
import type { World } from '../support/domain.ts';
import type { Random } from '../support/random.ts';
import { putGroup, putMember, putUser } from '../support/rows.ts';
import { both, certain, either, type Held } from './facts.ts';
import type { SessionStudio } from './sessions.ts';

/** What a policy can look at in one of the questions that a call asks. */
export interface Check {
  readonly action: OperationName;
  /** Whether the resource is there, and has this value of the tag `show`. */
  readonly shows: (value: string) => Held;
  /** Whether it is a resource with tags, but none that can be seen: they are unknown. */
  readonly unseen: Held;
  readonly isIn: (studioIds: readonly string[]) => Held;
}

/** One wording of a policy. */
export interface Wording {
  readonly text: string;
  readonly effect: 'Allow' | 'Deny';
  readonly isAbout: (check: Check) => Held;
}

/** A stored policy, which is worded in one way or in another. */
export interface Rule {
  readonly name: string;
  readonly wordings: readonly [Wording, Wording];
}

type Actions = readonly string[];
const ANYTHING: Actions = ['nimble:*'];
const READING: Actions = ['nimble:Get*', 'nimble:List*'];
const TAKING_AWAY: Actions = ['nimble:Delete*', 'nimble:Untag*', 'nimble:Update*'];

function worded(
  effect: Wording['effect'],
  actions: Actions,
  is: (check: Check) => Held,
  Condition?: Readonly<Record<string, object>>,
): Wording {
  const statement = { Effect: effect, Action: actions, Resource: '*', ...(Condition && { Condition }) };
  const begins = actions.map((action) => action.slice('nimble:'.length, -'*'.length));
  return {
    text: JSON.stringify({ Version: '2012-10-17', Statement: [statement] }),
    effect,
    isAbout: (check) => both(certain(begins.some((begin) => check.action.startsWith(begin))), is(check)),
  };
}

function rulesFor(studioIds: readonly string[]): Rule[] {
  const shows = (value: string) => ({ StringEquals: { 'aws:ResourceTag/show': value } });
  const inStudios = (ids: readonly string[]) => ({ StringEquals: { 'nimble:StudioId': ids } });
  const always = () => certain(true);
  const first = studioIds.slice(0, 1);
  const isOpen = (check: Check) => check.shows('open');
  // What cannot be seen may be secret.
  const isSecret = (check: Check) => either(check.shows('secret'), check.unseen);
  return [
    { name: 'everything', wordings: [worded('Allow', ANYTHING, always), worded('Allow', READING, always)] },
    {
      name: 'what-is-open',
      wordings: [worded('Allow', ANYTHING, isOpen, shows('open')), worded('Allow', READING, isOpen, shows('open'))],
    },
    {
      name: 'some-studios',
      wordings: [
        worded('Allow', ANYTHING, (check) => check.isIn(first), inStudios(first)),
        worded('Allow', ANYTHING, (check) => check.isIn(studioIds), inStudios(studioIds)),
      ],
    },
    {
      name: 'no-secrets',
      wordings: [
        worded('Deny', ANYTHING, isSecret, shows('secret')),
        worded('Deny', TAKING_AWAY, isSecret, shows('secret')),
      ],
    },
  ];
}

/** Somebody with an access key. */
export type Caller = Principal & { readonly called: string };

export interface People {
  readonly administrator: Caller;
  /** Services and users. */
  readonly others: readonly Caller[];
  readonly groupId: string;
  readonly rules: readonly Rule[];
}

/** The one who is never given anything. */
export const NOBODY = 'dora';

/** Ann administers the first studio, ben may use its profile; cleo may use that of the second, in a group. */
export async function preparePeople(world: World, studios: readonly SessionStudio[]): Promise<People> {
  const holders: Holder[] = ['farm', 'archive'].map((name) => ({ role: 'service', name, principalId: `AIDA${name}` }));
  for (const name of ['ann', 'ben', 'cleo', NOBODY]) {
    holders.push({ role: 'user', name, principalId: await putUser(world, name) });
  }
  const ids = new Map(holders.map(({ name, principalId }) => [name, principalId]));
  const groupId = await putGroup(world, 'all', [ids.get('cleo')!]);
  const [first, second] = studios as [SessionStudio, SessionStudio];
  await putMember(world, first.studioId, ids.get('ann')!);
  await putMember(world, first.studioId, ids.get('ben')!, first.launchProfileId);
  await putMember(world, second.studioId, groupId, second.launchProfileId);
  const rules = rulesFor(studios.map(({ studioId }) => studioId));
  for (const rule of rules) await putPolicy(world, rule, 0);
  await attach(world, holders[0]!, 'what-is-open');
  await attach(world, holders[0]!, 'some-studios');
  await attach(world, holders[1]!, 'everything');
  await attach(world, holders[1]!, 'no-secrets');
  const others: Caller[] = [];
  for (const holder of holders) others.push(await keyFor(world, holder.name, holder));
  return { administrator: await keyFor(world, 'administrator'), others, groupId, rules };
}

async function keyFor({ store, keys, services }: World, called: string, holder?: Holder): Promise<Caller> {
  const { row } = newAccessKey(called, keys, services, holder);
  await store.write([{ op: 'insert', row }]);
  return { ...readPrincipal(row), called };
}

// --- What is done on the command line ---

/** What may be done to what people may; the names are those of the commands. */
export const RIGHTS_CHANGES = [
  'user disable',
  'user enable',
  'group add',
  'group remove',
  'policy put',
  'policy attach',
  'policy detach',
  'policy delete',
] as const;

export type RightsChange = (typeof RIGHTS_CHANGES)[number];

/** Changes what somebody may; nothing where there is nothing to be changed. @returns whether it did. */
export async function changeRights(
  change: RightsChange,
  world: World,
  { others, groupId, rules }: People,
  random: Random,
): Promise<boolean> {
  const changeable = others.filter(({ called }) => called !== NOBODY);
  const user = random.pick(changeable.filter(({ role }) => role === 'user'));
  const { principalId } = user;
  const holder = holderOf(random.chance(0.4) ? user : random.pick(changeable.filter(({ role }) => role === 'service')));
  const rule = random.pick(rules);
  const wording = random.below(2);
  const work: Record<RightsChange, () => Promise<boolean>> = {
    'user disable': () => setEnabled(world, principalId, false),
    'user enable': () => setEnabled(world, principalId, true),
    'group add': () => joinGroup(world, groupId, principalId),
    'group remove': () => leaveGroup(world, groupId, principalId),
    'policy put': () => putPolicy(world, rule, wording),
    'policy attach': () => attach(world, holder, rule.name),
    'policy detach': () => detach(world, holder, rule.name),
    'policy delete': () => deletePolicy(world, [rule.name, ...rules.map(({ name }) => name)]),
  };
  return undisturbed(work[change]);
}

function holderOf({ role, username, principalId }: Caller): Holder {
  return { role: role as Holder['role'], name: username!, principalId };
}

async function setEnabled({ store }: World, principalId: string, enabled: boolean): Promise<boolean> {
  const row = (await store.get(KIND.user, principalId))!;
  if ((row.state === PRESENT) === enabled) return false;
  await store.write([{ op: 'update', row: withEnabled(row, enabled) }]);
  return true;
}

async function joinGroup(world: World, groupId: string, userId: string): Promise<boolean> {
  const { store } = world;
  const [group, user] = [(await store.get(KIND.group, groupId))!, (await store.get(KIND.user, userId))!];
  const writes = await addToGroup(group, user, world);
  if (writes.length > 0) await store.write(writes);
  return writes.length > 0;
}

async function leaveGroup({ store }: World, groupId: string, userId: string): Promise<boolean> {
  const row = await store.get(KIND.groupMember, groupMemberId(groupId, userId));
  if (row) await store.write([{ op: 'delete', kind: row.kind, id: row.id, version: row.version }]);
  return row !== undefined;
}

async function putPolicy({ store, services }: World, { name, wordings }: Rule, wording: number): Promise<boolean> {
  const before = await store.get(KIND.policy, name);
  const row = storePolicy({ name, text: wordings[wording]!.text }, before, services);
  await store.write([{ op: before ? 'update' : 'insert', row }]);
  return true;
}

async function attach({ store, services }: World, holder: Holder, name: string): Promise<boolean> {
  const grant = await getGrant(store, holder);
  const policy = await store.get(KIND.policy, name);
  if (!policy || (grant && readGrant(grant).policies.includes(name))) return false;
  await store.write([heldPolicy(policy), ...attachPolicies(holder, grant, [name], services)]);
  return true;
}

async function detach({ store }: World, holder: Holder, name: string): Promise<boolean> {
  const grant = await getGrant(store, holder);
  if (!grant || !readGrant(grant).policies.includes(name)) return false;
  await store.write([detachPolicy(grant, name)]);
  return true;
}

/** The first of these that is there and that nobody has. Read before the grants: whoever attaches it meanwhile overtakes this. */
async function deletePolicy({ store }: World, names: readonly string[]): Promise<boolean> {
  const found = await Promise.all(names.map((id) => store.get(KIND.policy, id)));
  const grants = await store.list({ kind: KIND.grant, limit: 100 });
  const held = grants.flatMap((grant) => readGrant(grant).policies);
  const policy = found.find((row) => row && !held.includes(row.id));
  if (!policy) return false;
  await store.write([{ op: 'delete', kind: policy.kind, id: policy.id, version: policy.version }]);
  return true;
}
