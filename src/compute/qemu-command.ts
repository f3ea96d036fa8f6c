/**
 * The command line of a virtual machine: pure, so that what a guest can reach is read in one place. It holds no key and no
 * path of the data directory: disks are added over the monitor, from files that the machine inherits, and sockets are named
 * relative to the directory that it is started in. Nothing may be added here that a guest could use to reach the host.
 */
import type { Platform } from './compute.ts';
import type { InstanceSize } from './instance-types.ts';

export const QEMU = 'qemu-system-x86_64';
/** Sockets and files in the machine's own directory. */
export const MONITOR = 'monitor';
/** For whoever looks on while the first is in use. */
export const SECOND_MONITOR = 'monitor2';
export const AGENT = 'agent';
export const DISPLAY = 'display';
export const SCREEN_FILE = 'screen';
/** Buffers that are read over the monitor: what the guest writes to its serial line, and what the firmware says. */
export const SERIAL_BUFFER = 'serial';
export const FIRMWARE_BUFFER = 'firmware';
/** A power of two, as QEMU asks for; older text falls out of it. */
export const BUFFER_BYTES = 64 * 1024;
/** Of descriptors that a disk is opened from. */
export const IMAGE_SET = 1;
export const VOLUME_SET = 2;

export type Accelerator = 'kvm' | 'tcg';
export type NetworkMode = 'none' | 'nat';

/** Translated code of a guest; it counts to what a workstation takes beyond its own memory. */
const TRANSLATION_MIB = 80;

export interface MachineCommand {
  readonly id: string;
  readonly size: InstanceSize;
  readonly platform: Platform;
  readonly accelerator: Accelerator;
  readonly network: NetworkMode;
  readonly clipboard: boolean;
  /** Descriptors that the process inherits. */
  readonly imageDescriptor: number;
  readonly volumeDescriptor: number;
}

export function machineArguments(machine: MachineCommand): string[] {
  const { id, size, platform, network, clipboard } = machine;
  return [
    ...['-name', `workstation-${id}`],
    ...confinement(),
    ...acceleration(machine.accelerator),
    ...['-machine', 'pc,usb=off,vmport=off,dump-guest-core=off,hpet=off'],
    ...['-smp', String(size.vcpus)],
    ...['-m', String(size.memoryMib)],
    ...['-rtc', platform === 'WINDOWS' ? 'base=localtime' : 'base=utc'],
    ...['-boot', 'strict=on,menu=off'],
    // It waits for its disks, whose keys come over the monitor.
    '-S',
    ...['-add-fd', `fd=${machine.imageDescriptor},set=${IMAGE_SET}`],
    ...['-add-fd', `fd=${machine.volumeDescriptor},set=${VOLUME_SET}`],
    ...['-display', 'none', '-vnc', `unix:${DISPLAY}`],
    ...guestDevices(platform, network),
    ...monitorArguments(MONITOR),
    ...monitorArguments(SECOND_MONITOR),
    ...['-device', 'virtio-serial'],
    ...['-chardev', `socket,id=${AGENT},path=${AGENT},server=on,wait=off`],
    ...['-device', `virtserialport,chardev=${AGENT},name=org.qemu.guest_agent.0`],
    ...(clipboard ? clipboardArguments() : []),
    ...['-chardev', `ringbuf,id=${SERIAL_BUFFER},size=${BUFFER_BYTES}`, '-serial', `chardev:${SERIAL_BUFFER}`],
    ...['-chardev', `ringbuf,id=${FIRMWARE_BUFFER},size=${BUFFER_BYTES}`],
    ...['-device', `isa-debugcon,iobase=0x402,chardev=${FIRMWARE_BUFFER}`],
  ];
}

/** What a guest finds beside its disk, its clock and its agent's port. */
export function guestDevices(platform: Platform, network: NetworkMode): string[] {
  return [
    ...['-vga', 'none', '-device', `${screenDevice(platform)},xres=1280,yres=800`],
    ...['-device', 'qemu-xhci,id=usb', '-device', 'usb-tablet,bus=usb.0'],
    ...['-device', 'virtio-rng-pci'],
    ...['-device', 'virtio-balloon-pci,free-page-reporting=on'],
    ...networkArguments(network, platform),
  ];
}

/** Of every QEMU that is started. It cannot start programs, gain rights or leave its limits. */
export function confinement(): string[] {
  return [
    '-nodefaults',
    '-no-user-config',
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
  ];
}

export function acceleration(accelerator: Accelerator): string[] {
  if (accelerator === 'kvm') return ['-accel', 'kvm', '-cpu', 'host'];
  return ['-accel', `tcg,thread=multi,tb-size=${TRANSLATION_MIB}`, '-cpu', 'max'];
}

/** With `restrict` a guest gets an address and reaches nothing: neither the host nor anybody else. */
function networkArguments(network: NetworkMode, platform: Platform): string[] {
  const device = platform === 'WINDOWS' ? 'e1000e' : 'virtio-net-pci';
  const restrict = network === 'nat' ? 'off' : 'on';
  return ['-netdev', `user,id=net,restrict=${restrict},ipv6=off`, '-device', `${device},netdev=net,romfile=`];
}

function monitorArguments(name: string): string[] {
  return ['-chardev', `socket,id=${name},path=${name},server=on,wait=off`, '-mon', `chardev=${name},mode=control`];
}

/** The port of the SPICE agent, over which QEMU gives the viewer's clipboard to the guest. Without it there is no way. */
function clipboardArguments(): string[] {
  return [
    ...['-chardev', 'qemu-vdagent,id=clipboard,name=vdagent,clipboard=on'],
    ...['-device', 'virtserialport,chardev=clipboard,name=com.redhat.spice.0'],
  ];
}

/** The size of a virtio screen follows the viewer's window; Windows brings no driver for it. */
function screenDevice(platform: Platform): string {
  return platform === 'WINDOWS' ? 'VGA,vgamem_mb=16' : 'virtio-vga';
}

/** The disk's controller: Windows brings no driver for virtio. */
export function diskDevice(platform: Platform): Readonly<Record<string, unknown>> {
  const disk = { id: 'disk', drive: 'volume', bootindex: 0 };
  return platform === 'WINDOWS' ? { driver: 'nvme', serial: 'volume', ...disk } : { driver: 'virtio-blk-pci', ...disk };
}

/** The studio's image, which nothing is ever written to. */
export function imageNode(secret: string): Readonly<Record<string, unknown>> {
  return diskNode('image', IMAGE_SET, secret, { 'read-only': true, backing: null });
}

/** What the session has written, over the image. */
export function volumeNode(secret: string): Readonly<Record<string, unknown>> {
  return diskNode('volume', VOLUME_SET, secret, { backing: 'image', discard: 'unmap' });
}

function diskNode(name: string, set: number, secret: string, more: Readonly<Record<string, unknown>>) {
  const readOnly = more['read-only'] === true;
  return {
    driver: 'qcow2',
    'node-name': name,
    encrypt: { format: 'luks', 'key-secret': secret },
    // Never what the file says of itself: formats and files are named here.
    file: {
      driver: 'file',
      filename: `/dev/fdset/${set}`,
      'read-only': readOnly,
      ...(!readOnly && { discard: 'unmap' }),
    },
    ...more,
  };
}
