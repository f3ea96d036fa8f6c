/**
 * Guests of one sector, for tests of virtual machines that need no operating system: each boots in about a second. They have
 * no agent, and do not know how to shut down.
 */
const SECTOR_BYTES = 512;
const DISK_BYTES = 1024 * 1024;
/** What stands on every disk and must never stand in an encrypted file. */
export const PLAIN_TEXT = 'what the studio has drawn';
const PLAIN_TEXT_OFFSET = 16;

/**
 * Prints its text; then raises the first byte of its second sector by one on the disk and writes it, as a digit, to its
 * serial line; then rests. So each boot leaves a mark, and tells how many there were:
 *
 *     xor ax, ax / mov ds, es, ss, ax / mov sp, 0x7c00 / mov si, text
 *     next: lodsb / test al, al / jz shown / mov ah, 0x0e / mov bx, 7 / int 0x10 / jmp next
 *     shown: read sector 2 to 0x8000 / inc byte [0x8000] / write it back
 *     mov al, [0x8000] / add al, '0' / mov dx, 0x3f8 / out dx, al / sti
 *     rest: hlt / jmp rest
 */
const COUNTING =
  '31c08ed88ec08ed0bc007cbe497cac84c07409b40ebb0700cd10ebf2b80102b90200ba8000bb0080cd13' +
  'fe060080b80103b90200ba8000bb0080cd13a000800430baf803eefbf4ebfd';
/** A graphics mode, which is black, and nothing more: mov ax, 0x13 / int 0x10 / rest: cli / hlt / jmp rest */
const BLACK = 'b81300cd10faf4ebfc';
/** Switches itself off: mov dx, 0x604 / mov ax, 0x2000 / out dx, ax / hlt */
const SWITCHING_OFF = 'ba0406b80020eff4';
/** Writes to its serial line for ever: mov dx, 0x3f8 / mov al, 'x' / next: out dx, al / jmp next */
const FLOODING = 'baf803b078eeebfd';
/** Has itself reset again and again: mov al, 0xfe / out 0x64, al / hlt */
const RESETTING = 'b0fee664f4';

/**
 * Writes to its disk, 32 KiB at a time and from its 64th sector on, until there is no more of it:
 *
 *     xor ax, ax / mov ds, ss, ax / mov sp, 0x7c00
 *     next: mov si, packet / mov ax, 0x4300 / mov dl, 0x80 / int 0x13 / add dword [packet + 8], 64 / jmp next
 *     packet: 16 bytes, 64 sectors, from 0x1000:0, to sector 64
 */
const FILLING = '31c08ed88ed0bc007cbe1f7cb80043b280cd138306277c408316297c00ebea10004000000000104000000000000000';

const PROGRAMS = {
  counting: COUNTING,
  black: BLACK,
  switchingOff: SWITCHING_OFF,
  flooding: FLOODING,
  resetting: RESETTING,
  filling: FILLING,
} as const;

export type BootSector = keyof typeof PROGRAMS | 'notBootable';

/** A raw disk of one mebibyte. */
export function bootSectorDisk(guest: BootSector): Buffer {
  const disk = Buffer.alloc(DISK_BYTES);
  if (guest !== 'notBootable') {
    Buffer.from(PROGRAMS[guest], 'hex').copy(disk);
    if (guest === 'counting') disk.write('a tiny guest\r\n\0', Buffer.from(COUNTING, 'hex').length, 'latin1');
    disk.writeUInt16LE(0xaa55, SECTOR_BYTES - 2);
  }
  disk.write(PLAIN_TEXT, SECTOR_BYTES + PLAIN_TEXT_OFFSET, 'latin1');
  return disk;
}
