/** A studio, an image and a component at rest in a running service, without the minutes that making a real image takes. */
import assert from 'node:assert/strict';
import { applyToStreamingImage, newStreamingImage } from '../../src/domain/streaming-image.ts';
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
