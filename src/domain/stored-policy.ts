/**
 * Policies that are stored by name, so that one can be changed without making new keys: what they say is the text as it
 * was written, and is compiled when it is used. A policy that cannot be read, or that would come to nothing here, must
 * never be stored; and one that cannot be read any more must never be left out, as it may be the one that denies.
 */
import { wireTime } from '../clock.ts';
import type { Row } from '../store/store.ts';
import type { Services } from './context.ts';
import { KIND, newRow } from './kinds.ts';
import { compilePolicy, joinPolicies, type Place, type Policies, type Policy } from './policy.ts';
import { PolicyRefused } from './policy-json.ts';

/** A policy as it was written. */
export interface PolicySource {
  readonly name: string;
  readonly text: string;
}

/** `doc` of a policy's row. */
export interface StoredPolicy {
  readonly name: string;
  readonly statements: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

/** As the vendor's names of policies. */
const NAME = /^[\w+=,.@-]{1,128}$/;
/** Compiled ones are kept up to here: at some tens of kilobytes each, tens of megabytes. */
const COMPILED_MAX = 1_000;

/** @throws PolicyRefused that begins with the policy's name. */
export function compileSource({ name, text }: PolicySource): Policy {
  try {
    return compilePolicy(name, text);
  } catch (error) {
    if (error instanceof PolicyRefused) throw new PolicyRefused(`${name}: ${error.message}`);
    throw error;
  }
}

/**
 * The row that stores it: a first one, or the next one of the policy that is there.
 * @throws PolicyRefused also for what no policy is wrong in by itself: what it says would come to nothing here.
 */
export function storePolicy(source: PolicySource, before: Row | undefined, services: StoringServices): Row {
  const { name, text } = source;
  if (!NAME.test(name)) {
    throw new PolicyRefused('The name of a policy has 1 to 128 letters, digits and characters of _+=,.@-.');
  }
  const { statements } = compileSource(source);
  requireHere(name, statements, services.settings);
  const now = services.clock.now();
  const doc: StoredPolicy = {
    name,
    statements: statements.length,
    createdAt: wireTime(before?.createdAt ?? now),
    updatedAt: wireTime(now),
  };
  const said = { doc: JSON.stringify(doc), private: JSON.stringify({ text }) };
  if (before) return { ...before, ...said, version: before.version + 1 };
  return newRow({ kind: KIND.policy, id: name, createdAt: now, ...said });
}

type StoringServices = Pick<Services, 'clock'> & { readonly settings: Place };

function requireHere(name: string, statements: Policy['statements'], place: Place): void {
  const elsewhere = statements.find(({ isElsewhere }) => isElsewhere(place));
  if (!elsewhere) return;
  const here = `region ${place.region} and account ${place.accountId}`;
  throw new PolicyRefused(
    `${name}: Statement ${elsewhere.number} names nothing of ${here}, so it would do nothing here.`,
  );
}

export function sourceOf(row: Row): PolicySource {
  const { text } = JSON.parse(row.private) as { text: string };
  return { name: row.id, text };
}

/** Compiles each stored policy once for as long as it says the same. */
export class CompiledPolicies {
  readonly #byName = new Map<string, { readonly stored: string; readonly policies: Policies }>();

  /** @throws PolicyRefused when it cannot be read any more. */
  of(row: Row): Policies {
    const known = this.#byName.get(row.id);
    // The text and not the version: a policy that was deleted and made again begins at the same one.
    if (known?.stored === row.private) return known.policies;
    const policies = joinPolicies([compileSource(sourceOf(row))]);
    if (this.#byName.size >= COMPILED_MAX) this.#byName.clear();
    this.#byName.set(row.id, { stored: row.private, policies });
    return policies;
  }
}
