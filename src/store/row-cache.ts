/**
 * Rows and pages of lists kept ready, as they were last read or written. It only keeps: whether they are still what the
 * database holds is for its owner to know, who must forget everything when another process has written. What is kept is
 * bounded by its size: a row may be anything from a hundred characters to a million.
 */
import type { Row } from './store.ts';

/** Of rows, and again of pages: tens of megabytes each. */
const CHARACTERS_MAX = 32 * 1024 * 1024;
/** What a row takes beside its texts. */
const CHARACTERS_PER_ROW = 512;
const PAGES_MAX = 100;

interface Page {
  readonly kind: string;
  readonly rows: readonly Row[];
  readonly size: number;
}

export class RowCache {
  readonly #rows = new Map<string, Map<string, Row>>();
  readonly #pages = new Map<string, Page>();
  #rowsSize = 0;
  #pagesSize = 0;

  row(kind: string, id: string): Row | undefined {
    return this.#rows.get(kind)?.get(id);
  }

  keepRow(row: Row): void {
    this.forgetRow(row.kind, row.id);
    const size = sizeOf(row);
    if (size > CHARACTERS_MAX) return;
    if (this.#rowsSize + size > CHARACTERS_MAX) this.#forgetRows();
    let ofKind = this.#rows.get(row.kind);
    if (!ofKind) {
      ofKind = new Map();
      this.#rows.set(row.kind, ofKind);
    }
    ofKind.set(row.id, row);
    this.#rowsSize += size;
  }

  forgetRow(kind: string, id: string): void {
    const ofKind = this.#rows.get(kind);
    const row = ofKind?.get(id);
    if (!row) return;
    ofKind!.delete(id);
    this.#rowsSize -= sizeOf(row);
  }

  /** @param key says all that the page depends on. */
  page(key: string): readonly Row[] | undefined {
    return this.#pages.get(key)?.rows;
  }

  keepPage(key: string, kind: string, rows: readonly Row[]): void {
    const size = rows.reduce((total, row) => total + sizeOf(row), key.length);
    if (size > CHARACTERS_MAX) return;
    if (this.#pages.size >= PAGES_MAX || this.#pagesSize + size > CHARACTERS_MAX) this.#forgetAllPages();
    this.#forgetPage(key);
    this.#pages.set(key, { kind, rows, size });
    this.#pagesSize += size;
  }

  /** Any change of a row may move it into a page or out of one. */
  forgetPages(kinds: ReadonlySet<string>): void {
    for (const [key, { kind }] of this.#pages) if (kinds.has(kind)) this.#forgetPage(key);
  }

  clear(): void {
    this.#forgetRows();
    this.#forgetAllPages();
  }

  #forgetPage(key: string): void {
    this.#pagesSize -= this.#pages.get(key)?.size ?? 0;
    this.#pages.delete(key);
  }

  #forgetRows(): void {
    this.#rows.clear();
    this.#rowsSize = 0;
  }

  #forgetAllPages(): void {
    this.#pages.clear();
    this.#pagesSize = 0;
  }
}

function sizeOf({ doc, private: hidden }: Row): number {
  return CHARACTERS_PER_ROW + doc.length + hidden.length;
}
