/** Ends workstations, which outlive whoever started them, for tests that leave nothing behind. */
import { basename, dirname } from 'node:path';
import { leaveGroup } from '../../src/compute/cgroup.ts';
import { isAlive, kill, processesIn } from '../../src/compute/detached.ts';
import { groupOf } from '../../src/compute/qemu-machine.ts';
import { killMarked } from '../../src/compute/sandbox-process.ts';
import { until } from './until.ts';

const ENDED_WITHIN_MS = 120_000;

/** Ends what runs in these places, each the `run` of a session's directory, with its control group. */
export async function endMachines(runPlaces: readonly string[]): Promise<void> {
  const running = runPlaces.flatMap((place) =>
    processesIn(place).map((mark) => ({ mark, group: groupOf(basename(dirname(place)), mark) })),
  );
  for (const { mark } of running) kill(mark);
  await until('every machine has ended', () => !running.some(({ mark }) => isAlive(mark)), ENDED_WITHIN_MS);
  for (const { group } of running) await leaveGroup(group);
}

/** Ends a sandbox, with its control group. @param mark of the record; there may be none that runs. */
export async function endSandbox(id: string, mark: string): Promise<void> {
  await killMarked(mark);
  await leaveGroup(id);
}
