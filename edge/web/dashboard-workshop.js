// The sections for reports and for transcriptions: a form each, and what became of
// what was asked for.
//
// Promise: what is sent is what the form shows; whatever fails is said where it was
// asked for.

import { WorkList } from "./dashboard-works.js";

/** Pictures that a report takes along. */
const MAX_PICTURES = 6;

/** @typedef {import("./dashboard-upload.js").Processors} Processors */
/** @typedef {import("./dashboard-works.js").Work} Work */

/** A report that says what one is for. */
const SAMPLE = {
  title: "Bell rope torn at the noon ringing",
  reference: "INC-2031",
  reporter: "The warden",
  location: "North tower, second floor",
  severity: "high",
  summary: "The rope of the second bell tore at 12:04 while the bells were rung for noon.\n\nNobody was hurt. The bell came to rest by itself.",
  rows: "12:00 | The ringing begins | the ringers\n12:04 | The rope tears above the guide | second bell\n12:06 | The tower is closed | the warden",
  closing: "The rope is replaced before Sunday. Until then the second bell stays silent.",
};

/**
 * @typedef {object} Parts
 * @property {(id: string) => any} byId
 * @property {Processors} processors
 * @property {() => {documentId: string}[]} pictures those that are ready, newest first
 */

/** The two sections. */
export class Workshop {
  #byId;
  #processors;
  #pictures;
  #reports;
  #recordings;

  /** @param {Parts} parts */
  constructor({ byId, processors, pictures }) {
    this.#byId = byId;
    this.#processors = processors;
    this.#pictures = pictures;
    const template = byId("work-row");
    const cancel = (/** @type {string} */ note) => (/** @type {Work} */ work) => void this.#cancel(work, note);
    this.#reports = new WorkList(byId("reports"), byId("reports-empty"), template, cancel("reports-note"));
    this.#recordings = new WorkList(byId("recordings"), byId("recordings-empty"), template, cancel("recordings-note"));
    byId("report-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
      event.preventDefault();
      void this.#report();
    });
    byId("report-sample").addEventListener("click", () => this.#fill());
    const file = byId("recording-file");
    byId("recording-choose").addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const [recording] = file.files;
      if (recording) void this.#transcribe(recording);
      file.value = "";
    });
    byId("recording-sample").addEventListener("click", () => void this.#sample());
  }

  /** Loads both lists; says on the page what fails. */
  async reload() {
    await this.#say("reports-note", async () => this.#reports.load((await this.#processors.reports()).map(reportOf)));
    await this.#say("recordings-note", async () => this.#recordings.load((await this.#processors.transcriptions()).map(recordingOf)));
  }

  /**
   * An event, if it is about a report or a transcription: how to bring it before the
   * person's eyes.
   *
   * @param {any} event
   * @returns {(() => void) | undefined}
   */
  take(event) {
    const [list, of] = event.reportId ? [this.#reports, reportOf] : event.transcriptionId ? [this.#recordings, recordingOf] : [];
    if (!list || !of) return undefined;
    const work = of(event);
    const stalled = event.errorCode === "stalled" && { status: "stalled" };
    list.put({ ...work, ...stalled, ...(!list.get(work.id) && { createdAt: event.timestamp }) });
    return () => list.reveal(work.id);
  }

  /** @param {any} event */
  progress(event) {
    for (const list of [this.#reports, this.#recordings]) if (list.get(event.resourceId)) list.progress(event.resourceId, event);
  }

  #fill() {
    for (const [field, value] of Object.entries(SAMPLE)) this.#byId(`report-${field}`).value = value;
    this.#byId("report-title").focus();
  }

  async #report() {
    const value = (/** @type {string} */ field) => String(this.#byId(`report-${field}`).value).trim();
    const pictures = this.#byId("report-pictures").checked ? this.#pictures().slice(0, MAX_PICTURES) : [];
    const asked = {
      title: value("title"),
      reference: value("reference"),
      reporter: value("reporter"),
      occurredAt: new Date().toISOString(),
      location: value("location"),
      severity: value("severity"),
      summary: value("summary"),
      rows: rowsOf(value("rows")),
      images: pictures.map(({ documentId }) => ({ id: documentId })),
      closing: value("closing"),
    };
    await this.#say("reports-note", async () => {
      const { reportId, jobId } = await this.#processors.report(asked);
      this.#reports.put({ id: reportId, jobId, name: asked.title, status: "pending", createdAt: new Date().toISOString() });
    });
  }

  async #sample() {
    await this.#say("recordings-note", async () => {
      const sample = await fetch("/web/sample.mp3");
      if (!sample.ok) throw new Error("The sample recording could not be loaded.");
      await this.#send(new File([await sample.blob()], "sample.mp3", { type: "audio/mpeg" }));
    });
  }

  /** @param {File} file */
  async #transcribe(file) {
    await this.#say("recordings-note", () => this.#send(file));
  }

  /** @param {File} file */
  async #send(file) {
    const language = this.#byId("recording-language").value;
    const { transcriptionId, jobId } = await this.#processors.transcribe(file, language);
    this.#recordings.put({ id: transcriptionId, jobId, name: file.name, status: "pending", createdAt: new Date().toISOString() });
  }

  /** @param {Work} work @param {string} note */
  async #cancel(work, note) {
    if (work.jobId) await this.#say(note, () => this.#processors.cancel(String(work.jobId)));
  }

  /** Does something, and says what fails. @param {string} note @param {() => Promise<unknown>} action */
  async #say(note, action) {
    const place = this.#byId(note);
    try {
      await action();
      place.textContent = "";
    } catch (cause) {
      place.textContent = cause instanceof Error ? cause.message : String(cause);
    }
  }
}

/** `12:00 | what | who`, a line each. @param {string} lines */
export function rowsOf(lines) {
  const rows = lines.split("\n").filter((line) => line.trim() !== "");
  return rows.map((line) => {
    const [first = "", second, ...rest] = line.split("|").map((part) => part.trim());
    if (second === undefined) return { time: "", what: first, who: "" };
    return { time: first, what: second, who: rest.join(" | ") };
  });
}

/** @param {number} ms */
function minutes(ms) {
  const seconds = Math.round(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} min`;
}

/** A record or an event as a row. @param {any} told @returns {Work} */
function reportOf(told) {
  const { pages, bytes } = told;
  const size = typeof bytes === "number" ? `, ${Math.max(1, Math.round(bytes / 1024))} KB` : "";
  const result = pages ? `${pages} ${pages === 1 ? "page" : "pages"}${size}` : undefined;
  return { ...common(told), id: told.reportId, name: told.title, url: told.signedUrl, result };
}

/** @param {any} told @returns {Work} */
function recordingOf(told) {
  const { durationMs, language, segments, text } = told;
  const done = told.status === "completed";
  const parts = [typeof durationMs === "number" && minutes(durationMs), language, Array.isArray(segments) && `${segments.length} segments`];
  const nothing = done && text === "" && "Nothing was said in it.";
  const result = done ? [...parts, nothing].filter(Boolean).join(", ") : undefined;
  return { ...common(told), id: told.transcriptionId, result, text: done ? text : undefined };
}

/** @param {any} told */
function common({ jobId, status, createdAt, processingDuration, error, errorCode }) {
  return { jobId, status, createdAt, processingDuration, error, errorCode };
}
