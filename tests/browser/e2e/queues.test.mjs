// Queues and who is in them, and jobs on their way, on the dashboard.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, state, until } from "./page.mjs";

let chromium;
let edge;
let open;
let page;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());
beforeEach(async () => {
  edge = await FakeEdge.start();
  open = await chromium.dashboard(`${edge.url}?queues=support,orders-*`);
  page = open.page;
});
afterEach(async () => {
  await open.close();
  await edge.stop();
});

async function follow(queue) {
  await page.getByLabel("Queue to follow").fill(queue);
  await page.getByRole("button", { name: "Follow" }).click();
}
const row = (queue) => page.locator(".queue", { hasText: queue });
const here = (queue) => row(queue).locator(".people li").allTextContents();
const note = (text) => page.locator("#queues-note", { hasText: text }).waitFor();

test("a queue is followed, shows who is there, and is left again", async () => {
  await follow("support");
  await row("support").getByText("1 here").waitFor();
  assert.deepEqual(await here("support"), ["demo (you)"]);
  edge.guest("support", "u1", true);
  edge.guest("support", "u2", true);
  await row("support").getByText("3 here").waitFor();
  assert.deepEqual(await here("support"), ["demo (you)", "u1", "u2"]);
  edge.guest("support", "u1", true, 1);
  edge.guest("support", "u2", false);
  await row("support").getByText("2 here").waitFor();
  edge.publish("custom", { name: "call", data: { message: "a caller waits" } }, { stream: "queue", queue: "support" });
  await page.getByText("support · call: a caller waits").waitFor();
  await page.getByRole("button", { name: "Leave support" }).click();
  await until(() => edge.commands.some(({ type, queue }) => type === "unsubscribe" && queue === "support"), "unsubscribed");
  assert.equal(await page.locator(".queue").count(), 0);
  assert.deepEqual(open.faults, []);
});

test("two devices of other people see each other come and go", async () => {
  const other = await chromium.dashboard(`${edge.url}?user=u1&queues=*`);
  await follow("support");
  await other.page.getByLabel("Queue to follow").fill("support");
  await other.page.keyboard.press("Enter");
  await other.page.locator(".queue", { hasText: "2 here" }).waitFor();
  assert.deepEqual(await other.page.locator(".people li").allTextContents(), ["demo", "u1 (you)"]);
  await page.getByRole("button", { name: "Leave support" }).click();
  await follow("support");
  await row("support").getByText("2 here").waitFor();
  await open.close();
  await other.page.locator(".queue", { hasText: "1 here" }).waitFor();
  await other.close();
});

test("only what the token grants can be followed, and a refusal is said", async () => {
  for (const [queue, why] of [["sales", "does not grant the queue sales"], ["orders-*", "does not grant"], ["", "Write the name"]]) {
    await follow(queue);
    await note(why);
  }
  assert.equal(edge.commands.length, 0);
  await follow("orders-eu");
  await row("orders-eu").getByText("1 here").waitFor();
  await follow("orders-eu");
  await note("You follow orders-eu already");
  edge.refuses.add("orders-us");
  await follow("orders-us");
  await note("orders-us cannot be followed");
  assert.equal(await page.locator(".queue").count(), 1);
  // Two requests in flight, the second one is refused: the first one stays.
  await page.evaluate(() => {
    const input = document.querySelector("#queue-name");
    for (const queue of ["support", "orders-us"]) {
      input.value = queue;
      input.form.requestSubmit();
    }
  });
  await note("orders-us cannot be followed");
  await row("support").getByText("1 here").waitFor();
  await page.getByRole("button", { name: "Leave support" }).click();
  edge.send({ type: "unsubscribed", queue: "orders-eu" });
  await note("may not follow orders-eu any more");
  assert.equal(await page.locator(".queue").count(), 0);
});

test("without a grant there is no control, and nothing that would end the connection", async () => {
  const plain = await chromium.dashboard(`${edge.url}?queues=`);
  assert.ok(await plain.page.locator("#queues").isHidden());
  await plain.close();
});

test("queues and presence come back after a cut and after a reload", async () => {
  await follow("support");
  await row("support").getByText("1 here").waitFor();
  edge.guest("support", "u1", true);
  await row("support").getByText("2 here").waitFor();
  edge.cut();
  await until(() => edge.connects.length === 2, "a second connection");
  assert.deepEqual(edge.connects[1].queues, ["support"]);
  edge.guest("support", "u2", true);
  await row("support").getByText("3 here").waitFor();
  await page.reload();
  await state(page, "connected");
  await row("support").getByText("3 here").waitFor();
});

test("a large queue names some and counts the rest", async () => {
  for (let n = 10; n < 40; n += 1) edge.guest("support", `user-${n}`, true);
  await follow("support");
  await row("support").getByText("31 here").waitFor();
  const named = await here("support");
  assert.equal(named.length, 9);
  assert.equal(named.at(-1), "and 23 more");
});

const job = (rest) => ({ documentId: "d1", documentType: "passport_picture", jobId: "j1", ...rest });
const begin = () => edge.publish("image_processing_started", job({ status: "pending" }));
const fail = (errorCode) => edge.publish("image_processing_failed", job({ status: "failed", errorCode, error: "The file is damaged." }));
const done = () => edge.publish("image_processed", job({ status: "completed", processingDuration: 900 }));
const move = (percent) => edge.ephemeral("job_progress", { jobId: "j1", percent, stage: `at ${percent}`, resourceId: "d1" });
const status = (name) => page.locator(`.doc[data-status="${name}"]`).waitFor();

test("a stalled job says so, lives again with progress, and a late success wins", async () => {
  begin();
  move(30);
  await page.locator('.doc progress[value="30"]').waitFor();
  fail("stalled");
  await status("stalled");
  assert.match(await page.locator(".doc-detail").textContent(), /^There has been no progress/);
  await page.locator(".toast", { hasText: "Passport picture is stuck" }).waitFor();
  assert.ok(await page.locator(".doc progress").isHidden());
  move(10);
  await status("pending");
  await page.locator('.toast progress[value="10"]').waitFor();
  fail("stalled");
  await status("stalled");
  done();
  await status("completed");
  await page.locator('.toast[data-kind="success"]', { hasText: "Passport picture is ready" }).waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
  assert.deepEqual(await page.locator("#feed li span").allTextContents(), ["Passport picture is ready"], "the job's latest state");
  assert.equal(await page.locator("#badge").textContent(), "1");
});

test("a failure gives way to a success and to nothing else", async () => {
  begin();
  fail("damaged_file");
  await status("failed");
  move(70);
  begin();
  fail("stalled");
  done();
  await status("completed");
  fail("damaged_file");
  move(99);
  edge.publish("status_update", { updateType: "note", resource: "account", status: "last" });
  await page.getByText("Account: last").first().waitFor();
  await status("completed");
  assert.deepEqual(await page.locator("#feed li span").allTextContents(), ["Note: Account: last", "Passport picture is ready"]);
  assert.equal(await page.locator('.toast[data-kind="error"], .toast[data-kind="progress"]').count(), 0);
});

test("a reloaded page still knows that a job is stalled, and that another has ended", async () => {
  edge.list([job({ status: "pending", createdAt: new Date().toISOString() })]);
  begin();
  fail("stalled");
  await status("stalled");
  await page.reload();
  await status("stalled");
  done();
  await status("completed");
  await page.reload();
  await state(page, "connected");
  move(50);
  edge.publish("status_update", { updateType: "note", resource: "account", status: "last" });
  await page.getByText("Account: last").first().waitFor();
  assert.equal(await page.locator('.toast[data-kind="progress"]').count(), 0);
});

test("a list that is older than the events takes nothing back", async () => {
  begin();
  done();
  await status("completed");
  for (const stale of ["pending", "failed"]) {
    edge.list([job({ status: stale, error: "no", createdAt: new Date().toISOString(), width: stale.length, height: 1 })]);
    edge.cut();
    await page.locator(".doc-detail", { hasText: `${stale.length} × 1 px` }).waitFor();
    await status("completed");
  }
  assert.equal(await page.locator(".doc").count(), 1);
});

test("progress and end in one frame show the end", async () => {
  const pdf = { reportId: "r1", jobId: "j2" };
  const moves = { type: "job_progress", id: "p", stream: "user", jobId: "j2", percent: 90, stage: "almost", resourceId: "r1" };
  const stored = [edge.publish("pdf_generation_started", { ...pdf, title: "Yearly report", status: "pending" }, { send: false }), edge.publish("pdf_generated", { ...pdf, status: "completed", pages: 3 }, { send: false })];
  edge.send({ type: "batch", events: [stored[0], moves, stored[1]] });
  await until(() => edge.receipts.get(stored[1].id)?.includes("displayed"), "displayed");
  assert.deepEqual(await page.locator(".toast").evaluateAll((all) => all.map((one) => one.dataset.kind)), ["success"]);
  await page.locator(".toast", { hasText: "Yearly report is ready" }).waitFor();
});

test("a hundred progress events in one frame are drawn once, and never backwards", async () => {
  begin();
  await status("pending");
  await page.evaluate(() => {
    window.drawn = [];
    const bar = document.querySelector(".doc progress");
    new MutationObserver((changes) => window.drawn.push(...changes.map(() => bar.value))).observe(bar, { attributes: true, attributeFilter: ["value"] });
  });
  const events = Array.from({ length: 100 }, (_, n) => ({ type: "job_progress", id: `p${n}`, stream: "user", jobId: "j1", percent: n === 50 ? 3 : n + 1, stage: "s", resourceId: "d1" }));
  edge.send({ type: "batch", events });
  await page.locator('.doc progress[value="100"]').waitFor();
  assert.deepEqual(await page.evaluate(() => window.drawn), [100]);
});

test("progress that was closed stays closed until the job ends", async () => {
  begin();
  move(10);
  await page.locator('.toast[data-kind="progress"]').waitFor();
  await page.keyboard.press("Escape");
  move(20);
  await page.locator('.doc progress[value="20"]').waitFor();
  assert.equal(await page.locator(".toast").count(), 0);
  done();
  await page.locator('.toast[data-kind="success"]').waitFor();
});
