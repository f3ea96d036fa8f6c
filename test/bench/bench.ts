/**
 * `npm run bench`: what the API costs, as ratios to a bare node:http server that answers the same bytes, in bursts that
 * take turns in one run. Absolute numbers mean nothing on a noisy machine; the ratios do. Nothing here passes or fails.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { openSqlite } from '../../src/store/sqlite.ts';
import { newRow } from '../../src/domain/kinds.ts';
import type { Write } from '../../src/store/store.ts';
import { burst, type LoadRequest, type Measured, median, signer } from './load.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '64' },
    images: { type: 'string', default: '100' },
    profile: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
});
const rounds = Number(flags.rounds);
const seconds = Number(flags.seconds);
const connections = Number(flags.connections);
const REGION = 'us-west-2';
const SERVER_CORE = '0';
const LOAD_CORE = '1';
const PORT = 18_642;
const BARE_PORT = 18_643;
const directory = mkdtempSync(join(tmpdir(), 'backlot-bench-'));
const children: ChildProcess[] = [];

function start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
  const child = spawn('taskset', ['-c', SERVER_CORE, process.execPath, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  children.push(child);
  return child;
}

async function untilUp(url: string): Promise<void> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (await fetch(url).then((response) => response.ok, () => false)) return;
    await delay(50);
  }
  throw new Error(`${url} did not come up`);
}

/** CPU time that a process has used so far, in µs: says what a request costs whatever else the machine is doing. */
function cpuMicros(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  const TICK_US = 10_000;
  return (Number(fields[11]) + Number(fields[12])) * TICK_US;
}

/** Images put into the database directly: making them through the API would copy real disks. */
async function seed(dataDir: string, studioId: string, count: number): Promise<string[]> {
  const store = openSqlite({ path: join(dataDir, 'backlot.db'), now: Date.now });
  const ids: string[] = [];
  let batch: Write[] = [];
  for (let index = 0; index < count; index += 1) {
    const id = Buffer.from(randomUUID().replaceAll('-', ''), 'hex').toString('base64url');
    ids.push(id);
    const doc = JSON.stringify({
      arn: `arn:aws:nimble:${REGION}:000000000000:streaming-image/${id}`,
      description: 'Houdini 20.5, Nuke 15 and Maya 2025 on Rocky Linux 9, with the plugins and licences of the show',
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
    batch.push({ op: 'insert', row: newRow({ kind: 'streaming-image', id, studioId, state: 'READY', createdAt: 1_700_000_000_000 + index, doc }) });
    if (batch.length === 5_000 || index === count - 1) {
      await store.write(batch);
      batch = [];
    }
  }
  await store.close();
  return ids;
}

async function main(): Promise<void> {
  const dataDir = join(directory, 'data');
  const profiling = flags.profile ? ['--cpu-prof', '--cpu-prof-dir=.bench-profile'] : [];
  const server = start([...profiling, 'src/main.ts', 'serve'], {
    BACKLOT_DATA_DIR: dataDir,
    BACKLOT_PORT: String(PORT),
    BACKLOT_QUOTA_STREAMING_IMAGES: '10000000',
    BACKLOT_LOG_LEVEL: 'warn',
  });
  const bareServer = start(['test/bench/bare.ts', String(BARE_PORT)]);
  await untilUp(`http://127.0.0.1:${PORT}/readyz`);
  await untilUp(`http://127.0.0.1:${BARE_PORT}/`);
  const text = readFileSync(join(dataDir, 'credentials'), 'utf8');
  const value = (name: string) => new RegExp(`${name} = (.*)`).exec(text)![1]!;
  const credentials = { accessKeyId: value('aws_access_key_id'), secretAccessKey: value('aws_secret_access_key') };
  const host = `127.0.0.1:${PORT}`;
  const send = async (request: LoadRequest): Promise<string> => {
    const raw = signer(host, REGION, credentials)(request);
    const [head, body] = raw.split('\r\n\r\n') as [string, string];
    const headers = Object.fromEntries(
      head.split('\r\n').slice(1).map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    delete headers.host;
    const response = await fetch(`http://${host}${request.path}${request.query ? `?${request.query}` : ''}`, {
      method: request.method,
      headers,
      ...(body && { body }),
    });
    if (!response.ok) throw new Error(`${request.method} ${request.path}: ${response.status} ${await response.text()}`);
    return response.text();
  };
  const role = 'arn:aws:iam::000000000000:role/x';
  const made = await send({
    method: 'POST',
    path: '/2020-08-01/studios',
    body: JSON.stringify({ studioName: 'bench', displayName: 'Bench', adminRoleArn: role, userRoleArn: role }),
  });
  const studioId = (JSON.parse(made) as { studio: { studioId: string } }).studio.studioId;
  const ids = await seed(dataDir, studioId, Number(flags.images));
  const base = `/2020-08-01/studios/${encodeURIComponent(studioId)}/streaming-images`;
  for (;;) {
    const { studio } = JSON.parse(await send({ method: 'GET', path: `/2020-08-01/studios/${encodeURIComponent(studioId)}` }));
    if (studio.state === 'READY') break;
    await delay(50);
  }
  let serial = 0;
  const some = (count: number, make: (id: string) => LoadRequest) => {
    const sign = signer(host, REGION, credentials);
    return Array.from({ length: count }, () => sign(make(ids[(serial++ * 7919) % ids.length]!)));
  };
  const patch = (id: string): LoadRequest => ({
    method: 'PATCH',
    path: `${base}/${id}`,
    body: JSON.stringify({ name: `Workstation ${serial}`, description: 'Houdini 20.5, Nuke 15 and Maya 2025 on Rocky Linux 9, with the plugins and licences of the show' }),
  });
  const cases: Record<string, () => string[]> = {
    GET: () => some(2_000, (id) => ({ method: 'GET', path: `${base}/${id}` })),
    'LIST 100': () => some(200, () => ({ method: 'GET', path: base })),
    UPDATE: () => some(4_000, patch),
    'UPDATE with token': () => some(seconds * 20_000, (id) => ({ ...patch(id), clientToken: randomUUID() })),
  };
  const load = { directory, connections, seconds, core: LOAD_CORE };
  for (const [name, make] of Object.entries(cases)) {
    if (flags.only && !name.startsWith(flags.only)) continue;
    const first: LoadRequest = name === 'LIST 100' ? { method: 'GET', path: base } : { method: 'GET', path: `${base}/${ids[0]}` };
    await fetch(`http://127.0.0.1:${BARE_PORT}/set`, { method: 'POST', body: await send(first) });
    const ours: (Measured & { cpu: number })[] = [];
    const bare: (Measured & { cpu: number })[] = [];
    await burst(`http://${host}`, make(), { ...load, seconds: 1 });
    for (let round = 0; round < rounds; round += 1) {
      const requests = make();
      const timed = async (url: string, pid: number) => {
        const before = cpuMicros(pid);
        const measured = await burst(url, requests, load);
        return { ...measured, cpu: (cpuMicros(pid) - before) / (measured.perSecond * seconds) };
      };
      bare.push(await timed(`http://127.0.0.1:${BARE_PORT}`, bareServer.pid!));
      ours.push(await timed(`http://${host}`, server.pid!));
    }
    const ratio = median(ours.map(({ perSecond }, index) => perSecond / bare[index]!.perSecond));
    const show = (measured: (Measured & { cpu: number })[]) =>
      `${median(measured.map(({ perSecond }) => perSecond)).toFixed(0)}/s p50 ${median(measured.map(({ medianMs }) => medianMs)).toFixed(2)} p99 ${median(measured.map(({ p99Ms }) => p99Ms)).toFixed(2)} ms, CPU ${median(measured.map(({ cpu }) => cpu)).toFixed(0)} µs`;
    process.stdout.write(`${name.padEnd(18)} ratio ${ratio.toFixed(2)}  ours ${show(ours)}  bare ${show(bare)}\n`);
  }
}

try {
  await main();
} finally {
  for (const child of children) child.kill('SIGTERM');
  await delay(500);
  rmSync(directory, { recursive: true, force: true });
}
