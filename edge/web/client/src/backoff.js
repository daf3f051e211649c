// The wait before a reconnect: full jitter under a ceiling that doubles.
//
// Promise: pure. A wait is never shorter than what the server requested, nor longer
// than the larger of that and the ceiling; randomness is an argument.
// `tests/vectors/backoff.json` pins it for every client.

/** The ceiling of the first wait, in milliseconds. */
export const BASE_MS = 1_000;
/** No wait is longer than this unless the server asks for more, in milliseconds. */
export const MAX_MS = 30_000;
/** A server's hint beyond this is cut to it, in milliseconds: a page must not sleep for days. */
export const MAX_HINT_MS = 600_000;

/** Counts failures in a row and turns them into waits. */
export class Backoff {
  #failures = 0;

  /**
   * The next wait in milliseconds; counts one failure.
   *
   * @param {number} random from 0 to 1
   * @param {number} [retryAfterMs] what `bye` requested, if it did
   * @returns {number}
   */
  next(random, retryAfterMs = 0) {
    const ceiling = Math.min(MAX_MS, BASE_MS * 2 ** Math.min(this.#failures, 16));
    this.#failures += 1;
    const hint = Number.isFinite(retryAfterMs) ? Math.min(MAX_HINT_MS, retryAfterMs) : 0;
    return Math.max(Math.floor(ceiling * random), hint, 0);
  }

  /** The connection works: the next failure is the first one again. */
  succeeded() {
    this.#failures = 0;
  }
}
