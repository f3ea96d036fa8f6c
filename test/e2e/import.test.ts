/**
 * A studio moves: saved from one server by the vendor's own command line, brought into another, and found there by the
 * vendor's client as it was, its image READY again once its disk is given.
 */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  CreateStudioComponentCommand,
  GetStudioComponentCommand,
  ListStudioComponentsCommand,
  ListStudiosCommand,
  ListTagsForResourceCommand,
  TagResourceCommand,
} from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';
import { createImage, getImage, makeStudio, settledImage } from './api.ts';
import { awsCli, sdkClient } from './clients.ts';
import { holdsSameBytes, makeDisk } from './disks.ts';
import { Installation } from './installation.ts';

interface Outcome {
  readonly kind: string;
  readonly id: string;
  readonly result: string;
}

describe('a studio that moves', () => {
  it('is the same to a client in its new place', async (t) => {
    const old = new Installation(t);
    const oldServer = await old.start();
    const oldClient = sdkClient(t, old, oldServer);
    const studio = await makeStudio(oldClient, 'film', { tags: { show: 'alpha' } });
    const studioId = studio.studioId!;
    const disk = { path: await makeDisk(old.directory, 'disk.raw'), format: 'raw' };
    const importDisk = ['machine-image', 'import', disk.path, '--platform', 'LINUX'];
    const { ec2ImageId } = await old.json<{ ec2ImageId: string }>(importDisk);
    const imageId = await createImage(oldClient, studioId, ec2ImageId, { name: 'Houdini' });
    const oldImage = await settledImage(oldClient, studioId, imageId);
    await oldClient.send(new TagResourceCommand({ resourceArn: oldImage.arn!, tags: { team: 'fx' } }));
    const type = { name: 'Files', type: 'SHARED_FILE_SYSTEM' } as const;
    const { studioComponent } = await oldClient.send(new CreateStudioComponentCommand({ studioId, ...type }));
    const { studioComponentId } = studioComponent!;
    await until('the component is READY', async () => {
      const got = await oldClient.send(new GetStudioComponentCommand({ studioId, studioComponentId }));
      return got.studioComponent!.state === 'READY';
    });
    const { eulaId } = await old.json<{ eulaId: string }>([
      'eula',
      'create',
      '--name',
      'L',
      '--url',
      'https://example.org',
    ]);

    mkdirSync(join(old.directory, 'export'));
    const here = ['--studio-id', studioId];
    const commands: readonly (readonly string[])[] = [
      ['list-studios'],
      ['list-eulas'],
      ['list-studio-components', ...here],
      ['list-streaming-images', ...here],
      ['accept-eulas', ...here, '--eula-ids', eulaId],
      ['list-eula-acceptances', ...here],
    ];
    for (const [index, words] of commands.entries()) {
      const { code, stdout, stderr } = await awsCli(old, oldServer, words);
      assert.equal(code, 0, stderr);
      writeFileSync(join(old.directory, 'export', `${index}.json`), stdout);
    }

    const next = new Installation(t);
    const server = await next.start();
    const client = sdkClient(t, next, server);
    const words = ['import', join(old.directory, 'export')];
    // The server's own settings: studios are shown its address.
    const settings = { environment: { BACKLOT_PORT: String(server.port) } };
    const dry = await next.json<Outcome[]>(words, settings);
    assert.deepEqual(new Set(dry.map(({ result }) => result)), new Set(['new', 'there']));
    assert.deepEqual((await client.send(new ListStudiosCommand({}))).studios, []);
    assert.deepEqual(await next.json([...words, '--apply'], settings), dry);

    const { studios } = await client.send(new ListStudiosCommand({}));
    assert.deepEqual(studios, [{ ...studio, studioUrl: `${server.url}/film` }]);
    const { studioComponents } = await client.send(new ListStudioComponentsCommand({ studioId }));
    assert.deepEqual(
      studioComponents!.map(({ name }) => name),
      ['Files'],
    );
    const { tags } = await client.send(new ListTagsForResourceCommand({ resourceArn: oldImage.arn! }));
    assert.deepEqual(tags, { team: 'fx' });

    const waiting = await getImage(client, studioId, imageId);
    assert.equal(waiting.state, 'CREATE_FAILED');
    assert.ok(waiting.statusMessage!.endsWith(`machine-image import FILE --platform LINUX --as ${ec2ImageId}`));
    await next.json([...importDisk, '--as', ec2ImageId]);
    const image = await settledImage(client, studioId, imageId);
    assert.deepEqual({ ...image, tags: {} }, { ...oldImage, tags: {} });
    assert.ok(await holdsSameBytes(next, next.dataDir, imageId, disk));

    const again = await next.json<Outcome[]>([...words, '--apply']);
    assert.deepEqual(new Set(again.map(({ result }) => result)), new Set(['there']));
    const taken = await next.backlot([...importDisk, '--as', ec2ImageId]);
    assert.deepEqual([taken.code, taken.stderr], [1, `backlot: There is a machine image ${ec2ImageId} already.\n`]);
    const wrong = await next.backlot([...importDisk, '--as', 'ami-1']);
    assert.match(wrong.stderr, /--as must be ami- and 8 or 17 hexadecimal digits/);
  });
});
