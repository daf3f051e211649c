// Where a client stands in each stream, and what that says about the next event.
//
// Promise: pure. A position moves only by `commit` (after the handlers ran), by
// what the edge states (`connected`, `subscribed`) and by an honest `gap`; so a
// page that dies in between sees an event again, never a hole.

/** @typedef {"deliver" | "duplicate" | "hole"} Verdict */

/**
 * @typedef {object} Place
 * @property {string} position opaque, sent back as it came
 * @property {number | null} offset null until a frame has told it
 */

/**
 * The parts of a frame that say where an event stands.
 *
 * @typedef {object} Placed
 * @property {string} [stream] `user`, `everyone` or `queue`
 * @property {string} [queue]
 * @property {number} [offset]
 * @property {string} [position]
 * @property {number} [to]
 */

/** Streams one client may follow; the edge allows 128 queues, the user and everyone. */
export const MAX_STREAMS = 130;
/** A packed position is 27 characters; a server of tomorrow may need more. */
const MAX_POSITION_CHARS = 256;

/**
 * The key of a frame's stream: `user`, `everyone` or `queue:<id>`.
 *
 * @param {Placed} frame
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

/** The places of one client in all of its streams. */
export class Positions {
  /** @type {Map<string, Place>} */
  #places = new Map();

  /**
   * What the next event is. Changes nothing.
   *
   * @param {Placed} event
   * @returns {Verdict}
   */
  judge(event) {
    if (event.offset === undefined && event.position === undefined) return "deliver";
    if (!isOffset(event.offset) || !isPosition(event.position)) return "hole";
    const last = this.#places.get(streamKey(event))?.offset ?? null;
    if (last === null) return "deliver";
    if (event.offset <= last) return "duplicate";
    return event.offset === last + 1 ? "deliver" : "hole";
  }

  /**
   * The event was handed on: go on from it. Ephemeral events move nothing.
   *
   * @param {Placed} event
   */
  commit(event) {
    if (isOffset(event.offset) && isPosition(event.position)) {
      this.#set(streamKey(event), { position: event.position, offset: event.offset });
    }
  }

  /**
   * The edge states where the client stands. An offset that is already known
   * stays if it belongs to that very position.
   *
   * @param {string} key
   * @param {unknown} position
   */
  stated(key, position) {
    if (!isPosition(position)) return;
    const known = this.#places.get(key);
    this.#set(key, { position, offset: known?.position === position ? known.offset : null });
  }

  /**
   * Events are missing for good: go on after them.
   *
   * @param {Placed} gap
   */
  gap(gap) {
    if (!isPosition(gap.position)) return;
    this.#set(streamKey(gap), { position: gap.position, offset: isOffset(gap.to) ? gap.to : null });
  }

  /** @param {string} key */
  forget(key) {
    this.#places.delete(key);
  }

  /** @param {string} key @returns {string | undefined} */
  position(key) {
    return this.#places.get(key)?.position;
  }

  /** @returns {Record<string, string>} what `connect` sends */
  toSend() {
    return Object.fromEntries([...this.#places].map(([key, place]) => [key, place.position]));
  }

  /** @returns {string} for `restore`, by another page of the same user */
  save() {
    return JSON.stringify([...this.#places].map(([key, { position, offset }]) => [key, position, offset]));
  }

  /**
   * Takes what `save` gave. Whatever is not well formed is left out: a store
   * that people can edit must not be able to break a page.
   *
   * @param {string | null} saved
   */
  restore(saved) {
    let rows;
    try {
      rows = JSON.parse(saved ?? "[]");
    } catch {
      return;
    }
    if (!Array.isArray(rows)) return;
    for (const row of rows.slice(0, MAX_STREAMS)) {
      const [key, position, offset] = Array.isArray(row) ? row : [];
      if (typeof key === "string" && isPosition(position)) {
        this.#set(key, { position, offset: isOffset(offset) ? offset : null });
      }
    }
  }

  /** @param {string} key @param {Place} place */
  #set(key, place) {
    if (this.#places.size >= MAX_STREAMS && !this.#places.has(key)) return;
    this.#places.set(key, place);
  }
}
