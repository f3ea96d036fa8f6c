/** Studios: what everything else lives in. Data only. */
import { label, nextToken, PAGE_LENGTH, roleArn, tags } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure, timestamp } from './shape.ts';

const displayName = string({ min: 0, max: 64, sensitive: true });
const studioName = string({ min: 3, max: 64, pattern: /^[a-z0-9]*$/ });

export const studioState = enumeration([
  'CREATE_IN_PROGRESS',
  'READY',
  'UPDATE_IN_PROGRESS',
  'DELETE_IN_PROGRESS',
  'DELETED',
  'DELETE_FAILED',
  'CREATE_FAILED',
  'UPDATE_FAILED',
]);

export const studioStatusCode = enumeration([
  'STUDIO_CREATED',
  'STUDIO_DELETED',
  'STUDIO_UPDATED',
  'STUDIO_CREATE_IN_PROGRESS',
  'STUDIO_UPDATE_IN_PROGRESS',
  'STUDIO_DELETE_IN_PROGRESS',
  'STUDIO_WITH_LAUNCH_PROFILES_NOT_DELETED',
  'STUDIO_WITH_STUDIO_COMPONENTS_NOT_DELETED',
  'STUDIO_WITH_STREAMING_IMAGES_NOT_DELETED',
  'AWS_SSO_NOT_ENABLED',
  'AWS_SSO_ACCESS_DENIED',
  'ROLE_NOT_OWNED_BY_STUDIO_OWNER',
  'ROLE_COULD_NOT_BE_ASSUMED',
  'INTERNAL_ERROR',
  'ENCRYPTION_KEY_NOT_FOUND',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'AWS_SSO_CONFIGURATION_REPAIRED',
  'AWS_SSO_CONFIGURATION_REPAIR_IN_PROGRESS',
  'AWS_STS_REGION_DISABLED',
]);

export const studioEncryptionConfiguration = structure('StudioEncryptionConfiguration', {
  keyArn: optional(string({ min: 4, pattern: /^arn:.*/ })),
  keyType: required(enumeration(['AWS_OWNED_KEY', 'CUSTOMER_MANAGED_KEY'])),
});

export const studio = structure('Studio', {
  adminRoleArn: optional(roleArn),
  arn: optional(string()),
  createdAt: optional(timestamp()),
  displayName: optional(displayName),
  homeRegion: optional(string({ min: 0, max: 50, pattern: /[a-z]{2}-?(iso|gov)?-{1}[a-z]*-{1}[0-9]/ })),
  ssoClientId: optional(string()),
  state: optional(studioState),
  statusCode: optional(studioStatusCode),
  statusMessage: optional(string()),
  studioEncryptionConfiguration: optional(studioEncryptionConfiguration),
  studioId: optional(string()),
  studioName: optional(studioName),
  studioUrl: optional(string()),
  tags: optional(tags),
  updatedAt: optional(timestamp()),
  userRoleArn: optional(roleArn),
});

export type Studio = Static<typeof studio>;

const labels = { studioId: label };

export const studioOperations = [
  operation('CreateStudio', {
    resource: 'studio',
    summary: 'Creates a studio.',
    method: 'POST',
    uri: '/studios',
    access: 'Write',
    clientToken: true,
    body: {
      adminRoleArn: required(roleArn),
      displayName: required(displayName),
      studioEncryptionConfiguration: optional(studioEncryptionConfiguration),
      studioName: required(studioName),
      tags: optional(tags),
      userRoleArn: required(roleArn),
    },
    output: structure('CreateStudioResponse', { studio: optional(studio) }),
    waiter: 'StudioReady',
  }),
  operation('GetStudio', {
    resource: 'studio',
    summary: 'Reads one studio.',
    method: 'GET',
    uri: '/studios/{studioId}',
    access: 'Read',
    labels,
    output: structure('GetStudioResponse', { studio: required(studio) }),
  }),
  operation('ListStudios', {
    resource: 'studio',
    summary: 'Lists the studios of this account and region.',
    method: 'GET',
    uri: '/studios',
    access: 'Read',
    query: { nextToken },
    output: structure('ListStudiosResponse', { nextToken: optional(string()), studios: required(list(studio)) }),
    pagination: { items: 'studios', pageLength: PAGE_LENGTH },
  }),
  operation('UpdateStudio', {
    resource: 'studio',
    summary: "Changes a studio's display name and roles.",
    method: 'PATCH',
    uri: '/studios/{studioId}',
    access: 'Write',
    clientToken: true,
    labels,
    body: { adminRoleArn: optional(roleArn), displayName: optional(displayName), userRoleArn: optional(roleArn) },
    output: structure('UpdateStudioResponse', { studio: required(studio) }),
    waiter: 'StudioReady',
  }),
  operation('DeleteStudio', {
    resource: 'studio',
    summary: 'Deletes an empty studio.',
    method: 'DELETE',
    uri: '/studios/{studioId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: structure('DeleteStudioResponse', { studio: required(studio) }),
    waiter: 'StudioDeleted',
  }),
  operation('StartStudioSSOConfigurationRepair', {
    resource: 'studio',
    summary: 'Gives a studio whose address is no longer that of this server the present one, and a new sign-in client.',
    method: 'PUT',
    uri: '/studios/{studioId}/sso-configuration',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: structure('StartStudioSSOConfigurationRepairResponse', { studio: required(studio) }),
    waiter: 'StudioReady',
  }),
] as const;
