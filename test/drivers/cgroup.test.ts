/**
 * Control groups: which there are, what is written to them in which order, and that a process without one is no failure.
 * Real ones where this machine has them and the user may make groups; version 2, whose controllers may be those of version
 * 1, also in a directory that looks like it: files that can be written to, and others in their place that cannot.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { rmdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { joinGroup, leaveGroup } from '../../src/compute/cgroup.ts';
import { startOf } from '../../src/compute/detached.ts';
import { temporaryDirectory } from '../support/temporary.ts';

const ROOT = '/sys/fs/cgroup';
const PARENT = 'backlot-workstations';
/** Whole pages, as the kernel keeps it. */
const LIMITS = { memoryBytes: 2 ** 26, processes: 77 };
const ID = `test-${process.pid}`;

interface Sleeper {
  readonly pid: number;
  end(): Promise<void>;
}

/** A process that does nothing. */
function sleeper(t: TestContext): Sleeper {
  const child = spawn('sleep', ['600'], { stdio: 'ignore' });
  const exited = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  return {
    pid: child.pid!,
    end: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** What holds a process, by controller; that of version 2 has no name. */
function groupsOf(pid: number): Map<string, string> {
  const lines = readFileSync(`/proc/${pid}/cgroup`, 'latin1').trim().split('\n');
  return new Map(lines.map((line) => /^\d+:(.*?):(.*)$/.exec(line)!.slice(1) as [string, string]));
}

/** Looks like a version 2 of which the server may change all. Groups are made by whoever writes their files. */
function unifiedLookalike(t: TestContext, controllers = 'cpuset cpu io memory pids'): string {
  const root = temporaryDirectory(t);
  writeFileSync(join(root, 'cgroup.controllers'), `${controllers}\n`);
  for (const file of ['cgroup.subtree_control', 'cgroup.procs']) writeFileSync(join(root, file), '');
  return root;
}

function mayMakeGroups(place: string): boolean {
  const probe = join(place, `${ID}-probe`);
  try {
    mkdirSync(probe);
    rmdirSync(probe);
    return true;
  } catch {
    return false;
  }
}

/** Whether limits can be set below it: the first group of a container, for one, holds processes and refuses. */
function handsDown(root: string): boolean {
  try {
    writeFileSync(join(root, 'cgroup.subtree_control'), '+memory +pids');
    return true;
  } catch {
    return false;
  }
}

/** Where a real version 2 is, if it is one that groups may be made in. */
function realUnified(): string | undefined {
  const mounts = readFileSync('/proc/mounts', 'latin1').split('\n');
  const place = mounts.map((line) => line.split(' ')).find(([, , type]) => type === 'cgroup2')?.[1];
  return place !== undefined && mayMakeGroups(place) ? place : undefined;
}

/** Made by hand, with the process in it. */
function groupAround(t: TestContext, place: string, pid: number): string {
  const parent = join(place, PARENT);
  if (!existsSync(parent)) {
    mkdirSync(parent);
    t.after(() => rmdirSync(parent));
  }
  const group = join(parent, ID);
  mkdirSync(group);
  writeFileSync(join(group, 'cgroup.procs'), String(pid));
  return group;
}

/** While a process is in the groups they stay; then they go, also where somebody was already waiting for it. */
async function assertLeft(groups: readonly string[], inside: Sleeper, root: string): Promise<void> {
  const leaving = leaveGroup(ID, root);
  for (const group of groups) await assert.rejects(rmdir(group), { code: 'EBUSY' });
  assert.ok(startOf(inside.pid) !== undefined);
  await inside.end();
  await leaving;
  for (const group of groups) assert.ok(!existsSync(group), group);
  await leaveGroup(ID, root);
}

test('version 2: controllers are handed down, and a process comes into a group that has its limits', async (t) => {
  const root = unifiedLookalike(t);
  const { pid } = sleeper(t);
  assert.equal(await joinGroup(ID, pid, LIMITS, root), 'v2');
  const written = (...path: string[]) => readFileSync(join(root, ...path), 'latin1');
  assert.equal(written('cgroup.subtree_control'), '+memory +pids');
  assert.equal(written(PARENT, 'cgroup.subtree_control'), '+memory +pids');
  assert.equal(written(PARENT, ID, 'memory.max'), String(LIMITS.memoryBytes));
  assert.equal(written(PARENT, ID, 'pids.max'), String(LIMITS.processes));
  assert.equal(written(PARENT, ID, 'cgroup.procs'), String(pid));
  // Processes and controllers that are handed down cannot be in one group.
  assert.deepEqual(readdirSync(join(root, PARENT)).sort(), [ID, 'cgroup.subtree_control'].sort());
  assert.ok(!existsSync(join(root, PARENT, ID, 'cgroup.subtree_control')));
  assert.equal(written('cgroup.procs'), '');
});

test('version 2: memory is kept from the swap, where the kernel has one', async (t) => {
  const root = unifiedLookalike(t);
  const group = join(root, PARENT, ID);
  mkdirSync(group, { recursive: true });
  writeFileSync(join(group, 'memory.swap.max'), 'max');
  assert.equal(await joinGroup(ID, sleeper(t).pid, LIMITS, root), 'v2');
  assert.equal(readFileSync(join(group, 'memory.swap.max'), 'latin1')[0], '0');
  // A swap that cannot be forbidden is no reason to have no limits.
  rmSync(join(group, 'memory.swap.max'));
  mkdirSync(join(group, 'memory.swap.max'));
  assert.equal(await joinGroup(ID, sleeper(t).pid, LIMITS, root), 'v2');
});

test('version 2: a group of an id that was used before gets new limits, and those of others stay', async (t) => {
  const root = unifiedLookalike(t);
  const [one, two] = [sleeper(t), sleeper(t)];
  assert.equal(await joinGroup(ID, one.pid, LIMITS, root), 'v2');
  assert.equal(await joinGroup('other', one.pid, LIMITS, root), 'v2');
  assert.equal(await joinGroup(ID, two.pid, { memoryBytes: 2 ** 27, processes: 5 }, root), 'v2');
  const limitsOf = (id: string) =>
    ['memory.max', 'pids.max'].map((file) => Number(readFileSync(join(root, PARENT, id, file), 'latin1')));
  assert.deepEqual(limitsOf(ID), [2 ** 27, 5]);
  assert.deepEqual(limitsOf('other'), [LIMITS.memoryBytes, LIMITS.processes]);
});

test('version 2: whatever is refused, the process stays where it is, and is in no group without limits', async (t) => {
  const refusals = ['cgroup.subtree_control', PARENT, `${PARENT}/cgroup.subtree_control`, `${PARENT}/${ID}`].concat(
    ['memory.max', 'pids.max', 'cgroup.procs'].map((file) => `${PARENT}/${ID}/${file}`),
  );
  for (const refused of refusals) {
    const root = unifiedLookalike(t);
    const path = join(root, refused);
    const isGroup = path.endsWith(PARENT) || path.endsWith(ID);
    rmSync(path, { force: true });
    mkdirSync(isGroup ? join(path, '..') : path, { recursive: true });
    if (isGroup) writeFileSync(path, '');
    const { pid } = sleeper(t);
    assert.equal(await joinGroup(ID, pid, LIMITS, root), undefined, refused);
    assert.ok(startOf(pid) !== undefined);
    const procs = join(root, PARENT, ID, 'cgroup.procs');
    assert.ok(path === procs || !existsSync(procs), refused);
    if (refused === 'cgroup.subtree_control') assert.ok(!existsSync(join(root, PARENT)), 'nothing is left of it');
    await leaveGroup(ID, root);
  }
});

test('version 2 without the controllers is none, and nothing is made in it', async (t) => {
  for (const controllers of ['', 'cpuset cpu io pids', 'cpuset memory', 'hugetlb memory_recursiveprot mypids']) {
    const root = unifiedLookalike(t, controllers);
    const before = readdirSync(root);
    assert.equal(await joinGroup(ID, sleeper(t).pid, LIMITS, root), undefined);
    assert.deepEqual(readdirSync(root), before);
  }
});

test('version 2, for real: a group holds a process until it has ended', async (t) => {
  const root = realUnified();
  if (root === undefined) return t.diagnostic('there is none here that groups may be made in');
  const inside = sleeper(t);
  const before = groupsOf(inside.pid);
  if (handsDown(root)) {
    assert.equal(await joinGroup(ID, inside.pid, LIMITS, root), 'v2');
    const limit = (file: string) => Number(readFileSync(join(root, PARENT, ID, file), 'latin1'));
    assert.deepEqual([limit('memory.max'), limit('pids.max')], [LIMITS.memoryBytes, LIMITS.processes]);
    if (existsSync(join(root, PARENT, ID, 'memory.swap.max'))) assert.equal(limit('memory.swap.max'), 0);
  } else {
    assert.equal(await joinGroup(ID, inside.pid, LIMITS, root), undefined);
    assert.deepEqual(groupsOf(inside.pid), before);
    groupAround(t, root, inside.pid);
  }
  assert.match(groupsOf(inside.pid).get('')!, new RegExp(`/${PARENT}/${ID}$`));
  await assertLeft([join(root, PARENT, ID)], inside, root);
});

test('version 1, for real: a group of each controller holds a process until it has ended', async (t) => {
  const places = ['memory', 'pids'].map((controller) => join(ROOT, controller));
  if (!places.every((place) => existsSync(join(place, 'cgroup.procs')) && mayMakeGroups(place))) {
    return t.diagnostic('there is none here that groups may be made in');
  }
  const inside = sleeper(t);
  assert.equal(await joinGroup(ID, inside.pid, LIMITS), 'v1');
  for (const controller of ['memory', 'pids']) {
    assert.match(groupsOf(inside.pid).get(controller)!, new RegExp(`/${PARENT}/${ID}$`));
  }
  const groups = places.map((place) => join(place, PARENT, ID));
  assert.equal(Number(readFileSync(join(groups[0]!, 'memory.limit_in_bytes'), 'latin1')), LIMITS.memoryBytes);
  assert.equal(Number(readFileSync(join(groups[1]!, 'pids.max'), 'latin1')), LIMITS.processes);
  const swappiness = join(groups[0]!, 'memory.swappiness');
  if (existsSync(swappiness)) assert.equal(Number(readFileSync(swappiness, 'latin1')), 0);
  await assertLeft(groups, inside, ROOT);
});

test('a process that has ended meanwhile is no failure, and leaves no group', async (t) => {
  const gone = sleeper(t);
  await gone.end();
  // By whatever this machine has.
  assert.equal(await joinGroup(ID, gone.pid, LIMITS), undefined);
  await leaveGroup(ID);
  for (const place of ['.', 'memory', 'pids']) assert.ok(!existsSync(join(ROOT, place, PARENT, ID)), place);
});

test('where there are no groups, or no more than one of both, there is none', async (t) => {
  const root = temporaryDirectory(t);
  const { pid } = sleeper(t);
  assert.equal(await joinGroup(ID, pid, LIMITS, join(root, 'nowhere')), undefined);
  assert.equal(await joinGroup(ID, pid, LIMITS, root), undefined);
  mkdirSync(join(root, 'memory'));
  writeFileSync(join(root, 'memory', 'cgroup.procs'), '');
  assert.equal(await joinGroup(ID, pid, LIMITS, root), undefined);
  assert.deepEqual(readdirSync(root, { recursive: true }).sort(), ['memory', 'memory/cgroup.procs']);
  for (const place of ['nowhere', '.']) await leaveGroup(ID, join(root, place));
});

test('an id that is no name of a file is not made a path of', async (t) => {
  const root = unifiedLookalike(t);
  assert.equal(await joinGroup('../outside', sleeper(t).pid, LIMITS, root), undefined);
  await assert.rejects(leaveGroup('../outside', root), /an id must be/);
  assert.ok(!readdirSync(root, { recursive: true }).some((path) => String(path).includes('outside')));
});
