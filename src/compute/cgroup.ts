/**
 * Puts a workstation into a control group of its own, so that the kernel holds it to its memory and to its number of threads,
 * and keeps most of its memory, in which the keys of its disks are, from the swap (version 1 only tries to). It is a second
 * wall: a workstation has limits of its own, and where the server may not make groups, or the kernel has none to give, it
 * runs with those alone.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isSystemError, requireFileName } from '../files.ts';

const ROOT = '/sys/fs/cgroup';
const PARENT = 'backlot-workstations';
/** For the kernel to take what has ended out of its group. */
const EMPTY_MS_MAX = 2_000;
const LOOK_AGAIN_MS = 20;

export interface GroupLimits {
  readonly memoryBytes: number;
  readonly processes: number;
}

type Kind = 'v2' | 'v1';

/** @returns what holds it: undefined where no group could be made. */
export async function joinGroup(id: string, pid: number, limits: GroupLimits, root = ROOT): Promise<Kind | undefined> {
  for (const [kind, join_] of [
    ['v2', joinUnified],
    ['v1', joinSeparate],
  ] as const) {
    try {
      if (await join_(root, requireFileName(id), pid, limits)) return kind;
    } catch {
      // The next kind, or none.
    }
  }
  return undefined;
}

/** Takes the groups of a machine that has ended away; no error when there are none. */
export async function leaveGroup(id: string, root = ROOT): Promise<void> {
  const places = [root, join(root, 'memory'), join(root, 'pids')];
  for (const place of places) await remove(join(place, PARENT, requireFileName(id)));
}

/** A process that has ended may count to its group for a moment still. Nobody comes to remove what is left then. */
async function remove(group: string): Promise<void> {
  const endsAt = performance.now() + EMPTY_MS_MAX;
  for (;;) {
    const error = await rmdir(group).catch((refused: unknown) => refused);
    if (!isSystemError(error, 'EBUSY') || performance.now() > endsAt) return;
    await delay(LOOK_AGAIN_MS);
  }
}

async function joinUnified(
  root: string,
  id: string,
  pid: number,
  { memoryBytes, processes }: GroupLimits,
): Promise<boolean> {
  const controllers = await readFile(join(root, 'cgroup.controllers'), 'utf8').catch(() => '');
  if (!['memory', 'pids'].every((name) => controllers.split(/\s+/).includes(name))) return false;
  const parent = join(root, PARENT);
  await handDown(root);
  await mkdir(parent, { recursive: true });
  await handDown(parent);
  const group = join(parent, id);
  await mkdir(group, { recursive: true });
  await writeFile(join(group, 'memory.max'), String(memoryBytes));
  await offer(join(group, 'memory.swap.max'), '0');
  await writeFile(join(group, 'pids.max'), String(processes));
  await writeFile(join(group, 'cgroup.procs'), String(pid));
  return true;
}

/** Lets the group's children have limits. Refused where it holds processes itself, as the first one of a container does. */
async function handDown(group: string): Promise<void> {
  await writeFile(join(group, 'cgroup.subtree_control'), '+memory +pids');
}

/** For what is better with it and works without: kernels that do not count swap have no such file. */
async function offer(path: string, text: string): Promise<void> {
  await writeFile(path, text, { flag: 'r+' }).catch(() => undefined);
}

async function joinSeparate(
  root: string,
  id: string,
  pid: number,
  { memoryBytes, processes }: GroupLimits,
): Promise<boolean> {
  const limits = [
    ['memory', 'memory.limit_in_bytes', memoryBytes],
    ['pids', 'pids.max', processes],
  ] as const;
  if (!limits.every(([controller]) => existsSync(join(root, controller, 'cgroup.procs')))) return false;
  const groupOf = (controller: string) => join(root, controller, PARENT, id);
  for (const [controller, file, limit] of limits) {
    await mkdir(groupOf(controller), { recursive: true });
    await writeFile(join(groupOf(controller), file), String(limit));
  }
  await offer(join(groupOf('memory'), 'memory.swappiness'), '0');
  for (const [controller] of limits) await writeFile(join(groupOf(controller), 'cgroup.procs'), String(pid));
  return true;
}
