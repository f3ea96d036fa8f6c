/** Sizes of instance types on one host: the vendor's, cut to what there is; those of settings, as they stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ComputeFailure } from '../../src/compute/compute.ts';
import { HostCapacity, OVERHEAD_MIB as OVERHEAD } from '../../src/compute/host-capacity.ts';
import { instanceTypesOn } from '../../src/compute/host-sizes.ts';
import { parseInstanceTypes } from '../../src/compute/instance-types.ts';
import { streamingInstanceType } from '../../src/contract/launch-profile.ts';

/** What a desktop starts with. */
const BOOTABLE_MIB = 1_024;

test('every type that the API knows has a size, of which four fit on a host that has 1 GiB for each', () => {
  for (const host of [
    { vcpus: 1, memoryMib: 4 * (BOOTABLE_MIB + OVERHEAD) },
    { vcpus: 2, memoryMib: 20_000 },
    { vcpus: 256, memoryMib: 2_000_000 },
  ]) {
    const types = instanceTypesOn(host, OVERHEAD, {});
    assert.deepEqual(Object.keys(types).sort(), [...streamingInstanceType.values!].sort());
    for (const [name, { vcpus, memoryMib }] of Object.entries(types)) {
      assert.ok(vcpus >= 1 && vcpus <= host.vcpus, name);
      assert.ok(memoryMib >= BOOTABLE_MIB && Number.isInteger(memoryMib), name);
      assert.ok(4 * (memoryMib + OVERHEAD) <= host.memoryMib, name);
    }
  }
});

test('a host with room gives what the vendor gives', () => {
  const types = instanceTypesOn({ vcpus: 64, memoryMib: 2_000_000 }, OVERHEAD, {});
  assert.deepEqual(types['g4dn.xlarge'], { vcpus: 4, memoryMib: 16_384 });
  assert.deepEqual(types['g3s.xlarge'], { vcpus: 4, memoryMib: 31_232 });
  assert.deepEqual(types['g5.16xlarge'], { vcpus: 64, memoryMib: 262_144 });
});

test('what settings say goes before, is not cut, and may be new', () => {
  const changed = parseInstanceTypes('g4dn.xlarge=2:4096,farm.huge=200:500000')!;
  const types = instanceTypesOn({ vcpus: 2, memoryMib: 8_192 }, OVERHEAD, changed);
  assert.deepEqual(types['g4dn.xlarge'], { vcpus: 2, memoryMib: 4_096 });
  assert.deepEqual(types['farm.huge'], { vcpus: 200, memoryMib: 500_000 });
  assert.deepEqual(types['g5.xlarge'], { vcpus: 2, memoryMib: 2_048 - OVERHEAD });
});

test('a smaller host cuts none below what a desktop starts with, and says what it lacks', () => {
  for (const memoryMib of [0, 500, BOOTABLE_MIB + OVERHEAD - 1]) {
    const types = instanceTypesOn({ vcpus: 1, memoryMib }, OVERHEAD, {});
    for (const size of Object.values(types)) assert.equal(size.memoryMib, BOOTABLE_MIB);
    assert.throws(
      () => new HostCapacity(memoryMib).promise('one', types['g4dn.xlarge']!.memoryMib),
      (error) =>
        error instanceof ComputeFailure &&
        error.code === 'INSUFFICIENT_CAPACITY' &&
        error.message.includes(
          `needs ${BOOTABLE_MIB + OVERHEAD} MiB of memory and ${memoryMib} MiB of ${memoryMib} MiB`,
        ),
    );
  }
  const types = instanceTypesOn({ vcpus: 1, memoryMib: BOOTABLE_MIB + OVERHEAD }, OVERHEAD, {});
  new HostCapacity(BOOTABLE_MIB + OVERHEAD).promise('one', types['g4dn.xlarge']!.memoryMib);
});
