// Jobs on the screen: which event is final, and its announcement.

import assert from "node:assert/strict";
import { test } from "node:test";
import { announcementFor, subjectName } from "../../../edge/web/client/src/announcements.js";
import { Jobs, mayFollow } from "../../../edge/web/client/src/jobs.js";

const started = { type: "image_processing_started", jobId: "j" };
const done = { type: "image_processed", jobId: "j" };
const failed = { type: "image_processing_failed", jobId: "j", errorCode: "damaged_file", error: "It is damaged." };
const stalled = { type: "image_processing_failed", jobId: "j", errorCode: "stalled" };
const progress = (percent, jobId = "j") => ({ type: "job_progress", jobId, percent, stage: `at ${percent}` });

/** Which of the events change the screen, and how the job stands at the end. */
function run(...events) {
  const jobs = new Jobs();
  const changed = events.map((event) => jobs.take(event));
  return [changed.map((one) => (one ? "+" : "-")).join(""), jobs.get("j")?.phase];
}

test("started, progress, end", () => {
  assert.deepEqual(run(started, progress(10), progress(50), done), ["++++", "done"]);
});

test("a success is final", () => {
  assert.deepEqual(run(started, done, failed, stalled, progress(99), started, done), ["++-----", "done"]);
});

test("a later success wins over a failure, and nothing else does", () => {
  assert.deepEqual(run(started, failed, progress(60), started, stalled, failed), ["++----", "failed"]);
  assert.deepEqual(run(started, failed, done), ["+++", "done"]);
});

test("a stalled job lives again with its next sign of life, from the bottom", () => {
  assert.deepEqual(run(started, progress(80), stalled, progress(10)), ["++++", "running"]);
  assert.deepEqual(run(started, stalled, started), ["+++", "running"]);
  assert.deepEqual(run(started, stalled, stalled), ["++-", "stalled"]);
  assert.deepEqual(run(stalled, failed), ["++", "failed"]);
  assert.deepEqual(run(stalled, done), ["++", "done"]);
});

test("progress never runs backwards", () => {
  assert.deepEqual(run(started, progress(50), progress(40), progress(50), progress(51)), ["++-++", "running"]);
});

test("jobs are kept apart, and an event without one is always changed", () => {
  const jobs = new Jobs();
  jobs.take(done);
  assert.equal(jobs.take(progress(10, "k")), true);
  assert.equal(jobs.take({ type: "status_update", status: "failed" }), true);
  assert.equal(jobs.take({ type: "status_update", status: "ok", jobId: "j" }), true);
  assert.equal(jobs.take({ type: "from_the_future", jobId: "j" }), true);
});

test("an id that is empty or none is no job's", () => {
  for (const jobId of ["", null, undefined, 7, "x".repeat(129)]) {
    const jobs = new Jobs();
    assert.equal(jobs.take({ ...done, jobId }), true);
    assert.equal(jobs.take({ ...failed, jobId }), true, "nothing came before it");
    assert.equal(jobs.get(jobId), undefined);
  }
});

test("a status that failed with the code stalled is a stalled job too", () => {
  const jobs = new Jobs();
  jobs.take({ type: "status_update", jobId: "j", status: "failed", data: { errorCode: "stalled" } });
  assert.equal(jobs.get("j")?.phase, "stalled");
});

test("500 jobs are known, those with the latest events", () => {
  const jobs = new Jobs();
  jobs.take(done);
  for (let n = 0; n < 499; n += 1) jobs.take(progress(1, `k${n}`));
  assert.equal(jobs.get("j")?.phase, "done");
  jobs.take(progress(1, "one more"));
  assert.equal(jobs.get("j"), undefined);
  assert.equal(jobs.get("k0")?.phase, "running");
});

test("ended and stalled jobs are known after a reload; malformed data is left out", () => {
  const before = new Jobs();
  for (const event of [{ ...done, jobId: "d" }, { ...stalled, jobId: "s" }, progress(5, "r")]) before.take(event);
  const after = new Jobs();
  after.restore(before.save());
  assert.deepEqual([after.get("d")?.phase, after.get("s")?.phase, after.get("r")], ["done", "stalled", undefined]);
  after.restore('[["x","running"],["y"],7,["z","toString"]]');
  after.restore("{");
  assert.deepEqual(["x", "y", "z"].map((id) => after.get(id)), [undefined, undefined, undefined]);
});

test("no phase but stalled is left backwards", () => {
  const phases = ["running", "done", "failed", "stalled"];
  const table = Object.fromEntries(phases.map((now) => [now, phases.filter((next) => mayFollow(now, next)).join(" ")]));
  assert.deepEqual(table, { running: "running done failed stalled", done: "", failed: "done", stalled: "running done failed" });
});

test("every kind of event has its text, and what is not for the page has none", () => {
  const text = (event, known) => {
    const said = announcementFor(event, known);
    return said && `${said.kind}: ${said.title}. ${said.text}`;
  };
  assert.equal(text({ type: "image_processed", documentType: "passport_picture" }), "success: Passport picture is ready. It is ready to view.");
  assert.equal(text({ ...failed, documentType: "passport_picture" }), "error: Passport picture failed. It is damaged.");
  assert.match(text({ ...stalled, documentType: "passport_picture" }), /^error: Passport picture is stuck\. There has been no progress/);
  assert.match(text({ type: "pdf_generation_failed", errorCode: "stalled" }, "Yearly report"), /^error: Yearly report is stuck\./);
  assert.equal(text({ type: "transcription_complete", text: "Ding dong." }), "success: Transcription is ready. Ding dong.");
  assert.equal(text({ type: "transcription_complete" }), "success: Transcription is ready. No speech was found in it.");
  assert.equal(text({ type: "status_update", updateType: "note", resource: "account", status: "changed" }), "info: Note. Account: changed");
  const status = { type: "status_update", updateType: "job_failed", status: "failed", jobId: "j", data: { errorCode: "stalled" } };
  assert.match(text({ ...status, resource: "monthly_report" }), /^error: Monthly report is stuck/);
  assert.match(text({ ...status, resource: "j" }), /^error: A job is stuck/);
  assert.equal(text({ type: "custom", name: "hello", data: { message: "you" } }), "info: Hello. you");
  for (const type of ["unknown", "job_progress", "pdf_generation_started", "from_the_future"]) assert.equal(announcementFor({ type }), null, type);
  assert.equal(subjectName({ type: "pdf_generation_started", title: "Yearly report" }), "Yearly report");
});
