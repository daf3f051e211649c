// What the page around a client reports: the network or the person is back, or the
// page may be about to go.
//
// Promise: no listener where there is no page (workers, servers, React Native has a
// `window` without events), and none after `listen(false)`.

/**
 * @typedef {object} LifecycleHooks
 * @property {() => void} onResume the person is back at the page, or the network changed
 * @property {() => void} onHide the page may be gone at any moment from now on
 */

/** Listens to the page. */
export class PageLifecycle {
  #onChange;
  #onHide;

  /** @param {LifecycleHooks} hooks */
  constructor({ onResume, onHide }) {
    this.#onHide = onHide;
    this.#onChange = (/** @type {Event} */ event) => {
      if (event.type === "visibilitychange" && document.visibilityState === "hidden") onHide();
      else onResume();
    };
  }

  /** @param {boolean} on */
  listen(on) {
    const method = on ? "addEventListener" : "removeEventListener";
    if (typeof window !== "undefined" && typeof window[method] === "function") {
      window[method]("online", this.#onChange);
      window[method]("offline", this.#onChange);
      window[method]("pagehide", this.#onHide);
    }
    if (typeof document !== "undefined" && typeof document[method] === "function") {
      document[method]("visibilitychange", this.#onChange);
    }
  }
}
