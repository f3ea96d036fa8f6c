/**
 * The README is run: its examples as they stand there, in their order, on one server; and the commands and settings that
 * it names are those that there are. Only the port, which must be free here, is another.
 */
import assert from 'node:assert/strict';
import { readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { commands } from '../../src/cli/index.ts';
import { SETTINGS } from '../../src/settings.ts';
import { BACKLOT, Installation, PROJECT } from './installation.ts';

const readme = readFileSync(join(PROJECT, 'README.md'), 'utf8');
const ADDRESS = 'http://127.0.0.1:8642';

interface Example {
  readonly name: string;
  readonly code: string;
}

const examples = [...readme.matchAll(/<!-- example: (\w+) -->\n```\w+\n(.*?)```\n<!-- \/example -->/gs)].map(
  ([, name, code]): Example => ({ name: name!, code: code! }),
);

/** The code as a file of the right kind, and what runs it. */
const RUNNERS: Readonly<Record<string, { readonly file: string; readonly command: readonly string[] }>> = {
  cli: { file: 'example.sh', command: ['sh', '-eux'] },
  boto3: { file: 'example.py', command: ['/usr/bin/python3'] },
  js: { file: 'example.mjs', command: [process.execPath] },
};

describe('the README', () => {
  it('has an example for each client', () => {
    assert.deepEqual(
      examples.map(({ name }) => name),
      Object.keys(RUNNERS),
    );
  });

  it('gives first steps and examples that work as they stand there', async (t) => {
    const installation = new Installation(t, { PATH: '/usr/bin:/bin', BACKLOT_DATA_DIR: undefined });
    const server = await installation.start();
    const asHere = (code: string) => code.replaceAll(ADDRESS, server.url).replaceAll('npx backlot', BACKLOT);
    symlinkSync(join(PROJECT, 'node_modules'), join(installation.directory, 'node_modules'));

    const run = async (command: readonly string[], environment = {}) => {
      const finished = await installation.run(command, { environment });
      assert.equal(finished.code, 0, finished.stderr);
      return finished.stdout;
    };
    const makeDisk = /`(qemu-img create [^`]+)`/.exec(readme)![1]!;
    await run(['sh', '-c', makeDisk]);
    const importDisk = /```sh\n(npx backlot machine-image import .*?)```/s.exec(readme)![1]!;
    const takeId = /```sh\n(export EC2_IMAGE_ID=.*?)```/s.exec(readme)![1]!;
    const imported = await run(['sh', '-euc', `${asHere(importDisk)}${takeId}echo "=$EC2_IMAGE_ID"`]);
    const ec2ImageId = /^=(ami-[0-9a-f]+)$/m.exec(imported)![1]!;

    const said: Record<string, string> = {};
    for (const { name, code } of examples) {
      const { file, command } = RUNNERS[name]!;
      writeFileSync(join(installation.directory, file), asHere(code));
      said[name] = await run([...command, file], { EC2_IMAGE_ID: ec2ImageId });
    }
    assert.match(said.cli!, /"name": "Houdini 20\.5"/);
    assert.equal(said.js, 'Houdini 20.5 READY\nHoudini 20 DELETED\n');
  });

  it('shows the line that the server prints', async (t) => {
    const installation = new Installation(t, { BACKLOT_DATA_DIR: undefined });
    const server = await installation.start();
    const line = /^ {2}(AWS_SHARED_CREDENTIALS_FILE=.*)$/m.exec(server.process.stdout)![1]!;
    const place = `${installation.directory}/`;
    assert.ok(readme.includes(`\n${line.replace(place, '').replace(server.url, ADDRESS)}\n`), line);
    assert.equal(`http://127.0.0.1:${SETTINGS.port.default}`, ADDRESS);
  });

  it('names no command and no setting that does not exist', () => {
    const variables = Object.values(SETTINGS).map(({ env }) => env);
    for (const [variable] of readme.matchAll(/\bBACKLOT_\w+/g)) assert.ok(variables.includes(variable), variable);
    const known = commands.map(({ name }) => name);
    for (const [, words] of readme.matchAll(/(?:^|`|npx )backlot ([a-z][^`\n]*)/gm)) {
      assert.ok(
        known.some((name) => `${words} `.startsWith(`${name} `)),
        words!,
      );
    }
    const flags = new Set([...commands.flatMap(({ options }) => Object.keys(options)), 'help', 'json']);
    for (const { flag } of Object.values(SETTINGS)) if (flag !== undefined) flags.add(flag);
    for (const [, words] of readme.matchAll(/`(backlot [^`]*|--[^`]*)`/g)) {
      for (const [, flag] of words!.matchAll(/--([a-z0-9-]+)/g)) assert.ok(flags.has(flag!), words!);
    }
  });
});
