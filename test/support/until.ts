/** Waits until something holds, never for a time: the limit is only there so that a failure ends. */
import { setTimeout as delay } from 'node:timers/promises';

const LIMIT_MS = 60_000;
const STEP_MS = 20;

/** @returns the first truthy value of `probe`. A probe that throws is asked again. */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  limitMs = LIMIT_MS,
): Promise<Exclude<T, undefined | null | false>> {
  const endsAt = performance.now() + limitMs;
  let last: unknown;
  for (;;) {
    try {
      last = await probe();
      if (last) return last as Exclude<T, undefined | null | false>;
    } catch (error) {
      last = error;
    }
    if (performance.now() > endsAt) throw new Error(`${what} did not come to hold: ${String(last)}`);
    await delay(STEP_MS);
  }
}
