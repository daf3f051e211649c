// Recordings and their transcripts.
//
// Promise: what is shown of a transcript is bounded, however long it is.

import { text } from "./dashboard-row.js";
import { RecordList } from "./dashboard-records.js";

/** Characters of a transcript that are shown. */
const MAX_TEXT_CHARS = 4_000;
/** Segments that are shown. */
const MAX_SEGMENTS = 200;
/** A larger file is refused before it is sent; the processors decide about the rest. */
const MAX_FILE_BYTES = 200_000_000;

/**
 * @typedef {object} TranscriptionElements
 * @property {HTMLElement} list
 * @property {HTMLElement} empty
 * @property {HTMLElement} count
 * @property {HTMLTemplateElement} template
 * @property {HTMLInputElement} file
 * @property {HTMLElement} choose
 * @property {HTMLElement} sample
 * @property {HTMLSelectElement} language
 * @property {HTMLElement} note
 */

/** `0:07`. @param {unknown} ms */
export function clock(ms) {
  const seconds = Math.max(0, Math.floor((Number(ms) || 0) / 1_000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** The language's name in the person's own; the tag if there is none. @param {unknown} tag */
export function languageName(tag) {
  if (typeof tag !== "string" || tag === "") return "";
  try {
    return new Intl.DisplayNames([], { type: "language" }).of(tag) ?? tag;
  } catch {
    return tag;
  }
}

/** @type {import("./dashboard-records.js").RecordView} */
const VIEW = {
  id: "transcriptionId",
  name: ({ fileName }) => fileName || "Recording",
  facts: ({ durationMs, language }) => [durationMs !== undefined && `${clock(durationMs)} long`, languageName(language)].filter(Boolean).join(" · "),
  draw(element, record) {
    const ready = record.status === "completed";
    const transcript = ready ? String(record.text ?? "") : "";
    const quote = transcript.length > MAX_TEXT_CHARS ? `${transcript.slice(0, MAX_TEXT_CHARS)} …` : transcript;
    text(element, ".transcript", ready && transcript === "" ? "No speech was found." : quote);
    drawSegments(element, ready && Array.isArray(record.segments) ? record.segments : []);
  },
};

/** @param {HTMLElement} element @param {any[]} segments */
function drawSegments(element, segments) {
  const details = /** @type {HTMLDetailsElement | null} */ (element.querySelector("details.segments"));
  const list = details?.querySelector("ol");
  if (!details || !list) return;
  details.hidden = segments.length === 0;
  // Segments come once and do not change.
  if (list.childElementCount > 0 || segments.length === 0) return;
  const items = segments.slice(0, MAX_SEGMENTS).map((segment) => {
    const item = document.createElement("li");
    const when = Object.assign(document.createElement("span"), { className: "when", textContent: `${clock(segment?.startMs)}–${clock(segment?.endMs)}` });
    item.append(when, Object.assign(document.createElement("span"), { textContent: String(segment?.text ?? "").slice(0, MAX_TEXT_CHARS) }));
    return item;
  });
  const more = segments.length - items.length;
  if (more > 0) items.push(Object.assign(document.createElement("li"), { textContent: `and ${more} more` }));
  list.append(...items);
  text(details, "summary", segments.length === 1 ? "1 segment" : `${segments.length} segments`);
}

/** The section for transcriptions. */
export class TranscriptionsPanel {
  list;
  #elements;
  #sample;
  #send;

  /**
   * @param {TranscriptionElements} elements
   * @param {string} sample address of the sample recording
   * @param {(file: File, language: string) => Promise<void>} send throws what a person should know
   * @param {import("./dashboard-row.js").Cancel} cancel
   */
  constructor(elements, sample, send, cancel) {
    this.#elements = elements;
    this.#sample = sample;
    this.#send = send;
    this.list = new RecordList(elements, VIEW, cancel);
    const { file, choose } = elements;
    choose.addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      const [first] = file.files ?? [];
      if (first) void this.#take(first, elements.language.value);
      file.value = "";
    });
    elements.sample.addEventListener("click", () => void this.#takeSample());
  }

  async #takeSample() {
    const answer = await fetch(this.#sample).catch(() => null);
    if (!answer?.ok) return this.#say("The sample recording could not be loaded.");
    await this.#take(new File([await answer.blob()], "sample.wav", { type: "audio/wav" }), "en");
  }

  /** @param {File} file @param {string} language */
  async #take(file, language) {
    this.#say("");
    if (file.size > MAX_FILE_BYTES) return this.#say(`${file.name} is too large.`);
    try {
      await this.#send(file, language);
    } catch (cause) {
      this.#say(`${file.name} was not accepted: ${cause instanceof Error ? cause.message : String(cause)}`);
    }
  }

  /** @param {string} what */
  #say(what) {
    this.#elements.note.textContent = what;
  }
}
