/**
 * Takes the ticket out of the address before anything else happens, so that it stays in no history and on no screen. It
 * imports nothing, as it would have to wait for that.
 */
const TICKET = /^#[\w-]{43}$/;

/** Empty where the address had none: the page was loaded again, and has its cookie. */
export const ticket = TICKET.test(location.hash) ? location.hash.slice(1) : '';

history.replaceState(null, '', location.pathname);

// A new address for the same stream, put into this window, changes nothing but the fragment.
addEventListener('hashchange', () => {
  if (TICKET.test(location.hash)) location.reload();
});
