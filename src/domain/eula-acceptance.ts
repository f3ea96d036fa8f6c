/** Acceptances: a studio accepts a EULA once, for everyone in it. Accepting again gives the acceptance that is there. */
import { wireTime } from '../clock.ts';
import { PAGE_LENGTH } from '../contract/common.ts';
import type { EulaAcceptance } from '../contract/eula-acceptance.ts';
import { resourceNotFound, validationFailed } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import type { Answer, Handlers, Principal, Services } from './context.ts';
import { requireFilter } from './eula.ts';
import { KIND, newRow } from './kinds.ts';
import { decodeToken, inListOrder, pageAnswer } from './page.ts';
import { requireLiveStudio, requireOpenStudio } from './studio.ts';

/** No two acceptances of one EULA by one studio. */
export const acceptanceName = (studioId: string, eulaId: string) => `${studioId}/${eulaId}`;

export async function acceptanceOf(store: Store, studioId: string, eulaId: string): Promise<Row | undefined> {
  const [row] = await store.list({ kind: KIND.eulaAcceptance, uniqueName: acceptanceName(studioId, eulaId), limit: 1 });
  return row;
}

function newAcceptance(studioId: string, eulaId: string, principal: Principal, { ids, clock }: Services): Row {
  const now = clock.now();
  const doc: EulaAcceptance = {
    acceptedAt: wireTime(now),
    acceptedBy: principal.principalId,
    accepteeId: studioId,
    eulaAcceptanceId: ids.short(),
    eulaId,
  };
  return newRow({
    kind: KIND.eulaAcceptance,
    id: doc.eulaAcceptanceId!,
    studioId,
    uniqueName: acceptanceName(studioId, eulaId),
    createdAt: now,
    doc: JSON.stringify(doc),
  });
}

/** The EULAs that a call names, each once. @throws ServiceError ValidationException when it names none. */
function requireNamed(eulaIds: readonly string[] | undefined): string[] {
  if (eulaIds && eulaIds.length > 0) return requireFilter(eulaIds);
  throw validationFailed(
    "1 validation error detected. Value at '/eulaIds' failed to satisfy constraint: Member must not be empty",
    'NO_EULA_IDS',
  );
}

function listAnswer(rows: readonly Row[]): Answer {
  return pageAnswer('eulaAcceptances', rows, rows.length, []);
}

export const eulaAcceptanceHandlers: Pick<Handlers, 'AcceptEulas' | 'ListEulaAcceptances'> = {
  AcceptEulas: {
    command: async (input, principal, services) => {
      const { store } = services;
      const eulaIds = requireNamed(input.eulaIds);
      const studio = await requireOpenStudio(store, input.studioId);
      const writes: Write[] = [{ op: 'require', kind: KIND.studio, id: studio.id, state: studio.state }];
      const rows: Row[] = [];
      for (const eulaId of eulaIds) {
        if (!(await store.get(KIND.eula, eulaId))) throw resourceNotFound('EULA', eulaId);
        const existing = await acceptanceOf(store, studio.id, eulaId);
        const row = existing ?? newAcceptance(studio.id, eulaId, principal, services);
        if (!existing) writes.push({ op: 'insert', row });
        rows.push(row);
      }
      return { writes, answer: listAnswer(rows), subject: { kind: KIND.studio, id: studio.id } };
    },
    replay: async (input, _principal, { store }) => {
      const found = requireNamed(input.eulaIds).map((eulaId) => acceptanceOf(store, input.studioId, eulaId));
      return listAnswer((await Promise.all(found)).filter((row) => row !== undefined));
    },
  },

  ListEulaAcceptances: {
    query: async (input, _principal, { store, settings }) => {
      const studio = await requireLiveStudio(store, input.studioId);
      const eulaIds = requireFilter(input.eulaIds ?? []);
      const scope = [settings.accountId, 'ListEulaAcceptances', studio.id, ...eulaIds];
      const after = decodeToken(input.nextToken, scope);
      if (eulaIds.length > 0) {
        const found = await Promise.all(eulaIds.map((eulaId) => acceptanceOf(store, studio.id, eulaId)));
        return listAnswer(inListOrder(found));
      }
      const rows = await store.list({
        kind: KIND.eulaAcceptance,
        studioIds: [studio.id],
        limit: PAGE_LENGTH + 1,
        ...(after && { after }),
      });
      return pageAnswer('eulaAcceptances', rows, PAGE_LENGTH, scope);
    },
  },
};
