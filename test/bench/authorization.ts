/**
 * What it costs to ask policies: one of twenty statements, of which the last decides, compiled once. Measured alone, by the
 * same call that serves requests, without HTTP and with a store that has the row at hand.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of policies look like this
import { authorize } from '../../src/domain/access.ts';
import { KIND } from '../../src/domain/kinds.ts';
import { compilePolicy, joinPolicies } from '../../src/domain/policy.ts';
import { createWorld } from '../support/domain.ts';
import { putImage } from '../support/rows.ts';
import { median } from './load.ts';

const STATEMENTS = 20;
const CALLS_PER_ROUND = 20_000;

/** Each is about the action, and none but the last about this resource or this caller. */
function statements(): object[] {
  const others = Array.from({ length: STATEMENTS - 1 }, (_, index) => ({
    Effect: index % 3 === 0 ? 'Deny' : 'Allow',
    Action: index % 2 === 0 ? 'nimble:*' : ['nimble:Get*', 'nimble:List*'],
    Resource: `arn:aws:nimble:*:*:streaming-image/${index}*`,
    Condition: { StringEquals: { 'aws:ResourceTag/team': `team${index}` }, Bool: { 'aws:SecureTransport': 'false' } },
  }));
  const last = {
    Effect: 'Allow',
    Action: 'nimble:GetStreamingImage',
    Resource: 'arn:aws:nimble:*:*:streaming-image/*',
    Condition: { StringEquals: { 'aws:ResourceTag/team': '${aws:userid}' } },
  };
  return [...others, last];
}

/** @returns the median of the rounds, in µs of CPU time a request: on a busy machine the clock says more. */
export async function measureAuthorization(rounds: number): Promise<number> {
  const world = createWorld();
  const studioId = await world.makeStudio();
  const streamingImageId = await putImage(world, studioId, { tags: { team: 'AIDABENCH' } });
  const policies = [
    joinPolicies([compilePolicy('bench', JSON.stringify({ Version: '2012-10-17', Statement: statements() }))]),
  ];
  const principal = { accessKeyId: 'AKIABENCH', principalId: 'AIDABENCH', role: 'service', username: 'farm', policies };
  const input = { studioId, streamingImageId };
  const call = { operation: { name: 'GetStreamingImage' }, input, principal, origin: { remoteAddress: '127.0.0.1' } };
  const row = await world.store.get(KIND.streamingImage, streamingImageId);
  const services = { ...world.services, store: { ...world.store, get: async () => row } };
  const round = async () => {
    const before = process.cpuUsage();
    for (let index = 0; index < CALLS_PER_ROUND; index += 1) await authorize(call, services);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / CALLS_PER_ROUND;
  };
  await round();
  const micros: number[] = [];
  for (let index = 0; index < rounds; index += 1) micros.push(await round());
  return median(micros);
}
