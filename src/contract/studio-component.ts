/**
 * Studio components: what a workstation is connected to (file systems, a directory, farms, licences) and what is run on
 * it. Data only.
 */
import { label, maxResults, nextToken, roleArn, shortId, tags } from './common.ts';
import { operation } from './operation.ts';
import { enumeration, list, optional, required, type Static, string, structure, timestamp, union } from './shape.ts';

/** The model's list of components holds no more, though a caller may ask for a hundred. */
export const COMPONENTS_PAGE_LENGTH = 50;

export const studioComponentName = string({ min: 0, max: 64, sensitive: true });
export const studioComponentDescription = string({ min: 0, max: 256, sensitive: true });
export const initializationScript = string({ min: 1, max: 5120, sensitive: true });
const sensitive = string({ sensitive: true });

export const studioComponentType = enumeration([
  'ACTIVE_DIRECTORY',
  'SHARED_FILE_SYSTEM',
  'COMPUTE_FARM',
  'LICENSE_SERVICE',
  'CUSTOM',
]);

export const studioComponentSubtype = enumeration([
  'AWS_MANAGED_MICROSOFT_AD',
  'AMAZON_FSX_FOR_WINDOWS',
  'AMAZON_FSX_FOR_LUSTRE',
  'CUSTOM',
]);

export const studioComponentState = enumeration([
  'CREATE_IN_PROGRESS',
  'READY',
  'UPDATE_IN_PROGRESS',
  'DELETE_IN_PROGRESS',
  'DELETED',
  'DELETE_FAILED',
  'CREATE_FAILED',
  'UPDATE_FAILED',
]);

export const studioComponentStatusCode = enumeration([
  'ACTIVE_DIRECTORY_ALREADY_EXISTS',
  'STUDIO_COMPONENT_CREATED',
  'STUDIO_COMPONENT_UPDATED',
  'STUDIO_COMPONENT_DELETED',
  'ENCRYPTION_KEY_ACCESS_DENIED',
  'ENCRYPTION_KEY_NOT_FOUND',
  'STUDIO_COMPONENT_CREATE_IN_PROGRESS',
  'STUDIO_COMPONENT_UPDATE_IN_PROGRESS',
  'STUDIO_COMPONENT_DELETE_IN_PROGRESS',
  'INTERNAL_ERROR',
]);

export const computerAttributes = list(
  structure('ActiveDirectoryComputerAttribute', {
    name: optional(string({ min: 1, max: 40 })),
    value: optional(string({ min: 1, max: 64 })),
  }),
  { min: 0, max: 50, sensitive: true },
);

export const studioComponentConfiguration = union('StudioComponentConfiguration', {
  activeDirectoryConfiguration: structure('ActiveDirectoryConfiguration', {
    computerAttributes: optional(computerAttributes),
    directoryId: optional(string()),
    organizationalUnitDistinguishedName: optional(string({ min: 1, max: 2000 })),
  }),
  computeFarmConfiguration: structure('ComputeFarmConfiguration', {
    activeDirectoryUser: optional(string()),
    endpoint: optional(sensitive),
  }),
  licenseServiceConfiguration: structure('LicenseServiceConfiguration', { endpoint: optional(sensitive) }),
  sharedFileSystemConfiguration: structure('SharedFileSystemConfiguration', {
    endpoint: optional(sensitive),
    fileSystemId: optional(string()),
    linuxMountPoint: optional(
      string({ min: 0, max: 128, pattern: /^(\/?|(\$HOME)?(\/[^/\n\s\\]+)*)$/, sensitive: true }),
    ),
    shareName: optional(sensitive),
    windowsMountDrive: optional(string({ pattern: /^[A-Z]$/ })),
  }),
});

const ec2SecurityGroupIds = list(string(), { min: 0, max: 30 });

const initializationScripts = list(
  structure('StudioComponentInitializationScript', {
    launchProfileProtocolVersion: optional(string({ min: 0, max: 10, pattern: /^2021-03-31$/ })),
    platform: optional(enumeration(['LINUX', 'WINDOWS'])),
    runContext: optional(enumeration(['SYSTEM_INITIALIZATION', 'USER_INITIALIZATION'])),
    script: optional(initializationScript),
  }),
);

const scriptParameters = list(
  structure('ScriptParameterKeyValue', {
    key: optional(string({ min: 1, max: 64, pattern: /^[a-zA-Z_][a-zA-Z0-9_]+$/ })),
    value: optional(string({ min: 1, max: 256 })),
  }),
  { min: 0, max: 30, sensitive: true },
);

export const studioComponent = structure('StudioComponent', {
  arn: optional(string()),
  configuration: optional(studioComponentConfiguration),
  createdAt: optional(timestamp()),
  createdBy: optional(string()),
  description: optional(studioComponentDescription),
  ec2SecurityGroupIds: optional(ec2SecurityGroupIds),
  initializationScripts: optional(initializationScripts),
  name: optional(studioComponentName),
  runtimeRoleArn: optional(roleArn),
  scriptParameters: optional(scriptParameters),
  secureInitializationRoleArn: optional(roleArn),
  state: optional(studioComponentState),
  statusCode: optional(studioComponentStatusCode),
  statusMessage: optional(string()),
  studioComponentId: optional(shortId),
  subtype: optional(studioComponentSubtype),
  tags: optional(tags),
  type: optional(studioComponentType),
  updatedAt: optional(timestamp()),
  updatedBy: optional(string()),
});

export type StudioComponent = Static<typeof studioComponent>;

const labels = { studioId: label, studioComponentId: label };
const output = (operationName: string) =>
  structure(`${operationName}Response`, { studioComponent: optional(studioComponent) });

export const studioComponentOperations = [
  operation('CreateStudioComponent', {
    resource: 'studio-component',
    summary: 'Creates a studio component.',
    method: 'POST',
    uri: '/studios/{studioId}/studio-components',
    access: 'Write',
    clientToken: true,
    labels: { studioId: label },
    body: {
      configuration: optional(studioComponentConfiguration),
      description: optional(studioComponentDescription),
      ec2SecurityGroupIds: optional(ec2SecurityGroupIds),
      initializationScripts: optional(initializationScripts),
      name: required(studioComponentName),
      runtimeRoleArn: optional(roleArn),
      scriptParameters: optional(scriptParameters),
      secureInitializationRoleArn: optional(roleArn),
      subtype: optional(studioComponentSubtype),
      tags: optional(tags),
      type: required(studioComponentType),
    },
    output: output('CreateStudioComponent'),
    waiter: 'StudioComponentReady',
  }),
  operation('GetStudioComponent', {
    resource: 'studio-component',
    summary: 'Reads one studio component.',
    method: 'GET',
    uri: '/studios/{studioId}/studio-components/{studioComponentId}',
    access: 'Read',
    labels,
    output: output('GetStudioComponent'),
  }),
  operation('ListStudioComponents', {
    resource: 'studio-component',
    summary: "Lists a studio's components, or those of the given states and types.",
    method: 'GET',
    uri: '/studios/{studioId}/studio-components',
    access: 'Read',
    labels: { studioId: label },
    query: {
      maxResults,
      nextToken,
      states: optional(list(studioComponentState)),
      types: optional(list(studioComponentType)),
    },
    output: structure('ListStudioComponentsResponse', {
      nextToken: optional(string()),
      studioComponents: optional(list(studioComponent, { min: 0, max: COMPONENTS_PAGE_LENGTH })),
    }),
    pagination: { items: 'studioComponents', pageLength: COMPONENTS_PAGE_LENGTH },
  }),
  operation('UpdateStudioComponent', {
    resource: 'studio-component',
    summary: 'Changes a studio component; each member given replaces the old one whole.',
    method: 'PATCH',
    uri: '/studios/{studioId}/studio-components/{studioComponentId}',
    access: 'Write',
    clientToken: true,
    labels,
    body: {
      configuration: optional(studioComponentConfiguration),
      description: optional(studioComponentDescription),
      ec2SecurityGroupIds: optional(ec2SecurityGroupIds),
      initializationScripts: optional(initializationScripts),
      name: optional(studioComponentName),
      runtimeRoleArn: optional(roleArn),
      scriptParameters: optional(scriptParameters),
      secureInitializationRoleArn: optional(roleArn),
      subtype: optional(studioComponentSubtype),
      type: optional(studioComponentType),
    },
    output: output('UpdateStudioComponent'),
    waiter: 'StudioComponentReady',
  }),
  operation('DeleteStudioComponent', {
    resource: 'studio-component',
    summary: 'Deletes a studio component.',
    method: 'DELETE',
    uri: '/studios/{studioId}/studio-components/{studioComponentId}',
    access: 'Write',
    idempotent: true,
    clientToken: true,
    labels,
    output: output('DeleteStudioComponent'),
    waiter: 'StudioComponentDeleted',
  }),
] as const;
