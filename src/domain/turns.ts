/**
 * Lets commands on one resource take turns within this process. Without it, writers that meet on one row would overtake
 * each other until some gave up; with it only a rival in another process can get in between. It decides nothing and
 * protects nothing: the guards of the write do.
 */
export class Turns {
  readonly #last = new Map<string, Promise<unknown>>();

  /** Runs `work` when everything that came before it under the same key has ended, however it ended. */
  take<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(key);
    const mine = before ? before.then(work, work) : work();
    this.#last.set(key, mine);
    const leave = () => {
      if (this.#last.get(key) === mine) this.#last.delete(key);
    };
    mine.then(leave, leave);
    return mine;
  }
}
