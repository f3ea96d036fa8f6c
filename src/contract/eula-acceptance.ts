/** Which EULAs a studio has accepted, when, and by whom. Data only. */
import { label, nextToken, PAGE_LENGTH, shortId } from './common.ts';
import { operation } from './operation.ts';
import { list, optional, type Static, string, structure, timestamp } from './shape.ts';

export const eulaAcceptance = structure('EulaAcceptance', {
  acceptedAt: optional(timestamp()),
  acceptedBy: optional(string()),
  accepteeId: optional(string()),
  eulaAcceptanceId: optional(shortId),
  eulaId: optional(shortId),
});

export type EulaAcceptance = Static<typeof eulaAcceptance>;

export const eulaAcceptanceOperations = [
  operation('AcceptEulas', {
    resource: 'eula-acceptance',
    summary: 'Accepts EULAs for a whole studio.',
    method: 'POST',
    uri: '/studios/{studioId}/eula-acceptances',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: { eulaIds: optional(list(string())) },
    output: structure('AcceptEulasResponse', { eulaAcceptances: optional(list(eulaAcceptance)) }),
  }),
  operation('ListEulaAcceptances', {
    resource: 'eula-acceptance',
    summary: "Lists a studio's accepted EULAs.",
    method: 'GET',
    uri: '/studios/{studioId}/eula-acceptances',
    access: 'Read',
    labels: { studioId: label },
    query: { eulaIds: optional(list(string())), nextToken },
    output: structure('ListEulaAcceptancesResponse', {
      eulaAcceptances: optional(list(eulaAcceptance)),
      nextToken: optional(string()),
    }),
    pagination: { items: 'eulaAcceptances', pageLength: PAGE_LENGTH },
  }),
] as const;
