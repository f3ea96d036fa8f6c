/**
 * What making a volume adds to the start of a workstation on QEMU: the time from the call until the machine has its disks,
 * of a new workstation, whose key and volume are made meanwhile, against the same workstation's next start, which finds both.
 */
import type { QemuWorkstation } from '../../src/compute/qemu.ts';
import type { Records } from '../../src/compute/records.ts';
import { keepGuests, QemuBench, TINY } from '../support/qemu-bench.ts';
import type { Owner } from '../support/temporary.ts';
import { workstationRequest } from '../support/workstation.ts';
import { median } from './load.ts';

export interface VolumeCosts {
  /** Medians, from the call until the disks were attached and that was on the disk. */
  readonly newMs: number;
  readonly againMs: number;
  /** The median of the rounds' ratios. */
  readonly ratio: number;
}

const NEVER = new AbortController().signal;

/** Knows when the driver has written down a machine: it has its disks then, and does not run yet. */
class WatchedBench extends QemuBench {
  #attachedAt = 0;

  override async records(): Promise<Records<QemuWorkstation>> {
    const records = await super.records();
    return {
      ...records,
      put: async (id, record) => {
        await records.put(id, record);
        if (record?.power === 'starting' && record.machine) this.#attachedAt = performance.now();
      },
    };
  }

  /** Until the disks were attached, of a start that is waited for. In ms. */
  async time(start: () => Promise<void>): Promise<number> {
    const calledAt = performance.now();
    await start();
    return this.#attachedAt - calledAt;
  }
}

export async function measureVolumes(rounds: number): Promise<VolumeCosts> {
  await using cleanings = new AsyncDisposableStack();
  const owner: Owner = { after: (clean) => cleanings.defer(clean) };
  keepGuests(owner);
  const bench = new WatchedBench(owner);
  const compute = await bench.open();
  let fence = 0;
  const change = () => {
    fence += 1;
    return { id: 'bench', fence, signal: NEVER };
  };
  const start = () => bench.time(() => compute.ensure(workstationRequest({ ...change(), instanceType: TINY })));
  const fresh: number[] = [];
  const again: number[] = [];
  // One before them warms everything up.
  for (let round = 0; round <= rounds; round += 1) {
    fresh.push(await start());
    await compute.stop({ ...change(), volume: 'keep' });
    again.push(await start());
    await compute.destroy(change());
  }
  const [newMs, againMs] = [fresh.slice(1), again.slice(1)];
  return {
    newMs: median(newMs),
    againMs: median(againMs),
    ratio: median(newMs.map((ms, index) => ms / againMs[index]!)),
  };
}
