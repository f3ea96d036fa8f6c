/**
 * What it means that PostgreSQL refuses, undoes or does not answer: whether to try again, whose fault it is, and what the
 * caller hears. No message to a caller may say what the database said, which can hold values of rows; nor may any message
 * hold the address, which can hold a password.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DatabaseError } from 'pg';
import { ServiceError } from '../errors.ts';
import { GuardFailed } from './store.ts';

/** Collisions with other transactions after which an operation is given up. */
const ATTEMPTS_MAX = 6;
const COLLISION_PAUSE_MS = 20;

/** SQLSTATEs, from the manual's appendix A. */
const UNIQUE_VIOLATION = '23505';
const COLLISIONS = ['40001', '40P01'];

/** Tries again what the database has undone because of another transaction: that is its right, and nobody's fault. */
export async function repeated<T>(work: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      if (attempt >= ATTEMPTS_MAX || !isCollision(error)) throw error;
      await delay(Math.random() * attempt * COLLISION_PAUSE_MS);
    }
  }
}

export function isCollision(error: unknown): boolean {
  return error instanceof DatabaseError && COLLISIONS.includes(error.code ?? '');
}

/** A unique name that is taken: the caller's to know, unlike a full disk. */
export function isTaken(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === UNIQUE_VIOLATION;
}

/** What the caller hears when the database refuses or is away. The reason is for the log, without what rows hold. */
export function storeFailure(error: unknown, what: 'read' | 'change'): unknown {
  if (error instanceof ServiceError || error instanceof GuardFailed) return error;
  const message =
    what === 'change'
      ? 'The change could not be stored. Nothing was changed.'
      : 'The database does not answer. Try again in a moment.';
  return new ServiceError('InternalServerErrorException', message, {
    code: 'STORE_UNAVAILABLE',
    inward: reasonOf(error),
  });
}

/** An address with several machines behind it fails with an error of several, which says nothing itself. */
export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(reasonOf).join('; ');
  if (!(error instanceof Error)) return String(error);
  return error instanceof DatabaseError ? `${error.code}: ${error.message}` : error.message;
}
