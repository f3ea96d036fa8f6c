/**
 * The only place that reads the time of day. Everything else is handed a Clock, so that tests and the simulation can
 * move time as they like. Times are milliseconds since 1970, UTC.
 */
export interface Clock {
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };

/** Whole seconds and a `Z`, the only form in which the API writes times. */
export function wireTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
