/**
 * How large a workstation of each instance type is. The built-in sizes are those of the machines that the API's types name;
 * settings change them and add others. No size is ever made smaller silently: what a host has no room for is refused.
 */
export interface InstanceSize {
  readonly vcpus: number;
  readonly memoryMib: number;
}

export type InstanceTypes = Readonly<Record<string, InstanceSize>>;

const GIB = 1_024;

export const INSTANCE_TYPES: InstanceTypes = {
  'g3s.xlarge': { vcpus: 4, memoryMib: 30.5 * GIB },
  'g3.4xlarge': { vcpus: 16, memoryMib: 122 * GIB },
  'g4dn.xlarge': { vcpus: 4, memoryMib: 16 * GIB },
  'g4dn.2xlarge': { vcpus: 8, memoryMib: 32 * GIB },
  'g4dn.4xlarge': { vcpus: 16, memoryMib: 64 * GIB },
  'g4dn.8xlarge': { vcpus: 32, memoryMib: 128 * GIB },
  'g4dn.12xlarge': { vcpus: 48, memoryMib: 192 * GIB },
  'g4dn.16xlarge': { vcpus: 64, memoryMib: 256 * GIB },
  'g5.xlarge': { vcpus: 4, memoryMib: 16 * GIB },
  'g5.2xlarge': { vcpus: 8, memoryMib: 32 * GIB },
  'g5.4xlarge': { vcpus: 16, memoryMib: 64 * GIB },
  'g5.8xlarge': { vcpus: 32, memoryMib: 128 * GIB },
  'g5.16xlarge': { vcpus: 64, memoryMib: 256 * GIB },
};

const NAME = /^[A-Za-z0-9.-]{1,64}$/;
const VCPUS_MAX = 255;
const MEMORY_MIB_MIN = 32;
const MEMORY_MIB_MAX = 4 * GIB * GIB;

/** Text such as `g4dn.xlarge=2:4096,mine.small=1:1024`: vCPUs and MiB. Undefined where it is no such text. */
export function parseInstanceTypes(text: string): InstanceTypes | undefined {
  const types: Record<string, InstanceSize> = {};
  for (const part of text.split(',').filter((found) => found.trim() !== '')) {
    const [, name, vcpus, memoryMib] = /^([^=]+)=(\d{1,3}):(\d{1,7})$/.exec(part.trim()) ?? [];
    if (name === undefined || !NAME.test(name)) return undefined;
    const size = { vcpus: Number(vcpus), memoryMib: Number(memoryMib) };
    const isSound =
      size.vcpus >= 1 &&
      size.vcpus <= VCPUS_MAX &&
      size.memoryMib >= MEMORY_MIB_MIN &&
      size.memoryMib <= MEMORY_MIB_MAX;
    if (!isSound) return undefined;
    types[name] = size;
  }
  return types;
}

/** Undefined where there is no such type, also for the names of what every object has. */
export function instanceSize(types: InstanceTypes, name: string): InstanceSize | undefined {
  return Object.hasOwn(types, name) ? types[name] : undefined;
}
