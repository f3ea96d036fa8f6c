/** What each state of a launch profile, and of the studio around it, lets a caller do. */
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { arnOfProfile, newProfileInput, putProfile } from '../support/rows.ts';
import { testStates } from '../support/states.ts';

testStates<NonNullable<LaunchProfile['state']>>({
  kind: KIND.launchProfile,
  one: 'a launch profile',
  many: 'launch profiles',
  name: 'LaunchProfile',
  id: 'launchProfileId',
  arnOf: arnOfProfile,
  put: (world, studioId, members) => putProfile(world, studioId, members as Partial<LaunchProfile>),
  newOne: newProfileInput,
  table: {
    CREATE_IN_PROGRESS: [200, 409, 409, 409, 409],
    READY: [200, 200, 200, 200, 200],
    UPDATE_IN_PROGRESS: [200, 409, 409, 409, 409],
    UPDATE_FAILED: [200, 200, 200, 200, 200],
    CREATE_FAILED: [200, 409, 200, 200, 200],
    DELETE_IN_PROGRESS: [200, 409, 409, 409, 409],
    DELETE_FAILED: [200, 200, 200, 200, 200],
    DELETED: [200, 404, 404, 404, 404],
  },
  afterUpdate: () => 'UPDATE_IN_PROGRESS',
});
