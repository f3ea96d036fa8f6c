/**
 * What a session's workstation is told to set up at each start: the platform of its image, the initialization scripts of
 * its launch profile's components, whether text may pass the clipboard, and the studio's own key. It is read anew each
 * time, so that a change of the profile reaches a session with its next start. Scripts and parameters may hold secrets:
 * what fails here names the component and never what is in it.
 */
import { ComputeFailure, type Platform, type WorkstationRequest, type WorkstationScript } from '../compute/compute.ts';
import type { LaunchProfile } from '../contract/launch-profile.ts';
import type { StreamingImage } from '../contract/streaming-image.ts';
import type { StreamingSession } from '../contract/streaming-session.ts';
import type { Studio } from '../contract/studio.ts';
import type { StudioComponent } from '../contract/studio-component.ts';
import { KIND } from '../domain/kinds.ts';
import { componentsOf } from '../domain/launch-profile-contents.ts';
import { type Asked, initializationOf } from '../domain/launch-profile-initialization.ts';
import type { Row, Store } from '../store/store.ts';

export type Setup = Pick<WorkstationRequest, 'platform' | 'scripts' | 'clipboard' | 'keyArn'>;

/** @throws ComputeFailure with a sentence for the session's owner. */
export async function setupOf(session: StreamingSession, studioId: string, store: Store): Promise<Setup> {
  const platform = platformOf(await requireImage(session.streamingImageId!, store));
  const row = await requireProfile(session.launchProfileId!, store);
  const studio = await requireStudio(studioId, store);
  const profile = JSON.parse(row.doc) as LaunchProfile;
  const components = (await componentsOf(row, store)).map(({ doc }) => JSON.parse(doc) as StudioComponent);
  return {
    platform,
    scripts: scriptsOf(profile, components, platform),
    clipboard: profile.streamConfiguration?.clipboardMode === 'ENABLED',
    keyArn: studio.studioEncryptionConfiguration?.keyArn,
  };
}

/** One that was deleted since is still there for its sessions: its disk below theirs, and its row (streaming-image-use.ts). */
async function requireImage(streamingImageId: string, store: Store): Promise<StreamingImage> {
  const row = await store.get(KIND.streamingImage, streamingImageId);
  if (row) return JSON.parse(row.doc) as StreamingImage;
  throw new ComputeFailure('AMI_VALIDATION_ERROR', `Streaming image ${streamingImageId} is not there any more`);
}

async function requireProfile(launchProfileId: string, store: Store): Promise<Row> {
  const row = await store.get(KIND.launchProfile, launchProfileId);
  if (row && row.state !== 'DELETED') return row;
  throw new ComputeFailure('INTERNAL_ERROR', `Launch profile ${launchProfileId} is not there any more`);
}

/** Without it nobody knows whose key to seal under, and no other will do. */
async function requireStudio(studioId: string, store: Store): Promise<Studio> {
  const row = await store.get(KIND.studio, studioId);
  if (row) return JSON.parse(row.doc) as Studio;
  throw new ComputeFailure('INTERNAL_ERROR', `Studio ${studioId} is not there any more`);
}

/** The API lets an image say anything in letters. */
function platformOf({ platform = 'LINUX', streamingImageId }: StreamingImage): Platform {
  const named = platform.toUpperCase();
  if (named === 'LINUX' || named === 'WINDOWS') return named;
  const message = `The platform of streaming image ${streamingImageId} is neither LINUX nor WINDOWS`;
  throw new ComputeFailure('AMI_VALIDATION_ERROR', message);
}

/** Scripts of the system first, then those of the user, each in the profile's order of components. */
function scriptsOf(
  profile: LaunchProfile,
  components: readonly StudioComponent[],
  platform: Platform,
): WorkstationScript[] {
  const [launchProfileProtocolVersion] = profile.launchProfileProtocolVersions ?? [];
  if (launchProfileProtocolVersion === undefined) return [];
  const asked: Asked = { platform, launchPurpose: 'INTERACTIVE', launchProfileProtocolVersion };
  const { systemInitializationScripts = [], userInitializationScripts = [] } = initializationOf(
    profile,
    components,
    asked,
  );
  const byId = new Map(components.map((component) => [component.studioComponentId, component]));
  const asRun = (runAs: WorkstationScript['runAs']) => (one: (typeof systemInitializationScripts)[number]) => ({
    name: one.studioComponentName!,
    text: one.script!,
    runAs,
    parameters: parametersOf(byId.get(one.studioComponentId)!),
  });
  return [...systemInitializationScripts.map(asRun('system')), ...userInitializationScripts.map(asRun('user'))];
}

/** What a shell and an operating system take as the name of a variable. */
const ENVIRONMENT_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** What was imported has not been checked by the API. */
function parametersOf({ name, scriptParameters = [] }: StudioComponent): Record<string, string> {
  const entries = scriptParameters.map(({ key = '', value = '' }, index): [string, string] => {
    if (ENVIRONMENT_NAME.test(key) && !value.includes('\0')) return [key, value];
    throw new ComputeFailure(
      'INITIALIZATION_SCRIPT_ERROR',
      `Script parameter ${index + 1} of component ${name} cannot be a variable of an environment: its name must be of ` +
        'letters, digits and _, and not begin with a digit. Change the component.',
    );
  });
  return Object.fromEntries(entries);
}
