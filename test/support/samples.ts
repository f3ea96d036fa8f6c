/** Values that fit the contract's shapes: full ones, with every member there and as many odd characters as are allowed. */
import assert from 'node:assert/strict';
import { clientTokenMember, type Operation } from '../../src/contract/operation.ts';
import type { Members, Shape, StringShape } from '../../src/contract/shape.ts';

/** What breaks readers of paths, queries and JSON: all that has a meaning in one of them, and what takes two code units. */
export const ODD_TEXT = ' %:/?#[]@!$&\'()*+,;="\\<>{}|^`~é漢😀';

export const SAMPLE_TIME = '2022-01-27T21:18:59Z';

/** The first that fits is taken. */
const TEXTS = [
  ODD_TEXT,
  'arn:aws:kms:us-west-2:123456789012:key/a b',
  'us-west-2',
  'ami-0123456789abcdef0',
  'Ab-_9',
  '/mnt/show',
  'C:/show',
  '2021-03-31',
  'Z',
  'abc',
];

export function fits(shape: StringShape, text: string): boolean {
  const { minLength = 0, maxLength = Number.POSITIVE_INFINITY, pattern, values } = shape;
  const length = [...text].length;
  if (values && !values.includes(text)) return false;
  return length >= minLength && length <= maxLength && (!pattern || pattern.test(text));
}

export function sampleOf(shape: Shape): unknown {
  switch (shape.kind) {
    case 'string': {
      const text = shape.values ? shape.values.at(-1) : TEXTS.find((candidate) => fits(shape, candidate));
      assert.ok(text !== undefined, `no sample fits ${shape.pattern}`);
      return text;
    }
    case 'integer':
      return shape.max;
    case 'timestamp':
      return SAMPLE_TIME;
    case 'list':
      return [sampleOf(shape.member), sampleOf(shape.member)];
    case 'map':
      return { [ODD_TEXT]: sampleOf(shape.value), plain: '' };
    case 'structure':
      return sampleMembers(shape.members);
    case 'union': {
      const [first] = Object.entries(shape.members);
      return Object.fromEntries([[first![0], sampleOf(first![1].shape)]]);
    }
  }
}

export function sampleMembers(members: Members): Record<string, unknown> {
  return Object.fromEntries(Object.entries(members).map(([name, { shape }]) => [name, sampleOf(shape)]));
}

/** An input of the operation with every member that it has. */
export function sampleInput({ labels, query, body, clientToken }: Operation): Record<string, unknown> {
  const token = clientToken ? { clientToken: 'token: a=b, "c"' } : {};
  assert.ok(fits(clientTokenMember.shape, token.clientToken ?? 'x'));
  return { ...sampleMembers(labels), ...sampleMembers(query), ...token, ...sampleMembers(body) };
}
