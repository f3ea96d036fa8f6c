/**
 * The audit as an administrator sees it, and throttling as the vendor's clients do: `backlot audit` beside a running
 * server with the examples of docs/audit.md as they stand there, on both databases; and bursts that the JavaScript SDK,
 * the AWS CLI and boto3 get through by themselves, more slowly.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import {
  AccessDeniedException,
  DeleteStudioCommand,
  ListStudiosCommand,
  type NimbleClient,
  TagResourceCommand,
  ThrottlingException,
  UpdateStudioCommand,
  waitUntilStudioReady,
} from '@aws-sdk/client-nimble';
import { startCluster } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import { readyStudio } from './api.ts';
import { awsCli, python, sdkClient } from './clients.ts';
import { BACKLOT, type Environment, Installation, PROJECT, type RunningServer } from './installation.ts';

interface Shown {
  readonly time: string;
  readonly outcome: string;
  readonly operation: string;
  readonly resourceId: string;
  readonly studioId: string;
  readonly principalId: string;
  readonly accessKeyId: string;
  readonly sourceAddress: string;
  readonly requestId: string;
  readonly error: string;
  readonly members: string;
  readonly omitted?: number;
}

const auditOf = (installation: Installation, ...words: string[]) => installation.json<Shown[]>(['audit', ...words]);

async function begin(t: TestContext, environment: Environment = {}) {
  const installation = new Installation(t, environment);
  const server = await installation.start();
  return { installation, server, client: sdkClient(t, installation, server) };
}

async function arnOf(client: NimbleClient): Promise<string> {
  const { studios } = await client.send(new ListStudiosCommand({}));
  return studios![0]!.arn!;
}

/** What the administrator finds of changes, refusals and commands. */
async function tellsEverything(t: TestContext, environment: Environment): Promise<void> {
  const { installation, server, client } = await begin(t, environment);
  const studioId = await readyStudio(client, 'audited');
  const { $metadata } = await client.send(new UpdateStudioCommand({ studioId, displayName: 'Secret film' }));
  await waitUntilStudioReady({ client, maxWaitTime: 30, minDelay: 1 }, { studioId });
  const arn = await arnOf(client);
  await client.send(new TagResourceCommand({ resourceArn: arn, tags: { team: 'fx' } }));

  const policy = join(PROJECT, 'policies/AmazonNimbleStudio-StudioUser.json');
  const made = await installation.json<{ accessKeyId: string; secretAccessKey: string }>([
    ...['access-key', 'create', '--service', 'farm', '--policy', policy],
  ]);
  const farm = sdkClient(t, installation, server, { credentials: made });
  await assert.rejects(farm.send(new DeleteStudioCommand({ studioId })), AccessDeniedException);

  const [update, ...others] = await auditOf(installation, '--operation', 'UpdateStudio');
  assert.deepEqual(others, []);
  assert.deepEqual(
    [update!.outcome, update!.resourceId, update!.sourceAddress, update!.members, update!.requestId],
    ['ok', studioId, '127.0.0.1', '{"displayName":"[hidden]"}', $metadata.requestId],
  );
  const refusal = await until('the refusal is a line', async () => {
    return (await auditOf(installation, '--outcome', 'refused', '--principal', made.accessKeyId))[0];
  });
  assert.deepEqual([refusal.operation, refusal.error], ['DeleteStudio', 'AccessDeniedException NOT_AUTHORIZED']);
  const ofStudio = (await auditOf(installation, '--resource', arn)).map(({ operation }) => operation);
  assert.deepEqual(ofStudio, ['DeleteStudio', 'TagResource', 'UpdateStudio', 'CreateStudio']);
  const commands = await auditOf(installation, '--principal', 'command-line');
  assert.deepEqual(
    commands.map(({ operation, resourceId }) => [operation, resourceId === made.accessKeyId]),
    [
      ['access-key create', true],
      ['first start', false],
    ],
  );
  assert.deepEqual(await auditOf(installation, '--until', update!.time, '--operation', 'UpdateStudio'), []);
  assert.equal((await auditOf(installation, '--since', update!.time, '--operation', 'UpdateStudio')).length, 1);
  assert.equal((await auditOf(installation, '--limit', '2')).length, 2);
  assert.deepEqual(await auditOf(installation, '--since', '0m'), []);
  const everything = JSON.stringify(await auditOf(installation));
  assert.ok(!everything.includes('Secret film') && !everything.includes(made.secretAccessKey));
}

describe('backlot audit', () => {
  it('tells who changed what and who was refused, beside a running server', (t) => tellsEverything(t, {}));

  it('tells the same on PostgreSQL', async (t) => {
    const cluster = await startCluster(t);
    await tellsEverything(t, { BACKLOT_DATABASE_URL: await cluster.createDatabase() });
  });

  it('gives the examples of docs/audit.md that work as they stand there', async (t) => {
    const { installation, client } = await begin(t, { PATH: '/usr/bin:/bin' });
    await readyStudio(client, 'example');
    const text = readFileSync(join(PROJECT, 'docs/audit.md'), 'utf8');
    const example = /<!-- example: commands -->\n```sh\n(.*?)```/s.exec(text)![1]!;
    const { code, stdout, stderr } = await installation.run(['sh', '-euc', example.replaceAll('npx backlot', BACKLOT)]);
    assert.equal(code, 0, stderr);
    for (const what of ['CreateStudio', 'first start']) assert.ok(stdout.includes(`"operation": "${what}"`), what);
  });

  it('has a line for each command that changes people, policies or keys', async (t) => {
    const installation = new Installation(t);
    const policy = join(PROJECT, 'policies/AmazonNimbleStudio-StudioUser.json');
    const key = await installation.json<{ accessKeyId: string }>(['access-key', 'create', '--service', 'farm']);
    const commands = [
      ['user create', '--name', 'ada'],
      ['user disable', 'ada'],
      ['user enable', 'ada'],
      ['group create', '--name', 'lighting'],
      ['group add', 'lighting', 'ada'],
      ['group remove', 'lighting', 'ada'],
      ['group delete', 'lighting'],
      ['policy put', 'artist', policy],
      ['policy attach', 'artist', '--service', 'farm'],
      ['policy detach', 'artist', '--service', 'farm'],
      ['policy delete', 'artist'],
      ['access-key delete', key.accessKeyId],
    ] as const;
    for (const [name, ...words] of commands) await installation.json([...name.split(' '), ...words]);
    const lines = await auditOf(installation, '--principal', 'command-line', '--limit', '100');
    const told = lines.map(({ operation, outcome }) => `${operation} ${outcome}`).reverse();
    assert.deepEqual(told.slice(-commands.length - 1), [
      'access-key create ok',
      ...commands.map(([name]) => `${name} ok`),
    ]);
  });

  it('says what is wrong with what it is asked for', async (t) => {
    const installation = new Installation(t);
    for (const [words, says] of [
      [['--outcome', 'good'], /--outcome must be one of ok, unchanged/],
      [['--limit', '0'], /--limit must be a whole number from 1 to 100000/],
      [['--limit', 'all'], /--limit must be/],
      [['--since', 'yesterday'], /--since must be a day/],
      [['--until', '2026-13-01'], /--until must be a day/],
    ] as const) {
      const { code, stderr } = await installation.backlot(['audit', ...words]);
      assert.equal(code, 1);
      assert.match(stderr, says);
    }
  });

  it('tells how many lines a flood of refusals left out, at the latest when the server has stopped', async (t) => {
    const { installation, server, client } = await begin(t);
    const once = sdkClient(t, installation, server, { maxAttempts: 1 });
    const command = new TagResourceCommand({ resourceArn: 'arn:odd', tags: {} });
    for (let call = 0; call < 130; call += 1) await assert.rejects(once.send(command));
    await client.send(new ListStudiosCommand({}));
    await server.stop();
    const lines = await auditOf(installation, '--limit', '1000');
    const refused = lines.filter(({ outcome }) => outcome === 'refused').length;
    const omitted = lines.reduce((total, line) => total + (line.omitted ?? 0), 0);
    assert.ok(refused >= 100 && refused < 130, String(refused));
    assert.equal(refused + omitted, 130);
  });
});

describe('a burst of calls that come too fast', () => {
  /** Five changes at once, then one a second. */
  const SLOW = { BACKLOT_THROTTLE_WRITES_PER_SECOND: '1' };
  const throttledOf = async ({ url }: RunningServer) => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(
      /^backlot_throttled_requests_total\{class="write",code="TOO_MANY_WRITES"\} (\d+)$/m.exec(text)?.[1] ?? 0,
    );
  };

  it('is slowed down and succeeds with the JavaScript SDK, which without retries is told by its own exception', async (t) => {
    const { installation, server, client } = await begin(t, SLOW);
    await readyStudio(client, 'burst');
    const resourceArn = await arnOf(client);
    // It waits for a random part of its pause, and not for what the server names: three attempts can be over too soon.
    const patient = sdkClient(t, installation, server, { maxAttempts: 10 });
    for (let call = 0; call < 8; call += 1) {
      await patient.send(new TagResourceCommand({ resourceArn, tags: { call: String(call) } }));
    }
    assert.ok((await throttledOf(server)) >= 1);
    const once = sdkClient(t, installation, server, { maxAttempts: 1 });
    const error = await until('one is refused', () =>
      once.send(new TagResourceCommand({ resourceArn, tags: { call: 'more' } })).then(
        () => undefined,
        (reason: unknown) => reason as ThrottlingException,
      ),
    );
    assert.ok(error instanceof ThrottlingException);
    assert.deepEqual([error.code, error.$metadata.httpStatusCode], ['TOO_MANY_WRITES', 429]);
  });

  it('is slowed down and succeeds with the AWS CLI', async (t) => {
    const { installation, server, client } = await begin(t, SLOW);
    await readyStudio(client, 'burst');
    const resourceArn = await arnOf(client);
    const words = (call: number) => ['tag-resource', '--resource-arn', resourceArn, '--tags', `call=${call}`];
    // Like the SDK's, its pauses are random, and two of them can be over too soon.
    const patient = { AWS_MAX_ATTEMPTS: '10' };
    const finished = await Promise.all(
      Array.from({ length: 7 }, (_, call) => awsCli(installation, server, words(call), patient)),
    );
    for (const { code, stderr } of finished) assert.equal(code, 0, stderr);
  });

  it('is slowed down and succeeds with boto3', async (t) => {
    const { installation, server, client } = await begin(t, SLOW);
    await readyStudio(client, 'burst');
    const environment = { RESOURCE_ARN: await arnOf(client) };
    const script = join(import.meta.dirname, 'scripts/burst.py');
    const { code, stderr } = await python(installation, server, script, environment);
    assert.equal(code, 0, stderr);
    assert.ok((await throttledOf(server)) >= 1);
  });
});
