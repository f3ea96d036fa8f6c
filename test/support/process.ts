/**
 * Server processes that can die at any step. What runs inside one passes points: before and after each call of the
 * store, and wherever the simulated drivers call their fault. At a point a test may let it fail, hold it up or kill it;
 * what was killed never goes on and never reaches the store or a driver again, just as after `kill -9`.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Store } from '../../src/store/store.ts';
import type { World } from './domain.ts';

const current = new AsyncLocalStorage<Process>();
const NEVER = new Promise<never>(() => undefined);

/** Called at each point; throws to make the effect fail. @param point for example `store.write` or `keys.destroyed`. */
export type AtPoint = (point: string, id: string) => void | Promise<void>;

export class Killed extends Error {}

export class Process {
  /** Rejects when the process dies. */
  readonly death: Promise<never>;
  readonly #at: AtPoint;
  #alive = true;
  #die: (reason: Killed) => void = () => undefined;

  constructor(at: AtPoint = () => undefined) {
    this.#at = at;
    this.death = new Promise((_, reject) => {
      this.#die = reject;
    });
    this.death.catch(() => undefined);
  }

  get alive(): boolean {
    return this.#alive;
  }

  kill(): void {
    this.#alive = false;
    this.#die(new Killed());
  }

  /** What `work` comes to, or Killed when the process dies before it ends. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return Promise.race([current.run(this, work), this.death]);
  }

  async pass(point: string, id: string): Promise<void> {
    if (!this.#alive) await NEVER;
    await this.#at(point, id);
    if (!this.#alive) await NEVER;
  }
}

/** Passes a point of the process that is running; outside of any, nothing happens. */
async function pass(point: string, id = ''): Promise<void> {
  await current.getStore()?.pass(point, id);
}

/** Every call of the store is two points: `store.get` before, `store.get done` after. */
export function mortalStore(store: Store): Store {
  const around = async <T>(name: string, id: string, call: () => Promise<T>): Promise<T> => {
    await pass(`store.${name}`, id);
    const result = await call();
    await pass(`store.${name} done`, id);
    return result;
  };
  return {
    get: (kind, id) => around('get', id, () => store.get(kind, id)),
    list: (query) => around('list', query.kind, () => store.list(query)),
    count: (query) => around('count', query.kind, () => store.count(query)),
    token: (key) => around('token', key, () => store.token(key)),
    audit: (query) => around('audit', '', () => store.audit(query)),
    lease: (query) => around('lease', `${query.kind} ${query.state}`, () => store.lease(query)),
    write: (batch) => around('write', batch[0]?.op ?? '', () => store.write(batch)),
    close: () => store.close(),
  };
}

/** Makes points of the effects of a world's drivers. */
export function mortalDrivers({ keys, images, workstations }: Pick<World, 'keys' | 'images' | 'workstations'>): void {
  keys.fault = (effect, id) => pass(`keys.${effect}`, id);
  images.fault = (effect, id) => pass(`images.${effect}`, id);
  workstations.fault = (effect, id) => pass(`compute.${effect}`, id);
}
