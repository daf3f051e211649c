// What an existing page goes through: tokens that end, hostile text, the back/forward
// cache, pointers and people who want no motion.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { fakeToken, Site, tags } from "./own-page.mjs";
import { openBrowser, TIMEOUT_MS, until } from "./page.mjs";

let chromium;
let edge;
let site;
let context;
let lastsMs;

before(async () => {
  chromium = await openBrowser();
});
after(() => chromium.browser.close());
beforeEach(async () => {
  lastsMs = 3_600_000;
  edge = await FakeEdge.start();
  site = await Site.start((user) => fakeToken(user, lastsMs));
  context = await chromium.browser.newContext();
});
afterEach(async () => {
  await context.close();
  await edge.stop();
  await site.stop();
});

async function open(options = {}) {
  const page = await context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.goto(site.page("/", `<belfry-bell></belfry-bell><p id="ws-connection-status"></p>${tags(edge.url)}`, options));
  await live(page);
  return page;
}

const live = (page) => page.locator('#ws-connection-status[data-state="live"]').waitFor();
const state = (page) => page.evaluate(() => window.getDashboardWebSocket()?.state);

test("a token is refreshed before it ends, and one that ended is replaced", async () => {
  lastsMs = 4_000;
  edge.tokenLastsMs = 4_000;
  const page = await open();
  await until(() => edge.commands.some(({ type }) => type === "refresh"), "a refresh");
  lastsMs = edge.tokenLastsMs = 3_600_000;
  const before = site.tokens.length;
  edge.bye(4002, "token_expired", { reconnect: true });
  await until(() => edge.connects.length === 2, "a second connection");
  await live(page);
  assert.ok(site.tokens.length > before);
});

test("text in every field of every event stays text", async () => {
  const page = await open();
  const evil = `"><img src=x onerror="window.pwned=1"><script>window.pwned=1</script>`;
  const fields = { documentId: evil, documentType: evil, reportId: evil, title: evil, transcriptionId: evil, text: evil, language: evil, resourceId: evil, stage: evil, partial: evil, updateType: evil, resource: evil, status: evil, error: evil, errorCode: evil, name: evil, data: { message: evil, text: evil }, signedUrl: `javascript:window.pwned=1//${evil}`, thumbnailUrl: "javascript:window.pwned=1" };
  const types = ["image_processing_started", "image_processed", "image_processing_failed", "pdf_generation_started", "pdf_generated", "pdf_generation_failed", "transcription_started", "transcription_complete", "transcription_failed", "status_update", "custom"];
  for (const [n, type] of types.entries()) edge.publish(type, { ...fields, jobId: `${evil}${n}` });
  edge.ephemeral("job_progress", { ...fields, jobId: evil, percent: 40 });
  await until(async () => (await page.locator(".toast").count()) === 5, "toasts");
  await page.locator("belfry-bell .bell").click();
  await page.locator(".panel .notice").first().waitFor();
  const inside = await page.evaluate(() => [...document.querySelectorAll("belfry-toasts, belfry-bell")].flatMap((host) => [...host.shadowRoot.querySelectorAll("img, script, a, iframe")]).length);
  assert.equal(inside, 0);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test("a page that goes closes its connection, and comes back from the cache with it", async () => {
  const page = await open();
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
  assert.equal(await state(page), "disconnected");
  await until(() => edge.sessions === 0, "no session");
  const event = edge.publish("image_processed", { documentId: "d1", documentType: "passport_picture", status: "completed", jobId: "j1" });
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await live(page);
  await page.locator(".toast", { hasText: "Passport picture is ready" }).waitFor();
  await until(() => edge.receipts.get(event.id)?.includes("displayed"), "displayed");
});

test("offline is shown at once, and the connection is back with the network", async () => {
  const page = await open();
  await until(() => edge.pings > 0, "an edge that answers pings");
  const at = Date.now();
  await context.setOffline(true);
  await page.locator('#ws-connection-status[data-state="offline"]').waitFor();
  assert.ok(Date.now() - at < 4_000, `${Date.now() - at} ms`);
  await context.setOffline(false);
  await live(page);
});

test("a toast stays under the pointer, goes after it, and does not move for who wants no motion", async () => {
  const page = await open();
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.clock.install();
  await page.evaluate(() => window.showToast("one", "text", "info"));
  await page.locator(".toast").hover();
  await page.clock.runFor(20_000);
  assert.equal(await page.locator(".toast").count(), 1);
  assert.equal(await page.locator(".toast").evaluate((toast) => getComputedStyle(toast).animationName), "none");
  await page.mouse.move(5, 500);
  await page.clock.runFor(5_100);
  assert.equal(await page.locator(".toast, .toast-leaving").count(), 0);
});

test("the page's custom properties reach the toasts, its rules do not", async () => {
  const head = "<style>:root { --belfry-background: rgb(1, 2, 3); } button { display: none !important; } div { color: red; }</style>";
  const page = await open({ head });
  await page.evaluate(() => window.showToast("one", "text", "info", 0));
  const look = await page.locator(".toast").evaluate((toast) => [getComputedStyle(toast).backgroundColor, getComputedStyle(toast.querySelector(".toast-close")).display]);
  assert.equal(look[0], "rgb(1, 2, 3)");
  assert.notEqual(look[1], "none");
});

test("every way out of a toast is reported: closed, read, retracted elsewhere", async () => {
  const page = await open();
  const publish = (n) => edge.publish("image_processed", { documentId: `d${n}`, documentType: "passport_picture", status: "completed", jobId: `j${n}` });
  const [one, two, three] = [publish(1), publish(2), publish(3)];
  await page.locator(".toast").nth(2).waitFor();
  await page.locator(".toast .toast-close").nth(0).click();
  await until(() => edge.receipts.get(one.id)?.includes("dismissed"), "dismissed");
  await page.locator(".toast .toast-open").nth(0).click();
  await until(() => edge.receipts.get(two.id)?.includes("read"), "read");
  edge.send({ type: "retract", id: three.id, reason: "read" });
  await until(async () => (await page.locator(".toast").count()) === 0, "gone");
  assert.ok(!edge.receipts.get(three.id)?.some((what) => what === "read" || what === "dismissed"));
  assert.equal(await page.locator("belfry-bell .count").isHidden(), true);
});
