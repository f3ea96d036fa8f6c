/** Names of the kinds of rows, and the studio ids of what belongs to no studio. */
import type { Row } from '../store/store.ts';

export const KIND = {
  studio: 'studio',
  studioComponent: 'studio-component',
  streamingImage: 'streaming-image',
  launchProfile: 'launch-profile',
  launchProfileMember: 'launch-profile-member',
  studioMember: 'studio-member',
  user: 'user',
  group: 'group',
  groupMember: 'group-member',
  streamingSession: 'streaming-session',
  streamingSessionStream: 'streaming-session-stream',
  viewer: 'viewer',
  streamingSessionBackup: 'streaming-session-backup',
  eula: 'eula',
  eulaAcceptance: 'eula-acceptance',
  machineImage: 'machine-image',
  accessKey: 'access-key',
  policy: 'policy',
  grant: 'grant',
  password: 'password',
  installation: 'installation',
} as const;

/** `studioId` of rows that belong to the whole installation. */
export const NO_STUDIO = '-';

/** `studioId` and wire `owner` of images that every studio may read and none may change. */
export const AMAZON = 'amazon';

/** State of rows that have no lifecycle. */
export const PRESENT = 'PRESENT';

/** A first version of a row, to be spread over. */
export function newRow(row: Pick<Row, 'kind' | 'id' | 'createdAt' | 'doc'> & Partial<Row>): Row {
  return {
    studioId: NO_STUDIO,
    parentId: null,
    ownerId: null,
    uniqueName: null,
    state: PRESENT,
    version: 1,
    dueAt: null,
    attempts: 0,
    private: '{}',
    ...row,
  };
}
