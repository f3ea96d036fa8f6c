/**
 * A PostgreSQL cluster of a test's own: made in a temporary directory, reached through a socket in it and no port, run as
 * a user without rights, and gone when the test ends. Its own order of text is another than that of bytes, so that what
 * forgets to say how text sorts is found out.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import type { Owner } from './temporary.ts';
import { until } from './until.ts';

const VERSIONS = '/usr/lib/postgresql';
/** PostgreSQL refuses to run as root. The package makes this user. */
const USER = 'postgres';
const ADMIN = 'admin';

export interface Cluster {
  /** The directory of its socket. */
  readonly socket: string;
  /** The address of a database that nobody has used. */
  createDatabase(): Promise<string>;
  /** Runs statements in a database, beside whoever else uses it. */
  run(url: string, sql: string): Promise<Record<string, unknown>[]>;
  /** Ends the server as a crash does: at once, and without tidying up. As `pg_ctl stop -m immediate`. */
  crash(): Promise<void>;
  /** Ends the server in order, but without waiting for its clients. As `pg_ctl stop -m fast`. */
  stop(): Promise<void>;
  start(): Promise<void>;
}

interface ClusterOptions {
  /** Off saves time where no test is about what survives. */
  readonly fsync?: boolean;
  /** Of the server, by name. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Put into its data directory, by name. */
  readonly files?: Readonly<Record<string, string>>;
  /** What the server is run by, for example `taskset`; it must become the server. */
  readonly runBy?: readonly string[];
}

export async function startCluster(
  t: Owner,
  { fsync = false, settings = {}, files = {}, runBy = [] }: ClusterOptions = {},
): Promise<Cluster> {
  const programs = newestPrograms();
  const directory = mkdtempSync(join(tmpdir(), 'backlot-pg-'));
  const data = join(directory, 'data');
  const asUser = await ordinaryUser(directory);
  let server: ChildProcess | undefined;
  const end = async (signal: NodeJS.Signals) => {
    const ending = server;
    server = undefined;
    if (!ending || ending.exitCode !== null || ending.signalCode !== null) return;
    ending.kill(signal);
    await once(ending, 'exit');
  };
  t.after(async () => {
    await end('SIGQUIT');
    rmSync(directory, { recursive: true, force: true });
  });
  const order = ['--locale=C.UTF-8', '--locale-provider=icu', '--icu-locale=en'];
  const making = [
    join(programs, 'initdb'),
    '-D',
    data,
    '-U',
    ADMIN,
    '-A',
    'trust',
    '-E',
    'UTF8',
    '--no-sync',
    ...order,
  ];
  const [program, ...words] = [...asUser, ...making];
  execFileSync(program!, words, { stdio: ['ignore', 'ignore', 'inherit'], cwd: directory });
  const { uid, gid } = statSync(directory);
  for (const [name, text] of Object.entries(files)) {
    writeFileSync(join(data, name), text, { mode: 0o600 });
    chownSync(join(data, name), uid, gid);
  }
  const port = settings.port === undefined ? '' : `&port=${settings.port}`;
  const addressOf = (name: string) => `postgres:///${name}?host=${encodeURIComponent(directory)}${port}&user=${ADMIN}`;
  const run = async (url: string, sql: string) => {
    const client = new Client({ connectionString: url });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query(sql)).rows as Record<string, unknown>[];
    } finally {
      await client.end();
    }
  };
  const start = async () => {
    server = spawnServer(directory, [...asUser, ...runBy, ...TIED, join(programs, 'postgres'), '-D', data], {
      fsync: fsync ? 'on' : 'off',
      ...settings,
    });
    await until('PostgreSQL answers', () => run(addressOf('postgres'), 'SELECT 1'));
  };
  await start();
  let count = 0;
  return {
    socket: directory,
    createDatabase: async () => {
      count += 1;
      const name = `db${count}`;
      await run(addressOf('postgres'), `CREATE DATABASE ${name}`);
      return addressOf(name);
    },
    run,
    crash: () => end('SIGQUIT'),
    stop: () => end('SIGINT'),
    start,
  };
}

/** Ends with the process that started it, however that ends. Said last: a change of user would take it back. */
const TIED = ['setpriv', '--pdeathsig', 'QUIT', '--'];

function spawnServer(
  directory: string,
  command: readonly string[],
  chosen: Readonly<Record<string, string>>,
): ChildProcess {
  const settings = {
    listen_addresses: '',
    unix_socket_directories: directory,
    max_connections: '300',
    // What a careless server would be set to; the store must not rely on better.
    synchronous_commit: 'off',
    default_transaction_isolation: 'repeatable read',
    log_min_messages: 'fatal',
    ...chosen,
  };
  const [program, ...words] = command;
  const given = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return spawn(program!, [...words, ...given], { cwd: directory, stdio: 'ignore' });
}

function newestPrograms(): string {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS) : [];
  const [newest] = versions.filter((name) => /^\d+$/.test(name)).sort((a, b) => Number(b) - Number(a));
  if (newest === undefined) throw new Error(`there is no PostgreSQL in ${VERSIONS}: run npm run setup`);
  return join(VERSIONS, newest, 'bin');
}

/** What to put before a command so that it does not run as root, and the directory made that user's. */
async function ordinaryUser(directory: string): Promise<string[]> {
  if (process.getuid!() !== 0) return [];
  const id = (flag: string) => Number(execFileSync('id', [flag, USER], { encoding: 'utf8' }));
  const [uid, gid] = [id('-u'), id('-g')];
  chownSync(directory, uid, gid);
  if (statSync(directory).uid !== uid) throw new Error(`${directory} cannot be given to ${USER}`);
  return ['setpriv', '--reuid', String(uid), '--regid', String(gid), '--clear-groups', '--'];
}
