/**
 * Token buckets: how often something may happen for each of many keys. A bucket is one number, the time until which what
 * was taken keeps it busy, so that taking costs a look-up and a little arithmetic. It decides nothing: whoever asks says
 * what becomes of those who must wait.
 */

export interface BucketLimits {
  readonly perSecond: number;
  /** What a bucket that was left alone for long enough holds. */
  readonly burst: number;
  /** Beyond this the oldest bucket makes room; its key begins anew with a full one. */
  readonly bucketsMax?: number;
}

const BUCKETS_MAX = 10_000;
/** Sums of fractions are off by less. */
const ROUNDING_MS = 1e-6;

export class Buckets {
  readonly #intervalMs: number;
  readonly #burstMs: number;
  readonly #bucketsMax: number;
  readonly #buckets = new Map<string, { busyUntil: number }>();

  constructor({ perSecond, burst, bucketsMax = BUCKETS_MAX }: BucketLimits) {
    this.#intervalMs = 1_000 / perSecond;
    this.#burstMs = burst * this.#intervalMs;
    this.#bucketsMax = bucketsMax;
  }

  /** Takes one. @returns 0; or, when nothing was taken, how many milliseconds it takes until there is one. */
  take(key: string, now: number): number {
    const bucket = this.#buckets.get(key) ?? this.#add(key);
    // Within its bounds also where the clock was set back.
    const busyUntil = Math.min(Math.max(bucket.busyUntil, now), now + this.#burstMs);
    const next = busyUntil + this.#intervalMs;
    const waitMs = next - (now + this.#burstMs);
    const isTaken = waitMs <= ROUNDING_MS;
    bucket.busyUntil = isTaken ? next : busyUntil;
    return isTaken ? 0 : waitMs;
  }

  #add(key: string) {
    const oldest = this.#buckets.keys().next();
    if (this.#buckets.size >= this.#bucketsMax && !oldest.done) this.#buckets.delete(oldest.value);
    const bucket = { busyUntil: 0 };
    this.#buckets.set(key, bucket);
    return bucket;
  }
}
