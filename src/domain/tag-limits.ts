/** How many tags a resource may have, and how long they may be. */
import { type ServiceError, validationFailed } from '../errors.ts';

/** The vendor's usual limits; its model of this API sets none. */
const TAGS_MAX = 50;
const KEY_LENGTH_MAX = 128;
const VALUE_LENGTH_MAX = 256;

type Tags = Readonly<Record<string, string>>;

/** @throws ServiceError ValidationException that names the tag and the limit. */
export function requireTags(tags: Tags): Tags {
  const names = Object.keys(tags);
  if (names.length > TAGS_MAX) throw tagRefused(`Member must have at most ${TAGS_MAX} tags`);
  for (const name of names) {
    if (name.length === 0 || [...name].length > KEY_LENGTH_MAX) {
      throw tagRefused(`Tag keys must have length between 1 and ${KEY_LENGTH_MAX}, inclusive`);
    }
    if (name.toLowerCase().startsWith('aws:')) throw tagRefused('Tag keys must not begin with aws:');
    if ([...tags[name]!].length > VALUE_LENGTH_MAX) {
      throw tagRefused(`Tag values must have length less than or equal to ${VALUE_LENGTH_MAX}`);
    }
  }
  return tags;
}

function tagRefused(rule: string): ServiceError {
  return validationFailed(
    `1 validation error detected. Value at '/tags' failed to satisfy constraint: ${rule}`,
    'INVALID_TAGS',
  );
}
