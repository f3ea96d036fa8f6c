/** A server that comes back at another address: its studios are given the new one by the vendor's clients. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  ListStudiosCommand,
  StartStudioSSOConfigurationRepairCommand,
  waitUntilStudioReady,
} from '@aws-sdk/client-nimble';
import { readyStudio } from './api.ts';
import { awsCli, sdkClient } from './clients.ts';
import { Installation, type RunningServer } from './installation.ts';

describe('a studio whose server has moved', () => {
  it('is repaired by the SDK and by the AWS CLI, and is READY with the new address', async (t) => {
    const installation = new Installation(t);
    const server = await installation.start();
    const client = sdkClient(t, installation, server);
    const studioId = await readyStudio(client, 'moved');
    await server.stop();
    const bySdk = (moved: RunningServer) =>
      sdkClient(t, installation, moved).send(new StartStudioSSOConfigurationRepairCommand({ studioId }));
    const words = ['start-studio-sso-configuration-repair', '--studio-id', studioId];
    const byCli = async (moved: RunningServer) => {
      const { code, stdout, stderr } = await awsCli(installation, moved, words);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /AWS_SSO_CONFIGURATION_REPAIR_IN_PROGRESS/);
    };
    // Each start takes another free port, and so has another address.
    for (const repair of [bySdk, byCli]) {
      const moved = await installation.start();
      await repair(moved);
      const its = sdkClient(t, installation, moved);
      await waitUntilStudioReady({ client: its, maxWaitTime: 30, minDelay: 1 }, { studioId });
      const { studios } = await its.send(new ListStudiosCommand({}));
      assert.equal(studios![0]!.studioUrl, `${moved.url}/moved`);
      assert.equal(studios![0]!.statusCode, 'AWS_SSO_CONFIGURATION_REPAIRED');
      const again = await awsCli(installation, moved, words);
      assert.match(again.stderr, /ValidationException.*there is nothing to repair/);
      await moved.stop();
    }
  });
});
