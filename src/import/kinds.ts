/**
 * What can be imported, in the order in which it is: each kind with the outputs that hold it, its shape, and how a
 * document becomes a row. Ids are kept; what only this server can know (addresses, states of work) is made anew. A
 * document whose place is another account or region, or whose studio is not here, must never become a row.
 */
import { type Eula, eula } from '../contract/eula.ts';
import { type EulaAcceptance, eulaAcceptance } from '../contract/eula-acceptance.ts';
import { type LaunchProfile, launchProfile, type StreamConfiguration } from '../contract/launch-profile.ts';
import { launchProfileMembership } from '../contract/launch-profile-member.ts';
import { type StreamingImage, streamingImage } from '../contract/streaming-image.ts';
import { streamingSession } from '../contract/streaming-session.ts';
import { streamingSessionBackup } from '../contract/streaming-session-backup.ts';
import { type Studio, studio } from '../contract/studio.ts';
import { type StudioComponent, studioComponent } from '../contract/studio-component.ts';
import { studioMembership } from '../contract/studio-member.ts';
import { arnOf } from '../domain/arn.ts';
import type { Services } from '../domain/context.ts';
import { acceptanceName } from '../domain/eula-acceptance.ts';
import { AMAZON, KIND, newRow, PRESENT } from '../domain/kinds.ts';
import { componentsOf } from '../domain/launch-profile-contents.ts';
import { requireFitting as requireFittingProfile, withDefaults } from '../domain/launch-profile-limits.ts';
import { validated } from '../domain/launch-profile-validation.ts';
import { lifecycleOf } from '../domain/lifecycles.ts';
import { DEFAULT_SUBTYPE, findSeat, requireFitting } from '../domain/studio-component-limits.ts';
import { requireTags } from '../domain/tag-limits.ts';
import { clipped } from '../errors.ts';
import { SETTINGS } from '../settings.ts';
import type { ImportContext, Imported, ImportKind } from './import-kind.ts';
import { NotImported } from './outcome.ts';
import {
  identityStoreUser,
  isProfileMember,
  isStudioMember,
  launchProfileMemberId,
  launchProfileMemberRow,
  studioMemberId,
  studioMemberRow,
  userRow,
} from './principals.ts';

export const IMPORT_KINDS: readonly ImportKind[] = [
  {
    kind: KIND.studio,
    single: 'studio',
    list: 'studios',
    shape: studio,
    id: 'studioId',
    needs: ['studioName', 'displayName', 'adminRoleArn', 'userRoleArn'],
    toRow: studioRow,
  },
  {
    kind: KIND.eula,
    single: 'eula',
    list: 'eulas',
    shape: eula,
    id: 'eulaId',
    needs: ['name', 'content'],
    toRow: eulaRow,
  },
  {
    kind: KIND.studioComponent,
    single: 'studioComponent',
    list: 'studioComponents',
    shape: studioComponent,
    id: 'studioComponentId',
    needs: ['name', 'type'],
    toRow: componentRow,
  },
  {
    kind: KIND.streamingImage,
    single: 'streamingImage',
    list: 'streamingImages',
    shape: streamingImage,
    id: 'streamingImageId',
    needs: ['name', 'ec2ImageId'],
    toRow: imageRow,
  },
  {
    kind: KIND.eulaAcceptance,
    single: 'eulaAcceptance',
    list: 'eulaAcceptances',
    shape: eulaAcceptance,
    id: 'eulaAcceptanceId',
    needs: ['eulaId', 'accepteeId', 'acceptedAt', 'acceptedBy'],
    toRow: acceptanceRow,
  },
  {
    kind: KIND.launchProfile,
    single: 'launchProfile',
    list: 'launchProfiles',
    shape: launchProfile,
    id: 'launchProfileId',
    needs: ['name', 'launchProfileProtocolVersions', 'streamConfiguration', 'studioComponentIds'],
    toRow: profileRow,
  },
  {
    kind: KIND.user,
    single: 'User',
    list: 'Users',
    shape: identityStoreUser,
    id: 'UserId',
    needs: ['UserName'],
    toRow: userRow,
  },
  {
    kind: KIND.studioMember,
    single: 'member',
    list: 'members',
    isOne: isStudioMember,
    shape: studioMembership,
    id: 'principalId',
    rowId: studioMemberId,
    needs: ['persona'],
    toRow: studioMemberRow,
  },
  {
    kind: KIND.launchProfileMember,
    single: 'member',
    list: 'members',
    isOne: isProfileMember,
    shape: launchProfileMembership,
    id: 'principalId',
    rowId: launchProfileMemberId,
    needs: ['persona'],
    toRow: launchProfileMemberRow,
  },
  {
    kind: KIND.streamingSession,
    single: 'session',
    list: 'sessions',
    shape: streamingSession,
    id: 'sessionId',
    needs: [],
    toRow: stayedBehind,
  },
  {
    kind: KIND.streamingSessionBackup,
    single: 'streamingSessionBackup',
    list: 'streamingSessionBackups',
    shape: streamingSessionBackup,
    id: 'backupId',
    needs: [],
    toRow: stayedBehind,
  },
];

async function studioRow(document: Studio, { services }: ImportContext): Promise<Imported> {
  const { settings, clock, store, ids } = services;
  const { studioId, studioName } = document as Required<Studio>;
  if (!new RegExp(`^${settings.region}:[a-z0-9-]{1,64}$`).test(studioId))
    throw new NotImported('refused', `Its id does not begin with ${settings.region}: set ${SETTINGS.region.env}.`);
  requirePlace(document.arn, services);
  requireUsable(document.state);
  const [rival] = await store.list({ kind: KIND.studio, uniqueName: studioName, limit: 1 });
  if (rival) throw new NotImported('refused', `Studio ${rival.id} has its name already.`);
  const { keyArn } = document.studioEncryptionConfiguration ?? {};
  const doc: Studio = {
    ssoClientId: ids.uuid(),
    ...document,
    arn: arnOf(KIND.studio, studioId, settings),
    homeRegion: settings.region,
    ...statusOf(KIND.studio, document, 'STUDIO_CREATED'),
    // The vendor's key stays with the vendor.
    studioEncryptionConfiguration: { keyType: 'AWS_OWNED_KEY' },
    studioUrl: `${settings.publicUrl()}/${studioName}`,
    tags: requireTags(document.tags ?? {}),
  };
  const row = newRow({
    kind: KIND.studio,
    id: studioId,
    uniqueName: studioName,
    state: 'READY',
    createdAt: timeOf(document.createdAt) ?? clock.now(),
    doc: JSON.stringify(doc),
  });
  return keyArn === undefined
    ? { row }
    : { row, note: `Its images are not under ${keyArn}, but under the root key here.` };
}

async function eulaRow(document: Eula, { services }: ImportContext): Promise<Imported> {
  const createdAt = timeOf(document.createdAt) ?? services.clock.now();
  return { row: newRow({ kind: KIND.eula, id: document.eulaId!, createdAt, doc: JSON.stringify(document) }) };
}

async function componentRow(document: StudioComponent, context: ImportContext): Promise<Imported> {
  const { services } = context;
  const { settings, clock } = services;
  requirePlace(document.arn, services);
  requireUsable(document.state);
  requireFitting(document);
  const studioId = context.studioId();
  await context.require(KIND.studio, studioId);
  const seat = await findSeat(document.type!, studioId, null, services);
  if (!seat) throw new NotImported('refused', 'The studio has an Active Directory already, and may have one.');
  const shown = Object.entries(document).filter(([, value]) => !(Array.isArray(value) && value.length === 0));
  const doc: StudioComponent = {
    subtype: DEFAULT_SUBTYPE,
    ...Object.fromEntries(shown),
    arn: arnOf(KIND.studioComponent, document.studioComponentId!, settings),
    ...statusOf(KIND.studioComponent, document, 'STUDIO_COMPONENT_CREATED'),
    tags: requireTags(document.tags ?? {}),
  };
  const row = newRow({
    kind: KIND.studioComponent,
    id: document.studioComponentId!,
    studioId,
    state: 'READY',
    createdAt: timeOf(document.createdAt) ?? clock.now(),
    doc: JSON.stringify(doc),
    ...seat,
  });
  return { row };
}

/** Its disk stayed with the vendor. Where one is here under the same name, a worker makes the copy; else it waits. */
async function imageRow(document: StreamingImage, context: ImportContext): Promise<Imported> {
  const { services } = context;
  const { settings, clock, store } = services;
  const { ec2ImageId, platform = 'LINUX' } = document;
  const importDisk = `backlot machine-image import FILE --platform ${platform.toUpperCase()}`;
  if (document.owner?.toLowerCase() === AMAZON)
    throw new NotImported('left out', `It was provided by Amazon. To provide one: ${importDisk} --provided`);
  requirePlace(document.arn, services);
  requireUsable(document.state);
  const studioId = document.owner ?? context.studioId();
  await context.require(KIND.studio, studioId);
  const hasDisk = (await store.get(KIND.machineImage, ec2ImageId!))?.state === PRESENT;
  const needsDisk = `It has no disk yet. Give it one: ${importDisk} --as ${ec2ImageId}`;
  const state = hasDisk ? lifecycleOf(KIND.streamingImage).initial : 'CREATE_FAILED';
  const status = hasDisk
    ? { statusCode: 'STREAMING_IMAGE_CREATE_IN_PROGRESS', statusMessage: 'Streaming Image creation is in progress' }
    : { statusCode: 'ACCESS_DENIED', statusMessage: needsDisk };
  const { encryptionConfiguration: _, ...kept } = document;
  const doc = {
    ...kept,
    arn: arnOf(KIND.streamingImage, document.streamingImageId!, settings),
    eulaIds: document.eulaIds ?? [],
    owner: studioId,
    platform,
    state,
    ...status,
    tags: requireTags(document.tags ?? {}),
  };
  const row = newRow({
    kind: KIND.streamingImage,
    id: document.streamingImageId!,
    studioId,
    state,
    dueAt: hasDisk ? clock.now() : null,
    createdAt: clock.now(),
    doc: JSON.stringify(doc),
  });
  return { row, note: hasDisk ? 'Its copy is made by the server.' : needsDisk };
}

async function acceptanceRow(document: EulaAcceptance, context: ImportContext): Promise<Imported> {
  const { eulaAcceptanceId, eulaId, accepteeId, acceptedAt } = document as Required<EulaAcceptance>;
  await context.require(KIND.studio, accepteeId);
  await context.require(KIND.eula, eulaId);
  const row = newRow({
    kind: KIND.eulaAcceptance,
    id: eulaAcceptanceId,
    studioId: accepteeId,
    uniqueName: acceptanceName(accepteeId, eulaId),
    createdAt: timeOf(acceptedAt)!,
    doc: JSON.stringify(document),
  });
  return { row };
}

/** What it names may have been deleted, as of any profile, or was Amazon's: it comes along all the same. */
async function profileRow(document: LaunchProfile, context: ImportContext): Promise<Imported> {
  const { services } = context;
  const { settings, clock, store } = services;
  requirePlace(document.arn, services);
  requireUsable(document.state);
  const streamConfiguration = withoutMeaningless(document.streamConfiguration!);
  requireFittingProfile({ ...document, streamConfiguration });
  const studioId = context.studioId();
  await context.require(KIND.studio, studioId);
  const launchProfileId = document.launchProfileId!;
  const doc: LaunchProfile = {
    ec2SubnetIds: [],
    ...document,
    arn: arnOf(KIND.launchProfile, launchProfileId, settings),
    ...statusOf(KIND.launchProfile, document, 'LAUNCH_PROFILE_CREATED'),
    streamConfiguration: withDefaults(streamConfiguration),
    tags: requireTags(document.tags ?? {}),
  };
  const row = newRow({
    kind: KIND.launchProfile,
    id: launchProfileId,
    studioId,
    state: 'READY',
    createdAt: timeOf(document.createdAt) ?? clock.now(),
    doc: JSON.stringify(doc),
  });
  const validationResults = [...validated(await componentsOf(row, store))];
  const missing = await missingOf(document, studioId, context);
  return {
    row: { ...row, doc: JSON.stringify({ ...doc, validationResults }) },
    ...(missing.length > 0 && { note: `It names what is not here: ${missing.join(', ')}. Update it.` }),
  };
}

/** What says how a session's volume is kept says nothing where none is kept, and is refused there. */
function withoutMeaningless(given: StreamConfiguration): StreamConfiguration {
  if (given.sessionPersistenceMode === 'ACTIVATED') return given;
  const { automaticTerminationMode: _mode, volumeConfiguration: _volume, ...kept } = given;
  return kept;
}

/** Of the images and components that the profile names, those that are not here and do not come along. */
async function missingOf(
  { streamConfiguration, studioComponentIds }: LaunchProfile,
  studioId: string,
  { find }: ImportContext,
): Promise<string[]> {
  const named = [
    ...streamConfiguration!.streamingImageIds.map((id) => ({ kind: KIND.streamingImage, id })),
    ...studioComponentIds!.map((id) => ({ kind: KIND.studioComponent, id })),
  ];
  const missing: string[] = [];
  for (const { kind, id } of named) {
    const row = await find(kind, id);
    const isHere = row && row.state !== 'DELETED' && [studioId, AMAZON].includes(row.studioId);
    if (!isHere) missing.push(`${kind} ${clipped(id)}`);
  }
  return missing;
}

/** Sessions and their backups are disks and machines, which no export holds. @throws NotImported */
async function stayedBehind(): Promise<never> {
  throw new NotImported('left out', 'Its workstation and its disk stayed with the vendor.');
}

/** ARNs hold account and region, and scripts and policies hold ARNs: they must come out the same. @throws NotImported */
function requirePlace(arn: string | undefined, { settings }: Services): void {
  const [, region, accountId] = /^arn:[^:]+:nimble:([^:]+):([^:]+):/.exec(arn ?? '') ?? [];
  if (region === undefined || (region === settings.region && accountId === settings.accountId)) return;
  throw new NotImported(
    'refused',
    `It is of region ${region} and account ${accountId}: import it into a new data directory, with ` +
      `${SETTINGS.region.env}=${region} and ${SETTINGS.accountId.env}=${accountId}.`,
  );
}

/** What was in use comes along, whatever became of the last attempt to change it. @throws NotImported */
function requireUsable(state: string | undefined): void {
  if (state === undefined || /^(READY|UPDATE_IN_PROGRESS|UPDATE_FAILED|DELETE_FAILED)$/.test(state)) return;
  throw new NotImported('left out', `It was ${state}.`);
}

/** READY, with the status that it had where that belongs to READY. */
function statusOf(
  kind: string,
  { statusCode, statusMessage }: { readonly statusCode?: string; readonly statusMessage?: string },
  otherwise: string,
): object {
  const isKept = statusCode !== undefined && lifecycleOf(kind).states.READY!.statusCodes.includes(statusCode);
  return {
    state: 'READY',
    statusCode: isKept ? statusCode : otherwise,
    statusMessage: isKept && statusMessage !== undefined ? statusMessage : 'Imported',
  };
}

function timeOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Date.parse(text);
}
