/**
 * Every row as it stood at every moment of a simulation, and what can be said of a time in which rows were changing: what
 * may have been so when somebody looked, and what must have been. A call looks at its facts one after another, so what
 * held of one of them at any moment of the call may meet what held of another at any other.
 */
import type { Row } from '../../src/store/store.ts';

/** What a look within a certain time may have found, and what it must have found. */
export interface Held {
  readonly can: boolean;
  readonly must: boolean;
}

export const YES: Held = { can: true, must: true };
export const NO: Held = { can: false, must: false };

export const certain = (so: boolean): Held => (so ? YES : NO);
export const not = ({ can, must }: Held): Held => ({ can: !must, must: !can });
export const both = (...held: readonly Held[]): Held => ({
  can: held.every(({ can }) => can),
  must: held.every(({ must }) => must),
});
export const either = (...held: readonly Held[]): Held => ({
  can: held.some(({ can }) => can),
  must: held.some(({ must }) => must),
});

interface Version {
  readonly at: number;
  /** Undefined where it was deleted. */
  readonly row: Row | undefined;
}

export class Facts {
  readonly #versions = new Map<string, Version[]>();
  readonly #ids = new Map<string, Set<string>>();
  #now = 0;

  /** Grows with every change. */
  get now(): number {
    return this.#now;
  }

  set(kind: string, id: string, row: Row | undefined): void {
    this.#now += 1;
    const key = `${kind}/${id}`;
    const versions = this.#versions.get(key) ?? [];
    this.#versions.set(key, versions);
    versions.push({ at: this.#now, row });
    const ids = this.#ids.get(kind) ?? new Set();
    this.#ids.set(kind, ids.add(id));
  }

  /** All that the row was from then until now; undefined among it where it was not there. */
  since(from: number, kind: string, id: string): readonly (Row | undefined)[] {
    const versions = this.#versions.get(`${kind}/${id}`) ?? [];
    let first = versions.length;
    while (first > 0 && versions[first - 1]!.at > from) first -= 1;
    const before = first > 0 ? versions[first - 1]!.row : undefined;
    return [before, ...versions.slice(first).map(({ row }) => row)];
  }

  held(from: number, kind: string, id: string, is: (row: Row) => boolean = () => true): Held {
    const found = this.since(from, kind, id).map((row) => row !== undefined && is(row));
    return { can: found.some(Boolean), must: found.every(Boolean) };
  }

  /** Whether any of the rows of a kind is like this. */
  anyHeld(from: number, kind: string, is: (row: Row) => Held): Held {
    const found = [...(this.#ids.get(kind) ?? [])].map((id) => {
      const row = this.since(from, kind, id).find((one) => one !== undefined);
      return row ? both(this.held(from, kind, id), is(row)) : NO;
    });
    return either(...found);
  }
}
