/** Whether an answer has the shape that the contract publishes, and nothing besides. */
import assert from 'node:assert/strict';
import { type OperationName, operations } from '../../src/contract/index.ts';
import type { Member, Members, Shape } from '../../src/contract/shape.ts';

export function assertConforms(operation: OperationName, answer: unknown): void {
  const { output } = operations.find(({ name }) => name === operation)!;
  assert.ok(output, `${operation} answers nothing`);
  check(output, answer, operation);
}

function check(shape: Shape, value: unknown, path: string): void {
  switch (shape.kind) {
    case 'string': {
      assert.equal(typeof value, 'string', path);
      const length = [...(value as string)].length;
      assert.ok(length >= (shape.minLength ?? 0) && length <= (shape.maxLength ?? Number.POSITIVE_INFINITY), path);
      if (shape.pattern) assert.match(value as string, shape.pattern, path);
      if (shape.values) assert.ok(shape.values.includes(value as string), `${path}: ${value}`);
      return;
    }
    case 'integer':
      assert.ok(Number.isInteger(value) && (value as number) >= shape.min && (value as number) <= shape.max, path);
      return;
    case 'timestamp':
      assert.match(value as string, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, path);
      return;
    case 'list':
      assert.ok((value as unknown[]).length <= (shape.maxLength ?? Number.POSITIVE_INFINITY), path);
      for (const [index, entry] of (value as unknown[]).entries()) check(shape.member, entry, `${path}/${index}`);
      return;
    case 'map':
      for (const [key, entry] of Object.entries(value as object)) check(shape.value, entry, `${path}/${key}`);
      return;
    case 'union':
      assert.equal(Object.keys(value as object).length, 1, path);
      checkMembers(shape.members, value as object, path);
      return;
    case 'structure':
      checkMembers(shape.members, value as object, path);
  }
}

function checkMembers(members: Members, value: object, path: string): void {
  for (const [name, entry] of Object.entries(value)) {
    const member: Member | undefined = members[name];
    assert.ok(member, `${path}/${name} is not in the contract`);
    check(member.shape, entry, `${path}/${name}`);
  }
  for (const [name, { required }] of Object.entries(members)) {
    if (required) assert.ok(Object.hasOwn(value, name), `${path}/${name} is missing`);
  }
}
