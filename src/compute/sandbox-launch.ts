/**
 * One start of a sandboxed workstation, from the first process to a display that answers, and what it means when it ends
 * before that. Everything that is heard on the way comes from a guest: the log gets the end of it, the session's owner its
 * last line without control characters.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../log.ts';
import { joinGroup } from './cgroup.ts';
import { unlessAborted } from './changes.ts';
import { ComputeFailure, type WorkstationScript } from './compute.ts';
import type { ProcessMark } from './detached.ts';
import { endOfOutput, lastLine } from './initialization.ts';
import { PROCESSES_MAX, type WorkstationCommand, workstationCommand } from './sandbox-command.ts';
import { requireDisplay } from './sandbox-display.ts';
import { firstInside, SandboxStart } from './sandbox-process.ts';
import { GREETING, parseReport, sandboxProgram } from './sandbox-program.ts';

const LOOK_AGAIN_MS = 50;
const MIB = 2 ** 20;

export interface Launch extends WorkstationCommand {
  readonly id: string;
  readonly scripts: readonly WorkstationScript[];
  readonly clipboard: boolean;
  /** Where the display's socket is found on the host. */
  readonly socketPath: string;
  readonly bootMs: number;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * @returns the first process inside, which goes on by itself. Whoever calls kills what is left when it fails.
 * @throws ComputeFailure; the signal's reason.
 */
export async function launch(request: Launch): Promise<ProcessMark> {
  const { bootMs } = request;
  const limit = AbortSignal.timeout(bootMs);
  const signal = AbortSignal.any([request.signal, limit]);
  const start = new SandboxStart(workstationCommand(request));
  try {
    return await follow(start, request, signal);
  } catch (error) {
    request.signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new ComputeFailure(
      'AMI_VALIDATION_ERROR',
      `The workstation was not usable within ${Math.round(bootMs / 1000)} seconds.`,
    );
  } finally {
    start.release();
  }
}

async function follow(start: SandboxStart, request: Launch, signal: AbortSignal): Promise<ProcessMark> {
  const { id, scripts, clipboard, memoryMib, mark, log } = request;
  start.tell(GREETING);
  let first: ProcessMark | undefined;
  for (;;) {
    const line = await start.nextReport(signal);
    const report = line === undefined ? undefined : parseReport(line);
    if (line === undefined) throw await whyEnded(start, first !== undefined, signal);
    switch (report?.what) {
      case 'begun':
        // It is told what to do once, however often it says that it is there.
        if (first) break;
        first = firstInside(mark);
        if (!first) throw await whyEnded(start, true, signal);
        // Before it has done anything, so that whatever it does counts.
        if (!(await joinGroup(id, first.pid, { memoryBytes: memoryMib * MIB, processes: PROCESSES_MAX }))) {
          log.debug(
            { id },
            'there is no control group for this workstation: each of its processes has limits of its own',
          );
        }
        start.tell(sandboxProgram(scripts, clipboard));
        break;
      case 'no-display':
        throw new ComputeFailure(
          'AMI_VALIDATION_ERROR',
          "The image has no Xtigervnc, which workstations of this server need (Debian's package tigervnc-standalone-server).",
        );
      case 'display-ended':
        throw await displayEnded(start, signal);
      case 'script':
        if (report.exitCode !== 0) throw await scriptFailed(start, request, report, signal);
        break;
      case 'ready':
        if (!first) break;
        await untilDisplayed(request.socketPath, start, signal);
        return first;
    }
  }
}

async function untilDisplayed(socketPath: string, start: SandboxStart, signal: AbortSignal): Promise<void> {
  let hasEnded = false;
  start.ended.then(
    () => (hasEnded = true),
    () => (hasEnded = true),
  );
  for (;;) {
    try {
      return await requireDisplay(socketPath, signal);
    } catch {
      signal.throwIfAborted();
      if (hasEnded) throw await displayEnded(start, signal);
      await delay(LOOK_AGAIN_MS, undefined, { signal });
    }
  }
}

async function whyEnded(start: SandboxStart, hadBegun: boolean, signal: AbortSignal): Promise<ComputeFailure> {
  const { exitCode, errors } = await unlessAborted(start.ended, signal);
  const inward = `it ended with ${exitCode}: ${lastLine(errors)}`;
  if (hadBegun) {
    return new ComputeFailure('AMI_VALIDATION_ERROR', 'The workstation ended while it was being started.', { inward });
  }
  if (/execvp \/bin\/sh/.test(errors)) {
    return new ComputeFailure('AMI_VALIDATION_ERROR', 'The image has no /bin/sh that this server can run.', { inward });
  }
  return new ComputeFailure('INTERNAL_ERROR', 'The server could not start a workstation. Its log says why.', {
    retryable: true,
    inward,
  });
}

async function displayEnded(start: SandboxStart, signal: AbortSignal): Promise<ComputeFailure> {
  await unlessAborted(start.ended, signal);
  return new ComputeFailure('AMI_VALIDATION_ERROR', "The image's Xtigervnc does not start.", {
    inward: lastLine(start.takeOutput()),
  });
}

async function scriptFailed(
  start: SandboxStart,
  { id, scripts, log }: Launch,
  { index, exitCode }: { readonly index: number; readonly exitCode: number },
  signal: AbortSignal,
): Promise<ComputeFailure> {
  await unlessAborted(start.ended, signal);
  const output = start.takeOutput();
  log.info({ id, script: index, exitCode, output: endOfOutput(output) }, 'an initialization script failed');
  const last = lastLine(output);
  return new ComputeFailure(
    'INITIALIZATION_SCRIPT_ERROR',
    `Initialization script ${scripts[index]?.name ?? index} ended with exit code ${exitCode}${last === '' ? '.' : `: ${last}`}`,
  );
}
