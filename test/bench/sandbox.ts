/**
 * How long it takes from the call that starts a sandboxed workstation to its first picture: the first of an image, which
 * is decrypted and unpacked for it, and those that come after it.
 */
import { greetDesktop } from '../support/rfb.ts';
import { sandboxBench } from '../support/sandbox.ts';
import { workstationRequest } from '../support/workstation.ts';
import { median } from './load.ts';

export interface SandboxTimes {
  readonly firstMs: number;
  /** The median of the rounds. */
  readonly nextMs: number;
}

const NEVER = new AbortController().signal;

export async function measureSandbox(rounds: number): Promise<SandboxTimes> {
  const cleanings: (() => void | Promise<void>)[] = [];
  try {
    const bench = await sandboxBench({ after: (clean) => void cleanings.push(clean) });
    const compute = await bench.open();
    let fence = 0;
    const startOne = async () => {
      fence += 1;
      const id = `bench-${fence}`;
      const before = performance.now();
      await compute.ensure(workstationRequest({ id, fence }));
      const connection = await (await compute.open(id, NEVER)).connect(NEVER);
      await greetDesktop(connection);
      const ms = performance.now() - before;
      connection.destroy();
      await compute.destroy({ id, fence, signal: NEVER });
      return ms;
    };
    const firstMs = await startOne();
    const next: number[] = [];
    for (let round = 0; round < rounds; round += 1) next.push(await startOne());
    return { firstMs, nextMs: median(next) };
  } finally {
    for (const clean of cleanings) await clean();
  }
}
