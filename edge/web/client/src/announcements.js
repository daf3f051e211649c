// The announcement of an event: title and text for a person.
//
// Promise: pure; an event that the page does not announce has none.

import { phaseOf } from "./jobs.js";

/** The text of a job that stopped reporting. */
export const STALLED = "There has been no progress for a while. It may still finish; if it does not, try again.";

/** The text of a failure without a message. */
export const FAILED = "It could not be processed.";

/**
 * @typedef {object} Announcement
 * @property {"info" | "success" | "error"} kind
 * @property {string} title
 * @property {string} text
 */

/** `driving_license_picture` → `Driving license picture`. @param {string | null | undefined} type */
export function typeName(type) {
  const name = (type || "picture").replaceAll("_", " ");
  return name.charAt(0).toUpperCase() + name.slice(1);
}

/**
 * The name of the job's result; `undefined` if the event does not say.
 *
 * @param {any} event
 * @returns {string | undefined}
 */
export function subjectName(event) {
  const type = String(event.type);
  if (type.startsWith("image_")) return typeName(event.documentType);
  if (type.startsWith("pdf_")) return event.title || "Report";
  if (type.startsWith("transcription_")) return "Transcription";
  return undefined;
}

/** The subject of a status; ids are not for people. @param {any} event */
function subjectOf({ resource, jobId }) {
  return resource && resource !== jobId ? typeName(resource) : "A job";
}

/** @param {string | undefined} transcript */
function beginning(transcript) {
  if (!transcript) return "No speech was found in it.";
  return transcript.length > 120 ? `${transcript.slice(0, 119)}…` : transcript;
}

/** Fields of a custom event that are shown, and characters of each. */
const MAX_FIELDS = 8;
const MAX_VALUE_CHARS = 120;

/**
 * The data of a custom event for a person: its message if it has one, otherwise its
 * fields.
 *
 * @param {any} data
 */
function dataText(data) {
  if (data === null || data === undefined) return "";
  const message = data.message ?? data.text;
  if (typeof message === "string" && message !== "") return message;
  if (typeof data !== "object") return valueText(data);
  const fields = Object.entries(data);
  const shown = fields.slice(0, MAX_FIELDS).map(([name, value]) => (Array.isArray(data) ? valueText(value) : `${name}: ${valueText(value)}`));
  return [...shown, ...(fields.length > MAX_FIELDS ? [`and ${fields.length - MAX_FIELDS} more`] : [])].join(" · ");
}

/** @param {unknown} value */
function valueText(value) {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > MAX_VALUE_CHARS ? `${text.slice(0, MAX_VALUE_CHARS - 1)}…` : text;
}

/**
 * The announcement of an event; `null` if there is none.
 *
 * @param {any} event
 * @param {string} [known] the name, if the page knows a better one
 * @returns {Announcement | null}
 */
export function announcementFor(event, known) {
  const name = known ?? subjectName(event) ?? subjectOf(event);
  if (event.type === "custom") {
    return { kind: "info", title: typeName(event.name), text: dataText(event.data) };
  }
  const phase = phaseOf(event);
  if (phase === "stalled") return { kind: "error", title: `${name} is stuck`, text: STALLED };
  if (event.type === "status_update") {
    const failed = event.status === "failed" || Boolean(event.error);
    return { kind: failed ? "error" : "info", title: typeName(event.updateType), text: event.error || `${typeName(event.resource)}: ${event.status}` };
  }
  if (phase === "failed" && event.errorCode === "cancelled") return { kind: "info", title: `${name} was cancelled`, text: "" };
  if (phase === "failed") return { kind: "error", title: `${name} failed`, text: event.error || FAILED };
  if (event.type === "transcription_complete") return { kind: "success", title: `${name} is ready`, text: beginning(event.text) };
  if (phase === "done") return { kind: "success", title: `${name} is ready`, text: "It is ready to view." };
  return null;
}
