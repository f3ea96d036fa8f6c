/**
 * Text of a policy in which variables may stand: `${aws:username}`, `${aws:username, 'nobody'}`, and `${*}`, `${?}`, `${$}`
 * for the characters themselves. Read once, filled in for each request. What a variable brings in is text and never a
 * wildcard, whatever is in it.
 */
import { type Context, UNKNOWN } from './policy-context.ts';
import { PolicyRefused } from './policy-json.ts';
import { conditionKey } from './policy-terms.ts';
import { ANY_ONE, ANY_RUN, type Pieces } from './wildcard.ts';

export interface Variable {
  /** Lower case. */
  readonly key: string;
  readonly byDefault: string | undefined;
}

export type Template = readonly (Pieces[number] | Variable)[];

/** A variable, a wildcard, or text up to the next of them. */
const TOKEN = /\$\{[^}]*\}|[*?]|[^*?$]+|\$/g;

/**
 * @param place where the text stands, for the refusal.
 * @param wildcards whether `*` and `?` are more than characters.
 * @throws PolicyRefused
 */
export function parseTemplate(text: string, place: string, wildcards: boolean): Template {
  const tokens = text.match(TOKEN) ?? [];
  return tokens.map((token, index) => {
    if (token === '*' && wildcards) return ANY_RUN;
    if (token === '?' && wildcards) return ANY_ONE;
    if (token.startsWith('${')) return parseVariable(token, place);
    // A `$` stands alone where what follows it is no closed variable.
    if (token === '$' && tokens[index + 1]?.startsWith('{')) {
      throw new PolicyRefused(`${place}: a variable begins with \${ and is not closed.`);
    }
    return token;
  });
}

const SPECIAL = ['*', '?', '$'];

function parseVariable(token: string, place: string): string | Variable {
  const inside = token.slice(2, -1);
  if (SPECIAL.includes(inside)) return inside;
  const comma = inside.indexOf(',');
  const name = (comma < 0 ? inside : inside.slice(0, comma)).trim();
  const byDefault = comma < 0 ? undefined : unquoted(inside.slice(comma + 1).trim());
  if (comma >= 0 && byDefault === undefined) {
    throw new PolicyRefused(`${place}: ${token} must have its default in single quotes.`);
  }
  const key = conditionKey(name.toLowerCase());
  if (!key) throw new PolicyRefused(`${place}: the variable ${token} names a condition key that is not known here.`);
  // IAM User Guide, "Single-valued vs. multivalued context keys": a multivalued key cannot be a policy variable.
  if (key.multivalued) throw new PolicyRefused(`${place}: ${name} holds a list and cannot be a variable.`);
  return { key: name.toLowerCase(), byDefault };
}

function unquoted(text: string): string | undefined {
  return /^'[^']*'$/.test(text) ? text.slice(1, -1) : undefined;
}

export function variablesOf(template: Template): Variable[] {
  return template.filter((piece) => typeof piece === 'object');
}

/** Keys of the variables that have no default. */
export function neededKeys(variables: readonly Variable[]): string[] {
  return variables.filter(({ byDefault }) => byDefault === undefined).map(({ key }) => key);
}

/**
 * Fills a template in for one request after another, and makes something of it. What was made is kept for as long as the
 * variables hold the same: most hold the same for every request of an access key.
 *
 * The answer is `no` when a variable has no value: "any attempt to match it fails and causes the statement to be invalid"
 * (IAM User Guide, "IAM policy elements: Variables and tags").
 */
export function filling<T extends object>(
  template: Template,
  make: (pieces: Pieces) => T,
): (context: Context) => T | 'no' | 'unknown' {
  const variables = variablesOf(template);
  let made: T | undefined;
  let madeOf: readonly string[] = [];
  return (context) => {
    const values: string[] = [];
    let isUnknown = false;
    for (const variable of variables) {
      const value = givenFor(variable, context);
      if (value === undefined) return 'no';
      if (value === UNKNOWN) isUnknown = true;
      else values.push(value);
    }
    if (isUnknown) return 'unknown';
    if (!made || !values.every((value, index) => value === madeOf[index])) {
      let next = 0;
      made = make(template.map((piece) => (typeof piece === 'object' ? values[next++]! : piece)));
      madeOf = values;
    }
    return made;
  };
}

function givenFor({ key, byDefault }: Variable, context: Context): string | typeof UNKNOWN | undefined {
  const values = context(key);
  return values === UNKNOWN ? UNKNOWN : (values?.[0] ?? byDefault);
}

/** The text of pieces in which no wildcard stands. */
export function textOf(pieces: Pieces): string {
  return pieces.join('');
}
