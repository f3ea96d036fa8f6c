/**
 * Every command of `backlot`, beside a running server: what it prints at a terminal and on a pipe, what it refuses and
 * with which exit code, and what is left behind when it fails or is stopped (nothing).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  AccessDeniedException,
  CreateStreamingSessionCommand,
  DeleteStreamingImageCommand,
  GetStreamingSessionCommand,
  ListStreamingImagesCommand,
  ListStudiosCommand,
  type NimbleClient,
  UpdateStreamingImageCommand,
} from '@aws-sdk/client-nimble';
import { commands } from '../../src/cli/index.ts';
import { SETTINGS, type Settings } from '../../src/settings.ts';
import { toolsHolding } from '../drivers/tools.ts';
import { SYSTEM, tarOf } from '../support/tar.ts';
import { until } from '../support/until.ts';
import { ABSENT, createImage, deleteImage, makeStudio, readyLaunchProfile, readyStudio, settledImage } from './api.ts';
import { sdkClient } from './clients.ts';
import { FORMATS, makeDisk } from './disks.ts';
import { BACKLOT, type Finished, Installation, PROJECT, type RunningServer } from './installation.ts';

interface MachineImage {
  readonly ec2ImageId: string;
  readonly name: string;
  readonly format: string;
  readonly sizeBytes: number;
  readonly virtualSizeBytes: number;
  readonly sha256: string;
  readonly eulaIds: readonly string[];
  readonly streamingImageId?: string;
}

/** A user or a group. */
interface Person {
  readonly principalId: string;
  readonly identityStoreId: string;
  readonly userName?: string;
  readonly state?: string;
  readonly users?: readonly string[];
}

const BACKLOT_IMPORT = [BACKLOT, 'machine-image', 'import', '--platform', 'LINUX'];

/** Asserts that a command could not do what it was asked: one sentence, and the exit code. @returns the sentence. */
function sentenceOf({ code, stdout, stderr }: Finished, exitCode = 1): string {
  assert.equal(code, exitCode, `${stdout}${stderr}`);
  assert.equal(stdout, '');
  const sentence = stderr.replace(MADE_DIRECTORY, '');
  assert.match(sentence, /^backlot: [^\n]+\n$/);
  return sentence;
}

/** Said by the first command in a place where there was nothing. */
const MADE_DIRECTORY = /^backlot: made a new data directory, \S+\n/;

/** Everything in the directories of disks and data keys. */
function heldIn(installation: Installation): string[] {
  const places = ['images/staging', 'images/machine', 'images/streaming', 'keys/data'];
  return places.flatMap((place) => readdirSync(installation.path(place)).map((name) => `${place}/${name}`));
}

describe('backlot explains itself', { concurrency: true }, () => {
  const installation = new Installation({ after });

  it('lists every command, and explains each', async () => {
    const overview = await installation.backlot(['--help']);
    assert.equal(overview.code, 0);
    for (const { name } of commands) assert.match(overview.stdout, new RegExp(`^ {2}${name} +\\S`, 'm'));
    assert.deepEqual(await installation.backlot([]), overview);
    assert.deepEqual(await installation.backlot(['help']), overview);
    assert.deepEqual(
      await installation.backlot(['help', 'key', 'delete']),
      await installation.backlot(['key', 'delete', '--help']),
    );
    await Promise.all(
      commands.map(async ({ name, positionals, options, summary }) => {
        const { code, stdout, stderr } = await installation.backlot([...name.split(' '), '--help']);
        assert.deepEqual([code, stderr], [0, '']);
        assert.ok(stdout.startsWith(`Usage: ${['backlot', name, ...positionals].join(' ')} [OPTIONS]\n\n${summary}\n`));
        for (const option of [...Object.keys(options), 'json', 'data-dir'])
          assert.match(stdout, new RegExp(`^ {2}--${option}\\b`, 'm'));
      }),
    );
    const serve = await installation.backlot(['serve', '-h']);
    for (const { flag, env } of Object.values(SETTINGS))
      assert.match(serve.stdout, new RegExp(flag === undefined ? `^  ${env} ` : `--${flag} VALUE.*\\(${env}`, 'm'));
  });

  it('says which version it is', async () => {
    assert.match((await installation.backlot(['--version'])).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('exits with 2 and one line when the words make no sense', async () => {
    const cases: readonly (readonly [words: readonly string[], says: RegExp])[] = [
      [['nonsense'], /no command nonsense/],
      [['help', 'nonsense'], /no command nonsense/],
      [['serve', 'now'], /serve takes no arguments/],
      [['--port', '1', 'serve', 'now'], /serve takes no arguments/],
      [['serve', '--prot', '1'], /--prot/],
      [['machine-image', 'import', 'disk'], /--platform is missing/],
      [['machine-image', 'import', '--platform', 'LINUX'], /machine-image import takes FILE/],
      [['machine-image', 'delete'], /takes EC2_IMAGE_ID/],
      [['machine-image', 'list', '--port', '1'], /--port/],
      [['eula', 'create', '--name', 'x'], /--url is missing/],
      [['access-key', 'delete', 'a', 'b'], /takes ACCESS_KEY_ID/],
      [['key', 'delete', '--yes=1', 'arn'], /--yes/],
    ];
    await Promise.all(
      cases.map(async ([words, says]) => assert.match(sentenceOf(await installation.backlot(words), 2), says)),
    );
    const group = await installation.backlot(['machine-image']);
    assert.equal(group.code, 2);
    assert.match(group.stderr, /^ {2}machine-image import /m);
  });

  it('exits with 1 and a line that names the setting when a setting has a value it cannot have', async () => {
    const bad: Readonly<Record<keyof Settings, string>> = {
      dataDir: '',
      databaseUrl: 'mysql://user:secret@host/database',
      databaseConnectionsMax: '0',
      host: 'a b',
      port: '70000',
      region: 'Oregon',
      accountId: '12',
      publicUrl: 'ftp://example.org',
      tlsCertFile: '/etc/backlot/',
      tlsKeyFile: '/etc/backlot/',
      tombstoneMs: '-1',
      tokenMs: 'long',
      loginMs: '37',
      streamingImagesMax: '1.5',
      studioComponentsMax: '10001',
      sharedFileSystemsMax: 'ten',
      streamingSessionsMax: '-1',
      g5SessionsMax: 'many',
      launchProfilesMax: '-1',
      bodyBytesMax: '1',
      headerBytesMax: '1',
      requestMs: '0',
      connectionsMax: '0',
      clockSkewMs: 'x',
      importsMax: '0',
      compute: 'cloud',
      instanceTypes: 'g5.xlarge=2',
      computeMemoryMib: '63',
      computeNetwork: 'bridge',
      accelerator: 'xen',
      bootMs: '0',
      stopMs: '3601',
      screenshots: 'yes',
      sessionsPerOwnerMax: '-1',
      simulatedStartMs: '3601',
      simulatedFailure: 'BAD_LUCK',
      sessionStartsMax: '0',
      streamViewersMax: '0',
      leaseMs: '0.1',
      diskReserveBytes: '-5',
      logLevel: 'loud',
      throttle: 'yes',
      throttleReadsPerSecond: '0',
      throttleWritesPerSecond: '1e3',
      auditMs: 'ever',
    };
    const names = Object.keys(SETTINGS) as (keyof Settings)[];
    await Promise.all(
      names.map(async (name) => {
        const { env, flag } = SETTINGS[name];
        const byFlag = name === 'dataDir' || name === 'leaseMs';
        const finished = await (byFlag
          ? installation.backlot(['serve', `--${flag}`, bad[name]])
          : installation.backlot(['serve'], { environment: { [env]: bad[name] } }));
        const value = JSON.stringify(bad[name]);
        const line = sentenceOf(finished);
        assert.ok(line.startsWith(`backlot: ${byFlag ? `--${flag}` : env} must `), line);
        // What has no flag may hold a secret: neither the value nor a part of it may be told.
        assert.ok(flag === undefined ? !line.includes('secret') : line.includes(value), line);
      }),
    );
  });
});

describe('backlot machine-image import', { concurrency: true }, () => {
  it('takes every format as it comes, and leaves the file as it is', async (t) => {
    const installation = new Installation(t);
    const take = async (format: (typeof FORMATS)[number]) => {
      const disk = await makeDisk(installation.directory, `disk.${format}`, { format });
      const sha256 = createHash('sha256').update(readFileSync(disk)).digest('hex');
      const words = ['machine-image', 'import', disk, '--platform', 'WINDOWS', '--name', `A ${format}`];
      const imported = await installation.json<MachineImage>(words);
      assert.match(imported.ec2ImageId, /^ami-[0-9a-f]{17}$/);
      const { size } = statSync(disk);
      const expected = { name: `A ${format}`, platform: 'WINDOWS', format, sizeBytes: size, sha256 };
      assert.deepEqual({ ...imported, ...expected, virtualSizeBytes: 4 * 2 ** 20 }, imported);
      const stored = readFileSync(installation.path('images/machine', imported.ec2ImageId, 'disk'));
      assert.equal(createHash('sha256').update(stored).digest('hex'), sha256);
      assert.equal(createHash('sha256').update(readFileSync(disk)).digest('hex'), sha256);
    };
    await Promise.all(FORMATS.map(take));
    const listed = await installation.json<MachineImage[]>(['machine-image', 'list']);
    assert.deepEqual(new Set(listed.map(({ format }) => format)), new Set(FORMATS));
    const { ec2ImageId } = listed[0]!;
    const deleted = await installation.json(['machine-image', 'delete', ec2ImageId]);
    assert.deepEqual(deleted, { deleted: ec2ImageId, streamingImageIds: [] });
    assert.equal(heldIn(installation).length, FORMATS.length - 1);
    sentenceOf(await installation.backlot(['machine-image', 'delete', ec2ImageId]));
  });

  it('takes a tar of a root file system for LINUX, and for nothing else', async (t) => {
    const installation = new Installation(t);
    const file = join(installation.directory, 'root.tar');
    writeFileSync(file, tarOf(SYSTEM));
    const words = ['machine-image', 'import', file, '--platform'];
    assert.match(sentenceOf(await installation.backlot([...words, 'WINDOWS'])), /which only LINUX can be/);
    assert.deepEqual(await installation.json(['machine-image', 'list']), []);
    assert.deepEqual(heldIn(installation), []);
    const { format, sizeBytes } = await installation.json<MachineImage>([...words, 'LINUX']);
    assert.deepEqual([format, sizeBytes], ['tar', statSync(file).size]);
  });

  it('refuses what is not a whole disk by itself, in one sentence, and leaves nothing', async (t) => {
    const installation = new Installation(t);
    const { directory } = installation;
    const place = (name: string) => join(directory, name);
    const image = async (...words: string[]) => {
      const { code, stderr } = await installation.run(['qemu-img', 'create', '-q', ...words]);
      assert.equal(code, 0, stderr);
    };
    await makeDisk(directory, 'whole.raw');
    await makeDisk(directory, 'truncated.qcow2', { format: 'qcow2' });
    truncateSync(place('truncated.qcow2'), 300_000);
    await makeDisk(directory, 'truncated.vmdk', { format: 'vmdk' });
    truncateSync(place('truncated.vmdk'), 150_000);
    await makeDisk(directory, 'lying.qcow2');
    await makeDisk(directory, 'lying.raw', { format: 'qcow2' });
    await image('-f', 'qcow2', '-b', place('whole.raw'), '-F', 'raw', place('backed.qcow2'));
    await image(
      '-f',
      'qcow2',
      '-o',
      `data_file=${place('outside.raw')},data_file_raw=on`,
      place('outside.qcow2'),
      '4M',
    );
    await image(
      '-f',
      'luks',
      '--object',
      'secret,id=s,data=x',
      '-o',
      'key-secret=s,iter-time=10',
      place('locked.img'),
      '4M',
    );
    await image('-f', 'vpc', place('azure.img'), '4M');
    writeFileSync(place('empty.raw'), '');
    writeFileSync(place('cut.raw'), Buffer.alloc(1_000));
    await mkdir(place('directory.raw'));
    await installation.run(['mkfifo', place('pipe.raw')]);
    const cases: readonly (readonly [file: string, says: RegExp])[] = [
      ['truncated.qcow2', /incomplete|ends before|shorter|cut/i],
      ['truncated.vmdk', /incomplete|ends before|shorter|cut/i],
      ['lying.qcow2', /name ends in \.qcow2/],
      ['lying.raw', /name ends in \.raw but its content is a qcow2 image/],
      ['backed.qcow2', /backing|refers|another file/i],
      ['outside.qcow2', /data file|refers|another file/i],
      ['locked.img', /LUKS/],
      ['azure.img', /VHD/],
      ['empty.raw', /empty/i],
      ['cut.raw', /sector/],
      ['directory.raw', /./],
      ['pipe.raw', /./],
      ['absent.raw', /does not exist/],
    ];
    await Promise.all(
      cases.map(async ([file, says]) => {
        const finished = await installation.backlot(['machine-image', 'import', place(file), '--platform', 'LINUX']);
        assert.match(sentenceOf(finished), says, file);
        assert.ok(finished.stderr.endsWith('.\n'), finished.stderr);
      }),
    );
    const words = ['machine-image', 'import', place('whole.raw')];
    const unknownEula = [...words, '--platform', 'LINUX', '--eula', 'AAAAAAAAAAAAAAAAAAAAAA'];
    const others = [
      unknownEula,
      [...words, '--platform', 'BEOS'],
      [...words, '--platform', 'LINUX', '--name', 'x'.repeat(65)],
    ];
    await Promise.all(others.map(async (other) => sentenceOf(await installation.backlot(other))));
    assert.deepEqual(await installation.json(['machine-image', 'list']), []);
    assert.deepEqual(heldIn(installation), []);
  });

  it('leaves nothing when it is stopped while it copies', async (t) => {
    const installation = new Installation(t);
    const disk = await makeDisk(installation.directory, 'large.raw', { mebibytes: 256, noiseMebibytes: 2 });
    const importing = installation.spawn([...BACKLOT_IMPORT, disk]);
    const staging = installation.path('images/staging');
    await until('the copy begins', () => readdirSync(staging).length > 0);
    importing.signal('SIGINT');
    assert.match(sentenceOf(await importing.finished), /Stopped\. Nothing was imported\./);
    assert.deepEqual(heldIn(installation), []);
    assert.deepEqual(await installation.json(['machine-image', 'list']), []);
  });

  it('leaves nothing when it is stopped while it encrypts', async (t) => {
    const installation = new Installation(t);
    const disk = await makeDisk(installation.directory, 'disk.raw');
    const importing = installation.spawn([...BACKLOT_IMPORT, disk, '--provided']);
    await until('qemu-img runs', () => toolsHolding(installation.dataDir).length > 0);
    importing.signal('SIGINT');
    assert.match(sentenceOf(await importing.finished), /Stopped\. Nothing was imported\./);
    assert.deepEqual(toolsHolding(installation.dataDir), []);
    assert.deepEqual(heldIn(installation), []);
    assert.deepEqual(await installation.json(['machine-image', 'list']), []);
  });

  it('shows a bar at a terminal, and a sheet instead of JSON', async (t) => {
    const installation = new Installation(t);
    const disk = await makeDisk(installation.directory, 'disk.raw');
    const words = ['machine-image', 'import', disk, '--platform', 'LINUX'];
    const { code, stdout } = await installation.backlotAtTerminal(words);
    assert.equal(code, 0, stdout);
    assert.match(stdout, /\rImporting [█░]{30} {1,3}\d+ %/);
    assert.match(stdout, /^.*ec2ImageId +ami-[0-9a-f]{17}\r\n/m);
    assert.match(stdout, /^platform +LINUX\r\n/m);
    const json = await installation.backlotAtTerminal(['machine-image', 'list', '--json']);
    const [listed] = JSON.parse(json.stdout) as MachineImage[];
    const table = await installation.backlotAtTerminal(['machine-image', 'list']);
    const [heads, row] = table.stdout.split('\r\n');
    assert.match(heads!, /^ec2ImageId +name +platform +/);
    assert.ok(row!.startsWith(`${listed!.ec2ImageId}  disk.raw  LINUX`));
  });
});

describe('backlot beside a running server', { concurrency: true }, () => {
  const installation = new Installation({ after });
  let server: RunningServer;
  let client: NimbleClient;
  let disk: string;

  before(async () => {
    server = await installation.start();
    client = sdkClient({ after }, installation, server);
    disk = await makeDisk(installation.directory, 'disk.qcow2', { format: 'qcow2' });
  });

  const importDisk = (...more: string[]) =>
    installation.json<MachineImage>(['machine-image', 'import', disk, '--platform', 'LINUX', ...more]);

  it('makes and lists EULAs, and refuses what is none', async () => {
    const create = ['eula', 'create', '--url', 'https://example.org/licence', '--name'];
    const eula = await installation.json<{ eulaId: string; name: string }>([...create, 'Licence\u001b[2J']);
    assert.equal(eula.name, 'Licence\u001b[2J');
    const listed = await installation.json<{ eulaId: string }[]>(['eula', 'list']);
    assert.ok(listed.some(({ eulaId }) => eulaId === eula.eulaId));
    const { stdout } = await installation.backlotAtTerminal(['eula', 'list']);
    assert.match(stdout, /Licence\?\[2J/, 'a name cannot move the cursor');
    assert.match(sentenceOf(await installation.backlot([...create, 'x'.repeat(65)])), /--name/);
    const words = ['eula', 'create', '--name', 'Licence', '--url', 'file:///etc/passwd'];
    assert.match(sentenceOf(await installation.backlot(words)), /--url/);
  });

  it('provides an image to every studio, which none may change, with the EULAs it asks for', async () => {
    const [one, another] = [await readyStudio(client, 'first'), await readyStudio(client, 'second')];
    const words = ['eula', 'create', '--name', 'Licence', '--url', 'https://example.org/licence'];
    const { eulaId } = await installation.json<{ eulaId: string }>(words);
    const { ec2ImageId, streamingImageId } = await importDisk(
      '--provided',
      '--name',
      'Base',
      '--eula',
      eulaId,
      '--eula',
      eulaId,
    );
    for (const studioId of [one, another, await readyStudio(client, 'third')]) {
      const { streamingImages } = await client.send(new ListStreamingImagesCommand({ studioId }));
      const image = streamingImages!.find((candidate) => candidate.streamingImageId === streamingImageId)!;
      const { arn: _arn, ...rest } = image;
      assert.deepEqual(rest, {
        ec2ImageId,
        eulaIds: [eulaId],
        name: 'Base',
        owner: 'amazon',
        platform: 'LINUX',
        state: 'READY',
        streamingImageId,
        tags: {},
      });
      const place = { studioId, streamingImageId: streamingImageId! };
      await assert.rejects(
        client.send(new UpdateStreamingImageCommand({ ...place, name: 'Mine' })),
        AccessDeniedException,
      );
      await assert.rejects(client.send(new DeleteStreamingImageCommand(place)), AccessDeniedException);
    }
    const own = await createImage(client, one, ec2ImageId);
    const made = await settledImage(client, one, own);
    assert.deepEqual([made.state, made.eulaIds], ['READY', [eulaId]]);

    const deletion = await installation.json(['machine-image', 'delete', ec2ImageId]);
    assert.deepEqual(deletion, { deleted: ec2ImageId, streamingImageIds: [streamingImageId] });
    for (const studioId of [one, another]) {
      assert.equal((await settledImage(client, studioId, streamingImageId!)).state, 'DELETED');
    }
    assert.equal((await settledImage(client, one, own)).state, 'READY', 'the copy of a studio stays');
    assert.ok(!heldIn(installation).some((path) => path.includes(streamingImageId!)));
  });

  it('deletes a provided image below a session, whose key and disk stay for it', async () => {
    const studioId = await readyStudio(client, 'standing');
    const { ec2ImageId, streamingImageId } = await importDisk('--provided');
    const launchProfileId = await readyLaunchProfile(client, studioId, streamingImageId!);
    const { session } = await client.send(new CreateStreamingSessionCommand({ studioId, launchProfileId }));
    const deletion = await installation.json(['machine-image', 'delete', ec2ImageId]);
    assert.deepEqual(deletion, { deleted: ec2ImageId, streamingImageIds: [streamingImageId] });
    const deleted = await settledImage(client, studioId, streamingImageId!);
    assert.equal(deleted.state, 'DELETED');
    assert.match(deleted.statusMessage!, /Its key and disk are kept until its sessions are deleted\.$/);
    assert.ok(existsSync(installation.path('keys', 'data', `${streamingImageId}.json`)));
    assert.ok(existsSync(installation.path('images', 'streaming', streamingImageId!)));
    await until('the session is READY', async () => {
      const named = { studioId, sessionId: session!.sessionId };
      return (await client.send(new GetStreamingSessionCommand(named))).session!.state === 'READY';
    });
  });

  it('refuses to delete a machine image while an image is made from it, and lets it go afterwards', async () => {
    const studioId = await readyStudio(client, 'busy');
    const { ec2ImageId } = await importDisk();
    const streamingImageId = await createImage(client, studioId, ec2ImageId);
    const machineDisk = installation.path('images/machine', ec2ImageId);
    const [tool] = await until('qemu-img runs', () => {
      const tools = toolsHolding(machineDisk);
      return tools.length > 0 && tools;
    });
    process.kill(tool!, 'SIGSTOP');
    const refused = await installation.backlot(['machine-image', 'delete', ec2ImageId]);
    process.kill(tool!, 'SIGCONT');
    assert.match(sentenceOf(refused), new RegExp(`${streamingImageId} is being made from it`));
    const image = await settledImage(client, studioId, streamingImageId);
    assert.equal(image.state, 'READY');
    await installation.json(['machine-image', 'delete', ec2ImageId]);
    assert.equal((await settledImage(client, studioId, streamingImageId)).state, 'READY', 'the copy stays');
    const next = await settledImage(client, studioId, await createImage(client, studioId, ec2ImageId));
    assert.equal(next.statusCode, 'ACCESS_DENIED');
  });

  it('makes users, lists them, and disables and enables them, by name and by id', async () => {
    const make = ['user', 'create', '--name', 'ann', '--display-name', 'Ann\u001b[2J', '--email', 'ann@example.org'];
    const refusal = sentenceOf(await installation.backlot(make));
    assert.match(refusal, /display name/);
    const ann = await installation.json<Person>(make.map((word) => word.replace('\u001b[2J', ' Lee')));
    assert.deepEqual(Object.keys(ann), ['principalId', 'identityStoreId', 'userName']);
    assert.match(ann.identityStoreId, /^d-[0-9a-f]{10}$/);
    assert.ok(ann.principalId.startsWith(`${ann.identityStoreId.slice(2)}-`));
    const ben = await installation.json<Person>(['user', 'create', '--name', 'ben']);
    await installation.json(['access-key', 'create', '--service', 'named']);
    assert.equal(ben.identityStoreId, ann.identityStoreId);
    for (const [words, says] of [
      [['user', 'create', '--name', 'ANN'], /There is a user ANN already/],
      [['user', 'create', '--name', 'Named'], /There is a service named: a user must have a name of their own/],
      [['user', 'rename', 'ben', 'named'], /There is a service named/],
      [['access-key', 'create', '--service', 'ben'], /There is a user ben: a service must have a name of its own/],
      [['user', 'create', '--name', 'a b'], /letters, digits/],
      [['user', 'create', '--name', 'c', '--email', 'c'], /name@example\.org/],
      [['user', 'disable', 'nobody'], /There is no user nobody/],
      [['user', 'enable', ann.principalId.replace(/.$/, 'x')], /There is no user/],
    ] as const) {
      assert.match(sentenceOf(await installation.backlot(words)), says);
    }
    const stateOf = async (userName: string) =>
      (await installation.json<Person[]>(['user', 'list'])).find((user) => user.userName === userName)!.state;
    assert.equal(await stateOf('ann'), 'ENABLED');
    assert.equal((await installation.json<Person>(['user', 'disable', 'ann'])).state, 'DISABLED');
    assert.deepEqual([await stateOf('ann'), await stateOf('ben')], ['DISABLED', 'ENABLED']);
    await installation.json(['user', 'disable', 'ann']);
    await installation.json(['user', 'enable', ann.principalId]);
    assert.equal(await stateOf('ann'), 'ENABLED');
  });

  it('gives a user another name, which nobody else may have', async () => {
    const { principalId } = await installation.json<Person>(['user', 'create', '--name', 'fay']);
    await installation.json<Person>(['user', 'create', '--name', 'gil']);
    const renamed = await installation.json<Person>(['user', 'rename', principalId, 'FAY']);
    assert.deepEqual([renamed.principalId, renamed.userName], [principalId, 'FAY']);
    assert.equal((await installation.json<Person>(['user', 'rename', 'fay', 'fay.lee'])).userName, 'fay.lee');
    for (const [words, says] of [
      [['fay', 'other'], /There is no user fay/],
      [['fay.lee', 'GIL'], /There is a user GIL already/],
      [['fay.lee', 'a b'], /letters, digits/],
    ] as const) {
      assert.match(sentenceOf(await installation.backlot(['user', 'rename', ...words])), says);
    }
    const lines = await installation.json<object[]>(['audit', '--operation', 'user rename']);
    assert.equal(lines.length, 2);
  });

  it('works as docs/launch-profiles.md shows', async (t) => {
    const alone = new Installation(t);
    const text = readFileSync(join(PROJECT, 'docs/launch-profiles.md'), 'utf8');
    const shown = /<!-- example: commands -->\n```sh\n(.*?)```/s.exec(text)![1]!.replaceAll('npx backlot', BACKLOT);
    const { code, stdout, stderr } = await alone.run(['sh', '-eux', '-c', shown]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /"displayName": "Ann Lee"/);
    assert.match(stdout, /"users": \[\s+"ann"/);
  });

  it('makes groups, and puts users in and takes them out', async () => {
    const user = await installation.json<Person>(['user', 'create', '--name', 'grouped']);
    const group = await installation.json<Person>(['group', 'create', '--name', 'Lighting team']);
    assert.deepEqual(Object.keys(group), ['principalId', 'identityStoreId', 'groupName']);
    const added = { group: group.principalId, added: user.principalId };
    assert.deepEqual(await installation.json(['group', 'add', 'lighting team', 'grouped']), added);
    assert.deepEqual(await installation.json(['group', 'add', group.principalId, user.principalId]), added);
    const listed = async () =>
      (await installation.json<Person[]>(['group', 'list'])).find(
        ({ principalId }) => principalId === group.principalId,
      );
    assert.deepEqual((await listed())!.users, ['grouped']);

    const removed = { group: group.principalId, removed: user.principalId };
    assert.deepEqual(await installation.json(['group', 'remove', 'Lighting team', 'grouped']), removed);
    assert.deepEqual((await listed())!.users, []);
    for (const [words, says] of [
      [['group', 'create', '--name', 'LIGHTING TEAM'], /There is a group LIGHTING TEAM already/],
      [['group', 'create', '--name', ' '], /The name of a group/],
      [['group', 'remove', 'Lighting team', 'grouped'], /grouped is not in the group/],
      [['group', 'add', 'nothere', 'grouped'], /There is no group nothere/],
      [['group', 'add', 'Lighting team', 'nobody'], /There is no user nobody/],
      [['group', 'delete', 'grouped'], /There is no group grouped/],
    ] as const) {
      assert.match(sentenceOf(await installation.backlot(words)), says);
    }
    await installation.json(['group', 'add', 'Lighting team', 'grouped']);
    assert.deepEqual(await installation.json(['group', 'delete', 'Lighting team']), { deleted: group.principalId });
    assert.equal(await listed(), undefined);
    assert.match(sentenceOf(await installation.backlot(['group', 'delete', 'Lighting team'])), /There is no group/);
  });

  it('makes an access key that works at once, and deletes it at once', async () => {
    const made = await installation.json<{ accessKeyId: string; secretAccessKey: string; name: string }>([
      'access-key',
      'create',
      '--name',
      'farm',
    ]);
    const { accessKeyId, secretAccessKey } = made;
    assert.equal(made.name, 'farm');
    const listed = await installation.backlot(['access-key', 'list']);
    assert.ok(listed.stdout.includes(accessKeyId) && !listed.stdout.includes(secretAccessKey));
    const credentials = { accessKeyId, secretAccessKey };
    const farm = sdkClient({ after }, installation, server, { credentials });
    assert.ok((await farm.send(new ListStudiosCommand({}))).studios);
    assert.deepEqual(await installation.json(['access-key', 'delete', accessKeyId]), { deleted: accessKeyId });
    await assert.rejects(farm.send(new ListStudiosCommand({})), { name: 'UnrecognizedClientException' });
    assert.match(sentenceOf(await installation.backlot(['access-key', 'delete', accessKeyId])), /no access key AKIA/);
  });

  it("makes a key for a studio's images, which is needed for as long as it is used", async () => {
    const { keyArn } = await installation.json<{ keyArn: string }>(['key', 'create']);
    assert.match(keyArn, /^arn:aws:kms:us-west-2:000000000000:key\/[0-9a-f-]{36}$/);
    const listed = await installation.json<{ keyArn: string }[]>(['key', 'list']);
    assert.ok(listed.some((key) => key.keyArn === keyArn));
    const encryption = { keyType: 'CUSTOMER_MANAGED_KEY', keyArn } as const;
    const studio = await makeStudio(client, 'keyed', { studioEncryptionConfiguration: encryption });
    assert.equal(studio.state, 'READY');
    const studioId = studio.studioId!;
    const { ec2ImageId } = await importDisk();
    const image = await settledImage(client, studioId, await createImage(client, studioId, ec2ImageId));
    assert.equal(image.state, 'READY');
    assert.deepEqual(image.encryptionConfiguration, encryption);

    const refused = await installation.backlot(['key', 'delete', keyArn]);
    assert.match(sentenceOf(refused), new RegExp(`${studioId} use this key.*--yes`));
    assert.deepEqual(await installation.json(['key', 'delete', '--yes', keyArn]), { deleted: keyArn });
    for (const words of [[keyArn], ['--yes', keyArn]]) {
      const again = await installation.backlot(['key', 'delete', ...words]);
      assert.match(sentenceOf(again), /There is no key arn:/);
    }
    const failed = await settledImage(client, studioId, await createImage(client, studioId, ec2ImageId));
    assert.deepEqual([failed.state, failed.statusCode], ['CREATE_FAILED', 'ACCESS_DENIED']);
    assert.ok(failed.statusMessage!.includes(keyArn));
    // Without its key, what is under it can still be thrown away.
    for (const { streamingImageId } of [image, failed]) {
      await deleteImage(client, studioId, streamingImageId!);
      assert.equal((await settledImage(client, studioId, streamingImageId!)).state, 'DELETED');
    }

    const unkeyed = await makeStudio(client, 'unkeyed', { studioEncryptionConfiguration: encryption });
    assert.deepEqual([unkeyed.state, unkeyed.statusCode], ['CREATE_FAILED', 'ENCRYPTION_KEY_NOT_FOUND']);
    assert.ok(unkeyed.statusMessage!.includes(keyArn));
  });

  it('says in one line when a key file is damaged', async (t) => {
    const alone = new Installation(t);
    const { keyArn } = await alone.json<{ keyArn: string }>(['key', 'create']);
    writeFileSync(alone.path('keys/customer', `${keyArn.split('/')[1]}.json`), '{"keyArn":');
    assert.ok(sentenceOf(await alone.backlot(['key', 'list'])).includes(keyArn));
  });

  it('takes no offence when nobody reads on', async () => {
    const line = `{ ${BACKLOT} access-key list; echo $? >&2; } | true`;
    assert.equal((await installation.run(['sh', '-c', line])).stderr, '0\n');
  });

  it('says so when it makes a data directory, in case that is a slip', async (t) => {
    const alone = new Installation(t);
    const words = ['eula', 'list'];
    assert.equal((await alone.backlot(words)).stderr, `backlot: made a new data directory, ${alone.dataDir}\n`);
    assert.equal((await alone.backlot(words)).stderr, '');
  });

  it('says None where there is nothing to list', async (t) => {
    const alone = new Installation(t);
    const { stdout } = await alone.backlotAtTerminal(['machine-image', 'list']);
    assert.equal(stdout.replaceAll('\r\n', '\n').replace(MADE_DIRECTORY, ''), 'None.\n');
    assert.deepEqual(await alone.json(['key', 'list']), []);
    assert.match(
      sentenceOf(await alone.backlot(['machine-image', 'delete', ABSENT])),
      /There is no machine image ami-/,
    );
  });
});
