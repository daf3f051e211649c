// The phase of each job, and which of its events still change something.
//
// Promise: pure. A success is final, whatever came before; a failure gives way to a
// success only; a stalled job runs again with its next event; nothing else revives a
// job that ended. Progress never runs backwards. The latest `MAX_JOBS` jobs are known.

import { savedRows } from "./saved-state.js";

/** Jobs that are remembered; those with the latest events stay. */
const MAX_JOBS = 500;
/** Jobs that are remembered over a reload: ended or stalled ones. */
const MAX_SAVED = 200;
/** Characters of a job's id; the contract has 128 bytes. */
const MAX_ID_CHARS = 128;

/** @typedef {"running" | "done" | "failed" | "stalled"} Phase */

/**
 * @typedef {object} Job
 * @property {Phase} phase
 * @property {number} [percent]
 * @property {string} [stage]
 */

/** @param {unknown} id @returns {id is string} false if the event belongs to no job */
export function isJobId(id) {
  return typeof id === "string" && id !== "" && id.length <= MAX_ID_CHARS;
}

const DONE = new Set(["image_processed", "pdf_generated", "transcription_complete"]);

/**
 * The phase that an event puts its job into; `null` if it says nothing about it.
 *
 * @param {any} event
 * @returns {Phase | null}
 */
export function phaseOf(event) {
  const type = String(event.type);
  if (type === "job_progress" || type.endsWith("_started")) return "running";
  if (DONE.has(type)) return "done";
  const failed = type.endsWith("_failed") || (type === "status_update" && event.status === "failed");
  if (!failed) return null;
  return event.errorCode === "stalled" || event.data?.errorCode === "stalled" ? "stalled" : "failed";
}

/**
 * Whether `next` may follow `now`.
 *
 * @param {Phase | undefined} now
 * @param {Phase} next
 */
export function mayFollow(now, next) {
  switch (now) {
    case "done":
      return false;
    case "failed":
      return next === "done";
    case "stalled":
      return next !== "stalled";
    default:
      return true;
  }
}

/** The jobs of one page. */
export class Jobs {
  /** Oldest event first; @type {Map<string, Job>} */
  #jobs = new Map();

  /**
   * Takes an event in.
   *
   * @param {any} event
   * @returns {boolean} false if it must change nothing on the screen
   */
  take(event) {
    const id = event.jobId;
    const next = phaseOf(event);
    if (!isJobId(id) || next === null) return true;
    const job = this.#jobs.get(id);
    if (!mayFollow(job?.phase, next)) return false;
    const alive = job?.phase === "running";
    const { percent, stage } = event;
    if (next !== "running") this.#set(id, { phase: next });
    else if (event.type !== "job_progress") this.#set(id, { ...(alive && job), phase: next });
    else if (alive && Number(percent) < (job.percent ?? 0)) return false;
    else this.#set(id, { phase: next, percent, stage });
    return true;
  }

  /** @param {string | null | undefined} id @returns {Job | undefined} */
  get(id) {
    return isJobId(id) ? this.#jobs.get(id) : undefined;
  }

  /** @returns {string} for `restore`, by the next page of the same user */
  save() {
    const ended = [...this.#jobs].filter(([, { phase }]) => phase !== "running");
    return JSON.stringify(ended.slice(-MAX_SAVED).map(([id, { phase }]) => [id, phase]));
  }

  /**
   * Takes what `save` gave; whatever is not well formed is left out.
   *
   * @param {string | null} saved
   */
  restore(saved) {
    for (const [id, phase] of savedRows(saved, MAX_SAVED)) {
      if (isJobId(id) && ["done", "failed", "stalled"].includes(phase)) this.#set(id, { phase });
    }
  }

  /** @param {string} id @param {Job} job */
  #set(id, job) {
    this.#jobs.delete(id);
    this.#jobs.set(id, job);
    if (this.#jobs.size <= MAX_JOBS) return;
    const [oldest] = this.#jobs.keys();
    if (oldest !== undefined) this.#jobs.delete(oldest);
  }
}
