// What rows, texts and clocks say of a record, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codeOf, duration, mayBecome, merged, statusName, failureText, webUrl } from "../../../edge/web/dashboard/dashboard-row.js";
import { SAMPLE_REPORT, SAMPLE_SPEECH } from "../../../edge/web/dashboard/dashboard-samples.js";
import { clock, languageName } from "../../../edge/web/dashboard/dashboard-transcriptions.js";
import { announcementFor } from "../../../edge/web/client/src/announcements.js";
import { readFile } from "node:fs/promises";

test("a row that is ready stays ready, one that failed may only become ready", () => {
  for (const next of ["pending", "failed", "stalled"]) assert.equal(mayBecome("completed", next), false, next);
  assert.equal(mayBecome("failed", "completed"), true);
  assert.equal(mayBecome("failed", "pending"), false);
  assert.equal(mayBecome("stalled", "completed"), true);
});

test("a late failure leaves no trace in what is ready, and empty fields take nothing away", () => {
  const ready = { status: "completed", signedUrl: "http://x/1", title: "t" };
  const update = { status: "failed", errorCode: "cancelled", error: "late", signedUrl: null, title: undefined };
  assert.deepEqual(merged(ready, update), ready);
});

test("a cancelled job is cancelled, not a failure with a code", () => {
  const record = { status: "failed", errorCode: "cancelled", error: "job was cancelled" };
  assert.equal(statusName(record), "Cancelled");
  assert.equal(failureText(record), "Cancelled before it finished.");
  assert.equal(codeOf(record), "");
  const announcement = announcementFor({ type: "transcription_failed", ...record });
  assert.deepEqual(announcement, { kind: "info", title: "Transcription was cancelled", text: "" });
});

test("a failure has a text even if nobody sent any, and its code beside them", () => {
  const record = { status: "failed", errorCode: "timed_out" };
  assert.equal(failureText(record), "It could not be processed.");
  assert.equal(codeOf(record), "timed_out");
  assert.equal(codeOf({ ...record, status: "completed" }), "");
  assert.equal(failureText({ status: "completed" }), null);
});

test("times and languages are for people, whatever came", () => {
  assert.deepEqual([0, 59_999, 60_000, 3_723_000, -1, undefined, "x"].map(clock), ["0:00", "0:59", "1:00", "62:03", "0:00", "0:00", "0:00"]);
  assert.deepEqual([40, 999.6, 1_000, null].map(duration), ["40 ms", "1000 ms", "1.0 s", ""]);
  assert.equal(languageName(""), "");
  assert.equal(languageName(undefined), "");
  assert.equal(languageName("not a tag"), "not a tag");
  assert.notEqual(languageName("de"), "de");
});

test("only http links are links", () => {
  globalThis.location = /** @type {any} */ ({ href: "http://page/" });
  assert.equal(webUrl("https://x/a"), "https://x/a");
  for (const bad of ["javascript:1", "data:text/html,x", "file:///etc", "", null, undefined, "http://["]) assert.equal(webUrl(bad), null, String(bad));
  delete globalThis.location;
});

test("the samples are what the page says of them", async () => {
  const wav = await readFile(new URL("../../../edge/web/dashboard/sample.wav", import.meta.url));
  assert.equal(wav.toString("latin1", 0, 4), "RIFF");
  assert.ok(wav.length < 100_000);
  assert.equal(wav.readUInt32LE(40), wav.length - 44);
  assert.ok(SAMPLE_SPEECH.split(" ").length > 3);
  assert.ok(SAMPLE_REPORT.rows.length >= 3 && SAMPLE_REPORT.rows.every(({ what }) => what !== ""));
});
