/** What a virtual machine is told: the parts of its command line that keep a guest in, and the types of workstations. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ComputeFailure } from '../../src/compute/compute.ts';
import { HostCapacity, hostMemoryMib, OVERHEAD_MIB } from '../../src/compute/host-capacity.ts';
import { endOfOutput, lastLine, scriptCommand } from '../../src/compute/initialization.ts';
import { INSTANCE_TYPES, instanceSize, parseInstanceTypes } from '../../src/compute/instance-types.ts';
import { isBlank } from '../../src/compute/qemu-boot.ts';
import {
  diskDevice,
  imageNode,
  type MachineCommand,
  machineArguments,
  volumeNode,
} from '../../src/compute/qemu-command.ts';
import { streamingInstanceType } from '../../src/contract/launch-profile.ts';

const MACHINE: MachineCommand = {
  id: 'one',
  size: { vcpus: 2, memoryMib: 2_048 },
  platform: 'LINUX',
  accelerator: 'tcg',
  network: 'none',
  clipboard: false,
  imageDescriptor: 3,
  volumeDescriptor: 4,
};
const lineOf = (more: Partial<MachineCommand> = {}) => machineArguments({ ...MACHINE, ...more }).join(' ');

test('a machine is confined, waits for its disks, and names nothing outside its own directory', () => {
  for (const more of [{}, { platform: 'WINDOWS' }, { clipboard: true, network: 'nat', accelerator: 'kvm' }] as const) {
    const line = lineOf(more);
    assert.match(line, /-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny/);
    assert.match(line, / -nodefaults -no-user-config /);
    assert.match(line, / -S /);
    assert.match(line, / -smp 2 -m 2048 /);
    assert.doesNotMatch(line, /(^| |=)\/|secret|passphrase|tcp|hostfwd|guestfwd|smb=/);
    for (const path of line.matchAll(/path=([^,]+)/g)) assert.match(path[1]!, /^\w+$/);
  }
});

test('a guest reaches nothing unless a setting says so', () => {
  assert.match(lineOf(), /-netdev user,id=net,restrict=on,ipv6=off/);
  assert.match(lineOf({ network: 'nat' }), /restrict=off/);
  assert.equal([...lineOf({ network: 'nat' }).matchAll(/-netdev/g)].length, 1);
});

test('without a clipboard there is no device that could carry one', () => {
  assert.doesNotMatch(lineOf(), /vdagent|spice|clipboard/);
  assert.match(lineOf({ clipboard: true }), /qemu-vdagent,id=clipboard,name=vdagent,clipboard=on/);
});

test('disks are named by descriptor and format, encrypted, and the image is only read', () => {
  const image = imageNode('a') as { file: Record<string, unknown> };
  assert.deepEqual(image, {
    driver: 'qcow2',
    'node-name': 'image',
    encrypt: { format: 'luks', 'key-secret': 'a' },
    file: { driver: 'file', filename: '/dev/fdset/1', 'read-only': true },
    'read-only': true,
    backing: null,
  });
  const volume = volumeNode('b') as { file: Record<string, unknown>; backing: string };
  assert.equal(volume.backing, 'image');
  assert.equal(volume.file.filename, '/dev/fdset/2');
  assert.equal(diskDevice('LINUX').driver, 'virtio-blk-pci');
  assert.equal(diskDevice('WINDOWS').driver, 'nvme');
});

test('every instance type of the API has a size, and settings change and add', () => {
  const { values } = streamingInstanceType as unknown as { values: readonly string[] };
  assert.deepEqual([...values].sort(), Object.keys(INSTANCE_TYPES).sort());
  assert.deepEqual(parseInstanceTypes(' g4dn.xlarge=2:4096, mine.small=1:1024,'), {
    'g4dn.xlarge': { vcpus: 2, memoryMib: 4_096 },
    'mine.small': { vcpus: 1, memoryMib: 1_024 },
  });
  assert.deepEqual(parseInstanceTypes(''), {});
  for (const text of ['a', 'a=1', 'a=0:1024', 'a=1:1', 'a b=1:1024', 'a=1:1024;b=1:1024', 'a=-1:1024', 'a=1:1e9']) {
    assert.equal(parseInstanceTypes(text), undefined, text);
  }
  assert.equal(instanceSize(INSTANCE_TYPES, 'constructor'), undefined);
});

test('room is promised once, told of when there is none, and given back', () => {
  const capacity = new HostCapacity(3 * (100 + OVERHEAD_MIB));
  for (const id of ['a', 'b', 'c', 'c']) capacity.promise(id, 100);
  const isTold = (error: unknown) =>
    error instanceof ComputeFailure &&
    error.code === 'INSUFFICIENT_CAPACITY' &&
    new RegExp(`needs ${100 + OVERHEAD_MIB} MiB .* 0 MiB of 750 MiB are free`).test(error.message);
  assert.throws(() => capacity.promise('d', 100), isTold);
  capacity.release('b');
  capacity.promise('d', 100);
  assert.ok(hostMemoryMib() > 0);
});

test('the text and the parameters of a script are in no argument', () => {
  for (const platform of ['LINUX', 'WINDOWS'] as const) {
    const script = {
      name: 'x',
      text: 'echo hidden text',
      runAs: 'user',
      parameters: { TOKEN: 'hidden value' },
    } as const;
    const { arguments: args, environment, input } = scriptCommand(platform, script);
    assert.doesNotMatch(args.join(' '), /hidden/);
    assert.equal(input, script.text);
    assert.ok(environment.includes('TOKEN=hidden value'));
  }
});

test('of what a script wrote only the end is told, and nothing that a terminal would obey', () => {
  assert.equal(lastLine('one\ntwo\u001b[2J\u202e three\u0007\r\n\n \n'), 'two[2J three');
  assert.equal(lastLine(''), '');
  assert.equal(lastLine('x'.repeat(1_000)).length, 201);
  assert.equal(endOfOutput(`${'a'.repeat(10_000)}\u0000\nend`).length, 4_095);
});

test('a screen of one colour shows nothing', () => {
  const picture = (...pixels: number[]) => Buffer.concat([Buffer.from('P6\n2 1\n255\n'), Buffer.from(pixels)]);
  assert.ok(isBlank(picture(0, 0, 0, 0, 0, 0)));
  assert.ok(isBlank(picture(10, 20, 30, 10, 20, 30)));
  assert.ok(!isBlank(picture(0, 0, 0, 0, 0, 1)));
  assert.ok(isBlank(Buffer.alloc(0)));
});
