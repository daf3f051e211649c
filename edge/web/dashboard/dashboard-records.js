// A list of job results without a thumbnail: reports, transcriptions.
//
// Promise: as for documents: what has ended never looks pending again, whichever of
// list and event comes first; at most `MAX_ROWS` rows; text only, and only http links.

import { drawCount, drawRow, MAX_ROWS, merged, onCancel, text } from "./dashboard-row.js";

/** Characters of an unfinished result that are shown: its end. */
const MAX_PARTIAL_CHARS = 280;

/** @typedef {import("./dashboard-row.js").JobRecord & Record<string, any>} ListRecord */
/** @typedef {{percent?: number, stage?: string, partial?: string}} Progress */
/** @typedef {{record: ListRecord, element: HTMLElement, progress: Progress}} Row */

/**
 * What makes one kind different.
 *
 * @typedef {object} RecordView
 * @property {string} id the field that names a record
 * @property {(record: ListRecord) => string} name
 * @property {(record: ListRecord) => string} facts what is to be said of one that is ready
 * @property {(element: HTMLElement, record: ListRecord) => void} draw the rest of its row
 */

/** Draws the records of one kind into a list element. */
export class RecordList {
  /** Oldest first; @type {Map<string, Row>} */
  #rows = new Map();
  #elements;
  #view;
  #cancel;

  /**
   * @param {import("./dashboard-row.js").ListElements} elements
   * @param {RecordView} view
   * @param {import("./dashboard-row.js").Cancel} cancel
   */
  constructor(elements, view, cancel) {
    this.#elements = elements;
    /** The field that names a record. */
    this.idField = view.id;
    this.#view = view;
    this.#cancel = cancel;
  }

  /**
   * What the processors list, newest first. Rows that are not in it stay if they
   * are pending: the list may be older than their event.
   *
   * @param {ListRecord[]} records
   */
  load(records) {
    const listed = records.slice(0, MAX_ROWS).reverse();
    const ids = new Set(listed.map((record) => record[this.#view.id]));
    for (const [id, row] of this.#rows) {
      if (!ids.has(id) && row.record.status !== "pending") this.#remove(id);
    }
    for (const record of listed) this.put(record);
    this.#sort();
  }

  /** Adds to what is known of a record. @param {ListRecord} record */
  put(record) {
    const id = record[this.#view.id];
    if (typeof id !== "string" || id === "") return;
    const row = this.#rows.get(id) ?? this.#add(id, record);
    row.record = merged(row.record, record);
    this.#draw(row);
  }

  /** Its job reports again. @param {string} id */
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

  /** @param {string} id @returns {ListRecord | undefined} */
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
    return record && this.#view.name(record);
  }

  /** @param {string} id @param {ListRecord} record @returns {Row} */
  #add(id, record) {
    const element = /** @type {HTMLElement} */ (this.#elements.template.content.cloneNode(true)).querySelector("li");
    if (!element) throw new Error("the row's template has no `li`");
    element.dataset.id = id;
    element.tabIndex = -1;
    /** @type {Row} */
    const row = { record, element, progress: {} };
    this.#rows.set(id, row);
    onCancel(element, () => row.record, this.#cancel);
    this.#elements.list.prepend(element);
    const [oldest] = this.#rows.keys();
    if (this.#rows.size > MAX_ROWS && oldest !== undefined) this.#remove(oldest);
    drawCount(this.#elements, this.#rows.size);
    return row;
  }

  /** @param {string} id */
  #remove(id) {
    this.#rows.get(id)?.element.remove();
    this.#rows.delete(id);
    drawCount(this.#elements, this.#rows.size);
  }

  /** Newest first. An element in its place is not moved: it would lose the focus. */
  #sort() {
    const at = (/** @type {Row} */ row) => Date.parse(row.record.createdAt ?? "") || 0;
    const wanted = [...this.#rows.values()].sort((a, b) => at(b) - at(a));
    wanted.forEach(({ element }, place) => {
      const there = this.#elements.list.children[place];
      if (there !== element) this.#elements.list.insertBefore(element, there ?? null);
    });
  }

  /** @param {Row} row */
  #draw({ element, record, progress }) {
    const partial = record.status === "pending" && progress.partial;
    drawRow(element, record, progress, { name: this.#view.name(record), facts: this.#view.facts(record) });
    text(element, ".doc-partial", partial ? `… ${partial}` : "");
    this.#view.draw(element, record);
  }
}
