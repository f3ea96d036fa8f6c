/**
 * A server with sandboxed workstations in a process of its own: for tests that kill it, and for those in which it is an
 * ordinary user. It is told what to do by one argument of JSON, and says `done` when it has.
 */

import { ManualClock } from '../support/domain.ts';
import { sandboxBench } from '../support/sandbox.ts';
import { workstationRequest } from '../support/workstation.ts';

export interface SandboxTask {
  /** The bench's; one of its own, which goes with it, where absent. */
  readonly parent?: string;
  /** Whom to become first. */
  readonly user?: number;
  /** Starts `one` and lives on, or goes through the life of a workstation. */
  readonly what: 'start' | 'life';
  readonly script: string;
}

const { parent, user, what, script } = JSON.parse(process.argv[2]!) as SandboxTask;
if (user !== undefined) {
  process.setgroups!([]);
  process.setgid!(user);
  process.setuid!(user);
}

const cleanings: (() => void | Promise<void>)[] = [];
const bench = await sandboxBench({ after: (clean) => void cleanings.push(clean) }, new ManualClock(), parent);
const compute = await bench.open();
let fence = 0;
const change = () => {
  fence += 1;
  return { id: 'one', fence, signal: new AbortController().signal };
};
const scripts = [{ name: 'script', text: script, runAs: 'user', parameters: {} }] as const;

await compute.ensure(workstationRequest({ ...change(), scripts }));
if (what === 'life') {
  await compute.open('one', change().signal);
  await compute.stop({ ...change(), volume: 'keep' });
  await compute.backUp({ ...change(), backupId: 'a' });
  await compute.stop({ ...change(), volume: 'delete' });
  await compute.ensure(
    workstationRequest({ ...change(), fromBackupId: 'a', scripts: [{ ...scripts[0], text: 'test -e note' }] }),
  );
  await compute.destroy(change());
  for (const clean of cleanings) await clean();
}
process.stdout.write('done\n');
if (what === 'start') setInterval(() => undefined, 60_000);
