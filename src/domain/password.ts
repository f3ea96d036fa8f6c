/**
 * Passwords of users: what may be one, and whether a given one is right. Only a slow hash is kept (scrypt, with a salt of
 * its own), in a row beside the user's. A hash must never hold up the event loop, and there must never be more of them at
 * work or waiting than memory and patience have room for; and a user who has no password costs as much as one who has.
 */
import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { ServiceError } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import { KIND, newRow } from './kinds.ts';

/** How much work a hash is. Kept with each, so that it can grow without making those before it useless. */
export interface Cost {
  readonly N: number;
  readonly r: number;
  readonly p: number;
}

/** `private` of a password's row. */
export interface StoredPassword extends Cost {
  /** Base64. What was logged in for with another salt is no longer good. */
  readonly salt: string;
  readonly hash: string;
}

/** 32 MiB and some hundred milliseconds: the third of the equal choices that OWASP recommends for scrypt. */
export const COST: Cost = { N: 2 ** 15, r: 8, p: 3 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** As Node counts, with room to spare. */
const MEMORY_BYTES_MAX = 128 * 1024 * 1024;
/** Half of the threads that Node has for files and hashes. */
const AT_ONCE_MAX = 2;
/** Some seconds of waiting. */
const WAITING_MAX = 32;
/** By then those who wait have had their turn. */
const BUSY_SECONDS = 5;

const LENGTH_MIN = 12;
export const PASSWORD_LENGTH_MAX = 256;

/** Why a text cannot be a password; undefined when it can. */
export function flawOf(password: string): string | undefined {
  const { length } = [...password];
  if (length < LENGTH_MIN) return `A password has at least ${LENGTH_MIN} characters.`;
  if (length > PASSWORD_LENGTH_MAX) return `A password has at most ${PASSWORD_LENGTH_MAX} characters.`;
  if (/\p{Cc}/u.test(password)) return 'A password has no line breaks or other control characters.';
  return undefined;
}

/** The password of a user, if there is one. */
export async function storedPassword(
  store: Pick<Store, 'get'>,
  principalId: string,
): Promise<StoredPassword | undefined> {
  const row = await store.get(KIND.password, principalId);
  return row && (JSON.parse(row.private) as StoredPassword);
}

/** The write that makes it a user's password, in place of the one before. */
export function setPassword(
  principalId: string,
  password: StoredPassword,
  before: Row | undefined,
  now: number,
): Write {
  const secret = JSON.stringify(password);
  if (before) return { op: 'update', row: { ...before, private: secret, version: before.version + 1 } };
  const row = newRow({ kind: KIND.password, id: principalId, createdAt: now, doc: '{}', private: secret });
  return { op: 'insert', row };
}

export interface Passwords {
  hash(password: string): Promise<StoredPassword>;
  /** @throws ServiceError ThrottlingException when too many wait already. */
  isRight(password: string, stored: StoredPassword | undefined): Promise<boolean>;
}

export function createPasswords(cost: Cost = COST): Passwords {
  const inTurn = createQueue();
  /** Nobody's: it makes finding no password as slow as finding a wrong one. */
  const nobodys = { ...cost, salt: randomBytes(SALT_BYTES).toString('base64') };
  return {
    hash: async (password) => {
      const salt = randomBytes(SALT_BYTES).toString('base64');
      const hash = await inTurn(() => derive(password, { ...cost, salt }));
      return { ...cost, salt, hash: hash.toString('base64') };
    },
    isRight: async (password, stored) => {
      const derived = await inTurn(() => derive(password, stored ?? nobodys));
      return stored !== undefined && timingSafeEqual(derived, Buffer.from(stored.hash, 'base64'));
    },
  };
}

/** The same characters may be typed as different code points: which of them, a keyboard decides. */
function derive(password: string, { N, r, p, salt }: Cost & { readonly salt: string }): Promise<Buffer> {
  const options: ScryptOptions = { N, r, p, maxmem: MEMORY_BYTES_MAX };
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), Buffer.from(salt, 'base64'), HASH_BYTES, options, (error, key) => {
      if (error) reject(error);
      else resolve(key);
    });
  });
}

function createQueue() {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async <T>(work: () => Promise<T>): Promise<T> => {
    if (running >= AT_ONCE_MAX) {
      if (waiting.length >= WAITING_MAX) throw busy();
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      running += 1;
    }
    try {
      return await work();
    } finally {
      // The place is handed on, so that nobody who comes now gets in before those who wait.
      const next = waiting.shift();
      if (next) next();
      else running -= 1;
    }
  };
}

function busy(): ServiceError {
  const message = `Too many users log in at the same time. Try again in ${BUSY_SECONDS} seconds.`;
  return new ServiceError('ThrottlingException', message, { code: 'LOGIN_BUSY', retryAfterSeconds: BUSY_SECONDS });
}
