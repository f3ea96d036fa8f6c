/**
 * One run of the whole: users, processes and bad luck on one database, all drawn from one seed, then calm, and a look at
 * what is left. Time is virtual; a run of hours takes seconds.
 */
import assert from 'node:assert/strict';
import type { OperationName } from '../../src/contract/index.ts';
import { createAuditTrail } from '../../src/domain/audit.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { apply } from '../../src/domain/lifecycle.ts';
import { deleteEvent, streamingSessionLifecycle } from '../../src/domain/streaming-session-lifecycle.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { LOOK_MS } from '../../src/worker/streaming-image.ts';
import { createSessionHealth } from '../../src/worker/streaming-session-health.ts';
import { createUpkeep, ORPHAN_AGE_MS } from '../../src/worker/upkeep.ts';
import { createWorld, type ManualClock, silentLog, type World } from '../support/domain.ts';
import { mortalDrivers, mortalStore } from '../support/process.ts';
import { createRandom, type Random } from '../support/random.ts';
import { putEula } from '../support/rows.ts';
import { VirtualTimers } from '../support/virtual-timers.ts';
import { Cluster, LEASE_MS, turns } from './cluster.ts';
import { History } from './history.ts';
import { Ledger } from './ledger.ts';
import { Oracle } from './oracle.ts';
import { NOBODY, preparePeople, type RightsChange } from './people.ts';
import { assertSessionsTrue, LASTING, PASSING, prepareSessions, provideImage, SESSION_MINUTES } from './sessions.ts';
import { CUSTOMER_KEYS, liveAs, MACHINE_IMAGES, replayAll, type Shared } from './users.ts';
import { isPassing, isTimed, WatchedStore } from './watched-store.ts';

const USERS = 5;
const PROCESSES = 3;
const QUOTAS = { images: 4, components: 5, sharedFileSystems: 2, profiles: 4, sessions: 2, g5Sessions: 1 };
/** Images provided for every studio that sessions are made of. */
const BOOT_IMAGES = 3;
const MINUTE_MS = 60_000;
const MOVE_MS = 45 * MINUTE_MS;
/** Kinds of what users are told about and change. */
const TOLD_KINDS: readonly string[] = [KIND.studio, KIND.studioComponent, KIND.streamingImage, KIND.launchProfile];
/** Timers lag behind the clock when it leaps, as on a machine that slept. */
const TIMERS_MS_MAX = 3_000;

export interface Report {
  readonly answered: ReadonlyMap<OperationName, number>;
  readonly told: Shared['told'];
  readonly rightsChanged: ReadonlyMap<RightsChange, number>;
  readonly befell: Cluster['befell'];
  readonly commits: number;
  /** How often an image was deleted below sessions, and how often it went when these had gone. */
  readonly below: WatchedStore['below'];
  /** What the database held when everything had come to rest, as one text: the same seed gives the same. */
  readonly rest: string;
}

/** @throws when something is not as it must be. */
export async function simulate(seed: string, actions: number): Promise<Report> {
  const timers = new VirtualTimers();
  timers.install();
  try {
    return await run(createRandom(seed), seed, actions, timers);
  } finally {
    timers.restore();
  }
}

async function run(random: Random, seed: string, actions: number, timers: VirtualTimers): Promise<Report> {
  const settings = {
    streamingImagesMax: QUOTAS.images,
    studioComponentsMax: QUOTAS.components,
    sharedFileSystemsMax: QUOTAS.sharedFileSystems,
    launchProfilesMax: QUOTAS.profiles,
    streamingSessionsMax: QUOTAS.sessions,
    g5SessionsMax: QUOTAS.g5Sessions,
    tombstoneMs: random.pick([20, 90, 300]) * MINUTE_MS,
    tokenMs: random.pick([30, 120]) * MINUTE_MS,
    // The server moves now and then, and studios that were made before have another address.
    publicUrl: () => `http://${world.clock.now() % (2 * MOVE_MS) < MOVE_MS ? 'here' : 'there'}.example`,
  };
  const watched = new WatchedStore(openSqlite({ path: ':memory:', now: () => 0 }), QUOTAS);
  const world = createWorld({ store: mortalStore(watched), seed, settings });
  const prepared = await prepare(world, watched);
  mortalDrivers(world);
  watched.watchDestruction(world);
  const cluster = new Cluster(world, random.fork('cluster'), PROCESSES);
  const shared: Shared = { ...prepared, cluster };
  await live(shared, random, actions, timers);
  watched.assertSound();

  await comeToRest(world, watched);
  const rest = JSON.stringify(
    [...watched.rows.values()].map(({ id, state, version, doc }) => [id, state, version, doc]),
  );
  await assertKept(shared, random);
  await assertClean(world, watched);
  const { commits, below } = watched;
  await world.store.close();
  const { answered, told, rightsChanged } = shared;
  return { answered, told, rightsChanged, befell: cluster.befell, commits, below, rest };
}

/** Machine images, EULAs, people with what they may, customer keys, and images that are provided for every studio. */
async function prepare(world: World, watched: WatchedStore): Promise<Omit<Shared, 'cluster'>> {
  const history = new History();
  watched.onInsert = (row) => {
    if (TOLD_KINDS.includes(row.kind)) history.created(row);
  };
  world.keys.customerKeys.add(CUSTOMER_KEYS[0]!);
  const eulaIds = [await putEula(world, 'one'), await putEula(world, 'two'), await putEula(world, 'three')];
  for (const id of MACHINE_IMAGES.slice(0, 2)) await world.addMachineImage(id, { eulaIds });
  const bootImageIds: string[] = [];
  for (let index = 0; index < BOOT_IMAGES; index += 1) bootImageIds.push(await provideImage(world, { eulaIds: [] }));
  const providedIds = [await provideImage(world), await provideImage(world), ...bootImageIds];
  const sessionStudios = [
    await prepareSessions(world, bootImageIds, LASTING),
    await prepareSessions(world, bootImageIds, PASSING),
  ];
  const people = await preparePeople(world, sessionStudios);
  const users = people.others.filter(({ role, called }) => role === 'user' && called !== NOBODY);
  const principalIds = [...users.map(({ principalId }) => principalId), people.groupId];
  const oracle = new Oracle(watched.facts, people.rules);
  // What was changed was allowed, whether its caller was told or not.
  const ledger = new Ledger((call) => oracle.assertRightful(call));
  watched.onWritten = (batch) => ledger.written(batch);
  watched.watchDrivers(world);
  return {
    world,
    history,
    watched,
    eulaIds,
    providedIds,
    studioIds: [],
    images: [],
    components: [],
    profiles: [],
    principalIds,
    people,
    oracle,
    ledger,
    sessionStudios,
    successes: [],
    answered: new Map(),
    told: new Map(),
    rightsChanged: new Map(),
    created: new Map(),
    counter: 0,
  };
}

/** Users act and time goes by until all have done what they wanted; then every process ends what it is doing. */
async function live(shared: Shared, random: Random, actions: number, timers: VirtualTimers): Promise<void> {
  let acting = true;
  const users = Promise.all(
    Array.from({ length: USERS }, (_, index) => liveAs(shared, random.fork(`user ${index}`), actions)),
  ).finally(() => {
    acting = false;
  });
  users.catch(() => undefined);
  const luck = random.fork('time');
  while (acting) {
    await turns(1 + luck.below(6));
    pass(shared.world.clock, timers, luck);
  }
  await shared.cluster.end();
  await users;
}

function pass(clock: ManualClock, timers: VirtualTimers, random: Random): void {
  let ms = 50 + random.below(1_500);
  if (random.chance(0.02)) ms = 2 * LEASE_MS;
  if (random.chance(0.003)) ms = (10 + random.below(60)) * MINUTE_MS;
  clock.advance(ms);
  timers.tick(Math.min(ms, TIMERS_MS_MAX));
}

async function comeToRest(world: World, watched: WatchedStore): Promise<void> {
  // First what is under way: a session that is started only now has its time limit still before it.
  await settlePatiently(world);
  await assertAllRun(world, watched);
  // Every session that runs is stopped by its time limit, and every stream has expired.
  world.clock.advance(SESSION_MINUTES * MINUTE_MS);
  await settlePatiently(world);
  watched.assertSound();
  for (const row of watched.rows.values()) {
    assert.ok(!row.state.endsWith('_IN_PROGRESS'), `${row.kind} ${row.id} does not come to rest: ${row.state}`);
    assert.equal(row.dueAt !== null, isPassing(row) || isTimed(row), `${row.id} is ${row.state}, due at ${row.dueAt}`);
  }
}

/** Past every lease of a dead process, and every wait between two attempts. */
async function settlePatiently(world: World): Promise<void> {
  for (let round = 0; round < 10; round += 1) {
    await world.settle();
    world.clock.advance(2 * MINUTE_MS);
  }
  await world.settle();
}

/** Two looks later, whatever is READY runs. */
async function assertAllRun(world: World, { rows }: WatchedStore): Promise<void> {
  const health = createSessionHealth({ ...world, ...world.services, log: silentLog });
  for (let looks = 0; looks < 2; looks += 1) await health.runOnce();
  const running = new Set((await world.compute.list()).filter((found) => found.running).map(({ id }) => id));
  for (const { kind, id, state } of rows.values()) {
    if (kind === KIND.streamingSession && state === 'READY')
      assert.ok(running.has(id), `${id} is READY and does not run`);
  }
}

/** What users were told is so: rows, values, creations done once, tokens, and the audit tells all of it. */
async function assertKept(shared: Shared, random: Random): Promise<void> {
  const { watched, history, created } = shared;
  await watched.assertSameAsDatabase();
  const start = history.tick();
  for (const row of watched.rows.values()) {
    if (TOLD_KINDS.includes(row.kind)) history.assertExplained(row.id, JSON.parse(row.doc), start);
  }
  for (const [name, { acknowledgedId, certain, refused }] of created) {
    const made = watched.inserted.get(name) ?? [];
    if (acknowledgedId) assert.ok(made.includes(acknowledgedId), `${name} was acknowledged and is not there`);
    if (refused) assert.equal(made.length, 0, `${name} was refused and is there`);
    if (certain) assert.ok(made.length <= 1, `${name} was made ${made.length} times`);
  }
  const before = watched.commits;
  await replayAll(shared, random.fork('replay'));
  watched.assertSound();
  assert.equal(watched.commits, before, 'a replay has changed something');
  await shared.ledger.assertComplete(shared.world.store, shared.world.services.settings.tokenMs);
}

/** Bytes, keys and tokens are there as long as something needs them, and no longer. */
async function assertClean(world: World, watched: WatchedStore): Promise<void> {
  const { keys, images, compute, store, clock, services, auditMs } = world;
  const audit = createAuditTrail(services);
  const upkeep = createUpkeep({ store, keys, images, compute, clock, log: silentLog, audit, auditMs });
  clock.advance(ORPHAN_AGE_MS);
  await upkeep.runOnce();
  await assertSessionsTrue(world, watched);
  for (const [what, ids] of [
    ['bytes', images.copies.keys()],
    ['a key', keys.dataKeys.keys()],
  ] as const) {
    for (const id of ids) {
      const state = watched.rows.get(`${KIND.streamingImage}/${id}`)?.state;
      const isBehind = state === 'DELETE_FAILED' || watched.sessionsOn(id).length > 0;
      const wanted = state === 'READY' || isBehind || (what === 'a key' && state !== undefined);
      assert.ok(wanted, `there is ${what} of ${id}, which is ${state ?? 'gone'}`);
    }
  }
  clock.advance(world.services.settings.tombstoneMs + world.services.settings.tokenMs);
  await world.settle();
  await upkeep.runOnce();
  watched.assertSound();
  await watched.assertSameAsDatabase();
  assertNothingPasses(watched);
  await deleteSessions(world, watched);
  clock.advance(LOOK_MS);
  await world.settle();
  assertNoCopiesOfDeleted(world, watched);
  clock.advance(world.services.settings.tombstoneMs);
  await world.settle();
  watched.assertSound();
  assertNothingPasses(watched);
  const kept = [...watched.rows.values()];
  for (const id of [...images.copies.keys(), ...keys.dataKeys.keys()]) {
    assert.ok(watched.rows.has(`${KIND.streamingImage}/${id}`), `${id} is gone and has left something`);
  }
  for (const { kind, parentId, id } of kept) {
    if (kind !== KIND.launchProfileMember) continue;
    assert.ok(watched.rows.has(`${KIND.launchProfile}/${parentId}`), `membership ${id} outlives its profile`);
  }
  for (const { kind, studioId, id } of kept) {
    if (kind !== KIND.eulaAcceptance && kind !== KIND.studioMember) continue;
    assert.ok(watched.rows.has(`${KIND.studio}/${studioId}`), `${kind} ${id} outlives its studio`);
  }
  for (const key of watched.tokens) assert.equal(await store.token(key), undefined, 'an expired token is kept');
}

/** No tombstone outlives its time, but for those of images that sessions stand on. */
function assertNothingPasses(watched: WatchedStore): void {
  const left = [...watched.rows.values()].filter((row) => isPassing(row) && watched.sessionsOn(row.id).length === 0);
  assert.deepEqual(
    left.map(({ id }) => id),
    [],
  );
}

/** As their users could, whatever has become of them. */
async function deleteSessions({ store, clock, services, settle }: World, { rows }: WatchedStore): Promise<void> {
  const at = { now: clock.now(), tombstoneMs: services.settings.tombstoneMs };
  for (const row of [...rows.values()]) {
    if (row.kind !== KIND.streamingSession || row.state === 'DELETED') continue;
    await store.write([{ op: 'update', row: apply(streamingSessionLifecycle, row, deleteEvent(), at) }]);
  }
  await settle();
}

/** Once no session is left, nothing is left of what was deleted below one. */
function assertNoCopiesOfDeleted({ images, keys }: World, { rows }: WatchedStore): void {
  for (const id of [...images.copies.keys(), ...keys.dataKeys.keys()]) {
    assert.notEqual(rows.get(`${KIND.streamingImage}/${id}`)?.state, 'DELETED', `${id} has left something`);
  }
}
