/**
 * The page of a stream in a real browser, from an address to a picture, keys and the clipboard; what it says when there is
 * no desktop, or none any more; and that it comes back by itself.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import type { Page } from 'playwright-core';
import { colourOf, FakeDesktop, GROUND, HEIGHT, SQUARE, WIDTH } from '../support/desktop.ts';
import { startService } from '../support/service.ts';
import { type Streams, startStreams } from '../support/streams.ts';
import { temporaryDirectory } from '../support/temporary.ts';
import { until } from '../support/until.ts';
import { openBrowser } from './browser.ts';

const state = (page: Page) => page.locator('#state').textContent();
const notice = async (page: Page) => `${await page.locator('#notice').innerText()}`;

async function openDesktop(page: Page, { makeSession, makeStream }: Streams) {
  const sessionId = await makeSession();
  const stream = await makeStream(sessionId);
  await page.goto(stream.url);
  await until('the desktop is shown', async () => (await state(page)) === 'Connected');
  return { sessionId, ...stream };
}

/** Colour of the desktop's picture, as it is in the browser, in the middle of this square. */
function colourAt(page: Page, square: number): Promise<number[]> {
  const columns = WIDTH / SQUARE;
  const x = (square % columns) * SQUARE + SQUARE / 2;
  const y = Math.floor(square / columns) * SQUARE + SQUARE / 2;
  return page.locator('#screen canvas').evaluate(
    (canvas, [left, top]) => {
      const { data } = (
        canvas as unknown as {
          getContext(kind: string): { getImageData(...at: number[]): { data: Uint8ClampedArray } };
        }
      )
        .getContext('2d')
        .getImageData(left!, top!, 1, 1);
      return [...data.slice(0, 3)];
    },
    [x, y],
  );
}

const XK_A = 0x61;
/** Where other layouts have it, an English one has the semicolon. */
const XK_O_DIAERESIS = 0xf6;
const XK_CONTROL = 0xffe3;
const XK_ALT = 0xffe9;
const XK_DELETE = 0xffff;

describe('the page of a stream', { concurrency: false }, () => {
  it('shows the desktop, takes keys, and hides the ticket', async (t) => {
    const streams = await startStreams(t);
    const { page, complaints } = await openBrowser(t);
    const requests: string[] = [];
    page.on('request', (request) => requests.push(`${request.url()} ${request.headers().referer ?? ''}`));
    const { ticket, streamId } = await openDesktop(page, streams);
    assert.equal(page.url(), `${streams.service.url}/streams/${streamId}`, 'the ticket is gone from the address');
    assert.ok(!requests.some((request) => request.includes(ticket)));
    assert.equal(await page.evaluate('document.cookie'), '', 'no script sees the cookie');
    await until('the picture is there', async () => `${await colourAt(page, 3)}` === `${GROUND}`);

    // The desktop has the focus from the beginning.
    await page.keyboard.press('a');
    await until('the key has come', () => streams.desktop.keys.includes(XK_A));
    await until('the picture shows it', async () => `${await colourAt(page, 0)}` === `${colourOf(XK_A)}`);

    await page.evaluate(`for (const type of ['keydown', 'keyup']) {
      const event = new KeyboardEvent(type, { key: 'ö', code: 'Semicolon', bubbles: true });
      document.querySelector('#screen canvas').dispatchEvent(event);
    }`);
    await until('the character of another layout has come', () => streams.desktop.keys.includes(XK_O_DIAERESIS));

    await page.getByRole('button', { name: 'Ctrl+Alt+Del' }).click();
    await until('they have come', () => streams.desktop.keys.length >= 5);
    assert.deepEqual(streams.desktop.keys.slice(2), [XK_CONTROL, XK_ALT, XK_DELETE]);

    // It fills the window as far as its shape lets it.
    const box = (await page.locator('#screen canvas').boundingBox())!;
    assert.ok(Math.abs(box.width / box.height - WIDTH / HEIGHT) < 0.02);
    assert.ok(box.width > 1_000 || box.height > 600, JSON.stringify(box));
    await until('the connection is described', async () =>
      /Connection (good|fair|slow), \d+ ms/.test((await page.locator('#quality').textContent()) ?? ''),
    );
    assert.deepEqual(complaints, []);
  });

  it('works with a keyboard alone', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    const focused = () =>
      page.evaluate('document.activeElement.id || document.activeElement.tagName') as Promise<string>;
    await until('the desktop has the focus', async () => (await focused()) === 'CANVAS');
    await page.keyboard.press('Tab');
    await until('the desktop takes every key', () => streams.desktop.keys.includes(0xff09));
    assert.equal(await focused(), 'CANVAS');

    for (const key of ['Control', 'Alt', 'Shift']) await page.keyboard.down(key);
    for (const key of ['Shift', 'Alt', 'Control']) await page.keyboard.up(key);
    assert.equal(await focused(), 'send-keys', 'the bar has it');
    await page.keyboard.press('Tab');
    assert.equal(await focused(), 'clipboard-button');
    await page.keyboard.press('Enter');
    assert.equal(await focused(), 'clipboard-text');
    await page.keyboard.type('some text');
    await page.keyboard.press('Escape');
    assert.equal(await focused(), 'clipboard-button');
    await page.keyboard.press('Escape');
    assert.equal(await focused(), 'CANVAS');

    await page.reload();
    await until('it is back', async () => (await state(page)) === 'Connected');
    const skip = page.getByRole('link', { name: 'Skip to the desktop' });
    await skip.focus();
    await page.keyboard.press('Enter');
    assert.equal(await focused(), 'CANVAS');
    for (const name of ['Ctrl+Alt+Del', 'Clipboard', 'Full screen']) await page.getByRole('button', { name }).waitFor();
    await page.getByRole('application', { name: /desktop/i }).waitFor();
    await page.getByRole('status').waitFor();
  });

  it('passes text in both directions where the launch profile allows it', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    streams.desktop.cut('<b>from</b> the desktop');
    await page.getByRole('button', { name: 'Clipboard' }).click();
    const text = page.getByLabel("Text of the desktop's clipboard");
    await until('it has come', async () => (await text.inputValue()) === '<b>from</b> the desktop');
    await text.fill('to the desktop');
    await page.getByRole('button', { name: 'Send to the desktop' }).click();
    await until('it has come', () => streams.desktop.cutTexts.includes('to the desktop'));
  });

  it('has no clipboard where the launch profile allows none', async (t) => {
    const streams = await startStreams(t, { configuration: { clipboardMode: 'DISABLED' } });
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    assert.equal(await page.getByRole('button', { name: 'Clipboard' }).count(), 0);
  });

  it('fills the screen, and leaves it again', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    const button = page.getByRole('button', { name: 'Full screen' });
    await button.click();
    await until('it fills the screen', () => page.evaluate('document.fullscreenElement !== null'));
    await until('the button says so', async () => (await button.getAttribute('aria-pressed')) === 'true');
    await page.keyboard.press('a');
    await until('the desktop has the focus', () => streams.desktop.keys.includes(XK_A));
    for (const key of ['Control', 'Alt', 'Shift']) await page.keyboard.down(key);
    for (const key of ['Shift', 'Alt', 'Control']) await page.keyboard.up(key);
    await button.press('Enter');
    await until('it is left', () => page.evaluate('document.fullscreenElement === null'));
    await until('the button says so', async () => (await button.getAttribute('aria-pressed')) === 'false');
  });

  it('says why an address does not open', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    const { url } = await streams.makeStream(await streams.makeSession());
    await page.goto(`${streams.service.url}/streams/${'A'.repeat(22)}#${'A'.repeat(43)}`);
    await until('it is said', async () => /not good, or not any more/.test(await notice(page)));
    await page.goto(`${streams.service.url}/streams/${'A'.repeat(22)}`);
    await until('it is said', async () => /has not opened the desktop/.test(await notice(page)));
    await page.goto(url);
    await until('it is shown', async () => (await state(page)) === 'Connected');
    const stranger = await openBrowser(t);
    await stranger.page.goto(url);
    await until('it is said', async () => /opened already/.test(await notice(stranger.page)));
    assert.equal(await state(page), 'Connected', 'and the one in place stays');
  });

  it('says that it was opened elsewhere, and does not come back', async (t) => {
    const streams = await startStreams(t);
    const [first, second] = [await openBrowser(t), await openBrowser(t)];
    const { sessionId } = await openDesktop(first.page, streams);
    await second.page.goto((await streams.makeStream(sessionId)).url);
    await until('it is said', async () => /opened in another window/.test(await notice(first.page)));
    assert.equal(await state(first.page), 'Ended');
    await until('the other has it', async () => (await state(second.page)) === 'Connected');
    const { opened } = streams.desktop;
    await second.page.keyboard.press('a');
    await until('the key has come', () => streams.desktop.keys.includes(XK_A));
    assert.equal(streams.desktop.opened, opened);
  });

  it('says that the session was stopped', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    const { sessionId } = await openDesktop(page, streams);
    await streams.stop(sessionId);
    await until('it is said', async () => /stopped or deleted/.test(await notice(page)));
    assert.equal(await state(page), 'Ended');
  });

  it('comes back by itself when the desktop hung up, and when the page was loaded again', async (t) => {
    const streams = await startStreams(t);
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    streams.desktop.drop();
    await until('it is connected anew', () => streams.desktop.opened >= 2);
    await until('it is shown', async () => (await state(page)) === 'Connected');
    await page.reload();
    await until('it is shown', async () => (await state(page)) === 'Connected');
    assert.equal(await page.locator('#notice').isVisible(), false);
  });

  it('comes back by itself when the server was restarted', async (t) => {
    const desktop = await FakeDesktop.start(t);
    const dataDir = temporaryDirectory(t);
    const streams = await startStreams({ after: () => undefined }, { desktop, settings: { dataDir } });
    const { page } = await openBrowser(t);
    await openDesktop(page, streams);
    await streams.service.service.close();
    await until('it is said', async () => /tries again by itself/.test(await notice(page)));
    assert.equal(await state(page), 'Connecting again…');
    await startService(t, {
      settings: { dataDir, port: String(streams.service.port) },
      overrides: { compute: desktop.compute },
    });
    await until('it is shown', async () => (await state(page)) === 'Connected');
    assert.equal(await page.locator('#notice').isVisible(), false);
  });

  for (const [what, bytes] of [
    ['garbage', randomBytes(10_000)],
    ['a screen larger than any', Buffer.from('RFB 003.008\n\x01\x01\x00\x00\x00\x00\xff\xff\xff\xff', 'latin1')],
  ] as const) {
    it(`says so when the desktop sends ${what}`, async (t) => {
      const desktop = await FakeDesktop.start(t);
      desktop.hostile = (connection) => {
        connection.write(bytes);
        connection.resume();
        setTimeout(() => connection.destroy(), 5_000).unref();
      };
      const streams = await startStreams(t, { desktop });
      const { page } = await openBrowser(t);
      const { url } = await streams.makeStream(await streams.makeSession());
      await page.goto(url);
      await until('it is said', async () => /cannot be shown|does not answer/.test(await notice(page)));
      await page.getByRole('button', { name: 'Try now' }).waitFor();
    });
  }
});
