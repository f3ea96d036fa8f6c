/**
 * What the adapters do alike when a workstation is changed: they refuse whoever was overtaken, and let one change of a
 * workstation follow the other. Two things need a turn: a record, which is read and written in an instant, and an effect
 * such as a start, which takes its time and changes the record several times on its way. Neither may wait without an end:
 * an effect is ended by its own signal, and by whoever comes for the same workstation with a higher fence.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import { type Change, ComputeFailure } from './compute.ts';
import type { Records } from './records.ts';

/** What every adapter's records have in common. */
export interface FencedRecord {
  readonly fence: number;
  readonly power: string;
  /** When `power` last changed. */
  readonly changedAt: number;
}

/** A change whose fence is absent is of something that no other change can undo. */
export type PossibleChange = Omit<Change, 'fence'> & { readonly fence?: number };

/** What a record becomes: some members of it, nothing at all where it stays as it is, or it is taken away. */
export type Next<T> = Partial<T> | undefined | 'destroy';

/** Reads and writes one record, one change after another. @returns the record afterwards. @throws ComputeFailure overtaken */
export type ChangeRecord<T> = (
  change: PossibleChange,
  next: (found: T | undefined) => Next<T>,
) => Promise<T | undefined>;

export interface ChangesOptions<T> {
  readonly records: Records<T>;
  readonly clock: Clock;
  /** The record of a workstation that nothing was made of yet. */
  readonly absent: Omit<T, 'fence'>;
}

export function createChanges<T extends FencedRecord>(options: ChangesOptions<T>): ChangeRecord<T> {
  const { records, clock, absent } = options;
  const turns = new Map<string, Promise<unknown>>();
  return ({ id, signal, fence }, next) => {
    const inTurn = (turns.get(id) ?? Promise.resolve()).then(async () => {
      signal.throwIfAborted();
      const found = await records.get(id);
      if (found && fence !== undefined && found.fence > fence) throw overtaken();
      const wanted = next(found);
      if (wanted === undefined) return found;
      if (wanted === 'destroy') {
        await records.put(id, undefined);
        return undefined;
      }
      const kept = { ...absent, ...found, ...wanted, fence: fence ?? found?.fence ?? 0 } as T;
      const record = kept.power === found?.power ? kept : { ...kept, changedAt: clock.now() };
      await records.put(id, record);
      return record;
    });
    const ended = inTurn.then(
      () => undefined,
      () => undefined,
    );
    turns.set(id, ended);
    void ended.then(() => turns.get(id) === ended && turns.delete(id));
    return inTurn;
  };
}

interface Effect {
  readonly fence: number | undefined;
  readonly stop: AbortController;
  /** When neither it nor any before it is at work. */
  readonly ended: Promise<void>;
}

/** Effects that take their time, one after the other for each workstation. */
export class Effects {
  readonly #queues = new Map<string, Effect[]>();

  /**
   * Runs `work` once everything that came before it for this workstation has ended; what came with a lower fence is ended
   * for it. The signal that `work` is given must end it soon.
   */
  async inTurn<R>({ id, signal, fence }: PossibleChange, work: (signal: AbortSignal) => Promise<R>): Promise<R> {
    const queue = this.#queues.get(id) ?? [];
    this.#queues.set(id, queue);
    for (const earlier of queue) {
      if (fence !== undefined && earlier.fence !== undefined && earlier.fence < fence) earlier.stop.abort(overtaken());
    }
    const before = queue.at(-1)?.ended ?? Promise.resolve();
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    const effect: Effect = { fence, stop: new AbortController(), ended };
    queue.push(effect);
    const either = AbortSignal.any([signal, effect.stop.signal]);
    try {
      await unlessAborted(before, either);
      return await work(either);
    } catch (error) {
      // What was at work when it was told to end may say only that it was.
      either.throwIfAborted();
      throw error;
    } finally {
      // One that gave up waiting leaves the queue as it came: whoever is behind it still waits for those before.
      void before.then(() => {
        queue.splice(queue.indexOf(effect), 1);
        if (queue.length === 0 && this.#queues.get(id) === queue) this.#queues.delete(id);
        end();
      });
    }
  }
}

/** Waits so long, or until the signal is aborted. @throws the signal's reason. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/** What `promise` comes to, or the signal's reason as soon as there is one. The promise itself goes on. */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const abort = () => reject(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
    promise.catch(() => undefined);
  }
}

export function overtaken(): ComputeFailure {
  return new ComputeFailure('INTERNAL_ERROR', 'The workstation has been changed by another since', { retryable: true });
}
