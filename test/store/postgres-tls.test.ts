/**
 * TLS between the store and its database, with certificates made here and a server that lets nobody in without: whoever
 * asks for it gets it checked, whichever word was used, and only who says `no-verify` gets it unchecked.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openPostgres } from '../../src/store/postgres.ts';
import { withStrictTls } from '../../src/store/postgres-address.ts';
import { listenForWakes } from '../../src/store/postgres-wakes.ts';
import { startCluster } from '../support/postgres.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { rowOf } from './conformance.ts';

const directory = temporaryDirectory({ after });
const place = (name: string) => join(directory, name);
const PASSWORD = 'S3CRETpassword';

/** A certificate for `localhost` and its key, signed by nobody but itself. */
function makeCertificate(name: string): { certificate: string; key: string } {
  const [certificate, key] = [place(`${name}.pem`), place(`${name}.key`)];
  const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const words = [
    '-subj',
    `/CN=${name}`,
    '-addext',
    'subjectAltName=DNS:localhost',
    '-keyout',
    key,
    '-out',
    certificate,
  ];
  execFileSync('openssl', [...made, ...words], { stdio: ['ignore', 'ignore', 'pipe'] });
  return { certificate, key };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const own = makeCertificate('own');
const foreign = makeCertificate('foreign');
const port = await freePort();
const cluster = await startCluster(
  { after },
  {
    settings: { listen_addresses: '127.0.0.1', port: String(port), ssl: 'on' },
    files: {
      'server.crt': readFileSync(own.certificate, 'utf8'),
      'server.key': readFileSync(own.key, 'utf8'),
      'pg_hba.conf': 'local all all trust\nhostssl all all 127.0.0.1/32 trust\n',
    },
  },
);
const socketUrl = await cluster.createDatabase();
const { pathname } = new URL(socketUrl);

const warnings: string[] = [];
process.on('warning', ({ message }) => warnings.push(message));

const addressOf = (host: string, query: string) =>
  `postgresql://admin:${PASSWORD}@${host}:${port}${pathname}${query && `?${query}`}`;
const open = (url: string) => openPostgres({ url, now: Date.now, connectionsMax: 1 });
const ENCRYPTED = `SELECT count(*) AS n FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
  WHERE ssl AND datname = current_database() AND client_addr IS NOT NULL`;
const encrypted = async () => Number((await cluster.run(socketUrl, ENCRYPTED))[0]!.n);

const [right, wrong] = [own, foreign].map(({ certificate }) => `&sslrootcert=${encodeURIComponent(certificate)}`);
const NOT_TRUSTED = /self-signed certificate/;
const NOT_ITS_NAME = /Hostname\/IP does not match certificate/;
const CHECKED = ['prefer', 'require', 'verify-ca', 'verify-full'].flatMap((mode) => [
  { host: 'localhost', query: `sslmode=${mode}${right}`, refused: undefined },
  { host: 'localhost', query: `sslmode=${mode}${wrong}`, refused: NOT_TRUSTED },
  { host: 'localhost', query: `sslmode=${mode}`, refused: NOT_TRUSTED },
  { host: '127.0.0.1', query: `sslmode=${mode}${right}`, refused: NOT_ITS_NAME },
]);
const CASES: readonly { readonly host: string; readonly query: string; readonly refused: RegExp | undefined }[] = [
  ...CHECKED,
  { host: '127.0.0.1', query: 'sslmode=no-verify', refused: undefined },
  { host: '127.0.0.1', query: 'uselibpqcompat=true&sslmode=require', refused: undefined },
  { host: 'localhost', query: 'sslmode=disable', refused: /28000: .*no encryption/ },
  { host: 'localhost', query: '', refused: /28000: .*no encryption/ },
];

for (const { host, query, refused } of CASES) {
  const words = query.replace(/(%2F|\/)[^&]*%2F/, '');
  test(`${host} with ${words || 'nothing said'} is ${refused ? 'refused' : 'encrypted'}`, async () => {
    if (refused) {
      await assert.rejects(open(addressOf(host, query)), (error: Error) => {
        assert.match(error.message, refused);
        assert.ok(!JSON.stringify([error.message, error.stack, { ...error }]).includes(PASSWORD));
        return true;
      });
      return;
    }
    const store = await open(addressOf(host, query));
    try {
      assert.equal(await store.get('thing', 'nothing'), undefined);
      assert.equal(await encrypted(), 1);
    } finally {
      await store.close();
      await until('it is gone', async () => (await encrypted()) === 0);
    }
  });
}

test('wake-ups come through TLS as well', async (t) => {
  const url = addressOf('localhost', `sslmode=require${right}`);
  const store = await open(url);
  let woken = 0;
  const onWake = () => {
    woken += 1;
  };
  const wakes = listenForWakes({ url, onWake, warn: (message) => assert.fail(message) });
  t.after(async () => {
    await wakes.close();
    await store.close();
  });
  await until('it hears itself', () => woken >= 2);
  await store.write([{ op: 'insert', row: rowOf('due', { dueAt: 0 }) }]);
  await until('it hears of the row', () => woken >= 3);
});

test('only the mode is read in another way, and nothing is warned of', () => {
  for (const [given, read] of [
    ['postgres://a:b%40c@h:1/d', 'postgres://a:b%40c@h:1/d'],
    ['postgres:///d?host=%2Frun&user=u', 'postgres:///d?host=%2Frun&user=u'],
    ['postgres://h/d?sslmode=require', 'postgres://h/d?sslmode=verify-full'],
    ['postgres://h/d?x=sslmode=require&sslmode=prefer&y=1', 'postgres://h/d?x=sslmode=require&sslmode=verify-full&y=1'],
    ['postgres://h/d?sslmode=no-verify', 'postgres://h/d?sslmode=no-verify'],
    ['postgres://h/d?sslmode=require&uselibpqcompat=true', 'postgres://h/d?sslmode=require&uselibpqcompat=true'],
  ] as const) {
    assert.equal(withStrictTls(given), read);
  }
  assert.deepEqual(warnings, []);
});
