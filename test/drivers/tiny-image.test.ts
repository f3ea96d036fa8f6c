/**
 * The tiny machine of the tests, started by the real QEMU: what other tests rely on of it. Its agent runs programs with
 * input and output and reads files, its shell takes keys, its disk keeps what was written, and the power button ends it.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../support/temporary.ts';
import { tinyImage } from '../support/tiny-image.ts';
import { until } from '../support/until.ts';

const run = promisify(execFile);
/** QEMU imitates the processor, on a machine that others use too. */
const BOOT_LIMIT_MS = 180_000;
const EXEC_LIMIT_MS = 60_000;

type Answer = { readonly return?: unknown; readonly error?: { readonly desc: string }; readonly event?: string };

/** Questions and answers, a line of JSON each, as QMP and the guest agent both speak. */
class Talk {
  readonly events: string[] = [];
  readonly #socket: Socket;
  readonly #waiting: ((answer: Answer) => void)[] = [];

  constructor(socket: Socket) {
    this.#socket = socket.on('error', () => undefined);
    const lines = createInterface({ input: socket }).on('line', (line) => {
      const answer = JSON.parse(line) as Answer;
      if (answer.event !== undefined) this.events.push(answer.event);
      else if ('return' in answer || 'error' in answer) this.#waiting.shift()?.(answer);
    });
    // Of a machine that is killed; it has errors of the socket as its own.
    lines.on('error', () => undefined);
  }

  /** The socket's file is there a moment before QEMU listens. */
  static async to(path: string): Promise<Talk> {
    const connected = async () => {
      const socket = connect(path);
      await once(socket, 'connect');
      return socket;
    };
    return new Talk(await until('QEMU listens', connected));
  }

  async ask<T = unknown>(execute: string, args: object = {}): Promise<T> {
    const answered = new Promise<Answer>((resolve) => this.#waiting.push(resolve));
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    const { return: result, error } = await answered;
    if (error) throw new Error(`${execute}: ${error.desc}`);
    return result as T;
  }

  close(): void {
    this.#socket.destroy();
  }
}

class Guest {
  readonly qmp: Talk;
  readonly agent: Talk;
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;

  private constructor(process: ChildProcess, qmp: Talk, agent: Talk) {
    this.process = process;
    this.ended = once(process, 'exit');
    this.qmp = qmp;
    this.agent = agent;
  }

  static async start(disk: string, directory: string): Promise<Guest> {
    const socket = (name: string) => `socket,id=${name},path=${join(directory, name)},server=on,wait=off`;
    const words = [
      ...['-accel', 'tcg', '-nodefaults', '-no-user-config', '-m', '128', '-display', 'none', '-vga', 'std'],
      ...['-drive', `file=${disk},format=qcow2,if=none,id=root`, '-device', 'virtio-blk-pci,drive=root,bootindex=0'],
      ...['-device', 'virtio-serial', '-chardev', socket('agent')],
      ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
      ...[
        '-serial',
        `file:${join(directory, 'serial')}`,
        '-chardev',
        socket('qmp'),
        '-mon',
        'chardev=qmp,mode=control',
      ],
    ];
    const child = spawn('qemu-system-x86_64', words, { stdio: ['ignore', 'ignore', 'inherit'] });
    const talkTo = (name: string) => Talk.to(join(directory, name));
    const guest = new Guest(child, await talkTo('qmp'), await talkTo('agent'));
    await guest.qmp.ask('qmp_capabilities');
    return guest;
  }

  /** Waits for the agent: what is said before it listens is kept for it. */
  async up(): Promise<void> {
    let answered: unknown;
    void this.agent.ask('guest-sync', { id: 8642 }).then((id) => {
      answered = id;
    });
    await until('the agent answers', () => answered === 8642, BOOT_LIMIT_MS);
  }

  async exec(path: string, args: readonly string[], input = ''): Promise<{ exitcode: number; output: string }> {
    const { pid } = await this.agent.ask<{ pid: number }>('guest-exec', {
      ...{ path, arg: args, 'capture-output': true, 'input-data': Buffer.from(input).toString('base64') },
    });
    type Status = { exited: boolean; exitcode: number; 'out-data'?: string };
    const ended = await until(
      `${path} ends`,
      async () => {
        const status = await this.agent.ask<Status>('guest-exec-status', { pid });
        return status.exited && status;
      },
      EXEC_LIMIT_MS,
    );
    return { exitcode: ended.exitcode, output: Buffer.from(ended['out-data'] ?? '', 'base64').toString() };
  }

  /** Presses and releases keys of the keyboard, by QEMU's names for them. */
  async press(...codes: string[]): Promise<void> {
    for (const code of codes) await this.qmp.ask('send-key', { keys: [{ type: 'qcode', data: code }] });
  }

  async kill(): Promise<void> {
    this.qmp.close();
    this.agent.close();
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill('SIGKILL');
    await this.ended;
  }
}

describe('the tiny machine of the tests', () => {
  const directory = temporaryDirectory({ after });
  const disk = join(directory, 'disk.qcow2');
  let guest: Guest;

  before(async () => {
    const image = await tinyImage();
    assert.ok(statSync(image).size < 32 * 2 ** 20, `${statSync(image).size} bytes`);
    await run('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', image, '-F', 'qcow2', disk]);
    guest = await Guest.start(disk, directory);
    await guest.up();
  });
  after(() => guest.kill());

  it('runs programs by its agent, with input, output and exit code', async () => {
    assert.deepEqual(await guest.exec('/bin/sh', ['-c', 'tr a-z A-Z; exit 3'], 'said\n'), {
      exitcode: 3,
      output: 'SAID\n',
    });
    const user = await guest.exec('/sbin/runuser', [
      '-u',
      'artist',
      '--',
      'sh',
      '-c',
      'id -u; touch /home/artist/mine',
      'sh',
    ]);
    assert.deepEqual(user, { exitcode: 0, output: '1000\n' });
  });

  it('shows text, and its shell takes keys', async () => {
    const picture = join(directory, 'screen.png');
    await guest.qmp.ask('screendump', { filename: picture, format: 'png' });
    const png = readFileSync(picture);
    assert.equal(png.readUInt32BE(16), 720);
    await guest.press('t', 'o', 'u', 'c', 'h', 'spc', 'slash', 'd', 'a', 't', 'a', 'slash', 'k', 'e', 'y', 's', 'ret');
    await until(
      'the keys arrive',
      async () => (await guest.exec('/bin/ls', ['/data'])).output.includes('keys'),
      EXEC_LIMIT_MS,
    );
  });

  it('keeps what was written, ends by its power button, and starts again', async () => {
    const handle = await guest.agent.ask<number>('guest-file-open', { path: '/data/kept', mode: 'w' });
    const text = Buffer.from('kept over a restart').toString('base64');
    await guest.agent.ask('guest-file-write', { handle, 'buf-b64': text });
    await guest.agent.ask('guest-file-close', { handle });
    await guest.qmp.ask('system_powerdown');
    await until('it ends', () => guest.process.exitCode === 0, BOOT_LIMIT_MS);
    // What it said last may be read after it was seen to have ended.
    await until('it has said so', () => guest.qmp.events.includes('SHUTDOWN'));
    await guest.kill();
    guest = await Guest.start(disk, temporaryDirectory({ after }));
    await guest.up();
    assert.equal((await guest.exec('/bin/cat', ['/data/kept'])).output, 'kept over a restart');
  });

  it('ends when its agent is asked to', async () => {
    void guest.agent.ask('guest-shutdown', { mode: 'powerdown' }).catch(() => undefined);
    await until('it ends', () => guest.process.exitCode === 0, BOOT_LIMIT_MS);
  });
});
