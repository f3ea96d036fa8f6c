/**
 * The key service of one installation: files in one directory, all sealed in the end by its root key.
 *
 * The root key seals customers' keys and small secrets; data keys are sealed by a customer's key or by the root key. Every
 * seal is AES-256-GCM and is bound to what it is for, to its id and to the key above it, so that no file can pass as
 * another. Keys are read for each use and never kept, so that a deleted customer key locks what is under it at once. No key
 * may be written unsealed but the root key, and none may reach a log or an error.
 */
import { type KeyObject, randomBytes, randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { type Clock, wireTime } from '../clock.ts';
import {
  createDurably,
  destroyDurably,
  makePrivateDirectory,
  OTHERS_MODE,
  sweepTemporaries,
  writeDurably,
} from '../files.ts';
import { dataKeyFile, type KeyFile, keyFileBytes, keyFileNames, readKeyFile } from './key-files.ts';
import { type KeyDescription, type Keys, KeyUnavailable } from './keys.ts';
import { readOrMakeRootKey } from './root-key.ts';
import { KEY_BYTES, openBytes, sealBytes } from './seal.ts';

/** A temporary file this old has no writer any more. */
const LEFTOVER_MS = 3_600_000;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

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

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
