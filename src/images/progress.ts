/**
 * How far a long piece of work is, told to whoever asked for it: never backwards, never more than 100, and at most once a
 * second however often the work speaks up.
 */
import type { Clock } from '../clock.ts';

/** Told how much of a piece of work is done, from 0 to 1. */
export type OnFraction = (fraction: number) => void;

export const PROGRESS_INTERVAL_MS = 1_000;

export class Progress {
  readonly #onProgress: (percent: number) => void;
  readonly #clock: Clock;
  #percent = 0;
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(onProgress: (percent: number) => void, clock: Clock) {
    this.#onProgress = onProgress;
    this.#clock = clock;
  }

  /** Takes fractions from 0 to 1 of the part of the work between two percentages. */
  part(from: number, to: number): OnFraction {
    return (fraction) => {
      this.#percent = Math.min(100, Math.max(this.#percent, from + (to - from) * fraction));
      this.tell();
    };
  }

  /** Says again where the work is: also a sign of life, on which a lease may hang. */
  tell(): void {
    const now = this.#clock.now();
    if (now - this.#toldAt < PROGRESS_INTERVAL_MS) return;
    this.#toldAt = now;
    this.#onProgress(Math.floor(this.#percent));
  }
}
