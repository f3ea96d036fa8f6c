/**
 * deploy/nginx.conf in a real nginx, in front of the real server: clients that sign the public name are believed, tags by
 * ARN included, and the one mistake that everybody makes is shown to be one.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  GetStudioCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  TagResourceCommand,
} from '@aws-sdk/client-nimble';
import { WebSocket } from 'ws';
import { until } from '../support/until.ts';
import { readyStudio } from './api.ts';
import { type CertificateFiles, getTrusting, makeCertificate } from './certificates.ts';
import { awsCli, sdkClient } from './clients.ts';
import { Installation, PROJECT, type Running } from './installation.ts';

const NGINX = '/usr/sbin/nginx';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The configuration as it stands in deploy/, but for ports and files. */
function configuration(port: number, upstreamPort: number, { cert, key }: CertificateFiles): string {
  const replacements: readonly (readonly [string, string])[] = [
    ['listen 443 ssl;', `listen 127.0.0.1:${port} ssl;`],
    ['server 127.0.0.1:8642;', `server 127.0.0.1:${upstreamPort};`],
    ['/etc/ssl/backlot/fullchain.pem', cert],
    ['/etc/ssl/backlot/privkey.pem', key],
  ];
  let text = readFileSync(join(PROJECT, 'deploy/nginx.conf'), 'utf8');
  for (const [from, to] of replacements) {
    assert.ok(text.includes(from), from);
    text = text.replace(from, to);
  }
  return text;
}

async function startNginx(installation: Installation, site: string): Promise<Running> {
  const place = join(installation.directory, 'nginx');
  mkdirSync(place, { recursive: true });
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => `${name}_temp_path ${place};`);
  // One process, which ends whole when it is killed.
  const main = `daemon off; master_process off; pid ${place}/pid; error_log stderr notice; events {}`;
  const file = join(place, 'nginx.conf');
  writeFileSync(file, `${main}\nhttp { access_log off; ${temporary.join(' ')}\n${site}\n}\n`);
  const running = installation.spawn([NGINX, '-p', place, '-c', file, '-e', 'stderr']);
  await until('nginx has started', () => running.ended || /nginx\/\d/.test(running.stderr));
  assert.equal(running.ended, false, running.stderr);
  return running;
}

async function behindNginx(t: TestContext, change: (site: string) => string = (site) => site) {
  const [port, upstreamPort] = [await freePort(), await freePort()];
  const proxy = { url: `https://127.0.0.1:${port}` };
  const installation = new Installation(t, { BACKLOT_PUBLIC_URL: proxy.url });
  const files = await makeCertificate(installation.directory, 'nginx');
  const server = await installation.start({ port: upstreamPort });
  await startNginx(installation, change(configuration(port, upstreamPort, files)));
  const requestHandler = { httpsAgent: new Agent({ ca: readFileSync(files.cert) }) };
  const client = sdkClient(t, installation, proxy, { requestHandler, maxAttempts: 1 });
  return { proxy, installation, files, server, client, upstreamPort };
}

async function tagStudio({ client }: Pick<Awaited<ReturnType<typeof behindNginx>>, 'client'>) {
  const studioId = await readyStudio(client, 'film');
  const { studio } = await client.send(new GetStudioCommand({ studioId }));
  const resource = { resourceArn: studio!.arn! };
  await client.send(new TagResourceCommand({ ...resource, tags: { show: 'a/b' } }));
  return (await client.send(new ListTagsForResourceCommand(resource))).tags;
}

describe('behind nginx', { concurrency: true }, () => {
  it('clients work through deploy/nginx.conf, tags by ARN included', async (t) => {
    const world = await behindNginx(t);
    assert.deepEqual(await tagStudio(world), { show: 'a/b' });
    const words = ['list-studios', '--ca-bundle', world.files.cert];
    const { code, stdout, stderr } = await awsCli(world.installation, world.proxy, words);
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).studios[0].studioUrl, `${world.proxy.url}/film`);
    assert.equal((await getTrusting(`${world.proxy.url}/metrics`, world.files)).status, 404);
    assert.equal((await fetch(`http://127.0.0.1:${world.upstreamPort}/metrics`)).status, 200);
  });

  it('websockets reach the server, and nothing else does as one', async (t) => {
    const { proxy, files } = await behindNginx(t);
    const place = `/streams/${'A'.repeat(22)}/socket`;
    const socket = new WebSocket(`${proxy.url.replace('https', 'wss')}${place}`, {
      ca: readFileSync(files.cert),
      headers: { origin: proxy.url },
    });
    t.after(() => socket.terminate());
    socket.on('error', () => undefined);
    // Refused for want of a cookie, which only a request that asks for a websocket is asked for.
    const [, response] = await once(socket, 'unexpected-response');
    assert.equal(response.statusCode, 403);
    const plain = await getTrusting(`${proxy.url}${place}`, files);
    assert.equal(plain.status, 400);
    const page = await getTrusting(`${proxy.url}/streams/${'A'.repeat(22)}`, files);
    assert.equal(page.status, 200);
  });

  it('a slash behind the name in proxy_pass breaks whatever is encoded in a path', async (t) => {
    const { client } = await behindNginx(t, (site) =>
      site.replace('proxy_pass http://backlot;', 'proxy_pass http://backlot/;'),
    );
    assert.deepEqual((await client.send(new ListStudiosCommand({}))).studios, []);
    const resourceArn = 'arn:aws:nimble:us-west-2:000000000000:studio/none';
    const tags = client.send(new ListTagsForResourceCommand({ resourceArn }));
    await assert.rejects(tags, { name: 'UnknownOperationException' });
    const studio = client.send(new GetStudioCommand({ studioId: 'us-west-2:none' }));
    await assert.rejects(studio, { name: 'InvalidSignatureException' });
  });
});
