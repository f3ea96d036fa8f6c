/**
 * The port to the key service: data keys for disks, and sealing of small secrets.
 *
 * A data key is named by what it encrypts (a streaming image's id, or a session's), made once, and destroyed for good:
 * without it the bytes are noise. It is sealed under a customer's key where the studio has one, else under the installation's root key.
 * No adapter may let a key leave other than as the return value of `unseal` or `open`.
 */
export interface Keys {
  /** Whether this key exists here and may be used; undefined when there is none of this ARN. */
  describe(keyArn: string): Promise<KeyDescription | undefined>;
  /**
   * Makes sure that a data key of this id exists, sealed under `keyArn` (the root key where absent).
   * A key that exists is kept, and sealed anew where it was under another: what it encrypts must stay readable.
   * @throws KeyUnavailable when there is no such customer key.
   */
  generate(id: string, keyArn: string | undefined): Promise<void>;
  /** The passphrase of the data key: 44 characters of base64. @throws KeyUnavailable */
  unseal(id: string): Promise<Buffer>;
  /** Destroys the data key; no error when there is none. Durable when the promise resolves. */
  destroy(id: string): Promise<void>;
  /** Seals a small secret under the root key; `context` must be given again to open it. */
  seal(secret: string, context: string): string;
  /** @throws KeyUnavailable when it was not sealed here, or with another context. */
  open(sealed: string, context: string): string;
}

export interface KeyDescription {
  readonly keyArn: string;
  readonly createdAt: string;
}

/** The message names the key and never holds key material. */
export class KeyUnavailable extends Error {
  override readonly name = 'KeyUnavailable';
}
