/**
 * What browsers are told of the page of a stream: that it runs no script but ours, is put into no other page, and says to
 * nobody where it came from. One list, so that no place is without it by mistake.
 */

/** Powers of a browser that a desktop has no use for; it may fill the screen and take all keys while it does. */
const PERMISSIONS = [
  'accelerometer',
  'camera',
  'display-capture',
  'geolocation',
  'gyroscope',
  'hid',
  'magnetometer',
  'microphone',
  'midi',
  'payment',
  'serial',
  'usb',
];

export const COMMON_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

export const FILE_HEADERS: Readonly<Record<string, string>> = {
  ...COMMON_HEADERS,
  'Cache-Control': 'public, max-age=31536000, immutable',
};

/** @param publicUrl the address of this server as browsers know it. */
export function pageHeaders(publicUrl: URL): Readonly<Record<string, string>> {
  // Not every browser takes `'self'` for a websocket.
  const sockets = publicUrl.origin.replace(/^http/, 'ws');
  return {
    ...COMMON_HEADERS,
    'Cache-Control': 'no-cache',
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      "img-src 'self' data: blob:",
      `connect-src 'self' ${sockets}`,
      "frame-ancestors 'none'",
      "base-uri 'none'",
      "form-action 'none'",
      "require-trusted-types-for 'script'",
    ].join('; '),
    'Cross-Origin-Opener-Policy': 'same-origin',
    'X-Frame-Options': 'DENY',
    'Permissions-Policy': [...PERMISSIONS.map((name) => `${name}=()`), 'fullscreen=(self)'].join(', '),
  };
}
