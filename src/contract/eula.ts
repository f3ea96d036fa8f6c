/** End-user licence agreements that an image may ask for. They belong to no studio. Data only. */
import { label, nextToken, PAGE_LENGTH, shortId } from './common.ts';
import { operation } from './operation.ts';
import { list, optional, type Static, string, structure, timestamp } from './shape.ts';

export const eula = structure('Eula', {
  content: optional(string()),
  createdAt: optional(timestamp()),
  eulaId: optional(shortId),
  name: optional(string({ min: 0, max: 64 })),
  updatedAt: optional(timestamp()),
});

export type Eula = Static<typeof eula>;

export const eulaOperations = [
  operation('GetEula', {
    resource: 'eula',
    summary: 'Reads one EULA; `content` is the address of its text.',
    method: 'GET',
    uri: '/eulas/{eulaId}',
    access: 'Read',
    labels: { eulaId: label },
    output: structure('GetEulaResponse', { eula: optional(eula) }),
  }),
  operation('ListEulas', {
    resource: 'eula',
    summary: 'Lists EULAs.',
    method: 'GET',
    uri: '/eulas',
    access: 'Read',
    query: { eulaIds: optional(list(string())), nextToken },
    output: structure('ListEulasResponse', { eulas: optional(list(eula)), nextToken: optional(string()) }),
    pagination: { items: 'eulas', pageLength: PAGE_LENGTH },
  }),
] as const;
