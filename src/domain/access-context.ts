/** What conditions of policies can be about: the values that a request, and the row behind its resource, give to keys. */
import type { Row } from '../store/store.ts';
import { arnOf } from './arn.ts';
import type { DomainSettings, Origin, Principal } from './context.ts';
import { AMAZON, KIND } from './kinds.ts';
import type { Permission } from './permissions.ts';
import { type Context, UNKNOWN, type Values } from './policy-context.ts';
import { conditionKey, REQUEST_TAG, RESOURCE_TAG, type ResourceType } from './policy-terms.ts';

/** Role of people (see access.ts, which builds upon this file). */
const USER = 'user';

type Input = Readonly<Record<string, unknown>>;
type Tags = Readonly<Record<string, string>>;
type Place = Pick<DomainSettings, 'region' | 'accountId'>;

export interface Asking {
  readonly input: Input;
  readonly principal: Principal;
  readonly origin: Origin;
  readonly permission: Permission;
  readonly now: number;
  readonly settings: Pick<DomainSettings, 'region' | 'accountId' | 'publicUrl'>;
}

/** A studio's ARN is written with and without the region that its id begins with; a policy may have either. */
export function namesOf(type: ResourceType, id: string, place: Place): string[] {
  const arn = arnOf(type, id, place);
  const long = `${arn.slice(0, arn.indexOf('/') + 1)}${id}`;
  return long === arn ? [arn] : [arn, long];
}

/**
 * All that a check can be about. Each key is worked out once, however many statements look at it.
 * @param resource with the row behind it; undefined where there can be none.
 */
export function contextOf(asking: Asking, resource: { readonly row: Row | undefined } | undefined): Context {
  const said = saidByRequest(asking);
  const more: Context = resource ? saidByRow(resource.row, asking.settings) : () => undefined;
  const known = new Map<string, Values>();
  return (key) => {
    let values = known.get(key);
    if (values === undefined && !known.has(key)) {
      values = said(key) ?? more(key);
      known.set(key, values);
    }
    return values;
  };
}

/** What the request itself says. */
function saidByRequest({ input, principal, origin, permission, now, settings }: Asking): Context {
  return (key) => {
    switch (key) {
      case 'aws:currenttime':
        return [new Date(now).toISOString()];
      case 'aws:securetransport':
        // The address that clients use tells it, whether TLS is the server's own or that of a proxy in front.
        return [String(settings.publicUrl().startsWith('https:'))];
      case 'aws:sourceip':
        return addressOf(origin);
      case 'aws:userid':
        return [principal.principalId];
      case 'aws:username':
        // Of people only: a policy that gives everybody what is called after them must give a service nothing.
        return principal.role === USER && principal.username !== undefined ? [principal.username] : undefined;
      case 'aws:tagkeys':
        return input.tags ? Object.keys(input.tags) : (input.tagKeys as readonly string[] | undefined);
      case 'nimble:studioid':
        return typeof input.studioId === 'string' ? studioNames(input.studioId, settings) : undefined;
      case 'nimble:requesterprincipalid':
        return permission.knowsRequester ? [principal.principalId] : undefined;
    }
    if (key.startsWith(REQUEST_TAG)) return tagOf((input.tags ?? {}) as Tags, key.slice(REQUEST_TAG.length));
    const member = permission.given?.[key];
    const value = member === undefined ? undefined : input[member];
    return typeof value === 'string' ? [value] : undefined;
  };
}

/** What the row says; where there is none, what it would have said is unknown. */
function saidByRow(row: Row | undefined, place: Place): Context {
  let doc: { readonly tags?: Tags; readonly createdBy?: string; readonly ownedBy?: string } | undefined;
  return (key) => {
    if (!conditionKey(key)?.ofResource) return undefined;
    if (!row) return UNKNOWN;
    if (key === 'nimble:studioid') return studioOf(row, place);
    doc ??= JSON.parse(row.doc) as NonNullable<typeof doc>;
    if (key.startsWith(RESOURCE_TAG)) return tagOf(doc.tags ?? {}, key.slice(RESOURCE_TAG.length));
    const value = key === 'nimble:createdby' ? doc.createdBy : doc.ownedBy;
    return value === undefined ? undefined : [value];
  };
}

function studioOf({ kind, id, studioId }: Row, place: Place): Values {
  if (kind === KIND.studio) return studioNames(id, place);
  return studioId === AMAZON ? undefined : studioNames(studioId, place);
}

/** The id, and the ARN in both its forms: the published documents disagree on which of them the key holds. */
function studioNames(studioId: string, place: Place): string[] {
  return [studioId, ...namesOf(KIND.studio, studioId, place)];
}

/**
 * "Key names are not case-sensitive": TagKey1 is tagkey1 "but not both" (IAM User Guide, "Controlling access to AWS
 * resources using tags"). Where a resource has both, which one counts is unknown, or adding the other would undo a Deny.
 */
function tagOf(tags: Tags, lowerCaseName: string): Values {
  let found: string | undefined;
  for (const name of Object.keys(tags)) {
    if (name.toLowerCase() !== lowerCaseName) continue;
    if (found !== undefined) return UNKNOWN;
    found = tags[name]!;
  }
  return found === undefined ? undefined : [found];
}

/**
 * The other end of the connection; IPv4 in its own form also where it came over an IPv6 socket. A connection that is gone
 * already has none any more: hanging up must not be a way around a Deny.
 */
function addressOf({ remoteAddress }: Origin): Values {
  if (remoteAddress === undefined) return UNKNOWN;
  return [plainAddress(remoteAddress)];
}

/** Of a socket's remote address: IPv4 as such, and without the interface that it came over. */
export function plainAddress(remoteAddress: string): string {
  return remoteAddress.replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '');
}
