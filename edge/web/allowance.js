// How many commands may still be sent: a token bucket under the edge's own limit.
//
// Promise: pure. The edge takes 100 messages in a minute and closes with 4029 at
// the next; a page that follows many queues stays below that by itself.

/** Commands at once; the rest of the edge's 100 is for pings and refreshes. */
const BURST = 80;
/** One more command each, in milliseconds. */
const REFILL_MS = 60_000 / BURST;

/** Counts commands of one connection. */
export class Allowance {
  #left = BURST;
  #at;

  /** @param {number} nowMs monotonic */
  constructor(nowMs) {
    this.#at = nowMs;
  }

  /**
   * Takes one, if there is one.
   *
   * @param {number} nowMs
   * @returns {number} 0 if it was there, else in how many milliseconds it will be
   */
  take(nowMs) {
    this.#left = Math.min(BURST, this.#left + (nowMs - this.#at) / REFILL_MS);
    this.#at = nowMs;
    if (this.#left < 1) return Math.ceil((1 - this.#left) * REFILL_MS);
    this.#left -= 1;
    return 0;
  }
}
