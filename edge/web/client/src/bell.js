// The bell's button and its list.
//
// Promise: only what was on the screen while the list was open is marked as read;
// text only; Escape and a click elsewhere close it, and the focus returns.

import { make } from "./toast-element.js";

/** Entries that are drawn; the others are counted. */
const MAX_DRAWN = 100;
/** The count is shown up to this number. */
const MAX_COUNT = 99;
const BELL = "M12 3a6 6 0 0 0-6 6c0 4-1.2 5.6-2.4 7.2-.4.6 0 1.3.7 1.3h15.4c.7 0 1.1-.7.7-1.3C19.2 14.6 18 13 18 9a6 6 0 0 0-6-6zM9.5 20.5a2.6 2.6 0 0 0 5 0";

/** @typedef {import("./toast-notifications.js").ToastNotificationSystem} Toasts */
/** @typedef {import("./notice-list.js").Notice} Notice */

/** Draws the bell of one page. */
export class BellPanel {
  element = make("div", "wrap");
  #button = make("button", "bell");
  #count = make("span", "count");
  #panel = make("div", "panel");
  /** By key; @type {Map<string, HTMLElement>} */
  #drawn = new Map();
  /** @type {Toasts | undefined} */
  #toasts;
  /** @type {IntersectionObserver | undefined} */
  #seen;

  constructor() {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const path = svg.appendChild(document.createElementNS(svg.namespaceURI, "path"));
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    path.setAttribute("d", BELL);
    this.#button.setAttribute("type", "button");
    this.#button.setAttribute("aria-expanded", "false");
    this.#count.setAttribute("aria-hidden", "true");
    this.#button.append(svg, this.#count);
    this.#panel.hidden = true;
    // It scrolls, and holds nothing else to focus.
    this.#panel.tabIndex = 0;
    this.#panel.setAttribute("role", "region");
    this.#panel.setAttribute("aria-label", "Notifications received");
    this.element.append(this.#button, this.#panel);
    this.#button.addEventListener("click", () => this.toggle(this.#panel.hidden === true));
    this.element.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || this.#panel.hidden) return;
      event.preventDefault();
      this.toggle(false);
      this.#button.focus();
    });
    document.addEventListener("pointerdown", (event) => {
      if (!this.#panel.hidden && !event.composedPath().includes(this.element)) this.toggle(false);
    });
  }

  /** The list changed. @param {Toasts} toasts */
  show(toasts) {
    this.#toasts = toasts;
    const { unread } = toasts;
    this.#count.hidden = unread === 0;
    this.#count.textContent = unread > MAX_COUNT ? `${MAX_COUNT}+` : String(unread);
    this.#button.setAttribute("aria-label", unread === 0 ? "Notifications" : `Notifications, ${unread} unread`);
    if (!this.#panel.hidden) this.#draw();
  }

  /** @param {boolean} open */
  toggle(open) {
    this.#panel.hidden = !open;
    this.#button.setAttribute("aria-expanded", String(open));
    this.#seen?.disconnect();
    this.#drawn.clear();
    this.#panel.replaceChildren();
    if (!open) return;
    this.#seen = new IntersectionObserver((entries) => this.#read(entries), { root: this.#panel, threshold: 0.6 });
    this.#draw();
    this.#panel.focus();
  }

  /** Entries that came into view. @param {IntersectionObserverEntry[]} entries */
  #read(entries) {
    const seen = new Set(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target));
    const keys = [...this.#drawn].filter(([, element]) => seen.has(element)).map(([key]) => key);
    if (document.visibilityState === "visible" && keys.length > 0) this.#toasts?.markRead(keys);
  }

  /** An entry keeps its mark until the list is opened again. */
  #draw() {
    const notices = this.#toasts?.notices ?? [];
    const elements = notices.slice(0, MAX_DRAWN).map((notice) => {
      const known = this.#drawn.get(notice.key);
      if (known && known.dataset.at === String(notice.at)) return known;
      const element = drawNotice(notice);
      this.#drawn.set(notice.key, element);
      this.#seen?.observe(element);
      return element;
    });
    const more = notices.length - elements.length;
    const rest = notices.length === 0 ? make("p", "", "Nothing yet.") : more > 0 ? make("p", "", `and ${more} older`) : null;
    this.#panel.replaceChildren(...elements, ...(rest ? [rest] : []));
  }
}

/** @param {Notice} notice */
function drawNotice({ kind, title, text, at, unread }) {
  const element = make("div", "notice");
  element.dataset.kind = kind;
  element.dataset.at = String(at);
  element.toggleAttribute("data-unread", unread);
  const time = /** @type {HTMLTimeElement} */ (make("time", "", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
  time.dateTime = new Date(at).toISOString();
  element.append(make("b", "", title), ...(text ? [make("span", "", text)] : []), time);
  return element;
}
