/** Finds the external tools that the drivers run, by what the kernel says of them. A zombie has no files and counts as gone. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const TOOLS = new Set(['qemu-img', 'setpriv', 'prlimit']);

function processes(): number[] {
  return readdirSync('/proc').map(Number).filter(Number.isInteger);
}

/** The content, or nothing when the process has gone meanwhile. */
export function procFile(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1');
  } catch {
    return '';
  }
}

/** The files a process has open, by descriptor. */
export function openFilesOf(pid: number): Map<string, string> {
  const files = new Map<string, string>();
  try {
    for (const name of readdirSync(`/proc/${pid}/fd`)) files.set(name, readlinkSync(`/proc/${pid}/fd/${name}`));
  } catch {
    // It has gone meanwhile.
  }
  return files;
}

/** Every qemu-img that this process has started. */
export function toolsOf(parent: number): number[] {
  return processes().filter(
    (pid) =>
      procFile(pid, 'comm').trim() === 'qemu-img' &&
      new RegExp(`^PPid:\\t${parent}$`, 'm').test(procFile(pid, 'status')),
  );
}

/** Every tool that has a file in this directory open, whoever started it. */
export function toolsHolding(directory: string): number[] {
  return processes().filter(
    (pid) =>
      TOOLS.has(procFile(pid, 'comm').trim()) &&
      [...openFilesOf(pid).values()].some((path) => path.startsWith(directory)),
  );
}
