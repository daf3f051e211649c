// What the bell lists: everything that was shown as a toast, also what had no room.
//
// Promise: a key or a job is in it once, with its latest state; at most `MAX_NOTICES`
// entries, the oldest go; survives a reload where there is a storage, and whatever a
// storage holds cannot break it.

/** Entries that are kept. */
const MAX_NOTICES = 500;
/** Entries that survive a reload. */
const MAX_SAVED = 100;
/** Characters of a title or text that are kept. */
const MAX_CHARS = 300;
const KINDS = ["success", "error", "warning", "info"];

/**
 * @typedef {object} Notice
 * @property {string} key
 * @property {number} at Unix milliseconds
 * @property {"success" | "error" | "warning" | "info"} kind
 * @property {string} title
 * @property {string} text
 * @property {boolean} unread
 * @property {string} [eventId] the event that receipts are about
 */

/** The list of one page. */
export class NoticeList {
  /** Oldest first; @type {Map<string, Notice>} */
  #notices = new Map();
  /** @type {Set<() => void>} */
  #listeners = new Set();
  /** @type {Pick<Storage, "getItem" | "setItem"> | undefined} */
  #storage;
  #storageKey = "";
  #scheduled = false;

  /** @returns {Notice[]} newest first */
  get all() {
    return [...this.#notices.values()].reverse();
  }

  /** @returns {number} */
  get unread() {
    let count = 0;
    for (const notice of this.#notices.values()) if (notice.unread) count += 1;
    return count;
  }

  /** Keeps the list over a reload. @param {Pick<Storage, "getItem" | "setItem">} storage @param {string} key one for each user */
  keepIn(storage, key) {
    this.#storage = storage;
    this.#storageKey = key;
    try {
      const saved = JSON.parse(storage.getItem(key) ?? "[]");
      for (const entry of Array.isArray(saved) ? saved.slice(-MAX_SAVED) : []) {
        if (isNotice(entry) && !this.#notices.has(entry.key)) this.#notices.set(entry.key, entry);
      }
    } catch {
      // It begins empty.
    }
    this.#changed();
  }

  /** @param {Notice} notice */
  add(notice) {
    this.#notices.delete(notice.key);
    this.#notices.set(notice.key, { ...notice, title: notice.title.slice(0, MAX_CHARS), text: notice.text.slice(0, MAX_CHARS) });
    const [oldest] = this.#notices.keys();
    if (this.#notices.size > MAX_NOTICES && oldest !== undefined) this.#notices.delete(oldest);
    this.#changed();
  }

  /** @param {(notice: Notice) => boolean} which @returns {Notice[]} those that were unread */
  markRead(which) {
    const marked = [...this.#notices.values()].filter((notice) => notice.unread && which(notice));
    for (const notice of marked) notice.unread = false;
    if (marked.length > 0) this.#changed();
    return marked;
  }

  /** @param {() => void} listener called once for all changes of a turn @returns {() => void} removes it */
  onChange(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #changed() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      for (const listener of this.#listeners) listener();
      try {
        this.#storage?.setItem(this.#storageKey, JSON.stringify([...this.#notices.values()].slice(-MAX_SAVED)));
      } catch {
        // Full or switched off: the list is empty after a reload.
      }
    });
  }
}

/** @param {any} entry @returns {entry is Notice} */
function isNotice(entry) {
  return typeof entry?.key === "string" && typeof entry.title === "string" && typeof entry.text === "string" && KINDS.includes(entry.kind) && Number.isFinite(entry.at);
}
