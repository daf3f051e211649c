// A list of what jobs make and that needs no picture: reports, transcriptions.
//
// Promise: as for documents: what has ended never looks pending again, whichever of
// list and event comes first; at most `MAX_ROWS` rows; text only, and only http links.

import { drawRow, MAX_ROWS, merged, onCancel, text } from "./dashboard-row.js";

/** Characters of an unfinished result that are shown: its end. */
const MAX_PARTIAL_CHARS = 280;

/** @typedef {import("./dashboard-row.js").WorkRecord & Record<string, any>} Work */
/** @typedef {{percent?: number, stage?: string, partial?: string}} Progress */
/** @typedef {{record: Work, element: HTMLElement, progress: Progress}} Row */

/**
 * What makes one kind different.
 *
 * @typedef {object} Look
 * @property {string} id the field that names a record
 * @property {(record: Work) => string} name
 * @property {(record: Work) => string} facts what is to be said of one that is ready
 * @property {(element: HTMLElement, record: Work) => void} draw the rest of its row
 */

/** Draws the records of one kind into a list element. */
export class WorkList {
  /** Oldest first; @type {Map<string, Row>} */
  #rows = new Map();
  #parts;
  #look;
  #cancel;

  /**
   * @param {{list: HTMLElement, empty: HTMLElement, template: HTMLTemplateElement}} parts
   * @param {Look} look
   * @param {import("./dashboard-row.js").Cancel} cancel
   */
  constructor(parts, look, cancel) {
    this.#parts = parts;
    this.#look = look;
    this.#cancel = cancel;
  }

  /**
   * What the processors list, newest first. Rows that are not in it stay if they
   * are pending: the list may be older than their event.
   *
   * @param {Work[]} records
   */
  load(records) {
    const listed = records.slice(0, MAX_ROWS).reverse();
    const ids = new Set(listed.map((record) => record[this.#look.id]));
    for (const [id, row] of this.#rows) {
      if (!ids.has(id) && row.record.status !== "pending") this.#remove(id);
    }
    for (const record of listed) this.put(record);
    this.#sort();
  }

  /** Adds to what is known of a record. @param {Work} record */
  put(record) {
    const id = record[this.#look.id];
    if (typeof id !== "string" || id === "") return;
    const row = this.#rows.get(id) ?? this.#add(id, record);
    row.record = merged(row.record, record);
    this.#draw(row);
  }

  /** Its job was silent and now is not. @param {string} id */
  revive(id) {
    const row = this.#rows.get(id);
    if (row?.record.status !== "stalled") return;
    row.record = { ...row.record, status: "pending" };
    this.#draw(row);
  }

  /** @param {string} id @param {Progress} progress */
  progress(id, progress) {
    const row = this.#rows.get(id);
    if (!row || row.record.status !== "pending") return;
    row.progress = { ...progress, partial: progress.partial ? progress.partial.slice(-MAX_PARTIAL_CHARS) : row.progress.partial };
    this.#draw(row);
  }

  /** Brings a row before the person's eyes, and the focus to it. @param {string} id */
  reveal(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    row.element.scrollIntoView({ block: "nearest" });
    const link = row.element.querySelector("a[href]:not([hidden])");
    (/** @type {HTMLElement | null} */ (link) ?? row.element).focus({ preventScroll: true });
  }

  /** @param {string} id @returns {Work | undefined} */
  get(id) {
    return this.#rows.get(id)?.record;
  }

  /** @param {string} jobId @returns {string | undefined} the newest record that the job works on */
  idOfJob(jobId) {
    return [...this.#rows].findLast(([, { record }]) => record.jobId === jobId)?.[0];
  }

  /** @param {string} id */
  nameOf(id) {
    const record = this.get(id);
    return record && this.#look.name(record);
  }

  /** @param {string} id @param {Work} record @returns {Row} */
  #add(id, record) {
    const element = /** @type {HTMLElement} */ (this.#parts.template.content.cloneNode(true)).querySelector("li");
    if (!element) throw new Error("the row's template has no `li`");
    element.dataset.id = id;
    element.tabIndex = -1;
    /** @type {Row} */
    const row = { record, element, progress: {} };
    this.#rows.set(id, row);
    onCancel(element, () => row.record, this.#cancel);
    this.#parts.list.prepend(element);
    const [oldest] = this.#rows.keys();
    if (this.#rows.size > MAX_ROWS && oldest !== undefined) this.#remove(oldest);
    this.#parts.empty.hidden = true;
    return row;
  }

  /** @param {string} id */
  #remove(id) {
    this.#rows.get(id)?.element.remove();
    this.#rows.delete(id);
    this.#parts.empty.hidden = this.#rows.size > 0;
  }

  /** Newest first. What stands right is not moved: it would lose the focus. */
  #sort() {
    const at = (/** @type {Row} */ row) => Date.parse(row.record.createdAt ?? "") || 0;
    const wanted = [...this.#rows.values()].sort((a, b) => at(b) - at(a));
    wanted.forEach(({ element }, place) => {
      const there = this.#parts.list.children[place];
      if (there !== element) this.#parts.list.insertBefore(element, there ?? null);
    });
  }

  /** @param {Row} row */
  #draw({ element, record, progress }) {
    const partial = record.status === "pending" && progress.partial;
    drawRow(element, record, progress, { name: this.#look.name(record), facts: this.#look.facts(record) });
    text(element, ".doc-partial", partial ? `… ${partial}` : "");
    this.#look.draw(element, record);
  }
}
