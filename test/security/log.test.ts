/**
 * What the API's model calls sensitive, and whatever is secret, must not be in the log: whoever may read logs is not
 * whoever may read studios. The requests here are made to fail in every place that writes a line, and the lines are
 * looked at before anything hides parts of them.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import type { Members } from '../../src/contract/shape.ts';
import { KIND, newRow } from '../../src/domain/kinds.ts';
import type { MachineImage } from '../../src/domain/machine-image.ts';
import { type Log, SENSITIVE_MEMBERS } from '../../src/log.ts';
import { API, makeComponent, makeStudio, putReadyImage, untilState } from '../support/furnish.ts';
import { putProfile } from '../support/rows.ts';
import { startService } from '../support/service.ts';

/** Every line with all that hangs from it: nested errors, their causes and stacks. */
function recordingLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  const record = (...parts: unknown[]) => {
    lines.push(inspect(parts, { depth: null, showHidden: true, maxStringLength: null, maxArrayLength: null }));
  };
  const log = { debug: record, info: record, warn: record, error: record, isLevelEnabled: () => true };
  return { log: log as unknown as Log, lines };
}

const SECRET = 'hunter2';
const secrets = { name: `${SECRET} the film`, description: `about ${SECRET}` };

test('names and descriptions are in no line and no answer, whatever fails', async (t) => {
  const { log, lines } = recordingLog();
  const service = await startService(t, { overrides: { log } });
  const { store, directory, clock } = service.service.parts;
  const studioId = await makeStudio(service, 'studio', { displayName: `${SECRET} studios` });
  const studioPath = `${API}/studios/${encodeURIComponent(studioId)}`;
  const path = `${studioPath}/streaming-images`;
  const create = (ec2ImageId: string) => service.call({ method: 'POST', path, body: { ...secrets, ec2ImageId } });
  const refusals: string[] = [];

  const imported: MachineImage = {
    ec2ImageId: 'ami-00000000000000001',
    name: `${SECRET}.qcow2`,
    platform: 'LINUX',
    format: 'qcow2',
    sizeBytes: 1,
    virtualSizeBytes: 1,
    sha256: '0'.repeat(64),
    eulaIds: [],
    createdAt: '2026-01-01T00:00:00Z',
  };
  const row = newRow({
    kind: KIND.machineImage,
    id: imported.ec2ImageId,
    createdAt: clock.now(),
    doc: JSON.stringify(imported),
  });
  await store.write([{ op: 'insert', row }]);

  await t.test('an import of a machine image that is unknown, or whose file is gone', async () => {
    for (const ec2ImageId of ['ami-unknown', imported.ec2ImageId]) {
      const { streamingImage } = JSON.parse((await create(ec2ImageId)).body);
      const image = await untilState(service, `${path}/${streamingImage.streamingImageId}`, 'CREATE_FAILED');
      assert.ok(
        lines.some((line) => line.includes(streamingImage.streamingImageId)),
        'the failure is in the log',
      );
      refusals.push(String(image.statusMessage));
    }
  });

  await t.test('refused requests', async () => {
    const image = await putReadyImage(service, studioId, secrets.name);
    const update = (body: unknown) => service.call({ method: 'PATCH', path: `${path}/${image}`, body });
    for (const body of [
      { name: [secrets.name] },
      { name: secrets.name.repeat(9) },
      { description: { text: secrets.description } },
      `{"name":"${secrets.name}`,
      Buffer.from(`{"name":"${secrets.name}\xff"}`, 'latin1'),
    ]) {
      const answer = await update(body);
      assert.equal(answer.status, 400);
      refusals.push(answer.body);
    }
    const signed = await service.sign({ method: 'PATCH', path: `${path}/${image}`, body: secrets });
    const forged = await service.send({ ...signed, body: Buffer.from(JSON.stringify({ ...secrets, name: 'other' })) });
    assert.equal(forged.status, 403);
    refusals.push(forged.body);
  });

  await t.test('a database that refuses a write', async () => {
    const REASON = 'the disk is on fire';
    const database = new DatabaseSync(directory.database);
    t.after(() => database.close());
    for (const change of ['INSERT', 'UPDATE']) {
      database.exec(
        `CREATE TRIGGER fire_${change} BEFORE ${change} ON resource BEGIN SELECT RAISE(ABORT, '${REASON}'); END`,
      );
    }
    const image = await service.sign({ method: 'POST', path, body: { ...secrets, ec2ImageId: 'ami-unknown' } });
    const studio = await service.sign({ method: 'PATCH', path: studioPath, body: { displayName: secrets.name } });
    for (const message of [image, studio]) {
      const before = service.snapshot();
      const answer = await service.send(message);
      assert.equal(answer.status, 500);
      assert.equal(answer.headers.get('x-amzn-errortype'), 'InternalServerErrorException');
      assert.ok(!answer.body.includes(REASON), 'the inward text stays inside');
      const requestId = answer.headers.get('x-amzn-requestid')!;
      assert.ok(
        lines.some((line) => line.includes(requestId) && line.includes(REASON)),
        'the log has the reason',
      );
      assert.ok(JSON.parse(answer.body).message.includes(requestId), 'and the answer says where in the log');
      assert.deepEqual(service.snapshot(), before);
      refusals.push(answer.body);
    }
    for (const change of ['INSERT', 'UPDATE']) database.exec(`DROP TRIGGER fire_${change}`);
    assert.equal((await create('ami-unknown')).status, 200, 'and goes on when it no longer does');
  });

  const said = [...lines, ...refusals].join('\n');
  assert.ok(!said.toLowerCase().includes(SECRET), 'no name, no description');
  assert.ok(!said.includes(service.credentials.secretAccessKey), 'no secret key');
});

/** Everything of a component that is confidential, each with a word by which it would be found. */
const secretComponent = {
  ...secrets,
  type: 'SHARED_FILE_SYSTEM',
  configuration: {
    sharedFileSystemConfiguration: { endpoint: `${SECRET}.local`, linuxMountPoint: `/${SECRET}`, shareName: SECRET },
  },
  initializationScripts: [{ script: `mount ${SECRET}` }],
  scriptParameters: [{ key: 'SHOW', value: SECRET }],
};

test('scripts, parameters and addresses of components are in no line and no refusal, whatever fails', async (t) => {
  const { log, lines } = recordingLog();
  const service = await startService(t, { overrides: { log }, settings: { sharedFileSystemsMax: '1' } });
  const studioId = await makeStudio(service, 'studio');
  const path = `${API}/studios/${encodeURIComponent(studioId)}/studio-components`;
  const component = `${path}/${await makeComponent(service, studioId, secretComponent)}`;
  const { sharedFileSystemConfiguration: files } = secretComponent.configuration;
  const said: string[] = [];
  for (const [method, where, body] of [
    ['POST', path, secretComponent],
    ['POST', path, { ...secretComponent, type: 'CUSTOM' }],
    ['PATCH', component, { type: 'COMPUTE_FARM', configuration: secretComponent.configuration }],
    ['PATCH', component, { configuration: { sharedFileSystemConfiguration: { ...files, linuxMountPoint: SECRET } } }],
    ['PATCH', component, { configuration: { [SECRET]: files } }],
    ['PATCH', component, { configuration: { ...secretComponent.configuration, licenseServiceConfiguration: {} } }],
    ['PATCH', component, { initializationScripts: [{ script: SECRET.repeat(999) }] }],
    ['PATCH', component, { initializationScripts: SECRET }],
    ['PATCH', component, { scriptParameters: [{ key: `${SECRET}!`, value: SECRET }] }],
    ['PATCH', component, { scriptParameters: Array(31).fill({ key: 'KEY', value: SECRET }) }],
  ] as const) {
    const answer = await service.call({ method, path: where, body });
    assert.ok(answer.status === 400 || answer.status === 402, answer.body);
    said.push(answer.body);
  }
  assert.equal((await service.call({ method: 'DELETE', path: component })).status, 200);
  await untilState(service, component, 'DELETED');
  assert.ok(![...lines, ...said].join('\n').toLowerCase().includes(SECRET));
});

test('scripts and parameters that a workstation is told are in no line, no message and no line of the audit', async (t) => {
  const { log, lines } = recordingLog();
  const service = await startService(t, {
    overrides: { log },
    settings: { simulatedFailure: 'INITIALIZATION_SCRIPT_ERROR' },
  });
  const { parts } = service.service;
  const studioId = await makeStudio(service, 'studio');
  const script = { platform: 'LINUX', runContext: 'SYSTEM_INITIALIZATION', script: `mount ${SECRET}` };
  const component = { ...secretComponent, name: 'storage', initializationScripts: [script] };
  const launchProfileId = await putProfile({ ...parts, services: parts }, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g5.xlarge'],
      streamingImageIds: [await putReadyImage(service, studioId)],
    },
    studioComponentIds: [await makeComponent(service, studioId, component)],
  });
  const path = `${API}/studios/${encodeURIComponent(studioId)}/streaming-sessions`;
  const { body } = await service.call({ method: 'POST', path, body: { launchProfileId } });
  const { sessionId } = JSON.parse(body).session as { sessionId: string };
  const session = await untilState(service, `${path}/${sessionId}`, 'CREATE_FAILED');
  const audit = await parts.store.audit({ limit: 100 });
  assert.ok(lines.some((line) => line.includes(sessionId)));
  assert.ok(audit.some(({ resourceId }) => resourceId === sessionId));
  const said = [...lines, JSON.stringify(session), JSON.stringify(audit)].join('\n').toLowerCase();
  assert.ok(!said.includes(SECRET), said.slice(said.indexOf(SECRET) - 200, said.indexOf(SECRET)));
});

test('every member that the API calls sensitive is one that the log hides', () => {
  const hidden: readonly string[] = SENSITIVE_MEMBERS;
  let found = 0;
  const look = (members: Members): void => {
    for (const [name, { shape }] of Object.entries(members)) {
      if ('sensitive' in shape && shape.sensitive) {
        found += 1;
        assert.ok(hidden.includes(name), name);
      }
      const inner = shape.kind === 'list' ? shape.member : shape;
      if (inner.kind === 'structure' || inner.kind === 'union') look(inner.members);
    }
  };
  for (const { body, output } of operations as readonly Operation[]) look({ ...output?.members, ...body });
  assert.ok(found > 10);
});

test('a sensitive member that is logged all the same is hidden', () => {
  const members = JSON.stringify(Object.fromEntries(SENSITIVE_MEMBERS.map((member) => [member, SECRET])));
  const program = `
    import { createLog } from ${JSON.stringify(new URL('../../src/log.ts', import.meta.url).href)};
    createLog('info').error({ ...${members}, image: ${members}, id: 'an id' }, 'failed');
  `;
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], { encoding: 'utf8' });
  const line = JSON.parse(stderr) as Record<string, unknown>;
  assert.deepEqual([line.level, line.msg, line.id], ['error', 'failed', 'an id']);
  assert.ok(!stderr.includes(SECRET), stderr);
});
