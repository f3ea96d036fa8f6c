/** `backlot user set-password` and `backlot login`: how people come to access keys that end by themselves. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../config.ts';
import { commandLine } from '../domain/audit.ts';
import { KIND } from '../domain/kinds.ts';
import { createPasswords, flawOf, setPassword } from '../domain/password.ts';
import { readUser } from '../domain/user.ts';
import { type Arguments, type Command, CommandFailed } from './command.ts';
import { PASSWORD_OPTIONS, readPassword } from './read-password.ts';
import { undisturbed } from './undisturbed.ts';
import { requireUser } from './user.ts';
import { withParts } from './with-parts.ts';

/** A server that is busy with other log-ins may take some seconds. */
const ANSWER_MS_MAX = 30_000;
/** How often a server that is busy is asked again, and the longest wait between two times. */
const BUSY_RETRIES_MAX = 10;
const BUSY_WAIT_SECONDS_MAX = 5;

export const passwordCommands: readonly Command[] = [
  {
    name: 'user set-password',
    summary: 'Sets the password that a user logs in with, and ends what was logged in for with the one before.',
    positionals: ['NAME|ID'],
    options: PASSWORD_OPTIONS,
    run: (given, config) =>
      withParts(config, async (parts) => {
        const [name] = given.positionals as [string];
        const user = await requireUser(name, parts.store);
        const password = await readPassword(given.option('password-file'), [`Password of ${name}: `, 'Once more: ']);
        const flaw = flawOf(password);
        if (flaw) throw new CommandFailed(flaw);
        const hashed = await createPasswords().hash(password);
        await undisturbed(async () => {
          const before = await parts.store.get(KIND.password, user.id);
          const line = commandLine('user set-password', user.id, parts);
          await parts.store.write([setPassword(user.id, hashed, before, parts.clock.now()), line]);
        });
        return { principalId: user.id, userName: readUser(user).userName };
      }),
  },
  {
    name: 'login',
    summary: 'Logs a user in, and prints credentials as credential_process of the AWS tools takes them.',
    positionals: [],
    options: {
      user: { value: 'NAME', meaning: 'Who logs in', required: true },
      endpoint: { value: 'URL', meaning: 'Address of the server; by default the one that the settings name' },
      'duration-seconds': {
        value: 'SECONDS',
        meaning: 'For how long, at least 900; as long as the server allows if left out',
      },
      ...PASSWORD_OPTIONS,
      'plain-http': { meaning: 'Send the password unencrypted to another machine as well' },
    },
    note: 'In ~/.aws/config: credential_process = /path/to/backlot login --user NAME --endpoint URL --password-file FILE',
    run: async (given, config) => {
      const endpoint = endpointOf(given, config);
      const durationSeconds = durationOf(given);
      const password = await readPassword(given.option('password-file'), ['Password: ']);
      const body = JSON.stringify({ userName: given.option('user'), password, durationSeconds });
      process.stdout.write(`${await askServer(new URL('/login', endpoint), body)}\n`);
      return undefined;
    },
  },
];

/** @throws CommandFailed for an address that would show the password to the network. */
function endpointOf(given: Arguments, { publicUrl, port, tlsCertFile }: Config): URL {
  const here = `${tlsCertFile === undefined ? 'http' : 'https'}://127.0.0.1:${port}`;
  const text = given.option('endpoint') ?? publicUrl ?? here;
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new CommandFailed('--endpoint must be an http:// or https:// address.');
  }
  const url = new URL(text);
  const isNear = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
  if (url.protocol === 'https:' || isNear || given.has('plain-http')) return url;
  throw new CommandFailed(
    `${url.origin} is another machine, and http:// would show it the password unencrypted: use https://, or --plain-http where the network is yours.`,
  );
}

function durationOf(given: Arguments): number | undefined {
  const text = given.option('duration-seconds');
  if (text === undefined) return undefined;
  if (!/^\d{1,6}$/.test(text)) throw new CommandFailed('--duration-seconds must be a whole number.');
  return Number(text);
}

/** Waits, and says so, while the server is busy with other log-ins: that passes by itself. @throws CommandFailed */
async function askServer(url: URL, body: string): Promise<string> {
  for (let retries = 0; ; retries += 1) {
    const { status, text, retryAfter } = await askOnce(url, body);
    if (status === 200) return text;
    if (status !== 429 || memberIn(text, 'code') !== 'LOGIN_BUSY' || retries === BUSY_RETRIES_MAX) {
      throw new CommandFailed(
        `${url.origin} answered ${status}: ${memberIn(text, 'message') ?? 'it does not look like Backlot.'}`,
      );
    }
    const seconds = Math.min(Math.max(Number(retryAfter) || 1, 1), BUSY_WAIT_SECONDS_MAX);
    process.stderr.write(`backlot: ${url.origin} is busy with other log-ins; trying again in ${seconds} s\n`);
    await delay(seconds * 1_000);
  }
}

interface LoginAnswer {
  readonly status: number;
  readonly text: string;
  readonly retryAfter: string | null;
}

/** @throws CommandFailed */
async function askOnce(url: URL, body: string): Promise<LoginAnswer> {
  const headers = { 'content-type': 'application/json' };
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  try {
    // A redirect would take the password elsewhere.
    const answer = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'error' });
    return { status: answer.status, text: await answer.text(), retryAfter: answer.headers.get('retry-after') };
  } catch (error) {
    throw new CommandFailed(`${url.origin} does not answer: ${reasonOf(error)}.`);
  }
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? message;
}

/** Of an answer that may be anybody's. */
function memberIn(text: string, name: 'message' | 'code'): string | undefined {
  try {
    const value = (JSON.parse(text) as Readonly<Record<string, unknown>>)[name];
    return value === undefined ? undefined : String(value);
  } catch {
    return undefined;
  }
}
