/**
 * Intervals that pass only when a test says so. Unlike the test runner's own, a callback runs as what set the interval:
 * that of a process which has died in the meantime stays dead.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

interface Interval {
  readonly periodMs: number;
  readonly run: () => void;
  dueAt: number;
}

export class VirtualTimers {
  readonly #intervals = new Set<Interval>();
  readonly #real = { setInterval: globalThis.setInterval, clearInterval: globalThis.clearInterval };
  #now = 0;

  install(): void {
    const set = (callback: () => void, periodMs: number) => {
      const asCaller = AsyncLocalStorage.snapshot();
      const interval: Interval = { periodMs, run: () => asCaller(callback), dueAt: this.#now + periodMs };
      this.#intervals.add(interval);
      return Object.assign(interval, { unref: () => interval });
    };
    globalThis.setInterval = set as unknown as typeof setInterval;
    const clear = (interval: Interval) => this.#intervals.delete(interval);
    globalThis.clearInterval = clear as unknown as typeof clearInterval;
  }

  restore(): void {
    Object.assign(globalThis, this.#real);
  }

  /** Lets this much time pass: every interval runs as often as it is due, the earliest first. */
  tick(ms: number): void {
    this.#now += ms;
    for (let next = this.#earliest(); next && next.dueAt <= this.#now; next = this.#earliest()) {
      next.dueAt += next.periodMs;
      next.run();
    }
  }

  #earliest(): Interval | undefined {
    let earliest: Interval | undefined;
    for (const interval of this.#intervals) if (!earliest || interval.dueAt < earliest.dueAt) earliest = interval;
    return earliest;
  }
}
