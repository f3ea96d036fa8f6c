/**
 * Reads a JSON value against a shape: picks the members that the contract knows, and words what is wrong in the vendor's
 * language. Unknown members are ignored, null is the same as absent, and no value is ever repeated in a message: it may
 * be confidential.
 */
import { wireTime } from '../clock.ts';
import type {
  IntegerShape,
  ListShape,
  MapShape,
  Member,
  Members,
  Shape,
  StringShape,
  UnionShape,
} from '../contract/shape.ts';
import { type ServiceError, validationFailed } from '../errors.ts';

/** The last year of four digits ends here. */
const TIME_MS_MAX = 253_402_300_800_000;
/** Violations that one answer names; a body can hold thousands. */
const VIOLATIONS_MAX = 20;

/** Collects what is wrong with one request, so that its caller can mend all of it at once. */
export class Violations {
  readonly #found: string[] = [];
  #total = 0;

  get any(): boolean {
    return this.#total > 0;
  }

  /** @param path for example `/tags/show`. @param length of the value, where its length is what is wrong. */
  add(path: string, constraint: string, length?: number): void {
    this.#total += 1;
    if (this.#found.length >= VIOLATIONS_MAX) return;
    const value = length === undefined ? 'Value' : `Value with length ${length}`;
    this.#found.push(`${value} at '${path}' failed to satisfy constraint: ${constraint}`);
  }

  toError(): ServiceError {
    const count = this.#total === 1 ? '1 validation error' : `${this.#total} validation errors`;
    return validationFailed(`${count} detected. ${this.#found.join('; ')}`, 'INVALID_INPUT');
  }
}

/**
 * The body is not JSON of the right types. The text in brackets is what the vendor's service answered; what follows it is
 * for the person who has to find the mistake.
 */
export function unreadableBody(reason: string): ServiceError {
  return validationFailed(`[Unknown error parsing request body] ${reason}`, 'UNREADABLE_BODY');
}

/** Reads `source` into `target`, member by member in the contract's order. */
export function readMembers(
  members: Members,
  source: Readonly<Record<string, unknown>>,
  path: string,
  target: Record<string, unknown>,
  violations: Violations,
): void {
  for (const name in members) {
    // An own property only: a member must never be found on Object.prototype.
    const value = Object.hasOwn(source, name) ? source[name] : undefined;
    readMember(name, members[name]!, value, path, target, violations);
  }
}

/** Reads one value into `target[name]`; null is the same as absent, and so is a union with nothing in it. */
export function readMember(
  name: string,
  member: Member,
  value: unknown,
  path: string,
  target: Record<string, unknown>,
  violations: Violations,
): void {
  if (!isAbsent(member.shape, value)) target[name] = read(member.shape, value, `${path}/${name}`, violations);
  else if (member.required) violations.add(`${path}/${name}`, 'Member must not be null');
}

/** Some clients send an empty union for one that they were not given. */
function isAbsent(shape: Shape, value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (shape.kind !== 'union' || typeof value !== 'object' || Array.isArray(value)) return false;
  return Object.values(value).every((member) => member === null);
}

function read(shape: Shape, value: unknown, path: string, violations: Violations): unknown {
  switch (shape.kind) {
    case 'string':
      return readString(shape, value, path, violations);
    case 'integer':
      return readInteger(shape, value, path, violations);
    case 'list':
      return readList(shape, value, path, violations);
    case 'map':
      return readMap(shape, value, path, violations);
    case 'structure': {
      const target: Record<string, unknown> = {};
      readMembers(shape.members, requireObject(value, path), path, target, violations);
      return target;
    }
    case 'union':
      return readUnion(shape, value, path, violations);
    case 'timestamp':
      return readTimestamp(value, path);
  }
}

function readString(shape: StringShape, value: unknown, path: string, violations: Violations): string {
  if (typeof value !== 'string') throw unreadableBody(`Value at '${path}' must be a string.`);
  checkLength(shape, value.length, () => codePoints(value), path, violations);
  if (shape.pattern && !shape.pattern.test(value)) {
    violations.add(path, `Member must satisfy regular expression pattern: ${shape.pattern.source}`);
  }
  if (shape.values && !shape.values.includes(value)) {
    violations.add(path, `Member must satisfy enum value set: [${shape.values.join(', ')}]`);
  }
  return value;
}

/** No input of the API is a time, but what was saved of its answers is: as text with any offset, or in seconds. */
function readTimestamp(value: unknown, path: string): string {
  const ms = typeof value === 'number' ? value * 1_000 : isTime(value) ? Date.parse(value) : Number.NaN;
  if (ms >= 0 && ms < TIME_MS_MAX) return wireTime(ms);
  throw unreadableBody(`Value at '${path}' must be a time.`);
}

function isTime(value: unknown): value is string {
  return typeof value === 'string' && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/.test(value);
}

function readInteger({ min, max }: IntegerShape, value: unknown, path: string, violations: Violations): number {
  if (!Number.isInteger(value)) throw unreadableBody(`Value at '${path}' must be an integer.`);
  const number = value as number;
  if (number < min || number > max) violations.add(path, `Member must be between ${min} and ${max}, inclusive`);
  return number;
}

function readList(shape: ListShape, value: unknown, path: string, violations: Violations): unknown[] {
  if (!Array.isArray(value)) throw unreadableBody(`Value at '${path}' must be a list.`);
  checkLength(shape, value.length, () => value.length, path, violations);
  return value.map((entry: unknown, index) => {
    const entryPath = `${path}/${index + 1}/member`;
    if (entry !== null) return read(shape.member, entry, entryPath, violations);
    violations.add(entryPath, 'Member must not be null');
    return entry;
  });
}

/** Keys are sorted, so that equal maps are equal as text. The prototype is null: a key may be called `__proto__`. */
function readMap(shape: MapShape, value: unknown, path: string, violations: Violations): Record<string, unknown> {
  const source = requireObject(value, path);
  const target: Record<string, unknown> = Object.create(null);
  for (const key of Object.keys(source).sort()) {
    readMember(key, { shape: shape.value, required: true }, source[key], path, target, violations);
  }
  return target;
}

/** A member that the contract does not know is no choice: what it holds would be lost without a word. */
function readUnion(shape: UnionShape, value: unknown, path: string, violations: Violations): Record<string, unknown> {
  const target: Record<string, unknown> = {};
  readMembers(shape.members, requireObject(value, path), path, target, violations);
  if (Object.keys(target).length !== 1) {
    violations.add(path, `Member must have exactly one of: [${Object.keys(shape.members).join(', ')}]`);
  }
  return target;
}

function requireObject(value: unknown, path: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw unreadableBody(`Value at '${path}' must be an object.`);
}

interface LengthLimits {
  readonly minLength?: number;
  readonly maxLength?: number;
}

/**
 * @param atMost an upper bound of the length that costs nothing to know; the exact length is only counted when the bound
 *   does not settle it.
 */
function checkLength(
  { minLength, maxLength }: LengthLimits,
  atMost: number,
  exact: () => number,
  path: string,
  violations: Violations,
): void {
  if (atMost >= 2 * (minLength ?? 0) && atMost <= (maxLength ?? Number.POSITIVE_INFINITY)) return;
  const length = exact();
  if (length >= (minLength ?? 0) && length <= (maxLength ?? Number.POSITIVE_INFINITY)) return;
  violations.add(path, lengthConstraint(minLength, maxLength), length);
}

function lengthConstraint(minLength: number | undefined, maxLength: number | undefined): string {
  if (minLength === undefined) return `Member must have length less than or equal to ${maxLength}`;
  if (maxLength === undefined) return `Member must have length greater than or equal to ${minLength}`;
  return `Member must have length between ${minLength} and ${maxLength}, inclusive`;
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}
