/**
 * Users who call every operation at random, by turns careful and careless: with client tokens and without, again when no
 * answer came, again long afterwards, with a token that was used for something else. They call with everybody's keys, and
 * change what the others may. Each answer is held against what everybody was told before, and against the oracle.
 */
import assert from 'node:assert/strict';
import type { OperationName } from '../../src/contract/index.ts';
import type { LaunchProfile } from '../../src/contract/launch-profile.ts';
import type { StreamingImage } from '../../src/contract/streaming-image.ts';
import type { Studio } from '../../src/contract/studio.ts';
import type { StudioComponent } from '../../src/contract/studio-component.ts';
import { KIND } from '../../src/domain/kinds.ts';
import type { ServiceError } from '../../src/errors.ts';
import { assertConforms } from '../support/conforms.ts';
import type { World } from '../support/domain.ts';
import type { Random } from '../support/random.ts';
import { arnOfComponent, arnOfImage, arnOfProfile, arnOfStudio, IDENTITY_STORE_ID } from '../support/rows.ts';
import { type Cluster, type Outcome, turns } from './cluster.ts';
import type { History, PendingChange } from './history.ts';
import type { Ledger } from './ledger.ts';
import type { AskedCall, Oracle } from './oracle.ts';
import { type Caller, changeRights, type People, RIGHTS_CHANGES, type RightsChange } from './people.ts';
import { actOnSessions, deleteProvidedImage, type SessionStudio } from './sessions.ts';
import type { WatchedStore } from './watched-store.ts';

export const MACHINE_IMAGES = ['ami-1', 'ami-2', 'ami-missing'];
export const CUSTOMER_KEYS = [
  'arn:aws:kms:us-west-2:123456789012:key/1',
  'arn:aws:kms:us-west-2:123456789012:key/missing',
];
const COMPONENT_TYPES = ['ACTIVE_DIRECTORY', 'SHARED_FILE_SYSTEM', 'SHARED_FILE_SYSTEM', 'CUSTOM'];
const STUDIO_NAMES = ['alpha', 'beta', 'gamma'];
const TAG_KEYS = ['show', 'shot', '__proto__', '🎬'];
const RETRIES_MAX = 6;
/** Refusals that can befall whoever calls correctly while others change things. */
const EXPECTED = [
  'ConflictException',
  'ResourceNotFoundException',
  'ServiceQuotaExceededException',
  'AccessDeniedException',
  'UnrecognizedClientException',
  'InternalServerErrorException',
];
/** Answers of a caller whose rights are gone. */
const RIGHTS_GONE = ['AccessDeniedException', 'UnrecognizedClientException'];
const GIVING: readonly RightsChange[] = ['user enable', 'user enable', 'group add', 'policy attach'];
const ADMINISTRATOR_SHARE = 0.55;

type Input = Record<string, unknown>;

/** Of the operations on one resource. */
interface AnyAnswer {
  readonly studio?: Studio;
  readonly streamingImage?: StreamingImage;
  readonly studioComponent?: StudioComponent;
  readonly launchProfile?: LaunchProfile;
}

/** Something that lives in a studio. */
interface Tenant {
  readonly studioId: string;
  readonly id: string;
}

/** A call with a token that was answered. */
interface Success {
  readonly caller: Caller;
  readonly name: OperationName;
  readonly input: Input;
  /** The resource it was about. */
  readonly id: string;
  /** Until then the token is certainly remembered. */
  readonly rememberedUntil: number;
}

/** What all users of one simulation know together. */
export interface Shared {
  readonly world: World;
  readonly cluster: Cluster;
  readonly history: History;
  readonly watched: WatchedStore;
  readonly eulaIds: readonly string[];
  readonly providedIds: readonly string[];
  readonly studioIds: string[];
  readonly images: Tenant[];
  readonly components: Tenant[];
  readonly profiles: Tenant[];
  /** Users, and last a group of them. */
  readonly principalIds: readonly string[];
  readonly people: People;
  readonly oracle: Oracle;
  readonly ledger: Ledger;
  readonly sessionStudios: readonly SessionStudio[];
  readonly successes: Success[];
  /** How often each operation was answered. */
  readonly answered: Map<OperationName, number>;
  /** What each caller was told, and how often each change of rights was made. */
  readonly told: Map<string, { answered: number; refused: number }>;
  readonly rightsChanged: Map<RightsChange, number>;
  /** Names that images, components and profiles were created with, and how often that may have been done: once with a token. */
  readonly created: Map<string, { acknowledgedId?: string; certain: boolean; refused: boolean }>;
  counter: number;
}

/** Lets one user do some things, one after another. */
export async function liveAs(shared: Shared, random: Random, actions: number): Promise<void> {
  const user = new User(shared, random);
  for (let action = 0; action < actions; action += 1) {
    await user.act();
    shared.watched.assertSound();
    await turns(random.below(4));
  }
}

class User {
  readonly #shared: Shared;
  readonly #random: Random;
  /** Whose key the user has in this action. */
  #caller: Caller;

  constructor(shared: Shared, random: Random) {
    this.#shared = shared;
    this.#random = random;
    this.#caller = shared.people.administrator;
  }

  act(): Promise<void> {
    const { studioIds, people } = this.#shared;
    this.#caller = this.#random.chance(ADMINISTRATOR_SHARE) ? people.administrator : this.#random.pick(people.others);
    if (studioIds.length === 0 || this.#random.chance(0.03)) return this.#createStudio();
    if (this.#caller.role === 'user' && this.#random.chance(0.5)) return this.#actAsArtist();
    const actions: [weight: number, action: () => Promise<void>][] = [
      [14, () => this.#createImage()],
      [14, () => this.#getImage()],
      [8, () => this.#listImages()],
      [16, () => this.#updateImage()],
      [9, () => this.#deleteImage()],
      [9, () => this.#createComponent()],
      [6, () => this.#getComponent()],
      [4, () => this.#listComponents()],
      [9, () => this.#updateComponent()],
      [4, () => this.#deleteComponent()],
      [8, () => this.#createProfile()],
      [6, () => this.#getProfile()],
      [4, () => this.#listProfiles()],
      [8, () => this.#updateProfile()],
      [3, () => this.#deleteProfile()],
      [8, () => this.#changeMembers()],
      [5, () => this.#readMembers()],
      [4, () => this.#getStudio()],
      [3, () => this.#listStudios()],
      [4, () => this.#updateStudio()],
      [2, () => this.#deleteStudio()],
      [2, () => this.#repairStudio()],
      [3, () => this.#acceptEulas()],
      [3, () => this.#listAcceptances()],
      [2, () => this.#readEulas()],
      [8, () => this.#tag()],
      [4, () => this.#untag()],
      [4, () => this.#listTags()],
      [8, () => this.#replay()],
      [4, () => this.#misuseToken()],
      [24, () => this.#useSessions()],
      [18, () => this.#changeRights()],
      [1, () => this.#deleteProvidedImage()],
      [8, () => this.#trespass()],
    ];
    let left = this.#random.below(actions.reduce((total, [weight]) => total + weight, 0));
    for (const [weight, action] of actions) {
      left -= weight;
      if (left < 0) return action();
    }
    throw new Error('weights do not add up');
  }

  /** What users come for. */
  #actAsArtist(): Promise<void> {
    const doing = this.#random.below(10);
    if (doing < 6) return this.#useSessions();
    if (doing < 8) return this.#readMembers();
    return doing < 9 ? this.#listProfiles() : this.#readEulas();
  }

  // --- Reads ---

  async #getImage(): Promise<void> {
    const image = this.#pickImage();
    if (!image) return;
    const start = this.#shared.history.tick();
    const there = this.#row(KIND.streamingImage, image.id);
    const outcome = await this.#call('GetStreamingImage', { studioId: image.studioId, streamingImageId: image.id });
    if (outcome === 'lost') return;
    if ('answer' in outcome)
      return this.#checkImage((outcome.answer as { streamingImage: StreamingImage }).streamingImage, start);
    const here = this.#row(KIND.streamingImage, image.id);
    if (outcome.refusal.name === 'ResourceNotFoundException' && !this.#shared.providedIds.includes(image.id)) {
      assert.ok(!there || !here, `${image.id} was there and not found`);
    }
  }

  async #listImages(): Promise<void> {
    const studioId = this.#pickStudio();
    const owner = this.#random.pick([undefined, undefined, studioId, 'amazon', 'someone']);
    const start = this.#shared.history.tick();
    const before = this.#rowsIn(studioId, KIND.streamingImage);
    const outcome = await this.#call('ListStreamingImages', { studioId, ...(owner && { owner }) });
    if (outcome === 'lost' || 'refusal' in outcome) return;
    const { streamingImages, nextToken } = outcome.answer as { streamingImages: StreamingImage[]; nextToken?: string };
    for (const image of streamingImages) this.#checkImage(image, start);
    const listed = new Set(streamingImages.map(({ streamingImageId }) => streamingImageId!));
    assert.equal(listed.size, streamingImages.length);
    for (const { owner: found } of streamingImages) {
      assert.ok(owner ? found === owner : found === studioId || found === 'amazon');
    }
    if (nextToken || (owner && owner !== studioId)) return;
    const after = new Set(this.#rowsIn(studioId, KIND.streamingImage));
    for (const id of before) assert.ok(!after.has(id) || listed.has(id), `${id} is missing in the list`);
    for (const id of listed) this.#learn(studioId, id);
  }

  async #getComponent(): Promise<void> {
    const component = this.#pickComponent();
    if (!component) return;
    const { studioId, id } = component;
    const start = this.#shared.history.tick();
    const there = this.#row(KIND.studioComponent, id);
    const outcome = await this.#call('GetStudioComponent', { studioId, studioComponentId: id });
    if (outcome === 'lost') return;
    if ('answer' in outcome) return this.#checkComponent((outcome.answer as AnyAnswer).studioComponent!, start);
    if (outcome.refusal.name === 'ResourceNotFoundException') {
      assert.ok(!there || !this.#row(KIND.studioComponent, id), `${id} was there and not found`);
    }
  }

  async #listComponents(): Promise<void> {
    const studioId = this.#pickStudio();
    const start = this.#shared.history.tick();
    const filters = {
      ...(this.#random.chance(0.3) && { states: ['READY', 'DELETED'] }),
      ...(this.#random.chance(0.3) && { types: ['CUSTOM'] }),
    };
    const idsIn = () => this.#rowsIn(studioId, KIND.studioComponent);
    const before = idsIn();
    const listed: string[] = [];
    let nextToken: string | undefined;
    do {
      const input = { studioId, ...filters, ...(nextToken && { nextToken }), maxResults: 1 + this.#random.below(4) };
      const outcome = await this.#call('ListStudioComponents', input);
      if (outcome === 'lost' || 'refusal' in outcome) return;
      const page = outcome.answer as { studioComponents: StudioComponent[]; nextToken?: string };
      for (const component of page.studioComponents) {
        this.#checkComponent(component, start);
        if (filters.states) assert.ok(filters.states.includes(component.state!));
        if (filters.types) assert.ok(filters.types.includes(component.type!));
        listed.push(component.studioComponentId!);
      }
      nextToken = page.nextToken;
    } while (nextToken);
    assert.equal(new Set(listed).size, listed.length);
    for (const id of listed) this.#learnComponent(studioId, id);
    if (Object.keys(filters).length > 0) return;
    const after = new Set(idsIn());
    for (const id of before) assert.ok(!after.has(id) || listed.includes(id), `${id} is missing in the list`);
  }

  async #getProfile(): Promise<void> {
    const profile = this.#pickProfile();
    if (!profile) return;
    const place = { studioId: profile.studioId, launchProfileId: profile.id };
    const asked = { launchProfileProtocolVersions: ['2021-03-31'], launchPurpose: 'RENDER', platform: 'LINUX' };
    await this.#call('GetLaunchProfileInitialization', { ...place, ...asked });
    const start = this.#shared.history.tick();
    const there = this.#row(KIND.launchProfile, profile.id);
    const outcome = await this.#call(
      this.#random.pick(['GetLaunchProfile', 'GetLaunchProfileDetails'] as const),
      place,
    );
    if (outcome === 'lost') return;
    if ('answer' in outcome) return this.#checkProfile((outcome.answer as AnyAnswer).launchProfile!, start);
    if (outcome.refusal.name === 'ResourceNotFoundException') {
      assert.ok(!there || !this.#row(KIND.launchProfile, profile.id), `${profile.id} was there and not found`);
    }
  }

  async #listProfiles(): Promise<void> {
    const studioId = this.#pickStudio();
    const start = this.#shared.history.tick();
    const principalId = this.#random.pick([undefined, ...this.#shared.principalIds]);
    const before = this.#rowsIn(studioId, KIND.launchProfile);
    const outcome = await this.#call('ListLaunchProfiles', { studioId, ...(principalId && { principalId }) });
    if (outcome === 'lost' || 'refusal' in outcome) return;
    const { launchProfiles } = outcome.answer as { launchProfiles: LaunchProfile[] };
    for (const profile of launchProfiles) this.#checkProfile(profile, start);
    const listed = launchProfiles.map(({ launchProfileId }) => launchProfileId!);
    for (const id of listed) this.#learnProfile(studioId, id);
    if (principalId) return;
    const after = new Set(this.#rowsIn(studioId, KIND.launchProfile));
    for (const id of before) assert.ok(!after.has(id) || listed.includes(id), `${id} is missing in the list`);
  }

  async #getStudio(): Promise<void> {
    const studioId = this.#pickStudio();
    const start = this.#shared.history.tick();
    const there = this.#row(KIND.studio, studioId);
    const outcome = await this.#call('GetStudio', { studioId });
    if (outcome === 'lost') return;
    if ('answer' in outcome) return this.#checkStudio((outcome.answer as { studio: Studio }).studio, start);
    if (outcome.refusal.name === 'ResourceNotFoundException') {
      assert.ok(!there || !this.#row(KIND.studio, studioId), `${studioId} was there and not found`);
    }
  }

  async #listStudios(): Promise<void> {
    const start = this.#shared.history.tick();
    const outcome = await this.#call('ListStudios', {});
    if (outcome === 'lost' || 'refusal' in outcome) return;
    const { studios } = outcome.answer as { studios: Studio[] };
    for (const studio of studios) this.#checkStudio(studio, start);
  }

  async #listTags(): Promise<void> {
    const { id, arn } = this.#pickTagged();
    const start = this.#shared.history.tick();
    const outcome = await this.#call('ListTagsForResource', { resourceArn: arn });
    if (outcome === 'lost' || 'refusal' in outcome) return;
    this.#shared.history.assertTagsExplained(id, (outcome.answer as { tags: Record<string, string> }).tags, start);
  }

  async #readEulas(): Promise<void> {
    const eulaId = this.#random.pick(this.#shared.eulaIds);
    const outcome = await this.#call('GetEula', { eulaId });
    if (outcome !== 'lost' && 'answer' in outcome) {
      assert.equal((outcome.answer as { eula: { eulaId: string } }).eula.eulaId, eulaId);
    }
    const listed = await this.#call('ListEulas', {});
    if (listed === 'lost' || 'refusal' in listed) return;
    assert.equal((listed.answer as { eulas: object[] }).eulas.length, this.#shared.eulaIds.length);
  }

  async #listAcceptances(): Promise<void> {
    const studioId = this.#pickStudio();
    const acceptances = () => this.#rows(KIND.eulaAcceptance).filter((row) => row.studioId === studioId);
    const before = acceptances().map(({ id }) => id);
    const outcome = await this.#call('ListEulaAcceptances', { studioId });
    if (outcome === 'lost' || 'refusal' in outcome) return;
    const { eulaAcceptances } = outcome.answer as { eulaAcceptances: { eulaAcceptanceId: string; eulaId: string }[] };
    const listed = eulaAcceptances.map(({ eulaAcceptanceId }) => eulaAcceptanceId);
    const after = acceptances().map(({ id }) => id);
    for (const id of before) assert.ok(!after.includes(id) || listed.includes(id), `acceptance ${id} is missing`);
    assert.equal(new Set(eulaAcceptances.map(({ eulaId }) => eulaId)).size, eulaAcceptances.length);
  }

  // --- Changes ---

  async #createStudio(): Promise<void> {
    const encryption = this.#random.chance(0.4)
      ? { studioEncryptionConfiguration: { keyType: 'CUSTOMER_MANAGED_KEY', keyArn: this.#random.pick(CUSTOMER_KEYS) } }
      : {};
    const input = {
      adminRoleArn: 'arn:admin',
      ...encryption,
      displayName: this.#unique('studio'),
      studioName: this.#random.pick(STUDIO_NAMES),
      userRoleArn: 'arn:user',
    };
    const outcome = await this.#change('CreateStudio', input, ({ studio }) => studio!.studioId!);
    if (outcome === 'lost' || 'refusal' in outcome) return;
    const { studioId } = (outcome.answer as { studio: Studio }).studio;
    if (!this.#shared.studioIds.includes(studioId!)) this.#shared.studioIds.push(studioId!);
  }

  async #updateStudio(): Promise<void> {
    const studioId = this.#pickStudio();
    const displayName = this.#unique('display');
    const pending = this.#shared.history.change(studioId, { displayName });
    settle(pending, await this.#change('UpdateStudio', { studioId, displayName }, () => studioId));
  }

  async #deleteStudio(): Promise<void> {
    const studioId = this.#pickOf(this.#shared.studioIds);
    await this.#change('DeleteStudio', { studioId }, () => studioId);
  }

  /** There is something to repair only where the address has changed since the studio had its own. */
  async #repairStudio(): Promise<void> {
    const studioId = this.#pickStudio();
    await this.#change('StartStudioSSOConfigurationRepair', { studioId }, () => studioId, ['ValidationException']);
  }

  async #createImage(): Promise<void> {
    const studioId = this.#pickStudio();
    const name = this.#unique('image');
    const input = {
      studioId,
      ...(this.#random.chance(0.5) && { description: this.#unique('made') }),
      ec2ImageId: this.#random.pick(MACHINE_IMAGES),
      name,
      tags: this.#newTags(),
    };
    const id = await this.#create(
      'CreateStreamingImage',
      name,
      input,
      (answer) => answer.streamingImage!.streamingImageId!,
    );
    if (id) this.#learn(studioId, id);
  }

  /** Creates what has this name, and keeps in mind whether it may have been done, and how often. @returns its id. */
  async #create(
    operation: OperationName,
    name: string,
    input: Input,
    idOf: (answer: AnyAnswer) => string,
  ): Promise<string | undefined> {
    const { created, world } = this.#shared;
    const entry: { acknowledgedId?: string; certain: boolean; refused: boolean } = { certain: false, refused: false };
    created.set(name, entry);
    const tokenEndsAt = world.clock.now() + world.services.settings.tokenMs;
    const outcome = await this.#change(operation, input, idOf);
    // Once the token may have been forgotten, a call that was sent again may rightly have made a second one.
    entry.certain = world.clock.now() < tokenEndsAt;
    if (outcome === 'lost') return undefined;
    if ('refusal' in outcome) {
      entry.refused = outcome.certain;
      return undefined;
    }
    entry.acknowledgedId = idOf(outcome.answer as AnyAnswer);
    return entry.acknowledgedId;
  }

  async #updateImage(): Promise<void> {
    const image = this.#pickImage();
    if (!image) return;
    const changes: Record<string, string> = {};
    if (this.#random.chance(0.6)) changes.name = this.#unique('name');
    if (this.#random.chance(0.4)) changes.description = this.#random.pick(['', this.#unique('description')]);
    const pending = this.#shared.history.change(image.id, changes);
    const input = { studioId: image.studioId, streamingImageId: image.id, ...changes };
    settle(pending, await this.#change('UpdateStreamingImage', input, () => image.id));
  }

  async #deleteImage(): Promise<void> {
    const image = this.#pickImage();
    if (!image) return;
    const input = { studioId: image.studioId, streamingImageId: image.id };
    const outcome = await this.#change('DeleteStreamingImage', input, () => image.id);
    if (outcome !== 'lost' && 'answer' in outcome) this.#shared.history.deleted(image.id);
  }

  async #createComponent(): Promise<void> {
    const studioId = this.#pickStudio();
    const name = this.#unique('component');
    const input = {
      studioId,
      ...(this.#random.chance(0.5) && { description: this.#unique('made') }),
      name,
      type: this.#random.pick(COMPONENT_TYPES),
      tags: this.#newTags(),
    };
    const id = await this.#create(
      'CreateStudioComponent',
      name,
      input,
      (answer) => answer.studioComponent!.studioComponentId!,
    );
    if (id) this.#learnComponent(studioId, id);
  }

  async #updateComponent(): Promise<void> {
    const component = this.#pickComponent();
    if (!component) return;
    const input = { studioId: component.studioId, studioComponentId: component.id };
    if (this.#random.chance(0.3)) {
      // Alone, because the rest of an update into a second Active Directory would not be done either.
      const type = this.#random.pick(COMPONENT_TYPES);
      await this.#change('UpdateStudioComponent', { ...input, type }, () => component.id);
      return;
    }
    const changes: Record<string, string> = {};
    if (this.#random.chance(0.6)) changes.name = this.#unique('name');
    if (this.#random.chance(0.4)) changes.description = this.#random.pick(['', this.#unique('description')]);
    const pending = this.#shared.history.change(component.id, changes);
    settle(pending, await this.#change('UpdateStudioComponent', { ...input, ...changes }, () => component.id));
  }

  async #deleteComponent(): Promise<void> {
    const component = this.#pickComponent();
    if (!component) return;
    const input = { studioId: component.studioId, studioComponentId: component.id };
    const outcome = await this.#change('DeleteStudioComponent', input, () => component.id);
    if (outcome !== 'lost' && 'answer' in outcome) this.#shared.history.deleted(component.id);
  }

  async #createProfile(): Promise<void> {
    const studioId = this.#pickStudio();
    const [studioComponentIds, streamingImageIds] = [
      this.#someOf(studioId, KIND.studioComponent),
      this.#imagesFor(studioId),
    ];
    if (studioComponentIds.length === 0) return;
    const name = this.#unique('profile');
    const input = {
      studioId,
      ec2SubnetIds: [],
      launchProfileProtocolVersions: ['2021-03-31'],
      name,
      streamConfiguration: { clipboardMode: 'ENABLED', ec2InstanceTypes: ['g5.xlarge'], streamingImageIds },
      studioComponentIds,
      tags: this.#newTags(),
    };
    const id = await this.#create(
      'CreateLaunchProfile',
      name,
      input,
      ({ launchProfile }) => launchProfile!.launchProfileId!,
    );
    if (id) this.#learnProfile(studioId, id);
  }

  /** What is answered may still be taken back, when an image has gone: it is never certain that the old value is not. */
  async #updateProfile(): Promise<void> {
    const profile = this.#pickProfile();
    if (!profile) return;
    const { studioId, id } = profile;
    const changes = { name: this.#unique('name'), description: this.#random.pick(['', this.#unique('description')]) };
    const streamingImageIds = this.#imagesFor(studioId);
    const streamConfiguration = { clipboardMode: 'DISABLED', ec2InstanceTypes: ['g3s.xlarge'], streamingImageIds };
    const input = {
      studioId,
      launchProfileId: id,
      ...changes,
      ...(this.#random.chance(0.4) && { streamConfiguration }),
    };
    const pending = this.#shared.history.change(id, changes);
    const outcome = await this.#change('UpdateLaunchProfile', input, () => id);
    if (outcome !== 'lost' && 'refusal' in outcome) settle(pending, outcome);
  }

  async #deleteProfile(): Promise<void> {
    const profile = this.#pickProfile();
    if (!profile) return;
    const input = { studioId: profile.studioId, launchProfileId: profile.id };
    const outcome = await this.#change('DeleteLaunchProfile', input, () => profile.id);
    if (outcome !== 'lost' && 'answer' in outcome) this.#shared.history.deleted(profile.id);
  }

  /** Puts people into a profile or takes them out, or makes them administrators of a studio. */
  async #changeMembers(): Promise<void> {
    const { principalIds } = this.#shared;
    const identityStoreId = IDENTITY_STORE_ID;
    const [user, anybody] = [
      principalIds[this.#random.below(principalIds.length - 1)]!,
      this.#random.pick(principalIds),
    ];
    // Whoever is disabled is not put anywhere.
    const disabled = ['ValidationException'];
    if (this.#random.chance(0.3)) {
      const studioId = this.#pickStudio();
      const members = [{ principalId: user, persona: 'ADMINISTRATOR' }];
      if (this.#random.chance(0.3))
        await this.#change('DeleteStudioMember', { studioId, principalId: user }, () => studioId);
      else await this.#change('PutStudioMembers', { studioId, identityStoreId, members }, () => studioId, disabled);
      return;
    }
    const profile = this.#pickMemberProfile();
    if (!profile) return;
    const place = { studioId: profile.studioId, launchProfileId: profile.id };
    const members = [anybody, user].map((principalId) => ({ principalId, persona: 'USER' }));
    if (this.#random.chance(0.6)) {
      const input = { ...place, identityStoreId, members };
      await this.#change('PutLaunchProfileMembers', input, () => profile.id, disabled);
    } else if (this.#random.chance(0.7)) {
      await this.#change('DeleteLaunchProfileMember', { ...place, principalId: anybody }, () => profile.id);
    } else await this.#call('UpdateLaunchProfileMember', { ...place, principalId: anybody, persona: 'USER' });
  }

  async #readMembers(): Promise<void> {
    const studioId = this.#pickStudio();
    const principalId = this.#random.pick(this.#shared.principalIds);
    await this.#call('GetStudioMember', { studioId, principalId });
    await this.#call('ListStudioMembers', { studioId });
    const profile = this.#pickMemberProfile();
    if (!profile) return;
    const place = { studioId: profile.studioId, launchProfileId: profile.id };
    await this.#call('GetLaunchProfileMember', { ...place, principalId });
    await this.#call('ListLaunchProfileMembers', place);
  }

  async #acceptEulas(): Promise<void> {
    const studioId = this.#pickStudio();
    const eulaIds = [this.#random.pick(this.#shared.eulaIds), this.#random.pick(this.#shared.eulaIds)];
    await this.#change('AcceptEulas', { studioId, eulaIds }, () => studioId);
  }

  async #tag(): Promise<void> {
    const { id, arn } = this.#pickTagged();
    const tags = JSON.parse(`{${JSON.stringify(this.#random.pick(TAG_KEYS))}:${JSON.stringify(this.#newTag())}}`);
    const [[key, value]] = Object.entries(tags) as [[string, string]];
    const pending = this.#shared.history.change(id, { [`tag ${key}`]: value });
    settle(pending, certainly(await this.#call('TagResource', { resourceArn: arn, tags })));
  }

  async #untag(): Promise<void> {
    const { id, arn } = this.#pickTagged();
    const key = this.#random.pick(TAG_KEYS);
    const pending = this.#shared.history.change(id, { [`tag ${key}`]: undefined });
    settle(pending, certainly(await this.#call('UntagResource', { resourceArn: arn, tagKeys: [key] })));
  }

  #useSessions(): Promise<void> {
    const { sessionStudios, watched } = this.#shared;
    const studio = this.#random.pick(sessionStudios);
    return actOnSessions(studio, (name, input) => this.#call(name, input), this.#caller, this.#random, watched);
  }

  /** On the command line; the first one that sessions are made of stays. */
  async #deleteProvidedImage(): Promise<void> {
    const { cluster, world, providedIds, sessionStudios } = this.#shared;
    const [, ...below] = sessionStudios[0]!.streamingImageIds.filter((id) => providedIds.includes(id));
    await cluster.command(() => deleteProvidedImage(world, this.#random.pick(below)));
  }

  /** Asks for what is in one studio under the name of another. */
  async #trespass(): Promise<void> {
    const studioId = this.#pickStudio();
    const [image, component, profile] = [this.#pickImage(), this.#pickComponent(), this.#pickProfile()];
    const session = this.#random.pick(this.#shared.sessionStudios);
    const asked: readonly [OperationName, string, Tenant | undefined][] = [
      ['GetStreamingImage', 'streamingImageId', image],
      ['UpdateStreamingImage', 'streamingImageId', image],
      ['DeleteStudioComponent', 'studioComponentId', component],
      ['GetLaunchProfile', 'launchProfileId', profile],
      ['StopStreamingSession', 'sessionId', { studioId: session.studioId, id: session.sessionIds.at(-1)! }],
    ];
    const [name, member, tenant] = this.#random.pick(asked);
    if (!tenant?.id || tenant.studioId === studioId || this.#shared.providedIds.includes(tenant.id)) return;
    const outcome = await this.#call(name, { studioId, [member]: tenant.id });
    assert.ok(outcome === 'lost' || 'refusal' in outcome, `${name} found ${tenant.id} in ${studioId}`);
  }

  async #changeRights(): Promise<void> {
    const { cluster, world, people, rightsChanged } = this.#shared;
    // Rights are rather given than taken, or soon nobody may do anything.
    const change = this.#random.pick(this.#random.chance(0.4) ? GIVING : RIGHTS_CHANGES);
    const done = await cluster.command(() => changeRights(change, world, people, this.#random));
    if (done) rightsChanged.set(change, (rightsChanged.get(change) ?? 0) + 1);
  }

  // --- Tokens ---

  /** Sends a call again that succeeded before: it succeeds, and shows how its subject now stands. */
  async #replay(): Promise<void> {
    const success = this.#pickSuccess();
    if (success) await this.replay(success);
  }

  async replay(success: Success): Promise<void> {
    const { name, input, id, rememberedUntil } = success;
    const { history, world, created } = this.#shared;
    this.#caller = success.caller;
    const start = history.tick();
    let kind: string = name.includes('Image') ? KIND.streamingImage : KIND.studio;
    if (name.includes('Component')) kind = KIND.studioComponent;
    if (name.includes('LaunchProfile')) kind = KIND.launchProfile;
    const there = this.#row(kind, id);
    const outcome = await this.#again(success, input);
    if (world.clock.now() >= rememberedUntil) {
      // It was forgotten while this was on its way, perhaps, and rightly done once more.
      const entry = created.get(input.name as string);
      if (entry) entry.certain = false;
      return;
    }
    if (outcome === 'lost') return;
    if ('refusal' in outcome) {
      if (['InternalServerErrorException', ...RIGHTS_GONE].includes(outcome.refusal.name)) return;
      assert.equal(
        outcome.refusal.name,
        'ResourceNotFoundException',
        `a replay of ${name}: ${outcome.refusal.message}`,
      );
      assert.ok(!there || !this.#row(kind, id), `a replay of ${name} did not find ${id}, which is there`);
      return;
    }
    const answer = outcome.answer as AnyAnswer;
    if (answer.streamingImage) {
      assert.equal(answer.streamingImage.streamingImageId, id);
      this.#checkImage(answer.streamingImage, start);
    }
    if (answer.studioComponent) {
      assert.equal(answer.studioComponent.studioComponentId, id);
      this.#checkComponent(answer.studioComponent, start);
    }
    if (answer.launchProfile) {
      assert.equal(answer.launchProfile.launchProfileId, id);
      this.#checkProfile(answer.launchProfile, start);
    }
    if (answer.studio) {
      assert.equal(answer.studio.studioId, id);
      this.#checkStudio(answer.studio, start);
    }
  }

  async #misuseToken(): Promise<void> {
    const success = this.#pickSuccess();
    if (!success || Object.keys(success.input).length < 3) return;
    const { name, input, rememberedUntil } = success;
    const changed: Input =
      name === 'AcceptEulas' ? { eulaIds: ['other'] } : { displayName: 'other', name: 'other', tags: { o: 't' } };
    if (name.startsWith('Delete')) return;
    this.#caller = success.caller;
    const outcome = await this.#again(success, { ...input, ...changed }, ['ValidationException']);
    if (outcome === 'lost' || this.#shared.world.clock.now() >= rememberedUntil) return;
    assert.ok('refusal' in outcome, `${name} took a token that was used for another call`);
    if (!['InternalServerErrorException', ...RIGHTS_GONE].includes(outcome.refusal.name))
      assert.equal(outcome.refusal.code, 'CLIENT_TOKEN_REUSED');
  }

  /** With a token of before. Once that is forgotten the call is rightly done, and an update changes something again. */
  async #again({ name, id, rememberedUntil }: Success, input: Input, alsoExpected: string[] = []): Promise<Outcome> {
    const { history, world } = this.#shared;
    const pending = name.startsWith('Update') ? history.change(id, valuesIn(input)) : undefined;
    const outcome = await this.#call(name, input, alsoExpected);
    if (world.clock.now() < rememberedUntil) pending?.refuse();
    return outcome;
  }

  /** Calls, mostly with a token; and when no answer comes, mostly again. `certain`: a refusal that it was never done. */
  async #change(
    name: OperationName,
    input: Input,
    idOf: (answer: AnyAnswer) => string,
    alsoExpected: string[] = [],
  ): Promise<CertainOutcome> {
    const { world, successes } = this.#shared;
    const rememberedUntil = world.clock.now() + world.services.settings.tokenMs;
    const token = this.#random.chance(0.75) ? this.#unique('token') : undefined;
    const call = token ? { ...input, clientToken: token } : input;
    let outcome = await this.#call(name, call, alsoExpected);
    let sent = 1;
    while (token && outcome === 'lost' && sent < RETRIES_MAX && this.#random.chance(0.9)) {
      outcome = await this.#call(name, call, alsoExpected);
      sent += 1;
    }
    if (outcome === 'lost') return outcome;
    if ('refusal' in outcome) return { ...outcome, certain: sent === 1 };
    const id = idOf(outcome.answer as AnyAnswer);
    if (token) successes.push({ caller: this.#caller, name, input: call, id, rememberedUntil });
    return outcome;
  }

  // --- Helpers ---

  async #call(name: OperationName, input: Input, alsoExpected: string[] = []): Promise<Outcome> {
    const { cluster, oracle, ledger, watched, told } = this.#shared;
    const caller = this.#caller;
    const call: AskedCall = { requestId: this.#unique('request'), caller, name, input, from: watched.facts.now };
    const { accessKeyId } = caller;
    const outcome = await ledger.during(call, () =>
      cluster.call({ requestId: call.requestId, accessKeyId, name, input }),
    );
    if (outcome === 'lost') return outcome;
    oracle.assertRightful(call, 'refusal' in outcome ? outcome.refusal : undefined);
    const counts = told.get(caller.called) ?? { answered: 0, refused: 0 };
    told.set(caller.called, counts);
    if ('answer' in outcome) counts.answered += 1;
    else if (RIGHTS_GONE.includes(outcome.refusal.name)) counts.refused += 1;
    if ('refusal' in outcome) {
      const { refusal } = outcome;
      // What a profile names may have gone since it was looked up.
      if (name.endsWith('LaunchProfile')) alsoExpected = [...alsoExpected, 'ValidationException'];
      assert.ok([...EXPECTED, ...alsoExpected].includes(refusal.name), `${name}: ${refusal.name}: ${refusal.message}`);
      return outcome;
    }
    if (name !== 'TagResource' && name !== 'UntagResource') assertConforms(name, outcome.answer);
    this.#shared.answered.set(name, (this.#shared.answered.get(name) ?? 0) + 1);
    return outcome;
  }

  #checkImage(image: StreamingImage, start: number): void {
    this.#shared.history.assertExplained(image.streamingImageId!, image, start);
  }

  #checkComponent(component: StudioComponent, start: number): void {
    this.#shared.history.assertExplained(component.studioComponentId!, component, start);
  }

  #checkProfile(profile: LaunchProfile, start: number): void {
    this.#shared.history.assertExplained(profile.launchProfileId!, profile, start);
  }

  #checkStudio(studio: Studio, start: number): void {
    this.#shared.history.assertExplained(studio.studioId!, studio, start);
  }

  #unique(prefix: string): string {
    this.#shared.counter += 1;
    return `${prefix}-${this.#shared.counter}`;
  }

  /** Also one of those that stay. */
  #pickStudio(): string {
    const { studioIds, sessionStudios } = this.#shared;
    // Where users are somebody.
    const share = this.#caller.role === 'user' ? 0.8 : 0.3;
    return this.#random.chance(share) ? this.#random.pick(sessionStudios).studioId : this.#pickOf(studioIds);
  }

  /** Mostly one that is not deleted. */
  #pickOf(studioIds: readonly string[]): string {
    const live = studioIds.filter(
      (id) => this.#row(KIND.studio, id) && this.#row(KIND.studio, id)!.state !== 'DELETED',
    );
    return this.#random.pick(live.length > 0 && this.#random.chance(0.9) ? live : studioIds);
  }

  #pickImage(): Tenant | undefined {
    const { images, providedIds } = this.#shared;
    if (this.#random.chance(0.04)) return { studioId: this.#pickStudio(), id: this.#random.pick(providedIds) };
    if (images.length === 0) return undefined;
    const live = images.filter(({ id }) => this.#row(KIND.streamingImage, id)?.state === 'READY');
    return this.#random.pick(live.length > 0 && this.#random.chance(0.7) ? live : images.slice(-12));
  }

  #pickComponent(): Tenant | undefined {
    const { components } = this.#shared;
    if (components.length === 0) return undefined;
    const live = components.filter(({ id }) => this.#row(KIND.studioComponent, id)?.state === 'READY');
    return this.#random.pick(live.length > 0 && this.#random.chance(0.7) ? live : components.slice(-12));
  }

  #pickProfile(): Tenant | undefined {
    const { profiles } = this.#shared;
    if (profiles.length === 0) return undefined;
    const live = profiles.filter(({ id }) => this.#row(KIND.launchProfile, id)?.state === 'READY');
    return this.#random.pick(live.length > 0 && this.#random.chance(0.7) ? live : profiles.slice(-8));
  }

  /** Also one of those that sessions are started from, which stay as they are. */
  #pickMemberProfile(): Tenant | undefined {
    if (this.#random.chance(0.5)) return this.#pickProfile();
    const { studioId, launchProfileId } = this.#random.pick(this.#shared.sessionStudios);
    return { studioId, id: launchProfileId };
  }

  #newTags(): Record<string, string> {
    return this.#random.chance(0.5) ? { show: this.#newTag() } : {};
  }

  /** Also values that policies look for. */
  #newTag(): string {
    return this.#random.chance(0.5) ? this.#random.pick(['open', 'secret']) : this.#unique('tag');
  }

  /** What is READY in the studio, one or two of it. */
  #someOf(studioId: string, kind: string): string[] {
    const ready = this.#rowsIn(studioId, kind).filter((id) => this.#row(kind, id)!.state === 'READY');
    return ready.length === 0 ? [] : [...new Set([this.#random.pick(ready), this.#random.pick(ready)])];
  }

  /** Mostly images that are READY. */
  #imagesFor(studioId: string): string[] {
    const own = this.#someOf(studioId, KIND.streamingImage);
    if (own.length > 0 && this.#random.chance(0.6)) return own;
    return [this.#random.chance(0.7) ? this.#random.pick(this.#shared.providedIds) : 'missing'];
  }

  #pickTagged(): { id: string; arn: string } {
    const component = this.#random.chance(0.3) ? this.#pickComponent() : undefined;
    if (component) return { id: component.id, arn: arnOfComponent(component.id) };
    const profile = this.#random.chance(0.2) ? this.#pickProfile() : undefined;
    if (profile) return { id: profile.id, arn: arnOfProfile(profile.id) };
    const image = this.#random.chance(0.8) ? this.#pickImage() : undefined;
    if (image) return { id: image.id, arn: arnOfImage(image.id) };
    const id = this.#pickStudio();
    return { id, arn: arnOfStudio(id) };
  }

  #pickSuccess(): Success | undefined {
    const { successes, world } = this.#shared;
    const remembered = successes.filter(({ rememberedUntil }) => rememberedUntil > world.clock.now());
    return remembered.length > 0 ? this.#random.pick(remembered) : undefined;
  }

  #learn(studioId: string, id: string): void {
    const { images, providedIds } = this.#shared;
    if (!providedIds.includes(id) && !images.some((known) => known.id === id)) images.push({ studioId, id });
  }

  #learnComponent(studioId: string, id: string): void {
    const { components } = this.#shared;
    if (!components.some((known) => known.id === id)) components.push({ studioId, id });
  }

  #learnProfile(studioId: string, id: string): void {
    const { profiles, sessionStudios } = this.#shared;
    if (sessionStudios.some(({ launchProfileId }) => launchProfileId === id)) return;
    if (!profiles.some((known) => known.id === id)) profiles.push({ studioId, id });
  }

  #row(kind: string, id: string) {
    return this.#shared.watched.rows.get(`${kind}/${id}`);
  }

  #rows(kind: string) {
    return [...this.#shared.watched.rows.values()].filter((row) => row.kind === kind);
  }

  #rowsIn(studioId: string, kind: string): string[] {
    return this.#rows(kind)
      .filter((row) => row.studioId === studioId)
      .map(({ id }) => id);
  }
}

type CertainOutcome =
  | { readonly answer: unknown }
  | { readonly refusal: ServiceError; readonly certain: boolean }
  | 'lost';

function certainly(outcome: Outcome): CertainOutcome {
  return outcome !== 'lost' && 'refusal' in outcome ? { ...outcome, certain: true } : outcome;
}

/** A change that was refused after it had been sent twice may have been done the first time. */
function settle(pending: PendingChange, outcome: CertainOutcome): void {
  if (outcome === 'lost') return;
  if ('answer' in outcome) pending.acknowledge();
  else if (outcome.certain) pending.refuse();
}

/** Every call that is still remembered, sent once more. */
export async function replayAll(shared: Shared, random: Random): Promise<void> {
  const user = new User(shared, random);
  const now = shared.world.clock.now();
  for (const success of shared.successes) if (success.rememberedUntil > now) await user.replay(success);
}

/** What an update writes, by member. */
function valuesIn(input: Input): Record<string, string> {
  const members = ['displayName', 'name', 'description'].filter((member) => typeof input[member] === 'string');
  return Object.fromEntries(members.map((member) => [member, input[member] as string]));
}
