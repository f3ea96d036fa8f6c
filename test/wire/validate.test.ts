/**
 * Values against shapes: the wording of every refusal is the vendor's, lengths are those of characters, what the contract
 * does not know is ignored, and no name that stands on Object.prototype is anything but a name.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  enumeration,
  integer,
  list,
  type Members,
  map,
  optional,
  required,
  string,
  structure,
  timestamp,
  union,
} from '../../src/contract/shape.ts';
import { ServiceError } from '../../src/errors.ts';
import { readMembers, Violations } from '../../src/wire/validate.ts';

const SEED = Number(process.env.BACKLOT_SEED ?? 20_200_801);

type Source = Readonly<Record<string, unknown>>;

function read(members: Members, source: Source): { value: Record<string, unknown>; violations: Violations } {
  const value: Record<string, unknown> = {};
  const violations = new Violations();
  readMembers(members, source, '', value, violations);
  return { value, violations };
}

function accepted(members: Members, source: Source): Record<string, unknown> {
  const { value, violations } = read(members, source);
  assert.equal(violations.any, false, violations.any ? violations.toError().message : '');
  return value;
}

/** What is said of a value that has the right type and is wrong all the same. */
function violated(members: Members, source: Source): string {
  const error = read(members, source).violations.toError();
  assert.deepEqual([error.name, error.status, error.code], ['ValidationException', 400, 'INVALID_INPUT']);
  return error.message;
}

/** What is said of a value that has the wrong type. */
function unreadable(members: Members, source: Source): string {
  try {
    read(members, source);
  } catch (error) {
    assert.ok(error instanceof ServiceError);
    assert.deepEqual([error.name, error.status, error.code], ['ValidationException', 400, 'UNREADABLE_BODY']);
    return error.message;
  }
  return assert.fail('it was read');
}

const one = (path: string, constraint: string, value = 'Value') =>
  `1 validation error detected. ${value} at '${path}' failed to satisfy constraint: ${constraint}`;

const choice = optional(union('Choice', { a: string(), b: structure('B', { size: optional(string({ max: 3 })) }) }));
const EXACTLY_ONE = 'Member must have exactly one of: [a, b]';

describe('the wording of every violation', () => {
  const cases: [string, Members, Source, string][] = [
    ['absent', { name: required(string()) }, {}, one('/name', 'Member must not be null')],
    ['null', { name: required(string()) }, { name: null }, one('/name', 'Member must not be null')],
    [
      'too long',
      { name: optional(string({ max: 3 })) },
      { name: 'four' },
      one('/name', 'Member must have length less than or equal to 3', 'Value with length 4'),
    ],
    [
      'too short',
      { name: optional(string({ min: 3 })) },
      { name: 'ab' },
      one('/name', 'Member must have length greater than or equal to 3', 'Value with length 2'),
    ],
    [
      'outside both limits',
      { name: optional(string({ min: 1, max: 3 })) },
      { name: '' },
      one('/name', 'Member must have length between 1 and 3, inclusive', 'Value with length 0'),
    ],
    [
      'pattern',
      { name: optional(string({ pattern: /^[a-z]*$/ })) },
      { name: 'A' },
      one('/name', 'Member must satisfy regular expression pattern: ^[a-z]*$'),
    ],
    [
      'enumeration',
      { kind: optional(enumeration(['ONE', 'TWO'])) },
      { kind: 'one' },
      one('/kind', 'Member must satisfy enum value set: [ONE, TWO]'),
    ],
    [
      'a list that is too long',
      { ids: optional(list(string(), { max: 1 })) },
      { ids: ['a', 'b'] },
      one('/ids', 'Member must have length less than or equal to 1', 'Value with length 2'),
    ],
    [
      'a list that is too short',
      { ids: optional(list(string(), { min: 1, max: 9 })) },
      { ids: [] },
      one('/ids', 'Member must have length between 1 and 9, inclusive', 'Value with length 0'),
    ],
    [
      'null in a list',
      { ids: optional(list(string())) },
      { ids: ['a', null] },
      one('/ids/2/member', 'Member must not be null'),
    ],
    [
      'an entry of a list',
      { ids: optional(list(string({ max: 1 }))) },
      { ids: ['a', 'bc'] },
      one('/ids/2/member', 'Member must have length less than or equal to 1', 'Value with length 2'),
    ],
    [
      'null in a map',
      { tags: optional(map(string())) },
      { tags: { show: null } },
      one('/tags/show', 'Member must not be null'),
    ],
    [
      'a value of a map',
      { tags: optional(map(string({ min: 1 }))) },
      { tags: { show: '' } },
      one('/tags/show', 'Member must have length greater than or equal to 1', 'Value with length 0'),
    ],
    [
      'an integer below its range',
      { count: optional(integer({ min: 1, max: 100 })) },
      { count: 0 },
      one('/count', 'Member must be between 1 and 100, inclusive'),
    ],
    [
      'an integer above its range',
      { count: optional(integer({ min: 1, max: 100 })) },
      { count: 101 },
      one('/count', 'Member must be between 1 and 100, inclusive'),
    ],
    ['two of a union', { choice }, { choice: { a: 'x', b: {} } }, one('/choice', EXACTLY_ONE)],
    ['none of a union that is known', { choice }, { choice: { c: 'x' } }, one('/choice', EXACTLY_ONE)],
    [
      'a union that must be there and is empty',
      { choice: required(choice.shape) },
      { choice: {} },
      one('/choice', 'Member must not be null'),
    ],
    [
      'a member of what a union holds',
      { choice },
      { choice: { b: { size: 'xxxx' } } },
      one('/choice/b/size', 'Member must have length less than or equal to 3', 'Value with length 4'),
    ],
    [
      'a member of a structure',
      { key: optional(structure('Key', { type: required(string()) })) },
      { key: {} },
      one('/key/type', 'Member must not be null'),
    ],
  ];
  for (const [what, members, source, message] of cases) {
    test(what, () => assert.equal(violated(members, source), message));
  }

  test('two at once, of one value as well, in the order of the contract', () => {
    const members = { second: required(string()), first: optional(string({ max: 1, pattern: /^a$/ })) };
    assert.equal(
      violated(members, { first: 'bcd' }),
      "3 validation errors detected. Value at '/second' failed to satisfy constraint: Member must not be null; " +
        "Value with length 3 at '/first' failed to satisfy constraint: Member must have length less than or equal to 1; " +
        "Value at '/first' failed to satisfy constraint: Member must satisfy regular expression pattern: ^a$",
    );
  });

  test('thousands are counted, twenty are named', () => {
    const message = violated({ ids: optional(list(string())) }, { ids: Array(5_000).fill(null) });
    assert.match(message, /^5000 validation errors detected\. /);
    assert.equal(message.split(';').length, 20);
    assert.ok(message.includes("'/ids/20/member'") && !message.includes("'/ids/21/member'"));
  });

  test('the value itself is never repeated: it may be confidential', () => {
    const members = { name: optional(string({ max: 3, pattern: /^x$/ })), kind: optional(enumeration(['ONE'])) };
    assert.doesNotMatch(violated(members, { name: 'hunter2hunter2', kind: 'hunter2' }), /hunter2/);
    assert.doesNotMatch(unreadable({ tags: optional(map(string())) }, { tags: 'hunter2' }), /hunter2/);
  });
});

describe('values of the wrong type', () => {
  const members = {
    name: optional(string()),
    ids: optional(list(string())),
    tags: optional(map(string())),
    key: optional(structure('Key', { type: optional(string()) })),
    choice,
    count: optional(integer({ min: 1, max: 100 })),
  };
  const values: [string, unknown][] = [
    ['a number', 10],
    ['a boolean', false],
    ['text', 'x'],
    ['a list', []],
    ['an object', {}],
  ];
  const object = ['an object', 'an object'] as const;
  const wanted = {
    name: ['text', 'a string'],
    ids: ['a list', 'a list'],
    tags: object,
    key: object,
    choice: object,
    count: ['a number', 'an integer'],
  } as const;

  for (const [member, [itsType, must]] of Object.entries(wanted)) {
    for (const [type, value] of values) {
      if (type === itsType) continue;
      test(`${type} is not ${must} (${member})`, () => {
        assert.equal(
          unreadable(members, { [member]: value }),
          `[Unknown error parsing request body] Value at '/${member}' must be ${must}.`,
        );
      });
    }
  }

  test('deeper down, the path says where', () => {
    assert.match(unreadable(members, { ids: ['a', 1] }), /'\/ids\/2\/member' must be a string/);
    assert.match(unreadable(members, { tags: { a: {} } }), /'\/tags\/a' must be a string/);
    assert.match(unreadable(members, { key: { type: [] } }), /'\/key\/type' must be a string/);
  });

  test('what is no whole number is no integer', () => {
    for (const count of [1.5, -0.1, 1e-9, Number.POSITIVE_INFINITY, '5', [5]]) {
      assert.match(unreadable(members, { count }), /'\/count' must be an integer/);
    }
  });

  test('a time comes with any offset, or in seconds, and leaves in the form of the API', () => {
    const at = { at: optional(timestamp()) };
    for (const time of ['2022-01-27T21:18:59Z', '2022-01-27T22:18:59.9+01:00', 1643318339, 1643318339.99])
      assert.deepEqual(read(at, { at: time }).value, { at: '2022-01-27T21:18:59Z' });
    for (const time of ['now', '2022-01-27', '2022-13-27T21:18:59Z', -1, 1e12, Number.NaN, true, {}])
      assert.match(unreadable(at, { at: time }), /'\/at' must be a time/);
  });
});

describe('lengths are those of characters', () => {
  const two = { name: optional(string({ min: 2, max: 2 })) };

  test('an emoji is one, although it takes two code units', () => {
    accepted(two, { name: '😀😀' });
    assert.match(violated(two, { name: '😀' }), /^1 .* length 1 /);
    assert.match(violated(two, { name: '😀😀😀' }), /^1 .* length 3 /);
  });

  test('half an emoji is one too', () => {
    accepted(two, { name: '\ud83d\ud83d' });
    accepted(two, { name: '\ude00\ud83d' });
    assert.match(violated(two, { name: '\ud83d\ude00' }), /length 1 /);
  });

  test('a combined letter is as many as it is put together of', () => void accepted(two, { name: 'e\u0301' }));

  test('at the limits', () => {
    const limited = { name: optional(string({ min: 3, max: 64 })) };
    for (const unit of ['x', 'é', '😀']) {
      for (const length of [3, 4, 63, 64]) accepted(limited, { name: unit.repeat(length) });
      for (const length of [0, 1, 2, 65, 130]) {
        assert.match(violated(limited, { name: unit.repeat(length) }), new RegExp(`length ${length} `));
      }
    }
  });
});

describe('what is read', () => {
  test('unknown members are ignored, at every depth', () => {
    const members = { key: optional(structure('Key', { type: optional(string()) })) };
    assert.deepEqual(accepted(members, { other: { a: [1] }, key: { type: 'a', more: 1 } }), { key: { type: 'a' } });
  });

  test('null is the same as absent where a member is optional', () => {
    assert.deepEqual(accepted({ name: optional(string({ min: 1 })) }, { name: null }), {});
  });

  test('members come in the order of the contract, entries of maps in the order of their keys', () => {
    const members = { b: optional(string()), a: optional(map(string())) };
    const text = JSON.stringify(accepted(members, { a: { z: '', y: '' }, b: '' }));
    assert.equal(text, '{"b":"","a":{"y":"","z":""}}');
  });

  test('an empty list, map, structure and string are there', () => {
    const members = {
      ids: optional(list(string())),
      tags: optional(map(string())),
      key: optional(structure('Key', { type: optional(string()) })),
      name: optional(string({ min: 0, max: 64 })),
    };
    assert.equal(
      JSON.stringify(accepted(members, { ids: [], tags: {}, key: {}, name: '' })),
      '{"ids":[],"tags":{},"key":{},"name":""}',
    );
  });
});

describe('integers', () => {
  test(`exactly the whole numbers of the range are taken (BACKLOT_SEED=${SEED})`, () => {
    const limits = fc.tuple(fc.integer(), fc.integer()).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));
    const near = ({ min, max }: { min: number; max: number }) => fc.constantFrom(min - 1, min, max, max + 1);
    const property = fc.property(
      limits.chain((range) => fc.tuple(fc.constant(range), fc.oneof(fc.integer(), near(range)))),
      ([range, count]) => {
        const members = { count: optional(integer(range)) };
        const { value, violations } = read(members, { count });
        assert.equal(violations.any, count < range.min || count > range.max);
        assert.deepEqual(value, { count });
      },
    );
    fc.assert(property, { seed: SEED, numRuns: 500 });
  });
});

describe('unions', () => {
  test('the one member that is given is read, and nulls and unknown members beside it are ignored', () => {
    assert.deepEqual(accepted({ choice }, { choice: { a: 'x' } }), { choice: { a: 'x' } });
    assert.deepEqual(accepted({ choice }, { choice: { a: null, b: {}, c: 1 } }), { choice: { b: {} } });
  });

  test('an empty one, or one of nulls, is the same as absent: some clients send it for what they were not given', () => {
    for (const empty of [{}, { a: null }, { a: null, b: null, c: null }, null]) {
      assert.deepEqual(accepted({ choice }, { choice: empty }), {});
    }
  });

  test('a member that is found by inheritance is none', () => {
    const odd = optional(union('Odd', { toString: string(), constructor: string() }));
    assert.deepEqual(accepted({ odd }, { odd: {} }), {});
    assert.match(violated({ odd }, { odd: { other: 1 } }), /exactly one of: \[toString, constructor\]/);
  });

  test(`what is read has exactly one member, whatever is sent (BACKLOT_SEED=${SEED})`, () => {
    const names = ['a', 'b', 'c', 'd'];
    const shape = union('Any', Object.fromEntries(names.map((name) => [name, string()])));
    const name = fc.constantFrom(...names, 'e', '__proto__', 'constructor', '');
    const sent = fc.dictionary(name, fc.option(fc.string()), { maxKeys: 4 });
    const property = fc.property(sent, (source) => {
      const { value, violations } = read({ any: optional(shape) }, { any: source });
      const given = Object.entries(source).filter(([, text]) => text !== null);
      const known = given.filter(([member]) => names.includes(member));
      assert.equal(violations.any, given.length > 0 && known.length !== 1);
      if (!violations.any) assert.deepEqual(value, given.length === 0 ? {} : { any: Object.fromEntries(known) });
    });
    fc.assert(property, { seed: SEED, numRuns: 500 });
  });
});

describe('names that stand on Object.prototype', () => {
  const names = ['__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', 'valueOf'];

  for (const name of names) {
    test(`${name} as an unknown member changes nothing`, () => {
      const source = JSON.parse(`{"${name}":{"name":"smuggled","polluted":true},"other":1}`) as Source;
      const value = accepted({ name: optional(string()) }, source);
      assert.deepEqual(value, {});
      assert.equal(Object.getPrototypeOf(value), Object.prototype);
      assert.equal('polluted' in {}, false);
    });

    test(`${name} as a key of a map is a key`, () => {
      const source = JSON.parse(`{"tags":{"${name}":"value"}}`) as Source;
      const { tags } = accepted({ tags: optional(map(string())) }, source);
      assert.equal(JSON.stringify(tags), `{"${name}":"value"}`);
      assert.equal('polluted' in {}, false);
    });

    test(`a required member called ${name} is not found by inheritance`, () => {
      const members = JSON.parse(`{"${name}":0}`) as Record<string, never>;
      Object.defineProperty(members, name, { value: required(string()), enumerable: true });
      assert.match(violated(members, {}), /Member must not be null/);
    });
  }
});
