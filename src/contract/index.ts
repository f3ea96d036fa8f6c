/** Every operation that this server answers. What is not in this list is 404 UnknownOperation. */
import { eulaOperations } from './eula.ts';
import { eulaAcceptanceOperations } from './eula-acceptance.ts';
import { launchProfileOperations } from './launch-profile.ts';
import { launchProfileMemberOperations } from './launch-profile-member.ts';
import type { InputOf } from './operation.ts';
import { streamingImageOperations } from './streaming-image.ts';
import { streamingSessionOperations } from './streaming-session.ts';
import { streamingSessionBackupOperations } from './streaming-session-backup.ts';
import { streamingSessionStreamOperations } from './streaming-session-stream.ts';
import { studioOperations } from './studio.ts';
import { studioComponentOperations } from './studio-component.ts';
import { studioMemberOperations } from './studio-member.ts';
import { tagOperations } from './tag.ts';

export const operations = [
  ...studioOperations,
  ...studioMemberOperations,
  ...studioComponentOperations,
  ...streamingImageOperations,
  ...launchProfileOperations,
  ...launchProfileMemberOperations,
  ...streamingSessionOperations,
  ...streamingSessionStreamOperations,
  ...streamingSessionBackupOperations,
  ...eulaOperations,
  ...eulaAcceptanceOperations,
  ...tagOperations,
] as const;

type Operations = (typeof operations)[number];

export type OperationName = Operations['name'];

/** Validated input of the operation of this name. */
export type Input<N extends OperationName> = InputOf<Extract<Operations, { readonly name: N }>>;
