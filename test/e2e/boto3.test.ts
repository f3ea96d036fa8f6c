/**
 * Debian's boto3 against the real server: a pipeline's script with only the endpoint changed, and scripts about the
 * waiters, paginators, exceptions, tags and client tokens of its client. The scripts hold the assertions.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { python, readProfile } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation, type RunningServer } from './installation.ts';

interface Imported {
  readonly ec2ImageId: string;
  readonly streamingImageId: string;
}

let disks = 0;

async function importDisk(installation: Installation, ...more: string[]): Promise<Imported> {
  disks += 1;
  const disk = await makeDisk(installation.directory, `disk${disks}.vmdk`, { format: 'vmdk' });
  return installation.json<Imported>(['machine-image', 'import', disk, '--platform', 'LINUX', ...more]);
}

async function runScript(
  installation: Installation,
  server: RunningServer,
  name: string,
  environment: Record<string, string> = {},
): Promise<void> {
  const { code, stderr } = await python(installation, server, join(import.meta.dirname, 'scripts', name), environment);
  assert.equal(code, 0, stderr);
}

describe("Debian's boto3", { concurrency: true }, () => {
  const quota = 101;
  const installation = new Installation({ after }, { BACKLOT_QUOTA_STREAMING_IMAGES: String(quota) });
  let server: RunningServer;

  before(async () => {
    server = await installation.start();
  });

  it('runs an old script with only its endpoint changed', async (t) => {
    const alone = new Installation(t);
    const [its, { ec2ImageId }] = await Promise.all([alone.start(), importDisk(alone)]);
    await runScript(alone, its, 'old_script.py', { EC2_IMAGE_ID: ec2ImageId });
  });

  it('raises the exceptions that scripts catch', async () => {
    const { streamingImageId } = await importDisk(installation, '--provided');
    const { accessKeyId } = readProfile(installation.credentials);
    const environment = { PROVIDED_IMAGE_ID: streamingImageId, KEY_ID: accessKeyId, QUOTA: String(quota) };
    await runScript(installation, server, 'exceptions.py', environment);
  });

  it('pages through lists longer than a page', async () => {
    await runScript(installation, server, 'paginators.py');
  });

  it('tags by ARN and accepts EULAs', async () => {
    const words = ['eula', 'create', '--name', 'Licence', '--url', 'https://example.org/licence'];
    const { eulaId } = await installation.json<{ eulaId: string }>(words);
    await runScript(installation, server, 'tags_and_eulas.py', { EULA_ID: eulaId });
  });

  it('makes components, waits for them and pages through them', async () => {
    await runScript(installation, server, 'components.py');
  });

  it('makes launch profiles, waits for them and gives them to people', async () => {
    const { streamingImageId } = await importDisk(installation, '--provided');
    const words = ['user', 'create', '--name', 'ann'];
    const ann = await installation.json<{ principalId: string; identityStoreId: string }>(words);
    const environment = { PRINCIPAL_ID: ann.principalId, IDENTITY_STORE_ID: ann.identityStoreId };
    await runScript(installation, server, 'launch_profiles.py', {
      PROVIDED_IMAGE_ID: streamingImageId,
      ...environment,
    });
  });

  it('does nothing again for a client token that was used', async () => {
    await runScript(installation, server, 'client_tokens.py');
  });
});
