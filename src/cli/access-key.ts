/** `backlot access-key`: what requests are signed with, and what whoever has one may do. */
import { type AccessKey, newAccessKey } from '../domain/access-key.ts';
import { KIND } from '../domain/kinds.ts';
import { type Command, CommandFailed } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { readPolicies } from './policy.ts';
import { withParts } from './with-parts.ts';

export const accessKeyCommands: readonly Command[] = [
  {
    name: 'access-key create',
    summary: 'Makes an access key. The secret is shown once, now.',
    positionals: [],
    options: {
      name: { value: 'NAME', meaning: 'What the key is for, in your words' },
      service: { value: 'NAME', meaning: 'Service or person that has it: aws:username in policies' },
      policy: { value: 'FILE', meaning: 'IAM policy that says what it may do', repeatable: true },
    },
    note: 'A key without a policy is an administrator: it may do everything.',
    run: (given, config) =>
      withParts(config, async (parts) => {
        const grant = {
          service: given.option('service'),
          policies: readPolicies(given.options('policy')),
          place: parts.settings,
        };
        const { row, secretAccessKey } = newAccessKey(given.option('name') ?? '', parts.keys, parts, grant);
        await parts.store.write([{ op: 'insert', row }]);
        const { accessKeyId, ...rest } = JSON.parse(row.doc) as AccessKey;
        return { accessKeyId, secretAccessKey, ...rest };
      }),
  },
  {
    name: 'access-key list',
    summary: 'Lists access keys, without their secrets.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ store }) => listDocuments<AccessKey>(store, KIND.accessKey)),
  },
  {
    name: 'access-key delete',
    summary: 'Deletes an access key; requests signed with it are refused from then on.',
    positionals: ['ACCESS_KEY_ID'],
    options: {},
    run: (given, config) =>
      withParts(config, async ({ store }) => {
        const [accessKeyId] = given.positionals as [string];
        const row = await store.get(KIND.accessKey, accessKeyId);
        if (!row) throw new CommandFailed(`There is no access key ${accessKeyId}.`);
        await store.write([{ op: 'delete', kind: row.kind, id: row.id, version: row.version }]);
        return { deleted: accessKeyId };
      }),
  },
];
