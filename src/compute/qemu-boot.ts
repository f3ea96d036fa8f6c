/**
 * When a machine that runs counts as usable, and what is made of one that does not come so far.
 *
 * The guest's agent decides: a machine is usable when it answers. An image without an agent counts when the firmware has
 * handed over to its disk, the screen shows something, and neither an agent has opened its port nor the machine been reset
 * for a while; where there are scripts to run, only an agent will do. Everything that is looked at comes from the guest and
 * can only hurt the guest's own session. There is always an end: the boot limit.
 */
import type { Log } from '../log.ts';
import { pause } from './changes.ts';
import { ComputeFailure, type Platform, type WorkstationScript } from './compute.ts';
import { AgentLost, connectAgent, type GuestAgent } from './guest-agent.ts';
import { endOfOutput, lastLine, scriptCommand } from './initialization.ts';
import { AGENT, BUFFER_BYTES, FIRMWARE_BUFFER } from './qemu-command.ts';
import { diskFull } from './qemu-disk.ts';
import { isAgentOpen, stateOf, takeBuffer, takePicture } from './qemu-machine.ts';
import { type Qmp, QmpLost } from './qmp.ts';

const LOOK_MS = 250;
const AGENT_ANSWER_MS_MAX = 10_000;
/** What SeaBIOS writes to its debugging port, and not what a guest shows. */
const HANDED_OVER = /Booting from [0-9a-f]{4}:[0-9a-f]{4}/i;
const NOTHING_TO_BOOT = /No bootable device/;
const HANDED_OVER_NOTE = 'handed-over';
const FIRMWARE_LENGTH_MAX = 64 * 1024;

export interface BootLimits {
  /** From the machine's start until it must be usable. */
  readonly bootMs: number;
  /** Without an agent, this long after the firmware or the last reset the display counts. */
  readonly agentMs: number;
}

/** What the machine has told of itself since its monitor was connected to. */
export interface MachineEvents {
  /** When it was reset last, by performance.now(). */
  readonly resetAt: number;
  /** Whether it was shut down from inside. */
  readonly shutDown: boolean;
}

export interface Boot {
  readonly directory: string;
  readonly qmp: Qmp;
  readonly limits: BootLimits;
  /** What is left of the boot limit: a machine may have been started by a server that is no more. */
  readonly leftMs: number;
  readonly events: MachineEvents;
  readonly needsAgent: boolean;
  /** 0 to 1. */
  readonly onFraction: (fraction: number) => void;
}

/** @returns the agent, or undefined for an image without one. @throws ComputeFailure; the signal's reason. */
export async function waitUntilUsable(boot: Boot, signal: AbortSignal): Promise<GuestAgent | undefined> {
  const { directory, qmp, limits, leftMs, events, needsAgent, onFraction } = boot;
  const startedAt = performance.now();
  let firmware = '';
  let settlesFrom = (await isHandedOver(qmp, signal)) ? startedAt : undefined;
  for (;;) {
    const now = performance.now();
    if (now - startedAt >= leftMs) {
      throw needsAgent && settlesFrom !== undefined ? noAgent(limits.bootMs) : neverBooted(limits.bootMs);
    }
    onFraction((now - startedAt) / leftMs);
    await requireRunning(qmp, events, signal);
    firmware = (firmware + (await takeBuffer(qmp, FIRMWARE_BUFFER, BUFFER_BYTES, signal))).slice(-FIRMWARE_LENGTH_MAX);
    if (NOTHING_TO_BOOT.test(firmware)) throw cannotBoot();
    if (settlesFrom === undefined && HANDED_OVER.test(firmware)) {
      settlesFrom = now;
      await noteHandedOver(qmp, signal);
    }
    if (await isAgentOpen(qmp, signal)) {
      const agent = await tryAgent(directory, startedAt + leftMs - now, signal);
      if (agent) return agent;
    } else if (!needsAgent && now - Math.max(settlesFrom ?? now, events.resetAt) >= limits.agentMs) {
      if (settlesFrom !== undefined && !isBlank(await takePicture(qmp, directory, 'ppm', signal))) return undefined;
    }
    await pause(LOOK_MS, signal);
  }
}

async function tryAgent(directory: string, leftMs: number, signal: AbortSignal): Promise<GuestAgent | undefined> {
  const limit = AbortSignal.timeout(Math.max(1, Math.min(leftMs, AGENT_ANSWER_MS_MAX)));
  try {
    return await connectAgent(directory, AGENT, AbortSignal.any([signal, limit]));
  } catch (error) {
    signal.throwIfAborted();
    if (limit.aborted || error instanceof AgentLost) return undefined;
    throw error;
  }
}

/**
 * What the firmware said is read only once. That it has handed over is kept with the machine, as an object that does
 * nothing, for a server that takes it over.
 */
async function noteHandedOver(qmp: Qmp, signal: AbortSignal): Promise<void> {
  await qmp.execute('object-add', { 'qom-type': 'secret', id: HANDED_OVER_NOTE, data: 'x' }, signal);
}

async function isHandedOver(qmp: Qmp, signal: AbortSignal): Promise<boolean> {
  const objects = (await qmp.execute('qom-list', { path: '/objects' }, signal)) as { name?: string }[];
  return objects.some(({ name }) => name === HANDED_OVER_NOTE);
}

async function requireRunning(qmp: Qmp, events: MachineEvents, signal: AbortSignal): Promise<void> {
  const state = await stateOf(qmp, signal).catch((error) => {
    if (error instanceof QmpLost && events.shutDown) throw endedItself(error.message);
    throw error;
  });
  if (state === 'running') return;
  if (state === 'io-error') throw diskFull('the machine was paused by an error of its disk');
  if (state === 'shutdown') throw endedItself('it was shut down');
  throw new ComputeFailure('INTERNAL_ERROR', 'The workstation stood still while it started.', {
    inward: `QEMU says ${state}`,
  });
}

/** One colour all over. The picture is a P6 of netpbm: a header of three lines and three bytes for each pixel. */
export function isBlank(picture: Buffer): boolean {
  let from = 0;
  for (let line = 0; line < 3; line += 1) from = picture.indexOf(0x0a, from) + 1;
  const pixels = picture.subarray(from);
  if (from === 0 || pixels.length < 3) return true;
  return pixels.subarray(3).equals(pixels.subarray(0, -3));
}

/** Runs the scripts one after the other. @throws ComputeFailure for the first that fails; the signal's reason. */
export async function runScripts(
  agent: GuestAgent,
  {
    id,
    platform,
    scripts,
    scriptMs,
    log,
    onFraction,
  }: {
    readonly id: string;
    readonly platform: Platform;
    readonly scripts: readonly WorkstationScript[];
    readonly scriptMs: number;
    readonly log: Log;
    readonly onFraction: (fraction: number) => void;
  },
  signal: AbortSignal,
): Promise<void> {
  for (const [index, script] of scripts.entries()) {
    onFraction(index / scripts.length);
    const limit = AbortSignal.timeout(scriptMs);
    const command = scriptCommand(platform, script);
    const outcome = await agent.run(command, AbortSignal.any([signal, limit])).catch((error) => {
      signal.throwIfAborted();
      if (limit.aborted) throw scriptFailed(script, `it has not ended within ${scriptMs / 1000} s`);
      throw error instanceof AgentLost
        ? scriptFailed(script, 'the agent inside does not answer', error.message)
        : error;
    });
    const { exitCode, output } = outcome;
    const fields = { workstation: id, of: script.name, exitCode, output: endOfOutput(output) };
    log.info(fields, 'an initialization script has run');
    if (exitCode !== 0) throw scriptFailed(script, lastLine(output) || `it ended with ${exitCode}`);
  }
}

function scriptFailed({ name }: WorkstationScript, reason: string, inward?: string): ComputeFailure {
  const message = `The initialization script of ${name} failed: ${reason}`;
  return new ComputeFailure('INITIALIZATION_SCRIPT_ERROR', message, inward === undefined ? {} : { inward });
}

function noAgent(bootMs: number): ComputeFailure {
  return new ComputeFailure(
    'INITIALIZATION_SCRIPT_ERROR',
    'The initialization scripts cannot be run: the image has no guest agent, or none that answered within ' +
      `${bootMs / 1000} s. Install qemu-guest-agent in it.`,
  );
}

function neverBooted(bootMs: number): ComputeFailure {
  return new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    `The image has not booted within ${bootMs / 1000} s: neither its guest agent nor its screen has answered.`,
  );
}

function cannotBoot(): ComputeFailure {
  return new ComputeFailure(
    'AMI_VALIDATION_ERROR',
    'The image cannot boot: its disk has no boot sector that a BIOS starts. Disks for UEFI alone cannot be used.',
  );
}

function endedItself(inward: string): ComputeFailure {
  return new ComputeFailure('AMI_VALIDATION_ERROR', 'The workstation ended by itself while it started.', { inward });
}
