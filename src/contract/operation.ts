/**
 * What one API operation is: its name, its place on the wire, what goes in, what comes out. The router, the reader of
 * requests, the access check, the documents and the tests are all interpreters of this one value; a fact about an
 * operation that is not here has no other home.
 */
import type { Member, Members, StaticMembers, StringShape, StructureShape } from './shape.ts';
import { optional, string } from './shape.ts';

/** Path prefix of every operation: the API's version. */
export const API_PREFIX = '/2020-08-01';

/** Errors that the published API names and clients have a class for. */
export const MODELLED_ERRORS: readonly string[] = [
  'AccessDeniedException',
  'ConflictException',
  'InternalServerErrorException',
  'ResourceNotFoundException',
  'ServiceQuotaExceededException',
  'ThrottlingException',
  'ValidationException',
];

/** Access level as in the vendor's service authorization reference. */
export type AccessLevel = 'Read' | 'Write' | 'Tagging';

export type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE' | 'PUT';

/** Files of src/contract, src/domain, test and portal go by these names. */
export type ResourceName =
  | 'studio'
  | 'studio-member'
  | 'studio-component'
  | 'streaming-image'
  | 'launch-profile'
  | 'launch-profile-member'
  | 'streaming-session'
  | 'streaming-session-stream'
  | 'streaming-session-backup'
  | 'eula'
  | 'eula-acceptance'
  | 'tag';

export interface Pagination {
  /** Output member that holds the page's entries. */
  readonly items: string;
  /** Entries of a full page; a caller who may name a number can only ask for fewer. */
  readonly pageLength: number;
}

export interface Operation {
  readonly name: string;
  readonly resource: ResourceName;
  /** One plain sentence for the documents. */
  readonly summary: string;
  readonly method: Method;
  /** Template behind API_PREFIX; `{label}` stands for one raw path segment. */
  readonly uri: string;
  readonly status: 200 | 204;
  readonly access: AccessLevel;
  /** Calling twice is meant to be harmless (the model's `idempotent` trait). */
  readonly idempotent: boolean;
  /** Takes `X-Amz-Client-Token`. */
  readonly clientToken: boolean;
  readonly labels: Readonly<Record<string, Member<StringShape, true>>>;
  readonly query: Members;
  readonly body: Members;
  readonly output: StructureShape | undefined;
  readonly pagination: Pagination | undefined;
  /** Waiter of the vendor's clients that is documented for use after the call. */
  readonly waiter: string | undefined;
}

/** Length 1 to 64, in a header; optional, because the JavaScript client sends none by itself. */
export const clientTokenMember = optional(string({ min: 1, max: 64 }));

type NoMembers = Record<never, never>;

type Spec = Partial<Omit<Operation, 'name'>> &
  Pick<Operation, 'resource' | 'summary' | 'method' | 'uri' | 'access' | 'output'>;

type MembersOf<S, K extends string> = S extends { readonly [P in K]: infer M extends Members }
  ? string extends keyof M
    ? NoMembers
    : M
  : NoMembers;

/** Input of the operation: labels, query, body and client token together, as one object. */
export type InputOf<O> = StaticMembers<MembersOf<O, 'labels'>> &
  StaticMembers<MembersOf<O, 'query'>> &
  StaticMembers<MembersOf<O, 'body'>> & { readonly clientToken?: string };

/** An operation whose members keep their precise types. */
type Precise<N, S> = Omit<Operation, keyof S | 'name'> & S & { readonly name: N };

export function operation<const N extends string, S extends Spec>(name: N, spec: S): Precise<N, S> {
  return Object.freeze({
    status: 200,
    idempotent: false,
    clientToken: false,
    labels: {},
    query: {},
    body: {},
    pagination: undefined,
    waiter: undefined,
    ...spec,
    name,
  }) as unknown as Precise<N, S>;
}
