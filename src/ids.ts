/**
 * Every identifier that Backlot makes. The forms are the vendor's: 22 characters of base64url that hold a random UUID,
 * except for studios, machine images and access keys. Randomness comes in as an argument, so that the simulation can
 * replay a run from its seed.
 */
import { randomBytes } from 'node:crypto';

export interface Ids {
  /**
   * Id of images, EULAs, acceptances: base64url of a version 4 UUID, for example `Cw_jXnp1QcSSXhE2hkNRoQ`. It never begins
   * with a dash, which command lines, AWS's among them, would take for a flag.
   */
  short(): string;
  /** A version 4 UUID with dashes. */
  uuid(): string;
  /** `stid-` and 16 lower-case letters or digits. */
  studioSuffix(): string;
  /** `ami-` and 17 hexadecimal digits. */
  machineImage(): string;
  /** `d-` and 10 hexadecimal digits: where the users of an installation are. */
  identityStore(): string;
  /** `AKIA` and 16 upper-case letters or digits. */
  accessKey(): string;
  /** As `accessKey`, but beginning with `ASIA`, as those that end by themselves do. */
  temporaryAccessKey(): string;
  /** 43 characters of base64url: 256 random bits. */
  sessionToken(): string;
  /** `AIDA` and 16 upper-case letters or digits. */
  principal(): string;
  /** 43 characters of base64url: 256 random bits. */
  ticket(): string;
  /** 40 characters of base64: 240 random bits. */
  secretKey(): string;
}

const LOWER = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** 32 characters, so that five random bits choose one without bias. */
const UPPER = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

export function createIds(random: (bytes: number) => Buffer = randomBytes): Ids {
  const uuidBytes = (): Buffer => {
    const bytes = random(16);
    bytes[6] = (bytes[6]! & 0x0f) | 0x40;
    bytes[8] = (bytes[8]! & 0x3f) | 0x80;
    return bytes;
  };
  return {
    short: () => {
      for (;;) {
        const id = uuidBytes().toString('base64url');
        if (!id.startsWith('-')) return id;
      }
    },
    uuid: () =>
      uuidBytes()
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
    studioSuffix: () => `stid-${characters(LOWER, 16, random)}`,
    machineImage: () => `ami-${random(9).toString('hex').slice(0, 17)}`,
    identityStore: () => `d-${random(5).toString('hex')}`,
    accessKey: () => `AKIA${characters(UPPER, 16, random)}`,
    temporaryAccessKey: () => `ASIA${characters(UPPER, 16, random)}`,
    sessionToken: () => random(32).toString('base64url'),
    principal: () => `AIDA${characters(UPPER, 16, random)}`,
    ticket: () => random(32).toString('base64url'),
    secretKey: () => random(30).toString('base64'),
  };
}

/** Bytes at or above the largest multiple of the alphabet's length are thrown away, so that no character is favoured. */
function characters(alphabet: string, length: number, random: (bytes: number) => Buffer): string {
  const limit = 256 - (256 % alphabet.length);
  let text = '';
  while (text.length < length) {
    for (const byte of random(length))
      if (byte < limit && text.length < length) text += alphabet[byte % alphabet.length];
  }
  return text;
}
