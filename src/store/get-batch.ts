/**
 * Rows that are asked for within one turn of the event loop, fetched with one question.
 *
 * A busy server reads the same few rows (the caller's access key, the studio) and some others for dozens of requests at
 * once, and a question to a database in another process costs more than what it answers. Nothing is kept: whoever asks
 * after a question went out is part of the next one, and so never sees less than what was committed before he asked.
 */
import type { Row } from './store.ts';

/** What a row is found by. */
export interface RowKey {
  readonly kind: string;
  readonly id: string;
}

/** Reads all of them at once; those that are not there are left out. */
export type FetchRows = (keys: readonly RowKey[]) => Promise<readonly Row[]>;

interface Asked {
  readonly key: RowKey;
  readonly answer: PromiseWithResolvers<Row | undefined>;
}

export class GetBatch {
  readonly #fetch: FetchRows;
  /** By name; what has not been sent yet. */
  #asked = new Map<string, Asked>();

  constructor(fetch: FetchRows) {
    this.#fetch = fetch;
  }

  get(kind: string, id: string): Promise<Row | undefined> {
    const name = nameOf({ kind, id });
    let asked = this.#asked.get(name);
    if (!asked) {
      asked = { key: { kind, id }, answer: Promise.withResolvers() };
      if (this.#asked.size === 0) setImmediate(() => void this.#send());
      this.#asked.set(name, asked);
    }
    return asked.answer.promise;
  }

  async #send(): Promise<void> {
    const asked = this.#asked;
    this.#asked = new Map();
    try {
      const rows = await this.#fetch([...asked.values()].map(({ key }) => key));
      for (const row of rows) asked.get(nameOf(row))?.answer.resolve(row);
      for (const { answer } of asked.values()) answer.resolve(undefined);
    } catch (error) {
      for (const { answer } of asked.values()) answer.reject(error);
    }
  }
}

/** Kinds are words without a slash. */
function nameOf({ kind, id }: RowKey): string {
  return `${kind}/${id}`;
}
