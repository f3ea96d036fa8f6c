/**
 * Where secrets must not be: while a sizeable disk is encrypted under a customer's key, no process is looked at, no log
 * line read and no file opened in which a passphrase, a key or what the API calls sensitive can be found.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { TagResourceCommand, UpdateStreamingImageCommand } from '@aws-sdk/client-nimble';
import { systemClock } from '../../src/clock.ts';
import { openLocalKeys } from '../../src/keys/local.ts';
import { procFile, toolsHolding } from '../drivers/tools.ts';
import { until } from '../support/until.ts';
import { createImage, deleteImage, getImage, makeStudio, settledImage } from './api.ts';
import { readProfile, sdkClient } from './clients.ts';
import { MARKER, makeDisk } from './disks.ts';
import { Installation } from './installation.ts';

/** The ways in which a secret might be written down. */
function formsOf(secret: Buffer): Buffer[] {
  const encodings = ['hex', 'base64', 'base64url'] as const;
  return [secret, ...encodings.map((encoding) => Buffer.from(secret.toString(encoding)))];
}

/** All files in the directory and below, as they are at this moment. */
function filesIn(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Mode and content may be gone by the time they are asked for. */
function ifThere<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const holdsAny = (bytes: Buffer, secrets: readonly Buffer[]) => secrets.some((secret) => bytes.includes(secret));

describe('secrets', () => {
  it('are in no process, no log and no file but their own, while a disk is encrypted and afterwards', async (t) => {
    const installation = new Installation(t, { BACKLOT_LOG_LEVEL: 'debug' });
    const { directory, dataDir } = installation;
    const server = await installation.start();
    const client = sdkClient(t, installation, server);
    const disk = await makeDisk(directory, 'disk.raw', { mebibytes: 256, noiseMebibytes: 64 });
    const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
    const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(words);
    const { keyArn } = await installation.json<{ keyArn: string }>(['key', 'create']);
    const studioEncryptionConfiguration = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } as const;
    const studio = await makeStudio(client, 'film', {
      displayName: 'Confidential studio',
      studioEncryptionConfiguration,
    });
    const studioId = studio.studioId!;
    const id = await createImage(client, studioId, ec2ImageId, { name: 'Confidential image' });

    const keyFile = installation.path('keys/data', `${id}.json`);
    await until('the key is there', () => statSync(keyFile));
    const keyOptions = { directory: installation.path('keys'), region: 'us-west-2', accountId: '000000000000' };
    const keys = await openLocalKeys({ ...keyOptions, clock: systemClock });
    const passphrase = await keys.unseal(id);
    const rootKey = readFileSync(installation.path('keys/root.key'));
    const { secretAccessKey } = readProfile(installation.credentials);
    assert.equal(passphrase.length, 44);
    const ofImage = [...formsOf(passphrase), ...formsOf(Buffer.from(passphrase.toString(), 'base64'))];
    const secrets = [...ofImage, ...formsOf(rootKey), ...formsOf(Buffer.from(secretAccessKey))];

    let looks = 0;
    let tools = 0;
    await until('the image is made, and was looked at while it was', async () => {
      for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
        for (const place of ['cmdline', 'environ']) {
          const bytes = Buffer.from(procFile(Number(pid), place), 'latin1');
          assert.ok(!holdsAny(bytes, secrets), `/proc/${pid}/${place}`);
        }
      }
      for (const path of filesIn(dataDir)) {
        // Its tool may be let in by the group, within directories that are closed to all but their owner.
        const mode = ifThere(() => statSync(path).mode);
        assert.equal((mode ?? 0) & 0o117, 0, path);
      }
      if (toolsHolding(installation.path('images/staging')).length > 0) tools += 1;
      looks += 1;
      return (await getImage(client, studioId, id)).state !== 'CREATE_IN_PROGRESS';
    });
    assert.ok(looks > 5 && tools > 0, `${looks} looks, ${tools} of them at a tool`);
    assert.equal((await settledImage(client, studioId, id)).state, 'READY');

    const { arn } = await getImage(client, studioId, id);
    await client.send(new TagResourceCommand({ resourceArn: arn!, tags: { show: 'Confidential tag' } }));
    const update = { studioId, streamingImageId: id, description: 'Confidential description' };
    await client.send(new UpdateStreamingImageCommand(update));
    const { stderr, stdout } = server.process;
    assert.match(stderr, /"msg":"listening"/);
    assert.ok(!holdsAny(Buffer.from(stderr + stdout), [...secrets, Buffer.from('Confidential')]), 'the log');

    const entries = readdirSync(dataDir, { recursive: true, withFileTypes: true });
    for (const entry of entries) {
      const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
      assert.equal(mode, entry.isDirectory() ? 0o700 : 0o600, entry.name);
    }
    const copies = filesIn(installation.path('images/streaming'));
    assert.deepEqual(copies.map((path) => path.split('/').at(-1)).sort(), ['disk.qcow2', 'manifest.json']);
    for (const path of copies) assert.ok(!readFileSync(path).includes(MARKER), path);
    const holding = (wanted: readonly Buffer[], own: string) =>
      filesIn(dataDir).filter((path) => path !== installation.path(own) && holdsAny(readFileSync(path), wanted));
    assert.deepEqual(holding(ofImage, ''), []);
    assert.deepEqual(holding(formsOf(rootKey), 'keys/root.key'), []);
    assert.deepEqual(holding(formsOf(Buffer.from(secretAccessKey)), 'credentials'), []);

    await deleteImage(client, studioId, id);
    assert.equal((await settledImage(client, studioId, id)).state, 'DELETED');
    assert.deepEqual(readdirSync(installation.path('keys/data')), []);
    assert.deepEqual(readdirSync(installation.path('images/streaming')), []);
    assert.deepEqual(readdirSync(installation.path('images/staging')), []);
    await assert.rejects(keys.unseal(id), /There is no data key/);
  });
});
