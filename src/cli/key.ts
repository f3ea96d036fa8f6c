/** `backlot key`: customer keys, the CUSTOMER_MANAGED_KEY of a studio. */
import type { Studio } from '../contract/studio.ts';
import { commandLine } from '../domain/audit.ts';
import { KIND } from '../domain/kinds.ts';
import { keepPlace } from '../installation.ts';
import { type Command, CommandFailed } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { withParts } from './with-parts.ts';

export const keyCommands: readonly Command[] = [
  {
    name: 'key create',
    summary: "Makes a key for a studio's studioEncryptionConfiguration.",
    positionals: [],
    options: {},
    run: (_given, config) =>
      withParts(config, async (parts) => {
        await keepPlace(parts);
        const made = await parts.keys.createKey();
        await parts.store.write([commandLine('key create', made.keyArn, parts)]);
        return made;
      }),
  },
  {
    name: 'key list',
    summary: 'Lists customer keys.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ keys }) => keys.listKeys()),
  },
  {
    name: 'key delete',
    summary: 'Destroys a key. Images and sessions under it can never be read again.',
    positionals: ['KEY_ARN'],
    options: { yes: { meaning: 'Delete it even though a studio uses it' } },
    run: (given, config) =>
      withParts(config, async (parts) => {
        const { keys, store } = parts;
        const [keyArn] = given.positionals as [string];
        const noSuchKey = new CommandFailed(`There is no key ${keyArn}.`);
        if (!(await keys.describe(keyArn))) throw noSuchKey;
        const studios = await listDocuments<Studio>(store, KIND.studio);
        const users = studios.filter((studio) => studio.studioEncryptionConfiguration?.keyArn === keyArn);
        const inUse = users.filter(({ state }) => state !== 'DELETED').map(({ studioId }) => studioId);
        if (inUse.length > 0 && !given.has('yes')) {
          throw new CommandFailed(
            `${inUse.join(', ')} use this key; their images and sessions could never be read again. Add --yes if that is what you want.`,
          );
        }
        if (!(await keys.deleteKey(keyArn))) throw noSuchKey;
        await store.write([commandLine('key delete', keyArn, parts)]);
        return { deleted: keyArn };
      }),
  },
];
