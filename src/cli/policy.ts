/** `backlot policy`: stores IAM policies, gives them to services and users, checks them, and explains what they decide. */
import { systemClock } from '../clock.ts';
import { commandLine } from '../domain/audit.ts';
import { attachPolicies, detachPolicy, type Grant, type Holder, heldPolicy, readGrant } from '../domain/grant.ts';
import { KIND } from '../domain/kinds.ts';
import { evaluateAll, joinPolicies, type Policies, type Statement } from '../domain/policy.ts';
import type { Context } from '../domain/policy-context.ts';
import { conditionKey } from '../domain/policy-terms.ts';
import { compileSource, type StoredPolicy, sourceOf, storePolicy } from '../domain/stored-policy.ts';
import type { Parts } from '../service.ts';
import type { Row, Store } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { HOLDER_OPTIONS, requireHolder } from './holder.ts';
import { listDocuments } from './list-documents.ts';
import { readPolicies, readPolicyText } from './policy-file.ts';
import { undisturbed } from './undisturbed.ts';
import { withParts } from './with-parts.ts';

export const policyCommands: readonly Command[] = [
  {
    name: 'policy put',
    summary: 'Stores a policy under a name, in place of the one before; whoever has it is held to it at once.',
    positionals: ['NAME', 'FILE'],
    options: {},
    note: 'FILE may be - for what is piped in.',
    run: (given, config) => {
      const [name, file] = given.positionals as [string, string];
      const source = { name, text: readPolicyText(file) };
      compileSource(source);
      return withParts(config, async (parts) => {
        const row = await undisturbed(async () => {
          const before = await parts.store.get(KIND.policy, name);
          const next = storePolicy(source, before, parts);
          const line = commandLine('policy put', name, parts);
          await parts.store.write([{ op: before ? 'update' : 'insert', row: next }, line]);
          return next;
        });
        return JSON.parse(row.doc) as StoredPolicy;
      });
    },
  },
  {
    name: 'policy list',
    summary: 'Lists stored policies, and who has them.',
    positionals: [],
    options: {},
    run: (_given, config) =>
      withParts(config, async ({ store }) => {
        const policies = await listDocuments<StoredPolicy>(store, KIND.policy);
        const grants = await listDocuments<Grant>(store, KIND.grant);
        return policies.map((policy) => ({ ...policy, attachedTo: holdersOf(policy.name, grants) }));
      }),
  },
  {
    name: 'policy show',
    summary: 'Prints a stored policy as it was written.',
    positionals: ['NAME'],
    options: {},
    run: (given, config) =>
      withParts(config, async ({ store }) => {
        const { text } = sourceOf(await requireStored(given.positionals[0]!, store));
        process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
        return undefined;
      }),
  },
  {
    name: 'policy delete',
    summary: 'Deletes a stored policy that nobody has.',
    positionals: ['NAME'],
    options: {},
    run: (given, config) =>
      withParts(config, async (parts) => {
        const { store } = parts;
        const [name] = given.positionals as [string];
        await undisturbed(async () => {
          const { kind, id, version } = await requireStored(name, store);
          const holders = holdersOf(name, await listDocuments<Grant>(store, KIND.grant));
          if (holders.length > 0)
            throw new CommandFailed(`${name} is attached to ${holders.join(', ')}: policy detach it there first.`);
          await store.write([{ op: 'delete', kind, id, version }, commandLine('policy delete', name, parts)]);
        });
        return { deleted: name };
      }),
  },
  {
    name: 'policy attach',
    summary: 'Gives a stored policy to a service or a user: all their keys may do what it allows, at once.',
    positionals: ['NAME'],
    options: HOLDER_OPTIONS,
    run: (given, config) =>
      withParts(config, async (parts) => {
        await undisturbed(async () => {
          const { holder, grant } = await requireHolder(given, parts);
          const policy = await requireStored(given.positionals[0]!, parts.store);
          const line = commandLine('policy attach', policy.id, parts);
          await parts.store.write([heldPolicy(policy), ...attachPolicies(holder, grant, [policy.id], parts), line]);
        });
        return shownGrant(given, parts);
      }),
  },
  {
    name: 'policy detach',
    summary: 'Takes a stored policy away from a service or a user.',
    positionals: ['NAME'],
    options: HOLDER_OPTIONS,
    run: (given, config) =>
      withParts(config, async (parts) => {
        const [name] = given.positionals as [string];
        await undisturbed(async () => {
          const { holder, grant } = await requireHolder(given, parts);
          if (!grant || !readGrant(grant).policies.includes(name))
            throw new CommandFailed(`${calledBy(holder)} does not have the policy ${name}.`);
          await parts.store.write([detachPolicy(grant, name), commandLine('policy detach', name, parts)]);
        });
        return shownGrant(given, parts);
      }),
  },
  {
    name: 'policy check',
    summary: 'Says whether a file is a policy that could be stored.',
    positionals: ['FILE'],
    options: {},
    run: async (given) => {
      const [source] = readPolicies(given.positionals);
      const { name, statements } = compileSource(source!);
      return { policy: name, statements: statements.length };
    },
  },
  {
    name: 'policy test',
    summary: 'Says whether policies allow an action, and which statement decides; exits with 0 when they do, else 1.',
    positionals: [],
    options: {
      policy: { value: 'FILE', meaning: 'IAM policy', repeatable: true },
      stored: { value: 'NAME', meaning: 'Stored policy', repeatable: true },
      action: { value: 'ACTION', meaning: 'For example nimble:GetStreamingImage', required: true },
      resource: { value: 'ARN', meaning: 'What it is asked for, or * where an action has no resource', required: true },
      context: { value: 'KEY=VALUE', meaning: 'Condition key, such as aws:ResourceTag/team=fx', repeatable: true },
    },
    note: 'A condition key that is not given is not there. aws:CurrentTime is now, unless given.',
    exitCode: (output) => ((output as { readonly decision: string }).decision === 'allow' ? 0 : 1),
    run: async (given, config) => {
      const action = given.option('action')!;
      if (!/^[a-z0-9-]+:[a-z0-9]+$/i.test(action)) throw new CommandFailed('--action must look like nimble:GetStudio.');
      const files = readPolicies(given.options('policy')).map((source) => joinPolicies([compileSource(source)]));
      const names = given.options('stored');
      const stored = names.length === 0 ? [] : await withParts(config, ({ store }) => compiledStored(names, store));
      if (files.length + stored.length === 0) throw new CommandFailed('Name a policy: --policy FILE or --stored NAME.');
      const resource = namesOf(given.option('resource')!);
      const context = readContext(given.options('context'));
      const { decision, statement } = evaluateAll([...files, ...stored], { action, resource, context });
      return { decision, because: explanation(statement) };
    },
  },
];

function compiledStored(names: readonly string[], store: Store): Promise<Policies[]> {
  return Promise.all(
    names.map(async (name) => joinPolicies([compileSource(sourceOf(await requireStored(name, store)))])),
  );
}

/** @throws CommandFailed */
async function requireStored(name: string, store: Store): Promise<Row> {
  const row = await store.get(KIND.policy, name);
  if (!row) throw new CommandFailed(`There is no policy ${name}. See: backlot policy list`);
  return row;
}

function holdersOf(policy: string, grants: readonly Grant[]): string[] {
  return grants.filter(({ policies }) => policies.includes(policy)).map(calledBy);
}

const calledBy = ({ role, name }: Pick<Holder, 'role' | 'name'>) => `${role} ${name}`;

async function shownGrant(given: Arguments, parts: Parts): Promise<object> {
  const { holder, grant } = await requireHolder(given, parts);
  return { [holder.role]: holder.name, policies: grant ? readGrant(grant).policies : [] };
}

/** A studio's ARN in both its forms, as the server looks at it. */
function namesOf(arn: string): string[] {
  const match = /^(arn:[^:]+:nimble:([^:]+):[^:]+:studio\/)(?:([^:]+):)?([^:]+)$/.exec(arn);
  if (!match) return [arn];
  const [, prefix, region, ownRegion, suffix] = match as unknown as [
    string,
    string,
    string,
    string | undefined,
    string,
  ];
  return [`${prefix}${suffix}`, `${prefix}${ownRegion ?? region}:${suffix}`];
}

/** @throws CommandFailed for a key that no request has. */
function readContext(pairs: readonly string[]): Context {
  const values = new Map<string, string[]>([['aws:currenttime', [new Date(systemClock.now()).toISOString()]]]);
  const given = new Map<string, string[]>();
  for (const pair of pairs) {
    const equals = pair.indexOf('=');
    const name = pair.slice(0, Math.max(equals, 0)).toLowerCase();
    const key = conditionKey(name);
    if (!key) throw new CommandFailed(`--context ${pair} must be KEY=VALUE with a condition key that is known here.`);
    const before = given.get(name) ?? [];
    if (before.length > 0 && !key.multivalued)
      throw new CommandFailed(`--context ${name} is given twice and holds one value.`);
    given.set(name, [...before, pair.slice(equals + 1)]);
  }
  return (key) => given.get(key) ?? values.get(key);
}

function explanation(statement: Statement | undefined): string {
  if (!statement) return 'No statement allows it.';
  const { policy, number, sid, effect } = statement;
  const which = `Statement ${number}${sid ? ` (${sid})` : ''} of ${policy}`;
  return effect === 'Deny' ? `${which} denies it.` : `${which} allows it, and none denies it.`;
}
