/**
 * Ways in which a value can miss its shape, each by a name: the wrong type, one below and one above each limit, a pattern
 * or an enumeration missed, and the same at every depth. What is listed is wrong for sure; what may be right is not.
 */
import type { Members, Shape, StringShape } from '../../src/contract/shape.ts';
import type { Random } from './random.ts';
import { fits, sampleOf } from './samples.ts';

export interface Breakage {
  readonly what: string;
  readonly value: unknown;
}

/** Values of every JSON type; of which only null is no value at all. */
const OF_OTHER_TYPES: readonly unknown[] = [7, -0.5, 1e308, true, 'text', [], [[]], {}, { a: { b: [] } }];

const HOSTILE_TEXTS: readonly string[] = [
  '',
  '../../../../etc/passwd',
  '%2e%2e%2f',
  '\u0000',
  '\ud800',
  '\u202e\ufeff',
  '漢'.repeat(40),
  "' OR 1=1 --",
  '{{7*7}}`id`$(id)',
  '__proto__',
  'constructor',
  '-rf',
  'x'.repeat(3_000),
];

const typeOf = (value: unknown) => (Array.isArray(value) ? 'list' : typeof value);
const notOfType = (...types: string[]): Breakage[] =>
  OF_OTHER_TYPES.filter((value) => !types.includes(typeOf(value))).map((value) => ({
    what: `is ${JSON.stringify(value)}`,
    value,
  }));

/** Every way that is known for this shape in a JSON body. */
export function breakagesOf(shape: Shape, random: Random): Breakage[] {
  switch (shape.kind) {
    case 'string':
      return [...notOfType('string'), ...brokenTexts(shape)];
    case 'integer':
      return [
        ...notOfType('number'),
        ...[shape.min - 1, shape.max + 1, shape.min + 0.5, -1e308, Number.MAX_SAFE_INTEGER].map((value) => ({
          what: `is ${value}`,
          value,
        })),
      ];
    case 'list': {
      const entry = sampleOf(shape.member);
      return [
        ...notOfType('list'),
        ...lengthsBeyond(shape).map((length) => ({
          what: `has ${length} entries`,
          value: Array.from({ length }, () => entry),
        })),
        { what: 'holds null', value: [entry, null] },
        ...some(breakagesOf(shape.member, random), random).map(({ what, value }) => ({
          what: `holds one that ${what}`,
          value: [entry, value],
        })),
      ];
    }
    case 'map':
      return [
        ...notOfType('object'),
        ...some(breakagesOf(shape.value, random), random).map(({ what, value }) => ({
          what: `holds one that ${what}`,
          value: { key: value },
        })),
      ];
    case 'structure':
      return [...notOfType('object'), ...brokenMembers(shape.members, random)];
    case 'union':
      return [
        ...notOfType('object'),
        { what: 'has no member that is known', value: { unknownConfiguration: {} } },
        {
          what: 'has every member at once',
          value: Object.fromEntries(
            Object.entries(shape.members).map(([name, member]) => [name, sampleOf(member.shape)]),
          ),
        },
        ...Object.entries(shape.members).flatMap(([name, member]) =>
          some(breakagesOf(member.shape, random), random).map(({ what, value }) => ({
            what: `${name} ${what}`,
            value: { [name]: value },
          })),
        ),
      ];
    case 'timestamp':
      return [];
  }
}

/** Texts that the shape does not take, for places that hold nothing but text: queries and headers. */
export function brokenTexts(shape: StringShape): Breakage[] {
  const texts = [...HOSTILE_TEXTS, ...lengthsBeyond(shape).map((length) => 'a'.repeat(length))];
  return texts
    .filter((text) => !fits(shape, text))
    .map((value) => ({ what: `is ${JSON.stringify(value.slice(0, 40))} (${value.length})`, value }));
}

/** Texts for places that take any: ids that name nothing. */
export const strangeTexts = HOSTILE_TEXTS.filter((text) => text !== '');

function brokenMembers(members: Members, random: Random): Breakage[] {
  const whole = Object.fromEntries(Object.entries(members).map(([name, { shape }]) => [name, sampleOf(shape)]));
  return Object.entries(members).flatMap(([name, { shape, required }]) => [
    ...(required ? [{ what: `lacks ${name}`, value: { ...whole, [name]: null } }] : []),
    ...some(breakagesOf(shape, random), random).map(({ what, value }) => ({
      what: `${name} ${what}`,
      value: { ...whole, [name]: value },
    })),
  ]);
}

/** Deep shapes have hundreds of ways; a few of each, others with every seed, come to all of them. */
function some(breakages: readonly Breakage[], random: Random): Breakage[] {
  if (breakages.length <= 4) return [...breakages];
  return Array.from({ length: 4 }, () => random.pick(breakages));
}

function lengthsBeyond({ minLength = 0, maxLength }: { minLength?: number; maxLength?: number }): number[] {
  return [...(minLength > 0 ? [minLength - 1] : []), ...(maxLength === undefined ? [] : [maxLength + 1])];
}
