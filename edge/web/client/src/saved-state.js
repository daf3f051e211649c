// Keeps a client's positions and unsent receipts over a reload of the page.
//
// Promise: written at most every `SAVE_EVERY_MS`, and before a receipt says that an
// event is kept; a storage that is full or switched off costs the resume, nothing
// else.

/** Between two writes to the storage, in milliseconds. */
const SAVE_EVERY_MS = 250;

/** @typedef {{save: () => string, restore: (saved: string | null) => void}} Stored */

/**
 * The rows of what `save` gave; whatever is not well formed is left out. People can
 * edit a storage, which must not be able to break a page.
 *
 * @param {string | null} saved
 * @param {number} most rows that are looked at
 * @returns {any[][]}
 */
export function savedRows(saved, most) {
  try {
    return JSON.parse(saved ?? "[]").slice(0, most).filter(Array.isArray);
  } catch {
    // No JSON, or no list: neither has these methods.
    return [];
  }
}

/** Writes the state of a client to a storage, each piece under a key of its own. */
export class SavedState {
  #world;
  #storage;
  /** By key; @type {Map<string, Stored>} */
  #stored = new Map();
  /** @type {unknown} */
  #timer = null;

  /**
   * @param {import("./connection.js").World} world
   * @param {Pick<Storage, "getItem" | "setItem"> | undefined} storage
   */
  constructor(world, storage) {
    this.#world = world;
    this.#storage = storage;
  }

  /** Restores a piece of state and saves it from now on. @param {string} key @param {Stored} stored */
  keep(key, stored) {
    this.#stored.set(key, stored);
    try {
      stored.restore(this.#storage?.getItem(key) ?? null);
    } catch {
      // The page begins without what an earlier one left.
    }
  }

  /** Something changed. */
  saveSoon() {
    if (!this.#storage || this.#timer !== null) return;
    this.#timer = this.#world.setTimeout(() => this.save(), SAVE_EVERY_MS);
  }

  /** Saves now if something has changed since the last time. */
  flush() {
    if (this.#timer !== null) this.save();
  }

  save() {
    this.#world.clearTimeout(this.#timer);
    this.#timer = null;
    try {
      for (const [key, stored] of this.#stored) this.#storage?.setItem(key, stored.save());
    } catch {
      // The next page sees some events again, none is lost.
    }
  }
}
