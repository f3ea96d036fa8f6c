/**
 * A reverse proxy in front of the server that rewrites the Host header, as nginx does unless it is told otherwise, and
 * changes nothing else. Clients sign the host that they know: BACKLOT_PUBLIC_URL tells the server which one that is.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import {
  CreateStudioCommand,
  GetStudioCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  type NimbleClient,
  TagResourceCommand,
  UpdateStudioCommand,
} from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';
import { readyStudio, settledStudio } from './api.ts';
import { awsCli, sdkClient } from './clients.ts';
import { Installation, type RunningServer, type Scope } from './installation.ts';

const ROLES = { adminRoleArn: 'arn:aws:iam::000000000000:role/a', userRoleArn: 'arn:aws:iam::000000000000:role/u' };
const REFUSED = 254;

class ReverseProxy {
  /** Where requests go; known only when the server has started. */
  upstream = '';
  /** What was passed on. */
  readonly forwarded: string[] = [];
  readonly #server = createServer((incoming, outgoing) => this.#pass(incoming, outgoing));

  static async start(scope: Scope): Promise<ReverseProxy> {
    const proxy = new ReverseProxy();
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    scope.after(async () => {
      proxy.#server.close();
      proxy.#server.closeAllConnections();
    });
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The target and the headers go as they came, byte for byte, but for the host. */
  #pass(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const { method, url, rawHeaders } = incoming;
    const { host, hostname, port } = new URL(this.upstream);
    const headers = rawHeaders.map((text, index) => (/^host$/i.test(rawHeaders[index - 1] ?? '') ? host : text));
    const passed = request({ hostname, port, method, path: url, headers, setHost: false });
    passed.on('response', (answer) => {
      outgoing.writeHead(answer.statusCode!, answer.rawHeaders);
      answer.pipe(outgoing);
    });
    passed.on('error', () => outgoing.destroy());
    incoming.pipe(passed);
    this.forwarded.push(`${method} ${url}`);
  }
}

/** The address that the server listens at, which is not the one that it tells clients. */
function ownAddress({ process }: RunningServer): Promise<string> {
  return until('the log says where the server listens', () => /"address":"(http:[^"]+)"/.exec(process.stderr)?.[1]);
}

/** A proxy and a server behind it. */
async function startBehindProxy(scope: Scope, { isTold }: { readonly isTold: boolean }) {
  const proxy = await ReverseProxy.start(scope);
  const installation = new Installation(scope, isTold ? { BACKLOT_PUBLIC_URL: proxy.url } : {});
  const server = await installation.start();
  proxy.upstream = await ownAddress(server);
  assert.notEqual(proxy.upstream, proxy.url);
  return { proxy, installation, server, direct: { url: proxy.upstream } };
}

/** Commands that need nothing to be there. */
const COMMANDS = [
  new ListStudiosCommand({}),
  new CreateStudioCommand({ studioName: 'refused', displayName: 'Refused', ...ROLES }),
  new GetStudioCommand({ studioId: 'us-west-2:none' }),
  new ListTagsForResourceCommand({ resourceArn: 'arn:aws:nimble:us-west-2:000000000000:studio/none' }),
] as const;

/** Asserts that none of these calls is believed, whatever it asks for. */
async function assertUnsigned(client: NimbleClient): Promise<void> {
  for (const command of COMMANDS) {
    const call = client.send(command as ListStudiosCommand);
    await assert.rejects(call, (error: Error & { $metadata: { httpStatusCode: number } }) => {
      assert.equal(error.name, 'InvalidSignatureException', error.message);
      assert.equal(error.$metadata.httpStatusCode, 403);
      return true;
    });
  }
}

describe('behind a proxy that rewrites the Host header', { concurrency: true }, () => {
  it('the JavaScript SDK works when the server is told the public address', async (t) => {
    const { proxy, installation } = await startBehindProxy(t, { isTold: true });
    const client = sdkClient(t, installation, proxy);
    const studioId = await readyStudio(client, 'film');
    await client.send(new UpdateStudioCommand({ studioId, displayName: 'Films' }));
    const studio = await settledStudio(client, studioId);
    assert.equal(studio.displayName, 'Films');
    assert.equal(studio.studioUrl, `${proxy.url}/film`);
    // An ARN in a path, whose escaped slash must come through as it is.
    const resource = { resourceArn: studio.arn! };
    await client.send(new TagResourceCommand({ ...resource, tags: { show: 'c&d/ß' } }));
    assert.deepEqual((await client.send(new ListTagsForResourceCommand(resource))).tags, { show: 'c&d/ß' });
    assert.ok(proxy.forwarded.includes(`POST /2020-08-01/tags/${encodeURIComponent(studio.arn!)}`));
  });

  it('the AWS CLI works, with the line that the server prints for a start', async (t) => {
    const { proxy, installation, server } = await startBehindProxy(t, { isTold: true });
    assert.ok(server.process.stdout.startsWith(`Backlot is at ${proxy.url}\n`), server.process.stdout);
    assert.ok(!server.process.stdout.includes(proxy.upstream), server.process.stdout);
    const line = /^ {2}(AWS_SHARED_CREDENTIALS_FILE=.*)$/m.exec(server.process.stdout)![1]!;
    assert.ok(line.endsWith(` --endpoint-url ${proxy.url}`), line);
    const printed = await installation.run(['sh', '-c', line], { environment: { PATH: '/usr/bin:/bin' } });
    assert.deepEqual([printed.code, printed.stderr], [0, '']);
    assert.deepEqual(JSON.parse(printed.stdout), { studios: [] });
    assert.deepEqual(proxy.forwarded, ['GET /2020-08-01/studios']);

    const answer = async (...words: string[]) => {
      const { code, stdout, stderr } = await awsCli(installation, proxy, words);
      assert.equal(code, 0, stderr);
      return stdout === '' ? undefined : JSON.parse(stdout).studio;
    };
    const roles = ['--admin-role-arn', ROLES.adminRoleArn, '--user-role-arn', ROLES.userRoleArn];
    const created = await answer('create-studio', '--studio-name', 'film', '--display-name', 'Film', ...roles);
    const place = ['--studio-id', created.studioId];
    await settledStudio(sdkClient(t, installation, proxy), created.studioId);
    await answer('update-studio', ...place, '--display-name', 'Films');
    const read = await answer('get-studio', ...place);
    assert.deepEqual([read.displayName, read.studioUrl], ['Films', `${proxy.url}/film`]);
  });

  it('a call that goes past the proxy is refused: its host is not the one that the server expects', async (t) => {
    const { installation, direct } = await startBehindProxy(t, { isTold: true });
    await assertUnsigned(sdkClient(t, installation, direct));
    const { code, stderr } = await awsCli(installation, direct, ['list-studios']);
    assert.equal(code, REFUSED, stderr);
    assert.match(stderr, /\(InvalidSignatureException\) when calling the ListStudios operation/);
    // What takes no signature is answered there all the same.
    assert.equal((await fetch(`${direct.url}/readyz`)).status, 200);
  });

  it('no call is believed when the server is not told, but for those that go past the proxy', async (t) => {
    const { proxy, installation, server, direct } = await startBehindProxy(t, { isTold: false });
    assert.equal(server.url, direct.url);
    await assertUnsigned(sdkClient(t, installation, proxy));
    assert.equal(proxy.forwarded.length, COMMANDS.length);
    const { code, stderr } = await awsCli(installation, proxy, ['list-studios']);
    assert.equal(code, REFUSED, stderr);
    assert.match(stderr, /\(InvalidSignatureException\) when calling the ListStudios operation/);
    const client = sdkClient(t, installation, direct);
    assert.deepEqual((await client.send(new ListStudiosCommand({}))).studios, []);
  });
});
