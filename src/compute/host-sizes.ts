/**
 * Instance types as this host gives them. The vendor's sizes are made for the machines of a data centre, so the built-in
 * ones are cut: to the processors of the host, and to a quarter of the memory that its workstations may take, so that a
 * small host runs several of any type. None is cut below what a desktop starts with: a host without room for that refuses
 * it, and says so. A size that a setting names is taken as it is. Pure: what there is is an argument.
 */
import { INSTANCE_TYPES, type InstanceTypes } from './instance-types.ts';

/** Workstations of the largest built-in type that a host has memory for, unless that would be too little for each. */
const WORKSTATIONS_MIN = 4;
const BOOTABLE_MIB = 1_024;

export interface Host {
  readonly vcpus: number;
  /** That workstations may take together. */
  readonly memoryMib: number;
}

/** @param overheadMib what each takes beside what it is given. @param changed goes before what is built in. */
export function instanceTypesOn(host: Host, overheadMib: number, changed: InstanceTypes): InstanceTypes {
  const memoryMibMax = Math.max(Math.floor(host.memoryMib / WORKSTATIONS_MIN) - overheadMib, BOOTABLE_MIB);
  const builtIn = Object.entries(INSTANCE_TYPES).map(([name, { vcpus, memoryMib }]) => [
    name,
    { vcpus: Math.min(vcpus, host.vcpus), memoryMib: Math.min(memoryMib, memoryMibMax) },
  ]);
  return { ...Object.fromEntries(builtIn), ...changed };
}
