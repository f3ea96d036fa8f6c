/**
 * The vocabulary in which the contract is written: the shapes of the API's published model (strings and integers with
 * limits, enumerations, lists, maps, structures, unions, timestamps), as plain values with a TypeScript type attached.
 *
 * A shape only says what is allowed. Reading input against it and wording the refusal is wire/validate.ts; nothing here
 * may depend on anything outside this folder.
 */

interface ShapeOf<T> {
  /** Never present at run time: carries the TypeScript type of the values. */
  readonly type?: T;
}

export interface StringShape<T extends string = string> extends ShapeOf<T> {
  readonly kind: 'string';
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly pattern?: RegExp;
  readonly values?: readonly T[];
  /** Must not be logged (the model's `sensitive` trait). */
  readonly sensitive?: boolean;
  /** Its key may repeat in a query: the values are joined by commas. */
  readonly joined?: boolean;
}

/** A whole number; as text in a query, as a number in a body. */
export interface IntegerShape extends ShapeOf<number> {
  readonly kind: 'integer';
  readonly min: number;
  readonly max: number;
}

export interface TimestampShape extends ShapeOf<string> {
  readonly kind: 'timestamp';
}

export interface ListShape<T = unknown> extends ShapeOf<T[]> {
  readonly kind: 'list';
  readonly member: Shape<T>;
  readonly minLength?: number;
  readonly maxLength?: number;
  /** No entry may be logged. */
  readonly sensitive?: boolean;
}

/** String keys, string values: the only map of this API. */
export interface MapShape extends ShapeOf<Record<string, string>> {
  readonly kind: 'map';
  readonly value: StringShape;
}

export interface StructureShape<T = unknown> extends ShapeOf<T> {
  readonly kind: 'structure';
  readonly name: string;
  readonly members: Members;
}

/** Exactly one of its members, which says by its name what kind of value it is. */
export interface UnionShape<T = unknown> extends ShapeOf<T> {
  readonly kind: 'union';
  readonly name: string;
  readonly members: Members;
}

export type Shape<T = unknown> = (
  | StringShape
  | IntegerShape
  | TimestampShape
  | ListShape
  | MapShape
  | StructureShape
  | UnionShape
) &
  ShapeOf<T>;

export interface Member<S extends Shape = Shape, R extends boolean = boolean> {
  readonly shape: S;
  readonly required: R;
}

export type Members = Readonly<Record<string, Member>>;

export type Static<S> = S extends ShapeOf<infer T> ? T : never;

type RequiredNames<M extends Members> = { [K in keyof M]: M[K]['required'] extends true ? K : never }[keyof M];

/** The TypeScript type of an object with these members. */
export type StaticMembers<M extends Members> = {
  [K in RequiredNames<M>]: Static<M[K]['shape']>;
} & { [K in Exclude<keyof M, RequiredNames<M>>]?: Static<M[K]['shape']> };

type Alternatives = Readonly<Record<string, Shape>>;

/** The type of an object with exactly one of these members. */
type StaticUnion<A extends Alternatives> = {
  [K in keyof A]: { [P in K]: Static<A[P]> } & { [P in Exclude<keyof A, K>]?: never };
}[keyof A];

interface StringLimits {
  readonly min?: number;
  readonly max?: number;
  readonly pattern?: RegExp;
  readonly sensitive?: boolean;
  readonly joined?: boolean;
}

/** Lengths count Unicode code points, as the vendor's validation does. */
export function string(limits: StringLimits = {}): StringShape {
  return {
    kind: 'string',
    ...(limits.min !== undefined && { minLength: limits.min }),
    ...(limits.max !== undefined && { maxLength: limits.max }),
    ...(limits.pattern !== undefined && { pattern: limits.pattern }),
    ...(limits.sensitive !== undefined && { sensitive: limits.sensitive }),
    ...(limits.joined !== undefined && { joined: limits.joined }),
  };
}

export function enumeration<const T extends string>(values: readonly T[]): StringShape<T> {
  return { kind: 'string', values };
}

export function integer({ min, max }: { readonly min: number; readonly max: number }): IntegerShape {
  return { kind: 'integer', min, max };
}

/** ISO 8601 text with whole seconds, for example `2022-01-27T21:18:59Z`. */
export function timestamp(): TimestampShape {
  return { kind: 'timestamp' };
}

export function list<S extends Shape>(
  member: S,
  limits: { min?: number; max?: number; sensitive?: boolean } = {},
): ListShape<Static<S>> & { readonly member: S } {
  return {
    kind: 'list',
    member: member as S & Shape<Static<S>>,
    ...(limits.min !== undefined && { minLength: limits.min }),
    ...(limits.max !== undefined && { maxLength: limits.max }),
    ...(limits.sensitive !== undefined && { sensitive: limits.sensitive }),
  };
}

export function map(value: StringShape): MapShape {
  return { kind: 'map', value };
}

export function structure<M extends Members>(name: string, members: M): StructureShape<StaticMembers<M>> {
  return { kind: 'structure', name, members };
}

export function union<A extends Alternatives>(name: string, alternatives: A): UnionShape<StaticUnion<A>> {
  const members = Object.fromEntries(Object.entries(alternatives).map(([member, shape]) => [member, optional(shape)]));
  return { kind: 'union', name, members };
}

export function required<S extends Shape>(shape: S): Member<S, true> {
  return { shape, required: true };
}

export function optional<S extends Shape>(shape: S): Member<S, false> {
  return { shape, required: false };
}
