/**
 * Seals: bytes under a key, bound to what they are for. Each is AES-256-GCM, and opens only under the same key, for the
 * same purpose and in the same context, so that no sealed text can pass as another. It knows no file and keeps no key.
 */
import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto';

export const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SEAL_VERSION = 'v1';

/** The purpose a seal is bound to. */
type Purpose = 'customer-key' | 'data-key' | 'secret';

/** `v1.` and the base64url of nonce, tag and ciphertext. */
export function sealBytes(
  key: Buffer | KeyObject,
  plain: Buffer,
  purpose: Purpose,
  ...context: readonly string[]
): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(purpose, context));
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
  return `${SEAL_VERSION}.${Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]).toString('base64url')}`;
}

/** Undefined when it was not sealed by this key for this purpose and context. */
export function openBytes(
  key: Buffer | KeyObject,
  sealed: string,
  purpose: Purpose,
  ...context: readonly string[]
): Buffer | undefined {
  const encoded = /^v1\.([A-Za-z0-9_-]+)$/.exec(sealed)?.[1];
  const bytes = Buffer.from(encoded ?? '', 'base64url');
  if (bytes.length < NONCE_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES });
  decipher.setAAD(associatedData(purpose, context));
  decipher.setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
  const plain = decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES));
  try {
    decipher.final();
    return plain;
  } catch {
    plain.fill(0);
    return undefined;
  }
}

/** JSON, so that no two lists of texts become the same bytes. */
function associatedData(purpose: Purpose, context: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify([SEAL_VERSION, purpose, ...context]));
}
