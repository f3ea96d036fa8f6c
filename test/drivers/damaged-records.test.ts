/** Records that cannot be read: the engine starts, has all other workstations, and nothing happens to this one. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import type { Compute, Workstation } from '../../src/compute/compute.ts';
import { openQemuCompute, type QemuWorkstation } from '../../src/compute/qemu.ts';
import { openRecords } from '../../src/compute/records.ts';
import { openSandboxCompute, type SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { newMark } from '../../src/compute/sandbox-names.ts';
import { ManualClock } from '../support/domain.ts';
import { SimulatedKeys } from '../support/simulated.ts';
import { type Owner, temporaryDirectory } from '../support/temporary.ts';
import { workstationRequest } from '../support/workstation.ts';

const NEVER = new AbortController().signal;
const HOME = 'damaged.0123456789abcdef';
const HOUR_MS = 60 * 60_000;

/** No record, each in its own way. */
const GARBAGE = ['', '{"power":"on","ba', 'null', '["damaged"]'];

function place(t: Owner) {
  const directory = temporaryDirectory(t);
  const clock = new ManualClock();
  const errors: object[] = [];
  const note = () => undefined;
  const error = (fields: object) => void errors.push(fields);
  const log = { debug: note, info: note, warn: note, error, isLevelEnabled: () => true } as never;
  const file = join(directory, 'damaged.json');
  return { directory, file, errors, parts: { directory, clock, log, keys: new SimulatedKeys() } };
}

type Place = ReturnType<typeof place>;

const SIZES = { instanceTypes: { 'g4dn.xlarge': { vcpus: 1, memoryMib: 32 } }, memoryMib: 4_096 };
const LIMITS = { bootMs: 1_000, stopMs: 1_000 };
const images = { open: async () => undefined };

/** A workstation that is stopped, so that no machine is needed for it. */
const OFF = { fence: 1, power: 'off', changedAt: 1, backups: {} } as const;

async function withQemu({ directory, parts }: Place): Promise<Compute> {
  const records = await openRecords<QemuWorkstation>(directory, parts.clock);
  await records.put('whole', { ...OFF, machine: null, volume: null } as QemuWorkstation);
  const settings = { ...SIZES, ...LIMITS, accelerator: 'tcg', network: 'none' } as const;
  return openQemuCompute({ ...parts, records, images, settings });
}

async function withSandboxes({ directory, parts }: Place): Promise<Compute> {
  const records = await openRecords<SandboxedWorkstation>(directory, parts.clock);
  const mark = newMark();
  await records.put('whole', { ...OFF, imageId: 'image', memoryMib: 1, mark, home: null, restore: null });
  return openSandboxCompute({ ...parts, records, images, settings: { ...SIZES, ...LIMITS } });
}

/** It is listed as what may not be touched, and every change of it is refused with the name of the file. */
async function assertLeftAlone(compute: Compute, { file, errors, parts }: Place, text: string): Promise<void> {
  const changedAt = parts.clock.now();
  const damaged: Workstation = { id: 'damaged', running: true, hasVolume: true, backupIds: [], changedAt };
  const found = await compute.list();
  assert.deepEqual(
    found.sort((a, b) => (a.id < b.id ? -1 : 1)),
    [damaged, { id: 'whole', running: false, hasVolume: false, backupIds: [], changedAt: 1 }],
  );
  const change = { id: 'damaged', fence: 9, signal: NEVER };
  for (const work of [
    () => compute.ensure(workstationRequest(change)),
    () => compute.stop({ ...change, volume: 'delete' }),
    () => compute.backUp({ ...change, backupId: 'b1' }),
    () => compute.destroy(change),
    () => compute.open('damaged', NEVER),
  ]) {
    await assert.rejects(work, (error) => {
      const { message, inward } = error as Error & { inward?: string };
      return `${message} ${inward}`.includes(`${file} is damaged`);
    });
  }
  assert.equal(readFileSync(file, 'utf8'), text);
  assert.deepEqual(
    errors.map((fields) => (fields as { id?: string }).id),
    ['damaged'],
  );
}

for (const [name, open] of [
  ['QEMU', withQemu],
  ['sandboxes', withSandboxes],
] as const) {
  test(`${name}: a damaged record is told of once, and its workstation left alone`, async (t) => {
    for (const text of GARBAGE) {
      const there = place(t);
      writeFileSync(there.file, text);
      await assertLeftAlone(await open(there), there, text);
    }
  });
}

test('sandboxes: no home is removed while a record that may name it cannot be read', async (t) => {
  const there = place(t);
  writeFileSync(there.file, '{');
  const compute = await withSandboxes(there);
  const home = join(there.directory, 'homes', HOME);
  mkdirSync(home);
  const { clock } = there.parts;
  clock.advance(systemClock.now() - clock.now() + 2 * HOUR_MS);
  // Each looks for what is left over before it ends.
  const destroy = async () => {
    await withSandboxes(there);
    await compute.destroy({ id: 'whole', fence: 9, signal: NEVER });
  };
  await destroy();
  assert.equal(existsSync(home), true);
  rmSync(there.file);
  await destroy();
  assert.equal(existsSync(home), false);
});
