/**
 * The four checks that a launch profile shows the results of, beside its state and without a say in it.
 *
 * A result says SUCCESS only where this server has looked. It looks at the Active Directory. Subnets, access lists and
 * security groups are of a network that is not here: those checks stay NOT_STARTED, and say so.
 */
import type { ValidationResult } from '../contract/launch-profile.ts';
import type { StudioComponent } from '../contract/studio-component.ts';
import type { Row } from '../store/store.ts';

const DIRECTORY = 'VALIDATE_ACTIVE_DIRECTORY_STUDIO_COMPONENT';
/** In the order in which the vendor showed them, behind the directory. */
const OF_THE_NETWORK = [
  'VALIDATE_SUBNET_ASSOCIATION',
  'VALIDATE_NETWORK_ACL_ASSOCIATION',
  'VALIDATE_SECURITY_GROUP_ASSOCIATION',
] as const;

type Status = Omit<ValidationResult, 'type'>;

const NOT_STARTED: Status = {
  state: 'VALIDATION_NOT_STARTED',
  statusCode: 'VALIDATION_NOT_STARTED',
  statusMessage: 'The validation has not started.',
};
const NOT_HERE: Status = {
  ...NOT_STARTED,
  statusMessage: 'This server has no VPC: there is nothing that it could validate.',
};
const SUCCESS: Status = {
  state: 'VALIDATION_SUCCESS',
  statusCode: 'VALIDATION_SUCCESS',
  statusMessage: 'The validation succeeded.',
};

/** Before the worker has looked. */
export const UNVALIDATED: readonly ValidationResult[] = resultsWith(NOT_STARTED);

/** @param components those of the profile that are there. */
export function validated(components: readonly Row[]): readonly ValidationResult[] {
  return resultsWith(validateDirectory(components.map(({ doc }) => JSON.parse(doc) as StudioComponent)));
}

function resultsWith(directory: Status): ValidationResult[] {
  return [{ type: DIRECTORY, ...directory }, ...OF_THE_NETWORK.map((type) => ({ type, ...NOT_HERE }))];
}

/** A workstation joins one directory, which it finds by its id. A profile without one has nothing wrong with it. */
function validateDirectory(components: readonly StudioComponent[]): Status {
  const directories = components.filter(({ type }) => type === 'ACTIVE_DIRECTORY');
  if (directories.length > 1) {
    return invalidDirectory('The profile has more than one Active Directory component. Leave all but one out.');
  }
  const [directory] = directories;
  if (!directory || directory.configuration?.activeDirectoryConfiguration?.directoryId) return SUCCESS;
  const { studioComponentId } = directory;
  return invalidDirectory(
    `Active Directory component ${studioComponentId} has no directoryId. Update the component, then the profile.`,
  );
}

function invalidDirectory(statusMessage: string): Status {
  return { state: 'VALIDATION_FAILED', statusCode: 'VALIDATION_FAILED_INVALID_ACTIVE_DIRECTORY', statusMessage };
}
