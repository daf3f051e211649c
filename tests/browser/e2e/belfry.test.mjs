// The whole way, with the real binary: a picture goes up in Chromium, is decoded,
// and its event comes back to the same page. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { startBelfry } from "./binary.mjs";
import { notReloaded, openBrowser, rowWithPicture, shoot, state, until } from "./page.mjs";

const SAMPLE = fileURLToPath(new URL("../../../edge/web/dashboard/sample.jpg", import.meta.url));

let belfry;
let chromium;
let dataDir;
let addresses;

before(async () => {
  belfry = await startBelfry();
  ({ addresses, dataDir } = belfry);
  chromium = await openBrowser();
});

after(async () => {
  await chromium?.browser.close();
  await belfry?.stop();
});

/** Each test is another user: their rows, counts and positions are their own. */
const open = (user, queues) => chromium.dashboard(belfry.pageOf(user, queues));
const row = (page) => page.locator("#documents li").first();

/** Notes every event of a page, and every toast, even one that is replaced at once. */
async function takeNotes(page) {
  await page.evaluate(() => {
    window.toastsSeen = [];
    window.eventsSeen = [];
    window.belfryClient.on("event", ({ type, percent }) => window.eventsSeen.push(percent === undefined ? type : `${type} ${percent}`));
    const shadow = document.querySelector("#toasts").shadowRoot;
    const note = () => {
      for (const toast of shadow.querySelectorAll(".toast")) window.toastsSeen.push(`${toast.dataset.kind}: ${toast.textContent}`);
    };
    new MutationObserver(note).observe(shadow, { subtree: true, childList: true, attributes: true, characterData: true });
  });
}

test("a picture chosen from the disk shows progress, a toast, its row and the badge, without a reload", async () => {
  const { page, faults, close } = await open("file");
  await takeNotes(page);
  assert.ok(await page.locator("#documents-empty").isVisible());
  await page.locator("#file").setInputFiles(SAMPLE);
  await page.locator('.toast[data-kind="success"]').waitFor();
  await rowWithPicture(page, row(page));
  assert.equal(await row(page).locator(".doc-detail").textContent(), "1600 × 1200 px");
  assert.match(await row(page).locator(".doc-duration").textContent(), /^[\d.]+ m?s$/);
  assert.equal(await page.locator("#badge").textContent(), "1");
  assert.equal(await page.title(), "(1) Belfry");
  const events = await page.evaluate(() => window.eventsSeen);
  assert.equal(events[0], "image_processing_started");
  assert.equal(events.at(-1), "image_processed");
  const percents = events.slice(1, -1).map((event) => Number(/^job_progress (\d+)$/.exec(event)?.[1]));
  assert.ok(percents.length > 0, `no progress among ${events}`);
  assert.deepEqual(percents, percents.toSorted((a, b) => a - b));
  const toasts = await page.evaluate(() => window.toastsSeen);
  assert.ok(toasts.some((toast) => toast.startsWith("progress:")), "progress was shown");
  const full = await row(page).locator("a").getAttribute("href");
  const bytes = await page.request.get(full);
  assert.equal(bytes.status(), 200);
  assert.deepEqual(await bytes.body(), await readFile(SAMPLE));
  await notReloaded(page);
  await shoot(page, "belfry-light");
  assert.deepEqual(faults, []);
  await close();
});

test("the sample works by keyboard alone", async () => {
  const { page, faults, close } = await open("keyboard");
  for (let tabs = 0; tabs < 20; tabs += 1) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement?.id === "sample")) break;
  }
  await page.keyboard.press("Enter");
  await rowWithPicture(page, row(page));
  const toast = page.locator('.toast[data-kind="success"]');
  await toast.waitFor();
  assert.match(await page.locator("#bell").getAttribute("aria-label"), /^1 unread update,/);
  await page.keyboard.press("Escape");
  assert.equal(await toast.count(), 0);
  assert.ok(await page.locator("#badge").isHidden(), "what was dismissed is not unread");
  await page.locator("#sample").focus();
  await page.keyboard.press("Enter");
  await toast.waitFor();
  await page.locator("#bell").focus();
  await page.keyboard.press("Enter");
  assert.ok(await page.locator("#badge").isHidden());
  assert.equal(await toast.count(), 0, "what was looked at in the feed needs no toast");
  assert.deepEqual(faults, []);
  await close();
});

test("a broken file ends as an error toast with a reason that a person understands", async () => {
  const { page, close } = await open("broken");
  await page.locator("#broken").click();
  const toast = page.locator('.toast[data-kind="error"]');
  await toast.waitFor();
  const reason = (await toast.locator(".toast-text").textContent()) ?? "";
  assert.match(reason, /[a-z]+ [a-z]+ [a-z]+/i);
  assert.doesNotMatch(reason, /panic|Error\(|undefined|null|_/);
  await notReloaded(page);
  await close();
});

test("a damaged picture fails in its row too", async () => {
  const { page, close } = await open("damaged");
  const damaged = join(dataDir, "damaged.jpg");
  await writeFile(damaged, (await readFile(SAMPLE)).subarray(0, 2_000));
  await page.locator("#file").setInputFiles(damaged);
  await page.locator('.doc[data-status="failed"]').waitFor();
  assert.notEqual(await row(page).locator(".doc-detail").textContent(), "");
  await page.locator('.toast[data-kind="error"]').waitFor();
  await close();
});

test("two devices of a user receive the same, another user nothing", async () => {
  const [one, two, other] = await Promise.all([open("pair"), open("pair"), open("stranger")]);
  await one.page.locator("#sample").click();
  await Promise.all([one, two].map(({ page }) => rowWithPicture(page, row(page))));
  assert.equal(await two.page.locator("#badge").textContent(), "1");
  // The stranger's own event comes last: what it did not get by then, it never gets.
  await other.page.locator("#sample").click();
  await rowWithPicture(other.page, row(other.page));
  await until(async () => (await other.page.locator("#badge").textContent()) === "1", "one update");
  assert.equal(await other.page.locator("#documents li").count(), 1);
  await Promise.all([one, two, other].map(({ close }) => close()));
});

for (const [how, button] of [["reading", "Driving license picture is ready"], ["closing", "Dismiss: Driving license picture is ready"]]) {
  test(`${how} on one device takes the toast and the count away on the other, and on one that joins later`, async () => {
    const user = `two-${how}`;
    const [one, two] = await Promise.all([open(user), open(user)]);
    await one.page.locator("#sample").click();
    const toasts = [one, two].map(({ page }) => page.locator('.toast[data-kind="success"]'));
    await Promise.all(toasts.map((toast) => toast.waitFor()));
    // Under the focus it does not go by itself.
    await toasts[1].locator(".toast-close").focus();
    await two.page.evaluate(() => {
      window.retracts = new Map();
      window.belfryClient.on("retract", ({ id, reason }) => window.retracts.set(id, reason));
    });
    await one.page.getByRole("button", { name: button, exact: true }).click();
    await until(async () => (await toasts[1].count()) === 0, "no toast on the other device");
    assert.ok(await two.page.locator("#badge").isHidden());
    const reason = how === "reading" ? "read" : "dismissed";
    assert.deepEqual(await two.page.evaluate(() => [...window.retracts.values()]), [reason]);

    // Away while the next one is read: it comes back to nothing new.
    await two.page.evaluate(() => window.belfryClient.close());
    await one.page.locator("#sample").click();
    await toasts[0].waitFor();
    await one.page.getByRole("button", { name: button, exact: true }).click();
    await until(async () => one.page.locator("#badge").isHidden(), "nothing unread here");
    await two.page.evaluate(() => window.belfryClient.connect());
    await until(async () => (await two.page.locator("#feed li").count()) === 2, "two entries there");
    await until(async () => two.page.evaluate(() => window.retracts.size === 2), "a second retract");
    await until(async () => two.page.locator("#badge").isHidden(), "nothing unread there");
    assert.equal(await toasts[1].count(), 0);
    assert.deepEqual([...one.faults, ...two.faults], []);
    await Promise.all([one.close(), two.close()]);
  });
}

test("those who follow a queue see each other, and what is sent to it", async () => {
  const [one, two] = await Promise.all([open("q1"), open("q2")]);
  for (const { page } of [one, two]) {
    await page.getByLabel("Queue to follow").fill("support");
    await page.keyboard.press("Enter");
  }
  for (const { page } of [one, two]) await page.locator(".queue", { hasText: "2 here" }).waitFor();
  assert.deepEqual(await two.page.locator(".people li").allTextContents(), ["q1", "q2 (you)"]);
  const refused = await open("q3", "other");
  await refused.page.getByLabel("Queue to follow").fill("support");
  await refused.page.keyboard.press("Enter");
  await refused.page.locator("#queues-note", { hasText: "does not grant" }).waitFor();
  await Promise.all([one, two, refused].map(({ close }) => close()));
});

test("what happened while a page was offline arrives when it is back, without a reload", async () => {
  const [here, away] = await Promise.all([open("traveller"), open("traveller")]);
  await here.page.locator("#sample").click();
  await rowWithPicture(away.page, row(away.page));
  // A loopback socket outlives `setOffline`, so the page's own connection is cut by hand.
  await away.page.evaluate(() => window.belfryClient.close());
  for (const count of [2, 3]) {
    await here.page.locator("#sample").click();
    await until(async () => (await here.page.locator("#badge").textContent()) === String(count), `${count} updates here`);
  }
  assert.equal(await away.page.locator("#badge").textContent(), "1");
  await away.page.evaluate(() => window.belfryClient.connect());
  await until(async () => (await away.page.locator("#badge").textContent()) === "3", "three updates there");
  assert.equal(await away.page.locator("#feed li").count(), 3);
  await notReloaded(away.page);
  await Promise.all([here.close(), away.close()]);
});

test("documents and unread count survive a reload", async () => {
  const { page, close } = await open("reload");
  await page.locator("#sample").click();
  await rowWithPicture(page, row(page));
  await until(async () => (await page.locator("#badge").textContent()) === "1", "one update");
  await page.reload();
  await rowWithPicture(page, row(page));
  assert.equal(await page.locator("#badge").textContent(), "1");
  await close();
});

test("the key of the printed address leaves the address bar, and lasts for reloads of its tab", async () => {
  const { page, close } = await open("key");
  assert.equal(await page.evaluate(() => location.hash), "");
  assert.equal(await page.evaluate(() => sessionStorage.getItem("belfry.devKey")), addresses.devKey);
  await page.reload();
  await state(page, "connected");
  await close();
});

test("without the key of the printed address a page gets no token and asks for one", async () => {
  const { page, close } = await chromium.dashboard(new URL("/", addresses.dashboard).href, { waits: false });
  await page.locator("#token-input").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await state(page, "disconnected");
  await page.goto(addresses.dashboard);
  await state(page, "connected");
  await close();
});

test("no request of the page carries a token in its address", async () => {
  const { page, close } = await open("addresses");
  const seen = [];
  page.on("request", (request) => seen.push(request.url()));
  page.on("websocket", (socket) => seen.push(socket.url()));
  await page.reload();
  await page.locator("#sample").click();
  await rowWithPicture(page, row(page));
  assert.ok(seen.length > 5);
  assert.deepEqual(seen.filter((url) => /eyJ|token=/.test(url)), []);
  await close();
});
