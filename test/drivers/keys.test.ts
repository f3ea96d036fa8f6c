/**
 * The port to the key service, held against the local adapter and the simulated one; then what only the local one
 * promises: that its files give nothing away, cannot stand in for one another, and survive crashes and races.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, it, type TestContext } from 'node:test';
import { systemClock } from '../../src/clock.ts';
import { type Keys, KeyUnavailable } from '../../src/keys/keys.ts';
import { type LocalKeys, openLocalKeys } from '../../src/keys/local.ts';
import { SimulatedKeys } from '../support/simulated.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import type { ChildTask } from './child.ts';

const REGION = 'us-west-2';
const ACCOUNT = '123456789012';
const CHILD = join(import.meta.dirname, 'child.ts');
const UNKNOWN_ARN = `arn:aws:kms:${REGION}:${ACCOUNT}:key/00000000-0000-4000-8000-000000000000`;

function openIn(directory: string, now?: () => number): Promise<LocalKeys> {
  return openLocalKeys({ directory, region: REGION, accountId: ACCOUNT, clock: now ? { now } : systemClock });
}

interface Subject {
  readonly keys: Keys;
  readonly createKey: () => Promise<string>;
}

const adapters: Readonly<Record<string, (t: TestContext) => Promise<Subject>>> = {
  local: async (t) => {
    const keys = await openIn(join(temporaryDirectory(t), 'keys'));
    return { keys, createKey: async () => (await keys.createKey()).keyArn };
  },
  simulated: async () => {
    const keys = new SimulatedKeys();
    const createKey = async () => {
      keys.customerKeys.add(UNKNOWN_ARN.replace('0000-4000', '1111-4000'));
      return UNKNOWN_ARN.replace('0000-4000', '1111-4000');
    };
    return { keys, createKey };
  },
};

for (const [name, open] of Object.entries(adapters)) {
  describe(`the port to the keys: ${name}`, () => {
    it('makes a data key once and gives it out as 44 characters of base64', async (t) => {
      const { keys } = await open(t);
      await keys.generate('Cw_jXnp1QcSSXhE2hkNRoQ', undefined);
      const first = await keys.unseal('Cw_jXnp1QcSSXhE2hkNRoQ');
      await keys.generate('Cw_jXnp1QcSSXhE2hkNRoQ', undefined);
      assert.deepEqual(await keys.unseal('Cw_jXnp1QcSSXhE2hkNRoQ'), first);
      assert.match(first.toString(), /^[A-Za-z0-9+/]{43}=$/);
      assert.equal(Buffer.from(first.toString(), 'base64').length, 32);
    });

    it('gives every id a key of its own', async (t) => {
      const { keys } = await open(t);
      const ids = ['-starts-with-a-dash', '_starts_with_a_line', 'plain'];
      for (const id of ids) await keys.generate(id, undefined);
      const passphrases = await Promise.all(ids.map(async (id) => (await keys.unseal(id)).toString()));
      assert.equal(new Set(passphrases).size, ids.length);
    });

    it('makes one key when two ask at once', async (t) => {
      const { keys } = await open(t);
      const seen = await Promise.all(
        Array.from({ length: 8 }, async () => {
          await keys.generate('shared', undefined);
          return (await keys.unseal('shared')).toString();
        }),
      );
      assert.equal(new Set(seen).size, 1);
    });

    it('destroys a data key for good, and again without complaint', async (t) => {
      const { keys } = await open(t);
      await keys.generate('doomed', undefined);
      const before = (await keys.unseal('doomed')).toString();
      await keys.destroy('doomed');
      await assert.rejects(keys.unseal('doomed'), KeyUnavailable);
      await keys.destroy('doomed');
      await keys.destroy('never-made');
      await keys.generate('doomed', undefined);
      assert.notEqual((await keys.unseal('doomed')).toString(), before);
    });

    it('seals data keys under a customer key that exists, and under no other', async (t) => {
      const { keys, createKey } = await open(t);
      const keyArn = await createKey();
      assert.equal((await keys.describe(keyArn))?.keyArn, keyArn);
      await keys.generate('theirs', keyArn);
      const first = await keys.unseal('theirs');
      await keys.generate('theirs', keyArn);
      assert.deepEqual(await keys.unseal('theirs'), first);
      assert.equal(await keys.describe(UNKNOWN_ARN), undefined);
      const refused = (error: unknown) => error instanceof KeyUnavailable && error.message.includes(UNKNOWN_ARN);
      await assert.rejects(keys.generate('other', UNKNOWN_ARN), refused);
      await assert.rejects(keys.unseal('other'), KeyUnavailable);
    });

    it('opens a sealed secret in its own context only', async (t) => {
      const { keys } = await open(t);
      for (const secret of ['', 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY', 'Grüße, 世界']) {
        const sealed = keys.seal(secret, 'credential/AKIA1');
        assert.equal(keys.open(sealed, 'credential/AKIA1'), secret);
        assert.throws(() => keys.open(sealed, 'credential/AKIA2'), KeyUnavailable);
      }
    });
  });
}

describe('local keys', () => {
  it('are files for their owner alone, none of which holds a key in the clear', async (t) => {
    const directory = join(temporaryDirectory(t), 'keys');
    const keys = await openIn(directory);
    const { keyArn } = await keys.createKey();
    await keys.generate('one', keyArn);
    await keys.generate('two', undefined);
    const passphrases = [await keys.unseal('one'), await keys.unseal('two')];
    const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
    assert.equal(names.length, 6);
    for (const path of ['', ...names].map((name) => join(directory, name))) {
      const status = statSync(path);
      assert.equal(status.mode & 0o777, status.isDirectory() ? 0o700 : 0o600, path);
      if (status.isDirectory()) continue;
      const content = readFileSync(path);
      for (const passphrase of passphrases) {
        assert.ok(!content.includes(passphrase), path);
        assert.ok(!content.includes(Buffer.from(passphrase.toString(), 'base64')), path);
      }
    }
  });

  it('say in the clear which key they are under', async (t) => {
    const { directory, keys } = await fresh(t);
    const { keyArn } = await keys.createKey();
    await keys.generate('one', keyArn);
    assert.equal(JSON.parse(readFileSync(join(directory, 'data', 'one.json'), 'utf8')).keyArn, keyArn);
  });

  it('are there again after a restart', async (t) => {
    const { directory, keys } = await fresh(t);
    const created = await keys.createKey();
    await keys.generate('one', created.keyArn);
    const sealed = keys.seal('secret', 'context');
    const again = await openIn(directory);
    assert.deepEqual(await again.unseal('one'), await keys.unseal('one'));
    assert.deepEqual(await again.describe(created.keyArn), created);
    assert.equal(again.open(sealed, 'context'), 'secret');
  });

  it('are made, listed oldest first, and deleted by their administrator', async (t) => {
    let now = Date.UTC(2026, 0, 1);
    const keys = await openIn(join(temporaryDirectory(t), 'keys'), () => (now += 1_000));
    const created = [await keys.createKey(), await keys.createKey(), await keys.createKey()];
    assert.deepEqual(await keys.listKeys(), created);
    assert.match(created[0]!.keyArn, /^arn:aws:kms:us-west-2:123456789012:key\/[0-9a-f-]{36}$/);
    assert.equal(await keys.deleteKey(created[1]!.keyArn), true);
    assert.equal(await keys.deleteKey(created[1]!.keyArn), false);
    assert.equal(await keys.deleteKey('arn:aws:kms:us-west-2:123456789012:key/../root'), false);
    assert.deepEqual(await keys.listKeys(), [created[0], created[2]]);
  });

  it('under a deleted customer key are lost at once, and the error names that key and no path', async (t) => {
    const { directory, keys } = await fresh(t);
    const { keyArn } = await keys.createKey();
    await keys.generate('locked', keyArn);
    const elsewhere = await openIn(directory);
    await elsewhere.deleteKey(keyArn);
    const namesKey = (error: unknown) =>
      error instanceof KeyUnavailable && error.message.includes(keyArn) && !error.message.includes(directory);
    await assert.rejects(keys.unseal('locked'), namesKey);
    await assert.rejects(keys.generate('locked', keyArn), namesKey);
    await assert.rejects(keys.generate('new', keyArn), namesKey);
    assert.equal(await keys.describe(keyArn), undefined);
    assert.ok(!existsSync(join(directory, 'data', 'new.json')));
    await keys.destroy('locked');
  });

  it('stay the same key when the studio changes its own', async (t) => {
    const { directory, keys } = await fresh(t);
    const [first, second] = [await keys.createKey(), await keys.createKey()];
    await keys.generate('moved', first.keyArn);
    const passphrase = await keys.unseal('moved');
    for (const keyArn of [second.keyArn, undefined, first.keyArn]) {
      await keys.generate('moved', keyArn);
      assert.deepEqual(await keys.unseal('moved'), passphrase);
      assert.equal(JSON.parse(readFileSync(join(directory, 'data', 'moved.json'), 'utf8')).keyArn, keyArn ?? null);
    }
  });

  it('of another region or account are none of ours', async (t) => {
    const { directory, keys } = await fresh(t);
    const { keyArn } = await keys.createKey();
    const elsewhere = await openLocalKeys({ directory, region: 'eu-west-1', accountId: ACCOUNT, clock: systemClock });
    assert.equal(await elsewhere.describe(keyArn), undefined);
    assert.equal(await elsewhere.describe(keyArn.replace(REGION, 'eu-west-1')), undefined);
    assert.deepEqual(await elsewhere.listKeys(), []);
    for (const arn of [
      '',
      'arn:',
      keyArn.toUpperCase(),
      `${keyArn}/`,
      `${keyArn}\n`,
      keyArn.replace('key/', 'alias/'),
    ]) {
      assert.equal(await keys.describe(arn), undefined, arn);
    }
  });

  it('refuse a byte altered anywhere', async (t) => {
    const { directory, keys } = await fresh(t);
    const { keyArn } = await keys.createKey();
    await keys.generate('one', keyArn);
    const files = [join(directory, 'data', 'one.json'), join(directory, 'customer', `${keyArn.slice(-36)}.json`)];
    for (const path of files) {
      const intact = readFileSync(path);
      const from = intact.indexOf('"sealed":"') + '"sealed":"'.length;
      for (let offset = from; offset < intact.length - 3; offset += 7) {
        const altered = Buffer.from(intact);
        altered[offset] = altered[offset] === 0x41 ? 0x42 : 0x41;
        writeFileSync(path, altered);
        await assert.rejects(keys.unseal('one'), KeyUnavailable, `byte ${offset} of ${path}`);
      }
      for (const damaged of ['', '{', 'null', '{"keyArn":1}', Buffer.alloc(intact.length)]) {
        writeFileSync(path, damaged);
        await assert.rejects(keys.unseal('one'), KeyUnavailable);
      }
      writeFileSync(path, intact);
    }
    assert.equal((await keys.unseal('one')).length, 44);
    const sealed = keys.seal('secret', 'context');
    for (const text of ['', 'v1.', sealed.replace('v1', 'v2'), sealed.slice(0, -4), `${sealed}AAAA`, `${sealed}!`]) {
      assert.throws(() => keys.open(text, 'context'), KeyUnavailable, text);
    }
  });

  it('cannot stand in for one another', async (t) => {
    const { directory, keys } = await fresh(t);
    const [first, second] = [await keys.createKey(), await keys.createKey()];
    await keys.generate('one', undefined);
    copyFileSync(join(directory, 'data', 'one.json'), join(directory, 'data', 'two.json'));
    await assert.rejects(keys.unseal('two'), KeyUnavailable);
    const customer = (arn: string) => join(directory, 'customer', `${arn.slice(-36)}.json`);
    copyFileSync(customer(first.keyArn), customer(second.keyArn));
    assert.equal(await keys.describe(second.keyArn), undefined);
    const renamed = { ...JSON.parse(readFileSync(customer(first.keyArn), 'utf8')), keyArn: second.keyArn };
    writeFileSync(customer(second.keyArn), JSON.stringify(renamed));
    await assert.rejects(keys.describe(second.keyArn), KeyUnavailable);
    const sealed = JSON.parse(readFileSync(join(directory, 'data', 'one.json'), 'utf8')).sealed;
    for (const context of ['one', 'data-key', '']) assert.throws(() => keys.open(sealed, context), KeyUnavailable);
  });

  it('are never looked for outside their directory', async (t) => {
    const { keys } = await fresh(t);
    for (const id of ['', '.', '..', '../root', 'a/b', 'a\\b', 'a\0b', 'a.json', 'ä', 'x'.repeat(65), 'a\n']) {
      await assert.rejects(keys.generate(id, undefined), /an id must be/, id);
      await assert.rejects(keys.unseal(id), /an id must be/, id);
      await assert.rejects(keys.destroy(id), /an id must be/, id);
    }
  });

  it('are overwritten before they go, with what a died writer left of them', async (t) => {
    const { directory, keys } = await fresh(t);
    await keys.generate('one', undefined);
    await keys.generate('one-more', undefined);
    const file = join(directory, 'data', 'one.json');
    const witness = join(directory, 'witness');
    linkSync(file, witness);
    copyFileSync(file, join(directory, 'data', '.one.json.0123456789abcdef.tmp'));
    await keys.destroy('one');
    assert.deepEqual(readFileSync(witness), Buffer.alloc(statSync(witness).size));
    assert.deepEqual(readdirSync(join(directory, 'data')), ['one-more.json']);
    assert.equal((await keys.unseal('one-more')).length, 44);
  });
});

describe('the root key', () => {
  it('is made once by many processes that start together', async (t) => {
    const directory = join(temporaryDirectory(t), 'keys');
    const digests = await Promise.all(
      Array.from({ length: 6 }, async () => {
        const [line] = await linesOf({ task: 'share-key', directory, id: 'shared' });
        return (line as { digest: string }).digest;
      }),
    );
    assert.equal(new Set(digests).size, 1);
    assert.match(digests[0]!, /^[0-9a-f]{64}$/);
    assert.deepEqual(readdirSync(directory).sort(), ['customer', 'data', 'root.key']);
    assert.deepEqual(readdirSync(join(directory, 'data')), ['shared.json']);
  });

  it('within reach of others stops the start, in one sentence', async (t) => {
    const { directory } = await fresh(t);
    for (const mode of [0o640, 0o604, 0o620, 0o602, 0o644]) {
      chmodSync(join(directory, 'root.key'), mode);
      await assert.rejects(openIn(directory), /^Error: The root key .* within reach of others .*chmod 600 on it\.$/);
    }
    chmodSync(join(directory, 'root.key'), 0o600);
    chmodSync(directory, 0o750);
    await assert.rejects(openIn(directory), /^Error: The key directory .* chmod 700 on it, or name another\.$/);
    chmodSync(directory, 0o700);
    await openIn(directory);
  });

  it('of the wrong length stops the start, in one sentence', async (t) => {
    const { directory } = await fresh(t);
    for (const length of [0, 31, 33]) {
      writeFileSync(join(directory, 'root.key'), Buffer.alloc(length));
      await assert.rejects(openIn(directory), /^Error: The root key .* is not a file of 32 bytes: .*\.$/);
    }
  });

  it('is not made anew over keys that it sealed', async (t) => {
    const { directory, keys } = await fresh(t);
    await keys.generate('one', undefined);
    renameSync(join(directory, 'root.key'), join(directory, 'elsewhere'));
    await assert.rejects(openIn(directory), /^Error: The root key .* is gone while 1 keys are sealed by it: .*\.$/);
    assert.ok(!existsSync(join(directory, 'root.key')));
    renameSync(join(directory, 'elsewhere'), join(directory, 'root.key'));
    assert.equal((await (await openIn(directory)).unseal('one')).length, 44);
  });

  it('of another installation opens nothing', async (t) => {
    const { directory, keys } = await fresh(t);
    const { keyArn } = await keys.createKey();
    await keys.generate('one', keyArn);
    await keys.generate('two', undefined);
    const sealed = keys.seal('secret', 'context');
    const other = await fresh(t);
    copyFileSync(join(other.directory, 'root.key'), join(directory, 'root.key'));
    const foreign = await openIn(directory);
    for (const id of ['one', 'two']) await assert.rejects(foreign.unseal(id), KeyUnavailable);
    await assert.rejects(foreign.generate('one', keyArn), KeyUnavailable);
    assert.throws(() => foreign.open(sealed, 'context'), KeyUnavailable);
  });
});

describe('a key service that is killed', () => {
  it('has lost no key that it said it had made, and has left no half of one', async (t) => {
    const directory = join(temporaryDirectory(t), 'keys');
    const generated = (await linesOf({ task: 'generate-forever', directory }, 25)) as { generated: string }[];
    assert.equal(generated.length, 25);
    const keys = await openIn(directory);
    for (const line of generated) assert.equal((await keys.unseal(line.generated)).length, 44);
    for (const name of readdirSync(join(directory, 'data'))) {
      if (!name.startsWith('.')) assert.equal((await keys.unseal(name.slice(0, -'.json'.length))).length, 44);
    }
  });

  it('leaves temporary files that a later start clears away, but not those of a live writer', async (t) => {
    const { directory } = await fresh(t);
    const leftovers = [directory, join(directory, 'data'), join(directory, 'customer')].map((place) =>
      join(place, '.some.json.0123456789abcdef.tmp'),
    );
    for (const path of leftovers) writeFileSync(path, 'left over');
    await openIn(directory);
    assert.ok(leftovers.every((path) => existsSync(path)));
    // One that died between giving its file a name and taking the temporary one away.
    rmSync(leftovers[0]!);
    linkSync(join(directory, 'root.key'), leftovers[0]!);
    await openIn(directory, () => Date.now() + 7_200_000);
    assert.ok(leftovers.every((path) => !existsSync(path)));
    await openIn(directory);
  });
});

async function fresh(t: TestContext): Promise<{ directory: string; keys: LocalKeys }> {
  const directory = join(temporaryDirectory(t), 'keys');
  return { directory, keys: await openIn(directory) };
}

/** Runs a child until it ends, or kills it after that many lines; answers with the lines it wrote. */
async function linesOf(task: ChildTask, killAfter = Number.POSITIVE_INFINITY): Promise<unknown[]> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  const lines: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(JSON.parse(line));
    if (lines.length < killAfter) continue;
    child.kill('SIGKILL');
    break;
  }
  await exited;
  return lines;
}
