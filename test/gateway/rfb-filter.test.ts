/**
 * What a viewer may send to a desktop: known messages go through as they are, wherever the stream is cut; anything else
 * ends it; and text for the clipboard goes where it is allowed, and nowhere else.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CUT_TEXT_BYTES_MAX, RfbFilter } from '../../src/gateway/rfb-filter.ts';
import { cutText } from '../support/streams.ts';

const HANDSHAKE = Buffer.from('RFB 003.008\n\x01\x01', 'latin1');

/** Everything that came through, of a stream in these pieces. */
function through(filter: RfbFilter, pieces: readonly Buffer[]): Buffer {
  // A copy: the filter may change what it is given.
  return Buffer.concat(pieces.flatMap((piece) => filter.pass(Buffer.from(piece))));
}

function afterHandshake(clipboard = true): RfbFilter {
  const filter = new RfbFilter(clipboard);
  assert.deepEqual(through(filter, [HANDSHAKE]), HANDSHAKE);
  return filter;
}

function encodings(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(4 + 4 * numbers.length);
  bytes[0] = 2;
  bytes.writeUInt16BE(numbers.length, 2);
  for (const [index, number] of numbers.entries()) bytes.writeInt32BE(number | 0, 4 + 4 * index);
  return bytes;
}

/** A message of this type and length, of which the rest is filled. */
const filled = (type: number, length: number, rest: number) => Buffer.from([type, ...Array(length - 1).fill(rest)]);

const fence = (length: number) => Buffer.concat([filled(248, 8, 0), Buffer.from([length]), Buffer.alloc(length, 7)]);
const desktopSize = (screens: number) => {
  const bytes = Buffer.alloc(8 + 16 * screens, 3);
  bytes.set([251, 0, 1, 0, 1, 0, screens, 0]);
  return bytes;
};

const MESSAGES: Readonly<Record<string, Buffer>> = {
  SetPixelFormat: filled(0, 20, 9),
  'SetEncodings without any': encodings(),
  SetEncodings: encodings(7, 1, 0, -223, -258),
  FramebufferUpdateRequest: filled(3, 10, 1),
  KeyEvent: filled(4, 8, 6),
  PointerEvent: filled(5, 6, 6),
  // With its highest bit set it would be longer to a desktop that was told of such events, which none is.
  'PointerEvent with all buttons': filled(5, 6, 0xff),
  'ClientCutText without any': cutText(''),
  ClientCutText: cutText('some text'),
  'ClientCutText of the extended form': Buffer.concat([
    Buffer.from([6, 0, 0, 0, 0xff, 0xff, 0xff, 0xf8]),
    Buffer.alloc(8, 6),
  ]),
  EnableContinuousUpdates: filled(150, 10, 6),
  'ClientFence without any': fence(0),
  ClientFence: fence(64),
  xvp: filled(250, 4, 6),
  SetDesktopSize: desktopSize(1),
  'SetDesktopSize of many': desktopSize(16),
  'QEMU key event': Buffer.from([255, 0, 0, 1, 0, 0, 0, 97, 0, 0, 0, 30]),
};

for (const [name, message] of Object.entries(MESSAGES)) {
  test(`${name} goes through as it is`, () => {
    const filter = afterHandshake();
    const both = Buffer.concat([message, message, MESSAGES.KeyEvent!]);
    assert.deepEqual(through(filter, [both]), both);
    assert.equal(filter.refusal, undefined);
  });

  test(`${name} goes through byte by byte`, () => {
    const filter = afterHandshake();
    const pieces = [...message, ...MESSAGES.KeyEvent!].map((byte) => Buffer.from([byte]));
    assert.deepEqual(through(filter, pieces), Buffer.concat(pieces));
  });
}

const isCutText = (message: Buffer) => message[0] === 6;
const message = fc.constantFrom(...Object.values(MESSAGES));

/** A stream, cut at these places. */
function pieces(stream: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b), stream.length];
  return places.slice(1).map((place, index) => stream.subarray(places[index], place));
}

for (const clipboard of [true, false]) {
  test(`wherever it is cut, the same goes through; clipboard ${clipboard ? 'allowed' : 'not allowed'}`, () => {
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), fc.array(fc.nat(), { maxLength: 20 }), (messages, cuts) => {
        const stream = Buffer.concat([HANDSHAKE, ...messages]);
        const wanted = Buffer.concat([HANDSHAKE, ...messages.filter((one) => clipboard || !isCutText(one))]);
        const filter = new RfbFilter(clipboard);
        assert.deepEqual(through(filter, pieces(stream, cuts)), wanted);
        assert.equal(filter.refusal, undefined);
      }),
    );
  });
}

test('where nothing is taken out, the very buffer goes on', () => {
  const filter = afterHandshake();
  const bytes = Buffer.concat([MESSAGES.KeyEvent!, MESSAGES.SetEncodings!, MESSAGES.ClientCutText!]);
  const parts = filter.pass(bytes);
  assert.equal(parts.length, 1);
  assert.equal(parts[0], bytes);
});

test('garbage never throws, and nothing comes through after it is known for that', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), fc.boolean(), (chunks, shaken) => {
      const filter = shaken ? afterHandshake() : new RfbFilter(true);
      let sent = 0;
      let passed = 0;
      for (const chunk of chunks) {
        const wasRefused = filter.refusal !== undefined;
        const parts = filter.pass(Buffer.from(chunk));
        if (wasRefused) assert.equal(parts.length, 0);
        sent += chunk.length;
        passed += parts.reduce((sum, part) => sum + part.length, 0);
      }
      assert.ok(passed <= sent);
    }),
  );
});

const REFUSED: Readonly<Record<string, Buffer>> = {
  'an unknown message': Buffer.from([1]),
  'sound of QEMU': Buffer.from([255, 1, 0, 0]),
  'more encodings than there are': Buffer.from([2, 0, 0xff, 0xff]),
  'a text that is too long': (() => {
    const head = cutText('');
    head.writeUInt32BE(CUT_TEXT_BYTES_MAX + 1, 4);
    return head;
  })(),
  'a text of two gigabytes': Buffer.from([6, 0, 0, 0, 0x80, 0, 0, 0]),
  'a fence that is too long': Buffer.concat([filled(248, 8, 0), Buffer.from([65])]),
  'more screens than a desk has': Buffer.from([251, 0, 1, 0, 1, 0, 17, 0]),
};

for (const [name, bytes] of Object.entries(REFUSED)) {
  test(`${name} ends it`, () => {
    for (const clipboard of [true, false]) {
      const filter = afterHandshake(clipboard);
      assert.deepEqual(filter.pass(Buffer.concat([MESSAGES.KeyEvent!, bytes])), []);
      assert.ok(filter.refusal);
      assert.deepEqual(filter.pass(MESSAGES.KeyEvent!), []);
    }
  });
}

for (const [name, bytes] of [
  ['another protocol', 'GET / HTTP/1.1\r\n\r\n'],
  ['a version that nobody has', 'RFB 003.009\n'],
  ['a security type with a password', 'RFB 003.008\n\x02'],
  ['a security type that is encrypted', 'RFB 003.007\n\x13'],
] as const) {
  test(`${name} ends the handshake`, () => {
    const filter = new RfbFilter(true);
    filter.pass(Buffer.from(bytes, 'latin1'));
    assert.ok(filter.refusal);
  });
}

test('in the oldest version the desktop decides on security alone', () => {
  const filter = new RfbFilter(true);
  const stream = Buffer.concat([Buffer.from('RFB 003.003\n\x01', 'latin1'), MESSAGES.KeyEvent!]);
  assert.deepEqual(through(filter, [stream]), stream);
});

test('nobody asks for a desktop of their own', () => {
  const filter = new RfbFilter(true);
  assert.deepEqual(through(filter, [Buffer.from('RFB 003.008\n\x01\x00', 'latin1')]), HANDSHAKE);
});

test('what would change the length of messages, or carry text past the filter, is not asked for', () => {
  const asked = encodings(0xc0a1e5ce, 7, -316, -239);
  for (const cut of [0, 5, 6, 7, 8, 14, 15]) {
    const parts = [asked.subarray(0, cut), asked.subarray(cut)];
    assert.deepEqual(through(afterHandshake(false), parts), encodings(0xc0a1e500, 7, -320, -239));
    assert.deepEqual(through(afterHandshake(true), parts), encodings(0xc0a1e5ce, 7, -320, -239));
  }
});

test('a clipboard that is no longer allowed takes no text from then on', () => {
  const filter = afterHandshake(true);
  const text = MESSAGES.ClientCutText!;
  assert.deepEqual(through(filter, [text.subarray(0, 9)]), text.subarray(0, 9));
  filter.clipboard = false;
  assert.deepEqual(through(filter, [text.subarray(9), text]), text.subarray(9), 'what has begun is ended');
  filter.clipboard = true;
  assert.deepEqual(through(filter, [text]), text);
});
