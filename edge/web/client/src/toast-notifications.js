// Toasts: short messages above the page, for eyes, keyboards and screen readers.
//
// Promise: text only, never markup; at most `MAX_VISIBLE` shown and `MAX_WAITING`
// waiting, what does not fit is counted and said; a job has one toast from its
// first progress to its end; nothing disappears under a pointer, under the focus
// or in a hidden page; `displayed` is reported of what was in front of the person,
// `read` and `dismissed` of what they opened and closed.

import { isJobId } from "./jobs.js";
import { drawToast, makeToast } from "./toast-element.js";

/** Toasts that are shown at once. */
const MAX_VISIBLE = 5;
/** Toasts that wait for room. The oldest gives way; errors last. */
const MAX_WAITING = 20;
/** Jobs with a progress toast that the person closed. */
const MAX_MUTED = 100;
/** How long a toast stays by default, in milliseconds; 0: until dismissed or replaced. */
const STAYS_MS = { info: 6_000, success: 7_000, error: 15_000, progress: 0 };
/** The least time that is left after the pointer or focus was on it, in milliseconds. */
const LEAST_LEFT_MS = 1_500;

/** @typedef {"info" | "success" | "error" | "progress"} ToastKind */
/** @typedef {"displayed" | "dismissed" | "read"} ToastState */

/**
 * @typedef {object} Toast
 * @property {ToastKind} kind
 * @property {string} title
 * @property {string} [text]
 * @property {string} [jobId] a later toast of the same job takes its place
 * @property {string} [key] so does a later one with the same key
 * @property {number} [percent] 0 to 100, for `progress`
 * @property {number} [stayMs] overrides the default of its kind
 * @property {string} [eventId] the event that `onReceipt` reports
 * @property {() => void} [open] what a click on it does, beside being `read`
 */

/**
 * @typedef {object} Shown
 * @property {string} key
 * @property {Toast} toast
 * @property {HTMLElement} element
 * @property {ReturnType<typeof setTimeout> | undefined} timer
 * @property {number} leftMs
 * @property {number} startedAt
 * @property {string | undefined} ranFor the event of which `displayed` was reported
 */

/**
 * @typedef {object} ToastOptions
 * @property {(eventId: string, state: ToastState) => void} [onReceipt] receives the state of toasts with an `eventId`
 */

/** Shows toasts in one place of the page. */
export class ToastNotifications {
  /** By key, oldest first; @type {Map<string, Shown>} */
  #shown = new Map();
  /** @type {{key: string, toast: Toast}[]} */
  #waiting = [];
  /** Keys of progress that was closed; @type {Set<string>} */
  #muted = new Set();
  #dropped = 0;
  #count = 0;
  #hovered = false;
  #focused = false;
  #still = false;
  #list;
  #more;
  #onReceipt;

  /**
   * @param {HTMLElement} container an empty element that stays in the page
   * @param {ToastOptions} [options]
   */
  constructor(container, options = {}) {
    this.#onReceipt = options.onReceipt ?? (() => {});
    container.classList.add("toasts");
    container.setAttribute("role", "region");
    container.setAttribute("aria-label", "Notifications");
    this.#list = document.createElement("ol");
    this.#list.className = "toast-list";
    this.#more = document.createElement("p");
    this.#more.className = "toast-more";
    this.#more.setAttribute("role", "status");
    container.append(this.#list, this.#more);
    container.addEventListener("pointerenter", () => this.#attend({ hovered: true }));
    container.addEventListener("pointerleave", () => this.#attend({ hovered: false }));
    container.addEventListener("focusin", () => this.#attend({ focused: true }));
    container.addEventListener("focusout", (event) => {
      this.#attend({ focused: container.contains(/** @type {Node | null} */ (event.relatedTarget)) });
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      const focused = [...this.#shown].find(([, shown]) => shown.element.contains(document.activeElement));
      const key = focused?.[0] ?? [...this.#shown.keys()].at(-1);
      if (key !== undefined) this.#closed(key);
    });
    document.addEventListener("visibilitychange", () => {
      this.#attend({});
      for (const shown of this.#shown.values()) this.#ran(shown);
    });
    this.#attend({});
  }

  /** @returns {number} toasts that gave way because too many waited */
  get dropped() {
    return this.#dropped;
  }

  /**
   * Shows a toast, or updates the one of the same job in place.
   *
   * @param {Toast} toast
   * @returns {string} its key, for `dismiss`
   */
  show(toast) {
    const key = toast.key ?? (isJobId(toast.jobId) ? `job-${toast.jobId}` : `toast-${++this.#count}`);
    if (toast.kind === "progress" && this.#muted.has(key)) return key;
    this.#muted.delete(key);
    const shown = this.#shown.get(key);
    const waiting = this.#waiting.find((entry) => entry.key === key);
    if (shown) this.#update(shown, toast);
    else if (waiting) waiting.toast = toast;
    else if (this.#shown.size < MAX_VISIBLE) this.#add(key, toast);
    else this.#wait(key, toast);
    this.#sayMore();
    return key;
  }

  /** @param {string} text @param {string} [title] */
  info(text, title = "Note") {
    return this.show({ kind: "info", title, text });
  }

  /** @param {string} text @param {string} [title] */
  success(text, title = "Done") {
    return this.show({ kind: "success", title, text });
  }

  /** @param {string} text @param {string} [title] */
  error(text, title = "Something went wrong") {
    return this.show({ kind: "error", title, text });
  }

  /**
   * How far a job is. Its end is another `show` with the same `jobId`.
   *
   * @param {string} jobId @param {number} percent @param {string} [text] @param {string} [title]
   */
  progress(jobId, percent, text, title = "Working") {
    return this.show({ kind: "progress", title, text, jobId, percent });
  }

  /** @param {string} key @returns {boolean} whether it is shown, or waits for room */
  shows(key) {
    return this.#shown.has(key) || this.#waiting.some((entry) => entry.key === key);
  }

  /** Takes a toast away; nothing is reported. @param {string} key what `show` returned */
  dismiss(key) {
    this.#waiting = this.#waiting.filter((entry) => entry.key !== key);
    const shown = this.#shown.get(key);
    if (shown) this.#remove(shown);
    while (this.#waiting.length > 0 && this.#shown.size < MAX_VISIBLE) {
      const next = this.#waiting.shift();
      if (next) this.#add(next.key, next.toast);
    }
    this.#sayMore();
  }

  /**
   * Removes the toast of an event that was acknowledged elsewhere; nothing is
   * reported. The toast of a later event of the same job stays.
   *
   * @param {string} eventId
   */
  retract(eventId) {
    // Toasts of the page's own have no event: none of them is meant.
    if (typeof eventId !== "string") return;
    const shown = [...this.#shown.values()].find(({ toast }) => toast.eventId === eventId);
    const waiting = this.#waiting.find(({ toast }) => toast.eventId === eventId);
    const key = shown?.key ?? waiting?.key;
    if (key !== undefined) this.dismiss(key);
  }

  /** The person closed it. @param {string} key */
  #closed(key) {
    const toast = this.#shown.get(key)?.toast;
    this.dismiss(key);
    if (toast?.kind === "progress") {
      this.#muted.add(key);
      const [oldest] = this.#muted;
      if (this.#muted.size > MAX_MUTED && oldest !== undefined) this.#muted.delete(oldest);
    }
    if (toast?.eventId !== undefined) this.#onReceipt(toast.eventId, "dismissed");
  }

  /** The person opened it. @param {string} key */
  #opened(key) {
    const toast = this.#shown.get(key)?.toast;
    this.dismiss(key);
    if (toast?.eventId !== undefined) this.#onReceipt(toast.eventId, "read");
    toast?.open?.();
  }

  /** @param {Shown} shown */
  #remove(shown) {
    clearTimeout(shown.timer);
    // A keyboard user goes on to the next toast; a click does not leave a
    // focus behind that would hold the others.
    const byKeyboard = shown.element.querySelector(":focus-visible") !== null;
    const neighbour = shown.element.nextElementSibling ?? shown.element.previousElementSibling;
    this.#shown.delete(shown.key);
    shown.element.remove();
    const next = byKeyboard ? /** @type {HTMLElement | null | undefined} */ (neighbour?.querySelector(".toast-close")) : null;
    if (next) next.focus();
    else this.#attend({ focused: this.#list.contains(document.activeElement) });
  }

  /** @param {string} key @param {Toast} toast */
  #wait(key, toast) {
    if (this.#waiting.length >= MAX_WAITING) {
      const lesser = this.#waiting.findIndex((entry) => entry.toast.kind !== "error");
      this.#waiting.splice(Math.max(lesser, 0), 1);
      this.#dropped += 1;
    }
    this.#waiting.push({ key, toast });
  }

  #sayMore() {
    const more = this.#waiting.length;
    this.#more.textContent = more === 0 ? "" : `and ${more} more`;
  }

  /** @param {string} key @param {Toast} toast */
  #add(key, toast) {
    const element = makeToast({ open: () => this.#opened(key), close: () => this.#closed(key) });
    const shown = { key, toast, element, timer: undefined, leftMs: 0, startedAt: 0, ranFor: undefined };
    this.#shown.set(key, shown);
    // The live region has to be in the page before its text is, to be read out.
    this.#list.append(element);
    this.#update(shown, toast);
  }

  /** @param {Shown} shown @param {Toast} toast */
  #update(shown, toast) {
    shown.toast = toast;
    drawToast(shown.element, toast);
    clearTimeout(shown.timer);
    shown.timer = undefined;
    shown.leftMs = toast.stayMs ?? STAYS_MS[toast.kind];
    this.#run(shown);
    this.#ran(shown);
  }

  /** Reports `displayed` once the toast was drawn in a page that can be seen. @param {Shown} shown */
  #ran(shown) {
    const { eventId } = shown.toast;
    if (eventId === undefined || shown.ranFor === eventId || document.visibilityState !== "visible") return;
    requestAnimationFrame(() => {
      const still = this.#shown.get(shown.key) === shown && shown.toast.eventId === eventId && shown.ranFor !== eventId;
      if (!still || document.visibilityState !== "visible") return;
      shown.ranFor = eventId;
      this.#onReceipt(eventId, "displayed");
    });
  }

  /** @param {Shown} shown */
  #run(shown) {
    if (this.#isStill() || shown.leftMs <= 0) return;
    shown.startedAt = performance.now();
    shown.timer = setTimeout(() => this.dismiss(shown.key), shown.leftMs);
  }

  #isStill() {
    return this.#hovered || this.#focused || document.visibilityState !== "visible";
  }

  /**
   * Timers pause while the pointer or focus is on the toasts, or the page is hidden.
   *
   * @param {{hovered?: boolean, focused?: boolean}} now
   */
  #attend({ hovered = this.#hovered, focused = this.#focused }) {
    this.#hovered = hovered;
    this.#focused = focused;
    const before = this.#still;
    this.#still = this.#isStill();
    if (before === this.#still) return;
    for (const shown of this.#shown.values()) {
      if (before) this.#run(shown);
      else if (shown.timer !== undefined) {
        clearTimeout(shown.timer);
        shown.timer = undefined;
        shown.leftMs = Math.max(LEAST_LEFT_MS, shown.leftMs - (performance.now() - shown.startedAt));
      }
    }
  }
}

if (typeof window !== "undefined") Object.assign(window, { ToastNotifications });
