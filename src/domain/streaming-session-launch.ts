/**
 * What must hold before a session may run: its launch profile can be used, by whom it is for; image and instance type are
 * of that profile; the image can be used and its EULAs are accepted; and the quotas leave room. Each check refuses by
 * itself, and gives the guards that make it hold until the write.
 */
import type { LaunchProfile, StreamConfiguration } from '../contract/launch-profile.ts';
import type { StreamingImage } from '../contract/streaming-image.ts';
import { resourceNotFound, ServiceError, validationFailed } from '../errors.ts';
import type { Row, Store, Write } from '../store/store.ts';
import type { DomainSettings, Principal } from './context.ts';
import { acceptanceOf } from './eula-acceptance.ts';
import { AMAZON, KIND } from './kinds.ts';
import { mayUseProfile } from './launch-profile-access.ts';
import { type Quota, quotaExceeded } from './quota.ts';
import { isUsableImage } from './streaming-image.ts';

/** Role of who has signed in to the portal: an artist. Everyone else is let through or refused by policies alone. */
const PORTAL_USER = 'user';

export const stays = ({ kind, id, state }: Row): Write => ({ op: 'require', kind, id, state });

/** @throws ServiceError ResourceNotFoundException; ConflictException while the profile cannot be used. */
export async function requireReadyProfile(store: Store, studioId: string, launchProfileId: string): Promise<Row> {
  const row = await store.get(KIND.launchProfile, launchProfileId);
  if (row?.studioId !== studioId || row.state === 'DELETED') throw resourceNotFound('Launch profile', launchProfileId);
  if (row.state !== 'READY') throw notReady('Launch profile', 'LAUNCH_PROFILE_NOT_READY', row);
  return row;
}

export function configurationOf(profile: Row): StreamConfiguration {
  return (JSON.parse(profile.doc) as LaunchProfile).streamConfiguration!;
}

/**
 * A portal user starts and sees sessions of profiles that they are a member of, and for none but its members.
 * @throws ServiceError AccessDeniedException
 */
export async function requireMembers(
  store: Store,
  launchProfileId: string,
  principal: Principal,
  ownedBy: string,
): Promise<void> {
  if (principal.role !== PORTAL_USER) return;
  for (const principalId of new Set([principal.principalId, ownedBy])) {
    if (await mayUseProfile(store, launchProfileId, principalId)) continue;
    throw new ServiceError('AccessDeniedException', `${principalId} is not a member of the launch profile`, {
      code: 'NOT_A_MEMBER',
      context: { resourceId: launchProfileId, principalId },
    });
  }
}

/** The one that is asked for, else the profile's first. @throws ServiceError ValidationException */
export function requireListed<T extends string>(member: string, listed: readonly T[], asked: string | undefined): T {
  if (asked === undefined) return listed[0]!;
  const found = listed.find((one) => one === asked);
  if (found !== undefined) return found;
  throw validationFailed(
    `1 validation error detected. Value at '/${member}' failed to satisfy constraint: ` +
      `Member must be one of the launch profile: [${listed.join(', ')}]`,
    'NOT_IN_LAUNCH_PROFILE',
  );
}

/** @throws ServiceError ResourceNotFoundException, ConflictException */
export async function requireUsableImage(store: Store, studioId: string, streamingImageId: string): Promise<Row> {
  const row = await store.get(KIND.streamingImage, streamingImageId);
  const visible = row && (row.studioId === studioId || row.studioId === AMAZON);
  if (!visible || row.state === 'DELETED') throw resourceNotFound('Streaming image', streamingImageId);
  if (!isUsableImage(row)) throw notReady('Streaming image', 'STREAMING_IMAGE_NOT_READY', row);
  return row;
}

/** @throws ServiceError ValidationException that names the EULAs which the studio has not accepted. */
export async function requireAcceptedEulas(store: Store, studioId: string, image: Row): Promise<void> {
  const { eulaIds = [] } = JSON.parse(image.doc) as StreamingImage;
  const missing: string[] = [];
  for (const eulaId of eulaIds) if (!(await acceptanceOf(store, studioId, eulaId))) missing.push(eulaId);
  if (missing.length === 0) return;
  throw validationFailed(
    `The studio must first accept the EULAs of the streaming image, with AcceptEulas: ${missing.join(', ')}`,
    'EULA_NOT_ACCEPTED',
    { eulaIds: missing.join(','), resourceId: image.id },
  );
}

export function sessionQuota(studioId: string, { streamingSessionsMax }: DomainSettings): Quota {
  return {
    kind: KIND.streamingSession,
    studioId,
    limit: streamingSessionsMax,
    what: 'streaming sessions',
    code: 'STREAMING_SESSIONS_PER_STUDIO',
  };
}

/** Of one owner, where the installation has such a quota. */
export function ownerQuota(
  studioId: string,
  ownerId: string,
  { sessionsPerOwnerMax }: DomainSettings,
): Quota | undefined {
  if (sessionsPerOwnerMax === undefined) return undefined;
  return {
    kind: KIND.streamingSession,
    studioId,
    ownerId,
    limit: sessionsPerOwnerMax,
    what: 'streaming sessions',
    code: 'STREAMING_SESSIONS_PER_OWNER',
  };
}

/** Sessions that one studio may have at the most: no quota can be set higher. */
const SESSIONS_MAX = 10_000;

/**
 * What a session of the g5 types holds until it is deleted: a numbered unique name, so that no two can take the last one.
 * @throws ServiceError ServiceQuotaExceededException
 */
export async function findSeat(
  store: Store,
  studioId: string,
  instanceType: string,
  { g5SessionsMax }: DomainSettings,
): Promise<string | null> {
  if (!instanceType.startsWith('g5.')) return null;
  const query = { kind: KIND.streamingSession, studioIds: [studioId], stateNot: 'DELETED', limit: SESSIONS_MAX };
  const taken = new Set<string>();
  for (const { uniqueName } of await store.list(query)) if (uniqueName !== null) taken.add(uniqueName);
  if (taken.size >= g5SessionsMax) {
    const code = 'G5_SESSIONS_PER_STUDIO';
    throw quotaExceeded({ studioId, limit: g5SessionsMax, what: 'streaming sessions of the g5 types', code });
  }
  let seat = 0;
  while (taken.has(`${studioId}/g5/${seat}`)) seat += 1;
  return `${studioId}/g5/${seat}`;
}

function notReady(noun: string, code: string, { id, state }: Row): ServiceError {
  return new ServiceError('ConflictException', `${noun} ${id} is ${state}, not READY`, {
    code,
    context: { resourceId: id, state },
  });
}
