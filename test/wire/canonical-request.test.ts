/**
 * How bytes become the text that is signed, part by part. Whole requests, against the published vectors and an
 * independent signer, are in sigv4.test.ts and sigv4-oracle.test.ts.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { ServiceError } from '../../src/errors.ts';
import {
  canonicalPath,
  canonicalQuery,
  canonicalRequest,
  decodeQueryText,
  EMPTY_BODY_HASH,
  payloadHashOf,
  readHeaders,
  readQuery,
} from '../../src/wire/canonical-request.ts';

describe('canonical path', () => {
  for (const [path, canonical] of [
    ['', '/'],
    ['/', '/'],
    ['//', '/'],
    ['/./', '/'],
    ['/a/..', '/'],
    ['/a/../..', '/'],
    ['/../a', '/a'],
    ['/a//b', '/a/b'],
    ['/a/./b/', '/a/b/'],
    ['/a/b/../c', '/a/c'],
    ['/a/.b/..c', '/a/.b/..c'],
    ['/a.b/c..', '/a.b/c..'],
    ['/%2e%2e/a', '/%252e%252e/a'],
    ['/tags/arn%3Aaws%3Animble%2Fimg-1', '/tags/arn%253Aaws%253Animble%252Fimg-1'],
    ['/studios/us-west-2:abc', '/studios/us-west-2%3Aabc'],
    ["/a!'()*b", '/a%21%27%28%29%2Ab'],
    ['/a%C3%A9/é', '/a%25C3%25A9/%C3%A9'],
    ['http://elsewhere/a', 'http%3A/elsewhere/a'],
  ] as const) {
    test(`${path || 'nothing'} becomes ${canonical}`, () => assert.equal(canonicalPath(path), canonical));
  }
});

describe('canonical query', () => {
  for (const [query, canonical] of [
    ['', ''],
    ['&&', ''],
    ['a', 'a='],
    ['a=b=c', 'a=b%3Dc'],
    ['b=1&a=2&a=1', 'a=1&a=2&b=1'],
    ['tagKeys=b&tagKeys=a&tagKeys=a', 'tagKeys=a&tagKeys=a&tagKeys=b'],
    ['a-b=1&a=2', 'a=2&a-b=1'],
    ['%C3%A9=1&z=2', '%C3%A9=1&z=2'],
    ['a=%c3%a9', 'a=%C3%A9'],
    ['a=1+2%2B3%204', 'a=1%202%2B3%204'],
    ["a=!'()*~", 'a=%21%27%28%29%2A~'],
    ['a=?/', 'a=%3F%2F'],
    ['X-Amz-Signature=1&a=2', 'a=2'],
  ] as const) {
    test(`${query || 'nothing'} becomes ${canonical || 'nothing'}`, () => {
      assert.equal(canonicalQuery(readQuery(`/?${query}`)), canonical);
    });
  }

  test('a target without a question mark has no query', () => assert.deepEqual(readQuery('/a=b'), []));

  for (const text of ['%', '%4', '%zz', '%FF', '%C3']) {
    test(`${text} is no text and is refused`, () => {
      assert.throws(() => decodeQueryText(text), { name: 'InvalidSignatureException', code: 'MALFORMED_QUERY' });
    });
  }
});

describe('headers', () => {
  test('repeats are joined with a comma, trimmed and with single spaces', () => {
    const headers = readHeaders(['A', ' 1   2 ', 'b', 'x', 'a', '\t3\t']);
    assert.deepEqual([...headers.keys()], ['a', 'b']);
    assert.deepEqual([headers.get('a'), headers.get('b')], ['1 2,3', 'x']);
  });

  test('a folded value, which only an old parser lets through, can not forge a line', () => {
    const signer = { signedHeaders: ['a'], signedHeaderList: 'a' };
    const folded = canonicalRequest(
      { method: 'GET', target: '/' },
      [],
      new Map([['a', 'value1\r\n  value2\n\tvalue3']]),
      signer,
      EMPTY_BODY_HASH,
    );
    assert.equal(folded, `GET\n/\n\na:value1 value2 value3\n\na\n${EMPTY_BODY_HASH}`);
  });

  test('names of Object.prototype are names like any other', () => {
    const headers = readHeaders(['__proto__', '1', 'constructor', '2']);
    assert.deepEqual(
      [headers.get('__proto__'), headers.get('constructor'), headers.get('tostring')],
      ['1', '2', undefined],
    );
  });

  test('of more than 128 headers none is read', () => {
    const headers = (count: number) => Array.from({ length: count }, (_, index) => [`x-${index}`, 'y']).flat();
    assert.equal(readHeaders(headers(128)).get('x-127'), 'y');
    assert.throws(() => readHeaders(headers(129)), { name: 'ValidationException', code: 'TOO_MANY_HEADERS' });
  });

  test('what is refused is refused as a ServiceError of status 403', () => {
    assert.throws(
      () => readHeaders(['Host', 'a', 'host', 'a']),
      (error) => error instanceof ServiceError && error.status === 403,
    );
  });
});

test('the hash of a body is of its own bytes, also when it is a view of a larger buffer', () => {
  const pool = Buffer.from('before body after');
  const body = pool.subarray(7, 11);
  assert.equal(payloadHashOf(body), createHash('sha256').update('body').digest('hex'));
  assert.equal(payloadHashOf(new Uint8Array()), createHash('sha256').digest('hex'));
});
