/**
 * How often log-in may be tried, for a user's name and from an address, and how many may be under way from an address.
 * Names and addresses have buckets of tries that fill again with time; only a wrong password costs a try. Buckets have
 * fixed places that a keyed hash picks, so memory is bounded and nobody can push another's bucket out; two that share one
 * by chance share their tries. What is under way is counted exactly: there is no more of it than there are connections.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { isIPv6 } from 'node:net';
import { ServiceError } from '../errors.ts';

interface Limit {
  /** Tries in a full bucket. */
  readonly tries: number;
  /** For one try to come back. */
  readonly refillMs: number;
}

/** After the first tries a guesser has under three thousand a day, whoever guesses from wherever. */
const OF_USER: Limit = { tries: 20, refillMs: 30_000 };
/** More generous: everyone behind one proxy has one address. */
const OF_ADDRESS: Limit = { tries: 60, refillMs: 2_000 };

/** A quarter of those who may wait for their password to be looked at: no address can keep all others out. */
const UNDERWAY_OF_ADDRESS_MAX = 8;
/** One of them is soon done. */
const UNDERWAY_SECONDS = 1;

/** Two tables of 8 bytes each: a megabyte. */
const BUCKETS = 65_536;

export class LoginLimits {
  readonly #key = randomBytes(32);
  /** When each bucket will be full again, in ms since 1970. */
  readonly #ofUser = new Float64Array(BUCKETS);
  readonly #ofAddress = new Float64Array(BUCKETS);
  /** By address; those with none under way are not in it. */
  readonly #underway = new Map<string, number>();

  /**
   * Takes a place among those of the address that are under way, which costs no try.
   * @returns what leaves it again, to be called once.
   * @throws ServiceError ThrottlingException when the address has none left.
   */
  enter(address: string | undefined): () => void {
    const network = networkOf(address ?? '');
    const underway = this.#underway.get(network) ?? 0;
    if (underway >= UNDERWAY_OF_ADDRESS_MAX) throw tooManyAtOnce();
    this.#underway.set(network, underway + 1);
    return () => {
      const left = this.#underway.get(network)! - 1;
      if (left > 0) this.#underway.set(network, left);
      else this.#underway.delete(network);
    };
  }

  /**
   * Takes a try from both buckets.
   * @returns what gives it back.
   * @throws ServiceError ThrottlingException when there is none left in one of them.
   */
  take(userName: string, address: string | undefined, now: number): () => void {
    const buckets = [
      { table: this.#ofUser, at: this.#place(`user ${userName}`), limit: OF_USER },
      { table: this.#ofAddress, at: this.#place(`address ${networkOf(address ?? '')}`), limit: OF_ADDRESS },
    ];
    for (const { table, at, limit } of buckets) {
      const waitMs = Math.max(table[at]!, now) - now - (limit.tries - 1) * limit.refillMs;
      if (waitMs > 0) throw tooOften(Math.ceil(waitMs / 1000));
    }
    for (const { table, at, limit } of buckets) table[at] = Math.max(table[at]!, now) + limit.refillMs;
    return () => {
      for (const { table, at, limit } of buckets) table[at]! -= limit.refillMs;
    };
  }

  #place(name: string): number {
    return createHmac('sha256', this.#key).update(name).digest().readUInt32BE() % BUCKETS;
  }
}

/** Who has one address of IPv6 commonly has the 2^64 around it. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address.replace(/^::ffff:/i, '');
  const [head = '', tail] = address.split('%')[0]!.split('::');
  const groups = head === '' ? [] : head.split(':');
  const last = tail ? tail.split(':') : [];
  const zeros = tail === undefined ? 0 : 8 - groups.length - last.length;
  return [...groups, ...Array<string>(zeros).fill('0'), ...last].slice(0, 4).join(':');
}

function tooOften(seconds: number): ServiceError {
  return new ServiceError('ThrottlingException', `Log-in was tried too often. Try again in ${seconds} seconds.`, {
    code: 'LOGIN_TOO_OFTEN',
    retryAfterSeconds: seconds,
  });
}

function tooManyAtOnce(): ServiceError {
  const message = `Too many log-ins from one address at the same time. Try again in ${UNDERWAY_SECONDS} second.`;
  return new ServiceError('ThrottlingException', message, { code: 'LOGIN_BUSY', retryAfterSeconds: UNDERWAY_SECONDS });
}
