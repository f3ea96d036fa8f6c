/**
 * `backlot session`: sessions as whoever has the machine sees them, beside a running server. What shows somebody's desktop
 * or changes anything is told in the audit before it is shown. What a workstation says of itself is untrusted: it is
 * bounded, and nothing in it reaches the terminal but text.
 */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { type Compute, ComputeFailure, type Desktop } from '../compute/compute.ts';
import type { Config } from '../config.ts';
import type { StreamingSession } from '../contract/streaming-session.ts';
import type { StreamingSessionStream } from '../contract/streaming-session-stream.ts';
import { ADMINISTRATOR } from '../domain/access.ts';
import { COMMAND_LINE, commandLine } from '../domain/audit.ts';
import type { Principal } from '../domain/context.ts';
import { KIND } from '../domain/kinds.ts';
import { getStream, newStreamFor } from '../domain/streaming-session-stream.ts';
import { adoptHome, isElsewhere } from '../engine-home.ts';
import { isSystemError } from '../files.ts';
import type { Parts } from '../service.ts';
import { SETTINGS } from '../settings.ts';
import { everyRow, type Row } from '../store/store.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { undisturbed } from './undisturbed.ts';
import { withParts } from './with-parts.ts';

/** For a workstation to answer a command. */
const ANSWER_MS_MAX = 20_000;
/** For a server to make an address. */
const ADDRESS_MS_MAX = 30_000;
const LOOK_MS = 200;
const LOG_LENGTH_MAX = 256 * 1_024;
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);

export const sessionCommands: readonly Command[] = [
  {
    name: 'session list',
    summary: 'Lists sessions of all studios, and whether their workstations run.',
    positionals: [],
    options: { studio: { value: 'ID', meaning: 'Only those of this studio' } },
    run: (given, config) => withParts(config, (parts) => listSessions(given.option('studio'), parts)),
  },
  {
    name: 'session console',
    summary: "Makes an address at which a session's desktop can be seen and used, once. The audit tells of it.",
    positionals: ['SESSION_ID'],
    options: {
      seconds: { value: 'SECONDS', meaning: 'For how long the address is good, 60 to 3600; 120 by default' },
      endpoint: {
        value: 'URL',
        meaning:
          'Address of the server; by default the one that the settings name. The server takes its own public address alone',
      },
    },
    note: 'Unless more viewers are allowed, it takes the place of whoever sees the desktop now, who is told.',
    run: (given, config) => withParts(config, (parts) => openConsole(given, parts)),
  },
  {
    name: 'session log',
    summary: 'Prints what a workstation last wrote to its console.',
    positionals: ['SESSION_ID'],
    options: {},
    run: (given, config) => withParts(config, (parts) => printLog(given.positionals[0]!, parts)),
  },
  {
    name: 'session picture',
    summary: "Takes a picture of a session's screen, as a PNG. The audit tells of it.",
    positionals: ['SESSION_ID'],
    options: { output: { value: 'FILE', meaning: 'Where it is written; a file that is there stays', required: true } },
    note: `Refused unless ${SETTINGS.screenshots.env} is on: people may not expect it.`,
    run: (given, config) => withParts(config, (parts) => takePicture(given, config, parts)),
  },
  {
    name: 'session adopt',
    summary: 'Makes this machine the one that has the workstations, where several servers share a database.',
    positionals: [],
    options: {},
    note: 'For when the server that had them is gone for good: what it held of sessions is not brought here.',
    run: (_given, config) =>
      withParts(config, async (parts) => {
        if (config.databaseUrl === undefined)
          throw new CommandFailed('There is one server on this database: it has them.');
        await undisturbed(() => adoptHome(parts));
        return { adopted: parts.directory.path };
      }),
  },
];

async function listSessions(studioId: string | undefined, parts: Parts): Promise<object[]> {
  const inStudio = studioId !== undefined && { studioIds: [studioId] };
  const query = { kind: KIND.streamingSession, stateNot: 'DELETED', ...inStudio };
  const runs = await runningHere(parts);
  const listed: object[] = [];
  for await (const row of everyRow(parts.store, query)) listed.push(shown(row, runs));
  return listed;
}

function shown({ id, studioId, state, doc }: Row, runs: ReadonlySet<string> | undefined): object {
  const { ownedBy, updatedAt, ec2InstanceType, streamingImageId } = JSON.parse(doc) as StreamingSession;
  const running = runs && { running: runs.has(id) };
  return { sessionId: id, studioId, ownedBy, state, since: updatedAt, ec2InstanceType, streamingImageId, ...running };
}

/** Undefined where another server has the workstations, of which nothing can be seen from here. */
async function runningHere(parts: Parts): Promise<ReadonlySet<string> | undefined> {
  if (await isElsewhere(parts)) return undefined;
  const engines = await enginesHere(parts);
  const workstations = (await Promise.all(engines.map((engine) => engine.list()))).flat();
  return new Set(workstations.filter(({ running }) => running).map(({ id }) => id));
}

/** Loaded here: no other command needs it. */
async function enginesHere(parts: Parts): Promise<Compute[]> {
  const { openEnginesHere } = await import('../engine.ts');
  return openEnginesHere(parts);
}

/** @throws CommandFailed */
async function requireSession(sessionId: string, { store }: Parts): Promise<Row> {
  const row = await store.get(KIND.streamingSession, sessionId);
  if (!row) throw new CommandFailed(`There is no session ${sessionId}. See: backlot session list`);
  return row;
}

/** @throws CommandFailed */
async function openDesktop(sessionId: string, parts: Parts, signal: AbortSignal): Promise<Desktop> {
  await requireSession(sessionId, parts);
  for (const engine of await enginesHere(parts)) {
    const found = (await engine.list()).find(({ id }) => id === sessionId);
    if (found?.running) return told(engine.open(sessionId, signal));
  }
  throw new CommandFailed(
    `The workstation of session ${sessionId} does not run on this machine. See: backlot session list`,
  );
}

/** @throws CommandFailed with what the engine says to people. */
async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ComputeFailure) throw new CommandFailed(error.message);
    if (error instanceof Error && error.name === 'TimeoutError') {
      throw new CommandFailed(`The workstation did not answer within ${ANSWER_MS_MAX / 1_000} seconds.`);
    }
    throw error;
  }
}

// --- Console ---

/** Who has the machine may see everything on it; the audit says that somebody did. */
const ADMINISTRATOR_HERE: Principal = { accessKeyId: '', principalId: COMMAND_LINE, role: ADMINISTRATOR };

async function openConsole(given: Arguments, parts: Parts): Promise<object> {
  const [sessionId] = given.positionals as [string];
  const endpoint = endpointOf(given.option('endpoint'), parts);
  const seconds = secondsOf(given.option('seconds'));
  const streamId = await undisturbed(async () => {
    const session = await requireSession(sessionId, parts);
    const made = await newStreamFor(session, seconds, ADMINISTRATOR_HERE, parts);
    await parts.store.write([...made.writes, commandLine('session console', sessionId, parts)]);
    return made.row.id;
  });
  const stream = await untilOpened(streamId, { ...parts, settings: { ...parts.settings, publicUrl: () => endpoint } });
  return { sessionId, streamId, expiresAt: stream.expiresAt, url: stream.url };
}

/** A running server makes it. @throws CommandFailed */
async function untilOpened(streamId: string, parts: Parts): Promise<StreamingSessionStream> {
  const endsAt = performance.now() + ADDRESS_MS_MAX;
  for (;;) {
    const row = await parts.store.get(KIND.streamingSessionStream, streamId);
    const stream = row && getStream(row, parts);
    if (stream?.url !== undefined) return stream;
    if (stream?.state !== 'CREATE_IN_PROGRESS') {
      throw new CommandFailed(`The desktop cannot be reached: ${stream?.statusCode ?? 'its session has ended'}.`);
    }
    if (performance.now() > endsAt) {
      throw new CommandFailed(`No server made an address within ${ADDRESS_MS_MAX / 1_000} seconds. Does one run?`);
    }
    await delay(LOOK_MS);
  }
}

function endpointOf(text: string | undefined, { settings }: Parts): string {
  if (text === undefined) return settings.publicUrl();
  const isAddress = URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);
  if (!isAddress) throw new CommandFailed('--endpoint must be an http:// or https:// address.');
  return new URL(text).origin;
}

function secondsOf(text = '120'): number {
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0;
  if (seconds >= 60 && seconds <= 3_600) return seconds;
  throw new CommandFailed('--seconds must be a whole number from 60 to 3600.');
}

// --- Log and picture ---

async function printLog(sessionId: string, parts: Parts): Promise<undefined> {
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const desktop = await openDesktop(sessionId, parts, signal);
  if (!desktop.log) throw new CommandFailed('This workstation keeps no log: what it runs on has no console.');
  const text = plainText(await told(desktop.log(signal)));
  process.stdout.write(text === '' || text.endsWith('\n') ? text : `${text}\n`);
  return undefined;
}

/** Escape sequences of terminals, and then every control character but tab and the end of a line. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are exactly what is meant
const SEQUENCES = /\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[ -/]*[0-~])/g;
const CONTROLS = /[^\P{Cc}\t\n]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** What a guest wrote, as text that moves no cursor and hides nothing. The end of it, where it is long. */
export function plainText(written: string): string {
  const last = written.length > LOG_LENGTH_MAX ? written.slice(-LOG_LENGTH_MAX) : written;
  return last.replace(SEQUENCES, '').replaceAll('\r\n', '\n').replace(CONTROLS, '');
}

async function takePicture(given: Arguments, { screenshots }: Config, parts: Parts): Promise<object> {
  const [sessionId] = given.positionals as [string];
  const output = given.option('output')!;
  if (!screenshots) {
    throw new CommandFailed(`Pictures of screens are switched off. To allow them: ${SETTINGS.screenshots.env}=on`);
  }
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const desktop = await openDesktop(sessionId, parts, signal);
  if (!desktop.picture) throw new CommandFailed('What this workstation runs on has no way to take a picture.');
  await parts.store.write([commandLine('session picture', sessionId, parts)]);
  const picture = await told(desktop.picture(signal));
  if (!picture.subarray(0, PNG.length).equals(PNG)) throw new CommandFailed('What was taken is no picture.');
  try {
    await writeFile(output, picture, { flag: 'wx', mode: 0o600 });
  } catch (error) {
    if (isSystemError(error, 'EEXIST')) throw new CommandFailed(`${output} is there already.`);
    throw new CommandFailed(`${output} cannot be written: ${(error as Error).message}`);
  }
  return { sessionId, output, bytes: picture.length };
}
