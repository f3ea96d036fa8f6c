/** What each state of an image, and of the studio around it, lets a caller do. */
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { arnOfImage, putImage } from '../support/rows.ts';
import { testStates } from '../support/states.ts';

testStates<NonNullable<StreamingImage['state']>>({
  kind: KIND.streamingImage,
  one: 'an image',
  many: 'images',
  name: 'StreamingImage',
  id: 'streamingImageId',
  arnOf: arnOfImage,
  put: (world, studioId, members) => putImage(world, studioId, members as Partial<StreamingImage>),
  newOne: async () => ({ name: 'new', ec2ImageId: 'ami-0' }),
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
  // Done before it is answered; what could not be deleted stays that.
  afterUpdate: (state) => (state === 'DELETE_FAILED' ? 'DELETE_FAILED' : 'READY'),
});
