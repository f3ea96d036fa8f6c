/**
 * The condition operators of the IAM policy language: which there are, what they compare, and what they make of a key
 * that is not there. The rules in quotation marks are those of the IAM User Guide, "IAM JSON policy elements: Condition
 * operators" and "Single-valued vs. multivalued context keys".
 *
 * An operator must never give up half way: what cannot be compared does not match.
 */
import { BlockList, isIP } from 'node:net';
import { type Context, type Holds, UNKNOWN, type Values } from './policy-context.ts';
import { PolicyRefused } from './policy-json.ts';
import { filling, neededKeys, parseTemplate, type Template, textOf, variablesOf } from './policy-template.ts';
import { conditionKey, type Family } from './policy-terms.ts';
import { compileWildcard, matches, type Pieces } from './wildcard.ts';

/** Whether a value of the request is one that the policy names. */
type Test = (value: string) => boolean;

/** A value of the policy: ready, or to be made anew for each request because a variable stands in it. */
type Value = Test | { readonly template: Template; readonly testFor: (context: Context) => Test | 'no' | 'unknown' };

interface Operator {
  readonly family: Family;
  /** Holds where its positive form does not. */
  readonly negated: boolean;
  /** @throws PolicyRefused */
  readonly read: (text: string, place: string) => Value;
}

export interface Condition {
  readonly holds: (context: Context) => Holds;
  /** The keys that it looks at, in lower case. */
  readonly keys: readonly string[];
  /** Those of variables that have no default. */
  readonly needed: readonly string[];
}

type SetForm = 'ForAllValues' | 'ForAnyValue' | undefined;

// --- What the families compare ---------------------------------------------------------------------------------------

/** With variables and, where asked for, wildcards. */
function patterned(testOf: (pieces: Pieces) => Test, wildcards: boolean): Operator['read'] {
  return (text, place) => {
    const template = parseTemplate(text, place, wildcards);
    if (variablesOf(template).length === 0) return testOf(template as Pieces);
    return { template, testFor: filling(template, testOf) };
  };
}

/** Remembers the last answer: one request asks many statements about the same few values. */
function remembering<T>(answer: (text: string) => T): (text: string) => T {
  let last: string | undefined;
  let remembered: T;
  return (text) => {
    if (text !== last) {
      remembered = answer(text);
      last = text;
    }
    return remembered;
  };
}

const exactly = patterned((pieces) => {
  const text = textOf(pieces);
  return (value) => value === text;
}, false);

const ignoringCase = patterned((pieces) => {
  const text = textOf(pieces).toLowerCase();
  return (value) => value.toLowerCase() === text;
}, false);

const like = patterned((pieces) => {
  const wildcard = compileWildcard(pieces);
  return (value) => matches(wildcard, value);
}, true);

/**
 * "Each of the six colon-delimited components of the ARN is checked separately and each can include multi-character match
 * wildcards or single-character match wildcards. The ArnEquals and ArnLike condition operators behave identically."
 */
const likeArn: Operator['read'] = (text, place) => {
  const template = parseTemplate(text, place, true);
  const shape = template.map((piece) => (typeof piece === 'object' ? '' : piece));
  if (!text.startsWith('arn:') || componentsOf(shape).length < ARN_COMPONENTS) {
    throw new PolicyRefused(`${place}: ${JSON.stringify(text)} is no ARN.`);
  }
  return patternedArn(text, place);
};

const patternedArn = patterned((pieces) => {
  const components = componentsOf(pieces).map(compileWildcard);
  return (arn) => {
    const parts = splitArn(arn);
    return parts.length === components.length && components.every((one, index) => matches(one, parts[index]!));
  };
}, true);

const ARN_COMPONENTS = 6;

/** The sixth holds the rest, colons included. */
function splitArn(arn: string): string[] {
  const parts = arn.split(':');
  if (parts.length <= ARN_COMPONENTS) return parts;
  return [...parts.slice(0, ARN_COMPONENTS - 1), parts.slice(ARN_COMPONENTS - 1).join(':')];
}

function componentsOf(pieces: Pieces): Pieces[] {
  const components: Pieces[number][][] = [[]];
  for (const piece of pieces) {
    if (typeof piece !== 'string') {
      components.at(-1)!.push(piece);
      continue;
    }
    const room = ARN_COMPONENTS - components.length;
    const parts = piece.split(':');
    const [here, ...rest] = parts.length > room + 1 ? [...parts.slice(0, room), parts.slice(room).join(':')] : parts;
    components.at(-1)!.push(here!);
    for (const part of rest) components.push([part]);
  }
  return components;
}

type Comparison = (given: number, named: number) => boolean;

/** Values that are read as numbers: a value of the request that is none is equal to, less than and more than nothing. */
function compared(parse: (text: string) => number | undefined, what: string, compare: Comparison): Operator['read'] {
  return (text, place) => {
    const named = parse(text);
    if (named === undefined) throw new PolicyRefused(`${place}: ${JSON.stringify(text)} is no ${what}.`);
    return (value) => {
      const given = parse(value);
      return given !== undefined && compare(given, named);
    };
  };
}

function parseNumber(text: string): number | undefined {
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?$/.test(text)) return undefined;
  return Number(text);
}

/** W3C's profile of ISO 8601: a year, month, day, or a time with its zone. */
const W3C_DATE = /^(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d))?)?)?$/;

/** "You must specify date/time values with one of the W3C implementations of the ISO 8601 date formats or in epoch time." */
function parseDate(text: string): number | undefined {
  // Shorter numbers would be days of the seventies, and more likely are dates without their dashes.
  if (/^\d{9,12}$/.test(text)) return Number(text) * 1000;
  const match = W3C_DATE.exec(text);
  if (!match) return undefined;
  const [, year, month = '01', day = '01', hour = '00', minute = '00', second = '00', part = '', zone = 'Z'] = match;
  const utc = `${year}-${month}-${day}T${hour}:${minute}:${second}.${part.slice(0, 3).padEnd(3, '0')}Z`;
  const ms = Date.parse(utc);
  // 30 February is a date to Date, and another one.
  if (Number.isNaN(ms) || new Date(ms).toISOString() !== utc) return undefined;
  return ms - offsetOf(zone);
}

const parseDateOnce = remembering(parseDate);

function offsetOf(zone: string): number {
  if (zone === 'Z') return 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(4, 6));
  return (zone.startsWith('-') ? -minutes : minutes) * 60_000;
}

const truth: Operator['read'] = (text, place) => {
  const named = text.toLowerCase();
  if (named !== 'true' && named !== 'false')
    throw new PolicyRefused(`${place}: ${JSON.stringify(text)} is not true or false.`);
  return (value) => value.toLowerCase() === named;
};

/** "The value must be in the standard CIDR format": an address alone is that one address. */
const within: Operator['read'] = (text, place) => {
  const [address, prefix, ...rest] = text.split('/') as [string, string?, ...string[]];
  const version = isIP(address);
  const bits = prefix === undefined ? widthOf(version) : parsePrefix(prefix);
  if (version === 0 || address.includes('%') || rest.length > 0 || bits === undefined || bits > widthOf(version)) {
    throw new PolicyRefused(`${place}: ${JSON.stringify(text)} is no IP address or range of them.`);
  }
  const range = new BlockList();
  range.addSubnet(address, bits, version === 4 ? 'ipv4' : 'ipv6');
  // An IPv4 address is in no range of IPv6, though BlockList finds it in one that holds its mapped form.
  return remembering((value) => isIP(value) === version && range.check(value, version === 4 ? 'ipv4' : 'ipv6'));
};

const widthOf = (version: number) => (version === 4 ? 32 : 128);

function parsePrefix(text: string): number | undefined {
  return /^(0|[1-9]\d{0,2})$/.test(text) ? Number(text) : undefined;
}

const COMPARISONS: Readonly<Record<string, Comparison>> = {
  Equals: (given, named) => given === named,
  LessThan: (given, named) => given < named,
  LessThanEquals: (given, named) => given <= named,
  GreaterThan: (given, named) => given > named,
  GreaterThanEquals: (given, named) => given >= named,
};

// --- Which operators there are ---------------------------------------------------------------------------------------

/** By lower-case name. */
const OPERATORS = new Map<string, Operator>();

function define(name: string, family: Family, read: Operator['read'], negatedName?: string): void {
  OPERATORS.set(name.toLowerCase(), { family, negated: false, read });
  if (negatedName) OPERATORS.set(negatedName.toLowerCase(), { family, negated: true, read });
}

define('StringEquals', 'String', exactly, 'StringNotEquals');
define('StringEqualsIgnoreCase', 'String', ignoringCase, 'StringNotEqualsIgnoreCase');
define('StringLike', 'String', like, 'StringNotLike');
define('ArnEquals', 'Arn', likeArn, 'ArnNotEquals');
define('ArnLike', 'Arn', likeArn, 'ArnNotLike');
define('Bool', 'Bool', truth);
define('IpAddress', 'IpAddress', within, 'NotIpAddress');
for (const [name, compare] of Object.entries(COMPARISONS)) {
  const negatedName = name === 'Equals' ? 'NotEquals' : undefined;
  const numbers = compared(parseNumber, 'number', compare);
  const dates = compared(parseDateOnce, 'date', compare);
  define(`Numeric${name}`, 'Numeric', numbers, negatedName && `Numeric${negatedName}`);
  define(`Date${name}`, 'Date', dates, negatedName && `Date${negatedName}`);
}

/** Names of the operators as they are looked up, without set forms and `IfExists`. */
export const OPERATOR_NAMES: readonly string[] = [...OPERATORS.keys(), 'null'];

// --- Reading one ------------------------------------------------------------------------------------------------------

/** `ForAnyValue:StringLikeIfExists` in its parts. */
const OPERATOR_NAME = /^(?:(ForAllValues|ForAnyValue):)?([a-z]+?)(IfExists)?$/i;

/**
 * One operator with one key.
 * @throws PolicyRefused that begins with the place.
 */
export function readCondition(
  operatorName: string,
  keyName: string,
  values: readonly string[],
  place: string,
): Condition {
  const match = OPERATOR_NAME.exec(operatorName);
  const [, prefix, baseName, suffix] = match ?? [];
  const setForm = setFormOf(prefix);
  const key = conditionKey(keyName.toLowerCase());
  if (!key) throw new PolicyRefused(`${place}: the condition key ${keyName} is not known here.`);
  if (baseName?.toLowerCase() === 'null') {
    // "You can add IfExists to the end of any condition operator name except the Null condition."
    if (prefix || suffix) throw new PolicyRefused(`${place}: Null takes no ForAllValues:, ForAnyValue: or IfExists.`);
    return readNull(keyName.toLowerCase(), values, place);
  }
  const operator = baseName === undefined ? undefined : OPERATORS.get(baseName.toLowerCase());
  if (!operator) throw new PolicyRefused(`${place}: there is no condition operator ${operatorName}.`);
  if (!key.families.includes(operator.family)) {
    throw new PolicyRefused(`${place}: ${keyName} cannot be compared with ${operatorName}.`);
  }
  // "Multivalued context keys require a condition set operator."
  if (key.multivalued && !setForm) {
    throw new PolicyRefused(
      `${place}: ${keyName} holds a list; write ForAllValues:${operatorName} or ForAnyValue:${operatorName}.`,
    );
  }
  const name = keyName.toLowerCase();
  const read = values.map((value) => operator.read(value, place));
  const variables = read.flatMap((value) => (typeof value === 'function' ? [] : variablesOf(value.template)));
  return {
    holds: holdsOf(name, operator.negated, read, setForm, suffix !== undefined, key.multivalued === true),
    keys: [name, ...variables.map((variable) => variable.key)],
    needed: neededKeys(variables),
  };
}

function setFormOf(prefix: string | undefined): SetForm {
  if (prefix === undefined) return undefined;
  return prefix.toLowerCase() === 'forallvalues' ? 'ForAllValues' : 'ForAnyValue';
}

/**
 * "Use either true (the key doesn't exist, it is null) or false (the key exists and its value is not null)."
 */
function readNull(key: string, values: readonly string[], place: string): Condition {
  const wanted = values.map((value) => {
    const text = value.toLowerCase();
    if (text === 'true' || text === 'false') return text === 'true';
    throw new PolicyRefused(`${place}: ${JSON.stringify(value)} is not true or false.`);
  });
  const holds = (context: Context): Holds => {
    const given = context(key);
    return given === UNKNOWN ? 'unknown' : wanted.includes(isNull(given)) ? 'yes' : 'no';
  };
  return { holds, keys: [key], needed: [] };
}

/** Not there, or "a null data set, such as an empty string". */
function isNull(values: Exclude<Values, typeof UNKNOWN>): boolean {
  return values === undefined || values.every((value) => value === '');
}

function holdsOf(
  key: string,
  negated: boolean,
  values: readonly Value[],
  setForm: SetForm,
  ifExists: boolean,
  multivalued: boolean,
): Condition['holds'] {
  const ready = values.every((value) => typeof value === 'function') ? values : undefined;
  return (context) => {
    const given = context(key);
    if (given === UNKNOWN) return 'unknown';
    const withoutValue = holdsWithout(given, negated, setForm, ifExists);
    if (withoutValue) return withoutValue;
    const tests = ready ?? filledIn(values, context);
    if (typeof tests === 'string') return tests;
    // The names of a single value are one member: a negated operator holds only where none of them is named.
    if (!multivalued) return isNamed(given!, tests) !== negated ? 'yes' : 'no';
    const isAny = setForm === 'ForAnyValue';
    const isDecided = given!.some((value) => (isNamed([value], tests) !== negated) === isAny);
    return isDecided === isAny ? 'yes' : 'no';
  };
}

/** Loops, not closures: this is what every request of a key with policies spends its time on. */
function isNamed(names: readonly string[], tests: readonly Test[]): boolean {
  for (const name of names) for (const test of tests) if (test(name)) return true;
  return false;
}

/**
 * What an operator makes of a key without a value; undefined when there is one.
 *
 * ForAllValues "returns true if there are no keys in the request, or if the key values resolve to a null data set, such as
 * an empty string"; for ForAnyValue, "for no matching key or a null dataset, the condition returns false". A set form
 * looks at members, and IfExists at each of them, so IfExists cannot make ForAnyValue hold where there is none.
 *
 * Otherwise: "If the key that you specify in a policy condition is not present in the request context, the values do not
 * match and the condition is false. If the policy condition requires that the key is not matched, and the right key is
 * not present, the condition is true." With IfExists: "If the key is not present, evaluate the condition element as true."
 */
function holdsWithout(
  given: Exclude<Values, typeof UNKNOWN>,
  negated: boolean,
  setForm: SetForm,
  ifExists: boolean,
): Holds | undefined {
  if (setForm) return isNull(given) ? (setForm === 'ForAllValues' ? 'yes' : 'no') : undefined;
  if (given === undefined) return ifExists || negated ? 'yes' : 'no';
  return undefined;
}

function filledIn(values: readonly Value[], context: Context): readonly Test[] | 'no' | 'unknown' {
  const tests: Test[] = [];
  let isUnknown = false;
  for (const value of values) {
    if (typeof value === 'function') {
      tests.push(value);
      continue;
    }
    const test = value.testFor(context);
    if (test === 'no') return 'no';
    if (test === 'unknown') isUnknown = true;
    else tests.push(test);
  }
  return isUnknown ? 'unknown' : tests;
}
