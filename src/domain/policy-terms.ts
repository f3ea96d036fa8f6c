/**
 * The words that a policy may use here: the actions, resource types and condition keys of the vendor's service
 * authorization reference for Nimble Studio, and the global keys that mean something on this server. Data only.
 *
 * A word that is not here is refused when a policy is stored. It must never be taken and then ignored: a condition on a
 * key that nobody fills in looks like a restriction and is none.
 */

/** What an operator compares. */
export type Family = 'String' | 'Arn' | 'Numeric' | 'Date' | 'Bool' | 'IpAddress';

export interface ConditionKey {
  /** What the key may be compared as, besides its being there at all. */
  readonly families: readonly Family[];
  /** Holds a list; the language then asks for ForAllValues: or ForAnyValue:. */
  readonly multivalued?: true;
  /** Told by the resource, not by the request: unknown where there is no such resource. */
  readonly ofResource?: true;
}

const STRING: readonly Family[] = ['String'];
const ANYTHING: readonly Family[] = ['String', 'Arn', 'Numeric', 'Date', 'Bool', 'IpAddress'];

/** By lower-case name: names of keys are not case-sensitive. */
const KEYS: ReadonlyMap<string, ConditionKey> = new Map<string, ConditionKey>([
  ['aws:currenttime', { families: ['String', 'Date'] }],
  ['aws:securetransport', { families: ['String', 'Bool'] }],
  ['aws:sourceip', { families: ['String', 'IpAddress'] }],
  ['aws:userid', { families: STRING }],
  ['aws:username', { families: STRING }],
  // Set when another service of the vendor passes a call on, so never here. Its own policies for Nimble Studio use it.
  ['aws:calledvialast', { families: STRING }],
  ['aws:tagkeys', { families: STRING, multivalued: true }],
  // The reference calls it an ARN, the published model a string: both forms are known (see access.ts).
  ['nimble:studioid', { families: ['String', 'Arn'], ofResource: true }],
  ['nimble:requesterprincipalid', { families: STRING }],
  ['nimble:principalid', { families: STRING }],
  ['nimble:createdby', { families: STRING, ofResource: true }],
  ['nimble:ownedby', { families: STRING, ofResource: true }],
]);

export const REQUEST_TAG = 'aws:requesttag/';
export const RESOURCE_TAG = 'aws:resourcetag/';

/** The key of this lower-case name; undefined when there is none. */
export function conditionKey(name: string): ConditionKey | undefined {
  if (name.startsWith(REQUEST_TAG)) return name.length > REQUEST_TAG.length ? { families: ANYTHING } : undefined;
  if (name.startsWith(RESOURCE_TAG)) {
    return name.length > RESOURCE_TAG.length ? { families: ANYTHING, ofResource: true } : undefined;
  }
  return KEYS.get(name);
}

/** Types of resource in ARNs; rows of the same kind hold them. */
export const RESOURCE_TYPES = [
  'studio',
  'streaming-image',
  'studio-component',
  'launch-profile',
  'streaming-session',
  'streaming-session-backup',
  'eula',
  'eula-acceptance',
] as const;

export type ResourceType = (typeof RESOURCE_TYPES)[number];

/** Every action of the service, answered by this version or not: the policies that studios have name them all. */
export const ACTIONS: readonly string[] = [
  'AcceptEulas',
  'CreateLaunchProfile',
  'CreateStreamingImage',
  'CreateStreamingSession',
  'CreateStreamingSessionStream',
  'CreateStudio',
  'CreateStudioComponent',
  'DeleteLaunchProfile',
  'DeleteLaunchProfileMember',
  'DeleteStreamingImage',
  'DeleteStreamingSession',
  'DeleteStudio',
  'DeleteStudioComponent',
  'DeleteStudioMember',
  'GetEula',
  'GetFeatureMap',
  'GetLaunchProfile',
  'GetLaunchProfileDetails',
  'GetLaunchProfileInitialization',
  'GetLaunchProfileMember',
  'GetStreamingImage',
  'GetStreamingSession',
  'GetStreamingSessionBackup',
  'GetStreamingSessionStream',
  'GetStudio',
  'GetStudioComponent',
  'GetStudioMember',
  'ListEulaAcceptances',
  'ListEulas',
  'ListLaunchProfileMembers',
  'ListLaunchProfiles',
  'ListStreamingImages',
  'ListStreamingSessionBackups',
  'ListStreamingSessions',
  'ListStudioComponents',
  'ListStudioMembers',
  'ListStudios',
  'ListTagsForResource',
  'PutLaunchProfileMembers',
  'PutStudioLogEvents',
  'PutStudioMembers',
  'StartStreamingSession',
  'StartStudioSSOConfigurationRepair',
  'StopStreamingSession',
  'TagResource',
  'UntagResource',
  'UpdateLaunchProfile',
  'UpdateLaunchProfileMember',
  'UpdateStreamingImage',
  'UpdateStudio',
  'UpdateStudioComponent',
];
