/**
 * The programs of the host that sandboxes are made with, and whether they can make any here: it is tried, since what a
 * kernel, a container or a hardened service forbids can be told from nothing else.
 */
import { requireTool, workstationUser } from '../images/confined.ts';
import { ImageFailure } from '../images/images.ts';
import { PROGRAMS, type SandboxPrograms, sandboxCommand } from './sandbox-command.ts';
import { runSandboxed } from './sandbox-process.ts';

const PROBE_MS_MAX = 20_000;
const PACKAGES = 'bubblewrap qemu-utils util-linux tar';

/** Why there can be no sandboxes here, in one line that says what to do; undefined where there can. */
export async function whyNoSandbox(): Promise<string | undefined> {
  try {
    const programs = await findPrograms();
    await requireTool('qemu-img');
    const user = workstationUser('probe');
    const end = await runSandboxed({
      command: sandboxCommand({
        programs,
        user,
        limits: { memoryBytes: 2 ** 30, fileBytes: 0 },
        inside: [...PROGRAMS, '--proc', '/proc', '--dev', '/dev'],
        command: [programs.setpriv, '--version'],
      }),
      timeLimitMs: PROBE_MS_MAX,
      signal: new AbortController().signal,
    });
    if (end.exitCode === 0) return undefined;
    const said = end.errors.trim().split('\n').at(-1) ?? '';
    return `bubblewrap, of version 0.8 or later, cannot make a sandbox here (${said}): user namespaces must be allowed for ordinary users`;
  } catch (error) {
    if (error instanceof ImageFailure) return `${error.message} All at once: apt-get install ${PACKAGES}`;
    return `making a sandbox was tried, and failed: ${error instanceof Error ? error.message : error}`;
  }
}

/** @throws ImageFailure TOOL_MISSING */
export async function findPrograms(): Promise<SandboxPrograms> {
  return {
    bwrap: await requireTool('bwrap'),
    prlimit: await requireTool('prlimit'),
    setpriv: await requireTool('setpriv'),
    tar: await requireTool('tar'),
  };
}
