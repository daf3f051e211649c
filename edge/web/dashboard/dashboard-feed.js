// The activity feed and the bell's count of unread events.
//
// Promise: what is read is what was in front of the person after they opened the list;
// an event is in it once, and a job with its latest state only; at most
// `MAX_ENTRIES` entries; both survive a reload of the page, and whatever a storage
// holds cannot break it.

import { isJobId } from "../client/src/jobs.js";

/** Entries that are kept, newest first; an unread one that falls out is counted no more. */
const MAX_ENTRIES = 200;
/** The part of an entry that has to be on the screen to be read. */
const READ_RATIO = 0.6;
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
 * @property {HTMLElement} panel the list with its title
 * @property {HTMLElement} title
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
  /** Whether the person opened the list and has not gone elsewhere since. */
  #open = false;
  /** Entries on the screen; @type {Set<string>} */
  #onScreen = new Set();
  #drawing = false;
  #observer = new IntersectionObserver((changes) => this.#moved(changes), { threshold: [0, READ_RATIO] });
  #elements;
  #storage;
  #key;
  #onRead;

  /**
   * @param {Elements} elements
   * @param {Storage} storage
   * @param {string} key one for each user
   * @param {(ids: string[]) => void} onRead the person opened the list and saw these
   */
  constructor(elements, storage, key, onRead) {
    this.#elements = elements;
    this.#storage = storage;
    this.#key = key;
    this.#onRead = onRead;
    const { panel } = elements;
    panel.addEventListener("focusout", ({ relatedTarget }) => {
      if (!panel.contains(/** @type {Node | null} */ (relatedTarget))) this.#open = false;
    });
    this.#restore();
    this.#draw();
    this.#count();
  }

  /** Brings the list before the person's eyes, and the focus to it. */
  show() {
    const { panel, title } = this.#elements;
    title.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
  }

  /** The person wants to read: what comes into view until the focus goes elsewhere is read. */
  open() {
    this.show();
    this.#open = true;
    this.#readOnScreen();
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
    this.#keepListed();
    this.#changed();
    return true;
  }

  /** One of them was acknowledged. @param {string} id */
  acknowledge(id) {
    if (this.#unread.delete(id)) this.#changed();
  }

  /** @param {IntersectionObserverEntry[]} changes */
  #moved(changes) {
    for (const { target, intersectionRatio, isIntersecting } of changes) {
      const id = /** @type {HTMLElement} */ (target).dataset.id ?? "";
      if (isIntersecting && intersectionRatio >= READ_RATIO) this.#onScreen.add(id);
      else this.#onScreen.delete(id);
    }
    this.#readOnScreen();
  }

  #readOnScreen() {
    if (!this.#open || document.visibilityState !== "visible") return;
    const read = [...this.#unread].filter((id) => this.#onScreen.has(id));
    if (read.length > 0) this.#onRead(read);
  }

  /** What is not in the list cannot be read there. */
  #keepListed() {
    const listed = new Set(this.#entries.map(({ id }) => id));
    for (const id of this.#unread) if (!listed.has(id)) this.#unread.delete(id);
  }

  #changed() {
    this.#count();
    this.#save();
    if (this.#drawing) return;
    // A burst is drawn once; a hidden page draws when it is seen.
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw() {
    this.#elements.empty.hidden = this.#entries.length > 0;
    const items = this.#entries.map((entry) => {
      const item = document.createElement("li");
      item.dataset.id = entry.id;
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
    this.#observer.disconnect();
    this.#onScreen.clear();
    this.#elements.list.replaceChildren(...items);
    for (const item of items) this.#observer.observe(item);
  }

  #count() {
    const { bell, badge } = this.#elements;
    const count = this.#unread.size;
    badge.hidden = count === 0;
    badge.textContent = count > MAX_SHOWN_COUNT ? `${MAX_SHOWN_COUNT}+` : String(count);
    bell.setAttribute("aria-label", count === 0 ? "No unread updates, open the list" : `${count} unread update${count === 1 ? "" : "s"}, open the list`);
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
      this.#unread = new Set(unread.filter((/** @type {unknown} */ id) => typeof id === "string"));
      this.#keepListed();
    } catch {
      this.#entries = [];
    }
  }
}
