/**
 * How the server starts and stops: what the first start makes, what the next one finds, why a start is refused, and that
 * a stop in the middle of a request and of an import loses neither.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { describe, it, type TestContext } from 'node:test';
import { Sha256 } from '@aws-crypto/sha256-js';
import { ListStudiosCommand } from '@aws-sdk/client-nimble';
import { SignatureV4 } from '@smithy/signature-v4';
import { toolsHolding } from '../drivers/tools.ts';
import { until } from '../support/until.ts';
import { createImage, readyStudio, settledImage } from './api.ts';
import { readProfile, sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { BACKLOT, Installation, type Running, type RunningServer } from './installation.ts';

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

/** Everything in the directory, with its mode. */
function modesIn(directory: string): Map<string, string> {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  return new Map(
    entries.map((entry) => [
      entry.name,
      `${entry.isDirectory() ? 'd' : 'f'}${modeOf(`${entry.parentPath}/${entry.name}`)}`,
    ]),
  );
}

/** Asserts that a server does not start, for a reason in one line. */
async function refused(serving: Running, says: RegExp): Promise<void> {
  await until('the server ends or starts', () => serving.ended || serving.stdout !== '');
  serving.signal('SIGKILL');
  const { code, stdout, stderr } = await serving.finished;
  assert.equal(stdout, '');
  assert.equal(code, 1, stderr);
  assert.match(stderr, /^backlot: [^\n]+\n$/);
  assert.match(stderr, says);
}

/** For whoever may read everything: becomes the same user without that right. It must still be able to read our files. */
const ORDINARY = process.getuid!() === 0 ? ['setpriv', '--bounding-set=-all', '--inh-caps=-all', '--'] : [];

const get = async ({ url }: RunningServer, path: string) => {
  const response = await fetch(url + path);
  return { status: response.status, text: await response.text() };
};

describe('the server', { concurrency: true }, () => {
  it('makes everything it needs on its first start, for nobody else to read, and finds it again', async (t) => {
    const installation = new Installation(t);
    const first = await installation.start();
    assert.match(
      first.process.stdout,
      /^Backlot is at http:\/\/127\.0\.0\.1:\d+\nTry it:\n {2}AWS_SHARED_CREDENTIALS_FILE=/,
    );
    assert.equal(modeOf(installation.dataDir), '700');
    for (const [name, mode] of modesIn(installation.dataDir)) assert.match(mode, /^(d700|f600)$/, name);
    const profile = readFileSync(installation.credentials, 'utf8');
    assert.match(
      profile,
      /^\[default\]\naws_access_key_id = AKIA[A-Z2-7]{16}\naws_secret_access_key = [\w+/]{40}\nregion = us-west-2\n$/,
    );
    const studioId = await readyStudio(sdkClient(t, installation, first), 'kept');
    const stopped = await first.stop();
    assert.deepEqual([stopped.code, stopped.signal], [0, null]);

    const second = await installation.start();
    assert.equal(readFileSync(installation.credentials, 'utf8'), profile);
    const { studios } = await sdkClient(t, installation, second).send(new ListStudiosCommand({}));
    assert.deepEqual(
      studios!.map((studio) => studio.studioId),
      [studioId],
    );
    assert.equal((await installation.json<object[]>(['access-key', 'list'])).length, 1);
    assert.equal((await second.stop('SIGINT')).code, 0);
  });

  it('makes an access key once only, even if that and its file are taken away', async (t) => {
    const installation = new Installation(t);
    await (await installation.start()).stop();
    const [made] = await installation.json<{ accessKeyId: string }[]>(['access-key', 'list']);
    await installation.json(['access-key', 'delete', made!.accessKeyId]);
    rmSync(installation.credentials);
    await installation.start();
    assert.equal(existsSync(installation.credentials), false);
    assert.deepEqual(await installation.json(['access-key', 'list']), []);
  });

  it('answers whether it lives and whether it is ready, to anybody', async (t) => {
    const server = await new Installation(t).start();
    assert.deepEqual(await get(server, '/healthz'), { status: 200, text: 'ok\n' });
    assert.deepEqual(await get(server, '/readyz'), { status: 200, text: 'ready\n' });
    const metrics = await get(server, '/metrics');
    assert.equal(metrics.status, 200);
    assert.match(metrics.text, /^backlot_requests_total\{operation="\/readyz",status="200"\} 1$/m);
    assert.equal((await get(server, '/2020-08-01/studios')).status, 403);
    assert.equal((await get(server, '/nothing')).status, 404);
  });

  it('refuses a data directory that another server has, and lets it go when that one is killed', async (t) => {
    const installation = new Installation(t);
    const first = await installation.start();
    const second = installation.spawn([BACKLOT, 'serve', '--port', '0']);
    await refused(second, /Another Backlot server is using the data directory .*--data-dir/);
    assert.equal((await get(first, '/readyz')).status, 200);
    await first.kill();
    await installation.start();
  });

  it('refuses a port that is in use', async (t) => {
    const { port } = await new Installation(t).start();
    await refused(
      new Installation(t).spawn([BACKLOT, 'serve', '--port', String(port)]),
      new RegExp(`Cannot listen on 127\\.0\\.0\\.1:${port}: the port is in use; choose another with --port`),
    );
  });

  it('refuses a data directory that it cannot write to', async (t) => {
    const installation = new Installation(t);
    const serve = [...ORDINARY, BACKLOT, 'serve', '--port', '0'];
    const inside = (path: string) => installation.spawn([...serve, '--data-dir', path]);
    const place = `${installation.directory}/closed`;
    mkdirSync(place);
    chmodSync(place, 0o500);
    await refused(inside(place), /The data directory \S+\/closed cannot be used: EACCES/);
    await refused(inside(`${place}/data`), /The data directory \S+\/closed\/data cannot be used: EACCES/);
    writeFileSync(`${installation.directory}/file`, '');
    await refused(inside(`${installation.directory}/file`), /The data directory \S+\/file cannot be used/);
    assert.deepEqual(readdirSync(place), []);
  });

  it('refuses a database that it cannot write, or that is none', async (t) => {
    const installation = new Installation(t);
    await (await installation.start()).stop();
    const serve = () => installation.spawn([...ORDINARY, BACKLOT, 'serve', '--port', '0']);
    chmodSync(installation.path('backlot.db'), 0o400);
    await refused(serve(), /cannot be used: EACCES.*backlot\.db/);
    chmodSync(installation.path('backlot.db'), 0o600);
    writeFileSync(installation.path('backlot.db'), 'not a database, but long enough to be taken for one'.repeat(100));
    await refused(serve(), /The database \S+\/backlot\.db cannot be opened/);
  });

  it('refuses keys that others may read, and a root key or a database of another installation', async (t) => {
    const installation = new Installation(t);
    await (await installation.start()).stop();
    const serve = () => installation.spawn([BACKLOT, 'serve', '--port', '0']);
    const rootKey = installation.path('keys/root.key');
    chmodSync(rootKey, 0o644);
    await refused(serve(), /The root key \S+ is within reach of others/);
    chmodSync(rootKey, 0o600);
    const own = readFileSync(rootKey);
    writeFileSync(rootKey, Buffer.alloc(own.length, 1));
    await refused(serve(), /root\.key .* is not the key that the database was made with/);
    writeFileSync(rootKey, own);
    const [disk, words] = [await makeDisk(installation.directory, 'disk.raw'), ['--platform', 'LINUX', '--provided']];
    await installation.json(['machine-image', 'import', disk, ...words]);
    rmSync(installation.path('backlot.db'));
    await refused(serve(), /The database is new, but there are 1 encrypted images/);
  });

  it('answers a slow request and puts down an import when it is asked to stop, and goes on with that', async (t) => {
    const { installation, server, studioId, streamingImageId } = await whileImporting(t);
    const slow = await slowRequest(installation, server);
    const askedAt = performance.now();
    const stopping = server.stop();
    await until('it takes no connections any more', () =>
      fetch(`${server.url}/healthz`).then(
        () => false,
        () => true,
      ),
    );
    slow.finish();
    assert.equal(await slow.answer, 200);
    const { code, signal, stderr } = await stopping;
    assert.deepEqual([code, signal], [0, null], stderr);
    assert.ok(performance.now() - askedAt < 10_000);
    assert.deepEqual(toolsHolding(installation.dataDir), []);
    assert.deepEqual(readdirSync(installation.path('images/staging')), []);

    const next = await installation.start();
    const client = sdkClient(t, installation, next);
    const { studios } = await client.send(new ListStudiosCommand({}));
    assert.ok(studios!.some(({ studioName }) => studioName === 'slow'));
    assert.equal((await settledImage(client, studioId, streamingImageId)).state, 'READY');
  });

  it('does not wait for ever for a request that does not end', async (t) => {
    const installation = new Installation(t);
    const server = await installation.start();
    const slow = await slowRequest(installation, server);
    const askedAt = performance.now();
    assert.equal((await server.stop()).code, 0);
    assert.ok(performance.now() - askedAt < 10_000);
    await assert.rejects(slow.answer);
  });

  it('does not wait for connections on which nothing happens', async (t) => {
    const installation = new Installation(t);
    const server = await installation.start();
    const client = sdkClient(t, installation, server);
    await Promise.all(Array.from({ length: 10 }, () => client.send(new ListStudiosCommand({}))));
    const askedAt = performance.now();
    assert.equal((await server.stop()).code, 0);
    assert.ok(performance.now() - askedAt < 8_000);
  });
});

/** A server with an image in the making, at the moment when qemu-img runs. */
async function whileImporting(t: TestContext) {
  const installation = new Installation(t);
  const server = await installation.start();
  const disk = await makeDisk(installation.directory, 'disk.raw', { mebibytes: 32, noiseMebibytes: 24 });
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
  const client = sdkClient(t, installation, server);
  const studioId = await readyStudio(client, 'film');
  const streamingImageId = await createImage(client, studioId, ec2ImageId);
  await until('qemu-img runs', () => toolsHolding(installation.dataDir).length > 0);
  return { installation, server, studioId, streamingImageId };
}

/** A signed CreateStudio whose body comes in two halves. */
async function slowRequest(installation: Installation, { url, port }: RunningServer) {
  const { region, ...credentials } = readProfile(installation.credentials);
  const roles = { adminRoleArn: 'arn:aws:iam::1:role/a', userRoleArn: 'arn:aws:iam::1:role/u' };
  const body = JSON.stringify({ studioName: 'slow', displayName: 'Slow', ...roles });
  const signer = new SignatureV4({ service: 'nimble', region, credentials, sha256: Sha256 });
  const path = '/2020-08-01/studios';
  const { headers } = await signer.sign({
    method: 'POST',
    protocol: 'http:',
    hostname: '127.0.0.1',
    path,
    headers: { host: `127.0.0.1:${port}`, 'content-type': 'application/json' },
    body,
  });
  const framing = { 'content-length': body.length, expect: '100-continue' };
  const sending = request(url + path, { method: 'POST', headers: { ...headers, ...framing } });
  const answer = new Promise<number>((resolve, reject) => {
    sending.on('response', (response) => {
      response.resume();
      response.on('end', () => resolve(response.statusCode!));
    });
    sending.on('error', reject);
  });
  // It may come before anybody waits for it.
  answer.catch(() => undefined);
  // The server has the head, and says so.
  await once(sending, 'continue');
  sending.write(body.slice(0, 5));
  return { answer, finish: () => sending.end(body.slice(5)) };
}
