/**
 * The composition root: the only file, with main.ts, that knows every part. It opens the parts, hands each what it needs,
 * and closes them in the right order; it decides nothing about studios, requests or images.
 */
import { statfs } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { readCertificate, tellOfCertificate } from './certificate.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Compute } from './compute/compute.ts';
import type { Config } from './config.ts';
import { type OperationName, operations } from './contract/index.ts';
import { createCredentialFinder } from './credential-finder.ts';
import { type DataDirectory, lockDataDirectory, openDataDirectory, reasonOf, StartError } from './data-directory.ts';
import { createAuditTrail } from './domain/audit.ts';
import type { DomainSettings, Handler, Principal, Services } from './domain/context.ts';
import { createGrants } from './domain/grant.ts';
import { handlers } from './domain/index.ts';
import { KIND } from './domain/kinds.ts';
import { logIn } from './domain/login.ts';
import { LoginLimits } from './domain/login-limits.ts';
import { createPasswords } from './domain/password.ts';
import { perform } from './domain/perform.ts';
import { createThrottle, type Throttle } from './domain/throttle.ts';
import { Turns } from './domain/turns.ts';
import { type Engine, openEngine } from './engine.ts';
import { createGateway } from './gateway/gateway.ts';
import { createIds, type Ids } from './ids.ts';
import { type ImageDirectory, openImageDirectory } from './images/directory.ts';
import { keepPlace, makeFirstAccessKey, placeOf, requireOwnKeys } from './installation.ts';
import { type LocalKeys, openLocalKeys } from './keys/local.ts';
import { createLog, type Log } from './log.ts';
import { createMetrics } from './metrics.ts';
import { SETTINGS } from './settings.ts';
import type { Wakes } from './store/postgres-wakes.ts';
import { openSqlite } from './store/sqlite.ts';
import type { Store } from './store/store.ts';
import { Arrivals } from './wire/arrivals.ts';
import { type Credential, createAuthenticator } from './wire/authenticate.ts';
import { answerLogin } from './wire/login.ts';
import type { PlainAnswer, PlainRequest } from './wire/plain.ts';
import { createRouter } from './wire/router.ts';
import { type Certificate, createApiServer } from './wire/server.ts';
import { launchProfileJobs } from './worker/launch-profile.ts';
import { streamingImageJobs } from './worker/streaming-image.ts';
import { type StreamingSessionPorts, streamingSessionJobs } from './worker/streaming-session.ts';
import { streamingSessionBackupJobs } from './worker/streaming-session-backup.ts';
import { createSessionHealth } from './worker/streaming-session-health.ts';
import { type StreamingSessionStreamPorts, streamingSessionStreamJobs } from './worker/streaming-session-stream.ts';
import { studioJobs } from './worker/studio.ts';
import { studioComponentJobs } from './worker/studio-component.ts';
import { createUpkeep } from './worker/upkeep.ts';
import { createWorker, type Job, type Worker } from './worker/worker.ts';

/** Parts that tests and tools may put in place of the real ones. */
export interface Overrides {
  readonly clock?: Clock;
  readonly ids?: Ids;
  readonly log?: Log;
  readonly pollMs?: number;
  /** What workstations run on, given what the settings chose. */
  readonly compute?: (chosen: Compute) => Compute;
}

/** What a command needs to work beside a running server. */
export interface Parts extends Omit<Services, 'wake' | 'turns' | 'audit'> {
  readonly config: Config;
  readonly directory: DataDirectory;
  readonly store: Store;
  readonly keys: LocalKeys;
  readonly images: ImageDirectory;
  readonly log: Log;
  readonly arrivals: Arrivals;
  /** Where the server listens; settled when it does. */
  readonly address: { url: string };
}

/** What a server works with: beside the rest, what workstations run on. */
export interface ServerParts extends Parts {
  readonly engine: Engine;
  readonly compute: Compute;
}

export interface Service {
  readonly parts: ServerParts;
  readonly worker: Worker;
  /** Listens, and starts background work. Resolves with the address that clients use. */
  listen(): Promise<string>;
  /** Reads the certificate for TLS again, for connections to come. One that cannot serve is told of in the log and not used. */
  renewCertificate(): void;
  /** Stops accepting, finishes what runs within `graceMs`, and closes everything. */
  close(graceMs?: number): Promise<void>;
}

/** A little less than the ten seconds that process managers commonly give. */
const GRACE_MS = 8_000;
/** With less than this on the disk, the next change of the database may be refused. */
const FREE_BYTES_MIN = 1024 * 1024;
/** For requests to be ended in, once their connections are closed. */
const LAST_ANSWERS_MS = 500;

/** @throws StartError with one line for the person at the terminal. */
export async function openParts(given: Config, overrides: Overrides = {}): Promise<Parts> {
  const clock = overrides.clock ?? systemClock;
  const directory = openDataDirectory(given.dataDir);
  const log = overrides.log ?? createLog(given.logLevel);
  const arrivals = new Arrivals();
  const store = await openStore(given, directory, clock, arrivals);
  try {
    const config: Config = { ...given, ...(await placeOf(given, store)) };
    const { region, accountId, diskReserveBytes } = config;
    const keys = await openLocalKeys({ directory: directory.keys, region, accountId, clock });
    const images = await openImageDirectory({ directory: directory.images, diskReserveBytes, clock });
    await requireOwnKeys({ store, keys, images, clock });
    const address = { url: addressOf(config, config.port) };
    const settings = domainSettings(config, address);
    const ids = overrides.ids ?? createIds();
    return { config, directory, store, arrivals, keys, images, log, clock, ids, settings, address };
  } catch (error) {
    await store.close();
    throw new StartError(reasonOf(error));
  }
}

async function openStore(config: Config, directory: DataDirectory, clock: Clock, arrivals: Arrivals): Promise<Store> {
  const { databaseUrl: url, databaseConnectionsMax: connectionsMax } = config;
  try {
    if (url === undefined) return openSqlite({ path: directory.database, now: clock.now, turn: arrivals.turn });
    // Loaded only where it is used: it takes a noticeable part of the time that a start has.
    const { openPostgres } = await import('./store/postgres.ts');
    return await openPostgres({ url, connectionsMax, now: clock.now });
  } catch (error) {
    const which = url === undefined ? directory.database : `of ${SETTINGS.databaseUrl.env}`;
    throw new StartError(`The database ${which} cannot be opened: ${reasonOf(error)}`);
  }
}

function domainSettings(config: Config, address: { readonly url: string }): DomainSettings {
  const { region, accountId, tombstoneMs, tokenMs } = config;
  const { streamingImagesMax, studioComponentsMax, sharedFileSystemsMax } = config;
  const { launchProfilesMax, streamingSessionsMax, g5SessionsMax, sessionsPerOwnerMax } = config;
  const quotas = {
    streamingImagesMax,
    studioComponentsMax,
    sharedFileSystemsMax,
    launchProfilesMax,
    streamingSessionsMax,
    g5SessionsMax,
    sessionsPerOwnerMax,
  };
  return { region, accountId, tombstoneMs, tokenMs, ...quotas, publicUrl: () => config.publicUrl ?? address.url };
}

/** IPv6 addresses stand in brackets. */
function addressOf({ host, tlsCertFile }: Config, port: number): string {
  return `${tlsCertFile === undefined ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`;
}

/** @throws StartError */
export async function createService(config: Config, overrides: Overrides = {}): Promise<Service> {
  // First: a start that it ends must not have made anything.
  const certificate = readCertificate(config);
  const unlock = lockDataDirectory(openDataDirectory(config.dataDir));
  try {
    const parts = await openParts(config, overrides);
    const engine = await openEngine(parts).catch(async (error: unknown) => {
      await parts.store.close();
      throw new StartError(reasonOf(error));
    });
    const compute = overrides.compute?.(engine.compute) ?? engine.compute;
    return assemble({ ...parts, engine, compute }, overrides, unlock, certificate);
  } catch (error) {
    unlock();
    throw error;
  }
}

function assemble(
  parts: ServerParts,
  overrides: Overrides,
  unlock: () => void,
  certificate: Certificate | undefined,
): Service {
  const { config, store, keys, images, log, clock, engine } = parts;
  const metrics = createMetrics(store, clock.now, async () =>
    (await images.list()).reduce((total, { sizeBytes }) => total + sizeBytes, 0),
  );
  const worker = createWorker({
    store,
    clock,
    log,
    leaseMs: config.leaseMs,
    tombstoneMs: config.tombstoneMs,
    jobs: [
      ...studioJobs({ store, keys }),
      ...studioComponentJobs({ store, keys }),
      ...streamingImageJobs({ store, images, keys, clock, importsMax: config.importsMax }),
      ...launchProfileJobs({ store, keys }),
      ...sessionJobs(parts),
    ],
    moved: metrics.moved,
    ...(overrides.pollMs !== undefined && { pollMs: overrides.pollMs }),
  });
  const health = createSessionHealth({ ...parts, ended: metrics.workstationEnded, wake: worker.wake });
  const audit = createAuditTrail({ ...parts, omitted: metrics.auditOmitted });
  const upkeep = createUpkeep({ ...parts, audit, auditMs: config.auditMs });
  const router = createRouter<Handler<OperationName>>(operations, handlers as Record<string, Handler<OperationName>>);
  const authenticate = createAuthenticator({
    region: config.region,
    clockSkewMs: config.clockSkewMs,
    clock,
    allowUnsignedPayload: false,
    findCredential: createCredentialFinder(store, keys),
    ...(config.publicUrl && { publicHost: new URL(config.publicUrl).host }),
  });
  const withPolicies = createGrants(store);
  const services: Services = { ...parts, turns: new Turns(), audit, wake: worker.wake };
  const throttle = throttleOf(config);
  const loginParts = { ...parts, passwords: createPasswords(), limits: new LoginLimits(), loginMs: config.loginMs };
  const gateway = createGateway({
    ...parts,
    metrics: metrics.streams,
    services: { ...parts, viewersMax: config.streamViewersMax },
  });
  let ready = false;
  let wakes: Wakes | undefined;
  const server = createApiServer<Handler<OperationName>, Principal>(
    {
      match: router.match,
      authenticate: (request) => authenticate(request) as Promise<Credential & Principal>,
      admit: ({ principalId }, { access }) => throttle(principalId, access),
      perform: (operation, handler, input, signer, origin) => {
        const principal = withPolicies(signer);
        if (!(principal instanceof Promise)) return perform(operation, handler, input, principal, services, origin);
        return principal.then((found) => perform(operation, handler, input, found, services, origin));
      },
      refused: ({ principal, ...call }, error) => {
        metrics.refused(error, call.operation.access, principal !== undefined);
        if (principal) audit.refused({ ...call, principal }, error);
      },
      findPlace: gateway.findPlace,
      upgrades: gateway.upgrades,
    },
    new Map<string, (request: PlainRequest) => Promise<PlainAnswer>>([
      ['GET /healthz', async () => plainText(200, 'ok')],
      ['GET /readyz', () => readiness(parts, ready)],
      ['GET /metrics', async () => ({ status: 200, ...(await metrics.render()) })],
      ['POST /login', (request) => answerLogin(request, (login) => logIn(login, loginParts))],
    ]),
    config,
    {
      arrived: parts.arrivals.arrived,
      answered: metrics.answered,
      failed: (error, requestId, operation) => log.error({ err: error, requestId, operation }, 'request failed'),
    },
    certificate,
  );
  return {
    parts,
    worker,
    listen: async () => {
      await keepPlace(parts);
      await makeFirstAccessKey(parts);
      await listening(server, config);
      // Only now is it known which port `--port 0` came to.
      parts.address.url = addressOf(config, (server.address() as AddressInfo).port);
      worker.start();
      wakes = await listenToOthers(parts, worker);
      upkeep.start();
      if (engine.seesAll) health.start();
      ready = true;
      log.info({ address: parts.address.url }, 'listening');
      engine.tell();
      if (certificate) tellOfCertificate(certificate, clock, log);
      return parts.address.url;
    },
    renewCertificate: () => renewCertificate(server, parts),
    close: async (graceMs = GRACE_MS) => {
      ready = false;
      gateway.close();
      const closed = server.listening ? new Promise((resolve) => server.close(resolve)) : undefined;
      server.closeIdleConnections();
      const impatience = setTimeout(() => server.closeAllConnections(), graceMs);
      const ended = Promise.all([closed, worker.stop(), upkeep.stop(), health.stop(), wakes?.close()]).then(
        audit.flush,
      );
      // What hangs longer (a disk that does not sync) is left to the next start, as after a crash.
      const patience = new AbortController();
      const late = delay(graceMs + LAST_ANSWERS_MS, 'late', { signal: patience.signal }).catch(() => undefined);
      if ((await Promise.race([ended, late])) === 'late') {
        log.error({}, 'stopping without waiting any longer for work that does not end');
      }
      patience.abort();
      clearTimeout(impatience);
      await store.close();
      unlock();
    },
  };
}

type SessionParts = Omit<StreamingSessionPorts, 'startsMax'> &
  StreamingSessionStreamPorts &
  Pick<ServerParts, 'config' | 'engine'>;

/** What a server does that has workstations, or that fails sessions for as long as no server has any. */
export function sessionJobs(parts: SessionParts): Job[] {
  const { engine, config } = parts;
  if (!engine.works) return [];
  const jobs = [
    ...streamingSessionJobs({ ...parts, startsMax: config.sessionStartsMax }),
    ...streamingSessionBackupJobs(parts),
    ...streamingSessionStreamJobs(parts),
  ];
  const isOurs = engine.stillWorks;
  return isOurs ? jobs.map((job) => ({ ...job, isOurs })) : jobs;
}

/** Servers of one database tell each other when there is work; without it, each finds it by looking. */
async function listenToOthers({ config, log }: Parts, { wake }: Worker): Promise<Wakes | undefined> {
  if (config.databaseUrl === undefined) return undefined;
  const { listenForWakes } = await import('./store/postgres-wakes.ts');
  return listenForWakes({ url: config.databaseUrl, onWake: wake, warn: (message) => log.warn({}, message) });
}

function renewCertificate(server: Server | TlsServer, { config, clock, log }: Parts): void {
  if (!('setSecureContext' in server)) return;
  try {
    const certificate = readCertificate(config)!;
    server.setSecureContext(certificate);
    tellOfCertificate(certificate, clock, log);
  } catch (error) {
    log.error({ reason: reasonOf(error) }, 'the TLS certificate could not be renewed; the one before stays in use');
  }
}

function throttleOf(config: Config): Throttle {
  if (!config.throttle) return () => undefined;
  const { throttleReadsPerSecond: readsPerSecond, throttleWritesPerSecond: writesPerSecond } = config;
  return createThrottle({ readsPerSecond, writesPerSecond }, () => performance.now());
}

function listening(server: Server | TlsServer, { host, port }: Config): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code === 'EADDRINUSE' ? 'the port is in use; choose another with --port' : error.message;
      reject(new StartError(`Cannot listen on ${host}:${port}: ${reason}`));
    });
    server.listen(port, host, resolve);
  });
}

function plainText(status: number, body: string): PlainAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${body}\n` };
}

/** 200 only when requests are served: the server listens, the database answers, and there is room for it to write. */
async function readiness({ store, directory }: Parts, ready: boolean): Promise<PlainAnswer> {
  if (!ready) return plainText(503, 'starting or stopping');
  try {
    await store.count({ kind: KIND.accessKey, limit: 1 });
    const { bavail, bsize } = await statfs(directory.path);
    if (bavail * bsize < FREE_BYTES_MIN) return plainText(503, 'the disk of the data directory is full');
    return plainText(200, 'ready');
  } catch {
    return plainText(503, 'the database does not answer');
  }
}
