/**
 * What a guest reaches over its network card: with `nat` what listens on the host, its loopback included; with `none`
 * nothing, although its card is up, has an address, and has somebody at the other end of its wire.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { after, type TestContext, test } from 'node:test';
import type { NetworkMode } from '../../src/compute/qemu-command.ts';
import { keepGuests, LINUX, QemuBench } from '../support/qemu-bench.ts';
import { workstationRequest } from '../support/workstation.ts';

keepGuests({ after });

const REAL_MS = 240_000;
/** Long before which an agent answers that is there: a screen is not to count. */
const AGENT_MS = 3_600_000;

/** The card is up and was given an address, and whoever gives them answers. */
const HAS_NETWORK = `
fails() { echo "$1" >&2; exit 1; }
is_up() { [ "$(cat /sys/class/net/eth0/operstate)" = up ] && ip -4 address show dev eth0 | grep -q 'inet 10[.]0[.]2[.]'; }
tries=0
until is_up; do tries=$((tries + 1)); [ $tries -lt 600 ] || fails "$(ip address)"; sleep 0.1; done
ping -c 1 -W 30 10.0.2.2 || fails 'nobody answers'
`;
const REACHES_THE_HOST = `
got=$(nc -w 60 10.0.2.2 "$TCP" </dev/null) || fails 'the host does not answer'
[ "$got" = "$WORD" ] || fails "it has read something else: $got"
timeout 60 tftp -g -r "$WORD" -l /tmp/word 10.0.2.2 "$UDP" || fails 'the host does not answer datagrams'
[ "$(cat /tmp/word)" = "$WORD" ] || fails 'it has read another datagram'
`;
const REACHES_NOTHING = `
if got=$(nc -w 10 10.0.2.2 "$TCP" </dev/null); then fails "it has reached the host: $got"; fi
[ -z "$got" ] || fails "it has read from the host: $got"
if timeout 10 tftp -g -r "$WORD" -l /tmp/word 10.0.2.2 "$UDP"; then fails 'it has reached the host by datagrams'; fi
`;

/** Servers on the host's loopback, which tell everybody a word, and count who asks. */
async function hostServers(t: TestContext) {
  const word = randomBytes(16).toString('hex');
  const seen = { connections: 0, datagrams: 0 };
  const tcp = createServer((socket) => {
    seen.connections += 1;
    socket.on('error', () => undefined).end(word);
  }).listen(0, '127.0.0.1');
  const udp = createSocket('udp4', (message, from) => {
    seen.datagrams += 1;
    // A request of TFTP is answered by the first and last block of the file.
    if (message.readUInt16BE() === 1) udp.send(Buffer.concat([Buffer.of(0, 3, 0, 1), Buffer.from(word)]), from.port);
  }).bind(0, '127.0.0.1');
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
  t.after(() => {
    tcp.close();
    udp.close();
  });
  const ports = { TCP: String((tcp.address() as AddressInfo).port), UDP: String(udp.address().port) };
  return { seen, parameters: { WORD: word, ...ports } };
}

/** Starts a workstation whose script says what it reaches, and @returns who came to the host's servers. */
async function visitorsOf(t: TestContext, network: NetworkMode, text: string) {
  const { seen, parameters } = await hostServers(t);
  const bench = new QemuBench(t);
  await bench.addGuest('linux', 'linux');
  const compute = await bench.open({ network, agentMs: AGENT_MS, bootMs: REAL_MS });
  const scripts = [{ name: 'the component', text: HAS_NETWORK + text, runAs: 'system' as const, parameters }];
  await compute.ensure(workstationRequest({ id: 'one', fence: 1, imageId: 'linux', instanceType: LINUX, scripts }));
  await compute.destroy({ id: 'one', fence: 2, signal: new AbortController().signal });
  return seen;
}

test('with nat a guest reaches what listens on the host alone', async (t) => {
  const { connections, datagrams } = await visitorsOf(t, 'nat', REACHES_THE_HOST);
  assert.equal(connections, 1);
  assert.ok(datagrams > 0);
});

test('with none a guest has a network, and reaches nothing by it', async (t) => {
  assert.deepEqual(await visitorsOf(t, 'none', REACHES_NOTHING), { connections: 0, datagrams: 0 });
});
