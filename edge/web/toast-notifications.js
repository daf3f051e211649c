// Toasts: short messages above the page, for eyes, keyboards and screen readers.
//
// Promise: text only, never markup; at most `MAX_VISIBLE` shown and `MAX_WAITING`
// waiting, what does not fit is counted and said; a job has one toast from its
// first progress to its end; nothing disappears under a pointer or the focus.

/** Toasts that are shown at once. */
const MAX_VISIBLE = 5;
/** Toasts that wait for room. The oldest gives way; errors last. */
const MAX_WAITING = 20;
/** Characters of a title or a text; more is cut. */
const MAX_CHARS = 300;
/** How long a toast stays by default, in milliseconds; 0: until dismissed or replaced. */
const STAYS_MS = { info: 6_000, success: 7_000, error: 15_000, progress: 0 };
/** What is left at least after somebody looked at it, in milliseconds. */
const LEAST_LEFT_MS = 1_500;
const SIGNS = { info: "i", success: "✓", error: "!", progress: "" };

/** @typedef {"info" | "success" | "error" | "progress"} ToastKind */

/**
 * @typedef {object} Toast
 * @property {ToastKind} kind
 * @property {string} title
 * @property {string} [text]
 * @property {string} [jobId] a later toast with the same id takes its place
 * @property {number} [percent] 0 to 100, for `progress`
 * @property {number} [stayMs] overrides the default of its kind
 */

/**
 * @typedef {object} Shown
 * @property {string} key
 * @property {Toast} toast
 * @property {HTMLElement} element
 * @property {ReturnType<typeof setTimeout> | undefined} timer
 * @property {number} leftMs
 * @property {number} startedAt
 */

/** @param {string} tag @param {string} className @param {string} [text] */
function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** @param {string | undefined} text */
function cut(text) {
  const whole = text ?? "";
  return whole.length > MAX_CHARS ? `${whole.slice(0, MAX_CHARS - 1)}…` : whole;
}

/** Shows toasts in one place of the page. */
export class ToastNotifications {
  /** By key, oldest first; @type {Map<string, Shown>} */
  #shown = new Map();
  /** @type {{key: string, toast: Toast}[]} */
  #waiting = [];
  #dropped = 0;
  #count = 0;
  #hovered = false;
  #focused = false;
  #list;
  #more;

  /** @param {HTMLElement} container an empty element that stays in the page */
  constructor(container) {
    container.classList.add("toasts");
    container.setAttribute("role", "region");
    container.setAttribute("aria-label", "Notifications");
    this.#list = make("ol", "toast-list");
    this.#more = make("p", "toast-more");
    this.#more.setAttribute("role", "status");
    container.append(this.#list, this.#more);
    container.addEventListener("pointerenter", () => this.#attend(true, this.#focused));
    container.addEventListener("pointerleave", () => this.#attend(false, this.#focused));
    container.addEventListener("focusin", () => this.#attend(this.#hovered, true));
    container.addEventListener("focusout", (event) => {
      this.#attend(this.#hovered, container.contains(/** @type {Node | null} */ (event.relatedTarget)));
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      const focused = [...this.#shown].find(([, shown]) => shown.element.contains(document.activeElement));
      const key = focused?.[0] ?? [...this.#shown.keys()].at(-1);
      if (key !== undefined) this.dismiss(key);
    });
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
    const key = toast.jobId === undefined ? `toast-${++this.#count}` : `job-${toast.jobId}`;
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

  /** @param {string} key what `show` returned */
  dismiss(key) {
    this.#waiting = this.#waiting.filter((entry) => entry.key !== key);
    const shown = this.#shown.get(key);
    if (shown) {
      clearTimeout(shown.timer);
      // Whoever works by keyboard goes on to the next toast; a click does not
      // leave a focus behind that would hold the others.
      const byKeyboard = shown.element.querySelector(":focus-visible") !== null;
      const neighbour = shown.element.nextElementSibling ?? shown.element.previousElementSibling;
      this.#shown.delete(key);
      shown.element.remove();
      const next = byKeyboard ? neighbour?.querySelector("button") : null;
      if (next) next.focus();
      else this.#attend(this.#hovered, this.#list.contains(document.activeElement));
    }
    while (this.#waiting.length > 0 && this.#shown.size < MAX_VISIBLE) {
      const next = this.#waiting.shift();
      if (next) this.#add(next.key, next.toast);
    }
    this.#sayMore();
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
    const element = make("li", "toast");
    element.setAttribute("aria-atomic", "true");
    const body = make("div", "toast-body");
    body.append(make("strong", "toast-title"), make("span", "toast-text"));
    const close = make("button", "toast-close", "×");
    close.setAttribute("type", "button");
    close.addEventListener("click", () => this.dismiss(key));
    element.append(make("span", "toast-sign"), body, close);
    const shown = { key, toast, element, timer: undefined, leftMs: 0, startedAt: 0 };
    this.#shown.set(key, shown);
    // The live region has to be in the page before its text is, to be read out.
    this.#list.append(element);
    this.#update(shown, toast);
  }

  /** @param {Shown} shown @param {Toast} toast */
  #update(shown, toast) {
    shown.toast = toast;
    const { element } = shown;
    element.dataset.kind = toast.kind;
    element.setAttribute("role", toast.kind === "error" ? "alert" : "status");
    element.setAttribute("aria-live", toast.kind === "error" ? "assertive" : "polite");
    write(element, ".toast-sign", SIGNS[toast.kind]);
    element.querySelector(".toast-sign")?.setAttribute("aria-hidden", "true");
    write(element, ".toast-title", cut(toast.title));
    write(element, ".toast-text", cut(toast.text));
    element.querySelector(".toast-close")?.setAttribute("aria-label", `Dismiss: ${cut(toast.title)}`);
    this.#drawBar(element, toast);
    clearTimeout(shown.timer);
    shown.timer = undefined;
    shown.leftMs = toast.stayMs ?? STAYS_MS[toast.kind];
    this.#run(shown);
  }

  /** @param {HTMLElement} element @param {Toast} toast */
  #drawBar(element, toast) {
    const old = element.querySelector("progress");
    if (toast.kind !== "progress") return old?.remove();
    const bar = /** @type {HTMLProgressElement} */ (old ?? make("progress", "toast-bar"));
    bar.max = 100;
    // Changes of a number would be read out all the time; the stage is enough.
    bar.setAttribute("aria-hidden", "true");
    if (toast.percent === undefined) bar.removeAttribute("value");
    else bar.value = Math.min(100, Math.max(0, toast.percent));
    if (!old) element.querySelector(".toast-body")?.append(bar);
  }

  /** @param {Shown} shown */
  #run(shown) {
    if (this.#hovered || this.#focused || shown.leftMs <= 0) return;
    shown.startedAt = performance.now();
    shown.timer = setTimeout(() => this.dismiss(shown.key), shown.leftMs);
  }

  /**
   * Somebody looks at the toasts, or no longer: time stands still meanwhile.
   *
   * @param {boolean} hovered @param {boolean} focused
   */
  #attend(hovered, focused) {
    const before = this.#hovered || this.#focused;
    this.#hovered = hovered;
    this.#focused = focused;
    if (before === (hovered || focused)) return;
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

/** Leaves equal text alone, or a live region would read it again. @param {Element} element @param {string} selector @param {string} text */
function write(element, selector, text) {
  const target = element.querySelector(selector);
  if (target && target.textContent !== text) target.textContent = text;
}

if (typeof window !== "undefined") Object.assign(window, { ToastNotifications });
