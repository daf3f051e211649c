// Requests to the processors: uploads, reports, cancellations and lists.
//
// Promise: every failure is an `Error` with a message that a person can act on; a
// token that is refused once is replaced and the request made once more.

/** Pictures that are sent at once; the rest of a drop waits. */
const PARALLEL = 2;
/** Pictures of one drop. */
export const MAX_FILES = 20;
/** Pictures that wait for an upload. */
const MAX_WAITING = 60;
/** How long a request may take, in milliseconds. */
const TIMEOUT_MS = 60_000;

/** @typedef {import("./dashboard-session.js").Session} Session */

/**
 * A document as the processors list it.
 *
 * @typedef {object} DocumentRecord
 * @property {string} documentId
 * @property {string} [documentType]
 * @property {string} status
 * @property {string} [createdAt]
 * @property {number | null} [processingDuration]
 * @property {string | null} [signedUrl]
 * @property {string | null} [signedUrlExpiresAt]
 * @property {string | null} [thumbnailUrl]
 * @property {number | null} [width]
 * @property {number | null} [height]
 * @property {string | null} [errorCode]
 * @property {string | null} [error]
 * @property {string | null} [jobId]
 */

/** Calls the processors for one user. */
export class Processors {
  #url;
  #session;
  #running = 0;
  /** @type {(() => void)[]} */
  #queue = [];

  /** @param {string} url @param {Session} session */
  constructor(url, session) {
    this.#url = url;
    this.#session = session;
  }

  /**
   * @param {"images" | "reports" | "transcriptions"} what
   * @returns {Promise<any[]>} newest first
   */
  async list(what) {
    const answer = await this.#request(`/${what}`, {});
    const { [what]: records } = await answer.json();
    return Array.isArray(records) ? records : [];
  }

  /**
   * Requests a report.
   *
   * @param {import("./dashboard-reports.js").Report} report
   * @returns {Promise<{reportId: string, jobId: string}>}
   */
  async report(report) {
    const headers = { "Content-Type": "application/json" };
    const answer = await this.#request("/reports", { method: "POST", headers, body: JSON.stringify(report) });
    return answer.json();
  }

  /**
   * Sends a recording.
   *
   * @param {File} file
   * @param {string} language empty: not known
   * @returns {Promise<{transcriptionId: string, jobId: string}>}
   */
  async transcribe(file, language) {
    const form = new FormData();
    if (language) form.append("language", language);
    form.append("file", file, file.name);
    const answer = await this.#request("/transcriptions", { method: "POST", body: form });
    return answer.json();
  }

  /** Cancels a job; one that has ended already is no failure. @param {string} jobId */
  async cancel(jobId) {
    await this.#request(`/jobs/${encodeURIComponent(jobId)}`, { method: "DELETE" }, [409]);
  }

  /**
   * Sends a picture.
   *
   * @param {File} file
   * @param {string} documentType
   * @returns {Promise<{documentId: string, jobId: string}>}
   */
  async upload(file, documentType) {
    await this.#acquire();
    try {
      const form = new FormData();
      form.append("documentType", documentType);
      form.append("file", file, file.name);
      const answer = await this.#request("/images", { method: "POST", body: form });
      return await answer.json();
    } finally {
      this.#running -= 1;
      this.#queue.shift()?.();
    }
  }

  async #acquire() {
    if (this.#queue.length >= MAX_WAITING) throw new Error(`${MAX_WAITING} pictures wait already. Try again when some are done.`);
    if (this.#running >= PARALLEL) await new Promise((resolve) => this.#queue.push(() => resolve(null)));
    this.#running += 1;
  }

  /** @param {string} path @param {RequestInit & {headers?: Record<string, string>}} init @param {number[]} [fine] */
  async #request(path, init, fine = []) {
    let answer = await this.#attempt(path, init, "connect");
    if (answer.status === 401) answer = await this.#attempt(path, init, "processors");
    if (!answer.ok && !fine.includes(answer.status)) throw new Error(await problem(answer));
    return answer;
  }

  /** @param {string} path @param {RequestInit & {headers?: Record<string, string>}} init @param {import("./dashboard-session.js").Cause} cause of the token */
  async #attempt(path, init, cause) {
    const headers = { ...init.headers, Authorization: `Bearer ${await this.#session.token(cause)}` };
    try {
      return await fetch(this.#url + path, { ...init, headers, signal: AbortSignal.timeout(TIMEOUT_MS) });
    } catch {
      throw new Error("The processors cannot be reached. Try again in a moment.");
    }
  }
}

/**
 * What a person should know of an answer that is not OK.
 *
 * @param {Response} answer
 */
async function problem(answer) {
  try {
    const { title, detail } = await answer.json();
    const text = detail || title;
    if (typeof text === "string" && text !== "") return text;
  } catch {
    // Not a problem document: the status has to do.
  }
  return answer.status === 413 ? "The file is too large." : `The processors answered ${answer.status}.`;
}
