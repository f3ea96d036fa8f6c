/**
 * Workstations that exist only as records: for trying the API without machines, and for tests. It starts, stops, backs up
 * and destroys by the rules of the port, takes as long as it is told to, fails where it is told to, and finds its
 * workstations again after a restart. It has a desktop only where one is put in.
 */
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import type { StreamingSessionFailure } from '../contract/streaming-session.ts';
import { createChanges, overtaken } from './changes.ts';
import { type Compute, ComputeFailure, volumeGone, type Workstation, type WorkstationRequest } from './compute.ts';
import type { EngineCopies } from './copies.ts';
import type { Records } from './records.ts';

export interface SimulatedWorkstation {
  readonly fence: number;
  readonly power: 'on' | 'starting' | 'off';
  /** When `power` last changed. */
  readonly changedAt: number;
  /** Null where there is none. */
  readonly volume: Volume | null;
  readonly backups: Readonly<Record<string, Volume>>;
}

/** What a volume holds: the image that it was made from, and what this many runs have made of it. */
interface Volume {
  readonly imageId: string;
  readonly runs: number;
}

/** A record is all that there is of a workstation, so that one which runs goes on in a copy of the installation. */
export const simulatedCopies: EngineCopies<SimulatedWorkstation> = {
  directory: '',
  names: [],
  filesOf: () => ({ backups: [], volume: null }),
  recordForCopy: (record) => ({ ...record, fence: 0 }),
};

/** How a workstation takes its time to start; resolves when it has started. */
export type Boot = (start: {
  readonly id: string;
  /** When it was first told to: a restart of the server does not begin anew. */
  readonly since: number;
  readonly signal: AbortSignal;
  readonly onProgress: (percent: number) => void;
}) => Promise<void>;

export interface SimulatedComputeOptions {
  readonly records: Records<SimulatedWorkstation>;
  readonly clock: Clock;
  readonly boot: Boot;
  /** How every start ends, where it shall not end well. */
  readonly failure?: StreamingSessionFailure;
  /** What answers to a viewer. */
  readonly desktop?: (id: string) => Duplex;
  /** Called before and after each effect with its name and the id it is for; throws to make it fail. */
  readonly fault?: (effect: string, id: string) => void | Promise<void>;
}

const PROGRESS_EVERY_MS = 1_000;

/** Starts that take this long. */
export function bootAfter(durationMs: number, clock: Clock): Boot {
  return async ({ since, signal, onProgress }) => {
    for (let left = since + durationMs - clock.now(); left > 0; left = since + durationMs - clock.now()) {
      onProgress(Math.floor((100 * (durationMs - left)) / durationMs));
      await delay(Math.min(left, PROGRESS_EVERY_MS), undefined, { signal });
    }
  };
}

const NEVER_ABORTED = new AbortController().signal;

const ABSENT = { power: 'off', changedAt: 0, volume: null, backups: {} } as const;

export interface SimulatedCompute extends Compute {
  /** The workstation ends by itself, as by a crash or when it is shut down from inside. @returns whether it ran. */
  end(id: string): Promise<boolean>;
}

export function createSimulatedCompute(options: SimulatedComputeOptions): SimulatedCompute {
  const { records, clock, boot, failure, desktop, fault = () => undefined } = options;
  const change = createChanges<SimulatedWorkstation>({ records, clock, absent: ABSENT });

  return {
    ensure: async (request) => {
      const { id, signal, onProgress } = request;
      await fault('ensure', id);
      signal.throwIfAborted();
      const record = await change(request, (found) => (isUp(found) ? {} : started(found, request)));
      if (record!.power === 'starting') {
        await boot({ id, since: record!.changedAt, signal, onProgress });
        await fault('booted', id);
        if (failure) throw new ComputeFailure(failure, `Simulated: ${failure}`);
        await change(request, (found) => {
          if (!isUp(found)) throw overtaken();
          return { power: 'on' };
        });
      }
      await fault('ensured', id);
    },

    stop: async (request) => {
      await fault('stop', request.id);
      const deletes = request.volume === 'delete';
      await change(request, (found) => found && { power: 'off', volume: deletes ? null : found.volume });
      await fault('stopped', request.id);
    },

    backUp: async (request) => {
      const { id, backupId } = request;
      await fault('backUp', id);
      await change(request, (found) => {
        if (found && Object.hasOwn(found.backups, backupId)) return undefined;
        if (found?.power !== 'off' || found.volume === null) {
          throw new ComputeFailure('INTERNAL_ERROR', 'There is no stopped volume to back up');
        }
        return { backups: { ...found.backups, [backupId]: found.volume } };
      });
      await fault('backedUp', id);
    },

    destroy: async (request) => {
      await fault('destroy', request.id);
      await change(request, (found) => {
        if (!found) return undefined;
        if (!('backupId' in request)) return 'destroy';
        const { [request.backupId]: _destroyed, ...backups } = found.backups;
        return { backups };
      });
      await fault('destroyed', request.id);
    },

    open: async (id, signal) => {
      await fault('open', id);
      signal.throwIfAborted();
      if ((await records.get(id))?.power !== 'on') {
        throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'The workstation does not run');
      }
      return {
        connect: async () => {
          if (!desktop) throw new ComputeFailure('NETWORK_CONNECTION_ERROR', 'A simulated workstation has no desktop');
          return desktop(id);
        },
      };
    },

    end: async (id) => {
      let ended = false;
      await change({ id, signal: NEVER_ABORTED }, (found) => {
        ended = found?.power === 'on';
        return ended ? { power: 'off' } : undefined;
      });
      return ended;
    },

    list: async () => {
      await fault('list', '');
      const found = await Promise.all((await records.ids()).map(async (id) => ({ id, record: await records.get(id) })));
      return found.flatMap(({ id, record }) => (record ? [shown(id, record)] : []));
    },
  };
}

function isUp(found: SimulatedWorkstation | undefined): boolean {
  return found !== undefined && found.power !== 'off';
}

/** A start from what there is: the backup that is named, else the volume, else the image. */
function started(
  found: SimulatedWorkstation | undefined,
  { imageId, fromBackupId, needsVolume }: WorkstationRequest,
): Partial<SimulatedWorkstation> {
  const before = fromBackupId === undefined ? found?.volume : requireBackup(found, fromBackupId);
  if (!before && needsVolume) throw volumeGone();
  const { imageId: madeFrom, runs } = before ?? { imageId, runs: 0 };
  return { power: 'starting', volume: { imageId: madeFrom, runs: runs + 1 } };
}

function requireBackup(found: SimulatedWorkstation | undefined, backupId: string): Volume {
  if (found && Object.hasOwn(found.backups, backupId)) return found.backups[backupId]!;
  throw new ComputeFailure('INTERNAL_ERROR', `There is no backup ${backupId}`);
}

function shown(id: string, { power, volume, backups, changedAt }: SimulatedWorkstation): Workstation {
  return { id, running: power !== 'off', hasVolume: volume !== null, backupIds: Object.keys(backups), changedAt };
}
