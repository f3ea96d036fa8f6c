/** EULAs: made on the command line, read through the API. They belong to no studio. */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { Eula } from '../contract/eula.ts';
import { resourceNotFound, validationFailed } from '../errors.ts';
import type { Row } from '../store/store.ts';
import type { Handlers, Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { decodeToken, inListOrder, pageAnswer } from './page.ts';

/** Ids that one filter may name. */
const FILTER_IDS_MAX = 100;

/** The ids of a filter without repeats. @throws ServiceError ValidationException when there are too many. */
export function requireFilter(eulaIds: readonly string[]): string[] {
  const unique = [...new Set(eulaIds)];
  if (unique.length <= FILTER_IDS_MAX) return unique;
  throw validationFailed(
    `1 validation error detected. Value with length ${unique.length} at '/eulaIds' failed to satisfy constraint: ` +
      `Member must have length less than or equal to ${FILTER_IDS_MAX}`,
    'TOO_MANY_IDS',
  );
}

export function newEula(eula: { name: string; content: string }, { ids, clock }: Pick<Services, 'ids' | 'clock'>): Row {
  const now = clock.now();
  const doc: Eula = {
    content: eula.content,
    createdAt: wireTime(now),
    eulaId: ids.short(),
    name: eula.name,
    updatedAt: wireTime(now),
  };
  return newRow({ kind: KIND.eula, id: doc.eulaId!, createdAt: now, doc: JSON.stringify(doc) });
}

export const eulaHandlers: Pick<Handlers, 'GetEula' | 'ListEulas'> = {
  GetEula: {
    query: async (input, _principal, { store }) => {
      const row = await store.get(KIND.eula, input.eulaId);
      if (!row) throw resourceNotFound('EULA', input.eulaId);
      return `{"eula":${row.doc}}`;
    },
  },
  ListEulas: {
    query: async (input, _principal, { store, settings }) => {
      const eulaIds = requireFilter(input.eulaIds ?? []);
      const scope = [settings.accountId, 'ListEulas', ...eulaIds];
      const after = decodeToken(input.nextToken, scope);
      if (eulaIds.length > 0) {
        const found = await Promise.all(eulaIds.map((eulaId) => store.get(KIND.eula, eulaId)));
        return pageAnswer('eulas', inListOrder(found), FILTER_IDS_MAX, scope);
      }
      const rows = await store.list({ kind: KIND.eula, limit: PAGE_LENGTH + 1, ...(after && { after }) });
      return pageAnswer('eulas', rows, PAGE_LENGTH, scope);
    },
  },
};
