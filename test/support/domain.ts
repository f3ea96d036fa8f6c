/** The domain on a real database in memory, with a clock and ids that a test controls. */
import { createHash } from 'node:crypto';
import type { Clock } from '../../src/clock.ts';
import type { Compute } from '../../src/compute/compute.ts';
import type { OperationName } from '../../src/contract/index.ts';
import { operations } from '../../src/contract/index.ts';
import { type AuditTrail, createAuditTrail } from '../../src/domain/audit.ts';
import type { DomainSettings, Principal, Services } from '../../src/domain/context.ts';
import { handlers } from '../../src/domain/index.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import type { MachineImage } from '../../src/domain/machine-image.ts';
import { perform } from '../../src/domain/perform.ts';
import { Turns } from '../../src/domain/turns.ts';
import { createIds } from '../../src/ids.ts';
import type { Log } from '../../src/log.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Store } from '../../src/store/store.ts';
import { launchProfileJobs } from '../../src/worker/launch-profile.ts';
import { streamingImageJobs } from '../../src/worker/streaming-image.ts';
import { streamingSessionJobs } from '../../src/worker/streaming-session.ts';
import { streamingSessionBackupJobs } from '../../src/worker/streaming-session-backup.ts';
import { streamingSessionStreamJobs } from '../../src/worker/streaming-session-stream.ts';
import { studioJobs } from '../../src/worker/studio.ts';
import { studioComponentJobs } from '../../src/worker/studio-component.ts';
import { createWorker } from '../../src/worker/worker.ts';
import { SimulatedImages, SimulatedKeys, SimulatedWorkstations } from './simulated.ts';

/** A clock that stands until it is moved. */
export class ManualClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  now(): number {
    return this.#now;
  }
  advance(ms: number): void {
    this.#now += ms;
  }
}

/** Pseudo-random bytes from a seed: the same run gives the same ids. */
export function seededRandom(seed: string): (bytes: number) => Buffer {
  let counter = 0;
  return (bytes) => {
    const blocks: Buffer[] = [];
    for (let length = 0; length < bytes; length += 32) {
      counter += 1;
      blocks.push(createHash('sha256').update(`${seed}/${counter}`).digest());
    }
    return Buffer.concat(blocks).subarray(0, bytes);
  };
}

export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  isLevelEnabled: () => false,
};

export const ADMINISTRATOR: Principal = { accessKeyId: 'AKIATEST', principalId: 'AIDATEST', role: 'administrator' };

export const SETTINGS: DomainSettings = {
  region: 'us-west-2',
  accountId: '123456789012',
  publicUrl: () => 'http://127.0.0.1:8642',
  tombstoneMs: 24 * 3_600_000,
  tokenMs: 24 * 3_600_000,
  streamingImagesMax: 10,
  studioComponentsMax: 500,
  sharedFileSystemsMax: 10,
  launchProfilesMax: 50,
  streamingSessionsMax: 500,
  g5SessionsMax: 500,
  sessionsPerOwnerMax: undefined,
};

export interface World {
  readonly store: Store;
  readonly clock: ManualClock;
  readonly keys: SimulatedKeys;
  readonly images: SimulatedImages;
  readonly workstations: SimulatedWorkstations;
  readonly compute: Compute;
  readonly services: Services;
  readonly audit: AuditTrail;
  /** How long upkeep keeps a line of the audit. */
  readonly auditMs: number;
  /** Calls an operation as the wire would, and parses the answer. */
  call<T = Record<string, never>>(name: OperationName, input: object): Promise<T>;
  /** Carries out everything that is due now. */
  settle(): Promise<void>;
  worker(): ReturnType<typeof createWorker>;
  addMachineImage(ec2ImageId: string, more?: Partial<MachineImage>): Promise<void>;
  /** A READY studio. */
  makeStudio(input?: object): Promise<string>;
}

export function createWorld(options: { seed?: string; settings?: Partial<DomainSettings>; store?: Store } = {}): World {
  const clock = new ManualClock();
  const store = options.store ?? openSqlite({ path: ':memory:', now: () => clock.now() });
  const keys = new SimulatedKeys();
  const images = new SimulatedImages();
  images.now = () => clock.now();
  const workstations = new SimulatedWorkstations(clock);
  const { compute } = workstations;
  const settings = { ...SETTINGS, ...options.settings };
  const ids = createIds(seededRandom(options.seed ?? 'world'));
  const audit = createAuditTrail({ store, clock, ids, settings });
  const services: Services = {
    store,
    clock,
    ids,
    keys,
    settings,
    audit,
    turns: new Turns(),
    wake: () => undefined,
  };
  let studios = 0;
  const world: World = {
    store,
    clock,
    keys,
    images,
    workstations,
    compute,
    services,
    audit,
    auditMs: 90 * 24 * 3_600_000,
    call: async <T>(name: OperationName, input: object) => {
      const operation = operations.find((candidate) => candidate.name === name)!;
      const answer = await perform(operation, handlers[name] as never, input as never, ADMINISTRATOR, services);
      return (answer === '' ? {} : JSON.parse(String(answer))) as T;
    },
    worker: () =>
      createWorker({
        store,
        clock,
        log: silentLog,
        leaseMs: 15_000,
        tombstoneMs: settings.tombstoneMs,
        jobs: [
          ...studioJobs({ store, keys }),
          ...studioComponentJobs({ store, keys }),
          ...streamingImageJobs({ store, images, keys, clock, importsMax: 2 }),
          ...launchProfileJobs({ store, keys }),
          ...streamingSessionJobs({ store, compute, clock, ids, settings, startsMax: 2 }),
          ...streamingSessionBackupJobs({ store, compute, clock, ids, settings }),
          ...streamingSessionStreamJobs({ store, compute, keys, clock, ids }),
        ],
      }),
    settle: async () => {
      const worker = world.worker();
      while ((await worker.runOnce()) > 0);
    },
    addMachineImage: async (ec2ImageId, more = {}) => {
      const sha256 = createHash('sha256').update(ec2ImageId).digest('hex');
      images.sources.set(ec2ImageId, sha256);
      const machineImage: MachineImage = {
        ec2ImageId,
        name: 'disk',
        platform: 'LINUX',
        format: 'raw',
        sizeBytes: 1024,
        virtualSizeBytes: 1024,
        sha256,
        eulaIds: [],
        createdAt: '2026-01-01T00:00:00Z',
        ...more,
      };
      const doc = JSON.stringify(machineImage);
      await store.write([
        { op: 'insert', row: newRow({ kind: KIND.machineImage, id: ec2ImageId, createdAt: clock.now(), doc }) },
      ]);
    },
    makeStudio: async (input = {}) => {
      studios += 1;
      const { studio } = await world.call<{ studio: { studioId: string } }>('CreateStudio', {
        adminRoleArn: 'arn:aws:iam::123456789012:role/admin',
        userRoleArn: 'arn:aws:iam::123456789012:role/user',
        displayName: 'Studio',
        studioName: `studio${studios}`,
        ...input,
      });
      await world.settle();
      return studio.studioId;
    },
  };
  return world;
}
