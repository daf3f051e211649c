// What the page around a client tells: the network or the person came back, or
// the page is about to go.
//
// Promise: nothing outside of a browser, and nothing after `listen(false)`.

/**
 * @typedef {object} Signals
 * @property {() => void} onBack back to the page, or the network changed
 * @property {() => void} onLeave the page may be gone at any moment from now on
 */

/** Listens to the page. */
export class PageSignals {
  #change;
  #leave;

  /** @param {Signals} signals */
  constructor({ onBack, onLeave }) {
    this.#leave = onLeave;
    this.#change = (/** @type {Event} */ event) => {
      if (event.type === "visibilitychange" && document.visibilityState === "hidden") onLeave();
      else onBack();
    };
  }

  /** @param {boolean} on */
  listen(on) {
    if (typeof window === "undefined") return;
    const change = on ? "addEventListener" : "removeEventListener";
    window[change]("online", this.#change);
    window[change]("offline", this.#change);
    window[change]("pagehide", this.#leave);
    document[change]("visibilitychange", this.#change);
  }
}
