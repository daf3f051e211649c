// Which row an event is about, and what the page calls it.
//
// Promise: an event that names a job belongs to the row of that job, whether or not it
// names a resource; a name never comes from another job.

import { subjectName } from "../client/src/announcements.js";
import { isJobId } from "../client/src/jobs.js";

/** @typedef {import("./dashboard-documents.js").DocumentList | import("./dashboard-records.js").RecordList} List */
/** @typedef {{list: List, id: string}} Place */

/** The rows of all sections. */
export class Places {
  /** Names of results, by job; @type {Map<string, string>} */
  #names = new Map();
  #documents;
  #reports;
  #transcriptions;

  /** @param {{documents: List, reports: List, transcriptions: List}} lists */
  constructor({ documents, reports, transcriptions }) {
    this.#documents = documents;
    this.#reports = reports;
    this.#transcriptions = transcriptions;
  }

  /** @param {any} event one that begins or ends a job @returns {Place | undefined} */
  of({ type, jobId, documentId, reportId, transcriptionId }) {
    const started = String(type);
    if (started.startsWith("image_") && documentId) return { list: this.#documents, id: documentId };
    if (started.startsWith("pdf_") && reportId) return { list: this.#reports, id: reportId };
    if (started.startsWith("transcription_") && transcriptionId) return { list: this.#transcriptions, id: transcriptionId };
    return this.#ofJob(jobId);
  }

  /**
   * The row that progress moves: its job's, or that of its resource unless another
   * job works on it.
   *
   * @param {any} event
   * @returns {Place | undefined}
   */
  ofProgress({ jobId, resourceId }) {
    const place = this.#ofJob(jobId);
    if (place || !resourceId) return place;
    for (const list of this.lists) {
      const record = list.get(resourceId);
      if (record && !(isJobId(jobId) && record.jobId)) return { list, id: resourceId };
    }
    return undefined;
  }

  /** @returns {List[]} */
  get lists() {
    return [this.#documents, this.#reports, this.#transcriptions];
  }

  /** @param {unknown} jobId @returns {Place | undefined} */
  #ofJob(jobId) {
    if (!isJobId(jobId)) return undefined;
    for (const list of this.lists) {
      const id = list.idOfJob(jobId);
      if (id !== undefined) return { list, id };
    }
    return undefined;
  }

  /**
   * What the page calls the thing that an event is about; an event that names neither
   * job nor row has only what it says itself.
   *
   * @param {any} event
   * @param {Place | undefined} place
   * @returns {string | undefined}
   */
  nameOf({ jobId }, place) {
    const named = isJobId(jobId) ? this.#names.get(jobId) : undefined;
    if (named !== undefined || !place) return named;
    const other = place.list.get(place.id)?.jobId;
    return isJobId(jobId) && other && other !== jobId ? undefined : place.list.nameOf(place.id);
  }

  /** A job began: its name is the one of its first event. @param {any} event */
  began(event) {
    const name = subjectName(event);
    if (name !== undefined) this.#names.set(event.jobId, name);
  }

  /** @param {string} jobId @param {string} name */
  name(jobId, name) {
    this.#names.set(jobId, name);
  }

  /** Forgets the names of jobs that do not run. @param {(jobId: string) => boolean} keep */
  forget(keep) {
    for (const id of this.#names.keys()) if (!keep(id)) this.#names.delete(id);
  }
}
