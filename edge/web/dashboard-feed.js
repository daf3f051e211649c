// The activity feed and the bell's count of what was not looked at yet.
//
// Promise: an event is in it once; at most `MAX_ENTRIES` entries; both survive a
// reload of the page, and whatever a storage holds cannot break it.

/** Entries that are kept, newest first. */
const MAX_ENTRIES = 50;
/** The count is shown up to this number, with a plus beyond. */
const MAX_SHOWN_COUNT = 99;

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {string} at RFC 3339
 * @property {"info" | "success" | "error"} kind
 * @property {string} text
 */

/**
 * @typedef {object} Parts
 * @property {HTMLElement} list
 * @property {HTMLElement} empty
 * @property {HTMLElement} bell the button
 * @property {HTMLElement} badge the number on it
 */

/** @param {any} entry @returns {entry is Entry} */
function isEntry(entry) {
  return ["id", "at", "kind", "text"].every((field) => typeof entry?.[field] === "string");
}

/** Draws the feed and counts. */
export class Feed {
  /** @type {Entry[]} */
  #entries = [];
  #unread = 0;
  #title = document.title;
  #parts;
  #storage;
  #key;

  /**
   * @param {Parts} parts
   * @param {Storage} storage
   * @param {string} key one for each user
   */
  constructor(parts, storage, key) {
    this.#parts = parts;
    this.#storage = storage;
    this.#key = key;
    this.#restore();
    this.#draw();
    this.#count();
    parts.bell.addEventListener("click", () => this.read());
  }

  /** @returns {number} */
  get unread() {
    return this.#unread;
  }

  /** @param {Entry} entry @returns {boolean} false if it was there already */
  add(entry) {
    if (this.#entries.some((known) => known.id === entry.id)) return false;
    this.#entries = [entry, ...this.#entries].slice(0, MAX_ENTRIES);
    this.#unread += 1;
    this.#draw();
    this.#count();
    this.#save();
    return true;
  }

  /** Everything was looked at. */
  read() {
    this.#unread = 0;
    this.#draw();
    this.#count();
    this.#save();
  }

  #draw() {
    this.#parts.empty.hidden = this.#entries.length > 0;
    const items = this.#entries.map((entry, place) => {
      const item = document.createElement("li");
      item.dataset.kind = entry.kind;
      if (place < this.#unread) item.dataset.unread = "";
      const time = document.createElement("time");
      const at = new Date(entry.at);
      if (!Number.isNaN(at.getTime())) {
        time.dateTime = at.toISOString();
        time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      }
      const what = document.createElement("span");
      what.textContent = entry.text;
      item.append(what, time);
      return item;
    });
    this.#parts.list.replaceChildren(...items);
  }

  #count() {
    const { bell, badge } = this.#parts;
    badge.hidden = this.#unread === 0;
    badge.textContent = this.#unread > MAX_SHOWN_COUNT ? `${MAX_SHOWN_COUNT}+` : String(this.#unread);
    bell.setAttribute("aria-label", this.#unread === 0 ? "No unread updates" : `${this.#unread} unread updates, mark as read`);
    document.title = this.#unread === 0 ? this.#title : `(${badge.textContent}) ${this.#title}`;
  }

  #save() {
    try {
      this.#storage.setItem(this.#key, JSON.stringify({ unread: this.#unread, entries: this.#entries }));
    } catch {
      // Full or switched off: the feed then begins anew after a reload.
    }
  }

  #restore() {
    try {
      const saved = JSON.parse(this.#storage.getItem(this.#key) ?? "{}");
      if (Array.isArray(saved.entries)) this.#entries = saved.entries.filter(isEntry).slice(0, MAX_ENTRIES);
      if (Number.isSafeInteger(saved.unread) && saved.unread > 0) this.#unread = saved.unread;
    } catch {
      this.#entries = [];
    }
  }
}
