/**
 * What a launch profile may hold: which members of its stream configuration go together and what they are where they are
 * not given, how subnets are written, and which components and images it may name. Where the published documents say
 * that a member is only allowed beside another, anything else is refused.
 *
 * There is no VPC here. A subnet is a label that sessions pass on: only its form is checked, and there may be none.
 */
import type { LaunchProfile, StreamConfiguration } from '../contract/launch-profile.ts';
import { clipped, memberRefused, ServiceError } from '../errors.ts';
import type { Row, Store } from '../store/store.ts';
import type { DomainSettings } from './context.ts';
import { AMAZON, KIND } from './kinds.ts';
import type { Quota } from './quota.ts';
import { isUsableImage } from './streaming-image.ts';

/** What callers set, all of it or some. */
type Given = Pick<
  LaunchProfile,
  'ec2SubnetIds' | 'launchProfileProtocolVersions' | 'streamConfiguration' | 'studioComponentIds'
>;

/** @throws ServiceError ValidationException that names the member. */
export function requireFitting(given: Given): void {
  for (const [member, list] of Object.entries(listsOf(given))) requireDistinct(member, list ?? []);
  if (given.launchProfileProtocolVersions?.length === 0) {
    const rule = 'Member must have length greater than or equal to 1';
    throw memberRefused('launchProfileProtocolVersions', rule, 'NO_PROTOCOL_VERSION');
  }
  for (const [index, subnet] of (given.ec2SubnetIds ?? []).entries()) {
    if (SUBNET.test(subnet)) continue;
    const rule = `Member must satisfy regular expression pattern: ${SUBNET.source}`;
    throw memberRefused(`ec2SubnetIds/${index + 1}/member`, rule, 'MALFORMED_SUBNET_ID');
  }
  if (given.streamConfiguration) requireTogether(given.streamConfiguration);
}

const SUBNET = /^subnet-[0-9A-Za-z]{1,40}$/;

function listsOf(given: Given): Record<string, readonly string[] | undefined> {
  const { ec2InstanceTypes, sessionStorage, streamingImageIds } = given.streamConfiguration ?? {};
  return {
    ec2SubnetIds: given.ec2SubnetIds,
    launchProfileProtocolVersions: given.launchProfileProtocolVersions,
    'streamConfiguration/ec2InstanceTypes': ec2InstanceTypes,
    'streamConfiguration/sessionStorage/mode': sessionStorage?.mode,
    'streamConfiguration/streamingImageIds': streamingImageIds,
    studioComponentIds: given.studioComponentIds,
  };
}

function requireDistinct(member: string, list: readonly string[]): void {
  const repeated = list.findIndex((entry, index) => list.indexOf(entry) < index);
  if (repeated === -1) return;
  throw memberRefused(`${member}/${repeated + 1}/member`, 'Member must not repeat an earlier one', 'REPEATED_ENTRY');
}

// --- The stream configuration ---

const isPersistent = ({ sessionPersistenceMode }: StreamConfiguration) => sessionPersistenceMode === 'ACTIVATED';

const UNLESS_PERSISTENT = 'be absent unless sessionPersistenceMode is ACTIVATED';

/** What the published documents allow only beside something else. */
const TOGETHER: readonly {
  readonly member: keyof StreamConfiguration;
  readonly must: string;
  readonly isBroken: (given: StreamConfiguration) => boolean;
}[] = [
  {
    member: 'automaticTerminationMode',
    must: UNLESS_PERSISTENT,
    isBroken: (given) => given.automaticTerminationMode !== undefined && !isPersistent(given),
  },
  {
    member: 'volumeConfiguration',
    must: UNLESS_PERSISTENT,
    isBroken: (given) => given.volumeConfiguration !== undefined && !isPersistent(given),
  },
  {
    member: 'maxStoppedSessionLengthInMinutes',
    must: 'be 0 unless sessionPersistenceMode and automaticTerminationMode are ACTIVATED',
    // Clients from before there was persistence know no other way to let sessions be stopped: alone it is allowed.
    isBroken: (given) =>
      (given.maxStoppedSessionLengthInMinutes ?? 0) > 0 &&
      given.sessionPersistenceMode !== undefined &&
      given.automaticTerminationMode !== 'ACTIVATED',
  },
];

function requireTogether(given: StreamConfiguration): void {
  const broken = TOGETHER.find(({ isBroken }) => isBroken(given));
  if (!broken) return;
  const { member, must } = broken;
  throw memberRefused(`streamConfiguration/${member}`, `Member must ${must}`, 'STREAM_CONFIGURATION_DOES_NOT_FIT');
}

/**
 * As it is stored and shown: with the published defaults. Members that came late to the API are only shown where they
 * mean something, because older clients do not know them; `root` is always there, because one of them relies on it.
 */
export function withDefaults(given: StreamConfiguration): StreamConfiguration {
  const { sessionBackup, sessionStorage } = given;
  return {
    ...given,
    maxSessionLengthInMinutes: given.maxSessionLengthInMinutes ?? 690,
    maxStoppedSessionLengthInMinutes: given.maxStoppedSessionLengthInMinutes ?? 0,
    ...(isPersistent(given) && {
      automaticTerminationMode: given.automaticTerminationMode ?? 'DEACTIVATED',
      volumeConfiguration: { iops: 3_000, size: 500, throughput: 125, ...given.volumeConfiguration },
    }),
    ...(sessionBackup && { sessionBackup: { maxBackupsToRetain: 0, mode: 'DEACTIVATED', ...sessionBackup } }),
    ...(sessionStorage && {
      sessionStorage: {
        mode: sessionStorage.mode,
        root: { linux: '$HOME/Downloads', windows: '%HOMEPATH%\\Downloads', ...sessionStorage.root },
      },
    }),
  };
}

// --- What a profile names ---

/** States in which what a component describes is settled and works. */
const WORKING: readonly string[] = ['READY', 'UPDATE_FAILED', 'DELETE_FAILED'];

/**
 * @throws ServiceError ValidationException for one that is not there or another studio's; ConflictException for one that
 * is not READY.
 */
export async function requireComponents(
  store: Store,
  studioId: string,
  studioComponentIds: readonly string[],
): Promise<void> {
  const rows = await Promise.all(studioComponentIds.map((id) => store.get(KIND.studioComponent, id)));
  for (const [index, row] of rows.entries()) {
    const id = clipped(studioComponentIds[index]!);
    if (!row || row.studioId !== studioId || row.state === 'DELETED') {
      const rule = `Member must be the id of a component of this studio, which ${id} is not`;
      const member = `studioComponentIds/${index + 1}/member`;
      throw memberRefused(member, rule, 'STUDIO_COMPONENT_NOT_FOUND', { resourceId: id });
    }
    if (WORKING.includes(row.state)) continue;
    throw new ServiceError('ConflictException', `Studio component ${id} is ${row.state}, not READY`, {
      code: 'STUDIO_COMPONENT_NOT_READY',
      context: { resourceId: id, state: row.state },
    });
  }
}

/** Why a studio's profile cannot have this image: one of the studio's own, or provided for every studio. */
export function faultOfImage(
  row: Row | undefined,
  studioId: string,
): 'STREAMING_IMAGE_NOT_FOUND' | 'STREAMING_IMAGE_NOT_READY' | undefined {
  const visible = row && (row.studioId === studioId || row.studioId === AMAZON);
  if (!visible || row.state === 'DELETED') return 'STREAMING_IMAGE_NOT_FOUND';
  return isUsableImage(row) ? undefined : 'STREAMING_IMAGE_NOT_READY';
}

export function profileQuota(studioId: string, settings: DomainSettings): Quota {
  return {
    kind: KIND.launchProfile,
    studioId,
    limit: settings.launchProfilesMax,
    what: 'launch profiles',
    code: 'LAUNCH_PROFILES_PER_STUDIO',
  };
}
