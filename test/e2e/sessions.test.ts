/**
 * Sessions as clients know them: made, waited for, stopped, started and deleted by the vendor's client, by old clients
 * that send no body, and across a restart of the server, which forgets neither a workstation nor a time limit.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CreateStreamingSessionCommand,
  CreateStreamingSessionStreamCommand,
  DeleteStreamingSessionCommand,
  GetStreamingSessionCommand,
  GetStreamingSessionStreamCommand,
  ListStreamingSessionsCommand,
  type NimbleClient,
  paginateListStreamingSessionBackups,
  StartStreamingSessionCommand,
  StopStreamingSessionCommand,
  waitUntilStreamingSessionDeleted,
  waitUntilStreamingSessionReady,
  waitUntilStreamingSessionStopped,
  waitUntilStreamingSessionStreamReady,
} from '@aws-sdk/client-nimble';
import { API, makeStudio, putReadyImage } from '../support/furnish.ts';
import { putProfile } from '../support/rows.ts';
import { startService, type TestService } from '../support/service.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';

const waiting = (client: NimbleClient) => ({ client, maxWaitTime: 60, minDelay: 1, maxDelay: 1 });

async function furnish(service: TestService) {
  const studioId = await makeStudio(service, 'studio');
  const { parts } = service.service;
  const launchProfileId = await putProfile({ ...parts, services: parts }, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g5.xlarge'],
      sessionPersistenceMode: 'ACTIVATED',
      sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 1 },
      streamingImageIds: [await putReadyImage(service, studioId)],
    },
  });
  return { studioId, launchProfileId };
}

test("a session's whole life, with the vendor's client and its waiters", async (t) => {
  const service = await startService(t);
  const { client } = service;
  const { studioId, launchProfileId } = await furnish(service);
  const made = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId, tags: { show: 'a' } }));
  const { sessionId } = made.session!;
  const named = { studioId, sessionId };
  assert.equal((await waitUntilStreamingSessionReady(waiting(client), named)).state, 'SUCCESS');
  const { session } = await client.send(new GetStreamingSessionCommand(named));
  assert.equal(session!.ec2InstanceType, 'g5.xlarge');
  assert.equal(session!.stopAt!.getTime() - session!.updatedAt!.getTime(), 690 * 60_000);

  const { stream } = await client.send(new CreateStreamingSessionStreamCommand({ ...named, expirationInSeconds: 60 }));
  const ofStream = { ...named, streamId: stream!.streamId };
  assert.equal((await waitUntilStreamingSessionStreamReady(waiting(client), ofStream)).state, 'SUCCESS');
  const shown = await client.send(new GetStreamingSessionStreamCommand(ofStream));
  assert.ok(shown.stream!.url!.startsWith(`${service.url}/streams/${stream!.streamId}#`));
  assert.ok(!service.snapshot().some((row) => row.includes(shown.stream!.url!.split('#')[1]!)), 'the ticket is stored');

  await client.send(new StopStreamingSessionCommand({ ...named, volumeRetentionMode: 'RETAIN' }));
  assert.equal((await waitUntilStreamingSessionStopped(waiting(client), named)).state, 'SUCCESS');
  const backups = [];
  for await (const page of paginateListStreamingSessionBackups({ client }, { studioId })) {
    backups.push(...page.streamingSessionBackups!);
  }
  assert.deepEqual(
    backups.map(({ state }) => state),
    ['READY'],
  );
  await client.send(new StartStreamingSessionCommand({ ...named, backupId: backups[0]!.backupId! }));
  assert.equal((await waitUntilStreamingSessionReady(waiting(client), named)).state, 'SUCCESS');
  await client.send(new DeleteStreamingSessionCommand(named));
  assert.equal((await waitUntilStreamingSessionDeleted(waiting(client), named)).state, 'SUCCESS');
  assert.deepEqual(await service.service.parts.compute.list(), []);
});

test('clients from before 2022-12-20 stop and start with no body and no content type', async (t) => {
  const service = await startService(t);
  const { studioId, launchProfileId } = await furnish(service);
  const sessions = `${API}/studios/${encodeURIComponent(studioId)}/streaming-sessions`;
  const created = await service.call({ method: 'POST', path: sessions, body: { launchProfileId } });
  const { sessionId } = JSON.parse(created.body).session as { sessionId: string };
  const reaches = (state: string) =>
    until(`${state} is reached`, async () => {
      const { body } = await service.call({ path: `${sessions}/${sessionId}` });
      return JSON.parse(body).session.state === state;
    });
  await reaches('READY');
  for (const [what, state] of [
    ['stop', 'STOPPED'],
    ['start', 'READY'],
  ] as const) {
    const answer = await service.call({ method: 'POST', path: `${sessions}/${sessionId}/${what}` });
    assert.equal(answer.status, 200, answer.body);
    await reaches(state);
  }
});

test('ids of a list stand in one text or in a key that repeats', async (t) => {
  const service = await startService(t);
  const { client } = service;
  const { studioId, launchProfileId } = await furnish(service);
  const ids: string[] = [];
  for (let index = 0; index < 3; index += 1) {
    const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
    ids.push(session!.sessionId!);
  }
  const wanted = [ids[0]!, ids[2]!].sort();
  const one = await client.send(new ListStreamingSessionsCommand({ studioId, sessionIds: wanted.join() }));
  assert.deepEqual(one.sessions!.map(({ sessionId }) => sessionId).sort(), wanted);
  const path = `${API}/studios/${encodeURIComponent(studioId)}/streaming-sessions`;
  const repeated = JSON.parse((await service.call({ path, query: { sessionIds: wanted } })).body) as typeof one;
  assert.deepEqual(repeated.sessions!.map(({ sessionId }) => sessionId).sort(), wanted);
});

test('a server that starts again finds its workstations and keeps to the time limits', async (t) => {
  const dataDir = temporaryDirectory(t);
  let now = Date.now();
  const overrides = { clock: { now: () => now } };
  const endings: (() => unknown)[] = [];
  const first = await startService(
    { after: (end: () => unknown) => void endings.push(end) },
    { settings: { dataDir }, overrides },
  );
  const { studioId, launchProfileId } = await furnish(first);
  const { session } = await first.client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  const named = { studioId, sessionId: session!.sessionId };
  await waitUntilStreamingSessionReady(waiting(first.client), named);
  for (const end of endings) await end();

  now += 690 * 60_000;
  const second = await startService(t, { settings: { dataDir, clockSkewMs: '1440' }, overrides });
  const { parts } = second.service;
  const row = () => parts.store.get('streaming-session', named.sessionId!);
  await until('it is stopped', async () => (await row())!.state === 'STOPPED');
  const [workstation] = await parts.compute.list();
  assert.deepEqual([workstation!.id, workstation!.running, workstation!.backupIds.length], [named.sessionId, false, 1]);
});

test('a server without workstations leaves the work of sessions to one that has them', async (t) => {
  const dataDir = temporaryDirectory(t);
  const endings: (() => unknown)[] = [];
  const without = await startService(
    { after: (end: () => unknown) => void endings.push(end) },
    { settings: { dataDir, compute: 'none' } },
  );
  const { studioId, launchProfileId } = await furnish(without);
  const { session } = await without.client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
  const named = { studioId, sessionId: session!.sessionId };
  const row = async () => (await without.service.parts.store.get('streaming-session', named.sessionId!))!;
  const before = await row();
  for (let looks = 0; looks < 3; looks += 1) await without.service.worker.runOnce();
  assert.deepEqual(await row(), before);
  assert.equal(before.state, 'CREATE_IN_PROGRESS');
  for (const end of endings) await end();

  const { client } = await startService(t, { settings: { dataDir } });
  assert.equal((await waitUntilStreamingSessionReady(waiting(client), named)).state, 'SUCCESS');
});
