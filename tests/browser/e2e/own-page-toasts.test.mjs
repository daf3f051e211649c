// The toasts of an existing page against the real binary: how long they stay, how they
// go, and what they are made of. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EVIL, EVIL_EVENTS } from "./contract-events.mjs";
import { picture } from "./own-page.mjs";
import { ownPageWorld } from "./own-page-world.mjs";
import { until } from "./page.mjs";

const world = ownPageWorld();
const BELL = "<belfry-bell></belfry-bell>";
const KINDS = ["success", "error", "warning", "info", "progress"];

test("a toast of each kind stays 5 s, or as long as the page says", async () => {
  const page = await world.open(world.page("/", BELL));
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 60_000);
  await page.mouse.move(5, 600);
  for (const kind of KINDS) await page.evaluate((type) => window.showToast(`a ${type}`, "text", type), kind);
  assert.deepEqual(await page.locator(".toast").evaluateAll((all) => all.map((each) => each.dataset.kind)), KINDS);
  await page.clock.runFor(4_900);
  assert.equal(await page.locator(".toast").count(), 5);
  await page.clock.runFor(600);
  assert.equal(await page.locator(".toast, .toast-leaving").count(), 0);
  await page.evaluate(() => window.showToast("long", "text", "info", 20_000));
  await page.evaluate(() => window.showToast("for good", "text", "info", 0));
  await page.clock.runFor(19_000);
  assert.equal(await page.locator(".toast").count(), 2);
  await page.clock.runFor(60_000);
  assert.deepEqual(await page.locator(".toast .toast-title").allTextContents(), ["for good"]);
});

test("a toast stays under the pointer and under the focus, and goes after it", async () => {
  const page = await world.plain();
  await page.clock.install();
  await page.clock.pauseAt(Date.now() + 60_000);
  await world.edge.publish("image_processed", picture(1));
  const toast = page.locator(".toast");
  await toast.waitFor();
  await toast.hover();
  await page.clock.runFor(20_000);
  assert.equal(await toast.count(), 1, "under the pointer");
  await toast.locator(".toast-close").focus();
  await page.mouse.move(5, 500);
  await page.clock.runFor(20_000);
  assert.equal(await toast.count(), 1, "under the focus");
  await toast.locator(".toast-close").evaluate((button) => button.blur());
  // Its exit takes up to 400 ms.
  await page.clock.runFor(5_500);
  assert.equal(await page.locator(".toast, .toast-leaving").count(), 0);
});

test("a click or Escape dismisses it; what was clicked is read, what was closed is dismissed, for its service to see", async () => {
  const page = await world.open(world.page("/", BELL));
  const ids = await world.edge.publishAll([1, 2, 3].map((n) => ["image_processed", picture(n)]));
  await page.locator(".toast").nth(2).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".toast").count(), 2);
  await page.locator(".toast").nth(0).click();
  assert.equal(await page.locator(".toast").count(), 1);
  await page.locator(".toast .toast-close").click();
  assert.equal(await page.locator(".toast").count(), 0);
  for (const [n, state] of [[0, "read"], [1, "dismissed"], [2, "dismissed"]]) {
    await until(async () => (await world.edge.publisher.receipts(ids[n])).includes(state), `event ${n} is ${state}`);
  }
  await until(async () => page.locator("belfry-bell .count").isHidden(), "nothing is unread");
});

test("five are on the screen; the oldest goes when the sixth comes, and stays in the bell's list", async () => {
  const page = await world.open(world.page("/", BELL));
  await world.edge.publishAll([1, 2, 3, 4, 5, 6, 7].map((n) => ["image_processed", picture(n, { documentType: `picture_${n}` })]));
  await until(async () => (await page.locator(".toast-more").textContent()) === "and 2 more", "two gave way");
  assert.deepEqual(await page.locator(".toast .toast-open").allTextContents(), [3, 4, 5, 6, 7].map((n) => `Picture ${n} is ready`));
  await page.locator(".toast-more").click();
  await page.locator(".panel .notice").nth(6).waitFor();
  assert.deepEqual(await page.locator(".panel .notice b").allTextContents(), [7, 6, 5, 4, 3, 2, 1].map((n) => `Picture ${n} is ready`));
});

test("\"and n more\" brings back what gave way on a page without a bell", async () => {
  const page = await world.plain();
  await page.mouse.move(5, 600);
  for (let n = 1; n <= 7; n += 1) await page.evaluate((title) => window.showToast(title, "", "info", 0), `toast ${n}`);
  const more = page.locator(".toast-more");
  assert.equal(await more.textContent(), "and 2 more");
  const [height, size] = await more.evaluate((button) => [button.getBoundingClientRect().height, Number.parseFloat(getComputedStyle(button).fontSize)]);
  assert.ok(height >= 24 && size >= 12, `${height} px high, letters of ${size} px`);
  await more.focus();
  await page.keyboard.press("Enter");
  await until(async () => (await page.locator(".toast .toast-title").allTextContents()).includes("toast 1"), "the first is back");
  const titles = await page.locator(".toast .toast-title").allTextContents();
  assert.ok(titles.includes("toast 2") && titles.length === 5, String(titles));
});

test("it comes and goes with an animation, and without one for who wants no motion", async () => {
  const page = await world.plain();
  await page.evaluate(() => window.showToast("one", "text", "info", 0));
  assert.notEqual(await page.locator(".toast").evaluate((toast) => getComputedStyle(toast).animationName), "none");
  await page.locator(".toast").click();
  await page.locator(".toast-leaving").waitFor({ state: "attached" });
  await page.locator(".toast-leaving").waitFor({ state: "detached" });
  await page.emulateMedia({ reducedMotion: "reduce" });
  await page.evaluate(() => window.showToast("two", "text", "info", 0));
  assert.equal(await page.locator(".toast").evaluate((toast) => getComputedStyle(toast).animationName), "none");
  await page.locator(".toast").click();
  assert.equal(await page.locator(".toast, .toast-leaving").count(), 0);
});

test("text in every field of every event stays text, in toasts and in the list", async () => {
  const page = await world.open(world.page("/", `${BELL}<section data-belfry-section="images"><ul><li data-belfry-row="x">one</li></ul></section>`));
  await world.edge.publishAll(EVIL_EVENTS);
  await until(async () => (await page.locator(".toast").count()) === 5, "toasts");
  await page.evaluate((text) => window.showToast(text, text, text), EVIL);
  await page.locator(".toast", { hasText: "onerror" }).first().waitFor();
  await page.locator("belfry-bell .bell").click();
  await page.locator(".panel .notice", { hasText: "onerror" }).first().waitFor();
  const inside = await page.evaluate(() => [...document.querySelectorAll("belfry-toasts, belfry-bell")].flatMap((host) => [...host.shadowRoot.querySelectorAll("img, script, a, iframe")]).length);
  assert.equal(inside, 0);
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(world.faults, []);
});

test("the page's custom properties reach the toasts, its rules do not", async () => {
  const head = "<style>:root { --belfry-background: rgb(1, 2, 3); } button { display: none !important; } div { color: red; }</style>";
  const page = await world.plain({ head });
  await page.evaluate(() => window.showToast("one", "text", "info", 0));
  const look = await page.locator(".toast").evaluate((toast) => [getComputedStyle(toast).backgroundColor, getComputedStyle(toast.querySelector(".toast-close")).display]);
  assert.equal(look[0], "rgb(1, 2, 3)");
  assert.notEqual(look[1], "none");
});

for (const [how, selector] of [["read", ".toast .toast-open"], ["dismissed", ".toast .toast-close"]]) {
  test(`what is ${how} on one device goes on the other, and is not unread there`, async () => {
    const one = await world.open(world.page("/", BELL));
    const other = await world.chromium.browser.newContext();
    const two = await world.open(world.page("/", BELL), { context: other });
    await world.edge.publish("image_processed", picture(1));
    await Promise.all([one, two].map((page) => page.locator(".toast").waitFor()));
    // Under the focus it does not go by itself.
    await two.locator(".toast-close").focus();
    await one.locator(selector).click();
    await two.locator(".toast").waitFor({ state: "detached" });
    await until(async () => two.locator("belfry-bell .count").isHidden(), "nothing is unread");
    await other.close();
  });
}
