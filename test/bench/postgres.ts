/**
 * Two Backlot servers on one PostgreSQL cluster of the bench's own, which is synced to disk as in earnest. Where the
 * machine has a core for each of them they have one; otherwise all share the first, beside the load's own.
 */
import { mkdirSync, symlinkSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { openPostgres } from '../../src/store/postgres.ts';
import { startCluster } from '../support/postgres.ts';
import { type BacklotServer, makeStudio, type Studio, startBacklot } from './servers.ts';

const HAS_CORES = cpus().length >= 4;
/** The first server has core 0, and the load core 1. */
const DATABASE_CORE = HAS_CORES ? '2' : '0';
const SECOND_CORE = HAS_CORES ? '3' : '0';

export const WHERE = HAS_CORES
  ? 'each server and the database have a core of their own'
  : 'both servers and the database share one core, so that a second server costs more than it can bring';

export interface PostgresPair {
  /** The same studio, as each server has it. */
  readonly studios: readonly [Studio, Studio];
  readonly servers: readonly [BacklotServer, BacklotServer];
  /** When the servers have ended. */
  end(): Promise<void>;
}

export async function startPostgresPair(directory: string, imageCount: number): Promise<PostgresPair> {
  const closers: (() => void | Promise<void>)[] = [];
  const runBy = ['taskset', '-c', DATABASE_CORE];
  const cluster = await startCluster({ after: (close) => closers.push(close) }, { fsync: true, runBy });
  const databaseUrl = await cluster.createDatabase();
  const openStore = () => openPostgres({ url: databaseUrl, now: () => 0, connectionsMax: 1 });
  const dataDirs = [join(directory, 'postgres-one'), join(directory, 'postgres-two')] as const;
  for (const dataDir of dataDirs) mkdirSync(dataDir, { mode: 0o700 });
  const first = await startBacklot({ dataDir: dataDirs[0], port: 18_648, databaseUrl, openStore });
  for (const name of ['keys', 'images']) symlinkSync(join(dataDirs[0], name), join(dataDirs[1], name));
  const second = await startBacklot({
    dataDir: dataDirs[1],
    port: 18_649,
    databaseUrl,
    openStore,
    core: SECOND_CORE,
    credentialsIn: dataDirs[0],
  });
  const studio = await makeStudio(first, imageCount);
  return {
    studios: [studio, { ...studio, server: second }],
    servers: [first, second],
    end: async () => {
      for (const close of closers) await close();
    },
  };
}
