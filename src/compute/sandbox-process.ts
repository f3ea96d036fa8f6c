/**
 * Starts what runs in sandboxes, and finds it again after a restart of the server.
 *
 * A workstation outlives the server, so that nothing about it may depend on a file descriptor of the server's once it has
 * been let go. It is found by its mark, which stands among the arguments of its processes and of no others, and is known
 * from then on by the id of the first process inside together with the time that was started at. What comes out of a
 * sandbox is bounded before it is looked at.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { isSystemError } from '../files.ts';
import { isAlive, kill, type ProcessMark, startOf } from './detached.ts';

/** The end of what a workstation says before it is let go. */
const OUTPUT_LENGTH_MAX = 16_384;
const ERRORS_LENGTH_MAX = 65_536;
const REPORTS_MAX = 1_024;
const REPORT_LENGTH_MAX = 64;
const KILL_MS_MAX = 10_000;
const LOOK_AGAIN_MS = 20;
/** Nothing of the server's environment is for anything that it starts. */
const NO_ENVIRONMENT = { LC_ALL: 'C' };

/** How a sandbox ended. */
export interface SandboxEnd {
  readonly exitCode: number | null;
  /** The end of what was written to standard error. */
  readonly errors: string;
}

/** A workstation that is being started. */
export class SandboxStart {
  readonly ended: Promise<SandboxEnd>;
  readonly #child: ChildProcess;
  readonly #reports: string[] = [];
  #output = '';
  #errors = '';
  #partial = '';
  #heard = Promise.withResolvers<void>();

  constructor([program, ...args]: readonly string[]) {
    const child = spawn(program!, args, {
      cwd: '/',
      env: NO_ENVIRONMENT,
      // A session of its own: neither a Ctrl-C nor the end of the server's terminal reaches it.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    });
    this.#child = child;
    child.stdin!.on('error', () => undefined);
    this.#listen(child.stdout!, (text) => {
      this.#output = (this.#output + text).slice(-OUTPUT_LENGTH_MAX);
    });
    this.#listen(child.stderr!, (text) => {
      this.#errors = (this.#errors + text).slice(-OUTPUT_LENGTH_MAX);
    });
    this.#listen(child.stdio[3] as Readable, (text) => this.#hear(text));
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (exitCode) => resolve({ exitCode, errors: this.#errors }));
    });
    this.ended.catch(() => undefined);
  }

  /** Writes to its standard input: a shell does at once what is a whole command. */
  tell(text: string): void {
    this.#child.stdin!.write(text);
  }

  /** What has been printed since the last time, at most the end of it. */
  takeOutput(): string {
    const output = this.#output;
    this.#output = '';
    return output;
  }

  /** The next line of what it reports; undefined once it has ended. @throws the signal's reason; Error when it could not be started. */
  async nextReport(signal: AbortSignal): Promise<string | undefined> {
    for (;;) {
      signal.throwIfAborted();
      const report = this.#reports.shift();
      if (report !== undefined) return report;
      this.#heard = Promise.withResolvers<void>();
      const { promise: aborted, resolve: abort } = Promise.withResolvers<void>();
      signal.addEventListener('abort', () => abort(), { once: true });
      const hasEnded = await Promise.race([
        this.ended.then(() => true),
        this.#heard.promise.then(() => false),
        aborted.then(() => false),
      ]);
      // What it said last may have come together with its end.
      if (hasEnded) return this.#reports.shift();
    }
  }

  /** Lets go of it: it goes on by itself. */
  release(): void {
    for (const stream of this.#child.stdio) stream?.destroy();
    this.#child.unref();
  }

  #listen(stream: Readable, take: (text: string) => void): void {
    stream
      .setEncoding('utf8')
      .on('data', take)
      .on('error', () => undefined);
  }

  #hear(text: string): void {
    const lines = (this.#partial + text).split('\n');
    this.#partial = lines.pop()!.slice(0, REPORT_LENGTH_MAX);
    for (const line of lines) if (this.#reports.length < REPORTS_MAX) this.#reports.push(line);
    this.#heard.resolve();
  }
}

export interface SandboxedTool {
  readonly command: readonly string[];
  /** Where its standard input comes from: an open file, or bytes as they are made. Nothing where absent. */
  readonly input?: FileHandle | AsyncIterable<Buffer>;
  /** Takes what it prints, as it comes; it is not faster than this. */
  readonly onOutput?: (output: AsyncIterable<Buffer>) => Promise<void>;
  readonly timeLimitMs: number;
  /** Ends it at once. */
  readonly signal: AbortSignal;
}

/** Runs a tool that ends, and must not outlive the server. @throws what input or output threw; the signal's reason. */
export async function runSandboxed(tool: SandboxedTool): Promise<SandboxEnd> {
  const { command, input, onOutput = drain, timeLimitMs } = tool;
  const [program, ...args] = command;
  const signal = AbortSignal.any([tool.signal, AbortSignal.timeout(timeLimitMs)]);
  signal.throwIfAborted();
  const isFile = input !== undefined && 'fd' in input;
  const child = spawn(program!, args, {
    cwd: '/',
    env: NO_ENVIRONMENT,
    detached: true,
    stdio: [isFile ? input.fd : input ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  let errors = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-ERRORS_LENGTH_MAX);
  });
  // Node throws away what a process has printed and nobody listens for when it ends; who takes it may begin later than that.
  child.stdout!.on('readable', () => undefined);
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  const end = () => endGroup(child.pid);
  signal.addEventListener('abort', end, { once: true });
  try {
    const flows = [onOutput(child.stdout!), ...(input && !isFile ? [feed(input, child.stdin!)] : [])];
    const outcomes = await Promise.allSettled(
      flows.map((flow) =>
        flow.catch((error) => {
          end();
          throw error;
        }),
      ),
    );
    const exitCode = await closed;
    signal.throwIfAborted();
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    return { exitCode, errors };
  } finally {
    signal.removeEventListener('abort', end);
    end();
  }
}

async function drain(output: AsyncIterable<Buffer>): Promise<void> {
  for await (const _ of output);
}

/**
 * A tool that has ended says by itself how that went. It may have read everything and still end before the pipe is known
 * here to be closed, or before it read everything: neither is an error of what it was fed, whose own are thrown.
 */
async function feed(bytes: AsyncIterable<Buffer>, stdin: Writable): Promise<void> {
  let failed: { readonly error: unknown } | undefined;
  async function* watched() {
    try {
      yield* bytes;
    } catch (error) {
      failed = { error };
      throw error;
    }
  }
  try {
    await pipeline(watched(), stdin);
  } catch (error) {
    if (failed) throw failed.error;
    if (!isSystemError(error, 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE')) throw error;
  }
}

function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

/** The processes that have this among their arguments. */
export function processesMarked(mark: string): ProcessMark[] {
  // The arguments of a process end with an empty one.
  if (mark === '') return [];
  const found: ProcessMark[] = [];
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || !procFile(pid, 'cmdline').split('\0').includes(mark)) continue;
    const startedAt = startOf(pid);
    if (startedAt !== undefined) found.push({ pid, startedAt });
  }
  return found;
}

/** The first process inside, whose end is that of all others inside; undefined where there is none. */
export function firstInside(mark: string): ProcessMark | undefined {
  return processesMarked(mark).find(({ pid }) => /^NSpid:\t.*\t1$/m.test(procFile(pid, 'status')));
}

/**
 * Ends everything that has this among its arguments, and resolves when it is gone with all that it has started inside.
 * @param known one that may be ending already. @throws Error where it does not go.
 */
export async function killMarked(mark: string, known?: ProcessMark): Promise<void> {
  const endsAt = performance.now() + KILL_MS_MAX;
  let left = known ? [known] : [];
  for (;;) {
    const found = processesMarked(mark);
    // One that is ending has no arguments any more. The first inside is gone only when all others inside are: until then
    // they may still write.
    left = [...found, ...left.filter((one) => isAlive(one) && !found.some(({ pid }) => pid === one.pid))];
    if (left.length === 0) return;
    for (const process of left) kill(process);
    if (performance.now() >= endsAt) throw new Error(`process ${left[0]!.pid} of a workstation does not end`);
    await delay(LOOK_AGAIN_MS);
  }
}

/** Asks it to end by itself. */
export function askToEnd(first: ProcessMark): void {
  try {
    if (isAlive(first)) process.kill(first.pid, 'SIGTERM');
  } catch {
    // It has ended by itself.
  }
}

function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}
