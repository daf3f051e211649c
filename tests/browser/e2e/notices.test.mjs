// What a person saw, closed and opened: reported once, and one on all devices.

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
  open = await chromium.dashboard(edge.url);
  page = open.page;
});
afterEach(async () => {
  await open.close();
  await edge.stop();
});

const update = (n) => ({ updateType: "note", resource: "account", status: `update ${n}` });
const badge = (where) => where.locator("#badge").textContent();
const toasts = (where) => where.locator(".toast");
const reported = (event) => edge.receipts.get(event.id) ?? [];
const reports = (event, states) => until(() => reported(event).join() === states.join(), `${states} of ${event.type}, not ${reported(event)}`);

/** Whatever was on its way when this was called is done when it returns, even what is held back for its retract. */
async function quiet(where = page) {
  const timestamp = new Date(Date.now() - 20_000).toISOString();
  const last = edge.publish("status_update", { updateType: "last", resource: "account", status: `marker ${Math.random()}`, timestamp });
  await where.getByText(last.status).first().waitFor();
  await until(() => reported(last).includes("displayed"), "the marker's receipt");
  return last;
}

function look(where, visibility) {
  return where.evaluate((to) => {
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => to });
    document.dispatchEvent(new Event("visibilitychange"));
  }, visibility);
}

test("a toast that ran is displayed, and a click on it reads it, settles the bell and shows what it is about", async () => {
  const event = edge.publish("image_processed", { documentId: "d1", documentType: "passport_picture", status: "completed", jobId: "j1", signedUrl: `${edge.processorsUrl}/files/d1`, thumbnailUrl: `${edge.processorsUrl}/files/d1` });
  await reports(event, ["displayed"]);
  assert.equal(await badge(page), "1");
  await page.getByRole("button", { name: "Passport picture is ready", exact: true }).click();
  await reports(event, ["displayed", "read"]);
  assert.equal(await toasts(page).count(), 0);
  assert.ok(await page.locator("#badge").isHidden());
  assert.equal(await page.locator("#feed li").count(), 1, "the feed keeps it");
  assert.ok(await page.evaluate(() => document.activeElement?.closest("li")?.dataset.documentId === "d1"));
  assert.deepEqual(open.faults, []);
});

test("a browser has one name in all its tabs, and another browser another", async () => {
  const tab = await page.context().newPage();
  await tab.goto(edge.url);
  await state(tab, "connected");
  const other = await chromium.dashboard(edge.url);
  const [one, two, three] = edge.connects.map(({ device }) => device);
  assert.match(one, /^browser-[0-9a-f]{8}$/);
  assert.equal(two, one);
  assert.notEqual(three, one);
  await other.close();
});

test("a hidden page reports delivered at once, and displayed when it is seen", async () => {
  await look(page, "hidden");
  const event = edge.publish("status_update", update(1));
  await toasts(page).waitFor();
  await reports(event, ["delivered"]);
  await look(page, "visible");
  await reports(event, ["delivered", "displayed"]);
});

test("a toast in a hidden page waits for the person", async () => {
  const now = await page.evaluate(() => Date.now());
  await page.clock.install({ time: now });
  await page.clock.pauseAt(now + 3_000);
  await look(page, "hidden");
  await page.evaluate(() => {
    const place = document.body.appendChild(document.createElement("div"));
    place.id = "ours";
    window.reported = [];
    const ours = new window.ToastNotificationSystem({ container: place, onReceipt: (id, what) => window.reported.push(`${id} ${what}`) });
    ours.show({ kind: "success", title: "ours", eventId: "e1" });
  });
  await page.clock.runFor(60_000);
  assert.equal(await page.locator("#ours .toast").count(), 1);
  assert.deepEqual(await page.evaluate(() => window.reported), []);
  await look(page, "visible");
  await page.clock.runFor(4_900);
  assert.equal(await page.locator("#ours .toast").count(), 1);
  assert.deepEqual(await page.evaluate(() => window.reported), ["e1 displayed"]);
  await page.clock.runFor(200);
  assert.equal(await page.locator("#ours .toast").count(), 0);
  assert.deepEqual(await page.evaluate(() => window.reported), ["e1 displayed"], "going by itself is no dismissal");
});

test("closing is dismissing, by mouse and by keyboard", async () => {
  const one = edge.publish("status_update", update(1));
  await reports(one, ["displayed"]);
  await page.getByRole("button", { name: "Dismiss: Note" }).click();
  await reports(one, ["displayed", "dismissed"]);
  const two = edge.publish("status_update", update(2));
  await reports(two, ["displayed"]);
  await page.keyboard.press("Escape");
  await reports(two, ["displayed", "dismissed"]);
  assert.ok(await page.locator("#badge").isHidden());
});

test("the sixth toast takes the place of the oldest, which stays unread", async () => {
  const events = Array.from({ length: 5 }, (_, n) => edge.publish("status_update", update(n)));
  await reports(events[0], ["displayed"]);
  const sixth = edge.publish("status_update", update(5));
  await reports(sixth, ["displayed"]);
  assert.equal(await toasts(page).count(), 5);
  assert.equal(await page.locator(".toast-more").textContent(), "and 1 more");
  assert.deepEqual(reported(events[0]), ["displayed"]);
  assert.equal(await badge(page), "6");
});

for (const [how, button, reason] of [["reading", "Note", "read"], ["closing", "Dismiss: Note", "dismissed"]]) {
  test(`${how} on one device takes toast and count away on the other, which reports nothing`, async () => {
    const other = await chromium.dashboard(edge.url);
    const event = edge.publish("status_update", update(1));
    await until(() => reported(event).filter((what) => what === "displayed").length === 2, "both displayed");
    // Under the focus it does not go by itself.
    await other.page.locator(".toast-close").focus();
    await page.getByRole("button", { name: button, exact: true }).click();
    await until(async () => (await toasts(other.page).count()) === 0, "no toast on the other device");
    assert.ok(await other.page.locator("#badge").isHidden());
    assert.equal(await other.page.locator("#feed li").count(), 1, "the feed keeps it");
    await quiet(other.page);
    assert.deepEqual(reported(event), ["displayed", "displayed", reason]);
    assert.deepEqual([...open.faults, ...other.faults], []);
    await other.close();
  });
}

test("what was read while a page was away is not announced when it is back", async () => {
  const other = await chromium.dashboard(edge.url);
  await other.page.evaluate(() => window.belfryClient.close());
  const old = new Date(Date.now() - 20_000).toISOString();
  const event = edge.publish("status_update", { ...update(1), timestamp: old });
  await page.getByRole("button", { name: "Note", exact: true }).click();
  await until(() => reported(event).includes("read"), "it was read");
  await other.page.evaluate(() => {
    window.toastsSeen = [];
    const shadow = document.querySelector("#toasts").shadowRoot;
    const note = () => window.toastsSeen.push(shadow?.textContent);
    if (shadow) new MutationObserver(note).observe(shadow, { subtree: true, childList: true });
    window.belfryClient.connect();
  });
  await other.page.getByText("update 1").waitFor();
  await until(async () => other.page.locator("#badge").isHidden(), "nothing unread");
  const marker = await quiet(other.page);
  const seen = await other.page.evaluate(() => window.toastsSeen);
  assert.ok(seen.some((text) => text.includes(marker.status)), "the marker was announced");
  assert.deepEqual(seen.filter((text) => text.includes("update 1")), []);
  await until(() => reported(event).filter((what) => what === "delivered").length === 2, "delivered on both");
  await other.close();
});

test("an event that was retracted before it came is noted, not announced", async () => {
  const id = "0199a000-0000-7000-8000-000000000001";
  edge.send({ type: "retract", id, reason: "read" });
  const event = edge.publish("status_update", { ...update(1), id });
  await page.getByText("update 1").waitFor();
  await quiet();
  assert.equal(await page.locator(".toast", { hasText: "update 1" }).count(), 0);
  assert.equal(await badge(page), "1", "the marker's");
  assert.deepEqual(reported(event), ["delivered"]);
});

test("what expired is noted, not announced", async () => {
  const event = edge.publish("status_update", { ...update(1), expired: true });
  await page.locator("#feed li").waitFor();
  assert.ok(await page.locator("#badge").isHidden());
  await quiet();
  assert.equal(await page.locator(".toast", { hasText: "update 1" }).count(), 0);
  assert.deepEqual(reported(event), ["delivered"]);
});

test("an event that the edge is too old to know is passed over, and keeps its place", async () => {
  const unknown = edge.publish("unknown");
  await quiet();
  assert.equal(await page.locator("#feed li").count(), 1);
  assert.equal(edge.connects.length, 1, "no hole");
  await reports(unknown, ["delivered"]);
});

test("the bell opens the list, and what was on screen is read, here and elsewhere", async () => {
  const other = await chromium.dashboard(edge.url);
  const events = [1, 2, 3].map((n) => edge.publish("status_update", update(n)));
  await until(async () => (await badge(other.page)) === "3", "three there");
  await until(async () => (await toasts(page).count()) === 3, "three toasts here");
  await page.getByRole("button", { name: "3 unread updates, open the list" }).click();
  for (const event of events) await until(() => reported(event).includes("read"), "read");
  await until(async () => other.page.locator("#badge").isHidden(), "nothing unread there");
  assert.equal(await toasts(page).count(), 0);
  await until(async () => (await toasts(other.page).count()) === 0, "no toast there");
  await other.close();
});

test("what was missed is one toast that leads to the feed, and is displayed only by being opened", async () => {
  const old = new Date(Date.now() - 600_000).toISOString();
  const events = [1, 2, 3].map((n) => edge.publish("status_update", { ...update(n), timestamp: old }));
  await page.getByText("3 updates, see the activity.").waitFor();
  await reports(events[2], ["delivered"]);
  edge.send({ type: "retract", id: events[0].id, reason: "dismissed" });
  await page.getByText("2 updates, see the activity.").waitFor();
  await page.getByRole("button", { name: "While you were away", exact: true }).click();
  await reports(events[2], ["delivered", "read"]);
  await reports(events[0], ["delivered"]);
  assert.ok(await page.locator("#badge").isHidden());
  assert.equal(await page.evaluate(() => document.activeElement?.id), "feed-title");
});

test("a machine with a wrong clock still knows what is new", async () => {
  const wrong = await chromium.browser.newContext();
  const other = await wrong.newPage();
  await other.clock.install({ time: Date.now() + 3_600_000 });
  await other.goto(edge.url);
  await state(other, "connected");
  edge.publish("status_update", update(1));
  await other.locator(".toast", { hasText: "update 1" }).waitFor();
  await wrong.close();
});

test("the keyboard alone reaches a toast, opens it and comes to what it is about", async () => {
  const event = edge.publish("image_processed", { documentId: "d1", documentType: "passport_picture", status: "completed", jobId: "j1" });
  await reports(event, ["displayed"]);
  const focused = () => page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.className);
  for (let tabs = 0; tabs < 30 && (await focused()) !== "toast-open"; tabs += 1) await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.shadowRoot?.activeElement?.textContent), "Passport picture is ready");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "toast-close");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Enter");
  await reports(event, ["displayed", "read"]);
  assert.equal(await page.evaluate(() => document.activeElement?.dataset.documentId), "d1");
});

test("whoever wants stillness sees nothing move", async () => {
  const still = await chromium.dashboard(edge.url, { context: { reducedMotion: "reduce" } });
  edge.ephemeral("job_progress", { jobId: "j1", percent: 10, stage: "s" });
  edge.publish("status_update", update(1));
  await still.page.locator(".toast", { hasText: "update 1" }).waitFor();
  await still.page.locator(".toast progress").waitFor();
  assert.equal(await still.page.evaluate(() => document.getAnimations().length), 0);
  assert.ok(await page.evaluate(() => document.getAnimations().length > 0), "elsewhere it does move");
  await still.close();
});

test("an edge of before receipts does not lose the page", async () => {
  edge.old = true;
  for (let n = 0; n < 5; n += 1) edge.publish("status_update", update(n));
  await until(async () => (await toasts(page).count()) === 5, "five toasts");
  await page.getByRole("button", { name: "Note", exact: true }).first().click();
  assert.equal(await badge(page), "4");
  await page.evaluate(() => window.dispatchEvent(new Event("online")));
  await until(() => edge.pings >= 1, "a ping");
  assert.equal(edge.connects.length, 1);
  assert.equal(edge.receipts.size, 0);
});
