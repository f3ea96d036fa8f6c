/**
 * A client of the agent inside a guest, qemu-ga, over the unix socket that QEMU keeps for it. Whatever it answers comes from
 * the guest and may be garbage, endless or nothing at all: each answer is bounded and checked, each wait has an end, and an
 * agent that breaks the rules is not spoken to again. Commands may hold secrets: they are in no message of an error.
 */
import { randomInt } from 'node:crypto';
import { pause, unlessAborted } from './changes.ts';
import { connectIn, type JsonLines, jsonLines } from './json-lines.ts';

const LINE_BYTES_MAX = 256 * 1024;
/** Of everything that an agent may say while it is spoken to. */
const CONVERSATION_BYTES_MAX = 16 * 1024 * 1024;
const CONVERSATION_LINES_MAX = 20_000;
const ANSWER_MS_MAX = 30_000;
/** An agent that is still starting may lose what it was asked. */
const ASK_AGAIN_MS = 2_000;
const LOOK_MS_MIN = 100;
const LOOK_MS_MAX = 1_000;
/** Tells the agent to drop what it has read of a line, and comes before its answer. */
const DELIMITER = 0xff;
const SYNC_ID_MAX = 2 ** 31;

/** The agent does not answer, or not as an agent does. */
export class AgentLost extends Error {
  override readonly name = 'AgentLost';
}

export interface GuestCommand {
  /** A program inside the guest. */
  readonly path: string;
  readonly arguments: readonly string[];
  readonly environment: readonly string[];
  readonly input: string;
}

export interface GuestOutcome {
  /** Negative where a signal has ended it. */
  readonly exitCode: number;
  /** What it has written, to standard output and then to standard error; as hostile as the guest. */
  readonly output: string;
}

export interface GuestAgent {
  /** Runs a program inside until it ends. @throws AgentLost; the signal's reason. */
  run(command: GuestCommand, signal: AbortSignal): Promise<GuestOutcome>;
  /** Asks the guest to shut itself down; it says nothing in return. */
  shutDown(): void;
  close(): void;
}

/**
 * Connects to the socket `name` in `directory` and waits until an agent answers what it was asked just now.
 * @throws AgentLost; the signal's reason.
 */
export async function connectAgent(directory: string, name: string, signal: AbortSignal): Promise<GuestAgent> {
  const socket = await connectIn(directory, name, signal).catch((error) => {
    signal.throwIfAborted();
    throw new AgentLost(`the agent's socket cannot be reached: ${(error as Error).message}`);
  });
  const conversation = new Conversation(socket);
  try {
    await conversation.synchronize(signal);
    return conversation;
  } catch (error) {
    conversation.close();
    throw error;
  }
}

type Answer = Readonly<Record<string, unknown>>;

class Conversation implements GuestAgent {
  readonly #lines: JsonLines;
  #lost: AgentLost | undefined;
  /** Takes the next answer, and what there is to say when there will be none. */
  #next: { readonly take: (answer: Answer) => void; readonly fail: (reason: AgentLost) => void } | undefined;

  constructor(socket: Parameters<typeof jsonLines>[0]) {
    this.#lines = jsonLines(socket, {
      lineBytesMax: LINE_BYTES_MAX,
      bytesMax: CONVERSATION_BYTES_MAX,
      linesMax: CONVERSATION_LINES_MAX,
      onLine: (line) => {
        const answer = parse(line);
        if (answer) this.#next?.take(answer);
      },
      onEnd: (reason) => {
        this.#lost = new AgentLost(`the agent is not spoken to any more: ${reason.message}`);
        this.#next?.fail(this.#lost);
      },
    });
  }

  /** What was asked before by others may still be answered; only the answer with our own number counts. */
  async synchronize(signal: AbortSignal): Promise<void> {
    const first = randomInt(SYNC_ID_MAX / 2);
    let asked = 0;
    const isOurs = ({ return: value }: Answer) =>
      typeof value === 'number' && Number.isInteger(value) && value === first + asked;
    for (;;) {
      asked += 1;
      const id = first + asked;
      const limit = AbortSignal.timeout(ASK_AGAIN_MS);
      const answered = this.#await(isOurs, AbortSignal.any([signal, limit]));
      this.#lines.send({ execute: 'guest-sync-delimited', arguments: { id } }, Buffer.of(DELIMITER));
      try {
        await answered;
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (!limit.aborted) throw error;
      }
    }
  }

  async run(
    { path, arguments: arg, environment: env, input }: GuestCommand,
    signal: AbortSignal,
  ): Promise<GuestOutcome> {
    const inputData = Buffer.from(input).toString('base64');
    const started = await this.#ask(
      'guest-exec',
      { path, arg, env, 'input-data': inputData, 'capture-output': true },
      signal,
    );
    const pid = numberIn(started, 'pid');
    if (pid === undefined) throw new AgentLost('the agent does not say what it has started');
    for (let pauseMs = LOOK_MS_MIN; ; pauseMs = Math.min(2 * pauseMs, LOOK_MS_MAX)) {
      const status = await this.#ask('guest-exec-status', { pid }, signal);
      if (isObject(status) && status.exited === true) return outcomeOf(status);
      await pause(pauseMs, signal);
    }
  }

  shutDown(): void {
    this.#lines.send({ execute: 'guest-shutdown', arguments: { mode: 'powerdown' } });
  }

  close(): void {
    this.#lines.close();
  }

  async #ask(command: string, args: Answer, signal: AbortSignal): Promise<unknown> {
    const limit = AbortSignal.timeout(ANSWER_MS_MAX);
    const isAnswer = (answer: Answer) => 'return' in answer || 'error' in answer;
    const answered = this.#await(isAnswer, AbortSignal.any([signal, limit]));
    this.#lines.send({ execute: command, arguments: args });
    try {
      const answer = await answered;
      if ('return' in answer) return answer.return;
      // Its description may repeat what it was told.
      throw new AgentLost(`the agent refuses ${command}`);
    } catch (error) {
      signal.throwIfAborted();
      // A late answer would be taken for that of another question.
      this.close();
      if (limit.aborted) throw new AgentLost(`the agent has not answered ${command} within ${ANSWER_MS_MAX / 1000} s`);
      throw error;
    }
  }

  async #await(accepts: (answer: Answer) => boolean, signal: AbortSignal): Promise<Answer> {
    if (this.#lost) throw this.#lost;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    this.#next = { take: (answer) => accepts(answer) && resolve(answer), fail: reject };
    return unlessAborted(promise, signal).finally(() => {
      this.#next = undefined;
    });
  }
}

/** Undefined for what is no answer: a guest's port may carry anything before its agent speaks. */
function parse(line: Buffer): Answer | undefined {
  try {
    const answer: unknown = JSON.parse(line.subarray(line.lastIndexOf(DELIMITER) + 1).toString('utf8'));
    return isObject(answer) ? answer : undefined;
  } catch {
    return undefined;
  }
}

function outcomeOf(status: Answer): GuestOutcome {
  const exitCode = numberIn(status, 'exitcode') ?? -(numberIn(status, 'signal') ?? 1);
  return { exitCode, output: textIn(status, 'out-data') + textIn(status, 'err-data') };
}

function isObject(value: unknown): value is Answer {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function numberIn(value: unknown, member: string): number | undefined {
  const found = isObject(value) ? value[member] : undefined;
  return typeof found === 'number' && Number.isInteger(found) ? found : undefined;
}

function textIn(value: Answer, member: string): string {
  const found = value[member];
  return typeof found === 'string' ? Buffer.from(found, 'base64').toString('utf8') : '';
}
