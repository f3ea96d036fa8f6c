/**
 * Hears when another server has written a row that is due, by PostgreSQL's LISTEN, on a connection of its own.
 *
 * A wake-up carries no data and may be lost: whoever is woken looks, and who is not looks by itself a little later. So a
 * connection that breaks is made again with growing pauses and nobody is told of it; only a server or a pooler on which
 * nothing will ever be heard is told, once. This file must never fail anything: without it work is merely found later.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Client, DatabaseError } from 'pg';
import { withStrictTls } from './postgres-address.ts';
import { SQL } from './sql.ts';

/** For the connection to be made, and for each statement on it. */
const STATEMENT_MS = 5_000;
const PAUSE_MS = 250;
const PAUSE_MS_MAX = 30_000;
/** For a wake-up of our own to come back. */
const ECHO_MS = 5_000;
/** Of silence, after which the system asks whether the other end is still there. */
const KEEP_ALIVE_MS = 30_000;

export interface WakeOptions {
  /** May hold a password: it must never reach a message. */
  readonly url: string;
  readonly onWake: () => void;
  /** Told once, in a sentence, when there will be no wake-ups. */
  readonly warn: (message: string) => void;
  readonly echoMs?: number;
}

export interface Wakes {
  close(): Promise<void>;
}

/** Begins to listen, and goes on until it is closed. */
export function listenForWakes(options: WakeOptions): Wakes {
  const listener = new Listener(options);
  const listening = listener.listen();
  return {
    close: () => {
      listener.closing.abort();
      return listening;
    },
  };
}

class Listener {
  readonly closing = new AbortController();
  readonly #options: WakeOptions;
  #pauseMs = PAUSE_MS;
  #heard = false;
  #warned = false;

  constructor(options: WakeOptions) {
    this.#options = options;
  }

  async listen(): Promise<void> {
    const { signal } = this.closing;
    while (!signal.aborted) {
      try {
        await this.#listenOnce();
      } catch (error) {
        if (refusesToListen(error)) return this.#warn('The database knows no LISTEN');
      }
      const pauseMs = this.#pauseMs * (0.5 + Math.random() / 2);
      this.#pauseMs = Math.min(PAUSE_MS_MAX, this.#pauseMs * 2);
      await delay(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Until the connection ends or is no longer wanted. */
  async #listenOnce(): Promise<void> {
    const client = clientOf(this.#options.url);
    const ended = new Promise((resolve) => client.once('end', resolve));
    const leave = () => void client.end().catch(() => undefined);
    this.closing.signal.addEventListener('abort', leave, { once: true });
    let patience: NodeJS.Timeout | undefined;
    client.on('notification', () => {
      this.#heard = true;
      this.#options.onWake();
    });
    try {
      await client.connect();
      await client.query(SQL.listenForDue);
      this.#pauseMs = PAUSE_MS;
      // What became due before we listened was told to nobody.
      this.#options.onWake();
      patience = await this.#expectEcho();
      await ended;
    } finally {
      clearTimeout(patience);
      this.closing.signal.removeEventListener('abort', leave);
      leave();
    }
  }

  /** A pooler may take LISTEN without a word and pass nothing on. */
  async #expectEcho(): Promise<NodeJS.Timeout | undefined> {
    if (this.#heard || !(await tellAll(this.#options.url))) return undefined;
    return setTimeout(() => {
      if (!this.#heard) this.#warn('The database, or a pooler before it, lets nobody hear its NOTIFY');
    }, this.#options.echoMs ?? ECHO_MS);
  }

  #warn(what: string): void {
    if (!this.#warned) this.#options.warn(`${what}: what other servers leave to this one is found by looking.`);
    this.#warned = true;
  }
}

/** From another connection, as even a pooler lets one hear itself. @returns whether it was said. */
async function tellAll(url: string): Promise<boolean> {
  const client = clientOf(url);
  try {
    await client.connect();
    await client.query(SQL.tellDue);
    return true;
  } catch {
    return false;
  } finally {
    void client.end().catch(() => undefined);
  }
}

function clientOf(url: string): Client {
  const client = new Client({
    connectionString: withStrictTls(url),
    connectionTimeoutMillis: STATEMENT_MS,
    query_timeout: STATEMENT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_MS,
  });
  client.on('error', () => undefined);
  return client;
}

/** What a server says of the statement itself, unlike what it says while it starts, stops or is full. */
export function refusesToListen(error: unknown): boolean {
  return error instanceof DatabaseError && /^(0A|42)/.test(error.code ?? '');
}
