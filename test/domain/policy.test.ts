/**
 * The policy language, word by word: what each operator makes of a value, of none, and of several; what wildcards and
 * variables stand for; that a deny wins; and that whatever is not known is refused with its place and never ignored.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of policies look like this
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { compilePolicy, type Decision, evaluate, joinPolicies } from '../../src/domain/policy.ts';
import { OPERATOR_NAMES } from '../../src/domain/policy-condition.ts';
import { type Context, UNKNOWN, type Values } from '../../src/domain/policy-context.ts';
import { PolicyRefused } from '../../src/domain/policy-json.ts';
import { ACTIONS as EVERY_ACTION } from '../../src/domain/policy-terms.ts';
import { ANY_ONE, ANY_RUN, compileWildcard, matches } from '../../src/domain/wildcard.ts';
import { createRandom, type Random } from '../support/random.ts';

const IMAGE = 'arn:aws:nimble:us-west-2:123456789012:streaming-image/abc';

type Keys = Readonly<Record<string, Values>>;

const contextOf =
  (keys: Keys): Context =>
  (key) =>
    Object.entries(keys).find(([name]) => name.toLowerCase() === key)?.[1];

const documentOf = (...statements: readonly object[]) =>
  JSON.stringify({ Version: '2012-10-17', Statement: statements });

const ALLOW_ALL = { Effect: 'Allow', Action: '*', Resource: '*' };

function decide(
  statements: readonly object[],
  { action = 'nimble:GetStreamingImage', resource = IMAGE, keys = {} as Keys } = {},
): Decision['decision'] {
  const policies = joinPolicies([compilePolicy('test', documentOf(...statements))]);
  return evaluate(policies, { action, resource: [resource], context: contextOf(keys) }).decision;
}

/** Whether a condition holds: the only one of a statement that allows everything. */
function holds(condition: object, keys: Keys): boolean {
  return decide([{ ...ALLOW_ALL, Condition: condition }], { keys }) === 'allow';
}

function refusal(text: string): string {
  try {
    compilePolicy('test', text);
  } catch (error) {
    assert.ok(error instanceof PolicyRefused, String(error));
    assert.match(error.message, /^[^\n]+\.$/);
    return error.message;
  }
  return assert.fail(`taken: ${text.slice(0, 200)}`);
}

// --- Operators --------------------------------------------------------------------------------------------------------

const TAG = 'aws:ResourceTag/x';

/** Operator, what the policy names, values of a request that match, and values that do not. */
const POSITIVE: readonly (readonly [name: string, named: unknown, matching: string[], other: string[]])[] = [
  ['StringEquals', ['red', 'blue'], ['red', 'blue'], ['Red', 're', 'redd', '*', '']],
  ['StringEquals', 'r*d?', ['r*d?'], ['red1', 'rd?']],
  ['StringEqualsIgnoreCase', 'Red', ['red', 'RED'], ['re', 'r*']],
  ['StringLike', ['r*d', '?at'], ['red', 'rd', 'r/:d', 'cat'], ['Red', 'at', 'scat', 'reds']],
  ['StringLike', '', [''], ['x']],
  [
    'ArnEquals',
    'arn:aws:nimble:*:123456789012:studio/a?',
    ['arn:aws:nimble:us-west-2:123456789012:studio/ab'],
    [
      'arn:aws:nimble:us-west-2:1:123456789012:studio/ab',
      'arn:aws:nimble:us-west-2:123456789012:studio/a',
      'arn:aws:nimble:us-west-2:123456789012',
      'text',
    ],
  ],
  [
    'ArnLike',
    'arn:aws:nimble:*:*:studio/*',
    ['arn:aws:nimble:a:b:studio/c', 'arn:aws:nimble:a:b:studio/c:d/e'],
    ['arn:aws:nimble:a:b:c:studio/d', 'arn:aws:nimble:a:b:eula/c'],
  ],
  ['Bool', true, ['true', 'TRUE'], ['false', 'yes', '1', '']],
  ['Bool', 'false', ['false'], ['true', '']],
  ['NumericEquals', [10, '2.5'], ['10', '10.0', '1e1', '2.50'], ['9', 'ten', '', '0x0a', ' 10']],
  ['NumericLessThan', 10, ['9.9', '-3'], ['10', '11', 'nine']],
  ['NumericLessThanEquals', '10', ['10', '9'], ['10.1', 'x']],
  ['NumericGreaterThan', 10, ['10.1', '1e2'], ['10', '9', 'x']],
  ['NumericGreaterThanEquals', 10, ['10', '11'], ['9', 'x']],
  [
    'DateEquals',
    '2026-01-01',
    ['2026-01-01T00:00:00Z', '2026-01-01T01:00:00+01:00', '1767225600'],
    ['2026-01-01T00:00:01Z', '2026-02-30', 'today'],
  ],
  ['DateLessThan', '2026-01-01T00:00:00Z', ['2025-12-31T23:59:59.999Z', '2025'], ['2026-01-01', '2026-06', 'x']],
  ['DateLessThanEquals', 1767225600, ['2026-01-01', '2025-12'], ['2026-01-02', 'x']],
  ['DateGreaterThan', '2026-01', ['2026-01-01T00:01Z'], ['2026-01-01', '2025', 'x']],
  ['DateGreaterThanEquals', '2026', ['2026-01-01', '2027'], ['2025-12-31', 'x']],
  [
    'IpAddress',
    ['10.0.0.0/8', '2001:db8::/32'],
    ['10.255.0.1', '2001:DB8:ffff::1'],
    ['11.0.0.1', '2001:db9::', 'x', ''],
  ],
  ['IpAddress', '192.0.2.7', ['192.0.2.7'], ['192.0.2.8', '::ffff:192.0.2.7']],
  ['IpAddress', '2001:db8::7', ['2001:db8:0::7'], ['2001:db8::8']],
  ['IpAddress', '0.0.0.0/0', ['192.0.2.7'], ['::1']],
  ['IpAddress', '::/0', ['::1', '2001:db8::'], ['192.0.2.7']],
  ['IpAddress', '10.1.2.3/8', ['10.9.9.9'], ['11.1.2.3']],
];

const NEGATED: Readonly<Record<string, string>> = {
  StringEquals: 'StringNotEquals',
  StringEqualsIgnoreCase: 'StringNotEqualsIgnoreCase',
  StringLike: 'StringNotLike',
  ArnEquals: 'ArnNotEquals',
  ArnLike: 'ArnNotLike',
  NumericEquals: 'NumericNotEquals',
  DateEquals: 'DateNotEquals',
  IpAddress: 'NotIpAddress',
};

test('the tables below have every operator that there is', () => {
  const names = [...POSITIVE.map(([name]) => name), ...Object.values(NEGATED), 'Null'];
  assert.deepEqual(new Set(names.map((name) => name.toLowerCase())), new Set(OPERATOR_NAMES));
});

for (const [name, named, matching, other] of POSITIVE) {
  const values: [string, boolean][] = [
    ...matching.map((value) => [value, true]),
    ...other.map((value) => [value, false]),
  ] as never;
  const negatedName = NEGATED[name];
  const spellings: [string, (matches: boolean) => boolean][] = [[name, (match) => match]];
  if (negatedName) spellings.push([negatedName, (match) => !match]);

  for (const [operator, expected] of spellings) {
    test(`${operator} ${JSON.stringify(named)}: one value, none, several, IfExists and the set forms`, () => {
      const isNegated = operator === negatedName;
      const check = (form: string, value: Values, result: boolean) =>
        assert.equal(holds({ [form]: { [TAG]: named } }, { [TAG]: value }), result, `${form} of ${String(value)}`);
      for (const [value, match] of values) {
        for (const form of [operator, operator.toLowerCase(), `${operator}IfExists`])
          check(form, [value], expected(match));
        if (value === '') continue;
        for (const set of ['ForAllValues:', 'ForAnyValue:', 'foranyvalue:']) {
          for (const form of [operator, `${operator}IfExists`]) check(`${set}${form}`, [value], expected(match));
        }
      }
      // Missing: false; negated, or with IfExists, true. A set form does not care for either.
      check(operator, undefined, isNegated);
      check(`${operator}IfExists`, undefined, true);
      for (const none of [undefined, [], ['']]) {
        for (const form of [operator, `${operator}IfExists`]) {
          check(`ForAllValues:${form}`, none, true);
          check(`ForAnyValue:${form}`, none, false);
        }
      }
      // A value under several names: one that matches is enough, and a negated form asks that none does.
      const mixed = [matching.find((value) => value !== ''), other.find((value) => value !== '')];
      if (mixed[0] && mixed[1]) check(operator, mixed as string[], !isNegated);
    });
  }
}

test('set forms look at the members of a list one by one', () => {
  const cases: [form: string, named: string[], keys: string[], result: boolean][] = [
    ['ForAllValues:StringEquals', ['a', 'b'], ['a'], true],
    ['ForAllValues:StringEquals', ['a', 'b'], ['a', 'b'], true],
    ['ForAllValues:StringEquals', ['a', 'b'], ['a', 'c'], false],
    ['ForAnyValue:StringEquals', ['a', 'b'], ['c', 'a'], true],
    ['ForAnyValue:StringEquals', ['a', 'b'], ['c', 'd'], false],
    ['ForAllValues:StringNotEquals', ['a', 'b'], ['c', 'd'], true],
    ['ForAllValues:StringNotEquals', ['a', 'b'], ['c', 'a'], false],
    ['ForAnyValue:StringNotEquals', ['a', 'b'], ['c', 'a'], true],
    ['ForAnyValue:StringNotEquals', ['a', 'b'], ['a', 'b'], false],
    ['ForAllValues:StringLike', ['key1*'], ['key1:hr', 'key1:legal'], true],
    ['ForAllValues:StringNotLike', ['key1*'], ['key1:hr', 'key2:audit'], false],
    ['ForAnyValue:StringNotLike', ['key1*'], ['key1:hr', 'key2:audit'], true],
  ];
  for (const [form, named, given, result] of cases) {
    assert.equal(holds({ [form]: { 'aws:TagKeys': named } }, { 'aws:TagKeys': given }), result, `${form} of ${given}`);
  }
});

test('Null asks whether a key is there and has a value', () => {
  const cases: [named: unknown, given: Values, result: boolean][] = [
    ['true', undefined, true],
    [true, ['x'], false],
    ['false', undefined, false],
    [false, ['x'], true],
    ['true', [], true],
    ['true', [''], true],
    [['true', 'false'], ['x'], true],
    [['true', 'false'], undefined, true],
  ];
  for (const key of [TAG, 'aws:TagKeys']) {
    for (const [named, given, result] of cases)
      assert.equal(holds({ Null: { [key]: named } }, { [key]: given }), result);
  }
});

test('all operators and all keys of a condition must hold, and any value of a key is enough', () => {
  const keys = { 'aws:username': ['anna'], 'aws:userid': ['AIDA1'] };
  assert.ok(holds({ StringEquals: { 'aws:username': ['ben', 'anna'], 'aws:userid': 'AIDA1' } }, keys));
  assert.ok(!holds({ StringEquals: { 'aws:username': ['ben', 'anna'], 'aws:userid': 'AIDA2' } }, keys));
  assert.ok(!holds({ StringEquals: { 'aws:username': 'anna' }, StringLike: { 'aws:userid': 'B*' } }, keys));
});

test('names of keys are not case-sensitive, values are', () => {
  assert.ok(holds({ STRINGEQUALS: { 'AWS:UserName': 'anna' } }, { 'aws:username': ['anna'] }));
  assert.ok(holds({ StringEquals: { 'aws:resourcetag/X': '1' } }, { [TAG]: ['1'] }));
  assert.ok(!holds({ StringEquals: { 'aws:username': 'Anna' } }, { 'aws:username': ['anna'] }));
});

test('what cannot be told never helps the caller: an Allow does not apply, a Deny does', () => {
  const conditions = [
    { StringEquals: { [TAG]: 'a' } },
    { StringNotEquals: { [TAG]: 'a' } },
    { StringEqualsIfExists: { [TAG]: 'a' } },
    { 'ForAllValues:StringEquals': { [TAG]: 'a' } },
    { Null: { [TAG]: true } },
    { Null: { [TAG]: false } },
    { StringEquals: { 'aws:username': `\${${TAG}}` } },
  ];
  const keys = { [TAG]: UNKNOWN, 'aws:username': ['a'] } as Keys;
  for (const Condition of conditions) {
    assert.equal(decide([{ ...ALLOW_ALL, Condition }], { keys }), 'implicit-deny');
    assert.equal(decide([ALLOW_ALL, { ...ALLOW_ALL, Effect: 'Deny', Condition }], { keys }), 'explicit-deny');
    const never = { ...Condition, StringLike: { 'aws:userid': 'nobody' } };
    assert.equal(decide([ALLOW_ALL, { ...ALLOW_ALL, Effect: 'Deny', Condition: never }], { keys }), 'allow');
  }
  const Resource = `arn:aws:nimble:*:*:streaming-image/\${${TAG}}`;
  assert.equal(decide([{ ...ALLOW_ALL, Resource }], { keys }), 'implicit-deny');
  assert.equal(decide([ALLOW_ALL, { ...ALLOW_ALL, Effect: 'Deny', Resource }], { keys }), 'explicit-deny');
});

// --- Actions and resources --------------------------------------------------------------------------------------------

test('actions are matched without case, with * and ?, and NotAction means all others', () => {
  const cases: [object, string, boolean][] = [
    [{ Action: 'nimble:GetStudio' }, 'nimble:GetStudio', true],
    [{ Action: 'NIMBLE:getstudio' }, 'nimble:GetStudio', true],
    [{ Action: 'nimble:GetStudio' }, 'nimble:GetStudioMember', false],
    [{ Action: 'nimble:Get*' }, 'nimble:GetStudioMember', true],
    [{ Action: 'nimble:?etStudio' }, 'nimble:GetStudio', true],
    [{ Action: 'nimble:*Studio' }, 'nimble:GetStudioMember', false],
    [{ Action: '*' }, 'nimble:DeleteStudio', true],
    [{ Action: ['ec2:*', 'nimble:Tag*'] }, 'nimble:TagResource', true],
    [{ Action: 'ec2:*' }, 'nimble:GetStudio', false],
    [{ NotAction: 'nimble:Delete*' }, 'nimble:GetStudio', true],
    [{ NotAction: ['nimble:Delete*', 'nimble:Get*'] }, 'nimble:GetStudio', false],
  ];
  for (const [actions, action, result] of cases) {
    const statement = { Effect: 'Allow', Resource: '*', ...actions };
    assert.equal(decide([statement], { action }) === 'allow', result, JSON.stringify(actions));
  }
});

test('resources are matched with case, with * and ?, and NotResource means all others', () => {
  const place = 'arn:aws:nimble:us-west-2:123456789012';
  const cases: [object, string, boolean][] = [
    [{ Resource: IMAGE }, IMAGE, true],
    [{ Resource: `${place}:streaming-image/ABC` }, IMAGE, false],
    [{ Resource: `${place}:streaming-image/*` }, IMAGE, true],
    [{ Resource: `${place}:streaming-image/a` }, IMAGE, false],
    [{ Resource: `${place}:streaming-image/ab` }, IMAGE, false],
    [{ Resource: `${place}:streaming-image/??c` }, IMAGE, true],
    [{ Resource: `${place}:streaming-image/????` }, IMAGE, false],
    [{ Resource: `${place}:studio/*` }, IMAGE, false],
    [{ Resource: 'arn:aws:nimble:*' }, IMAGE, true],
    [{ Resource: 'arn:aws:ec2:*' }, IMAGE, false],
    [{ Resource: 'arn:*:nimble:*:*:s*' }, IMAGE, true],
    [{ Resource: ['arn:aws:s3:::bucket/*', `${place}:streaming-image/abc`] }, IMAGE, true],
    [{ Resource: `${place}:studio/abc` }, `${place}:studio/*`, false],
    [{ Resource: `${place}:studio/*` }, '*', false],
    [{ NotResource: `${place}:studio/*` }, IMAGE, true],
    [{ NotResource: [`${place}:studio/*`, IMAGE] }, IMAGE, false],
  ];
  for (const [resources, resource, result] of cases) {
    const statement = { Effect: 'Allow', Action: '*', ...resources };
    assert.equal(decide([statement], { resource }) === 'allow', result, `${JSON.stringify(resources)} of ${resource}`);
  }
});

test('a resource with several names is named by any of them', () => {
  const [short, long] = [
    'arn:aws:nimble:us-west-2:123456789012:studio/s',
    'arn:aws:nimble:us-west-2:123456789012:studio/r:s',
  ];
  const ask = (statements: object[]) =>
    evaluate(joinPolicies([compilePolicy('test', documentOf(...statements))]), {
      action: 'nimble:GetStudio',
      resource: [short, long],
      context: () => undefined,
    }).decision;
  for (const Resource of [short, long]) {
    assert.equal(ask([{ ...ALLOW_ALL, Resource }]), 'allow');
    assert.equal(ask([ALLOW_ALL, { ...ALLOW_ALL, Effect: 'Deny', Resource }]), 'explicit-deny');
    const { Resource: _, ...others } = { ...ALLOW_ALL, NotResource: Resource };
    assert.equal(ask([others]), 'implicit-deny');
  }
});

/** Of this thread alone: what else runs on the machine does not count. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** By the definition, with all the time in the world. */
function naive(pattern: readonly string[], text: readonly string[]): boolean {
  if (pattern.length === 0) return text.length === 0;
  const [first, ...rest] = pattern;
  if (first === '*') return naive(rest, text) || (text.length > 0 && naive(pattern, text.slice(1)));
  return text.length > 0 && (first === '?' || first === text[0]) && naive(rest, text.slice(1));
}

const piecesOf = (pattern: readonly string[]) =>
  pattern.map((character) => (character === '*' ? ANY_RUN : character === '?' ? ANY_ONE : character));

test('wildcards match what a naive matcher matches', () => {
  const letter = fc.constantFrom('a', 'b', ':', '😀');
  fc.assert(
    fc.property(
      fc.array(fc.oneof({ weight: 2, arbitrary: letter }, fc.constantFrom('*', '?')), { maxLength: 9 }),
      fc.array(letter, { maxLength: 12 }),
      (pattern, text) => matches(compileWildcard(piecesOf(pattern)), text.join('')) === naive(pattern, text),
    ),
    { numRuns: 20_000 },
  );
});

test('short wildcards match what a naive matcher matches, all of them', () => {
  const wordsOf = (letters: readonly string[], length: number): string[][] =>
    length === 0
      ? [[]]
      : [[], ...wordsOf(letters, length - 1).flatMap((word) => letters.map((letter) => [letter, ...word]))];
  const texts = wordsOf(['a', 'b'], 6);
  for (const pattern of wordsOf(['a', 'b', '*', '?'], 5)) {
    const wildcard = compileWildcard(piecesOf(pattern));
    for (const text of texts) {
      if (matches(wildcard, text.join('')) !== naive(pattern, text))
        assert.fail(`${pattern.join('')} of ${text.join('')}`);
    }
  }
});

test('no pattern makes a long text slow', () => {
  const text = 'a'.repeat(100_000);
  for (const pattern of [
    `${'*a'.repeat(500)}b`,
    `*${'a'.repeat(1_000)}b*`,
    `*${'a'.repeat(60)}?${'a'.repeat(60)}b*`,
    '?'.repeat(2_000),
  ]) {
    const started = cpuMs();
    assert.equal(matches(compileWildcard(piecesOf([...pattern])), text), false);
    assert.ok(cpuMs() - started < 2_000, pattern.slice(0, 20));
  }
});

// --- Deciding ---------------------------------------------------------------------------------------------------------

const ACTIONS = ['nimble:GetStudio', 'nimble:GetStreamingImage', 'nimble:DeleteStreamingImage', 'nimble:TagResource'];
const ARNS = ['studio/a', 'studio/b', 'streaming-image/a', 'streaming-image/ab'].map(
  (rest) => `arn:aws:nimble:us-west-2:123456789012:${rest}`,
);

interface Drawn {
  readonly Effect: 'Allow' | 'Deny';
  readonly Condition?: Record<string, Record<string, string[]>>;
  readonly [element: string]: unknown;
}

function drawStatement(random: Random): Drawn {
  const some = <T>(list: readonly T[]) => list.filter(() => random.chance(0.4));
  const action = [random.pick([...ACTIONS, 'nimble:*', 'nimble:Get*', 'nimble:*Image', '*']), ...some(ACTIONS)];
  const resource = [
    random.pick([
      ...ARNS,
      '*',
      'arn:aws:nimble:*:*:studio/*',
      'arn:aws:nimble:us-west-2:123456789012:streaming-image/a?',
    ]),
    ...some(ARNS),
  ];
  const operator = random.pick(['StringEquals', 'StringNotEquals', 'StringLike', 'StringEqualsIfExists', 'Null']);
  const values =
    operator === 'Null' ? [random.pick(['true', 'false'])] : [random.pick(['red', 'blue', 'r*']), ...some(['green'])];
  return {
    Effect: random.chance(0.3) ? 'Deny' : 'Allow',
    [random.chance(0.2) ? 'NotAction' : 'Action']: action,
    [random.chance(0.2) ? 'NotResource' : 'Resource']: resource,
    ...(random.chance(0.5) && { Condition: { [operator]: { [TAG]: values } } }),
  };
}

/** The language's rules once more, written for shortness and nothing else. */
function modelOf(statements: readonly Drawn[], action: string, resource: string, tag: string | undefined): string {
  const glob = (pattern: string, text: string) => naive([...pattern], [...text]);
  const listed = (statement: Drawn, element: string, text: string) =>
    statement[element] !== undefined
      ? (statement[element] as string[]).some((pattern) => glob(pattern, text))
      : !(statement[`Not${element}`] as string[]).some((pattern) => glob(pattern, text));
  const held = (operator: string, values: string[]) => {
    if (operator === 'Null') return values.includes(String(tag === undefined));
    if (tag === undefined) return operator !== 'StringEquals' && operator !== 'StringLike';
    if (operator === 'StringLike') return values.some((value) => glob(value, tag));
    return values.includes(tag) !== (operator === 'StringNotEquals');
  };
  const applying = statements.filter(
    (statement) =>
      listed(statement, 'Action', action) &&
      listed(statement, 'Resource', resource) &&
      Object.entries(statement.Condition ?? {}).every(([operator, keys]) => held(operator, Object.values(keys)[0]!)),
  );
  if (applying.some(({ Effect }) => Effect === 'Deny')) return 'explicit-deny';
  return applying.length > 0 ? 'allow' : 'implicit-deny';
}

test('random policies decide as an independent model of the language does', (t) => {
  const seed = process.env.BACKLOT_SEED ?? String(Date.now());
  t.diagnostic(`BACKLOT_SEED=${seed}`);
  const random = createRandom(seed);
  for (let round = 0; round < 3_000; round += 1) {
    const statements = Array.from({ length: 1 + random.below(4) }, () => drawStatement(random));
    const split = random.below(statements.length);
    const parts = [statements.slice(0, split), statements.slice(split)].filter(({ length }) => length > 0);
    const policies = joinPolicies(parts.map((part, index) => compilePolicy(`${index}`, documentOf(...part))));
    for (const action of ACTIONS) {
      const resource = random.pick(ARNS);
      const tag = random.pick([undefined, 'red', 'blue', 'green']);
      const request = {
        action,
        resource: [resource],
        context: contextOf({ [TAG]: tag === undefined ? undefined : [tag] }),
      };
      const { decision } = evaluate(policies, request);
      assert.equal(
        decision,
        modelOf(statements, action, resource, tag),
        `${seed}: ${JSON.stringify({ statements, action, resource, tag })}`,
      );
    }
  }
});

test('an explicit deny beats any allow, wherever it stands', () => {
  const random = createRandom('deny');
  for (let round = 0; round < 300; round += 1) {
    const statements = Array.from({ length: 4 }, () => drawStatement(random));
    const denial = { Sid: 'Denial', Effect: 'Deny', Action: 'nimble:GetStudio', Resource: ARNS[0] };
    statements.splice(random.below(5), 0, denial as never);
    assert.equal(
      decide([...statements, ALLOW_ALL], { action: 'nimble:GetStudio', resource: ARNS[0]! }),
      'explicit-deny',
    );
  }
});

test('the decision says which statement made it', () => {
  const statements = [ALLOW_ALL, { ...ALLOW_ALL, Sid: 'NoDeleting', Effect: 'Deny', Action: 'nimble:Delete*' }];
  const policies = joinPolicies([compilePolicy('mine', documentOf(...statements))]);
  const ask = (action: string) => evaluate(policies, { action, resource: ['*'], context: () => undefined });
  const { decision, statement } = ask('nimble:DeleteStudio');
  assert.deepEqual(
    [decision, statement?.policy, statement?.number, statement?.sid],
    ['explicit-deny', 'mine', 2, 'NoDeleting'],
  );
  assert.equal(ask('nimble:GetStudio').statement?.number, 1);
  assert.deepEqual(
    evaluate(joinPolicies([]), { action: 'nimble:GetStudio', resource: ['*'], context: () => undefined }),
    {
      decision: 'implicit-deny',
    },
  );
});

// --- Variables --------------------------------------------------------------------------------------------------------

test('variables are filled in with text, which is never a wildcard', () => {
  const own = { ...ALLOW_ALL, Resource: 'arn:aws:nimble:*:*:streaming-image/${aws:username}' };
  const ask = (username: string | undefined, id: string, statement: object = own) =>
    decide([statement], {
      resource: `arn:aws:nimble:us-west-2:123456789012:streaming-image/${id}`,
      keys: { 'aws:username': username === undefined ? undefined : [username] },
    }) === 'allow';
  assert.ok(ask('abc', 'abc') && !ask('abc', 'abcd') && !ask('abc', 'ABC'));
  assert.ok(!ask('*', 'abc') && !ask('a?c', 'abc') && ask('*', '*'));
  assert.ok(!ask('${aws:userid}', 'abc') && !ask('', 'abc'));
  assert.ok(!ask(undefined, 'undefined') && !ask(undefined, ''));
  const byDefault = { ...own, Resource: "arn:aws:nimble:*:*:streaming-image/${ AWS:UserName , 'nobody*' }" };
  assert.ok(
    ask('abc', 'abc', byDefault) && ask(undefined, 'nobody*', byDefault) && !ask(undefined, 'nobody1', byDefault),
  );
});

test('variables stand in conditions on texts and ARNs, between other text', () => {
  const keys = {
    'aws:username': ['anna'],
    'aws:userid': ['AIDA1'],
    [TAG]: ['anna'],
    'aws:RequestTag/o': ['x-anna-AIDA1$'],
  };
  assert.ok(holds({ StringEquals: { [TAG]: '${aws:username}' } }, keys));
  assert.ok(holds({ StringEquals: { 'aws:RequestTag/o': 'x-${aws:username}-${aws:userid}$' } }, keys));
  assert.ok(holds({ StringLike: { 'aws:RequestTag/o': '?-${aws:username}-*${$}' } }, keys));
  assert.ok(holds({ StringEqualsIgnoreCase: { [TAG]: ["${nimble:ownedBy, 'nobody'}", '${aws:username}'] } }, keys));
  assert.ok(!holds({ StringNotEquals: { [TAG]: '${aws:username}' } }, keys));
  assert.ok(
    holds(
      { ArnLike: { 'nimble:studioId': 'arn:aws:nimble:*:*:studio/${aws:username}' } },
      { ...keys, 'nimble:studioId': ['arn:aws:nimble:a:b:studio/anna'] },
    ),
  );
});

test('a variable without a value makes its statement not apply, negated or not; what needs no value is not asked for one', () => {
  const keys = { [TAG]: ['anna'] };
  for (const operator of [
    'StringEquals',
    'StringNotEquals',
    'StringNotLike',
    'ForAllValues:StringNotEquals',
    'StringEqualsIfExists',
  ]) {
    assert.ok(!holds({ [operator]: { [TAG]: ['anna', '${aws:username}'] } }, keys), operator);
  }
  assert.ok(holds({ StringEqualsIfExists: { 'nimble:ownedBy': '${aws:username}' } }, keys));
});

test('${*}, ${?} and ${$} are the characters themselves', () => {
  assert.ok(holds({ StringLike: { [TAG]: 'a${*}${?}${$}{b}' } }, { [TAG]: ['a*?${b}'] }));
  assert.ok(!holds({ StringLike: { [TAG]: 'a${*}b' } }, { [TAG]: ['axb'] }));
  assert.ok(holds({ StringEquals: { [TAG]: '$5 $' } }, { [TAG]: ['$5 $'] }));
});

// --- What is refused --------------------------------------------------------------------------------------------------

const one = (more: object) => documentOf({ ...ALLOW_ALL, ...more });
const conditioned = (condition: unknown) => one({ Condition: condition });
const arn = (rest: string) => one({ Resource: rest });

const REFUSED: readonly [what: string, text: string, says: RegExp][] = [
  ['no JSON', '{', /not valid JSON/],
  ['nothing', '', /not valid JSON/],
  ['a list', '[]', /The document must be a JSON object/],
  ['null', 'null', /The document must be a JSON object/],
  ['no version', JSON.stringify({ Statement: ALLOW_ALL }), /Version must be "2012-10-17"/],
  ['the old version', JSON.stringify({ Version: '2008-10-17', Statement: ALLOW_ALL }), /Version/],
  ['no statement', JSON.stringify({ Version: '2012-10-17' }), /no Statement/],
  ['no statement in the list', documentOf(), /no Statement/],
  [
    'a statement that is a text',
    JSON.stringify({ Version: '2012-10-17', Statement: ['x'] }),
    /Statement 1 must be a JSON object/,
  ],
  [
    'an Id',
    JSON.stringify({ Version: '2012-10-17', Id: 'x', Statement: ALLOW_ALL }),
    /"Id", which only policies of resources/,
  ],
  ['a Principal', one({ Principal: '*' }), /Statement 1 .*"Principal", which only policies of resources/],
  ['an unknown element', JSON.stringify({ Version: '2012-10-17', Statement: ALLOW_ALL, Extra: 1 }), /"Extra"/],
  ['an unknown element of a statement', one({ Actions: '*' }), /Statement 1 has an element "Actions"/],
  ['an element in another case', JSON.stringify({ version: '2012-10-17', Statement: ALLOW_ALL }), /"version"/],
  ['__proto__', `{"Version":"2012-10-17","__proto__":{},"Statement":${JSON.stringify(ALLOW_ALL)}}`, /"__proto__"/],
  [
    '__proto__ in a statement',
    '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","__proto__":{}}}',
    /"__proto__"/,
  ],
  [
    '__proto__ as an operator',
    '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"__proto__":{"aws:username":"x"}}}}',
    /no condition operator __proto__/,
  ],
  [
    '__proto__ as a key',
    '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"__proto__":"x"}}}}',
    /__proto__ is not known/,
  ],
  [
    'a member twice',
    '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}',
    /"Effect" stands twice/,
  ],
  [
    'a member twice, spelled in two ways',
    '{"Version":"2012-10-17","Statement":{"Effect":"Deny","\\u0045ffect":"Allow","Action":"*","Resource":"*"}}',
    /"Effect" stands twice/,
  ],
  ['an effect in another case', one({ Effect: 'allow' }), /Effect must be/],
  ['no effect', documentOf({ Action: '*', Resource: '*' }), /Statement 1: Effect/],
  ['no action', documentOf({ Effect: 'Allow', Resource: '*' }), /either Action or NotAction/],
  ['action and not', one({ NotAction: '*' }), /either Action or NotAction/],
  ['no resource', documentOf({ Effect: 'Allow', Action: '*' }), /either Resource or NotResource/],
  ['resource and not', one({ NotResource: '*' }), /either Resource or NotResource/],
  ['a Sid with a blank', one({ Sid: 'a b' }), /Sid must be letters and digits/],
  ['a Sid twice', documentOf({ ...ALLOW_ALL, Sid: 'a' }, { ...ALLOW_ALL, Sid: 'a' }), /Two statements have the Sid a/],
  ['an action that is a number', one({ Action: 1 }), /Statement 1: Action must be text/],
  ['an empty list of actions', one({ Action: [] }), /Action is an empty list/],
  ['an action of no service', one({ Action: 'GetStudio' }), /"GetStudio" is no action/],
  ['a service with a wildcard', one({ Action: '*:GetStudio' }), /is no action/],
  ['an action with a variable', one({ Action: 'nimble:${aws:username}' }), /is no action/],
  [
    'an action that Nimble Studio has not',
    one({ Action: 'nimble:DeleteStreamingImages' }),
    /no action "deletestreamingimages"/,
  ],
  ['a pattern that no action fits', one({ Action: 'nimble:Destroy*' }), /no action "destroy\*"/],
  ['a resource that is no ARN', arn('studio/a'), /Statement 1: Resource: "studio\/a" is no ARN/],
  ['a resource that is null', one({ Resource: null }), /Resource must be text/],
  ['an ARN with too few parts', arn('arn:aws:nimble:us-west-2:studio/a'), /is no ARN/],
  ['an ARN of any service', arn('arn:aws:*:*:*:studio/a'), /is no ARN/],
  ['an ARN of any service, cut short', arn('arn:aws:*'), /is no ARN/],
  ['an ARN without a region', arn('arn:aws:nimble::123456789012:studio/a'), /lacks its region or its account/],
  ['an ARN with a short account', arn('arn:aws:nimble:us-west-2:12345:studio/a'), /account that is not 12 digits/],
  ['an ARN of an unknown type', arn('arn:aws:nimble:us-west-2:123456789012:streaming-images/a'), /no type of resource/],
  ['an ARN without an id', arn('arn:aws:nimble:us-west-2:123456789012:studio'), /no type of resource/],
  ['an ARN with blanks', arn(' arn:aws:nimble:us-west-2:123456789012:studio/a'), /is no ARN/],
  [
    'a variable for an account',
    arn('arn:aws:nimble:us-west-2:${aws:userid}:studio/a'),
    /variable before its fifth colon/,
  ],
  ['a variable that is not closed', arn('arn:aws:nimble:*:*:studio/${aws:username'), /not closed/],
  ['a variable of an unknown key', arn('arn:aws:nimble:*:*:studio/${aws:PrincipalTag/a}'), /not known here/],
  ['a variable without a name', arn('arn:aws:nimble:*:*:studio/${}'), /not known here/],
  ['a variable of a list', arn('arn:aws:nimble:*:*:studio/${aws:TagKeys}'), /holds a list/],
  ['a default without quotes', arn('arn:aws:nimble:*:*:studio/${aws:username, nobody}'), /default in single quotes/],
  [
    'a long pattern to be looked for',
    arn(`arn:aws:nimble:*:*:studio/*${'?'.repeat(129)}*`),
    /more than 128 characters with a \?/,
  ],
  ['a condition that is a list', conditioned([]), /Condition must be a JSON object/],
  ['an operator without keys', conditioned({ StringEquals: {} }), /StringEquals names no condition key/],
  ['an operator that is a text', conditioned({ StringEquals: 'x' }), /StringEquals must be a JSON object/],
  [
    'an unknown operator',
    conditioned({ StringMatches: { 'aws:username': 'x' } }),
    /no condition operator StringMatches/,
  ],
  ['BinaryEquals', conditioned({ BinaryEquals: { 'aws:username': 'x' } }), /no condition operator BinaryEquals/],
  [
    'an unknown set form',
    conditioned({ 'ForSomeValues:StringEquals': { 'aws:TagKeys': 'x' } }),
    /no condition operator/,
  ],
  ['NullIfExists', conditioned({ NullIfExists: { 'aws:username': true } }), /Null takes no/],
  ['a set form of Null', conditioned({ 'ForAllValues:Null': { 'aws:TagKeys': true } }), /Null takes no/],
  ['Null of a word', conditioned({ Null: { 'aws:username': 'yes' } }), /is not true or false/],
  ['an unknown key', conditioned({ StringEquals: { 'aws:PrincipalTag/a': 'x' } }), /aws:PrincipalTag\/a is not known/],
  [
    'an unknown key of nimble',
    conditioned({ StringEquals: { 'nimble:studio': 'x' } }),
    /Statement 1: Condition StringEquals nimble:studio/,
  ],
  ['a tag without its key', conditioned({ StringEquals: { 'aws:ResourceTag/': 'x' } }), /is not known/],
  [
    'a list without a set form',
    conditioned({ StringEquals: { 'aws:TagKeys': 'x' } }),
    /write ForAllValues:StringEquals/,
  ],
  [
    'an operator that does not fit the key',
    conditioned({ IpAddress: { 'aws:username': '10.0.0.0/8' } }),
    /cannot be compared/,
  ],
  ['a date of a user', conditioned({ DateLessThan: { 'aws:userid': '2026' } }), /cannot be compared/],
  ['an empty list of values', conditioned({ StringEquals: { 'aws:username': [] } }), /is an empty list/],
  ['a value that is an object', conditioned({ StringEquals: { 'aws:username': {} } }), /must have texts, numbers/],
  ['a value that is null', conditioned({ StringEquals: { 'aws:username': [null] } }), /must have texts, numbers/],
  ['a number that is none', conditioned({ NumericEquals: { [TAG]: 'ten' } }), /"ten" is no number/],
  ['a variable as a number', conditioned({ NumericEquals: { [TAG]: '${aws:userid}' } }), /is no number/],
  ['a date that is none', conditioned({ DateLessThan: { 'aws:CurrentTime': '2026-02-30' } }), /is no date/],
  [
    'a time without its zone',
    conditioned({ DateLessThan: { 'aws:CurrentTime': '2026-02-03T00:00:00' } }),
    /is no date/,
  ],
  ['a date without dashes', conditioned({ DateLessThan: { 'aws:CurrentTime': '20260101' } }), /is no date/],
  ['a range that is none', conditioned({ IpAddress: { 'aws:SourceIp': '10.0.0.0/33' } }), /no IP address/],
  ['an address that is none', conditioned({ IpAddress: { 'aws:SourceIp': '10.0.0' } }), /no IP address/],
  ['an address with a zone', conditioned({ IpAddress: { 'aws:SourceIp': 'fe80::1%eth0' } }), /no IP address/],
  ['an odd prefix', conditioned({ NotIpAddress: { 'aws:SourceIp': '10.0.0.0/08' } }), /no IP address/],
  ['truth that is none', conditioned({ Bool: { 'aws:SecureTransport': 'yes' } }), /is not true or false/],
  ['a value that is no ARN', conditioned({ ArnLike: { 'nimble:studioId': 'studio/*' } }), /is no ARN/],
  [
    'an ARN with a variable for its colons',
    conditioned({ ArnLike: { 'nimble:studioId': 'arn:aws:x:y:${aws:username}' } }),
    /is no ARN/,
  ],
];

for (const [what, text, says] of REFUSED) {
  test(`refused with its place: ${what}`, () => assert.match(refusal(text), says));
}

test('hostile documents are refused, quickly', () => {
  const megabyte = 'x'.repeat(1024 * 1024);
  const statement = JSON.stringify(ALLOW_ALL);
  const hostile: [string, RegExp][] = [
    [megabyte, /longer than/],
    [one({ Sid: megabyte }), /longer than/],
    [`{"Version":"2012-10-17","Statement":[${`${statement},`.repeat(99_999)}${statement}]}`, /longer than/],
    [`{"Version":"2012-10-17","Statement":[${'{},'.repeat(3_000)}{}]}`, /3001 statements; 100 are the most/],
    [`${'['.repeat(30_000)}${']'.repeat(30_000)}`, /more than 10240 characters/],
    [`${'['.repeat(5_000)}${']'.repeat(5_000)}`, /nests deeper than 10/],
    [`${'{"a":'.repeat(1_000)}1${'}'.repeat(1_000)}`, /nests deeper than 10/],
    [one({ Resource: `arn:aws:nimble:*:*:studio/${'a'.repeat(2_048)}` }), /more than 2048 characters/],
    [conditioned({ StringLike: { 'aws:username': '${'.repeat(1_000) } }), /not closed|not known/],
    [one({ Action: Array(20_000).fill('*') }), /longer than|more than/],
    [`{"Version":"2012-10-17",${' '.repeat(60_000)}"Statement":{}}`, /Effect/],
  ];
  for (const [text, says] of hostile) {
    const started = cpuMs();
    assert.match(refusal(text), says);
    assert.ok(cpuMs() - started < 1_000, text.slice(0, 40));
  }
});

test('whatever the text, it is compiled or refused', () => {
  const word = fc.constantFrom(
    'Version',
    '2012-10-17',
    'Statement',
    'Effect',
    'Allow',
    'Action',
    'Resource',
    'Condition',
    '*',
    'Null',
    '__proto__',
    'constructor',
    'aws:username',
  );
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { maxDepth: 5 },
      word,
      fc.anything({ withNullPrototype: true }),
      fc.array(tie('any')),
      fc.dictionary(word, tie('any')),
    ),
  })).any;
  const statement = fc.record(
    { Effect: fc.constantFrom('Allow', 'Deny'), Action: value, Resource: value, Condition: value },
    { requiredKeys: [] },
  );
  fc.assert(
    fc.property(fc.oneof(value, statement, fc.string()), (drawn) => {
      let text = '';
      try {
        text =
          JSON.stringify({ Version: '2012-10-17', Statement: drawn }, (_key, inner) =>
            typeof inner === 'bigint' ? 1 : inner,
          ) ?? '';
      } catch {
        return;
      }
      try {
        compilePolicy('drawn', text);
      } catch (error) {
        assert.ok(error instanceof PolicyRefused, String((error as Error).stack));
      }
    }),
    { numRuns: 2_000 },
  );
});

// --- What studios have ------------------------------------------------------------------------------------------------

const SHIPPED = new URL('../../policies/', import.meta.url);

test('the policies that come with Backlot are policies, and give what their names promise', () => {
  const files = readdirSync(SHIPPED).sort();
  const named = ['LaunchProfileWorker', 'StudioAdmin', 'StudioUser'].map((name) => `AmazonNimbleStudio-${name}.json`);
  assert.deepEqual(files, [...named, 'LaunchProfileMember.json']);
  const [worker, admin, user, member] = files.map((file) =>
    joinPolicies([compilePolicy(file, readFileSync(new URL(file, SHIPPED), 'utf8'))]),
  );
  const may = (policies: typeof worker, action: string, keys: Keys = {}) =>
    evaluate(policies!, { action: `nimble:${action}`, resource: [IMAGE], context: contextOf(keys) }).decision ===
    'allow';
  for (const action of ['CreateStreamingSession', 'AcceptEulas', 'GetStreamingImage', 'PutLaunchProfileMembers']) {
    assert.deepEqual([may(admin, action), may(user, action), may(worker, action)], [true, false, false], action);
  }
  for (const action of [
    'CreateStudio',
    'DeleteStreamingImage',
    'UpdateLaunchProfile',
    'PutStudioMembers',
    'TagResource',
  ]) {
    assert.ok(!may(admin, action) && !may(user, action), action);
  }
  const own = { 'nimble:requesterPrincipalId': ['me'], 'nimble:ownedBy': ['me'], 'nimble:principalId': ['me'] };
  const others = { ...own, 'nimble:ownedBy': ['you'], 'nimble:principalId': ['you'] };
  for (const action of ['StopStreamingSession', 'ListLaunchProfiles']) {
    assert.deepEqual([may(user, action, own), may(user, action, others), may(user, action)], [true, false, false]);
  }
  assert.ok(may(user, 'ListEulas'));
  const used = EVERY_ACTION.filter((action) => {
    const request = { action: `nimble:${action}`, resource: [IMAGE.replace(/streaming-image.*/, 'launch-profile/x')] };
    assert.ok(!may(member, action), `${action} on what is no launch profile`);
    return evaluate(member!, { ...request, context: contextOf({}) }).decision === 'allow';
  });
  assert.deepEqual(used, [
    'CreateStreamingSession',
    'GetLaunchProfile',
    'GetLaunchProfileDetails',
    'GetLaunchProfileInitialization',
    'GetLaunchProfileMember',
    'ListLaunchProfileMembers',
  ]);
});
