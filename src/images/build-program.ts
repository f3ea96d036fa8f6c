/**
 * Runs the programs that make a disk out of Debian's packages, for a person at a terminal who waits for it.
 *
 * They work on packages that Debian has signed, not on what strangers made, and are not confined as src/images/confined.ts
 * confines: a package's own scripts need more than that leaves. They get no shell, no environment of ours and no terminal,
 * so no secret of the service reaches them. When the person gives up they are asked to end, so that they take away what
 * they have mounted and made, and made to end when they do not.
 */
import { spawn } from 'node:child_process';
import { access, constants } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { requireTool, TOOL_DIRECTORIES } from './confined.ts';
import { ImageFailure } from './images.ts';

/** Debian's package of each program, or of each file by its absolute path. */
export type Needed = Readonly<Record<string, string>>;

export interface ProgramOptions {
  readonly signal: AbortSignal;
  /** Each line that it writes to standard output or standard error. */
  readonly onLine?: (line: string) => void;
  /** Where it may keep what it needs only while it runs. */
  readonly scratch?: string;
  /** What it is called in a message; its own name where absent. */
  readonly name?: string;
}

const LINES_KEPT = 20;
const LINE_LENGTH_MAX = 300;
const OUTPUT_LENGTH_MAX = 2 ** 22;
/** What it made and mounted is taken away within this, on a slow disk too. */
const END_WITHIN_MS = 30_000;

/** @throws ImageFailure TOOL_MISSING with the line that installs all that is missing. */
export async function requirePrograms(needed: Needed): Promise<void> {
  const missing: string[] = [];
  for (const program of Object.keys(needed)) if (!(await isThere(program))) missing.push(program);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => needed[program]!))].sort();
  throw new ImageFailure(
    'TOOL_MISSING',
    `This machine lacks ${missing.join(', ')}. Install what is missing, then try again: ` +
      `sudo apt-get install --no-install-recommends ${packages.join(' ')}`,
  );
}

function isThere(program: string): Promise<boolean> {
  const looking = program.startsWith('/') ? access(program, constants.R_OK) : requireTool(program);
  return looking.then(
    () => true,
    () => false,
  );
}

/** Runs a program by another, which becomes it or watches over it. */
export function runBy(wrapper: readonly string[], words: readonly string[], options: ProgramOptions): Promise<string> {
  const [program, ...rest] = [...wrapper, ...words];
  return runProgram(program!, rest, { ...options, name: words[0]! });
}

/** @returns what it wrote to standard output. @throws ImageFailure TOOL_FAILED with its last words; the signal's reason. */
export async function runProgram(
  program: string,
  args: readonly string[],
  { signal, onLine, scratch = tmpdir(), name = program }: ProgramOptions,
): Promise<string> {
  const path = await requireTool(program);
  signal.throwIfAborted();
  // What goes onto the disk must not be closed to the disk's users by the mask of ours.
  const child = spawn('/bin/sh', ['-c', 'umask 022 && exec "$0" "$@"', path, ...args], {
    cwd: '/',
    env: { PATH: TOOL_DIRECTORIES.join(':'), LC_ALL: 'C.UTF-8', HOME: '/nonexistent', TMPDIR: scratch },
    // A group of its own: a Ctrl-C reaches it through us, once, and its end takes all that it has started.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const lastLines: string[] = [];
  const take = (line: string) => {
    lastLines.push(line.slice(0, LINE_LENGTH_MAX));
    if (lastLines.length > LINES_KEPT) lastLines.shift();
    onLine?.(line);
  };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output = (output + text).slice(-OUTPUT_LENGTH_MAX);
  });
  for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on('line', take);

  const stop = endInOrder(child.pid);
  signal.addEventListener('abort', stop.begin, { once: true });
  try {
    const ended = await new Promise<number | NodeJS.Signals>((resolve, reject) => {
      child.once('error', reject).once('close', (code, by) => resolve(code ?? by ?? 0));
    });
    signal.throwIfAborted();
    if (ended === 0) return output;
    throw new ImageFailure('TOOL_FAILED', `${name} ended with ${ended}. It said: ${lastLines.join('\n')}`);
  } finally {
    signal.removeEventListener('abort', stop.begin);
    stop.done();
  }
}

/** Ends a group of processes: asks first. */
function endInOrder(pid: number | undefined): { begin: () => void; done: () => void } {
  let timer: NodeJS.Timeout | undefined;
  const send = (name: NodeJS.Signals) => {
    try {
      if (pid !== undefined) process.kill(-pid, name);
    } catch {
      // It has ended by itself.
    }
  };
  return {
    begin: () => {
      send('SIGTERM');
      timer = setTimeout(() => send('SIGKILL'), END_WITHIN_MS);
    },
    done: () => clearTimeout(timer),
  };
}
