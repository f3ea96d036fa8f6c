/**
 * A store that watches every commit, from whichever process it comes: versions only grow, only legal moves are made,
 * quotas and names hold, what is READY can be opened. It keeps a copy of every row, to be compared with the database in
 * the end: what was acknowledged must be there. What every row was before it keeps too, for who was allowed what.
 */
import assert from 'node:assert/strict';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import type { Row, Store, Write } from '../../src/store/store.ts';
import type { World } from '../support/domain.ts';
import { Facts } from './facts.ts';

type Moves = Readonly<Record<string, readonly string[]>>;

/** Of what is updated in the background. */
const MOVES_WITH_UPDATES: Moves = {
  CREATE_IN_PROGRESS: ['CREATE_IN_PROGRESS', 'READY', 'CREATE_FAILED'],
  READY: ['READY', 'UPDATE_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
  CREATE_FAILED: ['CREATE_FAILED', 'DELETE_IN_PROGRESS'],
  UPDATE_IN_PROGRESS: ['UPDATE_IN_PROGRESS', 'READY', 'UPDATE_FAILED'],
  UPDATE_FAILED: ['UPDATE_FAILED', 'UPDATE_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
  DELETE_IN_PROGRESS: ['DELETE_IN_PROGRESS', 'DELETED', 'DELETE_FAILED'],
  DELETE_FAILED: ['DELETE_FAILED', 'UPDATE_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
  DELETED: ['DELETED'],
};

/**
 * Where a row may go from where; itself means that a lease, a retry, a tag or an update may leave it there. It is written
 * out here, and not read off the lifecycle tables: a wrong arrow in one of those would otherwise be held against itself.
 */
const MOVES: Readonly<Record<string, Moves>> = {
  [KIND.streamingImage]: {
    CREATE_IN_PROGRESS: ['CREATE_IN_PROGRESS', 'READY', 'CREATE_FAILED'],
    READY: ['READY', 'DELETE_IN_PROGRESS'],
    CREATE_FAILED: ['CREATE_FAILED', 'DELETE_IN_PROGRESS'],
    DELETE_IN_PROGRESS: ['DELETE_IN_PROGRESS', 'DELETED', 'DELETE_FAILED'],
    DELETE_FAILED: ['DELETE_FAILED', 'DELETE_IN_PROGRESS'],
    DELETED: ['DELETED'],
  },
  [KIND.studioComponent]: MOVES_WITH_UPDATES,
  [KIND.launchProfile]: MOVES_WITH_UPDATES,
  [KIND.streamingSession]: {
    CREATE_IN_PROGRESS: ['CREATE_IN_PROGRESS', 'READY', 'CREATE_FAILED'],
    READY: ['READY', 'STOP_IN_PROGRESS', 'STOP_FAILED', 'DELETE_IN_PROGRESS'],
    STOP_IN_PROGRESS: ['STOP_IN_PROGRESS', 'STOPPED', 'STOP_FAILED'],
    STOPPED: ['STOPPED', 'START_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
    START_IN_PROGRESS: ['START_IN_PROGRESS', 'READY', 'START_FAILED'],
    CREATE_FAILED: ['CREATE_FAILED', 'DELETE_IN_PROGRESS'],
    START_FAILED: ['START_FAILED', 'START_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
    STOP_FAILED: ['STOP_FAILED', 'STOP_IN_PROGRESS', 'DELETE_IN_PROGRESS'],
    DELETE_IN_PROGRESS: ['DELETE_IN_PROGRESS', 'DELETED', 'DELETE_FAILED'],
    DELETE_FAILED: ['DELETE_FAILED', 'DELETE_IN_PROGRESS'],
    DELETED: ['DELETED'],
  },
  [KIND.streamingSessionStream]: {
    CREATE_IN_PROGRESS: ['CREATE_IN_PROGRESS', 'READY', 'CREATE_FAILED', 'DELETED'],
    READY: ['READY', 'DELETED'],
    CREATE_FAILED: ['CREATE_FAILED'],
    DELETED: ['DELETED'],
  },
  [KIND.streamingSessionBackup]: {
    CREATE_IN_PROGRESS: ['CREATE_IN_PROGRESS', 'READY', 'CREATE_FAILED', 'DELETE_IN_PROGRESS'],
    READY: ['READY', 'DELETE_IN_PROGRESS'],
    CREATE_FAILED: ['CREATE_FAILED'],
    DELETE_IN_PROGRESS: ['DELETE_IN_PROGRESS', 'DELETED'],
    DELETED: ['DELETED'],
  },
  [KIND.studio]: MOVES_WITH_UPDATES,
};

/** States in which a studio takes what is new. */
const OPEN = ['READY', 'UPDATE_FAILED', 'DELETE_FAILED'];
/** Members that no change may touch. */
const FIXED = [
  'arn',
  'streamingImageId',
  'studioComponentId',
  'launchProfileId',
  'createdBy',
  'ec2ImageId',
  'owner',
  'platform',
  'studioId',
  'studioName',
  'createdAt',
  'homeRegion',
];

export interface Quotas {
  readonly images: number;
  readonly components: number;
  readonly sharedFileSystems: number;
  readonly profiles: number;
  readonly sessions: number;
  readonly g5Sessions: number;
}

/** Kinds of what failed to be made and goes by itself. */
const PASSING_FAILED: readonly string[] = [
  KIND.studioComponent,
  KIND.launchProfile,
  KIND.streamingSessionStream,
  KIND.streamingSessionBackup,
];

/** Whether a row at rest goes by itself, once its time is over. */
export function isPassing({ kind, state }: Pick<Row, 'kind' | 'state'>): boolean {
  return state === 'DELETED' || (PASSING_FAILED.includes(kind) && state === 'CREATE_FAILED');
}

/** Whether a row at rest is moved on by a time limit. */
export function isTimed({ kind, state }: Pick<Row, 'kind' | 'state'>): boolean {
  return state === 'READY' && (kind === KIND.streamingSession || kind === KIND.streamingSessionStream);
}

const isG5 = ({ doc }: Row) => (JSON.parse(doc) as StreamingSession).ec2InstanceType?.startsWith('g5.');

const keyOf = (kind: string, id: string) => `${kind}/${id}`;

export class WatchedStore implements Store {
  readonly rows = new Map<string, Row>();
  /** Ids of the images, components and profiles that were ever created under a name. */
  readonly inserted = new Map<string, string[]>();
  /** Keys of every token that was ever remembered. */
  readonly tokens = new Set<string>();
  /** Called with every row that comes to be. */
  onInsert: (row: Row) => void = () => undefined;
  /** Called with every batch that was written, in the call or the work that wrote it. */
  onWritten: (batch: readonly Write[]) => void = () => undefined;
  /** Every row at every moment. */
  readonly facts = new Facts();
  commits = 0;
  /** How often an image was deleted while sessions stood on it, and how often what was kept for them was destroyed. */
  readonly below = { kept: 0, released: 0 };
  readonly #store: Store;
  readonly #quotas: Quotas;
  #drivers: Pick<World, 'keys' | 'images'> | undefined;
  /** The first thing that was wrong. Kept, because whoever wrote may be a process that is dead by now. */
  #failure: Error | undefined;

  constructor(store: Store, quotas: Quotas) {
    this.#store = store;
    this.#quotas = quotas;
  }

  watchDrivers(drivers: Pick<World, 'keys' | 'images'>): void {
    this.#drivers = drivers;
  }

  /** Looks at every destruction of a key or of bytes before it happens: nothing may need them. */
  watchDestruction({ keys, images }: Pick<World, 'keys' | 'images'>): void {
    for (const driver of [keys, images]) {
      const { fault } = driver;
      driver.fault = (effect, id) => {
        if (effect === 'destroy' || effect === 'remove') {
          this.#look(() => assert.deepEqual(this.sessionsOn(id), [], `${effect} of ${id} below these sessions`));
        }
        return fault(effect, id);
      };
    }
  }

  /** Ids of the sessions that stand on this image: all that came to be, or still may, until they are deleted. */
  sessionsOn(imageId: string): string[] {
    const sessions = [...this.rows.values()].filter(({ kind, doc }) => {
      return kind === KIND.streamingSession && (JSON.parse(doc) as StreamingSession).streamingImageId === imageId;
    });
    return sessions.filter((row) => this.#stands(row)).map(({ id }) => id);
  }

  #stands({ kind, id, state }: Row): boolean {
    if (state === 'DELETED' || state === 'CREATE_FAILED') return false;
    if (!state.startsWith('DELETE_')) return true;
    return !this.facts.since(0, kind, id).some((row) => row?.state === 'CREATE_FAILED');
  }

  /** @throws what was wrong with any commit so far. */
  assertSound(): void {
    if (this.#failure) throw this.#failure;
  }

  get(kind: string, id: string) {
    return this.#store.get(kind, id);
  }
  list(query: Parameters<Store['list']>[0]) {
    return this.#store.list(query);
  }
  count(query: Parameters<Store['count']>[0]) {
    return this.#store.count(query);
  }
  token(key: string) {
    return this.#store.token(key);
  }
  audit(query: Parameters<Store['audit']>[0]) {
    return this.#store.audit(query);
  }
  close() {
    return this.#store.close();
  }

  async lease(query: Parameters<Store['lease']>[0]) {
    const leased = await this.#store.lease(query);
    this.#watch(() => {
      for (const row of leased) {
        const before = this.rows.get(keyOf(row.kind, row.id));
        assert.ok(before && before.dueAt !== null && before.dueAt <= query.now, `${row.id} was leased and not due`);
        assert.equal(row.attempts, before.attempts + 1);
        this.#replaced(row);
      }
    });
    return leased;
  }

  async write(batch: readonly Write[]) {
    const changed = await this.#store.write(batch);
    // A line about a call that has changed nothing.
    if (batch.every(({ op }) => op === 'audit')) this.#look(() => this.onWritten(batch));
    else {
      this.#watch(() => {
        for (const write of batch) this.#applied(write);
        this.onWritten(batch);
      });
    }
    return changed;
  }

  #watch(look: () => void): void {
    this.commits += 1;
    this.#look(() => {
      look();
      this.#checkEverything();
    });
  }

  #look(look: () => void): void {
    try {
      look();
    } catch (error) {
      this.#failure ??= error as Error;
    }
  }

  #applied(write: Write): void {
    if (write.op === 'insert') this.#inserted(write.row);
    else if (write.op === 'update') this.#replaced(write.row);
    else if (write.op === 'delete') this.#deleted(write.kind, write.id, write.version);
    else if (write.op === 'token') this.tokens.add(write.token.key);
  }

  #deleted(kind: string, id: string, version: number): void {
    const before = this.rows.get(keyOf(kind, id));
    assert.equal(before?.version, version);
    if (MOVES[kind]) assert.ok(before && isPassing(before), `${id} is purged`);
    this.rows.delete(keyOf(kind, id));
    this.facts.set(kind, id, undefined);
  }

  #inserted(row: Row): void {
    assert.ok(!this.rows.has(keyOf(row.kind, row.id)), `${row.id} was there already`);
    assert.equal(row.version, 1);
    const tenants: string[] = [
      KIND.eulaAcceptance,
      KIND.streamingImage,
      KIND.studioComponent,
      KIND.launchProfile,
      KIND.launchProfileMember,
      KIND.studioMember,
    ];
    if (tenants.includes(row.kind) && row.studioId !== 'amazon') {
      const studio = this.rows.get(keyOf(KIND.studio, row.studioId));
      assert.ok(studio && OPEN.includes(studio.state), `${row.kind} in a studio that is ${studio?.state}`);
    }
    if (row.kind === KIND.launchProfileMember) {
      const profile = this.rows.get(keyOf(KIND.launchProfile, row.parentId!));
      assert.ok(profile && OPEN.includes(profile.state), `a member of a profile that is ${profile?.state}`);
    }
    this.#set(row);
    const named: string[] = [KIND.streamingImage, KIND.studioComponent, KIND.launchProfile];
    if (named.includes(row.kind)) {
      const { name } = JSON.parse(row.doc) as { name: string };
      this.inserted.set(name, [...(this.inserted.get(name) ?? []), row.id]);
    }
    this.onInsert(row);
  }

  #replaced(row: Row): void {
    const before = this.rows.get(keyOf(row.kind, row.id));
    assert.ok(before, `${row.id} was not there`);
    assert.equal(row.version, before.version + 1, `version of ${row.id}`);
    const moves = MOVES[row.kind]?.[before.state];
    assert.ok(!MOVES[row.kind] || moves?.includes(row.state), `${row.kind} went from ${before.state} to ${row.state}`);
    const [old, doc] = [JSON.parse(before.doc), JSON.parse(row.doc)];
    if (MOVES[row.kind]) assert.equal(doc.state, row.state);
    for (const member of FIXED) assert.equal(doc[member], old[member], `${member} of ${row.id}`);
    for (const column of ['studioId', 'createdAt'] as const) assert.equal(row[column], before[column]);
    if (row.kind === KIND.streamingImage) this.#countKept(before, row);
    this.#set(row);
  }

  #countKept(before: Row, row: Row): void {
    const isKept = ({ private: text }: Row) => (JSON.parse(text) as { kept?: boolean }).kept === true;
    if (isKept(row) && !isKept(before)) this.below.kept += 1;
    if (isKept(before) && !isKept(row)) this.below.released += 1;
  }

  #set(row: Row): void {
    this.rows.set(keyOf(row.kind, row.id), row);
    this.facts.set(row.kind, row.id, row);
  }

  #checkEverything(): void {
    const counts = new Map<string, number>();
    const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1);
    const names = new Set<string>();
    for (const row of this.rows.values()) {
      if (!MOVES[row.kind]) continue;
      const works = row.state.endsWith('_IN_PROGRESS') || isPassing(row) || isTimed(row);
      assert.equal(row.dueAt !== null, works, `${row.id} is ${row.state}, due at ${row.dueAt}`);
      if (row.kind === KIND.studio) this.#checkStudio(row, names);
      else this.#checkTenant(row, count);
    }
    const { images, components, sharedFileSystems, profiles, sessions, g5Sessions } = this.#quotas;
    const limits: Record<string, number> = {
      [KIND.streamingImage]: images,
      [KIND.studioComponent]: components,
      [KIND.launchProfile]: profiles,
      [KIND.streamingSession]: sessions,
      G5: g5Sessions,
      SHARED_FILE_SYSTEM: sharedFileSystems,
      ACTIVE_DIRECTORY: 1,
    };
    for (const [what, found] of counts) {
      const limit = limits[what.split(' ')[1]!] ?? Number.POSITIVE_INFINITY;
      assert.ok(found <= limit, `${found} of ${what}`);
    }
  }

  /** A studio that never came to be has given its name back, and keeps no other from it. */
  #checkStudio({ id, state, doc, uniqueName }: Row, names: Set<string>): void {
    if (uniqueName === null) {
      assert.ok(!OPEN.includes(state) && !state.startsWith('UPDATE'), `${id} is ${state} without a name`);
      return;
    }
    assert.equal(uniqueName, (JSON.parse(doc) as { studioName: string }).studioName);
    assert.ok(state !== 'DELETED' && !names.has(uniqueName), `two studios are called ${uniqueName}`);
    names.add(uniqueName);
  }

  /** What lives in a studio, or was provided for every one of them. */
  #checkTenant(row: Row, count: (what: string) => void): void {
    if (row.state === 'DELETED') {
      assert.equal(row.uniqueName, null, `${row.id} keeps a name from others`);
      return;
    }
    if (row.studioId !== 'amazon') {
      count(`${row.studioId} ${row.kind}`);
      const studio = this.rows.get(keyOf(KIND.studio, row.studioId));
      assert.ok(studio && studio.state !== 'DELETED', `${row.id} outlives its studio`);
    }
    if (row.kind === KIND.studioComponent) this.#checkComponent(row, count);
    else if (row.kind === KIND.launchProfile) this.#checkProfile(row);
    else if (row.kind === KIND.streamingSession) this.#checkSession(row, count);
    else if (row.kind === KIND.streamingImage && row.state === 'READY') this.#checkReadable(row);
  }

  /** One that has come to be holds a seat exactly where its type has a quota. */
  #checkComponent(row: Row, count: (what: string) => void): void {
    if (row.state.startsWith('CREATE_')) return;
    const { type } = JSON.parse(row.doc) as StudioComponent;
    const seated = type === 'ACTIVE_DIRECTORY' || type === 'SHARED_FILE_SYSTEM';
    const begins = `${row.studioId}/${type}/`;
    // One that failed can be on its way out without a seat.
    if (!row.state.startsWith('DELETE_')) {
      assert.equal(row.uniqueName?.startsWith(begins) ?? false, seated, `${row.id} holds ${row.uniqueName}`);
    }
    if (row.uniqueName) count(`${row.studioId} ${type}`);
  }

  /** What stood before is kept as long as a change of it may still be taken back, and no longer. */
  #checkProfile({ id, state, private: text }: Row): void {
    assert.equal('before' in JSON.parse(text), state === 'UPDATE_IN_PROGRESS', `${id} is ${state} with ${text}`);
  }

  /** Whatever has become of its image, what is below its volume can be read. */
  #checkSession(row: Row, count: (what: string) => void): void {
    if (isG5(row)) count(`${row.studioId} G5`);
    if (!this.#stands(row)) return;
    const { streamingImageId } = JSON.parse(row.doc) as StreamingSession;
    const image = this.rows.get(keyOf(KIND.streamingImage, streamingImageId!));
    assert.ok(image, `${row.id} is ${row.state} without a row of its image`);
    this.#checkReadable(image);
  }

  #checkReadable(row: Row): void {
    if (!this.#drivers) return;
    const { images, keys } = this.#drivers;
    const [copy, key] = [images.copies.get(row.id), keys.dataKeys.get(row.id)];
    assert.ok(copy, `${row.id} is ${row.state} without bytes`);
    assert.ok(key, `${row.id} is ${row.state} without a key`);
    assert.equal(copy.passphrase, key.passphrase, `the key of ${row.id} does not open its bytes`);
    assert.equal(key.keyArn, (JSON.parse(row.doc) as StreamingImage).encryptionConfiguration?.keyArn);
  }

  /** Everything that was acknowledged is in the database, and nothing else is. */
  async assertSameAsDatabase(): Promise<void> {
    for (const kind of Object.values(KIND)) {
      const found = await this.#store.list({ kind, limit: 100_000 });
      const expected = [...this.rows.values()].filter((row) => row.kind === kind);
      const sorted = (rows: readonly Row[]) => rows.map((row) => ({ ...row })).sort((a, b) => (a.id < b.id ? -1 : 1));
      assert.deepEqual(sorted(found), sorted(expected));
    }
  }
}
