/** The handler of every operation, by the operation's name. */
import type { Handlers } from './context.ts';
import { eulaHandlers } from './eula.ts';
import { eulaAcceptanceHandlers } from './eula-acceptance.ts';
import { launchProfileHandlers } from './launch-profile.ts';
import { launchProfileMemberHandlers } from './launch-profile-member.ts';
import { streamingImageHandlers } from './streaming-image.ts';
import { streamingSessionHandlers } from './streaming-session.ts';
import { streamingSessionBackupHandlers } from './streaming-session-backup.ts';
import { streamingSessionStreamHandlers } from './streaming-session-stream.ts';
import { studioHandlers } from './studio.ts';
import { studioComponentHandlers } from './studio-component.ts';
import { studioMemberHandlers } from './studio-member.ts';
import { tagHandlers } from './tag.ts';

export const handlers: Handlers = {
  ...studioHandlers,
  ...studioMemberHandlers,
  ...studioComponentHandlers,
  ...streamingImageHandlers,
  ...launchProfileHandlers,
  ...launchProfileMemberHandlers,
  ...streamingSessionHandlers,
  ...streamingSessionStreamHandlers,
  ...streamingSessionBackupHandlers,
  ...eulaHandlers,
  ...eulaAcceptanceHandlers,
  ...tagHandlers,
};
