/**
 * Clients that nobody here wrote over the whole API: each tells the same story, in which every operation is called, every
 * waiter waits and every paginator pages. What is told is counted against the contract and against the client itself.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as nimble from '@aws-sdk/client-nimble';
import { operations } from '../../src/contract/index.ts';
import { awsCli, sdkClient, startPython } from './clients.ts';
import { makeDisk } from './disks.ts';
import { Installation, type Running, type RunningServer } from './installation.ts';
import { type Answer, type Input, type Prepared, type Refusal, type Teller, tellStory } from './story.ts';

const installation = new Installation({ after });
let server: RunningServer;
let prepared: Prepared;

before(async () => {
  server = await installation.start();
  const eula = ['eula', 'create', '--name', 'Licence', '--url', 'https://example.org/licence'];
  const { eulaId } = await installation.json<{ eulaId: string }>(eula);
  const disk = await makeDisk(installation.directory, 'disk.raw');
  const imported = ['machine-image', 'import', disk, '--platform', 'LINUX', '--eula', eulaId];
  const { ec2ImageId } = await installation.json<{ ec2ImageId: string }>(imported);
  const user = ['user', 'create', '--name', 'ada'];
  prepared = { ec2ImageId, eulaId, ...(await installation.json<Omit<Prepared, 'ec2ImageId' | 'eulaId'>>(user)) };
});

/** What a teller has told, for counting. */
class Told implements Teller {
  readonly called = new Set<string>();
  readonly waited = new Set<string>();
  readonly paged = new Set<string>();
  readonly #teller: Teller;

  constructor(teller: Teller) {
    this.#teller = teller;
  }

  knows(operation: string): Promise<boolean> {
    return this.#teller.knows(operation);
  }

  call(operation: string, input: Input): Promise<Answer> {
    this.called.add(operation);
    return this.#teller.call(operation, input);
  }

  refusal(operation: string, input: Input): Promise<Refusal> {
    this.called.add(operation);
    return this.#teller.refusal(operation, input);
  }

  wait(waiter: string, input: Input): Promise<void> {
    this.waited.add(waiter);
    return this.#teller.wait(waiter, input);
  }

  pages(operation: string, member: string, input: Input): Promise<Answer[]> {
    this.called.add(operation);
    this.paged.add(operation);
    return this.#teller.pages(operation, member, input);
  }
}

const namesIn = (prefix: string) =>
  Object.keys(nimble).flatMap((name) => (name.startsWith(prefix) ? [name.slice(prefix.length)] : []));

async function tellAll(teller: Teller, name: string): Promise<void> {
  const told = new Told(teller);
  await tellStory(told, name, prepared);
  const known = async (names: readonly string[]) => {
    const knows = await Promise.all(names.map((operation) => teller.knows(operation)));
    return names.filter((_, index) => knows[index]).sort();
  };
  const all = await known(operations.map((operation) => operation.name));
  assert.ok(all.length >= operations.length - 2, 'the oldest client lacks two operations');
  assert.deepEqual([...told.called].sort(), all);
  assert.deepEqual([...told.waited].sort(), namesIn('waitUntil').sort());
  assert.deepEqual([...told.paged].sort(), await known(namesIn('paginate')));
}

// --- The JavaScript SDK ---

function sdkTeller(client: nimble.NimbleClient): Teller {
  // biome-ignore lint/suspicious/noExplicitAny: looked up by name
  const library = nimble as Record<string, any>;
  const call = (operation: string, input: Input) => client.send(new library[`${operation}Command`](input));
  return {
    knows: async (operation) => `${operation}Command` in library,
    call,
    refusal: async (operation, input) => {
      const error = await call(operation, input).then(
        () => assert.fail(`${operation} was not refused`),
        (reason: unknown) => reason as nimble.NimbleServiceException,
      );
      assert.ok(error instanceof library[error.name], error.name);
      return { name: error.name, status: error.$metadata.httpStatusCode! };
    },
    wait: async (waiter, input) => {
      const { state } = await library[`waitUntil${waiter}`]({ client, maxWaitTime: 300 }, input);
      assert.equal(state, 'SUCCESS');
    },
    pages: async (operation, member, input) => {
      const entries: Answer[] = [];
      for await (const page of library[`paginate${operation}`]({ client }, input)) entries.push(...page[member]);
      return entries;
    },
  };
}

// --- boto3 ---

interface Said {
  readonly answer?: Answer;
  readonly refusal?: Refusal;
}

/** A process that is told one thing at a time. */
function pythonTeller(running: Running): Teller {
  const lines = running.lines();
  const tell = async (kind: string, name: string, given: Input, more: object = {}): Promise<Said> => {
    running.tell(`${JSON.stringify({ kind, name, given, ...more })}\n`);
    const { value, done } = await lines.next();
    assert.ok(!done, `boto3 ended at ${name}: ${running.stderr}`);
    return JSON.parse(value) as Said;
  };
  const answered = async (what: Promise<Said>, name: string) => {
    const { answer, refusal } = await what;
    assert.equal(refusal, undefined, `${name} was refused`);
    return answer;
  };
  return {
    knows: (operation) => answered(tell('knows', operation, {}), operation),
    call: (operation, input) => answered(tell('call', operation, input), operation),
    refusal: async (operation, input) => {
      const { refusal } = await tell('call', operation, input);
      assert.ok(refusal, `${operation} was not refused`);
      return refusal;
    },
    wait: (waiter, input) => answered(tell('wait', waiter, input), waiter),
    pages: (operation, member, input) => answered(tell('pages', operation, input, { member }), operation),
  };
}

// --- The AWS CLI ---

const REFUSED = 254;

/** As the AWS CLI names what the model calls CreateStudio or StartStudioSSOConfigurationRepair. */
const dashed = (name: string) =>
  name
    .replace(/([A-Z]+)([A-Z][a-z])/g, '$1-$2')
    .replace(/([a-z\d])([A-Z])/g, '$1-$2')
    .toLowerCase();

function cliTeller(): Teller {
  const run = (words: readonly string[], input: Input) =>
    awsCli(installation, server, [...words, '--cli-input-json', JSON.stringify(input)]);
  const call = async (words: readonly string[], input: Input): Promise<Answer> => {
    const { code, stdout, stderr } = await run(words, input);
    assert.equal(code, 0, `${words.join(' ')}: ${stderr}`);
    return stdout === '' ? {} : JSON.parse(stdout);
  };
  return {
    // With the version of Debian; where it does not, the call says so.
    knows: async () => true,
    call: (operation, input) => call([dashed(operation)], input),
    refusal: async (operation, input) => {
      const { code, stderr } = await run([dashed(operation)], input);
      assert.equal(code, REFUSED, stderr);
      const name = /\((\w+)\) when calling the/.exec(stderr)![1]!;
      const statuses = { ValidationException: 400, ResourceNotFoundException: 404 };
      return { name, status: statuses[name as keyof typeof statuses] };
    },
    wait: async (waiter, input) => {
      await call(['wait', dashed(waiter)], input);
    },
    pages: async (operation, member, input) => (await call([dashed(operation)], input))[member],
  };
}

// ---------------------------------------------------------------------------------------------------------------------

describe('every operation, waiter and paginator', { concurrency: true }, () => {
  it('with the JavaScript SDK', (t) => tellAll(sdkTeller(sdkClient(t, installation, server)), 'javascript'));

  it("with Debian's boto3", async () => {
    const script = join(import.meta.dirname, 'scripts/calls.py');
    const running = startPython(installation, server, script);
    await tellAll(pythonTeller(running), 'boto3');
    running.tell();
    const { code, stderr } = await running.finished;
    assert.equal(code, 0, stderr);
  });

  it("with Debian's AWS CLI", () => tellAll(cliTeller(), 'awscli'));
});
