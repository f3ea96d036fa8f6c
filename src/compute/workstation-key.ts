/** The data key of a workstation: what its disks on this machine are encrypted under. It never makes one in the place of another. */
import type { Keys } from '../keys/keys.ts';
import type { WorkstationRequest } from './compute.ts';

/**
 * Makes sure that there is a key, sealed under the studio's own.
 * @param isUsed whether something is encrypted under it already: a new key would only hide then that its own is lost.
 * @throws KeyUnavailable
 */
export async function requireKey(
  keys: Pick<Keys, 'generate' | 'unseal'>,
  { id, keyArn }: Pick<WorkstationRequest, 'id' | 'keyArn'>,
  isUsed: boolean,
): Promise<void> {
  if (isUsed) (await keys.unseal(id)).fill(0);
  await keys.generate(id, keyArn);
}
