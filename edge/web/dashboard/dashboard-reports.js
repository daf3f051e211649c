// Incident reports: the form that requests one, and the rows of the results.
//
// Promise: what the processors would refuse for its length cannot be typed; a form
// that was refused keeps what was written.

import { text, webUrl } from "./dashboard-row.js";
import { SAMPLE_REPORT } from "./dashboard-samples.js";
import { typeName } from "../client/src/announcements.js";
import { RecordList } from "./dashboard-records.js";

/** Rows of the table in the form. */
const MAX_TABLE_ROWS = 20;
/** Pictures that can be chosen, the newest; a report takes 20. */
const MAX_PICTURES = 12;
/** Rows that an empty form begins with. */
const FIRST_ROWS = 2;
const COLUMNS = /** @type {const} */ (["time", "what", "who"]);
const LINES = /** @type {const} */ (["title", "reference", "reporter", "location", "severity", "summary", "closing"]);

/**
 * @typedef {object} Report
 * @property {string} title
 * @property {string} reference
 * @property {string} reporter
 * @property {string} location
 * @property {string} severity
 * @property {string} summary
 * @property {string} closing
 * @property {string} occurredAt RFC 3339
 * @property {{time: string, what: string, who: string}[]} rows
 * @property {{id: string, caption: string}[]} images
 */

/**
 * @typedef {object} ReportElements
 * @property {HTMLElement} list
 * @property {HTMLElement} empty
 * @property {HTMLElement} count
 * @property {HTMLTemplateElement} template
 * @property {HTMLFormElement} form
 * @property {HTMLElement} rows the table's body
 * @property {HTMLTemplateElement} rowTemplate a row of it
 * @property {HTMLElement} pictures
 * @property {HTMLElement} addRow
 * @property {HTMLElement} sample
 * @property {HTMLElement} note
 */

/** @type {import("./dashboard-records.js").RecordView} */
const VIEW = {
  id: "reportId",
  name: ({ title }) => title || "Report",
  facts: ({ pages, bytes }) => [pages && `${pages} ${pages === 1 ? "page" : "pages"}`, size(bytes)].filter(Boolean).join(" · "),
  draw(element, record) {
    const link = /** @type {HTMLAnchorElement | null} */ (element.querySelector("a.open"));
    if (!link) return;
    const url = record.status === "completed" ? webUrl(record.signedUrl) : null;
    link.hidden = url === null;
    if (url === null) link.removeAttribute("href");
    else link.href = url;
    link.setAttribute("aria-label", `Open the PDF: ${VIEW.name(record)}`);
  },
};

/** @param {unknown} bytes */
function size(bytes) {
  if (typeof bytes !== "number") return "";
  return bytes < 1_000_000 ? `${Math.ceil(bytes / 1_000)} kB` : `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/** A moment as `datetime-local` wants it, in this machine's zone. @param {Date} at */
function localMinute(at) {
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 16);
}

/** The section for reports. */
export class ReportsPanel {
  list;
  #elements;
  #send;
  /** What the choice of pictures was drawn from. */
  #offered = "";

  /**
   * @param {ReportElements} elements
   * @param {(report: Report) => Promise<void>} send throws what a person should know
   * @param {import("./dashboard-row.js").Cancel} cancel
   */
  constructor(elements, send, cancel) {
    this.#elements = elements;
    this.#send = send;
    this.list = new RecordList(elements, VIEW, cancel);
    for (let n = 0; n < FIRST_ROWS; n += 1) this.#addRow();
    this.#field("occurredAt").value = localMinute(new Date());
    elements.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#submit();
    });
    elements.addRow.addEventListener("click", () => this.#addRow()?.querySelector("input")?.focus());
    elements.sample.addEventListener("click", () => this.#fill(SAMPLE_REPORT));
  }

  /**
   * The pictures that a report may show; what was chosen stays chosen.
   *
   * @param {import("./dashboard-upload.js").DocumentRecord[]} documents
   */
  offer(documents) {
    const offered = documents.slice(0, MAX_PICTURES);
    const key = offered.map(({ documentId }) => documentId).join(" ");
    if (key === this.#offered) return;
    this.#offered = key;
    const chosen = new Set(this.#chosen().map(({ value }) => value));
    const labels = offered.map((record, place) => this.#choice(record, place, chosen.has(record.documentId)));
    const none = Object.assign(document.createElement("p"), { className: "hint", textContent: "Processed pictures can be attached here." });
    this.#elements.pictures.replaceChildren(...(labels.length > 0 ? labels : [none]));
  }

  /** @param {import("./dashboard-upload.js").DocumentRecord} record @param {number} place @param {boolean} checked */
  #choice({ documentId, documentType, thumbnailUrl }, place, checked) {
    const caption = typeName(documentType);
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "image", value: documentId, checked });
    box.dataset.caption = caption;
    const label = document.createElement("label");
    label.className = "picture";
    const source = webUrl(thumbnailUrl);
    if (source) label.append(Object.assign(document.createElement("img"), { src: source, alt: "", width: 44, height: 44, decoding: "async" }));
    label.append(box, Object.assign(document.createElement("span"), { textContent: `${caption} ${place + 1}` }));
    return label;
  }

  /** @returns {HTMLInputElement[]} */
  #chosen() {
    return [...this.#elements.pictures.querySelectorAll("input")].filter(({ checked }) => checked);
  }

  /** @param {string} name @returns {HTMLInputElement} */
  #field(name) {
    const field = this.#elements.form.elements.namedItem(name);
    if (field === null) throw new Error(`the form of reports has no \`${name}\``);
    return /** @type {HTMLInputElement} */ (field);
  }

  /** @returns {Element | null} null if there are as many as there may be */
  #addRow() {
    const { rows, rowTemplate, addRow } = this.#elements;
    if (rows.children.length >= MAX_TABLE_ROWS) return null;
    rows.append(rowTemplate.content.cloneNode(true));
    const row = rows.lastElementChild;
    row?.querySelectorAll("input").forEach((input) => input.setAttribute("aria-label", `${input.getAttribute("aria-label")}, row ${rows.children.length}`));
    addRow.hidden = rows.children.length >= MAX_TABLE_ROWS;
    return row;
  }

  /** @param {typeof SAMPLE_REPORT} sample */
  #fill(sample) {
    for (const name of LINES) this.#field(name).value = sample[name];
    this.#field("occurredAt").value = localMinute(new Date());
    while (this.#elements.rows.children.length < sample.rows.length) if (this.#addRow() === null) break;
    [...this.#elements.rows.children].forEach((row, place) => {
      for (const name of COLUMNS) cell(row, name).value = sample.rows[place]?.[name] ?? "";
    });
    this.#elements.note.textContent = "Filled in. Change what you like, then create the report.";
    this.#elements.note.dataset.kind = "info";
  }

  /** @returns {Report} */
  #read() {
    const lines = Object.fromEntries(LINES.map((name) => [name, this.#field(name).value.trim()]));
    const rows = [...this.#elements.rows.children].map((row) => ({ time: cell(row, "time").value.trim(), what: cell(row, "what").value.trim(), who: cell(row, "who").value.trim() }));
    const images = this.#chosen().map((box) => ({ id: box.value, caption: box.dataset.caption ?? "" }));
    const occurredAt = new Date(this.#field("occurredAt").value).toISOString();
    // The form has them all.
    const all = /** @type {Report} */ (/** @type {unknown} */ (lines));
    return { ...all, occurredAt, rows: rows.filter(({ time, what, who }) => time || what || who), images };
  }

  async #submit() {
    const { form, note } = this.#elements;
    const button = form.querySelector("button.primary");
    if (button?.getAttribute("aria-disabled") === "true") return;
    button?.setAttribute("aria-disabled", "true");
    note.textContent = "";
    try {
      await this.#send(this.#read());
      note.dataset.kind = "info";
      text(form, ".note", "Requested. Its row is below.");
    } catch (cause) {
      note.dataset.kind = "error";
      text(form, ".note", cause instanceof Error ? cause.message : String(cause));
    } finally {
      button?.removeAttribute("aria-disabled");
    }
  }
}

/** @param {Element} row @param {string} name @returns {HTMLInputElement} */
function cell(row, name) {
  const input = row.querySelector(`input[name="${name}"]`);
  if (input === null) throw new Error(`a row of the table has no \`${name}\``);
  return /** @type {HTMLInputElement} */ (input);
}
