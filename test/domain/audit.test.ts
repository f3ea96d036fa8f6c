/**
 * What is in the audit and what is not: a line for each change, with the change; one for each call that was refused or had
 * nothing to change, bounded; never anything that is sensitive.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type OperationName, operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import type { Members, Shape } from '../../src/contract/shape.ts';
import {
  type AuditDetails,
  type AuditedCall,
  commandLine,
  createAuditTrail,
  doneLine,
} from '../../src/domain/audit.ts';
import type { Origin, Principal } from '../../src/domain/context.ts';
import { handlers } from '../../src/domain/index.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { perform } from '../../src/domain/perform.ts';
import { ServiceError, validationFailed } from '../../src/errors.ts';
import type { AuditLine } from '../../src/store/store.ts';
import { createUpkeep } from '../../src/worker/upkeep.ts';
import { ADMINISTRATOR, createWorld, silentLog, type World } from '../support/domain.ts';
import { intercepted } from '../support/intercept.ts';
import { arnOfImage, arnOfStudio, IDENTITY_STORE_ID, putEula, putImage, putState, putUser } from '../support/rows.ts';
import { sampleInput, sampleMembers } from '../support/samples.ts';

const contract: readonly Operation[] = operations;
const operationOf = (name: OperationName) => contract.find((operation) => operation.name === name)!;
const ORIGIN: Origin = { requestId: 'request-1', remoteAddress: '::ffff:192.0.2.7' };
const DAY_MS = 24 * 3_600_000;

type Line = Omit<AuditLine, 'doc'> & AuditDetails;

/** Oldest first, and without those of making the studio. */
async function linesOf(world: World, since = 0): Promise<Line[]> {
  await world.audit.flush();
  const lines = await world.store.audit({ limit: 10_000, since });
  return lines.toReversed().map(({ doc, ...line }) => ({ ...line, ...(JSON.parse(doc) as AuditDetails) }));
}

/** A world with a studio and an image in it, some time ago. */
async function furnished() {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId);
  world.clock.advance(60_000);
  const since = world.clock.now();
  const call = (name: OperationName, input: object, origin: Origin = ORIGIN) => {
    world.clock.advance(1);
    return perform(operationOf(name), handlers[name] as never, input as never, ADMINISTRATOR, world.services, origin);
  };
  return { world, studioId, streamingImageId, call, lines: () => linesOf(world, since) };
}

test('a change is one line: who, what, where from, how it ended, and what was set without what is sensitive', async () => {
  const { world, studioId, streamingImageId, call, lines } = await furnished();
  await call('UpdateStreamingImage', { studioId, streamingImageId, name: 'Secret film', clientToken: 'token' });
  assert.deepEqual(await lines(), [
    {
      at: world.clock.now(),
      id: 'request-1',
      principalId: ADMINISTRATOR.principalId,
      accessKeyId: ADMINISTRATOR.accessKeyId,
      operation: 'UpdateStreamingImage',
      studioId,
      resourceId: streamingImageId,
      outcome: 'ok',
      role: 'administrator',
      sourceAddress: '192.0.2.7',
      members: { name: '[hidden]' },
    },
  ]);
});

test('what is created is named by its own id, and a tag operation by the id in the ARN', async () => {
  const { world, studioId, streamingImageId, call, lines } = await furnished();
  const roles = { adminRoleArn: 'arn:a', userRoleArn: 'arn:u', displayName: 'Hidden', studioName: 'made' };
  const made = JSON.parse(String(await call('CreateStudio', { ...roles, tags: { show: 'alpha' } }))).studio;
  await call('TagResource', { resourceArn: arnOfImage(streamingImageId), tags: { team: 'fx' } });
  await call('UntagResource', { resourceArn: arnOfImage(streamingImageId), tagKeys: ['team'] });
  await world.settle();
  await call('TagResource', { resourceArn: arnOfStudio(studioId), tags: { team: 'fx' } });
  const told = (await lines()).map(({ operation, studioId: studio, resourceId, members }) => [
    operation,
    studio,
    resourceId,
    members,
  ]);
  assert.deepEqual(told, [
    [
      'CreateStudio',
      made.studioId,
      made.studioId,
      {
        adminRoleArn: 'arn:a',
        displayName: '[hidden]',
        studioName: 'made',
        tags: { show: 'alpha' },
        userRoleArn: 'arn:u',
      },
    ],
    ['TagResource', '', streamingImageId, { tags: { team: 'fx' } }],
    ['UntagResource', '', streamingImageId, { tagKeys: ['team'] }],
    ['TagResource', studioId, studioId, { tags: { team: 'fx' } }],
  ]);
});

test('reads leave no line, and what had nothing to change or was a replay says so', async () => {
  const { studioId, streamingImageId, call, lines } = await furnished();
  const image = { studioId, streamingImageId };
  await call('GetStreamingImage', image);
  await call('ListStreamingImages', { studioId });
  await call('UpdateStreamingImage', image, { requestId: 'nothing' });
  await call('UpdateStreamingImage', { ...image, clientToken: 'a' }, { requestId: 'nothing, with a token' });
  await call('UpdateStreamingImage', { ...image, name: 'x', clientToken: 'b' }, { requestId: 'change' });
  await call('UpdateStreamingImage', { ...image, name: 'x', clientToken: 'b' }, { requestId: 'again' });
  assert.deepEqual(
    (await lines()).map(({ id, outcome }) => [id, outcome]),
    [
      ['nothing', 'unchanged'],
      ['nothing, with a token', 'unchanged'],
      ['change', 'ok'],
      ['again', 'replayed'],
    ],
  );
});

test('what was only looked at, and guarded, is no change', async () => {
  const { world, studioId, call, lines } = await furnished();
  const eulaIds = [await putEula(world)];
  const members = [{ principalId: await putUser(world, 'ann'), persona: 'ADMINISTRATOR' }];
  const put = { studioId, identityStoreId: IDENTITY_STORE_ID, members };
  for (const requestId of ['first', 'second', 'third']) {
    const token = requestId === 'third' ? { clientToken: 'a' } : {};
    await call('AcceptEulas', { studioId, eulaIds, ...token }, { requestId: `${requestId} acceptance` });
    await call('PutStudioMembers', { ...put, ...token }, { requestId: `${requestId} member` });
  }
  assert.deepEqual(
    (await lines()).map(({ id, outcome }) => [id, outcome]),
    [
      ['first acceptance', 'ok'],
      ['first member', 'ok'],
      ['second acceptance', 'unchanged'],
      ['second member', 'unchanged'],
      ['third acceptance', 'unchanged'],
      ['third member', 'unchanged'],
    ],
  );
});

test('whoever changes nothing over and over gets a bounded number of lines, with client tokens as well', async () => {
  const { studioId, streamingImageId, call, lines } = await furnished();
  for (let index = 0; index < 300; index += 1) {
    await call('UpdateStreamingImage', { studioId, streamingImageId, clientToken: `token ${index}` });
  }
  const unchanged = (await lines()).filter(({ outcome }) => outcome === 'unchanged');
  assert.ok(unchanged.length >= 100 && unchanged.length < 110, String(unchanged.length));
});

test('a change that was not made leaves no line of one', async () => {
  const { world, studioId, streamingImageId, call, lines } = await furnished();
  await putState(world, KIND.streamingImage, streamingImageId, 'DELETE_IN_PROGRESS');
  await assert.rejects(call('UpdateStreamingImage', { studioId, streamingImageId, name: 'x' }), ServiceError);
  const full = intercepted(world.store, async () => {
    throw new Error('full');
  });
  const services = { ...world.services, store: full };
  const update = perform(
    operationOf('UpdateStudio'),
    handlers.UpdateStudio as never,
    { studioId, displayName: 'x' },
    ADMINISTRATOR,
    services,
    ORIGIN,
  );
  await assert.rejects(update, /full/);
  assert.deepEqual(await lines(), []);
});

test('a change that was decided anew, because another got in between, is one line all the same', async () => {
  const { world, studioId, streamingImageId, lines } = await furnished();
  let overtaken = false;
  const store = intercepted(world.store, async () => {
    if (overtaken) return;
    overtaken = true;
    await putState(world, KIND.streamingImage, streamingImageId, 'READY');
  });
  await perform(
    operationOf('UpdateStreamingImage'),
    handlers.UpdateStreamingImage as never,
    { studioId, streamingImageId, name: 'x' },
    ADMINISTRATOR,
    { ...world.services, store },
    ORIGIN,
  );
  assert.ok(overtaken);
  assert.deepEqual(
    (await lines()).map(({ outcome }) => outcome),
    ['ok'],
  );
});

// ---------------------------------------------------------------------------------------------------------------------

/** The input with every text that the contract calls sensitive put in its place. */
const SECRET = 'hunter2';

function marked(shape: Shape, value: unknown, isSensitive = false): unknown {
  switch (shape.kind) {
    case 'string':
      return isSensitive || shape.sensitive ? SECRET : value;
    case 'list':
      return (value as unknown[]).map((entry) => marked(shape.member, entry, isSensitive || shape.sensitive));
    case 'structure':
      return markedMembers(shape.members, value as Record<string, unknown>, isSensitive);
    default:
      return value;
  }
}

function markedMembers(members: Members, value: Record<string, unknown>, isSensitive = false) {
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => {
      const member = members[name];
      return [name, member ? marked(member.shape, inner, isSensitive) : inner];
    }),
  );
}

/** Every alternative of a union in turn; other members as they are. */
function variants(members: Members, input: Record<string, unknown>): Record<string, unknown>[] {
  const found = [markedMembers(members, input)];
  for (const [name, { shape }] of Object.entries(members)) {
    if (shape.kind !== 'union') continue;
    for (const [alternative, { shape: inner }] of Object.entries(shape.members)) {
      if (inner.kind !== 'structure') continue;
      const value = markedMembers(inner.members, sampleMembers(inner.members));
      found.push({ ...markedMembers(members, input), [name]: { [alternative]: value } });
    }
  }
  return found;
}

describe('what is sensitive', () => {
  for (const operation of contract) {
    test(`of ${operation.name} is in no line`, () => {
      let sensitive = 0;
      for (const input of variants({ ...operation.query, ...operation.body }, sampleInput(operation))) {
        if (JSON.stringify(input).includes(SECRET)) sensitive += 1;
        const { services } = createWorld();
        const call: AuditedCall = { operation, input, principal: ADMINISTRATOR, origin: ORIGIN };
        const line = JSON.stringify(doneLine(call, 'ok', undefined, services));
        assert.ok(!line.includes(SECRET), line);
        assert.ok(!line.includes('token: a=b'), 'a client token');
        assert.ok(line.length < 6_000, String(line.length));
      }
      const named = ['CreateStudio', 'UpdateStreamingImage', 'CreateStudioComponent'];
      assert.ok(sensitive > 0 || !named.includes(operation.name));
    });
  }

  test('a line is short whatever was sent', () => {
    const operation = operationOf('TagResource');
    const wide = Object.fromEntries(
      Array.from({ length: 50 }, (_, index) => [`${index}${'k'.repeat(120)}`, 'v'.repeat(256)]),
    );
    const { services } = createWorld();
    const shownMembers = (members: object) => {
      const call = { operation, input: { resourceArn: 'arn', ...members }, principal: ADMINISTRATOR, origin: ORIGIN };
      return (JSON.parse(doneLine(call, 'ok', undefined, services).doc) as AuditDetails).members;
    };
    assert.deepEqual(shownMembers({ tags: wide }), { tags: '[left out]' });
    const { tags } = shownMembers({ tags: { long: 'v'.repeat(300) } }) as { tags: Record<string, string> };
    assert.equal(tags.long!.length, 256);
    const input = { resourceArn: 'x'.repeat(10_000), tags: {} };
    const line = doneLine({ operation, input, principal: ADMINISTRATOR, origin: ORIGIN }, 'ok', undefined, services);
    assert.equal(line.resourceId.length, 256);
  });
});

// ---------------------------------------------------------------------------------------------------------------------

const PRINCIPAL: Principal = { accessKeyId: 'AKIAFARM', principalId: 'AIDAFARM', role: 'policies' };

function refusedCall(more: Partial<AuditedCall> = {}): AuditedCall {
  const input = { studioId: 'us-west-2:s', streamingImageId: 'i', name: SECRET };
  return { operation: operationOf('UpdateStreamingImage'), input, principal: PRINCIPAL, origin: ORIGIN, ...more };
}

test('a refusal is a line with the name and the code of the error, and neither its message nor what was sent', async () => {
  const world = createWorld();
  const error = new ServiceError('AccessDeniedException', `No ${SECRET} for you`, {
    code: 'NOT_AUTHORIZED',
    inward: SECRET,
  });
  world.audit.refused(refusedCall(), error);
  assert.deepEqual(await linesOf(world), [
    {
      at: world.clock.now(),
      id: 'request-1',
      principalId: 'AIDAFARM',
      accessKeyId: 'AKIAFARM',
      operation: 'UpdateStreamingImage',
      studioId: 'us-west-2:s',
      resourceId: 'i',
      outcome: 'refused',
      role: 'policies',
      sourceAddress: '192.0.2.7',
      error: 'AccessDeniedException',
      code: 'NOT_AUTHORIZED',
    },
  ]);
});

test('how a call ended is told for each kind of error, also where its input was not valid', async () => {
  const cases: [unknown, [string, string | undefined, string | undefined]][] = [
    [validationFailed('no', 'INVALID_INPUT'), ['refused', 'ValidationException', 'INVALID_INPUT']],
    [new ServiceError('ThrottlingException', 'no'), ['refused', 'ThrottlingException', undefined]],
    [
      new ServiceError('InternalServerErrorException', 'no', { code: 'STORE_UNAVAILABLE' }),
      ['failed', 'InternalServerErrorException', 'STORE_UNAVAILABLE'],
    ],
    [new TypeError(SECRET), ['failed', 'InternalServerErrorException', 'SERVER_FAILED']],
    ['thrown', ['failed', 'InternalServerErrorException', 'SERVER_FAILED']],
  ];
  for (const [error, expected] of cases) {
    const world = createWorld();
    world.audit.refused(refusedCall({ input: undefined, origin: {} }), error);
    const [line] = await linesOf(world);
    assert.deepEqual([line!.outcome, line!.error, line!.code], expected);
    assert.deepEqual([line!.studioId, line!.resourceId, line!.sourceAddress], ['', '', undefined]);
    assert.match(line!.id, /^[0-9a-f-]{36}$/);
    assert.ok(!JSON.stringify(line).includes(SECRET));
  }
});

const DENIED = new ServiceError('AccessDeniedException', 'no');

test('a principal that is refused without end gets a bounded number of lines, and one says how many are missing', async () => {
  const world = createWorld();
  let omitted = 0;
  const audit = createAuditTrail({ ...world.services, omitted: (lines) => (omitted += lines) });
  const refuse = (times: number, principal = PRINCIPAL) => {
    for (let time = 0; time < times; time += 1) audit.refused(refusedCall({ principal, origin: {} }), DENIED);
  };
  refuse(1_000);
  refuse(3, { ...PRINCIPAL, principalId: 'AIDAOTHER' });
  await audit.flush();
  const count = async (query: object) => (await world.store.audit({ limit: 10_000, ...query })).length;
  assert.equal(await count({ principal: 'AIDAFARM', outcome: 'refused' }), 100);
  assert.equal(await count({ principal: 'AIDAOTHER', outcome: 'refused' }), 3);
  assert.equal(omitted, 900);
  const [summary, ...more] = await world.store.audit({ outcome: 'omitted', limit: 10 });
  assert.deepEqual(
    [summary!.principalId, summary!.accessKeyId, summary!.doc],
    ['AIDAFARM', 'AKIAFARM', '{"omitted":900}'],
  );
  assert.deepEqual(more, []);

  // Said once, and a day of it is no more than the bound.
  await audit.flush();
  assert.equal(await count({ outcome: 'omitted' }), 1);
  for (let minute = 0; minute < 24 * 60; minute += 1) {
    world.clock.advance(60_000);
    refuse(50);
    await audit.flush();
  }
  assert.ok((await count({ principal: 'AIDAFARM', outcome: 'refused' })) <= 100 + 8_640);
});

test('the line that says what is missing stands before the next that is written', async () => {
  const world = createWorld();
  for (let time = 0; time < 105; time += 1) world.audit.refused(refusedCall({ origin: {} }), DENIED);
  world.clock.advance(10_000);
  const since = world.clock.now();
  world.audit.refused(refusedCall({ origin: { requestId: 'next' } }), DENIED);
  const lines = await linesOf(world, since);
  assert.deepEqual(
    new Set(lines.map(({ outcome, omitted }) => `${outcome} ${omitted}`)),
    new Set(['omitted 5', 'refused undefined']),
  );
});

test('changes are written whatever was refused before: their lines are part of them', async () => {
  const { world, studioId, streamingImageId, call } = await furnished();
  const principal = ADMINISTRATOR;
  for (let time = 0; time < 200; time += 1) world.audit.refused(refusedCall({ principal, origin: {} }), DENIED);
  for (let time = 0; time < 5; time += 1) {
    await call(
      'UpdateStreamingImage',
      { studioId, streamingImageId, name: `n${time}` },
      { requestId: `change ${time}` },
    );
  }
  const lines = await linesOf(world);
  assert.equal(
    lines.filter(({ operation, outcome }) => operation === 'UpdateStreamingImage' && outcome === 'ok').length,
    5,
  );
});

test('a database that takes no lines fails no call; what is missing is counted and told when it takes them again', async () => {
  const world = createWorld();
  let omitted = 0;
  let full = true;
  const store = intercepted(world.store, async () => {
    if (full) throw new Error('full');
  });
  const audit = createAuditTrail({ ...world.services, store, omitted: (lines) => (omitted += lines) });
  for (let time = 0; time < 3; time += 1) audit.refused(refusedCall({ origin: {} }), DENIED);
  await audit.flush();
  await audit.flush();
  assert.equal(omitted, 3);
  full = false;
  await audit.flush();
  const [line] = await linesOf(world);
  assert.deepEqual([line!.outcome, line!.omitted], ['omitted', 3]);
});

test('a database that hangs holds no more lines than the bound', async () => {
  const world = createWorld();
  let omitted = 0;
  const store = { write: () => new Promise<never>(() => undefined) };
  const audit = createAuditTrail({ ...world.services, store, omitted: (lines) => (omitted += lines) });
  for (let user = 0; user < 300; user += 1) {
    audit.refused(refusedCall({ principal: { ...PRINCIPAL, principalId: `AIDA${user}` } }), DENIED);
  }
  assert.equal(omitted, 300 - 256);
});

test('upkeep forgets lines that are old enough, in bounded writes, and keeps the others', async () => {
  const world = createWorld();
  const line = (index: number, at: number) => {
    const write = commandLine('test', String(index), world.services);
    return write.op === 'audit' ? { ...write, line: { ...write.line, at } } : write;
  };
  const now = world.clock.now();
  await world.store.write(Array.from({ length: 2_500 }, (_, index) => line(index, now - 90 * DAY_MS - 1 - index)));
  await world.store.write([line(9_999, now - 90 * DAY_MS)]);
  const limits: number[] = [];
  const store = intercepted(world.store, async ([write]) => {
    if (write?.op === 'forgetAudit') limits.push(write.limit);
  });
  await createUpkeep({ ...world, store, log: silentLog }).runOnce();
  assert.deepEqual(limits, [1_000, 1_000, 1_000]);
  assert.deepEqual(
    (await world.store.audit({ limit: 10 })).map(({ resourceId }) => resourceId),
    ['9999'],
  );
});
