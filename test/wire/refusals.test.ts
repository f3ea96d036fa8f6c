/**
 * What becomes of calls that are refused, over sockets: who calls too fast is told when to come back, strangers leave
 * nothing behind but a number, and whoever is known a line. The numbers are in the metrics.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newAccessKey } from '../../src/domain/access-key.ts';
import type { AuditDetails } from '../../src/domain/audit.ts';
import { attachPolicies, serviceNamed } from '../../src/domain/grant.ts';
import { storePolicy } from '../../src/domain/stored-policy.ts';
import type { AuditQuery, Write } from '../../src/store/store.ts';
import { API, makeStudio } from '../support/furnish.ts';
import { type AccessKeyPair, startService, type TestService } from '../support/service.ts';
import { until } from '../support/until.ts';

const LIST = { path: `${API}/studios` };

/** A key of the administrator; with policies, of a service that has these. */
async function makeKey({ service }: TestService, policies: object[] = []): Promise<AccessKeyPair> {
  const { parts } = service;
  const sources = policies.map((statement, index) => ({
    name: `policy${index}`,
    text: JSON.stringify({ Version: '2012-10-17', Statement: [statement] }),
  }));
  const holder = sources.length === 0 ? undefined : await serviceNamed('test', parts);
  const { row, secretAccessKey } = newAccessKey('test', parts.keys, parts, holder);
  const stored = sources.map((source): Write => ({ op: 'insert', row: storePolicy(source, undefined, parts) }));
  const names = sources.map(({ name }) => name);
  const grant = holder ? attachPolicies(holder, undefined, names, parts) : [];
  await parts.store.write([{ op: 'insert', row }, ...stored, ...grant]);
  return { accessKeyId: row.id, secretAccessKey };
}

async function metric({ url }: TestService, series: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${series} `));
  return line ? Number(line.slice(series.length + 1)) : 0;
}

async function linesOf({ service }: TestService, query: Partial<AuditQuery> = {}) {
  const lines = await service.parts.store.audit({ limit: 1_000, ...query });
  return lines.map(({ doc, ...line }) => ({ ...line, ...(JSON.parse(doc) as AuditDetails) }));
}

test('a key that calls too fast is told when to come back, and others are not', async (t) => {
  const service = await startService(t, { settings: { throttleReadsPerSecond: '1', throttleWritesPerSecond: '1' } });
  const other = await makeKey(service);
  const answers = [];
  for (let call = 0; call < 8; call += 1) answers.push(await service.call(LIST));
  const refusals = answers.filter(({ status }) => status === 429);
  assert.ok(refusals.length >= 1, 'one of eight within a second');
  const [{ headers, body }] = refusals as [(typeof answers)[number]];
  assert.equal(headers.get('x-amzn-errortype'), 'ThrottlingException');
  assert.equal(headers.get('retry-after'), '1');
  assert.deepEqual(JSON.parse(body), {
    message: 'Too many reads by the same principal, with all its access keys. Try again in a moment.',
    code: 'TOO_MANY_READS',
  });
  assert.equal((await service.call(LIST, { credentials: other })).status, 200);
  const series = 'backlot_throttled_requests_total{class="read",code="TOO_MANY_READS"}';
  assert.equal(await metric(service, series), refusals.length);
  const lines = await until('the refusals are lines', async () => {
    const found = await linesOf(service, { outcome: 'refused' });
    return found.length === refusals.length && found;
  });
  for (const line of lines) assert.deepEqual([line.operation, line.code], ['ListStudios', 'TOO_MANY_READS']);
});

test('with throttling off nobody is told to wait', async (t) => {
  const service = await startService(t, { settings: { throttle: 'off', throttleReadsPerSecond: '1' } });
  for (let call = 0; call < 20; call += 1) assert.equal((await service.call(LIST)).status, 200);
});

test('answers that are no 429 name no time to come back', async (t) => {
  const service = await startService(t);
  for (const path of [LIST.path, `${API}/studios/none`, '/nowhere']) {
    assert.equal((await service.call({ path })).headers.has('retry-after'), false);
  }
});

test('strangers leave a number and nothing else, and never use up what a key may do', async (t) => {
  const service = await startService(t, { settings: { throttleReadsPerSecond: '1' } });
  const before = [service.snapshot(), await linesOf(service)];
  const { accessKeyId } = service.credentials;
  const wrong = { credentials: { accessKeyId, secretAccessKey: 'a guess' } };
  const unknown = { credentials: { accessKeyId: 'AKIANOBODY', secretAccessKey: 'x' } };
  for (let call = 0; call < 12; call += 1) {
    assert.equal((await service.call(LIST, wrong)).status, 403);
    assert.equal((await service.call(LIST, unknown)).status, 403);
    assert.equal(
      (await service.send({ method: 'GET', target: LIST.path, headers: [['host', 'x']], body: Buffer.alloc(0) }))
        .status,
      403,
    );
  }
  assert.equal((await service.call(LIST)).status, 200);
  assert.deepEqual([service.snapshot(), await linesOf(service)], before);
  for (const error of ['InvalidSignature', 'UnrecognizedClient', 'MissingAuthenticationToken']) {
    assert.equal(await metric(service, `backlot_unauthenticated_requests_total{error="${error}Exception"}`), 12, error);
  }
});

test('every refusal of a known key is a line: for its input, its policies, what exists and a quota', async (t) => {
  const service = await startService(t, { settings: { streamingImagesMax: '0' } });
  const studioId = await makeStudio(service, 'alpha');
  const images = `${API}/studios/${encodeURIComponent(studioId)}/streaming-images`;
  const reader = await makeKey(service, [{ Effect: 'Allow', Action: 'nimble:GetStudio', Resource: '*' }]);
  const since = service.service.parts.clock.now();
  const image = { name: 'hunter2', ec2ImageId: 'ami-0123456789abcdef0' };
  const calls = [
    [{ method: 'POST', path: images, body: { ...image, name: 'hunter2'.repeat(100) } }, {}, 'ValidationException', ''],
    [{ method: 'POST', path: images, body: image }, {}, 'ServiceQuotaExceededException', studioId],
    [{ method: 'PATCH', path: `${images}/none`, body: { name: 'hunter2' } }, {}, 'ResourceNotFoundException', 'none'],
    [{ path: `${images}/none` }, { credentials: reader }, 'AccessDeniedException', 'none'],
    [{ path: `${API}/tags/${encodeURIComponent('arn:odd')}` }, {}, 'ValidationException', 'arn:odd'],
  ] as const;
  for (const [draft, signing, error, resourceId] of calls) {
    const answer = await service.call(draft, signing);
    assert.equal(answer.headers.get('x-amzn-errortype'), error, answer.body);
    const id = answer.headers.get('x-amzn-requestid')!;
    const line = await until(`a line of the ${error}`, async () =>
      (await linesOf(service, { since })).find((one) => one.id === id),
    );
    const { accessKeyId } = (signing as { credentials?: AccessKeyPair }).credentials ?? service.credentials;
    assert.deepEqual(
      [line.outcome, line.error, line.resourceId, line.accessKeyId, line.sourceAddress, line.members],
      ['refused', error, resourceId, accessKeyId, '127.0.0.1', undefined],
    );
    assert.equal(line.code, JSON.parse(answer.body).code);
  }
  assert.ok(!JSON.stringify(await linesOf(service)).includes('hunter2'));
  assert.equal(await metric(service, 'backlot_quota_refusals_total{code="STREAMING_IMAGES_PER_STUDIO"}'), 1);
});

test('the line of a change has the id that the answer has', async (t) => {
  const service = await startService(t);
  const studioId = await makeStudio(service, 'alpha');
  const path = `${API}/studios/${encodeURIComponent(studioId)}`;
  const answer = await service.call({ method: 'PATCH', path, body: { displayName: 'hunter2' } });
  assert.equal(answer.status, 200);
  const [line] = await linesOf(service, { operation: 'UpdateStudio' });
  assert.equal(line!.id, answer.headers.get('x-amzn-requestid'));
  assert.deepEqual([line!.outcome, line!.resourceId, line!.sourceAddress], ['ok', studioId, '127.0.0.1']);
  assert.deepEqual(line!.members, { displayName: '[hidden]' });
});
