/**
 * Pages of lists: tokens that hold a position, and answers put together from stored documents as text.
 *
 * A token is a position, not a permission: it is bound by a digest to account, list and filters, so that one used
 * elsewhere is refused, and it opens nothing that the caller could not list anyway.
 */
import { hash } from 'node:crypto';
import { validationFailed } from '../errors.ts';
import type { Cursor, ListQuery, Row, Store } from '../store/store.ts';

/** Digest of what a token is bound to: 12 characters of base64url. */
function bindingOf(scope: readonly (string | undefined)[]): string {
  return hash('sha256', JSON.stringify(scope), 'base64url').slice(0, 12);
}

/** @param scope account, list and filters, in a fixed order. */
export function encodeToken(cursor: Cursor, scope: readonly (string | undefined)[]): string {
  return Buffer.from(`${bindingOf(scope)}.${cursor.createdAt}.${cursor.id}`).toString('base64url');
}

/** @throws ServiceError ValidationException for a token that this list with these filters did not make. */
export function decodeToken(token: string | undefined, scope: readonly (string | undefined)[]): Cursor | undefined {
  if (token === undefined || token === '') return undefined;
  const match = /^([\w-]{12})\.(\d{1,15})\.(.+)$/s.exec(Buffer.from(token, 'base64url').toString());
  if (!match || match[1] !== bindingOf(scope)) {
    throw validationFailed(
      "1 validation error detected. Value at '/nextToken' failed to satisfy constraint: Member must be a token that this list returned " +
        'for the same filters. Start again without it.',
      'INVALID_NEXT_TOKEN',
    );
  }
  return { createdAt: Number(match[2]), id: match[3]! };
}

/** A filter as one text, whatever the order of what it names; undefined lets everything through. */
export function filterText(values: readonly string[] | undefined): string | undefined {
  return values && [...new Set(values)].sort().join();
}

/** Rows that a filter found one by one, without those that are not there, in the order in which lists show them. */
export function inListOrder(found: readonly (Row | undefined)[]): Row[] {
  return found.filter((row) => row !== undefined).sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
}

/** Rows that a filtered list looks at for one answer, which may be short or even empty and still have a next. */
const FILTERED_ROWS_MAX = 1_000;
const ROWS_PER_LOOK = 100;

/** The same rows answer several lists: images provided for every studio are listed by each. */
const ANSWERS_PER_PAGE_MAX = 16;

/** Answers that were put together from rows that have not changed since: a list costs much more to put together than to read. */
const ready = new WeakMap<readonly Row[], Map<string, Buffer>>();

/**
 * The answer of a list operation, as UTF-8 JSON.
 * @param rows one more than a page holds, where there is one: it only tells that there is a next page.
 */
export function pageAnswer(
  member: string,
  rows: readonly Row[],
  pageLength: number,
  scope: readonly (string | undefined)[],
): Buffer {
  const key = JSON.stringify(scope);
  let answers = ready.get(rows);
  if (!answers) {
    answers = new Map();
    ready.set(rows, answers);
  }
  let answer = answers.get(key);
  if (!answer) {
    if (answers.size >= ANSWERS_PER_PAGE_MAX) answers.clear();
    const page = rows.length > pageLength ? rows.slice(0, pageLength) : rows;
    answer = Buffer.from(pageText(member, page, page === rows ? undefined : page.at(-1), scope));
    answers.set(key, answer);
  }
  return answer;
}

/** The answer of a list operation that shows only the rows which pass. */
export async function filteredPageAnswer(
  member: string,
  { store, query, passes }: { store: Store; query: Omit<ListQuery, 'limit'>; passes: (row: Row) => boolean },
  pageLength: number,
  scope: readonly (string | undefined)[],
): Promise<string> {
  const page: Row[] = [];
  let after = query.after;
  for (let seen = 0; seen < FILTERED_ROWS_MAX; seen += ROWS_PER_LOOK) {
    const rows = await store.list({ ...query, ...(after && { after }), limit: ROWS_PER_LOOK });
    for (const row of rows) {
      if (!passes(row)) continue;
      if (page.length === pageLength) return pageText(member, page, page.at(-1), scope);
      page.push(row);
    }
    const last = rows.at(-1);
    if (!last || rows.length < ROWS_PER_LOOK) return pageText(member, page, undefined, scope);
    after = { createdAt: last.createdAt, id: last.id };
  }
  return pageText(member, page, after, scope);
}

/** @param next what the next page begins behind; undefined on the last. */
function pageText(
  member: string,
  page: readonly Row[],
  next: Cursor | undefined,
  scope: readonly (string | undefined)[],
): string {
  const text = `{"${member}":[${page.map(({ doc }) => doc).join(',')}]`;
  return next ? `${text},"nextToken":"${encodeToken(next, scope)}"}` : `${text}}`;
}
