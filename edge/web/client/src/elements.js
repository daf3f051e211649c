// `<belfry-toasts>`, `<belfry-status>` and `<belfry-bell>`: the client's own elements.
//
// Promise: defined once, where there are custom elements; they follow the client of
// the auto-start, or the one that a program sets as `client`.

import { followStatus, STATUS_TEXT } from "./connection-status.js";
import { BellPanel } from "./bell.js";
import { BELL_CSS } from "./bell-style.js";
import { registry } from "./registry.js";
import { make } from "./toast-element.js";
import { shadowOf } from "./toast-style.js";

/** Dispatched on the document when the auto-start has made its client. */
export const CLIENT_EVENT = "belfry:client";

/** Defines the elements. */
export function defineElements() {
  if (typeof customElements === "undefined" || customElements.get("belfry-toasts")) return;

  /** Where the toasts of the page are. */
  class Toasts extends HTMLElement {}

  /** The state of the connection: ● Live. */
  class Status extends HTMLElement {
    #client = /** @type {any} */ (null);
    #stop = () => {};
    #text = make("span", "status");
    #onClient = () => {
      this.client = registry.dashboard;
    };

    connectedCallback() {
      shadowOf(this, BELL_CSS).append(this.#text);
      if (!this.hasAttribute("role")) this.setAttribute("role", "status");
      document.addEventListener(CLIENT_EVENT, this.#onClient);
      this.client = this.#client ?? registry.dashboard ?? null;
    }

    disconnectedCallback() {
      document.removeEventListener(CLIENT_EVENT, this.#onClient);
      this.#stop();
      this.#stop = () => {};
    }

    /** The client that it shows. */
    get client() {
      return this.#client;
    }

    set client(client) {
      this.#client = client;
      this.#stop();
      this.#stop = () => {};
      if (!client) this.#draw("offline", "");
      else if (this.isConnected) this.#stop = followStatus(client, (status, sentence) => this.#draw(status, sentence));
    }

    /** @param {import("./connection-status.js").Status} status @param {string} sentence */
    #draw(status, sentence) {
      this.dataset.state = status;
      this.title = sentence;
      this.#text.textContent = STATUS_TEXT[status];
    }
  }

  /** A bell with the number of unread messages; opens their list. */
  class Bell extends HTMLElement {
    #panel = new BellPanel();
    #stop = () => {};

    connectedCallback() {
      const toasts = registry.toasts?.();
      shadowOf(this, BELL_CSS).append(this.#panel.element);
      this.#panel.show(toasts);
      this.#stop = toasts.onNotices(() => this.#panel.show(toasts));
      toasts.openList = () => this.open();
    }

    disconnectedCallback() {
      this.#stop();
    }

    /** Opens the list. */
    open() {
      this.#panel.toggle(true);
    }
  }

  customElements.define("belfry-toasts", Toasts);
  customElements.define("belfry-status", Status);
  customElements.define("belfry-bell", Bell);
}
