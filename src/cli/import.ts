/** `backlot import`: a studio that was saved as JSON while its vendor still served it. */
import { resolve } from 'node:path';
import { createAuditTrail } from '../domain/audit.ts';
import { Turns } from '../domain/turns.ts';
import { importExport } from '../import/import.ts';
import type { Outcome } from '../import/outcome.ts';
import { keepPlace } from '../installation.ts';
import type { Command } from './command.ts';
import { withParts } from './with-parts.ts';

export const importCommands: readonly Command[] = [
  {
    name: 'import',
    summary: 'Brings in studios and what lives in them, from the JSON that aws nimble list-... and get-... printed.',
    positionals: ['DIR'],
    options: { apply: { meaning: 'Write it; without this, only say what would be done' } },
    note: 'Ids stay as they were. Nothing that is there is changed, and nobody can sign in by it. See docs/migrate.md.',
    exitCode: (output) => ((output as readonly Outcome[]).some(({ result }) => result === 'refused') ? 1 : 0),
    run: ({ positionals, has }, config) =>
      withParts(config, async (parts) => {
        if (has('apply')) await keepPlace(parts);
        const audit = createAuditTrail(parts);
        const services = { ...parts, audit, turns: new Turns(), wake: () => undefined };
        return importExport(resolve(positionals[0]!), services, has('apply'));
      }),
  },
];
