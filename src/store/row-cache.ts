/**
 * Rows and pages of lists kept ready, as they were last read or written. It only keeps: whether they are still what the
 * database holds is for its owner to know, who must forget everything when another process has written.
 */
import type { Row } from './store.ts';

/** At about 1 KiB each this is tens of megabytes. */
const ROWS_MAX = 20_000;
/** Each of about a hundred rows. */
const PAGES_MAX = 100;

export class RowCache {
  readonly #rows = new Map<string, Map<string, Row>>();
  readonly #pages = new Map<string, { readonly kind: string; readonly rows: readonly Row[] }>();
  #rowCount = 0;

  row(kind: string, id: string): Row | undefined {
    return this.#rows.get(kind)?.get(id);
  }

  keepRow(row: Row): void {
    if (this.#rowCount >= ROWS_MAX) this.#forgetRows();
    let ofKind = this.#rows.get(row.kind);
    if (!ofKind) {
      ofKind = new Map();
      this.#rows.set(row.kind, ofKind);
    }
    const before = ofKind.size;
    ofKind.set(row.id, row);
    this.#rowCount += ofKind.size - before;
  }

  forgetRow(kind: string, id: string): void {
    if (this.#rows.get(kind)?.delete(id)) this.#rowCount -= 1;
  }

  /** @param key says all that the page depends on. */
  page(key: string): readonly Row[] | undefined {
    return this.#pages.get(key)?.rows;
  }

  keepPage(key: string, kind: string, rows: readonly Row[]): void {
    if (this.#pages.size >= PAGES_MAX) this.#pages.clear();
    this.#pages.set(key, { kind, rows });
  }

  /** Any change of a row may move it into a page or out of one. */
  forgetPages(kinds: ReadonlySet<string>): void {
    for (const [key, { kind }] of this.#pages) if (kinds.has(kind)) this.#pages.delete(key);
  }

  clear(): void {
    this.#forgetRows();
    this.#pages.clear();
  }

  #forgetRows(): void {
    this.#rows.clear();
    this.#rowCount = 0;
  }
}
