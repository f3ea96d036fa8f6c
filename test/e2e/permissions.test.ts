/**
 * Keys with policies, as they are made on the command line and used by the vendor's client against the real server; and
 * the commands that check and explain policies. The examples of docs/permissions.md are run as they stand there.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  AccessDeniedException,
  CreateStudioCommand,
  DeleteStudioCommand,
  GetStudioCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  type NimbleClient,
  TagResourceCommand,
  UpdateStudioCommand,
} from '@aws-sdk/client-nimble';
import { readyStudio } from './api.ts';
import { sdkClient } from './clients.ts';
import { BACKLOT, Installation, PROJECT, type RunningServer } from './installation.ts';

const installation = new Installation({ after });
let server: RunningServer;
let administrator: NimbleClient;

before(async () => {
  server = await installation.start();
  administrator = sdkClient({ after }, installation, server);
});

interface Made {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly principalId: string;
  readonly role: string;
  readonly policies?: string[];
}

function writePolicy(name: string, ...statements: readonly object[]): string {
  const file = join(installation.directory, `${name}.json`);
  writeFileSync(file, JSON.stringify({ Version: '2012-10-17', Statement: statements }));
  return file;
}

async function keyWith(...words: readonly string[]): Promise<{ made: Made; client: NimbleClient }> {
  const made = await installation.json<Made>(['access-key', 'create', ...words]);
  return { made, client: sdkClient({ after }, installation, server, { credentials: made }) };
}

/** Refused as the vendor's client knows it, with this message. */
async function denied(call: Promise<unknown>, message: string | RegExp): Promise<void> {
  const error = await call.then(
    () => assert.fail('it was done'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof AccessDeniedException, String(error));
  assert.equal(error.$metadata.httpStatusCode, 403);
  if (typeof message === 'string') assert.equal(error.message, message);
  else assert.match(error.message, message);
}

describe('an access key with policies', () => {
  it('does what they allow in one studio, and is refused in another', async () => {
    const [mine, theirs] = await Promise.all([
      readyStudio(administrator, 'mine'),
      readyStudio(administrator, 'theirs'),
    ]);
    const policy = writePolicy(
      'one-studio',
      { Effect: 'Allow', Action: 'nimble:*', Resource: '*', Condition: { StringEquals: { 'nimble:studioId': mine } } },
      { Effect: 'Deny', Action: 'nimble:DeleteStudio', Resource: '*' },
    );
    const { made, client } = await keyWith('--service', 'farm', '--policy', policy);
    assert.deepEqual([made.role, made.policies], ['service', ['one-studio']]);
    assert.equal((await client.send(new GetStudioCommand({ studioId: mine }))).studio!.studioId, mine);
    await client.send(new UpdateStudioCommand({ studioId: mine, displayName: 'Mine' }));
    const user = 'User: arn:aws:iam::000000000000:user/farm is not authorized to perform:';
    const arnOf = (studioId: string) => `arn:aws:nimble:us-west-2:000000000000:studio/${studioId.split(':')[1]}`;
    await denied(
      client.send(new GetStudioCommand({ studioId: theirs })),
      `${user} nimble:GetStudio on resource: ${arnOf(theirs)} because no identity-based policy allows the nimble:GetStudio action`,
    );
    await denied(
      client.send(new DeleteStudioCommand({ studioId: mine })),
      `${user} nimble:DeleteStudio on resource: ${arnOf(mine)} with an explicit deny in an identity-based policy`,
    );
    await denied(
      client.send(new ListStudiosCommand({})),
      `${user} nimble:ListStudios on resource: * because no identity-based policy allows the nimble:ListStudios action`,
    );
    const absent = 'us-west-2:stid-aaaaaaaaaaaaaaaa';
    await denied(client.send(new GetStudioCommand({ studioId: absent })), /because no identity-based policy allows/);
  });

  it('sees and sets tags only as they say', async () => {
    const studioId = await readyStudio(administrator, 'tagged');
    const resourceArn = `arn:aws:nimble:us-west-2:000000000000:studio/${studioId.split(':')[1]}`;
    const policy = writePolicy(
      'tags',
      {
        Effect: 'Allow',
        Action: 'nimble:TagResource',
        Resource: '*',
        Condition: { 'ForAllValues:StringEquals': { 'aws:TagKeys': 'team' } },
      },
      {
        Effect: 'Allow',
        Action: 'nimble:ListTags*',
        Resource: '*',
        Condition: { StringEquals: { 'aws:ResourceTag/team': 'fx' } },
      },
    );
    const { client } = await keyWith('--service', 'tagger', '--policy', policy);
    const user = 'user/tagger is not authorized to perform: nimble:';
    await denied(
      client.send(new ListTagsForResourceCommand({ resourceArn })),
      new RegExp(`${user}ListTagsForResource`),
    );
    await denied(
      client.send(new TagResourceCommand({ resourceArn, tags: { other: '1' } })),
      new RegExp(`${user}TagResource`),
    );
    await client.send(new TagResourceCommand({ resourceArn, tags: { team: 'fx' } }));
    assert.deepEqual((await client.send(new ListTagsForResourceCommand({ resourceArn }))).tags, { team: 'fx' });
    await administrator.send(new TagResourceCommand({ resourceArn, tags: { team: 'anim' } }));
    await denied(
      client.send(new ListTagsForResourceCommand({ resourceArn })),
      new RegExp(`${user}ListTagsForResource`),
    );
  });

  it('knows where a call came from', async () => {
    const condition = (range: string) => ({
      IpAddress: { 'aws:SourceIp': range },
      Bool: { 'aws:SecureTransport': false },
    });
    const allow = { Effect: 'Allow', Action: '*', Resource: '*' };
    const near = await keyWith(
      '--service',
      'near',
      '--policy',
      writePolicy('near', { ...allow, Condition: condition('127.0.0.0/8') }),
    );
    const far = await keyWith(
      '--service',
      'far',
      '--policy',
      writePolicy('far', { ...allow, Condition: condition('10.0.0.0/8') }),
    );
    assert.ok((await near.client.send(new ListStudiosCommand({}))).studios);
    await denied(far.client.send(new ListStudiosCommand({})), /nimble:ListStudios on resource: \*/);
  });

  it('may have several, and is listed with their names', async () => {
    const lists = writePolicy('lists', { Effect: 'Allow', Action: 'nimble:List*', Resource: '*' });
    const creates = writePolicy('creates', { Effect: 'Allow', Action: 'nimble:CreateStudio', Resource: '*' });
    const { made, client } = await keyWith('--service', 'two', '--policy', lists, '--policy', creates);
    await client.send(new ListStudiosCommand({}));
    const studio = { studioName: 'by2policies', displayName: 'x', adminRoleArn: 'a', userRoleArn: 'u' };
    await denied(
      client.send(new CreateStudioCommand({ ...studio, tags: { a: '1' } })),
      /nimble:TagResource on resource: \S+studio\/\*/,
    );
    await client.send(new CreateStudioCommand(studio));
    const listed = await installation.json<Made[]>(['access-key', 'list']);
    assert.deepEqual(listed.find(({ accessKeyId }) => accessKeyId === made.accessKeyId)!.policies, [
      'lists',
      'creates',
    ]);
    assert.equal(listed[0]!.role, 'administrator');
    const { stdout } = await installation.backlotAtTerminal(['access-key', 'list']);
    assert.match(stdout, /lists, creates/);
    assert.ok(!stdout.includes(made.secretAccessKey));
    await installation.json(['access-key', 'delete', made.accessKeyId]);
    await assert.rejects(client.send(new ListStudiosCommand({})), { name: 'UnrecognizedClientException' });
  });

  it('is not made with a policy that is none, or that would come to nothing', async () => {
    const allow = { Effect: 'Allow', Action: '*', Resource: '*' };
    const many = Array.from({ length: 11 }, (_, index) => ['--policy', writePolicy(`many${index}`, allow)]).flat();
    const cases: [string[], RegExp][] = [
      [['--policy', '/nowhere.json'], /\/nowhere\.json cannot be read: ENOENT/],
      [['--policy', writePolicy('typo', { ...allow, Action: 'nimble:GetStudios' })], /typo: Statement 1: Action/],
      [['--policy', writePolicy('empty')], /empty: The document has no Statement/],
      [
        [
          '--policy',
          writePolicy('abroad', allow, {
            ...allow,
            Effect: 'Deny',
            Resource: 'arn:aws:nimble:us-west-2:123456789012:studio/*',
          }),
        ],
        /abroad: Statement 2 names nothing of region us-west-2 and account 000000000000/,
      ],
      [many, /at most 10 policies/],
      [['--policy', writePolicy('same', allow), '--policy', writePolicy('same', allow)], /same name/],
      [['--policy', writePolicy('one-studio', allow)], /There is another policy one-studio/],
    ];
    const before = await installation.json<Made[]>(['access-key', 'list']);
    for (const [words, says] of cases) {
      const { code, stdout, stderr } = await installation.backlot([
        'access-key',
        'create',
        '--service',
        'none',
        ...words,
      ]);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, /^backlot: [^\n]+\n$/);
      assert.match(stderr, says);
    }
    for (const [words, says] of [
      [['--service', 'a b'], /name of a service/],
      [['--policy', writePolicy('alone', allow)], /--policy needs --service or --user/],
    ] as const) {
      const { code, stderr } = await installation.backlot(['access-key', 'create', ...words]);
      assert.deepEqual([code, says.test(stderr)], [1, true], stderr);
    }
    assert.deepEqual(await installation.json(['access-key', 'list']), before);
    for (const name of ['typo', 'abroad', 'many0', 'same', 'alone']) {
      assert.match((await installation.backlot(['policy', 'show', name])).stderr, /There is no policy/);
    }
  });

  it('may do nothing while its service has none, and is held at once to what is attached, changed and detached', async () => {
    const { made, client } = await keyWith('--service', 'late');
    assert.deepEqual([made.role, made.policies], ['service', []]);
    const list = () => client.send(new ListStudiosCommand({}));
    const allow = { Effect: 'Allow', Action: 'nimble:ListStudios', Resource: '*' };
    await denied(list(), /because no identity-based policy allows/);
    await installation.json(['policy', 'put', 'late', writePolicy('late', allow)]);
    await denied(list(), /because no identity-based policy allows/);
    const attached = await installation.json(['policy', 'attach', 'late', '--service', 'late']);
    assert.deepEqual(attached, { service: 'late', policies: ['late'] });
    await list();
    const second = await keyWith('--service', 'late');
    assert.deepEqual([second.made.principalId, second.made.policies], [made.principalId, ['late']]);
    await second.client.send(new ListStudiosCommand({}));
    await installation.json(['policy', 'put', 'late', writePolicy('late', allow, { ...allow, Effect: 'Deny' })]);
    await denied(list(), /with an explicit deny/);
    await denied(second.client.send(new ListStudiosCommand({})), /with an explicit deny/);
    const refusal = await installation.backlot(['policy', 'delete', 'late']);
    assert.deepEqual([refusal.code, refusal.stdout], [1, '']);
    assert.match(refusal.stderr, /late is attached to service late: policy detach it there first/);
    await installation.json(['policy', 'detach', 'late', '--service', 'late']);
    await denied(list(), /because no identity-based policy allows/);
    assert.deepEqual(await installation.json(['policy', 'delete', 'late']), { deleted: 'late' });
  });
});

describe('backlot policy', () => {
  it('checks the policies that come with it', async () => {
    for (const name of ['StudioAdmin', 'StudioUser', 'LaunchProfileWorker']) {
      const file = join(PROJECT, 'policies', `AmazonNimbleStudio-${name}.json`);
      const { policy, statements } = await installation.json<{ policy: string; statements: number }>([
        'policy',
        'check',
        file,
      ]);
      assert.ok(policy.endsWith(name) && statements > 0);
    }
    const bad = writePolicy('bad', { Effect: 'Allow', Action: '*', Resource: 'studio' });
    const { code, stderr } = await installation.backlot(['policy', 'check', bad]);
    assert.equal(code, 1);
    assert.match(stderr, /^backlot: bad: Statement 1: Resource: "studio" is no ARN/);
  });

  it('stores policies by name, shows them as they were written, and lists who has them', async () => {
    const allow = { Effect: 'Allow', Action: 'nimble:Get*', Resource: '*' };
    const file = writePolicy('readers', allow);
    const put = `${BACKLOT} policy put readers - < ${file}`;
    const { code, stderr } = await installation.run(['sh', '-c', put]);
    assert.equal(code, 0, stderr);
    assert.equal((await installation.backlot(['policy', 'show', 'readers'])).stdout, `${readFileSync(file, 'utf8')}\n`);
    await installation.json(['access-key', 'create', '--service', 'reader']);
    await installation.json(['policy', 'attach', 'readers', '--service', 'reader']);
    const listed = await installation.json<{ name: string; attachedTo: string[] }[]>(['policy', 'list']);
    assert.deepEqual(listed.find(({ name }) => name === 'readers')!.attachedTo, ['service reader']);
    const question = ['--action', 'nimble:GetStudio', '--resource', '*'];
    const asked = await installation.backlot(['policy', 'test', '--stored', 'readers', ...question]);
    assert.deepEqual([asked.code, JSON.parse(asked.stdout).decision], [0, 'allow']);
    const cases: [string[], RegExp][] = [
      [['policy', 'put', 'a/b', file], /The name of a policy/],
      [['policy', 'put', 'p', '/nowhere.json'], /cannot be read: ENOENT/],
      [['policy', 'put', 'p', writePolicy('none')], /The document has no Statement/],
      [['policy', 'show', 'nobody'], /There is no policy nobody/],
      [['policy', 'delete', 'nobody'], /There is no policy nobody/],
      [['policy', 'attach', 'nobody', '--service', 'reader'], /There is no policy nobody/],
      [['policy', 'attach', 'readers', '--service', 'fram'], /There is no service fram/],
      [['policy', 'attach', 'readers'], /Say whose/],
      [['policy', 'detach', 'one-studio', '--service', 'reader'], /service reader does not have the policy one-studio/],
      [['policy', 'test', ...question], /Name a policy/],
    ];
    for (const [words, says] of cases) {
      const refused = await installation.backlot(words);
      assert.deepEqual([refused.code, refused.stdout], [1, '']);
      assert.match(refused.stderr, /^backlot: [^\n]+\n$/);
      assert.match(refused.stderr, says);
    }
  });

  it('says which statement decides, and exits with 0 only when the call would be allowed', async () => {
    const file = writePolicy(
      'test',
      { Effect: 'Allow', Action: 'nimble:Get*', Resource: 'arn:aws:nimble:*:*:studio/us-west-2:stid-a' },
      {
        Sid: 'NoTags',
        Effect: 'Deny',
        Action: '*',
        Resource: '*',
        Condition: { 'ForAnyValue:StringLike': { 'aws:TagKeys': 'x*' } },
      },
    );
    const ask = async (...words: string[]) => {
      const { code, stdout } = await installation.backlot(['policy', 'test', '--policy', file, ...words]);
      return [code, JSON.parse(stdout)];
    };
    const studio = ['--resource', 'arn:aws:nimble:us-west-2:000000000000:studio/stid-a'];
    assert.deepEqual(await ask('--action', 'nimble:GetStudio', ...studio), [
      0,
      { decision: 'allow', because: 'Statement 1 of test allows it, and none denies it.' },
    ]);
    assert.deepEqual(
      await ask('--action', 'nimble:getstudio', ...studio, '--context', 'aws:TagKeys=a', '--context', 'AWS:TagKeys=x1'),
      [1, { decision: 'explicit-deny', because: 'Statement 2 (NoTags) of test denies it.' }],
    );
    assert.deepEqual(await ask('--action', 'nimble:DeleteStudio', ...studio), [
      1,
      { decision: 'implicit-deny', because: 'No statement allows it.' },
    ]);
    for (const words of [
      ['--context', 'aws:color=red'],
      ['--context', 'x'],
      ['--context', 'aws:username=a', '--context', 'aws:username=b'],
    ]) {
      const asked = await installation.backlot([
        'policy',
        'test',
        '--policy',
        file,
        '--action',
        'nimble:GetStudio',
        ...studio,
        ...words,
      ]);
      assert.equal(asked.code, 1);
      assert.match(asked.stderr, /^backlot: --context [^\n]+\n$/);
    }
  });

  it('works as docs/permissions.md shows', async () => {
    const text = readFileSync(join(PROJECT, 'docs/permissions.md'), 'utf8');
    const example = (name: string) =>
      new RegExp(`<!-- example: ${name} -->\n\`\`\`\\w+\n(.*?)\`\`\``, 's').exec(text)![1]!;
    writeFileSync(join(installation.directory, 'farm.json'), example('policy'));
    const commands = example('commands').replaceAll('npx backlot', BACKLOT);
    const { code, stdout, stderr } = await installation.run(['sh', '-eux', '-c', commands]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /"because": "Statement 2 \(RenameImagesOfTheFarm\) of farm allows it/);
    assert.match(stdout, /"service": "farm"/);
  });
});
