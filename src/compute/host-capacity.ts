/**
 * What this host has promised to its workstations. A promise is made before anything is done for a workstation and is one
 * synchronous step, so that twenty starts at once cannot all count on the same room. It measures nothing while it runs:
 * memory that was promised is taken, whether a guest uses it yet or not.
 */

import { totalmem } from 'node:os';
import { constrainedMemory } from 'node:process';
import { ComputeFailure } from './compute.ts';

/** What running one costs the host beyond what the guest sees. */
export const OVERHEAD_MIB = 150;
const MIB = 2 ** 20;
/** Left to the server and to the rest of the host. */
const RESERVE_MIB = 1_024;
const RESERVE_PART = 0.1;

/** All of the host's memory, or of the group of processes that the server is in, less a reserve. */
export function hostMemoryMib(): number {
  const limit = constrainedMemory();
  const bytes = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  const mib = Math.floor(bytes / MIB);
  return Math.max(0, mib - Math.max(RESERVE_MIB, Math.ceil(mib * RESERVE_PART)));
}

export class HostCapacity {
  readonly #memoryMib: number;
  readonly #promised = new Map<string, number>();

  constructor(memoryMib: number) {
    this.#memoryMib = memoryMib;
  }

  /** Promises a workstation its memory; a second promise takes the place of the first. @throws ComputeFailure */
  promise(id: string, memoryMib: number): void {
    const needed = memoryMib + OVERHEAD_MIB;
    const free = this.#memoryMib - this.#takenMib(id);
    if (needed > free) {
      throw new ComputeFailure(
        'INSUFFICIENT_CAPACITY',
        `The server has no room for this workstation: it needs ${needed} MiB of memory and ${Math.max(0, free)} MiB of ` +
          `${this.#memoryMib} MiB are free. Stop another session, or choose a smaller instance type.`,
      );
    }
    this.#promised.set(id, needed);
  }

  /** For a workstation that runs already, whether there is room or not. */
  count(id: string, memoryMib: number): void {
    this.#promised.set(id, memoryMib + OVERHEAD_MIB);
  }

  has(id: string): boolean {
    return this.#promised.has(id);
  }

  release(id: string): void {
    this.#promised.delete(id);
  }

  ids(): string[] {
    return [...this.#promised.keys()];
  }

  #takenMib(except: string): number {
    let taken = 0;
    for (const [id, memoryMib] of this.#promised) if (id !== except) taken += memoryMib;
    return taken;
  }
}
