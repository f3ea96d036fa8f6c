/**
 * Launch profiles: which images, instance types and components an artist may start a session with, and for how long it
 * may run. Data only.
 */
import { label, maxResults, nextToken, PAGE_LENGTH, roleArn, shortId, tags } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, integer, list, optional, required, type Static, string, structure, timestamp } from './shape.ts';
import { streamingImage } from './streaming-image.ts';
import {
  computerAttributes,
  initializationScript,
  studioComponentDescription,
  studioComponentName,
  studioComponentSubtype,
  studioComponentType,
} from './studio-component.ts';

const name = string({ min: 1, max: 64, sensitive: true });
const description = string({ min: 0, max: 256, sensitive: true });

/** The only version that there ever was is 2021-03-31. */
const protocolVersion = string({ min: 0, max: 10, pattern: /^2021-03-31$/ });
const protocolVersions = list(protocolVersion);

export const launchProfileState = enumeration([
  'CREATE_IN_PROGRESS',
  'READY',
  'UPDATE_IN_PROGRESS',
  'DELETE_IN_PROGRESS',
  'DELETED',
  'DELETE_FAILED',
  'CREATE_FAILED',
  'UPDATE_FAILED',
]);

export const launchProfileStatusCode = enumeration([
  'LAUNCH_PROFILE_CREATED',
  'LAUNCH_PROFILE_UPDATED',
  'LAUNCH_PROFILE_DELETED',
  'LAUNCH_PROFILE_CREATE_IN_PROGRESS',
  'LAUNCH_PROFILE_UPDATE_IN_PROGRESS',
  'LAUNCH_PROFILE_DELETE_IN_PROGRESS',
  'INTERNAL_ERROR',
  'STREAMING_IMAGE_NOT_FOUND',
  'STREAMING_IMAGE_NOT_READY',
  'LAUNCH_PROFILE_WITH_STREAM_SESSIONS_NOT_DELETED',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'ENCRYPTION_KEY_NOT_FOUND',
  'INVALID_SUBNETS_PROVIDED',
  'INVALID_INSTANCE_TYPES_PROVIDED',
  'INVALID_SUBNETS_COMBINATION',
]);

// --- How sessions run ---

export const streamingInstanceType = enumeration([
  'g4dn.xlarge',
  'g4dn.2xlarge',
  'g4dn.4xlarge',
  'g4dn.8xlarge',
  'g4dn.12xlarge',
  'g4dn.16xlarge',
  'g3.4xlarge',
  'g3s.xlarge',
  'g5.xlarge',
  'g5.2xlarge',
  'g5.4xlarge',
  'g5.8xlarge',
  'g5.16xlarge',
]);

export const automaticTerminationMode = enumeration(['DEACTIVATED', 'ACTIVATED']);
export const sessionPersistenceMode = enumeration(['DEACTIVATED', 'ACTIVATED']);
export const sessionBackupMode = enumeration(['AUTOMATIC', 'DEACTIVATED']);
export const maxBackupsToRetain = integer({ min: 0, max: 10 });

/** Of the volume that a session keeps between its runs. */
export const volumeConfiguration = structure('VolumeConfiguration', {
  iops: optional(integer({ min: 3_000, max: 16_000 })),
  /** GiB. */
  size: optional(integer({ min: 100, max: 16_000 })),
  /** MiB a second. */
  throughput: optional(integer({ min: 125, max: 1_000 })),
});

const sessionStorage = structure('StreamConfigurationSessionStorage', {
  mode: required(list(enumeration(['UPLOAD']), { min: 1 })),
  root: optional(
    structure('StreamingSessionStorageRoot', {
      linux: optional(
        string({
          min: 1,
          max: 128,
          pattern: /^(\$HOME|\/)[/]?([A-Za-z0-9-_]+\/)*([A-Za-z0-9_-]+)$/,
          sensitive: true,
        }),
      ),
      windows: optional(
        string({
          min: 1,
          max: 128,
          pattern: /^((%HOMEPATH%)|[a-zA-Z]:)[\\/](?:[a-zA-Z0-9_-]+[\\/])*[a-zA-Z0-9_-]+$/,
          sensitive: true,
        }),
      ),
    }),
  ),
});

/** The members are the same for what is given and what is shown; the published model has two shapes of them. */
export const streamConfiguration = structure('StreamConfiguration', {
  automaticTerminationMode: optional(automaticTerminationMode),
  clipboardMode: required(enumeration(['ENABLED', 'DISABLED'])),
  ec2InstanceTypes: required(list(streamingInstanceType, { min: 1, max: 30 })),
  maxSessionLengthInMinutes: optional(integer({ min: 1, max: 43_200 })),
  maxStoppedSessionLengthInMinutes: optional(integer({ min: 0, max: 5_760 })),
  sessionBackup: optional(
    structure('StreamConfigurationSessionBackup', {
      maxBackupsToRetain: optional(maxBackupsToRetain),
      mode: optional(sessionBackupMode),
    }),
  ),
  sessionPersistenceMode: optional(sessionPersistenceMode),
  sessionStorage: optional(sessionStorage),
  streamingImageIds: required(list(shortId, { min: 1, max: 20 })),
  volumeConfiguration: optional(volumeConfiguration),
});

export type StreamConfiguration = Static<typeof streamConfiguration>;

// --- The profile ---

export const validationType = enumeration([
  'VALIDATE_ACTIVE_DIRECTORY_STUDIO_COMPONENT',
  'VALIDATE_SUBNET_ASSOCIATION',
  'VALIDATE_NETWORK_ACL_ASSOCIATION',
  'VALIDATE_SECURITY_GROUP_ASSOCIATION',
]);

const validationResult = structure('ValidationResult', {
  state: required(
    enumeration([
      'VALIDATION_NOT_STARTED',
      'VALIDATION_IN_PROGRESS',
      'VALIDATION_SUCCESS',
      'VALIDATION_FAILED',
      'VALIDATION_FAILED_INTERNAL_SERVER_ERROR',
    ]),
  ),
  statusCode: required(
    enumeration([
      'VALIDATION_NOT_STARTED',
      'VALIDATION_IN_PROGRESS',
      'VALIDATION_SUCCESS',
      'VALIDATION_FAILED_INVALID_SUBNET_ROUTE_TABLE_ASSOCIATION',
      'VALIDATION_FAILED_SUBNET_NOT_FOUND',
      'VALIDATION_FAILED_INVALID_SECURITY_GROUP_ASSOCIATION',
      'VALIDATION_FAILED_INVALID_ACTIVE_DIRECTORY',
      'VALIDATION_FAILED_UNAUTHORIZED',
      'VALIDATION_FAILED_INTERNAL_SERVER_ERROR',
    ]),
  ),
  statusMessage: required(string()),
  type: required(validationType),
});

export type ValidationResult = Static<typeof validationResult>;

const ec2SubnetIds = list(string(), { min: 0, max: 6 });
const studioComponentIds = list(string(), { min: 1, max: 100 });

export const launchProfile = structure('LaunchProfile', {
  arn: optional(string()),
  createdAt: optional(timestamp()),
  createdBy: optional(string()),
  description: optional(description),
  ec2SubnetIds: optional(ec2SubnetIds),
  launchProfileId: optional(shortId),
  launchProfileProtocolVersions: optional(protocolVersions),
  name: optional(name),
  state: optional(launchProfileState),
  statusCode: optional(launchProfileStatusCode),
  statusMessage: optional(string()),
  streamConfiguration: optional(streamConfiguration),
  studioComponentIds: optional(studioComponentIds),
  tags: optional(tags),
  updatedAt: optional(timestamp()),
  updatedBy: optional(string()),
  validationResults: optional(list(validationResult)),
});

export type LaunchProfile = Static<typeof launchProfile>;

// --- The profile with what it names ---

const studioComponentSummary = structure('StudioComponentSummary', {
  createdAt: optional(timestamp()),
  createdBy: optional(string()),
  description: optional(studioComponentDescription),
  name: optional(studioComponentName),
  studioComponentId: optional(shortId),
  subtype: optional(studioComponentSubtype),
  type: optional(studioComponentType),
  updatedAt: optional(timestamp()),
  updatedBy: optional(string()),
});

export type StudioComponentSummary = Static<typeof studioComponentSummary>;

const platform = enumeration(['LINUX', 'WINDOWS']);
const launchPurpose = string({ min: 0, max: 64, pattern: /^[A-Z0-9_]+$/ });

const initializationScripts = list(
  structure('LaunchProfileInitializationScript', {
    runtimeRoleArn: optional(roleArn),
    script: optional(initializationScript),
    secureInitializationRoleArn: optional(roleArn),
    studioComponentId: optional(shortId),
    studioComponentName: optional(studioComponentName),
  }),
);

export const launchProfileInitialization = structure('LaunchProfileInitialization', {
  activeDirectory: optional(
    structure('LaunchProfileInitializationActiveDirectory', {
      computerAttributes: optional(computerAttributes),
      directoryId: optional(string()),
      directoryName: optional(string()),
      dnsIpAddresses: optional(list(string(), { min: 0, max: 10 })),
      organizationalUnitDistinguishedName: optional(string({ min: 1, max: 2000 })),
      studioComponentId: optional(shortId),
      studioComponentName: optional(studioComponentName),
    }),
  ),
  ec2SecurityGroupIds: optional(list(string(), { min: 1 })),
  launchProfileId: optional(shortId),
  launchProfileProtocolVersion: optional(protocolVersion),
  launchPurpose: optional(launchPurpose),
  name: optional(name),
  platform: optional(platform),
  systemInitializationScripts: optional(initializationScripts),
  userInitializationScripts: optional(initializationScripts),
});

export type LaunchProfileInitialization = Static<typeof launchProfileInitialization>;

// --- The operations ---

const labels = { studioId: label, launchProfileId: label };
const output = (operationName: string) =>
  structure(`${operationName}Response`, { launchProfile: optional(launchProfile) });

export const launchProfileOperations = [
  operation('CreateLaunchProfile', {
    resource: 'launch-profile',
    summary: 'Creates a launch profile.',
    method: 'POST',
    uri: '/studios/{studioId}/launch-profiles',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: {
      description: optional(description),
      ec2SubnetIds: required(ec2SubnetIds),
      launchProfileProtocolVersions: required(protocolVersions),
      name: required(name),
      streamConfiguration: required(streamConfiguration),
      studioComponentIds: required(studioComponentIds),
      tags: optional(tags),
    },
    output: output('CreateLaunchProfile'),
    waiter: 'LaunchProfileReady',
  }),
  operation('GetLaunchProfile', {
    resource: 'launch-profile',
    summary: 'Reads one launch profile.',
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}',
    access: 'Read',
    labels,
    output: output('GetLaunchProfile'),
  }),
  operation('GetLaunchProfileDetails', {
    resource: 'launch-profile',
    summary: 'Reads a launch profile with its streaming images and a summary of its components.',
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/details',
    access: 'Read',
    labels,
    output: structure('GetLaunchProfileDetailsResponse', {
      launchProfile: optional(launchProfile),
      streamingImages: optional(list(streamingImage)),
      studioComponentSummaries: optional(list(studioComponentSummary)),
    }),
  }),
  operation('GetLaunchProfileInitialization', {
    resource: 'launch-profile',
    summary: 'Reads what a workstation or render worker of this profile sets up: scripts, security groups, directory.',
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}/init',
    access: 'Read',
    labels,
    query: {
      launchProfileProtocolVersions: required(list(string())),
      launchPurpose: required(string()),
      platform: required(string()),
    },
    output: structure('GetLaunchProfileInitializationResponse', {
      launchProfileInitialization: optional(launchProfileInitialization),
    }),
  }),
  operation('ListLaunchProfiles', {
    resource: 'launch-profile',
    summary: "Lists a studio's launch profiles, or those of the given states, or those that one person may use.",
    method: 'GET',
    uri: '/studios/{studioId}/launch-profiles',
    access: 'Read',
    labels: { studioId: label },
    query: {
      maxResults,
      nextToken,
      principalId: optional(string()),
      states: optional(list(launchProfileState)),
    },
    output: structure('ListLaunchProfilesResponse', {
      launchProfiles: optional(list(launchProfile)),
      nextToken: optional(string()),
    }),
    pagination: { items: 'launchProfiles', pageLength: PAGE_LENGTH },
  }),
  operation('UpdateLaunchProfile', {
    resource: 'launch-profile',
    summary: 'Changes a launch profile; each member given replaces the old one whole.',
    method: 'PATCH',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}',
    access: 'Write',
    clientToken: true,
    labels,
    body: {
      description: optional(description),
      launchProfileProtocolVersions: optional(protocolVersions),
      name: optional(name),
      streamConfiguration: optional(streamConfiguration),
      studioComponentIds: optional(studioComponentIds),
    },
    output: output('UpdateLaunchProfile'),
    waiter: 'LaunchProfileReady',
  }),
  operation('DeleteLaunchProfile', {
    resource: 'launch-profile',
    summary: 'Deletes a launch profile that no session uses.',
    method: 'DELETE',
    uri: '/studios/{studioId}/launch-profiles/{launchProfileId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: output('DeleteLaunchProfile'),
    waiter: 'LaunchProfileDeleted',
  }),
] as const;
