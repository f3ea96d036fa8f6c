/**
 * The key service of one installation: files in one directory, all sealed in the end by its root key.
 *
 * The root key seals customers' keys and small secrets; data keys are sealed by a customer's key or by the root key. Every
 * seal is AES-256-GCM and is bound to what it is for, to its id and to the key above it, so that no file can pass as
 * another. Keys are read for each use and never kept, so that a deleted customer key locks what is under it at once. No key
 * may be written unsealed but the root key, and none may reach a log or an error.
 */
import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  type KeyObject,
  randomBytes,
  randomUUID,
} from 'node:crypto';
import { statSync } from 'node:fs';
import { open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Clock, wireTime } from '../clock.ts';
import {
  createDurably,
  destroyDurably,
  isSystemError,
  makePrivateDirectory,
  OTHERS_MODE,
  requireFileName,
  sweepTemporaries,
  writeDurably,
} from '../files.ts';
import { type KeyDescription, type Keys, KeyUnavailable } from './keys.ts';

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const SEAL_VERSION = 'v1';
/** A temporary file this old has no writer any more. */
const LEFTOVER_MS = 3_600_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** The purpose a seal is bound to. */
type Purpose = 'customer-key' | 'data-key' | 'secret';

export interface LocalKeysOptions {
  /** Made if absent. Nobody but its owner may enter it. */
  readonly directory: string;
  readonly region: string;
  readonly accountId: string;
  readonly clock: Clock;
}

/** The key service and what its administrator does from the command line. */
export interface LocalKeys extends Keys {
  /** Makes a customer key with an ARN of its own. */
  createKey(): Promise<KeyDescription>;
  /** Every customer key, oldest first. @throws KeyUnavailable when one is damaged. */
  listKeys(): Promise<KeyDescription[]>;
  /** Destroys the customer key, and so the use of every data key under it, for good. False when there was none. */
  deleteKey(keyArn: string): Promise<boolean>;
}

/** What a key's file holds. Only `sealed` is secret. */
interface KeyFile {
  /** Of a customer key: its own. Of a data key: the customer key above it, or null for the root key. */
  readonly keyArn: string | null;
  readonly createdAt: string;
  readonly sealed: string;
}

/**
 * Opens the key directory; the first process to do so makes its root key.
 * @throws Error in one sentence when the root key is lost, of the wrong length, or within others' reach.
 */
export async function openLocalKeys(options: LocalKeysOptions): Promise<LocalKeys> {
  const { directory } = options;
  requirePrivate(directory);
  const places = [directory, join(directory, 'customer'), join(directory, 'data')];
  for (const place of places) makePrivateDirectory(place);
  const rootKey = await readOrMakeRootKey(directory);
  for (const place of places) await sweepTemporaries(place, options.clock.now() - LEFTOVER_MS);
  return new LocalKeyFiles(options, rootKey);
}

function requirePrivate(directory: string): void {
  const mode = (statSync(directory, { throwIfNoEntry: false })?.mode ?? 0) & 0o777;
  if ((mode & OTHERS_MODE) === 0) return;
  throw new Error(
    `The key directory ${directory} may be entered by others than its owner (mode ${mode.toString(8)}): ` +
      'run chmod 700 on it, or name another.',
  );
}

async function readOrMakeRootKey(directory: string): Promise<KeyObject> {
  const path = join(directory, 'root.key');
  // Looked at before the root key, which always comes first: seen the other way round, another process might start between.
  const inUse =
    (await keyFileNames(join(directory, 'customer'))).length + (await keyFileNames(join(directory, 'data'))).length;
  const found = await readRootKey(path);
  if (found) return found;
  if (inUse > 0) {
    throw new Error(`The root key ${path} is gone while ${inUse} keys are sealed by it: restore it from a backup.`);
  }
  const fresh = randomBytes(KEY_BYTES);
  try {
    await createDurably(path, fresh);
  } finally {
    fresh.fill(0);
  }
  // Whoever came first made it; read it as everybody else does.
  return (await readRootKey(path))!;
}

async function readRootKey(path: string): Promise<KeyObject | undefined> {
  const handle = await open(path, 'r').catch((error: unknown) => {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw new Error(`The root key ${path} cannot be opened: start the service as its owner.`, { cause: error });
  });
  if (handle === undefined) return undefined;
  const bytes = Buffer.alloc(KEY_BYTES);
  try {
    const status = await handle.stat();
    const mode = status.mode & 0o777;
    if ((mode & OTHERS_MODE) !== 0) {
      throw new Error(
        `The root key ${path} is within reach of others than its owner (mode ${mode.toString(8)}): ` +
          'find out who may have read it, then run chmod 600 on it.',
      );
    }
    if (!status.isFile() || status.size !== KEY_BYTES) {
      throw new Error(`The root key ${path} is not a file of ${KEY_BYTES} bytes: restore it from a backup.`);
    }
    await handle.read(bytes, 0, KEY_BYTES, 0);
    return createSecretKey(bytes);
  } finally {
    bytes.fill(0);
    await handle.close();
  }
}

/** The ids for which there is a file. */
async function keyFileNames(directory: string): Promise<string[]> {
  const names = await readdir(directory);
  return names.flatMap((name) => /^([A-Za-z0-9_-]{1,64})\.json$/.exec(name)?.[1] ?? []);
}

/** The file of a data key, within the directory of keys. */
export function dataKeyFile(id: string): string {
  return join('data', `${requireFileName(id)}.json`);
}

/** Every file of the directory of keys that is a key. */
export async function keyFiles(directory: string): Promise<string[]> {
  const files = ['customer', 'data'].map(async (place) =>
    (await keyFileNames(join(directory, place))).map((id) => join(place, `${id}.json`)),
  );
  return ['root.key', ...(await Promise.all(files)).flat()];
}

/** False for what is left of a key that is just being destroyed. */
export function isWholeKeyFile(text: string): boolean {
  return parseKeyFile(text) !== undefined;
}

class LocalKeyFiles implements LocalKeys {
  readonly #customerDirectory: string;
  readonly #directory: string;
  readonly #arnPrefix: string;
  readonly #clock: Clock;
  readonly #rootKey: KeyObject;

  constructor({ directory, region, accountId, clock }: LocalKeysOptions, rootKey: KeyObject) {
    this.#customerDirectory = join(directory, 'customer');
    this.#directory = directory;
    this.#arnPrefix = `arn:aws:kms:${region}:${accountId}:key/`;
    this.#clock = clock;
    this.#rootKey = rootKey;
  }

  async describe(keyArn: string): Promise<KeyDescription | undefined> {
    const file = await this.#customerFile(keyArn);
    if (file === undefined) return undefined;
    openCustomerKey(this.#rootKey, keyArn, file).fill(0);
    return { keyArn, createdAt: file.createdAt };
  }

  async generate(id: string, keyArn: string | undefined): Promise<void> {
    const path = this.#dataPath(id);
    const existing = await readKeyFile(path, `The data key of ${id}`);
    if (existing) return this.#keep(id, existing, keyArn);
    const random = randomBytes(KEY_BYTES);
    const passphrase = Buffer.from(random.toString('base64'));
    try {
      const file = await this.#sealDataKey(id, keyArn, passphrase, wireTime(this.#clock.now()));
      if (await createDurably(path, file)) return;
    } finally {
      random.fill(0);
      passphrase.fill(0);
    }
    // Another one was made meanwhile: that is the key.
    return this.generate(id, keyArn);
  }

  async unseal(id: string): Promise<Buffer> {
    const file = await readKeyFile(this.#dataPath(id), `The data key of ${id}`);
    if (file === undefined) throw new KeyUnavailable(`There is no data key of ${id}`);
    return this.#openDataKey(id, file);
  }

  async destroy(id: string): Promise<void> {
    await destroyDurably(this.#dataPath(id));
  }

  seal(secret: string, context: string): string {
    const bytes = Buffer.from(secret);
    try {
      return sealBytes(this.#rootKey, bytes, 'secret', context);
    } finally {
      bytes.fill(0);
    }
  }

  open(sealed: string, context: string): string {
    const bytes = openBytes(this.#rootKey, sealed, 'secret', context);
    if (bytes === undefined) throw new KeyUnavailable('The secret was not sealed here, or not for this use');
    try {
      return bytes.toString();
    } finally {
      bytes.fill(0);
    }
  }

  async createKey(): Promise<KeyDescription> {
    const id = randomUUID();
    const keyArn = this.#arnPrefix + id;
    const createdAt = wireTime(this.#clock.now());
    const key = randomBytes(KEY_BYTES);
    try {
      const sealed = sealBytes(this.#rootKey, key, 'customer-key', keyArn);
      await createDurably(join(this.#customerDirectory, `${id}.json`), keyFileBytes({ keyArn, createdAt, sealed }));
    } finally {
      key.fill(0);
    }
    return { keyArn, createdAt };
  }

  async listKeys(): Promise<KeyDescription[]> {
    const ids = await keyFileNames(this.#customerDirectory);
    const described = await Promise.all(ids.map((id) => this.describe(this.#arnPrefix + id)));
    return described
      .filter((key) => key !== undefined)
      .sort((a, b) => compareText(a.createdAt, b.createdAt) || compareText(a.keyArn, b.keyArn));
  }

  async deleteKey(keyArn: string): Promise<boolean> {
    const path = this.#customerPath(keyArn);
    return path !== undefined && destroyDurably(path);
  }

  /**
   * Keeps the data key that is there. Under another customer key than asked for it is sealed anew but stays the same key:
   * whatever an earlier run encrypted with it must stay readable.
   */
  async #keep(id: string, file: KeyFile, keyArn: string | undefined): Promise<void> {
    const passphrase = await this.#openDataKey(id, file);
    try {
      if (file.keyArn === (keyArn ?? null)) return;
      await writeDurably(this.#dataPath(id), await this.#sealDataKey(id, keyArn, passphrase, file.createdAt));
    } finally {
      passphrase.fill(0);
    }
  }

  async #sealDataKey(id: string, keyArn: string | undefined, passphrase: Buffer, createdAt: string): Promise<Buffer> {
    const sealed = await this.#withKey(keyArn, (key) => sealBytes(key, passphrase, 'data-key', id, keyArn ?? ''));
    return keyFileBytes({ keyArn: keyArn ?? null, createdAt, sealed });
  }

  async #openDataKey(id: string, file: KeyFile): Promise<Buffer> {
    const keyArn = file.keyArn ?? undefined;
    const passphrase = await this.#withKey(keyArn, (key) => openBytes(key, file.sealed, 'data-key', id, keyArn ?? ''));
    if (passphrase) return passphrase;
    throw new KeyUnavailable(`The data key of ${id} is damaged, or was sealed by another installation`);
  }

  /** Lends the customer key, or the root key where there is none. @throws KeyUnavailable */
  async #withKey<T>(keyArn: string | undefined, use: (key: Buffer | KeyObject) => T): Promise<T> {
    if (keyArn === undefined) return use(this.#rootKey);
    const file = await this.#customerFile(keyArn);
    if (file === undefined) throw new KeyUnavailable(`Key ${keyArn} does not exist, or has been deleted`);
    const key = openCustomerKey(this.#rootKey, keyArn, file);
    try {
      return use(key);
    } finally {
      key.fill(0);
    }
  }

  /** Undefined when there is none, or when the file of that name is of a key in another region or account. */
  async #customerFile(keyArn: string): Promise<KeyFile | undefined> {
    const path = this.#customerPath(keyArn);
    const file = path === undefined ? undefined : await readKeyFile(path, `Key ${keyArn}`);
    return file?.keyArn === keyArn ? file : undefined;
  }

  /** Undefined for an ARN that no key of this installation can have. */
  #customerPath(keyArn: string): string | undefined {
    if (!keyArn.startsWith(this.#arnPrefix)) return undefined;
    const id = keyArn.slice(this.#arnPrefix.length);
    return UUID.test(id) ? join(this.#customerDirectory, `${id}.json`) : undefined;
  }

  #dataPath(id: string): string {
    return join(this.#directory, dataKeyFile(id));
  }
}

function openCustomerKey(rootKey: KeyObject, keyArn: string, file: KeyFile): Buffer {
  const key = openBytes(rootKey, file.sealed, 'customer-key', keyArn);
  if (key) return key;
  throw new KeyUnavailable(`Key ${keyArn} is damaged, or was sealed by another installation`);
}

/** `v1.` and the base64url of nonce, tag and ciphertext. */
function sealBytes(key: Buffer | KeyObject, plain: Buffer, purpose: Purpose, ...context: readonly string[]): string {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(associatedData(purpose, context));
  const ciphertext = Buffer.concat([cipher.update(plain), cipher.final()]);
  return `${SEAL_VERSION}.${Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]).toString('base64url')}`;
}

/** Undefined when it was not sealed by this key for this purpose and context. */
function openBytes(
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

function keyFileBytes(file: KeyFile): Buffer {
  return Buffer.from(`${JSON.stringify(file)}\n`);
}

/** Undefined when there is no such file. `what` begins the sentence of an error. @throws KeyUnavailable when damaged. */
async function readKeyFile(path: string, what: string): Promise<KeyFile | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isSystemError(error, 'ENOENT')) return undefined;
    throw new KeyUnavailable(`${what} cannot be read`, { cause: error });
  }
  const file = parseKeyFile(text);
  if (file) return file;
  throw new KeyUnavailable(`${what} is damaged`);
}

function parseKeyFile(text: string): KeyFile | undefined {
  try {
    const { keyArn, createdAt, sealed } = JSON.parse(text);
    const valid = (keyArn === null || typeof keyArn === 'string') && typeof createdAt === 'string';
    return valid && typeof sealed === 'string' ? { keyArn, createdAt, sealed } : undefined;
  } catch {
    return undefined;
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
