// Reports and transcriptions in Chromium, against fake processors.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { notReloaded, openBrowser, rowWithPicture, shoot, until } from "./page.mjs";

let chromium;
let edge;
let open;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());
beforeEach(async () => {
  edge = await FakeEdge.start();
  open = await chromium.dashboard(edge.url);
});
afterEach(async () => {
  await open.close();
  await edge.stop();
});

const report = (page) => page.locator("#reports li").first();
const recording = (page) => page.locator("#transcriptions > li").first();
const is = (row, status) => row.and(row.page().locator(`[data-status="${status}"]`)).waitFor();

async function fillSample(page) {
  await page.getByText("Write an incident report").click();
  await page.locator("#report-sample").click();
}

test("the sample report shows progress and ends as a PDF that opens", async () => {
  const { page, faults } = open;
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator("#documents li"));
  edge.works.holds = true;
  await fillSample(page);
  await page.getByRole("checkbox", { name: "Driving license picture 1" }).check();
  await page.getByRole("button", { name: "Create report" }).click();
  await is(report(page), "pending");
  await page.locator('#reports progress[value="50"]').waitFor();
  assert.equal(await report(page).locator(".doc-detail").textContent(), "setting the table …");
  const [requested] = edge.works.requested;
  assert.equal(requested.title, "Bell tower without power");
  assert.equal(requested.rows.length, 3);
  assert.equal(requested.images[0].caption, "Driving license picture");
  assert.match(requested.occurredAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:00\.000Z$/);
  edge.works.end();
  await is(report(page), "completed");
  assert.equal(await report(page).locator(".doc-detail").textContent(), "2 pages · 49 kB");
  assert.equal(await report(page).locator(".doc-name").textContent(), "Bell tower without power");
  const link = page.getByRole("link", { name: "Open the PDF: Bell tower without power" });
  const file = await page.request.get(await link.getAttribute("href"));
  assert.equal(file.headers()["content-type"], "application/pdf");
  assert.equal((await file.body()).subarray(0, 5).toString(), "%PDF-");
  await page.locator(".toast", { hasText: "Bell tower without power is ready" }).waitFor();
  await notReloaded(page);
  assert.deepEqual(faults, []);
});

test("an empty report is not sent, a refused one says why and keeps what was written", async () => {
  const { page } = open;
  await page.getByText("Write an incident report").click();
  await page.getByRole("button", { name: "Create report" }).click();
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("name")), "title");
  assert.equal(edge.works.requested.length, 0);
  edge.works.refuses = { status: 422, detail: "`summary` has more than 20000 characters" };
  await page.locator("#report-sample").click();
  await page.getByRole("button", { name: "Create report" }).click();
  await page.locator("#report-note", { hasText: "more than 20000" }).waitFor();
  assert.equal(await page.getByLabel("Title").inputValue(), "Bell tower without power");
  assert.equal(await page.locator("#reports li").count(), 0);
});

test("the sample recording shows what is transcribed so far, and then all of it by segments", async () => {
  const { page, faults } = open;
  edge.works.holds = true;
  await page.locator("#audio-sample").click();
  await is(recording(page), "pending");
  await page.locator("#transcriptions .doc-partial", { hasText: "The bell rings" }).waitFor();
  assert.equal(edge.works.requested[0].language, "en");
  assert.equal(edge.works.requested[0].fileName, "sample.wav");
  assert.ok(edge.works.requested[0].bytes > 40_000);
  edge.works.end();
  await is(recording(page), "completed");
  assert.equal(await recording(page).locator(".transcript").textContent(), "The bell rings when your work is done.");
  assert.equal(await recording(page).locator(".doc-detail").textContent(), "0:02 long · English");
  await recording(page).getByText("2 segments").click();
  assert.deepEqual(await recording(page).locator(".segments li").allTextContents(), ["0:00–0:01The bell rings", "0:01–0:02when your work is done."]);
  assert.ok(await recording(page).locator(".doc-partial").isHidden());
  assert.deepEqual(faults, []);
});

test("a failure is announced, with its code, in its row and in a toast", async () => {
  const { page } = open;
  edge.works.failure = { errorCode: "not_configured", error: "No speech engine is configured: set one up." };
  await page.locator("#audio-sample").click();
  await is(recording(page), "failed");
  assert.equal(await recording(page).locator(".doc-detail").textContent(), edge.works.failure.error);
  assert.equal(await recording(page).locator(".doc-code").textContent(), "not_configured");
  await page.locator('.toast[data-kind="error"]', { hasText: "No speech engine" }).waitFor();
});

test("results survive a reload", async () => {
  const { page } = open;
  await fillSample(page);
  await page.getByRole("button", { name: "Create report" }).click();
  await is(report(page), "completed");
  await page.locator("#audio-sample").click();
  await is(recording(page), "completed");
  await page.reload();
  await is(report(page), "completed");
  await is(recording(page), "completed");
  assert.ok(await report(page).getByRole("link").getAttribute("href"));
  assert.match(await recording(page).locator(".transcript").textContent(), /work is done/);
});

test("what runs can be cancelled by keyboard, and the focus stays with its row", async () => {
  const { page } = open;
  edge.works.holds = true;
  await page.locator("#audio-sample").click();
  await is(recording(page), "pending");
  await page.getByRole("button", { name: "Cancel: sample.wav" }).focus();
  await page.keyboard.press("Enter");
  await is(recording(page), "failed");
  assert.equal(await recording(page).locator(".doc-status").textContent(), "Cancelled");
  assert.equal(await recording(page).locator(".doc-code").textContent(), "");
  assert.equal(edge.works.cancelled.length, 1);
  assert.ok(await page.evaluate(() => document.activeElement?.matches("#transcriptions > li")));
  await page.locator('.toast[data-kind="info"]', { hasText: "was cancelled" }).waitFor();
});

test("a picture that is worked on can be cancelled; one that has ended just then is left as it is", async () => {
  const { page } = open;
  edge.publish("image_processing_started", { documentId: "d1", documentType: "passport_picture", status: "pending", jobId: "j1" });
  const cancel = page.getByRole("button", { name: "Cancel: Passport picture" });
  await cancel.click();
  await until(() => edge.works.cancelled.length === 1, "a call to cancel");
  assert.deepEqual(edge.works.cancelled, ["j1"]);
  await until(async () => (await cancel.getAttribute("aria-disabled")) === null, "an answer");
  assert.equal(await page.locator('.toast[data-kind="error"]').count(), 0);
  edge.publish("image_processed", { documentId: "d1", documentType: "passport_picture", status: "completed", jobId: "j1" });
  await page.locator('.doc[data-status="completed"]').waitFor();
  assert.ok(await cancel.isHidden());
});

test("data of reports and transcripts is text, and only http links are links", async () => {
  const { page } = open;
  const evil = `<img src=x onerror="window.pwned=1">`;
  edge.publish("pdf_generation_started", { reportId: "r1", title: evil, status: "pending", jobId: "j1" });
  edge.publish("pdf_generated", { reportId: "r1", status: "completed", jobId: "j1", pages: 1, bytes: 1, signedUrl: "javascript:window.pwned=1" });
  edge.publish("transcription_complete", { transcriptionId: "t1", status: "completed", jobId: "j2", text: evil, language: evil, durationMs: 1, segments: [{ startMs: 0, endMs: 1, text: evil }] });
  await recording(page).locator(".transcript", { hasText: "onerror" }).waitFor();
  assert.equal(await report(page).locator(".doc-name").textContent(), evil);
  assert.equal(await report(page).locator("a.open").getAttribute("href"), null);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test("events without a job share nothing: title, toast and activity are each event's own", async () => {
  const { page, faults } = open;
  const titles = () => page.locator(".toast :is(.toast-title, .toast-open):not([hidden])").allTextContents();
  edge.publish("pdf_generation_started", { reportId: "r1", title: "Yearly report", status: "pending" });
  edge.publish("pdf_generated", { reportId: "r1", status: "completed" });
  await page.locator(".toast", { hasText: "Yearly report is ready" }).waitFor();
  // A report that this page has no row of, and neither event names a job.
  edge.publish("pdf_generation_failed", { reportId: "r2", status: "failed", error: "No paper." });
  for (const jobId of [null, ""]) edge.publish("status_update", { updateType: `note ${jobId}`, resource: "account", status: "changed", jobId });
  edge.publish("image_processing_failed", { documentId: "d1", documentType: "passport_picture", status: "failed", jobId: "", error: "Torn." });
  await page.locator(".toast", { hasText: "Passport picture failed" }).waitFor();
  assert.deepEqual(await titles(), ["Yearly report is ready", "Report failed", "Note null", "Note ", "Passport picture failed"]);
  assert.equal(await page.locator("#feed li").count(), 5);
  assert.deepEqual(faults, []);
});

test("progress moves the row and the toast of its own job only", async () => {
  const { page } = open;
  const pdf = (n) => ({ reportId: `r${n}`, title: `Report ${n}`, status: "pending", jobId: `j${n}` });
  edge.publish("pdf_generation_started", pdf(1));
  edge.publish("pdf_generation_started", pdf(2));
  const bar = (n) => page.locator(`#reports [data-id="r${n}"] progress`);
  await bar(2).waitFor();
  // Another job's progress under this row's id, and two that name nothing at all.
  edge.ephemeral("job_progress", { jobId: "j9", percent: 70, stage: "elsewhere", resourceId: "r1" });
  edge.ephemeral("job_progress", { percent: 80, stage: "nowhere" });
  edge.ephemeral("job_progress", { jobId: "", percent: 90, stage: "nowhere" });
  // Without the resource the job alone finds its row.
  edge.ephemeral("job_progress", { jobId: "j2", percent: 30, stage: "setting" });
  await page.locator('#reports [data-id="r2"] progress[value="30"]').waitFor();
  assert.equal(await bar(1).evaluate((element) => element.value), 0);
  await page.locator(".toast", { hasText: "Report 2" }).waitFor();
  assert.equal(await page.locator('.toast[data-kind="progress"]', { hasText: "Report 1" }).count(), 0);
  assert.equal(await page.locator(".toast", { hasText: "nowhere" }).count(), 0);
  // A `retract` that names no event takes nothing away.
  edge.send({ type: "retract", reason: "read" });
  edge.publish("status_update", { updateType: "note", resource: "account", status: "last" });
  await page.getByText("Account: last").first().waitFor();
  await page.locator(".toast", { hasText: "Report 2" }).waitFor();
});

test("a thousand progress events are drawn at most ten times a second, and leave nothing behind", async () => {
  const { page } = open;
  edge.works.holds = true;
  await page.locator("#audio-sample").click();
  await is(recording(page), "pending");
  const transcriptionId = await recording(page).getAttribute("data-id");
  await page.locator('#transcriptions progress[value="50"]').waitFor();
  const cdp = await page.context().newCDPSession(page);
  const measure = async () => {
    await cdp.send("HeapProfiler.collectGarbage");
    const { usedSize } = await cdp.send("Runtime.getHeapUsage");
    return { usedSize, nodes: await page.evaluate(() => document.querySelectorAll("*").length) };
  };
  await page.evaluate(() => {
    window.drawnAt = [];
    new MutationObserver(() => window.drawnAt.push(performance.now())).observe(document.querySelector("#transcriptions"), { subtree: true, childList: true, attributes: true, characterData: true });
    window.received = 0;
    window.belfryClient.on("job_progress", () => (window.received += 1));
  });
  const before = await measure();
  let sent = 0;
  // In bursts, each after the page received the last: many drawings, not one.
  for (const percent of [55, 60, 65, 70, 75, 80, 85, 90, 95, 99]) {
    for (let n = 0; n < 100; n += 1) {
      sent += 1;
      edge.ephemeral("job_progress", { jobId: edge.works.newest, percent, stage: `segment ${sent}`, resourceId: transcriptionId, partial: `${"so far ".repeat(1_000)}${sent}` });
    }
    await page.waitForFunction((count) => window.received === count, sent);
    await page.locator(`#transcriptions progress[value="${percent}"]`).waitFor();
  }
  await page.locator("#transcriptions .doc-detail", { hasText: /^segment 1000 …$/ }).waitFor();
  const drawnAt = await page.evaluate(() => window.drawnAt);
  assert.ok(drawnAt.length >= 10, `${drawnAt.length} drawings of ten values`);
  // Together, not one by one: what is seen of a drawing is its end, which may come late.
  const spanMs = drawnAt.at(-1) - drawnAt[0];
  assert.ok(drawnAt.length <= spanMs / 100 + 2, `${drawnAt.length} drawings in ${spanMs} ms`);
  const partial = await page.locator("#transcriptions .doc-partial").textContent();
  assert.ok(partial.length < 300 && partial.endsWith("1000"), partial);
  const later = await measure();
  assert.equal(later.nodes, before.nodes);
  assert.ok(later.usedSize - before.usedSize < 1_000_000, `the heap grew by ${later.usedSize - before.usedSize} bytes`);
  assert.equal(await page.locator(".toast").count(), 1);
});

test("reports and recordings look well, by day, by night and on a phone", async () => {
  for (const [name, context] of [
    ["works-light", { viewport: { width: 1280, height: 900 } }],
    ["works-dark", { viewport: { width: 1280, height: 900 }, colorScheme: "dark" }],
    ["works-phone", { viewport: { width: 390, height: 844 } }],
  ]) {
    const { page, close } = await chromium.dashboard(`${edge.url}?user=${name}`, { context });
    edge.works.holds = false;
    await page.locator("#sample").click();
    await rowWithPicture(page, page.locator("#documents li").first());
    await fillSample(page);
    await page.getByRole("checkbox").first().check();
    await page.getByRole("button", { name: "Create report" }).click();
    await is(report(page), "completed");
    edge.works.failure = { errorCode: "not_configured", error: "No speech engine is configured: set `transcriptions.engine`." };
    await page.locator("#audio-sample").click();
    await is(recording(page), "failed");
    edge.works.failure = null;
    await page.locator("#audio-sample").click();
    await is(recording(page), "completed");
    await recording(page).getByText("2 segments").click();
    edge.works.holds = true;
    await page.locator("#audio-sample").click();
    await page.locator("#transcriptions .doc-partial", { hasText: "The bell" }).waitFor();
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false, `${name} does not scroll sideways`);
    await page.keyboard.press("Escape");
    await shoot(page, name);
    await close();
  }
});
