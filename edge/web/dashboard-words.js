// What the page says about an event.
//
// Promise: pure; every sentence is for a person, and an event that is none of the
// page's business has none.

import { phaseOf } from "./jobs.js";

/** What a job that went silent is told as. */
export const STALLED = "Nothing was heard of it for a while. It may still finish; if it does not, try again.";

/** What failed without saying why. */
export const FAILED = "It could not be processed.";

/**
 * @typedef {object} Words
 * @property {"info" | "success" | "error"} kind
 * @property {string} title
 * @property {string} text
 */

/** `driving_license_picture` → `Driving license picture`. @param {string | null | undefined} type */
export function typeName(type) {
  const words = (type || "picture").replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * What the thing is that a job makes; `undefined` if the event does not say.
 *
 * @param {any} event
 * @returns {string | undefined}
 */
export function nameOf(event) {
  const type = String(event.type);
  if (type.startsWith("image_")) return typeName(event.documentType);
  if (type.startsWith("pdf_")) return event.title || "Report";
  if (type.startsWith("transcription_")) return "Transcription";
  return undefined;
}

/** What a status is about; ids are not for people. @param {any} event */
function subjectOf({ resource, jobId }) {
  return resource && resource !== jobId ? typeName(resource) : "A job";
}

/** @param {string | undefined} words */
function beginning(words) {
  if (!words) return "Nothing was said in it.";
  return words.length > 120 ? `${words.slice(0, 119)}…` : words;
}

/**
 * What to announce; `null`: nothing.
 *
 * @param {any} event
 * @param {string} [known] what the thing is, if the page knows better
 * @returns {Words | null}
 */
export function wordsFor(event, known) {
  const name = known ?? nameOf(event) ?? subjectOf(event);
  if (event.type === "custom") {
    return { kind: "info", title: String(event.name), text: String(event.data?.message ?? event.data?.text ?? "") };
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
  if (phase === "done") return { kind: "success", title: `${name} is ready`, text: "It is ready to be viewed." };
  return null;
}
