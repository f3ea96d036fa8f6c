/** The servers that the bench measures: Backlot on a data directory of its own, and the bare one. All on one core. */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { newRow } from '../../src/domain/kinds.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import type { Store, Write } from '../../src/store/store.ts';
import { type Credentials, type LoadRequest, signer } from './load.ts';

export const REGION = 'us-west-2';
const SERVER_CORE = '0';
const TICK_US = 10_000;

export interface RunningServer {
  readonly url: string;
  readonly host: string;
  readonly process: ChildProcess;
  /** CPU time used so far in µs: says what a request costs whatever else the machine is doing. */
  readonly cpuMicros: () => number;
  /** Memory in MB. */
  readonly residentMegabytes: () => number;
}

export interface BacklotServer extends RunningServer {
  /** Its database, beside it. */
  readonly openStore: () => Promise<Store>;
  /** A signed request outside the measurement. @throws when it is refused. */
  readonly send: (request: LoadRequest) => Promise<string>;
  readonly sign: () => (request: LoadRequest) => string;
}

const children = new Set<ChildProcess>();

export function stopAll(): void {
  for (const child of children) child.kill('SIGKILL');
}

function start(
  port: number,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  core = SERVER_CORE,
  output: 'ignore' | 'pipe' = 'ignore',
): RunningServer {
  const child = spawn('taskset', ['-c', core, process.execPath, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', output, 'inherit'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  const host = `127.0.0.1:${port}`;
  return {
    url: `http://${host}`,
    host,
    process: child,
    cpuMicros: () => {
      const fields = readFileSync(`/proc/${child.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
      return (Number(fields[11]) + Number(fields[12])) * TICK_US;
    },
    residentMegabytes: () =>
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))![1]) / 1_000,
  };
}

/** A program of the bench that serves Backlot; what it prints can be read. */
export async function startNode(
  port: number,
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<RunningServer> {
  const server = start(port, args, environment, SERVER_CORE, 'pipe');
  await untilUp(`${server.url}/readyz`);
  return server;
}

export async function startBare(port: number): Promise<RunningServer> {
  const server = start(port, ['test/bench/bare.ts', String(port)], {});
  await untilUp(server.url);
  return server;
}

export interface BacklotOptions {
  readonly dataDir: string;
  readonly port: number;
  readonly nodeFlags?: readonly string[];
  readonly core?: string;
  /** SQLite in the data directory where absent. */
  readonly databaseUrl?: string;
  readonly openStore?: () => Promise<Store>;
  /** The data directory of the server that made the first access key. */
  readonly credentialsIn?: string;
}

export async function startBacklot(options: BacklotOptions): Promise<BacklotServer> {
  const { dataDir, port, nodeFlags = [], core, databaseUrl, credentialsIn = dataDir } = options;
  const environment = {
    BACKLOT_DATA_DIR: dataDir,
    BACKLOT_COMPUTE: 'simulated',
    BACKLOT_PORT: String(port),
    BACKLOT_QUOTA_STREAMING_IMAGES: '10000000',
    // Throttling is on, as it is by default, and never met.
    BACKLOT_THROTTLE_READS_PER_SECOND: '1000000',
    BACKLOT_THROTTLE_WRITES_PER_SECOND: '1000000',
    BACKLOT_LOG_LEVEL: 'warn',
    ...(databaseUrl !== undefined && { BACKLOT_DATABASE_URL: databaseUrl }),
  };
  const server = start(port, [...nodeFlags, 'src/main.ts', 'serve'], environment, core);
  await untilUp(`${server.url}/readyz`);
  const sign = () => signer(server.host, REGION, readCredentials(credentialsIn));
  const openOwn = async () => openSqlite({ path: join(dataDir, 'backlot.db'), now: () => 0 });
  const { openStore = openOwn } = options;
  return { ...server, openStore, sign, send: (request) => send(server, sign()(request), request) };
}

function readCredentials(dataDir: string): Credentials {
  const text = readFileSync(join(dataDir, 'credentials'), 'utf8');
  const value = (name: string) => new RegExp(`${name} = (.*)`).exec(text)![1]!;
  return { accessKeyId: value('aws_access_key_id'), secretAccessKey: value('aws_secret_access_key') };
}

async function send(server: RunningServer, raw: string, { method, path, query }: LoadRequest): Promise<string> {
  const [head, body] = raw.split('\r\n\r\n') as [string, string];
  const lines = head.split('\r\n').slice(1);
  const pairs = lines.map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)] as const);
  const headers = Object.fromEntries(pairs.filter(([name]) => name !== 'host' && name !== 'content-length'));
  const url = `${server.url}${path}${query ? `?${query}` : ''}`;
  const response = await fetch(url, { method, headers, ...(body && { body }) });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
  return response.text();
}

async function untilUp(url: string): Promise<void> {
  const ATTEMPTS = 600;
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (await isUp(url)) return;
    await delay(50);
  }
  throw new Error(`${url} did not come up`);
}

export function isUp(url: string): Promise<boolean> {
  return fetch(url).then(
    (response) => response.ok,
    () => false,
  );
}

export interface Studio {
  readonly server: BacklotServer;
  /** Path of the studio's images. */
  readonly base: string;
  readonly imageIds: readonly string[];
}

const DESCRIPTION = 'Houdini 20.5, Nuke 15 and Maya 2025 on Rocky Linux 9, with the plugins and licences of the show';

/** A READY studio with so many images, put into the database directly: the API would copy real disks. */
export async function makeStudio(server: BacklotServer, imageCount: number): Promise<Studio> {
  const role = 'arn:aws:iam::000000000000:role/x';
  const body = JSON.stringify({ studioName: 'bench', displayName: 'Bench', adminRoleArn: role, userRoleArn: role });
  const made = await server.send({ method: 'POST', path: '/2020-08-01/studios', body });
  const { studioId } = (JSON.parse(made) as { studio: { studioId: string } }).studio;
  const path = `/2020-08-01/studios/${encodeURIComponent(studioId)}`;
  while (!(await server.send({ method: 'GET', path })).includes('"READY"')) await delay(50);
  const imageIds = await seedImages(server, studioId, imageCount);
  return { server, base: `${path}/streaming-images`, imageIds };
}

async function seedImages({ openStore }: BacklotServer, studioId: string, count: number): Promise<string[]> {
  const store = await openStore();
  const imageIds: string[] = [];
  const BATCH = 5_000;
  for (let start = 0; start < count; start += BATCH) {
    const batch: Write[] = [];
    for (let index = start; index < Math.min(count, start + BATCH); index += 1) {
      const id = Buffer.from(randomUUID().replaceAll('-', ''), 'hex').toString('base64url');
      imageIds.push(id);
      batch.push({ op: 'insert', row: imageRow(id, studioId, index) });
    }
    await store.write(batch);
  }
  await store.close();
  return imageIds;
}

function imageRow(id: string, studioId: string, index: number) {
  const doc = JSON.stringify({
    arn: `arn:aws:nimble:${REGION}:000000000000:streaming-image/${id}`,
    description: DESCRIPTION,
    ec2ImageId: 'ami-0123456789abcdef0',
    eulaIds: [],
    name: `Workstation ${index}`,
    owner: studioId,
    platform: 'LINUX',
    state: 'READY',
    statusCode: 'STREAMING_IMAGE_READY',
    statusMessage: 'Streaming Image has been created',
    streamingImageId: id,
    tags: { department: 'lighting', show: 'alpha' },
  });
  const createdAt = 1_700_000_000_000 + index;
  return newRow({ kind: 'streaming-image', id, studioId, state: 'READY', createdAt, doc });
}

/** What is measured, by name: `count` signed requests against a studio, spread over its images. */
export const CASES: Readonly<Record<string, (studio: Studio, count: number) => string[]>> = {
  Get: spread((base, id) => ({ method: 'GET', path: `${base}/${id}` })),
  'List 100': spread((base) => ({ method: 'GET', path: base })),
  Update: spread((base, id, serial) => update(base, id, serial)),
  'Update with client token': spread((base, id, serial) => ({
    ...update(base, id, serial),
    clientToken: randomUUID(),
  })),
};

function update(base: string, id: string, serial: number): LoadRequest {
  const body = JSON.stringify({ name: `Workstation ${serial}`, description: DESCRIPTION });
  return { method: 'PATCH', path: `${base}/${id}`, body };
}

function spread(make: (base: string, id: string, serial: number) => LoadRequest) {
  // A large prime: consecutive requests meet different images, and many of them.
  const STRIDE = 7_919;
  let made = 0;
  return ({ server, base, imageIds }: Studio, count: number): string[] => {
    const sign = server.sign();
    // Where the requests before have ended: what the store keeps ready of theirs must not answer these.
    const first = made;
    made += count;
    return Array.from({ length: count }, (_, index) =>
      sign(make(base, imageIds[((first + index) * STRIDE) % imageIds.length]!, first + index)),
    );
  };
}
