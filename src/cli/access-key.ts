/** `backlot access-key`: what requests are signed with, and whose it is. */
import { type AccessKey, newAccessKey } from '../domain/access-key.ts';
import { commandLine } from '../domain/audit.ts';
import { attachPolicies, type Grant, getGrant, type Holder, heldPolicy, readGrant } from '../domain/grant.ts';
import { KIND } from '../domain/kinds.ts';
import { type PolicySource, sourceOf, storePolicy } from '../domain/stored-policy.ts';
import type { Parts } from '../service.ts';
import type { Write } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { HOLDER_OPTIONS, holderOf } from './holder.ts';
import { listDocuments } from './list-documents.ts';
import { readPolicies } from './policy-file.ts';
import { undisturbed } from './undisturbed.ts';
import { withParts } from './with-parts.ts';

export const accessKeyCommands: readonly Command[] = [
  {
    name: 'access-key create',
    summary: 'Makes an access key. The secret is shown once, now.',
    positionals: [],
    options: {
      name: { value: 'NAME', meaning: 'What the key is for, in your words' },
      ...HOLDER_OPTIONS,
      policy: {
        value: 'FILE',
        meaning: 'Policy to store and attach as well, as policy put and attach do',
        repeatable: true,
      },
    },
    note: 'Without --service and --user it is an administrator: it may do everything.',
    run: (given, config) => withParts(config, (parts) => createAccessKey(given, parts)),
  },
  {
    name: 'access-key list',
    summary: 'Lists access keys with the policies of whoever has them, without their secrets.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, listAccessKeys),
  },
  {
    name: 'access-key delete',
    summary: 'Deletes an access key; requests signed with it are refused from then on.',
    positionals: ['ACCESS_KEY_ID'],
    options: {},
    run: (given, config) =>
      withParts(config, async (parts) => {
        const { store } = parts;
        const [accessKeyId] = given.positionals as [string];
        const row = await store.get(KIND.accessKey, accessKeyId);
        if (!row) throw new CommandFailed(`There is no access key ${accessKeyId}.`);
        await store.write([
          { op: 'delete', kind: row.kind, id: row.id, version: row.version },
          commandLine('access-key delete', row.id, parts),
        ]);
        return { deleted: accessKeyId };
      }),
  },
];

async function createAccessKey(given: Arguments, parts: Parts): Promise<object> {
  const sources = readPolicies(given.options('policy'));
  if (sources.length > 0 && !(await holderOf(given, parts))) {
    throw new CommandFailed('--policy needs --service or --user: policies belong to them, not to a key.');
  }
  if (new Set(sources.map(({ name }) => name)).size < sources.length) {
    throw new CommandFailed('Two files of --policy have the same name, which would be that of both policies.');
  }
  const made = await undisturbed(async () => {
    const holder = await holderOf(given, parts);
    const key = newAccessKey(given.option('name') ?? '', parts.keys, parts, holder);
    const grant = holder ? await grantWrites(holder, sources, parts) : [];
    const line = commandLine('access-key create', key.row.id, parts);
    await parts.store.write([{ op: 'insert', row: key.row }, ...grant, line]);
    return key;
  });
  const { accessKeyId, ...rest } = JSON.parse(made.row.doc) as AccessKey;
  const holder = await holderOf(given, parts);
  const grant = holder && (await getGrant(parts.store, holder));
  const policies = grant && { policies: readGrant(grant).policies };
  return { accessKeyId, secretAccessKey: made.secretAccessKey, ...rest, ...policies };
}

/** Makes a service known that has no policies yet, and gives the holder the new ones. */
async function grantWrites(holder: Holder, sources: readonly PolicySource[], parts: Parts): Promise<Write[]> {
  const before = await getGrant(parts.store, holder);
  if (before && sources.length === 0) return [];
  const names = sources.map(({ name }) => name);
  const stored = await Promise.all(sources.map((source) => storeWrite(source, parts)));
  return [...stored, ...attachPolicies(holder, before, names, parts)];
}

/** A file never changes what is stored already: others may have it, who do not know of this key. */
async function storeWrite(source: PolicySource, parts: Parts): Promise<Write> {
  const before = await parts.store.get(KIND.policy, source.name);
  if (!before) return { op: 'insert', row: storePolicy(source, undefined, parts) };
  if (sourceOf(before).text === source.text) return heldPolicy(before);
  throw new CommandFailed(
    `There is another policy ${source.name}. Give the file another name, or change the policy: backlot policy put ${source.name} FILE`,
  );
}

async function listAccessKeys({ store }: Parts): Promise<object[]> {
  const keys = await listDocuments<AccessKey>(store, KIND.accessKey);
  const grants = await listDocuments<Grant>(store, KIND.grant);
  const policiesBy = new Map(grants.map(({ principalId, policies }) => [principalId, policies]));
  return keys.map((key) => {
    const policies = policiesBy.get(key.principalId);
    return policies ? { ...key, policies } : key;
  });
}
