// What the rows of documents, reports and transcriptions have in common.
//
// Promise: what is ready stays so, and what has ended never looks pending again;
// text only, and only http links.

import { FAILED, STALLED } from "../client/src/announcements.js";
import { mayFollow } from "../client/src/jobs.js";

/**
 * A result of a job, as the processors list it.
 *
 * @typedef {object} JobRecord
 * @property {string} status
 * @property {string | null} [jobId]
 * @property {string} [createdAt]
 * @property {number | null} [processingDuration]
 * @property {string | null} [errorCode]
 * @property {string | null} [error]
 */

/**
 * @typedef {object} ListElements
 * @property {HTMLElement} list
 * @property {HTMLElement} empty shown while there is nothing
 * @property {HTMLElement} count beside the section's title
 * @property {HTMLTemplateElement} template one row
 */

/** Rows of a kind that are kept, newest first: as many as the processors list. */
export const MAX_ROWS = 100;

const STATUS_NAMES = new Map([
  ["pending", "In progress"],
  ["completed", "Ready"],
  ["failed", "Failed"],
  ["stalled", "Stalled"],
]);

/** @type {Map<string, import("../client/src/jobs.js").Phase>} */
const PHASES = new Map([
  ["pending", "running"],
  ["completed", "done"],
  ["failed", "failed"],
  ["stalled", "stalled"],
]);

/** Whether a row may go from one status to another. @param {string} now @param {string} next */
export function mayBecome(now, next) {
  const phase = PHASES.get(next);
  if (now === next || phase === undefined) return true;
  // The list does not know that a job is stalled; `revive` is for jobs that report again.
  return phase === "running" ? now === "pending" : mayFollow(PHASES.get(now), phase);
}

/**
 * A record with an update.
 *
 * @template {JobRecord} R
 * @param {R} before
 * @param {R} update
 * @returns {R}
 */
export function merged(before, update) {
  const known = Object.entries(update).filter(([, value]) => value !== undefined && value !== null);
  const fields = Object.fromEntries(known);
  if (!mayBecome(before.status, update.status)) for (const field of ["status", "error", "errorCode"]) delete fields[field];
  return { ...before, ...fields };
}

/** @param {JobRecord} record */
export function statusName({ status, errorCode }) {
  if (status === "failed" && errorCode === "cancelled") return "Cancelled";
  return STATUS_NAMES.get(status) ?? status;
}

/** Why there is no result, for a person; `null` if nothing is wrong. @param {JobRecord} record */
export function failureText({ status, errorCode, error }) {
  if (status === "stalled") return STALLED;
  if (status !== "failed") return null;
  if (errorCode === "cancelled") return "Cancelled before it finished.";
  return error || FAILED;
}

/** The code of a failure, for those who view after the processors. @param {JobRecord} record */
export function codeOf({ status, errorCode }) {
  return status === "failed" && errorCode && errorCode !== "cancelled" ? errorCode : "";
}

/** @param {string | null | undefined} url @returns {string | null} */
export function webUrl(url) {
  if (!url) return null;
  try {
    const { protocol, href } = new URL(url, location.href);
    return protocol === "http:" || protocol === "https:" ? href : null;
  } catch {
    return null;
  }
}

/** @param {number | null | undefined} ms */
export function duration(ms) {
  if (typeof ms !== "number") return "";
  return ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

/** Says how many rows there are. @param {ListElements} elements @param {number} rows */
export function drawCount({ empty, count }, rows) {
  empty.hidden = rows > 0;
  count.hidden = rows === 0;
  count.textContent = rows < MAX_ROWS ? String(rows) : `${MAX_ROWS}+`;
}

/** @param {Element} element @param {string} selector @param {string} value */
export function text(element, selector, value) {
  const target = element.querySelector(selector);
  if (target && target.textContent !== value) target.textContent = value;
}

/** @param {HTMLElement} element @param {string | undefined} createdAt */
function drawTime(element, createdAt) {
  const time = element.querySelector("time");
  const at = createdAt ? new Date(createdAt) : null;
  if (!time || !at || Number.isNaN(at.getTime())) return;
  time.dateTime = at.toISOString();
  time.textContent = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  time.title = at.toLocaleString();
}

/** Cancels a job; reports a failure itself. @typedef {(jobId: string) => Promise<void>} Cancel */

/**
 * Makes a row's button work.
 *
 * @param {HTMLElement} element
 * @param {() => JobRecord} record
 * @param {Cancel} cancel
 */
export function onCancel(element, record, cancel) {
  const button = element.querySelector("button.cancel");
  button?.addEventListener("click", async () => {
    const { jobId } = record();
    if (!jobId || button.getAttribute("aria-disabled") === "true") return;
    // `disabled` would take the focus away from the person's button.
    button.setAttribute("aria-disabled", "true");
    await cancel(jobId);
    button.removeAttribute("aria-disabled");
  });
}

/**
 * Shows the button while there is something to cancel.
 *
 * @param {HTMLElement} element
 * @param {JobRecord} record
 * @param {string} name what the button cancels
 */
function cancelButton(element, record, name) {
  const button = /** @type {HTMLElement | null} */ (element.querySelector("button.cancel"));
  if (!button) return;
  const useful = Boolean(record.jobId) && (record.status === "pending" || record.status === "stalled");
  button.setAttribute("aria-label", `Cancel: ${name}`);
  // The focus stays in the row instead of going to the top of the page.
  if (!useful && button === document.activeElement) element.focus({ preventScroll: true });
  button.hidden = !useful;
}

/**
 * Draws what the rows of all kinds have.
 *
 * @param {HTMLElement} element
 * @param {JobRecord} record
 * @param {{percent?: number, stage?: string}} progress
 * @param {{name: string, facts: string}} row its name, and its details once it is ready
 */
export function drawRow(element, record, progress, { name, facts }) {
  const pending = record.status === "pending";
  const working = progress.stage ? `${progress.stage} …` : "queued …";
  element.dataset.status = record.status;
  text(element, ".doc-name", name);
  text(element, ".doc-status", statusName(record));
  text(element, ".doc-duration", duration(record.processingDuration));
  text(element, ".doc-detail", failureText(record) ?? (pending ? working : facts));
  text(element, ".doc-code", codeOf(record));
  drawTime(element, record.createdAt);
  const bar = element.querySelector("progress");
  if (bar) {
    bar.hidden = !pending;
    if (progress.percent !== undefined) bar.value = progress.percent;
    bar.setAttribute("aria-label", `Progress of ${name}`);
  }
  cancelButton(element, record, name);
}
