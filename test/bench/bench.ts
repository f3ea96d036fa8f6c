/**
 * `npm run bench`: what the API costs, as ratios to a bare node:http server that answers the same bytes, in bursts that
 * take turns in one run. Absolute numbers mean nothing on a noisy machine; the ratios do. Nothing here passes or fails:
 * it prints what it measured and writes it to docs/benchmarks.md.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { measureAuthorization } from './authorization.ts';
import { measureDue } from './due.ts';
import { MOST_CONNECTIONS, measureGlance } from './glance.ts';
import { burst, type Measured, median } from './load.ts';
import { type PostgresPair, startPostgresPair, WHERE } from './postgres.ts';
import { measureSandbox } from './sandbox.ts';
import {
  type BacklotServer,
  CASES,
  isUp,
  makeStudio,
  type RunningServer,
  type Studio,
  startBacklot,
  startBare,
  stopAll,
} from './servers.ts';
import { measureStreams } from './streams.ts';
import { measureVolumes } from './volumes.ts';
import { measureWorkstations } from './workstations.ts';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '7' },
    bursts: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '2' },
    connections: { type: 'string', default: '64' },
    only: { type: 'string', default: '' },
    images: { type: 'string', default: '1000000' },
    'import-gib': { type: 'string', default: '10' },
    glance: { type: 'string', default: 'http://127.0.0.1:9292' },
    profile: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
  },
});

const PARTS =
  'throughput postgres scale authorization due streams start memory workstations volumes sandbox glance'.split(' ');
const USAGE = `npm run bench -- [--rounds N] [--bursts N] [--seconds N] [--connections N] [--images N] [--import-gib N]
  [--only PART] [--write] [--glance URL] [--profile]
A whole run writes docs/benchmarks.md, and one with --write the section it measured; --profile leaves a .cpuprofile in .bench-profile.
Parts: ${PARTS.join(', ')}`;

const rounds = Number(flags.rounds);
/** Of each server, in turns: many, as what else the machine does changes from second to second. */
const bursts = Number(flags.bursts);
const seconds = Number(flags.seconds);
const directory = mkdtempSync(join(tmpdir(), 'backlot-bench-'));
const load = { directory, connections: Number(flags.connections), seconds, core: '1' };
/** More than a server can answer in a burst, so that no token comes twice; and more than the store keeps ready. */
const requestsPerBurst = Math.max(seconds * 15_000, 30_000);
/** The same for servers that ask a database for every answer. */
const postgresRequests = Math.max(seconds * 10_000, 10_000);
const FEW_IMAGES = 100;

/** What may be aimed for, as a ratio to the bare server. */
const AIMS: Readonly<Record<string, number>> = {
  Get: 0.55,
  'List 100': 0.35,
  Update: 0.4,
  'Update with client token': 0.25,
};

const lines: string[] = [];
function report(line: string): void {
  process.stdout.write(`${line}\n`);
  lines.push(line);
}

type Costed = Measured & { readonly cpuMicros: number };

async function measured(server: RunningServer, requests: readonly string[]): Promise<Costed> {
  const before = server.cpuMicros();
  const result = await burst(server.url, requests, load);
  return { ...result, cpuMicros: (server.cpuMicros() - before) / (result.perSecond * seconds) };
}

/** The bare server answers what Backlot would. */
async function sameAnswer(bare: RunningServer, { server, base, imageIds }: Studio, name: string): Promise<void> {
  const path = name.startsWith('List') ? base : `${base}/${imageIds[0]}`;
  await fetch(`${bare.url}/set`, { method: 'POST', body: await server.send({ method: 'GET', path }) });
}

const middle = (all: readonly Costed[], of: keyof Costed) => median(all.map((one) => one[of]));

const WARM_UP_BURSTS = 4;

/** Both servers are measured as they run all day: with their code compiled. */
async function warmUp(servers: readonly RunningServer[], make: () => readonly string[]): Promise<void> {
  for (let round = 0; round < WARM_UP_BURSTS; round += 1) {
    const requests = make();
    for (const { url } of servers) await burst(url, requests, load);
  }
}

async function throughput(bare: RunningServer): Promise<void> {
  const nodeFlags = flags.profile ? ['--cpu-prof', '--cpu-prof-dir=.bench-profile'] : [];
  const server = await startBacklot({ dataDir: join(directory, 'few'), port: 18_642, nodeFlags });
  const studio = await makeStudio(server, FEW_IMAGES);
  report('## Throughput\n');
  report(
    `${load.connections} connections, signed requests as the JavaScript client sends them, every change synced to disk before it is answered. The ratio is the median of ${bursts} rounds, each a burst of ${seconds} s against the bare server and one against Backlot; ${WARM_UP_BURSTS} rounds before them warm both up.\n`,
  );
  report('| | ratio to bare | aim | p50 ms | p99 ms | CPU µs a request | bare: p50 ms | p99 ms | CPU µs |');
  report('|---|---|---|---|---|---|---|---|---|');
  for (const [name, make] of Object.entries(CASES)) {
    await sameAnswer(bare, studio, name);
    await warmUp([bare, server], () => make(studio, requestsPerBurst));
    const ours: Costed[] = [];
    const bares: Costed[] = [];
    for (let round = 0; round < bursts; round += 1) {
      const requests = make(studio, requestsPerBurst);
      bares.push(await measured(bare, requests));
      ours.push(await measured(server, requests));
    }
    const ratio = median(ours.map(({ perSecond }, index) => perSecond / bares[index]!.perSecond));
    const own = [
      middle(ours, 'medianMs').toFixed(1),
      middle(ours, 'p99Ms').toFixed(1),
      middle(ours, 'cpuMicros').toFixed(0),
    ];
    const limit = [
      middle(bares, 'medianMs').toFixed(1),
      middle(bares, 'p99Ms').toFixed(1),
      middle(bares, 'cpuMicros').toFixed(0),
    ];
    report(`| ${name} | ${ratio.toFixed(2)} | ${AIMS[name]} | ${own.join(' | ')} | ${limit.join(' | ')} |`);
  }
  report('');
  await ended(server);
}

/** Bursts at both servers at once, each with half of the connections. */
async function measuredTogether({ studios }: PostgresPair, make: (typeof CASES)[string]): Promise<Measured> {
  const results = await Promise.all(
    studios.map((studio, index) => {
      const own = join(directory, `load-${index}`);
      mkdirSync(own, { recursive: true });
      const half = { ...load, directory: own, connections: Math.ceil(load.connections / 2) };
      return burst(studio.server.url, make(studio, postgresRequests), half);
    }),
  );
  return {
    perSecond: results.reduce((sum, { perSecond }) => sum + perSecond, 0),
    medianMs: Math.max(...results.map(({ medianMs }) => medianMs)),
    p99Ms: Math.max(...results.map(({ p99Ms }) => p99Ms)),
  };
}

async function postgres(bare: RunningServer): Promise<void> {
  report('## PostgreSQL\n');
  const pair = await startPostgresPair(directory, FEW_IMAGES);
  try {
    report(
      `As above, with the database in PostgreSQL on the same machine, through a socket: one server alone, then two that share the connections; ${WHERE}. Of two, the times are those of the slower.\n`,
    );
    report('| | one: ratio to bare | p50 ms | p99 ms | two: ratio to bare | p50 ms | p99 ms |');
    report('|---|---|---|---|---|---|---|');
    for (const name of Object.keys(CASES)) report(await postgresRow(bare, pair, name));
    report('');
    for (const server of pair.servers) await ended(server);
  } finally {
    await pair.end();
  }
}

async function postgresRow(bare: RunningServer, pair: PostgresPair, name: string): Promise<string> {
  const make = CASES[name]!;
  const [studio] = pair.studios;
  await sameAnswer(bare, studio, name);
  await warmUp([bare], () => make(studio, postgresRequests));
  for (const each of pair.studios) await warmUp([each.server], () => make(each, postgresRequests));
  const bares: Measured[] = [];
  const alone: Measured[] = [];
  const both: Measured[] = [];
  for (let round = 0; round < bursts; round += 1) {
    const requests = make(studio, postgresRequests);
    bares.push(await burst(bare.url, requests, load));
    alone.push(await burst(studio.server.url, requests, load));
    both.push(await measuredTogether(pair, make));
  }
  const cells = [alone, both].flatMap((all) => [
    median(all.map(({ perSecond }, index) => perSecond / bares[index]!.perSecond)).toFixed(2),
    median(all.map(({ medianMs }) => medianMs)).toFixed(1),
    median(all.map(({ p99Ms }) => p99Ms)).toFixed(1),
  ]);
  return `| ${name} | ${cells.join(' | ')} |`;
}

async function scale(): Promise<void> {
  const many = Number(flags.images);
  const few = await makeStudio(await startBacklot({ dataDir: join(directory, 'scale-few'), port: 18_644 }), FEW_IMAGES);
  const full = await makeStudio(await startBacklot({ dataDir: join(directory, 'scale-many'), port: 18_645 }), many);
  report('## Scale\n');
  report(
    `The median time of a request with ${many.toLocaleString('en')} images in one studio, against ${FEW_IMAGES}, over ${bursts} rounds of ${seconds} s. Each request of a round and of those after it goes to another image, as far as there are so many.\n`,
  );
  report('| | ratio of medians | aim |');
  report('|---|---|---|');
  for (const [name, make] of Object.entries(CASES)) {
    const ratios: number[] = [];
    for (let round = 0; round < bursts; round += 1) {
      const small = await measured(few.server, make(few, requestsPerBurst));
      const large = await measured(full.server, make(full, requestsPerBurst));
      ratios.push(large.medianMs / small.medianMs);
    }
    report(`| ${name} | ${median(ratios).toFixed(2)} | 1.3 |`);
  }
  report('');
  await ended(few.server);
  await ended(full.server);
}

async function authorization(): Promise<void> {
  const micros = await measureAuthorization(rounds);
  report('## Permissions\n');
  report(
    `To ask a policy of 20 statements, of which the last allows: ${micros.toFixed(1)} µs a request (aim: 10 µs), alone and without HTTP.\n`,
  );
}

async function due(): Promise<void> {
  const sessions = 100_000;
  const { nothingMs, someMs } = await measureDue(directory, sessions, rounds);
  report('## Timers\n');
  report(
    `Among ${sessions.toLocaleString('en')} sessions with a time limit, a worker sees in ${nothingMs.toFixed(2)} ms that none is over, and takes sixteen that are over in ${someMs.toFixed(2)} ms, synced to disk (aim: 2 ms).\n`,
  );
}

async function streams(): Promise<void> {
  const costs = await measureStreams(directory, rounds);
  const { directMs, gatewayMs, megabytesPerSecond, megabytesPerCpuSecond, idleViewers, idleMegabytes } = costs;
  report('## Streams\n');
  report(
    `From a key to the update that answers it: ${directMs.toFixed(3)} ms at the desktop's own socket, ${gatewayMs.toFixed(3)} ms through the gateway, ` +
      `which adds ${(gatewayMs - directMs).toFixed(3)} ms (aim: 1 ms at most). In bulk ${megabytesPerSecond.toFixed(0)} MB/s, ` +
      `${megabytesPerCpuSecond.toFixed(0)} MB for each second of one core (aim: 300). ${idleViewers} idle viewers take ${idleMegabytes.toFixed(0)} MB (aim: under 60).\n`,
  );
}

async function startUp(): Promise<void> {
  const times: number[] = [];
  const dataDir = join(directory, 'start');
  await ended(await startBacklot({ dataDir, port: 18_646 }));
  for (let round = 0; round < rounds; round += 1) {
    const startedAt = performance.now();
    const server = await startBacklot({ dataDir, port: 18_646 });
    times.push(performance.now() - startedAt);
    await ended(server);
  }
  report('## Start\n');
  report(
    `From \`node src/main.ts serve\` to an answer of \`/readyz\`: median ${(median(times) / 1_000).toFixed(2)} s of ${rounds} starts (aim: 0.7 s), looked for every 50 ms.\n`,
  );
}

async function memory(): Promise<void> {
  const gib = Number(flags['import-gib']);
  const dataDir = join(directory, 'memory');
  const server = await startBacklot({ dataDir, port: 18_647 });
  await delay(2_000);
  const idle = server.residentMegabytes();
  const disk = join(directory, 'large.raw');
  writeFileSync(disk, '');
  truncateSync(disk, gib * 1024 ** 3);
  const command = ['src/main.ts', 'machine-image', 'import', disk, '--platform', 'LINUX', '--data-dir', dataDir];
  const { ec2ImageId } = JSON.parse(execFileSync(process.execPath, command, { encoding: 'utf8' }));
  const { base } = await makeStudio(server, 0);
  const body = JSON.stringify({ name: 'large', ec2ImageId });
  const made = JSON.parse(await server.send({ method: 'POST', path: base, body }));
  const path = `${base}/${made.streamingImage.streamingImageId}`;
  const startedAt = performance.now();
  let most = 0;
  for (let state = 'CREATE_IN_PROGRESS'; state === 'CREATE_IN_PROGRESS'; await delay(100)) {
    most = Math.max(most, server.residentMegabytes());
    state = JSON.parse(await server.send({ method: 'GET', path })).streamingImage.state;
  }
  report('## Memory\n');
  report(
    `Resident: ${idle.toFixed(0)} MB when idle, ${most.toFixed(0)} MB at most while a disk of ${gib} GiB was imported in ${((performance.now() - startedAt) / 1_000).toFixed(0)} s (aim: under 150 MB in both).\n`,
  );
  await ended(server);
}

async function ended(server: BacklotServer): Promise<void> {
  const exited = new Promise((resolve) => server.process.once('exit', resolve));
  server.process.kill('SIGTERM');
  await exited;
}

async function glance(): Promise<void> {
  report('## OpenStack Glance\n');
  if (!(await isUp(`${flags.glance}/v2/schemas/image`))) {
    report(
      `None was running at ${flags.glance}, so it was not measured. \`--glance URL\` names one without authentication.\n`,
    );
    return;
  }
  const result = await measureGlance(flags.glance, load);
  report(
    `Requests a second at ${flags.glance}, over at most ${MOST_CONNECTIONS} connections: ${result.map(([name, rate]) => `${name} ${rate.toFixed(0)}`).join(', ')}.\n`,
  );
}

function machine(): string {
  const [first] = cpus();
  return `${cpus().length} × ${first?.model.trim() ?? 'unknown'}, Node ${process.versions.node}; server and load pinned to a core each`;
}

const HEADER = '<!-- Written by `npm run bench`, down to "Notes". -->\n# Benchmarks\n';
const NOTES = '\n## Notes\n';

async function workstations(): Promise<void> {
  const costs = await measureWorkstations(rounds);
  const { ratio, guestMib, residentMib } = costs;
  const seconds = (value: number) => `${(value / 1_000).toFixed(1)} s`;
  report('## Workstations on QEMU\n');
  report(
    `From the call CreateStreamingSession to the first picture in a browser, of a tiny Linux under TCG: ${ratio.toFixed(2)} times (aim: at most 1.25) what the same guest takes in a QEMU started by hand until its agent answers and its display gives the first picture over RFB, without a browser. ` +
      `The ratio is the median of ${rounds} rounds, in which the two take turns; it was ${costs.ratios.map((one) => one.toFixed(2)).join(', ')}. At the median it took ${seconds(costs.byHandMs)} by hand; the session was READY after ${seconds(costs.readyMs)}, and its picture in the browser ${seconds(costs.pictureMs)} later, with a server that runs, the JavaScript client, and a Chromium that is open. Nothing here is pinned to a core. ` +
      `QEMU of a session is ${residentMib.toFixed(0)} MiB resident, with ${guestMib} MiB of memory for the guest (aim: at most 150 MB more).\n`,
  );
}

async function volumes(): Promise<void> {
  const { newMs, againMs, ratio } = await measureVolumes(rounds);
  report('## Volumes on QEMU\n');
  report(
    `From the call that starts a workstation until its machine has its disks, and that is on the disk: ${newMs.toFixed(0)} ms for a new one, whose key and encrypted volume are made while QEMU starts, and ${againMs.toFixed(0)} ms for one that has been there before. The ratio is ${ratio.toFixed(2)}, the median of ${rounds} rounds. Aimed for: nothing added.\n`,
  );
}

async function sandboxes(): Promise<void> {
  const { firstMs, nextMs } = await measureSandbox(rounds);
  report('## Sandboxed workstations\n');
  report(
    `From the call that starts one to its first picture, with the small root file system of the tests: ${firstMs.toFixed(0)} ms for the first of an image, which is decrypted and unpacked for it, and ${nextMs.toFixed(0)} ms for others, the median of ${rounds}. Aimed for: under 2000 ms.\n`,
  );
}

/** A whole run replaces all sections, and a part the one of its name where this machine wrote the rest; the notes are kept. */
function writeDocument(): void {
  const file = 'docs/benchmarks.md';
  const [before = '', notes = ''] = existsSync(file) ? readFileSync(file, 'utf8').split(NOTES) : [];
  const kept = flags.only !== '' && before.includes(machine()) ? sectionsOf(before) : [];
  const sections = new Map([...kept, ...sectionsOf(lines.join('\n'))]);
  writeFileSync(
    file,
    `${HEADER}\nOn ${machine()}. Each section is of one run of \`npm run bench\`.\n\n${[...sections.values()].join('\n\n')}\n${NOTES}${notes}`,
  );
}

/** By heading. */
function sectionsOf(text: string): [string, string][] {
  const starts = text.split(/^(?=## )/m).filter((section) => section.startsWith('## '));
  return starts.map((section) => [section.split('\n', 1)[0]!, section.trim()]);
}

async function main(): Promise<void> {
  if (flags.only !== '' && !PARTS.includes(flags.only)) {
    process.stderr.write(`There is no part ${flags.only}.\n${USAGE}\n`);
    process.exitCode = 1;
    return;
  }
  try {
    execFileSync('wrk', ['--version'], { stdio: 'ignore' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      process.stderr.write(`The bench drives servers with wrk: apt-get install wrk\n${USAGE}\n`);
      process.exitCode = 1;
      return;
    }
  }
  const wanted = (name: string) => flags.only === '' || flags.only === name;
  const bare = await startBare(18_643);
  if (wanted('throughput')) await throughput(bare);
  if (wanted('postgres')) await postgres(bare);
  bare.process.kill('SIGTERM');
  if (wanted('scale')) await scale();
  if (wanted('authorization')) await authorization();
  if (wanted('due')) await due();
  if (wanted('streams')) await streams();
  if (wanted('start')) await startUp();
  if (wanted('memory')) await memory();
  if (wanted('workstations')) await workstations();
  if (wanted('volumes')) await volumes();
  if (wanted('sandbox')) await sandboxes();
  if (wanted('glance')) await glance();
  if (flags.only === '' || flags.write) writeDocument();
}

try {
  await main();
} finally {
  stopAll();
  rmSync(directory, { recursive: true, force: true });
}
