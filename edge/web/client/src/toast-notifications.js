// Toasts: short messages above the page, for eyes, keyboards and screen readers.
//
// Promise: text only, never markup; at most `MAX_VISIBLE` at once: the oldest goes
// when another comes, and what is gone stays in the list that the bell shows; a job
// has one toast from its first progress to its end; nothing goes by itself under a
// pointer, under the focus or in a hidden page; `displayed` is reported of what was
// in front of the person, `read` and `dismissed` of what they opened and closed.

import { EventToasts } from "./event-toasts.js";
import { isJobId } from "./jobs.js";
import { NoticeList } from "./notice-list.js";
import { publish, registry } from "./registry.js";
import { drawToast, make, makeToast } from "./toast-element.js";
import { shadowOf } from "./toast-style.js";

/** Toasts on the screen at once. */
const MAX_VISIBLE = 5;
/** Jobs with a progress toast that the person closed. */
const MAX_MUTED = 100;
/** How long a toast stays, in milliseconds. */
const STAYS_MS = 5_000;
/** The least time that is left after the pointer or focus was on it, in milliseconds. */
const LEAST_LEFT_MS = 1_500;
/** A toast that leaves is gone after this, whatever its animation does, in milliseconds. */
const LEAVING_MS = 400;

/** @typedef {"info" | "success" | "error" | "warning" | "progress"} ToastKind */
/** @typedef {"displayed" | "dismissed" | "read"} ToastState */

/**
 * @typedef {object} Toast
 * @property {ToastKind} kind
 * @property {string} title
 * @property {string} [text]
 * @property {string} [jobId] a later toast of the same job takes its place
 * @property {string} [key] so does a later one with the same key
 * @property {number} [percent] 0 to 100, for `progress`
 * @property {number} [stayMs] instead of the default; 0: until dismissed or replaced
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
 * @property {HTMLElement} [container] where they are; by default the page's `<belfry-toasts>`, made if there is none
 * @property {number} [duration] how long a toast stays, in milliseconds; 5,000 by default
 * @property {(eventId: string, state: ToastState) => void} [onReceipt] receives the state of toasts with an `eventId`
 */

/** Shows toasts in one place of the page. */
export class ToastNotificationSystem {
  /** Called with the key and event of a toast that the person saw or closed here: other tabs drop theirs. @type {(state: ToastState, key: string, eventId: string | undefined) => void} */
  onState = () => {};
  /** What a click on "and n more" does: a page without a bell shows what gave way once more. @type {() => void} */
  openList = () => this.#showMore();
  /** By key, oldest first; @type {Map<string, Shown>} */
  #shown = new Map();
  /** Keys of progress that was closed; @type {Set<string>} */
  #muted = new Set();
  #list = new NoticeList();
  /** Toasts that gave way since the screen was last empty. */
  #gone = 0;
  #count = 0;
  #hovered = false;
  #focused = false;
  #still = false;
  #stayMs;
  #container;
  /** @type {ShadowRoot | null} */
  #root = null;
  #stack;
  #more;
  #receipt;

  /** @param {ToastOptions} [options] */
  constructor({ container, duration = STAYS_MS, onReceipt = () => {} } = {}) {
    this.#container = container;
    this.#stayMs = duration;
    this.#receipt = onReceipt;
    this.#stack = make("div", "toasts");
    this.#stack.setAttribute("role", "region");
    this.#stack.setAttribute("aria-label", "Notifications");
    this.#more = make("button", "toast-more");
    this.#more.setAttribute("type", "button");
    this.#more.hidden = true;
    this.#more.addEventListener("click", () => this.openList());
    this.#stack.append(this.#more);
    this.#listen();
    if (container) this.#place();
  }

  /** @returns {readonly import("./notice-list.js").Notice[]} what was shown, newest first */
  get notices() {
    return this.#list.all;
  }

  /** @returns {number} how many of `notices` are unread */
  get unread() {
    return this.#list.unread;
  }

  /** @param {(eventId: string, state: ToastState) => void} report receives the state of toasts with an `eventId` */
  set onReceipt(report) {
    this.#receipt = report;
  }

  /** @param {() => void} listener called when `notices` changed @returns {() => void} removes it */
  onNotices(listener) {
    return this.#list.onChange(listener);
  }

  /** Keeps `notices` over a reload. @param {Pick<Storage, "getItem" | "setItem">} storage @param {string} key */
  keepIn(storage, key) {
    this.#list.keepIn(storage, key);
  }

  /**
   * Shows a toast, or updates the one of the same job in place: an object, or
   * title, message, type and duration.
   *
   * @param {Toast | string} toast
   * @param {string} [text]
   * @param {ToastKind} [kind]
   * @param {number} [stayMs]
   * @returns {string} its key, for `dismiss`
   */
  show(toast, text = "", kind = "info", stayMs) {
    if (typeof toast !== "object") return this.show({ title: String(toast), text: String(text ?? ""), kind: isKind(kind) ? kind : "info", stayMs });
    const key = this.#keyOf(toast);
    if (toast.kind === "progress" && this.#muted.has(key)) return key;
    this.#muted.delete(key);
    this.note(toast, key);
    const shown = this.#shown.get(key);
    if (shown) this.#update(shown, toast);
    else this.#add(key, toast);
    return key;
  }

  /** Takes a message into the list without showing it. @param {Toast} toast @param {string} [known] its key */
  note(toast, known) {
    if (toast.kind === "progress") return;
    const key = known ?? this.#keyOf(toast);
    this.#list.add({ key, at: Date.now(), kind: toast.kind, title: String(toast.title), text: String(toast.text ?? ""), unread: true, ...(toast.eventId && { eventId: toast.eventId }) });
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
  warning(text, title = "Please note") {
    return this.show({ kind: "warning", title, text });
  }

  /** @param {string} text @param {string} [title] */
  error(text, title = "Something went wrong") {
    return this.show({ kind: "error", title, text });
  }

  /**
   * How far a job is. Its end is another `show` with the same `jobId`.
   *
   * @param {string} jobId @param {number} [percent] @param {string} [text] @param {string} [title]
   */
  progress(jobId, percent, text, title = "Working") {
    return this.show({ kind: "progress", title, text, jobId, percent });
  }

  /** @param {string} key @returns {boolean} whether it is on the screen */
  shows(key) {
    return this.#shown.has(key);
  }

  /** Takes a toast away; nothing is reported. @param {string} key what `show` returned */
  dismiss(key) {
    const shown = this.#shown.get(key);
    if (shown) this.#remove(shown);
  }

  /**
   * An event was acknowledged elsewhere: its toast goes, its entry counts as read,
   * nothing is reported. The toast of a later event of the same job stays.
   *
   * @param {string} eventId
   */
  retract(eventId) {
    // Toasts of the page's own have no event: none of them is meant.
    if (typeof eventId !== "string") return;
    this.#list.markRead((notice) => notice.eventId === eventId);
    const shown = [...this.#shown.values()].find(({ toast }) => toast.eventId === eventId);
    if (shown) this.dismiss(shown.key);
  }

  /** It was closed or opened in another tab: nothing is reported. @param {string} key */
  settle(key) {
    this.#list.markRead((notice) => notice.key === key);
    this.dismiss(key);
  }

  /** The person read entries of the list. @param {Iterable<string>} [keys] all by default */
  markRead(keys) {
    const known = keys && new Set(keys);
    for (const { key, eventId } of this.#list.markRead((notice) => !known || known.has(notice.key))) {
      this.dismiss(key);
      this.#report("read", key, eventId);
    }
  }

  /** The person closed or opened it. @param {string} key @param {"dismissed" | "read"} state */
  #acknowledge(key, state) {
    const toast = this.#shown.get(key)?.toast;
    this.dismiss(key);
    this.#list.markRead((notice) => notice.key === key);
    if (toast?.kind === "progress") {
      this.#muted.add(key);
      const [oldest] = this.#muted;
      if (this.#muted.size > MAX_MUTED && oldest !== undefined) this.#muted.delete(oldest);
    }
    this.#report(state, key, toast?.eventId);
    if (state === "read") toast?.open?.();
  }

  /** @param {ToastState} state @param {string} key @param {string | undefined} eventId */
  #report(state, key, eventId) {
    if (eventId !== undefined) this.#receipt(eventId, state);
    this.onState(state, key, eventId);
  }

  /** @param {Toast} toast */
  #keyOf({ key, jobId }) {
    return key ?? (isJobId(jobId) ? `job-${jobId}` : `toast-${++this.#count}-${Date.now().toString(36)}`);
  }

  /** Puts the stack into the page, as soon as there is one. */
  #place() {
    if (this.#root?.host.isConnected) return;
    const host = this.#container ?? document.querySelector("belfry-toasts") ?? (document.body && document.createElement("belfry-toasts"));
    if (!host) return document.addEventListener("DOMContentLoaded", () => this.#place(), { once: true });
    if (!host.isConnected) document.body.append(host);
    this.#root = shadowOf(/** @type {HTMLElement} */ (host));
    this.#root.append(this.#stack);
  }

  #listen() {
    const stack = this.#stack;
    stack.addEventListener("pointerover", () => this.#attend({ hovered: true }));
    stack.addEventListener("pointerleave", () => this.#attend({ hovered: false }));
    stack.addEventListener("focusin", () => this.#attend({ focused: true }));
    stack.addEventListener("focusout", (event) => {
      this.#attend({ focused: stack.contains(/** @type {Node | null} */ (event.relatedTarget)) });
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      const focused = [...this.#shown].find(([, shown]) => shown.element.contains(this.#active()));
      const key = focused?.[0] ?? [...this.#shown.keys()].at(-1);
      if (key !== undefined) this.#acknowledge(key, "dismissed");
    });
    document.addEventListener("visibilitychange", () => {
      this.#attend({});
      for (const shown of this.#shown.values()) this.#ran(shown);
    });
    this.#attend({});
  }

  /** The element with the focus, if it is one of ours. */
  #active() {
    return this.#root?.activeElement ?? null;
  }

  /** @param {Shown} shown */
  #remove({ key, element, timer }) {
    clearTimeout(timer);
    // A keyboard user goes on to the next toast; a click does not leave a
    // focus behind that would hold the others.
    const byKeyboard = element.querySelector(":focus-visible") !== null;
    const others = [...this.#shown.values()].filter((shown) => shown.key !== key);
    this.#shown.delete(key);
    this.#leave(element);
    const next = byKeyboard ? /** @type {HTMLElement | null | undefined} */ (others.at(-1)?.element.querySelector(".toast-close")) : null;
    if (next) next.focus();
    else this.#attend({ focused: this.#stack.contains(this.#active()) });
    if (this.#shown.size === 0) this.#gone = 0;
    this.#sayMore();
  }

  /** @param {HTMLElement} element */
  #leave(element) {
    element.className = "toast-leaving";
    element.inert = true;
    element.removeAttribute("role");
    element.removeAttribute("aria-live");
    const moves = element.isConnected && document.visibilityState === "visible" && getComputedStyle(element).animationName !== "none";
    if (!moves) return element.remove();
    element.addEventListener("animationend", () => element.remove(), { once: true });
    setTimeout(() => element.remove(), LEAVING_MS);
  }

  #sayMore() {
    this.#more.hidden = this.#gone === 0;
    this.#more.textContent = `and ${this.#gone} more`;
  }

  #showMore() {
    const gone = this.notices.filter(({ key, unread }) => unread && !this.#shown.has(key)).slice(0, Math.min(this.#gone, MAX_VISIBLE));
    const left = this.#gone - gone.length;
    for (const notice of gone) this.#add(notice.key, notice);
    this.#gone = left;
    this.#sayMore();
  }

  /** @param {string} key @param {Toast} toast */
  #add(key, toast) {
    this.#place();
    while (this.#shown.size >= MAX_VISIBLE) {
      const all = [...this.#shown.values()];
      const free = all.find(({ element }) => !element.matches(":hover, :focus-within")) ?? all[0];
      if (!free) break;
      this.#gone += 1;
      this.#remove(free);
    }
    const element = makeToast({ open: () => this.#acknowledge(key, "read"), close: () => this.#acknowledge(key, "dismissed") });
    const shown = { key, toast, element, timer: undefined, leftMs: 0, startedAt: 0, ranFor: undefined };
    this.#shown.set(key, shown);
    // The live region has to be in the page before its text is, to be read out.
    this.#stack.insertBefore(element, this.#more);
    this.#update(shown, toast);
    this.#stack.scrollTop = this.#stack.scrollHeight;
  }

  /** @param {Shown} shown @param {Toast} toast */
  #update(shown, toast) {
    shown.toast = toast;
    drawToast(shown.element, toast);
    clearTimeout(shown.timer);
    shown.timer = undefined;
    shown.leftMs = toast.stayMs ?? this.#stayMs;
    this.#run(shown);
    this.#ran(shown);
  }

  /** Reports `displayed` once the toast was drawn in a page that can be seen. @param {Shown} shown */
  #ran(shown) {
    const { eventId } = shown.toast;
    const id = eventId ?? shown.key;
    if (shown.ranFor === id || document.visibilityState !== "visible") return;
    requestAnimationFrame(() => {
      const still = this.#shown.get(shown.key) === shown && shown.toast.eventId === eventId && shown.ranFor !== id;
      if (!still || document.visibilityState !== "visible") return;
      shown.ranFor = id;
      this.#report("displayed", shown.key, eventId);
    });
  }

  /** @param {Shown} shown */
  #run(shown) {
    if (this.#isStill() || !(shown.leftMs > 0)) return;
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
    this.#hovered = hovered && this.#shown.size > 0;
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

/** @param {unknown} kind @returns {kind is ToastKind} */
function isKind(kind) {
  return ["info", "success", "error", "warning", "progress"].includes(String(kind));
}

/** @type {ToastNotificationSystem | undefined} */
let ours;

registry.announce ??= (client, options) => void new EventToasts(client, options);
registry.toasts ??= () => (ours ??= new ToastNotificationSystem());

/**
 * Shows a toast in the page's toasts.
 *
 * @param {string} title
 * @param {string} [message]
 * @param {ToastKind} [type]
 * @param {number} [duration] in milliseconds; 5,000 by default
 */
export function showToast(title, message, type, duration) {
  return registry.toasts?.().show(title, message, type, duration);
}

publish({ ToastNotificationSystem, showToast });
