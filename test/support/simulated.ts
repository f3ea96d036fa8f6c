/**
 * Adapters of the image and key ports that live in memory and can be told to fail: they are held to the same conformance
 * suite as the real ones, and drive the worker's tests and the simulation.
 */
import { createHash } from 'node:crypto';
import type { Clock } from '../../src/clock.ts';
import type { Records } from '../../src/compute/records.ts';
import {
  type Boot,
  createSimulatedCompute,
  type SimulatedCompute,
  type SimulatedWorkstation,
} from '../../src/compute/simulated.ts';
import { ImageFailure, type Images, type ImportRequest, type StoredImage } from '../../src/images/images.ts';
import { type KeyDescription, type Keys, KeyUnavailable } from '../../src/keys/keys.ts';

/** Called before each effect with its name and the id it is for; throws to make the effect fail. */
export type Fault = (effect: string, id: string) => void | Promise<void>;

export class SimulatedKeys implements Keys {
  readonly customerKeys = new Set<string>();
  readonly dataKeys = new Map<string, { keyArn: string | undefined; passphrase: string }>();
  fault: Fault = () => undefined;
  #made = 0;

  async describe(keyArn: string): Promise<KeyDescription | undefined> {
    await this.fault('describe', keyArn);
    return this.customerKeys.has(keyArn) ? { keyArn, createdAt: '2026-01-01T00:00:00Z' } : undefined;
  }

  async generate(id: string, keyArn: string | undefined): Promise<void> {
    await this.fault('generate', id);
    this.#requireKey(keyArn);
    const passphrase = this.dataKeys.get(id)?.passphrase ?? this.#newPassphrase(id);
    this.dataKeys.set(id, { keyArn, passphrase });
    await this.fault('generated', id);
  }

  async unseal(id: string): Promise<Buffer> {
    await this.fault('unseal', id);
    const key = this.dataKeys.get(id);
    if (!key) throw new KeyUnavailable(`There is no data key for ${id}`);
    this.#requireKey(key.keyArn);
    return Buffer.from(key.passphrase);
  }

  async destroy(id: string): Promise<void> {
    await this.fault('destroy', id);
    this.dataKeys.delete(id);
    await this.fault('destroyed', id);
  }

  seal(secret: string, context: string): string {
    return Buffer.from(JSON.stringify([secret, context])).toString('base64');
  }

  open(sealed: string, context: string): string {
    const [secret, sealedContext] = JSON.parse(Buffer.from(sealed, 'base64').toString()) as [string, string];
    if (sealedContext !== context) throw new KeyUnavailable('sealed with another context');
    return secret;
  }

  #newPassphrase(id: string): string {
    this.#made += 1;
    return createHash('sha256').update(`${id}/${this.#made}`).digest('base64');
  }

  #requireKey(keyArn: string | undefined): void {
    if (keyArn !== undefined && !this.customerKeys.has(keyArn)) throw new KeyUnavailable(`There is no key ${keyArn}`);
  }
}

export class SimulatedImages implements Images {
  /** Machine images that can be imported, by id, with the digest of their bytes. */
  readonly sources = new Map<string, string>();
  readonly copies = new Map<string, { passphrase: string; stored: StoredImage; modifiedAt: number }>();
  fault: Fault = () => undefined;
  now: () => number = () => 0;

  async import(request: ImportRequest): Promise<StoredImage> {
    await this.fault('import', request.id);
    request.signal.throwIfAborted();
    const existing = this.copies.get(request.id);
    if (existing) return existing.stored;
    const digest = this.sources.get(request.source);
    if (!digest) throw new ImageFailure('SOURCE_MISSING', `Machine image ${request.source} does not exist`);
    if (digest !== request.sourceSha256)
      throw new ImageFailure('SOURCE_CORRUPT', `Machine image ${request.source} changed`);
    request.onProgress(50);
    await this.fault('converted', request.id);
    request.signal.throwIfAborted();
    const stored: StoredImage = { format: 'qcow2', sizeBytes: 4096, virtualSizeBytes: 8192, sha256: digest };
    this.copies.set(request.id, { passphrase: request.passphrase.toString(), stored, modifiedAt: this.now() });
    await this.fault('imported', request.id);
    return stored;
  }

  async open(id: string): Promise<string | undefined> {
    return this.copies.has(id) ? `memory:${id}` : undefined;
  }

  async remove(id: string): Promise<void> {
    await this.fault('remove', id);
    this.copies.delete(id);
    await this.fault('removed', id);
  }

  async sweep(_request: { readonly olderThanMs: number }): Promise<number> {
    await this.fault('sweep', '');
    return 0;
  }

  async list() {
    return [...this.copies].map(([id, { stored, modifiedAt }]) => ({ id, sizeBytes: stored.sizeBytes, modifiedAt }));
  }
}

/** Records of a compute adapter, as files would be: what was put is not changed by what is done to it later. */
export class MemoryRecords<T> implements Records<T> {
  readonly #records = new Map<string, string>();

  async get(id: string): Promise<T | undefined> {
    const text = this.#records.get(id);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }

  async put(id: string, record: T | undefined): Promise<void> {
    if (record === undefined) this.#records.delete(id);
    else this.#records.set(id, JSON.stringify(record));
  }

  async ids(): Promise<string[]> {
    return [...this.#records.keys()];
  }
}

/** The product's own simulated workstations, in memory, whose starts end when a test says so. */
export class SimulatedWorkstations {
  readonly records = new MemoryRecords<SimulatedWorkstation>();
  readonly compute: SimulatedCompute;
  fault: Fault = () => undefined;
  boot: Boot = async ({ onProgress }) => onProgress(50);

  constructor(clock: Clock) {
    const { records } = this;
    const boot: Boot = (start) => this.boot(start);
    const fault: Fault = (effect, id) => this.fault(effect, id);
    this.compute = createSimulatedCompute({ records, clock, boot, fault });
  }
}
