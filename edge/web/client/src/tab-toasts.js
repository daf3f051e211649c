// One person, one toast: of all tabs the one in front of the person shows it.
//
// Promise: each tab has everything in its list; what one tab showed no other repeats;
// what was closed or opened in one is gone in all. If no tab is in front, the first
// one that comes to the front shows it.

/** A tab that should have shown it and did not say so is not waited for longer, in milliseconds. */
const FALLBACK_MS = 1_000;
/** Toasts that wait for the person. */
const MAX_PENDING = 50;

/** @typedef {import("./toast-notifications.js").ToastNotificationSystem} Toasts */
/** @typedef {import("./toast-notifications.js").Toast} Toast */

/** Divides the toasts of one person among their tabs. */
export class TabToasts {
  #id = Math.random().toString(36).slice(2);
  /** Since when this tab is in front, Unix milliseconds; 0: it is hidden. */
  #since = 0;
  /** The same of others; @type {Map<string, number>} */
  #others = new Map();
  /** By event; @type {Map<string, () => void>} */
  #pending = new Map();
  #channel;
  #toasts;

  /** @param {string} name @param {Toasts} toasts */
  constructor(name, toasts) {
    this.#toasts = toasts;
    this.#channel = new BroadcastChannel(`${name} toasts`);
    this.#channel.onmessage = ({ data }) => this.#onMessage(data);
    toasts.onState = (state, key) => this.#channel.postMessage({ kind: state === "displayed" ? "shown" : "settled", key });
    for (const type of ["focus", "pageshow"]) addEventListener(type, () => this.#look());
    document.addEventListener("visibilitychange", () => this.#look());
    addEventListener("pagehide", () => this.#channel.postMessage({ kind: "look", from: this.#id, since: 0 }));
    this.#look();
    this.#channel.postMessage({ kind: "who" });
  }

  /** Whether this tab is the one in front of the person. */
  get front() {
    return this.#since > 0 && [...this.#others.values()].every((since) => since < this.#since);
  }

  /** @param {any} event @param {Toast} toast @param {() => void} show */
  announce(event, toast, show) {
    if (this.front) {
      this.#channel.postMessage({ kind: "shown", key: toast.key });
      return show();
    }
    this.#toasts.note(toast);
    const key = String(toast.key);
    this.#pending.set(key, show);
    const [oldest] = this.#pending.keys();
    if (this.#pending.size > MAX_PENDING && oldest !== undefined) this.#pending.delete(oldest);
    if (this.#since > 0) setTimeout(() => this.#since > 0 && this.#release(key), FALLBACK_MS);
  }

  #look() {
    const visible = document.visibilityState === "visible";
    if (!visible) this.#since = 0;
    else if (this.#since === 0 || document.hasFocus()) this.#since = Date.now();
    this.#say();
    if (this.front) for (const key of [...this.#pending.keys()]) this.#release(key);
  }

  #say() {
    this.#channel.postMessage({ kind: "look", from: this.#id, since: this.#since });
  }

  /** @param {string} key */
  #release(key) {
    const show = this.#pending.get(key);
    if (!show || !this.#pending.delete(key)) return;
    this.#channel.postMessage({ kind: "shown", key });
    show();
  }

  /** @param {any} message */
  #onMessage(message) {
    switch (message.kind) {
      case "who":
        return this.#say();
      case "look":
        if (message.since > 0) this.#others.set(message.from, message.since);
        else this.#others.delete(message.from);
        return;
      case "shown":
        this.#pending.delete(message.key);
        // A toast of the same job that was shown here before is out of date.
        return this.#toasts.dismiss(message.key);
      case "settled":
        this.#pending.delete(message.key);
        return this.#toasts.settle(message.key);
    }
  }
}

/** @param {string} name @param {Toasts} toasts @returns {TabToasts | null} null where the browser cannot */
export function shareToasts(name, toasts) {
  return typeof BroadcastChannel === "function" ? new TabToasts(name, toasts) : null;
}
