/** Amazon resource names: made for answers and policies, read for tags. Which kinds can be tagged is listed here alone. */
import { validationFailed } from '../errors.ts';
import type { DomainSettings } from './context.ts';
import { KIND } from './kinds.ts';
import type { ResourceType } from './policy-terms.ts';

export const TAGGABLE_KINDS = [
  KIND.studio,
  KIND.studioComponent,
  KIND.streamingImage,
  KIND.launchProfile,
  KIND.streamingSession,
  KIND.streamingSessionBackup,
] as const;

type Taggable = (typeof TAGGABLE_KINDS)[number];

type Place = Pick<DomainSettings, 'region' | 'accountId'>;

/** A studio's ARN leaves out the region that its id begins with, as the vendor's did. */
export function arnOf(kind: ResourceType, id: string, { region, accountId }: Place): string {
  const name = kind === KIND.studio ? id.slice(id.indexOf(':') + 1) : id;
  return `arn:aws:nimble:${region}:${accountId}:${kind}/${name}`;
}

/**
 * Kind and id that an ARN of this account and region names; undefined when it is well formed and names something else.
 * @throws ServiceError ValidationException when it is no ARN of this API.
 */
export function parseArn(arn: string, { region, accountId }: Place): { kind: Taggable; id: string } | undefined {
  const match = /^arn:[a-z-]+:nimble:([a-z0-9-]+):(\d{12}):([a-z-]+)\/(.+)$/.exec(arn);
  if (!match) {
    throw validationFailed(
      "1 validation error detected. Value at '/resourceArn' failed to satisfy constraint: Member must be an ARN of the form " +
        'arn:aws:nimble:{region}:{account}:{type}/{id}',
      'MALFORMED_ARN',
    );
  }
  const [, arnRegion, arnAccount, kind, name] = match as unknown as [string, string, string, string, string];
  if (arnRegion !== region || arnAccount !== accountId) return undefined;
  const taggable = TAGGABLE_KINDS.find((one) => one === kind);
  if (!taggable) return undefined;
  return { kind: taggable, id: kind === KIND.studio && !name.includes(':') ? `${region}:${name}` : name };
}
