/** What each state of a component, and of the studio around it, lets a caller do. */
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { arnOfComponent, putComponent } from '../support/rows.ts';
import { testStates } from '../support/states.ts';

testStates<NonNullable<StudioComponent['state']>>({
  kind: KIND.studioComponent,
  one: 'a component',
  many: 'components',
  name: 'StudioComponent',
  id: 'studioComponentId',
  arnOf: arnOfComponent,
  put: (world, studioId, members) => putComponent(world, studioId, members as Partial<StudioComponent>),
  newOne: async () => ({ name: 'new', type: 'CUSTOM' }),
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
