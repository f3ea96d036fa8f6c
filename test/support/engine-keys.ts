/** The real key service for the workstations of a bench, which knows the keys of the bench's images besides. */
import { systemClock } from '../../src/clock.ts';
import type { Keys } from '../../src/keys/keys.ts';
import { openLocalKeys } from '../../src/keys/local.ts';

/** @param images the keys that the bench has encrypted its images under. */
export async function openEngineKeys(
  directory: string,
  images: Pick<Keys, 'unseal'>,
  isImage: (id: string) => boolean = (id) => id === 'image',
) {
  const local = await openLocalKeys({
    directory,
    region: 'us-west-2',
    accountId: '000000000000',
    clock: systemClock,
  });
  const keys: Pick<Keys, 'generate' | 'unseal' | 'destroy'> = {
    generate: (id, keyArn) => local.generate(id, keyArn),
    destroy: (id) => local.destroy(id),
    unseal: (id) => (isImage(id) ? images : local).unseal(id),
  };
  return { local, keys };
}
