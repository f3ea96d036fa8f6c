/**
 * One studio's life from the first call to the last: every operation of the API, every waiter, every paginator. It is
 * told once, for any client; what is specific to a client (names of methods, types of times) is the teller's matter.
 */
import assert from 'node:assert/strict';

/** A JSON answer of the API, as a client hands it on. */
// biome-ignore lint/suspicious/noExplicitAny: answers of all operations, of which each client has types of its own
export type Answer = any;

export type Input = object;

export interface Refusal {
  readonly name: string;
  readonly status: number;
}

/** A client under test. Operations, waiters and paginators go by the names of the published model. */
export interface Teller {
  /** Whether the client has it: one from before December 2022 knows no backups, and sessions are told to stop without a word. */
  knows(operation: string): Promise<boolean>;
  call(operation: string, input: Input): Promise<Answer>;
  /** The call must be refused. */
  refusal(operation: string, input: Input): Promise<Refusal>;
  wait(waiter: string, input: Input): Promise<void>;
  /** The entries of all pages. */
  pages(operation: string, member: string, input: Input): Promise<Answer[]>;
}

/** What an administrator has prepared on the command line. */
export interface Prepared {
  readonly ec2ImageId: string;
  /** Belongs to the machine image: to be accepted before a session starts. */
  readonly eulaId: string;
  readonly identityStoreId: string;
  readonly principalId: string;
}

/** Tells the story. @param name of the studio: letters and digits. */
export async function tellStory(teller: Teller, name: string, prepared: Prepared): Promise<void> {
  const { studioId, studioArn } = await openStudio(teller, name);
  const streamingImageId = await makeImage(teller, studioId, prepared);
  const studioComponentId = await makeComponent(teller, studioId);
  await manageMembers(teller, studioId, prepared);
  const launchProfileId = await makeProfile(teller, studioId, { streamingImageId, studioComponentId });
  await manageProfileMembers(teller, { studioId, launchProfileId }, prepared);
  await acceptEulas(teller, { studioId, launchProfileId }, prepared);
  await runSession(teller, { studioId, launchProfileId }, prepared);
  await tag(teller, studioArn);
  await closeStudio(teller, { studioId, launchProfileId, studioComponentId, streamingImageId });
}

async function openStudio(teller: Teller, name: string) {
  const roles = {
    adminRoleArn: 'arn:aws:iam::000000000000:role/admin',
    userRoleArn: 'arn:aws:iam::000000000000:role/user',
  };
  const created = await teller.call('CreateStudio', { studioName: name, displayName: name, ...roles });
  const { studioId, arn } = created.studio;
  await teller.wait('StudioReady', { studioId });
  await teller.call('UpdateStudio', { studioId, displayName: 'Renamed' });
  await teller.wait('StudioReady', { studioId });
  assert.equal((await teller.call('GetStudio', { studioId })).studio.displayName, 'Renamed');
  const studios = await teller.pages('ListStudios', 'studios', {});
  assert.ok(studios.some((studio) => studio.studioId === studioId));
  // Nothing is wrong with its sign-in, and the API says so.
  const refusal = await teller.refusal('StartStudioSSOConfigurationRepair', { studioId });
  assert.deepEqual(refusal, { name: 'ValidationException', status: 400 });
  return { studioId, studioArn: arn as string };
}

async function makeImage(teller: Teller, studioId: string, { ec2ImageId, eulaId }: Prepared): Promise<string> {
  const created = await teller.call('CreateStreamingImage', { studioId, name: 'Houdini', ec2ImageId });
  const { streamingImageId } = created.streamingImage;
  assert.deepEqual(created.streamingImage.eulaIds, [eulaId]);
  await teller.wait('StreamingImageReady', { studioId, streamingImageId });
  const updated = await teller.call('UpdateStreamingImage', { studioId, streamingImageId, name: 'Houdini 20.5' });
  assert.deepEqual([updated.streamingImage.state, updated.streamingImage.name], ['READY', 'Houdini 20.5']);
  const { streamingImage } = await teller.call('GetStreamingImage', { studioId, streamingImageId });
  assert.equal(streamingImage.name, 'Houdini 20.5');
  const images = await teller.pages('ListStreamingImages', 'streamingImages', { studioId, owner: studioId });
  assert.deepEqual(
    images.map((image) => image.streamingImageId),
    [streamingImageId],
  );
  return streamingImageId;
}

async function makeComponent(teller: Teller, studioId: string): Promise<string> {
  const script = {
    launchProfileProtocolVersion: '2021-03-31',
    platform: 'LINUX',
    runContext: 'SYSTEM_INITIALIZATION',
    script: 'mount /show',
  };
  const created = await teller.call('CreateStudioComponent', {
    studioId,
    name: 'Storage',
    type: 'SHARED_FILE_SYSTEM',
    configuration: { sharedFileSystemConfiguration: { endpoint: 'nas:/show', linuxMountPoint: '/show' } },
    ec2SecurityGroupIds: ['sg-1'],
    initializationScripts: [script],
  });
  const { studioComponentId } = created.studioComponent;
  await teller.wait('StudioComponentReady', { studioId, studioComponentId });
  await teller.call('UpdateStudioComponent', { studioId, studioComponentId, description: 'All shows' });
  await teller.wait('StudioComponentReady', { studioId, studioComponentId });
  const { studioComponent } = await teller.call('GetStudioComponent', { studioId, studioComponentId });
  assert.equal(studioComponent.description, 'All shows');
  const components = await teller.pages('ListStudioComponents', 'studioComponents', {
    studioId,
    types: ['SHARED_FILE_SYSTEM'],
  });
  assert.deepEqual(
    components.map((component) => component.studioComponentId),
    [studioComponentId],
  );
  return studioComponentId;
}

async function manageMembers(
  teller: Teller,
  studioId: string,
  { identityStoreId, principalId }: Prepared,
): Promise<void> {
  const members = [{ principalId, persona: 'ADMINISTRATOR' }];
  await teller.call('PutStudioMembers', { studioId, identityStoreId, members });
  const { member } = await teller.call('GetStudioMember', { studioId, principalId });
  assert.deepEqual({ ...member }, { identityStoreId, persona: 'ADMINISTRATOR', principalId });
  const listed = await teller.pages('ListStudioMembers', 'members', { studioId });
  assert.deepEqual(
    listed.map((one) => one.principalId),
    [principalId],
  );
  await teller.call('DeleteStudioMember', { studioId, principalId });
  const refusal = await teller.refusal('GetStudioMember', { studioId, principalId });
  assert.deepEqual(refusal, { name: 'ResourceNotFoundException', status: 404 });
}

interface Parts {
  readonly streamingImageId: string;
  readonly studioComponentId: string;
}

const KEPT = {
  sessionPersistenceMode: 'ACTIVATED',
  automaticTerminationMode: 'ACTIVATED',
  sessionBackup: { mode: 'AUTOMATIC', maxBackupsToRetain: 1 },
  volumeConfiguration: { size: 200 },
};

async function makeProfile(teller: Teller, studioId: string, { streamingImageId, studioComponentId }: Parts) {
  const kept = (await teller.knows('GetStreamingSessionBackup')) ? KEPT : {};
  const created = await teller.call('CreateLaunchProfile', {
    studioId,
    name: 'Lighting',
    ec2SubnetIds: ['subnet-0123456789abcdef0'],
    launchProfileProtocolVersions: ['2021-03-31'],
    studioComponentIds: [studioComponentId],
    streamConfiguration: {
      clipboardMode: 'ENABLED',
      ec2InstanceTypes: ['g4dn.xlarge', 'g4dn.2xlarge'],
      streamingImageIds: [streamingImageId],
      maxStoppedSessionLengthInMinutes: 60,
      sessionStorage: { mode: ['UPLOAD'] },
      ...kept,
    },
  });
  const { launchProfileId } = created.launchProfile;
  const where = { studioId, launchProfileId };
  await teller.wait('LaunchProfileReady', where);
  await teller.call('UpdateLaunchProfile', { ...where, description: 'For the night' });
  await teller.wait('LaunchProfileReady', where);
  const { launchProfile } = await teller.call('GetLaunchProfile', where);
  assert.equal(launchProfile.description, 'For the night');
  assert.equal(launchProfile.streamConfiguration.maxSessionLengthInMinutes, 690);
  assert.ok(launchProfile.streamConfiguration.sessionStorage.root);
  assert.equal(launchProfile.validationResults.length, 4);
  const details = await teller.call('GetLaunchProfileDetails', where);
  assert.equal(details.streamingImages[0].streamingImageId, streamingImageId);
  assert.equal(details.studioComponentSummaries[0].studioComponentId, studioComponentId);
  const { launchProfileInitialization } = await teller.call('GetLaunchProfileInitialization', {
    ...where,
    launchProfileProtocolVersions: ['2021-03-31'],
    launchPurpose: 'WORKSTATION',
    platform: 'LINUX',
  });
  assert.equal(launchProfileInitialization.systemInitializationScripts[0].script, 'mount /show');
  assert.deepEqual([...launchProfileInitialization.ec2SecurityGroupIds], ['sg-1']);
  return launchProfileId as string;
}

interface Place {
  readonly studioId: string;
  readonly launchProfileId: string;
}

async function manageProfileMembers(
  teller: Teller,
  place: Place,
  { identityStoreId, principalId }: Prepared,
): Promise<void> {
  const { studioId, launchProfileId } = place;
  const ofUser = () =>
    teller.pages('ListLaunchProfiles', 'launchProfiles', { studioId, principalId, states: ['READY'] });
  assert.deepEqual(await ofUser(), []);
  const members = [{ principalId, persona: 'USER' }];
  await teller.call('PutLaunchProfileMembers', { ...place, identityStoreId, members });
  assert.deepEqual(
    (await ofUser()).map((profile) => profile.launchProfileId),
    [launchProfileId],
  );
  const updated = await teller.call('UpdateLaunchProfileMember', { ...place, principalId, persona: 'USER' });
  assert.equal(updated.member.principalId, principalId);
  const { member } = await teller.call('GetLaunchProfileMember', { ...place, principalId });
  assert.deepEqual({ ...member }, { identityStoreId, persona: 'USER', principalId });
  const listed = await teller.pages('ListLaunchProfileMembers', 'members', place);
  assert.equal(listed.length, 1);
}

async function acceptEulas(teller: Teller, place: Place, { eulaId }: Prepared): Promise<void> {
  const { studioId } = place;
  const { eula } = await teller.call('GetEula', { eulaId });
  assert.equal(eula.eulaId, eulaId);
  assert.equal((await teller.pages('ListEulas', 'eulas', { eulaIds: [eulaId] })).length, 1);
  const refusal = await teller.refusal('CreateStreamingSession', place);
  assert.deepEqual(refusal, { name: 'ValidationException', status: 400 });
  const { eulaAcceptances } = await teller.call('AcceptEulas', { studioId, eulaIds: [eulaId] });
  assert.equal(eulaAcceptances[0].accepteeId, studioId);
  assert.equal((await teller.pages('ListEulaAcceptances', 'eulaAcceptances', { studioId })).length, 1);
}

async function runSession(teller: Teller, place: Place, { principalId }: Prepared): Promise<void> {
  const { studioId } = place;
  const created = await teller.call('CreateStreamingSession', { ...place, ownedBy: principalId });
  const { sessionId } = created.session;
  const where = { studioId, sessionId };
  await teller.wait('StreamingSessionReady', where);
  const { session } = await teller.call('GetStreamingSession', where);
  assert.deepEqual([session.ownedBy, session.statusCode], [principalId, 'STREAMING_SESSION_READY']);
  assert.ok(session.stopAt);

  const stream = await teller.call('CreateStreamingSessionStream', { ...where, expirationInSeconds: 60 });
  const ofStream = { ...where, streamId: stream.stream.streamId };
  await teller.wait('StreamingSessionStreamReady', ofStream);
  assert.match((await teller.call('GetStreamingSessionStream', ofStream)).stream.url, /^https?:\/\//);

  const backupId = (await teller.knows('GetStreamingSessionBackup'))
    ? await stopWithBackup(teller, where, principalId)
    : await stop(teller, where);
  await teller.call('StartStreamingSession', { ...where, ...(backupId && { backupId }) });
  await teller.wait('StreamingSessionReady', where);
  const sessions = await teller.pages('ListStreamingSessions', 'sessions', { studioId, ownedBy: principalId });
  assert.deepEqual(
    sessions.map((one) => [one.sessionId, one.statusCode, one.startedFromBackupId]),
    [[sessionId, 'STREAMING_SESSION_STARTED', backupId]],
  );
  await teller.call('DeleteStreamingSession', where);
  await teller.wait('StreamingSessionDeleted', where);
}

async function stop(teller: Teller, where: Input, more: Input = {}): Promise<undefined> {
  await teller.call('StopStreamingSession', { ...where, ...more });
  await teller.wait('StreamingSessionStopped', where);
}

/** The id of the backup that was made meanwhile. */
async function stopWithBackup(
  teller: Teller,
  where: { readonly studioId: string; readonly sessionId: string },
  ownedBy: string,
): Promise<string> {
  await stop(teller, where, { volumeRetentionMode: 'RETAIN' });
  const { studioId, sessionId } = where;
  const backups = await teller.pages('ListStreamingSessionBackups', 'streamingSessionBackups', { studioId, ownedBy });
  const { backupId } = backups[0];
  const { streamingSessionBackup } = await teller.call('GetStreamingSessionBackup', { studioId, backupId });
  assert.deepEqual([streamingSessionBackup.sessionId, streamingSessionBackup.state], [sessionId, 'READY']);
  return backupId;
}

async function tag(teller: Teller, resourceArn: string): Promise<void> {
  await teller.call('TagResource', { resourceArn, tags: { show: 'alpha', 'a b': 'c&d/ß' } });
  await teller.call('UntagResource', { resourceArn, tagKeys: ['a b', 'absent'] });
  assert.deepEqual({ ...(await teller.call('ListTagsForResource', { resourceArn })).tags }, { show: 'alpha' });
}

async function closeStudio(
  teller: Teller,
  { studioId, launchProfileId, studioComponentId, streamingImageId }: Place & Parts,
) {
  const { principalId } = (await teller.pages('ListLaunchProfileMembers', 'members', { studioId, launchProfileId }))[0];
  await teller.call('DeleteLaunchProfileMember', { studioId, launchProfileId, principalId });
  await teller.call('DeleteLaunchProfile', { studioId, launchProfileId });
  await teller.wait('LaunchProfileDeleted', { studioId, launchProfileId });
  await teller.call('DeleteStudioComponent', { studioId, studioComponentId });
  await teller.wait('StudioComponentDeleted', { studioId, studioComponentId });
  await teller.call('DeleteStreamingImage', { studioId, streamingImageId });
  await teller.wait('StreamingImageDeleted', { studioId, streamingImageId });
  await teller.call('DeleteStudio', { studioId });
  await teller.wait('StudioDeleted', { studioId });
  assert.equal((await teller.call('GetStudio', { studioId })).studio.state, 'DELETED');
}
