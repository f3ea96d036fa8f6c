/**
 * What a workstation or render worker of a launch profile is told to set up: the profile's components put together for
 * one platform. The caller says which versions of the protocol it speaks, and gets the one that both know.
 */
import {
  type LaunchProfile,
  type LaunchProfileInitialization,
  launchProfileInitialization,
} from '../contract/launch-profile.ts';
import type { StringShape } from '../contract/shape.ts';
import type { StudioComponent } from '../contract/studio-component.ts';
import { memberRefused } from '../errors.ts';

/** What the caller says of itself, checked. */
export type Asked = Required<
  Pick<LaunchProfileInitialization, 'platform' | 'launchPurpose' | 'launchProfileProtocolVersion'>
>;

type Script = NonNullable<LaunchProfileInitialization['systemInitializationScripts']>[number];
type RunContext = NonNullable<NonNullable<StudioComponent['initializationScripts']>[number]['runContext']>;

/**
 * The published model has plain strings here, and the limits only in what is answered.
 * @throws ServiceError ValidationException
 */
export function requireAsked(
  input: { launchProfileProtocolVersions: readonly string[]; launchPurpose: string; platform: string },
  profile: LaunchProfile,
): Asked {
  const known = profile.launchProfileProtocolVersions ?? [];
  const version = known.find((one) => input.launchProfileProtocolVersions.includes(one));
  if (version === undefined) {
    const rule = `Member must have a version that the launch profile has: [${known.join(', ')}]`;
    throw memberRefused('launchProfileProtocolVersions', rule, 'NO_COMMON_PROTOCOL_VERSION');
  }
  for (const member of ['launchPurpose', 'platform'] as const) requireShape(member, input[member]);
  const { launchPurpose, platform } = input;
  return { launchPurpose, platform: platform as Asked['platform'], launchProfileProtocolVersion: version };
}

/** As what is answered has it. */
function requireShape(member: 'launchPurpose' | 'platform', value: string): void {
  const {
    maxLength = Number.POSITIVE_INFINITY,
    pattern,
    values,
  } = launchProfileInitialization.members[member]!.shape as StringShape;
  const refusal = (rule: string) => memberRefused(member, `Member must ${rule}`, `INVALID_${CODES[member]}`);
  if (values && !values.includes(value)) throw refusal(`satisfy enum value set: [${values.join(', ')}]`);
  if (value.length > maxLength) throw refusal(`have length less than or equal to ${maxLength}`);
  if (pattern && !pattern.test(value)) throw refusal(`satisfy regular expression pattern: ${pattern.source}`);
}

const CODES = { launchPurpose: 'LAUNCH_PURPOSE', platform: 'PLATFORM' } as const;

/** @param components those of the profile that are there, in its order. */
export function initializationOf(
  profile: LaunchProfile,
  components: readonly StudioComponent[],
  asked: Asked,
): LaunchProfileInitialization {
  const directory = components.find(({ type }) => type === 'ACTIVE_DIRECTORY');
  const ec2SecurityGroupIds = [...new Set(components.flatMap(({ ec2SecurityGroupIds: ids }) => ids ?? []))];
  return {
    ...(directory && { activeDirectory: activeDirectoryOf(directory) }),
    ...(ec2SecurityGroupIds.length > 0 && { ec2SecurityGroupIds }),
    launchProfileId: profile.launchProfileId!,
    ...asked,
    name: profile.name!,
    systemInitializationScripts: scriptsOf(components, 'SYSTEM_INITIALIZATION', asked),
    userInitializationScripts: scriptsOf(components, 'USER_INITIALIZATION', asked),
  };
}

/** Name and addresses of the directory are the directory's own; the component knows only its id. */
function activeDirectoryOf(component: StudioComponent): NonNullable<LaunchProfileInitialization['activeDirectory']> {
  const { computerAttributes, directoryId, organizationalUnitDistinguishedName } =
    component.configuration?.activeDirectoryConfiguration ?? {};
  return {
    ...(computerAttributes && { computerAttributes }),
    ...(directoryId !== undefined && { directoryId }),
    ...(organizationalUnitDistinguishedName !== undefined && { organizationalUnitDistinguishedName }),
    ...nameOf(component),
  };
}

/** A script that does not say where, when or what is run by nobody. */
function scriptsOf(
  components: readonly StudioComponent[],
  runContext: RunContext,
  { platform, launchProfileProtocolVersion }: Asked,
): Script[] {
  return components.flatMap((component) =>
    (component.initializationScripts ?? [])
      .filter(
        (one) =>
          one.platform === platform &&
          one.runContext === runContext &&
          (one.launchProfileProtocolVersion ?? launchProfileProtocolVersion) === launchProfileProtocolVersion,
      )
      .flatMap(({ script }) => (script === undefined ? [] : [{ ...rolesOf(component, runContext), script }]))
      .map((one) => ({ ...one, ...nameOf(component) })),
  );
}

/** The role for secure initialization is for scripts of the system alone: what users run must not have it. */
function rolesOf(
  { runtimeRoleArn, secureInitializationRoleArn }: StudioComponent,
  runContext: RunContext,
): Pick<Script, 'runtimeRoleArn' | 'secureInitializationRoleArn'> {
  const secure = runContext === 'SYSTEM_INITIALIZATION' && secureInitializationRoleArn !== undefined;
  return {
    ...(runtimeRoleArn !== undefined && { runtimeRoleArn }),
    ...(secure && { secureInitializationRoleArn }),
  };
}

function nameOf({ studioComponentId, name }: StudioComponent) {
  return { studioComponentId: studioComponentId!, studioComponentName: name! };
}
