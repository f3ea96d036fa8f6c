/**
 * Which subtype and which configuration a type of studio component takes, and how many components a studio may have: in
 * all, and of the types that have a quota of their own.
 */
import type { StudioComponent } from '../contract/studio-component.ts';
import { type ServiceError, validationFailed } from '../errors.ts';
import type { Row } from '../store/store.ts';
import type { DomainSettings, Services } from './context.ts';
import { KIND } from './kinds.ts';
import { type Quota, quotaExceeded } from './quota.ts';

type Type = NonNullable<StudioComponent['type']>;
type Subtype = NonNullable<StudioComponent['subtype']>;
type ConfigurationName = keyof NonNullable<StudioComponent['configuration']>;

/** Of what is not one of the vendor's own products, whatever its type; and of what was given none, for it is always shown. */
export const DEFAULT_SUBTYPE = 'CUSTOM';

const FITTING: Readonly<Record<Type, { readonly configuration?: ConfigurationName; readonly subtypes: Subtype[] }>> = {
  ACTIVE_DIRECTORY: {
    configuration: 'activeDirectoryConfiguration',
    subtypes: ['AWS_MANAGED_MICROSOFT_AD', DEFAULT_SUBTYPE],
  },
  SHARED_FILE_SYSTEM: {
    configuration: 'sharedFileSystemConfiguration',
    subtypes: ['AMAZON_FSX_FOR_WINDOWS', 'AMAZON_FSX_FOR_LUSTRE', DEFAULT_SUBTYPE],
  },
  COMPUTE_FARM: { configuration: 'computeFarmConfiguration', subtypes: [DEFAULT_SUBTYPE] },
  LICENSE_SERVICE: { configuration: 'licenseServiceConfiguration', subtypes: [DEFAULT_SUBTYPE] },
  CUSTOM: { subtypes: [DEFAULT_SUBTYPE] },
};

/** @throws ServiceError ValidationException when subtype or configuration belong to another type. */
export function requireFitting({
  type,
  subtype,
  configuration,
}: Pick<StudioComponent, 'type' | 'subtype' | 'configuration'>) {
  const { configuration: wanted, subtypes } = FITTING[type!];
  if (subtype !== undefined && !subtypes.includes(subtype)) {
    throw unfitting('subtype', `Member must satisfy enum value set: [${subtypes.join(', ')}] where type is ${type}`);
  }
  if (configuration !== undefined && !(wanted && Object.hasOwn(configuration, wanted))) {
    throw unfitting('configuration', `Member must ${wanted ? `have ${wanted}` : 'be absent'} where type is ${type}`);
  }
}

function unfitting(member: string, rule: string): ServiceError {
  return validationFailed(
    `1 validation error detected. Value at '/${member}' failed to satisfy constraint: ${rule}`,
    `${member.toUpperCase()}_DOES_NOT_FIT_TYPE`,
  );
}

/** Not to be raised, as with the vendor. */
const DIRECTORIES_MAX = 1;
/** Components that one studio may have at the most: no quota can be set higher. */
const COMPONENTS_MAX = 10_000;

/** How many components of a type a studio may have, where the type has a quota of its own. */
function seatsOf(type: Type, settings: DomainSettings): number | undefined {
  if (type === 'ACTIVE_DIRECTORY') return DIRECTORIES_MAX;
  return type === 'SHARED_FILE_SYSTEM' ? settings.sharedFileSystemsMax : undefined;
}

/**
 * The seat that a component of this type takes: where there may be only so many, each holds a numbered unique name, so
 * that no two can take the last one. Undefined for an Active Directory when there is one: the API lets its creation begin
 * and fail.
 * @param held what the component holds already.
 * @throws ServiceError ServiceQuotaExceededException for anything else that there is no seat for.
 */
export async function findSeat(
  type: Type,
  studioId: string,
  held: string | null,
  { store, settings }: Services,
): Promise<Pick<Row, 'uniqueName'> | undefined> {
  const seats = seatsOf(type, settings);
  if (seats === undefined) return { uniqueName: null };
  const prefix = `${studioId}/${type}/`;
  if (held?.startsWith(prefix)) return { uniqueName: held };
  const query = { kind: KIND.studioComponent, studioIds: [studioId], stateNot: 'DELETED', limit: COMPONENTS_MAX };
  const taken = new Set((await store.list(query)).map(({ uniqueName }) => uniqueName));
  const takenOfType = [...taken].filter((name) => name?.startsWith(prefix)).length;
  if (takenOfType >= seats) {
    if (type === 'ACTIVE_DIRECTORY') return undefined;
    const code = 'SHARED_FILE_SYSTEMS_PER_STUDIO';
    throw quotaExceeded({ studioId, limit: seats, what: 'shared file systems', code });
  }
  let seat = 0;
  while (taken.has(`${prefix}${seat}`)) seat += 1;
  return { uniqueName: `${prefix}${seat}` };
}

export function componentQuota(studioId: string, settings: DomainSettings): Quota {
  return {
    kind: KIND.studioComponent,
    studioId,
    limit: settings.studioComponentsMax,
    what: 'studio components',
    code: 'STUDIO_COMPONENTS_PER_STUDIO',
  };
}
