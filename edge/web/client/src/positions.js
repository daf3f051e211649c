// The client's position in each stream, and what it says about the next event.
//
// Promise: pure. A position moves only by `commit` (after the handlers ran), by what
// the edge states (`connected`, `subscribed`) and by a `gap`: a page that dies in
// between sees an event again, never a hole. A position that finds no room is
// reported, never dropped in silence.

import { MAX_QUEUES } from "./limits.js";
import { savedRows } from "./saved-state.js";

/** @typedef {"deliver" | "duplicate" | "hole"} Verdict */

/**
 * @typedef {object} StreamPosition
 * @property {string} position opaque, sent back as it came
 * @property {number | null} offset null until a frame has named it
 */

/**
 * The fields of a frame that say which stream it belongs to, and where in it.
 *
 * @typedef {object} Placement
 * @property {string} [stream] `user`, `everyone` or `queue`
 * @property {string} [queue]
 * @property {number} [offset]
 * @property {string} [position]
 * @property {number} [to]
 */

/** Streams of one client: its queues, the user's and everyone's. */
export const MAX_STREAMS = MAX_QUEUES + 2;
/** Characters of a position. A packed one has 27; newer servers may need more. */
const MAX_POSITION_CHARS = 256;

/**
 * The key of a frame's stream: `user`, `everyone` or `queue:<id>`.
 *
 * @param {Placement} frame
 * @returns {string}
 */
export function streamKey(frame) {
  return frame.stream === "queue" ? `queue:${frame.queue ?? ""}` : String(frame.stream);
}

/** @param {unknown} position @returns {position is string} */
function isPosition(position) {
  return typeof position === "string" && position.length > 0 && position.length <= MAX_POSITION_CHARS;
}

/** @param {unknown} offset @returns {offset is number} */
function isOffset(offset) {
  return Number.isSafeInteger(offset) && Number(offset) >= 0;
}

/** The positions of one client, by stream. */
export class Positions {
  /** @type {Map<string, StreamPosition>} */
  #streams = new Map();
  /** Of an earlier page, until `resume` claims them; @type {Map<string, StreamPosition>} */
  #saved = new Map();

  /**
   * What the next event is. Changes nothing.
   *
   * @param {Placement} event
   * @returns {Verdict}
   */
  check(event) {
    if (event.offset === undefined && event.position === undefined) return "deliver";
    if (!isOffset(event.offset) || !isPosition(event.position)) return "hole";
    const last = this.#streams.get(streamKey(event))?.offset ?? null;
    if (last === null) return "deliver";
    if (event.offset <= last) return "duplicate";
    return event.offset === last + 1 ? "deliver" : "hole";
  }

  /**
   * The event was delivered: go on from it. Ephemeral events move nothing.
   *
   * @param {Placement} event
   * @returns {boolean} false if there is no room for its stream
   */
  commit(event) {
    if (!isOffset(event.offset) || !isPosition(event.position)) return true;
    return this.#set(streamKey(event), { position: event.position, offset: event.offset });
  }

  /**
   * The edge states a stream's position. An offset that is known already stays if
   * it belongs to that very position.
   *
   * @param {string} key
   * @param {unknown} position
   * @returns {boolean} false if there is no room for the stream
   */
  stated(key, position) {
    if (!isPosition(position)) return true;
    const known = this.#streams.get(key);
    return this.#set(key, { position, offset: known?.position === position ? known.offset : null });
  }

  /**
   * Events are missing for good: go on after them.
   *
   * @param {Placement} gap
   * @returns {boolean} false if there is no room for its stream
   */
  gap(gap) {
    if (!isPosition(gap.position)) return true;
    return this.#set(streamKey(gap), { position: gap.position, offset: isOffset(gap.to) ? gap.to : null });
  }

  /** The stream is not followed any more. @param {string} key */
  forget(key) {
    this.#streams.delete(key);
    this.#saved.delete(key);
  }

  /** @param {string} key @returns {string | undefined} */
  position(key) {
    return this.#streams.get(key)?.position;
  }

  /** @returns {Record<string, string>} what `connect` sends */
  toSend() {
    return Object.fromEntries([...this.#streams].map(([key, { position }]) => [key, position]));
  }

  /** @returns {string} for `restore`, by another page of the same user */
  save() {
    const rows = [...this.#streams, ...this.#saved].slice(0, MAX_STREAMS);
    return JSON.stringify(rows.map(([key, { position, offset }]) => [key, position, offset]));
  }

  /**
   * Takes what `save` gave. Whatever is not well formed is left out: a storage that
   * people can edit must not be able to break a page. A stream has its position
   * back once it is followed: see `resume`.
   *
   * @param {string | null} saved
   */
  restore(saved) {
    for (const [key, position, offset] of savedRows(saved, MAX_STREAMS)) {
      if (typeof key === "string" && isPosition(position)) {
        this.#saved.set(key, { position, offset: isOffset(offset) ? offset : null });
      }
    }
  }

  /** The stream is followed from now on: goes on where an earlier page was. @param {string} key */
  resume(key) {
    const saved = this.#saved.get(key);
    if (saved && !this.#streams.has(key) && this.#set(key, saved)) this.#saved.delete(key);
  }

  /**
   * @param {string} key
   * @param {StreamPosition} position
   * @returns {boolean} false if there is no room
   */
  #set(key, position) {
    if (this.#streams.size >= MAX_STREAMS && !this.#streams.has(key)) return false;
    this.#streams.set(key, position);
    return true;
  }
}
