/**
 * Policies in the IAM JSON language: reads and checks a document, compiles it once, and decides by it. Pure: it knows no
 * clock, no rows and no requests, only what it is told of one.
 *
 * An explicit deny wins over every allow, and what no statement allows is denied. A document with anything in it that is
 * not known here is refused with the place; it must never be stored and then half obeyed.
 */
import { type Condition, readCondition } from './policy-condition.ts';
import type { Holds, PolicyRequest } from './policy-context.ts';
import { PolicyRefused, parsePolicyJson } from './policy-json.ts';
import { filling, neededKeys, parseTemplate, type Template, variablesOf } from './policy-template.ts';
import { ACTIONS, conditionKey, RESOURCE_TYPES } from './policy-terms.ts';
import { compileWildcard, matches, type Pieces, searchedWithQuestionMark, type Wildcard } from './wildcard.ts';

const VERSION = '2012-10-17';
const STATEMENTS_MAX = 100;
/** As long as an ARN may be. */
const STRING_LENGTH_MAX = 2_048;
/** Between two `*`, text with a `?` in it is looked for place by place. */
const SEARCHED_LENGTH_MAX = 128;

export type Effect = 'Allow' | 'Deny';

export interface Statement {
  /** Of the document it stands in. */
  readonly policy: string;
  /** From 1. */
  readonly number: number;
  readonly sid: string | undefined;
  readonly effect: Effect;
  readonly covers: (lowerCaseAction: string) => boolean;
  readonly concerns: (request: PolicyRequest) => Holds;
  readonly conditions: readonly Condition[];
  /** Whether what it says may depend on the resource itself, and not on its ARN alone. */
  readonly looksAtResource: boolean;
  /** Keys that stand as variables without a default: without a value of theirs, the statement does not apply. */
  readonly needed: readonly string[];
  /** Whether all its ARNs are of other regions or accounts, so that it says nothing about anything here. */
  readonly isElsewhere: (place: Place) => boolean;
}

export interface Place {
  readonly region: string;
  readonly accountId: string;
}

export interface Policy {
  readonly name: string;
  readonly statements: readonly Statement[];
}

/** Several policies as one. */
export interface Policies {
  /** Those that concern an action, by its lower-case name, denies first. */
  readonly byAction: ReadonlyMap<string, readonly Statement[]>;
  readonly all: readonly Statement[];
}

export interface Decision {
  readonly decision: 'allow' | 'explicit-deny' | 'implicit-deny';
  /** The one that decided. */
  readonly statement?: Statement;
}

// --- Deciding ---------------------------------------------------------------------------------------------------------

export function joinPolicies(policies: readonly Policy[]): Policies {
  const statements = policies.flatMap((policy) => policy.statements);
  const all = [...statements.filter(isDeny), ...statements.filter((statement) => !isDeny(statement))];
  const names = ACTIONS.map((name) => `nimble:${name.toLowerCase()}`);
  const byAction = new Map(names.map((name) => [name, all.filter(({ covers }) => covers(name))]));
  return { byAction, all };
}

function isDeny({ effect }: Statement): boolean {
  return effect === 'Deny';
}

/** The statements that may decide about an action. */
export function statementsAbout(policies: Policies, action: string): readonly Statement[] {
  const name = action.toLowerCase();
  return policies.byAction.get(name) ?? policies.all.filter(({ covers }) => covers(name));
}

export function evaluate(policies: Policies, request: PolicyRequest): Decision {
  for (const statement of statementsAbout(policies, request.action)) {
    if (!applies(statement, request)) continue;
    return { decision: isDeny(statement) ? 'explicit-deny' : 'allow', statement };
  }
  return { decision: 'implicit-deny' };
}

/** As `evaluate`, by several that count together: a deny of one wins over every allow of the others. */
export function evaluateAll(several: readonly Policies[], request: PolicyRequest): Decision {
  let allowed: Decision | undefined;
  for (const policies of several) {
    const decided = evaluate(policies, request);
    if (decided.decision === 'explicit-deny') return decided;
    if (decided.decision === 'allow') allowed ??= decided;
  }
  return allowed ?? { decision: 'implicit-deny' };
}

/**
 * What cannot be told is held against the caller. Conditions come first: most of them are compared in less time than an ARN
 * is matched, and the order changes nothing.
 */
function applies(statement: Statement, request: PolicyRequest): boolean {
  let isUnknown = false;
  for (const { holds } of statement.conditions) {
    const held = holds(request.context);
    if (held === 'no') return false;
    if (held === 'unknown') isUnknown = true;
  }
  const concerned = statement.concerns(request);
  if (concerned === 'no') return false;
  if (concerned === 'unknown') isUnknown = true;
  return !isUnknown || isDeny(statement);
}

// --- Reading ----------------------------------------------------------------------------------------------------------

/**
 * @param name what the policy is called in refusals and explanations.
 * @throws PolicyRefused
 */
export function compilePolicy(name: string, text: string): Policy {
  const document = requireObject(parsePolicyJson(text), 'The document');
  requireElements(document, ['Version', 'Statement'], 'The document');
  if (document.Version !== VERSION)
    throw new PolicyRefused(`Version must be "${VERSION}": variables have no meaning in others.`);
  const given = document.Statement;
  const list = Array.isArray(given) ? given : [given];
  if (given === undefined || list.length === 0) throw new PolicyRefused('The document has no Statement.');
  if (list.length > STATEMENTS_MAX) {
    throw new PolicyRefused(`The document has ${list.length} statements; ${STATEMENTS_MAX} are the most.`);
  }
  const statements = list.map((statement: unknown, index) => readStatement(statement, name, index + 1));
  requireOwnSids(statements);
  return { name, statements };
}

type Members = Readonly<Record<string, unknown>>;

function requireObject(value: unknown, place: string): Members {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Members;
  throw new PolicyRefused(`${place} must be a JSON object.`);
}

/** IAM allows these elements in the policies of resources only: whom such a policy is for is known without them. */
const ELSEWHERE = ['Id', 'Principal', 'NotPrincipal'];

function requireElements(object: Members, known: readonly string[], place: string): void {
  for (const element of Object.keys(object)) {
    if (known.includes(element)) continue;
    const why = ELSEWHERE.includes(element)
      ? 'which only policies of resources may have'
      : `which is none of ${known.join(', ')}`;
    throw new PolicyRefused(`${place} has an element ${JSON.stringify(element.slice(0, 64))}, ${why}.`);
  }
}

function requireOwnSids(statements: readonly Statement[]): void {
  const seen = new Set<string>();
  for (const { sid } of statements) {
    if (sid === undefined) continue;
    if (seen.has(sid)) throw new PolicyRefused(`Two statements have the Sid ${sid}.`);
    seen.add(sid);
  }
}

const ELEMENTS = ['Sid', 'Effect', 'Action', 'NotAction', 'Resource', 'NotResource', 'Condition'];

function readStatement(given: unknown, policy: string, number: number): Statement {
  const place = `Statement ${number}`;
  const object = requireObject(given, place);
  requireElements(object, ELEMENTS, place);
  const { Sid: sid, Effect: effect } = object;
  if (sid !== undefined && (typeof sid !== 'string' || !/^[A-Za-z0-9]{0,256}$/.test(sid))) {
    throw new PolicyRefused(`${place}: Sid must be letters and digits.`);
  }
  if (effect !== 'Allow' && effect !== 'Deny') throw new PolicyRefused(`${place}: Effect must be "Allow" or "Deny".`);
  const actions = requireOneOf(object, 'Action', 'NotAction', place);
  const resources = requireOneOf(object, 'Resource', 'NotResource', place);
  const actionPatterns = actions.values.map((action) => readAction(action, `${place}: ${actions.element}`));
  const patterns = resources.values.map((resource) => readResource(resource, `${place}: ${resources.element}`));
  const conditions = readConditions(object.Condition, `${place}: Condition`);
  const variables = patterns.flatMap(({ template }) => variablesOf(template));
  const keys = [...conditions.flatMap((condition) => condition.keys), ...variables.map(({ key }) => key)];
  return {
    policy,
    number,
    sid: sid || undefined,
    effect,
    covers: (action) => actionPatterns.some((pattern) => matches(pattern, action)) !== actions.negated,
    concerns: concernsOf(patterns, resources.negated),
    conditions,
    looksAtResource: keys.some((key) => conditionKey(key)?.ofResource),
    needed: [...conditions.flatMap(({ needed }) => needed), ...neededKeys(variables)],
    isElsewhere: (here) => patterns.every(({ text }) => isElsewhere(text, here)),
  };
}

/** "Statements must include either a Resource or a NotResource element", and likewise for actions; never both. */
function requireOneOf(object: Members, element: string, negatedElement: string, place: string) {
  const negated = object[negatedElement] !== undefined;
  if (negated === (object[element] !== undefined)) {
    throw new PolicyRefused(`${place} must have either ${element} or ${negatedElement}.`);
  }
  const name = negated ? negatedElement : element;
  const values = requireList(object[name], `${place}: ${name}`);
  for (const value of values) if (typeof value !== 'string') throw new PolicyRefused(`${place}: ${name} must be text.`);
  return { element: name, negated, values: values as readonly string[] };
}

/** One value, or a list of them: "Arrays can take one or more values". */
function requireList(given: unknown, place: string): readonly unknown[] {
  const values: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (values.length === 0) throw new PolicyRefused(`${place} is an empty list.`);
  for (const value of values) {
    if (typeof value === 'string' && value.length > STRING_LENGTH_MAX) {
      throw new PolicyRefused(`${place} has a text of more than ${STRING_LENGTH_MAX} characters.`);
    }
  }
  return values;
}

/** "The prefix and the action name are case insensitive." Actions of other services are taken; nobody asks for them here. */
function readAction(text: string, place: string): Wildcard {
  const action = text.toLowerCase();
  const [service, name] = action.split(':');
  if (action !== '*' && !/^[a-z0-9-]+:[a-z0-9*?]+$/.test(action)) {
    throw new PolicyRefused(`${place}: ${JSON.stringify(text)} is no action; write service:Name, or * for all.`);
  }
  const pattern = readWildcard(parseTemplate(action, place, true) as Pieces, text, place);
  if (service === 'nimble' && !ACTIONS.some((known) => matches(pattern, `nimble:${known.toLowerCase()}`))) {
    throw new PolicyRefused(`${place}: Nimble Studio has no action ${JSON.stringify(name)}.`);
  }
  return pattern;
}

function readWildcard(pieces: Pieces, text: string, place: string): Wildcard {
  const wildcard = compileWildcard(pieces);
  if (searchedWithQuestionMark(wildcard) <= SEARCHED_LENGTH_MAX) return wildcard;
  throw new PolicyRefused(
    `${place}: ${JSON.stringify(text.slice(0, 64))}... has more than ${SEARCHED_LENGTH_MAX} characters with a ? between two *.`,
  );
}

// --- Resources --------------------------------------------------------------------------------------------------------

interface ResourcePattern {
  readonly text: string;
  readonly template: Template;
  /** Absent where a variable stands in it. */
  readonly wildcard: Wildcard | undefined;
}

/** Partition, service, region, account and the rest. The service must be spelled out, as in IAM. */
const ARN = /^arn:([a-z*?-]+):([a-z0-9-]+):([a-z0-9*?-]*):([0-9*?]*):(.+)$/s;
/** "If the * wildcard is the last character of a resource ARN segment, it can expand to match beyond the colon boundaries." */
const SHORT_ARN = /^arn:[a-z*?-]+:[a-z0-9-]+(?::[a-z0-9*?-]*)?:[a-z0-9?-]*\*$/;

/**
 * A `*` is taken for any characters, colons included: beyond what it says at the end of a segment, IAM leaves open what
 * it means in the middle of one, and no ARN of this service differs by it.
 */
function readResource(text: string, place: string): ResourcePattern {
  if (text !== '*' && !SHORT_ARN.test(text)) requireArn(text, place);
  const template = parseTemplate(text, place, true);
  if (variablesOf(template).length > 0) {
    readWildcard(
      template.map((piece) => (typeof piece === 'object' ? '' : piece)),
      text,
      place,
    );
    return { text, template, wildcard: undefined };
  }
  return { text, template, wildcard: readWildcard(template as Pieces, text, place) };
}

function requireArn(text: string, place: string): void {
  const quoted = JSON.stringify(text.slice(0, 128));
  const head = text.slice(0, text.indexOf('$') < 0 ? text.length : text.indexOf('$'));
  // "This portion of the ARN appears after the fifth colon. You can't use a variable to replace parts before it."
  if (head !== text && head.split(':').length < 6) {
    throw new PolicyRefused(`${place}: ${quoted} has a variable before its fifth colon.`);
  }
  const match = ARN.exec(text);
  if (!match)
    throw new PolicyRefused(`${place}: ${quoted} is no ARN; write arn:aws:nimble:region:account:type/id, or *.`);
  const [, , service, region, account, rest] = match as unknown as string[];
  if (account !== '' && !/[*?]/.test(account!) && account!.length !== 12) {
    throw new PolicyRefused(`${place}: ${quoted} has an account that is not 12 digits.`);
  }
  if (service !== 'nimble') return;
  if (region === '' || account === '') throw new PolicyRefused(`${place}: ${quoted} lacks its region or its account.`);
  const slash = rest!.indexOf('/');
  const type = slash < 0 ? rest! : rest!.slice(0, slash);
  if (/[*?$]/.test(type)) return;
  if (slash < 0 || !RESOURCE_TYPES.some((known) => known === type)) {
    throw new PolicyRefused(
      `${place}: ${quoted} names no type of resource of Nimble Studio: ${RESOURCE_TYPES.join(', ')}.`,
    );
  }
}

function isElsewhere(text: string, { region, accountId }: Place): boolean {
  const match = ARN.exec(text);
  if (match?.[2] !== 'nimble') return false;
  const fits = (pattern: string, value: string) =>
    matches(compileWildcard(parseTemplate(pattern, '', true) as Pieces), value);
  return !fits(match[1]!, 'aws') || !fits(match[3]!, region) || !fits(match[4]!, accountId);
}

/** Whether a statement is about the resource of a request: any of its names counts, for an Allow as for a Deny. */
function concernsOf(patterns: readonly ResourcePattern[], negated: boolean): Statement['concerns'] {
  const ready = patterns.flatMap(({ wildcard }) => wildcard ?? []);
  const variable = patterns.flatMap(({ wildcard, template }) => (wildcard ? [] : filling(template, compileWildcard)));
  return ({ resource, context }) => {
    const wildcards = variable.length > 0 ? [...ready] : ready;
    let isUnknown = false;
    for (const fill of variable) {
      const filled = fill(context);
      if (filled === 'no') return 'no';
      if (filled === 'unknown') isUnknown = true;
      else wildcards.push(filled);
    }
    const isNamed = matchesAny(wildcards, resource);
    if (isUnknown && !isNamed) return 'unknown';
    return isNamed !== negated ? 'yes' : 'no';
  };
}

function matchesAny(wildcards: readonly Wildcard[], names: readonly string[]): boolean {
  for (const wildcard of wildcards) for (const name of names) if (matches(wildcard, name)) return true;
  return false;
}

// --- Conditions -------------------------------------------------------------------------------------------------------

function readConditions(given: unknown, place: string): Condition[] {
  if (given === undefined) return [];
  return Object.entries(requireObject(given, place)).flatMap(([operator, keys]) => {
    const operatorPlace = `${place} ${operator.slice(0, 64)}`;
    const entries = Object.entries(requireObject(keys, operatorPlace));
    if (entries.length === 0) throw new PolicyRefused(`${operatorPlace} names no condition key.`);
    return entries.map(([key, value]) => {
      const keyPlace = `${operatorPlace} ${key.slice(0, 256)}`;
      return readCondition(operator, key, requireValues(value, keyPlace), keyPlace);
    });
  });
}

/** "Quotation marks are optional for numeric and Boolean values." */
function requireValues(given: unknown, place: string): readonly string[] {
  return requireList(given, place).map((value) => {
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value);
    throw new PolicyRefused(`${place} must have texts, numbers or true or false.`);
  });
}
