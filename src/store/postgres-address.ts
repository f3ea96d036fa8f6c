/**
 * The address of a PostgreSQL database as the driver shall read it. Whoever asks for TLS gets it with the server's
 * certificate and name checked, whichever of libpq's words was used: the weaker ones encrypt a conversation with anybody.
 * Only `no-verify`, which says what it does, does less, and `uselibpqcompat=true`, which asks for libpq's own meaning.
 */

const WEAKER_MODES = ['prefer', 'require', 'verify-ca'];

export function withStrictTls(url: string): string {
  const address = new URL(url);
  const { searchParams } = address;
  if (searchParams.get('uselibpqcompat') === 'true' || !WEAKER_MODES.includes(searchParams.get('sslmode') ?? '')) {
    return url;
  }
  // The rest stays letter for letter, as the driver has rules of its own for hosts and passwords.
  return url.replace(/([?&]sslmode=)[^&#]*/g, '$1verify-full');
}
