// One person, one toast, against the real binary: the tabs of a browser share one
// connection. Which tab is in front is set by hand here; tabs-lifecycle.test.mjs leaves
// it to the browser. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { picture } from "./own-page.mjs";
import { live, ownPageWorld } from "./own-page-world.mjs";
import { TIMEOUT_MS, until } from "./page.mjs";

const TABS = 5;
const BODY = '<belfry-bell></belfry-bell><b data-belfry-count="images">0</b>';
const world = ownPageWorld();
let url;
/** WebSockets before this test. */
let former;

beforeEach(async () => {
  await until(() => world.edge.sessions === 0, "no session of another test");
  former = world.edge.network.upgrades;
  url = world.page("/", BODY);
});

const connects = () => world.edge.network.upgrades - former;

/** Opens a tab; only the first one is in front. */
async function open(front) {
  const page = await world.context.newPage();
  page.setDefaultTimeout(TIMEOUT_MS);
  await page.addInitScript((visible) => {
    window.shownHere = visible;
    Object.defineProperty(document, "visibilityState", { configurable: true, get: () => (window.shownHere ? "visible" : "hidden") });
    Object.defineProperty(document, "hasFocus", { configurable: true, value: () => window.shownHere });
    // Of this tab, over its reloads.
    window.seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]");
    addEventListener("DOMContentLoaded", () => {
      window.getDashboardWebSocket().on("*", (event) => {
        window.seen.push(event.documentId);
        sessionStorage.setItem("seen", JSON.stringify(window.seen));
      });
    });
  }, front);
  await page.goto(url);
  await live(page);
  return page;
}

const seen = (page) => page.evaluate(() => window.seen);
const count = (page) => page.locator("[data-belfry-count]").textContent();
const toasts = (page) => page.locator(".toast").count();
const publish = (n) => world.edge.publish("image_processed", picture(n));

/** The person goes to a tab, or leaves it. */
function show(page, visible) {
  return page.evaluate((now) => {
    window.shownHere = now;
    document.dispatchEvent(new Event("visibilitychange"));
  }, visible);
}

async function five() {
  const pages = [];
  for (let n = 0; n < TABS; n += 1) pages.push(await open(n === 0));
  return pages;
}

const everywhere = (pages, n, last) => until(async () => (await Promise.all(pages.map(seen))).every((ids) => ids.length === n && ids.at(-1) === last), `${n} events in every tab`);

test("five tabs have one connection and one toast, and five badges", async () => {
  const pages = await five();
  assert.equal(world.edge.sessions, 1);
  assert.deepEqual(world.site.tokens, [world.edge.user], "one token");
  const id = await publish(1);
  await everywhere(pages, 1, "d1");
  await pages[0].locator(".toast").waitFor();
  assert.deepEqual(await Promise.all(pages.map(count)), ["1", "1", "1", "1", "1"]);
  assert.deepEqual(await Promise.all(pages.map(toasts)), [1, 0, 0, 0, 0]);
  for (const page of pages) await page.locator("belfry-bell .count", { hasText: "1" }).waitFor();
  await until(async () => (await world.edge.publisher.receipts(id)).includes("displayed"), "displayed");

  await show(pages[0], false);
  await show(pages[1], true);
  await publish(2);
  await pages[1].locator(".toast").waitFor();
  assert.equal(await toasts(pages[1]), 1, "what was shown is not repeated");

  await pages[1].locator(".toast .toast-close").click();
  for (const page of pages) await until(async () => (await page.locator("belfry-bell .count").textContent()) === "1", "read in every tab");
});

test("a toast that no tab could show comes in the first one that the person opens", async () => {
  const pages = [await open(false), await open(false)];
  await publish(1);
  await everywhere(pages, 1, "d1");
  assert.deepEqual(await Promise.all(pages.map(toasts)), [0, 0]);
  await show(pages[1], true);
  await pages[1].locator(".toast").waitFor();
  await show(pages[1], false);
  await show(pages[0], true);
  await publish(2);
  await pages[0].locator(".toast").waitFor();
  assert.equal(await toasts(pages[0]), 1);
});

for (const [how, end] of [["is closed", (page) => page.close()], ["is killed", async (page) => void page.goto("chrome://crash").catch(() => {})]]) {
  test(`when the leader ${how}, another tab takes over within 2 s, and no event is lost or doubled`, async (t) => {
    // A machine on which five tabs take longer than 2 s to open is given as long.
    const began = Date.now();
    const pages = await five();
    const bound = Math.max(2_000, Date.now() - began);
    await publish(1);
    await everywhere(pages, 1, "d1");
    const at = Date.now();
    await end(pages[0]);
    await publish(2);
    const others = pages.slice(1);
    await everywhere(others, 2, "d2");
    const took = Date.now() - at;
    t.diagnostic(`${took} ms`);
    assert.ok(took < bound, `${took} ms, five tabs opened in ${bound} ms`);
    await until(() => world.edge.sessions === 1, "one session");
    await publish(3);
    await everywhere(others, 3, "d3");
    assert.equal(connects(), 2);
  });
}

test("a tab that reloads misses nothing, whether or not it leads", async () => {
  const pages = [await open(true), await open(false), await open(false)];
  await publish(1);
  await everywhere(pages, 1, "d1");
  for (const page of [pages[1], pages[0]]) {
    const before = (await seen(pages[2])).length;
    const reloaded = page.reload();
    const last = before + 20;
    for (let n = before + 1; n <= last; n += 1) await publish(n);
    await reloaded;
    await live(page);
    await everywhere(pages, last, `d${last}`);
    assert.deepEqual(await seen(page), Array.from({ length: last }, (_, n) => `d${n + 1}`));
  }
  assert.equal(world.edge.sessions, 1);
});

test("tabs of different users share nothing", async () => {
  await open(true);
  const other = await world.context.newPage();
  await other.goto(world.page("/other", "", { user: 'data-user-id="somebody-else"' }));
  await live(other);
  assert.equal(world.edge.sessions, 2);
  assert.deepEqual(world.site.tokens, [world.edge.user, "somebody-else"]);
});

test("an edge that is killed and started again is found by every tab", async () => {
  const pages = [await open(true), await open(false)];
  await world.edge.kill();
  await world.edge.startAgain();
  await publish(1);
  await everywhere(pages, 1, "d1");
  for (const page of pages) await live(page);
  assert.equal(world.edge.sessions, 1);
});

for (const [name, remove] of [["Web Locks", () => Object.defineProperty(navigator, "locks", { value: undefined })], ["BroadcastChannel", () => Object.defineProperty(window, "BroadcastChannel", { value: undefined })]]) {
  test(`without ${name} each tab has its own connection`, async () => {
    const old = await world.chromium.browser.newContext();
    await old.addInitScript(remove);
    for (let n = 0; n < 2; n += 1) {
      const page = await old.newPage();
      await page.goto(url);
      await live(page);
    }
    assert.equal(world.edge.sessions, 2);
    await old.close();
  });
}
