/**
 * Drives the product as its users do: `bin/backlot` in processes of its own, on a data directory of its own.
 *
 * An installation is a temporary directory with everything that belongs to it. Whatever was started in it is killed and
 * the directory is gone when its test ends, however it ends; and each process is tied to the life of the one that runs
 * the tests, so that a test file that is killed leaves none behind either. Only what an installation has started is ever
 * sent a signal. Nothing of the environment of whoever runs the tests reaches a process, but for the path.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { processesIn } from '../../src/compute/detached.ts';
import type { SandboxedWorkstation } from '../../src/compute/sandbox.ts';
import { endMachines, endSandbox } from '../support/machines.ts';
import { until } from '../support/until.ts';

export const PROJECT = resolve(import.meta.dirname, '../..');
export const BACKLOT = join(PROJECT, 'bin/backlot');

/** A test, or the whole file by its `after`. */
export interface Scope {
  readonly after: (clean: () => Promise<void>) => void;
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Finished {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SpawnOptions {
  /** Added to the installation's own; undefined takes a variable away. */
  readonly environment?: Environment;
  /** What the command is run by, for example `setpriv`; it must become the command. */
  readonly wrapper?: readonly string[];
  /** Whether it is told things while it runs; else it finds nothing to read. */
  readonly told?: boolean;
}

/** A process, and what it has said so far. */
export class Running {
  stdout = '';
  stderr = '';
  readonly pid: number;
  readonly finished: Promise<Finished>;
  #ended = false;
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    this.finished = once(child, 'close')
      .then(([code, signal]) => ({ code, signal, stdout: this.stdout, stderr: this.stderr }))
      .finally(() => {
        this.#ended = true;
      });
    // Whoever waits for it hears of an error; nobody has to wait.
    this.finished.catch(() => undefined);
  }

  get ended(): boolean {
    return this.#ended;
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  /** Tells it something more; nothing is the end of it. */
  tell(text?: string): void {
    if (text === undefined) this.#child.stdin!.end();
    else this.#child.stdin!.write(text);
  }

  /** What it says, line by line, from now on. */
  lines(): AsyncIterator<string> {
    return createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
  }
}

/** A server that listens. */
export interface RunningServer {
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  readonly process: Running;
  /** Asks it to stop, and says what came of it. */
  stop(signal?: 'SIGTERM' | 'SIGINT' | 'SIGHUP'): Promise<Finished>;
  /** `kill -9`. */
  kill(): Promise<Finished>;
}

export interface ServeOptions extends SpawnOptions {
  readonly flags?: readonly string[];
  /** The one of an earlier server, where clients should find it again; any free one where absent. */
  readonly port?: number;
}

export class Installation {
  /** Working directory and home of everything that runs in it. */
  readonly directory = mkdtempSync(join(tmpdir(), 'backlot-e2e-'));
  readonly dataDir = join(this.directory, 'data');
  readonly credentials = join(this.dataDir, 'credentials');
  readonly #environment: Environment;
  readonly #running = new Set<Running>();
  #over = false;

  constructor(scope: Scope, environment: Environment = {}) {
    this.#environment = environment;
    scope.after(() => this.#clean());
  }

  /** A path within the data directory. */
  path(...names: readonly string[]): string {
    return join(this.dataDir, ...names);
  }

  /** Starts a server and waits for it to say where it is. @throws Error with what it said, when it does not. */
  async start({ flags = [], port = 0, ...options }: ServeOptions = {}): Promise<RunningServer> {
    const process = this.spawn([BACKLOT, 'serve', '--port', String(port), ...flags], options);
    const address = () => /^Backlot is at (https?:\/\/\S+)$/m.exec(process.stdout)?.[1];
    await until('the server says where it is', () => process.ended || address());
    const url = address();
    if (url === undefined) throw new Error(`the server did not start: ${process.stderr}`);
    let asked = false;
    const end = (signal: NodeJS.Signals) => {
      asked = true;
      process.signal(signal);
      return process.finished;
    };
    const tell = ({ code, signal, stderr }: Finished) => {
      if (asked || this.#over) return;
      globalThis.process.stderr.write(`a server ended by itself (${signal ?? code}): ${stderr.slice(-4_000)}\n`);
    };
    process.finished.then(tell, () => undefined);
    return {
      url,
      port: Number(new URL(url).port),
      pid: process.pid,
      process,
      stop: (signal = 'SIGTERM') => end(signal),
      kill: () => end('SIGKILL'),
    };
  }

  /** Starts any command here. */
  spawn(command: readonly string[], { environment = {}, wrapper = [], told = false }: SpawnOptions = {}): Running {
    const [program, ...words] = ['setpriv', '--pdeathsig', 'KILL', ...wrapper, ...command];
    const child = spawn(program!, words, {
      cwd: this.directory,
      env: {
        PATH: process.env.PATH,
        HOME: this.directory,
        LANG: 'C.UTF-8',
        BACKLOT_DATA_DIR: this.dataDir,
        BACKLOT_COMPUTE: 'simulated',
        ...this.#environment,
        ...environment,
      },
      stdio: [told ? 'pipe' : 'ignore', 'pipe', 'pipe'],
    });
    const running = new Running(child);
    this.#running.add(running);
    const forget = () => this.#running.delete(running);
    running.finished.then(forget, forget);
    return running;
  }

  /** Runs any command to its end. */
  run(command: readonly string[], options?: SpawnOptions): Promise<Finished> {
    return this.spawn(command, options).finished;
  }

  /** Runs a `backlot` command to its end. */
  backlot(words: readonly string[], options?: SpawnOptions): Promise<Finished> {
    return this.run([BACKLOT, ...words], options);
  }

  /** Runs a `backlot` command as at a terminal: both outputs come as one, as they would be seen there. */
  backlotAtTerminal(words: readonly string[], options?: SpawnOptions): Promise<Finished> {
    const line = [BACKLOT, ...words].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
    return this.run(['script', '-qec', line, '/dev/null'], options);
  }

  /** The answer of a `backlot` command that must succeed. */
  async json<T>(words: readonly string[], options?: SpawnOptions): Promise<T> {
    const { code, stdout, stderr } = await this.backlot(words, options);
    if (code !== 0) throw new Error(`backlot ${words.join(' ')} ended with ${code}: ${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** The process of a session's virtual machine, while there is one. */
  machineOf(sessionId: string): number | undefined {
    return processesIn(this.path('compute', 'qemu', sessionId, 'run'))[0]?.pid;
  }

  /** Virtual machines and sandboxes outlive the server that started them, on purpose. */
  async #endMachines(): Promise<void> {
    const ids = namesIn(this.path('compute', 'qemu'));
    await endMachines(ids.map((id) => this.path('compute', 'qemu', id, 'run')));
    await endSandboxes(this.path('compute', 'sandbox'));
  }

  async #clean(): Promise<void> {
    this.#over = true;
    const running = [...this.#running];
    for (const process of running) process.signal('SIGKILL');
    await Promise.allSettled(running.map(({ finished }) => finished));
    await this.#endMachines();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }
}

/** Ends what the records in this directory name. */
export async function endSandboxes(directory: string): Promise<void> {
  for (const name of namesIn(directory).filter((file) => file.endsWith('.json'))) {
    const { mark }: SandboxedWorkstation = JSON.parse(readFileSync(join(directory, name), 'utf8'));
    await endSandbox(basename(name, '.json'), mark);
  }
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
