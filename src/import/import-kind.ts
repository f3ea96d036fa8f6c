/**
 * What the table of kinds is made of: how a kind is found in an export, and how one document of it becomes a row. Data and
 * types only; who runs it is import.ts.
 */
import type { StructureShape } from '../contract/shape.ts';
import type { Services } from '../domain/context.ts';
import type { Row } from '../store/store.ts';
import type { Names } from './export-files.ts';

export interface ImportContext {
  readonly services: Services;
  /** Of the studio that the document came from, where it does not say so itself. @throws NotImported */
  readonly studioId: () => string;
  /** Of the launch profile whose members the file holds, where its name says one. */
  readonly launchProfileId: string | undefined;
  /** The row, as it is here or as it will be. */
  readonly find: (kind: string, id: string) => Promise<Row | undefined>;
  /** The same, which must not change until the document's own row is written. @throws NotImported, ServiceError */
  readonly require: (kind: string, id: string) => Promise<Row>;
}

export interface Imported {
  readonly row: Row;
  /** Rows without which this one could not be, made in the same write. */
  readonly also?: readonly Row[];
  /** What is different from how it was. */
  readonly note?: string;
}

export interface ImportKind<D = never> extends Names {
  readonly kind: string;
  readonly shape: StructureShape<unknown>;
  /** The member that holds the id. */
  readonly id: string;
  /** What the row is called, where that is not the id alone. @throws NotImported */
  readonly rowId?: (id: string, context: ImportContext) => string;
  /** Members without which it cannot be. */
  readonly needs: readonly string[];
  /** @throws NotImported, ServiceError */
  readonly toRow: (document: D, context: ImportContext) => Promise<Imported>;
}
