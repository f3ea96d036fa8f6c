/** `backlot policy`: checks IAM policies, and explains what they decide, without a server. */
import { readFileSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { systemClock } from '../clock.ts';
import type { PolicySource } from '../domain/access-key.ts';
import { compilePolicy, evaluate, joinPolicies, type Policy, type Statement } from '../domain/policy.ts';
import type { Context } from '../domain/policy-context.ts';
import { PolicyRefused } from '../domain/policy-json.ts';
import { conditionKey } from '../domain/policy-terms.ts';
import { type Command, CommandFailed } from './command.ts';

/** A file of a size that no policy has is not read. */
const FILE_BYTES_MAX = 1024 * 1024;

export const policyCommands: readonly Command[] = [
  {
    name: 'policy check',
    summary: 'Says whether a file is a policy that an access key can have.',
    positionals: ['FILE'],
    options: {},
    run: async (given) => {
      const { name, statements } = compiled(readPolicy(given.positionals[0]!));
      return { policy: name, statements: statements.length };
    },
  },
  {
    name: 'policy test',
    summary: 'Says whether policies allow an action, and which statement decides; exits with 0 when they do, else 1.',
    positionals: [],
    options: {
      policy: { value: 'FILE', meaning: 'IAM policy', required: true, repeatable: true },
      action: { value: 'ACTION', meaning: 'For example nimble:GetStreamingImage', required: true },
      resource: { value: 'ARN', meaning: 'What it is asked for, or * where an action has no resource', required: true },
      context: { value: 'KEY=VALUE', meaning: 'Condition key, such as aws:ResourceTag/team=fx', repeatable: true },
    },
    note: 'A condition key that is not given is not there. aws:CurrentTime is now, unless given.',
    exitCode: (output) => ((output as { readonly decision: string }).decision === 'allow' ? 0 : 1),
    run: async (given) => {
      const action = given.option('action')!;
      if (!/^[a-z0-9-]+:[a-z0-9]+$/i.test(action)) throw new CommandFailed('--action must look like nimble:GetStudio.');
      const policies = joinPolicies(readPolicies(given.options('policy')).map(compiled));
      const resource = namesOf(given.option('resource')!);
      const context = readContext(given.options('context'));
      const { decision, statement } = evaluate(policies, { action, resource, context });
      return { decision, because: explanation(statement) };
    },
  },
];

export function readPolicies(files: readonly string[]): PolicySource[] {
  return files.map(readPolicy);
}

/** @throws CommandFailed */
function readPolicy(file: string): PolicySource {
  try {
    if (statSync(file).size > FILE_BYTES_MAX) throw new CommandFailed(`${file} is too large to be a policy.`);
    return { name: basename(file).replace(/\.json$/, ''), text: readFileSync(file, 'utf8') };
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    throw new CommandFailed(`${file} cannot be read: ${(error as NodeJS.ErrnoException).code}.`);
  }
}

function compiled({ name, text }: PolicySource): Policy {
  try {
    return compilePolicy(name, text);
  } catch (error) {
    if (error instanceof PolicyRefused) throw new CommandFailed(`${name}: ${error.message}`);
    throw error;
  }
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
