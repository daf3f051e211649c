// The dashboard in Chromium against the fake edge: what a real one does too
// rarely to wait for.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { FakeEdge } from "../fake-edge.mjs";
import { notReloaded, openBrowser, rowWithPicture, shoot, state, until } from "./page.mjs";

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

const feed = (page) => page.locator("#feed li span").allTextContents();
const update = (n) => ({ updateType: "note", resource: "account", status: `update ${n}` });

test("what happened while the line was cut arrives once, in order, without a reload", async () => {
  const { page, faults } = open;
  edge.publish("status_update", update(1));
  await page.getByText("update 1").first().waitFor();
  edge.cut();
  for (const n of [2, 3, 4]) edge.publish("status_update", update(n));
  await state(page, "connected");
  await until(async () => (await feed(page)).length === 4, "four entries");
  assert.deepEqual((await feed(page)).map((text) => text.slice(-1)), ["4", "3", "2", "1"]);
  assert.equal(edge.connects.length, 2);
  assert.ok(edge.connects[1].positions.user);
  assert.equal(await page.locator("#badge").textContent(), "4");
  await notReloaded(page);
  assert.deepEqual(faults, []);
});

test("a hole makes the page come back with its last good position", async () => {
  const { page } = open;
  edge.publish("status_update", update(1));
  edge.publish("status_update", update(2), { send: false });
  edge.publish("status_update", update(3));
  await until(async () => (await feed(page)).length === 3, "three entries");
  assert.deepEqual((await feed(page)).map((text) => text.slice(-1)), ["3", "2", "1"]);
  assert.equal(edge.connects.length, 2);
});

test("a gap reloads the list and says so", async () => {
  const { page } = open;
  edge.publish("status_update", update(1));
  await page.getByText("update 1").first().waitFor();
  edge.cut();
  edge.publish("status_update", update(2));
  edge.trim("user");
  const listed = page.waitForResponse((response) => response.url() === `${edge.processorsUrl}/images`);
  await page.getByText("Caught up").waitFor();
  await listed;
  edge.publish("status_update", update(3));
  await page.getByText("update 3").first().waitFor();
});

test("another log is answered with a gap, and the count goes on", async () => {
  const { page } = open;
  edge.publish("status_update", update(1));
  await page.getByText("update 1").first().waitFor();
  edge.newEpoch();
  edge.cut();
  await page.getByText("Caught up").waitFor();
  edge.publish("status_update", update(9));
  await page.getByText("update 9").first().waitFor();
});

test("degraded shows in the pill while the socket stays open", async () => {
  const { page } = open;
  edge.send({ type: "degraded", since: new Date().toISOString() });
  await state(page, "degraded");
  assert.equal(await page.locator("#connection-text").textContent(), "Delivery paused");
  edge.send({ type: "recovered" });
  await state(page, "connected");
  assert.equal(edge.connects.length, 1);
});

test("an edge that went silent is noticed by the watchdog", async () => {
  const { page } = open;
  // The page's own client waits 35 s; a second one with short times is the same code.
  const url = edge.wsUrl;
  await page.evaluate((wsUrl) => {
    const states = [];
    const client = new window.DashboardWebSocketClient({ url: wsUrl, token: "t", heartbeatInterval: 50, pongTimeoutMs: 50 });
    client.on("state", ({ state, reason }) => states.push(reason ? `${state}: ${reason}` : state));
    const dropped = new Promise((resolve) => client.on("state", ({ reason }) => reason && resolve(null)));
    client.connect();
    window.second = dropped.then(() => {
      client.close();
      return states;
    });
  }, url);
  // Only an edge that has answered before is missed so soon.
  await until(() => edge.pings >= 2, "pongs of the second client");
  edge.answersPings = false;
  const seen = await page.evaluate(() => window.second);
  assert.deepEqual(seen.slice(0, 3), ["connecting", "connected", "connecting: no pong within the timeout"]);
});

test("coming back to the page asks for a sign of life at once", async () => {
  const { page } = open;
  await until(() => edge.pings === 1, "the first ping");
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until(() => edge.pings === 2, "another one");
  await state(page, "connected");
});

test("a token that is refused is replaced by a fresh one", async () => {
  const { page } = open;
  const first = edge.connects[0].token;
  edge.bye(4002, "token_expired", { reconnect: true });
  await until(() => edge.connects.length === 2, "a second connect");
  assert.notEqual(edge.connects[1].token, first);
  await state(page, "connected");
});

for (const [code, reason, button] of [[4003, "forbidden", "Reconnect"], [4009, "too_many_connections", "Use here"]]) {
  test(`a goodbye for good (${code}) shows its sentence and a way back by hand`, async () => {
    const { page } = open;
    edge.bye(code, reason, { reconnect: false });
    await state(page, "disconnected");
    await page.locator('.toast[data-kind="error"]').waitFor();
    await page.getByRole("button", { name: button }).click();
    await state(page, "connected");
  });
}

test("data is text: markup in it is shown, not run", async () => {
  const { page } = open;
  const evil = `<img src=x onerror="window.pwned=1">`;
  edge.publish("status_update", { updateType: "note", resource: evil, status: "failed", error: evil });
  edge.publish("image_processed", { documentId: "d1", documentType: evil, status: "completed", signedUrl: "javascript:window.pwned=1", thumbnailUrl: "javascript:1" });
  await page.locator('[data-document-id="d1"]').waitFor();
  await page.locator(".toast", { hasText: "onerror" }).first().waitFor();
  assert.equal(await page.locator('[data-document-id="d1"] a').getAttribute("href"), null);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
});

test("a burst shows the latest five toasts and says how many gave way", async () => {
  const { page } = open;
  for (let n = 0; n < 60; n += 1) edge.publish("status_update", update(n));
  await until(async () => (await page.locator("#badge").textContent()) === "60", "sixty updates");
  assert.equal(await page.locator(".toast").count(), 5);
  assert.equal(await page.locator(".toast-more").textContent(), "and 55 more");
  await page.locator(".toast .toast-close").first().focus();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".toast").count(), 4);
  assert.ok(await page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.className === "toast-close"));
  assert.equal(await page.locator("#feed li").count(), 60, "the list has them all");
});

test("rows, feed and unread count survive a reload", async () => {
  const { page } = open;
  await page.locator("#sample").click();
  await rowWithPicture(page, page.locator("#documents li"));
  await page.getByText("is ready").first().waitFor();
  await page.reload();
  await rowWithPicture(page, page.locator("#documents li"));
  assert.equal(await page.locator("#badge").textContent(), "1");
  assert.equal(await page.locator("#feed li").count(), 1);
  await page.locator("#bell").click();
  assert.ok(await page.locator("#badge").isHidden());
});

test("pictures that are dropped are sent, and a drop beside the zone does no harm", async () => {
  const { page } = open;
  const drop = (selector) =>
    page.evaluate(async (where) => {
      const data = new DataTransfer();
      const picture = await (await fetch("/web/sample.jpg")).blob();
      for (const name of ["a.jpg", "b.jpg"]) data.items.add(new File([picture], name, { type: "image/jpeg" }));
      const event = new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true });
      document.querySelector(where)?.dispatchEvent(event);
      return event.defaultPrevented;
    }, selector);
  assert.equal(await drop("body"), true);
  assert.equal(await drop("#drop-zone"), true);
  const rows = page.locator("#documents li");
  await rowWithPicture(page, rows.nth(0));
  await rowWithPicture(page, rows.nth(1));
  assert.equal(await rows.count(), 2);
  assert.equal(await page.locator("#badge").textContent(), "2");
});

test("a toast goes by itself, but not under the focus", async () => {
  const { page } = open;
  // From here on time moves only as the test lets it.
  const now = await page.evaluate(() => Date.now());
  await page.clock.install({ time: now });
  await page.clock.pauseAt(now + 3_000);
  await page.evaluate(() => {
    const place = document.body.appendChild(document.createElement("div"));
    window.ours = new window.ToastNotificationSystem({ container: place });
    place.id = "ours";
    window.ours.success("first");
    window.ours.success("second");
  });
  const ours = page.locator("#ours .toast");
  await ours.first().locator(".toast-close").focus();
  await page.clock.runFor(20_000);
  assert.equal(await ours.count(), 2);
  await page.locator("#sample").focus();
  await page.clock.runFor(4_900);
  assert.equal(await ours.count(), 2);
  await page.clock.runFor(200);
  assert.equal(await ours.count(), 0);
});

test("a job has one toast from its progress to its end", async () => {
  const { page } = open;
  const documentId = "d1";
  edge.publish("image_processing_started", { documentId, documentType: "passport_picture", status: "pending", jobId: "j1" });
  for (const percent of [10, 40, 90]) edge.ephemeral("job_progress", { jobId: "j1", percent, stage: "decoding", resourceId: documentId });
  await page.locator('.toast progress[value="90"]').waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
  assert.equal(await page.locator(".toast").getAttribute("role"), "status");
  await page.locator('.doc[data-status="pending"] progress[value="90"]').waitFor();
  edge.publish("image_processing_failed", { documentId, documentType: "passport_picture", status: "failed", jobId: "j1", errorCode: "damaged_file", error: "The file is damaged." });
  await page.locator('.toast[data-kind="error"]').waitFor();
  assert.equal(await page.locator(".toast").count(), 1);
  assert.equal(await page.locator(".toast").getAttribute("role"), "alert");
  edge.ephemeral("job_progress", { jobId: "j1", percent: 95, stage: "late", resourceId: documentId });
  edge.publish("status_update", update(1));
  await page.getByText("update 1").first().waitFor();
  assert.equal(await page.locator('.toast[data-kind="progress"]').count(), 0);
});

test("without tokens for trying out the page asks for one, and takes no for an answer", async () => {
  edge.devTokens = false;
  const { page, close } = await chromium.dashboard(edge.url, { waits: false });
  const before = edge.connects.length;
  await page.locator("#token-input").fill("a-token-of-mine");
  await page.getByRole("button", { name: "Sign in" }).click();
  await state(page, "connected");
  assert.equal(edge.connects[before].token, "a-token-of-mine");
  edge.bye(4001, "unauthenticated", { reconnect: true });
  await page.getByRole("button", { name: "Cancel" }).click();
  await state(page, "disconnected");
  await page.getByRole("button", { name: "Reconnect" }).click();
  await page.locator("#token-input").fill("another");
  await page.getByRole("button", { name: "Sign in" }).click();
  await state(page, "connected");
  await close();
});

test("looks, by day, by night and on a phone", async () => {
  for (const user of ["u1", "u2"]) edge.guest("support", user, true);
  for (const [name, options] of [
    ["fake-light", {}],
    ["fake-dark", { colorScheme: "dark" }],
    ["fake-phone", { viewport: { width: 390, height: 844 } }],
  ]) {
    const { page, close } = await chromium.dashboard(edge.url, { context: options });
    const stuck = { documentId: `s-${name}`, documentType: "passport_picture", jobId: `s-${name}` };
    edge.publish("image_processing_started", { ...stuck, status: "pending" });
    edge.publish("image_processing_failed", { ...stuck, status: "failed", errorCode: "stalled", error: "" });
    const going = { documentId: `p-${name}`, documentType: "profile_picture", jobId: `p-${name}` };
    edge.publish("image_processing_started", { ...going, status: "pending" });
    edge.ephemeral("job_progress", { jobId: going.jobId, percent: 60, stage: "making the thumbnail", resourceId: going.documentId });
    await page.locator("#sample").click();
    await rowWithPicture(page, page.locator('.doc[data-status="completed"]').first());
    await page.locator("#broken").click();
    await page.locator('.doc[data-status="failed"]').first().waitFor();
    await page.getByLabel("Queue to follow").fill("support");
    await page.keyboard.press("Enter");
    await page.locator(".queue", { hasText: "3 here" }).waitFor();
    await shoot(page, name);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false, `${name} does not scroll sideways`);
    await close();
  }
});
