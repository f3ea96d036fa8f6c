/** Rows put straight into the store, in any state: what a test needs to find there without going the whole way. */
import type { Clock } from '../../src/clock.ts';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { StreamingSession } from '../../src/contract/streaming-session.ts';
import type { StreamingSessionBackup } from '../../src/contract/streaming-session-backup.ts';
import type { StreamingSessionStream } from '../../src/contract/streaming-session-stream.ts';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { newEula } from '../../src/domain/eula.ts';
import { addToGroup, newGroup } from '../../src/domain/group.ts';
import { AMAZON, KIND, newRow } from '../../src/domain/kinds.ts';
import { validated } from '../../src/domain/launch-profile-validation.ts';
import { lifecycleOf } from '../../src/domain/lifecycles.ts';
import { membershipId } from '../../src/domain/membership.ts';
import type { StreamingSessionPrivate } from '../../src/domain/streaming-session-lifecycle.ts';
import type { StreamingSessionStreamPrivate } from '../../src/domain/streaming-session-stream.ts';
import { IDENTITY_STORE, newUser } from '../../src/domain/user.ts';
import type { Ids } from '../../src/ids.ts';
import type { Row } from '../../src/store/store.ts';
import { ADMINISTRATOR, SETTINGS, type World } from './domain.ts';

const arnPrefix = `arn:aws:nimble:${SETTINGS.region}:${SETTINGS.accountId}`;

export const arnOfImage = (id: string) => `${arnPrefix}:streaming-image/${id}`;
export const arnOfProfile = (id: string) => `${arnPrefix}:launch-profile/${id}`;
export const arnOfComponent = (id: string) => `${arnPrefix}:studio-component/${id}`;
export const arnOfSession = (id: string) => `${arnPrefix}:streaming-session/${id}`;
export const arnOfBackup = (id: string) => `${arnPrefix}:streaming-session-backup/${id}`;
/** The form that answers hold: without the region that the id begins with. */
export const arnOfStudio = (id: string) => `${arnPrefix}:studio/${id.replace(/^.*:/, '')}`;

/** Where rows are put: a world, or the parts of a running service. */
export type Place = Pick<World, 'store'> & { readonly clock: Clock; readonly services: { readonly ids: Ids } };

async function insert(world: Pick<World, 'store'>, row: Row): Promise<Row> {
  await world.store.write([{ op: 'insert', row }]);
  return row;
}

/** @returns `id`. */
async function putDocument(
  { clock, store }: Pick<Place, 'clock' | 'store'>,
  kind: string,
  id: string,
  doc: { readonly state?: string },
  more: Partial<Row>,
): Promise<string> {
  const row = newRow({ kind, id, state: doc.state!, createdAt: clock.now(), doc: JSON.stringify(doc), ...more });
  return (await insert({ store }, row)).id;
}

/** The first status that belongs to the state. */
function statusOf<Doc extends { readonly statusCode?: string }>(kind: string, state: string) {
  const statusCode = lifecycleOf(kind).states[state]!.statusCodes[0] as NonNullable<Doc['statusCode']>;
  return { statusCode, statusMessage: `put there ${state}` };
}

/** An image in any state, with the status that belongs to it. */
export async function putImage(
  world: World,
  studioId: string,
  { state = 'READY', ...members }: Partial<StreamingImage> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const streamingImageId = world.services.ids.short();
  const doc: StreamingImage = {
    arn: arnOfImage(streamingImageId),
    ec2ImageId: 'ami-0123456789abcdef0',
    eulaIds: [],
    name: 'image',
    owner: studioId,
    platform: 'LINUX',
    state,
    ...statusOf<StreamingImage>(KIND.streamingImage, state),
    streamingImageId,
    tags: {},
    ...members,
  };
  return putDocument(world, KIND.streamingImage, streamingImageId, doc, { studioId, ...more });
}

/** A component in any state, with the status that belongs to it. */
export async function putComponent(
  world: World,
  studioId: string,
  { state = 'READY', ...members }: Partial<StudioComponent> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const studioComponentId = world.services.ids.short();
  const doc: StudioComponent = {
    arn: arnOfComponent(studioComponentId),
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: ADMINISTRATOR.principalId,
    name: 'component',
    state,
    ...statusOf<StudioComponent>(KIND.studioComponent, state),
    studioComponentId,
    subtype: 'CUSTOM',
    tags: {},
    type: 'CUSTOM',
    updatedAt: '2026-01-01T00:00:00Z',
    updatedBy: ADMINISTRATOR.principalId,
    ...members,
  };
  return putDocument(world, KIND.studioComponent, studioComponentId, doc, { studioId, ...more });
}

/** A launch profile in any state, with the status that belongs to it. What it names need not exist. */
export async function putProfile(
  world: Place,
  studioId: string,
  { state = 'READY', streamConfiguration, ...members }: Partial<LaunchProfile> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const launchProfileId = world.services.ids.short();
  const doc: LaunchProfile = {
    arn: arnOfProfile(launchProfileId),
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: ADMINISTRATOR.principalId,
    ec2SubnetIds: [],
    launchProfileId,
    launchProfileProtocolVersions: ['2021-03-31'],
    name: 'profile',
    state,
    ...statusOf<LaunchProfile>(KIND.launchProfile, state),
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g4dn.xlarge', 'g5.xlarge', 'g5.2xlarge'],
      maxSessionLengthInMinutes: 690,
      maxStoppedSessionLengthInMinutes: 0,
      streamingImageIds: ['AAAAAAAAAAAAAAAAAAAAAA'],
      ...streamConfiguration,
    },
    studioComponentIds: ['AAAAAAAAAAAAAAAAAAAAAA'],
    tags: {},
    updatedAt: '2026-01-01T00:00:00Z',
    updatedBy: ADMINISTRATOR.principalId,
    validationResults: [...validated([])],
    ...members,
  };
  return putDocument(world, KIND.launchProfile, launchProfileId, doc, { studioId, ...more });
}

export type NewProfile = Required<
  Pick<
    LaunchProfile,
    'ec2SubnetIds' | 'launchProfileProtocolVersions' | 'name' | 'streamConfiguration' | 'studioComponentIds'
  >
>;

/** What CreateLaunchProfile needs: an image and a component that are put there, READY. */
export async function newProfileInput(world: World, studioId: string): Promise<NewProfile> {
  return {
    ec2SubnetIds: ['subnet-0a1b2c3d'],
    launchProfileProtocolVersions: ['2021-03-31'],
    name: 'Lighting',
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g5.xlarge'],
      streamingImageIds: [await putImage(world, studioId)],
    },
    studioComponentIds: [await putComponent(world, studioId)],
  };
}

/** The identity store that the users put there are in. */
export const IDENTITY_STORE_ID = 'd-92677b4b19';

/** A user, enabled unless the row is said to be otherwise. */
export async function putUser(world: World, userName: string, more: Partial<Row> = {}): Promise<string> {
  await putIdentityStore(world);
  return (await insert(world, { ...newUser({ userName }, IDENTITY_STORE_ID, world.services), ...more })).id;
}

/** A group of these users. */
export async function putGroup(world: World, groupName: string, userIds: readonly string[] = []): Promise<string> {
  await putIdentityStore(world);
  const group = await insert(world, newGroup(groupName, IDENTITY_STORE_ID, world.services));
  for (const id of userIds) {
    const user = (await world.store.get(KIND.user, id))!;
    await world.store.write(await addToGroup(group, user, world.services));
  }
  return group.id;
}

async function putIdentityStore(world: World): Promise<void> {
  if (await world.store.get(KIND.installation, IDENTITY_STORE)) return;
  const doc = JSON.stringify({ identityStoreId: IDENTITY_STORE_ID });
  await insert(world, newRow({ kind: KIND.installation, id: IDENTITY_STORE, createdAt: world.clock.now(), doc }));
}

/** A member of a launch profile, or where that is left out, an administrator of the studio. */
export async function putMember(
  world: World,
  studioId: string,
  principalId: string,
  launchProfileId?: string,
): Promise<void> {
  const parentId = launchProfileId ?? studioId;
  const persona = launchProfileId === undefined ? 'ADMINISTRATOR' : 'USER';
  const row = newRow({
    kind: launchProfileId === undefined ? KIND.studioMember : KIND.launchProfileMember,
    id: membershipId(parentId, principalId),
    studioId,
    parentId,
    ownerId: principalId,
    createdAt: world.clock.now(),
    doc: JSON.stringify({ identityStoreId: IDENTITY_STORE_ID, persona, principalId }),
  });
  await insert(world, row);
}

/** An image provided for every studio: READY, and without a status, as the vendor's were. */
export async function putAmazonImage(world: World, members: Partial<StreamingImage> = {}, more: Partial<Row> = {}) {
  const id = await putImage(world, AMAZON, { eulaIds: ['gJZLygd-Srq_5NNbSfiaLg'], ...members }, more);
  const row = (await world.store.get(KIND.streamingImage, id))!;
  const { statusCode: _code, statusMessage: _message, ...rest } = JSON.parse(row.doc) as StreamingImage;
  await world.store.write([{ op: 'update', row: { ...row, version: row.version + 1, doc: JSON.stringify(rest) } }]);
  return id;
}

/** Moves a row to a state as it is, with the status that belongs to it. It stays at rest. */
export async function putState(world: World, kind: string, id: string, state: string): Promise<Row> {
  const row = (await world.store.get(kind, id))!;
  const statusCode = lifecycleOf(kind).states[state]!.statusCodes[0];
  const doc = JSON.stringify({ ...JSON.parse(row.doc), state, statusCode });
  const next = { ...row, state, doc, dueAt: null, version: row.version + 1 };
  await world.store.write([{ op: 'update', row: next }]);
  return next;
}

/** A studio that was made when the server had another address. */
export async function putElsewhere(
  world: World,
  studioId: string,
  studioUrl = 'http://old.example/studio',
): Promise<Row> {
  const row = (await world.store.get(KIND.studio, studioId))!;
  const doc = JSON.stringify({ ...JSON.parse(row.doc), studioUrl });
  const next = { ...row, doc, version: row.version + 1 };
  await world.store.write([{ op: 'update', row: next }]);
  return next;
}

export async function putEula(world: World, name = 'licence'): Promise<string> {
  return (await insert(world, newEula({ name, content: 'https://example.org/licence' }, world.services))).id;
}

/** An acceptance of a EULA that need not exist. */
export async function putAcceptance(world: World, studioId: string, eulaId: string): Promise<string> {
  const eulaAcceptanceId = world.services.ids.short();
  const doc = {
    acceptedAt: '2026-01-01T00:00:00Z',
    acceptedBy: ADMINISTRATOR.principalId,
    accepteeId: studioId,
    eulaAcceptanceId,
    eulaId,
  };
  const row = newRow({
    kind: KIND.eulaAcceptance,
    id: eulaAcceptanceId,
    studioId,
    uniqueName: `${studioId}/${eulaId}`,
    createdAt: world.clock.now(),
    doc: JSON.stringify(doc),
  });
  return (await insert(world, row)).id;
}

/** A session in any state, at rest; it has no workstation. It may run for 690 minutes, and stay stopped for an hour. */
export async function putSession(
  world: Place,
  studioId: string,
  { state = 'READY', ...members }: Partial<StreamingSession> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const sessionId = world.services.ids.short();
  const doc: StreamingSession = {
    arn: arnOfSession(sessionId),
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: ADMINISTRATOR.principalId,
    ec2InstanceType: 'g4dn.xlarge',
    launchProfileId: 'absent',
    ownedBy: ADMINISTRATOR.principalId,
    sessionId,
    state,
    ...statusOf<StreamingSession>(KIND.streamingSession, state),
    streamingImageId: 'absent',
    tags: {},
    updatedAt: '2026-01-01T00:00:00Z',
    updatedBy: ADMINISTRATOR.principalId,
    ...members,
  };
  const secret: StreamingSessionPrivate = { limits: { readyMinutes: 690, stoppedMinutes: 60 } };
  return putDocument(world, KIND.streamingSession, sessionId, doc, {
    studioId,
    parentId: doc.launchProfileId!,
    ownerId: doc.ownedBy!,
    private: JSON.stringify(secret),
    ...more,
  });
}

/** A backup in any state, at rest; nothing is backed up. */
export async function putBackup(
  world: Place,
  studioId: string,
  sessionId: string,
  { state = 'READY', ...members }: Partial<StreamingSessionBackup> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const backupId = world.services.ids.short();
  const doc: StreamingSessionBackup = {
    arn: arnOfBackup(backupId),
    backupId,
    createdAt: '2026-01-01T00:00:00Z',
    launchProfileId: 'absent',
    ownedBy: ADMINISTRATOR.principalId,
    sessionId,
    state,
    ...statusOf<StreamingSessionBackup>(KIND.streamingSessionBackup, state),
    tags: {},
    ...members,
  };
  return putDocument(world, KIND.streamingSessionBackup, backupId, doc, {
    studioId,
    parentId: sessionId,
    ownerId: doc.ownedBy!,
    ...more,
  });
}

/** A stream in any state, at rest, without an address. */
export async function putStream(
  world: Place,
  studioId: string,
  sessionId: string,
  { state = 'READY', ...members }: Partial<StreamingSessionStream> = {},
  more: Partial<Row> = {},
): Promise<string> {
  const streamId = world.services.ids.short();
  const doc: StreamingSessionStream = {
    createdAt: '2026-01-01T00:00:00Z',
    createdBy: ADMINISTRATOR.principalId,
    expiresAt: '2026-01-01T00:02:00Z',
    ownedBy: ADMINISTRATOR.principalId,
    state,
    statusCode: statusOf<StreamingSessionStream>(KIND.streamingSessionStream, state).statusCode,
    streamId,
    ...members,
  };
  const secret: StreamingSessionStreamPrivate = { expiresAt: world.clock.now() + 120_000 };
  return putDocument(world, KIND.streamingSessionStream, streamId, doc, {
    studioId,
    parentId: sessionId,
    ownerId: doc.ownedBy!,
    private: JSON.stringify(secret),
    ...more,
  });
}
