// A list of reports or of transcriptions: one row each, drawn from what the
// processors list and what events tell.
//
// Promise: a work that is ready stays so, and one that has ended never looks pending
// again; at most `MAX_ROWS` rows; text only, and only http links.

import { cancelButton, duration, mayBecome, STATUS_NAMES, text, webUrl } from "./dashboard-documents.js";
import { STALLED } from "./dashboard-words.js";

/** Rows that are kept, newest first: as many as the processors list. */
const MAX_ROWS = 100;
/** Characters of a text that a row shows. */
const MAX_TEXT_CHARS = 600;

/**
 * @typedef {object} Work
 * @property {string} id
 * @property {string} status
 * @property {string} [jobId]
 * @property {string} [name]
 * @property {string} [createdAt]
 * @property {number | null} [processingDuration]
 * @property {string} [result] what there is to know of it once it is ready
 * @property {string | null} [url] where its result is
 * @property {string} [text] its result, or what there is of it
 * @property {string | null} [error]
 * @property {string | null} [errorCode]
 */

/**
 * @typedef {object} Row
 * @property {Work} work
 * @property {HTMLElement} element
 * @property {{percent?: number, stage?: string}} progress
 */

/** Draws works into a list element. */
export class WorkList {
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #list;
  #empty;
  #template;
  #onCancel;

  /**
   * @param {HTMLElement} list
   * @param {HTMLElement} empty shown while there is nothing
   * @param {HTMLTemplateElement} template one row
   * @param {(work: Work) => void} onCancel somebody wants it no more
   */
  constructor(list, empty, template, onCancel) {
    this.#list = list;
    this.#empty = empty;
    this.#template = template;
    this.#onCancel = onCancel;
  }

  /** What the processors list, newest first. @param {Work[]} works */
  load(works) {
    const listed = works.slice(0, MAX_ROWS);
    const ids = new Set(listed.map((work) => work.id));
    // The list may be older than the event of a row that is pending.
    for (const [id, row] of this.#rows) if (!ids.has(id) && row.work.status !== "pending") this.#remove(id);
    for (const work of [...listed].reverse()) this.put(work);
  }

  /** Adds to what is known of a work. @param {Work} work */
  put(work) {
    const row = this.#rows.get(work.id) ?? this.#add(work);
    const told = Object.fromEntries(Object.entries(work).filter(([, value]) => value !== undefined && value !== null));
    if (!mayBecome(row.work.status, work.status)) for (const field of ["status", "error", "errorCode"]) delete told[field];
    row.work = { ...row.work, ...told };
    this.#draw(row);
  }

  /** @param {string} id @returns {Work | undefined} */
  get(id) {
    return this.#rows.get(id)?.work;
  }

  /**
   * @param {string} id
   * @param {{percent?: number, stage?: string, partial?: string}} progress
   */
  progress(id, { percent, stage, partial }) {
    const row = this.#rows.get(id);
    if (!row || !["pending", "stalled"].includes(row.work.status)) return;
    row.progress = { percent, stage };
    row.work = { ...row.work, status: "pending", ...(partial && { text: partial }) };
    this.#draw(row);
  }

  /** Brings a row before the person's eyes, and the focus to it. @param {string} id */
  reveal(id) {
    const element = this.#rows.get(id)?.element;
    element?.scrollIntoView({ block: "nearest" });
    const link = /** @type {HTMLElement | null | undefined} */ (element?.querySelector("a[href]"));
    (link ?? element)?.focus({ preventScroll: true });
  }

  /** @param {Work} work @returns {Row} */
  #add(work) {
    const element = /** @type {HTMLElement} */ (this.#template.content.cloneNode(true)).querySelector("li");
    if (!element) throw new Error("the row's template has no `li`");
    element.tabIndex = -1;
    /** @type {Row} */
    const row = { work, element, progress: {} };
    element.querySelector(".work-cancel")?.addEventListener("click", () => this.#onCancel(row.work));
    this.#rows.set(work.id, row);
    this.#list.prepend(element);
    for (const id of this.#rows.keys()) {
      if (this.#rows.size <= MAX_ROWS) break;
      this.#remove(id);
    }
    this.#empty.hidden = true;
    return row;
  }

  /** @param {string} id */
  #remove(id) {
    this.#rows.get(id)?.element.remove();
    this.#rows.delete(id);
    this.#empty.hidden = this.#rows.size > 0;
  }

  /** @param {Row} row */
  #draw({ element, work, progress }) {
    const pending = work.status === "pending";
    element.dataset.status = work.status;
    text(element, ".doc-name", work.name ?? "");
    text(element, ".doc-status", STATUS_NAMES.get(work.status) ?? work.status);
    text(element, ".doc-duration", duration(work.processingDuration));
    text(element, ".doc-detail", detail(work, progress));
    const words = work.text ?? "";
    const shown = words.length > MAX_TEXT_CHARS ? `… ${words.slice(-MAX_TEXT_CHARS)}` : words;
    text(element, ".work-text", work.status === "failed" ? "" : shown);
    const time = element.querySelector("time");
    const at = work.createdAt ? new Date(work.createdAt) : null;
    if (time && at && !Number.isNaN(at.getTime())) {
      time.dateTime = at.toISOString();
      time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    }
    const bar = element.querySelector("progress");
    if (bar) {
      bar.hidden = !pending;
      if (progress.percent !== undefined) bar.value = progress.percent;
      bar.setAttribute("aria-label", `Progress of ${work.name ?? "a job"}`);
    }
    cancelButton(element, pending && Boolean(work.jobId), work.name ?? "it");
    const link = /** @type {HTMLAnchorElement | null} */ (element.querySelector(".work-open"));
    const url = webUrl(work.url);
    if (link) {
      link.hidden = url === null || work.status !== "completed";
      if (url) link.href = url;
      link.setAttribute("aria-label", `Open ${work.name ?? "it"}`);
    }
  }
}

/** @param {Work} work @param {{stage?: string}} progress */
function detail(work, progress) {
  if (work.status === "stalled") return STALLED;
  if (work.status === "failed") return work.error || "It could not be made.";
  if (work.status === "pending") return progress.stage ? `${progress.stage} …` : "waiting for its turn …";
  return work.result ?? "";
}
