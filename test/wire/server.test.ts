/**
 * The running service over sockets, request by request: every malformed one has one exact answer and changes nothing,
 * every answer has its headers, and neither the log nor the metrics say what is confidential.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { GetStreamingImageCommand, ResourceNotFoundException } from '@aws-sdk/client-nimble';
import { type OperationName, operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import type { StringShape } from '../../src/contract/shape.ts';
import { identityStoreOf } from '../../src/domain/user.ts';
import { ERROR_STATUS, type ErrorName } from '../../src/errors.ts';
import type { Answer, Message } from '../support/connection.ts';
import { API, makeComponent, makeStudio, putReadyImage, putReadyProfile, putUser } from '../support/furnish.ts';
import { putBackup, putSession, putStream } from '../support/rows.ts';
import { sampleMembers } from '../support/samples.ts';
import { type Draft, startService } from '../support/service.ts';

const service = await startService({ after });
const studioId = await makeStudio(service, 'alpha');
const imageId = await putReadyImage(service, studioId);
const componentId = await makeComponent(service, studioId);
const profileId = await putReadyProfile(service, studioId);
const principalId = await putUser(service, 'ann');
/** What a profile needs to be made, but for images. */
const profileMembers = {
  ec2SubnetIds: [],
  launchProfileProtocolVersions: ['2021-03-31'],
  streamConfiguration: { clipboardMode: 'ENABLED', ec2InstanceTypes: ['g5.xlarge'], streamingImageIds: ['none'] },
  studioComponentIds: [componentId],
};
/** Values of the members of queries that must be given. */
const QUERIES: Readonly<Record<string, string[]>> = {
  tagKeys: ['x'],
  launchProfileProtocolVersions: ['2021-03-31'],
  launchPurpose: ['WORKSTATION'],
  platform: ['LINUX'],
};
const place = { ...service.service.parts, services: service.service.parts };
const sessionId = await putSession(place, studioId);
const streamId = await putStream(place, studioId, sessionId);
const backupId = await putBackup(place, studioId, sessionId);
const studioPath = `${API}/studios/${encodeURIComponent(studioId)}`;
const imagesPath = `${studioPath}/streaming-images`;
const imagePath = `${imagesPath}/${imageId}`;
const tagPath = (arn: string) => `${API}/tags/${encodeURIComponent(arn)}`;
const imageTags = tagPath(`arn:aws:nimble:us-west-2:000000000000:streaming-image/${imageId}`);

const requestIds = new Set<string>();

/** What holds for every answer of the API. */
function requireWellFormed({ status, headers, body }: Answer): void {
  const requestId = headers.get('x-amzn-requestid');
  assert.match(requestId ?? '', /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  assert.ok(!requestIds.has(requestId!), 'no two answers share an id');
  requestIds.add(requestId!);
  assert.ok(Math.abs(Date.parse(headers.get('date')!) - Date.now()) < 60_000, 'clients set their clocks by it');
  if (status === 204) {
    assert.deepEqual([body, headers.has('content-length'), headers.has('content-type')], ['', false, false]);
  } else {
    assert.equal(headers.get('content-type'), 'application/json');
    JSON.parse(body);
  }
  if (status < 400) assert.equal(headers.has('x-amzn-errortype'), false);
  else assert.equal(ERROR_STATUS[headers.get('x-amzn-errortype') as ErrorName], status);
}

interface Refusal {
  readonly message: string;
  readonly code?: string;
  readonly reason?: string;
  readonly context?: Record<string, string>;
}

/** Refused with exactly this, and nothing is as it was not before. */
async function refused(message: Message, name: ErrorName, body: Refusal | RegExp): Promise<void> {
  const before = service.snapshot();
  const answer = await service.send(message);
  requireWellFormed(answer);
  assert.equal(answer.headers.get('x-amzn-errortype'), name, answer.body);
  if (body instanceof RegExp) assert.match(answer.body, body);
  else assert.deepEqual(JSON.parse(answer.body), body);
  assert.deepEqual(service.snapshot(), before, 'a refused request changes nothing');
}

const violation = (path: string, constraint: string, value = 'Value'): Refusal => ({
  message: `1 validation error detected. ${value} at '${path}' failed to satisfy constraint: ${constraint}`,
  code: 'INVALID_INPUT',
});
const unreadable = (reason: string): Refusal => ({
  message: `[Unknown error parsing request body] ${reason}`,
  code: 'UNREADABLE_BODY',
});

const image = { ec2ImageId: 'ami-0123456789abcdef0', name: 'new' };
const createImage = (body: unknown, headers: Record<string, string> = {}): Draft => {
  return { method: 'POST', path: imagesPath, body, headers };
};

// ---------------------------------------------------------------------------------------------------------------------

describe('malformed bodies', () => {
  const notJson = unreadable('The body is not valid JSON.');
  const notObject = unreadable('The body must be a JSON object.');
  const text = JSON.stringify(image);
  const cases: [string, string | Buffer, Refusal][] = [
    ['text', 'name=new', notJson],
    ['a comment', `{/* */${text.slice(1)}`, notJson],
    ['a line comment', `{// x\n${text.slice(1)}`, notJson],
    ['a trailing comma', `${text.slice(0, -1)},}`, notJson],
    ['an end that is missing', text.slice(0, -1), notJson],
    ['something behind the end', `${text}]`, notJson],
    ['blanks', ' ', notJson],
    ['a list', `[${text}]`, notObject],
    ['a number', '10', notObject],
    ['null', 'null', notObject],
    ['a string', '"x"', notObject],
    ['a boolean', 'false', notObject],
    ['no UTF-8', Buffer.from(text.replace('new', 'n\xe9w'), 'latin1'), unreadable('The body is not UTF-8.')],
  ];
  for (const [what, body, refusal] of cases) {
    test(what, async () => refused(await service.sign(createImage(body)), 'ValidationException', refusal));
  }

  test('none at all is an object without members', async () => {
    for (const headers of [{}, { 'content-type': 'application/json' }]) {
      await refused(await service.sign(createImage(undefined, headers)), 'ValidationException', {
        message:
          "2 validation errors detected. Value at '/ec2ImageId' failed to satisfy constraint: Member must not be null; " +
          "Value at '/name' failed to satisfy constraint: Member must not be null",
        code: 'INVALID_INPUT',
      });
    }
  });

  test('none at all is fine where nothing is required', async () => {
    const answer = await service.call({ method: 'PATCH', path: imagePath });
    assert.equal(answer.status, 200);
    requireWellFormed(answer);
  });
});

/** Drafts of an operation on the studio, the image and the component that are there. */
function draftOf({ method, uri, query }: Operation, body?: unknown): Draft {
  const path = uri
    .replace('{studioId}', encodeURIComponent(studioId))
    .replace('{streamingImageId}', imageId)
    .replace('{studioComponentId}', componentId)
    .replace('{launchProfileId}', profileId)
    .replace('{principalId}', principalId)
    .replace('{sessionId}', sessionId)
    .replace('{streamId}', streamId)
    .replace('{backupId}', backupId)
    .replace('{eulaId}', 'none')
    .replace('/tags/{resourceArn}', imageTags.slice(API.length));
  const required = Object.entries(query).filter(([, member]) => member.required);
  const values = Object.fromEntries(required.map(([name]) => [name, QUERIES[name]!]));
  return { method, path: API + path, query: values, body };
}

describe('members of bodies, generated from the contract', () => {
  const withBody = (operations as readonly Operation[]).filter(({ body }) => Object.keys(body).length > 0);
  const wrongTypes: [string, unknown][] = [
    ['a number', 10],
    ['a boolean', true],
    ['text', 'x'],
    ['a list', ['x']],
    ['an object', { x: 'x' }],
  ];
  const object = { map: 'an object', structure: 'an object', union: 'an object' };
  const article = { string: 'a string', integer: 'an integer', list: 'a list', ...object, timestamp: '' };
  const fitting = { string: 'text', integer: 'a number', list: 'a list', ...object, timestamp: '' };

  for (const operation of withBody) {
    const whole = sampleMembers(operation.body);
    const refusedWith = async (members: object, refusal: Refusal) =>
      refused(await service.sign(draftOf(operation, { ...whole, ...members })), 'ValidationException', refusal);

    for (const [name, { shape, required }] of Object.entries(operation.body)) {
      const at = `/${name}`;
      test(`${operation.name} ${at} of a wrong type`, async () => {
        for (const [type, value] of wrongTypes) {
          if (type === fitting[shape.kind]) continue;
          await refusedWith({ [name]: value }, unreadable(`Value at '${at}' must be ${article[shape.kind]}.`));
        }
      });

      if (required) {
        test(`${operation.name} ${at} missing or null`, async () => {
          for (const absent of [undefined, null]) {
            await refusedWith({ [name]: absent }, violation(at, 'Member must not be null'));
          }
        });
      }

      if (shape.kind !== 'string') continue;
      const { minLength, maxLength, pattern, values } = shape as StringShape;
      if (maxLength !== undefined) {
        test(`${operation.name} ${at} one character too long`, async () => {
          const long = 'x'.repeat(maxLength + 1);
          const constraint = `Member must have length between ${minLength} and ${maxLength}, inclusive`;
          await refusedWith({ [name]: long }, violation(at, constraint, `Value with length ${maxLength + 1}`));
        });
      }
      if (pattern) {
        test(`${operation.name} ${at} that does not fit its pattern`, async () => {
          const constraint = `Member must satisfy regular expression pattern: ${pattern.source}`;
          await refusedWith({ [name]: 'NOT SO!' }, violation(at, constraint));
        });
      }
      if (values) {
        test(`${operation.name} ${at} that is none of its values`, async () => {
          const constraint = `Member must satisfy enum value set: [${values.join(', ')}]`;
          await refusedWith({ [name]: 'NOT SO!' }, violation(at, constraint));
        });
      }
    }
  }

  test('an enumeration', async () => {
    const createStudio = operations.find(({ name }) => name === 'CreateStudio')!;
    const body = { ...sampleMembers(createStudio.body), studioEncryptionConfiguration: { keyType: 'OWN_KEY' } };
    const constraint = 'Member must satisfy enum value set: [AWS_OWNED_KEY, CUSTOMER_MANAGED_KEY]';
    const refusal = violation('/studioEncryptionConfiguration/keyType', constraint);
    await refused(await service.sign(draftOf(createStudio, body)), 'ValidationException', refusal);
  });

  test('null where a member is optional, and members that nobody knows, are ignored', async () => {
    const body = {
      name: 'renamed',
      description: null,
      state: 'DELETED',
      owner: 1,
      constructor: [],
      more: { deep: [null] },
    };
    const answer = await service.call({ method: 'PATCH', path: imagePath, body });
    requireWellFormed(answer);
    const { streamingImage } = JSON.parse(answer.body);
    assert.deepEqual([answer.status, streamingImage.name, streamingImage.state], [200, 'renamed', 'READY']);
    assert.deepEqual(Object.keys(streamingImage).includes('description'), false);
  });

  test('tags called like what stands on Object.prototype come back', async () => {
    const tags = '{"__proto__":"a","constructor":"b","toString":"c"}';
    assert.equal((await service.call({ method: 'POST', path: imageTags, body: `{"tags":${tags}}` })).status, 204);
    assert.equal((await service.call({ path: imageTags })).body, `{"tags":${tags}}`);
    const query = { tagKeys: ['__proto__', 'constructor', 'toString'] };
    assert.equal((await service.call({ method: 'DELETE', path: imageTags, query })).status, 204);
    assert.equal((await service.call({ path: imageTags })).body, '{"tags":{}}');
  });
});

describe('headers, queries and paths', () => {
  test('a content type that is not JSON', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml']) {
      await refused(await service.sign(createImage(image, { 'content-type': type })), 'UnsupportedMediaTypeException', {
        message: 'The body must be sent with Content-Type: application/json',
        reason: 'CONTENT_TYPE_NOT_JSON',
      });
    }
  });

  test('an Accept that leaves out JSON', async () => {
    for (const accept of ['text/html', 'application/xml;q=1, text/*']) {
      await refused(await service.sign(createImage(image, { accept })), 'NotAcceptableException', {
        message: 'Answers are application/json; accept that',
        reason: 'JSON_NOT_ACCEPTED',
      });
    }
  });

  test('a client token that is too long or empty', async () => {
    for (const token of ['x'.repeat(65), '']) {
      const constraint = 'Member must have length between 1 and 64, inclusive';
      const refusal = violation('/clientToken', constraint, `Value with length ${token.length}`);
      await refused(
        await service.sign(createImage(image, { 'x-amz-client-token': token })),
        'ValidationException',
        refusal,
      );
    }
  });

  test('two client tokens, though both are signed', async () => {
    const signed = await service.sign(createImage(image, { 'x-amz-client-token': 'a,b' }));
    const headers = signed.headers.flatMap(([name, value]) =>
      name === 'x-amz-client-token'
        ? value.split(',').map((token) => [name, token] as const)
        : [[name, value] as const],
    );
    await refused({ ...signed, headers }, 'ValidationException', {
      message: 'The header x-amz-client-token is there twice',
      code: 'REPEATED_HEADER',
    });
  });

  test('a query key that stands twice', async () => {
    const query = { owner: ['amazon', studioId] };
    const refusal = violation('/owner', 'Member must be given once');
    await refused(await service.sign({ path: imagesPath, query }), 'ValidationException', refusal);
  });

  test('a page token that is too long, or that this list did not make', async () => {
    const constraint = 'Member must have length less than or equal to 1024';
    const tooLong = violation('/nextToken', constraint, 'Value with length 1025');
    const query = { nextToken: 'x'.repeat(1_025) };
    await refused(await service.sign({ path: imagesPath, query }), 'ValidationException', tooLong);
    const foreign = { nextToken: Buffer.from('foreign').toString('base64url') };
    await refused(
      await service.sign({ path: imagesPath, query: foreign }),
      'ValidationException',
      /INVALID_NEXT_TOKEN/,
    );
  });

  test('no tag keys', async () => {
    const refusal = violation('/tagKeys', 'Member must not be null');
    await refused(await service.sign({ method: 'DELETE', path: imageTags }), 'ValidationException', refusal);
  });

  for (const label of ['%', '%zz', '%E0%A4%A', '%FF']) {
    test(`a path with ${label} in it`, async () => {
      const constraint = 'Member must be valid percent-encoded UTF-8';
      const refusal = { ...violation('/studioId', constraint), code: 'BAD_ENCODING' };
      await refused(await service.sign({ path: `${API}/studios/${label}` }), 'ValidationException', refusal);
    });
  }

  test('an ARN that is none', async () => {
    for (const arn of ['x', 'arn:aws:s3:::bucket', 'arn:aws:nimble:us-west-2:1:studio/x']) {
      await refused(await service.sign({ path: tagPath(arn) }), 'ValidationException', /"code":"MALFORMED_ARN"/);
    }
  });
});

describe('what is not there', () => {
  const absent = async (draft: Draft, resourceId: string) =>
    refused(
      await service.sign(draft),
      'ResourceNotFoundException',
      new RegExp(`"context":\\{"resourceId":"${resourceId}"\\}`),
    );

  for (const operation of operations as readonly Operation[]) {
    if (!operation.uri.includes('{studioId}')) continue;
    test(`${operation.name} of a studio that does not exist names the studio`, async () => {
      // What is wrong with its members would be told first.
      const fine = {
        tags: {},
        configuration: undefined,
        ...(operation.resource === 'launch-profile' && profileMembers),
      };
      const draft = draftOf(operation, { ...sampleMembers(operation.body), ...fine });
      const path = draft.path.replace(encodeURIComponent(studioId), 'us-west-2%3Astid-none');
      await absent({ ...draft, path }, 'us-west-2:stid-none');
    });

    if (!/\{(streamingImage|studioComponent|launchProfile)Id\}/.test(operation.uri)) continue;
    test(`${operation.name} of what does not exist in the studio names that`, async () => {
      const needsBody = Object.values(operation.body).some(({ required }) => required);
      const draft = draftOf(operation, needsBody ? sampleMembers(operation.body) : {});
      const path = draft.path.replace(imageId, 'none').replace(componentId, 'none').replace(profileId, 'none');
      await absent({ ...draft, path }, 'none');
    });
  }

  test("the vendor's client knows it for what it is", async () => {
    const call = service.client.send(new GetStreamingImageCommand({ studioId, streamingImageId: 'none' }));
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof ResourceNotFoundException);
      assert.deepEqual([error.code, error.context], ['RESOURCE_NOT_FOUND', { resourceId: 'none' }]);
      return true;
    });
  });

  test('a EULA', () => absent({ path: `${API}/eulas/none` }, 'none'));

  test('what an ARN names: nothing, another account, another region, another kind', async () => {
    for (const arn of [
      'arn:aws:nimble:us-west-2:000000000000:streaming-image/none',
      `arn:aws:nimble:us-west-2:000000000001:streaming-image/${imageId}`,
      `arn:aws:nimble:us-east-1:000000000000:streaming-image/${imageId}`,
      `arn:aws:nimble:us-west-2:000000000000:access-key/${service.credentials.accessKeyId}`,
    ]) {
      await absent({ path: tagPath(arn) }, arn);
      await absent({ method: 'POST', path: tagPath(arn), body: { tags: { a: 'b' } } }, arn);
      await absent({ method: 'DELETE', path: tagPath(arn), query: { tagKeys: 'a' } }, arn);
    }
  });

  const unknown = {
    message: 'There is no operation of this method and path',
    reason: 'UNKNOWN_OPERATION',
  };
  for (const method of ['PUT', 'PATCH', 'TRACE', 'PROPFIND']) {
    test(`${method} of a list, signed or not`, async () => {
      const message = await service.sign({ method, path: imagesPath });
      await refused(message, 'UnknownOperationException', unknown);
      await refused({ ...message, headers: [['host', 'x']] }, 'UnknownOperationException', unknown);
    });
  }

  test('HEAD, whose answer has no body', async () => {
    const answer = await service.call({ method: 'HEAD', path: studioPath });
    assert.deepEqual([answer.status, answer.body], [404, '']);
    assert.equal(answer.headers.get('x-amzn-errortype'), 'UnknownOperationException');
  });

  const paths = [
    '/',
    API,
    `${API}/`,
    `${API}/studio`,
    `${studioPath}/launch-profile`,
    `${imagePath}/x`,
    '/healthz/',
    '/metrics/x',
  ];
  for (const path of [...paths, `${API}/tags/arn:aws:nimble:us-west-2:000000000000:studio/x`]) {
    test(`the path ${path.replace(studioPath, '…')}`, async () => {
      await refused(await service.sign({ path }), 'UnknownOperationException', unknown);
      await refused(await service.sign({ method: 'POST', path, body: image }), 'UnknownOperationException', unknown);
    });
  }
});

test('a full studio is answered 402, which is not any other refusal', async (t) => {
  const small = await startService(t, { settings: { streamingImagesMax: '1' } });
  const id = await makeStudio(small, 'small');
  await putReadyImage(small, id);
  const before = small.snapshot();
  const path = `${API}/studios/${encodeURIComponent(id)}/streaming-images`;
  const answer = await small.call({ method: 'POST', path, body: image });
  requireWellFormed(answer);
  assert.equal(answer.status, 402);
  assert.equal(answer.headers.get('x-amzn-errortype'), 'ServiceQuotaExceededException');
  assert.deepEqual(JSON.parse(answer.body), {
    message: `Studio ${id} has 1 streaming images, which is its quota. Delete one, or have the quota raised.`,
    code: 'STREAMING_IMAGES_PER_STUDIO',
    context: { quota: '1', resourceId: id },
  });
  assert.deepEqual(small.snapshot(), before);
});

describe('answers', () => {
  test('tagging is answered 204 without a body', async () => {
    for (const draft of [
      { method: 'POST', path: imageTags, body: { tags: { a: 'b' } } },
      { method: 'DELETE', path: imageTags, query: { tagKeys: 'a' } },
    ]) {
      const answer = await service.call(draft);
      assert.equal(answer.status, 204);
      requireWellFormed(answer);
    }
  });

  test('every operation that reads', async () => {
    const identityStoreId = await identityStoreOf(service.service.parts.store);
    for (const [path, persona] of [
      [studioPath, 'ADMINISTRATOR'],
      [`${studioPath}/launch-profiles/${profileId}`, 'USER'],
    ] as const) {
      const body = { identityStoreId, members: [{ principalId, persona }] };
      assert.equal((await service.call({ method: 'POST', path: `${path}/membership`, body })).status, 200);
    }
    const eulas: readonly OperationName[] = ['GetEula'];
    for (const operation of operations as readonly Operation[]) {
      if (operation.method !== 'GET' || eulas.some((name) => name === operation.name)) continue;
      const answer = await service.call(draftOf(operation));
      assert.equal(answer.status, 200, operation.name);
      requireWellFormed(answer);
    }
  });

  test('a slash at the end of a path is tolerated', async () => {
    assert.equal((await service.call({ path: `${studioPath}/` })).status, 200);
  });

  test('a studio id with its colon as it is', async () => {
    assert.equal((await service.call({ path: `${API}/studios/${studioId}` })).status, 200);
  });
});

describe('pages of foreign origin', () => {
  const origin = 'https://studio.example';
  const exposed = 'x-amzn-errortype,x-amzn-requestid,x-amzn-trace-id,x-amz-apigw-id';

  test('may ask what they may send, anywhere, without credentials', async () => {
    for (const target of [studioPath, `${imagesPath}?owner=amazon`, '/', '*']) {
      const headers = { origin, 'access-control-request-method': 'PATCH' };
      const message = { method: 'OPTIONS', target, headers: [['host', 'x'] as const, ...Object.entries(headers)] };
      const answer = await service.send({ ...message, body: Buffer.alloc(0) });
      requireWellFormed(answer);
      assert.equal(answer.status, 204);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*');
      assert.equal(answer.headers.get('access-control-max-age'), '600');
      const methods = answer.headers.get('access-control-allow-methods')!.split(',');
      for (const { method } of operations) assert.ok(methods.includes(method), method);
      const allowed = answer.headers.get('access-control-allow-headers')!.split(',');
      const used = ['authorization', 'content-type', 'x-amz-date', 'x-amz-client-token', 'x-amz-content-sha256', '*'];
      for (const name of [...used, 'x-amz-security-token', 'x-amz-user-agent', 'x-api-key', 'x-amz-dryrun']) {
        assert.ok(allowed.includes(name), name);
      }
      assert.equal(answer.headers.get('access-control-expose-headers'), exposed);
      assert.equal(answer.headers.has('access-control-allow-credentials'), false);
    }
  });

  test('may read answers and errors', async () => {
    for (const path of [studioPath, `${API}/studios/none`, `${API}/none`]) {
      const answer = await service.call({ path, headers: { origin } });
      requireWellFormed(answer);
      assert.equal(answer.headers.get('access-control-allow-origin'), '*');
      assert.equal(answer.headers.get('access-control-expose-headers'), exposed);
    }
    const refusal = await service.send({
      method: 'GET',
      target: studioPath,
      headers: [
        ['host', 'x'],
        ['origin', origin],
      ],
      body: Buffer.alloc(0),
    });
    assert.deepEqual([refusal.status, refusal.headers.get('access-control-allow-origin')], [403, '*']);
  });

  test('without an Origin nothing is said of it', async () => {
    const answer = await service.call({ path: studioPath });
    assert.equal(
      [...answer.headers.keys()].some((name) => name.startsWith('access-control')),
      false,
    );
  });
});

// ---------------------------------------------------------------------------------------------------------------------

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The Prometheus text format, read strictly. */
function parseMetrics(text: string): { types: Map<string, string>; samples: Sample[] } {
  assert.ok(text.endsWith('\n'));
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const samples: Sample[] = [];
  for (const line of text.split('\n').filter((content) => content !== '')) {
    const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line);
    if (comment) {
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      if (kind === 'HELP') helped.add(name);
      else types.set(name, rest);
      continue;
    }
    const sample = /^([a-z_]+)(?:\{((?:[a-z]+="[^"\\]*",?)*)\})? (-?[0-9.e+-]+|\+Inf)$/.exec(line);
    assert.ok(sample, `not a sample: ${line}`);
    const [, name, labels = '', value] = sample as unknown as [string, string, string | undefined, string];
    const pairs = [...labels.matchAll(/([a-z]+)="([^"]*)"/g)].map(([, key, text_]) => [key!, text_!]);
    const family = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '');
    assert.ok(types.has(family) && helped.has(family), `${name} has a type and a help text`);
    samples.push({ name, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return { types, samples };
}

const LABELS: Readonly<Record<string, RegExp>> = {
  status: /^\d{3}$/,
  le: /^(\d+(\.\d+)?|\+Inf)$/,
  kind: /^[a-z-]+$/,
  state: /^[A-Z_]+$/,
  class: /^(read|write)$/,
  code: /^[A-Z_]*$/,
  error: /^[A-Za-z]+Exception$/,
};

describe('for operators', () => {
  const plain = (target: string) =>
    service.send({ method: 'GET', target, headers: [['host', 'x']], body: Buffer.alloc(0) });

  test('/healthz and /readyz', async () => {
    for (const [target, body] of [
      ['/healthz', 'ok\n'],
      ['/readyz', 'ready\n'],
      ['/readyz?x=1', 'ready\n'],
    ] as const) {
      const answer = await plain(target);
      assert.deepEqual(
        [answer.status, answer.body, answer.headers.get('content-type')],
        [200, body, 'text/plain; charset=utf-8'],
      );
      assert.ok(answer.headers.has('x-amzn-requestid'));
    }
  });

  test('/readyz while the database does not answer, which /healthz is not about', async (t) => {
    const broken = await startService(t);
    const statusOf = async (target: string) =>
      (await broken.send({ method: 'GET', target, headers: [['host', 'x']], body: Buffer.alloc(0) })).status;
    await broken.service.parts.store.close();
    assert.deepEqual([await statusOf('/readyz'), await statusOf('/healthz')], [503, 200]);
    const answer = await broken.call({ path: `${API}/studios` });
    requireWellFormed(answer);
    const message = `The server failed. The server's log has the reason at ${answer.headers.get('x-amzn-requestid')}.`;
    assert.deepEqual([answer.status, JSON.parse(answer.body)], [500, { message, code: 'SERVER_FAILED' }]);
  });

  test('/metrics: requests, durations, transitions, queue, bytes of images', async () => {
    await service.call({ path: `${API}/studios/none` });
    const answer = await plain('/metrics');
    assert.equal(answer.status, 200);
    assert.match(answer.headers.get('content-type')!, /^text\/plain; version=0\.0\.4/);
    const { types, samples } = parseMetrics(answer.body);
    const find = (name: string, labels: Record<string, string> = {}) =>
      samples.find(
        (sample) =>
          sample.name === name && Object.entries(labels).every(([key, value]) => sample.labels[key] === value),
      )?.value;
    assert.deepEqual(Object.fromEntries(types), {
      backlot_requests_total: 'counter',
      backlot_request_duration_seconds: 'histogram',
      backlot_transitions_total: 'counter',
      backlot_queue_depth: 'gauge',
      backlot_image_bytes: 'gauge',
      backlot_resident_bytes: 'gauge',
      backlot_throttled_requests_total: 'counter',
      backlot_quota_refusals_total: 'counter',
      backlot_unauthenticated_requests_total: 'counter',
      backlot_audit_omitted_total: 'counter',
      backlot_sessions: 'gauge',
      backlot_session_create_seconds: 'histogram',
      backlot_workstations_ended_total: 'counter',
      backlot_viewers: 'gauge',
      backlot_viewers_ended_total: 'counter',
      backlot_stream_bytes_total: 'counter',
      backlot_relay_seconds: 'histogram',
    });
    assert.equal(find('backlot_requests_total', { operation: 'CreateStudio', status: '200' }), 1);
    assert.ok(find('backlot_requests_total', { operation: 'GetStudio', status: '404' })! >= 1);
    assert.ok(find('backlot_requests_total', { operation: 'CreateStreamingImage', status: '400' })! >= 10);
    assert.ok(find('backlot_requests_total', { operation: 'Unknown', status: '404' })! >= 10);
    assert.equal(find('backlot_transitions_total', { kind: 'studio', state: 'READY' }), 1);
    assert.equal(find('backlot_queue_depth', { kind: 'streaming-image', state: 'CREATE_IN_PROGRESS' }), 0);
    assert.equal(find('backlot_image_bytes'), 0);
    assert.ok(find('backlot_resident_bytes')! > 1_000_000);

    const buckets = samples.filter(({ name, labels }) => name.endsWith('_bucket') && labels.operation === 'GetStudio');
    const counts = buckets.map(({ value }) => value);
    assert.deepEqual(
      counts,
      [...counts].sort((a, b) => a - b),
      'buckets hold what smaller ones hold',
    );
    assert.equal(buckets.at(-1)!.labels.le, '+Inf');
    assert.equal(buckets.at(-1)!.value, find('backlot_request_duration_seconds_count', { operation: 'GetStudio' }));
  });

  test('/metrics names operations, kinds and states, and nothing else', async () => {
    const { body } = await plain('/metrics');
    const names: readonly string[] = operations.map(({ name }) => name);
    for (const { labels } of parseMetrics(body).samples) {
      const { operation, ...others } = labels;
      assert.ok(
        operation === undefined || names.includes(operation) || /^(Unknown|\/\w+)$/.test(operation),
        String(operation),
      );
      for (const [label, value] of Object.entries(others)) {
        assert.match(value, LABELS[label] ?? /^$/, label);
      }
    }
    for (const secret of [
      studioId,
      studioId.split(':')[1]!,
      imageId,
      'alpha',
      'renamed',
      service.credentials.accessKeyId,
    ]) {
      assert.ok(!body.includes(secret), secret);
    }
  });

  test('only GET, and no input is taken', async () => {
    for (const method of ['POST', 'DELETE', 'HEAD']) {
      const answer = await service.call({ method, path: '/metrics' });
      assert.deepEqual([answer.status, answer.headers.get('x-amzn-errortype')], [404, 'UnknownOperationException']);
    }
  });
});
