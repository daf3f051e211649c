// Reports and transcriptions of the fake processors.
//
// Promise: answers and events as the real ones have them; a job ends at once, or
// when a test that `holds` says so.

import { randomUUID } from "node:crypto";

const PDF = "%PDF-1.7\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\ntrailer<</Root 1 0 R>>\n";

/** What differs between the kinds. */
const KINDS = {
  reports: { id: "reportId", started: "pdf_generation_started", done: "pdf_generated", failed: "pdf_generation_failed", stage: "setting the table" },
  transcriptions: { id: "transcriptionId", started: "transcription_started", done: "transcription_complete", failed: "transcription_failed", stage: "segment 1 of 2" },
};

export class FakeWorks {
  /** Jobs do not end by themselves. */
  holds = false;
  /** What the next requests are refused with: a status and a detail. */
  refuses = null;
  /** What jobs fail with: an errorCode and an error. */
  failure = null;
  /** What was requested, as it came. */
  requested = [];
  cancelled = [];
  /** Transcripts of recordings. */
  said = [
    { startMs: 0, endMs: 1_200, text: "The bell rings" },
    { startMs: 1_200, endMs: 2_400, text: "when your work is done." },
  ];
  #records = { reports: [], transcriptions: [] };
  /** By job. */
  #running = new Map();
  #edge;

  constructor(edge) {
    this.#edge = edge;
  }

  /** Whether it answered. */
  answer(request, body, json, response) {
    const [, what, id] = new URL(request.url, "http://x").pathname.split("/");
    if (what === "pdf") {
      response.writeHead(200, { "Content-Type": "application/pdf" }).end(PDF);
      return true;
    }
    if (what === "jobs" && request.method === "DELETE") {
      this.#cancel(decodeURIComponent(id), json);
      return true;
    }
    if (KINDS[what] === undefined) return false;
    if (request.method === "GET") json(200, { [what]: this.#records[what] });
    else if (this.refuses) json(this.refuses.status, { title: "Refused", detail: this.refuses.detail });
    else this.#begin(what, body, json);
    return true;
  }

  #begin(what, body, json) {
    const { id, started, stage } = KINDS[what];
    const fields = { [id]: randomUUID() };
    const job = { what, jobId: randomUUID(), fields };
    if (what === "reports") {
      const report = JSON.parse(Buffer.from(body, "latin1").toString());
      this.requested.push(report);
      job.title = report.title;
    } else {
      this.requested.push({ language: /name="language"\r\n\r\n([^\r]*)/.exec(body)?.[1] ?? "", fileName: /filename="([^"]*)"/.exec(body)?.[1], bytes: body.length });
    }
    this.#running.set(job.jobId, job);
    json(202, { ...fields, jobId: job.jobId, status: "pending" });
    const named = job.title === undefined ? {} : { title: job.title };
    this.#records[what].unshift({ ...fields, ...named, jobId: job.jobId, status: "pending", createdAt: new Date().toISOString() });
    this.#edge.publish(started, { ...fields, ...named, jobId: job.jobId, status: "pending" });
    const partial = what === "transcriptions" ? { partial: this.said[0].text } : {};
    this.#edge.ephemeral("job_progress", { jobId: job.jobId, percent: 50, stage, resourceId: fields[id], ...partial });
    if (!this.holds) this.end(job.jobId);
  }

  /** The job that began last, of those that run. */
  get newest() {
    return [...this.#running.keys()].at(-1);
  }

  /** Ends a job, the newest unless another is named. */
  end(jobId = this.newest, failure = this.failure) {
    const { what, fields, title } = this.#running.get(jobId);
    this.#running.delete(jobId);
    const { done, failed } = KINDS[what];
    const result = failure ? { status: "failed", ...failure } : { status: "completed", processingDuration: 830, ...this.#result(what, fields) };
    Object.assign(this.#records[what].find((record) => record.jobId === jobId), result, title && { title });
    this.#edge.publish(failure ? failed : done, { ...fields, jobId, ...result });
  }

  #result(what, { reportId }) {
    const signedUrlExpiresAt = new Date(Date.now() + 3_600_000).toISOString();
    if (what === "reports") return { pages: 2, bytes: 48_200, signedUrl: `${this.#edge.processorsUrl}/pdf/${reportId}`, signedUrlExpiresAt };
    return { text: this.said.map(({ text }) => text).join(" "), language: "en", durationMs: this.said.at(-1).endMs, segments: this.said };
  }

  #cancel(jobId, json) {
    this.cancelled.push(jobId);
    if (!this.#running.has(jobId)) return json(409, { title: "Too late", detail: "the job has ended before" });
    json(202, { jobId, status: "failed" });
    this.end(jobId, { errorCode: "cancelled", error: "It was cancelled." });
  }
}
