/** `backlot eula`: licences that an image may ask a studio to accept. */
import type { Eula } from '../contract/eula.ts';
import { commandLine } from '../domain/audit.ts';
import { newEula } from '../domain/eula.ts';
import { KIND } from '../domain/kinds.ts';
import { type Command, CommandFailed } from './command.ts';
import { listDocuments } from './list-documents.ts';
import { withParts } from './with-parts.ts';

const NAME_LENGTH_MAX = 64;
const URL_LENGTH_MAX = 2_048;

export const eulaCommands: readonly Command[] = [
  {
    name: 'eula create',
    summary: 'Makes a EULA that images can ask for.',
    positionals: [],
    options: {
      name: { value: 'NAME', meaning: `Name, at most ${NAME_LENGTH_MAX} characters`, required: true },
      url: { value: 'URL', meaning: "Address of the licence's text", required: true },
    },
    run: (given, config) => {
      const name = given.option('name')!;
      const content = given.option('url')!;
      if ([...name].length > NAME_LENGTH_MAX)
        throw new CommandFailed(`--name must have at most ${NAME_LENGTH_MAX} characters.`);
      if (!isWebAddress(content)) throw new CommandFailed('--url must be an http:// or https:// address.');
      return withParts(config, async (parts) => {
        const row = newEula({ name, content }, parts);
        await parts.store.write([{ op: 'insert', row }, commandLine('eula create', row.id, parts)]);
        return JSON.parse(row.doc) as Eula;
      });
    },
  },
  {
    name: 'eula list',
    summary: 'Lists EULAs.',
    positionals: [],
    options: {},
    run: (_given, config) => withParts(config, ({ store }) => listDocuments<Eula>(store, KIND.eula)),
  },
];

function isWebAddress(text: string): boolean {
  return text.length <= URL_LENGTH_MAX && URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
}
