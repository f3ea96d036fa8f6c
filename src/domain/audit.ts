/**
 * The audit: one line for every change, in the same write as the change, and one for every call of a known principal that
 * changed nothing or was refused. The latter are written on their own, and no more of them than a bucket for each
 * principal lets through, or whoever is refused could fill the disk; what was left out is counted, and a line says so.
 *
 * A line names who, what, where from and how it ended. It must never hold what the contract calls sensitive, an error's
 * message, an answer, or anything of a caller who is not known.
 */
import type { Operation } from '../contract/operation.ts';
import type { Members, Shape } from '../contract/shape.ts';
import { ServiceError } from '../errors.ts';
import type { AuditLine, Row, Store, Write } from '../store/store.ts';
import { plainAddress } from './access-context.ts';
import { parseArn } from './arn.ts';
import { Buckets } from './buckets.ts';
import type { DomainSettings, Origin, Principal, Services } from './context.ts';
import { KIND } from './kinds.ts';

export const OUTCOMES = ['ok', 'unchanged', 'replayed', 'refused', 'failed', 'omitted'] as const;

/** `omitted` is a line about lines: so many of this principal were left out before it. */
export type Outcome = (typeof OUTCOMES)[number];

/** `doc` of a line. */
export interface AuditDetails {
  readonly role?: string;
  /** The other end of the connection. */
  readonly sourceAddress?: string;
  /** Of what was refused or failed. */
  readonly error?: string;
  readonly code?: string;
  /** What the call set; only where it was done. */
  readonly members?: Readonly<Record<string, unknown>>;
  /** How many lines were left out. */
  readonly omitted?: number;
}

export interface AuditedCall {
  readonly operation: Pick<Operation, 'name' | 'labels' | 'query' | 'body'>;
  /** Undefined where it was not valid. */
  readonly input: Readonly<Record<string, unknown>> | undefined;
  readonly principal: Principal;
  readonly origin: Origin;
}

type Parts = Pick<Services, 'clock' | 'ids' | 'settings'>;
type Subject = { readonly kind: string; readonly id: string };

/** The line of a call that was done, `unchanged` where nothing had to be written for it. */
export function doneLine(call: AuditedCall, outcome: Outcome, subject: Subject | undefined, parts: Parts): AuditLine {
  const members = shownMembers(call.operation, call.input ?? {});
  return lineOf(call, outcome, { members }, parts, subject);
}

function refusedLine(call: AuditedCall, error: unknown, parts: Parts): AuditLine {
  const { name, status, code } = error instanceof ServiceError ? error : SERVER_FAILED;
  const outcome = status < 500 ? 'refused' : 'failed';
  return lineOf(call, outcome, { error: name, ...(code !== undefined && { code }) }, parts);
}

/** What the caller is told of a mistake of the server's own. */
const SERVER_FAILED = { name: 'InternalServerErrorException', status: 500, code: 'SERVER_FAILED' } as const;

function lineOf(
  { operation, input, principal, origin }: AuditedCall,
  outcome: Outcome,
  more: AuditDetails,
  { clock, ids, settings }: Parts,
  subject?: Subject,
): AuditLine {
  const details: AuditDetails = { role: principal.role, ...sourceOf(origin), ...more };
  const studioId = input?.studioId as string | undefined;
  return {
    at: clock.now(),
    id: origin.requestId ?? ids.uuid(),
    principalId: principal.principalId,
    accessKeyId: principal.accessKeyId,
    operation: operation.name,
    studioId: clipped(studioId ?? (subject?.kind === KIND.studio ? subject.id : '')),
    resourceId: clipped(subject?.id ?? resourceOf(operation, input ?? {}, settings)),
    outcome,
    doc: textOf(details),
  };
}

/** Of members that come to too much, only the names are kept. */
function textOf(details: AuditDetails): string {
  const text = JSON.stringify(details);
  if (text.length <= DETAILS_LENGTH_MAX || !details.members) return text;
  const members = Object.fromEntries(Object.keys(details.members).map((name) => [name, LEFT_OUT]));
  return JSON.stringify({ ...details, members });
}

function sourceOf({ remoteAddress }: Origin): Pick<AuditDetails, 'sourceAddress'> {
  return remoteAddress === undefined ? {} : { sourceAddress: plainAddress(remoteAddress) };
}

/** What the path names; of an ARN only the id, by which the other lines about the same resource have it. */
function resourceOf(
  { labels }: Pick<Operation, 'labels'>,
  input: Readonly<Record<string, unknown>>,
  place: Pick<DomainSettings, 'region' | 'accountId'>,
): string {
  let named = '';
  for (const label in labels) named = (input[label] as string | undefined) ?? '';
  return named.startsWith('arn:') ? (idIn(named, place) ?? named) : named;
}

/** The id in an ARN of this installation; undefined where it is none. */
export function idIn(arn: string, place: Pick<DomainSettings, 'region' | 'accountId'>): string | undefined {
  try {
    return parseArn(arn, place)?.id;
  } catch {
    return undefined;
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a call set

const HIDDEN = '[hidden]';
const LEFT_OUT = '[left out]';
const TEXT_LENGTH_MAX = 256;
const ENTRIES_MAX = 20;
/** Characters of `doc`. */
const DETAILS_LENGTH_MAX = 4_096;

type Shown = Record<string, unknown>;

/** What the body and the query set, without what is sensitive, each value cut to a bounded length. */
function shownMembers({ body, query }: Pick<Operation, 'body' | 'query'>, input: Shown): Shown {
  return { ...shownOf(query, input), ...shownOf(body, input) };
}

function shownOf(members: Members, input: Shown): Shown {
  const found: Shown = {};
  for (const name in members) {
    const value = input[name];
    if (value !== undefined) found[name] = shownValue(members[name]!.shape, value);
  }
  return found;
}

function shownValue(shape: Shape, value: unknown): unknown {
  switch (shape.kind) {
    case 'string':
      return shape.sensitive ? HIDDEN : clipped(value as string);
    case 'list':
      if (shape.sensitive) return HIDDEN;
      return bounded(value as unknown[]).map((entry) => shownValue(shape.member, entry));
    case 'map': {
      const entries = bounded(Object.entries(value as Record<string, string>));
      return Object.fromEntries(entries.map(([key, entry]) => [clipped(key), shownValue(shape.value, entry)]));
    }
    case 'structure':
    case 'union':
      return shownOf(shape.members, value as Shown);
    case 'integer':
    case 'timestamp':
      return value;
  }
}

function bounded<T>(entries: readonly T[]): readonly T[] {
  return entries.length > ENTRIES_MAX ? entries.slice(0, ENTRIES_MAX) : entries;
}

function clipped(text: string): string {
  return text.length > TEXT_LENGTH_MAX ? `${text.slice(0, TEXT_LENGTH_MAX - 1)}…` : text;
}

// ---------------------------------------------------------------------------------------------------------------------
// Lines that no change carries

/** So many at once, and then one in ten seconds: under ten thousand lines a day, whatever a principal does. */
const LINES_PER_PRINCIPAL = { perSecond: 0.1, burst: 100 };
/** Lines on their way to the disk: where that is slow or full, further ones are left out. */
const UNDERWAY_MAX = 256;
/** Principals whose omitted lines are counted apart; there are as many as access keys. */
const PRINCIPALS_MAX = 10_000;

export interface AuditTrail {
  /** A call that ended in an error. Nobody waits for the line, and nobody hears when it cannot be written. */
  readonly refused: (call: AuditedCall, error: unknown) => void;
  /** Any other line that no change carries. */
  readonly add: (line: AuditLine) => void;
  /** Writes how many lines were left out, and waits for what is under way. */
  readonly flush: () => Promise<void>;
}

interface Omitted {
  readonly principalId: string;
  readonly accessKeyId: string;
  lines: number;
}

export interface AuditTrailOptions extends Parts {
  readonly store: Pick<Store, 'write'>;
  /** Told how many lines were left out. */
  readonly omitted?: (lines: number) => void;
}

export function createAuditTrail(options: AuditTrailOptions): AuditTrail {
  const { store, clock, ids } = options;
  const buckets = new Buckets(LINES_PER_PRINCIPAL);
  const underway = new Set<Promise<unknown>>();
  const omissions = new Map<string, Omitted>();

  const keepInMind = ({ principalId, accessKeyId, lines }: Omitted): void => {
    const known = omissions.get(principalId);
    if (known) known.lines += lines;
    else if (omissions.size < PRINCIPALS_MAX) omissions.set(principalId, { principalId, accessKeyId, lines });
  };
  const omit = ({ principalId, accessKeyId }: AuditLine): void => {
    options.omitted?.(1);
    keepInMind({ principalId, accessKeyId, lines: 1 });
  };
  const omissionLine = ({ principalId, accessKeyId, lines }: Omitted): AuditLine => ({
    at: clock.now(),
    id: ids.uuid(),
    principalId,
    accessKeyId,
    operation: '',
    studioId: '',
    resourceId: '',
    outcome: 'omitted',
    doc: JSON.stringify({ omitted: lines } satisfies AuditDetails),
  });
  /** Writes the line, if there is one, behind one that says how many of its principal were left out. */
  const write = (principalId: string, line?: AuditLine): void => {
    const omitted = omissions.get(principalId);
    omissions.delete(principalId);
    const lines = [...(omitted ? [omissionLine(omitted)] : []), ...(line ? [line] : [])];
    const writing = store
      .write(lines.map((one): Write => ({ op: 'audit', line: one })))
      .catch(() => {
        if (omitted) keepInMind(omitted);
        if (line) omit(line);
      })
      .finally(() => underway.delete(writing));
    underway.add(writing);
  };
  const add = (line: AuditLine): void => {
    if (underway.size >= UNDERWAY_MAX || buckets.take(line.principalId, clock.now()) > 0) omit(line);
    else write(line.principalId, line);
  };
  return {
    refused: (call, error) => add(refusedLine(call, error, options)),
    add,
    flush: async () => {
      await Promise.all(underway);
      for (const principalId of [...omissions.keys()]) write(principalId);
      await Promise.all(underway);
    },
  };
}

// ---------------------------------------------------------------------------------------------------------------------
// Commands of the command line

/** Principal of what is done on the machine itself. */
export const COMMAND_LINE = 'command-line';

/** The line of a command that changes something, to stand in the same write. */
export function commandLine(command: string, resourceId: string, { clock, ids }: Pick<Parts, 'clock' | 'ids'>): Write {
  const line: AuditLine = {
    at: clock.now(),
    id: ids.uuid(),
    principalId: COMMAND_LINE,
    accessKeyId: '',
    operation: command,
    studioId: '',
    resourceId,
    outcome: 'ok',
    doc: '{}',
  };
  return { op: 'audit', line };
}

// ---------------------------------------------------------------------------------------------------------------------
// Log-ins

/** The line of a log-in, to stand in the same write as the access key that it makes. */
export function loginLine(origin: Origin, made: Principal, { clock, ids }: Pick<Parts, 'clock' | 'ids'>): Write {
  const { accessKeyId, principalId, role } = made;
  const line: AuditLine = {
    at: clock.now(),
    id: origin.requestId ?? ids.uuid(),
    principalId,
    accessKeyId,
    operation: 'login',
    studioId: '',
    resourceId: accessKeyId,
    outcome: 'ok',
    doc: JSON.stringify({ role, ...sourceOf(origin) } satisfies AuditDetails),
  };
  return { op: 'audit', line };
}

// Viewers

/** The line of a stream's being opened, by whoever had its address; it names who had asked for that. */
export function openedLine(
  origin: Origin,
  stream: Row,
  askedBy: string,
  { clock, ids }: Pick<Parts, 'clock' | 'ids'>,
): Write {
  const line: AuditLine = {
    at: clock.now(),
    id: origin.requestId ?? ids.uuid(),
    principalId: askedBy,
    accessKeyId: '',
    operation: 'open-stream',
    studioId: stream.studioId,
    resourceId: stream.id,
    outcome: 'ok',
    doc: JSON.stringify(sourceOf(origin) satisfies AuditDetails),
  };
  return { op: 'audit', line };
}
