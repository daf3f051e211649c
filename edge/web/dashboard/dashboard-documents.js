// The list of documents: one row each, drawn from what the processors list and
// events.
//
// Promise: a document that is ready stays so, and one that has ended never looks
// pending again, whichever of list and event comes first; at most `MAX_ROWS` rows;
// text only, and only http links.

import { drawCount, drawRow, MAX_ROWS, merged, onCancel, webUrl } from "./dashboard-row.js";
import { typeName } from "../client/src/announcements.js";

/** @typedef {import("./dashboard-upload.js").DocumentRecord} DocumentRecord */

/**
 * @typedef {object} Row
 * @property {DocumentRecord} record
 * @property {HTMLElement} element
 * @property {string | null} preview an object URL, revoked when the thumbnail is there
 * @property {{percent?: number, stage?: string}} progress
 */

/** Draws the documents into a list element. */
export class DocumentList {
  /** The field that names a document. */
  idField = "documentId";
  /** @type {Map<string, Row>} */
  #rows = new Map();
  #elements;
  #onBrokenThumbnail;
  #cancel;

  /**
   * @param {import("./dashboard-row.js").ListElements} elements
   * @param {() => void} onBrokenThumbnail a signed URL has probably expired
   * @param {import("./dashboard-row.js").Cancel} cancel
   */
  constructor(elements, onBrokenThumbnail, cancel) {
    this.#elements = elements;
    this.#onBrokenThumbnail = onBrokenThumbnail;
    this.#cancel = cancel;
  }

  /**
   * What the processors list, newest first. Rows that are not in it stay if they
   * are pending: the list may be older than their event.
   *
   * @param {DocumentRecord[]} records
   */
  load(records) {
    const listed = records.slice(0, MAX_ROWS);
    const ids = new Set(listed.map((record) => record.documentId));
    for (const [id, row] of this.#rows) {
      if (!ids.has(id) && row.record.status !== "pending") this.#remove(id);
    }
    for (const record of [...listed].reverse()) this.put(record);
    this.#sort(listed.map((record) => record.documentId));
  }

  /**
   * Rows that the list does not know yet are the newest. An element in
   * its place is not moved: it would lose the focus.
   *
   * @param {string[]} ids
   */
  #sort(ids) {
    const known = new Set(ids);
    const fresh = [...this.#rows.keys()].filter((id) => !known.has(id)).reverse();
    const wanted = [...fresh, ...ids].flatMap((id) => this.#rows.get(id)?.element ?? []);
    wanted.forEach((element, place) => {
      const there = this.#elements.list.children[place];
      if (there !== element) this.#elements.list.insertBefore(element, there ?? null);
    });
  }

  /**
   * Adds to what is known of a document.
   *
   * @param {DocumentRecord} record
   */
  put(record) {
    if (typeof record.documentId !== "string" || record.documentId === "") return;
    const row = this.#rows.get(record.documentId) ?? this.#add(record);
    row.record = merged(row.record, record);
    this.#draw(row);
  }

  /** Its job reports again. @param {string} documentId */
  revive(documentId) {
    const row = this.#rows.get(documentId);
    if (row?.record.status !== "stalled") return;
    row.record = { ...row.record, status: "pending" };
    this.#draw(row);
  }

  /**
   * What the person sees until the thumbnail is there.
   *
   * @param {string} documentId @param {Blob} file
   */
  preview(documentId, file) {
    const row = this.#rows.get(documentId);
    if (!row || row.preview || row.record.thumbnailUrl) return;
    row.preview = URL.createObjectURL(file);
    this.#draw(row);
  }

  /**
   * @param {string} documentId
   * @param {{percent?: number, stage?: string}} progress
   */
  progress(documentId, progress) {
    const row = this.#rows.get(documentId);
    if (!row || row.record.status !== "pending") return;
    row.progress = progress;
    this.#draw(row);
  }

  /** Brings a row before the person's eyes, and the focus to it. @param {string} documentId */
  reveal(documentId) {
    const row = this.#rows.get(documentId);
    if (!row) return;
    row.element.scrollIntoView({ block: "nearest" });
    const link = row.element.querySelector("a[href]");
    (/** @type {HTMLElement | null} */ (link) ?? row.element).focus({ preventScroll: true });
  }

  /** @param {string} documentId @returns {DocumentRecord | undefined} */
  get(documentId) {
    return this.#rows.get(documentId)?.record;
  }

  /** @param {string} jobId @returns {string | undefined} the newest document that the job works on */
  idOfJob(jobId) {
    return [...this.#rows].findLast(([, { record }]) => record.jobId === jobId)?.[0];
  }

  /** @param {string} documentId */
  nameOf(documentId) {
    const record = this.get(documentId);
    return record && typeName(record.documentType);
  }

  /** Those that can be shown elsewhere, newest first. @returns {DocumentRecord[]} */
  ready() {
    return [...this.#rows.values()].map(({ record }) => record).filter(({ status }) => status === "completed").sort(newestFirst);
  }

  /** @param {DocumentRecord} record @returns {Row} */
  #add(record) {
    const element = /** @type {HTMLElement} */ (this.#elements.template.content.cloneNode(true)).querySelector("li");
    if (!element) throw new Error("the row's template has no `li`");
    element.dataset.documentId = record.documentId;
    element.tabIndex = -1;
    element.querySelector("img")?.addEventListener("error", () => this.#thumbnailBroke(record.documentId));
    /** @type {Row} */
    const row = { record, element, preview: null, progress: {} };
    this.#rows.set(record.documentId, row);
    onCancel(element, () => row.record, this.#cancel);
    this.#elements.list.prepend(element);
    for (const id of this.#rows.keys()) {
      if (this.#rows.size <= MAX_ROWS) break;
      this.#remove(id);
    }
    drawCount(this.#elements, this.#rows.size);
    return row;
  }

  /** @param {string} id */
  #remove(id) {
    const row = this.#rows.get(id);
    if (!row) return;
    if (row.preview) URL.revokeObjectURL(row.preview);
    row.element.remove();
    this.#rows.delete(id);
    drawCount(this.#elements, this.#rows.size);
  }

  /** @param {string} id */
  #thumbnailBroke(id) {
    const row = this.#rows.get(id);
    const image = row?.element.querySelector("img");
    if (!row || !image) return;
    image.hidden = true;
    if (row.preview === null && row.record.thumbnailUrl) this.#onBrokenThumbnail();
  }

  /** @param {Row} row */
  #draw(row) {
    const { element, record } = row;
    const facts = record.width && record.height ? `${record.width} × ${record.height} px` : "";
    drawRow(element, record, row.progress, { name: typeName(record.documentType), facts });
    this.#drawPicture(row);
  }

  /** @param {Row} row */
  #drawPicture(row) {
    const { element, record } = row;
    const image = element.querySelector("img");
    const link = element.querySelector("a");
    const thumbnail = webUrl(record.thumbnailUrl);
    const source = thumbnail ?? (record.status === "failed" ? null : row.preview);
    if (image && source && image.getAttribute("src") !== source) {
      image.src = source;
      image.hidden = false;
    }
    if (image && !source) image.hidden = true;
    if (image) image.alt = `${typeName(record.documentType)}, thumbnail`;
    if (thumbnail && row.preview) {
      URL.revokeObjectURL(row.preview);
      row.preview = null;
    }
    const full = webUrl(record.signedUrl);
    if (link) {
      // Without an address it is no link, and a name would be of nothing.
      if (full) {
        link.href = full;
        link.setAttribute("aria-label", `Open ${typeName(record.documentType)} in full size`);
      } else {
        link.removeAttribute("href");
        link.removeAttribute("aria-label");
      }
    }
  }
}

/** @param {DocumentRecord} a @param {DocumentRecord} b */
function newestFirst(a, b) {
  return Date.parse(b.createdAt ?? "") - Date.parse(a.createdAt ?? "") || 0;
}
