/**
 * One connection to the desktop: a websocket of which noVNC has the binary part, and the page the text, by which the server
 * tells it of the connection. What the desktop sends is not believed: it is drawn, or put into a field of text, and where
 * noVNC cannot make sense of it the connection ends.
 */
import RFB from './novnc/core/rfb.js';

export const NOT_UNDERSTOOD = 'The desktop sent something that cannot be shown.';
const CLIPBOARD_LENGTH_MAX = 262_144;

/**
 * @param screen the element that the desktop fills
 * @param on connected(), told(message), clipboard(text)
 * @returns the desktop, and how it ended: `{ code, words }`
 */
export function openDesktop(screen, address, on) {
  const socket = new WebSocket(address);
  let isOpen = false;
  let isNotUnderstood = false;
  const ended = new Promise((resolve) => {
    socket.addEventListener('close', ({ code, reason }) => {
      // Where nobody says why, it was noVNC that hung up.
      const ours = isNotUnderstood || (isOpen && (code === 1000 || code === 1005));
      resolve(ours ? { code: 0, words: NOT_UNDERSTOOD } : { code, words: reason });
    });
  });
  // Before noVNC listens: what is text never gets there.
  socket.addEventListener('message', (event) => {
    isOpen = true;
    if (typeof event.data !== 'string') return;
    event.stopImmediatePropagation();
    on.told(JSON.parse(event.data));
  });
  const rfb = new RFB(screen, socket, { shared: true });
  rfb.scaleViewport = true;
  rfb.resizeSession = true;
  rfb.background = 'transparent';
  const fail = () => {
    isNotUnderstood = true;
    socket.close();
  };
  rfb.addEventListener('connect', () => on.connected());
  rfb.addEventListener('credentialsrequired', fail);
  rfb.addEventListener('securityfailure', fail);
  rfb.addEventListener('clipboard', ({ detail }) => on.clipboard(String(detail.text).slice(0, CLIPBOARD_LENGTH_MAX)));
  addEventListener('error', fail);
  ended.then(() => removeEventListener('error', fail));
  return { rfb, ended };
}
