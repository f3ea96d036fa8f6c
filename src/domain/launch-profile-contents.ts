/**
 * What a launch profile names, as it now is. A profile keeps the ids of what has been deleted since; here that is left
 * out, and so is what belongs to another studio, which a profile that failed may name.
 */
import type { LaunchProfile } from '../contract/launch-profile.ts';
import type { Row, Store } from '../store/store.ts';
import { AMAZON, KIND } from './kinds.ts';

/** The profile's images in its order: the studio's own, and those provided for every studio. */
export function imagesOf(profile: Row, store: Store): Promise<Row[]> {
  const { streamConfiguration } = JSON.parse(profile.doc) as LaunchProfile;
  return present(KIND.streamingImage, streamConfiguration!.streamingImageIds, [profile.studioId, AMAZON], store);
}

/** The profile's components in its order. */
export function componentsOf(profile: Row, store: Store): Promise<Row[]> {
  const { studioComponentIds } = JSON.parse(profile.doc) as LaunchProfile;
  return present(KIND.studioComponent, studioComponentIds!, [profile.studioId], store);
}

async function present(
  kind: string,
  ids: readonly string[],
  studioIds: readonly string[],
  store: Store,
): Promise<Row[]> {
  const rows = await Promise.all(ids.map((id) => store.get(kind, id)));
  return rows.filter(
    (row) => row !== undefined && row.state !== 'DELETED' && studioIds.includes(row.studioId),
  ) as Row[];
}
