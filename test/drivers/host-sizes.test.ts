/** Sizes of instance types on one host: the vendor's, cut to what there is; those of settings, as they stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { instanceTypesOn } from '../../src/compute/host-sizes.ts';
import { parseInstanceTypes } from '../../src/compute/instance-types.ts';
import { streamingInstanceType } from '../../src/contract/launch-profile.ts';

const OVERHEAD = 150;

test('every type that the API knows has a size, of which four fit on any host', () => {
  for (const host of [
    { vcpus: 1, memoryMib: 1_024 },
    { vcpus: 2, memoryMib: 20_000 },
    { vcpus: 256, memoryMib: 2_000_000 },
  ]) {
    const types = instanceTypesOn(host, OVERHEAD, {});
    assert.deepEqual(Object.keys(types).sort(), [...streamingInstanceType.values!].sort());
    for (const [name, { vcpus, memoryMib }] of Object.entries(types)) {
      assert.ok(vcpus >= 1 && vcpus <= host.vcpus, name);
      assert.ok(memoryMib > 0 && 4 * (memoryMib + OVERHEAD) <= host.memoryMib && Number.isInteger(memoryMib), name);
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
  const types = instanceTypesOn({ vcpus: 2, memoryMib: 4_096 }, OVERHEAD, changed);
  assert.deepEqual(types['g4dn.xlarge'], { vcpus: 2, memoryMib: 4_096 });
  assert.deepEqual(types['farm.huge'], { vcpus: 200, memoryMib: 500_000 });
  assert.deepEqual(types['g5.xlarge'], { vcpus: 2, memoryMib: 1_024 - OVERHEAD });
});

test('a host without any memory to speak of promises nothing that is negative', () => {
  for (const { memoryMib } of Object.values(instanceTypesOn({ vcpus: 1, memoryMib: 0 }, OVERHEAD, {})))
    assert.equal(memoryMib, 1);
});
