// How many commands may still be sent: a token bucket below the edge's own limit.
//
// Promise: pure. The edge takes `MESSAGES_PER_WINDOW` messages in a minute and
// closes with 4029 at the next; a page that follows many queues stays below that.

import { MESSAGE_WINDOW_MS, MESSAGES_PER_WINDOW } from "./limits.js";

/** Messages that are left to pings and refreshes. */
const RESERVED = 20;
/** Commands at once. */
const BURST = MESSAGES_PER_WINDOW - RESERVED;
/** One more command becomes available each, in milliseconds. */
const REFILL_MS = MESSAGE_WINDOW_MS / BURST;

/** Counts the commands of one connection. */
export class RateLimit {
  #left = BURST;
  #at;

  /** @param {number} nowMs monotonic */
  constructor(nowMs) {
    this.#at = nowMs;
  }

  /**
   * Takes one permit, if there is one.
   *
   * @param {number} nowMs
   * @returns {number} 0 if there was one, otherwise the milliseconds until there is
   */
  acquire(nowMs) {
    this.#left = Math.min(BURST, this.#left + (nowMs - this.#at) / REFILL_MS);
    this.#at = nowMs;
    if (this.#left < 1) return Math.ceil((1 - this.#left) * REFILL_MS);
    this.#left -= 1;
    return 0;
  }
}
