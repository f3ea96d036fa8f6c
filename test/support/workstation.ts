/** A request for a workstation in which only what a test is about is said. */
import type { WorkstationRequest } from '../../src/compute/compute.ts';

export function workstationRequest(
  said: Pick<WorkstationRequest, 'id' | 'fence'> & Partial<WorkstationRequest>,
): WorkstationRequest {
  return {
    signal: new AbortController().signal,
    imageId: 'image',
    platform: 'LINUX',
    instanceType: 'g4dn.xlarge',
    keyArn: undefined,
    scripts: [],
    clipboard: false,
    onProgress: () => undefined,
    ...said,
  };
}
