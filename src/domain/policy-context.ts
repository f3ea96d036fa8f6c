/** What a statement is asked about, and the answers it can give. Types and the unknown only. */

/**
 * A value that cannot be told, because the resource that would tell it is not there. What depends on it decides against
 * the caller: an Allow does not apply and a Deny does (see access.ts).
 */
export const UNKNOWN = Symbol('unknown');

/** The names of one value, or the members of a list, for a multivalued key; undefined where the key is not there. */
export type Values = readonly string[] | undefined | typeof UNKNOWN;

/** Looks a condition key up by its lower-case name. */
export type Context = (key: string) => Values;

/** `unknown` only where a value that was looked at is UNKNOWN. */
export type Holds = 'yes' | 'no' | 'unknown';

export interface PolicyRequest {
  /** As `nimble:GetStudio`. */
  readonly action: string;
  /** Every name of the one resource that is asked for: a studio's ARN has two forms. */
  readonly resource: readonly string[];
  readonly context: Context;
}
