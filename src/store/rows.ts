/** Rows as parameters and results of the statements of sql.ts, in the order of its columns, whatever the database. */
import type { AuditLine, Row, TokenRow } from './store.ts';

export type Param = string | number | null;

export function insertParams(row: Row): Param[] {
  return [
    row.kind,
    row.id,
    row.studioId,
    row.parentId,
    row.ownerId,
    row.uniqueName,
    row.state,
    row.version,
    row.dueAt,
    row.attempts,
    row.createdAt,
    row.doc,
    row.private,
  ];
}

export function updateParams(row: Row): Param[] {
  return [row.kind, row.id, row.uniqueName, row.state, row.version, row.dueAt, row.attempts, row.doc, row.private];
}

/** @param values in the order of the columns of sql.ts. */
export function toRow(values: readonly unknown[]): Row {
  return {
    kind: values[0] as string,
    id: values[1] as string,
    studioId: values[2] as string,
    parentId: values[3] as string | null,
    ownerId: values[4] as string | null,
    uniqueName: values[5] as string | null,
    state: values[6] as string,
    version: values[7] as number,
    dueAt: values[8] as number | null,
    attempts: values[9] as number,
    createdAt: values[10] as number,
    doc: values[11] as string,
    private: values[12] as string,
  };
}

/** @param now a token of the same key that has expired by then is replaced. */
export function tokenParams({ key, digest, kind, id, expiresAt }: TokenRow, now: number): Param[] {
  return [key, digest, kind, id, expiresAt, now];
}

/** @param values in the order of the columns of sql.ts. */
export function toToken(values: readonly unknown[]): TokenRow {
  const [key, digest, kind, id, expiresAt] = values as [string, string, string, string, number];
  return { key, digest, kind, id, expiresAt };
}

export function auditParams(line: AuditLine): Param[] {
  const { at, id, principalId, accessKeyId, operation, studioId, resourceId, outcome, doc } = line;
  return [at, id, principalId, accessKeyId, operation, studioId, resourceId, outcome, doc];
}

/** @param values in the order of the columns of sql.ts. */
export function toAuditLine(values: readonly unknown[]): AuditLine {
  const [at, id, principalId, accessKeyId, operation, studioId, resourceId, outcome, doc] = values as [
    number,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  return { at, id, principalId, accessKeyId, operation, studioId, resourceId, outcome, doc };
}

/** Pages that are each in list order, as one page in list order. */
export function mergePages(pages: readonly (readonly Row[])[], limit: number): Row[] {
  return pages
    .flat()
    .sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
    .slice(0, limit);
}
