/**
 * What the users of a simulation do with sessions: they create, start, stop, stream and delete them in studios of their
 * own, for themselves and for others, and delete the images below them, while processes die and stand still. In the end
 * there are the workstations and backups that the sessions say, and no others.
 */
import assert from 'node:assert/strict';
import { undisturbed } from '../../src/cli/undisturbed.ts';
import type { OperationName } from '../../src/contract/index.ts';
import type { StreamConfiguration } from '../../src/contract/launch-profile.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import type { StreamingSessionBackup } from '../../src/contract/streaming-session-backup.ts';
import type { StreamingSessionStream } from '../../src/contract/streaming-session-stream.ts';
import { commandLine } from '../../src/domain/audit.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { applyToStreamingImage } from '../../src/domain/streaming-image.ts';
import type { World } from '../support/domain.ts';
import type { Random } from '../support/random.ts';
import { putAmazonImage, putImage, putProfile } from '../support/rows.ts';
import type { Outcome } from './cluster.ts';
import type { Caller } from './people.ts';
import type { WatchedStore } from './watched-store.ts';

/** Every session that runs is stopped by then. */
export const SESSION_MINUTES = 30;

export interface SessionStudio {
  readonly studioId: string;
  readonly launchProfileId: string;
  /** What sessions can be made of; the first stays, the others may be deleted below their sessions. */
  readonly streamingImageIds: readonly string[];
  /** Whether its sessions can be stopped; nobody asks for what is refused whoever asks. */
  readonly stops: boolean;
  readonly sessionIds: string[];
  readonly streams: { readonly sessionId: string; readonly streamId: string }[];
}

/** A profile that keeps volumes for ever and two backups. */
export const LASTING = {
  sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 2 },
  sessionPersistenceMode: 'ACTIVATED',
} as const;
/** A profile whose sessions cannot be stopped, and are deleted by their time limit. */
export const PASSING = {} as const;

/** Images that a studio of sessions has of its own. */
const OWN_IMAGES = 4;

/** The bytes and the key of an image that is put there READY. @returns `id`. */
async function withCopy({ keys, images, clock }: World, id: string): Promise<string> {
  await keys.generate(id, undefined);
  const passphrase = (await keys.unseal(id)).toString();
  const stored = { format: 'qcow2', sizeBytes: 1, virtualSizeBytes: 1, sha256: '' } as const;
  images.copies.set(id, { passphrase, stored, modifiedAt: clock.now() });
  return id;
}

export async function provideImage(world: World, members?: Parameters<typeof putAmazonImage>[1]): Promise<string> {
  return withCopy(world, await putAmazonImage(world, members));
}

/** What `machine-image delete` does to an image that is provided. @returns whether it was there to be deleted. */
export function deleteProvidedImage({ store, services }: World, id: string): Promise<boolean> {
  return undisturbed(async () => {
    const row = await store.get(KIND.streamingImage, id);
    if (row?.state !== 'READY' && row?.state !== 'DELETE_FAILED') return false;
    const deleted = applyToStreamingImage(row, { type: 'delete' }, services);
    await store.write([{ op: 'update', row: deleted }, commandLine('machine-image delete', id, services)]);
    return true;
  });
}

/** A studio that nobody deletes, with a profile of images that are provided and of its own. */
export async function prepareSessions(
  world: World,
  providedIds: readonly string[],
  configuration: Partial<StreamConfiguration>,
): Promise<SessionStudio> {
  const studioId = await world.makeStudio();
  const streamingImageIds = [...providedIds];
  for (let own = 0; own < OWN_IMAGES; own += 1) {
    streamingImageIds.push(await withCopy(world, await putImage(world, studioId)));
  }
  const launchProfileId = await putProfile(world, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g4dn.xlarge', 'g5.xlarge'],
      maxSessionLengthInMinutes: SESSION_MINUTES,
      streamingImageIds,
      ...configuration,
    },
  });
  const stops = configuration === LASTING;
  return { studioId, launchProfileId, streamingImageIds, stops, sessionIds: [], streams: [] };
}

type Call = (name: OperationName, input: Record<string, unknown>) => Promise<Outcome>;

/** One thing that somebody does with sessions; users mostly with their own. */
export async function actOnSessions(
  { studioId, launchProfileId, streamingImageIds, stops, sessionIds, streams }: SessionStudio,
  call: Call,
  { role, principalId }: Caller,
  random: Random,
  { rows }: WatchedStore,
): Promise<void> {
  const own = role === 'user' && random.chance(0.8) ? { ownedBy: principalId } : {};
  const rowOf = (id: string) => rows.get(`${KIND.streamingSession}/${id}`);
  const ask = async <T>(name: OperationName, input: Record<string, unknown>): Promise<T | undefined> => {
    const outcome = await call(name, { studioId, ...input });
    return outcome !== 'lost' && 'answer' in outcome ? (outcome.answer as T) : undefined;
  };
  const there = sessionIds.filter((id) => (rowOf(id)?.state ?? 'DELETED') !== 'DELETED');
  if (there.length === 0 || random.chance(there.length === 1 ? 0.4 : 0.1)) {
    const ec2InstanceType = random.pick(['g4dn.xlarge', 'g5.xlarge']);
    const streamingImageId = random.pick(streamingImageIds);
    const chosen = { ec2InstanceType, ...(random.chance(0.8) && { streamingImageId }) };
    const input = { launchProfileId, ...chosen, ...(random.chance(0.5) && own) };
    const create = () => ask<{ session: StreamingSession }>('CreateStreamingSession', input);
    // Some click twice, and two processes then decide about the last one that there is room for.
    for (const made of await Promise.all(random.chance(0.6) ? [create(), create()] : [create()])) {
      if (made) sessionIds.push(made.session.sessionId!);
    }
    return;
  }
  const doing = random.below(100);
  /** Mostly one with which it works. */
  const wanted = doing >= 45 && doing < 65 ? 'STOPPED' : 'READY';
  const mine = there.filter((id) => own.ownedBy === undefined || rowOf(id)!.ownerId === own.ownedBy);
  const fitting = mine.filter((id) => rowOf(id)!.state === wanted);
  const sessionId = random.pick(fitting.length > 0 && random.chance(0.7) ? fitting : mine.length > 0 ? mine : there);
  if (doing < 15) {
    const { sessions = [] } = (await ask<{ sessions: StreamingSession[] }>('ListStreamingSessions', own)) ?? {};
    for (const { sessionId: listed } of sessions) if (!sessionIds.includes(listed!)) sessionIds.push(listed!);
  } else if (doing < 25 || (!stops && doing < 45)) {
    await ask('GetStreamingSession', { sessionId });
  } else if (doing < 45) {
    await ask('StopStreamingSession', { sessionId, ...(random.chance(0.3) && { volumeRetentionMode: 'DELETE' }) });
  } else if (doing < 65) {
    const list = await ask<{ streamingSessionBackups: StreamingSessionBackup[] }>('ListStreamingSessionBackups', own);
    const kept = (list?.streamingSessionBackups ?? []).filter((backup) => backup.sessionId === sessionId);
    const backupId = kept.length > 0 && random.chance(0.5) ? random.pick(kept).backupId : undefined;
    if (backupId) await ask('GetStreamingSessionBackup', { backupId });
    await ask('StartStreamingSession', { sessionId, ...(backupId && { backupId }) });
  } else if (doing < 80) {
    const made = await ask<{ stream: StreamingSessionStream }>('CreateStreamingSessionStream', { sessionId });
    if (made) streams.push({ sessionId, streamId: made.stream.streamId! });
  } else if (doing < 88 && streams.length > 0) {
    await ask('GetStreamingSessionStream', random.pick(streams.slice(-4)));
  } else if (doing >= 96) {
    // Mostly the one below a session, but for the first of all.
    const below = (JSON.parse(rowOf(sessionId)!.doc) as StreamingSession).streamingImageId!;
    const [first, ...others] = streamingImageIds;
    const streamingImageId = below !== first && random.chance(0.7) ? below : random.pick(others);
    await ask('DeleteStreamingImage', { streamingImageId });
  } else if (doing >= 88) {
    await ask('DeleteStreamingSession', { sessionId });
  }
}

/** Once all is at rest: what the sessions say is what there is. */
export async function assertSessionsTrue(world: World, { rows }: WatchedStore): Promise<void> {
  const sessions = new Map<string, { running: boolean; backups: string[] }>();
  for (const { kind, id, state } of rows.values()) {
    if (kind !== KIND.streamingSession) continue;
    if (state === 'DELETED' || state === 'CREATE_FAILED') continue;
    sessions.set(id, { running: state === 'READY', backups: [] });
    assert.ok(
      ['READY', 'STOPPED', 'START_FAILED', 'STOP_FAILED', 'DELETE_FAILED'].includes(state),
      `${id} is ${state}`,
    );
  }
  for (const { kind, id, parentId, state } of rows.values()) {
    if (kind === KIND.streamingSessionBackup && state === 'READY') sessions.get(parentId!)!.backups.push(id);
    if (kind === KIND.streamingSessionStream && state === 'READY') assert.ok(sessions.get(parentId!)!.running);
  }
  const workstations = new Map((await world.compute.list()).map((found) => [found.id, found]));
  for (const id of workstations.keys())
    assert.ok(sessions.has(id), `there is a workstation of ${id}, which needs none`);
  for (const [id, { running, backups }] of sessions) {
    const { state, doc } = rows.get(`${KIND.streamingSession}/${id}`)!;
    const { volumeRetentionMode, statusMessage = '' } = JSON.parse(doc) as StreamingSession;
    const found = workstations.get(id);
    // Whoever's workstation ended by itself has its volume for as long as nobody deletes the session.
    if (statusMessage.includes('ended by itself')) assert.ok(found?.hasVolume, `${id} has lost its volume`);
    if (state !== 'READY' && state !== 'STOPPED') continue;
    if (state === 'STOPPED') {
      assert.equal(found?.hasVolume, volumeRetentionMode === 'RETAIN', `the volume of ${id}`);
    }
    assert.equal(found?.running, running, `the workstation of ${id}, which is ${state}`);
    // What a backup that failed has left goes with its row.
    const stateOf = (backupId: string) => rows.get(`${KIND.streamingSessionBackup}/${backupId}`)?.state;
    const kept = found!.backupIds.filter((backupId) => stateOf(backupId) !== 'CREATE_FAILED');
    assert.deepEqual(kept.sort(), backups.sort(), `backups of ${id}`);
  }
}
