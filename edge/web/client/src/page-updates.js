// What an event changes on an existing page: its lists, sections, rows and counts.
//
// Promise: the page's own functions are called together and at most once in
// `REFRESH_EVERY_MS`, the last change included; what they throw harms nothing else;
// attributes and text are set, never markup.

/** Between two refreshes, in milliseconds. */
const REFRESH_EVERY_MS = 1_000;
/** How long a section or row stays marked, in milliseconds. */
const MARKED_MS = 4_000;
/** The page's functions that load what it shows. */
const LOADERS = ["updateCounts", "loadImages", "loadReports", "loadTranscriptions"];
const CHANGED = "data-belfry-changed";

/** @typedef {"images" | "reports" | "transcriptions" | "updates"} Section */

/** The part of a page that an event is about. @param {any} event @returns {Section} */
export function sectionOf({ type }) {
  if (type.startsWith("image_")) return "images";
  if (type.startsWith("pdf_")) return "reports";
  return type.startsWith("transcription_") ? "transcriptions" : "updates";
}

/** Keeps one page up to date. */
export class PageUpdates {
  /** Sections that changed since the last refresh; @type {Set<Section>} */
  #changed = new Set();
  /** Marks that go, by element; @type {Map<Element, ReturnType<typeof setTimeout>>} */
  #marks = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #notBefore = 0;

  /** Something in the section is new: the page loads it again. @param {Section} section */
  refresh(section) {
    this.#changed.add(section);
    this.#timer ??= setTimeout(() => this.#run(), Math.max(0, this.#notBefore - performance.now()));
  }

  #run() {
    this.#timer = undefined;
    this.#notBefore = performance.now() + REFRESH_EVERY_MS;
    const sections = [...this.#changed];
    this.#changed.clear();
    const page = /** @type {any} */ (window);
    const loaders = LOADERS.filter((name) => typeof page[name] === "function");
    for (const name of loaders) void call(() => page[name]());
    if (loaders.length > 0) return;
    for (const section of sections) document.dispatchEvent(new CustomEvent("belfry:refresh", { bubbles: true, detail: { section, sections } }));
  }

  /** Marks the row that the event is about, and its section. @param {any} event */
  mark(event) {
    const section = sectionOf(event);
    const id = event.documentId ?? event.reportId ?? event.transcriptionId ?? event.resourceId;
    for (const element of document.querySelectorAll(`[data-belfry-section="${section}"]`)) {
      const row = typeof id === "string" ? rowOf(element, id) : undefined;
      this.#mark(element, event.type);
      if (row) this.#mark(row, event.type);
    }
  }

  /** @param {Element} element @param {string} type */
  #mark(element, type) {
    clearTimeout(this.#marks.get(element));
    element.setAttribute(CHANGED, type);
    const timer = setTimeout(() => {
      element.removeAttribute(CHANGED);
      this.#marks.delete(element);
    }, MARKED_MS);
    this.#marks.set(element, timer);
  }

  /** One more in the section. @param {Section} section */
  count(section) {
    for (const badge of document.querySelectorAll(`[data-belfry-count="${section}"]`)) {
      const next = (Number.parseInt(badge.textContent ?? "", 10) || 0) + 1;
      badge.textContent = String(next);
      if (badge instanceof HTMLElement) badge.hidden = false;
    }
  }

  /** The page goes. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [element, timer] of this.#marks) {
      clearTimeout(timer);
      element.removeAttribute(CHANGED);
    }
    this.#marks.clear();
  }
}

/** @param {Element} section @param {string} id */
function rowOf(section, id) {
  const quoted = CSS.escape(id);
  return section.querySelector(`[data-belfry-row="${quoted}"], [data-document-id="${quoted}"], [data-id="${quoted}"]`);
}

/** @param {() => unknown} loader */
async function call(loader) {
  try {
    await loader();
  } catch (cause) {
    console.error(cause);
  }
}
