// What one toast is made of.
//
// Promise: text only, never markup; equal text is left alone, or a screen reader
// would read it again.

/** Characters of a title or a text; more is cut. */
const MAX_CHARS = 300;
const SIGNS = { info: "i", success: "✓", error: "!", warning: "!", progress: "" };

/** @typedef {import("./toast-notifications.js").Toast} Toast */

/** @param {string} tag @param {string} className @param {string} [text] */
export function make(tag, className, text) {
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

/**
 * An empty toast. A click anywhere opens it, or dismisses it if there is nothing to open.
 *
 * @param {{open: () => void, close: () => void}} actions
 * @returns {HTMLElement}
 */
export function makeToast({ open, close }) {
  const element = make("div", "toast");
  element.setAttribute("aria-atomic", "true");
  element.setAttribute("part", "toast");
  const sign = make("span", "toast-sign");
  sign.setAttribute("aria-hidden", "true");
  const opener = make("button", "toast-open");
  opener.setAttribute("type", "button");
  const body = make("div", "toast-body");
  body.append(make("strong", "toast-title"), opener, make("span", "toast-text"));
  const closer = make("button", "toast-close", "×");
  closer.setAttribute("type", "button");
  element.append(sign, body, closer);
  element.addEventListener("click", (event) => {
    // Text that is being selected is no click.
    if (event.target !== closer && String(getSelection() ?? "") !== "") return;
    if (event.target === closer || opener.hidden) close();
    else open();
  });
  return element;
}

/** @param {HTMLElement} element @param {Toast} toast */
export function drawToast(element, toast) {
  element.dataset.kind = toast.kind;
  element.setAttribute("role", toast.kind === "error" ? "alert" : "status");
  element.setAttribute("aria-live", toast.kind === "error" ? "assertive" : "polite");
  write(element, ".toast-sign", SIGNS[toast.kind]);
  // The title is a button if there is something to open, and text if there is not.
  const opens = toast.eventId !== undefined || toast.open !== undefined;
  const title = cut(toast.title);
  write(element, ".toast-title", opens ? "" : title);
  write(element, ".toast-open", opens ? title : "");
  show(element, ".toast-title", !opens);
  show(element, ".toast-open", opens);
  write(element, ".toast-text", cut(toast.text));
  element.querySelector(".toast-close")?.setAttribute("aria-label", `Dismiss: ${title}`);
  drawBar(element, toast);
}

/** @param {HTMLElement} element @param {Toast} toast */
function drawBar(element, toast) {
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

/** @param {Element} element @param {string} selector @param {string} text */
function write(element, selector, text) {
  const target = element.querySelector(selector);
  if (target && target.textContent !== text) target.textContent = text;
}

/** @param {Element} element @param {string} selector @param {boolean} shown */
function show(element, selector, shown) {
  const target = /** @type {HTMLElement | null} */ (element.querySelector(selector));
  if (target) target.hidden = !shown;
}
