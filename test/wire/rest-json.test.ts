/**
 * The input of an operation from labels, query, headers and body: what fits comes through byte for byte, everything else
 * is refused with a 4xx, whatever the bytes are. No input makes the reader fail in any other way.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type OperationName, operations } from '../../src/contract/index.ts';
import { API_PREFIX, type Operation } from '../../src/contract/operation.ts';
import { ERROR_STATUS, type ErrorName, ServiceError } from '../../src/errors.ts';
import { errorBody, readInput, singleHeader } from '../../src/wire/rest-json.ts';
import { createRouter } from '../../src/wire/router.ts';
import { ODD_TEXT, sampleInput } from '../support/samples.ts';

const SEED = Number(process.env.BACKLOT_SEED ?? 20_200_801);
const router = createRouter(operations, Object.fromEntries(operations.map(({ name }) => [name, name])));
const operationOf = (name: OperationName): Operation => operations.find((operation) => operation.name === name)!;

interface Request {
  /** Raw values in the order of the path. */
  readonly labels?: readonly string[];
  readonly query?: string;
  readonly headers?: readonly string[];
  readonly body?: string | Buffer;
}

function read(name: OperationName, { labels, query = '', headers = [], body = '' }: Request): Record<string, unknown> {
  const operation = operationOf(name);
  const labelNames = Object.keys(operation.labels);
  return readInput(operation, {
    labels: labels ?? labelNames.map(() => 'x'),
    labelNames,
    query,
    rawHeaders: headers,
    body: Buffer.from(body),
  });
}

function refused(name: OperationName, request: Request, error: ErrorName, code: string): string {
  try {
    read(name, request);
  } catch (caught) {
    if (!(caught instanceof ServiceError)) throw caught;
    assert.deepEqual([caught.name, caught.code], [error, code], caught.message);
    return caught.message;
  }
  return assert.fail('it was read');
}

const invalid = (name: OperationName, request: Request, code = 'INVALID_INPUT') =>
  refused(name, request, 'ValidationException', code);
const unreadable = (name: OperationName, body: string | Buffer) => invalid(name, { body }, 'UNREADABLE_BODY');

const IMAGE = { ec2ImageId: 'ami-0', name: 'image' };
const imageBody = (members: object) => JSON.stringify({ ...IMAGE, ...members });

// ---------------------------------------------------------------------------------------------------------------------

describe('labels', () => {
  test('every odd character comes back as it was', () => {
    const label = encodeURIComponent(ODD_TEXT);
    assert.deepEqual(read('GetStudio', { labels: [label] }), { studioId: ODD_TEXT });
  });

  test('a studio id, its colon encoded in either case or not', () => {
    for (const id of ['us-west-2%3Astid-1', 'us-west-2%3astid-1', 'us-west-2:stid-1']) {
      assert.deepEqual(read('GetStudio', { labels: [id] }), { studioId: 'us-west-2:stid-1' });
    }
  });

  test('an ARN with an encoded slash', () => {
    const resourceArn = 'arn:aws:nimble:us-west-2:123456789012:studio/stid-1';
    assert.deepEqual(read('ListTagsForResource', { labels: [encodeURIComponent(resourceArn)] }), { resourceArn });
  });

  test('they are decoded once', () => {
    assert.deepEqual(read('GetStudio', { labels: ['%252F'] }), { studioId: '%2F' });
  });

  test('a plus is a plus, and a zero byte is a character', () => {
    assert.deepEqual(read('GetStudio', { labels: ['a+b%00c'] }), { studioId: 'a+b\0c' });
  });

  for (const label of ['%', '%4', '%zz', 'a%', '%E0%A4%A', '%FF', '%C0%80', '%ED%A0%80', '%F5%80%80%80', '%C3%28']) {
    test(`${label} is no text`, () => {
      assert.equal(
        invalid('GetStudio', { labels: [label] }, 'BAD_ENCODING'),
        "1 validation error detected. Value at '/studioId' failed to satisfy constraint: " +
          'Member must be valid percent-encoded UTF-8',
      );
    });
  }

  test(`any text survives path, routing and decoding (BACKLOT_SEED=${SEED})`, () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 }).filter((value) => !/^\.{1,2}$/.test(value));
    const withLabels = (operations as readonly Operation[]).filter(({ uri }) => uri.includes('{'));
    const property = fc.property(
      fc.constantFrom(...withLabels),
      fc.tuple(text, text, text),
      ({ name, method, uri }, texts) => {
        const values = [...texts];
        const path = API_PREFIX + uri.replaceAll(/\{\w+\}/g, () => encodeURIComponent(values.shift()!));
        const match = router.match(method, path)!;
        assert.equal(match.route.handler, name);
        const names = match.route.labelNames;
        const only = { ...match.route.operation, query: {}, body: {} };
        const request = { labels: match.labels, labelNames: names, query: '', rawHeaders: [], body: Buffer.alloc(0) };
        assert.deepEqual(readInput(only, request), Object.fromEntries(names.map((label, at) => [label, texts[at]])));
      },
    );
    fc.assert(property, { seed: SEED, numRuns: 500 });
  });
});

describe('the query', () => {
  const tagKeys = (query: string) => read('UntagResource', { query }).tagKeys;

  test('a list repeats its key', () => {
    assert.deepEqual(tagKeys('tagKeys=a%20b&tagKeys=c%26d&tagKeys=a%20b'), ['a b', 'c&d', 'a b']);
    assert.deepEqual(tagKeys(`tagKeys=${encodeURIComponent(ODD_TEXT)}`), [ODD_TEXT]);
  });

  test('a plus is a blank, an encoded plus is a plus', () => assert.deepEqual(tagKeys('tagKeys=a+b%2B'), ['a b+']));

  test('commas do not split, brackets mean nothing', () => {
    assert.deepEqual(tagKeys('tagKeys=a,b'), ['a,b']);
    assert.match(invalid('UntagResource', { query: 'tagKeys[]=a&tagKeys[0]=b' }), /'\/tagKeys'.* must not be null/);
  });

  test('a key without a value has an empty one', () => {
    assert.deepEqual(tagKeys('tagKeys&tagKeys='), ['', '']);
    assert.deepEqual(read('ListStudios', { query: 'nextToken' }), { nextToken: '' });
  });

  test('only the first equals sign divides', () => assert.deepEqual(tagKeys('tagKeys=a=b=='), ['a=b==']));

  test('names may be encoded', () => assert.deepEqual(tagKeys('%74agKeys=a'), ['a']));

  test('what the operation does not know is ignored', () => {
    assert.deepEqual(read('ListStudios', { query: 'maxResults=5&&=&__proto__=x&constructor=y&nextToken=t' }), {
      nextToken: 't',
    });
    assert.deepEqual(read('GetStudio', { query: 'studioId=other' }), { studioId: 'x' });
  });

  test('what must stand once is refused twice, in any spelling: which one would count?', () => {
    for (const query of ['owner=a&owner=b', 'owner=a&owner=a', 'owner=a&%6fwner=b', 'owner&owner']) {
      assert.match(invalid('ListStreamingImages', { query }), /'\/owner'.*: Member must be given once$/);
    }
    assert.match(invalid('ListStudios', { query: 'nextToken=a&nextToken=b&nextToken=c' }), /^2 validation errors/);
  });

  test('a text that may hold several values takes them from a key that repeats, too', () => {
    for (const [query, sessionIds] of [
      ['sessionIds=a', 'a'],
      ['sessionIds=a,b', 'a,b'],
      ['sessionIds=a&sessionIds=b&session%49ds=c', 'a,b,c'],
    ] as const) {
      assert.deepEqual(read('ListStreamingSessions', { query }), { studioId: 'x', sessionIds });
    }
  });

  test('an integer is read from its digits', () => {
    const maxResults = (text: string) => read('ListStudioComponents', { query: `maxResults=${text}` }).maxResults;
    for (const [text, number] of [
      ['1', 1],
      ['100', 100],
      ['007', 7],
      ['%35', 5],
    ] as const) {
      assert.equal(maxResults(text), number);
    }
    assert.equal('maxResults' in read('ListStudioComponents', { query: '' }), false);
    for (const text of [
      '',
      '+',
      '%2B5',
      '5.0',
      '1e1',
      '0x1',
      '%205',
      '5%20',
      'five',
      'NaN',
      'Infinity',
      '٣',
      '-',
      '9'.repeat(99),
    ]) {
      assert.equal(
        invalid('ListStudioComponents', { query: `maxResults=${text}` }),
        "1 validation error detected. Value at '/maxResults' failed to satisfy constraint: " +
          'Member must be an integer of at most 15 digits',
      );
    }
    for (const text of ['0', '-1', '101', '999999999999999']) {
      const refusal = invalid('ListStudioComponents', { query: `maxResults=${text}` });
      assert.match(refusal, /'\/maxResults'.*: Member must be between 1 and 100, inclusive$/);
    }
    assert.match(invalid('ListStudioComponents', { query: 'maxResults=x&maxResults=1' }), /Member must be given once/);
  });

  test('a list of an enumeration', () => {
    const { states } = read('ListStudioComponents', { query: 'states=READY&states=DELETED' });
    assert.deepEqual(states, ['READY', 'DELETED']);
    for (const text of ['', 'ready', 'READY,DELETED']) {
      assert.match(
        invalid('ListStudioComponents', { query: `states=READY&states=${text}` }),
        /'\/states\/2\/member'.*enum value set/,
      );
    }
  });

  test('bad escapes', () => {
    for (const broken of ['%', '%zz', '%E0%A4%A', '%FF']) {
      assert.match(invalid('ListStudios', { query: `nextToken=${broken}` }, 'BAD_ENCODING'), /'\/nextToken'/);
      invalid('ListStudios', { query: `${broken}=1` }, 'BAD_ENCODING');
    }
  });

  test('limits hold for it as for the body', () => {
    assert.match(invalid('ListStudios', { query: `nextToken=${'x'.repeat(1_025)}` }), /length 1025 at '\/nextToken'/);
  });

  test('a long list takes no longer than its length', () => {
    assert.equal((tagKeys(Array(100_000).fill('tagKeys=').join('&')) as string[]).length, 100_000);
  });
});

describe('headers', () => {
  const TOKEN = 'x-amz-client-token';
  const withToken = (...headers: string[]) => ({ headers, body: JSON.stringify(IMAGE) });

  test('the client token, its name in any case', () => {
    const { clientToken } = read('CreateStreamingImage', withToken('X-Amz-Client-Token', 'a b'));
    assert.equal(clientToken, 'a b');
  });

  test('no client token is fine', () => {
    assert.equal('clientToken' in read('CreateStreamingImage', withToken()), false);
  });

  test('a client token of 1 to 64 characters', () => {
    for (const token of ['x', 'x'.repeat(64)]) read('CreateStreamingImage', withToken(TOKEN, token));
    for (const token of ['', 'x'.repeat(65)]) {
      assert.equal(
        invalid('CreateStreamingImage', withToken(TOKEN, token)),
        `1 validation error detected. Value with length ${token.length} at '/clientToken' failed to satisfy constraint: ` +
          'Member must have length between 1 and 64, inclusive',
      );
    }
  });

  test('two client tokens, equal or not: neither counts', () => {
    for (const second of ['a', 'b']) {
      const request = withToken(TOKEN, 'a', 'accept', '*/*', 'X-AMZ-CLIENT-TOKEN', second);
      invalid('CreateStreamingImage', request, 'REPEATED_HEADER');
    }
  });

  test('an operation that takes no token does not look', () => {
    assert.deepEqual(read('TagResource', { headers: [TOKEN, ''] }), { resourceArn: 'x' });
  });

  test('a header that is not there', () => {
    assert.equal(singleHeader(['accept', 'x'], 'accep'), undefined);
    assert.equal(singleHeader([], 'accept'), undefined);
  });

  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'APPLICATION/JSON',
    ' application/json ;x',
  ]) {
    test(`a body of type ${JSON.stringify(type)} is read`, () => {
      read('CreateStreamingImage', withToken('Content-Type', type));
    });
  }

  for (const type of [
    '',
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/jsonx',
    'application/xml, application/json',
  ]) {
    test(`a body of type ${JSON.stringify(type)} is not`, () => {
      const request = withToken('content-type', type);
      refused('CreateStreamingImage', request, 'UnsupportedMediaTypeException', 'CONTENT_TYPE_NOT_JSON');
    });
  }

  test('the type says nothing where there is no body, or none is asked for', () => {
    read('TagResource', { headers: ['content-type', 'text/plain'] });
    read('GetStudio', { headers: ['content-type', 'text/plain'], body: 'text' });
  });

  for (const accept of ['*/*', 'application/json', 'text/html, application/*;q=0.5', '', 'Application/JSON;q=1']) {
    test(`Accept: ${accept} is fine`, () => void read('GetStudio', { headers: ['Accept', accept] }));
  }

  for (const accept of ['text/html', 'application/xml', 'application/jsonp', 'text/*', 'json']) {
    test(`Accept: ${accept} is not`, () => {
      const request = { headers: ['accept', accept] };
      refused('GetStudio', request, 'NotAcceptableException', 'JSON_NOT_ACCEPTED');
    });
  }
});

describe('bodies', () => {
  test('none at all is an empty object: old clients send none', () => {
    assert.deepEqual(read('UpdateStreamingImage', { headers: ['content-type', 'application/json'] }), {
      studioId: 'x',
      streamingImageId: 'x',
    });
    assert.match(invalid('CreateStreamingImage', {}), /^2 validation errors detected\./);
  });

  const malformed: [string, string | Buffer][] = [
    ['text', 'x'],
    ['a comment', `{"name":"a"/* */,"ec2ImageId":"ami-0"}`],
    ['a line comment', `// x\n${imageBody({})}`],
    ['a trailing comma', '{"name":"a","ec2ImageId":"ami-0",}'],
    ['single quotes', "{'name':'a'}"],
    ['names without quotes', '{name:"a"}'],
    ['an end that is missing', imageBody({}).slice(0, -1)],
    ['something behind the end', `${imageBody({})}x`],
    ['two objects', imageBody({}).repeat(2)],
    ['a control character', '{"name":"a\u0001"}'],
    ['half an escape', '{"name":"\\ud8"}'],
    ['NaN', '{"name":NaN}'],
    ['a byte order mark', `\ufeff${imageBody({})}`],
    ['blanks only', ' \r\n\t'],
    ['a zero byte', '\0'],
    ['form data', 'name=a&ec2ImageId=ami-0'],
    ['brackets without end', '['.repeat(200_000)],
    ['objects without end', '{"a":'.repeat(200_000)],
  ];
  for (const [what, body] of malformed) {
    test(`${what} is not JSON`, () => {
      assert.equal(
        unreadable('CreateStreamingImage', body),
        '[Unknown error parsing request body] The body is not valid JSON.',
      );
    });
  }

  for (const body of [
    'null',
    '10',
    'true',
    '"x"',
    '[]',
    `[${imageBody({})}]`,
    `${'['.repeat(50_000)}${']'.repeat(50_000)}`,
  ]) {
    test(`${body.slice(0, 20)} is no object`, () => {
      assert.equal(
        unreadable('CreateStreamingImage', body),
        '[Unknown error parsing request body] The body must be a JSON object.',
      );
    });
  }

  const notUtf8: [string, number[]][] = [
    ['Latin-1', [0xe9]],
    ['an overlong slash', [0xc0, 0xaf]],
    ['half an emoji', [0xed, 0xa0, 0xbd]],
    ['a character cut off', [0xe2, 0x82]],
    ['a byte that never stands', [0xff]],
    ['UTF-16', [...Buffer.from('é', 'utf16le'), 0xd8]],
  ];
  for (const [what, bytes] of notUtf8) {
    test(`${what} is not UTF-8`, () => {
      const body = Buffer.concat([
        Buffer.from('{"name":"'),
        Buffer.from(bytes),
        Buffer.from('","ec2ImageId":"ami-0"}'),
      ]);
      assert.equal(
        unreadable('CreateStreamingImage', body),
        '[Unknown error parsing request body] The body is not UTF-8.',
      );
    });
  }

  test('characters written as escapes are the same characters', () => {
    const { name } = read('CreateStreamingImage', { body: '{"ec2ImageId":"ami-0","name":"\\ud83d\\ude00\\u00e9"}' });
    assert.equal(name, '😀é');
  });

  test('the last of two members of one name counts', () => {
    assert.equal(read('CreateStreamingImage', { body: '{"name":1,"ec2ImageId":"ami-0","name":"b"}' }).name, 'b');
  });

  test('a label, a query member or a token in the body is an unknown member', () => {
    const more = { studioId: 'other', clientToken: 1, nextToken: 1, owner: 'amazon', streamingImageId: {} };
    assert.deepEqual(read('CreateStreamingImage', { body: imageBody(more) }), { studioId: 'x', ...IMAGE });
  });

  test('nesting without end in an unknown member is read and dropped', () => {
    const deep = `${'{"a":['.repeat(50_000)}${']}'.repeat(50_000)}`;
    assert.deepEqual(read('CreateStreamingImage', { body: `{"deep":${deep},${imageBody({}).slice(1)}` }), {
      studioId: 'x',
      ...IMAGE,
    });
  });

  for (const name of ['__proto__', 'constructor', 'toString']) {
    test(`${name} in the body, and in its tags`, () => {
      const body = `{"${name}":{"description":"smuggled"},"tags":{"${name}":"v"},${imageBody({}).slice(1)}`;
      const input = read('CreateStreamingImage', { body });
      assert.equal('description' in input, false);
      assert.equal(JSON.stringify(input.tags), `{"${name}":"v"}`);
      assert.equal('description' in {}, false);
    });
  }
});

describe(`whatever comes (BACKLOT_SEED=${SEED})`, () => {
  const isInput = (operation: Operation, request: Parameters<typeof readInput>[1]): void => {
    try {
      const input = readInput(operation, request);
      assert.equal(typeof JSON.stringify(input), 'string');
      const known = Object.keys(sampleInput(operation));
      for (const name of Object.keys(input)) assert.ok(known.includes(name), name);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      assert.ok(error.status >= 400 && error.status < 500, `${error.status} ${error.message}`);
    }
  };
  const anyOperation = fc.constantFrom(...(operations as readonly Operation[]));
  const names = [
    ...new Set((operations as readonly Operation[]).flatMap(({ body, query }) => Object.keys({ ...body, ...query }))),
  ];
  const name = fc.constantFrom(...names, 'keyType', 'keyArn', '__proto__', 'constructor', 'length', '0');
  const leaf = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.constantFrom('ami-0', 'arn:x', 'AWS_OWNED_KEY'),
    fc.jsonValue(),
  );
  const json = fc.letrec((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, leaf, fc.array(tie('value'), { maxLength: 4 }), tie('object')),
    object: fc.dictionary(fc.oneof(name, fc.string()), tie('value'), { maxKeys: 8 }),
  }));
  const plain = { labelNames: [], labels: [], query: '', rawHeaders: [] };

  test('random JSON is an input or a refusal', () => {
    const property = fc.property(anyOperation, fc.oneof(json.object, json.value), (operation, value) =>
      isInput({ ...operation, labels: {} }, { ...plain, body: Buffer.from(JSON.stringify(value) ?? '') }),
    );
    fc.assert(property, { seed: SEED, numRuns: 1_000 });
  });

  test('random bytes, and JSON with some of them in it', () => {
    const bytes = fc.uint8Array({ maxLength: 64 });
    const spoilt = fc.tuple(json.object, fc.nat(), bytes).map(([value, at, more]) => {
      const text = Buffer.from(JSON.stringify(value));
      const cut = at % (text.length + 1);
      return Buffer.concat([text.subarray(0, cut), more, text.subarray(cut)]);
    });
    const property = fc.property(anyOperation, fc.oneof(bytes, spoilt), (operation, body) =>
      isInput({ ...operation, labels: {} }, { ...plain, body: Buffer.from(body) }),
    );
    fc.assert(property, { seed: SEED, numRuns: 1_000 });
  });

  test('random queries, labels and headers', () => {
    const piece = fc.oneof(
      name,
      fc.constantFrom('=', '&', '%', '%41', '%E0%A4%A', '+', '[]', '?'),
      fc.string({ maxLength: 4 }),
    );
    const query = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    const header = fc.constantFrom('accept', 'content-type', 'x-amz-client-token', 'Accept', 'x');
    const headers = fc.array(fc.tuple(header, fc.string()), { maxLength: 4 }).map((pairs) => pairs.flat());
    const property = fc.property(anyOperation, query, headers, fc.string(), (operation, text, rawHeaders, label) => {
      const labelNames = Object.keys(operation.labels);
      const labels = labelNames.map(() => label);
      isInput(operation, { labels, labelNames, query: text, rawHeaders, body: Buffer.alloc(0) });
    });
    fc.assert(property, { seed: SEED, numRuns: 1_000 });
  });
});

describe('the body of an error', () => {
  test('has message, code and context, and nothing of the inward text', () => {
    const context = { resourceId: 'x' };
    const error = new ServiceError('ConflictException', 'outward', { code: 'CODE', context, inward: 'inward' });
    assert.equal(errorBody(error), '{"message":"outward","code":"CODE","context":{"resourceId":"x"}}');
  });

  test('leaves out what there is not', () => {
    assert.equal(errorBody(new ServiceError('ConflictException', 'outward')), '{"message":"outward"}');
  });

  test('has no code where clients know no class of the name: they would take the code for it', () => {
    for (const name of Object.keys(ERROR_STATUS) as ErrorName[]) {
      const body = JSON.parse(errorBody(new ServiceError(name, 'outward', { code: 'CODE' }))) as object;
      const modelled = 'code' in body;
      assert.deepEqual(body, modelled ? { message: 'outward', code: 'CODE' } : { message: 'outward', reason: 'CODE' });
    }
  });
});
