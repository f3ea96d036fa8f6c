/** Debian's Chromium, with nothing but what a test needs, gone with its profile when the test ends; what it shows of a desktop. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium, type Page } from 'playwright-core';
import type { Owner } from '../support/temporary.ts';

const CHROMIUM = '/usr/bin/chromium';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export interface Browser {
  readonly context: BrowserContext;
  readonly page: Page;
  /** What the page complained of: errors nobody caught, and policies that were broken. */
  readonly complaints: string[];
}

export async function openBrowser(t: Owner, { width = 1280, height = 800 } = {}): Promise<Browser> {
  const profile = mkdtempSync(join(tmpdir(), 'backlot-chromium-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: CHROMIUM,
    headless: true,
    args: FLAGS,
    viewport: { width, height },
  });
  t.after(async () => {
    await context.close();
    // The last of its processes may still write.
    rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  });
  const page = context.pages()[0] ?? (await context.newPage());
  const complaints: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' && /Content Security Policy|Trusted/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  return { context, page, complaints };
}

/** Whether anything on the screen of a stream's page is not black. @throws Error before there is a screen. */
export async function showsPicture(page: Page): Promise<boolean> {
  const script = `(() => {
    const canvas = document.querySelector('#screen canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.some((value, index) => index % 4 !== 3 && value > 96);
  })()`;
  return (await page.evaluate(script)) as boolean;
}
