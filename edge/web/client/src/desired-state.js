// What the program wants from the edge, and what this connection has requested.
//
// Promise: pure. Each connection requests everything that is wanted once, in an
// order that the edge can grant (a queue first, then its presence), below the
// edge's rate limit. What is withdrawn before it was requested never goes out. What
// the edge refused or took back is requested again once the rights may have changed:
// after a refresh, on a new connection, or when the program asks for it.

import { MAX_FIRST_FRAME_BYTES, MAX_QUEUES, utf8Length } from "./limits.js";
import { RateLimit } from "./rate-limit.js";

/** Bytes of the first frame that are left to everything but queues and positions. */
const FIRST_FRAME_RESERVED_BYTES = 1_000;

/** @typedef {{frame: Record<string, unknown>} | {inMs: number} | null} NextRequest */

/** Desired and active subscriptions of one client. */
export class DesiredState {
  /** Queues to follow, each with the number of the follow; @type {Map<string, number>} */
  #queues = new Map();
  /** Queues with desired presence; @type {Set<string>} */
  #watched = new Set();
  #follows = 0;
  #presenceSupported = true;
  #rateLimit = new RateLimit(0);
  // What follows is of this connection.
  /** A `subscribe` went out and was not refused; @type {Set<string>} */
  #requested = new Set();
  /** The edge confirmed it; @type {Set<string>} */
  #active = new Set();
  /** Refused or taken back: not requested again for now; @type {Set<string>} */
  #refused = new Set();
  /** `unsubscribe` in flight, how many; @type {Map<string, number>} */
  #leaving = new Map();
  /** Presence that was requested; @type {Set<string>} */
  #watching = new Set();

  /**
   * @param {string} queue
   * @returns {boolean} false if it was followed already
   * @throws {RangeError} at the 129th queue
   */
  follow(queue) {
    this.#refused.delete(queue);
    if (this.#queues.has(queue)) return false;
    checkRoom(this.#queues, queue, "follow");
    this.#follows += 1;
    this.#queues.set(queue, this.#follows);
    return true;
  }

  /** @param {string} queue */
  unfollow(queue) {
    this.#queues.delete(queue);
  }

  /**
   * Names one follow of a queue: leaving it and following it again gives another
   * number. `undefined` if it is not followed.
   *
   * @param {string} queue
   * @returns {number | undefined}
   */
  followOf(queue) {
    return this.#queues.get(queue);
  }

  /**
   * @param {string} queue
   * @throws {RangeError} at the 129th queue
   */
  watch(queue) {
    checkRoom(this.#watched, queue, "watch");
    this.#watched.add(queue);
  }

  /** @param {string} queue */
  unwatch(queue) {
    this.#watched.delete(queue);
  }

  /** @param {string} queue */
  watches(queue) {
    return this.#watched.has(queue);
  }

  /** A new connection: nothing was requested on it yet. @param {number} nowMs monotonic */
  begin(nowMs) {
    for (const set of [this.#requested, this.#active, this.#refused, this.#leaving, this.#watching]) set.clear();
    this.#presenceSupported = true;
    this.#rateLimit = new RateLimit(nowMs);
  }

  /**
   * Queues and positions of the first frame: as many as fit. The others are
   * requested after `connected`.
   *
   * @param {Record<string, string>} all positions by stream
   */
  firstRequest(all) {
    /** @type {Record<string, string>} */
    const positions = {};
    for (const key of ["user", "everyone"]) if (all[key]) positions[key] = all[key];
    const queues = [];
    let left = MAX_FIRST_FRAME_BYTES - FIRST_FRAME_RESERVED_BYTES;
    for (const queue of this.#queues.keys()) {
      const key = `queue:${queue}`;
      left -= 2 * utf8Length(JSON.stringify(queue)) + (all[key]?.length ?? 0) + 16;
      if (left < 0) break;
      if (all[key]) positions[key] = all[key];
      queues.push(queue);
      this.#requested.add(queue);
    }
    return { positions, queues };
  }

  /** The edge confirmed that the queue is followed. @param {string} queue */
  activated(queue) {
    this.#active.add(queue);
    this.#refused.delete(queue);
    this.#watching.delete(queue);
    if (this.#queues.has(queue)) this.#requested.add(queue);
  }

  /** The edge said `unsubscribed`: as requested, or because a right is gone. @param {string} queue */
  deactivated(queue) {
    this.#active.delete(queue);
    this.#watching.delete(queue);
    const leaving = this.#leaving.get(queue) ?? 0;
    if (leaving > 1) this.#leaving.set(queue, leaving - 1);
    else if (leaving === 1) this.#leaving.delete(queue);
    else this.refused(queue);
  }

  /** The edge refused to let the queue be followed. @param {string} queue */
  refused(queue) {
    if (this.#active.has(queue)) return;
    this.#requested.delete(queue);
    if (this.#queues.has(queue)) this.#refused.add(queue);
  }

  /** The edge accepted another token: what it did not grant may be granted now. */
  rightsChanged() {
    this.#refused.clear();
    // The first frame's queues are refused without being named.
    for (const queue of this.#requested) if (!this.#active.has(queue)) this.#requested.delete(queue);
  }

  /** The edge is too old to know presence. */
  withoutPresence() {
    this.#presenceSupported = false;
  }

  /**
   * The next frame to send, or when to ask again; `null` if nothing is to be sent.
   *
   * @param {number} nowMs
   * @param {(stream: string) => string | undefined} position
   * @returns {NextRequest}
   */
  next(nowMs, position) {
    const frame = this.#nextFrame(position);
    if (frame === null) return null;
    const inMs = this.#rateLimit.acquire(nowMs);
    return inMs > 0 ? { inMs } : { frame };
  }

  /** A frame of `next` went out. @param {Record<string, any>} frame */
  sent({ type, queue, watch }) {
    if (type === "subscribe") this.#requested.add(queue);
    else if (type === "unsubscribe") {
      for (const set of [this.#requested, this.#active, this.#watching]) set.delete(queue);
      this.#leaving.set(queue, (this.#leaving.get(queue) ?? 0) + 1);
    } else if (watch) this.#watching.add(queue);
    else this.#watching.delete(queue);
  }

  /** @param {(stream: string) => string | undefined} positionOf */
  #nextFrame(positionOf) {
    const unwanted = find(this.#requested, (queue) => !this.#queues.has(queue));
    if (unwanted !== undefined) return { type: "unsubscribe", queue: unwanted };
    const wanted = find(this.#queues.keys(), (queue) => !this.#requested.has(queue) && !this.#refused.has(queue));
    if (wanted !== undefined) {
      const position = positionOf(`queue:${wanted}`);
      return { type: "subscribe", queue: wanted, ...(position && { position }) };
    }
    if (!this.#presenceSupported) return null;
    const unwatched = find(this.#watching, (queue) => !this.#watched.has(queue));
    if (unwatched !== undefined) return { type: "presence", queue: unwatched, watch: false };
    const watched = find(this.#watched, (queue) => this.#active.has(queue) && !this.#watching.has(queue));
    return watched === undefined ? null : { type: "presence", queue: watched, watch: true };
  }
}

/** @param {{size: number, has: (queue: string) => boolean}} known @param {string} queue @param {string} verb */
function checkRoom(known, queue, verb) {
  if (known.size >= MAX_QUEUES && !known.has(queue)) {
    throw new RangeError(`cannot ${verb} queue \`${queue}\`: the limit is ${MAX_QUEUES} queues, leave one first`);
  }
}

/** @param {Iterable<string>} queues @param {(queue: string) => boolean} test */
function find(queues, test) {
  for (const queue of queues) if (test(queue)) return queue;
  return undefined;
}
