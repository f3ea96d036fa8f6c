/**
 * `POST /login` over HTTP, with its answer used by the vendor's client: what it takes and what not, that a page of another
 * site can do nothing with it, that tokens are asked for, and that a key ends at once with whoever has it.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { ListEulasCommand, NimbleClient } from '@aws-sdk/client-nimble';
import { attachPolicies, getGrant } from '../../src/domain/grant.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { storePolicy } from '../../src/domain/stored-policy.ts';
import { putPassword, putPerson, putUserState } from '../support/people.ts';
import { startService } from '../support/service.ts';

const PASSWORD = 'correct horse';
const service = await startService({ after }, { settings: { loginMs: '1' } });
const { store } = service.service.parts;

interface Temporary {
  readonly Version: number;
  readonly AccessKeyId: string;
  readonly SecretAccessKey: string;
  readonly SessionToken: string;
  readonly Expiration: string;
}

interface Posting {
  readonly headers?: Readonly<Record<string, string>>;
  readonly method?: string;
}

async function post(body: unknown, { headers = {}, method = 'POST' }: Posting = {}) {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const all = {
    host: 'x',
    'content-type': 'application/json',
    'content-length': `${Buffer.byteLength(text)}`,
    ...headers,
  };
  const answer = await service.send({
    method,
    target: '/login',
    headers: Object.entries(all),
    body: Buffer.from(text),
  });
  return { ...answer, json: answer.body === '' ? undefined : JSON.parse(answer.body) };
}

async function logIn(userName: string): Promise<Temporary> {
  const { status, json } = await post({ userName, password: PASSWORD });
  assert.equal(status, 200);
  return json as Temporary;
}

/** A user who may list EULAs, and the vendor's client with what he has logged in for. */
async function loggedIn(userName: string) {
  const principalId = await putPerson(store, userName, PASSWORD);
  const statement = { Effect: 'Allow', Action: 'nimble:ListEulas', Resource: '*' };
  const text = JSON.stringify({ Version: '2012-10-17', Statement: statement });
  const policy = storePolicy({ name: `of-${userName}`, text }, undefined, service.service.parts);
  const holder = { role: 'user', name: userName, principalId } as const;
  const before = await getGrant(store, holder);
  await store.write([
    { op: 'insert', row: policy },
    ...attachPolicies(holder, before, [policy.id], service.service.parts),
  ]);
  const temporary = await logIn(userName);
  return { principalId, temporary, list: (more: Partial<Temporary> = {}) => listWith({ ...temporary, ...more }) };
}

/** `ok`, or the name of the refusal. */
async function listWith({
  AccessKeyId,
  SecretAccessKey,
  SessionToken,
}: Omit<Partial<Temporary>, 'Version'>): Promise<string> {
  const credentials = {
    accessKeyId: AccessKeyId!,
    secretAccessKey: SecretAccessKey!,
    ...(SessionToken !== undefined && { sessionToken: SessionToken }),
  };
  const client = new NimbleClient({ endpoint: service.url, region: service.region, credentials, maxAttempts: 1 });
  try {
    await client.send(new ListEulasCommand({}));
    return 'ok';
  } catch (error) {
    return (error as Error).name;
  } finally {
    client.destroy();
  }
}

test('the answer has the form of credential_process, and nothing on the way may keep it', async () => {
  await putPerson(store, 'form', PASSWORD);
  const { status, headers, json } = await post({ userName: 'form', password: PASSWORD, durationSeconds: 900 });
  assert.deepEqual(
    [status, headers.get('content-type'), headers.get('cache-control')],
    [200, 'application/json', 'no-store'],
  );
  assert.deepEqual(Object.keys(json), ['Version', 'AccessKeyId', 'SecretAccessKey', 'SessionToken', 'Expiration']);
  assert.equal(json.Version, 1);
  assert.ok(Math.abs(Date.parse(json.Expiration) - Date.now() - 900_000) < 60_000);
  const [line] = await store.audit({ principal: json.AccessKeyId, limit: 10 });
  assert.deepEqual([line!.id, line!.operation], [headers.get('x-amzn-requestid'), 'login']);
});

describe('a temporary key', () => {
  test('is good with its token, and without it or with another it is not', async () => {
    const ada = await loggedIn('ada');
    const { SessionToken: foreign } = await logIn('ada');
    assert.equal(await ada.list(), 'ok');
    const { SessionToken: _token, ...without } = ada.temporary;
    assert.equal(await listWith(without), 'UnrecognizedClientException');
    for (const SessionToken of [foreign, `${ada.temporary.SessionToken}x`, ada.temporary.SessionToken.slice(1)]) {
      assert.equal(await ada.list({ SessionToken }), 'UnrecognizedClientException');
    }
    const lasting = {
      AccessKeyId: service.credentials.accessKeyId,
      SecretAccessKey: service.credentials.secretAccessKey,
    };
    assert.equal(await listWith({ ...lasting, SessionToken: foreign }), 'UnrecognizedClientException');
    assert.equal(await listWith(lasting), 'ok');
  });

  test('may do what the policies of its user allow, and nothing else', async () => {
    const ben = await loggedIn('ben');
    assert.equal(await ben.list(), 'ok');
    const grant = (await getGrant(store, { role: 'user', name: 'ben', principalId: ben.principalId }))!;
    await store.write([{ op: 'delete', kind: KIND.grant, id: grant.id, version: grant.version }]);
    assert.equal(await ben.list(), 'AccessDeniedException');
  });

  test('ends at once with the user and with the password, and in time', async () => {
    const cem = await loggedIn('cem');
    await putUserState(store, cem.principalId, 'DISABLED');
    assert.equal(await cem.list(), 'UnrecognizedClientException');
    assert.equal((await post({ userName: 'cem', password: PASSWORD })).status, 403);
    await putUserState(store, cem.principalId, 'PRESENT');
    assert.equal(await cem.list(), 'UnrecognizedClientException');
    const enabled = await logIn('cem');
    assert.equal(await listWith(enabled), 'ok');
    await putPassword(store, cem.principalId, PASSWORD);
    assert.equal(await listWith(enabled), 'UnrecognizedClientException');
    const again = await logIn('cem');
    assert.equal(await listWith(again), 'ok');
    const row = (await store.get(KIND.accessKey, again.AccessKeyId))!;
    await store.write([{ op: 'update', row: { ...row, dueAt: Date.now() - 1_000, version: row.version + 1 } }]);
    assert.equal(await listWith(again), 'ExpiredTokenException');
  });
});

describe('what is no log-in is refused in words that help, and changes nothing', () => {
  const right = { userName: 'dora', password: PASSWORD };
  const long = 'x'.repeat(5_000);
  const cases: Readonly<Record<string, [body: unknown, posting: Posting, status: number, name: string, says: RegExp]>> =
    {
      'a form': [
        'userName=dora',
        { headers: { 'content-type': 'application/x-www-form-urlencoded' } },
        415,
        'UnsupportedMediaTypeException',
        /application\/json/,
      ],
      'text that is JSON': [
        right,
        { headers: { 'content-type': 'text/plain' } },
        415,
        'UnsupportedMediaTypeException',
        /application\/json/,
      ],
      'a type that begins alike': [
        right,
        { headers: { 'content-type': 'application/jsonp' } },
        415,
        'UnsupportedMediaTypeException',
        /application\/json/,
      ],
      'no body': ['', {}, 400, 'ValidationException', /JSON object/],
      'no JSON': ['{"password":"secret', {}, 400, 'ValidationException', /^The body must be a JSON object$/],
      'a list': [[right], {}, 400, 'ValidationException', /JSON object/],
      'bytes that are no text': [Buffer.from([0x7b, 0xff, 0x7d]), {}, 400, 'ValidationException', /JSON object/],
      'no name': [{ password: PASSWORD }, {}, 400, 'ValidationException', /^userName must be/],
      'a name that is no text': [{ ...right, userName: 1 }, {}, 400, 'ValidationException', /^userName must be/],
      'a name that no database takes': [
        { ...right, userName: 'a\u0000b' },
        {},
        400,
        'ValidationException',
        /^userName must be/,
      ],
      'a long name': [{ ...right, userName: 'x'.repeat(129) }, {}, 400, 'ValidationException', /^userName must be/],
      'no password': [{ userName: 'dora' }, {}, 400, 'ValidationException', /^password must be/],
      'an empty password': [{ ...right, password: '' }, {}, 400, 'ValidationException', /^password must be/],
      'a password that is an object': [{ ...right, password: {} }, {}, 400, 'ValidationException', /^password must be/],
      'a duration that is no number': [
        { ...right, durationSeconds: 'long' },
        {},
        400,
        'ValidationException',
        /^durationSeconds/,
      ],
      'half a second': [{ ...right, durationSeconds: 900.5 }, {}, 400, 'ValidationException', /^durationSeconds/],
      'too long': [{ ...right, durationSeconds: 3_601 }, {}, 400, 'ValidationException', /from 900 to 3600/],
      'a large body': [{ ...right, more: long }, {}, 413, 'RequestEntityTooLargeException', /4096 bytes/],
      'a wrong password': [{ ...right, password: 'wrong password' }, {}, 403, 'AccessDeniedException', /wrong/],
      'a GET': ['', { method: 'GET' }, 404, 'UnknownOperationException', /no operation/],
      'a PUT': [right, { method: 'PUT' }, 404, 'UnknownOperationException', /no operation/],
    };
  for (const [what, [body, posting, status, name, says]] of Object.entries(cases)) {
    test(what, async () => {
      const before = service.snapshot();
      const refused = await post(body, posting);
      assert.deepEqual([refused.status, refused.headers.get('x-amzn-errortype')], [status, name]);
      assert.match(refused.json.message, says);
      assert.ok(!refused.body.includes(PASSWORD) && !refused.body.includes('secret'));
      assert.deepEqual(service.snapshot(), before);
    });
  }
});

test('a page of another site is not told that it may ask, and could not read an answer', async () => {
  await putPerson(store, 'page', PASSWORD);
  const origin = { origin: 'https://elsewhere.example' };
  const asked = await post('', {
    method: 'OPTIONS',
    headers: { ...origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
  });
  const right = await post({ userName: 'page', password: PASSWORD }, { headers: origin });
  const wrong = await post({ userName: 'page', password: 'wrong password' }, { headers: origin });
  assert.deepEqual([asked.status, right.status, wrong.status], [204, 200, 403]);
  for (const { headers } of [asked, right, wrong]) {
    assert.deepEqual(
      [...headers.keys()].filter((name) => name.startsWith('access-control-')),
      [],
    );
  }
});

test('guessing from one address ends with 429, which says when to try again', async () => {
  const statuses = new Set<number>();
  let retryAfter: string | undefined;
  for (let index = 0; index < 100 && !statuses.has(429); index += 1) {
    const { status, headers } = await post({ userName: 'guessed', password: `guess ${index}` });
    statuses.add(status);
    retryAfter = headers.get('retry-after');
  }
  assert.deepEqual([...statuses], [403, 429]);
  assert.match(retryAfter!, /^[1-9]\d?$/);
});
