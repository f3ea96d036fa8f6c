/**
 * Which operation a method and a raw path name: labels are cut out still encoded, what only looks like a route is none,
 * and a contract that does not fit together is found at start-up.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { operations } from '../../src/contract/index.ts';
import { API_PREFIX, type Operation, operation } from '../../src/contract/operation.ts';
import { createRouter } from '../../src/wire/router.ts';
import { ODD_TEXT } from '../support/samples.ts';

const SEED = Number(process.env.BACKLOT_SEED ?? 20_200_801);

const handlers = Object.fromEntries(operations.map(({ name }) => [name, name]));
const router = createRouter(operations, handlers);

/** Name of the operation and its raw labels. */
function matched(method: string, path: string): [string, ...string[]] | undefined {
  const match = router.match(method, API_PREFIX + path);
  return match && [match.route.handler, ...match.labels];
}

describe('every operation', () => {
  for (const { name, method, uri, labels } of operations as readonly Operation[]) {
    test(`${method} ${uri} is ${name}`, () => {
      const label = encodeURIComponent(ODD_TEXT);
      const path = uri.replaceAll(/\{\w+\}/g, () => label);
      const values = Object.keys(labels).map(() => label);
      assert.deepEqual(matched(method, path), [name, ...values]);
      assert.deepEqual(matched(method, `${path}/`), [name, ...values], 'a slash at the end is tolerated');
      assert.equal(matched(method, `${path}//`), undefined, 'one, not two');
      assert.equal(matched(method, `${path}/more`)?.[0] === name, false);
      const others = ['HEAD', 'PUT', 'OPTIONS', 'TRACE', 'PROPFIND', method.toLowerCase(), '', 'constructor'];
      for (const other of others.filter((candidate) => candidate !== method)) {
        assert.equal(matched(other, path), undefined, `${other} is nobody's method here`);
      }
    });
  }
});

describe('labels', () => {
  test('a studio id with its colon encoded, in either case, or as it is', () => {
    for (const id of ['us-west-2%3Astid-1', 'us-west-2%3astid-1', 'us-west-2:stid-1']) {
      assert.deepEqual(matched('GET', `/studios/${id}`), ['GetStudio', id]);
    }
  });

  test('an ARN with its slash encoded is one label', () => {
    const arn = encodeURIComponent('arn:aws:nimble:us-west-2:123456789012:streaming-image/abc');
    assert.ok(arn.includes('%2F'));
    assert.deepEqual(matched('GET', `/tags/${arn}`), ['ListTagsForResource', arn]);
    assert.deepEqual(matched('GET', `/tags/${arn.toLowerCase()}`), ['ListTagsForResource', arn.toLowerCase()]);
  });

  test('an ARN with a literal slash is no label', () => {
    assert.equal(matched('GET', '/tags/arn:aws:nimble:us-west-2:123456789012:streaming-image/abc'), undefined);
  });

  test('they keep the order of the path', () => {
    const match = router.match('GET', `${API_PREFIX}/studios/a/streaming-images/b`)!;
    assert.deepEqual(match.route.labelNames, ['studioId', 'streamingImageId']);
    assert.deepEqual(match.labels, ['a', 'b']);
  });

  test('a label may be called like a literal', () => {
    assert.deepEqual(matched('GET', '/studios/studios/streaming-images/streaming-images'), [
      'GetStreamingImage',
      'studios',
      'streaming-images',
    ]);
  });

  test('what stands on Object.prototype is a label like any other', () => {
    for (const id of ['__proto__', 'constructor', 'toString']) {
      assert.deepEqual(matched('GET', `/studios/${id}`), ['GetStudio', id]);
      assert.equal(matched('GET', `/${id}`), undefined);
      assert.equal(matched('GET', `/studios/x/${id}`), undefined);
    }
  });
});

describe('what only looks like a route', () => {
  const paths = [
    '',
    '/',
    '*',
    '/studios',
    'studios',
    API_PREFIX,
    `${API_PREFIX}/`,
    API_PREFIX.slice(1),
    `${API_PREFIX.slice(1)}/studios`,
    '/2020-08-02/studios',
    `/${API_PREFIX}/studios`,
    `${API_PREFIX}//studios`,
    `${API_PREFIX}/Studios`,
    `${API_PREFIX}/STUDIOS`,
    `${API_PREFIX}/%73tudios`,
    '/2020%2D08-01/studios',
    `${API_PREFIX}%2Fstudios`,
    `${API_PREFIX}/studios;x=1`,
    `${API_PREFIX}/studios%3F`,
    `${API_PREFIX}/./studios`,
    `${API_PREFIX}/x/../studios`,
    `${API_PREFIX}\\studios`,
    `http://127.0.0.1${API_PREFIX}/studios`,
    `//127.0.0.1${API_PREFIX}/studios`,
  ];
  for (const path of paths) {
    test(JSON.stringify(path), () => {
      assert.equal(router.match('GET', path), undefined);
    });
  }

  test('an empty label, or one that signing normalises away', () => {
    for (const label of ['', '.', '..']) {
      assert.equal(matched('GET', `/studios/${label}/streaming-images`), undefined);
      assert.equal(matched('GET', `/studios/x/streaming-images/${label}/`), undefined);
    }
    assert.deepEqual(matched('GET', '/studios/%2E%2E'), ['GetStudio', '%2E%2E'], 'encoded, signing leaves it alone');
  });
});

test(`random paths: a match gives every segment back (BACKLOT_SEED=${SEED})`, () => {
  const literals = operations
    .flatMap(({ uri }) => uri.split('/'))
    .concat('2020-08-01', '', '.', '..', '%2F', '__proto__');
  const segment = fc.oneof(fc.constantFrom(...literals), fc.string({ unit: 'binary', maxLength: 8 }));
  const path = fc.array(segment, { maxLength: 8 }).map((segments) => `/${segments.join('/')}`);
  const method = fc.constantFrom('GET', 'POST', 'PATCH', 'DELETE', 'PUT', 'HEAD', '');
  const property = fc.property(
    method,
    fc.oneof(
      path,
      path.map((text) => API_PREFIX + text),
    ),
    (itsMethod, text) => {
      const match = router.match(itsMethod, text);
      if (!match) return;
      const { operation: found, labelNames } = match.route;
      assert.equal(found.method, itsMethod);
      assert.equal(match.labels.length, labelNames.length);
      const labels = [...match.labels];
      const again = API_PREFIX + found.uri.replaceAll(/\{\w+\}/g, () => labels.shift()!);
      assert.ok(text === again || text === `${again}/`, `${text} is not ${again}`);
    },
  );
  fc.assert(property, { seed: SEED, numRuns: 2_000 });
});

describe('at start-up', () => {
  const [first, ...others] = operations as readonly Operation[];

  test('an operation without a handler is refused', () => {
    const { [first!.name]: _, ...rest } = handlers;
    assert.throws(() => createRouter(operations, rest), /CreateStudio has no handler/);
  });

  test('a handler without an operation is refused', () => {
    assert.throws(() => createRouter(others, handlers), /without an operation: CreateStudio/);
  });

  test('two operations at one place are refused, whatever their labels are called', () => {
    const rival = operation('Rival', {
      resource: 'studio',
      summary: 'Stands where GetStudio stands.',
      method: 'GET',
      uri: '/studios/{id}',
      access: 'Read',
      output: undefined,
    });
    assert.throws(() => createRouter([...operations, rival], { ...handlers, Rival: '' }), /two operations at GET/);
  });
});
