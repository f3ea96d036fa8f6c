/**
 * Names the turns of the event loop in which requests arrive, so that what is costly and the same for all requests of one
 * turn is done once for them: looking whether another process has written to the database.
 *
 * One look is as good as one for each. Node reads the connections that had something to read when the turn began, so
 * every request of the turn was begun before the look, which therefore sees every change that its sender knew of when it
 * began to send. A change that is made in the middle of a request may be seen by it or not. Outside such a turn (timers, ends of writes) there is no name, and whoever asks must look for itself.
 */

/** libuv takes about so many connections at a time; with more, it looks for further ones within the same turn. */
const REQUESTS_PER_TURN_MAX = 1_000;

export class Arrivals {
  #turn = 0;
  #requests = 0;
  #isOpen = false;

  /** The turn we are in; undefined outside of one. No turn has the name of another. */
  readonly turn = (): number | undefined => (this.#isOpen ? this.#turn : undefined);

  /** Told of each request, synchronously, when it arrives. */
  readonly arrived = (): void => {
    this.#requests += 1;
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#begin();
      // Runs when everything that had arrived has been read, and before anything else is.
      setImmediate(this.#end);
    } else if (this.#requests > REQUESTS_PER_TURN_MAX) {
      this.#begin();
    }
  };

  #begin(): void {
    this.#turn += 1;
    this.#requests = 1;
  }

  readonly #end = (): void => {
    this.#isOpen = false;
  };
}
