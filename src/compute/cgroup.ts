/**
 * Puts a virtual machine into a control group of its own, so that the kernel holds it to its memory and to its number of
 * threads. It is a second wall: a machine has limits of its own, and where the server may not make groups, or the kernel has
 * none to give, it runs with those alone.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { requireFileName } from '../files.ts';

const ROOT = '/sys/fs/cgroup';
const PARENT = 'backlot-workstations';

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly processes: number;
}

type Kind = 'v2' | 'v1';

/** @returns what holds it: undefined where no group could be made. */
export async function joinGroup(id: string, pid: number, limits: GroupLimits): Promise<Kind | undefined> {
  for (const [kind, join_] of [
    ['v2', joinUnified],
    ['v1', joinSeparate],
  ] as const) {
    try {
      if (await join_(requireFileName(id), pid, limits)) return kind;
    } catch {
      // The next kind, or none.
    }
  }
  return undefined;
}

/** Takes the groups of a machine that has ended away; no error when there are none. */
export async function leaveGroup(id: string): Promise<void> {
  const places = [ROOT, join(ROOT, 'memory'), join(ROOT, 'pids')];
  for (const place of places) await rmdir(join(place, PARENT, requireFileName(id))).catch(() => undefined);
}

async function joinUnified(id: string, pid: number, { memoryBytes, processes }: GroupLimits): Promise<boolean> {
  const controllers = await readFile(join(ROOT, 'cgroup.controllers'), 'utf8').catch(() => '');
  if (!['memory', 'pids'].every((name) => controllers.split(/\s+/).includes(name))) return false;
  const parent = join(ROOT, PARENT);
  await mkdir(parent, { recursive: true });
  for (const place of [ROOT, parent]) await writeFile(join(place, 'cgroup.subtree_control'), '+memory +pids');
  const group = join(parent, id);
  await mkdir(group, { recursive: true });
  await writeFile(join(group, 'memory.max'), String(memoryBytes));
  await writeFile(join(group, 'pids.max'), String(processes));
  await writeFile(join(group, 'cgroup.procs'), String(pid));
  return true;
}

async function joinSeparate(id: string, pid: number, { memoryBytes, processes }: GroupLimits): Promise<boolean> {
  const limits = [
    ['memory', 'memory.limit_in_bytes', memoryBytes],
    ['pids', 'pids.max', processes],
  ] as const;
  if (!limits.every(([controller]) => existsSync(join(ROOT, controller, 'cgroup.procs')))) return false;
  for (const [controller, file, limit] of limits) {
    const group = join(ROOT, controller, PARENT, id);
    await mkdir(group, { recursive: true });
    await writeFile(join(group, file), String(limit));
    await writeFile(join(group, 'cgroup.procs'), String(pid));
  }
  return true;
}
