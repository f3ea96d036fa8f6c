/**
 * Viewers: who has opened the address of a stream, and what that is still good for. Redeeming a ticket makes a viewer, once,
 * and gives its browser a cookie; with the cookie the desktop is connected to, and again after the network broke. The
 * address ends with its time; a viewer goes on for as long as it is connected, and a while longer, up to the end of the
 * session's run.
 *
 * Everything here reads rows and decides. A ticket or a cookie is never kept: rows have their SHA-256. Whoever does not
 * show the right one learns nothing, not even whether there is such a stream.
 */
import { hash, timingSafeEqual } from 'node:crypto';
import type { StreamingSessionStream } from '../contract/streaming-session-stream.ts';
import { ServiceError } from '../errors.ts';
import { GuardFailed, type Row, type Store, type Write } from '../store/store.ts';
import { openedLine } from './audit.ts';
import type { Origin, Services } from './context.ts';
import { KIND, newRow, PRESENT } from './kinds.ts';
import { mayUseProfile } from './launch-profile-access.ts';
import { apply } from './lifecycle.ts';
import { configurationOf, stays } from './streaming-session-launch.ts';
import { type StreamingSessionStreamPrivate, streamingSessionStreamLifecycle } from './streaming-session-stream.ts';
import { isPrincipalId, timesDisabled } from './user.ts';

/** For so long after it was last seen connected, a viewer may come back. */
export const RETURN_MS = 15 * 60_000;
/** A connected viewer's row is written again when it has less than this left. */
const RENEW_MS = 10 * 60_000;
/** State of a viewer that made room for a newer one. */
export const REPLACED = 'REPLACED';
/** State of a viewer of a run of its session that is over. Any other is PRESENT. */
export const ENDED = 'ENDED';
/** More than a session may have: for lists, which have a limit. */
const VIEWERS_MAX = 1_000;
const ROWS_PER_LOOK = 200;
/** How often a write is tried because something else changed in between: many windows may be opened at once. */
const ATTEMPTS_MAX = 50;

/** `private` of a viewer's row. Its id is that of its stream, so no stream is opened twice. */
export interface ViewerPrivate {
  readonly cookieSha256: string;
  /** Whoever asked for the stream. */
  readonly askedBy: string;
  /** How often each of the people concerned had been disabled when the stream was opened. */
  readonly timesDisabled: Readonly<Record<string, number>>;
  /** Of the one connection that counts: a viewer has one at a time. */
  readonly connectionId?: string;
}

/** Why a viewer is no longer one. */
export type ViewerEnd = 'replaced' | 'session-ended' | 'not-allowed' | 'too-late';

export type ViewerServices = Pick<Services, 'store' | 'clock' | 'ids' | 'settings'> & {
  /** Viewers that a session has at once. */
  readonly viewersMax: number;
};

/** What a viewer that stands may do. */
export interface Standing {
  readonly sessionId: string;
  /** Whether text may pass between desktop and browser. */
  readonly clipboard: boolean;
}

const read = <T>({ private: text }: Row) => JSON.parse(text) as T;

/** What is compared with where there is nothing, so that finding nothing takes no less time. */
const NO_DIGEST = '0'.repeat(64);

/** Takes the same time wherever they differ. */
function isDigestOf(digest: string, secret: string): boolean {
  return timingSafeEqual(Buffer.from(digest, 'hex'), Buffer.from(hash('sha256', secret), 'hex'));
}

// --- The ticket ---

/**
 * Makes the viewer that the ticket is for. Of two who come with the same ticket at once, on any two servers, one gets it.
 * @returns the cookie, which stands nowhere else, and when it is of no use any more, whatever happens.
 * @throws ServiceError AccessDeniedException
 */
export async function redeemTicket(
  streamId: string,
  ticket: string,
  origin: Origin,
  services: ViewerServices,
): Promise<{ readonly cookie: string; readonly endsAt: number }> {
  for (let attempt = 1; ; attempt += 1) {
    const cookie = services.ids.ticket();
    const { writes, endsAt } = await redemption(streamId, ticket, cookie, origin, services);
    try {
      await services.store.write(writes);
      return { cookie, endsAt };
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
      if (attempt >= ATTEMPTS_MAX) throw tooBusy();
    }
  }
}

async function redemption(
  streamId: string,
  ticket: string,
  cookie: string,
  origin: Origin,
  services: ViewerServices,
): Promise<{ readonly writes: Write[]; readonly endsAt: number }> {
  const { store, clock, settings } = services;
  const stream = await requireTicket(streamId, ticket, services);
  const session = await store.get(KIND.streamingSession, stream.parentId!);
  if (session?.state !== 'READY') throw refused('session-ended');
  const askedBy = (JSON.parse(stream.doc) as StreamingSessionStream).createdBy!;
  const people = await disabledCounts([askedBy, session.ownerId!], store);
  if (!(await areAllowed(session, askedBy, people, store))) throw refused('not-allowed');
  const now = clock.now();
  const at = { now, tombstoneMs: settings.tombstoneMs };
  const secret: ViewerPrivate = { cookieSha256: hash('sha256', cookie), askedBy, timesDisabled: people };
  const viewer = newRow({
    kind: KIND.viewer,
    id: stream.id,
    studioId: stream.studioId,
    parentId: session.id,
    ownerId: session.ownerId,
    dueAt: now + RETURN_MS,
    createdAt: now,
    doc: '{}',
    private: JSON.stringify(secret),
  });
  const redeemed = apply(
    streamingSessionStreamLifecycle,
    stream,
    { type: 'redeemed', privateChanges: { redeemedAt: now } },
    at,
  );
  const older = await viewersOf(session.id, store);
  const surplus = older.slice(0, Math.max(0, older.length + 1 - services.viewersMax));
  return {
    // A session that runs is due when its time is over.
    endsAt: session.dueAt ?? now + RETURN_MS,
    writes: [
      stays(session),
      { op: 'update', row: redeemed },
      ...surplus.map((row): Write => ({ op: 'update', row: { ...row, version: row.version + 1, state: REPLACED } })),
      { op: 'insert', row: viewer },
      openedLine(origin, stream, askedBy, services),
    ],
  };
}

/** The stream whose ticket it is, while it is good. @throws ServiceError AccessDeniedException */
async function requireTicket(streamId: string, ticket: string, { store, clock }: ViewerServices): Promise<Row> {
  const stream = await store.get(KIND.streamingSessionStream, streamId);
  const { ticketSha256, expiresAt, redeemedAt } = stream
    ? read<StreamingSessionStreamPrivate>(stream)
    : { ticketSha256: undefined, expiresAt: 0, redeemedAt: undefined };
  const isRight = isDigestOf(ticketSha256 ?? NO_DIGEST, ticket);
  if (!stream || !isRight || stream.state !== 'READY' || expiresAt <= clock.now()) throw ticketRefused();
  if (redeemedAt !== undefined) throw ticketUsed();
  return stream;
}

// --- The cookie ---

/** The viewer whose cookie it is, with what it may do. @throws ServiceError AccessDeniedException */
export async function requireViewer(
  streamId: string,
  cookie: string,
  services: ViewerServices,
): Promise<{ readonly row: Row; readonly standing: Standing }> {
  const row = await services.store.get(KIND.viewer, streamId);
  const { cookieSha256 } = row ? read<ViewerPrivate>(row) : { cookieSha256: NO_DIGEST };
  if (!isDigestOf(cookieSha256, cookie) || !row) throw cookieRefused();
  const standing = await standingOf(row, services);
  if (typeof standing === 'string') throw refused(standing);
  return { row, standing };
}

/**
 * Makes a new connection the one that counts.
 * @returns its id, by which it learns that another came after it.
 * @throws ServiceError AccessDeniedException
 */
export async function connectViewer(
  streamId: string,
  cookie: string,
  services: ViewerServices,
): Promise<{ readonly connectionId: string; readonly standing: Standing }> {
  const connectionId = services.ids.uuid();
  for (let attempt = 1; ; attempt += 1) {
    const { row, standing } = await requireViewer(streamId, cookie, services);
    const secret = JSON.stringify({ ...read<ViewerPrivate>(row), connectionId });
    try {
      await services.store.write([{ op: 'update', row: { ...renewed(row, services), private: secret } }]);
      return { connectionId, standing };
    } catch (error) {
      if (!(error instanceof GuardFailed)) throw error;
      if (attempt >= ATTEMPTS_MAX) throw tooBusy();
    }
  }
}

/** What has become of a connected viewer; its time to come back is renewed while it is connected. */
export async function lookAtViewer(
  streamId: string,
  connectionId: string,
  services: ViewerServices,
): Promise<Standing | ViewerEnd> {
  const row = await services.store.get(KIND.viewer, streamId);
  if (!row) return 'too-late';
  if (read<ViewerPrivate>(row).connectionId !== connectionId) return 'replaced';
  const standing = await standingOf(row, services);
  if (typeof standing !== 'string' && row.dueAt! - services.clock.now() < RENEW_MS) {
    // Where nothing can be written its time goes on, and the next look tries again: nobody is cut off for a full disk.
    await writeUnlessChanged({ op: 'update', row: renewed(row, services) }, services.store).catch(() => undefined);
  }
  return standing;
}

function renewed(row: Row, { clock }: Pick<Services, 'clock'>): Row {
  return { ...row, version: row.version + 1, dueAt: clock.now() + RETURN_MS };
}

// --- What a viewer depends on ---

async function standingOf(row: Row, services: ViewerServices): Promise<Standing | ViewerEnd> {
  const { store, clock, viewersMax } = services;
  const session = await store.get(KIND.streamingSession, row.parentId!);
  if (session?.state !== 'READY' || row.state === ENDED) return 'session-ended';
  if (row.state === REPLACED) return 'replaced';
  if (row.dueAt! <= clock.now()) return 'too-late';
  const { askedBy, timesDisabled: people } = read<ViewerPrivate>(row);
  if (!(await areAllowed(session, askedBy, people, store))) return 'not-allowed';
  // Two that were opened at the same moment do not see each other's row when they write theirs.
  const viewers = await viewersOf(session.id, store);
  if (viewers.findIndex(({ id }) => id === row.id) < viewers.length - viewersMax) return 'replaced';
  return { sessionId: session.id, clipboard: await allowsClipboard(session, store) };
}

/** Those that were not replaced, the newest last. */
function viewersOf(sessionId: string, store: Store): Promise<readonly Row[]> {
  return store.list({ kind: KIND.viewer, parentId: sessionId, state: PRESENT, limit: VIEWERS_MAX });
}

async function disabledCounts(ids: readonly string[], store: Store): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const id of ids) {
    const user = isPrincipalId(id) ? await store.get(KIND.user, id) : undefined;
    if (user) counts[id] = timesDisabled(user);
  }
  return counts;
}

/**
 * Whoever owns the session is enabled, if it is a user; and if it was a user who asked for the stream, that one may still
 * use the launch profile. Having been disabled in between counts: what was opened before stays closed.
 */
async function areAllowed(
  session: Row,
  askedBy: string,
  people: ViewerPrivate['timesDisabled'],
  store: Store,
): Promise<boolean> {
  for (const id of new Set([askedBy, session.ownerId!])) {
    if (!isPrincipalId(id)) continue;
    const user = await store.get(KIND.user, id);
    if (user?.state !== PRESENT || timesDisabled(user) !== people[id]) return false;
  }
  return !isPrincipalId(askedBy) || mayUseProfile(store, session.parentId!, askedBy);
}

/** As the launch profile says now; not where it is gone. */
async function allowsClipboard(session: Row, store: Store): Promise<boolean> {
  const profile = await store.get(KIND.launchProfile, session.parentId!);
  return profile !== undefined && configurationOf(profile).clipboardMode === 'ENABLED';
}

// --- In words ---

const ENDS: Readonly<Record<ViewerEnd, { readonly code: string; readonly message: string }>> = {
  replaced: { code: 'VIEWER_REPLACED', message: 'This desktop was opened in another window since.' },
  'session-ended': { code: 'SESSION_NOT_READY', message: 'The session has been stopped or deleted.' },
  'not-allowed': { code: 'NOT_ALLOWED', message: 'This session may not be seen by you any more.' },
  'too-late': { code: 'VIEWER_TOO_LATE', message: 'This window was away for too long. Ask for a new address.' },
};

export function endInWords(end: ViewerEnd): string {
  return ENDS[end].message;
}

function refused(end: ViewerEnd): ServiceError {
  const { code, message } = ENDS[end];
  return new ServiceError('AccessDeniedException', message, { code });
}

function ticketRefused(): ServiceError {
  const message = 'This address is not good, or not any more. Ask for a new one.';
  return new ServiceError('AccessDeniedException', message, { code: 'TICKET_REFUSED' });
}

function ticketUsed(): ServiceError {
  const message = 'This address has been opened already, and opens once. Ask for a new one.';
  return new ServiceError('AccessDeniedException', message, { code: 'TICKET_USED' });
}

function tooBusy(): ServiceError {
  const message = 'Too much happens to this session at the moment. Try again.';
  return new ServiceError('ServiceUnavailableException', message, { code: 'SESSION_BUSY' });
}

function cookieRefused(): ServiceError {
  const message = 'This window has no right to the desktop, or not any more. Ask for a new address.';
  return new ServiceError('AccessDeniedException', message, { code: 'VIEWER_UNKNOWN' });
}

// --- The end ---

/** Viewers that could come back no longer: nothing is left to be told to them. */
export async function deleteEndedViewers({ store, clock }: Pick<Services, 'store' | 'clock'>): Promise<void> {
  const ended = { kind: KIND.viewer, dueBy: clock.now(), limit: ROWS_PER_LOOK };
  for (let rows = await store.list(ended); rows.length > 0; rows = await store.list(ended)) {
    for (const { kind, id, version } of rows) await writeUnlessChanged({ op: 'delete', kind, id, version }, store);
  }
}

/** Ends the viewers of a session whose run ends: of the next run they see nothing. They are told, if they ask. */
export async function endViewersOf(sessionId: string, store: Store): Promise<void> {
  const present = { kind: KIND.viewer, parentId: sessionId, state: PRESENT, limit: ROWS_PER_LOOK };
  for (let rows = await store.list(present); rows.length > 0; rows = await store.list(present)) {
    for (const row of rows) {
      await writeUnlessChanged({ op: 'update', row: { ...row, version: row.version + 1, state: ENDED } }, store);
    }
  }
}

/** What has changed since it was read is left: the next look has it as it is then. */
async function writeUnlessChanged(write: Write, store: Store): Promise<void> {
  try {
    await store.write([write]);
  } catch (error) {
    if (!(error instanceof GuardFailed)) throw error;
  }
}
