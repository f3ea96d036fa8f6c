/**
 * What a key with policies may do: every operation with keys that allow exactly it, all but it, or it for something else,
 * in two studios; tags of requests and of resources; and that a refusal says nothing about what exists.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of policies look like this
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type OperationName, operations } from '../../src/contract/index.ts';
import type { Operation } from '../../src/contract/operation.ts';
import type { Origin, Principal, Services } from '../../src/domain/context.ts';
import { handlers } from '../../src/domain/index.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { perform } from '../../src/domain/perform.ts';
import { PERMISSIONS } from '../../src/domain/permissions.ts';
import { compilePolicy, joinPolicies } from '../../src/domain/policy.ts';
import { ACTIONS } from '../../src/domain/policy-terms.ts';
import { ServiceError } from '../../src/errors.ts';
import { createWorld, SETTINGS, type World } from '../support/domain.ts';
import {
  arnOfBackup,
  arnOfComponent,
  arnOfImage,
  arnOfProfile,
  arnOfSession,
  arnOfStudio,
  IDENTITY_STORE_ID,
  putAmazonImage,
  putBackup,
  putComponent,
  putElsewhere,
  putEula,
  putImage,
  putMember,
  putProfile,
  putSession,
  putStream,
  putUser,
} from '../support/rows.ts';

const contract: readonly Operation[] = operations;
const PLACE = `arn:aws:nimble:${SETTINGS.region}:${SETTINGS.accountId}`;
const USER = `arn:aws:iam::${SETTINGS.accountId}:user/farm`;

type Input = Readonly<Record<string, unknown>>;

function keyWith(...statements: readonly object[]): Principal {
  const text = JSON.stringify({ Version: '2012-10-17', Statement: statements });
  const policies = [joinPolicies([compilePolicy('test', text)])];
  return { accessKeyId: 'AKIAFARM', principalId: 'AIDAFARM', role: 'service', username: 'farm', policies };
}

const allow = (more: object = {}) => ({ Effect: 'Allow', Action: '*', Resource: '*', ...more });
const deny = (more: object = {}) => ({ Effect: 'Deny', Action: '*', Resource: '*', ...more });

interface Calling {
  readonly origin?: Origin;
  readonly services?: Services;
}

/** `done`, or how the call was refused. */
async function attempt(world: World, principal: Principal, name: string, input: Input, more: Calling = {}) {
  const operation = contract.find((candidate) => candidate.name === name)!;
  const { origin, services = world.services } = more;
  try {
    await perform(operation, handlers[name as OperationName] as never, input, principal, services, origin);
    return 'done';
  } catch (error) {
    if (error instanceof ServiceError) return error;
    throw error;
  }
}

async function may(
  world: World,
  principal: Principal,
  name: string,
  input: Input,
  more: Calling = {},
): Promise<boolean> {
  const outcome = await attempt(world, principal, name, input, more);
  return outcome === 'done' || outcome.name !== 'AccessDeniedException';
}

const wording = (name: string, resource: string) =>
  `User: ${USER} is not authorized to perform: nimble:${name} on resource: ${resource}`;
const notAllowed = (name: string) => `because no identity-based policy allows the nimble:${name} action`;
const DENIED = 'with an explicit deny in an identity-based policy';

/** Refused with this message, and nothing is as it was not before. */
async function refused(world: World, principal: Principal, name: string, input: Input, message: string): Promise<void> {
  const before = await rowsOf(world);
  const outcome = await attempt(world, principal, name, input);
  assert.ok(outcome instanceof ServiceError, `${name} was ${String(outcome)}`);
  assert.deepEqual([outcome.name, outcome.status, outcome.message], ['AccessDeniedException', 403, message]);
  assert.deepEqual(await rowsOf(world), before);
}

async function rowsOf({ store }: World) {
  const kinds = [
    KIND.studio,
    KIND.studioComponent,
    KIND.streamingImage,
    KIND.eulaAcceptance,
    KIND.launchProfile,
    KIND.launchProfileMember,
    KIND.studioMember,
    KIND.streamingSession,
    KIND.streamingSessionStream,
    KIND.eulaAcceptance,
  ];
  return Promise.all(kinds.map((kind) => store.list({ kind, limit: 100 })));
}

interface Studio {
  readonly studioId: string;
  readonly studioComponentId: string;
  readonly streamingImageId: string;
  readonly eulaId: string;
  readonly launchProfileId: string;
  /** A member of the profile and of the studio. */
  readonly principalId: string;
  readonly sessionId: string;
  readonly stoppedId: string;
  readonly streamId: string;
  readonly backupId: string;
}

async function furnish(world: World): Promise<Studio> {
  const studioId = await world.makeStudio();
  // Or there would be nothing to repair.
  await putElsewhere(world, studioId);
  const streamingImageId = await putImage(world, studioId);
  const launchProfileId = await putProfile(world, studioId, {
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g4dn.xlarge'],
      streamingImageIds: [streamingImageId],
    },
  });
  const principalId = await putUser(world, `user${launchProfileId.replaceAll(/[^a-z]/gi, '')}`);
  await putMember(world, studioId, principalId);
  await putMember(world, studioId, principalId, launchProfileId);
  const sessionId = await putSession(world, studioId, { launchProfileId });
  return {
    studioId,
    studioComponentId: await putComponent(world, studioId),
    streamingImageId,
    eulaId: await putEula(world),
    launchProfileId,
    principalId,
    sessionId,
    stoppedId: await putSession(world, studioId, { launchProfileId, state: 'STOPPED' }),
    streamId: await putStream(world, studioId, sessionId),
    backupId: await putBackup(world, studioId, sessionId),
  };
}

interface Sample {
  readonly input: Input;
  readonly arn: string;
  /** An ARN of the same type, of something else. */
  readonly other: string;
  /** Whether the request tells which studio it is about. */
  readonly inStudio: boolean;
}

/** A call of the operation about what stands in this studio. */
function sampleOf(name: string, made: Studio): Sample {
  const { studioId, studioComponentId, streamingImageId, eulaId, launchProfileId, principalId } = made;
  const roles = {
    adminRoleArn: 'a',
    userRoleArn: 'u',
    displayName: 'd',
    studioName: `made${eulaId
      .slice(0, 5)
      .toLowerCase()
      .replace(/[^a-z]/g, '')}`,
  };
  const studio = { arn: arnOfStudio(studioId), other: `${PLACE}:studio/stid-other`, inStudio: true };
  const component = { arn: arnOfComponent(studioComponentId), other: arnOfComponent('other'), inStudio: true };
  const image = { arn: arnOfImage(streamingImageId), other: arnOfImage('other'), inStudio: true };
  const session = { arn: arnOfSession(made.sessionId), other: arnOfSession('other'), inStudio: true };
  const ofSession = { studioId, sessionId: made.sessionId };
  const eula = { arn: `${PLACE}:eula/${eulaId}`, other: `${PLACE}:eula/other` };
  const inStudio = { studioId };
  const ofComponent = { ...inStudio, studioComponentId };
  const ofImage = { ...inStudio, streamingImageId };
  const named = { resourceArn: image.arn };
  const profile = { arn: arnOfProfile(launchProfileId), other: arnOfProfile('other'), inStudio: true };
  const ofProfile = { ...inStudio, launchProfileId };
  const newProfile = {
    ...inStudio,
    ec2SubnetIds: [],
    launchProfileProtocolVersions: ['2021-03-31'],
    name: 'n',
    streamConfiguration: { clipboardMode: 'ENABLED', ec2InstanceTypes: ['g5.xlarge'], streamingImageIds: ['x'] },
    studioComponentIds: [studioComponentId],
  };
  const initialization = {
    ...ofProfile,
    launchProfileProtocolVersions: ['2021-03-31'],
    launchPurpose: 'WORKSTATION',
    platform: 'LINUX',
  };
  const putting = (persona: string) => ({ identityStoreId: IDENTITY_STORE_ID, members: [{ principalId, persona }] });
  const samples: Readonly<Record<OperationName, Sample>> = {
    CreateStudio: { ...studio, input: roles, arn: `${PLACE}:studio/*`, inStudio: false },
    GetStudio: { ...studio, input: inStudio },
    ListStudios: { input: {}, arn: '*', other: `${PLACE}:studio/*`, inStudio: false },
    UpdateStudio: { ...studio, input: { ...inStudio, displayName: 'x' } },
    DeleteStudio: { ...studio, input: inStudio },
    StartStudioSSOConfigurationRepair: { ...studio, input: inStudio },
    CreateStudioComponent: { ...studio, input: { ...inStudio, name: 'n', type: 'CUSTOM' } },
    GetStudioComponent: { ...component, input: ofComponent },
    ListStudioComponents: { ...studio, input: inStudio },
    UpdateStudioComponent: { ...component, input: { ...ofComponent, name: 'x' } },
    DeleteStudioComponent: { ...component, input: ofComponent },
    CreateStreamingImage: { ...studio, input: { ...inStudio, name: 'n', ec2ImageId: 'ami-1' } },
    GetStreamingImage: { ...image, input: ofImage },
    ListStreamingImages: { ...studio, input: inStudio },
    UpdateStreamingImage: { ...image, input: { ...ofImage, name: 'x' } },
    DeleteStreamingImage: { ...image, input: ofImage },
    CreateLaunchProfile: { ...studio, input: newProfile },
    GetLaunchProfile: { ...profile, input: ofProfile },
    GetLaunchProfileDetails: { ...profile, input: ofProfile },
    GetLaunchProfileInitialization: { ...profile, input: initialization },
    ListLaunchProfiles: { ...studio, input: inStudio },
    UpdateLaunchProfile: { ...profile, input: { ...ofProfile, name: 'x' } },
    DeleteLaunchProfile: { ...profile, input: ofProfile },
    PutLaunchProfileMembers: { ...profile, input: { ...ofProfile, ...putting('USER') } },
    GetLaunchProfileMember: { ...profile, input: { ...ofProfile, principalId } },
    ListLaunchProfileMembers: { ...profile, input: ofProfile },
    UpdateLaunchProfileMember: { ...profile, input: { ...ofProfile, principalId, persona: 'USER' } },
    DeleteLaunchProfileMember: { ...profile, input: { ...ofProfile, principalId } },
    PutStudioMembers: { ...studio, input: { ...inStudio, ...putting('ADMINISTRATOR') } },
    GetStudioMember: { ...studio, input: { ...inStudio, principalId } },
    ListStudioMembers: { ...studio, input: inStudio },
    DeleteStudioMember: { ...studio, input: { ...inStudio, principalId } },
    CreateStreamingSession: {
      input: { ...inStudio, launchProfileId: made.launchProfileId },
      arn: arnOfProfile(made.launchProfileId),
      other: arnOfProfile('other'),
      inStudio: true,
    },
    GetStreamingSession: { ...session, input: ofSession },
    ListStreamingSessions: { ...studio, input: inStudio },
    StartStreamingSession: {
      ...session,
      input: { ...inStudio, sessionId: made.stoppedId },
      arn: arnOfSession(made.stoppedId),
    },
    StopStreamingSession: { ...session, input: ofSession },
    DeleteStreamingSession: { ...session, input: ofSession },
    CreateStreamingSessionStream: { ...session, input: ofSession },
    GetStreamingSessionStream: { ...session, input: { ...ofSession, streamId: made.streamId } },
    GetStreamingSessionBackup: {
      input: { ...inStudio, backupId: made.backupId },
      arn: arnOfBackup(made.backupId),
      other: arnOfBackup('other'),
      inStudio: true,
    },
    ListStreamingSessionBackups: { ...studio, input: inStudio },
    GetEula: { ...eula, input: { eulaId }, inStudio: false },
    ListEulas: { ...eula, input: {}, arn: `${PLACE}:eula/*`, inStudio: false },
    AcceptEulas: { ...eula, input: { ...inStudio, eulaIds: [eulaId] }, inStudio: true },
    ListEulaAcceptances: {
      input: inStudio,
      arn: `${PLACE}:eula-acceptance/*`,
      other: `${PLACE}:eula-acceptance/other`,
      inStudio: true,
    },
    ListTagsForResource: { ...image, input: named },
    TagResource: { ...image, input: { ...named, tags: { a: '1' } } },
    UntagResource: { ...image, input: { ...named, tagKeys: ['a'] } },
  };
  return samples[name as OperationName];
}

test('every operation says what it is checked against', () => {
  assert.deepEqual(Object.keys(PERMISSIONS).sort(), contract.map(({ name }) => name).sort());
  for (const { name } of contract) assert.ok(ACTIONS.includes(name), name);
});

for (const { name } of contract) {
  describe(name, () => {
    const action = `nimble:${name}`;

    test('is done with a key that allows exactly it, for exactly what it is about', async () => {
      const world = createWorld();
      const { input, arn } = sampleOf(name, await furnish(world));
      assert.equal(await attempt(world, keyWith(allow({ Action: action, Resource: arn })), name, input), 'done');
    });

    test('is refused with a key that allows everything else', async () => {
      const world = createWorld();
      const { input, arn } = sampleOf(name, await furnish(world));
      const message = `${wording(name, arn)} ${notAllowed(name)}`;
      await refused(world, keyWith({ Effect: 'Allow', NotAction: action, Resource: '*' }), name, input, message);
      const others = ACTIONS.filter((other) => other !== name).map((other) => `nimble:${other}`);
      await refused(world, keyWith(allow({ Action: others })), name, input, message);
      await refused(world, { ...keyWith(allow()), policies: [] }, name, input, message);
    });

    test('is refused with a key that allows it for something else', async () => {
      const world = createWorld();
      const { input, arn, other } = sampleOf(name, await furnish(world));
      const message = `${wording(name, arn)} ${notAllowed(name)}`;
      await refused(world, keyWith(allow({ Resource: other })), name, input, message);
      const otherType = arn.includes(':launch-profile/') ? 'streaming-image' : 'launch-profile';
      await refused(world, keyWith(allow({ Resource: `${PLACE}:${otherType}/*` })), name, input, message);
      await refused(
        world,
        keyWith({ Effect: 'Allow', Action: '*', NotResource: arn === '*' ? '*' : `${arn}*` }),
        name,
        input,
        message,
      );
    });

    test('is refused where it is denied, whatever allows it', async () => {
      const world = createWorld();
      const { input, arn } = sampleOf(name, await furnish(world));
      for (const denial of [deny(), deny({ Action: action }), deny({ Resource: arn })]) {
        await refused(
          world,
          keyWith(allow(), denial, allow({ Action: action })),
          name,
          input,
          `${wording(name, arn)} ${DENIED}`,
        );
      }
    });

    test('is done in the studio that a key is for, and refused in another', async () => {
      const world = createWorld();
      const [mine, theirs] = [await furnish(world), await furnish(world)];
      const { inStudio } = sampleOf(name, mine);
      for (const spelling of [mine.studioId, arnOfStudio(mine.studioId), `${PLACE}:studio/${mine.studioId}`]) {
        const condition = { StringEquals: { 'nimble:studioId': spelling } };
        const key = keyWith(allow({ Action: action, Condition: condition }));
        assert.equal(await may(world, key, name, sampleOf(name, theirs).input), false);
        const negated = keyWith(allow(), deny({ Condition: { StringNotEquals: { 'nimble:studioId': spelling } } }));
        assert.equal(await may(world, negated, name, sampleOf(name, theirs).input), false);
        assert.equal(await may(world, key, name, sampleOf(name, mine).input), inStudio, spelling);
      }
    });
  });
}

test('a studio is named by its ARN in both its forms, for an Allow and for a Deny', async () => {
  const world = createWorld();
  const { studioId } = await furnish(world);
  const [short, long] = [arnOfStudio(studioId), `${PLACE}:studio/${studioId}`];
  for (const Resource of [short, long]) {
    assert.ok(await may(world, keyWith(allow({ Resource })), 'GetStudio', { studioId }));
    const denied = keyWith(allow(), deny({ Resource }));
    assert.ok(!(await may(world, denied, 'GetStudio', { studioId })));
    for (const resourceArn of [short, long, short.replace('arn:aws:', 'arn:aws-cn:')]) {
      assert.ok(!(await may(world, denied, 'TagResource', { resourceArn, tags: { a: '1' } })), resourceArn);
      assert.ok(await may(world, keyWith(allow({ Resource })), 'ListTagsForResource', { resourceArn }));
    }
  }
});

test('every EULA of a call must be allowed, or none is accepted', async () => {
  const world = createWorld();
  const { studioId, eulaId } = await furnish(world);
  const other = await putEula(world);
  const key = keyWith(allow({ Resource: `${PLACE}:eula/${eulaId}` }));
  const message = `${wording('AcceptEulas', `${PLACE}:eula/${other}`)} ${notAllowed('AcceptEulas')}`;
  await refused(world, key, 'AcceptEulas', { studioId, eulaIds: [eulaId, other] }, message);
  assert.equal(await attempt(world, key, 'AcceptEulas', { studioId, eulaIds: [eulaId, eulaId] }), 'done');
});

test('creating with tags asks for TagResource as well', async () => {
  const world = createWorld();
  const { studioId } = await furnish(world);
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1' };
  const key = keyWith(allow({ Action: 'nimble:Create*' }));
  const message = `${wording('TagResource', arnOfImage('*'))} ${notAllowed('TagResource')}`;
  await refused(world, key, 'CreateStreamingImage', { ...input, tags: { team: 'fx' } }, message);
  for (const tags of [undefined, {}]) assert.ok(await may(world, key, 'CreateStreamingImage', { ...input, tags }));
  const Resource = arnOfImage('*');
  const tagging = keyWith(allow({ Action: 'nimble:Create*' }), allow({ Action: 'nimble:TagResource', Resource }));
  assert.ok(await may(world, tagging, 'CreateStreamingImage', { ...input, tags: { team: 'fx' } }));
  const roles = { adminRoleArn: 'a', userRoleArn: 'u', displayName: 'd', studioName: 'tagged', tags: { a: '1' } };
  assert.ok(!(await may(world, tagging, 'CreateStudio', roles)));
});

test('tags of a request decide: which there may be, which there must be', async () => {
  const world = createWorld();
  const { streamingImageId } = await furnish(world);
  const resourceArn = arnOfImage(streamingImageId);
  const Condition = {
    'ForAllValues:StringEquals': { 'aws:TagKeys': ['team', 'note'] },
    StringEquals: { 'aws:RequestTag/team': ['fx', '${aws:username}'] },
  };
  const key = { ...keyWith(allow({ Condition })), role: 'user' };
  const tagging = (tags?: object) => may(world, key, 'TagResource', { resourceArn, ...(tags && { tags }) });
  assert.ok(await tagging({ team: 'fx' }));
  assert.ok(
    (await tagging({ Team: 'farm', note: 'x' })) === false,
    'the key of a tag is a value of aws:TagKeys, with its case',
  );
  assert.ok(await tagging({ team: 'farm', note: 'x' }));
  for (const tags of [{ team: 'anim' }, { note: 'x' }, { team: 'fx', admin: '1' }, {}, undefined])
    assert.ok(!(await tagging(tags)));
  const untagging = keyWith(
    allow({ Condition: { 'ForAllValues:StringLike': { 'aws:TagKeys': 'my*' }, Null: { 'aws:TagKeys': false } } }),
  );
  const untag = (tagKeys: string[]) => may(world, untagging, 'UntagResource', { resourceArn, tagKeys });
  assert.deepEqual([await untag(['my1', 'my2']), await untag(['my1', 'x']), await untag([])], [true, false, false]);
});

describe('tags of a resource', () => {
  const ofTeam = keyWith(allow({ Condition: { StringEquals: { 'aws:ResourceTag/team': 'fx' } } }));

  test('decide about the image, and about the studio that an image is made in', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio({ tags: { team: 'fx' } });
    const otherId = await world.makeStudio({ tags: { team: 'anim' } });
    const [right, wrong, none] = await Promise.all(
      [{ team: 'fx' }, { team: 'anim' }, {}].map((tags) => putImage(world, studioId, { tags })),
    );
    for (const name of ['GetStreamingImage', 'UpdateStreamingImage', 'DeleteStreamingImage']) {
      const call = (streamingImageId: string) => may(world, ofTeam, name, { studioId, streamingImageId });
      assert.deepEqual([await call(wrong!), await call(none!), await call(right!)], [false, false, true], name);
    }
    for (const name of ['ListStreamingImages', 'GetStudio', 'CreateStreamingImage']) {
      const call = (id: string) => may(world, ofTeam, name, { studioId: id, name: 'n', ec2ImageId: 'ami-1' });
      assert.deepEqual([await call(studioId), await call(otherId)], [true, false], name);
    }
    const call = (id: string) => may(world, ofTeam, 'ListTagsForResource', { resourceArn: arnOfImage(id) });
    assert.deepEqual([await call(right!), await call(wrong!)], [true, false]);
  });

  test('count for images provided for every studio, and not for images of another studio', async () => {
    const world = createWorld();
    const [mine, theirs] = [await world.makeStudio(), await world.makeStudio()];
    const provided = await putAmazonImage(world, { tags: { team: 'fx' } });
    const foreign = await putImage(world, theirs, { tags: { team: 'fx' } });
    assert.ok(await may(world, ofTeam, 'GetStreamingImage', { studioId: mine, streamingImageId: provided }));
    assert.ok(!(await may(world, ofTeam, 'GetStreamingImage', { studioId: mine, streamingImageId: foreign })));
  });

  test('that differ only in case are neither: adding one neither opens nor closes a door', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const secret = keyWith(allow(), deny({ Condition: { StringEquals: { 'aws:ResourceTag/secret': 'yes' } } }));
    const call = async (key: Principal, tags: Record<string, string>) =>
      may(world, key, 'GetStreamingImage', { studioId, streamingImageId: await putImage(world, studioId, { tags }) });
    assert.ok(await call(ofTeam, { TEAM: 'fx' }));
    assert.ok(!(await call(ofTeam, { team: 'fx', Team: 'anim' })));
    assert.ok(!(await call(secret, { Secret: 'yes' })));
    assert.ok(!(await call(secret, { secret: 'yes', Secret: 'no' })));
    assert.ok(!(await call(secret, { Secret: 'no', secret: 'yes' })));
    assert.ok(await call(secret, { secret: 'no' }));
  });

  test('of a name that means something to JavaScript are tags like any other', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const streamingImageId = await putImage(world, studioId);
    for (const name of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) {
      const key = keyWith(allow({ Condition: { Null: { [`aws:ResourceTag/${name}`]: false } } }));
      assert.ok(!(await may(world, key, 'GetStreamingImage', { studioId, streamingImageId })), name);
    }
  });
});

describe('a refusal says nothing about what exists', () => {
  const tagged = (operator: string, value: unknown) => ({
    Condition: { [operator]: { 'aws:ResourceTag/team': value } },
  });
  const keys: Readonly<Record<string, readonly object[]>> = {
    'allows by a tag': [allow(tagged('StringEquals', 'fx'))],
    'allows by a tag that is not': [allow(tagged('StringNotEquals', 'anim'))],
    'allows where there is no tag': [allow(tagged('Null', true))],
    'denies by a tag': [allow(), deny(tagged('StringEquals', 'anim'))],
    'allows by one tag and denies by another': [
      allow(tagged('StringEquals', 'fx')),
      deny({ Condition: { StringEquals: { 'aws:ResourceTag/secret': 'yes' } } }),
    ],
    'denies all but a tag': [allow(), deny(tagged('StringNotEqualsIfExists', 'fx'))],
    'allows by all values of a tag': [allow(tagged('ForAllValues:StringEquals', 'fx'))],
    'allows nothing': [allow({ Action: 'nimble:GetFeatureMap' })],
  };
  for (const [what, statements] of Object.entries(keys)) {
    test(`to a key that ${what}`, async () => {
      const world = createWorld();
      const [mine, theirs] = [await world.makeStudio({ tags: { team: 'anim' } }), await world.makeStudio()];
      const hidden = await putImage(world, mine, { tags: { team: 'anim' } });
      const secret = await putImage(world, mine, { tags: { team: 'anim', secret: 'yes' } });
      const foreign = await putImage(world, theirs, { tags: { team: 'fx' } });
      const absent = 'AAAAAAAAAAAAAAAAAAAAAA';
      const key = keyWith(...statements);
      const said = async (name: string, input: Input, ...names: string[]) => {
        const outcome = await attempt(world, key, name, input);
        assert.ok(outcome instanceof ServiceError, `${name}: ${String(outcome)}`);
        const hide = (text: string) => names.reduce((rest, each) => rest.replaceAll(each, 'ID'), text);
        return [outcome.name, outcome.code, hide(outcome.message), hide(JSON.stringify(outcome.context ?? {}))];
      };
      for (const name of ['GetStreamingImage', 'UpdateStreamingImage', 'DeleteStreamingImage']) {
        const answers = await Promise.all(
          [hidden, secret, absent, foreign].map((id) =>
            said(name, { studioId: mine, streamingImageId: id, name: 'x' }, id),
          ),
        );
        assert.equal(answers[0]![0], 'AccessDeniedException');
        for (const answer of answers) assert.deepEqual(answer, answers[0], name);
      }
      for (const name of ['ListTagsForResource', 'TagResource', 'UntagResource']) {
        const answers = await Promise.all(
          [hidden, secret, absent].map((id) =>
            said(name, { resourceArn: arnOfImage(id), tags: { a: '1' }, tagKeys: ['a'] }, id),
          ),
        );
        assert.equal(answers[0]![0], 'AccessDeniedException');
        for (const answer of answers) assert.deepEqual(answer, answers[0], name);
      }
      const absentStudio = 'us-west-2:stid-aaaaaaaaaaaaaaaa';
      for (const name of ['GetStudio', 'UpdateStudio', 'DeleteStudio', 'ListStreamingImages']) {
        const answers = await Promise.all(
          [mine, absentStudio].map((id) => said(name, { studioId: id, displayName: 'x' }, id, id.replace(/.*:/, ''))),
        );
        assert.equal(answers[0]![0], 'AccessDeniedException');
        assert.deepEqual(answers[1], answers[0], name);
      }
    });
  }

  test('and whoever may see it is told that it is not there', async () => {
    const world = createWorld();
    const studioId = await world.makeStudio();
    const outcome = await attempt(world, keyWith(allow()), 'GetStreamingImage', {
      studioId,
      streamingImageId: 'absent',
    });
    assert.equal((outcome as ServiceError).name, 'ResourceNotFoundException');
  });
});

test('who asks, from where, when and how are conditions', async () => {
  const world = createWorld();
  const asked = (Condition: object, origin?: Origin, services?: Services) =>
    may(
      world,
      keyWith(allow({ Condition })),
      'ListStudios',
      {},
      { ...(origin && { origin }), ...(services && { services }) },
    );
  const ip = { IpAddress: { 'aws:SourceIp': ['10.0.0.0/8', 'fe80::/10'] } };
  for (const [remoteAddress, result] of [
    ['10.1.2.3', true],
    ['::ffff:10.1.2.3', true],
    ['fe80::1%eth0', true],
    ['::ffff:11.1.2.3', false],
    ['2001:db8::1', false],
    [undefined, false],
  ] as const) {
    assert.equal(await asked(ip, { remoteAddress }), result, String(remoteAddress));
  }
  const barred = keyWith(allow(), deny({ Condition: { IpAddress: { 'aws:SourceIp': '10.0.0.0/8' } } }));
  for (const [origin, result] of [
    [{ remoteAddress: '192.0.2.1' }, true],
    [{ remoteAddress: '10.1.2.3' }, false],
    [{}, false],
  ] as const) {
    assert.equal(await may(world, barred, 'ListStudios', {}, { origin }), result, 'hanging up is no way around a Deny');
  }
  assert.ok(await asked({ StringEquals: { 'aws:userid': 'AIDAFARM' } }));
  // A service may be called like a person was; what is that person's by name is never the service's.
  for (const [role, result] of [
    ['service', false],
    ['user', true],
  ] as const) {
    const named = { ...keyWith(allow({ Condition: { StringEquals: { 'aws:username': 'farm' } } })), role };
    assert.equal(await may(world, named, 'ListStudios', {}), result, role);
  }
  assert.ok(await asked({ DateLessThan: { 'aws:CurrentTime': '2026-01-01T00:00:01Z' } }));
  assert.ok(!(await asked({ DateGreaterThan: { 'aws:CurrentTime': '2026-01-01T00:00:00Z' } })));
  const secure = { Bool: { 'aws:SecureTransport': true } };
  const settings = { ...world.services.settings, publicUrl: () => 'https://studio.example' };
  assert.deepEqual([await asked(secure), await asked(secure, {}, { ...world.services, settings })], [false, true]);
  for (const key of ['nimble:requesterPrincipalId', 'nimble:principalId', 'nimble:ownedBy', 'aws:CalledViaLast']) {
    assert.ok(await asked({ Null: { [key]: true } }), `${key} is not there where the reference has it not`);
  }
});

test('a key can be for listing the profiles of one person only: the one whose key it is', async () => {
  const world = createWorld();
  const { studioId } = await furnish(world);
  const asks = (key: Principal, principalId?: string) =>
    may(world, key, 'ListLaunchProfiles', { studioId, ...(principalId && { principalId }) });
  const own = { StringEquals: { 'nimble:principalId': '${nimble:requesterPrincipalId}' } };
  for (const Condition of [own, { StringEquals: { 'nimble:principalId': 'AIDAFARM' } }]) {
    const key = keyWith(allow({ Condition }));
    assert.deepEqual(
      [await asks(key, 'AIDAFARM'), await asks(key, 'AIDAOTHER'), await asks(key)],
      [true, false, false],
    );
  }
});

describe('sessions', () => {
  const requester = { StringEquals: { 'nimble:ownedBy': '${nimble:requesterPrincipalId}' } };
  const own = keyWith(allow({ Condition: requester }));

  test('whoever may see only their own sees, starts, stops and streams no other', async () => {
    const world = createWorld();
    const { studioId, launchProfileId, stoppedId } = await furnish(world);
    const put = (ownedBy: string) => putSession(world, studioId, { launchProfileId, ownedBy });
    const [mine, theirs] = [await put('AIDAFARM'), await put('AIDAOTHER')];
    const calls = ['GetStreamingSession', 'StartStreamingSession', 'StopStreamingSession', 'DeleteStreamingSession'];
    for (const name of [...calls, 'CreateStreamingSessionStream', 'GetStreamingSessionStream']) {
      const call = (sessionId: string) => may(world, own, name, { studioId, sessionId, streamId: 'x' });
      assert.deepEqual([await call(theirs), await call(stoppedId), await call('absent')], [false, false, false], name);
      assert.equal(await call(mine), true, name);
    }
    const backups = [
      await putBackup(world, studioId, mine, { ownedBy: 'AIDAFARM' }),
      await putBackup(world, studioId, mine),
    ];
    const seen = backups.map((backupId) => may(world, own, 'GetStreamingSessionBackup', { studioId, backupId }));
    assert.deepEqual(await Promise.all(seen), [true, false]);
  });

  test('a list is of those whom it asks for, and of everybody where it asks for nobody', async () => {
    const world = createWorld();
    const { studioId } = await furnish(world);
    for (const name of ['ListStreamingSessions', 'ListStreamingSessionBackups']) {
      const call = (input: Input) => may(world, own, name, { studioId, ...input });
      assert.deepEqual(
        [await call({ ownedBy: 'AIDAFARM' }), await call({ ownedBy: 'AIDAOTHER' }), await call({})],
        [true, false, false],
        name,
      );
    }
    const made = keyWith(allow({ Condition: { StringEquals: { 'nimble:createdBy': 'AIDAFARM' } } }));
    const call = (input: Input) => may(world, made, 'ListStreamingSessions', { studioId, ...input });
    assert.deepEqual(
      [await call({ createdBy: 'AIDAFARM' }), await call({ createdBy: 'AIDAOTHER' }), await call({})],
      [true, false, false],
    );
  });

  test('creating is checked against the launch profile and whom the session is for', async () => {
    const world = createWorld();
    const { studioId, launchProfileId } = await furnish(world);
    const input = { studioId, launchProfileId };
    const forOne = keyWith(allow({ Condition: { StringEquals: { 'nimble:ownedBy': 'AIDAFARM' } } }));
    const call = (key: Principal, more: Input = {}) => may(world, key, 'CreateStreamingSession', { ...input, ...more });
    assert.deepEqual(
      [await call(forOne, { ownedBy: 'AIDAFARM' }), await call(forOne, { ownedBy: 'AIDAOTHER' }), await call(forOne)],
      [true, false, false],
    );
    // The reference does not have the key for this one call.
    assert.equal(await call(keyWith(allow({ Condition: { Null: { 'nimble:requesterPrincipalId': true } } }))), true);
    const tagged = keyWith(allow({ Action: 'nimble:CreateStreamingSession' }));
    assert.deepEqual([await call(tagged), await call(tagged, { tags: { a: '1' } })], [true, false]);
  });
});

test('what is not well formed is refused for that, whoever asks', async () => {
  const world = createWorld();
  const key = keyWith(allow({ Action: 'nimble:GetFeatureMap' }));
  const cases: [string, Input, string][] = [
    ['TagResource', { resourceArn: 'garbage' }, 'MALFORMED_ARN'],
    ['TagResource', { resourceArn: arnOfImage('x'), tags: { '': 'x' } }, 'INVALID_TAGS'],
    ['AcceptEulas', { studioId: 's', eulaIds: Array.from({ length: 101 }, (_, index) => `${index}`) }, 'TOO_MANY_IDS'],
  ];
  for (const [name, input, code] of cases) {
    assert.equal(((await attempt(world, key, name, input)) as ServiceError).code, code);
  }
});

test('a client token opens nothing to a key that may not make the call', async () => {
  const world = createWorld();
  const { studioId } = await furnish(world);
  const input = { studioId, name: 'n', ec2ImageId: 'ami-1', clientToken: 'shared' };
  assert.equal(await attempt(world, keyWith(allow()), 'CreateStreamingImage', input), 'done');
  assert.equal(await attempt(world, keyWith(allow()), 'CreateStreamingImage', input), 'done');
  assert.ok(!(await may(world, keyWith(allow({ Action: 'nimble:Get*' })), 'CreateStreamingImage', input)));
});

test('a tag that changes while a call is decided counts: it is asked again', async () => {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { tags: { team: 'fx' } });
  let writes = 0;
  const store = Object.create(world.store) as typeof world.store;
  store.write = async (batch) => {
    writes += 1;
    if (writes === 1)
      await world.call('TagResource', { resourceArn: arnOfImage(streamingImageId), tags: { team: 'anim' } });
    return world.store.write(batch);
  };
  for (const method of ['get', 'list', 'count', 'token'] as const) {
    store[method] = ((...given: never[]) => (world.store[method] as (...all: never[]) => unknown)(...given)) as never;
  }
  const key = keyWith(allow({ Condition: { StringEquals: { 'aws:ResourceTag/team': 'fx' } } }));
  const services = { ...world.services, store };
  const outcome = await attempt(
    world,
    key,
    'UpdateStreamingImage',
    { studioId, streamingImageId, name: 'mine' },
    { services },
  );
  assert.deepEqual([(outcome as ServiceError).name, writes], ['AccessDeniedException', 1]);
});
