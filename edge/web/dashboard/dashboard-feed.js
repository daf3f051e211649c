// The activity feed and the bell's count of unread events.
//
// Promise: an event is in it once, and a job with its latest state only; at most
// `MAX_ENTRIES` entries; both survive a reload of the page, and whatever a storage
// holds cannot break it.

import { isJobId } from "../client/src/jobs.js";

/** Entries that are kept, newest first. */
const MAX_ENTRIES = 50;
/** Unread events that are counted; the oldest fall out. */
const MAX_UNREAD = 200;
/** The count is shown up to this number, with a plus beyond. */
const MAX_SHOWN_COUNT = 99;

/**
 * @typedef {object} Entry
 * @property {string} id
 * @property {string} at RFC 3339
 * @property {"info" | "success" | "error"} kind
 * @property {string} text
 * @property {string} [jobId] a later entry of the job takes its place
 */

/**
 * @typedef {object} Elements
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
  /** Ids, oldest first; @type {Set<string>} */
  #unread = new Set();
  #title = document.title;
  #elements;
  #storage;
  #key;

  /**
   * @param {Elements} elements
   * @param {Storage} storage
   * @param {string} key one for each user
   */
  constructor(elements, storage, key) {
    this.#elements = elements;
    this.#storage = storage;
    this.#key = key;
    this.#restore();
    this.#draw();
  }

  /** @returns {string[]} ids of unread events, oldest first */
  get unread() {
    return [...this.#unread];
  }

  /**
   * @param {Entry} entry
   * @param {boolean} unread whether it counts on the bell
   * @returns {boolean} false if it was there already
   */
  add(entry, unread) {
    if (this.#entries.some((known) => known.id === entry.id)) return false;
    const before = this.#entries.find((known) => isJobId(known.jobId) && known.jobId === entry.jobId);
    if (before) this.#unread.delete(before.id);
    this.#entries = [entry, ...this.#entries.filter((known) => known !== before)].slice(0, MAX_ENTRIES);
    if (unread) this.#unread.add(entry.id);
    for (const id of this.#unread) {
      if (this.#unread.size <= MAX_UNREAD) break;
      this.#unread.delete(id);
    }
    this.#changed();
    return true;
  }

  /** One of them was acknowledged. @param {string} id */
  acknowledge(id) {
    if (this.#unread.delete(id)) this.#changed();
  }

  /** All of them were read. */
  acknowledgeAll() {
    this.#unread.clear();
    this.#changed();
  }

  #changed() {
    this.#draw();
    this.#save();
  }

  #draw() {
    this.#elements.empty.hidden = this.#entries.length > 0;
    const items = this.#entries.map((entry) => {
      const item = document.createElement("li");
      item.dataset.kind = entry.kind;
      if (this.#unread.has(entry.id)) item.dataset.unread = "";
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
    this.#elements.list.replaceChildren(...items);
    this.#count();
  }

  #count() {
    const { bell, badge } = this.#elements;
    const count = this.#unread.size;
    badge.hidden = count === 0;
    badge.textContent = count > MAX_SHOWN_COUNT ? `${MAX_SHOWN_COUNT}+` : String(count);
    bell.setAttribute("aria-label", count === 0 ? "No unread updates" : `${count} unread update${count === 1 ? "" : "s"}, mark as read`);
    document.title = count === 0 ? this.#title : `(${badge.textContent}) ${this.#title}`;
  }

  #save() {
    try {
      this.#storage.setItem(this.#key, JSON.stringify({ unread: [...this.#unread], entries: this.#entries }));
    } catch {
      // Full or switched off: the feed is empty after a reload then.
    }
  }

  #restore() {
    try {
      const saved = JSON.parse(this.#storage.getItem(this.#key) ?? "{}");
      if (Array.isArray(saved.entries)) this.#entries = saved.entries.filter(isEntry).slice(0, MAX_ENTRIES);
      const unread = Array.isArray(saved.unread) ? saved.unread : [];
      this.#unread = new Set(unread.filter((/** @type {unknown} */ id) => typeof id === "string").slice(-MAX_UNREAD));
    } catch {
      this.#entries = [];
    }
  }
}
