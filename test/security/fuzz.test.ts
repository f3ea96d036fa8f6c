/**
 * Every operation with input that has the contract's form and misses it somewhere: thousands of calls, correctly signed,
 * by an administrator. Each is refused with a clear 4xx that tells nothing of the server's inside, and changes nothing.
 * BACKLOT_SEED runs one seed instead of the usual one.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, test } from 'node:test';
import { operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import { breakagesOf, brokenTexts, strangeTexts } from '../support/breakages.ts';
import type { Answer } from '../support/connection.ts';
import { API, makeComponent, makeStudio, putReadyImage, putReadyProfile, putUser } from '../support/furnish.ts';
import { createRandom } from '../support/random.ts';
import { putBackup, putSession, putStream } from '../support/rows.ts';
import { sampleInput } from '../support/samples.ts';
import { type Draft, startService } from '../support/service.ts';

const seed = process.env.BACKLOT_SEED ?? randomBytes(6).toString('hex');
/** Of one member, so that the few with long lists of ways do not take all the time. */
const BREAKAGES_PER_MEMBER_MAX = 12;

// Who is told to wait has not been told what is wrong.
const service = await startService({ after }, { settings: { throttle: 'off' } });
const studioId = await makeStudio(service, 'fuzzed');

const place = { ...service.service.parts, services: service.service.parts };
const launchProfileId = await putReadyProfile(service, studioId);
const sessionId = await putSession(place, studioId, { launchProfileId });
/** What labels name, so that a call gets as far as it can. */
const LABELS: Readonly<Record<string, string>> = {
  studioId,
  studioComponentId: await makeComponent(service, studioId),
  streamingImageId: await putReadyImage(service, studioId),
  launchProfileId,
  principalId: await putUser(service, 'ann'),
  sessionId,
  streamId: await putStream(place, studioId, sessionId),
  backupId: await putBackup(place, studioId, sessionId),
  resourceArn: `arn:aws:nimble:us-west-2:000000000000:studio/${studioId.split(':')[1]}`,
};

type Values = Record<string, unknown>;

function draftOf({ uri, method, labels, query, body, clientToken }: Operation, input: Values): Draft {
  const path = uri.replaceAll(/\{(\w+)\}/g, (_, label: string) => encodeURIComponent(wellFormed(input[label])));
  const texts = Object.fromEntries(
    Object.keys(query).flatMap((name) => {
      const value = input[name];
      if (value === undefined || value === null) return [];
      return [[name, Array.isArray(value) ? value.map(wellFormed) : wellFormed(value)] as const];
    }),
  );
  const given = Object.fromEntries(Object.keys(body).map((name) => [name, input[name]]));
  assert.ok(Object.keys(labels).every((name) => name in input));
  return {
    method,
    path: API + path,
    query: texts,
    ...(clientToken &&
      typeof input.clientToken === 'string' && { headers: { 'x-amz-client-token': input.clientToken } }),
    ...(Object.keys(body).length > 0 && { body: given }),
  };
}

/** A lone surrogate has no UTF-8, and so no percent-encoding. */
function wellFormed(value: unknown): string {
  return String(value).toWellFormed();
}

function validInput(operation: Operation): Values {
  const { clientToken: _token, ...input } = sampleInput(operation);
  for (const label of Object.keys(operation.labels)) input[label] = LABELS[label] ?? 'Cw_jXnp1QcSSXhE2hkNRoQ';
  return input;
}

interface Case {
  readonly what: string;
  readonly draft: Draft;
}

function casesOf(operation: Operation): Case[] {
  const random = createRandom(`${seed}/${operation.name}`);
  const valid = validInput(operation);
  const cases: Case[] = [];
  const add = (name: string, what: string, value: unknown) =>
    cases.push({ what: `${name} ${what}`, draft: draftOf(operation, { ...valid, [name]: value }) });
  for (const name of Object.keys(operation.labels)) {
    for (const text of strangeTexts) add(name, `is ${JSON.stringify(text.slice(0, 40))}`, text);
  }
  for (const [name, { shape, required }] of Object.entries(operation.query)) {
    if (required) add(name, 'is missing', undefined);
    const member = shape.kind === 'list' ? shape.member : shape;
    if (member.kind === 'string') for (const { what, value } of brokenTexts(member)) add(name, what, value);
    if (member.kind === 'integer') {
      for (const text of ['', 'x', '1.5', '1e9', `${member.min - 1}`, `${member.max + 1}`])
        add(name, `is ${text}`, text);
    }
  }
  for (const [name, { shape, required }] of Object.entries(operation.body)) {
    if (required) add(name, 'is missing', undefined);
    const ways = breakagesOf(shape, random);
    const chosen =
      ways.length <= BREAKAGES_PER_MEMBER_MAX
        ? ways
        : Array.from({ length: BREAKAGES_PER_MEMBER_MAX }, () => random.pick(ways));
    for (const { what, value } of chosen) add(name, what, value);
  }
  if (operation.clientToken) add('clientToken', 'is too long', 'x'.repeat(65));
  if (Object.keys(operation.body).length > 0) cases.push(...unreadable(operation, valid));
  return cases;
}

/** Bodies that are no JSON object. */
function unreadable(operation: Operation, valid: Values): Case[] {
  const { body: _body, ...draft } = draftOf(operation, valid);
  const [member] = Object.keys(operation.body);
  const depth = 50_000;
  const bodies: readonly (string | Buffer)[] = [
    '{',
    '[]',
    '"text"',
    'null and void',
    `{"${member}":1e999}`,
    '{"a":1,}',
    `{"${member}":${'['.repeat(depth)}${']'.repeat(depth)}}`,
    Buffer.from([0xff, 0xfe, 0x7b, 0x7d]),
    Buffer.from(`{"${member}":"\xff\xfe"}`, 'latin1'),
  ];
  return bodies.map((body) => ({
    what: `body ${JSON.stringify(String(body).slice(0, 30))}`,
    draft: { ...draft, body },
  }));
}

/** Lines of the audit are there to be added to, and no change of what they are about. */
const snapshot = () => service.snapshot().filter((line) => !line.startsWith('audit: '));

function requireRefused({ status, headers, body }: Answer, what: string): void {
  assert.ok(status >= 400 && status < 500, `${what}: ${status} ${body}`);
  assert.ok(headers.has('x-amzn-errortype'), what);
  const { message } = JSON.parse(body) as { message: string };
  assert.ok(message.length > 0 && message.length < 10_000, what);
  assert.doesNotMatch(body, /\n\s+at |node:|\.ts\b|src\/|SQLITE|undefined|\[object/i, what);
}

describe(`with seed ${seed} (BACKLOT_SEED)`, () => {
  let calls = 0;
  for (const operation of operations as readonly Operation[]) {
    test(`${operation.name} refuses what misses its form, and changes nothing`, async () => {
      const before = snapshot();
      for (const { what, draft } of casesOf(operation)) {
        requireRefused(await service.call(draft), `${operation.name}: ${what}`);
        calls += 1;
      }
      assert.deepEqual(snapshot(), before);
    });
  }

  test('those were thousands', () => {
    assert.ok(calls > 20 * operations.length, String(calls));
  });
});
