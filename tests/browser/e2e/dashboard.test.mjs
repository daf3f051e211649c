// What the dashboard says and does, line by line, against an edge that does what a test
// wants.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { openBrowser, shoot, state, stopClock, until } from "./page.mjs";

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
  open = await chromium.dashboard(edge.url);
  page = open.page;
});
afterEach(async () => {
  await open.close();
  await edge.stop();
});

const picture = (n) => ({ documentId: `d${n}`, documentType: "passport_picture", jobId: `j${n}` });

test("progress reaches its row whether or not it names a resource, and also before the row is there", async () => {
  edge.publish("image_processing_started", { ...picture(1), status: "pending" });
  edge.ephemeral("job_progress", { jobId: "j1", percent: 40, stage: "decoding" });
  const first = page.locator('[data-document-id="d1"]');
  await first.getByText("decoding").waitFor();
  edge.ephemeral("job_progress", { jobId: "j1", percent: 60, stage: "scaling", resourceId: "another" });
  await first.getByText("scaling").waitFor();

  edge.ephemeral("job_progress", { jobId: "j2", percent: 70, stage: "measuring" });
  await page.locator(".toast", { hasText: "measuring" }).waitFor();
  edge.publish("image_processing_started", { ...picture(2), status: "pending" });
  await page.locator('[data-document-id="d2"]').getByText("measuring").waitFor();
  assert.equal(await page.locator('[data-document-id="d2"] progress').evaluate((bar) => bar.value), 70);
  assert.equal(await page.locator('[data-document-id="d1"] progress').evaluate((bar) => bar.value), 60);
});

test("an end that names its job alone ends the row and the toast of that job", async () => {
  edge.publish("image_processing_started", { ...picture(1), status: "pending" });
  edge.ephemeral("job_progress", { jobId: "j1", percent: 40, stage: "decoding" });
  await page.locator(".toast", { hasText: "decoding" }).waitFor();
  edge.publish("image_processing_failed", { jobId: "j1", status: "failed", errorCode: "damaged_file", error: "The picture is damaged." });
  await page.locator('[data-document-id="d1"][data-status="failed"]').waitFor();
  await page.locator('.toast[data-kind="error"]', { hasText: "Passport picture failed" }).waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
});

test("a name never comes from another job", async () => {
  edge.publish("pdf_generation_started", { reportId: "r1", jobId: "j1", title: "Secret title", status: "pending" });
  await page.locator("#reports li", { hasText: "Secret title" }).waitFor();
  edge.ephemeral("job_progress", { jobId: "j9", percent: 10, stage: "elsewhere", resourceId: "r1" });
  const toast = page.locator(".toast", { hasText: "elsewhere" });
  await toast.waitFor();
  assert.ok(!(await toast.textContent()).includes("Secret title"));
  edge.publish("pdf_generation_failed", { reportId: "r9", jobId: "j9", status: "failed", errorCode: "timeout", error: "It took too long." });
  await page.locator('.toast[data-kind="error"]', { hasText: "Report failed" }).waitFor();
});

test("the bell opens the list and marks read what was on screen, not what was not", async () => {
  const events = Array.from({ length: 40 }, (_, n) => edge.publish("status_update", { updateType: "note", resource: "account", status: `update ${n}` }));
  await until(async () => (await page.locator("#badge").textContent()) === "40", "forty unread");
  await page.locator("#bell").click();
  const read = (event) => edge.receipts.get(event.id)?.includes("read") ?? false;
  await until(() => read(events[39]), "the newest is read");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "feed-title");
  // Receipts go out together: what was on screen is read by now.
  const left = await until(async () => Number(await page.locator("#badge").textContent()), "some are unread");
  assert.ok(left > 10 && left < 40, `${left} are unread`);
  assert.equal(read(events[0]), false, "the oldest is below the edge of the list");
  await page.locator("#feed").evaluate((list) => list.scrollTo(0, list.scrollHeight));
  await until(() => read(events[0]), "it was scrolled to");
});

test("each section says how many it has", async () => {
  assert.ok(await page.locator("#documents-count").isHidden());
  for (const n of [1, 2, 3]) edge.publish("image_processing_started", { ...picture(n), status: "pending" });
  edge.publish("pdf_generation_started", { reportId: "r1", jobId: "r1", title: "One", status: "pending" });
  await page.locator("#documents-count", { hasText: /^3$/ }).waitFor();
  await page.locator("#reports-count", { hasText: /^1$/ }).waitFor();
  assert.ok(await page.locator("#transcriptions-count").isHidden());
});

test("a custom event shows its data", async () => {
  edge.publish("custom", { name: "order_shipped", data: { order: "A-2041", parcels: 2, to: { city: "Bonn" } } });
  const toast = page.locator(".toast", { hasText: "Order shipped" });
  await toast.getByText('order: A-2041 · parcels: 2 · to: {"city":"Bonn"}').waitFor();
  await page.locator("#feed li", { hasText: "A-2041" }).waitFor();
});

test("a wait for the next attempt is counted down, and Reconnect now ends it", async () => {
  edge.bye(1012, "restart", { retryAfterMs: 30_000, reconnect: true });
  await page.locator("#connection-text", { hasText: /^Reconnecting in (2\d|30) s$/ }).waitFor();
  await page.locator("#connection-text", { hasText: /^Reconnecting in 2\d s$/ }).waitFor();
  const before = edge.connects.length;
  await page.getByRole("button", { name: "Reconnect now" }).click();
  await state(page, "connected");
  assert.equal(edge.connects.length, before + 1);
  assert.ok(await page.locator("#reconnect").isHidden());
});

test("offline is noticed at once: within two seconds without an answer the page is not connected", async () => {
  // The page has seen this edge answer.
  await until(() => edge.pings > 0, "the first ping");
  edge.publish("status_update", { updateType: "note", resource: "account", status: "after the pong" });
  await page.getByText("after the pong").first().waitFor();
  edge.answersPings = false;
  const pings = await stopClock(page);
  await page.context().setOffline(true);
  await until(async () => (await pings()) > 0, "a ping at once");
  await page.clock.runFor(1_900);
  await state(page, "connected");
  await page.clock.runFor(200);
  await page.locator('#connection:not([data-state="connected"])').waitFor();
  await page.clock.resume();
  await page.locator("#connection-text", { hasText: "Offline" }).waitFor();
  edge.answersPings = true;
  await page.context().setOffline(false);
  await state(page, "connected");
});

test("the token dialog says why it is back", async () => {
  const own = await FakeEdge.start();
  own.devTokens = false;
  const { page: other, close } = await chromium.dashboard(own.url, { waits: false });
  await other.locator("#token-dialog").waitFor();
  assert.ok(await other.locator("#token-reason").isHidden(), "nothing to explain at first");
  own.refuseWith = { code: 4001, reason: "unauthenticated" };
  await other.locator("#token-input").fill("x.y.z");
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.locator("#token-reason", { hasText: "was not accepted. The edge says: unauthenticated." }).waitFor();
  own.refuseWith = { code: 4002, reason: "token_expired" };
  await other.locator("#token-input").fill("x.y.z");
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.locator("#token-reason", { hasText: "has expired" }).waitFor();
  await close();
  await own.stop();
});

test("a token lasts as long as the edge says, whatever this machine's clock shows", async () => {
  const own = await FakeEdge.start();
  const context = await chromium.browser.newContext();
  const other = await context.newPage();
  await other.clock.install({ time: Date.now() + 7 * 86_400_000 });
  await other.goto(own.url);
  await state(other, "connected");
  const tokens = own.tokens;
  await other.locator("#sample").click();
  await other.locator('.doc[data-status="completed"]').waitFor();
  assert.equal(own.tokens, tokens, "no other token was requested for the upload");
  await context.close();
  await own.stop();
});

test("from 360 to 3,840 pixels nothing scrolls sideways, and wide screens are used", async () => {
  for (const n of [1, 2, 3]) edge.publish("image_processing_started", { ...picture(n), status: "pending" });
  await page.locator("#documents-count", { hasText: "3" }).waitFor();
  for (const width of [360, 390, 560, 768, 860, 1024, 1280, 1440, 1920, 2560, 3840]) {
    await page.setViewportSize({ width, height: 900 });
    const { scroll, left, right } = await page.evaluate(() => {
      const boxes = [...document.querySelectorAll("main > *")].map((each) => each.getBoundingClientRect());
      return { scroll: document.documentElement.scrollWidth, left: Math.min(...boxes.map((box) => box.left)), right: Math.max(...boxes.map((box) => box.right)) };
    });
    assert.ok(scroll <= width, `${width}: ${scroll} px wide`);
    assert.ok(right - left >= width * 0.9, `${width}: ${right - left} px are used`);
  }
  await page.setViewportSize({ width: 3840, height: 2160 });
  await shoot(page, "dashboard-3840");
});

test("the page speaks as a product does", async () => {
  const text = await page.evaluate(() => document.body.innerText + [...document.querySelectorAll("template, dialog")].map((each) => each.textContent).join(" "));
  assert.doesNotMatch(text, /It shows|It speaks|What is said/);
  for (const label of ["Document type", "Language"]) assert.ok(await page.getByLabel(label, { exact: true }).isVisible(), label);
  assert.equal(await page.getByLabel("Language", { exact: true }).locator("option").first().textContent(), "Detect automatically");
});
