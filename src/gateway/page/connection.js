/**
 * How the page comes to its desktop, and comes back: redeems the ticket, asks whether the cookie is still good, and waits
 * longer each time that neither server nor desktop is there. What the server refuses is final, and it says why.
 */

/** The server's answer is no, and will stay so. */
export class Refused extends Error {}

const place = location.pathname.replace(/\/$/, '');

export const socketAddress = `${location.origin.replace(/^http/, 'ws')}${place}/socket`;

/** @throws Refused, or another error where the server was not reached */
async function call(path, options) {
  const answer = await fetch(`${place}${path}`, { ...options, cache: 'no-store', signal: AbortSignal.timeout(10_000) });
  if (answer.ok) return answer.json();
  const { message } = await answer.json().catch(() => ({}));
  if (answer.status >= 500) throw new Error(message);
  throw new Refused(message ?? `The server answered ${answer.status}.`);
}

export function redeem(ticket) {
  const body = JSON.stringify({ ticket });
  return call('/ticket', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
}

export function askWhetherGood() {
  return call('/viewer');
}

/** Codes with which the server closes for good; see endings.ts. */
export const isFinal = (code) => (code >= 4000 && code < 4100) || code === 1003 || code === 1008;

const PAUSE_MS = 500;
const PAUSE_MS_MAX = 10_000;

/** Twice as long each time; a part of it is left to chance, so that the windows of a studio do not all come at once. */
export function pauseBefore(attempt) {
  const pauseMs = Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** attempt);
  return pauseMs * (0.75 + Math.random() / 4);
}

/** Resolves after the pause, or sooner: when the network is back, the window is looked at again, or the button pressed. */
export function waitOrBeCalled(pauseMs, button) {
  return new Promise((resolve) => {
    const done = new AbortController();
    const end = () => {
      done.abort();
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(end, pauseMs);
    const { signal } = done;
    addEventListener('online', end, { signal });
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && end(), { signal });
    button.addEventListener('click', end, { signal });
  });
}
