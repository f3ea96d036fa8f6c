/** All documents of a kind, read in pages. Lists on the command line are short; the bound is there all the same. */
import type { Cursor, Store } from '../store/store.ts';

const PAGE_LENGTH = 500;
const DOCUMENTS_MAX = 100_000;

export async function listDocuments<T extends object>(store: Store, kind: string): Promise<T[]> {
  const documents: T[] = [];
  let after: Cursor | undefined;
  do {
    const rows = await store.list({ kind, limit: PAGE_LENGTH, ...(after && { after }) });
    for (const row of rows) documents.push(JSON.parse(row.doc) as T);
    after = rows.length === PAGE_LENGTH ? rows.at(-1) : undefined;
  } while (after && documents.length < DOCUMENTS_MAX);
  return documents;
}
