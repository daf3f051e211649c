// What an existing page goes through, against the real binary: networks that end,
// edges that are killed, tokens that expire, bursts, a reload in the middle of one, the
// back/forward cache, a strict policy. Needs BELFRY_BIN.

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocket } from "ws";
import { picture } from "./own-page.mjs";
import { live, ownPageWorld } from "./own-page-world.mjs";
import { stopClock, until } from "./page.mjs";

// Playwright switches the back/forward cache off.
const world = ownPageWorld({ launch: { ignoreDefaultArgs: ["--disable-back-forward-cache"] } });
const BELL = "<belfry-bell></belfry-bell>";

/** Notes the documents of every event, over reloads. */
function record() {
  window.seen = JSON.parse(sessionStorage.getItem("seen") ?? "[]");
  addEventListener("DOMContentLoaded", () => {
    window.getDashboardWebSocket()?.on("*", ({ documentId }) => {
      window.seen.push(documentId);
      sessionStorage.setItem("seen", JSON.stringify(window.seen));
    });
  });
}
const seen = (page) => page.evaluate(() => window.seen);
const state = (page) => page.evaluate(() => window.getDashboardWebSocket()?.state);
const pictures = (from, to) => Array.from({ length: to - from }, (_, n) => ["image_processed", picture(from + n)]);
const ids = (count) => Array.from({ length: count }, (_, n) => `d${n}`);

test("a reload in a burst of 200 events shows each once", async () => {
  const page = await world.open(world.page("/"), { init: record });
  await world.edge.publishAll(pictures(0, 100));
  const reloaded = page.reload();
  await world.edge.publishAll(pictures(100, 200));
  await reloaded;
  await until(async () => (await seen(page)).at(-1) === "d199", "the last one");
  assert.deepEqual(await seen(page), ids(200));
});

test("an edge that is killed and started again on its port is found, and nothing is lost", async () => {
  const page = await world.open(world.page("/"), { init: record });
  await world.edge.publishAll(pictures(0, 3));
  await until(async () => (await seen(page)).length === 3, "three events");
  await world.edge.kill();
  await page.locator('#ws-connection-status[data-state="connecting"]').waitFor();
  await world.edge.startAgain();
  await world.edge.publishAll(pictures(3, 6));
  await until(async () => (await seen(page)).at(-1) === "d5", "the last event");
  assert.deepEqual(await seen(page), ids(6));
  await live(page);
});

test("offline is shown at once; what was missed arrives once with the network", async () => {
  const pongs = [];
  world.context.on("page", (each) => each.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => payload === '{"type":"pong"}' && pongs.push(payload))));
  const page = await world.open(world.page("/"), { init: record });
  await until(() => pongs.length > 0, "an edge that has answered a ping");
  const pings = await stopClock(page);
  world.edge.network.stall(true);
  await world.context.setOffline(true);
  await until(async () => (await pings()) > 0, "a ping at once");
  await page.clock.runFor(1_900);
  await live(page);
  await page.clock.runFor(200);
  await page.locator('#ws-connection-status[data-state="offline"]').waitFor();
  await page.clock.resume();
  await world.edge.publishAll(pictures(0, 3));
  world.edge.cut();
  world.edge.network.stall(false);
  await world.context.setOffline(false);
  await until(async () => (await seen(page)).at(-1) === "d2", "the last event");
  assert.deepEqual(await seen(page), ids(3));
  await live(page);
});

test("a page that goes into the back/forward cache ends its connection, and comes back with what it missed", async () => {
  const away = world.site.page("/away", "<p>elsewhere</p>");
  const page = await world.open(world.page("/"), { init: record });
  await page.evaluate(() => {
    window.marker = "the same page";
    addEventListener("pageshow", (event) => (window.persisted = event.persisted));
  });
  await page.goto(away);
  await until(() => world.edge.sessions === 0, "no session");
  const id = await world.edge.publish("image_processed", picture(0));
  await page.goBack({ waitUntil: "commit" });
  await until(() => page.evaluate(() => window.marker === "the same page" && window.persisted), "the page from the cache");
  await until(async () => (await seen(page)).length === 1, "what it missed");
  await page.locator(".toast", { hasText: "Passport picture is ready" }).waitFor();
  await until(async () => (await world.edge.publisher.receipts(id)).includes("displayed"), "displayed");
  await page.goto(away);
  await page.goBack({ waitUntil: "commit" });
  await until(async () => (await state(page)) === "connected", "connected a second time");
});

test("a token is refreshed before it ends, on the same connection", async () => {
  world.lastsMs = 6_000;
  const page = await world.plain();
  const upgrades = world.edge.network.upgrades;
  await page.evaluate(() => window.getDashboardWebSocket().on("refreshed", () => (window.refreshed = true)));
  await until(() => page.evaluate(() => window.refreshed), "a refresh");
  assert.equal(world.site.tokens.length >= 2, true);
  assert.equal(world.edge.network.upgrades, upgrades);
});

test("a token that expired is replaced by a fresh one", async () => {
  world.lastsMs = -3_500; // Within the edge's leeway of 4.5 s for a second.
  const page = await world.open(world.page("/"), { waits: false });
  const before = await until(() => world.site.tokens.length, "a first token");
  world.lastsMs = 3_600_000;
  await until(() => world.site.tokens.length > before, "another token");
  await live(page);
  assert.deepEqual(world.faults.filter((fault) => !fault.includes("WebSocket")), []);
});

test("the oldest of 21 connections is offered to go on here, stays away by itself, and comes back by a click", async () => {
  const page = await world.plain();
  const { upgrades } = world.edge.network;
  const token = world.edge.sign(world.edge.user);
  const closes = [];
  /** Other devices of the person. */
  const devices = Array.from({ length: 20 }, () => {
    const socket = new WebSocket(world.edge.belfry.addresses.ws);
    socket.on("open", () => socket.send(JSON.stringify({ type: "connect", token })));
    socket.on("close", (code) => closes.push(code));
    return socket;
  });
  const toast = page.locator('.toast[data-kind="warning"]', { hasText: "Use live updates here" });
  await toast.waitFor();
  assert.match((await toast.textContent()) ?? "", /too many connections/);
  assert.equal(await page.locator("#ws-connection-status").textContent(), "○ Offline");
  await stopClock(page);
  await page.clock.runFor(600_000);
  assert.equal(await state(page), "disconnected");
  assert.equal(world.edge.network.upgrades, upgrades, "ten minutes later it has not connected again");
  assert.deepEqual(closes, []);
  await page.clock.resume();
  await toast.locator(".toast-open").click();
  await live(page);
  await until(() => closes.length > 0, "another one is the oldest now");
  assert.deepEqual(closes, [4_009]);
  assert.equal(await page.locator(".toast").count(), 0);
  for (const socket of devices) socket.terminate();
});

test("300 events at once: five toasts, and everything in the bell's list", async () => {
  const page = await world.open(world.page("/", BELL), { init: record });
  await world.edge.publishAll(pictures(0, 300));
  const label = () => page.locator("belfry-bell .bell").getAttribute("aria-label");
  await until(async () => (await label()) === "Notifications, 300 unread", "300 unread");
  assert.deepEqual(await seen(page), ids(300));
  assert.equal(await page.locator(".toast").count(), 5);
  await page.locator(".toast-more", { hasText: "and 295 more" }).click();
  await page.locator(".panel .notice").nth(99).waitFor({ state: "attached" });
  assert.equal(await page.locator(".panel p").textContent(), "and 200 older");
  await until(async () => /^Notifications, 29\d unread$/.test((await label()) ?? ""), "what is on the screen is read, and no more");
});

test("a strict policy with a nonce lets it work, and reports nothing", async () => {
  const edge = world.edge.url;
  const csp = `default-src 'none'; script-src ${edge}js/ 'nonce-n1'; connect-src 'self' ${world.edge.wsUrl.replace(/\/ws$/, "")} ${edge}; img-src data:`;
  const listener = '<script nonce="n1">window.violations = []; addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective));</script>';
  const page = await world.open(world.page("/", `${BELL}${listener}`, { tag: 'nonce="n1"', headers: { "Content-Security-Policy": csp } }));
  await world.edge.publish("image_processed", picture(1));
  await page.locator(".toast").waitFor();
  assert.notEqual(await page.locator(".toast").evaluate((toast) => getComputedStyle(toast).boxShadow), "none", "it has its look");
  await page.locator("belfry-bell .bell").click();
  await page.locator(".panel .notice").waitFor();
  assert.deepEqual(await page.evaluate(() => window.violations), []);
});

test("10,000 events make neither the page nor its heap grow", async (t) => {
  const page = await world.open(world.page("/", BELL));
  const devtools = await page.context().newCDPSession(page);
  await page.evaluate(() => window.getDashboardWebSocket().on("*", ({ documentId }) => (window.last = documentId)));
  const nodes = () => page.evaluate(() => document.querySelectorAll("*").length + [...document.querySelectorAll("belfry-toasts, belfry-bell")].reduce((sum, host) => sum + host.shadowRoot.querySelectorAll("*").length, 0));
  async function heap() {
    await devtools.send("HeapProfiler.collectGarbage");
    return (await devtools.send("Runtime.getHeapUsage")).usedSize;
  }
  const heaps = [];
  for (let round = 0; round < 10; round += 1) {
    await world.edge.publishAll(pictures(round * 1_000, (round + 1) * 1_000));
    await until(() => page.evaluate((id) => window.last === id, `d${round * 1_000 + 999}`), `round ${round}`);
    if (round % 3 === 0) heaps.push(await heap());
  }
  await until(async () => (await page.locator(".toast-leaving").count()) === 0, "what leaves is gone");
  t.diagnostic(`heap after 1,000, 4,000, 7,000 and 10,000 events: ${heaps.map((bytes) => `${(bytes / 2 ** 20).toFixed(2)} MiB`).join(", ")}; ${await nodes()} elements`);
  assert.ok((await nodes()) < 150, `${await nodes()} elements`);
  // What is kept has a bound that the first thousand events reach.
  assert.ok(heaps[3] < heaps[0] + 1.5 * 2 ** 20, String(heaps));
});
