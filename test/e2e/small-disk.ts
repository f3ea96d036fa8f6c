/** A server whose data directory is a disk of its own, a real file system in memory, which a test can fill to the brim. */
import { mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Home } from './clients.ts';
import { MEBIBYTE } from './disks.ts';
import { type Environment, Installation, type RunningServer, type Scope } from './installation.ts';

export interface SmallDisk extends Home {
  readonly installation: Installation;
  readonly server: RunningServer;
  /** What a command is run by to see the disk as the server does. */
  readonly inside: readonly string[];
  /** The data directory as it is seen from outside. */
  readonly place: string;
  /** Another program takes all of the disk that is left, or leaves so much of it. */
  fill(leftMebibytes?: number): void;
  /** Gives it back. */
  makeRoom(): void;
}

/** The disk is mounted for the server alone, and is gone with it. Being root is not asked for. */
export async function startOnSmallDisk(scope: Scope, mebibytes: number, environment: Environment): Promise<SmallDisk> {
  const installation = new Installation(scope, environment);
  const isRoot = process.getuid!() === 0;
  const asRoot = isRoot ? [] : ['--map-root-user'];
  const mount = `mount -t tmpfs -o size=${mebibytes}m,mode=0700 tmpfs "$1" && shift && exec "$@"`;
  const wrapper = ['unshare', ...asRoot, '--mount', 'sh', '-c', mount, 'sh', installation.dataDir];
  mkdirSync(installation.dataDir);
  const server = await installation.start({ wrapper });
  const asUser = isRoot ? [] : ['--user', '--preserve-credentials'];
  const place = `/proc/${server.pid}/root${installation.dataDir}`;
  const filler = join(place, 'filler');
  return {
    installation,
    server,
    inside: ['nsenter', ...asUser, '--mount', '--target', String(server.pid), '--'],
    place,
    credentials: join(place, 'credentials'),
    run: (command, options) => installation.run(command, options),
    fill: (leftMebibytes = 0) => {
      try {
        writeFileSync(filler, Buffer.alloc((mebibytes + 1) * MEBIBYTE));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        truncateSync(filler, Math.max(0, statSync(filler).size - leftMebibytes * MEBIBYTE));
        return;
      }
      throw new Error('the disk holds more than it should');
    },
    makeRoom: () => rmSync(filler),
  };
}
