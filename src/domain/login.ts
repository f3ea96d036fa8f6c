/**
 * Log-in: a user's name and password become an access key that ends by itself, of no use without its session token. It
 * decides whether, and writes the key; the answer is the only place where the secret and the token stand in the clear.
 *
 * Nobody may learn here which users there are: a name that is unknown, disabled or without a password costs the same work
 * and gets the same answer as a wrong password.
 */
import { wireTime } from '../clock.ts';
import { ServiceError, validationFailed } from '../errors.ts';
import type { Keys } from '../keys/keys.ts';
import type { Row, Store, Write } from '../store/store.ts';
import { USER } from './access.ts';
import { newTemporaryKey, readPrincipal, TEMPORARY } from './access-key.ts';
import { loginLine } from './audit.ts';
import type { Origin, Services } from './context.ts';
import { KIND, NO_STUDIO, PRESENT } from './kinds.ts';
import type { LoginLimits } from './login-limits.ts';
import { type Passwords, type StoredPassword, storedPassword } from './password.ts';
import { comparable, findByName, readUser } from './user.ts';

export interface LoginRequest extends Origin {
  readonly userName: string;
  readonly password: string;
  /** As long as may be where absent. */
  readonly durationSeconds?: number | undefined;
}

export interface TemporaryCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly expiration: string;
}

export interface LoginParts extends Pick<Services, 'store' | 'clock' | 'ids'> {
  readonly keys: Keys;
  readonly passwords: Passwords;
  readonly limits: LoginLimits;
  /** For how long a log-in may be good. */
  readonly loginMs: number;
}

/** The shortest that the vendor gives. */
export const DURATION_SECONDS_MIN = 900;
/** Tools that ask for each command anew come to as many in a day; then the oldest gives way. */
const KEYS_OF_USER_MAX = 1_000;

/** @throws ServiceError */
export async function logIn(request: LoginRequest, parts: LoginParts): Promise<TemporaryCredentials> {
  const { store, clock, limits } = parts;
  const lifetimeMs = lifetimeOf(request, parts);
  const leave = limits.enter(request.remoteAddress);
  const known = await knownUser(request, parts).finally(leave);
  if (!known) throw refused();
  const { user, password } = known;
  const holder = { role: USER, name: readUser(user).userName, principalId: user.id } as const;
  const expiresAt = clock.now() + lifetimeMs;
  const { row, secretAccessKey, sessionToken } = newTemporaryKey(
    holder,
    { expiresAt, password, user },
    parts.keys,
    parts,
  );
  await store.write([{ op: 'insert', row }, loginLine(request, readPrincipal(row), parts)]);
  await makeRoom(store, user.id);
  return { accessKeyId: row.id, secretAccessKey, sessionToken, expiration: wireTime(expiresAt) };
}

interface Known {
  readonly user: Row;
  readonly password: StoredPassword;
}

/** The user who has this name and this password. A try is spent only where the password was looked at, and was wrong. */
async function knownUser(request: LoginRequest, parts: LoginParts): Promise<Known | undefined> {
  const { store, clock, passwords, limits } = parts;
  const giveBack = limits.take(comparable(request.userName), request.remoteAddress, clock.now());
  let known: Known | undefined;
  try {
    // By name only: a user whose id did as well would have the tries of two names.
    const user = await findByName(store, KIND.user, request.userName);
    const password = user?.state === PRESENT ? await storedPassword(store, user.id) : undefined;
    if ((await passwords.isRight(request.password, password)) && user && password) known = { user, password };
  } catch (error) {
    giveBack();
    throw error;
  }
  if (known) giveBack();
  return known;
}

function lifetimeOf({ durationSeconds }: LoginRequest, { loginMs }: LoginParts): number {
  if (durationSeconds === undefined) return loginMs;
  const max = loginMs / 1000;
  if (durationSeconds >= DURATION_SECONDS_MIN && durationSeconds <= max) return durationSeconds * 1000;
  throw validationFailed(`durationSeconds must be from ${DURATION_SECONDS_MIN} to ${max}`, 'INVALID_DURATION');
}

function refused(): ServiceError {
  const message = 'The user name or the password is wrong, or the user may not log in.';
  return new ServiceError('AccessDeniedException', message, { code: 'LOGIN_REFUSED' });
}

/** After the new one is there: two that log in at once are then both counted. A rival who deletes the same is welcome. */
async function makeRoom(store: Store, principalId: string): Promise<void> {
  const query = { kind: KIND.accessKey, studioIds: [NO_STUDIO], ownerId: principalId, state: TEMPORARY };
  const surplus = (await store.count({ ...query, limit: KEYS_OF_USER_MAX + 10 })) - KEYS_OF_USER_MAX;
  if (surplus <= 0) return;
  for (const { kind, id, version } of await store.list({ ...query, limit: surplus })) {
    const write: Write = { op: 'delete', kind, id, version };
    await store.write([write]).catch(() => undefined);
  }
}
