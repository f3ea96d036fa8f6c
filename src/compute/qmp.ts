/**
 * A client of QEMU's monitor protocol, QMP, over the unix socket of one virtual machine. It greets, sends commands one after
 * the other and tells of events. Every wait has an end, because a QEMU that was taken over by its guest may say anything or
 * nothing. It knows nothing of what the commands are for. Arguments may hold keys: they are in no message of an error.
 */
import type { Socket } from 'node:net';
import { unlessAborted } from './changes.ts';
import { connectIn, type JsonLines, jsonLines } from './json-lines.ts';

const LINE_BYTES_MAX = 1024 * 1024;
const CONVERSATION_BYTES_MAX = 64 * 1024 * 1024;
const CONVERSATION_LINES_MAX = 100_000;
/** What QEMU does at once when it is well; unlocking a disk takes it about a second. */
const ANSWER_MS_MAX = 20_000;

/** QEMU has refused a command. */
export class QmpRefused extends Error {
  override readonly name = 'QmpRefused';
}

/** QEMU does not answer, has gone, or does not speak the protocol. */
export class QmpLost extends Error {
  override readonly name = 'QmpLost';
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export interface Qmp {
  /** @throws QmpRefused, QmpLost; the signal's reason. */
  execute(command: string, args?: Readonly<Record<string, unknown>>, signal?: AbortSignal): Promise<unknown>;
  /** Why it can be used no longer; undefined while it can. */
  lost(): Error | undefined;
  close(): void;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: Error) => void;
}

/** No command has it. */
const NO_ID = -1;
const NEVER = new AbortController().signal;

/** Connects to the socket `name` in `directory` and is ready for commands. @throws QmpLost; the signal's reason. */
export async function connectQmp(
  directory: string,
  name: string,
  signal: AbortSignal,
  onEvent: (event: QmpEvent) => void = () => undefined,
): Promise<Qmp> {
  const limit = AbortSignal.timeout(ANSWER_MS_MAX);
  try {
    const either = AbortSignal.any([signal, limit]);
    return await greet(await connectIn(directory, name, either), either, onEvent);
  } catch (error) {
    signal.throwIfAborted();
    throw error instanceof QmpLost ? error : new QmpLost(`QEMU cannot be reached: ${(error as Error).message}`);
  }
}

async function greet(socket: Socket, signal: AbortSignal, onEvent: (event: QmpEvent) => void): Promise<Qmp> {
  const greeting = Promise.withResolvers<void>();
  greeting.promise.catch(() => undefined);
  const connection = new Connection(socket, greeting, onEvent);
  try {
    await unlessAborted(greeting.promise, signal);
    await connection.execute('qmp_capabilities', {}, signal);
    return connection;
  } catch (error) {
    connection.close();
    throw error;
  }
}

class Connection implements Qmp {
  readonly #lines: JsonLines;
  readonly #waiting = new Map<number, Waiting>();
  #lost: QmpLost | undefined;
  #sent = 0;

  constructor(socket: Socket, greeting: PromiseWithResolvers<void>, onEvent: (event: QmpEvent) => void) {
    this.#lines = jsonLines(socket, {
      lineBytesMax: LINE_BYTES_MAX,
      bytesMax: CONVERSATION_BYTES_MAX,
      linesMax: CONVERSATION_LINES_MAX,
      onLine: (line) => this.#take(line, greeting, onEvent),
      onEnd: (reason) => {
        this.#lost = new QmpLost(`QEMU's monitor is gone: ${reason.message}`);
        greeting.reject(this.#lost);
        for (const { reject } of this.#waiting.values()) reject(this.#lost);
        this.#waiting.clear();
      },
    });
  }

  async execute(command: string, args: Readonly<Record<string, unknown>> = {}, signal = NEVER): Promise<unknown> {
    if (this.#lost) throw this.#lost;
    signal.throwIfAborted();
    this.#sent += 1;
    const id = this.#sent;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    const limit = AbortSignal.timeout(ANSWER_MS_MAX);
    try {
      this.#lines.send({ execute: command, arguments: args, id });
      return await unlessAborted(promise, AbortSignal.any([signal, limit]));
    } catch (error) {
      signal.throwIfAborted();
      if (limit.aborted) throw new QmpLost(`QEMU has not answered ${command} within ${ANSWER_MS_MAX / 1000} s`);
      throw error instanceof QmpRefused ? new QmpRefused(`${command}: ${error.message}`) : error;
    } finally {
      this.#waiting.delete(id);
    }
  }

  lost(): Error | undefined {
    return this.#lost;
  }

  close(): void {
    this.#lines.close();
  }

  #take(line: Buffer, greeting: PromiseWithResolvers<void>, onEvent: (event: QmpEvent) => void): void {
    const message: unknown = JSON.parse(line.toString('utf8'));
    if (typeof message !== 'object' || message === null) throw new Error('it does not speak QMP');
    const id = 'id' in message && typeof message.id === 'number' ? message.id : NO_ID;
    if ('QMP' in message) greeting.resolve();
    else if ('event' in message) onEvent(eventOf(message));
    else if ('error' in message) this.#waiting.get(id)?.reject(new QmpRefused(descriptionOf(message.error)));
    else if ('return' in message) this.#waiting.get(id)?.resolve(message.return);
    else throw new Error('it does not speak QMP');
  }
}

function eventOf(message: object): QmpEvent {
  const { event, data } = message as { event?: unknown; data?: unknown };
  const isObject = typeof data === 'object' && data !== null;
  return { event: String(event), data: isObject ? (data as Record<string, unknown>) : {} };
}

const DESCRIPTION_LENGTH_MAX = 500;

function descriptionOf(error: unknown): string {
  const found = typeof error === 'object' && error !== null && 'desc' in error ? String(error.desc) : 'refused';
  return found.slice(0, DESCRIPTION_LENGTH_MAX);
}
