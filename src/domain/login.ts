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
import type { Store, Write } from '../store/store.ts';
import { USER } from './access.ts';
import { newTemporaryKey, TEMPORARY } from './access-key.ts';
import type { Services } from './context.ts';
import { KIND, NO_STUDIO, PRESENT } from './kinds.ts';
import type { LoginLimits } from './login-limits.ts';
import { type Passwords, storedPassword } from './password.ts';
import { comparable, findNamed, readUser } from './user.ts';

export interface LoginRequest {
  readonly userName: string;
  readonly password: string;
  /** As long as may be where absent. */
  readonly durationSeconds?: number | undefined;
  readonly remoteAddress?: string | undefined;
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
  const { store, clock, passwords, limits } = parts;
  const lifetimeMs = lifetimeOf(request, parts);
  const giveBack = limits.take(comparable(request.userName), request.remoteAddress, clock.now());
  const user = await findNamed(store, KIND.user, request.userName);
  const stored = user?.state === PRESENT ? await storedPassword(store, user.id) : undefined;
  if (!(await passwords.isRight(request.password, stored)) || !user || !stored) throw refused();
  giveBack();
  const holder = { role: USER, name: readUser(user).userName, principalId: user.id } as const;
  const expiresAt = clock.now() + lifetimeMs;
  const { row, secretAccessKey, sessionToken } = newTemporaryKey(
    holder,
    { expiresAt, password: stored },
    parts.keys,
    parts,
  );
  await store.write([{ op: 'insert', row }]);
  await makeRoom(store, user.id);
  return { accessKeyId: row.id, secretAccessKey, sessionToken, expiration: wireTime(expiresAt) };
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
