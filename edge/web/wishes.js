// What the program wants from the edge, and what this connection was asked for.
//
// Promise: pure. Each connection is asked for every wish once, in an order that
// the edge can grant (a queue first, then who is in it), at a pace below the
// edge's limit; a wish that is withdrawn before it was asked for never goes out.

import { Allowance } from "./allowance.js";

/** Queues of one session: what the edge allows. */
const MAX_QUEUES = 128;
/** Characters of queues and positions in the first frame; the edge takes 4 KiB. */
const MAX_FIRST_FRAME_BYTES = 3_500;

/** @typedef {{frame: Record<string, unknown>} | {inMs: number} | null} NextWish */

/** The wishes of one client. */
export class Wishes {
  /** Queues to follow; @type {Set<string>} */
  #queues = new Set();
  /** Queues whose presence is wanted; @type {Set<string>} */
  #watched = new Set();
  /** What this connection was asked for; @type {Set<string>} */
  #asked = new Set();
  /** What it has granted; @type {Set<string>} */
  #held = new Set();
  /** Whose presence it was asked for; @type {Set<string>} */
  #watching = new Set();
  #presenceKnown = true;
  #allowance = new Allowance(0);

  /**
   * @param {string} queue
   * @throws {RangeError} at the 129th queue
   */
  follow(queue) {
    add(this.#queues, queue, "follow");
  }

  /** @param {string} queue */
  leave(queue) {
    this.#queues.delete(queue);
  }

  /** @param {string} queue */
  follows(queue) {
    return this.#queues.has(queue);
  }

  /**
   * @param {string} queue
   * @throws {RangeError} at the 129th queue
   */
  watch(queue) {
    add(this.#watched, queue, "watch");
  }

  /** @param {string} queue */
  unwatch(queue) {
    this.#watched.delete(queue);
  }

  /** @param {string} queue */
  watches(queue) {
    return this.#watched.has(queue);
  }

  /** A new connection: nothing was asked for yet. @param {number} nowMs monotonic */
  begin(nowMs) {
    for (const set of [this.#asked, this.#held, this.#watching]) set.clear();
    this.#presenceKnown = true;
    this.#allowance = new Allowance(nowMs);
  }

  /**
   * Queues and positions of the first frame: as many as fit. The others are asked
   * for after `connected`.
   *
   * @param {Record<string, string>} all positions by stream
   */
  first(all) {
    /** @type {Record<string, string>} */
    const positions = {};
    for (const key of ["user", "everyone"]) if (all[key]) positions[key] = all[key];
    const queues = [];
    let bytes = 400;
    for (const queue of this.#queues) {
      const key = `queue:${queue}`;
      bytes += 2 * new TextEncoder().encode(JSON.stringify(queue)).length + (all[key]?.length ?? 0) + 16;
      if (bytes > MAX_FIRST_FRAME_BYTES) break;
      if (all[key]) positions[key] = all[key];
      queues.push(queue);
      this.#asked.add(queue);
    }
    return { positions, queues };
  }

  /** The edge says that the queue is followed. @param {string} queue */
  granted(queue) {
    this.#held.add(queue);
    this.#watching.delete(queue);
  }

  /** The edge says that it is not followed any more. @param {string} queue */
  ended(queue) {
    this.#held.delete(queue);
    this.#watching.delete(queue);
  }

  /** The edge is too old to know presence. */
  withoutPresence() {
    this.#presenceKnown = false;
  }

  /**
   * The next frame that is due, or when it will be.
   *
   * @param {number} nowMs
   * @param {(stream: string) => string | undefined} position
   * @returns {NextWish}
   */
  next(nowMs, position) {
    const frame = this.#due(position);
    if (frame === null) return null;
    const inMs = this.#allowance.take(nowMs);
    return inMs > 0 ? { inMs } : { frame };
  }

  /** It went out. @param {Record<string, any>} frame */
  sent({ type, queue, watch }) {
    if (type === "subscribe") this.#asked.add(queue);
    else if (type === "unsubscribe") {
      this.#asked.delete(queue);
      this.ended(queue);
    } else if (watch) this.#watching.add(queue);
    else this.#watching.delete(queue);
  }

  /** @param {(stream: string) => string | undefined} positionOf */
  #due(positionOf) {
    const gone = first(this.#asked, (queue) => !this.#queues.has(queue));
    if (gone !== undefined) return { type: "unsubscribe", queue: gone };
    const wanted = first(this.#queues, (queue) => !this.#asked.has(queue));
    if (wanted !== undefined) {
      const position = positionOf(`queue:${wanted}`);
      return { type: "subscribe", queue: wanted, ...(position && { position }) };
    }
    if (!this.#presenceKnown) return null;
    const unwatched = first(this.#watching, (queue) => !this.#watched.has(queue));
    if (unwatched !== undefined) return { type: "presence", queue: unwatched, watch: false };
    const watched = first(this.#watched, (queue) => this.#held.has(queue) && !this.#watching.has(queue));
    return watched === undefined ? null : { type: "presence", queue: watched, watch: true };
  }
}

/** @param {Set<string>} set @param {string} queue @param {string} verb */
function add(set, queue, verb) {
  if (set.size >= MAX_QUEUES && !set.has(queue)) {
    throw new RangeError(`cannot ${verb} \`${queue}\`: there are ${MAX_QUEUES} queues already, give up one`);
  }
  set.add(queue);
}

/** @param {Set<string>} set @param {(queue: string) => boolean} test */
function first(set, test) {
  for (const queue of set) if (test(queue)) return queue;
  return undefined;
}
