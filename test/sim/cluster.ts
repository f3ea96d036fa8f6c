/**
 * Server processes that answer users and do background work on one database, and the bad luck they have: they stall,
 * their drivers and their store fail, they are stopped and killed. All luck comes from one seed.
 */

import { CommandFailed } from '../../src/cli/command.ts';
import { type OperationName, operations } from '../../src/contract/index.ts';
import { createCredentialFinder } from '../../src/credential-finder.ts';
import { type AuditTrail, createAuditTrail } from '../../src/domain/audit.ts';
import { createGrants } from '../../src/domain/grant.ts';
import { handlers } from '../../src/domain/index.ts';
import { perform } from '../../src/domain/perform.ts';
import { Turns } from '../../src/domain/turns.ts';
import { ServiceError } from '../../src/errors.ts';
import { ImageFailure } from '../../src/images/images.ts';
import { KeyUnavailable } from '../../src/keys/keys.ts';
import { launchProfileJobs } from '../../src/worker/launch-profile.ts';
import { streamingImageJobs } from '../../src/worker/streaming-image.ts';
import { streamingSessionJobs } from '../../src/worker/streaming-session.ts';
import { streamingSessionBackupJobs } from '../../src/worker/streaming-session-backup.ts';
import { createSessionHealth } from '../../src/worker/streaming-session-health.ts';
import { streamingSessionStreamJobs } from '../../src/worker/streaming-session-stream.ts';
import { studioJobs } from '../../src/worker/studio.ts';
import { studioComponentJobs } from '../../src/worker/studio-component.ts';
import { createUpkeep } from '../../src/worker/upkeep.ts';
import { createWorker } from '../../src/worker/worker.ts';
import { silentLog, type World } from '../support/domain.ts';
import { Killed, Process } from '../support/process.ts';
import type { Random } from '../support/random.ts';

export const LEASE_MS = 15_000;
/** No longer than this many turns, so that a run ends even when time stands still. */
const STALL_TURNS_MAX = 200;

export type Outcome = { readonly answer: unknown } | { readonly refusal: ServiceError } | 'lost';

/** A request, as it is once its signature has been found good. */
export interface Request {
  readonly requestId: string;
  readonly accessKeyId: string;
  readonly name: OperationName;
  readonly input: object;
}

export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export class Cluster {
  /** How often what befell it; a run in which nothing happened shows nothing. */
  readonly befell = { calls: 0, killed: 0, stopped: 0, stalled: 0, failed: 0, lost: 0, ended: 0 };
  readonly #world: World;
  readonly #random: Random;
  readonly #processes: Process[] = [];
  readonly #loops: Promise<void>[] = [];
  readonly #injected = new WeakSet<object>();
  readonly #servers = new WeakMap<Process, Server>();
  /** Serves when all others have ended. */
  readonly #last: Server;
  #calm = false;

  constructor(world: World, random: Random, size: number) {
    this.#world = world;
    this.#random = random;
    this.#last = createServer(world);
    for (let index = 0; index < size; index += 1) this.#start();
  }

  /** Sends a call to one of the processes. `lost`: the process died before it had answered. */
  async call(request: Request): Promise<Outcome> {
    // When all have ended, whoever asks is served by the test itself.
    const process = this.#processes.length > 0 ? this.#random.pick(this.#processes) : undefined;
    const server = (process && this.#servers.get(process)) ?? this.#last;
    const call = () => server.answer(request);
    this.befell.calls += 1;
    try {
      return { answer: await (process ? process.run(call) : call()) };
    } catch (error) {
      if (error instanceof ServiceError) return { refusal: error };
      if (!(error instanceof Killed)) throw error;
      this.befell.lost += 1;
      return 'lost';
    }
  }

  /** Runs a command beside the servers. @returns what came of it; undefined when it died or failed. */
  async command<T>(work: () => Promise<T>): Promise<T | undefined> {
    const process: Process = new Process((point) => this.#befall(process, point));
    try {
      return await process.run(work);
    } catch (error) {
      if (error instanceof Killed || error instanceof CommandFailed) return undefined;
      this.#forgive(error as Error);
      return undefined;
    }
  }

  /** From now on nothing fails any more; resolves when every process has ended what it was doing. */
  async end(): Promise<void> {
    this.#calm = true;
    await Promise.all(this.#loops);
  }

  #start(): void {
    const process: Process = new Process((point) => this.#befall(process, point));
    this.#processes.push(process);
    const server = createServer(this.#world);
    this.#servers.set(process, server);
    const life = this.#live(process, server);
    life.catch(() => undefined);
    this.#loops.push(life);
  }

  async #live(process: Process, server: Server): Promise<void> {
    await process
      .run(() => this.#serve(server))
      .catch((error) => {
        if (!(error instanceof Killed)) throw error;
      });
    this.#processes.splice(this.#processes.indexOf(process), 1);
    if (!process.alive && !this.#calm) this.#start();
  }

  /** What a process does beside answering calls. */
  async #serve({ audit }: Server): Promise<void> {
    let worker = this.#createWorker();
    const health = createSessionHealth({ ...this.#world, ...this.#world.services, log: silentLog });
    while (!this.#calm) {
      if (this.#random.chance(0.06)) {
        this.befell.stopped += 1;
        await worker.stop();
        worker = this.#createWorker();
      }
      // A look that fails is only a look: the product logs it and looks again.
      await worker.runOnce().catch((error) => this.#forgive(error));
      if (this.#random.chance(0.3)) await health.runOnce().catch((error) => this.#forgive(error));
      if (this.#random.chance(0.08)) await this.#endSomeWorkstation();
      if (this.#random.chance(0.02)) {
        const { store, keys, images, compute, clock, auditMs } = this.#world;
        const upkeep = createUpkeep({ store, keys, images, compute, clock, log: silentLog, audit, auditMs });
        await upkeep.runOnce().catch((error) => this.#forgive(error));
      }
      await turns(1 + this.#random.below(4));
    }
  }

  /** One of those that run, as if somebody had shut it down from inside. */
  async #endSomeWorkstation(): Promise<void> {
    const { records, compute } = this.#world.workstations;
    const found = await Promise.all((await records.ids()).map(async (id) => ({ id, record: await records.get(id) })));
    const running = found.filter(({ record }) => record?.power === 'on');
    if (running.length > 0 && (await compute.end(this.#random.pick(running).id))) this.befell.ended += 1;
  }

  #createWorker() {
    const { store, keys, images, compute, clock, services } = this.#world;
    const { ids, settings } = services;
    return createWorker({
      store,
      clock,
      log: silentLog,
      leaseMs: LEASE_MS,
      tombstoneMs: settings.tombstoneMs,
      random: () => this.#random.next(),
      jobs: [
        ...studioJobs({ store, keys }),
        ...studioComponentJobs({ store, keys }),
        ...launchProfileJobs({ store, keys }),
        ...streamingImageJobs({ store, images, keys, clock, importsMax: 2 }),
        ...streamingSessionJobs({ store, compute, clock, ids, settings, startsMax: 2 }),
        ...streamingSessionBackupJobs({ store, compute, clock, ids, settings }),
        ...streamingSessionStreamJobs({ store, compute, keys, clock, ids }),
      ],
    });
  }

  async #befall(process: Process, point: string): Promise<void> {
    if (this.#calm) return;
    const random = this.#random;
    const inStore = point.startsWith('store.');
    if (random.chance(0.2)) await turns(1 + random.below(3));
    const stalls = random.chance(inStore ? 0.006 : 0.03);
    if (stalls) await this.#stall();
    // Who stood still for long is likelier to find that things have gone wrong.
    const worse = stalls ? 10 : 1;
    if (random.chance(0.009)) {
      this.befell.killed += 1;
      process.kill();
    } else if (this.#calm || !process.alive) {
      return;
    } else if (inStore) {
      // Behind a call of the store it is too late to fail: what is written is written.
      if (!point.endsWith('done') && random.chance(0.004)) {
        this.#fail(new ServiceError('InternalServerErrorException', 'store'));
      }
    } else if (random.chance(0.01 * worse) && point.startsWith('images.')) {
      this.#fail(new ImageFailure('NO_SPACE', 'There is no space left'));
    } else if (random.chance(0.01 * worse) && (point === 'keys.generate' || point === 'keys.unseal')) {
      this.#fail(new KeyUnavailable('There is no such key'));
    } else if (random.chance(0.03 * worse)) {
      this.#fail(new Error(`a passing failure at ${point}`));
    }
  }

  #fail(error: Error): never {
    this.befell.failed += 1;
    this.#injected.add(error);
    throw error;
  }

  /** What was made to fail may fail. */
  #forgive(error: Error): void {
    if (!this.#injected.has(error)) throw error;
  }

  /** Stands still until its leases are over. */
  async #stall(): Promise<void> {
    this.befell.stalled += 1;
    const until = this.#world.clock.now() + 2 * LEASE_MS;
    for (let turn = 0; turn < STALL_TURNS_MAX && !this.#calm && this.#world.clock.now() < until; turn += 1)
      await turns(1);
  }
}

/** What answers calls in one process, and ends with it: who waits for whom, lines under way, and what is kept ready. */
interface Server {
  readonly audit: AuditTrail;
  answer(request: Request): Promise<unknown>;
}

function createServer({ store, keys, services }: World): Server {
  const audit = createAuditTrail(services);
  const own = { ...services, audit, turns: new Turns() };
  const [findCredential, withPolicies] = [createCredentialFinder(store, keys), createGrants(store)];
  return {
    audit,
    answer: async ({ requestId, accessKeyId, name, input }) => {
      const signer = await findCredential(accessKeyId);
      if (!signer) throw new ServiceError('UnrecognizedClientException', 'There is no such key');
      const operation = operations.find((candidate) => candidate.name === name)!;
      const origin = { requestId, remoteAddress: '127.0.0.1' };
      try {
        const principal = await withPolicies(signer);
        const answer = await perform(operation, handlers[name] as never, input as never, principal, own, origin);
        return answer === '' ? {} : JSON.parse(String(answer));
      } catch (error) {
        audit.refused({ operation, input: input as never, principal: signer, origin }, error);
        throw error;
      }
    },
  };
}
