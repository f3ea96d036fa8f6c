/** A studio, an image and a component at rest in a running service, without the minutes that making a real image takes. */
import assert from 'node:assert/strict';
import type { Input } from '../../src/contract/index.ts';
import { newLaunchProfile } from '../../src/domain/launch-profile.ts';
import { applyToLaunchProfile } from '../../src/domain/launch-profile-lifecycle.ts';
import { applyToStreamingImage, newStreamingImage } from '../../src/domain/streaming-image.ts';
import { newUser } from '../../src/domain/user.ts';
import { ensureIdentityStore } from '../../src/installation.ts';
import type { TestService } from './service.ts';
import { until } from './until.ts';

export const API = '/2020-08-01';

/** A READY studio. */
export async function makeStudio(service: TestService, studioName: string, more: object = {}): Promise<string> {
  const roles = { adminRoleArn: 'arn:aws:iam::000000000000:role/a', userRoleArn: 'arn:aws:iam::000000000000:role/u' };
  const body = { displayName: `The studio ${studioName}`, studioName, ...roles, ...more };
  const answer = await service.call({ method: 'POST', path: `${API}/studios`, body });
  assert.equal(answer.status, 200, answer.body);
  const { studioId } = JSON.parse(answer.body).studio as { studioId: string };
  await untilState(service, `${API}/studios/${encodeURIComponent(studioId)}`, 'READY');
  return studioId;
}

/** A READY image, put straight into the store; of its bytes there are none. */
export async function putReadyImage({ service }: TestService, studioId: string, name = 'image'): Promise<string> {
  const { parts } = service;
  const image = {
    ec2ImageId: 'ami-0123456789abcdef0',
    eulaIds: [],
    name,
    platform: 'LINUX',
    owner: studioId,
    tags: {},
  };
  const inProgress = newStreamingImage(image, parts);
  const row = { ...applyToStreamingImage(inProgress, { type: 'imported' }, parts), version: 1 };
  await parts.store.write([{ op: 'insert', row }]);
  return row.id;
}

/** A READY profile, put straight into the store; what it names need not exist. */
export async function putReadyProfile({ service }: TestService, studioId: string, name = 'profile'): Promise<string> {
  const { parts } = service;
  const input = {
    ec2SubnetIds: [],
    launchProfileProtocolVersions: ['2021-03-31'],
    name,
    streamConfiguration: { clipboardMode: 'ENABLED', ec2InstanceTypes: ['g5.xlarge'], streamingImageIds: ['none'] },
    studioComponentIds: ['none'],
    studioId,
  } satisfies Input<'CreateLaunchProfile'>;
  const principal = { accessKeyId: 'AKIA', principalId: 'AIDA', role: 'administrator' };
  const inProgress = newLaunchProfile(input, {}, principal, parts);
  const row = { ...applyToLaunchProfile(inProgress, { type: 'created' }, parts), version: 1 };
  await parts.store.write([{ op: 'insert', row }]);
  return row.id;
}

/** A user; the server has an identity store from the first one on. */
export async function putUser({ service }: TestService, userName: string): Promise<string> {
  const { parts } = service;
  const row = newUser({ userName }, await ensureIdentityStore(parts), parts);
  await parts.store.write([{ op: 'insert', row }]);
  return row.id;
}

/** A READY component. */
export async function makeComponent(service: TestService, studioId: string, more: object = {}): Promise<string> {
  const path = `${API}/studios/${encodeURIComponent(studioId)}/studio-components`;
  const body = { name: 'component', type: 'CUSTOM', ...more };
  const answer = await service.call({ method: 'POST', path, body });
  assert.equal(answer.status, 200, answer.body);
  const { studioComponentId } = JSON.parse(answer.body).studioComponent as { studioComponentId: string };
  await untilState(service, `${path}/${studioComponentId}`, 'READY');
  return studioComponentId;
}

/** The answer of a Get, once it shows the state. */
export async function untilState(service: TestService, path: string, state: string): Promise<Record<string, unknown>> {
  return until(`${path} in ${state}`, async () => {
    const { body } = await service.call({ path });
    const [resource] = Object.values(JSON.parse(body) as Record<string, Record<string, unknown>>);
    return resource?.state === state && resource;
  });
}
