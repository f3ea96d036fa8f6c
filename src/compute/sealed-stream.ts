/**
 * Bytes encrypted as they pass, for copies that are kept: pieces under AES-256-GCM, each bound to its place and the last
 * one marked as such, so that none can be changed, moved, left out or cut off without being noticed. The key is made anew
 * for each stream, of a passphrase and a random salt: no two pieces ever share key and nonce. What comes out of `unsealed`
 * is whole up to there, but only its end says that nothing is missing: whoever uses it must be ready to throw it away.
 */
import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';

const MAGIC = Buffer.from('BACKLOT1');
const PURPOSE = 'backlot sealed stream';
const CIPHER = 'aes-256-gcm';
const SALT_BYTES = 32;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const PIECE_BYTES = 256 * 1024;
const SEALED_PIECE_BYTES = PIECE_BYTES + TAG_BYTES;

/** The stream is damaged, cut off, or not under this passphrase. */
export class SealBroken extends Error {
  override readonly name = 'SealBroken';
}

export async function* sealed(bytes: AsyncIterable<Buffer>, passphrase: Buffer): AsyncGenerator<Buffer> {
  const salt = randomBytes(SALT_BYTES);
  const key = keyOf(passphrase, salt);
  yield Buffer.concat([MAGIC, salt]);
  let index = 0;
  for await (const { piece, isLast } of piecesOf(bytes, PIECE_BYTES)) {
    const cipher = createCipheriv(CIPHER, key, nonceOf(index, isLast));
    yield Buffer.concat([cipher.update(piece), cipher.final(), cipher.getAuthTag()]);
    index += 1;
  }
}

/** @throws SealBroken */
export async function* unsealed(bytes: AsyncIterable<Buffer>, passphrase: Buffer): AsyncGenerator<Buffer> {
  let key: Buffer | undefined;
  let index = 0;
  for await (const { piece, isLast } of piecesOf(
    withoutHead(bytes, (salt) => (key = keyOf(passphrase, salt))),
    SEALED_PIECE_BYTES,
  )) {
    if (key === undefined || piece.length < TAG_BYTES) throw new SealBroken('it is cut off');
    const decipher = createDecipheriv(CIPHER, key, nonceOf(index, isLast));
    decipher.setAuthTag(piece.subarray(-TAG_BYTES));
    const clear = decipher.update(piece.subarray(0, -TAG_BYTES));
    try {
      decipher.final();
    } catch (cause) {
      throw new SealBroken('it is damaged, or under another key', { cause });
    }
    yield clear;
    index += 1;
  }
}

/** Takes the head off and hands its salt over before anything else comes out. */
async function* withoutHead(bytes: AsyncIterable<Buffer>, onSalt: (salt: Buffer) => void): AsyncGenerator<Buffer> {
  const headBytes = MAGIC.length + SALT_BYTES;
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const chunk of bytes) {
    if (head === undefined) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < headBytes) continue;
    if (!head.subarray(0, MAGIC.length).equals(MAGIC)) throw new SealBroken('it is not of the right kind');
    onSalt(head.subarray(MAGIC.length, headBytes));
    yield head.subarray(headBytes);
    head = undefined;
  }
}

/** The bytes in pieces of one length; the last may be shorter, also empty, and there always is one. */
async function* piecesOf(
  bytes: AsyncIterable<Buffer>,
  length: number,
): AsyncGenerator<{ readonly piece: Buffer; readonly isLast: boolean }> {
  let waiting: Buffer[] = [];
  let waitingBytes = 0;
  for await (const chunk of bytes) {
    waiting.push(chunk);
    waitingBytes += chunk.length;
    if (waitingBytes <= length) continue;
    const joined = Buffer.concat(waiting);
    let taken = 0;
    // What is exactly one piece long may be the last.
    for (; joined.length - taken > length; taken += length) {
      yield { piece: joined.subarray(taken, taken + length), isLast: false };
    }
    waiting = [joined.subarray(taken)];
    waitingBytes = joined.length - taken;
  }
  yield { piece: Buffer.concat(waiting), isLast: true };
}

function keyOf(passphrase: Buffer, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync('sha256', passphrase, salt, PURPOSE, KEY_BYTES));
}

/** The place of the piece, and whether it is the last. */
function nonceOf(index: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(NONCE_BYTES);
  nonce.writeUInt8(isLast ? 1 : 0, 0);
  nonce.writeUIntBE(index, NONCE_BYTES - 6, 6);
  return nonce;
}
