/**
 * The contract against the vendor's own client, of which no one here wrote a line: what it sends is read back exactly,
 * what we answer reaches its caller whole, an error arrives as the class of its name. And the contract is data only.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import * as nimble from '@aws-sdk/client-nimble';
import { type Input, type OperationName, operations } from '../../src/contract/index.ts';
import { MODELLED_ERRORS, type Operation } from '../../src/contract/operation.ts';
import type { Shape, Static } from '../../src/contract/shape.ts';
import { studioComponentConfiguration } from '../../src/contract/studio-component.ts';
import { ERROR_STATUS, type ErrorName, ServiceError } from '../../src/errors.ts';
import { errorBody, readInput } from '../../src/wire/rest-json.ts';
import { createRouter } from '../../src/wire/router.ts';
import { SAMPLE_TIME, sampleInput, sampleOf } from '../support/samples.ts';

// ---------------------------------------------------------------------------------------------------------------------
// A server that remembers what it was sent and answers what it is told

interface Captured {
  readonly method: string;
  readonly target: string;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
}

let server: Server;
let client: nimble.NimbleClient;
let captured: Captured;
let answer: { status: number; headers?: Record<string, string>; body: string };

before(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = await request.toArray();
    const { method, url, rawHeaders } = request;
    captured = { method: method!, target: url!, rawHeaders, body: Buffer.concat(chunks) };
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  client = new nimble.NimbleClient({
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    region: 'us-west-2',
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
    maxAttempts: 1,
  });
});

after(() => {
  client.destroy();
  server.close();
});

type AnyCommand = new (input: object) => Parameters<nimble.NimbleClient['send']>[0];

function commandOf({ name }: Operation): AnyCommand {
  const command = (nimble as unknown as Record<string, AnyCommand>)[`${name}Command`];
  assert.ok(command, `the client has no ${name}`);
  return command;
}

function send(operation: Operation, input: object): Promise<Record<string, unknown>> {
  return client.send(new (commandOf(operation))(input)) as unknown as Promise<Record<string, unknown>>;
}

/** The least that the client takes for an answer. */
function plainAnswer(operation: Operation) {
  return { status: operation.status, body: operation.status === 204 ? '' : '{}' };
}

// ---------------------------------------------------------------------------------------------------------------------

const router = createRouter(operations, Object.fromEntries(operations.map(({ name }) => [name, name])));

/** Own JSON: maps come without a prototype. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

function readBack({ method, target, rawHeaders, body }: Captured): { name: string; input: unknown } {
  const [path, query = ''] = target.split('?');
  const match = router.match(method, path!);
  assert.ok(match, `no operation at ${method} ${path}`);
  const { labelNames, operation, handler } = match.route;
  return {
    name: handler,
    input: plain(readInput(operation, { labels: match.labels, labelNames, query, rawHeaders, body })),
  };
}

test('there is every operation that the client has a command for, and no other', () => {
  // `$Command` is what its commands are made of.
  const commands = Object.keys(nimble).flatMap((name) => (/^[A-Z].*Command$/.test(name) ? [name.slice(0, -7)] : []));
  assert.equal(commands.length, 49);
  assert.deepEqual(operations.map(({ name }) => name).sort(), commands.sort());
});

describe('what the client sends is read back exactly', () => {
  for (const operation of operations) {
    test(`${operation.name} with every member`, async () => {
      answer = plainAnswer(operation);
      const input = sampleInput(operation);
      await send(operation, input);
      assert.deepEqual(readBack(captured), { name: operation.name, input });
    });

    test(`${operation.name} with nothing but what is required`, async () => {
      answer = plainAnswer(operation);
      const { labels, query, body } = operation as Operation;
      const isRequired = (name: string) => Boolean((labels[name] ?? query[name] ?? body[name])?.required);
      const input = Object.fromEntries(Object.entries(sampleInput(operation)).filter(([name]) => isRequired(name)));
      await send(operation, input);
      assert.deepEqual(readBack(captured), { name: operation.name, input });
    });

    test(`${operation.name} has every input member that the client knows`, async () => {
      answer = plainAnswer(operation);
      const asked = new Set<string>();
      const sample = sampleInput(operation);
      const watched = new Proxy(sample, {
        get: (target, name) => {
          if (typeof name === 'string') asked.add(name);
          return Reflect.get(target, name);
        },
      });
      await send(operation, watched);
      assert.deepEqual([...asked].sort(), Object.keys(sample).sort());
    });
  }
});

test('of a union, every member is read back', async () => {
  const operation = operations.find(({ name }) => name === 'CreateStudioComponent')!;
  for (const [name, { shape }] of Object.entries(studioComponentConfiguration.members)) {
    answer = plainAnswer(operation);
    const input = { ...sampleInput(operation), configuration: { [name]: sampleOf(shape) } };
    await send(operation, input);
    assert.deepEqual(readBack(captured), { name: operation.name, input });
  }
});

/** As the client hands it on: times are dates. */
function asDelivered(shape: Shape, value: unknown): unknown {
  switch (shape.kind) {
    case 'timestamp':
      return new Date(value as string);
    case 'list':
      return (value as unknown[]).map((entry) => asDelivered(shape.member, entry));
    case 'structure':
    case 'union':
      return Object.fromEntries(
        Object.entries(value as object).map(([name, entry]) => [name, asDelivered(shape.members[name]!.shape, entry)]),
      );
    default:
      return value;
  }
}

describe('what is answered reaches the caller of the client', () => {
  for (const operation of operations as readonly Operation[]) {
    test(`${operation.name}: every member of the output`, async () => {
      const { output, status } = operation;
      const sample = output && sampleOf(output);
      answer = { status, body: output ? JSON.stringify(sample) : '' };
      const { $metadata, ...delivered } = await send(operation, sampleInput(operation));
      assert.deepEqual(delivered, output ? asDelivered(output, sample) : {});
      assert.equal(($metadata as { httpStatusCode: number }).httpStatusCode, status);
    });
  }

  test('a sample holds times, so that the above is about them too', () => {
    const text = JSON.stringify(operations.map(({ output }) => output && sampleOf(output)));
    assert.ok(text.includes(SAMPLE_TIME));
  });
});

describe('an error arrives as the class of its name', () => {
  const listStudios = operations.find(({ name }) => name === 'ListStudios')!;
  const classes = new Map<string, unknown>(
    Object.entries(nimble).filter(([name]) => name.endsWith('Exception') && name !== 'NimbleServiceException'),
  );
  const caught = async (name: ErrorName, context?: Record<string, string>) => {
    const details = { code: 'A_CODE', inward: 'for the log', ...(context && { context }) };
    const sent = new ServiceError(name, `what ${name} says`, details);
    answer = { status: sent.status, headers: { 'x-amzn-ErrorType': sent.name }, body: errorBody(sent) };
    assert.ok(!answer.body.includes('for the log'));
    const error: unknown = await send(listStudios, {}).catch((reason: unknown) => reason);
    assert.ok(error instanceof nimble.NimbleServiceException);
    const { name: itsName, message, $metadata } = error;
    assert.deepEqual([itsName, message, $metadata.httpStatusCode], [name, `what ${name} says`, ERROR_STATUS[name]]);
    return error as nimble.ValidationException & { readonly reason?: string };
  };

  test('the client knows seven of them, and so do we', () => {
    assert.equal(classes.size, 7);
    assert.deepEqual([...classes.keys()].sort(), [...MODELLED_ERRORS]);
  });

  for (const name of Object.keys(ERROR_STATUS) as ErrorName[]) {
    const itsClass = classes.get(name) as (new () => Error) | undefined;
    if (itsClass) {
      test(name, async () => {
        const context = { resourceId: 'us-west-2:stid-x', more: 'é' };
        const error = await caught(name, context);
        assert.ok(error instanceof itsClass);
        assert.deepEqual([error.code, error.context], ['A_CODE', context]);
      });
    } else {
      test(`${name}, which has none, is not taken for one called like its code`, async () => {
        assert.equal((await caught(name)).reason, 'A_CODE');
      });
    }
  }
});

// ---------------------------------------------------------------------------------------------------------------------
// Types: member for member and value for value the same, at every depth. Checked by the compiler. To the client a
// union is a structure with optional members, so the members of its alternatives are looked at together.

/** Strings, numbers, times and enumerations as what they are on the wire; of everything else the names of the members. */
type OnWire<T> = [T] extends [string | number]
  ? T
  : [T] extends [Date]
    ? string
    : [T] extends [readonly (infer E)[]]
      ? [OnWire<E>]
      : [T] extends [object]
        ? string extends keyof T
          ? 'map'
          : { [K in keyof T & string]: OnWire<NonNullable<T[K]>> }
        : never;

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

type ClientInput<N extends OperationName> = ConstructorParameters<(typeof nimble)[`${N}Command`]>[0];
type ClientOutput<N extends OperationName> =
  InstanceType<(typeof nimble)[`${N}Command`]> extends nimble.$Command<infer _I, infer O, infer _C> ? O : never;
type Output<N extends OperationName> = Extract<(typeof operations)[number], { readonly name: N }>['output'];

/** Our type has the client token for every operation; which of them take one is seen above, at run time. */
type InputOnWire<T> = OnWire<Omit<T, 'clientToken'>>;

type Differing = {
  [N in OperationName]: Same<InputOnWire<Input<N>>, InputOnWire<NonNullable<ClientInput<N>>>> extends true
    ? Same<
        Output<N> extends undefined ? Record<never, never> : OnWire<Static<Output<N>>>,
        OnWire<Omit<ClientOutput<N>, '$metadata'>>
      > extends true
      ? never
      : `${N}Output`
    : `${N}Input`;
}[OperationName];

const nothingDiffers: [Differing] extends [never] ? true : { differing: Differing } = true;

test('the types of inputs and outputs are those of the client', () => {
  assert.ok(nothingDiffers);
});

// ---------------------------------------------------------------------------------------------------------------------

describe('the contract is data', () => {
  const directory = join(import.meta.dirname, '../../src/contract');

  for (const file of readdirSync(directory)) {
    test(`${file} imports nothing from outside its folder`, () => {
      const specifiers = [
        ...readFileSync(join(directory, file), 'utf8').matchAll(/(?:from|import\(|import) '([^']+)'/g),
      ];
      for (const [, specifier] of specifiers) assert.match(specifier!, /^\.\/[a-z-]+\.ts$/);
    });
  }

  const requireData = (value: unknown, path: string): void => {
    if (typeof value === 'object' && value !== null && !(value instanceof RegExp)) {
      assert.ok(Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype, path);
      for (const [name, entry] of Object.entries(value)) requireData(entry, `${path}.${name}`);
    } else assert.notEqual(typeof value, 'function', path);
  };

  for (const operation of operations as readonly Operation[]) {
    test(`${operation.name} is nothing but values, and fits together`, () => {
      requireData(operation, operation.name);
      const labelsInUri = [...operation.uri.matchAll(/\{(\w+)\}/g)].map(([, name]) => name!);
      assert.deepEqual(Object.keys(operation.labels), labelsInUri);
      assert.equal(operation.status, operation.output ? 200 : 204);
      const { labels, query, body, pagination, output } = operation;
      const names = [labels, query, body].flatMap(Object.keys);
      assert.equal(new Set(names).size, names.length, 'no member stands in two places');
      if (pagination) {
        assert.equal(output!.members[pagination.items]!.shape.kind, 'list');
        assert.ok('nextToken' in query && 'nextToken' in output!.members);
      }
      if (operation.method === 'GET' || operation.method === 'DELETE') assert.deepEqual(body, {});
    });
  }
});
