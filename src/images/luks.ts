/**
 * The header of an encrypted disk: LUKS, version 1 (the "LUKS1 On-Disk Format Specification", 1.2.3), as QEMU lays it out.
 * It holds the disk's key, new and random, encrypted under the passphrase. Whoever makes a header forgets that key at once:
 * it is found again by the passphrase alone.
 *
 * Ours and not qemu-img's, which measures for two seconds how slow it can make a guess at the passphrase. That is for
 * passphrases that people choose: it must not be used for one of less than 256 random bits.
 */
import { createCipheriv, hash, pbkdf2, randomBytes, randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { promisify } from 'node:util';

const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1');
const VERSION = 1;
const CIPHER = 'aes';
const CIPHER_MODE = 'xts-plain64';
const HASH = 'sha256';
const HASH_BYTES = 32;
/** Of AES-256 in XTS mode: one for the data, one for the tweak. */
const KEY_BYTES = 64;
const SALT_BYTES = 32;
const DIGEST_BYTES = 20;
/** The fewest that cryptsetup makes. */
const ITERATIONS = 1_000;

export const SECTOR_BYTES = 512;
const FIRST_SLOT_AT = 208;
const SLOT_BYTES = 48;
const SLOTS = 8;
const SLOT_ENABLED = 0x00_ac_71_f3;
const SLOT_DISABLED = 0x00_00_de_ad;
/** How many times its size a key takes in a slot, so that overwriting any part of it destroys it. */
const STRIPES = 4_000;
/** What the header and every slot begin at a multiple of. */
const ALIGNMENT_SECTORS = 8;
const SLOT_SECTORS = Math.ceil((KEY_BYTES * STRIPES) / SECTOR_BYTES / ALIGNMENT_SECTORS) * ALIGNMENT_SECTORS;

const slotSector = (slot: number) => ALIGNMENT_SECTORS + slot * SLOT_SECTORS;
const PAYLOAD_SECTOR = slotSector(SLOTS);
/** All that a header takes, most of which is the zeros of slots without a key. */
export const LUKS_BYTES = PAYLOAD_SECTOR * SECTOR_BYTES;

/** Stripes, or sectors, that take about a millisecond: after as many, the event loop has its turn. It answers requests. */
const AT_ONCE = 256;

const derive = promisify(pbkdf2);

/** The beginning of a new header, up to where only zeros follow. @param passphrase at least 256 random bits. */
export async function newLuksHeader(passphrase: Uint8Array): Promise<Buffer> {
  const secrets: Buffer[] = [];
  const kept = (secret: Buffer) => {
    secrets.push(secret);
    return secret;
  };
  try {
    const key = kept(randomBytes(KEY_BYTES));
    const slotSalt = randomBytes(SALT_BYTES);
    const slotKey = kept(await derive(passphrase, slotSalt, ITERATIONS, KEY_BYTES, HASH));
    const stripes = kept(await split(key));
    const keyAt = slotSector(0) * SECTOR_BYTES;
    const header = Buffer.alloc(keyAt + stripes.length);
    await describeKey(header, key);
    for (let slot = 0; slot < SLOTS; slot += 1) describeSlot(header, slot, slot === 0 ? slotSalt : undefined);
    await encryptInto(header.subarray(keyAt), stripes, slotKey);
    return header;
  } finally {
    for (const secret of secrets) secret.fill(0);
  }
}

async function describeKey(header: Buffer, key: Buffer): Promise<void> {
  const salt = randomBytes(SALT_BYTES);
  const digest = await derive(key, salt, ITERATIONS, DIGEST_BYTES, HASH);
  MAGIC.copy(header);
  header.writeUInt16BE(VERSION, 6);
  header.write(CIPHER, 8, 'latin1');
  header.write(CIPHER_MODE, 40, 'latin1');
  header.write(HASH, 72, 'latin1');
  header.writeUInt32BE(PAYLOAD_SECTOR, 104);
  header.writeUInt32BE(KEY_BYTES, 108);
  digest.copy(header, 112);
  salt.copy(header, 132);
  header.writeUInt32BE(ITERATIONS, 164);
  header.write(randomUUID(), 168, 'latin1');
}

function describeSlot(header: Buffer, slot: number, salt: Buffer | undefined): void {
  const at = FIRST_SLOT_AT + slot * SLOT_BYTES;
  header.writeUInt32BE(salt ? SLOT_ENABLED : SLOT_DISABLED, at);
  header.writeUInt32BE(salt ? ITERATIONS : 0, at + 4);
  salt?.copy(header, at + 8);
  header.writeUInt32BE(slotSector(slot), at + 40);
  header.writeUInt32BE(STRIPES, at + 44);
}

/**
 * The key in stripes, of which all are needed to have it back: the anti-forensic splitter (AFsplit). All but the last are
 * random; the last is the key, exclusive-ored with what they are diffused to.
 */
async function split(key: Buffer): Promise<Buffer> {
  const stripes = randomBytes(KEY_BYTES * STRIPES);
  const mixed = Buffer.alloc(KEY_BYTES);
  const last = STRIPES - 1;
  for (let stripe = 0; stripe < last; stripe += 1) {
    xorInto(mixed, stripes, stripe * KEY_BYTES);
    diffuse(mixed);
    if (stripe % AT_ONCE === 0) await setImmediate();
  }
  xorInto(mixed, key, 0);
  mixed.copy(stripes, last * KEY_BYTES);
  mixed.fill(0);
  return stripes;
}

function xorInto(target: Buffer, from: Buffer, at: number): void {
  for (let index = 0; index < target.length; index += 1) target[index]! ^= from[at + index]!;
}

/** Each part of a hash's length becomes the hash of its number and itself. */
function diffuse(block: Buffer): void {
  const numbered = Buffer.alloc(4 + HASH_BYTES);
  for (let part = 0; part * HASH_BYTES < block.length; part += 1) {
    numbered.writeUInt32BE(part);
    block.copy(numbered, 4, part * HASH_BYTES, (part + 1) * HASH_BYTES);
    hash(HASH, numbered, 'buffer').copy(block, part * HASH_BYTES);
  }
}

/** `plain64`: the tweak of a sector is its number, of 64 bits, little endian. */
async function encryptInto(target: Buffer, plain: Buffer, key: Buffer): Promise<void> {
  const tweak = Buffer.alloc(16);
  const sectors = plain.length / SECTOR_BYTES;
  for (let sector = 0; sector < sectors; sector += 1) {
    tweak.writeBigUInt64LE(BigInt(sector));
    const at = sector * SECTOR_BYTES;
    const cipher = createCipheriv('aes-256-xts', key, tweak);
    cipher.update(plain.subarray(at, at + SECTOR_BYTES)).copy(target, at);
    cipher.final();
    if (sector % AT_ONCE === 0) await setImmediate();
  }
}
