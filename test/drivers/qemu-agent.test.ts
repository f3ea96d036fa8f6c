/**
 * Real virtual machines whose guest is a Linux with the real guest agent: when they count as usable, what scripts do inside,
 * and that a restored disk boots and holds the file that was written before.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ComputeFailure, type WorkstationRequest, type WorkstationScript } from '../../src/compute/compute.ts';
import type { QemuCompute } from '../../src/compute/qemu.ts';
import { keepGuests, LINUX, QemuBench } from '../support/qemu-bench.ts';
import { until } from '../support/until.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

const NEVER = new AbortController().signal;
const REAL_MS = 240_000;
/** Long before which an agent answers that is there: a screen is not to count. */
const AGENT_MS = 3_600_000;

let fences = 0;
const change = (id: string) => {
  fences += 1;
  return { id, fence: fences, signal: NEVER };
};
const start = (more: Partial<WorkstationRequest> = {}) =>
  workstationRequest({ ...change('one'), imageId: 'linux', instanceType: LINUX, ...more });
const script = (text: string, more: Partial<WorkstationScript> = {}): WorkstationScript => ({
  ...{ name: 'the component', text, runAs: 'system', parameters: {} },
  ...more,
});
const stop = (compute: QemuCompute) => compute.stop({ ...change('one'), volume: 'keep' });

async function openLinux(bench: QemuBench, settings: Parameters<QemuBench['open']>[0] = {}): Promise<QemuCompute> {
  await bench.addGuest('linux', 'linux');
  return bench.open({ agentMs: AGENT_MS, bootMs: REAL_MS, stopMs: 60_000, ...settings });
}

test('scripts run inside in their order, as whom and with what they are given; a backup brings their files back', async (t) => {
  const bench = new QemuBench(t);
  const compute = await openLinux(bench);
  const percents: number[] = [];
  await compute.ensure(
    start({
      onProgress: (percent) => void percents.push(percent),
      scripts: [
        script('test "$(id -u)" = 0\necho "$WORD $HOME" > /written', { parameters: { WORD: "a b'c$d" } }),
        script('#!/bin/sh\nfalse\ntest "$(cat /written)" = "a b\'c\\$d /root" && echo before > /first'),
        script('test "$(id -u)" = 1000 && test "$HOME" = /home/artist && echo "$WORD" > "$HOME/mine"', {
          runAs: 'user',
          parameters: { WORD: 'theirs' },
        }),
        script('test "$(cat /home/artist/mine)" = theirs\ntest -z "$WORD"\nset -- /tmp/tmp.*\ntest $# = 1'),
      ],
    }),
  );
  assert.ok(percents.length > 1);
  await stop(compute);
  await compute.backUp({ ...change('one'), backupId: 'a' });
  await compute.stop({ ...change('one'), volume: 'delete' });
  const restored = script('test "$(cat /first)" = before');
  await compute.ensure(start({ fromBackupId: 'a', scripts: [restored] }));
  await compute.destroy(change('one'));
});

test('a script that fails ends the start, and says why without saying more', async (t) => {
  const bench = new QemuBench(t);
  const compute = await openLinux(bench, { scriptMs: 60_000 });
  const secret = 'a-secret-of-the-studio';
  const failing = script(
    [
      'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i + 1)); done',
      'printf "no \\033[31mserver\\033[0m answers\\n\\n" >&2',
      'exit 7',
      `# ${secret}`,
    ].join('\n'),
    { parameters: { TOKEN: secret } },
  );
  const never = script('echo "it must not run" > /never');
  await assert.rejects(compute.ensure(start({ scripts: [failing, never] })), (error) => {
    assert.ok(error instanceof ComputeFailure);
    assert.equal(error.code, 'INITIALIZATION_SCRIPT_ERROR');
    assert.equal(error.message, 'The initialization script of the component failed: no [31mserver[0m answers');
    return true;
  });
  const lines = bench.logged.filter(({ fields }) => fields.output !== undefined);
  assert.equal(lines.length, 1);
  const { exitCode, output, workstation } = lines[0]!.fields;
  assert.deepEqual([exitCode, workstation], [7, 'one']);
  assert.ok(String(output).length <= 4_096 && String(output).includes('line 19999'));
  assert.ok(!JSON.stringify(bench.logged).includes(secret));
  assert.equal(bench.pidOf('one'), undefined);
});

test('a script that does not end is given up', async (t) => {
  const bench = new QemuBench(t);
  const compute = await openLinux(bench, { scriptMs: 3_000 });
  const isTold = (error: unknown) =>
    error instanceof ComputeFailure &&
    error.code === 'INITIALIZATION_SCRIPT_ERROR' &&
    /not ended within 3 s/.test(error.message);
  await assert.rejects(compute.ensure(start({ scripts: [script('sleep 100000')] })), isTold);
});

test('a guest that shuts itself down is seen to have ended, and a start told to end is gone on with', async (t) => {
  const bench = new QemuBench(t);
  const compute = await openLinux(bench);
  const controller = new AbortController();
  const starting = compute.ensure(start({ signal: controller.signal }));
  starting.catch(() => undefined);
  await until('it is under way', async () => (await compute.list())[0]?.hasVolume, REAL_MS);
  controller.abort(new Error('the server stops'));
  await assert.rejects(starting, /the server stops/);
  const pid = bench.pidOf('one');
  const second = await openLinux(bench);
  await second.ensure(start({ scripts: [script('( sleep 1; poweroff ) > /dev/null 2>&1 &')] }));
  assert.ok(pid !== undefined);
  await until('it has ended', async () => !(await second.list())[0]!.running, REAL_MS);
});
