/**
 * TLS by the server itself: the clients that speak to it in the clear speak to it securely, a certificate is renewed
 * under them, and a certificate that cannot serve ends the start with the reason.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { connect as connectPlain } from 'node:net';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { AccessDeniedException, ListStudiosCommand, type NimbleClientConfig } from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';
import { readyStudio } from './api.ts';
import { type CertificateFiles, expired, getTrusting as get, lockedKey, makeCertificate } from './certificates.ts';
import { awsCli, python, sdkClient } from './clients.ts';
import { BACKLOT, Installation, type RunningServer } from './installation.ts';

const tlsVariables = ({ cert, key }: CertificateFiles) => ({ BACKLOT_TLS_CERT_FILE: cert, BACKLOT_TLS_KEY_FILE: key });

interface Secure {
  readonly installation: Installation;
  readonly files: CertificateFiles;
  readonly server: RunningServer;
}

async function startSecure(t: TestContext, environment: Record<string, string> = {}): Promise<Secure> {
  const installation = new Installation(t);
  const files = await makeCertificate(installation.directory, 'server');
  const server = await installation.start({ environment: { ...tlsVariables(files), ...environment } });
  return { installation, files, server };
}

/** How the JavaScript SDK is told to trust a certificate. */
function trusting({ cert }: CertificateFiles): NimbleClientConfig {
  return { requestHandler: { httpsAgent: new Agent({ ca: readFileSync(cert), keepAlive: true }) } };
}

function secureSdkClient(t: TestContext, { installation, server, files }: Secure, options: NimbleClientConfig = {}) {
  return sdkClient(t, installation, server, { ...trusting(files), ...options });
}

/** A connection that stays open, and what it is asked. */
async function openConnection(t: TestContext, { server, files }: Pick<Secure, 'server' | 'files'>): Promise<TLSSocket> {
  const socket = connect({ host: '127.0.0.1', port: server.port, ca: readFileSync(files.cert) });
  t.after(() => void socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

async function askHealth(socket: TLSSocket): Promise<string> {
  socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
  const [answer] = await once(socket, 'data');
  return String(answer).slice(0, 15);
}

/** The name in the certificate that a new connection is shown. */
async function nameShown({ port }: RunningServer): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { subject } = socket.getPeerCertificate();
  socket.destroy();
  return String(subject.CN);
}

describe('the server over TLS', { concurrency: true }, () => {
  it('is used by the JavaScript SDK, and says https wherever it says where it is', async (t) => {
    const secure = await startSecure(t);
    const { server, files } = secure;
    assert.match(server.process.stdout, /^Backlot is at https:\/\/127\.0\.0\.1:\d+\n.*\n.* --endpoint-url https:\/\//);
    const client = secureSdkClient(t, secure);
    const studioId = await readyStudio(client, 'film');
    const { studios } = await client.send(new ListStudiosCommand({}));
    assert.deepEqual(
      studios!.map((studio) => [studio.studioId, studio.studioUrl]),
      [[studioId, `${server.url}/film`]],
    );
    for (const [path, text] of [
      ['/healthz', 'ok\n'],
      ['/readyz', 'ready\n'],
    ] as const)
      assert.deepEqual(await get(server.url + path, files), { status: 200, text });
    assert.match((await get(`${server.url}/metrics`, files)).text, /^backlot_requests_total/m);
    const distrustful = sdkClient(t, secure.installation, server, { maxAttempts: 1 });
    await assert.rejects(distrustful.send(new ListStudiosCommand({})), /self-signed certificate/);
  });

  it('is used by the AWS CLI and by boto3', async (t) => {
    const { installation, server, files } = await startSecure(t);
    const listed = await awsCli(installation, server, ['list-studios', '--ca-bundle', files.cert]);
    assert.deepEqual([listed.code, listed.stderr], [0, '']);
    assert.deepEqual(JSON.parse(listed.stdout), { studios: [] });
    const script = join(import.meta.dirname, 'scripts/tls.py');
    const { code, stderr } = await python(installation, server, script, { CA_BUNDLE: files.cert });
    assert.equal(code, 0, stderr);
  });

  it('is where backlot login asks by itself', async (t) => {
    const { installation, server, files } = await startSecure(t);
    const password = join(installation.directory, 'password');
    writeFileSync(password, 'correct horse battery', { mode: 0o600 });
    await installation.json(['user', 'create', '--name', 'ada']);
    await installation.json(['user', 'set-password', 'ada', '--password-file', password]);
    const environment = {
      ...tlsVariables(files),
      BACKLOT_PORT: `${server.port}`,
      NODE_EXTRA_CA_CERTS: files.cert,
    };
    const words = [BACKLOT, 'login', '--user', 'ada', '--password-file', password];
    const { code, stdout, stderr } = await installation.run(words, { environment });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^\{"Version":1,/);
  });

  it('has aws:SecureTransport true in policies, which is false without TLS', async (t) => {
    const secure = await startSecure(t);
    const { installation } = secure;
    const policy = join(installation.directory, 'secure.json');
    const condition = { Bool: { 'aws:SecureTransport': 'true' } };
    const statement = { Effect: 'Allow', Action: 'nimble:*', Resource: '*', Condition: condition };
    writeFileSync(policy, JSON.stringify({ Version: '2012-10-17', Statement: [statement] }));
    const words = ['access-key', 'create', '--service', 'farm', '--policy', policy];
    const credentials = await installation.json<{ accessKeyId: string; secretAccessKey: string }>(words);
    const ask = (client: ReturnType<typeof sdkClient>) => client.send(new ListStudiosCommand({}));
    assert.deepEqual((await ask(secureSdkClient(t, secure, { credentials }))).studios, []);
    await secure.server.stop();
    const plain = await installation.start();
    await assert.rejects(ask(sdkClient(t, installation, plain, { credentials })), AccessDeniedException);
  });

  it('tells clients the public address where that is set', async (t) => {
    const publicUrl = 'https://backlot.example.org';
    const { server } = await startSecure(t, { BACKLOT_PUBLIC_URL: publicUrl });
    // It prints where clients are sent; the log has what it listens at.
    assert.equal(server.url, publicUrl);
    await until('the log says where it listens', () =>
      /"address":"https:\/\/127\.0\.0\.1:\d+"/.test(server.process.stderr),
    );
  });

  it('takes a renewed certificate on SIGHUP, without dropping a connection', async (t) => {
    const secure = await startSecure(t);
    const { installation, files, server } = secure;
    const before = await openConnection(t, secure);
    const slow = await openConnection(t, secure);
    slow.write('GET /healthz HTTP/1.1\r\nHost: x\r\n');
    assert.equal(await nameShown(server), 'server');
    const next = await makeCertificate(installation.directory, 'renewed');
    copyFileSync(next.cert, files.cert);
    copyFileSync(next.key, files.key);
    server.process.signal('SIGHUP');
    await until('new connections see the new certificate', async () => (await nameShown(server)) === 'renewed');
    assert.equal(await askHealth(before), 'HTTP/1.1 200 OK');
    slow.write('\r\n');
    assert.equal(String((await once(slow, 'data'))[0]).slice(0, 15), 'HTTP/1.1 200 OK');
    assert.deepEqual((await secureSdkClient(t, secure).send(new ListStudiosCommand({}))).studios, []);
  });

  it('keeps the certificate that it has when the renewed one cannot serve', async (t) => {
    const secure = await startSecure(t);
    const { installation, files, server } = secure;
    copyFileSync((await makeCertificate(installation.directory, 'other')).key, files.key);
    server.process.signal('SIGHUP');
    await until('the log says so', () => /could not be renewed; the one before stays/.test(server.process.stderr));
    assert.match(server.process.stderr, /The key in \S+server\.key \(BACKLOT_TLS_KEY_FILE\) is not that of/);
    assert.equal(await nameShown(server), 'server');
    assert.equal((await get(`${server.url}/readyz`, files)).status, 200);
  });

  it('drops what is no TLS, and stops in order while a connection has not come to an agreement', async (t) => {
    const { server, files } = await startSecure(t);
    const plain = connectPlain(server.port, '127.0.0.1');
    plain.end('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n');
    const [answer] = await Promise.all([plain.setEncoding('latin1').toArray(), once(plain, 'close')]);
    assert.ok(!answer.join('').includes('HTTP/1.1'), answer.join(''));
    const silent = connectPlain(server.port, '127.0.0.1');
    t.after(() => void silent.destroy());
    await once(silent, 'connect');
    assert.equal((await get(`${server.url}/healthz`, files)).status, 200);
    const { code, stderr } = await server.stop();
    assert.equal(code, 0, stderr);
    assert.doesNotMatch(stderr, /without waiting any longer/);
  });
});

describe('a start with TLS', { concurrency: true }, () => {
  it('is refused in one line that names the file, and makes nothing', async (t) => {
    const installation = new Installation(t);
    const { directory } = installation;
    const [good, other] = await Promise.all([makeCertificate(directory, 'good'), makeCertificate(directory, 'other')]);
    const open = join(directory, 'open.key');
    copyFileSync(good.key, open);
    chmodSync(open, 0o644);
    const garbage = join(directory, 'garbage.pem');
    writeFileSync(garbage, 'not a certificate', { mode: 0o600 });
    const missing = join(directory, 'missing.pem');
    const cases: readonly (readonly [cert: string | undefined, key: string | undefined, says: RegExp])[] = [
      [good.cert, undefined, /BACKLOT_TLS_CERT_FILE is set and BACKLOT_TLS_KEY_FILE is not: set both, or neither/],
      [undefined, good.key, /BACKLOT_TLS_KEY_FILE is set and BACKLOT_TLS_CERT_FILE is not: set both, or neither/],
      [missing, good.key, /\S+missing\.pem \(BACKLOT_TLS_CERT_FILE\) cannot be read: it does not exist/],
      [good.cert, missing, /\S+missing\.pem \(BACKLOT_TLS_KEY_FILE\) cannot be read: it does not exist/],
      [directory, good.key, /\(BACKLOT_TLS_CERT_FILE\) cannot be read: EISDIR/],
      [garbage, good.key, /\S+garbage\.pem \(BACKLOT_TLS_CERT_FILE\) does not begin with a certificate in PEM form/],
      [good.key, good.key, /\S+good\.key \(BACKLOT_TLS_CERT_FILE\) does not begin with a certificate/],
      [good.cert, garbage, /\S+garbage\.pem \(BACKLOT_TLS_KEY_FILE\) holds no private key in PEM form/],
      [good.cert, await lockedKey(good), /\(BACKLOT_TLS_KEY_FILE\) is locked by a passphrase/],
      [good.cert, other.key, /The key in \S+other\.key \(BACKLOT_TLS_KEY_FILE\) is not that of the first certificate/],
      [good.cert, open, /\S+open\.key \(BACKLOT_TLS_KEY_FILE\) is within reach of everybody .*chmod 600/],
    ];
    for (const [cert, key, says] of cases) {
      const environment = { BACKLOT_TLS_CERT_FILE: cert, BACKLOT_TLS_KEY_FILE: key };
      const serving = installation.spawn([BACKLOT, 'serve', '--port', '0'], { environment });
      await until('it ends or starts', () => serving.ended || serving.stdout !== '');
      serving.signal('SIGKILL');
      const { code, stderr } = await serving.finished;
      assert.equal(code, 1, stderr);
      assert.match(stderr, /^backlot: [^\n]+\n$/);
      assert.match(stderr, says);
      assert.doesNotMatch(stderr, /PRIVATE KEY/);
    }
    assert.equal(existsSync(installation.dataDir), false);
  });

  it('goes on with a certificate that is not valid at this time, and says so', async (t) => {
    const installation = new Installation(t);
    const files = await expired(await makeCertificate(installation.directory, 'server'));
    const server = await installation.start({ environment: tlsVariables(files) });
    await until('the log warns', () => /the TLS certificate is not valid at this time/.test(server.process.stderr));
  });
});

describe('SIGHUP without TLS', () => {
  it('stops the server in order, as a terminal that closes would have it', async (t) => {
    const server = await new Installation(t).start();
    const { code, signal } = await server.stop('SIGHUP');
    assert.deepEqual([code, signal], [0, null]);
  });
});
