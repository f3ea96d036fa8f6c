/**
 * People who log in, as they do it: a password typed at a terminal, piped in or in a file; credentials by `backlot login`;
 * and the AWS CLI, boto3 and the SDK with a `credential_process` and nothing else, in the studio where one administers.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  DeleteStudioCommand,
  ListStreamingImagesCommand,
  type NimbleClient,
  PutStudioMembersCommand,
} from '@aws-sdk/client-nimble';
import { readyStudio } from './api.ts';
import { sdkClient } from './clients.ts';
import { BACKLOT, type Finished, Installation, PROJECT, type RunningServer, type Scope } from './installation.ts';

const PASSWORD = 'correct horse battery';
const installation = new Installation({ after });
const passwordFile = join(installation.directory, 'password');
let server: RunningServer;
let administrator: NimbleClient;
let mine: string;
let theirs: string;

interface Made {
  readonly principalId: string;
  readonly identityStoreId: string;
}

interface Temporary {
  readonly Version: number;
  readonly AccessKeyId: string;
  readonly SecretAccessKey: string;
  readonly SessionToken: string;
  readonly Expiration: string;
}

before(async () => {
  server = await installation.start();
  administrator = sdkClient({ after }, installation, server);
  [mine, theirs] = (await Promise.all(['mine', 'theirs'].map((name) => readyStudio(administrator, name)))) as [
    string,
    string,
  ];
  const { principalId, identityStoreId } = await installation.json<Made>(['user', 'create', '--name', 'ada']);
  const members = [{ principalId, persona: 'ADMINISTRATOR' as const }];
  await administrator.send(new PutStudioMembersCommand({ studioId: mine, identityStoreId, members }));
  writeFileSync(passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
  await installation.json(['user', 'set-password', 'ada', '--password-file', passwordFile]);
});

const loginWords = (...more: string[]) => ['login', '--user', 'ada', '--endpoint', server.url, ...more];

async function logIn(): Promise<Temporary> {
  return installation.json<Temporary>(loginWords('--password-file', passwordFile));
}

function clientOf({ AccessKeyId, SecretAccessKey, SessionToken }: Temporary): NimbleClient {
  const credentials = { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: SessionToken };
  return sdkClient({ after }, installation, server, { credentials });
}

const atTerminal = (...words: string[]) =>
  installation.run(['/usr/bin/python3', join(PROJECT, 'test/e2e/scripts/type_password.py'), BACKLOT, ...words], {
    environment: { PASSWORD },
  });

const piped = (text: string, ...words: string[]) =>
  installation.run(['sh', '-c', 'printf "$TEXT" | "$@"', 'sh', BACKLOT, ...words], { environment: { TEXT: text } });

/** A server that answers each log-in with the next of these, and then with the last. */
async function answering(t: Scope, answers: readonly { status: number; headers?: object; body: object }[]) {
  let asked = 0;
  const busy = createServer((_request, response) => {
    const { status, headers = {}, body } = answers[Math.min(asked, answers.length - 1)]!;
    asked += 1;
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
  });
  t.after(async () => void busy.close());
  await new Promise<void>((resolve) => busy.listen(0, '127.0.0.1', resolve));
  const { port } = busy.address() as AddressInfo;
  const words = ['login', '--user', 'ada', '--endpoint', `http://127.0.0.1:${port}`, '--password-file', passwordFile];
  return { words, asked: () => asked };
}

const BUSY = {
  status: 429,
  headers: { 'retry-after': '1' },
  body: { message: 'Too many users log in at the same time.', code: 'LOGIN_BUSY' },
};

describe('a server that is busy with other log-ins', () => {
  it('is asked again until it has time, and the waiting is told', async (t) => {
    const { words, asked } = await answering(t, [BUSY, BUSY, { status: 200, body: { Version: 1 } }]);
    const { code, stdout, stderr } = await installation.backlot(words);
    assert.deepEqual([code, stdout, asked()], [0, '{"Version":1}\n', 3]);
    assert.match(stderr, /^(backlot: http:\S+ is busy with other log-ins; trying again in 1 s\n){2}$/);
  });

  it('is not asked for ever', async (t) => {
    const { words, asked } = await answering(t, [BUSY]);
    const { code, stderr } = await installation.backlot(words);
    assert.deepEqual([code, asked()], [1, 11]);
    assert.match(stderr, /answered 429: Too many users log in at the same time\.\n$/);
  });

  it('is another than one that refuses for another reason, which is told at once', async (t) => {
    const tooOften = { ...BUSY, body: { message: 'Tried too often.', code: 'LOGIN_TOO_OFTEN' } };
    const { words, asked } = await answering(t, [tooOften]);
    const { code, stderr } = await installation.backlot(words);
    assert.deepEqual([code, asked()], [1, 1]);
    assert.match(stderr, /answered 429: Tried too often/);
  });
});

describe('backlot login', () => {
  it('prints what credential_process takes, good for as long as was asked', async () => {
    const made = await installation.json<Temporary>(
      loginWords('--password-file', passwordFile, '--duration-seconds', '900'),
    );
    assert.deepEqual(Object.keys(made), ['Version', 'AccessKeyId', 'SecretAccessKey', 'SessionToken', 'Expiration']);
    assert.ok(Math.abs(Date.parse(made.Expiration) - Date.now() - 900_000) < 120_000);
    assert.ok((await clientOf(made).send(new ListStreamingImagesCommand({ studioId: mine }))).streamingImages);
  });

  it('takes a password that is typed, which nobody sees, and one that is piped in', async () => {
    const typed = await atTerminal('user', 'set-password', 'ada');
    assert.equal(typed.code, 0, typed.stdout);
    assert.match(typed.stdout, /Password of ada: .*Once more: .*ada/s);
    const loggedIn = await atTerminal(...loginWords());
    assert.equal(loggedIn.code, 0, loggedIn.stdout);
    assert.match(loggedIn.stdout, /^Password: \r?\n\{"Version":1,"AccessKeyId":"ASIA/);
    for (const { stdout } of [typed, loggedIn]) assert.ok(!stdout.includes(PASSWORD));
    const fromPipe = await piped(PASSWORD, ...loginWords());
    assert.equal(fromPipe.code, 0, fromPipe.stderr);
  });

  it('says what is wrong, and nothing of what is right', async () => {
    const open = join(installation.directory, 'open');
    writeFileSync(open, PASSWORD);
    chmodSync(open, 0o644);
    const withFile = ['--password-file', passwordFile];
    const elsewhere = ['login', '--user', 'ada', '--endpoint', 'http://backlot.example.org', ...withFile];
    const cases: readonly [() => Promise<Finished>, RegExp][] = [
      [() => piped('wrong password', ...loginWords()), /answered 403: The user name or the password is wrong/],
      [() => piped('', ...loginWords()), /There is no password in what was piped in/],
      [() => installation.backlot(loginWords('--password-file', open)), /Others may read \S+; say: chmod 600/],
      [() => installation.backlot(loginWords('--password-file', '/nowhere')), /\/nowhere cannot be read: ENOENT/],
      [() => installation.backlot(loginWords(...withFile, '--duration-seconds', 'x')), /must be a whole number/],
      [
        () => installation.backlot(loginWords(...withFile, '--duration-seconds', '899')),
        /answered 400: durationSeconds must be from 900/,
      ],
      [
        () => installation.backlot(['login', '--user', 'nobody', '--endpoint', server.url, ...withFile]),
        /answered 403/,
      ],
      [
        () => installation.backlot(['login', '--user', 'ada', '--endpoint', 'http://127.0.0.1:65535', ...withFile]),
        /does not answer: ECONNREFUSED/,
      ],
      [
        () => installation.backlot(['login', '--user', 'ada', '--endpoint', 'ftp://x', ...withFile]),
        /--endpoint must be/,
      ],
      [() => installation.backlot(elsewhere), /would show it the password unencrypted/],
      [() => piped('short', 'user', 'set-password', 'ada'), /at least 12 characters/],
      [() => piped(PASSWORD, 'user', 'set-password', 'nobody'), /There is no user nobody/],
    ];
    for (const [run, says] of cases) {
      const { code, stdout, stderr } = await run();
      assert.deepEqual([code, stdout], [1, ''], stderr);
      assert.match(stderr, /^backlot: [^\n]+\n$/);
      assert.match(stderr, says);
      assert.ok(!stderr.includes(PASSWORD));
    }
    await logIn();
  });
});

describe('with a credential_process and nothing else', () => {
  before(() => {
    const words = [BACKLOT, ...loginWords('--password-file', passwordFile)].join(' ');
    mkdirSync(join(installation.directory, '.aws'));
    writeFileSync(
      join(installation.directory, '.aws/config'),
      `[default]\nregion = us-west-2\ncredential_process = ${words}\n`,
    );
  });

  it('the AWS CLI does what a studio administrator may, in that studio', async () => {
    const aws = (...words: string[]) =>
      installation.run(['/usr/bin/aws', 'nimble', ...words, '--endpoint-url', server.url]);
    const listed = await aws('list-streaming-images', '--studio-id', mine);
    assert.equal(listed.code, 0, listed.stderr);
    assert.deepEqual(JSON.parse(listed.stdout), { streamingImages: [] });
    const foreign = await aws('list-streaming-images', '--studio-id', theirs);
    assert.match(
      foreign.stderr,
      /AccessDeniedException.*user\/ada is not authorized to perform: nimble:ListStreamingImages/s,
    );
  });

  it('so does boto3', async () => {
    const { code, stdout, stderr } = await installation.run(
      ['/usr/bin/python3', join(PROJECT, 'test/e2e/scripts/log_in.py')],
      { environment: { ENDPOINT_URL: server.url, MINE: mine, THEIRS: theirs, PYTHONDONTWRITEBYTECODE: '1' } },
    );
    assert.equal(code, 0, stderr);
    assert.equal(stdout, '0\nAccessDeniedException\nAccessDeniedException\n');
  });
});

describe('what was logged in for', () => {
  it('does what its user may, with policies besides and denials against it', async () => {
    const ada = clientOf(await logIn());
    const images = () => ada.send(new ListStreamingImagesCommand({ studioId: mine }));
    await images();
    await assert.rejects(ada.send(new DeleteStudioCommand({ studioId: mine })), { name: 'AccessDeniedException' });
    const file = join(installation.directory, 'no-images.json');
    const Statement = { Effect: 'Deny', Action: 'nimble:ListStreamingImages', Resource: '*' };
    writeFileSync(file, JSON.stringify({ Version: '2012-10-17', Statement }));
    await installation.json(['policy', 'put', 'no-images', file]);
    const attached = await installation.json(['policy', 'attach', 'no-images', '--user', 'ada']);
    assert.deepEqual(attached, { user: 'ada', policies: ['no-images'] });
    await assert.rejects(images(), /with an explicit deny/);
    await installation.json(['policy', 'detach', 'no-images', '--user', 'ada']);
    await images();
  });

  it('ends with a new password and with disabling the user; a key without an end rests as long as that lasts', async () => {
    const made = await installation.json<{ accessKeyId: string; secretAccessKey: string; role: string }>([
      'access-key',
      'create',
      '--user',
      'ada',
    ]);
    assert.equal(made.role, 'user');
    const lasting = sdkClient({ after }, installation, server, { credentials: made });
    let temporary = clientOf(await logIn());
    const listed = (client: NimbleClient) =>
      client.send(new ListStreamingImagesCommand({ studioId: mine })).then(
        () => 'done',
        ({ name }: Error) => name,
      );
    const both = async () => [await listed(temporary), await listed(lasting)];
    assert.deepEqual(await both(), ['done', 'done']);
    await installation.json(['user', 'disable', 'ada']);
    assert.deepEqual(await both(), ['UnrecognizedClientException', 'UnrecognizedClientException']);
    assert.equal((await installation.backlot(loginWords('--password-file', passwordFile))).code, 1);
    await installation.json(['user', 'enable', 'ada']);
    assert.deepEqual(await both(), ['UnrecognizedClientException', 'done']);
    temporary = clientOf(await logIn());
    assert.deepEqual(await both(), ['done', 'done']);
    await installation.json(['user', 'set-password', 'ada', '--password-file', passwordFile]);
    assert.deepEqual(await both(), ['UnrecognizedClientException', 'done']);
    assert.deepEqual(await listed(clientOf(await logIn())), 'done');
  });
});
