/**
 * The page of a stream: opens the desktop, shows how it is, and says in words why it is not there. Everything can be done
 * with a keyboard alone: the desktop takes every key while it has the focus, but for Ctrl, Alt and Shift together, which
 * lead back to the bar. Words from the server and the desktop are text, and never become part of the page as anything else.
 */
import { askWhetherGood, isFinal, pauseBefore, Refused, redeem, socketAddress, waitOrBeCalled } from './connection.js';
import { NOT_UNDERSTOOD, openDesktop } from './desktop.js';
import { ticket } from './ticket.js';

const byId = (id) => document.getElementById(id);
const screen = byId('screen');
const noticeButton = byId('notice-button');
const clipboardButton = byId('clipboard-button');
const clipboardText = byId('clipboard-text');
const clipboardPanel = byId('clipboard');
const fullScreenButton = byId('full-screen');

/** A connection that lasted so long was one: what comes after it is a new story. */
const LASTING_MS = 5_000;
/** A desktop that cannot be shown so often in a row is left alone. */
const NOT_UNDERSTOOD_MAX = 4;
/** Up to here a hand feels no delay; up to there it can work with it. In ms. */
const GOOD_MS = 50;
const FAIR_MS = 150;

/** The noVNC client while there is a desktop. */
let rfb;

// --- What is shown ---

/** Text that is read out when it changes, and only then. */
function say(id, words) {
  if (byId(id).textContent !== words) byId(id).textContent = words;
}

function show(state, words) {
  document.body.dataset.state = state;
  say('state', words);
  const isConnected = state === 'connected';
  byId('send-keys').disabled = !isConnected;
  byId('hint').hidden = !isConnected;
  if (!isConnected) byId('quality').hidden = true;
}

function notice(title, text, button) {
  byId('notice').hidden = false;
  say('notice-title', title);
  say('notice-text', text);
  noticeButton.hidden = button === undefined;
  say('notice-button', button ?? '');
}

function showQuality(roundTripMs) {
  const word = roundTripMs <= GOOD_MS ? 'good' : roundTripMs <= FAIR_MS ? 'fair' : 'slow';
  byId('quality').textContent = `Connection ${word}, ${roundTripMs} ms`;
  byId('quality').hidden = false;
}

function allowClipboard(isAllowed) {
  clipboardButton.hidden = !isAllowed;
  if (isAllowed) return;
  openClipboard(false);
  clipboardText.value = '';
}

// --- Coming to the desktop, and back ---

const told = ({ clipboard, roundTripMs }) => {
  if (clipboard !== undefined) allowClipboard(clipboard);
  if (roundTripMs !== undefined) showQuality(roundTripMs);
};

/** Shows the desktop for as long as it lasts. @returns how it ended, whether it was there at all, and how long */
async function showDesktop() {
  const beganAt = performance.now();
  let wasShown = false;
  const desktop = openDesktop(screen, socketAddress, {
    told,
    connected: () => {
      wasShown = true;
      byId('notice').hidden = true;
      show('connected', 'Connected');
      const canvas = screen.querySelector('canvas');
      canvas.tabIndex = 0;
      canvas.setAttribute('role', 'application');
      canvas.setAttribute('aria-label', 'The desktop. Control, Alt and Shift together lead back to the bar.');
      focusDesktop();
    },
    clipboard: (text) => {
      // What the server does not allow is not shown either, whatever the desktop sends.
      if (!clipboardButton.hidden) clipboardText.value = text;
    },
  });
  rfb = desktop.rfb;
  const ending = await desktop.ended;
  rfb = undefined;
  return { ...ending, wasShown, lastedMs: performance.now() - beganAt };
}

/** The right to the desktop: by the ticket, or by the cookie that it became. @throws Refused */
async function comeIn(withTicket) {
  if (!withTicket) return askWhetherGood();
  try {
    await redeem(ticket);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    // This browser may be the one that has opened it before.
    await askWhetherGood().catch(() => {
      throw error;
    });
  }
}

async function run() {
  let withTicket = ticket !== '';
  let notUnderstood = 0;
  let wasShown = false;
  for (let attempt = 0; ; attempt += 1) {
    let words = 'The server does not answer.';
    try {
      await comeIn(withTicket);
      withTicket = false;
      const ending = await showDesktop();
      if (isFinal(ending.code)) throw new Refused(ending.words);
      wasShown ||= ending.wasShown;
      if (ending.lastedMs > LASTING_MS) attempt = 0;
      notUnderstood = ending.words === NOT_UNDERSTOOD ? notUnderstood + 1 : 0;
      if (notUnderstood >= NOT_UNDERSTOOD_MAX) throw new Refused(NOT_UNDERSTOOD);
      words = ending.words || 'The network is gone.';
    } catch (error) {
      if (error instanceof Refused) return endWith(error.message);
    }
    show('waiting', wasShown ? 'Connecting again…' : 'Connecting…');
    notice(
      wasShown ? 'The connection broke' : 'The desktop is not there yet',
      `${words} This page tries again by itself.`,
      'Try now',
    );
    await waitOrBeCalled(pauseBefore(attempt), noticeButton);
  }
}

function endWith(words) {
  show('ended', 'Ended');
  allowClipboard(false);
  notice('The desktop is not shown any more', words);
  byId('notice-title').focus();
}

// --- Keys and focus ---

function focusDesktop() {
  rfb?.focus({ preventScroll: true });
}

/** Keys that are held down while the focus goes away must not stay down in the desktop. */
function leaveDesktop() {
  // noVNC lets go of all keys when the window loses the focus, and knows no other way.
  dispatchEvent(new Event('blur'));
  rfb?.blur();
  [...document.querySelectorAll('#bar button')].find((button) => !button.hidden && !button.disabled)?.focus();
}

addEventListener(
  'keydown',
  (event) => {
    if (!(event.ctrlKey && event.altKey && event.shiftKey) || !screen.contains(document.activeElement)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    leaveDesktop();
  },
  { capture: true },
);

byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  focusDesktop();
});

byId('bar').addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') focusDesktop();
});

byId('send-keys').addEventListener('click', () => {
  rfb?.sendCtrlAltDel();
  focusDesktop();
});

// --- Clipboard ---

function openClipboard(isOpen) {
  clipboardPanel.hidden = !isOpen;
  clipboardButton.setAttribute('aria-expanded', String(isOpen));
}

function closeClipboard() {
  openClipboard(false);
  clipboardButton.focus();
}

clipboardButton.addEventListener('click', () => {
  openClipboard(clipboardPanel.hidden);
  if (!clipboardPanel.hidden) clipboardText.focus();
});
byId('clipboard-close').addEventListener('click', closeClipboard);
clipboardPanel.addEventListener('keydown', ({ key }) => {
  if (key === 'Escape') closeClipboard();
});
byId('clipboard-send').addEventListener('click', () => {
  rfb?.clipboardPasteFrom(clipboardText.value);
  openClipboard(false);
  focusDesktop();
});

// --- Full screen ---

fullScreenButton.addEventListener('click', async () => {
  if (document.fullscreenElement) {
    await document.exitFullscreen();
    return;
  }
  await document.documentElement.requestFullscreen();
  // Esc, Alt+Tab and the like then go to the desktop too, where the browser can; Esc held down leaves.
  await navigator.keyboard?.lock?.().catch(() => undefined);
  focusDesktop();
});
document.addEventListener('fullscreenchange', () => {
  fullScreenButton.setAttribute('aria-pressed', String(document.fullscreenElement !== null));
});
fullScreenButton.hidden = !document.fullscreenEnabled;

show('opening', 'Opening…');
run();
