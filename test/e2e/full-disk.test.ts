/**
 * What scripts see of a server whose disk is full: Debian's boto3 and AWS CLI, with the retries they have by themselves.
 * The refusal is a modelled exception that leads to the log and says nothing of the inside; with room, all goes on.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { UpdateStreamingImageCommand } from '@aws-sdk/client-nimble';
import { until } from '../support/until.ts';
import { createImage, getImage, readyStudio, settledImage } from './api.ts';
import { awsCli, python, sdkClient } from './clients.ts';
import { makeDisk } from './disks.ts';
import { startOnSmallDisk } from './small-disk.ts';

/** How often each tries again before it gives up: boto3's mode is `legacy`, the AWS CLI's `standard`. */
const BOTO3_RETRIES = 4;
const CLI_RETRIES = 2;
const REFUSED = 254;

/** Nothing of the inside: no path, no file, no SQL, no word of the database. */
const outwardOf = (requestId: string) =>
  `The change could not be stored. Nothing was changed. The server's log has the reason at ${requestId}.`;

interface Outcome {
  readonly status: number;
  readonly retries: number;
  readonly requestId: string;
  /** Where it was answered. */
  readonly description?: string;
  /** Where it was refused. */
  readonly text?: string;
  readonly code?: string;
  readonly error?: { readonly Code: string; readonly Message: string };
}

const small = await startOnSmallDisk({ after }, 32, { BACKLOT_DISK_RESERVE_MB: '1' });
const client = sdkClient({ after }, small, small.server, { maxAttempts: 1 });
let studioId = '';
let streamingImageId = '';

before(async () => {
  const disk = await makeDisk(small.installation.directory, 'disk.raw');
  const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
  const { ec2ImageId } = await small.installation.json<{ ec2ImageId: string }>(words, { wrapper: small.inside });
  studioId = await readyStudio(client, 'full');
  streamingImageId = await createImage(client, studioId, ec2ImageId);
  assert.equal((await settledImage(client, studioId, streamingImageId)).state, 'READY');
});

/** Fills the disk, and goes on until also what the database had set aside is used up, for the smallest of writes. */
async function fill(): Promise<void> {
  small.fill();
  let count = 0;
  let refusedInARow = 0;
  await until('no write is stored any more', async () => {
    count += 1;
    const input = { studioId, streamingImageId, description: String(count) };
    refusedInARow = await client.send(new UpdateStreamingImageCommand(input)).then(
      () => 0,
      (error: Error) => {
        assert.equal(error.name, 'InternalServerErrorException');
        return refusedInARow + 1;
      },
    );
    return refusedInARow === 20;
  });
}

/** Updates that were answered so. */
async function answered(status: number): Promise<number> {
  const text = await (await fetch(`${small.server.url}/metrics`)).text();
  const line = new RegExp(
    `^backlot_requests_total\\{operation="UpdateStreamingImage",status="${status}"\\} (\\d+)$`,
    'm',
  );
  return Number(line.exec(text)?.[1] ?? 0);
}

async function runScript(description: string): Promise<Outcome> {
  const script = join(import.meta.dirname, 'scripts/full_disk.py');
  const facts = { STUDIO_ID: studioId, IMAGE_ID: streamingImageId, DESCRIPTION: description };
  const { code, stdout, stderr } = await python(small, small.server, script, facts);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

const description = async () => (await getImage(client, studioId, streamingImageId)).description ?? '';

describe('a disk that is full', () => {
  it('raises InternalServerErrorException in boto3 after its retries, and lets the same script go on with room', async () => {
    await fill();
    const stored = await description();
    const failedBefore = await answered(500);
    const refused = await runScript('by boto3');
    assert.deepEqual([refused.status, refused.code, refused.retries], [500, 'STORE_UNAVAILABLE', BOTO3_RETRIES]);
    assert.deepEqual(refused.error, { Code: 'InternalServerErrorException', Message: outwardOf(refused.requestId) });
    assert.equal(
      refused.text,
      'An error occurred (InternalServerErrorException) when calling the UpdateStreamingImage operation ' +
        `(reached max retries: ${BOTO3_RETRIES}): ${outwardOf(refused.requestId)}`,
    );
    assert.equal((await answered(500)) - failedBefore, 1 + BOTO3_RETRIES);
    assert.match(small.server.process.stderr, new RegExp(`"requestId":"${refused.requestId}".*"request failed"`));
    assert.equal(await description(), stored);

    small.makeRoom();
    const { status, retries, description: changed } = await runScript('by boto3');
    assert.deepEqual([status, retries, changed], [200, 0, 'by boto3']);
  });

  it('is not noticed by a boto3 script when there is room again while it retries', async () => {
    await fill();
    const failedBefore = await answered(500);
    const running = runScript('in the end');
    await until('it was refused once', async () => (await answered(500)) > failedBefore);
    small.makeRoom();
    const { status, retries, description: changed } = await running;
    assert.deepEqual([status, changed], [200, 'in the end']);
    assert.ok(retries > 0);
    assert.equal(await description(), 'in the end');
  });

  it('makes the AWS CLI exit with 254 and name the exception after its retries, and lets it go on with room', async () => {
    await fill();
    const stored = await description();
    const words = ['update-streaming-image', '--studio-id', studioId, '--streaming-image-id', streamingImageId];
    const update = () => awsCli(small, small.server, [...words, '--description', 'by the CLI']);
    const failedBefore = await answered(500);
    const refused = await update();
    assert.deepEqual([refused.code, refused.stdout], [REFUSED, '']);
    const requestId = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.exec(refused.stderr)?.[0];
    assert.equal(
      refused.stderr.trim(),
      'An error occurred (InternalServerErrorException) when calling the UpdateStreamingImage operation ' +
        `(reached max retries: ${CLI_RETRIES}): ${outwardOf(requestId!)}`,
    );
    assert.equal((await answered(500)) - failedBefore, 1 + CLI_RETRIES);
    assert.match(small.server.process.stderr, new RegExp(`"requestId":"${requestId}".*"request failed"`));
    assert.equal(await description(), stored);

    small.makeRoom();
    const { code, stdout, stderr } = await update();
    assert.equal(code, 0, stderr);
    assert.equal(JSON.parse(stdout).streamingImage.description, 'by the CLI');
  });
});
